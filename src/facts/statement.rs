//! Statements: the rows a decision is made from, each owned by whoever stated it (a practice, or the
//! gateway's operator for its own directory). How they are keyed and parsed lives here; nothing is
//! decided here. A row that does not parse is an error, never a missing row.

use std::collections::BTreeSet;

use policy::facts::{Approval, Relationship, Strength};
use policy::words::{
    Category, ClientRole, Label, NhsNumber, Ods, PersonId, Purpose, RelationKind, Role,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::agreement::{
    AgreementRow, Countersignature, Offer, PracticeSettings, contacts, reference,
};
use super::feed::{FeedPageRow, FeedRow, FeedTerms};

use super::proposal::Proposal;
use super::providers::{EmergencyProvider, KeeperWord, RegisterAcceptance};
use super::recipient::OlderKey;
use super::training::{Requirement, Training};

/// Certificates of one client: a row of the store is small.
const CERTIFICATES_MAX: usize = 16;

/// Who states the directory: the operator, by two people.
pub const OPERATOR: &str = "gateway";

/// An organisation that may ask, deposit or be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Organisation {
    /// ODS code.
    pub ods: String,
    /// Display name.
    pub name: String,
    /// What kind of party it is: `practice`, `hospital`, …
    pub role: String,
    /// A suspended organisation is refused at its next request.
    #[serde(default)]
    pub suspended: bool,
    /// Whom a practice named when it was admitted, such as `mailto:` addresses: they are told what concerns it, whatever
    /// its systems say later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contacts: Vec<String>,
}

/// A system that connects: its certificates, its keys and the organisations it acts for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// OAuth client id.
    pub id: String,
    /// Display name.
    pub name: String,
    /// `practice`, `hospital`, `admissions`, `research`, `opt-out-list`, `admin`, `auditor`, `privacy-officer`, `patient-portal`.
    pub role: String,
    /// ODS codes it acts for; the first is its own.
    pub organisations: Vec<String>,
    /// SHA-256 of each registered client certificate (DER), lower-case hex.
    pub certificates: Vec<String>,
    /// Public JWK that verifies its client assertions.
    pub sign_key: Option<Value>,
    /// Public JWK that tickets are addressed to (hospitals).
    pub open_key: Option<Value>,
    /// A suspended client is refused at its next request.
    #[serde(default)]
    pub suspended: bool,
    /// Who holds it, as a human being: what takes two people takes two of these. An administrator's client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Those of its certificates that are stopped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<String>,
    /// Keys that were replaced and still hold for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub older: Vec<OlderKey>,
    /// Whether it was registered while another system of the same practice stood: then it acts for the practice only
    /// once the practice says so itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
}

/// A person on whose behalf a hospital asks. The role comes from here, never from a request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Practitioner {
    /// Identifier within the organisation's directory.
    pub id: String,
    /// ODS code of the organisation that vouches for this person.
    pub organisation: String,
    /// Role code.
    pub role: String,
    /// Display name.
    pub name: String,
    /// End of the current role-based training, milliseconds; absent = not known.
    pub trained_until_ms: Option<u64>,
    /// A suspended person is refused at the next request.
    #[serde(default)]
    pub suspended: bool,
}

/// An approval of secondary uses (`HRESCH`, `PUBHLTH`, `HOPERAT`) of one practice's records by exactly one
/// organisation. It stands where care has a relationship, and beside the practice's agreement: without both of them
/// nothing is opened for such a use.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRow {
    /// The approval's own reference, such as an ethics committee's.
    pub reference: String,
    /// ODS code of the practice whose records it is about.
    pub practice: String,
    /// ODS code of the organisation that may ask.
    pub organisation: String,
    /// PurposeOfUse codes, of the secondary uses only.
    pub purposes: Vec<String>,
    /// Categories of record.
    pub categories: Vec<String>,
    /// Start of validity, milliseconds.
    pub from_ms: u64,
    /// End of validity (exclusive), milliseconds.
    pub until_ms: u64,
    /// When it was stated, milliseconds.
    #[serde(default)]
    pub stated_ms: u64,
    /// When it was withdrawn, milliseconds.
    #[serde(default)]
    pub withdrawn_ms: Option<u64>,
}

/// A patient's registration at a practice.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// NHS number.
    pub patient: String,
    /// ODS code of the practice.
    pub practice: String,
}

