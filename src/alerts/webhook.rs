//! Alerts by webhook: a Security Event Token (RFC 8417) pushed over HTTPS (RFC 8935). The receiver verifies its
//! signature with the keys at the gateway's `/.well-known/jwks.json`; no secret is shared with anybody.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use serde_json::json;

use super::Signs;
use super::post::Letter;

/// The event's name inside the token; a receiver that finds another version there must not guess.
pub(super) const EVENT: &str = "urn:sallyport:alert:v1";
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The most of an answer that is read.
const ANSWER_BYTES: usize = 16 * 1024;

pub(super) struct Webhook {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    issuer: String,
    signs: Signs,
}

impl Webhook {
    pub(super) fn new(uri: Uri, tls: ClientConfig, issuer: String, signs: Signs) -> Self {
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
        let connector = connector.https_only().enable_http1().build();
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            uri,
            issuer,
            signs,
        }
    }

    /// Sends one letter; any answer of 2xx takes it (RFC 8935 §2.2 says 202).
    pub(super) async fn send(&self, letter: &Letter, now_ms: u64) -> Result<(), String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, "application/secevent+jwt")
            .header(ACCEPT, "application/json")
            .body(Full::new(Bytes::from(self.token(letter, now_ms))))
            .map_err(|error| error.to_string())?;
        let answer = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| chain(&error))?;
            let status = response.status();
            // Why read: a connection whose answer was not read cannot be used again.
            let body = Limited::new(response.into_body(), ANSWER_BYTES)
                .collect()
                .await;
            if status.is_success() {
                return Ok(());
            }
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            // Why only the code: whatever else a receiver says belongs in its log, not in ours.
            let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let said = said.get("err").and_then(serde_json::Value::as_str);
            let known =
                |said: &&str| said.len() <= 32 && said.bytes().all(|b| b.is_ascii_graphic());
            Err(match said.filter(known) {
                Some(said) => format!("the receiver answered {status}: {said}"),
                None => format!("the receiver answered {status}"),
            })
        };
        match tokio::time::timeout(ANSWER_TIME, answer).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer within 10 seconds".to_owned()),
        }
    }

    fn token(&self, letter: &Letter, now_ms: u64) -> String {
        let claims = json!({
            "iss": self.issuer,
            "aud": self.uri.to_string(),
            "iat": now_ms / 1000,
            "toe": letter.first_ms / 1000,
            "jti": letter.id(),
            "events": { EVENT: letter.to_json() },
        });
        (self.signs)("secevent+jwt", claims.to_string().as_bytes())
    }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
