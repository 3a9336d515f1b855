//! Audit keys handed to an auditor, so that entries can be read offline: on an approval of two people, to the one key
//! that the auditor registered. An audit key opens entries and no record; nothing else leaves here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use keys::{AuditKey, Family, Recipient, TICKET_KEYS_MAX, TicketClaims};
use policy::words::NhsNumber;
use policy::{Approve, Grant};

use super::row::{AUDIT_OWNER, PatientRow, patient_key};
use super::{PatientTag, Vault, VaultError, audit_context, read, sure};
use crate::facts::Proposal;
use crate::ledger::Recorded;
use crate::store::Table;

/// How long what is handed out says that it may be opened, seconds.
const DISCLOSURE_SECONDS: u64 = 90 * 86_400;
/// Rows read at once.
const SCAN_ROWS: usize = 1000;

/// Whose entries are to be opened, beside those about nobody.
pub enum Whose {
    /// These patients'.
    These(Vec<NhsNumber>),
    /// Everybody's.
    All,
}

/// To whom keys are handed.
pub struct Auditor<'a> {
    /// OAuth client id.
    pub client: &'a str,
    /// The registered public JWK, as JSON.
    pub open_key: &'a str,
    /// Seconds since the epoch.
    pub now_s: u64,
}

impl Vault {
    /// The audit keys that were approved to be disclosed, sealed to the auditor: compact JWEs of at most 200 keys each.
    /// The gateway's own key, under which entries about nobody stand, comes first.
    ///
    /// # Errors
    /// The store's; a row or key that does not open; an auditor without a usable key; an approval of something else.
    pub async fn hand_out(
        &self,
        approved: Recorded<Grant<Approve>>,
        proposal: &Proposal,
        whose: Whose,
        to: Auditor<'_>,
    ) -> Result<Vec<String>, VaultError> {
        let (grant, receipt) = approved.into_parts();
        // INVARIANT: what was approved is what is handed out.
        if grant.act().act != "audit.disclose" || grant.act().digest != proposal.digest() {
            return Err(VaultError::Open);
        }
        let rows = match whose {
            Whose::These(patients) => self.audit_rows(&patients).await?,
            Whose::All => self.all_audit_rows().await?,
        };
        let recipient = Recipient::from_jwk(to.open_key).map_err(|_| VaultError::Recipient)?;
        let ring = read(&self.ring);
        let family = Family::Kek(AUDIT_OWNER.to_owned());
        let mut opened: Vec<(String, AuditKey)> = Vec::with_capacity(rows.len());
        for (tag, row) in &rows {
            let key = ring.unwrap_audit_with(&family, &audit_context(tag), &row.wrapped)?;
            opened.push((format!("patient-{}", B64.encode(tag)), key));
        }
        let own = (1..).zip(ring.audits());
        let own = own.map(|(version, key)| (format!("gateway-{version}"), key));
        let all: Vec<(String, &AuditKey)> = own
            .chain(opened.iter().map(|(name, key)| (name.clone(), key)))
            .collect();
        let mut sealed = Vec::with_capacity(all.len().div_ceil(TICKET_KEYS_MAX));
        for some in all.chunks(TICKET_KEYS_MAX) {
            let keys: Vec<(&str, &AuditKey)> =
                some.iter().map(|(name, key)| (&**name, *key)).collect();
            let (jti, token) = (keys::random_id(), proposal.name());
            let claims = TicketClaims {
                iss: &self.issuer,
                aud: to.client,
                iat: to.now_s,
                exp: to.now_s + DISCLOSURE_SECONDS,
                jti: &jti,
                token: &token,
                purpose: "audit",
                leaf: receipt.leaf_hash(),
            };
            let signer = sure(ring.signer(&Family::TicketSigning)).as_ref();
            let text = keys::seal_audit_keys(&recipient, signer, &claims, &keys);
            sealed.push(text.map_err(|_| VaultError::Recipient)?);
        }
        Ok(sealed)
    }

    async fn audit_rows(
        &self,
        patients: &[NhsNumber],
    ) -> Result<Vec<([u8; 16], PatientRow)>, VaultError> {
        let tags: Vec<[u8; 16]> = patients
            .iter()
            .map(|patient| {
                let PatientTag(tag) = self.tag(patient);
                tag
            })
            .collect();
        let keys = tags.iter().map(|tag| patient_key(AUDIT_OWNER, tag));
        let rows = self.store.get_many(Table::PatientKeys, keys.collect());
        let rows = tags.into_iter().zip(rows.await?);
        // Why one that is not there is left out: about a patient nobody knows there are no entries.
        rows.filter_map(|(tag, row)| Some((tag, row?)))
            .map(|(tag, row)| Ok((tag, PatientRow::from_bytes(&row.value)?)))
            .collect()
    }

    async fn all_audit_rows(&self) -> Result<Vec<([u8; 16], PatientRow)>, VaultError> {
        let whole = patient_key(AUDIT_OWNER, &[0; 16]);
        let prefix = whole.get(..whole.len() - 16).unwrap_or_default().to_vec();
        let (mut rows, mut after) = (Vec::new(), None);
        loop {
            let some = self
                .store
                .scan(Table::PatientKeys, prefix.clone(), after, SCAN_ROWS)
                .await?;
            let Some(last) = some.last() else {
                return Ok(rows);
            };
            after = Some(last.key.clone());
            for row in some {
                let tag = row.key.last_chunk::<16>().ok_or(VaultError::Open)?;
                rows.push((*tag, PatientRow::from_bytes(&row.value)?));
            }
        }
    }
}
