//! What a decision may look at: agreements, objections, relationships, training, suspension.
//!
//! **Absence is not consent**: a fact is [`Fact::Known`] or [`Fact::Unknown`] with its reason,
//! never an `Option` or a `bool`, and unknown refuses. Nothing is looked up here: the loader finds
//! candidates, the policy re-checks every field of them, so that a wrong lookup refuses.
//! Times are milliseconds since 1970; `now_ms` is handed in, so that a decision can be replayed.

use std::collections::BTreeSet;
use std::fmt;

use crate::ask::{EMERGENCIES_OF_ALL_MAX, EMERGENCIES_OF_ONE_MAX};
use crate::words::{
    Category, Label, NhsNumber, Ods, PersonId, Purpose, RecordId, RelationKind, Role,
};

/// A fact is known, or it is unknown for a reason. There is no default and no way from `Option`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is so.
    Known(T),
    /// Nobody can say, and this is why.
    Unknown(Why),
}

impl<T> Fact<T> {
    /// The value, or why there is none.
    ///
    /// # Errors
    /// When the fact is unknown.
    pub fn known(&self) -> Result<&T, Why> {
        match self {
            Fact::Known(value) => Ok(value),
            Fact::Unknown(why) => Err(*why),
        }
    }
}

/// Why a fact is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody ever told us.
    NeverTold,
    /// Two sources disagree.
    Contested,
    /// The stored fact is not the one that the ledger anchors.
    Anchor,
    /// The source has been silent for longer than its limit.
    Silent,
    /// What the source says it sent did not all arrive.
    Incomplete,
    /// The store could not be read.
    Store,
    /// The fact was not asked for.
    NotAsked,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::NeverTold => "nobody ever told us",
            Why::Contested => "two sources disagree",
            Why::Anchor => "the stored fact is not the one the ledger anchors",
            Why::Silent => "the source has been silent for too long",
            Why::Incomplete => "what the source says it sent did not all arrive",
            Why::Store => "the store could not be read",
            Why::NotAsked => "it was not asked for",
        })
    }
}

/// What the issue of a token looks at: the facts that fit the scope asked for.
#[derive(Debug, Clone)]
pub enum TokenFacts {
    /// For a token to read records.
    Records(PatientFacts),
    /// For a practice's own tokens.
    Practice(DepositFacts),
    /// For an organisation's own tokens.
    Organisation(OrganisationFacts),
    /// For a token to see one patient's access history.
    Staff(AdminFacts),
}

/// What a read looks at, and the issue of a token for one.
#[derive(Debug, Clone)]
pub struct PatientFacts {
    /// When the decision is made.
    pub now_ms: u64,
    /// How the caller's organisation stands.
    pub organisation: Fact<Standing>,
    /// The practitioner, from the directory of the caller's organisation and no other.
    pub practitioner: Fact<PractitionerFacts>,
    /// The patient; `Unknown(NeverTold)` when nobody knows such a patient.
    pub patient: Fact<PatientStanding>,
    /// The purposes the patient objects to, over all practices and opt-out lists: the complete list. A feed that
    /// is incomplete, contradicts itself or is silent past the limit of the purpose asked for makes it `Unknown`.
    pub objections: Fact<BTreeSet<Purpose>>,
    /// Why the objections may be out of date, where they are still taken as last heard: until a feed's limit for
    /// direct care, and always in an emergency. It marks the entry.
    pub objections_doubted: Option<Why>,
    /// The practices that hold this patient.
    pub holders: Vec<Holder>,
    /// This patient's relationships with the caller's organisation.
    pub relationships: Fact<Vec<Relationship>>,
    /// The emergencies declared within the last hour; looked at where a token for another one is asked for.
    pub emergencies: Fact<Emergencies>,
}

/// How many emergencies were declared within the last hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Emergencies {
    /// By this practitioner at this organisation.
    pub of_one: u32,
    /// By all practitioners of this organisation.
    pub of_all: u32,
}

impl Emergencies {
    /// Whether another one may be declared.
    pub fn leave_one(self) -> bool {
        self.of_one < EMERGENCIES_OF_ONE_MAX && self.of_all < EMERGENCIES_OF_ALL_MAX
    }
}

/// How an organisation stands with the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether it, or the client asking for it, is suspended.
    pub suspended: bool,
}

/// A practitioner, as the directory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PractitionerFacts {
    /// The name in that directory, for the sealed body: it is what it was then, whatever becomes of the directory.
    pub name: String,
    /// The organisation in whose directory the practitioner stands.
    pub organisation: Ods,
    /// What the practitioner does there.
    pub role: Role,
    /// Whether the practitioner is suspended.
    pub suspended: bool,
    /// Until when the role's training is current.
    pub trained_until_ms: Fact<u64>,
}

/// A patient, as the practices have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientStanding {
    /// The practice where the patient is registered now.
    pub practice: Ods,
}

/// A practice that holds records of the patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which practice.
    pub practice: Ods,
    /// Its agreements with the caller's organisation.
    pub agreements: Fact<Vec<Agreement>>,
    /// Its approvals of secondary uses by the caller's organisation; looked at for those only.
    pub approvals: Fact<Vec<Approval>>,
    /// Those of its records that the selection meets.
    pub records: Vec<RecordFacts>,
}

