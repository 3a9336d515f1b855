//! Who could open a record: what the survey says is what every token and every read would really be decided, one by one,
//! in random worlds and under rules of several kinds. Nothing is invented and nobody is left out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod world;

use std::collections::BTreeSet;

use policy::survey::{Asker, AskingClient, Declared, Held, Survey, Way, survey};
use policy::{
    Agreement, Approval, Ask, Caller, Category, ClientId, ClientRole, Decision, Emergencies, Fact,
    Holder, IssueToken, Label, Ods, PatientFacts, PatientStanding, PractitionerFacts,
    PractitionerId, Purpose, Read, RecordFacts, RecordScope, RelationClaim, RelationKind,
    Relationship, Role, Rules, Scope, Selection, Standing, Strength, TOKEN_LIFE_MS, Token,
    TokenFacts, Why, decide,
};
use world::{HOUR_MS, NOW_MS, PERMIT_ALL, ods, patient, record};

/// xorshift64*: the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn some<T: Clone + Ord>(&mut self, of: &[T]) -> BTreeSet<T> {
        of.iter().filter(|_| self.below(3) > 0).cloned().collect()
    }

    fn rarely(&mut self) -> bool {
        self.below(8) == 0
    }

    /// Mostly in force.
    fn span(&mut self) -> (u64, u64) {
        match self.below(6) {
            0 => (NOW_MS - 2 * HOUR_MS, NOW_MS - HOUR_MS),
            1 => (NOW_MS, NOW_MS + HOUR_MS),
            _ => {
                let days = self.below(400) as u64 + 1;
                (
                    NOW_MS - days * HOUR_MS,
                    NOW_MS + (self.below(400) as u64 + 1) * HOUR_MS,
                )
            }
        }
    }
}

fn agreement(dice: &mut Dice, practice: &Ods, organisation: &Ods) -> Agreement {
    let (from_ms, until_ms) = dice.span();
    let proposed_by = format!("hand-{}", dice.below(3));
    Agreement {
        reference: format!("dsa-{}", dice.below(1000)),
        practice: practice.clone(),
        organisation: organisation.clone(),
        purposes: dice.some(&Purpose::NAMED),
        categories: dice.some(Category::ALL),
        labels: dice.some(&[Label::PSY, Label::SDV, Label::HIV]),
        accepts_asserted: dice.below(2) == 0,
        emergency_overrides_objection: dice.below(2) == 0,
        from_ms,
        until_ms,
        accepted_by: match dice.below(8) {
            0 => String::new(),
            1 => proposed_by.clone(),
            _ => format!("{organisation}-{}", dice.below(3)),
        },
        proposed_by,
        cooled_ms: match dice.rarely() {
            true => NOW_MS + 1,
            false => NOW_MS - dice.below(1000) as u64,
        },
    }
}

fn approval(dice: &mut Dice, practice: &Ods, organisation: &Ods) -> Approval {
    let (from_ms, until_ms) = dice.span();
    Approval {
        reference: "26/CAG/0042".into(),
        practice: practice.clone(),
        organisation: organisation.clone(),
        purposes: dice.some(&[Purpose::Hresch, Purpose::Pubhlth, Purpose::Hoperat]),
        categories: dice.some(Category::ALL),
        from_ms,
        until_ms,
    }
}

fn relationship(dice: &mut Dice, organisation: &Ods) -> Relationship {
    let (from_ms, until_ms) = dice.span();
    Relationship {
        patient: patient(),
        organisation: organisation.clone(),
        kind: dice.one(RelationKind::ALL),
        reference: format!("{organisation}-{}", dice.below(1000)),
        strength: dice.one(&[Strength::Corroborated, Strength::Asserted]),
        from_ms,
        until_ms,
    }
}

fn person(dice: &mut Dice, organisation: &Ods) -> Fact<PractitionerFacts> {
    let until_ms = match dice.below(5) {
        0 => NOW_MS,
        _ => NOW_MS + 1 + dice.below(1_000_000_000) as u64,
    };
    Fact::Known(PractitionerFacts {
        name: String::new(),
        organisation: organisation.clone(),
        role: dice.one(Role::ALL),
        suspended: dice.rarely(),
        trained_until_ms: match dice.rarely() {
            true => Fact::Unknown(Why::NeverTold),
            false => Fact::Known(until_ms),
        },
    })
}

