//! The one door of this crate: `decide`, and how Cedar's answer becomes a verdict.
//!
//! Pure: the same rules, ask and facts give the same verdict in a test, in a replay and in court.
//! Nothing is recorded or released here. Whatever goes wrong on the way to a verdict (an unknown
//! fact, a malformed question, a rule that errs, an invariant that does not hold) is a refusal.

use cedar_policy::{Decision as Cedar, Effect, PolicySet};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::ask::{Act, Ask};
use crate::caller::{Caller, Scope};
use crate::cedar::{Malformed, Question};
use crate::facts::{PractitionerFacts, Why};
use crate::rules::{INVARIANT_BROKEN, NOT_PERMITTED, QUESTION_MALFORMED, RULE_BROKEN, Rules};
use crate::verdict::{Account, Decision, Grant, Outcome, Reason, Refusal};
use crate::words::{NhsNumber, PractitionerId, hex};

/// Decides an ask on these facts. The ask is used up; the verdict has to be recorded.
pub fn decide<A: Act>(rules: &Rules, ask: Ask<A>, facts: &A::Facts) -> Decision<A> {
    let Weighed { outcome, entry } = A::weigh(rules, &ask, facts);
    match outcome {
        Ok((granted, reason)) => {
            let outcome = (A::PERMITTED, Outcome::Permit);
            let account = entry.account(outcome, &reason, ask.caller(), rules);
            let digest = rules.shared_digest();
            Decision::Permit(Grant::new(ask, granted, reason, digest, account))
        }
        Err(reason) => {
            let outcome = (A::REFUSED, Outcome::Refuse);
            let account = entry.account(outcome, &reason, ask.caller(), rules);
            Decision::Refuse(Refusal::new(ask, reason, account))
        }
    }
}

/// How one kind of act is weighed. It is `Act`'s seal: nobody outside can name it.
pub trait Weigh: Sized {
    /// Weighs an ask on its facts.
    fn weigh(
        rules: &Rules,
        ask: &Ask<Self>,
        facts: &<Self as Act>::Facts,
    ) -> Weighed<<Self as Act>::Granted>
    where
        Self: Act;
}

/// An outcome with the rule that brought it about, and what to record of it.
pub struct Weighed<G> {
    pub(crate) outcome: Result<(G, Reason), Reason>,
    pub(crate) entry: Entry,
}

/// What is recorded of an ask, whichever way it is decided.
#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) patient: Option<NhsNumber>,
    pub(crate) practitioner: Option<PractitionerId>,
    pub(crate) standing: Option<PractitionerFacts>,
    pub(crate) object: Map<String, Value>,
    pub(crate) context: Map<String, Value>,
    pub(crate) emergency: bool,
    pub(crate) detail: Vec<String>,
}

