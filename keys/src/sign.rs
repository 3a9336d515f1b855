//! Signatures: ES256 for everything JOSE, Ed25519 for checkpoints, and their strict verification.
//!
//! Never here: a choice of algorithm by the text that is verified; each function names one.
//! A gateway's [`Signer`] has no way out of the process but wrapped in the keyring; a [`ClientKey`] is its owner's file.
//! A failure to verify means the text was not signed by that key, or not in the one form we accept.

use aws_lc_rs::agreement as lc;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::jose::{
    b64_32, b64_length, exact_json, header_bytes, header_text, parts, push_b64, unb64, unb64_exact,
};
use crate::jwk::{self, Curve, JwkError, Point, PublicJwk, Use};
use crate::secret::{Secret, stop};

/// Longest compact JWS that is looked at; a full ticket's inner JWS fits.
pub(crate) const JWS_TEXT_BYTES_MAX: usize = 512 * 1024;

/// Why a JWS is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Not a compact JWS with exactly `alg` ES256, `kid` and the expected `typ`.
    #[error("not a signed text of the expected form")]
    Malformed,
    /// Signed by a key that is not among those given.
    #[error("signed by an unknown key")]
    UnknownKey,
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
}

/// A JWS protected header, exactly these members (RFC 7515 §4).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JwsHeader<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: &'a str,
}

/// An ES256 signing key (ECDSA P-256 with SHA-256, FIPS 186-5; RFC 7518 §3.4).
pub struct Signer {
    scalar: Secret,
    pair: EcdsaKeyPair,
    public: PublicJwk,
}

impl Signer {
    /// A fresh random key.
    #[must_use]
    pub fn generate() -> Signer {
        // Why a loop: a random scalar is out of range once in 2^32 draws; drawing again keeps it uniform.
        loop {
            if let Some(signer) = Signer::from_secret(Secret::random()) {
                return signer;
            }
        }
    }

    /// `Q = d·G`; the public half is always computed, never read beside the secret.
    pub(crate) fn from_secret(scalar: Secret) -> Option<Signer> {
        let private = lc::PrivateKey::from_private_key(&lc::ECDH_P256, scalar.expose()).ok()?;
        let point = private.compute_public_key().ok()?.as_ref().to_vec();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            scalar.expose(),
            &point,
            &SystemRandom::new(),
        )
        .ok()?;
        let public = PublicJwk::from_point(Point::trusted(Curve::P256, point));
        Some(Signer {
            scalar,
            pair,
            public,
        })
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.scalar
    }

    /// The RFC 7638 thumbprint of the public half.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicJwk {
        &self.public
    }

    /// The JWK to publish: `alg crv kid kty use x y`.
    #[must_use]
    pub fn jwk_public(&self) -> String {
        self.public.to_jwk()
    }

    /// `BASE64URL(header).BASE64URL(payload).BASE64URL(r ‖ s)`, header exactly `alg kid typ` (RFC 7515 §3.1).
    ///
    /// Safe because `typ` is set for each use: a signature made for one can never stand for another (RFC 8725 §3.11).
    #[must_use]
    pub fn sign_jws(&self, typ: &str, payload: &[u8]) -> String {
        std::mem::take(&mut *self.compact(typ, payload))
    }

    /// `r ‖ s` over `message`, 64 bytes (RFC 7518 §3.4); the nonce mixes the key with fresh randomness.
    #[must_use]
    pub fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        match signature.map(|signature| signature.as_ref().try_into()) {
            Ok(Ok(signature)) => signature,
            Ok(Err(_)) | Err(_) => stop("ES256 could not sign"),
        }
    }

    /// The compact JWS in a buffer that is wiped, for payloads that hold data keys.
    pub(crate) fn compact(&self, typ: &str, payload: &[u8]) -> Zeroizing<String> {
        let header = JwsHeader {
            alg: "ES256",
            kid: self.kid(),
            typ,
        };
        let Some(header) = header_text(&header) else {
            stop("a JWS header is not JSON")
        };
        let length = header.len() + 1 + b64_length(payload.len()) + 1 + b64_length(64);
        // INVARIANT: the capacity is exact, so the payload is never left behind in a smaller buffer.
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(&header);
        text.push('.');
        push_b64(&mut text, payload);
        let signature = self.sign_raw(text.as_bytes());
        text.push('.');
        push_b64(&mut text, &signature);
        text
    }
}

