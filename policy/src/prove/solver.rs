//! The solver: another program, asked one question at a time.
//!
//! Only `unsat` proves. A solver that is missing, dies, errs, takes too long or says `unknown` has
//! proven nothing; after an error it is started afresh for the next question.

use std::time::Duration;

use cedar_policy::{Entities, PolicySet, Request, RequestEnv, Schema};
use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet};
use tokio::process::Command;

/// How long the solver may think about one question, and how long we wait for it in all.
const THINK_MS: u64 = 20_000;
const WAIT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SolverError {
    /// It is not there, or does not start.
    #[error(
        "no solver: {0}. Install cvc5 (Debian: `apt-get install cvc5`), or name one: CVC5=/path/to/cvc5; with \
         `pip install cvc5`, CVC5=policy/solver/cvc5-wheel.py"
    )]
    Missing(String),
    /// It did not answer in time, or answered `unknown`.
    #[error("the solver could not decide within {} s", THINK_MS / 1000)]
    Undecided,
    /// It failed.
    #[error("the solver failed: {0}")]
    Failed(String),
}

/// A violation that the solver found: a request and all entities it speaks of.
pub(super) struct Model {
    pub(super) request: Request,
    pub(super) entities: Entities,
}

/// A running solver.
pub(super) struct Solver {
    path: String,
    pub(super) version: String,
    runtime: tokio::runtime::Runtime,
    compiler: Option<CedarSymCompiler<LocalSolver>>,
    pub(super) asked: u64,
}

impl Solver {
    /// `$CVC5`, or `cvc5` from the path.
    pub(super) fn start() -> Result<Solver, SolverError> {
        let path = std::env::var("CVC5").unwrap_or_else(|_| "cvc5".to_owned());
        let missing = |error: std::io::Error| SolverError::Missing(format!("{path}: {error}"));
        let said = std::process::Command::new(&path).arg("--version").output();
        let said = said.map_err(missing)?;
        let version = version(&String::from_utf8_lossy(&said.stdout))
            .ok_or_else(|| SolverError::Missing(format!("{path} does not say that it is cvc5")))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(missing)?;
        Ok(Solver {
            path,
            version,
            runtime,
            compiler: None,
            asked: 0,
        })
    }

    fn compiler(&mut self) -> Result<CedarSymCompiler<LocalSolver>, SolverError> {
        if let Some(compiler) = self.compiler.take() {
            return Ok(compiler);
        }
        // Why entered: a child process needs the runtime that it is waited for on.
        let _runtime = self.runtime.enter();
        let limit = format!("--tlimit-per={THINK_MS}");
        let mut command = Command::new(&self.path);
        command.args(["--lang", "smt", &limit]).kill_on_drop(true);
        let failed = |error: &dyn std::fmt::Display| SolverError::Failed(error.to_string());
        let solver = LocalSolver::from_command(&mut command).map_err(|error| failed(&error))?;
        CedarSymCompiler::new(solver).map_err(|error| failed(&error))
    }

    /// Asks once. After anything but an answer the solver is not used again.
    fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut CedarSymCompiler<LocalSolver>) -> Result<T, Error>,
    ) -> Result<T, SolverError> {
        let mut compiler = self.compiler()?;
        self.asked += 1;
        let answer = self.runtime.block_on(async {
            let answer = tokio::time::timeout(WAIT, question(&mut compiler)).await;
            answer.map(|answer| (answer, compiler))
        });
        match answer {
            Ok((Ok(answer), compiler)) => {
                self.compiler = Some(compiler);
                Ok(answer)
            }
            Ok((Err(Error::SolverUnknown), _)) | Err(_) => Err(SolverError::Undecided),
            Ok((Err(error), _)) => Err(SolverError::Failed(error.to_string())),
        }
    }

    /// Whether whatever the first set allows, the second allows too.
    pub(super) fn implies(
        &mut self,
        environment: &Environment<'_>,
        first: &PolicySet,
        second: &PolicySet,
    ) -> Result<bool, SolverError> {
        let (first, second) = (environment.compile(first)?, environment.compile(second)?);
        self.ask(async |compiler| compiler.check_implies_opt(&first, &second).await)
    }

    /// The same, with a request that the first allows and the second does not.
    pub(super) fn violation(
        &mut self,
        environment: &Environment<'_>,
        first: &PolicySet,
        second: &PolicySet,
    ) -> Result<Option<Model>, SolverError> {
        let (first, second) = (environment.compile(first)?, environment.compile(second)?);
        let found = self.ask(async |compiler| {
            compiler
                .check_implies_with_counterexample_opt(&first, &second)
                .await
        })?;
        Ok(found.map(|found| Model {
            request: found.request,
            entities: found.entities,
        }))
    }

    /// Whether a rule can be evaluated whatever is asked; else a request at which it errs.
    pub(super) fn error(
        &mut self,
        environment: &Environment<'_>,
        policy: &cedar_policy::Policy,
    ) -> Result<Option<Model>, SolverError> {
        let policy = CompiledPolicy::compile(policy, environment.of, environment.schema)
            .map_err(|error| SolverError::Failed(error.to_string()))?;
        let found = self.ask(async |compiler| {
            compiler
                .check_never_errors_with_counterexample_opt(&policy)
                .await
        })?;
        Ok(found.map(|found| Model {
            request: found.request,
            entities: found.entities,
        }))
    }

    /// Whether a set allows nothing at all.
    pub(super) fn is_mute(
        &mut self,
        environment: &Environment<'_>,
        policies: &PolicySet,
    ) -> Result<bool, SolverError> {
        let policies = environment.compile(policies)?;
        self.ask(async |compiler| compiler.check_always_denies_opt(&policies).await)
    }
}

/// One kind of question that the schema allows: who, what act, on what kind of thing.
pub(super) struct Environment<'a> {
    pub(super) of: &'a RequestEnv,
    pub(super) schema: &'a Schema,
}

impl Environment<'_> {
    fn compile(&self, policies: &PolicySet) -> Result<CompiledPolicySet, SolverError> {
        CompiledPolicySet::compile(policies, self.of, self.schema)
            .map_err(|error| SolverError::Failed(error.to_string()))
    }
}

/// `cvc5 1.0.3`, from whatever a cvc5 says of itself.
fn version(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("cvc5 version ")?;
    let number: String = rest
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect();
    (!number.is_empty()).then(|| format!("cvc5 {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solver_says_which_it_is() {
        let said = "This is cvc5 version 1.0.3 [git tag 1.0.3 branch HEAD]\ncompiled with GCC";
        assert_eq!(version(said).as_deref(), Some("cvc5 1.0.3"));
        assert_eq!(version("This is Z3 version 4.8"), None);
        assert_eq!(version("cvc5 version x"), None);
    }
}
