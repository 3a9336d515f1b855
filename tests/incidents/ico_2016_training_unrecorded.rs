//! Incident: 2016, health bodies: nobody could show who had been trained for the role in which they used patients' data; "you need to record that the training is happening" (ICO).
//! Here it would mean: a record is released on behalf of a person whose training has lapsed, or of whose training nobody knows.
//! Stopped by: guard `never-untrained`; training is `Known` or `Unknown` (`PractitionerFacts`), and unknown refuses.

use serde_json::json;

use crate::common::*;
use hyper::StatusCode;
use sallyport::facts::{Practitioner, Statement};

fn person(id: &str, trained_until_ms: Option<u64>) -> Statement {
    Statement::Practitioner(Practitioner {
        id: id.to_owned(),
        organisation: "RJ1".to_owned(),
        role: "doctor".to_owned(),
        name: "Dr Amaka Okafor".to_owned(),
        trained_until_ms,
        suspended: false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_training_is_not_known_to_be_current_reads_nothing() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let (dir, _) = stage.stop().await;
    let served = Served::open(dir.path(), None).await.unwrap();
    let hospital = party_at(dir.path(), "hospital-a");
    // What happened: people work, and nobody can say whether they were trained.
    for id in ["dr-late", "dr-untold"] {
        let details = with(treat(nhs), &[("practitioner", json!({ "id": id }))]);
        denied(&hospital.ask(&details, now_s()).await.unwrap());
        let emergency = with(
            details,
            &[
                ("purpose", json!("BTG")),
                ("reason", json!("resus")),
                ("acknowledged", json!(true)),
            ],
        );
        denied(&hospital.ask(&emergency, now_s()).await.unwrap());
    }
    // It lapses, or is forgotten, while a token is out: the next request is refused.
    let read = token(&hospital, &treat(nhs)).await;
    assert_eq!(
        get(&hospital, &read, &everything(nhs)).await.status,
        StatusCode::OK
    );
    let hour = 3_600_000;
    let now_ms = now_s() * 1000;
    for (until, may) in [
        (Some(now_ms - 1), false),
        (Some(now_ms + hour), true),
        (None, false),
        (Some(now_ms + hour), true),
    ] {
        served
            .app
            .gateway
            .load(vec![person("dr-okafor", until)])
            .await
            .unwrap();
        let reply = get(&hospital, &read, &everything(nhs)).await;
        if may {
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        } else {
            refused(&reply);
            denied(&hospital.ask(&treat(nhs), now_s()).await.unwrap());
        }
    }
    served.stop().await;
}
