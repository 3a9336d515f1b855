//! Figures, not tests: `cargo test --release --lib store::figures -- --ignored --nocapture --test-threads 1`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]

use super::conformance::{set, write};
use super::memory::TestMacs;
use super::{BlobRef, BlobStore, Embedded, Limits, Store, Table};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENTS: u32 = 5_000;
const CARDS: u32 = 20;

fn store(root: &std::path::Path) -> Arc<Embedded> {
    let dir = root.join("store");
    Embedded::create(&dir, Arc::new(TestMacs)).unwrap();
    Arc::new(Embedded::open(&dir, Arc::new(TestMacs), Limits::default()).unwrap())
}

fn key(a: u32, b: u32) -> Vec<u8> {
    let spread = |n: u32| n.wrapping_mul(0x9e37_79b1).to_be_bytes();
    [spread(a), a.to_be_bytes(), spread(b), b.to_be_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures"]
async fn commits_a_second() {
    let root = tempfile::tempdir_in(".").unwrap();
    let store = store(root.path());
    for blob_bytes in [0, 8 << 10] {
        for in_flight in [1u32, 64, 256] {
            let (start, mut tasks) = (Instant::now(), Vec::new());
            for lane in 0..in_flight {
                let store = store.clone();
                tasks.push(tokio::spawn(async move {
                    let mut done = 0u32;
                    while start.elapsed() < Duration::from_secs(3) {
                        let mut value = [7; 400];
                        if blob_bytes > 0 {
                            let blob = store
                                .put(vec![Bytes::from(vec![9; blob_bytes])])
                                .await
                                .unwrap();
                            value[..16].copy_from_slice(&blob[0].to_bytes());
                        }
                        let writes = vec![
                            write(Table::Cards, &key(lane, done), &value),
                            write(Table::Names, &key(lane, done), &value[..24]),
                        ];
                        store.commit(set(writes)).await.unwrap();
                        done += 1;
                    }
                    done
                }));
            }
            let mut done = 0;
            for task in tasks {
                done += task.await.unwrap();
            }
            println!(
                "commits of 2 rows and a blob of {blob_bytes} bytes, {in_flight} in flight: {:.0}/s",
                f64::from(done) / start.elapsed().as_secs_f64()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures"]
async fn reads_a_second() {
    let root = tempfile::tempdir_in(".").unwrap();
    let store = store(root.path());
    let start = Instant::now();
    let mut all = Vec::new();
    for patient in 0..PATIENTS {
        let blobs = store
            .put((0..CARDS).map(|_| Bytes::from(vec![5; 8 << 10])).collect())
            .await
            .unwrap();
        let cards = (0..CARDS)
            .map(|n| write(Table::Cards, &key(patient, n), &[3; 500]))
            .collect();
        store.commit(set(cards)).await.unwrap();
        all.push(blobs);
    }
    println!(
        "loaded {} cards and blobs in {:?}",
        PATIENTS * CARDS,
        start.elapsed()
    );
    let all: Arc<Vec<Vec<BlobRef>>> = Arc::new(all);
    for (what, scans, blobs) in [
        ("scans of 20 cards", true, 0),
        ("blob reads of 8 KiB", false, 1),
        ("releases: a scan and 3 blobs", true, 3),
        ("everything: a scan and 20 blobs", true, 20),
    ] {
        let (start, mut tasks) = (Instant::now(), Vec::new());
        for lane in 0..64u32 {
            let (store, all) = (store.clone(), all.clone());
            tasks.push(tokio::spawn(async move {
                let mut done = 0u32;
                while start.elapsed() < Duration::from_secs(3) {
                    let patient = (lane * 7919 + done * 104_729) % PATIENTS;
                    if scans {
                        let rows = store
                            .scan(Table::Cards, key(patient, 0)[..8].to_vec(), None, 1_000)
                            .await
                            .unwrap();
                        assert_eq!(rows.len(), CARDS as usize);
                    }
                    let wanted = all[patient as usize].iter().copied().take(blobs).collect();
                    assert_eq!(
                        BlobStore::get_many(&*store, wanted).await.unwrap().len(),
                        blobs
                    );
                    done += 1;
                    tokio::task::yield_now().await;
                }
                done
            }));
        }
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        println!(
            "{what}: {:.0}/s",
            f64::from(done) / start.elapsed().as_secs_f64()
        );
    }
    let dir = root.path().join("store");
    drop(store);
    let start = Instant::now();
    drop(Embedded::open(&dir, Arc::new(TestMacs), Limits::default()).unwrap());
    println!("opened in {:?}", start.elapsed());
    let start = Instant::now();
    Embedded::rebuild(&dir, Arc::new(TestMacs)).unwrap();
    println!("rebuilt {} rows in {:?}", PATIENTS * CARDS, start.elapsed());
}
