//! One TOML file. Nothing in it is a secret: keys and passphrases are named by path. There is no insecure
//! switch, and no default for anything that decides security. A key that is not known here is an error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a gateway is told at start. Paths are relative to the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen for mutual TLS. Whoever changes it can make the gateway unreachable.
    pub listen: SocketAddr,
    /// The base URL that clients use: issuer of tokens and tickets, and what assertions must name. Whoever
    /// changes it makes every client's assertion refused.
    pub issuer: String,
    /// Where health and metrics are served in plain HTTP; must be loopback. Nothing personal is served there.
    pub operations: Option<SocketAddr>,
    /// A local socket on which the gateway is unsealed and sealed, such as `/run/sallyport/control.sock`, for its own user
    /// only. With it, and without `passphrase_file`, `serve` starts sealed. Whoever can change it can keep it sealed.
    pub control: Option<PathBuf>,
    /// The store, the journal and the keyring. Whoever can change it can make records unavailable, not
    /// readable or different, and can hide the ledger's newest entries from this machine but not from those
    /// who hold receipts.
    pub data: PathBuf,
    /// The published log (C2SP tlog-tiles), for any web server. Whoever changes it is found by any verifier.
    pub log: PathBuf,
    /// The log's origin: a name without spaces, for good. Changing it refuses to start.
    pub origin: String,
    /// TLS.
    pub tls: Tls,
    /// The root key.
    pub root: Root,
    /// Where `POST /admin/backup` puts backups; none are taken without. Whoever reads it has what whoever reads `data`
    /// has: everything, still sealed.
    pub backups: Option<PathBuf>,
    /// A file of local rules instead of the built-in ones. Whoever changes it can refuse care or widen it as
    /// far as agreements, relationships and objections allow; no local rule can break an invariant.
    pub rules: Option<PathBuf>,
    /// A folder laid out like `policy/`, with its proof, instead of the built-in rules: schema, guards and invariants
    /// of one's own. Not together with `rules`. Whoever can change it, and prove it anew, decides what is released;
    /// the digest in every entry shows it.
    pub policy: Option<PathBuf>,
    /// A list of codes that make a record sensitive, such as `deploy/sensitive-codes.tsv`; none where it is left out.
    /// Whoever changes it can withhold records or let one pass that only the list calls sensitive; its digest stands
    /// in the log's start entry.
    pub sensitive_codes: Option<PathBuf>,
    /// Who is told when something happens that a person has to look at. Whoever changes it can keep alarms from
    /// arriving, which `/health` and the log's own entries show, or learn when emergencies happen; never about whom.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Who cosigns the log, so that its operator cannot show two of them. Whoever changes it can leave witnesses out, which
    /// auditors see who name their own.
    pub witness: Option<Witnessing>,
}

/// Witnesses of the log (C2SP tlog-witness).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witnessing {
    /// So many of them must have cosigned a checkpoint.
    pub quorum: usize,
    /// Seconds after which ordinary releases stop if no quorum cosigned; emergencies go on and are marked.
    #[serde(default = "lag_max_s")]
    pub lag_max_s: u64,
    /// How often they are asked, seconds.
    #[serde(default = "every_s")]
    pub every_s: u64,
    /// The witnesses, none of them run by whoever runs the gateway.
    pub by: Vec<Witness>,
}

/// One witness.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Its verification key, as its operator gives it out: `NAME+HASH+BASE64`, of a cosignature key.
    pub key: String,
    /// Its submission prefix; `/add-checkpoint` is added. `https://`, or `http://` on loopback for a relay.
    pub url: String,
    /// PEM of the CA that signed its certificate: needed for `https`.
    pub ca: Option<PathBuf>,
}

const fn lag_max_s() -> u64 {
    900
}

const fn every_s() -> u64 {
    30
}

impl Witnessing {
    fn check(&self) -> Result<(), &'static str> {
        if !(1..=self.by.len()).contains(&self.quorum) {
            return Err("witness.quorum: must be 1 to the number of witnesses named");
        }
        if self.by.len() > 16 {
            return Err("witness.by: more than 16");
        }
        if self.every_s == 0 || self.lag_max_s < self.every_s.saturating_mul(2) {
            return Err("witness.lag_max_s: must be at least twice every_s, and that at least 1");
        }
        Ok(())
    }
}

/// Where alerts are sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// A short name for log, metrics and entries: a-z, 0-9 and -. A target with a new name begins with what comes.
    pub name: String,
    /// `https://…` (RFC 8935), `syslog+udp://`, `syslog+tcp://` or `syslog+tls://` with `HOST:PORT` (RFC 5424), or
    /// `unix:/dev/log`. Whoever changes it receives the alerts instead.
    pub to: String,
    /// PEM of the CA that signed the receiver's certificate: needed for `https` and `syslog+tls`. Whoever changes it
    /// can pose as the receiver.
    pub ca: Option<PathBuf>,
}

/// Mutual TLS.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM chain of the gateway's own certificate.
    pub certificate: PathBuf,
    /// PEM private key, owner-only. Whoever reads it can pose as the gateway to its clients.
    pub key: PathBuf,
    /// PEM of the CA whose client certificates are taken. Whoever changes it is still a stranger:
    /// the directory names each client's certificate.
    pub client_ca: PathBuf,
}

