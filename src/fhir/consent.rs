//! A Consent that says no: which purposes a patient objects to.
//!
//! An objection is never narrowed and never guessed at. A Consent that says more than "not for these
//! purposes" (exceptions, periods, single organisations, single kinds of data) is refused loudly, so that
//! the practice knows that it was not taken; nothing is ever half taken.

use super::deposit::{DepositError, Violation};
use super::json::{Document, Value};
use super::resource::{FhirId, FhirVersion};
use super::subject::{self, Subject};
use bytes::Bytes;
use policy::words::Purpose;
use std::collections::BTreeSet;

/// What a patient objects to, as a practice passes it on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The Consent's own id, where it has one.
    pub id: Option<FhirId>,
    /// Who objects.
    pub patient: Subject,
    /// To which purposes: explicit, never empty.
    pub purposes: BTreeSet<Purpose>,
    /// Whether the objection stands; a withdrawn one does not.
    pub active: bool,
}

/// A rule of objections; its `Display` is the rule in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each rule stands in its message")]
pub enum ConsentRule {
    #[error("the body is one Consent")]
    NotAConsent,
    #[error("status is active, inactive or entered-in-error")]
    Status,
    #[error("the scope of an objection is patient-privacy")]
    Scope,
    #[error(
        "an objection denies: provision.type deny or policyRule OPTOUT (R4), except.type deny or policyRule opt-out (STU3)"
    )]
    NotAnObjection,
    #[error("an objection has no exceptions")]
    Exception,
    #[error("an objection here is to purposes alone; this member would narrow it")]
    Narrowed,
    #[error("a purpose is an HL7 PurposeOfUse code (system v3-ActReason)")]
    Purpose,
    #[error("an objection names its patient")]
    Patient,
}

/// A body that is no objection we can keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// Not JSON, or not about one patient.
    #[error(transparent)]
    Body(#[from] DepositError),
    /// A Consent that says something else than an objection to purposes.
    #[error("{path}: {rule}")]
    Unreadable {
        /// The member.
        path: &'static str,
        /// The rule.
        rule: ConsentRule,
    },
}

impl ConsentError {
    /// The HTTP status that says so.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Body(error) => error.status(),
            Self::Unreadable { .. } => 422,
        }
    }
}

impl From<Violation> for ConsentError {
    fn from(violation: Violation) -> Self {
        Self::Body(violation.into())
    }
}

const ACT_REASON: [&str; 3] = [
    "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "http://hl7.org/fhir/v3/ActReason",
    "urn:oid:2.16.840.1.113883.5.8",
];

/// Reads a Consent by which a patient objects.
///
/// # Errors
/// Anything that is not plainly an objection to purposes; [`ConsentError::status`] says 400, 413 or 422.
pub fn read_consent(body: &Bytes, version: FhirVersion) -> Result<Objection, ConsentError> {
    let document = Document::parse(body).map_err(DepositError::from)?;
    let root = document.root();
    let id = match root.get("id") {
        None => None,
        Some(id) => Some(
            FhirId::try_from(id.text().unwrap_or_default().as_ref())
                .map_err(|_| Violation::new("Consent.id", super::deposit::Rule::Id))?,
        ),
    };
    if root.text_at("resourceType").as_deref() != Some("Consent") {
        return unreadable("resourceType", ConsentRule::NotAConsent);
    }
    let active = match root.text_at("status").as_deref() {
        Some("active") => true,
        Some("inactive" | "entered-in-error") => false,
        _ => return unreadable("Consent.status", ConsentRule::Status),
    };
    let purposes = match version {
        FhirVersion::R4 => r4(root)?,
        FhirVersion::Stu3 => stu3(root)?,
    };
    let patient = subject::settle(None, &subject::claims(root, "Consent")?)?;
    if patient == Subject::Unnamed {
        return unreadable("Consent.patient", ConsentRule::Patient);
    }
    Ok(Objection {
        id,
        patient,
        purposes,
        active,
    })
}

fn unreadable<T>(path: &'static str, rule: ConsentRule) -> Result<T, ConsentError> {
    Err(ConsentError::Unreadable { path, rule })
}

