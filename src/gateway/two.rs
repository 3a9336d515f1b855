//! What takes two people: one administrator proposes an act with its content, another person approves exactly that
//! digest in time, and then it happens. What is done with an approval takes a `Recorded<Grant<Approve>>`, which
//! only this line makes; a proposal is one of the operator's facts, so it survives a restart and the ledger holds it.

use policy::words::{ClientId, ClientRole, Ods};
use policy::{
    AdminAct, ApprovalFacts, Approve, Ask, Caller, Decision, Fact, Grant, PersonId, ProposalFacts,
    Propose, Why,
};
use serde_json::{Value, json};

use super::{Answer, Fault, Gateway, Wish, destruction, disclosure};
use crate::alerts::Kind;
use crate::facts::{
    Change, Deed, OPERATOR, PROPOSAL_LIFE_MS, PROPOSALS_MAX, Proposal, Register, Statement, Unfit,
    practice_of, unfit,
};
use crate::ledger::Recorded;

impl Gateway {
    /// Records that an administrator proposes an act that takes two. It waits for another person's approval.
    ///
    /// # Errors
    /// [`Fault::Unfit`] where the gateway, as it stands, could not do it; or a fault of ours.
    pub(super) async fn propose(
        &self,
        caller: Caller,
        wish: Wish,
    ) -> Result<Answer<Proposal>, Fault> {
        let now_ms = self.clock.now_ms();
        let turn = self.facts.turn().await;
        let person = self.person(&caller);
        let facts = ProposalFacts {
            administrator: self.of_client(&caller, now_ms),
            person: person.clone(),
        };
        let proposal = Proposal {
            act: wish.act,
            object: wish.object,
            payload: wish.payload,
            why: wish.why,
            client: caller.client().as_str().to_owned(),
            person: person
                .known()
                .map_or_else(|_| String::new(), |person| person.as_str().to_owned()),
            made_ms: now_ms,
            expires_ms: now_ms + PROPOSAL_LIFE_MS,
        };
        let ask = Propose {
            act: proposal.act.clone(),
            object: proposal.object.clone(),
            why: proposal.why.clone(),
            digest: proposal.digest(),
        };
        match policy::decide(&self.rules, Ask::new(caller, ask), &facts) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let register = self.directory()?;
                let checked = self.can_do(&register, &proposal, now_ms);
                self.or_noted(grant.caller(), &proposal.act, checked)
                    .await?;
                let mut changes = forgotten(&register, now_ms);
                changes.push(Change::Put(Statement::Proposal(proposal.clone())));
                let prepared = self.facts.prepare(turn, OPERATOR, changes).await?;
                self.facts.pend(&prepared).await?;
                let recorded = self
                    .record(grant, None, self.anchor(Some(&prepared)))
                    .await?;
                let (_grant, receipt) = recorded.into_parts();
                self.facts.apply(prepared, Vec::new()).await?;
                // Why the digest: a notice names nobody, and what waits may concern a patient.
                let short: String = proposal.name().chars().take(12).collect();
                self.tell(Kind::ProposalOpened.notice(&short)).await?;
                Ok(Answer::Done(proposal, receipt))
            }
        }
    }

    /// Approves the proposal with this digest, which is then done: what it did is the answer.
    ///
    /// # Errors
    /// [`Fault::Unfit`] where it no longer fits the gateway; or a fault of ours.
    pub async fn approve(
        &self,
        caller: Caller,
        name: &str,
        why: String,
    ) -> Result<Answer<Value>, Fault> {
        let now_ms = self.clock.now_ms();
        // INVARIANT: until the proposal is gone nobody else's approval of it is looked at.
        let turn = self.facts.turn().await;
        let register = self.facts.register();
        let (proposal, proposed) = match &register {
            Fact::Known(register) => (register.proposal(name).cloned(), register.proposed(name)),
            Fact::Unknown(why) => (None, Fact::Unknown(*why)),
        };
        let facts = ApprovalFacts {
            administrator: self.of_client(&caller, now_ms),
            person: self.person(&caller),
            proposal: proposed,
        };
        let ask = approval_of(proposal.as_ref(), why);
        match policy::decide(&self.rules, Ask::new(caller, ask), &facts) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let proposal = proposal.ok_or(Fault::Bug("an approval of nothing"))?;
                let register = self.directory()?;
                let changes = self.changes(&register, &grant, &proposal, now_ms);
                let mut changes = self
                    .or_noted(grant.caller(), &proposal.act, changes)
                    .await?;
                changes.push(Change::Remove(Statement::Proposal(proposal.clone())));
                let prepared = self.facts.prepare(turn, OPERATOR, changes).await?;
                self.facts.pend(&prepared).await?;
                let approved = self
                    .record(grant, None, self.anchor(Some(&prepared)))
                    .await?;
                self.facts.apply(prepared, Vec::new()).await?;
                let receipt = approved.receipt().clone();
                let done = self.carry_out(approved, &proposal).await?;
                Ok(Answer::Done(done, receipt))
            }
        }
    }

    /// Takes a proposal back; any administrator may.
    ///
    /// # Errors
    /// [`Fault::Unfit`] where none has this digest; or a fault of ours.
    pub async fn withdraw_proposal(
        &self,
        caller: Caller,
        name: &str,
        why: String,
    ) -> Result<Answer<()>, Fault> {
        let facts = self.of_client(&caller, self.clock.now_ms());
        let (act, object) = ("proposal.withdraw".to_owned(), name.to_owned());
        let turn = self.facts.turn().await;
        let act = AdminAct { act, object, why };
        match policy::decide(&self.rules, Ask::new(caller, act), &facts) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let register = self.directory()?;
                let proposal = register.proposal(name).cloned();
                let proposal = proposal.ok_or_else(|| unfit("proposal", "none has this digest"));
                let proposal = self
                    .or_noted(grant.caller(), "proposal.withdraw", proposal)
                    .await?;
                let change = vec![Change::Remove(Statement::Proposal(proposal))];
                let prepared = self.facts.prepare(turn, OPERATOR, change).await?;
                self.facts.pend(&prepared).await?;
                let recorded = self
                    .record(grant, None, self.anchor(Some(&prepared)))
                    .await?;
                let (_grant, receipt) = recorded.into_parts();
                self.facts.apply(prepared, Vec::new()).await?;
                Ok(Answer::Done((), receipt))
            }
        }
    }

    /// The proposals that wait: read by an administrator, recorded.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn proposals(&self, caller: Caller) -> Result<Answer<Vec<Proposal>>, Fault> {
        let now_ms = self.clock.now_ms();
        match self.look_at(caller, "proposals").await? {
            Answer::Refused(receipt) => Ok(Answer::Refused(receipt)),
            Answer::Done((), receipt) => {
                let register = self.directory()?;
                let waiting = register.proposals(now_ms).cloned().collect();
                Ok(Answer::Done(waiting, receipt))
            }
        }
    }

    /// Whether the gateway could do this if it were approved now: said to the first of the two, not to the second.
    fn can_do(&self, register: &Register, proposal: &Proposal, now_ms: u64) -> Result<(), Unfit> {
        if register.proposals(now_ms).count() >= PROPOSALS_MAX {
            return Err(unfit("act", "100 proposals wait already; withdraw some"));
        }
        match proposal.act.as_str() {
            "recipient.register" => {
                let (client, payload) = (&proposal.object, &proposal.payload);
                self.freshly_proven(register, client, payload, now_ms)?;
                register.fits(proposal, now_ms)
            }
            act if Register::knows(act) => register.fits(proposal, now_ms),
            act if destruction::knows(act) => self.could_destroy(proposal),
            "backup.restore" if self.is_held() => Ok(()),
            "backup.restore" => Err(unfit("act", "this gateway serves; nothing was put back")),
            disclosure::DISCLOSE => disclosure::fits(register, proposal),
            _ => Err(unfit("act", "is not offered by this gateway")),
        }
    }

    /// What an approval changes in the directory; nothing for an act that is done elsewhere.
    fn changes(
        &self,
        register: &Register,
        grant: &Grant<Approve>,
        proposal: &Proposal,
        now_ms: u64,
    ) -> Result<Vec<Change>, Unfit> {
        if destruction::knows(&proposal.act) {
            return self.could_destroy(proposal).map(|()| Vec::new());
        }
        if !Register::knows(&proposal.act) {
            return Ok(Vec::new());
        }
        if proposal.act == "recipient.register" {
            self.proven(register, &proposal.object, &proposal.payload)?;
        }
        let deed = Deed::approved(grant, proposal, now_ms);
        let deed = deed.ok_or_else(|| unfit("proposal", "is not the one that was approved"))?;
        register.changes(&deed)
    }

    /// Does what was approved, where more than the directory is concerned, and says what came of it.
    async fn carry_out(
        &self,
        approved: Recorded<Grant<Approve>>,
        proposal: &Proposal,
    ) -> Result<Value, Fault> {
        match proposal.act.as_str() {
            "recipient.register" => {
                self.tell(Kind::RecipientRegistered.notice(&proposal.object))
                    .await?;
                Ok(json!({}))
            }
            "providers.publish" => {
                self.tell(Kind::ProvidersChanged.notice(&proposal.object))
                    .await?;
                Ok(json!({}))
            }
            "approval.register" => {
                let practice = practice_of(&proposal.object);
                let practice = practice.ok_or(Fault::Bug("an approval of no practice"))?;
                let event = Kind::ApprovalGiven.notice(practice.as_str());
                self.tell(event.with("about", proposal.object.as_str()))
                    .await?;
                Ok(json!({}))
            }
            "client.register" => {
                let system = Kind::DirectoryChanged.notice(&proposal.object);
                self.tell(system).await?;
                for practice in self.practices_of(&proposal.object)? {
                    let event = Kind::PracticeSystem.notice(practice.as_str());
                    self.tell(event.with("about", proposal.object.as_str()))
                        .await?;
                }
                Ok(json!({}))
            }
            act if Register::knows(act) => {
                self.tell(Kind::DirectoryChanged.notice(&proposal.object))
                    .await?;
                Ok(json!({}))
            }
            act if destruction::knows(act) => self.destroy(approved, proposal).await,
            "backup.restore" => self.acknowledge(approved).await,
            disclosure::DISCLOSE => self.disclose(approved, proposal).await,
            _ => Err(Fault::Bug("an approval of what nobody does")),
        }
    }

    /// The practices that this client would act for: each of them is told.
    fn practices_of(&self, client: &str) -> Result<Vec<Ods>, Fault> {
        let register = self.directory()?;
        let client = ClientId::try_from(client).ok();
        let client = client.and_then(|client| register.client(&client).cloned());
        let of_practice = client.filter(|it| it.role == ClientRole::Practice);
        Ok(of_practice.map_or_else(Vec::new, |it| it.organisations.clone()))
    }

    /// Who this client is, as a human being.
    fn person(&self, caller: &Caller) -> Fact<PersonId> {
        match self.facts.register() {
            Fact::Unknown(why) => Fact::Unknown(why),
            Fact::Known(register) => match register.client(caller.client()) {
                Some(client) => client.person(),
                None => Fact::Unknown(Why::NeverTold),
            },
        }
    }
}

/// The question that an approval is: of what stands, or of nothing at all.
fn approval_of(proposal: Option<&Proposal>, why: String) -> Approve {
    let text =
        |text: fn(&Proposal) -> &String| proposal.map_or_else(String::new, |it| text(it).clone());
    Approve {
        act: text(|it| &it.act),
        object: text(|it| &it.object),
        why,
        digest: proposal.map_or([0; 32], Proposal::digest),
    }
}

/// Proposals whose time is over go with the next one that is made.
fn forgotten(register: &Register, now_ms: u64) -> Vec<Change> {
    let expired = register.expired(now_ms).cloned();
    expired
        .map(|it| Change::Remove(Statement::Proposal(it)))
        .collect()
}
