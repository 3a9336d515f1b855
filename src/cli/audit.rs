//! The auditor's commands that need no gateway: fetch a copy once, then search, report, export and reconcile offline.
//! The log is hashed anew before anything is said of it. An NHS number is never an argument: it would stand in the
//! list of processes.

use std::io::{BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use keys::{OpenKey, PublicJwk};
use serde_json::{Value, json};

use super::{NO, complain, run, say};
use crate::audit::{self, Entry, Format, Keys, Kind, Mirror, Query, Reconciled};
use crate::connect::Http;
use crate::ledger::audit as log;
use crate::ledger::{Leaf, Vkey};

/// Where the copy stands, and what opens it.
#[derive(Args)]
pub struct Desk {
    /// The copy of the log that `audit fetch` made, or a gateway's own log folder (then without bodies).
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// The log's verification key: `log.vkey`, or the key itself.
    #[arg(long, value_name = "FILE|VKEY")]
    key: String,
    /// What two administrators approved to be disclosed: the answer of `audit.disclose`, as a file. May be repeated.
    #[arg(long, value_name = "FILE", requires = "open_key")]
    disclosed: Vec<PathBuf>,
    /// Your own private key that it is sealed to: `open.jwk`, readable by you alone.
    #[arg(long, value_name = "FILE")]
    open_key: Option<PathBuf>,
    /// Do not hash the log anew first. What is then said rests on files that anybody could have changed.
    #[arg(long)]
    unverified: bool,
    /// One JSON object a line, for machines.
    #[arg(long)]
    json: bool,
}

/// What is looked for; all that is given must fit.
#[derive(Args)]
pub struct Wanted {
    /// What happened: `record.release`, or `record.` for all that begin so.
    #[arg(long)]
    event: Option<String>,
    /// `permit` or `refuse`.
    #[arg(long)]
    outcome: Option<String>,
    /// From this time on: 2026-11-01, or 2026-11-01T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<u64>,
    /// Before this time.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<u64>,
    /// One patient: the NHS number is asked for, or read from standard input.
    #[arg(long)]
    patient: bool,
    /// The practitioner's id.
    #[arg(long, value_name = "ID")]
    practitioner: Option<String>,
    /// The organisation that asked: its ODS code.
    #[arg(long, value_name = "ODS")]
    organisation: Option<String>,
    /// PurposeOfUse code, such as BTG.
    #[arg(long)]
    purpose: Option<String>,
    /// The rule that decided, such as never-against-objection.
    #[arg(long)]
    rule: Option<String>,
}

fn moment(text: &str) -> Result<u64, String> {
    let at = text
        .parse::<jiff::Timestamp>()
        .or_else(|_| format!("{text}T00:00:00Z").parse());
    let at =
        at.map_err(|_| "must be a date like 2026-11-01, or a time like 2026-11-01T08:00:00Z")?;
    u64::try_from(at.as_millisecond()).map_err(|_| "must not be before 1970".to_owned())
}

impl Wanted {
    fn query(self) -> Result<Query, String> {
        Ok(Query {
            patient: if self.patient { Some(number()?) } else { None },
            event: self.event,
            outcome: self.outcome,
            since_ms: self.since,
            until_ms: self.until,
            practitioner: self.practitioner,
            organisation: self.organisation,
            purpose: self.purpose,
            rule: self.rule,
        })
    }
}

/// The patient's NHS number, from standard input or the terminal: it stands in no command line.
pub(super) fn number() -> Result<String, String> {
    let stdin = std::io::stdin();
    let line = if stdin.is_terminal() {
        rpassword::prompt_password("NHS number: ").map_err(|error| error.to_string())?
    } else {
        let mut line = String::new();
        stdin
            .lock()
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        line
    };
    let digits: String = line.chars().filter(|c| !c.is_whitespace()).collect();
    policy::NhsNumber::try_from(digits.as_str())
        .map(|number| number.as_str().to_owned())
        .map_err(|_| "patient: must be an NHS number with the right check digit".to_owned())
}

/// The verification key, from a file or as it is written.
pub(super) fn vkey(key: &str) -> Result<Vkey, &'static str> {
    let text = if Path::new(key).is_file() {
        std::fs::read_to_string(key).unwrap_or_default()
    } else {
        key.to_owned()
    };
    text.trim()
        .parse()
        .map_err(|_| "--key: is neither a file with a C2SP note verification key nor such a key")
}

