//! Erasing one patient's records of one practice: the record key, cards and names go in one commit, and a mark stays.
//!
//! What was written before is append-only, and backups were taken: older copies of the wrapped record key still stand
//! there, and they open with the KEK version that wrapped them. So an erasure is complete when every version up to the
//! one that was active is destroyed. Audit keys stay: the ledger's bodies have a retention of their own.
//! The mark and the ledger's tombstone name the patient by a code that only the index key makes.

use std::collections::BTreeSet;

use keys::{Family, KeyState};
use policy::words::{NhsNumber, Ods};
use policy::{Approve, Grant};
use serde::Serialize;

use super::rotate::{Owner, RotationError};
use super::row::{CardRow, PatientRow, keeper_key, patient_key, read_card_key};
use super::shelf::name_of;
use super::{PatientTag, Vault, VaultError, read, record_context, sure};
use crate::facts::fixed;
use crate::fhir::card::Card;
use crate::ledger::{Receipt, Recorded};
use crate::store::{Expect, Table, Write, WriteSet};

const MARK: &[u8] = b"erased/";
/// Rows read at once.
const ROWS: usize = 500;

/// What the ledger says of an erasure, before it is done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tombstone {
    /// Whose records they were.
    pub practice: Ods,
    /// HMAC(index key, practice and patient), 16 bytes.
    pub code: [u8; 16],
    /// The KEK version that was active: this one and all before it can open some copy.
    pub upto: u32,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
}

/// An erasure, and what it still waits for.
#[derive(Clone, Debug, Serialize)]
pub struct Erasure {
    /// Whose records they were.
    pub practice: String,
    /// As the ledger's entry names it (`er`), in hex.
    pub erasure: String,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// `complete`, or `waiting`: the live store holds nothing, but an older copy could still be opened.
    pub state: &'static str,
    /// KEK versions of the practice that must be destroyed first.
    pub waits_for: Vec<u32>,
}

impl Tombstone {
    fn key(&self) -> Vec<u8> {
        [MARK, &self.code].concat()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![1];
        out.extend_from_slice(&fixed(self.practice.as_str()));
        out.extend_from_slice(&self.upto.to_be_bytes());
        out.extend_from_slice(&self.at_ms.to_be_bytes());
        out
    }

    fn from_row(key: &[u8], value: &[u8]) -> Option<Self> {
        let code = key.strip_prefix(MARK)?.try_into().ok()?;
        let (practice, rest) = value.strip_prefix(&[1])?.split_at_checked(8)?;
        let (upto, at_ms) = rest.split_first_chunk()?;
        let practice = std::str::from_utf8(practice).ok()?.trim_end_matches('\0');
        Some(Self {
            practice: Ods::try_from(practice).ok()?,
            code,
            upto: u32::from_be_bytes(*upto),
            at_ms: u64::from_be_bytes(at_ms.try_into().ok()?),
        })
    }

