//! What a site may write, what is turned away when it is loaded, and how far any of it gets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]

mod world;

use policy::{LoadError, Rules};
use world::{FAULTS, World, faulty, is_permit, rule};

fn error(local: &str) -> LoadError {
    match Rules::parse(local) {
        Ok(_) => panic!("loaded: {local}"),
        Err(error) => error,
    }
}

#[test]
fn rules_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Rules>();
    shared::<policy::Grant<policy::Read>>();
}

#[test]
fn a_rule_needs_an_id_and_words_of_its_own() {
    assert!(matches!(
        error("permit(principal, action, resource);"),
        LoadError::NoId(1)
    ));
    assert!(matches!(
        error(
            r#"@id("a") @says("A.") permit(principal, action, resource); permit(principal, action, resource);"#
        ),
        LoadError::NoId(2)
    ));
    for words in ["", r#"@says("")"#, r#"@says("  ")"#, "@says"] {
        let local = format!(r#"@id("a") {words} permit(principal, action, resource);"#);
        assert!(
            matches!(error(&local), LoadError::NoWords(id) if id == "a"),
            "{words}"
        );
    }
    for id in ["", "Upper", "with space", "ümlaut", &"a".repeat(65)] {
        let local = format!(r#"@id("{id}") @says("A.") permit(principal, action, resource);"#);
        assert!(matches!(error(&local), LoadError::NoId(1)), "{id}");
    }
}

#[test]
fn no_id_is_taken_twice() {
    for id in [
        "never-without-agreement",
        "never-anything-else",
        "i31-agreement-of-that-practice",
        "not-permitted",
        "rule-broken",
        "unknown-objections",
    ] {
        let local = format!(r#"@id("{id}") @says("A.") permit(principal, action, resource);"#);
        assert!(
            matches!(error(&local), LoadError::IdTaken(taken) if taken == id),
            "{id}"
        );
    }
    let twice = r#"@id("a") @says("A.") permit(principal, action, resource);"#.repeat(2);
    assert!(matches!(error(&twice), LoadError::IdTaken(taken) if taken == "a"));
}

#[test]
fn what_does_not_validate_strictly_does_not_load() {
    for (what, condition) in [
        ("the switch of 2017", "resource.practice.sharingOn"),
        (
            "a misspelt field",
            "context.token.purpos == Purpose::\"TREAT\"",
        ),
        (
            "a purpose that does not exist",
            "context.token.purpose == Purpose::\"CARE\"",
        ),
        (
            "an optional field unasked",
            "context.agreement.acceptsAsserted",
        ),
        ("two types compared", "context.now == \"today\""),
        ("a set of two types", "[1, \"one\"].contains(1)"),
    ] {
        let local = format!(
            r#"@id("a") @says("A.") permit(principal, action == Action::"read", resource) when {{ {condition} }};"#
        );
        assert!(matches!(error(&local), LoadError::Invalid(_)), "{what}");
    }
    for (what, rule) in [
        (
            "an unknown act",
            r#"permit(principal, action == Action::"export", resource);"#,
        ),
        (
            "an unknown type",
            "permit(principal is Anyone, action, resource);",
        ),
    ] {
        let local = format!(r#"@id("a") @says("A.") {rule}"#);
        assert!(matches!(error(&local), LoadError::Invalid(_)), "{what}");
    }
}

#[test]
fn what_is_not_a_rule_does_not_load() {
    assert!(matches!(error(""), LoadError::NoRules));
    assert!(matches!(
        error("// permit(principal, action, resource);"),
        LoadError::NoRules
    ));
    assert!(matches!(error("permit(principal"), LoadError::Syntax(_)));
    assert!(matches!(
        error(r#"@id("a") @says("A.") permit(principal == ?principal, action, resource);"#),
        LoadError::Template
    ));
    assert!(matches!(error(&"/".repeat(70_000)), LoadError::TooLong));
    // It validates, but it can never apply: hardly what its author meant.
    assert!(matches!(
        error(
            r#"@id("a") @says("A.") permit(principal is Client, action == Action::"read", resource);"#
        ),
        LoadError::Invalid(_) | LoadError::Suspicious(_)
    ));
    // A right-to-left override in a string shows a reader another rule than Cedar sees.
    assert!(matches!(
        error(
            "@id(\"a\") @says(\"A.\") permit(principal, action == Action::\"read\", resource) when { context.token.reason == \"\u{202e}abc\" };"
        ),
        LoadError::Suspicious(_)
    ));
}

/// Local rules that somebody might really write, and that must not matter.
const BAD: &[&str] = &[
    r#"@id("anything") @says("Anyone may do anything.") permit(principal, action, resource);"#,
    r#"@id("read-all") @says("Reading is free.") permit(principal, action == Action::"read", resource);
       @id("issue-all") @says("So are tokens.") permit(principal, action == Action::"issue", resource);"#,
    r#"@id("no-objection") @says("Objections do not count.")
       permit(principal, action, resource is Record)
       when { resource.patient.objections.contains(context.token.purpose) };
       @id("all") @says("Nor does anything else.") permit(principal, action, resource is Record);"#,
    r#"@id("research") @says("Research is care.") permit(principal, action, resource is Record)
       when { context.token.purpose == Purpose::"HRESCH" };
       @id("expired") @says("Time does not matter.") permit(principal, action, resource is Record)
       when { context.now > context.token.expires || context.now <= context.token.expires };"#,
];

#[test]
fn no_local_rule_gets_past_a_guard() {
    for local in BAD {
        let rules = Rules::parse(local).unwrap();
        for fault in FAULTS {
            let (name, _, guard) = fault;
            let decision = faulty(fault).read(&rules);
            assert!(!is_permit(&decision), "{name}: {local}");
            assert_eq!(rule(&decision), *guard, "{name}: {local}");
        }
    }
}

#[test]
fn a_local_forbid_refuses_in_its_own_words() {
    let local = format!(
        "{} {}",
        world::PERMIT_ALL,
        r#"@id("not-on-sundays") @says("We do not share documents.")
           forbid(principal, action, resource is Record)
           when { resource.category == Category::"medications" };"#
    );
    let rules = Rules::parse(&local).unwrap();
    let policy::Decision::Refuse(refusal) = World::in_order().read(&rules) else {
        panic!("permitted");
    };
    assert_eq!(refusal.reason().rule(), "not-on-sundays");
    assert_eq!(refusal.reason().words(), "We do not share documents.");
    // Another category is still open, so a token is issued: a local rule may single one out.
    assert!(is_permit(&World::in_order().issue(&rules)));
}

#[test]
fn without_a_local_permit_nothing_is_permitted() {
    let rules = Rules::parse(
        r#"@id("deposits-only") @says("We only collect.")
           permit(principal, action == Action::"deposit", resource);"#,
    )
    .unwrap();
    let decision = World::in_order().read(&rules);
    assert!(!is_permit(&decision));
    assert_eq!(rule(&decision), "not-permitted");
}

/// Incident class: a `forbid` that errs is skipped by Cedar.
#[test]
fn a_rule_that_errs_refuses() {
    for effect in ["permit", "forbid"] {
        let local = format!(
            r#"{} @id("overflow") @says("Too far.")
               {effect}(principal, action, resource is Record)
               when {{ context.now + 9223372036854775807 < 0 }};"#,
            world::PERMIT_ALL
        );
        let decision = World::in_order().read(&Rules::parse(&local).unwrap());
        assert!(!is_permit(&decision), "{effect}");
        assert_eq!(rule(&decision), "rule-broken", "{effect}");
    }
}

#[test]
fn the_digest_covers_the_local_text_to_the_letter() {
    let one = Rules::parse(world::PERMIT_ALL).unwrap();
    let same = Rules::parse(world::PERMIT_ALL).unwrap();
    let other = Rules::parse(&format!("{} ", world::PERMIT_ALL)).unwrap();
    assert_eq!(one.digest(), same.digest());
    assert_ne!(one.digest(), other.digest());
    assert_ne!(one.digest(), Rules::shipped_digest());
    assert_eq!(one.digest().len(), 64);
}
