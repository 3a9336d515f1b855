//! The housekeeper: publishes the log folder (C2SP tlog-tiles: entry bundles and tiles first, then the checkpoint that
//! needs them) and keeps a spare segment ready. It reads back from the journal what the writer wrote, hashes it anew,
//! and publishes nothing whose root is not the signed one: a flipped bit stops the ledger instead of entering the log.
//! A full disk or a folder that cannot be written only delays publishing; no receipt waits for it.
//! The folder is derived: what it had not synced when the power went is written again at the next opening.

use super::journal::Spare;
use super::reader::{Reader, Step};
use super::tile::{Kind, Tile};
use super::tree::{Forgotten, Keep, TILE_WIDTH, Tree, leaf_hash};
use super::writer::{Head, Shared};
use crate::disk::Disk;
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Bytes that may wait for the folder before reading on.
const BACKLOG_BYTES_MAX: usize = 32 << 20;
/// Files written since the last settling that make the next one due.
const UNSETTLED_MAX: usize = 4096;
const SETTLE_EVERY: Duration = Duration::from_secs(30);
/// The name of a file that is not yet what it will be.
const DRAFT: &str = ".draft";
/// The file beside the journal that says how far the folder is known to be on the disk: a checkpoint.
pub(super) const SETTLED: &str = "settled";
/// The published checkpoint.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The last checkpoint that a quorum of witnesses cosigned.
pub(super) const WITNESSED: &str = "witnessed";

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// The folder could not be written; later it may.
    #[error("the log folder: {0}")]
    Folder(#[from] io::Error),
    /// What the journal holds is not what was signed.
    #[error("the journal does not read back as what was signed")]
    Mismatch,
}

impl From<Forgotten> for PublishError {
    fn from(_: Forgotten) -> Self {
        Self::Mismatch
    }
}

/// Writes the log folder, following the journal.
pub(super) struct Publisher {
    disk: Arc<dyn Disk>,
    log: PathBuf,
    journal: PathBuf,
    reader: Reader,
    tree: Tree,
    /// The bundle that is not full yet.
    bundle: Vec<u8>,
    /// What must stand in the folder before the next checkpoint may.
    backlog: VecDeque<(Tile, Vec<u8>)>,
    backlog_bytes: usize,
    published: Option<Head>,
    settled: u64,
    unsettled: BTreeSet<PathBuf>,
    folders: BTreeSet<PathBuf>,
}

impl Publisher {
    /// Goes on behind the last settled full tile.
    pub(super) fn resume(
        disk: Arc<dyn Disk>,
        log: &Path,
        journal: &Path,
        tree: Tree,
        reader: Reader,
    ) -> Self {
        Self {
            disk,
            log: log.to_owned(),
            journal: journal.to_owned(),
            reader,
            settled: tree.size(),
            tree,
            bundle: Vec::new(),
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            published: None,
            unsettled: BTreeSet::new(),
            folders: BTreeSet::new(),
        }
    }

