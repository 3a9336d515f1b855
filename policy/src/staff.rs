//! Decisions about the gateway itself: what its administrators do, alone or by two, and who reads its log.
//!
//! No purpose and no patient's facts apply here; nothing of what is decided here opens a record.

use crate::ask::{AdminAct, Approve, Ask, OWN_AGE_YEARS, Propose, ReadLog, Review};
use crate::caller::{Caller, HistoryScope, Scope};
use crate::cedar::{Approval, StaffAct};
use crate::decide::{Entry, Weigh, Weighed, no_token, unknown};
use crate::facts::{AdminFacts, ApprovalFacts, ProposalFacts, Why};
use crate::rules::Rules;
use crate::verdict::Reason;
use crate::words::{ClientRole, hex};

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

/// Who could open one patient's records: for those who read the log's entries, and with a token for that patient.
const WHO_COULD: &str = "who-could";

impl Weigh for ReadLog {
    fn weigh(rules: &Rules, ask: &Ask<ReadLog>, facts: &AdminFacts) -> Weighed<()> {
        let what = ask.act().what.as_str();
        let mut entry = Entry::default();
        entry.name("what", what);
        let part = match what.split_once('/').map_or(what, |(part, _)| part) {
            "history" => "history",
            "worklist" => "worklist",
            "notices" => "notices",
            _ => "entries",
        };
        let mut outcome = judge(rules, ask.caller(), &StaffAct::ReadLog(part), facts);
        if part == "history" || what == WHO_COULD {
            // Why a token: it names one patient, and no request can name another.
            outcome = match ask.caller().token().map(|token| &token.scope) {
                Some(scope @ Scope::History(history)) => {
                    entry.scope(scope);
                    outcome.and_then(|granted| own(ask.caller(), history, facts).map(|()| granted))
                }
                _ => Err(no_token()),
            };
        }
        Weighed { outcome, entry }
    }
}

impl Weigh for Review {
    fn weigh(rules: &Rules, ask: &Ask<Review>, facts: &AdminFacts) -> Weighed<()> {
        let act = ask.act();
        let mut entry = Entry::default();
        entry.name("item", act.item);
        entry.say("finding", act.finding.code());
        entry.say("note", act.note.as_str());
        let outcome = judge(rules, ask.caller(), &StaffAct::Review, facts);
        Weighed { outcome, entry }
    }
}

/// A token for one patient's access history.
pub(crate) fn issue_history(
    rules: &Rules,
    caller: &Caller,
    history: &HistoryScope,
    facts: &AdminFacts,
) -> Result<(Scope, Reason), Reason> {
    let ((), reason) = judge(rules, caller, &StaffAct::ReadLog("history"), facts)?;
    own(caller, history, facts)?;
    Ok((Scope::History(history.clone()), reason))
}

