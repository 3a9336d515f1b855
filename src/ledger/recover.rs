//! Reopening: every frame is hashed again, every checkpoint in the journal compared with the tree, and every checkpoint
//! known from elsewhere (the published one, the settled one, those that others hold) must be a prefix of it.
//! Only a tail that nobody was ever answered for is cut off. A journal that is shorter than, or differs from, what was
//! signed is refused and left untouched: somebody who knows why must decide what to do with it.

use super::OpenError;
use super::journal::{self, Position};
use super::leaf::Leaf;
use super::note::{Checkpoint, Vkey};
use super::reader::{Reader, Step};
use super::tree::{Keep, TILE_WIDTH, Tree};
use crate::disk::Disk;
use std::path::Path;
use std::sync::Arc;

/// A journal that holds.
pub(super) struct Recovered {
    pub(super) tree: Tree,
    /// Where the next frame goes.
    pub(super) end: Position,
    pub(super) last_ts_ms: u64,
    /// Where publishing goes on: the last full tile that is known to be on the disk.
    pub(super) settled: (Tree, Position),
}

/// What must be so of a journal.
pub(super) struct Expected<'a> {
    /// The log's key, and those before and after it.
    pub(super) keys: &'a [Vkey],
    /// Checkpoints known from elsewhere.
    pub(super) known: Vec<Checkpoint>,
    /// Entries whose tiles and bundles are durably published.
    pub(super) settled: u64,
}

/// Reads and checks the whole journal, shows each leaf to `replay`, and makes its end fit to be continued.
pub(super) fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    expected: Expected<'_>,
    replay: &mut dyn FnMut(&Leaf<'_>),
) -> Result<Recovered, OpenError> {
    let key = expected.keys.first();
    let key = key.ok_or(OpenError::Damaged { index: 0 })?;
    let reader = Reader::start(disk.clone(), dir, key.name())?;
    let reader = reader.ok_or(OpenError::Damaged { index: 0 })?;
    let start = reader.position();
    let settled = expected.settled & !(TILE_WIDTH - 1);
    let mut walk = Walk {
        reader,
        tree: Tree::default(),
        known: expected.known,
        settled_at: settled,
        settled: (Tree::default(), start),
        unsigned_from: start,
        last_note: None,
        last_ts_ms: 0,
    };
    walk.known
        .sort_unstable_by_key(|checkpoint| checkpoint.size);
    walk.known.reverse();
    while walk.step(replay)? {}
    walk.finish(&**disk, dir, key.name(), expected.keys)
}

struct Walk {
    reader: Reader,
    tree: Tree,
    /// Largest first; the next to be reached is last.
    known: Vec<Checkpoint>,
    settled_at: u64,
    settled: (Tree, Position),
    /// Where the frames begin that no checkpoint in the journal covers.
    unsigned_from: Position,
    last_note: Option<String>,
    last_ts_ms: u64,
}

impl Walk {
    fn step(&mut self, replay: &mut dyn FnMut(&Leaf<'_>)) -> Result<bool, OpenError> {
        match self.reader.step()? {
            Step::Entry => self.entry(replay)?,
            Step::Checkpoint => {
                let note = self.reader.note().unwrap_or_default();
                let head = Checkpoint::unverified(note).ok_or(self.damaged())?;
                if head.size != self.tree.size() || head.root != self.tree.root()? {
                    return Err(self.damaged());
                }
                self.last_note = Some(note.to_owned());
                self.unsigned_from = self.reader.frame_began();
            }
            Step::End | Step::Torn => return Ok(false),
        }
        Ok(true)
    }

    fn entry(&mut self, replay: &mut dyn FnMut(&Leaf<'_>)) -> Result<(), OpenError> {
        let leaf = Leaf::new(self.tree.size(), self.reader.leaf().ok_or(self.damaged())?);
        self.tree.push(leaf.hash())?;
        self.last_ts_ms = leaf.ts_ms().unwrap_or(0).max(self.last_ts_ms);
        replay(&leaf);
        let size = self.tree.size();
        if size.is_multiple_of(TILE_WIDTH) {
            self.tree.trim(Keep::Tiles);
        }
        if size == self.settled_at {
            self.settled = (self.tree.clone(), self.reader.position());
        }
        while let Some(known) = self.known.pop_if(|known| known.size <= size) {
            if known.size != size || known.root != self.tree.root()? {
                return Err(OpenError::Forked { size: known.size });
            }
        }
        Ok(())
    }

    fn finish(
        self,
        disk: &dyn Disk,
        dir: &Path,
        origin: &str,
        keys: &[Vkey],
    ) -> Result<Recovered, OpenError> {
        let (end, size) = (self.reader.position(), self.tree.size());
        if let Some(note) = &self.last_note {
            // Why only the last: each covers all before it, and Ed25519 costs more than hashing 50 leaves.
            Checkpoint::open_any(note, keys).map_err(OpenError::in_journal)?;
        }
        let rest = self.reader.rest()?;
        let next = journal::segment_name(end.segment + 1);
        if disk.exists(&dir.join(next))? || promises_more(&rest, origin, size) {
            return Err(self.damaged());
        }
        // Why after damage: a journal broken in its middle is shorter too, and the break is what to look at.
        if let Some(known) = self.known.first() {
            let known = known.size;
            return Err(OpenError::RolledBack { size, known });
        }
        if size == 0 {
            return Err(self.damaged());
        }
        journal::repair(disk, dir, &self.unsigned_from, &end, rest.len())?;
        Ok(Recovered {
            tree: self.tree,
            end,
            last_ts_ms: self.last_ts_ms,
            settled: self.settled,
        })
    }

    fn damaged(&self) -> OpenError {
        let index = self.tree.size();
        OpenError::Damaged { index }
    }
}

/// Whether bytes that do not continue the journal hold a checkpoint over more entries than it has: then it is not
/// an unfinished last group but a broken journal, for a checkpoint is written only after what it covers is durable.
fn promises_more(rest: &[u8], origin: &str, size: u64) -> bool {
    let mut begin = origin.as_bytes().to_vec();
    begin.push(b'\n');
    let mut places = rest.windows(begin.len()).enumerate();
    places
        .any(|(at, window)| window == begin && leading_number(rest, at + begin.len()) > Some(size))
}

fn leading_number(bytes: &[u8], at: usize) -> Option<u64> {
    let digits = bytes.get(at..)?.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
