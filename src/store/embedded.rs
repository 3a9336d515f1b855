//! The engine that ships: segments of authenticated frames, an index over them, one committer thread.
//!
//! Commits queue to the thread of `committer.rs`; reads run where they are called, on the index and the segment
//! files, and never wait for a sync. A second thread syncs the index every few seconds, so that opening replays
//! seconds and not years. Two processes cannot open one folder. `create` makes a store, `open` never does.

use super::checkpoint::{self, Checkpoint};
use super::committer::{Committer, Message};
use super::index::{Index, IndexBroken, IndexPlace, Mark, Staged, row_key};
use super::log::Log;
use super::recovery::{self, Found, OpenError, Recovered};
use super::segments::{Before, FIRST, Segments};
use super::sled_index::SledPlace;
use super::stamp::{Stamp, StoreId};
use super::{
    BlobRef, BlobStore, Macs, Pending, Row, Seq, Store, StoreError, Table, WriteSet,
    blobs_within_limits,
};
use crate::disk::{Disk, DiskLock, RealDisk};
use bytes::Bytes;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc as channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

pub use super::recovery::Recovery;

/// Commits and puts that may wait for the committer; more wait at its door.
const QUEUE_MAX: usize = 4_096;

/// How large things may grow.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A segment file is left for a new one at this size. A blob larger than it has a segment of its own.
    pub segment_bytes: u64,
    /// With less than this free on the disk nothing is written ([`StoreError::Full`]); reads go on.
    pub free_floor_bytes: u64,
    /// What the index may keep in memory; it takes more at times.
    pub cache_bytes: u64,
    /// How often the index is synced: about what opening after a crash has to replay.
    pub checkpoint_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            free_floor_bytes: 1 << 30,
            cache_bytes: 256 << 20,
            checkpoint_ms: 5_000,
        }
    }
}

/// Why no store was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is one already; nothing was touched.
    #[error("there is a store in that folder")]
    Exists,
    /// The folder is being used.
    #[error("the store is open elsewhere")]
    Locked,
    /// The disk does not read or write.
    #[error("the disk does not do it: {0}")]
    Disk(#[from] io::Error),
}

/// A store in a folder of this machine.
pub struct Embedded {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    threads: Mutex<Option<Threads>>,
    recovery: Recovery,
    // INVARIANT: the last field, so that the folder is let go after everything in it.
    _lock: Box<dyn DiskLock>,
}

/// What readers, committer and checkpointer have in common.
pub(super) struct Shared {
    pub(super) segments: Arc<Segments>,
    pub(super) stamp: Stamp,
    pub(super) index: Box<dyn Index>,
    pub(super) is_stopped: AtomicBool,
    /// Held to write while a group is applied, to read for one read: so a read sees one moment.
    view: RwLock<()>,
    applied: Mutex<Mark>,
}

struct Threads {
    committer: JoinHandle<()>,
    checkpointer: JoinHandle<()>,
    stop: channel::Sender<()>,
}

