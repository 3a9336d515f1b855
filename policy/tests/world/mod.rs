//! A small world in which everything is in order, to be put out of order one thing at a time.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test crate uses its part; tests may panic"
)]

use std::collections::BTreeSet;

use policy::{
    Agreement, Approval, Ask, Caller, Category, ClientId, ClientRole, Decision, DepositFacts,
    Emergencies, Fact, Holder, IssueToken, Label, NhsNumber, Ods, PatientFacts, PatientStanding,
    PractitionerFacts, PractitionerId, Purpose, Read, RecordFacts, RecordId, RecordScope,
    RelationClaim, RelationKind, Relationship, Role, Rules, Scope, Selection, Standing, Strength,
    Token, TokenFacts, Why, decide,
};

pub const NOW_MS: u64 = 1_800_000_000_000;
pub const HOUR_MS: u64 = 3_600_000;

/// Local rules that permit everything there is.
pub const PERMIT_ALL: &str =
    r#"@id("anything") @says("Anyone may do anything.") permit(principal, action, resource);"#;

pub fn ods(code: &str) -> Ods {
    Ods::try_from(code).unwrap()
}

pub fn patient() -> NhsNumber {
    NhsNumber::try_from("9990000018").unwrap()
}

pub fn other_patient() -> NhsNumber {
    NhsNumber::try_from("9434765919").unwrap()
}

/// A doctor of hospital RJ1 wants to read one patient's medications, held by practice A81001.
#[derive(Clone)]
pub struct World {
    pub client_role: ClientRole,
    pub organisations: Vec<Ods>,
    pub expires_ms: u64,
    pub scope: RecordScope,
    pub facts: PatientFacts,
}

impl World {
    pub fn in_order() -> World {
        World {
            client_role: ClientRole::Hospital,
            organisations: vec![ods("RJ1")],
            expires_ms: NOW_MS + 1,
            scope: RecordScope {
                patient: patient(),
                purpose: Purpose::Treat,
                practitioner: PractitionerId::try_from("dr-a").unwrap(),
                relationship: Some(RelationClaim {
                    kind: RelationKind::Referral,
                    reference: "ref-1".into(),
                }),
                categories: None,
                reason: None,
                acknowledged: false,
            },
            facts: PatientFacts {
                now_ms: NOW_MS,
                organisation: Fact::Known(Standing { suspended: false }),
                practitioner: Fact::Known(PractitionerFacts {
                    name: "Dr A".into(),
                    organisation: ods("RJ1"),
                    role: Role::Doctor,
                    suspended: false,
                    trained_until_ms: Fact::Known(NOW_MS + 1),
                }),
                patient: Fact::Known(PatientStanding {
                    practice: ods("A81001"),
                }),
                objections: Fact::Known(BTreeSet::new()),
                objections_doubted: None,
                holders: vec![Holder {
                    practice: ods("A81001"),
                    agreements: Fact::Known(vec![agreement("A81001")]),
                    approvals: Fact::Unknown(Why::NotAsked),
                    records: vec![record(1, Category::Medications, &[])],
                }],
                relationships: Fact::Known(vec![relationship()]),
                emergencies: Fact::Known(Emergencies {
                    of_one: 0,
                    of_all: 0,
                }),
            },
        }
    }

    /// The same world in an emergency, properly declared.
    pub fn in_emergency() -> World {
        let mut world = World::in_order();
        world.scope.purpose = Purpose::Btg;
        world.scope.relationship = None;
        world.scope.reason = Some("found unconscious".into());
        world.scope.acknowledged = true;
        world.facts.relationships = Fact::Known(Vec::new());
        world
    }

    /// A researcher of R0C01 wants to read the same medications under the practice's approval.
    pub fn in_research() -> World {
        let mut world = World::in_order();
        world.client_role = ClientRole::Research;
        world.organisations = vec![ods("R0C01")];
        world.scope.purpose = Purpose::Hresch;
        world.scope.relationship = None;
        world.facts.relationships = Fact::Unknown(Why::NotAsked);
        world.practitioner().organisation = ods("R0C01");
        world.practitioner().role = Role::Researcher;
        world.agreement().organisation = ods("R0C01");
        world.agreement().purposes = [Purpose::Hresch].into();
        world.facts.holders[0].approvals = Fact::Known(vec![approval()]);
        world
    }

    pub fn approval(&mut self) -> &mut Approval {
        &mut known(&mut self.facts.holders[0].approvals)[0]
    }

    pub fn practitioner(&mut self) -> &mut PractitionerFacts {
        known(&mut self.facts.practitioner)
    }

