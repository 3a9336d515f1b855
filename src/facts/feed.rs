//! How each feed of objections stands: what arrived, what is missing, and whether its owner was heard in time.
//!
//! A feed is *sound* when every number up to the source's count is here and both digests agree. From the last moment
//! it was sound two limits run: past the first, and at once on any gap or mismatch, secondary uses refuse; past the
//! second, direct care refuses too. An emergency never does. Its rows are facts like any other, anchored in the
//! ledger; a row that is lost makes its owner unknown.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use policy::facts::Why;
use policy::words::{Ods, Purpose};
use serde::{Deserialize, Serialize};

use super::feed_batch::{FeedBatch, FeedEvent, Sum};
use super::statement::{Kind, prefix};
use super::{Change, Facts, FactsError, Objection, Statement, StatementError, fixed, ods};
use crate::store::{StoreError, Table};

/// Numbers on one page of what arrived.
const PAGE_NUMBERS: u64 = 4096;
/// How long a feed may be silent before secondary uses refuse, unless its owner says otherwise: minutes.
pub(super) const SECONDARY_MINUTES: u32 = 60;
/// How long a feed may be unsound before direct care refuses too: minutes. Three days: a long weekend.
pub(super) const CARE_MINUTES: u32 = 3 * 24 * 60;
/// No limit may be longer: minutes. Thirty days.
const LIMIT_MINUTES_MAX: u32 = 30 * 24 * 60;

/// Why a feed is not sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Numbers are missing.
    Gap,
    /// All numbers are here and the digests differ, or one number came with two contents.
    Mismatch,
    /// The source counts fewer than it did, or speaks of a generation that is over.
    Replay,
}

impl Trouble {
    /// The word on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Mismatch => "mismatch",
            Self::Replay => "replay",
        }
    }

    const fn why(self) -> Why {
        match self {
            Self::Gap => Why::Incomplete,
            Self::Mismatch | Self::Replay => Why::Contested,
        }
    }
}

/// How one owner's feed stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedRow {
    /// Whose feed: a practice's ODS code, or an opt-out list's.
    pub practice: String,
    /// Which generation.
    pub generation: u32,
    /// The highest number the source spoke of.
    pub count: u64,
    /// The digest it gave with it.
    pub digest: String,
    /// How many numbers arrived.
    pub held: u64,
    /// The sum over what arrived.
    pub sum: String,
    /// When it was last sound, milliseconds; before that, when it was first heard of.
    pub sound_ms: u64,
    /// When it was last heard, milliseconds.
    pub heard_ms: u64,
    /// What is wrong with it now.
    pub trouble: Option<Trouble>,
}

/// Which of 4,096 numbers arrived.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedPageRow {
    /// Whose feed.
    pub practice: String,
    /// Which generation.
    pub generation: u32,
    /// Which page: number `page * 4096 + 1` is its first bit.
    pub page: u32,
    /// 512 bytes in base64url, the lowest bit of the first byte first.
    pub bits: String,
}

/// What a practice settles for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedTerms {
    /// Whose settings.
    pub practice: String,
    /// How long its feed of objections may be silent before secondary uses refuse, minutes.
    pub secondary_minutes: u32,
    /// How long its feed may be unsound before direct care refuses too, minutes.
    pub care_minutes: u32,
    /// Whether documents inherit every sensitivity label among the patient's other records at this practice: their
    /// narrative may repeat what is in those.
    pub documents_inherit: bool,
}

impl FeedTerms {
    /// What holds for an owner who settled nothing.
    #[must_use]
    pub fn default_of(practice: &str) -> Self {
        Self {
            practice: practice.to_owned(),
            secondary_minutes: SECONDARY_MINUTES,
            care_minutes: CARE_MINUTES,
            documents_inherit: true,
        }
    }

    pub(super) fn check(&self) -> Result<(), StatementError> {
        ods(&self.practice)?;
        if !(1..=LIMIT_MINUTES_MAX).contains(&self.secondary_minutes)
            || !(self.secondary_minutes..=LIMIT_MINUTES_MAX).contains(&self.care_minutes)
        {
            return Err(StatementError {
                member: "secondary_minutes, care_minutes",
                rule: "must be from 1 to 43200, and care_minutes not less than secondary_minutes",
            });
        }
        Ok(())
    }
}

impl FeedRow {
    /// A feed that begins now, with nothing in it.
    #[must_use]
    pub fn begun(owner: &str, now_ms: u64) -> Self {
        Self {
            practice: owner.to_owned(),
            generation: 1,
            count: 0,
            digest: Sum::ZERO.hex(),
            held: 0,
            sum: Sum::ZERO.hex(),
            sound_ms: now_ms,
            heard_ms: now_ms,
            trouble: None,
        }
    }
}

impl FeedPageRow {
    fn empty(practice: &str, generation: u32, page: u32) -> Self {
        let bits = B64.encode([0; 512]);
        Self {
            practice: practice.to_owned(),
            generation,
            page,
            bits,
        }
    }

    fn bytes(&self) -> Option<[u8; 512]> {
        B64.decode(&self.bits).ok()?.try_into().ok()
    }

    pub(super) fn check(&self) -> Result<(), StatementError> {
        ods(&self.practice)?;
        self.bytes().map(drop).ok_or(StatementError {
            member: "bits",
            rule: "must be 512 bytes in base64url",
        })
    }
}

