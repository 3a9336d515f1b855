//! What one caller wants: one act, and where a patient is concerned, one patient and one purpose.
//!
//! An [`Ask`] is built from a [`Caller`] and consumed by `decide`: an old question cannot be asked
//! twice. Patient, purpose and practitioner of a read come from the caller's token, never from the
//! request. Nothing here can fail; what may be asked at all is settled by the rules.

use crate::caller::{Caller, Scope, Side};
use crate::decide::Weigh;
use crate::facts::{
    AdminFacts, ApprovalFacts, DepositFacts, FactsFacts, OrganisationFacts, PatientFacts,
    ProposalFacts, SideFacts, TokenFacts,
};
use crate::verdict::Page;
use crate::words::{Finding, NhsNumber, Ods};

/// How long an access token lives; the decision to issue one is made about a token of this life.
pub const TOKEN_LIFE_MS: u64 = 300_000;

/// How many emergencies one practitioner may declare within an hour.
pub const EMERGENCIES_OF_ONE_MAX: u32 = 10;
/// How many emergencies all practitioners of one organisation may declare within an hour.
pub const EMERGENCIES_OF_ALL_MAX: u32 = 100;
/// How long an emergency counts.
pub const EMERGENCY_MS: u64 = 3_600_000;
/// So many characters of reason an emergency needs that opens more than [`crate::words::Category::SUMMARY`]; the guard
/// `never-a-wide-emergency-on-few-words` says the same number.
pub const WIDE_REASON_CHARS: usize = 20;
/// From this age on a patient may ask for his own history; younger ones, and those who ask for another, are refused.
pub const OWN_AGE_YEARS: u16 = 16;

/// One kind of act: which facts its decision looks at, and what its grant carries. Sealed.
pub trait Act: Weigh {
    /// What the decision may look at.
    type Facts;
    /// What a grant names, so that the step behind it takes nothing beside the grant.
    type Granted;
    /// The ledger event of a grant.
    const PERMITTED: &'static str;
    /// The ledger event of a refusal.
    const REFUSED: &'static str;
}

/// A question: consumed by `decide`, and not `Clone`.
#[must_use]
pub struct Ask<A: Act> {
    caller: Caller,
    act: A,
}

impl<A: Act> Ask<A> {
    /// Joins a caller to what it wants.
    pub fn new(caller: Caller, act: A) -> Ask<A> {
        Ask { caller, act }
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// For what.
    pub fn act(&self) -> &A {
        &self.act
    }
}

/// To be issued an access token.
pub struct IssueToken {
    /// The scope asked for.
    pub scope: Scope,
    /// A digest of client and assertion, for the ledger: it shows an assertion used twice.
    pub assertion: String,
}

/// To read records of the patient that the token names.
pub struct Read {
    /// Which of them.
    pub selection: Selection,
    /// The patient that the request names, where it names one: another than the token's refuses.
    pub patient: Option<NhsNumber>,
    /// How many of them at most; a grant says whether there are more.
    pub limit: usize,
}

/// Which of a patient's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One, by name.
    One {
        /// `TYPE/ID`.
        name: String,
    },
    /// Those that match.
    Search {
        /// The canonical text of the search, for the ledger.
        query: String,
    },
    /// All.
    Everything,
}

/// To deposit records with a practice.
pub struct Deposit {
    /// The practice whose records they are.
    pub practice: Ods,
    /// The patient they are about.
    pub patient: NhsNumber,
    /// Their names, `TYPE/ID`.
    pub records: Vec<String>,
    /// SHA-256 of the bytes received.
    pub digest: [u8; 32],
}

/// To withdraw a record from all further release.
pub struct Withdraw {
    /// The practice whose record it is.
    pub practice: Ods,
    /// The patient it is about.
    pub patient: NhsNumber,
    /// Its name, `TYPE/ID`.
    pub name: String,
}