/// A patient's objection, passed on by a practice.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objection {
    /// NHS number.
    pub patient: String,
    /// ODS code of the practice that passed it on.
    pub practice: String,
    /// The practice's identifier of this objection.
    pub reference: String,
    /// The purposes objected to, as an explicit list; none where the objection was taken back and its place in a
    /// feed has to be kept.
    pub purposes: Vec<String>,
    /// The feed's generation it came with; 0 for one passed on outside a feed.
    #[serde(default)]
    pub generation: u32,
    /// Its number in that feed.
    #[serde(default)]
    pub n: u64,
}

/// A legitimate relationship between a patient and an organisation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelationshipRow {
    /// NHS number.
    pub patient: String,
    /// ODS code of whoever states it: the practice, or the organisation itself.
    #[serde(alias = "practice")]
    pub stated_by: String,
    /// ODS code of the organisation that cares for the patient.
    pub organisation: String,
    /// `referral`, `registration`, `encounter`, `appointment`.
    pub kind: String,
    /// The reference a request must name.
    pub reference: String,
    /// Corroborated by the practice or an admission feed, or asserted by the asking system alone.
    pub corroborated: bool,
    /// Start, milliseconds.
    pub from_ms: u64,
    /// End (exclusive), milliseconds.
    pub until_ms: u64,
    /// When it was stated, milliseconds.
    #[serde(default)]
    pub stated_ms: u64,
    /// When whoever stated it ended it, milliseconds.
    #[serde(default)]
    pub ended_ms: Option<u64>,
}

/// A practice's acceptance of a client that deposits for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// ODS code of the practice.
    pub practice: String,
    /// The client's id.
    pub client: String,
}

/// One row of facts, as its owner stated it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "each variant is named for the type it holds")]
pub enum Statement {
    Organisation(Organisation),
    Client(Client),
    Practitioner(Practitioner),
    Registration(Registration),
    Agreement(AgreementRow),
    Approval(ApprovalRow),
    Objection(Objection),
    Feed(FeedRow),
    FeedPage(FeedPageRow),
    FeedTerms(FeedTerms),
    Relationship(RelationshipRow),
    Acceptance(Acceptance),
    Proposal(Proposal),
    Countersignature(Countersignature),
    Offer(Offer),
    PracticeSettings(PracticeSettings),
    EmergencyProvider(EmergencyProvider),
    RegisterAcceptance(RegisterAcceptance),
    KeeperWord(KeeperWord),
    Training(Training),
    Requirement(Requirement),
}

/// A statement that does not parse; the words name the member and the rule.
#[derive(Debug, thiserror::Error)]
#[error("{member} {rule}")]
pub struct StatementError {
    /// Which member is wrong.
    pub member: &'static str,
    /// Which rule it breaks.
    pub rule: &'static str,
}

impl StatementError {
    /// A row of the store is small.
    pub(super) const fn too_long() -> Self {
        wrong("statement", "is longer than a row of the store, 4096 bytes")
    }
}

pub(super) const fn wrong(member: &'static str, rule: &'static str) -> StatementError {
    StatementError { member, rule }
}

/// The first byte of a row's key: which kind of statement stands there.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Organisation = b'o',
    Client = b'c',
    Practitioner = b'p',
    Registration = b'R',
    Agreement = b'A',
    Approval = b'V',
    Objection = b'O',
    Feed = b'f',
    FeedPage = b'n',
    FeedTerms = b's',
    Relationship = b'L',
    Acceptance = b'C',
    Proposal = b'P',
    Countersignature = b'N',
    Offer = b'F',
    PracticeSettings = b'S',
    EmergencyProvider = b'E',
    RegisterAcceptance = b'G',
    KeeperWord = b'K',
    Training = b'T',
    Requirement = b'Q',
    /// A row that is over; behind the letter stand its kind and key as they were.
    Past = b'H',
}

/// Eight bytes for a code of at most eight characters; longer codes are refused at parsing.
#[must_use]
pub(crate) fn fixed(code: &str) -> [u8; 8] {
    let mut out = [0; 8];
    for (to, from) in out.iter_mut().zip(code.bytes()) {
        *to = from;
    }
    out
}

/// How a person or patient is found without standing in a key: a keyed hash.
pub trait Tags: Send + Sync {
    /// HMAC of the domain and the text under the index key, 16 bytes.
    fn tag(&self, domain: &str, text: &str) -> [u8; 16];
}

