//! The sidecars: a hospital's, which gives local software plain FHIR, and a practice's, which takes it. They hold the
//! organisation's private keys, speak mutual TLS with the gateway, believe nothing of what it answers, and keep the
//! evidence. Never here: a listener that another machine reaches, a record on disk, or an unchecked answer.
//!
//! ```text
//! local software ─ loopback, secret ─> door ─> stated, search ─> asking ─ mutual TLS ─> gateway
//!                                                                  ├─> connect   receipt, ticket, signatures, commitments
//!                                                                  ├─> watch     one history of the log, never an old answer
//!                 <─ bundle ─ hospital <── opened records ─────────┴─> kept      receipts, before anything is given out
//! ```

mod accept;
mod asking;
mod bundle;
mod config;
mod door;
mod feed;
mod hospital;
mod inbox;
mod kept;
mod practice;
mod said;
mod search;
mod session;
mod stated;
mod statement;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tokio::sync::watch::{Sender, channel};
use tokio::task::JoinHandle;

pub use config::{Config, StartError};

use crate::clock::Clock;
use crate::ledger::note::Checkpoint;
use asking::Asking;
use door::Door;
use feed::Feed;
use inbox::Inbox;
use kept::Kept;
use practice::Practice;
use watch::Watch;

/// After news of the log, so long until it is proven: what comes meanwhile is proven with it.
const PROOF_PAUSE: Duration = Duration::from_millis(500);
/// Without news it is looked at anyway: a log that is cut must not wait for the next question.
const PROOF_EVERY: Duration = Duration::from_secs(60);

/// What is under way may take so long to finish.
const STOP_TIME: Duration = Duration::from_secs(10);

/// A connector at work.
pub struct Connector {
    address: SocketAddr,
    secret: String,
    stop: Sender<bool>,
    serving: JoinHandle<()>,
    beside: Vec<JoinHandle<()>>,
}

impl Connector {
    /// Serves a hospital's local software.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn hospital(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let (asking, secret) = asking(config, clock)?;
        if asking.party.open.is_none() {
            let text = "open.jwk is not there: without it no record can be opened";
            return Err(StartError::Keys(text.to_owned()));
        }
        let (listener, address) = listen(config).await?;
        let base = format!("http://{address}/fhir");
        let router = hospital::router(Arc::clone(&asking), base.clone());
        tell(&asking.kept, &base)?;
        Ok(Self::at(listener, address, secret, router, asking))
    }

    /// Serves a practice's system, over loopback and from the folder that the config names.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn practice(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let (asking, secret) = asking(config, clock)?;
        let inbox = config.inbox.as_ref();
        let inbox = inbox
            .map(|dir| Inbox::open(dir, &config.keep))
            .transpose()?;
        let practice = Practice::new(Arc::clone(&asking), Feed::open(&config.keep)?);
        let practice = Arc::new(practice);
        let (listener, address) = listen(config).await?;
        tell(&asking.kept, &format!("http://{address}/fhir"))?;
        let router = practice::router(Arc::clone(&practice));
        let mut connector = Self::at(listener, address, secret, router, asking);
        let telling = tokio::spawn(Arc::clone(&practice).keep_telling());
        connector.beside.push(telling);
        let watching = inbox.map(|inbox| tokio::spawn(inbox.watch(practice)));
        connector.beside.extend(watching);
        Ok(connector)
    }

    fn at(
        listener: TcpListener,
        address: SocketAddr,
        secret: String,
        router: Router,
        asking: Arc<Asking>,
    ) -> Self {
        let door = Door::new(address, &secret);
        let router = router.layer(from_fn_with_state(door, door::ask));
        let (stop, mut stopped) = channel(false);
        let asked = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let serving = tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(asked);
            if let Err(error) = served.await {
                tracing::error!(%error, "the connector stopped");
            }
        });
        Self {
            address,
            secret,
            stop,
            serving,
            beside: vec![tokio::spawn(prove(asking))],
        }
    }

    /// Base URL for local software.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{}/fhir", self.address)
    }

    /// What local software shows.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Takes no more requests, finishes those under way, and returns.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(STOP_TIME, self.serving).await;
        for task in self.beside {
            task.abort();
            // Why awaited: only then is the folder free for the next.
            let _ = task.await;
        }
    }
}

/// The way to the gateway, and the secret of those who may use it.
fn asking(config: &Config, clock: Clock) -> Result<(Arc<Asking>, String), StartError> {
    let party = config.party()?;
    let kept = Kept::open(&config.keep, &clock)?;
    let secret = kept.secret()?;
    let proven = checkpoint(&kept, &party.vkey)?;
    let asking = Asking::new(party, clock, kept, Watch::new(proven));
    Ok((Arc::new(asking), secret))
}

/// Where it listens, which is loopback and nothing else.
async fn listen(config: &Config) -> Result<(TcpListener, SocketAddr), StartError> {
    config.is_loopback()?;
    let address = config.listen;
    let wrong = |error| StartError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    Ok((listener, address))
}

fn tell(kept: &Kept, base: &str) -> Result<(), StartError> {
    let told = kept.replace("url", &format!("{base}\n"));
    told.map_err(|error| config::file("url".as_ref(), error))
}

fn checkpoint(kept: &Kept, key: &crate::ledger::Vkey) -> Result<Option<Checkpoint>, StartError> {
    let note = kept.checkpoint()?;
    let opened = note.map(|note| Checkpoint::open(&note, key)).transpose();
    opened.map_err(|error| {
        config::file(
            "checkpoint".as_ref(),
            format!("{error}: it was kept from another log"),
        )
    })
}

/// Holds the log to what it signed, for as long as the connector stands.
async fn prove(asking: Arc<Asking>) {
    loop {
        let news = tokio::time::timeout(PROOF_EVERY, asking.watch.news.notified());
        let _ = news.await;
        tokio::time::sleep(PROOF_PAUSE).await;
        let (party, kept) = (&asking.party, &asking.kept);
        if let Err(error) = asking.watch.prove(&party.http, &party.vkey, kept).await {
            tracing::warn!(error, "the log could not be proven yet; tried again");
        }
    }
}
