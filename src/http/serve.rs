//! The listener: mutual TLS 1.3 (1.2 with AEAD suites only), post-quantum hybrid key exchange preferred, no
//! early data; and the bounds that keep slow, idle and greedy connections from starving the others.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::limits::{
    CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX, DESCRIPTORS_KEPT, HANDSHAKE_TIME, HANDSHAKES_MAX,
    HEAD_BYTES, HEAD_TIME, RESETS_MAX, STALL_TIME, STREAMS_MAX,
};
use crate::caller::Peer;

/// Why the TLS side could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file does not read.
    #[error("{what}: {error}")]
    Pem {
        /// Which one.
        what: &'static str,
        /// Why.
        error: String,
    },
    /// rustls refuses the certificate, the key or the client CA.
    #[error("TLS: {0}")]
    Config(String),
}

/// The server side: its own certificate, and the CA whose client certificates it takes. There is no way to
/// run without client certificates.
///
/// # Errors
/// PEM that does not read, or that rustls refuses.
pub fn tls(
    certificate: &[u8],
    key: &[u8],
    client_ca: &[u8],
) -> Result<Arc<ServerConfig>, TlsError> {
    let pem = |what| {
        move |error: rustls::pki_types::pem::Error| TlsError::Pem {
            what,
            error: error.to_string(),
        }
    };
    let config = |error: &dyn std::fmt::Display| TlsError::Config(error.to_string());
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(pem("certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(pem("key"))?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(client_ca) {
        roots
            .add(root.map_err(pem("client_ca"))?)
            .map_err(|error| config(&error))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| config(&error))?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| config(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| config(&error))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server.max_early_data_size = 0;
    Ok(Arc::new(server))
}

/// A listener at work; it stops when it is told to, and then finishes what is under way.
pub struct Serving {
    stop: watch::Sender<bool>,
    done: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// Takes no more connections, lets those under way finish (10 seconds at most), and returns.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.done.await;
    }
}

/// Serves these routes on this listener until stopped.
#[must_use]
pub fn serve(listener: TcpListener, tls: Arc<ServerConfig>, router: Router) -> Serving {
    let (stop, stopped) = watch::channel(false);
    let done = tokio::spawn(accept(listener, TlsAcceptor::from(tls), router, stopped));
    Serving { stop, done }
}

/// What all connections share.
struct Door {
    tls: TlsAcceptor,
    router: Router,
    handshakes: Semaphore,
    open: AtomicUsize,
    by_certificate: Mutex<HashMap<Peer, usize>>,
}

impl Door {
    /// One more connection with this certificate, unless it has its share.
    fn enter(self: &Arc<Self>, peer: Peer) -> Option<Guest> {
        let mut open = self
            .by_certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(peer).or_insert(0);
        if *count >= CONNECTIONS_OF_ONE_MAX {
            return None;
        }
        *count += 1;
        Some(Guest(Arc::clone(self), peer))
    }
}

/// A connection that counts towards its certificate's share until it ends.
struct Guest(Arc<Door>, Peer);

impl Drop for Guest {
    fn drop(&mut self) {
        let mut open = self
            .0
            .by_certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}

/// As many connections as the process may have descriptors for, less those that store and ledger need.
fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let (Some(current), Some(maximum)) = (limit.current, limit.maximum)
        && current < maximum
    {
        let raised = rustix::process::Rlimit {
            current: Some(maximum),
            maximum: Some(maximum),
        };
        if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
    let current = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let current = current.map_or(usize::MAX, |current| {
        usize::try_from(current).unwrap_or(usize::MAX)
    });
    CONNECTIONS_MAX.min(current.saturating_sub(DESCRIPTORS_KEPT).max(16))
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections_max()));
    let door = Arc::new(Door {
        tls,
        router,
        handshakes: Semaphore::new(HANDSHAKES_MAX),
        open: AtomicUsize::new(0),
        by_certificate: Mutex::new(HashMap::new()),
    });
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            _ = stopped.changed() => break,
        };
        let Ok(place) = place else { break };
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            _ = stopped.changed() => break,
        };
        let stream = match stream {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Why: out of descriptors, or the peer went away; neither ends the service.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                continue;
            }
        };
        let (door, stopped) = (Arc::clone(&door), stopped.clone());
        door.open.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            if let Err(error) = connection(stream, &door, stopped).await {
                tracing::debug!(%error, "a connection ended");
            }
            door.open.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        });
    }
    drop(listener);
    for _ in 0..1000 {
        if door.open.load(Ordering::Relaxed) == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Why a connection ended early. It concerns nobody but its peer.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    /// The socket, or the handshake.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// More connections than one certificate may have.
    #[error("its certificate has its share of connections already")]
    Share,
    /// The protocol on it; the words are the HTTP library's.
    #[error("{0}")]
    Http(String),
}

async fn connection(
    stream: TcpStream,
    door: &Arc<Door>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    stream.set_nodelay(true)?;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL_TIME));
    let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
    let stream = {
        // Why: before the certificate is known, all strangers together have this much and no more.
        let _handshake = door.handshakes.acquire().await.map_err(|_| timed_out())?;
        let handshake = door.tls.accept(Box::pin(stream));
        tokio::time::timeout(HANDSHAKE_TIME, handshake)
            .await
            .map_err(|_| timed_out())??
    };
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    let certificate =
        certificate.ok_or_else(|| io::Error::from(io::ErrorKind::PermissionDenied))?;
    let peer = Peer(Sha256::digest(certificate.as_ref()).into());
    let Some(_guest) = door.enter(peer) else {
        return Err(ConnectionError::Share);
    };
    let router = door.router.clone();
    let service = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().call(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(HEAD_TIME)
        .keep_alive_timeout(HEAD_TIME);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(|error| ConnectionError::Http(error.to_string()))
}