fn random(dice: &mut Dice, organisations: usize) -> Survey {
    let kinds = vec![
        record(1, Category::Medications, &[]),
        record(2, Category::Problems, &[Label::PSY]),
        record(3, Category::Documents, &[Label::PSY, Label::SDV]),
        record(4, Category::Demographics, &[]),
        record(5, Category::Problems, &[Label::Unrecognised]),
    ];
    let practices = vec![
        (ods("A81001"), kinds),
        (ods("A81002"), vec![record(9, Category::Allergies, &[])]),
    ];
    let mut survey = Survey {
        now_ms: NOW_MS,
        patient: patient(),
        standing: Fact::Known(PatientStanding {
            practice: ods("A81001"),
        }),
        objections: Purpose::NAMED
            .into_iter()
            .map(|purpose| {
                let objected = dice.one(&Purpose::NAMED);
                let objected = [objected].into_iter().filter(|_| dice.rarely()).collect();
                (purpose, Fact::Known(objected))
            })
            .collect(),
        practices,
        clients: Vec::new(),
        askers: Vec::new(),
    };
    // Why few kinds of agreement: most organisations are alike, as they are in life.
    let shapes: Vec<(u64, usize)> = (0..4)
        .map(|at| (dice.below(1 << 20) as u64 + 1, at))
        .collect();
    for n in 0..organisations {
        let organisation = ods(&format!("RJ{n}"));
        let (seed, _) = dice.one(&shapes);
        let mut dice = Dice(match n % 3 {
            0 => seed * 977 + n as u64,
            _ => seed,
        });
        survey.clients.push(AskingClient {
            id: ClientId::try_from(format!("system-{n}").as_str()).unwrap(),
            role: dice.one(&[
                ClientRole::Hospital,
                ClientRole::Hospital,
                ClientRole::Research,
            ]),
            organisations: vec![organisation.clone()],
        });
        let standing = Fact::Known(Standing {
            suspended: dice.rarely(),
        });
        let held = survey.practices.iter().map(|(practice, _)| {
            let agreements =
                (0..=dice.below(2)).map(|_| agreement(&mut dice, practice, &organisation));
            let agreements = agreements.collect();
            let approvals =
                (0..dice.below(2)).map(|_| approval(&mut dice, practice, &organisation));
            Held {
                approvals: Fact::Known(approvals.collect()),
                agreements: Fact::Known(agreements),
            }
        });
        let held = held.collect();
        let related = (0..dice.below(3)).map(|_| relationship(&mut dice, &organisation));
        let relationships = Fact::Known(related.collect());
        let people = (0..=dice.below(3)).map(|at| {
            let id = PractitionerId::try_from(format!("dr-{n}-{at}").as_str()).unwrap();
            (id, person(&mut dice, &organisation))
        });
        survey.askers.push(Asker {
            clients: vec![(n, standing)],
            people: people.collect(),
            held,
            relationships,
            organisation,
        });
    }
    survey
}

/// Purpose, in how many words, role, relationship, and what is opened by which rule.
type Told = (
    String,
    Option<Declared>,
    Role,
    Option<(RelationKind, bool)>,
    (Ods, Category, BTreeSet<Label>, String),
);

fn facts(
    of: &Survey,
    asker: &Asker,
    purpose: &Purpose,
    standing: &Fact<Standing>,
    person: &Fact<PractitionerFacts>,
) -> PatientFacts {
    let holders = of.practices.iter().zip(&asker.held);
    PatientFacts {
        now_ms: NOW_MS,
        organisation: standing.clone(),
        practitioner: person.clone(),
        patient: of.standing.clone(),
        objections: of
            .objections
            .iter()
            .find(|(it, _)| it == purpose)
            .unwrap()
            .1
            .clone(),
        objections_doubted: None,
        holders: holders
            .map(|((practice, records), held)| Holder {
                practice: practice.clone(),
                agreements: held.agreements.clone(),
                approvals: match purpose.is_secondary() {
                    true => held.approvals.clone(),
                    false => Fact::Unknown(Why::NotAsked),
                },
                records: records.clone(),
            })
            .collect(),
        relationships: asker.relationships.clone(),
        emergencies: Fact::Known(Emergencies {
            of_one: 0,
            of_all: 0,
        }),
    }
}

/// What a token and a read of each record come to, by `decide`.
fn really(rules: &Rules, of: &Survey, asker: &Asker) -> BTreeSet<Told> {
    let mut out = BTreeSet::new();
    let relationships = asker.relationships.known().unwrap();
    for (client, standing) in &asker.clients {
        let client = &of.clients[*client];
        for (id, person) in &asker.people {
            for purpose in Purpose::NAMED {
                let declared: &[Option<Declared>] = match purpose.is_emergency() {
                    true => &[Some(Declared::Briefly), Some(Declared::AtLength)],
                    false => &[None],
                };
                for declared in declared {
                    for claim in std::iter::once(None).chain(relationships.iter().map(Some)) {
                        let facts = facts(of, asker, &purpose, standing, person);
                        let scope = RecordScope {
                            patient: patient(),
                            purpose: purpose.clone(),
                            practitioner: id.clone(),
                            relationship: claim.map(|it| RelationClaim {
                                kind: it.kind,
                                reference: it.reference.clone(),
                            }),
                            categories: match declared {
                                Some(Declared::AtLength) => {
                                    Some(Category::ALL.iter().copied().collect())
                                }
                                _ => None,
                            },
                            reason: declared.map(|declared| match declared {
                                Declared::Briefly => "brief".into(),
                                Declared::AtLength => "at a length of more than twenty".into(),
                            }),
                            acknowledged: declared.is_some(),
                        };
                        let role = person.known().unwrap().role;
                        let claim =
                            claim.map(|it| (it.kind, it.strength == Strength::Corroborated));
                        for opened in opened(rules, client, scope, &facts) {
                            out.insert((purpose.code().to_owned(), *declared, role, claim, opened));
                        }
                    }
                }
            }
        }
    }
    out
}

