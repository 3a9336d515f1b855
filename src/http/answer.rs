//! The only place where a value becomes a response. Outsiders see few problems, in few words: every refusal
//! by decision is one text, whoever asked and whatever exists.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::facts::FactsError;
use crate::gateway::Fault;
use crate::ledger::{Open, Receipt, RecordError};
use crate::store::StoreError;
use crate::token::Issued;
use crate::vault::{ChangeError, FilingError, Release, RotationError, VaultError};

/// Carries the receipt, base64url, on every answer that carries a decision.
pub(super) static RECEIPT: HeaderName = HeaderName::from_static("sallyport-receipt");
/// What a refused caller of the FHIR side gets, always.
const REFUSED: &str = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"forbidden","details":{"text":"Not permitted."}}]}"#;
/// What a refused caller of the token endpoint gets, always.
const ACCESS_DENIED: &str = r#"{"error":"access_denied","error_description":"not permitted"}"#;
/// Stands in every permitted answer, whether or not anything was withheld.
const NOTICE: &str = "Items may have been withheld.";
const FHIR: &str = "application/fhir+json; charset=utf-8";
const JSON: &str = "application/json";

/// What can be wrong, as the outside sees it.
pub(super) enum Problem {
    /// The request itself breaks a rule; it names its own member and the rule.
    Malformed {
        /// 400, 404, 405, 406, 409, 413, 415 or 422.
        status: StatusCode,
        /// FHIR issue type, or OAuth error code.
        code: &'static str,
        /// Which member breaks which rule.
        text: String,
    },
    /// Nobody is known to be asking.
    NotAuthenticated(&'static str),
    /// Refused by decision, and recorded.
    Refused(Receipt),
    /// Refused by decision and recorded, because too many emergencies were declared; in so many seconds one may be.
    Capped(Receipt, u64),
    /// Over the client's budget.
    Spent,
    /// Try again later: nothing was released.
    Unavailable(&'static str),
    /// Something of ours is broken.
    Internal,
}

impl Problem {
    /// A request that breaks a rule of its own form.
    pub(super) fn malformed(
        status: StatusCode,
        code: &'static str,
        text: impl Into<String>,
    ) -> Self {
        Self::Malformed {
            status,
            code,
            text: text.into(),
        }
    }

    /// As the side says it that this path is on.
    #[must_use]
    pub(super) fn said_at(self, path: &str) -> Response {
        if super::is_fhir(path) {
            self.fhir()
        } else {
            self.oauth()
        }
    }

    /// As the FHIR side says it: an OperationOutcome.
    #[must_use]
    pub(super) fn fhir(self) -> Response {
        let (status, code, text) = match self {
            Self::Refused(receipt) => {
                let response = text_response(StatusCode::FORBIDDEN, FHIR, REFUSED);
                return with_receipt(response, &receipt, Open::ActorOnly);
            }
            Self::NotAuthenticated(text) => {
                let response =
                    text_response(StatusCode::UNAUTHORIZED, FHIR, &outcome("login", text));
                return with_header(response, WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"");
            }
            Self::Malformed { status, code, text } => (status, code, text),
            Self::Capped(receipt, wait_s) => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                let response = text_response(status, FHIR, &outcome("throttled", CAPPED));
                return with_header(
                    with_receipt(response, &receipt, Open::ActorOnly),
                    RETRY_AFTER,
                    &wait_s.to_string(),
                );
            }
            Self::Spent => (StatusCode::TOO_MANY_REQUESTS, "throttled", SPENT.to_owned()),
            Self::Unavailable(text) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "transient",
                text.to_owned(),
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "exception",
                INTERNAL.to_owned(),
            ),
        };
        retry(text_response(status, FHIR, &outcome(code, &text)), status)
    }

