//! Why the ledger did not do what it was asked: one enum a verb. None of these is a refusal; a refusal is an entry.

use super::note::NoteError;
use super::tree::Forgotten;
use std::io;

/// Why no ledger was created.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already.
    #[error("there is a ledger in this folder already")]
    Exists,
    /// The origin cannot name a log.
    #[error("the origin cannot name a log: it is empty or has white space or `+` in it")]
    Origin,
    /// The disk failed.
    #[error("the disk: {0}")]
    Disk(#[from] io::Error),
}

/// Why a ledger was not opened. All but `Disk` and `Locked` want a person who knows what happened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing there; `serve` never makes one.
    #[error("there is no ledger in this folder; `init` makes one")]
    Missing,
    /// Another process has it.
    #[error("another process has this ledger open")]
    Locked,
    /// The origin cannot name a log.
    #[error("the origin cannot name a log")]
    Origin,
    /// The published checkpoint is gone, so that nobody can tell whether entries are.
    #[error("the published checkpoint is missing; put the last known one back into the log folder")]
    NoCheckpoint,
    /// A checkpoint that the ledger must explain is not this log's.
    #[error("the {0} checkpoint: {1}")]
    Checkpoint(&'static str, NoteError),
    /// The journal is broken where somebody was already answered for.
    #[error("the journal is damaged after entry {index}, where entries were already signed")]
    Damaged {
        /// Entries that are sound.
        index: u64,
    },
    /// The journal ends before a signed checkpoint does: rolled back, restored, or cut.
    #[error("the journal has {size} entries, but {known} were signed: it was rolled back or cut")]
    RolledBack {
        /// Entries in the journal.
        size: u64,
        /// Entries that the latest known checkpoint covers.
        known: u64,
    },
    /// The journal differs from what a signed checkpoint covers.
    #[error("the first {size} entries are not those that were signed")]
    Forked {
        /// Entries that the checkpoint covers.
        size: u64,
    },
    /// The disk failed.
    #[error("the disk: {0}")]
    Disk(#[from] io::Error),
    /// A mistake of ours.
    #[error("the ledger's own tree: {0}")]
    Bug(#[from] Forgotten),
}

impl OpenError {
    pub(super) fn in_journal(error: NoteError) -> Self {
        Self::Checkpoint("journal's last", error)
    }
}

/// Why nothing was recorded. Nothing may be released then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Too many wait; try again.
    #[error("too many entries wait for the ledger")]
    Busy,
    /// The disk is full: only emergencies are still recorded.
    #[error("the ledger has no room but for emergencies")]
    Full,
    /// The ledger is closed, or a disk error stopped it until it is reopened.
    #[error("the ledger is stopped")]
    Stopped,
    /// The entry is larger than one may be.
    #[error("the entry is too large")]
    TooLarge,
    /// The entry cannot be written as one; a mistake of ours.
    #[error("the entry cannot be written: {0}")]
    Malformed(&'static str),
}

/// Why a published file or an old entry was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no journal there.
    #[error("there is no journal in this folder")]
    Missing,
    /// What is there is not what was published.
    #[error("the log folder is damaged")]
    Damaged,
    /// The disk failed.
    #[error("the disk: {0}")]
    Disk(#[from] io::Error),
}
