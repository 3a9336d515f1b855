//! A resource that says who cares for a patient: a referral, an encounter, an appointment or an episode of care.
//!
//! Read are the patient, the organisation, the status and the period, and nothing else. What is not plainly open
//! is closed, and what has no end is given one: a relationship that nobody ended must not last for ever.

use super::deposit::{DepositError, Violation};
use super::json::{Document, Value};
use super::moment::Moment;
use super::resource::{FhirId, Name};
use super::subject::{self, Subject};
use bytes::Bytes;
use policy::words::{NhsNumber, Ods, RelationKind};

const DAY_MS: u64 = 86_400_000;

/// The identifier systems of an ODS code: today's, and the one before.
const ODS_SYSTEMS: [&str; 2] = [
    "https://fhir.nhs.uk/Id/ods-organization-code",
    "http://fhir.nhs.net/Id/ods-organization-code",
];

/// Who is said to care for whom, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// What it is in a token's claim.
    pub kind: RelationKind,
    /// The patient.
    pub patient: Subject,
    /// The organisation that cares, where the resource says which.
    pub organisation: Option<Ods>,
    /// Whether it goes on; what has ended ends now.
    pub open: bool,
    /// When it began, where the resource says so.
    pub from_ms: Option<u64>,
    /// When it ends, where the resource says so.
    pub until_ms: Option<u64>,
}

/// A rule of such resources; its `Display` is the rule in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each rule stands in its message")]
pub enum RelationRule {
    #[error(
        "who cares for a patient is said by a ServiceRequest, ReferralRequest, Encounter, Appointment or EpisodeOfCare"
    )]
    Kind,
    #[error("the id and type are the ones in the URL")]
    OtherName,
    #[error("a status is needed, of those that FHIR lists")]
    Status,
    #[error("exactly one organisation is named, by its ODS code")]
    Organisation,
    #[error("a period begins before it ends, and is written as FHIR writes dates")]
    Period,
}

/// A body from which nobody can tell who cares for whom.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelationError {
    /// Not JSON, or not about one patient.
    #[error(transparent)]
    Body(#[from] DepositError),
    /// Something else than a relationship.
    #[error("{path}: {rule}")]
    Unreadable {
        /// The member.
        path: &'static str,
        /// The rule.
        rule: RelationRule,
    },
}

impl RelationError {
    /// The HTTP status that says so.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Body(error) => error.status(),
            Self::Unreadable { .. } => 422,
        }
    }
}

impl From<Violation> for RelationError {
    fn from(violation: Violation) -> Self {
        Self::Body(violation.into())
    }
}

/// Where a type of resource says what is read of it.
struct Shape {
    kind: RelationKind,
    /// The member that names the organisation; an Appointment names it among its participants.
    organisation: &'static str,
    /// The member that says from when to when.
    period: Option<&'static str>,
    open: &'static [&'static str],
    closed: &'static [&'static str],
    /// How long it lasts where it says no end, days.
    days: u64,
}

fn shape(kind: &str) -> Option<Shape> {
    let request = |organisation| Shape {
        kind: RelationKind::Referral,
        organisation,
        period: None,
        open: &["active"],
        closed: &[
            "draft",
            "on-hold",
            "revoked",
            "suspended",
            "cancelled",
            "completed",
            "entered-in-error",
            "unknown",
        ],
        days: 180,
    };
    Some(match kind {
        "ServiceRequest" => request("performer"),
        "ReferralRequest" => request("recipient"),
        "Encounter" => Shape {
            kind: RelationKind::Encounter,
            organisation: "serviceProvider",
            period: Some("period"),
            open: &["arrived", "triaged", "in-progress", "onleave"],
            closed: &[
                "planned",
                "finished",
                "cancelled",
                "entered-in-error",
                "unknown",
            ],
            days: 30,
        },
        "Appointment" => Shape {
            kind: RelationKind::Appointment,
            organisation: "participant",
            period: None,
            open: &["booked", "arrived", "checked-in", "fulfilled"],
            closed: &[
                "proposed",
                "pending",
                "cancelled",
                "noshow",
                "entered-in-error",
                "waitlist",
            ],
            days: 30,
        },
        "EpisodeOfCare" => Shape {
            kind: RelationKind::Registration,
            organisation: "managingOrganization",
            period: Some("period"),
            open: &["active"],
            closed: &[
                "planned",
                "waitlist",
                "onhold",
                "finished",
                "cancelled",
                "entered-in-error",
            ],
            days: 365,
        },
        _ => return None,
    })
}

