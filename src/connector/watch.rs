//! The gateway's log, watched from outside: every checkpoint that came with a receipt must lie on one history. What
//! was signed is proven, by consistency proofs over the log's published tiles (RFC 6962 §2.1.2), to be a prefix of
//! what is published now. A log that cannot prove it ends the connector's trust: nothing is given out any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::sync::Notify;

use super::kept::Kept;
use crate::connect::Http;
use crate::ledger::note::Checkpoint;
use crate::ledger::tile::{Kind, Tile};
use crate::ledger::tree::{self, Hash, TILE_WIDTH};
use crate::ledger::{Evidence, Vkey};

/// Entries that are remembered, so that none is taken twice.
const SEEN_MAX: usize = 65_536;
/// Checkpoints that wait to be proven; past so many the log is too far behind to go on.
const WAITING_MAX: usize = 16_384;

/// What is known of the log.
pub(super) struct Watch {
    known: Mutex<Known>,
    distrust: OnceLock<String>,
    pub(super) news: Notify,
}

#[derive(Default)]
struct Known {
    /// The largest checkpoint that came with a receipt.
    size: u64,
    /// Entries that an answer was already taken for.
    seen: BTreeSet<u64>,
    /// Signed, and not yet proven to be part of what is published.
    waiting: BTreeMap<u64, Hash>,
    /// Proven.
    proven: Option<Checkpoint>,
}

