//! A ready-made world: two practices, two hospitals, the people around them, and the project's own FHIR files,
//! served over real mutual TLS under a CA of its own. Everything in it goes the way it goes in earnest; only
//! the parties' private keys, which in earnest never leave their owners, stand in the same folder.

mod asks;
mod cast;
mod certificates;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::{Method, StatusCode};
use keys::{ClientKey, OpenKey};
use serde_json::{Value, json};
use zeroize::Zeroizing;

pub use asks::catalogue;
pub use cast::{HOSPITAL_A, HOSPITAL_B, MEMBERS, Member, Patient, referral};

use crate::assembly::{self, AssemblyError};
use crate::clock::Clock;
use crate::config::{Config, Root, Tls};
use crate::connect::{Http, HttpError, OpenError, Party, Seen};
use crate::fhir::resource::FhirVersion;
use crate::http::{self, App, Budgets, Serving, Shared, TlsError};
use crate::ledger::Vkey;

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The gateway.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    /// Its config.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Its TLS side.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A certificate could not be made.
    #[error("a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file of the world is not what the world wrote.
    #[error("{0} is not what `dev` writes; take an empty folder")]
    Foreign(PathBuf),
    /// A party gets no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A party gets another answer than it must.
    #[error(transparent)]
    Answer(#[from] OpenError),
}

/// How often the world's practices say how far their feeds of objections have come.
const BEAT: std::time::Duration = std::time::Duration::from_secs(20 * 60);

/// A world that is served.
pub struct World {
    dir: PathBuf,
    issuer: String,
    vkey: Vkey,
    app: Shared,
    serving: Serving,
    beside: tokio::task::JoinHandle<()>,
    beats: Option<tokio::task::JoinHandle<()>>,
}

