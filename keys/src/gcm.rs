//! AES-256-GCM on raw bytes: the one place that calls the cipher.
//!
//! Never here: a choice of nonce; callers draw 12 random bytes for each call, or a key that is used once.
//! Private to the crate. A failure of `open` means key, nonce, associated data, ciphertext or tag do not belong together.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::secret::{Secret, random_array, stop};

pub(crate) const NONCE_BYTES: usize = 12;
pub(crate) const TAG_BYTES: usize = 16;

/// A fresh nonce: 96 random bits. At most 2^32 calls under one key (NIST SP 800-38D §8.3).
pub(crate) fn nonce() -> [u8; NONCE_BYTES] {
    random_array()
}

/// `(ciphertext, tag) = AES-256-GCM(key, nonce, aad, plaintext)`, in place (NIST SP 800-38D §7.1).
///
/// Safe only while no nonce is used twice under one key.
pub(crate) fn seal(
    key: &Secret,
    nonce: [u8; NONCE_BYTES],
    aad: &[u8],
    in_out: &mut [u8],
) -> [u8; TAG_BYTES] {
    let tag = cipher(key).seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(aad),
        in_out,
    );
    match tag.map(|tag| tag.as_ref().try_into()) {
        Ok(Ok(tag)) => tag,
        // Why: the only cause is a plaintext of more than 64 GiB, which no caller can hold.
        Ok(Err(_)) | Err(_) => stop("AES-256-GCM refused to seal"),
    }
}

/// Opens `ciphertext ‖ tag` in place and gives the plaintext's length (NIST SP 800-38D §7.2).
///
/// Nothing of `in_out` may be used unless the answer is `Some`.
pub(crate) fn open(
    key: &Secret,
    nonce: [u8; NONCE_BYTES],
    aad: &[u8],
    in_out: &mut [u8],
) -> Option<usize> {
    let nonce = Nonce::assume_unique_for_key(nonce);
    let plaintext = cipher(key).open_in_place(nonce, Aad::from(aad), in_out);
    Some(plaintext.ok()?.len())
}

// Why: built for each call, because ring does not wipe its key schedule and a cached one would outlive its key.
fn cipher(key: &Secret) -> LessSafeKey {
    match UnboundKey::new(&AES_256_GCM, key.expose()) {
        Ok(key) => LessSafeKey::new(key),
        Err(_) => stop("AES-256 refused a 32-byte key"),
    }
}
