//! What a connector is told at start: one TOML file, paths relative to it. Nothing in it is a secret; the private
//! keys and the local secret are files that only the connector's own user may read. There is no insecure switch.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use keys::{ClientKey, OpenKey};
use serde::{Deserialize, Serialize};

use crate::connect::{Http, Party};
use crate::ledger::Vkey;

/// The file, `connect.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where local software asks, in plain HTTP: a loopback address. Port 0 takes a free one; `KEEP/url` says which.
    /// Whoever changes it can make the connector unreachable, not reachable from elsewhere.
    pub listen: SocketAddr,
    /// The gateway's base URL. Whoever changes it gets no further than the gateway's certificate lets them.
    pub url: String,
    /// Issuer of tokens and tickets, where it is not the URL.
    pub issuer: Option<String>,
    /// The CA that signed the gateway's certificate. Whoever changes it can stand between; what they send must
    /// still be signed by the gateway's keys and its log.
    pub ca: PathBuf,
    /// OAuth client id of this organisation's system.
    pub client: String,
    /// Folder with `cert.pem`, `key.pem`, `sign.jwk` and, at a hospital, `open.jwk`. Whoever reads it is this client.
    pub keys: PathBuf,
    /// The log's verification key: a file (`log.vkey`) or the key itself. Whoever changes it decides which log is believed.
    pub log_key: String,
    /// Folder of what is kept: receipts, the last checkpoint, the local secret. It is made if it is not there. Whoever
    /// reads it learns who asked for whom; whoever can change it can take evidence away, and show nothing new.
    pub keep: PathBuf,
    /// At a practice: the folder that its system drops files into. Whoever can write there files in the practice's name.
    pub inbox: Option<PathBuf>,
}

/// Why a connector does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file is not as it must be.
    #[error("{path}: {rule}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        rule: String,
    },
    /// Another machine could reach that address.
    #[error(
        "listen: {0} is not a loopback address; whoever reaches the connector gets records in clear, so only this machine may"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("{address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The keys of the client are not those of this kind of connector.
    #[error("{0}")]
    Keys(String),
}

pub(super) fn file(path: &Path, rule: impl std::fmt::Display) -> StartError {
    StartError::File {
        path: path.to_owned(),
        rule: rule.to_string(),
    }
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// What does not read, or an address that others could reach.
    pub fn load(path: &Path) -> Result<Self, StartError> {
        let text = std::fs::read_to_string(path).map_err(|error| file(path, error))?;
        let mut config: Self =
            toml::from_str(&text).map_err(|error| file(path, error.message()))?;
        let beside = path.parent().unwrap_or(Path::new("."));
        for relative in [&mut config.ca, &mut config.keys, &mut config.keep] {
            *relative = beside.join(&*relative);
        }
        config.inbox = config.inbox.map(|inbox| beside.join(inbox));
        let vkey = beside.join(&config.log_key);
        if vkey.is_file() {
            config.log_key = std::fs::read_to_string(&vkey).map_err(|error| file(&vkey, error))?;
        }
        if !config.url.starts_with("https://") {
            return Err(file(path, "url: must begin with https://"));
        }
        config.url.truncate(config.url.trim_end_matches('/').len());
        config.is_loopback()?;
        Ok(config)
    }

    /// # Errors
    /// An address that others could reach.
    pub(super) fn is_loopback(&self) -> Result<(), StartError> {
        match self.listen.ip().is_loopback() {
            true => Ok(()),
            false => Err(StartError::NotLoopback(self.listen)),
        }
    }

    /// This organisation's side of the gateway, with its certificate and keys.
    ///
    /// # Errors
    /// A file that does not read, or a private key that others may read.
    pub fn party(&self) -> Result<Party, StartError> {
        let of = |name: &str| self.keys.join(name);
        private(&of("key.pem"))?;
        let http = Http::new(&self.url, &self.ca, &of("cert.pem"), &of("key.pem"))
            .map_err(|error| StartError::Keys(error.to_string()))?;
        let sign = of("sign.jwk");
        let sign = ClientKey::from_jwk(&private(&sign)?).map_err(|error| file(&sign, error))?;
        let path = of("open.jwk");
        let open = match path.exists() {
            false => None,
            true => Some(OpenKey::from_jwk(&private(&path)?).map_err(|error| file(&path, error))?),
        };
        let vkey = self.log_key.trim().parse::<Vkey>();
        let vkey = vkey.map_err(|error| StartError::Keys(format!("log_key: {error}")))?;
        Ok(Party {
            http,
            client_id: self.client.clone(),
            sign,
            open,
            issuer: self.issuer.clone().unwrap_or_else(|| self.url.clone()),
            vkey,
            // Why none: its own watch proves every checkpoint, against what is published.
            seen: None,
        })
    }
}

/// The text of a file that its owner alone may read.
pub(super) fn private(path: &Path) -> Result<String, StartError> {
    let about = std::fs::metadata(path).map_err(|error| file(path, error))?;
    if about.mode() & 0o077 != 0 {
        return Err(file(path, "others may read it; chmod 600"));
    }
    std::fs::read_to_string(path).map_err(|error| file(path, error))
}
