//! Entries as other tools take them: the leaves as they are, JSON, CSV, FHIR `AuditEvent` (IHE BALP), syslog (RFC 5424)
//! and CEF. Each row names index and leaf hash, so that it can be held against the log. What a body does not say, or no
//! key opens, stays empty: nothing is guessed.

use serde_json::{Value, json};

use super::entry::Entry;

/// A form of export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The leaves, byte for byte, a line each: what ten lines of any language verify.
    Leaves,
    /// A JSON object a line, with what could be opened.
    Ndjson,
    /// Comma-separated values (RFC 4180) with a header line.
    Csv,
    /// FHIR R4 `AuditEvent` by the IHE Basic Audit Log Patterns, one a line.
    Fhir,
    /// RFC 5424 syslog lines.
    Syslog,
    /// ArcSight Common Event Format.
    Cef,
}

const COLUMNS: [&str; 18] = [
    "index",
    "leaf_hash",
    "at",
    "event",
    "outcome",
    "client",
    "organisation",
    "practitioner",
    "name",
    "role",
    "patient",
    "purpose",
    "evidence",
    "relationship",
    "reason",
    "rule",
    "act",
    "records",
];

/// The line before the rows, where the format has one.
#[must_use]
pub fn header(format: Format) -> Option<String> {
    (format == Format::Csv).then(|| COLUMNS.join(","))
}

/// One entry in this format.
#[must_use]
pub fn row(format: Format, entry: &Entry, gateway: &str) -> String {
    match format {
        Format::Leaves => entry.text.clone(),
        Format::Ndjson => ndjson(entry).to_string(),
        Format::Csv => {
            let cells: Vec<String> = values(entry).iter().map(|value| cell(value)).collect();
            cells.join(",")
        }
        Format::Fhir => audit_event(entry, gateway).to_string(),
        Format::Syslog => syslog(entry, gateway),
        Format::Cef => cef(entry),
    }
}

fn values(entry: &Entry) -> [String; 18] {
    let said = |group, member| entry.said(group, member).to_owned();
    let claim = entry
        .plain
        .as_ref()
        .and_then(|plain| plain.get("context")?.get("relationship"));
    let claim = claim.map_or_else(String::new, |claim| {
        let text = |name| claim.get(name).and_then(Value::as_str).unwrap_or_default();
        format!("{} {}", text("type"), text("reference"))
    });
    [
        entry.index.to_string(),
        entry.hash_hex(),
        entry.at(),
        entry.event().to_owned(),
        entry.outcome().to_owned(),
        said("actor", "client"),
        said("actor", "organisation"),
        said("actor", "practitioner"),
        entry.name().to_owned(),
        said("context", "role"),
        entry.patient().to_owned(),
        said("context", "purpose"),
        said("context", "evidence"),
        claim,
        said("context", "reason"),
        said("context", "rule"),
        said("object", "act"),
        entry.records().join(" "),
    ]
}

/// RFC 4180. Why the apostrophe: a spreadsheet runs a cell that begins like a formula, and the text is a stranger's.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

fn ndjson(entry: &Entry) -> Value {
    let mut value = json!({
        "index": entry.index, "leaf_hash": entry.hash_hex(), "at": entry.at(), "event": entry.event(),
        "leaf": entry.text,
    });
    if let (Some(object), Some(plain)) = (value.as_object_mut(), &entry.plain) {
        object.insert("body".to_owned(), plain.clone());
    }
    if let (Some(object), false) = (value.as_object_mut(), entry.marks.is_empty()) {
        object.insert("marks".to_owned(), json!(entry.marks));
    }
    if let (Some(object), true) = (value.as_object_mut(), entry.is_altered) {
        object.insert("altered".to_owned(), true.into());
    }
    value
}

