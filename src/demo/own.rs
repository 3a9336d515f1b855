//! The story over the project's own records: one record, two doors, one hospital, and nowhere else.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::Path;

use hyper::{Method, StatusCode};
use keys::PublicJwk;
use serde_json::{Value, json};

use super::{DemoError, Story};
use crate::clock::Clock;
use crate::connect::{Opened, Party, Reply};
use crate::dev::{World, referral};
use crate::fhir::fixtures::{Fixture, small_set};
use crate::ledger::{audit, check};

fn now_s() -> u64 {
    Clock::system().now_s()
}

const REFUSED: StatusCode = StatusCode::FORBIDDEN;

struct Stage<'a> {
    story: &'a mut Story,
    world: World,
    hospital: Party,
    other: Party,
    practice: Party,
    keys: Vec<PublicJwk>,
    patient: &'static Fixture,
}

/// Tells it.
pub(super) async fn tell(story: &mut Story, dir: &Path) -> Result<(), DemoError> {
    let Some(patient) = small_set().first() else {
        return Ok(());
    };
    story.heading(
        "A gateway is founded: root key, keyring, store, ledger; two practices, two hospitals.",
    );
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let world = World::open(dir, any, &[]).await?;
    let (hospital, other, practice) = (
        world.party("hospital-a")?,
        world.party("hospital-b")?,
        world.party("practice-a")?,
    );
    let keys = hospital.keys().await?;
    story.check(
        "it serves over mutual TLS and publishes its verification keys",
        !keys.is_empty(),
        "no keys",
    );
    let mut stage = Stage {
        story,
        world,
        hospital,
        other,
        practice,
        keys,
        patient,
    };
    stage.first_record().await?;
    stage.refusals().await?;
    stage.stolen().await?;
    stage.emergency().await?;
    stage.rotation().await?;
    stage.objection().await?;
    let Stage { story, world, .. } = stage;
    restart_and_audit(story, world, dir, any).await
}

