//! Reading the log back, frame by frame, and applying its commits to an index.
//!
//! A sealed segment must be whole up to the end its successor's header promises. The last one may end torn,
//! unless something behind the tear says that the torn part had been synced: that is rot, not a power cut.
//! Commits are numbered without gaps, so none can be skipped unnoticed.

use super::commit::Commit;
use super::frame::{self, Kind, MAGIC};
use super::index::{BATCH_KEYS_MAX, Index, Mark, Staged};
use super::recovery::{Found, OpenError};
use super::segments::{Before, FIRST, HEADER_BYTES, Segments};
use super::stamp::{Position, Stamp};
use crate::disk::DiskFile;
use std::io;
use std::sync::Arc;

/// Applies every commit behind `from`; says where the log ends and how many there were.
pub(super) fn replay(
    segments: &Segments,
    found: &Found,
    index: &dyn Index,
    from: Mark,
) -> Result<(Mark, u64), OpenError> {
    let last = FIRST + u32::try_from(found.sealed.len()).unwrap_or(u32::MAX - FIRST);
    let mut mark = from;
    let mut staged = Staged::new(index, &found.stamp);
    if from.at.segment > last {
        return Err(OpenError::Shortened);
    }
    for (segment, sealed) in (FIRST..).zip(found.sealed.iter().copied().map(Some).chain([None])) {
        if segment < from.at.segment {
            continue;
        }
        let is_first = segment == from.at.segment;
        let offset = if is_first {
            from.at.offset
        } else {
            HEADER_BYTES
        };
        let mut frames = Frames::new(segments, &found.stamp, Position { segment, offset }, sealed)?;
        while let Some(commit) = frames.next_commit()? {
            if commit.seq != mark.seq + 1 {
                return Err(frames.damaged());
            }
            mark = Mark {
                at: frames.at,
                seq: commit.seq,
            };
            staged.add(commit)?;
            if staged.len() >= BATCH_KEYS_MAX * 3 / 4 {
                std::mem::replace(&mut staged, Staged::new(index, &found.stamp)).apply(mark)?;
            }
        }
        mark.at = frames.at;
        // Why: a blob's head is not authenticated when it is skipped, and a false one might hide commits.
        if sealed.is_some_and(|sealed| sealed.seq != mark.seq) {
            return Err(frames.damaged());
        }
    }
    staged.apply(mark)?;
    Ok((mark, mark.seq - from.seq))
}

/// The frames of one segment, in order.
struct Frames<'a> {
    stamp: &'a Stamp,
    file: Arc<dyn DiskFile>,
    at: Position,
    end: u64,
    is_sealed: bool,
}

impl<'a> Frames<'a> {
    fn new(
        segments: &Segments,
        stamp: &'a Stamp,
        at: Position,
        sealed: Option<Before>,
    ) -> Result<Self, OpenError> {
        let file = segments.file(at.segment)?;
        let length = file.len()?;
        let end = sealed.map_or(length, |sealed| sealed.end);
        let frames = Self {
            stamp,
            file,
            at,
            end,
            is_sealed: sealed.is_some(),
        };
        if frames.is_sealed && (end > length || at.offset > end) {
            return Err(frames.damaged());
        }
        if at.offset > length {
            Err(OpenError::Shortened)
        } else {
            Ok(frames)
        }
    }

    fn damaged(&self) -> OpenError {
        OpenError::Corrupt {
            segment: self.at.segment,
            offset: self.at.offset,
        }
    }

    /// The next commit, or `None` at the end of the segment.
    fn next_commit(&mut self) -> Result<Option<Commit>, OpenError> {
        while self.at.offset < self.end {
            let head = frame::read_head(&*self.file, self.at, self.end)?;
            let Some(head) = head.filter(|head| head.kind != Kind::Header) else {
                return self.torn();
            };
            let next = self.at.offset + head.frame_bytes();
            // Why: a sealed segment was synced as a whole; reading all its blobs would take hours, and whoever
            // asks for a damaged one is told. In the last segment a torn blob ends the log.
            if head.kind == Kind::Commit || !self.is_sealed {
                let Some(payload) = frame::read(self.stamp, &*self.file, self.at, head)? else {
                    return self.torn();
                };
                if head.kind == Kind::Commit {
                    let commit = Commit::parse(&payload).ok_or(self.damaged())?;
                    self.at.offset = next;
                    return Ok(Some(commit));
                }
            }
            self.at.offset = next;
        }
        Ok(None)
    }

    /// The frame at `at` is not whole: fine where writing was interrupted, damage anywhere else.
    fn torn(&mut self) -> Result<Option<Commit>, OpenError> {
        if self.is_sealed || self.was_synced_here()? {
            return Err(self.damaged());
        }
        tracing::warn!(
            segment = self.at.segment,
            offset = self.at.offset,
            "the log's last segment ends torn"
        );
        self.end = self.at.offset;
        Ok(None)
    }

    /// Whether a later commit says that its segment had been synced beyond this place.
    fn was_synced_here(&self) -> io::Result<bool> {
        let rest = usize::try_from(self.end - self.at.offset).map_err(io::Error::other)?;
        let mut tail = vec![0; rest];
        let read = self.file.read_at(self.at.offset, &mut tail)?;
        tail.truncate(read);
        for (distance, window) in (0..).zip(tail.windows(MAGIC.len())) {
            let at = Position {
                offset: self.at.offset + distance,
                ..self.at
            };
            if window != MAGIC {
                continue;
            }
            let Some(head) = frame::read_head(&*self.file, at, self.end)?
                .filter(|head| head.kind == Kind::Commit)
            else {
                continue;
            };
            let commit = frame::read(self.stamp, &*self.file, at, head)?
                .and_then(|payload| Commit::parse(&payload));
            if commit.is_some_and(|commit| commit.durable > self.at.offset) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
