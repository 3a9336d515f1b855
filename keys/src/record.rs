//! Records: the one encryption of a data key, and the strict way back.
//!
//! Never here: a header member beyond the five registered ones, or a second record under one key.
//! The gateway seals at deposit and never opens to serve a request; receivers open. A failure to open has no reason.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::dek::{Dek, FreshDek};
use crate::gcm::{self, NONCE_BYTES, TAG_BYTES};
use crate::jose::{
    b64_length, exact_json, header_bytes, header_text, parts, push_b64, unb64, unb64_exact,
};
use crate::sealed::Plaintext;
use crate::secret::stop;

/// Longest record text that is looked at: a 16 MB resource and room.
pub const RECORD_TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;

const TYP: &str = "sallyport-record";

/// A record's protected header: registered names only, so that every JOSE library opens it by default.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordHeader<'a> {
    alg: &'a str,
    #[serde(borrow)]
    cty: Cow<'a, str>,
    enc: &'a str,
    #[serde(borrow)]
    kid: Cow<'a, str>,
    typ: &'a str,
}

impl FreshDek {
    /// `header..iv.ciphertext.tag`, a compact JWE with `alg: dir`, `enc: A256GCM` (RFC 7516 §3.1, RFC 7518 §4.5, §5.3).
    ///
    /// Safe because the key encrypts once: it is consumed here, and what comes back cannot encrypt.
    #[must_use]
    pub fn seal_record(self, kid: &str, cty: &str, plaintext: &[u8]) -> (String, Dek) {
        let header = RecordHeader {
            alg: "dir",
            cty: Cow::Borrowed(cty),
            enc: "A256GCM",
            kid: Cow::Borrowed(kid),
            typ: TYP,
        };
        let Some(header) = header_text(&header) else {
            stop("a record header is not JSON")
        };
        let key = self.into_secret();
        let iv = gcm::nonce();
        let mut bytes = Zeroizing::new(plaintext.to_vec());
        let tag = gcm::seal(&key, iv, header.as_bytes(), &mut bytes);
        let mut text = String::with_capacity(
            header.len()
                + 4
                + b64_length(NONCE_BYTES)
                + b64_length(bytes.len())
                + b64_length(TAG_BYTES),
        );
        text.push_str(&header);
        text.push_str("..");
        push_b64(&mut text, &iv);
        text.push('.');
        push_b64(&mut text, &bytes);
        text.push('.');
        push_b64(&mut text, &tag);
        (text, Dek::from_secret(key))
    }
}

/// The record does not open: another form, name or key, or altered. There is no finer answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record does not open")]
pub struct OpenRecordError;

/// Opens a record: exactly `alg cty enc kid typ` in its header, `kid` as the ticket names it; gives `cty` and content.
///
/// RFC 7516 §5.2. Safe only together with [`check_deposit`](crate::check_deposit): GCM does not commit to its key.
///
/// # Errors
/// [`OpenRecordError`]; no content is given.
pub fn open_record(
    dek: &Dek,
    kid: &str,
    text: &str,
) -> Result<(String, Plaintext), OpenRecordError> {
    record(dek, kid, text).ok_or(OpenRecordError)
}

fn record(dek: &Dek, kid: &str, text: &str) -> Option<(String, Plaintext)> {
    let [header, empty, iv, ciphertext, tag] = parts(text, RECORD_TEXT_BYTES_MAX)?;
    let header_json = header_bytes(header)?;
    let said: RecordHeader<'_> = exact_json(&header_json)?;
    let is_expected = said.alg == "dir"
        && said.enc == "A256GCM"
        && said.typ == TYP
        && said.kid == kid
        && empty.is_empty();
    if !is_expected {
        return None;
    }
    let iv = unb64_exact::<NONCE_BYTES>(iv)?;
    let tag = unb64_exact::<TAG_BYTES>(tag)?;
    let mut bytes = unb64(ciphertext)?;
    bytes.extend_from_slice(&tag);
    let mut bytes = Zeroizing::new(bytes);
    let length = gcm::open(dek.secret(), iv, header.as_bytes(), &mut bytes)?;
    bytes.truncate(length);
    Some((said.cty.into_owned(), Plaintext::new(bytes)))
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
    use crate::secret::Secret;

    const CTY: &str = "application/fhir+json; fhirVersion=4.0";

    #[test]
    fn a_record_opens_only_with_its_key_and_name() {
        let (text, dek) = FreshDek::generate().seal_record("a.1", CTY, b"{\"resourceType\":\"X\"}");
        let (cty, content) = open_record(&dek, "a.1", &text).ok().unwrap();
        assert_eq!(
            (cty.as_str(), content.as_bytes()),
            (CTY, b"{\"resourceType\":\"X\"}".as_slice())
        );
        assert!(open_record(&dek, "a.2", &text).is_err());
        assert!(open_record(&Dek::from_secret(Secret::random()), "a.1", &text).is_err());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(
                open_record(&dek, "a.1", std::str::from_utf8(&bytes).unwrap()).is_err(),
                "{at}"
            );
            assert!(
                open_record(&dek, "a.1", &text[..at]).is_err(),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn a_record_header_with_anything_more_or_else_is_refused() {
        let dek = &Dek::from_secret(Secret::random());
        let seal = |header: &str, second: &str| {
            let header = b64(header.as_bytes());
            let (iv, mut bytes) = ([1; 12], b"{}".to_vec());
            let tag = gcm::seal(dek.secret(), iv, header.as_bytes(), &mut bytes);
            format!(
                "{header}.{second}.{}.{}.{}",
                b64(&iv),
                b64(&bytes),
                b64(&tag)
            )
        };
        let good =
            r#"{"alg":"dir","cty":"x","enc":"A256GCM","kid":"a.1","typ":"sallyport-record"}"#;
        assert!(open_record(dek, "a.1", &seal(good, "")).is_ok());
        assert!(open_record(dek, "a.1", &seal(good, "AAAA")).is_err());
        for (from, to) in [
            ("\"alg\"", "\"crit\":[\"exp\"],\"alg\""),
            ("\"alg\"", "\"zip\":\"DEF\",\"alg\""),
            ("\"alg\"", "\"p2c\":20000000,\"alg\""),
            ("\"alg\":\"dir\"", "\"alg\":\"dir\",\"alg\":\"dir\""),
            ("\"dir\"", "\"A256KW\""),
            ("A256GCM", "A128GCM"),
            ("sallyport-record", "other"),
            ("\"typ\":\"sallyport-record\"", "\"typ\":null"),
        ] {
            let header = good.replace(from, to);
            assert!(
                open_record(dek, "a.1", &seal(&header, "")).is_err(),
                "{header}"
            );
        }
    }
}
