//! Who could open a patient's records now, under which purposes and relationships, and by which rule.
//!
//! Every organisation is asked about with every purpose, relationship and role it has, and each question is weighed as
//! a release is: there is no second opinion in here. Questions that no rule can tell apart are weighed once.
//! What comes of it is an answer about possibilities, never a verdict: nothing can be recorded or released by it.

use std::collections::{BTreeSet, HashMap};

use crate::alike::Shared;
use crate::ask::TOKEN_LIFE_MS;
use crate::caller::{RecordScope, RelationClaim};
use crate::facts::{
    Agreement, Approval, Emergencies, Fact, Holder, PatientFacts, PatientStanding,
    PractitionerFacts, RecordFacts, Relationship, Standing, Strength, Why,
};
use crate::release::supposed::openings;
pub use crate::release::supposed::{Opening, Supposed};
use crate::rules::Rules;
use crate::verdict::Reason;
use crate::words::{
    Category, ClientId, ClientRole, NhsNumber, Ods, PractitionerId, Purpose, RelationKind, Role,
};

/// What a supposed emergency says: long enough for more than the summary.
const AT_LENGTH: &str = "supposed, with a reason at some length";
/// What one says that keeps to the summary.
const BRIEFLY: &str = "supposed";

/// A client that asks for organisations.
pub struct AskingClient {
    /// Its id.
    pub id: ClientId,
    /// What kind of system it is.
    pub role: ClientRole,
    /// The organisations it acts for.
    pub organisations: Vec<Ods>,
}

/// What stands between one practice and one organisation.
pub struct Held {
    /// The agreements of the two.
    pub agreements: Fact<Vec<Agreement>>,
    /// The practice's approvals of secondary uses by that organisation.
    pub approvals: Fact<Vec<Approval>>,
}

/// An organisation that could ask, with all that a decision about this patient could look at.
pub struct Asker {
    /// Which organisation.
    pub organisation: Ods,
    /// The clients through which it could, by their place in the survey, and how each stands.
    pub clients: Vec<(usize, Fact<Standing>)>,
    /// The people in its directory.
    pub people: Vec<(PractitionerId, Fact<PractitionerFacts>)>,
    /// What stands between it and each practice that holds the patient, in the order of the survey's.
    pub held: Vec<Held>,
    /// The patient's relationships with it.
    pub relationships: Fact<Vec<Relationship>>,
}

/// Everybody who could ask about one patient, and what every decision about it would look at.
pub struct Survey {
    /// The moment.
    pub now_ms: u64,
    /// The patient.
    pub patient: NhsNumber,
    /// How the patient stands with the practices.
    pub standing: Fact<PatientStanding>,
    /// The patient's objections as they count for each purpose.
    pub objections: Vec<(Purpose, Fact<BTreeSet<Purpose>>)>,
    /// The practices that hold the patient, each with one record of every kind in question.
    pub practices: Vec<(Ods, Vec<RecordFacts>)>,
    /// The clients that ask for anybody.
    pub clients: Vec<AskingClient>,
    /// Everybody.
    pub askers: Vec<Asker>,
}

/// How an emergency would have to be declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Declared {
    /// With any reason: the summary.
    Briefly,
    /// With a reason at some length: more than the summary.
    AtLength,
}

/// A way in which somebody could open something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// For which purpose.
    pub purpose: Purpose,
    /// How the emergency would be declared, if it is one.
    pub declared: Option<Declared>,
    /// In which role.
    pub role: Role,
    /// On which relationship, where one is claimed.
    pub relationship: Option<(RelationKind, Strength)>,
    /// What would be opened, and by which rules.
    pub opens: Vec<Opening>,
}

/// What a survey found.
pub struct Found {
    /// The ways of those who are alike.
    pub ways: Vec<Vec<Way>>,
    /// Everybody, and the place of their ways.
    pub everybody: Vec<(Ods, usize)>,
    /// How many questions were weighed.
    pub weighed: usize,
}

/// Weighs every question that anybody could ask.
pub fn survey(rules: &Rules, of: &Survey) -> Found {
    let named = rules.named();
    let times = [of.now_ms, of.now_ms.saturating_add(TOKEN_LIFE_MS)];
    let practices: Vec<&str> = of.practices.iter().map(|(it, _)| it.as_str()).collect();
    let acting = |client: &AskingClient| {
        let codes = client.organisations.iter().map(Ods::as_str);
        let mut codes: Vec<&str> = codes.filter(|code| practices.contains(code)).collect();
        codes.sort_unstable();
        codes.join(" ")
    };
    let shared = Shared {
        times,
        clients: of.clients.iter().map(|it| named.client(it)).collect(),
        acting: of.clients.iter().map(acting).collect(),
        practices,
    };
    let mut found = Found {
        ways: Vec::new(),
        everybody: Vec::with_capacity(of.askers.len()),
        weighed: 0,
    };
    let mut places: HashMap<String, usize> = HashMap::new();
    for asker in &of.askers {
        let (sketch, people) = named.sketch(asker, &shared);
        let place = match places.get(&sketch) {
            Some(place) => *place,
            None => {
                let (ways, weighed) = of.ways(rules, asker, &people);
                found.weighed += weighed;
                found.ways.push(ways);
                let place = found.ways.len() - 1;
                places.insert(sketch, place);
                place
            }
        };
        found.everybody.push((asker.organisation.clone(), place));
    }
    found
}

