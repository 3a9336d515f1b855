//! Incident: July 2018, TPP SystmOne: 150,000 patients' type 2 objections, recorded at practices from March 2015 on, were never passed on, and nobody noticed (NHS Digital statement on the type 2 opt-out error; Hansard, 2 July 2018).
//! Here it would mean: an objection that a practice passed on is lost on the way to the decision, and the record is shared.
//! Stopped by: the numbered feed of objections (`Facts::take_in`), which names what is missing and refuses by its limits; and the ledger's anchor of each practice's facts (`Facts::open`): rows that do not add up are unknown, and unknown refuses.

use crate::common::*;
use hyper::{Method, StatusCode};
use sallyport::clock::Clock;
use sallyport::connect::{Party, Reply};
use serde_json::json;
use sha2::{Digest as _, Sha256};

#[tokio::test(flavor = "multi_thread")]
async fn an_objection_lost_on_the_way_stops_the_practice_instead_of_sharing() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let read = token(&stage.party("hospital-a"), &treat(nhs)).await;
    let reply = object(&stage.party("practice-a"), nhs, "never-arrived").await;
    assert_eq!(reply.status, StatusCode::OK);
    refused(&get(&stage.party("hospital-a"), &read, &everything(nhs)).await);
    // What happened: the objections are gone from where decisions look, and nothing says so.
    let stage = stage
        .after(|dir| facts_rows(dir, b'O', |_| false))
        .await
        .unwrap();
    first_practice_is_unknown(&stage, &read).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_practice_is_told_at_once_whether_its_objection_arrived() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let practice = stage.party("practice-a");
    let reply = object(&practice, nhs, "arrived").await;
    let evidence = receipt(&reply, stage.vkey());
    assert_eq!(
        evidence.leaf["facts"]["owner"], PRACTICE_A,
        "the entry anchors the practice's facts"
    );
    assert_eq!(evidence.opened["subject"]["nhs"], nhs);
    // One that cannot be understood is no silent success.
    let token = token(&practice, &consent_for(PRACTICE_A, nhs)).await;
    for (member, value) in [
        ("provision", serde_json::json!({ "type": "permit" })),
        ("status", serde_json::json!("draft")),
        ("patient", serde_json::Value::Null),
    ] {
        let odd = with(consent("odd", nhs), &[(member, value)]);
        let reply = put(&practice, &token, "Consent/odd", odd.to_string()).await;
        assert_eq!(
            reply.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{member}: {}",
            reply.text()
        );
        assert!(reply.text().contains(member), "{}", reply.text());
    }
}

/// What a practice's system keeps of its own feed, computed apart from the gateway.
struct Source {
    practice: Party,
    owner: &'static str,
    lines: Vec<String>,
    sum: [u8; 32],
}

impl Source {
    fn new(practice: Party, owner: &'static str) -> Self {
        Self {
            practice,
            owner,
            lines: Vec::new(),
            sum: [0; 32],
        }
    }

