//! Sealed records, patients' keys and tickets. The vault alone owns the keyring.
//!
//! A record is sealed once, when it is filed, and its ciphertext is never opened here again: what a release
//! makes is a ticket that holds the data keys of the granted records, addressed to one hospital. The vault
//! never decides; it acts only on what the ledger has recorded.

mod disclose;
mod erase;
mod file;
mod fill;
mod handout;
mod life;
mod release;
mod rotate;
mod row;
mod shelf;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use keys::{AuditKey, Context, Family, Key, Keyring, NoKey, OpenError, Sealed, SharedKeyring};
use policy::words::{NhsNumber, Ods, PractitionerId};

pub use disclose::{Opener, Pointed};
pub use erase::{Erasure, Tombstone};
pub use file::{Batch, Filed, Filing, FilingError, Sealing, fresh_id, repeated};
pub use handout::{Auditor, Whose};
pub use keys::{ChangeError, KeyState};
pub use life::{ActiveKey, KeyName, KeyReport, KeyringWatch, NotAKey, VersionReport};
pub use release::{Address, Release};
pub use rotate::{Owner, Rotation, RotationError};
pub use shelf::{Place, Shelf, Wanted};

use crate::facts::{Seals, Tags};
use crate::fhir::sensitive_codes::SensitiveCodes;
use crate::store::{BlobStore, Store, StoreError, Table};
use row::{AUDIT_OWNER, PatientRow, patient_key};

/// The vault of this gateway.
pub struct Vault {
    ring: Arc<SharedKeyring>,
    store: Arc<dyn Store>,
    blobs: Arc<dyn BlobStore>,
    issuer: String,
    sensitive: SensitiveCodes,
    /// Held to read from wrapping a key to its commit, to write when a KEK is renewed: so that whatever was
    /// wrapped under the old version stands in the store before the rewrap looks for it.
    filing: Arc<tokio::sync::RwLock<()>>,
    /// An audit key of nobody, wrapped: an unknown patient costs the work of a known one.
    nobody: RwLock<Sealed>,
    rotations: rotate::Rotations,
}

/// Why the vault could not act. None of these says anything to a caller.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The store failed.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// Something stored does not open: a key is missing, or the bytes are not what was sealed.
    #[error("a stored row or key does not open")]
    Open,
    /// A key that is needed is not in the keyring.
    #[error("no key for {0}")]
    NoKey(&'static str),
    /// The receiving hospital has no registered key that a ticket can be addressed to.
    #[error("the recipient has no usable key")]
    Recipient,
}

impl From<OpenError> for VaultError {
    fn from(_: OpenError) -> Self {
        Self::Open
    }
}

impl From<row::RowError> for VaultError {
    fn from(_: row::RowError) -> Self {
        Self::Open
    }
}

/// A patient as the store knows one: HMAC(index key, NHS number), 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PatientTag([u8; 16]);

/// What an entry's personal body is sealed under: the patient's audit key, or the gateway's own where no
/// patient is known. It can seal and tag; it shows no key.
pub struct Sealer(Under);

enum Under {
    Patient(AuditKey),
    Gateway(Arc<SharedKeyring>),
}

impl crate::ledger::Seals for Sealer {
    fn tag(&self, nonce: &[u8; 16]) -> [u8; 16] {
        match &self.0 {
            Under::Patient(key) => key.tag(nonce),
            Under::Gateway(ring) => sure(read(ring).audit()).tag(nonce),
        }
    }

    fn seal_body(&self, nonce: &[u8; 16], body: &[u8]) -> Vec<u8> {
        match &self.0 {
            Under::Patient(key) => key.seal_body(nonce, body),
            Under::Gateway(ring) => sure(read(ring).audit()).seal_body(nonce, body),
        }
    }
}

/// Lends the facts what they need of the keyring.
struct RowSeals(Arc<SharedKeyring>);

