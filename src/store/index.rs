//! What the store needs of an index over the log, and what it writes into one.
//!
//! An index is disposable: it may lose anything at any time as long as it is not caught lying about
//! [`Index::sync`]. Every row carries a code, and the mark says up to where the log was applied.
//! Keys: the table's code and the row's key; code 0 is the store's own (mark, tokens, ring of tokens).

use super::stamp::{Position, Stamp, take};
use super::{TOKEN_COMMITS_KEPT, Table, commit::Commit};
use std::collections::HashMap;
use std::ops::Bound;

/// The index does not work or does not hold what was put there. It says no more, since the cure is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexBroken;

/// An ordered map of small values.
pub(super) trait Index: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexBroken>;

    /// Visits rows from `lower` upwards in byte order until the visitor says `false`.
    fn visit(
        &self,
        lower: Bound<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexBroken>;

    /// Applies a batch of at most [`BATCH_KEYS_MAX`], all or nothing.
    fn apply(&self, batch: Vec<Change>) -> Result<(), IndexBroken>;

    /// When it returns `Ok`, what was applied before the call survives power loss.
    fn sync(&self) -> Result<(), IndexBroken>;
}

/// Where an index lives.
pub(super) trait IndexPlace: Send + Sync {
    /// Opens the index, or an empty one.
    fn open(&self) -> Result<Box<dyn Index>, IndexBroken>;

    /// Removes it; nothing has it open.
    fn wipe(&self) -> Result<(), IndexBroken>;
}

pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

/// sled keeps some 3 KB for every key of larger batches until the process ends.
pub(super) const BATCH_KEYS_MAX: usize = 1_000;

const MARK_KEY: &[u8] = &[0, b'a'];

/// How far the log was applied: the place behind the last applied frame, and the last commit's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: Position,
    pub(super) seq: u64,
}

impl Mark {
    pub(super) fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        let (segment, rest) = bytes.split_at_mut(4);
        let (offset, seq) = rest.split_at_mut(8);
        segment.copy_from_slice(&self.at.segment.to_be_bytes());
        offset.copy_from_slice(&self.at.offset.to_be_bytes());
        seq.copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let segment = u32::from_be_bytes(take(&mut bytes)?);
        let offset = u64::from_be_bytes(take(&mut bytes)?);
        let seq = u64::from_be_bytes(take(&mut bytes)?);
        bytes.is_empty().then_some(Self {
            at: Position { segment, offset },
            seq,
        })
    }
}

pub(super) fn row_key(table: Table, key: &[u8]) -> Vec<u8> {
    own_key(table as u8, key)
}

fn own_key(code: u8, key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(1 + key.len());
    full.push(code);
    full.extend_from_slice(key);
    full
}

fn token_key(token: &[u8]) -> Vec<u8> {
    own_key(0, &[b"t", token].concat())
}

fn ring_key(seq: u64) -> Vec<u8> {
    own_key(
        0,
        &[&b"r"[..], &(seq % TOKEN_COMMITS_KEPT).to_be_bytes()].concat(),
    )
}

/// How far an index says it got; `None` if it does not say, or not in this store's hand.
pub(super) fn mark_of(index: &dyn Index, stamp: &Stamp) -> Result<Option<Mark>, IndexBroken> {
    let Some(row) = index.get(MARK_KEY)? else {
        return Ok(None);
    };
    Ok(stamp
        .open_row(MARK_KEY, &row)
        .and_then(|(_, value)| Mark::parse(value)))
}