    /// Brings the folder up to `head`; says the size it has then.
    pub(super) fn advance(&mut self, head: &Head) -> Result<u64, PublishError> {
        if self
            .published
            .as_ref()
            .is_some_and(|done| done.size == head.size)
        {
            return Ok(head.size);
        }
        match self.reader.refresh() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(PublishError::Mismatch);
            }
            Err(error) => return Err(error.into()),
        }
        while self.tree.size() < head.size {
            self.flush()?;
            self.read_on(head.size)?;
        }
        self.flush()?;
        if self.tree.root()? != head.root {
            return Err(PublishError::Mismatch);
        }
        self.write_partials()?;
        self.write(CHECKPOINT, head.note.as_bytes(), true)?;
        self.published = Some(head.clone());
        self.tree.trim(Keep::Tiles);
        Ok(head.size)
    }

    /// Syncs what was published and remembers that it is.
    pub(super) fn settle(&mut self) -> Result<(), PublishError> {
        let Some(head) = self
            .published
            .clone()
            .filter(|head| head.size > self.settled)
        else {
            return Ok(());
        };
        for path in &self.unsettled {
            match self.disk.open(path) {
                Ok(file) => file.sync()?,
                // Why: partial files go once their full one is there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        for folder in &self.folders {
            self.disk.sync_dir(folder)?;
        }
        self.disk.sync_dir(&self.log)?;
        let path = self.journal.join(SETTLED);
        write_synced(&*self.disk, &path, head.note.as_bytes())?;
        self.unsettled.clear();
        self.settled = head.size;
        Ok(())
    }

    pub(super) fn settling_is_due(&self) -> bool {
        self.unsettled.len() > UNSETTLED_MAX
    }

    /// Reads entries until `size` or until enough waits to be written.
    fn read_on(&mut self, size: u64) -> Result<(), PublishError> {
        while self.tree.size() < size && self.backlog_bytes < BACKLOG_BYTES_MAX {
            match self.reader.step()? {
                Step::Entry => {}
                Step::Checkpoint => continue,
                Step::End | Step::Torn => return Err(PublishError::Mismatch),
            }
            let leaf = self.reader.leaf().ok_or(PublishError::Mismatch)?;
            let length = u16::try_from(leaf.len()).map_err(|_| PublishError::Mismatch)?;
            self.bundle.extend_from_slice(&length.to_be_bytes());
            self.bundle.extend_from_slice(leaf.as_bytes());
            self.tree.push(leaf_hash(leaf.as_bytes()))?;
            if self.tree.size().is_multiple_of(TILE_WIDTH) {
                self.full_tiles()?;
            }
        }
        Ok(())
    }

    fn full_tiles(&mut self) -> Result<(), PublishError> {
        let mut count = self.tree.size() / TILE_WIDTH;
        let bundle = std::mem::take(&mut self.bundle);
        self.queue(Tile::full(Kind::Entries, count - 1), bundle);
        for level in 0.. {
            let bytes = self.tree.tile(level, count - 1, TILE_WIDTH)?;
            self.queue(Tile::full(Kind::Hashes(level), count - 1), bytes);
            if !count.is_multiple_of(TILE_WIDTH) {
                break;
            }
            count /= TILE_WIDTH;
        }
        self.tree.trim(Keep::Tiles);
        Ok(())
    }

    fn queue(&mut self, tile: Tile, bytes: Vec<u8>) {
        self.backlog_bytes += bytes.len();
        self.backlog.push_back((tile, bytes));
    }

    /// Writes what waits. What could not be written goes on waiting.
    fn flush(&mut self) -> Result<(), PublishError> {
        while let Some((tile, bytes)) = self.backlog.front().cloned() {
            self.write(&tile.to_string(), &bytes, false)?;
            self.remove_partials(tile)?;
            self.backlog_bytes -= bytes.len();
            self.backlog.pop_front();
        }
        Ok(())
    }

    fn write_partials(&mut self) -> Result<(), PublishError> {
        let size = self.tree.size();
        if let Some(tile) = Tile::partial(Kind::Entries, size) {
            let bundle = self.bundle.clone();
            self.write_new(tile, &bundle)?;
        }
        let levels = (0..8).take_while(|level| size >> (8 * u32::from(*level)) > 0);
        for tile in levels.filter_map(|level| Tile::partial(Kind::Hashes(level), size)) {
            if let Kind::Hashes(level) = tile.kind {
                let bytes = self.tree.tile(level, tile.index, u64::from(tile.width))?;
                self.write_new(tile, &bytes)?;
            }
        }
        Ok(())
    }

    /// Writes a partial tile unless the last publication did.
    fn write_new(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), PublishError> {
        match &self.published {
            Some(done) if Tile::partial(tile.kind, done.size) == Some(tile) => return Ok(()),
            Some(_) => {}
            // Why: partial tiles of a run that lost power may be anything.
            None => self.remove_partials(tile)?,
        }
        self.write(&tile.to_string(), bytes, false)
    }

    fn remove_partials(&mut self, tile: Tile) -> Result<(), PublishError> {
        let folder = self.log.join(tile.partials());
        if self.disk.exists(&folder)? {
            for name in self.disk.list(&folder)? {
                self.disk.remove(&folder.join(name))?;
            }
            self.disk.remove_dir(&folder)?;
            self.folders.remove(&folder);
        }
        Ok(())
    }

    /// Puts a file into the folder at once. Only a synced one is sure to be whole after a power cut.
    fn write(&mut self, name: &str, bytes: &[u8], sync: bool) -> Result<(), PublishError> {
        let path = self.log.join(name);
        let folder = path.parent().unwrap_or(&self.log).to_owned();
        self.make_folder(&folder)?;
        replace(&*self.disk, &self.log.join(DRAFT), &path, bytes, sync)?;
        self.unsettled.insert(path);
        Ok(())
    }

    fn make_folder(&mut self, folder: &Path) -> io::Result<()> {
        if folder == self.log || self.folders.contains(folder) {
            return Ok(());
        }
        if let Some(parent) = folder.parent() {
            self.make_folder(parent)?;
        }
        if !self.disk.exists(folder)? {
            self.disk.create_dir(folder)?;
        }
        self.folders.insert(folder.to_owned());
        Ok(())
    }
}

