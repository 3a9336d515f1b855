//! Everybody who could ask about one patient, with all that a decision about it would look at: the same rows, read and
//! put together by the same hands as for one decision, of now or of an earlier moment. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::facts::{Fact, Why};
use policy::survey::{Asker, AskingClient, Held, Survey};
use policy::words::{NhsNumber, Ods, PractitionerId, Purpose};

use super::past::{Row, When, undone};
use super::register::Register;
use super::statement::{Kind, fixed, two_party_key};
use super::{Facts, Statement, StoreError, lookup, objected, registered, related};

/// An organisation's code as it stands in keys.
type Code = [u8; 8];

/// Where an organisation's code stands in the key of a relationship, behind letter and patient; and in that of an
/// agreement or approval, behind letter and practice.
const BEHIND_PATIENT: usize = 17;
const BEHIND_PRACTICE: usize = 9;

impl Facts {
    /// Everybody who could ask about this patient; `keepers` are the practices whose records of this patient stand in
    /// the store. Unknown if the directory is.
    ///
    /// How each feed of objections stands is not kept: it is taken as it is now, also for an earlier moment.
    ///
    /// # Errors
    /// The store's.
    pub async fn survey(
        &self,
        patient: &NhsNumber,
        keepers: &BTreeSet<Ods>,
        (now_ms, when): (u64, When),
    ) -> Result<Fact<Survey>, StoreError> {
        let register = match self.register_of(when) {
            Fact::Known(register) => register,
            Fact::Unknown(why) => return Ok(Fact::Unknown(why)),
        };
        let tag = self.seals.tag("patient", patient.as_str());
        let all = |_: &[u8]| true;
        let rows = self.rows_of(Kind::Registration, &[&tag], when, all).await?;
        let (standing, mut practices) = registered(told(rows));
        practices.extend(keepers.iter().cloned());
        let rows = self.rows_of(Kind::Objection, &[&tag], when, all).await?;
        let mut objections = objected(told(rows));
        // INVARIANT: a practice whose rows do not add up may have lost an objection.
        let unsound = practices
            .iter()
            .find_map(|it| self.soundness(it.as_str()).err());
        if let Some(why) = unsound {
            objections = Fact::Unknown(why);
        }
        let objections = Purpose::NAMED.into_iter().map(|purpose| {
            let (heard, _) = self.doubts(&practices, &purpose, now_ms);
            let objections = heard.map_or_else(Fact::Unknown, |()| objections.clone());
            (purpose, objections)
        });
        let objections = objections.collect();
        let rows = self.rows_of(Kind::Relationship, &[&tag], when, all).await?;
        let relationships = by_code(rows, BEHIND_PATIENT);
        let mut held = Vec::with_capacity(practices.len());
        for practice in &practices {
            held.push(self.held(practice, &register, when).await?);
        }
        let at_ms = match when {
            When::Now => now_ms,
            When::Then(then_ms) => then_ms,
        };
        let (clients, acting) = clients(&register, at_ms);
        let mut askers = Vec::with_capacity(acting.len());
        for (organisation, places) in acting {
            let code = fixed(organisation.as_str());
            let related = relationships.get(&code).cloned().unwrap_or_default();
            askers.push(Asker {
                clients: places
                    .into_iter()
                    .filter_map(|at| {
                        let client = clients.get(at)?;
                        Some((at, how(&register, client, &organisation)))
                    })
                    .collect(),
                people: people(&register, &organisation),
                held: held.iter().map(|held| held.with(&code)).collect(),
                relationships: self::related(related),
                organisation,
            });
        }
        Ok(Fact::Known(Survey {
            now_ms: at_ms,
            patient: patient.clone(),
            standing,
            objections,
            practices: practices.into_iter().map(|it| (it, Vec::new())).collect(),
            clients,
            askers,
        }))
    }

    /// The directory of that moment.
    fn register_of(&self, when: When) -> Fact<Arc<Register>> {
        match (self.register(), when) {
            (Fact::Known(register), When::Then(then_ms)) => {
                let turned = self
                    .turned
                    .read()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                Fact::Known(Arc::new(undone(&register, &turned, then_ms)))
            }
            (register, _) => register,
        }
    }

