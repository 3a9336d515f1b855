//! What an audit reports: findings that name entry, file and meaning, for people and for machines.

use super::tree::Hash;
use serde_json::{Value, json};
use std::ops::Range;

/// Findings listed one by one; more are counted.
const FINDINGS_MAX: usize = 1000;

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// No checkpoint, or none by this key.
    Checkpoint,
    /// A file could not be read.
    Unreadable,
    /// Entries are not there.
    Missing,
    /// An entry is not the one that was signed.
    Altered,
    /// A tile is not what its entries hash to.
    Tile,
    /// The log as a whole is not what its checkpoint signs.
    Root,
    /// History differs from an earlier signed checkpoint.
    Rewritten,
    /// Entries that were signed are gone.
    RolledBack,
    /// An entry is not in the form that entries have.
    Form,
    /// Time goes backwards.
    Time,
    /// Nothing was recorded for longer than may be.
    Silence,
    /// The witnesses that the auditor trusts have not cosigned.
    Uncosigned,
}

impl What {
    /// The word for machines.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Unreadable => "unreadable",
            Self::Missing => "missing",
            Self::Altered => "altered",
            Self::Tile => "tile",
            Self::Root => "root",
            Self::Rewritten => "rewritten",
            Self::RolledBack => "rolled-back",
            Self::Form => "form",
            Self::Time => "time",
            Self::Silence => "silence",
            Self::Uncosigned => "uncosigned",
        }
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub what: What,
    /// The entries it is about.
    pub entries: Range<u64>,
    /// The file it was found in.
    pub file: Option<String>,
    /// What it means, in a sentence.
    pub meaning: String,
}

/// What the witnesses that the auditor named say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// Entries under the last checkpoint that enough of them cosigned.
    pub size: u64,
    /// Who did, and when by their clocks, seconds.
    pub by: Vec<(String, u64)>,
}

/// What an audit found out.
#[derive(Debug, Clone)]
pub struct Report {
    /// The log's name.
    pub origin: String,
    /// Entries that the checkpoint signs.
    pub size: u64,
    /// Its root hash.
    pub root: Hash,
    /// Entries that were there and hashed.
    pub entries: u64,
    /// Time of the last entry, if leaves were read.
    pub last_ts_ms: Option<u64>,
    /// What does not hold; empty if all does.
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub more: u64,
    /// The keys that lead to the checkpoint: the given one, and each that the one before handed over to.
    pub keys: Vec<String>,
    /// The published checkpoint, as it was signed.
    pub note: String,
    /// What witnesses cosigned, where the auditor named any and enough of them did.
    pub cosigned: Option<Cosigned>,
}

impl Report {
    /// Whether the log is whole and what its key signed.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.findings.is_empty()
    }

    /// For `--json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "what": finding.what.code(),
                "from": finding.entries.start,
                "to": finding.entries.end,
                "file": finding.file,
                "meaning": finding.meaning,
            })
        };
        json!({
            "origin": self.origin,
            "size": self.size,
            "root": self.root.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "entries": self.entries,
            "last_ts": self.last_ts_ms,
            "holds": self.holds(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "more": self.more,
            "keys": self.keys,
            "cosigned": self.cosigned.as_ref().map(|it| {
                let by = it.by.iter().map(|(name, time_s)| json!({ "witness": name, "time": time_s }));
                json!({ "size": it.size, "by": by.collect::<Vec<_>>() })
            }),
        })
    }

    pub(super) fn add(
        &mut self,
        what: What,
        entries: Range<u64>,
        file: Option<String>,
        meaning: &str,
    ) {
        if self.findings.len() < FINDINGS_MAX {
            let meaning = meaning.to_owned();
            self.findings.push(Finding {
                what,
                entries,
                file,
                meaning,
            });
        } else {
            self.more += 1;
        }
    }
}
