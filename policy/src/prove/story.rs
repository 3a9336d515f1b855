//! A counterexample in words, for somebody who answers for records and not for software.
//!
//! One sentence: who could do what, although what, by which rule. What stands behind "although" is
//! read off the example; where nothing here has a word for it, the invariant's own words stand in.

use super::example::Example;

/// What was found, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// One sentence.
    pub sentence: String,
    /// Everything that is known in the example, a line a part.
    pub facts: Vec<(String, String)>,
}

const SUMMARY: [&str; 4] = ["medications", "allergies", "problems", "alerts"];

const SECONDARY: [&str; 3] = ["HRESCH", "PUBHLTH", "HOPERAT"];

/// What is said of an act that is permitted now.
pub(super) const NOW: &str = "may now";

/// What is said of an act that is refused now.
pub(super) const NO_LONGER: &str = "may no longer";

const CLINICIANS: [&str; 5] = [
    "doctor",
    "nurse",
    "pharmacist",
    "paramedic",
    "allied-health",
];

/// Tells an example: `could` is "could" or "may now"; `against` the words of the invariant that it breaks, if any.
pub(super) fn tell(example: &Example, could: &str, against: Option<&str>, by: &[String]) -> Story {
    let mut sentence = format!("{} {could} {}", subject(example), object(example));
    // A rule that errs is told by its case alone; an act that is refused now has nothing to excuse.
    let is_allowed = against.is_some() || could == NOW;
    match (wrongs(example).as_slice(), against) {
        ([], Some(against)) => sentence.push_str(&format!(" against the invariant \"{against}\"")),
        (wrongs @ [_, ..], _) if is_allowed => {
            sentence.push_str(&format!(" although {}", listed(wrongs)));
        }
        _ => {}
    }
    match by {
        [] => {}
        [rule] => sentence.push_str(&format!(", by rule `{rule}`")),
        rules => sentence.push_str(&format!(", by rules `{}`", rules.join("`, `"))),
    }
    Story {
        sentence,
        facts: example.facts(),
    }
}

fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn hospital(example: &Example) -> String {
    let is_hospital = example.code("context.client.role") == "hospital"
        && !SECONDARY.contains(&example.code("context.token.purpose"))
        && example.holds("context.client.organisations", "principal.organisation");
    let word = if is_hospital {
        "hospital"
    } else {
        "organisation"
    };
    example.who("principal.organisation", word)
}

fn practice(example: &Example) -> String {
    example.who("resource.practice", "practice")
}

fn patient(example: &Example) -> String {
    example.who("resource.patient", "patient")
}

fn subject(example: &Example) -> String {
    match example.kind("principal") {
        "Practitioner" => {
            let role = example.code("principal.role").replace('-', " ");
            format!(
                "{} of {}",
                example.who("principal", &role),
                hospital(example)
            )
        }
        _ => {
            let role = example.code("principal.role");
            format!(
                "{} (registered as {role})",
                example.who("principal", "client")
            )
        }
    }
}

fn object(example: &Example) -> String {
    match (example.kind("resource"), example.action.as_str()) {
        ("Record", action) => {
            let verb = match action {
                "read" => "read",
                "issue" => "be issued a token for",
                other => other,
            };
            let labels = example.codes("resource.labels");
            let labelled = match labels.as_slice() {
                [] => String::new(),
                labels => format!(" (labelled {})", labels.join(" ")),
            };
            format!(
                "{verb} a {} record{labelled} of {} at {} for {}",
                example.code("resource.category"),
                patient(example),
                practice(example),
                match example.code("context.token.purpose") {
                    "" => "a purpose without a name here",
                    purpose => purpose,
                },
            )
        }
        ("PracticeFile", action) => format!(
            "{} in the name of {}",
            match action {
                "deposit" => "deposit records",
                "withdraw" => "withdraw records",
                "change" => "change what was said",
                "issueToPractice" => "be issued a token",
                other => other,
            },
            practice(example)
        ),
        ("Deed", _) => format!("do `{}` to the gateway", example.code("resource")),
        ("Proposal", _) => format!(
            "approve `{}`, which was proposed as `{}`",
            example.code("context.deed"),
            example.code("resource.deed")
        ),
        ("LogPart", _) => format!("read the access log ({})", example.code("resource")),
        (kind, action) => format!("{action} {}", example.who("resource", &kind.to_lowercase())),
    }
}

/// What is wrong with an example, in words.
fn wrongs(example: &Example) -> Vec<String> {
    match example.kind("resource") {
        "Record" => [
            wrong_people(example),
            wrong_token(example),
            wrong_agreement(example),
            wrong_reason(example),
        ]
        .concat(),
        "PracticeFile" => wrong_practice(example),
        "Deed" => wrong_client(example, &["admin"]),
        "Proposal" => wrong_approval(example),
        "LogPart" => match example.code("resource") {
            "history" => wrong_client(example, &["auditor", "privacy-officer", "patient-portal"]),
            _ => wrong_client(example, &["auditor", "privacy-officer"]),
        },
        _ => Vec::new(),
    }
}

