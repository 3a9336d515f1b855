//! A practice's objections, numbered: each gets its number and is on disk before it is sent, and is sent until the
//! gateway has it. What the gateway misses is sent again as it was; a feed that no longer agrees is said aloud.

use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::{Method, StatusCode};
use policy::words::Purpose;
use serde_json::{Value, json};

use super::asking::Asking;
use super::config::{StartError, file};
use super::kept::append;
use super::said::Trouble;
use crate::facts::{FeedBatch, Sum};

const JOURNAL: &str = "objections.ndjson";
/// Events in one message; the gateway takes 5,000.
const EVENTS_MAX: usize = 2_000;

/// The feed as this side has it.
pub(super) struct Feed {
    journal: std::path::PathBuf,
    known: Mutex<Known>,
}

struct Known {
    /// What an earlier system had passed on before this connector began.
    base: Option<Mark>,
    /// The events since, as they are sent; the first has the number after the base's.
    events: Vec<Value>,
    sum: Sum,
    state: String,
}

#[derive(Clone)]
struct Mark {
    generation: u64,
    count: u64,
    digest: Sum,
}

impl Feed {
    /// Reads what was numbered before.
    pub(super) fn open(keep: &Path) -> Result<Self, StartError> {
        let journal = keep.join(JOURNAL);
        let mut known = Known {
            base: None,
            events: Vec::new(),
            sum: Sum::ZERO,
            state: "not yet asked".to_owned(),
        };
        let text = match journal.exists() {
            true => std::fs::read_to_string(&journal).map_err(|error| file(&journal, error))?,
            false => String::new(),
        };
        for line in text.lines() {
            // Why left out: a power cut in the middle of a line; it was never numbered for anybody.
            let Ok(value) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            match value.get("base") {
                Some(base) => known.begin(mark(base).ok_or_else(|| file(&journal, "its base"))?),
                None => known.add(value).map_err(|error| file(&journal, error))?,
            }
        }
        let known = Mutex::new(known);
        Ok(Self { journal, known })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the feed stood when it was last told: `sound`, or what the gateway called it.
    pub(super) fn state(&self) -> String {
        self.known().state.clone()
    }

    /// Numbers events, one JSON object a line without `n`, and has them on disk.
    ///
    /// # Errors
    /// Which line is no event; then none of them was taken.
    pub(super) fn take(&self, text: &str) -> Result<usize, String> {
        let mut known = self.known();
        let first = known.last()? + 1;
        let mut events = Vec::new();
        let lines = text.lines().enumerate();
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        for ((at, line), n) in lines.zip(first..) {
            let wrong = |why: &str| format!("line {}: {why}", at + 1);
            let mut event: Value = serde_json::from_str(line).map_err(|_| wrong("is not JSON"))?;
            let members = event
                .as_object_mut()
                .ok_or_else(|| wrong("is not an object"))?;
            if members.insert("n".to_owned(), n.into()).is_some() {
                return Err(wrong("has a number; the connector numbers"));
            }
            text_of(&event).map_err(|why| wrong(&why))?;
            events.push(event);
        }
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        let kept = append(&self.journal).and_then(|mut journal| {
            journal.write_all(lines.as_bytes())?;
            journal.sync_all()
        });
        kept.map_err(|error| format!("{}: {error}", self.journal.display()))?;
        let count = events.len();
        for event in events {
            known.add(event)?;
        }
        Ok(count)
    }

    /// Tells the gateway what it does not have yet, and how far the feed has come; also when there is nothing new.
    pub(super) async fn tell(&self, asking: &Asking) -> Result<(), Trouble> {
        let path = "/feed/objections";
        let details = json!({ "type": "objections", "practice": asking.party.client_id });
        let status = asking
            .plain_read(&format!("{path}/status"), &details)
            .await?;
        self.begin(&status)?;
        let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or(0);
        let mut wanted = self.ranges(&status, number("count"));
        loop {
            let (batch, rest) = self.message(&wanted)?;
            let headers = [("content-type", "application/x-ndjson")];
            let sent = (Method::POST, path, &headers[..], batch.into());
            let reply = asking.act(sent, &details, None, &[]).await?.0;
            if reply.status != StatusCode::OK {
                return Err(Trouble::Gateway(reply.status, reply.text(), None));
            }
            let answer = reply.json();
            let state = answer
                .get("state")
                .and_then(Value::as_str)
                .unwrap_or("unknown")
                .to_owned();
            if !["sound", "gap"].contains(&state.as_str()) {
                tracing::error!(
                    state,
                    "the feed of objections does not agree with the gateway's: see docs/objections.md"
                );
            }
            self.known().state = state;
            match rest.is_empty() {
                true => return Ok(()),
                false => wanted = rest,
            }
        }
    }

    /// Where an earlier feed ended is where this one begins, once.
    fn begin(&self, status: &Value) -> Result<(), Trouble> {
        let mut known = self.known();
        if known.base.is_some() {
            return Ok(());
        }
        let base = json!({ "base": {
            "generation": status.get("generation").and_then(Value::as_u64).unwrap_or(1).max(1),
            "count": status.get("count").and_then(Value::as_u64).unwrap_or(0),
            "digest": status.get("digest").and_then(Value::as_str).unwrap_or(&Sum::ZERO.hex()),
        } });
        let begun = base.get("base").and_then(mark);
        let begun = begun.ok_or_else(|| Trouble::Broken("the feed's status".to_owned()))?;
        let kept = append(&self.journal).and_then(|mut journal| {
            writeln!(journal, "{base}")?;
            journal.sync_all()
        });
        kept.map_err(|error| Trouble::Own(format!("{}: {error}", self.journal.display())))?;
        known.begin(begun);
        Ok(())
    }

    /// The numbers that the gateway does not have.
    fn ranges(&self, status: &Value, count: u64) -> Vec<u64> {
        let known = self.known();
        let last = known.last().unwrap_or(0);
        let missing = status.get("missing").and_then(Value::as_array);
        let ranges = missing.into_iter().flatten().filter_map(|range| {
            let at = |at: usize| range.get(at).and_then(Value::as_u64);
            Some(at(0)?..=at(1)?.min(last))
        });
        ranges.flatten().chain(count + 1..=last).collect()
    }

    /// One message with as many of these as fit, and what is left for the next.
    fn message(&self, wanted: &[u64]) -> Result<(String, Vec<u64>), Trouble> {
        let known = self.known();
        let base = known.base.clone();
        let base = base.ok_or_else(|| Trouble::Own("the feed has not begun".to_owned()))?;
        let (now, rest) = wanted.split_at(wanted.len().min(EVENTS_MAX));
        let mut text = String::new();
        for n in now {
            let at = n
                .checked_sub(base.count + 1)
                .and_then(|at| usize::try_from(at).ok());
            if let Some(event) = at.and_then(|at| known.events.get(at)) {
                text.push_str(&format!("{event}\n"));
            }
        }
        let count = base.count + known.events.len() as u64;
        let end = json!({ "end": {
            "generation": base.generation, "count": count, "digest": known.sum.hex(),
        } });
        text.push_str(&end.to_string());
        Ok((text, rest.to_vec()))
    }
}

impl Known {
    fn begin(&mut self, base: Mark) {
        self.sum = base.digest;
        self.base = Some(base);
    }

