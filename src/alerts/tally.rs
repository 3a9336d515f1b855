//! The emergencies of the last hour, counted from the ledger's own marks, so that a restart forgets none.
//!
//! An entry marks its emergency with a code of person, organisation and hour: it says who it was to nobody, and who
//! knows two of one hour to be one person cannot follow that person into the next. Whoever asks brings the codes of
//! this hour and the last, which cover the time that counts. One that is being decided counts already.

use std::collections::VecDeque;

/// What was declared within the time that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// By this person at this organisation.
    pub of_one: u32,
    /// By all of this organisation.
    pub of_all: u32,
    /// When the oldest of this organisation stops counting, milliseconds.
    pub free_ms: u64,
}

struct Mark {
    ts_ms: u64,
    person: String,
    organisation: String,
}

#[derive(Default)]
pub(super) struct Tally {
    marks: VecDeque<Mark>,
    underway: Vec<(u64, [String; 2], String)>,
    next: u64,
}

impl Tally {
    /// An emergency that stands in the ledger.
    pub(super) fn mark(&mut self, ts_ms: u64, person: &str, organisation: &str, window_ms: u64) {
        let since = ts_ms.saturating_sub(window_ms);
        while self.marks.front().is_some_and(|mark| mark.ts_ms < since) {
            self.marks.pop_front();
        }
        self.marks.push_back(Mark {
            ts_ms,
            person: person.to_owned(),
            organisation: organisation.to_owned(),
        });
    }

    /// What was declared before, and a place for the one that is asked for now; [`Tally::end`] gives it up.
    pub(super) fn begin(
        &mut self,
        codes: [String; 2],
        organisation: &str,
        now_ms: u64,
        window_ms: u64,
    ) -> (Declared, u64) {
        let since = now_ms.saturating_sub(window_ms);
        let counts = |mark: &&Mark| mark.ts_ms > since && mark.organisation == organisation;
        let (mut of_one, mut of_all) = (0, 0);
        let mut oldest = [None; 2];
        for mark in self.marks.iter().filter(counts) {
            of_all += 1;
            oldest[0].get_or_insert(mark.ts_ms);
            if codes.contains(&mark.person) {
                of_one += 1;
                oldest[1].get_or_insert(mark.ts_ms);
            }
        }
        for (_, theirs, place) in &self.underway {
            of_all += u32::from(place == organisation);
            of_one += u32::from(place == organisation && theirs == &codes);
        }
        let [all, one] = oldest;
        let free_ms = one.or(all).unwrap_or(now_ms).saturating_add(window_ms);
        let turn = self.next;
        self.next += 1;
        self.underway.push((turn, codes, organisation.to_owned()));
        (
            Declared {
                of_one,
                of_all,
                free_ms,
            },
            turn,
        )
    }

    pub(super) fn end(&mut self, turn: u64) {
        self.underway.retain(|(other, ..)| *other != turn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn codes(now: &str, before: &str) -> [String; 2] {
        [now.to_owned(), before.to_owned()]
    }

    #[test]
    fn an_hour_counts_across_its_full_hours_and_then_no_longer() {
        let mut tally = Tally::default();
        tally.mark(HOUR - 10, "a0", "RJ1", HOUR);
        tally.mark(HOUR + 10, "a1", "RJ1", HOUR);
        tally.mark(HOUR + 20, "b1", "RJ1", HOUR);
        tally.mark(HOUR + 30, "a1", "RM3", HOUR);
        let (declared, turn) = tally.begin(codes("a1", "a0"), "RJ1", HOUR + 40, HOUR);
        assert_eq!((declared.of_one, declared.of_all), (2, 3));
        assert_eq!(declared.free_ms, 2 * HOUR - 10);
        tally.end(turn);
        let (declared, _) = tally.begin(codes("a2", "a1"), "RJ1", 2 * HOUR + 5, HOUR);
        assert_eq!(
            (declared.of_one, declared.of_all),
            (1, 2),
            "the first is over"
        );
    }

    #[test]
    fn one_that_is_being_decided_counts_until_it_is_decided() {
        let mut tally = Tally::default();
        let (first, turn) = tally.begin(codes("a", "-"), "RJ1", HOUR, HOUR);
        let (second, _) = tally.begin(codes("a", "-"), "RJ1", HOUR, HOUR);
        assert_eq!((first.of_one, second.of_one), (0, 1));
        tally.end(turn);
        let (third, _) = tally.begin(codes("a", "-"), "RJ1", HOUR, HOUR);
        assert_eq!(third.of_one, 1);
    }
}
