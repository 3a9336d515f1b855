//! The one door of this crate.

/// Seals `Act`.
pub trait Weigh {}
use crate::ask::*;
impl Weigh for IssueToken {}
impl Weigh for Read {}
impl Weigh for Deposit {}
impl Weigh for Withdraw {}
impl Weigh for ChangeFacts {}
impl Weigh for AdminAct {}
impl Weigh for ReadLog {}
