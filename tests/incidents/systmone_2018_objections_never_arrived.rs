//! Incident: July 2018, TPP SystmOne: 150,000 patients' type 2 objections, recorded at practices from March 2015 on, were never passed on, and nobody noticed (NHS Digital statement on the type 2 opt-out error; Hansard, 2 July 2018).
//! Here it would mean: an objection that a practice passed on is lost on the way to the decision, and the record is shared.
//! Stopped by: the ledger's anchor of each practice's facts (`Facts::open`): rows that do not add up are unknown, and unknown refuses.

use crate::common::*;
use hyper::StatusCode;

#[tokio::test(flavor = "multi_thread")]
async fn an_objection_lost_on_the_way_stops_the_practice_instead_of_sharing() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let read = token(&stage.party("hospital-a"), &treat(nhs)).await;
    let reply = object(&stage.party("practice-a"), nhs, "never-arrived").await;
    assert_eq!(reply.status, StatusCode::OK);
    refused(&get(&stage.party("hospital-a"), &read, &everything(nhs)).await);
    // What happened: the objections are gone from where decisions look, and nothing says so.
    let stage = stage
        .after(|dir| facts_rows(dir, b'O', |_| false))
        .await
        .unwrap();
    first_practice_is_unknown(&stage, &read).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_practice_is_told_at_once_whether_its_objection_arrived() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let practice = stage.party("practice-a");
    let reply = object(&practice, nhs, "arrived").await;
    let evidence = receipt(&reply, stage.vkey());
    assert_eq!(
        evidence.leaf["facts"]["owner"], PRACTICE_A,
        "the entry anchors the practice's facts"
    );
    assert_eq!(evidence.opened["subject"]["nhs"], nhs);
    // One that cannot be understood is no silent success.
    let token = token(&practice, &consent_for(PRACTICE_A, nhs)).await;
    for (member, value) in [
        ("provision", serde_json::json!({ "type": "permit" })),
        ("status", serde_json::json!("draft")),
        ("patient", serde_json::Value::Null),
    ] {
        let odd = with(consent("odd", nhs), &[(member, value)]);
        let reply = put(&practice, &token, "Consent/odd", odd.to_string()).await;
        assert_eq!(
            reply.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{member}: {}",
            reply.text()
        );
        assert!(reply.text().contains(member), "{}", reply.text());
    }
}
