//! Power cuts: ext4 on a device that forgets what was not flushed, cut at random moments, and every disk that may be
//! found then opened and held against what had been acknowledged. Started by `tests/power/run`, which says how;
//! under `cargo test` it says that it was skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests may panic, and say what they measured"
)]

#[path = "common/acknowledged.rs"]
mod acknowledged;
mod common;
#[path = "common/images.rs"]
mod images;
#[path = "power/records.rs"]
mod records;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acknowledged::{Running, Shared};
use common::*;
use images::{FOUND, Mounted, Powered};

/// Room for the journal's segments above the gibibyte that the gateway leaves free.
const IMAGE_BYTES: u64 = 4 << 30;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let cuts = |text: &str| text.parse().expect("a number of cuts");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", dir] => records::write(Path::new(dir)),
        ["device"] => the_device_forgets(),
        ["store", count] => store(cuts(count)),
        ["gateway", count] => gateway(cuts(count)),
        _ => println!("SKIPPED: power cuts have a command of their own, tests/power/run"),
    }
    ExitCode::SUCCESS
}

/// Whatever else it says, a machine that cannot do it must not look as if nothing had been lost.
fn ready() {
    if let Some(missing) = images::missing() {
        println!("SKIPPED: {missing}");
        std::process::exit(77);
    }
}