pub(super) fn prefix(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind as u8];
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// What concerns two parties under a reference. An agreement stands with its practice's others, by organisation:
/// a decision looks at the rows of its two parties, however many the practice has.
pub(super) fn two_party_key(
    kind: Kind,
    tags: &dyn Tags,
    (first, second): (&str, &str),
    reference: &str,
) -> Vec<u8> {
    let tag = tags.tag("agreement", reference);
    prefix(kind, &[&fixed(first), &fixed(second), &tag])
}

impl Statement {
    /// Who stated it: a practice's ODS code, or [`OPERATOR`].
    #[must_use]
    pub fn owner(&self) -> &str {
        match self {
            Self::Organisation(_)
            | Self::Client(_)
            | Self::Practitioner(_)
            | Self::Proposal(_)
            | Self::EmergencyProvider(_)
            | Self::KeeperWord(_)
            | Self::Approval(_)
            | Self::Training(_)
            | Self::Requirement(_) => OPERATOR,
            Self::Registration(row) => &row.practice,
            Self::Agreement(row) => &row.practice,
            Self::RegisterAcceptance(row) => &row.practice,
            Self::Objection(row) => &row.practice,
            Self::Feed(row) => &row.practice,
            Self::FeedPage(row) => &row.practice,
            Self::FeedTerms(row) => &row.practice,
            Self::Relationship(row) => &row.stated_by,
            Self::Acceptance(row) => &row.practice,
            Self::Countersignature(row) => &row.organisation,
            Self::Offer(row) => &row.practice,
            Self::PracticeSettings(row) => &row.practice,
        }
    }

    /// The row's key. Nothing personal stands in it.
    #[must_use]
    pub fn key(&self, tags: &dyn Tags) -> Vec<u8> {
        let patient = |number: &str| tags.tag("patient", number);
        match self {
            Self::Organisation(row) => prefix(Kind::Organisation, &[&fixed(&row.ods)]),
            Self::Client(row) => prefix(Kind::Client, &[&tags.tag("client", &row.id)]),
            Self::Practitioner(row) => prefix(
                Kind::Practitioner,
                &[
                    &fixed(&row.organisation),
                    &tags.tag("practitioner", &row.id),
                ],
            ),
            Self::Registration(row) => prefix(
                Kind::Registration,
                &[&patient(&row.patient), &fixed(&row.practice)],
            ),
            Self::Agreement(row) => two_party_key(
                Kind::Agreement,
                tags,
                (&row.practice, &row.organisation),
                &row.reference,
            ),
            Self::Approval(row) => prefix(
                Kind::Approval,
                &[
                    &fixed(&row.practice),
                    &fixed(&row.organisation),
                    &tags.tag("approval", &row.reference),
                ],
            ),
            Self::Objection(row) => prefix(
                Kind::Objection,
                &[
                    &patient(&row.patient),
                    &fixed(&row.practice),
                    &tags.tag("objection", &row.reference),
                ],
            ),
            Self::Feed(row) => prefix(Kind::Feed, &[&fixed(&row.practice)]),
            Self::FeedPage(row) => prefix(
                Kind::FeedPage,
                &[
                    &fixed(&row.practice),
                    &row.generation.to_be_bytes(),
                    &row.page.to_be_bytes(),
                ],
            ),
            Self::FeedTerms(row) => prefix(Kind::FeedTerms, &[&fixed(&row.practice)]),
            Self::Relationship(row) => prefix(
                Kind::Relationship,
                &[
                    &patient(&row.patient),
                    &fixed(&row.organisation),
                    &fixed(&row.stated_by),
                    &tags.tag("relationship", &format!("{}|{}", row.kind, row.reference)),
                ],
            ),
            Self::Acceptance(row) => prefix(
                Kind::Acceptance,
                &[&fixed(&row.practice), &tags.tag("client", &row.client)],
            ),
            Self::Training(row) => prefix(
                Kind::Training,
                &[
                    &fixed(&row.organisation),
                    &tags.tag("practitioner", &row.practitioner),
                    &tags.tag("requirement", &row.requirement),
                ],
            ),
            Self::Requirement(row) => prefix(
                Kind::Requirement,
                &[&tags.tag("requirement", &format!("{}/{}", row.role, row.requirement))],
            ),
            Self::Proposal(row) => prefix(Kind::Proposal, &[&tags.tag("proposal", &row.name())]),
            Self::Countersignature(row) => two_party_key(
                Kind::Countersignature,
                tags,
                (&row.organisation, &row.practice),
                &row.reference,
            ),
            Self::Offer(row) => two_party_key(
                Kind::Offer,
                tags,
                (&row.organisation, &row.practice),
                &row.reference,
            ),
            Self::PracticeSettings(row) => prefix(Kind::PracticeSettings, &[&fixed(&row.practice)]),
            Self::EmergencyProvider(row) => prefix(Kind::EmergencyProvider, &[&fixed(&row.ods)]),
            Self::RegisterAcceptance(row) => prefix(
                Kind::RegisterAcceptance,
                &[
                    &fixed(&row.practice),
                    &tags.tag("agreement", &row.reference),
                ],
            ),
            Self::KeeperWord(row) => prefix(
                Kind::KeeperWord,
                &[
                    &fixed(&row.practice),
                    &tags.tag("agreement", &row.reference),
                ],
            ),
        }
    }

