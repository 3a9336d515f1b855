//! What is done to keys. Each act is decided and recorded like any other, also when it is refused; what came of it is
//! a second entry, which names the keyring's epoch. A rotation ends with the entry that none is left.

use std::sync::Arc;

use policy::{AdminAct, Ask, Caller, Decision, Grant};

use super::{Answer, Fault, Gateway};
use crate::ledger::{Event, Extra, Receipt, Recorded};
use crate::vault::{KeyName, KeyReport, KeyState, Owner, Rotation, RotationError};

/// What became of a permitted act on a key.
pub enum KeyDone {
    /// It is done: this version.
    Version(u32),
    /// It was permitted and not done; this has to be so first.
    NotYet(String),
}

/// What an act on a key is recorded as, and what became of it.
enum Turn {
    Refused(Receipt),
    Granted(Box<Recorded<Grant<AdminAct>>>),
}

impl Gateway {
    /// Makes a new version of a key that seals from now on. A KEK's keys are rewrapped by [`Gateway::rewrap`]; a
    /// signing key is announced and activated in one, for when it cannot wait.
    ///
    /// # Errors
    /// A fault of ours; then the old version stays active.
    pub async fn rotate(&self, caller: Caller, name: &KeyName) -> Result<Answer<KeyDone>, Fault> {
        let recorded = match self.on_key(caller, "rotate", name.as_str(), name).await? {
            Turn::Refused(receipt) => return Ok(Answer::Refused(receipt)),
            Turn::Granted(recorded) => recorded,
        };
        let now_ms = self.clock.now_ms();
        match name {
            KeyName::Kek(owner) => {
                let (version, receipt) = self.vault.renew(*recorded, owner, now_ms).await?;
                self.say(name, "key.activated", version).await?;
                Ok(Answer::Done(KeyDone::Version(version), receipt))
            }
            KeyName::Own(
                "token-signing" | "ticket-signing" | "deposit-signing" | "ledger-bodies",
                _,
            ) => {
                let done = self.vault.replace(*recorded, name, now_ms).await;
                self.came_of(name, "key.activated", done).await
            }
            KeyName::Own(..) => {
                let why = "this key is not rotated so: ledger-signing is announced and then activated, so that those \
                           who verify the log can follow; index, facts and store stay for the gateway's life";
                let receipt = recorded.receipt().clone();
                Ok(Answer::Done(KeyDone::NotYet(why.to_owned()), receipt))
            }
        }
    }

