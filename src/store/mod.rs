//! What the gateway keeps: small rows in tables, and blobs of ciphertext. Here: the seam, its contract, its errors.
//!
//! The engine that ships is [`Embedded`]: one append-only log of authenticated frames is the truth, an index
//! over it can be thrown away and is rebuilt. `conformance.rs` says the contract again as a test that every
//! engine passes. The store sees ciphertext and opaque keys only; it knows nobody and decides nothing.
//! A failure never changes what was acknowledged; each [`StoreError`] says what may be done about it.

mod checkpoint;
mod commit;
mod committer;
mod embedded;
mod frame;
mod index;
mod log;
mod recovery;
mod replay;
mod segments;
mod shared;
mod sled_index;
mod stamp;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod embedded_test;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod tamper_test;

pub use embedded::{CreateError, Embedded, Limits, Recovery};
pub use recovery::OpenError;

use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The longest key of a row.
pub const KEY_BYTES_MAX: usize = 512;
/// The longest value of a row; usual ones are below 1 KiB.
pub const VALUE_BYTES_MAX: usize = 4096;
/// The most that the keys and values of one commit may come to.
pub const COMMIT_BYTES_MAX: usize = 32 << 20;
/// The longest blob: the largest deposit, sealed and in base64url.
pub const BLOB_BYTES_MAX: usize = 32 << 20;
/// An idempotency token is remembered for at least so many commits after its own.
pub const TOKEN_COMMITS_KEPT: u64 = 1 << 18;

/// The tables there are. The codes stand on disk and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Table {
    /// Wrapped keys of patients and records.
    PatientKeys = 1,
    /// Encrypted cards, by which a search is filtered.
    Cards = 2,
    /// Names of records.
    Names = 3,
    /// Facts that a decision may look at.
    Facts = 4,
    /// Organisations, clients, practitioners.
    Directory = 5,
    /// The gateway's own marks.
    Meta = 6,
}

/// Writes that happen all or not at all. Without writes it is a barrier: it makes earlier blobs durable.
#[derive(Debug, Clone, Default)]
pub struct WriteSet {
    /// In order: the last write of a key wins.
    pub writes: Vec<Write>,
    /// The same token again gets the first commit's [`Seq`] and changes nothing.
    pub token: Option<[u8; 16]>,
}

/// One row to be written or deleted.
#[derive(Debug, Clone)]
pub struct Write {
    /// Where.
    pub table: Table,
    /// Which row; at most [`KEY_BYTES_MAX`].
    pub key: Vec<u8>,
    /// What; at most [`VALUE_BYTES_MAX`]. `None` deletes, and deleting what is not there is no error.
    pub value: Option<Vec<u8>>,
    /// What must have been there before this whole set.
    pub expect: Expect,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything, or nothing.
    Any,
    /// No such row.
    Absent,
    /// The row as written by the commit of that number.
    Version(u64),
}

/// A row as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its whole key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The [`Seq`] of the commit that wrote it.
    pub version: u64,
}

/// A commit's number: later commits have greater ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

/// Why the store did not do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// An expectation does not hold; nothing was written. Read again.
    #[error("a row is not as expected")]
    Conflict,
    /// Nothing was written; the same call may succeed now.
    #[error("not done, try again")]
    Retryable,
    /// It may or may not have been written. Ask again with the same token after reopening.
    #[error("the outcome of the commit is unknown")]
    OutcomeUnknown,
    /// The disk is full, or nearly; nothing was written and reads go on.
    #[error("no room left for writing")]
    Full,
    /// What was found is not what was written. Nothing of it is given out.
    #[error("stored bytes are damaged")]
    Corrupt,
    /// The engine writes no more until it is opened again. Nothing was written by this call.
    #[error("the store has stopped")]
    Fatal,
    /// A key, value, commit or blob is beyond its limit; nothing was written.
    #[error("too large for the store")]
    TooLarge,
}

