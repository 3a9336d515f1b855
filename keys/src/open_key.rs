//! A hospital's own key: static ECDH, the only private key here that lives outside a keyring.
//!
//! Never here: the key in the gateway's process, but in a ready-made world; the file is its owner's to guard.
//! A failure means a file that is not one private P-256 or X25519 key.

use aws_lc_rs::agreement as lc;
use zeroize::Zeroizing;

use crate::agreement::{agree_as_receiver, lc_algorithm};
use crate::jwk::{self, Curve, JwkError, Point, Recipient, Use};
use crate::secret::Secret;
use crate::sign::private_jwk;

/// A hospital's private key, which opens tickets.
pub struct OpenKey {
    secret: Secret,
    private: lc::PrivateKey,
    point: Point,
}

impl OpenKey {
    /// A fresh P-256 key, the curve every JOSE library has.
    #[must_use]
    pub fn generate() -> OpenKey {
        // Why a loop: a random scalar is out of range once in 2^32 draws.
        loop {
            if let Some(key) = OpenKey::from_secret(Curve::P256, Secret::random()) {
                return key;
            }
        }
    }

    /// Reads a private JWK, EC P-256 or OKP X25519.
    ///
    /// # Errors
    /// [`JwkError`] says what is wrong with the file.
    pub fn from_jwk(json: &str) -> Result<OpenKey, JwkError> {
        let (point, secret) = jwk::read(json, Use::Encrypt)?;
        let secret = secret.ok_or(JwkError::NoPrivatePart)?;
        let key = OpenKey::from_secret(point.curve(), secret).ok_or(JwkError::BadPoint)?;
        if key.point == point {
            Ok(key)
        } else {
            Err(JwkError::BadPoint)
        }
    }

    pub(crate) fn from_secret(curve: Curve, secret: Secret) -> Option<OpenKey> {
        let algorithm = lc_algorithm(curve);
        let private = lc::PrivateKey::from_private_key(algorithm, secret.expose()).ok()?;
        let point = private.compute_public_key().ok()?.as_ref().to_vec();
        Some(OpenKey {
            secret,
            private,
            point: Point::trusted(curve, point),
        })
    }

    /// The private JWK, for the owner's file; wiped on drop.
    #[must_use]
    pub fn to_jwk(&self) -> Zeroizing<String> {
        private_jwk(&self.point, &self.secret, Use::Encrypt)
    }

    /// The RFC 7638 thumbprint of the public half.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.point.kid()
    }

    /// The JWK to register: `alg crv kid kty use x (y)`.
    #[must_use]
    pub fn public_jwk(&self) -> String {
        self.point.to_public_jwk(Use::Encrypt)
    }

    /// The public half, as the gateway holds it.
    ///
    /// # Errors
    /// Never for a key made here; the public half takes the road every registered key takes.
    pub fn recipient(&self) -> Result<Recipient, JwkError> {
        Recipient::from_jwk(&self.public_jwk())
    }

    /// The key-encryption key agreed with a sender's `epk`; one on another curve, or not on it, is refused.
    pub(crate) fn agree(&self, epk: &Point, apu: &[u8], apv: &[u8]) -> Option<Secret> {
        agree_as_receiver(&self.private, epk, apu, apv)
    }
}
