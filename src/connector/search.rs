//! From what FHIR clients ask to what the gateway is asked: one patient, named in one of the ways that FHIR has for
//! it, and the parameters that the gateway serves. A parameter that is not served is refused by name, never ignored.

use policy::words::NhsNumber;

use super::said::Trouble;
use crate::fhir::query::{COUNT_MAX, Query};
use crate::fhir::resource::ResourceType;
use crate::fhir::subject::NHS_NUMBER_SYSTEMS;

/// The ways in which a search names its patient.
const PATIENT: [&str; 8] = [
    "patient",
    "subject",
    "patient.identifier",
    "subject.identifier",
    "patient:identifier",
    "subject:identifier",
    "patient:Patient.identifier",
    "subject:Patient.identifier",
];

/// One question of the gateway: which page of which search.
#[derive(Clone)]
pub(super) struct Question {
    pub(super) patient: NhsNumber,
    /// The type that is searched; `None` for `$everything`.
    pub(super) kind: Option<ResourceType>,
    /// Without patient and cursor.
    pub(super) pairs: Vec<(String, String)>,
    pub(super) cursor: Option<String>,
}

impl Question {
    /// Reads a search by its percent-decoded pairs; `known` is the patient named elsewhere in the request.
    pub(super) fn read(
        kind: Option<ResourceType>,
        known: Option<NhsNumber>,
        pairs: Vec<(String, String)>,
    ) -> Result<Self, Trouble> {
        let mut patient = known;
        let mut kept = Vec::new();
        let is_patient = kind.as_ref().is_none_or(|kind| kind.is("Patient"));
        for (name, value) in pairs {
            match name.as_str() {
                name if PATIENT.contains(&name) || (is_patient && name == "identifier") => {
                    same(&mut patient, number(name, &value)?, name)?;
                }
                "_count" => kept.push((name, count(&value)?)),
                "_format" => format(&value)?,
                "_cursor" => {
                    let text = "_cursor: ask the next page by the Bundle's own next link";
                    return Err(Trouble::bad(text));
                }
                _ => kept.push((name, value)),
            }
        }
        let patient = patient.ok_or_else(|| {
            Trouble::bad(format!(
                "a search is of one patient: name it by patient.identifier=https://fhir.nhs.uk/Id/nhs-number|NUMBER, or by the header {}",
                super::stated::PATIENT
            ))
        })?;
        let question = Self {
            patient,
            kind,
            pairs: kept,
            cursor: None,
        };
        question.query()?;
        Ok(question)
    }

    /// The same as the gateway reads it.
    pub(super) fn query(&self) -> Result<Query, Trouble> {
        let mut pairs = self.pairs.clone();
        if let Some(cursor) = &self.cursor {
            pairs.push(("_cursor".to_owned(), cursor.clone()));
        }
        let query = match &self.kind {
            None => Query::everything(self.patient.clone(), &pairs),
            Some(kind) => {
                pairs.push(("patient".to_owned(), self.patient.as_str().to_owned()));
                Query::parse(kind, &pairs)
            }
        };
        query.map_err(|error| Trouble::bad(error.to_string()))
    }

    /// Path and query of the request to the gateway.
    pub(super) fn path(&self) -> String {
        let mut pairs = self.pairs.clone();
        if let Some(cursor) = &self.cursor {
            pairs.push(("_cursor".to_owned(), cursor.clone()));
        }
        let path = match &self.kind {
            None => format!("/fhir/Patient/{}/$everything", self.patient.as_str()),
            Some(kind) => {
                pairs.push(("patient".to_owned(), self.patient.as_str().to_owned()));
                format!("/fhir/{kind}")
            }
        };
        // Why the fallback is empty: writing pairs of texts cannot fail.
        format!(
            "{path}?{}",
            serde_urlencoded::to_string(&pairs).unwrap_or_default()
        )
    }

    /// The page that the gateway's next link names. Only its cursor is taken: a link cannot lead elsewhere.
    pub(super) fn next(&self, link: &str) -> Option<Self> {
        let (_, query) = link.split_once('?')?;
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(query).ok()?;
        let (_, cursor) = pairs.into_iter().find(|(name, _)| name == "_cursor")?;
        let cursor = Some(cursor);
        Some(Self {
            cursor,
            ..self.clone()
        })
    }
}

fn same(patient: &mut Option<NhsNumber>, said: NhsNumber, name: &str) -> Result<(), Trouble> {
    match patient {
        Some(known) if *known != said => {
            let text = format!("{name}: names another patient than the rest of the request");
            Err(Trouble::bad(text))
        }
        Some(_) | None => {
            *patient = Some(said);
            Ok(())
        }
    }
}

fn number(name: &str, value: &str) -> Result<NhsNumber, Trouble> {
    let number = match value.split_once('|') {
        Some((system, number)) => NHS_NUMBER_SYSTEMS.contains(&system).then_some(number),
        None => Some(value.strip_prefix("Patient/").unwrap_or(value)),
    };
    let number = number.and_then(|number| NhsNumber::try_from(number).ok());
    number.ok_or_else(|| {
        Trouble::bad(format!(
            "{name}: must be https://fhir.nhs.uk/Id/nhs-number|NUMBER, or the NHS number alone, with the right check digit"
        ))
    })
}

/// More than a page holds is a page (FHIR R4 §3.1.1.5.6).
fn count(value: &str) -> Result<String, Trouble> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let count = value.parse::<usize>().unwrap_or(COUNT_MAX);
    match digits && count > 0 {
        true => Ok(count.min(COUNT_MAX).to_string()),
        false => Err(Trouble::bad("_count: must be a whole number from 1 on")),
    }
}

fn format(value: &str) -> Result<(), Trouble> {
    let media = value.split(';').next().unwrap_or_default().trim();
    match media {
        "json" | "application/json" | "application/fhir+json" | "application/fhir json" => Ok(()),
        _ => Err(super::accept::not_acceptable()),
    }
}
