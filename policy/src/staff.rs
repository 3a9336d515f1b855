//! Decisions about the gateway itself: what its administrators do, alone or by two, and who reads its log.
//!
//! No purpose and no patient's facts apply here; nothing of what is decided here opens a record.

use crate::ask::{AdminAct, Approve, Ask, Propose, ReadLog};
use crate::caller::Caller;
use crate::cedar::{Approval, StaffAct};
use crate::decide::{Entry, Weigh, Weighed, unknown};
use crate::facts::{AdminFacts, ApprovalFacts, ProposalFacts};
use crate::rules::Rules;
use crate::verdict::Reason;
use crate::words::hex;

impl Weigh for AdminAct {
    fn weigh(rules: &Rules, ask: &Ask<AdminAct>, facts: &AdminFacts) -> Weighed<()> {
        let act = ask.act();
        let entry = entry(&act.act, &act.object, &act.why);
        let outcome = listed(&act.act)
            .and_then(|()| judge(rules, ask.caller(), &StaffAct::Administer(&act.act), facts));
        Weighed { outcome, entry }
    }
}

impl Weigh for Propose {
    fn weigh(rules: &Rules, ask: &Ask<Propose>, facts: &ProposalFacts) -> Weighed<()> {
        let act = ask.act();
        let mut entry = entry(&act.act, &act.object, &act.why);
        entry.name("proposal", hex(&act.digest));
        let outcome = (|| {
            listed(&act.act)?;
            let person = facts.person.known().map_err(|why| unknown("person", why))?;
            entry.say("person", person.as_str());
            judge(
                rules,
                ask.caller(),
                &StaffAct::Administer("proposal.make"),
                &facts.administrator,
            )
        })();
        Weighed { outcome, entry }
    }
}

impl Weigh for Approve {
    fn weigh(rules: &Rules, ask: &Ask<Approve>, facts: &ApprovalFacts) -> Weighed<()> {
        let act = ask.act();
        let mut entry = entry(&act.act, &act.object, &act.why);
        entry.name("proposal", hex(&act.digest));
        let outcome = (|| {
            let person = facts.person.known().map_err(|why| unknown("person", why))?;
            entry.say("person", person.as_str());
            let proposed = facts
                .proposal
                .known()
                .map_err(|why| unknown("proposal", why))?;
            entry.say("proposer", proposed.person.as_str());
            listed(&act.act)?;
            // Why here: the object is no entity of its own; the digest, which the guard compares, covers it too.
            if proposed.object != act.object {
                return Err(Reason::new(
                    "another-object",
                    "Another object was proposed.",
                ));
            }
            let approval = Approval {
                deed: &act.act,
                digest: &act.digest,
                person,
                proposed,
            };
            judge(
                rules,
                ask.caller(),
                &StaffAct::Approve(approval),
                &facts.administrator,
            )
        })();
        Weighed { outcome, entry }
    }
}

/// Act and object, and why where somebody said so.
fn entry(act: &str, object: &str, why: &str) -> Entry {
    let mut entry = Entry::default();
    entry.name("act", act);
    entry.name("object", object);
    if !why.is_empty() {
        entry.say("why", why);
    }
    entry
}

