//! What a decision may look at: statements of practices and of the operator, each `Known` or `Unknown`.
//!
//! Each owner's statements carry a sequence, a count and a keyed digest, and the ledger holds the last of
//! them: a row deleted or restored behind the gateway's back makes that owner's facts `Unknown(Anchor)`,
//! which refuses. A change is written as pending, then recorded in the ledger, then applied; on opening, the
//! ledger says which of the two a crash left behind. Nothing is decided here.

mod agreement;
mod anchor;
mod approval;
mod deed;
mod feed;
mod feed_batch;
mod feed_intake;
mod lookup;
mod past;
mod proposal;
mod providers;
mod recipient;
mod register;
mod statement;
mod survey;
pub mod training;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use policy::facts::{
    Approval, Fact, Holder, PatientFacts, PatientStanding, PractitionerFacts, Relationship,
    Standing, Why,
};
use policy::words::{ClientId, ClientRole, NhsNumber, Ods, PractitionerId, Purpose};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub use agreement::{
    Accepted, AgreementRow, Countersignature, HandRow, Offer, PracticeSettings, Standing as Agreed,
    State,
};
pub(crate) use agreement::{hex, reference};
pub use anchor::{Anchor, AnchorError};
pub(crate) use approval::practice_of;
pub(crate) use deed::unfit;
pub use deed::{Deed, Unfit};
pub use feed::{FeedRow, FeedStanding, FeedTerms, Trouble};
pub use feed_batch::{FeedBatch, FeedError, FeedEvent, FeedMark, Sum};
pub use feed_intake::{Missing, Reckoning};
pub use past::When;
pub use proposal::{PROPOSAL_LIFE_MS, PROPOSALS_MAX, Proposal, WHY_CHARACTERS_MAX};
pub use providers::{EmergencyProvider, KeeperWord, RegisterAcceptance};
pub use recipient::{KeyOffer, KeyUse, Offered, OlderKey};
pub use register::{Register, Registered};
pub use statement::{
    Acceptance, ApprovalRow, Client, OPERATOR, Objection, Organisation, Practitioner, Registration,
    RelationshipRow, Statement, StatementError, Tags,
};
pub(crate) use statement::{category, fixed, number, ods, relation};

use crate::clock::Clock;
use crate::store::{Expect, Row, Store, StoreError, Table, VALUE_BYTES_MAX, Write, WriteSet};
use feed::Feeds;
use past::{Kept, Succession, Turned, Versions};
use statement::{Kind, prefix};

/// How rows are closed, opened and marked; the vault lends it, so that no key is seen here.
pub trait Seals: Tags {
    /// Seals a row's text, bound to the row's key.
    fn close(&self, key: &[u8], plain: &[u8]) -> Vec<u8>;
    /// Opens it again; `None` if it is not what was sealed for this key.
    fn open(&self, key: &[u8], closed: &[u8]) -> Option<Vec<u8>>;
    /// HMAC-SHA-256 of key and value: one summand of an owner's digest.
    fn mark(&self, key: &[u8], value: &[u8]) -> [u8; 32];
}

/// Rows read at once when everything is read.
const SCAN_ROWS: usize = 1000;
/// A pending change is kept in pieces of this many bytes: the store takes small values only.
const PENDING_BYTES: usize = 3 * 1024;

/// The facts of this gateway.
pub struct Facts {
    store: Arc<dyn Store>,
    seals: Arc<dyn Seals>,
    anchors: RwLock<BTreeMap<String, Result<Anchor, Why>>>,
    register: Arc<RwLock<Arc<Register>>>,
    feeds: RwLock<Feeds>,
    /// What changed in the directory, in order.
    turned: RwLock<Vec<Turned>>,
    clock: Clock,
    changing: Arc<Mutex<()>>,
}

/// Why facts could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// The store failed.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// A statement does not parse.
    #[error("statement: {0}")]
    Statement(#[from] StatementError),
    /// A statement's owner is not the one whose change this is.
    #[error("a statement of {0} cannot be made by another")]
    Owner(String),
    /// The owner's rows do not match the ledger; nothing may be added to them.
    #[error("the facts of {0} do not match the ledger")]
    Broken(String),
}

/// One statement made or withdrawn.
pub enum Change {
    /// Makes it, or replaces the one with the same key.
    Put(Statement),
    /// Takes it back.
    Remove(Statement),
}