impl Desk {
    /// The copy, verified unless that was declined, and the keys that open it.
    fn open(&self) -> Result<(Mirror, Keys), ExitCode> {
        let key = vkey(&self.key).map_err(|error| complain(&error))?;
        if !self.log.is_dir() {
            let text = format!("--log: {} is not a folder", self.log.display());
            return Err(complain(&text));
        }
        if !self.unverified {
            let bar = crate::demo::progress(0, "entries");
            let progress = |done: u64, all: u64| {
                bar.set_length(all);
                bar.set_position(done);
            };
            let check = log::Check {
                leaves: false,
                progress: &progress,
                ..log::Check::default()
            };
            let report = log::verify(&log::Folder(self.log.clone()), &key, &check);
            bar.finish_and_clear();
            if !report.holds() {
                super::verify::tell(&report);
                return Err(ExitCode::from(NO));
            }
        }
        let mirror = Mirror::at(&self.log, key);
        let keys = self.keys(&mirror).map_err(|error| complain(&error))?;
        Ok((mirror, keys))
    }

    fn keys(&self, mirror: &Mirror) -> Result<Keys, String> {
        let Some(own) = &self.open_key else {
            return Ok(Keys::default());
        };
        let said =
            |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = zeroize::Zeroizing::new(
            std::fs::read_to_string(own).map_err(|error| said(own, &error))?,
        );
        let open = OpenKey::from_jwk(&text).map_err(|error| said(own, &error))?;
        let set = mirror
            .jwks()
            .ok_or("the copy has no jwks.json: fetch it again")?;
        let set: Value = serde_json::from_str(&set).map_err(|_| "jwks.json: is not JSON")?;
        let listed = set.get("keys").and_then(Value::as_array).cloned();
        let verify: Vec<PublicJwk> = listed
            .unwrap_or_default()
            .iter()
            .filter_map(|key| PublicJwk::from_jwk(&key.to_string()).ok())
            .collect();
        let mut all = Vec::new();
        for path in &self.disclosed {
            let text = std::fs::read_to_string(path).map_err(|error| said(path, &error))?;
            for sealed in disclosures(&text) {
                let opened = keys::open_audit_keys(&open, &verify, &sealed);
                let opened = opened.map_err(|error| said(path, &error))?;
                self.entry_stands(mirror, &opened.leaf)
                    .map_err(|error| said(path, &error))?;
                all.extend(opened.keys.into_iter().map(|(_, key)| key));
            }
        }
        Ok(Keys::new(all))
    }

    /// A disclosure that the log does not hold is none: it would be a look that nobody can find.
    fn entry_stands(&self, mirror: &Mirror, hash: &[u8; 32]) -> Result<(), String> {
        let pick = |leaves: &[Leaf<'_>]| {
            let approvals = leaves
                .iter()
                .filter(|leaf| leaf.text().contains("\"ev\":\"admin.approve\""));
            approvals
                .filter(|leaf| leaf.hash() == *hash)
                .map(Leaf::index)
                .collect::<Vec<u64>>()
        };
        let found = log::gather(mirror.log(), mirror.size()?, &pick)?;
        match found.first() {
            Some(_) => Ok(()),
            None => Err(
                "this copy of the log does not hold the entry of this disclosure: fetch it again"
                    .to_owned(),
            ),
        }
    }
}

/// The sealed texts of an answer of `audit.disclose`, or one text as it is.
fn disclosures(text: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let find = |value: &Value| value.get("keys").and_then(Value::as_array).cloned();
    let listed = find(&value).or_else(|| value.get("done").and_then(find));
    match listed {
        Some(keys) => keys
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        None => vec![text.trim().to_owned()],
    }
}

