//! Audit keys on their way to an auditor, so that entries can be read offline with the auditor's own tools.
//!
//! The same envelope as a ticket under another `typ`: what opens one is never taken for the other.
//! Never here: a record's key. The vault makes one for a recorded disclosure only; a failure means nothing was sealed.

use crate::audit::AuditKey;
use crate::jose::unb64_exact;
use crate::jwk::{PublicJwk, Recipient};
use crate::open_key::OpenKey;
use crate::receive::{OpenTicketError, claims, key_secret, signed_payload};
use crate::sign::Signer;
use crate::ticket::{AUDIT_KEYS, Entry, TicketClaims, TicketError, seal_signed};

/// Audit keys as they came to an auditor.
pub struct AuditKeys {
    /// The gateway.
    pub iss: String,
    /// The auditor's client id.
    pub aud: String,
    /// The RFC 6962 leaf hash of the disclosure's own ledger entry.
    pub leaf: [u8; 32],
    /// Each key with the name the gateway gave it.
    pub keys: Vec<(String, AuditKey)>,
}

/// `JWE(to, JWS(signer, claims ‖ audit keys))`, as [`seal_ticket`](crate::seal_ticket) with `typ` sallyport-audit-keys.
///
/// RFC 7519 §11.2. Safe because an audit key opens no record, and the disclosure's own entry is named inside the signature.
///
/// # Errors
/// [`TicketError`]; no key left the process.
pub fn seal_audit_keys(
    to: &Recipient,
    signer: &Signer,
    claims: &TicketClaims<'_>,
    keys: &[(&str, &AuditKey)],
) -> Result<String, TicketError> {
    let keys: Vec<Entry<'_>> = keys
        .iter()
        .map(|(kid, key)| Entry {
            kid,
            secret: key.secret(),
            res: "AuditKey",
            full_url: None,
        })
        .collect();
    seal_signed(to, signer, AUDIT_KEYS, claims, &keys)
}

/// Opens what [`seal_audit_keys`] made and checks the signature inside.
///
/// # Errors
/// [`OpenTicketError`]; no key is given out on any of them.
pub fn open_audit_keys(
    key: &OpenKey,
    verify: &[PublicJwk],
    text: &str,
) -> Result<AuditKeys, OpenTicketError> {
    let (parties, payload) = signed_payload(key, verify, AUDIT_KEYS, text)?;
    let claims = claims(&parties, &payload).ok_or(OpenTicketError::Claims)?;
    let leaf = unb64_exact(claims.leaf).ok_or(OpenTicketError::Claims)?;
    let keys = claims
        .keys
        .iter()
        .map(|key| Some((key.kid.to_string(), AuditKey::from_secret(key_secret(key)?))));
    let keys = keys
        .collect::<Option<Vec<_>>>()
        .ok_or(OpenTicketError::Claims)?;
    Ok(AuditKeys {
        iss: claims.iss.into_owned(),
        aud: claims.aud.into_owned(),
        leaf,
        keys,
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;
    use crate::receive::open_ticket;

    #[test]
    fn an_auditor_opens_bodies_with_what_came_and_it_is_no_ticket() {
        let (signer, auditor, key) = (
            Signer::generate(),
            OpenKey::generate(),
            AuditKey::generate(),
        );
        let verify = [signer.public().clone()];
        let claims = TicketClaims {
            iss: "https://gateway.example",
            aud: "auditor",
            iat: 1,
            exp: 2,
            jti: "j",
            token: "t",
            purpose: "audit",
            leaf: &[7; 32],
        };
        let to = auditor.recipient().unwrap();
        let text = seal_audit_keys(&to, &signer, &claims, &[("a", &key)]).unwrap();
        let opened = open_audit_keys(&auditor, &verify, &text).ok().unwrap();
        assert_eq!((opened.aud.as_str(), opened.leaf), ("auditor", [7; 32]));
        let (name, same) = &opened.keys[0];
        let body = key.seal_body(&[1; 16], b"who looked");
        assert_eq!(
            same.open_body(&[1; 16], &body).ok().unwrap().as_bytes(),
            b"who looked"
        );
        assert_eq!(
            (name.as_str(), same.tag(&[1; 16])),
            ("a", key.tag(&[1; 16]))
        );
        assert_eq!(
            open_ticket(&auditor, &verify, &text).err(),
            Some(OpenTicketError::Sealed)
        );
        assert!(open_audit_keys(&OpenKey::generate(), &verify, &text).is_err());
    }
}
