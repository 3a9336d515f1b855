//! Figures, measured on this machine: a gateway of its own over mutual TLS, distinct patients and tokens, every
//! release decided, recorded, fsynced and receipted; and, side by side in the same run, nginx serving the same
//! bytes as static files over mutual TLS. The load generator shares the cores with what it measures.

mod connector;
mod load;
mod nginx;
mod turning;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::audit::{Keys, Mirror, Query};
use crate::clock::Clock;
use crate::connect::{HttpError, OpenError, Party};
use crate::demo::{Folder, progress};
use crate::dev::{Patient, World, WorldError, deposit, referral};
use crate::fhir::resource::FhirVersion;
use crate::ledger::{Event, Ledger, Options, Place, SignsNotes, audit};
use load::{Figures, Load};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size<'a> {
    /// Distinct patients with one record of 4 KiB each.
    pub patients: usize,
    /// Clients at once.
    pub clients: usize,
    /// Patients' keys that a rotation rewraps.
    pub keys: usize,
    /// Seconds for each figure.
    pub seconds: u64,
    /// Which figures; none named is all of them.
    pub only: &'a [Part],
}

impl Size<'_> {
    fn wants(&self, any: &[Part]) -> bool {
        self.only.is_empty() || any.iter().any(|part| self.only.contains(part))
    }
}

/// One of the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The ledger alone: durable appends, and verifying them offline.
    Ledger,
    /// Tokens issued.
    Tokens,
    /// Releases of one record.
    Single,
    /// Answers of 200 records.
    Many,
    /// Record keys rewrapped, and every other key turned, while hospitals read.
    Rotation,
    /// nginx serving the same bytes.
    Nginx,
    /// What the connectors add to an answer, and a history in and out through them.
    Connector,
}

/// Why a figure could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The world.
    #[error(transparent)]
    World(#[from] WorldError),
    /// A party got no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A party got another answer than it must.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A folder or file.
    #[error("{0}")]
    File(#[from] std::io::Error),
    /// The ledger that is measured alone.
    #[error("a ledger of its own: {0}")]
    Ledger(String),
}

/// The records of the patient with many, and the bytes of each: 200 make 250 KB.
const MANY: usize = 200;
const MANY_BYTES: usize = 1_250;
const ONE_BYTES: usize = 4_096;

/// Measures everything; `said` hears each figure as it is there.
///
/// # Errors
/// What could not be measured.
pub async fn measure(size: Size<'_>, said: &mut dyn FnMut(&str, &Value)) -> Result<(), BenchError> {
    let folder = Folder::new()?;
    if size.wants(&[Part::Ledger]) {
        appends(&folder.path().join("alone"), size, said).await?;
    }
    if size.wants(&[Part::Connector]) {
        connector::measure(folder.path(), said).await?;
    }
    if size.only == [Part::Connector] {
        return Ok(());
    }
    let patients: Vec<Patient> = (0..=size.patients).map(numbered).collect();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if size.wants(&[Part::Rotation]) {
        turning::measure(&folder.path().join("turning"), any, &patients, size, said).await?;
    }
    if !size.wants(&[Part::Tokens, Part::Single, Part::Many, Part::Nginx]) {
        return Ok(());
    }
    let world = World::open(&folder.path().join("world"), any, &patients).await?;
    let hospital = Arc::new(without_proofs(world.party("hospital-a")?));
    let practice = Arc::new(without_proofs(world.party("practice-a")?));
    file_all(&practice, &patients, said).await?;
    let load = Load {
        clients: size.clients,
        seconds: Duration::from_secs(size.seconds),
    };
    if size.wants(&[Part::Tokens, Part::Single, Part::Many, Part::Nginx]) {
        let tokens = tokens(&hospital, &patients, load, said).await?;
        let (mut single, mut many) = (None, None);
        if size.wants(&[Part::Single, Part::Nginx]) {
            single = Some(releases(&hospital, &tokens, load, said).await?);
        }
        if size.wants(&[Part::Many, Part::Nginx]) {
            many = Some(thick(&hospital, &tokens, load, said).await?);
        }
        if let (Some(single), Some(many), true) = (&single, &many, size.wants(&[Part::Nginx])) {
            nginx::beside(&world, load, (single, many), said).await?;
        }
    }
    world.publish().await;
    let report = timed_audit(&world, said);
    world.stop().await?;
    said("log holds", &json!(report));
    Ok(())
}

/// The n-th patient of the 999 7 test range.
fn numbered(n: usize) -> Patient {
    let nine = (0..)
        .map(|skip| 999_700_000 + n * 7 + skip)
        .find_map(|nine| {
            (0..10)
                .map(|digit| format!("{nine:09}{digit}"))
                .find(|text| policy::NhsNumber::try_from(text.as_str()).is_ok())
        });
    Patient {
        nhs: nine.unwrap_or_default(),
    }
}

fn record(id: usize, bytes: usize) -> Vec<u8> {
    let note: String = std::iter::repeat_n("Seen in clinic; no change. ", bytes / 27 + 1).collect();
    let mut value = json!({
        "resourceType": "Observation", "id": format!("bench-{id}"), "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": "2823-3" }] },
        "effectiveDateTime": "2026-11-02T09:30:00Z", "note": [{ "text": "" }],
    });
    let room = bytes.saturating_sub(value.to_string().len());
    if let Some(text) = value.pointer_mut("/note/0/text") {
        *text = note.get(..room).unwrap_or_default().into();
    }
    value.to_string().into_bytes()
}

