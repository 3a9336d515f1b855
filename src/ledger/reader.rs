//! Reading the journal: frame by frame, in order, believing none that does not continue the chain.
//! Used at reopening, by the housekeeper behind the writer, and by whoever looks for old entries.
//! Never here: writing, or a judgement whether a journal that ends here should end here ([`super::recover`] has that).

use super::ReadError;
use super::journal::{
    CHECKPOINT, ENTRY, FRAME_BYTES, HEADER_BYTES, PAYLOAD_BYTES_MAX, Position, chained,
    first_chain, header, parse_header, segment_name,
};
use super::leaf::Leaf;
use crate::disk::{Disk, DiskFile};
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Read ahead.
const WINDOW_BYTES: usize = 1 << 20;

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

/// Shows the entries of that range in a journal.
pub(super) fn scan(
    disk: Arc<dyn Disk>,
    journal: &Path,
    range: Range<u64>,
    visit: &mut dyn FnMut(&Leaf<'_>, &[u8]) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    if range.is_empty() {
        return Ok(());
    }
    let mut reader = Reader::near(disk, journal, range.start)?.ok_or(ReadError::Damaged)?;
    while reader.position().index < range.end {
        let index = reader.position().index;
        match reader.step()? {
            Step::Checkpoint => continue,
            Step::Entry if index < range.start => continue,
            Step::Entry => {}
            Step::End | Step::Torn => return Err(ReadError::Damaged),
        }
        let leaf = reader.leaf().ok_or(ReadError::Damaged)?;
        if visit(&Leaf::new(index, leaf), reader.body()).is_break() {
            break;
        }
    }
    Ok(())
}
