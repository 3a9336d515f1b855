//! The porter of a gateway that is served: unseals it, serves it, seals it again. While it is sealed, whoever comes gets
//! 503, and no key is in memory; what opens it is given on a local socket, never over the network and never in an
//! argument. A wrong try costs time, twice as much each time.
//!
//! Sealing closes store and ledger, drops the gateway, and is done only when the keyring is seen to be gone. Should
//! anything hold it still, the process ends rather than call itself sealed.

mod socket;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use keys::{HsmError, HsmKey, Means, RootError, RootKey, Share, Unlock};
use rustls::ServerConfig;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use zeroize::Zeroizing;

pub use socket::{TalkError, talk};
pub use words::{Given, REQUEST_BYTES_MAX, Reply, Request, RequestError};

use crate::assembly::{self, AssemblyError, Unsealed};
use crate::clock::Clock;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::http::{self, App, Bell, Budgets, Gate, Leaving, Serving, TlsError};

/// What is under way when the gateway is sealed may take so long to finish.
const GRACE: Duration = Duration::from_secs(5);
/// After so long something holds the keys that should not.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// Shares are forgotten when no other follows within this.
const SHARES_KEPT: Duration = Duration::from_secs(15 * 60);
const WAIT_S_MAX: u64 = 60;

/// Nobody goes live without somebody who looks at what was done in an emergency.
const NO_OFFICER: &str = "the directory has no privacy officer who is not suspended (a client of role \
     `privacy-officer`); nobody could review an emergency, so nothing is served";

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum PorterError {
    /// A file of the config does not read.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The TLS key is not its owner's alone.
    #[error("{0}: others may read it; chmod 600")]
    NotPrivate(PathBuf),
    /// The TLS side.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address cannot be had.
    #[error("{address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The control socket cannot be had.
    #[error("the control socket {path}: {error}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The last entry could not be made.
    #[error("the stop was not recorded: {0}")]
    Stop(AssemblyError),
}

/// Why the gateway is still sealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// It is not.
    #[error("the gateway is serving already")]
    Serving,
    /// The last try was wrong; the next is not looked at before its time.
    #[error("the last try was wrong: the next is looked at in {0} s")]
    Wait(u64),
    /// What was given does not open the root key.
    #[error("{0}")]
    Wrong(String),
    /// What was given cannot open it, and nobody tried: another share, or the other means.
    #[error("{0}")]
    Unfit(String),
    /// The root key opens and the gateway does not.
    #[error("{0}")]
    Closed(String),
}

/// Opens and seals one gateway.
pub struct Porter {
    config: Arc<Config>,
    gate: Arc<Gate>,
    bell: Bell,
    heard: std::sync::Mutex<Option<mpsc::UnboundedReceiver<()>>>,
    desk: Mutex<Desk>,
}

/// What the porter has before it: one thing is done at a time.
#[derive(Default)]
struct Desk {
    beside: Option<JoinHandle<()>>,
    shares: Vec<Share>,
    latest: Option<Instant>,
    failed: u64,
    until: Option<Instant>,
}

/// What opens a root key, held until it was tried.
pub enum Held {
    /// The passphrase.
    Passphrase(Zeroizing<Vec<u8>>),
    /// As many shares as are needed.
    Shares(Vec<Share>),
    /// The token, and its PIN.
    Pin(HsmKey, Zeroizing<Vec<u8>>),
}

impl Held {
    /// It, as the root key takes it.
    #[must_use]
    pub fn unlock(&self) -> Unlock<'_> {
        match self {
            Held::Passphrase(passphrase) => Unlock::Passphrase(passphrase),
            Held::Shares(shares) => Unlock::Shares(shares),
            Held::Pin(place, pin) => Unlock::Hsm(place, pin),
        }
    }

    fn means(&self) -> &'static str {
        match self {
            Held::Passphrase(_) => "passphrase",
            Held::Shares(_) => "shares",
            Held::Pin(..) => "hsm",
        }
    }

    fn indices(&self) -> Vec<u32> {
        match self {
            Held::Passphrase(_) | Held::Pin(..) => Vec::new(),
            Held::Shares(shares) => shares.iter().map(|it| u32::from(it.index())).collect(),
        }
    }
}

impl Porter {
    /// The porter of this gateway, which is sealed.
    #[must_use]
    pub fn new(config: Config) -> Arc<Self> {
        let (bell, heard) = Bell::hung();
        Arc::new(Self {
            config: Arc::new(config),
            gate: Arc::new(Gate::default()),
            bell,
            heard: std::sync::Mutex::new(Some(heard)),
            desk: Mutex::default(),
        })
    }

