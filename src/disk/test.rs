//! A disk in memory that can lose power: what programs see (`live`) is kept apart from what a power cut
//! leaves (`durable`). A test arms one fault, runs until it strikes, takes [`TestDisk::crash`] and reopens.
//!
//! Writes, length changes and names wait until they are synced; a crash keeps all of what waits, none of it,
//! or a seeded mixture of sectors and names. After a stop every call fails, as after a power cut; after a
//! failed sync the disk goes on and has dropped what waited (as Linux does), so that a retry would lie.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use super::{Disk, DiskFile, DiskLock};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

const SECTOR: usize = 512;

/// What a power cut leaves of everything that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Nothing.
    Lost,
    /// All of it: the cache survived.
    Kept,
    /// Some sectors, lengths and names, chosen by this seed.
    Mixed(u64),
}

/// A handle; clones see the same disk. The folder `/` is there.
#[derive(Clone)]
pub(crate) struct TestDisk(Arc<Mutex<State>>);

type Inode = usize;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Folder,
    File(Inode),
}

#[derive(Default, Clone)]
struct Node {
    live: Vec<u8>,
    durable: Vec<u8>,
    waiting: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Default)]
struct State {
    nodes: Vec<Node>,
    live: BTreeMap<PathBuf, Entry>,
    durable: BTreeMap<PathBuf, Entry>,
    locks: BTreeSet<PathBuf>,
    syncs: u64,
    writes: u64,
    stop_at_sync: Option<u64>,
    stop_at_write: Option<u64>,
    fail_sync: Option<u64>,
    stopped: bool,
    free: Option<u64>,
}

impl TestDisk {
    /// An empty disk without faults.
    pub(crate) fn new() -> Self {
        let root = BTreeMap::from([(PathBuf::from("/"), Entry::Folder)]);
        Self(Arc::new(Mutex::new(State {
            live: root.clone(),
            durable: root,
            ..State::default()
        })))
    }

    /// The power goes at the `n`-th sync from now (of a file or a folder; 1 is the next): it does not happen.
    pub(crate) fn stop_at_sync(&self, n: u64) {
        let mut state = self.state();
        state.stop_at_sync = Some(state.syncs + n);
    }

    /// The power goes in the middle of the `n`-th write from now: only its first half is live.
    pub(crate) fn stop_at_write(&self, n: u64) {
        let mut state = self.state();
        state.stop_at_write = Some(state.writes + n);
    }

    /// The `n`-th sync from now fails with an I/O error and drops what waited; later ones succeed.
    pub(crate) fn fail_sync(&self, n: u64) {
        let mut state = self.state();
        state.fail_sync = Some(state.syncs + n);
    }

    /// So many bytes are free from now on; growing a file beyond fails with `StorageFull`.
    pub(crate) fn set_free_bytes(&self, bytes: u64) {
        self.state().free = Some(bytes);
    }

    /// Syncs of files and folders so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Writes so far.
    pub(crate) fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Whether an armed stop has struck.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// The disk as found after a power cut now. This one is left as it is; the new one has no faults and no locks.
    pub(crate) fn crash(&self, crash: Crash) -> Self {
        let state = self.state();
        let mut coin = Coin(match crash {
            Crash::Mixed(seed) => seed ^ 0x9e37_79b9_7f4a_7c15,
            Crash::Lost | Crash::Kept => 1,
        });
        let mut keeps = || match crash {
            Crash::Lost => false,
            Crash::Kept => true,
            Crash::Mixed(_) => coin.toss(),
        };
        let nodes = state
            .nodes
            .iter()
            .map(|node| node.after_crash(&mut keeps))
            .collect();
        let names = names_after_crash(&state, &mut keeps);
        Self(Arc::new(Mutex::new(State {
            nodes,
            live: names.clone(),
            durable: names,
            ..State::default()
        })))
    }

    /// The disk as the next process finds it when this one was killed and the machine stayed up: everything is
    /// live, and what waited for its sync still waits. The new one has no faults and no locks.
    pub(crate) fn kill(&self) -> Self {
        let state = self.state();
        let (nodes, live, durable) = (
            state.nodes.clone(),
            state.live.clone(),
            state.durable.clone(),
        );
        Self(Arc::new(Mutex::new(State {
            nodes,
            live,
            durable,
            ..State::default()
        })))
    }

