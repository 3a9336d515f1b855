//! What a practice and an organisation state about each other: agreements proposed, accepted, withdrawn; how long
//! they cool; which systems act for a practice. No one hand makes an agreement: the policy lays the accepting hand
//! beside the proposing one. Each act is decided and recorded like any other before it is applied, and the
//! practice's contacts are told.

use policy::words::{ClientId, NhsNumber, Ods};
use policy::{
    Act, Ask, Caller, ChangeFacts, Decision, Fact, Hand, LookUp, OrganisationFacts, Side,
    SideFacts, StateFacts, Stated, Why,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Answer, Fault, Gateway};
use crate::alerts::Kind;
use crate::facts::{
    Acceptance, Agreed, AgreementRow, ApprovalRow, Change, Countersignature, HandRow, Offer,
    PracticeSettings, State, Statement, Turn, hex,
};
use crate::ledger::Extra;

/// Which agreement: its two parties and its reference.
#[derive(Clone)]
pub struct Named {
    /// The practice that shares.
    pub practice: Ods,
    /// The organisation that may ask.
    pub organisation: Ods,
    /// The agreement's reference.
    pub reference: String,
}

/// What an organisation says when it accepts.
pub struct Accepting {
    /// The digest of the terms it read.
    pub terms: String,
    /// Who signs, by name.
    pub signer: String,
}