    /// Opens the gateway with what was given, or keeps a share until there are enough. True if it serves now.
    ///
    /// # Errors
    /// [`UnsealError`]; the gateway stays sealed.
    pub async fn unseal(&self, given: Given<'_>, uid: Option<u32>) -> Result<bool, UnsealError> {
        let mut desk = self.desk.lock().await;
        if desk.beside.is_some() {
            return Err(UnsealError::Serving);
        }
        let wait_s = desk.wait_s();
        if wait_s > 0 {
            return Err(UnsealError::Wait(wait_s));
        }
        let held = match given {
            Given::Passphrase(passphrase) => Held::Passphrase(Zeroizing::new(passphrase.to_vec())),
            Given::Pin(pin) => {
                let place = self.config.root.hsm.as_ref().map(assembly::hsm_key);
                let unnamed = || UnsealError::Unfit(assembly::NO_HSM.to_owned());
                Held::Pin(place.ok_or_else(unnamed)?, Zeroizing::new(pin.to_vec()))
            }
            Given::Share(text) => {
                desk.forget_old();
                let share = Share::parse(text);
                let share = share.map_err(|error| UnsealError::Unfit(error.to_string()))?;
                let need = self.take(&mut desk, share)?;
                if desk.shares.len() < need {
                    return Ok(false);
                }
                Held::Shares(std::mem::take(&mut desk.shares))
            }
        };
        self.let_open(&mut desk, held, uid).await.map(|()| true)
    }

    /// Opens the gateway with what somebody has put together already.
    ///
    /// # Errors
    /// [`UnsealError`]; the gateway stays sealed.
    pub async fn unseal_with(&self, held: Held) -> Result<(), UnsealError> {
        let mut desk = self.desk.lock().await;
        self.let_open(&mut desk, held, None).await
    }

    async fn let_open(
        &self,
        desk: &mut Desk,
        held: Held,
        uid: Option<u32>,
    ) -> Result<(), UnsealError> {
        let opened = self.open(held, uid, desk.failed).await;
        match &opened {
            Ok(_) => {}
            Err(UnsealError::Wrong(_)) => {
                desk.failed += 1;
                desk.until = Some(Instant::now() + wait(desk.failed));
                tracing::warn!(failed = desk.failed, "a wrong try to unseal the gateway");
            }
            Err(_) => {}
        }
        *desk = Desk {
            beside: Some(self.let_in(opened?)),
            ..Desk::default()
        };
        Ok(())
    }

    /// Keeps a share that fits; says how many are needed.
    fn take(&self, desk: &mut Desk, share: Share) -> Result<usize, UnsealError> {
        let unfit = |text: String| Err(UnsealError::Unfit(text));
        match RootKey::means(&self.config.root.file) {
            Ok(Means::Shares { set, .. }) if share.set() != set => unfit(format!(
                "this is a share of set {}, and the root key is sealed to set {set}: an older set opens nothing",
                share.set()
            )),
            Ok(Means::Shares { threshold, .. }) => {
                if desk.shares.iter().any(|it| it.index() == share.index()) {
                    return unfit(format!("share {} was given already", share.index()));
                }
                desk.shares.push(share);
                desk.latest = Some(Instant::now());
                Ok(usize::from(threshold))
            }
            Ok(means) => unfit(format!("the root key is opened by {means}, not by shares")),
            Err(error) => unfit(format!("the root key: {error}")),
        }
    }

    /// Opens the gateway beside the runtime: verifying a long ledger takes its time.
    async fn open(
        &self,
        held: Held,
        uid: Option<u32>,
        failed: u64,
    ) -> Result<Gateway, UnsealError> {
        let (config, runtime) = (Arc::clone(&self.config), tokio::runtime::Handle::current());
        let opening = tokio::task::spawn_blocking(move || {
            runtime.block_on(async {
                let opened = assembly::open(&config, held.unlock(), Clock::system()).await;
                let gateway = opened.map_err(|error| refused(&error, &config))?;
                if !gateway.has_officer() {
                    closed(gateway).await;
                    return Err(UnsealError::Closed(NO_OFFICER.to_owned()));
                }
                let by = Unsealed {
                    means: held.means(),
                    uid,
                    shares: held.indices(),
                    failed,
                };
                if let Err(error) = gateway.record_unseal(&by).await {
                    closed(gateway).await;
                    return Err(UnsealError::Closed(error.told(&config)));
                }
                Ok(gateway)
            })
        });
        let bug = |_| UnsealError::Closed("opening ended early; look at the log".to_owned());
        opening.await.map_err(bug)?
    }

