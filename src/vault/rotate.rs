//! Rotating a KEK: a new version is made, every key that stands under an older one is opened with the version it
//! names and sealed under the new one, in bounded batches, while reads go on; then they are counted again, and only
//! when none is left is the older version retired. Records, data keys and cards are not touched.
//!
//! A version that is *retiring* is the mark of a rotation that has not ended: a start takes it up again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use keys::{Context, Family, KeyState};
use policy::words::Ods;
use policy::{AdminAct, Grant};

use super::row::{AUDIT_OWNER, PatientRow, patient_key};
use super::{Vault, VaultError, audit_context, nobody, read, record_key_context};
use crate::facts::fixed;
use crate::ledger::{Receipt, Recorded};
use crate::store::{Expect, Row, Store, StoreError, Table, Write, WriteSet};

/// Rows rewrapped in one commit: with its mark it is one batch of the index.
const ROWS: usize = 900;

/// Whose KEK it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A practice: it wraps the record keys of that practice's patients.
    Practice(Ods),
    /// The gateway: it wraps the patients' audit keys.
    Audit,
}

impl Owner {
    /// The ODS code, or `audit`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Practice(practice) => practice.as_str(),
            Self::Audit => AUDIT_OWNER,
        }
    }

    pub(super) fn family(&self) -> Family {
        Family::Kek(self.as_str().to_owned())
    }

    fn context(&self, tag: &[u8; 16]) -> Context {
        match self {
            Self::Practice(practice) => record_key_context(practice, tag),
            Self::Audit => audit_context(tag),
        }
    }
}

/// A rotation under way or finished.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Rotation {
    /// Whose KEK it is: an ODS code, or `audit`.
    pub owner: String,
    /// The version that seals from now on.
    pub version: u32,
    /// Wrapped keys that stood under older versions when it was last counted.
    pub of: u64,
    /// Wrapped keys sealed under the new version since.
    pub rewrapped: u64,
    /// Wrapped keys left under older versions.
    pub left: u64,
    /// The older versions under which none is left.
    pub emptied: Vec<u32>,
}

/// Rows as they are to stand, and the key of the last one that was looked at.
struct Batch {
    writes: Vec<Write>,
    last: Vec<u8>,
}

/// Why a rotation stopped; it is taken up again by asking once more.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The vault or its store failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The keyring could not be written.
    #[error("the keyring: {0}")]
    Keyring(#[from] keys::ChangeError),
}

impl From<StoreError> for RotationError {
    fn from(error: StoreError) -> Self {
        Self::Vault(error.into())
    }
}

/// One rotation an owner at a time, and how far each has come.
#[derive(Default)]
pub(super) struct Rotations {
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    seen: Mutex<BTreeMap<String, Rotation>>,
}

impl Rotations {
    fn turn(&self, owner: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(owner.to_owned()).or_default())
    }

    fn say(&self, rotation: &Rotation) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(rotation.owner.clone(), rotation.clone());
    }
}

impl Vault {
    /// Until it is dropped nothing is filed; reads go on.
    pub async fn hold(&self) -> impl Drop + use<> {
        Arc::clone(&self.filing).write_owned().await
    }

    /// Makes the KEK that an owner's keys are wrapped under, where there is none yet.
    ///
    /// # Errors
    /// If the keyring cannot be written.
    pub fn provide(&self, owner: &str, now_ms: u64) -> Result<(), RotationError> {
        let family = Family::Kek(owner.to_owned());
        if read(&self.ring).active_key(&family).is_err() {
            self.ring.add(&family, now_ms)?;
        }
        Ok(())
    }

    /// Every owner of a KEK: the practices, and the audit keys'.
    #[must_use]
    pub fn owners(&self) -> Vec<Owner> {
        let ring = read(&self.ring);
        let owner = |family: &Family| match family {
            Family::Kek(owner) if owner == AUDIT_OWNER => Some(Owner::Audit),
            Family::Kek(owner) => Ods::try_from(owner.as_str()).ok().map(Owner::Practice),
            _ => None,
        };
        ring.families().filter_map(owner).collect()
    }

