//! A disk that fills up under the real program, on a file system of its own: nothing is released that is not
//! recorded, an emergency is still served and still recorded, and with space again nobody has to repair anything.
//! Needs root and loop devices; elsewhere it says that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests may panic"
)]

#[path = "common/acknowledged.rs"]
mod acknowledged;
mod common;
#[path = "common/images.rs"]
mod images;

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use acknowledged::Running;
use common::*;
use hyper::{Method, StatusCode};
use sallyport::config::Config;
use sallyport::connect::{Party, Reply};
use sallyport::ledger::{Event, Evidence, Ledger, Options, Place, RecordError};
use sallyport::vault::Strongroom;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const MIB: u64 = 1 << 20;

/// Everything else on that disk.
struct Filler(PathBuf);

impl Filler {
    /// Grows until this much is left.
    fn leaves(&self, bytes: u64) {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&self.0)
            .unwrap();
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let more = (stat.f_bavail * stat.f_frsize).saturating_sub(bytes);
        let length = file.metadata().unwrap().len();
        if more > 0 {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(&file, flags, length, more).unwrap();
        }
    }

    /// Takes the last block too.
    fn leaves_nothing(&self) {
        self.leaves(MIB);
        let mut file = File::options().append(true).open(&self.0).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn goes(&self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// What the program said, if the test fails.
struct Said(PathBuf);

impl Drop for Said {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(&self.0).unwrap_or_default());
        }
    }
}

async fn health(address: &str) -> (u16, Value) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET /health HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    (status_of(&answer), serde_json::from_str(body).unwrap())
}

/// The last entries that ordinary requests may make: the journal is full but for what is kept for emergencies.
async fn fill_the_journal(dir: &Path) {
    let config = Config::load(&dir.join("sallyport.toml")).unwrap();
    let passphrase = std::fs::read(dir.join("passphrase")).unwrap();
    let root = keys::RootKey::open(&config.root.file, &passphrase).unwrap();
    let room = Strongroom::new(keys::Keyring::open(&config.keyring(), &root).unwrap()).unwrap();
    let place = Place {
        journal: config.journal(),
        log: config.log.clone(),
    };
    let (origin, options) = (&config.origin, Options::default());
    let ledger = Ledger::open(&place, origin, room.notes(), options, &mut |_| ()).unwrap();
    let long = "x".repeat(3800);
    loop {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let (ledger, event) = (ledger.clone(), Event::new("heartbeat").with("st", &*long));
            tasks.spawn(async move { ledger.note(event).await.err() });
        }
        if tasks.join_all().await.contains(&Some(RecordError::Full)) {
            break;
        }
    }
    // Down to the last byte that a small entry of an ordinary request could still take.
    while ledger.note(Event::new("heartbeat")).await.is_ok() {}
    ledger.close();
}

fn emergency(nhs: &str) -> Value {
    let changes = [
        ("purpose", json!("BTG")),
        ("relationship", Value::Null),
        ("reason", json!("resus")),
        ("acknowledged", json!(true)),
    ];
    with(treat(nhs), &changes)
}

fn unavailable(reply: &Reply) {
    assert_eq!(
        reply.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        reply.text()
    );
    assert!(
        reply.header("sallyport-receipt").is_none(),
        "nothing was recorded"
    );
    assert!(
        reply.body.len() < 1000,
        "an error and nothing else: {}",
        reply.text()
    );
    says_nothing_inside(reply);
}

/// A token and a record in an emergency, recorded and receipted.
async fn served_in_an_emergency(hospital: &Party, receipts: &mut Vec<Evidence>) {
    let nhs = hale().nhs;
    let asked = hospital.ask(&emergency(nhs), now_s()).await.unwrap();
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text());
    let token = asked.json()["access_token"].as_str().unwrap().to_owned();
    let path = format!("/fhir/AllergyIntolerance?patient={nhs}");
    let reply = get(hospital, &token, &path).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let opened = open(hospital, &reply, nhs).await;
    assert!(!opened.records.is_empty(), "records, and they open");
    receipts.push(receipt(&reply, &hospital.vkey));
}

