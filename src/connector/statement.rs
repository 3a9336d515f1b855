//! The CapabilityStatement (FHIR R4 §5.1) of a hospital's connector: what it serves, and not a word more.

use serde_json::{Value, json};

use super::stated;

/// The types that are listed; any other is served alike.
const LISTED: [&str; 20] = [
    "AllergyIntolerance",
    "Appointment",
    "CarePlan",
    "Condition",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "EpisodeOfCare",
    "FamilyMemberHistory",
    "Flag",
    "Immunization",
    "List",
    "Medication",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Patient",
    "Procedure",
    "ServiceRequest",
    "Specimen",
];

/// The statement.
pub(super) fn capability_statement(base: &str) -> Value {
    let documentation = format!(
        "Every request is of one patient and states {}, {} and, by purpose, {} or {} with {}. A read by id names its patient in {}.",
        stated::PURPOSE,
        stated::PRACTITIONER,
        stated::RELATIONSHIP,
        stated::REASON,
        stated::ACKNOWLEDGED,
        stated::PATIENT,
    );
    json!({
        "resourceType": "CapabilityStatement",
        "id": "sallyport-connector",
        "url": format!("{base}/metadata"),
        "version": env!("CARGO_PKG_VERSION"),
        "name": "SallyportConnector",
        "title": "Sallyport connector of a hospital",
        "status": "active",
        "date": "2026-11-22",
        "kind": "instance",
        "software": { "name": "Sallyport", "version": env!("CARGO_PKG_VERSION") },
        "implementation": { "description": "Records of practices, opened for this hospital; loopback only", "url": base },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [{
            "mode": "server",
            "documentation": documentation,
            "security": {
                "cors": false,
                "description": "Authorization: Bearer with the text of the file `secret` in the connector's folder.",
            },
            "resource": LISTED.iter().map(|kind| resource(kind)).collect::<Vec<_>>(),
        }],
    })
}

fn resource(kind: &str) -> Value {
    let parameter = |name: &str, kind: &str, text: &str| json!({ "name": name, "type": kind, "documentation": text });
    let mut parameters = vec![
        parameter(
            "patient",
            "reference",
            "required: the NHS number, alone, as Patient/NUMBER or as patient.identifier=https://fhir.nhs.uk/Id/nhs-number|NUMBER",
        ),
        parameter("category", "token", "code, system|code, |code or system|"),
        parameter(
            "code",
            "token",
            "also vaccineCode, medicationCodeableConcept and a document's or encounter's type",
        ),
        parameter("date", "date", "when it happened; eq ne lt gt le ge sa eb"),
    ];
    if kind == "Patient" {
        parameters.push(parameter(
            "identifier",
            "token",
            "https://fhir.nhs.uk/Id/nhs-number|NUMBER",
        ));
    }
    let mut resource = json!({
        "type": kind,
        "interaction": [{ "code": "read" }, { "code": "search-type" }],
        "versioning": "versioned",
        "readHistory": false,
        "searchParam": parameters,
    });
    if let (true, Some(members)) = (kind == "Patient", resource.as_object_mut()) {
        let everything = json!([{
            "name": "everything", "definition": "http://hl7.org/fhir/OperationDefinition/Patient-everything",
            "documentation": "the id is the patient's NHS number; _type, start, end, _count",
        }]);
        members.insert("operation".to_owned(), everything);
    }
    resource
}
