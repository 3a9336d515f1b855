//! The straight line. Every act is asked, decided and recorded before anything moves, and nothing is released
//! that is not already in the ledger. This room never sees a secret.
//!
//! Dropping any of these futures is safe at every await: a verdict that was not recorded dies unused, one that
//! was recorded is an entry for an act that may not have been completed. The ledger may over-report, never
//! under-report.
//!
//! Here: tokens and releases. What practices do stands in `practice`, what is done to keys in `key_acts`, to the gateway
//! itself in `own`, to its directory in `directory`; what takes two people in `two`, what cannot be taken back in
//! `destruction`, backups in `backup_act`; what has to be told in `alarm` and `emergency`, who looks at it in `oversight`.

mod agreement;
mod alarm;
mod backup_act;
mod destruction;
mod directory;
mod disclosure;
mod emergency;
mod feed;
mod key_acts;
mod oversight;
mod own;
mod practice;
mod providers;
mod recipient;
mod relationship;
mod telling;
mod two;
mod who_could;

pub use agreement::{Accepting, Named};
pub use feed::FeedReport;
pub use providers::EMERGENCY;
pub use relationship::Relating;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use policy::words::{NhsNumber, Ods};
use policy::{
    AdminFacts, Ask, Caller, Decision, DepositFacts, Fact, IssueToken, PatientFacts, Read, Rules,
    Scope, Side, Standing, TokenFacts, Verdict, Why,
};

pub use directory::{Outcome, TrainingFile, Wish};
pub use oversight::{Closing, Explanation, History, LINES_MAX, Listed, Looked, PatientNotice};
pub use own::Asked;
pub use telling::Line;
pub use who_could::WhoCould;

use crate::alerts::Post;
use crate::clock::Clock;
use crate::facts::{Facts, FactsError, Question, Unfit};
use crate::ledger::{Extra, Ledger, ReadError, Receipt, RecordError, Recorded};
use crate::store::{Embedded, StoreError};
use crate::token::{Assertion, Issued, Tokens};
use crate::vault::{Address, FilingError, Release, RotationError, Vault, VaultError, Wanted};
use crate::witness::{Lag, Witnesses};
use emergency::{Declaring, Habits};

pub use self::backup_act::Folders;
pub use self::key_acts::KeyDone;

/// Bytes of envelopes in one answer, unless one record alone is larger; the rest is on the next page.
const PAGE_BYTES: u64 = 24 * 1024 * 1024;

/// What a question came to.
pub enum Answer<T> {
    /// It was permitted, recorded and done.
    Done(T, Receipt),
    /// It was refused and recorded.
    Refused(Receipt),
}

/// What an ask for a token came to.
pub enum Issue {
    /// It was permitted, recorded and issued.
    Done(Issued, Receipt),
    /// It was refused and recorded.
    Refused(Receipt),
    /// It was refused and recorded, because too many emergencies were declared; in so many seconds one may be again.
    Capped(Receipt, u64),
}

