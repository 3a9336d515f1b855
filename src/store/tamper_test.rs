//! The embedded engine on a disk that is full, rots, or is in the hands of an intruder: whatever happens to the
//! log is noticed, nothing wrong is read, and nothing that is missing is taken for never having been there.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]

use super::conformance::{set, value, write};
use super::embedded_test::{SMALL, block_on, check, fill, macs};
use super::memory::{MemoryIndex, TestMacs};
use super::segments::HEADER_BYTES;
use super::{
    BlobRef, BlobStore, Embedded, Limits, Macs, OpenError, Seq, Store, StoreError, Table, WriteSet,
};
use crate::disk::{Disk, TestDisk};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A store on the test disk with `count` commits, closed.
fn on_test_disk(count: u32) -> (TestDisk, MemoryIndex) {
    let (disk, index) = (TestDisk::new(), MemoryIndex::default());
    let seam: Arc<dyn Disk> = Arc::new(disk.clone());
    Embedded::create_on(&seam, Path::new("/s"), macs(), [7; 16]).unwrap();
    block_on(fill(&open(&disk, &index).unwrap(), 0..count));
    (disk, index)
}

fn open(disk: &TestDisk, index: &MemoryIndex) -> Result<Embedded, OpenError> {
    Embedded::open_on(
        Arc::new(disk.clone()),
        index,
        Path::new("/s"),
        macs(),
        SMALL,
    )
}

fn segment(n: u32) -> PathBuf {
    PathBuf::from(format!("/s/segments/{n:08}.seg"))
}

fn segments(disk: &TestDisk) -> u32 {
    u32::try_from(disk.list(Path::new("/s/segments")).unwrap().len()).unwrap()
}

#[test]
fn below_the_floor_nothing_is_written_and_everything_is_read() {
    let (disk, index) = on_test_disk(0);
    let limits = Limits {
        free_floor_bytes: 10_000,
        ..SMALL
    };
    let store = Embedded::open_on(
        Arc::new(disk.clone()),
        &index,
        Path::new("/s"),
        macs(),
        limits,
    )
    .unwrap();
    disk.set_free_bytes(14_000);
    block_on(async {
        fill(&store, 0..10).await;
        let writes = disk.writes();
        let large = Bytes::from(vec![1; 5_000]);
        assert_eq!(store.put(vec![large.clone()]).await, Err(StoreError::Full));
        disk.set_free_bytes(10_000);
        assert_eq!(
            store.put(vec![Bytes::from_static(b"x")]).await,
            Err(StoreError::Full)
        );
        assert_eq!(
            store.commit(set(vec![write(Table::Meta, b"a", b"")])).await,
            Err(StoreError::Full)
        );
        assert_eq!(disk.writes(), writes, "not one byte");
        check(&store, 10).await;
        assert!(!store.is_stopped());
        disk.set_free_bytes(1 << 20);
        assert_eq!(store.put(vec![large]).await.unwrap().len(), 1);
        fill(&store, 10..12).await;
        check(&store, 12).await;
    });
}

#[test]
fn a_disk_that_fills_up_under_us_stops_the_store_and_loses_nothing() {
    let (disk, index) = on_test_disk(5);
    let store = open(&disk, &index).unwrap();
    disk.set_free_bytes(600);
    block_on(async {
        fill(&store, 5..6).await;
        let blob = BlobRef::from_bytes([0; 16]).to_bytes();
        let long = WriteSet {
            writes: vec![write(Table::Meta, b"k", &[1; 500])],
            token: None,
        };
        disk.set_free_bytes(400);
        // Without a floor the write itself fails: whether it happened is not known, and the store stops.
        let outcome = store.commit(long).await;
        assert!(
            matches!(outcome, Err(StoreError::OutcomeUnknown | StoreError::Full)),
            "{outcome:?}"
        );
        let later = store
            .commit(set(vec![write(Table::Meta, b"b", &blob)]))
            .await;
        assert!(later.is_ok() || store.is_stopped());
        check(&store, 6).await;
    });
    drop(store);
    disk.set_free_bytes(1 << 20);
    block_on(check(&open(&disk, &index).unwrap(), 6));
}

