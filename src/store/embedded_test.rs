//! The embedded engine on the machine's own disk with sled under it. Whatever happens to sled costs a rebuild;
//! two processes never have one folder.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests may panic"
)]

use super::conformance::{set, write};
use super::index::IndexPlace;
use super::memory::TestMacs;
use super::sled_index::SledPlace;
use super::{
    BlobRef, BlobStore, CreateError, Embedded, Limits, Macs, OpenError, Store, StoreError, Table,
    WriteSet,
};
use bytes::Bytes;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

pub(super) const SMALL: Limits = Limits {
    segment_bytes: 1_000,
    free_floor_bytes: 0,
    cache_bytes: 1 << 20,
    checkpoint_ms: 3_600_000,
};

pub(super) fn macs() -> Arc<dyn Macs> {
    Arc::new(TestMacs)
}

pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Some commits, each of one row that names a blob.
pub(super) async fn fill(store: &Embedded, numbers: std::ops::Range<u32>) {
    for n in numbers {
        let blob = store
            .put(vec![Bytes::from(vec![n as u8; 100 + n as usize])])
            .await
            .unwrap()[0];
        store
            .commit(set(vec![write(
                Table::Names,
                &n.to_be_bytes(),
                &blob.to_bytes(),
            )]))
            .await
            .unwrap();
    }
}

/// Every row and blob is there and right.
pub(super) async fn check(store: &Embedded, count: u32) {
    let rows = store
        .scan(Table::Names, vec![], None, usize::MAX)
        .await
        .unwrap();
    assert_eq!(rows.len(), count as usize);
    for (n, row) in (0..count).zip(rows) {
        assert_eq!(
            (&row.key[..], row.version),
            (&n.to_be_bytes()[..], u64::from(n) + 1)
        );
        let blob = BlobRef::from_bytes(row.value[..].try_into().unwrap());
        assert_eq!(
            BlobStore::get_many(store, vec![blob]).await.unwrap(),
            [vec![n as u8; 100 + n as usize]]
        );
    }
}

fn filled(root: &Path, count: u32) -> PathBuf {
    let dir = root.join("store");
    Embedded::create(&dir, macs()).unwrap();
    let store = Embedded::open(&dir, macs(), SMALL).unwrap();
    block_on(fill(&store, 0..count));
    dir
}

#[test]
fn a_store_is_made_once_and_never_by_opening() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("none");
    assert!(matches!(
        Embedded::open(&missing, macs(), SMALL),
        Err(OpenError::Missing)
    ));
    assert!(!missing.exists());
    let dir = filled(root.path(), 3);
    assert!(matches!(
        Embedded::create(&dir, macs()),
        Err(CreateError::Exists)
    ));
    fs::remove_dir_all(dir.join("index")).unwrap();
    assert!(matches!(
        Embedded::create(&dir, macs()),
        Err(CreateError::Exists)
    ));
    let deep = root.path().join("a/b");
    assert!(matches!(
        Embedded::create(&deep, macs()),
        Err(CreateError::Disk(_))
    ));
}

#[test]
fn closing_and_opening_replays_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = filled(root.path(), 50);
    for _ in 0..3 {
        let store = Embedded::open(&dir, macs(), SMALL).unwrap();
        assert_eq!(
            (
                store.recovery().commits_replayed,
                store.recovery().is_rebuilt
            ),
            (0, false)
        );
        block_on(check(&store, 50));
        store.close();
        store.close();
        assert_eq!(
            block_on(store.commit(WriteSet::default())),
            Err(StoreError::Fatal)
        );
    }
    let segments = fs::read_dir(dir.join("segments")).unwrap().count();
    let store = Embedded::open(&dir, macs(), SMALL).unwrap();
    drop(store);
    assert_eq!(
        fs::read_dir(dir.join("segments")).unwrap().count(),
        segments,
        "idle restarts make no segments"
    );
}

/// Does something to sled's folder, and wants everything back.
fn rebuilt_after(what: &str, harm: impl Fn(&Path)) {
    let root = tempfile::tempdir().unwrap();
    let dir = filled(root.path(), 60);
    harm(&dir.join("index"));
    let store = Embedded::open(&dir, macs(), SMALL).unwrap();
    assert!(
        store.recovery().is_rebuilt && store.recovery().commits_replayed == 60,
        "{what}"
    );
    block_on(check(&store, 60));
    block_on(fill(&store, 60..70));
    drop(store);
    let store = Embedded::open(&dir, macs(), SMALL).unwrap();
    assert!(!store.recovery().is_rebuilt);
    block_on(check(&store, 70));
}