impl Stage<'_> {
    fn details(&self) -> Value {
        let nhs = self.patient.nhs;
        json!({
            "type": "patient_record", "patient": nhs, "purpose": "TREAT", "practitioner": { "id": "dr-okafor" },
            "relationship": { "type": "referral", "reference": referral(nhs) },
        })
    }

    fn everything(&self) -> String {
        format!("/fhir/Patient/{}/$everything", self.patient.nhs)
    }

    fn open(&self, reply: &Reply) -> Result<Opened, DemoError> {
        Ok(self
            .hospital
            .open(reply, self.patient.nhs, &self.keys, now_s())?)
    }

    async fn token(&mut self) -> Result<String, DemoError> {
        let details = self.details();
        let reply = self.hospital.ask(&details, now_s()).await?;
        self.story.keep(&reply, self.world.vkey());
        Ok(reply
            .json()
            .get("access_token")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned())
    }

    async fn first_record(&mut self) -> Result<(), DemoError> {
        self.story
            .heading("A practice deposits; the hospital it agreed with reads.");
        let observation = json!({
            "resourceType": "Observation", "id": "demo-potassium", "status": "final",
            "subject": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": self.patient.nhs } },
            "code": { "coding": [{ "system": "http://loinc.org", "code": "2823-3", "display": "Potassium" }] },
            "effectiveDateTime": "2026-11-02T09:30:00Z", "valueQuantity": { "value": 4.10, "unit": "mmol/L" },
        });
        let text = serde_json::to_vec_pretty(&observation).unwrap_or_default();
        let details = json!({ "type": "deposit", "practice": self.practice.client_id });
        let token = self.practice.token(&details, now_s()).await?;
        let headers = [
            ("authorization", &*format!("Bearer {token}")),
            ("content-type", "application/fhir+json; fhirVersion=4.0"),
        ];
        let path = "/fhir/Observation/demo-potassium";
        let reply = self
            .practice
            .http
            .send(Method::PUT, path, &headers, text.clone())
            .await?;
        let receipted = self.story.keep(&reply, self.world.vkey()).is_some();
        let filed = reply.status == StatusCode::CREATED && receipted;
        self.story.check(
            "a record is filed, and its receipt proves the ledger's entry",
            filed,
            &reply.text(),
        );
        let again = self
            .practice
            .http
            .send(Method::PUT, path, &headers, text.clone())
            .await?;
        self.story.keep(&again, self.world.vkey());
        let second = again.header("etag") == Some("W/\"2\"");
        self.story.check(
            "filed again, it is version 2 under a fresh data key",
            second,
            &again.text(),
        );

        let token = self.token().await?;
        let reply = self.hospital.read(path, &token).await?;
        self.story.keep(&reply, self.world.vkey());
        let opened = self.open(&reply)?;
        let same = opened
            .records
            .first()
            .is_some_and(|record| record.text == text);
        self.story.check(
            "the hospital opens it with its own key: byte for byte what was deposited",
            same,
            "other bytes",
        );
        let named = opened
            .entry
            .opened
            .get("subject")
            .and_then(|subject| subject.get("nhs"))
            .is_some();
        self.story.check(
            "the receipt opens the entry's commitments to the hospital: who, whom, what, why",
            named,
            "closed",
        );
        let clear = reply
            .body
            .windows(11)
            .any(|window| window == b"\"Potassium\"");
        self.story.check(
            "nothing of the record travelled in clear, inside TLS or out of it",
            !clear,
            "clear text",
        );
        let reply = self.hospital.read(&self.everything(), &token).await?;
        self.story.keep(&reply, self.world.vkey());
        let opened = self.open(&reply)?;
        let enough = opened.records.len() > 5;
        let text = format!(
            "$everything brings {} records under one ticket",
            opened.records.len()
        );
        self.story.check(&text, enough, "too few");
        Ok(())
    }

    async fn refuses(&mut self, what: &str, party: &str, details: &Value) -> Result<(), DemoError> {
        let party = self.world.party(party)?;
        let reply = party.ask(details, now_s()).await?;
        let evidence = self.story.keep(&reply, self.world.vkey());
        let recorded =
            evidence.is_some_and(|evidence| evidence.opened.keys().all(|name| name == "actor"));
        self.story.check(
            what,
            reply.status == REFUSED && recorded,
            &format!("{} {}", reply.status, reply.text()),
        );
        Ok(())
    }

    async fn refusals(&mut self) -> Result<(), DemoError> {
        self.story.heading(
            "Everybody else is refused, in the same words; each refusal is in the ledger.",
        );
        let base = self.details();
        let with = |changes: &[(&str, Value)]| {
            let mut details = base.clone();
            if let Some(object) = details.as_object_mut() {
                for (member, value) in changes {
                    if value.is_null() {
                        object.remove(*member)
                    } else {
                        object.insert((*member).to_owned(), value.clone())
                    };
                }
            }
            details
        };
        let person = |id: &str| ("practitioner", json!({ "id": id }));
        let cases = [
            (
                "another hospital, referral and all, without an agreement",
                "hospital-b",
                with(&[person("dr-hart")]),
            ),
            (
                "the same hospital for another purpose",
                "hospital-a",
                with(&[("purpose", json!("HOPERAT"))]),
            ),
            (
                "no relationship with the patient",
                "hospital-a",
                with(&[("relationship", Value::Null)]),
            ),
            (
                "a practitioner whose training has lapsed",
                "hospital-a",
                with(&[person("dr-late")]),
            ),
            (
                "a practitioner of whose training nobody knows",
                "hospital-a",
                with(&[person("dr-untold")]),
            ),
            (
                "a suspended practitioner",
                "hospital-a",
                with(&[person("dr-stopped")]),
            ),
            (
                "a receptionist who wants more than who the patient is",
                "hospital-a",
                with(&[person("clerk-moss"), ("categories", json!(["medications"]))]),
            ),
            (
                "research without an approval",
                "research-c",
                with(&[person("r-quill"), ("purpose", json!("PUBHLTH"))]),
            ),
        ];
        for (what, party, details) in cases {
            self.refuses(what, party, &details).await?;
        }
        let known = self
            .hospital
            .ask(&with(&[("relationship", Value::Null)]), now_s())
            .await?;
        let unknown = self
            .hospital
            .ask(&with(&[("patient", json!("9990999988"))]), now_s())
            .await?;
        self.story.keep(&known, self.world.vkey());
        self.story.keep(&unknown, self.world.vkey());
        let alike = known.status == unknown.status && known.body == unknown.body;
        self.story.check(
            "a patient nobody knows is refused with the very same bytes",
            alike,
            &unknown.text(),
        );
        self.sensitive().await
    }

    async fn sensitive(&mut self) -> Result<(), DemoError> {
        let found = small_set()
            .iter()
            .find_map(|fixture| Some((fixture, fixture.sensitive?)));
        let Some((fixture, name)) = found else {
            return Ok(());
        };
        let mut details = self.details();
        if let Some(object) = details.as_object_mut() {
            object.insert("patient".to_owned(), json!(fixture.nhs));
            object.insert(
                "relationship".to_owned(),
                json!({ "type": "referral", "reference": referral(fixture.nhs) }),
            );
        }
        let token = self.hospital.token(&details, now_s()).await?;
        let hidden = self.hospital.read(&format!("/fhir/{name}"), &token).await?;
        let absent = self
            .hospital
            .read("/fhir/Condition/there-is-none", &token)
            .await?;
        self.story.keep(&hidden, self.world.vkey());
        self.story.keep(&absent, self.world.vkey());
        let alike = hidden.status == REFUSED
            && hidden.body == absent.body
            && hidden.status == absent.status;
        let what = "a sensitive record looks exactly like one that does not exist";
        self.story
            .check(what, alike, &format!("{} {}", hidden.status, absent.status));
        let reply = self
            .hospital
            .read(
                &format!("/fhir/Patient/{}/$everything", fixture.nhs),
                &token,
            )
            .await?;
        self.story.keep(&reply, self.world.vkey());
        let opened = self
            .hospital
            .open(&reply, fixture.nhs, &self.keys, now_s())?;
        let withheld =
            !opened.records.is_empty() && opened.records.iter().all(|record| record.name != name);
        self.story.check(
            "$everything leaves it out, and says no more than it always says",
            withheld,
            "it was there",
        );
        Ok(())
    }

    async fn stolen(&mut self) -> Result<(), DemoError> {
        self.story
            .heading("What is stolen, published or misdirected opens nothing.");
        let token = self.token().await?;
        let reply = self.other.read(&self.everything(), &token).await?;
        let refused = reply.status == StatusCode::UNAUTHORIZED;
        self.story.check(
            "a stolen token over another certificate: not authenticated",
            refused,
            &reply.text(),
        );
        let reply = self.hospital.read(&self.everything(), &token).await?;
        self.story.keep(&reply, self.world.vkey());
        let other = self
            .other
            .open(&reply, self.patient.nhs, &self.keys, now_s());
        self.story.check(
            "the whole answer handed to another hospital does not open",
            other.is_err(),
            "it opened",
        );
        let mut cut = Reply {
            status: reply.status,
            headers: reply.headers.clone(),
            body: reply.body.clone(),
        };
        cut.body = reply.body.slice(..reply.body.len() / 2);
        self.story.check(
            "cut short, it is refused by the addressed hospital",
            self.open(&cut).is_err(),
            "it opened",
        );
        let mut bytes = reply.body.to_vec();
        let middle = bytes.len() * 2 / 3;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte = if *byte == b'A' { b'B' } else { b'A' };
        }
        cut.body = bytes.into();
        self.story.check(
            "one byte changed, it is refused",
            self.open(&cut).is_err(),
            "it opened",
        );
        let patient = self
            .hospital
            .read("/fhir/Observation?patient=9990000026", &token)
            .await?;
        self.story.keep(&patient, self.world.vkey());
        self.story.check(
            "the token opens no other patient",
            patient.status == REFUSED,
            &patient.text(),
        );
        let parts: Vec<&str> = token.split('.').collect();
        let forged = format!(
            "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{}.",
            parts.get(1).unwrap_or(&"")
        );
        let reply = self.hospital.read(&self.everything(), &forged).await?;
        let refused = reply.status == StatusCode::UNAUTHORIZED;
        self.story.check(
            "the same claims with `alg: none` identify nobody",
            refused,
            &reply.text(),
        );
        Ok(())
    }

    async fn emergency(&mut self) -> Result<(), DemoError> {
        self.story
            .heading("An emergency is served: with a reason, marked, and seen.");
        let details = |reason: Option<&str>| {
            let mut details = json!({
                "type": "patient_record", "patient": self.patient.nhs, "purpose": "BTG",
                "practitioner": { "id": "dr-okafor" }, "acknowledged": true,
            });
            if let (Some(object), Some(reason)) = (details.as_object_mut(), reason) {
                object.insert("reason".to_owned(), reason.into());
            }
            details
        };
        let with = details(Some("Unconscious in resus; allergies unknown."));
        let without = details(None);
        self.refuses(
            "breaking the glass without a reason",
            "hospital-a",
            &without,
        )
        .await?;
        let reply = self.hospital.ask(&with, now_s()).await?;
        let evidence = self.story.keep(&reply, self.world.vkey());
        let token = reply
            .json()
            .get("access_token")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let reply = self.hospital.read(&self.everything(), &token).await?;
        self.story.keep(&reply, self.world.vkey());
        let opened = self.open(&reply)?;
        let summary = ["AllergyIntolerance", "Medication", "Condition", "Flag"];
        let narrow = opened
            .records
            .iter()
            .all(|record| summary.iter().any(|kind| record.name.starts_with(kind)));
        let held = narrow && !opened.records.is_empty();
        self.story.check(
            "with a reason it opens the summary: medications, allergies, problems, alerts",
            held,
            "not so",
        );
        let index = evidence.as_ref().map(|evidence| evidence.index);
        let reason = evidence
            .and_then(|evidence| evidence.opened.get("context").cloned())
            .unwrap_or_default();
        let marked = reason.to_string().contains("BTG") && reason.to_string().contains("resus");
        self.story.check(
            "the entry is marked as an emergency and keeps the reason",
            marked,
            &reason.to_string(),
        );
        self.seen(index).await
    }

    /// An emergency is seen: by the privacy officer, and by the patient.
    async fn seen(&mut self, entry: Option<u64>) -> Result<(), DemoError> {
        let names = |reply: &Reply, list: &str| {
            let reply = reply.json();
            let rows = reply.get(list).and_then(Value::as_array).cloned();
            let mut rows = rows.unwrap_or_default().into_iter();
            rows.find(|row| entry.is_some() && row.get("entry").and_then(Value::as_u64) == entry)
        };
        let officer = self.world.party("privacy-officer")?;
        let reply = officer.http.send(Method::GET, "/reviews", &[], "").await?;
        self.story.keep(&reply, self.world.vkey());
        self.story.check(
            "it is on the privacy officer's worklist, which names nobody",
            names(&reply, "items").is_some() && !reply.text().contains("okafor"),
            &reply.text(),
        );
        let portal = self.world.party("patient-portal")?;
        let own = json!({ "type": "history", "patient": self.patient.nhs, "for": "self", "born": "1980-02-29" });
        let token = portal.token(&own, now_s()).await?;
        let reply = portal.read("/history", &token).await?;
        self.story.keep(&reply, self.world.vkey());
        let line = names(&reply, "history").unwrap_or_default();
        let proof = line.get("receipt").unwrap_or(&Value::Null);
        let proven = check(proof, self.world.vkey()).is_ok_and(|it| Some(it.index) == entry);
        self.story.check(
            "the patient sees it too, with a proof that it stands in this very log",
            proven && line.get("emergency") == Some(&Value::Bool(true)),
            &line.to_string(),
        );
        Ok(())
    }

    async fn rotation(&mut self) -> Result<(), DemoError> {
        self.story.heading(
            "An admin rotates the practice's key-encryption key while the gateway serves.",
        );
        let admin = self.world.party("admin-1")?;
        let path = format!("/admin/keys/{}", self.practice.client_id);
        let token = self.token().await?;
        let before = self.hospital.read(&self.everything(), &token).await?;
        let reply = admin
            .http
            .send(Method::POST, &format!("{path}/rotate"), &[], "")
            .await?;
        self.story.keep(&reply, self.world.vkey());
        let version = reply
            .json()
            .get("version")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        self.story.check(
            "a new version is active",
            reply.status == StatusCode::ACCEPTED && version == 2,
            &reply.text(),
        );
        let during = self.hospital.read(&self.everything(), &token).await?;
        let mut left = Value::Null;
        for _ in 0..200 {
            let reply = admin.http.send(Method::GET, &path, &[], "").await?;
            self.story.keep(&reply, self.world.vkey());
            left = reply.json().get("kek").cloned().unwrap_or_default();
            if left
                .as_array()
                .is_some_and(|rows| rows.iter().all(|row| row.get("version") == Some(&json!(2))))
            {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let done = left.as_array().is_some_and(|rows| rows.len() == 1);
        self.story.check(
            "0 record keys are left under version 1",
            done,
            &left.to_string(),
        );
        let after = self.hospital.read(&self.everything(), &token).await?;
        let mut texts = Vec::new();
        for reply in [&before, &during, &after] {
            self.story.keep(reply, self.world.vkey());
            texts.push(
                self.open(reply)?
                    .records
                    .iter()
                    .map(|record| record.text.clone())
                    .collect::<Vec<_>>(),
            );
        }
        let same = texts.windows(2).all(|pair| pair.first() == pair.last())
            && texts.first().is_some_and(|t| !t.is_empty());
        self.story.check(
            "reads before, during and after open the same records",
            same,
            "they differ",
        );
        let lines = |reply: &Reply| {
            reply
                .text()
                .lines()
                .skip(1)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let untouched = lines(&before) == lines(&after);
        self.story.check(
            "the stored envelopes are untouched: only wrapped keys changed",
            untouched,
            "they differ",
        );
        let by_hospital = self
            .hospital
            .http
            .send(Method::POST, &format!("{path}/rotate"), &[], "")
            .await?;
        self.story.keep(&by_hospital, self.world.vkey());
        self.story.check(
            "a hospital that tries the same is refused",
            by_hospital.status == REFUSED,
            &by_hospital.text(),
        );
        Ok(())
    }

    async fn objection(&mut self) -> Result<(), DemoError> {
        self.story.heading(
            "The patient objects; the practice passes it on; it acts at the next request.",
        );
        let token = self.token().await?;
        let read = self.hospital.read(&self.everything(), &token).await?;
        self.story.keep(&read, self.world.vkey());
        self.story.check(
            "before: the token reads",
            read.status == StatusCode::OK,
            &read.text(),
        );
        let details = json!({ "type": "consent", "practice": self.practice.client_id, "patient": self.patient.nhs });
        let consent_token = self.practice.token(&details, now_s()).await?;
        let consent = json!({
            "resourceType": "Consent", "id": "objection-2", "status": "active",
            "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
            "category": [{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }] }],
            "patient": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": self.patient.nhs } },
            "provision": { "type": "deny" },
        });
        let headers = [
            ("authorization", &*format!("Bearer {consent_token}")),
            ("content-type", "application/fhir+json; fhirVersion=4.0"),
        ];
        let path = "/fhir/Consent/objection-2";
        let reply = self
            .practice
            .http
            .send(Method::PUT, path, &headers, consent.to_string())
            .await?;
        let kept = self.story.keep(&reply, self.world.vkey()).is_some();
        self.story.check(
            "the objection is recorded, with a receipt for the practice",
            kept,
            &reply.text(),
        );
        let read = self.hospital.read(&self.everything(), &token).await?;
        self.story.keep(&read, self.world.vkey());
        self.story.check(
            "after: the very same token is refused",
            read.status == REFUSED,
            &read.text(),
        );
        self.refuses("and no new token is issued", "hospital-a", &self.details())
            .await
    }
}

