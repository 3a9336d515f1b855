//! A card as bytes: compact, versioned, at most [`CARD_BYTES_MAX`].
//!
//! Version 1: `01`, flags, then in this order and only where a flag says so: type (one byte of a frozen
//! table, or 0 and text), id, fullUrl, category, labels (bits), dates, last update, codes, categories.
//! Numbers are LEB128 or big-endian; texts carry their length; UUIDs take 16 bytes. Reading is strict: a byte
//! too many, a number out of range or an unknown version is an error, never a default.

use super::card::{Card, Code};
use super::card_words::{CATEGORIES, KINDS, LABELS, SYSTEMS, known_system};
use super::moment::Span;
use super::resource::{FhirId, ResourceType};
use policy::words::Label;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// No card takes more bytes than this.
pub const CARD_BYTES_MAX: usize = 2560;

/// The form that is written today.
const VERSION: u8 = 1;

const HAS_ID: u16 = 1;
const ID_IS_UUID: u16 = 1 << 1;
const HAS_URL: u16 = 1 << 2;
/// The fullUrl is `urn:uuid:` and the id.
const URL_IS_ID: u16 = 1 << 3;
/// The fullUrl is `urn:uuid:` and a UUID of its own.
const URL_IS_UUID: u16 = 1 << 4;
const HAS_DATES: u16 = 1 << 5;
const HAS_UPDATED: u16 = 1 << 6;
const OVERFLOW: u16 = 1 << 7;
const FLAGS: u16 = 0xFF;

const URN: &str = "urn:uuid:";

/// Bytes that are no card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Written by a version that this one cannot read.
    #[error("the card is of an unknown version")]
    Version,
    /// Not what `to_bytes` writes.
    #[error("the card is damaged")]
    Damaged,
}

impl Card {
    /// The card's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let id = self.id.as_ref().map(FhirId::as_str);
        let (url, id_uuid) = (self.full_url.as_deref(), id.and_then(uuid_bytes));
        let url_uuid = url.and_then(|url| uuid_bytes(url.strip_prefix(URN)?));
        let url_is_id = url_uuid.is_some() && url_uuid == id_uuid;
        let flags = [
            (id.is_some(), HAS_ID),
            (id_uuid.is_some(), ID_IS_UUID),
            (url.is_some(), HAS_URL),
            (url_is_id, URL_IS_ID),
            (url_uuid.is_some() && !url_is_id, URL_IS_UUID),
            (self.dates.is_some(), HAS_DATES),
            (self.last_updated_ms.is_some(), HAS_UPDATED),
            (self.overflow, OVERFLOW),
        ];
        let mut out = Vec::with_capacity(160);
        out.push(VERSION);
        put_number(
            &mut out,
            flags
                .iter()
                .filter(|(is_set, _)| *is_set)
                .map(|(_, flag)| u64::from(*flag))
                .sum(),
        );
        put_word(&mut out, &KINDS, self.kind.as_str());
        match (id, id_uuid) {
            (_, Some(uuid)) => out.extend(uuid),
            (Some(id), None) => put_text(&mut out, id),
            (None, None) => {}
        }
        match (url, url_uuid) {
            (_, Some(_)) if url_is_id => {}
            (_, Some(uuid)) => out.extend(uuid),
            (Some(url), None) => put_text(&mut out, url),
            (None, None) => {}
        }
        put_number(&mut out, place(&CATEGORIES, &self.category));
        put_number(
            &mut out,
            self.labels
                .iter()
                .map(|label| 1 << place(&LABELS, label))
                .sum(),
        );
        if let Some(dates) = self.dates {
            out.extend(dates.start_ms.to_be_bytes());
            out.extend(dates.end_ms.to_be_bytes());
            out.extend(dates.start_offset_min.to_be_bytes());
            out.extend(dates.end_offset_min.to_be_bytes());
        }
        out.extend(self.last_updated_ms.iter().flat_map(|ms| ms.to_be_bytes()));
        put_codes(&mut out, &self.codes);
        put_codes(&mut out, &self.categories);
        out
    }

    /// Reads what [`Card::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`CardError::Version`] for a card of a later version, [`CardError::Damaged`] for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CardError> {
        let (version, rest) = bytes.split_first().ok_or(CardError::Damaged)?;
        if *version != VERSION {
            return Err(CardError::Version);
        }
        let mut cut = Cut { rest };
        let card = cut.card().filter(|_| cut.rest.is_empty());
        card.ok_or(CardError::Damaged)
    }
}

/// What is left to read; every step is `None` when the bytes are not what was written.
struct Cut<'a> {
    rest: &'a [u8],
}

