//! The auditor's desk: a log and its sealed bodies on the auditor's own machine, searched, reported on and exported
//! without a gateway. What a leaf says in clear anybody can search; who, whom and why stand in bodies, which open only
//! with audit keys that were disclosed. An audit key opens no record. Nothing here is trusted that does not hash to
//! what the leaf commits to, and whether the leaves are those that were signed `ledger::audit::verify` has said before.

mod entry;
mod export;
mod mirror;
mod query;
mod reconcile;
mod report;
mod unusual;

pub use entry::{Entry, Keys};
pub use export::{Format, header, row};
pub use mirror::{Mirror, MirrorError};
pub use query::Query;
pub use reconcile::{Reconciled, reconcile};
pub use report::{Kind, Report, report};
pub use unusual::{Register, unusual};
