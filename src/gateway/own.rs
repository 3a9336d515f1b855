//! What is done to the gateway itself: reading the log, revoking a token, sealing. Each act is decided and recorded
//! like any other, also when it is refused.

use policy::{AdminAct, Ask, Caller, Decision, ReadLog};

use super::{Answer, Fault, Gateway};
use crate::ledger::{Event, Extra, Receipt};
use crate::token::Assertion;

/// Whether somebody may, where nothing is done by it.
pub enum Asked {
    /// Yes.
    Permitted,
    /// It was refused and recorded.
    Refused(Receipt),
}

impl Gateway {
    /// Whether this caller may read entries of the log; the reading is itself an entry.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn read_log(&self, caller: Caller, what: &str) -> Result<Answer<()>, Fault> {
        match self.decide_read(caller, what) {
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

    /// Whether this caller is one who reads the log, where nothing of it is read: only a refusal is an entry.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn may_read_log(&self, caller: Caller, what: &str) -> Result<Asked, Fault> {
        match self.decide_read(caller, what) {
            Decision::Refuse(refusal) => Ok(Asked::Refused(
                self.refuse(refusal, None, Extra::default()).await?,
            )),
            // Why the grant may die here: nobody learns anything by it that stands in the gateway.
            Decision::Permit(_grant) => Ok(Asked::Permitted),
        }
    }

    fn decide_read(&self, caller: Caller, what: &str) -> Decision<ReadLog> {
        let facts = self.of_client(&caller, self.clock.now_ms());
        let what = what.to_owned();
        policy::decide(&self.rules, Ask::new(caller, ReadLog { what }), &facts)
    }

    /// Whether this administrator may seal the gateway; the entry stands before anything is shut.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn seal(&self, caller: Caller, why: String) -> Result<Answer<()>, Fault> {
        let facts = self.of_client(&caller, self.clock.now_ms());
        let (act, object) = ("gateway.seal".to_owned(), "gateway".to_owned());
        match policy::decide(
            &self.rules,
            Ask::new(caller, AdminAct { act, object, why }),
            &facts,
        ) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
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
}