/// Rows in tables, ordered by key.
///
/// * `Ok` of `commit` means: every write, and every blob whose `put` had returned before, survives power loss
///   on media that honour fsync, and every read that starts later sees them.
/// * A set is seen whole or not at all: by a crash, by one `get_many`, by one `scan`.
/// * Expectations are judged against the state before the set. One that does not hold refuses all of it.
/// * Dropping the future of `commit` does not undo it: the outcome is then unknown.
/// * Reads run on the calling thread, take no lock a commit holds across its sync, and may wait for a disk read.
pub trait Store: Send + Sync {
    /// Writes a set: atomic, and durable on return.
    fn commit(&self, set: WriteSet) -> Pending<'_, Result<Seq, StoreError>>;

    /// The rows of these keys in their order, `None` where there is none; all of one moment.
    fn get_many(
        &self,
        table: Table,
        keys: Vec<Vec<u8>>,
    ) -> Pending<'_, Result<Vec<Option<Row>>, StoreError>>;

    /// The rows whose key begins with `prefix` and is greater than `after`, in byte order, all of one moment.
    /// Fewer than `limit` means that there are no more.
    fn scan(
        &self,
        table: Table,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Pending<'_, Result<Vec<Row>, StoreError>>;
}

/// Ciphertext that is written once and never changed.
pub trait BlobStore: Send + Sync {
    /// Keeps these blobs. They are durable once a commit that was begun after this returned is acknowledged;
    /// a blob that no commit ever followed may be gone after a crash.
    fn put(&self, blobs: Vec<Bytes>) -> Pending<'_, Result<Vec<BlobRef>, StoreError>>;

    /// The very bytes that were put, in order, or `Corrupt`.
    fn get_many(&self, blobs: Vec<BlobRef>) -> Pending<'_, Result<Vec<Bytes>, StoreError>>;
}

/// Authenticates what the store writes to disk: a keyed, collision-resistant code over length-prefixed parts,
/// e.g. HMAC-SHA-256 cut to 16 bytes (FIPS 198-1, NIST SP 800-107 §5.1). The key never comes here.
pub trait Macs: Send + Sync {
    /// The code of these parts in this order.
    fn mac(&self, parts: &[&[u8]]) -> [u8; 16];
}

/// Where a blob stands. Opaque: keep its bytes, hand them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobRef {
    segment: u32,
    offset: u64,
    length: u32,
}

impl BlobRef {
    /// The form to be kept in a row.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let (segment, offset) = (u128::from(self.segment), u128::from(self.offset));
        (segment << 96 | offset << 32 | u128::from(self.length)).to_be_bytes()
    }

    /// Whatever 16 bytes are given: a reference that nothing stands behind is found out by `get_many`.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "each cast takes its own bits"
    )]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let all = u128::from_be_bytes(bytes);
        Self {
            segment: (all >> 96) as u32,
            offset: (all >> 32) as u64,
            length: all as u32,
        }
    }

    /// The blob's length in bytes.
    #[must_use]
    pub fn length(self) -> u32 {
        self.length
    }
}

impl WriteSet {
    /// Checks what every engine must refuse alike.
    fn within_limits(&self) -> Result<usize, StoreError> {
        let mut total: usize = 0;
        for write in &self.writes {
            let value = write.value.as_ref().map_or(0, Vec::len);
            if write.key.len() > KEY_BYTES_MAX || value > VALUE_BYTES_MAX {
                return Err(StoreError::TooLarge);
            }
            total += write.key.len() + value + commit::WRITE_OVERHEAD;
        }
        if total > COMMIT_BYTES_MAX {
            Err(StoreError::TooLarge)
        } else {
            Ok(total)
        }
    }
}

/// Checks what every engine must refuse alike.
fn blobs_within_limits(blobs: &[Bytes]) -> Result<usize, StoreError> {
    if blobs.iter().any(|blob| blob.len() > BLOB_BYTES_MAX) {
        return Err(StoreError::TooLarge);
    }
    Ok(blobs.iter().map(Bytes::len).sum())
}

#[cfg(test)]
mod tests {
    use super::BlobRef;

    #[test]
    fn a_reference_keeps_its_bits() {
        let blob = BlobRef {
            segment: 0x0102_0304,
            offset: 0x1112_1314_1516_1718,
            length: 0x2122_2324,
        };
        let bytes = blob.to_bytes();
        assert_eq!(
            bytes,
            [
                1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x21, 0x22, 0x23, 0x24
            ]
        );
        assert_eq!(
            (BlobRef::from_bytes(bytes), blob.length()),
            (blob, 0x2122_2324)
        );
    }
}