    /// As a JSON side says it to a caller that brings a token, or should (RFC 6750 §3).
    #[must_use]
    pub(super) fn bearer(self) -> Response {
        match self {
            Self::NotAuthenticated(text) => {
                let body = json!({ "error": "invalid_token", "error_description": text });
                let response = text_response(StatusCode::UNAUTHORIZED, JSON, &body.to_string());
                with_header(response, WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
            }
            other => other.oauth(),
        }
    }

    /// As the token endpoint and the other JSON sides say it (RFC 6749 §5.2).
    #[must_use]
    pub(super) fn oauth(self) -> Response {
        let (status, code, text) = match self {
            Self::Refused(receipt) => {
                let response = text_response(StatusCode::FORBIDDEN, JSON, ACCESS_DENIED);
                return with_receipt(response, &receipt, Open::ActorOnly);
            }
            Self::NotAuthenticated(text) => {
                (StatusCode::UNAUTHORIZED, "invalid_client", text.to_owned())
            }
            Self::Malformed { status, code, text } => (status, code, text),
            Self::Capped(receipt, wait_s) => {
                let body =
                    json!({ "error": "temporarily_unavailable", "error_description": CAPPED });
                let status = StatusCode::TOO_MANY_REQUESTS;
                let response = text_response(status, JSON, &body.to_string());
                return with_header(
                    with_receipt(response, &receipt, Open::ActorOnly),
                    RETRY_AFTER,
                    &wait_s.to_string(),
                );
            }
            Self::Spent => (
                StatusCode::TOO_MANY_REQUESTS,
                "temporarily_unavailable",
                SPENT.to_owned(),
            ),
            Self::Unavailable(text) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                text.to_owned(),
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                INTERNAL.to_owned(),
            ),
        };
        let body = json!({ "error": oauth_code(code), "error_description": text }).to_string();
        retry(text_response(status, JSON, &body), status)
    }
}

/// The token endpoint speaks RFC 6749 §5.2 and its extensions only; what FHIR calls otherwise is a bad request.
fn oauth_code(code: &'static str) -> &'static str {
    const KNOWN: [&str; 7] = [
        "conflict",
        "invalid_client",
        "invalid_authorization_details",
        "unsupported_grant_type",
        "temporarily_unavailable",
        "server_error",
        "not-found",
    ];
    if KNOWN.contains(&code) {
        code
    } else {
        "invalid_request"
    }
}

const SPENT: &str = "this client asked more often than its budget allows; ask again in a second";
const CAPPED: &str =
    "more emergencies were declared within the hour than may be; the privacy officer has been told";
const UNWITNESSED: &str = "the log has not been cosigned by its witnesses for too long; only emergencies (ETREAT, BTG) are served";
const INTERNAL: &str = "something of ours is broken; nothing was released";

// INVARIANT: no wildcard: a new fault has to be thought about.
impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        match &fault {
            Fault::Ledger(RecordError::Busy) => {
                Self::Unavailable("the ledger's queue is full; nothing was done")
            }
            Fault::Ledger(_) => {
                tracing::error!(%fault, "not recorded, so not done");
                Self::Unavailable("the gateway cannot record, so nothing was done")
            }
            Fault::Store(error)
            | Fault::Vault(VaultError::Store(error))
            | Fault::Filing(FilingError::Vault(VaultError::Store(error)))
            | Fault::Facts(FactsError::Store(error))
            | Fault::Rotation(RotationError::Vault(VaultError::Store(error))) => {
                tracing::error!(%error, "the store");
                Self::Unavailable(stored(error))
            }
            Fault::Filing(error @ FilingError::Conflict) => {
                Self::malformed(StatusCode::CONFLICT, "conflict", error.to_string())
            }
            Fault::Unwitnessed => Self::Unavailable(UNWITNESSED),
            Fault::Standing(rule) => Self::malformed(StatusCode::CONFLICT, "conflict", *rule),
            Fault::Filing(error @ FilingError::OtherPatient(_)) => Self::malformed(
                StatusCode::UNPROCESSABLE_ENTITY,
                "business-rule",
                error.to_string(),
            ),
            Fault::Rotation(RotationError::Keyring(
                error @ (ChangeError::Announced
                | ChangeError::NotAnnounced
                | ChangeError::StillActive),
            )) => Self::malformed(StatusCode::CONFLICT, "conflict", error.to_string()),
            Fault::Rotation(RotationError::Keyring(ChangeError::NotAddable)) => {
                let text = "key: is not of a kind for which this is done";
                Self::malformed(StatusCode::CONFLICT, "conflict", text)
            }
            Fault::Rotation(
                RotationError::Vault(VaultError::NoKey(_))
                | RotationError::Keyring(ChangeError::NoKey),
            ) => {
                let text = "key: this gateway holds no such key";
                Self::malformed(StatusCode::NOT_FOUND, "not-found", text)
            }
            Fault::Facts(FactsError::Statement(error)) => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                Self::malformed(status, "invalid_request", error.to_string())
            }
            Fault::Facts(FactsError::Broken(_)) => {
                tracing::error!(%fault, "facts");
                Self::Unavailable("the practice's facts do not match the ledger; nothing was done")
            }
            Fault::Unfit(unfit) => {
                Self::malformed(StatusCode::CONFLICT, "conflict", unfit.to_string())
            }
            Fault::Vault(_)
            | Fault::Filing(FilingError::Vault(_))
            | Fault::Facts(FactsError::Owner(_))
            | Fault::Rotation(RotationError::Vault(_) | RotationError::Keyring(_))
            | Fault::Read(_)
            | Fault::Backup(_)
            | Fault::Bug(_) => {
                tracing::error!(%fault, "fault");
                Self::Internal
            }
        }
    }
}

