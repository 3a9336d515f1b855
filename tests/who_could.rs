//! Who could open a record now, and what changed since: asked from outside over real mutual TLS, and held against what
//! the same asks really come to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::*;
use hyper::{Method, StatusCode};
use sallyport::clock::Clock;
use sallyport::connect::{Party, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;

const HOUR_MS: u64 = 3_600_000;
/// Asks of the world's catalogue that nobody of that organisation and role could ask rightly.
const WRONG_FOR_ALL: [&str; 6] = [
    "no-agreement",
    "wrong-purpose",
    "objection",
    "research-objection",
    "research-without-approval",
    "research-by-a-hospital",
];

/// A world under a clock that the test moves.
struct Moved {
    served: Served,
    dir: TempDir,
    ahead_ms: Arc<AtomicU64>,
}

fn clock(ahead_ms: &Arc<AtomicU64>) -> Clock {
    let (ahead_ms, system) = (Arc::clone(ahead_ms), Clock::system());
    Clock::from_fn(move || system.now_ms() + ahead_ms.load(Ordering::SeqCst))
}

impl Moved {
    async fn new() -> Self {
        let (dir, _) = Stage::new().await.stop().await;
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let served = Served::open_at(dir.path(), None, clock(&ahead_ms)).await;
        Self {
            served: served.unwrap(),
            dir,
            ahead_ms,
        }
    }

    async fn again(self) -> Self {
        self.served.stop().await;
        let served = Served::open_at(self.dir.path(), None, clock(&self.ahead_ms)).await;
        Self {
            served: served.unwrap(),
            ..self
        }
    }

    fn party(&self, name: &str) -> Party {
        party_at(self.dir.path(), name)
    }

    fn pass(&self, ms: u64) {
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }

    fn now_ms(&self) -> u64 {
        clock(&self.ahead_ms).now_ms()
    }

    async fn send(
        &self,
        name: &str,
        details: &Value,
        (method, path): (Method, &str),
        body: &Value,
    ) -> Reply {
        let party = self.party(name);
        let token = party
            .token(details, self.now_ms() / 1000)
            .await
            .expect("a token");
        send(&party, method, path, &token, body.to_string()).await
    }

    async fn asked(&self, name: &str, details: &Value, body: Value) -> Value {
        let reply = self
            .send(name, details, (Method::POST, "/who-could"), &body)
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }

    async fn by_practice(&self, body: Value) -> Value {
        self.asked("practice-a", &agreement_of(PRACTICE_A), body)
            .await
    }
}

fn list<'a>(value: &'a Value, member: &str) -> Vec<&'a Value> {
    value[member].as_array().unwrap().iter().collect()
}

/// The ways of one organisation.
fn ways<'a>(value: &'a Value, member: &str, ods: &str) -> Vec<&'a Value> {
    let groups = list(value, member);
    let its = groups.into_iter().filter(|group| {
        list(group, "organisations")
            .iter()
            .any(|it| it["ods"] == ods)
    });
    its.flat_map(|group| list(group, "ways")).collect()
}

