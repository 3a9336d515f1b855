//! What a feed of objections says, as it comes in: numbered events, and the running count and digest of all of
//! them. Each objection is expanded here to an explicit list of purposes. Nothing is stored or decided here; what
//! does not parse is refused whole, naming the line, so that nothing is half taken.

use std::collections::BTreeSet;

use policy::words::{NhsNumber, Purpose};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Events of one batch at most.
pub(super) const EVENTS_MAX: usize = 5_000;
/// The highest number of a feed: beyond it a new generation begins.
pub(super) const NUMBER_MAX: u64 = 10_000_000;

/// A sum of SHA-256 digests modulo 2^256, big-endian: what both sides of a feed can compute in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum([u8; 32]);

impl Sum {
    /// Of nothing.
    pub const ZERO: Self = Self([0; 32]);

    /// Adds the digest of one event's text.
    pub fn add(&mut self, text: &str) {
        let mut carry = 0u16;
        let digest = Sha256::digest(text);
        for (digit, more) in self.0.iter_mut().rev().zip(digest.iter().rev()) {
            let [low, high] = (u16::from(*digit) + u16::from(*more) + carry).to_le_bytes();
            *digit = low;
            carry = u16::from(high);
        }
    }

    /// Lower-case hexadecimal of one digest.
    #[must_use]
    pub fn digest_of(digest: &[u8; 32]) -> String {
        Self(*digest).hex()
    }

    /// 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what [`Sum::hex`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        super::statement::thumbprint(text).map(Self)
    }
}

/// Up to where a feed has come: which generation, the highest number, and the sum over all events up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedMark {
    /// Counts how often the whole feed was begun anew.
    pub generation: u32,
    /// The number of the last event.
    pub count: u64,
    /// Over all events from 1 to `count`.
    pub digest: Sum,
}

/// One event of a feed: an objection made, or taken back.
#[derive(Clone, PartialEq, Eq)]
pub struct FeedEvent {
    /// Its number; a feed leaves none out.
    pub n: u64,
    /// The source's own identifier of the objection.
    pub id: String,
    /// Who objects.
    pub patient: NhsNumber,
    /// To what: explicit, never empty.
    pub purposes: BTreeSet<Purpose>,
    /// Whether it stands; one taken back does not.
    pub active: bool,
}

impl FeedEvent {
    /// `N|ID|NHS NUMBER|PURPOSES|active` or `…|inactive`; the purposes sorted by their bytes with commas between, or
    /// `all`. Its SHA-256 is the event's summand in the feed's digest.
    #[must_use]
    pub fn text(&self) -> String {
        let is_all = Purpose::NAMED
            .iter()
            .all(|purpose| self.purposes.contains(purpose));
        let mut codes: Vec<&str> = self.purposes.iter().map(Purpose::code).collect();
        codes.sort_unstable();
        let purposes = if is_all {
            "all".to_owned()
        } else {
            codes.join(",")
        };
        let state = if self.active { "active" } else { "inactive" };
        let (n, id, patient) = (self.n, &self.id, self.patient.as_str());
        format!("{n}|{id}|{patient}|{purposes}|{state}")
    }
}

/// What arrived at once.
pub struct FeedBatch {
    /// In the order of their numbers; none in a heartbeat.
    pub events: Vec<FeedEvent>,
    /// Up to where the source says it has come.
    pub end: FeedMark,
}

/// A batch that cannot be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {rule}")]
pub struct FeedError {
    /// Which line, from 1.
    pub line: usize,
    /// Which rule it breaks.
    pub rule: &'static str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventLine {
    n: u64,
    id: String,
    patient: String,
    purposes: Option<Vec<String>>,
    status: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    end: End,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    generation: Option<u32>,
    count: u64,
    digest: String,
}

