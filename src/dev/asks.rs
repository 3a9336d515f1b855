//! The catalogue of asks: what to try by hand, what must come of it, and why. `world.json` holds it.

use serde_json::{Map, Value, json};

use super::cast::{self, HOSPITAL_A, PEOPLE, Patient, objector, referral};
use super::{MEMBERS, member_json};
use crate::fhir::fixtures::{Fixture, small_set};
use crate::fhir::resource::FhirVersion;
use crate::ledger::Vkey;

/// The world as `world.json` says it.
pub(super) fn world(issuer: &str, vkey: &Vkey, more: &[Patient]) -> Value {
    let people: Vec<Value> = PEOPLE
        .iter()
        .map(|(id, organisation, role, name, _, _)| {
            json!({ "id": id, "organisation": organisation, "role": role, "name": name })
        })
        .collect();
    let own =
        cast::patients().map(|own| json!({ "nhs_number": own.nhs, "practice": own.practice }));
    let more = more
        .iter()
        .map(|patient| json!({ "nhs_number": patient.nhs, "practice": cast::PRACTICE_A }));
    json!({
        "url": issuer,
        "issuer": issuer,
        "log": { "origin": vkey.name(), "vkey": vkey.to_string() },
        "organisations": MEMBERS.iter().map(member_json).collect::<Vec<_>>(),
        "practitioners": people,
        "patients": own.chain(more).collect::<Vec<_>>(),
        "asks": catalogue(),
    })
}

/// One ask, being built.
struct Ask {
    name: &'static str,
    client: &'static str,
    details: Map<String, Value>,
    path: Option<String>,
    permit: bool,
    why: &'static str,
}

impl Ask {
    fn new(name: &'static str, permit: bool, why: &'static str, patient: &str) -> Self {
        let details = json!({
            "type": "patient_record",
            "patient": patient,
            "purpose": "TREAT",
            "practitioner": { "id": "dr-okafor" },
            "relationship": { "type": "referral", "reference": referral(patient) },
        });
        let details = details.as_object().cloned().unwrap_or_default();
        Self {
            name,
            client: "hospital-a",
            details,
            path: None,
            permit,
            why,
        }
    }

    fn by(mut self, client: &'static str, practitioner: &str) -> Self {
        self.client = client;
        self.with("practitioner", json!({ "id": practitioner }))
    }

    fn with(mut self, member: &str, value: Value) -> Self {
        self.details.insert(member.to_owned(), value);
        self
    }

    fn without(mut self, member: &str) -> Self {
        self.details.remove(member);
        self
    }

    fn emergency(self, purpose: &str) -> Self {
        self.without("relationship")
            .with("purpose", purpose.into())
            .with("reason", "Unconscious in resus; allergies unknown.".into())
            .with("acknowledged", true.into())
    }

