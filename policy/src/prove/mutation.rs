//! Every condition of every guard and invariant counts: each is dropped, flipped or loosened in turn, and the proof
//! notices.
//!
//! Guards and invariants say the same twice, apart. As they are shipped each implies the other: that is proven first.
//! So a mutant of one side that lets through more or less than before is at odds with the other: it is caught by that,
//! or because it does not load. One that is neither was proven to mean the same, and is named here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use cedar_policy::{Policy, PolicySet, RequestEnv, ValidationMode, Validator};
use serde_json::{Value, json};

use super::likely::as_guard;
use super::solver::{Environment, Solver, SolverError};
use super::{ANYTHING, in_order};
use crate::texts::{Parsed, Texts, set};

/// Mutants that mean the same, each with the reason why there is nothing to catch.
const SAME: &[(&str, &str)] = &[
    (
        "never-anything-else",
        "it speaks of kinds that today's schema does not have",
    ),
    (
        "i01-known-kinds",
        "it speaks of kinds that today's schema does not have",
    ),
    (
        "never-sensitive-by-default: only right",
        "no labels at all are covered by any agreement, and without one another guard refuses",
    ),
    (
        "i32-sensitive-only-where-expressly-covered: only right",
        "no labels at all are covered by any agreement, and without one another invariant fails",
    ),
];

/// An expression with one thing changed, and what.
fn changed(expression: &Value) -> Vec<(String, Value)> {
    let Some((operator, inside)) = expression.as_object().and_then(|it| it.iter().next()) else {
        return Vec::new();
    };
    let part = |name: &str| inside[name].clone();
    let binary = |operator: &str| {
        (
            operator.to_owned(),
            json!({ operator: { "left": part("left"), "right": part("right") } }),
        )
    };
    let mut mutants = match operator.as_str() {
        "&&" | "||" => vec![
            ("only left".to_owned(), part("left")),
            ("only right".to_owned(), part("right")),
            binary(if operator == "&&" { "||" } else { "&&" }),
        ],
        "!" => vec![("no !".to_owned(), part("arg"))],
        "if-then-else" => vec![
            ("then".to_owned(), part("then")),
            ("else".to_owned(), part("else")),
        ],
        "==" => vec![binary("!=")],
        "!=" => vec![binary("==")],
        "<" => vec![binary("<=")],
        "<=" => vec![binary("<")],
        ">" => vec![binary(">=")],
        ">=" => vec![binary(">")],
        "containsAll" => vec![binary("containsAny")],
        "containsAny" => vec![binary("containsAll")],
        "Set" => {
            let items = inside.as_array().unwrap();
            let fewer = |at: usize| {
                let mut fewer = items.clone();
                let gone = fewer.remove(at);
                (format!("without {gone}"), json!({ "Set": fewer }))
            };
            (0..items.len())
                .filter(|_| items.len() > 1)
                .map(fewer)
                .collect()
        }
        _ => Vec::new(),
    };
    for (name, inner) in inside.as_object().into_iter().flatten() {
        for (what, inner) in changed(inner) {
            let mut whole = expression.clone();
            whole[operator][name] = inner;
            mutants.push((format!("{operator}.{name} {what}"), whole));
        }
    }
    mutants
}

/// Every mutant of a rule; `None` is the rule removed.
fn mutants(policy: &Policy) -> Vec<(String, Option<Policy>)> {
    let whole = policy.to_json().unwrap();
    let rebuilt = |json: Value| Policy::from_json(Some(policy.id().clone()), json).ok();
    let mut mutants = vec![("removed".to_owned(), None)];
    for (at, condition) in whole["conditions"].as_array().unwrap().iter().enumerate() {
        let mut dropped = whole.clone();
        dropped["conditions"].as_array_mut().unwrap().remove(at);
        mutants.push(("condition dropped".to_owned(), rebuilt(dropped)));
        let mut turned = whole.clone();
        let other = if condition["kind"] == "when" {
            "unless"
        } else {
            "when"
        };
        turned["conditions"][at]["kind"] = other.into();
        mutants.push((other.to_owned(), rebuilt(turned)));
        for (what, body) in changed(&condition["body"]) {
            let mut whole = whole.clone();
            whole["conditions"][at]["body"] = body;
            mutants.push((what, rebuilt(whole)));
        }
    }
    mutants
}

/// A guard that does not load any more was caught by whoever loads it.
fn loads(parsed: &Parsed, policy: &Policy) -> bool {
    let validator = Validator::new(parsed.schema.clone());
    let alone = set([policy]).unwrap();
    validator
        .validate(&alone, ValidationMode::Strict)
        .validation_passed()
}

