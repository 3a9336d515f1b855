//! The listener: mutual TLS 1.3 (1.2 with AEAD suites only), post-quantum hybrid key exchange preferred, no
//! early data; and the bounds that keep slow, idle and greedy connections from starving the others.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::limits::{
    BACKLOG, CONNECTION_WINDOW_BYTES, CONNECTIONS_MAX, CONNECTIONS_OF_ONE_MAX, DESCRIPTORS_KEPT,
    HANDSHAKE_TIME, HANDSHAKES_MAX, HANDSHAKES_OF_ONE_MAX, HEAD_BYTES, HEAD_TIME, RESETS_MAX,
    SEND_BYTES, STALL_TIME, STREAM_WINDOW_BYTES, STREAMS_MAX,
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

/// Listens on this address.
///
/// # Errors
/// If the address cannot be had.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves these routes on this listener until stopped.
#[must_use]
pub fn serve(listener: TcpListener, tls: Arc<ServerConfig>, router: Router) -> Serving {
    let (stop, stopped) = watch::channel(false);
    let accepting = accept(listener, TlsAcceptor::from(tls), router, stopped);
    // Why unconstrained: who comes must be taken from the kernel's queue before it is full, however many handshakes
    // wait for the processor; a full queue lets honest peers knock again seconds later.
    let done = tokio::spawn(tokio::task::unconstrained(accepting));
    Serving { stop, done }
}

/// What all connections share.
struct Door {
    tls: TlsAcceptor,
    router: Router,
    bounds: Bounds,
    places: Semaphore,
    open: AtomicUsize,
    strangers: Mutex<Strangers>,
    by_certificate: Mutex<HashMap<Peer, usize>>,
}

/// Who is at the door and has not shown a certificate yet: by address, and in the order in which they came.
#[derive(Default)]
struct Strangers {
    next: u64,
    count: usize,
    at_the_door: HashMap<IpAddr, BTreeMap<u64, AbortHandle>>,
}

impl Strangers {
    /// Who must go so that one more from this address may stand here: the oldest of the address's own where it has
    /// its share, and where all places are taken the oldest of the address that has most.
    fn one_out(&mut self, from: IpAddr, places: usize) -> Option<AbortHandle> {
        let own = self.at_the_door.get(&from).map_or(0, BTreeMap::len);
        let crowded = if own >= HANDSHAKES_OF_ONE_MAX.min(places) {
            Some(from)
        } else if self.count >= places {
            let most = self.at_the_door.iter().max_by_key(|(_, all)| all.len());
            most.map(|(address, _)| *address)
        } else {
            None
        };
        let oldest = *self.at_the_door.get(&crowded?)?.first_key_value()?.0;
        self.remove(crowded?, oldest)
    }

    fn remove(&mut self, from: IpAddr, number: u64) -> Option<AbortHandle> {
        let all = self.at_the_door.get_mut(&from)?;
        let gone = all.remove(&number)?;
        if all.is_empty() {
            self.at_the_door.remove(&from);
        }
        self.count -= 1;
        Some(gone)
    }

    fn insert(&mut self, from: IpAddr, number: u64, task: AbortHandle) {
        self.at_the_door
            .entry(from)
            .or_default()
            .insert(number, task);
        self.count += 1;
    }
}

/// Whom an address stands for: one IPv4 address, or the /64 network that one IPv6 client is given.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
        four @ IpAddr::V4(_) => four,
    }
}

impl Door {
    /// Lets one more in to show its certificate. Where there is no place, one who has stood there longest goes.
    ///
    /// Why not the newcomer: a handshake takes milliseconds, and who stalls one on purpose is older than any honest
    /// peer. To keep an honest peer out, a flood must renew all places of its address in the time of one handshake.
    fn admit(self: &Arc<Self>, stream: TcpStream, from: IpAddr, stopped: watch::Receiver<bool>) {
        let from = neighbourhood(from);
        let mut strangers = self.strangers();
        let number = strangers.next;
        strangers.next += 1;
        let oldest = strangers.one_out(from, self.bounds.handshakes);
        let stranger = Stranger {
            door: Arc::clone(self),
            from,
            number,
        };
        let inside = Inside::new(self);
        let task = tokio::spawn(async move {
            if let Err(error) = connection(stream, stranger, stopped).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(inside);
        });
        strangers.insert(from, number, task.abort_handle());
        drop(strangers);
        if let Some(oldest) = oldest {
            oldest.abort();
        }
    }

    fn strangers(&self) -> MutexGuard<'_, Strangers> {
        self.strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

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

/// A peer at the door, until it is known or gone.
struct Stranger {
    door: Arc<Door>,
    from: IpAddr,
    number: u64,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.door.strangers().remove(self.from, self.number);
    }
}

/// A connection of any kind, until it ends; whoever stops the door waits for these.
struct Inside(Arc<Door>);