/// What went wrong on our side. Never a refusal: refusals are answers.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The ledger did not record, so nothing happened.
    #[error("the ledger: {0}")]
    Ledger(#[from] RecordError),
    /// The store failed.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// The vault failed.
    #[error("the vault: {0}")]
    Vault(#[from] VaultError),
    /// A batch could not be filed.
    #[error("filing: {0}")]
    Filing(#[from] FilingError),
    /// The facts could not be read or changed.
    #[error("the facts: {0}")]
    Facts(#[from] FactsError),
    /// What is asked does not fit what stands; the words name the rule.
    #[error("{0}")]
    Standing(&'static str),
    /// A rotation stopped.
    #[error("rotation: {0}")]
    Rotation(#[from] RotationError),
    /// An administrator's act does not fit the gateway as it stands. Theirs to mend, not ours.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// Old entries could not be read.
    #[error("reading the ledger: {0}")]
    Read(#[from] ReadError),
    /// A backup was not taken.
    #[error("the backup: {0}")]
    Backup(#[from] crate::backup::BackupError),
    /// No quorum of witnesses has cosigned the log for too long, so nothing was released.
    #[error("the log's witnesses have not cosigned it for too long")]
    Unwitnessed,
    /// Something that cannot be: refuse rather than guess.
    #[error("{0}")]
    Bug(&'static str),
}

/// The gateway: rules, facts, ledger, vault and tokens, in the order a question meets them.
pub struct Gateway {
    rules: Arc<Rules>,
    facts: Facts,
    ledger: Ledger,
    vault: Arc<Vault>,
    tokens: Tokens,
    store: Arc<Embedded>,
    post: Post,
    witnesses: Witnesses,
    habits: Habits,
    clock: Clock,
    folders: OnceLock<Folders>,
    is_held: AtomicBool,
}

impl Gateway {
    /// Puts the rooms together.
    #[must_use]
    pub fn new(
        (rules, facts, ledger): (Rules, Facts, Ledger),
        (vault, tokens): (Arc<Vault>, Tokens),
        store: Arc<Embedded>,
        (post, witnesses): (Post, Witnesses),
        clock: Clock,
    ) -> Self {
        Self {
            rules: Arc::new(rules),
            facts,
            ledger,
            vault,
            tokens,
            store,
            post,
            witnesses,
            habits: Habits::default(),
            clock,
            folders: OnceLock::new(),
            is_held: AtomicBool::new(false),
        }
    }

    /// Issues a token, or refuses to.
    ///
    /// # Errors
    /// A fault of ours; then no token exists.
    pub async fn issue(
        &self,
        caller: Caller,
        scope: Scope,
        assertion: &Assertion,
    ) -> Result<Issue, Fault> {
        let now_ms = self.clock.now_ms();
        let patient = patient_of(&scope).cloned();
        let mut asking = None;
        let facts = match &scope {
            Scope::Records(asked) => {
                let keepers = self.vault.keepers(&asked.patient).await?;
                let mut facts = self.about(&caller, asked, &keepers, now_ms).await?;
                let organisation = self.asking(&caller, &asked.practitioner)?;
                let emergency = asked.purpose.is_emergency();
                let emergency = emergency.then(|| self.declare(asked, &organisation, now_ms));
                if let Some(declaring) = &emergency {
                    facts.emergencies = Fact::Known(declaring.emergencies());
                }
                asking = Some((asked.clone(), organisation, emergency));
                TokenFacts::Records(facts)
            }
            Scope::History(_) => TokenFacts::Staff(self.of_client(&caller, now_ms)),
            Scope::Deposit { practice, .. }
            | Scope::Consent { practice, .. }
            | Scope::Objections { practice }
            | Scope::Agreement {
                of: Side::Practice(practice),
            }
            | Scope::Relationship {
                of: Side::Practice(practice),
                ..
            } => {
                let mut facts = self.of_practice(&caller, practice, now_ms).await?;
                facts.registration = match (&scope, &patient) {
                    (Scope::Consent { .. } | Scope::Relationship { .. }, Some(patient)) => {
                        self.cares(practice, patient).await?
                    }
                    (_, Some(patient)) => self.may_file(patient).await?.0,
                    (_, None) => Fact::Unknown(Why::NotAsked),
                };
                TokenFacts::Practice(facts)
            }
            Scope::Agreement {
                of: Side::Organisation(organisation),
            }
            | Scope::Relationship {
                of: Side::Organisation(organisation),
                ..
            } => TokenFacts::Organisation(self.of_organisation(&caller, organisation, now_ms)),
        };
        let member = assertion.member();
        let mut extra = Extra {
            members: vec![("aj", member.clone().into())],
        };
        let ask = Ask::new(
            caller,
            IssueToken {
                scope,
                assertion: member,
            },
        );
        match policy::decide(&self.rules, ask, &facts) {
            Decision::Refuse(refusal) => {
                let wait_s = asking.as_ref().and_then(|asking| capped(asking, now_ms));
                if let (Some((asked, organisation, _)), Some(_)) = (&asking, wait_s) {
                    extra.members.extend(self.tells_cap(asked, organisation));
                }
                let receipt = self.refuse(refusal, patient.as_ref(), extra).await?;
                Ok(match wait_s {
                    Some(wait_s) => Issue::Capped(receipt, wait_s),
                    None => Issue::Refused(receipt),
                })
            }
            Decision::Permit(grant) => {
                if let Some((asked, organisation, emergency)) = &asking {
                    let account = grant.account();
                    let evidence = account.context.get("evidence");
                    let evidence = evidence.and_then(|it| it.as_str()).unwrap_or_default();
                    let about = (asked, evidence);
                    let told = self.tells_grant(about, organisation, emergency.as_ref(), now_ms);
                    extra.members.extend(told);
                }
                let recorded = self.record(grant, patient.as_ref(), extra).await?;
                let (grant, receipt) = recorded.into_parts();
                let (client, certificate) = (grant.caller().client(), grant.caller().certificate());
                let issued =
                    self.tokens
                        .issue(grant.granted(), client.as_str(), certificate, now_ms / 1000);
                Ok(Issue::Done(issued, receipt))
            }
        }
    }

    /// Decides, records, releases. Nothing is released that is not already in the ledger.
    ///
    /// # Errors
    /// A fault of ours; then nothing left.
    pub async fn read(
        &self,
        caller: Caller,
        mut read: Read,
        wanted: Wanted,
    ) -> Result<Answer<Release>, Fault> {
        let now_ms = self.clock.now_ms();
        let Some(Scope::Records(scope)) = caller.token().map(|token| token.scope.clone()) else {
            return self.read_unasked(caller, read, now_ms).await;
        };
        let lag = self.witnesses.stops();
        if lag.is_some() && !scope.purpose.is_emergency() {
            return Err(Fault::Unwitnessed);
        }
        let shelf = self.vault.shelve(&scope.patient, &wanted).await?;
        let mut facts = self.about(&caller, &scope, shelf.keepers(), now_ms).await?;
        shelf.label(&mut facts.holders, |practice| {
            self.facts.feed_terms(practice).documents_inherit
        });
        read.limit = shelf.fitting(read.limit, PAGE_BYTES);
        match policy::decide(&self.rules, Ask::new(caller.clone(), read), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, Some(&scope.patient), Extra::default())
                    .await?,
            )),
            Decision::Permit(grant) => {
                let members = lag.map(unwitnessed).into_iter().collect();
                let recorded = self
                    .record(grant, Some(&scope.patient), Extra { members })
                    .await?;
                let receipt = recorded.receipt().clone();
                let register = self.facts.register();
                let client = match &register {
                    Fact::Known(register) => register.client(caller.client()).cloned(),
                    Fact::Unknown(_) => None,
                };
                let client =
                    client.ok_or(Fault::Bug("a caller that the directory does not know"))?;
                let open_key = client
                    .open_key()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                let to = Address {
                    client: caller.client().as_str(),
                    open_key: &open_key,
                    token: caller.token().map_or("", |token| &token.jti),
                    purpose: scope.purpose.code(),
                    now_s: now_ms / 1000,
                };
                Ok(Answer::Done(
                    self.vault.release(recorded, &shelf, to).await?,
                    receipt,
                ))
            }
        }
    }

    /// A read without a token for records: nothing is known, so the rules refuse, and the refusal is recorded.
    async fn read_unasked(
        &self,
        caller: Caller,
        read: Read,
        now_ms: u64,
    ) -> Result<Answer<Release>, Fault> {
        let facts = PatientFacts {
            now_ms,
            organisation: Fact::Unknown(Why::NotAsked),
            practitioner: Fact::Unknown(Why::NotAsked),
            patient: Fact::Unknown(Why::NotAsked),
            objections: Fact::Unknown(Why::NotAsked),
            objections_doubted: None,
            holders: Vec::new(),
            relationships: Fact::Unknown(Why::NotAsked),
            emergencies: Fact::Unknown(Why::NotAsked),
        };
        match policy::decide(&self.rules, Ask::new(caller, read), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, None, Extra::default()).await?,
            )),
            Decision::Permit(_unrecorded) => {
                Err(Fault::Bug("a read was permitted without a token for it"))
            }
        }
    }

    async fn about(
        &self,
        caller: &Caller,
        scope: &policy::RecordScope,
        keepers: &BTreeSet<Ods>,
        now_ms: u64,
    ) -> Result<PatientFacts, Fault> {
        let organisation = self.asking(caller, &scope.practitioner)?;
        let question = Question {
            client: caller.client(),
            organisation: &organisation,
            practitioner: &scope.practitioner,
            patient: &scope.patient,
            purpose: &scope.purpose,
            keepers,
            now_ms,
        };
        Ok(self.facts.about(question).await?)
    }

    /// For which of its organisations a client asks: the one in whose directory the practitioner stands.
    fn asking(&self, caller: &Caller, practitioner: &policy::PractitionerId) -> Result<Ods, Fault> {
        let register = self.facts.register();
        let knows = |organisation: &&Ods| match &register {
            Fact::Known(register) => matches!(
                register.practitioner(organisation, practitioner),
                Fact::Known(_)
            ),
            Fact::Unknown(_) => false,
        };
        let organisations = caller.organisations();
        let found = organisations
            .iter()
            .find(knows)
            .or_else(|| organisations.first());
        found
            .cloned()
            .ok_or(Fault::Bug("a client that acts for nobody"))
    }

    async fn of_practice(
        &self,
        caller: &Caller,
        practice: &Ods,
        now_ms: u64,
    ) -> Result<DepositFacts, Fault> {
        Ok(DepositFacts {
            now_ms,
            organisation: self.facts.standing(caller.client(), practice),
            client_accepted: self.facts.accepted(practice, caller.client()).await?,
            registration: Fact::Unknown(Why::NotAsked),
        })
    }

    fn of_client(&self, caller: &Caller, now_ms: u64) -> AdminFacts {
        let own = caller.organisations().first();
        let suspended =
            match own.map(|organisation| self.facts.standing(caller.client(), organisation)) {
                Some(Fact::Known(Standing { suspended })) => Fact::Known(suspended),
                Some(Fact::Unknown(why)) => Fact::Unknown(why),
                None => Fact::Unknown(Why::NeverTold),
            };
        AdminFacts { now_ms, suspended }
    }

    async fn record<V: Verdict>(
        &self,
        verdict: V,
        patient: Option<&NhsNumber>,
        extra: Extra,
    ) -> Result<Recorded<V>, Fault> {
        let sealer = self.vault.sealer(patient).await?;
        Ok(self.ledger.record(verdict, extra, &sealer).await?)
    }

    async fn refuse<V: Verdict>(
        &self,
        refusal: V,
        patient: Option<&NhsNumber>,
        extra: Extra,
    ) -> Result<Receipt, Fault> {
        let rule = refusal
            .account()
            .context
            .get("rule")
            .cloned()
            .unwrap_or_default();
        let receipt = self
            .record(refusal, patient, extra)
            .await?
            .receipt()
            .clone();
        tracing::debug!(index = receipt.index(), %rule, "refused");
        Ok(receipt)
    }

    /// The facts, for those who authenticate.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The ledger, for those who publish it.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The log's witnesses, for those who show how they stand.
    #[must_use]
    pub const fn witnesses(&self) -> &Witnesses {
        &self.witnesses
    }

    /// The vault, for what is asked of it before there is a decision.
    #[must_use]
    pub const fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The store, for those who close it.
    #[must_use]
    pub const fn store(&self) -> &Arc<Embedded> {
        &self.store
    }

    /// The tokens, for those who authenticate.
    #[must_use]
    pub const fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The time.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// How an emergency's entry says that it was served while no witness stood by.
fn unwitnessed(lag: Lag) -> (&'static str, serde_json::Value) {
    // Why a bound: what was never cosigned has no number, and leaves hold none above 2^53.
    ("unwitnessed_s", lag.seconds.min(1 << 32).into())
}

/// Seconds until this one may declare an emergency again, where the cap is reached.
fn capped(asking: &(policy::RecordScope, Ods, Option<Declaring>), now_ms: u64) -> Option<u64> {
    let (_, _, emergency) = asking;
    emergency.as_ref()?.wait_s(now_ms)
}

fn patient_of(scope: &Scope) -> Option<&NhsNumber> {
    match scope {
        Scope::Records(scope) => Some(&scope.patient),
        Scope::Consent { patient, .. } | Scope::Relationship { patient, .. } => Some(patient),
        Scope::Deposit { patient, .. } => patient.as_ref(),
        Scope::History(history) => Some(&history.patient),
        Scope::Objections { .. } | Scope::Agreement { .. } => None,
    }
}
