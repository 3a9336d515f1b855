//! `sallyport admin`: a client of the running gateway, over mutual TLS with an administrator's certificate. It only
//! asks; the gateway decides and records. What stops or destroys is confirmed by typing the object's name, and an
//! approval shows all that it covers and checks the digest itself, so that nobody approves what they have not seen.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use clap::{Args, Subcommand};
use hyper::{Method, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::sharing::{Approval, Providers};
use super::{NO, complain, say};
use crate::connect::{Http, Own, Reply};
use crate::facts::Proposal;

const EXAMPLES: &str = "\
Where the gateway is, and who asks, stands in three options, in SALLYPORT_URL, SALLYPORT_CA and SALLYPORT_CLIENT, or
in a file that --config names:

    url = \"https://gateway.example.nhs.uk\"
    ca = \"ca.pem\"              # the CA of the gateway's certificate
    client = \"admin-1\"         # a folder with cert.pem and key.pem

Examples:
    sallyport admin --config admin.toml status
    sallyport admin organisation register RJ1 --name 'County Hospital' --role hospital
    sallyport admin client register RJ1 --name 'County EPR' --role hospital --organisation RJ1 \\
        --certificate rj1.pem --why 'contract 2026-114'
    sallyport admin proposals approve 3f9c01ab
    sallyport admin client suspend RJ1 --why 'laptop stolen'
    sallyport admin keys announce ledger-signing
    sallyport admin backup
    sallyport admin seal --why 'intruder in the machine room'

What lets somebody in or cannot be undone is proposed by one administrator and approved by another, within 24 hours.
Exit codes: 0 done, or proposed; 1 refused, or it does not fit; 2 it could not be tried.";

/// What `sallyport admin` is told.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The gateway's base URL.
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// The CA that signed the gateway's certificate.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The administrator's folder, with `cert.pem` and `key.pem`.
    #[arg(long, global = true, value_name = "DIR")]
    client: Option<PathBuf>,
    /// A TOML file with `url`, `ca` and `client`; paths in it are relative to it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One JSON object, for machines.
    #[arg(long, global = true)]
    json: bool,
    /// Do not ask again before something is stopped, removed or approved.
    #[arg(long, global = true)]
    yes: bool,
    #[command(subcommand)]
    command: Command,
}

/// Why, in words for whoever reads the log later.
#[derive(Args)]
pub(super) struct Why {
    /// Why: stands in the sealed body of the ledger's entry.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) why: String,
}

/// An object that is stopped or let in again.
#[derive(Args)]
pub(super) struct Named {
    /// Which one.
    pub(super) name: String,
    #[command(flatten)]
    pub(super) why: Why,
}

#[derive(Subcommand)]
enum Command {
    /// How the gateway stands: who is registered, who is stopped, what waits.
    Status,
    /// Everyone in the directory.
    Directory,
    /// The gateway's own keys and those of each practice: how they stand, and their turning.
    #[command(subcommand)]
    Keys(Keys),
    /// Organisations, by ODS code.
    #[command(subcommand)]
    Organisation(Organisation),
    /// Systems that connect, by client id.
    #[command(subcommand)]
    Client(Client),
    /// Single certificates: a PEM file, or the SHA-256 thumbprint in hex.
    #[command(subcommand)]
    Certificate(Turn),
    /// People on whose behalf a hospital asks, as ODS/ID.
    #[command(subcommand)]
    Practitioner(Practitioner),
    /// Keys of a client: those that sign its assertions and open its tickets.
    #[command(subcommand)]
    Recipient(Recipient),
    /// Who is trained for what.
    #[command(subcommand)]
    Training(Training),
    /// The register of emergency providers.
    #[command(subcommand)]
    Providers(Providers),
    /// Approvals of secondary uses, as PRACTICE/ORGANISATION/REFERENCE.
    #[command(subcommand)]
    Approval(Approval),
    /// Access tokens.
    #[command(subcommand)]
    Token(Token),
    /// What was erased, and which key versions must still be destroyed until each erasure is complete.
    Erasures,
    /// Take a backup while the gateway serves, and read it back.
    Backup,
    /// Seal the gateway: no key stays in memory, and everybody gets 503 until it is unsealed on its own machine.
    Seal {
        #[command(flatten)]
        why: Why,
    },
    /// What waits for a second person.
    #[command(subcommand)]
    Proposals(Proposals),
}