    /// Checks every member against its vocabulary.
    ///
    /// # Errors
    /// The member and the rule it breaks.
    pub fn check(&self) -> Result<(), StatementError> {
        match self {
            Self::Organisation(row) => {
                ods(&row.ods)?;
                contacts(&row.contacts)?;
                client_role(&row.role).map(drop)
            }
            Self::Client(row) => row.check(),
            Self::Practitioner(row) => {
                ods(&row.organisation)?;
                role(&row.role)?;
                policy::words::PractitionerId::try_from(row.id.as_str())
                    .map(drop)
                    .map_err(|_| {
                        wrong(
                            "id",
                            "must be 1 to 64 printable characters without spaces or quotes",
                        )
                    })
            }
            Self::Registration(row) => {
                number(&row.patient)?;
                ods(&row.practice).map(drop)
            }
            Self::Agreement(row) => row.check(),
            Self::Approval(row) => row.approval().map(drop),
            Self::Objection(row) => {
                number(&row.patient)?;
                ods(&row.practice)?;
                row.purposes().map(drop)
            }
            Self::Feed(row) => ods(&row.practice).map(drop),
            Self::FeedPage(row) => row.check(),
            Self::FeedTerms(row) => row.check(),
            Self::Relationship(row) => row.relationship().map(drop),
            Self::Acceptance(row) => {
                ods(&row.practice)?;
                client_id(&row.client).map(drop)
            }
            Self::Proposal(row) => row.check(),
            Self::Countersignature(row) => row.check(),
            Self::Offer(row) => {
                reference(&row.reference)?;
                ods(&row.practice)?;
                ods(&row.organisation).map(drop)
            }
            Self::PracticeSettings(row) => row.check(),
            Self::EmergencyProvider(row) => row.check(),
            Self::RegisterAcceptance(row) => row.check(),
            Self::KeeperWord(row) => row.check(),
            Self::Training(row) => row.check(),
            Self::Requirement(row) => row.check(),
        }
    }
}

impl Client {
    fn check(&self) -> Result<(), StatementError> {
        client_id(&self.id)?;
        let role = client_role(&self.role)?;
        match &self.person {
            Some(name) => drop(person(name)?),
            None if role == ClientRole::Admin => {
                return Err(wrong(
                    "person",
                    "must say who holds an administrator's client",
                ));
            }
            None => {}
        }
        if self.organisations.is_empty() {
            return Err(wrong("organisations", "must name at least one ODS code"));
        }
        for code in &self.organisations {
            ods(code)?;
        }
        if self.certificates.len() > CERTIFICATES_MAX {
            return Err(wrong("certificates", "must be at most 16"));
        }
        for print in self.certificates.iter().chain(&self.stopped) {
            thumbprint(print).ok_or(wrong(
                "certificates",
                "must be SHA-256 thumbprints in lower-case hex",
            ))?;
        }
        Ok(())
    }
}