impl Tags for RowSeals {
    fn tag(&self, domain: &str, text: &str) -> [u8; 16] {
        sure(read(&self.0).mac(&Family::Index)).tag16(&[domain.as_bytes(), text.as_bytes()])
    }
}

impl Seals for RowSeals {
    fn close(&self, key: &[u8], plain: &[u8]) -> Vec<u8> {
        let context = Context::new("sallyport/row/v1").part(key);
        sure(read(&self.0).active_key(&Family::Facts))
            .seal(&context, plain)
            .as_bytes()
            .to_vec()
    }

    fn open(&self, key: &[u8], closed: &[u8]) -> Option<Vec<u8>> {
        let context = Context::new("sallyport/row/v1").part(key);
        let sealed = Sealed::try_from(closed).ok()?;
        Some(
            read(&self.0)
                .open_with(&Family::Facts, &context, &sealed)
                .ok()?
                .as_bytes()
                .to_vec(),
        )
    }

    fn mark(&self, key: &[u8], value: &[u8]) -> [u8; 32] {
        sure(read(&self.0).mac(&Family::Index)).mac(&[b"mark", key, value])
    }
}

/// Lends the store the MAC that stands on every frame and row.
struct StoreMac(Arc<SharedKeyring>);

impl crate::store::Macs for StoreMac {
    fn mac(&self, parts: &[&[u8]]) -> [u8; 16] {
        sure(read(&self.0).mac(&Family::StoreMac)).tag16(parts)
    }
}

fn read(ring: &SharedKeyring) -> RwLockReadGuard<'_, Keyring> {
    ring.read()
}

/// The families of which a gateway has an active key from its first day, and what they are for.
pub(crate) const FAMILIES: [(Family, &str); 8] = [
    (Family::Index, "the index"),
    (Family::Facts, "the facts"),
    (Family::StoreMac, "the store"),
    (Family::Audit, "the ledger's bodies"),
    (Family::TokenSigning, "signing tokens"),
    (Family::DepositSigning, "signing deposits"),
    (Family::TicketSigning, "signing tickets"),
    (Family::LedgerSigning, "signing checkpoints"),
];

fn is_active(version: &keys::KeyVersion) -> bool {
    version.state == keys::KeyState::Active
}

/// A key of [`FAMILIES`].
fn sure<T>(found: Result<T, NoKey>) -> T {
    match found {
        Ok(key) => key,
        // INVARIANT: `Strongroom::new` saw it, and no key of these families is ever taken away without a
        // successor. Going on without it could only mean unsealed rows.
        Err(NoKey) => {
            tracing::error!("a key is missing that every gateway has; stopping");
            std::process::abort()
        }
    }
}

/// The keyring before the vault owns it: what the store and the facts borrow at start-up.
pub struct Strongroom(Arc<SharedKeyring>);

impl Strongroom {
    /// Takes the keyring; nothing gives it back.
    ///
    /// # Errors
    /// If a key is missing that every gateway has from its first day.
    pub fn new(ring: Keyring) -> Result<Self, VaultError> {
        let missing = FAMILIES
            .iter()
            .find(|(family, _)| !ring.versions(family).iter().any(is_active));
        match missing {
            Some((_, name)) => Err(VaultError::NoKey(name)),
            None => Ok(Self(Arc::new(SharedKeyring::new(ring)))),
        }
    }

    /// How often the keyring has changed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        read(&self.0).epoch()
    }

    /// For the store.
    #[must_use]
    pub fn macs(&self) -> Arc<dyn crate::store::Macs> {
        Arc::new(StoreMac(Arc::clone(&self.0)))
    }

    /// For the facts.
    #[must_use]
    pub fn seals(&self) -> Arc<dyn Seals> {
        Arc::new(RowSeals(Arc::clone(&self.0)))
    }

    /// For the ledger.
    #[must_use]
    pub fn notes(&self) -> Arc<dyn crate::ledger::SignsNotes> {
        Arc::new(Notes(Arc::clone(&self.0)))
    }

    /// For the tokens: signs them, and says with which keys they verify.
    #[must_use]
    pub fn token_signs(&self) -> Arc<dyn crate::token::Signs> {
        Arc::new(TokenSigns(Arc::clone(&self.0)))
    }
}

