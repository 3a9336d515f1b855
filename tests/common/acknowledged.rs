//! A load on the real program, and the memory of all that it acknowledged: for the tests that then take the process
//! or the power away. Nothing is forgotten between rounds, and what was under way may have happened or not.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, and no test uses every part"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::{Method, StatusCode};
use sallyport::connect::{Party, Reply};
use sallyport::ledger::{Evidence, Vkey, check};
use serde_json::Value;

use crate::common::*;

/// The program, serving a world in this folder.
pub struct Running(Child);

impl Running {
    /// Starts it with these arguments and waits until it answers; its standard error goes to the end of `log`.
    pub async fn start<S: AsRef<OsStr>>(dir: &Path, log: &Path, arguments: &[S]) -> Self {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sallyport"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut running = Self(child);
        for _ in 0..1200 {
            let ended = running.0.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "it ended at once: {ended:?}\n{}",
                std::fs::read_to_string(log).unwrap()
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

    /// No goodbye. Without waiting: what hangs in a disk that does not answer dies when the disk does.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    /// Waits for what was killed.
    pub fn wait(&mut self) {
        self.0.wait().unwrap();
    }

    /// Asked politely, it stops and says that all is well.
    pub fn stop(mut self) {
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
#[derive(Default, Clone)]
pub struct Acknowledged {
    /// TYPE/ID and the bytes, each filed once.
    pub records: BTreeMap<String, String>,
    /// The one record that is filed again and again: its last acknowledged bytes, and the ones under way.
    pub same: (Option<String>, Option<String>),
    /// Whether the toggled objection stands, and whether a change of it is under way.
    pub toggled: (bool, bool),
    /// Records that were withdrawn.
    pub withdrawn: BTreeSet<String>,
    pub receipts: Vec<Evidence>,
    pub reads: u64,
    pub rotations: u64,
    /// The practice's latest key version.
    pub kek: u64,
}

pub type Shared = Arc<Mutex<Acknowledged>>;

pub fn keep(all: &Shared, reply: &Reply, vkey: &Vkey) {
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
pub async fn load(dir: &Path, all: &Shared, round: u64, stop: Arc<AtomicBool>) {
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
    let withdraws = async {
        while going() {
            let id = format!("gone-{round}-{}", counter.fetch_add(1, Ordering::Relaxed));
            let body = observation(&id, nhs, "1-1", "2026-01-01").to_string();
            let name = format!("Observation/{id}");
            for (method, body) in [(Method::PUT, body), (Method::DELETE, String::new())] {
                let path = format!("/fhir/{name}");
                let Some(reply) = attempt(&practice, method, &path, &deposit, body).await else {
                    return;
                };
                assert!(reply.status.is_success(), "{}", reply.text());
                keep(all, &reply, &vkey);
            }
            all.lock().unwrap().withdrawn.insert(name);
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
            {
                let mut all = all.lock().unwrap();
                all.rotations += 1;
                all.kek = reply.json()["version"].as_u64().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    tokio::join!(
        files(),
        files(),
        files(),
        files_again,
        withdraws,
        objects,
        reads,
        rotates
    );
}

/// Everything that was acknowledged is there.
pub async fn stands(dir: &Path, all: &Shared, kept: bool) {
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
    for name in &all.withdrawn {
        assert!(!found.contains_key(name), "{name} was withdrawn");
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

/// In every other round one objection is left to stand: it must refuse, whatever else was under way.
pub async fn object_to_keep(dir: &Path, all: &Shared, round: u64) -> bool {
    let kept = round % 2 == 1;
    if kept {
        let practice = party_at(dir, "practice-a");
        let reply = object(&practice, quill().nhs, "kept").await;
        assert_eq!(reply.status, StatusCode::OK);
        keep(all, &reply, &practice.vkey);
    }
    kept
}

/// Takes that objection back; what the toggled one came to shows only now.
pub async fn take_back_kept(dir: &Path, all: &Shared) {
    let practice = party_at(dir, "practice-a");
    let token = token(&practice, &consent_for(PRACTICE_A, quill().nhs)).await;
    let reply = send(&practice, Method::DELETE, "/fhir/Consent/kept", &token, "").await;
    assert_eq!(reply.status, StatusCode::OK);
    keep(all, &reply, &practice.vkey);
    let hospital = party_at(dir, "hospital-a");
    let asked = hospital.ask(&treat(quill().nhs), now_s()).await.unwrap();
    let refused = asked.status == StatusCode::FORBIDDEN;
    let mut all = all.lock().unwrap();
    assert!(
        all.toggled.1 || all.toggled.0 == refused,
        "the toggled objection is as it was last acknowledged"
    );
    all.toggled = (refused, false);
}

/// A rewrap that was left half done is taken up, and no version that was acknowledged is gone.
pub async fn rewrapped(dir: &Path, all: &Shared) {
    let admin = party_at(dir, "admin-1");
    let acknowledged = all.lock().unwrap().kek;
    let mut versions: Vec<u64> = Vec::new();
    for _ in 0..400 {
        let path = format!("/admin/keys/{PRACTICE_A}");
        let reply = admin.http.send(Method::GET, &path, &[], "").await.unwrap();
        let kek = reply.json()["kek"].clone();
        let each = kek.as_array().unwrap().iter();
        versions = each.map(|row| row["version"].as_u64().unwrap()).collect();
        if matches!(versions[..], [version] if version >= acknowledged) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("record keys stand under {versions:?}, the last acknowledged is {acknowledged}");
}

/// With the program stopped: every receipt's entry is there, and the published log holds.
pub fn all_recorded(dir: &Path, all: &Shared, vkey: &Vkey) {
    all_stand(&all.lock().unwrap().receipts, &entries(dir, vkey));
    let report = verify(dir, vkey);
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

/// There was something to lose.
pub fn was_worth_it(all: &Shared, rounds: u64) -> String {
    let all = all.lock().unwrap();
    let said = format!(
        "{} deposits, {} withdrawals, {} reads, {} rotations, {} receipts",
        all.records.len(),
        all.withdrawn.len(),
        all.reads,
        all.rotations,
        all.receipts.len()
    );
    let enough = all.records.len() as u64 > rounds * 3 && all.reads > rounds;
    assert!(enough && all.rotations >= rounds, "too little: {said}");
    said
}
