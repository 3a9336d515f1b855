//! Objections that come by the number: passed on in the name of a practice or an opt-out list, compared by count and
//! digest with what the source says it sent, and told to people as soon as the two differ. What the ledger holds is
//! applied whatever becomes of the answer.

use policy::words::Ods;
use policy::{Act, Ask, Caller, ChangeFacts, Decision, Fact, Grant, PassOn};

use super::{Answer, Fault, Gateway};
use crate::alerts::Kind;
use crate::facts::{
    Change, FeedBatch, FeedStanding, FeedTerms, Missing, Reckoning, Statement, Turn,
};
use crate::ledger::{Extra, Receipt};

/// How a feed stands, for its owner's system.
pub struct FeedReport {
    /// Against its owner's limits.
    pub standing: FeedStanding,
    /// The numbers that are missing, from and to.
    pub missing: Missing,
    /// Whether there are more than these.
    pub more: bool,
}

/// Stretches of missing numbers in one answer at most.
const STRETCHES_MAX: usize = 5_000;

impl Gateway {
    /// Takes in a batch of a feed, and says what is missing of it.
    ///
    /// # Errors
    /// A fault of ours; if the ledger holds the change, it is finished at the next start.
    pub async fn pass_on(
        &self,
        caller: Caller,
        ask: PassOn,
        batch: FeedBatch,
    ) -> Result<Answer<(Reckoning, FeedReport)>, Fault> {
        let owner = ask.practice.clone();
        let facts = self
            .of_practice(&caller, &owner, self.clock.now_ms())
            .await?;
        match policy::decide(&self.rules, Ask::new(caller, ask), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, None, Extra::default()).await?,
            )),
            Decision::Permit(grant) => {
                let (reckoning, receipt) = self.taken(grant, &owner, None, &batch).await?;
                let report = self.report(&owner, 0).await?;
                Ok(Answer::Done((reckoning, report), receipt))
            }
        }
    }

    /// One patient's objection that came with its number in the practice's feed.
    ///
    /// # Errors
    /// A fault of ours; if the ledger holds the change, it is finished at the next start.
    pub async fn object_by_number(
        &self,
        caller: Caller,
        ask: ChangeFacts,
        batch: FeedBatch,
    ) -> Result<Answer<()>, Fault> {
        let (owner, patient) = (ask.practice.clone(), ask.patient.clone());
        let mut facts = self
            .of_practice(&caller, &owner, self.clock.now_ms())
            .await?;
        if let Some(patient) = &patient {
            facts.registration = self.cares(&owner, patient).await?;
        }
        match policy::decide(&self.rules, Ask::new(caller, ask), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, patient.as_ref(), Extra::default())
                    .await?,
            )),
            Decision::Permit(grant) => {
                let (_, receipt) = self.taken(grant, &owner, patient.as_ref(), &batch).await?;
                Ok(Answer::Done((), receipt))
            }
        }
    }

    async fn taken<A: Act>(
        &self,
        grant: Grant<A>,
        owner: &Ods,
        patient: Option<&policy::NhsNumber>,
        batch: &FeedBatch,
    ) -> Result<(Reckoning, Receipt), Fault>
    where
        Grant<A>: policy::Verdict,
    {
        let turn: Turn = self.facts.turn().await;
        let now_ms = self.clock.now_ms();
        let mut reckoning = self.facts.take_in(owner, batch, now_ms).await?;
        let changes: Vec<Change> = std::mem::take(&mut reckoning.changes);
        let prepared = self.facts.prepare(turn, owner.as_str(), changes).await?;
        self.facts.pend(&prepared).await?;
        let recorded = self
            .record(grant, patient, self.anchor(Some(&prepared)))
            .await?;
        let (_grant, receipt) = recorded.into_parts();
        self.facts.apply(prepared, Vec::new()).await?;
        let standing = self.facts.feed(owner.as_str(), now_ms);
        self.tell_of_feed(owner.as_str(), &standing).await?;
        Ok((reckoning, receipt))
    }

    /// How a feed stands, and which numbers after `after` are missing: for its owner's system, recorded like any act
    /// in its name.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn feed_report(
        &self,
        caller: Caller,
        ask: PassOn,
        after: u64,
    ) -> Result<Answer<FeedReport>, Fault> {
        let owner = ask.practice.clone();
        let facts = self
            .of_practice(&caller, &owner, self.clock.now_ms())
            .await?;
        match policy::decide(&self.rules, Ask::new(caller, ask), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, None, Extra::default()).await?,
            )),
            Decision::Permit(grant) => {
                let recorded = self.record(grant, None, Extra::default()).await?;
                let (_grant, receipt) = recorded.into_parts();
                Ok(Answer::Done(self.report(&owner, after).await?, receipt))
            }
        }
    }

    async fn report(&self, owner: &Ods, after: u64) -> Result<FeedReport, Fault> {
        let (missing, more) = self.facts.missing(owner, after, STRETCHES_MAX).await?;
        Ok(FeedReport {
            standing: self.facts.feed(owner.as_str(), self.clock.now_ms()),
            missing,
            more,
        })
    }

    /// Changes what a practice settled for itself.
    ///
    /// # Errors
    /// A fault of ours; if the ledger holds the change, it is finished at the next start.
    pub async fn settle(
        &self,
        caller: Caller,
        ask: PassOn,
        settings: FeedTerms,
    ) -> Result<Answer<()>, Fault> {
        let owner = ask.practice.clone();
        let facts = self
            .of_practice(&caller, &owner, self.clock.now_ms())
            .await?;
        match policy::decide(&self.rules, Ask::new(caller, ask), &facts) {
            Decision::Refuse(refusal) => Ok(Answer::Refused(
                self.refuse(refusal, None, Extra::default()).await?,
            )),
            Decision::Permit(grant) => {
                let turn = self.facts.turn().await;
                let change = vec![Change::Put(Statement::FeedTerms(settings))];
                let prepared = self.facts.prepare(turn, owner.as_str(), change).await?;
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

    /// How every feed stands: that of each practice and opt-out list.
    #[must_use]
    pub fn feeds(&self) -> Vec<(String, FeedStanding)> {
        let now_ms = self.clock.now_ms();
        let mut feeds = self.facts.feeds(now_ms);
        if let Fact::Known(register) = self.facts.register() {
            for owner in register.keepers_of_objections() {
                if feeds.iter().all(|(known, _)| *known != owner) {
                    let standing = self.facts.feed(&owner, now_ms);
                    feeds.push((owner, standing));
                }
            }
        }
        feeds.sort_by(|one, other| one.0.cmp(&other.0));
        feeds
    }

    /// Raises and clears what has to be told of a feed.
    pub(super) async fn tell_of_feed(
        &self,
        owner: &str,
        standing: &FeedStanding,
    ) -> Result<(), Fault> {
        let code = standing.code();
        let is = |wanted: &str| code == wanted;
        self.is(Kind::FeedGap, owner, is("gap")).await?;
        let differs = is("mismatch") || is("replay");
        self.is(Kind::FeedMismatch, owner, differs).await?;
        self.is(Kind::FeedSilent, owner, standing.is_silent())
            .await?;
        self.is(Kind::FeedStopsCare, owner, standing.stops_care())
            .await
    }
}