fn stored(error: &StoreError) -> &'static str {
    match error {
        StoreError::Full => "the store is out of space; nothing was done",
        StoreError::Conflict | StoreError::Retryable => {
            "the store is busy with the same rows; ask again"
        }
        StoreError::TooLarge => "the store takes no value so large; nothing was done",
        StoreError::OutcomeUnknown | StoreError::Corrupt | StoreError::Fatal => {
            "the store stopped; it says why in the log"
        }
    }
}

/// An OperationOutcome with one issue.
#[must_use]
pub(super) fn outcome(code: &str, text: &str) -> String {
    json!({
        "resourceType": "OperationOutcome",
        "issue": [{ "severity": "error", "code": code, "details": { "text": text } }],
    })
    .to_string()
}

/// Plain JSON.
pub(super) fn json_response(status: StatusCode, value: &Value) -> Response {
    text_response(status, JSON, &value.to_string())
}

/// FHIR JSON.
pub(super) fn fhir_response(status: StatusCode, value: &Value) -> Response {
    text_response(status, FHIR, &value.to_string())
}

/// Any text under this media type.
pub(super) fn text_response(status: StatusCode, media_type: &'static str, text: &str) -> Response {
    bytes_response(status, media_type, Bytes::copy_from_slice(text.as_bytes()))
}

/// Any bytes under this media type. Nothing that leaves here may be kept by a cache.
pub(super) fn bytes_response(
    status: StatusCode,
    media_type: &'static str,
    bytes: Bytes,
) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Why on everything: a browser may be shown any of it, and what it says it is, it is taken for.
    response
        .headers_mut()
        .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Entries under the checkpoint that the receipt of an answer stands under.
#[derive(Clone, Copy)]
pub(super) struct Under(pub u64);

/// Adds the receipt of the decision that this answer carries.
pub(super) fn with_receipt(mut response: Response, receipt: &Receipt, open: Open) -> Response {
    response.extensions_mut().insert(Under(receipt.size()));
    if let Ok(value) = HeaderValue::from_str(&receipt.to_header(open)) {
        response.headers_mut().insert(RECEIPT.clone(), value);
    }
    response
}

/// Adds one header whose value is visible ASCII.
pub(super) fn with_header(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

fn retry(response: Response, status: StatusCode) -> Response {
    match status {
        StatusCode::TOO_MANY_REQUESTS => with_header(response, RETRY_AFTER, "1"),
        StatusCode::SERVICE_UNAVAILABLE => with_header(response, RETRY_AFTER, "5"),
        _ => response,
    }
}

/// The token endpoint's success (RFC 6749 §5.1, RFC 9396 §7).
pub(super) fn issued(issued: &Issued, receipt: &Receipt) -> Response {
    let body = json!({
        "access_token": issued.access_token,
        "token_type": "Bearer",
        "expires_in": crate::token::TOKEN_SECONDS,
        "authorization_details": issued.authorization_details,
    });
    with_receipt(json_response(StatusCode::OK, &body), receipt, Open::All)
}

/// A release and where its next page is to be asked for.
pub(super) struct Page {
    /// What leaves.
    pub release: Release,
    /// Absolute link.
    pub next: Option<String>,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let receipt = self.release.receipt();
        let mut first = json!({ "receipt": receipt.to_json(Open::All), "notice": NOTICE });
        if let (Some(object), Some(ticket)) = (first.as_object_mut(), self.release.ticket()) {
            object.insert("ticket".to_owned(), ticket.into());
        }
        if let (Some(object), Some(next)) = (first.as_object_mut(), self.next) {
            object.insert("next".to_owned(), next.into());
        }
        let envelopes = self.release.envelopes();
        let length: usize = envelopes.iter().map(Bytes::len).sum();
        let first = first.to_string();
        let mut body = Vec::with_capacity(first.len() + length + 40);
        body.extend_from_slice(first.as_bytes());
        body.push(b'\n');
        envelopes
            .iter()
            .for_each(|line| body.extend_from_slice(line));
        body.extend_from_slice(
            format!("{{\"end\":{{\"records\":{}}}}}\n", envelopes.len()).as_bytes(),
        );
        let response = bytes_response(StatusCode::OK, "application/x-ndjson", Bytes::from(body));
        with_receipt(response, receipt, Open::All)
    }
}
