//! The register of emergency providers: which organisations it names since which version, what a practice accepted of
//! it, and the keeper's word that it did. Three hands make an agreement under it: two administrators who named the
//! organisation, and the practice; and none acts before the keeper has answered the practice. A version never
//! changes: whoever is added later comes with a later version, which a practice has or has not accepted.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::agreement::{AgreementRow, State, hex, reference, signer};
use super::deed::{Deed, Unfit, unfit};
use super::statement::{Statement, StatementError, client_id, ods, wrong};
use super::{Change, Register};

/// Organisations that one version adds and takes off: what two people read before they approve it.
const CHANGES_MAX: usize = 250;
/// Organisations that the register names at once: a practice accepts them all by one act.
const PROVIDERS_MAX: usize = 500;

/// An organisation that the register of emergency providers names, from one version of it on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmergencyProvider {
    /// ODS code.
    pub ods: String,
    /// The version of the register that added it, from 1.
    pub since: u64,
    /// The version that took it off again; it no longer acts then.
    #[serde(default)]
    pub until: Option<u64>,
    /// When it was taken off, milliseconds.
    #[serde(default)]
    pub until_ms: Option<u64>,
}

/// That a practice accepts a version of the register: what it said once, for each organisation of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterAcceptance {
    /// ODS code of the practice.
    pub practice: String,
    /// The reference of the agreements that it comes to.
    pub reference: String,
    /// The version accepted.
    pub version: u64,
    /// Digest of the terms, which are the same for every organisation.
    pub terms: String,
    /// Who signs for the practice, by name.
    pub signer: String,
    /// How many agreements it came to.
    pub agreements: u64,
    /// When, milliseconds.
    pub accepted_ms: u64,
    /// How long it cools after the keeper answered, milliseconds.
    pub cooling_ms: u64,
    /// Start of validity, milliseconds.
    pub from_ms: u64,
    /// End of validity (exclusive), milliseconds.
    pub until_ms: u64,
    /// When the practice withdrew all of them, milliseconds.
    #[serde(default)]
    pub withdrawn_ms: Option<u64>,
}

/// The register keeper's answer to a practice: the second hand on its agreements with emergency providers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeeperWord {
    /// ODS code of the practice.
    pub practice: String,
    /// The reference of the practice's acceptance.
    pub reference: String,
    /// The version that the practice accepted.
    pub version: u64,
    /// Digest of the terms that it accepted.
    pub terms: String,
    /// The administrator's client that answered.
    pub client: String,
    /// When, milliseconds.
    pub at_ms: u64,
}

impl EmergencyProvider {
    /// Checks every member against its rule.
    ///
    /// # Errors
    /// The member that breaks it.
    pub fn check(&self) -> Result<(), StatementError> {
        ods(&self.ods)?;
        if self.since == 0 || self.until.is_some_and(|until| until <= self.since) {
            return Err(wrong(
                "since, until",
                "must be versions of the register, from 1, in order",
            ));
        }
        Ok(())
    }
}

impl RegisterAcceptance {
    /// What a practice says that accepts this version for so many organisations.
    #[must_use]
    pub fn of(common: &AgreementRow, version: u64, agreements: u64) -> Self {
        Self {
            practice: common.practice.clone(),
            reference: common.reference.clone(),
            version,
            terms: common.emergency_terms(),
            signer: common.signer.clone(),
            agreements,
            accepted_ms: common.proposed_ms,
            cooling_ms: common.cooling_ms,
            from_ms: common.from_ms,
            until_ms: common.until_ms,
            withdrawn_ms: None,
        }
    }

    /// What it is at this time, with what the keeper answered. An organisation that was taken off since, or an
    /// agreement that was withdrawn by itself, ended before the others.
    #[must_use]
    pub fn state(&self, word: Option<&KeeperWord>, now_ms: u64) -> State {
        match word.filter(|word| word.terms == self.terms) {
            _ if self.withdrawn_ms.is_some_and(|at| at <= now_ms) => State::Withdrawn,
            _ if self.until_ms <= now_ms => State::Expired,
            None => State::Proposed,
            Some(word) if now_ms < word.at_ms.saturating_add(self.cooling_ms) => State::Cooling,
            Some(_) if now_ms < self.from_ms => State::Accepted,
            Some(_) => State::InForce,
        }
    }

    pub(super) fn check(&self) -> Result<(), StatementError> {
        ods(&self.practice)?;
        signer(&self.signer)?;
        reference(&self.reference)
    }
}

impl KeeperWord {
    pub(super) fn check(&self) -> Result<(), StatementError> {
        ods(&self.practice)?;
        client_id(&self.client)?;
        reference(&self.reference)
    }

    /// Whether this answers the acceptance that the agreement came of: the same version, on the same terms.
    #[must_use]
    pub fn answers(&self, row: &AgreementRow) -> bool {
        row.practice == self.practice
            && row.reference == self.reference
            && row.register == Some(self.version)
            && row.emergency_terms() == self.terms
    }
}