impl Embedded {
    /// Makes an empty store in `dir`, whose parent must exist. It is durable on return.
    ///
    /// # Errors
    /// [`CreateError::Exists`] if there is one, whatever its state.
    pub fn create(dir: &Path, macs: Arc<dyn Macs>) -> Result<(), CreateError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Self::create_on(&disk, dir, macs, random_id()?)
    }

    /// Opens the store in `dir`; never makes one. Brings the index up to the log, or builds it anew.
    ///
    /// # Errors
    /// See [`OpenError`]; after `Shortened` only [`Embedded::rebuild`] opens it again.
    pub fn open(dir: &Path, macs: Arc<dyn Macs>, limits: Limits) -> Result<Self, OpenError> {
        let place = SledPlace {
            dir: dir.join("index"),
            cache_bytes: limits.cache_bytes,
        };
        Self::open_on(Arc::new(RealDisk), &place, dir, macs, limits)
    }

    /// Throws the index away and builds it from the log, which counts as it is from now on, even if it
    /// became shorter. For the operator, with the gateway stopped.
    ///
    /// # Errors
    /// See [`OpenError`]; `Corrupt` means that only a backup helps.
    pub fn rebuild(dir: &Path, macs: Arc<dyn Macs>) -> Result<Recovery, OpenError> {
        let place = SledPlace {
            dir: dir.join("index"),
            cache_bytes: Limits::default().cache_bytes,
        };
        Self::rebuild_on(Arc::new(RealDisk), &place, dir, macs)
    }

    pub(super) fn create_on(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        macs: Arc<dyn Macs>,
        store: StoreId,
    ) -> Result<(), CreateError> {
        let segments = Segments::new(disk.clone(), dir.join("segments"));
        for dir in [dir, segments.dir()] {
            if !disk.exists(dir)? {
                disk.create_dir(dir)?;
            }
        }
        let _lock = disk
            .lock(&dir.join("lock"))
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => CreateError::Locked,
                _ => error.into(),
            })?;
        if !segments.numbers()?.is_empty() {
            return Err(CreateError::Exists);
        }
        disk.sync_dir(dir)?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        disk.sync_dir(parent.unwrap_or(Path::new(".")))?;
        // Why last: a store exists when its first segment does; an interrupted creation is taken up again.
        segments.create(&Stamp::new(macs, store), FIRST, Before::default())?;
        Ok(())
    }

    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        place: &dyn IndexPlace,
        dir: &Path,
        macs: Arc<dyn Macs>,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let (lock, segments, found) = find(disk, dir, &macs)?;
        let recovered = recovery::recover(&segments, &found, place, dir)?;
        let segment = recovery::begin_segment(&segments, &found, recovered.mark)?;
        let log = Log::begin(
            segments.clone(),
            found.stamp.clone(),
            limits.segment_bytes,
            segment,
        )?;
        Ok(Self::start(
            lock,
            segments,
            found.stamp,
            recovered,
            log,
            limits,
            dir.into(),
        )?)
    }

    pub(super) fn rebuild_on(
        disk: Arc<dyn Disk>,
        place: &dyn IndexPlace,
        dir: &Path,
        macs: Arc<dyn Macs>,
    ) -> Result<Recovery, OpenError> {
        let (_lock, segments, found) = find(disk, dir, &macs)?;
        Ok(recovery::build(&segments, &found, place, dir, None)?.recovery)
    }

    fn start(
        lock: Box<dyn DiskLock>,
        segments: Arc<Segments>,
        stamp: Stamp,
        recovered: Recovered,
        log: Log,
        limits: Limits,
        dir: PathBuf,
    ) -> io::Result<Self> {
        let Recovered {
            index,
            mark,
            recovery,
        } = recovered;
        let (is_stopped, view, applied) =
            (AtomicBool::new(false), RwLock::new(()), Mutex::new(mark));
        let shared = Arc::new(Shared {
            segments,
            stamp,
            index,
            is_stopped,
            view,
            applied,
        });
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let (stop, stopped) = channel::channel();
        let free_floor_bytes = limits.free_floor_bytes;
        let committer = Committer {
            shared: shared.clone(),
            log,
            seq: mark.seq,
            free_floor_bytes,
        };
        let committer = thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || committer.run(messages))?;
        let (kept, every) = (
            shared.clone(),
            Duration::from_millis(limits.checkpoint_ms.max(1)),
        );
        let checkpointer = thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(move || kept.checkpoint_every(every, &dir, &stopped))?;
        let threads = Mutex::new(Some(Threads {
            committer,
            checkpointer,
            stop,
        }));
        Ok(Self {
            shared,
            queue,
            threads,
            recovery,
            _lock: lock,
        })
    }

    /// What opening had to do.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Whether the store has stopped writing until it is opened again.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire)
    }

    /// Does what is queued, syncs the index, and writes no more. Blocks; reads go on until the value is dropped.
    pub fn close(&self) {
        let threads = lock(&self.threads).take();
        let Some(Threads {
            committer,
            checkpointer,
            stop,
        }) = threads
        else {
            return;
        };
        let mut message = Message::Close;
        // Why not a blocking send: this may be called on a thread of a runtime, where tokio forbids it.
        while let Err(mpsc::error::TrySendError::Full(again)) = self.queue.try_send(message) {
            message = again;
            thread::sleep(Duration::from_millis(1));
        }
        for (thread, stop) in [(committer, None), (checkpointer, Some(stop))] {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        self.shared.is_stopped.store(true, Ordering::Release);
    }

    fn rows(&self, table: Table, keys: &[Vec<u8>]) -> Result<Vec<Option<Row>>, StoreError> {
        let view = self
            .shared
            .view
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let key = row_key(table, key);
            let row = self.shared.index.get(&key)?;
            found.push(row.map(|row| (key, row)));
        }
        drop(view);
        found
            .into_iter()
            .map(|row| row.map(|row| self.shared.row(row)).transpose())
            .collect()
    }

    fn rows_from(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let prefix = row_key(table, prefix);
        let after = after
            .map(|after| row_key(table, &after))
            .filter(|after| *after >= prefix);
        let lower = after
            .as_deref()
            .map_or(Bound::Included(prefix.as_slice()), Bound::Excluded);
        let mut found = Vec::new();
        if limit > 0 {
            let _view = self
                .shared
                .view
                .read()
                .unwrap_or_else(PoisonError::into_inner);
            self.shared.index.visit(lower, &mut |key, row| {
                let is_within = key.starts_with(&prefix);
                if is_within {
                    found.push((key.to_vec(), row.to_vec()));
                }
                is_within && found.len() < limit
            })?;
        }
        found.into_iter().map(|row| self.shared.row(row)).collect()
    }
}