fn r4(root: Value<'_>) -> Result<BTreeSet<Purpose>, ConsentError> {
    if let Some(scope) = root.get("scope")
        && !has_code(scope, "patient-privacy")
    {
        return unreadable("Consent.scope", ConsentRule::Scope);
    }
    let is_opt_out = root
        .get("policyRule")
        .is_some_and(|rule| has_code(rule, "OPTOUT"));
    let Some(provision) = root.get("provision") else {
        return if is_opt_out {
            Ok(all())
        } else {
            unreadable("Consent.provision", ConsentRule::NotAnObjection)
        };
    };
    if provision.text_at("type").as_deref() != Some("deny") {
        return unreadable("Consent.provision.type", ConsentRule::NotAnObjection);
    }
    for (name, _) in provision.members() {
        match name.as_ref() {
            "type" | "purpose" | "id" => {}
            "provision" => {
                return unreadable("Consent.provision.provision", ConsentRule::Exception);
            }
            _ => return unreadable("Consent.provision", ConsentRule::Narrowed),
        }
    }
    let denied = purposes(provision.get("purpose"), "Consent.provision.purpose")?;
    // Why: who opts out of everything and then names a purpose has still opted out of everything.
    Ok(if is_opt_out { all() } else { denied })
}

fn stu3(root: Value<'_>) -> Result<BTreeSet<Purpose>, ConsentError> {
    if [
        "period",
        "actor",
        "action",
        "securityLabel",
        "dataPeriod",
        "data",
    ]
    .iter()
    .any(|name| root.get(name).is_some())
    {
        return unreadable("Consent", ConsentRule::Narrowed);
    }
    let is_opt_out = root
        .text_at("policyRule")
        .is_some_and(|rule| rule.ends_with("/opt-out"));
    let excepts: Vec<_> = root
        .get("except")
        .into_iter()
        .flat_map(Value::each)
        .collect();
    if excepts.is_empty() {
        return if is_opt_out {
            purposes(root.get("purpose"), "Consent.purpose")
        } else {
            unreadable("Consent.policyRule", ConsentRule::NotAnObjection)
        };
    }
    let mut denied = BTreeSet::new();
    for except in excepts {
        if except.text_at("type").as_deref() != Some("deny") {
            return unreadable(
                "Consent.except.type",
                if is_opt_out {
                    ConsentRule::Exception
                } else {
                    ConsentRule::NotAnObjection
                },
            );
        }
        if except
            .members()
            .any(|(name, _)| !matches!(name.as_ref(), "type" | "purpose" | "id"))
        {
            return unreadable("Consent.except", ConsentRule::Narrowed);
        }
        denied.extend(purposes(except.get("purpose"), "Consent.except.purpose")?);
    }
    Ok(if is_opt_out { all() } else { denied })
}

fn all() -> BTreeSet<Purpose> {
    Purpose::NAMED.into_iter().collect()
}

fn has_code(concept: Value<'_>, code: &str) -> bool {
    concept
        .get("coding")
        .into_iter()
        .flat_map(Value::each)
        .any(|coding| coding.text_at("code").as_deref() == Some(code))
}

