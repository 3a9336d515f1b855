//! Decisions about a patient's records: reading them, and being issued a token to read them.
//!
//! Every record that leaves is permitted by a ruling on its practice, category and label set; equal
//! ones share a ruling, within one ask only. Candidates among agreements and relationships are
//! picked here and re-checked by the policy, so that a bad pick refuses. An unknown fact refuses,
//! and costs the evaluations of an answer all the same: time tells nobody who is known.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry as Slot};
use std::sync::LazyLock;

use cedar_policy::{Entities, Request};
use serde_json::Value;

use crate::ask::{Ask, IssueToken, Read, Selection, TOKEN_LIFE_MS};
use crate::caller::{Caller, RecordScope, Scope};
use crate::cedar::{Bearing, Malformed, Question};
use crate::decide::{Entry, Weigh, Weighed, no_token, unknown};
use crate::facts::{
    Fact, Holder, PatientFacts, PractitionerFacts, Relationship, Strength, TokenFacts, Why,
};
use crate::rules::Rules;
use crate::verdict::{Page, Permitted, Reason};
use crate::words::{Category, Label, Ods, Purpose, Role};

mod candidates;
pub(crate) mod explain;
pub(crate) mod supposed;
#[cfg(test)]
mod traps;

use candidates::{fittest_agreement, fittest_approval, fittest_relationship};

/// The rule that permits, or the one that does not.
type Ruling = Result<Reason, Reason>;

/// A holder's place, its agreement's and approval's, and a category beside those of the holder's records.
type RequestKey = (usize, Option<usize>, Option<usize>, Option<Category>);

impl Weigh for Read {
    fn weigh(rules: &Rules, ask: &Ask<Read>, facts: &PatientFacts) -> Weighed<Page> {
        let mut entry = Entry::default();
        match &ask.act().selection {
            Selection::One { name } => entry.name("name", name.as_str()),
            Selection::Search { query } => entry.name("search", query.as_str()),
            Selection::Everything => entry.name("selection", "everything"),
        }
        let Some(token) = ask.caller().token() else {
            let outcome = Err(no_token());
            return Weighed { outcome, entry };
        };
        entry.scope(&token.scope);
        let Scope::Records(scope) = &token.scope else {
            let outcome = Err(no_token());
            return Weighed { outcome, entry };
        };
        entry.standing = facts.practitioner.known().ok().cloned();
        doubted(&mut entry, facts);

        let categories = categories(scope);
        let life = ("read", token.expires_ms);
        let mut inquiry = Inquiry::new(rules, ask.caller(), scope, &categories, life, facts);
        let act = ask.act();
        let mut outcome = inquiry.release(&act.selection, act.limit);
        // Why only now: another patient costs what the token's own costs.
        if act
            .patient
            .as_ref()
            .is_some_and(|named| *named != scope.patient)
        {
            outcome = Err(Reason::new(
                "never-another-patient",
                "A token opens one patient's records and no other's.",
            ));
        }
        if let Ok((granted, _)) = &outcome {
            entry.say("evidence", inquiry.evidence());
            inquiry.list(&granted.records, &mut entry);
            entry.name("categories", kinds(facts, &granted.records));
        }
        Weighed { outcome, entry }
    }
}

