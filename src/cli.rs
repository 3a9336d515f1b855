//! What each command does, and what it says. Messages go to a person; `--json` is for machines.

pub mod admin;
pub mod audit;
pub mod connect;
pub mod explain;
pub mod seal;
pub mod verify;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use zeroize::Zeroizing;

pub mod practice;
pub mod rules;
mod sharing;
pub mod who;

use crate::assembly;
use crate::clock::Clock;
use crate::config::Config;
use crate::dev::{World, WorldError};
use crate::facts::Statement;
use crate::porter::{self, Porter};

/// Something did not hold, or was refused.
const NO: u8 = 1;
/// It could not be tried.
const UNTRIED: u8 = 2;

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn complain(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "sallyport: {error}");
    ExitCode::from(UNTRIED)
}

/// Log lines go to standard error; `RUST_LOG` says how many. None of them names a patient, token or key.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let filter =
        filter.unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,sallyport=info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

fn run<T>(work: impl Future<Output = T>) -> Result<T, std::io::Error> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work))
}

/// `sallyport demo`
#[must_use]
pub fn demo(records: Option<&Path>, json: bool) -> ExitCode {
    if std::env::var_os("RUST_LOG").is_some() {
        log();
    }
    match run(crate::demo::tell(records, json)) {
        Ok(Ok(true)) => ExitCode::SUCCESS,
        Ok(Ok(false)) => ExitCode::from(NO),
        Ok(Err(error)) => complain(&error),
        Err(error) => complain(&error),
    }
}

/// `sallyport bench`
#[must_use]
pub fn bench(size: crate::bench::Size<'_>, json: bool) -> ExitCode {
    let mut said = |what: &str, value: &serde_json::Value| {
        if json {
            say(&serde_json::json!({ "what": what, "value": value }).to_string());
        } else {
            say(&format!("{what:45} {value}"));
        }
    };
    match run(crate::bench::measure(size, &mut said)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => complain(&error),
        Err(error) => complain(&error),
    }
}

/// Resolves when the process is asked to stop.
async fn asked_to_stop() {
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

/// `sallyport dev`
#[must_use]
pub fn dev(data: &Path, listen: SocketAddr) -> ExitCode {
    log();
    let work = async {
        let world = World::open(data, listen, &[]).await?;
        say(&format!("serving {}", world.url()));
        say(&format!(
            "  {}/world.json   organisations, practitioners, patients and a catalogue of asks",
            data.display()
        ));
        say(&format!(
            "  {}/clients/     certificate and keys of each party",
            data.display()
        ));
        say(&format!(
            "  curl --cacert {0}/ca.pem --cert {0}/clients/hospital-a/cert.pem --key {0}/clients/hospital-a/key.pem {1}/fhir/metadata",
            data.display(),
            world.url()
        ));
        say(&format!(
            "  {}/auditor   the auditor's page; for a browser:",
            world.url()
        ));
        say(&format!(
            "  openssl pkcs12 -export -in {0}/clients/auditor/cert.pem -inkey {0}/clients/auditor/key.pem -out auditor.p12",
            data.display()
        ));
        say("stop with Ctrl-C");
        asked_to_stop().await;
        world.stop().await
    };
    match run(work) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(WorldError::Assembly(error))) => match Config::load(&data.join("sallyport.toml")) {
            Ok(config) => complain(&error.told(&config)),
            Err(_) => complain(&error),
        },
        Ok(Err(error)) => complain(&error),
        Err(error) => complain(&error),
    }
}

/// The passphrase of a new root key: from an owner-only file, or asked for on the terminal, twice; never an argument.
fn passphrase(config: &Config) -> Result<Zeroizing<Vec<u8>>, String> {
    if let Some(path) = &config.root.passphrase_file {
        return read_passphrase(path);
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|error| error.to_string())
    };
    let first = ask("passphrase of the root key: ")?;
    if *ask("the same again: ")? != *first {
        return Err("the two passphrases differ".to_owned());
    }
    Ok(Zeroizing::new(first.as_bytes().to_vec()))
}

fn read_passphrase(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut text = Zeroizing::new(read_private(path)?);
    while text
        .last()
        .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
    {
        text.pop();
    }
    Ok(text)
}

/// A file that only its owner may read, or none.
fn read_private(path: &Path) -> Result<Vec<u8>, String> {
    use std::os::unix::fs::MetadataExt as _;
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    if std::fs::metadata(path).map_err(wrong)?.mode() & 0o077 != 0 {
        return Err(format!("{}: others may read it; chmod 600", path.display()));
    }
    std::fs::read(path).map_err(wrong)
}

