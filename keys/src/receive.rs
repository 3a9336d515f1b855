//! Opening tickets, as a hospital's connector does.
//!
//! Never here: JSON serializations, algorithms or header members other than ours, or a size that is found out by reading on.
//! The gateway itself uses none of this to serve a request. A failure means: not for this key, or not what was sent.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::dek::Dek;
use crate::jose::{exact_json, unb64_exact};
use crate::jwe::{self, Opened, Parties};
use crate::jwk::PublicJwk;
use crate::open_key::OpenKey;
use crate::secret::Secret;
use crate::sign::{VerifyError, verify_any};
use crate::ticket::{ClaimsForm, KeyForm, Sending, TICKET, TICKET_KEYS_MAX};

/// An opened ticket: its signature holds, and it was sealed to the audience and name it says.
///
/// The connector still compares `iss` and `aud` with its own ([`Ticket::is_for`]), refuses a `jti` it has seen,
/// and refuses an answer that lacks a record the ticket names.
pub struct Ticket {
    /// The gateway.
    pub iss: String,
    /// The hospital's client id.
    pub aud: String,
    /// When it was made, seconds.
    pub iat: u64,
    /// Until when it may be used, seconds.
    pub exp: u64,
    /// Its own name.
    pub jti: String,
    /// The access token's `jti`.
    pub token: String,
    /// The purpose code that was granted.
    pub purpose: String,
    /// RFC 6962 leaf hash of the release's ledger entry.
    pub leaf: [u8; 32],
    /// One for each record that follows.
    pub keys: Vec<TicketEntry>,
}

/// One record's key, as it came.
pub struct TicketEntry {
    /// `RECORDID.VERSION`.
    pub kid: String,
    /// `TYPE/ID`.
    pub res: String,
    /// The Bundle entry's `fullUrl`, where it had one.
    pub full_url: Option<String>,
    /// The data key.
    pub dek: Dek,
}

impl Ticket {
    /// Whether it is from this gateway, for this client, and current; half a minute of clock difference is allowed.
    #[must_use]
    pub fn is_for(&self, iss: &str, aud: &str, now_s: u64) -> bool {
        const SKEW_S: u64 = 30;
        let is_current =
            self.iat <= now_s.saturating_add(SKEW_S) && now_s < self.exp.saturating_add(SKEW_S);
        self.iss == iss && self.aud == aud && is_current
    }
}

/// Why a ticket was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenTicketError {
    /// Not a ticket to this key: another form, another key, or altered.
    #[error("the ticket does not open")]
    Sealed,
    /// The gateway's signature inside.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Signed, but not exactly the claims of a ticket, or not those it was sealed with.
    #[error("the ticket's claims are not as they must be")]
    Claims,
}

/// Opens a ticket and checks the signature inside it and that `apu` and `apv` name its issuer, audience and `jti`.
///
/// # Errors
/// [`OpenTicketError`]; no key is given out on any of them.
pub fn open_ticket(
    key: &OpenKey,
    verify: &[PublicJwk],
    text: &str,
) -> Result<Ticket, OpenTicketError> {
    let (parties, payload) = signed_payload(key, verify, TICKET, text)?;
    claims(&parties, &payload)
        .and_then(ticket)
        .ok_or(OpenTicketError::Claims)
}

/// Opens the JWE, then the JWS inside it: who it was sealed for, and the claims' bytes.
pub(crate) fn signed_payload(
    key: &OpenKey,
    verify: &[PublicJwk],
    what: Sending,
    text: &str,
) -> Result<Opened, OpenTicketError> {
    let (parties, signed) = jwe::open(key, what.outer, text).ok_or(OpenTicketError::Sealed)?;
    let signed = std::str::from_utf8(&signed).map_err(|_| OpenTicketError::Claims)?;
    let (payload, _) = verify_any(verify, what.inner_typ, signed)?;
    Ok((parties, payload))
}

/// The claims, if they are those the JWE was sealed with and name each record once.
pub(crate) fn claims<'a>(parties: &Parties<Vec<u8>>, payload: &'a [u8]) -> Option<ClaimsForm<'a>> {
    let claims: ClaimsForm<'_> = exact_json(payload)?;
    let apv = format!("{}|{}", claims.aud, claims.jti);
    let names: BTreeSet<&str> = claims.keys.iter().map(|key| key.kid.as_ref()).collect();
    let count = claims.keys.len();
    let is_whole = parties.apu == claims.iss.as_bytes()
        && parties.apv == apv.as_bytes()
        && (1..=TICKET_KEYS_MAX).contains(&count)
        && names.len() == count
        && claims.keys.iter().all(|key| key.kty == "oct");
    is_whole.then_some(claims)
}

