//! What an issued token has to tell: that an emergency was declared, that there are too many of them, that an access
//! rests on weak evidence or is out of the ordinary. The telling stands in the very entry of the token, so that no
//! crash and no caller who hangs up comes between an access and its review.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use policy::ask::EMERGENCY_MS;
use policy::words::{Ods, PractitionerId};
use policy::{Emergencies, RecordScope};
use serde_json::Value;

use super::Gateway;
use crate::alerts::{AL, Declared, Kind, OF, Turn};
use crate::clock::is_out_of_hours;

/// So many tokens an hour are ordinary for anybody.
const VOLUME_ORDINARY: u32 = 60;
/// So many times what is usual for this person is not.
const VOLUME_TIMES: u32 = 4;
const HOUR_MS: u64 = 3_600_000;

/// An emergency that is being declared. It counts until it is dropped, or for as long as its entry says.
pub(super) struct Declaring {
    pub(super) declared: Declared,
    code: String,
    _turn: Turn,
}

impl Declaring {
    pub(super) fn emergencies(&self) -> Emergencies {
        let Declared { of_one, of_all, .. } = self.declared;
        Emergencies { of_one, of_all }
    }

    /// Seconds until another one may be declared; `None` if it may be now.
    pub(super) fn wait_s(&self, now_ms: u64) -> Option<u64> {
        let left_ms = self.declared.free_ms.saturating_sub(now_ms);
        (!self.emergencies().leave_one()).then_some(left_ms / 1000 + 1)
    }
}

impl Gateway {
    /// Counts an emergency that this practitioner declares now.
    pub(super) fn declare(
        &self,
        asked: &RecordScope,
        organisation: &Ods,
        now_ms: u64,
    ) -> Declaring {
        let hour = now_ms / EMERGENCY_MS;
        let code = |hour| {
            self.vault
                .person_code(organisation, &asked.practitioner, hour)
        };
        let codes = [code(hour), code(hour.saturating_sub(1))];
        let [code, _] = codes.clone();
        let board = self.post.shared_board();
        let (declared, turn) = board.declare(codes, organisation.as_str(), now_ms, EMERGENCY_MS);
        Declaring {
            declared,
            code,
            _turn: turn,
        }
    }

    /// What the entry of a refusal tells where the hourly cap was reached.
    pub(super) fn tells_cap(
        &self,
        asked: &RecordScope,
        organisation: &Ods,
    ) -> Vec<(&'static str, Value)> {
        self.telling(
            Kind::BreakGlassCap,
            asked,
            organisation,
            &["emergency", "cap"],
        )
    }

    /// What the entry of a grant tells, if anything.
    pub(super) fn tells_grant(
        &self,
        (asked, evidence): (&RecordScope, &str),
        organisation: &Ods,
        emergency: Option<&Declaring>,
        now_ms: u64,
    ) -> Vec<(&'static str, Value)> {
        let mut marks = Vec::new();
        if emergency.is_some() {
            marks.push("emergency");
        }
        if evidence == "asserted" {
            marks.push("asserted");
        }
        if self
            .habits
            .is_unusual(organisation, &asked.practitioner, now_ms)
        {
            marks.push("volume");
        }
        if marks.is_empty() {
            return Vec::new();
        }
        // Why only beside another mark: hospitals work at night, and a flag on every third access is a flag on none.
        if evidence != "corroborated" && is_out_of_hours(now_ms) {
            marks.push("out-of-hours");
        }
        match emergency {
            None => self.telling(Kind::Review, asked, organisation, &marks),
            Some(declaring) => {
                let mut members = self.telling(Kind::BreakGlass, asked, organisation, &marks);
                members.push(("em", declaring.code.as_str().into()));
                members
            }
        }
    }

    fn telling(
        &self,
        kind: Kind,
        asked: &RecordScope,
        organisation: &Ods,
        marks: &[&str],
    ) -> Vec<(&'static str, Value)> {
        vec![
            (AL, kind.code().into()),
            (OF, organisation.as_str().into()),
            ("ptr", self.vault.pointer(&asked.patient, marks).into()),
        ]
    }
}

/// How many tokens each person usually has issued in an hour. Kept in memory: after a restart everybody is new, and
/// only what is out of the ordinary for anybody shows.
#[derive(Default)]
pub(super) struct Habits(Mutex<HashMap<(Ods, PractitionerId), Habit>>);

#[derive(Default)]
struct Habit {
    hour: u64,
    count: u32,
    /// Tokens in an hour with any, in sixteenths: each hour moves it an eighth of the way.
    usual: u32,
}

impl Habits {
    /// Counts one; `true` once an hour, when this hour is out of the ordinary.
    fn is_unusual(&self, organisation: &Ods, person: &PractitionerId, now_ms: u64) -> bool {
        let mut habits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let habit = habits
            .entry((organisation.clone(), person.clone()))
            .or_default();
        let hour = now_ms / HOUR_MS;
        if habit.hour != hour {
            let counted = habit.count.saturating_mul(16);
            habit.usual = match habit.usual {
                0 => counted,
                usual => usual - usual / 8 + counted / 8,
            };
            (habit.hour, habit.count) = (hour, 0);
        }
        habit.count = habit.count.saturating_add(1);
        let ordinary = VOLUME_ORDINARY.max(habit.usual.saturating_mul(VOLUME_TIMES) / 16);
        habit.count == ordinary + 1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn an_hour_out_of_the_ordinary_shows_once_and_a_busy_person_is_not_always_out_of_it() {
        let habits = Habits::default();
        let (ods, person) = (
            "RJ1".parse::<Ods>().unwrap(),
            "dr-a".parse::<PractitionerId>().unwrap(),
        );
        let hour = |hour: u64, count: u32| {
            (0..count)
                .filter(|_| habits.is_unusual(&ods, &person, hour * HOUR_MS))
                .count()
        };
        assert_eq!(hour(1, VOLUME_ORDINARY), 0);
        assert_eq!(
            hour(2, 200),
            0,
            "four times the sixty of the hour before are 240"
        );
        assert_eq!(hour(3, 1000), 1);
    }
}
