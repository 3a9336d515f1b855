//! The register of emergency providers and the practices that accept it. A practice accepts a version by name, once,
//! and that is one agreement with each organisation of it, for emergencies alone; it acts when the register's keeper
//! has answered and the practice's cooling-off time has passed. Who is added later is in nobody's agreements yet.

use std::sync::Arc;

use policy::words::{Ods, Purpose};
use policy::{AdminAct, Ask, Caller, Decision, Fact, Side};
use serde_json::{Value, json};

use super::agreement::changing;
use super::{Answer, Fault, Gateway, Wish};
use crate::alerts::Kind;
use crate::facts::{
    AgreementRow, Change, HandRow, KeeperWord, OPERATOR, Offer, Register, RegisterAcceptance,
    Statement, unfit,
};

/// What an agreement under the register is for, and nothing else.
pub const EMERGENCY: [Purpose; 2] = [Purpose::Etreat, Purpose::Btg];

impl Gateway {
    /// Accepts a version of the register for the practice; `common` is what each of the agreements says.
    ///
    /// # Errors
    /// A fault of ours, or that another version stands, or the reference is taken.
    pub async fn accept_providers(
        &self,
        caller: Caller,
        practice: &Ods,
        mut common: AgreementRow,
    ) -> Result<Answer<(u64, String)>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_practice(&caller, practice, now_ms).await?;
        let turn = self.facts.turn().await;
        common.hand = self.hand(&caller).known().ok().map(HandRow::from);
        common.proposed_ms = now_ms;
        if let Fact::Known(settings) = self.facts.settings(practice).await? {
            common.cooling_ms = settings.cooling_off_at(now_ms);
        }
        let changes = self.expanded(practice, &common).await?;
        let count = changes.as_ref().map_or(0, |(count, _)| *count);
        let terms = common.emergency_terms();
        let detail = json!({
            "version": common.register, "reference": common.reference, "terms": terms, "agreements": count,
            "purposes": common.purposes, "categories": common.categories, "labels": common.labels,
            "emergency_overrides_objection": common.emergency_overrides_objection, "signer": common.signer,
            "from_ms": common.from_ms, "until_ms": common.until_ms,
        });
        let ask = Ask::new(caller, changing(practice, "providers.accept", detail));
        let changes = changes.map(|(_, changes)| changes);
        let about = (practice, None);
        let answer = self.enact(ask, &facts, about, turn, changes).await?;
        let what = format!("register/{}", common.reference);
        self.notice(&answer, Kind::AgreementProposed, practice, &what)
            .await?;
        Ok(match answer {
            Answer::Refused(receipt) => Answer::Refused(receipt),
            Answer::Done((), receipt) => Answer::Done((count, terms), receipt),
        })
    }

    /// The rows that an acceptance comes to: one that says so, and an agreement and its offer for each organisation.
    async fn expanded(
        &self,
        practice: &Ods,
        common: &AgreementRow,
    ) -> Result<Result<(u64, Vec<Change>), &'static str>, Fault> {
        let Fact::Known(register) = self.facts.register() else {
            return Ok(Err("the register is unknown; nothing was done"));
        };
        let (version, named) = register.providers();
        if named.is_empty() || common.register != Some(version) {
            return Ok(Err(
                "version: is not the one that stands; read the register again",
            ));
        }
        if common.hand.is_none() {
            return Ok(Err("no signing key is registered for this system"));
        }
        let accepted = self.facts.register_acceptances(Some(practice)).await?;
        let codes: Vec<&str> = named.iter().map(|it| it.ods.as_str()).collect();
        let reference = common.reference.as_str();
        let is_taken = self.facts.is_taken(practice, &codes, reference).await?;
        match (accepted, is_taken) {
            (Fact::Known(all), Fact::Known(false))
                if all.iter().all(|it| it.reference != reference) => {}
            (Fact::Known(_), Fact::Known(_)) => {
                return Ok(Err("a reference is used once; accept under another"));
            }
            _ => {
                return Ok(Err(
                    "the facts of this practice are unknown; nothing was done",
                ));
            }
        }
        let count = u64::try_from(named.len()).unwrap_or(u64::MAX);
        let said = RegisterAcceptance::of(common, version, count);
        let mut changes = vec![Change::Put(Statement::RegisterAcceptance(said))];
        for provider in named {
            changes.push(Change::Put(Statement::Agreement(AgreementRow {
                organisation: provider.ods.clone(),
                ..common.clone()
            })));
            changes.push(Change::Put(Statement::Offer(Offer {
                organisation: provider.ods.clone(),
                practice: common.practice.clone(),
                reference: common.reference.clone(),
            })));
        }
        Ok(Ok((count, changes)))
    }

    /// Takes back everything that the practice accepted under this reference. Nothing is released under it from the
    /// next request on.
    ///
    /// # Errors
    /// A fault of ours, or that nothing stands under this reference.
    pub async fn withdraw_providers(
        &self,
        caller: Caller,
        practice: &Ods,
        reference: &str,
    ) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_practice(&caller, practice, now_ms).await?;
        let turn = self.facts.turn().await;
        let said = self.facts.register_acceptances(Some(practice)).await?;
        let changes = match (said, self.facts.proposed_by(practice).await?) {
            (Fact::Known(said), Fact::Known(agreed)) => {
                let mut said = said.into_iter().filter(|it| it.reference == reference);
                let rows = agreed.into_iter().map(|it| it.row).filter(|row| {
                    row.reference == reference
                        && row.register.is_some()
                        && row.withdrawn_ms.is_none()
                });
                match said.next() {
                    None => Err("nothing of the register was accepted under this reference"),
                    Some(it) => {
                        let it = RegisterAcceptance {
                            withdrawn_ms: it.withdrawn_ms.or(Some(now_ms)),
                            ..it
                        };
                        let withdrawn = rows.map(|row| {
                            Change::Put(Statement::Agreement(AgreementRow {
                                withdrawn_ms: Some(now_ms),
                                ..row
                            }))
                        });
                        let said = Change::Put(Statement::RegisterAcceptance(it));
                        Ok(std::iter::once(said).chain(withdrawn).collect())
                    }
                }
            }
            _ => Err("the facts of this practice are unknown; nothing was done"),
        };
        let detail = json!({ "reference": reference });
        let ask = Ask::new(caller, changing(practice, "providers.withdraw", detail));
        let about = (practice, None);
        let answer = self.enact(ask, &facts, about, turn, changes).await?;
        let what = format!("register/{reference}");
        self.notice(&answer, Kind::AgreementEnded, practice, &what)
            .await?;
        Ok(answer)
    }

    /// The register as it stands, and what this practice accepted of it. Recorded like any read.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn providers_of(
        &self,
        caller: Caller,
        practice: &Ods,
    ) -> Result<Answer<(Arc<Register>, Vec<RegisterAcceptance>)>, Fault> {
        let of = Side::Practice(practice.clone());
        match self.look_up(caller, of, None, "register").await? {
            Answer::Refused(receipt) => Ok(Answer::Refused(receipt)),
            Answer::Done((), receipt) => {
                let said = self.facts.register_acceptances(Some(practice)).await?;
                match (self.facts.register(), said) {
                    (Fact::Known(register), Fact::Known(said)) => {
                        Ok(Answer::Done((register, said), receipt))
                    }
                    _ => Err(Fault::Standing("the facts are unknown; ask the operator")),
                }
            }
        }
    }

    /// The register and every practice's acceptance of it, for its keeper. Recorded like any read.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn providers(
        &self,
        caller: Caller,
    ) -> Result<Answer<(Arc<Register>, Vec<RegisterAcceptance>)>, Fault> {
        match self.look_at(caller, "register").await? {
            Answer::Refused(receipt) => Ok(Answer::Refused(receipt)),
            Answer::Done((), receipt) => match self.facts.register_acceptances(None).await? {
                Fact::Known(said) => Ok(Answer::Done((self.directory()?, said), receipt)),
                Fact::Unknown(_) => Err(Fault::Bug("an acceptance of the register does not read")),
            },
        }
    }

    /// The keeper answers a practice: `PRACTICE/REFERENCE`, with the digest of the terms that the practice gave.
    pub(super) async fn answer_practice(
        &self,
        caller: Caller,
        wish: Wish,
    ) -> Result<Answer<Value>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_client(&caller, now_ms);
        let (client, act) = (caller.client().as_str().to_owned(), wish.act.clone());
        let turn = self.facts.turn().await;
        let (practice, reference) = wish.object.split_once('/').unwrap_or_default();
        let said = match crate::facts::ods(practice) {
            Ok(practice) => self.facts.register_acceptances(Some(&practice)).await?,
            Err(_) => Fact::Known(Vec::new()),
        };
        let said = said.known().ok().and_then(|said| {
            let mut said = said.iter().filter(|it| it.withdrawn_ms.is_none());
            said.find(|it| it.reference == reference).cloned()
        });
        let terms = wish.payload.get("terms").and_then(Value::as_str);
        let checked = match said {
            None => Err(unfit(
                "object",
                "must be PRACTICE/REFERENCE of an acceptance of the register that stands",
            )),
            Some(said) if terms != Some(said.terms.as_str()) => Err(unfit(
                "payload.terms",
                "is not the digest of what the practice accepted; read it again",
            )),
            Some(said) => Ok(said),
        };
        let asked = AdminAct {
            act: wish.act,
            object: wish.object,
            why: wish.why,
        };
        match policy::decide(&self.rules, Ask::new(caller, asked), &facts) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let said = self.or_noted(grant.caller(), &act, checked).await?;
                let practice =
                    crate::facts::ods(&said.practice).map_err(crate::facts::Unfit::from)?;
                let answered = self
                    .directory()?
                    .keeper_word(&said.practice, &said.reference)
                    .is_some();
                let fresh = if answered {
                    Err(unfit("object", "is answered already"))
                } else {
                    Ok(())
                };
                self.or_noted(grant.caller(), &act, fresh).await?;
                let about = format!("register/{}", said.reference);
                let word = KeeperWord {
                    practice: said.practice,
                    reference: said.reference,
                    version: said.version,
                    terms: said.terms,
                    client,
                    at_ms: now_ms,
                };
                let changes = vec![Change::Put(Statement::KeeperWord(word))];
                let prepared = self.facts.prepare(turn, OPERATOR, changes).await?;
                self.facts.pend(&prepared).await?;
                let recorded = self
                    .record(grant, None, self.anchor(Some(&prepared)))
                    .await?;
                let (_grant, receipt) = recorded.into_parts();
                self.facts.apply(prepared, Vec::new()).await?;
                let answer = Answer::Done((), receipt.clone());
                self.notice(&answer, Kind::AgreementAccepted, &practice, &about)
                    .await?;
                Ok(Answer::Done(json!({}), receipt))
            }
        }
    }
}