    /// Records an objection at the practice.
    fn object(&mut self, patient: &str) -> u64 {
        let n = self.lines.len() as u64 + 1;
        let purposes = match self.owner {
            PRACTICE_A => "all",
            _ => "HOPERAT,HRESCH,PUBHLTH",
        };
        let text = format!("{n}|o-{n}|{patient}|{purposes}|active");
        let mut carry = 0u32;
        for (to, from) in self.sum.iter_mut().zip(Sha256::digest(text)).rev() {
            carry += u32::from(*to) + u32::from(from);
            *to = carry as u8;
            carry >>= 8;
        }
        self.lines
            .push(format!(r#"{{"n":{n},"id":"o-{n}","patient":"{patient}"}}"#));
        n
    }

    fn end(&self, count: usize) -> String {
        let digest: String = self.sum.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(r#"{{"end":{{"count":{count},"digest":"{digest}"}}}}"#)
    }

    async fn send(&self, body: String, now_s: u64) -> Reply {
        let details = json!({ "type": "objections", "practice": self.owner });
        let token = self.practice.token(&details, now_s).await.expect("a token");
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/x-ndjson"),
        ];
        let http = &self.practice.http;
        http.send(Method::POST, "/feed/objections", &headers, body)
            .await
            .unwrap()
    }

    /// Sends these lines with the count and digest of all there are; gives the answer.
    async fn pass_on(&self, lines: &[String]) -> serde_json::Value {
        let mut body = lines.join("\n");
        body.push('\n');
        body.push_str(&self.end(self.lines.len()));
        let reply = self.send(body, now_s()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }
}

/// The i-th test number with the right check digit, apart from the world's own.
fn numbers() -> impl Iterator<Item = String> {
    (100_000..1_000_000u64).filter_map(|i| {
        let text = format!("999{i}");
        let sum: u32 = text
            .bytes()
            .zip((2..=10u32).rev())
            .map(|(b, w)| u32::from(b - b'0') * w)
            .sum();
        match 11 - sum % 11 {
            10 => None,
            11 => Some(format!("{text}0")),
            digit => Some(format!("{text}{digit}")),
        }
    })
}

fn research(nhs: &str) -> serde_json::Value {
    json!({
        "type": "patient_record", "patient": nhs, "purpose": "HRESCH", "practitioner": { "id": "r-quill" },
    })
}

/// `SALLYPORT_OBJECTIONS=150000` plays the whole of 2018.
#[tokio::test(flavor = "multi_thread")]
async fn what_never_arrived_is_named_at_the_next_message_and_research_stops() {
    let many = std::env::var("SALLYPORT_OBJECTIONS").ok();
    let many = many
        .and_then(|many| many.parse().ok())
        .unwrap_or(2_000usize);
    let batch = if many > 5_000 { 5_000 } else { 500 };
    let stage = Stage::new().await;
    let (hospital, research_c) = (stage.party("hospital-a"), stage.party("research-c"));
    let nhs = hale().nhs;
    token(&research_c, &research(nhs)).await;
    let mut source = Source::new(stage.party("practice-a"), PRACTICE_A);
    let mut people = numbers();
    let mut lost: Vec<u64> = Vec::new();
    let began = std::time::Instant::now();
    while source.lines.len() < many {
        let from = source.lines.len();
        for _ in 0..batch {
            source.object(&people.next().unwrap());
        }
        // What happened: a tenth of what was recorded is lost on the way, and nobody is told.
        let mut arrives = Vec::new();
        for (at, line) in source.lines.iter().enumerate().skip(from) {
            match at % 10 == 7 {
                true => lost.push(at as u64 + 1),
                false => arrives.push(line.clone()),
            }
        }
        let answer = source.pass_on(&arrives).await;
        assert_eq!(answer["state"], "gap");
        assert_eq!(answer["missing_count"], lost.len());
    }
    eprintln!("{many} objections passed on in {:?}", began.elapsed());
    // Within one message of the feed the gap is found and every lost number is named.
    let mut named: Vec<u64> = Vec::new();
    let details = json!({ "type": "objections", "practice": PRACTICE_A });
    loop {
        let bearer = token(&source.practice, &details).await;
        let after = named.last().copied().unwrap_or(0);
        let path = format!("/feed/objections/status?after={after}");
        let answer = get(&source.practice, &bearer, &path).await.json();
        for stretch in answer["missing"].as_array().unwrap() {
            named.extend(stretch[0].as_u64().unwrap()..=stretch[1].as_u64().unwrap());
        }
        if answer["more"] == false {
            break;
        }
    }
    assert_eq!(named, lost, "every number that is missing, and no other");
    // No secondary use from now on; care goes on, marked, on the objections last heard.
    denied(&research_c.ask(&research(nhs), now_s()).await.unwrap());
    let read = token(&hospital, &treat(nhs)).await;
    let reply = get(&hospital, &read, &everything(nhs)).await;
    let doubt = receipt(&reply, stage.vkey()).opened["context"]["objections"].clone();
    assert!(
        doubt.as_str().unwrap().starts_with("as last heard"),
        "{doubt}"
    );
    // The restart forgets nothing of it.
    let stage = stage.restart().await;
    let research_c = stage.party("research-c");
    denied(&research_c.ask(&research(nhs), now_s()).await.unwrap());
    // What was lost is sent again, and all is sound; what the patients said is in force.
    source.practice = stage.party("practice-a");
    let mut again: Vec<Vec<String>> = Vec::new();
    for chunk in lost.chunks(batch) {
        let line = |n: &u64| source.lines[*n as usize - 1].clone();
        again.push(chunk.iter().map(line).collect());
    }
    let mut answer = serde_json::Value::Null;
    for lines in again {
        answer = source.pass_on(&lines).await;
    }
    assert_eq!(answer["state"], "sound", "{answer}");
    assert_eq!(answer["held"], source.lines.len());
    token(&research_c, &research(nhs)).await;
    let entries = stage.entries().await;
    let told = |event: &str| {
        entries.values().any(|leaf| {
            leaf.contains(event) && leaf.contains("feed.gap") && leaf.contains(PRACTICE_A)
        })
    };
    assert!(
        told("alarm.raise") && told("alarm.clear"),
        "people are told of both"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contradiction_or_a_replay_is_no_silent_success() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let (hospital, research_c) = (stage.party("hospital-a"), stage.party("research-c"));
    let mut source = Source::new(stage.party("practice-a"), PRACTICE_A);
    let mut people = numbers();
    for _ in 0..3 {
        source.object(&people.next().unwrap());
    }
    let answer = source.pass_on(&source.lines.clone()).await;
    assert_eq!(
        (answer["state"].as_str(), answer["taken"].as_u64()),
        (Some("sound"), Some(3))
    );
    // The same again, after a lost answer, does no harm.
    let answer = source.pass_on(&source.lines.clone()).await;
    assert_eq!(
        (answer["state"].as_str(), answer["repeated"].as_u64()),
        (Some("sound"), Some(3))
    );
    token(&research_c, &research(nhs)).await;
    // An older state of the source, put back from a copy, counts fewer.
    let body = source.end(2);
    assert_eq!(source.send(body, now_s()).await.json()["state"], "replay");
    denied(&research_c.ask(&research(nhs), now_s()).await.unwrap());
    assert_eq!(
        source.pass_on(&[]).await["state"],
        "sound",
        "a heartbeat heals it"
    );
    // One number, two contents: the objection is taken all the same, and somebody has to look.
    let other = format!(r#"{{"n":2,"id":"other","patient":"{nhs}"}}"#);
    let answer = source.pass_on(&[other]).await;
    assert_eq!(answer["state"], "mismatch");
    assert_eq!(answer["conflicts"], json!([2]));
    denied(&hospital.ask(&treat(nhs), now_s()).await.unwrap());
    // What is malformed is refused whole, naming the line.
    let (line, end) = (source.lines[0].clone(), source.end(3));
    let reply = source.send(format!("{line}\n{line}\n{end}"), now_s()).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(reply.text().contains("line 2"), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_objection_comes_as_a_numbered_consent_too_and_from_the_national_list() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let (hospital, research_c) = (stage.party("hospital-a"), stage.party("research-c"));
    // The national list stands in the way of research, never of care.
    let mut list = Source::new(stage.party("opt-out-list"), "NDOO1");
    list.object(nhs);
    assert_eq!(list.pass_on(&list.lines.clone()).await["state"], "sound");
    denied(&research_c.ask(&research(nhs), now_s()).await.unwrap());
    let read = token(&hospital, &treat(nhs)).await;
    // A Consent with its number; it acts at the next request.
    let mut source = Source::new(stage.party("practice-a"), PRACTICE_A);
    source.object(nhs);
    let digest: String = source
        .sum
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let bearer = token(&source.practice, &consent_for(PRACTICE_A, nhs)).await;
    let bearer = format!("Bearer {bearer}");
    for (beside, status) in [
        ("n=1".to_owned(), StatusCode::BAD_REQUEST),
        (
            format!("generation=1; n=1; count=1; digest={digest}"),
            StatusCode::OK,
        ),
    ] {
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", R4),
            ("sallyport-feed", beside.as_str()),
        ];
        let body = consent("o-1", nhs).to_string();
        let sent = &source.practice.http;
        let reply = sent
            .send(Method::PUT, "/fhir/Consent/o-1", &headers, body)
            .await;
        let reply = reply.unwrap();
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    refused(&get(&hospital, &read, &everything(nhs)).await);
    assert_eq!(source.pass_on(&[]).await["held"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_refuses_research_first_then_care_and_an_emergency_never() {
    let stage = Stage::new().await;
    let (vkey, nhs) = (stage.vkey().clone(), hale().nhs);
    let (dir, _) = stage.stop().await;
    let emergency = with(
        treat(nhs),
        &[
            ("purpose", json!("BTG")),
            ("relationship", serde_json::Value::Null),
            ("reason", json!("resus")),
            ("acknowledged", json!(true)),
        ],
    );
    for (minutes, researches, cares) in
        [(50, true, true), (70, false, true), (74 * 60, false, false)]
    {
        let later = Clock::from_fn(move || Clock::system().now_ms() + minutes * 60_000);
        let now = now_s() + minutes * 60;
        let served = Served::open_at(dir.path(), None, later).await.unwrap();
        let party = |name: &str| party_at(dir.path(), name);
        let (hospital, research_c) = (party("hospital-a"), party("research-c"));
        let status = |permitted: bool| match permitted {
            true => StatusCode::OK,
            false => StatusCode::FORBIDDEN,
        };
        let asked = research_c.ask(&research(nhs), now).await.unwrap();
        assert_eq!(
            asked.status,
            status(researches),
            "research after {minutes} minutes"
        );
        let asked = hospital.ask(&treat(nhs), now).await.unwrap();
        assert_eq!(asked.status, status(cares), "care after {minutes} minutes");
        if cares {
            let context = receipt(&asked, &vkey).opened["context"].clone();
            assert_eq!(
                context.get("objections").is_some(),
                !researches,
                "{context}"
            );
        }
        let asked = hospital.ask(&emergency, now).await.unwrap();
        assert_eq!(
            asked.status,
            StatusCode::OK,
            "an emergency after {minutes} minutes"
        );
        // Whoever was silent is heard again, and everything goes on.
        if !cares {
            for (name, owner) in [("practice-a", PRACTICE_A), ("opt-out-list", "NDOO1")] {
                let source = Source::new(party(name), owner);
                let reply = source.send(source.end(0), now).await;
                assert_eq!(reply.json()["state"], "sound", "{}", reply.text());
            }
            let asked = hospital.ask(&treat(nhs), now).await.unwrap();
            assert_eq!(asked.status, StatusCode::OK);
        }
        served.stop().await;
    }
}
