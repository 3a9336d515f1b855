//! What readers, committer and checkpointer of the embedded engine have in common: index, segments, one view.
//!
//! Reads take the view's lock for the time of one look into the index, the committer for the time of applying a
//! group; nobody holds it across a sync. Codes are checked outside of it. A row that is not as the store wrote
//! it is `Corrupt`, and nothing of it is given out.

use super::checkpoint::{self, Checkpoint};
use super::index::{Index, IndexBroken, Mark, Staged, row_key};
use super::segments::Segments;
use super::stamp::Stamp;
use super::{Row, StoreError, Table};
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc as channel};
use std::time::Duration;

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

impl Shared {
    pub(super) fn new(
        segments: Arc<Segments>,
        stamp: Stamp,
        index: Box<dyn Index>,
        mark: Mark,
    ) -> Self {
        let (is_stopped, view, applied) =
            (AtomicBool::new(false), RwLock::new(()), Mutex::new(mark));
        Self {
            segments,
            stamp,
            index,
            is_stopped,
            view,
            applied,
        }
    }

    pub(super) fn rows(
        &self,
        table: Table,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Row>>, StoreError> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let key = row_key(table, key);
            let row = self.index.get(&key)?;
            found.push(row.map(|row| (key, row)));
        }
        drop(view);
        found
            .into_iter()
            .map(|row| row.map(|row| self.row(row)).transpose())
            .collect()
    }

    pub(super) fn rows_from(
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
            let _view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            self.index.visit(lower, &mut |key, row| {
                let is_within = key.starts_with(&prefix);
                if is_within {
                    found.push((key.to_vec(), row.to_vec()));
                }
                is_within && found.len() < limit
            })?;
        }
        found.into_iter().map(|row| self.row(row)).collect()
    }

    /// The number of the last commit that was applied.
    pub(super) fn applied_seq(&self) -> u64 {
        lock(&self.applied).seq
    }

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
    pub(super) fn checkpoint_every(
        &self,
        every: Duration,
        dir: &Path,
        stopped: &channel::Receiver<()>,
    ) {
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

impl From<IndexBroken> for StoreError {
    fn from(IndexBroken: IndexBroken) -> Self {
        Self::Corrupt
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