#[derive(Subcommand)]
enum Keys {
    /// Versions, states, ages, uses, and what stands under each version; of all keys, or of one.
    List {
        /// An ODS code, `audit`, or such as token-signing; all where it is left out.
        key: Option<String>,
    },
    /// A new version from now on; what stands under a practice's key is rewrapped while the gateway serves.
    Rotate {
        /// An ODS code, `audit`, or such as token-signing.
        key: String,
    },
    /// Publish a signing key's next version; it signs nothing yet.
    Announce {
        /// token-signing, ticket-signing, deposit-signing or ledger-signing.
        key: String,
    },
    /// Let the announced version sign; the secret half of the one before is gone.
    Activate {
        /// token-signing, ticket-signing, deposit-signing or ledger-signing.
        key: String,
    },
    /// Retire a version under which nothing is left; until then it says how much is.
    Retire {
        /// An ODS code, or `audit`.
        key: String,
        /// Its number.
        version: u32,
    },
    /// Propose to destroy a retired version, for good.
    Destroy {
        /// An ODS code, or `audit`.
        key: String,
        /// Its number.
        version: u32,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Subcommand)]
enum Organisation {
    /// Register one, or change its name.
    Register {
        /// ODS code.
        ods: String,
        /// Display name.
        #[arg(long)]
        name: String,
        /// practice, hospital, research or admin.
        #[arg(long)]
        role: String,
        /// Whom a practice wants told what is done in its name, such as mailto:guardian@practice.example; required of a new
        /// practice.
        #[arg(long = "contact", value_name = "ADDRESS")]
        contacts: Vec<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Stop everything of it at the next request.
    Suspend(Named),
    /// Propose to let it in again.
    Resume(Named),
}

#[derive(Subcommand)]
enum Client {
    /// Propose a client, or other certificates of one: what is named here replaces what stood.
    Register {
        /// OAuth client id.
        id: String,
        /// Display name.
        #[arg(long)]
        name: String,
        /// practice, hospital, research, admin, auditor, privacy-officer or patient-portal.
        #[arg(long)]
        role: String,
        /// ODS codes it acts for; the first is its own.
        #[arg(long = "organisation", value_name = "ODS", required = true)]
        organisations: Vec<String>,
        /// Its certificates: PEM files, or SHA-256 thumbprints in hex.
        #[arg(long = "certificate", value_name = "FILE|HEX", required = true)]
        certificates: Vec<String>,
        /// Who holds it, where one human being does; required for admin.
        #[arg(long)]
        person: Option<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Propose to take it out of the directory.
    Remove(Named),
    /// Stop it at its next request, on open connections too.
    Suspend(Named),
    /// Propose to let it in again.
    Resume(Named),
}

#[derive(Subcommand)]
enum Turn {
    /// Stop it at its next request.
    Suspend(Named),
    /// Propose to let it in again.
    Resume(Named),
}

#[derive(Subcommand)]
enum Practitioner {
    /// Register one, or change name or role.
    Register {
        /// ODS/ID, such as RJ1/dr-okafor.
        who: String,
        /// Display name.
        #[arg(long)]
        name: String,
        /// doctor, nurse, pharmacist, paramedic, allied-health, receptionist, administrator or researcher.
        #[arg(long)]
        role: String,
        #[command(flatten)]
        why: Why,
    },
    /// Stop this person at the next request.
    Suspend(Named),
    /// Let this person ask again.
    Resume(Named),
}

#[derive(Subcommand)]
enum Recipient {
    /// Ask for a challenge for the keys that a client offers (`sallyport possession offer`); prints it.
    Challenge {
        /// The client's id.
        #[arg(value_name = "CLIENT")]
        id: String,
        /// The offer: JSON with `sign`, `open` or both.
        #[arg(long, value_name = "FILE")]
        offer: PathBuf,
    },
    /// Propose the keys whose possession was proven (`sallyport possession prove`).
    Register {
        /// The client's id.
        #[arg(value_name = "CLIENT")]
        id: String,
        /// What the client answered.
        #[arg(long, value_name = "FILE")]
        proof: PathBuf,
        /// Days that the keys they replace still hold: assertions are believed, tickets already out can be opened.
        #[arg(long, default_value_t = 0)]
        overlap_days: u64,
        #[command(flatten)]
        why: Why,
    },
    /// Take a key out at once, as CLIENT/KID; the overlap of a replaced one ends too.
    Retire(Named),
}

#[derive(Subcommand)]
enum Training {
    /// Take in a CSV file that a learning system exported: whole, or with a list of its wrong lines not at all.
    ///
    /// Columns by the names in the first line, others are passed over: organisation, practitioner, requirement,
    /// completed, expires, evidence.
    Import {
        /// The file, UTF-8.
        file: PathBuf,
        /// Say what would be, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Dates are written 03/04/2026 for the third of April, not 2026-04-03.
        #[arg(long)]
        uk_dates: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Everybody's state, requirement by requirement, as CSV; with --json as JSON.
    Export,
    /// Ask a requirement of everybody in a role, as ROLE/REQUIREMENT, beside data-security.
    Require(Named),
    /// Propose to ask it no more.
    Waive(Named),
}

#[derive(Subcommand)]
enum Token {
    /// Kill an access token by its `jti`, at the next request.
    Revoke(Named),
}

#[derive(Subcommand)]
enum Proposals {
    /// Those that wait.
    List,
    /// Approve one that another person made, by the first digits of its digest; it is done at once.
    Approve(Named),
    /// Take one back.
    Withdraw(Named),
}

/// `--config`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    url: Option<String>,
    ca: Option<PathBuf>,
    client: Option<PathBuf>,
}

/// Why a command did not do what it was asked.
pub(super) enum Failed {
    /// Refused, or it does not fit: exit code 1.
    Said(String),
    /// It could not be tried: exit code 2.
    Untried(String),
}

impl<E: std::fmt::Display> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Untried(error.to_string())
    }
}

