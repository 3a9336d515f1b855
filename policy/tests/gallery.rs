//! Bad policy sets, each of a kind that somebody really wrote, and the words in which each is turned away.
//!
//! `SALLYPORT_UPDATE=1` writes `proof.json` anew, if all is proven. Needs a solver: without one every test here says so aloud and passes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::path::Path;

use policy::Texts;
use policy::prove::{CheckError, Report, SolverError, check};

/// The built-in set with some text replaced, which has to be there.
fn spoilt(replaced: &[(&str, &str)]) -> Texts {
    let mut texts = Texts::built_in();
    for (from, to) in replaced {
        let mut count = 0;
        let mut replace = |text: &mut String| {
            count += text.matches(from).count();
            *text = text.replace(from, to);
        };
        replace(&mut texts.schema);
        for family in texts.guards.iter_mut().chain(&mut texts.rules) {
            replace(&mut family.text);
        }
        assert!(count > 0, "nowhere: {from}");
    }
    texts
}

/// The built-in set without these guards.
fn without(ids: &[&str]) -> Texts {
    let mut texts = Texts::built_in();
    for id in ids {
        let mark = format!("@id(\"{id}\")");
        let family = texts.guards.iter_mut().find(|it| it.text.contains(&mark));
        let family = family.unwrap();
        let (before, rest) = family.text.split_once(&mark).unwrap();
        let (_, after) = rest.split_once("};").unwrap();
        family.text = format!("{before}{after}");
    }
    texts
}

fn local(texts: Texts, text: &str) -> Texts {
    Texts {
        rules: Texts::with_local(text).rules,
        ..texts
    }
}