/// A change that is ready: what it will write, and the anchor to record first.
pub struct Prepared {
    owner: String,
    anchor: Anchor,
    writes: Vec<Write>,
    directory: Vec<Change>,
    turned: Vec<Turned>,
    _turn: Turn,
}

/// The turn to change facts.
pub struct Turn(#[allow(dead_code, reason = "held for its Drop")] OwnedMutexGuard<()>);

impl Prepared {
    /// What the ledger must say before this change may be applied.
    #[must_use]
    pub fn anchor(&self) -> (&str, &Anchor) {
        (&self.owner, &self.anchor)
    }
}

impl Facts {
    /// Opens the facts and holds them against the anchors that the ledger gives.
    ///
    /// # Errors
    /// Only the store's; an owner whose rows do not match is kept as `Unknown`, not an error.
    pub async fn open(
        store: Arc<dyn Store>,
        seals: Arc<dyn Seals>,
        anchored: &BTreeMap<String, Anchor>,
        clock: Clock,
    ) -> Result<Self, FactsError> {
        let facts = Self {
            store,
            seals,
            anchors: RwLock::new(BTreeMap::new()),
            register: Arc::new(RwLock::new(Arc::new(Register::default()))),
            feeds: RwLock::new(Feeds::default()),
            turned: RwLock::new(Vec::new()),
            clock,
            changing: Arc::new(Mutex::new(())),
        };
        facts.settle(anchored).await?;
        let (found, register, feeds, versions) = facts.count().await?;
        let owners: BTreeSet<&String> = found.keys().chain(anchored.keys()).collect();
        let judge = |owner: &String| {
            let state = match (
                found.get(owner).and_then(Option::as_ref),
                anchored.get(owner),
            ) {
                (Some(have), Some(want)) if have.matches(want) => Ok(want.clone()),
                (None, Some(want)) if want.is_empty() => Ok(want.clone()),
                (_, None) | (None | Some(_), Some(_)) => Err(Why::Anchor),
            };
            (owner.clone(), state)
        };
        let states: BTreeMap<_, _> = owners.into_iter().map(judge).collect();
        for (owner, _) in states.iter().filter(|(_, state)| state.is_err()) {
            tracing::error!(
                owner,
                "facts do not match the ledger: unknown until restated"
            );
        }
        *facts
            .anchors
            .write()
            .unwrap_or_else(PoisonError::into_inner) = states;
        *facts
            .register
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(register);
        *facts.feeds.write().unwrap_or_else(PoisonError::into_inner) = feeds;
        *facts.turned.write().unwrap_or_else(PoisonError::into_inner) = versions.turned();
        Ok(facts)
    }

    /// Finishes or drops what a crash left pending, owner by owner: the ledger says which.
    async fn settle(&self, anchored: &BTreeMap<String, Anchor>) -> Result<(), FactsError> {
        let rows = self.pending_rows("").await?;
        let mut by_owner: BTreeMap<Vec<u8>, Vec<Row>> = BTreeMap::new();
        for row in rows {
            let owner = row.key.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            by_owner
                .entry(row.key.get(..owner).unwrap_or_default().to_vec())
                .or_default()
                .push(row);
        }
        for rows in by_owner.into_values() {
            let pieces: Vec<Vec<u8>> = rows
                .iter()
                .filter_map(|row| self.seals.open(&row.key, &row.value))
                .collect();
            let mut writes: Vec<Write> = rows
                .into_iter()
                .map(|row| remove(Table::Meta, row.key))
                .collect();
            match anchor::Pending::from_pieces(&pieces) {
                Some(pending) if anchored.get(&pending.owner) == Some(&pending.anchor) => {
                    let owner = pending.owner.as_str();
                    tracing::warn!(
                        owner,
                        "finishing a change of facts that the ledger already holds"
                    );
                    writes.extend(
                        pending
                            .writes
                            .into_iter()
                            .map(|(key, value)| fact(key, value)),
                    );
                }
                Some(_) | None => {
                    tracing::warn!("dropping a change of facts that was never recorded");
                }
            }
            self.commit(writes).await?;
        }
        Ok(())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.store
            .commit(WriteSet {
                writes,
                token: None,
            })
            .await
            .map(drop)
    }

    async fn count(
        &self,
    ) -> Result<(BTreeMap<String, Option<Anchor>>, Register, Feeds, Versions), FactsError> {
        let mut feeds = Feeds::default();
        let mut versions = Versions::default();
        let mut found: BTreeMap<String, Option<Anchor>> = BTreeMap::new();
        let mut register = Register::default();
        let mut after = None;
        loop {
            let rows = self
                .store
                .scan(Table::Facts, Vec::new(), after, SCAN_ROWS)
                .await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.key.clone());
            for row in rows {
                let Some((owner, kept)) = self.kept(&row.key, &row.value) else {
                    // Why: an unreadable row belongs to somebody; whoever it was no longer adds up.
                    tracing::error!("a row of facts does not open");
                    continue;
                };
                let anchor = found.entry(owner).or_insert_with(|| Some(Anchor::empty()));
                if let Some(anchor) = anchor {
                    anchor.add(&self.seals.mark(&row.key, &row.value));
                }
                versions.add(&row.key, &kept);
                if kept.until_ms.is_none() {
                    register.put(&kept.statement);
                    feeds.put(&kept.statement);
                }
            }
        }
        Ok((found, register, feeds, versions))
    }

    /// A stored value is the owner's name and the sealed statement, with its time.
    fn kept(&self, key: &[u8], value: &[u8]) -> Option<(String, Kept)> {
        let (length, rest) = value.split_first()?;
        let (owner, closed) = rest.split_at_checked(usize::from(*length))?;
        let owner = std::str::from_utf8(owner).ok()?;
        let kept = Kept::parse(&self.seals.open(key, closed)?)?;
        (kept.statement.owner() == owner && kept.fits(key, self.seals.as_ref()))
            .then(|| (owner.to_owned(), kept))
    }

    /// The same of a row that stands.
    fn read(&self, key: &[u8], value: &[u8]) -> Option<(String, Statement)> {
        let (owner, kept) = self.kept(key, value)?;
        kept.until_ms.is_none().then_some((owner, kept.statement))
    }

    fn value(&self, key: &[u8], kept: &Kept) -> Vec<u8> {
        let owner = kept.statement.owner().as_bytes();
        let text = kept.to_text();
        let mut value = vec![u8::try_from(owner.len()).unwrap_or(u8::MAX)];
        value.extend_from_slice(owner);
        value.extend(self.seals.close(key, &text));
        value
    }

    fn soundness(&self, owner: &str) -> Result<Anchor, Why> {
        let anchors = self.anchors.read().unwrap_or_else(PoisonError::into_inner);
        anchors
            .get(owner)
            .cloned()
            .unwrap_or_else(|| Ok(Anchor::empty()))
    }

    /// The turn to change facts: changes are made one at a time, and what is read under the turn still holds
    /// when the change is made.
    pub async fn turn(&self) -> Turn {
        Turn(Arc::clone(&self.changing).lock_owned().await)
    }

    /// Makes a change ready.
    ///
    /// # Errors
    /// A statement that does not parse or has another owner; an owner whose facts do not match the ledger.
    pub async fn prepare(
        &self,
        turn: Turn,
        owner: &str,
        changes: Vec<Change>,
    ) -> Result<Prepared, FactsError> {
        let mut anchor = self
            .soundness(owner)
            .map_err(|_| FactsError::Broken(owner.to_owned()))?;
        let mut latest: BTreeMap<Vec<u8>, &Change> = BTreeMap::new();
        for change in &changes {
            let (Change::Put(statement) | Change::Remove(statement)) = change;
            statement.check()?;
            if statement.owner() != owner {
                return Err(FactsError::Owner(statement.owner().to_owned()));
            }
            latest.insert(statement.key(self.seals.as_ref()), change);
        }
        let keys: Vec<Vec<u8>> = latest.keys().cloned().collect();
        let standing = self.store.get_many(Table::Facts, keys).await?;
        let mut writes = Vec::with_capacity(latest.len());
        let mut turned = Vec::new();
        anchor.seq += 1;
        let now_ms = self.clock.now_ms();
        for ((key, change), old) in latest.into_iter().zip(standing) {
            if let Some(old) = &old {
                anchor.subtract(&self.seals.mark(&key, &old.value));
            }
            let old = old.and_then(|old| self.kept(&key, &old.value));
            let old = old.map(|(_, kept)| kept);
            let next = Succession::of(old, change, now_ms, &key, anchor.seq);
            if let Some((key, past)) = next.past {
                let value = self.value(&key, &past);
                anchor.add(&self.seals.mark(&key, &value));
                writes.push(fact(key, Some(value)));
            }
            turned.extend(next.turned);
            let value = match change {
                Change::Put(statement) => Some(self.value(
                    &key,
                    &Kept {
                        from_ms: next.from_ms,
                        until_ms: None,
                        statement: statement.clone(),
                    },
                )),
                Change::Remove(_) => None,
            };
            if let Some(value) = &value {
                // Why before anything is recorded: what the ledger holds must be applied, and ended one day.
                if value.len() + past::GROWTH > VALUE_BYTES_MAX {
                    return Err(StatementError::too_long().into());
                }
                anchor.add(&self.seals.mark(&key, value));
            }
            writes.push(fact(key, value));
        }
        let is_kept = |change: &Change| {
            let (Change::Put(statement) | Change::Remove(statement)) = change;
            let by_practice = matches!(
                statement,
                Statement::Feed(_) | Statement::FeedTerms(_) | Statement::PracticeSettings(_)
            );
            owner == OPERATOR || by_practice
        };
        let directory = changes.into_iter().filter(is_kept).collect();
        Ok(Prepared {
            owner: owner.to_owned(),
            anchor,
            writes,
            directory,
            turned,
            _turn: turn,
        })
    }

    /// Writes the change as pending, so that a crash after the ledger's entry can finish it.
    ///
    /// # Errors
    /// The store's.
    pub async fn pend(&self, prepared: &Prepared) -> Result<(), FactsError> {
        let owner = &prepared.owner;
        let mut writes = self.pending_removals(owner).await?;
        let rows = prepared
            .writes
            .iter()
            .map(|write| (write.key.clone(), write.value.clone()))
            .collect();
        let pending = anchor::Pending {
            owner: owner.clone(),
            anchor: prepared.anchor.clone(),
            writes: rows,
        };
        for (index, piece) in pending.to_pieces(PENDING_BYTES).into_iter().enumerate() {
            let key = format!("pending/{owner}/{index:08}").into_bytes();
            let value = self.seals.close(&key, &piece);
            writes.retain(|write| write.key != key);
            writes.push(Write {
                table: Table::Meta,
                key,
                value: Some(value),
                expect: Expect::Any,
            });
        }
        Ok(self.commit(writes).await?)
    }

    async fn pending_rows(&self, owner: &str) -> Result<Vec<Row>, StoreError> {
        let prefix = if owner.is_empty() {
            "pending/".to_owned()
        } else {
            format!("pending/{owner}/")
        };
        self.store
            .scan(Table::Meta, prefix.into_bytes(), None, usize::MAX)
            .await
    }

    async fn pending_removals(&self, owner: &str) -> Result<Vec<Write>, StoreError> {
        let rows = self.pending_rows(owner).await?;
        Ok(rows
            .into_iter()
            .map(|row| remove(Table::Meta, row.key))
            .collect())
    }

    /// Applies a change that the ledger now holds, together with whatever else belongs to the same act. Where
    /// the rest meets a conflict the change alone is applied: the ledger holds it.
    ///
    /// # Errors
    /// The store's. After anything but a conflict of the rest, the owner's facts are unknown until the next
    /// opening, which finishes the change.
    pub async fn apply(&self, prepared: Prepared, others: Vec<Write>) -> Result<(), FactsError> {
        let applied = self.write(&prepared, others).await;
        match applied {
            Ok(()) | Err(StoreError::Conflict) => self.adopt(prepared),
            Err(_) => {
                tracing::error!(
                    owner = prepared.owner,
                    "a recorded change of facts could not be applied"
                );
                let mut anchors = self.anchors.write().unwrap_or_else(PoisonError::into_inner);
                anchors.insert(prepared.owner, Err(Why::Store));
            }
        }
        Ok(applied?)
    }

    async fn write(&self, prepared: &Prepared, others: Vec<Write>) -> Result<(), StoreError> {
        let mut own = self.pending_removals(&prepared.owner).await?;
        own.extend(prepared.writes.iter().cloned());
        if others.is_empty() {
            return self.commit(own).await;
        }
        match self
            .commit(own.iter().cloned().chain(others).collect())
            .await
        {
            Err(StoreError::Conflict) => {
                // INVARIANT: our own writes expect nothing, so the conflict was of the others.
                self.commit(own).await?;
                Err(StoreError::Conflict)
            }
            other => other,
        }
    }

    fn adopt(&self, mut prepared: Prepared) {
        self.turned
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .append(&mut prepared.turned);
        let mut anchors = self.anchors.write().unwrap_or_else(PoisonError::into_inner);
        anchors.insert(prepared.owner, Ok(prepared.anchor));
        if !prepared.directory.is_empty() {
            let mut register = self
                .register
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let mut feeds = self.feeds.write().unwrap_or_else(PoisonError::into_inner);
            let mut next = Register::clone(&register);
            for change in &prepared.directory {
                match change {
                    Change::Put(statement) => {
                        next.put(statement);
                        feeds.put(statement);
                    }
                    Change::Remove(statement) => {
                        next.remove(statement);
                        feeds.remove(statement);
                    }
                }
            }
            *register = Arc::new(next);
        }
    }

    /// The owners whose facts do not match the ledger, or could not be brought up to it.
    #[must_use]
    pub fn unsound(&self) -> BTreeSet<String> {
        let anchors = self.anchors.read().unwrap_or_else(PoisonError::into_inner);
        let unsound = anchors.iter().filter(|(_, state)| state.is_err());
        unsound.map(|(owner, _)| owner.clone()).collect()
    }

    /// A keyed code of this text, that nobody else can make: 128 bits, base64url.
    #[must_use]
    pub fn code(&self, domain: &str, text: &str) -> String {
        B64.encode(self.seals.tag(domain, text))
    }

    /// Whom a practice wants told, by its code: those it named when it was admitted and those it names now, so that
    /// whoever took over its system cannot silence the former.
    pub fn contacts(&self) -> impl Fn(&str) -> Vec<String> + Send + Sync + 'static {
        let register = Arc::clone(&self.register);
        move |practice| {
            let register = register.read().unwrap_or_else(PoisonError::into_inner);
            register.contacts(practice)
        }
    }

    /// The directory as it stands. `Unknown` if it does not match the ledger.
    pub fn register(&self) -> Fact<Arc<Register>> {
        match self.soundness(OPERATOR) {
            Ok(_) => Fact::Known(Arc::clone(
                &self.register.read().unwrap_or_else(PoisonError::into_inner),
            )),
            Err(why) => Fact::Unknown(why),
        }
    }

    async fn rows(&self, kind: Kind, parts: &[&[u8]]) -> Result<Vec<Fact<Statement>>, StoreError> {
        let rows = self
            .store
            .scan(Table::Facts, prefix(kind, parts), None, usize::MAX)
            .await?;
        Ok(rows.into_iter().map(|row| self.told(row)).collect())
    }

    /// What a row says, if it opens and its owner's rows match the ledger.
    fn told(&self, row: Row) -> Fact<Statement> {
        match self.read(&row.key, &row.value) {
            None => Fact::Unknown(Why::Store),
            Some((owner, statement)) => match self.soundness(&owner) {
                Ok(_) => Fact::Known(statement),
                Err(why) => Fact::Unknown(why),
            },
        }
    }

    /// What may be looked at when `client` asks for `patient` on behalf of `practitioner`; `keepers` are the
    /// practices whose records of this patient stand in the store.
    ///
    /// # Errors
    /// The store's.
    pub async fn about(&self, question: Question<'_>) -> Result<PatientFacts, StoreError> {
        let tag = self.seals.tag("patient", question.patient.as_str());
        let asking = fixed(question.organisation.as_str());
        let registrations = self.rows(Kind::Registration, &[&tag]).await?;
        let (patient, mut practices) = registered(registrations);
        practices.extend(question.keepers.iter().cloned());
        let objections = objected(self.rows(Kind::Objection, &[&tag]).await?);
        let relationships = related(self.rows(Kind::Relationship, &[&tag, &asking]).await?);
        let unsound = practices
            .iter()
            .find_map(|practice| self.soundness(practice.as_str()).err());
        let (heard, doubted) = self.doubts(&practices, question.purpose, question.now_ms);
        let objections = match heard {
            Ok(()) => objections,
            Err(why) => Fact::Unknown(why),
        };
        let mut holders = Vec::with_capacity(practices.len());
        for practice in practices {
            let agreements = self.agreements(&practice, question.organisation).await?;
            let agreements = lookup::read(agreements, |it| it.agreement().ok());
            let approvals = match question.purpose.is_secondary() {
                false => Fact::Unknown(Why::NotAsked),
                true => self.approvals(&practice, question.organisation),
            };
            holders.push(Holder {
                practice,
                agreements,
                approvals,
                records: Vec::new(),
            });
        }
        let register = self.register();
        Ok(PatientFacts {
            now_ms: question.now_ms,
            organisation: standing(&register, question.client, question.organisation),
            practitioner: practitioner(&register, question.organisation, question.practitioner),
            patient,
            // INVARIANT: a practice whose rows do not add up may have lost an objection.
            objections: unsound.map_or(objections, Fact::Unknown),
            objections_doubted: doubted,
            holders,
            relationships,
            emergencies: Fact::Unknown(Why::NotAsked),
        })
    }

    /// Unknown too where the practice's rows do not add up: what it agreed to is among them.
    fn approvals(&self, practice: &Ods, organisation: &Ods) -> Fact<Vec<Approval>> {
        match (self.register(), self.soundness(practice.as_str())) {
            (Fact::Unknown(why), _) | (_, Err(why)) => Fact::Unknown(why),
            (Fact::Known(register), Ok(_)) => register
                .approvals(practice, organisation)
                .map_or(Fact::Unknown(Why::Store), Fact::Known),
        }
    }

    /// Whether organisation and client stand unsuspended in the directory.
    pub fn standing(&self, client: &ClientId, organisation: &Ods) -> Fact<Standing> {
        standing(&self.register(), client, organisation)
    }

    /// Whether this practice accepted this client.
    ///
    /// # Errors
    /// The store's.
    pub async fn accepted(
        &self,
        practice: &Ods,
        client: &ClientId,
    ) -> Result<Fact<bool>, StoreError> {
        let tag = self.seals.tag("client", client.as_str());
        let rows = self
            .rows(Kind::Acceptance, &[&fixed(practice.as_str()), &tag])
            .await?;
        Ok(match rows.into_iter().next() {
            Some(Fact::Known(_)) => Fact::Known(true),
            Some(Fact::Unknown(why)) => Fact::Unknown(why),
            None => match self.soundness(practice.as_str()) {
                // Why accepted without a word of the practice: two people registered it as the practice's own.
                Ok(_) => Fact::Known(own_system(&self.register(), practice, client)),
                Err(why) => Fact::Unknown(why),
            },
        })
    }

    /// This patient's relationships with this organisation, past and to come.
    ///
    /// # Errors
    /// The store's.
    pub async fn relationships(
        &self,
        patient: &NhsNumber,
        organisation: &Ods,
    ) -> Result<Fact<Vec<Relationship>>, StoreError> {
        let tag = self.seals.tag("patient", patient.as_str());
        let at = fixed(organisation.as_str());
        Ok(related(self.rows(Kind::Relationship, &[&tag, &at]).await?))
    }

    /// The practices at which this patient is registered now.
    ///
    /// # Errors
    /// The store's.
    pub async fn registrations(
        &self,
        patient: &NhsNumber,
    ) -> Result<Fact<BTreeSet<Ods>>, StoreError> {
        let tag = self.seals.tag("patient", patient.as_str());
        let mut practices = BTreeSet::new();
        for row in self.rows(Kind::Registration, &[&tag]).await? {
            match row {
                Fact::Known(Statement::Registration(row)) => practices.extend(ods(&row.practice)),
                Fact::Known(_) => return Ok(Fact::Unknown(Why::Store)),
                Fact::Unknown(why) => return Ok(Fact::Unknown(why)),
            }
        }
        Ok(Fact::Known(practices))
    }
}