    /// Changes a file behind everybody's back, live and durable: rot, or an intruder.
    pub(crate) fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.file(path).expect("a file to tamper with");
        let node = &mut state.nodes[inode];
        change(&mut node.live);
        node.durable = node.live.clone();
        node.waiting.clear();
    }

    /// A file's live bytes.
    pub(crate) fn contents(&self, path: &Path) -> Vec<u8> {
        let state = self.state();
        let inode = state.file(path).expect("a file to look into");
        state.nodes[inode].live.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Why: a panicking test thread must not hide its own message behind a poisoned lock.
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn running(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.stopped {
            Err(power_is_out())
        } else {
            Ok(state)
        }
    }

    fn handle(&self, inode: Inode) -> Box<dyn DiskFile> {
        Box::new(TestFile {
            disk: self.clone(),
            inode,
        })
    }
}

impl Node {
    fn after_crash(&self, keeps: &mut impl FnMut() -> bool) -> Node {
        let mut bytes = self.durable.clone();
        for change in &self.waiting {
            match change {
                Change::Write { offset, bytes: new } => {
                    let mut at = 0;
                    while at < new.len() {
                        // INVARIANT: pieces end at sector borders, so that a sector is written whole or not at all.
                        let end = new.len().min(at + SECTOR - (offset + at) % SECTOR);
                        if keeps() {
                            put(&mut bytes, offset + at, &new[at..end]);
                        }
                        at = end;
                    }
                }
                Change::Length(length) if keeps() => bytes.resize(*length, 0),
                Change::Length(_) => {}
            }
        }
        Node {
            live: bytes.clone(),
            durable: bytes,
            waiting: Vec::new(),
        }
    }
}

fn names_after_crash(state: &State, keeps: &mut impl FnMut() -> bool) -> BTreeMap<PathBuf, Entry> {
    let all: BTreeSet<&PathBuf> = state.live.keys().chain(state.durable.keys()).collect();
    let mut names = BTreeMap::new();
    for path in all {
        let (live, durable) = (state.live.get(path), state.durable.get(path));
        let chosen = if live == durable || keeps() {
            live
        } else {
            durable
        };
        // INVARIANT: a folder sorts before what is in it; what stands in a lost folder is lost.
        let has_folder = path
            .parent()
            .is_none_or(|parent| names.contains_key(parent));
        if let (Some(entry), true) = (chosen, has_folder) {
            names.insert(path.clone(), *entry);
        }
    }
    names
}