struct Notes(Arc<SharedKeyring>);

impl crate::ledger::SignsNotes for Notes {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        sure(read(&self.0).note_signer()).sign(message)
    }

    fn public(&self) -> [u8; 32] {
        sure(read(&self.0).note_signer()).public()
    }

    fn sign_all(&self, message: &[u8]) -> Vec<([u8; 32], [u8; 64])> {
        // Why one look: between two the key could hand over.
        let ring = read(&self.0);
        let signers = [Some(sure(ring.note_signer())), ring.next_note_signer()];
        signers
            .into_iter()
            .flatten()
            .map(|signer| (signer.public(), signer.sign(message)))
            .collect()
    }

    fn publics(&self) -> Vec<[u8; 32]> {
        let ring = read(&self.0);
        let own = sure(ring.note_signer()).public();
        let others = ring.note_publics().filter(|public| *public != own);
        std::iter::once(own).chain(others).collect()
    }
}

struct TokenSigns(Arc<SharedKeyring>);

impl crate::token::Signs for TokenSigns {
    fn sign(&self, typ: &str, payload: &[u8]) -> String {
        sure(read(&self.0).signer(&Family::TokenSigning)).sign_jws(typ, payload)
    }

    fn verifying(&self) -> Vec<String> {
        read(&self.0).verifying(&Family::TokenSigning)
    }

    fn epoch(&self) -> u64 {
        read(&self.0).epoch()
    }
}

impl Vault {
    /// A vault over this keyring and store; `issuer` is what tickets name.
    ///
    /// # Errors
    /// If the keyring has no key for audit keys.
    pub fn new(
        room: &Strongroom,
        store: Arc<dyn Store>,
        blobs: Arc<dyn BlobStore>,
        issuer: String,
        sensitive: SensitiveCodes,
    ) -> Result<Self, VaultError> {
        let ring = Arc::clone(&room.0);
        let nobody = RwLock::new(nobody(&read(&ring))?);
        let filing = Arc::new(tokio::sync::RwLock::new(()));
        Ok(Self {
            ring,
            store,
            blobs,
            issuer,
            sensitive,
            filing,
            nobody,
            rotations: rotate::Rotations::default(),
        })
    }

    /// How the store knows this patient.
    #[must_use]
    pub fn tag(&self, patient: &NhsNumber) -> PatientTag {
        PatientTag(
            sure(read(&self.ring).mac(&Family::Index))
                .tag16(&[b"patient", patient.as_str().as_bytes()]),
        )
    }

    /// A code of this person within this hour: the same for the same, and nothing to whoever lacks the index key.
    #[must_use]
    pub fn person_code(&self, organisation: &Ods, person: &PractitionerId, hour: u64) -> String {
        use base64::Engine as _;
        let (organisation, person) = (organisation.as_str().as_bytes(), person.as_str().as_bytes());
        let parts = [
            b"emergency".as_slice(),
            organisation,
            person,
            &hour.to_be_bytes(),
        ];
        let tag = sure(read(&self.ring).mac(&Family::Index)).tag16(&parts);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(tag)
    }

    /// The public keys that verify tokens, tickets and deposit signatures, as JWKs.
    #[must_use]
    pub fn published(&self) -> Vec<String> {
        let ring = read(&self.ring);
        let families = [
            Family::TokenSigning,
            Family::TicketSigning,
            Family::DepositSigning,
        ];
        families
            .iter()
            .flat_map(|family| ring.verifying(family))
            .collect()
    }

