//! `sallyport unseal`, `seal` and `keys`: what is done on the gateway's own machine to what opens it. Secrets are read from
//! the terminal without echo, or from a file descriptor; never from an argument, and none is ever printed but the shares,
//! once.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use keys::{HsmError, Means, RootKey, Share};
use serde_json::json;
use zeroize::Zeroizing;

use super::{NO, complain, run, say};
use crate::assembly;
use crate::config::Config;
use crate::porter::{Held, REQUEST_BYTES_MAX, Reply, TalkError, talk};

/// Why it was not done.
enum Failed {
    /// Wrong, or refused: exit code 1.
    Said(String),
    /// It could not be tried: exit code 2.
    Untried(String),
}

impl<E: std::fmt::Display> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Untried(error.to_string())
    }
}

fn ended(done: Result<(), Failed>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Said(text)) => {
            complain(&text);
            ExitCode::from(NO)
        }
        Err(Failed::Untried(text)) => complain(&text),
    }
}

/// A secret, from a file descriptor or from the terminal without echo.
fn secret(fd: Option<u32>, prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failed> {
    let Some(fd) = fd else {
        if !std::io::stdin().is_terminal() {
            let text =
                "there is no terminal to ask on: give the secret on a file descriptor, with --fd N";
            return Err(Failed::Untried(text.to_owned()));
        }
        let typed = rpassword::prompt_password(prompt).map(Zeroizing::new)?;
        return Ok(Zeroizing::new(typed.as_bytes().to_vec()));
    };
    let path = PathBuf::from(format!("/dev/fd/{fd}"));
    let file = std::fs::File::open(&path)
        .map_err(|error| format!("file descriptor {fd} cannot be read: {error}"))?;
    // INVARIANT: the capacity is never exceeded, so no part of it is left behind in a smaller buffer.
    let mut bytes = Zeroizing::new(vec![0; REQUEST_BYTES_MAX]);
    let mut limited = file.take(REQUEST_BYTES_MAX as u64);
    let mut length = 0;
    loop {
        let room = bytes.get_mut(length..).unwrap_or_default();
        match limited.read(room)? {
            0 => break,
            more => length += more,
        }
    }
    bytes.truncate(length);
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}

/// What a gateway's control socket is asked, and what it says.
fn ask(config: &Config, words: &str, given: &[u8]) -> Result<Reply, Failed> {
    let Some(path) = &config.control else {
        let text =
            "the config names no control socket: `control = \"/run/sallyport/control.sock\"`";
        return Err(Failed::Untried(text.to_owned()));
    };
    match run(talk(path, words, given))? {
        Ok(reply) => Ok(reply),
        Err(error @ TalkError::NotYours) => Err(Failed::Said(error.to_string())),
        Err(error) => Err(Failed::Untried(format!(
            "{error}\n  where: {}",
            path.display()
        ))),
    }
}

/// Says what the porter said; exit code 1 if it did not do what was asked.
fn told(reply: &Reply, json: bool) -> Result<(), Failed> {
    if json {
        say(&serde_json::to_string(reply).unwrap_or_default());
    } else if reply.done {
        let line = [reply.text.clone(), standing(reply)].join("\n");
        say(line.trim());
    }
    match reply.done {
        true => Ok(()),
        false if json => Err(Failed::Said(reply.text.clone())),
        false => Err(Failed::Said(format!("{}\n{}", reply.text, standing(reply)))),
    }
}

fn standing(reply: &Reply) -> String {
    let mut text = format!("the gateway is {}", reply.state);
    if reply.state == "sealed" {
        text.push_str(&format!("; it is opened by {}", reply.means));
        if reply.need > 0 {
            let have: Vec<String> = reply.have.iter().map(u8::to_string).collect();
            let left = usize::from(reply.need).saturating_sub(have.len());
            let given = if have.is_empty() {
                "none".to_owned()
            } else {
                have.join(", ")
            };
            text.push_str(&format!(
                "\n  shares given so far: {given}; {left} more needed"
            ));
        }
        if reply.wait_s > 0 {
            text.push_str(&format!(
                "\n  the next try is looked at in {} s",
                reply.wait_s
            ));
        }
    }
    text
}

/// `sallyport unseal`
#[must_use]
pub fn unseal(config: &Path, fd: Option<u32>, only: Option<&str>, json: bool) -> ExitCode {
    ended((|| {
        let config = Config::load(config)?;
        if let Some(words) = only {
            return told(&ask(&config, words, &[])?, json);
        }
        let now = ask(&config, "status", &[])?;
        if now.state != "sealed" {
            return told(&now, json);
        }
        let prompt = match now.asks.as_str() {
            "share" => format!("a share of {}: ", now.means),
            "passphrase" => "passphrase of the root key: ".to_owned(),
            "pin" => "PIN of the hardware token: ".to_owned(),
            _ => return Err(Failed::Untried(now.means)),
        };
        let given = secret(fd, &prompt)?;
        told(
            &ask(&config, &format!("unseal {}", now.asks), &given)?,
            json,
        )
    })())
}

/// `sallyport seal`
#[must_use]
pub fn seal(config: &Path, json: bool) -> ExitCode {
    ended((|| {
        let config = Config::load(config)?;
        told(&ask(&config, "seal", &[])?, json)
    })())
}

/// `sallyport keys`
#[derive(Subcommand)]
pub enum Keys {
    /// Say what opens the root key.
    Means {
        /// The gateway's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// One JSON object, for machines.
        #[arg(long)]
        json: bool,
    },
    /// Seal the root key to shares: any so many of them open it, fewer say nothing. Prints them, once.
    ///
    /// The root key stays the same, and so does everything under it; an older copy of its file still opens by what opened
    /// it then: destroy such copies.
    Shares {
        /// The gateway's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How many open it.
        #[arg(long, value_name = "K")]
        threshold: u8,
        /// How many there are.
        #[arg(long, value_name = "N")]
        shares: u8,
        /// Read what opens it now from this file descriptor, and not from the terminal; shares one a line.
        #[arg(long, value_name = "N")]
        fd: Option<u32>,
        /// One JSON object, for machines.
        #[arg(long)]
        json: bool,
    },
    /// Put the root key under a key in the hardware token that the config names; makes that key where there is none.
    Hsm {
        /// The gateway's config, with `[root.hsm]`.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Read what opens it now from this file descriptor; shares one a line.
        #[arg(long, value_name = "N")]
        fd: Option<u32>,
        /// Read the token's PIN from this file descriptor.
        #[arg(long, value_name = "N")]
        pin_fd: Option<u32>,
    },
    /// Put the root key under a new passphrase, whatever opens it now.
    Passphrase {
        /// The gateway's config.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Read what opens it now from this file descriptor; shares one a line.
        #[arg(long, value_name = "N")]
        fd: Option<u32>,
        /// Read the new passphrase from this file descriptor.
        #[arg(long, value_name = "N")]
        new_fd: Option<u32>,
    },
}

/// `sallyport keys`
#[must_use]
pub fn keys(command: Keys) -> ExitCode {
    ended(match command {
        Keys::Means { config, json } => means(&config, json),
        Keys::Shares {
            config,
            threshold,
            shares,
            fd,
            json,
        } => share_out(&config, threshold, shares, fd, json),
        Keys::Hsm { config, fd, pin_fd } => into_hsm(&config, fd, pin_fd),
        Keys::Passphrase { config, fd, new_fd } => passphrase(&config, fd, new_fd),
    })
}

fn means(config: &Path, json: bool) -> Result<(), Failed> {
    let config = Config::load(config)?;
    let means = RootKey::means(&config.root.file)?;
    match (json, means) {
        (false, means) => say(&format!("the root key is opened by {means}")),
        (true, Means::Hsm) => say(&json!({ "means": "hsm" }).to_string()),
        (true, Means::Passphrase) => say(&json!({ "means": "passphrase" }).to_string()),
        (
            true,
            Means::Shares {
                set,
                threshold,
                count,
            },
        ) => {
            let (means, set) = ("shares", set.to_string());
            say(
                &json!({ "means": means, "set": set, "threshold": threshold, "shares": count })
                    .to_string(),
            );
        }
    }
    Ok(())
}

/// The root key, opened by whatever opens it now.
fn opened(config: &Config, fd: Option<u32>) -> Result<RootKey, String> {
    let path = &config.root.file;
    let held = held(config, path, fd)?;
    RootKey::open(path, held.unlock()).map_err(|error| format!("the root key: {error}"))
}

/// What opens this root file, asked for; or from where the config says that it stands.
pub(super) fn held(config: &Config, file: &Path, fd: Option<u32>) -> Result<Held, String> {
    let asked = |failed| match failed {
        Failed::Said(text) | Failed::Untried(text) => text,
    };
    let means = RootKey::means(file);
    let means = means.map_err(|error| match file == config.root.file {
        true => assembly::AssemblyError::from(error).told(config),
        false => format!("the root key {}: {error}", file.display()),
    })?;
    let given = |prompt| match (fd, &config.root.passphrase_file) {
        (None, Some(path)) => super::read_passphrase(path),
        (fd, _) => secret(fd, prompt).map_err(asked),
    };
    match means {
        Means::Passphrase => given("passphrase of the root key: ").map(Held::Passphrase),
        Means::Hsm => {
            let place = config.root.hsm.as_ref().map(assembly::hsm_key);
            let place = place.ok_or_else(|| assembly::NO_HSM.to_owned())?;
            Ok(Held::Pin(place, given("PIN of the hardware token: ")?))
        }
        Means::Shares { threshold, .. } => {
            let shares = gathered(means, usize::from(threshold), fd);
            shares.map(Held::Shares).map_err(asked)
        }
    }
}

/// As many shares as are needed, typed one by one, or one a line from a file descriptor.
fn gathered(means: Means, need: usize, fd: Option<u32>) -> Result<Vec<Share>, Failed> {
    let mut shares = Vec::with_capacity(need);
    if fd.is_some() {
        let text = secret(fd, "")?;
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            shares.push(Share::parse(line)?);
        }
        return Ok(shares);
    }
    while shares.len() < need {
        let left = need - shares.len();
        let typed = secret(None, &format!("a share of {means}, {left} more: "))?;
        match Share::parse(&typed) {
            Ok(share) => shares.push(share),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "{error}; once more");
            }
        }
    }
    Ok(shares)
}

