//! Public keys as JWKs: who a ticket is addressed to, and whose signature is believed.
//!
//! Never here: a secret byte; a public JWK that carries `d` is refused, because its owner has just published it.
//! A key's name is always its RFC 7638 thumbprint; a JWK's own `kid` is not believed.
//! A failure means the JSON is not one P-256 or X25519 key that stands on its curve.

use aws_lc_rs::agreement as lc;
use ring::agreement as ring_agreement;
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};

use crate::jose::{b64, unb64_exact};
use crate::mac::sha256;
use crate::secret::Secret;

const JWK_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Why a JWK is not a key for this use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Not one JSON object with `kty`, `crv`, `x` (and `y`) as plain strings, or too long.
    #[error("not a JSON web key")]
    NotJson,
    /// Neither EC P-256 nor (for tickets) OKP X25519.
    #[error("unsupported key type or curve")]
    UnsupportedCurve,
    /// A coordinate has the wrong length, the point is not on the curve, is of low order, or `d` belongs to another.
    #[error("not a valid point")]
    BadPoint,
    /// `use` or `alg` says that this key is for something else.
    #[error("the key is declared for another use")]
    OtherUse,
    /// A public key was expected and the private part was sent along: that key is burnt.
    #[error("the private part must not be sent")]
    PrivatePart,
    /// A private key was expected and there is no `d`.
    #[error("the private part is missing")]
    NoPrivatePart,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Curve {
    P256,
    X25519,
}

/// What a JWK declares itself for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Sign,
    Encrypt,
}

impl Use {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Use::Sign => ("sig", "ES256"),
            Use::Encrypt => ("enc", "ECDH-ES+A256KW"),
        }
    }
}

/// A public point: 65 bytes uncompressed for P-256 (SEC 1 §2.3.3), 32 for X25519 (RFC 7748).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Point {
    curve: Curve,
    bytes: Vec<u8>,
    kid: String,
}

/// The `kty crv x y` of a JWK, in the order RFC 7638 hashes them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PointMembers<'a> {
    pub(crate) crv: &'a str,
    pub(crate) kty: &'a str,
    pub(crate) x: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) y: Option<&'a str>,
}

/// A whole JWK as it may arrive. Duplicates of these members are refused; others are not read.
#[derive(Deserialize)]
struct Members<'a> {
    crv: &'a str,
    kty: &'a str,
    x: &'a str,
    y: Option<&'a str>,
    d: Option<&'a str>,
    r#use: Option<&'a str>,
    alg: Option<&'a str>,
}

/// A whole public JWK as it is published; members sorted.
#[derive(Serialize)]
struct Published<'a> {
    alg: &'a str,
    crv: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<&'a str>,
    kid: &'a str,
    kty: &'a str,
    r#use: &'a str,
    x: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<&'a str>,
}

impl Point {
    /// Checks the length and that the point is on the curve and not of low order.
    pub(crate) fn new(curve: Curve, bytes: Vec<u8>) -> Option<Point> {
        let is_valid = match curve {
            Curve::P256 => is_on_p256(&bytes),
            Curve::X25519 => bytes.len() == 32 && is_of_large_order(&bytes),
        };
        is_valid.then(|| Point::trusted(curve, bytes))
    }

    /// A point this process computed from a private key.
    pub(crate) fn trusted(curve: Curve, bytes: Vec<u8>) -> Point {
        let mut point = Point {
            curve,
            bytes,
            kid: String::new(),
        };
        point.kid = point.thumbprint();
        point
    }

    pub(crate) fn from_members(members: &PointMembers<'_>) -> Result<Point, JwkError> {
        let x = unb64_exact::<32>(members.x).ok_or(JwkError::BadPoint)?;
        let (curve, bytes) = match (members.kty, members.crv, members.y) {
            ("EC", "P-256", Some(y)) => {
                let y = unb64_exact::<32>(y).ok_or(JwkError::BadPoint)?;
                (Curve::P256, [[4].as_slice(), &x, &y].concat())
            }
            ("EC", "P-256", None) | ("OKP", "X25519", Some(_)) => return Err(JwkError::BadPoint),
            ("OKP", "X25519", None) => (Curve::X25519, x.to_vec()),
            _ => return Err(JwkError::UnsupportedCurve),
        };
        Point::new(curve, bytes).ok_or(JwkError::BadPoint)
    }

