//! A search of one patient's records, asked of cards: `category`, `code`, `date`, and of `$everything`
//! `_type`, `start`, `end`; with `_count` and `_cursor`.
//!
//! There is no search across patients. A parameter that is not served is an error that names it, never
//! ignored: a search that quietly asks less finds what was not asked for. FHIR R4 §3.1.1 gives the meanings.

use super::card::Card;
use super::criterion::{DateTest, Prefix, Test, dates, tokens};
use super::moment::Moment;
use super::resource::ResourceType;
use super::subject::NHS_NUMBER_SYSTEMS;
use policy::words::NhsNumber;
use std::fmt;

/// How many records a page has unless asked.
pub const COUNT_DEFAULT: usize = 100;
/// How many records a page may have: a ticket holds no more keys.
pub const COUNT_MAX: usize = 200;
const PARAMETERS_MAX: usize = 32;
const VALUE_BYTES_MAX: usize = 2048;

/// A search that every card can answer.
#[derive(Debug, Clone)]
pub struct Query {
    kind: Option<ResourceType>,
    patient: NhsNumber,
    tests: Vec<Test>,
    count: usize,
    cursor: Option<String>,
    canonical: String,
}

/// A rule of searches; its `Display` is the rule in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each rule stands in its message")]
pub enum QueryRule {
    #[error("this parameter or modifier is not served")]
    Unknown,
    #[error("this parameter stands once")]
    Once,
    #[error("a search is of one patient: the parameter is required")]
    Required,
    #[error(
        "an NHS number, Patient/NHS number or https://fhir.nhs.uk/Id/nhs-number|NHS number, with the right check digit"
    )]
    Patient,
    #[error("code, system|code, |code or system|, several with commas")]
    Token,
    #[error(
        "a date such as 2019, 2019-05, 2019-05-05 or 2019-05-05T10:00:00Z, after one of eq ne lt gt le ge sa eb or nothing; a plus sign is sent as %2B"
    )]
    Date,
    #[error("one or more resource types with commas")]
    Type,
    #[error("a whole number from 1 to 200")]
    Count,
    #[error("a text that an answer's next link gave")]
    Cursor,
    #[error("a search has at most 32 parameters of at most 2048 bytes")]
    TooMuch,
}

/// Which parameter breaks which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// The parameter.
    pub parameter: String,
    /// The rule.
    pub rule: QueryRule,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.parameter, self.rule)
    }
}

impl std::error::Error for QueryError {}

impl Query {
    /// Reads `GET /fhir/TYPE?…`. The pairs are percent-decoded.
    ///
    /// # Errors
    /// The first parameter that is unknown, repeated where it must not be, missing or badly formed.
    pub fn parse(kind: &ResourceType, parameters: &[(String, String)]) -> Result<Self, QueryError> {
        Self::read(Some(kind.clone()), None, parameters)
    }

    /// Reads `GET /fhir/Patient/NHS/$everything?…`.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub fn everything(
        patient: NhsNumber,
        parameters: &[(String, String)],
    ) -> Result<Self, QueryError> {
        Self::read(None, Some(patient), parameters)
    }

    fn read(
        kind: Option<ResourceType>,
        patient: Option<NhsNumber>,
        parameters: &[(String, String)],
    ) -> Result<Self, QueryError> {
        let is_everything = kind.is_none();
        let mut draft = Draft {
            patient,
            tests: Vec::new(),
            count: None,
            cursor: None,
        };
        for (name, value) in parameters {
            let wrong = |rule| QueryError {
                parameter: shown(name),
                rule,
            };
            if parameters.len() > PARAMETERS_MAX || value.len() > VALUE_BYTES_MAX {
                return Err(wrong(QueryRule::TooMuch));
            }
            draft.add(name, value, is_everything).map_err(wrong)?;
        }
        let patient = draft.patient.ok_or_else(|| QueryError {
            parameter: "patient".to_owned(),
            rule: QueryRule::Required,
        })?;
        let count = draft.count.unwrap_or(COUNT_DEFAULT);
        let canonical = canonical(kind.as_ref(), parameters, count);
        Ok(Self {
            kind,
            patient,
            tests: draft.tests,
            count,
            cursor: draft.cursor,
            canonical,
        })
    }

    /// The type that is searched; `None` for `$everything`.
    #[must_use]
    pub fn kind(&self) -> Option<&ResourceType> {
        self.kind.as_ref()
    }

    /// Whose records are searched.
    #[must_use]
    pub fn patient(&self) -> &NhsNumber {
        &self.patient
    }

    /// How many records a page has at most.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Where the page begins, as the vault wrote it.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The search as one line of ASCII for the ledger: sorted, and without the patient.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Whether a record with this card is what was asked for. Where a card had no room for all codes, a test
    /// of codes that finds none holds: a search may find too much, never too little.
    #[must_use]
    pub fn matches(&self, card: &Card) -> bool {
        self.kind.as_ref().is_none_or(|kind| *kind == card.kind)
            && self.tests.iter().all(|test| test.holds(card))
    }
}

