//! One call to one witness: `POST add-checkpoint` (C2SP tlog-witness). What is sent is public and what comes is signed, so
//! that plain HTTP would do; it is taken on loopback only, where a relay may stand, because whoever is on the way could
//! keep every answer from coming.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

use crate::alerts::trusting;

const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The most of an answer that is read: some dozens of signature lines.
const ANSWER_BYTES: usize = 16 * 1024;

/// What a witness said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 200: signature lines, not yet verified.
    Cosigned(String),
    /// 409: it last cosigned so many entries.
    Saw(u64),
    /// 422: the proof does not lead from what it cosigned to this.
    Refused,
}

pub(super) struct Call {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
}

impl Call {
    pub(super) fn new(url: &str, ca: Option<&Path>) -> Result<Self, String> {
        let form = "`url` must be https://, or http:// on loopback";
        let uri: Uri = format!("{}/add-checkpoint", url.trim_end_matches('/'))
            .parse()
            .map_err(|_| form.to_owned())?;
        let host = uri.host().unwrap_or_default();
        let is_loopback = host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
        let tls = match (uri.scheme_str(), ca) {
            (Some("https"), Some(ca)) => trusting(ca).map_err(|error| error.to_string())?,
            (Some("https"), None) => {
                let rule = "`ca` must name the PEM file of the CA that signed its certificate";
                return Err(rule.to_owned());
            }
            // Why still TLS: one connector for both; it trusts nobody.
            (Some("http"), None) if is_loopback => trusting_nobody()?,
            _ => return Err(form.to_owned()),
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, uri })
    }

    pub(super) async fn add_checkpoint(&self, body: String) -> Result<Answer, String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(hyper::header::CONTENT_TYPE, "text/plain; charset=utf-8")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| format!("no answer: {error}"))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES);
            let body = body
                .collect()
                .await
                .map_err(|_| format!("it answered {status} and more than 16 KiB, or broke off"))?;
            answer(status, &body.to_bytes())
        };
        match tokio::time::timeout(ANSWER_TIME, answer).await {
            Ok(answer) => answer,
            Err(_) => Err("no answer within 10 seconds".to_owned()),
        }
    }
}

fn trusting_nobody() -> Result<rustls::ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let nobody = rustls::RootCertStore::empty();
    Ok(builder.with_root_certificates(nobody).with_no_client_auth())
}

/// Reads what a witness answered; its words are not repeated anywhere.
fn answer(status: StatusCode, body: &[u8]) -> Result<Answer, String> {
    let text = std::str::from_utf8(body).map_err(|_| format!("{status}, and not text"));
    match status {
        StatusCode::OK => Ok(Answer::Cosigned(text?.to_owned())),
        StatusCode::CONFLICT => {
            let size = text?.trim_end().parse::<u64>();
            let size = size.map_err(|_| "it answered 409 without the size it knows".to_owned())?;
            Ok(Answer::Saw(size))
        }
        StatusCode::UNPROCESSABLE_ENTITY => Ok(Answer::Refused),
        StatusCode::NOT_FOUND => {
            Err("404: it does not know this log: give its operator origin and log.vkey".to_owned())
        }
        StatusCode::FORBIDDEN => {
            Err("403: it knows another key of this log: give its operator log.vkey".to_owned())
        }
        status => Err(format!("it answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn what_a_witness_answers_is_read_by_its_status() {
        let of = |status: u16, body: &[u8]| answer(StatusCode::from_u16(status).unwrap(), body);
        assert_eq!(of(409, b"17\n"), Ok(Answer::Saw(17)));
        assert_eq!(of(422, b"\xff"), Ok(Answer::Refused));
        assert_eq!(of(200, b"x"), Ok(Answer::Cosigned("x".to_owned())));
        for (status, body) in [
            (409, &b""[..]),
            (409, b"-1\n"),
            (409, b"99999999999999999999\n"),
            (200, b"\xff\xfe"),
            (404, b""),
            (403, b""),
            (500, b"17\n"),
            (302, b""),
        ] {
            assert!(of(status, body).is_err(), "{status} {body:?}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback_only() {
        assert!(Call::new("http://127.0.0.1:7380", None).is_ok());
        assert!(Call::new("http://[::1]:7380/", None).is_ok());
        for url in [
            "http://witness.example",
            "http://10.0.0.1",
            "https://witness.example",
            "ftp://x",
            "",
        ] {
            assert!(Call::new(url, None).is_err(), "{url}");
        }
    }
}
