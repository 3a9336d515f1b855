//! Measurements, by hand: `cargo test --release --lib ledger::figures -- --ignored --nocapture --test-threads 1`.
//! Nothing is asserted of time.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use super::tests::{ORIGIN, Signer, permit};
use super::*;
use std::path::Path;
use std::time::Instant;

/// CPU milliseconds so far of the writer, of the housekeeper, and of the whole process: on a busy machine the only
/// honest figure.
fn cpu_ms() -> [f64; 3] {
    let ticks = |path: &Path| {
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let numbers = fields.split_whitespace().skip(11).take(2);
        numbers.map(|n| n.parse::<f64>().unwrap()).sum::<f64>() * 10.0
    };
    let mut sums = [0.0, 0.0, ticks(Path::new("/proc/self/stat"))];
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        match name.trim() {
            "ledger-writer" => sums[0] += ticks(&task.join("stat")),
            "ledger-keeper" => sums[1] += ticks(&task.join("stat")),
            _ => {}
        }
    }
    sums
}

async fn run(ledger: &Ledger, in_flight: u64, count: u64) {
    let mut waits = Vec::new();
    let (start, before) = (Instant::now(), cpu_ms());
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..in_flight {
        let (ledger, share) = (ledger.clone(), count / in_flight);
        tasks.spawn(async move {
            let mut waits = Vec::new();
            for n in 0..share {
                let start = Instant::now();
                permit(&ledger, worker * share + n).await.unwrap();
                waits.push(start.elapsed());
            }
            waits
        });
    }
    tasks
        .join_all()
        .await
        .into_iter()
        .for_each(|some| waits.extend(some));
    let seconds = start.elapsed().as_secs_f64();
    waits.sort_unstable();
    let at = |share: usize| waits[waits.len() * share / 1000].as_micros();
    let rate = waits.len() as f64 / seconds;
    let (after, share) = (cpu_ms(), 1000.0 / waits.len() as f64);
    let [writer, keeper, all] = [0, 1, 2].map(|i| (after[i] - before[i]) * share);
    println!("CPU an entry: writer {writer:.1} us, housekeeper {keeper:.1} us, all {all:.1} us");
    println!(
        "{in_flight:4} in flight: {rate:8.0} durable/s, p50 {} us, p99 {} us",
        at(500),
        at(990)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn durable_appends_and_offline_verification() {
    let home = std::env::var_os("FIGURES_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let root = tempfile::tempdir_in(home).unwrap();
    let place = Place {
        journal: root.path().join("journal"),
        log: root.path().join("log"),
    };
    let signer = Arc::new(Signer(keys::NoteSigner::generate()));
    Ledger::init(&place, ORIGIN, &*signer, 1).unwrap();
    let opened = Ledger::open(
        &place,
        ORIGIN,
        signer.clone(),
        Options::default(),
        &mut |_| {},
    );
    let ledger = opened.unwrap();
    for _ in 0..2 {
        for (in_flight, count) in [
            (1, 1000),
            (8, 5000),
            (64, 20_000),
            (256, 60_000),
            (1024, 60_000),
        ] {
            run(&ledger, in_flight, count).await;
        }
    }
    let mut receipts = String::new();
    for n in 0..500 {
        let receipt = permit(&ledger, n).await.unwrap().to_json(Open::All);
        receipts.push_str(&(receipt.to_string() + "\n"));
    }
    std::fs::write(root.path().join("receipts.ndjson"), receipts).unwrap();
    let start = Instant::now();
    ledger.close();
    println!("closed after {:?}", start.elapsed());
    let key = Vkey::new(ORIGIN, signer.public()).unwrap();
    verification(&place.log, &key);
    let start = Instant::now();
    let opened = Ledger::open(&place, ORIGIN, signer, Options::default(), &mut |_| {});
    println!("reopened after {:?}", start.elapsed());
    opened.unwrap().close();
    if let Some(keep) = std::env::var_os("FIGURES_KEEP") {
        std::fs::write(root.path().join("log.vkey"), key.to_string()).unwrap();
        std::fs::rename(root.keep(), keep).unwrap();
    }
}

/// Of a log kept by `FIGURES_KEEP`, so often that a profile is worth reading.
#[test]
#[ignore = "a measurement"]
fn offline_verification() {
    let Some(kept) = std::env::var_os("FIGURES_LOG").map(PathBuf::from) else {
        eprintln!("SKIPPED: FIGURES_LOG names no kept log");
        return;
    };
    let key = std::fs::read_to_string(kept.join("log.vkey")).unwrap();
    (0..3).for_each(|_| verification(&kept.join("log"), &key.parse().unwrap()));
}

fn verification(log: &Path, key: &Vkey) {
    let source = audit::Folder(log.to_owned());
    for (leaves, threads) in [(false, 1), (false, 2), (true, 1), (true, 2)] {
        let (start, before) = (Instant::now(), cpu_ms());
        let check = audit::Check {
            leaves,
            threads,
            ..audit::Check::default()
        };
        let report = audit::verify(&source, key, &check);
        assert!(report.holds() && report.entries == report.size);
        let rate = report.size as f64 / start.elapsed().as_secs_f64();
        let core = report.size as f64 / (cpu_ms()[2] - before[2]) * 1000.0;
        println!(
            "verify: leaves parsed {leaves}, {threads} thread(s): {rate:.0}/s, {core:.0}/s a core"
        );
    }
    let bundles: Vec<_> = (0..1000)
        .map_while(|index| {
            let tile = tile::Tile::full(tile::Kind::Entries, index);
            audit::Source::fetch(&source, &tile.to_string()).unwrap()
        })
        .collect();
    let (before, mut tree) = (cpu_ms(), tree::Tree::default());
    for bundle in &bundles {
        for entry in tile::Entries(bundle) {
            tree.push(tree::leaf_hash(entry.unwrap())).unwrap();
        }
        tree.trim(tree::Keep::Tiles);
    }
    let core = tree.size() as f64 / (cpu_ms()[2] - before[2]) * 1000.0;
    println!("hashing leaves and tree in memory: {core:.0}/s a core");
}