impl FeedBatch {
    /// Reads NDJSON: a line an event, and a last line with count and digest. `default` is what an event without
    /// purposes objects to; an event may name no others where `within` is set, as for a list that never concerns
    /// care.
    ///
    /// # Errors
    /// The line and the rule it breaks.
    pub fn parse(bytes: &[u8], default: &[Purpose], within: bool) -> Result<Self, FeedError> {
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(1, "must be UTF-8"))?;
        let lines: Vec<(usize, &str)> = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
            .filter(|(_, line)| !line.trim().is_empty())
            .collect();
        let Some(((at, last), events)) = lines.split_last() else {
            return Err(wrong(1, END));
        };
        let end = end(last).ok_or(wrong(*at, END))?;
        if events.len() > EVENTS_MAX {
            return Err(wrong(EVENTS_MAX + 1, "a batch has at most 5000 events"));
        }
        let mut out: Vec<FeedEvent> = Vec::with_capacity(events.len());
        for (at, line) in events {
            let event = event(line, default, within).map_err(|rule| wrong(*at, rule))?;
            if event.n > end.count {
                return Err(wrong(*at, "n may not be higher than the last line's count"));
            }
            if out.last().is_some_and(|before| before.n >= event.n) {
                return Err(wrong(*at, "n must rise from line to line"));
            }
            out.push(event);
        }
        Ok(Self { events: out, end })
    }

    /// One event that came by itself, with `generation=G; n=N; count=C; digest=HEX` beside it.
    ///
    /// # Errors
    /// The rule that this text breaks.
    pub fn single(
        beside: &str,
        event: impl FnOnce(u64) -> FeedEvent,
    ) -> Result<Self, &'static str> {
        const RULE: &str = "must be generation=G; n=N; count=C; digest=64 lower-case hex digits";
        let mut members: Vec<(&str, &str)> = Vec::new();
        for part in beside.split(';') {
            let (name, value) = part.trim().split_once('=').ok_or(RULE)?;
            if members.iter().any(|(other, _)| *other == name) {
                return Err(RULE);
            }
            members.push((name, value));
        }
        let text = |name: &str| {
            let found = members.iter().find(|(member, _)| *member == name);
            found.map(|(_, value)| *value).ok_or(RULE)
        };
        let number = |name: &str| text(name)?.parse::<u64>().map_err(|_| RULE);
        let (generation, n, count) = (number("generation")?, number("n")?, number("count")?);
        let digest = Sum::parse(text("digest")?).ok_or(RULE)?;
        let generation = u32::try_from(generation).map_err(|_| RULE)?;
        let is_sound = generation > 0 && n > 0 && n <= count && count <= NUMBER_MAX;
        if !is_sound || members.len() != 4 {
            return Err(RULE);
        }
        let end = FeedMark {
            generation,
            count,
            digest,
        };
        Ok(Self {
            events: vec![event(n)],
            end,
        })
    }
}

const END: &str = "the last line must be {\"end\":{\"generation\"?,\"count\",\"digest\"}}: digest 64 lower-case hex digits";

const fn wrong(line: usize, rule: &'static str) -> FeedError {
    FeedError { line, rule }
}

/// Why not serde alone: it takes an array for an object, by the order of its members.
fn object_of<T: for<'de> Deserialize<'de>>(line: &str) -> Option<T> {
    let object = line.trim_start().starts_with('{');
    object.then(|| serde_json::from_str(line).ok()).flatten()
}

fn end(line: &str) -> Option<FeedMark> {
    let EndLine { end } = object_of(line)?;
    let generation = end.generation.unwrap_or(1);
    let digest = Sum::parse(&end.digest)?;
    (generation > 0 && end.count <= NUMBER_MAX).then_some(FeedMark {
        generation,
        count: end.count,
        digest,
    })
}

