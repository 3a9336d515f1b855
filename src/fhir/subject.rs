//! Whose records a deposit holds: read from its Patient, else from `subject`, `patient` and the like.
//!
//! One deposit is about one patient. Whatever points elsewhere, or cannot be told to point to the same
//! person, is refused: filing one person's record under another is the error that cannot be taken back.

use super::deposit::{Rule, Violation};
use super::json::Value;
use super::resource::FhirId;
use policy::words::NhsNumber;
use std::borrow::Cow;

/// The identifier systems of the NHS number: today's, the one before, and HL7 v3's OID.
pub const NHS_NUMBER_SYSTEMS: [&str; 3] = [
    "https://fhir.nhs.uk/Id/nhs-number",
    "http://fhir.nhs.net/Id/nhs-number",
    "urn:oid:2.16.840.1.113883.2.1.4.1",
];

/// The members that say whose a resource is.
const POINTERS: [&str; 4] = ["subject", "patient", "beneficiary", "for"];

/// Whose the records of a deposit are, as far as their bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The patient with this NHS number.
    Number(NhsNumber),
    /// The patient that this practice deposited under this name (`Patient/ID`).
    Reference(String),
    /// The bytes name nobody; the token must.
    Unnamed,
}

/// What a reference points to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    /// `Patient/ID`, and the whole URL where it is absolute.
    Patient { id: String, url: Option<String> },
    /// `urn:…`, which only an entry's `fullUrl` can explain.
    Urn(String),
}

/// What one pointer says.
#[derive(Debug)]
pub(super) struct Claim {
    path: String,
    number: Option<NhsNumber>,
    target: Option<Target>,
}

/// The Patient of a Bundle.
#[derive(Debug)]
pub(super) struct PatientEntry {
    pub(super) number: Option<NhsNumber>,
    pub(super) id: Option<String>,
    pub(super) full_url: Option<String>,
}

/// The NHS number among a resource's identifiers (or a single identifier's).
pub(super) fn nhs_number(
    identifiers: Value<'_>,
    path: &str,
) -> Result<Option<NhsNumber>, Violation> {
    let mut found: Option<NhsNumber> = None;
    for identifier in identifiers.each() {
        let system = identifier.text_at("system").unwrap_or_default();
        if !NHS_NUMBER_SYSTEMS.contains(&system.as_ref())
            || identifier
                .text_at("use")
                .is_some_and(|usage| usage == "old")
        {
            continue;
        }
        let Some(value) = identifier.text_at("value") else {
            continue;
        };
        let number = NhsNumber::try_from(value.as_ref())
            .map_err(|_| Violation::new(format!("{path}.value"), Rule::NhsNumber))?;
        if found.as_ref().is_some_and(|other| *other != number) {
            return Err(Violation::new(path, Rule::TwoNumbers));
        }
        found = Some(number);
    }
    Ok(found)
}

/// Every claim that a resource makes about whose it is. `path` is the resource's own.
pub(super) fn claims(resource: Value<'_>, path: &str) -> Result<Vec<Claim>, Violation> {
    let mut claims = Vec::new();
    for (name, value) in resource.members() {
        if !POINTERS.contains(&name.as_ref()) {
            continue;
        }
        for pointer in value.each() {
            let path = format!("{path}.{name}");
            let number = match pointer.get("identifier") {
                Some(identifier) => nhs_number(identifier, &format!("{path}.identifier"))?,
                None => None,
            };
            let mut claim = Claim {
                path,
                number,
                target: None,
            };
            if let Some(reference) = pointer.text_at("reference") {
                claim.follow(&reference, resource)?;
            }
            claims.push(claim);
        }
    }
    Ok(claims)
}

