//! What makes a counterexample telling: as little as possible is out of the ordinary.
//!
//! The solver is asked for an example in which every other invariant holds, and then, as far as it
//! will go, in which the rest is what one meets every day. Nothing here can hide a violation: a wish
//! that cannot be met, or that a changed schema has no words for, is dropped.

use cedar_policy::{Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use serde_json::{Value, json};

use super::solver::{Environment, Model, Solver, SolverError};

/// What one meets every day, by the kind of thing asked for.
const WISHES: &[(&str, &str)] = &[
    ("Record", "context.now == 1800000000000"),
    ("Record", "principal.organisation != resource.practice"),
    ("Record", "context.token.purpose == Purpose::\"TREAT\""),
    ("Record", "principal.role == Role::\"doctor\""),
    ("Record", "context has agreement"),
    (
        "Record",
        "context has relationship && context.token has claim",
    ),
    ("Record", "resource.category == Category::\"medications\""),
    ("Record", "resource.labels.isEmpty()"),
    ("Record", "resource.patient.objections.isEmpty()"),
    ("Record", "context.token.holder == principal"),
    (
        "Record",
        "context.client.organisations.contains(principal.organisation)",
    ),
    (
        "Record",
        "context has agreement && context.agreement.practice == resource.practice && \
         context.agreement.organisation == principal.organisation && \
         context.agreement.purposes.contains(context.token.purpose)",
    ),
    (
        "Record",
        "context has relationship && context.relationship.patient == resource.patient",
    ),
    ("PracticeFile", "context.now == 1800000000000"),
    (
        "PracticeFile",
        "context.accepted && principal.role == ClientRole::\"practice\"",
    ),
    (
        "PracticeFile",
        "principal.organisations.contains(resource.practice)",
    ),
    (
        "PracticeFile",
        "context.token.practice == resource.practice",
    ),
    (
        "Deed",
        "principal.role == ClientRole::\"hospital\" && !principal.suspended",
    ),
    (
        "Proposal",
        "principal.role == ClientRole::\"admin\" && !principal.suspended && context.deed == Deed::\"kek.destroy\"",
    ),
    ("Record", "context.client.role == ClientRole::\"hospital\""),
    ("Record", "!principal.suspended"),
    ("Record", "!context.client.suspended"),
    (
        "LogPart",
        "principal.role == ClientRole::\"hospital\" && !principal.suspended",
    ),
];

/// The wishes that this schema has words for, as forbids.
pub(super) fn wishes(schema: &Schema) -> Vec<Policy> {
    let validator = Validator::new(schema.clone());
    let wish = |(place, (kind, condition)): (usize, &(&str, &str))| {
        let text =
            format!("forbid (principal, action, resource is {kind}) unless {{ {condition} }};");
        let id = PolicyId::new(format!("wish-{place}"));
        let policy = Policy::parse(Some(id), text).ok()?;
        let mut alone = PolicySet::new();
        alone.add(policy.clone()).ok()?;
        let validated = validator.validate(&alone, ValidationMode::Strict);
        validated.validation_passed().then_some(policy)
    };
    WISHES.iter().enumerate().filter_map(wish).collect()
}

/// An invariant as a guard: forbidden unless it holds.
pub(super) fn as_guard(invariant: &Policy) -> Option<Policy> {
    let mut json = invariant.to_json().ok()?;
    let conditions = json.get("conditions")?.as_array()?.clone();
    let bodies = conditions.iter().map(|condition| {
        let body = condition.get("body")?.clone();
        match condition.get("kind")?.as_str()? {
            "when" => Some(body),
            _ => Some(json!({ "!": { "arg": body } })),
        }
    });
    let whole = bodies.collect::<Option<Vec<Value>>>()?;
    let whole = whole
        .into_iter()
        .reduce(|left, right| json!({ "&&": { "left": left, "right": right } }))
        .unwrap_or_else(|| json!({ "Value": true }));
    let object = json.as_object_mut()?;
    object.insert("effect".to_owned(), json!("forbid"));
    object.insert(
        "conditions".to_owned(),
        json!([{ "kind": "unless", "body": whole }]),
    );
    let id = PolicyId::new(format!("as-guard-{}", invariant.id()));
    Policy::from_json(Some(id), json).ok()
}

/// The most telling request that `first` allows and `second` does not. There is one: this was asked.
pub(super) fn most_telling(
    solver: &mut Solver,
    environment: &Environment<'_>,
    (first, second): (&PolicySet, &PolicySet),
    others: &[Policy],
    wishes: &[Policy],
) -> Result<Option<Model>, SolverError> {
    let mut narrowed = first.clone();
    for group in [others, wishes] {
        let mine: Vec<&Policy> = group
            .iter()
            .filter(|policy| {
                let mut speaks = policy.get_valid_request_envs(environment.schema);
                speaks.any(|it| it == *environment.of)
            })
            .collect();
        narrow(solver, environment, (&mut narrowed, second), &mine)?;
    }
    solver.violation(environment, &narrowed, second)
}

/// Adds these forbids, all at once or as many as leave an example. Halves find the odd one fast.
fn narrow(
    solver: &mut Solver,
    environment: &Environment<'_>,
    (first, second): (&mut PolicySet, &PolicySet),
    forbids: &[&Policy],
) -> Result<(), SolverError> {
    if forbids.is_empty() {
        return Ok(());
    }
    let mut all = first.clone();
    for forbid in forbids {
        if all.add((*forbid).clone()).is_err() {
            return Ok(());
        }
    }
    // Why an error counts as no: a wish may be dropped, a violation may not be lost.
    if matches!(solver.implies(environment, &all, second), Ok(false)) {
        *first = all;
        return Ok(());
    }
    if let [_] = forbids {
        return Ok(());
    }
    let (left, right) = forbids.split_at(forbids.len() / 2);
    narrow(solver, environment, (first, second), left)?;
    narrow(solver, environment, (first, second), right)
}
