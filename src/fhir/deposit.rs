//! What a deposit holds: its records as exact slices of the bytes received, each with its card, and the
//! one patient they are of.
//!
//! Strict on JSON, lenient on FHIR: a fifth of real exports fail the models, and payloads are opaque. Only
//! what decides where a record goes is checked. A failure names member and rule; nothing of a deposit that
//! fails is kept. No value of the body stands in an error.

use super::bundle::bundle;
use super::card::Card;
use super::json::{Document, JsonError, Kind, Value};
use super::resource::{FhirId, FhirVersion, Name, ResourceType};
use super::subject::{self, PatientEntry, Subject};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::fmt;

/// A Bundle may have this many entries.
pub const ENTRIES_MAX: usize = 5000;
/// A `fullUrl` may have this many bytes.
pub const FULL_URL_BYTES_MAX: usize = 512;

/// How a body was sent.
#[derive(Debug, Clone, Copy)]
pub enum Form<'a> {
    /// `PUT /fhir/TYPE/ID`: one resource.
    Put {
        /// TYPE
        kind: &'a ResourceType,
        /// ID
        id: &'a FhirId,
    },
    /// `POST /fhir`: a Bundle.
    Bundle,
}

/// What kind of body the records came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleKind {
    /// No Bundle: one resource.
    Single,
    /// All or nothing, answered with a transaction-response.
    Transaction,
    /// Answered with a batch-response.
    Batch,
    /// What GP Connect exports are.
    Collection,
    /// A Composition and what it refers to.
    Document,
}

/// What an entry asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Store under this name.
    Put,
    /// Store; the gateway may choose the id.
    Post,
    /// An entry of a collection or document, which ask for nothing: store under its own name.
    Unstated,
}

/// A deposit that may be stored as it stands.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The version it was declared to be of.
    pub version: FhirVersion,
    /// What kind of body it came in.
    pub kind: BundleKind,
    /// Whose records they are, as far as the bytes say.
    pub subject: Subject,
    /// The records. Entries that repeat another entry byte for byte are left out.
    pub items: Vec<Item>,
    /// How many entries the Bundle had; 1 for a single resource.
    pub entries: usize,
}

/// One record of a deposit.
#[derive(Debug, Clone)]
pub struct Item {
    /// Which entry of the Bundle it is, from 0.
    pub entry: usize,
    /// Its name; `None` where an id is still to be assigned.
    pub name: Option<Name>,
    /// The entry's `fullUrl`.
    pub full_url: Option<String>,
    /// The exact bytes received.
    pub text: Bytes,
    /// What the gateway keeps to find it by.
    pub card: Card,
    /// What the entry asks for.
    pub method: Method,
    /// Whether it says itself whom it is about; if not (an Organization, a Medication), it is of whichever
    /// patient it came with, and may come with several.
    pub is_about_patient: bool,
}

impl Item {
    /// Gives a record that has no name its id.
    pub fn assign(&mut self, id: FhirId) {
        self.name = Some(Name {
            kind: self.card.kind.clone(),
            id: id.clone(),
        });
        self.card.id = Some(id);
    }
}

/// A rule of deposits; its `Display` is the rule in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each rule stands in its message")]
pub enum Rule {
    #[error("a resource is a JSON object")]
    NotAnObject,
    #[error("resourceType is a capital and 1 to 63 letters")]
    ResourceType,
    #[error("resourceType is the type in the URL")]
    OtherType,
    #[error("a Bundle is posted to the base, not put")]
    BundlePut,
    #[error("a body posted to the base is a Bundle")]
    NotABundle,
    #[error("a Bundle to deposit is a transaction, batch, collection or document")]
    BundleType,
    #[error("entry is an array of 1 to 5000 entries")]
    Entries,
    #[error("an entry has a resource")]
    NoResource,
    #[error("a Bundle does not stand inside a Bundle")]
    NestedBundle,
    #[error("a Consent is not a record: send it to Consent with a consent token")]
    Consent,
    #[error("an entry of a transaction or batch has a request with method PUT or POST")]
    Method,
    #[error("request.url is TYPE/ID for PUT and TYPE for POST, and the resource's own type")]
    RequestUrl,
    #[error("conditional requests are not supported")]
    Conditional,
    #[error("an id has 1 to 64 characters of A-Z a-z 0-9 - . _")]
    Id,
    #[error("the id is the one in the URL")]
    OtherId,
    #[error("fullUrl is a text of 1 to 512 bytes")]
    FullUrl,
    #[error("a fullUrl stands once in a Bundle")]
    DuplicateFullUrl,
    #[error(
        "a TYPE/ID stands once in a Bundle (in a collection, at most 8 times with different content)"
    )]
    DuplicateName,
    #[error("a Bundle has one Patient")]
    TwoPatients,
    #[error("a deposit is about one patient, and this is another")]
    OtherPatient,
    #[error(
        "a deposit is about one patient, and nothing says that the NHS number and the reference are the same"
    )]
    Unlinked,
    #[error("one patient has one NHS number")]
    TwoNumbers,
    #[error("an NHS number has ten digits, the last of them the right check digit")]
    NhsNumber,
    #[error(
        "a reference to a patient is Patient/ID, a URL that ends so, a URN, or Patient?identifier=SYSTEM|NHS number"
    )]
    Reference,
}

