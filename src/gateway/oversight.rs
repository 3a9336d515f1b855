//! Who looks at what was done: the privacy officer's worklist, and the patient's own history. Each look is decided and
//! recorded before the vault opens anything, and what it opens is about one patient at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use policy::facts::{Relationship, Strength};
use policy::words::{NhsNumber, Ods};
use policy::{Ask, Caller, Decision, Fact, ReadLog, Review, Scope};
use serde_json::Value;

use super::telling::{self, Line};
use super::{Answer, Fault, Gateway};
use crate::alerts::{Item, Kind};
use crate::ledger::{Extra, Ledger, ReadError, Receipt, Recorded};
use crate::vault::Opener;

/// Lines of one page at most.
pub const LINES_MAX: usize = 200;
/// Entries that are looked at for one page at most: a second or so; the next page goes on from there.
const ENTRIES_MAX: u64 = 400_000;
/// Entries that are read at a stretch, newest stretch first: about a segment of the journal.
const STRETCH: u64 = 40_000;
/// Around an access, a relationship explains it if it began or ended no farther away.
const NEAR_MS: u64 = 7 * 86_400_000;
/// Notices of one answer at most.
const NOTICES_MAX: usize = 20;

/// An entry as it was opened.
pub(super) struct Opened {
    pub(super) index: u64,
    pub(super) ts_ms: u64,
    pub(super) leaf: Value,
    pub(super) body: Vec<u8>,
    pub(super) plain: Value,
}

/// A page of one patient's history, newest first.
pub struct History {
    /// What happened.
    pub lines: Vec<Line>,
    /// Before which entry the next page begins; `None`: there is no older one.
    pub next: Option<u64>,
}

/// An item of the worklist, and why it is one.
pub struct Listed {
    /// The item.
    pub item: Item,
    /// Why somebody looks at it.
    pub marks: Vec<String>,
}

/// An item of the worklist in full.
pub struct Looked {
    /// The item.
    pub listed: Listed,
    /// What happened, with names and roles as they were; `None` where no access is behind it.
    pub line: Option<Line>,
    /// A relationship that explains the access, as it is known now.
    pub explanation: Explanation,
}

/// What became of the wish to close an item.
pub enum Closing {
    /// It is closed and recorded.
    Done(Receipt),
    /// It was refused and recorded.
    Refused(Receipt),
    /// There is no such item.
    NoItem,
    /// It was closed before.
    ClosedAlready,
}

/// Whether something explains an access.
pub enum Explanation {
    /// Somebody else than the asker states a relationship near that time.
    Found(Relationship),
    /// Nobody does.
    Missing,
    /// It cannot be said now.
    Unknown,
    /// There is nothing to explain.
    None,
}

/// What a patient is to be told.
pub struct PatientNotice {
    /// The patient.
    pub patient: String,
    /// What happened.
    pub line: Line,
}

impl Gateway {
    /// One patient's history: to the patient through the portal, to an auditor or privacy officer; recorded first.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn history(
        &self,
        caller: Caller,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Answer<History>, Fault> {
        let patient = match caller.token().map(|token| &token.scope) {
            Some(Scope::History(history)) => Some(history.patient.clone()),
            _ => None,
        };
        let is_portal = caller.role() == policy::ClientRole::Patient;
        let recorded = match self
            .look(caller, "history".to_owned(), patient.as_ref())
            .await?
        {
            Ok(recorded) => recorded,
            Err(receipt) => return Ok(Answer::Refused(receipt)),
        };
        let (opener, receipt) = self.vault.disclose(recorded).await?;
        let Some(opener) = opener else {
            let (lines, next) = (Vec::new(), None);
            return Ok(Answer::Done(History { lines, next }, receipt));
        };
        let ledger = self.ledger.clone();
        let before = before.unwrap_or(u64::MAX);
        let page = tokio::task::spawn_blocking(move || page(&ledger, &opener, before, limit)).await;
        let (found, next) = page.map_err(|_| Fault::Bug("reading the log ended early"))??;
        let lines = self.lines(found, is_portal).await?;
        Ok(Answer::Done(History { lines, next }, receipt))
    }