/// `sallyport admin`
#[must_use]
pub fn admin(arguments: Arguments) -> ExitCode {
    let work = async {
        let desk = Desk::new(&arguments)?;
        desk.run(arguments.command).await
    };
    finished(super::run(work))
}

/// How a command ended, as an exit code.
pub(super) fn finished(ended: std::io::Result<Result<(), Failed>>) -> ExitCode {
    match ended {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(Failed::Said(text))) => {
            complain(&text);
            ExitCode::from(NO)
        }
        Ok(Err(Failed::Untried(text))) => complain(&text),
        Err(error) => complain(&error),
    }
}

/// An administrator's connection, and how to talk to the person at it.
pub(super) struct Desk {
    http: Http,
    pub(super) json: bool,
    yes: bool,
}

impl Desk {
    fn new(arguments: &Arguments) -> Result<Self, Failed> {
        let place = match &arguments.config {
            Some(path) => place(path)?,
            None => Place::default(),
        };
        let env = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let url = arguments.url.clone().or(place.url);
        let url = url.or_else(|| std::env::var("SALLYPORT_URL").ok());
        let ca = arguments
            .ca
            .clone()
            .or(place.ca)
            .or_else(|| env("SALLYPORT_CA"));
        let client = arguments.client.clone().or(place.client);
        let client = client.or_else(|| env("SALLYPORT_CLIENT"));
        let (Some(url), Some(ca), Some(client)) = (url, ca, client) else {
            let text = "--url, --ca and --client say where the gateway is and who asks (or --config, or SALLYPORT_URL, \
                        SALLYPORT_CA and SALLYPORT_CLIENT)";
            return Err(Failed::Untried(text.to_owned()));
        };
        let (certificate, key) = (client.join("cert.pem"), client.join("key.pem"));
        let http = Http::new(url.trim_end_matches('/'), &ca, &certificate, &key)?;
        Ok(Self {
            http,
            json: arguments.json,
            yes: arguments.yes,
        })
    }

