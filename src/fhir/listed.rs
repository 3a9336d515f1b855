//! What a List warns of, its entries inherit: GP Connect's list warnings (`confidential-items` and such) stand on the
//! List, and a record that the List names must not leave where the List may not. References are matched as they are
//! written: by `fullUrl`, or by `TYPE/ID` at their end. What the List left out is not here to be labelled.

use std::collections::{BTreeMap, BTreeSet};

use policy::words::Label;

use super::deposit::Item;
use super::json::{Document, Value};
use super::label;

/// Lays the warnings of each List over the records it names.
pub(super) fn inherit(items: &mut [Item]) {
    let mut named: BTreeMap<String, BTreeSet<Label>> = BTreeMap::new();
    for item in items.iter().filter(|item| item.card.kind.is("List")) {
        let Ok(document) = Document::parse(&item.text) else {
            continue;
        };
        let list = document.root();
        let warnings = label::warnings(list);
        if warnings.is_empty() {
            continue;
        }
        for entry in list.get("entry").into_iter().flat_map(Value::each) {
            let reference = entry.get("item").and_then(|item| item.text_at("reference"));
            if let Some(reference) = reference {
                let labels = named.entry(reference.into_owned()).or_default();
                labels.extend(&warnings);
            }
        }
    }
    if named.is_empty() {
        return;
    }
    // `TYPE/ID` at the end of an absolute reference names the same record.
    let ends: Vec<(String, BTreeSet<Label>)> = named
        .iter()
        .filter_map(|(reference, labels)| Some((end(reference)?, labels.clone())))
        .collect();
    for (end, labels) in ends {
        named.entry(end).or_default().extend(labels);
    }
    for item in items {
        let name = item.name.as_ref();
        let name = name.map(|name| format!("{}/{}", name.kind, name.id.as_str()));
        for key in item.full_url.iter().chain(&name) {
            item.card
                .labels
                .extend(named.get(key).into_iter().flatten());
        }
    }
}

fn end(reference: &str) -> Option<String> {
    let mut parts = reference.rsplit('/');
    let (id, kind) = (parts.next()?, parts.next()?);
    parts.next()?;
    Some(format!("{kind}/{id}"))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use bytes::Bytes;

    use super::super::deposit::{Form, read_deposit};
    use super::super::resource::FhirVersion;
    use super::*;

    const URL: &str =
        "https://fhir.nhs.uk/STU3/StructureDefinition/Extension-CareConnect-GPC-ListWarningCode-1";

    fn labels(warning: &str, reference: &str) -> Vec<Vec<Label>> {
        let list = format!(
            r#"{{"resourceType":"List","id":"l","status":"current","mode":"snapshot",
                "extension":[{{"url":"{URL}","valueCode":"{warning}"}}],
                "subject":{{"reference":"Patient/p"}},"entry":[{{"item":{{"reference":"{reference}"}}}}]}}"#
        );
        let patient = r#"{"resourceType":"Patient","id":"p","identifier":[{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}]}"#;
        let record = |id: &str| {
            format!(
                r#"{{"resourceType":"Condition","id":"{id}","subject":{{"reference":"Patient/p"}}}}"#
            )
        };
        let entries = [patient.to_owned(), record("named"), record("other"), list];
        let entries: Vec<String> = entries
            .iter()
            .enumerate()
            .map(|(at, it)| format!(r#"{{"fullUrl":"urn:uuid:{at}","resource":{it}}}"#))
            .collect();
        let text = format!(
            r#"{{"resourceType":"Bundle","type":"collection","entry":[{}]}}"#,
            entries.join(",")
        );
        let batch = read_deposit(&Bytes::from(text), FhirVersion::Stu3, Form::Bundle).unwrap();
        let labels = batch
            .items
            .iter()
            .map(|it| it.card.labels.iter().copied().collect());
        labels.collect()
    }

    #[test]
    fn what_a_list_names_inherits_its_warning_and_nothing_else_does() {
        for reference in [
            "Condition/named",
            "https://gp.example/fhir/Condition/named",
            "urn:uuid:1",
        ] {
            let read = labels("confidential-items", reference);
            assert_eq!(
                read,
                [vec![], vec![Label::R], vec![], vec![Label::R]],
                "{reference}"
            );
        }
        assert_eq!(
            labels("data-in-transit", "Condition/named"),
            vec![vec![]; 4]
        );
        assert_eq!(labels("confidential-items", "Condition/none")[1], []);
        assert_eq!(
            labels("something-new", "Condition/named")[1],
            [Label::Unrecognised]
        );
    }

    /// Real exports, where they are: every record that a warning List names carries its warning.
    #[test]
    fn real_exports_inherit_too() {
        let folder = std::path::Path::new("../shared/fhir/gpconnect-stu3");
        let Ok(files) = std::fs::read_dir(folder) else {
            println!("SKIPPED: ../shared/fhir/gpconnect-stu3 is not here");
            return;
        };
        let (mut lists, mut inherited) = (0, 0);
        for file in files {
            let file = file.unwrap().path();
            if file.is_dir() {
                continue;
            }
            let bytes = Bytes::from(std::fs::read(file).unwrap());
            let Ok(batch) = read_deposit(&bytes, FhirVersion::Stu3, Form::Bundle) else {
                continue;
            };
            for item in batch.items.iter().filter(|it| it.card.kind.is("List")) {
                let document = Document::parse(&item.text).unwrap();
                let warnings = label::warnings(document.root());
                if warnings.is_empty() {
                    continue;
                }
                lists += 1;
                for entry in document
                    .root()
                    .get("entry")
                    .into_iter()
                    .flat_map(Value::each)
                {
                    let reference = entry.get("item").and_then(|it| it.text_at("reference"));
                    let Some(reference) = reference else { continue };
                    let is_it = |it: &&Item| {
                        let name = it
                            .name
                            .as_ref()
                            .map(|name| format!("{}/{}", name.kind, name.id.as_str()));
                        name.as_deref() == Some(reference.as_ref())
                            || it.full_url.as_deref() == Some(reference.as_ref())
                    };
                    if let Some(found) = batch.items.iter().find(is_it) {
                        assert!(found.card.labels.is_superset(&warnings), "{reference}");
                        inherited += 1;
                    }
                }
            }
        }
        println!("{lists} lists with a warning, {inherited} records inherited one");
    }
}