impl<'a> Cut<'a> {
    fn card(&mut self) -> Option<Card> {
        let flags = u16::try_from(self.number()?)
            .ok()
            .filter(|flags| flags & !FLAGS == 0)?;
        let has = |flag: u16| flags & flag != 0;
        let kind = ResourceType::try_from(self.word(&KINDS)?.as_ref()).ok()?;
        let id_text = match (has(HAS_ID), has(ID_IS_UUID)) {
            (false, false) => None,
            (true, false) => Some(self.text()?.to_owned()),
            (true, true) => Some(self.uuid()?),
            (false, true) => return None,
        };
        let full_url = match (has(HAS_URL), has(URL_IS_ID), has(URL_IS_UUID)) {
            (false, false, false) => None,
            (true, false, false) => Some(self.text()?.to_owned()),
            (true, true, false) if has(ID_IS_UUID) => Some(format!("{URN}{}", id_text.as_deref()?)),
            (true, false, true) => Some(format!("{URN}{}", self.uuid()?)),
            _ => return None,
        };
        let id = match id_text {
            Some(text) => Some(FhirId::try_from(text.as_str()).ok()?),
            None => None,
        };
        let category = *CATEGORIES.get(usize::try_from(self.number()?).ok()?)?;
        let bits = self.number().filter(|bits| bits >> LABELS.len() == 0)?;
        let labels: BTreeSet<Label> = LABELS
            .iter()
            .enumerate()
            .filter(|(bit, _)| bits >> bit & 1 == 1)
            .map(|(_, label)| *label)
            .collect();
        let dates = if has(HAS_DATES) {
            Some(self.span()?)
        } else {
            None
        };
        let last_updated_ms = if has(HAS_UPDATED) {
            Some(i64::from_be_bytes(self.array()?))
        } else {
            None
        };
        let (codes, categories) = (self.codes()?, self.codes()?);
        Some(Card {
            kind,
            id,
            full_url,
            category,
            labels,
            codes,
            categories,
            dates,
            last_updated_ms,
            overflow: has(OVERFLOW),
        })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                // INVARIANT: one number has one form; a last byte of zero would be a second.
                return (byte != 0 || shift == 0).then_some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn uuid(&mut self) -> Option<String> {
        Some(uuid_text(self.array()?))
    }

    fn word(&mut self, table: &'static [&'static str]) -> Option<Cow<'static, str>> {
        match usize::try_from(self.number()?).ok()? {
            0 => Some(Cow::Owned(self.text()?.to_owned())),
            at => table.get(at - 1).map(|word| Cow::Borrowed(*word)),
        }
    }

    fn span(&mut self) -> Option<Span> {
        Some(Span {
            start_ms: i64::from_be_bytes(self.array()?),
            end_ms: i64::from_be_bytes(self.array()?),
            start_offset_min: i16::from_be_bytes(self.array()?),
            end_offset_min: i16::from_be_bytes(self.array()?),
        })
    }

    fn codes(&mut self) -> Option<Vec<Code>> {
        let count = self.number()?;
        let mut codes = Vec::new();
        for _ in 0..count {
            let system = match usize::try_from(self.number()?).ok()? {
                0 => None,
                1 => Some(known_system(self.text()?)),
                at => Some(Cow::Borrowed(*SYSTEMS.get(at - 2)?)),
            };
            codes.push(Code {
                system,
                code: self.text()?.to_owned(),
            });
        }
        Some(codes)
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // Why: the mask keeps seven bits, so nothing is cut off.
        out.push((number & 0x7F) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend(text.as_bytes());
}

fn put_word(out: &mut Vec<u8>, table: &[&str], word: &str) {
    match table.iter().position(|known| *known == word) {
        Some(at) => put_number(out, at as u64 + 1),
        None => {
            put_number(out, 0);
            put_text(out, word);
        }
    }
}

fn put_codes(out: &mut Vec<u8>, codes: &[Code]) {
    put_number(out, codes.len() as u64);
    for code in codes {
        match code
            .system
            .as_deref()
            .map(|system| (system, SYSTEMS.iter().position(|known| *known == system)))
        {
            None => put_number(out, 0),
            Some((_, Some(at))) => put_number(out, at as u64 + 2),
            Some((system, None)) => {
                put_number(out, 1);
                put_text(out, system);
            }
        }
        put_text(out, &code.code);
    }
}

/// The place of a word in its frozen table.
fn place<T: PartialEq>(table: &[T], word: &T) -> u64 {
    // INVARIANT: the tables hold every word; a test counts them. What is missing reads as damage, not as another word.
    table.iter().position(|known| known == word).unwrap_or(31) as u64
}

/// The bytes of a UUID written in lower case with its hyphens, the only form that reads back the same.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| *byte != b'-')
        .map(|byte| char::from(byte).to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0, |n, d| n << 4 | d))
        .collect();
    let bytes: [u8; 16] = bytes.try_into().ok()?;
    (text.len() == 36 && uuid_text(bytes) == text).then_some(bytes)
}

