//! The proof: whatever anybody permits, the guards imply every invariant.
//!
//! For each kind of question that the schema allows and each invariant that speaks about it, a
//! solver is asked for a request that the guards let through and the invariant does not. `unsat` is
//! proof; a request is replayed through the real authorizer and told in words; anything else, an
//! error, a limit, an example that does not replay, is *not proven*. The theorem covers the given
//! local rules with all others; where it does not hold they are asked about too, for they have names.
//!
//! The one part of this crate that starts another program; decisions never come here.

mod difference;
mod example;
mod likely;
#[cfg(test)]
mod mutation;
mod solver;
mod story;

use cedar_policy::{
    Authorizer, Decision, EntityUid, Policy, PolicyId, PolicySet, RequestEnv, ResourceConstraint,
};

pub use difference::{Change, Difference, compare};
pub use solver::SolverError;
pub use story::Story;

use crate::proof::Proof;
use crate::rules::LoadError;
use crate::texts::{Parsed, Said, Texts, set};
use example::Example;
use solver::{Environment, Model, Solver};

/// What puts our questions to the solver.
const COMPILER: &str = "cedar-policy-symcc 0.8.1";

/// The id of the rule that permits everything.
const ANYTHING: &str = "any-local-rule";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The texts do not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no solver.
    #[error(transparent)]
    Solver(#[from] SolverError),
}

/// How far a check is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Questions answered.
    pub done: usize,
    /// Questions in all.
    pub all: usize,
    /// What is asked now.
    pub what: &'a str,
}

/// What a check found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Digest of what the proof is about: schema, guards, invariants.
    pub digest: String,
    /// Digest of the whole set.
    pub policy: String,
    /// The solver and its version.
    pub solver: String,
    /// Implications of the theorem that were proven.
    pub proven: u64,
    /// Invariants that do not hold, each with an example.
    pub breaches: Vec<Breach>,
    /// What could not be decided.
    pub undecided: Vec<Undecided>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether everything was proven.
    pub fn holds(&self) -> bool {
        self.breaches.is_empty() && self.undecided.is_empty() && self.proven > 0
    }

    /// The proof to be written beside the texts; none unless everything was proven.
    pub fn proof(&self) -> Option<Proof> {
        self.holds().then(|| Proof {
            digest: self.digest.clone(),
            solver: self.solver.clone(),
            compiler: COMPILER.to_owned(),
            proven: self.proven,
        })
    }
}

/// Something that can happen and must not.
#[derive(Clone, Debug)]
pub struct Breach {
    /// The invariant that is broken, or the rule that can err.
    pub rule: Said,
    /// The acts by which it can be.
    pub acts: Vec<String>,
    /// An example.
    pub story: Story,
    /// The local rules that let it through; none where any local rule could.
    pub by: Vec<String>,
    /// Further invariants that the example breaks; none where all else is in order.
    pub also: Vec<String>,
}

/// Something that is not proven, and not disproven.
#[derive(Clone, Debug)]
pub struct Undecided {
    /// What was asked.
    pub what: String,
    /// Why there is no answer.
    pub why: String,
}

/// Proves the theorem for these texts, and then the given local rules.
///
/// # Errors
/// When the texts do not load, or there is no solver.
pub fn check(texts: &Texts, progress: &mut dyn FnMut(Progress<'_>)) -> Result<Report, CheckError> {
    let parsed = texts.parse()?;
    let solver = Solver::start()?;
    let mut check = Check::new(texts, &parsed, solver)?;
    let environments = in_order(parsed.schema.request_envs());
    let all = environments.len();
    for (done, environment) in environments.iter().enumerate() {
        let what = said(environment);
        progress(Progress {
            done,
            all,
            what: &what,
        });
        check.environment(environment, &what)?;
    }
    progress(Progress {
        done: all,
        all,
        what: "",
    });
    Ok(check.report)
}

/// Reading before being issued a token to read: the plainer example.
fn in_order(environments: impl Iterator<Item = RequestEnv>) -> Vec<RequestEnv> {
    let mut environments: Vec<RequestEnv> = environments.collect();
    environments.sort_by_key(|it| {
        let action = it.action().id().unescaped().to_owned();
        (
            it.resource().to_string() != "Record",
            action != "read",
            action,
        )
    });
    environments
}

fn said(environment: &RequestEnv) -> String {
    let action = environment.action().id().unescaped().to_owned();
    let (principal, resource) = (environment.principal(), environment.resource());
    format!("{action} on {resource} by {principal}")
}

struct Check<'a> {
    parsed: &'a Parsed,
    solver: Solver,
    /// Everything permitted, and the guards.
    theorem: PolicySet,
    /// The given local rules, and the guards.
    local: PolicySet,
    wishes: Vec<Policy>,
    authorizer: Authorizer,
    report: Report,
}