    /// The code as the ledger and the pages write it.
    #[must_use]
    pub fn name(&self) -> String {
        self.code.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The code of that spelling.
    #[must_use]
    pub fn code_of(name: &str) -> Option<[u8; 16]> {
        let mut code = [0; 16];
        if name.len() != 32 || !name.is_ascii() {
            return None;
        }
        for (at, byte) in code.iter_mut().enumerate() {
            *byte = u8::from_str_radix(name.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(code)
    }
}

impl Vault {
    /// What an erasure of this patient's records would be recorded as; `None` if this practice holds none.
    ///
    /// # Errors
    /// The store's, or a missing key.
    pub async fn tombstone(
        &self,
        practice: &Ods,
        patient: &NhsNumber,
        at_ms: u64,
    ) -> Result<Option<Tombstone>, RotationError> {
        let PatientTag(tag) = self.tag(patient);
        if self.patient_row(practice, &tag).await?.is_none() {
            return Ok(None);
        }
        let family = Owner::Practice(practice.clone()).family();
        let upto = read(&self.ring).active_key(&family).map(keys::Key::version);
        Ok(Some(Tombstone {
            practice: practice.clone(),
            code: self.erasure_code(practice, &tag),
            upto: upto.map_err(|_| VaultError::NoKey("that practice"))?,
            at_ms,
        }))
    }

    /// Erases what the tombstone names; it stands in the ledger by then, and two people asked for it.
    ///
    /// # Errors
    /// The store's; the next start does it then.
    pub async fn erase(
        &self,
        approved: Recorded<Grant<Approve>>,
        tombstone: &Tombstone,
    ) -> Result<(u64, Receipt), RotationError> {
        let (_grant, receipt) = approved.into_parts();
        Ok((self.bury(tombstone).await?.unwrap_or(0), receipt))
    }

    /// Does what the ledger says was erased and this store does not know of: after a crash, or after an older copy of
    /// the store was put back. `None` if it is done already.
    ///
    /// # Errors
    /// The store's.
    pub async fn bury(&self, tombstone: &Tombstone) -> Result<Option<u64>, RotationError> {
        // Why the wait: no deposit may be half way between the key that goes and a card that would stay.
        let _nothing_under_way = self.filing.write().await;
        let mark = vec![tombstone.key()];
        let known = self.store.get_many(Table::Meta, mark).await?;
        let known = known.into_iter().next().flatten();
        let before = known.and_then(|row| Tombstone::from_row(&row.key, &row.value));
        // Why the time too: a patient may come back, and be erased once more.
        if before.is_some_and(|before| before.at_ms >= tombstone.at_ms) {
            return Ok(None);
        }
        let mut writes = vec![write(
            Table::Meta,
            tombstone.key(),
            Some(tombstone.to_bytes()),
        )];
        let mut records = 0;
        if let Some(tag) = self.buried(tombstone).await? {
            records = self.forget(&tombstone.practice, &tag, &mut writes).await?;
        }
        let token = None;
        self.store.commit(WriteSet { writes, token }).await?;
        Ok(Some(records))
    }

    /// The patient that a tombstone names, if this practice holds records of one.
    async fn buried(&self, tombstone: &Tombstone) -> Result<Option<[u8; 16]>, VaultError> {
        let prefix = fixed(tombstone.practice.as_str()).to_vec();
        let mut after = None;
        loop {
            let rows = self
                .store
                .scan(Table::PatientKeys, prefix.clone(), after.take(), ROWS);
            let rows = rows.await?;
            let Some(last) = rows.last() else {
                return Ok(None);
            };
            after = Some(last.key.clone());
            let tags = rows
                .iter()
                .filter_map(|row| row.key.get(8..)?.try_into().ok());
            let is_it =
                |tag: &[u8; 16]| self.erasure_code(&tombstone.practice, tag) == tombstone.code;
            if let Some(tag) = tags.into_iter().find(is_it) {
                return Ok(Some(tag));
            }
        }
    }

    async fn forget(
        &self,
        practice: &Ods,
        tag: &[u8; 16],
        writes: &mut Vec<Write>,
    ) -> Result<u64, VaultError> {
        let wrapped: Option<PatientRow> = self.patient_row(practice, tag).await?;
        let key = wrapped
            .map(|row| self.record_key(practice, tag, &row.wrapped))
            .transpose()?;
        let prefix = keeper_key(tag, practice);
        let rows = self
            .store
            .scan(Table::Cards, prefix, None, usize::MAX)
            .await?;
        let (mut records, mut names) = (0, BTreeSet::new());
        for row in rows {
            let (_, id) = read_card_key(&row.key)?;
            let card = CardRow::from_bytes(&row.value)?;
            let kid = format!("{id}.{}", card.version);
            let context = record_context("sallyport/card/v1", practice, tag, &kid);
            // Why not an error: what does not open any more is gone already, and the rest must go too.
            let opened = key
                .as_ref()
                .and_then(|key| key.open(&context, &card.card).ok());
            let opened = opened.and_then(|card| Card::from_bytes(card.as_bytes()).ok());
            names.extend(opened.map(|card| name_of(&card)));
            records += 1;
            writes.push(write(Table::Cards, row.key, None));
        }
        for name in names {
            for within in [None, Some(tag)] {
                let key = self.name_key(practice, &name, within);
                writes.push(write(Table::Names, key, None));
            }
        }
        writes.push(write(Table::Names, keeper_key(tag, practice), None));
        let key = patient_key(practice.as_str(), tag);
        writes.push(write(Table::PatientKeys, key, None));
        Ok(records)
    }

    /// Every erasure, and what each waits for.
    ///
    /// # Errors
    /// The store's, or a malformed mark.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, VaultError> {
        let rows = self
            .store
            .scan(Table::Meta, MARK.to_vec(), None, usize::MAX);
        let mut erasures = Vec::new();
        for row in rows.await? {
            let tombstone = Tombstone::from_row(&row.key, &row.value).ok_or(VaultError::Open)?;
            let family = Owner::Practice(tombstone.practice.clone()).family();
            let waits_for: Vec<u32> = read(&self.ring)
                .versions(&family)
                .into_iter()
                .filter(|key| key.version <= tombstone.upto && key.state != KeyState::Destroyed)
                .map(|key| key.version)
                .collect();
            erasures.push(Erasure {
                practice: tombstone.practice.as_str().to_owned(),
                erasure: tombstone.name(),
                at_ms: tombstone.at_ms,
                state: if waits_for.is_empty() {
                    "complete"
                } else {
                    "waiting"
                },
                waits_for,
            });
        }
        Ok(erasures)
    }

    fn erasure_code(&self, practice: &Ods, tag: &[u8; 16]) -> [u8; 16] {
        let parts: [&[u8]; 3] = [b"erased", practice.as_str().as_bytes(), tag];
        sure(read(&self.ring).mac(&Family::Index)).tag16(&parts)
    }
}

fn write(table: Table, key: Vec<u8>, value: Option<Vec<u8>>) -> Write {
    let expect = Expect::Any;
    Write {
        table,
        key,
        value,
        expect,
    }
}