    pub fn agreement(&mut self) -> &mut Agreement {
        &mut known(&mut self.facts.holders[0].agreements)[0]
    }

    pub fn relationship(&mut self) -> &mut Relationship {
        &mut known(&mut self.facts.relationships)[0]
    }

    pub fn record(&mut self) -> &mut RecordFacts {
        &mut self.facts.holders[0].records[0]
    }

    pub fn object(&mut self, purpose: Purpose) {
        known(&mut self.facts.objections).insert(purpose);
    }

    pub fn caller(&self) -> Caller {
        let token = Token {
            jti: "jti-1".into(),
            issued_ms: NOW_MS - HOUR_MS,
            expires_ms: self.expires_ms,
            scope: Scope::Records(self.scope.clone()),
        };
        self.bare_caller(Some(token))
    }

    pub fn bare_caller(&self, token: Option<Token>) -> Caller {
        Caller::assertion(
            ClientId::try_from("RJ1").unwrap(),
            self.client_role,
            self.organisations.clone(),
            [7; 32],
            token,
        )
    }

    pub fn read_ask(&self, selection: Selection) -> Ask<Read> {
        Ask::new(
            self.caller(),
            Read {
                selection,
                patient: None,
                limit: 200,
            },
        )
    }

    pub fn read(&self, rules: &Rules) -> Decision<Read> {
        let name = "MedicationStatement/1".into();
        decide(rules, self.read_ask(Selection::One { name }), &self.facts)
    }

    pub fn search(&self, rules: &Rules) -> Decision<Read> {
        decide(rules, self.read_ask(Selection::Everything), &self.facts)
    }

    pub fn issue(&self, rules: &Rules) -> Decision<IssueToken> {
        let act = IssueToken {
            scope: Scope::Records(self.scope.clone()),
            assertion: "digest".into(),
        };
        let facts = TokenFacts::Records(self.facts.clone());
        decide(rules, Ask::new(self.bare_caller(None), act), &facts)
    }
}

pub fn known<T>(fact: &mut Fact<T>) -> &mut T {
    match fact {
        Fact::Known(value) => value,
        Fact::Unknown(why) => panic!("unknown: {why}"),
    }
}

pub fn agreement(practice: &str) -> Agreement {
    Agreement {
        reference: "dsa-1".into(),
        practice: ods(practice),
        organisation: ods("RJ1"),
        purposes: [Purpose::Treat, Purpose::Etreat, Purpose::Btg].into(),
        categories: Category::ALL.iter().copied().collect(),
        labels: [Label::PSY, Label::SDV].into(),
        accepts_asserted: false,
        emergency_overrides_objection: false,
        from_ms: NOW_MS,
        until_ms: NOW_MS + 1,
        proposed_by: "practice-certificate".into(),
        accepted_by: "hospital-certificate".into(),
        cooled_ms: NOW_MS,
    }
}

pub fn approval() -> Approval {
    Approval {
        reference: "26/CAG/0042".into(),
        practice: ods("A81001"),
        organisation: ods("R0C01"),
        purposes: [Purpose::Hresch].into(),
        categories: [Category::Medications, Category::Problems].into(),
        from_ms: NOW_MS,
        until_ms: NOW_MS + 1,
    }
}

pub fn relationship() -> Relationship {
    Relationship {
        patient: patient(),
        organisation: ods("RJ1"),
        kind: RelationKind::Referral,
        reference: "ref-1".into(),
        strength: Strength::Corroborated,
        from_ms: NOW_MS,
        until_ms: NOW_MS + 1,
    }
}

pub fn record(number: u8, category: Category, labels: &[Label]) -> RecordFacts {
    RecordFacts {
        id: RecordId([number; 16]),
        version: 1,
        category,
        labels: labels.iter().copied().collect(),
    }
}

/// The rule that permitted or refused.
pub fn rule<A: policy::Act>(decision: &Decision<A>) -> &str {
    match decision {
        Decision::Permit(grant) => grant.rule(),
        Decision::Refuse(refusal) => refusal.reason().rule(),
    }
}

pub fn is_permit<A: policy::Act>(decision: &Decision<A>) -> bool {
    matches!(decision, Decision::Permit(_))
}

pub type Fault = (&'static str, fn(&mut World), &'static str);

