//! What a party has seen of the log. It keeps the last checkpoint whose receipt held, names its size with each request,
//! and believes no answer that does not prove to go on from there: a gateway that shows this party one log and somebody
//! else another, or that took entries away, is found at its next answer. Both checkpoints are then kept: each is
//! signed, and together they prove it to anybody.
//!
//! What two parties were shown they learn from each other, or from witnesses.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::Reply;
use crate::ledger::note::Checkpoint;
use crate::ledger::tree::{Hash, proves_consistency};
use crate::ledger::{Evidence, Vkey, check};

/// The longest proof that is looked at: of a log of 2^63 entries.
const HASHES_MAX: usize = 64;

/// Why an answer's history is not the one that was seen.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Its receipt proves nothing.
    #[error("the receipt of the answer does not hold: {0}")]
    Receipt(String),
    /// The log became shorter.
    #[error(
        "entry {entry} stands in a log of {size} entries, and this log was seen with {seen}: the entries from {size} \
         on were taken away, or two logs are shown. Tell the auditor; do not use the answer"
    )]
    RolledBack {
        /// The entry of the answer.
        entry: u64,
        /// Entries of its log.
        size: u64,
        /// Entries that were seen.
        seen: u64,
    },
    /// No proof came.
    #[error(
        "entry {entry} came without a proof that its log still begins with the {seen} entries that were seen: \
         nothing shows that it is the same log. Do not use the answer"
    )]
    Unproven {
        /// The entry of the answer.
        entry: u64,
        /// Entries that were seen.
        seen: u64,
    },
    /// Two histories were signed.
    #[error(
        "entry {entry} stands in another history than the first {seen} entries that were seen: at least one of \
         these was changed, or others are shown another log. The log's key signed both: keep them{kept}, they prove it. \
         Tell the auditor; do not use the answer"
    )]
    Split {
        /// The entry of the answer.
        entry: u64,
        /// Entries that were seen.
        seen: u64,
        /// Where the two signed checkpoints are kept.
        kept: String,
    },
    /// What was seen could not be kept.
    #[error("{0}")]
    File(String),
}

/// A checkpoint that was checked, as it was signed.
#[derive(Clone)]
pub struct Kept {
    checkpoint: Checkpoint,
    note: String,
}

impl Kept {
    /// What `Sallyport-Seen` says of it.
    #[must_use]
    pub fn size(&self) -> String {
        self.checkpoint.size.to_string()
    }
}

/// The last checkpoint of one log that a party has checked; in memory, or in a file that outlives the program.
#[derive(Default)]
pub struct Seen {
    last: Mutex<Option<Kept>>,
    file: Option<PathBuf>,
}

impl Seen {
    /// What was seen before, from a file that need not be there yet.
    ///
    /// # Errors
    /// A file that does not read, or holds no checkpoint that this key signed.
    pub fn in_file(file: &Path, key: &Vkey) -> Result<Self, HistoryError> {
        let said = |error: &dyn std::fmt::Display| {
            HistoryError::File(format!("{}: {error}", file.display()))
        };
        let last = match std::fs::read_to_string(file) {
            Ok(note) => {
                let checkpoint = Checkpoint::open(&note, key).map_err(|error| said(&error))?;
                Some(Kept { checkpoint, note })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(said(&error)),
        };
        let (last, file) = (Mutex::new(last), Some(file.to_owned()));
        Ok(Self { last, file })
    }

    /// What the next request says it has seen.
    #[must_use]
    pub fn last(&self) -> Option<Kept> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// Holds an answer against what its request said it had seen, and keeps its checkpoint if that is newer. An answer
    /// without a receipt says nothing of the log.
    ///
    /// # Errors
    /// [`HistoryError`]: the answer is not to be used.
    pub fn take(&self, reply: &Reply, said: Option<&Kept>, key: &Vkey) -> Result<(), HistoryError> {
        let Some(receipt) = reply.header("sallyport-receipt") else {
            return Ok(());
        };
        let wrong = |error: &dyn std::fmt::Display| HistoryError::Receipt(error.to_string());
        let text = URL_SAFE_NO_PAD.decode(receipt);
        let value = serde_json::from_slice(&text.map_err(|error| wrong(&error))?);
        let value = value.map_err(|error| wrong(&error))?;
        let entry = check(&value, key).map_err(|error| wrong(&error))?;
        if let Some(before) = said {
            self.goes_on(before, &entry, reply.header("sallyport-consistency"))?;
        }
        self.keep(entry)
    }

    fn goes_on(
        &self,
        before: &Kept,
        entry: &Evidence,
        proof: Option<&str>,
    ) -> Result<(), HistoryError> {
        let (index, seen, now) = (entry.index, before.checkpoint.size, &entry.checkpoint);
        if now.size < seen {
            let (entry, size) = (index, now.size);
            return Err(HistoryError::RolledBack { entry, size, seen });
        }
        let path = match proof.map(|proof| path(proof, seen)) {
            Some(Some(path)) => path,
            Some(None) | None => return Err(HistoryError::Unproven { entry: index, seen }),
        };
        let (old, new) = (&before.checkpoint.root, &now.root);
        if proves_consistency(seen, now.size, old, new, &path) {
            return Ok(());
        }
        let kept = self.keep_conflict(before, entry);
        let entry = index;
        Err(HistoryError::Split { entry, seen, kept })
    }

    fn keep(&self, entry: Evidence) -> Result<(), HistoryError> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = last.as_ref().map_or(0, |kept| kept.checkpoint.size);
        // Why not always: answers to requests that went out together come in any order.
        if entry.checkpoint.size <= newest {
            return Ok(());
        }
        let (checkpoint, note) = (entry.checkpoint, entry.note);
        if let Some(file) = &self.file {
            let written = write(file, &note);
            written.map_err(|error| HistoryError::File(format!("{}: {error}", file.display())))?;
        }
        *last = Some(Kept { checkpoint, note });
        Ok(())
    }

    /// Puts both signed checkpoints beside the file; says where.
    fn keep_conflict(&self, before: &Kept, entry: &Evidence) -> String {
        let Some(file) = &self.file else {
            return String::new();
        };
        let file = file.with_extension("conflict");
        match write(&file, &format!("{}\n{}", before.note, entry.note)) {
            Ok(()) => format!(" ({})", file.display()),
            Err(error) => format!(" ({} could not be written: {error})", file.display()),
        }
    }
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let mut draft = file.as_os_str().to_owned();
    draft.push(".draft");
    std::fs::write(&draft, text)?;
    std::fs::rename(draft, file)
}

/// The hashes of a proof that begins with that size.
fn path(proof: &str, seen: u64) -> Option<Vec<Hash>> {
    let mut words = proof.split(' ');
    if words.next()? != seen.to_string() {
        return None;
    }
    let hash = |word| STANDARD.decode(word).ok()?.try_into().ok();
    let path: Vec<Hash> = words.map(hash).collect::<Option<_>>()?;
    (path.len() <= HASHES_MAX).then_some(path)
}
