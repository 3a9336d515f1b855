//! That a gateway which shows two logs, or takes entries away, is found: by each caller in its next answer, and by
//! witnesses that cosign. Witnesses that lie, lag or say nothing are played here; a real one, not ours, where it is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::*;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sallyport::connect::{HistoryError, HttpError, Party, Seen};
use sallyport::ledger::audit::{self, What};
use sallyport::ledger::cosign::WitnessKey;
use sallyport::ledger::note::Checkpoint;
use sallyport::ledger::tree::{Hash, proves_consistency};
use serde_json::Value;

/// One ask and one read, each held against what was seen before.
async fn reads(hospital: &Party) -> Result<(), HttpError> {
    let asked = hospital.ask(&treat(hale().nhs), now_s()).await?;
    let token = asked.json()["access_token"].as_str().unwrap().to_owned();
    let path = everything(hale().nhs);
    assert_eq!(hospital.read(&path, &token).await?.status, StatusCode::OK);
    Ok(())
}

fn history(result: Result<(), HttpError>) -> HistoryError {
    match result {
        Err(HttpError::History(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(()) => panic!("another history was believed"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_proves_that_the_log_it_stands_in_goes_on_from_the_last() {
    let stage = Stage::new().await;
    let file = stage.path().join("log.seen");
    let party = || Party {
        seen: Some(Seen::in_file(&file, stage.vkey()).unwrap()),
        ..stage.party("hospital-a")
    };
    let hospital = party();
    for _ in 0..3 {
        reads(&hospital).await.unwrap();
    }
    // A program that starts again goes on where it was; refusals prove it too.
    let hospital = party();
    let before: u64 = hospital
        .seen
        .as_ref()
        .unwrap()
        .last()
        .unwrap()
        .size()
        .parse()
        .unwrap();
    let refused = hospital.ask(&treat(NOBODY), now_s()).await.unwrap();
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let proof = refused.header("sallyport-consistency").unwrap();
    assert!(proof.starts_with(&format!("{before} ")), "{proof}");
    assert!(receipt(&refused, stage.vkey()).checkpoint.size > before);

    for value in ["0", "-1", "01", "x", "18446744073709551616", ""] {
        let headers = [("sallyport-seen", value)];
        let reply = hospital
            .http
            .send(Method::GET, "/log/checkpoint", &headers, "")
            .await
            .unwrap();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{value:?}");
        assert!(reply.text().contains("Sallyport-Seen"), "{}", reply.text());
    }
    // Whoever claims to have seen more than there is gets no proof, and the same answer otherwise.
    let headers = [("sallyport-seen", "9999999")];
    let reply = stage
        .party("auditor")
        .http
        .send(Method::GET, "/log/tile/entries/000.p/1", &headers, "")
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.header("sallyport-consistency"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_two_sizes_are_proven_to_whoever_asks() {
    let stage = Stage::new().await;
    let hospital = stage.party("hospital-a");
    let mut seen: Vec<Checkpoint> = Vec::new();
    for _ in 0..5 {
        let asked = hospital.ask(&treat(hale().nhs), now_s()).await.unwrap();
        seen.push(receipt(&asked, stage.vkey()).checkpoint);
    }
    let get = async |query: &str| {
        let path = format!("/log/consistency?{query}");
        hospital
            .http
            .send(Method::GET, &path, &[], "")
            .await
            .unwrap()
    };
    for (at, old) in seen.iter().enumerate() {
        for new in &seen[at..] {
            let reply = get(&format!("from={}&to={}", old.size, new.size)).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
            let path: Vec<Hash> = reply.json()["consistency"]
                .as_array()
                .unwrap()
                .iter()
                .map(|hash| STANDARD.decode(hash.as_str().unwrap()).unwrap())
                .map(|hash| hash.try_into().unwrap())
                .collect();
            let (from, to) = (old.size, new.size);
            assert!(proves_consistency(from, to, &old.root, &new.root, &path));
            assert!(from == to || !proves_consistency(from, to, &new.root, &new.root, &path));
        }
    }
    let size = seen[0].size;
    for (query, status) in [
        (String::new(), StatusCode::BAD_REQUEST),
        (format!("from=0&to={size}"), StatusCode::BAD_REQUEST),
        (format!("from=1&from=1&to={size}"), StatusCode::BAD_REQUEST),
        (format!("from=1&to={size}&x=1"), StatusCode::BAD_REQUEST),
        (format!("from={size}&to=1"), StatusCode::NOT_FOUND),
        ("from=1&to=99999999".to_owned(), StatusCode::NOT_FOUND),
    ] {
        let reply = get(&query).await;
        assert_eq!(reply.status, status, "{query}: {}", reply.text());
        assert!(reply.json()["error_description"].is_string());
    }
}

/// The operator runs two gateways with one key: one log for the auditor, another one for this hospital.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_shows_two_logs_is_found_by_the_next_answer() {
    let stage = Stage::new().await;
    let other = folder();
    let stage = stage.after(|dir| copy(dir, other.path())).await.unwrap();
    let kept = folder();
    let file = kept.path().join("log.seen");
    let hospital = Party {
        seen: Some(Seen::in_file(&file, stage.vkey()).unwrap()),
        ..stage.party("hospital-a")
    };
    for _ in 0..6 {
        reads(&hospital).await.unwrap();
    }
    let forked = Stage::again(other, any()).await.unwrap();
    let hospital = Party {
        seen: hospital.seen,
        ..forked.party("hospital-a")
    };
    let error = history(reads(&hospital).await);
    assert!(matches!(error, HistoryError::RolledBack { .. }), "{error}");
    assert!(error.to_string().contains("were taken away"), "{error}");

    // It lets its other log grow until that is the longer one.
    let another = forked.party("hospital-a");
    for _ in 0..8 {
        reads(&another).await.unwrap();
    }
    let seen = std::fs::read_to_string(&file).unwrap();
    let error = history(reads(&hospital).await);
    let HistoryError::Split { entry, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        error
            .to_string()
            .starts_with(&format!("entry {entry} stands in another history"))
    );
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        seen,
        "what was seen stays"
    );
    // Both are signed by the one key, and neither is the beginning of the other.
    let both = std::fs::read_to_string(kept.path().join("log.conflict")).unwrap();
    let (first, second) = both.split_at(seen.len());
    let first = Checkpoint::open(first, stage.vkey()).unwrap();
    let second = Checkpoint::open(second.trim_start(), stage.vkey()).unwrap();
    assert_eq!(second.size, entry + 1);
    let reply = another
        .http
        .send(
            Method::GET,
            &format!("/log/consistency?from={}&to={}", first.size, second.size),
            &[],
            "",
        )
        .await
        .unwrap();
    let proof: Vec<Hash> = reply.json()["consistency"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hash: &Value| STANDARD.decode(hash.as_str().unwrap()).unwrap())
        .map(|hash| hash.try_into().unwrap())
        .collect();
    let (old, new) = (&first.root, &second.root);
    assert!(!proves_consistency(
        first.size,
        second.size,
        old,
        new,
        &proof
    ));
}

/// What a witness does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Honest,
    /// Signs with a key that is not the one it gave out.
    OtherKey,
    /// Cosigns what it saw first, again and again.
    Old,
    Garbage,
    /// 100 MB.
    Huge,
    Silent,
    /// Says that it has seen another history.
    Refuses,
    /// Says that it has cosigned more entries than there are.
    Ahead,
    /// Says another size each time.
    Wanders,
}

/// A witness on loopback, by C2SP tlog-witness.
struct Fake {
    signer: keys::NoteSigner,
    manner: Mutex<Manner>,
    saw: Mutex<Vec<(u64, Hash, String)>>,
    asked: std::sync::atomic::AtomicU64,
}

fn key_id(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let hash = keys::sha256(&[name.as_bytes(), b"\n\x04", public]);
    hash[..4].try_into().unwrap()
}

const WITNESS: &str = "witness.example/w1";

impl Fake {
    fn key(&self) -> WitnessKey {
        let public = self.signer.public();
        let id = u32::from_be_bytes(key_id(WITNESS, &public));
        let text = [&[4][..], &public].concat();
        let text = format!("{WITNESS}+{id:08x}+{}", STANDARD.encode(text));
        text.parse().unwrap()
    }

    fn line(&self, note: &str, by: &keys::NoteSigner) -> String {
        let (text, _) = note.split_once("\n\n").unwrap();
        let time = now_s();
        let message = format!("cosignature/v1\ntime {time}\n{text}\n");
        let mut bytes = key_id(WITNESS, &self.signer.public()).to_vec();
        bytes.extend_from_slice(&time.to_be_bytes());
        bytes.extend_from_slice(&by.sign(message.as_bytes()));
        format!("\u{2014} {WITNESS} {}\n", STANDARD.encode(bytes))
    }

    /// What it answers; `None`: nothing at all.
    fn answer(&self, body: &str) -> Option<(u16, Vec<u8>)> {
        let manner = *self.manner.lock().unwrap();
        let asked = self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (head, note) = body.split_once("\n\n").unwrap();
        let mut lines = head.lines();
        let old: u64 = lines
            .next()
            .unwrap()
            .strip_prefix("old ")
            .unwrap()
            .parse()
            .unwrap();
        let path: Vec<Hash> = lines
            .map(|line| STANDARD.decode(line).unwrap().try_into().unwrap())
            .collect();
        let mut text = note.lines().skip(1);
        let size: u64 = text.next().unwrap().parse().unwrap();
        let root: Hash = STANDARD
            .decode(text.next().unwrap())
            .unwrap()
            .try_into()
            .unwrap();
        let mut saw = self.saw.lock().unwrap();
        let said = match manner {
            Manner::Garbage => (200, vec![0xff; 1000]),
            Manner::Huge => (200, vec![b'x'; 100 << 20]),
            Manner::Silent => return None,
            Manner::Refuses => (422, Vec::new()),
            Manner::Ahead => (409, b"99999999\n".to_vec()),
            Manner::Wanders => (409, format!("{}\n", 1 + asked % 2).into_bytes()),
            Manner::OtherKey => {
                let other = keys::NoteSigner::generate();
                (200, self.line(note, &other).into_bytes())
            }
            Manner::Old => {
                let first = saw.first().expect("it was honest first").2.clone();
                (200, self.line(&first, &self.signer).into_bytes())
            }
            Manner::Honest => {
                let last = saw.last().map(|(size, root, _)| (*size, *root));
                match last {
                    Some((known, _)) if known != old => (409, format!("{known}\n").into_bytes()),
                    None if old != 0 => (409, b"0\n".to_vec()),
                    Some((known, before))
                        if !proves_consistency(known, size, &before, &root, &path) =>
                    {
                        (422, Vec::new())
                    }
                    _ => {
                        saw.push((size, root, note.to_owned()));
                        (200, self.line(note, &self.signer).into_bytes())
                    }
                }
            }
        };
        Some(said)
    }

    fn be(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// Listens, and gives the lines of the config that name it.
    async fn listen(self: &Arc<Self>, lag_max_s: u64) -> String {
        let listener = tokio::net::TcpListener::bind(any()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let fake = Arc::clone(&fake);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(|request: hyper::Request<_>| {
                        let fake = Arc::clone(&fake);
                        async move {
                            assert_eq!(request.uri().path(), "/w/add-checkpoint");
                            let body: hyper::body::Incoming = request.into_body();
                            let body = body.collect().await.unwrap().to_bytes();
                            let body = String::from_utf8(body.to_vec()).unwrap();
                            let Some((status, answer)) = fake.answer(&body) else {
                                return std::future::pending().await;
                            };
                            let mut response = Response::new(Full::new(Bytes::from(answer)));
                            *response.status_mut() = StatusCode::from_u16(status).unwrap();
                            Ok::<_, std::convert::Infallible>(response)
                        }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        config(&self.key(), &format!("http://{address}/w/"), lag_max_s)
    }
}

fn config(key: &WitnessKey, url: &str, lag_max_s: u64) -> String {
    format!(
        "\n[witness]\nquorum = 1\nevery_s = 1\nlag_max_s = {lag_max_s}\n\
         [[witness.by]]\nkey = \"{key}\"\nurl = \"{url}\"\n"
    )
}

/// A gateway whose config has these lines too, with what goes on beside it.
struct Witnessed {
    served: Served,
    beside: tokio::task::JoinHandle<()>,
}

impl Witnessed {
    async fn open(dir: &Path) -> Self {
        let served = Served::open(dir, None).await.expect("a gateway");
        let beside = tokio::spawn(sallyport::http::beside(Arc::clone(&served.app)));
        Self { served, beside }
    }

    async fn stop(self) {
        self.beside.abort();
        let _ = self.beside.await;
        self.served.stop().await;
    }

    /// Waits until its witness stands so, 30 seconds at most.
    async fn until(&self, what: &str, is: impl Fn(&sallyport::witness::Standing) -> bool) {
        let since = Instant::now();
        loop {
            let standing = self.served.app.gateway.witnesses().standing();
            if is(&standing[0]) {
                return;
            }
            assert!(
                since.elapsed() < Duration::from_secs(30),
                "{what}: {standing:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn stopped_with(lines: &str) -> tempfile::TempDir {
    let (dir, _) = Stage::new().await.stop().await;
    add(dir.path(), lines);
    dir
}

fn add(dir: &Path, lines: &str) {
    let path = dir.join("sallyport.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let config = config.split("\n[witness]").next().unwrap().to_owned();
    std::fs::write(&path, config + lines).unwrap();
}

fn fake() -> Arc<Fake> {
    Arc::new(Fake {
        signer: keys::NoteSigner::generate(),
        manner: Mutex::new(Manner::Honest),
        saw: Mutex::default(),
        asked: std::sync::atomic::AtomicU64::new(0),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_lies_or_says_nothing_is_not_believed_and_care_stops_but_not_emergencies() {
    let fake = fake();
    let dir = stopped_with(&fake.listen(3).await).await;
    let gateway = Witnessed::open(dir.path()).await;
    gateway.until("it cosigns", |it| it.age_s.is_some()).await;
    let hospital = party_at(dir.path(), "hospital-a");
    let read = token(&hospital, &treat(hale().nhs)).await;
    let path = everything(hale().nhs);
    let ordinary = async || hospital.read(&path, &read).await.unwrap();
    assert_eq!(ordinary().await.status, StatusCode::OK);

    for (manner, says) in [
        (Manner::OtherKey, "no cosignature"),
        (Manner::Old, "no cosignature"),
        (Manner::Garbage, "not text"),
        (Manner::Huge, "more than 16 KiB"),
        (Manner::Refuses, "are not the first ones of this log"),
        (Manner::Ahead, "entries are gone"),
        (Manner::Wanders, "another size each time"),
    ] {
        // Something new, so that what it saw before is not this.
        hospital.ask(&treat(NOBODY), now_s()).await.unwrap();
        gateway.served.app.gateway.ledger().publish_now().await;
        fake.be(manner);
        let refuses = matches!(manner, Manner::Refuses | Manner::Ahead);
        gateway
            .until(&format!("{manner:?}: {says}"), |it| {
                it.failure.as_ref().is_some_and(|why| why.contains(says))
                    && (it.is_refused || !refuses)
            })
            .await;
        fake.be(Manner::Honest);
        let back = |it: &sallyport::witness::Standing| it.failure.is_none() && !it.is_refused;
        gateway.until("it is honest again", back).await;
        assert_eq!(ordinary().await.status, StatusCode::OK, "after {manner:?}");
    }

    fake.be(Manner::Silent);
    let since = Instant::now();
    let stopped = loop {
        let reply = ordinary().await;
        if reply.status != StatusCode::OK {
            break reply;
        }
        assert!(since.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(stopped.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(stopped.text().contains("witnesses"), "{}", stopped.text());
    assert!(stopped.header("retry-after").is_some());
    let broken = break_glass(hale().nhs, "unconscious, found in the street");
    let broken = token(&hospital, &broken).await;
    let reply = hospital.read(&path, &broken).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let entry = receipt(&reply, &hospital.vkey);
    assert!(
        entry.leaf["unwitnessed_s"].as_u64().unwrap() > 3,
        "{:?}",
        entry.leaf
    );
    let board = gateway.served.app.gateway.post().board();
    let since = Instant::now();
    while !(board.stands(sallyport::alerts::Kind::WitnessSilent, WITNESS)
        && board.stands(sallyport::alerts::Kind::WitnessStops, "gateway"))
    {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "{:?}",
            board.standing()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cosigned_is_served_kept_and_demanded_by_auditors_and_at_the_next_start() {
    let fake = fake();
    let dir = stopped_with(&fake.listen(60).await).await;
    let gateway = Witnessed::open(dir.path()).await;
    let hospital = party_at(dir.path(), "hospital-a");
    reads(&hospital).await.unwrap();
    gateway.served.app.gateway.ledger().publish_now().await;
    let size = gateway.served.app.gateway.ledger().health().size;
    gateway
        .until("all of it is cosigned", |it| it.size >= size)
        .await;
    let get = async |path: &str| {
        let reply = hospital.http.send(Method::GET, path, &[], "").await;
        String::from_utf8(reply.unwrap().body.to_vec()).unwrap()
    };
    let since = Instant::now();
    let cosigned = loop {
        let note = get("/log/witnessed").await;
        if Checkpoint::open(&note, &hospital.vkey).is_ok_and(|it| it.size >= size) {
            break note;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{note}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(now_s().abs_diff(fake.key().cosigned(&cosigned).unwrap()) < 60);
    assert_eq!(
        get("/log/checkpoint").await,
        cosigned,
        "nothing was added since"
    );
    let vkey = hospital.vkey.clone();
    gateway.stop().await;

    let witnesses = [fake.key()];
    let verify = |witnesses: &[WitnessKey], uncosigned_ms_max| {
        let check = audit::Check {
            witnesses,
            quorum: witnesses.len(),
            uncosigned_ms_max,
            ..audit::Check::default()
        };
        audit::verify(&audit::Folder(dir.path().join("log")), &vkey, &check)
    };
    let report = verify(&witnesses, 3_600_000);
    assert!(report.holds(), "{:?}", report.findings);
    let said = report.cosigned.unwrap();
    assert_eq!((said.size, said.by[0].0.as_str()), (size, WITNESS));
    // A witness that the auditor trusts and the operator left out.
    let other = [fake.key(), self::fake().key()];
    let report = verify(&other, 3_600_000);
    assert_eq!(
        report.findings[0].what,
        What::Uncosigned,
        "{:?}",
        report.findings
    );
    assert!(report.findings[0].meaning.contains("2 of the 2 witnesses"));

    // An older copy of everything but what witnesses cosigned: the log became shorter.
    let old = folder();
    copy(dir.path(), old.path());
    let stage = Witnessed::open(dir.path()).await;
    let hospital = party_at(dir.path(), "hospital-a");
    reads(&hospital).await.unwrap();
    let size = stage.served.app.gateway.ledger().health().size;
    stage.served.app.gateway.ledger().publish_now().await;
    stage
        .until("the rest is cosigned too", |it| it.size >= size)
        .await;
    let since = Instant::now();
    while !std::fs::read_to_string(dir.path().join("log/witnessed"))
        .is_ok_and(|note| Checkpoint::open(&note, &vkey).is_ok_and(|it| it.size >= size))
    {
        assert!(since.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.stop().await;
    std::fs::copy(
        dir.path().join("log/witnessed"),
        old.path().join("log/witnessed"),
    )
    .unwrap();
    let refused = Served::open(old.path(), None)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(refused.contains("entries"), "{refused}");
    let check = audit::Check::default();
    let report = audit::verify(&audit::Folder(old.path().join("log")), &vkey, &check);
    assert_eq!(
        report.findings[0].what,
        What::RolledBack,
        "{:?}",
        report.findings
    );
    // And where that is taken away as well, the witness itself says so.
    std::fs::remove_file(old.path().join("log/witnessed")).unwrap();
    let gateway = Witnessed::open(old.path()).await;
    gateway
        .until("the witness refuses", |it| it.is_refused)
        .await;
    gateway.stop().await;
}

/// The witness of somebody else, where it is installed; gives its program.
fn foreign() -> Option<PathBuf> {
    let found = std::env::var_os("AICS_WITNESS").map(PathBuf::from);
    if found.is_none() {
        eprintln!(
            "SKIPPED: AICS_WITNESS does not name the program aics-witness (tests/run witness installs it)"
        );
    }
    found
}

/// A running process of this test, ended with it.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_is_not_ours_cosigns_our_log_and_refuses_a_fork() {
    let Some(program) = foreign() else { return };
    let (dir, _) = Stage::new().await.stop().await;
    let vkey = std::fs::read_to_string(dir.path().join("log.vkey")).unwrap();
    let vkey: sallyport::ledger::Vkey = vkey.trim().parse().unwrap();
    let home = folder();
    let run = |arguments: &[&str]| {
        let output = Command::new(&program)
            .args(arguments)
            .env("AICS_WITNESS_CONFIG", home.path().join("witness.json"))
            .current_dir(home.path())
            .output()
            .expect("aics-witness runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{error}");
        said
    };
    let said = run(&["init", "--name", "witness.example/theirs"]);
    let key = said
        .split_whitespace()
        .find_map(|word| word.parse::<WitnessKey>().ok())
        .unwrap_or_else(|| panic!("no key in {said}"));
    run(&[
        "add-log",
        "--origin",
        vkey.name(),
        "--vkey",
        &vkey.to_string(),
    ]);
    let port = std::net::TcpListener::bind(any())
        .unwrap()
        .local_addr()
        .unwrap();
    let listen = port.to_string();
    let child = Command::new(&program)
        .args(["serve", "--listen", &listen])
        .env("AICS_WITNESS_CONFIG", home.path().join("witness.json"))
        .current_dir(home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running(child);

    add(dir.path(), &config(&key, &format!("http://{listen}"), 60));
    let fork = folder();
    copy(dir.path(), fork.path());
    let gateway = Witnessed::open(dir.path()).await;
    gateway
        .until("theirs cosigns", |it| it.age_s.is_some())
        .await;
    let hospital = party_at(dir.path(), "hospital-a");
    for _ in 0..3 {
        reads(&hospital).await.unwrap();
    }
    gateway.served.app.gateway.ledger().publish_now().await;
    let size = gateway.served.app.gateway.ledger().health().size;
    gateway
        .until("and what came since", |it| it.size >= size)
        .await;
    let cosigned = gateway.served.app.gateway.witnesses().cosigned();
    assert!(key.cosigned(&cosigned.expect("a quorum of one")).is_ok());
    gateway.stop().await;

    // The operator's other log: a fork, grown until it is as long.
    let forked = Witnessed::open(fork.path()).await;
    forked.until("it is behind", |it| it.is_refused).await;
    let hospital = party_at(fork.path(), "hospital-a");
    while forked.served.app.gateway.ledger().health().size <= size {
        hospital.ask(&treat(NOBODY), now_s()).await.unwrap();
    }
    forked.served.app.gateway.ledger().publish_now().await;
    forked
        .until("theirs refuses the fork", |it| {
            it.failure
                .as_ref()
                .is_some_and(|why| why.contains("are not the first ones of this log"))
        })
        .await;
    assert!(forked.served.app.gateway.witnesses().cosigned().is_none());
    forked.stop().await;
}
