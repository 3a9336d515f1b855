//! A challenge that only the holder of a key can read: who registers a key for tickets proves to have its private half.
//!
//! Never here: anything a hospital would call data; the nonce is the gateway's and opens nothing by itself.
//! A failure means a key that cannot be agreed with, or a text that is not addressed to this key.

use zeroize::Zeroizing;

use crate::jwe::{self, Form, Parties};
use crate::jwk::Recipient;
use crate::open_key::OpenKey;

const CHALLENGE: Form = Form {
    typ: "sallyport-challenge",
    cty: "text/plain",
    text_bytes_max: 4096,
};

/// `JWE(to, nonce)`, `apu` = issuer, `apv` = client: the same form as a ticket, so that what reads one reads the other.
#[must_use]
pub fn seal_challenge(to: &Recipient, issuer: &str, client: &str, nonce: &str) -> Option<String> {
    let parties = Parties {
        apu: issuer.as_bytes(),
        apv: client.as_bytes(),
    };
    jwe::seal(
        to,
        CHALLENGE,
        &parties,
        Zeroizing::new(nonce.as_bytes().to_vec()),
    )
}

/// The nonce, for the holder of the key.
#[must_use]
pub fn open_challenge(mine: &OpenKey, text: &str) -> Option<String> {
    let (_parties, nonce) = jwe::open(mine, CHALLENGE, text)?;
    String::from_utf8(nonce.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn only_the_holder_of_the_key_reads_the_nonce() {
        let (mine, other) = (OpenKey::generate(), OpenKey::generate());
        let to = mine.recipient().ok().unwrap();
        let text = seal_challenge(&to, "https://gw", "RJ1", "nonce").unwrap();
        assert_eq!(open_challenge(&mine, &text).unwrap(), "nonce");
        assert!(open_challenge(&other, &text).is_none());
        assert!(open_challenge(&mine, text.get(1..).unwrap()).is_none());
    }
}
