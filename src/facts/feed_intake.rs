//! What a batch of a feed comes to, held against what arrived before: which numbers are new, repeated or contradicted,
//! which are missing, and what has to be changed for it. Nothing is changed here, and no objection is ever lost for
//! something that is wrong with its number.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use policy::words::Ods;

use super::feed::{FeedPageRow, FeedRow, Trouble};
use super::feed_batch::{FeedBatch, FeedEvent, Sum};
use super::statement::{Kind, prefix};
use super::{Change, Facts, FactsError, Objection, Statement, fixed};
use crate::store::{StoreError, Table};

/// Numbers on one page of what arrived.
const PAGE_NUMBERS: u64 = 4096;

/// What a batch came to.
pub struct Reckoning {
    /// How the feed stands after it.
    pub row: FeedRow,
    /// Events that were new.
    pub taken: u64,
    /// Events that had arrived before.
    pub repeated: u64,
    /// Numbers that had arrived before with another content.
    pub conflicts: Vec<u64>,
    /// What has to be changed for it.
    pub(crate) changes: Vec<Change>,
}

/// Numbers that are missing: from, to.
pub type Missing = Vec<(u64, u64)>;

impl Facts {
    /// Holds a batch against what arrived before, and says what has to be changed for it. To be called under the
    /// turn, so that what is read still holds when the change is made.
    ///
    /// # Errors
    /// The store's, or rows that do not read.
    pub async fn take_in(
        &self,
        owner: &Ods,
        batch: &FeedBatch,
        now_ms: u64,
    ) -> Result<Reckoning, FactsError> {
        let old = self.feed(owner.as_str(), now_ms).row;
        let mut row = old.clone().unwrap_or_else(|| FeedRow {
            generation: batch.end.generation,
            ..FeedRow::begun(owner.as_str(), now_ms)
        });
        row.heard_ms = now_ms;
        if batch.end.generation < row.generation {
            row.trouble = Some(Trouble::Replay);
            return Ok(Reckoning::of(row, Vec::new()));
        }
        let mut changes = Vec::new();
        if batch.end.generation > row.generation {
            for page in self.pages(owner, row.generation).await? {
                changes.push(Change::Remove(Statement::FeedPage(page)));
            }
            row = FeedRow {
                generation: batch.end.generation,
                sound_ms: row.sound_ms,
                ..FeedRow::begun(owner.as_str(), now_ms)
            };
        }
        let mut out = Reckoning::of(row, changes);
        self.add(owner, batch, &mut out).await?;
        out.settle(batch, now_ms);
        Ok(out)
    }

    async fn add(
        &self,
        owner: &Ods,
        batch: &FeedBatch,
        out: &mut Reckoning,
    ) -> Result<(), FactsError> {
        let generation = out.row.generation;
        let wanted: BTreeSet<u32> = batch
            .events
            .iter()
            .map(|event| page_of(event.n).0)
            .collect();
        let mut pages = self.pages_of(owner, generation, &wanted).await?;
        let keys: Vec<Vec<u8>> = batch
            .events
            .iter()
            .map(|event| {
                Statement::Objection(made(owner, generation, event)).key(self.seals.as_ref())
            })
            .collect();
        let mut standing = self.objections_at(&keys).await?;
        let mut sum = Sum::parse(&out.row.sum).unwrap_or(Sum::ZERO);
        let mut put = BTreeSet::new();
        for (event, key) in batch.events.iter().zip(keys) {
            let (page, bit) = page_of(event.n);
            let bits = pages.entry(page).or_insert([0; 512]);
            let byte = bits.get_mut(bit / 8).ok_or_else(unread)?;
            let (before, mask) = (standing.get(&key), 1u8 << (bit % 8));
            let new = made(owner, generation, event);
            let place = before.map(|row| (row.generation, row.n));
            let is_newer = place.is_none_or(|place| place < (generation, event.n));
            if *byte & mask == 0 {
                *byte |= mask;
                out.row.held += 1;
                out.taken += 1;
                sum.add(&event.text());
                if is_newer {
                    standing.insert(key.clone(), new);
                    put.insert(key);
                }
                continue;
            }
            let Some(other) = contradicted(before, new, generation, event) else {
                out.repeated += 1;
                continue;
            };
            out.conflicts.push(event.n);
            // Why: whatever is wrong with the number, an objection is never lost for it.
            if let Some(other) = other {
                standing.insert(key.clone(), other);
                put.insert(key);
            }
        }
        out.row.sum = sum.hex();
        let objections = put.into_iter().filter_map(|key| standing.remove(&key));
        out.changes
            .extend(objections.map(|row| Change::Put(Statement::Objection(row))));
        out.changes.extend(pages.into_iter().map(|(page, bits)| {
            Change::Put(Statement::FeedPage(FeedPageRow {
                bits: B64.encode(bits),
                ..FeedPageRow::empty(owner.as_str(), generation, page)
            }))
        }));
        Ok(())
    }

    async fn objections_at(
        &self,
        keys: &[Vec<u8>],
    ) -> Result<BTreeMap<Vec<u8>, Objection>, FactsError> {
        let rows = self.store.get_many(Table::Facts, keys.to_vec()).await?;
        let mut out = BTreeMap::new();
        for row in rows.into_iter().flatten() {
            match self.read(&row.key, &row.value) {
                Some((_, Statement::Objection(objection))) => drop(out.insert(row.key, objection)),
                Some(_) | None => return Err(unread()),
            }
        }
        Ok(out)
    }

