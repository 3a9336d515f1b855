//! Opening: decide what the log holds, bring the index up to it, begin a new segment.
//!
//! The index is caught up from the checkpoint, or built anew from the first segment. Whatever cannot be
//! explained refuses to open: [`OpenError::Corrupt`] needs a backup, [`OpenError::Shortened`] a person's
//! decision to rebuild.

use super::Macs;
use super::checkpoint::{self, Checkpoint};
use super::index::{Index, IndexBroken, IndexPlace, Mark, mark_of};
use super::replay::replay;
use super::segments::{Before, FIRST, HEADER_BYTES, Header, Segments};
use super::stamp::{Position, Stamp};
use crate::disk::DiskFile;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Why a store was not opened. Nothing was changed that had been acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store in that folder; `open` never makes one.
    #[error("there is no store in that folder")]
    Missing,
    /// Another process, or another handle of this one, has it open.
    #[error("the store is open elsewhere")]
    Locked,
    /// The log is damaged there, or the key of its codes is another one.
    #[error(
        "segment {segment} of the store is damaged at byte {offset}, or belongs to another key"
    )]
    Corrupt {
        /// The number in the file's name.
        segment: u32,
        /// The first byte that cannot be explained.
        offset: u64,
    },
    /// The log is shorter than it was: acknowledged commits are missing. `rebuild` accepts what is left.
    #[error("the store's log ends before commits that were acknowledged")]
    Shortened,
    /// The index works neither as found nor made anew.
    #[error("the index cannot be built")]
    Index,
    /// The disk does not read or write.
    #[error("the disk does not do it: {0}")]
    Disk(#[from] io::Error),
}

impl From<IndexBroken> for OpenError {
    fn from(_: IndexBroken) -> Self {
        Self::Index
    }
}

/// What opening had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Commits that were applied to the index again.
    pub commits_replayed: u64,
    /// Whether the index was made anew from the whole log.
    pub is_rebuilt: bool,
}

/// A log whose headers fit together.
pub(super) struct Found {
    pub(super) stamp: Stamp,
    /// `sealed[n]` is what is promised of segment `FIRST + n`; nothing yet of the last one.
    pub(super) sealed: Vec<Before>,
}

/// A store brought up to its log.
pub(super) struct Recovered {
    pub(super) index: Box<dyn Index>,
    pub(super) mark: Mark,
    pub(super) recovery: Recovery,
}

const START: Mark = Mark {
    at: Position {
        segment: FIRST,
        offset: HEADER_BYTES,
    },
    seq: 0,
};

/// Reads the headers.
pub(super) fn find(segments: &Segments, macs: &Arc<dyn Macs>) -> Result<Found, OpenError> {
    let numbers = segments.numbers()?;
    if numbers.is_empty() {
        return Err(OpenError::Missing);
    }
    let (mut sealed, mut first) = (Vec::new(), None::<Header>);
    for (expected, number) in (FIRST..).zip(numbers) {
        let damaged = OpenError::Corrupt {
            segment: expected,
            offset: 0,
        };
        if number != expected {
            return Err(damaged);
        }
        let Some(header) = segments.header(macs, number)? else {
            return Err(damaged);
        };
        if header.store != first.get_or_insert(header).store {
            return Err(damaged);
        }
        if number != FIRST {
            sealed.push(header.before);
        }
    }
    first
        .map(|header| Found {
            stamp: Stamp::new(macs.clone(), header.store),
            sealed,
        })
        .ok_or(OpenError::Missing)
}

/// Opens the index and brings it to the end of the log.
pub(super) fn recover(
    segments: &Segments,
    found: &Found,
    place: &dyn IndexPlace,
    dir: &Path,
) -> Result<Recovered, OpenError> {
    let known = checkpoint::read(&*segments.disk, dir, &found.stamp)?;
    if let Some(Checkpoint {
        mark,
        is_complete: true,
    }) = known
        && let Some(recovered) = catch_up(segments, found, place, mark)?
    {
        return Ok(recovered);
    }
    if known.is_some() {
        tracing::error!(
            "the index is missing, damaged, unfinished or older than it promised: it is built from the log"
        );
    }
    build(segments, found, place, dir, known)
}