/// The feeds and settings of all owners, in memory: as the rows say, and no newer than what the ledger holds.
#[derive(Default)]
pub(super) struct Feeds {
    rows: BTreeMap<String, FeedRow>,
    settings: BTreeMap<String, FeedTerms>,
}

impl Feeds {
    pub(super) fn put(&mut self, statement: &Statement) {
        match statement {
            Statement::Feed(row) => drop(self.rows.insert(row.practice.clone(), row.clone())),
            Statement::FeedTerms(row) => {
                drop(self.settings.insert(row.practice.clone(), row.clone()));
            }
            _ => {}
        }
    }

    pub(super) fn remove(&mut self, statement: &Statement) {
        match statement {
            Statement::Feed(row) => drop(self.rows.remove(&row.practice)),
            Statement::FeedTerms(row) => drop(self.settings.remove(&row.practice)),
            _ => {}
        }
    }

    fn standing(&self, owner: &str, now_ms: u64) -> FeedStanding {
        let settings = self.settings.get(owner);
        let settings = settings.map_or_else(|| FeedTerms::default_of(owner), Clone::clone);
        let row = self.rows.get(owner).cloned();
        FeedStanding {
            row,
            settings,
            now_ms,
        }
    }
}

/// How a feed stands now, against its owner's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedStanding {
    /// What is known of it; `None` where it never began.
    pub row: Option<FeedRow>,
    /// Its owner's limits.
    pub settings: FeedTerms,
    now_ms: u64,
}

impl FeedStanding {
    /// Seconds since it was last sound.
    #[must_use]
    pub fn unsound_s(&self) -> u64 {
        let sound_ms = self.row.as_ref().map_or(0, |row| row.sound_ms);
        self.now_ms.saturating_sub(sound_ms) / 1000
    }

    fn is_past(&self, minutes: u32) -> bool {
        self.unsound_s() >= u64::from(minutes) * 60
    }

    /// Whether it began and has not been sound for longer than its first limit.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.row.is_some() && self.is_past(self.settings.secondary_minutes)
    }

    /// Whether direct care refuses.
    #[must_use]
    pub fn stops_care(&self) -> bool {
        self.row.is_some() && self.is_past(self.settings.care_minutes)
    }

    /// Why the objections may not be the last ones, if so.
    #[must_use]
    pub fn doubt(&self) -> Option<Why> {
        match &self.row {
            None => Some(Why::NeverTold),
            Some(row) => match row.trouble {
                Some(trouble) => Some(trouble.why()),
                None => self.is_silent().then_some(Why::Silent),
            },
        }
    }

    /// One word for people and machines.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.row {
            None => "never",
            Some(row) => match row.trouble {
                Some(trouble) => trouble.code(),
                None if self.is_silent() => "silent",
                None => "sound",
            },
        }
    }
}

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
    /// How an owner's feed stands.
    pub fn feed(&self, owner: &str, now_ms: u64) -> FeedStanding {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        feeds.standing(owner, now_ms)
    }

    /// How every feed stands that ever began.
    pub fn feeds(&self, now_ms: u64) -> Vec<(String, FeedStanding)> {
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        let owners = feeds.rows.keys();
        owners
            .map(|owner| (owner.clone(), feeds.standing(owner, now_ms)))
            .collect()
    }

    /// What a practice settled for itself.
    pub fn feed_terms(&self, practice: &Ods) -> FeedTerms {
        self.feed(practice.as_str(), 0).settings
    }

    /// Whether the feeds of these practices and of every opt-out list let objections be known for this purpose; and
    /// why they are doubted where they still are.
    pub(super) fn doubts(
        &self,
        practices: &BTreeSet<Ods>,
        purpose: &Purpose,
        now_ms: u64,
    ) -> (Result<(), Why>, Option<Why>) {
        // Why before the feeds: a change takes the directory first, and two locks are taken in one order.
        let lists = if purpose.is_secondary() {
            self.opt_out_lists()
        } else {
            Vec::new()
        };
        let feeds = self.feeds.read().unwrap_or_else(PoisonError::into_inner);
        let mut doubted = None;
        for practice in practices {
            let standing = feeds.standing(practice.as_str(), now_ms);
            let Some(why) = standing.doubt() else {
                continue;
            };
            if purpose.is_secondary() {
                return (Err(why), None);
            }
            if !purpose.is_emergency() && standing.stops_care() {
                return (Err(why), None);
            }
            // Why not where a feed never began: such a practice passes on each objection by itself.
            doubted = doubted.or(standing.row.is_some().then_some(why));
        }
        for list in lists {
            if let Some(why) = feeds.standing(&list, now_ms).doubt() {
                return (Err(why), None);
            }
        }
        (Ok(()), doubted)
    }

    /// The opt-out lists of the directory: whoever is on one objects to every secondary use everywhere.
    fn opt_out_lists(&self) -> Vec<String> {
        let register = self.register.read().unwrap_or_else(PoisonError::into_inner);
        register.opt_out_lists()
    }

    /// Whether this owner is an opt-out list.
    pub fn is_opt_out_list(&self, owner: &Ods) -> bool {
        let register = self.register.read().unwrap_or_else(PoisonError::into_inner);
        register
            .organisation(owner)
            .is_some_and(|row| row.role == "opt-out-list")
    }

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