impl Gateway {
    /// Proposes an agreement for the practice. It acts once the organisation accepted it and it has cooled.
    ///
    /// # Errors
    /// A fault of ours, or that an agreement of this reference stands already.
    pub async fn propose_agreement(
        &self,
        caller: Caller,
        mut row: AgreementRow,
        named: &Named,
    ) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let practice = &named.practice;
        let facts = self.of_practice(&caller, practice, now_ms).await?;
        let turn = self.facts.turn().await;
        row.hand = self.hand(&caller).known().ok().map(HandRow::from);
        row.proposed_ms = now_ms;
        let settings = self.facts.settings(practice).await?;
        let stands = self
            .facts
            .agreement(practice, &named.organisation, &named.reference)
            .await?;
        let detail = json!({
            "organisation": row.organisation, "reference": row.reference, "terms": row.terms(),
            "purposes": row.purposes, "categories": row.categories, "labels": row.labels,
            "accepts_asserted": row.accepts_asserted, "signer": row.signer,
            "emergency_overrides_objection": row.emergency_overrides_objection,
            "from_ms": row.from_ms, "until_ms": row.until_ms,
        });
        let changes = match (stands, settings, &row.hand) {
            (Fact::Known(None), Fact::Known(settings), Some(_)) => {
                row.cooling_ms = settings.cooling_off_at(now_ms);
                let offer = Offer {
                    organisation: row.organisation.clone(),
                    practice: row.practice.clone(),
                    reference: row.reference.clone(),
                };
                Ok(vec![
                    Change::Put(Statement::Agreement(row)),
                    Change::Put(Statement::Offer(offer)),
                ])
            }
            (Fact::Known(Some(_)), _, _) => Err("a reference is used once; propose under another"),
            _ => Err("the facts of this practice are unknown; nothing was done"),
        };
        let ask = changing(practice, "agreement.propose", detail);
        let answer = self
            .enact(
                Ask::new(caller, ask),
                &facts,
                (practice, None),
                turn,
                changes,
            )
            .await?;
        self.told(&answer, Kind::AgreementProposed, named).await?;
        Ok(answer)
    }

    /// Accepts an agreement for the organisation: by its own system, and never by the hand that proposed it.
    ///
    /// # Errors
    /// A fault of ours, or that other terms stand than those accepted.
    pub async fn accept_agreement(
        &self,
        caller: Caller,
        named: &Named,
        accepting: Accepting,
    ) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let turn = self.facts.turn().await;
        let found = self
            .facts
            .agreement(&named.practice, &named.organisation, &named.reference)
            .await?;
        let mut facts = self.of_organisation(&caller, &named.organisation, now_ms);
        facts.hand = self.hand(&caller);
        facts.proposal = match &found {
            Fact::Known(Some(found)) => Fact::Known(found.row.hand()),
            Fact::Known(None) => Fact::Unknown(Why::NeverTold),
            Fact::Unknown(why) => Fact::Unknown(*why),
        };
        let changes = match (&found, facts.hand.known()) {
            (Fact::Known(Some(found)), _) if found.row.register.is_some() => {
                Err("the register of emergency providers speaks for this agreement")
            }
            (Fact::Known(Some(found)), _) if found.row.terms() != accepting.terms => {
                Err("terms: are not the digest of the terms that stand; read them again")
            }
            (Fact::Known(Some(found)), _) if found.state(now_ms) != State::Proposed => {
                Err("it is not proposed: it was accepted, withdrawn, or has expired")
            }
            (Fact::Known(Some(_)), Ok(hand)) => Ok(vec![Change::Put(Statement::Countersignature(
                Countersignature {
                    reference: named.reference.clone(),
                    practice: named.practice.as_str().to_owned(),
                    organisation: named.organisation.as_str().to_owned(),
                    terms: accepting.terms.clone(),
                    signer: accepting.signer.clone(),
                    hand: Some(HandRow::from(hand)),
                    accepted_ms: now_ms,
                    ended_ms: None,
                },
            ))]),
            _ => Err("there is nothing to accept"),
        };
        let detail = json!({
            "practice": named.practice.as_str(), "reference": named.reference,
            "terms": accepting.terms, "signer": accepting.signer,
        });
        let ask = stating(&named.organisation, None, Stated::Acceptance, detail);
        let about = (&named.organisation, None);
        let answer = self
            .enact(Ask::new(caller, ask), &facts, about, turn, changes)
            .await?;
        self.told(&answer, Kind::AgreementAccepted, named).await?;
        Ok(answer)
    }

    /// Takes an agreement back for the practice. Nothing is released under it from the next request on, whatever
    /// tokens live.
    ///
    /// # Errors
    /// A fault of ours, or that there is nothing to withdraw.
    pub async fn withdraw_agreement(
        &self,
        caller: Caller,
        named: &Named,
    ) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let practice = &named.practice;
        let facts = self.of_practice(&caller, practice, now_ms).await?;
        let turn = self.facts.turn().await;
        let found = self
            .facts
            .agreement(practice, &named.organisation, &named.reference)
            .await?;
        let changes = match found {
            Fact::Known(Some(found)) if found.row.withdrawn_ms.is_none() => {
                let row = AgreementRow {
                    withdrawn_ms: Some(now_ms),
                    ..found.row
                };
                Ok(vec![Change::Put(Statement::Agreement(row))])
            }
            // Why no error: who withdraws twice has what it wants.
            Fact::Known(Some(_)) => Ok(Vec::new()),
            Fact::Known(None) => Err("there is no such agreement"),
            Fact::Unknown(_) => Err("the facts of this practice are unknown; nothing was done"),
        };
        let detail =
            json!({ "organisation": named.organisation.as_str(), "reference": named.reference });
        let ask = changing(practice, "agreement.withdraw", detail);
        let answer = self
            .enact(
                Ask::new(caller, ask),
                &facts,
                (practice, None),
                turn,
                changes,
            )
            .await?;
        self.told(&answer, Kind::AgreementEnded, named).await?;
        Ok(answer)
    }

    /// Ends an agreement for the organisation, or declines it.
    ///
    /// # Errors
    /// A fault of ours, or that there is nothing to end.
    pub async fn end_agreement(&self, caller: Caller, named: &Named) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let organisation = &named.organisation;
        let facts = self.of_organisation(&caller, organisation, now_ms);
        let turn = self.facts.turn().await;
        let found = self
            .facts
            .countersignature(&named.practice, organisation, &named.reference)
            .await?;
        let changes = match found {
            Fact::Known(Some(row)) => {
                let ended_ms = row.ended_ms.or(Some(now_ms));
                let row = Countersignature { ended_ms, ..row };
                Ok(vec![Change::Put(Statement::Countersignature(row))])
            }
            Fact::Known(None) => Err("this organisation accepted no such agreement"),
            Fact::Unknown(_) => Err("the facts of this organisation are unknown; nothing was done"),
        };
        let detail = json!({ "practice": named.practice.as_str(), "reference": named.reference });
        let ask = stating(organisation, None, Stated::End, detail);
        let answer = self
            .enact(
                Ask::new(caller, ask),
                &facts,
                (organisation, None),
                turn,
                changes,
            )
            .await?;
        self.told(&answer, Kind::AgreementEnded, named).await?;
        Ok(answer)
    }

    /// The agreements of one side, with what each of them is now. Recorded like any read.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn agreements(
        &self,
        caller: Caller,
        of: Side,
    ) -> Result<Answer<Vec<(Agreed, State)>>, Fault> {
        let now_ms = self.clock.now_ms();
        let found = match self.look_up(caller, of.clone(), None, "agreements").await? {
            Answer::Refused(receipt) => return Ok(Answer::Refused(receipt)),
            Answer::Done((), receipt) => {
                let found = match &of {
                    Side::Practice(practice) => self.facts.proposed_by(practice).await?,
                    Side::Organisation(own) => self.facts.proposed_to(own).await?,
                };
                (found, receipt)
            }
        };
        match found {
            (Fact::Unknown(_), _) => {
                Err(Fault::Standing("the facts are unknown; ask the operator"))
            }
            (Fact::Known(all), receipt) => {
                let all = all.into_iter().map(|it| (it.state(now_ms), it));
                Ok(Answer::Done(
                    all.map(|(state, it)| (it, state)).collect(),
                    receipt,
                ))
            }
        }
    }

    /// How a practice wants its agreements made, which systems act for it, and which secondary uses of its records were
    /// approved. Recorded like any read.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn settings(
        &self,
        caller: Caller,
        practice: &Ods,
    ) -> Result<Answer<(PracticeSettings, Vec<String>, Vec<ApprovalRow>)>, Fault> {
        let of = Side::Practice(practice.clone());
        match self.look_up(caller, of, None, "settings").await? {
            Answer::Refused(receipt) => Ok(Answer::Refused(receipt)),
            Answer::Done((), receipt) => {
                let settings = self.facts.settings(practice).await?;
                match (settings, self.facts.clients_of(practice).await?) {
                    (Fact::Known(settings), Fact::Known(clients)) => {
                        let register = self.directory()?;
                        let approvals = register.approvals_at(practice).cloned().collect();
                        Ok(Answer::Done((settings, clients, approvals), receipt))
                    }
                    _ => Err(Fault::Standing("the facts are unknown; ask the operator")),
                }
            }
        }
    }

    /// Sets a practice's cooling-off time and contacts. A shorter time counts once the longer one has passed.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn set(
        &self,
        caller: Caller,
        practice: &Ods,
        (cooling_off_ms, contacts): (u64, Vec<String>),
    ) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_practice(&caller, practice, now_ms).await?;
        let turn = self.facts.turn().await;
        let detail = json!({ "cooling_off_ms": cooling_off_ms, "contacts": contacts });
        let changes =
            match self.facts.settings(practice).await? {
                Fact::Known(old) => Ok(vec![Change::Put(Statement::PracticeSettings(
                    old.changed(cooling_off_ms, contacts, now_ms),
                ))]),
                Fact::Unknown(_) => Err("the facts of this practice are unknown; nothing was done"),
            };
        let ask = changing(practice, "settings", detail);
        let answer = self
            .enact(
                Ask::new(caller, ask),
                &facts,
                (practice, None),
                turn,
                changes,
            )
            .await?;
        self.notice(&answer, Kind::SettingsChanged, practice, "settings")
            .await?;
        Ok(answer)
    }

    /// Accepts a system to act for the practice, or no longer. A system is not a practice: what it may do for one,
    /// that practice said.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn accept_client(
        &self,
        caller: Caller,
        practice: &Ods,
        (client, accepted): (&ClientId, bool),
    ) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_practice(&caller, practice, now_ms).await?;
        let turn = self.facts.turn().await;
        let known = match self.facts.register() {
            Fact::Known(register) => register
                .client(client)
                .is_some_and(|client| client.organisations.contains(practice)),
            Fact::Unknown(_) => false,
        };
        let row = Statement::Acceptance(Acceptance {
            practice: practice.as_str().to_owned(),
            client: client.as_str().to_owned(),
        });
        let changes = match (accepted, known) {
            (true, true) => Ok(vec![Change::Put(row)]),
            (true, false) => Err("no such client is registered to act for this practice"),
            (false, _) => Ok(vec![Change::Remove(row)]),
        };
        let what = if accepted {
            "client.accept"
        } else {
            "client.dismiss"
        };
        let ask = changing(practice, what, json!({ "client": client.as_str() }));
        let answer = self
            .enact(
                Ask::new(caller, ask),
                &facts,
                (practice, None),
                turn,
                changes,
            )
            .await?;
        self.notice(&answer, Kind::ClientsChanged, practice, client.as_str())
            .await?;
        Ok(answer)
    }

    /// Whether this caller may look up what stands in this side's name; the looking is itself an entry.
    pub(super) async fn look_up(
        &self,
        caller: Caller,
        of: Side,
        patient: Option<&NhsNumber>,
        what: &'static str,
    ) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = match &of {
            Side::Practice(practice) => {
                let mut facts = self.of_practice(&caller, practice, now_ms).await?;
                if let Some(patient) = patient {
                    facts.registration = self.cares(practice, patient).await?;
                }
                SideFacts::Practice(facts)
            }
            Side::Organisation(own) => {
                SideFacts::Organisation(self.of_organisation(&caller, own, now_ms))
            }
        };
        let act = LookUp {
            of,
            patient: patient.cloned(),
            what,
        };
        match policy::decide(&self.rules, Ask::new(caller, act), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, patient, Extra::default()).await?,
            )),
            Decision::Permit(grant) => {
                let recorded = self.record(grant, patient, Extra::default()).await?;
                let (_grant, receipt) = recorded.into_parts();
                Ok(Answer::Done((), receipt))
            }
        }
    }

    /// Decides, records and applies a change of what one party states. What it changes was found under the turn;
    /// where that does not fit what stands, a permitted caller is told which rule it breaks.
    pub(super) async fn enact<A: Act>(
        &self,
        ask: Ask<A>,
        facts: &A::Facts,
        (owner, patient): (&Ods, Option<&NhsNumber>),
        turn: Turn,
        changes: Result<Vec<Change>, &'static str>,
    ) -> Result<Answer<()>, Fault> {
        match policy::decide(&self.rules, ask, facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, patient, Extra::default()).await?,
            )),
            Decision::Permit(grant) => {
                let changes = changes.map_err(Fault::Standing)?;
                let prepared = self.facts.prepare(turn, owner.as_str(), changes).await?;
                self.facts.pend(&prepared).await?;
                let recorded = self
                    .record(grant, patient, self.anchor(Some(&prepared)))
                    .await?;
                let (_grant, receipt) = recorded.into_parts();
                self.facts.apply(prepared, Vec::new()).await?;
                Ok(Answer::Done((), receipt))
            }
        }
    }

    async fn told(&self, answer: &Answer<()>, kind: Kind, named: &Named) -> Result<(), Fault> {
        let about = format!("{}/{}", named.organisation, named.reference);
        self.notice(answer, kind, &named.practice, &about).await
    }

    /// Leaves word for the practice's contacts that something was done: an entry of codes, which is delivered from
    /// the ledger.
    pub(super) async fn notice(
        &self,
        answer: &Answer<()>,
        kind: Kind,
        practice: &Ods,
        about: &str,
    ) -> Result<(), Fault> {
        match answer {
            Answer::Refused(_) => Ok(()),
            Answer::Done((), _) => {
                let event = kind.notice(practice.as_str()).with("about", about);
                self.tell(event).await
            }
        }
    }

    pub(super) fn of_organisation(
        &self,
        caller: &Caller,
        organisation: &Ods,
        now_ms: u64,
    ) -> OrganisationFacts {
        OrganisationFacts {
            now_ms,
            organisation: self.facts.standing(caller.client(), organisation),
            hand: Fact::Unknown(Why::NotAsked),
            proposal: Fact::Unknown(Why::NotAsked),
        }
    }

    /// With which keys this caller acts: its certificate, and the key that its assertions are signed with.
    pub(super) fn hand(&self, caller: &Caller) -> Fact<Hand> {
        let register = match self.facts.register() {
            Fact::Known(register) => register,
            Fact::Unknown(why) => return Fact::Unknown(why),
        };
        let key = register
            .client(caller.client())
            .and_then(|client| client.sign_key());
        let Some(key) = key else {
            return Fact::Unknown(Why::NeverTold);
        };
        // Why these members alone: the same key under another name is the same key (RFC 7638).
        let member = |name: &str| key.get(name).cloned().unwrap_or(Value::Null);
        let own = json!([member("crv"), member("kty"), member("x"), member("y")]);
        Fact::Known(Hand {
            client: caller.client().as_str().to_owned(),
            certificate: hex(caller.certificate()),
            signing: hex(&Sha256::digest(own.to_string())),
        })
    }
}

pub(super) fn changing(practice: &Ods, change: &str, detail: Value) -> ChangeFacts {
    ChangeFacts {
        practice: practice.clone(),
        patient: None,
        change: change.to_owned(),
        detail,
    }
}

pub(super) fn stating(
    organisation: &Ods,
    patient: Option<NhsNumber>,
    statement: Stated,
    detail: Value,
) -> StateFacts {
    StateFacts {
        organisation: organisation.clone(),
        patient,
        statement,
        detail,
    }
}
