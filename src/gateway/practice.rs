//! What a practice's system does: deposits, withdraws, passes on objections. Each act is decided and recorded before
//! anything of it is written; what the ledger holds of the facts is applied whatever becomes of the rest.

use std::collections::BTreeSet;

use policy::words::{NhsNumber, Ods};
use policy::{
    Act, Ask, Caller, ChangeFacts, Decision, Deposit, Fact, Scope, Side, Standing, Why, Withdraw,
};

use super::{Answer, Fault, Gateway, patient_of};
use crate::facts::{Change, FactsError, Prepared, Registration, Statement};
use crate::ledger::Extra;
use crate::store::{Store, StoreError, WriteSet};
use crate::vault::{Batch, Filed, FilingError};

impl Gateway {
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
            Some(
                Scope::Deposit { practice, .. }
                | Scope::Consent { practice, .. }
                | Scope::Objections { practice },
            ) => Some(practice.clone()),
            Some(Scope::Agreement { of } | Scope::Relationship { of, .. }) => {
                Some(of.ods().clone())
            }
            _ => caller.organisations().first().cloned(),
        };
        let practice = practice.ok_or(Fault::Bug("a client that acts for nobody"))?;
        let mut facts = self
            .of_practice(&caller, &practice, self.clock.now_ms())
            .await?;
        facts.registration = Fact::Unknown(Why::NotAsked);
        if let Some(Scope::Agreement {
            of: Side::Practice(own),
        }) = caller.token().map(|token| token.scope.clone())
        {
            // Why in an organisation's name: in the practice's own this token would be good for something.
            let facts = self.of_organisation(&caller, &own, facts.now_ms);
            let detail = serde_json::json!({ "attempt": attempt });
            let ask = super::agreement::stating(&own, None, policy::Stated::End, detail);
            return self.must_refuse(Ask::new(caller, ask), None, &facts).await;
        }
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
    pub(super) async fn cares(
        &self,
        practice: &Ods,
        patient: &NhsNumber,
    ) -> Result<Fact<()>, Fault> {
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
    pub(super) async fn may_file(
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
    pub(super) fn anchor(&self, prepared: Option<&Prepared>) -> Extra {
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
        // Why whatever the registration is: a practice may always take back what it filed itself.
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
}

/// A commit that met another deposit of the same record.
fn contended(error: FactsError) -> Fault {
    match error {
        FactsError::Store(StoreError::Conflict) => FilingError::Conflict.into(),
        other => other.into(),
    }
}