async fn file_all(
    practice: &Arc<Party>,
    patients: &[Patient],
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    let began = Instant::now();
    let bar = progress(patients.len() as u64, "patients");
    let mut under_way = tokio::task::JoinSet::new();
    for (n, patient) in patients.iter().enumerate() {
        if under_way.len() >= 64 {
            joined(under_way.join_next().await)?;
        }
        let (practice, nhs, bar) = (Arc::clone(practice), patient.nhs.clone(), bar.clone());
        under_way.spawn(async move {
            let details =
                json!({ "type": "deposit", "practice": practice.client_id, "patient": nhs });
            let token = practice.token(&details, Clock::system().now_s()).await?;
            let (target, body) = if n == 0 {
                (None, many_records())
            } else {
                (
                    Some(format!("Observation/bench-{n}-{nhs}")),
                    single_record(n, &nhs),
                )
            };
            let reply = deposit(
                &practice,
                &token,
                target.as_deref(),
                FhirVersion::R4,
                body.into(),
            )
            .await?;
            bar.inc(1);
            if reply.status.is_success() {
                Ok(())
            } else {
                Err(OpenError::Status {
                    status: reply.status,
                    text: reply.text(),
                })
            }
        });
    }
    while let Some(done) = under_way.join_next().await {
        joined(Some(done))?;
    }
    bar.finish_and_clear();
    let per_second = patients.len() as f64 / began.elapsed().as_secs_f64();
    said(
        "deposits/s, each with its own token",
        &json!(per_second.round()),
    );
    Ok(())
}

fn joined(
    done: Option<Result<Result<(), OpenError>, tokio::task::JoinError>>,
) -> Result<(), BenchError> {
    match done {
        Some(Ok(result)) => Ok(result?),
        Some(Err(error)) => Err(BenchError::Ledger(error.to_string())),
        None => Ok(()),
    }
}

fn single_record(n: usize, nhs: &str) -> Vec<u8> {
    let text = String::from_utf8(record(n, ONE_BYTES)).unwrap_or_default();
    text.replacen(&format!("bench-{n}"), &format!("bench-{n}-{nhs}"), 1)
        .into_bytes()
}

fn many_records() -> Vec<u8> {
    let entries: Vec<Value> = (0..MANY)
        .map(|n| {
            let resource: Value =
                serde_json::from_slice(&record(1_000_000 + n, MANY_BYTES)).unwrap_or_default();
            json!({ "resource": resource })
        })
        .collect();
    json!({ "resourceType": "Bundle", "type": "collection", "entry": entries })
        .to_string()
        .into_bytes()
}

fn details(nhs: &str) -> Value {
    json!({
        "type": "patient_record", "patient": nhs, "purpose": "TREAT", "practitioner": { "id": "dr-okafor" },
        "relationship": { "type": "referral", "reference": referral(nhs) },
    })
}

