//! Who may ask a connector: software of this machine that knows the local secret. Records leave here in clear, so the
//! listener is on loopback, a request must name it so (a web page that was rebound to this address names its own
//! host), no browser page of another origin is answered, and every path but two needs the secret.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::said::Trouble;
use crate::fhir::outcome::IssueCode;

/// Paths that tell nothing of anybody: what clients look at before they have been given a secret.
const OPEN: [&str; 2] = ["/fhir/metadata", "/health"];

/// What is asked of every request.
#[derive(Clone)]
pub(super) struct Door {
    hosts: Vec<String>,
    /// Of the secret only its digest: compared, it tells nothing by the time it takes.
    digest: [u8; 32],
}

impl Door {
    pub(super) fn new(address: SocketAddr, secret: &str) -> Self {
        let port = address.port();
        let hosts = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("{host}:{port}"));
        let mut hosts = hosts.to_vec();
        hosts.push(address.to_string());
        let digest = keys::sha256(&[secret.as_bytes()]);
        Self { hosts, digest }
    }

    fn lets_in(&self, path: &str, headers: &HeaderMap) -> Result<(), Trouble> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let ours = |host: &str| self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
        let host = text(HOST).unwrap_or_default();
        if headers.get_all(HOST).iter().count() != 1 || !ours(host) {
            return Err(Trouble::Request(
                StatusCode::MISDIRECTED_REQUEST,
                IssueCode::NotSupported,
                "Host: must name this machine's loopback address and the connector's port"
                    .to_owned(),
            ));
        }
        if headers.contains_key(ORIGIN) {
            let origin = text(ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
            if !origin.is_some_and(ours) {
                return Err(Trouble::Request(
                    StatusCode::FORBIDDEN,
                    IssueCode::Forbidden,
                    "Origin: web pages of other origins are not served".to_owned(),
                ));
            }
        }
        if OPEN.contains(&path) {
            return Ok(());
        }
        let said = text(AUTHORIZATION).and_then(|value| {
            let (scheme, secret) = value.split_once(' ')?;
            scheme
                .eq_ignore_ascii_case("bearer")
                .then_some(secret.trim())
        });
        match said.map(|secret| keys::sha256(&[secret.as_bytes()]) == self.digest) {
            Some(true) => Ok(()),
            Some(false) | None => Err(Trouble::Request(
                StatusCode::UNAUTHORIZED,
                IssueCode::Login,
                "Authorization: must be Bearer and the text of the file `secret` in the connector's folder".to_owned(),
            )),
        }
    }
}

/// Asks every request who it is.
pub(super) async fn ask(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.lets_in(request.uri().path(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(trouble) => trouble.into_response(),
    }
}
