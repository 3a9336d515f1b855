//! For tests: a whole engine in memory, an index in memory that can be lost, and codes with a fixed key.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use super::index::{Change, Index, IndexBroken, IndexPlace};
use super::{
    BlobRef, BlobStore, Expect, Macs, Pending, Row, Seq, Store, StoreError, Table, WriteSet,
    blobs_within_limits,
};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex};

/// SHA-256(key ‖ length-prefixed parts), cut to 16 bytes.
pub(super) struct TestMacs;

impl Macs for TestMacs {
    fn mac(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hash = Sha256::new_with_prefix([0x5a; 64]);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize()[..16].try_into().unwrap()
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Versioned = BTreeMap<(Table, Vec<u8>), (u64, Vec<u8>)>;

#[derive(Default)]
struct Images {
    live: Map,
    durable: Map,
    batches: Vec<Vec<Vec<u8>>>,
    is_failing: bool,
    is_sync_failing: bool,
}

/// An index that remembers what was synced. Clones are the same index, and its own place.
#[derive(Default, Clone)]
pub(super) struct MemoryIndex(Arc<Mutex<Images>>);

impl MemoryIndex {
    fn holding(map: Map) -> Self {
        Self(Arc::new(Mutex::new(Images {
            live: map.clone(),
            durable: map,
            ..Images::default()
        })))
    }

    /// As found after a power cut that left only what was synced.
    pub(super) fn lost(&self) -> Self {
        Self::holding(self.0.lock().unwrap().durable.clone())
    }

    /// As found after a power cut that left all of it.
    pub(super) fn kept(&self) -> Self {
        Self::holding(self.0.lock().unwrap().live.clone())
    }

    /// As found when rows that were not synced came through here and there: of each such key, by its hash.
    pub(super) fn mixed(&self, seed: u8) -> Self {
        let images = self.0.lock().unwrap();
        let mut map = Map::new();
        let keys: std::collections::BTreeSet<_> =
            images.live.keys().chain(images.durable.keys()).collect();
        for key in keys {
            let is_kept = Sha256::new_with_prefix([seed]).chain_update(key).finalize()[0] & 1 == 1;
            let image = if is_kept {
                &images.live
            } else {
                &images.durable
            };
            image
                .get(key)
                .map(|row| map.insert(key.clone(), row.clone()));
        }
        Self::holding(map)
    }

    /// From now on nothing works.
    pub(super) fn fail(&self) {
        self.0.lock().unwrap().is_failing = true;
    }

    /// From now on nothing can be made durable.
    pub(super) fn fail_sync(&self) {
        self.0.lock().unwrap().is_sync_failing = true;
    }

    /// Changes rows behind everybody's back.
    pub(super) fn tamper(&self, change: impl FnOnce(&mut BTreeMap<Vec<u8>, Vec<u8>>)) {
        change(&mut self.0.lock().unwrap().live);
    }

    /// The keys of each batch so far.
    pub(super) fn batches(&self) -> Vec<Vec<Vec<u8>>> {
        self.0.lock().unwrap().batches.clone()
    }

    fn working(&self) -> Result<std::sync::MutexGuard<'_, Images>, IndexBroken> {
        let images = self.0.lock().unwrap();
        if images.is_failing {
            Err(IndexBroken)
        } else {
            Ok(images)
        }
    }
}

impl Index for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexBroken> {
        Ok(self.working()?.live.get(key).cloned())
    }

