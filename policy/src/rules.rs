//! The rules: schema, guards, local rules and invariants, parsed *and* strictly validated.
//!
//! Schema, guards and invariants are part of the program, or a set of one's own that was proven;
//! local rules are handed in as text and need no proof (this crate reads no files). Whoever holds
//! [`Rules`] knows that every rule validates strictly, reaches no further than the entities we
//! load, and has an id of its own and words. A [`LoadError`] names the rule that broke; rules that
//! do not load decide nothing.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Authorizer, EntityUid, Policy, PolicyId, PolicySet, RequestEnv,
    ResourceConstraint, Schema,
};

use crate::alike::Named;
use crate::cedar::Lexicon;
use crate::monitor::Monitor;
use crate::proof::{NotAProof, Proof};
use crate::texts::{LOCAL_BYTES_MAX, Parsed, Texts, set};
use crate::verdict::Reason;

/// The Cedar schema.
pub const SCHEMA: &str = include_str!("../schema.cedarschema");

/// The guards: what is never let through, whatever anybody permits. One text a family.
pub const GUARDS: &[(&str, &str)] = &[
    ("token", include_str!("../guards/token.cedar")),
    ("people", include_str!("../guards/people.cedar")),
    ("purpose", include_str!("../guards/purpose.cedar")),
    ("agreement", include_str!("../guards/agreement.cedar")),
    ("practice", include_str!("../guards/practice.cedar")),
    ("organisation", include_str!("../guards/organisation.cedar")),
    ("gateway", include_str!("../guards/gateway.cedar")),
];

/// The invariants: what holds of everything that is let through. One text a family.
pub const INVARIANTS: &[(&str, &str)] = &[
    ("identity", include_str!("../invariants/identity.cedar")),
    ("people", include_str!("../invariants/people.cedar")),
    ("purpose", include_str!("../invariants/purpose.cedar")),
    ("agreement", include_str!("../invariants/agreement.cedar")),
    ("practice", include_str!("../invariants/practice.cedar")),
    (
        "organisation",
        include_str!("../invariants/organisation.cedar"),
    ),
    ("gateway", include_str!("../invariants/gateway.cedar")),
];

/// The local rules that a site starts with.
pub const LOCAL: &[(&str, &str)] = &[
    ("care", include_str!("../rules/care.cedar")),
    ("practice", include_str!("../rules/practice.cedar")),
    ("gateway", include_str!("../rules/gateway.cedar")),
];

/// Ids that verdicts use where no rule of the text decided.
pub(crate) const RESERVED: &[&str] = &[
    NOT_PERMITTED,
    RULE_BROKEN,
    INVARIANT_BROKEN,
    QUESTION_MALFORMED,
    "no-token",
    "no-such-record",
    "unlisted-act",
];
pub(crate) const NOT_PERMITTED: &str = "not-permitted";
pub(crate) const RULE_BROKEN: &str = "rule-broken";
pub(crate) const INVARIANT_BROKEN: &str = "invariant-broken";
pub(crate) const QUESTION_MALFORMED: &str = "question-malformed";

/// The parsed and strictly validated rules.
pub struct Rules {
    pub(crate) authorizer: Authorizer,
    pub(crate) schema: Schema,
    /// For each act the rules that can speak about it.
    policies: HashMap<EntityUid, PolicySet>,
    pub(crate) monitor: Monitor,
    pub(crate) lexicon: Lexicon,
    /// Every rule's place and words; the guards come first.
    order: HashMap<PolicyId, (usize, Reason)>,
    guard_count: usize,
    digest: Arc<str>,
}

/// Why rules do not load.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The text is not Cedar.
    #[error("not a Cedar policy text: {0}")]
    Syntax(String),
    /// The text is longer than we evaluate in time.
    #[error(
        "the local rules are longer than {LOCAL_BYTES_MAX} bytes, or the rest longer than 1 MiB"
    )]
    TooLong,
    /// There is no rule at all, which is hardly what anyone meant.
    #[error("the local rules hold no rule")]
    NoRules,
    /// A template stands where a rule should.
    #[error("templates are not used here: agreements are data")]
    Template,
    /// A rule has no `@id`, or one of another shape.
    #[error("rule {0} of its text has no @id of 1 to 64 of a-z 0-9 -")]
    NoId(usize),
    /// A rule has no `@says`.
    #[error("rule \"{0}\" has no @says in words")]
    NoWords(String),
    /// Two rules have the same id, or a local rule takes a guard's or an invariant's.
    #[error("the id \"{0}\" is taken")]
    IdTaken(String),
    /// A guard permits, or an invariant forbids.
    #[error("rule \"{0}\" has the wrong effect for its place")]
    Effect(String),
    /// A rule does not validate strictly against the schema.
    #[error("does not validate: {0}")]
    Invalid(String),
    /// A rule validates, but can never apply or is written to mislead.
    #[error("suspicious: {0}")]
    Suspicious(String),
    /// Schema, guards or invariants are not those that were proven.
    #[error(
        "schema, guards and invariants (digest {digest}) are not those that were proven (digest {proven}): \
         prove them with `sallyport policy check DIR --write-proof` (needs cvc5, and a program built with --features \
         prove); for the built-in set DIR is policy/, and the program is built again afterwards"
    )]
    Unproven {
        /// What was proven.
        proven: String,
        /// What is here.
        digest: String,
    },
    /// The file that says so is no proof.
    #[error(transparent)]
    NotAProof(#[from] NotAProof),
    /// The schema does not parse.
    #[error("the schema does not parse: {0}")]
    Schema(String),
}

