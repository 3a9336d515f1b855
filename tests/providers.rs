//! The register of emergency providers and approvals of secondary uses, over real mutual TLS: a patient far from home is
//! cared for, nobody is added silently, no one credential makes an agreement, and no approval bends an objection.

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

const REASON: &str = "Unconscious in resus; allergies unknown.";

impl Moved {
    async fn act(&self, admin: &str, act: &str, object: &str, payload: Value) -> Reply {
        let body = json!({ "act": act, "object": object, "why": "a test", "payload": payload });
        certified(&self.party(admin), Method::POST, "/admin/acts", body).await
    }

    /// By two administrators.
    async fn by_two(&self, act: &str, object: &str, payload: Value) {
        let proposed = self.act("admin-1", act, object, payload).await;
        assert_eq!(proposed.status, StatusCode::ACCEPTED, "{}", proposed.text());
        let digest = proposed.json()["proposal"]["digest"].clone();
        let path = format!("/admin/proposals/{}/approve", digest.as_str().unwrap());
        let own = certified(&self.party("admin-1"), Method::POST, &path, json!({})).await;
        assert_eq!(own.status, StatusCode::FORBIDDEN, "not by the proposer");
        done(&certified(&self.party("admin-2"), Method::POST, &path, json!({})).await);
    }

    async fn register(&self) -> Value {
        let path = format!("/practices/{PRACTICE_B}/register");
        let side = agreement_of(PRACTICE_B);
        let reply = self
            .json("practice-b", &side, (Method::GET, &path), &Value::Null)
            .await;
        done(&reply);
        reply.json()
    }

    async fn accept(&self, version: u64, reference: &str) -> Reply {
        let path = format!("/practices/{PRACTICE_B}/register/{reference}");
        let body = json!({
            "version": version, "signer": "Dr Mina Sole, Caldicott Guardian",
            "categories": ["demographics", "problems", "observations", "medications", "allergies", "alerts"],
            "from_ms": self.now_s() * 1000 - HOUR_MS, "until_ms": self.now_s() * 1000 + 1000 * HOUR_MS,
        });
        let side = agreement_of(PRACTICE_B);
        self.json("practice-b", &side, (Method::PUT, &path), &body)
            .await
    }

    async fn answer(&self, reference: &str, terms: &Value) -> Reply {
        let object = format!("{PRACTICE_B}/{reference}");
        let payload = json!({ "terms": terms });
        self.act("admin-1", "providers.countersign", &object, payload)
            .await
    }

    /// What the list of the organisation says of an agreement with this practice.
    async fn state_at(&self, hospital: &str, code: &str, reference: &str) -> Option<Value> {
        let side = acceptance_of(code);
        let reply = self
            .json(hospital, &side, (Method::GET, "/agreements"), &Value::Null)
            .await;
        done(&reply);
        let all = reply.json()["agreements"].as_array().unwrap().clone();
        let mut all = all.into_iter();
        all.find(|it| it["reference"] == reference && it["practice"] == PRACTICE_B)
    }
}

fn done(reply: &Reply) {
    assert!(
        reply.status.is_success(),
        "{}: {}",
        reply.status,
        reply.text()
    );
}

fn conflicts(reply: &Reply, word: &str) {
    assert_eq!(reply.status, StatusCode::CONFLICT, "{}", reply.text());
    assert!(reply.text().contains(word), "{word}: {}", reply.text());
}

fn far_from_home() -> Value {
    break_glass(tanqueray().nhs, REASON)
}

