//! Rotating a practice's KEK: a new version is made, every record key of the practice is opened with the
//! version it names and sealed under the new one, in bounded batches, while reads go on. Records, data keys
//! and cards are not touched.

use std::sync::PoisonError;

use keys::{Context, Family, Sealed};
use policy::words::Ods;
use policy::{AdminAct, Grant};

use super::row::{PatientRow, patient_key};
use super::{Vault, VaultError, read};
use crate::facts::fixed;
use crate::ledger::{Receipt, Recorded};
use crate::store::{Expect, StoreError, Table, Write, WriteSet};

/// Rows rewrapped in one commit.
const ROWS: usize = 500;

/// A rotation under way or finished.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Rotation {
    /// The practice whose KEK it is.
    pub practice: String,
    /// The version that seals from now on.
    pub version: u32,
    /// Record keys sealed under it so far.
    pub rewrapped: u64,
    /// Record keys left under older versions.
    pub left: u64,
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

impl Vault {
    /// Makes the KEK that a practice's record keys are wrapped under, where there is none yet.
    ///
    /// # Errors
    /// If the keyring cannot be written.
    pub fn provide(&self, owner: &str, now_ms: u64) -> Result<(), RotationError> {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        let family = Family::Kek(owner.to_owned());
        if ring.active_key(&family).is_err() {
            ring.add(family, now_ms)?;
        }
        Ok(())
    }

    /// Every owner of a KEK: the practices, and `audit`.
    #[must_use]
    pub fn owners(&self) -> Vec<String> {
        let ring = read(&self.ring);
        let owner = |family: &Family| match family {
            Family::Kek(owner) => Some(owner.clone()),
            _ => None,
        };
        ring.families().filter_map(owner).collect()
    }

    /// Makes a new version of the practice's KEK. From its return on, nothing is sealed under an older one.
    ///
    /// # Errors
    /// If the keyring cannot be written: then the old version stays active.
    pub async fn renew(
        &self,
        recorded: Recorded<Grant<AdminAct>>,
        practice: &Ods,
        now_ms: u64,
    ) -> Result<(u32, Receipt), RotationError> {
        let (_grant, receipt) = recorded.into_parts();
        let family = Family::Kek(practice.as_str().to_owned());
        // Why the wait: what is being filed was wrapped under the old version and must stand before the rewrap.
        let _nothing_under_way = self.filing.write().await;
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if ring.active_key(&family).is_err() {
            return Err(VaultError::NoKey("that practice").into());
        }
        Ok((ring.add(family, now_ms)?, receipt))
    }

    /// Rewraps the practice's record keys until none is left under an older version, and says so after each
    /// batch. May be asked again at any time: what is already rewrapped is left alone.
    ///
    /// # Errors
    /// The store's, or a row that does not open.
    pub async fn rewrap(
        &self,
        practice: &Ods,
        mut said: impl FnMut(&Rotation),
    ) -> Result<Rotation, RotationError> {
        let family = Family::Kek(practice.as_str().to_owned());
        let version = read(&self.ring)
            .active_key(&family)
            .map_err(|_| VaultError::NoKey("the practice"))?
            .version();
        let mut rotation = Rotation {
            practice: practice.as_str().to_owned(),
            version,
            rewrapped: 0,
            left: u64::MAX,
        };
        while rotation.left > 0 {
            rotation.left = 0;
            let mut after = None;
            loop {
                let prefix = fixed(practice.as_str()).to_vec();
                let rows = self
                    .store
                    .scan(Table::PatientKeys, prefix, after, ROWS)
                    .await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.key.clone());
                let writes = self.rewrapped(practice, version, rows)?;
                let count = writes.len() as u64;
                match self
                    .store
                    .commit(WriteSet {
                        writes,
                        token: None,
                    })
                    .await
                {
                    Ok(_) => rotation.rewrapped += count,
                    // Why: a deposit changed a row in between; the next round finds it as it stands then.
                    Err(StoreError::Conflict) => rotation.left += count,
                    Err(other) => return Err(other.into()),
                }
                said(&rotation);
                tokio::task::yield_now().await;
            }
        }
        Ok(rotation)
    }

    fn rewrapped(
        &self,
        practice: &Ods,
        version: u32,
        rows: Vec<crate::store::Row>,
    ) -> Result<Vec<Write>, RotationError> {
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
            debug_assert_eq!(row.key, patient_key(practice.as_str(), &tag));
            keys.wrapped = self.rewrap_one(
                practice.as_str(),
                &super::record_key_context(practice, &tag),
                &keys.wrapped,
            )?;
            writes.push(Write {
                table: Table::PatientKeys,
                key: row.key,
                value: Some(keys.to_bytes()),
                expect: Expect::Version(row.version),
            });
        }
        Ok(writes)
    }

    fn rewrap_one(
        &self,
        owner: &str,
        context: &Context,
        wrapped: &Sealed,
    ) -> Result<Sealed, VaultError> {
        Ok(read(&self.ring).rewrap(owner, context, wrapped)?)
    }

    /// How many record keys of this practice stand under each version of its KEK.
    ///
    /// # Errors
    /// The store's, or a row that is malformed.
    pub async fn under_versions(&self, practice: &Ods) -> Result<Vec<(u32, u64)>, VaultError> {
        let mut counts = std::collections::BTreeMap::new();
        let mut after = None;
        loop {
            let prefix = fixed(practice.as_str()).to_vec();
            let rows = self
                .store
                .scan(Table::PatientKeys, prefix, after, ROWS)
                .await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.key.clone());
            for row in rows {
                *counts
                    .entry(PatientRow::from_bytes(&row.value)?.wrapped.key_version())
                    .or_insert(0) += 1;
            }
        }
        Ok(counts.into_iter().collect())
    }
}