    /// Owners of whose KEK a version is retiring: a rotation that has not ended.
    #[must_use]
    pub fn unfinished(&self) -> Vec<Owner> {
        let mut owners = self.owners();
        owners.retain(|owner| {
            !self
                .in_state(&owner.family(), KeyState::Retiring)
                .is_empty()
        });
        owners
    }

    /// How far each rotation since the start has come.
    #[must_use]
    pub fn rotations(&self) -> Vec<Rotation> {
        let seen = self.rotations.seen.lock();
        let seen = seen.unwrap_or_else(PoisonError::into_inner);
        seen.values().cloned().collect()
    }

    /// Makes a new version of the owner's KEK. From its return on, nothing is sealed under an older one.
    ///
    /// # Errors
    /// If the keyring cannot be written: then the old version stays active.
    pub async fn renew(
        &self,
        recorded: Recorded<Grant<AdminAct>>,
        owner: &Owner,
        now_ms: u64,
    ) -> Result<(u32, Receipt), RotationError> {
        let (_grant, receipt) = recorded.into_parts();
        let family = owner.family();
        // Why the wait: what is being filed was wrapped under the old version and must stand before the rewrap.
        let _nothing_under_way = self.filing.write().await;
        if read(&self.ring).active_key(&family).is_err() {
            return Err(VaultError::NoKey("that owner").into());
        }
        let version = self.blocking(move |ring| ring.add(&family, now_ms)).await?;
        if *owner == Owner::Audit {
            let fresh = nobody(&read(&self.ring))?;
            *self.nobody.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok((version, receipt))
    }

    /// Rewraps the owner's keys until none is left under an older version, and counts them again; how far it has come
    /// stands in [`Vault::rotations`]. `None` if no rotation of theirs was unfinished. May be asked again at any time.
    ///
    /// # Errors
    /// The store's, or a row that does not open.
    pub async fn rewrap(&self, owner: &Owner) -> Result<Option<Rotation>, RotationError> {
        let turn = self.rotations.turn(owner.as_str());
        let _turn = turn.lock().await;
        let family = owner.family();
        let emptied = self.in_state(&family, KeyState::Retiring);
        if emptied.is_empty() {
            return Ok(None);
        }
        let mut rotation = Rotation {
            owner: owner.as_str().to_owned(),
            ..Rotation::default()
        };
        loop {
            // INVARIANT: it ends only when a whole count, made after the last rewrap, finds none under an older version.
            rotation.version = self.active_version(&family)?;
            let under = self.under_versions(owner).await?;
            let older = under.iter().filter(|row| row.0 != rotation.version);
            rotation.left = older.map(|row| row.1).sum();
            rotation.of = rotation.of.max(rotation.left);
            self.rotations.say(&rotation);
            if rotation.left == 0 {
                rotation.emptied = emptied;
                self.rotations.say(&rotation);
                return Ok(Some(rotation));
            }
            self.pass(owner, &mut rotation).await?;
        }
    }

    /// Rewraps what it finds under older versions, once over all of the owner's rows.
    async fn pass(&self, owner: &Owner, rotation: &mut Rotation) -> Result<(), RotationError> {
        let version = rotation.version;
        let mut batch = self.batch(owner, version, None).await?;
        while let Some(Batch { writes, last }) = batch {
            let count = writes.len() as u64;
            // While one batch is made durable the next one is read and rewrapped.
            let (put, next) =
                tokio::join!(self.put(writes), self.batch(owner, version, Some(last)));
            if put? {
                rotation.rewrapped += count;
                rotation.left = rotation.left.saturating_sub(count);
            }
            self.rotations.say(rotation);
            batch = next?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The next rows, as they are to stand; `None` after the last.
    async fn batch(
        &self,
        owner: &Owner,
        version: u32,
        after: Option<Vec<u8>>,
    ) -> Result<Option<Batch>, RotationError> {
        let rows = self.rows_of(owner, after).await?;
        let Some(last) = rows.last().map(|row| row.key.clone()) else {
            return Ok(None);
        };
        let writes = self.rewrapped(owner, version, rows)?;
        Ok(Some(Batch { writes, last }))
    }

    /// Whether they stand. A deposit may have changed a row in between: the next pass finds it as it stands then.
    async fn put(&self, writes: Vec<Write>) -> Result<bool, StoreError> {
        if writes.is_empty() {
            return Ok(true);
        }
        let token = None;
        match self.store.commit(WriteSet { writes, token }).await {
            Ok(_) => Ok(true),
            Err(StoreError::Conflict | StoreError::Retryable) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Retires the versions under which none is left. The rotation stands in the ledger by then.
    ///
    /// # Errors
    /// If the keyring cannot be written; asking again is safe.
    pub async fn retire_emptied(
        &self,
        owner: &Owner,
        emptied: Vec<u32>,
    ) -> Result<(), RotationError> {
        let family = owner.family();
        let done = self.blocking(move |ring| {
            let each = |version: u32| ring.retire(&family, version);
            emptied.into_iter().try_for_each(each)
        });
        Ok(done.await?)
    }

    fn rewrapped(
        &self,
        owner: &Owner,
        version: u32,
        rows: Vec<Row>,
    ) -> Result<Vec<Write>, RotationError> {
        let ring = read(&self.ring);
        let mut writes = Vec::new();
        for row in rows {
            let mut keys = PatientRow::from_bytes(&row.value).map_err(VaultError::from)?;
            if keys.wrapped.key_version() == version {
                continue;
            }
            let tag: [u8; 16] = row
                .key
                .get(8..)
                .and_then(|tag| tag.try_into().ok())
                .ok_or(VaultError::Open)?;
            debug_assert_eq!(row.key, patient_key(owner.as_str(), &tag));
            let context = owner.context(&tag);
            keys.wrapped = ring
                .rewrap(owner.as_str(), &context, &keys.wrapped)
                .map_err(VaultError::from)?;
            writes.push(Write {
                table: Table::PatientKeys,
                key: row.key,
                value: Some(keys.to_bytes()),
                expect: Expect::Version(row.version),
            });
        }
        Ok(writes)
    }

    async fn rows_of(&self, owner: &Owner, after: Option<Vec<u8>>) -> Result<Vec<Row>, StoreError> {
        rows_of(self.store.as_ref(), owner, after).await
    }

    /// How many wrapped keys of this owner stand under each version of its KEK.
    ///
    /// # Errors
    /// The store's, or a row that is malformed.
    pub async fn under_versions(&self, owner: &Owner) -> Result<Vec<(u32, u64)>, VaultError> {
        let (store, own) = (Arc::clone(&self.store), owner.clone());
        let runtime = tokio::runtime::Handle::current();
        // Why on a thread of its own: a million rows, and among a full house's requests each step would wait behind all.
        let counted = move || runtime.block_on(counted(store.as_ref(), &own));
        let counted = tokio::task::spawn_blocking(counted).await;
        counted.unwrap_or(Err(StoreError::Fatal.into()))
    }

    fn active_version(&self, family: &Family) -> Result<u32, VaultError> {
        let ring = read(&self.ring);
        let key = ring.active_key(family);
        Ok(key.map_err(|_| VaultError::NoKey("that owner"))?.version())
    }

    pub(super) fn in_state(&self, family: &Family, state: KeyState) -> Vec<u32> {
        let versions = read(&self.ring).versions(family).into_iter();
        versions
            .filter(|version| version.state == state)
            .map(|version| version.version)
            .collect()
    }
}

async fn rows_of(
    store: &dyn Store,
    owner: &Owner,
    after: Option<Vec<u8>>,
) -> Result<Vec<Row>, StoreError> {
    let prefix = fixed(owner.as_str()).to_vec();
    store.scan(Table::PatientKeys, prefix, after, ROWS).await
}

async fn counted(store: &dyn Store, owner: &Owner) -> Result<Vec<(u32, u64)>, VaultError> {
    let mut counts = BTreeMap::new();
    let mut after = None;
    loop {
        let rows = rows_of(store, owner, after.take()).await?;
        let Some(last) = rows.last() else { break };
        after = Some(last.key.clone());
        for row in rows {
            let version = PatientRow::from_bytes(&row.value)?.wrapped.key_version();
            *counts.entry(version).or_insert(0) += 1;
        }
    }
    Ok(counts.into_iter().collect())
}