    /// What stands between this practice and everybody.
    async fn held(
        &self,
        practice: &Ods,
        register: &Register,
        when: When,
    ) -> Result<Holding, StoreError> {
        let own = fixed(practice.as_str());
        let all = |_: &[u8]| true;
        if let Err(why) = self.soundness(practice.as_str()) {
            return Ok(Holding::Unknown(why));
        }
        let proposed = self.rows_of(Kind::Agreement, &[&own], when, all).await?;
        let answers = self.answers(&own, &proposed, when).await?;
        let mut answers = by_code(answers, 1);
        let mut agreements = BTreeMap::new();
        for (code, proposed) in by_code(proposed, BEHIND_PRACTICE) {
            let answers = answers.remove(&code).unwrap_or_default();
            let joined = self.joined_in(register, practice.as_str(), proposed, answers);
            agreements.insert(code, lookup::read(joined, |it| it.agreement().ok()));
        }
        let rows = self.rows_of(Kind::Approval, &[&own], when, all).await?;
        let approvals = by_code(rows, BEHIND_PRACTICE).into_iter();
        let approvals = approvals.map(|(code, rows)| {
            let read = |statement: &Statement| match statement {
                Statement::Approval(row) => row.approval().ok(),
                _ => None,
            };
            (code, super::gather(rows, read))
        });
        Ok(Holding::Known {
            agreements,
            approvals: approvals.collect(),
        })
    }

    /// What organisations answered to these proposals.
    async fn answers(
        &self,
        practice: &Code,
        proposed: &[Row],
        when: When,
    ) -> Result<Vec<Row>, StoreError> {
        if when != When::Now {
            let is_its =
                |key: &[u8]| key.get(BEHIND_PRACTICE..BEHIND_PRACTICE + 8) == Some(practice);
            return self
                .rows_of(Kind::Countersignature, &[], when, is_its)
                .await;
        }
        let keys = proposed.iter().filter_map(|(_, row)| match row {
            Fact::Known(Statement::Agreement(row)) => Some(two_party_key(
                Kind::Countersignature,
                self.seals.as_ref(),
                (&row.organisation, &row.practice),
                &row.reference,
            )),
            Fact::Known(_) | Fact::Unknown(_) => None,
        });
        let rows = self
            .store
            .get_many(super::Table::Facts, keys.collect())
            .await?;
        let rows = rows.into_iter().flatten();
        Ok(rows.map(|row| (row.key.clone(), self.told(row))).collect())
    }
}

/// What stands between one practice and everybody.
enum Holding {
    Unknown(Why),
    Known {
        agreements: BTreeMap<Code, Fact<Vec<policy::Agreement>>>,
        approvals: BTreeMap<Code, Fact<Vec<policy::Approval>>>,
    },
}

impl Holding {
    fn with(&self, code: &Code) -> Held {
        match self {
            Self::Unknown(why) => Held {
                agreements: Fact::Unknown(*why),
                approvals: Fact::Unknown(*why),
            },
            Self::Known {
                agreements,
                approvals,
            } => Held {
                agreements: agreements
                    .get(code)
                    .cloned()
                    .unwrap_or(Fact::Known(Vec::new())),
                approvals: approvals
                    .get(code)
                    .cloned()
                    .unwrap_or(Fact::Known(Vec::new())),
            },
        }
    }
}

fn told(rows: Vec<Row>) -> Vec<Fact<Statement>> {
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Rows by the organisation that stands in their keys.
fn by_code(rows: Vec<Row>, at: usize) -> BTreeMap<Code, Vec<Fact<Statement>>> {
    let mut out: BTreeMap<Code, Vec<Fact<Statement>>> = BTreeMap::new();
    for (key, row) in rows {
        let code = key.get(at..).and_then(|rest| rest.first_chunk::<8>());
        if let Some(code) = code {
            out.entry(*code).or_default().push(row);
        }
    }
    out
}

/// The clients that can connect, and for whom each could ask.
fn clients(register: &Register, at_ms: u64) -> (Vec<AskingClient>, BTreeMap<Ods, Vec<usize>>) {
    let (mut clients, mut acting): (Vec<AskingClient>, BTreeMap<Ods, Vec<usize>>) =
        (Vec::new(), BTreeMap::new());
    for client in register.connecting(at_ms) {
        for organisation in &client.organisations {
            let places = acting.entry(organisation.clone()).or_default();
            places.push(clients.len());
        }
        clients.push(AskingClient {
            id: client.id.clone(),
            role: client.role,
            organisations: client.organisations.clone(),
        });
    }
    (clients, acting)
}

/// How a client stands for an organisation.
fn how(register: &Register, client: &AskingClient, organisation: &Ods) -> Fact<policy::Standing> {
    super::standing_in(register, &client.id, organisation)
}

fn people(
    register: &Register,
    organisation: &Ods,
) -> Vec<(PractitionerId, Fact<policy::PractitionerFacts>)> {
    let people = register.people(organisation);
    let people = people.filter_map(|row| PractitionerId::try_from(row.id.as_str()).ok());
    people
        .map(|id| {
            let person = register.practitioner(organisation, &id);
            (id, person)
        })
        .collect()
}
