//! HTTPS with a client certificate: what a practice, a hospital, an admin or an auditor reaches the gateway
//! with. It trusts one CA and shows one certificate; it follows no redirect.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The longest answer that is read: 200 records of 16 MB are not sent in one; this is room for what is.
const ANSWER_BYTES: usize = 512 * 1024 * 1024;
const ANSWER_TIME: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A file of the client does not read.
    #[error("{0}")]
    File(String),
    /// No connection, or it broke: a refused certificate looks like this.
    #[error("no answer: {0}")]
    Connection(String),
    /// There is one, and the log behind it is not the one that was seen before.
    #[error(transparent)]
    History(#[from] super::HistoryError),
    /// The request cannot be made.
    #[error("the request: {0}")]
    Request(String),
}

/// An answer, whole.
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `Null` if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// One header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client of one gateway with one certificate.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
}

impl Http {
    /// From PEM files: the CA to trust, the certificate to show and its key.
    ///
    /// # Errors
    /// Which file does not read.
    pub fn new(url: &str, ca: &Path, certificate: &Path, key: &Path) -> Result<Self, HttpError> {
        let bad = |path: &Path, error: &dyn std::fmt::Display| {
            HttpError::File(format!("{}: {error}", path.display()))
        };
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(ca).map_err(|error| bad(ca, &error))? {
            roots
                .add(root.map_err(|error| bad(ca, &error))?)
                .map_err(|error| bad(ca, &error))?;
        }
        let chain =
            CertificateDer::pem_file_iter(certificate).map_err(|error| bad(certificate, &error))?;
        let chain = chain
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(certificate, &error))?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| bad(certificate, &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, secret)
            .map_err(|error| bad(certificate, &error))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: url.to_owned(),
        })
    }

    /// The gateway's base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends one request and reads the whole answer.
    ///
    /// # Errors
    /// Only where there is no answer; a refusal is an answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, HttpError> {
        let uri = if path.starts_with("https://") {
            path.to_owned()
        } else {
            format!("{}{path}", self.url)
        };
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            let value = HeaderValue::from_str(value)
                .map_err(|error| HttpError::Request(error.to_string()))?;
            request = request.header(HeaderName::from_static(name), value);
        }
        let request = request
            .body(Full::new(body.into()))
            .map_err(|error| HttpError::Request(error.to_string()))?;
        let answer = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| chain(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>(Reply {
                status: parts.status,
                headers: parts.headers,
                body: body.to_bytes(),
            })
        };
        match tokio::time::timeout(ANSWER_TIME, answer).await {
            Ok(answer) => answer.map_err(HttpError::Connection),
            Err(_) => Err(HttpError::Connection("none within 60 seconds".to_owned())),
        }
    }
}

/// An error with what caused it: "client error (Connect): invalid peer certificate: UnknownIssuer".
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