    /// The items of the worklist after that entry.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn worklist(
        &self,
        caller: Caller,
        (after, all): (Option<u64>, bool),
        limit: usize,
    ) -> Result<Answer<Vec<Listed>>, Fault> {
        let recorded = match self.look(caller, "worklist".to_owned(), None).await? {
            Ok(recorded) => recorded,
            Err(receipt) => return Ok(Answer::Refused(receipt)),
        };
        let items = self.post.board().items(after, all, limit);
        let listed = items.into_iter().map(|item| self.listed(item)).collect();
        Ok(Answer::Done(listed, recorded.receipt().clone()))
    }

    fn listed(&self, item: Item) -> Listed {
        let pointer = item.heading.pointer.as_deref();
        let pointed = pointer.and_then(|pointer| self.vault.pointed(pointer));
        let marks = pointed.map_or_else(Vec::new, |pointed| pointed.marks().to_vec());
        Listed { item, marks }
    }

    /// One item of the worklist in full; `None` if there is no such item.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn item(&self, caller: Caller, entry: u64) -> Result<Answer<Option<Looked>>, Fault> {
        let what = format!("worklist/{entry}");
        let recorded = match self.look(caller, what, None).await? {
            Ok(recorded) => recorded,
            Err(receipt) => return Ok(Answer::Refused(receipt)),
        };
        let Some(item) = self.post.board().item(entry) else {
            return Ok(Answer::Done(None, recorded.receipt().clone()));
        };
        let (mut opened, receipt) = self.opened(recorded, std::slice::from_ref(&item)).await?;
        let listed = self.listed(item);
        let Some(opened) = opened.pop() else {
            let looked = Looked {
                listed,
                line: None,
                explanation: Explanation::None,
            };
            return Ok(Answer::Done(Some(looked), receipt));
        };
        let explanation = self.explanation(&opened).await?;
        let line = self.lines(vec![opened], false).await?.pop();
        let looked = Looked {
            listed,
            line,
            explanation,
        };
        Ok(Answer::Done(Some(looked), receipt))
    }

    /// Closes an item: what the officer found is an entry, sealed like the access it is about.
    ///
    /// # Errors
    /// A fault of ours; then it is still open.
    pub async fn close_item(&self, caller: Caller, review: Review) -> Result<Closing, Fault> {
        let entry = review.item;
        let facts = self.of_client(&caller, self.clock.now_ms());
        match policy::decide(&self.rules, Ask::new(caller, review), &facts) {
            Decision::Refuse(refusal) => Ok(Closing::Refused(
                self.refuse(refusal, None, Extra::default()).await?,
            )),
            // Why the grant may die here: what closes nothing is not done, and must not look as if it were.
            Decision::Permit(grant) => {
                let Some(item) = self.post.board().item(entry) else {
                    return Ok(Closing::NoItem);
                };
                if item.closed_by.is_some() {
                    return Ok(Closing::ClosedAlready);
                }
                let pointer = item.heading.pointer;
                let pointed = pointer.and_then(|pointer| self.vault.pointed(&pointer));
                let sealer = self.vault.sealer_at(pointed).await?;
                let members = vec![("item", entry.into())];
                let recorded = self
                    .ledger
                    .record(grant, Extra { members }, &sealer)
                    .await?;
                Ok(Closing::Done(recorded.receipt().clone()))
            }
        }
    }

    /// What patients are to be told, of entries after this one: for the portal, which tells them.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn patient_notices(
        &self,
        caller: Caller,
        after: Option<u64>,
    ) -> Result<Answer<(Vec<PatientNotice>, Option<u64>)>, Fault> {
        let recorded = match self.look(caller, "notices".to_owned(), None).await? {
            Ok(recorded) => recorded,
            Err(receipt) => return Ok(Answer::Refused(receipt)),
        };
        let told = |item: &Item| item.heading.code == Kind::BreakGlass.code();
        let items = self.post.board().items_where(after, NOTICES_MAX, told);
        let last = items.last().and_then(|item| item.heading.entry);
        let (opened, receipt) = self.opened(recorded, &items).await?;
        let patients: Vec<String> = opened
            .iter()
            .map(|it| telling::patient(&it.plain))
            .collect();
        let lines = self.lines(opened, true).await?;
        let notices = patients.into_iter().zip(lines);
        let notices = notices.map(|(patient, line)| PatientNotice { patient, line });
        Ok(Answer::Done((notices.collect(), last), receipt))
    }

    /// Decides about a look at the log and records the verdict; the receipt alone where it is refused.
    pub(super) async fn look(
        &self,
        caller: Caller,
        what: String,
        patient: Option<&NhsNumber>,
    ) -> Result<Result<Recorded<policy::Grant<ReadLog>>, Receipt>, Fault> {
        let facts = self.of_client(&caller, self.clock.now_ms());
        match policy::decide(&self.rules, Ask::new(caller, ReadLog { what }), &facts) {
            Decision::Refuse(refusal) => {
                Ok(Err(self.refuse(refusal, patient, Extra::default()).await?))
            }
            Decision::Permit(grant) => {
                Ok(Ok(self.record(grant, patient, Extra::default()).await?))
            }
        }
    }

    /// Opens what these items are about.
    async fn opened(
        &self,
        recorded: Recorded<policy::Grant<ReadLog>>,
        items: &[Item],
    ) -> Result<(Vec<Opened>, Receipt), Fault> {
        let pointers = items.iter().map(|item| item.heading.pointer.as_deref());
        let pointed = pointers.map(|it| it.and_then(|pointer| self.vault.pointed(pointer)));
        let (openers, receipt) = self
            .vault
            .disclose_items(recorded, pointed.collect())
            .await?;
        let entries = items.iter().map(|item| item.heading.entry);
        let wanted: BTreeMap<u64, Opener> = entries
            .zip(openers)
            .filter_map(|(entry, opener)| Some((entry?, opener)))
            .collect();
        let ledger = self.ledger.clone();
        let found = tokio::task::spawn_blocking(move || these(&ledger, &wanted)).await;
        let found = found.map_err(|_| Fault::Bug("reading the log ended early"))??;
        Ok((found, receipt))
    }

    /// Puts entries into words, each with its proof.
    async fn lines(&self, found: Vec<Opened>, for_patient: bool) -> Result<Vec<Line>, Fault> {
        let newest = found.iter().map(|opened| opened.index).max();
        if newest.is_some_and(|newest| newest >= self.ledger.health().published) {
            self.ledger.publish_now().await;
        }
        let names = match self.facts.register() {
            Fact::Known(register) => Some(register),
            Fact::Unknown(_) => None,
        };
        let name_of = |code: &str| {
            let code = Ods::try_from(code).ok()?;
            Some(names.as_ref()?.organisation(&code)?.name.clone())
        };
        let mut lines = Vec::with_capacity(found.len());
        for opened in found {
            let receipt = self.ledger.evidence(opened.index)?;
            // Why not then: what an officer found is for whoever follows it up.
            let is_review = opened.leaf.get("ev").is_some_and(|ev| ev == "review.close");
            let receipt = match for_patient && is_review {
                true => receipt,
                false => receipt.and_then(|receipt| receipt.with_body(&opened.body)),
            };
            lines.push(telling::line(&opened, &name_of, receipt, for_patient));
        }
        Ok(lines)
    }

    async fn explanation(&self, opened: &Opened) -> Result<Explanation, Fault> {
        let patient = NhsNumber::try_from(telling::patient(&opened.plain).as_str());
        let organisation = Ods::try_from(telling::organisation(&opened.plain));
        let (Ok(patient), Ok(organisation)) = (patient, organisation) else {
            return Ok(Explanation::None);
        };
        let related = self.facts.relationships(&patient, &organisation).await?;
        let Fact::Known(related) = related else {
            return Ok(Explanation::Unknown);
        };
        let explains = |it: &Relationship| {
            it.strength == Strength::Corroborated
                && it.from_ms <= opened.ts_ms.saturating_add(NEAR_MS)
                && opened.ts_ms < it.until_ms.saturating_add(NEAR_MS)
        };
        let found = related.into_iter().find(explains);
        Ok(found.map_or(Explanation::Missing, Explanation::Found))
    }
}

