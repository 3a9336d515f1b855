//! What the ledger holds of an owner's facts: sequence, count and digest, and the change that is pending.
//! The digest is the sum (mod 2^256) of keyed marks, so that a change costs its own rows and not all rows;
//! whoever does not hold the key cannot find other rows with the same sum.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Sequence, count and digest of one owner's statements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// How many changes there were.
    pub seq: u64,
    /// How many statements stand.
    pub count: u64,
    /// Sum of their marks, little-endian.
    digest: [u8; 32],
}

/// A leaf's member that is no anchor.
#[derive(Debug, thiserror::Error)]
#[error("the ledger's anchor of facts is malformed")]
pub struct AnchorError;

impl Anchor {
    /// No statements, never changed.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            seq: 0,
            count: 0,
            digest: [0; 32],
        }
    }

    /// Whether no statement stands.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Same statements, whatever the sequence says.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.count == other.count && self.digest == other.digest
    }

    pub(super) fn add(&mut self, mark: &[u8; 32]) {
        let mut carry = 0u16;
        for (digit, more) in self.digest.iter_mut().zip(mark) {
            let sum = u16::from(*digit) + u16::from(*more) + carry;
            let [low, high] = sum.to_le_bytes();
            *digit = low;
            carry = u16::from(high);
        }
        self.count += 1;
    }

    pub(super) fn subtract(&mut self, mark: &[u8; 32]) {
        let mut borrow = 0i16;
        for (digit, less) in self.digest.iter_mut().zip(mark) {
            let difference = i16::from(*digit) - i16::from(*less) - borrow;
            let [low, _] = difference.to_le_bytes();
            *digit = low;
            borrow = i16::from(difference < 0);
        }
        self.count = self.count.saturating_sub(1);
    }

    /// As the leaf's `facts` member says it.
    #[must_use]
    pub fn to_member(&self, owner: &str) -> Value {
        json!({ "count": self.count, "digest": B64.encode(self.digest), "owner": owner, "seq": self.seq })
    }

    /// The owner and anchor that a leaf's `facts` member says.
    ///
    /// # Errors
    /// If the member is not one this gateway writes.
    pub fn from_member(member: &Value) -> Result<(String, Self), AnchorError> {
        let integer = |name: &str| member.get(name).and_then(Value::as_u64).ok_or(AnchorError);
        let text = |name: &str| member.get(name).and_then(Value::as_str).ok_or(AnchorError);
        let digest = B64.decode(text("digest")?).map_err(|_| AnchorError)?;
        let digest = digest.try_into().map_err(|_| AnchorError)?;
        Ok((
            text("owner")?.to_owned(),
            Self {
                seq: integer("seq")?,
                count: integer("count")?,
                digest,
            },
        ))
    }
}

/// A key, and the value it will have (`None`: it is deleted).
pub(super) type PendingWrite = (Vec<u8>, Option<Vec<u8>>);

/// A change that may already be recorded but is not yet applied.
#[derive(Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) owner: String,
    pub(super) anchor: Anchor,
    pub(super) writes: Vec<PendingWrite>,
}

impl Pending {
    /// In pieces of at most `bytes`; the last one says that it is the last.
    pub(super) fn to_pieces(&self, bytes: usize) -> Vec<Vec<u8>> {
        let writes: Vec<(String, Option<String>)> = self
            .writes
            .iter()
            .map(|(key, value)| (B64.encode(key), value.as_ref().map(|v| B64.encode(v))))
            .collect();
        let whole = serde_json::to_vec(&(&self.owner, &self.anchor, writes)).unwrap_or_default();
        let count = whole.chunks(bytes).count();
        let mark = |(index, chunk): (usize, &[u8])| {
            let mut piece = vec![u8::from(index + 1 == count)];
            piece.extend_from_slice(chunk);
            piece
        };
        whole.chunks(bytes).enumerate().map(mark).collect()
    }

    /// `None` if a piece is missing or foreign.
    pub(super) fn from_pieces(pieces: &[Vec<u8>]) -> Option<Self> {
        let (last, before) = pieces.split_last()?;
        if last.first() != Some(&1) || before.iter().any(|piece| piece.first() != Some(&0)) {
            return None;
        }
        let whole: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| piece.iter().skip(1).copied())
            .collect();
        let (owner, anchor, writes): (String, Anchor, Vec<(String, Option<String>)>) =
            serde_json::from_slice(&whole).ok()?;
        let decode = |(key, value): (String, Option<String>)| {
            let value = value.map(|value| B64.decode(value)).transpose().ok()?;
            Some((B64.decode(key).ok()?, value))
        };
        Some(Self {
            owner,
            anchor,
            writes: writes.into_iter().map(decode).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn what_was_added_can_be_taken_away_in_any_order() {
        let mut anchor = Anchor::empty();
        let marks = [[0xff; 32], [7; 32], [0x80; 32]];
        marks.iter().for_each(|mark| anchor.add(mark));
        assert_eq!(anchor.count, 3);
        for mark in [marks[1], marks[0], marks[2]] {
            assert!(!anchor.matches(&Anchor::empty()));
            anchor.subtract(&mark);
        }
        assert!(anchor.matches(&Anchor::empty()));
    }

    #[test]
    fn a_leafs_member_says_the_same_anchor_again() {
        let mut anchor = Anchor {
            seq: 4,
            ..Anchor::empty()
        };
        anchor.add(&[9; 32]);
        let (owner, again) = Anchor::from_member(&anchor.to_member("A81001")).unwrap();
        assert_eq!((owner.as_str(), &again), ("A81001", &anchor));
        assert!(Anchor::from_member(&json!({ "owner": "A81001", "seq": "4" })).is_err());
    }

    #[test]
    fn a_pending_change_is_whole_or_nothing() {
        let writes = vec![(vec![1; 40], Some(vec![2; 500])), (vec![3; 40], None)];
        let pending = Pending {
            owner: "A81001".into(),
            anchor: Anchor::empty(),
            writes,
        };
        let mut pieces = pending.to_pieces(100);
        assert!(pieces.len() > 3);
        assert_eq!(
            Pending::from_pieces(&pieces).unwrap().writes,
            pending.writes
        );
        pieces.pop();
        assert!(Pending::from_pieces(&pieces).is_none());
    }
}
