//! The searchset that local software gets (FHIR R4 §3.1.1.4): the practice's own bytes, entry by entry, inside a
//! Bundle of ours. Nothing is changed in a record, but an `id` is put in where it was deposited without one.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::connect::Record;
use crate::fhir::resource::FhirVersion;

/// What must be known of a record to hand it on as FHIR. Reading it shows that the rest is JSON.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "resourceType", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
}

/// A record and its text, read by [`resource`].
pub(super) type Read<'r> = (&'r Record, Cow<'r, str>);

/// A record as FHIR, if it is the resource that its name says.
pub(super) fn resource(record: &Record) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(&record.text).ok()?.trim();
    let head: Head<'_> = serde_json::from_str(text).ok()?;
    let (kind, id) = record.name.split_once('/')?;
    if head.kind != kind {
        return None;
    }
    match head.id {
        Some(_) => Some(Cow::Borrowed(text)),
        None => {
            let rest = text.strip_prefix('{')?;
            Some(Cow::Owned(format!("{{\"id\":{},{rest}", json!(id))))
        }
    }
}

/// The FHIR version of a record.
pub(super) fn version_of(record: &Record) -> Option<FhirVersion> {
    FhirVersion::from_content_type(&record.media_type).ok()
}

/// What stands around the entries.
pub(super) struct Frame<'a> {
    /// Base URL that the entries' own URLs begin with.
    pub(super) base: &'a str,
    /// When it was made, as FHIR writes it.
    pub(super) at: String,
    /// This page and the next, as the client is to ask for them.
    pub(super) itself: String,
    pub(super) next: Option<String>,
    /// Records of a version that was not asked for.
    pub(super) left_out: usize,
    pub(super) version: FhirVersion,
}

/// The Bundle.
pub(super) fn searchset(frame: &Frame<'_>, records: &[Read<'_>]) -> String {
    let link = |relation: &str, url: &str| json!({ "relation": relation, "url": url });
    let mut links = vec![link("self", &frame.itself)];
    links.extend(frame.next.as_deref().map(|url| link("next", url)));
    let room: usize = records.iter().map(|(_, text)| text.len() + 160).sum();
    let mut out = String::with_capacity(room + 1024);
    out.push_str("{\"resourceType\":\"Bundle\",\"id\":");
    let lines = [
        Value::from(keys::random_id()).to_string(),
        ",\"meta\":".to_owned(),
        json!({ "lastUpdated": frame.at }).to_string(),
        ",\"type\":\"searchset\",\"link\":".to_owned(),
        Value::from(links).to_string(),
    ];
    lines.iter().for_each(|text| out.push_str(text));
    let mut separator = ",\"entry\":[";
    for (record, text) in records {
        out.push_str(separator);
        out.push_str("{\"fullUrl\":");
        out.push_str(&json!(full_url(frame.base, record)).to_string());
        out.push_str(",\"resource\":");
        out.push_str(text);
        out.push_str(",\"search\":{\"mode\":\"match\"}}");
        separator = ",";
    }
    if frame.left_out > 0 {
        out.push_str(separator);
        out.push_str(&told(frame).to_string());
        separator = ",";
    }
    if separator == "," {
        out.push(']');
    }
    out.push('}');
    out
}

/// A name that references resolve to: a `urn:` of the deposited Bundle as it was, else this connector's own.
fn full_url(base: &str, record: &Record) -> String {
    match &record.full_url {
        Some(url) if url.starts_with("urn:") => url.clone(),
        Some(_) | None => format!("{base}/{}", record.name),
    }
}

/// Says in the Bundle itself what it does not hold.
fn told(frame: &Frame<'_>) -> Value {
    let (count, other) = match frame.version {
        FhirVersion::R4 => (frame.left_out, "3.0"),
        FhirVersion::Stu3 => (frame.left_out, "4.0"),
    };
    let text = format!(
        "{count} more records on this page are of FHIR {other}: ask with Accept: application/fhir+json; fhirVersion={other}"
    );
    json!({
        "resource": {
            "resourceType": "OperationOutcome", "id": "other-version",
            "issue": [{ "severity": "warning", "code": "incomplete", "details": { "text": text } }],
        },
        "search": { "mode": "outcome" },
    })
}
