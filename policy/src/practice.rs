//! Decisions about what is done in a practice's name: deposits, withdrawals, changes of what the
//! practice said, and the practice's own tokens.
//!
//! A practice's token is for one errand; what it says is laid beside what is being done, and the
//! policy compares. An unknown fact refuses.

use crate::ask::{Ask, ChangeFacts, Deposit, LookUp, PassOn, TOKEN_LIFE_MS, Withdraw};
use crate::caller::{Caller, Scope, Side};
use crate::cedar::{PracticeAct, PracticeToken};
use crate::decide::{Entry, Weigh, Weighed, no_token, unknown};
use crate::facts::{DepositFacts, SideFacts, Why};
use crate::rules::Rules;
use crate::verdict::Reason;
use crate::words::{NhsNumber, Ods, hex};

pub(crate) const RELATIONSHIP: &str = "relationship";
const DEPOSIT: &str = "deposit";
const CONSENT: &str = "consent";
pub(crate) const AGREEMENT: &str = "agreement";
const OBJECTIONS: &str = "objections";

/// What is being done: the act, its errand, whose practice and which patient.
struct Doing<'a> {
    action: &'static str,
    errand: &'static str,
    practice: &'a Ods,
    patient: Option<&'a NhsNumber>,
}

impl Weigh for Deposit {
    fn weigh(rules: &Rules, ask: &Ask<Deposit>, facts: &DepositFacts) -> Weighed<()> {
        let act = ask.act();
        let doing = Doing {
            action: "deposit",
            errand: DEPOSIT,
            practice: &act.practice,
            patient: Some(&act.patient),
        };
        let mut entry = doing.entry();
        entry.list(act.records.clone());
        entry.name("digest", hex(&act.digest));
        let outcome = under_token(rules, ask.caller(), &doing, facts);
        Weighed { outcome, entry }
    }
}

impl Weigh for Withdraw {
    fn weigh(rules: &Rules, ask: &Ask<Withdraw>, facts: &DepositFacts) -> Weighed<()> {
        let act = ask.act();
        let doing = Doing {
            action: "withdraw",
            errand: DEPOSIT,
            practice: &act.practice,
            patient: Some(&act.patient),
        };
        let mut entry = doing.entry();
        entry.name("name", act.name.as_str());
        let outcome = under_token(rules, ask.caller(), &doing, facts);
        Weighed { outcome, entry }
    }
}

impl Weigh for ChangeFacts {
    fn weigh(rules: &Rules, ask: &Ask<ChangeFacts>, facts: &DepositFacts) -> Weighed<()> {
        let act = ask.act();
        let doing = Doing {
            action: "change",
            // What a patient decided, and who cares for one, each has an errand of its own; the rest the
            // practice agreed to.
            errand: match &act.patient {
                None => AGREEMENT,
                Some(_) if act.change == ChangeFacts::RELATIONSHIP => RELATIONSHIP,
                Some(_) => CONSENT,
            },
            practice: &act.practice,
            patient: act.patient.as_ref(),
        };
        let mut entry = doing.entry();
        entry.name("change", act.change.as_str());
        entry.name("detail", act.detail.clone());
        let outcome = under_token(rules, ask.caller(), &doing, facts);
        Weighed { outcome, entry }
    }
}

impl Weigh for PassOn {
    fn weigh(rules: &Rules, ask: &Ask<PassOn>, facts: &DepositFacts) -> Weighed<()> {
        let act = ask.act();
        let doing = Doing {
            action: "change",
            errand: OBJECTIONS,
            practice: &act.practice,
            patient: None,
        };
        let mut entry = doing.entry();
        entry.name("detail", act.detail.clone());
        let outcome = under_token(rules, ask.caller(), &doing, facts);
        Weighed { outcome, entry }
    }
}

impl Weigh for LookUp {
    fn weigh(rules: &Rules, ask: &Ask<LookUp>, facts: &SideFacts) -> Weighed<()> {
        let act = ask.act();
        match (&act.of, facts) {
            (Side::Practice(practice), SideFacts::Practice(facts)) => {
                let doing = Doing {
                    action: "lookUp",
                    errand: AGREEMENT,
                    practice,
                    patient: act.patient.as_ref(),
                };
                let mut entry = doing.entry();
                entry.name("what", act.what);
                let outcome = under_token(rules, ask.caller(), &doing, facts);
                Weighed { outcome, entry }
            }
            (Side::Organisation(organisation), SideFacts::Organisation(facts)) => {
                crate::organisation::look_up(rules, ask, organisation, facts)
            }
            _ => Weighed {
                outcome: Err(unknown("side", Why::NotAsked)),
                entry: Entry::default(),
            },
        }
    }
}