#[test]
fn whatever_is_changed_in_the_log_is_noticed() {
    let (disk, index) = on_test_disk(12);
    let last = segments(&disk);
    assert!(last > 2);
    for number in 1..=last {
        for at in 0..disk.contents(&segment(number)).len() {
            let disk = disk.crash(crate::disk::Crash::Kept);
            disk.tamper(&segment(number), |bytes| bytes[at] ^= 0x40);
            let index = index.kept();
            // Rows come from the index; a blob that was changed does not come at all.
            if let Ok(store) = open(&disk, &index) {
                let rows = block_on(store.scan(Table::Names, vec![], None, 99)).unwrap();
                for (n, row) in (0u32..).zip(rows) {
                    let blob = BlobRef::from_bytes(row.value[..].try_into().unwrap());
                    match block_on(BlobStore::get_many(&store, vec![blob])) {
                        Ok(found) => assert_eq!(found, [vec![n as u8; 100 + n as usize]]),
                        Err(error) => assert_eq!(error, StoreError::Corrupt),
                    }
                }
            }
            // Without the index a damaged log is refused, and never taken for a shorter one.
            match open(&disk, &MemoryIndex::default()) {
                Err(OpenError::Corrupt { segment, .. }) => assert_eq!(segment, number),
                Err(OpenError::Shortened) => assert_eq!(number, last),
                Err(other) => panic!("{other}"),
                Ok(store) => {
                    let rows = block_on(store.scan(Table::Names, vec![], None, 99)).unwrap();
                    assert_eq!(rows.len(), 12, "segment {number}, byte {at}");
                }
            }
        }
    }
}

#[test]
fn no_false_length_of_a_blob_hides_the_commits_behind_it() {
    let (disk, index) = on_test_disk(12);
    drop(open(&disk, &index).unwrap());
    let sealed = segments(&disk) - 1;
    let bytes = disk.contents(&segment(sealed));
    let (mut at, mut blob) = (0, 0);
    while at < bytes.len() {
        let length = u32::from_be_bytes(bytes[at + 5..at + 9].try_into().unwrap()) as usize;
        if bytes[at + 4] == 2 {
            blob = at;
        }
        at += length + 25;
    }
    // The last blob of the last sealed segment swallows the rest of it; nothing but a header comes after.
    let swallowed = (bytes.len() - blob - 25) as u32;
    disk.tamper(&segment(sealed), |bytes| {
        bytes[blob + 5..blob + 9].copy_from_slice(&swallowed.to_be_bytes());
    });
    let place = MemoryIndex::default();
    let rebuilt = Embedded::rebuild_on(Arc::new(disk), &place, Path::new("/s"), macs());
    assert!(matches!(rebuilt, Err(OpenError::Corrupt { segment, .. }) if segment == sealed));
}

#[test]
fn a_shorter_log_opens_only_by_decision() {
    let (disk, index) = on_test_disk(12);
    let last = segments(&disk);
    let cuts: [&dyn Fn(&TestDisk); 3] = [
        &|disk| disk.remove(&segment(last)).unwrap(),
        &|disk| disk.tamper(&segment(last), |bytes| bytes.truncate(bytes.len() - 1)),
        &|disk| {
            disk.tamper(&segment(last), |bytes| {
                bytes.truncate(usize::try_from(HEADER_BYTES).unwrap())
            })
        },
    ];
    for cut in cuts {
        let disk = disk.crash(crate::disk::Crash::Kept);
        cut(&disk);
        for index in [index.kept(), MemoryIndex::default()] {
            for _ in 0..2 {
                assert!(matches!(open(&disk, &index), Err(OpenError::Shortened)));
            }
        }
        let place = index.kept();
        let rebuilt =
            Embedded::rebuild_on(Arc::new(disk.clone()), &place, Path::new("/s"), macs()).unwrap();
        assert!(rebuilt.is_rebuilt && rebuilt.commits_replayed < 12);
        block_on(check(
            &open(&disk, &place).unwrap(),
            u32::try_from(rebuilt.commits_replayed).unwrap(),
        ));
    }
    let middle = disk.crash(crate::disk::Crash::Kept);
    middle.remove(&segment(2)).unwrap();
    let refused = Embedded::rebuild_on(Arc::new(middle), &index, Path::new("/s"), macs());
    assert!(matches!(
        refused,
        Err(OpenError::Corrupt {
            segment: 2,
            offset: 0
        })
    ));
}

