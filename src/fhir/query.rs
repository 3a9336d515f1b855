//! A search of one patient's records, asked of cards: `category`, `code`, `date`, and of `$everything`
//! `_type`, `start`, `end`; with `_count` and `_cursor`.
//!
//! There is no search across patients. A parameter that is not served is an error that names it, never
//! ignored: a search that quietly asks less finds what was not asked for. FHIR R4 §3.1.1 gives the meanings.

use super::card::{Card, Code};
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
    #[error("an NHS number, Patient/NHS number or https://fhir.nhs.uk/Id/nhs-number|NHS number, with the right check digit")]
    Patient,
    #[error("code, system|code, |code or system|, several with commas")]
    Token,
    #[error("a date such as 2019, 2019-05, 2019-05-05 or 2019-05-05T10:00:00Z, after one of eq ne lt gt le ge sa eb or nothing; a plus sign is sent as %2B")]
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

#[derive(Debug, Clone)]
enum Test {
    Code(Vec<Token>),
    Category(Vec<Token>),
    Date(Vec<DateTest>),
    Kind(Vec<ResourceType>),
    /// `$everything`'s `start` and `end`: what has no date is within.
    Within(DateTest),
}

/// `[system|]code`.
#[derive(Debug, Clone)]
struct Token {
    /// `None`: any; `Some(None)`: a code without a system.
    system: Option<Option<String>>,
    /// `None`: any code of the system.
    code: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Prefix {
    Eq,
    Ne,
    Lt,
    Gt,
    Le,
    Ge,
    Sa,
    Eb,
}

#[derive(Debug, Clone)]
struct DateTest {
    prefix: Prefix,
    moment: Moment,
}

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
    pub fn everything(patient: NhsNumber, parameters: &[(String, String)]) -> Result<Self, QueryError> {
        Self::read(None, Some(patient), parameters)
    }

