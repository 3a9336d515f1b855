//! What a change of the rules newly permits or refuses, each with an example; or that it does neither.
//!
//! Both sets are compared whole, guards and local rules, for every kind of question. Two schemas can
//! only be compared where the old rules also make sense under the new schema; that is said.

use cedar_policy::{Authorizer, Decision, PolicySet, RequestEnv};

use super::example::Example;
use super::likely;
use super::solver::{Environment, Model, Solver};
use super::story::{self, Story};
use super::{CheckError, Progress, Undecided, act, in_order, said};
use crate::texts::{Parsed, Texts, set};

/// One way in which a kind of question is now decided differently.
#[derive(Clone, Debug)]
pub struct Change {
    /// The act, such as `read on Record by Practitioner`.
    pub act: String,
    /// Whether it is newly permitted; else newly refused.
    pub permits: bool,
    /// An example.
    pub story: Story,
}

/// What a change changes.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The solver and its version.
    pub solver: String,
    /// Kinds of question that were compared.
    pub compared: usize,
    /// What is decided differently.
    pub changes: Vec<Change>,
    /// Acts that only one of the two knows.
    pub acts: Vec<String>,
    /// Invariants that are new, gone, or say something else.
    pub invariants: Vec<String>,
    /// What could not be decided.
    pub undecided: Vec<Undecided>,
}

impl Difference {
    /// Whether nothing at all is decided differently, and that is proven.
    pub fn is_none(&self) -> bool {
        self.changes.is_empty() && self.acts.is_empty() && self.undecided.is_empty()
    }
}

/// Compares two sets.
///
/// # Errors
/// When a set does not load, the old rules make no sense under the new schema, or there is no solver.
pub fn compare(
    old: &Texts,
    new: &Texts,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Difference, CheckError> {
    let (before, after) = (old.parse()?, new.parse()?);
    let under_new = Texts {
        schema: new.schema.clone(),
        invariants: new.invariants.clone(),
        ..old.clone()
    };
    let was = under_new.parse()?;
    let mut solver = Solver::start()?;
    let mut difference = Difference {
        solver: solver.version.clone(),
        compared: 0,
        changes: Vec::new(),
        acts: acts(&before, &after),
        invariants: invariants(&before, &after),
        undecided: Vec::new(),
    };
    let (was, is) = (whole(&was)?, whole(&after)?);
    let wishes = likely::wishes(&after.schema);
    let environments = in_order(after.schema.request_envs());
    for (done, of) in environments.iter().enumerate() {
        let what = said(of);
        let all = environments.len();
        progress(Progress {
            done,
            all,
            what: &what,
        });
        let environment = Environment {
            of,
            schema: &after.schema,
        };
        difference.compared += 1;
        for permits in [true, false] {
            let (first, second) = if permits { (&is, &was) } else { (&was, &is) };
            let found = match solver.implies(&environment, first, second) {
                Ok(true) => continue,
                Ok(false) => {
                    likely::most_telling(&mut solver, &environment, (first, second), &[], &wishes)
                }
                Err(error) => Err(error),
            };
            match found {
                Ok(Some(model)) => difference.tell(&model, (&is, &was), permits, &what),
                Ok(None) => {
                    difference.undecided(&what, "the solver contradicts itself".to_owned());
                }
                Err(error) => difference.undecided(&what, error.to_string()),
            }
        }
    }
    Ok(difference)
}

fn whole(parsed: &Parsed) -> Result<PolicySet, CheckError> {
    Ok(set(parsed.guards.iter().chain(&parsed.rules))?)
}

fn acts(before: &Parsed, after: &Parsed) -> Vec<String> {
    let said = |environments: Vec<RequestEnv>| -> Vec<String> {
        let said = |it: &RequestEnv| format!("{} on {}", act(it.action()), it.resource());
        environments.iter().map(said).collect()
    };
    let (old, new) = (
        said(in_order(before.schema.request_envs())),
        said(in_order(after.schema.request_envs())),
    );
    let added = new.iter().filter(|it| !old.contains(it));
    let gone = old.iter().filter(|it| !new.contains(it));
    added
        .map(|it| format!("new act: {it}"))
        .chain(gone.map(|it| format!("act gone: {it}")))
        .collect()
}

fn invariants(before: &Parsed, after: &Parsed) -> Vec<String> {
    let (old, new) = (&before.invariants, &after.invariants);
    let mut said = Vec::new();
    for it in new {
        match old.iter().find(|other| other.id() == it.id()) {
            None => said.push(format!("new invariant `{}`", it.id())),
            Some(other) if other.to_cedar() != it.to_cedar() => {
                said.push(format!("invariant `{}` reads differently", it.id()));
            }
            Some(_) => {}
        }
    }
    let gone = old
        .iter()
        .filter(|it| !new.iter().any(|other| other.id() == it.id()));
    said.extend(gone.map(|it| format!("invariant `{}` IS GONE", it.id())));
    said
}

impl Difference {
    fn tell(
        &mut self,
        model: &Model,
        (is, was): (&PolicySet, &PolicySet),
        permits: bool,
        what: &str,
    ) {
        let authorizer = Authorizer::new();
        let decided = |set| authorizer.is_authorized(&model.request, set, &model.entities);
        let (now, before) = (decided(is), decided(was));
        let allowed = |it: &cedar_policy::Response| it.decision() == Decision::Allow;
        if allowed(&now) != permits || allowed(&before) == permits {
            let why = "the solver's example does not replay through the authorizer";
            return self.undecided(what, why.to_owned());
        }
        // Permitted now: by which rule. Refused now: by which guard, or because no rule permits it.
        let mut by: Vec<String> = now
            .diagnostics()
            .reason()
            .map(|id| id.to_string())
            .collect();
        by.sort();
        let could = if permits {
            story::NOW
        } else {
            story::NO_LONGER
        };
        let mut story = story::tell(&Example::new(model), could, None, &by);
        if by.is_empty() {
            story.sentence.push_str(": no local rule permits it");
        }
        self.changes.push(Change {
            act: what.to_owned(),
            permits,
            story,
        });
    }

    fn undecided(&mut self, what: &str, why: String) {
        self.undecided.push(Undecided {
            what: what.to_owned(),
            why,
        });
    }
}
