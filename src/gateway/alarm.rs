//! What the gateway itself tells: alarms that stand until they are cleared, notices, and what it sees of its own
//! state. Each is an entry first; `alerts` delivers it. An alarm that stands is not raised again.

use std::sync::Arc;
use std::time::Duration;

use policy::Fact;
use policy::words::ClientRole;

use super::{Fault, Gateway};
use crate::alerts::{Contacts, Kind, Post};
use crate::facts::OPERATOR;
use crate::ledger::Event;

/// How often the gateway looks at itself.
const LOOK: Duration = Duration::from_secs(10);

impl Gateway {
    /// What has to be told, and how it stands with telling it.
    #[must_use]
    pub const fn post(&self) -> &Post {
        &self.post
    }

    /// Raises an alarm, unless it stands already. `of` is a code of organisation, client or key, never of a person.
    ///
    /// # Errors
    /// A fault of ours; the alarm is then not raised.
    pub async fn raise(&self, kind: Kind, of: &str) -> Result<(), Fault> {
        if !self.post.board().stands(kind, of) {
            tracing::warn!(alarm = kind.code(), of, "{}", kind.says());
            self.tell(kind.raise(of)).await?;
        }
        Ok(())
    }

    /// Clears an alarm, if it stands.
    ///
    /// # Errors
    /// A fault of ours; the alarm then stands.
    pub async fn clear(&self, kind: Kind, of: &str) -> Result<(), Fault> {
        if self.post.board().stands(kind, of) {
            tracing::info!(alarm = kind.code(), of, "an alarm is over");
            self.tell(kind.clear(of)).await?;
        }
        Ok(())
    }

    /// Tells what happened, each time.
    ///
    /// # Errors
    /// A fault of ours; it is then not told.
    pub async fn tell(&self, event: Event) -> Result<(), Fault> {
        self.ledger.note(event).await?;
        Ok(())
    }

    /// Whether a privacy officer stands in the directory: nobody goes live without one.
    #[must_use]
    pub fn has_officer(&self) -> bool {
        match self.facts.register() {
            Fact::Known(register) => register.has(ClientRole::PrivacyOfficer),
            Fact::Unknown(_) => false,
        }
    }

    /// Delivers alerts and looks at the gateway's own state, until it is dropped.
    pub async fn keep_watch(&self) {
        let looks = async {
            let mut look = tokio::time::interval(LOOK);
            let mut was_full = false;
            loop {
                look.tick().await;
                let is_full = !self.ledger.health().has_room;
                let looked = self.look_around(is_full && was_full).await;
                was_full = is_full;
                if let Err(fault) = looked {
                    tracing::error!(%fault, "an alarm could not be recorded");
                }
            }
        };
        let contacts: Contacts = Arc::new(self.facts.contacts());
        let told = self.post.deliver(&self.ledger, &contacts);
        tokio::join!(told, self.witnesses.run(&self.ledger), looks);
    }

    /// Why full only at the second look: between one segment and the next there is no room for a moment.
    async fn look_around(&self, is_full: bool) -> Result<(), Fault> {
        let health = self.ledger.health();
        if health.is_stopped {
            // Why without an entry: there can be none, and it must not go untold for that.
            let now_ms = self.clock.now_ms();
            self.post.board().shout(Kind::LedgerStopped, now_ms);
            return Ok(());
        }
        self.is(Kind::DiskFull, "gateway", is_full).await?;
        let is_stopped = self.store.is_stopped();
        self.is(Kind::StoreStopped, "gateway", is_stopped).await?;
        for standing in self.witnesses.standing() {
            let (name, is_silent) = (&standing.witness, self.witnesses.is_silent(&standing));
            self.is(Kind::WitnessSilent, name, is_silent).await?;
            self.is(Kind::WitnessRefused, name, standing.is_refused)
                .await?;
        }
        let stops = self.witnesses.stops().is_some();
        self.is(Kind::WitnessStops, "gateway", stops).await?;
        for (owner, standing) in self.facts.feeds(self.clock.now_ms()) {
            self.tell_of_feed(&owner, &standing).await?;
        }
        let unsound = self.facts.unsound();
        for owner in &unsound {
            self.raise(Kind::FactsUnknown, owner).await?;
        }
        for heading in self.post.board().standing() {
            if heading.code == Kind::FactsUnknown.code() && !unsound.contains(&heading.of) {
                self.clear(Kind::FactsUnknown, &heading.of).await?;
            }
        }
        let is_missing = !unsound.contains(OPERATOR) && !self.has_officer();
        self.is(Kind::OfficerMissing, "gateway", is_missing).await
    }

    pub(super) async fn is(&self, kind: Kind, of: &str, stands: bool) -> Result<(), Fault> {
        match stands {
            true => self.raise(kind, of).await,
            false => self.clear(kind, of).await,
        }
    }
}
