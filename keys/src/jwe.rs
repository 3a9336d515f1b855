//! A compact JWE to one registered key: what a ticket travels in.
//!
//! Never here: an `epk` or content key used twice, or any form but `ECDH-ES+A256KW` with `A256GCM`.
//! Private to the crate. A failure to open has no reason: not addressed to this key, or not what was sent.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::agreement::{self, Algorithm, WRAPPED_BYTES};
use crate::gcm::{self, NONCE_BYTES, TAG_BYTES};
use crate::jose::{
    b64, b64_length, exact_json, header_bytes, header_text, parts, push_b64, unb64, unb64_exact,
};
use crate::jwk::{Point, PointMembers, Recipient};
use crate::open_key::OpenKey;
use crate::secret::Secret;

/// The protected header, exactly these members; sorted.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header<'a> {
    alg: &'a str,
    apu: &'a str,
    apv: &'a str,
    cty: &'a str,
    enc: &'a str,
    #[serde(borrow)]
    epk: PointMembers<'a>,
    kid: &'a str,
    typ: &'a str,
}

/// What kind of JWE this is: its `typ` and `cty`.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) typ: &'static str,
    pub(crate) cty: &'static str,
    pub(crate) text_bytes_max: usize,
}

/// Who it is from and for, bound into the key: `apu`, `apv` (RFC 7518 §4.6.1).
pub(crate) struct Parties<B> {
    pub(crate) apu: B,
    pub(crate) apv: B,
}

/// What came out: who it says it is from and for, and the plaintext.
pub(crate) type Opened = (Parties<Vec<u8>>, Zeroizing<Vec<u8>>);

/// `kek = ConcatKDF(ECDH(ephemeral, to))`, `header.AES-KW(kek, cek).iv.AES-256-GCM(cek, iv, header, plaintext).tag`.
///
/// RFC 7516 §5.1, RFC 7518 §4.6 and §5.3. Safe because ephemeral key, `cek` and `iv` are fresh in every call.
pub(crate) fn seal(
    to: &Recipient,
    form: Form,
    parties: &Parties<&[u8]>,
    mut plaintext: Zeroizing<Vec<u8>>,
) -> Option<String> {
    let (epk, kek) = agreement::agree_as_sender(to.point(), parties.apu, parties.apv)?;
    let ((kty, crv), (x, y)) = (epk.words(), epk.coordinates());
    let header = header_text(&Header {
        alg: Algorithm::EcdhEsA256kw.name(),
        apu: &b64(parties.apu),
        apv: &b64(parties.apv),
        cty: form.cty,
        enc: "A256GCM",
        epk: PointMembers {
            crv,
            kty,
            x: &x,
            y: y.as_deref(),
        },
        kid: to.kid(),
        typ: form.typ,
    })?;
    let cek = Secret::random();
    let iv = gcm::nonce();
    let tag = gcm::seal(&cek, iv, header.as_bytes(), &mut plaintext);
    let mut text = String::with_capacity(header.len() + 128 + b64_length(plaintext.len()));
    text.push_str(&header);
    for part in [
        agreement::wrap(&kek, &cek).as_slice(),
        &iv,
        &plaintext,
        &tag,
    ] {
        text.push('.');
        push_b64(&mut text, part);
    }
    (text.len() <= form.text_bytes_max).then_some(text)
}

/// Opens a JWE of exactly this form addressed to this key (RFC 7516 §5.2).
///
/// Safe because every length and every header member is fixed before a key is touched.
pub(crate) fn open(mine: &OpenKey, form: Form, text: &str) -> Option<Opened> {
    let [header, wrapped, iv, ciphertext, tag] = parts(text, form.text_bytes_max)?;
    let header_json = header_bytes(header)?;
    let said: Header<'_> = exact_json(&header_json)?;
    let is_expected = said.alg == Algorithm::EcdhEsA256kw.name()
        && said.enc == "A256GCM"
        && said.typ == form.typ
        && said.cty == form.cty
        && said.kid == mine.kid();
    if !is_expected {
        return None;
    }
    let wrapped = unb64_exact::<WRAPPED_BYTES>(wrapped)?;
    let iv = unb64_exact::<NONCE_BYTES>(iv)?;
    let tag = unb64_exact::<TAG_BYTES>(tag)?;
    let parties = Parties {
        apu: unb64(said.apu)?,
        apv: unb64(said.apv)?,
    };
    let epk = Point::from_members(&said.epk).ok()?;
    let kek = mine.agree(&epk, &parties.apu, &parties.apv)?;
    let cek = agreement::unwrap(&kek, &wrapped)?;
    // INVARIANT: exact capacity, so that the opened bytes stand in one buffer, wiped on drop.
    let mut bytes = Zeroizing::new(unb64(ciphertext)?);
    bytes.reserve_exact(TAG_BYTES);
    bytes.extend_from_slice(&tag);
    let length = gcm::open(&cek, iv, header.as_bytes(), &mut bytes)?;
    bytes.truncate(length);
    Some((parties, bytes))
}
