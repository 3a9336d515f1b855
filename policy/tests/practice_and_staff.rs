//! What is done in a practice's name, to the gateway, and with its log.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod world;

use policy::{
    AdminAct, AdminFacts, Ask, Caller, ChangeFacts, ClientId, ClientRole, Decision, Deposit,
    DepositFacts, Fact, IssueToken, NhsNumber, ReadLog, Rules, Scope, Side, Standing, Token,
    TokenFacts, Verdict, Why, Withdraw, decide,
};
use world::{
    NOW_MS, PERMIT_ALL, World, is_permit, ods, other_patient, patient, practice_caller,
    practice_facts, rule,
};

fn deposit_scope() -> Scope {
    Scope::Deposit {
        practice: ods("A81001"),
        patient: None,
    }
}

fn deposit(
    rules: &Rules,
    caller: Caller,
    practice: &str,
    facts: &DepositFacts,
) -> Decision<Deposit> {
    let act = Deposit {
        practice: ods(practice),
        patient: patient(),
        records: vec!["Observation/1".into()],
        digest: [1; 32],
    };
    decide(rules, Ask::new(caller, act), facts)
}

fn change(rules: &Rules, scope: Scope, patient: Option<NhsNumber>) -> Decision<ChangeFacts> {
    let act = ChangeFacts {
        practice: ods("A81001"),
        patient,
        change: "objection".into(),
        detail: serde_json::json!({}),
    };
    decide(
        rules,
        Ask::new(practice_caller(scope), act),
        &practice_facts(),
    )
}

#[test]
fn a_practice_deposits_and_withdraws_its_own() {
    for rules in [
        Rules::built_in().unwrap(),
        Rules::parse(PERMIT_ALL).unwrap(),
    ] {
        let decision = deposit(
            &rules,
            practice_caller(deposit_scope()),
            "A81001",
            &practice_facts(),
        );
        let Decision::Permit(grant) = decision else {
            panic!("refused: {}", rule(&decision));
        };
        assert_eq!(grant.account().event, "record.deposit");
        assert_eq!(grant.account().subject["nhs"], patient().as_str());
        let act = Withdraw {
            practice: ods("A81001"),
            patient: patient(),
            name: "Observation/1".into(),
        };
        let ask = Ask::new(practice_caller(deposit_scope()), act);
        assert!(is_permit(&decide(&rules, ask, &practice_facts())));
    }
}

#[test]
fn a_deposit_is_refused_for_each_thing_that_is_wrong() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    let right = || practice_caller(deposit_scope());
    let refused = |caller, practice, facts: &DepositFacts, guard| {
        let decision = deposit(&rules, caller, practice, facts);
        assert!(!is_permit(&decision), "{guard}");
        assert_eq!(rule(&decision), guard);
    };
    let facts = practice_facts();
    refused(right(), "A81002", &facts, "never-for-another-practice");
    let mut wrong = facts.clone();
    wrong.client_accepted = Fact::Known(false);
    refused(right(), "A81001", &wrong, "never-for-another-practice");
    wrong.client_accepted = Fact::Unknown(Why::NeverTold);
    refused(right(), "A81001", &wrong, "unknown-acceptance");
    let mut wrong = facts.clone();
    wrong.organisation = Fact::Known(Standing { suspended: true });
    refused(right(), "A81001", &wrong, "never-for-a-suspended-client");
    wrong.organisation = Fact::Unknown(Why::Store);
    refused(right(), "A81001", &wrong, "unknown-organisation");
    let mut wrong = facts.clone();
    wrong.registration = Fact::Unknown(Why::Contested);
    refused(right(), "A81001", &wrong, "unknown-registration");
    let mut late = facts.clone();
    late.now_ms = NOW_MS + 1;
    refused(right(), "A81001", &late, "never-on-another-errand");

    let consent = Scope::Consent {
        practice: ods("A81001"),
        patient: patient(),
    };
    refused(
        practice_caller(consent),
        "A81001",
        &facts,
        "never-on-another-errand",
    );
    let other_practice = Scope::Deposit {
        practice: ods("A81002"),
        patient: None,
    };
    refused(
        practice_caller(other_practice),
        "A81001",
        &facts,
        "never-on-another-errand",
    );
    let other = Scope::Deposit {
        practice: ods("A81001"),
        patient: Some(other_patient()),
    };
    refused(
        practice_caller(other),
        "A81001",
        &facts,
        "never-about-another-patient",
    );
    refused(World::in_order().caller(), "A81001", &facts, "no-token");
    let hospital = World::in_order().bare_caller(Some(Token {
        jti: "jti-3".into(),
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + 1,
        scope: deposit_scope(),
    }));
    refused(hospital, "A81001", &facts, "never-for-another-practice");
}