fn opened(
    rules: &Rules,
    client: &AskingClient,
    scope: RecordScope,
    facts: &PatientFacts,
) -> Vec<(Ods, Category, BTreeSet<Label>, String)> {
    let caller = |token| {
        Caller::assertion(
            client.id.clone(),
            client.role,
            client.organisations.clone(),
            [7; 32],
            token,
        )
    };
    let act = IssueToken {
        scope: Scope::Records(scope),
        assertion: "digest".into(),
    };
    let token_facts = TokenFacts::Records(facts.clone());
    let Decision::Permit(issued) = decide(rules, Ask::new(caller(None), act), &token_facts) else {
        return Vec::new();
    };
    let token = Token {
        jti: "jti".into(),
        issued_ms: NOW_MS,
        expires_ms: NOW_MS + TOKEN_LIFE_MS,
        scope: issued.granted().clone(),
    };
    let mut out = Vec::new();
    for (at, holder) in facts.holders.iter().enumerate() {
        for record in &holder.records {
            // One record at a time: its own rule, whatever the others are.
            let mut facts = facts.clone();
            for (other, holder) in facts.holders.iter_mut().enumerate() {
                holder
                    .records
                    .retain(|it: &RecordFacts| other == at && it.id == record.id);
            }
            let read = Read {
                selection: Selection::One { name: "any".into() },
                patient: None,
                limit: 200,
            };
            if let Decision::Permit(grant) =
                decide(rules, Ask::new(caller(Some(token.clone())), read), &facts)
            {
                let rule = grant.rule().to_owned();
                out.push((
                    holder.practice.clone(),
                    record.category,
                    record.labels.clone(),
                    rule,
                ));
            }
        }
    }
    out
}

fn told(ways: &[Way]) -> Vec<Told> {
    let mut out = Vec::new();
    for way in ways {
        for it in &way.opens {
            let opening = (
                it.practice.clone(),
                it.category,
                it.labels.clone(),
                it.rule.rule().to_owned(),
            );
            let relationship = way
                .relationship
                .map(|(kind, strength)| (kind, strength == Strength::Corroborated));
            out.push((
                way.purpose.code().to_owned(),
                way.declared,
                way.role,
                relationship,
                opening,
            ));
        }
    }
    out
}

/// Whether what is told says as much: the same, needing no more.
fn covers(told: &Told, really: &Told) -> bool {
    told.0 == really.0
        && (told.1 == really.1 || told.1 == Some(Declared::Briefly))
        && told.2 == really.2
        && (told.3 == really.3 || told.3.is_none())
        && told.4 == really.4
}

#[test]
fn the_survey_says_what_every_question_would_be_answered() {
    let naming = r#"
        @id("only-rj3") @says("RJ3 and nobody else, in any care.")
        permit (principal, action, resource is Record)
        when { principal.organisation == Organisation::"RJ3" };"#;
    let beyond = r#"
        @id("only-some") @says("References of a kind.")
        permit (principal, action, resource is Record)
        when { context has relationship && context.relationship.reference like "*5*" };"#;
    let seed = std::env::var("SALLYPORT_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or(0x5A11_9047);
    println!("SALLYPORT_SEED={seed}");
    let mut dice = Dice(seed.max(1));
    let (mut merged, mut openings) = (0, 0);
    for local in [
        None,
        None,
        None,
        Some(PERMIT_ALL),
        Some(naming),
        Some(beyond),
    ] {
        let rules = local.map_or_else(Rules::built_in, Rules::parse).unwrap();
        let of = random(&mut dice, 12);
        let found = survey(&rules, &of);
        assert_eq!(
            found.everybody.len(),
            of.askers.len(),
            "everybody is told of"
        );
        merged += of.askers.len() - found.ways.len();
        for (asker, (organisation, place)) in of.askers.iter().zip(&found.everybody) {
            assert_eq!(asker.organisation, *organisation);
            let (really, told) = (really(&rules, &of, asker), told(&found.ways[*place]));
            for it in &really {
                assert!(
                    told.iter().any(|told| covers(told, it)),
                    "left out: {organisation} {it:?}\n{told:#?}"
                );
            }
            for it in &told {
                assert!(really.contains(it), "invented: {organisation} {it:?}");
            }
            openings += told.len();
        }
    }
    println!("{merged} organisations were like another, {openings} openings");
    assert!(merged > 5 && openings > 50, "{merged}, {openings}");
}