/// One patient's entries before that one, newest first, and where to go on.
fn page(
    ledger: &Ledger,
    opener: &Opener,
    before: u64,
    limit: usize,
) -> Result<(Vec<Opened>, Option<u64>), ReadError> {
    let mut end = before.min(ledger.health().size);
    let floor = end.saturating_sub(ENTRIES_MAX);
    let mut found: Vec<Opened> = Vec::new();
    while end > floor && found.len() < limit {
        let start = end.saturating_sub(STRETCH).max(floor);
        let mut stretch = Vec::new();
        ledger.scan(start, &mut |leaf, body| {
            if leaf.index() >= end {
                return ControlFlow::Break(());
            }
            if let Some((nonce, tag)) = leaf.nonce_and_tag()
                && opener.is_about(&nonce, &tag)
            {
                stretch.extend(opened(leaf, body, opener));
            }
            ControlFlow::Continue(())
        })?;
        stretch.reverse();
        found.append(&mut stretch);
        end = start;
    }
    if found.len() > limit {
        found.truncate(limit);
        end = found.last().map_or(end, |last| last.index);
    }
    Ok((found, (end > 0).then_some(end)))
}

/// Exactly these entries, each opened with its own key.
fn these(ledger: &Ledger, wanted: &BTreeMap<u64, Opener>) -> Result<Vec<Opened>, ReadError> {
    let mut found = Vec::new();
    for (entry, opener) in wanted {
        ledger.scan(*entry, &mut |leaf, body| {
            found.extend(opened(leaf, body, opener));
            ControlFlow::Break(())
        })?;
    }
    Ok(found)
}

fn opened(leaf: &crate::ledger::Leaf<'_>, body: &[u8], opener: &Opener) -> Option<Opened> {
    let (nonce, _) = leaf.nonce_and_tag()?;
    let body = opener.open(&nonce, body)?;
    Some(Opened {
        index: leaf.index(),
        ts_ms: leaf.ts_ms()?,
        leaf: Value::Object(leaf.members()?),
        plain: serde_json::from_slice(&body).ok()?,
        body,
    })
}