/// The kind of relationship that resources of this type say.
#[must_use]
pub fn kind_of(kind: &str) -> Option<RelationKind> {
    shape(kind).map(|shape| shape.kind)
}

/// How long a relationship that a resource of this type says lasts where it says no end, milliseconds.
#[must_use]
pub fn lasting_ms(kind: &str) -> u64 {
    shape(kind).map_or(0, |shape| shape.days * DAY_MS)
}

/// Reads a resource that says who cares for a patient.
///
/// # Errors
/// Anything from which that cannot plainly be told; [`RelationError::status`] says 400, 413 or 422.
pub fn read_relation(body: &Bytes, name: &Name) -> Result<Relation, RelationError> {
    let Some(shape) = shape(name.kind.as_str()) else {
        return unreadable("resourceType", RelationRule::Kind);
    };
    let document = Document::parse(body).map_err(DepositError::from)?;
    let root = document.root();
    if root.text_at("resourceType").as_deref() != Some(name.kind.as_str()) {
        return unreadable("resourceType", RelationRule::OtherName);
    }
    let id = root.text_at("id");
    if id.is_some_and(|id| FhirId::try_from(id.as_ref()).ok().as_ref() != Some(&name.id)) {
        return unreadable("id", RelationRule::OtherName);
    }
    let status = root.text_at("status").unwrap_or_default();
    let open = shape.open.contains(&status.as_ref());
    if !open && !shape.closed.contains(&status.as_ref()) {
        return unreadable("status", RelationRule::Status);
    }
    let is_appointment = name.kind.is("Appointment");
    let patient = if is_appointment {
        attending(root)?
    } else {
        subject::settle(None, &subject::claims(root, name.kind.as_str())?)?
    };
    let holders: Vec<Value<'_>> = root
        .get(shape.organisation)
        .into_iter()
        .flat_map(Value::each)
        .filter_map(|value| {
            if is_appointment {
                value.get("actor")
            } else {
                Some(value)
            }
        })
        .collect();
    let (from_ms, until_ms) = match shape.period {
        Some(period) => match root.get(period) {
            None => (None, None),
            Some(period) => between(period)?,
        },
        None if is_appointment => between(root)?,
        None => (None, None),
    };
    // Why not the end of an appointment: what was found at it is written up in the days after.
    let until_ms = until_ms.filter(|_| !is_appointment);
    Ok(Relation {
        kind: shape.kind,
        patient,
        organisation: organisation(&holders)?,
        open,
        from_ms,
        until_ms,
    })
}

fn unreadable<T>(path: &'static str, rule: RelationRule) -> Result<T, RelationError> {
    Err(RelationError::Unreadable { path, rule })
}

/// The patient among an appointment's participants.
fn attending(root: Value<'_>) -> Result<Subject, RelationError> {
    let mut found: Option<NhsNumber> = None;
    let actors = root.get("participant").into_iter().flat_map(Value::each);
    for identifier in actors.filter_map(|it| it.get("actor")?.get("identifier")) {
        let number = subject::nhs_number(identifier, "participant.actor.identifier")?;
        match (&found, number) {
            (Some(one), Some(other)) if *one != other => {
                let path = "participant.actor.identifier";
                return Err(Violation::new(path, super::deposit::Rule::OtherPatient).into());
            }
            (_, Some(number)) => found = Some(number),
            (_, None) => {}
        }
    }
    Ok(found.map_or(Subject::Unnamed, Subject::Number))
}

