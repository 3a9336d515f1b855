//! OperationOutcome: what the gateway says in FHIR when it does not do what was asked. R4 and STU3 alike.
//!
//! A malformed request is told the member and the rule. A refusal by decision is one fixed text, whoever
//! asks and whatever for. No foreign text, no id and no reason of a decision ever stands in one.

use super::consent::ConsentError;
use super::deposit::{DepositError, Rule, Violation};
use super::json::JsonRule;
use super::query::QueryError;
use super::resource::MediaError;
use serde::Serialize;

/// What kind of trouble it is: FHIR's issue-type codes that R4 and STU3 share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueCode {
    /// The text is not FHIR JSON.
    Structure,
    /// A member breaks a rule.
    Invalid,
    /// A member has a value that is not allowed.
    Value,
    /// Something stands twice.
    Duplicate,
    /// Too large.
    TooLong,
    /// Not something this gateway does.
    NotSupported,
    /// Who asks is not known.
    Login,
    /// Refused by decision.
    Forbidden,
    /// No such route.
    NotFound,
    /// The state has changed meanwhile.
    Conflict,
    /// Too many requests.
    Throttled,
    /// Try again later.
    Transient,
    /// A fault of the gateway's own.
    Exception,
}

impl IssueCode {
    /// The code in `issue.code`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Structure => "structure",
            Self::Invalid => "invalid",
            Self::Value => "value",
            Self::Duplicate => "duplicate",
            Self::TooLong => "too-long",
            Self::NotSupported => "not-supported",
            Self::Login => "login",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Exception => "exception",
        }
    }
}

/// One issue, as an OperationOutcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationOutcome {
    code: IssueCode,
    text: String,
    expression: Option<String>,
}

impl OperationOutcome {
    /// An outcome with one error.
    #[must_use]
    pub fn error(code: IssueCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            expression: None,
        }
    }

    /// The one outcome of every refusal by decision.
    #[must_use]
    pub fn refused() -> Self {
        Self::error(IssueCode::Forbidden, "not permitted")
    }

    /// Says which member or parameter it is about.
    #[must_use]
    pub fn at(self, expression: impl Into<String>) -> Self {
        let expression = Some(expression.into()).filter(|text| !text.is_empty());
        Self { expression, ..self }
    }

    /// Its JSON; the same bytes for the same issue.
    #[must_use]
    pub fn to_json(&self) -> String {
        let expression = self.expression.as_deref().map(|path| [path]);
        let issue = Issue {
            severity: "error",
            code: self.code.code(),
            details: Details { text: &self.text },
            expression,
        };
        // Why the fallback is empty: writing texts cannot fail.
        serde_json::to_string(&Written {
            resource_type: "OperationOutcome",
            issue: [issue],
        })
        .unwrap_or_default()
    }
}

/// Why structs and not a map: the order of a map's members hangs on a feature of serde_json that any
/// dependency may turn on, and a refusal is the same byte for byte.
#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "resourceType")]
    resource_type: &'static str,
    issue: [Issue<'a>; 1],
}

#[derive(Serialize)]
struct Issue<'a> {
    severity: &'static str,
    code: &'static str,
    details: Details<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<[&'a str; 1]>,
}

#[derive(Serialize)]
struct Details<'a> {
    text: &'a str,
}

impl From<&Violation> for OperationOutcome {
    fn from(violation: &Violation) -> Self {
        let code = match violation.rule {
            Rule::DuplicateFullUrl | Rule::DuplicateName | Rule::TwoPatients => {
                IssueCode::Duplicate
            }
            Rule::BundleType | Rule::Conditional | Rule::Consent | Rule::NestedBundle => {
                IssueCode::NotSupported
            }
            Rule::NhsNumber | Rule::Id | Rule::Reference => IssueCode::Value,
            Rule::NotAnObject
            | Rule::ResourceType
            | Rule::OtherType
            | Rule::BundlePut
            | Rule::NotABundle
            | Rule::Entries
            | Rule::NoResource
            | Rule::Method
            | Rule::RequestUrl
            | Rule::OtherId
            | Rule::FullUrl
            | Rule::OtherPatient
            | Rule::Unlinked
            | Rule::TwoNumbers => IssueCode::Invalid,
        };
        Self::error(code, violation.rule.to_string()).at(&violation.path)
    }
}

impl From<&DepositError> for OperationOutcome {
    fn from(error: &DepositError) -> Self {
        match error {
            DepositError::Json(json) => {
                let code = if json.rule.is_size() {
                    IssueCode::TooLong
                } else if json.rule == JsonRule::Duplicate {
                    IssueCode::Duplicate
                } else {
                    IssueCode::Structure
                };
                Self::error(
                    code,
                    format!("line {}, column {}: {}", json.line, json.column, json.rule),
                )
                .at(&json.path)
            }
            DepositError::Invalid(violation) => violation.into(),
        }
    }
}

impl From<&QueryError> for OperationOutcome {
    fn from(error: &QueryError) -> Self {
        Self::error(IssueCode::Invalid, error.rule.to_string()).at(&error.parameter)
    }
}

impl From<&ConsentError> for OperationOutcome {
    fn from(error: &ConsentError) -> Self {
        match error {
            ConsentError::Body(error) => error.into(),
            ConsentError::Unreadable { path, rule } => {
                Self::error(IssueCode::NotSupported, rule.to_string()).at(*path)
            }
        }
    }
}

impl From<MediaError> for OperationOutcome {
    fn from(error: MediaError) -> Self {
        Self::error(IssueCode::NotSupported, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn an_outcome_names_member_and_rule() {
        let outcome: OperationOutcome =
            (&Violation::new("Bundle.entry[3].fullUrl", Rule::DuplicateFullUrl)).into();
        assert_eq!(
            outcome.to_json(),
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"duplicate","details":{"text":"a fullUrl stands once in a Bundle"},"expression":["Bundle.entry[3].fullUrl"]}]}"#
        );
    }

    #[test]
    fn a_refusal_is_one_text() {
        assert_eq!(
            OperationOutcome::refused().to_json(),
            r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"forbidden","details":{"text":"not permitted"}}]}"#
        );
    }
}
