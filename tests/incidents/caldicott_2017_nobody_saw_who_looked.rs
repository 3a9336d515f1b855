//! Incident: 2017, England, the government's answer to the Caldicott review: patients could neither see who used their records nor control it.
//! Here it would mean: records of a patient are read, and the patient never learns of it and cannot stop the next time.
//! Stopped by: the patient's own access history, each line with a proof that it stands in the auditor's log; objections act at the next request.

use base64::Engine as _;
use hyper::{Method, StatusCode};
use sallyport::ledger::check;
use serde_json::{Value, json};

use crate::common::*;

async fn history(stage: &Stage, party: &str, details: &Value) -> Vec<Value> {
    let party = stage.party(party);
    let token = token(&party, details).await;
    let mut next = Some("/history?limit=3".to_owned());
    let mut lines = Vec::new();
    while let Some(path) = next {
        let reply = get(&party, &token, &path).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert_eq!(receipt(&reply, stage.vkey()).leaf["ev"], "log.read");
        let page = reply.json();
        lines.extend(page["history"].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
    }
    lines
}

fn of(lines: &[Value], what: &str) -> Vec<Value> {
    lines
        .iter()
        .filter(|line| line["what"] == what)
        .cloned()
        .collect()
}

const GIVEN: &str = "was given records of yours";

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_sees_who_looked_proves_it_and_stops_the_next_time() {
    let stage = Stage::new().await;
    let (hospital, practice) = (stage.party("hospital-a"), stage.party("practice-a"));
    let nhs = hale().nhs;
    // What happened: records were read, and nobody told the patient.
    let read = token(&hospital, &treat(nhs)).await;
    let release = get(&hospital, &read, &everything(nhs)).await;
    let released = receipt(&release, stage.vkey());
    assert_eq!(release.status, StatusCode::OK);

    let lines = history(&stage, "patient-portal", &history_of(nhs)).await;
    let given = of(&lines, GIVEN);
    assert_eq!(given.len(), 1, "{lines:#?}");
    let line = &given[0];
    assert_eq!(
        (&line["entry"], &line["why"]),
        (&json!(released.index), &json!("direct care"))
    );
    assert_eq!(line["who"], "a doctor at hospital-a");
    assert_eq!(line["organisation"]["ods"], "RJ1");
    assert!(
        line["about"].as_str().unwrap().contains("medications"),
        "{line}"
    );
    let text = serde_json::to_string(&lines).unwrap().to_lowercase();
    assert!(
        !text.contains("okafor"),
        "an employee's name is the controller's to tell"
    );
    let sealed: Vec<_> = lines
        .iter()
        .map(|line| line["receipt"]["openings"].get("actor"))
        .collect();
    assert!(
        sealed.iter().all(Option::is_none),
        "nor does the proof open it"
    );

    // Each line is proven: its leaf is in the log, and what it says is what the leaf commits to.
    let mut proven = Vec::new();
    for line in &lines {
        let evidence = check(&line["receipt"], stage.vkey()).expect("the proof holds");
        assert_eq!(evidence.opened["subject"]["nhs"], nhs);
        assert_eq!(line["entry"], evidence.index);
        proven.push(evidence);
    }
    let same = proven.iter().find(|it| it.index == released.index).unwrap();
    assert_eq!(
        same.leaf_hash, released.leaf_hash,
        "the hospital holds the same entry"
    );

    // The auditor asks the same and is also told who it was; both looks are lines themselves.
    let audited = history(
        &stage,
        "auditor",
        &json!({ "type": "history", "patient": nhs }),
    )
    .await;
    let theirs = of(&audited, GIVEN);
    assert_eq!(theirs[0]["person"]["name"], "Dr Amaka Okafor");
    assert_eq!(theirs[0]["receipt"]["leaf"], line["receipt"]["leaf"]);
    assert!(!of(&audited, "looked at this history").is_empty());

    // The patient objects, and the very token that read before reads no more.
    let objected = object(&practice, nhs, "no-more").await;
    assert!(objected.status.is_success(), "{}", objected.text());
    refused(&get(&hospital, &read, &everything(nhs)).await);
    denied(&hospital.ask(&treat(nhs), now_s()).await.unwrap());
    let lines = history(&stage, "patient-portal", &history_of(nhs)).await;
    assert_eq!(of(&lines, GIVEN).len(), 1);
    assert_eq!(
        of(&lines, "tried to read records of yours and was refused").len(),
        1
    );
    assert_eq!(
        of(&lines, "asked to read your record and was refused").len(),
        1
    );
    assert_eq!(
        of(&lines, "passed on what you decided about sharing").len(),
        1
    );

    let vkey = stage.vkey().clone();
    let (dir, _) = stage.stop().await;
    assert!(
        verify(dir.path(), &vkey).holds(),
        "the auditor's log is whole"
    );
    all_stand(&proven, &entries(dir.path(), &vkey));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_sees_it() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let portal = stage.party("patient-portal");
    for change in [
        ("for", json!("proxy")),
        ("for", Value::Null),
        ("born", Value::Null),
        ("born", json!("2020-01-01")),
    ] {
        let details = with(history_of(nhs), &[change]);
        denied(&portal.ask(&details, now_s()).await.unwrap());
    }
    for (change, says) in [
        (("for", json!("mother")), "for:"),
        (("born", json!("1980")), "born:"),
    ] {
        let reply = portal
            .ask(&with(history_of(nhs), &[change]), now_s())
            .await
            .unwrap();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        assert!(reply.text().contains(says), "{}", reply.text());
    }
    for other in ["hospital-a", "practice-a", "admin-1", "research-c"] {
        denied(
            &stage
                .party(other)
                .ask(&history_of(nhs), now_s())
                .await
                .unwrap(),
        );
    }
    // A patient whom nobody knows has a history of nothing, and a token for one opens no other's.
    assert!(
        history(&stage, "patient-portal", &history_of(NOBODY))
            .await
            .is_empty()
    );
    let theirs = history(&stage, "patient-portal", &history_of(quill().nhs)).await;
    assert!(!theirs.is_empty());
    for line in theirs {
        let leaf = check(&line["receipt"], stage.vkey()).unwrap();
        assert_eq!(leaf.opened["subject"]["nhs"], quill().nhs);
    }
    let own = token(&portal, &history_of(nhs)).await;
    refused(&get(&portal, &own, &everything(nhs)).await);
    let reply = certified(&portal, Method::GET, "/reviews", Value::Null).await;
    denied(&reply);
    let text = base64::engine::general_purpose::STANDARD.encode("x");
    assert_eq!(
        get(&portal, &text, "/history").await.status,
        StatusCode::UNAUTHORIZED
    );
}
