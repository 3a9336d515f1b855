//! What a key makes and what it opens to: sealed bytes and plaintext, and why bytes did not open.
//!
//! Never here: a key. Sealed bytes may be stored, copied and shown; they name their format, kind and key version.
//! A failure to parse means bytes that no key of ours ever made.

use zeroize::Zeroizing;

use crate::gcm::{NONCE_BYTES, TAG_BYTES};
use crate::secret::Secret;

const FORMAT: u8 = 1;
pub(crate) const HEADER_BYTES: usize = 6;
pub(crate) const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;

/// What stands inside a [`Sealed`]; authenticated, so that data can never be taken for a key.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Data = 1,
    Key = 2,
    Dek = 3,
    Audit = 4,
}

/// Ciphertext bound to its key version and context:
/// `1 ‖ kind ‖ key version u32 BE ‖ nonce 12 ‖ ciphertext ‖ tag 16`.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// Opened bytes, wiped on drop.
pub struct Plaintext(Zeroizing<Vec<u8>>);

/// Why sealed bytes did not open. There is no finer answer, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No key of that version is held; an operator can act on this.
    #[error("no key of that version is held")]
    UnknownKey,
    /// The bytes do not open under this key and context.
    #[error("the sealed bytes do not open")]
    Sealed,
}

/// Bytes that cannot be a [`Sealed`]: too short, or of an unknown format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a sealed value")]
pub struct NotSealed;

pub(crate) fn header(kind: Kind, version: u32) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = version.to_be_bytes();
    [FORMAT, kind as u8, a, b, c, d]
}

impl Sealed {
    /// The bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes to store, moved out.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The version of the key that sealed this.
    #[must_use]
    pub fn key_version(&self) -> u32 {
        match self.0.as_slice() {
            [_, _, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
            // INVARIANT: every `Sealed` was made by `seal_as` or checked by `TryFrom`; 0 names no key.
            _ => 0,
        }
    }

    pub(crate) fn from_parts(bytes: Vec<u8>) -> Sealed {
        Sealed(bytes)
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        [Kind::Data, Kind::Key, Kind::Dek, Kind::Audit]
            .into_iter()
            .find(|kind| self.0.get(1) == Some(&(*kind as u8)))
    }
}

impl TryFrom<Vec<u8>> for Sealed {
    type Error = NotSealed;

    fn try_from(bytes: Vec<u8>) -> Result<Sealed, NotSealed> {
        let sealed = Sealed(bytes);
        let is_whole = sealed.0.len() >= OVERHEAD_BYTES && sealed.0.first() == Some(&FORMAT);
        if is_whole && sealed.kind().is_some() {
            Ok(sealed)
        } else {
            Err(NotSealed)
        }
    }
}

impl TryFrom<&[u8]> for Sealed {
    type Error = NotSealed;

    fn try_from(bytes: &[u8]) -> Result<Sealed, NotSealed> {
        Sealed::try_from(bytes.to_vec())
    }
}

impl Plaintext {
    pub(crate) fn new(bytes: Zeroizing<Vec<u8>>) -> Plaintext {
        Plaintext(bytes)
    }

    /// The opened bytes as a secret; any length but thirty-two did not come from a wrap.
    pub(crate) fn secret(&self) -> Result<Secret, OpenError> {
        Secret::from_slice(&self.0).ok_or(OpenError::Sealed)
    }

    /// The opened bytes; copy no more of them than needed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
