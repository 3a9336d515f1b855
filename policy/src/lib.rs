//! Decisions, and nothing else: `Ask` and `Facts` in, `Grant` or `Refusal` out.

pub mod ask;
pub mod caller;
mod decide;
pub mod facts;
pub mod verdict;
pub mod words;

pub use ask::{
    Act, AdminAct, Ask, ChangeFacts, Deposit, IssueToken, Read, ReadLog, Selection, TOKEN_LIFE_MS,
    Withdraw,
};
pub use caller::{Caller, RecordScope, RelationClaim, Scope, Token};
pub use facts::{
    AdminFacts, Agreement, DepositFacts, Fact, FactsFacts, Holder, PatientFacts, PatientStanding,
    PractitionerFacts, RecordFacts, Relationship, Standing, Strength, TokenFacts, Why,
};
pub use verdict::{Account, Decision, Grant, Outcome, Permitted, Reason, Refusal, Verdict};
pub use words::{
    Category, ClientId, ClientRole, Label, NhsNumber, Ods, PractitionerId, Purpose, RecordId,
    RelationKind, Role, WordError,
};
