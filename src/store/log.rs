//! The end of the log, where one thread appends. Frames gather in memory, go out in one write, and are
//! durable after `sync`. A place is written once: opening never appends behind old frames but begins a
//! new segment. Any error here leaves the log unusable until it is opened again; nothing is retried.

use super::frame::{self, Kind};
use super::segments::{Before, HEADER_BYTES, Segments};
use super::stamp::{Position, Stamp};
use crate::disk::DiskFile;
use std::io;
use std::sync::Arc;

const BUFFER_BYTES_KEPT: usize = 1 << 20;

pub(super) struct Log {
    segments: Arc<Segments>,
    stamp: Stamp,
    segment_bytes: u64,
    segment: u32,
    file: Arc<dyn DiskFile>,
    /// Bytes of the segment that were handed to the disk.
    written: u64,
    /// Bytes of the segment that are durable.
    durable: u64,
    /// Frames that follow `written`.
    buffer: Vec<u8>,
}

impl Log {
    /// Appends behind the header of a segment that has nothing else.
    pub(super) fn begin(
        segments: Arc<Segments>,
        stamp: Stamp,
        segment_bytes: u64,
        segment: u32,
    ) -> io::Result<Self> {
        let file = segments.file(segment)?;
        let (written, durable, buffer) = (HEADER_BYTES, HEADER_BYTES, Vec::new());
        Ok(Self {
            segments,
            stamp,
            segment_bytes,
            segment,
            file,
            written,
            durable,
            buffer,
        })
    }

    /// Where the next frame will stand.
    pub(super) fn end(&self) -> Position {
        Position {
            segment: self.segment,
            offset: self.written + self.buffer.len() as u64,
        }
    }

    /// How much of the current segment is durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Goes on to a new segment if a frame with such a payload does not fit into this one;
    /// `seq` is the last commit's number.
    pub(super) fn make_room(&mut self, payload_bytes: usize, seq: u64) -> io::Result<()> {
        let next = self.end().offset + frame::OVERHEAD + payload_bytes as u64;
        if next <= self.segment_bytes || self.end().offset == HEADER_BYTES {
            return Ok(());
        }
        // INVARIANT: a segment is durable up to its end before the header that promises this end exists.
        self.sync()?;
        let segment = self
            .segment
            .checked_add(1)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        self.file = self.segments.create(
            &self.stamp,
            segment,
            Before {
                end: self.written,
                seq,
            },
        )?;
        (self.segment, self.written, self.durable) = (segment, HEADER_BYTES, HEADER_BYTES);
        Ok(())
    }

    /// Appends a frame in memory; the caller made room for it.
    pub(super) fn append(&mut self, kind: Kind, payload: &[u8]) -> io::Result<Position> {
        let at = self.end();
        frame::append(&self.stamp, &mut self.buffer, at, kind, payload)?;
        Ok(at)
    }

    /// Hands what was gathered to the disk, so that it can be read.
    pub(super) fn write(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(self.written, &self.buffer)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
            self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        }
        Ok(())
    }

    /// Makes everything appended so far durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        if self.durable < self.written {
            self.file.sync()?;
            self.durable = self.written;
        }
        Ok(())
    }
}
