//! Changes of the directory while the gateway serves: asked, decided, recorded with the facts as they will be, then
//! applied. They act at the next request, on open connections too: who is asking is looked up for each request.

use std::sync::Arc;

use policy::{Act, AdminAct, Ask, Caller, Decision, Fact, Refusal, TOKEN_LIFE_MS};
use serde_json::{Value, json};

use super::{Answer, Fault, Gateway};
use crate::alerts::Kind;
use crate::facts::training::{self, Dates, LineFault};
use crate::facts::{
    Change, Deed, OPERATOR, Proposal, Register, Statement, Unfit, practice_of, unfit,
};
use crate::ledger::{Event, Extra};

/// What an administrator wants done.
pub struct Wish {
    /// Which act, of `AdminAct::ACTS`.
    pub act: String,
    /// To what.
    pub object: String,
    /// Why, in the administrator's words.
    pub why: String,
    /// What the act needs to know beside; null where it needs nothing.
    pub payload: Value,
}

impl Wish {
    /// Whether the ledger wants to know why: for what takes two, and for what stops somebody.
    #[must_use]
    pub fn wants_reason(&self) -> bool {
        let (_, verb) = self.act.split_once('.').unwrap_or_default();
        AdminAct::takes_two(&self.act)
            || matches!(
                verb,
                "suspend" | "retire" | "revoke" | "strike" | "withdraw"
            )
    }
}

/// A file of training, as a learning system exported it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingFile {
    /// The file.
    pub csv: String,
    /// How it writes dates.
    #[serde(default)]
    pub dates: Dates,
    /// Whether it is only looked at.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, in the administrator's words.
    #[serde(default)]
    pub why: String,
}

/// What came of a wish.
pub enum Outcome {
    /// It is done.
    Done(Value),
    /// It takes two people, and now waits for the second.
    Proposed(Proposal),
}

impl Gateway {
    /// Does what one administrator may do alone, and proposes what takes two.
    ///
    /// # Errors
    /// [`Fault::Unfit`] where it does not fit the directory; or a fault of ours.
    pub async fn administer(&self, caller: Caller, wish: Wish) -> Result<Answer<Outcome>, Fault> {
        if AdminAct::takes_two(&wish.act) {
            return Ok(match self.propose(caller, wish).await? {
                Answer::Refused(receipt) => Answer::Refused(receipt),
                Answer::Done(proposal, receipt) => {
                    Answer::Done(Outcome::Proposed(proposal), receipt)
                }
            });
        }
        let answer = match wish.act.as_str() {
            "recipient.challenge" => self.challenge(caller, wish).await?,
            "token.revoke" => self.revoke_token(caller, wish).await?,
            "providers.countersign" => self.answer_practice(caller, wish).await?,
            _ => self.administer_alone(caller, wish).await?,
        };
        Ok(match answer {
            Answer::Refused(receipt) => Answer::Refused(receipt),
            Answer::Done(value, receipt) => Answer::Done(Outcome::Done(value), receipt),
        })
    }

