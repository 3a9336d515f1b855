//! Sharing agreements from outside, over real mutual TLS: no one credential makes one, none acts before it was
//! accepted and cooled, and one that is withdrawn stops tokens that live.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use common::moved::*;
use common::*;
use hyper::{Method, StatusCode};
use sallyport::connect::Reply;
use serde_json::{Value, json};

const HOSPITAL_B: &str = "RM3";

impl Moved {
    async fn list(&self, name: &str, details: &Value) -> Vec<Value> {
        let reply = self
            .json(name, details, (Method::GET, "/agreements"), &Value::Null)
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()["agreements"].as_array().unwrap().clone()
    }

    /// The state of one agreement, as both sides read it.
    async fn state(&self, reference: &str) -> String {
        let find = |all: Vec<Value>| {
            let found = all.into_iter().find(|it| it["reference"] == reference);
            found.expect("it is listed")["state"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let ours = find(self.list("practice-a", &agreement_of(PRACTICE_A)).await);
        let theirs = find(self.list("hospital-b", &acceptance_of(HOSPITAL_B)).await);
        assert_eq!(ours, theirs);
        ours
    }

    async fn propose(&self, reference: &str) -> Reply {
        let path = format!("/agreements/{PRACTICE_A}/{HOSPITAL_B}/{reference}");
        let body = self.terms(&[]);
        self.json(
            "practice-a",
            &agreement_of(PRACTICE_A),
            (Method::PUT, &path),
            &body,
        )
        .await
    }

    fn terms(&self, changes: &[(&str, Value)]) -> Value {
        let terms = json!({
            "purposes": ["TREAT"], "categories": ["demographics", "problems", "observations", "medications", "allergies"],
            "from_ms": self.now_s() * 1000 - HOUR_MS, "until_ms": self.now_s() * 1000 + 1000 * HOUR_MS,
            "signer": "Dr Ada Prior, Caldicott Guardian",
        });
        with(terms, changes)
    }

    async fn accept(&self, name: &str, reference: &str, terms: &Value) -> Reply {
        let path = format!("/agreements/{PRACTICE_A}/{HOSPITAL_B}/{reference}/accept");
        let body = json!({ "terms": terms, "signer": "Ola Berg" });
        self.json(
            name,
            &acceptance_of(HOSPITAL_B),
            (Method::POST, &path),
            &body,
        )
        .await
    }
}

/// What a doctor of the second hospital asks: the referral stands, and until now no agreement.
fn ask_of_b() -> Value {
    with(
        treat(hale().nhs),
        &[("practitioner", json!({ "id": "dr-hart" }))],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agreement_is_proposed_accepted_cooled_and_withdrawn() {
    let world = Moved::new().await;
    denied(&world.ask("hospital-b", &ask_of_b()).await);
    let proposed = world.propose("b-1").await;
    assert_eq!(proposed.status, StatusCode::CREATED, "{}", proposed.text());
    let terms = proposed.json()["terms"].clone();
    assert_eq!(world.state("b-1").await, "proposed");
    denied(&world.ask("hospital-b", &ask_of_b()).await);
    // The same reference does not stand twice, and other terms than those read are not accepted.
    assert_eq!(world.propose("b-1").await.status, StatusCode::CONFLICT);
    let others = world
        .accept("hospital-b", "b-1", &json!("0".repeat(64)))
        .await;
    assert_eq!(others.status, StatusCode::CONFLICT, "{}", others.text());

    let accepted = world.accept("hospital-b", "b-1", &terms).await;
    assert_eq!(accepted.status, StatusCode::OK, "{}", accepted.text());
    assert_eq!(world.state("b-1").await, "cooling");
    denied(&world.ask("hospital-b", &ask_of_b()).await);
    world.pass(23);
    denied(&world.ask("hospital-b", &ask_of_b()).await);
    world.pass(2);
    assert_eq!(world.state("b-1").await, "in-force");
    let token = world.token("hospital-b", &ask_of_b()).await;
    let hospital = world.party("hospital-b");
    let reply = get(&hospital, &token, &everything(hale().nhs)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());

    // Withdrawn: the token that lives opens nothing any more.
    let path = format!("/agreements/{PRACTICE_A}/{HOSPITAL_B}/b-1");
    let side = agreement_of(PRACTICE_A);
    let reply = world
        .json("practice-a", &side, (Method::DELETE, &path), &Value::Null)
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    refused(&get(&hospital, &token, &everything(hale().nhs)).await);
    denied(&world.ask("hospital-b", &ask_of_b()).await);
    assert_eq!(world.state("b-1").await, "withdrawn");
    let late = world.accept("hospital-b", "b-1", &terms).await;
    assert_eq!(
        late.status,
        StatusCode::CONFLICT,
        "what is withdrawn is not accepted again"
    );

    let vkey = party_at(world.dir.path(), "auditor").vkey;
    world.served.stop().await;
    let notices: Vec<Value> = events(world.dir.path(), &vkey, "notice");
    let told: Vec<&str> = notices
        .iter()
        .map(|it| it["al"].as_str().unwrap())
        .collect();
    assert_eq!(
        told,
        [
            "agreement.proposed",
            "agreement.accepted",
            "agreement.ended"
        ]
    );
    assert!(
        notices
            .iter()
            .all(|it| it["of"] == PRACTICE_A && it["about"] == "RM3/b-1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stolen_credential_makes_none() {
    let world = Moved::new().await;
    let terms = world.propose("stolen-1").await.json()["terms"].clone();
    // Whoever holds the practice's keys cannot speak for the organisation, nor have a token to.
    denied(&world.ask("practice-a", &acceptance_of(HOSPITAL_B)).await);
    denied(&world.ask("practice-a", &acceptance_of(PRACTICE_A)).await);
    let accept = format!("/agreements/{PRACTICE_A}/{HOSPITAL_B}/stolen-1/accept");
    let body = json!({ "terms": terms, "signer": "Ola Berg" });
    let own = agreement_of(PRACTICE_A);
    let reply = world
        .json("practice-a", &own, (Method::POST, &accept), &body)
        .await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    // Nor does another hospital, nor the hospital itself for what was not proposed to it.
    denied(&world.ask("hospital-a", &acceptance_of(HOSPITAL_B)).await);
    let reply = world
        .json(
            "hospital-a",
            &acceptance_of("RJ1"),
            (Method::POST, &accept),
            &body,
        )
        .await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    // The hospital cannot propose for the practice.
    denied(&world.ask("hospital-b", &agreement_of(PRACTICE_A)).await);
    let propose = format!("/agreements/{PRACTICE_A}/{HOSPITAL_B}/stolen-2");
    let side = acceptance_of(HOSPITAL_B);
    let reply = world
        .json(
            "hospital-b",
            &side,
            (Method::PUT, &propose),
            &world.terms(&[]),
        )
        .await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    // It asks for a shorter time to think again first: that has to cool itself.
    let settings = json!({ "cooling_off_ms": 0, "contacts": ["mailto:thief@example.org"] });
    let path = format!("/practices/{PRACTICE_A}");
    let reply = world
        .json("practice-a", &own, (Method::PUT, &path), &settings)
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let reply = world
        .json("practice-a", &own, (Method::GET, &path), &Value::Null)
        .await;
    assert_eq!(reply.json()["cooling_off_now_ms"], 24 * HOUR_MS);
    let terms = world.propose("stolen-3").await.json()["terms"].clone();
    let reply = world.accept("hospital-b", "stolen-3", &terms).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(world.state("stolen-3").await, "cooling");
    denied(&world.ask("hospital-b", &ask_of_b()).await);
    world.pass(25);
    let terms = world.propose("quick").await.json()["terms"].clone();
    world.accept("hospital-b", "quick", &terms).await;
    assert_eq!(
        world.state("quick").await,
        "in-force",
        "the practice did set it"
    );
    world.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agreement_must_say_is_said_by_member_and_rule() {
    let world = Moved::new().await;
    for (changes, word) in [
        (vec![("purposes", json!([]))], "purposes"),
        (vec![("purposes", json!(["*"]))], "purposes"),
        (vec![("purposes", json!(["HMARKT"]))], "purposes"),
        (vec![("categories", json!(["all"]))], "categories"),
        (vec![("labels", json!(["anything"]))], "labels"),
        (vec![("signer", json!(""))], "signer"),
        (vec![("signer", json!("-"))], "signer"),
        (vec![("signer", Value::Null)], "signer"),
        (vec![("until_ms", json!(0))], "until_ms"),
        (
            vec![("organisations", json!(["RM3", "RJ1"]))],
            "organisations",
        ),
        (vec![("hand", json!({}))], "hand"),
        (vec![("cooling_ms", json!(0))], "cooling_ms"),
    ] {
        let path = format!("/agreements/{PRACTICE_A}/{HOSPITAL_B}/bad-1");
        let body = world.terms(&changes);
        let side = agreement_of(PRACTICE_A);
        let reply = world
            .json("practice-a", &side, (Method::PUT, &path), &body)
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
        let text = reply.json()["error_description"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(text.contains(word), "{word}: {text}");
    }
    for organisation in ["*", "ALL%", "NHS-ENGLAND", "RJ1,RM3"] {
        let path = format!("/agreements/{PRACTICE_A}/{organisation}/bad-1");
        let side = agreement_of(PRACTICE_A);
        let reply = world
            .json("practice-a", &side, (Method::PUT, &path), &world.terms(&[]))
            .await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{organisation}: {}",
            reply.text()
        );
    }
    for details in [
        json!({ "type": "agreement" }),
        json!({ "type": "agreement", "practice": PRACTICE_A, "organisation": HOSPITAL_B }),
        json!({ "type": "agreement", "practice": PRACTICE_A, "patient": hale().nhs }),
        json!({ "type": "relationship", "practice": PRACTICE_A }),
        json!({ "type": "relationship", "patient": hale().nhs }),
    ] {
        let reply = world.ask("practice-a", &details).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{details}");
    }
    world.served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_practice_accepts_only_systems_registered_for_it_and_cannot_lock_itself_out() {
    let world = Moved::new().await;
    let side = agreement_of(PRACTICE_A);
    let client = |id: &str| format!("/practices/{PRACTICE_A}/clients/{id}");
    // A system that is not registered for this practice cannot be accepted.
    for id in ["B82617", "nobody", "RJ1"] {
        let reply = world
            .json(
                "practice-a",
                &side,
                (Method::PUT, &client(id)),
                &Value::Null,
            )
            .await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{id}: {}", reply.text());
    }
    let reply = world
        .json(
            "practice-a",
            &side,
            (Method::PUT, &client("A81001")),
            &Value::Null,
        )
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let deposit = world
        .token("practice-a", &deposit_for(PRACTICE_A, hale().nhs))
        .await;
    let reply = world
        .json(
            "practice-a",
            &side,
            (Method::DELETE, &client("A81001")),
            &Value::Null,
        )
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let record = observation("late-1", hale().nhs, "1-1", "2026-01-01").to_string();
    let reply = put(
        &world.party("practice-a"),
        &deposit,
        "Observation/late-1",
        record,
    )
    .await;
    // Its own system needs nobody's acceptance: who takes that back has not lost the way in.
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    world.served.stop().await;
}

fn encounter(id: &str, status: &str) -> Value {
    json!({
        "resourceType": "Encounter", "id": id, "status": status,
        "subject": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": hale().nhs } },
    })
}

/// A token that rests on this encounter.
fn by_encounter(reference: &str) -> Value {
    let claim = json!({ "type": "encounter", "reference": reference });
    with(treat(hale().nhs), &[("relationship", claim)])
}

fn relationship_of(side: &str, code: &str) -> Value {
    json!({ "type": "relationship", side: code, "patient": hale().nhs })
}

impl Moved {
    async fn relate(&self, name: &str, details: &Value, method: Method, body: &Value) -> Reply {
        let id = body["id"].as_str().unwrap();
        let path = format!("/fhir/{}/{id}", body["resourceType"].as_str().unwrap());
        self.json(name, details, (method, &path), body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_asking_system_says_opens_nothing_unless_agreed_and_then_is_looked_at() {
    let world = Moved::new().await;
    let own = relationship_of("organisation", "RJ1");
    let arrived = encounter("visit-1", "in-progress");
    let reply = world
        .relate("hospital-a", &own, Method::PUT, &arrived)
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    denied(&world.ask("hospital-a", &by_encounter("visit-1")).await);
    // The practice agrees to take the hospital's word.
    let path = format!("/agreements/{PRACTICE_A}/RJ1/word");
    let terms = world.terms(&[("accepts_asserted", json!(true))]);
    let side = agreement_of(PRACTICE_A);
    let proposed = world
        .json("practice-a", &side, (Method::PUT, &path), &terms)
        .await;
    let body = json!({ "terms": proposed.json()["terms"], "signer": "Ola Berg" });
    let accept = (Method::POST, &*format!("{path}/accept"));
    let reply = world
        .json("hospital-a", &acceptance_of("RJ1"), accept, &body)
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    world.pass(25);
    let token = world.token("hospital-a", &by_encounter("visit-1")).await;
    let hospital = world.party("hospital-a");
    let reply = get(&hospital, &token, &everything(hale().nhs)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    // It is over: the token that lives opens nothing any more.
    let gone = encounter("visit-1", "finished");
    let reply = world.relate("hospital-a", &own, Method::PUT, &gone).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    refused(&get(&hospital, &token, &everything(hale().nhs)).await);
    denied(&world.ask("hospital-a", &by_encounter("visit-1")).await);
    let vkey = hospital.vkey;
    world.served.stop().await;
    let issued = events(world.dir.path(), &vkey, "token.issue");
    let looked_at: Vec<_> = issued.iter().filter(|it| it["al"] == "review").collect();
    assert_eq!(looked_at.len(), 1, "{issued:?}");
    assert_eq!(looked_at[0]["of"], "RJ1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_practice_and_an_admission_feed_corroborate_and_nobody_speaks_for_another() {
    let world = Moved::new().await;
    // The practice refers, and takes it back.
    let ods = json!({ "identifier": { "system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "RJ1" } });
    let referral = json!({
        "resourceType": "ServiceRequest", "id": "ref-9", "status": "active", "performer": [ods],
        "subject": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": hale().nhs } },
    });
    let practice = relationship_of("practice", PRACTICE_A);
    let claim = json!({ "type": "referral", "reference": "ref-9" });
    let asked = with(treat(hale().nhs), &[("relationship", claim)]);
    denied(&world.ask("hospital-a", &asked).await);
    let reply = world
        .relate("practice-a", &practice, Method::PUT, &referral)
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let token = world.token("hospital-a", &asked).await;
    let reply = world
        .relate("practice-a", &practice, Method::DELETE, &referral)
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    refused(&get(&world.party("hospital-a"), &token, &everything(hale().nhs)).await);
    // Nobody speaks for another side, or of another patient, or of what is no relationship.
    denied(
        &world
            .ask("practice-a", &relationship_of("organisation", "RJ1"))
            .await,
    );
    denied(
        &world
            .ask("hospital-b", &relationship_of("organisation", "RJ1"))
            .await,
    );
    denied(
        &world
            .ask("hospital-a", &relationship_of("practice", PRACTICE_A))
            .await,
    );
    denied(
        &world
            .ask("practice-b", &relationship_of("practice", PRACTICE_B))
            .await,
    );
    let own = relationship_of("organisation", "RJ1");
    let mut other = encounter("visit-2", "in-progress");
    other["subject"]["identifier"]["value"] = quill().nhs.into();
    let reply = world.relate("hospital-a", &own, Method::PUT, &other).await;
    assert_eq!(
        reply.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        reply.text()
    );
    let record = observation("no-relation", hale().nhs, "1-1", "2026-01-01");
    let reply = world.relate("hospital-a", &own, Method::PUT, &record).await;
    assert_eq!(
        reply.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{}",
        reply.text()
    );
    // The hospital's admission feed corroborates, and can ask for nothing.
    let feed = world.party("hospital-b");
    let pem = std::fs::read(world.dir.path().join("clients/hospital-b/cert.pem")).unwrap();
    let client = sallyport::facts::Client {
        id: "RM3".to_owned(),
        name: "admissions".to_owned(),
        role: "admissions".to_owned(),
        organisations: vec!["RJ1".to_owned()],
        certificates: vec![thumbprint(&pem)],
        sign_key: serde_json::from_str(&feed.sign.signer().jwk_public()).ok(),
        ..serde_json::from_value(json!({
            "id": "x", "name": "x", "role": "admissions", "organisations": ["RJ1"], "certificates": [],
            "sign_key": null, "open_key": null,
        }))
        .unwrap()
    };
    let statement = sallyport::facts::Statement::Client(client);
    world
        .served
        .app
        .gateway
        .load(vec![statement])
        .await
        .unwrap();
    let reply = world
        .relate(
            "hospital-b",
            &own,
            Method::PUT,
            &encounter("adm-1", "in-progress"),
        )
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    world.token("hospital-a", &by_encounter("adm-1")).await;
    denied(&world.ask("hospital-b", &by_encounter("adm-1")).await);
    denied(&world.ask("hospital-b", &treat(hale().nhs)).await);
    world.served.stop().await;
}

fn thumbprint(pem: &[u8]) -> String {
    use rustls::pki_types::pem::PemObject as _;
    use sha2::Digest as _;
    let der = rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap();
    let hash = sha2::Sha256::digest(der.as_ref());
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