    async fn run(&self, command: Command) -> Result<(), Failed> {
        match command {
            Command::Status => self.show("/admin/status").await,
            Command::Directory => self.show("/admin/directory").await,
            Command::Keys(it) => self.keys(it).await,
            Command::Erasures => self.show("/admin/erasures").await,
            Command::Backup => {
                let reply = self.post("/admin/backup", &Value::Null).await?;
                let body = reply.json();
                let folder = body.get("folder").and_then(plain).unwrap_or_default();
                self.told(&reply, &format!("taken and read back: {folder}"))
            }
            Command::Seal { why } => {
                self.confirm("seal the gateway: everybody gets 503", "gateway")?;
                let body = json!({ "why": why.why });
                let reply = self.post("/admin/seal", &body).await?;
                let text = "it is being sealed; on its machine `sallyport unseal` opens it again";
                self.told(&reply, text)
            }
            Command::Organisation(it) => self.organisation(it).await,
            Command::Client(it) => self.client(it).await,
            Command::Certificate(Turn::Suspend(it)) => {
                let print = print_of(&it.name)?;
                self.stop("certificate.suspend", &print, &it.why.why).await
            }
            Command::Certificate(Turn::Resume(it)) => {
                let print = print_of(&it.name)?;
                self.act("certificate.resume", &print, Value::Null, &it.why.why)
                    .await
            }
            Command::Practitioner(it) => self.practitioner(it).await,
            Command::Training(it) => self.training(it).await,
            Command::Recipient(it) => self.recipient(it).await,
            Command::Providers(it) => self.providers(it).await,
            Command::Approval(it) => self.approval(it).await,
            Command::Token(Token::Revoke(it)) => {
                self.stop("token.revoke", &it.name, &it.why.why).await
            }
            Command::Proposals(Proposals::List) => self.waiting().await,
            Command::Proposals(Proposals::Approve(it)) => self.approve(&it).await,
            Command::Proposals(Proposals::Withdraw(it)) => {
                let proposal = self.find(&it.name).await?;
                let path = format!("/admin/proposals/{}/withdraw", proposal.name());
                let reply = self.post(&path, &json!({ "why": it.why.why })).await?;
                self.told(&reply, "withdrawn")
            }
        }
    }

    async fn keys(&self, command: Keys) -> Result<(), Failed> {
        let (key, verb, body, text) = match command {
            Keys::List { key: None } => return self.show("/admin/keys").await,
            Keys::List { key: Some(key) } => return self.show(&format!("/admin/keys/{key}")).await,
            Keys::Destroy { key, version, why } => {
                let object = format!("{key}/{version}");
                return self.stop("kek.destroy", &object, &why.why).await;
            }
            Keys::Rotate { key } => (
                key,
                "rotate",
                Value::Null,
                "makes under a new version from now on",
            ),
            Keys::Announce { key } => (
                key,
                "announce",
                Value::Null,
                "has a next version, which signs nothing yet",
            ),
            Keys::Activate { key } => (
                key,
                "activate",
                Value::Null,
                "signs under the announced version from now on",
            ),
            Keys::Retire { key, version } => (
                key,
                "retire",
                json!({ "version": version }),
                "has retired that version: it only opens",
            ),
        };
        let reply = self
            .post(&format!("/admin/keys/{key}/{verb}"), &body)
            .await?;
        self.told(&reply, &format!("{key} {text}"))
    }

    async fn organisation(&self, command: Organisation) -> Result<(), Failed> {
        match command {
            Organisation::Register {
                ods,
                name,
                role,
                contacts,
                why,
            } => {
                let mut payload = json!({ "name": name, "role": role });
                if let (false, Some(members)) = (contacts.is_empty(), payload.as_object_mut()) {
                    members.insert("contacts".to_owned(), json!(contacts));
                }
                self.act("organisation.register", &ods, payload, &why.why)
                    .await
            }
            Organisation::Suspend(it) => {
                self.stop("organisation.suspend", &it.name, &it.why.why)
                    .await
            }
            Organisation::Resume(it) => {
                self.act("organisation.resume", &it.name, Value::Null, &it.why.why)
                    .await
            }
        }
    }

