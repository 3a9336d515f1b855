//! Decisions about the gateway itself: what its administrators do and who reads its log.
//!
//! No purpose and no patient's facts apply here; nothing of what is decided here opens a record.

use crate::ask::{AdminAct, Ask, ReadLog};
use crate::caller::Caller;
use crate::cedar::StaffAct;
use crate::decide::{Entry, Weigh, Weighed, unknown};
use crate::facts::AdminFacts;
use crate::rules::Rules;
use crate::verdict::Reason;

impl Weigh for AdminAct {
    fn weigh(rules: &Rules, ask: &Ask<AdminAct>, facts: &AdminFacts) -> Weighed<()> {
        let act = ask.act();
        let mut entry = Entry::default();
        entry.name("act", act.act.as_str());
        entry.name("object", act.object.as_str());
        let outcome = if AdminAct::ACTS.contains(&act.act.as_str()) {
            judge(rules, ask.caller(), &StaffAct::Administer(&act.act), facts)
        } else {
            Err(Reason::new(
                "unlisted-act",
                "No such administrative act is listed.",
            ))
        };
        Weighed { outcome, entry }
    }
}

impl Weigh for ReadLog {
    fn weigh(rules: &Rules, ask: &Ask<ReadLog>, facts: &AdminFacts) -> Weighed<()> {
        let what = ask.act().what.as_str();
        let mut entry = Entry::default();
        entry.name("what", what);
        let part = if what == "history" || what.starts_with("history/") {
            "history"
        } else {
            "entries"
        };
        let outcome = judge(rules, ask.caller(), &StaffAct::ReadLog(part), facts);
        Weighed { outcome, entry }
    }
}

fn judge(
    rules: &Rules,
    caller: &Caller,
    act: &StaffAct<'_>,
    facts: &AdminFacts,
) -> Result<((), Reason), Reason> {
    let suspended = facts.suspended.known();
    let is_suspended = *suspended.map_err(|why| unknown("suspension", why))?;
    let question =
        rules
            .lexicon
            .staff_question(&rules.schema, caller, is_suspended, facts.now_ms, act);
    Ok(((), rules.judge(question)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]

    use super::{AdminAct, ReadLog};
    use crate::ask::Ask;
    use crate::decide::decide;
    use crate::facts::{AdminFacts, Fact};
    use crate::rules::{Rules, SCHEMA};
    use crate::world::{NOW_MS, PERMIT_ALL, World, rule};

    #[test]
    fn the_schema_lists_the_same_acts() {
        let (_, rest) = SCHEMA.split_once("entity Deed enum [").unwrap();
        let (list, _) = rest.split_once(']').unwrap();
        let listed: Vec<&str> = list
            .split(',')
            .map(|act| act.trim().trim_matches('"'))
            .collect();
        assert_eq!(listed, AdminAct::ACTS);
    }

    #[test]
    fn the_monitor_stops_what_a_lost_guard_lets_through() {
        let facts = AdminFacts {
            now_ms: NOW_MS,
            suspended: Fact::Known(false),
        };
        let caller = World::in_order().bare_caller(None);
        let rules = Rules::parse(PERMIT_ALL)
            .unwrap()
            .without("never-administered-by-others")
            .without("never-the-log-to-others");
        let (act, object) = ("kek.rotate".into(), "A81001".into());
        let ask = Ask::new(caller.clone(), AdminAct { act, object });
        assert_eq!(rule(&decide(&rules, ask, &facts)), "invariant-broken");
        for what in ["entries", "history"] {
            let ask = Ask::new(caller.clone(), ReadLog { what: what.into() });
            assert_eq!(rule(&decide(&rules, ask, &facts)), "invariant-broken");
        }
    }
}