fn share_out(
    config: &Path,
    threshold: u8,
    count: u8,
    fd: Option<u32>,
    json: bool,
) -> Result<(), Failed> {
    let config = Config::load(config)?;
    let root = opened(&config, fd)?;
    let shares = root.share_out(&config.root.file, threshold, count)?;
    print(&shares, count, json);
    Ok(())
}

fn print(shares: &[Share], count: u8, json: bool) {
    let Some(first) = shares.first() else { return };
    let (set, threshold) = (first.set(), first.threshold());
    if json {
        let texts: Vec<_> = shares
            .iter()
            .map(|share| share.to_text().to_string())
            .collect();
        say(
            &json!({ "set": set.to_string(), "threshold": threshold, "shares": texts }).to_string(),
        );
        return;
    }
    say(&format!(
        "set {set}: any {threshold} of these {count} shares open the root key. They stand nowhere else and are not shown \
         again.\nCopy each to its holder by hand or print it; nobody should hold two.\n"
    ));
    for share in shares {
        say(&format!("share {} of {count}, set {set}", share.index()));
        let text = share.to_text();
        for row in text.as_bytes().chunks(30) {
            say(&format!(
                "  {}",
                String::from_utf8_lossy(row).trim_end_matches('-')
            ));
        }
        say("");
    }
    say(
        "The passphrase or shares from before open nothing now but older copies of the root file: destroy those.",
    );
}