fn opens(ways: &[&Value], purpose: &str) -> bool {
    ways.iter()
        .any(|way| way["purpose"] == purpose && !list(way, "opens").is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_is_what_really_happens() {
    let stage = Stage::new().await;
    let world: Value =
        serde_json::from_slice(&std::fs::read(stage.path().join("world.json")).unwrap()).unwrap();
    let practice = stage.party("practice-a");
    let mut compared = 0;
    for ask in list(&world, "asks") {
        let details = &ask["authorization_details"];
        let (nhs, purpose) = (
            details["patient"].as_str().unwrap(),
            details["purpose"].as_str().unwrap(),
        );
        let registered = list(&world, "patients")
            .iter()
            .any(|it| it["nhs_number"] == nhs && it["practice"] == PRACTICE_A);
        if !registered {
            continue;
        }
        let client = ask["client"].as_str().unwrap();
        let ods = list(&world, "organisations")
            .iter()
            .find(|it| it["name"] == client)
            .unwrap()["ods"]
            .as_str()
            .unwrap()
            .to_owned();
        let people = list(&world, "practitioners");
        let person = people.iter().find(|it| {
            it["id"] == details["practitioner"]["id"] && it["organisation"] == ods.as_str()
        });
        let Some(person) = person else { continue };
        let token = token(&practice, &agreement_of(PRACTICE_A)).await;
        let body = json!({ "patient": nhs }).to_string();
        let reply = send(&practice, Method::POST, "/who-could", &token, body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        receipt(&reply, stage.vkey());
        let told = reply.json();
        let ways = ways(&told, "could", &ods);
        let is_way = |way: &&&Value| way["purpose"] == purpose && way["role"] == person["role"];
        let could = ways.iter().any(|way| is_way(&way));
        match ask["expect"].as_str().unwrap() {
            "permit" => assert!(could, "{}: {told:#}", ask["name"]),
            // What is asked wrongly (without a reason, by somebody untrained) others could ask rightly.
            _ if WRONG_FOR_ALL.contains(&ask["name"].as_str().unwrap()) => {
                assert!(!could, "{}: {told:#}", ask["name"]);
            }
            _ => continue,
        }
        compared += 1;
    }
    assert!(compared >= 8, "{compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_is_told_from_the_ledgers_own_facts() {
    let moved = Moved::new().await;
    let nhs = hale().nhs;
    let b = "RM3";
    let before = moved.now_ms();
    moved.pass(HOUR_MS);
    assert!(
        ways(
            &moved.by_practice(json!({ "patient": nhs })).await,
            "could",
            b
        )
        .is_empty()
    );

    // An emergency agreement with hospital B, proposed, accepted and cooled.
    let path = format!("/agreements/{PRACTICE_A}/{b}/emergencies-b");
    let terms = json!({
        "purposes": ["BTG", "ETREAT"], "categories": ["medications", "allergies", "problems", "observations"],
        "from_ms": before, "until_ms": moved.now_ms() + 1000 * HOUR_MS, "signer": "Dr Ada Prior",
    });
    let own = agreement_of(PRACTICE_A);
    let reply = moved
        .send("practice-a", &own, (Method::PUT, &path), &terms)
        .await;
    assert!(reply.status.is_success(), "{}", reply.text());
    let all = moved
        .send(
            "practice-a",
            &own,
            (Method::GET, "/agreements"),
            &Value::Null,
        )
        .await
        .json();
    let digest = list(&all, "agreements")
        .into_iter()
        .find(|it| it["reference"] == "emergencies-b")
        .unwrap()["terms"]
        .clone();
    let accept = json!({ "terms": digest, "signer": "Ola Berg" });
    let reply = moved
        .send(
            "hospital-b",
            &acceptance_of(b),
            (Method::POST, &format!("{path}/accept")),
            &accept,
        )
        .await;
    assert!(reply.status.is_success(), "{}", reply.text());
    let cooling = moved.now_ms();
    moved.pass(25 * HOUR_MS);

    let told = moved
        .by_practice(json!({ "patient": nhs, "since_ms": before }))
        .await;
    assert!(opens(&ways(&told, "could", b), "BTG"), "{told:#}");
    assert!(opens(&ways(&told["since"], "newly", b), "BTG"), "{told:#}");
    assert!(ways(&told["since"], "no_longer", b).is_empty());
    assert!(
        ways(&told["since"], "newly", "RJ1").is_empty(),
        "what was possible before is not new"
    );
    // While it cooled it was not possible, and that is known a day later.
    let told = moved
        .by_practice(json!({ "patient": nhs, "since_ms": cooling }))
        .await;
    assert!(opens(&ways(&told["since"], "newly", b), "BTG"));

    // Withdrawn: no longer, from the next question on, also after a restart, to the auditor too.
    let in_force = moved.now_ms();
    moved.pass(HOUR_MS);
    let reply = moved
        .send("practice-a", &own, (Method::DELETE, &path), &Value::Null)
        .await;
    assert!(reply.status.is_success(), "{}", reply.text());
    moved.pass(HOUR_MS);
    let moved = moved.again().await;
    for (name, details, body) in [
        (
            "practice-a",
            own.clone(),
            json!({ "patient": nhs, "since_ms": in_force }),
        ),
        (
            "auditor",
            json!({ "type": "history", "patient": nhs }),
            json!({ "since_ms": in_force }),
        ),
        (
            "privacy-officer",
            json!({ "type": "history", "patient": nhs }),
            json!({ "patient": nhs, "since_ms": in_force }),
        ),
    ] {
        let told = moved.asked(name, &details, body).await;
        assert!(ways(&told, "could", b).is_empty(), "{name}");
        assert!(
            opens(&ways(&told["since"], "no_longer", b), "BTG"),
            "{name}: {told:#}"
        );
        assert!(ways(&told["since"], "newly", b).is_empty(), "{name}");
    }
    // And a week before that, when it was not there, nothing is different.
    let told = moved
        .by_practice(json!({ "patient": nhs, "since_ms": before }))
        .await;
    assert!(
        ways(&told["since"], "newly", b).is_empty()
            && ways(&told["since"], "no_longer", b).is_empty()
    );
    moved.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_stopped_could_no_longer_and_who_objects_is_heeded() {
    let moved = Moved::new().await;
    let nhs = hale().nhs;
    moved.pass(HOUR_MS);
    let told = moved.by_practice(json!({ "patient": nhs })).await;
    assert!(opens(&ways(&told, "could", "RJ1"), "TREAT"), "{told:#}");
    let before = moved.now_ms();
    moved.pass(HOUR_MS);
    let admin = moved.party("admin-1");
    let act = json!({ "act": "organisation.suspend", "object": "RJ1", "why": "stolen laptops" });
    let reply = certified(&admin, Method::POST, "/admin/acts", act).await;
    assert!(reply.status.is_success(), "{}", reply.text());
    let told = moved
        .by_practice(json!({ "patient": nhs, "since_ms": before }))
        .await;
    assert!(ways(&told, "could", "RJ1").is_empty());
    assert!(
        opens(&ways(&told["since"], "no_longer", "RJ1"), "TREAT"),
        "{told:#}"
    );
    let moved = moved.again().await;
    let told = moved
        .by_practice(json!({ "patient": nhs, "since_ms": before }))
        .await;
    assert!(
        opens(&ways(&told["since"], "no_longer", "RJ1"), "TREAT"),
        "after a restart: {told:#}"
    );
    moved.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_is_asked_about_by_its_name_and_outsiders_learn_nothing() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let practice = stage.party("practice-a");
    let own = token(&practice, &agreement_of(PRACTICE_A)).await;
    let ask = |record: &str| json!({ "patient": nhs, "record": record }).to_string();
    let reply = send(
        &practice,
        Method::POST,
        "/who-could",
        &own,
        ask("Observation/hale-obs-4"),
    )
    .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let told = reply.json();
    assert_eq!(list(&told, "records").len(), 1);
    assert!(opens(&ways(&told, "could", "RJ1"), "TREAT"), "{told:#}");
    let reply = send(
        &practice,
        Method::POST,
        "/who-could",
        &own,
        ask("Observation/none"),
    )
    .await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    for (body, member) in [
        (json!({ "patient": "9990000019" }), "patient"),
        (json!({ "record": "Observation/x" }), "patient"),
        (json!({ "patient": nhs, "record": "none" }), "record"),
        (
            json!({ "patient": nhs, "since_ms": 9_000_000_000_000_u64 }),
            "since_ms",
        ),
    ] {
        let reply = send(
            &practice,
            Method::POST,
            "/who-could",
            &own,
            body.to_string(),
        )
        .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
        assert!(reply.text().contains(member), "{}", reply.text());
    }
    // Another practice, a hospital, the patient's own portal: the same refusal, whoever the patient is.
    let elsewhere = stage.party("practice-b");
    let b = token(&elsewhere, &agreement_of(PRACTICE_B)).await;
    let hospital = stage.party("hospital-a");
    let reads = token(&hospital, &treat(nhs)).await;
    let portal = stage.party("patient-portal");
    let history = token(&portal, &history_of(nhs)).await;
    let mut bodies = Vec::new();
    for (party, token) in [(&elsewhere, &b), (&hospital, &reads), (&portal, &history)] {
        let patient = json!({ "patient": nhs }).to_string();
        let reply = send(party, Method::POST, "/who-could", token, patient).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text());
        receipt(&reply, stage.vkey());
        bodies.push(reply.text());
    }
    let nobody = json!({ "patient": NOBODY }).to_string();
    let reply = send(&practice, Method::POST, "/who-could", &own, nobody).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    bodies.push(reply.text());
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:#?}");
}

/// The question in the guide is answered as the guide says.
#[test]
fn the_guides_question_is_explained_as_it_says() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/question.json");
    let (supposed, facts) =
        sallyport::cli::explain::read(&std::fs::read(file).unwrap(), 0).unwrap();
    let rules = policy::Rules::built_in().unwrap();
    let told = policy::explain::explain(&rules, &supposed, &facts);
    let refusing = |at: usize| {
        let act = &told[at].acts[1];
        assert_eq!(act.permitting.first().unwrap().rule(), "care");
        act.refusing
            .iter()
            .map(|it| it.rule().to_owned())
            .collect::<Vec<_>>()
    };
    let both = ["never-untrained", "never-without-relationship"];
    let sensitive = [&both[..], &["never-sensitive-by-default"]].concat();
    assert_eq!(refusing(0), sensitive, "problems, labelled HIV");
    assert_eq!(refusing(1), both, "medications");
    for broken in ["{}", "[]", r#"{"now_ms":"1"}"#] {
        assert!(sallyport::cli::explain::read(broken.as_bytes(), 0).is_err());
    }
}
