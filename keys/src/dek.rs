//! Data keys: one a record version, made at deposit, used to encrypt exactly once.
//!
//! Never here: a second encryption under one data key; [`FreshDek::seal_record`] consumes the right to encrypt.
//! What is left, a [`Dek`], can be wrapped, committed with, put into a ticket and open its record.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::gcm::{self, NONCE_BYTES, TAG_BYTES};
use crate::jose::{b64_length, header_text, push_b64};
use crate::mac::hmac_sha256;
use crate::secret::{Secret, stop};

pub(crate) const RECORD_TYP: &str = "sallyport-record";
const KEY_COMMITMENT: &str = "sallyport/kc/v1";
const PATIENT_COMMITMENT: &str = "sallyport/patient/v1";

/// A data key that has not encrypted yet.
pub struct FreshDek(Secret);

/// A data key that has encrypted its one record.
pub struct Dek(Secret);

/// A record's protected header: registered names only, so that every JOSE library opens it by default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordHeader<'a> {
    pub(crate) alg: &'a str,
    #[serde(borrow)]
    pub(crate) cty: Cow<'a, str>,
    pub(crate) enc: &'a str,
    #[serde(borrow)]
    pub(crate) kid: Cow<'a, str>,
    pub(crate) typ: &'a str,
}

impl FreshDek {
    /// A fresh random data key.
    #[must_use]
    pub fn generate() -> FreshDek {
        FreshDek(Secret::random())
    }

    #[cfg(test)]
    pub(crate) fn from_secret(secret: Secret) -> FreshDek {
        FreshDek(secret)
    }

    /// `header..iv.ciphertext.tag`, a compact JWE with `alg: dir`, `enc: A256GCM` (RFC 7516 §3.1, RFC 7518 §4.5, §5.3).
    ///
    /// Safe because the key encrypts once: it is consumed here, and what comes back cannot encrypt.
    #[must_use]
    pub fn seal_record(self, kid: &str, cty: &str, plaintext: &[u8]) -> (String, Dek) {
        let header = RecordHeader {
            alg: "dir",
            cty: Cow::Borrowed(cty),
            enc: "A256GCM",
            kid: Cow::Borrowed(kid),
            typ: RECORD_TYP,
        };
        let Some(header) = header_text(&header) else {
            stop("a record header is not JSON")
        };
        let iv = gcm::nonce();
        let mut bytes = Zeroizing::new(plaintext.to_vec());
        let tag = gcm::seal(&self.0, iv, header.as_bytes(), &mut bytes);
        let mut text = String::with_capacity(
            header.len()
                + 4
                + b64_length(NONCE_BYTES)
                + b64_length(bytes.len())
                + b64_length(TAG_BYTES),
        );
        text.push_str(&header);
        text.push_str("..");
        push_b64(&mut text, &iv);
        text.push('.');
        push_b64(&mut text, &bytes);
        text.push('.');
        push_b64(&mut text, &tag);
        (text, Dek(self.0))
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