fn listed(act: &str) -> Result<(), Reason> {
    if AdminAct::ACTS.contains(&act) {
        Ok(())
    } else {
        Err(Reason::new(
            "unlisted-act",
            "No such administrative act is listed.",
        ))
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
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]

    use super::{AdminAct, Approve, ReadLog};
    use crate::ask::Ask;
    use crate::caller::Caller;
    use crate::decide::decide;
    use crate::facts::{AdminFacts, ApprovalFacts, Fact, Proposed, Why};
    use crate::rules::{GUARDS, INVARIANTS, Rules, SCHEMA};
    use crate::words::{ClientId, ClientRole, PersonId};
    use crate::world::{NOW_MS, PERMIT_ALL, World, rule};

    /// The acts that a text names between these two words.
    fn listed<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
        let (_, rest) = text.split_once(from).unwrap();
        let (list, _) = rest.split_once(to).unwrap();
        list.split('"').skip(1).step_by(2).collect()
    }

    #[test]
    fn the_schema_lists_the_same_acts() {
        assert_eq!(listed(SCHEMA, "entity Deed enum [", "]"), AdminAct::ACTS);
    }

    #[test]
    fn guard_and_invariant_list_the_same_acts_that_take_two() {
        let text = |families: &[(&str, &str)]| -> String {
            families.iter().map(|(_, text)| *text).collect()
        };
        let (guards, invariants) = (text(GUARDS), text(INVARIANTS));
        let guard = listed(
            &guards,
            "a client or a public key, and letting in again what was stopped.\")",
            ".contains",
        );
        let invariant = listed(
            &invariants,
            "alone destroyed nothing and let nobody in.\")",
            "};",
        );
        assert_eq!(guard, AdminAct::TWO);
        assert_eq!(invariant, AdminAct::TWO);
        assert!(AdminAct::TWO.iter().all(|act| AdminAct::ACTS.contains(act)));
    }

    fn approval() -> (Approve, ApprovalFacts) {
        let (act, object) = ("kek.destroy".to_owned(), "A81001/1".to_owned());
        let proposed = Proposed {
            act: act.clone(),
            object: object.clone(),
            digest: [1; 32],
            person: PersonId::try_from("ann").unwrap(),
            proposer_suspended: false,
            expires_ms: NOW_MS + 1,
        };
        let administrator = AdminFacts {
            now_ms: NOW_MS,
            suspended: Fact::Known(false),
        };
        let facts = ApprovalFacts {
            administrator,
            person: Fact::Known(PersonId::try_from("bob").unwrap()),
            proposal: Fact::Known(proposed),
        };
        (
            Approve {
                act,
                object,
                why: String::new(),
                digest: [1; 32],
            },
            facts,
        )
    }

    fn admin() -> Caller {
        let client = ClientId::try_from("admin-2").unwrap();
        Caller::assertion(client, ClientRole::Admin, Vec::new(), [9; 32], None)
    }

    #[test]
    fn two_people_are_two_people_and_approve_just_what_was_proposed() {
        type Spoil = fn(&mut Approve, &mut ApprovalFacts, &mut Proposed);
        let cases: &[(&str, &str, Spoil)] = &[
            (
                "never-approved-by-the-proposer",
                "never-approved-by-the-proposer",
                |_, facts, it| {
                    facts.person = Fact::Known(it.person.clone());
                },
            ),
            (
                "never-approved-as-something-else",
                "never-approved-as-something-else",
                |ask, _, _| ask.digest = [2; 32],
            ),
            (
                "never-approved-as-something-else",
                "never-approved-as-something-else",
                |ask, _, _| {
                    ask.act = "patient.erase".into();
                },
            ),
            (
                "never-approved-too-late",
                "never-approved-too-late",
                |_, _, it| it.expires_ms = NOW_MS,
            ),
            (
                "never-approved-too-late",
                "never-approved-too-late",
                |_, _, it| it.proposer_suspended = true,
            ),
            ("", "another-object", |ask, _, _| {
                ask.object = "A81001/2".into()
            }),
            ("", "unknown-person", |_, facts, _| {
                facts.person = Fact::Unknown(Why::NeverTold)
            }),
            ("", "unknown-suspension", |_, facts, _| {
                facts.administrator.suspended = Fact::Unknown(Why::Store);
            }),
        ];
        let whole = Rules::parse(PERMIT_ALL).unwrap();
        let (ask, facts) = approval();
        assert_eq!(
            rule(&decide(&whole, Ask::new(admin(), ask), &facts)),
            "anything"
        );
        for (guard, expected, spoil) in cases {
            let spoilt = || {
                let (mut ask, mut facts) = approval();
                let Fact::Known(mut proposed) = facts.proposal.clone() else {
                    panic!("known")
                };
                spoil(&mut ask, &mut facts, &mut proposed);
                facts.proposal = Fact::Known(proposed);
                (Ask::new(admin(), ask), facts)
            };
            let (ask, facts) = spoilt();
            assert_eq!(rule(&decide(&whole, ask, &facts)), *expected);
            if !guard.is_empty() {
                let lacking = Rules::parse(PERMIT_ALL).unwrap().without(guard);
                let (ask, facts) = spoilt();
                assert_eq!(
                    rule(&decide(&lacking, ask, &facts)),
                    "invariant-broken",
                    "without {guard}"
                );
            }
        }
        let (ask, mut facts) = approval();
        facts.proposal = Fact::Unknown(Why::NeverTold);
        assert_eq!(
            rule(&decide(&whole, Ask::new(admin(), ask), &facts)),
            "unknown-proposal"
        );
    }

    #[test]
    fn nobody_does_alone_what_takes_two() {
        let facts = AdminFacts {
            now_ms: NOW_MS,
            suspended: Fact::Known(false),
        };
        let whole = Rules::parse(PERMIT_ALL).unwrap();
        let lacking = Rules::parse(PERMIT_ALL).unwrap().without("never-alone");
        for act in AdminAct::TWO {
            let ask = || {
                let (act, object) = ((*act).to_owned(), "A81001".to_owned());
                Ask::new(
                    admin(),
                    AdminAct {
                        act,
                        object,
                        why: String::new(),
                    },
                )
            };
            assert_eq!(rule(&decide(&whole, ask(), &facts)), "never-alone");
            assert_eq!(rule(&decide(&lacking, ask(), &facts)), "invariant-broken");
        }
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
        let why = String::new();
        let ask = Ask::new(caller.clone(), AdminAct { act, object, why });
        assert_eq!(rule(&decide(&rules, ask, &facts)), "invariant-broken");
        for what in ["entries", "history"] {
            let ask = Ask::new(caller.clone(), ReadLog { what: what.into() });
            assert_eq!(rule(&decide(&rules, ask, &facts)), "invariant-broken");
        }
    }
}