async fn restart_and_audit(
    story: &mut Story,
    world: World,
    dir: &Path,
    any: SocketAddr,
) -> Result<(), DemoError> {
    story.heading("The gateway is stopped and started again; the auditor checks the log offline.");
    world.publish().await;
    world.stop().await?;
    let world = World::open(dir, any, &[]).await?;
    let hospital = world.party("hospital-a")?;
    let patient = small_set().first().map_or("", |fixture| fixture.nhs);
    let details = json!({
        "type": "patient_record", "patient": patient, "purpose": "TREAT", "practitioner": { "id": "dr-okafor" },
        "relationship": { "type": "referral", "reference": referral(patient) },
    });
    let reply = hospital.ask(&details, now_s()).await?;
    story.keep(&reply, world.vkey());
    story.check(
        "after a restart the objection still stands",
        reply.status == REFUSED,
        &reply.text(),
    );
    world.publish().await;
    let vkey = world.vkey().clone();
    world.stop().await?;
    let report = audit::verify(
        &audit::Folder(dir.join("log")),
        &vkey,
        &audit::Check::default(),
    );
    let what = format!(
        "every one of the {} entries hashes to the signed checkpoint",
        report.size
    );
    story.check(&what, report.holds(), &report.to_json().to_string());
    let mut entries: BTreeMap<u64, String> = BTreeMap::new();
    let read = audit::entries(
        &dir.join("data/journal"),
        vkey.name(),
        &mut |leaf, _body| {
            entries.insert(leaf.index(), leaf.text().to_owned());
            ControlFlow::Continue(())
        },
    );
    story.check(
        "the journal holds the same entries",
        read.is_ok() && entries.len() as u64 == report.size,
        "others",
    );
    let missing = story.receipts.iter().filter(|receipt| {
        entries
            .get(&receipt.index)
            .map(|leaf| crate::ledger::tree::leaf_hash(leaf.as_bytes()))
            != Some(receipt.leaf_hash)
    });
    let (missing, kept) = (missing.count(), story.receipts.len());
    let what = format!("each of the {kept} receipts handed out is for an entry that is there");
    story.check(
        &what,
        missing == 0 && kept > 30,
        &format!("{missing} missing"),
    );
    let events: std::collections::BTreeSet<String> = entries
        .values()
        .filter_map(|leaf| {
            serde_json::from_str::<Value>(leaf)
                .ok()?
                .get("ev")?
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    let wanted = [
        "token.issue",
        "token.refuse",
        "record.release",
        "record.refuse",
        "record.deposit",
        "facts.change",
        "admin.act",
        "admin.refuse",
        "kek.rotated",
        "caller.refuse",
        "gateway.start",
        "gateway.stop",
    ];
    let lacking: Vec<&str> = wanted
        .into_iter()
        .filter(|event| !events.contains(*event))
        .collect();
    let what = "tokens, releases, refusals, deposits, the objection, the rotation, start and stop: all are there";
    story.check(
        what,
        lacking.is_empty(),
        &format!("no {}", lacking.join(", ")),
    );
    let numbers = small_set()
        .iter()
        .any(|fixture| entries.values().any(|leaf| leaf.contains(fixture.nhs)));
    story.check(
        "no entry names a patient",
        !numbers,
        "an NHS number stands in the log",
    );
    story.note(
        "sallyport audit verify --log DIR/log --key DIR/log.vkey does the same from a terminal",
    );
    Ok(())
}
