//! The rules of release once more, in plain Rust and as simple as can be: what a data controller would say. It knows
//! nothing of Cedar, and is there to be compared with it.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test crate uses its part; tests may panic"
)]

use policy::{
    Agreement, Category, ClientRole, Fact, Label, PractitionerFacts, Purpose, Relationship, Role,
    Strength,
};

use crate::world::{World, patient};

/// Whether the world's one record of that practice may be read, and by which rule not (or by which it may).
pub fn decide(world: &World) -> Result<&'static str, &'static str> {
    let facts = &world.facts;
    let (Fact::Known(organisation), Fact::Known(person), Fact::Known(objections)) =
        (&facts.organisation, &facts.practitioner, &facts.objections)
    else {
        return Err("unknown");
    };
    let (Fact::Known(agreements), Fact::Known(trained)) =
        (&facts.holders[0].agreements, &person.trained_until_ms)
    else {
        return Err("unknown");
    };
    let scope = &world.scope;
    // Only care rests on a relationship.
    let relationships: &[Relationship] = match &facts.relationships {
        Fact::Known(relationships) => relationships,
        Fact::Unknown(_) if scope.purpose != Purpose::Treat => &[],
        Fact::Unknown(_) => return Err("unknown"),
    };
    let record = &facts.holders[0].records[0];
    let named = scope
        .categories
        .clone()
        .unwrap_or_else(|| match scope.purpose.is_emergency() {
            true => Category::SUMMARY.into(),
            false => Category::ALL.iter().copied().collect(),
        });
    let agreement = agreements.first();
    let now = facts.now_ms;

    // In the order in which the guards stand.
    if now >= world.expires_ms {
        return Err("never-without-token");
    }
    if !named.contains(&record.category) {
        return Err("never-beyond-the-token");
    }
    let kind = match is_secondary(&scope.purpose) {
        true => ClientRole::Research,
        false => ClientRole::Hospital,
    };
    if world.client_role != kind || !world.organisations.contains(&person.organisation) {
        return Err("never-through-another-client");
    }
    if person.suspended || organisation.suspended {
        return Err("never-suspended");
    }
    if now >= *trained {
        return Err("never-untrained");
    }
    if matches!(scope.purpose, Purpose::Unserved(_)) {
        return Err("never-another-purpose");
    }
    if is_secondary(&scope.purpose) && !is_approved(world, person) {
        return Err("never-secondary-use-without-approval");
    }
    if scope.purpose == Purpose::Treat
        && !relationships
            .iter()
            .any(|it| is_behind(it, world, person, agreement))
    {
        return Err("never-without-relationship");
    }
    if scope.purpose.is_emergency() && !is_narrow(record.category, scope.reason.as_deref()) {
        return Err("never-a-wide-emergency-on-few-words");
    }
    if scope.purpose.is_emergency() && !is_declared(world, person) {
        return Err("never-an-undeclared-emergency");
    }
    let Some(agreement) = agreement.filter(|it| is_in_force(it, world, person)) else {
        return Err("never-without-agreement");
    };
    if agreement.accepted_by.is_empty()
        || agreement.accepted_by == agreement.proposed_by
        || now < agreement.cooled_ms
    {
        return Err("never-before-both-agreed");
    }
    if !agreement.categories.contains(&record.category) {
        return Err("never-beyond-the-agreement");
    }
    let is_covered =
        |label: &Label| agreement.labels.contains(label) && *label != Label::Unrecognised;
    if !record.labels.iter().all(is_covered) {
        return Err("never-sensitive-by-default");
    }
    let is_overridden = agreement.emergency_overrides_objection && scope.purpose.is_emergency();
    if objections.contains(&scope.purpose) && !is_overridden {
        return Err("never-against-objection");
    }
    permitted(person.role, &scope.purpose, record.category).ok_or("not-permitted")
}

fn is_secondary(purpose: &Purpose) -> bool {
    [Purpose::Hresch, Purpose::Pubhlth, Purpose::Hoperat].contains(purpose)
}

/// A researcher, and an approval of just this.
fn is_approved(world: &World, person: &PractitionerFacts) -> bool {
    let holder = &world.facts.holders[0];
    let Fact::Known(approvals) = &holder.approvals else {
        return false;
    };
    person.role == Role::Researcher
        && approvals.iter().any(|it| {
            it.practice == holder.practice
                && it.organisation == person.organisation
                && it.purposes.contains(&world.scope.purpose)
                && it.categories.contains(&holder.records[0].category)
                && (it.from_ms..it.until_ms).contains(&world.facts.now_ms)
        })
}

fn is_clinician(role: Role) -> bool {
    [
        Role::Doctor,
        Role::Nurse,
        Role::Pharmacist,
        Role::Paramedic,
        Role::AlliedHealth,
    ]
    .contains(&role)
}

/// The local rules.
fn permitted(role: Role, purpose: &Purpose, category: Category) -> Option<&'static str> {
    if purpose.is_emergency() {
        return Some("emergency");
    }
    if is_secondary(purpose) {
        return (role == Role::Researcher).then_some("approved-use");
    }
    if is_clinician(role) {
        return Some("care");
    }
    let is_desk = role == Role::Receptionist || role == Role::Administrator;
    (is_desk && category == Category::Demographics).then_some("front-desk")
}

fn is_in_force(agreement: &Agreement, world: &World, person: &PractitionerFacts) -> bool {
    agreement.practice == world.facts.holders[0].practice
        && agreement.organisation == person.organisation
        && agreement.purposes.contains(&world.scope.purpose)
        && (agreement.from_ms..agreement.until_ms).contains(&world.facts.now_ms)
}

fn is_behind(
    relationship: &Relationship,
    world: &World,
    person: &PractitionerFacts,
    agreement: Option<&Agreement>,
) -> bool {
    let Some(claim) = &world.scope.relationship else {
        return false;
    };
    relationship.patient == patient()
        && relationship.organisation == person.organisation
        && relationship.kind == claim.kind
        && relationship.reference == claim.reference
        && (relationship.from_ms..relationship.until_ms).contains(&world.facts.now_ms)
        && (relationship.strength == Strength::Corroborated
            || agreement.is_some_and(|it| it.accepts_asserted))
}

fn is_declared(world: &World, person: &PractitionerFacts) -> bool {
    let reason = world.scope.reason.as_deref().unwrap_or_default();
    !reason.trim().is_empty() && world.scope.acknowledged && is_clinician(person.role)
}

/// Whether an emergency keeps to the summary, or says at some length why it does not.
fn is_narrow(category: Category, reason: Option<&str>) -> bool {
    let words = reason.unwrap_or_default().trim();
    matches!(
        category,
        Category::Medications | Category::Allergies | Category::Problems | Category::Alerts
    ) || words.chars().count() >= 20
}
