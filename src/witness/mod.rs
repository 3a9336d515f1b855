//! The log's witnesses (C2SP tlog-witness): others, not run by this gateway's operator, who cosign a checkpoint only if
//! all they ever saw of the log is a prefix of it. So the operator cannot show one log here and another one there.
//!
//! Asked beside the requests, never between them: a release waits for no witness. But if no quorum has cosigned for
//! longer than the limit, ordinary releases stop; emergencies go on and are marked. A witness that is down, slow or lying
//! holds up no other. What it answers is believed only where its signature verifies; what it says is read to a limit.

mod call;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clock::Clock;
use crate::config::Witnessing;
use crate::ledger::cosign::{WitnessKey, cosigners, quorum_time};
use crate::ledger::note::Checkpoint;
use crate::ledger::{Ledger, ReadError};
use call::{Answer, Call};

/// After a round that brought no quorum the next comes soon, at first after this, then after twice as long.
const RETRY: Duration = Duration::from_secs(1);
/// How often one witness may correct, in one round, what it last saw.
const CORRECTIONS_MAX: usize = 3;

/// Why a witness cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// Its key does not read.
    #[error(
        "witness: `key` must be a C2SP cosignature key (NAME+HASH+BASE64, type 4; in the name letters, digits and ./_:-): {0:?}"
    )]
    Key(String),
    /// Two with one name.
    #[error("witness: {0} stands twice; a quorum of one is none")]
    Twice(String),
    /// Its address.
    #[error("witness: {0}: {1}")]
    Address(String, String),
}

/// How one witness stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub witness: String,
    /// Entries that it last cosigned.
    pub size: u64,
    /// Seconds since then, by its own clock; `None`: never.
    pub age_s: Option<u64>,
    /// Why the last attempt failed, if it did.
    pub failure: Option<String>,
    /// It holds another history than this log, or a longer one.
    pub is_refused: bool,
}

/// Why ordinary releases stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Seconds since a quorum cosigned; `u64::MAX` if none ever did.
    pub seconds: u64,
}

#[derive(Default)]
struct Known {
    /// Entries that it last cosigned, as far as is known: what the next proof begins from.
    size: u64,
    /// When, seconds, by its own clock.
    time_s: Option<u64>,
    /// The checkpoint that it cosigned last, and the line by which.
    line: Option<(String, String)>,
    failure: Option<String>,
    is_refused: bool,
}

struct Witness {
    key: WitnessKey,
    call: Call,
    known: Mutex<Known>,
}

impl Witness {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last checkpoint that a quorum cosigned.
#[derive(Default)]
struct Kept {
    note: Option<Arc<str>>,
    /// When the quorum was full, seconds.
    time_s: Option<u64>,
}

/// The witnesses of one log.
pub struct Witnesses {
    by: Vec<Arc<Witness>>,
    quorum: usize,
    every: Duration,
    lag_max_s: u64,
    kept: Mutex<Kept>,
    clock: Clock,
}

impl Witnesses {
    /// The witnesses of that config; none where it names none.
    ///
    /// # Errors
    /// [`WitnessError`] names the witness and the rule.
    pub fn new(config: Option<&Witnessing>, clock: Clock) -> Result<Self, WitnessError> {
        let mut by: Vec<Arc<Witness>> = Vec::new();
        for one in config.iter().flat_map(|config| &config.by) {
            let key: WitnessKey = one
                .key
                .parse()
                .map_err(|_| WitnessError::Key(one.key.clone()))?;
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"./_:-".contains(&b);
            if !key.name().bytes().all(plain) {
                return Err(WitnessError::Key(one.key.clone()));
            }
            if by.iter().any(|other| other.key.name() == key.name()) {
                return Err(WitnessError::Twice(key.name().to_owned()));
            }
            let call = Call::new(&one.url, one.ca.as_deref());
            let wrong = |rule| WitnessError::Address(key.name().to_owned(), rule);
            by.push(Arc::new(Witness {
                call: call.map_err(wrong)?,
                key,
                known: Mutex::default(),
            }));
        }
        Ok(Self {
            by,
            quorum: config.map_or(0, |config| config.quorum),
            every: Duration::from_secs(config.map_or(u64::MAX, |config| config.every_s)),
            lag_max_s: config.map_or(u64::MAX, |config| config.lag_max_s),
            kept: Mutex::default(),
            clock,
        })
    }

