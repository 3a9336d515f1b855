//! Which questions no rule can tell apart. Of ten thousand organisations under like agreements one is decided, and the
//! others have the same answer, because the rules have no word that could tell them from it.
//!
//! Cedar compares entities and strings for being equal, and integers by their order. So it cannot tell two questions
//! apart that differ by other names and other times alone, as long as the same names are equal, the times stand in the
//! same order, and no rule names any of them. What the rules name is read from the rules. Where one uses a word beyond
//! (arithmetic, `like`, an extension) every organisation is decided by itself: slower, and never wrong.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use cedar_policy::Policy;
use serde_json::Value;

use crate::facts::{Agreement, Approval, Fact, PractitionerFacts, Relationship, Strength};
use crate::survey::Asker;

/// Operators that cannot tell more than equality and order.
const PLAIN: &[&str] = &[
    "Value",
    "Var",
    "!",
    "==",
    "!=",
    "in",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "contains",
    "containsAll",
    "containsAny",
    "isEmpty",
    ".",
    "has",
    "is",
    "if-then-else",
    "Set",
];
/// Members of an operator, and of a policy around its conditions.
const PARTS: &[&str] = &[
    "left",
    "right",
    "arg",
    "attr",
    "if",
    "then",
    "else",
    "entity_type",
    "__entity",
    "type",
    "id",
    "kind",
    "body",
    "op",
    "entity",
    "entities",
    "effect",
    "principal",
    "action",
    "resource",
    "conditions",
    "annotations",
];

/// What the rules name.
#[derive(Default)]
pub(crate) struct Named {
    entities: HashSet<String>,
    texts: HashSet<String>,
    times: BTreeSet<i64>,
    /// A rule uses a word beyond equality and order.
    is_beyond: bool,
}