impl Weigh for IssueToken {
    fn weigh(rules: &Rules, ask: &Ask<IssueToken>, facts: &TokenFacts) -> Weighed<Scope> {
        let mut entry = Entry::default();
        entry.scope(&ask.act().scope);
        let (scope, facts) = match (&ask.act().scope, facts) {
            (Scope::Records(scope), TokenFacts::Records(facts)) => (scope, facts),
            (scope, TokenFacts::Practice(facts)) => {
                let outcome = crate::practice::issue(rules, ask.caller(), scope, facts);
                return Weighed { outcome, entry };
            }
            (scope, TokenFacts::Organisation(facts)) => {
                let outcome = crate::organisation::issue(rules, ask.caller(), scope, facts);
                return Weighed { outcome, entry };
            }
            (Scope::History(history), TokenFacts::Staff(facts)) => {
                let outcome = crate::staff::issue_history(rules, ask.caller(), history, facts);
                return Weighed { outcome, entry };
            }
            (_, TokenFacts::Records(_) | TokenFacts::Staff(_)) => {
                let outcome = Err(unknown("practice", Why::NotAsked));
                return Weighed { outcome, entry };
            }
        };
        entry.standing = facts.practitioner.known().ok().cloned();
        doubted(&mut entry, facts);

        let categories = categories(scope);
        let codes: Vec<Value> = categories.iter().map(|it| it.code().into()).collect();
        entry.name("categories", codes);
        // The token that would be issued is weighed as if it were shown.
        let life = ("issue", facts.now_ms.saturating_add(TOKEN_LIFE_MS));
        let mut inquiry = Inquiry::new(rules, ask.caller(), scope, &categories, life, facts);
        let mut ruling = inquiry.any_baseline();
        // Why only now: what a refusal for its number costs must tell nothing of the patient.
        if scope.purpose.is_emergency() {
            ruling = match facts.emergencies.known() {
                Ok(declared) if declared.leave_one() => ruling,
                Ok(_) => Err(Reason::new(
                    "never-beyond-the-hourly-cap",
                    "Never more emergencies within an hour than one practitioner or organisation may declare.",
                )),
                Err(why) => Err(unknown("emergencies", why)),
            };
        }
        if ruling.is_ok() {
            entry.say("evidence", inquiry.evidence());
        }
        let outcome = ruling.map(|reason| {
            let scope = RecordScope {
                categories: Some(categories.clone()),
                ..scope.clone()
            };
            (Scope::Records(scope), reason)
        });
        Weighed { outcome, entry }
    }
}

/// Marks a decision on objections that may be out of date.
fn doubted(entry: &mut Entry, facts: &PatientFacts) {
    if let (Some(why), Fact::Known(_)) = (facts.objections_doubted, &facts.objections) {
        entry.say("objections", format!("as last heard: {why}"));
    }
}

/// The categories of a scope: those it names, else what its purpose is given by default.
fn categories(scope: &RecordScope) -> BTreeSet<Category> {
    match &scope.categories {
        Some(named) => named.clone(),
        None if scope.purpose.is_emergency() => Category::SUMMARY.into(),
        None => Category::ALL.iter().copied().collect(),
    }
}

/// Of which categories the granted records are.
fn kinds(facts: &PatientFacts, granted: &[Permitted]) -> Vec<Value> {
    let ids: BTreeSet<_> = granted.iter().map(|record| record.id).collect();
    let records = facts.holders.iter().flat_map(|holder| &holder.records);
    let granted = records.filter(|record| ids.contains(&record.id));
    let categories: BTreeSet<Category> = granted.map(|record| record.category).collect();
    categories.iter().map(|it| it.code().into()).collect()
}

static NO_LABELS: BTreeSet<Label> = BTreeSet::new();
static NO_OBJECTIONS: BTreeSet<Purpose> = BTreeSet::new();

/// Stands in for a practitioner nobody knows.
static NOBODY: LazyLock<PractitionerFacts> = LazyLock::new(|| PractitionerFacts {
    name: String::new(),
    organisation: Ods::nowhere(),
    role: Role::Researcher,
    suspended: true,
    trained_until_ms: Fact::Unknown(Why::NeverTold),
});

/// Stands in for the practice of a patient whom none holds.
static NOWHERE: LazyLock<Holder> = LazyLock::new(|| Holder {
    practice: Ods::nowhere(),
    agreements: Fact::Unknown(Why::NeverTold),
    approvals: Fact::Unknown(Why::NeverTold),
    records: Vec::new(),
});

/// One ask about one patient's records, with the rulings made for it so far.
struct Inquiry<'a> {
    rules: &'a Rules,
    bearing: Bearing<'a>,
    people: Result<Entities, Malformed>,
    relationship: Option<&'a Relationship>,
    holders: Vec<&'a Holder>,
    /// The practice where the patient is registered: its reason for a refusal is the one to tell.
    registered: Option<&'a Ods>,
    /// The first fact that is unknown. INVARIANT: while there is one, nothing is permitted.
    missing: Option<Reason>,
    requests: BTreeMap<RequestKey, Result<Request, Malformed>>,
    rulings: BTreeMap<(usize, Category, &'a BTreeSet<Label>), Ruling>,
}

