//! The invariants at run time: every one that applies must say yes to every permit.
//!
//! They are `permit` rules, so a missing entity, a missing field or an error makes one silent, and
//! silence is a no. Where the proof of the guards holds the monitor never speaks; when it does,
//! guards, proof or data plumbing are broken, and nothing is released.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Authorizer, EntityUid, PolicyId, PolicySet, Schema};

use crate::cedar::Question;

/// The invariants, and which of them an act has to meet.
pub(crate) struct Monitor {
    invariants: PolicySet,
    required: HashMap<EntityUid, HashSet<PolicyId>>,
}

impl Monitor {
    pub(crate) fn new(invariants: PolicySet, schema: &Schema) -> Monitor {
        let mut required: HashMap<EntityUid, HashSet<PolicyId>> = HashMap::new();
        for invariant in invariants.policies() {
            for environment in invariant.get_valid_request_envs(schema) {
                required
                    .entry(environment.action().clone())
                    .or_default()
                    .insert(invariant.id().clone());
            }
        }
        Monitor {
            invariants,
            required,
        }
    }

    /// Whether every invariant that applies holds. An act that none applies to holds none.
    pub(crate) fn is_content(&self, authorizer: &Authorizer, question: &Question) -> bool {
        let required = question
            .request
            .action()
            .and_then(|action| self.required.get(action));
        let Some(required) = required else {
            return false;
        };
        // Why one evaluation suffices: Cedar evaluates every permit and names all that hold.
        let response =
            authorizer.is_authorized(&question.request, &self.invariants, &question.entities);
        let held: HashSet<&PolicyId> = response.diagnostics().reason().collect();
        response.diagnostics().errors().next().is_none()
            && required.iter().all(|invariant| held.contains(invariant))
    }
}