/// Everything permitted, and these as guards.
fn against(policies: &[Policy]) -> PolicySet {
    let anything = format!("@id(\"{ANYTHING}\") permit (principal, action, resource);");
    let anything = Policy::parse(None, anything).unwrap();
    set(policies.iter().chain([&anything])).unwrap()
}

fn same(
    solver: &mut Solver,
    parsed: &Parsed,
    of: &RequestEnv,
    one: &PolicySet,
    other: &PolicySet,
) -> bool {
    let environment = Environment {
        of,
        schema: &parsed.schema,
    };
    solver.implies(&environment, one, other).unwrap()
        && solver.implies(&environment, other, one).unwrap()
}

/// One mutant of one side: the side as it is shipped, and as it would be.
struct Mutant {
    name: String,
    shipped: PolicySet,
    changed: PolicySet,
    environments: Vec<RequestEnv>,
}

/// All mutants of guards and invariants that load, and how many do not.
fn all_mutants(parsed: &Parsed, environments: &[RequestEnv]) -> (Vec<Mutant>, usize) {
    let (mut all, mut unloadable) = (Vec::new(), 0);
    let as_guards = |these: &[Policy]| -> Vec<Policy> {
        these.iter().map(|it| as_guard(it).unwrap()).collect()
    };
    for mine in [&parsed.guards, &parsed.invariants] {
        let is_guard = |it: &Policy| it.effect() == cedar_policy::Effect::Forbid;
        let side = |these: &[Policy]| match these.first().is_some_and(is_guard) {
            true => against(these),
            false => against(&as_guards(these)),
        };
        for (at, policy) in mine.iter().enumerate() {
            let speaks = |it: &&RequestEnv| {
                policy
                    .get_valid_request_envs(&parsed.schema)
                    .any(|of| of == **it)
            };
            let environments: Vec<RequestEnv> =
                environments.iter().filter(speaks).cloned().collect();
            for (what, mutant) in mutants(policy) {
                let mut these = mine.clone();
                match mutant {
                    None => drop(these.remove(at)),
                    Some(mutant) if loads(parsed, &mutant) => these[at] = mutant,
                    Some(_) => {
                        unloadable += 1;
                        continue;
                    }
                }
                all.push(Mutant {
                    name: format!("{}: {what}", policy.id()),
                    shipped: side(mine),
                    changed: side(&these),
                    environments: environments.clone(),
                });
            }
        }
    }
    (all, unloadable)
}

#[test]
fn every_condition_of_every_guard_and_invariant_counts() {
    let mut solver = match Solver::start() {
        Ok(solver) => solver,
        Err(SolverError::Missing(why)) => return println!("SKIPPED: {why}"),
        Err(error) => panic!("{error}"),
    };
    let parsed = Texts::built_in().parse().unwrap();
    let invariants: Vec<Policy> = parsed
        .invariants
        .iter()
        .map(|it| as_guard(it).unwrap())
        .collect();
    let environments = in_order(parsed.schema.request_envs());
    for of in &environments {
        let (guards, invariants) = (against(&parsed.guards), against(&invariants));
        assert!(
            same(&mut solver, &parsed, of, &guards, &invariants),
            "guards and invariants differ: {of:?}"
        );
    }

    // Why against its own side: both sides mean the same, as was just proven, and what is shared is quickly done.
    let (all, unloadable) = all_mutants(&parsed, &environments);
    let survives = |solver: &mut Solver, it: &Mutant| {
        let mut environments = it.environments.iter();
        environments.all(|of| same(solver, &parsed, of, &it.changed, &it.shipped))
    };
    let work = |part: &[Mutant]| -> Vec<String> {
        let mut solver = Solver::start().unwrap();
        let kept = part.iter().filter(|it| survives(&mut solver, it));
        kept.map(|it| it.name.clone()).collect()
    };
    let kept: Vec<String> = std::thread::scope(|scope| {
        let parts = all.chunks(all.len() / 2 + 1);
        let workers: Vec<_> = parts.map(|part| scope.spawn(|| work(part))).collect();
        workers
            .into_iter()
            .flat_map(|it| it.join().unwrap())
            .collect()
    });
    let caught = all.len() - kept.len();
    println!(
        "{caught} caught, {unloadable} do not load, {} mean the same:\n  {}",
        kept.len(),
        kept.join("\n  ")
    );
    let explained = |it: &&String| SAME.iter().any(|(rule, _)| it.starts_with(rule));
    let survivors: Vec<&String> = kept.iter().filter(|it| !explained(it)).collect();
    assert!(survivors.is_empty(), "nobody notices: {survivors:#?}");
    assert!(caught > 150, "{caught}");
}
