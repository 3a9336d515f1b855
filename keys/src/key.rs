//! Keys that seal: AES-256-GCM keys with a version and a state, and what they make.
//!
//! Never here: a key that seals after it was retired; `seal` and `wrap` exist on `Key<Active>` only.
//! Whoever holds a [`Key`] may open with it. A failure to open has no reason beside "not this key":
//! the ciphertext, its context or its key are not what they claim to be.

use std::marker::PhantomData;

use zeroize::Zeroizing;

use crate::audit::AuditKey;
use crate::context::Context;
use crate::dek::Dek;
use crate::gcm::{self, NONCE_BYTES, TAG_BYTES};
use crate::secret::{SECRET_BYTES, Secret};

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 6;
const OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + TAG_BYTES;

/// May seal and open.
pub struct Active(());
/// May only open.
pub struct Retired(());

/// What stands inside a [`Sealed`]; authenticated, so that data can never be taken for a key.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Data = 1,
    Key = 2,
    Dek = 3,
    Audit = 4,
}

/// A 32-byte AES-256-GCM key, its version, and whether it may still seal.
pub struct Key<S> {
    version: u32,
    secret: Secret,
    state: PhantomData<S>,
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

impl Key<Active> {
    /// A fresh random key of this version.
    #[must_use]
    pub fn generate(version: u32) -> Key<Active> {
        Key::from_secret(version, Secret::random())
    }

    /// `AES-256-GCM(key, random nonce, header ‖ context, plaintext)` (NIST SP 800-38D).
    ///
    /// Safe for at most 2^32 seals under one key: nonces are random. Rotate well before.
    #[must_use]
    pub fn seal(&self, context: &Context, plaintext: &[u8]) -> Sealed {
        self.seal_as(Kind::Data, context, plaintext)
    }

    /// Wraps another key, its version with it.
    #[must_use]
    pub fn wrap(&self, context: &Context, key: &Key<Active>) -> Sealed {
        let mut bytes = Zeroizing::new([0; 4 + SECRET_BYTES]);
        let (version, secret) = bytes.split_at_mut(4);
        version.copy_from_slice(&key.version.to_be_bytes());
        secret.copy_from_slice(key.secret.expose());
        self.seal_as(Kind::Key, context, bytes.as_slice())
    }

    /// Wraps a record's data key.
    #[must_use]
    pub fn wrap_dek(&self, context: &Context, dek: &Dek) -> Sealed {
        self.seal_as(Kind::Dek, context, dek.secret().expose())
    }

    /// Wraps a patient's audit key.
    #[must_use]
    pub fn wrap_audit(&self, context: &Context, key: &AuditKey) -> Sealed {
        self.seal_as(Kind::Audit, context, key.secret().expose())
    }

    /// Seals again, under this key, what `sealed` (opened by `from`) holds; its kind stays.
    ///
    /// # Errors
    /// [`OpenError`] when `from` cannot open it under `context`.
    pub fn rewrap<S>(
        &self,
        from: &Key<S>,
        context: &Context,
        sealed: &Sealed,
    ) -> Result<Sealed, OpenError> {
        let kind = sealed.kind().ok_or(OpenError::Sealed)?;
        let plaintext = from.open_as(kind, context, sealed)?;
        Ok(self.seal_as(kind, context, plaintext.as_bytes()))
    }

    /// Gives up the right to seal. There is no way back.
    #[must_use]
    pub fn retire(self) -> Key<Retired> {
        Key {
            version: self.version,
            secret: self.secret,
            state: PhantomData,
        }
    }

