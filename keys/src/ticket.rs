//! Tickets: the data keys of one release, signed by the gateway and sealed to one hospital.
//!
//! Never here: a ticket stored, or two with one `epk`. Made by the vault for a recorded grant only.
//! A failure means the claims cannot make a ticket; nothing was sealed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::dek::Dek;
use crate::jose::{b64, b64_32};
use crate::jwe::{self, Form, Parties};
use crate::jwk::Recipient;
use crate::sign::Signer;

/// Most data keys one ticket carries; a longer answer is paged.
pub const TICKET_KEYS_MAX: usize = 200;

pub(crate) const INNER_TYP: &str = "sallyport-ticket+jwt";
pub(crate) const OUTER: Form = Form {
    typ: "sallyport-ticket",
    cty: "JWT",
    text_bytes_max: 512 * 1024,
};

/// What a ticket says beside its keys.
pub struct TicketClaims<'a> {
    /// The gateway.
    pub iss: &'a str,
    /// The hospital's client id.
    pub aud: &'a str,
    /// When it was made, seconds.
    pub iat: u64,
    /// Until when it may be opened, seconds.
    pub exp: u64,
    /// Its own name.
    pub jti: &'a str,
    /// The access token's `jti`.
    pub token: &'a str,
    /// The purpose code that was granted.
    pub purpose: &'a str,
    /// RFC 6962 leaf hash of the release's ledger entry.
    pub leaf: &'a [u8; 32],
}

/// One record's key in a ticket.
pub struct TicketKey<'a> {
    /// `RECORDID.VERSION`.
    pub kid: &'a str,
    /// Its data key.
    pub dek: &'a Dek,
    /// `TYPE/ID`.
    pub res: &'a str,
    /// The Bundle entry's `fullUrl`, where it had one.
    pub full_url: Option<&'a str>,
}

/// Why no ticket was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// No keys: an answer without records has no ticket.
    #[error("a ticket needs a key")]
    Empty,
    /// More than [`TICKET_KEYS_MAX`] keys, or a text longer than a receiver accepts.
    #[error("too much for one ticket")]
    TooMany,
    /// Two keys for one `kid`.
    #[error("two keys for one record")]
    Duplicate,
    /// The recipient's key does not agree.
    #[error("the recipient's key cannot be used")]
    Recipient,
}

/// The signed claims on the wire; members sorted. `k` is borrowed from buffers that are wiped.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClaimsForm<'a> {
    #[serde(borrow)]
    pub(crate) aud: Cow<'a, str>,
    pub(crate) exp: u64,
    pub(crate) iat: u64,
    #[serde(borrow)]
    pub(crate) iss: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) jti: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) keys: Vec<KeyForm<'a>>,
    pub(crate) leaf: &'a str,
    #[serde(borrow)]
    pub(crate) purpose: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) token: Cow<'a, str>,
}

/// One data key as a JWK (RFC 7518 §6.4); members sorted.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyForm<'a> {
    #[serde(rename = "fullUrl", skip_serializing_if = "Option::is_none", default)]
    pub(crate) full_url: Option<Cow<'a, str>>,
    pub(crate) k: &'a str,
    #[serde(borrow)]
    pub(crate) kid: Cow<'a, str>,
    pub(crate) kty: &'a str,
    #[serde(borrow)]
    pub(crate) res: Cow<'a, str>,
}

/// `JWE(to, JWS(signer, claims ‖ keys))`, `apu` = issuer, `apv` = audience ‖ "|" ‖ jti (RFC 7519 §11.2: sign, then encrypt).
///
/// Safe because the audience stands inside the signature: what one hospital opens cannot be passed on as another's.
///
/// # Errors
/// [`TicketError`]; no key left the process.
pub fn seal_ticket(
    to: &Recipient,
    signer: &Signer,
    claims: &TicketClaims<'_>,
    keys: &[TicketKey<'_>],
) -> Result<String, TicketError> {
    check(keys)?;
    let payload = payload(claims, keys);
    let mut signed = signer.compact(INNER_TYP, &payload);
    let signed = Zeroizing::new(std::mem::take(&mut *signed).into_bytes());
    let apv = format!("{}|{}", claims.aud, claims.jti);
    let parties = Parties {
        apu: claims.iss.as_bytes(),
        apv: apv.as_bytes(),
    };
    if signed.len() > OUTER.text_bytes_max / 4 * 3 - 4096 {
        return Err(TicketError::TooMany);
    }
    jwe::seal(to, OUTER, &parties, signed).ok_or(TicketError::Recipient)
}

fn check(keys: &[TicketKey<'_>]) -> Result<(), TicketError> {
    let names: BTreeSet<&str> = keys.iter().map(|key| key.kid).collect();
    match keys.len() {
        0 => Err(TicketError::Empty),
        count if count > TICKET_KEYS_MAX => Err(TicketError::TooMany),
        count if count != names.len() => Err(TicketError::Duplicate),
        _ => Ok(()),
    }
}

fn payload(claims: &TicketClaims<'_>, keys: &[TicketKey<'_>]) -> Zeroizing<Vec<u8>> {
    let secrets: Vec<Zeroizing<[u8; 43]>> = keys.iter().map(|key| key_text(key.dek)).collect();
    let keys: Vec<KeyForm<'_>> = keys
        .iter()
        .zip(&secrets)
        .map(|(key, secret)| key_form(key, secret))
        .collect();
    let form = ClaimsForm {
        aud: claims.aud.into(),
        exp: claims.exp,
        iat: claims.iat,
        iss: claims.iss.into(),
        jti: claims.jti.into(),
        keys,
        leaf: &b64(claims.leaf),
        purpose: claims.purpose.into(),
        token: claims.token.into(),
    };
    // INVARIANT: the buffer never grows, so no copy of a data key is left in one that was given back unwiped.
    let mut json = Zeroizing::new(Vec::with_capacity(length_max(&form)));
    // Why: strings and integers into memory; the writer cannot fail.
    let _written = serde_json::to_writer(&mut *json, &form);
    json
}

/// More than the JSON can take: six bytes for each escaped byte, and all the punctuation.
fn length_max(form: &ClaimsForm<'_>) -> usize {
    let claims = [&form.aud, &form.iss, &form.jti, &form.purpose, &form.token];
    let claims: usize = claims.iter().map(|claim| claim.len()).sum();
    let key = |key: &KeyForm<'_>| {
        key.kid.len() + key.res.len() + key.full_url.as_ref().map_or(0, |u| u.len())
    };
    let keys: usize = form.keys.iter().map(key).sum();
    512 + 6 * (claims + keys) + 128 * form.keys.len()
}

fn key_text(dek: &Dek) -> Zeroizing<[u8; 43]> {
    let mut text = Zeroizing::new([0; 43]);
    let _length = b64_32(dek.secret().expose(), &mut text);
    text
}

fn key_form<'a>(key: &TicketKey<'a>, secret: &'a Zeroizing<[u8; 43]>) -> KeyForm<'a> {
    KeyForm {
        full_url: key.full_url.map(Cow::Borrowed),
        k: std::str::from_utf8(secret.as_slice()).unwrap_or_default(),
        kid: key.kid.into(),
        kty: "oct",
        res: key.res.into(),
    }
}