/// Whether a practice's system may be issued a token of this scope.
pub(crate) fn issue(
    rules: &Rules,
    caller: &Caller,
    scope: &Scope,
    facts: &DepositFacts,
) -> Result<(Scope, Reason), Reason> {
    // The token that would be issued is weighed as if it were shown.
    let token = practice_token(scope, facts.now_ms.saturating_add(TOKEN_LIFE_MS))?;
    let doing = Doing {
        action: "issueToPractice",
        errand: token.errand,
        practice: token.practice,
        patient: token.patient,
    };
    let reason = judge(rules, caller, &doing, token, facts)?;
    Ok((scope.clone(), reason))
}

fn under_token(
    rules: &Rules,
    caller: &Caller,
    doing: &Doing<'_>,
    facts: &DepositFacts,
) -> Result<((), Reason), Reason> {
    let token = caller.token().ok_or_else(no_token)?;
    let token = practice_token(&token.scope, token.expires_ms)?;
    Ok(((), judge(rules, caller, doing, token, facts)?))
}

fn judge(
    rules: &Rules,
    caller: &Caller,
    doing: &Doing<'_>,
    token: PracticeToken<'_>,
    facts: &DepositFacts,
) -> Result<Reason, Reason> {
    let organisation = facts.organisation.known();
    let organisation = organisation.map_err(|why| unknown("organisation", why))?;
    let accepted = facts.client_accepted.known();
    let accepted = accepted.map_err(|why| unknown("acceptance", why))?;
    if doing.patient.is_some() {
        let registration = facts.registration.known();
        registration.map_err(|why| unknown("registration", why))?;
    }
    let act = PracticeAct {
        action: doing.action,
        now_ms: facts.now_ms,
        caller,
        is_suspended: organisation.suspended,
        is_accepted: *accepted,
        practice: doing.practice,
        errand: doing.errand,
        patient: doing.patient,
        token,
    };
    rules.judge(rules.lexicon.practice_question(&rules.schema, &act))
}

fn practice_token(scope: &Scope, expires_ms: u64) -> Result<PracticeToken<'_>, Reason> {
    let (errand, practice, patient) = match scope {
        Scope::Deposit { practice, patient } => (DEPOSIT, practice, patient.as_ref()),
        Scope::Consent { practice, patient } => (CONSENT, practice, Some(patient)),
        Scope::Objections { practice } => (OBJECTIONS, practice, None),
        Scope::Agreement {
            of: Side::Practice(practice),
        } => (AGREEMENT, practice, None),
        Scope::Relationship {
            of: Side::Practice(practice),
            patient,
        } => (RELATIONSHIP, practice, Some(patient)),
        Scope::Records(_)
        | Scope::History(_)
        | Scope::Agreement { .. }
        | Scope::Relationship { .. } => {
            return Err(no_token());
        }
    };
    Ok(PracticeToken {
        errand,
        practice,
        patient,
        expires_ms,
    })
}

impl Doing<'_> {
    fn entry(&self) -> Entry {
        let mut entry = Entry {
            patient: self.patient.cloned(),
            ..Entry::default()
        };
        entry.name("practice", self.practice.as_str());
        entry.say("errand", self.errand);
        entry
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]

    use super::Deposit;
    use crate::ask::Ask;
    use crate::caller::Scope;
    use crate::decide::decide;
    use crate::facts::{DepositFacts, Fact, Standing};
    use crate::rules::Rules;
    use crate::world::{
        PERMIT_ALL, ods, other_patient, patient, practice_caller, practice_facts, rule,
    };

    fn scope(practice: &str, patient: Option<crate::words::NhsNumber>) -> Scope {
        Scope::Deposit {
            practice: ods(practice),
            patient,
        }
    }

    #[test]
    fn the_monitor_stops_what_a_lost_guard_lets_through() {
        let facts = practice_facts();
        let suspended = DepositFacts {
            organisation: Fact::Known(Standing { suspended: true }),
            ..facts.clone()
        };
        let unaccepted = DepositFacts {
            client_accepted: Fact::Known(false),
            ..facts.clone()
        };
        let (right, another) = (scope("A81001", None), scope("A81002", None));
        let other_patient = scope("A81001", Some(other_patient()));
        for (guard, scope, facts) in [
            ("never-for-another-practice", &right, &unaccepted),
            ("never-for-a-suspended-client", &right, &suspended),
            ("never-on-another-errand", &another, &facts),
            ("never-about-another-patient", &other_patient, &facts),
        ] {
            let whole = Rules::parse(PERMIT_ALL).unwrap();
            let lacking = Rules::parse(PERMIT_ALL).unwrap().without(guard);
            for (rules, expected) in [(whole, guard), (lacking, "invariant-broken")] {
                let act = Deposit {
                    practice: ods("A81001"),
                    patient: patient(),
                    records: Vec::new(),
                    digest: [0; 32],
                };
                let ask = Ask::new(practice_caller(scope.clone()), act);
                assert_eq!(rule(&decide(&rules, ask, facts)), expected);
            }
        }
    }
}