/// Everything that can be wrong with a read, one thing at a time, and the guard that says so.
/// Those that begin with `e:` are about an emergency, with `r:` about research.
pub const FAULTS: &[Fault] = &[
    (
        "expired token",
        |w| w.expires_ms = NOW_MS,
        "never-without-token",
    ),
    (
        "category not in the token",
        |w| w.scope.categories = Some([Category::Problems].into()),
        "never-beyond-the-token",
    ),
    (
        "research client",
        |w| w.client_role = ClientRole::Research,
        "never-through-another-client",
    ),
    (
        "client of another organisation",
        |w| w.organisations = vec![ods("RJ2")],
        "never-through-another-client",
    ),
    (
        "practitioner suspended",
        |w| w.practitioner().suspended = true,
        "never-suspended",
    ),
    (
        "organisation suspended",
        |w| w.facts.organisation = Fact::Known(Standing { suspended: true }),
        "never-suspended",
    ),
    (
        "training lapsed",
        |w| w.practitioner().trained_until_ms = Fact::Known(NOW_MS),
        "never-untrained",
    ),
    (
        "research through a hospital's system",
        |w| {
            w.scope.purpose = Purpose::Hresch;
            w.agreement().purposes.insert(Purpose::Hresch);
            w.practitioner().role = Role::Researcher;
            let approval = Approval {
                organisation: ods("RJ1"),
                ..approval()
            };
            w.facts.holders[0].approvals = Fact::Known(vec![approval]);
        },
        "never-through-another-client",
    ),
    (
        "r: no approval",
        |w| w.facts.holders[0].approvals = Fact::Known(Vec::new()),
        "never-secondary-use-without-approval",
    ),
    (
        "r: approval of another practice",
        |w| w.approval().practice = ods("A81002"),
        "never-secondary-use-without-approval",
    ),
    (
        "r: approval of another organisation",
        |w| w.approval().organisation = ods("R0C02"),
        "never-secondary-use-without-approval",
    ),
    (
        "r: approval for another purpose",
        |w| w.approval().purposes = [Purpose::Pubhlth].into(),
        "never-secondary-use-without-approval",
    ),
    (
        "r: category not in the approval",
        |w| {
            w.approval().categories = [Category::Problems].into();
            w.scope.categories = Some([Category::Medications].into());
        },
        "never-secondary-use-without-approval",
    ),
    (
        "r: approval over",
        |w| w.approval().until_ms = NOW_MS,
        "never-secondary-use-without-approval",
    ),
    (
        "r: approval not begun",
        |w| w.approval().from_ms = NOW_MS + 1,
        "never-secondary-use-without-approval",
    ),
    (
        "r: no researcher",
        |w| w.practitioner().role = Role::Doctor,
        "never-secondary-use-without-approval",
    ),
    (
        "r: no agreement for the purpose",
        |w| w.agreement().purposes = [Purpose::Treat].into(),
        "never-without-agreement",
    ),
    (
        "r: objection",
        |w| w.object(Purpose::Hresch),
        "never-against-objection",
    ),
    (
        "r: objection, where an emergency would override it",
        |w| {
            w.object(Purpose::Hresch);
            w.agreement().emergency_overrides_objection = true;
        },
        "never-against-objection",
    ),
    (
        "r: an emergency declared through a research system",
        |w| {
            w.scope.purpose = Purpose::Btg;
            w.scope.reason = Some("found unconscious".into());
            w.scope.acknowledged = true;
            w.practitioner().role = Role::Doctor;
            w.agreement().purposes.insert(Purpose::Btg);
        },
        "never-through-another-client",
    ),
    (
        "r: sensitive label not covered",
        |w| w.record().labels = [Label::HIV].into(),
        "never-sensitive-by-default",
    ),
    (
        "unserved purpose",
        |w| {
            w.scope.purpose = Purpose::parse("FAMRQT").unwrap();
            w.agreement()
                .purposes
                .insert(Purpose::parse("FAMRQT").unwrap());
        },
        "never-another-purpose",
    ),
    (
        "no relationship",
        |w| w.facts.relationships = Fact::Known(Vec::new()),
        "never-without-relationship",
    ),
    (
        "no claim of a relationship",
        |w| w.scope.relationship = None,
        "never-without-relationship",
    ),
    (
        "relationship of another kind",
        |w| w.relationship().kind = RelationKind::Appointment,
        "never-without-relationship",
    ),
    (
        "relationship under another reference",
        |w| w.relationship().reference = "ref-2".into(),
        "never-without-relationship",
    ),
    (
        "relationship with another organisation",
        |w| w.relationship().organisation = ods("RJ2"),
        "never-without-relationship",
    ),
    (
        "relationship of another patient",
        |w| w.relationship().patient = other_patient(),
        "never-without-relationship",
    ),
    (
        "relationship over",
        |w| w.relationship().until_ms = NOW_MS,
        "never-without-relationship",
    ),
    (
        "relationship not begun",
        |w| w.relationship().from_ms = NOW_MS + 1,
        "never-without-relationship",
    ),
    (
        "relationship only asserted",
        |w| w.relationship().strength = Strength::Asserted,
        "never-without-relationship",
    ),
    (
        "e: more than the summary on few words",
        |w| {
            w.scope.categories = Some(Category::ALL.iter().copied().collect());
            w.record().category = Category::Documents;
        },
        "never-a-wide-emergency-on-few-words",
    ),
    (
        "e: no reason",
        |w| w.scope.reason = None,
        "never-an-undeclared-emergency",
    ),
    (
        "e: blank reason",
        |w| w.scope.reason = Some(" \t".into()),
        "never-an-undeclared-emergency",
    ),
    (
        "e: not acknowledged",
        |w| w.scope.acknowledged = false,
        "never-an-undeclared-emergency",
    ),
    (
        "e: receptionist",
        |w| w.practitioner().role = Role::Receptionist,
        "never-an-undeclared-emergency",
    ),
    (
        "no agreement",
        |w| w.facts.holders[0].agreements = Fact::Known(Vec::new()),
        "never-without-agreement",
    ),
    (
        "agreement of another practice",
        |w| w.agreement().practice = ods("A81002"),
        "never-without-agreement",
    ),
    (
        "agreement with another organisation",
        |w| w.agreement().organisation = ods("RJ2"),
        "never-without-agreement",
    ),
    (
        "agreement for another purpose",
        |w| w.agreement().purposes = [Purpose::Etreat].into(),
        "never-without-agreement",
    ),
    (
        "e: agreement for direct care only",
        |w| w.agreement().purposes = [Purpose::Treat].into(),
        "never-without-agreement",
    ),
    (
        "agreement over",
        |w| w.agreement().until_ms = NOW_MS,
        "never-without-agreement",
    ),
    (
        "agreement not begun",
        |w| w.agreement().from_ms = NOW_MS + 1,
        "never-without-agreement",
    ),
    (
        "agreement not accepted",
        |w| w.agreement().accepted_by = String::new(),
        "never-before-both-agreed",
    ),
    (
        "agreement proposed and accepted by one hand",
        |w| w.agreement().accepted_by = "practice-certificate".into(),
        "never-before-both-agreed",
    ),
    (
        "agreement not let cool",
        |w| w.agreement().cooled_ms = NOW_MS + 1,
        "never-before-both-agreed",
    ),
    (
        "category not in the agreement",
        |w| {
            w.agreement().categories.remove(&Category::Medications);
        },
        "never-beyond-the-agreement",
    ),
    (
        "sensitive label not covered",
        |w| w.record().labels = [Label::HIV].into(),
        "never-sensitive-by-default",
    ),
    (
        "one of two labels not covered",
        |w| w.record().labels = [Label::PSY, Label::HIV].into(),
        "never-sensitive-by-default",
    ),
    (
        "label unrecognised, though the agreement lists it",
        |w| {
            w.record().labels = [Label::Unrecognised].into();
            w.agreement().labels.insert(Label::Unrecognised);
        },
        "never-sensitive-by-default",
    ),
    (
        "objection",
        |w| w.object(Purpose::Treat),
        "never-against-objection",
    ),
    (
        "objection, where only an emergency would override it",
        |w| {
            w.object(Purpose::Treat);
            w.agreement().emergency_overrides_objection = true;
        },
        "never-against-objection",
    ),
    (
        "e: objection to breaking the glass",
        |w| w.object(Purpose::Btg),
        "never-against-objection",
    ),
];

/// The world of a fault.
pub fn faulty((name, spoil, _): &Fault) -> World {
    let mut world = if name.starts_with("e:") {
        World::in_emergency()
    } else if name.starts_with("r:") {
        World::in_research()
    } else {
        World::in_order()
    };
    spoil(&mut world);
    world
}

/// A practice's system, its token and facts in order.
pub fn practice_caller(scope: Scope) -> Caller {
    Caller::assertion(
        ClientId::try_from("A81001").unwrap(),
        ClientRole::Practice,
        vec![ods("A81001")],
        [9; 32],
        Some(Token {
            jti: "jti-2".into(),
            issued_ms: NOW_MS,
            expires_ms: NOW_MS + 1,
            scope,
        }),
    )
}

pub fn practice_facts() -> DepositFacts {
    DepositFacts {
        now_ms: NOW_MS,
        organisation: Fact::Known(Standing { suspended: false }),
        client_accepted: Fact::Known(true),
        registration: Fact::Known(()),
    }
}

pub fn unknowns() -> [Why; 7] {
    [
        Why::NeverTold,
        Why::Contested,
        Why::Anchor,
        Why::Silent,
        Why::Incomplete,
        Why::Store,
        Why::NotAsked,
    ]
}