fn uuid_text(bytes: [u8; 16]) -> String {
    let number = u128::from_be_bytes(bytes);
    let part = |shift: u32, digits: u32| (number >> shift) & ((1 << (digits * 4)) - 1);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::super::moment::Moment;
    use super::*;
    use policy::words::Category;

    fn full() -> Card {
        Card {
            kind: "Observation".try_into().unwrap(),
            id: Some("27de96c6-6910-4f0f-8f10-00ce6090f447".try_into().unwrap()),
            full_url: Some("urn:uuid:27de96c6-6910-4f0f-8f10-00ce6090f447".into()),
            category: Category::Observations,
            labels: [Label::R, Label::Unrecognised].into(),
            codes: vec![
                Code {
                    system: Some("http://loinc.org".into()),
                    code: "8480-6".into(),
                },
                Code {
                    system: Some("https://example.org/é".into()),
                    code: "x".into(),
                },
                Code {
                    system: None,
                    code: String::new(),
                },
            ],
            categories: vec![Code {
                system: Some("http://terminology.hl7.org/CodeSystem/observation-category".into()),
                code: "vital-signs".into(),
            }],
            dates: Moment::parse("2018-06-01T00:00:00+01:00").map(Span::from),
            last_updated_ms: Some(-5),
            overflow: true,
        }
    }

    fn variants() -> Vec<Card> {
        let mut cards = vec![full()];
        for (id, url) in [
            (None, None),
            (Some("1"), Some("https://example.org/fhir/Observation/1")),
            (
                Some("27DE96C6-6910-4F0F-8F10-00CE6090F447"),
                Some("urn:uuid:27DE96C6-6910-4F0F-8F10-00CE6090F447"),
            ),
            (
                Some("27de96c6-6910-4f0f-8f10-00ce6090f447"),
                Some("urn:uuid:00000000-0000-0000-0000-000000000000"),
            ),
            (Some("27de96c669104f0f8f1000ce6090f447"), None),
            (None, Some("urn:uuid:27de96c6-6910-4f0f-8f10-00ce6090f447")),
            (None, Some("urn:uuid:")),
        ] {
            cards.push(Card {
                kind: "Zebra".try_into().unwrap(),
                id: id.map(|id| id.try_into().unwrap()),
                full_url: url.map(Into::into),
                category: Category::Other,
                labels: BTreeSet::new(),
                codes: Vec::new(),
                categories: Vec::new(),
                dates: None,
                last_updated_ms: None,
                overflow: false,
            });
        }
        cards
    }

    #[test]
    fn a_card_reads_back_as_it_was() {
        for card in variants() {
            assert_eq!(Card::from_bytes(&card.to_bytes()), Ok(card));
        }
        for category in Category::ALL {
            let card = Card {
                category: *category,
                ..full()
            };
            assert_eq!(Card::from_bytes(&card.to_bytes()), Ok(card));
        }
        let all = Card {
            labels: Label::ALL.iter().copied().collect(),
            ..full()
        };
        assert_eq!(Card::from_bytes(&all.to_bytes()), Ok(all));
        assert_eq!(KINDS.iter().collect::<BTreeSet<_>>().len(), KINDS.len());
        assert_eq!(SYSTEMS.iter().collect::<BTreeSet<_>>().len(), SYSTEMS.len());
    }

    #[test]
    fn version_1_never_changes() {
        let hex: String = full()
            .to_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "01ef010227de96c669104f0f8f1000ce6090f4470681801000000163b86de58000000163b86de968003c003cfffffffffffffffb\
             030306383438302d36011668747470733a2f2f6578616d706c652e6f72672fc3a901780000010d0b766974616c2d7369676e73"
        );
    }

    #[test]
    fn the_largest_card_keeps_its_size() {
        let long = |n: usize| Code {
            system: Some(format!("https://example.org/{n:0200}").into()),
            code: format!("{n:0100}"),
        };
        let card = Card {
            kind: format!("A{}", "b".repeat(63)).as_str().try_into().unwrap(),
            id: Some("i".repeat(64).as_str().try_into().unwrap()),
            full_url: Some("u".repeat(512)),
            codes: (0..4).map(long).collect(),
            ..full()
        };
        assert!(card.to_bytes().len() <= CARD_BYTES_MAX);
        assert!(full().to_bytes().len() < 110, "{}", full().to_bytes().len());
    }

    #[test]
    fn damaged_bytes_are_errors_and_never_panic() {
        let bytes = full().to_bytes();
        for end in 0..bytes.len() {
            assert_eq!(
                Card::from_bytes(&bytes[..end]),
                Err(CardError::Damaged),
                "{end}"
            );
        }
        assert_eq!(
            Card::from_bytes(&[&bytes[..], &[0]].concat()),
            Err(CardError::Damaged)
        );
        assert_eq!(
            Card::from_bytes(&[&[2], &bytes[1..]].concat()),
            Err(CardError::Version)
        );
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut wrong = bytes.clone();
                wrong[at] ^= 1 << bit;
                if let Ok(card) = Card::from_bytes(&wrong) {
                    assert_eq!(card.to_bytes().len(), wrong.len());
                }
            }
        }
    }
}
