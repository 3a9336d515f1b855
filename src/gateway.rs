//! The straight line. Every act is asked, decided and recorded before anything moves, and nothing is released
//! that is not already in the ledger. This room never sees a secret.
//!
//! Dropping any of these futures is safe at every await: a verdict that was not recorded dies unused, one that
//! was recorded is an entry for an act that may not have been completed. The ledger may over-report, never
//! under-report.

use std::collections::BTreeSet;
use std::sync::Arc;

use policy::words::{NhsNumber, Ods};
use policy::{
    Act, AdminAct, AdminFacts, Ask, Caller, ChangeFacts, Decision, Deposit, DepositFacts, Fact,
    IssueToken, PatientFacts, Read, ReadLog, Rules, Scope, Standing, TokenFacts, Verdict, Why,
    Withdraw,
};

use crate::clock::Clock;
use crate::facts::{Change, Facts, FactsError, Prepared, Question, Registration, Statement};
use crate::ledger::{Event, Extra, Ledger, Receipt, RecordError, Recorded};
use crate::store::{Embedded, Store, StoreError, WriteSet};
use crate::token::{Assertion, Issued, Tokens};
use crate::vault::{
    Address, Batch, Filed, FilingError, Release, Rotation, RotationError, Vault, VaultError, Wanted,
};

/// Bytes of envelopes in one answer, unless one record alone is larger; the rest is on the next page.
const PAGE_BYTES: u64 = 24 * 1024 * 1024;