/// The words whose condition holds.
fn those<const N: usize>(cases: [(bool, String); N]) -> Vec<String> {
    let wrong = cases.into_iter().filter(|(is_wrong, _)| *is_wrong);
    wrong.map(|(_, words)| words).collect()
}

fn is_over(example: &Example, path: &str) -> bool {
    example.has(path) && example.number(path) <= example.number("context.now")
}

fn is_early(example: &Example, path: &str) -> bool {
    example.has(path) && example.number(path) > example.number("context.now")
}

fn wrong_people(example: &Example) -> Vec<String> {
    let who = example.who("principal", "practitioner");
    those([
        (
            example.is("principal.suspended"),
            format!("{who} is suspended"),
        ),
        (
            example.is("context.client.suspended"),
            "the system that asks, or its organisation, is suspended".to_owned(),
        ),
        (
            is_over(example, "principal.trainedUntil"),
            format!("{who}'s training for the role is not current"),
        ),
        (
            !example.holds("context.client.organisations", "principal.organisation"),
            format!(
                "the system that asks does not act for {}",
                hospital(example)
            ),
        ),
        (
            !SECONDARY.contains(&example.code("context.token.purpose"))
                && example.code("context.client.role") != "hospital",
            format!(
                "the system that asks is registered as {} and not as a hospital's",
                example.code("context.client.role")
            ),
        ),
    ])
}

fn wrong_token(example: &Example) -> Vec<String> {
    let who = example.who("principal", "practitioner");
    let category = example.code("resource.category");
    those([
        (
            !example.same("context.token.holder", "principal"),
            format!("the token was not made out to {who}"),
        ),
        (
            !example.same("context.token.patient", "resource.patient"),
            format!(
                "the token was made out for another patient than {}",
                patient(example)
            ),
        ),
        (
            is_over(example, "context.token.expires"),
            "the token had expired".to_owned(),
        ),
        (
            !example.holds("context.token.categories", "resource.category"),
            format!("the token does not name {category}"),
        ),
    ])
}

fn wrong_agreement(example: &Example) -> Vec<String> {
    let (purpose, category) = (
        example.code("context.token.purpose"),
        example.code("resource.category"),
    );
    if !example.has("context.agreement") {
        let (practice, hospital) = (practice(example), hospital(example));
        return vec![format!("{practice} has no agreement with {hospital}")];
    }
    let covered = example.codes("context.agreement.labels");
    let labels = example.codes("resource.labels");
    let bare: Vec<&str> = labels
        .iter()
        .filter(|label| !covered.contains(label))
        .copied()
        .collect();
    let is_opposed = example.holds("resource.patient.objections", "context.token.purpose");
    let is_overridden = example.is("context.agreement.emergencyOverridesObjection")
        && ["ETREAT", "BTG"].contains(&purpose);
    those([
        (
            !example.same("context.agreement.practice", "resource.practice"),
            format!(
                "the agreement is of {} and not of {}",
                example.who("context.agreement.practice", "organisation"),
                practice(example)
            ),
        ),
        (
            !example.same("context.agreement.organisation", "principal.organisation"),
            format!(
                "the agreement is with {} and not with {}",
                example.who("context.agreement.organisation", "organisation"),
                hospital(example)
            ),
        ),
        (
            !example.holds("context.agreement.purposes", "context.token.purpose"),
            format!("the agreement does not name {purpose}"),
        ),
        (
            !example.holds("context.agreement.categories", "resource.category"),
            format!("the agreement does not name {category}"),
        ),
        (
            is_early(example, "context.agreement.from"),
            "the agreement has not begun".to_owned(),
        ),
        (
            is_over(example, "context.agreement.until"),
            "the agreement is over".to_owned(),
        ),
        (
            !bare.is_empty(),
            format!("the agreement does not cover the label {}", bare.join(" ")),
        ),
        (
            labels.contains(&"unrecognised"),
            "the record carries a label that nobody knows".to_owned(),
        ),
        (
            is_opposed && !is_overridden,
            format!("{} objects to {purpose}", patient(example)),
        ),
    ])
}

fn wrong_reason(example: &Example) -> Vec<String> {
    let purpose = example.code("context.token.purpose");
    match purpose {
        "ETREAT" | "BTG" => those([
            (
                example.code("context.token.reason").is_empty(),
                "no reason was given for the emergency".to_owned(),
            ),
            (
                !example.is("context.token.acknowledged"),
                "nobody acknowledged that the emergency is reviewed".to_owned(),
            ),
            (
                example.has("context.token.reasonLength")
                    && example.number("context.token.reasonLength") < 20
                    && !SUMMARY.contains(&example.code("resource.category")),
                "nobody wrote down at length why more than the summary was needed".to_owned(),
            ),
            (
                !CLINICIANS.contains(&example.code("principal.role")),
                format!(
                    "{} is no clinician",
                    example.who("principal", "practitioner")
                ),
            ),
        ]),
        "TREAT" => wrong_relationship(example),
        "unserved" => vec!["no such purpose is served".to_owned()],
        purpose if SECONDARY.contains(&purpose) => wrong_secondary(example),
        _ => Vec::new(),
    }
}

