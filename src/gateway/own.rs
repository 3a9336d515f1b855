//! What is done to the gateway itself: reading the log, revoking a token. Each act is decided and recorded
//! like any other, also when it is refused.

use policy::{Ask, Caller, Decision, ReadLog};

use super::{Answer, Fault, Gateway};
use crate::ledger::{Event, Extra, Receipt};
use crate::token::Assertion;

impl Gateway {
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
}
