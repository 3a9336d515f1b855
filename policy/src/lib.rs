//! Decisions, and nothing else: an [`Ask`] and its facts in, a [`Grant`] or a [`Refusal`] out.
//!
//! ```text
//! Caller ─ Ask<A> ──┐
//! A::Facts ─────────┼── decide ──> Permit(Grant<A>) | Refuse(Refusal<A>) ──> the ledger
//! Rules ────────────┘
//! ```
//!
//! Pure: no clock, no I/O, no secret bytes. Time is a fact, rules are text that is handed in.
//!
//! * [`words`]: closed vocabularies and identifiers, parsed exactly, once.
//! * [`caller`], [`ask`]: who proved to be who, and what they want. Made outside, once each.
//! * [`facts`]: what a decision may look at; each `Known` or `Unknown`, and **unknown refuses**.
//! * [`rules`]: Cedar schema and three kinds of text. *Guards* forbid, are shipped, and are scoped
//!   on the kind of thing asked for. *Local rules* permit; a site edits these only. *Invariants*
//!   say once more, apart and positively, what holds of everything let through: for the proof that
//!   `permit(principal, action, resource)` with the guards implies them all, and as a monitor.
//! * [`verdict`]: what only [`decide`] makes, and the account of it that the ledger records.
//!
//! * [`survey`]: who could open a patient's records now, by the same weighing that a release is decided by; no verdict
//!   comes of it, so nothing can be recorded or released by asking.
//!   [`explain`]: which guards refuse a question, and what would permit it.
//! * [`texts`], [`proof`]: a set as text, and the record that its guards were proven; `prove` (a
//!   feature, and the only part that starts another program) proves it with a solver.
//!
//! Cedar skips a rule that errs. So rules load only if they validate strictly, every request and
//! entity is checked against the schema, any error refuses, and the monitor has to say yes.

mod alike;
pub mod ask;
pub mod caller;
mod cedar;
mod decide;
pub mod explain {
    //! Why a question is answered as it is, for those who answer for the rules.
    pub use crate::release::explain::{Account, Explained, explain};
}
pub mod facts;
mod monitor;
mod organisation;
mod practice;
pub mod proof;
#[cfg(feature = "prove")]
pub mod prove;
mod release;
pub mod rules;
mod staff;
pub mod survey;
pub mod texts;
pub mod verdict;
pub mod words;

pub use ask::{
    Act, AdminAct, Approve, Ask, ChangeFacts, Deposit, IssueToken, LookUp, PassOn, Propose, Read,
    ReadLog, Review, Selection, StateFacts, Stated, TOKEN_LIFE_MS, Withdraw,
};
pub use caller::{Born, Caller, HistoryScope, RecordScope, RelationClaim, Scope, Side, Token};
pub use decide::decide;
pub use facts::{
    AdminFacts, Agreement, Approval, ApprovalFacts, DepositFacts, Emergencies, Fact, FactsFacts,
    Hand, Holder, OrganisationFacts, PatientFacts, PatientStanding, PractitionerFacts,
    ProposalFacts, Proposed, RecordFacts, Relationship, SideFacts, Standing, Strength, TokenFacts,
    Why,
};
pub use proof::Proof;
pub use rules::{LoadError, Rules};
pub use texts::Texts;
pub use verdict::{Account, Decision, Grant, Outcome, Page, Permitted, Reason, Refusal, Verdict};
pub use words::{
    Category, ClientId, ClientRole, Finding, Label, NhsNumber, Ods, PersonId, PractitionerId,
    Purpose, RecordId, RelationKind, Role, WordError,
};

#[cfg(test)]
extern crate self as policy;
#[cfg(test)]
#[path = "../tests/world/mod.rs"]
mod world;