/// One question that somebody could ask.
struct Case<'a> {
    client: &'a AskingClient,
    standing: &'a Fact<Standing>,
    id: &'a PractitionerId,
    person: &'a PractitionerFacts,
    purpose: &'a Purpose,
    declared: Option<Declared>,
    relationship: Option<&'a Relationship>,
}

impl Survey {
    /// Every way in which this organisation could open something, and how many questions that took.
    fn ways(&self, rules: &Rules, asker: &Asker, people: &[usize]) -> (Vec<Way>, usize) {
        let (mut ways, mut weighed): (Vec<Way>, usize) = (Vec::new(), 0);
        for case in self.cases(asker, people) {
            let Ok(opens) = self.weigh(rules, asker, &case) else {
                weighed += 1;
                continue;
            };
            weighed += 1;
            let way = Way {
                purpose: case.purpose.clone(),
                declared: case.declared,
                role: case.person.role,
                relationship: case.relationship.map(|it| (it.kind, it.strength)),
                opens,
            };
            // Why: who needs neither a relationship nor many words to open something is not said to need them.
            let is_told = |told: &Way| {
                told.purpose == way.purpose
                    && told.role == way.role
                    && (told.declared == way.declared || told.declared == Some(Declared::Briefly))
                    && (told.relationship == way.relationship || told.relationship.is_none())
            };
            let opens = way.opens.iter().filter(|opening| {
                !ways
                    .iter()
                    .any(|told| is_told(told) && told.opens.contains(opening))
            });
            let opens: Vec<Opening> = opens.cloned().collect();
            if !opens.is_empty() {
                ways.push(Way { opens, ..way });
            }
        }
        (ways, weighed)
    }

    /// Every question that this organisation could ask, the least demanding first.
    fn cases<'a>(&'a self, asker: &'a Asker, people: &[usize]) -> Vec<Case<'a>> {
        let relationships = asker.relationships.known().map_or(&[][..], Vec::as_slice);
        let claims = || std::iter::once(None).chain(relationships.iter().map(Some));
        // Why the unknown are left out: nobody asks of whom it is not known who it is.
        let people = people.iter().filter_map(|at| asker.people.get(*at));
        let people = people.filter_map(|(id, person)| Some((id, person.known().ok()?)));
        let people: Vec<(&PractitionerId, &PractitionerFacts)> = people.collect();
        let mut cases = Vec::new();
        for (client, standing) in &asker.clients {
            let Some(client) = self.clients.get(*client) else {
                continue;
            };
            for (id, person) in people.iter().copied() {
                for (purpose, _) in &self.objections {
                    let declared: &[_] = match purpose.is_emergency() {
                        true => &[Some(Declared::Briefly), Some(Declared::AtLength)],
                        false => &[None],
                    };
                    for relationship in claims() {
                        for declared in declared {
                            cases.push(Case {
                                client,
                                standing,
                                id,
                                person,
                                purpose,
                                declared: *declared,
                                relationship,
                            });
                        }
                    }
                }
            }
        }
        cases
    }

    fn weigh(&self, rules: &Rules, asker: &Asker, case: &Case<'_>) -> Result<Vec<Opening>, Reason> {
        let supposed = Supposed {
            client: case.client.id.clone(),
            role: case.client.role,
            organisations: case.client.organisations.clone(),
            scope: RecordScope {
                patient: self.patient.clone(),
                purpose: case.purpose.clone(),
                practitioner: case.id.clone(),
                relationship: case.relationship.map(|it| RelationClaim {
                    kind: it.kind,
                    reference: it.reference.clone(),
                }),
                categories: (case.declared == Some(Declared::AtLength))
                    .then(|| Category::ALL.iter().copied().collect()),
                reason: case.declared.map(|declared| match declared {
                    Declared::Briefly => BRIEFLY.to_owned(),
                    Declared::AtLength => AT_LENGTH.to_owned(),
                }),
                acknowledged: case.declared.is_some(),
            },
        };
        openings(rules, &supposed, &self.facts(asker, case))
    }

    /// The facts as a decision on this question would have them.
    fn facts(&self, asker: &Asker, case: &Case<'_>) -> PatientFacts {
        let objections = self.objections.iter().find(|(it, _)| it == case.purpose);
        let holders = self.practices.iter().zip(&asker.held);
        let holder = |((practice, records), held): (&(Ods, Vec<RecordFacts>), &Held)| Holder {
            practice: practice.clone(),
            agreements: held.agreements.clone(),
            approvals: match case.purpose.is_secondary() {
                true => held.approvals.clone(),
                false => Fact::Unknown(Why::NotAsked),
            },
            records: records.clone(),
        };
        PatientFacts {
            now_ms: self.now_ms,
            organisation: case.standing.clone(),
            practitioner: Fact::Known(case.person.clone()),
            patient: self.standing.clone(),
            objections: objections.map_or(Fact::Unknown(Why::NotAsked), |(_, it)| it.clone()),
            objections_doubted: None,
            holders: holders.map(holder).collect(),
            relationships: asker.relationships.clone(),
            emergencies: Fact::Known(Emergencies {
                of_one: 0,
                of_all: 0,
            }),
        }
    }
}
