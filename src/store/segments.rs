//! The folder of segment files: their names, their headers, and the handles by which blobs are read.
//!
//! A segment appears under its name only with a durable header, which says where the one before it ends:
//! from then on that end is a promise, and a shorter segment is damage. Only `log.rs` writes behind a header.

use super::frame::{self, Kind};
use super::stamp::{Position, Stamp, StoreId, take};
use super::{BLOB_BYTES_MAX, BlobRef, Macs, StoreError};
use crate::disk::{Disk, DiskFile};
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

pub(super) const FIRST: u32 = 1;
const FORMAT: u8 = 1;
const HEADER_PAYLOAD_BYTES: usize = 37;
/// Where a segment's first frame after the header stands.
pub(super) const HEADER_BYTES: u64 = HEADER_PAYLOAD_BYTES as u64 + frame::OVERHEAD;
/// More handles than this are not kept open.
const HANDLES_MAX: usize = 512;

/// What a segment's first frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store: StoreId,
    pub(super) before: Before,
}

/// What a segment's header promises of all that stands before it; zeros in the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Before {
    /// Where the segment before ends.
    pub(super) end: u64,
    /// The last commit's number.
    pub(super) seq: u64,
}

/// The segments of one store.
pub(super) struct Segments {
    pub(super) disk: Arc<dyn Disk>,
    dir: PathBuf,
    handles: RwLock<HashMap<u32, Arc<dyn DiskFile>>>,
}

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self {
            disk,
            dir,
            handles: RwLock::default(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether so many bytes may be written and still leave this much free.
    pub(super) fn has_room(&self, bytes: usize, floor_bytes: u64) -> Result<(), StoreError> {
        match self.disk.free_bytes(&self.dir) {
            Ok(free) if free.saturating_sub(bytes as u64) >= floor_bytes => Ok(()),
            Ok(_) => Err(StoreError::Full),
            Err(_) => Err(StoreError::Retryable),
        }
    }

    fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(format!("{segment:08}.seg"))
    }

    /// The numbers there are, ascending.
    pub(super) fn numbers(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for name in self.disk.list(&self.dir)? {
            if let Some(number) = name.strip_suffix(".seg") {
                numbers.push(
                    number
                        .parse()
                        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?,
                );
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Each file there is, and how long it is now.
    pub(super) fn lengths(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let measured = |number| {
            let path = self.path(number);
            let length = self.disk.open(&path)?.len()?;
            Ok((path, length))
        };
        self.numbers()?.into_iter().map(measured).collect()
    }

    /// Makes a segment with its header, durable by content and by name.
    pub(super) fn create(
        &self,
        stamp: &Stamp,
        segment: u32,
        before: Before,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let mut payload = Vec::with_capacity(HEADER_PAYLOAD_BYTES);
        payload.push(FORMAT);
        payload.extend_from_slice(stamp.store());
        payload.extend_from_slice(&segment.to_be_bytes());
        payload.extend_from_slice(&before.end.to_be_bytes());
        payload.extend_from_slice(&before.seq.to_be_bytes());
        let mut bytes = Vec::new();
        frame::append(
            stamp,
            &mut bytes,
            Position { segment, offset: 0 },
            Kind::Header,
            &payload,
        )?;

        // Why another name first: what is found under a segment's name always has its whole header.
        let half = self.dir.join("new");
        if self.disk.exists(&half)? {
            self.disk.remove(&half)?;
        }
        let file: Arc<dyn DiskFile> = Arc::from(self.disk.create(&half, 0)?);
        file.write_at(0, &bytes)?;
        file.sync()?;
        self.disk.rename(&half, &self.path(segment))?;
        self.disk.sync_dir(&self.dir)?;
        self.keep(segment, &file);
        Ok(file)
    }

    /// The header of a segment, or `None` if it is damaged, foreign, or made with another key.
    pub(super) fn header(&self, macs: &Arc<dyn Macs>, segment: u32) -> io::Result<Option<Header>> {
        let file = self.file(segment)?;
        let at = Position { segment, offset: 0 };
        let mut first = vec![0; HEADER_BYTES as usize];
        if file.read_at(0, &mut first)? < first.len() {
            return Ok(None);
        }
        Ok(parse_header(macs, at, &first))
    }

    /// The handle of a segment.
    pub(super) fn file(&self, segment: u32) -> io::Result<Arc<dyn DiskFile>> {
        let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = handles.get(&segment) {
            return Ok(file.clone());
        }
        drop(handles);
        let file: Arc<dyn DiskFile> = Arc::from(self.disk.open(&self.path(segment))?);
        self.keep(segment, &file);
        Ok(file)
    }

    fn keep(&self, segment: u32, file: &Arc<dyn DiskFile>) {
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        if handles.len() >= HANDLES_MAX {
            // Why any: the map's order is random, and a wrong guess costs one open.
            let any = handles.keys().next().copied();
            any.map(|other| handles.remove(&other));
        }
        handles.insert(segment, file.clone());
    }

    /// The bytes of these blobs, in this order, if they are the ones that were put there. Those that stand close
    /// together, as the records of one deposit do, are read at once.
    pub(super) fn blobs(&self, stamp: &Stamp, blobs: &[BlobRef]) -> Result<Vec<Bytes>, StoreError> {
        let mut order = blobs
            .iter()
            .enumerate()
            .map(|(place, blob)| Extent::of(place, *blob))
            .collect::<Result<Vec<_>, _>>()?;
        order.sort_unstable_by_key(|extent| (extent.blob.segment, extent.blob.offset));
        let mut out = vec![Bytes::new(); blobs.len()];
        for run in order.chunk_by(Extent::is_near) {
            for part in within(run, RUN_BYTES_MAX) {
                self.run(stamp, part, &mut out)?;
            }
        }
        Ok(out)
    }

    /// One read of what stands from the first of these to the last; each frame is checked for itself.
    fn run(&self, stamp: &Stamp, run: &[Extent], out: &mut [Bytes]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(());
        };
        let (segment, from) = (first.blob.segment, first.blob.offset);
        let file = self.file(segment).map_err(|error| read_error(&error))?;
        let length = usize::try_from(last.end - from).map_err(|_| StoreError::Corrupt)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(from, &mut bytes)
            .map_err(|error| read_error(&error))?;
        let bytes = Bytes::from(bytes);
        for extent in run {
            let place = |offset: u64| usize::try_from(offset - from).unwrap_or(usize::MAX);
            let (start, end) = (place(extent.blob.offset), place(extent.end));
            let at = Position {
                segment,
                offset: extent.blob.offset,
            };
            let frame = bytes.get(start..end).ok_or(StoreError::Corrupt)?;
            frame::check(stamp, at, extent.head(), frame).ok_or(StoreError::Corrupt)?;
            let payload = start + frame::HEAD_BYTES;
            let slot = out.get_mut(extent.place).ok_or(StoreError::Corrupt)?;
            *slot = bytes.slice(payload..payload + extent.blob.length as usize);
        }
        Ok(())
    }
}

/// Blobs further apart than this are read one by one.
const GAP_BYTES_MAX: u64 = 4 * 1024;
/// No more is read at once, unless one blob alone is larger.
const RUN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Where a blob's frame stands, and where among the answers it belongs.
#[derive(Clone, Copy)]
struct Extent {
    place: usize,
    blob: BlobRef,
    /// Where its frame ends; exclusive.
    end: u64,
}

impl Extent {
    fn of(place: usize, blob: BlobRef) -> Result<Self, StoreError> {
        if blob.length as usize > BLOB_BYTES_MAX {
            return Err(StoreError::Corrupt);
        }
        let head = frame::Head {
            kind: Kind::Blob,
            length: blob.length,
        };
        let end = blob.offset.checked_add(head.frame_bytes());
        let end = end.ok_or(StoreError::Corrupt)?;
        Ok(Self { place, blob, end })
    }

    const fn head(&self) -> frame::Head {
        frame::Head {
            kind: Kind::Blob,
            length: self.blob.length,
        }
    }

    fn is_near(&self, next: &Self) -> bool {
        self.blob.segment == next.blob.segment
            && next.blob.offset <= self.end.saturating_add(GAP_BYTES_MAX)
    }
}

/// A run cut where it would become longer than `bytes`.
fn within(run: &[Extent], bytes: u64) -> impl Iterator<Item = &[Extent]> {
    let mut from = run.first().map_or(0, |first| first.blob.offset);
    run.chunk_by(move |_, next| {
        let fits = next.end - from <= bytes;
        if !fits {
            from = next.blob.offset;
        }
        fits
    })
}

/// A reference comes from an authenticated row: what it names and is not there was lost or taken away.
fn read_error(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            StoreError::Corrupt
        }
        _ => StoreError::Retryable,
    }
}

fn parse_header(macs: &Arc<dyn Macs>, at: Position, frame: &[u8]) -> Option<Header> {
    let head =
        frame::Head::parse(*frame.first_chunk()?).filter(|head| head.kind == Kind::Header)?;
    let mut payload = frame.get(frame::HEAD_BYTES..)?;
    let [format] = take(&mut payload)?;
    let store = take(&mut payload)?;
    let segment = u32::from_be_bytes(take(&mut payload)?);
    let end = u64::from_be_bytes(take(&mut payload)?);
    let seq = u64::from_be_bytes(take(&mut payload)?);
    let before = Before { end, seq };
    // Why now: the code can only be checked with the store's id, which stands within.
    frame::check(&Stamp::new(macs.clone(), store), at, head, frame)?;
    (format == FORMAT && segment == at.segment).then_some(Header { store, before })
}
