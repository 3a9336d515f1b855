//! A client's public keys: what it offers, what stands, and what still holds for a while after a change. Each key is
//! named by its RFC 7638 thumbprint, is of one algorithm and for one use; a private part is never taken in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::deed::{Unfit, unfit};

/// Days that an earlier signing key may go on being believed.
const OVERLAP_DAYS_MAX: u64 = 90;
/// Earlier keys that are kept: a row of the store is small.
pub(super) const OLDER_MAX: usize = 4;
const DAY_MS: u64 = 86_400_000;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyUse {
    /// Signs client assertions.
    Sign,
    /// Opens tickets.
    Open,
}

/// A key that was replaced, and until when it holds: an assertion signed with it is believed, a ticket sealed to it
/// before the change can still be opened by its owner. No new ticket goes to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OlderKey {
    /// What for.
    pub r#use: KeyUse,
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// The public JWK.
    pub jwk: Value,
    /// Until when, milliseconds.
    pub until_ms: u64,
}

/// A public key as it is handed in, read strictly and written anew.
pub struct Offered {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// The public JWK with `kid`, `use` and `alg`.
    pub jwk: Value,
}

#[derive(Deserialize)]
struct Members {
    kty: String,
    crv: String,
    x: String,
    y: Option<String>,
    d: Option<Value>,
    r#use: Option<String>,
    alg: Option<String>,
}

impl Offered {
    /// Reads a public JWK for this use. Whether its point is on the curve is for whoever uses it to say.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn read(purpose: KeyUse, jwk: &Value) -> Result<Self, Unfit> {
        let (member, said) = match purpose {
            KeyUse::Sign => ("payload.sign", "sig"),
            KeyUse::Open => ("payload.open", "enc"),
        };
        let wrong = |rule: &str| unfit(member, rule);
        let key: Members = Members::deserialize(jwk).map_err(|_| wrong("is not a public JWK"))?;
        if key.d.is_some() {
            return Err(wrong(
                "holds the private part: that key is burnt, make another one",
            ));
        }
        let (kty, crv) = (key.kty.as_str(), key.crv.as_str());
        let algs: &[&str] = match (purpose, kty, crv, &key.y) {
            (KeyUse::Sign, "EC", "P-256", Some(_)) => &["ES256"],
            (KeyUse::Sign, "OKP", "Ed25519", None) => &["EdDSA", "Ed25519"],
            (KeyUse::Open, "EC", "P-256", Some(_)) | (KeyUse::Open, "OKP", "X25519", None) => {
                &["ECDH-ES+A256KW"]
            }
            (KeyUse::Sign, ..) => return Err(wrong("must be EC P-256 or OKP Ed25519")),
            (KeyUse::Open, ..) => return Err(wrong("must be EC P-256 or OKP X25519")),
        };
        let alg = key
            .alg
            .as_deref()
            .or(algs.first().copied())
            .unwrap_or_default();
        if key.r#use.as_deref().is_some_and(|it| it != said) || !algs.contains(&alg) {
            return Err(wrong("is declared for another use or algorithm"));
        }
        for coordinate in [Some(&key.x), key.y.as_ref()].into_iter().flatten() {
            if B64.decode(coordinate).map_or(0, |bytes| bytes.len()) != 32 {
                return Err(wrong("has a coordinate that is not 32 bytes of base64url"));
            }
        }
        let mut public = json!({ "crv": crv, "kty": kty, "x": key.x });
        if let (Some(y), Some(public)) = (&key.y, public.as_object_mut()) {
            public.insert("y".to_owned(), y.as_str().into());
        }
        let kid = thumbprint(&public);
        if let Some(public) = public.as_object_mut() {
            public.insert("alg".to_owned(), alg.into());
            public.insert("kid".to_owned(), kid.as_str().into());
            public.insert("use".to_owned(), said.into());
        }
        Ok(Self { kid, jwk: public })
    }
}

/// RFC 7638 §3: SHA-256 over the required members, sorted.
fn thumbprint(required: &Value) -> String {
    let text = serde_json_canonicalizer::to_vec(required).unwrap_or_default();
    B64.encode(Sha256::digest(text))
}

