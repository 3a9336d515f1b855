//! Incident: 2018, Kent and Medway: an employee opened patients' records out of curiosity, without any part in their care.
//! Here it would mean: a trained clinician of a hospital with an agreement reads about a patient whom the hospital does not treat.
//! Stopped by: guards `never-without-relationship` and `never-an-undeclared-emergency`; each attempt is an entry that names the person, and a declared emergency lands on the privacy officer's worklist and in the patient's own history.

use serde_json::{Value, json};

use crate::common::*;
use hyper::{Method, StatusCode};
use sallyport::dev::referral;
use sallyport::ledger::Evidence;

/// A patient of the first practice whom nobody referred.
const NEIGHBOUR: &str = "9990000050";

/// What becomes of the emergency that was declared: the officer finds no explanation and says so, the patient sees it.
async fn looked_at_afterwards(stage: &Stage, entry: u64) -> Vec<Evidence> {
    let officer = stage.party("privacy-officer");
    let list = certified(&officer, Method::GET, "/reviews", Value::Null).await;
    assert_eq!(list.status, StatusCode::OK, "{}", list.text());
    let items = list.json()["items"].as_array().unwrap().clone();
    let item = items
        .iter()
        .find(|item| item["entry"] == entry)
        .expect("it is an item");
    assert_eq!(
        (&item["alert"], &item["of"]),
        (&json!("break-glass"), &json!("RJ1"))
    );
    assert!(!list.text().contains("okafor"), "the list names nobody");
    let path = format!("/reviews/{entry}");
    let full = certified(&officer, Method::GET, &path, Value::Null).await;
    let access = full.json()["access"].clone();
    assert_eq!(
        access["person"]["name"],
        "Dr Amaka Okafor",
        "{}",
        full.text()
    );
    assert_eq!(access["reason"], "found unconscious");
    assert_eq!(full.json()["explanation"], json!({ "found": false }));
    let body = json!({ "finding": "inappropriate", "note": "was on leave that day" });
    let closed = certified(&officer, Method::POST, &path, body.clone()).await;
    assert_eq!(closed.status, StatusCode::OK, "{}", closed.text());
    let again = certified(&officer, Method::POST, &path, body).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text());
    let left = certified(&officer, Method::GET, "/reviews", Value::Null).await;
    assert!(
        !left.text().contains(&format!("\"entry\":{entry},")),
        "{}",
        left.text()
    );

    // The patient is told, and sees what the officer sees but for the name.
    let portal = stage.party("patient-portal");
    let notices = certified(&portal, Method::GET, "/notices", Value::Null).await;
    let notice = &notices.json()["notices"][0];
    assert_eq!(
        (&notice["patient"], &notice["notice"]["entry"]),
        (&json!(NEIGHBOUR), &json!(entry))
    );
    let history = token(&portal, &history_of(NEIGHBOUR)).await;
    let history = get(&portal, &history, "/history").await;
    let lines = history.json()["history"].as_array().unwrap().clone();
    let line = lines
        .iter()
        .find(|line| line["entry"] == entry)
        .expect("it is in the history");
    assert_eq!(line["emergency"], true);
    assert_eq!(line["who"], "a doctor at hospital-a");
    let text = history.text().to_lowercase();
    assert!(!text.contains("okafor"), "{text}");
    assert!(
        !text.contains("on leave"),
        "what the officer noted is not the patient's to read here"
    );
    let refused = lines
        .iter()
        .filter(|line| line["outcome"] == "refused")
        .count();
    assert!(refused >= 7, "every attempt is there: {refused}");
    assert!(
        lines
            .iter()
            .any(|line| line["what"] == "reviewed an access to your record")
    );
    [&list, &full, &closed, &notices, &history]
        .map(|reply| receipt(reply, stage.vkey()))
        .into()
}

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
    let entry = evidence.index;
    kept.push(evidence);
    kept.extend(looked_at_afterwards(&stage, entry).await);
    let vkey = stage.vkey().clone();
    let (dir, _) = stage.stop().await;
    all_stand(&kept, &entries(dir.path(), &vkey));
}