impl World {
    /// Makes a world in this folder, or takes up the one that stands there, and serves it.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn open(
        dir: &Path,
        listen: SocketAddr,
        more: &[Patient],
    ) -> Result<Self, WorldError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |error| WorldError::File { path, error }
        };
        std::fs::create_dir_all(dir).map_err(file(dir))?;
        let listener = http::listen(listen).map_err(file(Path::new(&listen.to_string())))?;
        let address = listener.local_addr().map_err(file(dir))?;
        let clock = Clock::system();
        let new = !dir.join("world.json").exists();
        if new && dir.join("sallyport.toml").exists() {
            return Err(WorldError::Foreign(dir.to_owned()));
        }
        if new {
            certificates::make(dir, address)?;
        }
        let config = configure(dir, address)?;
        let passphrase = read_secret(&dir.join("passphrase"))?;
        if new {
            assembly::found(&config, &passphrase, &clock)?;
        }
        let gateway = assembly::open(&config, &passphrase, clock.clone()).await?;
        if new {
            gateway
                .load(cast::statements(dir, more, clock.now_ms())?)
                .await?;
        }
        let vkey = gateway.ledger().vkey();
        let app: Shared = Arc::new(App {
            gateway,
            budgets: Budgets::default(),
            bell: None,
        });
        let tls = http::tls(
            &read(&config.tls.certificate)?,
            &read(&config.tls.key)?,
            &read(&config.tls.client_ca)?,
        )?;
        let serving = http::serve(listener, tls, http::router(Arc::clone(&app)));
        let mut world = Self {
            dir: dir.to_owned(),
            issuer: config.issuer,
            vkey,
            beside: tokio::spawn(http::beside(Arc::clone(&app))),
            beats: None,
            app,
            serving,
        };
        if new {
            world.file_own_records().await?;
        }
        world.write_catalogue(more)?;
        world.feed()?;
        Ok(world)
    }

    /// The project's own records, filed by their practices over the wire like anybody's.
    async fn file_own_records(&self) -> Result<(), WorldError> {
        for patient in cast::patients() {
            let practice = self.party(patient.member)?;
            let now_s = Clock::system().now_s();
            let details =
                json!({ "type": "deposit", "practice": patient.practice, "patient": patient.nhs });
            let token = practice.token(&details, now_s).await?;
            let headers = [
                ("authorization", &*format!("Bearer {token}")),
                ("content-type", patient.fixture.version.media_type()),
            ];
            let reply = practice
                .http
                .send(Method::POST, "/fhir", &headers, patient.fixture.body)
                .await?;
            if reply.status != StatusCode::OK {
                return Err(OpenError::Status {
                    status: reply.status,
                    text: reply.text(),
                }
                .into());
            }
        }
        Ok(())
    }

    /// Keeps the feeds of objections alive, as a practice's system does.
    fn feed(&mut self) -> Result<(), WorldError> {
        let mut feeding = Vec::new();
        for (owner, name) in cast::FEEDING {
            feeding.push((owner, self.party(name)?));
        }
        let app = Arc::clone(&self.app);
        self.beats = Some(tokio::spawn(async move {
            let mut beat = tokio::time::interval(BEAT);
            loop {
                beat.tick().await;
                let now_ms = app.gateway.clock().now_ms();
                for (owner, party) in &feeding {
                    let standing = app.gateway.facts().feed(owner, now_ms);
                    if standing.unsound_s() >= BEAT.as_secs()
                        && let Err(error) = heartbeat(party, owner).await
                    {
                        tracing::warn!(%error, owner, "no heartbeat of the objections");
                    }
                }
            }
        }));
        Ok(())
    }

    fn write_catalogue(&self, more: &[Patient]) -> Result<(), WorldError> {
        let path = self.dir.join("world.json");
        let vkey = self.dir.join("log.vkey");
        write(&vkey, format!("{}\n", self.vkey).as_bytes())?;
        for member in MEMBERS {
            self.write_connector(member)?;
        }
        let world = asks::world(&self.issuer, &self.vkey, more);
        let text = serde_json::to_vec_pretty(&world).unwrap_or_default();
        // Why last and by rename: whoever waits for the file finds it whole and the world served.
        let fresh = self.dir.join("world.json.new");
        write(&fresh, &text)?;
        std::fs::rename(&fresh, &path).map_err(|error| WorldError::File { path, error })
    }

    /// What `sallyport connect` is told, for who has a sidecar: hospitals and practices.
    fn write_connector(&self, member: &Member) -> Result<(), WorldError> {
        if !matches!(member.role, "hospital" | "research" | "practice") {
            return Ok(());
        }
        let text = format!(
            "# For `sallyport connect`.\nlisten = \"127.0.0.1:0\"\nurl = \"{}\"\nca = \"../../ca.pem\"\nclient = \"{}\"\nkeys = \".\"\nlog_key = \"../../log.vkey\"\nkeep = \"kept\"\n",
            self.issuer, member.client_id,
        );
        let inbox = match member.role {
            "practice" => "inbox = \"inbox\"\n",
            _ => "",
        };
        let text = text + inbox;
        let path = self
            .dir
            .join("clients")
            .join(member.name)
            .join("connect.toml");
        write(&path, text.as_bytes())
    }

    /// Gives a stopped world's practice so many patients' keys, so that turning them can be measured.
    ///
    /// # Errors
    /// What does not open or write.
    pub async fn fill(dir: &Path, practice: &str, keys: usize) -> Result<(), WorldError> {
        let foreign = |_| WorldError::Foreign(dir.to_owned());
        let config = Config::load(&dir.join("sallyport.toml"))?;
        let passphrase = read_secret(&dir.join("passphrase"))?;
        let practice = policy::words::Ods::try_from(practice).map_err(foreign)?;
        Ok(assembly::fill(&config, &passphrase, &practice, keys).await?)
    }

    /// The gateway's base URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.issuer
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Verifies the log.
    #[must_use]
    pub const fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    /// One of the world's parties, with its own certificate and keys.
    ///
    /// # Errors
    /// A file of the party does not read.
    pub fn party(&self, name: &str) -> Result<Party, WorldError> {
        let member = MEMBERS.iter().find(|member| member.name == name);
        let member =
            member.ok_or_else(|| WorldError::Foreign(self.dir.join("clients").join(name)))?;
        // Why not its first one: the log's key may have handed over, and people tell its readers.
        let vkey = self.app.gateway.ledger().vkey();
        party(&self.dir, &self.issuer, &vkey, member)
    }

    /// Brings everything that was recorded into the published log.
    pub async fn publish(&self) {
        self.app.gateway.ledger().publish_now().await;
    }

    /// Stops serving and closes the gateway.
    ///
    /// # Errors
    /// If the stop cannot be recorded.
    pub async fn stop(self) -> Result<(), WorldError> {
        self.serving.stop().await;
        self.beside.abort();
        self.beats.iter().for_each(tokio::task::JoinHandle::abort);
        self.app.gateway.close().await?;
        Ok(())
    }
}