#[test]
fn a_change_needs_the_token_of_its_errand_and_patient() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    let consent = || Scope::Consent {
        practice: ods("A81001"),
        patient: patient(),
    };
    let agreement = || Scope::Agreement {
        of: Side::Practice(ods("A81001")),
    };
    assert!(is_permit(&change(&rules, consent(), Some(patient()))));
    assert!(is_permit(&change(&rules, agreement(), None)));
    let other = change(&rules, consent(), Some(other_patient()));
    assert_eq!(rule(&other), "never-about-another-patient");
    for (scope, patient) in [
        (consent(), None),
        (agreement(), Some(patient())),
        (deposit_scope(), Some(patient())),
        (deposit_scope(), None),
    ] {
        assert_eq!(
            rule(&change(&rules, scope, patient)),
            "never-on-another-errand"
        );
    }
}

#[test]
fn a_practice_is_issued_its_own_tokens_only() {
    let rules = Rules::built_in().unwrap();
    let issue = |scope: Scope, facts: TokenFacts| {
        let act = IssueToken {
            scope,
            assertion: "digest".into(),
        };
        let caller = practice_caller(deposit_scope());
        decide(&rules, Ask::new(caller, act), &facts)
    };
    let facts = || TokenFacts::Practice(practice_facts());
    for practice in ["A81001", "A81002"] {
        for scope in [
            Scope::Deposit {
                practice: ods(practice),
                patient: None,
            },
            Scope::Deposit {
                practice: ods(practice),
                patient: Some(patient()),
            },
            Scope::Consent {
                practice: ods(practice),
                patient: patient(),
            },
            Scope::Agreement {
                of: Side::Practice(ods(practice)),
            },
            Scope::Relationship {
                of: Side::Practice(ods(practice)),
                patient: patient(),
            },
        ] {
            let decision = issue(scope.clone(), facts());
            assert_eq!(is_permit(&decision), practice == "A81001", "{scope:?}");
        }
    }
    // Facts that do not fit the scope are facts that were not asked for.
    let records = Scope::Records(World::in_order().scope);
    assert_eq!(rule(&issue(records, facts())), "no-token");
    let wrong = TokenFacts::Records(World::in_order().facts);
    assert_eq!(rule(&issue(deposit_scope(), wrong)), "unknown-practice");
}

fn staff(role: ClientRole) -> Caller {
    let client = ClientId::try_from("staff-1").unwrap();
    Caller::assertion(client, role, vec![], [3; 32], None)
}

fn standing(suspended: Fact<bool>) -> AdminFacts {
    AdminFacts {
        now_ms: NOW_MS,
        suspended,
    }
}

#[test]
fn only_administrators_administer_and_only_what_is_listed() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    let administer = |role, act: &str, suspended| {
        let act = AdminAct {
            act: act.into(),
            object: "A81001".into(),
            why: "asked for".into(),
        };
        decide(&rules, Ask::new(staff(role), act), &standing(suspended))
    };
    let alone = AdminAct::ACTS
        .iter()
        .filter(|act| !AdminAct::takes_two(act));
    for act in alone {
        for role in ClientRole::ALL {
            let decision = administer(*role, act, Fact::Known(false));
            assert_eq!(
                is_permit(&decision),
                *role == ClientRole::Admin,
                "{act} by {role}"
            );
        }
    }
    let unlisted = administer(ClientRole::Admin, "record.read", Fact::Known(false));
    assert_eq!(rule(&unlisted), "unlisted-act");
    let suspended = administer(ClientRole::Admin, "kek.rotate", Fact::Known(true));
    assert_eq!(rule(&suspended), "never-administered-by-others");
    let unknown = administer(ClientRole::Admin, "kek.rotate", Fact::Unknown(Why::Store));
    assert_eq!(rule(&unknown), "unknown-suspension");
}

#[test]
fn the_log_is_read_by_those_who_oversee() {
    let rules = Rules::parse(PERMIT_ALL).unwrap();
    for role in ClientRole::ALL {
        for what in ["entries", "historyx"] {
            let act = ReadLog { what: what.into() };
            let decision = decide(
                &rules,
                Ask::new(staff(*role), act),
                &standing(Fact::Known(false)),
            );
            let expected = matches!(role, ClientRole::Auditor | ClientRole::PrivacyOfficer);
            assert_eq!(is_permit(&decision), expected, "{what} by {role}");
        }
        // A history is one patient's: without a token that names the patient it is nobody's to read.
        let what = "history".into();
        let ask = Ask::new(staff(*role), ReadLog { what });
        let decision = decide(&rules, ask, &standing(Fact::Known(false)));
        assert_eq!(rule(&decision), "no-token", "{role}");
    }
    let act = ReadLog {
        what: "entries".into(),
    };
    let ask = Ask::new(staff(ClientRole::Auditor), act);
    let decision = decide(&rules, ask, &standing(Fact::Known(true)));
    assert_eq!(rule(&decision), "never-the-log-to-others");
}