/// The thirty-two bytes of one key.
pub(crate) fn key_secret(key: &KeyForm<'_>) -> Option<Secret> {
    let secret = Zeroizing::new(unb64_exact::<32>(key.k)?);
    Secret::from_slice(secret.as_slice())
}

fn ticket(claims: ClaimsForm<'_>) -> Option<Ticket> {
    let leaf = unb64_exact(claims.leaf)?;
    let keys = claims
        .keys
        .into_iter()
        .map(entry)
        .collect::<Option<Vec<_>>>()?;
    Some(Ticket {
        iss: claims.iss.into_owned(),
        aud: claims.aud.into_owned(),
        iat: claims.iat,
        exp: claims.exp,
        jti: claims.jti.into_owned(),
        token: claims.token.into_owned(),
        purpose: claims.purpose.into_owned(),
        leaf,
        keys,
    })
}

fn entry(key: KeyForm<'_>) -> Option<TicketEntry> {
    let dek = Dek::from_secret(key_secret(&key)?);
    Some(TicketEntry {
        kid: key.kid.into_owned(),
        res: key.res.into_owned(),
        full_url: key.full_url.map(|url| url.into_owned()),
        dek,
    })
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
    use crate::jwk::{Curve, Recipient};
    use crate::sign::Signer;
    use crate::ticket::{TicketClaims, TicketError, TicketKey, seal_ticket};

    const CLAIMS: TicketClaims<'static> = TicketClaims {
        iss: "https://gateway.example",
        aud: "RJ1",
        iat: 1_770_811_111,
        exp: 1_770_811_411,
        jti: "4f0c2b7e",
        token: "a91c",
        purpose: "TREAT",
        leaf: &[7; 32],
    };

    fn seal(to: &Recipient, signer: &Signer, deks: &[Dek]) -> Result<String, TicketError> {
        let names: Vec<String> = (0..deks.len()).map(|i| format!("{i:032x}.1")).collect();
        let keys: Vec<TicketKey<'_>> = deks
            .iter()
            .zip(&names)
            .map(|(dek, kid)| TicketKey {
                kid,
                dek,
                res: "Observation/a",
                full_url: Some("urn:\"é\n"),
            })
            .collect();
        seal_ticket(to, signer, &CLAIMS, &keys)
    }

    fn deks(count: usize) -> Vec<Dek> {
        (0..count)
            .map(|_| Dek::from_secret(Secret::random()))
            .collect()
    }

    #[test]
    fn a_ticket_opens_for_its_hospital_and_carries_everything() {
        let signer = Signer::generate();
        let keys = [signer.public().clone()];
        for curve in [Curve::P256, Curve::X25519] {
            let mine = OpenKey::from_secret(curve, Secret::random()).unwrap();
            let sent = deks(TICKET_KEYS_MAX);
            let text = seal(&mine.recipient().unwrap(), &signer, &sent).unwrap();
            let ticket = open_ticket(&mine, &keys, &text).ok().unwrap();
            assert!(ticket.is_for("https://gateway.example", "RJ1", 1_770_811_200));
            assert!(!ticket.is_for("https://gateway.example", "RJ2", 1_770_811_200));
            assert!(!ticket.is_for("https://other.example", "RJ1", 1_770_811_200));
            assert!(!ticket.is_for("https://gateway.example", "RJ1", 1_770_811_441));
            assert!(!ticket.is_for("https://gateway.example", "RJ1", 1_770_811_080));
            assert_eq!((ticket.leaf, ticket.purpose.as_str()), ([7; 32], "TREAT"));
            assert_eq!(ticket.keys.len(), sent.len());
            for (entry, dek) in ticket.keys.iter().zip(&sent) {
                assert_eq!(entry.dek.secret().expose(), dek.secret().expose());
                assert_eq!(entry.full_url.as_deref(), Some("urn:\"é\n"));
            }
        }
    }

    #[test]
    fn no_ticket_without_keys_with_too_many_or_with_two_for_one_record() {
        let (signer, mine) = (Signer::generate(), OpenKey::generate());
        let to = mine.recipient().unwrap();
        assert_eq!(seal(&to, &signer, &[]), Err(TicketError::Empty));
        assert_eq!(
            seal(&to, &signer, &deks(TICKET_KEYS_MAX + 1)),
            Err(TicketError::TooMany)
        );
        let dek = &deks(1)[0];
        let key = || TicketKey {
            kid: "a.1",
            dek,
            res: "X/1",
            full_url: None,
        };
        let twice = seal_ticket(&to, &signer, &CLAIMS, &[key(), key()]);
        assert_eq!(twice, Err(TicketError::Duplicate));
        let long = "u".repeat(600_000);
        let key = TicketKey {
            kid: "a.1",
            dek,
            res: "X/1",
            full_url: Some(&long),
        };
        assert_eq!(
            seal_ticket(&to, &signer, &CLAIMS, &[key]),
            Err(TicketError::TooMany)
        );
    }

    #[test]
    fn another_hospital_another_gateway_and_every_altered_character_are_refused() {
        let (signer, mine) = (Signer::generate(), OpenKey::generate());
        let keys = [signer.public().clone()];
        let text = seal(&mine.recipient().unwrap(), &signer, &deks(1)).unwrap();
        let refused = |text: &str| open_ticket(&mine, &keys, text).err();
        let other = open_ticket(&OpenKey::generate(), &keys, &text);
        assert_eq!(other.err(), Some(OpenTicketError::Sealed));
        let stranger = [Signer::generate().public().clone()];
        assert_eq!(
            open_ticket(&mine, &stranger, &text).err(),
            Some(OpenTicketError::Verify(VerifyError::UnknownKey))
        );
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(refused(&changed), Some(OpenTicketError::Sealed), "at {at}");
            assert!(refused(&text[..at]).is_some(), "cut at {at}");
        }
        assert!(refused(&format!("{text}.")).is_some());
        assert!(refused(&format!("{text} ")).is_some());
    }

    #[test]
    fn one_sealed_by_an_outsider_with_the_public_key_is_refused() {
        let (outsider, signer, mine) =
            (Signer::generate(), Signer::generate(), OpenKey::generate());
        let text = seal(&mine.recipient().unwrap(), &outsider, &deks(1)).unwrap();
        let answer = open_ticket(&mine, &[signer.public().clone()], &text);
        assert_eq!(
            answer.err(),
            Some(OpenTicketError::Verify(VerifyError::UnknownKey))
        );
    }

    #[test]
    fn one_passed_on_to_another_hospital_says_so() {
        // Why: a hospital opens its ticket and seals the signed text inside to a second one.
        let (signer, first, second) =
            (Signer::generate(), OpenKey::generate(), OpenKey::generate());
        let keys = [signer.public().clone()];
        let text = seal(&first.recipient().unwrap(), &signer, &deks(1)).unwrap();
        let (_, signed) = jwe::open(&first, TICKET.outer, &text).unwrap();
        let parties = Parties {
            apu: CLAIMS.iss.as_bytes(),
            apv: b"RJ2|4f0c2b7e".as_slice(),
        };
        let passed =
            jwe::seal(&second.recipient().unwrap(), TICKET.outer, &parties, signed).unwrap();
        assert_eq!(
            open_ticket(&second, &keys, &passed).err(),
            Some(OpenTicketError::Claims)
        );
    }

    #[test]
    fn a_wrapped_key_of_any_other_length_is_refused() {
        // Why a6: RFC 3394's check value alone unwraps to an empty key in a lenient implementation.
        let (signer, mine) = (Signer::generate(), OpenKey::generate());
        let text = seal(&mine.recipient().unwrap(), &signer, &deks(1)).unwrap();
        let parts: Vec<&str> = text.split('.').collect();
        for length in [0, 8, 16, 24, 32, 48] {
            let wrapped = b64(&vec![0xa6; length]);
            let text = [parts[0], &wrapped, parts[2], parts[3], parts[4]].join(".");
            let answer = open_ticket(&mine, &[signer.public().clone()], &text);
            assert_eq!(answer.err(), Some(OpenTicketError::Sealed), "{length}");
        }
    }

    #[test]
    fn two_tickets_share_no_ephemeral_key() {
        let (signer, mine) = (Signer::generate(), OpenKey::generate());
        let (to, keys) = (mine.recipient().unwrap(), deks(1));
        let header = |text: String| text.split('.').next().unwrap().to_owned();
        let one = header(seal(&to, &signer, &keys).unwrap());
        assert_ne!(one, header(seal(&to, &signer, &keys).unwrap()));
    }
}
