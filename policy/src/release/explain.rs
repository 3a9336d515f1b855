//! Why a question is answered as it is: which guards refuse, what each of them wants, and which local rule would permit
//! if none did. Asked of the rules themselves, of facts that are handed in; no verdict comes of it.

use std::collections::BTreeSet;

use super::supposed::Supposed;
use super::{Inquiry, categories};
use crate::ask::TOKEN_LIFE_MS;
use crate::caller::RecordScope;
use crate::facts::PatientFacts;
use crate::rules::Rules;
use crate::verdict::Reason;
use crate::words::{Category, Label, Ods};

/// Why one kind of record of one practice may be opened, or not.
pub struct Explained {
    /// The practice whose records they are.
    pub practice: Ods,
    /// What they are about.
    pub category: Category,
    /// How sensitive they are.
    pub labels: BTreeSet<Label>,
    /// What a token and then a read come to, each with all that speaks about it.
    pub acts: Vec<Account>,
}

/// What one act comes to.
pub struct Account {
    /// `issue` (of a token), or `read`.
    pub act: &'static str,
    /// The rule that permits, or the first that does not.
    pub outcome: Result<Reason, Reason>,
    /// Every guard that refuses: what each says would have to be otherwise.
    pub refusing: Vec<Reason>,
    /// The local rules that permit it, were there no guards.
    pub permitting: Vec<Reason>,
}

/// Explains what this ask would come to on these facts, for each kind of record in them: a token for it, then reading
/// it under that token.
pub fn explain(rules: &Rules, supposed: &Supposed, facts: &PatientFacts) -> Vec<Explained> {
    let mut out: Vec<Explained> = Vec::new();
    let expires_ms = facts.now_ms.saturating_add(TOKEN_LIFE_MS);
    let named = categories(&supposed.scope);
    for act in ["issue", "read"] {
        let scope = RecordScope {
            categories: Some(named.clone()),
            ..supposed.scope.clone()
        };
        let caller = supposed.caller(None);
        let life = (act, expires_ms);
        let mut inquiry = Inquiry::new(rules, &caller, &scope, &named, life, facts);
        for (at, holder) in inquiry.holders.clone().into_iter().enumerate() {
            let kinds: BTreeSet<_> = holder
                .records
                .iter()
                .map(|record| (record.category, &record.labels))
                .collect();
            for (category, labels) in kinds {
                let outcome = inquiry.ruling(at, category, labels);
                let question = inquiry.question(at, holder, category, labels);
                let (refusing, permitting) = rules.speaking(question);
                let account = Account {
                    act,
                    outcome,
                    refusing,
                    permitting,
                };
                let same = |it: &&mut Explained| {
                    (&it.practice, it.category, &it.labels) == (&holder.practice, category, labels)
                };
                match out.iter_mut().find(same) {
                    Some(told) => told.acts.push(account),
                    None => out.push(Explained {
                        practice: holder.practice.clone(),
                        category,
                        labels: labels.clone(),
                        acts: vec![account],
                    }),
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]

    use super::*;
    use crate::facts::Fact;
    use crate::words::{ClientId, Role};
    use crate::world::{NOW_MS, World};

    fn explained(world: &World) -> Vec<Explained> {
        let supposed = Supposed {
            client: ClientId::try_from("RJ1").unwrap(),
            role: world.client_role,
            organisations: world.organisations.clone(),
            scope: world.scope.clone(),
        };
        explain(&Rules::built_in().unwrap(), &supposed, &world.facts)
    }

    fn ids(reasons: &[Reason]) -> Vec<&str> {
        reasons.iter().map(Reason::rule).collect()
    }

    #[test]
    fn every_guard_that_refuses_is_named_and_so_is_what_would_permit() {
        let mut world = World::in_order();
        assert!(
            explained(&world)[0]
                .acts
                .iter()
                .all(|it| it.outcome.is_ok())
        );
        world.practitioner().trained_until_ms = Fact::Known(NOW_MS);
        world.agreement().until_ms = NOW_MS;
        let told = explained(&world);
        assert_eq!(told.len(), 1);
        for act in &told[0].acts {
            assert_eq!(act.outcome.as_ref().unwrap_err().rule(), "never-untrained");
            assert_eq!(
                ids(&act.refusing),
                ["never-untrained", "never-without-agreement"]
            );
            assert_eq!(ids(&act.permitting), ["care"]);
        }
        let mut world = World::in_order();
        world.practitioner().role = Role::Researcher;
        let told = explained(&world);
        assert_eq!(
            told[0].acts[1].outcome.as_ref().unwrap_err().rule(),
            "not-permitted"
        );
        assert!(told[0].acts[1].refusing.is_empty() && told[0].acts[1].permitting.is_empty());
    }
}
