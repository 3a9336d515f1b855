//! The codes that stand on everything the store writes: each binds bytes to the store and to their place.
//! A frame moved, a row under another key, a file of another store do not pass. What a code cannot show is
//! that something newer is missing; the ledger's anchors do that. No other file calls [`Macs`].

use super::Macs;
use std::sync::Arc;

pub(super) type StoreId = [u8; 16];
pub(super) const CODE_BYTES: usize = 16;

/// A place in the log. INVARIANT: a place found written is never written again, so it names one frame for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) offset: u64,
}

/// Makes and checks the codes of one store.
#[derive(Clone)]
pub(super) struct Stamp {
    macs: Arc<dyn Macs>,
    store: StoreId,
}

const ROW_HEAD: usize = 8 + CODE_BYTES;

impl Stamp {
    pub(super) fn new(macs: Arc<dyn Macs>, store: StoreId) -> Self {
        Self { macs, store }
    }

    pub(super) fn store(&self) -> &StoreId {
        &self.store
    }

    /// mac("…/frame/v1", store, segment ‖ offset, kind and length, payload parts…).
    pub(super) fn frame(&self, at: Position, head: &[u8], payload: &[u8]) -> [u8; CODE_BYTES] {
        let mut place = [0; 12];
        let (segment, offset) = place.split_at_mut(4);
        segment.copy_from_slice(&at.segment.to_be_bytes());
        offset.copy_from_slice(&at.offset.to_be_bytes());
        self.macs.mac(&[
            b"sallyport/store/frame/v1",
            &self.store,
            &place,
            head,
            payload,
        ])
    }

    /// mac("…/checkpoint/v1", store, bytes).
    pub(super) fn checkpoint(&self, bytes: &[u8]) -> [u8; CODE_BYTES] {
        self.macs
            .mac(&[b"sallyport/store/checkpoint/v1", &self.store, bytes])
    }

    fn row(&self, key: &[u8], version: &[u8], value: &[u8]) -> [u8; CODE_BYTES] {
        self.macs
            .mac(&[b"sallyport/store/row/v1", &self.store, key, version, value])
    }

    /// A row as the index keeps it: version ‖ code ‖ value.
    pub(super) fn seal_row(&self, key: &[u8], version: u64, value: &[u8]) -> Vec<u8> {
        let version = version.to_be_bytes();
        let mut row = Vec::with_capacity(ROW_HEAD + value.len());
        row.extend_from_slice(&version);
        row.extend_from_slice(&self.row(key, &version, value));
        row.extend_from_slice(value);
        row
    }

    /// The version and value of a row, if it is one that this store wrote under this key.
    pub(super) fn open_row<'a>(&self, key: &[u8], row: &'a [u8]) -> Option<(u64, &'a [u8])> {
        let (version, rest) = row.split_first_chunk::<8>()?;
        let (code, value) = rest.split_first_chunk::<CODE_BYTES>()?;
        same(&self.row(key, version, value), code).then(|| (u64::from_be_bytes(*version), value))
    }
}

/// Compares without telling by its time where the first difference is.
pub(super) fn same(left: &[u8; CODE_BYTES], right: &[u8; CODE_BYTES]) -> bool {
    left.iter()
        .zip(right)
        .fold(0, |difference, (a, b)| difference | (a ^ b))
        == 0
}

/// Takes fixed parts off the front of foreign bytes.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;
    use crate::store::memory::TestMacs;

    #[test]
    fn a_row_opens_only_as_it_was_written_and_where() {
        let stamp = Stamp::new(Arc::new(TestMacs), [1; 16]);
        let row = stamp.seal_row(b"key", 7, b"value");
        assert_eq!(stamp.open_row(b"key", &row).unwrap(), (7, &b"value"[..]));
        assert!(stamp.open_row(b"kez", &row).is_none());
        assert!(
            Stamp::new(Arc::new(TestMacs), [2; 16])
                .open_row(b"key", &row)
                .is_none()
        );
        for at in 0..row.len() {
            let mut bad = row.clone();
            bad[at] ^= 1;
            assert!(stamp.open_row(b"key", &bad).is_none(), "byte {at}");
            assert!(stamp.open_row(b"key", &row[..at]).is_none(), "cut at {at}");
        }
    }
}
