//! What has to be told, read off the ledger: which alarms stand, which items are open, what is undelivered to whom.
//!
//! It is shown every entry, at start and then by the ledger's writer, and is the same after a restart as before.
//! Nothing is sent from here. What waits for a target that is down is kept up to a bound; the rest is read from the
//! ledger again when its turn comes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::Notify;

use super::tally::{Declared, Tally};
use super::{AL, CLEAR, DELIVERED, EM, Kind, NOTICE, OF, PTR, RAISE};
use crate::ledger::{Event, Leaf};

/// What waits for one target in memory; more is read from the ledger when its turn comes.
const WAITING_MAX: usize = 10_000;
/// Items that were closed and are still listed.
const CLOSED_MAX: usize = 10_000;
/// No emergency counts longer, milliseconds.
const EMERGENCY_MS_MAX: u64 = 3_600_000;

/// One entry that has to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// The entry; `None` only where the ledger itself has stopped.
    pub entry: Option<u64>,
    /// When, milliseconds.
    pub ts_ms: u64,
    /// The event's name.
    pub event: String,
    /// What it is.
    pub code: String,
    /// What it concerns.
    pub of: String,
    /// What leads to the patient, for the vault alone.
    pub pointer: Option<String>,
}

impl Heading {
    /// Reads a leaf that has something to tell.
    #[must_use]
    pub fn of_leaf(leaf: &Leaf<'_>) -> Option<Self> {
        let members = leaf.mentions(AL).then(|| leaf.members())??;
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            entry: Some(leaf.index()),
            ts_ms: leaf.ts_ms()?,
            event: text("ev")?,
            code: text(AL)?,
            of: text(OF).unwrap_or_default(),
            pointer: text(PTR),
        })
    }

    /// Whether a privacy officer has to look at it and close it.
    fn is_item(&self) -> bool {
        self.event != CLEAR && self.event != NOTICE
    }
}

/// An item of the worklist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it is.
    pub heading: Heading,
    /// The entry by which it was closed.
    pub closed_by: Option<u64>,
}

/// A target, and what it has not been told yet.
struct Route {
    name: String,
    /// Whether the ledger says that anything was ever sent there.
    begun: bool,
    waiting: VecDeque<(Heading, bool)>,
    /// From where on the ledger has to be read again, and how many entries at least wait there.
    beyond: Option<(u64, u64)>,
    /// Told without an entry, because there can be none.
    unrecorded: Option<Heading>,
    failure: Option<String>,
}

#[derive(Default)]
struct State {
    size: u64,
    standing: BTreeMap<(String, String), Heading>,
    items: BTreeMap<u64, Item>,
    closed: VecDeque<u64>,
    routes: Vec<Route>,
    tally: Tally,
}

/// An emergency that is being decided: it counts until this is dropped.
pub struct Turn {
    board: Arc<Board>,
    turn: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.board.state().tally.end(self.turn);
    }
}

/// What has to be told, as the ledger has it.
pub struct Board {
    state: Mutex<State>,
    news: Notify,
}

/// How one target stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The target's name.
    pub target: String,
    /// Entries it has not been told.
    pub undelivered: u64,
    /// When the oldest of them was made, milliseconds.
    pub oldest_ms: Option<u64>,
    /// Why the last attempt failed, if it did.
    pub failure: Option<String>,
}

