//! The contract of [`Store`] and [`BlobStore`] as a test: every engine runs the same functions, on a fresh store.
//! Durability has its own tests, since each engine loses power in its own way.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use super::memory::{MemoryIndex, MemoryStore, TestMacs};
use super::{
    BLOB_BYTES_MAX, BlobRef, BlobStore, Embedded, Expect, KEY_BYTES_MAX, Limits, Row, Seq, Store,
    StoreError, Table, VALUE_BYTES_MAX, Write, WriteSet,
};
use crate::disk::{Disk, TestDisk};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) fn write(table: Table, key: &[u8], value: &[u8]) -> Write {
    Write {
        table,
        key: key.into(),
        value: Some(value.into()),
        expect: Expect::Any,
    }
}

pub(super) fn delete(table: Table, key: &[u8]) -> Write {
    Write {
        table,
        key: key.into(),
        value: None,
        expect: Expect::Any,
    }
}

pub(super) fn set(writes: Vec<Write>) -> WriteSet {
    WriteSet {
        writes,
        token: None,
    }
}

pub(super) async fn value(store: &impl Store, table: Table, key: &[u8]) -> Option<Row> {
    store
        .get_many(table, vec![key.to_vec()])
        .await
        .unwrap()
        .pop()
        .unwrap()
}

async fn conforms<S: Store + BlobStore + 'static>(fresh: impl Fn() -> S) {
    rows_are_written_replaced_and_deleted(&fresh()).await;
    tables_are_apart_and_scans_are_in_order(&fresh()).await;
    expectations_hold_or_nothing_happens(&fresh()).await;
    the_same_token_is_the_same_commit(&fresh()).await;
    limits_are_limits(&fresh()).await;
    blobs_come_back_byte_for_byte(&fresh()).await;
    one_of_many_wins(Arc::new(fresh())).await;
    a_read_sees_a_set_whole(Arc::new(fresh())).await;
}

async fn rows_are_written_replaced_and_deleted(store: &impl Store) {
    let table = Table::Facts;
    assert_eq!(value(store, table, b"a").await, None);
    let first = store
        .commit(set(vec![write(table, b"a", b"1"), write(table, b"b", b"")]))
        .await
        .unwrap();
    let second = store
        .commit(set(vec![write(table, b"a", b"2"), delete(table, b"never")]))
        .await
        .unwrap();
    assert!(second > first && first > Seq(0));
    let keys = [b"b", b"x", b"a", b"b"].map(|key| key.to_vec()).to_vec();
    let b = Some(Row {
        key: b"b".into(),
        value: vec![],
        version: first.0,
    });
    let a = Some(Row {
        key: b"a".into(),
        value: b"2".into(),
        version: second.0,
    });
    assert_eq!(
        store.get_many(table, keys).await.unwrap(),
        [b.clone(), None, a, b]
    );
    store.commit(set(vec![delete(table, b"a")])).await.unwrap();
    assert_eq!(value(store, table, b"a").await, None);
    let last = store
        .commit(set(vec![
            write(table, b"c", b"first"),
            write(table, b"c", b"last"),
        ]))
        .await
        .unwrap();
    assert_eq!(value(store, table, b"c").await.unwrap().value, b"last");
    assert!(
        store.commit(WriteSet::default()).await.unwrap() > last,
        "a barrier is a commit"
    );
    assert_eq!(store.get_many(table, vec![]).await.unwrap(), []);
}

async fn tables_are_apart_and_scans_are_in_order(store: &impl Store) {
    let keys: [&[u8]; 8] = [
        b"p\x00",
        b"p\x00\x00",
        b"p\xff",
        b"p\xff\xff",
        b"q",
        b"",
        b"o\xff",
        b"p",
    ];
    let tables = [
        Table::PatientKeys,
        Table::Cards,
        Table::Names,
        Table::Facts,
        Table::Directory,
        Table::Meta,
    ];
    for (table, n) in tables.into_iter().zip(0u8..) {
        store
            .commit(set(keys
                .iter()
                .map(|key| write(table, key, &[n]))
                .collect()))
            .await
            .unwrap();
    }
    for (table, n) in tables.into_iter().zip(0u8..) {
        let scan = async |prefix: &[u8], after: Option<&[u8]>, limit| {
            let rows = store
                .scan(table, prefix.into(), after.map(Into::into), limit)
                .await
                .unwrap();
            assert!(
                rows.iter()
                    .all(|row| row.value == [n] && row.version == u64::from(n) + 1)
            );
            rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
        };
        let mut all = keys.map(<[u8]>::to_vec);
        all.sort_unstable();
        assert_eq!(scan(b"", None, usize::MAX).await, all);
        let within: [&[u8]; 5] = [b"p", b"p\x00", b"p\x00\x00", b"p\xff", b"p\xff\xff"];
        assert_eq!(scan(b"p", None, 5).await, within);
        assert_eq!(scan(b"p", None, 2).await, within[..2]);
        assert_eq!(scan(b"p", Some(b"p\x00"), 2).await, within[2..4]);
        assert_eq!(
            scan(b"p", Some(b"a"), 9).await,
            within,
            "after may lie before the prefix"
        );
        assert!(scan(b"p", Some(b"q"), 9).await.is_empty() && scan(b"p", None, 0).await.is_empty());
        assert!(
            scan(b"p\xff\xff\xff", None, 9).await.is_empty()
                && scan(b"r", None, 9).await.is_empty()
        );
    }
}

