//! Audit keys: one a patient, apart from the record keys, so that who reads the log can never read a record.
//!
//! Never here: a tag that two entries share. Whoever holds the key finds and opens every entry about the patient;
//! whoever does not learns nothing. A failure to open means another patient's entry or altered bytes.

use zeroize::Zeroizing;

use crate::gcm::{self, NONCE_BYTES, TAG_BYTES};
use crate::mac::{hkdf_sha256, hmac_sha256};
use crate::sealed::{OpenError, Plaintext};
use crate::secret::{Secret, stop};

const FORMAT: u8 = 1;
const TAG_KEY: &[u8] = b"sallyport/audit-tag/v1";
const BODY_KEY: &[u8] = b"sallyport/audit-body/v1";

/// Opens a patient's ledger bodies and finds their entries; wiped on drop.
pub struct AuditKey {
    secret: Secret,
    tags: Secret,
}

impl AuditKey {
    /// A fresh random key.
    #[must_use]
    pub fn generate() -> AuditKey {
        AuditKey::from_secret(Secret::random())
    }

    pub(crate) fn from_secret(secret: Secret) -> AuditKey {
        let tags = hkdf_sha256(secret.expose(), &[], TAG_KEY);
        AuditKey { secret, tags }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// `HMAC-SHA-256(K_tag, "tag-v1" ‖ n)`, first 16 bytes; `K_tag = HKDF-SHA-256(K, "", "sallyport/audit-tag/v1")`.
    ///
    /// Safe because `n` is fresh in every entry: tags of one patient cannot be linked without the key.
    #[must_use]
    pub fn tag(&self, nonce: &[u8; 16]) -> [u8; 16] {
        let whole = hmac_sha256(self.tags.expose(), &[b"tag-v1", nonce]);
        whole
            .first_chunk()
            .copied()
            .unwrap_or_else(|| stop("32 bytes hold no 16"))
    }

    /// `1 ‖ r ‖ AES-256-GCM(HKDF-SHA-256(K, n, "sallyport/audit-body/v1"), r, 1 ‖ n, body)`, `r` 12 random bytes.
    ///
    /// RFC 5869, NIST SP 800-38D. Safe even if an entry's `n` came twice: `r` is fresh in every call.
    #[must_use]
    pub fn seal_body(&self, nonce: &[u8; 16], body: &[u8]) -> Vec<u8> {
        let random = gcm::nonce();
        let mut bytes = Vec::with_capacity(1 + NONCE_BYTES + body.len() + TAG_BYTES);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&random);
        bytes.extend_from_slice(body);
        let (_, text) = bytes.split_at_mut(1 + NONCE_BYTES);
        let tag = gcm::seal(&self.body_key(nonce), random, &associated(nonce), text);
        bytes.extend_from_slice(&tag);
        bytes
    }

    /// Opens what [`AuditKey::seal_body`] made for the entry with this nonce.
    ///
    /// # Errors
    /// [`OpenError::Sealed`] for another entry's body, another patient's key or altered bytes.
    pub fn open_body(&self, nonce: &[u8; 16], sealed: &[u8]) -> Result<Plaintext, OpenError> {
        let rest = sealed.strip_prefix(&[FORMAT]).ok_or(OpenError::Sealed)?;
        let (random, text) = rest.split_first_chunk().ok_or(OpenError::Sealed)?;
        let mut bytes = Zeroizing::new(text.to_vec());
        let length = gcm::open(
            &self.body_key(nonce),
            *random,
            &associated(nonce),
            &mut bytes,
        )
        .ok_or(OpenError::Sealed)?;
        bytes.truncate(length);
        Ok(Plaintext::new(bytes))
    }

    fn body_key(&self, nonce: &[u8; 16]) -> Secret {
        hkdf_sha256(self.secret.expose(), nonce, BODY_KEY)
    }
}

fn associated(nonce: &[u8; 16]) -> [u8; 17] {
    let mut bytes = [FORMAT; 17];
    let (_, rest) = bytes.split_at_mut(1);
    rest.copy_from_slice(nonce);
    bytes
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
    fn a_body_opens_only_for_its_patient_and_entry() {
        let key = AuditKey::generate();
        let sealed = key.seal_body(&[1; 16], b"who looked");
        assert_eq!(
            key.open_body(&[1; 16], &sealed).ok().unwrap().as_bytes(),
            b"who looked"
        );
        assert!(key.open_body(&[2; 16], &sealed).is_err());
        assert!(AuditKey::generate().open_body(&[1; 16], &sealed).is_err());
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let key = AuditKey::generate();
        let sealed = key.seal_body(&[1; 16], b"who looked");
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone();
            bytes[at] ^= 1;
            assert!(key.open_body(&[1; 16], &bytes).is_err(), "byte {at}");
            assert!(
                key.open_body(&[1; 16], &sealed[..at]).is_err(),
                "cut to {at}"
            );
        }
    }

    #[test]
    fn tags_differ_by_entry_and_by_patient() {
        let (one, other) = (AuditKey::generate(), AuditKey::generate());
        assert_eq!(one.tag(&[1; 16]), one.tag(&[1; 16]));
        assert_ne!(one.tag(&[1; 16]), one.tag(&[2; 16]));
        assert_ne!(one.tag(&[1; 16]), other.tag(&[1; 16]));
    }

    #[test]
    fn one_nonce_used_twice_gives_unrelated_bodies() {
        let key = AuditKey::generate();
        assert_ne!(
            key.seal_body(&[1; 16], b"same")[13..],
            key.seal_body(&[1; 16], b"same")[13..]
        );
    }
}
