//! Decisions, and nothing else: `Ask` and `Facts` in, `Grant` or `Refusal` out.

pub mod ask;
pub mod caller;
mod cedar;
mod decide;
pub mod facts;
mod monitor;
mod practice;
mod release;
pub mod rules;
mod staff;
pub mod verdict;
pub mod words;

pub use ask::{
    Act, AdminAct, Ask, ChangeFacts, Deposit, IssueToken, Read, ReadLog, Selection, TOKEN_LIFE_MS,
    Withdraw,
};
pub use caller::{Caller, RecordScope, RelationClaim, Scope, Token};
pub use decide::decide;
pub use facts::{
    AdminFacts, Agreement, DepositFacts, Fact, FactsFacts, Holder, PatientFacts, PatientStanding,
    PractitionerFacts, RecordFacts, Relationship, Standing, Strength, TokenFacts, Why,
};
pub use rules::{LoadError, Rules};
pub use verdict::{Account, Decision, Grant, Outcome, Permitted, Reason, Refusal, Verdict};
pub use words::{
    Category, ClientId, ClientRole, Label, NhsNumber, Ods, PractitionerId, Purpose, RecordId,
    RelationKind, Role, WordError,
};

#[cfg(test)]
extern crate self as policy;
#[cfg(test)]
#[path = "../tests/world/mod.rs"]
mod world;
