//! `sallyport policy explain`: why a question would be answered as it would, in words; offline, from a file of facts. For
//! those who answer for the rules: nothing of it is ever told to whoever asks for records.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use policy::explain::{Explained, explain};
use policy::survey::Supposed;
use policy::{
    Agreement, Approval, Category, ClientId, ClientRole, Emergencies, Fact, Holder, Label,
    NhsNumber, Ods, PatientFacts, PatientStanding, PractitionerFacts, PractitionerId, Proof,
    Purpose, RecordFacts, RecordId, RecordScope, RelationClaim, RelationKind, Relationship, Role,
    Rules, Standing, Strength, Why, WordError,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{NO, complain, say};
use crate::clock::Clock;
use crate::rulebook;

/// Bytes of a question at most.
const QUESTION_BYTES_MAX: u64 = 1024 * 1024;

/// A question with all its facts. What is left out of what must be known is unknown, and unknown refuses.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    now_ms: Option<u64>,
    client: AskingClient,
    practitioner: Person,
    patient: Patient,
    purpose: String,
    relationship: Option<Claim>,
    categories: Option<Vec<String>>,
    reason: Option<String>,
    #[serde(default)]
    acknowledged: bool,
    objections: Option<Vec<String>>,
    relationships: Option<Vec<Related>>,
    holders: Vec<Holding>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskingClient {
    id: String,
    role: String,
    organisations: Vec<String>,
    #[serde(default)]
    suspended: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    id: String,
    organisation: String,
    role: String,
    #[serde(default)]
    suspended: bool,
    trained_until_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patient {
    nhs_number: String,
    registered: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    r#type: String,
    reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Related {
    organisation: String,
    r#type: String,
    reference: String,
    corroborated: bool,
    from_ms: u64,
    until_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Holding {
    practice: String,
    agreements: Option<Vec<Agreed>>,
    approvals: Option<Vec<Approved>>,
    records: Vec<Kind>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Agreed {
    organisation: String,
    purposes: Vec<String>,
    categories: Vec<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    accepts_asserted: bool,
    #[serde(default)]
    emergency_overrides_objection: bool,
    from_ms: u64,
    until_ms: u64,
    /// Whether the organisation accepted it.
    accepted: bool,
    /// When its cooling-off time is over.
    cooled_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approved {
    organisation: String,
    purposes: Vec<String>,
    categories: Vec<String>,
    from_ms: u64,
    until_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kind {
    category: String,
    #[serde(default)]
    labels: Vec<String>,
}

fn all<T: Ord>(
    texts: &[String],
    read: impl Fn(&str) -> Result<T, WordError>,
) -> Result<BTreeSet<T>, WordError> {
    texts.iter().map(|text| read(text)).collect()
}

fn purpose(text: &str) -> Result<Purpose, WordError> {
    Purpose::try_from(text)
}

fn category(text: &str) -> Result<Category, WordError> {
    Category::try_from(text)
}

fn label(text: &str) -> Result<Label, WordError> {
    Label::try_from(text)
}

fn told<T>(value: Option<T>) -> Fact<T> {
    value.map_or(Fact::Unknown(Why::NeverTold), Fact::Known)
}

impl Question {
    fn read(self, now_ms: u64) -> Result<(Supposed, PatientFacts), WordError> {
        let now_ms = self.now_ms.unwrap_or(now_ms);
        let patient = NhsNumber::try_from(self.patient.nhs_number.as_str())?;
        let practitioner = PractitionerId::try_from(self.practitioner.id.as_str())?;
        let claim = self.relationship.map(|it| {
            let kind = RelationKind::try_from(it.r#type.as_str())?;
            let reference = it.reference;
            Ok(RelationClaim { kind, reference })
        });
        let categories = self.categories.map(|it| all(&it, category));
        let supposed = Supposed {
            client: ClientId::try_from(self.client.id.as_str())?,
            role: ClientRole::try_from(self.client.role.as_str())?,
            organisations: self
                .client
                .organisations
                .iter()
                .map(|code| Ods::try_from(code.as_str()))
                .collect::<Result<_, _>>()?,
            scope: RecordScope {
                patient: patient.clone(),
                purpose: purpose(&self.purpose)?,
                practitioner,
                relationship: claim.transpose()?,
                categories: categories.transpose()?,
                reason: self.reason,
                acknowledged: self.acknowledged,
            },
        };
        let registered = self.patient.registered;
        let registered = registered.map(|code| Ods::try_from(code.as_str()));
        let objections = self.objections.map(|it| all(&it, purpose));
        let related = self.relationships.map(|all| {
            let read = |it: Related| it.read(&patient);
            all.into_iter().map(read).collect::<Result<Vec<_>, _>>()
        });
        let facts = PatientFacts {
            now_ms,
            organisation: Fact::Known(Standing {
                suspended: self.client.suspended,
            }),
            practitioner: Fact::Known(PractitionerFacts {
                name: String::new(),
                organisation: Ods::try_from(self.practitioner.organisation.as_str())?,
                role: Role::try_from(self.practitioner.role.as_str())?,
                suspended: self.practitioner.suspended,
                trained_until_ms: told(self.practitioner.trained_until_ms),
            }),
            patient: told(
                registered
                    .transpose()?
                    .map(|practice| PatientStanding { practice }),
            ),
            objections: told(objections.transpose()?),
            objections_doubted: None,
            holders: self
                .holders
                .into_iter()
                .map(Holding::read)
                .collect::<Result<_, _>>()?,
            relationships: told(related.transpose()?),
            emergencies: Fact::Known(Emergencies {
                of_one: 0,
                of_all: 0,
            }),
        };
        Ok((supposed, facts))
    }
}

impl Related {
    fn read(self, patient: &NhsNumber) -> Result<Relationship, WordError> {
        Ok(Relationship {
            patient: patient.clone(),
            organisation: Ods::try_from(self.organisation.as_str())?,
            kind: RelationKind::try_from(self.r#type.as_str())?,
            reference: self.reference,
            strength: match self.corroborated {
                true => Strength::Corroborated,
                false => Strength::Asserted,
            },
            from_ms: self.from_ms,
            until_ms: self.until_ms,
        })
    }
}

impl Holding {
    fn read(self) -> Result<Holder, WordError> {
        let practice = Ods::try_from(self.practice.as_str())?;
        let agreements = self.agreements.map(|all| {
            let read = |it: Agreed| it.read(&practice);
            all.into_iter().map(read).collect::<Result<Vec<_>, _>>()
        });
        let approvals = self.approvals.map(|all| {
            let read = |it: Approved| it.read(&practice);
            all.into_iter().map(read).collect::<Result<Vec<_>, _>>()
        });
        let records = self.records.iter().map(|it| {
            Ok(RecordFacts {
                id: RecordId([0; 16]),
                version: 1,
                category: Category::try_from(it.category.as_str())?,
                labels: all(&it.labels, label)?,
            })
        });
        Ok(Holder {
            agreements: told(agreements.transpose()?),
            approvals: told(approvals.transpose()?),
            records: records.collect::<Result<_, WordError>>()?,
            practice,
        })
    }
}

impl Agreed {
    fn read(self, practice: &Ods) -> Result<Agreement, WordError> {
        Ok(Agreement {
            reference: String::new(),
            practice: practice.clone(),
            organisation: Ods::try_from(self.organisation.as_str())?,
            purposes: all(&self.purposes, purpose)?,
            categories: all(&self.categories, category)?,
            labels: all(&self.labels, label)?,
            accepts_asserted: self.accepts_asserted,
            emergency_overrides_objection: self.emergency_overrides_objection,
            from_ms: self.from_ms,
            until_ms: self.until_ms,
            proposed_by: "the practice".to_owned(),
            accepted_by: match self.accepted {
                true => "the organisation".to_owned(),
                false => String::new(),
            },
            cooled_ms: self.cooled_ms,
        })
    }
}

impl Approved {
    fn read(self, practice: &Ods) -> Result<Approval, WordError> {
        Ok(Approval {
            reference: String::new(),
            practice: practice.clone(),
            organisation: Ods::try_from(self.organisation.as_str())?,
            purposes: all(&self.purposes, purpose)?,
            categories: all(&self.categories, category)?,
            from_ms: self.from_ms,
            until_ms: self.until_ms,
        })
    }
}

/// `sallyport policy explain`: 0 if everything asked would be opened, 1 if something would not.
#[must_use]
pub fn explained(file: &Path, folder: Option<&Path>, json: bool) -> ExitCode {
    let rules = match rules(folder) {
        Ok(rules) => rules,
        Err(text) => return complain(&text),
    };
    let (supposed, facts) = match question(file) {
        Ok(question) => question,
        Err(text) => return complain(&format!("{}: {text}", file.display())),
    };
    let found = explain(&rules, &supposed, &facts);
    if found.is_empty() {
        return complain(
            &"holders: must name at least one practice with at least one kind of record",
        );
    }
    match json {
        true => {
            say(&json!({ "explained": found.iter().map(said).collect::<Vec<_>>() }).to_string())
        }
        false => found.iter().for_each(tell),
    }
    let opens = |it: &Explained| it.acts.iter().all(|act| act.outcome.is_ok());
    match found.iter().all(opens) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NO),
    }
}

fn rules(folder: Option<&Path>) -> Result<Rules, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match folder {
        None => Rules::built_in().map_err(|error| text(&error)),
        Some(folder) => {
            let texts = rulebook::read(folder).map_err(|error| text(&error))?;
            let proof: Proof = rulebook::proof(folder).map_err(|error| text(&error))?;
            Rules::proven(&texts, &proof).map_err(|error| text(&error))
        }
    }
}

fn question(file: &Path) -> Result<(Supposed, PatientFacts), String> {
    let length = std::fs::metadata(file)
        .map_err(|error| error.to_string())?
        .len();
    if length > QUESTION_BYTES_MAX {
        return Err("has more than 1 MiB".to_owned());
    }
    let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
    read(&bytes, Clock::system().now_ms())
}

/// Reads a question with its facts, as JSON.
///
/// # Errors
/// The member and the rule it breaks.
pub fn read(bytes: &[u8], now_ms: u64) -> Result<(Supposed, PatientFacts), String> {
    let question: Question = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    question.read(now_ms).map_err(|error| error.to_string())
}

const ACTS: [(&str, &str); 2] = [("issue", "a token for it"), ("read", "reading it")];

fn tell(it: &Explained) {
    let labels: Vec<&str> = it.labels.iter().map(|label| label.code()).collect();
    let labels = match labels.is_empty() {
        true => String::new(),
        false => format!(" labelled {}", labels.join(", ")),
    };
    say(&format!("{}{labels}, of {}:", it.category, it.practice));
    for act in &it.acts {
        let what = ACTS
            .iter()
            .find(|(code, _)| *code == act.act)
            .map_or(act.act, |(_, words)| words);
        match &act.outcome {
            Ok(rule) => say(&format!(
                "  {what}: permitted by `{}`: {}",
                rule.rule(),
                rule.words()
            )),
            Err(rule) => {
                say(&format!(
                    "  {what}: refused by `{}`: {}",
                    rule.rule(),
                    rule.words()
                ));
                let others = act
                    .refusing
                    .iter()
                    .filter(|other| other.rule() != rule.rule());
                for other in others {
                    say(&format!("    and by `{}`: {}", other.rule(), other.words()));
                }
                match act.permitting.first() {
                    Some(local) => say(&format!(
                        "    if each of these were otherwise, `{}` would permit it: {}",
                        local.rule(),
                        local.words()
                    )),
                    None => say("    and no local rule permits it either"),
                }
            }
        }
    }
}

fn said(it: &Explained) -> Value {
    let reason = |it: &policy::Reason| json!({ "rule": it.rule(), "says": it.words() });
    let acts = it.acts.iter().map(|act| {
        let (outcome, rule) = match &act.outcome {
            Ok(rule) => ("permit", rule),
            Err(rule) => ("refuse", rule),
        };
        json!({
            "act": act.act, "outcome": outcome, "by": reason(rule),
            "refusing": act.refusing.iter().map(reason).collect::<Vec<_>>(),
            "would_permit": act.permitting.iter().map(reason).collect::<Vec<_>>(),
        })
    });
    json!({
        "practice": it.practice.as_str(), "category": it.category.code(),
        "labels": it.labels.iter().map(|label| label.code()).collect::<Vec<_>>(),
        "acts": acts.collect::<Vec<_>>(),
    })
}
