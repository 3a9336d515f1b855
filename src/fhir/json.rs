//! Strict JSON (RFC 8259) over foreign bytes: one pass checks every rule and leaves an index of spans.
//!
//! What is read is never copied: a [`Value`] is a span of the received text, so a record can be kept byte
//! for byte. Nothing is guessed or repaired: no byte order mark, no duplicate member names, no lone
//! surrogates, nothing after the value. Numbers keep their text, so none is too large and none is rounded.
//! A failure names line, column, path and rule; of the text it repeats member names only.

use super::json_reader::{Node, Reader, unescape};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// Arrays and objects may stand inside one another this deep. (The deepest real export seen has 16 levels.)
pub const DEPTH_MAX: usize = 64;
/// A text may have this many bytes.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;
/// A text may have this many values, member names counted: an index costs 16 bytes for each.
pub const VALUES_MAX: usize = 2_000_000;

/// A rule of the JSON reader; its `Display` is the rule in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonRule {
    /// Longer than [`BYTES_MAX`].
    #[error("a body has at most 16777216 bytes")]
    Size,
    /// More values than [`VALUES_MAX`].
    #[error("a body has at most 2000000 values")]
    Values,
    /// Deeper than [`DEPTH_MAX`].
    #[error("arrays and objects nest at most 64 deep")]
    Depth,
    /// Not UTF-8.
    #[error("text is UTF-8")]
    Utf8,
    /// Begins with U+FEFF.
    #[error("text begins without a byte order mark")]
    ByteOrderMark,
    /// The text stops before the value does.
    #[error("the text does not end inside a value")]
    End,
    /// No value begins here.
    #[error("a value begins with a quote, a digit, a minus sign, [, {{, true, false or null")]
    Value,
    /// No member name begins here.
    #[error("a member name stands in double quotes")]
    Name,
    /// No colon after a member name.
    #[error("a colon stands between a member's name and its value")]
    Colon,
    /// Neither a comma nor the closing bracket.
    #[error("a comma or the closing bracket follows a value")]
    Comma,
    /// A number outside RFC 8259 §6.
    #[error("a number is written as RFC 8259 section 6 says")]
    Number,
    /// A raw control character inside a string.
    #[error("control characters in a string are escaped")]
    Control,
    /// An escape that JSON does not have.
    #[error("a backslash begins one of the escapes of RFC 8259 section 7")]
    Escape,
    /// Half of a surrogate pair.
    #[error("an escaped surrogate stands in a pair")]
    Surrogate,
    /// One member name twice in one object.
    #[error("a member name stands once in an object")]
    Duplicate,
    /// Something after the value.
    #[error("nothing follows the value")]
    Trailing,
}

impl JsonRule {
    /// Whether the text is too large rather than wrong.
    #[must_use]
    pub fn is_size(self) -> bool {
        matches!(self, Self::Size | Self::Values)
    }
}

/// Where a text breaks which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// The rule that is broken.
    pub rule: JsonRule,
    /// The line, from 1.
    pub line: usize,
    /// The character within the line, from 1.
    pub column: usize,
    /// The member it happened in (`entry[3].resource.id`); empty at the top.
    pub path: String,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, ", at {}", self.path)?;
        }
        write!(f, ": {}", self.rule)
    }
}

impl std::error::Error for JsonError {}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number, kept as it is written.
    Number,
    /// A string.
    Text,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A text that keeps every rule, and the index of its values.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    nodes: Vec<Node>,
}

impl<'a> Document<'a> {
    /// Reads one JSON value and nothing else.
    ///
    /// # Errors
    /// The first rule that the text breaks, and where.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let fail = |rule, line, column| {
            Err(JsonError {
                rule,
                line,
                column,
                path: String::new(),
            })
        };
        if bytes.len() > BYTES_MAX {
            return fail(JsonRule::Size, 1, 1);
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let (line, column) = place(&String::from_utf8_lossy(good));
                return fail(JsonRule::Utf8, line, column);
            }
        };
        if text.starts_with('\u{feff}') {
            return fail(JsonRule::ByteOrderMark, 1, 1);
        }
        let mut reader = Reader::new(text);
        match reader.whole() {
            Ok(()) => Ok(Self {
                text,
                nodes: reader.into_nodes(),
            }),
            Err(stop) => {
                let (line, column) = place(text.get(..stop.at).unwrap_or(text));
                Err(JsonError {
                    rule: stop.rule,
                    line,
                    column,
                    path: stop.path(),
                })
            }
        }
    }

    /// The value itself.
    #[must_use]
    pub fn root(&self) -> Value<'_> {
        Value {
            text: self.text,
            nodes: &self.nodes,
            at: 0,
        }
    }
}

/// One value of a [`Document`].
#[derive(Clone, Copy)]
pub struct Value<'d> {
    text: &'d str,
    nodes: &'d [Node],
    at: u32,
}

impl<'d> Value<'d> {
    fn node(self) -> Node {
        // INVARIANT: `at` is always the index of a node; the fallback is never read.
        self.nodes.get(self.at as usize).copied().unwrap_or(Node {
            start: 0,
            end: 0,
            next: u32::MAX,
            kind: Kind::Null,
            escaped: false,
        })
    }

    fn sibling(self, at: u32) -> Self {
        Self { at, ..self }
    }

    /// What it is.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Where it stands in the text, quotes and brackets included.
    #[must_use]
    pub fn span(self) -> Range<usize> {
        let node = self.node();
        node.start as usize..node.end as usize
    }

    /// Its exact text.
    #[must_use]
    pub fn raw(self) -> &'d str {
        self.text.get(self.span()).unwrap_or_default()
    }

    /// The string it is, escapes undone; `None` if it is not one.
    #[must_use]
    pub fn text(self) -> Option<Cow<'d, str>> {
        let node = self.node();
        if node.kind != Kind::Text {
            return None;
        }
        let inner = self
            .raw()
            .get(1..self.raw().len().saturating_sub(1))
            .unwrap_or_default();
        Some(if node.escaped {
            Cow::Owned(unescape(inner))
        } else {
            Cow::Borrowed(inner)
        })
    }

    /// An object's members in their order; nothing if it is not an object.
    pub fn members(self) -> impl Iterator<Item = (Cow<'d, str>, Value<'d>)> {
        let node = self.node();
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            if node.kind != Kind::Object || at >= node.next {
                return None;
            }
            let name = self.sibling(at);
            let value = self.sibling(at + 1);
            at = value.node().next;
            Some((name.text()?, value))
        })
    }

    /// An array's items in their order; nothing if it is not an array.
    pub fn items(self) -> impl Iterator<Item = Value<'d>> {
        let node = self.node();
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            if node.kind != Kind::Array || at >= node.next {
                return None;
            }
            let item = self.sibling(at);
            at = item.node().next;
            Some(item)
        })
    }

    /// The items of an array, or the value itself: FHIR's "one or many" read leniently.
    pub fn each(self) -> impl Iterator<Item = Value<'d>> {
        let own = (self.kind() != Kind::Array).then_some(self);
        own.into_iter().chain(self.items())
    }

    /// The member `name` of an object.
    #[must_use]
    pub fn get(self, name: &str) -> Option<Value<'d>> {
        self.members()
            .find_map(|(member, value)| (member == name).then_some(value))
    }

    /// The string at member `name`.
    #[must_use]
    pub fn text_at(self, name: &str) -> Option<Cow<'d, str>> {
        self.get(name)?.text()
    }
}

/// Line and column of the end of `before`, both from 1.
fn place(before: &str) -> (usize, usize) {
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (line, column)
}
