//! Incident: 2018, Kent and Medway: an employee opened patients' records out of curiosity, without any part in their care.
//! Here it would mean: a trained clinician of a hospital with an agreement reads about a patient whom the hospital does not treat.
//! Stopped by: guards `never-without-relationship` and `never-an-undeclared-emergency`; each attempt is an entry that names the person.

use serde_json::{Value, json};

use crate::common::*;
use hyper::StatusCode;
use sallyport::dev::referral;

/// A patient of the first practice whom nobody referred.
const NEIGHBOUR: &str = "9990000050";

#[tokio::test(flavor = "multi_thread")]
async fn curiosity_opens_nothing_and_is_written_down() {
    let stage = Stage::new().await;
    let practice = stage.party("practice-a");
    let deposit = token(&practice, &deposit_for(PRACTICE_A, NEIGHBOUR)).await;
    let body = observation("neighbour", NEIGHBOUR, "1-1", "2026").to_string();
    assert_eq!(
        put(&practice, &deposit, "Observation/neighbour", body)
            .await
            .status,
        StatusCode::CREATED
    );
    // What happened: a member of staff, in good standing, looks up the neighbour.
    let hospital = stage.party("hospital-a");
    let attempts = [
        treat(NEIGHBOUR),
        with(treat(NEIGHBOUR), &[("relationship", Value::Null)]),
        with(
            treat(NEIGHBOUR),
            &[(
                "relationship",
                json!({ "type": "referral", "reference": referral(hale().nhs) }),
            )],
        ),
        with(
            treat(NEIGHBOUR),
            &[(
                "relationship",
                json!({ "type": "appointment", "reference": referral(NEIGHBOUR) }),
            )],
        ),
        with(
            treat(NEIGHBOUR),
            &[("relationship", Value::Null), ("purpose", json!("BTG"))],
        ),
        with(
            treat(NEIGHBOUR),
            &[
                ("relationship", Value::Null),
                ("purpose", json!("BTG")),
                ("acknowledged", json!(true)),
            ],
        ),
        with(
            treat(NEIGHBOUR),
            &[
                ("relationship", Value::Null),
                ("purpose", json!("BTG")),
                ("acknowledged", json!(true)),
                ("reason", json!("")),
            ],
        ),
    ];
    let mut kept = Vec::new();
    for details in attempts {
        let reply = hospital.ask(&details, now_s()).await.unwrap();
        denied(&reply);
        let evidence = receipt(&reply, stage.vkey());
        assert_eq!(
            evidence.opened["actor"]["practitioner"], "dr-okafor",
            "the entry says who it was"
        );
        kept.push(evidence);
    }
    // Nor does a token for a patient who is treated open the neighbour's record.
    let read = token(&hospital, &treat(hale().nhs)).await;
    for path in [
        "/fhir/Observation/neighbour".to_owned(),
        everything(NEIGHBOUR),
        format!("/fhir/Observation?patient={NEIGHBOUR}"),
    ] {
        let reply = get(&hospital, &read, &path).await;
        refused(&reply);
        kept.push(receipt(&reply, stage.vkey()));
    }
    // An emergency can be declared, but not quietly.
    let declared = with(
        treat(NEIGHBOUR),
        &[
            ("relationship", Value::Null),
            ("purpose", json!("BTG")),
            ("acknowledged", json!(true)),
            ("reason", json!("found unconscious")),
        ],
    );
    let reply = hospital.ask(&declared, now_s()).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let evidence = receipt(&reply, stage.vkey());
    assert_eq!(evidence.opened["context"]["reason"], "found unconscious");
    assert_eq!(evidence.opened["context"]["purpose"], "BTG");
    kept.push(evidence);
    let vkey = stage.vkey().clone();
    let (dir, _) = stage.stop().await;
    all_stand(&kept, &entries(dir.path(), &vkey));
}