/// Which member breaks which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The member, as FHIRPath writes it (`Bundle.entry[3].fullUrl`).
    pub path: String,
    /// The rule.
    pub rule: Rule,
}

impl Violation {
    pub(super) fn new(path: impl Into<String>, rule: Rule) -> Self {
        Self {
            path: path.into(),
            rule,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.rule)
    }
}

/// A body that cannot be deposited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DepositError {
    /// Not the JSON we read.
    #[error("{0}")]
    Json(JsonError),
    /// JSON, but not a deposit.
    #[error("{0}")]
    Invalid(Violation),
}

impl DepositError {
    /// The HTTP status that says so: 413, 400 or 422.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Json(error) if error.rule.is_size() => 413,
            Self::Json(_) => 400,
            Self::Invalid(_) => 422,
        }
    }
}

impl From<JsonError> for DepositError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

impl From<Violation> for DepositError {
    fn from(violation: Violation) -> Self {
        Self::Invalid(violation)
    }
}

/// Reads a body that a practice deposits.
///
/// # Errors
/// The first rule that the body breaks: [`DepositError::status`] says 400, 413 or 422.
pub fn read_deposit(
    body: &Bytes,
    version: FhirVersion,
    form: Form<'_>,
) -> Result<Batch, DepositError> {
    let document = Document::parse(body)?;
    let root = document.root();
    if root.kind() != Kind::Object {
        return Err(Violation::new("", Rule::NotAnObject).into());
    }
    let kind = resource_type(root, "")?;
    let batch = match form {
        Form::Put { kind: named, id } => single(body, version, root, kind, named, id)?,
        Form::Bundle if kind.is("Bundle") => bundle(body, version, root)?,
        Form::Bundle => return Err(Violation::new("resourceType", Rule::NotABundle).into()),
    };
    Ok(batch)
}

/// The type that a resource says it is of.
pub(super) fn resource_type(resource: Value<'_>, path: &str) -> Result<ResourceType, Violation> {
    let text = resource.text_at("resourceType").unwrap_or_default();
    ResourceType::try_from(text.as_ref())
        .map_err(|_| Violation::new(under(path, "resourceType"), Rule::ResourceType))
}

fn under(path: &str, member: &str) -> String {
    if path.is_empty() {
        member.to_owned()
    } else {
        format!("{path}.{member}")
    }
}

/// The id that a resource says it has.
pub(super) fn own_id(resource: Value<'_>, path: &str) -> Result<Option<FhirId>, Violation> {
    let wrong = || Violation::new(format!("{path}.id"), Rule::Id);
    match resource.get("id") {
        None => Ok(None),
        Some(id) => FhirId::try_from(id.text().ok_or_else(wrong)?.as_ref())
            .map(Some)
            .map_err(|_| wrong()),
    }
}

fn single(
    body: &Bytes,
    version: FhirVersion,
    root: Value<'_>,
    kind: ResourceType,
    named: &ResourceType,
    id: &FhirId,
) -> Result<Batch, Violation> {
    let rule = match kind.as_str() {
        "Bundle" => Some(Rule::BundlePut),
        "Consent" => Some(Rule::Consent),
        _ if kind != *named => Some(Rule::OtherType),
        _ => None,
    };
    if let Some(rule) = rule {
        return Err(Violation::new("resourceType", rule));
    }
    let path = kind.as_str().to_owned();
    if own_id(root, &path)?.is_some_and(|own| own != *id) {
        return Err(Violation::new(format!("{path}.id"), Rule::OtherId));
    }
    let claims = subject::claims(root, &path)?;
    let patient = patient_entry(root, &kind, Some(id), None, &path)?;
    let subject = subject::settle(patient.as_ref(), &claims)?;
    let card = Card::read(root, kind.clone(), Some(id.clone()), None, &BTreeSet::new());
    let name = Some(Name {
        kind,
        id: id.clone(),
    });
    // Why the whole body and not the value's span: what a practice put is what a hospital gets, to the last newline.
    let item = Item {
        entry: 0,
        name,
        full_url: None,
        text: body.clone(),
        card,
        method: Method::Put,
        is_about_patient: patient.is_some() || !claims.is_empty(),
    };
    Ok(Batch {
        version,
        kind: BundleKind::Single,
        subject,
        items: vec![item],
        entries: 1,
    })
}

/// What a Patient says of itself; `None` for any other resource.
pub(super) fn patient_entry(
    resource: Value<'_>,
    kind: &ResourceType,
    id: Option<&FhirId>,
    full_url: Option<&str>,
    path: &str,
) -> Result<Option<PatientEntry>, Violation> {
    if !kind.is("Patient") {
        return Ok(None);
    }
    let number = match resource.get("identifier") {
        Some(identifiers) => subject::nhs_number(identifiers, &format!("{path}.identifier"))?,
        None => None,
    };
    Ok(Some(PatientEntry {
        number,
        id: id.map(|id| id.as_str().to_owned()),
        full_url: full_url.map(str::to_owned),
    }))
}
