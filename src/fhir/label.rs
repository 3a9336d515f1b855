//! Sensitivity labels, read from what the practice wrote; they are never inferred from clinical codes.
//!
//! A security label that we cannot read is [`Label::Unrecognised`], which no agreement covers: what is not
//! understood is withheld. Only confidentiality N, M, L and U mean "ordinary".

use super::json::Value;
use policy::words::Label;
use std::collections::BTreeSet;

const CONFIDENTIALITY: [&str; 3] = [
    "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
    "http://hl7.org/fhir/v3/Confidentiality",
    "urn:oid:2.16.840.1.113883.5.25",
];

/// The labels of a resource: its `meta.security` and its contained resources', a document's own label, a
/// composition's confidentiality, a GP Connect list's warning code.
pub(super) fn labels(resource: Value<'_>) -> BTreeSet<Label> {
    let mut labels = BTreeSet::new();
    for (name, value) in resource.members() {
        match name.as_ref() {
            "meta" => labels.extend(security(value)),
            "contained" => labels.extend(value.items().flat_map(self::labels)),
            "securityLabel" => labels.extend(value.each().flat_map(concept)),
            "confidentiality" => labels.extend(confidentiality(value)),
            "extension" => labels.extend(value.items().flat_map(warning)),
            _ => {}
        }
    }
    labels
}

/// What a GP Connect list warns of.
pub(super) fn warnings(list: Value<'_>) -> BTreeSet<Label> {
    let extensions = list.get("extension").into_iter().flat_map(Value::items);
    extensions.filter_map(warning).collect()
}

/// The labels of a `meta`.
pub(super) fn security(meta: Value<'_>) -> BTreeSet<Label> {
    let tags = meta.get("security");
    tags.into_iter()
        .flat_map(Value::each)
        .filter_map(coding)
        .collect()
}

fn concept(value: Value<'_>) -> BTreeSet<Label> {
    match value.get("coding") {
        Some(codings) => codings.each().filter_map(coding).collect(),
        None => BTreeSet::from([Label::Unrecognised]),
    }
}

fn coding(value: Value<'_>) -> Option<Label> {
    let Some(code) = value.text_at("code") else {
        return Some(Label::Unrecognised);
    };
    let system = value.text_at("system").unwrap_or_default();
    label(&code, CONFIDENTIALITY.contains(&system.as_ref()))
}

/// `Composition.confidentiality` is a bare code in R4 and STU3.
fn confidentiality(value: Value<'_>) -> Option<Label> {
    match value.text() {
        Some(code) => label(&code, true),
        None => Some(Label::Unrecognised),
    }
}

/// The label that a code means. Why no list of systems for the sensitive codes: a sensitive code under the
/// wrong system is still a warning, so only "ordinary" has to say which system it is of.
fn label(code: &str, is_confidentiality: bool) -> Option<Label> {
    if is_confidentiality && matches!(code, "N" | "M" | "L" | "U") {
        return None;
    }
    Some(Label::try_from(code).unwrap_or(Label::Unrecognised))
}

/// GP Connect's list warning: `confidential-items` says that restricted items were in the list; data in
/// transit or awaiting filing says nothing about sensitivity.
fn warning(extension: Value<'_>) -> Option<Label> {
    let url = extension.text_at("url")?;
    if !url.contains("ListWarningCode") {
        return None;
    }
    let value = ["valueCode", "valueCoding", "valueCodeableConcept"]
        .into_iter()
        .find_map(|name| extension.get(name));
    let concept = value
        .and_then(|value| value.get("coding"))
        .and_then(|codings| codings.each().next())
        .or(value);
    let code = concept.and_then(|value| value.text().or_else(|| value.text_at("code")));
    match code.as_deref() {
        Some("data-in-transit" | "data-awaiting-filing") => None,
        Some("confidential-items") => Some(Label::R),
        _ => Some(Label::Unrecognised),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::super::json::Document;
    use super::*;

    fn read(text: &str) -> Vec<Label> {
        labels(Document::parse(text.as_bytes()).unwrap().root())
            .into_iter()
            .collect()
    }

    fn tagged(coding: &str) -> Vec<Label> {
        read(&format!(r#"{{"meta":{{"security":[{coding}]}}}}"#))
    }

    #[test]
    fn confidentiality_and_sensitivity_are_read() {
        for system in CONFIDENTIALITY {
            assert_eq!(
                tagged(&format!(r#"{{"system":"{system}","code":"R"}}"#)),
                [Label::R]
            );
            for ordinary in ["N", "M", "L", "U"] {
                assert_eq!(
                    tagged(&format!(r#"{{"system":"{system}","code":"{ordinary}"}}"#)),
                    []
                );
            }
        }
        let act = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
        assert_eq!(
            tagged(&format!(
                r#"{{"system":"{act}","code":"PSY"}},{{"system":"{act}","code":"HIV"}}"#
            )),
            [Label::PSY, Label::HIV]
        );
    }

    #[test]
    fn what_cannot_be_read_is_withheld() {
        for coding in [
            r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"NODSCLCD"}"#,
            r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"N"}"#,
            r#"{"system":"https://example.org/local","code":"hush"}"#,
            r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"r"}"#,
            r#"{"code":"N"}"#,
            r#"{"display":"restricted"}"#,
            r#""R""#,
        ] {
            assert_eq!(tagged(coding), [Label::Unrecognised], "{coding}");
        }
        assert_eq!(read(r#"{"meta":{"security":{"code":"R"}}}"#), [Label::R]);
    }

    #[test]
    fn other_places_that_label() {
        assert_eq!(
            read(r#"{"contained":[{"meta":{"security":[{"code":"SDV"}]}}]}"#),
            [Label::SDV]
        );
        assert_eq!(read(r#"{"confidentiality":"V"}"#), [Label::V]);
        assert_eq!(read(r#"{"confidentiality":"N"}"#), []);
        assert_eq!(
            read(r#"{"securityLabel":[{"coding":[{"code":"STD"}]},{"text":"?"}]}"#),
            [Label::STD, Label::Unrecognised]
        );
        let list = |code: &str| {
            let url = "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-ListWarningCode-1";
            read(&format!(
                r#"{{"extension":[{{"url":"{url}","valueCode":"{code}"}}]}}"#
            ))
        };
        assert_eq!(list("confidential-items"), [Label::R]);
        assert_eq!(list("data-in-transit"), []);
        assert_eq!(list("something-new"), [Label::Unrecognised]);
    }
}
