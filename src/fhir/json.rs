//! Strict JSON (RFC 8259) over foreign bytes: one pass checks every rule and leaves an index of spans.
//!
//! What is read is never copied: a [`Value`] is a span of the received text, so a record can be kept byte
//! for byte. Nothing is guessed or repaired: no byte order mark, no duplicate member names, no lone
//! surrogates, nothing after the value. A failure names line, column, path and the rule that was broken;
//! it never repeats what the text said.

use std::borrow::Cow;
use std::collections::HashSet;
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

#[derive(Debug, Clone, Copy)]
struct Node {
    start: u32,
    end: u32,
    /// The index of the first node after this one and all it holds.
    next: u32,
    kind: Kind,
    escaped: bool,
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
        let fail = |rule, line, column| Err(JsonError { rule, line, column, path: String::new() });
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
        let mut reader = Reader { text, at: 0, depth: 0, nodes: Vec::with_capacity(bytes.len() / 24 + 1), names: Vec::new() };
        match reader.whole() {
            Ok(()) => Ok(Self { text, nodes: reader.nodes }),
            Err(stop) => {
                let (line, column) = place(text.get(..stop.at).unwrap_or(text));
                Err(JsonError { rule: stop.rule, line, column, path: stop.path() })
            }
        }
    }

    /// The value itself.
    #[must_use]
    pub fn root(&self) -> Value<'_> {
        Value { text: self.text, nodes: &self.nodes, at: 0 }
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
        self.nodes.get(self.at as usize).copied().unwrap_or(Node { start: 0, end: 0, next: u32::MAX, kind: Kind::Null, escaped: false })
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
        let inner = self.raw().get(1..self.raw().len().saturating_sub(1)).unwrap_or_default();
        Some(if node.escaped { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) })
    }

    /// Whether it is the string `other`.
    #[must_use]
    pub fn is_text(self, other: &str) -> bool {
        self.text().is_some_and(|text| text == other)
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
        self.members().find_map(|(member, value)| (member == name).then_some(value))
    }

    /// The string at member `name`.
    #[must_use]
    pub fn text_at(self, name: &str) -> Option<Cow<'d, str>> {
        self.get(name)?.text()
    }
}

/// A place inside the value that stopped the reader, from the inside out.
enum Step {
    Index(usize),
    Name(String),
}

struct Stop {
    rule: JsonRule,
    at: usize,
    steps: Vec<Step>,
}