    fn read(kind: Option<ResourceType>, patient: Option<NhsNumber>, parameters: &[(String, String)]) -> Result<Self, QueryError> {
        let is_everything = kind.is_none();
        let mut draft = Draft { patient, tests: Vec::new(), count: None, cursor: None };
        for (name, value) in parameters {
            let wrong = |rule| QueryError { parameter: shown(name), rule };
            if parameters.len() > PARAMETERS_MAX || value.len() > VALUE_BYTES_MAX {
                return Err(wrong(QueryRule::TooMuch));
            }
            draft.add(name, value, is_everything).map_err(wrong)?;
        }
        let patient = draft.patient.ok_or_else(|| QueryError { parameter: "patient".to_owned(), rule: QueryRule::Required })?;
        let count = draft.count.unwrap_or(COUNT_DEFAULT);
        let canonical = canonical(kind.as_ref(), parameters, count);
        Ok(Self { kind, patient, tests: draft.tests, count, cursor: draft.cursor, canonical })
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
        self.kind.as_ref().is_none_or(|kind| *kind == card.kind) && self.tests.iter().all(|test| test.holds(card))
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
                let count = value.parse().ok().filter(|count| (1..=COUNT_MAX).contains(count) && !value.starts_with('+'));
                once(&mut self.count, count.ok_or(QueryRule::Count)?)
            }
            "_cursor" => {
                let shaped = (1..=256).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                once(&mut self.cursor, if shaped { value.to_owned() } else { return Err(QueryRule::Cursor) })
            }
            "code" if !is_everything => self.test(Test::Code(tokens(value)?)),
            "category" if !is_everything => self.test(Test::Category(tokens(value)?)),
            "date" if !is_everything => self.test(Test::Date(split(value, ',').map(|text| date(&text)).collect::<Result<_, _>>()?)),
            "_type" if is_everything => {
                let kinds = value.split(',').map(ResourceType::try_from).collect::<Result<_, _>>();
                self.test(Test::Kind(kinds.map_err(|_| QueryRule::Type)?))
            }
            "start" | "end" if is_everything => {
                let prefix = if name == "start" { Prefix::Ge } else { Prefix::Le };
                self.test(Test::Within(DateTest { prefix, moment: Moment::parse(value).ok_or(QueryRule::Date)? }))
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
    if place.replace(value).is_some() { Err(QueryRule::Once) } else { Ok(()) }
}

fn patient(value: &str) -> Result<NhsNumber, QueryRule> {
    let number = match value.split_once('|') {
        Some((system, number)) if NHS_NUMBER_SYSTEMS.contains(&system) => number,
        Some(_) => return Err(QueryRule::Patient),
        None => value.strip_prefix("Patient/").unwrap_or(value),
    };
    NhsNumber::try_from(number).map_err(|_| QueryRule::Patient)
}

fn tokens(value: &str) -> Result<Vec<Token>, QueryRule> {
    split(value, ',').map(|text| token(&text)).collect()
}

fn token(text: &str) -> Result<Token, QueryRule> {
    let mut parts = split(text, '|').map(|part| unescape(&part));
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let some = |text: String| (!text.is_empty()).then_some(text);
    let token = match second {
        None => Token { system: None, code: some(first) },
        Some(code) => Token { system: Some(some(first)), code: some(code) },
    };
    let says_something = token.code.is_some() || matches!(token.system, Some(Some(_)));
    if third.is_none() && says_something { Ok(token) } else { Err(QueryRule::Token) }
}

fn date(text: &str) -> Result<DateTest, QueryRule> {
    let (prefix, rest) = match text.split_at_checked(2) {
        Some(("eq", rest)) => (Prefix::Eq, rest),
        Some(("ne", rest)) => (Prefix::Ne, rest),
        Some(("lt", rest)) => (Prefix::Lt, rest),
        Some(("gt", rest)) => (Prefix::Gt, rest),
        Some(("le", rest)) => (Prefix::Le, rest),
        Some(("ge", rest)) => (Prefix::Ge, rest),
        Some(("sa", rest)) => (Prefix::Sa, rest),
        Some(("eb", rest)) => (Prefix::Eb, rest),
        _ => (Prefix::Eq, text),
    };
    Ok(DateTest { prefix, moment: Moment::parse(rest).ok_or(QueryRule::Date)? })
}

/// Splits at a separator that no backslash stands before (R4 §3.1.1.4.1); the escapes stay.
fn split(text: &str, separator: char) -> impl Iterator<Item = String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == separator && !escaped {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    parts.into_iter()
}

fn unescape(text: &str) -> String {
    let mut escaped = false;
    text.chars()
        .filter(|c| {
            escaped = *c == '\\' && !escaped;
            !escaped
        })
        .collect()
}

/// A foreign parameter's name, short and printable.
fn shown(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

fn canonical(kind: Option<&ResourceType>, parameters: &[(String, String)], count: usize) -> String {
    let count = count.to_string();
    let kept = parameters.iter().filter(|(name, _)| name != "patient" && name != "_count");
    let mut pairs: Vec<(&str, &str)> = kept.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    pairs.push(("_count", &count));
    pairs.sort_unstable();
    // Why the fallback is empty: writing pairs of texts cannot fail.
    let query = serde_urlencoded::to_string(&pairs).unwrap_or_default();
    format!("{}?{query}", kind.map_or("Patient/$everything", ResourceType::as_str))
}

impl Test {
    fn holds(&self, card: &Card) -> bool {
        match self {
            Self::Code(tokens) => card.overflow || any(tokens, &card.codes),
            Self::Category(tokens) => card.overflow || any(tokens, &card.categories),
            Self::Date(tests) => tests.iter().any(|test| test.holds(card).unwrap_or(false)),
            Self::Kind(kinds) => kinds.contains(&card.kind),
            Self::Within(test) => test.holds(card).unwrap_or(true),
        }
    }
}

fn any(tokens: &[Token], codes: &[Code]) -> bool {
    tokens.iter().any(|token| codes.iter().any(|code| token.is(code)))
}

impl Token {
    fn is(&self, code: &Code) -> bool {
        self.code.as_ref().is_none_or(|own| *own == code.code) && self.system.as_ref().is_none_or(|own| own.as_deref() == code.system.as_deref())
    }
}

impl DateTest {
    /// `None` where the record has no date. A date without a zone is compared with the clock on the wall.
    fn holds(&self, card: &Card) -> Option<bool> {
        let span = card.dates?;
        let ((from, until), (low, high)) = match self.moment.offset_min {
            Some(_) => (span.utc(), (self.moment.start_utc_ms(), self.moment.end_utc_ms())),
            None => (span.wall(), (self.moment.start_ms, self.moment.end_ms)),
        };
        let is_inside = low <= from && until <= high;
        Some(match self.prefix {
            Prefix::Eq => is_inside,
            Prefix::Ne => !is_inside,
            Prefix::Gt => until > high,
            Prefix::Lt => from < low,
            Prefix::Ge => until > high || is_inside,
            Prefix::Le => from < low || is_inside,
            Prefix::Sa => from >= high,
            Prefix::Eb => until <= low,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::super::moment::Span;
    use super::*;
    use policy::words::Category;

    const NHS: &str = "9990000018";

    fn kind() -> ResourceType {
        "Observation".try_into().unwrap()
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        serde_urlencoded::from_str(text).unwrap()
    }

    fn query(text: &str) -> Result<Query, QueryError> {
        Query::parse(&kind(), &pairs(&format!("patient={NHS}&{text}")))
    }

    fn card(date: &str) -> Card {
        let code = |system: Option<&'static str>, code: &str| Code { system: system.map(Into::into), code: code.into() };
        Card {
            kind: kind(),
            id: None,
            full_url: None,
            category: Category::Observations,
            labels: Default::default(),
            codes: vec![code(Some("http://loinc.org"), "8480-6"), code(None, "a,b|c")],
            categories: vec![code(Some("s"), "vital-signs")],
            dates: Moment::parse(date).map(Span::from),
            last_updated_ms: None,
            overflow: false,
        }
    }

    #[test]
    fn tokens_match_as_fhir_says() {
        let found = |text: &str| query(text).unwrap().matches(&card("2019"));
        for text in ["code=8480-6", "code=http://loinc.org|8480-6", "code=http://loinc.org|", "code=x,8480-6", "code=|a\\,b\\|c", "category=vital-signs", "", "code=8480-6&category=s|vital-signs"] {
            assert!(found(text), "{text}");
        }
        for text in ["code=8480", "code=http://snomed.info/sct|8480-6", "code=|8480-6", "code=8480-6&code=x", "category=s|laboratory", "date=2020"] {
            assert!(!found(text), "{text}");
        }
        let other = Card { kind: "Condition".try_into().unwrap(), ..card("2019") };
        assert!(!query("").unwrap().matches(&other));
        let crowded = Card { overflow: true, ..card("2019") };
        assert!(query("code=whatever").unwrap().matches(&crowded) && !query("date=2020").unwrap().matches(&crowded));
    }

    #[test]
    fn dates_match_as_fhir_says() {
        let day = "2019-05-05";
        let table = [
            ("2019", day, "eq ge le"),
            (day, day, "eq ge le"),
            ("2019-05-05T12:00:00", day, "ne gt lt ge le"),
            ("2019-05-04", day, "ne gt ge sa"),
            ("2019-05-06", day, "ne lt le eb"),
            ("2018", day, "ne gt ge sa"),
            // A stay over new year.
            ("2019", "2018-12..2019-01", "ne lt le"),
            ("2018-12", "2018-12..2019-01", "ne gt ge"),
            ("2019", "2019-12..", "ne gt ge"),
            ("2019", "..2019-02", "ne lt le"),
        ];
        for (asked, happened, holds) in table {
            let mut card = card(happened);
            if let Some((from, until)) = happened.split_once("..") {
                card.dates = Some(Span::between(Moment::parse(from), Moment::parse(until)));
            }
            for prefix in ["eq", "ne", "lt", "gt", "le", "ge", "sa", "eb"] {
                let found = query(&format!("date={prefix}{asked}")).unwrap().matches(&card);
                assert_eq!(found, holds.contains(prefix), "{prefix}{asked} of {happened}");
            }
        }
        let undated = Card { dates: None, ..card(day) };
        assert!(!query("date=ne2019").unwrap().matches(&undated));
        assert!(query("date=2018,2019").unwrap().matches(&card(day)));
        assert!(!query("date=ge2019&date=lt2019-03").unwrap().matches(&card(day)));
    }

    #[test]
    fn a_day_is_the_writers_day_and_an_instant_is_an_instant() {
        let written = card("2018-06-01T00:00:00+01:00");
        assert!(query("date=2018-06-01").unwrap().matches(&written));
        assert!(!query("date=2018-05-31").unwrap().matches(&written));
        assert!(query("date=2018-05-31T23:00:00Z").unwrap().matches(&written));
        assert!(query("date=2018-06-01T00:00:00%2B01:00").unwrap().matches(&written));
    }

    #[test]
    fn what_is_not_served_is_named() {
        let refused = |text: &str| {
            let error = query(text).unwrap_err();
            (error.parameter, error.rule)
        };
        for name in ["subject", "code:text", "_format", "start", "_type", "identifier", "_include", "patient.identifier"] {
            assert_eq!(refused(&format!("{name}=x")), (name.to_owned(), QueryRule::Unknown));
        }
        assert_eq!(refused("date=ap2019"), ("date".into(), QueryRule::Date));
        assert_eq!(refused("date=2019-02-30").1, QueryRule::Date);
        assert_eq!(refused("date=2019-05-05T10:00:00+01:00").1, QueryRule::Date);
        for value in ["", "|", "a|b|c", "x,"] {
            assert_eq!(refused(&format!("code={value}")).1, QueryRule::Token, "{value}");
        }
        for value in ["0", "201", "-1", "%2B5", "x", ""] {
            assert_eq!(refused(&format!("_count={value}")).1, QueryRule::Count, "{value}");
        }
        assert_eq!(refused("_cursor=a.b").1, QueryRule::Cursor);
        assert_eq!(refused("_count=5&_count=5").1, QueryRule::Once);
        assert_eq!(refused(&format!("patient={NHS}")).1, QueryRule::Once);
        assert_eq!(refused(&format!("code={}", "x".repeat(3000))).1, QueryRule::TooMuch);
        assert_eq!(refused(&"code=x&".repeat(40)).1, QueryRule::TooMuch);
        let missing = Query::parse(&kind(), &[]).unwrap_err();
        assert_eq!((missing.parameter.as_str(), missing.rule), ("patient", QueryRule::Required));
        for wrong in ["9990000019", "Patient/1", "Group/9990000018", "urn:x|9990000018", ""] {
            let error = Query::parse(&kind(), &[("patient".into(), wrong.into())]).unwrap_err();
            assert_eq!(error.rule, QueryRule::Patient, "{wrong}");
            assert!(wrong.is_empty() || !error.to_string().contains(wrong));
        }
    }

    #[test]
    fn the_ledgers_line_is_the_same_for_the_same_search_and_names_nobody() {
        let first = query("date=ge2019&code=http://loinc.org|8480-6&_count=5").unwrap();
        let second = Query::parse(&kind(), &pairs(&format!("_count=5&code=http://loinc.org|8480-6&patient=Patient/{NHS}&date=ge2019"))).unwrap();
        assert_eq!(first.canonical(), second.canonical());
        assert_eq!(first.canonical(), "Observation?_count=5&code=http%3A%2F%2Floinc.org%7C8480-6&date=ge2019");
        assert_eq!((first.count(), query("").unwrap().count()), (5, COUNT_DEFAULT));
        assert_eq!(query("_cursor=Ab-_9").unwrap().cursor(), Some("Ab-_9"));
    }

    #[test]
    fn everything_is_narrowed_by_type_and_time() {
        let everything = |text: &str| Query::everything(NHS.try_into().unwrap(), &pairs(text));
        let query = everything("_type=Observation,Condition&start=2019-01-01&end=2019-12-31").unwrap();
        assert_eq!(query.kind(), None);
        assert!(query.canonical().starts_with("Patient/$everything?_count=100"));
        assert!(query.matches(&card("2019-05-05")) && !query.matches(&card("2020-05-05")) && !query.matches(&card("2018-05-05")));
        assert!(query.matches(&Card { dates: None, ..card("2019") }));
        assert!(!query.matches(&Card { kind: "Encounter".try_into().unwrap(), ..card("2019-05-05") }));
        assert_eq!(everything(&format!("patient={NHS}")).unwrap_err().rule, QueryRule::Unknown);
        assert_eq!(everything("_type=x").unwrap_err().rule, QueryRule::Type);
    }
}
