//! Incident: 2017, junior doctors: staff details were published on a web page by mistake and could be read by anybody.
//! Here it would mean: staff details that stand in records, or in the directory, are served without a decision, or lie somewhere in clear to be published by mistake.
//! Stopped by: no route without a decision serves anything personal; what is stored and what leaves is ciphertext (`Vault::file`, `Release`).

use serde_json::json;

use crate::common::*;
use hyper::{Method, StatusCode};

const NAMES: [&str; 5] = [
    "Zephyrine Quatermass",
    "zephyrine@trust.example",
    "07700 900123",
    "hepatitis-b-nonresponder",
    "Amaka Okafor",
];

#[tokio::test(flavor = "multi_thread")]
async fn published_as_it_lies_it_discloses_nothing() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let practice = stage.party("practice-a");
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let doctor = json!({
        "resourceType": "Practitioner", "id": "junior", "name": [{ "text": NAMES[0] }],
        "telecom": [{ "system": "email", "value": NAMES[1] }, { "system": "phone", "value": NAMES[2] }],
        "extension": [{ "url": "https://example.org/occupational-health", "valueString": NAMES[3] }],
    });
    let reply = put(
        &practice,
        &deposit,
        "Practitioner/junior",
        doctor.to_string(),
    )
    .await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    let hospital = stage.party("hospital-a");
    let read = token(&hospital, &treat(nhs)).await;
    let answer = get(&hospital, &read, "/fhir/Practitioner/junior").await;
    assert_eq!(
        open(&hospital, &answer, nhs).await.records[0].text,
        doctor.to_string().as_bytes()
    );
    stage.world.publish().await;
    // What happened: a page shows to anybody what was meant for few. Every page that needs no decision:
    let mut pages = vec![answer.text()];
    let auditor = stage.party("auditor");
    for path in [
        "/fhir/metadata",
        "/.well-known/jwks.json",
        "/.well-known/smart-configuration",
        "/.well-known/oauth-authorization-server",
        "/log/checkpoint",
        "/log/tile/0/000.p/1",
        "/log/tile/entries/000.p/1",
    ] {
        pages.push(
            auditor
                .http
                .send(Method::GET, path, &[], "")
                .await
                .unwrap()
                .text(),
        );
    }
    for path in [
        "/fhir/Practitioner/junior",
        "/fhir/Practitioner?name=Quatermass",
        "/fhir/Practitioner?patient=9990000018",
    ] {
        let reply = auditor.http.send(Method::GET, path, &[], "").await.unwrap();
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
        pages.push(reply.text());
    }
    for page in pages {
        for name in NAMES {
            assert!(!page.contains(name), "{name} stands in {page}");
        }
    }
    // Or the disk itself is put on the web: store, journal and published log.
    let (dir, _) = stage.stop().await;
    let folders = [dir.path().join("data"), dir.path().join("log")];
    nowhere_in_clear(&folders, &NAMES);
    nowhere_in_clear(
        &folders,
        &[
            nhs,
            "Practitioner/junior",
            "hale-obs-4",
            "AllergyIntolerance",
        ],
    );
}