/// Checks, or says aloud that nothing can be checked here.
fn checked(texts: &Texts) -> Option<Report> {
    match check(texts, &mut |_| ()) {
        Ok(report) => Some(report),
        Err(CheckError::Solver(SolverError::Missing(why))) => {
            println!("SKIPPED: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// This invariant is broken, in these words, and in the example everything else is in order.
fn breaks(texts: &Texts, rule: &str, says: &[&str]) {
    let Some(report) = checked(texts) else { return };
    assert!(!report.holds() && report.proof().is_none());
    let breach = report.breaches.iter().find(|it| it.rule.id == rule);
    let breach = breach.unwrap_or_else(|| panic!("{rule} is not broken: {report:#?}"));
    let sentence = &breach.story.sentence;
    println!("{rule}: {sentence}\n  {:?} {:?}", breach.by, breach.also);
    for words in says {
        assert!(sentence.contains(words), "{words}: {sentence}");
    }
    assert_eq!(breach.also, [""; 0], "{sentence}");
}

#[test]
fn the_set_as_it_is_shipped_is_proven() {
    let Some(report) = checked(&Texts::built_in()) else {
        return;
    };
    assert!(report.holds(), "{report:#?}");
    assert_eq!(report.notes, [""; 0]);
    assert!(report.proven >= 60, "{}", report.proven);
    let proof = report.proof().unwrap();
    if std::env::var_os("SALLYPORT_UPDATE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proof.json");
        std::fs::write(path, proof.to_string()).unwrap();
        return;
    }
    assert!(proof.covers(&Texts::built_in()).is_ok());
    assert_eq!(proof.proven, policy::Proof::built_in().unwrap().proven);
}

/// 2017: sharing was switched on for one hospital, and anyone could look.
const SWITCH: &str = r#"
    @id("enhanced-sharing") @says("Where sharing is switched on, anyone may look.")
    permit (principal, action in [Action::"read", Action::"issue"], resource)
    when { resource.practice.sharingOn };"#;

#[test]
fn a_switch_that_lets_anyone_look() {
    let schema = (
        "entity Organisation;",
        "entity Organisation { sharingOn: Bool };",
    );
    // As a local rule the switch has no power: whatever is permitted, the guards stand.
    let powerless = local(spoilt(&[schema]), SWITCH);
    if let Some(report) = checked(&powerless) {
        assert!(report.holds(), "{report:#?}");
    }
    // Let into a guard it has.
    let around = (
        "forbid (principal, action, resource is Record)\nunless {\n  context.token.purpose != Purpose::\"TREAT\" ||",
        "forbid (principal, action, resource is Record)\nunless {\n  resource.practice.sharingOn ||\n  context.token.purpose != Purpose::\"TREAT\" ||",
    );
    let says = [
        "could read a medications record of patient A",
        " although the relationship is not the one that the token claims",
        "by rule `enhanced-sharing`",
    ];
    breaks(
        &local(spoilt(&[schema, around]), SWITCH),
        "i22-relationship-or-declared-emergency",
        &says,
    );
}

#[test]
fn no_guards_at_all() {
    let mut texts = Texts::built_in();
    texts.guards.clear();
    let texts = local(
        texts,
        r#"@id("anything") @says("Anyone may do anything.") permit (principal, action, resource);"#,
    );
    let Some(report) = checked(&texts) else {
        return;
    };
    assert!(report.proof().is_none());
    let broken: Vec<&str> = report
        .breaches
        .iter()
        .map(|it| it.rule.id.as_str())
        .collect();
    let [_, _, invariants] = Texts::built_in().parse().unwrap().says();
    // All but `known-kinds`, which the schema keeps by itself.
    assert_eq!(broken.len(), invariants.len() - 1, "{broken:?}");
    for breach in &report.breaches {
        println!("{}: {}", breach.rule.id, breach.story.sentence);
        assert_eq!(breach.by, ["anything"]);
        assert_eq!(breach.also, [""; 0], "{}", breach.rule.id);
    }
    // Where there is no word for what is wrong, the invariant's own words stand in.
    let has_words = |it: &&policy::prove::Breach| it.story.sentence.contains(" although ");
    let told = report.breaches.iter().filter(has_words).count();
    assert!(told >= 15, "{told} of {}", broken.len());
}

#[test]
fn a_forgotten_condition() {
    for (condition, rule, says) in [
        (
            "context.agreement.practice == resource.practice &&",
            "i31-agreement-of-that-practice",
            "although the agreement is of ",
        ),
        (
            "context.agreement.organisation == principal.organisation &&",
            "i31-agreement-of-that-practice",
            "although the agreement is with ",
        ),
        (
            "context.agreement.purposes.contains(context.token.purpose) &&",
            "i31-agreement-of-that-practice",
            "although the agreement does not name TREAT",
        ),
        (
            "context.relationship.organisation == principal.organisation &&",
            "i22-relationship-or-declared-emergency",
            "although the relationship is with another organisation than ",
        ),
        (
            "context.token.reason != \"\" &&",
            "i22-relationship-or-declared-emergency",
            "although no reason was given for the emergency",
        ),
        (
            "principal.organisations.contains(resource.practice) &&",
            "i41-by-the-own-system-of-the-practice",
            "does not act for practice A",
        ),
        (
            "context.token.errand == context.errand &&",
            "i42-under-its-own-token",
            "although the token was made out for the errand ",
        ),
    ] {
        breaks(&spoilt(&[(condition, "")]), rule, &[says]);
    }
}

#[test]
fn a_forgotten_guard() {
    for (guard, rule, says) in [
        ("never-suspended", "i11-nobody-suspended", "is suspended"),
        (
            "never-untrained",
            "i12-training-current",
            "training for the role is not current",
        ),
        (
            "never-against-objection",
            "i33-no-objection",
            "although patient A objects to TREAT",
        ),
        (
            "never-sensitive-by-default",
            "i32-sensitive-only-where-expressly-covered",
            "label",
        ),
        (
            "never-beyond-the-agreement",
            "i31-agreement-of-that-practice",
            "although the agreement does not name medications",
        ),
        (
            "never-beyond-the-token",
            "i02-bound-token",
            "although the token does not name medications",
        ),
        (
            "never-administered-by-others",
            "i51-administrators-only",
            "is registered as",
        ),
        (
            "never-the-log-to-others",
            "i52-log-readers-only",
            "is registered as",
        ),
    ] {
        breaks(&without(&[guard]), rule, &[says]);
    }
}

#[test]
fn sensitive_labels_covered_in_part() {
    breaks(
        &spoilt(&[("labels.containsAll(", "labels.containsAny(")]),
        "i32-sensitive-only-where-expressly-covered",
        &["does not cover the label"],
    );
}

#[test]
fn an_emergency_that_overrides_every_objection() {
    breaks(
        &spoilt(&[("context.agreement.emergencyOverridesObjection &&", "")]),
        "i33-no-objection",
        &["although patient A objects to "],
    );
}

/// HL7's purposes form a tree: breaking the glass descends from treatment.
#[test]
fn a_purpose_matched_by_hierarchy() {
    let texts = spoilt(&[
        (
            "entity Purpose enum [\"TREAT\", \"ETREAT\", \"BTG\", \"HRESCH\", \"PUBHLTH\", \"HOPERAT\", \"unserved\"];",
            "entity Purpose in [Purpose];",
        ),
        (
            "  [Purpose::\"TREAT\", Purpose::\"ETREAT\", Purpose::\"BTG\"].contains(context.token.purpose) ||\n  (principal.role",
            "  context.token.purpose in Purpose::\"TREAT\" ||\n  (principal.role",
        ),
    ]);
    breaks(&texts, "i21-care-or-approved-use", &[]);
}

/// Cedar skips a `forbid` that errs.
#[test]
fn a_guard_that_can_err() {
    let texts = spoilt(&[(
        "unless { context.now < principal.trainedUntil }",
        "unless { context.now - principal.trainedUntil < 86400000 }",
    )]);
    let Some(report) = checked(&texts) else {
        return;
    };
    assert!(report.proof().is_none());
    let erring = |it: &policy::prove::Breach| it.rule.id == "never-untrained";
    let breach = report.breaches.iter().find(|it| erring(it)).unwrap();
    println!("{}", breach.story.sentence);
    assert!(
        breach
            .story
            .sentence
            .starts_with("The rule `never-untrained` errs, and a rule that errs is skipped, when ")
    );
    // And a day of grace is no training.
    assert!(
        report
            .breaches
            .iter()
            .any(|it| it.rule.id == "i12-training-current")
    );
}

/// A local rule that errs harms nobody: what it errs at is refused. It is worth knowing.
#[test]
fn a_local_rule_that_can_err_is_noted() {
    let text = r#"@id("overflow") @says("Too far.")
        permit (principal, action == Action::"read", resource) when { context.now + 1 > 0 };"#;
    let Some(report) = checked(&Texts::with_local(text)) else {
        return;
    };
    assert!(report.holds());
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("`overflow` can err"))
    );
}

#[test]
fn a_new_kind_of_thing_without_rules_of_its_own() {
    let texts = spoilt(&[(
        "action administer appliesTo",
        "entity Ward;\naction enter appliesTo { principal: [Practitioner], resource: [Ward], context: {} };\n\
             action administer appliesTo",
    )]);
    let Some(report) = checked(&texts) else {
        return;
    };
    assert!(report.proof().is_none());
    let undecided = &report.undecided[0];
    assert_eq!(undecided.what, "enter on Ward by Practitioner");
    assert_eq!(undecided.why, "no invariant speaks of this kind of thing");
    assert!(
        report
            .notes
            .iter()
            .any(|note| note.contains("never let through: enter on Ward"))
    );
}
