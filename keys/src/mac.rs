//! Hashes and message authentication codes: SHA-256, HMAC-SHA-256, HKDF-SHA-256.
//!
//! Never here: a tag compared with `==`; comparison is constant-time. A failure means a tag that does not match.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use ring::{digest, hkdf, hmac};

use crate::secret::{Secret, stop};

/// `SHA-256(part ‖ part ‖ …)` (FIPS 180-4).
///
/// The parts are joined without lengths: the caller's format must say where one ends.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    array(context.finish().as_ref())
}

/// `HMAC-SHA-256(key, part ‖ part ‖ …)` (RFC 2104, FIPS 198-1), parts joined without lengths.
pub(crate) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    array(context.sign().as_ref())
}

/// `HKDF-SHA-256(secret, salt, info)`, 32 bytes out (RFC 5869). One info string a purpose, never shared.
pub(crate) fn hkdf_sha256(secret: &[u8], salt: &[u8], info: &[u8]) -> Secret {
    let derived = Secret::filled(|out| {
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(secret)
            .expand(&[info], hkdf::HKDF_SHA256)
            .ok()?
            .fill(out)
            .ok()
    });
    derived.unwrap_or_else(|| stop("HKDF refused 32 bytes of output"))
}

/// Whether two tags are equal, in time that depends on their lengths only.
pub(crate) fn tags_match(one: &[u8], other: &[u8]) -> bool {
    verify_slices_are_equal(one, other).is_ok()
}

fn array(bytes: &[u8]) -> [u8; 32] {
    bytes
        .try_into()
        .unwrap_or_else(|_| stop("SHA-256 did not give 32 bytes"))
}

/// A key that authenticates and nothing else: index lookups, store frames.
pub struct MacKey(Secret);

impl MacKey {
    /// A fresh random key.
    #[must_use]
    pub fn generate() -> MacKey {
        MacKey(Secret::random())
    }

    pub(crate) fn from_secret(secret: Secret) -> MacKey {
        MacKey(secret)
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }

    /// `HMAC-SHA-256(key, len(part) ‖ part ‖ …)`, lengths big-endian u64 (RFC 2104).
    ///
    /// Safe because the lengths make the list of parts injective.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose());
        let mut context = hmac::Context::with_key(&key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        array(context.sign().as_ref())
    }

    /// The first 16 bytes of [`MacKey::mac`] (RFC 2104 §5 allows half the output).
    #[must_use]
    pub fn tag16(&self, parts: &[&[u8]]) -> [u8; 16] {
        let whole = self.mac(parts);
        whole
            .first_chunk()
            .copied()
            .unwrap_or_else(|| stop("32 bytes hold no 16"))
    }

    /// Whether `mac` is the tag of `parts`, in constant time.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], mac: &[u8; 32]) -> bool {
        tags_match(&self.mac(parts), mac)
    }

    /// Whether `tag` is the short tag of `parts`, in constant time.
    #[must_use]
    pub fn verify16(&self, parts: &[&[u8]], tag: &[u8; 16]) -> bool {
        tags_match(&self.tag16(parts), tag)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let key = MacKey::generate();
        assert_ne!(key.mac(&[b"ab", b"c"]), key.mac(&[b"a", b"bc"]));
        assert_ne!(key.mac(&[b"ab"]), key.mac(&[b"ab", b""]));
    }

    #[test]
    fn verify_refuses_another_key_and_another_text() {
        let key = MacKey::generate();
        let (mac, tag) = (key.mac(&[b"x"]), key.tag16(&[b"x"]));
        assert!(key.verify(&[b"x"], &mac) && key.verify16(&[b"x"], &tag));
        assert!(!key.verify(&[b"y"], &mac) && !key.verify16(&[b"y"], &tag));
        let other = MacKey::generate();
        assert!(!other.verify(&[b"x"], &mac) && !other.verify16(&[b"x"], &tag));
        assert_eq!(mac.first_chunk::<16>().unwrap(), &tag);
    }
}
