//! A dated, replaceable list of codes that make a record sensitive, whatever its practice wrote on it.
//!
//! It is laid over a record's card when the record is asked for, so that a new list acts at the next request and on
//! records filed long ago. It only adds: no list takes a label away. Which list was in force stands in the ledger, by
//! its digest. A list that does not parse is refused whole.

use std::collections::{BTreeMap, BTreeSet};

use policy::words::Label;
use sha2::{Digest as _, Sha256};

use super::card::{Card, Code};

/// Bytes of a list at most.
const LIST_BYTES_MAX: usize = 1024 * 1024;

/// The list.
#[derive(Debug, Default)]
pub struct SensitiveCodes {
    exact: BTreeMap<(String, String), BTreeSet<Label>>,
    /// System, beginning of the code, label.
    beginnings: Vec<(String, String, Label)>,
    digest: String,
}

/// A list that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}")]
pub struct ListError {
    /// Which line, from 1.
    pub line: usize,
    /// Which rule it breaks.
    pub rule: &'static str,
}

impl SensitiveCodes {
    /// Reads a list: lines of label, system and code with tabs between (and words for people behind another); a code
    /// that ends in `*` stands for all that begin so; `date` and `source` lines say when it was made and of what; `#`
    /// begins a remark.
    ///
    /// # Errors
    /// The line and the rule it breaks.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let wrong = |line, rule| ListError { line, rule };
        if text.len() > LIST_BYTES_MAX {
            return Err(wrong(1, "a list has at most 1 MiB"));
        }
        let mut list = Self::default();
        let mut said: BTreeSet<&str> = BTreeSet::new();
        for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let parts: Vec<&str> = line.split('\t').map(str::trim).collect();
            match parts.as_slice() {
                [name @ ("date" | "source"), value] if !value.is_empty() => drop(said.insert(name)),
                [label, system, code, ..] if !system.is_empty() && !code.is_empty() => {
                    let label = Label::try_from(*label)
                        .map_err(|_| wrong(at, "the label is not of this gateway's vocabulary"))?;
                    list.add(label, system, code);
                }
                _ => {
                    return Err(wrong(
                        at,
                        "must be label, system and code with tabs between, or date or source and its text",
                    ));
                }
            }
        }
        if said.len() < 2 {
            return Err(wrong(1, "must say its date and its source"));
        }
        let digest = Sha256::digest(text);
        list.digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(list)
    }

    fn add(&mut self, label: Label, system: &str, code: &str) {
        match code.strip_suffix('*') {
            Some(start) => {
                let row = (system.to_owned(), start.to_owned(), label);
                self.beginnings.push(row);
            }
            None => {
                let key = (system.to_owned(), code.to_owned());
                self.exact.entry(key).or_default().insert(label);
            }
        }
    }

    /// SHA-256 of its text, in lower-case hexadecimal; empty where there is no list.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The labels that this card's codes call for. A card that left codes out is not understood.
    #[must_use]
    pub fn labels(&self, card: &Card) -> BTreeSet<Label> {
        let mut labels = BTreeSet::new();
        if self.digest.is_empty() {
            return labels;
        }
        if card.overflow {
            labels.insert(Label::Unrecognised);
        }
        for Code { system, code } in card.codes.iter().chain(&card.categories) {
            let Some(system) = system else { continue };
            let key = (system.clone().into_owned(), code.clone());
            labels.extend(self.exact.get(&key).into_iter().flatten());
            let begins = |(of, start, _): &&(String, String, Label)| {
                *of == **system && code.starts_with(start.as_str())
            };
            labels.extend(self.beginnings.iter().filter(begins).map(|row| row.2));
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::super::json::Document;
    use super::*;

    const SHIPPED: &str = include_str!("../../deploy/sensitive-codes.tsv");

    fn labels(list: &SensitiveCodes, system: &str, code: &str) -> Vec<Label> {
        let text = format!(r#"{{"code":{{"coding":[{{"system":"{system}","code":"{code}"}}]}}}}"#);
        let document = Document::parse(text.as_bytes()).unwrap();
        let kind = "Condition".try_into().unwrap();
        let card = Card::read(document.root(), kind, None, None, &BTreeSet::new());
        list.labels(&card).into_iter().collect()
    }

    #[test]
    fn the_shipped_list_finds_what_it_names_and_nothing_else() {
        let list = SensitiveCodes::parse(SHIPPED).unwrap();
        assert_eq!(list.digest().len(), 64);
        let (snomed, icd) = ("http://snomed.info/sct", "http://hl7.org/fhir/sid/icd-10");
        assert_eq!(labels(&list, snomed, "86406008"), [Label::HIV]);
        assert_eq!(labels(&list, icd, "B20.1"), [Label::HIV]);
        assert_eq!(labels(&list, icd, "F20.0"), [Label::PSY]);
        assert_eq!(labels(&list, snomed, "38341003"), []);
        assert_eq!(labels(&list, "http://loinc.org", "86406008"), []);
        assert_eq!(labels(&SensitiveCodes::default(), snomed, "86406008"), []);
    }

    #[test]
    fn a_list_that_does_not_parse_is_refused_naming_its_line() {
        let head = "date\t2026-11-22\nsource\tours\n";
        for (text, line) in [
            ("PSY\ts\tc\n".to_owned(), 1),
            (format!("{head}NOPE\ts\tc\n"), 3),
            (format!("{head}PSY\ts\n"), 3),
            (format!("{head}PSY s c\n"), 3),
        ] {
            assert_eq!(
                SensitiveCodes::parse(&text).unwrap_err().line,
                line,
                "{text}"
            );
        }
        assert!(SensitiveCodes::parse(&format!("# ours\n{head}PSY\ts\tc\twords\n")).is_ok());
    }
}