/// IHE BALP: `RESTful Activity`, agents for the organisation's system and the person, entities for patient and entry.
fn audit_event(entry: &Entry, gateway: &str) -> Value {
    let coding = |system: &str, code: &str| json!({ "system": system, "code": code });
    let (event, refused) = (entry.event(), entry.outcome() == "refuse");
    let action = match event {
        "record.release" | "record.refuse" | "log.read" | "log.refuse" => "R",
        "record.deposit" | "deposit.refuse" => "C",
        "record.withdraw" | "withdraw.refuse" => "D",
        "facts.change" | "facts.refuse" => "U",
        _ => "E",
    };
    let mut agents = vec![json!({
        "type": { "coding": [coding("http://dicom.nema.org/resources/ontology/DCM", "110153")] },
        "who": { "identifier": { "value": entry.said("actor", "client") } },
        "requestor": false,
    })];
    if !entry.said("actor", "practitioner").is_empty() {
        agents.push(json!({
            "type": { "coding": [coding("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP")] },
            "who": { "identifier": { "value": entry.said("actor", "practitioner") }, "display": entry.name() },
            "role": [{ "text": entry.said("context", "role") }],
            "requestor": true,
        }));
    }
    let mut entities = vec![json!({
        "what": { "identifier": { "system": "urn:sallyport:leaf", "value": entry.hash_hex() } },
        "type": coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", "4"),
        "detail": [{ "type": "index", "valueString": entry.index.to_string() }],
    })];
    if !entry.patient().is_empty() {
        let number =
            json!({ "system": "https://fhir.nhs.uk/Id/nhs-number", "value": entry.patient() });
        entities.push(json!({
            "what": { "identifier": number },
            "type": coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", "1"),
            "role": coding("http://terminology.hl7.org/CodeSystem/object-role", "1"),
        }));
    }
    let mut value = json!({
        "resourceType": "AuditEvent",
        "id": format!("entry-{}", entry.index),
        "type": coding("http://terminology.hl7.org/CodeSystem/audit-event-type", "rest"),
        "subtype": [{ "display": event }],
        "action": action,
        "recorded": entry.at(),
        "outcome": if refused { "4" } else { "0" },
        "agent": agents,
        "source": { "observer": { "display": gateway } },
        "entity": entities,
    });
    let purpose = entry.said("context", "purpose");
    if let (Some(object), false) = (value.as_object_mut(), purpose.is_empty()) {
        let coding = coding(
            "http://terminology.hl7.org/CodeSystem/v3-ActReason",
            purpose,
        );
        object.insert("purposeOfEvent".to_owned(), json!([{ "coding": [coding] }]));
    }
    value
}

/// RFC 5424 with one structured element; the enterprise number is the one kept for examples (RFC 5612).
fn syslog(entry: &Entry, gateway: &str) -> String {
    let escaped = |text: &str| {
        text.replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(']', "\\]")
            .replace(char::is_control, " ")
    };
    let host: String = gateway
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    let element: Vec<String> = COLUMNS
        .iter()
        .zip(values(entry))
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(&value)))
        .collect();
    // Facility 13 is the log audit; a refusal is a warning, the rest is informational (RFC 5424 §6.2.1).
    let priority = 13 * 8 + if entry.outcome() == "refuse" { 4 } else { 6 };
    let (at, event) = (entry.at(), entry.event());
    format!(
        "<{priority}>1 {at} {host} sallyport - {event} [sallyport@32473 {}]",
        element.join(" ")
    )
}

fn cef(entry: &Entry) -> String {
    let escaped = |text: &str| {
        text.replace('\\', "\\\\")
            .replace('=', "\\=")
            .replace(char::is_control, " ")
    };
    let severity = match (entry.is_emergency(), entry.outcome()) {
        (true, _) => 7,
        (false, "refuse") => 5,
        (false, _) => 2,
    };
    let pairs = [
        ("rt", entry.ts_ms.to_string()),
        ("externalId", entry.index.to_string()),
        ("outcome", entry.outcome().to_owned()),
        ("suser", entry.said("actor", "practitioner").to_owned()),
        ("suid", entry.said("actor", "client").to_owned()),
        ("reason", entry.said("context", "rule").to_owned()),
        ("cs1Label", "leafHash".to_owned()),
        ("cs1", entry.hash_hex()),
        ("cs2Label", "organisation".to_owned()),
        ("cs2", entry.said("actor", "organisation").to_owned()),
        ("cs3Label", "purpose".to_owned()),
        ("cs3", entry.said("context", "purpose").to_owned()),
        ("cs4Label", "patient".to_owned()),
        ("cs4", entry.patient().to_owned()),
    ];
    let pairs: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", escaped(value)))
        .collect();
    let (event, version) = (entry.event(), env!("CARGO_PKG_VERSION"));
    format!(
        "CEF:0|Sallyport|gateway|{version}|{event}|{event}|{severity}|{}",
        pairs.join(" ")
    )
}
