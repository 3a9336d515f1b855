//! What administrators do to keys, end to end over mutual TLS: the log's key hands over, a KEK version is destroyed by
//! two, a patient is erased by two and stays erased, also where older copies of the store are put back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use common::*;
use hyper::{Method, StatusCode};
use sallyport::assembly;
use sallyport::config::Config;
use sallyport::connect::{Party, Reply};
use sallyport::ledger::audit;
use sallyport::store::{Store as _, WriteSet};
use serde_json::{Value, json};
use std::time::Duration;

async fn post(admin: &Party, path: &str, body: &Value) -> Reply {
    let reply = admin.http.send(Method::POST, path, &[], body.to_string());
    reply.await.unwrap()
}

async fn shown(admin: &Party, path: &str) -> Value {
    let reply = admin.http.send(Method::GET, path, &[], "").await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()
}

async fn turn(admin: &Party, key: &str, what: &str) -> Reply {
    post(admin, &format!("/admin/keys/{key}/{what}"), &Value::Null).await
}

/// Proposed by one, approved by the other.
async fn by_two(stage: &Stage, act: &str, object: &str, payload: Value) -> Reply {
    let (one, two) = (stage.party("admin-1"), stage.party("admin-2"));
    let body = json!({ "act": act, "object": object, "why": "a test", "payload": payload });
    let proposed = post(&one, "/admin/acts", &body).await;
    if proposed.status != StatusCode::ACCEPTED {
        return proposed;
    }
    let digest = proposed.json()["proposal"]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/admin/proposals/{digest}/approve");
    let own = post(&one, &path, &json!({})).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN, "nobody approves alone");
    post(&two, &path, &json!({})).await
}