    /// The last number.
    fn last(&self) -> Result<u64, String> {
        let base = self.base.as_ref();
        let base = base.ok_or("the gateway has not been asked yet how far the feed has come")?;
        Ok(base.count + self.events.len() as u64)
    }

    fn add(&mut self, event: Value) -> Result<(), String> {
        let n = event.get("n").and_then(Value::as_u64);
        if n != Some(self.last()? + 1) {
            return Err("its numbers are not in order".to_owned());
        }
        self.sum.add(&text_of(&event)?);
        self.events.push(event);
        Ok(())
    }
}

fn mark(base: &Value) -> Option<Mark> {
    Some(Mark {
        generation: base.get("generation")?.as_u64()?,
        count: base.get("count")?.as_u64()?,
        digest: Sum::parse(base.get("digest")?.as_str()?)?,
    })
}

/// The text that an event's digest is of; reading it is the gateway's own reading.
fn text_of(event: &Value) -> Result<String, String> {
    let n = event.get("n").and_then(Value::as_u64).unwrap_or(0);
    let end = json!({ "end": { "generation": 1, "count": n, "digest": Sum::ZERO.hex() } });
    let message = format!("{event}\n{end}");
    let batch = FeedBatch::parse(message.as_bytes(), &Purpose::NAMED, false);
    let batch = batch.map_err(|error| error.to_string())?;
    let first = batch.events.first().ok_or("is no event")?;
    Ok(first.text())
}
