//! A counterexample as plain values, so that it can be told and replayed.
//!
//! The solver's model names people and places by whatever fits (often by nothing at all); here each
//! gets a word and a letter, by where it stands. Nothing is judged here.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cedar_policy::{EntityUid, EvalResult};

use super::solver::Model;

/// A name: its kind, and what the model calls it.
pub(super) type Name = (String, String);

/// A value of the example.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Truth(bool),
    Number(i64),
    Text(String),
    Name(Name),
    Set(Vec<Value>),
    Record(BTreeMap<String, Value>),
}

/// Who asks for what, and everything that is known about it.
pub(super) struct Example {
    pub(super) action: String,
    root: BTreeMap<String, Value>,
    entities: BTreeMap<Name, BTreeMap<String, Value>>,
    letters: RefCell<Vec<(Name, String)>>,
}

impl Example {
    pub(super) fn new(model: &Model) -> Example {
        let mut root = BTreeMap::new();
        let request = &model.request;
        for (key, uid) in [
            ("principal", request.principal()),
            ("resource", request.resource()),
        ] {
            if let Some(uid) = uid {
                root.insert(key.to_owned(), Value::Name(name(uid)));
            }
        }
        if let Some(context) = request.context() {
            let keys = context.clone().into_iter().map(|(key, _)| key);
            let field = |key: String| {
                let value = plain(&context.get(&key)?)?;
                Some((key, value))
            };
            let fields = keys.filter_map(field).collect();
            root.insert("context".to_owned(), Value::Record(fields));
        }
        let attributes = |entity: &cedar_policy::Entity| {
            let known = entity.attrs();
            let known = known.filter_map(|(key, value)| Some((key.to_owned(), value.ok()?)));
            let known = known.filter_map(|(key, value)| Some((key, plain(&value)?)));
            (name(&entity.uid()), known.collect())
        };
        Example {
            action: request
                .action()
                .map(|action| action.id().unescaped().to_owned())
                .unwrap_or_default(),
            root,
            entities: model.entities.iter().map(attributes).collect(),
            letters: RefCell::new(Vec::new()),
        }
    }

    /// What stands at a path such as `resource.patient.objections`; nothing where nothing does.
    pub(super) fn at(&self, path: &str) -> Option<&Value> {
        let mut steps = path.split('.');
        let mut value = self.root.get(steps.next()?)?;
        for step in steps {
            value = match value {
                Value::Record(fields) => fields.get(step)?,
                Value::Name(name) => self.entities.get(name)?.get(step)?,
                Value::Truth(_) | Value::Number(_) | Value::Text(_) | Value::Set(_) => return None,
            };
        }
        Some(value)
    }

    pub(super) fn is(&self, path: &str) -> bool {
        self.at(path) == Some(&Value::Truth(true))
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.at(path).is_some()
    }

    /// Whether both stand there and are the same.
    pub(super) fn same(&self, one: &str, other: &str) -> bool {
        self.at(one).is_some() && self.at(one) == self.at(other)
    }