impl<'a> Inquiry<'a> {
    fn new(
        rules: &'a Rules,
        caller: &'a Caller,
        scope: &'a RecordScope,
        categories: &'a BTreeSet<Category>,
        (action, expires_ms): (&'static str, u64),
        facts: &'a PatientFacts,
    ) -> Inquiry<'a> {
        let mut missing = None;
        let mut miss = |fact, why| {
            missing.get_or_insert_with(|| unknown(fact, why));
        };
        let is_suspended = facts.organisation.known().map_or_else(
            |why| {
                miss("organisation", why);
                true
            },
            |standing| standing.suspended,
        );
        let practitioner = facts.practitioner.known().unwrap_or_else(|why| {
            miss("practitioner", why);
            &NOBODY
        });
        let trained_until_ms = practitioner.trained_until_ms.known().map_or_else(
            |why| {
                miss("training", why);
                0
            },
            |until_ms| *until_ms,
        );
        let registered = facts.patient.known();
        let registered = registered.map_err(|why| miss("patient", why));
        let objections = facts.objections.known().unwrap_or_else(|why| {
            miss("objections", why);
            &NO_OBJECTIONS
        });
        let relationships = match facts.relationships.known() {
            Ok(relationships) => relationships.as_slice(),
            // Why: neither an emergency nor a secondary use needs a relationship, so it need not be known.
            Err(_) if scope.purpose.is_emergency() || scope.purpose.is_secondary() => &[],
            Err(why) => {
                miss("relationships", why);
                &[]
            }
        };
        let bearing = Bearing {
            action,
            now_ms: facts.now_ms,
            caller,
            is_suspended,
            practitioner,
            trained_until_ms,
            objections,
            scope,
            categories,
            expires_ms,
        };
        let mut holders: Vec<&Holder> = facts.holders.iter().collect();
        if holders.is_empty() {
            holders.push(&NOWHERE);
        }
        Inquiry {
            rules,
            people: rules.lexicon.people(&rules.schema, &bearing),
            relationship: fittest_relationship(relationships, &bearing),
            bearing,
            holders,
            registered: registered.ok().map(|patient| &patient.practice),
            missing,
            requests: BTreeMap::new(),
            rulings: BTreeMap::new(),
        }
    }

    /// The records that are permitted; where none is, whether the answer is "none" or a refusal.
    fn release(&mut self, selection: &Selection, limit: usize) -> Result<(Page, Reason), Reason> {
        let mut page = Page {
            records: Vec::new(),
            more: false,
        };
        let mut reason = None;
        let mut refusal = None;
        for (at, holder) in self.holders.clone().into_iter().enumerate() {
            for record in &holder.records {
                match self.ruling(at, record.category, &record.labels) {
                    Ok(_) if page.records.len() >= limit => {
                        page.more = true;
                        break;
                    }
                    Ok(rule) => {
                        reason.get_or_insert(rule);
                        page.records.push(Permitted {
                            practice: holder.practice.clone(),
                            id: record.id,
                            version: record.version,
                        });
                    }
                    Err(rule) => {
                        refusal.get_or_insert(rule);
                    }
                }
            }
        }
        if let Some(reason) = reason {
            return Ok((page, reason));
        }
        match (selection, refusal) {
            (Selection::One { .. }, Some(reason)) => Err(reason),
            // Why ask at all: a record that is not there costs what a withheld one costs.
            (Selection::One { .. }, None) => Err(match self.any_baseline() {
                Ok(_) => Reason::new("no-such-record", "There is no record of that name."),
                Err(reason) => reason,
            }),
            // With nothing found and with everything withheld the answer is the same: none.
            (Selection::Search { .. } | Selection::Everything, _) => {
                self.any_baseline().map(|reason| (page, reason))
            }
        }
    }

    /// Whether any holder could release anything at all for this ask.
    fn any_baseline(&mut self) -> Ruling {
        let mut refusal: Option<Reason> = None;
        for (at, holder) in self.holders.clone().into_iter().enumerate() {
            match self.baseline(at, holder) {
                Ok(reason) => return Ok(reason),
                Err(reason) if refusal.is_none() || self.registered == Some(&holder.practice) => {
                    refusal = Some(reason);
                }
                Err(_) => {}
            }
        }
        Err(refusal.unwrap_or_else(|| unknown("practice", Why::NeverTold)))
    }

    /// A ruling on an ordinary record of this holder, of a category that agreement, token and (for a secondary
    /// use) approval share.
    fn baseline(&mut self, at: usize, holder: &Holder) -> Ruling {
        let agreed: BTreeSet<Category> = holder
            .agreements
            .known()
            .into_iter()
            .flatten()
            .flat_map(|agreement| &agreement.categories)
            .copied()
            .collect();
        let approved: BTreeSet<Category> = holder
            .approvals
            .known()
            .into_iter()
            .flatten()
            .flat_map(|approval| &approval.categories)
            .copied()
            .collect();
        let categories = self.bearing.categories;
        let needs_none = !self.bearing.scope.purpose.is_secondary();
        let mut shared = categories
            .intersection(&agreed)
            .copied()
            .filter(|category| needs_none || approved.contains(category));
        let first = shared
            .next()
            .or_else(|| categories.first().copied())
            .unwrap_or(Category::Other);
        let mut ruling = self.ruling(at, first, &NO_LABELS);
        for category in shared {
            match &ruling {
                // A local rule may single out a category; a guard would say the same of the next.
                Err(reason) if self.rules.is_local(reason) => {
                    ruling = self.ruling(at, category, &NO_LABELS);
                }
                Ok(_) | Err(_) => break,
            }
        }
        ruling
    }

