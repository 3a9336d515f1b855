//! The journal: preallocated segment files of frames, each chained to the one before by a truncated SHA-256.
//! It is the ledger's only truth; the tree, the tiles and every receipt are derived from it.
//! When [`Appender::append`] returns `Ok`, the group survives power loss on media that honour fdatasync.
//! Never here: a retry after an error. After one, nobody knows what the disk holds until the ledger is reopened.
//!
//! Segment: header (64 bytes: magic with version ‖ number u32 ‖ first index u64 ‖ chain ‖ zeros ‖ check), frames, zeros.
//! Frame: length u32 ‖ kind u8 ‖ payload ‖ SHA-256(chain ‖ length ‖ kind ‖ payload)[:8], which is the next chain.
//! Payload of an entry (kind 1): leaf length u16 ‖ leaf ‖ sealed body; of a checkpoint (kind 2): the signed note.

use super::leaf::{BODY_BYTES_MAX, LEAF_BYTES_MAX};
use crate::disk::{Disk, DiskFile};
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 8] = b"SALLYJL\x01";
pub(super) const HEADER_BYTES: u64 = 64;
/// Length, kind and check.
const FRAME_BYTES: usize = 13;
const ENTRY: u8 = 1;
const CHECKPOINT: u8 = 2;
const PAYLOAD_BYTES_MAX: usize = 2 + LEAF_BYTES_MAX + BODY_BYTES_MAX;
const WINDOW_BYTES: usize = 1 << 20;
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

fn chained(chain: &[u8], bytes: &[u8]) -> Chain {
    let hash = Sha256::new().chain_update(chain).chain_update(bytes);
    let hash: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = hash;
    [a, b, c, d, e, f, g, h]
}