fn wrong_secondary(example: &Example) -> Vec<String> {
    let (purpose, practice) = (example.code("context.token.purpose"), practice(example));
    let role = example.code("principal.role");
    let mut wrong = those([
        (
            role != "researcher",
            format!("{} is no researcher", example.who("principal", role)),
        ),
        (
            example.code("context.client.role") != "research",
            "the system that asks is not a research organisation's".to_owned(),
        ),
    ]);
    if !example.has("context.approval") {
        wrong.push(format!("{practice} approved no use for {purpose}"));
        return wrong;
    }
    wrong.extend(those([
        (
            !example.same("context.approval.practice", "resource.practice"),
            format!("the approval is another practice's and not {practice}'s"),
        ),
        (
            !example.same("context.approval.organisation", "principal.organisation"),
            format!("the approval is not for {}", hospital(example)),
        ),
        (
            !example.holds("context.approval.purposes", "context.token.purpose"),
            format!("the approval does not name {purpose}"),
        ),
        (
            !example.holds("context.approval.categories", "resource.category"),
            format!(
                "the approval does not name {}",
                example.code("resource.category")
            ),
        ),
        (
            is_early(example, "context.approval.from"),
            "the approval has not begun".to_owned(),
        ),
        (
            is_over(example, "context.approval.until"),
            "the approval is over".to_owned(),
        ),
    ]));
    wrong
}

fn wrong_approval(example: &Example) -> Vec<String> {
    let mut wrong = wrong_client(example, &["admin"]);
    wrong.extend(those([
        (
            example.same("context.person", "resource.person"),
            "the same person proposed it".to_owned(),
        ),
        (
            !example.same("context.deed", "resource.deed"),
            "another act was proposed".to_owned(),
        ),
        (
            !example.same("context.digest", "resource.digest"),
            "another content was proposed".to_owned(),
        ),
        (
            is_over(example, "resource.expires"),
            "the proposal's time is over".to_owned(),
        ),
        (
            example.is("resource.proposerSuspended"),
            "whoever proposed it has been stopped".to_owned(),
        ),
    ]));
    wrong
}

fn wrong_relationship(example: &Example) -> Vec<String> {
    let (patient, hospital) = (patient(example), hospital(example));
    if !example.has("context.relationship") {
        return vec![format!("{patient} has no relationship with {hospital}")];
    }
    those([
        (
            !example.has("context.token.claim"),
            "the token claims no relationship".to_owned(),
        ),
        (
            !example.same("context.relationship.patient", "resource.patient"),
            format!("the relationship is another patient's and not {patient}'s"),
        ),
        (
            !example.same(
                "context.relationship.organisation",
                "principal.organisation",
            ),
            format!("the relationship is with another organisation than {hospital}"),
        ),
        (
            example.has("context.token.claim")
                && !(example.same("context.relationship.kind", "context.token.claim.kind")
                    && example.same(
                        "context.relationship.reference",
                        "context.token.claim.reference",
                    )),
            "the relationship is not the one that the token claims".to_owned(),
        ),
        (
            is_early(example, "context.relationship.from"),
            "the relationship has not begun".to_owned(),
        ),
        (
            is_over(example, "context.relationship.until"),
            "the relationship is over".to_owned(),
        ),
        (
            !example.is("context.relationship.corroborated")
                && !example.is("context.agreement.acceptsAsserted"),
            format!("only {hospital} says that there is a relationship"),
        ),
    ])
}

fn wrong_client(example: &Example, roles: &[&str]) -> Vec<String> {
    let who = example.who("principal", "client");
    those([
        (
            !roles.contains(&example.code("principal.role")),
            format!("{who} is registered as {}", example.code("principal.role")),
        ),
        (
            example.is("principal.suspended"),
            format!("{who} is suspended"),
        ),
    ])
}

fn wrong_practice(example: &Example) -> Vec<String> {
    let (who, practice) = (example.who("principal", "client"), practice(example));
    let named = example.at("context.patient");
    let mut wrong = wrong_client(example, &["practice"]);
    wrong.extend(those([
        (
            !example.holds("principal.organisations", "resource.practice"),
            format!("{who} does not act for {practice}"),
        ),
        (
            !example.is("context.accepted"),
            format!("{practice} has not accepted {who}"),
        ),
        (
            !example.same("context.token.practice", "resource.practice"),
            format!("the token is not {practice}'s"),
        ),
        (
            !example.same("context.token.errand", "context.errand"),
            format!(
                "the token was made out for the errand {}, not {}",
                example.code("context.token.errand"),
                example.code("context.errand")
            ),
        ),
        (
            is_over(example, "context.token.expires"),
            "the token had expired".to_owned(),
        ),
        (
            example.has("context.token.patient") && example.at("context.token.patient") != named,
            "the token was made out for another patient".to_owned(),
        ),
        (
            !example.has("context.token.patient") && example.code("context.errand") == "consent",
            "the token names no patient whose decision it is".to_owned(),
        ),
    ]));
    wrong
}
