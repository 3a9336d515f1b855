//! What is said in the name of an organisation that asks: acceptances, relationships, and looking both up.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod world;

use policy::{
    Ask, Caller, ClientId, ClientRole, Decision, Fact, Hand, LookUp, NhsNumber, OrganisationFacts,
    Rules, Scope, Side, SideFacts, Standing, StateFacts, Stated, Token, Why, decide,
};
use world::{
    NOW_MS, PERMIT_ALL, is_permit, ods, other_patient, patient, practice_caller, practice_facts,
    rule,
};

fn deposit_scope() -> Scope {
    Scope::Deposit {
        practice: ods("A81001"),
        patient: None,
    }
}

/// A hospital's system RJ1 (role, code of its own organisation) with a token of this scope.
fn hospital(role: ClientRole, own: &str, scope: Option<Scope>) -> Caller {
    let token = scope.map(|scope| Token {
        jti: "jti-4".into(),
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + 1,
        scope,
    });
    let client = ClientId::try_from("RJ1").unwrap();
    Caller::assertion(client, role, vec![ods(own), ods("RJ1")], [7; 32], token)
}

fn hand(client: &str, keys: &str) -> Hand {
    Hand {
        client: client.into(),
        certificate: format!("certificate of {keys}"),
        signing: format!("key of {keys}"),
    }
}

fn organisation_facts() -> OrganisationFacts {
    OrganisationFacts {
        now_ms: NOW_MS,
        organisation: Fact::Known(Standing { suspended: false }),
        hand: Fact::Known(hand("RJ1", "RJ1")),
        proposal: Fact::Known(hand("A81001", "A81001")),
    }
}

fn own_side(organisation: &str) -> Scope {
    Scope::Agreement {
        of: Side::Organisation(ods(organisation)),
    }
}

fn cares_for(patient: NhsNumber) -> Scope {
    Scope::Relationship {
        of: Side::Organisation(ods("RJ1")),
        patient,
    }
}

fn state(
    caller: Caller,
    statement: Stated,
    patient: Option<NhsNumber>,
    facts: &OrganisationFacts,
) -> Decision<StateFacts> {
    let act = StateFacts {
        organisation: ods("RJ1"),
        patient,
        statement,
        detail: serde_json::json!({}),
    };
    let everything = Rules::parse(PERMIT_ALL).unwrap();
    decide(&everything, Ask::new(caller, act), facts)
}

#[test]
fn no_one_hand_makes_an_agreement() {
    let accept = |caller, facts: &OrganisationFacts| state(caller, Stated::Acceptance, None, facts);
    let right = || hospital(ClientRole::Hospital, "RJ1", Some(own_side("RJ1")));
    assert!(is_permit(&accept(right(), &organisation_facts())));
    let guard = "never-accepted-by-the-hand-that-proposed";
    // The supplier of both: another client id is not enough, nor another certificate, nor another key.
    let same_client = hand("RJ1", "A81001");
    let same_certificate = Hand {
        certificate: "certificate of RJ1".into(),
        ..hand("A81001", "A81001")
    };
    let same_key = Hand {
        signing: "key of RJ1".into(),
        ..hand("A81001", "A81001")
    };
    for proposal in [same_client, same_certificate, same_key] {
        let proposal = Fact::Known(proposal);
        let facts = OrganisationFacts {
            proposal,
            ..organisation_facts()
        };
        assert_eq!(rule(&accept(right(), &facts)), guard);
    }
    // A supplier's system that acts for the organisation, and its feed.
    let supplier = hospital(ClientRole::Hospital, "SUP01", Some(own_side("RJ1")));
    assert_eq!(rule(&accept(supplier, &organisation_facts())), guard);
    let feed = hospital(ClientRole::Admissions, "RJ1", Some(own_side("RJ1")));
    assert_eq!(rule(&accept(feed, &organisation_facts())), guard);
    let mut facts = organisation_facts();
    facts.proposal = Fact::Unknown(Why::NeverTold);
    assert_eq!(rule(&accept(right(), &facts)), "unknown-proposal");
    facts.hand = Fact::Unknown(Why::NeverTold);
    assert_eq!(rule(&accept(right(), &facts)), "unknown-hand");
}

