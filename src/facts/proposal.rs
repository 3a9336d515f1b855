//! A proposal: an act that takes two people, as the first of them asked for it. It waits among the operator's facts
//! until another person approves exactly this digest, anybody withdraws it, or its time is over.

use policy::facts::Proposed;
use policy::words::PersonId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::statement::{StatementError, client_id, person, wrong};

/// How long a proposal waits for its approval.
pub const PROPOSAL_LIFE_MS: u64 = 24 * 3600 * 1000;
/// Proposals that wait at once.
pub const PROPOSALS_MAX: usize = 100;
/// Bytes of a payload: a proposal is one row of the store.
const PAYLOAD_BYTES_MAX: usize = 2048;
/// Characters of a reason.
pub const WHY_CHARACTERS_MAX: usize = 300;

/// What is proposed, by whom, why and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// Which act, of `AdminAct::TWO`.
    pub act: String,
    /// To what.
    pub object: String,
    /// What the act needs to know beside; null where it needs nothing.
    pub payload: Value,
    /// Why, in the proposer's words.
    pub why: String,
    /// The client that proposed it.
    pub client: String,
    /// Who proposed it, as a human being.
    pub person: String,
    /// When, milliseconds.
    pub made_ms: u64,
    /// From when on it can no longer be approved, milliseconds.
    pub expires_ms: u64,
}

impl Proposal {
    /// `SHA-256("sallyport/proposal/v1" ‖ 0x00 ‖ RFC 8785 of the proposal)`: its name, and what an approval names.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update("sallyport/proposal/v1\0");
        // Why it cannot fail: strings, integers and what was JSON already.
        hash.update(serde_json_canonicalizer::to_vec(self).unwrap_or_default());
        hash.finalize().into()
    }

    /// The digest as it is written: 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn name(&self) -> String {
        name(&self.digest())
    }

    /// As the policy reads it.
    #[must_use]
    pub fn proposed(&self, proposer_suspended: bool) -> Option<Proposed> {
        Some(Proposed {
            act: self.act.clone(),
            object: self.object.clone(),
            digest: self.digest(),
            person: PersonId::try_from(self.person.as_str()).ok()?,
            proposer_suspended,
            expires_ms: self.expires_ms,
        })
    }

    pub(super) fn check(&self) -> Result<(), StatementError> {
        client_id(&self.client)?;
        person(&self.person)?;
        if self.payload.to_string().len() > PAYLOAD_BYTES_MAX {
            return Err(wrong("payload", "is longer than 2048 bytes of JSON"));
        }
        if self.why.chars().count() > WHY_CHARACTERS_MAX {
            return Err(wrong("why", "must have at most 300 characters"));
        }
        Ok(())
    }
}

/// A digest as it is written.
pub(super) fn name(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whatever_changes_in_a_proposal_changes_its_digest() {
        let proposal = Proposal {
            act: "client.register".into(),
            object: "RJ1".into(),
            payload: json!({ "certificates": ["ab"], "name": "Hôpital" }),
            why: "new system".into(),
            client: "admin-1".into(),
            person: "ann".into(),
            made_ms: 1,
            expires_ms: 2,
        };
        let spoil: [fn(&mut Proposal); 8] = [
            |it| it.act = "client.remove".into(),
            |it| it.object = "RJ2".into(),
            |it| it.payload = json!({ "certificates": ["ac"], "name": "Hôpital" }),
            |it| it.why.clear(),
            |it| it.client = "admin-2".into(),
            |it| it.person = "bob".into(),
            |it| it.made_ms = 0,
            |it| it.expires_ms = 3,
        ];
        for spoil in spoil {
            let mut other = proposal.clone();
            spoil(&mut other);
            assert_ne!(other.digest(), proposal.digest());
        }
        // Frozen: a proposal made by one version is approved under the next.
        let name = "0a37770166cb545164b1381686a2d7fa9049c9e61206c2293b8bbf39235959b5";
        assert_eq!(proposal.name(), name);
    }
}
