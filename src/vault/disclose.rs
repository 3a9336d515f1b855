//! Opening what the ledger keeps sealed about one patient: on a recorded grant only, one patient at a time.
//!
//! An entry that somebody has to look at carries a *pointer*: the patient's tag, and why it is looked at, sealed under
//! the gateway's own audit key. It leads to the patient's key and opens nothing itself; once that key is gone it leads
//! nowhere. Records are never opened here: an audit key opens entries only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use keys::{AuditKey, Family};
use policy::{Grant, ReadLog, Scope};

use super::row::{AUDIT_OWNER, PatientRow, patient_key};
use super::{PatientTag, Sealer, Under, Vault, VaultError, audit_context, read};
use crate::ledger::{Receipt, Recorded};
use crate::store::Table;
use policy::words::NhsNumber;

/// What a pointer is sealed for: no entry's nonce is these bytes but by chance of 2^-128.
const POINTER: &[u8; 16] = b"sallyport/ptr/v1";

/// Opens the bodies of entries about one patient, or of those about nobody.
pub struct Opener(Under);

impl Opener {
    /// Whether the entry with this nonce and tag is about that patient.
    #[must_use]
    pub fn is_about(&self, nonce: &[u8; 16], tag: &[u8; 16]) -> bool {
        match &self.0 {
            Under::Patient(key) => key.tag(nonce) == *tag,
            Under::Gateway(ring) => read(ring).audits().any(|key| key.tag(nonce) == *tag),
        }
    }

    /// The plain body of the entry with this nonce; `None` if it is not about that patient.
    #[must_use]
    pub fn open(&self, nonce: &[u8; 16], body: &[u8]) -> Option<Vec<u8>> {
        let open = |key: &AuditKey| key.open_body(nonce, body).ok();
        let plain = match &self.0 {
            Under::Patient(key) => open(key),
            Under::Gateway(ring) => read(ring).audits().find_map(open),
        };
        plain.map(|plain| plain.as_bytes().to_vec())
    }
}

/// Where a pointer leads.
pub struct Pointed {
    tag: PatientTag,
    marks: Vec<String>,
}

impl Pointed {
    /// Why somebody looks at the entry.
    #[must_use]
    pub fn marks(&self) -> &[String] {
        &self.marks
    }
}

impl Vault {
    /// What leads from an entry to its patient, for this gateway alone.
    #[must_use]
    pub fn pointer(&self, patient: &NhsNumber, marks: &[&str]) -> String {
        let PatientTag(tag) = self.tag(patient);
        let plain = [&tag[..], marks.join(",").as_bytes()].concat();
        B64.encode(super::sure(read(&self.ring).audit()).seal_body(POINTER, &plain))
    }

    /// Where a pointer leads; `None` if it is none of ours.
    #[must_use]
    pub fn pointed(&self, pointer: &str) -> Option<Pointed> {
        let sealed = B64.decode(pointer).ok()?;
        let ring = read(&self.ring);
        let plain = ring
            .audits()
            .find_map(|key| key.open_body(POINTER, &sealed).ok())?;
        let (tag, marks) = plain.as_bytes().split_first_chunk()?;
        let marks = std::str::from_utf8(marks)
            .ok()?
            .split(',')
            .filter(|mark| !mark.is_empty());
        Some(Pointed {
            tag: PatientTag(*tag),
            marks: marks.map(str::to_owned).collect(),
        })
    }

    /// Opens the history of the patient whom the grant's token names; nothing where nobody knows such a patient.
    ///
    /// # Errors
    /// The store's, or a row that does not open.
    pub async fn disclose(
        &self,
        recorded: Recorded<Grant<ReadLog>>,
    ) -> Result<(Option<Opener>, Receipt), VaultError> {
        let (grant, receipt) = recorded.into_parts();
        let tag = match grant.caller().token().map(|token| &token.scope) {
            Some(Scope::History(history)) => self.tag(&history.patient),
            _ => return Err(VaultError::Open),
        };
        Ok(match self.under(tag).await? {
            key @ Under::Patient(_) => (Some(Opener(key)), receipt),
            // INVARIANT: what stands under the gateway's own key is about many, and is nobody's history.
            Under::Gateway(_) => (None, receipt),
        })
    }

    /// Opens what these entries are about: items that a recorded grant lets somebody look at.
    ///
    /// # Errors
    /// The store's, or a row that does not open.
    pub async fn disclose_items(
        &self,
        recorded: Recorded<Grant<ReadLog>>,
        pointed: Vec<Option<Pointed>>,
    ) -> Result<(Vec<Opener>, Receipt), VaultError> {
        let (_grant, receipt) = recorded.into_parts();
        let mut openers = Vec::with_capacity(pointed.len());
        for pointed in pointed {
            openers.push(match pointed {
                Some(Pointed { tag, .. }) => Opener(self.under(tag).await?),
                None => Opener(self.own_sealer().0),
            });
        }
        Ok((openers, receipt))
    }

    /// What seals an entry about the patient of another entry.
    ///
    /// # Errors
    /// The store's, or a row that does not open.
    pub async fn sealer_at(&self, pointed: Option<Pointed>) -> Result<Sealer, VaultError> {
        match pointed {
            Some(Pointed { tag, .. }) => Ok(Sealer(self.under(tag).await?)),
            None => Ok(self.own_sealer()),
        }
    }

    /// The audit key of the patient with this tag, or the gateway's own where there is none.
    async fn under(&self, PatientTag(tag): PatientTag) -> Result<Under, VaultError> {
        let keys = vec![patient_key(AUDIT_OWNER, &tag)];
        let rows = self.store.get_many(Table::PatientKeys, keys).await?;
        let Some(row) = rows.into_iter().next().flatten() else {
            return Ok(self.own_sealer().0);
        };
        let row = PatientRow::from_bytes(&row.value)?;
        let family = Family::Kek(AUDIT_OWNER.to_owned());
        let context = audit_context(&tag);
        let key = read(&self.ring).unwrap_audit_with(&family, &context, &row.wrapped)?;
        Ok(Under::Patient(key))
    }
}