/// `sallyport init`
#[must_use]
pub fn init(config: &Path, statements_file: &Path) -> ExitCode {
    log();
    let made = (|| {
        let config = Config::load(config).map_err(|error| error.to_string())?;
        let text = std::fs::read(statements_file)
            .map_err(|error| format!("{}: {error}", statements_file.display()))?;
        let statements: Vec<Statement> = serde_json::from_slice(&text)
            .map_err(|error| format!("{}: {error}", statements_file.display()))?;
        for (index, statement) in statements.iter().enumerate() {
            // Why before anything is founded: a gateway with half a directory could not be made again.
            let wrong = |error| {
                format!(
                    "statement {index} of {}: {error}",
                    statements_file.display()
                )
            };
            statement.check().map_err(wrong)?;
        }
        let passphrase = passphrase(&config)?;
        let clock = Clock::system();
        assembly::found(&config, &passphrase, &clock).map_err(|error| error.to_string())?;
        let work = async {
            let gateway = assembly::open(&config, &passphrase, clock).await?;
            gateway.load(statements).await?;
            let vkey = gateway.ledger().vkey().to_string();
            gateway.close().await?;
            Ok::<_, assembly::AssemblyError>(vkey)
        };
        let vkey = run(work)
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let path = config.log.with_extension("vkey");
        std::fs::write(&path, format!("{vkey}\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>((vkey, path))
    })();
    match made {
        Ok((vkey, path)) => {
            say(&format!(
                "a new gateway; its log is verified with\n  {vkey}\nwhich also stands in {}",
                path.display()
            ));
            say(
                "hand that key to your auditors now, and keep the root key's passphrase where two people find it",
            );
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error),
    }
}

/// `sallyport serve`
#[must_use]
pub fn serve(config: &Path) -> ExitCode {
    log();
    let work = async {
        let config = Config::load(config).map_err(|error| error.to_string())?;
        let tls = porter::tls(&config).map_err(|error| error.to_string())?;
        let (listen, is_patient) = (config.listen, config.control.is_some());
        let held = match &config.root.passphrase_file {
            None if is_patient => None,
            _ => Some(seal::held(&config, &config.root.file, None)),
        };
        let porter = Porter::new(config);
        let opened = match held {
            None => Ok(()),
            Some(Err(error)) => Err(error),
            Some(Ok(held)) => {
                let opened = porter.unseal_with(held).await;
                opened.map_err(|error| error.to_string())
            }
        };
        match opened {
            // Why not the end: whoever can unseal it has a socket to do so.
            Err(error) if is_patient => tracing::error!(%error, "it stays sealed"),
            opened => opened?,
        }
        let doors = porter.serve(tls).await.map_err(|error| error.to_string())?;
        tracing::info!(%listen, address = %doors.address(), "serving");
        asked_to_stop().await;
        doors.stop().await.map_err(|error| error.to_string())
    };
    match run(work) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => complain(&error),
        Err(error) => complain(&error),
    }
}

/// `sallyport restore`
#[must_use]
pub fn restore(from: &Path, config: &Path, since: &[PathBuf], json: bool) -> ExitCode {
    log();
    let restored = (|| {
        let config = Config::load(config).map_err(|error| error.to_string())?;
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let since = since.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let backed_up = from.join("root.key");
        let file = match config.root.file.exists() {
            true => &config.root.file,
            false => &backed_up,
        };
        let held = seal::held(&config, file, None)?;
        let work = assembly::restore(&config, from, &since, held.unlock(), Clock::system());
        run(work)
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    })();
    let restored = match restored {
        Ok(restored) => restored,
        Err(error) => return complain(&error),
    };
    let size = restored.manifest.size;
    let lost = restored.known.map(|known| known.saturating_sub(size));
    if json {
        let value = serde_json::json!({
            "entries": size, "taken_ms": restored.manifest.taken_ms, "known": restored.known, "missing": lost,
            "log_aside": restored.aside, "held": true,
        });
        say(&value.to_string());
        return ExitCode::SUCCESS;
    }
    say(&format!(
        "put back: {size} entries, every file as it was copied, the whole opened and verified"
    ));
    match (lost, restored.known) {
        (Some(0), _) => say("nothing is known to have come after the backup"),
        (Some(lost), Some(known)) => say(&format!(
            "MISSING: {lost} entries, {size} to {known}, were signed after the backup; ask those who hold receipts"
        )),
        _ => say(
            "no later checkpoint was given, so what came after the backup is not known: ask your auditors",
        ),
    }
    if let Some(aside) = &restored.aside {
        say(&format!(
            "the log published before is kept as evidence in {}",
            aside.display()
        ));
    }
    say(
        "it serves nobody until two administrators acknowledge this: propose and approve `backup.restore`",
    );
    ExitCode::SUCCESS
}

/// `sallyport store rebuild`
#[must_use]
pub fn store_rebuild(config: &Path) -> ExitCode {
    log();
    let rebuilt = (|| {
        let config = Config::load(config).map_err(|error| error.to_string())?;
        let held = seal::held(&config, &config.root.file, None)?;
        assembly::rebuild(&config, held.unlock()).map_err(|error| error.told(&config))
    })();
    match rebuilt {
        Ok(recovery) => {
            say(&format!(
                "the index was built from {} commits; start the gateway again",
                recovery.commits_replayed
            ));
            ExitCode::SUCCESS
        }
        Err(error) => complain(&error),
    }
}