fn event(line: &str, default: &[Purpose], within: bool) -> Result<FeedEvent, &'static str> {
    let line: EventLine = object_of(line)
        .ok_or("must be an object of n, id, patient, purposes? and status?, no member twice")?;
    if !(1..=NUMBER_MAX).contains(&line.n) {
        return Err("n must be from 1 to 10000000");
    }
    let is_id = (1..=64).contains(&line.id.len())
        && line
            .id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    if !is_id {
        return Err("id must have 1 to 64 letters, digits, - and .");
    }
    let patient = NhsNumber::try_from(line.patient.as_str())
        .map_err(|_| "patient must be an NHS number with the right check digit")?;
    let purposes: BTreeSet<Purpose> = match &line.purposes {
        None => default.iter().cloned().collect(),
        Some(codes) if !codes.is_empty() => codes
            .iter()
            .map(|code| Purpose::parse(code))
            .collect::<Result<_, _>>()
            .map_err(|_| "purposes must be PurposeOfUse codes")?,
        Some(_) => return Err("purposes must name one at least; left out it means all"),
    };
    if within && !purposes.iter().all(|purpose| default.contains(purpose)) {
        return Err("an opt-out list objects to HRESCH, PUBHLTH and HOPERAT only");
    }
    let active = match line.status.as_deref() {
        None | Some("active") => true,
        Some("inactive") => false,
        Some(_) => return Err("status must be active or inactive"),
    };
    Ok(FeedEvent {
        n: line.n,
        id: line.id,
        patient,
        purposes,
        active,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    fn parse(text: &str) -> Result<FeedBatch, FeedError> {
        FeedBatch::parse(text.as_bytes(), &Purpose::NAMED, false)
    }

    fn end_line(count: u64) -> String {
        format!(
            "{{\"end\":{{\"count\":{count},\"digest\":\"{}\"}}}}",
            Sum::ZERO.hex()
        )
    }

    #[test]
    fn an_objection_without_purposes_is_to_all_of_them_and_its_text_is_fixed() {
        let batch = parse(&format!(
            "{{\"n\":1,\"id\":\"o-1\",\"patient\":\"9990000018\"}}\n\
             {{\"n\":2,\"id\":\"o-2\",\"patient\":\"9990000018\",\"purposes\":[\"PUBHLTH\",\"HRESCH\"],\"status\":\"inactive\"}}\n{}\n",
            end_line(2)
        ))
        .unwrap();
        let texts: Vec<String> = batch.events.iter().map(FeedEvent::text).collect();
        assert_eq!(
            texts,
            [
                "1|o-1|9990000018|all|active",
                "2|o-2|9990000018|HRESCH,PUBHLTH|inactive"
            ]
        );
        assert_eq!(batch.events.first().unwrap().purposes.len(), 6);
        assert_eq!(batch.end.generation, 1);
        // A known answer: printf '1|o-1|9990000018|all|active' | sha256sum
        let mut sum = Sum::ZERO;
        sum.add("1|o-1|9990000018|all|active");
        assert_eq!(Sum::parse(&sum.hex()), Some(sum));
    }

    #[test]
    fn the_sum_is_the_same_in_any_order_and_carries() {
        let (mut one, mut other) = (Sum::ZERO, Sum::ZERO);
        for text in ["a", "b", "c"] {
            one.add(text);
        }
        for text in ["c", "a", "b"] {
            other.add(text);
        }
        assert_eq!(one, other);
        let mut full = Sum([0xff; 32]);
        full.add("a");
        let mut less = Sum::ZERO;
        less.add("a");
        // 2^256 - 1 + x = x - 1.
        let last = |sum: &Sum| sum.0.last().copied().unwrap();
        assert_eq!(last(&full), last(&less).wrapping_sub(1));
    }

    #[test]
    fn what_is_malformed_names_its_line_and_nothing_is_taken() {
        let good = "{\"n\":1,\"id\":\"o-1\",\"patient\":\"9990000018\"}";
        for (text, line) in [
            (String::new(), 1),
            (good.to_owned(), 1),
            (format!("{good}\n{good}\n{}", end_line(2)), 2),
            (format!("{good}\n{}", end_line(0)), 1),
            (
                format!(
                    "{{\"n\":1,\"n\":2,\"id\":\"a\",\"patient\":\"9990000018\"}}\n{}",
                    end_line(2)
                ),
                1,
            ),
            (
                format!("{}\n{}", good.replace("0018", "0019"), end_line(1)),
                1,
            ),
            (
                format!("{}\n{}", good.replace("o-1", "o 1"), end_line(1)),
                1,
            ),
            (
                format!(
                    "{}\n{}",
                    good.replace('}', ",\"purposes\":[]}"),
                    end_line(1)
                ),
                1,
            ),
            (
                format!(
                    "{}\n{}",
                    good.replace('}', ",\"status\":\"maybe\"}"),
                    end_line(1)
                ),
                1,
            ),
            (
                format!("{}\n{}", good.replace('}', ",\"name\":\"x\"}"), end_line(1)),
                1,
            ),
            ("{\"end\":{\"count\":1,\"digest\":\"ABC\"}}".to_owned(), 1),
        ] {
            assert_eq!(parse(&text).err().unwrap().line, line, "{text}");
        }
        let care = good.replace('}', ",\"purposes\":[\"TREAT\"]}");
        let text = format!("{care}\n{}", end_line(1));
        let list = FeedBatch::parse(text.as_bytes(), &Purpose::SECONDARY, true);
        assert!(list.is_err(), "a list never stands in the way of care");
    }
}