/// One token for each patient.
async fn tokens(
    hospital: &Arc<Party>,
    patients: &[Patient],
    load: Load,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<Vec<(String, String)>, BenchError> {
    let numbers: Vec<String> = patients.iter().map(|patient| patient.nhs.clone()).collect();
    let numbers = Arc::new(numbers);
    let (hospital, asked) = (Arc::clone(hospital), Arc::clone(&numbers));
    let (figures, tokens) = load
        .each(numbers.len(), move |n| {
            let (hospital, nhs) = (
                Arc::clone(&hospital),
                asked.get(n).cloned().unwrap_or_default(),
            );
            async move {
                let token = hospital
                    .token(&details(&nhs), Clock::system().now_s())
                    .await
                    .ok()?;
                Some(((nhs, token), 0))
            }
        })
        .await;
    said("tokens", &figures.to_json());
    Ok(tokens)
}

/// One record of 4 KiB a request, each for another patient with another token.
async fn releases(
    hospital: &Arc<Party>,
    tokens: &[(String, String)],
    load: Load,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<Figures, BenchError> {
    let asks: Vec<(String, String)> = tokens
        .iter()
        .skip(1)
        .map(|(nhs, token)| (format!("/fhir/Observation?patient={nhs}"), token.clone()))
        .collect();
    let figures = load.for_seconds(hospital, asks).await;
    said("releases of one 4 KiB record", &figures.to_json());
    Ok(figures)
}

/// 200 records, 250 KB a request.
async fn thick(
    hospital: &Arc<Party>,
    tokens: &[(String, String)],
    load: Load,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<Figures, BenchError> {
    let first = tokens.iter().take(1);
    let asks: Vec<(String, String)> = first
        .map(|(nhs, token)| {
            (
                format!("/fhir/Patient/{nhs}/$everything?_count=200"),
                token.clone(),
            )
        })
        .collect();
    let figures = load.for_seconds(hospital, asks).await;
    said("answers of 200 records, 250 KB", &figures.to_json());
    Ok(figures)
}

/// The ledger alone: durable entries of the gateway's own, many in flight.
async fn appends(
    dir: &Path,
    size: Size<'_>,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    struct Key(keys::NoteSigner);
    impl SignsNotes for Key {
        fn sign(&self, message: &[u8]) -> [u8; 64] {
            self.0.sign(message)
        }
        fn public(&self) -> [u8; 32] {
            self.0.public()
        }
    }
    std::fs::create_dir_all(dir)?;
    let wrong = |error: &dyn std::fmt::Display| BenchError::Ledger(error.to_string());
    let key = Arc::new(Key(keys::NoteSigner::generate()));
    let place = Place {
        journal: dir.join("journal"),
        log: dir.join("log"),
    };
    let origin = "bench.example/log";
    Ledger::init(&place, origin, key.as_ref(), Clock::system().now_ms())
        .map_err(|error| wrong(&error))?;
    let ledger = Ledger::open(&place, origin, key, Options::default(), &mut |_| ())
        .map_err(|error| wrong(&error))?;
    let began = Instant::now();
    let until = began + Duration::from_secs(size.seconds);
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..256 {
        let ledger = ledger.clone();
        writers.spawn(async move {
            let mut count = 0u64;
            while Instant::now() < until {
                let event = Event::new("bench").with("pad", "0123456789abcdef".repeat(24));
                count += u64::from(ledger.note(event).await.is_ok());
            }
            count
        });
    }
    let mut count = 0;
    while let Some(done) = writers.join_next().await {
        count += done.unwrap_or(0);
    }
    let per_second = count as f64 / began.elapsed().as_secs_f64();
    said(
        "ledger appends/s, durable, 256 in flight",
        &json!(per_second.round()),
    );
    let closing = ledger.clone();
    let _ = tokio::task::spawn_blocking(move || closing.close()).await;
    overhead(&place, &ledger, said)?;
    let began = Instant::now();
    let check = audit::Check {
        leaves: false,
        threads: 1,
        ..audit::Check::default()
    };
    let report = audit::verify(&audit::Folder(place.log.clone()), &ledger.vkey(), &check);
    let per_second = report.size as f64 / began.elapsed().as_secs_f64();
    let figures = json!({ "entries": report.size, "per_second": per_second.round(), "holds": report.holds() });
    said("entries verified/s, raw re-hash, one core", &figures);
    search(&place, &ledger, said)
}

/// What an entry costs on disk beside its own text.
fn overhead(
    place: &Place,
    ledger: &Ledger,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    let wrong = |error: &dyn std::fmt::Display| BenchError::Ledger(error.to_string());
    let entries = ledger.health().size;
    let (mut text, mut framed) = (0u64, 0u64);
    ledger
        .scan(0, &mut |leaf, body| {
            text += leaf.text().len() as u64;
            framed += (leaf.text().len() + body.len()) as u64;
            std::ops::ControlFlow::Continue(())
        })
        .map_err(|error| wrong(&error))?;
    let journal: u64 = ledger
        .frozen()
        .journal
        .iter()
        .map(|(path, end)| end.unwrap_or_else(|| std::fs::metadata(path).map_or(0, |it| it.len())))
        .sum();
    let published = bytes_below(&place.log)?;
    let each = |bytes: u64| bytes / entries.max(1);
    let figures = json!({
        "leaf": each(text),
        "journal_beside": each(journal.saturating_sub(framed)),
        "published_beside": each(published.saturating_sub(text)),
    });
    said("bytes an entry on disk", &figures);
    Ok(())
}

fn bytes_below(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => bytes_below(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(bytes)
}

/// An auditor's search over all of it: no index anywhere, each entry looked at.
fn search(
    place: &Place,
    ledger: &Ledger,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    let mirror = Mirror::at(&place.log, ledger.vkey());
    let query = Query {
        event: Some("log.genesis".to_owned()),
        ..Query::default()
    };
    let began = Instant::now();
    let (found, _) = query
        .run(&mirror, &Keys::default())
        .map_err(BenchError::Ledger)?;
    let seconds = began.elapsed().as_secs_f64();
    let size = ledger.health().size;
    let million = (seconds * 1e9 / size.max(1) as f64).round() / 1e3;
    let figures = json!({
        "entries": size, "found": found.len(), "seconds_for_1000000": million,
    });
    said("audit search, no index", &figures);
    Ok(())
}

/// Why without: what is measured is the gateway, and its clients run on the same machine.
fn without_proofs(party: Party) -> Party {
    Party {
        seen: None,
        ..party
    }
}

fn timed_audit(world: &World, said: &mut dyn FnMut(&str, &Value)) -> bool {
    let began = Instant::now();
    let folder = audit::Folder(world.dir().join("log"));
    let report = audit::verify(&folder, world.vkey(), &audit::Check::default());
    let per_second = report.size as f64 / began.elapsed().as_secs_f64();
    let figures = json!({ "entries": report.size, "per_second": per_second.round() });
    said("entries verified/s, each leaf read too", &figures);
    report.holds()
}