    async fn administer_alone(&self, caller: Caller, wish: Wish) -> Result<Answer<Value>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_client(&caller, now_ms);
        let act = AdminAct {
            act: wish.act,
            object: wish.object,
            why: wish.why,
        };
        // Why before the decision: what is read of the directory must still hold when it is changed.
        let turn = self.facts.turn().await;
        match policy::decide(&self.rules, Ask::new(caller, act), &facts) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let register = self.directory()?;
                let act = grant.act().act.clone();
                let changes = match act.as_str() {
                    act if Register::knows(act) => {
                        register.changes(&Deed::alone(&grant, &wish.payload, now_ms))
                    }
                    _ => Err(unfit("act", "is not offered by this gateway")),
                };
                let changes = self.or_noted(grant.caller(), &act, changes).await?;
                self.provide(&act, &grant.act().object, &wish.payload, now_ms)?;
                let prepared = self.facts.prepare(turn, OPERATOR, changes).await?;
                self.facts.pend(&prepared).await?;
                let recorded = self
                    .record(grant, None, self.anchor(Some(&prepared)))
                    .await?;
                let (grant, receipt) = recorded.into_parts();
                self.facts.apply(prepared, Vec::new()).await?;
                let object = &grant.act().object;
                match (act.as_str(), practice_of(object)) {
                    ("providers.strike", _) => {
                        self.tell(Kind::ProvidersChanged.notice(object)).await?;
                    }
                    ("approval.withdraw", Some(practice)) => {
                        let event = Kind::ApprovalEnded.notice(practice.as_str());
                        self.tell(event.with("about", object.as_str())).await?;
                    }
                    _ => {}
                }
                Ok(Answer::Done(json!({}), receipt))
            }
        }
    }

    /// Kills an access token by its `jti`, whoever holds it; the entry says so again after a restart.
    async fn revoke_token(&self, caller: Caller, wish: Wish) -> Result<Answer<Value>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_client(&caller, now_ms);
        let jti = wish.object.clone();
        let act = AdminAct {
            act: wish.act,
            object: wish.object,
            why: wish.why,
        };
        match policy::decide(&self.rules, Ask::new(caller, act), &facts) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let members = vec![("rv", jti.as_str().into())];
                let recorded = self.record(grant, None, Extra { members }).await?;
                let (_grant, receipt) = recorded.into_parts();
                // Why so late: its expiry is not known here, and no token lives longer than a whole life from now.
                self.tokens.revoke(&jti, now_ms + 2 * TOKEN_LIFE_MS, now_ms);
                Ok(Answer::Done(json!({}), receipt))
            }
        }
    }

    /// How the gateway stands, in counts and names of what is stopped: read by an administrator, recorded.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn status(&self, caller: Caller) -> Result<Answer<Value>, Fault> {
        let now_ms = self.clock.now_ms();
        Ok(match self.look_at(caller, "status").await? {
            Answer::Refused(receipt) => Answer::Refused(receipt),
            Answer::Done((), receipt) => {
                let mut status = self.directory()?.status(now_ms);
                if let Some(status) = status.as_object_mut() {
                    let entries = self.ledger.health().size;
                    status.insert("ledger_entries".to_owned(), entries.into());
                    status.insert("store_commit".to_owned(), self.store.seq().0.into());
                }
                Answer::Done(status, receipt)
            }
        })
    }

    /// Everyone in the directory: read by an administrator, recorded.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn everyone(&self, caller: Caller) -> Result<Answer<Value>, Fault> {
        Ok(match self.look_at(caller, "directory").await? {
            Answer::Refused(receipt) => Answer::Refused(receipt),
            Answer::Done((), receipt) => Answer::Done(self.directory()?.everyone(), receipt),
        })
    }

    /// Takes in a file of training, whole or not at all; of a dry run nothing but the answer comes.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn import_training(
        &self,
        caller: Caller,
        file: TrainingFile,
    ) -> Result<Answer<Result<Value, Vec<LineFault>>>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_client(&caller, now_ms);
        let act = AdminAct {
            act: "training.import".to_owned(),
            object: if file.dry_run { "dry-run" } else { "file" }.to_owned(),
            why: file.why,
        };
        let turn = self.facts.turn().await;
        match policy::decide(&self.rules, Ask::new(caller, act), &facts) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let register = self.directory()?;
                let read = training::read(file.csv.as_bytes(), file.dates, &register, now_ms);
                let rows = match read {
                    Ok(rows) if !file.dry_run => rows,
                    other => {
                        let recorded = self.record(grant, None, self.anchor(None)).await?;
                        let (_grant, receipt) = recorded.into_parts();
                        let said = other.map(|rows| json!({ "rows": rows.len(), "dry_run": true }));
                        return Ok(Answer::Done(said, receipt));
                    }
                };
                let count = rows.len();
                let put = |row| Change::Put(Statement::Training(row));
                let changes = rows.into_iter().map(put).collect();
                let prepared = self.facts.prepare(turn, OPERATOR, changes).await?;
                self.facts.pend(&prepared).await?;
                let recorded = self
                    .record(grant, None, self.anchor(Some(&prepared)))
                    .await?;
                let (_grant, receipt) = recorded.into_parts();
                self.facts.apply(prepared, Vec::new()).await?;
                Ok(Answer::Done(
                    Ok(json!({ "rows": count, "dry_run": false })),
                    receipt,
                ))
            }
        }
    }

    /// Everybody's training, requirement by requirement: read by an administrator, recorded.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn training(&self, caller: Caller) -> Result<Answer<Value>, Fault> {
        let now_ms = self.clock.now_ms();
        Ok(match self.look_at(caller, "training").await? {
            Answer::Refused(receipt) => Answer::Refused(receipt),
            Answer::Done((), receipt) => Answer::Done(self.directory()?.training(now_ms), receipt),
        })
    }

    /// A new practice gets its own KEK before it stands in the directory: without one nothing could be filed, and
    /// one that a crash leaves behind has nothing under it.
    fn provide(&self, act: &str, object: &str, payload: &Value, now_ms: u64) -> Result<(), Fault> {
        let role = payload.get("role").and_then(Value::as_str);
        if act == "organisation.register" && role == Some("practice") {
            self.vault.provide(object, now_ms)?;
        }
        Ok(())
    }

    /// The directory, for an administrator.
    pub(super) fn directory(&self) -> Result<Arc<Register>, Fault> {
        match self.facts.register() {
            Fact::Known(register) => Ok(register),
            Fact::Unknown(_) => Err(Fault::Bug("the directory became unknown")),
        }
    }

    /// Whether this caller may look at the gateway's own state; the looking is an entry.
    pub(super) async fn look_at(&self, caller: Caller, what: &str) -> Result<Answer<()>, Fault> {
        let facts = self.of_client(&caller, self.clock.now_ms());
        let (act, object) = ("status.read".to_owned(), what.to_owned());
        let why = String::new();
        let ask = Ask::new(caller, AdminAct { act, object, why });
        match policy::decide(&self.rules, ask, &facts) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let recorded = self.record(grant, None, Extra::default()).await?;
                let (_grant, receipt) = recorded.into_parts();
                Ok(Answer::Done((), receipt))
            }
        }
    }

    pub(super) async fn refused<A: Act, T>(&self, refusal: Refusal<A>) -> Result<Answer<T>, Fault> {
        let receipt = self.refuse(refusal, None, Extra::default()).await?;
        Ok(Answer::Refused(receipt))
    }

    /// What was permitted but does not fit is an entry too: an administrator who tries leaves a trace.
    pub(super) async fn or_noted<T>(
        &self,
        caller: &Caller,
        act: &str,
        checked: Result<T, Unfit>,
    ) -> Result<T, Fault> {
        if let Err(unfit) = &checked {
            let event = Event::new("admin.unfit")
                .with("client", caller.client().as_str())
                .with("act", act)
                .with("member", unfit.member);
            self.ledger.note(event).await?;
        }
        Ok(checked?)
    }
}
