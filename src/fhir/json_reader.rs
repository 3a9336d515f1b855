//! The strict reader behind [`super::json`]: recursive descent over RFC 8259, one pass, bounded in depth.
//!
//! It copies nothing but member names that hold escapes, and stops at the first broken rule. Only
//! [`super::json::Document`] calls it.

use super::json::{DEPTH_MAX, JsonRule, Kind, VALUES_MAX};
use std::borrow::Cow;
use std::collections::HashSet;

/// One value's place in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) start: u32,
    pub(super) end: u32,
    /// The index of the first node after this one and all it holds.
    pub(super) next: u32,
    pub(super) kind: Kind,
    pub(super) escaped: bool,
}

/// A place inside the value that stopped the reader, from the inside out.
enum Step {
    Index(usize),
    Name(String),
}

/// Why and where the reader stopped.
pub(super) struct Stop {
    pub(super) rule: JsonRule,
    pub(super) at: usize,
    steps: Vec<Step>,
}

impl Stop {
    fn under(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match step {
                Step::Index(index) => path.push_str(&format!("[{index}]")),
                Step::Name(name) => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    // Why: a member name is foreign text of any length; a message stays one short line.
                    path.extend(
                        name.chars()
                            .take(64)
                            .map(|c| if c.is_control() { '?' } else { c }),
                    );
                }
            }
        }
        path
    }
}

/// Reads a text once, from its beginning to its end.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    nodes: Vec<Node>,
    /// The member names of all open objects, innermost last.
    names: Vec<Cow<'a, str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // Why 24: real FHIR has a value for every 20 to 40 bytes.
        let nodes = Vec::with_capacity(text.len() / 24 + 1);
        Self {
            text,
            at: 0,
            depth: 0,
            nodes,
            names: Vec::new(),
        }
    }

    pub(super) fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn stop<T>(&self, rule: JsonRule) -> Result<T, Stop> {
        let rule = if self.at >= self.text.len() {
            JsonRule::End
        } else {
            rule
        };
        Err(Stop {
            rule,
            at: self.at,
            steps: Vec::new(),
        })
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Reads one value and what may surround it.
    pub(super) fn whole(&mut self) -> Result<(), Stop> {
        self.space();
        self.value()?;
        self.space();
        if self.at < self.text.len() {
            self.stop(JsonRule::Trailing)
        } else {
            Ok(())
        }
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
        self.nodes.push(Node {
            start: self.at as u32,
            end: 0,
            next: 0,
            kind,
            escaped: false,
        });
        Ok(self.nodes.len() - 1)
    }

    fn close(&mut self, node: usize, escaped: bool) {
        let (end, next) = (self.at as u32, self.nodes.len() as u32);
        if let Some(node) = self.nodes.get_mut(node) {
            (node.end, node.next, node.escaped) = (end, next, escaped);
        }
    }

    fn nested(
        &mut self,
        kind: Kind,
        inside: fn(&mut Self) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
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
            self.value()
                .map_err(|stop| stop.under(Step::Index(index)))?;
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
        let mut names = Names {
            base: self.names.len(),
            many: None,
        };
        loop {
            self.space();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return self.stop(JsonRule::Name);
            }
            let name = self.string()?;
            let step = name.clone();
            if !names.insert(&mut self.names, name) {
                let stop = Stop {
                    rule: JsonRule::Duplicate,
                    at: start,
                    steps: Vec::new(),
                };
                return Err(stop.under(Step::Name(step.into_owned())));
            }
            self.space();
            if self.peek() != Some(b':') {
                return self.stop(JsonRule::Colon);
            }
            self.at += 1;
            self.space();
            self.value()
                .map_err(|stop| stop.under(Step::Name(step.into_owned())))?;
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
        if matches!(
            self.peek(),
            Some(b'0'..=b'9' | b'.' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-')
        ) {
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
            let plain = rest
                .iter()
                .position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20);
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
        Ok(if escaped {
            Cow::Owned(unescape(inner))
        } else {
            Cow::Borrowed(inner)
        })
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
                let lone = Err(Stop {
                    rule: JsonRule::Surrogate,
                    at: start,
                    steps: Vec::new(),
                });
                match first {
                    0xD800..=0xDBFF => {
                        if self.peek() != Some(b'\\')
                            || self.text.as_bytes().get(self.at + 1) != Some(&b'u')
                        {
                            return lone;
                        }
                        self.at += 1;
                        if matches!(self.hex()?, 0xDC00..=0xDFFF) {
                            Ok(())
                        } else {
                            lone
                        }
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
pub(super) fn unescape(inner: &str) -> String {
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
                let mut unit = || {
                    (0..4).fold(0, |n, _| {
                        n * 16 + chars.next().and_then(|c| c.to_digit(16)).unwrap_or(0)
                    })
                };
                let mut code = unit();
                if matches!(code, 0xD800..=0xDBFF) {
                    chars.next();
                    chars.next();
                    let low = (0..4).fold(0, |n, _| {
                        n * 16 + chars.next().and_then(|c| c.to_digit(16)).unwrap_or(0)
                    });
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
