//! Incident: key rotations that make what is under way unreadable: messages and tokens made under the old key are refused after it changed (a known failure of JWKS rollovers and of envelope encryption with one key).
//! Here it would mean: an answer, a token or a page link from before a rotation is useless after it, and care waits.
//! Stopped by: a rotation rewraps record keys only (`Vault::rewrap`); envelopes, data keys, tickets and tokens do not change.

use crate::common::*;
use hyper::{Method, StatusCode};

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
