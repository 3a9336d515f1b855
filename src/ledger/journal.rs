//! The journal: preallocated segment files of frames, each chained to the one before by a truncated SHA-256.
//! It is the ledger's only truth; the tree, the tiles and every receipt are derived from it.
//! When [`Appender::append`] returns `Ok`, the group survives power loss on media that honour fdatasync.
//! Never here: a retry after an error. After one, nobody knows what the disk holds until the ledger is reopened.
//!
//! Segment: header (64 bytes: magic with version ‖ number u32 ‖ first index u64 ‖ chain ‖ zeros ‖ check), frames, zeros.
//! Frame: length u32 ‖ kind u8 ‖ payload ‖ SHA-256(chain ‖ length ‖ kind ‖ payload) cut to 8: the next chain.
//! Payload of an entry (kind 1): leaf length u16 ‖ leaf ‖ sealed body; of a checkpoint (kind 2): the signed note.

use super::leaf::{BODY_BYTES_MAX, LEAF_BYTES_MAX};
use crate::disk::{Disk, DiskFile};
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"SALLYJL\x01";
pub(super) const HEADER_BYTES: u64 = 64;
/// Length, kind and check.
pub(super) const FRAME_BYTES: usize = 13;
pub(super) const ENTRY: u8 = 1;
pub(super) const CHECKPOINT: u8 = 2;
pub(super) const PAYLOAD_BYTES_MAX: usize = 2 + LEAF_BYTES_MAX + BODY_BYTES_MAX;
const SPARE: &str = "spare";

/// The chain after a frame.
pub(super) type Chain = [u8; 8];

/// A place between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// Entries before it.
    pub(super) index: u64,
    pub(super) chain: Chain,
}

/// The file name of a segment.
pub(super) fn segment_name(number: u32) -> String {
    format!("{number:08}.seg")
}

/// The chain that the first segment of a log begins with: no segment of one log passes for another's.
pub(super) fn first_chain(origin: &str) -> Chain {
    chained(b"sallyport/journal/v1\0", origin.as_bytes())
}

pub(super) fn chained(chain: &[u8], bytes: &[u8]) -> Chain {
    let hash = Sha256::new().chain_update(chain).chain_update(bytes);
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    [a, b, c, d, e, f, g, h]
}

pub(super) fn header(at: &Position) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&at.segment.to_be_bytes());
    bytes.extend_from_slice(&at.index.to_be_bytes());
    bytes.extend_from_slice(&at.chain);
    bytes.resize(56, 0);
    let check = chained(b"", &bytes);
    bytes.extend_from_slice(&check);
    bytes
}

pub(super) fn parse_header(bytes: &[u8; HEADER_BYTES as usize]) -> Option<Position> {
    let (segment, index) = (bytes.get(8..12)?, bytes.get(12..20)?);
    let at = Position {
        segment: u32::from_be_bytes(segment.try_into().ok()?),
        offset: HEADER_BYTES,
        index: u64::from_be_bytes(index.try_into().ok()?),
        chain: bytes.get(20..28)?.try_into().ok()?,
    };
    (header(&at) == bytes).then_some(at)
}

/// Frames that will be written at once.
pub(super) struct Group {
    bytes: Vec<u8>,
    chain: Chain,
    entries: u64,
}

impl Group {
    fn new(chain: Chain) -> Self {
        Self {
            bytes: Vec::with_capacity(64 << 10),
            chain,
            entries: 0,
        }
    }

    /// Adds an entry and says where in [`Group::bytes`] its leaf stands.
    pub(super) fn entry(&mut self, leaf: &str, body: &[u8]) -> Range<usize> {
        let length = u16::try_from(leaf.len()).unwrap_or(u16::MAX).to_be_bytes();
        let start = self.bytes.len() + 5 + 2;
        self.frame(ENTRY, &[&length, leaf.as_bytes(), body]);
        self.entries += 1;
        start..start + leaf.len()
    }

    /// Adds the checkpoint of the group before.
    pub(super) fn checkpoint(&mut self, note: &str) {
        self.frame(CHECKPOINT, &[note.as_bytes()]);
    }

    fn frame(&mut self, kind: u8, parts: &[&[u8]]) {
        let start = self.bytes.len();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        // INVARIANT: bodies and leaves are bounded long before this, so that the length fits.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.push(kind);
        parts
            .iter()
            .for_each(|part| self.bytes.extend_from_slice(part));
        let frame = self.bytes.get(start..).unwrap_or_default();
        self.chain = chained(&self.chain, frame);
        self.bytes.extend_from_slice(&self.chain);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that an entry takes in the journal.
pub(super) fn entry_bytes(leaf: usize, body: usize) -> u64 {
    (FRAME_BYTES + 2 + leaf + body) as u64
}

/// Bytes that a checkpoint takes.
pub(super) fn checkpoint_bytes(note: &str) -> u64 {
    (FRAME_BYTES + note.len()) as u64
}

/// A preallocated segment waiting for its turn, so that changing segments costs a rename and not 64 MiB of zeros.
pub(super) struct Spare {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    bytes: u64,
    file: Mutex<Option<Box<dyn DiskFile>>>,
    /// Whether the last try found no room for one.
    is_refused: AtomicBool,
}

impl Spare {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, bytes: u64) -> Self {
        let (dir, file) = (dir.to_owned(), Mutex::new(None));
        Self {
            disk,
            dir,
            bytes,
            file,
            is_refused: AtomicBool::new(false),
        }
    }

    /// Whether the disk had no room for another segment when it was last asked.
    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.slot().is_some()
    }