/// 32 bytes from lower-case hex.
#[must_use]
pub(crate) fn thumbprint(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || hex.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let mut out = [0; 32];
    for (index, to) in out.iter_mut().enumerate() {
        *to = u8::from_str_radix(hex.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(out)
}

impl ApprovalRow {
    /// As the policy reads it.
    ///
    /// # Errors
    /// The member that is not in its vocabulary.
    pub fn approval(&self) -> Result<Approval, StatementError> {
        if self.from_ms >= self.until_ms {
            return Err(wrong("until_ms", "must be later than from_ms"));
        }
        if self.purposes.is_empty() || self.categories.is_empty() {
            return Err(wrong("purposes, categories", "must each name at least one"));
        }
        let purposes = purposes(&self.purposes)?;
        if !purposes.iter().all(Purpose::is_secondary) {
            return Err(wrong(
                "purposes",
                "of an approval must be HRESCH, PUBHLTH or HOPERAT: care has a relationship, not an approval",
            ));
        }
        if !(1..=128).contains(&self.reference.chars().count()) {
            return Err(wrong("reference", "must have 1 to 128 characters"));
        }
        let categories = self.categories.iter().map(|code| category(code));
        Ok(Approval {
            reference: self.reference.clone(),
            practice: ods(&self.practice)?,
            organisation: ods(&self.organisation)?,
            purposes,
            categories: categories.collect::<Result<_, _>>()?,
            from_ms: self.from_ms,
            until_ms: self
                .withdrawn_ms
                .map_or(self.until_ms, |at| at.min(self.until_ms)),
        })
    }
}

impl Objection {
    /// The purposes objected to, of those served here: the others are refused whoever objects.
    ///
    /// # Errors
    /// What is no purpose.
    pub fn purposes(&self) -> Result<BTreeSet<Purpose>, StatementError> {
        let parsed = self
            .purposes
            .iter()
            .map(|code| Purpose::try_from(code.as_str()));
        let parsed: BTreeSet<Purpose> = parsed
            .collect::<Result<_, _>>()
            .map_err(|_| wrong("purposes", "must be PurposeOfUse codes"))?;
        Ok(parsed
            .into_iter()
            .filter(|purpose| !matches!(purpose, Purpose::Unserved(_)))
            .collect())
    }
}

impl RelationshipRow {
    /// As the policy reads it.
    ///
    /// # Errors
    /// The member that is not in its vocabulary.
    pub fn relationship(&self) -> Result<Relationship, StatementError> {
        ods(&self.stated_by)?;
        Ok(Relationship {
            patient: number(&self.patient)?,
            organisation: ods(&self.organisation)?,
            kind: relation(&self.kind)?,
            reference: self.reference.clone(),
            strength: if self.corroborated {
                Strength::Corroborated
            } else {
                Strength::Asserted
            },
            from_ms: self.from_ms,
            until_ms: self
                .ended_ms
                .map_or(self.until_ms, |ended| ended.min(self.until_ms)),
        })
    }
}

/// An ODS code that fits the store's fixed keys.
pub(crate) fn ods(code: &str) -> Result<Ods, StatementError> {
    Ods::try_from(code).map_err(|_| wrong("ods", "must be 3 to 8 capital letters and digits"))
}

pub(crate) fn number(text: &str) -> Result<NhsNumber, StatementError> {
    NhsNumber::try_from(text).map_err(|_| {
        wrong(
            "patient",
            "must be an NHS number with the right check digit",
        )
    })
}

pub(crate) fn client_id(text: &str) -> Result<policy::words::ClientId, StatementError> {
    policy::words::ClientId::try_from(text)
        .map_err(|_| wrong("client", "must be 1 to 64 letters, digits, . _ -"))
}

pub(super) fn person(text: &str) -> Result<PersonId, StatementError> {
    PersonId::try_from(text).map_err(|_| wrong("person", "must be 1 to 64 of a-z 0-9 . _ - @"))
}

pub(crate) fn client_role(code: &str) -> Result<ClientRole, StatementError> {
    ClientRole::try_from(code).map_err(|_| wrong("role", "is not a kind of client"))
}

pub(crate) fn role(code: &str) -> Result<Role, StatementError> {
    Role::try_from(code).map_err(|_| wrong("role", "is not a role this gateway knows"))
}

pub(super) fn purposes(codes: &[String]) -> Result<BTreeSet<Purpose>, StatementError> {
    let rule =
        "must be PurposeOfUse codes served here (TREAT, ETREAT, BTG, HRESCH, PUBHLTH, HOPERAT)";
    let purpose = |code: &String| match Purpose::try_from(code.as_str()) {
        Ok(Purpose::Unserved(_)) | Err(_) => Err(wrong("purposes", rule)),
        Ok(purpose) => Ok(purpose),
    };
    codes.iter().map(purpose).collect()
}

pub(crate) fn category(code: &str) -> Result<Category, StatementError> {
    Category::try_from(code).map_err(|_| {
        wrong(
            "categories",
            "must be categories of this gateway's vocabulary",
        )
    })
}

pub(super) fn label(code: &str) -> Result<Label, StatementError> {
    Label::try_from(code)
        .map_err(|_| wrong("labels", "must be labels of this gateway's vocabulary"))
}

pub(crate) fn relation(code: &str) -> Result<RelationKind, StatementError> {
    RelationKind::try_from(code).map_err(|_| {
        wrong(
            "relationship.type",
            "must be referral, registration, encounter or appointment",
        )
    })
}