/// Rotates and waits until the version before is retired.
async fn rotated(admin: &Party, key: &str) {
    assert_eq!(
        turn(admin, key, "rotate").await.status,
        StatusCode::ACCEPTED
    );
    for _ in 0..500 {
        let shown = shown(admin, &format!("/admin/keys/{key}")).await;
        let versions = shown["versions"].as_array().unwrap();
        if versions.iter().all(|row| row["state"] != "retiring") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the rotation of {key} does not finish");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_logs_key_hands_over_and_who_holds_the_first_one_follows() {
    let stage = Stage::new().await;
    let (admin, nhs) = (stage.party("admin-1"), hale().nhs);
    let first = stage.vkey().clone();
    let kept = std::fs::read_to_string(stage.path().join("log/checkpoint")).unwrap();
    // Without an announced key nothing is activated, and nothing turns at once.
    for what in ["activate", "rotate"] {
        let reply = turn(&admin, "ledger-signing", what).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{}", reply.text());
    }
    for round in 1..=2 {
        let reply = turn(&admin, "ledger-signing", "announce").await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        // Overlap: receipts verify under the key before and under the next one.
        let read = token(&stage.party("hospital-a"), &treat(nhs)).await;
        let reply = get(&stage.party("hospital-a"), &read, &everything(nhs)).await;
        if round == 1 {
            receipt(&reply, &first);
        }
        let before = stage.party("hospital-a");
        let reply = turn(&admin, "ledger-signing", "activate").await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(reply.json()["version"], round + 1);
        // Who still checks by the key before believes nothing more; who was told of the next one goes on.
        let asked = before.token(&treat(nhs), now_s()).await;
        let error = asked.expect_err("another key signs").to_string();
        assert!(error.contains("not signed by this log's key"), "{error}");
    }
    let now = shown(&admin, "/admin/keys").await["log_vkey"].clone();
    let now: sallyport::ledger::Vkey = now.as_str().unwrap().parse().unwrap();
    assert_ne!(now, first);
    let read = token(&stage.party("hospital-a"), &treat(nhs)).await;
    let reply = get(&stage.party("hospital-a"), &read, &everything(nhs)).await;
    receipt(&reply, &now);
    // It starts again, though checkpoints on its disk were signed by keys that are gone.
    let stage = stage.restart().await;
    assert_eq!(stage.vkey(), &now);
    let (dir, _) = stage.stop().await;
    let known = [kept];
    let check = audit::Check {
        known: &known,
        ..audit::Check::default()
    };
    let folder = audit::Folder(dir.path().join("log"));
    let report = audit::verify(&folder, &first, &check);
    assert!(report.holds(), "{:?}", report.findings);
    assert_eq!(report.keys.len(), 3);
    assert_eq!(report.keys.last().unwrap(), &now.to_string());
    assert!(verify(dir.path(), &now).holds(), "and from the last key");
    // A key that nobody handed over to, or from, leads nowhere.
    let stranger = sallyport::ledger::Vkey::new(first.name(), [9; 32]).unwrap();
    assert!(!audit::verify(&folder, &stranger, &check).holds());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_patient_stays_erased_and_the_gateway_says_when_it_is_complete() {
    let stage = Stage::new().await;
    let (admin, nhs) = (stage.party("admin-1"), hale().nhs);
    let hospital = stage.party("hospital-a");
    let before = names(&hospital, nhs).await;
    assert!(!before.is_empty());
    // A version in use is not destroyed, and an erasure needs a patient and a second person.
    let refused = by_two(&stage, "kek.destroy", "A81001/1", Value::Null).await;
    assert_eq!(refused.status, StatusCode::CONFLICT, "{}", refused.text());
    assert!(
        refused.text().contains("only a retired version"),
        "{}",
        refused.text()
    );
    let erased = by_two(&stage, "patient.erase", "A81001", json!({ "patient": nhs })).await;
    assert_eq!(erased.status, StatusCode::OK, "{}", erased.text());
    assert!(
        names(&hospital, nhs).await.is_empty(),
        "no record is left to read"
    );
    let waiting = shown(&admin, "/admin/erasures").await;
    let waiting = &waiting["erasures"][0];
    assert_eq!(
        (&waiting["state"], &waiting["waits_for"]),
        (&json!("waiting"), &json!([1]))
    );
    assert!(!waiting.to_string().contains(nhs));
    // The index made anew from the segments, in which the old rows still stand, brings nobody back.
    let stage = stage.after(|dir| {
        let config = Config::load(&dir.join("sallyport.toml")).unwrap();
        let passphrase = zeroize::Zeroizing::new(std::fs::read(dir.join("passphrase")).unwrap());
        let rebuilt = assembly::rebuild(&config, &passphrase).unwrap();
        assert!(rebuilt.is_rebuilt);
    });
    let stage = stage.await.unwrap();
    let (admin, hospital) = (stage.party("admin-1"), stage.party("hospital-a"));
    assert!(names(&hospital, nhs).await.is_empty());
    // Complete when the version that could open a copy is destroyed, by two again.
    rotated(&admin, "A81001").await;
    let destroyed = by_two(&stage, "kek.destroy", "A81001/1", Value::Null).await;
    assert_eq!(destroyed.status, StatusCode::OK, "{}", destroyed.text());
    let complete = shown(&admin, "/admin/erasures").await;
    assert_eq!(complete["erasures"][0]["state"], "complete", "{complete}");
    let key = shown(&admin, "/admin/keys/A81001").await;
    assert_eq!(key["versions"][0]["state"], "destroyed");
    // Others' records are as they were, and the patient may come back under a fresh key.
    let practice = stage.party("practice-a");
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let body = observation("back-again", nhs, "1-1", "2026").to_string();
    let reply = put(&practice, &deposit, "Observation/back-again", body).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    let stage = stage.restart().await;
    assert_eq!(names(&stage.party("hospital-a"), nhs).await.len(), 1);
    let entries = stage.entries().await;
    let events = |event: &str| {
        let named = format!("\"ev\":\"{event}\"");
        entries
            .values()
            .filter(|leaf| leaf.contains(&named))
            .count()
    };
    assert_eq!((events("patient.erase"), events("patient.erased")), (1, 1));
    assert_eq!(events("key.destroyed"), 1);
    assert!(entries.values().all(|leaf| !leaf.contains(nhs)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_still_wraps_keys_is_not_retired_and_the_answer_says_how_many() {
    const KEYS: usize = 40_000;
    let stage = Stage::new().await;
    let (dir, _) = stage.stop().await;
    let (store, room) = store_behind(dir.path());
    let practice = policy::words::Ods::try_from(PRACTICE_A).unwrap();
    for _ in 0..KEYS / 4_000 {
        let writes = room.record_keys(&practice, 4_000).unwrap();
        let token = None;
        store.commit(WriteSet { writes, token }).await.unwrap();
    }
    drop((store, room));
    let stage = Stage::again(dir, any()).await.unwrap();
    let admin = stage.party("admin-1");
    let retire = |version: u64| {
        let admin = stage.party("admin-1");
        async move {
            let path = format!("/admin/keys/{PRACTICE_A}/retire");
            post(&admin, &path, &json!({ "version": version })).await
        }
    };
    let reply = retire(1).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    assert!(reply.text().contains("is active"), "{}", reply.text());
    let turned = turn(&admin, PRACTICE_A, "rotate").await;
    assert_eq!(turned.status, StatusCode::ACCEPTED, "{}", turned.text());
    // At once, with the rewrap under way.
    let reply = retire(1).await;
    assert_eq!(reply.status, StatusCode::CONFLICT);
    let said = reply.json();
    let text = said["error_description"].as_str().unwrap();
    let left = text
        .split_whitespace()
        .find_map(|word| word.parse::<usize>().ok().filter(|left| *left > 1));
    assert!(left.is_some_and(|left| left <= KEYS + 10), "{text}");
    // A retired version only opens: once none is left, nothing is sealed under it again.
    for _ in 0..600 {
        let shown = shown(&admin, &format!("/admin/keys/{PRACTICE_A}")).await;
        if shown["versions"][0]["state"] == "retired" {
            assert_eq!(shown["versions"][0]["wraps"], 0);
            assert!(shown["versions"][1]["wraps"].as_u64().unwrap() >= KEYS as u64);
            assert_eq!(retire(2).await.status, StatusCode::CONFLICT, "in use");
            assert_eq!(retire(9).await.status, StatusCode::CONFLICT, "no such");
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the rotation does not finish");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyring_from_an_older_copy_starts_no_gateway() {
    let stage = Stage::new().await;
    let config = Config::load(&stage.path().join("sallyport.toml")).unwrap();
    let (keyring, before) = (config.keyring(), folder());
    let kept = before.path().join("keyring");
    let put = |from: &std::path::Path, to: &std::path::Path| {
        if from.is_dir() {
            let _ = std::fs::remove_dir_all(to);
            std::fs::create_dir_all(to).unwrap();
            copy(from, to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    };
    put(&keyring, &kept);
    rotated(&stage.party("admin-1"), PRACTICE_A).await;
    // What is wrapped under the new version could not be opened, and versions that were destroyed would be back.
    let refused = stage.after(|_| put(&kept, &keyring)).await;
    let refused = refused.err().expect("it does not serve").to_string();
    assert!(refused.contains("the keyring stands at epoch"), "{refused}");
    assert!(refused.contains("put the newer one back"), "{refused}");
}
