//! What a connector says when it does not do what it was asked: an OperationOutcome, always, in words that tell local
//! software whose move it is. Never here: a patient's number, or what a refusal does not tell.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::kept::NotKept;
use crate::connect::{HttpError, OpenError};
use crate::fhir::outcome::{IssueCode, OperationOutcome};

/// The number of the ledger's entry behind an answer.
pub(super) static ENTRY: HeaderName = HeaderName::from_static("sallyport-entry");
const FHIR: &str = "application/fhir+json; fhirVersion=4.0; charset=utf-8";

/// Why there is no record.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The request breaks a rule; it names which.
    Request(StatusCode, IssueCode, String),
    /// The gateway refused, and its ledger says so in this entry.
    Refused(u64),
    /// The gateway answered otherwise: with a problem, or busy.
    Gateway(StatusCode, String, Option<String>),
    /// The gateway did not answer.
    NoAnswer(String),
    /// What came does not hold: nothing of it is given out.
    Broken(String),
    /// This machine cannot do its part.
    Own(String),
}

impl Trouble {
    /// For a person who reads a log or a file of reasons.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Request(_, _, text)
            | Self::NoAnswer(text)
            | Self::Broken(text)
            | Self::Own(text) => text.clone(),
            Self::Refused(entry) => {
                format!("The gateway refused, and recorded it as entry {entry} of its ledger.")
            }
            Self::Gateway(status, text, _) => format!("The gateway answered {status}: {text}"),
        }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::Request(StatusCode::BAD_REQUEST, IssueCode::Invalid, text.into())
    }
}

impl From<HttpError> for Trouble {
    fn from(error: HttpError) -> Self {
        Self::NoAnswer(error.to_string())
    }
}

impl From<OpenError> for Trouble {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Http(error) => error.into(),
            OpenError::Status { status, text } => Self::Gateway(status, text, None),
            OpenError::Broken(text) => Self::Broken(text),
        }
    }
}

impl From<NotKept> for Trouble {
    fn from(error: NotKept) -> Self {
        Self::Own(error.to_string())
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        match self {
            Self::Request(status, code, text) => outcome(status, code, &text),
            Self::Refused(entry) => {
                let text = format!(
                    "Not permitted. The gateway decided so and recorded it as entry {entry} of its ledger; the reason is for its auditors."
                );
                let response = outcome(StatusCode::FORBIDDEN, IssueCode::Forbidden, &text);
                with(response, ENTRY.clone(), &entry.to_string())
            }
            Self::Gateway(status, text, wait) => {
                let (status, code) = passed_on(status);
                let response = outcome(status, code, &format!("the gateway: {text}"));
                match wait {
                    Some(wait) => with(response, RETRY_AFTER, &wait),
                    None => response,
                }
            }
            Self::NoAnswer(text) => {
                let text = format!("the gateway gave {text}");
                let response = outcome(StatusCode::BAD_GATEWAY, IssueCode::Transient, &text);
                with(response, RETRY_AFTER, "5")
            }
            Self::Broken(text) => {
                let text = format!(
                    "the gateway's answer does not hold, and nothing of it is given out: {text}"
                );
                tracing::error!(text, "an answer was turned away");
                outcome(StatusCode::BAD_GATEWAY, IssueCode::Exception, &text)
            }
            Self::Own(text) => {
                outcome(StatusCode::SERVICE_UNAVAILABLE, IssueCode::Exception, &text)
            }
        }
    }
}

/// What the gateway's status means to local software: its own mistakes stay its own, the connector's become 502.
fn passed_on(status: StatusCode) -> (StatusCode, IssueCode) {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => {
            (StatusCode::BAD_REQUEST, IssueCode::Invalid)
        }
        StatusCode::TOO_MANY_REQUESTS => (status, IssueCode::Throttled),
        StatusCode::SERVICE_UNAVAILABLE => (status, IssueCode::Transient),
        _ => (StatusCode::BAD_GATEWAY, IssueCode::Exception),
    }
}

/// An OperationOutcome with one issue.
pub(super) fn outcome(status: StatusCode, code: IssueCode, text: &str) -> Response {
    let body = OperationOutcome::error(code, text).to_json();
    let response = fhir(status, FHIR, body.into());
    match status {
        StatusCode::UNAUTHORIZED => with(response, WWW_AUTHENTICATE, "Bearer"),
        _ => response,
    }
}

/// FHIR JSON that no cache may keep.
pub(super) fn fhir(status: StatusCode, media_type: &str, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_str(media_type);
    headers.insert(
        CONTENT_TYPE,
        media_type.unwrap_or(HeaderValue::from_static(FHIR)),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Adds one header whose value is visible ASCII.
pub(super) fn with(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}
