//! The frames a segment is made of: magic 4 ‖ kind 1 ‖ length 4 ‖ payload ‖ code 16.
//! Reading trusts nothing: a frame is whole and in its place, or it is not there.
//! An `io::Error` means the disk would not read; `None` means that what it read is no frame of ours.

use super::stamp::{CODE_BYTES, Position, Stamp, same};
use crate::disk::DiskFile;
use std::io;

/// Why 0xf5: it occurs neither in UTF-8 nor in base64url, so that sealed records do not look like frames.
pub(super) const MAGIC: [u8; 4] = [0xf5, b'S', b'P', b'1'];
pub(super) const HEAD_BYTES: usize = 9;
/// What a frame takes beside its payload.
pub(super) const OVERHEAD: u64 = (HEAD_BYTES + CODE_BYTES) as u64;
/// Above every payload there is: limits of blobs and commits plus the fixed parts.
const PAYLOAD_BYTES_MAX: u32 = 33 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Header,
    Blob,
    Commit,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Header => 1,
            Self::Blob => 2,
            Self::Commit => 3,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Header),
            2 => Some(Self::Blob),
            3 => Some(Self::Commit),
            _ => None,
        }
    }
}

/// What a frame's first bytes claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) length: u32,
}

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD_BYTES]) -> Option<Self> {
        let [m0, m1, m2, m3, kind, l0, l1, l2, l3] = bytes;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        let is_ours = [m0, m1, m2, m3] == MAGIC && length <= PAYLOAD_BYTES_MAX;
        Kind::of(kind)
            .filter(|_| is_ours)
            .map(|kind| Self { kind, length })
    }

    fn bytes(self) -> [u8; HEAD_BYTES] {
        let ([m0, m1, m2, m3], [l0, l1, l2, l3]) = (MAGIC, self.length.to_be_bytes());
        [m0, m1, m2, m3, self.kind.code(), l0, l1, l2, l3]
    }

    /// The whole frame's length.
    pub(super) fn frame_bytes(self) -> u64 {
        OVERHEAD + u64::from(self.length)
    }
}

/// Appends a frame to `into`; `at` is where its first byte will stand.
pub(super) fn append(
    stamp: &Stamp,
    into: &mut Vec<u8>,
    at: Position,
    kind: Kind,
    payload: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(payload.len())
        .ok()
        .filter(|length| *length <= PAYLOAD_BYTES_MAX);
    let head = Head {
        kind,
        length: length.ok_or(io::ErrorKind::FileTooLarge)?,
    }
    .bytes();
    into.extend_from_slice(&head);
    into.extend_from_slice(payload);
    into.extend_from_slice(&stamp.frame(at, &head, payload));
    Ok(())
}

/// The head at `at`, if a whole frame of that length fits before `end`.
pub(super) fn read_head(file: &dyn DiskFile, at: Position, end: u64) -> io::Result<Option<Head>> {
    let mut bytes = [0; HEAD_BYTES];
    if file.read_at(at.offset, &mut bytes)? < HEAD_BYTES {
        return Ok(None);
    }
    let fits = |head: &Head| {
        at.offset
            .checked_add(head.frame_bytes())
            .is_some_and(|next| next <= end)
    };
    Ok(Head::parse(bytes).filter(fits))
}

/// The frame at `at` as its head claims it: `into` gets the payload and is `None` if the code does not match.
pub(super) fn read(
    stamp: &Stamp,
    file: &dyn DiskFile,
    at: Position,
    head: Head,
) -> io::Result<Option<Vec<u8>>> {
    let mut frame = vec![0; usize::try_from(head.frame_bytes()).map_err(io::Error::other)?];
    if file.read_at(at.offset, &mut frame)? < frame.len() {
        return Ok(None);
    }
    Ok(open(stamp, at, head, frame))
}

/// Takes the payload out of a whole frame's bytes.
pub(super) fn open(stamp: &Stamp, at: Position, head: Head, mut frame: Vec<u8>) -> Option<Vec<u8>> {
    check(stamp, at, head, &frame)?;
    frame.truncate(frame.len().checked_sub(CODE_BYTES)?);
    frame.drain(..HEAD_BYTES);
    Some(frame)
}

/// The payload within a whole frame's bytes, if head and code are right.
pub(super) fn check<'a>(
    stamp: &Stamp,
    at: Position,
    head: Head,
    frame: &'a [u8],
) -> Option<&'a [u8]> {
    let (claimed, rest) = frame.split_first_chunk::<HEAD_BYTES>()?;
    let (payload, code) = rest.split_last_chunk::<CODE_BYTES>()?;
    let is_right = *claimed == head.bytes() && same(&stamp.frame(at, claimed, payload), code);
    is_right.then_some(payload)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;
    use crate::disk::{Disk, TestDisk};
    use crate::store::memory::TestMacs;
    use std::path::Path;
    use std::sync::Arc;

    const AT: Position = Position {
        segment: 3,
        offset: 40,
    };

    fn found(bytes: &[u8], at: Position) -> Option<Vec<u8>> {
        let file = TestDisk::new().create(Path::new("/f"), 0).unwrap();
        file.write_at(at.offset, bytes).unwrap();
        let stamp = Stamp::new(Arc::new(TestMacs), [9; 16]);
        let head = read_head(&*file, at, file.len().unwrap()).unwrap()?;
        read(&stamp, &*file, at, head).unwrap()
    }

    #[test]
    fn a_frame_is_whole_and_in_its_place_or_not_there() {
        let stamp = Stamp::new(Arc::new(TestMacs), [9; 16]);
        let mut frame = Vec::new();
        append(&stamp, &mut frame, AT, Kind::Blob, b"payload").unwrap();
        assert_eq!(frame.len() as u64, OVERHEAD + 7);
        assert_eq!(found(&frame, AT).unwrap(), b"payload");
        assert!(found(&frame, Position { offset: 41, ..AT }).is_none());
        assert!(found(&frame, Position { segment: 4, ..AT }).is_none());
        for at in 0..frame.len() {
            let mut bad = frame.clone();
            bad[at] ^= 0x10;
            assert!(found(&bad, AT).is_none(), "byte {at}");
            assert!(found(&frame[..at], AT).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn no_head_makes_us_read_gigabytes() {
        let mut bytes = Head {
            kind: Kind::Blob,
            length: 0,
        }
        .bytes();
        assert!(Head::parse(bytes).is_some());
        bytes[5..].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Head::parse(bytes).is_none());
    }
}