impl Watch {
    /// From the last checkpoint that was kept.
    pub(super) fn new(proven: Option<Checkpoint>) -> Self {
        let size = proven.as_ref().map_or(0, |it| it.size);
        let known = Known {
            size,
            proven,
            ..Known::default()
        };
        let news = Notify::new();
        // Why: what was kept is held against the log before anything is asked for.
        news.notify_one();
        Self {
            known: Mutex::new(known),
            distrust: OnceLock::new(),
            news,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many entries the log is known to have: an answer to what is asked now stands behind them.
    pub(super) fn size(&self) -> u64 {
        self.known().size
    }

    /// Entries up to which all is proven, and checkpoints that wait.
    pub(super) fn standing(&self) -> (u64, usize) {
        let known = self.known();
        (
            known.proven.as_ref().map_or(0, |it| it.size),
            known.waiting.len(),
        )
    }

    /// Why nothing is believed any more.
    pub(super) fn distrust(&self) -> Option<&str> {
        self.distrust.get().map(String::as_str)
    }

    /// Takes the evidence of an answer to what was asked when the log had `asked_at` entries.
    ///
    /// # Errors
    /// It is an old answer, one that was taken before, or its checkpoint contradicts another.
    pub(super) fn take(&self, evidence: &Evidence, asked_at: u64) -> Result<(), String> {
        let (index, signed) = (evidence.index, &evidence.checkpoint);
        let mut known = self.known();
        if index < asked_at {
            // Why: an old answer may be all that a log has left that was cut.
            self.news.notify_one();
            return Err(format!(
                "it is an old answer: its entry {index} stood in the log already, which had {asked_at} when this was asked"
            ));
        }
        if !known.seen.insert(index) {
            return Err(format!(
                "it is an answer that came before, for entry {index}"
            ));
        }
        if known.seen.len() > SEEN_MAX {
            known.seen.pop_first();
        }
        let before = known.waiting.insert(signed.size, signed.root);
        if before.is_some_and(|root| root != signed.root) {
            drop(known);
            let text = format!("two different logs of {} entries were signed", signed.size);
            self.distrust_for(&text);
            return Err(text);
        }
        if known.waiting.len() > WAITING_MAX {
            known.waiting.remove(&signed.size);
            return Err("the gateway's log was not published for too long".to_owned());
        }
        known.size = known.size.max(signed.size);
        drop(known);
        self.news.notify_one();
        Ok(())
    }

    fn distrust_for(&self, text: &str) {
        tracing::error!(
            text,
            "the gateway's log contradicts itself; nothing is given out any more"
        );
        let _ = self.distrust.set(text.to_owned());
    }

    /// Proves what waits against what is published now, and keeps the new checkpoint.
    ///
    /// # Errors
    /// Why it could not be tried; what does not hold is [`Watch::distrust`].
    pub(super) async fn prove(&self, http: &Http, key: &Vkey, kept: &Kept) -> Result<(), String> {
        let note = fetch(http, "checkpoint").await?;
        let note = String::from_utf8(note.to_vec()).map_err(|_| "the checkpoint is no text")?;
        let now =
            Checkpoint::open(&note, key).map_err(|error| format!("the checkpoint: {error}"))?;
        let (proven, waiting) = {
            let known = self.known();
            let until = known.waiting.range(..=now.size);
            let waiting: Vec<(u64, Hash)> = until.map(|(size, root)| (*size, *root)).collect();
            (known.proven.clone(), waiting)
        };
        let mut old: Vec<(u64, Hash)> = waiting.clone();
        match &proven {
            // Why not at once: what is published may lag behind what was signed, never behind what was published.
            Some(before) if before.size > now.size => {
                let (was, is) = (before.size, now.size);
                self.distrust_for(&format!(
                    "the log was cut: it had {was} entries, and has {is}"
                ));
                return Ok(());
            }
            Some(before) => old.push((before.size, before.root)),
            None => {}
        }
        let mut tiles = Tiles::of(now.size);
        for (size, root) in old.into_iter().filter(|(size, _)| *size > 0) {
            if !tiles.prove(http, (size, &root), &now.root).await? {
                let text = format!(
                    "the log of {} entries is no continuation of that of {size}",
                    now.size
                );
                self.distrust_for(&text);
                return Ok(());
            }
        }
        kept.replace("checkpoint", &note)
            .map_err(|error| format!("the checkpoint cannot be kept: {error}"))?;
        let mut known = self.known();
        for (size, _) in waiting {
            known.waiting.remove(&size);
        }
        known.proven = Some(now);
        Ok(())
    }
}

async fn fetch(http: &Http, name: &str) -> Result<Bytes, String> {
    let path = format!("/log/{name}");
    let reply = http.send(Method::GET, &path, &[], Bytes::new()).await;
    let reply = reply.map_err(|error| error.to_string())?;
    match reply.status {
        StatusCode::OK => Ok(reply.body),
        status => Err(format!("{path}: {status}")),
    }
}

/// Hash tiles of a log of this size, fetched when a proof needs them.
struct Tiles {
    size: u64,
    have: HashMap<String, Vec<Hash>>,
}

impl Tiles {
    fn of(size: u64) -> Self {
        let have = HashMap::new();
        Self { size, have }
    }

    /// Whether the log of `old` entries is a prefix of this one.
    async fn prove(
        &mut self,
        http: &Http,
        (old, old_root): (u64, &Hash),
        root: &Hash,
    ) -> Result<bool, String> {
        loop {
            let path = tree::consistency_path(old, self.size, &mut |h, i| self.node(h, i));
            match path {
                Ok(path) => {
                    return Ok(tree::proves_consistency(
                        old, self.size, old_root, root, &path,
                    ));
                }
                Err(missing) => {
                    let name = missing.to_string();
                    if self.have.contains_key(&name) {
                        return Err(format!("{name}: does not hold what it must"));
                    }
                    let bytes = fetch(http, &name).await?;
                    let (hashes, rest) = bytes.as_chunks::<32>();
                    if hashes.len() != usize::from(missing.width) || !rest.is_empty() {
                        return Err(format!("{name}: is not a tile of {} hashes", missing.width));
                    }
                    self.have.insert(name, hashes.to_vec());
                }
            }
        }
    }

    /// A node of the tree, from the tile that holds the hashes below it; or which tile that is.
    fn node(&self, height: u32, index: u64) -> Result<Hash, Tile> {
        let (level, within) = ((height / 8) as u8, height % 8);
        let first = index << within;
        let tile = first / TILE_WIDTH;
        let count = self.size.checked_shr(u32::from(level) * 8).unwrap_or(0);
        let width = count.saturating_sub(tile * TILE_WIDTH).min(TILE_WIDTH);
        let missing = Tile {
            kind: Kind::Hashes(level),
            index: tile,
            width: width as u16,
        };
        let hashes = self.have.get(&missing.to_string()).ok_or(missing)?;
        let at = (first % TILE_WIDTH) as usize;
        let below = hashes.get(at..at + (1 << within)).ok_or(missing)?;
        Ok(root_of(below))
    }
}

/// The root over a power of two of hashes.
fn root_of(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => tree::empty_root(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            tree::node_hash(&root_of(left), &root_of(right))
        }
    }
}
