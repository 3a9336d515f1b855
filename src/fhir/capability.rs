//! The CapabilityStatement (FHIR R4 §5.1) that `GET /fhir/metadata` answers.
//!
//! It promises only what the gateway does. Served to anyone with a certificate, before any decision, so it
//! holds nothing of any practice, hospital or patient.

use super::resource::ResourceType;
use policy::words::Category;
use serde_json::{Value, json};

/// What the statement says of this running gateway.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The gateway's URL, without a slash at its end.
    pub url: &'a str,
    /// The version of the program.
    pub version: &'a str,
    /// When the statement last changed, as `YYYY-MM-DD`.
    pub date: &'a str,
}

/// The types that the statement lists: what GP systems export. Others may be deposited and read as well.
const LISTED: [&str; 34] = [
    "AllergyIntolerance",
    "Appointment",
    "Binary",
    "CarePlan",
    "CareTeam",
    "Communication",
    "Composition",
    "Condition",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "EpisodeOfCare",
    "FamilyMemberHistory",
    "Flag",
    "Goal",
    "Immunization",
    "List",
    "Location",
    "Medication",
    "MedicationAdministration",
    "MedicationDispense",
    "MedicationRequest",
    "MedicationStatement",
    "Observation",
    "Organization",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "QuestionnaireResponse",
    "RelatedPerson",
    "ServiceRequest",
    "Specimen",
    "Task",
];

/// The CapabilityStatement.
#[must_use]
pub fn capability_statement(identity: &Identity<'_>) -> Value {
    let Identity { url, version, date } = identity;
    json!({
        "resourceType": "CapabilityStatement",
        "id": "sallyport",
        "url": format!("{url}/fhir/metadata"),
        "version": version,
        "name": "Sallyport",
        "title": "Sallyport record-sharing gateway",
        "status": "active",
        "date": date,
        "description": "Practices deposit records; a hospital reads one patient's records for one purpose, as sealed records and a ticket that only it can open.",
        "kind": "instance",
        "software": { "name": "Sallyport", "version": version },
        "implementation": { "description": "Sallyport", "url": format!("{url}/fhir") },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "rest": [rest(url)],
    })
}

fn rest(url: &str) -> Value {
    json!({
        "mode": "server",
        "documentation": "Deposits are FHIR JSON of version 4.0 or 3.0. Reads answer application/x-ndjson: a line with ticket and receipt, a line a sealed record, an end line; the hospital's connector turns them into FHIR JSON. Every read is of the token's one patient.",
        "security": security(url),
        "resource": LISTED.iter().map(|kind| resource(kind)).chain([consent()]).collect::<Vec<_>>(),
        "interaction": [{ "code": "transaction" }, { "code": "batch" }],
    })
}

fn security(url: &str) -> Value {
    json!({
        "cors": false,
        "service": [{
            "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "OAuth", "display": "OAuth" }],
            "text": "OAuth 2.0 client credentials with private_key_jwt (RFC 7523), authorization_details (RFC 9396), bound to the client certificate (RFC 8705)",
        }],
        "extension": [{
            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
            "extension": [
                { "url": "token", "valueUri": format!("{url}/oauth/token") },
                { "url": "revoke", "valueUri": format!("{url}/oauth/revoke") },
            ],
        }],
    })
}

fn resource(kind: &str) -> Value {
    let category = ResourceType::try_from(kind).map_or(Category::Other, |kind| kind.category());
    let mut resource = json!({
        "type": kind,
        "documentation": format!("sharing category: {category}"),
        "interaction": [{ "code": "read" }, { "code": "search-type" }, { "code": "update" }, { "code": "delete" }],
        "versioning": "versioned",
        "readHistory": false,
        "updateCreate": true,
        "conditionalCreate": false,
        "conditionalUpdate": false,
        "conditionalDelete": "not-supported",
        "searchParam": [
            { "name": "patient", "type": "reference", "documentation": "required; an NHS number, Patient/NHS number or system|NHS number" },
            { "name": "category", "type": "token" },
            { "name": "code", "type": "token", "documentation": "also vaccineCode, medicationCodeableConcept and a document's or encounter's type" },
            { "name": "date", "type": "date", "documentation": "when it happened; eq ne lt gt le ge sa eb" },
        ],
    });
    if let (true, Some(members)) = (kind == "Patient", resource.as_object_mut()) {
        let everything = json!([{ "name": "everything", "definition": "http://hl7.org/fhir/OperationDefinition/Patient-everything" }]);
        members.insert("operation".to_owned(), everything);
    }
    resource
}

fn consent() -> Value {
    json!({
        "type": "Consent",
        "documentation": "a patient's objection, with a consent token; not a record and never released",
        "interaction": [{ "code": "create" }, { "code": "update" }],
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::super::query::Query;
    use super::*;

    #[test]
    fn the_statement_promises_what_the_reader_does() {
        let statement = capability_statement(&Identity {
            url: "https://gateway.example",
            version: "0.1.0",
            date: "2026-01-01",
        });
        assert_eq!(statement["fhirVersion"], "4.0.1");
        assert_eq!(
            statement["implementation"]["url"],
            "https://gateway.example/fhir"
        );
        let resources = statement["rest"][0]["resource"].as_array().unwrap();
        assert_eq!(resources.len(), LISTED.len() + 1);
        for resource in resources
            .iter()
            .filter(|resource| resource["type"] != "Consent")
        {
            let kind = ResourceType::try_from(resource["type"].as_str().unwrap()).unwrap();
            for parameter in resource["searchParam"].as_array().unwrap() {
                let name = parameter["name"].as_str().unwrap();
                let value = match name {
                    "patient" => "9990000018",
                    "date" => "2019",
                    _ => "x",
                };
                let mut pairs = vec![("patient".to_owned(), "9990000018".to_owned())];
                if name != "patient" {
                    pairs.push((name.to_owned(), value.to_owned()));
                }
                assert!(Query::parse(&kind, &pairs).is_ok(), "{name}");
            }
        }
        let sorted: std::collections::BTreeSet<_> = LISTED.iter().collect();
        assert!(sorted.iter().copied().eq(LISTED.iter()));
    }
}