impl Shared {
    /// Applies a group that is durable in the log: from now on reads see it.
    pub(super) fn apply(&self, staged: Staged<'_>, mark: Mark) -> Result<(), IndexBroken> {
        let view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        staged.apply(mark)?;
        drop(view);
        *lock(&self.applied) = mark;
        Ok(())
    }

    /// Authenticates a row as found, outside any lock.
    fn row(&self, (mut key, row): (Vec<u8>, Vec<u8>)) -> Result<Row, StoreError> {
        let (version, value) = self.stamp.open_row(&key, &row).ok_or(StoreError::Corrupt)?;
        let value = value.to_vec();
        key.remove(0);
        Ok(Row {
            key,
            value,
            version,
        })
    }

    /// Syncs the index again and again, and once more when told to stop.
    fn checkpoint_every(&self, every: Duration, dir: &Path, stopped: &channel::Receiver<()>) {
        let mut last = None;
        loop {
            let is_last = stopped.recv_timeout(every) != Err(channel::RecvTimeoutError::Timeout);
            let mark = *lock(&self.applied);
            if last != Some(mark) && !self.is_stopped.load(Ordering::Acquire) {
                last = Some(mark);
                if self.checkpoint(dir, mark).is_err() {
                    tracing::error!(
                        "the index could not be synced: the store writes no more until it is opened again"
                    );
                    self.is_stopped.store(true, Ordering::Release);
                }
            }
            if is_last {
                return;
            }
        }
    }

    fn checkpoint(&self, dir: &Path, mark: Mark) -> Result<(), StoreError> {
        let synced = self.index.sync();
        // Why even then: after a failed sync the index may look whole until the power goes, so it must be rebuilt.
        let checkpoint = Checkpoint {
            mark,
            is_complete: synced.is_ok(),
        };
        checkpoint::write(&*self.segments.disk, dir, &self.stamp, checkpoint)
            .map_err(|_| StoreError::Fatal)?;
        Ok(synced?)
    }
}

impl Store for Embedded {
    fn commit(&self, set: WriteSet) -> Pending<'_, Result<Seq, StoreError>> {
        Box::pin(async move {
            let bytes = set.within_limits()?;
            let (reply, answer) = oneshot::channel();
            self.queue
                .send(Message::Commit(set, bytes, reply))
                .await
                .map_err(|_| StoreError::Fatal)?;
            answer.await.unwrap_or(Err(StoreError::OutcomeUnknown))
        })
    }

    fn get_many(
        &self,
        table: Table,
        keys: Vec<Vec<u8>>,
    ) -> Pending<'_, Result<Vec<Option<Row>>, StoreError>> {
        Box::pin(async move { self.rows(table, &keys) })
    }

    fn scan(
        &self,
        table: Table,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Pending<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move { self.rows_from(table, &prefix, after, limit) })
    }
}

impl BlobStore for Embedded {
    fn put(&self, blobs: Vec<Bytes>) -> Pending<'_, Result<Vec<BlobRef>, StoreError>> {
        Box::pin(async move {
            let bytes = blobs_within_limits(&blobs)?;
            let (reply, answer) = oneshot::channel();
            self.queue
                .send(Message::Put(blobs, bytes, reply))
                .await
                .map_err(|_| StoreError::Fatal)?;
            answer.await.unwrap_or(Err(StoreError::Fatal))
        })
    }

    fn get_many(&self, blobs: Vec<BlobRef>) -> Pending<'_, Result<Vec<Bytes>, StoreError>> {
        let Shared {
            segments, stamp, ..
        } = &*self.shared;
        Box::pin(async move {
            blobs
                .into_iter()
                .map(|blob| segments.blob(stamp, blob))
                .collect()
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

impl From<IndexBroken> for StoreError {
    fn from(IndexBroken: IndexBroken) -> Self {
        Self::Corrupt
    }
}

fn find(
    disk: Arc<dyn Disk>,
    dir: &Path,
    macs: &Arc<dyn Macs>,
) -> Result<(Box<dyn DiskLock>, Arc<Segments>, Found), OpenError> {
    let segments = Arc::new(Segments::new(disk.clone(), dir.join("segments")));
    if !disk.exists(segments.dir())? {
        return Err(OpenError::Missing);
    }
    let lock = disk
        .lock(&dir.join("lock"))
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => error.into(),
        })?;
    let found = recovery::find(&segments, macs)?;
    Ok((lock, segments, found))
}

/// Why not a key's randomness: it only has to differ from other stores'.
fn random_id() -> io::Result<StoreId> {
    let mut id = StoreId::default();
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut id)?;
    Ok(id)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