    fn visit(
        &self,
        lower: Bound<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexBroken> {
        let images = self.working()?;
        let mut rows = images.live.range::<[u8], _>((lower, Bound::Unbounded));
        rows.all(|(key, row)| each(key, row));
        Ok(())
    }

    fn apply(&self, batch: Vec<Change>) -> Result<(), IndexBroken> {
        let mut images = self.working()?;
        images
            .batches
            .push(batch.iter().map(|(key, _)| key.clone()).collect());
        for (key, row) in batch {
            match row {
                Some(row) => images.live.insert(key, row),
                None => images.live.remove(&key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), IndexBroken> {
        let mut images = self.working()?;
        if images.is_sync_failing {
            return Err(IndexBroken);
        }
        images.durable = images.live.clone();
        Ok(())
    }
}

impl IndexPlace for MemoryIndex {
    fn open(&self) -> Result<Box<dyn Index>, IndexBroken> {
        Ok(Box::new(self.clone()))
    }

    fn wipe(&self) -> Result<(), IndexBroken> {
        let mut images = self.0.lock().unwrap();
        (images.live, images.durable) = (Map::new(), Map::new());
        Ok(())
    }
}

/// The smallest engine that keeps the contract, but for durability.
#[derive(Default)]
pub(super) struct MemoryStore(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    seq: u64,
    rows: Versioned,
    tokens: HashMap<[u8; 16], u64>,
    blobs: Vec<Bytes>,
}

impl Rows {
    fn commit(&mut self, set: WriteSet) -> Result<Seq, StoreError> {
        set.within_limits()?;
        if let Some(seq) = set.token.and_then(|token| self.tokens.get(&token)) {
            return Ok(Seq(*seq));
        }
        for write in &set.writes {
            let version = self
                .rows
                .get(&(write.table, write.key.clone()))
                .map(|(version, _)| *version);
            let holds = match write.expect {
                Expect::Any => true,
                Expect::Absent => version.is_none(),
                Expect::Version(expected) => version == Some(expected),
            };
            if !holds {
                return Err(StoreError::Conflict);
            }
        }
        self.seq += 1;
        set.token.map(|token| self.tokens.insert(token, self.seq));
        for write in set.writes {
            match write.value {
                Some(value) => self
                    .rows
                    .insert((write.table, write.key), (self.seq, value)),
                None => self.rows.remove(&(write.table, write.key)),
            };
        }
        Ok(Seq(self.seq))
    }
}

impl Store for MemoryStore {
    fn commit(&self, set: WriteSet) -> Pending<'_, Result<Seq, StoreError>> {
        Box::pin(async move { self.0.lock().unwrap().commit(set) })
    }

    fn get_many(
        &self,
        table: Table,
        keys: Vec<Vec<u8>>,
    ) -> Pending<'_, Result<Vec<Option<Row>>, StoreError>> {
        let rows = &self.0.lock().unwrap().rows;
        let found = keys.into_iter().map(|key| {
            let (version, value) = rows.get(&(table, key.clone()))?.clone();
            Some(Row {
                key,
                value,
                version,
            })
        });
        let found = Ok(found.collect());
        Box::pin(async move { found })
    }

    fn scan(
        &self,
        table: Table,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Pending<'_, Result<Vec<Row>, StoreError>> {
        let rows = &self.0.lock().unwrap().rows;
        let found = rows.iter().filter(|((at, key), _)| {
            *at == table
                && key.starts_with(&prefix)
                && after.as_ref().is_none_or(|after| key > after)
        });
        let found = found.take(limit).map(|((_, key), (version, value))| Row {
            key: key.clone(),
            value: value.clone(),
            version: *version,
        });
        let found = Ok(found.collect());
        Box::pin(async move { found })
    }
}

impl BlobStore for MemoryStore {
    fn put(&self, blobs: Vec<Bytes>) -> Pending<'_, Result<Vec<BlobRef>, StoreError>> {
        Box::pin(async move {
            blobs_within_limits(&blobs)?;
            let kept = &mut self.0.lock().unwrap().blobs;
            let put = blobs.into_iter().map(|blob| {
                let length = u32::try_from(blob.len()).unwrap();
                kept.push(blob);
                BlobRef {
                    segment: 0,
                    offset: kept.len() as u64 - 1,
                    length,
                }
            });
            Ok(put.collect())
        })
    }

    fn get_many(&self, blobs: Vec<BlobRef>) -> Pending<'_, Result<Vec<Bytes>, StoreError>> {
        Box::pin(async move {
            let kept = &self.0.lock().unwrap().blobs;
            let found = |blob: BlobRef| kept.get(usize::try_from(blob.offset).ok()?).cloned();
            let is_right = |blob: BlobRef, bytes: &Bytes| {
                bytes.len() == blob.length as usize && blob.segment == 0
            };
            let open = |blob| {
                found(blob)
                    .filter(|bytes| is_right(blob, bytes))
                    .ok_or(StoreError::Corrupt)
            };
            blobs.into_iter().map(open).collect()
        })
    }
}
