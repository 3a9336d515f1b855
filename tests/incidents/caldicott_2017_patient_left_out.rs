//! Incident: 2017, the government's response to the National Data Guardian's review (Your Data: Better Security, Better Choice, Better Care): patients could neither see nor control how their records were used.
//! Here it would mean: a patient says no, or a practice marks something as sensitive, and it is shared all the same, at once or after the next update.
//! Stopped by: the decision made again at every read (`Gateway::read`), the objections of practices and lists as one set (`Facts::about`), labels that outlive an update (`Vault::file`) and reach the documents beside them (`Shelf::label`).

use crate::common::*;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_objection_acts_at_the_very_next_request_and_so_does_its_end() {
    let stage = Stage::new().await;
    let (practice, hospital) = (stage.party("practice-a"), stage.party("hospital-a"));
    let nhs = hale().nhs;
    let read = token(&hospital, &treat(nhs)).await;
    assert_eq!(
        get(&hospital, &read, &everything(nhs)).await.status,
        StatusCode::OK
    );
    assert_eq!(object(&practice, nhs, "no").await.status, StatusCode::OK);
    refused(&get(&hospital, &read, &everything(nhs)).await);
    denied(&hospital.ask(&treat(nhs), now_s()).await.unwrap());
    // Another objection of the same patient stands when the first is taken back.
    assert_eq!(object(&practice, nhs, "again").await.status, StatusCode::OK);
    for (id, served) in [("no", false), ("again", true)] {
        let consent = token(&practice, &consent_for(PRACTICE_A, nhs)).await;
        let path = format!("/fhir/Consent/{id}");
        let reply = send(&practice, Method::DELETE, &path, &consent, "").await;
        assert!(reply.status.is_success(), "{}", reply.text());
        let reply = get(&hospital, &read, &everything(nhs)).await;
        assert_eq!(reply.status == StatusCode::OK, served, "after {id}");
    }
}

fn document(nhs: &str) -> Value {
    json!({
        "resourceType": "DocumentReference", "id": "letter", "status": "current",
        "subject": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": nhs } },
        "content": [{ "attachment": { "contentType": "text/plain", "data": "RGVhciBjb2xsZWFndWU=" } }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sensitive_stays_so_and_so_do_the_letters_that_may_repeat_it() {
    let stage = Stage::new().await;
    let (practice, hospital) = (stage.party("practice-a"), stage.party("hospital-a"));
    let nhs = hale().nhs;
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let file = async |name: &str, body: Value| {
        let reply = put(&practice, &deposit, name, body.to_string()).await;
        assert!(reply.status.is_success(), "{}", reply.text());
    };
    let has = async |name: &str| names(&hospital, nhs).await.contains(&name.to_owned());
    let plain = observation("talk", nhs, "44261-6", "2026-01-01");
    let label = json!({ "security": [{ "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY" }] });
    file("DocumentReference/letter", document(nhs)).await;
    file("Observation/talk", plain.clone()).await;
    assert!(has("DocumentReference/letter").await && has("Observation/talk").await);
    // The practice marks it: the letter, whose words nobody has read, is held back with it.
    let marked = with(plain.clone(), &[("meta", label)]);
    file("Observation/talk", marked).await;
    assert!(!has("Observation/talk").await && !has("DocumentReference/letter").await);
    // The next update forgets the label; the record does not become ordinary for it, nor by a restart.
    file("Observation/talk", plain).await;
    assert!(!has("Observation/talk").await);
    let stage = stage.restart().await;
    let (practice, hospital) = (stage.party("practice-a"), stage.party("hospital-a"));
    let seen = names(&hospital, nhs).await;
    assert!(
        !seen
            .iter()
            .any(|name| name == "Observation/talk" || name == "DocumentReference/letter")
    );
    // A practice may settle that its documents carry their own labels only.
    let details = json!({ "type": "objections", "practice": PRACTICE_A });
    let bearer = token(&practice, &details).await;
    for (care_minutes, status) in [
        (10, StatusCode::UNPROCESSABLE_ENTITY),
        (4320, StatusCode::OK),
    ] {
        let settings = json!({ "secondary_minutes": 60, "care_minutes": care_minutes, "documents_inherit": false });
        let path = "/feed/objections/settings";
        let reply = send(&practice, Method::PUT, path, &bearer, settings.to_string()).await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    let seen = names(&hospital, nhs).await;
    assert!(seen.contains(&"DocumentReference/letter".to_owned()));
    assert!(!seen.contains(&"Observation/talk".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_sensitive_codes_acts_on_what_was_filed_before_it() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let practice = stage.party("practice-a");
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let body = json!({
        "resourceType": "Condition", "id": "coded",
        "subject": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": nhs } },
        "code": { "coding": [{ "system": "http://snomed.info/sct", "code": "86406008" }] },
    });
    put(&practice, &deposit, "Condition/coded", body.to_string()).await;
    assert!(
        names(&stage.party("hospital-a"), nhs)
            .await
            .contains(&"Condition/coded".to_owned())
    );
    let (dir, _) = stage.stop().await;
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/sensitive-codes.tsv");
    let config = dir.path().join("sallyport.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("sensitive_codes = {list:?}\n{text}")).unwrap();
    let served = Served::open(dir.path(), None).await.unwrap();
    let seen = names(&party_at(dir.path(), "hospital-a"), nhs).await;
    assert!(!seen.is_empty() && !seen.contains(&"Condition/coded".to_owned()));
    served.stop().await;
    // A list that does not parse keeps the gateway from starting, and says which line.
    std::fs::write(dir.path().join("list.tsv"), "PSY no tabs\n").unwrap();
    std::fs::write(&config, format!("sensitive_codes = \"list.tsv\"\n{text}")).unwrap();
    let error = Served::open(dir.path(), None)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("list.tsv: line 1"), "{error}");
}