    fn seal_as(&self, kind: Kind, context: &Context, plaintext: &[u8]) -> Sealed {
        let header = header(kind, self.version);
        let nonce = gcm::nonce();
        let mut bytes = Vec::with_capacity(OVERHEAD_BYTES + plaintext.len());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(plaintext);
        // INVARIANT: the capacity above is exact, so the plaintext is overwritten where it was first copied.
        let (_, body) = bytes.split_at_mut(HEADER_BYTES + NONCE_BYTES);
        let tag = gcm::seal(&self.secret, nonce, &context.under(&header), body);
        bytes.extend_from_slice(&tag);
        Sealed(bytes)
    }
}

impl<S> Key<S> {
    pub(crate) fn from_secret(version: u32, secret: Secret) -> Key<S> {
        Key {
            version,
            secret,
            state: PhantomData,
        }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The version every value sealed under this key names.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Opens what [`Key::seal`] made.
    ///
    /// # Errors
    /// [`OpenError::UnknownKey`] when another version sealed it, else [`OpenError::Sealed`].
    pub fn open(&self, context: &Context, sealed: &Sealed) -> Result<Plaintext, OpenError> {
        self.open_as(Kind::Data, context, sealed)
    }

    /// Opens what [`Key::wrap`] made.
    ///
    /// # Errors
    /// As [`Key::open`].
    pub fn unwrap(&self, context: &Context, sealed: &Sealed) -> Result<Key<Active>, OpenError> {
        let plaintext = self.open_as(Kind::Key, context, sealed)?;
        let (version, secret) = plaintext
            .as_bytes()
            .split_first_chunk::<4>()
            .ok_or(OpenError::Sealed)?;
        let secret = Secret::from_slice(secret).ok_or(OpenError::Sealed)?;
        Ok(Key::from_secret(u32::from_be_bytes(*version), secret))
    }

    /// Opens what [`Key::wrap_dek`] made.
    ///
    /// # Errors
    /// As [`Key::open`].
    pub fn unwrap_dek(&self, context: &Context, sealed: &Sealed) -> Result<Dek, OpenError> {
        let plaintext = self.open_as(Kind::Dek, context, sealed)?;
        Secret::from_slice(plaintext.as_bytes())
            .map(Dek::from_secret)
            .ok_or(OpenError::Sealed)
    }

    /// Opens what [`Key::wrap_audit`] made.
    ///
    /// # Errors
    /// As [`Key::open`].
    pub fn unwrap_audit(&self, context: &Context, sealed: &Sealed) -> Result<AuditKey, OpenError> {
        let plaintext = self.open_as(Kind::Audit, context, sealed)?;
        Secret::from_slice(plaintext.as_bytes())
            .map(AuditKey::from_secret)
            .ok_or(OpenError::Sealed)
    }

    fn open_as(
        &self,
        kind: Kind,
        context: &Context,
        sealed: &Sealed,
    ) -> Result<Plaintext, OpenError> {
        if sealed.key_version() != self.version {
            return Err(OpenError::UnknownKey);
        }
        let header = header(kind, self.version);
        let rest = sealed.0.strip_prefix(&header).ok_or(OpenError::Sealed)?;
        let (nonce, body) = rest.split_first_chunk().ok_or(OpenError::Sealed)?;
        let mut bytes = Zeroizing::new(body.to_vec());
        let length = gcm::open(&self.secret, *nonce, &context.under(&header), &mut bytes)
            .ok_or(OpenError::Sealed)?;
        bytes.truncate(length);
        Ok(Plaintext(bytes))
    }
}

fn header(kind: Kind, version: u32) -> [u8; HEADER_BYTES] {
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

    fn kind(&self) -> Option<Kind> {
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

    /// The opened bytes; copy no more of them than needed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;

    fn here() -> Context {
        Context::new("sallyport/test/v1").part(b"one")
    }

    #[test]
    fn opens_what_it_sealed_and_after_retirement() {
        let key = Key::generate(7);
        let sealed = key.seal(&here(), b"words");
        assert_eq!(sealed.key_version(), 7);
        assert_eq!(
            key.open(&here(), &sealed).ok().unwrap().as_bytes(),
            b"words"
        );
        let retired = key.retire();
        assert_eq!(
            retired.open(&here(), &sealed).ok().unwrap().as_bytes(),
            b"words"
        );
    }

    #[test]
    fn another_context_version_or_key_does_not_open() {
        let key = Key::generate(1);
        let sealed = key.seal(&here(), b"words");
        let elsewhere = Context::new("sallyport/test/v1").part(b"two");
        assert_eq!(key.open(&elsewhere, &sealed).err(), Some(OpenError::Sealed));
        assert_eq!(
            Key::generate(1).open(&here(), &sealed).err(),
            Some(OpenError::Sealed)
        );
        assert_eq!(
            Key::generate(2).open(&here(), &sealed).err(),
            Some(OpenError::UnknownKey)
        );
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let key = Key::generate(1);
        let sealed = key.seal(&here(), b"words").into_bytes();
        for bit in 0..sealed.len() * 8 {
            let mut bytes = sealed.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(sealed) = Sealed::try_from(bytes) {
                assert!(key.open(&here(), &sealed).is_err(), "bit {bit}");
            }
        }
        for length in 0..sealed.len() {
            if let Ok(sealed) = Sealed::try_from(&sealed[..length]) {
                assert!(key.open(&here(), &sealed).is_err(), "cut to {length}");
            }
        }
    }

    #[test]
    fn data_is_never_taken_for_a_key() {
        let key = Key::generate(1);
        let data = key.seal(&here(), &[9; 32]);
        assert!(key.unwrap_dek(&here(), &data).is_err());
        assert!(key.unwrap_audit(&here(), &data).is_err());
        let mut bytes = data.into_bytes();
        bytes[1] = Kind::Dek as u8;
        assert!(
            key.unwrap_dek(&here(), &Sealed::try_from(bytes).unwrap())
                .is_err()
        );
        let wrapped = key.wrap_dek(&here(), &Dek::from_secret(Secret::random()));
        assert!(key.open(&here(), &wrapped).is_err());
    }

    #[test]
    fn a_wrapped_key_keeps_its_version_and_opens_the_same() {
        let (outer, inner) = (Key::generate(1), Key::generate(42));
        let sealed = inner.seal(&here(), b"words");
        let unwrapped = outer
            .unwrap(&here(), &outer.wrap(&here(), &inner))
            .ok()
            .unwrap();
        assert_eq!(unwrapped.version(), 42);
        assert_eq!(
            unwrapped.open(&here(), &sealed).ok().unwrap().as_bytes(),
            b"words"
        );
    }

    #[test]
    fn rewrap_moves_to_the_new_key_and_the_old_no_longer_opens() {
        let (old, new) = (Key::generate(1), Key::generate(2));
        let dek = Dek::from_secret(Secret::random());
        let moved = new
            .rewrap(&old, &here(), &old.wrap_dek(&here(), &dek))
            .ok()
            .unwrap();
        let back = new.unwrap_dek(&here(), &moved).ok().unwrap();
        assert_eq!(back.commit("l", b"m"), dek.commit("l", b"m"));
        assert_eq!(
            old.unwrap_dek(&here(), &moved).err(),
            Some(OpenError::UnknownKey)
        );
        let elsewhere = Context::new("sallyport/other/v1");
        assert!(
            new.rewrap(&old, &elsewhere, &old.wrap_dek(&here(), &dek))
                .is_err()
        );
    }

    #[test]
    fn no_two_seals_share_a_nonce() {
        let key = Key::generate(1);
        let (one, other) = (key.seal(&here(), b"same"), key.seal(&here(), b"same"));
        assert_ne!(one.as_bytes()[6..18], other.as_bytes()[6..18]);
    }
}
