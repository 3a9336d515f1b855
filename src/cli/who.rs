//! `sallyport policy who-could`: asks a running gateway, over mutual TLS, who could open a patient's records now and what
//! changed since; as a practice's system about its own patients, or as an auditor or privacy officer. The gateway decides
//! and records; here the answer is only told. The patient's number is read from standard input or the
//! terminal, so that it stands in no command line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use hyper::{Method, StatusCode};
use keys::ClientKey;
use serde_json::{Value, json};

use super::{NO, complain};
use crate::clock::Clock;
use crate::connect::{Http, Party, Reply};
use crate::ledger::check;

const DAY_MS: u64 = 86_400_000;

const EXAMPLES: &str = "\
Examples, in a folder that `sallyport dev --data world` serves:
    echo 9000000009 | sallyport policy who-could --url URL --ca world/ca.pem --client world/clients/practice-a \\
        --id A81001 --key world/log.vkey --practice A81001 --since-days 7
    sallyport policy who-could --config who.toml --record Observation/bp-1 < number.txt

--id is the client's id; --practice says for which practice it asks. An auditor or privacy officer leaves --practice out.
who.toml holds any of url, ca, client, id, key and practice. Exit codes: 0 told; 1 refused; 2 it could not be tried.";

/// What `sallyport policy who-could` is told.
#[derive(Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    /// The gateway's base URL.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The CA that signed the gateway's certificate.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The client's folder, with `cert.pem`, `key.pem` and `sign.jwk`.
    #[arg(long, value_name = "DIR")]
    client: Option<PathBuf>,
    /// The client's id.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// The log's verification key: `log.vkey`, or the key itself. That the question was recorded is checked with it.
    #[arg(long, value_name = "FILE|VKEY")]
    key: Option<String>,
    /// The practice whose patient it is; left out by auditors and privacy officers.
    #[arg(long, value_name = "ODS")]
    practice: Option<String>,
    /// A TOML file with any of the options above; paths in it are relative to it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One record alone, as its practice named it.
    #[arg(long, value_name = "TYPE/ID")]
    record: Option<String>,
    /// Also tell what changed in so many days.
    #[arg(long, value_name = "DAYS")]
    since_days: Option<u64>,
    /// The gateway's answer as it came, for machines.
    #[arg(long)]
    json: bool,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    url: Option<String>,
    ca: Option<PathBuf>,
    client: Option<PathBuf>,
    id: Option<String>,
    key: Option<String>,
    practice: Option<String>,
}

/// `sallyport policy who-could`
#[must_use]
pub fn who_could(arguments: &Arguments) -> ExitCode {
    match super::run(ask(arguments)) {
        Ok(Ok(Ok(answer))) if arguments.json => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Ok(Ok(Ok(answer))) => {
            print!("{}", told(&answer));
            ExitCode::SUCCESS
        }
        Ok(Ok(Err(text))) => {
            complain(&text);
            ExitCode::from(NO)
        }
        Ok(Err(text)) => complain(&text),
        Err(error) => complain(&error),
    }
}

/// The answer; or what the gateway said instead; or why it could not be tried.
async fn ask(arguments: &Arguments) -> Result<Result<Value, String>, String> {
    let place = match &arguments.config {
        Some(path) => place(path)?,
        None => Place::default(),
    };
    let given =
        |what: Option<String>, name: &str| what.ok_or(format!("--{name} is missing; see --help"));
    let url = given(arguments.url.clone().or(place.url), "url")?;
    let id = given(arguments.id.clone().or(place.id), "id")?;
    let key = given(arguments.key.clone().or(place.key), "key")?;
    let vkey = super::audit::vkey(&key)?;
    let ca = arguments
        .ca
        .clone()
        .or(place.ca)
        .ok_or("--ca is missing; see --help")?;
    let client = arguments.client.clone().or(place.client);
    let client = client.ok_or("--client is missing; see --help")?;
    let practice = arguments.practice.clone().or(place.practice);
    let patient = super::audit::number()?;

    let url = url.trim_end_matches('/');
    let http = Http::new(url, &ca, &client.join("cert.pem"), &client.join("key.pem"))
        .map_err(|error| error.to_string())?;
    let sign = std::fs::read_to_string(client.join("sign.jwk"))
        .map_err(|error| format!("{}: {error}", client.join("sign.jwk").display()))?;
    let sign =
        ClientKey::from_jwk(&sign).map_err(|_| "sign.jwk: is no private signing key".to_owned())?;
    let party = Party {
        issuer: issuer(&http).await?,
        http,
        client_id: id,
        sign,
        open: None,
        vkey,
        seen: None,
    };
    let details = match &practice {
        Some(practice) => json!({ "type": "agreement", "practice": practice }),
        None => json!({ "type": "history", "patient": patient }),
    };
    let clock = Clock::system();
    let token = match party.token(&details, clock.now_s()).await {
        Ok(token) => token,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let since = arguments
        .since_days
        .map(|days| clock.now_ms().saturating_sub(days.saturating_mul(DAY_MS)));
    let mut question = json!({ "patient": patient });
    if let Some(question) = question.as_object_mut() {
        question.extend(
            arguments
                .record
                .clone()
                .map(|it| ("record".to_owned(), it.into())),
        );
        question.extend(since.map(|it| ("since_ms".to_owned(), it.into())));
    }
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let reply = party
        .http
        .send(Method::POST, "/who-could", &headers, question.to_string())
        .await;
    let reply = reply.map_err(|error| error.to_string())?;
    Ok(match reply.status {
        StatusCode::OK => {
            recorded(&reply, &party)?;
            Ok(reply.json())
        }
        status => Err(format!("{status}: {}", reply.text())),
    })
}

/// That the question stands in the log, as the answer says.
fn recorded(reply: &Reply, party: &Party) -> Result<(), String> {
    use base64::Engine as _;
    let receipt = reply
        .header("sallyport-receipt")
        .ok_or("the answer has no receipt")?;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let receipt = engine
        .decode(receipt)
        .map_err(|_| "the receipt is not base64url")?;
    let receipt = serde_json::from_slice(&receipt).map_err(|_| "the receipt is not JSON")?;
    let entry = check(&receipt, &party.vkey).map_err(|error| format!("the receipt: {error}"))?;
    tracing::debug!(entry = ?entry.index, "recorded");
    Ok(())
}

async fn issuer(http: &Http) -> Result<String, String> {
    let path = "/.well-known/oauth-authorization-server";
    let reply = http.send(Method::GET, path, &[], String::new()).await;
    let reply = reply.map_err(|error| error.to_string())?.json();
    let issuer = reply.get("issuer").and_then(Value::as_str);
    issuer
        .map(ToOwned::to_owned)
        .ok_or("the gateway does not say who it is".to_owned())
}

fn place(path: &Path) -> Result<Place, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let mut place: Place = toml::from_str(&text).map_err(|error| wrong(&error))?;
    let from = path.parent().unwrap_or(Path::new("."));
    place.ca = place.ca.map(|it| from.join(it));
    place.client = place.client.map(|it| from.join(it));
    Ok(place)
}