/// Numbers from a seed that is said, so that a run can be repeated.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let given = std::env::var("SALLYPORT_SEED").ok();
        let seed = given.and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from_le_bytes(keys::random_array()) | 1);
        println!("SALLYPORT_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The measure itself: what was synced is on every disk that is found, what was only written is not on the strict one.
fn the_device_forgets() {
    ready();
    let folder = images::folder();
    let (image, found) = (folder.path().join("image"), folder.path().join("found"));
    images::format(&image, 64 << 20);
    let mut powered = Powered::on(&image, folder.path());
    let live = folder.path().join("live");
    let mut synced = std::fs::File::create(live.join("synced")).unwrap();
    synced.write_all(b"kept").unwrap();
    synced.sync_all().unwrap();
    std::fs::File::open(&live).unwrap().sync_all().unwrap();
    std::fs::write(live.join("written"), b"lost").unwrap();
    powered.cut(&found, 1);
    drop(synced);
    powered.off(|| ());
    for name in FOUND {
        let at = folder.path().join("found.mounted");
        let _mounted = Mounted::new(&found.join(name), &at);
        assert_eq!(std::fs::read(at.join("synced")).unwrap(), b"kept", "{name}");
        assert!(
            !at.join("written").exists(),
            "{name}: it never left the page cache"
        );
    }
    println!("the device keeps what was synced and forgets what was not");
}

/// The store alone, as the gateway uses it: segments of its own, and sled for the index.
fn store(cuts: u64) {
    ready();
    let (folder, mut chance) = (images::folder(), Chance::new());
    let (image, found) = (folder.path().join("image"), folder.path().join("found"));
    images::format(&image, IMAGE_BYTES);
    let (mut acknowledged, mut bad, mut rebuilt, mut opened) = (0, 0, 0, 0);
    for cut in 1..=cuts {
        let mut powered = Powered::on(&image, folder.path());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("write")
            .arg(folder.path().join("live/store"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(child.stdout.take().unwrap());
        let heard = Arc::new(AtomicU64::new(acknowledged));
        let hears = {
            let heard = Arc::clone(&heard);
            std::thread::spawn(move || {
                for line in says.lines().map_while(Result::ok) {
                    heard.store(line.parse().unwrap_or(0), Ordering::SeqCst);
                }
            })
        };
        std::thread::sleep(Duration::from_millis(30 + chance.next() % 2500));
        powered.cut(&found, chance.next());
        child.kill().unwrap();
        powered.off(|| {
            child.wait().unwrap();
        });
        hears.join().unwrap();
        let heard = heard.load(Ordering::SeqCst);
        let mut settled = heard;
        for name in FOUND {
            let at = folder.path().join("found.mounted");
            let _mounted = Mounted::new(&found.join(name), &at);
            opened += 1;
            match records::check(&at.join("store"), heard) {
                Ok(store) => {
                    rebuilt += u64::from(store.is_rebuilt);
                    settled = store.last;
                }
                Err(error) => {
                    bad += 1;
                    println!("cut {cut}, {name}: {error}");
                }
            }
        }
        // The strict one goes on, as it was left.
        std::fs::rename(found.join("strict"), &image).unwrap();
        acknowledged = settled;
        assert!(bad == 0, "cut {cut}");
    }
    println!(
        "store: {cuts} cuts, {opened} disks opened, {acknowledged} commits acknowledged, {bad} disks with a loss, \
         {rebuilt} openings rebuilt the index"
    );
    assert!(acknowledged > cuts * 10, "there was something to lose");
}

/// The whole program over mutual TLS: journal, keyring, store and facts.
fn gateway(cuts: u64) {
    ready();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(whole(cuts));
}

async fn whole(cuts: u64) {
    let (folder, mut chance) = (images::folder(), Chance::new());
    let (image, found) = (folder.path().join("image"), folder.path().join("found"));
    let (live, again) = (
        folder.path().join("live"),
        folder.path().join("found.mounted"),
    );
    images::format(&image, IMAGE_BYTES);
    {
        let stage = Stage::new().await;
        let (dir, _) = stage.stop().await;
        let _mounted = Mounted::new(&image, &live);
        copy(dir.path(), &live.join("world"));
    }
    let log = folder.path().join("stderr.log");
    let serve = async |dir: &Path| {
        let config = dir.join("sallyport.toml");
        Running::start(dir, &log, &["serve", "--config", config.to_str().unwrap()]).await
    };
    let all = Shared::default();
    let mut opened = 0;
    for cut in 1..=cuts {
        let mut powered = Powered::on(&image, folder.path());
        let world = live.join("world");
        let mut running = serve(&world).await;
        let kept = acknowledged::object_to_keep(&world, &all, cut).await;
        let stop = Arc::new(AtomicBool::new(false));
        let wait = Duration::from_millis(200 + chance.next() % 6000);
        let seed = chance.next();
        let cutter = async {
            tokio::time::sleep(wait).await;
            powered.cut(&found, seed);
            running.kill();
            stop.store(true, Ordering::Relaxed);
            powered.off(|| running.wait());
        };
        let (load, stopped) = (
            acknowledged::load(&world, &all, cut, Arc::clone(&stop)),
            cutter,
        );
        tokio::join!(load, stopped);
        for name in FOUND {
            let _mounted = Mounted::new(&found.join(name), &again);
            let world = again.join("world");
            let running = serve(&world).await;
            opened += 1;
            // Each disk is a history of its own; only the strict one goes on.
            let copied = all.lock().unwrap().clone();
            let of_this = if name == "strict" {
                Arc::clone(&all)
            } else {
                Arc::new(Mutex::new(copied))
            };
            acknowledged::stands(&world, &of_this, kept).await;
            acknowledged::rewrapped(&world, &of_this).await;
            if kept {
                acknowledged::take_back_kept(&world, &of_this).await;
            }
            let vkey = party_at(&world, "auditor").vkey;
            running.stop();
            acknowledged::all_recorded(&world, &of_this, &vkey);
        }
        std::fs::rename(found.join("strict"), &image).unwrap();
    }
    let rebuilt = std::fs::read_to_string(&log).unwrap();
    let rebuilt = rebuilt.matches("it is built from the log").count();
    println!(
        "gateway: {cuts} cuts, {opened} disks opened, {}, nothing lost, {rebuilt} openings rebuilt the index",
        acknowledged::was_worth_it(&all, cuts)
    );
}