impl<'a> Check<'a> {
    fn new(texts: &Texts, parsed: &'a Parsed, solver: Solver) -> Result<Check<'a>, CheckError> {
        let anything = Policy::parse(
            Some(PolicyId::new(ANYTHING)),
            "permit (principal, action, resource);",
        );
        let anything = anything.map_err(|error| LoadError::Syntax(error.to_string()))?;
        Ok(Check {
            theorem: set(parsed.guards.iter().chain([&anything]))?,
            local: set(parsed.guards.iter().chain(&parsed.rules))?,
            wishes: likely::wishes(&parsed.schema),
            authorizer: Authorizer::new(),
            report: Report {
                digest: texts.proven_digest(),
                policy: texts.digest(),
                solver: solver.version.clone(),
                proven: 0,
                breaches: Vec::new(),
                undecided: Vec::new(),
                notes: Vec::new(),
            },
            parsed,
            solver,
        })
    }

    fn environment(&mut self, of: &RequestEnv, what: &str) -> Result<(), CheckError> {
        let environment = Environment {
            of,
            schema: &self.parsed.schema,
        };
        let speaks = |policy: &&Policy| {
            let mut environments = policy.get_valid_request_envs(&self.parsed.schema);
            environments.any(|it| it == *of)
        };
        let invariants: Vec<&Policy> = self.parsed.invariants.iter().filter(speaks).collect();
        // Why: what holds of everything alike says nothing about a new kind of thing.
        let of_its_own =
            |it: &&&Policy| !matches!(it.resource_constraint(), ResourceConstraint::Any);
        if !invariants.iter().any(|it| of_its_own(&it)) {
            self.undecided(what, "no invariant speaks of this kind of thing".to_owned());
        }
        let fixed = [&self.parsed.guards, &self.parsed.invariants];
        for policy in fixed.into_iter().flatten().filter(speaks) {
            self.errors(&environment, policy, what);
        }
        for policy in self.parsed.rules.iter().filter(speaks) {
            if let Ok(Some(_)) = self.solver.error(&environment, policy) {
                self.note(format!(
                    "local rule `{}` can err ({what}): whatever it errs at is refused",
                    policy.id()
                ));
            }
        }
        for invariant in &invariants {
            self.invariant(&environment, invariant, &invariants, what)?;
        }
        if let Ok(true) = self.solver.is_mute(&environment, &self.theorem) {
            self.note(format!("the guards never let through: {what}"));
        }
        Ok(())
    }

    /// A guard that errs is skipped; an invariant that errs cannot be met.
    fn errors(&mut self, environment: &Environment<'_>, policy: &Policy, what: &str) {
        match self.solver.error(environment, policy) {
            Ok(None) => {}
            Ok(Some(model)) => {
                let policies = set([policy]).unwrap_or_default();
                let response =
                    self.authorizer
                        .is_authorized(&model.request, &policies, &model.entities);
                if response.diagnostics().errors().next().is_none() {
                    return self.unreplayed(what, policy);
                }
                let example = Example::new(&model);
                let mut story = story::tell(&example, "could", None, &[]);
                story.sentence = format!(
                    "The rule `{}` errs, and a rule that errs is skipped, when {}",
                    policy.id(),
                    story.sentence
                );
                self.breach(policy, what, story, (Vec::new(), Vec::new()));
            }
            Err(error) => self.undecided(
                &format!("whether `{}` can err ({what})", policy.id()),
                error.to_string(),
            ),
        }
    }

    fn invariant(
        &mut self,
        environment: &Environment<'_>,
        invariant: &Policy,
        all: &[&Policy],
        what: &str,
    ) -> Result<(), CheckError> {
        let alone = set([invariant])?;
        let asked = format!("{what}: `{}`", invariant.id());
        // Why the given rules need no question of their own where this holds: the theorem is about any.
        match self.solver.implies(environment, &self.theorem, &alone) {
            Ok(true) => {
                self.report.proven += 1;
                return Ok(());
            }
            Ok(false) => {}
            Err(error) => {
                self.undecided(&asked, error.to_string());
                return Ok(());
            }
        }
        // One example is enough: that it is possible by this act too was just found.
        let id = invariant.id().to_string();
        let told = self.report.breaches.iter_mut().find(|it| it.rule.id == id);
        if let Some(breach) = told {
            breach.acts.push(what.to_owned());
            return Ok(());
        }
        // The given rules make the better example: they have names.
        let broken = match self.solver.implies(environment, &self.local, &alone) {
            Ok(false) => self.local.clone(),
            Ok(true) | Err(_) => self.theorem.clone(),
        };
        let others = all.iter().filter(|it| it.id() != invariant.id());
        let others: Vec<Policy> = others.filter_map(|it| likely::as_guard(it)).collect();
        let found = likely::most_telling(
            &mut self.solver,
            environment,
            (&broken, &alone),
            &others,
            &self.wishes,
        );
        match found {
            Ok(Some(model)) => self.replay(&model, &broken, invariant, all, what),
            Ok(None) => self.undecided(&asked, "the solver contradicts itself".to_owned()),
            Err(error) => self.undecided(&asked, error.to_string()),
        }
        Ok(())
    }

    /// An example counts when the authorizer that decides every day says the same.
    fn replay(
        &mut self,
        model: &Model,
        broken: &PolicySet,
        invariant: &Policy,
        all: &[&Policy],
        what: &str,
    ) {
        let Model { request, entities } = model;
        let response = self.authorizer.is_authorized(request, broken, entities);
        let is_met = |it: &Policy| {
            let alone = set([it]).unwrap_or_default();
            let response = self.authorizer.is_authorized(request, &alone, entities);
            response.decision() == Decision::Allow
        };
        if response.decision() != Decision::Allow || is_met(invariant) {
            return self.unreplayed(what, invariant);
        }
        let also = all
            .iter()
            .filter(|it| it.id() != invariant.id() && !is_met(it));
        let also = also.map(|it| it.id().to_string()).collect();
        let by = response.diagnostics().reason().map(PolicyId::to_string);
        let mut by: Vec<String> = by.filter(|id| id != ANYTHING).collect();
        by.sort();
        let words = invariant.annotation("says").unwrap_or_default();
        let story = story::tell(&Example::new(model), "could", Some(words), &by);
        self.breach(invariant, what, story, (by, also));
    }

    fn breach(
        &mut self,
        rule: &Policy,
        what: &str,
        story: Story,
        (by, also): (Vec<String>, Vec<String>),
    ) {
        let id = rule.id().to_string();
        let breaches = &mut self.report.breaches;
        match breaches.iter_mut().find(|breach| breach.rule.id == id) {
            Some(breach) => breach.acts.push(what.to_owned()),
            None => breaches.push(Breach {
                rule: Said {
                    id,
                    words: rule.annotation("says").unwrap_or_default().to_owned(),
                },
                acts: vec![what.to_owned()],
                story,
                by,
                also,
            }),
        }
    }

    fn unreplayed(&mut self, what: &str, rule: &Policy) {
        let why = "the solver's example does not replay through the authorizer; this is a fault of the checker \
                   or the solver, and no proof";
        self.undecided(&format!("{what}: `{}`", rule.id()), why.to_owned());
    }

    fn undecided(&mut self, what: &str, why: String) {
        self.report.undecided.push(Undecided {
            what: what.to_owned(),
            why,
        });
    }

    fn note(&mut self, note: String) {
        if !self.report.notes.contains(&note) {
            self.report.notes.push(note);
        }
    }
}

/// The name of an act.
fn act(action: &EntityUid) -> String {
    action.id().unescaped().to_owned()
}
