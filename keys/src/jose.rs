//! The small JOSE parts both directions share: base64url, compact splitting, exact lengths.
//!
//! Never here: a key, a cipher, or a lenient reading. Compact serialization only (RFC 7515 §3.1, RFC 7516 §3.1);
//! padding, white space and non-canonical trailing bits are refused. A failure means the text is not ours.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

/// Longest protected header that is decoded at all.
pub(crate) const HEADER_TEXT_BYTES_MAX: usize = 2048;

/// `BASE64URL(bytes)`, no padding (RFC 7515 §2).
pub(crate) fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Appends `BASE64URL(bytes)` to `text`.
pub(crate) fn push_b64(text: &mut String, bytes: &[u8]) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

/// How many characters `BASE64URL` gives for so many bytes.
pub(crate) fn b64_length(bytes: usize) -> usize {
    bytes.saturating_mul(4).div_ceil(3)
}

/// The 43 characters of 32 bytes, in a buffer the caller can wipe.
pub(crate) fn b64_32(bytes: &[u8; 32], out: &mut [u8; 43]) -> Option<()> {
    (URL_SAFE_NO_PAD.encode_slice(bytes, out).ok()? == 43).then_some(())
}

/// Decodes base64url strictly.
pub(crate) fn unb64(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Decodes base64url of exactly `N` bytes; the length is checked before decoding.
pub(crate) fn unb64_exact<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != b64_length(N) {
        return None;
    }
    let mut bytes = [0; N];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
    (length == N).then_some(bytes)
}

/// Splits a compact serialization into exactly `N` parts.
pub(crate) fn parts<const N: usize>(text: &str, text_bytes_max: usize) -> Option<[&str; N]> {
    if text.len() > text_bytes_max {
        return None;
    }
    let mut pieces = text.split('.');
    let mut parts = [""; N];
    for part in &mut parts {
        *part = pieces.next()?;
    }
    pieces.next().is_none().then_some(parts)
}

/// The bytes of a protected header, bounded before decoding.
pub(crate) fn header_bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() > HEADER_TEXT_BYTES_MAX {
        None
    } else {
        unb64(text)
    }
}

/// `BASE64URL(JSON(header))`.
pub(crate) fn header_text(header: &impl Serialize) -> Option<String> {
    serde_json::to_vec(header).ok().map(|json| b64(&json))
}

/// JSON of exactly the members of `T`: others, duplicates and trailing bytes are refused.
///
/// `T` must carry `deny_unknown_fields`; this keeps `crit zip jku x5u p2c` out of every header.
pub(crate) fn exact_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_strict() {
        assert_eq!(unb64("AQ"), Some(vec![1]));
        for bad in ["AQ==", "AR", "A Q", "A+", "A/", "A", "AQ\n"] {
            assert_eq!(unb64(bad), None, "{bad:?}");
        }
        assert_eq!(unb64_exact::<1>("AQ"), Some([1]));
        assert_eq!(unb64_exact::<2>("AQ"), None);
        assert_eq!(unb64_exact::<1>("AQI"), None);
    }

    #[test]
    fn lengths_agree_with_the_encoder() {
        for length in 0..100 {
            assert_eq!(b64(&vec![0; length]).len(), b64_length(length));
        }
    }

    #[test]
    fn compact_means_exactly_so_many_parts() {
        assert_eq!(parts::<3>("a.b.c", 9), Some(["a", "b", "c"]));
        assert_eq!(parts::<3>("a.b", 9), None);
        assert_eq!(parts::<3>("a.b.c.d", 9), None);
        assert_eq!(parts::<3>("a.b.c", 4), None);
    }
}
