//! The receiving side, as a hospital's connector runs it: its own key, tickets, records.
//!
//! Never here: JSON serializations, algorithms or header members other than ours, or a size that is found out by reading on.
//! The gateway itself uses none of this to serve a request. A failure means: not for this key, or not what was sent.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use crate::dek::{Dek, RECORD_TYP, RecordHeader};
use crate::gcm::{self, NONCE_BYTES, TAG_BYTES};
use crate::jose::{exact_json, header_bytes, parts, unb64, unb64_exact};
use crate::jwe;
use crate::jwk::PublicJwk;
use crate::open_key::OpenKey;
use crate::sealed::Plaintext;
use crate::secret::Secret;
use crate::sign::{VerifyError, verify_any};
use crate::ticket::{ClaimsForm, INNER_TYP, KeyForm, OUTER, TICKET_KEYS_MAX};

/// Longest record text that is looked at: a 16 MB resource and room.
pub const RECORD_TEXT_BYTES_MAX: usize = 32 * 1024 * 1024;

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
    let (parties, signed) = jwe::open(key, OUTER, text).ok_or(OpenTicketError::Sealed)?;
    let signed = std::str::from_utf8(&signed).map_err(|_| OpenTicketError::Claims)?;
    let (payload, _) = verify_any(verify, INNER_TYP, signed)?;
    let claims: ClaimsForm<'_> = exact_json(&payload).ok_or(OpenTicketError::Claims)?;
    let apv = format!("{}|{}", claims.aud, claims.jti);
    if parties.apu != claims.iss.as_bytes() || parties.apv != apv.as_bytes() {
        return Err(OpenTicketError::Claims);
    }
    ticket(claims).ok_or(OpenTicketError::Claims)
}

fn ticket(claims: ClaimsForm<'_>) -> Option<Ticket> {
    let names: BTreeSet<&str> = claims.keys.iter().map(|key| key.kid.as_ref()).collect();
    let count = claims.keys.len();
    if count == 0 || count > TICKET_KEYS_MAX || names.len() != count {
        return None;
    }
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
    let secret = Zeroizing::new(unb64_exact::<32>(key.k)?);
    let secret = Secret::from_slice(secret.as_slice())?;
    (key.kty == "oct").then(|| TicketEntry {
        kid: key.kid.into_owned(),
        res: key.res.into_owned(),
        full_url: key.full_url.map(|url| url.into_owned()),
        dek: Dek::from_secret(secret),
    })
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
        && said.typ == RECORD_TYP
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
    use crate::dek::FreshDek;
    use crate::jose::b64;
    use crate::jwk::{Curve, Recipient};
    use crate::sign::Signer;
    use crate::ticket::{TicketClaims, TicketError, TicketKey, seal_ticket};

    const CTY: &str = "application/fhir+json; fhirVersion=4.0";
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
        let (_, signed) = jwe::open(&first, OUTER, &text).unwrap();
        let parties = jwe::Parties {
            apu: CLAIMS.iss.as_bytes(),
            apv: b"RJ2|4f0c2b7e".as_slice(),
        };
        let passed = jwe::seal(&second.recipient().unwrap(), OUTER, &parties, signed).unwrap();
        assert_eq!(
            open_ticket(&second, &keys, &passed).err(),
            Some(OpenTicketError::Claims)
        );
    }

    #[test]
    fn two_tickets_share_no_ephemeral_key() {
        let (signer, mine) = (Signer::generate(), OpenKey::generate());
        let (to, keys) = (mine.recipient().unwrap(), deks(1));
        let header = |text: String| text.split('.').next().unwrap().to_owned();
        let one = header(seal(&to, &signer, &keys).unwrap());
        assert_ne!(one, header(seal(&to, &signer, &keys).unwrap()));
    }

    #[test]
    fn a_record_opens_only_with_its_key_and_name() {
        let (text, dek) = FreshDek::generate().seal_record("a.1", CTY, b"{\"resourceType\":\"X\"}");
        let (cty, content) = open_record(&dek, "a.1", &text).ok().unwrap();
        assert_eq!(
            (cty.as_str(), content.as_bytes()),
            (CTY, b"{\"resourceType\":\"X\"}".as_slice())
        );
        assert!(open_record(&dek, "a.2", &text).is_err());
        assert!(open_record(&deks(1)[0], "a.1", &text).is_err());
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
        let dek = &deks(1)[0];
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
