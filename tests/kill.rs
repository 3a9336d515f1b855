//! The real program, killed with SIGKILL in the middle of deposits, withdrawals, objections, reads and rotations,
//! round after round: whatever it had acknowledged is there when it comes back. `SALLYPORT_KILLS` sets the rounds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may panic, and say which seed they took"
)]

#[path = "common/acknowledged.rs"]
mod acknowledged;
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use acknowledged::{Running, Shared};
use common::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_sigkill() {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let rounds: u64 = number("SALLYPORT_KILLS").unwrap_or(5);
    let mut seed: u64 =
        number("SALLYPORT_SEED").unwrap_or_else(|| u64::from_le_bytes(keys::random_array()) | 1);
    eprintln!("SALLYPORT_SEED={seed}");
    let folder = folder();
    let dir = folder.path();
    let log = dir.join("stderr.log");
    let all = Shared::default();
    let start = async |listen: String| {
        let data = dir.to_str().unwrap();
        let arguments = ["dev", "--data", data, "--listen", &listen];
        Running::start(dir, &log, &arguments).await
    };
    let mut running = start(any().to_string()).await;
    let address = address_of(&party_at(dir, "auditor").issuer).to_string();
    for round in 0..rounds {
        let kept = acknowledged::object_to_keep(dir, &all, round).await;
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
        tokio::join!(
            acknowledged::load(dir, &all, round, Arc::clone(&stop)),
            killer
        );
        running.wait();
        running = start(address.clone()).await;
        acknowledged::stands(dir, &all, kept).await;
        if kept {
            acknowledged::take_back_kept(dir, &all).await;
        }
    }
    let vkey = party_at(dir, "auditor").vkey;
    acknowledged::rewrapped(dir, &all).await;
    running.stop();
    let said = acknowledged::was_worth_it(&all, rounds);
    eprintln!("{rounds} kills, {said}");
    acknowledged::all_recorded(dir, &all, &vkey);
}

/// Killed between the new key and the first rewrap: every record key still stands under the version before.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_stopped_before_its_first_rewrap_is_taken_up() {
    let stage = Stage::new().await;
    let stage = stage.after(|dir| {
        let config = sallyport::config::Config::load(&dir.join("sallyport.toml")).unwrap();
        let passphrase = std::fs::read(dir.join("passphrase")).unwrap();
        let root = keys::RootKey::open(&config.root.file, &passphrase).unwrap();
        let mut ring = keys::Keyring::open(&config.keyring(), &root).unwrap();
        let kek = keys::Family::Kek(PRACTICE_A.to_owned());
        assert_eq!(ring.add(kek, 1).unwrap(), 2);
    });
    let stage = stage.await.unwrap();
    let all = Shared::default();
    all.lock().unwrap().kek = 2;
    acknowledged::rewrapped(stage.path(), &all).await;
}