/// To change what a practice said: a patient's objection or relationship, or (without a patient) an agreement.
pub struct ChangeFacts {
    /// The practice that says so.
    pub practice: Ods,
    /// The patient concerned, if one is.
    pub patient: Option<NhsNumber>,
    /// What is changed, such as `objection`.
    pub change: String,
    /// How, for the ledger's sealed body.
    pub detail: serde_json::Value,
}

/// To pass on objections of many patients in the name of a practice or of an opt-out list.
pub struct PassOn {
    /// Whose feed it is.
    pub practice: Ods,
    /// What arrived, by numbers, count and digest, for the ledger.
    pub detail: serde_json::Value,
}

impl ChangeFacts {
    /// The change that says who cares for a patient; every other one about a patient is the patient's decision.
    pub const RELATIONSHIP: &'static str = "relationship";
}

/// To change what an organisation that asks said: that it accepts an agreement, or whom it cares for.
pub struct StateFacts {
    /// The organisation that says so.
    pub organisation: Ods,
    /// The patient concerned, if one is.
    pub patient: Option<NhsNumber>,
    /// What is said.
    pub statement: Stated,
    /// How, for the ledger's sealed body.
    pub detail: serde_json::Value,
}

/// What an organisation can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stated {
    /// That it accepts what a practice proposed.
    Acceptance,
    /// That it accepts no longer.
    End,
    /// That it cares for a patient, or no longer does.
    Relationship {
        /// Whether that is to count as more than its own word.
        corroborates: bool,
    },
}

impl Stated {
    /// The word in the ledger.
    pub const fn code(self) -> &'static str {
        match self {
            Stated::Acceptance => "agreement.accept",
            Stated::End => "agreement.end",
            Stated::Relationship { .. } => "relationship",
        }
    }
}

/// To look up what stands in one's own name.
pub struct LookUp {
    /// Whose.
    pub of: Side,
    /// The patient concerned, if one is.
    pub patient: Option<NhsNumber>,
    /// What is looked up, such as `agreements`.
    pub what: &'static str,
}

/// To do something to the gateway itself.
pub struct AdminAct {
    /// Which act; only those of [`AdminAct::ACTS`] are ever permitted.
    pub act: String,
    /// To what.
    pub object: String,
    /// Why, in the administrator's words; empty where nothing was said. It stands in the sealed body.
    pub why: String,
}

impl AdminAct {
    /// Everything an administrator can do. The policy's schema lists the same acts.
    pub const ACTS: &'static [&'static str] = &[
        "kek.rotate",
        "kek.retire",
        "kek.destroy",
        "signing.rotate",
        "root.rotate",
        "gateway.seal",
        "organisation.register",
        "organisation.suspend",
        "organisation.resume",
        "client.register",
        "client.remove",
        "client.suspend",
        "client.resume",
        "certificate.suspend",
        "certificate.resume",
        "recipient.challenge",
        "recipient.register",
        "recipient.retire",
        "practitioner.register",
        "practitioner.suspend",
        "practitioner.resume",
        "training.import",
        "training.require",
        "training.waive",
        "token.revoke",
        "providers.publish",
        "providers.strike",
        "providers.countersign",
        "approval.register",
        "approval.withdraw",
        "relationship.register",
        "patient.erase",
        "policy.load",
        "backup.take",
        "backup.restore",
        "audit.disclose",
        "proposal.make",
        "proposal.withdraw",
        "status.read",
    ];

    /// Those that take two people: one proposes, another approves. The guard `never-alone` lists the same acts.
    pub const TWO: &'static [&'static str] = &[
        "kek.destroy",
        "root.rotate",
        "organisation.resume",
        "client.register",
        "client.remove",
        "client.resume",
        "certificate.resume",
        "recipient.register",
        "training.waive",
        "providers.publish",
        "approval.register",
        "patient.erase",
        "backup.restore",
        "audit.disclose",
    ];

    /// Whether this act takes two people.
    pub fn takes_two(act: &str) -> bool {
        Self::TWO.contains(&act)
    }
}

