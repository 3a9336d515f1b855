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
use crate::gcm::{self, NONCE_BYTES};
use crate::sealed::{HEADER_BYTES, Kind, OVERHEAD_BYTES, OpenError, Plaintext, Sealed, header};
use crate::secret::{SECRET_BYTES, Secret};

/// May seal and open.
pub struct Active(());
/// May only open.
pub struct Retired(());

/// A 32-byte AES-256-GCM key, its version, and whether it may still seal.
pub struct Key<S> {
    version: u32,
    secret: Secret,
    state: PhantomData<S>,
}

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

    /// Seals again, under this key, what `from` opens; its kind stays.
    pub(crate) fn rewrap(
        &self,
        from: &dyn Opens,
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
        Sealed::from_parts(bytes)
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
        self.open_as(Kind::Key, context, sealed)
            .and_then(|plaintext| wrapped_key(&plaintext))
    }

    /// Opens what [`Key::wrap_dek`] made.
    ///
    /// # Errors
    /// As [`Key::open`].
    pub fn unwrap_dek(&self, context: &Context, sealed: &Sealed) -> Result<Dek, OpenError> {
        self.open_as(Kind::Dek, context, sealed)?
            .secret()
            .map(Dek::from_secret)
    }

    /// Opens what [`Key::wrap_audit`] made.
    ///
    /// # Errors
    /// As [`Key::open`].
    pub fn unwrap_audit(&self, context: &Context, sealed: &Sealed) -> Result<AuditKey, OpenError> {
        self.open_as(Kind::Audit, context, sealed)?
            .secret()
            .map(AuditKey::from_secret)
    }
}

/// Opening, whatever the state: what the keyring needs of a key whose version it looked up.
pub(crate) trait Opens {
    /// Opens sealed bytes of one kind (NIST SP 800-38D §7.2).
    fn open_as(
        &self,
        kind: Kind,
        context: &Context,
        sealed: &Sealed,
    ) -> Result<Plaintext, OpenError>;
}

impl<S> Opens for Key<S> {
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
        let rest = sealed
            .as_bytes()
            .strip_prefix(&header)
            .ok_or(OpenError::Sealed)?;
        let (nonce, body) = rest.split_first_chunk().ok_or(OpenError::Sealed)?;
        let mut bytes = Zeroizing::new(body.to_vec());
        let length = gcm::open(&self.secret, *nonce, &context.under(&header), &mut bytes)
            .ok_or(OpenError::Sealed)?;
        bytes.truncate(length);
        Ok(Plaintext::new(bytes))
    }
}

/// The key inside what [`Key::wrap`] made.
pub(crate) fn wrapped_key(plaintext: &Plaintext) -> Result<Key<Active>, OpenError> {
    let bytes = plaintext.as_bytes();
    let (version, secret) = bytes.split_first_chunk::<4>().ok_or(OpenError::Sealed)?;
    let secret = Secret::from_slice(secret).ok_or(OpenError::Sealed)?;
    Ok(Key::from_secret(u32::from_be_bytes(*version), secret))
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