/// One question about one patient.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub client: &'a ClientId,
    /// The organisation it asks for.
    pub organisation: &'a Ods,
    /// On behalf of whom.
    pub practitioner: &'a PractitionerId,
    /// About whom.
    pub patient: &'a NhsNumber,
    /// What for: what is looked at, and how old objections may be, depends on it.
    pub purpose: &'a Purpose,
    /// Practices whose records of this patient stand in the store.
    pub keepers: &'a BTreeSet<Ods>,
    /// When, milliseconds.
    pub now_ms: u64,
}

fn fact(key: Vec<u8>, value: Option<Vec<u8>>) -> Write {
    Write {
        table: Table::Facts,
        key,
        value,
        expect: Expect::Any,
    }
}

fn remove(table: Table, key: Vec<u8>) -> Write {
    Write {
        table,
        key,
        value: None,
        expect: Expect::Any,
    }
}

fn registered(rows: Vec<Fact<Statement>>) -> (Fact<PatientStanding>, BTreeSet<Ods>) {
    let mut practices = BTreeSet::new();
    let mut unknown = None;
    for row in rows {
        match row {
            Fact::Known(Statement::Registration(row)) => match ods(&row.practice) {
                Ok(practice) => drop(practices.insert(practice)),
                Err(_) => unknown = Some(Why::Store),
            },
            Fact::Known(_) => unknown = Some(Why::Store),
            Fact::Unknown(why) => unknown = Some(why),
        }
    }
    let standing = match (unknown, practices.len(), practices.first()) {
        (Some(why), _, _) => Fact::Unknown(why),
        (None, 1, Some(practice)) => Fact::Known(PatientStanding {
            practice: practice.clone(),
        }),
        (None, 0, _) | (None, _, None) => Fact::Unknown(Why::NeverTold),
        (None, _, Some(_)) => Fact::Unknown(Why::Contested),
    };
    (standing, practices)
}

