//! Decisions about what is said in the name of an organisation that asks: that it accepts an agreement, whom it
//! cares for, and its own tokens for that.
//!
//! The hand that accepts is laid beside the hand that proposed, and the policy compares. An unknown fact refuses.

use crate::ask::{Ask, LookUp, StateFacts, Stated, TOKEN_LIFE_MS};
use crate::caller::{Caller, Scope, Side};
use crate::cedar::{OrganisationAct, PracticeToken};
use crate::decide::{Entry, Weigh, Weighed, no_token, unknown};
use crate::facts::{Hand, OrganisationFacts};
use crate::practice::{AGREEMENT, RELATIONSHIP};
use crate::rules::Rules;
use crate::verdict::Reason;
use crate::words::{NhsNumber, Ods};

/// What is being done in which organisation's name.
struct Doing<'a> {
    action: &'static str,
    errand: &'static str,
    organisation: &'a Ods,
    patient: Option<&'a NhsNumber>,
    stated: Option<Stated>,
}

impl Weigh for StateFacts {
    fn weigh(rules: &Rules, ask: &Ask<StateFacts>, facts: &OrganisationFacts) -> Weighed<()> {
        let act = ask.act();
        let doing = Doing {
            action: "state",
            errand: match act.statement {
                Stated::Acceptance | Stated::End => AGREEMENT,
                Stated::Relationship { .. } => RELATIONSHIP,
            },
            organisation: &act.organisation,
            patient: act.patient.as_ref(),
            stated: Some(act.statement),
        };
        let mut entry = doing.entry();
        entry.name("change", act.statement.code());
        entry.name("detail", act.detail.clone());
        let outcome = under_token(rules, ask.caller(), &doing, facts);
        Weighed { outcome, entry }
    }
}

pub(crate) fn look_up(
    rules: &Rules,
    ask: &Ask<LookUp>,
    organisation: &Ods,
    facts: &OrganisationFacts,
) -> Weighed<()> {
    let act = ask.act();
    let doing = Doing {
        action: "lookUpOwn",
        errand: AGREEMENT,
        organisation,
        patient: act.patient.as_ref(),
        stated: None,
    };
    let mut entry = doing.entry();
    entry.name("what", act.what);
    let outcome = under_token(rules, ask.caller(), &doing, facts);
    Weighed { outcome, entry }
}

/// Whether an organisation's system may be issued a token of this scope.
pub(crate) fn issue(
    rules: &Rules,
    caller: &Caller,
    scope: &Scope,
    facts: &OrganisationFacts,
) -> Result<(Scope, Reason), Reason> {
    // The token that would be issued is weighed as if it were shown.
    let token = organisation_token(scope, facts.now_ms.saturating_add(TOKEN_LIFE_MS))?;
    let doing = Doing {
        action: "issueToOrganisation",
        errand: token.errand,
        organisation: token.practice,
        patient: token.patient,
        stated: None,
    };
    let reason = judge(rules, caller, &doing, token, facts)?;
    Ok((scope.clone(), reason))
}

fn under_token(
    rules: &Rules,
    caller: &Caller,
    doing: &Doing<'_>,
    facts: &OrganisationFacts,
) -> Result<((), Reason), Reason> {
    let token = caller.token().ok_or_else(no_token)?;
    let token = organisation_token(&token.scope, token.expires_ms)?;
    Ok(((), judge(rules, caller, doing, token, facts)?))
}

fn judge(
    rules: &Rules,
    caller: &Caller,
    doing: &Doing<'_>,
    token: PracticeToken<'_>,
    facts: &OrganisationFacts,
) -> Result<Reason, Reason> {
    let organisation = facts.organisation.known();
    let organisation = organisation.map_err(|why| unknown("organisation", why))?;
    let accepts = doing.stated == Some(Stated::Acceptance);
    let nobody = Hand {
        client: caller.client().as_str().to_owned(),
        certificate: String::new(),
        signing: String::new(),
    };
    let (hand, proposal) = if accepts {
        let hand = facts.hand.known().map_err(|why| unknown("hand", why))?;
        let proposal = facts.proposal.known();
        (
            hand,
            Some(proposal.map_err(|why| unknown("proposal", why))?),
        )
    } else {
        (&nobody, None)
    };
    let act = OrganisationAct {
        action: doing.action,
        now_ms: facts.now_ms,
        caller,
        is_suspended: organisation.suspended,
        organisation: doing.organisation,
        errand: doing.errand,
        patient: doing.patient,
        token,
        hand,
        accepts,
        proposal,
        corroborates: doing.stated == Some(Stated::Relationship { corroborates: true }),
    };
    rules.judge(rules.lexicon.organisation_question(&rules.schema, &act))
}