async fn expectations_hold_or_nothing_happens(store: &impl Store) {
    let table = Table::Directory;
    let expecting = |key: &[u8], expect| Write {
        expect,
        ..write(table, key, b"new")
    };
    let refused = async |writes| {
        assert_eq!(store.commit(set(writes)).await, Err(StoreError::Conflict));
        assert_eq!(
            value(store, table, b"beside").await,
            None,
            "a refused set leaves nothing"
        );
    };
    let first = store
        .commit(set(vec![expecting(b"a", Expect::Absent)]))
        .await
        .unwrap();
    refused(vec![
        write(table, b"beside", b""),
        expecting(b"a", Expect::Absent),
    ])
    .await;
    refused(vec![
        write(table, b"beside", b""),
        expecting(b"a", Expect::Version(first.0 + 1)),
    ])
    .await;
    refused(vec![
        write(table, b"beside", b""),
        expecting(b"none", Expect::Version(first.0)),
    ])
    .await;
    let second = store
        .commit(set(vec![expecting(b"a", Expect::Version(first.0))]))
        .await
        .unwrap();
    refused(vec![expecting(b"a", Expect::Version(first.0))]).await;
    // Both judge the state before the set.
    store
        .commit(set(vec![
            expecting(b"b", Expect::Absent),
            expecting(b"b", Expect::Absent),
        ]))
        .await
        .unwrap();
    let gone = Write {
        expect: Expect::Version(second.0),
        ..delete(table, b"a")
    };
    store.commit(set(vec![gone.clone()])).await.unwrap();
    refused(vec![gone]).await;
    store
        .commit(set(vec![expecting(b"a", Expect::Absent)]))
        .await
        .unwrap();
    // The same key in another table is another row.
    store
        .commit(set(vec![Write {
            table: Table::Meta,
            ..expecting(b"a", Expect::Absent)
        }]))
        .await
        .unwrap();
}

async fn the_same_token_is_the_same_commit(store: &impl Store) {
    let table = Table::Meta;
    let with = |token, writes| WriteSet {
        writes,
        token: Some([token; 16]),
    };
    let once = Write {
        expect: Expect::Absent,
        ..write(table, b"a", b"1")
    };
    let first = store.commit(with(1, vec![once.clone()])).await.unwrap();
    store
        .commit(set(vec![write(table, b"a", b"2")]))
        .await
        .unwrap();
    assert_eq!(store.commit(with(1, vec![once.clone()])).await, Ok(first));
    assert_eq!(value(store, table, b"a").await.unwrap().value, b"2");
    assert_eq!(
        store.commit(with(2, vec![once])).await,
        Err(StoreError::Conflict)
    );
    let late = store.commit(with(2, vec![])).await.unwrap();
    assert!(late > first, "a refused set does not use up its token");
    let both = store.commit(with(3, vec![write(table, b"t", b"")]));
    let again = store.commit(with(3, vec![write(table, b"t", b"")]));
    let (both, again) = (both.await.unwrap(), again.await.unwrap());
    assert_eq!(both, again);
}

async fn limits_are_limits<S: Store + BlobStore>(store: &S) {
    let (key, value_max) = (vec![7; KEY_BYTES_MAX], vec![8; VALUE_BYTES_MAX]);
    store
        .commit(set(vec![write(Table::Cards, &key, &value_max)]))
        .await
        .unwrap();
    assert_eq!(
        value(store, Table::Cards, &key).await.unwrap().value,
        value_max
    );
    for (key, value) in [
        (&[key.as_slice(), &[0]].concat(), &value_max),
        (&key, &[value_max.as_slice(), &[0]].concat()),
    ] {
        assert_eq!(
            store
                .commit(set(vec![write(Table::Cards, key, value)]))
                .await,
            Err(StoreError::TooLarge)
        );
    }
    let many = (0..8_200u32)
        .map(|n| write(Table::Facts, &n.to_be_bytes(), &value_max))
        .collect();
    assert_eq!(store.commit(set(many)).await, Err(StoreError::TooLarge));
    let largest = Bytes::from(vec![9; BLOB_BYTES_MAX]);
    let blobs = store.put(vec![largest.clone()]).await.unwrap();
    assert_eq!(BlobStore::get_many(store, blobs).await.unwrap(), [largest]);
    let beyond = Bytes::from(vec![9; BLOB_BYTES_MAX + 1]);
    assert_eq!(
        store.put(vec![Bytes::new(), beyond]).await,
        Err(StoreError::TooLarge)
    );
}