/// To propose an act that takes two people.
pub struct Propose {
    /// Which act, of [`AdminAct::TWO`].
    pub act: String,
    /// To what.
    pub object: String,
    /// Why, in the administrator's words.
    pub why: String,
    /// The digest of all that is proposed.
    pub digest: [u8; 32],
}

/// To approve what another person proposed: the same act then happens. `Recorded<Grant<Approve>>` is what an act
/// that takes two people is done with, and there is no other way to have one.
pub struct Approve {
    /// Which act, of [`AdminAct::TWO`].
    pub act: String,
    /// To what.
    pub object: String,
    /// Why, in the words of whoever approves; empty where nothing was said.
    pub why: String,
    /// The digest of all that is approved: a changed proposal has another one.
    pub digest: [u8; 32],
}

/// To read the access log.
pub struct ReadLog {
    /// Which part: `history` is the access history of the patient whom the token names, `worklist` and `worklist/N`
    /// what a privacy officer reviews, `notices` what patients are to be told, `who-could` who could open that patient's
    /// records; anything else is the log's entries.
    pub what: String,
}

/// To close an item of the privacy officer's worklist.
pub struct Review {
    /// The entry that the item is about.
    pub item: u64,
    /// What came of it.
    pub finding: Finding,
    /// In the officer's words, for the sealed body.
    pub note: String,
}

impl Act for IssueToken {
    type Facts = TokenFacts;
    type Granted = Scope;
    const PERMITTED: &'static str = "token.issue";
    const REFUSED: &'static str = "token.refuse";
}

impl Act for Read {
    type Facts = PatientFacts;
    type Granted = Page;
    const PERMITTED: &'static str = "record.release";
    const REFUSED: &'static str = "record.refuse";
}

impl Act for Deposit {
    type Facts = DepositFacts;
    type Granted = ();
    const PERMITTED: &'static str = "record.deposit";
    const REFUSED: &'static str = "deposit.refuse";
}

impl Act for Withdraw {
    type Facts = DepositFacts;
    type Granted = ();
    const PERMITTED: &'static str = "record.withdraw";
    const REFUSED: &'static str = "withdraw.refuse";
}

impl Act for ChangeFacts {
    type Facts = FactsFacts;
    type Granted = ();
    const PERMITTED: &'static str = "facts.change";
    const REFUSED: &'static str = "facts.refuse";
}

impl Act for PassOn {
    type Facts = FactsFacts;
    type Granted = ();
    const PERMITTED: &'static str = "objections.pass";
    const REFUSED: &'static str = "objections.refuse";
}

impl Act for StateFacts {
    type Facts = OrganisationFacts;
    type Granted = ();
    const PERMITTED: &'static str = "facts.state";
    const REFUSED: &'static str = "facts.refuse";
}

impl Act for LookUp {
    type Facts = SideFacts;
    type Granted = ();
    const PERMITTED: &'static str = "facts.read";
    const REFUSED: &'static str = "facts.refuse";
}

impl Act for AdminAct {
    type Facts = AdminFacts;
    type Granted = ();
    const PERMITTED: &'static str = "admin.act";
    const REFUSED: &'static str = "admin.refuse";
}

impl Act for Propose {
    type Facts = ProposalFacts;
    type Granted = ();
    const PERMITTED: &'static str = "admin.propose";
    const REFUSED: &'static str = "admin.refuse";
}

impl Act for Approve {
    type Facts = ApprovalFacts;
    type Granted = ();
    const PERMITTED: &'static str = "admin.approve";
    const REFUSED: &'static str = "admin.refuse";
}

impl Act for Review {
    type Facts = AdminFacts;
    type Granted = ();
    const PERMITTED: &'static str = "review.close";
    const REFUSED: &'static str = "review.refuse";
}

impl Act for ReadLog {
    type Facts = AdminFacts;
    type Granted = ();
    const PERMITTED: &'static str = "log.read";
    const REFUSED: &'static str = "log.refuse";
}