impl Named {
    pub(crate) fn by<'a>(policies: impl Iterator<Item = &'a Policy>) -> Named {
        let mut named = Named::default();
        for policy in policies {
            match policy.to_json() {
                Ok(Value::Object(mut policy)) => {
                    policy.remove("annotations");
                    named.read(&Value::Object(policy));
                }
                Ok(_) | Err(_) => named.is_beyond = true,
            }
        }
        named
    }

    fn read(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                if let (Some(Value::String(_)), Some(Value::String(id))) =
                    (members.get("type"), members.get("id"))
                {
                    self.entities.insert(id.clone());
                }
                for (name, member) in members {
                    match (name.as_str(), member) {
                        ("Value", Value::String(text)) => drop(self.texts.insert(text.clone())),
                        ("Value", Value::Number(number)) => match number.as_i64() {
                            Some(number) => drop(self.times.insert(number)),
                            None => self.is_beyond = true,
                        },
                        ("Value", Value::Array(_)) => self.is_beyond = true,
                        (name, member) => {
                            self.is_beyond |= !PLAIN.contains(&name) && !PARTS.contains(&name);
                            self.read(member);
                        }
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.read(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// A text that two organisations share only if no rule can tell their questions apart, and of its people one of each
    /// kind, by their places. `shared` is what is the same in the questions of all.
    pub(crate) fn sketch(&self, asker: &Asker, shared: &Shared<'_>) -> (String, Vec<usize>) {
        let own = asker.organisation.as_str();
        if self.is_beyond {
            return (own.to_owned(), (0..asker.people.len()).collect());
        }
        let mut sketch = Sketch {
            named: self,
            own,
            shared,
            text: String::new(),
            texts: BTreeMap::new(),
            times: Vec::new(),
        };
        sketch.asker(asker);
        sketch.finish(asker)
    }

    /// What of a client a rule could see, whichever organisation it asks for.
    pub(crate) fn client(&self, client: &crate::survey::AskingClient) -> String {
        let mut named: Vec<&str> = client.organisations.iter().map(|it| it.as_str()).collect();
        let count = named.len();
        named.retain(|code| self.entities.contains(*code));
        named.sort_unstable();
        let id = client.id.as_str();
        let id = if self.entities.contains(id) { id } else { "" };
        format!("{id},{},{count},{}", client.role.code(), named.join(" "))
    }
}

/// What is the same in the questions about every organisation.
pub(crate) struct Shared<'a> {
    /// The moment, and when a token would expire.
    pub(crate) times: [u64; 2],
    /// The practices that hold the patient.
    pub(crate) practices: Vec<&'a str>,
    /// Of each client what a rule could see.
    pub(crate) clients: Vec<String>,
    /// Of each client which of the practices it acts for.
    pub(crate) acting: Vec<String>,
}

struct Sketch<'a> {
    named: &'a Named,
    own: &'a str,
    shared: &'a Shared<'a>,
    text: String,
    /// Texts in the order in which they first came.
    texts: BTreeMap<&'a str, usize>,
    times: Vec<i64>,
}

/// Milliseconds as Cedar sees them.
fn long(time_ms: u64) -> i64 {
    i64::try_from(time_ms).unwrap_or(i64::MAX)
}

impl<'a> Sketch<'a> {
    fn say(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\u{1f}');
    }

    fn organisation(&mut self, code: &'a str) {
        match code {
            _ if code == self.own => self.say("own"),
            // Why by its name, whatever it is: where the facts name another organisation than they were looked up
            // for, nothing is taken to be alike.
            _ => {
                self.say("=");
                self.say(code);
            }
        }
    }

    fn words(&mut self, text: &'a str) {
        if self.named.texts.contains(text) {
            self.say("=");
            self.say(text);
            return;
        }
        let next = self.texts.len();
        let place = *self.texts.entry(text).or_insert(next);
        self.say(&place.to_string());
    }

    fn time(&mut self, time_ms: u64) {
        self.times.push(long(time_ms));
    }

    fn codes(&mut self, codes: impl Iterator<Item = &'static str>) {
        for code in codes {
            self.text.push_str(code);
            self.text.push(' ');
        }
        self.say("");
    }

    fn asker(&mut self, asker: &'a Asker) {
        if self.named.entities.contains(self.own) || self.shared.practices.contains(&self.own) {
            self.say(self.own);
        }
        for (client, standing) in &asker.clients {
            let seen = self.shared.clients.get(*client).map_or("?", String::as_str);
            let acting = self.shared.acting.get(*client).map_or("?", String::as_str);
            self.say(seen);
            self.say(acting);
            match standing {
                Fact::Known(standing) => self.say(if standing.suspended { "s" } else { "" }),
                Fact::Unknown(why) => self.say(&format!("{why:?}")),
            }
        }
        for held in &asker.held {
            self.say("held");
            match &held.agreements {
                Fact::Known(agreements) => agreements.iter().for_each(|it| self.agreement(it)),
                Fact::Unknown(why) => self.say(&format!("{why:?}")),
            }
            match &held.approvals {
                Fact::Known(approvals) => approvals.iter().for_each(|it| self.approval(it)),
                Fact::Unknown(why) => self.say(&format!("{why:?}")),
            }
        }
        match &asker.relationships {
            Fact::Known(all) => all.iter().for_each(|it| self.relationship(it)),
            Fact::Unknown(why) => self.say(&format!("{why:?}")),
        }
    }

    fn agreement(&mut self, it: &'a Agreement) {
        self.organisation(it.practice.as_str());
        self.organisation(it.organisation.as_str());
        let mut purposes: Vec<&str> = it.purposes.iter().map(|it| it.code()).collect();
        purposes.sort_unstable();
        self.say(&purposes.join(" "));
        self.codes(it.categories.iter().map(|it| it.code()));
        self.codes(it.labels.iter().map(|it| it.code()));
        let marks = (it.accepts_asserted, it.emergency_overrides_objection);
        self.say(&format!("{marks:?}"));
        self.words(&it.proposed_by);
        self.words(&it.accepted_by);
        for time in [it.from_ms, it.until_ms, it.cooled_ms] {
            self.time(time);
        }
    }

    fn approval(&mut self, it: &'a Approval) {
        self.say("approval");
        self.organisation(it.practice.as_str());
        self.organisation(it.organisation.as_str());
        let purposes: Vec<&str> = it.purposes.iter().map(|it| it.code()).collect();
        self.say(&purposes.join(" "));
        self.codes(it.categories.iter().map(|it| it.code()));
        for time in [it.from_ms, it.until_ms] {
            self.time(time);
        }
    }

    fn relationship(&mut self, it: &'a Relationship) {
        // The patient is the same in all questions; that it is this patient's the policy checks.
        self.organisation(it.organisation.as_str());
        self.say(it.kind.code());
        self.words(&it.reference);
        self.say(match it.strength {
            Strength::Corroborated => "c",
            Strength::Asserted => "a",
        });
        for time in [it.from_ms, it.until_ms] {
            self.time(time);
        }
    }

    /// The order of the times, beside those that the rules name and those of the moment; and the people, who are never
    /// in one question with each other.
    fn finish(mut self, asker: &'a Asker) -> (String, Vec<usize>) {
        let moment = self.shared.times.map(long);
        let mut order: Vec<i64> = self.named.times.iter().copied().collect();
        order.extend(moment);
        order.extend(&self.times);
        order.sort_unstable();
        order.dedup();
        let place = |time: i64| match order.binary_search(&time) {
            Ok(at) => 2 * at + 1,
            Err(at) => 2 * at,
        };
        let fixed = self.named.times.iter().copied().chain(moment);
        let places: Vec<String> = fixed
            .chain(self.times.iter().copied())
            .map(|time| place(time).to_string())
            .collect();
        let mut people: BTreeMap<String, usize> = BTreeMap::new();
        for (at, (id, person)) in asker.people.iter().enumerate() {
            people
                .entry(self.person(id.as_str(), person, &place))
                .or_insert(at);
        }
        self.say(&places.join(" "));
        for person in people.keys() {
            self.say(person);
        }
        (self.text, people.into_values().collect())
    }

    fn person(
        &self,
        id: &str,
        person: &Fact<PractitionerFacts>,
        place: &impl Fn(i64) -> usize,
    ) -> String {
        let id = match self.named.entities.contains(id) {
            true => id,
            false => "",
        };
        match person {
            Fact::Unknown(why) => format!("{id} {why:?}"),
            Fact::Known(it) => {
                let trained = match &it.trained_until_ms {
                    Fact::Known(until_ms) => place(long(*until_ms)).to_string(),
                    Fact::Unknown(why) => format!("{why:?}"),
                };
                let elsewhere = it.organisation.as_str() != self.own;
                format!(
                    "{id} {} {} {trained} {elsewhere}",
                    it.role.code(),
                    it.suspended
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]

    use super::Named;
    use crate::rules::Rules;

    fn named(local: &str) -> Named {
        Rules::parse(local).unwrap().named()
    }

    #[test]
    fn the_shipped_rules_tell_nothing_but_equality_and_order() {
        let named = Rules::built_in().unwrap().named();
        assert!(!named.is_beyond);
        assert_eq!(named.texts.iter().collect::<Vec<_>>(), [""]);
        assert!(named.times.len() <= 2, "{:?}", named.times);
        assert!(named.entities.contains("TREAT"));
    }

    #[test]
    fn what_a_local_rule_names_is_found_and_what_it_computes_is_beyond() {
        let rule = |when: &str| {
            format!(
                "@id(\"l\") @says(\"L.\") permit (principal is Practitioner, action == Action::\"read\", \
                 resource is Record) when {{ {when} }};"
            )
        };
        let named_one = named(&rule(
            "principal.organisation == Organisation::\"RJ7\" && context has agreement",
        ));
        assert!(named_one.entities.contains("RJ7") && !named_one.is_beyond);
        assert!(named(&rule("context.token.reason like \"*cardiac*\"")).is_beyond);
        assert!(named(&rule("context.now + 5 < context.token.expires")).is_beyond);
        assert!(
            named(&rule("context.token.reason == \"ward 7\""))
                .texts
                .contains("ward 7")
        );
        assert!(
            named(&rule("context.now < 1700000000000"))
                .times
                .contains(&1_700_000_000_000)
        );
    }
}