/// What a question came to.
pub enum Answer<T> {
    /// It was permitted, recorded and done.
    Done(T, Receipt),
    /// It was refused and recorded.
    Refused(Receipt),
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
    /// A rotation stopped.
    #[error("rotation: {0}")]
    Rotation(#[from] RotationError),
    /// Something that cannot be: refuse rather than guess.
    #[error("{0}")]
    Bug(&'static str),
}

/// The gateway: rules, facts, ledger, vault and tokens, in the order a question meets them.
pub struct Gateway {
    rules: Rules,
    facts: Facts,
    ledger: Ledger,
    vault: Arc<Vault>,
    tokens: Tokens,
    store: Arc<Embedded>,
    clock: Clock,
}

impl Gateway {
    /// Puts the rooms together.
    #[must_use]
    pub fn new(
        (rules, facts, ledger): (Rules, Facts, Ledger),
        (vault, tokens): (Arc<Vault>, Tokens),
        store: Arc<Embedded>,
        clock: Clock,
    ) -> Self {
        Self {
            rules,
            facts,
            ledger,
            vault,
            tokens,
            store,
            clock,
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
    ) -> Result<Answer<Issued>, Fault> {
        let now_ms = self.clock.now_ms();
        let patient = patient_of(&scope).cloned();
        let facts = match &scope {
            Scope::Records(asked) => {
                let keepers = self.vault.keepers(&asked.patient).await?;
                TokenFacts::Records(self.about(&caller, asked, &keepers, now_ms).await?)
            }
            Scope::Deposit { practice, .. }
            | Scope::Consent { practice, .. }
            | Scope::Agreement { practice } => {
                let mut facts = self.of_practice(&caller, practice, now_ms).await?;
                facts.registration = match (&scope, &patient) {
                    (Scope::Consent { .. }, Some(patient)) => self.cares(practice, patient).await?,
                    (_, Some(patient)) => self.may_file(patient).await?.0,
                    (_, None) => Fact::Unknown(Why::NotAsked),
                };
                TokenFacts::Practice(facts)
            }
        };
        let member = assertion.member();
        let extra = Extra {
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
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, patient.as_ref(), extra).await?,
            )),
            Decision::Permit(grant) => {
                let recorded = self.record(grant, patient.as_ref(), extra).await?;
                let (grant, receipt) = recorded.into_parts();
                let (client, certificate) = (grant.caller().client(), grant.caller().certificate());
                let issued =
                    self.tokens
                        .issue(grant.granted(), client.as_str(), certificate, now_ms / 1000);
                Ok(Answer::Done(issued, receipt))
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
        let shelf = self.vault.shelve(&scope.patient, &wanted).await?;
        let mut facts = self.about(&caller, &scope, shelf.keepers(), now_ms).await?;
        shelf.label(&mut facts.holders);
        read.limit = shelf.fitting(read.limit, PAGE_BYTES);
        match policy::decide(&self.rules, Ask::new(caller.clone(), read), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, Some(&scope.patient), Extra::default())
                    .await?,
            )),
            Decision::Permit(grant) => {
                let recorded = self
                    .record(grant, Some(&scope.patient), Extra::default())
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
            holders: Vec::new(),
            relationships: Fact::Unknown(Why::NotAsked),
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

    /// Files a batch for a patient of the practice: whole, or not at all. A patient whom no practice holds is
    /// registered with this one by the same act.
    ///
    /// # Errors
    /// A fault of ours; then nothing is filed.
    pub async fn deposit(
        &self,
        caller: Caller,
        deposit: Deposit,
        batch: Batch,
    ) -> Result<Answer<Vec<Filed>>, Fault> {
        let now_ms = self.clock.now_ms();
        let (practice, patient) = (deposit.practice.clone(), deposit.patient.clone());
        let mut facts = self.of_practice(&caller, &practice, now_ms).await?;
        let (may_file, registrations) = self.may_file(&patient).await?;
        facts.registration = may_file;
        match policy::decide(&self.rules, Ask::new(caller, deposit), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, Some(&patient), Extra::default())
                    .await?,
            )),
            Decision::Permit(grant) => {
                self.vault.know(&patient).await?;
                let registering = match registrations {
                    Fact::Known(practices) if practices.is_empty() => {
                        self.registering(&practice, &patient).await?
                    }
                    Fact::Known(_) | Fact::Unknown(_) => None,
                };
                let recorded = self
                    .record(grant, Some(&patient), self.anchor(registering.as_ref()))
                    .await?;
                let filed = batch.outcome().collect();
                let sealed = self.vault.file(recorded, batch, now_ms / 1000).await;
                let (mut sealed, registering) = match (sealed, registering) {
                    (Ok(sealed), registering) => (sealed, registering),
                    (Err(error), Some(prepared)) => {
                        // Why: the ledger holds the registration, whatever became of the records.
                        self.facts.apply(prepared, Vec::new()).await?;
                        return Err(error.into());
                    }
                    (Err(error), None) => return Err(error.into()),
                };
                let writes = sealed.take();
                match registering {
                    Some(prepared) => self
                        .facts
                        .apply(prepared, writes)
                        .await
                        .map_err(contended)?,
                    None => self.commit(writes).await?,
                }
                Ok(Answer::Done(filed, sealed.receipt.clone()))
            }
        }
    }

    /// Whether this client may act for this practice at all: not suspended, and accepted by it. Asked before
    /// anything is looked up in the practice's name, so that a refused client learns nothing of what is filed.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn stands(&self, caller: &Caller, practice: &Ods) -> Result<bool, Fault> {
        let facts = self
            .of_practice(caller, practice, self.clock.now_ms())
            .await?;
        Ok(matches!(
            facts.organisation,
            Fact::Known(Standing { suspended: false })
        ) && matches!(facts.client_accepted, Fact::Known(true)))
    }

    /// A deposit, withdrawal or objection by a caller whose token is for something else, or who may not act for
    /// the practice: refused and recorded like any other, before anything of it was looked at.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn out_of_scope(&self, caller: Caller, attempt: &str) -> Result<Answer<()>, Fault> {
        let patient = caller
            .token()
            .and_then(|token| patient_of(&token.scope))
            .cloned();
        let practice = match caller.token().map(|token| &token.scope) {
            Some(Scope::Deposit { practice, .. } | Scope::Consent { practice, .. }) => {
                Some(practice.clone())
            }
            _ => caller.organisations().first().cloned(),
        };
        let practice = practice.ok_or(Fault::Bug("a client that acts for nobody"))?;
        let mut facts = self
            .of_practice(&caller, &practice, self.clock.now_ms())
            .await?;
        facts.registration = Fact::Unknown(Why::NotAsked);
        let Some(patient) = patient else {
            let detail = serde_json::json!({ "attempt": attempt });
            let ask = ChangeFacts {
                practice,
                patient: None,
                change: attempt.to_owned(),
                detail,
            };
            return self.must_refuse(Ask::new(caller, ask), None, &facts).await;
        };
        let (records, digest) = (Vec::new(), [0; 32]);
        let ask = Deposit {
            practice,
            patient: patient.clone(),
            records,
            digest,
        };
        self.must_refuse(Ask::new(caller, ask), Some(&patient), &facts)
            .await
    }

    async fn must_refuse<A: Act>(
        &self,
        ask: Ask<A>,
        patient: Option<&NhsNumber>,
        facts: &A::Facts,
    ) -> Result<Answer<()>, Fault> {
        match policy::decide(&self.rules, ask, facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, patient, Extra::default()).await?,
            )),
            Decision::Permit(_unrecorded) => Err(Fault::Bug(
                "an act was permitted to a caller who may not do it",
            )),
        }
    }

    /// Whether this practice has to do with this patient: registered there, or holding records. An objection
    /// from elsewhere would stand where nobody looks after it.
    async fn cares(&self, practice: &Ods, patient: &NhsNumber) -> Result<Fact<()>, Fault> {
        let keepers = self.vault.keepers(patient).await?;
        Ok(match self.facts.registrations(patient).await? {
            Fact::Known(registered)
                if registered.contains(practice) || keepers.contains(practice) =>
            {
                Fact::Known(())
            }
            Fact::Known(_) => Fact::Unknown(Why::NeverTold),
            Fact::Unknown(why) => Fact::Unknown(why),
        })
    }

    /// Whether it is known where this patient is registered, be it nowhere yet; and where.
    async fn may_file(
        &self,
        patient: &NhsNumber,
    ) -> Result<(Fact<()>, Fact<BTreeSet<Ods>>), Fault> {
        let registrations = self.facts.registrations(patient).await?;
        let known = match &registrations {
            Fact::Known(_) => Fact::Known(()),
            Fact::Unknown(why) => Fact::Unknown(*why),
        };
        Ok((known, registrations))
    }

    /// A registration with this practice, ready to be recorded with the first deposit; none where the patient
    /// was registered meanwhile.
    async fn registering(
        &self,
        practice: &Ods,
        patient: &NhsNumber,
    ) -> Result<Option<Prepared>, Fault> {
        let turn = self.facts.turn().await;
        match self.facts.registrations(patient).await? {
            Fact::Known(practices) if practices.is_empty() => {}
            Fact::Known(_) | Fact::Unknown(_) => return Ok(None),
        }
        let row = Registration {
            patient: patient.as_str().to_owned(),
            practice: practice.as_str().to_owned(),
        };
        let change = vec![Change::Put(Statement::Registration(row))];
        let prepared = self.facts.prepare(turn, practice.as_str(), change).await?;
        self.facts.pend(&prepared).await?;
        Ok(Some(prepared))
    }

    /// What an entry says of the store before it is changed: the last commit (`st`), and the facts as they will be.
    fn anchor(&self, prepared: Option<&Prepared>) -> Extra {
        let mut members = vec![("st", self.store.seq().0.into())];
        members.extend(prepared.map(|prepared| {
            let (owner, anchor) = prepared.anchor();
            ("facts", anchor.to_member(owner))
        }));
        Extra { members }
    }

    async fn commit(&self, writes: Vec<crate::store::Write>) -> Result<(), Fault> {
        self.store
            .commit(WriteSet {
                writes,
                token: None,
            })
            .await
            .map_err(FilingError::from)?;
        Ok(())
    }

    /// Withdraws a record from all further release. Withdrawing what is not there is no error: the answer
    /// says nothing about what exists.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn withdraw(&self, caller: Caller, withdraw: Withdraw) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let patient = withdraw.patient.clone();
        let mut facts = self
            .of_practice(&caller, &withdraw.practice, now_ms)
            .await?;
        facts.registration = Fact::Known(());
        match policy::decide(&self.rules, Ask::new(caller, withdraw), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, Some(&patient), Extra::default())
                    .await?,
            )),
            Decision::Permit(grant) => {
                let recorded = self
                    .record(grant, Some(&patient), self.anchor(None))
                    .await?;
                let (write, receipt) = self.vault.withdrawal(recorded).await?;
                self.commit(write.into_iter().collect()).await?;
                Ok(Answer::Done((), receipt))
            }
        }
    }

    /// Changes what a practice states: an objection made or taken back. It acts at the next request.
    ///
    /// # Errors
    /// A fault of ours; if the ledger holds the change, it is finished at the next start.
    pub async fn change(
        &self,
        caller: Caller,
        ask: ChangeFacts,
        changes: Vec<Change>,
    ) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let (practice, patient) = (ask.practice.clone(), ask.patient.clone());
        let mut facts = self.of_practice(&caller, &practice, now_ms).await?;
        facts.registration = match &patient {
            Some(patient) => self.cares(&practice, patient).await?,
            None => Fact::Unknown(Why::NotAsked),
        };
        match policy::decide(&self.rules, Ask::new(caller, ask), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, patient.as_ref(), Extra::default())
                    .await?,
            )),
            Decision::Permit(grant) => {
                let turn = self.facts.turn().await;
                let prepared = self.facts.prepare(turn, practice.as_str(), changes).await?;
                self.facts.pend(&prepared).await?;
                let recorded = self
                    .record(grant, patient.as_ref(), self.anchor(Some(&prepared)))
                    .await?;
                let (_grant, receipt) = recorded.into_parts();
                self.facts.apply(prepared, Vec::new()).await?;
                Ok(Answer::Done((), receipt))
            }
        }
    }

    /// Rotates a practice's KEK and begins to rewrap its record keys; [`Gateway::rewrap`] goes on until none
    /// is left under an older version.
    ///
    /// # Errors
    /// A fault of ours; then the old version stays active.
    pub async fn rotate(&self, caller: Caller, practice: &Ods) -> Result<Answer<u32>, Fault> {
        let now_ms = self.clock.now_ms();
        let act = AdminAct {
            act: "kek.rotate".to_owned(),
            object: practice.as_str().to_owned(),
        };
        let facts = self.of_client(&caller, now_ms);
        match policy::decide(&self.rules, Ask::new(caller, act), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, None, Extra::default()).await?,
            )),
            Decision::Permit(grant) => {
                let recorded = self.record(grant, None, Extra::default()).await?;
                let (version, receipt) = self.vault.renew(recorded, practice, now_ms).await?;
                Ok(Answer::Done(version, receipt))
            }
        }
    }

    /// Rewraps until no record key of this practice is left under an older KEK, and records that.
    ///
    /// # Errors
    /// A fault of ours; asking again takes it up where it stopped.
    pub async fn rewrap(
        &self,
        practice: &Ods,
        said: impl FnMut(&Rotation),
    ) -> Result<(Rotation, Receipt), Fault> {
        let rotation = self.vault.rewrap(practice, said).await?;
        let event = Event::new("kek.rotated")
            .with("owner", practice.as_str())
            .with("version", u64::from(rotation.version))
            .with("rewrapped", rotation.rewrapped)
            .with("left", rotation.left);
        let receipt = self.ledger.note(event).await?;
        Ok((rotation, receipt))
    }

    /// Takes up every rotation that a stop or a crash left half done.
    ///
    /// # Errors
    /// A fault of ours; asking again takes it up where it stopped.
    pub async fn resume(&self) -> Result<(), Fault> {
        for owner in self.vault.owners() {
            let Ok(practice) = Ods::try_from(owner.as_str()) else {
                continue;
            };
            if self.vault.under_versions(&practice).await?.len() > 1 {
                tracing::info!(owner, "going on with a rotation");
                self.rewrap(&practice, |_| ()).await?;
            }
        }
        Ok(())
    }

    /// How many record keys stand under each version of each practice's KEK: read by an admin, recorded.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn key_versions(
        &self,
        caller: Caller,
        practice: &Ods,
    ) -> Result<Answer<Vec<(u32, u64)>>, Fault> {
        let act = AdminAct {
            act: "status.read".to_owned(),
            object: practice.as_str().to_owned(),
        };
        let facts = self.of_client(&caller, self.clock.now_ms());
        match policy::decide(&self.rules, Ask::new(caller, act), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, None, Extra::default()).await?,
            )),
            Decision::Permit(grant) => {
                let recorded = self.record(grant, None, Extra::default()).await?;
                let (_grant, receipt) = recorded.into_parts();
                Ok(Answer::Done(
                    self.vault.under_versions(practice).await?,
                    receipt,
                ))
            }
        }
    }

    /// Whether this caller may read entries of the log; the reading is itself an entry.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn read_log(&self, caller: Caller, what: &str) -> Result<Answer<()>, Fault> {
        let facts = self.of_client(&caller, self.clock.now_ms());
        match policy::decide(
            &self.rules,
            Ask::new(
                caller,
                ReadLog {
                    what: what.to_owned(),
                },
            ),
            &facts,
        ) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, None, Extra::default()).await?,
            )),
            Decision::Permit(grant) => {
                let recorded = self.record(grant, None, Extra::default()).await?;
                let (_grant, receipt) = recorded.into_parts();
                Ok(Answer::Done((), receipt))
            }
        }
    }

    /// Revokes a token of this caller, if it is one; it is dead at the next request, also across a restart.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn revoke(
        &self,
        assertion: &Assertion,
        token: Option<&policy::Token>,
    ) -> Result<Receipt, Fault> {
        let mut event = Event::new("token.revoke").with("aj", assertion.member());
        if let Some(token) = token {
            self.tokens
                .revoke(&token.jti, token.expires_ms, self.clock.now_ms());
            event = event.with("rv", token.jti.as_str());
        }
        Ok(self.ledger.note(event).await?)
    }

    /// Records that a registered client could not be believed.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn not_believed(&self, client: &str, why: &str) -> Result<Receipt, Fault> {
        Ok(self
            .ledger
            .note(
                Event::new("caller.refuse")
                    .with("client", client)
                    .with("why", why),
            )
            .await?)
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

/// A commit that met another deposit of the same record.
fn contended(error: FactsError) -> Fault {
    match error {
        FactsError::Store(StoreError::Conflict) => FilingError::Conflict.into(),
        other => other.into(),
    }
}

fn patient_of(scope: &Scope) -> Option<&NhsNumber> {
    match scope {
        Scope::Records(scope) => Some(&scope.patient),
        Scope::Consent { patient, .. } => Some(patient),
        Scope::Deposit { patient, .. } => patient.as_ref(),
        Scope::Agreement { .. } => None,
    }
}
