//! `sallyport practice`: what a practice says of its sharing, from its own machine, over mutual TLS with its system's
//! certificate and keys: agreements, the register of emergency providers, how it stands. Nothing is done without a token
//! for just this errand, and no answer is taken whose receipt does not hold.

use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::admin::{Failed, finished, judged, lines};
use super::sharing::begins;
use super::{read_private, say};
use crate::clock::Clock;
use crate::connect::{Http, Party, Reply};
use crate::ledger::{Vkey, check};

const EXAMPLES: &str = "\
Examples:
    sallyport practice --url https://gateway.example.nhs.uk --ca ca.pem --client surgery --key log.vkey \\
        --practice A81001 register show
    sallyport practice … register accept ed-2026 --version 3 --category medications --category allergies \\
        --from 2026-12-01 --until 2027-11-30 --signer 'Dr Ada Prior'
    sallyport practice … agreement withdraw RJ1 A81001-RJ1-2026

Exit codes: 0 done; 1 refused, or it does not fit; 2 it could not be tried.";

/// What `sallyport practice` is told.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The gateway's base URL.
    #[arg(long, value_name = "URL")]
    url: String,
    /// The CA that signed the gateway's certificate.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The folder of the practice's system, with `cert.pem`, `key.pem` and `sign.jwk`.
    #[arg(long, value_name = "DIR")]
    client: PathBuf,
    /// The log's verification key: `log.vkey`, or the key itself.
    #[arg(long, value_name = "FILE|VKEY")]
    key: String,
    /// The practice's ODS code.
    #[arg(long, value_name = "ODS")]
    practice: String,
    /// The client id of its system, where it is not the practice's code.
    #[arg(long, value_name = "CLIENT")]
    id: Option<String>,
    /// The gateway's answer as JSON, for machines.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Cooling-off time, contacts, the systems that act for the practice, approvals of secondary uses.
    Show,
    /// The register of emergency providers: who it names, what the practice accepted, who is new.
    #[command(subcommand)]
    Register(Register),
    /// Agreements, each with exactly one organisation.
    #[command(subcommand)]
    Agreement(Agreement),
}

#[derive(Subcommand)]
enum Register {
    /// As it stands now.
    Show,
    /// Accept a version that was read: one agreement with each organisation of it, for emergencies alone.
    Accept {
        /// What the agreements are called: letters, digits, - . _; used once.
        reference: String,
        /// The version that was read.
        #[arg(long)]
        version: u64,
        #[command(flatten)]
        terms: Terms,
    },
    /// Withdraw all agreements of an acceptance; at the next request.
    Withdraw {
        /// What they are called.
        reference: String,
    },
}

#[derive(Subcommand)]
enum Agreement {
    /// Every agreement, with its state.
    List,
    /// Propose one; it acts once the organisation has accepted it and it has cooled.
    Propose {
        /// The organisation's ODS code.
        organisation: String,
        /// What the agreement is called; used once.
        reference: String,
        /// TREAT, ETREAT, BTG, HRESCH, PUBHLTH or HOPERAT.
        #[arg(long = "purpose", value_name = "CODE", required = true)]
        purposes: Vec<String>,
        #[command(flatten)]
        terms: Terms,
    },
    /// Withdraw one; at the next request.
    Withdraw {
        /// The organisation's ODS code.
        organisation: String,
        /// What the agreement is called.
        reference: String,
    },
}

/// What an agreement says beside its parties and purposes.
#[derive(Args)]
struct Terms {
    /// Categories of record.
    #[arg(long = "category", value_name = "CODE", required = true)]
    categories: Vec<String>,
    /// Sensitivity labels that it expressly covers.
    #[arg(long = "label", value_name = "CODE")]
    labels: Vec<String>,
    /// A declared emergency overrides a patient's objection.
    #[arg(long)]
    overrides_objection: bool,
    /// The first day, as 2026-04-03.
    #[arg(long, value_name = "DATE")]
    from: jiff::civil::Date,
    /// The last day.
    #[arg(long, value_name = "DATE")]
    until: jiff::civil::Date,
    /// Who signs for the practice, by name.
    #[arg(long, value_name = "NAME")]
    signer: String,
}

impl Terms {
    fn body(&self) -> Result<Value, Failed> {
        Ok(json!({
            "categories": self.categories, "labels": self.labels, "signer": self.signer,
            "emergency_overrides_objection": self.overrides_objection,
            "from_ms": begins(self.from)?, "until_ms": begins(self.until.tomorrow()?)?,
        }))
    }
}