struct Draft {
    patient: Option<NhsNumber>,
    tests: Vec<Test>,
    count: Option<usize>,
    cursor: Option<String>,
}

impl Draft {
    fn add(&mut self, name: &str, value: &str, is_everything: bool) -> Result<(), QueryRule> {
        match name {
            "patient" if !is_everything => once(&mut self.patient, patient(value)?),
            "_count" => {
                let count = value
                    .parse()
                    .ok()
                    .filter(|count| (1..=COUNT_MAX).contains(count) && !value.starts_with('+'));
                once(&mut self.count, count.ok_or(QueryRule::Count)?)
            }
            "_cursor" => {
                let shaped = (1..=256).contains(&value.len())
                    && value
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                once(
                    &mut self.cursor,
                    if shaped {
                        value.to_owned()
                    } else {
                        return Err(QueryRule::Cursor);
                    },
                )
            }
            "code" if !is_everything => self.test(Test::Code(tokens(value)?)),
            "category" if !is_everything => self.test(Test::Category(tokens(value)?)),
            "date" if !is_everything => self.test(Test::Date(dates(value)?)),
            "_type" if is_everything => {
                let kinds = value
                    .split(',')
                    .map(ResourceType::try_from)
                    .collect::<Result<_, _>>();
                self.test(Test::Kind(kinds.map_err(|_| QueryRule::Type)?))
            }
            "start" | "end" if is_everything => {
                let prefix = if name == "start" {
                    Prefix::Ge
                } else {
                    Prefix::Le
                };
                self.test(Test::Within(DateTest {
                    prefix,
                    moment: Moment::parse(value).ok_or(QueryRule::Date)?,
                }))
            }
            _ => Err(QueryRule::Unknown),
        }
    }

    fn test(&mut self, test: Test) -> Result<(), QueryRule> {
        self.tests.push(test);
        Ok(())
    }
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), QueryRule> {
    if place.replace(value).is_some() {
        Err(QueryRule::Once)
    } else {
        Ok(())
    }
}

fn patient(value: &str) -> Result<NhsNumber, QueryRule> {
    let number = match value.split_once('|') {
        Some((system, number)) if NHS_NUMBER_SYSTEMS.contains(&system) => number,
        Some(_) => return Err(QueryRule::Patient),
        None => value.strip_prefix("Patient/").unwrap_or(value),
    };
    NhsNumber::try_from(number).map_err(|_| QueryRule::Patient)
}

/// A foreign parameter's name, short and printable.
fn shown(name: &str) -> String {
    name.chars()
        .take(64)
        .map(|c| if c.is_ascii_graphic() { c } else { '?' })
        .collect()
}

fn canonical(kind: Option<&ResourceType>, parameters: &[(String, String)], count: usize) -> String {
    let count = count.to_string();
    let kept = parameters
        .iter()
        .filter(|(name, _)| name != "patient" && name != "_count");
    let mut pairs: Vec<(&str, &str)> = kept
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    pairs.push(("_count", &count));
    pairs.sort_unstable();
    // Why the fallback is empty: writing pairs of texts cannot fail.
    let query = serde_urlencoded::to_string(&pairs).unwrap_or_default();
    format!(
        "{}?{query}",
        kind.map_or("Patient/$everything", ResourceType::as_str)
    )
}