/// Opens a JWS in the one form we make, and gives the payload.
///
/// # Errors
/// [`VerifyError`]; nothing of the payload is given unless the signature holds.
pub fn verify_jws_es256(key: &PublicJwk, typ: &str, compact: &str) -> Result<Vec<u8>, VerifyError> {
    let (mut payload, _) = verify_any(std::slice::from_ref(key), typ, compact)?;
    Ok(std::mem::take(&mut *payload))
}

/// `ES256-verify(Q, header.payload, r ‖ s)` under the key the header's `kid` names (RFC 7515 §5.2).
///
/// Safe because header members, `alg` and `typ` are fixed before the key is looked up.
pub(crate) fn verify_any<'k>(
    keys: &'k [PublicJwk],
    typ: &str,
    compact: &str,
) -> Result<(Zeroizing<Vec<u8>>, &'k PublicJwk), VerifyError> {
    let malformed = VerifyError::Malformed;
    let [header, payload, signature] = parts(compact, JWS_TEXT_BYTES_MAX).ok_or(malformed)?;
    let header_json = header_bytes(header).ok_or(malformed)?;
    let said: JwsHeader<'_> = exact_json(&header_json).ok_or(malformed)?;
    if said.alg != "ES256" || said.typ != typ {
        return Err(malformed);
    }
    let key = keys
        .iter()
        .find(|key| key.kid() == said.kid)
        .ok_or(VerifyError::UnknownKey)?;
    let signature = unb64_exact::<64>(signature).ok_or(malformed)?;
    let signed = compact
        .get(..header.len() + 1 + payload.len())
        .ok_or(malformed)?;
    if !holds(key, signed.as_bytes(), &signature) {
        return Err(VerifyError::Signature);
    }
    Ok((Zeroizing::new(unb64(payload).ok_or(malformed)?), key))
}

/// Whether `r ‖ s` over `message` holds under `key` (FIPS 186-5 §6.4.2; RFC 7518 §3.4).
pub(crate) fn holds(key: &PublicJwk, message: &[u8], signature: &[u8; 64]) -> bool {
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.point().bytes());
    key.verify(message, signature).is_ok()
}

/// A client's own ES256 key, read from and written to its owner's file: assertions, deposits sealed at the practice.
///
/// The gateway's own keys are [`Signer`]s in the keyring, which have no `to_jwk`.
pub struct ClientKey(Signer);

impl ClientKey {
    /// A fresh random key.
    #[must_use]
    pub fn generate() -> ClientKey {
        ClientKey(Signer::generate())
    }

    /// Reads a private EC P-256 JWK.
    ///
    /// # Errors
    /// [`JwkError`] says what is wrong with the file.
    pub fn from_jwk(json: &str) -> Result<ClientKey, JwkError> {
        let (point, secret) = jwk::read(json, Use::Sign)?;
        let secret = secret.ok_or(JwkError::NoPrivatePart)?;
        let signer = Signer::from_secret(secret).ok_or(JwkError::BadPoint)?;
        if signer.public.point() == &point {
            Ok(ClientKey(signer))
        } else {
            Err(JwkError::BadPoint)
        }
    }

    /// The private JWK, for the owner's file; wiped on drop.
    #[must_use]
    pub fn to_jwk(&self) -> Zeroizing<String> {
        private_jwk(self.0.public.point(), &self.0.scalar, Use::Sign)
    }

    /// The key as a signer.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.0
    }
}

/// A private JWK in a buffer that is wiped and never grows.
pub(crate) fn private_jwk(point: &Point, secret: &Secret, purpose: Use) -> Zeroizing<String> {
    let mut d = Zeroizing::new([0; 43]);
    let text =
        b64_32(secret.expose(), &mut d).and_then(|()| std::str::from_utf8(d.as_slice()).ok());
    // INVARIANT: a P-256 JWK with every member we write is under 400 bytes.
    let mut json = Vec::with_capacity(512);
    point.to_jwk(purpose, text, &mut json);
    Zeroizing::new(String::from_utf8(json).unwrap_or_default())
}

/// An Ed25519 signing key for checkpoints (RFC 8032 §5.1).
pub struct NoteSigner {
    seed: Secret,
    pair: Ed25519KeyPair,
    public: [u8; 32],
}

impl NoteSigner {
    /// A fresh random key.
    #[must_use]
    pub fn generate() -> NoteSigner {
        NoteSigner::from_secret(Secret::random())
    }