#[test]
fn an_index_that_is_gone_empty_cut_or_garbage_is_rebuilt() {
    rebuilt_after("gone", |index| fs::remove_dir_all(index).unwrap());
    rebuilt_after("empty", |index| {
        fs::remove_dir_all(index).unwrap();
        drop(
            SledPlace {
                dir: index.into(),
                cache_bytes: 1 << 20,
            }
            .open()
            .unwrap(),
        );
    });
    rebuilt_after("cut", |index| {
        fs::File::options()
            .write(true)
            .open(index.join("db"))
            .unwrap()
            .set_len(0)
            .unwrap()
    });
    rebuilt_after("garbage", |index| {
        let length = fs::metadata(index.join("db")).unwrap().len();
        fs::write(
            index.join("db"),
            vec![0xa5; usize::try_from(length).unwrap()],
        )
        .unwrap();
    });
    rebuilt_after("no folder", |index| {
        fs::remove_dir_all(index).unwrap();
        fs::write(index, b"a file where the folder was").unwrap();
    });
}

#[test]
fn an_index_from_yesterday_or_of_another_store_is_rebuilt() {
    let root = tempfile::tempdir().unwrap();
    let dir = filled(root.path(), 20);
    let yesterday = root.path().join("yesterday");
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp")
            .arg("-r")
            .args([from, to])
            .status()
            .unwrap();
        assert!(copied.success());
    };
    copy(&dir.join("index"), &yesterday);
    let store = Embedded::open(&dir, macs(), SMALL).unwrap();
    block_on(fill(&store, 20..30));
    drop(store);
    let other = root.path().join("other");
    fs::create_dir(&other).unwrap();
    let stranger = filled(&other, 40).join("index");
    for foreign in [yesterday, stranger] {
        fs::remove_dir_all(dir.join("index")).unwrap();
        copy(&foreign, &dir.join("index"));
        let store = Embedded::open(&dir, macs(), SMALL).unwrap();
        assert!(store.recovery().is_rebuilt);
        block_on(check(&store, 30));
    }
}

#[test]
fn damage_within_the_index_is_never_read_as_data() {
    let root = tempfile::tempdir().unwrap();
    let dir = filled(root.path(), 200);
    let db = dir.join("index/db");
    let whole = fs::read(&db).unwrap();
    let mut noticed = 0;
    for n in 0..12 {
        fs::write(&db, &whole).unwrap();
        let at = whole.len() / 13 * n;
        let file = fs::File::options().write(true).open(&db).unwrap();
        file.write_all_at(&[0; 4096], at as u64).unwrap();
        let store = Embedded::open(&dir, macs(), SMALL).unwrap();
        noticed += usize::from(store.recovery().is_rebuilt);
        let rows = block_on(store.scan(Table::Names, vec![], None, usize::MAX));
        drop(store);
        match rows {
            Ok(rows) => assert_eq!(rows.len(), 200, "block at {at}"),
            Err(error) => {
                assert_eq!(error, StoreError::Corrupt);
                noticed += 1;
            }
        }
        assert!(Embedded::rebuild(&dir, macs()).unwrap().is_rebuilt);
        block_on(check(&Embedded::open(&dir, macs(), SMALL).unwrap(), 200));
    }
    assert!(noticed > 0);
}

#[test]
fn a_half_made_snapshot_of_the_index_is_no_obstacle() {
    let root = tempfile::tempdir().unwrap();
    let dir = filled(root.path(), 20);
    fs::write(dir.join("index/snap.0000000000000A00.generating"), b"").unwrap();
    let store = Embedded::open(&dir, macs(), SMALL).unwrap();
    assert!(!store.recovery().is_rebuilt);
    block_on(check(&store, 20));
}

#[test]
fn two_handles_of_one_folder_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = filled(root.path(), 1);
    let store = Embedded::open(&dir, macs(), SMALL).unwrap();
    assert!(matches!(
        Embedded::open(&dir, macs(), SMALL),
        Err(OpenError::Locked)
    ));
    assert!(matches!(
        Embedded::rebuild(&dir, macs()),
        Err(OpenError::Locked)
    ));
    assert!(matches!(
        Embedded::create(&dir, macs()),
        Err(CreateError::Locked)
    ));
    block_on(fill(&store, 1..2));
    drop(store);
    block_on(check(&Embedded::open(&dir, macs(), SMALL).unwrap(), 2));
}

const CHILD: &str = "SALLYPORT_TEST_STORE_OF_A_CHILD";

/// Not a test by itself: the other process of the next one.
#[test]
fn a_child_holds_the_store() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let store = Embedded::open(Path::new(&dir), macs(), SMALL).unwrap();
    println!("\nopen");
    block_on(fill(&store, 1..5));
    println!("filled");
    std::io::stdout().flush().unwrap();
    // Until the parent kills us.
    std::io::stdin().read_exact(&mut [0]).unwrap();
}

#[test]
fn two_processes_on_one_folder_are_refused_and_a_killed_one_lets_go() {
    let root = tempfile::tempdir().unwrap();
    let dir = filled(root.path(), 1);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::embedded_test::a_child_holds_the_store",
            "--nocapture",
        ])
        .env(CHILD, &dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = child.stdout.take().unwrap();
    while !said.contains("filled") {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    assert!(matches!(
        Embedded::open(&dir, macs(), SMALL),
        Err(OpenError::Locked)
    ));
    child.kill().unwrap();
    child.wait().unwrap();
    let store = Embedded::open(&dir, macs(), SMALL).unwrap();
    block_on(check(&store, 5));
}