impl Rules {
    /// The rules as they are shipped.
    ///
    /// # Errors
    /// Only if the program was built from texts that do not validate, or were changed and not proven again.
    pub fn built_in() -> Result<Rules, LoadError> {
        Rules::proven(&Texts::built_in(), &Proof::built_in()?)
    }

    /// The shipped guards with these local rules: they need no proof, the theorem covers them.
    ///
    /// # Errors
    /// When the text is not Cedar, holds no rule, a template, a rule without `@id` or `@says`, an
    /// id that is taken, or anything that does not validate strictly.
    pub fn parse(local: &str) -> Result<Rules, LoadError> {
        Rules::proven(&Texts::with_local(local), &Proof::built_in()?)
    }

    /// A set of one's own, whose schema, guards and invariants were proven to the letter.
    ///
    /// # Errors
    /// When the proof is another text's, or anything does not parse or validate.
    pub fn proven(texts: &Texts, proof: &Proof) -> Result<Rules, LoadError> {
        proof.covers(texts)?;
        Rules::new(texts)
    }

    fn new(texts: &Texts) -> Result<Rules, LoadError> {
        let Parsed {
            schema,
            guards,
            rules,
            invariants,
        } = texts.parse()?;
        let order = guards
            .iter()
            .chain(&rules)
            .enumerate()
            .map(|(place, policy)| (policy.id().clone(), (place, reason(policy))))
            .collect();
        let policies = slices(guards.iter().chain(&rules), &schema)?;
        let invariants = slices(invariants.iter(), &schema)?;
        Ok(Rules {
            authorizer: Authorizer::new(),
            lexicon: Lexicon::new().map_err(|_| LoadError::Schema("a type's name".to_owned()))?,
            monitor: Monitor::new(invariants),
            order,
            guard_count: guards.len(),
            digest: texts.digest().into(),
            policies,
            schema,
        })
    }

    /// SHA-256 over schema, guards, invariants and local text, each with its length; 64 lower-case
    /// hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The same without the local text: what a proof of the guards is about.
    pub fn shipped_digest() -> String {
        Texts::built_in().proven_digest()
    }

    /// The rules that can speak about this act; none for an act that the schema does not know.
    pub(crate) fn policies(&self, action: &EntityUid) -> Option<&PolicySet> {
        self.policies.get(action)
    }

    /// What the rules name, invariants included, that can speak about a release.
    pub(crate) fn named(&self) -> Named {
        let release = self.lexicon.release_actions();
        let rules = release.iter().filter_map(|action| self.policies(action));
        let watch = release
            .iter()
            .filter_map(|action| self.monitor.watching(action));
        Named::by(rules.chain(watch).flat_map(PolicySet::policies))
    }

    /// The same rules with one of them lost, to see what the monitor makes of it.
    #[cfg(test)]
    pub(crate) fn without(mut self, id: &str) -> Rules {
        for slice in self.policies.values_mut() {
            let _ = slice.remove_static(PolicyId::new(id));
        }
        self
    }

    pub(crate) fn shared_digest(&self) -> Arc<str> {
        Arc::clone(&self.digest)
    }

    /// Of the rules that fired, the first in the order of the texts.
    pub(crate) fn first<'a>(&self, fired: impl Iterator<Item = &'a PolicyId>) -> Option<Reason> {
        fired
            .filter_map(|id| self.order.get(id))
            .min_by_key(|(place, _)| *place)
            .map(|(_, reason)| reason.clone())
    }

    /// The rules that fired, in the order of the texts.
    pub(crate) fn in_order<'a>(&self, fired: impl Iterator<Item = &'a PolicyId>) -> Vec<Reason> {
        let mut fired: Vec<_> = fired.filter_map(|id| self.order.get(id)).collect();
        fired.sort_by_key(|(place, _)| *place);
        fired
            .into_iter()
            .map(|(_, reason)| reason.clone())
            .collect()
    }

    /// Whether the local rules, and not a guard, decided so.
    pub(crate) fn is_local(&self, reason: &Reason) -> bool {
        reason.rule() == NOT_PERMITTED
            || self
                .order
                .get(&PolicyId::new(reason.rule()))
                .is_some_and(|(place, _)| *place >= self.guard_count)
    }
}

fn reason(policy: &Policy) -> Reason {
    let words = policy.annotation("says").unwrap_or_default();
    Reason::new(policy.id().as_ref(), words)
}

/// The rules for each act of the schema. An evaluation visits every rule it is given, so those that
/// by their scope speak of another act, or of another kind of thing, are left out.
fn slices<'a>(
    policies: impl Iterator<Item = &'a Policy> + Clone,
    schema: &Schema,
) -> Result<HashMap<EntityUid, PolicySet>, LoadError> {
    schema
        .request_envs()
        .map(|environment| {
            let speaks = |policy: &&'a Policy| can_speak(policy, &environment);
            let slice = set(policies.clone().filter(speaks))?;
            Ok((environment.action().clone(), slice))
        })
        .collect()
}

/// Read off the scope alone. Where in doubt (a group of actions, an ancestor) a rule stays in.
fn can_speak(policy: &Policy, environment: &RequestEnv) -> bool {
    let is_its_resource = match policy.resource_constraint() {
        ResourceConstraint::Is(kind) => kind == *environment.resource(),
        ResourceConstraint::Any
        | ResourceConstraint::In(_)
        | ResourceConstraint::Eq(_)
        | ResourceConstraint::IsIn(_, _) => true,
    };
    let is_its_action = match policy.action_constraint() {
        ActionConstraint::Eq(action) => action == *environment.action(),
        ActionConstraint::Any | ActionConstraint::In(_) => true,
    };
    is_its_resource && is_its_action
}