fn at_hospital_b() -> Value {
    with(
        far_from_home(),
        &[("practitioner", json!({ "id": "dr-hart" }))],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_far_from_home_is_cared_for_and_nobody_is_added_silently() {
    let world = Moved::new().await;
    denied(&world.ask("hospital-a", &far_from_home()).await);
    world
        .by_two("providers.publish", "1", json!({ "add": ["RJ1"] }))
        .await;
    // Published is not accepted.
    let register = world.register().await;
    assert_eq!(
        (&register["version"], &register["new"]),
        (&json!(1), &json!(["RJ1"]))
    );
    assert_eq!(register["accepted"], json!([]));
    denied(&world.ask("hospital-a", &far_from_home()).await);

    let accepted = world.accept(1, "ed-1").await;
    assert_eq!(accepted.status, StatusCode::CREATED, "{}", accepted.text());
    assert_eq!(accepted.json()["agreements"], 1);
    denied(&world.ask("hospital-a", &far_from_home()).await);
    done(&world.answer("ed-1", &accepted.json()["terms"]).await);
    denied(&world.ask("hospital-a", &far_from_home()).await);
    world.pass(25);
    let token = world.token("hospital-a", &far_from_home()).await;
    let hospital = world.party("hospital-a");
    let everything = everything(tanqueray().nhs);
    done(&get(&hospital, &token, &everything).await);
    // For emergencies and nothing else.
    let listed = world.state_at("hospital-a", "RJ1", "ed-1").await.unwrap();
    assert_eq!(listed["purposes"], json!(["ETREAT", "BTG"]));
    assert_eq!(
        (&listed["state"], &listed["register"]),
        (&json!("in-force"), &json!(1))
    );

    // A later version adds another one: it acts at no practice that has not accepted it.
    world
        .by_two("providers.publish", "2", json!({ "add": ["RM3"] }))
        .await;
    world.pass(48);
    denied(&world.ask("hospital-b", &at_hospital_b()).await);
    let register = world.register().await;
    assert_eq!(register["new"], json!(["RM3"]));
    assert_eq!(register["accepted"][0]["state"], "in-force");
    conflicts(&world.accept(1, "ed-old").await, "version");
    conflicts(&world.accept(2, "ed-1").await, "reference");
    let accepted = world.accept(2, "ed-2").await;
    assert_eq!(accepted.json()["agreements"], 2);
    done(&world.answer("ed-2", &accepted.json()["terms"]).await);
    world.pass(25);
    world.token("hospital-b", &at_hospital_b()).await;
    assert_eq!(world.register().await["new"], json!([]));

    // One administrator takes one off at once, for tokens that live too; put back it is new to everybody.
    let token = world.token("hospital-a", &far_from_home()).await;
    done(
        &world
            .act("admin-2", "providers.strike", "RJ1", Value::Null)
            .await,
    );
    refused(&get(&hospital, &token, &everything).await);
    denied(&world.ask("hospital-a", &far_from_home()).await);
    let listed = world.state_at("hospital-a", "RJ1", "ed-2").await.unwrap();
    assert_eq!(listed["state"], "withdrawn");
    world
        .by_two("providers.publish", "4", json!({ "add": ["RJ1"] }))
        .await;
    denied(&world.ask("hospital-a", &far_from_home()).await);
    assert_eq!(world.register().await["new"], json!(["RJ1"]));

    // The practice takes back what it accepted, all of it at once.
    let token = world.token("hospital-b", &at_hospital_b()).await;
    let path = format!("/practices/{PRACTICE_B}/register/ed-2");
    let side = agreement_of(PRACTICE_B);
    done(
        &world
            .json("practice-b", &side, (Method::DELETE, &path), &Value::Null)
            .await,
    );
    refused(&get(&world.party("hospital-b"), &token, &everything).await);
    denied(&world.ask("hospital-b", &at_hospital_b()).await);

    let vkey = world.party("auditor").vkey;
    world.served.stop().await;
    let notices = events(world.dir.path(), &vkey, "notice");
    let of_practice = notices.iter().filter(|it| it["of"] == PRACTICE_B);
    let told: Vec<&str> = of_practice.map(|it| it["al"].as_str().unwrap()).collect();
    assert_eq!(
        told,
        [
            "agreement.proposed",
            "agreement.accepted",
            "agreement.proposed",
            "agreement.accepted",
            "agreement.ended"
        ]
    );
    let changed = notices.iter().filter(|it| it["al"] == "providers.changed");
    assert_eq!(changed.count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stolen_credential_makes_no_agreement_with_anybody_of_the_register() {
    let world = Moved::new().await;
    // One administrator names nobody, and nobody names what is no hospital, twice, or as another version.
    let reply = world
        .act(
            "admin-1",
            "providers.publish",
            "1",
            json!({ "add": ["RJ1"] }),
        )
        .await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "only proposed");
    assert_eq!(world.register().await["version"], 0);
    for (object, payload, word) in [
        ("1", json!({ "add": ["RX9"] }), "RX9"),
        ("1", json!({ "add": [PRACTICE_A] }), PRACTICE_A),
        ("1", json!({ "add": ["RJ1", "RJ1"] }), "twice"),
        ("1", json!({ "remove": ["RJ1"] }), "not named"),
        ("1", json!({}), "nobody"),
        ("7", json!({ "add": ["RJ1"] }), "next version, 1"),
        ("1", json!({ "add": ["*"] }), "ods"),
    ] {
        let reply = world
            .act("admin-2", "providers.publish", object, payload)
            .await;
        conflicts(&reply, word);
    }
    world
        .by_two("providers.publish", "1", json!({ "add": ["RJ1"] }))
        .await;
    // Whoever holds the practice's keys accepts, and waits for ever.
    let accepted = world.accept(1, "stolen").await;
    assert_eq!(accepted.status, StatusCode::CREATED, "{}", accepted.text());
    world.pass(72);
    denied(&world.ask("hospital-a", &far_from_home()).await);
    let listed = world.state_at("hospital-a", "RJ1", "stolen").await.unwrap();
    assert_eq!(listed["state"], "proposed");
    // Neither the practice nor the hospital answers in the keeper's place.
    for (name, code) in [("practice-b", PRACTICE_B), ("hospital-a", "RJ1")] {
        let object = format!("{PRACTICE_B}/stolen");
        let payload = json!({ "terms": accepted.json()["terms"] });
        let reply = world
            .act(name, "providers.countersign", &object, payload)
            .await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{code}");
    }
    let accept = format!("/agreements/{PRACTICE_B}/RJ1/stolen/accept");
    let body = json!({ "terms": listed["terms"], "signer": "Ola Berg" });
    let side = acceptance_of("RJ1");
    let reply = world
        .json("hospital-a", &side, (Method::POST, &accept), &body)
        .await;
    conflicts(&reply, "register");
    // The keeper's keys alone answer nothing that no practice said.
    conflicts(
        &world.answer("other", &accepted.json()["terms"]).await,
        "object",
    );
    conflicts(
        &world.answer("stolen", &json!("0".repeat(64))).await,
        "terms",
    );
    // Another practice does not speak for this one.
    let path = format!("/practices/{PRACTICE_B}/register/mine");
    let body = json!({ "version": 1, "categories": ["problems"], "from_ms": 0, "until_ms": 9, "signer": "Dr X Y" });
    let side = agreement_of(PRACTICE_A);
    let reply = world
        .json("practice-a", &side, (Method::PUT, &path), &body)
        .await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text());
    for (member, wrong) in [
        ("purposes", json!(["TREAT"])),
        ("categories", json!(["all"])),
        ("signer", json!("")),
        ("until_ms", json!(0)),
    ] {
        let body = with(body.clone(), &[(member, wrong)]);
        let side = agreement_of(PRACTICE_B);
        let reply = world
            .json("practice-b", &side, (Method::PUT, &path), &body)
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        assert!(reply.text().contains(member), "{member}: {}", reply.text());
    }
    world.served.stop().await;
}

fn research(nhs: &str) -> Value {
    json!({
        "type": "patient_record", "patient": nhs, "purpose": "HRESCH", "practitioner": { "id": "r-quill" },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_takes_two_ends_by_one_and_bends_no_objection() {
    let world = Moved::new().await;
    let nhs = hale().nhs;
    let given = format!("{PRACTICE_A}/R0C01/26/CAG/0042");
    let research_c = world.party("research-c");
    let token = world.token("research-c", &research(nhs)).await;
    done(&get(&research_c, &token, &everything(nhs)).await);
    // Withdrawn by one: the token that lives opens nothing.
    let reply = world
        .act("admin-1", "approval.withdraw", &given, Value::Null)
        .await;
    done(&reply);
    refused(&get(&research_c, &token, &everything(nhs)).await);
    denied(&world.ask("research-c", &research(nhs)).await);
    let again = world
        .act("admin-2", "approval.withdraw", &given, Value::Null)
        .await;
    conflicts(&again, "withdrawn already");

    let now_ms = world.now_s() * 1000;
    let payload = |changes: &[(&str, Value)]| {
        let payload = json!({
            "purposes": ["HRESCH"], "categories": ["observations", "problems"],
            "from_ms": now_ms - HOUR_MS, "until_ms": now_ms + 1000 * HOUR_MS,
        });
        with(payload, changes)
    };
    let name = format!("{PRACTICE_A}/R0C01/26/CAG/0099");
    for (object, payload, word) in [
        (
            &*name,
            payload(&[("purposes", json!(["TREAT"]))]),
            "purposes",
        ),
        (&*name, payload(&[("purposes", json!([]))]), "purposes"),
        (
            &*name,
            payload(&[("categories", json!(["*"]))]),
            "categories",
        ),
        (&*name, payload(&[("until_ms", json!(0))]), "until_ms"),
        (&*name, payload(&[("stated_ms", json!(0))]), "stated_ms"),
        ("A81001", payload(&[]), "PRACTICE/ORGANISATION/REFERENCE"),
        ("RJ1/R0C01/x", payload(&[]), "no practice"),
        ("A81001/RX9/x", payload(&[]), "RX9"),
        (&*given, payload(&[]), "used once"),
    ] {
        let reply = world
            .act("admin-1", "approval.register", object, payload)
            .await;
        conflicts(&reply, word);
    }
    // One administrator gives none.
    let alone = world
        .act("admin-1", "approval.register", &name, payload(&[]))
        .await;
    assert_eq!(alone.status, StatusCode::ACCEPTED, "{}", alone.text());
    denied(&world.ask("research-c", &research(nhs)).await);
    world.by_two("approval.register", &name, payload(&[])).await;
    world.token("research-c", &research(nhs)).await;
    // The practice reads which there are, and its agreement is wanted beside.
    let path = format!("/practices/{PRACTICE_A}");
    let side = agreement_of(PRACTICE_A);
    let reply = world
        .json("practice-a", &side, (Method::GET, &path), &Value::Null)
        .await;
    let all = reply.json()["approvals"].as_array().unwrap().clone();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all.iter().any(|it| it["withdrawn_ms"].is_u64()));
    // Not for a purpose that it does not name, nor for a patient who objects.
    let health = with(research(nhs), &[("purpose", json!("PUBHLTH"))]);
    denied(&world.ask("research-c", &health).await);
    denied(&world.ask("research-c", &research(ferreira().nhs)).await);
    let token = world.token("research-c", &research(nhs)).await;
    done(&object(&world.party("practice-a"), nhs, "no-research").await);
    refused(&get(&research_c, &token, &everything(nhs)).await);
    denied(&world.ask("research-c", &research(nhs)).await);

    let vkey = world.party("auditor").vkey;
    world.served.stop().await;
    let notices = events(world.dir.path(), &vkey, "notice");
    let of_practice = notices.iter().filter(|it| it["of"] == PRACTICE_A);
    let told: Vec<&str> = of_practice.map(|it| it["al"].as_str().unwrap()).collect();
    assert_eq!(told, ["approval.ended", "approval.given"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_without_the_practices_agreement_opens_nothing() {
    let world = Moved::new().await;
    let nhs = hale().nhs;
    world.token("research-c", &research(nhs)).await;
    let path = format!("/agreements/{PRACTICE_A}/R0C01/A81001-R0C01-2026");
    let side = agreement_of(PRACTICE_A);
    let reply = world
        .json("practice-a", &side, (Method::DELETE, &path), &Value::Null)
        .await;
    done(&reply);
    denied(&world.ask("research-c", &research(nhs)).await);
    world.served.stop().await;
}
