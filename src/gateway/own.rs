//! What is done to the gateway itself: rotations, reading the log, revoking a token. Each act is decided and recorded
//! like any other, also when it is refused.

use policy::words::Ods;
use policy::{AdminAct, Ask, Caller, Decision, ReadLog};

use super::{Answer, Fault, Gateway};
use crate::ledger::{Event, Extra, Receipt};
use crate::token::Assertion;
use crate::vault::Rotation;

impl Gateway {
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
            why: String::new(),
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
            why: String::new(),
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
}