impl State {
    fn file(&self, path: &Path) -> io::Result<Inode> {
        match self.live.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            Some(Entry::Folder) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        match self.live.get(path) {
            Some(Entry::Folder) => Ok(()),
            Some(Entry::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn vacant(&self, path: &Path) -> io::Result<()> {
        self.folder(path.parent().unwrap_or(Path::new("/")))?;
        if self.live.contains_key(path) {
            Err(io::ErrorKind::AlreadyExists.into())
        } else {
            Ok(())
        }
    }

    /// Counts a sync; says whether it happens, fails, or is the end.
    fn sync(&mut self) -> io::Result<bool> {
        self.syncs += 1;
        if self.stop_at_sync == Some(self.syncs) {
            self.stopped = true;
            return Err(power_is_out());
        }
        Ok(self.fail_sync != Some(self.syncs))
    }

    fn take_space(&mut self, inode: Inode, end: usize) -> io::Result<()> {
        let grows = end.saturating_sub(self.nodes[inode].live.len()) as u64;
        let Some(free) = &mut self.free else {
            return Ok(());
        };
        *free = free.checked_sub(grows).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    }
}

impl Disk for TestDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.running()?;
        state.vacant(path)?;
        state.live.insert(path.into(), Entry::Folder);
        Ok(())
    }

    fn create(&self, path: &Path, preallocate: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.running()?;
        state.vacant(path)?;
        let (inode, length) = (state.nodes.len(), usize::try_from(preallocate).unwrap());
        state.nodes.push(Node::default());
        state.take_space(inode, length)?;
        state.nodes[inode] = Node {
            live: vec![0; length],
            durable: vec![0; length],
            waiting: Vec::new(),
        };
        state.live.insert(path.into(), Entry::File(inode));
        Ok(self.handle(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.running()?.file(path)?;
        Ok(self.handle(inode))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.running()?.live.contains_key(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.running()?;
        state.folder(dir)?;
        let inside = state.live.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.running()?;
        state.file(path)?;
        state.live.remove(path);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.running()?;
        state.folder(path)?;
        if state
            .live
            .keys()
            .any(|inside| inside.parent() == Some(path))
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.live.remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.running()?;
        let inode = state.file(from)?;
        state.folder(to.parent().unwrap_or(Path::new("/")))?;
        state.live.remove(from);
        state.live.insert(to.into(), Entry::File(inode));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.running()?;
        state.folder(dir)?;
        if !state.sync()? {
            return Err(io::Error::other("the folder's sync failed"));
        }
        let live: Vec<(PathBuf, Entry)> = state
            .live
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(p, e)| (p.clone(), *e))
            .collect();
        state.durable.retain(|path, _| path.parent() != Some(dir));
        state.durable.extend(live);
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.running()?.free.unwrap_or(1 << 40))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.running()?;
        if !state.locks.insert(path.into()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if state.vacant(path).is_ok() {
            let inode = state.nodes.len();
            state.nodes.push(Node::default());
            state.live.insert(path.into(), Entry::File(inode));
        }
        Ok(Box::new(TestLock {
            disk: self.clone(),
            path: path.into(),
        }))
    }
}

struct TestFile {
    disk: TestDisk,
    inode: Inode,
}

impl DiskFile for TestFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.running()?;
        let offset = usize::try_from(offset).unwrap();
        state.writes += 1;
        let tears = state.stop_at_write == Some(state.writes);
        let bytes = if tears {
            &bytes[..bytes.len() / 2]
        } else {
            bytes
        };
        state.take_space(self.inode, offset + bytes.len())?;
        let node = &mut state.nodes[self.inode];
        put(&mut node.live, offset, bytes);
        node.waiting.push(Change::Write {
            offset,
            bytes: bytes.to_vec(),
        });
        state.stopped = tears;
        if tears { Err(power_is_out()) } else { Ok(()) }
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let state = self.disk.running()?;
        let live = &state.nodes[self.inode].live;
        let from = usize::try_from(offset).unwrap().min(live.len());
        let length = into.len().min(live.len() - from);
        into[..length].copy_from_slice(&live[from..from + length]);
        Ok(length)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.running()?;
        let happens = state.sync()?;
        let node = &mut state.nodes[self.inode];
        let waiting = std::mem::take(&mut node.waiting);
        if !happens {
            return Err(io::Error::other("the sync failed"));
        }
        // Why not a copy of `live`: what an earlier failed sync dropped must stay dropped.
        for change in waiting {
            match change {
                Change::Write { offset, bytes } => put(&mut node.durable, offset, &bytes),
                Change::Length(length) => node.durable.resize(length, 0),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.running()?.nodes[self.inode].live.len() as u64)
    }

    fn fill_holes(&self) -> io::Result<()> {
        self.disk.running().map(drop)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.running()?;
        let len = usize::try_from(len).unwrap();
        state.take_space(self.inode, len)?;
        let node = &mut state.nodes[self.inode];
        node.live.resize(len, 0);
        node.waiting.push(Change::Length(len));
        Ok(())
    }
}

struct TestLock {
    disk: TestDisk,
    path: PathBuf,
}

impl DiskLock for TestLock {}

impl Drop for TestLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

/// xorshift64*: the same seed, the same crash.
struct Coin(u64);

impl Coin {
    fn toss(&mut self) -> bool {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 63 == 1
    }
}

fn put(into: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if into.len() < end {
        into.resize(end, 0);
    }
    into[offset..end].copy_from_slice(bytes);
}

fn power_is_out() -> io::Error {
    io::Error::other("the power is out")
}

mod tests {
    use super::*;

    fn at(name: &str) -> PathBuf {
        Path::new("/").join(name)
    }

    fn exists_after(disk: &TestDisk, crash: Crash, name: &str) -> bool {
        disk.crash(crash).exists(&at(name)).unwrap()
    }

    #[test]
    fn bytes_wait_for_their_sync_and_names_for_their_folders() {
        let disk = TestDisk::new();
        let file = disk.create(&at("a"), 0).unwrap();
        file.write_at(0, b"old").unwrap();
        file.sync().unwrap();
        assert!(!exists_after(&disk, Crash::Lost, "a") && exists_after(&disk, Crash::Kept, "a"));
        disk.sync_dir(&at("")).unwrap();
        file.write_at(0, b"newer").unwrap();
        assert_eq!(disk.crash(Crash::Lost).contents(&at("a")), b"old");
        assert_eq!(disk.crash(Crash::Kept).contents(&at("a")), b"newer");
        disk.rename(&at("a"), &at("b")).unwrap();
        assert!(exists_after(&disk, Crash::Lost, "a") && !exists_after(&disk, Crash::Lost, "b"));
        assert!(!exists_after(&disk, Crash::Kept, "a") && exists_after(&disk, Crash::Kept, "b"));
        disk.create_dir(&at("d")).unwrap();
        disk.create(&at("d/c"), 0).unwrap();
        disk.sync_dir(&at("d")).unwrap();
        assert!(
            !exists_after(&disk, Crash::Lost, "d/c"),
            "its folder was lost"
        );
    }

    #[test]
    fn a_stop_is_final_and_a_torn_write_is_half_there() {
        let disk = TestDisk::new();
        let file = disk.create(&at("a"), 0).unwrap();
        disk.sync_dir(&at("")).unwrap();
        disk.stop_at_sync(2);
        file.write_at(0, b"one").unwrap();
        file.sync().unwrap();
        file.write_at(3, b"two").unwrap();
        file.sync().unwrap_err();
        assert!(disk.is_stopped() && disk.list(&at("")).is_err() && file.len().is_err());
        assert_eq!(disk.crash(Crash::Lost).contents(&at("a")), b"one");
        let again = disk.crash(Crash::Kept);
        again.stop_at_write(1);
        again
            .open(&at("a"))
            .unwrap()
            .write_at(6, b"1234")
            .unwrap_err();
        assert_eq!(again.crash(Crash::Kept).contents(&at("a")), b"onetwo12");
        let killed = again.kill();
        assert_eq!(killed.contents(&at("a")), b"onetwo12");
        assert_eq!(
            killed.crash(Crash::Lost).contents(&at("a")),
            b"onetwo",
            "it still waits"
        );
    }

    #[test]
    fn after_a_failed_sync_a_retry_would_lie() {
        let disk = TestDisk::new();
        let file = disk.create(&at("a"), 4).unwrap();
        disk.sync_dir(&at("")).unwrap();
        disk.fail_sync(1);
        file.write_at(0, b"gone").unwrap();
        file.sync().unwrap_err();
        assert_eq!(disk.crash(Crash::Kept).contents(&at("a")), [0; 4]);
        file.sync().unwrap();
        assert_eq!(disk.crash(Crash::Kept).contents(&at("a")), [0; 4]);
        assert_eq!((disk.syncs(), disk.writes()), (3, 1));
    }

    #[test]
    fn a_full_disk_says_so_and_a_mixed_crash_is_by_sector() {
        let disk = TestDisk::new();
        disk.set_free_bytes(4000);
        let file = disk.create(&at("a"), 0).unwrap();
        disk.sync_dir(&at("")).unwrap();
        assert_eq!(
            file.write_at(0, &[7; 4001]).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        file.write_at(0, &[7; 4000]).unwrap();
        assert_eq!(disk.free_bytes(&at("a")).unwrap(), 0);
        let mut seen = BTreeSet::new();
        for seed in 0..40 {
            let found = disk.crash(Crash::Mixed(seed)).contents(&at("a"));
            assert_eq!(found, disk.crash(Crash::Mixed(seed)).contents(&at("a")));
            for sector in found.chunks(SECTOR) {
                assert!(sector.iter().all(|b| *b == sector[0]));
            }
            seen.insert(found);
        }
        assert!(seen.len() > 20);
    }
}