/// `sallyport practice`
#[must_use]
pub fn practice(arguments: &Arguments) -> ExitCode {
    finished(super::run(done(arguments)))
}

async fn done(arguments: &Arguments) -> Result<(), Failed> {
    let party = party(arguments).await?;
    let own = &arguments.practice;
    let (method, path, body) = match &arguments.command {
        Command::Show => (Method::GET, format!("/practices/{own}"), Value::Null),
        Command::Register(Register::Show) => {
            let path = format!("/practices/{own}/register");
            (Method::GET, path, Value::Null)
        }
        Command::Register(Register::Accept {
            reference,
            version,
            terms,
        }) => {
            let mut body = terms.body()?;
            if let Some(members) = body.as_object_mut() {
                members.insert("version".to_owned(), (*version).into());
            }
            let path = format!("/practices/{own}/register/{reference}");
            (Method::PUT, path, body)
        }
        Command::Register(Register::Withdraw { reference }) => {
            let path = format!("/practices/{own}/register/{reference}");
            (Method::DELETE, path, Value::Null)
        }
        Command::Agreement(Agreement::List) => (Method::GET, "/agreements".to_owned(), Value::Null),
        Command::Agreement(Agreement::Propose {
            organisation,
            reference,
            purposes,
            terms,
        }) => {
            let mut body = terms.body()?;
            if let Some(members) = body.as_object_mut() {
                members.insert("purposes".to_owned(), json!(purposes));
            }
            let path = format!("/agreements/{own}/{organisation}/{reference}");
            (Method::PUT, path, body)
        }
        Command::Agreement(Agreement::Withdraw {
            organisation,
            reference,
        }) => {
            let path = format!("/agreements/{own}/{organisation}/{reference}");
            (Method::DELETE, path, Value::Null)
        }
    };
    let errand = json!({ "type": "agreement", "practice": own });
    let token = party.ask(&errand, Clock::system().now_s()).await?;
    let token = judged(token)?.json();
    let token = token.get("access_token").and_then(Value::as_str);
    let bearer = format!(
        "Bearer {}",
        token.ok_or("the gateway's answer holds no token")?
    );
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let text = match &body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let reply = judged(party.http.send(method, &path, &headers, text).await?)?;
    let entry = entry(&reply, &party.vkey)?;
    if arguments.json {
        say(&reply.text());
    } else {
        lines(&reply.json(), 0);
        say(&format!("entry {entry} of the log; its receipt holds"));
    }
    Ok(())
}

/// Which entry this answer's receipt is of; an answer without one that holds is not believed.
fn entry(reply: &Reply, vkey: &Vkey) -> Result<u64, Failed> {
    let broken =
        || Failed::Untried("the answer's receipt does not hold: believe none of it".to_owned());
    let receipt = reply.header("sallyport-receipt").ok_or_else(broken)?;
    let receipt = B64.decode(receipt).map_err(|_| broken())?;
    let receipt: Value = serde_json::from_slice(&receipt).map_err(|_| broken())?;
    Ok(check(&receipt, vkey).map_err(|_| broken())?.index)
}

async fn party(arguments: &Arguments) -> Result<Party, Failed> {
    let at = |name: &str| arguments.client.join(name);
    let url = arguments.url.trim_end_matches('/');
    let http = Http::new(url, &arguments.ca, &at("cert.pem"), &at("key.pem"))?;
    let sign = zeroize::Zeroizing::new(read_private(&at("sign.jwk"))?);
    let sign = std::str::from_utf8(&sign).map_err(|_| "sign.jwk is not JSON")?;
    let vkey = std::fs::read_to_string(&arguments.key).unwrap_or_else(|_| arguments.key.clone());
    let metadata = "/.well-known/oauth-authorization-server";
    let metadata = judged(http.send(Method::GET, metadata, &[], "").await?)?.json();
    let issuer = metadata.get("issuer").and_then(Value::as_str);
    Ok(Party {
        http,
        client_id: arguments
            .id
            .clone()
            .unwrap_or_else(|| arguments.practice.clone()),
        sign: keys::ClientKey::from_jwk(sign)?,
        open: None,
        issuer: issuer
            .ok_or("the gateway's metadata name no issuer")?
            .to_owned(),
        vkey: vkey.trim().parse()?,
        seen: None,
    })
}