fn objected(rows: Vec<Fact<Statement>>) -> Fact<BTreeSet<Purpose>> {
    let mut purposes = BTreeSet::new();
    for row in rows {
        match row {
            Fact::Known(Statement::Objection(row)) => match row.purposes() {
                Ok(more) => purposes.extend(more),
                Err(_) => return Fact::Unknown(Why::Store),
            },
            Fact::Known(_) => return Fact::Unknown(Why::Store),
            Fact::Unknown(why) => return Fact::Unknown(why),
        }
    }
    Fact::Known(purposes)
}

fn related(rows: Vec<Fact<Statement>>) -> Fact<Vec<Relationship>> {
    gather(rows, |statement| match statement {
        Statement::Relationship(row) => row.relationship().ok(),
        _ => None,
    })
}

/// All of them or none: one row that cannot be read makes the answer unknown.
fn gather<T>(rows: Vec<Fact<Statement>>, read: impl Fn(&Statement) -> Option<T>) -> Fact<Vec<T>> {
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        match row {
            Fact::Known(statement) => match read(&statement) {
                Some(value) => out.push(value),
                None => return Fact::Unknown(Why::Store),
            },
            Fact::Unknown(why) => return Fact::Unknown(why),
        }
    }
    Fact::Known(out)
}

fn standing(
    register: &Fact<Arc<Register>>,
    client: &ClientId,
    organisation: &Ods,
) -> Fact<Standing> {
    match register {
        Fact::Unknown(why) => Fact::Unknown(*why),
        Fact::Known(register) => standing_in(register, client, organisation),
    }
}

fn standing_in(register: &Register, client: &ClientId, organisation: &Ods) -> Fact<Standing> {
    match (register.client(client), register.organisation(organisation)) {
        (Some(client), Some(organisation)) => Fact::Known(Standing {
            // Why: whoever lost the key that tickets are addressed to can be given nothing.
            suspended: client.suspended() || organisation.suspended || client.lacks_open_key(),
        }),
        (None, _) | (_, None) => Fact::Unknown(Why::NeverTold),
    }
}

/// Whether this client is this practice's own system, and no supplier's that acts for it too.
fn own_system(register: &Fact<Arc<Register>>, practice: &Ods, client: &ClientId) -> bool {
    let Fact::Known(register) = register else {
        return false;
    };
    let client = register.client(client);
    client.is_some_and(|it| {
        let is_own = it.role == ClientRole::Practice && it.organisations.first() == Some(practice);
        is_own && !it.waits()
    })
}

fn practitioner(
    register: &Fact<Arc<Register>>,
    organisation: &Ods,
    id: &PractitionerId,
) -> Fact<PractitionerFacts> {
    match register {
        Fact::Unknown(why) => Fact::Unknown(*why),
        Fact::Known(register) => register.practitioner(organisation, id),
    }
}