async fn blobs_come_back_byte_for_byte<S: Store + BlobStore>(store: &S) {
    let blobs: Vec<Bytes> = (0..40u8)
        .map(|n| Bytes::from(vec![n; usize::from(n) * 97]))
        .collect();
    let mut refs = store.put(blobs.clone()).await.unwrap();
    store.commit(WriteSet::default()).await.unwrap();
    refs.extend(store.put(blobs.clone()).await.unwrap());
    let kept = refs
        .iter()
        .map(|blob| BlobRef::from_bytes(blob.to_bytes()))
        .collect();
    assert_eq!(
        BlobStore::get_many(store, kept).await.unwrap(),
        [blobs.clone(), blobs].concat()
    );
    assert!(
        refs.iter()
            .zip((0..40).cycle())
            .all(|(blob, n)| blob.length() == n * 97)
    );
    let crosswise: Vec<usize> = (0..80).rev().chain([7, 7, 60, 3]).collect();
    let asked = crosswise.iter().map(|at| refs[*at]).collect();
    let came = BlobStore::get_many(store, asked).await.unwrap();
    assert!(
        came.iter()
            .zip(crosswise)
            .all(|(blob, at)| *blob == vec![u8::try_from(at % 40).unwrap(); at % 40 * 97])
    );
    let last = refs[39];
    for wrong in [
        BlobRef {
            length: last.length - 1,
            ..last
        },
        BlobRef {
            length: last.length + 1,
            ..last
        },
        BlobRef {
            length: u32::MAX,
            ..last
        },
        BlobRef {
            segment: 77,
            ..last
        },
        BlobRef {
            offset: u64::MAX,
            ..last
        },
        BlobRef {
            offset: last.offset.wrapping_sub(20),
            ..last
        },
    ] {
        assert_eq!(
            BlobStore::get_many(store, vec![last, wrong]).await,
            Err(StoreError::Corrupt),
            "{wrong:?}"
        );
    }
}

async fn one_of_many_wins<S: Store + BlobStore + 'static>(store: Arc<S>) {
    for round in 0..20u8 {
        let racers: Vec<_> = (0..16u8)
            .map(|n| {
                let store = store.clone();
                let first = Write {
                    expect: Expect::Absent,
                    ..write(Table::Names, &[round], &[n])
                };
                tokio::spawn(async move { store.commit(set(vec![first])).await })
            })
            .collect();
        let mut won = Vec::new();
        for (n, racer) in (0u8..).zip(racers) {
            match racer.await.unwrap() {
                Ok(seq) => won.push((n, seq)),
                Err(error) => assert_eq!(error, StoreError::Conflict),
            }
        }
        let row = value(&*store, Table::Names, &[round]).await.unwrap();
        assert_eq!(won, [(row.value[0], Seq(row.version))]);
    }
}

async fn a_read_sees_a_set_whole<S: Store + BlobStore + 'static>(store: Arc<S>) {
    // More keys than an engine may put into one batch of its index.
    let keys: Vec<Vec<u8>> = (0..2_200u16).map(|n| n.to_be_bytes().to_vec()).collect();
    let done = Arc::new(AtomicBool::new(false));
    let (writer, over) = (store.clone(), done.clone());
    let rows = keys.clone();
    let writing = tokio::spawn(async move {
        for n in 0..20u8 {
            let writes = rows
                .iter()
                .map(|key| write(Table::Cards, key, &[n]))
                .collect();
            writer.commit(set(writes)).await.unwrap();
        }
        over.store(true, Ordering::Release);
    });
    let mut reads = 0;
    while !done.load(Ordering::Acquire) || reads == 0 {
        let scanned = store
            .scan(Table::Cards, vec![], None, usize::MAX)
            .await
            .unwrap();
        assert!(scanned.is_empty() || scanned.len() == keys.len());
        let found = Store::get_many(&*store, Table::Cards, keys.clone())
            .await
            .unwrap();
        let found: Vec<Row> = found.into_iter().flatten().collect();
        for rows in [scanned, found] {
            assert!(
                rows.iter()
                    .all(|row| (&row.value, row.version) == (&rows[0].value, rows[0].version))
            );
        }
        reads += 1;
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_in_memory_conforms() {
    conforms(MemoryStore::default).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_engine_conforms() {
    let root = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicU32::new(0);
    conforms(|| {
        let dir = root
            .path()
            .join(count.fetch_add(1, Ordering::Relaxed).to_string());
        Embedded::create(&dir, Arc::new(TestMacs)).unwrap();
        let limits = Limits {
            segment_bytes: 1 << 20,
            free_floor_bytes: 0,
            checkpoint_ms: 50,
            ..Limits::default()
        };
        Embedded::open(&dir, Arc::new(TestMacs), limits).unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_engine_conforms_on_the_test_disk() {
    conforms(|| {
        let disk: Arc<dyn Disk> = Arc::new(TestDisk::new());
        let dir = Path::new("/store");
        Embedded::create_on(&disk, dir, Arc::new(TestMacs), [1; 16]).unwrap();
        let limits = Limits {
            segment_bytes: 5_000,
            checkpoint_ms: 5,
            ..Limits::default()
        };
        Embedded::open_on(
            disk,
            &MemoryIndex::default(),
            dir,
            Arc::new(TestMacs),
            limits,
        )
        .unwrap()
    })
    .await;
}