fn header(at: &Position) -> Vec<u8> {
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

fn parse_header(bytes: &[u8; HEADER_BYTES as usize]) -> Option<Position> {
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
}

impl Spare {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, bytes: u64) -> Self {
        let (dir, file) = (dir.to_owned(), Mutex::new(None));
        Self {
            disk,
            dir,
            bytes,
            file,
        }
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
    /// Goes on at a place that [`Reader`] found to be the end.
    pub(super) fn resume(spare: Arc<Spare>, at: Position) -> io::Result<Self> {
        let file = spare.disk.open(&spare.dir.join(segment_name(at.segment)))?;
        let capacity = file.len()?;
        Ok(Self {
            spare,
            file,
            capacity,
            at,
        })
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

/// What a step of the [`Reader`] came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// An entry: [`Reader::leaf`] and [`Reader::body`].
    Entry,
    /// A checkpoint: [`Reader::note`].
    Checkpoint,
    /// Zeros where a frame would begin, and no further segment.
    End,
    /// Something that is not the next frame.
    Torn,
}

/// Walks the frames in order and believes none that does not continue the chain.
pub(super) struct Reader {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Box<dyn DiskFile>,
    at: Position,
    began: Position,
    window: Vec<u8>,
    window_at: u64,
    payload: Range<usize>,
    leaf: Range<usize>,
}

impl Reader {
    /// At the beginning of the log `origin`; `None` if the first segment is not that log's.
    pub(super) fn start(disk: Arc<dyn Disk>, dir: &Path, origin: &str) -> io::Result<Option<Self>> {
        let at = Position {
            segment: 0,
            offset: 0,
            index: 0,
            chain: first_chain(origin),
        };
        let mut reader = Self::resume(disk, dir, at)?;
        let begins = reader.enter_segment()?;
        Ok(begins.then_some(reader))
    }

    /// At the beginning of the segment that holds entry `index`; `None` if no segment's header says so.
    pub(super) fn near(disk: Arc<dyn Disk>, dir: &Path, index: u64) -> io::Result<Option<Self>> {
        let mut found = None;
        for segment in 0.. {
            let path = dir.join(segment_name(segment));
            if !disk.exists(&path)? {
                break;
            }
            let mut bytes = [0; HEADER_BYTES as usize];
            disk.open(&path)?.read_exact_at(0, &mut bytes)?;
            match parse_header(&bytes).filter(|at| at.segment == segment) {
                Some(at) if at.index <= index => found = Some(at),
                Some(_) => break,
                None => return Ok(None),
            }
        }
        found.map(|at| Self::resume(disk, dir, at)).transpose()
    }

    /// At a place another reader or the appender was.
    pub(super) fn resume(disk: Arc<dyn Disk>, dir: &Path, at: Position) -> io::Result<Self> {
        let file = disk.open(&dir.join(segment_name(at.segment)))?;
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            file,
            at,
            began: at,
            window: Vec::new(),
            window_at: 0,
            payload: 0..0,
            leaf: 0..0,
        })
    }

    pub(super) fn position(&self) -> Position {
        self.at
    }

    /// Where the frame last stepped on begins.
    pub(super) fn frame_began(&self) -> Position {
        self.began
    }

    /// Forgets what was read ahead, for the appender may have written there since; and opens the segment by its
    /// name once more, so that what is read is what the next start will find.
    pub(super) fn refresh(&mut self) -> io::Result<()> {
        self.window.clear();
        let name = segment_name(self.at.segment);
        self.file = self.disk.open(&self.dir.join(name))?;
        Ok(())
    }

    pub(super) fn step(&mut self) -> io::Result<Step> {
        loop {
            let Some((length, kind)) = self.frame_head()? else {
                return match self.next_segment()? {
                    Some(true) => continue,
                    Some(false) => Ok(Step::Torn),
                    None => Ok(Step::End),
                };
            };
            self.began = self.at;
            return self.frame(length, kind);
        }
    }

    /// The leaf of the entry stepped on, if it is text.
    pub(super) fn leaf(&self) -> Option<&str> {
        std::str::from_utf8(self.window.get(self.leaf.clone())?).ok()
    }

    /// The sealed body of the entry stepped on.
    pub(super) fn body(&self) -> &[u8] {
        let body = self.leaf.end..self.payload.end;
        self.window.get(body).unwrap_or_default()
    }

    /// The checkpoint stepped on.
    pub(super) fn note(&self) -> Option<&str> {
        std::str::from_utf8(self.window.get(self.payload.clone())?).ok()
    }

    /// Everything in this segment from here on, zeros at the end left out.
    pub(super) fn rest(&self) -> io::Result<Vec<u8>> {
        let length = self.file.len()?.saturating_sub(self.at.offset);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.file.read_exact_at(self.at.offset, &mut bytes)?;
        let used = bytes.iter().rposition(|byte| *byte != 0);
        bytes.truncate(used.map_or(0, |last| last + 1));
        Ok(bytes)
    }

    fn frame_head(&mut self) -> io::Result<Option<(usize, u8)>> {
        let head = self.ensure(5)?;
        let Some(&[a, b, c, d, kind]) = head.and_then(|at| self.window.get(at..at + 5)) else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        let zero = length == 0 && kind == 0;
        Ok((!zero).then_some((usize::try_from(length).unwrap_or(usize::MAX), kind)))
    }

    fn frame(&mut self, length: usize, kind: u8) -> io::Result<Step> {
        if length == 0 || length > PAYLOAD_BYTES_MAX {
            return Ok(Step::Torn);
        }
        let Some(start) = self.ensure(length + FRAME_BYTES)? else {
            return Ok(Step::Torn);
        };
        let payload = start + 5..start + 5 + length;
        let frame = self.window.get(start..payload.end).unwrap_or_default();
        let chain = chained(&self.at.chain, frame);
        if self.window.get(payload.end..payload.end + 8) != Some(&chain[..]) {
            return Ok(Step::Torn);
        }
        let step = match kind {
            ENTRY => {
                let Some(&[a, b]) = self.window.get(payload.start..payload.start + 2) else {
                    return Ok(Step::Torn);
                };
                let leaf = payload.start + 2;
                self.leaf = leaf..leaf + usize::from(u16::from_be_bytes([a, b]));
                self.at.index += 1;
                Step::Entry
            }
            CHECKPOINT => Step::Checkpoint,
            _ => return Ok(Step::Torn),
        };
        if step == Step::Entry && self.leaf.end > payload.end {
            return Ok(Step::Torn);
        }
        self.payload = payload;
        self.at.offset += (length + FRAME_BYTES) as u64;
        self.at.chain = chain;
        Ok(step)
    }

    /// Reads so that `length` bytes from here stand in the window; says where, or `None` if the segment has fewer.
    fn ensure(&mut self, length: usize) -> io::Result<Option<usize>> {
        let held = self.at.offset.checked_sub(self.window_at);
        let held = held.and_then(|at| usize::try_from(at).ok());
        if let Some(at) = held.filter(|at| at + length <= self.window.len()) {
            return Ok(Some(at));
        }
        self.window.resize(length.max(WINDOW_BYTES), 0);
        let read = self.file.read_at(self.at.offset, &mut self.window)?;
        self.window.truncate(read);
        self.window_at = self.at.offset;
        Ok((read >= length).then_some(0))
    }

    /// `Some(true)`: now in the next segment; `Some(false)`: there is one that does not continue this; `None`: there is none.
    fn next_segment(&mut self) -> io::Result<Option<bool>> {
        let next = self.dir.join(segment_name(self.at.segment + 1));
        if !self.disk.exists(&next)? {
            return Ok(None);
        }
        let (file, at) = (self.disk.open(&next)?, self.at);
        let here = std::mem::replace(&mut self.file, file);
        self.at.segment += 1;
        if self.enter_segment()? {
            return Ok(Some(true));
        }
        // Why: whoever looks at the rest must look at the segment that ended, not at the one that does not fit.
        self.file = here;
        self.at = at;
        Ok(Some(false))
    }

    fn enter_segment(&mut self) -> io::Result<bool> {
        self.window.clear();
        let mut found = [0; HEADER_BYTES as usize];
        let read = self.file.read_at(0, &mut found)?;
        self.at.offset = HEADER_BYTES;
        Ok(read == found.len() && found[..] == header(&self.at)[..])
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
