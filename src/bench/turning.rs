//! Keys turned while hospitals read: a practice with as many patients' keys as asked for, releases going on, and the
//! practice's KEK rotated in the midst of them; then every other key of the gateway, one after another. Each turn is
//! timed to the moment at which none is left, and no read may fail.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::load::{Figures, Load};
use super::{BenchError, Size, file_all, tokens};
use crate::connect::{OpenError, Party, Reply};
use crate::dev::{Patient, World};

/// Whose KEK is turned.
const PRACTICE: &str = "A81001";
/// Patients who are read of while keys turn.
const READ_OF: usize = 200;
/// Every other key that turns at once.
const AT_ONCE: [&str; 5] = [
    "audit",
    "token-signing",
    "ticket-signing",
    "deposit-signing",
    "ledger-bodies",
];

/// Measures it in a world of its own.
pub(super) async fn measure(
    dir: &Path,
    any: SocketAddr,
    patients: &[Patient],
    size: Size<'_>,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    let read_of: Vec<Patient> = patients.iter().take(READ_OF).cloned().collect();
    let world = World::open(dir, any, &read_of).await?;
    let practice = Arc::new(world.party("practice-a")?);
    file_all(&practice, &read_of, &mut |_, _| ()).await?;
    world.stop().await?;
    World::fill(dir, PRACTICE, size.keys).await?;
    let world = World::open(dir, any, &[]).await?;
    let result = turn_all(&world, &read_of, size, said).await;
    world.stop().await?;
    result
}

async fn turn_all(
    world: &World,
    read_of: &[Patient],
    size: Size<'_>,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    let hospital = Arc::new(world.party("hospital-a")?);
    let admin = world.party("admin-1")?;
    let load = Load {
        clients: size.clients,
        seconds: Duration::from_secs(size.seconds),
    };
    let tokens = tokens(&hospital, read_of, load, &mut |_, _| ()).await?;
    // Why without the first: it has 200 records, and an answer of it is another figure.
    let asks: Vec<(String, String)> = tokens
        .into_iter()
        .skip(1)
        .map(|(nhs, token)| (format!("/fhir/Observation?patient={nhs}"), token))
        .collect();
    let alone = turned(&admin, PRACTICE).await?;
    said("record keys rewrapped, nobody reading", &alone);
    let before = load.for_seconds(&hospital, asks.clone()).await;
    said("reads, no key turning", &before.to_json());
    let memory = resident_kib();
    let (during, turned) = beside(load, &hospital, asks.clone(), turned(&admin, PRACTICE)).await;
    said("record keys rewrapped, hospitals reading", &turned?);
    said("reads while it turned", &compared(&during, &before, memory));
    let (during, all) = beside(load, &hospital, asks, everything(&admin)).await;
    said("every other key, one after another", &all?);
    said(
        "reads while they turned",
        &compared(&during, &before, memory),
    );
    Ok(())
}

/// Reads for as long as the work lasts.
async fn beside<T>(
    load: Load,
    hospital: &Arc<Party>,
    asks: Vec<(String, String)>,
    work: impl Future<Output = T>,
) -> (Figures, T) {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let work = async {
        let done = work.await;
        stop.send_replace(true);
        done
    };
    tokio::join!(load.until(hospital, asks, stopped), work)
}

fn compared(during: &Figures, before: &Figures, memory_before: u64) -> Value {
    let mut value = during.to_json();
    if let Value::Object(members) = &mut value {
        let ratio = (during.quantile_ms(0.99) / before.quantile_ms(0.99) * 100.0).round() / 100.0;
        members.insert("p99_ratio".to_owned(), json!(ratio));
        let grown = resident_kib().saturating_sub(memory_before) / 1024;
        members.insert("memory_grown_mib".to_owned(), json!(grown));
    }
    value
}

/// This process's memory; the load generator's is in it.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

async fn post(admin: &Party, path: &str) -> Result<Reply, BenchError> {
    let reply = admin.http.send(Method::POST, path, &[], Vec::new()).await?;
    if reply.status.is_success() {
        return Ok(reply);
    }
    let (status, text) = (reply.status, reply.text());
    Err(OpenError::Status { status, text }.into())
}

/// Rotates a key and waits until none is left under the version before.
async fn turned(admin: &Party, key: &str) -> Result<Value, BenchError> {
    let began = Instant::now();
    post(admin, &format!("/admin/keys/{key}/rotate")).await?;
    loop {
        let path = format!("/admin/keys/{key}");
        let reply = admin.http.send(Method::GET, &path, &[], "").await?;
        if reply.status != StatusCode::OK {
            let (status, text) = (reply.status, reply.text());
            return Err(OpenError::Status { status, text }.into());
        }
        let shown = reply.json();
        let versions = shown.get("versions").and_then(Value::as_array).cloned();
        let versions = versions.unwrap_or_default();
        // Why only a KEK: what stands under an older key of the gateway's own is never rewrapped, it goes on opening.
        let is_turned = shown.get("kind").is_none_or(|kind| kind != "kek")
            || versions
                .iter()
                .all(|row| row.get("state").is_some_and(|state| state != "retiring"));
        if is_turned {
            let seconds = began.elapsed().as_secs_f64();
            let keys = shown
                .pointer("/rotation/of")
                .and_then(Value::as_u64)
                .unwrap_or(0);
            return Ok(json!({
                "key": key, "keys": keys, "seconds": (seconds * 100.0).round() / 100.0,
                "per_second": (keys as f64 / seconds).round(), "left": shown.pointer("/rotation/left"),
            }));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn everything(admin: &Party) -> Result<Value, BenchError> {
    let began = Instant::now();
    for key in AT_ONCE {
        turned(admin, key).await?;
    }
    // Why not activated: whoever checks receipts is told of the log's next key in between, by people.
    post(admin, "/admin/keys/ledger-signing/announce").await?;
    let seconds = (began.elapsed().as_secs_f64() * 100.0).round() / 100.0;
    Ok(json!({ "keys": AT_ONCE.len() + 1, "seconds": seconds }))
}