    async fn client(&self, command: Client) -> Result<(), Failed> {
        match command {
            Client::Register {
                id,
                name,
                role,
                organisations,
                certificates,
                person,
                why,
            } => {
                let prints = certificates.iter().map(|it| print_of(it));
                let prints = prints.collect::<Result<Vec<_>, _>>()?;
                let mut payload = json!({
                    "name": name, "role": role, "organisations": organisations, "certificates": prints,
                });
                if let (Some(person), Some(payload)) = (person, payload.as_object_mut()) {
                    payload.insert("person".to_owned(), person.into());
                }
                self.act("client.register", &id, payload, &why.why).await
            }
            Client::Remove(it) => self.stop("client.remove", &it.name, &it.why.why).await,
            Client::Suspend(it) => self.stop("client.suspend", &it.name, &it.why.why).await,
            Client::Resume(it) => {
                self.act("client.resume", &it.name, Value::Null, &it.why.why)
                    .await
            }
        }
    }

    async fn practitioner(&self, command: Practitioner) -> Result<(), Failed> {
        match command {
            Practitioner::Register {
                who,
                name,
                role,
                why,
            } => {
                let payload = json!({ "name": name, "role": role });
                self.act("practitioner.register", &who, payload, &why.why)
                    .await
            }
            Practitioner::Suspend(it) => {
                self.stop("practitioner.suspend", &it.name, &it.why.why)
                    .await
            }
            Practitioner::Resume(it) => {
                self.act("practitioner.resume", &it.name, Value::Null, &it.why.why)
                    .await
            }
        }
    }

    async fn recipient(&self, command: Recipient) -> Result<(), Failed> {
        match command {
            Recipient::Challenge { id, offer } => {
                let payload = read_json(&offer)?;
                let body =
                    json!({ "act": "recipient.challenge", "object": id, "payload": payload });
                let reply = self.post("/admin/acts", &body).await?;
                say(&reply.json().to_string());
                Ok(())
            }
            Recipient::Register {
                id,
                proof,
                overlap_days,
                why,
            } => {
                let mut payload = read_json(&proof)?;
                if let Some(payload) = payload.as_object_mut() {
                    payload.insert("overlap_days".to_owned(), overlap_days.into());
                }
                self.act("recipient.register", &id, payload, &why.why).await
            }
            Recipient::Retire(it) => self.stop("recipient.retire", &it.name, &it.why.why).await,
        }
    }

    async fn training(&self, command: Training) -> Result<(), Failed> {
        match command {
            Training::Import {
                file,
                dry_run,
                uk_dates,
                why,
            } => {
                let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
                let csv = std::fs::read(&file).map_err(|error| wrong(&error))?;
                let csv = String::from_utf8(csv);
                let csv = csv.map_err(|_| wrong(&"is not UTF-8; save it as CSV UTF-8"))?;
                let dates = if uk_dates { "uk" } else { "iso" };
                let body =
                    json!({ "csv": csv, "dates": dates, "dry_run": dry_run, "why": why.why });
                let headers = [("content-type", "application/json")];
                let text = body.to_string();
                let reply = self
                    .http
                    .send(Method::POST, "/admin/training", &headers, text)
                    .await?;
                let said = reply.json();
                if let Some(lines) = said.get("lines").and_then(Value::as_array) {
                    let show = |line: &Value| {
                        let text = |name| line.get(name).and_then(plain).unwrap_or_default();
                        say(&format!(
                            "line {}: {}: {}",
                            text("line"),
                            text("column"),
                            text("rule")
                        ));
                    };
                    lines.iter().for_each(show);
                }
                let reply = judged(reply)?;
                let rows = said.get("rows").and_then(plain).unwrap_or_default();
                let verb = if dry_run {
                    "would be taken in"
                } else {
                    "taken in"
                };
                self.told(&reply, &format!("{rows} lines {verb}"))
            }
            Training::Export if self.json => self.show("/admin/training").await,
            Training::Export => self.export_training().await,
            Training::Require(it) => {
                self.act("training.require", &it.name, Value::Null, &it.why.why)
                    .await
            }
            Training::Waive(it) => self.stop("training.waive", &it.name, &it.why.why).await,
        }
    }