    pub(crate) fn from_secret(seed: Secret) -> NoteSigner {
        // Why unchecked: the public half is computed here, so there is nothing to compare it with.
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose());
        let Ok(pair) = pair else {
            stop("Ed25519 refused a 32-byte seed")
        };
        let Ok(public) = pair.public_key().as_ref().try_into() else {
            stop("an Ed25519 public key has not 32 bytes")
        };
        NoteSigner { seed, pair, public }
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.seed
    }

    /// `R ‖ S` over `message` (RFC 8032 §5.1.6); deterministic.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self.pair.sign(message);
        signature
            .as_ref()
            .try_into()
            .unwrap_or_else(|_| stop("Ed25519 did not give 64 bytes"))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }
}

/// Whether `signature` over `message` holds under `public` (RFC 8032 §5.1.7).
#[must_use]
pub fn verify_ed25519(public: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public)
        .verify(message, signature)
        .is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::string_slice,
        reason = "tests may panic"
    )]
    use super::*;
    use crate::jose::b64;

    #[test]
    fn what_was_signed_verifies_and_nothing_else_does() {
        let signer = Signer::generate();
        let text = signer.sign_jws("test", b"{}");
        assert_eq!(
            verify_jws_es256(signer.public(), "test", &text)
                .ok()
                .unwrap(),
            b"{}"
        );
        assert_eq!(
            verify_jws_es256(signer.public(), "other", &text).err(),
            Some(VerifyError::Malformed)
        );
        let other = Signer::generate();
        assert_eq!(
            verify_jws_es256(other.public(), "test", &text).err(),
            Some(VerifyError::UnknownKey)
        );
        let parts: Vec<&str> = text.split('.').collect();
        let changed = format!("{}.{}.{}", parts[0], b64(b"{ }"), parts[2]);
        assert_eq!(
            verify_jws_es256(signer.public(), "test", &changed).err(),
            Some(VerifyError::Signature)
        );
    }

    #[test]
    fn a_header_with_anything_more_or_else_is_refused() {
        let signer = Signer::generate();
        let kid = signer.kid();
        for header in [
            format!(r#"{{"alg":"none","kid":"{kid}","typ":"test"}}"#),
            format!(r#"{{"alg":"HS256","kid":"{kid}","typ":"test"}}"#),
            r#"{"alg":"ES256","typ":"test"}"#.to_owned(),
            format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"ES256","crit":["b64"],"kid":"{kid}","typ":"test"}}"#),
            format!(r#"{{"alg":"ES256","jku":"https://x","kid":"{kid}","typ":"test"}}"#),
            format!(r#"{{"alg":"ES256","alg":"ES256","kid":"{kid}","typ":"test"}}"#),
        ] {
            let signed = format!("{}.{}", b64(header.as_bytes()), b64(b"{}"));
            let text = format!("{signed}.{}", b64(&signer.sign_raw(signed.as_bytes())));
            let refused = verify_jws_es256(signer.public(), "test", &text).err();
            assert_eq!(refused, Some(VerifyError::Malformed), "{header}");
        }
    }

    #[test]
    fn a_client_key_survives_its_file_and_a_mismatched_one_does_not() {
        let key = ClientKey::generate();
        let json = key.to_jwk();
        let back = ClientKey::from_jwk(&json).ok().unwrap();
        assert_eq!(back.signer().kid(), key.signer().kid());
        let other = ClientKey::generate().to_jwk();
        let d = |text: &str| text.split("\"d\":\"").nth(1).unwrap()[..43].to_owned();
        let mixed = json.replace(&d(&json), &d(&other));
        assert_eq!(ClientKey::from_jwk(&mixed).err(), Some(JwkError::BadPoint));
        let public = key.signer().jwk_public();
        assert_eq!(
            ClientKey::from_jwk(&public).err(),
            Some(JwkError::NoPrivatePart)
        );
        assert!(PublicJwk::from_jwk(&public).is_ok());
        assert_eq!(
            PublicJwk::from_jwk(&json).err(),
            Some(JwkError::PrivatePart)
        );
    }

    #[test]
    fn ed25519_signs_and_refuses() {
        let signer = NoteSigner::generate();
        let signature = signer.sign(b"note");
        assert!(verify_ed25519(&signer.public(), b"note", &signature));
        assert!(!verify_ed25519(&signer.public(), b"not", &signature));
        assert!(!verify_ed25519(
            &NoteSigner::generate().public(),
            b"note",
            &signature
        ));
        assert!(!verify_ed25519(&signer.public(), b"note", &signature[..63]));
    }
}
