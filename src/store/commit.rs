//! A commit as the log keeps it, and back.
//!
//! seq 8 ‖ durable 8 ‖ token flag 1 ‖ [token 16] ‖ count 4 ‖ count x (key length 2 ‖ value length 4 ‖ key ‖ value);
//! a value length of all ones deletes; a key begins with its table's code. Big-endian. The frame around it is
//! authenticated, so what does not parse here is a bug or a newer format, and counts as damage.

use super::WriteSet;
use super::stamp::take;

/// What a write takes beside its key and value.
pub(super) const WRITE_OVERHEAD: usize = 7;
const DELETED: u32 = u32::MAX;

/// One commit, numbered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) seq: u64,
    /// How far its own segment was synced when it was written: what lies before had been acknowledged.
    pub(super) durable: u64,
    pub(super) token: Option<[u8; 16]>,
    /// Keys with their table's code in front; `None` deletes.
    pub(super) writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Commit {
    pub(super) fn new(seq: u64, durable: u64, set: WriteSet) -> Self {
        let writes = set
            .writes
            .into_iter()
            .map(|w| (super::index::row_key(w.table, &w.key), w.value))
            .collect();
        Self {
            seq,
            durable,
            token: set.token,
            writes,
        }
    }

    /// The length of [`Commit::to_bytes`].
    pub(super) fn encoded_bytes(&self) -> usize {
        let size = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            6 + key.len() + value.as_ref().map_or(0, Vec::len)
        };
        21 + self.token.map_or(0, |token| token.len()) + self.writes.iter().map(size).sum::<usize>()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_bytes());
        bytes.extend_from_slice(&self.seq.to_be_bytes());
        bytes.extend_from_slice(&self.durable.to_be_bytes());
        bytes.push(u8::from(self.token.is_some()));
        bytes.extend_from_slice(self.token.as_ref().map_or(&[], |token| token));
        bytes.extend_from_slice(&count(self.writes.len()).to_be_bytes());
        for (key, value) in &self.writes {
            let key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&key_length.to_be_bytes());
            bytes.extend_from_slice(
                &value
                    .as_ref()
                    .map_or(DELETED, |value| count(value.len()))
                    .to_be_bytes(),
            );
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        bytes
    }

    pub(super) fn parse(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let seq = u64::from_be_bytes(take(bytes)?);
        let durable = u64::from_be_bytes(take(bytes)?);
        let token = match take::<1>(bytes)? {
            [0] => None,
            [1] => Some(take(bytes)?),
            _ => return None,
        };
        let mut writes = Vec::new();
        for _ in 0..u32::from_be_bytes(take(bytes)?) {
            let key_length = usize::from(u16::from_be_bytes(take(bytes)?));
            let value_length = u32::from_be_bytes(take(bytes)?);
            let (key, rest) = bytes.split_at_checked(key_length)?;
            *bytes = rest;
            let value = if value_length == DELETED {
                None
            } else {
                let (value, rest) = bytes.split_at_checked(usize::try_from(value_length).ok()?)?;
                *bytes = rest;
                Some(value.to_vec())
            };
            writes.push((key.to_vec(), value));
        }
        bytes.is_empty().then_some(Self {
            seq,
            durable,
            token,
            writes,
        })
    }
}

// INVARIANT: limits are checked before a set is queued, so nothing here is ever cut to the largest number.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(DELETED)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;

    #[test]
    fn a_commit_survives_its_bytes_and_no_part_of_them_is_one() {
        let writes = vec![
            (b"\x01a".to_vec(), Some(b"value".to_vec())),
            (b"\x02".to_vec(), None),
            (vec![3], Some(vec![])),
        ];
        for token in [None, Some([7; 16])] {
            let commit = Commit {
                seq: 5,
                durable: 1 << 40,
                token,
                writes: writes.clone(),
            };
            let bytes = commit.to_bytes();
            assert_eq!(bytes.len(), commit.encoded_bytes());
            assert_eq!(Commit::parse(&bytes).unwrap(), commit);
            for cut in 0..bytes.len() {
                assert!(Commit::parse(&bytes[..cut]).is_none(), "cut at {cut}");
            }
            assert!(Commit::parse(&[&bytes[..], b"x"].concat()).is_none());
        }
    }
}