/// The name of a key that stands in the directory.
pub(super) fn kid_of(purpose: KeyUse, jwk: &Value) -> Option<String> {
    Offered::read(purpose, jwk).ok().map(|it| it.kid)
}

/// What is offered, with the proof that its private halves are there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOffer {
    /// A key that signs assertions.
    pub sign: Option<Value>,
    /// A key that opens tickets.
    pub open: Option<Value>,
    /// Until when the challenge was to be answered; the challenge's own.
    #[serde(default)]
    pub expires_ms: u64,
    /// Compact JWS over the challenge's nonce.
    #[serde(default)]
    pub proof: String,
    /// How long the earlier signing key goes on being believed.
    #[serde(default)]
    pub overlap_days: u64,
}

impl KeyOffer {
    /// Reads an act's payload.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn read(payload: &Value) -> Result<Self, Unfit> {
        let offer =
            Self::deserialize(payload).map_err(|error| unfit("payload", error.to_string()))?;
        if offer.overlap_days > OVERLAP_DAYS_MAX {
            return Err(unfit("payload.overlap_days", "must be at most 90"));
        }
        Ok(offer)
    }

    /// Both keys, read; at least one of them, and not the same one twice.
    ///
    /// # Errors
    /// Which rule they break.
    pub fn keys(&self) -> Result<(Option<Offered>, Option<Offered>), Unfit> {
        let read = |purpose, jwk: &Option<Value>| {
            jwk.as_ref()
                .map(|jwk| Offered::read(purpose, jwk))
                .transpose()
        };
        let (sign, open) = (
            read(KeyUse::Sign, &self.sign)?,
            read(KeyUse::Open, &self.open)?,
        );
        match (&sign, &open) {
            (None, None) => Err(unfit("payload", "must offer sign, open or both")),
            (Some(sign), Some(open)) if sign.kid == open.kid => Err(unfit(
                "payload",
                "offers one key for signing and opening; they must be two",
            )),
            _ => Ok((sign, open)),
        }
    }

    /// What the challenge's nonce is made of: another client, key or time is another nonce.
    ///
    /// # Errors
    /// What is wrong with the keys.
    pub fn subject(&self, client: &str) -> Result<String, Unfit> {
        let (sign, open) = self.keys()?;
        let kid = |key: Option<Offered>| key.map_or_else(|| "-".to_owned(), |key| key.kid);
        Ok(format!(
            "{client}|{}|{}|{}",
            kid(sign),
            kid(open),
            self.expires_ms
        ))
    }

    pub(super) const fn overlap_until(&self, now_ms: u64) -> u64 {
        now_ms.saturating_add(self.overlap_days * DAY_MS)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn a_key_is_for_one_use_of_one_algorithm_and_public() {
        // RFC 7517 appendix A.1, RFC 8037 appendix A.
        let p256 = json!({"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"});
        let ed25519 =
            json!({"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let with = |jwk: &Value, name: &str, value: &str| {
            let mut jwk = jwk.clone();
            jwk.as_object_mut()
                .unwrap()
                .insert(name.to_owned(), value.into());
            jwk
        };
        let key = Offered::read(KeyUse::Open, &p256).unwrap();
        assert_eq!(key.kid, "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s");
        let key = Offered::read(KeyUse::Sign, &ed25519).unwrap();
        assert_eq!(key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert!(Offered::read(KeyUse::Open, &ed25519).is_err());
        for (purpose, jwk) in [
            (KeyUse::Sign, with(&p256, "d", "x")),
            (KeyUse::Sign, with(&p256, "use", "enc")),
            (KeyUse::Open, with(&p256, "use", "sig")),
            (KeyUse::Open, with(&p256, "alg", "ECDH-ES")),
            (KeyUse::Sign, with(&p256, "alg", "ES384")),
            (KeyUse::Sign, with(&p256, "crv", "P-384")),
            (KeyUse::Sign, with(&p256, "x", "AA")),
            (KeyUse::Sign, json!([])),
        ] {
            assert!(Offered::read(purpose, &jwk).is_err(), "{jwk}");
        }
        let both = KeyOffer::read(&json!({ "sign": p256, "open": p256 })).unwrap();
        assert!(both.keys().is_err(), "one key for both");
        assert!(KeyOffer::read(&json!({})).unwrap().keys().is_err());
    }
}
