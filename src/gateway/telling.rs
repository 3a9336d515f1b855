//! An entry in plain words: who, of which organisation, when, why, what kind of record, a person or a machine.
//!
//! To the patient the person's name and number are not told: who the employee was is the controller's to say (CJEU
//! C-579/21); role and organisation are. Everybody else here has it recorded that they looked.

use serde_json::{Value, json};

use super::oversight::Opened;
use crate::ledger::{Open, Receipt};

/// One line of a history.
pub struct Line {
    /// The entry.
    pub entry: u64,
    /// When, milliseconds.
    pub ts_ms: u64,
    /// Everything told of it, for the answer.
    pub told: Value,
}

/// A member of a member, as text.
fn at<'a>(plain: &'a Value, group: &str, member: &str) -> &'a str {
    let value = plain.get(group).and_then(|group| group.get(member));
    value.and_then(Value::as_str).unwrap_or_default()
}

/// Whom an entry is about.
pub(super) fn patient(plain: &Value) -> String {
    at(plain, "subject", "nhs").to_owned()
}

/// For which organisation somebody asked.
pub(super) fn organisation(plain: &Value) -> &str {
    at(plain, "actor", "organisation")
}

/// Puts an entry into words.
pub(super) fn line(
    opened: &Opened,
    name_of: &dyn Fn(&str) -> Option<String>,
    receipt: Option<Receipt>,
    for_patient: bool,
) -> Line {
    let (plain, event) = (&opened.plain, opened.leaf.get("ev").and_then(Value::as_str));
    let event = event.unwrap_or_default();
    let code = organisation(plain);
    let name = name_of(code).unwrap_or_else(|| code.to_owned());
    let (role, purpose) = (
        at(plain, "context", "role"),
        at(plain, "context", "purpose"),
    );
    let is_person = !at(plain, "actor", "practitioner").is_empty();
    let who = match (is_person, role) {
        _ if event == "review.close" => format!("a privacy officer of {name}"),
        (true, "") => format!("a person at {name}"),
        (true, role) => format!("{} at {name}", a(role)),
        (false, _) => format!("a system of {name}"),
    };
    let is_given = opened.leaf.get("out").and_then(Value::as_str) == Some("permit");
    let open = match for_patient {
        true => Open::WithoutActor,
        false => Open::All,
    };
    let is_emergency = ["ETREAT", "BTG"].contains(&purpose);
    let mut told = json!({
        "entry": opened.index,
        "at_ms": opened.ts_ms,
        "at": crate::alerts::rfc3339(opened.ts_ms),
        "what": what(event, at(plain, "context", "errand")),
        "who": who,
        "organisation": { "ods": code, "name": name },
        "by": if is_person { "a system, on behalf of a person" } else { "a system" },
        "why": why(event, purpose),
        "about": about(plain),
        "outcome": if is_given { "permitted" } else { "refused" },
        "emergency": is_emergency,
        "receipt": receipt.map(|receipt| receipt.to_json(open)),
    });
    if let Some(members) = told.as_object_mut() {
        let reason = at(plain, "context", "reason");
        if !reason.is_empty() {
            members.insert("reason".to_owned(), reason.into());
        }
        if !for_patient {
            let person = json!({
                "id": at(plain, "actor", "practitioner"), "name": plain.get("name"), "role": role,
            });
            members.insert("person".to_owned(), person);
            members.insert("client".to_owned(), at(plain, "actor", "client").into());
            members.insert("rule".to_owned(), at(plain, "context", "rule").into());
            members.insert(
                "evidence".to_owned(),
                at(plain, "context", "evidence").into(),
            );
            members.insert("patient".to_owned(), patient(plain).into());
        }
    }
    Line {
        entry: opened.index,
        ts_ms: opened.ts_ms,
        told,
    }
}

fn a(role: &str) -> String {
    let article = if role.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    let role = if role == "allied-health" {
        "allied health professional"
    } else {
        role
    };
    format!("{article} {role}")
}

fn what<'a>(event: &'a str, errand: &str) -> &'a str {
    match event {
        "token.issue" | "token.refuse" if errand == "history" => "asked to see this history",
        "token.issue" | "token.refuse" if errand == "deposit" => "asked to file records of yours",
        "token.issue" | "token.refuse" if !errand.is_empty() => "asked to pass on what you decided",
        "token.issue" => "asked to read your record and was permitted",
        "token.refuse" => "asked to read your record and was refused",
        "record.release" => "was given records of yours",
        "record.refuse" => "tried to read records of yours and was refused",
        "record.deposit" => "filed records of yours",
        "deposit.refuse" => "tried to file records of yours and was refused",
        "record.withdraw" => "withdrew a record of yours",
        "facts.change" => "passed on what you decided about sharing",
        "facts.refuse" => "tried to change what is stated about you and was refused",
        "log.read" => "looked at this history",
        "log.refuse" => "tried to look at this history and was refused",
        "review.close" => "reviewed an access to your record",
        other => other,
    }
}

fn why(event: &str, purpose: &str) -> &'static str {
    match (purpose, event) {
        ("TREAT", _) => "direct care",
        ("ETREAT", _) => "emergency care, declared without a relationship",
        ("BTG", _) => "an emergency, declared against what is otherwise permitted",
        ("HRESCH", _) => "research",
        ("PUBHLTH", _) => "public health",
        ("HOPERAT", _) => "running the service",
        (_, "log.read" | "log.refuse") => "to see who looked",
        (_, "review.close") => "to check that it was in order",
        ("", _) => "keeping your record",
        _ => "a purpose that is not served",
    }
}

/// What kind of record, in words.
fn about(plain: &Value) -> String {
    let list = |member: &str| -> Vec<&str> {
        let list = plain.get("object").and_then(|object| object.get(member));
        let list = list.and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    };
    let categories = list("categories");
    if !categories.is_empty() {
        return categories.join(", ");
    }
    let name = at(plain, "object", "name");
    match (name.split_once('/'), at(plain, "object", "selection")) {
        (Some((kind, _)), _) => kind.to_owned(),
        (None, "everything") => "everything shared".to_owned(),
        _ => String::new(),
    }
}