/// What the policy may know of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFacts {
    /// Which record.
    pub id: RecordId,
    /// Which version of it.
    pub version: u32,
    /// What it is about.
    pub category: Category,
    /// How sensitive it is: the complete list.
    pub labels: BTreeSet<Label>,
}

/// A sharing agreement: one practice, one organisation, stated purposes and categories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// Its reference, for the ledger.
    pub reference: String,
    /// The practice that agreed.
    pub practice: Ods,
    /// The organisation it agreed with.
    pub organisation: Ods,
    /// For which purposes.
    pub purposes: BTreeSet<Purpose>,
    /// About which categories.
    pub categories: BTreeSet<Category>,
    /// Which sensitive labels it expressly covers.
    pub labels: BTreeSet<Label>,
    /// Whether a relationship that is merely asserted is good enough.
    pub accepts_asserted: bool,
    /// Whether an emergency may override a patient's objection.
    pub emergency_overrides_objection: bool,
    /// From when it holds.
    pub from_ms: u64,
    /// From when on it no longer does.
    pub until_ms: u64,
    /// Whose hand proposed it for the practice: a certificate, or who founded the gateway with it.
    pub proposed_by: String,
    /// Whose hand accepted it for the organisation; empty while none did.
    pub accepted_by: String,
    /// When the practice's cooling-off time after the acceptance is over.
    pub cooled_ms: u64,
}

/// A practice's approval of secondary uses by one organisation: it stands where care has a relationship.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Its reference, such as an ethics committee's, for the ledger.
    pub reference: String,
    /// The practice that approved.
    pub practice: Ods,
    /// The organisation it approved.
    pub organisation: Ods,
    /// For which purposes.
    pub purposes: BTreeSet<Purpose>,
    /// About which categories.
    pub categories: BTreeSet<Category>,
    /// From when it holds.
    pub from_ms: u64,
    /// From when on it no longer does.
    pub until_ms: u64,
}

/// A relationship of a patient with an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relationship {
    /// The patient.
    pub patient: NhsNumber,
    /// The organisation.
    pub organisation: Ods,
    /// Of which kind.
    pub kind: RelationKind,
    /// Under which reference.
    pub reference: String,
    /// How well it is evidenced.
    pub strength: Strength,
    /// From when it holds.
    pub from_ms: u64,
    /// From when on it no longer does.
    pub until_ms: u64,
}

/// How well a relationship is evidenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strength {
    /// The practice, or another source than the asker, says so too.
    Corroborated,
    /// Only the asking organisation says so.
    Asserted,
}

/// What a practice's own acts look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DepositFacts {
    /// When the decision is made.
    pub now_ms: u64,
    /// How the practice and its client stand.
    pub organisation: Fact<Standing>,
    /// Whether the practice accepted this client to act for it.
    pub client_accepted: Fact<bool>,
    /// Known when the practice may file for this patient, a first deposit included; looked at
    /// only where the act names a patient.
    pub registration: Fact<()>,
}

/// What a change of facts looks at: the same as a deposit.
pub type FactsFacts = DepositFacts;

/// Which system holding which keys did something that another has to do again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hand {
    /// The client's id.
    pub client: String,
    /// SHA-256 of its certificate, in hexadecimal digits.
    pub certificate: String,
    /// SHA-256 of the key that verifies its assertions.
    pub signing: String,
}

/// What the acts of an organisation that asks look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganisationFacts {
    /// When the decision is made.
    pub now_ms: u64,
    /// How the organisation and its client stand.
    pub organisation: Fact<Standing>,
    /// With which keys the caller acts; looked at only where it states something.
    pub hand: Fact<Hand>,
    /// Who proposed the agreement that is to be accepted; looked at only where one is.
    pub proposal: Fact<Hand>,
}

/// What reading back one's own statements looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SideFacts {
    /// A practice's.
    Practice(DepositFacts),
    /// An organisation's.
    Organisation(OrganisationFacts),
}

/// What an administrator's or auditor's act looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminFacts {
    /// When the decision is made.
    pub now_ms: u64,
    /// Whether the client is suspended.
    pub suspended: Fact<bool>,
}

/// What a proposal looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalFacts {
    /// How the administrator stands.
    pub administrator: AdminFacts,
    /// Who that is, as a human being.
    pub person: Fact<PersonId>,
}

/// What an approval looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalFacts {
    /// How whoever approves stands.
    pub administrator: AdminFacts,
    /// Who that is, as a human being.
    pub person: Fact<PersonId>,
    /// The proposal that has this digest; `Unknown(NeverTold)` when none stands.
    pub proposal: Fact<Proposed>,
}

/// A proposal that stands, as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Which act.
    pub act: String,
    /// To what.
    pub object: String,
    /// The digest of all of it.
    pub digest: [u8; 32],
    /// Who proposed it, as a human being.
    pub person: PersonId,
    /// Whether the client that proposed it still stands, unsuspended.
    pub proposer_suspended: bool,
    /// From when on it can no longer be approved.
    pub expires_ms: u64,
}