fn into_hsm(config: &Path, fd: Option<u32>, pin_fd: Option<u32>) -> Result<(), Failed> {
    let config = Config::load(config)?;
    let place = config.root.hsm.as_ref().map(assembly::hsm_key);
    let place = place.ok_or(assembly::NO_HSM)?;
    let root = opened(&config, fd)?;
    let pin = secret(pin_fd, "PIN of the hardware token: ")?;
    match keys::make_hsm_key(&place, &pin) {
        Ok(()) => say(&format!(
            "made the key {} in the token {}",
            place.key, place.token
        )),
        Err(HsmError::KeyExists(_)) => {}
        Err(error) => return Err(error.into()),
    }
    root.move_to_hsm(&config.root.file, &place, &pin)?;
    say(
        "the root key is opened by the token; what opened it before opens nothing now but older copies of its file: destroy those",
    );
    Ok(())
}

fn passphrase(config: &Path, fd: Option<u32>, new_fd: Option<u32>) -> Result<(), Failed> {
    let config = Config::load(config)?;
    let root = opened(&config, fd)?;
    let first = secret(new_fd, "new passphrase of the root key: ")?;
    if new_fd.is_none() && *secret(None, "the same again: ")? != *first {
        return Err(Failed::Untried("the two passphrases differ".to_owned()));
    }
    root.change_passphrase(&config.root.file, &first)?;
    say("the root key is opened by the new passphrase; destroy older copies of its file");
    Ok(())
}