/// Where the root key is, and what opens it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The sealed root key, owner-only.
    pub file: PathBuf,
    /// A file with the passphrase, or with the token's PIN, owner-only; without it it is asked for on the terminal.
    pub passphrase_file: Option<PathBuf>,
    /// The hardware token that holds the key which the root key is wrapped under.
    pub hsm: Option<Hsm>,
}

/// A hardware token, over PKCS#11.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hsm {
    /// The token's PKCS#11 library, absolute. Whoever changes it, or the file, runs code in the gateway and learns the PIN.
    pub module: PathBuf,
    /// The token's label. Whoever changes it can keep the gateway sealed.
    pub token: String,
    /// The key's label. Whoever changes it can keep the gateway sealed.
    pub key: String,
}

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not read.
    #[error("{path}: {error}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not what it should be; the words name key and line.
    #[error("{path}: {error}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which key, which rule.
        error: String,
    },
}

impl Config {
    /// Reads and checks a file; paths in it come back absolute or relative to the current folder.
    ///
    /// # Errors
    /// Which file, which key, which rule.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        })?;
        let malformed = |error: String| ConfigError::Malformed {
            path: path.to_owned(),
            error,
        };
        let mut config: Self =
            toml::from_str(&text).map_err(|error| malformed(error.to_string()))?;
        config.check().map_err(|rule| malformed(rule.to_owned()))?;
        // Why: the parent of a bare file name is empty, and an empty path names no folder that could be synced.
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let base = parent.unwrap_or_else(|| Path::new("."));
        for file in [
            &mut config.data,
            &mut config.log,
            &mut config.tls.certificate,
            &mut config.tls.key,
            &mut config.tls.client_ca,
            &mut config.root.file,
        ] {
            *file = base.join(&file);
        }
        let cas = config
            .alerts
            .iter_mut()
            .filter_map(|alert| alert.ca.as_mut());
        let by = config
            .witness
            .iter_mut()
            .flat_map(|witness| &mut witness.by);
        let cas = cas.chain(by.filter_map(|witness| witness.ca.as_mut()));
        let named = [
            &mut config.root.passphrase_file,
            &mut config.rules,
            &mut config.policy,
            &mut config.sensitive_codes,
            &mut config.backups,
            &mut config.control,
        ];
        for file in named.into_iter().flatten().chain(cas) {
            *file = base.join(&file);
        }
        Ok(config)
    }

    fn check(&self) -> Result<(), &'static str> {
        if !self.issuer.starts_with("https://") || self.issuer.ends_with('/') {
            return Err("issuer: must be an https URL without a slash at its end");
        }
        if self
            .operations
            .is_some_and(|address| !address.ip().is_loopback())
        {
            return Err(
                "operations: must be a loopback address: health and metrics are plain HTTP",
            );
        }
        if self
            .root
            .hsm
            .as_ref()
            .is_some_and(|hsm| !hsm.module.is_absolute())
        {
            return Err(
                "root.hsm.module: must be an absolute path: what is found elsewhere could be anybody's code",
            );
        }
        if self.rules.is_some() && self.policy.is_some() {
            return Err("policy: names a whole set, local rules included; leave `rules` out");
        }
        if let Some(witness) = &self.witness {
            witness.check()?;
        }
        if self.origin.is_empty()
            || self
                .origin
                .chars()
                .any(|c| !c.is_ascii_graphic() || c == '+')
        {
            return Err(
                "origin: must be visible ASCII without spaces or plus signs (C2SP signed-note)",
            );
        }
        Ok(())
    }

    /// The keyring's folder.
    #[must_use]
    pub fn keyring(&self) -> PathBuf {
        self.data.join("keyring")
    }

    /// The store's folder.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    /// The ledger's journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    const TEXT: &str = r#"
        listen = "127.0.0.1:0"
        issuer = "https://gateway.example"
        data = "data"
        log = "log"
        origin = "gateway.example/log"
        [tls]
        certificate = "tls.pem"
        key = "tls.key"
        client_ca = "ca.pem"
        [root]
        file = "root.key"
    "#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sallyport.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn paths_are_relative_to_the_file_and_always_have_a_parent() {
        let name = format!("sallyport-config-{}.toml", std::process::id());
        std::fs::write(&name, TEXT).unwrap();
        let config = Config::load(Path::new(&name));
        std::fs::remove_file(&name).unwrap();
        assert_eq!(config.unwrap().log.parent(), Some(Path::new(".")));
        assert!(load(TEXT).unwrap().log.is_absolute());
    }

    #[test]
    fn what_is_unknown_insecure_or_unfit_is_named() {
        for (text, says) in [
            (format!("colour = 1\n{TEXT}"), "colour"),
            (TEXT.replace("https://", "http://"), "issuer"),
            (TEXT.replace("gateway.example/log", "a log"), "origin"),
            (format!("rules = \"r\"\npolicy = \"p\"\n{TEXT}"), "policy"),
            (format!("operations = \"0.0.0.0:9\"\n{TEXT}"), "operations"),
            (format!("{TEXT}[witness]\nquorum = 1\nby = []"), "quorum"),
            (
                format!(
                    "{TEXT}[witness]\nquorum = 1\nlag_max_s = 30\n[[witness.by]]\nkey = \"k\"\nurl = \"u\""
                ),
                "lag_max_s",
            ),
        ] {
            let error = load(&text).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
