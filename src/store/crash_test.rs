//! Power cuts and kills. The store runs on a disk that stops at every sync and in every write in turn, and is
//! then found with all, nothing or some of what was not synced; so is its index. What was acknowledged must be
//! there, what was not is there whole or not at all, and the store goes on, also after a second cut.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]

use super::conformance::{delete, set, write};
use super::memory::{MemoryIndex, TestMacs};
use super::{
    BlobRef, BlobStore, Embedded, Limits, OpenError, Seq, Store, StoreError, Table, WriteSet,
};
use crate::disk::{Crash, Disk, TestDisk};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/store";
const COMMITS: u64 = 24;

fn limits() -> Limits {
    // Small segments, so that there are many borders; the checkpoint comes at close, where the test can count on it.
    Limits {
        segment_bytes: 900,
        free_floor_bytes: 0,
        cache_bytes: 1 << 20,
        checkpoint_ms: 3_600_000,
    }
}

fn create(disk: &TestDisk) -> bool {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Embedded::create_on(&disk, Path::new(DIR), Arc::new(TestMacs), [1; 16]).is_ok()
}

fn open(disk: &TestDisk, index: &MemoryIndex) -> Result<Embedded, OpenError> {
    Embedded::open_on(
        Arc::new(disk.clone()),
        index,
        Path::new(DIR),
        Arc::new(TestMacs),
        limits(),
    )
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// What the n-th commit writes: a row of its own that names a blob, one row that all rewrite, one that comes and goes.
fn nth(n: u64, blob: BlobRef) -> WriteSet {
    let turn = if n.is_multiple_of(3) {
        delete(Table::Facts, b"turn")
    } else {
        write(Table::Facts, b"turn", &n.to_be_bytes())
    };
    let mut all = set(vec![
        write(Table::Names, &n.to_be_bytes(), &blob.to_bytes()),
        write(Table::Meta, b"last", &n.to_be_bytes()),
        turn,
    ]);
    all.token = Some([u8::try_from(n).unwrap(); 16]);
    all
}

fn blob(n: u64) -> Bytes {
    Bytes::from(vec![
        u8::try_from(n).unwrap();
        40 + usize::try_from(n).unwrap() * 7
    ])
}

/// What was acknowledged, and the commit whose outcome is unknown.
#[derive(Default)]
struct Told {
    seqs: BTreeMap<u64, Seq>,
    unknown: Option<u64>,
}

impl Told {
    /// Commits until the power goes. Closes and opens again in the middle, as programs do.
    fn work(
        &mut self,
        disk: &TestDisk,
        index: &MemoryIndex,
        numbers: std::ops::RangeInclusive<u64>,
    ) {
        let middle = (numbers.start() + numbers.end()) / 2;
        let Ok(mut store) = open(disk, index) else {
            return;
        };
        for n in numbers {
            if n == middle {
                store.close();
                drop(store);
                let Ok(again) = open(disk, index) else { return };
                store = again;
            }
            let outcome = block_on(async {
                let refs = store.put(vec![blob(n)]).await?;
                store.commit(nth(n, refs[0])).await
            });
            match outcome {
                Ok(seq) => self.seqs.insert(n, seq),
                Err(StoreError::OutcomeUnknown) => return self.unknown = Some(n),
                Err(StoreError::Fatal | StoreError::Retryable) => return,
                Err(other) => panic!("{other:?}"),
            };
        }
    }

    /// Everything acknowledged is there; the unknown commit is there whole or not at all.
    fn check(&self, store: &Embedded, what: &str) {
        block_on(async {
            let rows = store
                .scan(Table::Names, vec![], None, usize::MAX)
                .await
                .unwrap();
            let mut expected: Vec<u64> = self.seqs.keys().copied().collect();
            let surplus = rows.len() - expected.len();
            expected.extend(self.unknown.filter(|_| surplus == 1));
            assert_eq!(rows.len(), expected.len(), "{what}");
            for (row, n) in rows.iter().zip(&expected) {
                assert_eq!(row.key, n.to_be_bytes(), "{what}");
                if let Some(seq) = self.seqs.get(n) {
                    assert_eq!(row.version, seq.0, "{what}");
                    assert_eq!(
                        store
                            .commit(WriteSet {
                                writes: vec![],
                                token: Some([row.key[7]; 16])
                            })
                            .await,
                        Ok(*seq),
                        "{what}"
                    );
                }
                let kept = BlobRef::from_bytes(row.value[..].try_into().unwrap());
                assert_eq!(
                    BlobStore::get_many(store, vec![kept]).await.unwrap(),
                    [blob(*n)],
                    "{what}"
                );
            }
            let last = expected.last().copied();
            let found = async |table, key: &[u8]| {
                let row = Store::get_many(store, table, vec![key.into()])
                    .await
                    .unwrap()
                    .pop()
                    .unwrap();
                row.map(|row| u64::from_be_bytes(row.value.try_into().unwrap()))
            };
            assert_eq!(found(Table::Meta, b"last").await, last, "{what}");
            assert_eq!(
                found(Table::Facts, b"turn").await,
                last.filter(|n| !n.is_multiple_of(3)),
                "{what}"
            );
        });
    }
}

/// Every way in which disk and index may be found after the power went, or the process alone.
fn found_after(
    disk: &TestDisk,
    index: &MemoryIndex,
    round: u64,
) -> Vec<(String, TestDisk, MemoryIndex)> {
    let seed = u8::try_from(round % 251).unwrap();
    let disks = [
        Crash::Lost,
        Crash::Kept,
        Crash::Mixed(round),
        Crash::Mixed(round + 1_000),
    ];
    let indexes = [
        ("lost", index.lost()),
        ("kept", index.kept()),
        ("mixed", index.mixed(seed)),
        ("gone", MemoryIndex::default()),
    ];
    let mut found = Vec::new();
    for crash in disks {
        for (name, index) in &indexes {
            found.push((
                format!("round {round}, disk {crash:?}, index {name}"),
                disk.crash(crash),
                index.kept(),
            ));
        }
    }
    found.push((format!("round {round}, killed"), disk.kill(), index.kept()));
    found.push((
        format!("round {round}, killed, index gone"),
        disk.kill(),
        MemoryIndex::default(),
    ));
    found
}

/// Runs with the fault armed by `arm(n)` for n = 1, 2, 3 … until it no longer strikes; gives the rounds.
fn at_every(arm: impl Fn(&TestDisk, u64)) -> u64 {
    for round in 1.. {
        let (disk, index, mut told) = (TestDisk::new(), MemoryIndex::default(), Told::default());
        arm(&disk, round);
        if create(&disk) {
            told.work(&disk, &index, 1..=COMMITS);
        }
        if !disk.is_stopped() {
            assert_eq!(told.seqs.len() as u64, COMMITS);
            return round;
        }
        for (what, disk, index) in found_after(&disk, &index, round) {
            survives(&told, &disk, &index, &what);
        }
    }
    0
}

fn survives(told: &Told, disk: &TestDisk, index: &MemoryIndex, what: &str) {
    let store = match open(disk, index) {
        Ok(store) => store,
        // Nothing was ever acknowledged: creation was interrupted, and is taken up again.
        Err(OpenError::Missing) if told.seqs.is_empty() => {
            assert!(create(disk), "{what}");
            open(disk, index).unwrap()
        }
        Err(error) => panic!("{what}: {error}"),
    };
    told.check(&store, what);
    drop(store);
    // The store goes on, and a second cut just behind does not undo the recovery.
    let settled = disk.crash(Crash::Lost);
    let store =
        open(&settled, &index.lost()).unwrap_or_else(|error| panic!("{what}, second cut: {error}"));
    told.check(&store, what);
    let (kept, seq) = block_on(async {
        let kept = store.put(vec![blob(99)]).await.unwrap()[0];
        (
            kept,
            store
                .commit(set(vec![write(Table::Cards, b"new", b"")]))
                .await
                .unwrap(),
        )
    });
    drop(store);
    let store = open(&settled.crash(Crash::Lost), &MemoryIndex::default()).unwrap();
    assert!(store.recovery().is_rebuilt);
    told.check(&store, what);
    let row = block_on(Store::get_many(&store, Table::Cards, vec![b"new".into()]))
        .unwrap()
        .pop()
        .unwrap()
        .unwrap();
    assert_eq!(Seq(row.version), seq, "{what}");
    assert_eq!(
        block_on(BlobStore::get_many(&store, vec![kept])).unwrap(),
        [blob(99)],
        "{what}"
    );
}

#[test]
fn what_was_acknowledged_survives_a_cut_at_every_sync() {
    assert!(at_every(|disk, n| disk.stop_at_sync(n)) > COMMITS);
}

#[test]
fn what_was_acknowledged_survives_a_cut_in_every_write() {
    assert!(at_every(|disk, n| disk.stop_at_write(n)) > 2 * COMMITS);
}

#[test]
fn a_cut_during_recovery_is_recovered_from() {
    let (disk, index, mut told) = (TestDisk::new(), MemoryIndex::default(), Told::default());
    assert!(create(&disk));
    disk.stop_at_sync(32);
    told.work(&disk, &index, 1..=COMMITS);
    assert!(disk.is_stopped() && told.seqs.len() > 5);
    for (what, found, index) in found_after(&disk, &index, 7) {
        for sync in 1.. {
            let (again, index) = (found.crash(Crash::Kept), index.kept());
            again.stop_at_sync(sync);
            drop(open(&again, &index));
            if !again.is_stopped() {
                break;
            }
            for (when, disk, index) in found_after(&again, &index, sync) {
                survives(&told, &disk, &index, &format!("{what}; then {when}"));
            }
        }
    }
}

#[test]
fn a_killed_process_leaves_what_it_wrote() {
    let (disk, index, mut told) = (TestDisk::new(), MemoryIndex::default(), Told::default());
    assert!(create(&disk));
    told.work(&disk, &index, 1..=COMMITS);
    let store = open(&disk, &index).unwrap();
    block_on(store.put(vec![blob(1)])).unwrap();
    // No close: the files as the next process finds them in the page cache, and the power goes right after opening.
    let killed = disk.kill();
    let store = open(&killed, &index.kept()).unwrap();
    told.check(&store, "killed");
    let cut = open(&killed.crash(Crash::Lost), &MemoryIndex::default()).unwrap();
    told.check(&cut, "killed, then cut");
}

#[test]
fn after_a_failed_sync_the_page_cache_is_not_believed() {
    for round in 1.. {
        let (disk, index, mut told) = (TestDisk::new(), MemoryIndex::default(), Told::default());
        assert!(create(&disk));
        let before = disk.syncs();
        disk.fail_sync(round);
        told.work(&disk, &index, 1..=12);
        if disk.syncs() < before + round {
            assert!(round > 12);
            return;
        }
        // The machine stays up: the next process reads what never reached the disk, and goes on from there.
        let next = told.seqs.len() as u64 + 1 + u64::from(told.unknown.is_some());
        let store = open(&disk, &index).unwrap();
        told.check(&store, "reopened");
        let is_there = block_on(Store::get_many(
            &store,
            Table::Names,
            vec![(next - 1).to_be_bytes().to_vec()],
        ))
        .unwrap();
        drop(store);
        if let (Some(n), [Some(row)]) = (told.unknown.take(), &is_there[..]) {
            told.seqs.insert(n, Seq(row.version));
        }
        told.work(&disk, &index, next..=COMMITS);
        for index in [index.kept(), index.lost(), MemoryIndex::default()] {
            survives(
                &told,
                &disk.crash(Crash::Lost),
                &index,
                &format!("sync {round} failed"),
            );
        }
    }
}

#[test]
fn a_failed_sync_stops_the_store_and_is_never_tried_again() {
    let (disk, index) = (TestDisk::new(), MemoryIndex::default());
    assert!(create(&disk));
    let store = open(&disk, &index).unwrap();
    let kept = block_on(store.put(vec![blob(1)])).unwrap();
    block_on(store.commit(nth(1, kept[0]))).unwrap();
    disk.fail_sync(1);
    assert_eq!(
        block_on(store.commit(nth(2, kept[0]))),
        Err(StoreError::OutcomeUnknown)
    );
    assert!(store.is_stopped());
    let syncs = disk.syncs();
    assert_eq!(
        block_on(store.commit(nth(3, kept[0]))),
        Err(StoreError::Fatal)
    );
    assert_eq!(block_on(store.put(vec![blob(3)])), Err(StoreError::Fatal));
    assert_eq!(
        block_on(BlobStore::get_many(&store, kept)).unwrap(),
        [blob(1)],
        "reads go on"
    );
    assert_eq!(
        block_on(store.scan(Table::Names, vec![], None, 9))
            .unwrap()
            .len(),
        1
    );
    store.close();
    assert_eq!(disk.syncs(), syncs);
}

#[test]
fn an_index_that_fails_stops_the_store_and_loses_nothing() {
    let (disk, index) = (TestDisk::new(), MemoryIndex::default());
    assert!(create(&disk));
    let store = open(&disk, &index).unwrap();
    let seq = block_on(store.commit(set(vec![write(Table::Meta, b"a", b"1")]))).unwrap();
    index.fail();
    assert_eq!(
        block_on(store.commit(set(vec![write(Table::Meta, b"a", b"2")]))),
        Err(StoreError::OutcomeUnknown)
    );
    assert_eq!(
        block_on(store.commit(WriteSet::default())),
        Err(StoreError::Fatal)
    );
    assert_eq!(
        block_on(store.scan(Table::Meta, vec![], None, 9)),
        Err(StoreError::Corrupt)
    );
    drop(store);
    let store = open(&disk, &index.kept()).unwrap();
    assert_eq!(store.recovery().commits_replayed, 2);
    let rows = block_on(store.scan(Table::Meta, vec![], None, 9)).unwrap();
    assert_eq!(
        (rows[0].value.as_slice(), rows[0].version),
        (&b"2"[..], seq.0 + 1),
        "it was in the log"
    );
}

#[test]
fn an_index_whose_building_was_interrupted_is_not_believed() {
    let (disk, index, mut told) = (TestDisk::new(), MemoryIndex::default(), Told::default());
    assert!(create(&disk));
    told.work(&disk, &index, 1..=COMMITS);
    let half = MemoryIndex::default();
    half.fail_sync();
    assert!(matches!(open(&disk, &half), Err(OpenError::Index)));
    for seed in 0..32 {
        // Its mark may have come through, and rows before it not.
        let store = open(&disk.crash(Crash::Kept), &half.mixed(seed)).unwrap();
        told.check(&store, &format!("seed {seed}"));
        assert!(store.recovery().is_rebuilt);
    }
}

#[test]
fn an_index_that_could_not_be_synced_is_built_anew() {
    let (disk, index, mut told) = (TestDisk::new(), MemoryIndex::default(), Told::default());
    assert!(create(&disk));
    told.work(&disk, &index, 1..=COMMITS / 2);
    index.fail_sync();
    told.work(&disk, &index, COMMITS / 2 + 1..=COMMITS);
    // The index still looks whole, but nobody knows what of it reached the disk.
    let store = open(&disk, &index.kept()).unwrap();
    assert!(store.recovery().is_rebuilt);
    told.check(&store, "after a failed sync of the index");
}