    /// The ruling on a practice's records of one category and label set.
    fn ruling(&mut self, at: usize, category: Category, labels: &'a BTreeSet<Label>) -> Ruling {
        let key = (at, category, labels);
        if let Some(ruling) = self.rulings.get(&key) {
            return ruling.clone();
        }
        let ruling = self.rule(at, category, labels);
        self.rulings.insert(key, ruling.clone());
        ruling
    }

    fn rule(&mut self, at: usize, category: Category, labels: &BTreeSet<Label>) -> Ruling {
        let Some(holder) = self.holders.get(at).copied() else {
            return Err(unknown("practice", Why::NotAsked));
        };
        let question = self.question(at, holder, category, labels);
        let ruling = self.rules.judge(question);
        // Why only now: an unknown fact costs what an answer costs.
        let approvals = holder.approvals.known();
        let needed = self.bearing.scope.purpose.is_secondary();
        match (&self.missing, holder.agreements.known(), approvals) {
            (Some(reason), ..) => Err(reason.clone()),
            (None, Err(why), _) => Err(unknown("agreements", why)),
            (None, Ok(_), Err(why)) if needed => Err(unknown("approvals", why)),
            (None, Ok(_), Ok(_) | Err(_)) => ruling,
        }
    }

    fn question(
        &mut self,
        at: usize,
        holder: &Holder,
        category: Category,
        labels: &BTreeSet<Label>,
    ) -> Result<Question, Malformed> {
        let Inquiry { rules, bearing, .. } = self;
        let agreements = holder.agreements.known().map_or(&[][..], Vec::as_slice);
        let agreement = fittest_agreement(agreements, holder, bearing, category, labels);

        let approvals = holder.approvals.known().map_or(&[][..], Vec::as_slice);
        let approval = fittest_approval(approvals, holder, bearing, category);

        // One request serves all records of a holder; a baseline category may lie outside them.
        let mut in_question: BTreeSet<Category> = holder
            .records
            .iter()
            .map(|record| record.category)
            .collect();
        let beside = in_question.insert(category).then_some(category);
        let key = (
            at,
            agreement.map(|(place, _)| place),
            approval.map(|(place, _)| place),
            beside,
        );
        let request = match self.requests.entry(key) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => slot.insert(rules.lexicon.release_request(
                &rules.schema,
                bearing,
                agreement.map(|(_, agreement)| agreement),
                approval.map(|(_, approval)| approval),
                self.relationship,
                &in_question,
            )),
        };
        let patient = &bearing.scope.patient;
        let lexicon = &rules.lexicon;
        let record = lexicon.record(patient, &holder.practice, category, labels)?;
        let entities = self
            .people
            .clone()?
            .add_entities([record], Some(&rules.schema));
        Ok(Question {
            request: request.clone()?,
            entities: entities.map_err(|_| Malformed)?,
        })
    }

    /// How well the access is evidenced: what a privacy officer looks at first.
    fn evidence(&self) -> &'static str {
        match self.relationship.map(|relationship| relationship.strength) {
            _ if self.bearing.scope.purpose.is_emergency() => "emergency",
            _ if self.bearing.scope.purpose.is_secondary() => "approval",
            Some(Strength::Corroborated) => "corroborated",
            Some(Strength::Asserted) => "asserted",
            None => "none",
        }
    }

    /// Names the granted records. Nothing here may tell whether others were withheld.
    fn list(&self, granted: &[Permitted], entry: &mut Entry) {
        let kid = |record: &Permitted| format!("{}.{}", record.id, record.version);
        entry.list(granted.iter().map(kid).collect());
        let practices: BTreeSet<&str> = granted
            .iter()
            .map(|record| record.practice.as_str())
            .collect();
        let practices: Vec<Value> = practices.into_iter().map(Value::from).collect();
        entry.say("practices", practices);
    }
}
