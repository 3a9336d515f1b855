//! The conditions of a search: tokens and dates, read from a parameter's value and asked of a card.
//!
//! FHIR R4 §3.1.1.4 (escapes), §3.1.1.4.7 (date), §3.1.1.4.10 (token). A value that is not what its rule says
//! is an error, never a condition that holds for nothing or for everything.

use super::card::{Card, Code};
use super::moment::Moment;
use super::query::QueryRule;
use super::resource::ResourceType;

/// One condition of a search.
#[derive(Debug, Clone)]
pub(super) enum Test {
    Code(Vec<Token>),
    Category(Vec<Token>),
    Date(Vec<DateTest>),
    Kind(Vec<ResourceType>),
    /// `$everything`'s `start` and `end`: what has no date is within.
    Within(DateTest),
}

/// `[system|]code`.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// `None`: any; `Some(None)`: a code without a system.
    system: Option<Option<String>>,
    /// `None`: any code of the system.
    code: Option<String>,
}

/// How a date is compared.
#[derive(Debug, Clone, Copy)]
pub(super) enum Prefix {
    Eq,
    Ne,
    Lt,
    Gt,
    Le,
    Ge,
    Sa,
    Eb,
}

/// A date to compare with.
#[derive(Debug, Clone)]
pub(super) struct DateTest {
    pub(super) prefix: Prefix,
    pub(super) moment: Moment,
}

/// `code`, `system|code`, `|code` or `system|`, with commas between.
pub(super) fn tokens(value: &str) -> Result<Vec<Token>, QueryRule> {
    split(value, ',').map(|text| token(&text)).collect()
}

fn token(text: &str) -> Result<Token, QueryRule> {
    let mut parts = split(text, '|').map(|part| unescape(&part));
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let some = |text: String| (!text.is_empty()).then_some(text);
    let token = match second {
        None => Token {
            system: None,
            code: some(first),
        },
        Some(code) => Token {
            system: Some(some(first)),
            code: some(code),
        },
    };
    let says_something = token.code.is_some() || matches!(token.system, Some(Some(_)));
    if third.is_none() && says_something {
        Ok(token)
    } else {
        Err(QueryRule::Token)
    }
}

/// Dates with their prefixes, with commas between.
pub(super) fn dates(value: &str) -> Result<Vec<DateTest>, QueryRule> {
    split(value, ',').map(|text| date(&text)).collect()
}

/// One date with its prefix.
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
    Ok(DateTest {
        prefix,
        moment: Moment::parse(rest).ok_or(QueryRule::Date)?,
    })
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

impl Test {
    /// Whether a record with this card fulfils it.
    pub(super) fn holds(&self, card: &Card) -> bool {
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
    tokens
        .iter()
        .any(|token| codes.iter().any(|code| token.is(code)))
}

impl Token {
    fn is(&self, code: &Code) -> bool {
        self.code.as_ref().is_none_or(|own| *own == code.code)
            && self
                .system
                .as_ref()
                .is_none_or(|own| own.as_deref() == code.system.as_deref())
    }
}

impl DateTest {
    /// `None` where the record has no date. A date without a zone is compared with the clock on the wall.
    fn holds(&self, card: &Card) -> Option<bool> {
        let span = card.dates?;
        let ((from, until), (low, high)) = match self.moment.offset_min {
            Some(_) => (
                span.utc(),
                (self.moment.start_utc_ms(), self.moment.end_utc_ms()),
            ),
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