/// Makes the index anew from the whole log, which must reach as far as `known` says.
pub(super) fn build(
    segments: &Segments,
    found: &Found,
    place: &dyn IndexPlace,
    dir: &Path,
    known: Option<Checkpoint>,
) -> Result<Recovered, OpenError> {
    let disk = &*segments.disk;
    // INVARIANT: while the index is unfinished no checkpoint calls it complete, however far its mark has come.
    match known {
        Some(known) => checkpoint::write(
            disk,
            dir,
            &found.stamp,
            Checkpoint {
                is_complete: false,
                ..known
            },
        )?,
        None => checkpoint::remove(disk, dir)?,
    }
    place.wipe()?;
    let index = place.open()?;
    let (mark, commits_replayed) = replay(segments, found, &*index, START)?;
    if known.is_some_and(|known| known.mark.at > mark.at) {
        return Err(OpenError::Shortened);
    }
    index.sync()?;
    checkpoint::write(
        disk,
        dir,
        &found.stamp,
        Checkpoint {
            mark,
            is_complete: true,
        },
    )?;
    if commits_replayed > 0 {
        tracing::warn!(
            commits = commits_replayed,
            "the index was built from the log"
        );
    }
    Ok(Recovered {
        index,
        mark,
        recovery: Recovery {
            commits_replayed,
            is_rebuilt: true,
        },
    })
}

/// `None` if the index must be rebuilt.
fn catch_up(
    segments: &Segments,
    found: &Found,
    place: &dyn IndexPlace,
    from: Mark,
) -> Result<Option<Recovered>, OpenError> {
    let Ok(index) = place.open() else {
        return Ok(None);
    };
    let Ok(Some(applied)) = mark_of(&*index, &found.stamp) else {
        return Ok(None);
    };
    if applied.at < from.at {
        return Ok(None);
    }
    let (mark, commits_replayed) = match replay(segments, found, &*index, from) {
        Err(OpenError::Index) => return Ok(None),
        other => other?,
    };
    // Why not a rebuild: commits are applied only once they are durable, so one of them is lost.
    if applied.at > mark.at {
        return Err(OpenError::Shortened);
    }
    Ok(Some(Recovered {
        index,
        mark,
        recovery: Recovery {
            commits_replayed,
            is_rebuilt: false,
        },
    }))
}

/// Seals the log found and gives the segment to be written next.
pub(super) fn begin_segment(segments: &Segments, found: &Found, mark: Mark) -> io::Result<u32> {
    let file = segments.file(mark.at.segment)?;
    if file.len()? == HEADER_BYTES {
        // Why: whoever made it may have been killed before its name was durable.
        segments.disk.sync_dir(segments.dir())?;
        return Ok(mark.at.segment);
    }
    write_again(&*file, mark.at.offset)?;
    let next = mark
        .at
        .segment
        .checked_add(1)
        .ok_or(io::ErrorKind::FileTooLarge)?;
    let before = Before {
        end: mark.at.offset,
        seq: mark.seq,
    };
    segments.create(&found.stamp, next, before)?;
    Ok(next)
}

/// Why: after a kill, what was read may stand in the page cache only, and after a failed sync the kernel takes it
/// for written. A sync alone would then promise what is not on the disk; bytes written anew are synced in earnest.
fn write_again(file: &dyn DiskFile, end: u64) -> io::Result<()> {
    let mut chunk = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < end {
        let length = usize::try_from(end - offset)
            .unwrap_or(chunk.len())
            .min(chunk.len());
        chunk.truncate(length);
        file.read_exact_at(offset, &mut chunk)?;
        file.write_at(offset, &chunk)?;
        offset += length as u64;
    }
    file.sync()
}
