//! What cannot be taken back: destroying a KEK version, erasing a patient's records. Two people each time; the entry of
//! an erasure stands before anything goes, and the next start finishes what a crash left undone.

use policy::words::{NhsNumber, Ods};
use policy::{Approve, Caller, Grant};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Fault, Gateway};
use crate::facts::{Proposal, Unfit, unfit};
use crate::ledger::{Event, Recorded};
use crate::vault::{Erasure, KeyName, KeyState, Tombstone};

/// What an erasure needs to know beside the practice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErasureForm {
    patient: String,
}

/// Whether this is one of the acts done here.
pub(super) fn knows(act: &str) -> bool {
    matches!(act, "kek.destroy" | "patient.erase")
}

fn key_of(object: &str) -> Result<(KeyName, u32), Unfit> {
    let rule = "must be KEY/VERSION, such as A81001/1";
    let (name, version) = object
        .split_once('/')
        .ok_or_else(|| unfit("object", rule))?;
    let name = KeyName::try_from(name).map_err(|error| unfit("object", error.to_string()))?;
    let version = version.parse().map_err(|_| unfit("object", rule))?;
    match name {
        KeyName::Kek(_) => Ok((name, version)),
        KeyName::Own(..) => Err(unfit(
            "object",
            "only a KEK is destroyed: what another key signed or sealed is needed as long as it stands",
        )),
    }
}

fn patient_of(proposal: &Proposal) -> Result<(Ods, NhsNumber), Unfit> {
    let practice = Ods::try_from(proposal.object.as_str());
    let practice = practice.map_err(|_| unfit("object", "must be a practice's ODS code"))?;
    let form = ErasureForm::deserialize(&proposal.payload);
    let form = form.map_err(|error| unfit("payload", error.to_string()))?;
    let patient = NhsNumber::try_from(form.patient.as_str());
    let patient = patient.map_err(|_| unfit("payload.patient", "must be an NHS number"))?;
    Ok((practice, patient))
}

impl Gateway {
    /// Whether it could be done as the gateway stands now.
    pub(super) fn could_destroy(&self, proposal: &Proposal) -> Result<(), Unfit> {
        if proposal.act == "patient.erase" {
            return patient_of(proposal).map(drop);
        }
        let (name, version) = key_of(&proposal.object)?;
        match self.vault.state_of(&name, version) {
            Some(KeyState::Retired) => Ok(()),
            Some(state) => Err(unfit(
                "object",
                format!(
                    "version {version} is {}; only a retired version is destroyed: rotate the key, and wait until none is left",
                    state.name()
                ),
            )),
            None => Err(unfit("object", "there is no such version of that key")),
        }
    }

    pub(super) async fn destroy(
        &self,
        approved: Recorded<Grant<Approve>>,
        proposal: &Proposal,
    ) -> Result<Value, Fault> {
        if proposal.act == "patient.erase" {
            return self.erase(approved, proposal).await;
        }
        let (name, version) = key_of(&proposal.object)?;
        self.vault.destroy(approved, &name, version).await?;
        self.say(&name, "key.destroyed", version).await?;
        Ok(json!({ "key": name.as_str(), "version": version, "state": "destroyed" }))
    }

    async fn erase(
        &self,
        approved: Recorded<Grant<Approve>>,
        proposal: &Proposal,
    ) -> Result<Value, Fault> {
        let (practice, patient) = patient_of(proposal)?;
        let now_ms = self.clock.now_ms();
        let tombstone = self.vault.tombstone(&practice, &patient, now_ms).await?;
        let tombstone = tombstone.ok_or_else(|| {
            unfit(
                "payload.patient",
                "the practice holds no record of this patient",
            )
        })?;
        // INVARIANT: the ledger says so before anything goes, so that a start can finish it.
        self.ledger
            .note(
                Event::new("patient.erase")
                    .with("owner", practice.as_str())
                    .with("er", tombstone.name())
                    .with("upto", u64::from(tombstone.upto))
                    .with("at", tombstone.at_ms),
            )
            .await?;
        let (records, _receipt) = self.vault.erase(approved, &tombstone).await?;
        self.erased(&tombstone, records).await?;
        let waits: Vec<u32> = self
            .vault
            .erasures()
            .await?
            .into_iter()
            .filter(|it| it.erasure == tombstone.name())
            .flat_map(|it| it.waits_for)
            .collect();
        Ok(json!({
            "practice": practice.as_str(), "erasure": tombstone.name(), "records": records, "waits_for": waits,
        }))
    }

    async fn erased(&self, tombstone: &Tombstone, records: u64) -> Result<(), Fault> {
        let event = Event::new("patient.erased")
            .with("owner", tombstone.practice.as_str())
            .with("of", tombstone.name())
            .with("records", records)
            .with("st", self.store.seq().0);
        self.ledger.note(event).await?;
        Ok(())
    }

    /// Does what the ledger says was erased and the store does not know of.
    ///
    /// # Errors
    /// A fault of ours; then the gateway must not serve.
    pub async fn bury(&self, tombstones: &[Tombstone]) -> Result<(), Fault> {
        for tombstone in tombstones {
            if let Some(records) = self.vault.bury(tombstone).await? {
                tracing::warn!(
                    erasure = tombstone.name(),
                    records,
                    "erased as the ledger says"
                );
                self.erased(tombstone, records).await?;
            }
        }
        Ok(())
    }

    /// Every erasure, and what each waits for: read by an administrator, recorded.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn erasures(&self, caller: Caller) -> Result<Answer<Vec<Erasure>>, Fault> {
        match self.look_at(caller, "erasures").await? {
            Answer::Refused(receipt) => Ok(Answer::Refused(receipt)),
            Answer::Done((), receipt) => Ok(Answer::Done(self.vault.erasures().await?, receipt)),
        }
    }
}