    async fn export_training(&self) -> Result<(), Failed> {
        let report = self.read("/admin/training").await?.json();
        let mut out = csv::Writer::from_writer(Vec::new());
        out.write_record([
            "organisation",
            "practitioner",
            "role",
            "suspended",
            "requirement",
            "state",
            "completed",
            "expires",
            "evidence",
        ])?;
        let people = report.get("people").and_then(Value::as_array);
        for person in people.into_iter().flatten() {
            let of = |name: &str| person.get(name).and_then(plain).unwrap_or_default();
            let met = person.get("requirements").and_then(Value::as_array);
            for it in met.into_iter().flatten() {
                let text = |name: &str| {
                    it.get(name)
                        .filter(|it| !it.is_null())
                        .and_then(plain)
                        .unwrap_or_default()
                };
                let until = it.get("until_ms").and_then(Value::as_i64);
                // Why less one: a day that has passed ends where the next begins.
                let until = until.and_then(|ms| jiff::Timestamp::from_millisecond(ms - 1).ok());
                let until = until.map(|it| it.to_zoned(jiff::tz::TimeZone::UTC).date().to_string());
                out.write_record([
                    of("organisation"),
                    of("practitioner"),
                    of("role"),
                    of("suspended"),
                    text("requirement"),
                    text("state"),
                    text("completed"),
                    until.unwrap_or_default(),
                    text("evidence"),
                ])?;
            }
        }
        let text = String::from_utf8(out.into_inner()?)?;
        say(text.trim_end());
        Ok(())
    }

    /// What stops or removes is confirmed first.
    pub(super) async fn stop(&self, act: &str, object: &str, why: &str) -> Result<(), Failed> {
        self.confirm(&format!("{act} {object}"), object)?;
        self.act(act, object, Value::Null, why).await
    }

    pub(super) async fn act(
        &self,
        act: &str,
        object: &str,
        payload: Value,
        why: &str,
    ) -> Result<(), Failed> {
        let body = json!({ "act": act, "object": object, "why": why, "payload": payload });
        let reply = self.post("/admin/acts", &body).await?;
        let body = reply.json();
        match body.pointer("/proposal/digest").and_then(Value::as_str) {
            Some(digest) if reply.status == StatusCode::ACCEPTED => {
                let short = digest.get(..12).unwrap_or(digest);
                let text = format!(
                    "proposed: {act} {object}\n  another person approves it within 24 hours:\n  \
                     sallyport admin proposals approve {short}"
                );
                self.told(&reply, &text)
            }
            _ => self.told(&reply, &format!("done: {act} {object}")),
        }
    }

    async fn listed(&self) -> Result<(Reply, Vec<Proposal>), Failed> {
        let reply = self.read("/admin/proposals").await?;
        let body = reply.json();
        let list = body.get("proposals").and_then(Value::as_array).cloned();
        let list = list.ok_or("the gateway's answer holds no list of proposals")?;
        let mut proposals = Vec::with_capacity(list.len());
        for mut shown in list {
            let digest = shown.as_object_mut().and_then(|it| it.remove("digest"));
            let proposal: Proposal = serde_json::from_value(shown)?;
            // Why: what is approved is the digest, and what is read is the text beside it.
            if digest.as_ref().and_then(Value::as_str) != Some(proposal.name().as_str()) {
                let text = "the gateway shows a proposal whose digest is of something else; approve nothing";
                return Err(Failed::Untried(text.to_owned()));
            }
            proposals.push(proposal);
        }
        Ok((reply, proposals))
    }

    async fn waiting(&self) -> Result<(), Failed> {
        let (reply, proposals) = self.listed().await?;
        if self.json {
            return self.told(&reply, "");
        }
        if proposals.is_empty() {
            say("nothing waits");
        }
        proposals.iter().for_each(tell);
        Ok(())
    }

    /// The one proposal whose digest begins so.
    async fn find(&self, digits: &str) -> Result<Proposal, Failed> {
        if digits.len() < 8 {
            return Err(Failed::Untried(
                "give at least 8 digits of the digest".to_owned(),
            ));
        }
        let (_, proposals) = self.listed().await?;
        let mut fitting = proposals
            .into_iter()
            .filter(|it| it.name().starts_with(digits));
        match (fitting.next(), fitting.next()) {
            (Some(proposal), None) => Ok(proposal),
            (None, _) => Err(Failed::Said(
                "no proposal waits whose digest begins so".to_owned(),
            )),
            (Some(_), Some(_)) => Err(Failed::Untried("two begin so; give more digits".to_owned())),
        }
    }