/// `sallyport audit fetch`
#[must_use]
pub fn fetch(url: &str, client: &Path, ca: &Path, key: &str, into: &Path) -> ExitCode {
    let key = match vkey(key) {
        Ok(key) => key,
        Err(error) => return complain(&error),
    };
    let url = url.trim_end_matches('/').trim_end_matches("/log");
    let http = match Http::new(url, ca, &client.join("cert.pem"), &client.join("key.pem")) {
        Ok(http) => http,
        Err(error) => return complain(&error),
    };
    let bar = crate::demo::progress(0, "entries");
    let mut said = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let mirror = Mirror::at(into, key);
    let done = run(mirror.fetch(&http, &mut said));
    bar.finish_and_clear();
    match done {
        Ok(Ok(size)) => {
            say(&format!(
                "{} entries, with their sealed bodies, in {}",
                size,
                into.display()
            ));
            ExitCode::SUCCESS
        }
        Ok(Err(error)) => complain(&error),
        Err(error) => complain(&error),
    }
}

/// `sallyport audit search`
#[must_use]
pub fn search(desk: &Desk, wanted: Wanted) -> ExitCode {
    let query = match wanted.query() {
        Ok(query) => query,
        Err(error) => return complain(&error),
    };
    let (mirror, keys) = match desk.open() {
        Ok(open) => open,
        Err(code) => return code,
    };
    match query.run(&mirror, &keys) {
        Ok((entries, closed)) => {
            list(desk.json, &entries);
            let looked = if query.needs_bodies() { closed } else { 0 };
            conclude(desk.json, &entries, looked)
        }
        Err(error) => complain(&error),
    }
}

/// `sallyport audit report`
#[must_use]
pub fn report(
    desk: &Desk,
    kind: Kind,
    (record, register): (Option<&str>, Option<&Path>),
    wanted: Wanted,
) -> ExitCode {
    let query = match wanted.query() {
        Ok(query) => query,
        Err(error) => return complain(&error),
    };
    let (mirror, keys) = match desk.open() {
        Ok(open) => open,
        Err(code) => return code,
    };
    let register = match register.map(std::fs::read).transpose() {
        Ok(bytes) => bytes
            .map(|bytes| audit::Register::parse(&bytes))
            .transpose(),
        Err(error) => Err(error.to_string()),
    };
    let report = match register {
        Ok(Some(register)) if kind == Kind::Unusual => {
            audit::unusual(&query, &register, (&mirror, &keys))
        }
        Ok(_) => audit::report(kind, &query, record, (&mirror, &keys)),
        Err(error) => Err(format!("--register: {error}")),
    };
    match report {
        Ok(report) => {
            for (what, count) in &report.counts {
                say(&match desk.json {
                    true => json!({ "what": what, "count": count }).to_string(),
                    false => format!("{count:>8}  {what}"),
                });
            }
            list(desk.json, &report.entries);
            conclude(desk.json, &report.entries, report.closed)
        }
        Err(error) => complain(&error),
    }
}

/// `sallyport audit export`
#[must_use]
pub fn export(desk: &Desk, format: Format, wanted: Wanted) -> ExitCode {
    let query = match wanted.query() {
        Ok(query) => query,
        Err(error) => return complain(&error),
    };
    let (mirror, keys) = match desk.open() {
        Ok(open) => open,
        Err(code) => return code,
    };
    let key = match vkey(&desk.key) {
        Ok(key) => key,
        Err(error) => return complain(&error),
    };
    match query.run(&mirror, &keys) {
        Ok((entries, _)) => {
            audit::header(format).iter().for_each(|line| say(line));
            for entry in &entries {
                say(&audit::row(format, entry, key.name()));
            }
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error),
    }
}

