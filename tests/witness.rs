//! That a gateway which shows two logs, or takes entries away, is found: by each caller in its next answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::*;
use hyper::{Method, StatusCode};
use sallyport::connect::{HistoryError, HttpError, Party, Seen};
use sallyport::ledger::note::Checkpoint;
use sallyport::ledger::tree::{Hash, proves_consistency};
use serde_json::Value;

/// One ask and one read, each held against what was seen before.
async fn reads(hospital: &Party) -> Result<(), HttpError> {
    let asked = hospital.ask(&treat(hale().nhs), now_s()).await?;
    let token = asked.json()["access_token"].as_str().unwrap().to_owned();
    let path = everything(hale().nhs);
    assert_eq!(hospital.read(&path, &token).await?.status, StatusCode::OK);
    Ok(())
}

fn history(result: Result<(), HttpError>) -> HistoryError {
    match result {
        Err(HttpError::History(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("another history was believed"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_proves_that_the_log_it_stands_in_goes_on_from_the_last() {
    let stage = Stage::new().await;
    let file = stage.path().join("log.seen");
    let party = || Party {
        seen: Some(Seen::in_file(&file, stage.vkey()).unwrap()),
        ..stage.party("hospital-a")
    };
    let hospital = party();
    for _ in 0..3 {
        reads(&hospital).await.unwrap();
    }
    // A program that starts again goes on where it was; refusals prove it too.
    let hospital = party();
    let before: u64 = hospital
        .seen
        .as_ref()
        .unwrap()
        .last()
        .unwrap()
        .size()
        .parse()
        .unwrap();
    let refused = hospital.ask(&treat(NOBODY), now_s()).await.unwrap();
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let proof = refused.header("sallyport-consistency").unwrap();
    assert!(proof.starts_with(&format!("{before} ")), "{proof}");
    assert!(receipt(&refused, stage.vkey()).checkpoint.size > before);

    for value in ["0", "-1", "01", "x", "18446744073709551616", ""] {
        let headers = [("sallyport-seen", value)];
        let reply = hospital
            .http
            .send(Method::GET, "/log/checkpoint", &headers, "")
            .await
            .unwrap();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{value:?}");
        assert!(reply.text().contains("Sallyport-Seen"), "{}", reply.text());
    }
    // Whoever claims to have seen more than there is gets no proof, and the same answer otherwise.
    let headers = [("sallyport-seen", "9999999")];
    let reply = stage
        .party("auditor")
        .http
        .send(Method::GET, "/log/tile/entries/000.p/1", &headers, "")
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("sallyport-consistency"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_two_sizes_are_proven_to_whoever_asks() {
    let stage = Stage::new().await;
    let hospital = stage.party("hospital-a");
    let mut seen: Vec<Checkpoint> = Vec::new();
    for _ in 0..5 {
        let asked = hospital.ask(&treat(hale().nhs), now_s()).await.unwrap();
        seen.push(receipt(&asked, stage.vkey()).checkpoint);
    }
    let get = async |query: &str| {
        let path = format!("/log/consistency?{query}");
        hospital
            .http
            .send(Method::GET, &path, &[], "")
            .await
            .unwrap()
    };
    for (at, old) in seen.iter().enumerate() {
        for new in &seen[at..] {
            let reply = get(&format!("from={}&to={}", old.size, new.size)).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
            let path: Vec<Hash> = reply.json()["consistency"]
                .as_array()
                .unwrap()
                .iter()
                .map(|hash| STANDARD.decode(hash.as_str().unwrap()).unwrap())
                .map(|hash| hash.try_into().unwrap())
                .collect();
            let (from, to) = (old.size, new.size);
            assert!(proves_consistency(from, to, &old.root, &new.root, &path));
            assert!(from == to || !proves_consistency(from, to, &new.root, &new.root, &path));
        }
    }
    let size = seen[0].size;
    for (query, status) in [
        (String::new(), StatusCode::BAD_REQUEST),
        (format!("from=0&to={size}"), StatusCode::BAD_REQUEST),
        (format!("from=1&from=1&to={size}"), StatusCode::BAD_REQUEST),
        (format!("from=1&to={size}&x=1"), StatusCode::BAD_REQUEST),
        (format!("from={size}&to=1"), StatusCode::NOT_FOUND),
        ("from=1&to=99999999".to_owned(), StatusCode::NOT_FOUND),
    ] {
        let reply = get(&query).await;
        assert_eq!(reply.status, status, "{query}: {}", reply.text());
        assert!(reply.json()["error_description"].is_string());
    }
}

/// The operator runs two gateways with one key: one log for the auditor, another one for this hospital.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_shows_two_logs_is_found_by_the_next_answer() {
    let stage = Stage::new().await;
    let other = folder();
    let stage = stage.after(|dir| copy(dir, other.path())).await.unwrap();
    let kept = folder();
    let file = kept.path().join("log.seen");
    let hospital = Party {
        seen: Some(Seen::in_file(&file, stage.vkey()).unwrap()),
        ..stage.party("hospital-a")
    };
    for _ in 0..6 {
        reads(&hospital).await.unwrap();
    }
    let forked = Stage::again(other, any()).await.unwrap();
    let hospital = Party {
        seen: hospital.seen,
        ..forked.party("hospital-a")
    };
    let error = history(reads(&hospital).await);
    assert!(matches!(error, HistoryError::RolledBack { .. }), "{error}");
    assert!(error.to_string().contains("were taken away"), "{error}");

    // It lets its other log grow until that is the longer one.
    let another = forked.party("hospital-a");
    for _ in 0..8 {
        reads(&another).await.unwrap();
    }
    let seen = std::fs::read_to_string(&file).unwrap();
    let error = history(reads(&hospital).await);
    let HistoryError::Split { entry, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        error
            .to_string()
            .starts_with(&format!("entry {entry} stands in another history"))
    );
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        seen,
        "what was seen stays"
    );
    // Both are signed by the one key, and neither is the beginning of the other.
    let both = std::fs::read_to_string(kept.path().join("log.conflict")).unwrap();
    let (first, second) = both.split_at(seen.len());
    let first = Checkpoint::open(first, stage.vkey()).unwrap();
    let second = Checkpoint::open(second.trim_start(), stage.vkey()).unwrap();
    assert_eq!(second.size, entry + 1);
    let reply = another
        .http
        .send(
            Method::GET,
            &format!("/log/consistency?from={}&to={}", first.size, second.size),
            &[],
            "",
        )
        .await
        .unwrap();
    let proof: Vec<Hash> = reply.json()["consistency"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hash: &Value| STANDARD.decode(hash.as_str().unwrap()).unwrap())
        .map(|hash| hash.try_into().unwrap())
        .collect();
    let (old, new) = (&first.root, &second.root);
    assert!(!proves_consistency(
        first.size,
        second.size,
        old,
        new,
        &proof
    ));
}