    fn let_in(&self, gateway: Gateway) -> JoinHandle<()> {
        let app = Arc::new(App {
            gateway,
            budgets: Budgets::default(),
            bell: self.config.control.as_ref().map(|_| self.bell.pull()),
        });
        self.gate.open(Arc::clone(&app));
        let unlocked = keys::unlocked_pages();
        if unlocked > 0 {
            tracing::warn!(
                unlocked,
                "pages with keys can be swapped out: raise LimitMEMLOCK, or keep swap off"
            );
        }
        tracing::info!("unsealed");
        tokio::spawn(http::beside(app))
    }

    /// Seals the gateway: from here on 503, and on return no key is in memory. False if it was sealed.
    ///
    /// # Panics
    /// Never: where the keys do not go, the process ends.
    pub async fn seal(&self, by: &str, uid: Option<u32>) -> bool {
        let mut desk = self.desk.lock().await;
        *desk = match self.shut(&mut desk).await {
            None => return false,
            Some(leaving) => {
                if let Err(error) = leaving.app().gateway.record_seal(by, uid).await {
                    // Why on: whoever seals may have a reason that a full disk must not stop.
                    tracing::error!(%error, "that the gateway is sealed could not be recorded");
                }
                if let Err(error) = leaving.app().gateway.close().await {
                    tracing::error!(%error, "the stop was not recorded");
                }
                let keyring = leaving.app().gateway.vault().keyring_watch();
                if !empty(leaving).await || !gone(&keyring).await {
                    tracing::error!("the keys are still held by something; ending the process");
                    std::process::abort();
                }
                tracing::info!(by, "sealed: no key is in memory");
                Desk::default()
            }
        };
        true
    }

    /// Closes the gate; gives what was behind it once nothing is under way.
    async fn shut(&self, desk: &mut Desk) -> Option<Leaving> {
        let leaving = self.gate.shut()?;
        if let Some(beside) = desk.beside.take() {
            beside.abort();
            let _ = beside.await;
        }
        leaving.hurry(GRACE).await;
        Some(leaving)
    }

    /// Listens: TLS, health and metrics, and the control socket where the config names one.
    ///
    /// # Errors
    /// What cannot be had.
    pub async fn serve(self: &Arc<Self>, tls: Arc<ServerConfig>) -> Result<Doors, PorterError> {
        let config = &self.config;
        let at = |address| move |error| PorterError::Listen { address, error };
        let listener = http::listen(config.listen).map_err(at(config.listen))?;
        let address = listener.local_addr().map_err(at(config.listen))?;
        let operations = match config.operations {
            Some(address) => {
                let serving = http::operations(address, Arc::clone(&self.gate)).await;
                Some(serving.map_err(at(address))?)
            }
            None => None,
        };
        let mut beside = Vec::new();
        if let Some(path) = &config.control {
            let wrong = |error| PorterError::Socket {
                path: path.clone(),
                error,
            };
            let listener = socket::bind(path).await.map_err(wrong)?;
            beside.push(tokio::spawn(socket::listen(listener, Arc::clone(self))));
            beside.push(tokio::spawn(hear(Arc::clone(self))));
        }
        let serving = http::serve(listener, tls, self.gate.routes());
        Ok(Doors {
            address,
            serving,
            operations,
            beside,
            porter: Arc::clone(self),
        })
    }

    /// Does what was asked on the control socket, by this user of the machine.
    pub async fn answer(&self, request: Request<'_>, uid: u32) -> Reply {
        match request {
            Request::Status => self.say(true, String::new()).await,
            Request::Forget => {
                self.desk.lock().await.shares.clear();
                self.say(true, "the shares given so far are forgotten".to_owned())
                    .await
            }
            Request::Seal => {
                let text = match self.seal("socket", Some(uid)).await {
                    true => "sealed: no key is in memory",
                    false => "it was sealed already",
                };
                self.say(true, text.to_owned()).await
            }
            Request::Unseal(given) => match self.unseal(given, Some(uid)).await {
                Ok(true) => {
                    self.say(true, "unsealed: the gateway serves".to_owned())
                        .await
                }
                Ok(false) => self.say(true, "taken".to_owned()).await,
                Err(error) => self.say(false, error.to_string()).await,
            },
        }
    }

