//! Sharing agreements: what a practice proposes, what the organisation countersigns, how long the practice lets
//! it cool, and what all that makes of it at a given time. Exactly one practice and one organisation each; there
//! is no way to write "any". A proposal is the practice's row and a countersignature the organisation's, so that
//! neither can make both. Rows are ended, never removed: what stood a week ago can be said.

use policy::facts::{Agreement, Hand};
use policy::words::Ods;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::providers::{EmergencyProvider, KeeperWord};
use super::statement::{StatementError, category, label, ods, purposes, wrong};

/// How long a practice lets an agreement cool unless it says otherwise.
pub(super) const COOLING_OFF_MS: u64 = 24 * 3_600_000;
/// The longest cooling-off time a practice can set.
const COOLING_OFF_MAX_MS: u64 = 30 * 24 * 3_600_000;
/// Contacts a practice can name.
const CONTACTS_MAX: usize = 8;
/// Stands for the hand of those who founded the gateway with an agreement that was made on paper.
const FOUNDED: &str = "founding";

/// A sharing agreement as its practice proposed it: exactly one practice, exactly one organisation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgreementRow {
    /// The agreement's own reference.
    pub reference: String,
    /// ODS code of the practice that shares.
    pub practice: String,
    /// ODS code of the organisation that may ask.
    pub organisation: String,
    /// PurposeOfUse codes.
    pub purposes: Vec<String>,
    /// Categories of record.
    pub categories: Vec<String>,
    /// Sensitivity labels it expressly covers.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Whether a relationship that only the hospital asserts is enough.
    #[serde(default)]
    pub accepts_asserted: bool,
    /// Whether a declared emergency overrides an objection at this practice.
    #[serde(default)]
    pub emergency_overrides_objection: bool,
    /// Start of validity, milliseconds.
    pub from_ms: u64,
    /// End of validity (exclusive), milliseconds.
    pub until_ms: u64,
    /// Who signs for the practice, by name.
    pub signer: String,
    /// The hand that proposed it; none where the gateway was founded with it.
    #[serde(default)]
    pub hand: Option<HandRow>,
    /// When it was proposed, milliseconds.
    #[serde(default)]
    pub proposed_ms: u64,
    /// How long it cools after the organisation accepted it, milliseconds.
    #[serde(default)]
    pub cooling_ms: u64,
    /// When the practice withdrew it, milliseconds.
    #[serde(default)]
    pub withdrawn_ms: Option<u64>,
    /// The version of the register of emergency providers that the practice accepted, where it stands under that.
    #[serde(default)]
    pub register: Option<u64>,
}

/// That the organisation accepts what a practice proposed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Countersignature {
    /// The agreement's reference.
    pub reference: String,
    /// ODS code of the practice that proposed.
    pub practice: String,
    /// ODS code of the organisation that accepts.
    pub organisation: String,
    /// Digest of the terms accepted; filled in at the founding.
    #[serde(default)]
    pub terms: String,
    /// Who signs for the organisation, by name.
    pub signer: String,
    /// The hand that accepted; none where the gateway was founded with it.
    #[serde(default)]
    pub hand: Option<HandRow>,
    /// When, milliseconds.
    #[serde(default)]
    pub accepted_ms: u64,
    /// When the organisation ended it, milliseconds.
    #[serde(default)]
    pub ended_ms: Option<u64>,
}

/// That an agreement was proposed to an organisation: how the organisation finds what is addressed to it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// ODS code of the organisation.
    pub organisation: String,
    /// ODS code of the practice.
    pub practice: String,
    /// The agreement's reference.
    pub reference: String,
}

/// How a practice wants its agreements made.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PracticeSettings {
    /// ODS code of the practice.
    pub practice: String,
    /// How long an agreement cools, milliseconds.
    pub cooling_off_ms: u64,
    /// What it was before: a shorter time counts only once the longer one has passed.
    #[serde(default)]
    pub before_ms: u64,
    /// When it was changed, milliseconds.
    #[serde(default)]
    pub changed_ms: u64,
    /// Whom to tell of every change, such as `mailto:` addresses.
    #[serde(default)]
    pub contacts: Vec<String>,
}

