//! Secondary uses: an approval stands where care has a relationship, and every objection counts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod plain;
mod world;

use policy::{Ask, Caller, ClientId, Decision, IssueToken, TokenFacts};
use policy::{
    ClientRole, DepositFacts, Fact, PassOn, Purpose, Role, Rules, Scope, Token, Verdict, Why,
    decide,
};
use world::{NOW_MS, PERMIT_ALL, World, is_permit, ods, practice_caller, practice_facts, rule};

#[test]
fn a_researcher_reads_what_was_approved() {
    let rules = Rules::built_in().unwrap();
    for purpose in Purpose::SECONDARY {
        let mut world = World::in_research();
        world.scope.purpose = purpose.clone();
        world.agreement().purposes = [purpose.clone()].into();
        world.approval().purposes = [purpose].into();
        assert!(is_permit(&world.issue(&rules)));
        let Decision::Permit(grant) = world.read(&rules) else {
            panic!("refused: {}", rule(&world.read(&rules)));
        };
        assert_eq!(grant.rule(), "approved-use");
        assert_eq!(grant.account().context["evidence"], "approval");
    }
}

#[test]
fn cedar_agrees_with_a_plain_second_implementation() {
    let (local, anything) = (
        Rules::built_in().unwrap(),
        Rules::parse(PERMIT_ALL).unwrap(),
    );
    let mut permitted = 0;
    for role in Role::ALL.iter().copied() {
        for client in ClientRole::ALL.iter().copied() {
            for purpose in Purpose::NAMED {
                for approved in [true, false] {
                    for objection in [None, Some(false), Some(true)] {
                        let mut world = World::in_research();
                        world.client_role = client;
                        world.practitioner().role = role;
                        world.scope.purpose = purpose.clone();
                        world.scope.reason = Some("unconscious".into());
                        world.scope.acknowledged = true;
                        world.agreement().purposes = Purpose::NAMED.into();
                        world.approval().purposes =
                            [purpose.clone()].into_iter().filter(|_| approved).collect();
                        if let Some(overridable) = objection {
                            world.object(purpose.clone());
                            world.agreement().emergency_overrides_objection = overridable;
                        }
                        let expected = plain::decide(&world);
                        let decision = world.read(&local);
                        assert_eq!(
                            is_permit(&decision),
                            expected.is_ok(),
                            "{role} {client} {purpose} {approved} {objection:?}: {}",
                            rule(&decision)
                        );
                        // Whatever a site writes into its own rules, a guard and no invariant refuses.
                        assert_ne!(rule(&world.read(&anything)), "invariant-broken");
                        permitted += u32::from(expected == Ok("approved-use"));
                    }
                }
            }
        }
    }
    assert_eq!(permitted, 3);
}

#[test]
fn what_is_unknown_refuses_a_secondary_use() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    for why in world::unknowns() {
        let mut world = World::in_research();
        world.facts.holders[0].approvals = Fact::Unknown(why);
        assert_eq!(rule(&world.read(&rules)), "unknown-approvals");
        let mut world = World::in_research();
        world.facts.objections = Fact::Unknown(why);
        assert_eq!(rule(&world.read(&rules)), "unknown-objections");
    }
    // Care and emergencies need no approval, so it need not be known for them.
    assert!(is_permit(&World::in_order().read(&rules)));
    assert!(is_permit(&World::in_emergency().read(&rules)));
}

#[test]
fn the_monitor_stops_what_a_lost_guard_lets_through() {
    for fault in world::FAULTS {
        let (name, _, guard) = fault;
        if !name.starts_with("r:") {
            continue;
        }
        assert_eq!(
            rule(&world::faulty(fault).read(&Rules::built_in().unwrap())),
            *guard,
            "{name}"
        );
    }
}

#[test]
fn doubted_objections_are_marked() {
    let rules = Rules::built_in().unwrap();
    let mut world = World::in_order();
    world.facts.objections_doubted = Some(Why::Silent);
    let Decision::Permit(grant) = world.read(&rules) else {
        panic!("refused");
    };
    let said = grant.account().context["objections"].clone();
    assert!(
        said.as_str().unwrap().starts_with("as last heard: "),
        "{said}"
    );
}

fn keeper(role: ClientRole, scope: Option<Scope>) -> Caller {
    let token = scope.map(|scope| Token {
        jti: "jti-3".into(),
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + 1,
        scope,
    });
    let client = ClientId::try_from("NDOO1").unwrap();
    Caller::assertion(client, role, vec![ods("NDOO1")], [3; 32], token)
}

fn feed(practice: &str) -> Scope {
    Scope::Objections {
        practice: ods(practice),
    }
}

fn passed(rules: &Rules, caller: Caller, facts: &DepositFacts, practice: &str) -> String {
    let act = PassOn {
        practice: ods(practice),
        detail: serde_json::json!({ "count": 3 }),
    };
    rule(&decide(rules, Ask::new(caller, act), facts)).to_owned()
}

#[test]
fn who_passes_on_objections_passes_on_its_own() {
    let facts = practice_facts();
    for (rules, permits) in [
        (Rules::built_in().unwrap(), "practice-files"),
        (Rules::parse(PERMIT_ALL).unwrap(), "anything"),
    ] {
        let practice = || practice_caller(feed("A81001"));
        let list = || keeper(ClientRole::OptOutList, Some(feed("NDOO1")));
        assert_eq!(passed(&rules, practice(), &facts, "A81001"), permits);
        assert_eq!(passed(&rules, list(), &facts, "NDOO1"), permits);
        let others = "never-for-another-practice";
        assert_eq!(passed(&rules, list(), &facts, "A81001"), others);
        let hospital = keeper(ClientRole::Hospital, Some(feed("NDOO1")));
        assert_eq!(passed(&rules, hospital, &facts, "NDOO1"), others);
        let another = practice_caller(Scope::Deposit {
            practice: ods("A81001"),
            patient: None,
        });
        assert_eq!(
            passed(&rules, another, &facts, "A81001"),
            "never-on-another-errand"
        );
        for (scope, expected) in [
            (feed("NDOO1"), permits),
            (
                Scope::Deposit {
                    practice: ods("NDOO1"),
                    patient: None,
                },
                others,
            ),
            (
                Scope::Agreement {
                    of: policy::Side::Practice(ods("NDOO1")),
                },
                others,
            ),
        ] {
            let act = IssueToken {
                scope,
                assertion: "digest".into(),
            };
            let ask = Ask::new(keeper(ClientRole::OptOutList, None), act);
            let facts = TokenFacts::Practice(facts.clone());
            assert_eq!(rule(&decide(&rules, ask, &facts)), expected);
        }
    }
}
