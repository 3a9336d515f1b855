//! The post: takes what waits for a target, merges what is alike, sends until it is taken, and has it recorded.
//!
//! At least once: between a delivery and its entry a crash sends again, under the same entries. What comes while a
//! target is down, or faster than it is told, is merged into one letter a kind and organisation, so that a flood is
//! one letter every two seconds and not a thousand.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::board::delivered;
use super::{Board, CLEAR, Contacts, Heading, Kind, Level, Target};
use crate::clock::Clock;
use crate::ledger::Ledger;

/// After a delivery, what comes is gathered for so long.
const GATHER: Duration = Duration::from_secs(2);
/// After a failure it is tried again, at first after this, then after twice as long.
const RETRY: Duration = Duration::from_secs(1);
/// It is never waited longer.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Entries that one letter names; of more it gives first, last and count.
const NAMED_MAX: usize = 100;
/// Entries read again at once, of those that waited beyond memory.
const REFILL_MAX: usize = 5_000;

/// What is sent: entries that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) code: String,
    pub(super) event: String,
    pub(super) of: String,
    pub(super) count: u64,
    pub(super) first_ms: u64,
    pub(super) entries: Vec<u64>,
    pub(super) contacts: Vec<String>,
}

impl Letter {
    /// The same for the same entries: a receiver that knows it has them already.
    pub(super) fn id(&self) -> String {
        match (self.entries.first(), self.entries.last()) {
            (Some(first), Some(last)) => format!("{first}.{last}.{}", self.count),
            _ => format!("{}.{}", self.code, self.first_ms),
        }
    }

    fn kind(&self) -> Option<Kind> {
        Kind::parse(&self.code)
    }

    pub(super) fn level(&self) -> Level {
        match (self.event == CLEAR, self.kind()) {
            (true, _) => Level::Notification,
            (false, Some(kind)) => kind.level(),
            // Why: what this version does not know may be grave.
            (false, None) => Level::Alert,
        }
    }

    pub(super) fn says(&self) -> String {
        let says = self
            .kind()
            .map_or("something this version has no words for", Kind::says);
        match (self.event == CLEAR, self.count) {
            (true, _) => format!("over: {says}"),
            (false, 1) => says.to_owned(),
            (false, count) => format!("{count} times: {says}"),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut value = json!({
            "alert": self.code,
            "event": self.event,
            "level": self.level().code(),
            "of": self.of,
            "count": self.count,
            "first_ms": self.first_ms,
            "entries": self.entries,
            "says": self.says(),
        });
        if let (false, Some(members)) = (self.contacts.is_empty(), value.as_object_mut()) {
            members.insert("contacts".to_owned(), json!(self.contacts));
        }
        value
    }
}

/// What is alike in one letter each, in the order of the oldest.
fn merge(waiting: &[Heading]) -> Vec<(Letter, Vec<Heading>)> {
    let mut letters: Vec<(Letter, Vec<Heading>)> = Vec::new();
    let mut places: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for heading in waiting {
        let key = (&*heading.code, &*heading.event, &*heading.of);
        let place = *places.entry(key).or_insert(letters.len());
        if place == letters.len() {
            let letter = Letter {
                code: heading.code.clone(),
                event: heading.event.clone(),
                of: heading.of.clone(),
                count: 0,
                first_ms: heading.ts_ms,
                entries: Vec::new(),
                contacts: Vec::new(),
            };
            letters.push((letter, Vec::new()));
        }
        if let Some((letter, headings)) = letters.get_mut(place) {
            letter.count += 1;
            letter.entries.extend(heading.entry);
            headings.push(heading.clone());
        }
    }
    for (letter, _) in &mut letters {
        if letter.entries.len() > NAMED_MAX {
            let last = letter.entries.last().copied();
            letter.entries.truncate(NAMED_MAX - 1);
            letter.entries.extend(last);
        }
    }
    letters
}

/// The post of this gateway.
pub struct Post {
    board: Arc<Board>,
    targets: Vec<Arc<Target>>,
    clock: Clock,
}

impl Post {
    /// Delivers what is on this board to these targets.
    #[must_use]
    pub fn new(board: Arc<Board>, targets: Vec<Target>, clock: Clock) -> Self {
        let targets = targets.into_iter().map(Arc::new).collect();
        Self {
            board,
            targets,
            clock,
        }
    }