    pub(crate) fn curve(&self) -> Curve {
        self.curve
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The coordinates as base64url text: `x`, and `y` on P-256.
    pub(crate) fn coordinates(&self) -> (String, Option<String>) {
        match (self.curve, self.bytes.split_first()) {
            (Curve::P256, Some((_, rest))) => {
                let (x, y) = rest.split_at(rest.len() / 2);
                (b64(x), Some(b64(y)))
            }
            (Curve::P256, None) | (Curve::X25519, _) => (b64(&self.bytes), None),
        }
    }

    pub(crate) fn words(&self) -> (&'static str, &'static str) {
        match self.curve {
            Curve::P256 => ("EC", "P-256"),
            Curve::X25519 => ("OKP", "X25519"),
        }
    }

    /// The JWK with `kid`, `alg` and `use`; `d` only where a private key is written for its owner.
    pub(crate) fn to_jwk(&self, purpose: Use, d: Option<&str>, out: &mut Vec<u8>) {
        let (x, y) = self.coordinates();
        let ((kty, crv), (r#use, alg)) = (self.words(), purpose.words());
        let y = y.as_deref();
        let jwk = Published {
            alg,
            crv,
            d,
            kid: &self.kid,
            kty,
            r#use,
            x: &x,
            y,
        };
        // Why: strings into memory; the writer cannot fail.
        let _written = serde_json::to_writer(out, &jwk);
    }

    pub(crate) fn to_public_jwk(&self, purpose: Use) -> String {
        let mut json = Vec::with_capacity(320);
        self.to_jwk(purpose, None, &mut json);
        String::from_utf8(json).unwrap_or_default()
    }

    /// `BASE64URL(SHA-256(JSON of the required members, sorted))` (RFC 7638 §3, RFC 8037 §2).
    fn thumbprint(&self) -> String {
        let (x, y) = self.coordinates();
        let (kty, crv) = self.words();
        let members = PointMembers {
            crv,
            kty,
            x: &x,
            y: y.as_deref(),
        };
        b64(&sha256(
            &[&serde_json::to_vec(&members).unwrap_or_default()],
        ))
    }
}

/// Reads a JWK for one use and gives its point, and `d` where it has one.
pub(crate) fn read(json: &str, purpose: Use) -> Result<(Point, Option<Secret>), JwkError> {
    if json.len() > JWK_TEXT_BYTES_MAX {
        return Err(JwkError::NotJson);
    }
    let jwk: Members<'_> = serde_json::from_str(json).map_err(|_| JwkError::NotJson)?;
    let (r#use, alg) = purpose.words();
    if jwk.r#use.is_some_and(|said| said != r#use) || jwk.alg.is_some_and(|said| said != alg) {
        return Err(JwkError::OtherUse);
    }
    let point = Point::from_members(&PointMembers {
        crv: jwk.crv,
        kty: jwk.kty,
        x: jwk.x,
        y: jwk.y,
    })?;
    if purpose == Use::Sign && point.curve != Curve::P256 {
        return Err(JwkError::UnsupportedCurve);
    }
    let secret = match jwk.d {
        Some(d) => Some(secret_of(d).ok_or(JwkError::BadPoint)?),
        None => None,
    };
    Ok((point, secret))
}

fn secret_of(d: &str) -> Option<Secret> {
    let bytes = zeroize::Zeroizing::new(unb64_exact::<32>(d)?);
    Secret::from_slice(bytes.as_slice())
}

fn public_only(json: &str, purpose: Use) -> Result<Point, JwkError> {
    match read(json, purpose)? {
        (point, None) => Ok(point),
        (_, Some(_)) => Err(JwkError::PrivatePart),
    }
}

fn is_on_p256(bytes: &[u8]) -> bool {
    let point = lc::UnparsedPublicKey::new(&lc::ECDH_P256, bytes);
    bytes.len() == 65 && bytes.first() == Some(&4) && lc::ParsedPublicKey::try_from(&point).is_ok()
}

// Why: a low-order u-coordinate gives the all-zero secret with every private key (RFC 7748 §6.1); one trial shows it.
fn is_of_large_order(bytes: &[u8]) -> bool {
    let trial = ring_agreement::EphemeralPrivateKey::generate(
        &ring_agreement::X25519,
        &SystemRandom::new(),
    );
    let theirs = ring_agreement::UnparsedPublicKey::new(&ring_agreement::X25519, bytes);
    trial.is_ok_and(|mine| ring_agreement::agree_ephemeral(mine, &theirs, |_| ()).is_ok())
}

/// A public ES256 key whose signatures are believed.
#[derive(Clone)]
pub struct PublicJwk(Point);

impl PublicJwk {
    /// Reads a public EC P-256 JWK.
    ///
    /// # Errors
    /// [`JwkError`] says what is wrong with the key; it may be told to whoever sent it.
    pub fn from_jwk(json: &str) -> Result<PublicJwk, JwkError> {
        public_only(json, Use::Sign).map(PublicJwk)
    }

    pub(crate) fn from_point(point: Point) -> PublicJwk {
        PublicJwk(point)
    }

    pub(crate) fn point(&self) -> &Point {
        &self.0
    }

    /// The RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.0.kid()
    }

    /// The JWK to publish: `alg crv kid kty use x y`.
    #[must_use]
    pub fn to_jwk(&self) -> String {
        self.0.to_public_jwk(Use::Sign)
    }
}

/// A registered public key that tickets are addressed to.
#[derive(Clone)]
pub struct Recipient(Point);

impl Recipient {
    /// Reads a public JWK: EC P-256, or OKP X25519 of large order.
    ///
    /// # Errors
    /// [`JwkError`] says what is wrong with the key; it may be told to whoever sent it.
    pub fn from_jwk(json: &str) -> Result<Recipient, JwkError> {
        public_only(json, Use::Encrypt).map(Recipient)
    }

    pub(crate) fn point(&self) -> &Point {
        &self.0
    }

    /// The RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.0.kid()
    }

    /// The JWK as it is kept and shown: `alg crv kid kty use x (y)`.
    #[must_use]
    pub fn to_jwk(&self) -> String {
        self.0.to_public_jwk(Use::Encrypt)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    // RFC 7517 appendix A.1 and RFC 8037 appendix A.6.
    const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"}"#;
    const X25519: &str = r#"{"kty":"OKP","crv":"X25519","kid":"Bob","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}"#;

    #[test]
    fn both_curves_are_read_and_named_by_their_thumbprint() {
        let key = Recipient::from_jwk(P256).ok().unwrap();
        assert_eq!(key.kid(), "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
        assert_eq!(
            Recipient::from_jwk(&key.to_jwk()).ok().unwrap().kid(),
            key.kid()
        );
        let key = Recipient::from_jwk(X25519).ok().unwrap();
        assert_eq!(
            Recipient::from_jwk(&key.to_jwk()).ok().unwrap().kid(),
            key.kid()
        );
    }

    #[test]
    fn what_is_not_a_public_key_for_this_use_is_refused() {
        let private = P256.replace(
            "\"use\"",
            "\"d\":\"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE\",\"use\"",
        );
        let zero =
            r#"{"kty":"OKP","crv":"X25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
        let off = P256.replace("4Etl", "4Etm");
        for (json, why) in [
            (P256.replace("enc", "sig"), JwkError::OtherUse),
            (
                P256.replace("\"use\":\"enc\"", "\"alg\":\"ECDH-ES\""),
                JwkError::OtherUse,
            ),
            (private, JwkError::PrivatePart),
            (zero.to_owned(), JwkError::BadPoint),
            (off, JwkError::BadPoint),
            (
                P256.replace("\"kty\":\"EC\"", "\"kty\":\"EC\",\"kty\":\"EC\""),
                JwkError::NotJson,
            ),
            (P256.replace("P-256", "P-384"), JwkError::UnsupportedCurve),
            (
                X25519.replace("X25519", "Ed25519"),
                JwkError::UnsupportedCurve,
            ),
            (P256.replace("MKBC", "MKB"), JwkError::BadPoint),
            (String::new(), JwkError::NotJson),
        ] {
            assert_eq!(Recipient::from_jwk(&json).err(), Some(why), "{json}");
        }
        assert_eq!(
            PublicJwk::from_jwk(X25519).err(),
            Some(JwkError::UnsupportedCurve)
        );
        assert_eq!(PublicJwk::from_jwk(P256).err(), Some(JwkError::OtherUse));
    }
}
