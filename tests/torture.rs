//! Files made to break parsers, sent as deposits over TLS: each is refused in words or carried, none is stored by
//! half, none makes a 5xx. The files stand beside the workspace; where they are absent this is skipped loudly.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests may panic, and say what they skip"
)]

mod common;

use std::path::PathBuf;

use bytes::Bytes;
use common::*;
use hyper::StatusCode;
use sallyport::connect::Reply;

/// The files of one folder, sorted; nothing (and a loud line) where the folder is missing.
fn files(folder: &str) -> Vec<(String, Bytes)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/fhir")
        .join(folder);
    let Ok(entries) = std::fs::read_dir(&root) else {
        eprintln!("\n*** SKIPPED: there is no {} ***\n", root.display());
        return Vec::new();
    };
    let mut found: Vec<(String, Bytes)> = entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "json"))
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                std::fs::read(entry.path()).unwrap().into(),
            )
        })
        .collect();
    found.sort();
    found
}

/// A refusal in words: an OperationOutcome that says what is wrong and nothing of our inside.
fn refused_in_words(what: &str, reply: &Reply, statuses: &[u16]) {
    assert!(
        statuses.contains(&reply.status.as_u16()),
        "{what}: {} {}",
        reply.status,
        reply.text()
    );
    let outcome = reply.json();
    assert_eq!(
        outcome["resourceType"],
        "OperationOutcome",
        "{what}: {}",
        reply.text()
    );
    let text = outcome["issue"][0]["details"]["text"]
        .as_str()
        .unwrap_or_default();
    assert!(text.len() >= 20 && text.contains(' '), "{what}: {text}");
    assert!(
        text.len() < 1000 && text.chars().all(|c| !c.is_control()),
        "{what}: {text}"
    );
    says_nothing_inside(reply);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_refused_and_what_is_no_fhir_too() {
    let files = files("json-torture");
    if files.is_empty() {
        return;
    }
    let world = shared().await;
    let (practice, hospital) = (
        world.party("practice-a").unwrap(),
        world.party("hospital-a").unwrap(),
    );
    let nhs = hale().nhs;
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let before = names(&hospital, nhs).await;
    let mut counts = [0; 3];
    for (name, body) in &files {
        let replies = [
            put(&practice, &deposit, "Observation/torture", body.clone()).await,
            post(&practice, &deposit, body.clone()).await,
        ];
        for reply in &replies {
            match &name[..2] {
                "n_" => {
                    refused_in_words(name, reply, &[400, 413]);
                    counts[0] += 1;
                }
                // RFC 8259 §4 only advises against a name that stands twice; here it is refused.
                "y_" if name.starts_with("y_object_duplicated_key") => {
                    refused_in_words(name, reply, &[400])
                }
                "y_" => {
                    refused_in_words(name, reply, &[422]);
                    counts[1] += 1;
                }
                _ => {
                    refused_in_words(name, reply, &[400, 413, 422]);
                    counts[2] += 1;
                }
            }
        }
    }
    assert!(
        counts[0] > 300 && counts[1] > 150 && counts[2] > 50,
        "{counts:?}"
    );
    assert_eq!(names(&hospital, nhs).await, before, "nothing was stored");
    // Inside a resource that would be filed: one bad value anywhere, and nothing of the whole is.
    let good = observation("torture", nhs, "1-1", "2026").to_string();
    for (name, body) in files.iter().filter(|(name, _)| name.starts_with("n_")) {
        let mut whole = good.trim_end_matches('}').as_bytes().to_vec();
        whole.extend_from_slice(b",\"extra\":");
        whole.extend_from_slice(body);
        whole.push(b'}');
        // Why: a few of them become good JSON when something good follows, or what they cut off is completed.
        if serde_json::from_slice::<serde_json::Value>(&whole).is_ok() {
            continue;
        }
        refused_in_words(
            name,
            &put(&practice, &deposit, "Observation/torture", whole).await,
            &[400, 413],
        );
    }
    assert_eq!(names(&hospital, nhs).await, before, "nothing was stored");
    let reply = put(&practice, &deposit, "Observation/torture", good).await;
    assert_eq!(
        reply.status,
        StatusCode::CREATED,
        "and what is good still is: {}",
        reply.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_fhir_is_refused_whole_or_carried_as_it_is() {
    let world = shared().await;
    let (practice, hospital) = (
        world.party("practice-a").unwrap(),
        world.party("hospital-a").unwrap(),
    );
    let nhs = quill().nhs;
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    for (name, body) in files("fhir-torture") {
        let before = names(&hospital, nhs).await;
        let top: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let reply = match (top["resourceType"].as_str(), top["id"].as_str()) {
            (Some(kind), Some(id)) if kind != "Bundle" => {
                put(&practice, &deposit, &format!("{kind}/{id}"), body.clone()).await
            }
            _ => post(&practice, &deposit, body.clone()).await,
        };
        if reply.status.is_success() {
            receipt(&reply, world.vkey());
        } else {
            let bad_json = name.starts_with("bad-json");
            refused_in_words(&name, &reply, if bad_json { &[400] } else { &[422] });
            assert_eq!(
                names(&hospital, nhs).await,
                before,
                "{name}: nothing of it was stored"
            );
        }
        assert!(
            !(name.starts_with("bad-json") && reply.status.is_success()),
            "{name}"
        );
    }
}