fn replace(disk: &dyn Disk, draft: &Path, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    if disk.exists(draft)? {
        disk.remove(draft)?;
    }
    let file = disk.create(draft, 0)?;
    file.write_at(0, bytes)?;
    if sync {
        file.sync()?;
    }
    disk.rename(draft, path)
}

/// Replaces a file so that after a power cut either the old or the new one is there, whole.
pub(super) fn write_synced(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(disk, &path.with_extension("draft"), path, bytes, true)?;
    path.parent().map_or(Ok(()), |folder| disk.sync_dir(folder))
}

/// What others ask of the housekeeper.
pub(super) enum Chore {
    /// Make a spare segment.
    Spare,
    /// Publish now and say when it is done.
    Publish(oneshot::Sender<()>),
    /// Publish, settle, end.
    Close,
}

pub(super) struct Housekeeper {
    pub(super) chores: Receiver<Chore>,
    pub(super) publisher: Publisher,
    pub(super) spare: Arc<Spare>,
    pub(super) shared: Arc<Shared>,
    pub(super) every: Duration,
}

impl Housekeeper {
    /// Serves until told to close or until the last handle is gone.
    pub(super) fn run(mut self) {
        let mut settled = Instant::now();
        let mut open = true;
        while open {
            let chore = self.chores.recv_timeout(self.every);
            open = !matches!(
                chore,
                Ok(Chore::Close) | Err(RecvTimeoutError::Disconnected)
            );
            if open {
                // Why ignored: the spare says so itself, and is tried again the next time round.
                let _ = self.spare.prepare();
            }
            if matches!(chore, Ok(Chore::Spare)) {
                continue;
            }
            self.publish();
            if !open || self.publisher.settling_is_due() || settled.elapsed() > SETTLE_EVERY {
                settled = Instant::now();
                if let Err(error) = self.publisher.settle() {
                    tracing::warn!(%error, "the log folder is not settled");
                }
            }
            if let Ok(Chore::Publish(done)) = chore {
                // Why ignored: whoever asked may have gone.
                let _ = done.send(());
            }
        }
    }

    fn publish(&mut self) {
        match self.publisher.advance(&self.shared.head()) {
            Ok(size) => self.shared.set_published(size),
            Err(PublishError::Mismatch) => self.shared.stop("the journal reads back otherwise"),
            Err(error) => tracing::warn!(%error, "the log folder is behind"),
        }
    }
}