    pub(super) fn number(&self, path: &str) -> i64 {
        match self.at(path) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// The code of a word such as `Purpose::"TREAT"`, or a text.
    pub(super) fn code(&self, path: &str) -> &str {
        match self.at(path) {
            Some(Value::Name((_, id))) => id,
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The codes of a set.
    pub(super) fn codes(&self, path: &str) -> Vec<&str> {
        let Some(Value::Set(values)) = self.at(path) else {
            return Vec::new();
        };
        let code = |value| match value {
            &Value::Name((_, ref id)) => Some(id.as_str()),
            _ => None,
        };
        values.iter().filter_map(code).collect()
    }

    /// Whether the set at the first path holds what stands at the second.
    pub(super) fn holds(&self, set: &str, item: &str) -> bool {
        match (self.at(set), self.at(item)) {
            (Some(Value::Set(values)), Some(item)) => values.contains(item),
            _ => false,
        }
    }

    /// The kind of thing that stands at a path.
    pub(super) fn kind(&self, path: &str) -> &str {
        match self.at(path) {
            Some(Value::Name((kind, _))) => kind,
            _ => "",
        }
    }

    /// A word and a letter for who or what stands at a path; the same one the same letter.
    pub(super) fn who(&self, path: &str, word: &str) -> String {
        let Some(Value::Name(name)) = self.at(path) else {
            return format!("no {word}");
        };
        self.letter(name, word)
    }

    fn letter(&self, name: &Name, word: &str) -> String {
        let mut letters = self.letters.borrow_mut();
        if let Some((_, said)) = letters.iter().find(|(known, _)| known == name) {
            return said.clone();
        }
        let of_kind = letters.iter().filter(|((kind, _), _)| *kind == name.0);
        let letter = u8::try_from(of_kind.count()).unwrap_or(25).min(25) + b'A';
        let said = format!("{word} {}", char::from(letter));
        letters.push((name.clone(), said.clone()));
        said
    }

    /// Everything that is known, one line a part.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for path in [
            "principal",
            "resource",
            "context.client",
            "resource.patient",
        ] {
            if let Some(Value::Name(name)) = self.at(path)
                && let Some(fields) = self.entities.get(name).filter(|it| !it.is_empty())
            {
                lines.push((
                    self.letter(name, &name.0.to_lowercase()),
                    self.fields(fields),
                ));
            }
        }
        if let Some(Value::Record(context)) = self.at("context") {
            for (key, value) in context {
                if !matches!(key.as_str(), "now" | "client") {
                    lines.push((key.clone(), self.say(key, value)));
                }
            }
            for part in ["agreement", "relationship"] {
                if !context.contains_key(part) && self.kind("resource") == "Record" {
                    lines.push((part.to_owned(), "none".to_owned()));
                }
            }
        }
        lines
    }

    fn fields(&self, fields: &BTreeMap<String, Value>) -> String {
        let said = fields
            .iter()
            .map(|(key, value)| format!("{key} {}", self.say(key, value)));
        said.collect::<Vec<_>>().join(", ")
    }

    fn say(&self, key: &str, value: &Value) -> String {
        match value {
            Value::Truth(truth) => if *truth { "yes" } else { "no" }.to_owned(),
            Value::Number(number) => self.moment(key, *number),
            Value::Text(text) if text.is_empty() => "(empty)".to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::Name(name) => {
                match name.0.as_str() {
                    kind @ ("Organisation" | "Practitioner" | "Patient" | "Client"
                    | "PracticeFile") => self.letter(name, &kind.to_lowercase()),
                    _ => name.1.clone(),
                }
            }
            Value::Set(values) => {
                let said: Vec<_> = values.iter().map(|value| self.say(key, value)).collect();
                format!("[{}]", said.join(" "))
            }
            Value::Record(fields) => format!("({})", self.fields(fields)),
        }
    }

    /// A time is told by where it stands to the moment of asking.
    fn moment(&self, key: &str, number: i64) -> String {
        let has_passed = number <= self.number("context.now");
        let word = match (key, has_passed) {
            ("from", true) => "begun",
            ("from", false) => "NOT YET BEGUN",
            ("until" | "expires" | "trainedUntil", true) => "OVER",
            ("until" | "expires" | "trainedUntil", false) => "current",
            _ => return number.to_string(),
        };
        word.to_owned()
    }
}

fn name(uid: &EntityUid) -> Name {
    (uid.type_name().to_string(), uid.id().unescaped().to_owned())
}

fn plain(value: &EvalResult) -> Option<Value> {
    Some(match value {
        EvalResult::Bool(truth) => Value::Truth(*truth),
        EvalResult::Long(number) => Value::Number(*number),
        EvalResult::String(text) | EvalResult::ExtensionValue(text) => Value::Text(text.clone()),
        EvalResult::EntityUid(uid) => Value::Name(name(uid)),
        EvalResult::Set(set) => Value::Set(set.iter().filter_map(plain).collect()),
        EvalResult::Record(record) => Value::Record(
            record
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), plain(value)?)))
                .collect(),
        ),
    })
}