/// Started on a disk without a free byte, it either serves emergencies or says which disk to look at.
async fn starts_or_says_why(
    config: &Path,
    operations: &str,
    hospital: &Party,
    receipts: &mut Vec<Evidence>,
) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sallyport"))
        .args(["serve", "--config"])
        .arg(config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for _ in 0..600 {
        if let Some(status) = child.try_wait().unwrap() {
            let mut said = String::new();
            std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
            assert_eq!(status.code(), Some(2), "{said}");
            let names_it = said.contains("is full") && said.contains("/disk/world/data");
            assert!(names_it, "{said}");
            return;
        }
        if tokio::net::TcpStream::connect(operations).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            let (_, said) = health(operations).await;
            assert_ne!(said["status"], "serving", "{said}");
            served_in_an_emergency(hospital, receipts).await;
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_only_emergencies_are_served_and_all_is_recorded() {
    if let Some(missing) = images::missing() {
        // Why not eprintln: what is skipped must be seen where tests are captured too.
        let _ = writeln!(
            std::io::stderr(),
            "\n*** SKIPPED: full disk: {missing} ***\n"
        );
        return;
    }
    let folder = images::folder();
    let (image, at) = (folder.path().join("image"), folder.path().join("disk"));
    images::format(&image, 3 << 30);
    let _mounted = images::Mounted::new(&image, &at);
    let (dir, log) = (at.join("world"), folder.path().join("stderr.log"));
    let _said = Said(log.clone());
    let operations = {
        let (stopped, _) = Stage::new().await.stop().await;
        copy(stopped.path(), &dir);
        let free = TcpListener::bind(any()).unwrap().local_addr().unwrap();
        let config = std::fs::read_to_string(dir.join("sallyport.toml")).unwrap();
        let config = format!("operations = \"{free}\"\n{config}");
        std::fs::write(dir.join("sallyport.toml"), config).unwrap();
        free.to_string()
    };
    let config = dir.join("sallyport.toml");
    let serve =
        async || Running::start(&dir, &log, &["serve", "--config", config.to_str().unwrap()]).await;
    let filler = Filler(at.join("filler"));
    let mut receipts = Vec::new();
    let nhs = hale().nhs;

    // Less than the store leaves free: it takes nothing more, and everything else goes on.
    let running = serve().await;
    let (practice, hospital) = (party_at(&dir, "practice-a"), party_at(&dir, "hospital-a"));
    let (status, said) = health(&operations).await;
    assert_eq!(
        (status, &said["status"]),
        (200, &json!("serving")),
        "{said}"
    );
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let read = token(&hospital, &treat(nhs)).await;
    filler.leaves(600 * MIB);
    let body = observation("full", nhs, "1-1", "2026").to_string();
    let reply = put(&practice, &deposit, "Observation/full", body.clone()).await;
    unavailable(&reply);
    assert!(reply.text().contains("out of space"), "{}", reply.text());
    let reply = object(&practice, quill().nhs, "full").await;
    unavailable(&reply);
    let reply = get(&hospital, &read, &everything(nhs)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    receipts.push(receipt(&reply, &hospital.vkey));
    served_in_an_emergency(&hospital, &mut receipts).await;
    let (status, said) = health(&operations).await;
    assert_eq!(
        (status, &said["status"]),
        (200, &json!("limited")),
        "{said}"
    );
    assert!(said["why"].as_str().unwrap().contains("deposits"), "{said}");
    running.stop();

    // No room for another segment of the journal, and the one there is full but for the reserve.
    filler.leaves(30 * MIB);
    fill_the_journal(&dir).await;
    filler.leaves(20 * MIB);
    let running = serve().await;
    let asked = hospital.ask(&treat(nhs), now_s()).await.unwrap();
    unavailable(&asked);
    unavailable(&get(&hospital, &read, &everything(nhs)).await);
    let asked = practice.ask(&deposit_for(PRACTICE_A, nhs), now_s()).await;
    unavailable(&asked.unwrap());
    served_in_an_emergency(&hospital, &mut receipts).await;
    let (status, said) = health(&operations).await;
    assert_eq!(
        (status, &said["status"]),
        (200, &json!("limited")),
        "{said}"
    );
    assert!(
        said["why"].as_str().unwrap().contains("emergencies"),
        "{said}"
    );

    // Not a byte is left: the journal's room was taken in advance.
    filler.leaves_nothing();
    for _ in 0..3 {
        served_in_an_emergency(&hospital, &mut receipts).await;
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    }
    unavailable(&get(&hospital, &read, &everything(nhs)).await);
    running.stop();

    starts_or_says_why(&config, &operations, &hospital, &mut receipts).await;

    // Space again: everything is there, and nobody repaired anything.
    filler.goes();
    let running = serve().await;
    let reply = put(&practice, &deposit, "Observation/full", body).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    let reply = get(&hospital, &read, "/fhir/Observation/full").await;
    receipts.push(receipt(&reply, &hospital.vkey));
    open(&hospital, &reply, nhs).await;
    assert_eq!(health(&operations).await.0, 200);
    let reply = practice
        .http
        .send(Method::GET, "/fhir/metadata", &[], "")
        .await;
    assert_eq!(reply.unwrap().status, StatusCode::OK);
    running.stop();
    all_stand(&receipts, &entries(&dir, &hospital.vkey));
    let report = verify(&dir, &hospital.vkey);
    assert!(report.holds(), "{}", report.to_json());
}