#[test]
fn rot_in_what_was_synced_is_no_torn_end() {
    let (disk, index) = (TestDisk::new(), MemoryIndex::default());
    let seam: Arc<dyn Disk> = Arc::new(disk.clone());
    Embedded::create_on(&seam, Path::new("/s"), macs(), [7; 16]).unwrap();
    let limits = Limits {
        segment_bytes: 1 << 20,
        ..SMALL
    };
    let open = |disk: &TestDisk, index: &MemoryIndex| {
        Embedded::open_on(
            Arc::new(disk.clone()),
            index,
            Path::new("/s"),
            macs(),
            limits,
        )
    };
    let store = open(&disk, &index).unwrap();
    block_on(fill(&store, 0..12));
    // The power goes before any checkpoint: the one segment is unsealed.
    let found = disk.crash(crate::disk::Crash::Lost);
    let length = found.contents(&segment(1)).len();
    let third = length / 3;
    let rotten = found.crash(crate::disk::Crash::Kept);
    rotten.tamper(&segment(1), |bytes| bytes[third] ^= 1);
    assert!(matches!(
        open(&rotten, &MemoryIndex::default()),
        Err(OpenError::Corrupt { segment: 1, .. })
    ));
    let torn = found.crash(crate::disk::Crash::Kept);
    torn.tamper(&segment(1), |bytes| bytes.truncate(length - 1));
    block_on(check(&open(&torn, &MemoryIndex::default()).unwrap(), 11));
}

#[test]
fn a_changed_or_moved_row_is_not_given_out() {
    let (disk, index) = on_test_disk(6);
    index.tamper(|rows| {
        let keys: Vec<_> = rows
            .keys()
            .filter(|key| key[0] == Table::Names as u8)
            .cloned()
            .collect();
        let (a, b) = (rows[&keys[0]].clone(), rows[&keys[1]].clone());
        rows.insert(keys[0].clone(), b);
        rows.insert(keys[1].clone(), a);
        *rows.get_mut(&keys[2]).unwrap().last_mut().unwrap() ^= 1;
    });
    let store = open(&disk, &index).unwrap();
    block_on(async {
        assert_eq!(
            store.scan(Table::Names, vec![], None, 9).await,
            Err(StoreError::Corrupt)
        );
        for n in 0..6u32 {
            let found = Store::get_many(&store, Table::Names, vec![n.to_be_bytes().to_vec()]).await;
            assert_eq!(found.is_err(), n < 3);
        }
    });
    drop(store);
    Embedded::rebuild_on(Arc::new(disk.clone()), &index, Path::new("/s"), macs()).unwrap();
    block_on(check(&open(&disk, &index).unwrap(), 6));
}

#[test]
fn another_key_opens_nothing() {
    struct Other;
    impl Macs for Other {
        fn mac(&self, parts: &[&[u8]]) -> [u8; 16] {
            let mut code = TestMacs.mac(parts);
            code[0] ^= 1;
            code
        }
    }
    let (disk, index) = on_test_disk(2);
    let refused = Embedded::open_on(
        Arc::new(disk),
        &index,
        Path::new("/s"),
        Arc::new(Other),
        SMALL,
    );
    assert!(matches!(
        refused,
        Err(OpenError::Corrupt {
            segment: 1,
            offset: 0
        })
    ));
}

#[test]
fn a_dropped_commit_still_happens_and_many_share_one_sync() {
    let (disk, index) = on_test_disk(0);
    let limits = Limits {
        segment_bytes: 1 << 20,
        ..SMALL
    };
    let store = Embedded::open_on(
        Arc::new(disk.clone()),
        &index,
        Path::new("/s"),
        macs(),
        limits,
    )
    .unwrap();
    block_on(async {
        let commits = (0..100u32)
            .map(|n| store.commit(set(vec![write(Table::Facts, &n.to_be_bytes(), b"v")])));
        let (before, mut pending) = (disk.syncs(), Vec::new());
        for mut commit in commits {
            let waker = std::task::Waker::noop();
            let _ = commit
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker));
            pending.push(commit);
        }
        let last = pending.pop().unwrap();
        drop(pending);
        assert_eq!(last.await, Ok(Seq(100)));
        assert!(disk.syncs() - before < 100);
        assert_eq!(
            store
                .scan(Table::Facts, vec![], None, 999)
                .await
                .unwrap()
                .len(),
            100
        );
        assert_eq!(
            value(&store, Table::Facts, &0u32.to_be_bytes())
                .await
                .unwrap()
                .version,
            1
        );
    });
}