fn at<'a>(value: &'a Value, member: &str) -> &'a str {
    value
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn list<'a>(value: &'a Value, member: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(member)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The answer in words.
fn told(answer: &Value) -> String {
    let mut out = String::new();
    let records: Vec<String> = list(answer, "records")
        .map(|it| {
            let count = it.get("records").and_then(Value::as_u64).unwrap_or(0);
            format!("{}{} {count}", at(it, "category"), labels(it))
        })
        .collect();
    let _ = writeln!(
        out,
        "At {}. Records in question: {}.",
        at(answer, "at"),
        records.join(", ")
    );
    for it in list(answer, "objections_unknown") {
        let _ = writeln!(
            out,
            "Nobody for {}: whether the patient objects is unknown ({}).",
            at(it, "purpose"),
            at(it, "why")
        );
    }
    let _ = writeln!(out);
    if groups(&mut out, answer, "could", "could open") == 0 {
        let _ = writeln!(out, "Nobody could open any of them now.");
    }
    if let Some(since) = answer.get("since") {
        let _ = writeln!(out, "\nSince {}:", at(since, "at"));
        if !at(since, "unknown").is_empty() {
            let _ = writeln!(out, "  unknown: {}", at(since, "unknown"));
        } else {
            let newly = groups(&mut out, since, "newly", "can newly open");
            let gone = groups(&mut out, since, "no_longer", "can no longer open");
            if newly + gone == 0 {
                let _ = writeln!(out, "  nothing changed.");
            }
        }
    }
    let asked = answer.get("asked").cloned().unwrap_or_default();
    let number = |name: &str| asked.get(name).and_then(Value::as_u64).unwrap_or(0);
    let _ = writeln!(
        out,
        "\n{} organisations that could ask were looked at, by {} questions put to the rules.",
        number("organisations"),
        number("questions")
    );
    out
}

fn labels(it: &Value) -> String {
    let labels: Vec<&str> = list(it, "labels").filter_map(Value::as_str).collect();
    match labels.is_empty() {
        true => String::new(),
        false => format!(" ({})", labels.join(" ")),
    }
}

/// One paragraph for those who are told the same; how many there were.
fn groups(out: &mut String, value: &Value, member: &str, verb: &str) -> usize {
    const NAMED: usize = 20;
    let mut count = 0;
    for group in list(value, member) {
        count += 1;
        let all: Vec<&Value> = list(group, "organisations").collect();
        let named = all.iter().take(NAMED).map(|it| match at(it, "name") {
            "" => at(it, "ods").to_owned(),
            name => format!("{name} ({})", at(it, "ods")),
        });
        let named: Vec<String> = named.collect();
        let more = match all.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more (--json names all)"),
        };
        let _ = writeln!(out, "{}{more} {verb}:", named.join(", "));
        for (terms, roles) in terms(group) {
            let _ = writeln!(out, "  {}: {terms}", roles.join(", "));
        }
    }
    count
}

/// The ways of a group in words, and in which roles.
fn terms(group: &Value) -> BTreeMap<String, Vec<&str>> {
    let mut out: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for way in list(group, "ways") {
        let mut by_rule: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for it in list(way, "opens") {
            let what = format!("{}{}", at(it, "category"), labels(it));
            by_rule.entry(at(it, "rule")).or_default().push(what);
        }
        let relationship = way
            .get("relationship")
            .filter(|it| it.is_object())
            .map(|it| {
                format!(
                    " on a relationship ({}, {})",
                    at(it, "type"),
                    at(it, "strength")
                )
            });
        let reason = match at(way, "reason") {
            "" => "",
            "any" => ", declared an emergency with any reason",
            _ => ", declared an emergency with a reason at some length",
        };
        for (rule, what) in by_rule {
            let terms = format!(
                "for {}{}{reason}: {}; by `{rule}`",
                at(way, "purpose"),
                relationship.clone().unwrap_or_default(),
                what.join(", ")
            );
            out.entry(terms).or_default().push(at(way, "role"));
        }
    }
    out
}