    /// What has to be told.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The same, for whoever shows it the ledger.
    #[must_use]
    pub fn shared_board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Delivers until it is dropped. Each target has its own turn: one that is down holds up no other.
    pub async fn deliver(&self, ledger: &Ledger, contacts: &Contacts) {
        let mut rounds = tokio::task::JoinSet::new();
        for target in &self.targets {
            let (board, target) = (Arc::clone(&self.board), Arc::clone(target));
            let (ledger, clock) = (ledger.clone(), self.clock.clone());
            let contacts = Contacts::clone(contacts);
            let delivering =
                async move { deliver_to(&board, (&target, &contacts), &ledger, &clock).await };
            rounds.spawn(delivering);
        }
        while rounds.join_next().await.is_some() {}
    }
}

async fn deliver_to(
    board: &Board,
    (target, contacts): (&Target, &Contacts),
    ledger: &Ledger,
    clock: &Clock,
) {
    let name = target.name();
    let mut retry = RETRY;
    loop {
        if let Some(from) = board.beyond(name) {
            refill(board, name, ledger, from).await;
        }
        let waiting = board.waiting(name).await;
        let failed = round(board, (target, contacts), ledger, clock, &waiting).await;
        let pause = match failed {
            None => {
                retry = RETRY;
                GATHER
            }
            Some(why) => {
                tracing::warn!(target = name, why, "an alert could not be delivered");
                board.failed(name, &why);
                let pause = retry;
                retry = retry.saturating_mul(2).min(RETRY_MAX);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Sends what waits; why it could not, if so. What was taken is recorded as delivered, also when the rest was not.
async fn round(
    board: &Board,
    (target, contacts): (&Target, &Contacts),
    ledger: &Ledger,
    clock: &Clock,
    waiting: &[Heading],
) -> Option<String> {
    let (mut upto, mut count, mut failed) = (None, 0, None);
    for (mut letter, headings) in merge(waiting) {
        letter.contacts = contacts(&letter.of);
        match target.send(&letter, clock.now_ms()).await {
            Ok(()) => {
                if let Some((entry, more)) = board.sent(target.name(), &headings) {
                    (upto, count) = (Some(entry), count + more);
                }
            }
            Err(why) => {
                failed = Some(why);
                break;
            }
        }
    }
    if let Some(upto) = upto {
        let event = delivered(target.name(), upto, count);
        if let Err(error) = ledger.note(event).await {
            // Why no more than said: without its entry the next start delivers it again, which harms nobody.
            tracing::error!(%error, target = target.name(), "a delivery could not be recorded");
        }
    }
    failed
}

/// Reads again what waited beyond memory.
async fn refill(board: &Board, target: &str, ledger: &Ledger, from: u64) {
    let ledger = ledger.clone();
    let read = tokio::task::spawn_blocking(move || {
        let (mut found, mut read_to) = (Vec::new(), from);
        let scanned = ledger.scan(from, &mut |leaf, _| {
            if found.len() >= REFILL_MAX {
                return ControlFlow::Break(());
            }
            read_to = leaf.index() + 1;
            found.extend(Heading::of_leaf(leaf));
            ControlFlow::Continue(())
        });
        scanned.map(|()| (found, read_to))
    });
    match read.await {
        Ok(Ok((found, read_to))) => board.refill(target, found, read_to),
        Ok(Err(error)) => tracing::error!(%error, target, "waiting alerts cannot be read again"),
        Err(error) => tracing::error!(%error, target, "waiting alerts cannot be read again"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may panic")]
    use super::*;

    fn heading(entry: u64, code: &str, of: &str) -> Heading {
        Heading {
            entry: Some(entry),
            ts_ms: entry * 1000,
            event: "token.issue".to_owned(),
            code: code.to_owned(),
            of: of.to_owned(),
            pointer: None,
        }
    }

    #[test]
    fn a_flood_is_one_letter_and_names_its_first_and_last() {
        let mut waiting: Vec<_> = (1..=500)
            .map(|at| heading(at, "break-glass", "RJ1"))
            .collect();
        waiting.push(heading(501, "break-glass", "RM3"));
        let letters = merge(&waiting);
        assert_eq!(letters.len(), 2);
        let flood = &letters[0].0;
        assert_eq!((flood.count, flood.entries.len()), (500, NAMED_MAX));
        assert_eq!(
            (flood.entries.first(), flood.entries.last()),
            (Some(&1), Some(&500))
        );
        assert_eq!(flood.id(), "1.500.500");
        assert_eq!(letters[0].1.len(), 500, "all of them are then delivered");
    }

    #[test]
    fn what_is_not_known_is_grave_and_what_is_over_is_not() {
        let letter = |code, event: &str| Letter {
            event: event.to_owned(),
            ..merge(&[heading(1, code, "x")]).remove(0).0
        };
        assert_eq!(
            letter("from.the.future", "alarm.raise").level(),
            Level::Alert
        );
        assert_eq!(letter("feed.silent", "alarm.raise").level(), Level::Alert);
        assert_eq!(
            letter("feed.silent", "alarm.clear").level(),
            Level::Notification
        );
    }
}
