//! The real program, killed with SIGKILL in the middle of deposits, objections, reads and rotations, round after
//! round: whatever it had acknowledged is there when it comes back. `SALLYPORT_KILLS` sets the number of rounds.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests may panic, and say which seed they took"
)]

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use hyper::{Method, StatusCode};
use sallyport::connect::{Party, Reply};
use sallyport::ledger::{Evidence, Vkey, check};
use serde_json::Value;

struct Running(Child);

impl Running {
    async fn start(dir: &Path, listen: SocketAddr) -> Self {
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(dir.join("stderr.log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sallyport"))
            .args(["dev", "--data"])
            .arg(dir)
            .args(["--listen", &listen.to_string()])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut running = Self(child);
        for _ in 0..1200 {
            let ended = running.0.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "it ended at once: {ended:?}\n{}",
                std::fs::read_to_string(dir.join("stderr.log")).unwrap()
            );
            if dir.join("world.json").exists()
                && party_at(dir, "auditor")
                    .http
                    .send(Method::GET, "/fhir/metadata", &[], "")
                    .await
                    .is_ok()
            {
                return running;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it does not serve within a minute");
    }

    /// No goodbye.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Asked politely, it stops and says that all is well.
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was acknowledged, over all rounds.
#[derive(Default)]
struct Acknowledged {
    /// TYPE/ID and the bytes, each filed once.
    records: BTreeMap<String, String>,
    /// The one record that is filed again and again: its last acknowledged bytes, and the ones under way.
    same: (Option<String>, Option<String>),
    /// Whether the toggled objection stands, and whether a change of it is under way.
    toggled: (bool, bool),
    receipts: Vec<Evidence>,
    reads: u64,
    rotations: u64,
}

type Shared = Arc<Mutex<Acknowledged>>;

fn keep(all: &Shared, reply: &Reply, vkey: &Vkey) {
    use base64::Engine as _;
    let Some(header) = reply.header("sallyport-receipt") else {
        return;
    };
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(header)
        .unwrap();
    let value: Value = serde_json::from_slice(&text).unwrap();
    let evidence = check(&value, vkey).expect("every receipt holds when it is handed out");
    all.lock().unwrap().receipts.push(evidence);
}

async fn attempt(
    party: &Party,
    method: Method,
    path: &str,
    token: &str,
    body: String,
) -> Option<Reply> {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", R4)];
    party.http.send(method, path, &headers, body).await.ok()
}

/// Files, objects, reads and rotates until it is told to stop or nobody answers.
async fn load(dir: &Path, all: &Shared, round: u64, stop: Arc<AtomicBool>) {
    let nhs = hale().nhs;
    let going = || !stop.load(Ordering::Relaxed);
    let practice = party_at(dir, "practice-a");
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let consents = token(&practice, &consent_for(PRACTICE_A, quill().nhs)).await;
    let hospital = party_at(dir, "hospital-a");
    let read = token(&hospital, &treat(nhs)).await;
    let keys = hospital.keys().await.unwrap();
    let admin = party_at(dir, "admin-1");
    let vkey = hospital.vkey.clone();
    let counter = AtomicU64::new(0);
    let files = async || {
        while going() {
            let id = format!("kill-{round}-{}", counter.fetch_add(1, Ordering::Relaxed));
            let body = observation(&id, nhs, "1-1", "2026-01-01").to_string();
            let name = format!("Observation/{id}");
            let Some(reply) = attempt(
                &practice,
                Method::PUT,
                &format!("/fhir/{name}"),
                &deposit,
                body.clone(),
            )
            .await
            else {
                return;
            };
            assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
            keep(all, &reply, &vkey);
            all.lock().unwrap().records.insert(name, body);
        }
    };
    let files_again = async {
        while going() {
            let day = format!(
                "2026-01-{:02}",
                counter.fetch_add(1, Ordering::Relaxed) % 28 + 1
            );
            let body = observation("same", nhs, &format!("{round}-{}", keys::random_id()), &day)
                .to_string();
            all.lock().unwrap().same.1 = Some(body.clone());
            let Some(reply) = attempt(
                &practice,
                Method::PUT,
                "/fhir/Observation/same",
                &deposit,
                body.clone(),
            )
            .await
            else {
                return;
            };
            assert!(reply.status.is_success(), "{}", reply.text());
            keep(all, &reply, &vkey);
            all.lock().unwrap().same = (Some(body), None);
        }
    };
    let objects = async {
        while going() {
            let on = {
                let mut all = all.lock().unwrap();
                all.toggled.1 = true;
                !all.toggled.0
            };
            let (method, body) = if on {
                (Method::PUT, consent("toggled", quill().nhs).to_string())
            } else {
                (Method::DELETE, String::new())
            };
            let Some(reply) =
                attempt(&practice, method, "/fhir/Consent/toggled", &consents, body).await
            else {
                return;
            };
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
            keep(all, &reply, &vkey);
            all.lock().unwrap().toggled = (on, false);
        }
    };
    let reads = async {
        while going() {
            let Some(reply) = attempt(
                &hospital,
                Method::GET,
                "/fhir/Observation?patient=9990000018&_count=5",
                &read,
                String::new(),
            )
            .await
            else {
                return;
            };
            keep(all, &reply, &vkey);
            hospital
                .open(&reply, nhs, &keys, now_s())
                .expect("what is answered holds");
            all.lock().unwrap().reads += 1;
        }
    };
    let rotates = async {
        while going() {
            let path = format!("/admin/keys/{PRACTICE_A}/rotate");
            let Ok(reply) = admin.http.send(Method::POST, &path, &[], "").await else {
                return;
            };
            assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
            keep(all, &reply, &vkey);
            all.lock().unwrap().rotations += 1;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    tokio::join!(
        files(),
        files(),
        files(),
        files_again,
        objects,
        reads,
        rotates
    );
}

/// Everything that was acknowledged is there.
async fn stands(dir: &Path, all: &Shared, kept: bool) {
    let hospital = party_at(dir, "hospital-a");
    let keys = hospital.keys().await.unwrap();
    let nhs = hale().nhs;
    let read = token(&hospital, &treat(nhs)).await;
    let mut found = BTreeMap::new();
    let mut next = Some(format!("{}?_count=200", everything(nhs)));
    while let Some(path) = next {
        let reply = get(&hospital, &read, &path).await;
        let opened = hospital.open(&reply, nhs, &keys, now_s()).unwrap();
        for record in opened.records {
            let text = String::from_utf8(record.text.to_vec()).unwrap();
            assert!(
                found.insert(record.name, text).is_none(),
                "a record came twice"
            );
        }
        next = opened.next;
    }
    let objecting = hospital
        .ask(&treat(quill().nhs), now_s())
        .await
        .unwrap()
        .status;
    let mut all = all.lock().unwrap();
    for (name, body) in &all.records {
        assert_eq!(found.get(name), Some(body), "{name} was acknowledged");
    }
    let have = found.get("Observation/same").cloned();
    let (acknowledged, under_way) = &all.same;
    assert!(
        have == *acknowledged || (under_way.is_some() && have == *under_way),
        "the last acknowledged version, or the one under way"
    );
    all.same = (have, None);
    let refused = objecting == StatusCode::FORBIDDEN;
    assert!(refused || objecting == StatusCode::OK, "{objecting}");
    let (stood, under_way) = all.toggled;
    if kept {
        assert!(refused, "an objection that was acknowledged refuses");
    } else if under_way {
        all.toggled.0 = refused;
    } else {
        assert_eq!(
            refused, stood,
            "the toggled objection is as it was last acknowledged"
        );
    }
    all.toggled.1 = kept && under_way;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_sigkill() {
    let rounds: u64 = std::env::var("SALLYPORT_KILLS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(5);
    let mut seed = std::env::var("SALLYPORT_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| u64::from_le_bytes(keys::random_array::<8>()) | 1);
    eprintln!("SALLYPORT_SEED={seed}");
    let folder = folder();
    let dir = folder.path();
    let all: Shared = Arc::default();
    let mut running = Running::start(dir, any()).await;
    let address = address_of(&party_at(dir, "auditor").issuer);
    for round in 0..rounds {
        // In every other round one objection is left to stand: it must refuse, whatever else was under way.
        let kept = round % 2 == 1;
        let practice = party_at(dir, "practice-a");
        if kept {
            let reply = object(&practice, quill().nhs, "kept").await;
            assert_eq!(reply.status, StatusCode::OK);
            keep(&all, &reply, &practice.vkey);
        }
        let stop = Arc::new(AtomicBool::new(false));
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let wait = Duration::from_millis(400 + seed % 1200);
        let killer = async {
            tokio::time::sleep(wait).await;
            running.kill();
            stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(load(dir, &all, round, Arc::clone(&stop)), killer);
        running = Running::start(dir, address).await;
        stands(dir, &all, kept).await;
        if kept {
            let practice = party_at(dir, "practice-a");
            let token = token(&practice, &consent_for(PRACTICE_A, quill().nhs)).await;
            let reply = send(&practice, Method::DELETE, "/fhir/Consent/kept", &token, "").await;
            assert_eq!(reply.status, StatusCode::OK);
            // What the toggled one came to shows only now.
            let hospital = party_at(dir, "hospital-a");
            let refused = hospital
                .ask(&treat(quill().nhs), now_s())
                .await
                .unwrap()
                .status
                == StatusCode::FORBIDDEN;
            let mut all = all.lock().unwrap();
            assert!(
                all.toggled.1 || all.toggled.0 == refused,
                "the toggled objection is as it was last acknowledged"
            );
            all.toggled = (refused, false);
        }
    }
    let vkey = party_at(dir, "auditor").vkey;
    // The rewrap that a kill left half done is taken up.
    let admin = party_at(dir, "admin-1");
    let mut versions = 0;
    for _ in 0..200 {
        let path = format!("/admin/keys/{PRACTICE_A}");
        let reply = admin.http.send(Method::GET, &path, &[], "").await.unwrap();
        versions = reply.json()["kek"].as_array().map_or(0, Vec::len);
        if versions == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(versions, 1, "record keys are left under older versions");
    running.stop();
    let all = all.lock().unwrap();
    eprintln!(
        "{rounds} kills, {} deposits, {} reads, {} rotations, {} receipts",
        all.records.len(),
        all.reads,
        all.rotations,
        all.receipts.len()
    );
    assert!(
        all.records.len() as u64 > rounds * 3 && all.reads > rounds && all.rotations >= rounds,
        "there was something to lose"
    );
    all_stand(&all.receipts, &entries(dir, &vkey));
    let report = verify(dir, &vkey);
    assert!(report.holds(), "{}", report.to_json());
    let verified = Command::new(env!("CARGO_BIN_EXE_sallyport"))
        .args(["audit", "verify", "--log"])
        .arg(dir.join("log"))
        .arg("--key")
        .arg(dir.join("log.vkey"))
        .output()
        .unwrap();
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
}
