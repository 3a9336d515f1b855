//! How each feed of objections stands, and whether its owner was heard in time; what arrives is taken in by `feed_intake`.
//!
//! A feed is *sound* when every number up to the source's count is here and both digests agree. From the last moment
//! it was sound two limits run: past the first, and at once on any gap or mismatch, secondary uses refuse; past the
//! second, direct care refuses too. An emergency never does. Its rows are facts like any other, anchored in the
//! ledger; a row that is lost makes its owner unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use policy::facts::Why;
use policy::words::{Ods, Purpose};
use serde::{Deserialize, Serialize};

use super::feed_batch::Sum;
use super::{Facts, Statement, StatementError, ods};

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
    pub(super) fn empty(practice: &str, generation: u32, page: u32) -> Self {
        let bits = B64.encode([0; 512]);
        Self {
            practice: practice.to_owned(),
            generation,
            page,
            bits,
        }
    }

    pub(super) fn bytes(&self) -> Option<[u8; 512]> {
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
}
