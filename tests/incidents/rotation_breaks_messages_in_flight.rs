//! Incident: key rotations that make what is under way unreadable: messages and tokens made under the old key are refused after it changed (a known failure of JWKS rollovers and of envelope encryption with one key).
//! Here it would mean: an answer, a token or a page link from before a rotation is useless after it, and care waits.
//! Stopped by: a rotation rewraps record keys only (`Vault::rewrap`); what a signing key signed still verifies (`Keyring::verifying`); a version is retired only when none is left under it.

use crate::common::*;
use hyper::{Method, StatusCode};
use sallyport::connect::{Party, Reply};
use sallyport::ledger::audit;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_arrives() {
    let stage = Stage::new().await;
    let (hospital, admin) = (stage.party("hospital-a"), stage.party("admin-1"));
    let nhs = hale().nhs;
    let read = token(&hospital, &treat(nhs)).await;
    let before = get(&hospital, &read, &everything(nhs)).await;
    let first = get(&hospital, &read, &format!("{}?_count=4", everything(nhs))).await;
    let link = open(&hospital, &first, nhs).await.next.unwrap();
    let practice = stage.party("practice-a");
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let keys = hospital.keys().await.unwrap();
    for version in 2..=5 {
        let reply = admin
            .http
            .send(
                Method::POST,
                &format!("/admin/keys/{PRACTICE_A}/rotate"),
                &[],
                "",
            )
            .await
            .unwrap();
        assert_eq!(
            (reply.status, reply.json()["version"].as_u64()),
            (StatusCode::ACCEPTED, Some(version))
        );
        // The answer of before opens; the token of before reads; the link of before leads on; deposits go on.
        let opened = hospital.open(&before, nhs, &keys, now_s()).unwrap();
        assert!(opened.records.len() > 5);
        let next = get(&hospital, &read, &link).await;
        assert_eq!(open(&hospital, &next, nhs).await.records.len(), 4);
        let id = format!("during-{version}");
        let body = observation(&id, nhs, "1-1", "2026").to_string();
        let reply = put(
            &practice,
            &deposit,
            &format!("Observation/{id}"),
            body.clone(),
        )
        .await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
        let reply = get(&hospital, &read, &format!("/fhir/Observation/{id}")).await;
        assert_eq!(
            open(&hospital, &reply, nhs).await.records[0].text,
            body.as_bytes()
        );
    }
    let lines = |text: String| {
        text.lines()
            .filter(|line| line.starts_with("{\"record\""))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let after = lines(get(&hospital, &read, &everything(nhs)).await.text());
    for line in lines(before.text()) {
        assert!(after.contains(&line), "the stored envelopes are untouched");
    }
}

/// What an admin asks of a key.
async fn act(admin: &Party, key: &str, what: &str, body: &str) -> Reply {
    let path = format!("/admin/keys/{key}/{what}");
    let reply = admin.http.send(Method::POST, &path, &[], body.to_owned());
    reply.await.unwrap()
}

async fn shown(admin: &Party, key: &str) -> Value {
    let path = format!("/admin/keys/{key}");
    let reply = admin.http.send(Method::GET, &path, &[], "").await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()
}

fn states(key: &Value) -> Vec<String> {
    let versions = key["versions"].as_array().unwrap();
    let state = |version: &Value| version["state"].as_str().unwrap().to_owned();
    versions.iter().map(state).collect()
}

/// Until every older version of this key is retired.
async fn finished(admin: &Party, key: &str) -> Value {
    for _ in 0..500 {
        let key = shown(admin, key).await;
        if !states(&key).contains(&"retiring".to_owned()) {
            return key;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the rotation of {key} does not finish");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_turns_under_traffic_and_no_read_fails() {
    let stage = Stage::new().await;
    let (hospital, admin) = (stage.party("hospital-a"), stage.party("admin-1"));
    let (practice, nhs) = (stage.party("practice-a"), hale().nhs);
    let read = token(&hospital, &treat(nhs)).await;
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let before = get(&hospital, &read, &everything(nhs)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let reading = {
        let (stop, hospital, read) = (Arc::clone(&stop), stage.party("hospital-a"), read.clone());
        tokio::spawn(async move {
            let (mut count, mut failed) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let reply = get(&hospital, &read, &everything(nhs)).await;
                let keys = hospital.keys().await.unwrap();
                match hospital.open(&reply, nhs, &keys, now_s()) {
                    Ok(opened) if !opened.records.is_empty() => count += 1,
                    Ok(_) => failed.push("no records".to_owned()),
                    Err(error) => failed.push(error.to_string()),
                }
            }
            (count, failed)
        })
    };
    for round in 0..3 {
        for key in [PRACTICE_A, "audit"] {
            assert_eq!(
                act(&admin, key, "rotate", "").await.status,
                StatusCode::ACCEPTED
            );
            let key = finished(&admin, key).await;
            assert_eq!(states(&key).pop().unwrap(), "active");
            let under = |row: &Value| row["wraps"].as_u64().unwrap();
            let versions = key["versions"].as_array().unwrap();
            let (last, older) = versions.split_last().unwrap();
            assert!(
                under(last) > 0 && older.iter().all(|row| under(row) == 0),
                "{key}"
            );
        }
        for key in ["token-signing", "ticket-signing", "deposit-signing"] {
            assert_eq!(
                act(&admin, key, "announce", "").await.status,
                StatusCode::OK
            );
            let twice = act(&admin, key, "announce", "").await;
            assert_eq!(twice.status, StatusCode::CONFLICT, "{}", twice.text());
            assert_eq!(
                act(&admin, key, "activate", "").await.status,
                StatusCode::OK
            );
            let id = format!("under-{key}-{round}");
            let body = observation(&id, nhs, "1-1", "2026").to_string();
            let reply = put(&practice, &deposit, &format!("Observation/{id}"), body).await;
            assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
        }
        let reply = act(&admin, "ledger-bodies", "rotate", "").await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    }
    stop.store(true, Ordering::Relaxed);
    let (count, failed) = reading.await.unwrap();
    assert!(
        count > 5 && failed.is_empty(),
        "{count} reads, failed: {failed:?}"
    );
    // What was answered under the first keys of all still opens, with keys fetched now.
    let keys = hospital.keys().await.unwrap();
    assert!(hospital.open(&before, nhs, &keys, now_s()).is_ok());
    assert_eq!(
        get(&hospital, &read, &everything(nhs)).await.status,
        StatusCode::OK,
        "the token of before the first rotation"
    );
    // A key in use is not retired; one under which nothing is left has been.
    let refused = act(&admin, PRACTICE_A, "retire", r#"{"version":4}"#).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    assert!(refused.text().contains("rotate the key first"));
    assert_eq!(
        states(&shown(&admin, PRACTICE_A).await),
        ["retired", "retired", "retired", "active"]
    );
    // The ledger says of each rotation that none is left, and which versions that was true of.
    let vkey = stage.vkey().clone();
    let (dir, _) = stage.stop().await;
    assert!(verify(dir.path(), &vkey).holds());
    let rotated: Vec<Value> = leaves(&dir.path().join("data/journal"))
        .into_iter()
        .filter(|leaf| leaf["ev"] == "kek.rotated" && leaf["owner"] == PRACTICE_A)
        .collect();
    assert_eq!(rotated.len(), 3);
    for (turn, leaf) in (1..).zip(rotated) {
        assert_eq!(
            (&leaf["left"], &leaf["emptied"]),
            (&json!(0), &json!([turn]))
        );
    }
}

/// Every leaf of a stopped gateway's journal.
fn leaves(journal: &std::path::Path) -> Vec<Value> {
    let mut leaves = Vec::new();
    let origin = std::fs::read_to_string(journal.join("../../log/checkpoint")).unwrap();
    let origin = origin.lines().next().unwrap();
    audit::entries(journal, origin, &mut |leaf, _| {
        leaves.push(serde_json::from_str(leaf.text()).unwrap());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    leaves
}