    /// Takes up what was cosigned before this start, from the log folder.
    pub fn resume(&self, ledger: &Ledger) {
        if let Ok(Some(note)) = ledger.file("witnessed")
            && let Ok(note) = std::str::from_utf8(&note)
        {
            self.keep(note);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a cosigned checkpoint for the latest, if a quorum of the witnesses named now cosigned it.
    fn keep(&self, note: &str) -> bool {
        let keys: Vec<WitnessKey> = self.by.iter().map(|witness| witness.key.clone()).collect();
        let found = cosigners(note, &keys);
        let Some(time_s) = quorum_time(&found, self.quorum) else {
            return false;
        };
        let size = Checkpoint::unverified(note).map_or(0, |checkpoint| checkpoint.size);
        for (key, time_s) in &found {
            let witness = self.by.iter().find(|witness| witness.key == **key);
            if let Some(mut known) = witness.map(|witness| witness.known()) {
                known.size = known.size.max(size);
                known.time_s = known.time_s.max(Some(*time_s));
            }
        }
        let mut kept = self.kept();
        (kept.note, kept.time_s) = (Some(note.into()), Some(time_s));
        true
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    /// The last checkpoint that a quorum cosigned, with their cosignatures.
    #[must_use]
    pub fn cosigned(&self) -> Option<Arc<str>> {
        self.kept().note.clone()
    }

    /// Seconds since a quorum cosigned, by the witnesses' clocks; `None` where there are no witnesses.
    #[must_use]
    pub fn lag_s(&self) -> Option<u64> {
        if self.by.is_empty() {
            return None;
        }
        let now_s = self.clock.now_s();
        let age = |time_s| now_s.saturating_sub(time_s);
        Some(self.kept().time_s.map_or(u64::MAX, age))
    }

    /// Why ordinary releases stop; `None` while they may go on.
    #[must_use]
    pub fn stops(&self) -> Option<Lag> {
        let seconds = self.lag_s()?;
        (seconds > self.lag_max_s).then_some(Lag { seconds })
    }

    /// Whether a witness has been silent for longer than the limit.
    #[must_use]
    pub fn is_silent(&self, standing: &Standing) -> bool {
        standing.age_s.is_none_or(|age_s| age_s > self.lag_max_s)
    }

    /// How each of them stands.
    #[must_use]
    pub fn standing(&self) -> Vec<Standing> {
        let now_s = self.clock.now_s();
        let one = |witness: &Arc<Witness>| {
            let known = witness.known();
            Standing {
                witness: witness.key.name().to_owned(),
                size: known.size,
                age_s: known.time_s.map(|time_s| now_s.saturating_sub(time_s)),
                failure: known.failure.clone(),
                is_refused: known.is_refused,
            }
        };
        self.by.iter().map(one).collect()
    }

    /// Asks them, round after round, until it is dropped.
    pub async fn run(&self, ledger: &Ledger) {
        if self.by.is_empty() {
            return;
        }
        let mut retry = RETRY;
        loop {
            let pause = if self.round(ledger).await {
                retry = RETRY;
                self.every
            } else {
                let pause = retry.min(self.every);
                retry = retry.saturating_mul(2).min(self.every);
                pause
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Shows all of them the published checkpoint; whether a quorum cosigned it.
    async fn round(&self, ledger: &Ledger) -> bool {
        let published = ledger.file("checkpoint").ok().flatten();
        let note = published.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let Some(note) = note else {
            tracing::error!("witnesses: the published checkpoint cannot be read");
            return false;
        };
        let note: Arc<str> = note.into();
        let mut asks = tokio::task::JoinSet::new();
        for witness in &self.by {
            let (witness, ledger, note) = (Arc::clone(witness), ledger.clone(), Arc::clone(&note));
            asks.spawn(async move { ask(&witness, &ledger, &note).await });
        }
        while asks.join_next().await.is_some() {}
        let mut cosigned = note.to_string();
        for witness in &self.by {
            let known = witness.known();
            if let Some((_, line)) = known.line.as_ref().filter(|(of, _)| **of == *note) {
                cosigned.push_str(line);
            }
        }
        if !self.keep(&cosigned) {
            return false;
        }
        if let Err(error) = ledger.keep_witnessed(&cosigned) {
            tracing::warn!(%error, "the cosigned checkpoint could not be written to the log folder");
        }
        true
    }
}

/// Shows one witness the checkpoint, and remembers what came of it.
async fn ask(witness: &Witness, ledger: &Ledger, note: &str) {
    let name = witness.key.name().to_owned();
    match exchange(witness, ledger, note).await {
        Ok(()) => {}
        Err(Trouble::Later(why)) => {
            tracing::warn!(witness = name, why, "a witness did not cosign");
            witness.known().failure = Some(why);
        }
        Err(Trouble::Refused(why)) => {
            tracing::error!(witness = name, why, "a witness holds another history");
            let mut known = witness.known();
            (known.failure, known.is_refused) = (Some(why), true);
        }
    }
}

enum Trouble {
    /// To be tried again.
    Later(String),
    /// It holds another history than this log.
    Refused(String),
}

async fn exchange(witness: &Witness, ledger: &Ledger, note: &str) -> Result<(), Trouble> {
    let later = |why: &str| Trouble::Later(why.to_owned());
    let head = Checkpoint::unverified(note).ok_or_else(|| later("our checkpoint does not read"))?;
    let mut old = witness.known().size.min(head.size);
    for _ in 0..CORRECTIONS_MAX {
        let body = request(ledger, old, &head, note).map_err(|error| later(&error.to_string()))?;
        match witness
            .call
            .add_checkpoint(body)
            .await
            .map_err(Trouble::Later)?
        {
            Answer::Cosigned(lines) => {
                let picked = witness.key.pick(note, &lines);
                let (line, time_s) = picked.map_err(|error| {
                    Trouble::Later(format!("it answered with no cosignature of its: {error}"))
                })?;
                let mut known = witness.known();
                *known = Known {
                    size: head.size,
                    time_s: Some(time_s),
                    line: Some((note.to_owned(), line)),
                    failure: None,
                    is_refused: false,
                };
                return Ok(());
            }
            Answer::Saw(size) if size > ledger.health().size => {
                return Err(Trouble::Refused(format!(
                    "it has cosigned {size} entries of this log, and there are {}: entries are gone",
                    ledger.health().size
                )));
            }
            Answer::Saw(size) if size > head.size => {
                return Err(later("somebody has shown it a newer checkpoint"));
            }
            Answer::Saw(size) if size == old && size == head.size => {
                return Err(Trouble::Refused(format!(
                    "it has cosigned another history of the first {size} entries"
                )));
            }
            Answer::Saw(size) => old = size,
            Answer::Refused => {
                return Err(Trouble::Refused(format!(
                    "the first {old} entries that it cosigned are not the first ones of this log"
                )));
            }
        }
    }
    Err(later("it says another size each time"))
}

/// The body of `add-checkpoint`: the size that the witness knows, the proof from there, the checkpoint.
fn request(ledger: &Ledger, old: u64, head: &Checkpoint, note: &str) -> Result<String, ReadError> {
    let path = match old == 0 {
        true => Vec::new(),
        false => ledger
            .consistency_between(old, head.size)?
            .ok_or(ReadError::Damaged)?,
    };
    let mut body = format!("old {old}\n");
    for hash in path {
        STANDARD.encode_string(hash, &mut body);
        body.push('\n');
    }
    body.push('\n');
    body.push_str(note);
    Ok(body)
}
