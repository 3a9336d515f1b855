//! Which FHIR version a client wants. Records are carried as they were deposited, R4 or STU3; a client that does not
//! say gets R4, and is told of what is of the other version instead of being handed it under the wrong name.

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, StatusCode};

use super::said::Trouble;
use crate::fhir::outcome::IssueCode;
use crate::fhir::resource::FhirVersion;

/// The version that a request wants.
pub(super) fn version(headers: &HeaderMap) -> Result<FhirVersion, Trouble> {
    let all: Vec<&str> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    if all.is_empty() {
        return Ok(FhirVersion::R4);
    }
    let found = all.iter().find_map(|range| of_range(range));
    found.ok_or_else(not_acceptable)
}

fn of_range(range: &str) -> Option<FhirVersion> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let known = [
        "*/*",
        "application/*",
        "application/json",
        "application/fhir+json",
    ];
    if !known.contains(&media.as_str()) {
        return None;
    }
    let wanted = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let is_version = name.trim().eq_ignore_ascii_case("fhirVersion");
        is_version.then(|| value.trim().trim_matches('"').to_owned())
    });
    match wanted.as_deref() {
        None | Some("4.0" | "4.0.1") => Some(FhirVersion::R4),
        Some("3.0" | "3.0.2") => Some(FhirVersion::Stu3),
        Some(_) => None,
    }
}

pub(super) fn not_acceptable() -> Trouble {
    Trouble::Request(
        StatusCode::NOT_ACCEPTABLE,
        IssueCode::NotSupported,
        "Accept: only application/fhir+json is served, with fhirVersion=4.0 (the default) or 3.0"
            .to_owned(),
    )
}
