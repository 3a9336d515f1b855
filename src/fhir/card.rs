//! The card of a record: what routing, labels and search need, read once at deposit and kept encrypted.
//!
//! A card holds no clinical text and no name; codes, dates and labels are sensitive all the same, so only
//! the vault writes one to disk, sealed. What does not fit is left out and marked (`overflow`), never cut.

use super::card_words::known_system;
use super::json::Value;
use super::label;
use super::moment::{Moment, Span};
use super::resource::{FhirId, ResourceType};
use policy::words::{Category, Label};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// A card's codes may take this many bytes.
const CODES_BYTES_MAX: usize = 1536;
/// One code or one system may take this many bytes.
const CODE_BYTES_MAX: usize = 255;

/// One coding: a code, and the system it is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// The code system's URI.
    pub system: Option<Cow<'static, str>>,
    /// The code.
    pub code: String,
}

/// What the gateway knows of a record without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The resource type.
    pub kind: ResourceType,
    /// The id; `None` until one is assigned.
    pub id: Option<FhirId>,
    /// The `fullUrl` that its Bundle gave it.
    pub full_url: Option<String>,
    /// The sharing category.
    pub category: Category,
    /// The sensitivity labels; none is "ordinary".
    pub labels: BTreeSet<Label>,
    /// What it is about: `code`, `vaccineCode`, a medication, a document's or encounter's `type`.
    pub codes: Vec<Code>,
    /// Its `category` codings.
    pub categories: Vec<Code>,
    /// When it happened.
    pub dates: Option<Span>,
    /// `meta.lastUpdated`, in milliseconds since 1970.
    pub last_updated_ms: Option<i64>,
    /// Whether some code or category was left out.
    pub overflow: bool,
}

/// The members that say when something happened, the most telling first.
const WHEN: [&str; 28] = [
    "effectiveDateTime",
    "effectivePeriod",
    "effectiveInstant",
    "performedDateTime",
    "performedPeriod",
    "occurrenceDateTime",
    "occurrencePeriod",
    "onsetDateTime",
    "onsetPeriod",
    "period",
    "date",
    "authoredOn",
    "authored",
    "whenHandedOver",
    "whenPrepared",
    "recordedDate",
    "assertedDate",
    "dateAsserted",
    "dateTime",
    "started",
    "sent",
    "issued",
    "indexed",
    "created",
    "recorded",
    "start",
    "startDate",
    "billablePeriod",
];

impl Card {
    /// Reads a resource's card. `labels` are those that its Bundle puts on every entry.
    pub(super) fn read(
        resource: Value<'_>,
        kind: ResourceType,
        id: Option<FhirId>,
        full_url: Option<String>,
        labels: &BTreeSet<Label>,
    ) -> Self {
        let mut card = Self {
            category: kind.category(),
            id,
            full_url,
            labels: label::labels(resource),
            codes: Vec::new(),
            categories: Vec::new(),
            dates: None,
            last_updated_ms: None,
            overflow: false,
            kind,
        };
        card.labels.extend(labels);
        let is_typed = matches!(
            card.kind.as_str(),
            "Composition"
                | "DocumentManifest"
                | "DocumentReference"
                | "Encounter"
                | "EpisodeOfCare"
        );
        let mut best = WHEN.len();
        for (name, value) in resource.members() {
            match name.as_ref() {
                "code" | "vaccineCode" | "medicationCodeableConcept" => {
                    value.each().for_each(|concept| card.add(concept, false))
                }
                "type" if is_typed => value.each().for_each(|concept| card.add(concept, false)),
                "category" => value.each().for_each(|concept| card.add(concept, true)),
                "meta" => {
                    card.last_updated_ms = value
                        .text_at("lastUpdated")
                        .and_then(|text| Moment::parse(&text))
                        .map(Moment::start_utc_ms)
                }
                other => {
                    let rank = WHEN.iter().take(best).position(|when| *when == other);
                    if let (Some(rank), Some(span)) = (rank, span(value)) {
                        (best, card.dates) = (rank, Some(span));
                    }
                }
            }
        }
        card
    }