/// Commits on their way into the index: gathered over a group, looked through by the next commit's expectations.
pub(super) struct Staged<'a> {
    index: &'a dyn Index,
    stamp: &'a Stamp,
    changes: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<'a> Staged<'a> {
    pub(super) fn new(index: &'a dyn Index, stamp: &'a Stamp) -> Self {
        Self {
            index,
            stamp,
            changes: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// The version of a row as it will stand after what is staged.
    pub(super) fn version(&self, key: &[u8]) -> Result<Option<u64>, IndexBroken> {
        let version = |row: &[u8]| {
            self.stamp
                .open_row(key, row)
                .map(|(version, _)| version)
                .ok_or(IndexBroken)
        };
        match self.changes.get(key) {
            Some(staged) => staged.as_deref().map(version).transpose(),
            None => self.index.get(key)?.as_deref().map(version).transpose(),
        }
    }

    /// The commit that had this token.
    pub(super) fn seq_of(&self, token: &[u8; 16]) -> Result<Option<u64>, IndexBroken> {
        self.version(&token_key(token))
    }

    /// Stages a commit. Staging the same ones again in the same order ends in the same state.
    pub(super) fn add(&mut self, commit: Commit) -> Result<(), IndexBroken> {
        let seq = commit.seq;
        for (key, value) in commit.writes {
            let row = value.map(|value| self.stamp.seal_row(&key, seq, &value));
            self.changes.insert(key, row);
        }
        commit
            .token
            .map_or(Ok(()), |token| self.remember(seq, token))
    }

    /// Why a ring: tokens must not grow without end, and a slot names the one to be forgotten.
    fn remember(&mut self, seq: u64, token: [u8; 16]) -> Result<(), IndexBroken> {
        let slot = ring_key(seq);
        if let Some(row) = self.index.get(&slot)? {
            let (_, old) = self.stamp.open_row(&slot, &row).ok_or(IndexBroken)?;
            self.changes.insert(token_key(old), None);
        }
        let key = token_key(&token);
        let row = self.stamp.seal_row(&key, seq, &[]);
        self.changes.insert(key, Some(row));
        let row = self.stamp.seal_row(&slot, seq, &token);
        self.changes.insert(slot, Some(row));
        Ok(())
    }

    /// Applies what is staged. INVARIANT: the mark goes with the last part, so that a crash between parts
    /// leaves a mark from which all of them are applied again.
    pub(super) fn apply(self, mark: Mark) -> Result<(), IndexBroken> {
        let mut batch = Vec::with_capacity(BATCH_KEYS_MAX.min(self.changes.len() + 1));
        for change in self.changes {
            batch.push(change);
            if batch.len() == BATCH_KEYS_MAX - 1 {
                self.index.apply(std::mem::take(&mut batch))?;
            }
        }
        let row = self.stamp.seal_row(MARK_KEY, mark.seq, &mark.to_bytes());
        batch.push((MARK_KEY.to_vec(), Some(row)));
        self.index.apply(batch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;
    use crate::store::memory::{MemoryIndex, TestMacs};
    use std::sync::Arc;

    const MARK: Mark = Mark {
        at: Position {
            segment: 2,
            offset: 300,
        },
        seq: 4,
    };

    fn commit(seq: u64, token: u8, keys: u64) -> Commit {
        let writes = (0..keys)
            .map(|n| (row_key(Table::Facts, &n.to_be_bytes()), Some(vec![1])))
            .collect();
        Commit {
            seq,
            durable: 0,
            token: Some([token; 16]),
            writes,
        }
    }

    #[test]
    fn large_commits_go_in_parts_and_the_mark_comes_last() {
        let (index, stamp) = (
            MemoryIndex::default(),
            Stamp::new(Arc::new(TestMacs), [0; 16]),
        );
        let mut staged = Staged::new(&index, &stamp);
        staged.add(commit(4, 1, 2_500)).unwrap();
        staged.apply(MARK).unwrap();
        let batches = index.batches();
        assert!(batches.len() > 2 && batches.iter().all(|keys| keys.len() <= BATCH_KEYS_MAX));
        let marked = batches
            .iter()
            .filter(|keys| keys.iter().any(|key| key == MARK_KEY))
            .count();
        assert!(marked == 1 && batches.last().unwrap().iter().any(|key| key == MARK_KEY));
        assert_eq!(mark_of(&index, &stamp), Ok(Some(MARK)));
        assert_eq!(
            mark_of(&index, &Stamp::new(Arc::new(TestMacs), [1; 16])),
            Ok(None)
        );
    }

    #[test]
    fn a_token_is_forgotten_when_its_slot_comes_round() {
        let (index, stamp) = (
            MemoryIndex::default(),
            Stamp::new(Arc::new(TestMacs), [0; 16]),
        );
        for (seq, token) in [(9, 1), (10, 2), (9 + TOKEN_COMMITS_KEPT, 3)] {
            let mut staged = Staged::new(&index, &stamp);
            assert_eq!(staged.seq_of(&[token; 16]), Ok(None));
            staged.add(commit(seq, token, 1)).unwrap();
            assert_eq!(staged.seq_of(&[token; 16]), Ok(Some(seq)));
            staged.apply(MARK).unwrap();
        }
        let staged = Staged::new(&index, &stamp);
        assert_eq!(staged.seq_of(&[1; 16]), Ok(None));
        assert_eq!(staged.seq_of(&[2; 16]), Ok(Some(10)));
        assert_eq!(staged.seq_of(&[3; 16]), Ok(Some(9 + TOKEN_COMMITS_KEPT)));
    }
}
