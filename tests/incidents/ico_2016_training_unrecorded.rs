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

/// Lines as a learning system exports them: with its mark, its line ends, its quotes, in its order.
fn export(lines: &[&str]) -> String {
    let head = "Course,evidence,expires,completed,REQUIREMENT,practitioner,organisation";
    let lines: Vec<&str> = std::iter::once(head).chain(lines.iter().copied()).collect();
    format!("\u{feff}{}\r\n", lines.join("\r\n"))
}

async fn import(
    admin: &sallyport::connect::Party,
    csv: &str,
    more: &[(&str, serde_json::Value)],
) -> sallyport::connect::Reply {
    let body = with(
        json!({ "csv": csv, "dates": "uk", "why": "monthly export" }),
        more,
    );
    let headers = [("content-type", "application/json")];
    let reply = admin.http.send(
        hyper::Method::POST,
        "/admin/training",
        &headers,
        body.to_string(),
    );
    reply.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_learning_system_says_decides_and_is_shown_line_by_line() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let (admin, hospital) = (stage.party("admin-1"), stage.party("hospital-a"));
    let as_late = with(treat(nhs), &[("practitioner", json!({ "id": "dr-late" }))]);
    denied(&hospital.ask(&as_late, now_s()).await.unwrap());
    let good = "\"Data security, level 1\",\"ESR-1 \"\"A\"\"\",01/02/2031,01/02/2026,data-security,dr-late,RJ1";
    // One wrong line of many, and nothing of the file is taken in; each is named.
    let bad = export(&[
        good,
        "x,e,31/02/2030,01/02/2026,data-security,dr-untold,RJ1",
        "x,e,2030-02-01,01/02/2026,data-security,dr-untold,RJ1",
        "x,e,01/02/2030,01/02/2026,data-security,dr-nobody,RJ1",
        "x,e,01/02/2030,01/02/2026,data-security,dr-hart,RJ1",
        "x,e,01/02/2030,01/02/2026,data-security,dr-hart,XXX",
        "x,e,01/02/2025,01/02/2026,Data Security,dr-untold,RJ1",
        "x,,01/02/2030,01/02/2099,data-security,dr-untold,RJ1",
        "x,e,01/02/2040,01/02/2026,data-security,dr-untold,RJ1",
        good,
        "x,e,01/02/2030",
    ]);
    let reply = import(&admin, &bad, &[]).await;
    assert_eq!(
        reply.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        reply.text()
    );
    let faults: Vec<(u64, String)> = reply.json()["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            (
                it["line"].as_u64().unwrap(),
                it["column"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [
        (3, "expires"),
        (4, "expires"),
        (5, "practitioner"),
        (6, "practitioner"),
        (7, "organisation"),
        (8, "requirement"),
        (8, "expires"),
        (9, "evidence"),
        (9, "completed"),
        (9, "expires"),
        (10, "expires"),
        (11, "practitioner"),
        (12, "line"),
    ];
    let expected: Vec<(u64, String)> = expected
        .iter()
        .map(|(line, column)| (*line, (*column).to_owned()))
        .collect();
    assert_eq!(faults, expected, "{}", reply.text());
    denied(&hospital.ask(&as_late, now_s()).await.unwrap());
    for (csv, rule) in [
        ("", "is missing"),
        ("a,b\n1,2\n", "is missing"),
        ("organisation,organisation\n", "twice"),
        (&export(&[]), "no line"),
    ] {
        let reply = import(&admin, csv, &[]).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(reply.text().contains(rule), "{csv:?}: {}", reply.text());
    }
    // A dry run changes nothing, the run itself acts at the next request.
    let right = export(&[good]);
    let dry = import(&admin, &right, &[("dry_run", json!(true))]).await;
    assert_eq!(dry.status, StatusCode::OK, "{}", dry.text());
    denied(&hospital.ask(&as_late, now_s()).await.unwrap());
    let reply = import(&admin, &right, &[]).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let read = token(&hospital, &as_late).await;
    assert_eq!(
        get(&hospital, &read, &everything(nhs)).await.status,
        StatusCode::OK
    );
    denied(&import(&hospital, &right, &[]).await);
    // A role that requires more is asked for more, at the next request of a token that is out.
    let headers = [("content-type", "application/json")];
    let more =
        json!({ "act": "training.require", "object": "doctor/safeguarding-3", "why": "board" });
    let reply = admin.http.send(
        hyper::Method::POST,
        "/admin/acts",
        &headers,
        more.to_string(),
    );
    assert_eq!(reply.await.unwrap().status, StatusCode::OK);
    refused(&get(&hospital, &read, &everything(nhs)).await);
    let met = "x,\"Börse, Level 3\",01/02/2030,01/02/2026,safeguarding-3,dr-late,RJ1";
    let reply = import(&admin, &export(&[met]), &[]).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(
        get(&hospital, &read, &everything(nhs)).await.status,
        StatusCode::OK
    );
    // Who is trained for what, by which evidence, can be shown at any time, and still after a restart.
    let stage = stage.restart().await;
    let admin = stage.party("admin-1");
    let report = admin
        .http
        .send(hyper::Method::GET, "/admin/training", &[], "")
        .await
        .unwrap()
        .json();
    let late = report["people"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["practitioner"] == "dr-late")
        .unwrap();
    assert_eq!(late["may_ask"], true, "{late}");
    assert_eq!(late["requirements"][0]["evidence"], "ESR-1 \"A\"", "{late}");
    assert_eq!(late["requirements"][1]["evidence"], "Börse, Level 3");
    let other = report["people"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["practitioner"] == "dr-okafor")
        .unwrap();
    assert_eq!(
        (&other["may_ask"], &other["requirements"][1]["state"]),
        (&json!(false), &json!("never"))
    );
}