    /// Makes the spare segment unless it is there.
    ///
    /// # Errors
    /// `StorageFull` when it would leave less room than another segment takes: the store needs some too.
    pub(super) fn prepare(&self) -> io::Result<()> {
        if self.is_ready() {
            return Ok(());
        }
        let made = self.make();
        let was_refused = self.is_refused.swap(made.is_err(), Ordering::Relaxed);
        match &made {
            Err(error) if !was_refused => tracing::warn!(
                %error, folder = %self.dir.display(), needs_bytes = 2 * self.bytes,
                "no room for another journal segment: once the present one is full, only emergencies are served"
            ),
            Ok(()) if was_refused => tracing::info!("there is room for the journal again"),
            _ => {}
        }
        made
    }

    fn make(&self) -> io::Result<()> {
        let path = self.dir.join(SPARE);
        if self.disk.exists(&path)? {
            // Why: of a spare left by an earlier run nobody knows what it holds.
            self.disk.remove(&path)?;
        }
        if self.disk.free_bytes(&self.dir)? < 2 * self.bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let file = self.disk.create(&path, self.bytes)?;
        *self.slot() = Some(file);
        Ok(())
    }

    /// Gives the spare the header and name of the segment that begins at `at`. `None` if there is no spare.
    fn take(&self, at: &Position) -> io::Result<Option<Box<dyn DiskFile>>> {
        let Some(file) = self.slot().take() else {
            return Ok(None);
        };
        // INVARIANT: header first, name second: a segment that has its name has its header.
        file.write_at(0, &header(at))?;
        file.sync()?;
        let name = self.dir.join(segment_name(at.segment));
        self.disk.rename(&self.dir.join(SPARE), &name)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(Some(file))
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Box<dyn DiskFile>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one hand that writes.
pub(super) struct Appender {
    spare: Arc<Spare>,
    file: Box<dyn DiskFile>,
    capacity: u64,
    at: Position,
}

impl Appender {
    /// Goes on at a place that [`super::reader::Reader`] found to be the end.
    pub(super) fn resume(spare: Arc<Spare>, at: Position) -> io::Result<Self> {
        let file = spare.disk.open(&spare.dir.join(segment_name(at.segment)))?;
        let capacity = file.len()?;
        // Why: a copy that was put back has holes for zeros, and then the reserve is a promise without a disk.
        if let Err(error) = file.fill_holes() {
            let folder = spare.dir.display();
            tracing::error!(%error, %folder, "the journal's room is not on the disk: emergencies may find it full too");
        }
        Ok(Self {
            spare,
            file,
            capacity,
            at,
        })
    }

    /// Where what was appended ends: segment and offset.
    pub(super) fn end(&self) -> (u32, u64) {
        (self.at.segment, self.at.offset)
    }

    /// Bytes that still fit into this segment.
    pub(super) fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.at.offset)
    }

    /// Bytes that a whole segment takes.
    pub(super) fn capacity(&self) -> u64 {
        self.spare.bytes - HEADER_BYTES
    }

    pub(super) fn has_spare(&self) -> bool {
        self.spare.is_ready()
    }

    /// An empty group that continues the chain.
    pub(super) fn group(&self) -> Group {
        Group::new(self.at.chain)
    }

    /// Writes a group that fits [`Appender::room`], once and durably.
    pub(super) fn append(&mut self, group: &Group) -> io::Result<()> {
        self.file.write_at(self.at.offset, &group.bytes)?;
        self.file.sync()?;
        self.at.offset += group.bytes.len() as u64;
        self.at.index += group.entries;
        self.at.chain = group.chain;
        Ok(())
    }

    /// Turns to the next segment; says `false` if there is none.
    pub(super) fn roll(&mut self) -> io::Result<bool> {
        let next = Position {
            segment: self.at.segment + 1,
            offset: HEADER_BYTES,
            ..self.at
        };
        let Some(file) = self.spare.take(&next)? else {
            return Ok(false);
        };
        self.file = file;
        self.capacity = self.spare.bytes;
        self.at = next;
        Ok(true)
    }
}

/// Makes the first segment of a log, with its first entry; it has its name only once it has both.
pub(super) fn create(spare: &Spare, origin: &str, leaf: &str) -> io::Result<()> {
    let chain = first_chain(origin);
    let (segment, offset, index) = (0, HEADER_BYTES, 0);
    let at = Position {
        segment,
        offset,
        index,
        chain,
    };
    let mut group = Group::new(chain);
    group.entry(leaf, &[]);
    spare.prepare()?;
    if let Some(file) = &*spare.slot() {
        file.write_at(offset, group.bytes())?;
    }
    spare.take(&at)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(())
}

/// Whether a ledger has ever begun in that folder.
pub(super) fn exists(disk: &dyn Disk, dir: &Path) -> io::Result<bool> {
    Ok(disk.exists(dir)? && disk.exists(&dir.join(segment_name(0)))?)
}

/// Overwrites what stands behind `end` in its segment with zeros, writes what stands between `from` and `end` once
/// more, and syncs. Why once more: after a failed sync the page cache may show bytes the disk never got; they must
/// be dirty again to get there, and nothing may be signed before they have.
pub(super) fn repair(
    disk: &dyn Disk,
    dir: &Path,
    from: &Position,
    end: &Position,
    rest: usize,
) -> io::Result<()> {
    let file = disk.open(&dir.join(segment_name(end.segment)))?;
    if rest > 0 {
        file.write_at(end.offset, &vec![0; rest])?;
    }
    if from.segment == end.segment && from.offset < end.offset {
        let length = usize::try_from(end.offset - from.offset).unwrap_or(0);
        let mut tail = vec![0; length];
        file.read_exact_at(from.offset, &mut tail)?;
        file.write_at(from.offset, &tail)?;
    }
    file.sync()
}