/// Which system held which keys when something was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandRow {
    /// The client's id.
    pub client: String,
    /// SHA-256 of its certificate, hexadecimal.
    pub certificate: String,
    /// SHA-256 of the key that verifies its assertions, hexadecimal.
    pub signing: String,
}

impl From<&Hand> for HandRow {
    fn from(hand: &Hand) -> Self {
        Self {
            client: hand.client.clone(),
            certificate: hand.certificate.clone(),
            signing: hand.signing.clone(),
        }
    }
}

/// What an agreement is at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The organisation has not accepted it.
    Proposed,
    /// Accepted; the practice can still think again.
    Cooling,
    /// Accepted and cooled; its validity has not begun.
    Accepted,
    /// It acts.
    InForce,
    /// Its validity is over.
    Expired,
    /// The practice or the organisation took it back.
    Withdrawn,
}

impl State {
    /// The word on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Cooling => "cooling",
            Self::Accepted => "accepted",
            Self::InForce => "in-force",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// An agreement with all that bears on it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The practice's proposal.
    pub row: AgreementRow,
    /// The organisation's acceptance of just these terms, or the register's.
    pub accepted: Option<Accepted>,
}

/// Whose acceptance, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The hand, as the policy compares it.
    pub by: String,
    /// Who signed.
    pub signer: String,
    /// When.
    pub at_ms: u64,
    /// When it ended again.
    pub ended_ms: Option<u64>,
}

impl AgreementRow {
    /// Checks every member against its vocabulary.
    ///
    /// # Errors
    /// The member that is not in it.
    pub fn check(&self) -> Result<(), StatementError> {
        reference(&self.reference)?;
        signer(&self.signer)?;
        self.agreement("", "", 0, self.until_ms).map(drop)
    }

    fn agreement(
        &self,
        proposed_by: &str,
        accepted_by: &str,
        cooled_ms: u64,
        until_ms: u64,
    ) -> Result<Agreement, StatementError> {
        if self.from_ms >= self.until_ms {
            return Err(wrong("until_ms", "must be later than from_ms"));
        }
        if self.purposes.is_empty() || self.categories.is_empty() {
            return Err(wrong("purposes, categories", "must each name at least one"));
        }
        Ok(Agreement {
            reference: self.reference.clone(),
            practice: ods(&self.practice)?,
            organisation: ods(&self.organisation)?,
            purposes: purposes(&self.purposes)?,
            categories: self
                .categories
                .iter()
                .map(|code| category(code))
                .collect::<Result<_, _>>()?,
            labels: self
                .labels
                .iter()
                .map(|code| label(code))
                .collect::<Result<_, _>>()?,
            accepts_asserted: self.accepts_asserted,
            emergency_overrides_objection: self.emergency_overrides_objection,
            from_ms: self.from_ms,
            until_ms,
            proposed_by: proposed_by.to_owned(),
            accepted_by: accepted_by.to_owned(),
            cooled_ms,
        })
    }