/// The purposes that are named; all of them where none is.
fn purposes(
    codings: Option<Value<'_>>,
    path: &'static str,
) -> Result<BTreeSet<Purpose>, ConsentError> {
    let mut named = BTreeSet::new();
    for coding in codings.into_iter().flat_map(Value::each) {
        let system = coding.text_at("system").unwrap_or_default();
        let code = coding.text_at("code").unwrap_or_default();
        match Purpose::parse(&code) {
            Ok(_) if code == "PurposeOfUse" && ACT_REASON.contains(&system.as_ref()) => {
                return Ok(all());
            }
            Ok(purpose) if ACT_REASON.contains(&system.as_ref()) => drop(named.insert(purpose)),
            _ => return unreadable(path, ConsentRule::Purpose),
        }
    }
    Ok(if named.is_empty() { all() } else { named })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]
    use super::*;

    const PATIENT: &str = r#""patient":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}}"#;

    fn read(version: FhirVersion, members: &str) -> Result<Objection, ConsentError> {
        read_consent(
            &Bytes::from(format!(
                r#"{{"resourceType":"Consent","status":"active",{PATIENT}{members}}}"#
            )),
            version,
        )
    }

    fn rule(version: FhirVersion, members: &str) -> ConsentRule {
        match read(version, members).unwrap_err() {
            ConsentError::Unreadable { rule, .. } => rule,
            ConsentError::Body(error) => panic!("{error}"),
        }
    }

    fn reason(code: &str) -> String {
        format!(
            r#"{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":"{code}"}}"#
        )
    }

    #[test]
    fn r4_objections() {
        let some = read(
            FhirVersion::R4,
            &format!(
                r#","id":"o1","provision":{{"type":"deny","purpose":[{},{}]}}"#,
                reason("HRESCH"),
                reason("HMARKT")
            ),
        )
        .unwrap();
        assert_eq!(
            some.purposes,
            BTreeSet::from([Purpose::Hresch, Purpose::parse("HMARKT").unwrap()])
        );
        assert!(some.active);
        assert_eq!(some.id.unwrap().as_str(), "o1");
        assert_eq!(
            some.patient,
            Subject::Number("9990000018".try_into().unwrap())
        );
        for everything in [
            r#","provision":{"type":"deny"}"#.to_owned(),
            r#","policyRule":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"OPTOUT"}]}"#.to_owned(),
            format!(r#","provision":{{"type":"deny","purpose":[{}]}}"#, reason("PurposeOfUse")),
        ] {
            assert_eq!(read(FhirVersion::R4, &everything).unwrap().purposes.len(), 6, "{everything}");
        }
    }

    #[test]
    fn a_withdrawn_objection_is_not_active() {
        let body = Bytes::from(format!(
            r#"{{"resourceType":"Consent","status":"inactive",{PATIENT},"provision":{{"type":"deny"}}}}"#
        ));
        assert!(!read_consent(&body, FhirVersion::R4).unwrap().active);
        let draft = Bytes::from(format!(
            r#"{{"resourceType":"Consent","status":"draft",{PATIENT},"provision":{{"type":"deny"}}}}"#
        ));
        assert!(read_consent(&draft, FhirVersion::R4).is_err());
    }

    #[test]
    fn what_is_not_plainly_an_objection_is_refused() {
        let r4 = |members: &str| rule(FhirVersion::R4, members);
        assert_eq!(r4(""), ConsentRule::NotAnObjection);
        assert_eq!(
            r4(r#","provision":{"type":"permit"}"#),
            ConsentRule::NotAnObjection
        );
        assert_eq!(
            r4(r#","provision":{"type":"deny","provision":[{"type":"permit"}]}"#),
            ConsentRule::Exception
        );
        assert_eq!(
            r4(r#","provision":{"type":"deny","period":{"end":"2030"}}"#),
            ConsentRule::Narrowed
        );
        assert_eq!(
            r4(r#","provision":{"type":"deny","purpose":[{"code":"TREAT"}]}"#),
            ConsentRule::Purpose
        );
        assert_eq!(
            r4(r#","scope":{"coding":[{"code":"research"}]},"provision":{"type":"deny"}"#),
            ConsentRule::Scope
        );
        let nobody = Bytes::from_static(
            br#"{"resourceType":"Consent","status":"active","provision":{"type":"deny"}}"#,
        );
        assert!(
            read_consent(&nobody, FhirVersion::R4)
                .unwrap_err()
                .to_string()
                .contains("names its patient")
        );
    }

    #[test]
    fn stu3_objections() {
        let opt_out = r#","policyRule":"http://hl7.org/fhir/ConsentPolicy/opt-out""#;
        assert_eq!(read(FhirVersion::Stu3, opt_out).unwrap().purposes.len(), 6);
        let denied = format!(
            r#","policyRule":"http://hl7.org/fhir/ConsentPolicy/opt-in","except":[{{"type":"deny","purpose":[{}]}}]"#,
            reason("PUBHLTH")
        );
        assert_eq!(
            read(FhirVersion::Stu3, &denied).unwrap().purposes,
            BTreeSet::from([Purpose::Pubhlth])
        );
        assert_eq!(
            rule(
                FhirVersion::Stu3,
                &format!(r#"{opt_out},"except":[{{"type":"permit"}}]"#)
            ),
            ConsentRule::Exception
        );
        assert_eq!(
            rule(
                FhirVersion::Stu3,
                r#","policyRule":"http://hl7.org/fhir/ConsentPolicy/opt-in""#
            ),
            ConsentRule::NotAnObjection
        );
        assert_eq!(
            rule(FhirVersion::Stu3, &format!(r#"{opt_out},"actor":[]"#)),
            ConsentRule::Narrowed
        );
    }
}