impl Board {
    /// A board for targets of these names; it is then shown the ledger from its first entry on.
    #[must_use]
    pub fn new(targets: impl IntoIterator<Item = String>) -> Self {
        let route = |name| Route {
            name,
            begun: false,
            waiting: VecDeque::new(),
            beyond: None,
            unrecorded: None,
            failure: None,
        };
        let state = State {
            routes: targets.into_iter().map(route).collect(),
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            news: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in one entry. Entries come in order, each once.
    pub fn read(&self, leaf: &Leaf<'_>) {
        let tells = leaf.mentions(AL);
        let told = leaf.mentions("upto") || leaf.mentions("item");
        let mut state = self.state();
        state.size = state.size.max(leaf.index() + 1);
        if told {
            state.told(leaf);
        }
        if let (true, Some(ts_ms)) = (leaf.mentions(EM), leaf.ts_ms()) {
            let members = leaf.members().unwrap_or_default();
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            if let (Some(code), Some(of)) = (text(EM), text(OF)) {
                state.tally.mark(ts_ms, code, of, EMERGENCY_MS_MAX);
            }
        }
        if let Some(heading) = tells.then(|| Heading::of_leaf(leaf)).flatten() {
            state.tell(heading);
            self.news.notify_waiters();
        }
    }

    /// After the last old entry: a target that is new has nothing to hear of what was before it. Gives the events
    /// that say so; until they are recorded the next start takes it for new again.
    #[must_use]
    pub fn begin(&self) -> Vec<Event> {
        let mut state = self.state();
        let upto = state.size.saturating_sub(1);
        let mut events = Vec::new();
        for route in state.routes.iter_mut().filter(|route| !route.begun) {
            route.begun = true;
            route.waiting.clear();
            route.beyond = None;
            events.push(delivered(&route.name, upto, 0));
        }
        events
    }

    /// Tells what cannot be recorded: that the ledger stopped. Said once.
    pub fn shout(&self, kind: Kind, ts_ms: u64) {
        let heading = Heading {
            entry: None,
            ts_ms,
            event: RAISE.to_owned(),
            code: kind.code().to_owned(),
            of: "gateway".to_owned(),
            pointer: None,
        };
        let mut state = self.state();
        let key = (heading.code.clone(), heading.of.clone());
        if state.standing.insert(key, heading.clone()).is_none() {
            for route in &mut state.routes {
                route.unrecorded = Some(heading.clone());
            }
            self.news.notify_waiters();
        }
    }

    /// Whether this alarm stands.
    #[must_use]
    pub fn stands(&self, kind: Kind, of: &str) -> bool {
        let key = (kind.code().to_owned(), of.to_owned());
        self.state().standing.contains_key(&key)
    }

    /// The alarms that stand.
    #[must_use]
    pub fn standing(&self) -> Vec<Heading> {
        self.state().standing.values().cloned().collect()
    }

    /// Items of the worklist after this entry, oldest first; those still open, or all.
    #[must_use]
    pub fn items(&self, after: Option<u64>, all: bool, limit: usize) -> Vec<Item> {
        let state = self.state();
        state.after(after, limit, |item| all || item.closed_by.is_none())
    }

    /// Items after this entry that are so, open or closed, oldest first.
    #[must_use]
    pub fn items_where(
        &self,
        after: Option<u64>,
        limit: usize,
        wanted: impl Fn(&Item) -> bool,
    ) -> Vec<Item> {
        self.state().after(after, limit, wanted)
    }

    /// Counts an emergency that is being decided, and says what was declared before it. `codes` are those of this
    /// person for this hour and the last.
    #[must_use]
    pub fn declare(
        self: &Arc<Self>,
        codes: [String; 2],
        organisation: &str,
        now_ms: u64,
        window_ms: u64,
    ) -> (Declared, Turn) {
        let mut state = self.state();
        let (declared, turn) = state.tally.begin(codes, organisation, now_ms, window_ms);
        let board = Arc::clone(self);
        (declared, Turn { board, turn })
    }

    /// One item.
    #[must_use]
    pub fn item(&self, entry: u64) -> Option<Item> {
        self.state().items.get(&entry).cloned()
    }

    /// How many items are open.
    #[must_use]
    pub fn open_items(&self) -> u64 {
        let state = self.state();
        (state.items.len() - state.closed.len()) as u64
    }

    /// How each target stands.
    #[must_use]
    pub fn targets(&self) -> Vec<Standing> {
        let state = self.state();
        let standing = |route: &Route| Standing {
            target: route.name.clone(),
            undelivered: route.waiting.iter().filter(|(_, sent)| !sent).count() as u64
                + route.beyond.map_or(0, |(_, count)| count)
                + u64::from(route.unrecorded.is_some()),
            oldest_ms: route
                .waiting
                .iter()
                .find(|(_, sent)| !sent)
                .map(|(heading, _)| heading.ts_ms),
            failure: route.failure.clone(),
        };
        state.routes.iter().map(standing).collect()
    }

    /// Waits until there is something for this target, and gives all of it.
    pub(super) async fn waiting(&self, target: &str) -> Vec<Heading> {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // INVARIANT: it listens before it looks, so that nothing falls between the two.
            news.as_mut().enable();
            let waiting = self.unsent(target);
            if !waiting.is_empty() {
                return waiting;
            }
            news.await;
        }
    }

    fn unsent(&self, target: &str) -> Vec<Heading> {
        let state = self.state();
        let Some(route) = state.routes.iter().find(|route| route.name == target) else {
            return Vec::new();
        };
        let unsent = route.waiting.iter().filter(|(_, sent)| !sent);
        let unsent = unsent.map(|(heading, _)| heading);
        route.unrecorded.iter().chain(unsent).cloned().collect()
    }

    /// These were sent. Gives the entry up to which the target has now been told everything, and how many that was.
    pub(super) fn sent(&self, target: &str, headings: &[Heading]) -> Option<(u64, u64)> {
        let mut state = self.state();
        let route = state.routes.iter_mut().find(|route| route.name == target)?;
        route.failure = None;
        let entries: std::collections::BTreeSet<u64> = headings
            .iter()
            .filter_map(|heading| heading.entry)
            .collect();
        if headings.iter().any(|heading| heading.entry.is_none()) {
            route.unrecorded = None;
        }
        for (heading, sent) in &mut route.waiting {
            *sent |= heading.entry.is_some_and(|entry| entries.contains(&entry));
        }
        let (mut upto, mut count) = (None, 0);
        while route.waiting.front().is_some_and(|(_, sent)| *sent) {
            let entry = route.waiting.pop_front().and_then(|(it, _)| it.entry);
            upto = entry.or(upto);
            count += 1;
        }
        upto.map(|upto| (upto, count))
    }

    /// An attempt failed.
    pub(super) fn failed(&self, target: &str, why: &str) {
        let mut state = self.state();
        if let Some(route) = state.routes.iter_mut().find(|route| route.name == target) {
            route.failure = Some(why.to_owned());
        }
    }

    /// Where the ledger has to be read again for this target, now that what was in memory is gone.
    pub(super) fn beyond(&self, target: &str) -> Option<u64> {
        let state = self.state();
        let route = state.routes.iter().find(|route| route.name == target)?;
        let (from, _) = route.beyond.filter(|_| route.waiting.is_empty())?;
        Some(from)
    }

    /// What was read again, up to which entry.
    pub(super) fn refill(&self, target: &str, found: Vec<Heading>, read_to: u64) {
        let mut state = self.state();
        let size = state.size;
        let Some(route) = state.routes.iter_mut().find(|route| route.name == target) else {
            return;
        };
        let left = route.beyond.map_or(0, |(_, count)| count);
        let left = left.saturating_sub(found.len() as u64);
        // Why held against the size: what came while the ledger was read is not among what was found.
        route.beyond = (read_to < size).then_some((read_to, left));
        route
            .waiting
            .extend(found.into_iter().map(|it| (it, false)));
        self.news.notify_waiters();
    }
}

/// The event of a delivery: up to which entry the target has been told, and how many that was.
pub(super) fn delivered(target: &str, upto: u64, count: u64) -> Event {
    Event::new(DELIVERED)
        .with("to", target)
        .with("upto", upto)
        .with("count", count)
}

impl State {
    fn after(&self, after: Option<u64>, limit: usize, wanted: impl Fn(&Item) -> bool) -> Vec<Item> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let items = self.items.range(from..).map(|(_, item)| item);
        items
            .filter(|item| wanted(item))
            .take(limit)
            .cloned()
            .collect()
    }

