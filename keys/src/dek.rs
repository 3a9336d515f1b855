//! Data keys: one a record version, made at deposit, used to encrypt exactly once.
//!
//! Never here: a second encryption under one data key; `FreshDek::seal_record` consumes the right to encrypt.
//! What is left, a [`Dek`], can be wrapped, committed with, put into a ticket and open its record.

use crate::mac::hmac_sha256;
use crate::secret::Secret;

const KEY_COMMITMENT: &str = "sallyport/kc/v1";
const PATIENT_COMMITMENT: &str = "sallyport/patient/v1";

/// A data key that has not encrypted yet.
pub struct FreshDek(Secret);

/// A data key that has encrypted its one record.
pub struct Dek(Secret);

impl FreshDek {
    /// A fresh random data key.
    #[must_use]
    pub fn generate() -> FreshDek {
        FreshDek(Secret::random())
    }

    /// The key, for the one encryption that uses it up.
    pub(crate) fn into_secret(self) -> Secret {
        self.0
    }

    #[cfg(test)]
    pub(crate) fn from_secret(secret: Secret) -> FreshDek {
        FreshDek(secret)
    }
}

impl Dek {
    pub(crate) fn from_secret(secret: Secret) -> Dek {
        Dek(secret)
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }

    /// `HMAC-SHA-256(DEK, label ‖ 0x00 ‖ message)` (RFC 2104).
    ///
    /// Safe because no label holds a zero byte; needed because GCM does not commit to its key.
    #[must_use]
    pub fn commit(&self, label: &str, message: &[u8]) -> [u8; 32] {
        hmac_sha256(self.0.expose(), &[label.as_bytes(), &[0], message])
    }

    /// `kc`: this key, and no other, belongs to the record `kid`.
    #[must_use]
    pub fn key_commitment(&self, kid: &str) -> [u8; 32] {
        self.commit(KEY_COMMITMENT, kid.as_bytes())
    }

    /// `pc`: the record belongs to the patient with this number.
    #[must_use]
    pub fn patient_commitment(&self, number: &str) -> [u8; 32] {
        self.commit(PATIENT_COMMITMENT, number.as_bytes())
    }
}