impl AgreementRow {
    /// What the practice accepted for every organisation alike: SHA-256 of the canonical terms, hexadecimal.
    #[must_use]
    pub fn emergency_terms(&self) -> String {
        let sorted = |codes: &[String]| {
            let mut codes = codes.to_vec();
            codes.sort_unstable();
            codes.dedup();
            codes
        };
        let terms = json!([
            "sallyport/emergency/v1",
            self.practice,
            self.reference,
            self.register,
            sorted(&self.purposes),
            sorted(&self.categories),
            sorted(&self.labels),
            self.accepts_asserted,
            self.emergency_overrides_objection,
            self.from_ms,
            self.until_ms,
            self.signer,
        ]);
        hex(&Sha256::digest(terms.to_string()))
    }
}

/// What publishes a version: the difference to the one before, which is what two people look at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionForm {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

impl Register {
    /// What the register of emergency providers says of this organisation.
    #[must_use]
    pub fn provider(&self, code: &str) -> Option<&EmergencyProvider> {
        self.providers.get(code)
    }

    /// The register of emergency providers: its version, and those it names now.
    #[must_use]
    pub fn providers(&self) -> (u64, Vec<&EmergencyProvider>) {
        let all = self.providers.values();
        let version = all.flat_map(|it| [Some(it.since), it.until]).flatten();
        let named = self.providers.values().filter(|it| it.until.is_none());
        (version.max().unwrap_or(0), named.collect())
    }

    /// What the keeper answered to this practice under this reference.
    #[must_use]
    pub fn keeper_word(&self, practice: &str, reference: &str) -> Option<&KeeperWord> {
        let key = (practice.to_owned(), reference.to_owned());
        self.words.get(&key)
    }

    /// The register as anybody may read it who has to do with it: version, and who is named since when.
    #[must_use]
    pub fn providers_told(&self) -> Value {
        let (version, named) = self.providers();
        let told = |it: &&EmergencyProvider| {
            let code = ods(&it.ods).ok();
            let name = code.and_then(|code| self.organisation(&code).map(|own| own.name.clone()));
            json!({ "ods": it.ods, "name": name, "since": it.since })
        };
        json!({ "version": version, "providers": named.iter().map(told).collect::<Vec<_>>() })
    }

    /// A new version by name: whom it adds, whom it takes off.
    pub(super) fn providers_published(&self, deed: &Deed<'_>) -> Result<Vec<Change>, Unfit> {
        let form: VersionForm = deed.payload()?;
        let next = self.next_version(deed)?;
        if form.add.len() + form.remove.len() > CHANGES_MAX {
            let rule = "names more than 250 organisations; publish them in several versions";
            return Err(unfit("payload", rule));
        }
        let mut changes = Vec::with_capacity(form.add.len() + form.remove.len());
        let mut seen = std::collections::BTreeSet::new();
        for code in form.add.iter().chain(&form.remove) {
            if !seen.insert(code) {
                return Err(unfit("payload", format!("names {code} twice")));
            }
        }
        for code in &form.add {
            let known = self.organisation(&ods(code)?);
            if known.is_none_or(|known| known.role != "hospital") {
                let rule = format!("{code} is not registered as a hospital; register it first");
                return Err(unfit("payload.add", rule));
            }
            if self.provider(code).is_some_and(|it| it.until.is_none()) {
                return Err(unfit("payload.add", format!("{code} is named already")));
            }
            changes.push(Change::Put(Statement::EmergencyProvider(
                EmergencyProvider {
                    ods: code.clone(),
                    since: next,
                    until: None,
                    until_ms: None,
                },
            )));
        }
        for code in &form.remove {
            changes.push(self.taken_off(code, next, deed.now_ms)?);
        }
        if changes.is_empty() {
            return Err(unfit("payload", "names nobody to add or to take off"));
        }
        let (_, named) = self.providers();
        if named.len() + form.add.len() > PROVIDERS_MAX {
            return Err(unfit(
                "payload.add",
                "would make the register name more than 500",
            ));
        }
        Ok(changes)
    }

    /// One organisation off, which is a new version: nothing is read under the register any more by it.
    pub(super) fn provider_struck(&self, deed: &Deed<'_>) -> Result<Change, Unfit> {
        let (version, _) = self.providers();
        self.taken_off(deed.object, version + 1, deed.now_ms)
    }

    fn next_version(&self, deed: &Deed<'_>) -> Result<u64, Unfit> {
        let next = self.providers().0 + 1;
        // Why it is named: of two versions proposed beside each other the second would be another than was read.
        if deed.object != next.to_string() {
            let rule = format!("must be the next version, {next}; propose it anew");
            return Err(unfit("object", rule));
        }
        Ok(next)
    }

    fn taken_off(&self, code: &str, version: u64, now_ms: u64) -> Result<Change, Unfit> {
        let known = self.provider(code).filter(|it| it.until.is_none());
        let known = known.ok_or_else(|| {
            let rule = format!("{code} is not named by the register of emergency providers");
            unfit("object", rule)
        })?;
        Ok(Change::Put(Statement::EmergencyProvider(
            EmergencyProvider {
                until: Some(version),
                until_ms: Some(now_ms),
                ..known.clone()
            },
        )))
    }
}