impl Entry {
    fn account(
        mut self,
        (event, outcome): (&'static str, Outcome),
        reason: &Reason,
        caller: &Caller,
        rules: &Rules,
    ) -> Account {
        let subject = match &self.patient {
            Some(patient) => json!({ "nhs": patient.as_str() }),
            None => json!({}),
        };
        let actor = self.actor(caller, outcome);
        if let Some(standing) = &self.standing {
            self.say("role", standing.role.code());
        }
        if let Some(token) = caller.token() {
            self.say("token", token.jti.as_str());
        }
        self.say("outcome", outcome.code());
        self.say("rule", reason.rule());
        self.say("says", reason.words());
        Account {
            event,
            outcome,
            policy: rules.digest().chars().take(16).collect(),
            actor,
            subject,
            object: Value::Object(self.object),
            context: Value::Object(self.context),
            emergency: self.emergency,
            name: self.standing.map_or_else(String::new, |it| it.name),
            detail: self.detail.into_iter().map(Value::from).collect(),
        }
    }

    /// Names records by count and digest, so that a receipt for many is no longer than for one; the names
    /// themselves stand in the sealed body, and the digest binds them.
    pub(crate) fn list(&mut self, names: Vec<String>) {
        let digest = hex(&Sha256::digest(names.join("\n")));
        self.name("records", json!({ "count": names.len(), "sha256": digest }));
        self.detail = names;
    }

    /// Why so bare: a refusal opens the actor to its caller, and must not tell what the directory
    /// knows. Of several organisations a client acts for, it is the practitioner's own.
    fn actor(&self, caller: &Caller, outcome: Outcome) -> Value {
        let standing = self.standing.as_ref();
        let organisation = standing
            .map(|standing| &standing.organisation)
            .filter(|organisation| caller.acts_for(organisation))
            .or(caller.organisations().first());
        let mut actor = Map::new();
        actor.insert("client".into(), caller.client().as_str().into());
        actor.insert("certificate".into(), hex(caller.certificate()).into());
        if let Some(organisation) = organisation {
            actor.insert("organisation".into(), organisation.as_str().into());
        }
        if let Some(practitioner) = &self.practitioner {
            actor.insert("practitioner".into(), practitioner.as_str().into());
        }
        if let (Some(standing), Outcome::Permit) = (standing, outcome) {
            actor.insert("role".into(), standing.role.code().into());
        }
        Value::Object(actor)
    }

    pub(crate) fn say(&mut self, key: &str, value: impl Into<Value>) {
        self.context.insert(key.to_owned(), value.into());
    }

    pub(crate) fn name(&mut self, key: &str, value: impl Into<Value>) {
        self.object.insert(key.to_owned(), value.into());
    }

    /// The parts of a scope that are recorded whatever is done under it.
    pub(crate) fn scope(&mut self, scope: &Scope) {
        match scope {
            Scope::Records(scope) => {
                self.patient = Some(scope.patient.clone());
                self.practitioner = Some(scope.practitioner.clone());
                self.emergency = scope.purpose.is_emergency();
                self.say("purpose", scope.purpose.code());
                if let Some(claim) = &scope.relationship {
                    let claim = json!({ "type": claim.kind.code(), "reference": claim.reference });
                    self.say("relationship", claim);
                }
                if let Some(reason) = &scope.reason {
                    self.say("reason", reason.as_str());
                }
            }
            Scope::Deposit { practice, patient } => {
                self.patient = patient.clone();
                self.name("practice", practice.as_str());
                self.say("errand", "deposit");
            }
            Scope::Consent { practice, patient } => {
                self.patient = Some(patient.clone());
                self.name("practice", practice.as_str());
                self.say("errand", "consent");
            }
            Scope::Objections { practice } => {
                self.name("practice", practice.as_str());
                self.say("errand", "objections");
            }
            Scope::Agreement { of } => {
                self.name(of.kind(), of.ods().as_str());
                self.say("errand", "agreement");
            }
            Scope::Relationship { of, patient } => {
                self.patient = Some(patient.clone());
                self.name(of.kind(), of.ods().as_str());
                self.say("errand", "relationship");
            }
            Scope::History(history) => {
                self.patient = Some(history.patient.clone());
                self.say("errand", "history");
            }
        }
    }
}

impl Rules {
    /// All that speaks about one question: every guard that refuses it, and every local rule that would permit it.
    pub(crate) fn speaking(
        &self,
        question: Result<Question, Malformed>,
    ) -> (Vec<Reason>, Vec<Reason>) {
        let Ok(Question { request, entities }) = question else {
            return (Vec::new(), Vec::new());
        };
        let policies = request.action().and_then(|action| self.policies(action));
        let of = |effect: Effect| {
            let those = policies.into_iter().flat_map(PolicySet::policies);
            let those = those.filter(|policy| policy.effect() == effect);
            let set = PolicySet::from_policies(those.cloned()).unwrap_or_default();
            let response = self.authorizer.is_authorized(&request, &set, &entities);
            self.in_order(response.diagnostics().reason())
        };
        (of(Effect::Forbid), of(Effect::Permit))
    }

    /// Puts one question to Cedar: the rule that permits, or the rule that does not.
    pub(crate) fn judge(&self, question: Result<Question, Malformed>) -> Result<Reason, Reason> {
        let malformed = || Reason::new(QUESTION_MALFORMED, "The question does not fit the schema.");
        let question = question.map_err(|Malformed| malformed())?;
        let Question { request, entities } = &question;
        let action = request.action().ok_or_else(malformed)?;
        let policies = self.policies(action).ok_or_else(malformed)?;
        let response = self.authorizer.is_authorized(request, policies, entities);
        let diagnostics = response.diagnostics();
        let has_broken = diagnostics.errors().next().is_some();
        match (response.decision(), has_broken) {
            (Cedar::Allow, false) => match self.first(diagnostics.reason()) {
                Some(reason) if self.monitor.is_content(&self.authorizer, &question) => Ok(reason),
                _ => Err(Reason::new(
                    INVARIANT_BROKEN,
                    "The rules permit what must never be; nothing is let through.",
                )),
            },
            (Cedar::Deny, false) => Err(self
                .first(diagnostics.reason())
                .unwrap_or_else(|| Reason::new(NOT_PERMITTED, "No local rule permits this."))),
            // Why: Cedar skips a rule that errs, and a forbid that is skipped forbids nothing.
            (_, true) => Err(Reason::new(
                RULE_BROKEN,
                "A rule could not be evaluated; nothing is let through.",
            )),
        }
    }
}

/// The reason of a refusal for want of a fact.
pub(crate) fn unknown(fact: &'static str, why: Why) -> Reason {
    Reason::new(
        format!("unknown-{fact}"),
        format!("Refused because a fact is unknown ({fact}): {why}."),
    )
}

/// The reason of a refusal for want of the right kind of token.
pub(crate) fn no_token() -> Reason {
    Reason::new("no-token", "No token for this kind of act was shown.")
}