#[test]
fn an_organisation_speaks_in_its_own_name_only() {
    let facts = organisation_facts();
    let relate = |caller, corroborates, patient| {
        let statement = Stated::Relationship { corroborates };
        state(caller, statement, patient, &facts)
    };
    let with = |role, scope| hospital(role, "RJ1", Some(scope));
    let cares = || cares_for(patient());
    let epr = || with(ClientRole::Hospital, cares());
    let theirs = || Some(patient());
    assert!(is_permit(&relate(epr(), false, theirs())));
    let feed = with(ClientRole::Admissions, cares());
    assert!(is_permit(&relate(feed, true, theirs())));
    let another = Some(other_patient());
    let elsewhere = "never-for-another-organisation";
    let agreement = with(ClientRole::Hospital, own_side("RJ1"));
    for (caller, corroborates, about, guard) in [
        (epr(), true, theirs(), "never-corroborated-by-who-asks"),
        (epr(), false, another, "never-about-an-unnamed-patient"),
        (
            agreement,
            false,
            theirs(),
            "never-on-another-organisations-errand",
        ),
        (
            with(ClientRole::Research, cares()),
            false,
            theirs(),
            elsewhere,
        ),
        (
            with(ClientRole::Practice, cares()),
            false,
            theirs(),
            elsewhere,
        ),
        (
            with(ClientRole::Hospital, deposit_scope()),
            false,
            theirs(),
            "no-token",
        ),
        (
            hospital(ClientRole::Hospital, "RJ1", None),
            false,
            theirs(),
            "no-token",
        ),
    ] {
        assert_eq!(rule(&relate(caller, corroborates, about)), guard);
    }
    let caller = || with(ClientRole::Hospital, own_side("RJ1"));
    let mut facts = organisation_facts();
    facts.now_ms = NOW_MS + 1;
    let decision = state(caller(), Stated::End, None, &facts);
    assert_eq!(rule(&decision), "never-on-another-organisations-errand");
    facts = organisation_facts();
    facts.organisation = Fact::Known(Standing { suspended: true });
    let decision = state(caller(), Stated::End, None, &facts);
    assert_eq!(rule(&decision), "never-by-a-suspended-organisation");
    facts.organisation = Fact::Unknown(Why::Anchor);
    let decision = state(caller(), Stated::End, None, &facts);
    assert_eq!(rule(&decision), "unknown-organisation");
}

#[test]
fn one_looks_up_what_is_ones_own() {
    let rules = Rules::built_in().unwrap();
    let look = |caller, of: Side, facts: SideFacts| {
        let (patient, what) = (None, "agreements");
        let act = LookUp { of, patient, what };
        is_permit(&decide(&rules, Ask::new(caller, act), &facts))
    };
    let of_practice = |code| Side::Practice(ods(code));
    let of_organisation = |code| Side::Organisation(ods(code));
    let practice = || {
        practice_caller(Scope::Agreement {
            of: of_practice("A81001"),
        })
    };
    let organisation = || hospital(ClientRole::Hospital, "RJ1", Some(own_side("RJ1")));
    let practices = || SideFacts::Practice(practice_facts());
    let organisations = || SideFacts::Organisation(organisation_facts());
    assert!(look(practice(), of_practice("A81001"), practices()));
    assert!(look(
        organisation(),
        of_organisation("RJ1"),
        organisations()
    ));
    let deposits = practice_caller(deposit_scope());
    for (caller, of, facts) in [
        (practice(), of_practice("A81002"), practices()),
        (practice(), of_organisation("A81001"), organisations()),
        (organisation(), of_organisation("RJ2"), organisations()),
        (organisation(), of_practice("RJ1"), practices()),
        (organisation(), of_organisation("RJ1"), practices()),
        (deposits, of_practice("A81001"), practices()),
    ] {
        assert!(!look(caller, of, facts));
    }
}
