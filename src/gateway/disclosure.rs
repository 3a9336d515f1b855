//! Disclosing audit keys: what an auditor needs to read entries offline, handed out when two people approved it.
//! Bodies are given to whoever may read entries; without keys they say nothing.

use policy::words::NhsNumber;
use policy::{Approve, Caller, ClientRole, Grant};
use serde::Deserialize;
use serde_json::{Value, json};
use std::ops::ControlFlow;

use super::{Answer, Fault, Gateway};
use crate::facts::{Proposal, Register, Unfit, unfit};
use crate::ledger::{ReadError, Recorded};
use crate::vault::{Auditor, Whose};

/// Entries of one bundle (C2SP tlog-tiles).
const BUNDLE: u64 = 256;

/// The act.
pub(super) const DISCLOSE: &str = "audit.disclose";

/// What says whose entries; the act's object is the auditor's client.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(default)]
    patients: Vec<String>,
    #[serde(default)]
    all: bool,
}

fn whose(payload: &Value) -> Result<Whose, Unfit> {
    let form = Form::deserialize(payload).map_err(|error| unfit("payload", error.to_string()))?;
    if form.all {
        return match form.patients.is_empty() {
            true => Ok(Whose::All),
            false => Err(unfit("payload.all", "names nobody beside: leave one out")),
        };
    }
    let number = |text: &String| NhsNumber::try_from(text.as_str());
    let patients: Result<Vec<_>, _> = form.patients.iter().map(number).collect();
    let rule = "must be NHS numbers with the right check digit";
    patients
        .map(Whose::These)
        .map_err(|_| unfit("payload.patients", rule))
}

/// The auditor's public key.
fn open_key(register: &Register, client: &str) -> Result<String, Unfit> {
    let client = policy::words::ClientId::try_from(client);
    let client = client
        .ok()
        .and_then(|client| register.client(&client).cloned());
    let client = client.ok_or_else(|| unfit("object", "is not a client of the directory"))?;
    if !matches!(
        client.role,
        ClientRole::Auditor | ClientRole::PrivacyOfficer
    ) {
        return Err(unfit(
            "object",
            "is neither an auditor nor a privacy officer",
        ));
    }
    let key = client.open_key().map(ToString::to_string);
    key.ok_or_else(|| unfit("object", "has no registered encryption key to seal to"))
}

/// Whether this could be disclosed, said to whoever proposes it.
pub(super) fn fits(register: &Register, proposal: &Proposal) -> Result<(), Unfit> {
    open_key(register, &proposal.object)?;
    whose(&proposal.payload).map(drop)
}

impl Gateway {
    /// Hands out what was approved: `{"keys": [compact JWE, …]}`, which only the auditor's key opens.
    pub(super) async fn disclose(
        &self,
        approved: Recorded<Grant<Approve>>,
        proposal: &Proposal,
    ) -> Result<Value, Fault> {
        let unfitting = |_| Fault::Bug("a disclosure that no longer fits");
        let key = open_key(&*self.directory()?, &proposal.object).map_err(unfitting)?;
        let to = Auditor {
            client: &proposal.object,
            open_key: &key,
            now_s: self.clock.now_ms() / 1000,
        };
        let whose = whose(&proposal.payload).map_err(unfitting)?;
        let keys = self.vault.hand_out(approved, proposal, whose, to).await?;
        Ok(json!({ "keys": keys }))
    }

    /// The sealed bodies of the entries of a bundle, for auditors: each behind its length as four bytes, big end
    /// first; an entry without one has length 0. Reading them is itself an entry.
    ///
    /// # Errors
    /// A fault of ours.
    pub async fn bodies(&self, caller: Caller, bundle: u64) -> Result<Answer<Vec<u8>>, Fault> {
        let what = format!("bodies/{bundle}");
        match self.read_log(caller, &what).await? {
            Answer::Refused(receipt) => Ok(Answer::Refused(receipt)),
            Answer::Done((), receipt) => {
                let ledger = self.ledger.clone();
                let read = move || {
                    let (mut bytes, mut left) = (Vec::new(), BUNDLE);
                    let from = bundle.saturating_mul(BUNDLE);
                    ledger.scan(from, &mut |_, body| {
                        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
                        bytes.extend_from_slice(&length.to_be_bytes());
                        bytes.extend_from_slice(body);
                        left -= 1;
                        match left {
                            0 => ControlFlow::Break(()),
                            _ => ControlFlow::Continue(()),
                        }
                    })?;
                    Ok::<_, ReadError>(bytes)
                };
                let read = tokio::task::spawn_blocking(read).await;
                let read = read.map_err(|_| Fault::Bug("reading the journal ended early"))?;
                let bytes = read.map_err(|error| {
                    tracing::error!(%error, "the journal cannot be read");
                    Fault::Bug("the journal cannot be read")
                })?;
                Ok(Answer::Done(bytes, receipt))
            }
        }
    }
}