    /// How the gateway stands, with these words.
    pub(crate) async fn say(&self, done: bool, text: String) -> Reply {
        let mut desk = self.desk.lock().await;
        desk.forget_old();
        let (asks, means, need) = match RootKey::means(&self.config.root.file) {
            Ok(means @ Means::Passphrase) => ("passphrase", means.to_string(), 0),
            Ok(means @ Means::Hsm) => ("pin", means.to_string(), 0),
            Ok(means @ Means::Shares { threshold, .. }) => ("share", means.to_string(), threshold),
            Err(error) => ("nothing", error.to_string(), 0),
        };
        Reply {
            done,
            state: match desk.beside.is_some() {
                true => "serving".to_owned(),
                false => "sealed".to_owned(),
            },
            asks: asks.to_owned(),
            means,
            need,
            have: desk.shares.iter().map(Share::index).collect(),
            wait_s: desk.wait_s(),
            text,
        }
    }
}

impl Desk {
    /// Seconds until a try is looked at.
    fn wait_s(&self) -> u64 {
        let left = self
            .until
            .map(|until| until.saturating_duration_since(Instant::now()));
        left.map_or(0, |left| {
            left.as_millis()
                .div_ceil(1000)
                .try_into()
                .unwrap_or(WAIT_S_MAX)
        })
    }

    fn forget_old(&mut self) {
        if self
            .latest
            .is_some_and(|latest| latest.elapsed() > SHARES_KEPT)
        {
            self.shares.clear();
        }
    }
}

/// How long after so many wrong tries: 1, 2, 4 … 60 seconds.
fn wait(failed: u64) -> Duration {
    let doublings = u32::try_from(failed.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(6);
    Duration::from_secs((1u64 << doublings).min(WAIT_S_MAX))
}

/// Whether the secret was wrong, or the gateway does not open with the right one.
fn refused(error: &AssemblyError, config: &Config) -> UnsealError {
    match error {
        AssemblyError::Root(
            RootError::Passphrase | RootError::Shares | RootError::Hsm(HsmError::Pin),
        ) => UnsealError::Wrong(error.told(config)),
        AssemblyError::Root(RootError::OtherMeans(_) | RootError::ShareSet(_)) => {
            UnsealError::Unfit(error.to_string())
        }
        other => UnsealError::Closed(other.told(config)),
    }
}

async fn closed(gateway: Gateway) {
    if let Err(error) = gateway.close().await {
        tracing::error!(%error, "the stop was not recorded");
    }
}

/// Whether the gateway itself is dropped.
async fn empty(leaving: Leaving) -> bool {
    match leaving.last(GONE_WITHIN).await {
        // Why there: closing files may wait for a disk.
        Ok(app) => tokio::task::spawn_blocking(move || drop(app)).await.is_ok(),
        Err(_) => false,
    }
}

async fn gone(keyring: &crate::vault::KeyringWatch) -> bool {
    let until = Instant::now() + GONE_WITHIN;
    while !keyring.is_gone() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    keyring.is_gone()
}

/// Seals whenever an administrator rings.
async fn hear(porter: Arc<Porter>) {
    let heard = porter
        .heard
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(mut heard) = heard else { return };
    while heard.recv().await.is_some() {
        porter.seal("administrator", None).await;
    }
}

/// Everything a porter listens on; stopped in order.
pub struct Doors {
    address: SocketAddr,
    serving: Serving,
    operations: Option<JoinHandle<()>>,
    beside: Vec<JoinHandle<()>>,
    porter: Arc<Porter>,
}

impl Doors {
    /// Where clients come in.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes nobody in any more, lets what is under way finish, and closes the gateway.
    ///
    /// # Errors
    /// If the stop cannot be recorded.
    pub async fn stop(self) -> Result<(), PorterError> {
        self.beside.iter().for_each(JoinHandle::abort);
        self.serving.stop().await;
        let mut desk = self.porter.desk.lock().await;
        let leaving = self.porter.shut(&mut desk).await;
        self.operations.iter().for_each(JoinHandle::abort);
        if let Some(path) = &self.porter.config.control {
            let _ = std::fs::remove_file(path);
        }
        match leaving {
            Some(leaving) => leaving
                .app()
                .gateway
                .close()
                .await
                .map_err(PorterError::Stop),
            None => Ok(()),
        }
    }
}

/// The TLS side of a config.
///
/// # Errors
/// A file that does not read, or what rustls refuses.
pub fn tls(config: &Config) -> Result<Arc<ServerConfig>, PorterError> {
    use std::os::unix::fs::MetadataExt as _;
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| PorterError::File {
            path: path.clone(),
            error,
        })
    };
    let key = Zeroizing::new(read(&config.tls.key)?);
    let mode = std::fs::metadata(&config.tls.key).map(|about| about.mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        return Err(PorterError::NotPrivate(config.tls.key.clone()));
    }
    let (certificate, client_ca) = (read(&config.tls.certificate)?, read(&config.tls.client_ca)?);
    Ok(http::tls(&certificate, &key, &client_ca)?)
}