/// `sallyport audit reconcile`
#[must_use]
pub fn reconcile(desk: &Desk, receipts: &[PathBuf]) -> ExitCode {
    let (mirror, _) = match desk.open() {
        Ok(open) => open,
        Err(code) => return code,
    };
    let key = match vkey(&desk.key) {
        Ok(key) => key,
        Err(error) => return complain(&error),
    };
    let mut read = Vec::new();
    for path in receipts {
        match std::fs::read_to_string(path) {
            Ok(text) => read.extend(
                receipts_of(&text)
                    .into_iter()
                    .map(|one| (path.clone(), one)),
            ),
            Err(error) => return complain(&format!("{}: {error}", path.display())),
        }
    }
    let values: Vec<Value> = read.iter().map(|(_, value)| value.clone()).collect();
    let became = match audit::reconcile(&mirror, &key, &values) {
        Ok(became) => became,
        Err(error) => return complain(&error),
    };
    let held = became
        .iter()
        .filter(|it| matches!(it, Reconciled::Held(_)))
        .count();
    for ((path, _), became) in read.iter().zip(&became) {
        let words = match became {
            Reconciled::Held(_) => continue,
            Reconciled::NotAReceipt(why) => why.clone(),
            Reconciled::Beyond(index) => format!(
                "entry {index} is signed and this copy ends before it: fetch again; if it stays so, entries were taken away"
            ),
            Reconciled::Other(index) => {
                format!(
                    "entry {index} is signed and the log has another in its place: history was rewritten"
                )
            }
        };
        say(&match desk.json {
            true => json!({ "file": path.display().to_string(), "found": words }).to_string(),
            false => format!("  FOUND {}: {words}", path.display()),
        });
    }
    if !desk.json {
        say(&format!(
            "{held} of {} receipts are for entries that stand",
            became.len()
        ));
    }
    match held == became.len() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(NO),
    }
}

/// Receipts of a file: one in JSON, one a line, or the first line of a hospital's answer.
fn receipts_of(text: &str) -> Vec<Value> {
    let one = |text: &str| {
        let value: Value = serde_json::from_str(text).ok()?;
        if value.get("leaf").is_some() {
            return Some(value);
        }
        value.get("receipt").cloned()
    };
    match one(text) {
        Some(receipt) => vec![receipt],
        None => text.lines().filter_map(one).collect(),
    }
}

fn list(is_json: bool, entries: &[Entry]) {
    for entry in entries {
        if is_json {
            say(&audit::row(Format::Ndjson, entry, ""));
            continue;
        }
        let person = match (
            entry.said("actor", "practitioner"),
            entry.said("context", "role"),
        ) {
            ("", _) => entry.said("actor", "client").to_owned(),
            (person, "") => person.to_owned(),
            (person, role) => format!("{person} ({role})"),
        };
        let words: Vec<&str> = [
            entry.outcome(),
            entry.said("actor", "organisation"),
            &person,
            entry.patient(),
            entry.said("context", "purpose"),
            entry.said("context", "rule"),
            entry.said("object", "act"),
            entry.said("context", "reason"),
        ]
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect();
        let altered = if entry.is_altered {
            "  BODY ALTERED"
        } else {
            ""
        };
        let marks = entry.marks.join(" ");
        let altered = format!("  {marks}{altered}");
        let altered = altered.trim_end();
        let (index, at, event) = (entry.index, entry.at(), entry.event());
        say(&format!(
            "{index:>8}  {at}  {event:<16} {}{altered}",
            words.join("  ")
        ));
    }
}

/// Says what the answer leaves out. A body that is not what its leaf commits to is a finding.
fn conclude(is_json: bool, entries: &[Entry], closed: u64) -> ExitCode {
    if closed > 0 && !is_json {
        say(&format!(
            "{closed} entries could not be looked into: no key for them was disclosed"
        ));
    }
    if is_json && closed > 0 {
        say(&json!({ "closed": closed }).to_string());
    }
    match entries.iter().any(|entry| entry.is_altered) {
        true => ExitCode::from(NO),
        false => ExitCode::SUCCESS,
    }
}