fn party(dir: &Path, issuer: &str, vkey: &Vkey, member: &Member) -> Result<Party, WorldError> {
    let own = dir.join("clients").join(member.name);
    let http = Http::new(
        issuer,
        &dir.join("ca.pem"),
        &own.join("cert.pem"),
        &own.join("key.pem"),
    )?;
    let jwk = |name: &str| {
        let path = own.join(name);
        read(&path).map(|bytes| (path, String::from_utf8_lossy(&bytes).into_owned()))
    };
    let (path, text) = jwk("sign.jwk")?;
    let sign = ClientKey::from_jwk(&text).map_err(|_| WorldError::Foreign(path))?;
    let open = match own.join("open.jwk").exists() {
        false => None,
        true => {
            let (path, text) = jwk("open.jwk")?;
            Some(OpenKey::from_jwk(&text).map_err(|_| WorldError::Foreign(path))?)
        }
    };
    let (client_id, issuer) = (member.client_id.to_owned(), issuer.to_owned());
    Ok(Party {
        http,
        client_id,
        sign,
        open,
        issuer,
        vkey: vkey.clone(),
        seen: Some(Seen::default()),
    })
}

/// Writes the world's config for this address; on a folder that holds a world only the address changes.
fn configure(dir: &Path, address: SocketAddr) -> Result<Config, WorldError> {
    let path = dir.join("sallyport.toml");
    let config = Config {
        listen: address,
        issuer: format!("https://{address}"),
        operations: None,
        control: None,
        data: "data".into(),
        log: "log".into(),
        origin: "sallyport.dev/log".to_owned(),
        tls: Tls {
            certificate: "server/cert.pem".into(),
            key: "server/key.pem".into(),
            client_ca: "ca.pem".into(),
        },
        root: Root {
            file: "root.key".into(),
            passphrase_file: Some("passphrase".into()),
            hsm: None,
        },
        backups: Some("backups".into()),
        rules: None,
        policy: None,
        sensitive_codes: None,
        witness: None,
        alerts: Vec::new(),
    };
    let text = toml::to_string(&config).unwrap_or_default();
    write(
        &path,
        format!("# A `sallyport dev` world. `sallyport serve --config` serves it too.\n{text}")
            .as_bytes(),
    )?;
    Ok(Config::load(&path)?)
}

fn read(path: &Path) -> Result<Vec<u8>, WorldError> {
    std::fs::read(path).map_err(|error| WorldError::File {
        path: path.to_owned(),
        error,
    })
}

fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, WorldError> {
    read(path).map(Zeroizing::new)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), WorldError> {
    std::fs::write(path, bytes).map_err(|error| WorldError::File {
        path: path.to_owned(),
        error,
    })
}

/// Writes a file that only its owner may read.
fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), WorldError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|error| WorldError::File {
        path: path.to_owned(),
        error,
    })
}

/// Tells the gateway again how far this feed has come, as the gateway itself has it.
async fn heartbeat(party: &Party, owner: &str) -> Result<(), OpenError> {
    let details = json!({ "type": "objections", "practice": owner });
    let token = party.token(&details, Clock::system().now_s()).await?;
    let bearer = format!("Bearer {token}");
    let status = party.read("/feed/objections/status", &token).await?.json();
    let zero = "0".repeat(64);
    let end = json!({ "end": {
        "generation": status.get("generation").and_then(Value::as_u64).map_or(1, |it| it.max(1)),
        "count": status.get("held").and_then(Value::as_u64).unwrap_or(0),
        "digest": status.get("held_digest").and_then(Value::as_str).unwrap_or(&zero),
    } });
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-ndjson"),
    ];
    let path = "/feed/objections";
    let reply = party
        .http
        .send(Method::POST, path, &headers, end.to_string())
        .await?;
    match reply.status {
        StatusCode::OK => Ok(()),
        status => Err(OpenError::Status {
            status,
            text: reply.text(),
        }),
    }
}

/// A deposit of one text: a Bundle by POST, a resource by PUT.
pub(crate) async fn deposit(
    practice: &Party,
    token: &str,
    target: Option<&str>,
    version: FhirVersion,
    body: bytes::Bytes,
) -> Result<crate::connect::Reply, HttpError> {
    let headers = [
        ("authorization", &*format!("Bearer {token}")),
        ("content-type", version.media_type()),
    ];
    match target {
        Some(name) => {
            practice
                .http
                .send(Method::PUT, &format!("/fhir/{name}"), &headers, body)
                .await
        }
        None => {
            practice
                .http
                .send(Method::POST, "/fhir", &headers, body)
                .await
        }
    }
}

/// JSON of one member for `world.json`.
fn member_json(member: &Member) -> Value {
    json!({ "name": member.name, "ods": member.ods, "role": member.role, "client_id": member.client_id })
}
