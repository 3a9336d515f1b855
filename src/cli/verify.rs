//! `sallyport audit verify`: the whole log, hashed again, from a folder or from a gateway; held against what was seen of
//! it before, and against what witnesses that the auditor names have cosigned. No gateway is believed here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{NO, audit, complain, say};
use crate::connect::Http;
use crate::ledger::audit as log;
use crate::ledger::cosign::WitnessKey;

/// Which log, and what it is held against.
#[derive(Args)]
pub struct Verify {
    /// The log's folder (C2SP tlog-tiles), or the gateway's `https://…/log`.
    #[arg(long, value_name = "DIR|URL")]
    log: String,
    /// For a URL: the folder of a registered auditor, with `cert.pem` and `key.pem`.
    #[arg(long, value_name = "DIR", requires = "ca")]
    client: Option<PathBuf>,
    /// For a URL: the CA that signed the gateway's certificate.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The log's verification key: `log.vkey`, or the key itself.
    #[arg(long, value_name = "FILE|VKEY")]
    key: String,
    /// A checkpoint seen earlier: the log must be an extension of it. May be repeated.
    #[arg(long, value_name = "FILE")]
    since: Vec<PathBuf>,
    /// A witness that you trust: its key, or a file with it, as its operator gave it to you. May be repeated.
    #[arg(long, value_name = "FILE|VKEY")]
    witness: Vec<String>,
    /// So many of the witnesses must have cosigned; all of them, if not given.
    #[arg(long, value_name = "N", requires = "witness")]
    quorum: Option<usize>,
    /// Minutes after their last cosignature in which entries may still come.
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    cosigned_within: u64,
    /// One JSON object, for machines.
    #[arg(long)]
    json: bool,
}

impl Verify {
    fn source(&self) -> Result<Box<dyn log::Source>, String> {
        if let Some(url) = self.log.strip_prefix("https://") {
            let (Some(client), Some(ca)) = (&self.client, &self.ca) else {
                return Err("--log: a URL also needs --client and --ca".to_owned());
            };
            return Ok(Box::new(Remote::new(
                &format!("https://{url}"),
                client,
                ca,
            )?));
        }
        match Path::new(&self.log).is_dir() {
            true => Ok(Box::new(log::Folder(self.log.clone().into()))),
            false => Err(format!("--log: {} is not a folder", self.log)),
        }
    }

    fn witnesses(&self) -> Result<(Vec<WitnessKey>, usize), String> {
        let read = |key: &String| {
            let text = match Path::new(key).is_file() {
                true => std::fs::read_to_string(key).unwrap_or_default(),
                false => key.clone(),
            };
            let key: Result<WitnessKey, _> = text.trim().parse();
            key.map_err(|_| {
                "--witness: is neither a file with a C2SP cosignature key nor such a key".to_owned()
            })
        };
        let keys = self
            .witness
            .iter()
            .map(read)
            .collect::<Result<Vec<_>, _>>()?;
        let quorum = self.quorum.unwrap_or(keys.len());
        if !keys.is_empty() && !(1..=keys.len()).contains(&quorum) {
            return Err("--quorum: must be 1 to the number of witnesses named".to_owned());
        }
        Ok((keys, quorum))
    }
}

/// `sallyport audit verify`
#[must_use]
pub fn verify(asked: &Verify) -> ExitCode {
    let file = Path::new(&asked.key)
        .is_file()
        .then(|| Path::new(&asked.key).with_extension("seen"));
    let key = match audit::vkey(&asked.key) {
        Ok(key) => key,
        Err(error) => return complain(&error),
    };
    let mut known = Vec::new();
    for path in &asked.since {
        match std::fs::read_to_string(path) {
            Ok(note) => known.push(note),
            Err(error) => return complain(&format!("--since: {}: {error}", path.display())),
        }
    }
    let (witnesses, quorum) = match asked.witnesses() {
        Ok(named) => named,
        Err(error) => return complain(&error),
    };
    let source = match asked.source() {
        Ok(source) => source,
        Err(error) => return complain(&error),
    };
    // Why kept: a log that was cut back is sound in itself; only what was seen of it before shows the cut.
    let before = file
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok());
    known.extend(before);
    let bar = crate::demo::progress(0, "entries");
    let progress = |done: u64, all: u64| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let check = log::Check {
        known: &known,
        witnesses: &witnesses,
        quorum,
        uncosigned_ms_max: asked.cosigned_within.saturating_mul(60_000),
        progress: &progress,
        ..log::Check::default()
    };
    let report = log::verify(source.as_ref(), &key, &check);
    bar.finish_and_clear();
    if asked.json {
        say(&report.to_json().to_string());
    } else {
        tell(&report);
    }
    if !report.holds() {
        return ExitCode::from(NO);
    }
    if let Some(file) = file
        && let Err(error) = std::fs::write(&file, &report.note)
    {
        let text = "this checkpoint is not kept, so a later cut behind it would not show";
        let _ = writeln!(
            std::io::stderr(),
            "sallyport: {}: {error}; {text}",
            file.display()
        );
    }
    ExitCode::SUCCESS
}

/// An audit's report, for a person.
pub(super) fn tell(report: &log::Report) {
    let root: String = report
        .root
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    say(&format!(
        "{}\n  {} entries, root {root}",
        report.origin, report.size
    ));
    if let Some((_, later)) = report
        .keys
        .split_first()
        .filter(|(_, later)| !later.is_empty())
    {
        say(
            "  the key you hold handed over, each time by an entry that it signed; the log's key is now",
        );
        say(&format!("    {}", later.last().map_or("", String::as_str)));
    }
    if let Some(cosigned) = &report.cosigned {
        for (witness, time_s) in &cosigned.by {
            let at = i64::try_from(*time_s).ok();
            let at = at.and_then(|at| jiff::Timestamp::from_second(at).ok());
            let at = at.map_or_else(|| time_s.to_string(), |at| at.to_string());
            say(&format!(
                "  {witness} cosigned the first {} of them at {at}",
                cosigned.size
            ));
        }
    }
    for finding in &report.findings {
        let range = &finding.entries;
        let file = finding
            .file
            .as_deref()
            .map(|file| format!(" ({file})"))
            .unwrap_or_default();
        say(&format!(
            "  FOUND {}: entries {}..{}{file}: {}",
            finding.what.code(),
            range.start,
            range.end,
            finding.meaning
        ));
    }
    match (report.holds(), report.more) {
        (true, _) => say(
            "  every entry hashes to what the key signed; nothing is missing, changed or out of order",
        ),
        (false, 0) => say("  the log does NOT hold"),
        (false, more) => say(&format!(
            "  and {more} more findings: the log does NOT hold"
        )),
    }
}

/// A log that is read from a gateway over mutual TLS, with an auditor's certificate.
struct Remote {
    http: Http,
    runtime: tokio::runtime::Runtime,
}

impl Remote {
    fn new(url: &str, client: &Path, ca: &Path) -> Result<Self, String> {
        let (certificate, key) = (client.join("cert.pem"), client.join("key.pem"));
        let url = url.trim_end_matches('/');
        let http = Http::new(url, ca, &certificate, &key).map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        Ok(Self { http, runtime })
    }
}

impl log::Source for Remote {
    fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let path = format!("/{name}");
        let reply = self.http.send(hyper::Method::GET, &path, &[], Vec::new());
        let reply = self
            .runtime
            .block_on(reply)
            .map_err(|error| error.to_string())?;
        match reply.status.as_u16() {
            200 => Ok(Some(reply.body.to_vec())),
            404 => Ok(None),
            status => Err(format!("{name}: {status} {}", reply.text())),
        }
    }
}
