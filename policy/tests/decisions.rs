//! The decisions themselves, one thing wrong at a time. Everything together, compared with a second implementation
//! that is deliberately plain, stands in `table`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may panic"
)]

mod world;

use policy::ask::{EMERGENCIES_OF_ALL_MAX, EMERGENCIES_OF_ONE_MAX};
use policy::{
    Account, Category, Decision, Emergencies, Fact, Label, Outcome, Purpose, Rules, Scope, Verdict,
    Why,
};
use world::{
    FAULTS, NOW_MS, PERMIT_ALL, World, agreement, faulty, is_permit, known, ods, record, rule,
    unknowns,
};

fn account<A: policy::Act>(decision: Decision<A>) -> Account {
    match decision {
        Decision::Permit(grant) => grant.account(),
        Decision::Refuse(refusal) => refusal.account(),
    }
}

#[test]
fn the_hourly_cap_refuses_the_next_emergency_and_no_other_care() {
    let rules = Rules::built_in().unwrap();
    for (of_one, of_all, permitted) in [
        (EMERGENCIES_OF_ONE_MAX - 1, EMERGENCIES_OF_ALL_MAX - 1, true),
        (EMERGENCIES_OF_ONE_MAX, EMERGENCIES_OF_ONE_MAX, false),
        (0, EMERGENCIES_OF_ALL_MAX, false),
    ] {
        let declared = Fact::Known(Emergencies { of_one, of_all });
        let mut world = World::in_emergency();
        world.facts.emergencies = declared.clone();
        assert_eq!(
            is_permit(&world.issue(&rules)),
            permitted,
            "{of_one}, {of_all}"
        );
        assert!(is_permit(&world.read(&rules)), "what was issued is read");
        world = World::in_order();
        world.facts.emergencies = declared;
        assert!(
            is_permit(&world.issue(&rules)),
            "with a relationship there is no cap"
        );
    }
    let mut world = World::in_emergency();
    world.facts.emergencies = Fact::Unknown(Why::Store);
    assert_eq!(rule(&world.issue(&rules)), "unknown-emergencies");
}

#[test]
fn what_is_in_order_is_permitted() {
    let rules = Rules::built_in().unwrap();
    assert_eq!(rule(&World::in_order().read(&rules)), "care");
    assert_eq!(rule(&World::in_emergency().read(&rules)), "emergency");
    assert!(is_permit(&World::in_order().read(&rules)));
    assert!(is_permit(&World::in_order().issue(&rules)));
    assert!(is_permit(&World::in_emergency().issue(&rules)));
}

#[test]
fn each_fault_is_refused_by_its_guard_and_no_local_rule_changes_that() {
    let built_in = Rules::built_in().unwrap();
    let anything = Rules::parse(PERMIT_ALL).unwrap();
    for fault in FAULTS {
        let (name, _, guard) = fault;
        for rules in [&built_in, &anything] {
            let decision = faulty(fault).read(rules);
            assert!(!is_permit(&decision), "{name}");
            assert_eq!(rule(&decision), *guard, "{name}");
        }
    }
}

#[test]
fn a_token_is_refused_for_the_same_faults_except_those_of_one_record() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    // A token that does not exist yet has not expired; which records there are it does not know.
    let only_read = [
        "never-without-token",
        "never-beyond-the-token",
        "never-beyond-the-agreement",
        "never-sensitive-by-default",
    ];
    for fault in FAULTS {
        let (name, _, guard) = fault;
        let decision = faulty(fault).issue(&rules);
        assert_eq!(is_permit(&decision), only_read.contains(guard), "{name}");
    }
}

#[test]
fn every_unknown_fact_refuses_by_its_name() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    type Forget = fn(&mut World, policy::Why);
    let cases: [(&str, Forget); 7] = [
        ("unknown-organisation", |w, why| {
            w.facts.organisation = Fact::Unknown(why);
        }),
        ("unknown-practitioner", |w, why| {
            w.facts.practitioner = Fact::Unknown(why);
        }),
        ("unknown-training", |w, why| {
            w.practitioner().trained_until_ms = Fact::Unknown(why);
        }),
        ("unknown-patient", |w, why| {
            w.facts.patient = Fact::Unknown(why);
        }),
        ("unknown-objections", |w, why| {
            w.facts.objections = Fact::Unknown(why);
        }),
        ("unknown-relationships", |w, why| {
            w.facts.relationships = Fact::Unknown(why);
        }),
        ("unknown-agreements", |w, why| {
            w.facts.holders[0].agreements = Fact::Unknown(why);
        }),
    ];
    for (name, forget) in cases {
        for why in unknowns() {
            let mut world = World::in_order();
            forget(&mut world, why);
            for decision in [world.read(&rules), world.search(&rules)] {
                assert!(!is_permit(&decision), "{name}");
                assert_eq!(rule(&decision), name);
            }
            assert_eq!(rule(&world.issue(&rules)), name);
        }
    }
    // An emergency needs no relationship, so it need not be known; all else it needs.
    let mut world = World::in_emergency();
    world.facts.relationships = Fact::Unknown(policy::Why::Store);
    assert!(is_permit(&world.read(&rules)));
    world.facts.objections = Fact::Unknown(policy::Why::Anchor);
    assert_eq!(rule(&world.read(&rules)), "unknown-objections");
}