    fn tell(&mut self, heading: Heading) {
        let key = (heading.code.clone(), heading.of.clone());
        match heading.event.as_str() {
            RAISE => drop(self.standing.insert(key, heading.clone())),
            CLEAR => drop(self.standing.remove(&key)),
            _ => {}
        }
        if let Some(entry) = heading.entry.filter(|_| heading.is_item()) {
            let item = Item {
                heading: heading.clone(),
                closed_by: None,
            };
            self.items.insert(entry, item);
        }
        for route in &mut self.routes {
            match (&mut route.beyond, heading.entry) {
                (Some((_, count)), _) => *count += 1,
                (beyond @ None, Some(entry)) if route.waiting.len() >= WAITING_MAX => {
                    *beyond = Some((entry, 1));
                }
                (None, _) => route.waiting.push_back((heading.clone(), false)),
            }
        }
    }

    /// An entry by which a target was told, or an item closed.
    fn told(&mut self, leaf: &Leaf<'_>) -> Option<()> {
        let members = leaf.members()?;
        let number = |name: &str| members.get(name).and_then(Value::as_u64);
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        if text("ev") == Some(DELIVERED) {
            let (to, upto) = (text("to")?, number("upto")?);
            let route = self.routes.iter_mut().find(|route| route.name == to)?;
            route.begun = true;
            while route
                .waiting
                .front()
                .is_some_and(|(it, _)| it.entry <= Some(upto))
            {
                route.waiting.pop_front();
            }
        } else if let (Some(item), Some("permit")) = (number("item"), text("out")) {
            let item = self.items.get_mut(&item)?;
            if item.closed_by.replace(leaf.index()).is_none() {
                self.closed.push_back(item.heading.entry?);
            }
            if self.closed.len() > CLOSED_MAX
                && let Some(oldest) = self.closed.pop_front()
            {
                self.items.remove(&oldest);
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    fn tell(board: &Board, index: u64, ev: &str, al: &str, of: &str) {
        let text =
            format!(r#"{{"al":"{al}","ev":"{ev}","i":{index},"of":"{of}","ts":{index}000,"v":1}}"#);
        board.read(&Leaf::new(index, &text));
    }

    fn told(board: &Board, index: u64, upto: u64) {
        let text = format!(
            r#"{{"ev":"alert.delivered","i":{index},"to":"po","ts":{index}000,"upto":{upto},"v":1}}"#
        );
        board.read(&Leaf::new(index, &text));
    }

    fn entries(headings: &[Heading]) -> Vec<u64> {
        headings.iter().filter_map(|it| it.entry).collect()
    }

    #[test]
    fn what_the_ledger_does_not_call_delivered_waits_after_a_restart() {
        let board = Board::new(["po".to_owned()]);
        tell(&board, 1, "alarm.raise", "feed.silent", "A81001");
        tell(&board, 2, "token.issue", "break-glass", "RJ1");
        told(&board, 3, 1);
        tell(&board, 4, "alarm.clear", "feed.silent", "A81001");
        assert!(board.begin().is_empty(), "it is not new");
        assert_eq!(entries(&board.unsent("po")), [2, 4]);
        assert!(!board.stands(Kind::FeedSilent, "A81001"));
        let first = board.unsent("po").remove(1);
        assert_eq!(board.sent("po", &[first]), None, "2 is still unsent");
        let left = board.unsent("po");
        assert_eq!(board.sent("po", &left), Some((4, 2)));
        assert_eq!(board.targets().first().unwrap().undelivered, 0);
    }

    #[test]
    fn a_new_target_hears_nothing_of_what_was_before_it() {
        let board = Board::new(["po".to_owned()]);
        tell(&board, 1, "token.issue", "break-glass", "RJ1");
        assert_eq!(board.begin().len(), 1);
        assert!(board.unsent("po").is_empty());
        assert_eq!(board.open_items(), 1, "the worklist has it all the same");
        tell(&board, 2, "token.issue", "break-glass", "RJ1");
        assert_eq!(entries(&board.unsent("po")), [2]);
    }

    #[test]
    fn a_flood_is_bounded_in_memory_and_counted() {
        let board = Board::new(["po".to_owned()]);
        let many = WAITING_MAX as u64 + 500;
        (1..=many).for_each(|at| tell(&board, at, "token.issue", "break-glass", "RJ1"));
        assert_eq!(board.targets().first().unwrap().undelivered, many);
        let all = board.unsent("po");
        assert_eq!(all.len(), WAITING_MAX);
        assert_eq!(board.beyond("po"), None, "not while something waits");
        board.sent("po", &all);
        assert_eq!(board.beyond("po"), Some(WAITING_MAX as u64 + 1));
    }
}
