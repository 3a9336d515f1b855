//! Incident: Cedar skips a `forbid` that errs (documented; reproduced with cedar-policy 4.14.1), so
//! a set that was proven clean allowed another practice's record, against the patient's objection.
//! Here it would mean: a missing entity or field switches a guard off, and a record leaves.
//! Stopped by: `Rules::judge` (any error refuses), the schema on every request and entity, guards
//! scoped on the kind of thing, and the monitor.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::result_large_err,
    reason = "tests may panic"
)]

use cedar_policy::{Context, Entities, Entity, EntityUid, Request, RestrictedExpression};

use super::{Inquiry, NO_LABELS, categories};
use crate::cedar::Question;
use crate::rules::{GUARDS, INVARIANTS, Rules, SCHEMA};
use crate::words::{Category, Purpose};
use crate::world::{FAULTS, PERMIT_ALL, World, faulty, rule};

/// The question that Cedar is asked in this world, about an ordinary record of medications.
fn question(rules: &Rules, world: &World) -> Question {
    let caller = world.caller();
    let categories = categories(&world.scope);
    let life = ("read", world.expires_ms);
    let facts = &world.facts;
    let mut inquiry = Inquiry::new(rules, &caller, &world.scope, &categories, life, facts);
    let holder = &facts.holders[0];
    inquiry
        .question(0, holder, Category::Medications, &NO_LABELS)
        .unwrap_or_else(|_| panic!("malformed"))
}

fn is_patient(entity: &Entity) -> bool {
    entity.uid().type_name().to_string() == "Patient"
}

#[test]
fn the_question_as_it_is_built_is_permitted() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    assert!(
        rules
            .judge(Ok(question(&rules, &World::in_order())))
            .is_ok()
    );
}

#[test]
fn a_missing_entity_refuses() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    let mut world = World::in_order();
    world.object(Purpose::Treat);
    let whole = question(&rules, &world);
    let all: Vec<Entity> = whole.entities.iter().cloned().collect();
    for missing in ["Patient", "Record", "Client", "Practitioner"] {
        let rest = all
            .iter()
            .filter(|entity| entity.uid().type_name().to_string() != missing)
            .cloned();
        let question = Question {
            request: whole.request.clone(),
            entities: Entities::from_entities(rest, None).unwrap(),
        };
        let ruling = rules.judge(Ok(question));
        assert_eq!(ruling.unwrap_err().rule(), "rule-broken", "{missing}");
    }
    // Cedar by itself allows it, with the objecting patient left out: this is the trap.
    let question = Question {
        request: whole.request.clone(),
        entities: Entities::from_entities(all.into_iter().filter(|e| !is_patient(e)), None)
            .unwrap(),
    };
    let policies = rules.policies(question.request.action().unwrap()).unwrap();
    let response = rules
        .authorizer
        .is_authorized(&question.request, policies, &question.entities);
    assert_eq!(response.decision(), cedar_policy::Decision::Allow);
    // And the monitor, which only counts what positively holds, is not deceived by it.
    assert!(!rules.monitor.is_content(&rules.authorizer, &question));
}

#[test]
fn a_request_without_its_evidence_refuses() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    let whole = question(&rules, &World::in_order());
    let now = RestrictedExpression::new_long(0);
    let part = |name: &str| -> EntityUid {
        match name {
            "principal" => whole.request.principal().unwrap().clone(),
            "action" => whole.request.action().unwrap().clone(),
            _ => whole.request.resource().unwrap().clone(),
        }
    };
    let context = || Context::from_pairs([("now".to_owned(), now.clone())]).unwrap();
    let build = |schema| {
        let (principal, action) = (part("principal"), part("action"));
        Request::new(principal, action, part("resource"), context(), schema)
    };
    assert!(build(Some(&rules.schema)).is_err());
    let question = Question {
        request: build(None).unwrap(),
        entities: whole.entities.clone(),
    };
    assert_eq!(rules.judge(Ok(question)).unwrap_err().rule(), "rule-broken");
}

#[test]
fn guards_hold_without_the_action_entities() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    for fault in FAULTS
        .iter()
        .filter(|(_, _, guard)| *guard == "never-without-agreement")
    {
        let whole = question(&rules, &faulty(fault));
        let bare = whole
            .entities
            .iter()
            .filter(|entity| entity.uid().type_name().to_string() != "Action")
            .cloned();
        let question = Question {
            request: whole.request.clone(),
            entities: Entities::from_entities(bare, None).unwrap(),
        };
        let ruling = rules.judge(Ok(question));
        assert_eq!(
            ruling.unwrap_err().rule(),
            "never-without-agreement",
            "{}",
            fault.0
        );
    }
}

#[test]
fn an_act_that_the_schema_does_not_know_refuses() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    let whole = question(&rules, &World::in_order());
    let request = Request::new(
        whole.request.principal().unwrap().clone(),
        r#"Action::"export""#.parse().unwrap(),
        whole.request.resource().unwrap().clone(),
        Context::empty(),
        None,
    );
    let question = Question {
        request: request.unwrap(),
        entities: whole.entities,
    };
    assert_eq!(
        rules.judge(Ok(question)).unwrap_err().rule(),
        "question-malformed"
    );
}

#[test]
fn the_texts_stay_clear_of_what_can_err() {
    let code = |text: &str| -> String {
        text.lines()
            .map(|line| line.split("//").next().unwrap())
            .filter(|line| !line.starts_with("@says"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    for (_, text) in GUARDS.iter().chain(INVARIANTS) {
        let code = code(text);
        for arithmetic in [" + ", " - ", " * ", "offset", "durationSince"] {
            assert!(!code.contains(arithmetic), "{arithmetic} in {text}");
        }
        for group in ["action in", "action =="] {
            assert!(!code.contains(group), "{group} in {text}");
        }
    }
    // No entity has an optional attribute: `has` on an entity that is missing is quietly false.
    for line in code(SCHEMA)
        .lines()
        .filter(|line| line.starts_with("entity"))
    {
        assert!(!line.contains("?:"), "{line}");
    }
}

#[test]
fn the_monitor_stops_what_a_lost_guard_lets_through() {
    // Without any agreement, and for a purpose that is not served, a second guard fires, so nothing is lost.
    let stopped_twice = ["no agreement", "unserved purpose"];
    for fault in FAULTS
        .iter()
        .filter(|(name, ..)| !stopped_twice.contains(name))
    {
        let (name, _, guard) = fault;
        let rules = Rules::parse(PERMIT_ALL).unwrap().without(guard);
        let decision = faulty(fault).read(&rules);
        assert_eq!(rule(&decision), "invariant-broken", "{name}");
    }
}

#[test]
fn every_guard_on_records_has_a_fault_that_only_it_stops() {
    let tested: std::collections::BTreeSet<&str> = FAULTS.iter().map(|fault| fault.2).collect();
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    let slice = rules
        .policies(&r#"Action::"read""#.parse().unwrap())
        .unwrap();
    for policy in slice.policies() {
        let id: &str = policy.id().as_ref();
        // The first is no guard; the second cannot fire until the schema knows a new kind of thing.
        assert!(
            tested.contains(id) || ["anything", "never-anything-else"].contains(&id),
            "{id}"
        );
    }
}