#[test]
fn nobody_holds_the_patient() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    let mut world = World::in_order();
    world.facts.holders.clear();
    assert!(!is_permit(&world.search(&rules)));
    assert!(!is_permit(&world.issue(&rules)));
}

#[test]
fn a_grant_names_only_what_is_permitted_and_tells_nothing_of_the_rest() {
    let rules = Rules::built_in().unwrap();
    let mut world = World::in_order();
    let ordinary = world.facts.holders[0].records.clone();
    world.facts.holders[0].records.extend([
        record(2, Category::Problems, &[Label::HIV]),
        record(3, Category::Problems, &[Label::PSY]),
        record(4, Category::Medications, &[]),
    ]);
    // A second practice without an agreement holds the patient too.
    let mut second = world.facts.holders[0].clone();
    second.practice = ods("A81002");
    second.agreements = Fact::Known(vec![]);
    world.facts.holders.push(second);

    let Decision::Permit(grant) = world.search(&rules) else {
        panic!("refused");
    };
    let granted: Vec<_> = grant
        .granted()
        .records
        .iter()
        .map(|it| it.id.0[0])
        .collect();
    assert_eq!(granted, [1, 3, 4]);
    assert!(
        grant
            .granted()
            .records
            .iter()
            .all(|it| it.practice == ods("A81001"))
    );
    let account = grant.account();
    assert_eq!(account.context["practices"], serde_json::json!(["A81001"]));
    assert_eq!(account.object["records"]["count"], 3);
    assert_eq!(account.detail.as_array().unwrap().len(), 3);

    // All withheld, and none there: the same grant, to the letter.
    world.facts.holders.truncate(1);
    world.facts.holders[0].records = vec![record(2, Category::Problems, &[Label::HIV])];
    let withheld = account_of_search(&world, &rules);
    world.facts.holders[0].records.clear();
    let none = account_of_search(&world, &rules);
    assert_eq!(withheld.outcome, Outcome::Permit);
    assert_eq!(withheld.context, none.context);
    assert_eq!(withheld.object, none.object);

    // One record by name: withheld and missing are both refused.
    assert_eq!(rule(&world.read(&rules)), "no-such-record");
    world.facts.holders[0].records = ordinary;
    world.record().labels = [Label::HIV].into();
    assert_eq!(rule(&world.read(&rules)), "never-sensitive-by-default");
}

fn account_of_search(world: &World, rules: &Rules) -> Account {
    account(world.search(rules))
}

#[test]
fn the_fitting_agreement_is_found_among_others() {
    let rules = Rules::built_in().unwrap();
    let mut world = World::in_order();
    let mut others: Vec<_> = (0..20).map(|_| agreement("A81001")).collect();
    for (at, other) in others.iter_mut().enumerate() {
        match at % 4 {
            0 => other.until_ms = NOW_MS,
            1 => other.organisation = ods("RJ2"),
            2 => other.purposes.clear(),
            _ => other.categories.clear(),
        }
    }
    known(&mut world.facts.holders[0].agreements).splice(0..0, others.clone());
    known(&mut world.facts.holders[0].agreements).extend(others);
    assert!(is_permit(&world.read(&rules)));
}

#[test]
fn emergencies_see_the_summary_unless_they_name_more() {
    let rules = Rules::built_in().unwrap();
    let Decision::Permit(grant) = World::in_emergency().issue(&rules) else {
        panic!("refused");
    };
    let Scope::Records(scope) = grant.granted() else {
        panic!("another scope");
    };
    assert_eq!(scope.categories, Some(Category::SUMMARY.into()));
    assert!(grant.account().emergency);

    let mut world = World::in_emergency();
    world.record().category = Category::Documents;
    assert_eq!(rule(&world.read(&rules)), "never-beyond-the-token");
    world.scope.categories = Some([Category::Documents].into());
    assert_eq!(
        rule(&world.read(&rules)),
        "never-a-wide-emergency-on-few-words"
    );
    world.scope.reason = Some("unconscious, and the letter says what was given".into());
    assert!(is_permit(&world.read(&rules)));
    // Blanks at the ends are no words.
    world.scope.reason = Some(format!("{:>40}", "short"));
    assert!(!is_permit(&world.read(&rules)));
}

#[test]
fn an_emergency_overrides_an_objection_only_where_the_practice_agreed() {
    let rules = Rules::built_in().unwrap();
    let mut world = World::in_emergency();
    world.object(Purpose::Btg);
    assert_eq!(rule(&world.read(&rules)), "never-against-objection");
    world.agreement().emergency_overrides_objection = true;
    assert!(is_permit(&world.read(&rules)));
}

#[test]
fn a_refusal_opens_nothing_but_what_the_caller_is() {
    let rules = Rules::built_in().unwrap();
    let mut known_here = World::in_order();
    known_here.object(Purpose::Treat);
    let mut unknown_here = World::in_order();
    unknown_here.facts.practitioner = Fact::Unknown(policy::Why::NeverTold);
    unknown_here.facts.patient = Fact::Unknown(policy::Why::NeverTold);
    let known_here = account(known_here.read(&rules));
    let unknown_here = account(unknown_here.read(&rules));
    assert_eq!(known_here.event, "record.refuse");
    assert_eq!(known_here.actor, unknown_here.actor);
    assert_eq!(known_here.actor.get("role"), None);
    assert_eq!(known_here.context["rule"], "never-against-objection");
    assert_eq!(known_here.policy, rules.digest()[..16]);
}
