//! Where alerts are sent: one target, as the config names it, and the connection to it.
//!
//! HTTPS and syslog over TLS trust the CA that the config names and no other. Plain syslog is for a collector on the
//! same machine or network segment: what is sent names nobody, but whoever listens learns when something happened.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use super::post::Letter;
use super::syslog::{self, Carrier};
use super::webhook::Webhook;
use super::{Signs, syslog::Syslog};
use crate::config::Alert;

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Its address is of no form that is known.
    #[error(
        "alerts: {0}: `to` must begin with https://, syslog+udp://, syslog+tcp://, syslog+tls:// or unix:/"
    )]
    Form(String),
    /// TLS without a CA.
    #[error(
        "alerts: {0}: `ca` must name the PEM file of the CA that signed the receiver's certificate"
    )]
    NoCa(String),
    /// The CA does not read.
    #[error("{path}: {error}")]
    Ca {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// Two targets of one name.
    #[error("alerts: {0} stands twice; each target needs a name of its own")]
    Twice(String),
    /// A name that cannot stand in an entry.
    #[error("alerts: {0:?}: a name has 1 to 32 of a-z, 0-9 and -")]
    Name(String),
}

/// A target that can be sent to.
pub struct Target {
    name: String,
    way: Way,
}

enum Way {
    Webhook(Box<Webhook>),
    Syslog(Syslog),
}

impl Target {
    /// The target of that config.
    ///
    /// # Errors
    /// [`TargetError`] names the key and the rule.
    pub fn new(alert: &Alert, issuer: &str, signs: &Signs) -> Result<Self, TargetError> {
        let name = alert.name.clone();
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=32).contains(&name.len()) || !name.bytes().all(fits) {
            return Err(TargetError::Name(name));
        }
        let tls = || {
            let ca = alert.ca.as_deref();
            trusting(ca.ok_or_else(|| TargetError::NoCa(name.clone()))?)
        };
        let form = || TargetError::Form(name.clone());
        let carrier = |scheme: &str| alert.to.strip_prefix(scheme);
        let way = if alert.to.starts_with("https://") {
            let uri = alert.to.parse().map_err(|_| form())?;
            Way::Webhook(Box::new(Webhook::new(
                uri,
                tls()?,
                issuer.to_owned(),
                Arc::clone(signs),
            )))
        } else if let Some(path) = alert.to.strip_prefix("unix:") {
            Way::Syslog(Syslog::new(Carrier::Socket(path.into())))
        } else if let Some(at) = carrier("syslog+udp://") {
            Way::Syslog(Syslog::new(Carrier::Udp(place(at, 514).ok_or_else(form)?)))
        } else if let Some(at) = carrier("syslog+tcp://") {
            Way::Syslog(Syslog::new(Carrier::Tcp(place(at, 601).ok_or_else(form)?)))
        } else if let Some(at) = carrier("syslog+tls://") {
            let at = place(at, 6514).ok_or_else(form)?;
            let host = at.rsplit_once(':').map_or(at.as_str(), |(host, _)| host);
            let host = host.trim_matches(['[', ']']).to_owned();
            let host = ServerName::try_from(host).map_err(|_| form())?;
            let tls = tokio_rustls::TlsConnector::from(Arc::new(tls()?));
            Way::Syslog(Syslog::new(Carrier::Tls(at, host, tls)))
        } else {
            return Err(form());
        };
        Ok(Self { name, way })
    }

    /// Its name in entries, metrics and log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends one letter. `Ok` means that the receiver took it; over UDP and a local socket, that it was sent.
    pub(super) async fn send(&self, letter: &Letter, now_ms: u64) -> Result<(), String> {
        match &self.way {
            Way::Webhook(webhook) => webhook.send(letter, now_ms).await,
            Way::Syslog(way) => way.send(&syslog::message(letter)).await,
        }
    }
}

/// `host:port`, with the port that is usual where none is named.
fn place(text: &str, port: u16) -> Option<String> {
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    let place = if has_port {
        text.to_owned()
    } else {
        format!("{text}:{port}")
    };
    let plain = !text.is_empty() && !text.contains(['/', '@', ' ']);
    // Why not only parsed: a name that does not resolve now may do so later.
    (plain && (place.to_socket_addrs().is_ok() || !place.starts_with(':'))).then_some(place)
}

/// TLS 1.3 or 1.2 that trusts the CAs of this file and no other.
pub(crate) fn trusting(ca: &Path) -> Result<ClientConfig, TargetError> {
    let wrong = |error: &dyn std::fmt::Display| TargetError::Ca {
        path: ca.to_owned(),
        error: error.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(ca).map_err(|error| wrong(&error))? {
        let root = root.map_err(|error| wrong(&error))?;
        roots.add(root).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| wrong(&error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