impl Stop {
    fn under(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Name(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    // Why: a member name is foreign text of any length; a message stays one short line.
                    path.extend(name.chars().take(64).map(|c| if c.is_control() { '?' } else { c }));
                }
            }
        }
        path
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    nodes: Vec<Node>,
    /// The member names of all open objects, innermost last.
    names: Vec<Cow<'a, str>>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn stop<T>(&self, rule: JsonRule) -> Result<T, Stop> {
        let rule = if self.at >= self.text.len() { JsonRule::End } else { rule };
        Err(Stop { rule, at: self.at, steps: Vec::new() })
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn whole(&mut self) -> Result<(), Stop> {
        self.space();
        self.value()?;
        self.space();
        if self.at < self.text.len() { self.stop(JsonRule::Trailing) } else { Ok(()) }
    }

    fn value(&mut self) -> Result<(), Stop> {
        match self.peek() {
            Some(b'{') => self.nested(Kind::Object, Self::object),
            Some(b'[') => self.nested(Kind::Array, Self::array),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Kind::Bool),
            Some(b'f') => self.word("false", Kind::Bool),
            Some(b'n') => self.word("null", Kind::Null),
            _ => self.stop(JsonRule::Value),
        }
    }

    /// Notes where a value begins; [`Self::close`] notes where it ends.
    fn open(&mut self, kind: Kind) -> Result<usize, Stop> {
        if self.nodes.len() >= VALUES_MAX {
            return self.stop(JsonRule::Values);
        }
        // Why: offsets fit because a text has at most BYTES_MAX bytes.
        self.nodes.push(Node { start: self.at as u32, end: 0, next: 0, kind, escaped: false });
        Ok(self.nodes.len() - 1)
    }

    fn close(&mut self, node: usize, escaped: bool) {
        let (end, next) = (self.at as u32, self.nodes.len() as u32);
        if let Some(node) = self.nodes.get_mut(node) {
            (node.end, node.next, node.escaped) = (end, next, escaped);
        }
    }

    fn nested(&mut self, kind: Kind, inside: fn(&mut Self) -> Result<(), Stop>) -> Result<(), Stop> {
        if self.depth >= DEPTH_MAX {
            return self.stop(JsonRule::Depth);
        }
        let node = self.open(kind)?;
        self.depth += 1;
        self.at += 1;
        inside(self)?;
        self.depth -= 1;
        self.close(node, false);
        Ok(())
    }

    fn array(&mut self) -> Result<(), Stop> {
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            self.space();
            self.value().map_err(|stop| stop.under(Step::Index(index)))?;
            if self.ends(b']')? {
                break;
            }
        }
        Ok(())
    }

    fn object(&mut self) -> Result<(), Stop> {
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut names = Names { base: self.names.len(), many: None };
        loop {
            self.space();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return self.stop(JsonRule::Name);
            }
            let name = self.string()?;
            let step = name.clone();
            if !names.insert(&mut self.names, name) {
                let stop = Stop { rule: JsonRule::Duplicate, at: start, steps: Vec::new() };
                return Err(stop.under(Step::Name(step.into_owned())));
            }
            self.space();
            if self.peek() != Some(b':') {
                return self.stop(JsonRule::Colon);
            }
            self.at += 1;
            self.space();
            self.value().map_err(|stop| stop.under(Step::Name(step.into_owned())))?;
            if self.ends(b'}')? {
                break;
            }
        }
        self.names.truncate(names.base);
        Ok(())
    }

    /// After a value: true at the closing bracket, false at a comma.
    fn ends(&mut self, bracket: u8) -> Result<bool, Stop> {
        self.space();
        let found = self.peek();
        if found != Some(bracket) && found != Some(b',') {
            return self.stop(JsonRule::Comma);
        }
        self.at += 1;
        Ok(found == Some(bracket))
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), Stop> {
        let node = self.open(kind)?;
        for byte in word.bytes() {
            if self.peek() != Some(byte) {
                return self.stop(JsonRule::Value);
            }
            self.at += 1;
        }
        self.close(node, false);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Stop> {
        let node = self.open(Kind::Number)?;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'0'..=b'9' | b'.' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-')) {
            return self.stop(JsonRule::Number);
        }
        self.close(node, false);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Stop> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return self.stop(JsonRule::Number);
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Stop> {
        let node = self.open(Kind::Text)?;
        self.at += 1;
        let (text, start) = (self.text, self.at);
        let mut escaped = false;
        loop {
            let rest = text.as_bytes().get(self.at..).unwrap_or_default();
            let plain = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
            self.at += plain.unwrap_or(rest.len());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.stop(JsonRule::Control),
            }
        }
        let inner = text.get(start..self.at).unwrap_or_default();
        self.at += 1;
        self.close(node, escaped);
        Ok(if escaped { Cow::Owned(unescape(inner)) } else { Cow::Borrowed(inner) })
    }

    fn escape(&mut self) -> Result<(), Stop> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let first = self.hex()?;
                let lone = Err(Stop { rule: JsonRule::Surrogate, at: start, steps: Vec::new() });
                match first {
                    0xD800..=0xDBFF => {
                        if self.peek() != Some(b'\\') || self.text.as_bytes().get(self.at + 1) != Some(&b'u') {
                            return lone;
                        }
                        self.at += 1;
                        if matches!(self.hex()?, 0xDC00..=0xDFFF) { Ok(()) } else { lone }
                    }
                    0xDC00..=0xDFFF => lone,
                    _ => Ok(()),
                }
            }
            _ => self.stop(JsonRule::Escape),
        }
    }

    /// The four hexadecimal digits after the `u` that stands here.
    fn hex(&mut self) -> Result<u32, Stop> {
        self.at += 1;
        let mut number = 0;
        for _ in 0..4 {
            match self.peek().and_then(|byte| char::from(byte).to_digit(16)) {
                Some(digit) => number = number * 16 + digit,
                None => return self.stop(JsonRule::Escape),
            }
            self.at += 1;
        }
        Ok(number)
    }
}

/// The member names of one object: few are compared one by one, many through a set.
struct Names<'a> {
    base: usize,
    many: Option<HashSet<Cow<'a, str>>>,
}

impl<'a> Names<'a> {
    const FEW: usize = 24;

    /// False if the name stood there already.
    fn insert(&mut self, all: &mut Vec<Cow<'a, str>>, name: Cow<'a, str>) -> bool {
        if let Some(many) = &mut self.many {
            return many.insert(name);
        }
        let own = all.get(self.base..).unwrap_or_default();
        if own.contains(&name) {
            return false;
        }
        all.push(name);
        if all.len() - self.base > Self::FEW {
            self.many = Some(all.drain(self.base..).collect());
        }
        true
    }
}