    fn reads(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    fn to_json(&self) -> Value {
        let mut out = json!({
            "name": self.name,
            "client": self.client,
            "authorization_details": self.details,
            "expect": if self.permit { "permit" } else { "refuse" },
            "why": self.why,
        });
        if let (Some(object), Some(path)) = (out.as_object_mut(), &self.path) {
            object.insert("path".to_owned(), path.as_str().into());
        }
        out
    }
}

/// A test number that no practice of the world holds.
const NOBODY: &str = "9990999988";

/// The asks of the shipped world.
#[must_use]
pub fn catalogue() -> Vec<Value> {
    let Some(first) = small_set().first() else {
        return Vec::new();
    };
    let stu3 = small_set()
        .iter()
        .find(|fixture| fixture.version == FhirVersion::Stu3);
    let mut asks = permitted(first);
    asks.extend(stu3.map(|fixture| {
        Ask::new(
            "permitted-stu3",
            true,
            "STU3 is carried like R4; the second practice agreed too",
            fixture.nhs,
        )
        .reads(format!("/fhir/Patient/{}/$everything", fixture.nhs))
    }));
    asks.extend(refused(first));
    asks.extend(sensitive());
    asks.extend(objector().map(|fixture| {
        Ask::new(
            "objection",
            false,
            "the patient objected, and the practice passed it on",
            fixture.nhs,
        )
        .reads(format!("/fhir/Observation?patient={}", fixture.nhs))
    }));
    asks.extend(objector().map(|fixture| {
        Ask::new(
            "research-objection",
            false,
            "the patient objected to research too",
            fixture.nhs,
        )
        .by("research-c", "r-quill")
        .without("relationship")
        .with("purpose", "HRESCH".into())
        .reads(format!("/fhir/Observation?patient={}", fixture.nhs))
    }));
    asks.iter().map(Ask::to_json).collect()
}

fn permitted(first: &Fixture) -> Vec<Ask> {
    let nhs = first.nhs;
    vec![
        Ask::new(
            "permitted",
            true,
            "agreement, referral, training: everything is in order",
            nhs,
        )
        .reads(format!("/fhir/Observation?patient={nhs}")),
        Ask::new(
            "permitted-everything",
            true,
            "all that is not sensitive",
            nhs,
        )
        .reads(format!("/fhir/Patient/{nhs}/$everything")),
        Ask::new(
            "permitted-nurse",
            true,
            "a nurse of the same hospital, trained",
            nhs,
        )
        .by("hospital-a", "nurse-lind")
        .reads(format!("/fhir/Condition?patient={nhs}")),
        Ask::new(
            "permitted-front-desk",
            true,
            "a receptionist may see who the patient is",
            nhs,
        )
        .by("hospital-a", "clerk-moss")
        .reads(format!("/fhir/Patient?patient={nhs}")),
        Ask::new(
            "permitted-token-only",
            true,
            "a token may be had before anything is read",
            nhs,
        ),
        Ask::new(
            "break-glass",
            true,
            "an emergency with a reason, by a clinician; marked and seen",
            nhs,
        )
        .emergency("BTG")
        .reads(format!("/fhir/AllergyIntolerance?patient={nhs}")),
        Ask::new(
            "research",
            true,
            "the practice approved this organisation's research; the patient did not object",
            nhs,
        )
        .by("research-c", "r-quill")
        .without("relationship")
        .with("purpose", "HRESCH".into())
        .with("categories", json!(["observations", "problems"]))
        .reads(format!("/fhir/Observation?patient={nhs}")),
        Ask::new("emergency-treatment", true, "ETREAT is agreed too", nhs)
            .emergency("ETREAT")
            .reads(format!("/fhir/AllergyIntolerance?patient={nhs}")),
    ]
}

fn refused(first: &Fixture) -> Vec<Ask> {
    let nhs = first.nhs;
    let no = |name, why| {
        Ask::new(name, false, why, nhs).reads(format!("/fhir/Observation?patient={nhs}"))
    };
    vec![
        no(
            "no-agreement",
            "a referral exists, but this practice never agreed with that hospital",
        )
        .by("hospital-b", "dr-hart"),
        no("wrong-purpose", "the agreement does not name this purpose")
            .with("purpose", "HOPERAT".into()),
        no(
            "unserved-purpose",
            "no purpose that is not served is ever permitted",
        )
        .with("purpose", "HMARKT".into()),
        no(
            "no-relationship",
            "nothing says that the hospital treats this patient",
        )
        .without("relationship"),
        no("wrong-relationship", "no such referral stands in the facts").with(
            "relationship",
            json!({ "type": "referral", "reference": "UBRN-0000-0000" }),
        ),
        no("untrained", "the training for the role has lapsed").by("hospital-a", "dr-late"),
        no(
            "training-unknown",
            "nobody knows whether this person is trained: unknown refuses",
        )
        .by("hospital-a", "dr-untold"),
        no("suspended", "this person is suspended").by("hospital-a", "dr-stopped"),
        no(
            "not-in-the-directory",
            "no such person stands in the hospital's directory",
        )
        .by("hospital-a", "dr-nobody"),
        no(
            "anothers-practitioner",
            "this person stands in another hospital's directory",
        )
        .by("hospital-a", "dr-hart"),
        no(
            "not-a-clinician",
            "a receptionist may see who the patient is, and no more",
        )
        .by("hospital-a", "clerk-moss")
        .with("categories", json!(["medications"])),
        no(
            "research-without-approval",
            "the practice approved research, not public health",
        )
        .by("research-c", "r-quill")
        .without("relationship")
        .with("purpose", "PUBHLTH".into()),
        no(
            "research-by-a-hospital",
            "a secondary use goes through a research organisation's own system",
        )
        .without("relationship")
        .with("purpose", "HRESCH".into()),
        no(
            "research-break-glass",
            "nobody breaks the glass for research",
        )
        .by("research-c", "r-quill")
        .emergency("BTG"),
        Ask::new(
            "unknown-patient",
            false,
            "nobody holds this patient; the answer is the same as any refusal",
            NOBODY,
        )
        .reads(format!("/fhir/Observation?patient={NOBODY}")),
        no("break-glass-without-reason", "an emergency needs a reason")
            .emergency("BTG")
            .without("reason"),
        no(
            "break-glass-unacknowledged",
            "the warning was not acknowledged",
        )
        .emergency("BTG")
        .without("acknowledged"),
        no(
            "break-glass-not-a-clinician",
            "only a clinician may declare an emergency",
        )
        .emergency("BTG")
        .by("hospital-a", "clerk-moss"),
        no(
            "break-glass-no-agreement",
            "an emergency needs an agreement too",
        )
        .emergency("BTG")
        .by("hospital-b", "dr-hart"),
    ]
}

/// A record with a sensitivity label that no agreement of the world covers.
fn sensitive() -> Option<Ask> {
    let (fixture, name) = small_set()
        .iter()
        .find_map(|fixture| Some((fixture, fixture.sensitive?)))?;
    debug_assert!(!HOSPITAL_A.is_empty());
    let why = "the record carries a sensitivity label that the agreement does not expressly cover";
    Some(
        Ask::new("sensitive-without-permission", false, why, fixture.nhs)
            .reads(format!("/fhir/{name}")),
    )
}
