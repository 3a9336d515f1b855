//! The engine that ships: segments of authenticated frames, an index over them, one committer thread.
//!
//! Commits queue to the thread of `committer.rs`; reads run where they are called, on the index and the segment
//! files, and never wait for a sync. A second thread syncs the index every few seconds, so that opening replays
//! seconds and not years. Two processes cannot open one folder. `create` makes a store, `open` never does.

use super::committer::{Committer, Message};
use super::index::IndexPlace;
use super::log::Log;
use super::recovery::{self, Found, OpenError, Recovered};
use super::segments::{Before, FIRST, Segments};
use super::shared::{Shared, lock};
use super::sled_index::SledPlace;
use super::stamp::{Stamp, StoreId};
use super::{
    BlobRef, BlobStore, Macs, Pending, Row, Seq, Store, StoreError, Table, WriteSet,
    blobs_within_limits,
};
use crate::disk::{Disk, DiskLock, RealDisk};
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc as channel};
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
    free_floor_bytes: u64,
    // INVARIANT: the last field, so that the folder is let go after everything in it.
    _lock: Box<dyn DiskLock>,
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
        let Held {
            lock,
            segments,
            found,
        } = Held::find(disk, dir, &macs)?;
        let recovered = recovery::recover(&segments, &found, place, dir)?;
        let segment = recovery::begin_segment(&segments, &found, recovered.mark)?;
        let stamp = found.stamp;
        let log = Log::begin(
            segments.clone(),
            stamp.clone(),
            limits.segment_bytes,
            segment,
        )?;
        let Recovered {
            index,
            mark,
            recovery,
        } = recovered;
        let shared = Arc::new(Shared::new(segments, stamp, index, mark));
        let (queue, threads) = start(&shared, log, mark.seq, limits, dir.into())?;
        let threads = Mutex::new(Some(threads));
        Ok(Self {
            shared,
            queue,
            threads,
            recovery,
            free_floor_bytes: limits.free_floor_bytes,
            _lock: lock,
        })
    }

    pub(super) fn rebuild_on(
        disk: Arc<dyn Disk>,
        place: &dyn IndexPlace,
        dir: &Path,
        macs: Arc<dyn Macs>,
    ) -> Result<Recovery, OpenError> {
        let held = Held::find(disk, dir, &macs)?;
        Ok(recovery::build(&held.segments, &held.found, place, dir, None)?.recovery)
    }

    /// What opening had to do.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// The last commit that was applied: what the ledger names, so that a store put back from an older copy is noticed.
    #[must_use]
    pub fn seq(&self) -> Seq {
        Seq(self.shared.applied_seq())
    }

    /// The segment files as long as they are now: all that was acknowledged before the call stands in so many bytes.
    ///
    /// # Errors
    /// The disk.
    pub fn frozen(&self) -> Result<Vec<(PathBuf, u64)>, StoreError> {
        self.shared.segments.lengths().map_err(|error| {
            tracing::error!(%error, "the store's segments cannot be measured");
            StoreError::Retryable
        })
    }

    /// Whether the store has stopped writing until it is opened again.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.is_stopped.load(Ordering::Acquire)
    }

    /// Whether the disk has the room that the store leaves free; without it nothing is written, and reads go on.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let floor_bytes = self.free_floor_bytes;
        self.shared.segments.has_room(0, floor_bytes).is_ok()
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
        Box::pin(async move { self.shared.rows(table, &keys) })
    }

    fn scan(
        &self,
        table: Table,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Pending<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move { self.shared.rows_from(table, &prefix, after, limit) })
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
        Box::pin(async move { segments.blobs(stamp, &blobs) })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

fn start(
    shared: &Arc<Shared>,
    log: Log,
    seq: u64,
    limits: Limits,
    dir: PathBuf,
) -> io::Result<(mpsc::Sender<Message>, Threads)> {
    let (queue, messages) = mpsc::channel(QUEUE_MAX);
    let (stop, stopped) = channel::channel();
    let free_floor_bytes = limits.free_floor_bytes;
    let committer = Committer {
        shared: shared.clone(),
        log,
        seq,
        free_floor_bytes,
    };
    let committer = thread::Builder::new()
        .name("store-commit".into())
        .spawn(move || committer.run(messages))?;
    let (shared, every) = (
        shared.clone(),
        Duration::from_millis(limits.checkpoint_ms.max(1)),
    );
    let checkpointer = thread::Builder::new()
        .name("store-checkpoint".into())
        .spawn(move || shared.checkpoint_every(every, &dir, &stopped))?;
    Ok((
        queue,
        Threads {
            committer,
            checkpointer,
            stop,
        },
    ))
}

/// A folder with a store in it, locked.
struct Held {
    lock: Box<dyn DiskLock>,
    segments: Arc<Segments>,
    found: Found,
}

impl Held {
    fn find(disk: Arc<dyn Disk>, dir: &Path, macs: &Arc<dyn Macs>) -> Result<Self, OpenError> {
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
        Ok(Self {
            lock,
            segments,
            found,
        })
    }
}

/// Why not a key's randomness: it only has to differ from other stores'.
fn random_id() -> io::Result<StoreId> {
    let mut id = StoreId::default();
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut id)?;
    Ok(id)
}