/// Undoes the escapes of a string that the reader has accepted.
fn unescape(inner: &str) -> String {
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('u') => {
                let mut unit = || (0..4).fold(0, |n, _| n * 16 + chars.next().and_then(|c| c.to_digit(16)).unwrap_or(0));
                let mut code = unit();
                if matches!(code, 0xD800..=0xDBFF) {
                    chars.next();
                    chars.next();
                    let low = (0..4).fold(0, |n, _| n * 16 + chars.next().and_then(|c| c.to_digit(16)).unwrap_or(0));
                    code = 0x10000 + ((code - 0xD800) << 10) + (low & 0x3FF);
                }
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// Line and column of the end of `before`, both from 1.
fn place(before: &str) -> (usize, usize) {
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]
    use super::*;

    fn rule(text: &str) -> JsonRule {
        Document::parse(text.as_bytes()).unwrap_err().rule
    }

    #[test]
    fn spans_are_the_exact_text() {
        let text = " { \"a\" : [ 1.50 , { } , \"x\\u00e9\\ud83d\\ude00\" ] , \"b\":null} ";
        let document = Document::parse(text.as_bytes()).unwrap();
        let root = document.root();
        assert_eq!(root.raw(), text.trim());
        let items: Vec<_> = root.get("a").unwrap().items().map(Value::raw).collect();
        assert_eq!(items, ["1.50", "{ }", "\"x\\u00e9\\ud83d\\ude00\""]);
        assert_eq!(root.get("a").unwrap().items().nth(2).unwrap().text().unwrap(), "xé😀");
        assert_eq!(root.get("b").unwrap().kind(), Kind::Null);
        assert!(root.get("c").is_none());
    }

    #[test]
    fn every_rule_is_named_where_it_breaks() {
        assert_eq!(rule(""), JsonRule::End);
        assert_eq!(rule("[1"), JsonRule::End);
        assert_eq!(rule("\u{feff}1"), JsonRule::ByteOrderMark);
        assert_eq!(rule("01"), JsonRule::Number);
        assert_eq!(rule("\"\t\""), JsonRule::Control);
        assert_eq!(rule(r#""\q""#), JsonRule::Escape);
        assert_eq!(rule(r#""\ud800""#), JsonRule::Surrogate);
        assert_eq!(rule(r#""\udc00""#), JsonRule::Surrogate);
        assert_eq!(rule(r#""\ud800\u0041""#), JsonRule::Surrogate);
        assert_eq!(rule("[1,]"), JsonRule::Value);
        assert_eq!(rule("{a:1}"), JsonRule::Name);
        assert_eq!(rule("{\"a\" 1}"), JsonRule::Colon);
        assert_eq!(rule("[1 2]"), JsonRule::Comma);
        assert_eq!(rule("1 2"), JsonRule::Trailing);
        assert_eq!(Document::parse(b"[\"\xff\"]").unwrap_err().rule, JsonRule::Utf8);
        let error = Document::parse(b"{\n  \"entry\": [ {}, {\"resource\": {\"id\": 1, \"\\u0069d\": 2}} ]}").unwrap_err();
        assert_eq!((error.rule, error.line, error.column), (JsonRule::Duplicate, 2, 42));
        assert_eq!(error.path, "entry[1].resource.id");
        assert_eq!(error.to_string(), "line 2, column 42, at entry[1].resource.id: a member name stands once in an object");
    }

    #[test]
    fn a_duplicate_is_found_among_many_names() {
        let mut text: String = (0..5000).map(|n| format!("\"n{n}\":{n},")).collect();
        assert!(Document::parse(format!("{{{text}\"last\":0}}").as_bytes()).is_ok());
        text.push_str("\"n17\":0");
        assert_eq!(rule(&format!("{{{text}}}")), JsonRule::Duplicate);
    }

    #[test]
    fn depth_and_values_are_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(Document::parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(rule(&nested(DEPTH_MAX + 1)), JsonRule::Depth);
        assert_eq!(rule(&"[".repeat(100_000)), JsonRule::Depth);
        let many = |n: usize| format!("[{}1]", "1,".repeat(n - 2));
        assert!(Document::parse(many(VALUES_MAX).as_bytes()).is_ok());
        assert_eq!(rule(&many(VALUES_MAX + 1)), JsonRule::Values);
        assert_eq!(rule(&" ".repeat(BYTES_MAX + 1)), JsonRule::Size);
    }

    #[test]
    fn agrees_with_serde_json_on_mutated_texts() {
        let seed = br#"{"a":[1,-0.5e+3,true,null,"x\n\u00e9\ud834\udd1e"],"b":{"c":[],"d":{}}}"#;
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..20_000 {
            let mut text = seed.to_vec();
            for _ in 0..=next() % 3 {
                let at = (next() % text.len() as u64) as usize;
                match next() % 3 {
                    0 => text[at] = b"{}[],:\"\\u0e-.1 nt\n"[(next() % 18) as usize],
                    1 => drop(text.remove(at)),
                    _ => text.insert(at, b"{}[],:\"\\u0e-.1 nt\n"[(next() % 18) as usize]),
                }
            }
            let ours = Document::parse(&text);
            let theirs = serde_json::from_slice::<serde_json::Value>(&text);
            match (&ours, &theirs) {
                (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
                (Err(error), Ok(_)) => assert_eq!(error.rule, JsonRule::Duplicate, "{}", String::from_utf8_lossy(&text)),
                // Why: serde_json keeps numbers as f64 and refuses those that do not fit; we keep their text.
                (Ok(_), Err(error)) => assert!(error.to_string().contains("out of range"), "{error} {}", String::from_utf8_lossy(&text)),
            }
        }
    }
}