    /// Notes the codings of a CodeableConcept, a Coding or a bare code.
    fn add(&mut self, concept: Value<'_>, is_category: bool) {
        if let Some(code) = concept.text() {
            return self.push(
                Code {
                    system: None,
                    code: code.into_owned(),
                },
                is_category,
            );
        }
        for coding in concept.get("coding").into_iter().flat_map(Value::each) {
            if let Some(code) = coding.text_at("code") {
                let system = coding.text_at("system").map(|system| known_system(&system));
                self.push(
                    Code {
                        system,
                        code: code.into_owned(),
                    },
                    is_category,
                );
            }
        }
    }

    fn push(&mut self, code: Code, is_category: bool) {
        let size = |code: &Code| {
            code.code.len() + code.system.as_ref().map_or(0, |system| system.len()) + 4
        };
        let used: usize = self.codes.iter().chain(&self.categories).map(size).sum();
        let too_long = code.code.len() > CODE_BYTES_MAX
            || code
                .system
                .as_ref()
                .is_some_and(|system| system.len() > CODE_BYTES_MAX);
        let list = if is_category {
            &mut self.categories
        } else {
            &mut self.codes
        };
        if list.contains(&code) {
            return;
        }
        if too_long || used + size(&code) > CODES_BYTES_MAX {
            self.overflow = true;
        } else {
            list.push(code);
        }
    }
}

/// A date, or a period (`start`, `end`, either open), as a span.
fn span(value: Value<'_>) -> Option<Span> {
    if let Some(text) = value.text() {
        return Moment::parse(&text).map(Span::from);
    }
    let side = |name| value.text_at(name).and_then(|text| Moment::parse(&text));
    match (side("start"), side("end")) {
        (None, None) => None,
        (start, end) => Some(Span::between(start, end)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::super::json::Document;
    use super::*;

    fn card(text: &str) -> Card {
        let document = Document::parse(text.as_bytes()).unwrap();
        Card::read(
            document.root(),
            "Observation".try_into().unwrap(),
            None,
            None,
            &BTreeSet::new(),
        )
    }

    #[test]
    fn the_most_telling_date_wins_wherever_it_stands() {
        for text in [
            r#"{"issued":"2020-01-01","effectiveDateTime":"2019-05-05"}"#,
            r#"{"effectiveDateTime":"2019-05-05","issued":"2020-01-01"}"#,
            r#"{"effectiveDateTime":"2019-05-05","effectivePeriod":{"start":"never"}}"#,
        ] {
            assert_eq!(
                card(text).dates,
                Moment::parse("2019-05-05").map(Span::from),
                "{text}"
            );
        }
        // A date that cannot be read does not hide one that can.
        assert_eq!(
            card(r#"{"effectiveDateTime":"05/05/2019","issued":"2020-01-01"}"#).dates,
            Moment::parse("2020-01-01").map(Span::from)
        );
        let open = card(r#"{"effectivePeriod":{"start":"2019-05-05"}}"#)
            .dates
            .unwrap();
        assert_eq!(open.end_ms, i64::MAX);
    }

    #[test]
    fn codes_are_kept_once_and_overflow_is_marked() {
        let read = card(
            r#"{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"},{"system":"http://loinc.org","code":"8480-6"},{"code":"x"}]},
                "category":["food",{"coding":[{"code":"vital-signs"}]}]}"#,
        );
        assert_eq!(read.codes.len(), 2);
        assert!(matches!(
            read.codes.first().unwrap().system,
            Some(Cow::Borrowed("http://loinc.org"))
        ));
        assert_eq!(
            read.categories
                .iter()
                .map(|c| c.code.as_str())
                .collect::<Vec<_>>(),
            ["food", "vital-signs"]
        );
        assert!(!read.overflow);
        let many: Vec<String> = (0..200)
            .map(|n| format!(r#"{{"system":"http://loinc.org","code":"{n:030}"}}"#))
            .collect();
        let read = card(&format!(r#"{{"code":{{"coding":[{}]}}}}"#, many.join(",")));
        assert!(read.overflow && read.codes.len() > 20);
        assert!(
            card(&format!(
                r#"{{"code":{{"coding":[{{"code":"{}"}}]}}}}"#,
                "x".repeat(300)
            ))
            .overflow
        );
    }
}
