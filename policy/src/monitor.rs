//! The invariants at run time: every one that applies must say yes to every permit.
//!
//! They are `permit` rules, so a missing entity, a missing field or an error makes one silent, and
//! silence is a no. Where the proof of the guards holds the monitor never speaks; when it does,
//! guards, proof or data plumbing are broken, and nothing is released.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Authorizer, EntityUid, PolicyId, PolicySet};

use crate::cedar::Question;

/// For each act the invariants it has to meet, every one of them.
pub(crate) struct Monitor {
    invariants: HashMap<EntityUid, PolicySet>,
}

impl Monitor {
    pub(crate) fn new(invariants: HashMap<EntityUid, PolicySet>) -> Monitor {
        Monitor { invariants }
    }

    /// The invariants of an act.
    pub(crate) fn watching(&self, action: &EntityUid) -> Option<&PolicySet> {
        self.invariants.get(action)
    }

    /// Whether every invariant of the act holds. An act that has none meets none.
    pub(crate) fn is_content(&self, authorizer: &Authorizer, question: &Question) -> bool {
        let action = question.request.action();
        let Some(invariants) = action.and_then(|action| self.invariants.get(action)) else {
            return false;
        };
        // Why one evaluation suffices: Cedar evaluates every permit and names all that hold.
        let response = authorizer.is_authorized(&question.request, invariants, &question.entities);
        let held: HashSet<&PolicyId> = response.diagnostics().reason().collect();
        response.diagnostics().errors().next().is_none()
            && !invariants.is_empty()
            && invariants.policies().all(|it| held.contains(it.id()))
    }
}