    async fn approve(&self, it: &Named) -> Result<(), Failed> {
        let proposal = self.find(&it.name).await?;
        if !self.json {
            tell(&proposal);
        }
        self.confirm("approve it", &proposal.object)?;
        let path = format!("/admin/proposals/{}/approve", proposal.name());
        let reply = self.post(&path, &json!({ "why": it.why.why })).await?;
        self.told(
            &reply,
            &format!("approved and done: {} {}", proposal.act, proposal.object),
        )
    }

    /// Asks for the object's name, unless `--yes` was given.
    pub(super) fn confirm(&self, what: &str, object: &str) -> Result<(), Failed> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failed::Untried(format!(
                "{what}: without a terminal this needs --yes"
            )));
        }
        let mut out = std::io::stderr();
        write!(out, "{what}\ntype {object} to go on: ")?;
        out.flush()?;
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        if line.trim() == object {
            Ok(())
        } else {
            Err(Failed::Untried(
                "that is another name; nothing was done".to_owned(),
            ))
        }
    }

    pub(super) async fn show(&self, path: &str) -> Result<(), Failed> {
        let reply = self.read(path).await?;
        if self.json {
            return self.told(&reply, "");
        }
        lines(&reply.json(), 0);
        Ok(())
    }

    pub(super) async fn read(&self, path: &str) -> Result<Reply, Failed> {
        judged(self.http.send(Method::GET, path, &[], "").await?)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Reply, Failed> {
        let headers = [("content-type", "application/json")];
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        judged(self.http.send(Method::POST, path, &headers, text).await?)
    }

    fn told(&self, reply: &Reply, text: &str) -> Result<(), Failed> {
        let entry = entry(reply);
        if self.json {
            say(
                &json!({ "status": reply.status.as_u16(), "entry": entry, "body": reply.json() })
                    .to_string(),
            );
            return Ok(());
        }
        match entry {
            Some(entry) => say(&format!("{text}\n  entry {entry} of the log")),
            None => say(text),
        }
        Ok(())
    }
}