    async fn pages_of(
        &self,
        owner: &Ods,
        generation: u32,
        wanted: &BTreeSet<u32>,
    ) -> Result<BTreeMap<u32, [u8; 512]>, FactsError> {
        let key = |page: &u32| {
            let row = FeedPageRow::empty(owner.as_str(), generation, *page);
            Statement::FeedPage(row).key(self.seals.as_ref())
        };
        let keys = wanted.iter().map(key).collect();
        let rows = self.store.get_many(Table::Facts, keys).await?;
        let mut out = BTreeMap::new();
        for row in rows.into_iter().flatten() {
            match self.read(&row.key, &row.value) {
                Some((_, Statement::FeedPage(page))) => {
                    out.insert(page.page, page.bytes().ok_or_else(unread)?);
                }
                Some(_) | None => return Err(unread()),
            }
        }
        Ok(out)
    }

    async fn pages(&self, owner: &Ods, generation: u32) -> Result<Vec<FeedPageRow>, FactsError> {
        let parts = [&fixed(owner.as_str())[..], &generation.to_be_bytes()];
        let rows = self
            .store
            .scan(
                Table::Facts,
                prefix(Kind::FeedPage, &parts),
                None,
                usize::MAX,
            )
            .await?;
        rows.iter()
            .map(|row| match self.read(&row.key, &row.value) {
                Some((_, Statement::FeedPage(page))) => Ok(page),
                Some(_) | None => Err(unread()),
            })
            .collect()
    }

    /// The numbers after `after` that the source counts and that never arrived, at most `limit` stretches; and
    /// whether there are more.
    ///
    /// # Errors
    /// The store's, or rows that do not read.
    pub async fn missing(
        &self,
        owner: &Ods,
        after: u64,
        limit: usize,
    ) -> Result<(Missing, bool), FactsError> {
        let Some(row) = self.feed(owner.as_str(), 0).row else {
            return Ok((Vec::new(), false));
        };
        let mut pages = BTreeMap::new();
        for page in self.pages(owner, row.generation).await? {
            pages.insert(page.page, page.bytes().ok_or_else(unread)?);
        }
        Ok(stretches(&pages, after, row.count, limit))
    }
}

impl Reckoning {
    fn of(row: FeedRow, mut changes: Vec<Change>) -> Self {
        changes.push(Change::Put(Statement::Feed(row.clone())));
        Self {
            row,
            taken: 0,
            repeated: 0,
            conflicts: Vec::new(),
            changes,
        }
    }

    /// Compares both sides' counts and digests.
    fn settle(&mut self, batch: &FeedBatch, now_ms: u64) {
        let (row, end) = (&mut self.row, &batch.end);
        let is_behind = end.count < row.count;
        if !is_behind {
            (row.count, row.digest) = (end.count, end.digest.hex());
        }
        row.trouble = if !self.conflicts.is_empty() {
            Some(Trouble::Mismatch)
        } else if is_behind {
            Some(Trouble::Replay)
        } else if row.held < row.count {
            Some(Trouble::Gap)
        } else if row.digest != row.sum {
            Some(Trouble::Mismatch)
        } else {
            None
        };
        if row.trouble.is_none() {
            row.sound_ms = now_ms;
        }
        // INVARIANT: a later change with the same key replaces the first; the row as it was read is never written.
        self.changes
            .push(Change::Put(Statement::Feed(self.row.clone())));
    }
}

/// The row of an event; one taken back objects to nothing, and keeps its place against older ones that come late.
fn made(owner: &Ods, generation: u32, event: &FeedEvent) -> Objection {
    let purposes = event.purposes.iter().filter(|_| event.active);
    Objection {
        patient: event.patient.as_str().to_owned(),
        practice: owner.as_str().to_owned(),
        // Why marked: what came by number is taken back by number, and nothing else touches its row.
        reference: format!("feed/{}", event.id),
        purposes: purposes.map(ToString::to_string).collect(),
        generation,
        n: event.n,
    }
}

/// `None` where this number arrived before with this very content, or was followed by a later one about the same
/// objection; else what has to stand now, if an objection would be lost otherwise.
fn contradicted(
    before: Option<&Objection>,
    new: Objection,
    generation: u32,
    event: &FeedEvent,
) -> Option<Option<Objection>> {
    let Some(before) = before else {
        return Some(event.active.then_some(new));
    };
    match (before.generation, before.n).cmp(&(generation, event.n)) {
        Ordering::Greater => None,
        Ordering::Equal if before.purposes == new.purposes => None,
        Ordering::Equal => {
            let both: BTreeSet<String> = before
                .purposes
                .iter()
                .chain(&new.purposes)
                .cloned()
                .collect();
            let purposes = both.into_iter().collect();
            Some(event.active.then_some(Objection { purposes, ..new }))
        }
        Ordering::Less => Some(event.active.then_some(new)),
    }
}

/// The page of a number, and its bit there.
fn page_of(n: u64) -> (u32, usize) {
    let at = n.saturating_sub(1);
    let page = u32::try_from(at / PAGE_NUMBERS).unwrap_or(u32::MAX);
    (page, usize::try_from(at % PAGE_NUMBERS).unwrap_or(0))
}

fn stretches(
    pages: &BTreeMap<u32, [u8; 512]>,
    after: u64,
    count: u64,
    limit: usize,
) -> (Missing, bool) {
    let mut out: Missing = Vec::new();
    for n in after.saturating_add(1)..=count {
        let (page, bit) = page_of(n);
        let byte = pages.get(&page).and_then(|bits| bits.get(bit / 8)).copied();
        if byte.unwrap_or(0) & (1 << (bit % 8)) != 0 {
            continue;
        }
        let is_full = out.len() == limit;
        match out.last_mut() {
            Some((_, to)) if *to + 1 == n => *to = n,
            Some(_) | None if is_full => return (out, true),
            Some(_) | None => out.push((n, n)),
        }
    }
    (out, false)
}

fn unread() -> FactsError {
    FactsError::Store(StoreError::Corrupt)
}