/// Through the portal a patient sees his own history and nobody else's, from the age on at which that is certain.
fn own(caller: &Caller, history: &HistoryScope, facts: &AdminFacts) -> Result<(), Reason> {
    if caller.role() != ClientRole::Patient {
        return Ok(());
    }
    if !history.own {
        return Err(Reason::new(
            "never-through-a-proxy",
            "Nobody sees another's history through the portal: proxies are not served.",
        ));
    }
    let born = history.born.ok_or_else(|| unknown("age", Why::NeverTold))?;
    if born
        .age_years(facts.now_ms)
        .is_none_or(|age| age < OWN_AGE_YEARS)
    {
        return Err(Reason::new(
            "never-under-age",
            "Nobody under 16 is served through the portal.",
        ));
    }
    Ok(())
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

    use super::{AdminAct, Approve, ReadLog, Review};
    use crate::ask::{Ask, IssueToken};
    use crate::caller::{Born, Caller, HistoryScope, Scope, Token};
    use crate::decide::decide;
    use crate::facts::{AdminFacts, ApprovalFacts, Fact, Proposed, TokenFacts, Why};
    use crate::rules::{GUARDS, INVARIANTS, Rules, SCHEMA};
    use crate::words::{ClientId, ClientRole, Finding, PersonId};
    use crate::world::{NOW_MS, PERMIT_ALL, World, is_permit, patient, rule};

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
            "approving a secondary use, and letting in again what was stopped.\")",
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

    fn history(role: ClientRole, own: bool, born: Option<&str>) -> String {
        let mut world = World::in_order();
        world.client_role = role;
        let scope = Scope::History(HistoryScope {
            patient: patient(),
            own,
            born: born.map(|text| Born::parse(text).unwrap()),
        });
        let facts = AdminFacts {
            now_ms: NOW_MS,
            suspended: Fact::Known(false),
        };
        let act = IssueToken {
            scope: scope.clone(),
            assertion: "digest".into(),
        };
        let ask = Ask::new(world.bare_caller(None), act);
        let rules = Rules::built_in().unwrap();
        let issued = rule(&decide(&rules, ask, &TokenFacts::Staff(facts.clone()))).to_owned();
        let token = Token {
            jti: "jti-1".into(),
            issued_ms: NOW_MS,
            expires_ms: NOW_MS + 1,
            scope,
        };
        let what = "history".to_owned();
        let ask = Ask::new(world.bare_caller(Some(token)), ReadLog { what });
        assert_eq!(rule(&decide(&rules, ask, &facts)), issued, "read as issued");
        issued
    }

    #[test]
    fn a_patient_sees_the_own_history_and_no_proxy_or_child_sees_any() {
        // NOW_MS is the fifteenth of January 2027.
        let portal = ClientRole::Patient;
        assert_eq!(history(portal, true, Some("1980-02-29")), "oversight");
        assert_eq!(history(portal, true, Some("2011-01-15")), "oversight");
        assert_eq!(history(portal, true, Some("2011-01-16")), "never-under-age");
        assert_eq!(history(portal, true, Some("2030-01-01")), "never-under-age");
        assert_eq!(history(portal, true, None), "unknown-age");
        assert_eq!(
            history(portal, false, Some("1980-02-29")),
            "never-through-a-proxy"
        );
        assert_eq!(history(ClientRole::Auditor, false, None), "oversight");
        for role in [
            ClientRole::Hospital,
            ClientRole::Admin,
            ClientRole::Practice,
        ] {
            assert_eq!(
                history(role, true, Some("1980-02-29")),
                "never-the-log-to-others"
            );
        }
    }

    #[test]
    fn the_worklist_is_the_officers_alone() {
        let rules = Rules::built_in().unwrap();
        let facts = AdminFacts {
            now_ms: NOW_MS,
            suspended: Fact::Known(false),
        };
        for role in ClientRole::ALL {
            let mut world = World::in_order();
            world.client_role = *role;
            let caller = world.bare_caller(None);
            let review = Review {
                item: 7,
                finding: Finding::Appropriate,
                note: String::new(),
            };
            let closes = is_permit(&decide(&rules, Ask::new(caller.clone(), review), &facts));
            assert_eq!(closes, *role == ClientRole::PrivacyOfficer, "{role}");
            for (what, whose) in [
                ("worklist/7", ClientRole::PrivacyOfficer),
                ("notices", ClientRole::Patient),
            ] {
                let ask = Ask::new(caller.clone(), ReadLog { what: what.into() });
                assert_eq!(
                    is_permit(&decide(&rules, ask, &facts)),
                    *role == whose,
                    "{role}: {what}"
                );
            }
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
            .without("never-the-log-to-others")
            .without("never-the-worklist-to-others");
        let (act, object) = ("kek.rotate".into(), "A81001".into());
        let why = String::new();
        let ask = Ask::new(caller.clone(), AdminAct { act, object, why });
        assert_eq!(rule(&decide(&rules, ask, &facts)), "invariant-broken");
        for what in ["entries", "worklist", "notices"] {
            let ask = Ask::new(caller.clone(), ReadLog { what: what.into() });
            assert_eq!(rule(&decide(&rules, ask, &facts)), "invariant-broken");
        }
    }
}
