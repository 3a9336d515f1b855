//! ECDH-ES+A256KW: one secret between a sender's single-use key and a receiver's registered key, and the wrap under it.
//!
//! Never here: an ephemeral key used twice; `ring` consumes it. Sender: `ring`. Receiver (static key) and AES-KW: `aws-lc-rs`.
//! Private to the crate. A failure means a peer's point or a wrapped key that is not what it claims to be.

use aws_lc_rs::agreement as lc;
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap};
use ring::agreement as ring_agreement;
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use crate::jwk::{Curve, Point};
use crate::mac::sha256;
use crate::secret::{Secret, stop};

/// `encrypted_key`: 32 bytes and RFC 3394's eight.
pub(crate) const WRAPPED_BYTES: usize = 40;

/// How a ticket's key reaches its recipient. One variant today; HPKE and ML-KEM would stand beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    EcdhEsA256kw,
}

impl Algorithm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Algorithm::EcdhEsA256kw => "ECDH-ES+A256KW",
        }
    }
}

/// `SHA-256(00000001 ‖ Z ‖ len(alg) ‖ alg ‖ len(apu) ‖ apu ‖ len(apv) ‖ apv ‖ bits)`, lengths and bits u32 BE.
///
/// RFC 7518 §4.6.2, NIST SP 800-56A §5.8.1, one round. Safe because `alg`, `apu`, `apv` are bound into the key:
/// a header that was changed gives another key. Callers take the first `key_bits` bits.
pub(crate) fn concat_kdf(z: &[u8], alg: &str, apu: &[u8], apv: &[u8], key_bits: u32) -> Secret {
    let digest = Zeroizing::new(sha256(&[
        &[0, 0, 0, 1],
        z,
        &length(alg.as_bytes()),
        alg.as_bytes(),
        &length(apu),
        apu,
        &length(apv),
        apv,
        &key_bits.to_be_bytes(),
    ]));
    Secret::from_slice(digest.as_slice()).unwrap_or_else(|| stop("SHA-256 did not give 32 bytes"))
}

fn length(bytes: &[u8]) -> [u8; 4] {
    // Why: every caller bounds its header to 2 KiB long before this.
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// The sender's half: a fresh ephemeral public key and the key-encryption key agreed with `to` (RFC 7518 §4.6).
///
/// Safe because the ephemeral key is new in every call and dies in it.
pub(crate) fn agree_as_sender(to: &Point, apu: &[u8], apv: &[u8]) -> Option<(Point, Secret)> {
    let algorithm = match to.curve() {
        Curve::P256 => &ring_agreement::ECDH_P256,
        Curve::X25519 => &ring_agreement::X25519,
    };
    let Ok(mine) = ring_agreement::EphemeralPrivateKey::generate(algorithm, &SystemRandom::new())
    else {
        stop("the operating system has no randomness");
    };
    let public = mine.compute_public_key().ok()?;
    let epk = Point::trusted(to.curve(), public.as_ref().to_vec());
    let theirs = ring_agreement::UnparsedPublicKey::new(algorithm, to.bytes());
    let kek = ring_agreement::agree_ephemeral(mine, &theirs, |z| {
        concat_kdf(z, Algorithm::EcdhEsA256kw.name(), apu, apv, 256)
    });
    Some((epk, kek.ok()?))
}

/// The receiver's half. An `epk` off the curve or of low order is refused.
pub(crate) fn agree_as_receiver(
    mine: &lc::PrivateKey,
    epk: &Point,
    apu: &[u8],
    apv: &[u8],
) -> Option<Secret> {
    let theirs = lc::UnparsedPublicKey::new(lc_algorithm(epk.curve()), epk.bytes());
    lc::agree(mine, theirs, (), |z| {
        Ok(concat_kdf(z, Algorithm::EcdhEsA256kw.name(), apu, apv, 256))
    })
    .ok()
}

pub(crate) fn lc_algorithm(curve: Curve) -> &'static lc::Algorithm {
    match curve {
        Curve::P256 => &lc::ECDH_P256,
        Curve::X25519 => &lc::X25519,
    }
}

/// `AES-256-KW(kek, cek)` (RFC 3394 §2.2.1, NIST SP 800-38F).
pub(crate) fn wrap(kek: &Secret, cek: &Secret) -> [u8; WRAPPED_BYTES] {
    let mut wrapped = [0; WRAPPED_BYTES];
    let done = AesKek::new(&AES_256, kek.expose()).and_then(|kek| {
        kek.wrap(cek.expose(), &mut wrapped)
            .map(|bytes| bytes.len())
    });
    match done {
        Ok(WRAPPED_BYTES) => wrapped,
        Ok(_) | Err(_) => stop("AES-KW refused to wrap 32 bytes"),
    }
}

/// `AES-256-KW⁻¹(kek, wrapped)` (RFC 3394 §2.2.2).
///
/// Safe because it takes exactly 40 bytes: a shorter input could unwrap to a short or an empty key.
pub(crate) fn unwrap(kek: &Secret, wrapped: &[u8; WRAPPED_BYTES]) -> Option<Secret> {
    Secret::filled(|out| {
        let kek = AesKek::new(&AES_256, kek.expose()).ok()?;
        (kek.unwrap(wrapped, out).ok()?.len() == 32).then_some(())
    })
}