fn place(path: &Path) -> Result<Place, Failed> {
    let wrong =
        |error: &dyn std::fmt::Display| Failed::Untried(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let place: Place = toml::from_str(&text).map_err(|error| wrong(&error))?;
    let beside = |it: PathBuf| path.parent().unwrap_or(Path::new("")).join(it);
    Ok(Place {
        url: place.url,
        ca: place.ca.map(beside),
        client: place.client.map(beside),
    })
}

fn read_json(path: &Path) -> Result<Value, Failed> {
    let wrong =
        |error: &dyn std::fmt::Display| Failed::Untried(format!("{}: {error}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&text).map_err(|error| wrong(&error))
}

/// A refusal is said in words: the gateway gives no reason over the wire, the ledger holds it.
pub(super) fn judged(reply: Reply) -> Result<Reply, Failed> {
    if reply.status.is_success() {
        return Ok(reply);
    }
    let body = reply.json();
    let text = body.get("error_description").and_then(Value::as_str);
    let text = text.map_or_else(|| reply.text(), str::to_owned);
    let entry = entry(&reply).map(|it| format!(" (entry {it} of the log says by which rule)"));
    match reply.status.as_u16() {
        400..=422 => Err(Failed::Said(text + &entry.unwrap_or_default())),
        status => Err(Failed::Untried(format!("{status}: {text}"))),
    }
}

/// Which entry of the log this answer's receipt is of. It is not checked here: `audit verify` does that.
fn entry(reply: &Reply) -> Option<u64> {
    let receipt = B64.decode(reply.header("sallyport-receipt")?).ok()?;
    let receipt: Value = serde_json::from_slice(&receipt).ok()?;
    let leaf: Value = serde_json::from_str(receipt.get("leaf")?.as_str()?).ok()?;
    leaf.get("i")?.as_u64()
}

/// A certificate's thumbprint: as it is given, or of the first certificate in a PEM file.
fn print_of(text: &str) -> Result<String, Failed> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    let certificate = CertificateDer::from_pem_file(text);
    let certificate = certificate.map_err(|error| format!("{text}: {error}"))?;
    let digest = Sha256::digest(certificate.as_ref());
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A proposal, for a person.
fn tell(proposal: &Proposal) {
    let until = i64::try_from(proposal.expires_ms).ok();
    let until = until.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    say(&format!(
        "{}  {} {}",
        proposal.name(),
        proposal.act,
        proposal.object
    ));
    say(&format!(
        "  by {} ({}), until {}",
        proposal.person,
        proposal.client,
        until.map_or_else(|| "?".to_owned(), |it| it.to_string())
    ));
    say(&format!("  why: {}", proposal.why));
    lines(&proposal.payload, 1);
}

/// JSON for a person: a member a line, lists of plain values on one.
pub(super) fn lines(value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                if let Some(text) = plain(value) {
                    say(&format!("{indent}{name}: {text}"));
                } else {
                    say(&format!("{indent}{name}:"));
                    lines(value, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                match plain(item) {
                    Some(text) => say(&format!("{indent}- {text}")),
                    None => {
                        say(&format!("{indent}-"));
                        lines(item, depth + 1);
                    }
                }
            }
        }
        other => say(&format!("{indent}{}", plain(other).unwrap_or_default())),
    }
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("-".to_owned()),
        Value::Bool(true) => Some("yes".to_owned()),
        Value::Bool(false) => Some("no".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        // Why filtered: a name that somebody else wrote must not steer this terminal.
        Value::String(text) => Some(text.chars().filter(|it| !it.is_control()).collect()),
        Value::Array(items) if items.iter().all(|it| !it.is_object() && !it.is_array()) => {
            let items: Vec<String> = items.iter().filter_map(plain).collect();
            Some(items.join(", "))
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// `sallyport possession`: a client's side of registering its keys, run where the private keys are.
#[derive(Subcommand)]
pub enum Possession {
    /// Print the public halves, for the administrator who asks for a challenge.
    Offer {
        /// The key that signs assertions, `sign.jwk`.
        #[arg(long, value_name = "FILE")]
        sign: PathBuf,
        /// The key that opens tickets, `open.jwk`, of a client that opens tickets.
        #[arg(long, value_name = "FILE")]
        open: Option<PathBuf>,
    },
    /// Answer a challenge: print what the administrator then proposes.
    Prove {
        /// The key that signs assertions, `sign.jwk`.
        #[arg(long, value_name = "FILE")]
        sign: PathBuf,
        /// The key that opens tickets, `open.jwk`.
        #[arg(long, value_name = "FILE")]
        open: Option<PathBuf>,
        /// The challenge, as `sallyport admin recipient challenge` printed it.
        #[arg(long, value_name = "FILE")]
        challenge: PathBuf,
    },
}

/// `sallyport possession`
#[must_use]
pub fn possession(command: &Possession) -> ExitCode {
    let (Possession::Offer { sign, open } | Possession::Prove { sign, open, .. }) = command;
    let made = (|| {
        let secret = |path: &PathBuf| super::read_private(path).map(zeroize::Zeroizing::new);
        let sign = secret(sign)?;
        let open = open.as_ref().map(secret).transpose()?;
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| "a key is not JSON".to_owned());
        let own = Own {
            sign: text(&sign)?,
            open: open.as_ref().map(|open| text(open)).transpose()?,
        };
        let out = match command {
            Possession::Offer { .. } => own.offer(),
            Possession::Prove { challenge, .. } => {
                let wrong =
                    |error: &dyn std::fmt::Display| format!("{}: {error}", challenge.display());
                let text = std::fs::read(challenge).map_err(|error| wrong(&error))?;
                own.prove(&serde_json::from_slice(&text).map_err(|error| wrong(&error))?)
            }
        };
        out.map_err(|error| error.to_string())
    })();
    match made {
        Ok(value) => {
            say(&value.to_string());
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error),
    }
}
