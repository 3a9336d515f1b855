//! Which of several agreements and relationships the policy is shown.
//!
//! A pick, never a check: the policy checks every field of what it is shown, so a bad pick refuses.

use std::collections::BTreeSet;

use crate::cedar::Bearing;
use crate::facts::{Agreement, Approval, Holder, Relationship, Strength};
use crate::words::{Category, Label};

/// The agreement that fits best, and its place.
pub(super) fn fittest_agreement<'a>(
    agreements: &'a [Agreement],
    holder: &Holder,
    bearing: &Bearing<'_>,
    category: Category,
    labels: &BTreeSet<Label>,
) -> Option<(usize, &'a Agreement)> {
    let is_objected = bearing.objections.contains(&bearing.scope.purpose);
    agreements.iter().enumerate().max_by_key(|(_, agreement)| {
        (
            agreement.practice == holder.practice
                && agreement.organisation == bearing.practitioner.organisation
                && agreement.purposes.contains(&bearing.scope.purpose)
                && (agreement.from_ms..agreement.until_ms).contains(&bearing.now_ms)
                && !agreement.accepted_by.is_empty()
                && agreement.cooled_ms <= bearing.now_ms,
            agreement.categories.contains(&category),
            agreement.labels.is_superset(labels),
            agreement.emergency_overrides_objection || !is_objected,
            agreement.accepts_asserted,
        )
    })
}

/// The approval that fits best, and its place.
pub(super) fn fittest_approval<'a>(
    approvals: &'a [Approval],
    holder: &Holder,
    bearing: &Bearing<'_>,
    category: Category,
) -> Option<(usize, &'a Approval)> {
    approvals.iter().enumerate().max_by_key(|(_, approval)| {
        (
            approval.practice == holder.practice
                && approval.organisation == bearing.practitioner.organisation
                && approval.purposes.contains(&bearing.scope.purpose)
                && (approval.from_ms..approval.until_ms).contains(&bearing.now_ms),
            approval.categories.contains(&category),
        )
    })
}

/// The relationship that fits best: the claimed one if it is there and current.
pub(super) fn fittest_relationship<'a>(
    relationships: &'a [Relationship],
    bearing: &Bearing<'_>,
) -> Option<&'a Relationship> {
    let claim = bearing.scope.relationship.as_ref();
    relationships.iter().max_by_key(|it| {
        (
            claim.is_some_and(|claim| claim.kind == it.kind && claim.reference == it.reference),
            it.patient == bearing.scope.patient,
            it.organisation == bearing.practitioner.organisation,
            (it.from_ms..it.until_ms).contains(&bearing.now_ms),
            it.strength == Strength::Corroborated,
        )
    })
}