fn organisation_token(scope: &Scope, expires_ms: u64) -> Result<PracticeToken<'_>, Reason> {
    let (errand, practice, patient) = match scope {
        Scope::Agreement {
            of: Side::Organisation(organisation),
        } => (AGREEMENT, organisation, None),
        Scope::Relationship {
            of: Side::Organisation(organisation),
            patient,
        } => (RELATIONSHIP, organisation, Some(patient)),
        _ => return Err(no_token()),
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
        entry.name("organisation", self.organisation.as_str());
        entry.say("errand", self.errand);
        entry
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]

    use super::{Hand, OrganisationFacts, StateFacts, Stated};
    use crate::ask::Ask;
    use crate::caller::{Caller, Scope, Side, Token};
    use crate::decide::decide;
    use crate::facts::{Fact, Standing};
    use crate::rules::Rules;
    use crate::words::{ClientId, ClientRole, NhsNumber};
    use crate::world::{NOW_MS, PERMIT_ALL, ods, other_patient, patient, rule};

    /// A statement in order, to be put out of order.
    struct Case {
        role: ClientRole,
        own: &'static str,
        statement: Stated,
        about: Option<NhsNumber>,
        scope: Scope,
        suspended: bool,
    }

    fn acceptance() -> Case {
        Case {
            role: ClientRole::Hospital,
            own: "RJ1",
            statement: Stated::Acceptance,
            about: None,
            scope: Scope::Agreement {
                of: Side::Organisation(ods("RJ1")),
            },
            suspended: false,
        }
    }

    fn relationship(corroborates: bool) -> Case {
        Case {
            statement: Stated::Relationship { corroborates },
            about: Some(patient()),
            scope: Scope::Relationship {
                of: Side::Organisation(ods("RJ1")),
                patient: patient(),
            },
            ..acceptance()
        }
    }

    fn judged(case: &Case, rules: &Rules) -> String {
        let token = Token {
            jti: "jti-5".into(),
            issued_ms: NOW_MS,
            expires_ms: NOW_MS + 1,
            scope: case.scope.clone(),
        };
        let client = ClientId::try_from("RJ1").unwrap();
        let organisations = vec![ods(case.own), ods("RJ1")];
        let caller = Caller::assertion(client, case.role, organisations, [7; 32], Some(token));
        let hand = |client: &str| Hand {
            client: client.into(),
            certificate: client.into(),
            signing: client.into(),
        };
        let facts = OrganisationFacts {
            now_ms: NOW_MS,
            organisation: Fact::Known(Standing {
                suspended: case.suspended,
            }),
            hand: Fact::Known(hand("RJ1")),
            proposal: Fact::Known(hand("A81001")),
        };
        let act = StateFacts {
            organisation: ods("RJ1"),
            patient: case.about.clone(),
            statement: case.statement,
            detail: serde_json::json!({}),
        };
        rule(&decide(rules, Ask::new(caller, act), &facts)).to_owned()
    }

    #[test]
    fn the_monitor_stops_what_a_lost_guard_lets_through() {
        let mut research = acceptance();
        (research.role, research.statement) = (ClientRole::Research, Stated::End);
        let mut suspended = acceptance();
        suspended.suspended = true;
        let mut another = acceptance();
        another.scope = Scope::Agreement {
            of: Side::Organisation(ods("RJ2")),
        };
        let mut unnamed = relationship(false);
        unnamed.about = Some(other_patient());
        let mut supplier = acceptance();
        supplier.own = "SUP01";
        for (guard, case) in [
            ("never-for-another-organisation", research),
            ("never-by-a-suspended-organisation", suspended),
            ("never-on-another-organisations-errand", another),
            ("never-about-an-unnamed-patient", unnamed),
            ("never-accepted-by-the-hand-that-proposed", supplier),
            ("never-corroborated-by-who-asks", relationship(true)),
        ] {
            let whole = Rules::parse(PERMIT_ALL).unwrap();
            let lacking = Rules::parse(PERMIT_ALL).unwrap().without(guard);
            assert_eq!(judged(&case, &whole), guard);
            assert_eq!(judged(&case, &lacking), "invariant-broken", "{guard}");
        }
    }
}