impl Inside {
    fn new(door: &Arc<Door>) -> Self {
        door.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(door))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
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

/// How many may be there at once.
struct Bounds {
    connections: usize,
    handshakes: usize,
}

impl Bounds {
    /// The limits, or less where the process may have fewer descriptors than they and the store and ledger need.
    fn of_this_process() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        if let (Some(current), Some(maximum)) = (limit.current, limit.maximum)
            && current < maximum
        {
            let raised = rustix::process::Rlimit {
                current: Some(maximum),
                maximum: Some(maximum),
            };
            if let Err(error) =
                rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)
            {
                tracing::warn!(%error, "the limit of open files cannot be raised");
            }
        }
        let current = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let current = current.map_or(usize::MAX, |current| {
            usize::try_from(current).unwrap_or(usize::MAX)
        });
        Self::of(current)
    }

    fn of(descriptors: usize) -> Self {
        let left = descriptors.saturating_sub(DESCRIPTORS_KEPT);
        let handshakes = HANDSHAKES_MAX.min(left / 4).max(16);
        let connections = CONNECTIONS_MAX.min(left.saturating_sub(handshakes)).max(16);
        Self {
            connections,
            handshakes,
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let bounds = Bounds::of_this_process();
    let door = Arc::new(Door {
        tls,
        router,
        places: Semaphore::new(bounds.connections),
        bounds,
        open: AtomicUsize::new(0),
        strangers: Mutex::default(),
        by_certificate: Mutex::new(HashMap::new()),
    });
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            _ = stopped.changed() => break,
        };
        match stream {
            Ok((stream, from)) => door.admit(stream, from.ip(), stopped.clone()),
            Err(error) => {
                // Why: out of descriptors, or the peer went away; neither ends the service.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
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
    /// No request in the time that its head may take.
    #[error("it asked for nothing")]
    Silent,
    /// More connections than one certificate may have.
    #[error("its certificate has its share of connections already")]
    Share,
    /// The protocol on it; the words are the HTTP library's.
    #[error("{0}")]
    Http(String),
}

async fn connection(
    stream: TcpStream,
    stranger: Stranger,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    let door = Arc::clone(&stranger.door);
    stream.set_nodelay(true)?;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL_TIME));
    let timed_out = || io::Error::from(io::ErrorKind::TimedOut);
    let (stream, _place) = tokio::time::timeout(HANDSHAKE_TIME, async {
        let stream = door.tls.accept(Box::pin(stream)).await?;
        let place = door.places.acquire().await.map_err(|_| timed_out())?;
        Ok::<_, io::Error>((stream, place))
    })
    .await
    .map_err(|_| timed_out())??;
    drop(stranger);
    let (_, tls) = stream.get_ref();
    let certificate = tls.peer_certificates().and_then(<[_]>::first);
    let certificate =
        certificate.ok_or_else(|| io::Error::from(io::ErrorKind::PermissionDenied))?;
    let peer = Peer(Sha256::digest(certificate.as_ref()).into());
    let Some(_guest) = door.enter(peer) else {
        return Err(ConnectionError::Share);
    };
    let http2 = tls.alpn_protocol() == Some(b"h2");
    let router = door.router.clone();
    let asked = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&asked);
    let service = tower::service_fn(move |mut request: hyper::Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer);
        router.clone().call(request)
    });
    let builder = protocol(http2);
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = silent(&heard) => return Err(ConnectionError::Silent),
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(|error| ConnectionError::Http(error.to_string()))
}

/// Ends if no request has come by the time its head must be there. Why: HTTP/2 itself waits for ever for the first.
async fn silent(asked: &AtomicBool) {
    tokio::time::sleep(HEAD_TIME).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending().await
    }
}

/// The protocol that ALPN agreed on, within its bounds. Why not whatever the first bytes look like: whoever sends
/// none would be waited for.
fn protocol(http2: bool) -> Builder<TokioExecutor> {
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
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES)
        .keep_alive_interval(HEAD_TIME)
        .keep_alive_timeout(HEAD_TIME);
    if http2 {
        builder.http2_only()
    } else {
        builder.http1_only()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;

    #[tokio::test]
    async fn a_crowded_address_makes_room_and_no_other_does() {
        let address = |n: u8| IpAddr::from([127, 0, 0, n]);
        let task = || tokio::spawn(std::future::pending::<()>()).abort_handle();
        let mut strangers = Strangers::default();
        let places = HANDSHAKES_OF_ONE_MAX + 2;
        strangers.insert(address(2), 0, task());
        for number in 1..=HANDSHAKES_OF_ONE_MAX as u64 {
            assert!(strangers.one_out(address(1), places).is_none());
            strangers.insert(address(1), number, task());
        }
        // The address has its share: its own oldest goes, though there is a place.
        let first = |strangers: &Strangers, n| {
            let (first, _) = strangers.at_the_door[&address(n)]
                .first_key_value()
                .unwrap();
            *first
        };
        assert!(strangers.one_out(address(1), places).is_some());
        assert_eq!((first(&strangers, 1), first(&strangers, 2)), (2, 0));
        strangers.insert(address(1), 900, task());
        // All places are taken: another address comes in at the cost of the crowded one.
        strangers.insert(address(3), 901, task());
        assert_eq!(strangers.count, places);
        assert!(strangers.one_out(address(4), places).is_some());
        assert_eq!((first(&strangers, 1), first(&strangers, 2)), (3, 0));
        assert!(strangers.remove(address(3), 901).is_some());
        assert!(strangers.remove(address(3), 901).is_none());
        assert!(!strangers.at_the_door.contains_key(&address(3)));
    }

    #[test]
    fn an_ipv6_network_is_one_neighbour() {
        let at = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::2:3:4:5"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }

    #[test]
    fn few_descriptors_make_fewer_places_and_never_none() {
        for (descriptors, handshakes, connections) in [
            (usize::MAX, HANDSHAKES_MAX, CONNECTIONS_MAX),
            (20_000, HANDSHAKES_MAX, CONNECTIONS_MAX),
            (1_024, 192, 576),
            (0, 16, 16),
        ] {
            let bounds = Bounds::of(descriptors);
            assert_eq!(
                (bounds.handshakes, bounds.connections),
                (handshakes, connections)
            );
            assert!(
                descriptors < 300 || handshakes + connections + DESCRIPTORS_KEPT <= descriptors
            );
        }
    }
}