/// The one ODS code among these references; `None` where there is none.
fn organisation(references: &[Value<'_>]) -> Result<Option<Ods>, RelationError> {
    let mut found: Option<Ods> = None;
    let identifiers = references
        .iter()
        .filter_map(|reference| reference.get("identifier"))
        .flat_map(Value::each);
    for identifier in identifiers {
        let system = identifier.text_at("system").unwrap_or_default();
        if !ODS_SYSTEMS.contains(&system.as_ref()) {
            continue;
        }
        let code = identifier.text_at("value").unwrap_or_default();
        match Ods::try_from(code.as_ref()) {
            Ok(code) if found.as_ref().is_none_or(|other| *other == code) => found = Some(code),
            Ok(_) | Err(_) => return unreadable("identifier", RelationRule::Organisation),
        }
    }
    Ok(found)
}

type Times = (Option<u64>, Option<u64>);

/// `start` and `end` of a period.
fn between(period: Value<'_>) -> Result<Times, RelationError> {
    let moment = |name: &str| match period.text_at(name) {
        None => Ok(None),
        Some(text) => match Moment::parse(&text) {
            Some(moment) => Ok(Some(moment)),
            None => unreadable("period", RelationRule::Period),
        },
    };
    let after_1970 = |ms: i64| u64::try_from(ms).unwrap_or(0);
    let start = moment("start")?.map(|start| after_1970(start.start_utc_ms()));
    let end = moment("end")?.map(|end| after_1970(end.end_utc_ms()));
    if start.zip(end).is_some_and(|(start, end)| start >= end) {
        return unreadable("period", RelationRule::Period);
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]
    use super::*;

    const PATIENT: &str =
        r#"{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}}"#;
    const RJ1: &str =
        r#"{"identifier":{"system":"https://fhir.nhs.uk/Id/ods-organization-code","value":"RJ1"}}"#;

    fn read(kind: &str, members: &str) -> Result<Relation, RelationError> {
        let name = Name {
            kind: kind.try_into().unwrap(),
            id: "r-1".try_into().unwrap(),
        };
        let body = format!(r#"{{"resourceType":"{kind}","id":"r-1",{members}}}"#);
        read_relation(&Bytes::from(body), &name)
    }

    #[test]
    fn each_type_says_it_in_its_own_members() {
        for (kind, members, relation) in [
            (
                "ServiceRequest",
                format!(r#""status":"active","subject":{PATIENT},"performer":[{RJ1}]"#),
                RelationKind::Referral,
            ),
            (
                "ReferralRequest",
                format!(r#""status":"active","subject":{PATIENT},"recipient":[{RJ1}]"#),
                RelationKind::Referral,
            ),
            (
                "Encounter",
                format!(r#""status":"in-progress","subject":{PATIENT},"serviceProvider":{RJ1}"#),
                RelationKind::Encounter,
            ),
            (
                "Appointment",
                format!(
                    r#""status":"booked","participant":[{{"actor":{PATIENT}}},{{"actor":{RJ1}}}]"#
                ),
                RelationKind::Appointment,
            ),
            (
                "EpisodeOfCare",
                format!(r#""status":"active","patient":{PATIENT},"managingOrganization":{RJ1}"#),
                RelationKind::Registration,
            ),
        ] {
            let found = read(kind, &members).unwrap();
            assert_eq!(found.kind, relation);
            assert!(found.open, "{kind}");
            assert_eq!(
                found.organisation,
                Some(Ods::try_from("RJ1").unwrap()),
                "{kind}"
            );
            let number = NhsNumber::try_from("9990000018").unwrap();
            assert_eq!(found.patient, Subject::Number(number), "{kind}");
            assert!(lasting_ms(kind) > 0);
        }
    }

    #[test]
    fn what_is_over_or_was_never_is_closed_and_no_status_is_no_relationship() {
        let encounter = |status: &str| {
            read(
                "Encounter",
                &format!(r#""status":"{status}","subject":{PATIENT}"#),
            )
        };
        for status in ["finished", "cancelled", "entered-in-error", "planned"] {
            assert!(!encounter(status).unwrap().open, "{status}");
        }
        for status in ["", "open", "In-Progress"] {
            let error = encounter(status).unwrap_err();
            assert_eq!(error.status(), 422, "{status}");
        }
    }

    #[test]
    fn times_and_organisations_that_do_not_fit_are_refused() {
        let with = |members: &str| {
            read(
                "Encounter",
                &format!(r#""status":"in-progress","subject":{PATIENT},{members}"#),
            )
        };
        let period = with(r#""period":{"start":"2026-01-01","end":"2026-01-02"}"#).unwrap();
        assert_eq!(
            period.until_ms.unwrap() - period.from_ms.unwrap(),
            2 * DAY_MS
        );
        for wrong in [
            r#""period":{"start":"yesterday"}"#.to_owned(),
            r#""period":{"start":"2026-01-02","end":"2026-01-01"}"#.to_owned(),
            format!(r#""serviceProvider":[{RJ1},{}]"#, RJ1.replace("RJ1", "RM3")),
            format!(r#""serviceProvider":{}"#, RJ1.replace("RJ1", "the NHS")),
        ] {
            assert_eq!(with(&wrong).unwrap_err().status(), 422, "{wrong}");
        }
        assert!(
            with(r#""serviceProvider":{"display":"Somewhere"}"#)
                .unwrap()
                .organisation
                .is_none()
        );
        assert_eq!(read("Observation", "").unwrap_err().status(), 422);
    }
}
