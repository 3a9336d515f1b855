//! The straight line end to end, over real mutual TLS: deposit, read, search, withdraw, object; across restarts,
//! rotations, and tampering behind the gateway's back.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::*;
use hyper::{Method, StatusCode};
use sallyport::connect::{Party, Reply};
use sallyport::dev::World;
use serde_json::{Value, json};

fn party(world: &World, name: &str) -> Party {
    world.party(name).unwrap()
}

const GLUCOSE: &str = "2339-0";
const POTASSIUM: &str = "2823-3";

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_filed_versioned_and_read_byte_for_byte() {
    let world = shared().await;
    let (practice, hospital) = (party(world, "practice-a"), party(world, "hospital-a"));
    let nhs = hale().nhs;
    let token = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let first =
        serde_json::to_vec_pretty(&observation("line-1", nhs, POTASSIUM, "2026-11-02")).unwrap();
    let reply = put(&practice, &token, "Observation/line-1", first.clone()).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    assert_eq!(reply.header("etag"), Some("W/\"1\""));
    let location = format!("{}/fhir/Observation/line-1", world.url());
    assert_eq!(reply.header("location"), Some(location.as_str()));
    let filed = receipt(&reply, world.vkey());
    assert_eq!(filed.leaf["ev"], "record.deposit");

    let hospitals = common::token(&hospital, &treat(nhs)).await;
    let opened = open(
        &hospital,
        &get(&hospital, &hospitals, "/fhir/Observation/line-1").await,
        nhs,
    )
    .await;
    assert_eq!(opened.records[0].text, first);
    assert_eq!(opened.records[0].media_type, R4);
    assert_eq!(opened.records[0].practice, PRACTICE_A);
    let kid = opened.records[0].kid.clone();

    let second = observation("line-1", nhs, POTASSIUM, "2026-11-03").to_string();
    let reply = put(&practice, &token, "Observation/line-1", second.clone()).await;
    assert_eq!(
        (reply.status, reply.header("etag")),
        (StatusCode::OK, Some("W/\"2\""))
    );
    let opened = open(
        &hospital,
        &get(&hospital, &hospitals, "/fhir/Observation/line-1").await,
        nhs,
    )
    .await;
    assert_eq!(opened.records[0].text, second.as_bytes());
    let (id, version) = opened.records[0].kid.rsplit_once('.').unwrap();
    assert_eq!((kid.rsplit_once('.').unwrap().0, version), (id, "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_land_whole_or_not_at_all() {
    let world = shared().await;
    let (practice, hospital) = (party(world, "practice-a"), party(world, "hospital-a"));
    let nhs = quill().nhs;
    let token = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    for (kind, answer) in [
        ("transaction", "transaction-response"),
        ("batch", "batch-response"),
        ("collection", "transaction-response"),
    ] {
        let ids = [format!("{kind}-1"), format!("{kind}-2")];
        let resources: Vec<Value> = ids
            .iter()
            .map(|id| observation(id, nhs, GLUCOSE, "2025-01-01"))
            .collect();
        let reply = post(&practice, &token, bundle(kind, &resources).to_string()).await;
        assert_eq!(reply.status, StatusCode::OK, "{kind}: {}", reply.text());
        receipt(&reply, world.vkey());
        let body = reply.json();
        assert_eq!(body["type"], answer);
        for (entry, id) in body["entry"].as_array().unwrap().iter().zip(&ids) {
            assert_eq!(entry["response"]["status"], "201 Created");
            assert_eq!(entry["response"]["etag"], "W/\"1\"");
            let location = format!("Observation/{id}/_history/1");
            assert_eq!(entry["response"]["location"], location.as_str());
        }
    }
    let before = names(&hospital, nhs).await;
    for id in ["transaction-1", "batch-2", "collection-1"] {
        assert!(before.contains(&format!("Observation/{id}")), "{id}");
    }

    let good = observation("whole-1", nhs, GLUCOSE, "2025-01-01");
    let other = observation("whole-2", hale().nhs, GLUCOSE, "2025-01-01");
    let twice = observation("whole-1", nhs, POTASSIUM, "2025-01-01");
    let wrong = [
        (
            "two patients",
            bundle("transaction", &[good.clone(), other.clone()]),
        ),
        (
            "two patients in a batch",
            bundle("batch", &[good.clone(), other]),
        ),
        (
            "one name twice",
            bundle("transaction", &[good.clone(), twice]),
        ),
        (
            "a Consent",
            bundle("transaction", &[good.clone(), consent("whole-3", nhs)]),
        ),
        (
            "another type",
            bundle("searchset", std::slice::from_ref(&good)),
        ),
        ("no entries", bundle("transaction", &[])),
        (
            "a Bundle in it",
            bundle(
                "transaction",
                &[
                    good.clone(),
                    json!({ "resourceType": "Bundle", "id": "b", "type": "batch", "entry": [] }),
                ],
            ),
        ),
    ];
    for (what, body) in wrong {
        let reply = post(&practice, &token, body.to_string()).await;
        assert_eq!(
            reply.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{what}: {}",
            reply.text()
        );
        says_nothing_inside(&reply);
        assert!(
            reply.json()["issue"][0]["details"]["text"]
                .as_str()
                .unwrap()
                .len()
                > 15,
            "{what}"
        );
    }
    // A name that stands for another patient refuses the whole transaction, the good entries with it.
    let hale_token = common::token(&practice, &deposit_for(PRACTICE_A, hale().nhs)).await;
    let mine = observation("hales-own", hale().nhs, GLUCOSE, "2025-01-01");
    let reply = put(
        &practice,
        &hale_token,
        "Observation/hales-own",
        mine.to_string(),
    )
    .await;
    assert!(reply.status.is_success());
    let theirs = observation("hales-own", nhs, GLUCOSE, "2025-01-01");
    let reply = post(
        &practice,
        &token,
        bundle("transaction", &[good, theirs]).to_string(),
    )
    .await;
    assert_eq!(
        reply.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        reply.text()
    );
    assert_eq!(
        names(&hospital, nhs).await,
        before,
        "nothing of what was refused was stored"
    );
}

/// The names of one page, and where the next one is.
async fn page(
    hospital: &Party,
    token: &str,
    path: &str,
    nhs: &str,
) -> (Vec<String>, Option<String>) {
    let reply = get(hospital, token, path).await;
    assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
    let opened = open(hospital, &reply, nhs).await;
    (
        opened
            .records
            .into_iter()
            .map(|record| record.name)
            .collect(),
        opened.next,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_filter_and_their_pages_are_authorised_again() {
    let stage = Stage::new().await;
    let (practice, hospital) = (stage.party("practice-a"), stage.party("hospital-a"));
    let nhs = hale().nhs;
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let days = [
        "2019-05-05",
        "2020-01-01",
        "2020-06-30",
        "2021-02-28",
        "2022-12-31",
    ];
    let mut resources: Vec<Value> = days
        .iter()
        .enumerate()
        .map(|(n, day)| observation(&format!("s{n}"), nhs, "9999-1", day))
        .collect();
    resources.push(observation("other-code", nhs, "9999-2", "2020-01-01"));
    let reply = post(
        &practice,
        &deposit,
        bundle("transaction", &resources).to_string(),
    )
    .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());

    let read = token(&hospital, &treat(nhs)).await;
    let found = async |query: &str| {
        let (names, next) = page(
            &hospital,
            &read,
            &format!("/fhir/Observation?patient={nhs}&{query}"),
            nhs,
        )
        .await;
        assert!(next.is_none());
        names.into_iter().collect::<BTreeSet<String>>()
    };
    let set = |ids: &[&str]| {
        ids.iter()
            .map(|id| format!("Observation/{id}"))
            .collect::<BTreeSet<_>>()
    };
    let all = set(&["s0", "s1", "s2", "s3", "s4"]);
    assert_eq!(found("code=9999-1").await, all);
    assert_eq!(found("code=http://loinc.org%7C9999-1").await, all);
    assert_eq!(
        found("code=http://snomed.info/sct%7C9999-1").await,
        set(&[])
    );
    assert_eq!(found("code=9999-2").await, set(&["other-code"]));
    assert_eq!(found("code=9999-1&date=2020").await, set(&["s1", "s2"]));
    assert_eq!(
        found("code=9999-1&date=ge2020-06-30&date=lt2022").await,
        set(&["s2", "s3"])
    );
    assert_eq!(found("code=9999-1&category=laboratory").await, all);
    assert_eq!(found("code=9999-1&category=vital-signs").await, set(&[]));

    // Pages: absolute links, every record once, each asked and recorded anew.
    let mut next = Some(format!(
        "/fhir/Observation?patient={nhs}&code=9999-1&_count=2"
    ));
    let mut seen = Vec::new();
    let mut links = Vec::new();
    while let Some(path) = next {
        let (names, link) = page(&hospital, &read, &path, nhs).await;
        assert!(names.len() <= 2);
        seen.extend(names);
        if let Some(link) = &link {
            assert!(
                link.starts_with(&format!("{}/fhir/Observation?", stage.world.url())),
                "{link}"
            );
            links.push(link.clone());
        }
        next = link;
    }
    assert_eq!((seen.len(), links.len()), (5, 2));
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all);

    // A cursor that no answer gave: named, or just another place among the patient's own records.
    let (head, cursor) = links[0].split_once("_cursor=").unwrap();
    for wrong in [
        "AAAA",
        "!!",
        "a".repeat(300).as_str(),
        &cursor[..cursor.len() - 1],
    ] {
        let reply = get(&hospital, &read, &format!("{head}_cursor={wrong}")).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{wrong}: {}",
            reply.text()
        );
        assert!(reply.text().contains("_cursor"), "{}", reply.text());
    }
    let forged = "_".repeat(32);
    let reply = get(&hospital, &read, &format!("{head}_cursor={forged}")).await;
    let opened = open(&hospital, &reply, nhs).await;
    assert!(
        opened.records.is_empty(),
        "nothing stands after the last place"
    );
    let opened = open(
        &hospital,
        &get(
            &hospital,
            &read,
            &format!("{head}_cursor={}", "A".repeat(32)),
        )
        .await,
        nhs,
    )
    .await;
    assert!(
        opened
            .records
            .iter()
            .all(|record| all.contains(&record.name))
    );

    // The link with a token for another patient, over another certificate, and after an objection.
    let others = token(&hospital, &treat(quill().nhs)).await;
    refused(&get(&hospital, &others, &links[0]).await);
    let nurse = stage.party("hospital-b");
    assert_eq!(
        get(&nurse, &read, &links[0]).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(
        get(&hospital, &read, &links[0]).await.status,
        StatusCode::OK
    );
    assert_eq!(object(&practice, nhs, "pages").await.status, StatusCode::OK);
    refused(&get(&hospital, &read, &links[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_paged_and_narrowed() {
    let world = shared().await;
    let hospital = party(world, "hospital-a");
    let nhs = tanqueray().nhs;
    let read = token(&hospital, &treat(nhs)).await;
    let (all, _) = page(&hospital, &read, &everything(nhs), nhs).await;
    assert!(all.len() > 8, "{all:?}");
    let mut next = Some(format!("{}?_count=3", everything(nhs)));
    let mut paged = Vec::new();
    while let Some(path) = next {
        let (names, link) = page(&hospital, &read, &path, nhs).await;
        paged.extend(names);
        next = link;
    }
    assert_eq!(paged, all, "every record once, in the same order");
    let (some, _) = page(
        &hospital,
        &read,
        &format!("{}?_type=Medication,MedicationStatement", everything(nhs)),
        nhs,
    )
    .await;
    assert!(
        !some.is_empty() && some.iter().all(|name| name.starts_with("Medication")),
        "{some:?}"
    );
    for (query, word) in [
        ("_count=0", "_count"),
        ("_count=201", "_count"),
        ("_since=2020", "_since"),
        ("_type=", "_type"),
        ("_count=1&_count=2", "_count"),
    ] {
        let reply = get(&hospital, &read, &format!("{}?{query}", everything(nhs))).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(reply.text().contains(word), "{query}: {}", reply.text());
    }
    let other = get(&hospital, &read, &everything(hale().nhs)).await;
    refused(&other);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_looks_as_if_it_had_never_been() {
    let world = shared().await;
    let (practice, hospital) = (party(world, "practice-a"), party(world, "hospital-a"));
    let nhs = hale().nhs;
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let read = token(&hospital, &treat(nhs)).await;
    let body = observation("going", nhs, "7777-7", "2026-01-01").to_string();
    assert_eq!(
        put(&practice, &deposit, "Observation/going", body.clone())
            .await
            .status,
        StatusCode::CREATED
    );
    let there = get(&hospital, &read, "/fhir/Observation/going").await;
    assert_eq!(there.status, StatusCode::OK);
    assert!(
        there.header("content-length").is_some(),
        "its length is said"
    );
    let other = party(world, "practice-b");
    let others = token(
        &other,
        &json!({ "type": "deposit", "practice": PRACTICE_B }),
    )
    .await;
    let theirs = send(
        &other,
        Method::DELETE,
        "/fhir/Observation/going",
        &others,
        "",
    )
    .await;
    assert_eq!(
        theirs.status,
        StatusCode::NOT_FOUND,
        "another practice has no such record"
    );
    let gone = send(
        &practice,
        Method::DELETE,
        "/fhir/Observation/going",
        &deposit,
        "",
    )
    .await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT, "{}", gone.text());
    receipt(&gone, world.vkey());
    let withdrawn = get(&hospital, &read, "/fhir/Observation/going").await;
    let unknown = get(&hospital, &read, "/fhir/Observation/there-is-none").await;
    refused(&withdrawn);
    assert_eq!(withdrawn.body, unknown.body);
    assert_eq!(header_names(&withdrawn), header_names(&unknown));
    let (found, _) = page(
        &hospital,
        &read,
        &format!("/fhir/Observation?patient={nhs}&code=7777-7"),
        nhs,
    )
    .await;
    assert!(found.is_empty());
    assert!(
        !names(&hospital, nhs)
            .await
            .contains(&"Observation/going".to_owned())
    );
    // Filed again it is a new version, never a second face of the old one.
    let again = put(&practice, &deposit, "Observation/going", body).await;
    assert_eq!(
        (again.status, again.header("etag")),
        (StatusCode::OK, Some("W/\"2\"")),
        "{}",
        again.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_objection_acts_at_the_next_request_and_survives_a_restart() {
    let stage = Stage::new().await;
    let (practice, hospital) = (stage.party("practice-a"), stage.party("hospital-a"));
    let nhs = hale().nhs;
    let read = token(&hospital, &treat(nhs)).await;
    assert_eq!(
        get(&hospital, &read, &everything(nhs)).await.status,
        StatusCode::OK
    );
    let reply = object(&practice, nhs, "no-more").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(receipt(&reply, stage.vkey()).leaf["ev"], "facts.change");
    refused(&get(&hospital, &read, &everything(nhs)).await);
    denied(&hospital.ask(&treat(nhs), now_s()).await.unwrap());
    let stage = stage.restart().await;
    let (practice, hospital) = (stage.party("practice-a"), stage.party("hospital-a"));
    refused(&get(&hospital, &read, &everything(nhs)).await);
    denied(&hospital.ask(&treat(nhs), now_s()).await.unwrap());
    let token = token(&practice, &consent_for(PRACTICE_A, nhs)).await;
    let reply = send(
        &practice,
        Method::DELETE,
        "/fhir/Consent/no-more",
        &token,
        "",
    )
    .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    receipt(&reply, stage.vkey());
    assert_eq!(
        get(&hospital, &read, &everything(nhs)).await.status,
        StatusCode::OK,
        "taken back, it acts no more"
    );
    // One that is stated inactive is taken back too.
    assert_eq!(object(&practice, nhs, "again").await.status, StatusCode::OK);
    refused(&get(&hospital, &read, &everything(nhs)).await);
    let inactive = with(consent("again", nhs), &[("status", json!("inactive"))]);
    let reply = put(&practice, &token, "Consent/again", inactive.to_string()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let stage = stage.restart().await;
    assert_eq!(
        get(&stage.party("hospital-a"), &read, &everything(nhs))
            .await
            .status,
        StatusCode::OK
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_for_another_patient_is_never_filed_for_this_one() {
    let world = shared().await;
    let practice = party(world, "practice-a");
    let token = token(&practice, &consent_for(PRACTICE_A, hale().nhs)).await;
    let reply = put(
        &practice,
        &token,
        "Consent/astray",
        consent("astray", quill().nhs).to_string(),
    )
    .await;
    assert_eq!(
        reply.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        reply.text()
    );
    says_nothing_inside(&reply);
    let about = |id: &str| consent(id, hale().nhs).to_string();
    let deposit = common::token(&practice, &deposit_for(PRACTICE_A, hale().nhs)).await;
    let reply = put(&practice, &deposit, "Consent/astray", about("astray")).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(reply.text().contains("consent token"), "{}", reply.text());
    let reply = put(&practice, &token, "Consent/astray", about("another")).await;
    assert_eq!(
        reply.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        reply.text()
    );
    let record = observation("astray", hale().nhs, GLUCOSE, "2020").to_string();
    refused(&put(&practice, &token, "Observation/astray", record).await);
    let hospital = party(world, "hospital-a");
    let read = common::token(&hospital, &treat(hale().nhs)).await;
    refused(&put(&hospital, &read, "Consent/astray", about("astray")).await);
    let reply = get(&hospital, &read, &everything(hale().nhs)).await;
    assert_eq!(
        reply.status,
        StatusCode::OK,
        "nothing of this was an objection"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_in_flight_do_not_notice_a_rotation() {
    let stage = Stage::new().await;
    let admin = stage.party("admin-1");
    let nhs = hale().nhs;
    let hospital = Arc::new(stage.party("hospital-a"));
    let keys = Arc::new(hospital.keys().await.unwrap());
    let read = token(&hospital, &treat(nhs)).await;
    let want = names(&hospital, nhs).await;
    let (stop, reads) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let reader = {
        let (hospital, keys, read, stop, want, read_so_far) = (
            Arc::clone(&hospital),
            Arc::clone(&keys),
            read.clone(),
            Arc::clone(&stop),
            want.clone(),
            Arc::clone(&reads),
        );
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let reply = hospital.read(&everything(nhs), &read).await.unwrap();
                let opened = hospital.open(&reply, nhs, &keys, now_s()).unwrap();
                let names: Vec<String> = opened
                    .records
                    .into_iter()
                    .map(|record| record.name)
                    .collect();
                assert_eq!(names, want);
                read_so_far.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    for version in 2..=6 {
        let before = reads.load(Ordering::Relaxed);
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
            (StatusCode::ACCEPTED, Some(version)),
            "{}",
            reply.text()
        );
        receipt(&reply, stage.vkey());
        settled(&admin, version).await;
        // One read was under way when the key turned, and one began after: both open the same records.
        while reads.load(Ordering::Relaxed) < before + 2 {
            assert!(
                !reader.is_finished(),
                "a read failed under version {version}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    let stage = stage.restart().await;
    assert_eq!(names(&stage.party("hospital-a"), nhs).await, want);
}

/// Waits until no record key is left under an older version than this.
async fn settled(admin: &Party, version: u64) {
    for _ in 0..500 {
        let reply = admin
            .http
            .send(Method::GET, &format!("/admin/keys/{PRACTICE_A}"), &[], "")
            .await
            .unwrap();
        let rows = reply.json()["kek"].as_array().cloned().unwrap_or_default();
        if !rows.is_empty() && rows.iter().all(|row| row["version"] == version) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("record keys are left under an older version than {version}");
}

/// A form for the token endpoint with this assertion.
fn form(party: &Party, assertion: &str, details: &Value) -> String {
    let details = json!([details]).to_string();
    serde_urlencoded::to_string([
        ("grant_type", "client_credentials"),
        ("client_id", party.client_id.as_str()),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", assertion),
        ("authorization_details", &details),
    ])
    .unwrap()
}

async fn ask_with(party: &Party, body: String, path: &str) -> Reply {
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    party
        .http
        .send(Method::POST, path, &headers, body)
        .await
        .unwrap()
}

async fn revoke(party: &Party, assertion: &str, token: &str) -> Reply {
    let body = serde_urlencoded::to_string([
        ("client_id", party.client_id.as_str()),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", assertion),
        ("token", token),
    ]);
    ask_with(party, body.unwrap(), "/oauth/revoke").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_up_or_revoked_stays_so_across_a_restart() {
    let stage = Stage::new().await;
    let hospital = stage.party("hospital-a");
    let nhs = hale().nhs;
    let details = treat(nhs);
    let used: Vec<String> = (0..4).map(|_| hospital.assertion(now_s())).collect();
    let granted = ask_with(
        &hospital,
        form(&hospital, &used[0], &details),
        "/oauth/token",
    )
    .await;
    assert_eq!(granted.status, StatusCode::OK, "{}", granted.text());
    let refusal = ask_with(
        &hospital,
        form(&hospital, &used[1], &treat(NOBODY)),
        "/oauth/token",
    )
    .await;
    denied(&refusal);
    let doomed = token(&hospital, &details).await;
    let kept = token(&hospital, &details).await;
    let revoked = revoke(&hospital, &used[2], &doomed).await;
    assert_eq!(revoked.status, StatusCode::OK, "{}", revoked.text());
    receipt(&revoked, stage.vkey());
    let nothing = revoke(&hospital, &used[3], "no.such.token").await;
    assert_eq!(
        (nothing.status, &nothing.body),
        (revoked.status, &revoked.body),
        "RFC 7009 §2.2"
    );
    assert!(
        nothing.header("sallyport-receipt").is_some(),
        "both are recorded"
    );
    // A request that came to nothing for its form has used nothing up, now or later.
    let spare = hospital.assertion(now_s());
    let malformed = ask_with(
        &hospital,
        form(&hospital, &spare, &json!({})),
        "/oauth/token",
    )
    .await;
    assert_eq!(
        malformed.status,
        StatusCode::BAD_REQUEST,
        "{}",
        malformed.text()
    );
    let reply = ask_with(&hospital, form(&hospital, &spare, &details), "/oauth/token").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let used = [used, vec![spare]].concat();
    let check = async |hospital: &Party, when: &str| {
        for (n, assertion) in used.iter().enumerate() {
            let reply = ask_with(
                hospital,
                form(hospital, assertion, &details),
                "/oauth/token",
            )
            .await;
            assert_eq!(
                reply.status,
                StatusCode::UNAUTHORIZED,
                "assertion {n} {when}: {}",
                reply.text()
            );
            assert!(reply.text().contains("jti"), "{}", reply.text());
        }
        let dead = get(hospital, &doomed, &everything(nhs)).await;
        assert_eq!(dead.status, StatusCode::UNAUTHORIZED, "{when}");
        assert_eq!(
            get(hospital, &kept, &everything(nhs)).await.status,
            StatusCode::OK,
            "{when}"
        );
    };
    check(&hospital, "at once").await;
    let stage = stage.restart().await;
    check(&stage.party("hospital-a"), "after a restart").await;
    let stage = stage.restart().await;
    check(&stage.party("hospital-a"), "after two restarts").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_facts_deleted_or_changed_behind_its_back_makes_the_practice_unknown() {
    let stage = Stage::new().await;
    let read = token(&stage.party("hospital-a"), &treat(hale().nhs)).await;
    let (clean, address) = stage.stop().await;
    for what in ["an objection deleted", "an objection changed"] {
        let dir = folder();
        copy(clean.path(), dir.path());
        // The one objection of the world: it is the second practice's no more than anybody else's.
        facts_rows(dir.path(), b'O', move |value| {
            let last = value.len() - 1;
            value[last] ^= 1;
            what.ends_with("changed")
        });
        let stage = Stage::again(dir, address).await.expect(what);
        first_practice_is_unknown(&stage, &read).await;
        // And it stays so: another start does not make it known.
        let stage = stage.restart().await;
        first_practice_is_unknown(&stage, &read).await;
        stage.stop().await;
    }
    // A row of the directory: nobody is known, nobody is served.
    facts_rows(clean.path(), b'p', |_| false);
    let stage = Stage::again(clean, address).await.expect("it opens");
    let reply = stage
        .party("hospital-a")
        .ask(&treat(hale().nhs), now_s())
        .await
        .unwrap();
    assert_eq!(
        reply.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        reply.text()
    );
    says_nothing_inside(&reply);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_store_put_back_is_not_served() {
    for what in ["an objection", "a record"] {
        let stage = Stage::new().await;
        let older = folder();
        let stage = stage
            .after(|dir| copy(&dir.join("data/store"), older.path()))
            .await
            .unwrap();
        let practice = stage.party("practice-a");
        let reply = match what {
            "an objection" => object(&practice, quill().nhs, "late").await,
            _ => {
                let token = token(&practice, &deposit_for(PRACTICE_A, hale().nhs)).await;
                let body = observation("late", hale().nhs, "2823-3", "2026-11-02").to_string();
                put(&practice, &token, "Observation/late", body).await
            }
        };
        assert!(reply.status.is_success(), "{what}: {}", reply.text());
        let again = stage
            .after(|dir| put_back(older.path(), &dir.join("data/store")))
            .await;
        // What was acknowledged is gone from the store; the ledger knows better.
        let Err(refused) = again else {
            panic!("a store without {what} is served");
        };
        assert!(
            refused.to_string().contains("older copy"),
            "{what}: {refused}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_answer_carries_a_receipt_that_holds() {
    let stage = Stage::new().await;
    let vkey = stage.vkey().clone();
    let (practice, hospital) = (stage.party("practice-a"), stage.party("hospital-a"));
    let (admin, auditor) = (stage.party("admin-1"), stage.party("auditor"));
    let nhs = hale().nhs;
    let mut kept = Vec::new();
    let mut keep = |reply: &Reply, event: &str| {
        let evidence = receipt(reply, &vkey);
        assert_eq!(evidence.leaf["ev"], event);
        let opened: Vec<&String> = evidence.opened.keys().collect();
        if event.ends_with(".refuse") {
            assert_eq!(
                opened,
                ["actor"],
                "{event}: a refusal opens only what the caller said"
            );
        } else if evidence.leaf["ev"] != "token.revoke" {
            assert_eq!(opened.len(), 4, "{event}: {opened:?}");
        }
        kept.push(evidence);
    };
    let reply = hospital.ask(&treat(nhs), now_s()).await.unwrap();
    keep(&reply, "token.issue");
    let read = reply.json()["access_token"].as_str().unwrap().to_owned();
    keep(
        &hospital.ask(&treat(NOBODY), now_s()).await.unwrap(),
        "token.refuse",
    );
    keep(
        &get(&hospital, &read, &everything(nhs)).await,
        "record.release",
    );
    keep(
        &get(&hospital, &read, "/fhir/Observation/none").await,
        "record.refuse",
    );
    let reply = get(
        &hospital,
        &read,
        &format!("/fhir/Observation?patient={nhs}&code=0-0"),
    )
    .await;
    keep(&reply, "record.release");
    let opened = open(&hospital, &reply, nhs).await;
    assert!(opened.records.is_empty() && !reply.text().contains("\"ticket\""));
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let body = observation("r1", nhs, GLUCOSE, "2026-01-01").to_string();
    keep(
        &put(&practice, &deposit, "Observation/r1", body.clone()).await,
        "record.deposit",
    );
    keep(
        &post(
            &practice,
            &deposit,
            bundle("transaction", &[observation("r2", nhs, GLUCOSE, "2026")]).to_string(),
        )
        .await,
        "record.deposit",
    );
    keep(
        &send(
            &practice,
            Method::DELETE,
            "/fhir/Observation/r1",
            &deposit,
            "",
        )
        .await,
        "record.withdraw",
    );
    let doctors = put(&hospital, &read, "Observation/r1", body).await;
    refused(&doctors);
    keep(&doctors, "deposit.refuse");
    keep(&object(&practice, nhs, "r").await, "facts.change");
    let rotate = format!("/admin/keys/{PRACTICE_A}/rotate");
    keep(
        &admin
            .http
            .send(Method::POST, &rotate, &[], "")
            .await
            .unwrap(),
        "admin.act",
    );
    keep(
        &admin
            .http
            .send(Method::GET, &format!("/admin/keys/{PRACTICE_A}"), &[], "")
            .await
            .unwrap(),
        "admin.act",
    );
    keep(
        &hospital
            .http
            .send(Method::POST, &rotate, &[], "")
            .await
            .unwrap(),
        "admin.refuse",
    );
    stage.world.publish().await;
    keep(
        &auditor
            .http
            .send(Method::GET, "/log/tile/entries/000.p/1", &[], "")
            .await
            .unwrap(),
        "log.read",
    );
    keep(
        &hospital
            .http
            .send(Method::GET, "/log/tile/entries/000.p/1", &[], "")
            .await
            .unwrap(),
        "log.refuse",
    );
    keep(
        &revoke(&hospital, &hospital.assertion(now_s()), &read).await,
        "token.revoke",
    );
    let indices: BTreeSet<u64> = kept.iter().map(|evidence| evidence.index).collect();
    assert_eq!(indices.len(), kept.len(), "one entry each");
    let (dir, _) = stage.stop().await;
    let entries = entries(dir.path(), &vkey);
    all_stand(&kept, &entries);
    let report = verify(dir.path(), &vkey);
    assert!(report.holds(), "{}", report.to_json());
    assert_eq!(report.size, entries.len() as u64);
    for leaf in entries.values() {
        assert!(!leaf.contains(nhs) && leaf.is_ascii(), "{leaf}");
    }
}
