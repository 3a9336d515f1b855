//! The shelf: what a question could be about, before anybody decided. Cards are opened here to filter a
//! search and to label what the decision looks at; envelopes stay closed and data keys stay wrapped.

use std::collections::{BTreeMap, BTreeSet};

use keys::Sealed;
use policy::facts::{Holder, RecordFacts};
use policy::words::{Category, Label, NhsNumber, Ods, RecordId};

use super::row::{CardRow, State, read_card_key};
use super::{PatientTag, Vault, VaultError, record_context};
use crate::fhir::card::Card;
use crate::fhir::query::Query;
use crate::store::{BlobRef, Table};

/// Which of a patient's records are asked for.
pub enum Wanted {
    /// The one that its practice calls `TYPE/ID`.
    One(String),
    /// All of them.
    All,
    /// Those that match, after this place in their order.
    Matching(Query, Option<Place>),
}

/// A place in a patient's records: the practice and record it comes after.
pub type Place = [u8; 24];

/// One record that the question could be about.
pub(super) struct Book {
    pub(super) practice: Ods,
    pub(super) version: u32,
    pub(super) place: BlobRef,
    pub(super) dek: Sealed,
    pub(super) name: String,
    pub(super) full_url: Option<String>,
}

/// What a question could be about.
pub struct Shelf {
    pub(super) tag: [u8; 16],
    pub(super) books: BTreeMap<RecordId, Book>,
    pub(super) keys: BTreeMap<Ods, Sealed>,
    /// Practices that hold records of this patient, whether or not the question is about them.
    keepers: BTreeSet<Ods>,
    facts: Vec<(Ods, RecordFacts)>,
    /// Every label among this patient's records at a practice, withdrawn ones included.
    all_labels: BTreeMap<Ods, BTreeSet<Label>>,
}

impl Shelf {
    /// Practices whose records of this patient stand in the store.
    #[must_use]
    pub const fn keepers(&self) -> &BTreeSet<Ods> {
        &self.keepers
    }

    /// How many records may leave in one answer so that it has at most `bytes`, whichever they are; one at least.
    #[must_use]
    pub fn fitting(&self, limit: usize, bytes: u64) -> usize {
        let mut lengths: Vec<u64> = self
            .books
            .values()
            .map(|book| u64::from(book.place.length()))
            .collect();
        lengths.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        let mut sum = 0u64;
        let too_many = lengths.iter().position(|length| {
            sum = sum.saturating_add(*length);
            sum > bytes
        });
        too_many.map_or(limit, |fit| limit.min(fit.max(1)))
    }

    /// Puts the records the question is about before their holders, in the order they will leave in. Where a practice
    /// `inherits`, a document carries every label among the patient's records there: its narrative may repeat what
    /// is in those.
    pub fn label(&self, holders: &mut [Holder], inherits: impl Fn(&Ods) -> bool) {
        for (practice, facts) in &self.facts {
            if let Some(holder) = holders
                .iter_mut()
                .find(|holder| holder.practice == *practice)
            {
                let mut facts = facts.clone();
                if facts.category == Category::Documents && inherits(practice) {
                    facts
                        .labels
                        .extend(self.all_labels.get(practice).into_iter().flatten());
                }
                holder.records.push(facts);
            }
        }
    }

    /// The place of this record in the patient's records.
    #[must_use]
    pub fn place(practice: &Ods, id: &RecordId) -> Place {
        let mut place = [0; 24];
        let bytes = crate::facts::fixed(practice.as_str())
            .into_iter()
            .chain(id.0);
        place
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = from);
        place
    }
}

impl Vault {
    /// What this question could be about. Nothing is decided and nothing of a record is opened but its card.
    ///
    /// # Errors
    /// The store's, or a row that does not open: a card that cannot be read is never skipped.
    pub async fn shelve(&self, patient: &NhsNumber, wanted: &Wanted) -> Result<Shelf, VaultError> {
        let PatientTag(tag) = self.tag(patient);
        let rows = self
            .store
            .scan(Table::Cards, tag.to_vec(), None, usize::MAX)
            .await?;
        let mut shelf = Shelf {
            tag,
            books: BTreeMap::new(),
            keys: BTreeMap::new(),
            keepers: BTreeSet::new(),
            facts: Vec::new(),
            all_labels: BTreeMap::new(),
        };
        let mut open = None;
        for row in rows {
            let (practice, id) = read_card_key(&row.key)?;
            if shelf.keepers.insert(practice.clone()) {
                let row = self
                    .patient_row(&practice, &tag)
                    .await?
                    .ok_or(VaultError::Open)?;
                open = Some(self.record_key(&practice, &tag, &row.wrapped)?);
                shelf.keys.insert(practice.clone(), row.wrapped);
            }
            let key = open.as_ref().ok_or(VaultError::Open)?;
            let row = CardRow::from_bytes(&row.value)?;
            let kid = format!("{id}.{}", row.version);
            let card = key.open(
                &record_context("sallyport/card/v1", &practice, &tag, &kid),
                &row.card,
            )?;
            let mut card = Card::from_bytes(card.as_bytes()).map_err(|_| VaultError::Open)?;
            card.labels.extend(self.sensitive.labels(&card));
            let all = shelf.all_labels.entry(practice.clone()).or_default();
            all.extend(&card.labels);
            if row.state == State::Withdrawn {
                continue;
            }
            if wants(wanted, &practice, &id, &card) {
                shelf.put(practice, id, row, card);
            }
        }
        Ok(shelf)
    }
}

impl Shelf {
    fn put(&mut self, practice: Ods, id: RecordId, row: CardRow, card: Card) {
        let facts = RecordFacts {
            id,
            version: row.version,
            category: card.category,
            labels: card.labels.clone(),
        };
        self.facts.push((practice.clone(), facts));
        let name = name_of(&card);
        let book = Book {
            practice,
            version: row.version,
            place: row.place,
            dek: row.dek,
            name,
            full_url: card.full_url,
        };
        self.books.insert(id, book);
    }
}

/// `TYPE/ID`; every filed record has an id.
pub(super) fn name_of(card: &Card) -> String {
    format!(
        "{}/{}",
        card.kind,
        card.id.as_ref().map_or("", |id| id.as_str())
    )
}

fn wants(wanted: &Wanted, practice: &Ods, id: &RecordId, card: &Card) -> bool {
    let after =
        |place: &Option<Place>| place.is_none_or(|place| Shelf::place(practice, id) > place);
    match wanted {
        Wanted::One(name) => name_of(card) == *name,
        Wanted::All => true,
        Wanted::Matching(query, place) => after(place) && query.matches(card),
    }
}
