//! What a deposit holds: its records as exact slices of the bytes received, each with its card, and the
//! one patient they are of.
//!
//! Strict on JSON, lenient on FHIR: a fifth of real exports fail the models, and payloads are opaque. Only
//! what decides where a record goes is checked. A failure names member and rule; nothing of a deposit that
//! fails is kept. No text of the body stands in an error.

use super::card::Card;
use super::json::{Document, JsonError, JsonRule, Kind, Value};
use super::label;
use super::resource::{FhirId, FhirVersion, Name, ResourceType};
use super::subject::{self, Claim, PatientEntry, Subject};
use bytes::Bytes;
use policy::words::Label;
use std::collections::{BTreeSet, HashMap, HashSet};
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
}

impl Item {
    /// Gives a record that has no name its id.
    pub fn assign(&mut self, id: FhirId) {
        self.name = Some(Name { kind: self.card.kind.clone(), id: id.clone() });
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
    #[error("an id has 1 to 64 characters of A-Z a-z 0-9 - .")]
    Id,
    #[error("the id is the one in the URL")]
    OtherId,
    #[error("fullUrl is a text of 1 to 512 bytes")]
    FullUrl,
    #[error("a fullUrl stands once in a Bundle")]
    DuplicateFullUrl,
    #[error("a TYPE/ID stands once in a Bundle")]
    DuplicateName,
    #[error("a Bundle has one Patient")]
    TwoPatients,
    #[error("a deposit is about one patient, and this is another")]
    OtherPatient,
    #[error("a deposit is about one patient, and nothing says that the NHS number and the reference are the same")]
    Unlinked,
    #[error("one patient has one NHS number")]
    TwoNumbers,
    #[error("an NHS number has ten digits, the last of them the right check digit")]
    NhsNumber,
    #[error("a reference to a patient is Patient/ID, a URL that ends so, a URN, or Patient?identifier=SYSTEM|NHS number")]
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
        Self { path: path.into(), rule }
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
            Self::Json(error) => match error.rule {
                JsonRule::Size | JsonRule::Values => 413,
                _ => 400,
            },
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
pub fn read_deposit(body: &Bytes, version: FhirVersion, form: Form<'_>) -> Result<Batch, DepositError> {
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

fn resource_type(resource: Value<'_>, path: &str) -> Result<ResourceType, Violation> {
    let text = resource.text_at("resourceType").unwrap_or_default();
    ResourceType::try_from(text.as_ref()).map_err(|_| Violation::new(under(path, "resourceType"), Rule::ResourceType))
}

fn under(path: &str, member: &str) -> String {
    if path.is_empty() { member.to_owned() } else { format!("{path}.{member}") }
}

/// The id that a resource says it has.
fn own_id(resource: Value<'_>, path: &str) -> Result<Option<FhirId>, Violation> {
    let wrong = || Violation::new(format!("{path}.id"), Rule::Id);
    match resource.get("id") {
        None => Ok(None),
        Some(id) => FhirId::try_from(id.text().ok_or_else(wrong)?.as_ref()).map(Some).map_err(|_| wrong()),
    }
}

fn single(body: &Bytes, version: FhirVersion, root: Value<'_>, kind: ResourceType, named: &ResourceType, id: &FhirId) -> Result<Batch, Violation> {
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
    let name = Some(Name { kind, id: id.clone() });
    // Why the whole body and not the value's span: what a practice put is what a hospital gets, to the last newline.
    let item = Item { entry: 0, name, full_url: None, text: body.clone(), card, method: Method::Put };
    Ok(Batch { version, kind: BundleKind::Single, subject, items: vec![item], entries: 1 })
}

fn patient_entry(resource: Value<'_>, kind: &ResourceType, id: Option<&FhirId>, full_url: Option<&str>, path: &str) -> Result<Option<PatientEntry>, Violation> {
    if !kind.is("Patient") {
        return Ok(None);
    }
    let number = match resource.get("identifier") {
        Some(identifiers) => subject::nhs_number(identifiers, &format!("{path}.identifier"))?,
        None => None,
    };
    Ok(Some(PatientEntry { number, id: id.map(|id| id.as_str().to_owned()), full_url: full_url.map(str::to_owned) }))
}

fn bundle(body: &Bytes, version: FhirVersion, root: Value<'_>) -> Result<Batch, Violation> {
    let kind = match root.text_at("type").as_deref() {
        Some("transaction") => BundleKind::Transaction,
        Some("batch") => BundleKind::Batch,
        Some("collection") => BundleKind::Collection,
        Some("document") => BundleKind::Document,
        _ => return Err(Violation::new("Bundle.type", Rule::BundleType)),
    };
    let entries = root.get("entry").filter(|entry| entry.kind() == Kind::Array);
    let count = entries.map_or(0, |entries| entries.items().count());
    if !(1..=ENTRIES_MAX).contains(&count) {
        return Err(Violation::new("Bundle.entry", Rule::Entries));
    }
    let labels = root.get("meta").map(label::security).unwrap_or_default();
    let mut reader = Reader { body, kind, labels, items: Vec::with_capacity(count), patient: None, claims: Vec::new(), urls: HashSet::new(), names: HashMap::new() };
    for (index, entry) in entries.into_iter().flat_map(Value::items).enumerate() {
        reader.entry(index, entry)?;
    }
    let subject = subject::settle(reader.patient.as_ref(), &reader.claims)?;
    Ok(Batch { version, kind, subject, items: reader.items, entries: count })
}

/// What is known of a Bundle while its entries are read.
struct Reader<'a> {
    body: &'a Bytes,
    kind: BundleKind,
    /// The labels that the Bundle puts on all its entries.
    labels: BTreeSet<Label>,
    items: Vec<Item>,
    patient: Option<PatientEntry>,
    claims: Vec<Claim>,
    urls: HashSet<String>,
    /// The items that claim a name, in their order.
    names: HashMap<Name, Vec<usize>>,
}

impl Reader<'_> {
    fn entry(&mut self, index: usize, entry: Value<'_>) -> Result<(), Violation> {
        let path = format!("Bundle.entry[{index}]");
        let resource = entry.get("resource").filter(|resource| resource.kind() == Kind::Object);
        let resource = resource.ok_or_else(|| Violation::new(format!("{path}.resource"), Rule::NoResource))?;
        let full_url = self.full_url(entry, &path)?;
        let inner = format!("{path}.resource");
        let kind = resource_type(resource, &inner)?;
        match kind.as_str() {
            "Bundle" => return Err(Violation::new(inner, Rule::NestedBundle)),
            "Consent" => return Err(Violation::new(inner, Rule::Consent)),
            _ => {}
        }
        let own = own_id(resource, &inner)?;
        let (method, asked) = self.request(entry, &kind, &path)?;
        if asked.is_some() && own.is_some() && asked != own {
            return Err(Violation::new(format!("{inner}.id"), Rule::OtherId));
        }
        let text = self.body.slice(resource.span());
        let mut id = asked.or(own);
        if let Some(claimed) = id.take() {
            let name = Name { kind: kind.clone(), id: claimed };
            match self.claim(&name, &text, &inner)? {
                Claimed::Repeated => return Ok(()),
                Claimed::As(own) => id = own,
            }
        }
        if let Some(patient) = patient_entry(resource, &kind, id.as_ref(), full_url.as_deref(), &inner)? {
            if self.patient.is_some() {
                return Err(Violation::new(inner, Rule::TwoPatients));
            }
            self.patient = Some(patient);
        }
        self.claims.extend(subject::claims(resource, &inner)?);
        let card = Card::read(resource, kind.clone(), id.clone(), full_url.clone(), &self.labels);
        let name = id.map(|id| Name { kind, id });
        self.items.push(Item { entry: index, name, full_url, text, card, method });
        Ok(())
    }

    fn full_url(&mut self, entry: Value<'_>, path: &str) -> Result<Option<String>, Violation> {
        let wrong = |rule| Violation::new(format!("{path}.fullUrl"), rule);
        let Some(value) = entry.get("fullUrl") else {
            return Ok(None);
        };
        let url = value.text().filter(|url| (1..=FULL_URL_BYTES_MAX).contains(&url.len()));
        let url = url.ok_or_else(|| wrong(Rule::FullUrl))?.into_owned();
        if !self.urls.insert(url.clone()) {
            return Err(wrong(Rule::DuplicateFullUrl));
        }
        Ok(Some(url))
    }

    /// What an entry asks for, and the id that it asks for it under.
    fn request(&self, entry: Value<'_>, kind: &ResourceType, path: &str) -> Result<(Method, Option<FhirId>), Violation> {
        if matches!(self.kind, BundleKind::Collection | BundleKind::Document) {
            return Ok((Method::Unstated, None));
        }
        let wrong = |member: &str, rule| Violation::new(format!("{path}.request{member}"), rule);
        let request = entry.get("request").ok_or_else(|| wrong("", Rule::Method))?;
        if request.members().any(|(name, _)| matches!(name.as_ref(), "ifMatch" | "ifNoneMatch" | "ifNoneExist" | "ifModifiedSince")) {
            return Err(wrong("", Rule::Conditional));
        }
        let url = request.text_at("url").unwrap_or_default();
        if url.contains('?') {
            return Err(wrong(".url", Rule::Conditional));
        }
        match request.text_at("method").as_deref() {
            Some("POST") if url == kind.as_str() => Ok((Method::Post, None)),
            Some("PUT") => match Name::try_from(url.as_ref()) {
                Ok(name) if name.kind == *kind => Ok((Method::Put, Some(name.id))),
                _ => Err(wrong(".url", Rule::RequestUrl)),
            },
            Some("POST") => Err(wrong(".url", Rule::RequestUrl)),
            _ => Err(wrong(".method", Rule::Method)),
        }
    }

    /// Settles who bears a name. Why not simply refuse a second bearer: real GP exports repeat staff and
    /// places, mostly byte for byte, now and then with other words. A repetition is left out; a second text
    /// is kept as `ID.2`, so that nothing is lost and depositing again finds it again.
    fn claim(&mut self, name: &Name, text: &Bytes, path: &str) -> Result<Claimed, Violation> {
        let next = self.items.len();
        let Some(bearers) = self.names.get_mut(name) else {
            self.names.insert(name.clone(), vec![next]);
            return Ok(Claimed::As(Some(name.id.clone())));
        };
        if self.kind != BundleKind::Collection {
            return Err(Violation::new(format!("{path}.id"), Rule::DuplicateName));
        }
        if bearers.iter().any(|at| self.items.get(*at).is_some_and(|item| item.text == *text)) {
            return Ok(Claimed::Repeated);
        }
        bearers.push(next);
        let id = FhirId::try_from(format!("{}.{}", name.id, bearers.len()).as_str()).ok();
        let Some(id) = id else {
            return Ok(Claimed::As(None));
        };
        self.claim(&Name { kind: name.kind.clone(), id }, text, path)
    }
}

/// Who bears a name after all.
enum Claimed {
    /// The entry says again what another entry said.
    Repeated,
    /// The entry, under this id; `None` where one is to be assigned.
    As(Option<FhirId>),
}