impl Claim {
    /// Reads a reference: relative, absolute, versioned, contained, conditional or a URN.
    fn follow(&mut self, reference: &str, resource: Value<'_>) -> Result<(), Violation> {
        if let Some(inner) = reference.strip_prefix('#') {
            let mut contained = resource.get("contained").into_iter().flat_map(Value::items);
            let patient = contained.find(|r| {
                r.text_at("id").is_some_and(|id| id == inner)
                    && r.text_at("resourceType").is_some_and(|t| t == "Patient")
            });
            if let Some(identifiers) = patient.and_then(|patient| patient.get("identifier")) {
                let number = nhs_number(identifiers, &self.path)?;
                return self.add(number);
            }
        } else if let Some(query) = reference.strip_prefix("Patient?identifier=") {
            let query = query.replace("%7C", "|").replace("%7c", "|");
            let number = query
                .split_once('|')
                .filter(|(system, _)| NHS_NUMBER_SYSTEMS.contains(system));
            let number = number.and_then(|(_, number)| NhsNumber::try_from(number).ok());
            let number = number.ok_or_else(|| {
                Violation::new(format!("{}.reference", self.path), Rule::Reference)
            })?;
            return self.add(Some(number));
        } else if reference.starts_with("urn:") {
            self.target = Some(Target::Urn(reference.to_owned()));
        } else {
            let current = reference
                .split_once("/_history/")
                .map_or(reference, |(current, _)| current);
            let mut parts = current.rsplit('/');
            let (id, kind) = (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            );
            if kind == "Patient" {
                let id = FhirId::try_from(id).map_err(|_| {
                    Violation::new(format!("{}.reference", self.path), Rule::Reference)
                })?;
                let url = parts.next().map(|_| current.to_owned());
                self.target = Some(Target::Patient {
                    id: id.as_str().to_owned(),
                    url,
                });
            }
        }
        Ok(())
    }

    fn add(&mut self, number: Option<NhsNumber>) -> Result<(), Violation> {
        if self.number.is_some() && number.is_some() && self.number != number {
            return Err(Violation::new(&self.path, Rule::TwoNumbers));
        }
        self.number = self.number.take().or(number);
        Ok(())
    }
}

impl PatientEntry {
    fn is_meant_by(&self, target: &Target) -> bool {
        match target {
            Target::Urn(urn) => self.full_url.as_deref() == Some(urn),
            Target::Patient { id, url } => {
                let absolute = self
                    .full_url
                    .as_deref()
                    .filter(|own| own.starts_with("http"));
                match (url.as_deref(), absolute) {
                    (Some(url), Some(own)) => url == own,
                    _ => {
                        self.id.as_deref() == Some(id)
                            || absolute.is_some_and(|own| own.ends_with(&format!("/Patient/{id}")))
                    }
                }
            }
        }
    }
}

/// The one patient that a deposit is about.
///
/// # Errors
/// The first claim that means somebody else, or cannot be told to mean the same person.
pub(super) fn settle(
    patient: Option<&PatientEntry>,
    claims: &[Claim],
) -> Result<Subject, Violation> {
    let mut number = patient.and_then(|patient| patient.number.clone());
    for claim in claims {
        if let (Some(patient), Some(target)) = (patient, &claim.target)
            && !patient.is_meant_by(target)
        {
            return Err(Violation::new(&claim.path, Rule::OtherPatient));
        }
        if let Some(claimed) = &claim.number {
            if number.as_ref().is_some_and(|known| known != claimed) {
                return Err(Violation::new(&claim.path, Rule::OtherPatient));
            }
            number = Some(claimed.clone());
        }
    }
    if patient.is_some() {
        return Ok(number.map_or(Subject::Unnamed, Subject::Number));
    }
    without_patient(number, claims)
}

fn without_patient(number: Option<NhsNumber>, claims: &[Claim]) -> Result<Subject, Violation> {
    let mut first: Option<Cow<'_, str>> = None;
    let mut linked = false;
    for claim in claims {
        let name = match &claim.target {
            None => continue,
            Some(Target::Urn(urn)) => Cow::Borrowed(urn.as_str()),
            Some(Target::Patient { id, .. }) => Cow::Owned(format!("Patient/{id}")),
        };
        if first.as_ref().is_some_and(|other| *other != name) {
            return Err(Violation::new(&claim.path, Rule::OtherPatient));
        }
        first = Some(name);
        linked |= claim.number.is_some();
    }
    match (number, first) {
        // Why: a number here and a reference there may be two people unless one entry says that they are one.
        (Some(_), Some(_)) if !linked => Err(Violation::new("Bundle", Rule::Unlinked)),
        (Some(number), _) => Ok(Subject::Number(number)),
        (None, Some(name)) if name.starts_with("Patient/") => {
            Ok(Subject::Reference(name.into_owned()))
        }
        // Why: outside its Bundle a URN names nobody; the token decides.
        (None, _) => Ok(Subject::Unnamed),
    }
}
