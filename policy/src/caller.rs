//! Who is asking: a party that proved who it is, and what its access token said.
//!
//! Nothing is checked here: a [`Caller`] *is* the evidence that certificate and token were checked
//! and belong together. It is made in one place only, by [`Caller::assertion`]; a handler that has
//! no `Caller` cannot build an `Ask`.

use std::collections::BTreeSet;
use std::fmt;

use crate::words::{
    Category, ClientId, ClientRole, NhsNumber, Ods, PractitionerId, Purpose, RelationKind,
};

/// An authenticated party: client certificate and access token, bound together.
#[derive(Clone)]
pub struct Caller {
    client: ClientId,
    role: ClientRole,
    organisations: Vec<Ods>,
    certificate: [u8; 32],
    token: Option<Token>,
}

impl Caller {
    /// Vouches that this client proved possession of the certificate with this SHA-256 over mutual
    /// TLS, that the token (if any) was verified and is bound to that certificate, and that the
    /// organisations are those for which the client is registered.
    pub fn assertion(
        client: ClientId,
        role: ClientRole,
        organisations: Vec<Ods>,
        certificate: [u8; 32],
        token: Option<Token>,
    ) -> Caller {
        Caller {
            client,
            role,
            organisations,
            certificate,
            token,
        }
    }

    /// Nobody: a party that is only supposed to ask. It vouches for nothing and never leaves this crate, so no
    /// `Ask` of it can be decided into a verdict.
    pub(crate) fn supposed(
        client: ClientId,
        role: ClientRole,
        organisations: Vec<Ods>,
        token: Option<Token>,
    ) -> Caller {
        Caller {
            client,
            role,
            organisations,
            certificate: [0; 32],
            token,
        }
    }

    /// Which registered client this is.
    pub fn client(&self) -> &ClientId {
        &self.client
    }

    /// What kind of system it was registered as.
    pub fn role(&self) -> ClientRole {
        self.role
    }

    /// The organisations it acts for.
    pub fn organisations(&self) -> &[Ods] {
        &self.organisations
    }

    /// SHA-256 of its certificate.
    pub fn certificate(&self) -> &[u8; 32] {
        &self.certificate
    }

    /// What its access token said, where it brought one.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Whether it acts for this organisation.
    pub fn acts_for(&self, organisation: &Ods) -> bool {
        self.organisations.contains(organisation)
    }
}

/// What a verified access token said: authenticated, and bound to the caller's certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token's own identifier.
    pub jti: String,
    /// When it was issued.
    pub issued_ms: u64,
    /// From when on it is dead.
    pub expires_ms: u64,
    /// What it may be used for.
    pub scope: Scope,
}

/// What a token is for: exactly one subject.
#[derive(Clone, PartialEq, Eq)]
pub enum Scope {
    /// To read one patient's records for one purpose.
    Records(RecordScope),
    /// To deposit records of a practice.
    Deposit {
        /// The practice whose records they are.
        practice: Ods,
        /// The patient meant where the bytes name none.
        patient: Option<NhsNumber>,
    },
    /// To pass on what one patient decided about sharing.
    Consent {
        /// The practice that passes it on.
        practice: Ods,
        /// The patient who decided.
        patient: NhsNumber,
    },
    /// To pass on objections of many patients, numbered, as a practice's system or the keeper of a list does.
    Objections {
        /// Whose feed of objections it is.
        practice: Ods,
    },
    /// To state one side of sharing agreements: the practice's, or the organisation's.
    Agreement {
        /// Whose side.
        of: Side,
    },
    /// To say who cares for one patient.
    Relationship {
        /// Who says so.
        of: Side,
        /// The patient cared for.
        patient: NhsNumber,
    },
    /// To see who asked for one patient's records.
    History(HistoryScope),
}

/// In whose name something is said that a practice and another organisation both have a say in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// The practice's: it shares.
    Practice(Ods),
    /// The organisation's: it asks.
    Organisation(Ods),
}

impl Side {
    /// Whose code it is.
    pub fn ods(&self) -> &Ods {
        match self {
            Side::Practice(ods) | Side::Organisation(ods) => ods,
        }
    }

    /// What kind of party it is, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Side::Practice(_) => "practice",
            Side::Organisation(_) => "organisation",
        }
    }
}

/// One patient's access history, and for whom.
#[derive(Clone, PartialEq, Eq)]
pub struct HistoryScope {
    /// Whose.
    pub patient: NhsNumber,
    /// Whether whoever asks is that patient, as the portal established; meaningless for auditors.
    pub own: bool,
    /// When that patient was born, as the portal established.
    pub born: Option<Born>,
}

/// A day of birth.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Born {
    year: u16,
    month: u8,
    day: u8,
}

impl Born {
    /// From `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Born> {
        let (year, rest) = text.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        let digits =
            |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
            return None;
        }
        let (year, month, day) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
        let fits = year >= 1850 && (1..=12).contains(&month) && (1..=31).contains(&day);
        fits.then_some(Born { year, month, day })
    }

    /// Completed years at that time (UTC); `None` before birth.
    pub fn age_years(self, now_ms: u64) -> Option<u16> {
        let (year, month, day) = civil(now_ms / 86_400_000);
        let years = year.checked_sub(self.year)?;
        if (month, day) < (self.month, self.day) {
            years.checked_sub(1)
        } else {
            Some(years)
        }
    }
}

impl fmt::Display for Born {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// The Gregorian date of a day since 1970: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil(days: u64) -> (u16, u8, u8) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let small = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    (
        u16::try_from(year).unwrap_or(u16::MAX),
        small(month),
        small(day),
    )
}

/// One patient, one purpose, one practitioner.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordScope {
    /// Whose records.
    pub patient: NhsNumber,
    /// What for.
    pub purpose: Purpose,
    /// On whose behalf.
    pub practitioner: PractitionerId,
    /// Which relationship is claimed; the facts have to bear it out.
    pub relationship: Option<RelationClaim>,
    /// To which categories it is cut down; `None` only before a token is issued.
    pub categories: Option<BTreeSet<Category>>,
    /// Why, in an emergency.
    pub reason: Option<String>,
    /// Whether the practitioner acknowledged that an emergency access is reviewed.
    pub acknowledged: bool,
}

/// A relationship that the caller claims.
#[derive(Clone, PartialEq, Eq)]
pub struct RelationClaim {
    /// Of which kind.
    pub kind: RelationKind,
    /// Under which reference, exactly.
    pub reference: String,
}

// Why by hand: a scope holds a patient, references and free text that belong in no log.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scope::Records(_) => "Scope::Records(…)",
            Scope::Deposit { .. } => "Scope::Deposit(…)",
            Scope::Consent { .. } => "Scope::Consent(…)",
            Scope::Objections { .. } => "Scope::Objections(…)",
            Scope::Agreement { .. } => "Scope::Agreement(…)",
            Scope::Relationship { .. } => "Scope::Relationship(…)",
            Scope::History(_) => "Scope::History(…)",
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:?})", self.scope)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({}, {})", self.client, self.role)
    }
}
