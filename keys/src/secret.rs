//! Thirty-two secret bytes: the one container every key in this crate is built on, and where randomness comes from.
//!
//! Never here: a `Debug`, `Clone`, `Serialize` or `==` on secret bytes. Only this crate may call `expose`.
//! The bytes stand on pages that are locked against swap, so moving a key moves a pointer and leaves no copy on the stack;
//! drop wipes them. Not wiped: the key schedules `ring` and `aws-lc-rs` build for one call.
//! A failure here means the operating system has no randomness; the process stops, because no key made then is a key.

use ring::rand::{SecureRandom, SystemRandom};

use crate::locked::Slot;

/// Bytes in every symmetric key, scalar and seed of this crate.
pub(crate) const SECRET_BYTES: usize = 32;

/// Thirty-two secret bytes, wiped on drop.
pub(crate) struct Secret(Slot);

impl Secret {
    /// Thirty-two fresh random bytes.
    pub(crate) fn random() -> Secret {
        let mut secret = Secret::zeroed();
        random(secret.0.bytes_mut());
        secret
    }

    /// Copies a slice of exactly thirty-two bytes; any other length is `None`.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Secret> {
        let bytes: &[u8; SECRET_BYTES] = bytes.try_into().ok()?;
        let mut secret = Secret::zeroed();
        secret.0.bytes_mut().copy_from_slice(bytes);
        Some(secret)
    }

    /// Lets `fill` write the bytes in place, so that no second copy exists.
    pub(crate) fn filled(
        fill: impl FnOnce(&mut [u8; SECRET_BYTES]) -> Option<()>,
    ) -> Option<Secret> {
        let mut secret = Secret::zeroed();
        fill(secret.0.bytes_mut().try_into().ok()?)?;
        Some(secret)
    }

    /// The bytes, for the length of one call into a cipher.
    pub(crate) fn expose(&self) -> &[u8; SECRET_BYTES] {
        match self.0.bytes().try_into() {
            Ok(bytes) => bytes,
            Err(_) => stop("a secret has not its length"),
        }
    }

    /// A second copy under its own lock of life, for the one place that must write before it swaps.
    pub(crate) fn duplicate(&self) -> Secret {
        let mut secret = Secret::zeroed();
        secret.0.bytes_mut().copy_from_slice(self.0.bytes());
        secret
    }

    fn zeroed() -> Secret {
        Secret(Slot::take())
    }
}

/// Fills `out` with bytes from the operating system's generator, or stops the process.
pub fn random(out: &mut [u8]) {
    if SystemRandom::new().fill(out).is_err() {
        stop("the operating system has no randomness");
    }
}

/// An array of fresh random bytes.
#[must_use]
pub fn random_array<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    random(&mut bytes);
    bytes
}

/// A fresh identifier nobody can guess: 128 random bits, base64url.
#[must_use]
pub fn random_id() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random_array::<16>())
}

/// Ends the process where going on could only mean a weak key or a wrong ciphertext.
// Why: a panic can be caught by a task runner and the request retried; a missing generator must not be survived.
pub(crate) fn stop(what: &'static str) -> ! {
    eprintln!("keys: {what}; stopping");
    std::process::abort()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn two_random_secrets_differ() {
        assert_ne!(Secret::random().expose(), Secret::random().expose());
    }

    #[test]
    fn only_exact_length_is_a_secret() {
        for length in [0, 1, 31, 33, 64] {
            assert!(Secret::from_slice(&vec![7; length]).is_none(), "{length}");
        }
        assert_eq!(Secret::from_slice(&[7; 32]).unwrap().expose(), &[7; 32]);
    }

    #[test]
    fn a_failed_fill_is_no_secret() {
        assert!(Secret::filled(|_| None).is_none());
    }
}