    /// Makes and publishes a signing key's next version; it signs nothing yet.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn announce(&self, caller: Caller, name: &KeyName) -> Result<Answer<KeyDone>, Fault> {
        match self.on_key(caller, "announce", name.as_str(), name).await? {
            Turn::Refused(receipt) => Ok(Answer::Refused(receipt)),
            Turn::Granted(recorded) => {
                let now_ms = self.clock.now_ms();
                let done = self.vault.announce(*recorded, name, now_ms).await;
                if done.is_ok() && signs_the_log(name) {
                    self.ledger.hand_over().await?;
                }
                self.came_of(name, "key.announced", done).await
            }
        }
    }

    /// Lets the announced version sign; of the one before only the public half is left.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn activate(&self, caller: Caller, name: &KeyName) -> Result<Answer<KeyDone>, Fault> {
        match self.on_key(caller, "activate", name.as_str(), name).await? {
            Turn::Refused(receipt) => Ok(Answer::Refused(receipt)),
            Turn::Granted(recorded) => {
                if signs_the_log(name) {
                    // Why again: a crash may have come between the announced key and its entry.
                    self.ledger.hand_over().await?;
                    self.ledger.publish_now().await;
                }
                let done = self.vault.activate(*recorded, name).await;
                self.came_of(name, "key.activated", done).await
            }
        }
    }

    /// Retires a version that nothing depends on any more. Until then it is not done, and the answer says how many
    /// wrapped keys are left.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn retire(
        &self,
        caller: Caller,
        name: &KeyName,
        version: u32,
    ) -> Result<Answer<KeyDone>, Fault> {
        let object = format!("{}/{version}", name.as_str());
        let recorded = match self.on_key(caller, "retire", &object, name).await? {
            Turn::Refused(receipt) => return Ok(Answer::Refused(receipt)),
            Turn::Granted(recorded) => recorded,
        };
        if let Some(why) = self.still_needed(name, version).await? {
            let receipt = recorded.receipt().clone();
            return Ok(Answer::Done(KeyDone::NotYet(why), receipt));
        }
        let done = self.vault.retire(*recorded, name, version).await;
        self.came_of(name, "key.retired", done.map(|receipt| (version, receipt)))
            .await
    }

    /// Why this version cannot be retired yet, if so.
    async fn still_needed(&self, name: &KeyName, version: u32) -> Result<Option<String>, Fault> {
        let Some(state) = self.vault.state_of(name, version) else {
            return Ok(Some(format!("there is no version {version} of this key")));
        };
        if matches!(state, KeyState::Active | KeyState::Announced) {
            let state = state.name();
            return Ok(Some(format!(
                "version {version} is {state}: rotate the key first"
            )));
        }
        let KeyName::Kek(owner) = name else {
            return Ok((state == KeyState::Retiring)
                .then(|| "older entries of the ledger are sealed under it".to_owned()));
        };
        let under = self.vault.under_versions(owner).await?;
        let left = under.iter().find(|row| row.0 == version);
        Ok(left.map(|(_, left)| {
            format!(
                "{left} wrapped keys are left under version {version}: they are being rewrapped"
            )
        }))
    }

    /// Rewraps until no key of this owner is left under an older KEK, records that, and retires the older ones.
    ///
    /// # Errors
    /// A fault of ours; asking again takes it up where it stopped.
    pub async fn rewrap(&self, owner: &Owner) -> Result<Option<(Rotation, Receipt)>, Fault> {
        let (vault, own) = (Arc::clone(&self.vault), owner.clone());
        let runtime = tokio::runtime::Handle::current();
        // Why on a thread of its own: among a full house's requests each of its steps would wait behind all of them.
        let turned = tokio::task::spawn_blocking(move || runtime.block_on(vault.rewrap(&own)));
        let turned = turned.await;
        let Some(rotation) = turned.map_err(|_| Fault::Bug("a rewrap's thread ended"))?? else {
            return Ok(None);
        };
        let event = Event::new("kek.rotated")
            .with("owner", owner.as_str())
            .with("version", u64::from(rotation.version))
            .with("rewrapped", rotation.rewrapped)
            .with("left", rotation.left)
            .with("emptied", rotation.emptied.clone());
        let receipt = self.ledger.note(event).await?;
        let emptied = rotation.emptied.clone();
        self.vault.retire_emptied(owner, emptied).await?;
        let name = KeyName::Kek(owner.clone());
        for version in &rotation.emptied {
            self.say(&name, "key.retired", *version).await?;
        }
        Ok(Some((rotation, receipt)))
    }

    /// Takes up every rotation that a stop, a crash or a fault left half done.
    ///
    /// # Errors
    /// A fault of ours; asking again takes it up where it stopped.
    pub async fn resume(&self) -> Result<(), Fault> {
        for owner in self.vault.unfinished() {
            tracing::info!(owner = owner.as_str(), "going on with a rotation");
            self.rewrap(&owner).await?;
        }
        Ok(())
    }

    /// One key, or all of them: versions, ages, uses, what stands under each. Read by an admin, recorded.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn keys(
        &self,
        caller: Caller,
        name: Option<&KeyName>,
    ) -> Result<Answer<Vec<KeyReport>>, Fault> {
        let object = name.map_or("keys", KeyName::as_str).to_owned();
        let receipt = match self.admin(caller, "status.read", object).await? {
            Turn::Refused(receipt) => return Ok(Answer::Refused(receipt)),
            Turn::Granted(recorded) => recorded.into_parts().1,
        };
        let names = name.map_or_else(|| self.vault.key_names(), |name| vec![name.clone()]);
        let mut reports = Vec::with_capacity(names.len());
        for name in names {
            reports.extend(self.vault.report(&name).await?);
        }
        Ok(Answer::Done(reports, receipt))
    }

    async fn on_key(
        &self,
        caller: Caller,
        what: &'static str,
        object: &str,
        name: &KeyName,
    ) -> Result<Turn, Fault> {
        let act = match (what, name.kind()) {
            ("retire", _) => "kek.retire",
            (_, "signing") => "signing.rotate",
            _ => "kek.rotate",
        };
        self.admin(caller, act, object.to_owned()).await
    }

    async fn admin(&self, caller: Caller, act: &str, object: String) -> Result<Turn, Fault> {
        let facts = self.of_client(&caller, self.clock.now_ms());
        let act = act.to_owned();
        let ask = Ask::new(
            caller,
            AdminAct {
                act,
                object,
                why: String::new(),
            },
        );
        Ok(match policy::decide(&self.rules, ask, &facts) {
            Decision::Refuse(refusal) => {
                Turn::Refused(self.refuse(refusal, None, Extra::default()).await?)
            }
            Decision::Permit(grant) => {
                let recorded = self.record(grant, None, Extra::default()).await?;
                Turn::Granted(Box::new(recorded))
            }
        })
    }

    /// Records what came of it; a keyring that cannot do it in its state is no fault of ours.
    async fn came_of(
        &self,
        name: &KeyName,
        event: &'static str,
        done: Result<(u32, Receipt), RotationError>,
    ) -> Result<Answer<KeyDone>, Fault> {
        let (version, receipt) = done?;
        self.say(name, event, version).await?;
        Ok(Answer::Done(KeyDone::Version(version), receipt))
    }

    pub(super) async fn say(
        &self,
        name: &KeyName,
        event: &'static str,
        version: u32,
    ) -> Result<(), Fault> {
        let event = Event::new(event)
            .with("key", name.as_str())
            .with("version", u64::from(version))
            .with("kr", self.vault.keyring_epoch());
        self.ledger.note(event).await?;
        Ok(())
    }
}

/// Whether this key hands over by an entry of the log, which the key before signs.
fn signs_the_log(name: &KeyName) -> bool {
    matches!(name, KeyName::Own("ledger-signing", _))
}