    /// What the organisation accepts: SHA-256 of the canonical terms, hexadecimal. Order does not matter.
    #[must_use]
    pub fn terms(&self) -> String {
        let sorted = |codes: &[String]| {
            let mut codes = codes.to_vec();
            codes.sort_unstable();
            codes.dedup();
            codes
        };
        let terms = json!([
            "sallyport/agreement/v1",
            self.practice,
            self.organisation,
            self.reference,
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

    /// The hand that proposed it, as the policy compares it.
    #[must_use]
    pub fn hand(&self) -> Hand {
        match &self.hand {
            Some(hand) => Hand {
                client: hand.client.clone(),
                certificate: hand.certificate.clone(),
                signing: hand.signing.clone(),
            },
            None => {
                let founded = format!("{FOUNDED}:{}", self.practice);
                Hand {
                    client: founded.clone(),
                    certificate: founded.clone(),
                    signing: founded,
                }
            }
        }
    }
}

impl Countersignature {
    /// Checks every member against its rule.
    ///
    /// # Errors
    /// The member that breaks it.
    pub fn check(&self) -> Result<(), StatementError> {
        reference(&self.reference)?;
        signer(&self.signer)?;
        ods(&self.practice)?;
        ods(&self.organisation).map(drop)
    }

    /// As the policy compares it, if it is of these terms.
    fn of(&self, row: &AgreementRow) -> Option<Accepted> {
        let by = match &self.hand {
            Some(hand) => hand.certificate.clone(),
            None => format!("{FOUNDED}:{}", self.organisation),
        };
        (self.terms == row.terms()).then(|| Accepted {
            by,
            signer: self.signer.clone(),
            at_ms: self.accepted_ms,
            ended_ms: self.ended_ms,
        })
    }
}

impl PracticeSettings {
    /// What a practice has that never said anything.
    #[must_use]
    pub fn of(practice: &Ods) -> Self {
        Self {
            practice: practice.as_str().to_owned(),
            cooling_off_ms: COOLING_OFF_MS,
            before_ms: COOLING_OFF_MS,
            changed_ms: 0,
            contacts: Vec::new(),
        }
    }

    /// Checks every member against its rule.
    ///
    /// # Errors
    /// The member that breaks it.
    pub fn check(&self) -> Result<(), StatementError> {
        ods(&self.practice)?;
        if self.cooling_off_ms > COOLING_OFF_MAX_MS {
            return Err(wrong("cooling_off_ms", "must be at most 30 days"));
        }
        contacts(&self.contacts)
    }

    /// The cooling-off time that counts at this time. Why not simply the latest: whoever stole a practice's
    /// credential would shorten it first.
    #[must_use]
    pub fn cooling_off_at(&self, now_ms: u64) -> u64 {
        if now_ms < self.changed_ms.saturating_add(self.before_ms) {
            self.cooling_off_ms.max(self.before_ms)
        } else {
            self.cooling_off_ms
        }
    }

    /// The same practice with another cooling-off time and other contacts, from now on.
    #[must_use]
    pub fn changed(&self, cooling_off_ms: u64, contacts: Vec<String>, now_ms: u64) -> Self {
        Self {
            practice: self.practice.clone(),
            before_ms: self.cooling_off_at(now_ms),
            cooling_off_ms,
            changed_ms: now_ms,
            contacts,
        }
    }
}

impl Standing {
    /// Puts a proposal and what answers it together.
    #[must_use]
    pub fn of(
        row: AgreementRow,
        countersigned: Option<&Countersignature>,
        (provider, word): (Option<&EmergencyProvider>, Option<&KeeperWord>),
    ) -> Self {
        let accepted = match row.register {
            None => countersigned.and_then(|countersigned| countersigned.of(&row)),
            // Why the provider and no countersignature: it is the register that speaks for it, by its keeper's answer,
            // and a provider that came later than the version accepted, or was taken off, is not spoken for.
            Some(version) => provider
                .filter(|provider| provider.ods == row.organisation && provider.since <= version)
                .zip(word.filter(|word| word.answers(&row)))
                .map(|(provider, word)| Accepted {
                    by: format!("register:{}", word.client),
                    signer: format!("register of emergency providers, version {version}"),
                    at_ms: word.at_ms,
                    ended_ms: provider.until.map(|_| provider.until_ms.unwrap_or(0)),
                }),
        };
        Self { row, accepted }
    }

    /// When the cooling-off time is over.
    #[must_use]
    pub fn cooled_ms(&self) -> u64 {
        self.accepted.as_ref().map_or(u64::MAX, |accepted| {
            accepted.at_ms.saturating_add(self.row.cooling_ms)
        })
    }

    /// From when on nothing is released under it any more.
    #[must_use]
    pub fn until_ms(&self) -> u64 {
        let ended = self
            .accepted
            .as_ref()
            .and_then(|accepted| accepted.ended_ms);
        [self.row.withdrawn_ms, ended]
            .into_iter()
            .flatten()
            .fold(self.row.until_ms, u64::min)
    }

    /// What it is at this time.
    #[must_use]
    pub fn state(&self, now_ms: u64) -> State {
        let taken_back = self.until_ms() < self.row.until_ms;
        match &self.accepted {
            _ if taken_back && self.until_ms() <= now_ms => State::Withdrawn,
            _ if self.row.until_ms <= now_ms => State::Expired,
            None => State::Proposed,
            Some(_) if now_ms < self.cooled_ms() => State::Cooling,
            Some(_) if now_ms < self.row.from_ms => State::Accepted,
            Some(_) => State::InForce,
        }
    }

    /// As the policy reads it; the policy checks every member again.
    ///
    /// # Errors
    /// The member that is not in its vocabulary.
    pub fn agreement(&self) -> Result<Agreement, StatementError> {
        let by = self.accepted.as_ref().map_or("", |accepted| &accepted.by);
        self.row.agreement(
            &self.row.hand().certificate,
            by,
            self.cooled_ms(),
            self.until_ms(),
        )
    }
}

/// Addresses of those who are told.
pub(super) fn contacts(all: &[String]) -> Result<(), StatementError> {
    let plain = |contact: &String| {
        (1..=120).contains(&contact.len()) && contact.bytes().all(|b| b.is_ascii_graphic())
    };
    if all.len() > CONTACTS_MAX || !all.iter().all(plain) {
        return Err(wrong(
            "contacts",
            "must be at most 8 addresses of 1 to 120 printable characters without spaces",
        ));
    }
    Ok(())
}

/// A reference stands in a path and in leaves: it is a code, not a text.
pub(crate) fn reference(text: &str) -> Result<(), StatementError> {
    let code = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(code) {
        Ok(())
    } else {
        Err(wrong("reference", "must be 1 to 64 letters, digits, - . _"))
    }
}

/// A person who signs is named.
pub(super) fn signer(text: &str) -> Result<(), StatementError> {
    let named = text.chars().filter(|c| c.is_alphabetic()).count() >= 2;
    if named && text.chars().count() <= 120 && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(wrong(
            "signer",
            "must name the person who signs, in at most 120 characters",
        ))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn proposal() -> AgreementRow {
        AgreementRow {
            reference: "a-1".into(),
            practice: "A81001".into(),
            organisation: "RJ1".into(),
            purposes: vec!["TREAT".into()],
            categories: vec!["problems".into()],
            labels: Vec::new(),
            accepts_asserted: false,
            emergency_overrides_objection: false,
            from_ms: 0,
            until_ms: 1000 * HOUR,
            signer: "Dr Ada Prior".into(),
            hand: None,
            proposed_ms: HOUR,
            cooling_ms: 24 * HOUR,
            withdrawn_ms: None,
            register: None,
        }
    }

    fn countersigned(row: &AgreementRow) -> Countersignature {
        Countersignature {
            reference: row.reference.clone(),
            practice: row.practice.clone(),
            organisation: row.organisation.clone(),
            terms: row.terms(),
            signer: "Ola Berg".into(),
            hand: None,
            accepted_ms: 2 * HOUR,
            ended_ms: None,
        }
    }

    #[test]
    fn it_goes_from_proposed_to_in_force_and_ends() {
        let row = proposal();
        let accepted = Standing::of(row.clone(), Some(&countersigned(&row)), (None, None));
        for (hour, state) in [
            (3, State::Cooling),
            (26, State::InForce),
            (1000, State::Expired),
        ] {
            assert_eq!(accepted.state(hour * HOUR), state, "{hour}");
        }
        assert_eq!(accepted.agreement().unwrap().cooled_ms, 26 * HOUR);
        let alone = Standing::of(row.clone(), None, (None, None));
        assert_eq!(alone.state(30 * HOUR), State::Proposed);
        assert_eq!(alone.agreement().unwrap().accepted_by, "");
        let withdrawn = AgreementRow {
            withdrawn_ms: Some(40 * HOUR),
            ..row
        };
        let withdrawn = Standing::of(
            withdrawn.clone(),
            Some(&countersigned(&withdrawn)),
            (None, None),
        );
        assert_eq!(withdrawn.state(40 * HOUR), State::Withdrawn);
        assert_eq!(withdrawn.agreement().unwrap().until_ms, 40 * HOUR);
    }

    #[test]
    fn an_acceptance_of_other_terms_accepts_nothing() {
        let row = proposal();
        let countersignature = countersigned(&row);
        let more = AgreementRow {
            labels: vec!["HIV".into()],
            ..row
        };
        let standing = Standing::of(more, Some(&countersignature), (None, None));
        assert_eq!(standing.state(30 * HOUR), State::Proposed);
    }

    #[test]
    fn a_provider_acts_from_the_version_that_was_accepted_once_the_keeper_answered_until_it_is_taken_off()
     {
        let row = AgreementRow {
            register: Some(2),
            purposes: vec!["BTG".into()],
            ..proposal()
        };
        let provider = |since, until: Option<u64>| EmergencyProvider {
            ods: "RJ1".into(),
            since,
            until,
            until_ms: until.map(|_| 29 * HOUR),
        };
        let word = |row: &AgreementRow| KeeperWord {
            practice: row.practice.clone(),
            reference: row.reference.clone(),
            version: 2,
            terms: row.emergency_terms(),
            client: "admin-1".into(),
            at_ms: 3 * HOUR,
        };
        let answered = word(&row);
        let state = |provider: Option<&EmergencyProvider>, word: Option<&KeeperWord>, hour| {
            Standing::of(row.clone(), None, (provider, word)).state(hour * HOUR)
        };
        let named = provider(2, None);
        assert_eq!(state(Some(&named), Some(&answered), 26), State::Cooling);
        assert_eq!(state(Some(&named), Some(&answered), 30), State::InForce);
        assert_eq!(state(Some(&named), None, 30), State::Proposed);
        let later = provider(3, None);
        assert_eq!(state(Some(&later), Some(&answered), 30), State::Proposed);
        let off = provider(1, Some(3));
        assert_eq!(state(Some(&off), Some(&answered), 30), State::Withdrawn);
        assert_eq!(state(Some(&off), Some(&answered), 28), State::InForce);
        assert_eq!(state(None, Some(&answered), 30), State::Proposed);
        // An answer to other terms, another version or another practice's acceptance is none to this.
        let spoil: [fn(&mut KeeperWord); 4] = [
            |it| it.terms = "0".repeat(64),
            |it| it.version = 1,
            |it| it.practice = "B82617".into(),
            |it| it.reference = "a-2".into(),
        ];
        for spoil in spoil {
            let mut other = answered.clone();
            spoil(&mut other);
            assert_eq!(state(Some(&named), Some(&other), 30), State::Proposed);
        }
        // A countersignature does not stand in for the register.
        let own = Standing::of(row.clone(), Some(&countersigned(&row)), (None, None));
        assert_eq!(own.state(30 * HOUR), State::Proposed);
    }

    #[test]
    fn a_shorter_cooling_off_time_has_to_cool_itself() {
        let practice = Ods::try_from("A81001").unwrap();
        let shorter = PracticeSettings::of(&practice).changed(0, Vec::new(), 100 * HOUR);
        assert_eq!(shorter.cooling_off_at(100 * HOUR), COOLING_OFF_MS);
        assert_eq!(shorter.cooling_off_at(124 * HOUR), 0);
        // Said twice it is not sooner.
        let again = shorter.changed(0, Vec::new(), 101 * HOUR);
        assert_eq!(again.cooling_off_at(124 * HOUR), COOLING_OFF_MS);
        let longer = shorter.changed(48 * HOUR, Vec::new(), 200 * HOUR);
        assert_eq!(longer.cooling_off_at(200 * HOUR), 48 * HOUR);
    }
}