    /// What seals an entry about this patient. A patient the store does not know costs the same work, and
    /// its entries stand under the gateway's own audit key.
    ///
    /// # Errors
    /// The store's, or a row that does not open.
    pub async fn sealer(&self, patient: Option<&NhsNumber>) -> Result<Sealer, VaultError> {
        let Some(patient) = patient else {
            return Ok(self.gateway_sealer());
        };
        let PatientTag(tag) = self.tag(patient);
        let rows = self
            .store
            .get_many(Table::PatientKeys, vec![patient_key(AUDIT_OWNER, &tag)])
            .await?;
        let family = Family::Kek(AUDIT_OWNER.to_owned());
        let Some(row) = rows.into_iter().next().flatten() else {
            let context = audit_context(&[0; 16]);
            let nobody = self.nobody.read().unwrap_or_else(PoisonError::into_inner);
            read(&self.ring).unwrap_audit_with(&family, &context, &nobody)?;
            drop(nobody);
            return Ok(self.gateway_sealer());
        };
        let row = PatientRow::from_bytes(&row.value)?;
        let bytes =
            read(&self.ring).unwrap_audit_with(&family, &audit_context(&tag), &row.wrapped)?;
        Ok(Sealer(Under::Patient(bytes)))
    }

    fn gateway_sealer(&self) -> Sealer {
        Sealer(Under::Gateway(Arc::clone(&self.ring)))
    }

    /// What seals an entry that is about no patient.
    #[must_use]
    pub fn own_sealer(&self) -> Sealer {
        self.gateway_sealer()
    }

    /// The practices that hold records of this patient: one small row each, however many records.
    ///
    /// # Errors
    /// The store's, or a row that is malformed.
    pub async fn keepers(&self, patient: &NhsNumber) -> Result<BTreeSet<Ods>, VaultError> {
        let PatientTag(tag) = self.tag(patient);
        let rows = self
            .store
            .scan(Table::Names, tag.to_vec(), None, usize::MAX)
            .await?;
        let mut keepers = BTreeSet::new();
        for row in rows.iter().filter(|row| row.key.len() == row::KEEPER_BYTES) {
            keepers.insert(row::read_keeper_key(&row.key)?);
        }
        Ok(keepers)
    }

    async fn patient_row(
        &self,
        practice: &Ods,
        tag: &[u8; 16],
    ) -> Result<Option<PatientRow>, VaultError> {
        let key = patient_key(practice.as_str(), tag);
        let rows = self.store.get_many(Table::PatientKeys, vec![key]).await?;
        Ok(rows
            .into_iter()
            .next()
            .flatten()
            .map(|row| PatientRow::from_bytes(&row.value))
            .transpose()?)
    }

    fn record_key(
        &self,
        practice: &Ods,
        tag: &[u8; 16],
        wrapped: &Sealed,
    ) -> Result<Key<keys::Active>, VaultError> {
        let family = Family::Kek(practice.as_str().to_owned());
        Ok(read(&self.ring).unwrap_with(&family, &record_key_context(practice, tag), wrapped)?)
    }
}

/// An audit key of nobody, under the active KEK of audit keys.
fn nobody(ring: &Keyring) -> Result<Sealed, VaultError> {
    let kek = ring
        .active_key(&Family::Kek(AUDIT_OWNER.to_owned()))
        .map_err(|_| VaultError::NoKey("audit"))?;
    Ok(kek.wrap_audit(&audit_context(&[0; 16]), &AuditKey::generate()))
}

fn record_key_context(practice: &Ods, tag: &[u8; 16]) -> Context {
    Context::new("sallyport/record-key/v1")
        .part(practice.as_str().as_bytes())
        .part(tag)
}

fn audit_context(tag: &[u8; 16]) -> Context {
    Context::new("sallyport/audit-key/v1").part(tag)
}

/// The wrapped DEK and the card of one record version are bound to the very record they belong to.
fn record_context(label: &'static str, practice: &Ods, tag: &[u8; 16], kid: &str) -> Context {
    Context::new(label)
        .part(practice.as_str().as_bytes())
        .part(tag)
        .part(kid.as_bytes())
}
