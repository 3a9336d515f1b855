//! Verifying a log from outside: from its published files alone, with its public key, without a gateway.
//! Every entry is hashed again from its bytes; tiles, checkpoint and all checkpoints the auditor kept are held against
//! the result. A proof that verifies says only that one entry stands; this says that the log as a whole does.
//! What it cannot see: entries never written. Receipts kept by hospitals and checkpoints kept by auditors show those.

pub use super::report::{Cosigned, Finding, Report, What};

use super::bundle::{Bundle, between, fetch, read_bundle};
use super::cosign::{WitnessKey, cosigners, quorum_time};
use super::journal;
use super::leaf::Leaf;
use super::note::{Checkpoint, NoteError, Vkey};
use super::reader::{Reader, Step};
use super::tile::{Entries, Kind, Tile};
use super::tree::{Keep, TILE_WIDTH, Tree};
use super::{ReadError, handover, publish};
use crate::disk::RealDisk;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bundles a thread takes at a time.
const STRIDE: u64 = 16;

/// Where a log's files come from, by their C2SP tlog-tiles names.
pub trait Source: Sync {
    /// The whole file; `None` if there is none of that name.
    ///
    /// # Errors
    /// What went wrong, in words for the report.
    fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>, String>;
}

/// A log folder on this machine.
pub struct Folder(pub PathBuf);

impl Source for Folder {
    fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        match std::fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// How thoroughly, and against what.
pub struct Check<'a> {
    /// Signed checkpoints that the auditor kept, also those inside receipts: each must be a prefix of the log.
    pub known: &'a [String],
    /// Witnesses that the auditor trusts, whoever else cosigned.
    pub witnesses: &'a [WitnessKey],
    /// So many of them must have cosigned what is here.
    pub quorum: usize,
    /// Entries recorded longer than this after they did are a finding.
    pub uncosigned_ms_max: u64,
    /// Whether each leaf's form, index and time are checked too (some six times slower than hashing alone).
    pub leaves: bool,
    /// Longest silence between two entries that is no finding; heartbeats come more often.
    pub silence_ms_max: Option<u64>,
    /// Threads.
    pub threads: usize,
    /// Told now and then: entries done, entries in all.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
}

impl Default for Check<'_> {
    fn default() -> Self {
        Self {
            known: &[],
            witnesses: &[],
            quorum: 0,
            uncosigned_ms_max: 3_600_000,
            leaves: true,
            silence_ms_max: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            progress: &|_, _| {},
        }
    }
}

/// Verifies a whole log against the key its auditor was given.
#[must_use]
pub fn verify(source: &dyn Source, key: &Vkey, check: &Check<'_>) -> Report {
    let mut report = Report {
        origin: key.name().to_owned(),
        size: 0,
        root: [0; 32],
        entries: 0,
        last_ts_ms: None,
        findings: Vec::new(),
        more: 0,
        keys: Vec::new(),
        note: String::new(),
        cosigned: None,
    };
    // Why first: it is never of more entries than the checkpoint that is published after it was made.
    let witnessed = source.fetch(publish::WITNESSED);
    let (note, head, keys) = match head(source, key) {
        Ok(found) => found,
        Err(meaning) => {
            let file = Some(publish::CHECKPOINT.to_owned());
            report.add(What::Checkpoint, 0..0, file, &meaning);
            return report;
        }
    };
    report.size = head.size;
    report.note.clone_from(&note);
    report.root = head.root;
    let mut audit = Audit {
        source,
        check,
        tree: Tree::default(),
        as_tiled: None,
        doubtful: Vec::new(),
        known: Vec::new(),
        quorum_ms: None,
        explained: 0,
        head,
        report,
    };
    audit.report.keys = keys.iter().map(ToString::to_string).collect();
    audit.take_known(&keys);
    audit.take_cosigned((witnessed, note), &keys);
    audit.walk();
    audit.uncosigned();
    audit.conclude()
}

/// The signed head, and the keys by which it was reached: the given one, and each that the one before handed over to.
fn head(source: &dyn Source, key: &Vkey) -> Result<(String, Checkpoint, Vec<Vkey>), String> {
    let note = source.fetch(publish::CHECKPOINT)?;
    let note = note.ok_or("the log has no checkpoint: nothing in it is signed")?;
    let note = String::from_utf8(note).map_err(|_| "the checkpoint is not text")?;
    let wrong = |error| format!("the checkpoint: {error}");
    match Checkpoint::open(&note, key) {
        Ok(head) => Ok((note, head, vec![key.clone()])),
        Err(NoteError::Unsigned) => {
            // Why before anything is verified: an entry leads on only if the key before signed it, wherever it stands.
            let size = Checkpoint::unverified(&note).map_or(0, |head| head.size);
            let keys = chain(source, key, size)?;
            let head = keys.last().map_or(Err(NoteError::Unsigned), |last| {
                Checkpoint::open(&note, last)
            });
            let head = head.map_err(wrong)?;
            Ok((note, head, keys))
        }
        Err(error) => Err(wrong(error)),
    }
}

/// The keys that `key` leads to, from hand-over to hand-over, in the entries of the log.
fn chain(source: &dyn Source, key: &Vkey, size: u64) -> Result<Vec<Vkey>, String> {
    let mut keys = vec![key.clone()];
    for index in 0..size.div_ceil(TILE_WIDTH) {
        let left = size - index * TILE_WIDTH;
        let mut tile = Tile::full(Kind::Entries, index);
        if let Ok(width) = u16::try_from(left)
            && u64::from(width) < TILE_WIDTH
        {
            tile.width = width;
        }
        let Some(bytes) = fetch(source, tile)? else {
            return Err(format!("{tile}: this file is missing"));
        };
        for (leaf, at) in Entries(&bytes).zip(index * TILE_WIDTH..) {
            let leaf = leaf.ok().and_then(|leaf| std::str::from_utf8(leaf).ok());
            let last = keys.last().unwrap_or(key);
            keys.extend(leaf.and_then(|leaf| handover::follow(&Leaf::new(at, leaf), last)));
        }
    }
    Ok(keys)
}

struct Audit<'a> {
    source: &'a dyn Source,
    check: &'a Check<'a>,
    head: Checkpoint,
    /// Over the entries as they are.
    tree: Tree,
    /// Over the leaf hashes as the tiles have them, from the first difference on.
    as_tiled: Option<Tree>,
    /// Entries that differ from their tile; which of the two is wrong shows at the end.
    doubtful: Vec<u64>,
    /// Checkpoints still to be reached, largest first.
    known: Vec<Checkpoint>,
    /// When the quorum had cosigned the last checkpoint that it did, milliseconds.
    quorum_ms: Option<u64>,
    /// Entries that a kept checkpoint has been found to explain.
    explained: u64,
    report: Report,
}

impl Audit<'_> {
    fn take_known(&mut self, keys: &[Vkey]) {
        for note in self.check.known {
            self.hold(note, keys);
        }
    }

    /// Demands that the log goes on from this checkpoint.
    fn hold(&mut self, note: &str, keys: &[Vkey]) {
        match Checkpoint::open_any(note, keys) {
            Ok(known) if known.size > self.head.size => {
                let gone = self.head.size..known.size;
                let meaning = "a checkpoint over more entries was signed earlier: these are gone";
                self.report.add(What::RolledBack, gone, None, meaning);
            }
            Ok(known) if known.size > 0 => self.known.push(known),
            Ok(_) => {}
            Err(error) => {
                let meaning = format!("a kept checkpoint cannot be used: {error}");
                self.report.add(What::Checkpoint, 0..0, None, &meaning);
            }
        }
        self.known
            .sort_by_key(|known| std::cmp::Reverse(known.size));
    }

    /// The checkpoint that the witnesses cosigned: the one that is published, or the last one that is kept beside it. It
    /// is held against the log like any that the auditor kept.
    fn take_cosigned(
        &mut self,
        (witnessed, published): (Result<Option<Vec<u8>>, String>, String),
        keys: &[Vkey],
    ) {
        let file = Some(publish::WITNESSED.to_owned());
        let kept = match witnessed {
            Ok(note) => note.and_then(|note| String::from_utf8(note).ok()),
            Err(error) => {
                return self.report.add(What::Unreadable, 0..0, file, &error);
            }
        };
        let mut best = None;
        for note in kept.iter().chain([&published]) {
            let found = cosigners(note, self.check.witnesses);
            let time_s = quorum_time(&found, self.check.quorum);
            let head = Checkpoint::open_any(note, keys);
            if let (Some(time_s), Ok(head)) = (time_s, head) {
                let by = found
                    .iter()
                    .map(|(key, time_s)| (key.name().to_owned(), *time_s));
                best = Some((head.size, time_s, by.collect()));
            }
        }
        if let Some(note) = kept {
            self.hold(&note, keys);
        }
        if let Some((size, time_s, by)) = best {
            self.quorum_ms = Some(time_s.saturating_mul(1000));
            self.report.cosigned = Some(Cosigned { size, by });
        } else if !self.check.witnesses.is_empty() {
            let meaning = format!(
                "no checkpoint of this log is cosigned by {} of the {} witnesses named: nobody but its operator says that \
                 this is the log which others are shown",
                self.check.quorum,
                self.check.witnesses.len()
            );
            self.report
                .add(What::Uncosigned, 0..self.head.size, file, &meaning);
        }
    }

    /// Entries that came long after the last cosignature.
    fn uncosigned(&mut self) {
        let (Some(quorum_ms), Some(cosigned)) = (self.quorum_ms, &self.report.cosigned) else {
            return;
        };
        let limit_ms = self.check.uncosigned_ms_max;
        if self
            .report
            .last_ts_ms
            .is_some_and(|last| last > quorum_ms.saturating_add(limit_ms))
        {
            let entries = cosigned.size..self.head.size;
            let meaning = format!(
                "no quorum of the witnesses has cosigned these, and the last came more than {} minutes after they last \
                 did: others may be shown other entries in their place",
                limit_ms / 60_000
            );
            self.report.add(What::Uncosigned, entries, None, &meaning);
        }
    }

    fn walk(&mut self) {
        let bundles = self.head.size.div_ceil(TILE_WIDTH);
        let threads = self.check.threads.max(1) as u64;
        let mut next = 0;
        while next < bundles {
            let end = bundles.min(next + STRIDE * threads);
            let (source, check, size) = (self.source, self.check, self.head.size);
            let done: Vec<Bundle> = std::thread::scope(|scope| {
                let starts = (next..end).step_by(STRIDE as usize);
                let workers: Vec<_> = starts
                    .map(|start| {
                        let range = start..end.min(start + STRIDE);
                        let read = move |index| read_bundle(source, check, size, index);
                        scope.spawn(move || range.map(read).collect::<Vec<_>>())
                    })
                    .collect();
                // Why: a thread that panicked leaves a hole, and the root then does not come out.
                let done = workers.into_iter().filter_map(|worker| worker.join().ok());
                done.flatten().collect()
            });
            done.into_iter().for_each(|bundle| self.take(bundle));
            next = end;
            (self.check.progress)((next * TILE_WIDTH).min(self.head.size), self.head.size);
        }
    }

    fn take(&mut self, bundle: Bundle) {
        let first = bundle.index * TILE_WIDTH;
        self.times(first, &bundle);
        for finding in bundle.findings {
            let Finding {
                what,
                entries,
                file,
                meaning,
            } = finding;
            self.report.add(what, entries, file, &meaning);
        }
        if bundle.present {
            self.report.entries += bundle.hashes.len() as u64;
        }
        let tiled = bundle.tiled.as_deref().unwrap_or(&bundle.hashes);
        for (at, (hash, tiled)) in bundle.hashes.iter().zip(tiled).enumerate() {
            if hash != tiled {
                self.doubtful.push(first + at as u64);
                self.as_tiled.get_or_insert_with(|| self.tree.clone());
            }
            // Why ignored, here and below: a tree that is only trimmed with care forgets nothing it needs,
            // and if it did the root would not come out.
            let _ = self.tree.push(*hash);
            if let Some(tree) = &mut self.as_tiled {
                let _ = tree.push(*tiled);
            }
            self.compare_known();
        }
        self.upper_tiles();
        self.tree.trim(Keep::Tiles);
        if let Some(tree) = &mut self.as_tiled {
            tree.trim(Keep::Tiles);
        }
    }

    fn times(&mut self, first: u64, bundle: &Bundle) {
        let (Some(before), Some(ts)) = (self.report.last_ts_ms, bundle.first_ts) else {
            self.report.last_ts_ms = bundle.last_ts.or(self.report.last_ts_ms);
            return;
        };
        if let Some(finding) = between(first, before, ts, self.check.silence_ms_max) {
            let Finding { what, entries, .. } = finding;
            self.report.add(what, entries, None, &finding.meaning);
        }
        self.report.last_ts_ms = bundle.last_ts;
    }

    fn compare_known(&mut self) {
        let size = self.tree.size();
        while let Some(known) = self.known.pop_if(|known| known.size == size) {
            if self.tree.root() == Ok(known.root) {
                self.explained = size;
            } else {
                let meaning = format!(
                    "history was rewritten: a checkpoint over the first {size} entries was signed earlier and is not \
                     theirs; the difference begins in this range"
                );
                self.report
                    .add(What::Rewritten, self.explained..size, None, &meaning);
            }
        }
    }

    /// Compares the tiles above level 0 that have just become full, and at the end those that stay partial.
    fn upper_tiles(&mut self) {
        let size = self.tree.size();
        let at_end = size == self.head.size;
        for level in 1..8 {
            let count = size >> (8 * u32::from(level));
            let fresh = size & ((1 << (8 * u32::from(level))) - 1) == 0;
            if count == 0 {
                break;
            }
            if fresh && count.is_multiple_of(TILE_WIDTH) {
                self.upper_tile(Tile::full(Kind::Hashes(level), count / TILE_WIDTH - 1));
            }
            if let Some(tile) = Tile::partial(Kind::Hashes(level), size).filter(|_| at_end) {
                self.upper_tile(tile);
            }
        }
    }

    fn upper_tile(&mut self, tile: Tile) {
        let Kind::Hashes(level) = tile.kind else {
            return;
        };
        let of = |tree: &Tree| tree.tile(level, tile.index, u64::from(tile.width));
        let wanted = of(&self.tree).unwrap_or_default();
        let tiled = self.as_tiled.as_ref().and_then(|tree| of(tree).ok());
        let span = 1 << (8 * u32::from(level));
        let first = tile.index * TILE_WIDTH;
        let (what, file) = (What::Tile, Some(tile.to_string()));
        let all = first * span..(first + u64::from(tile.width)) * span;
        match fetch(self.source, tile) {
            Ok(Some(bytes)) => {
                for at in differences(&bytes, &wanted, tiled.as_deref()) {
                    let start = (first + at) * span;
                    let meaning = "this tile names another hash for these entries than they have";
                    self.report
                        .add(what, start..start + span, file.clone(), meaning);
                }
            }
            Ok(None) => self.report.add(what, all, file, "this tile is missing"),
            Err(error) => self.report.add(What::Unreadable, all, file, &error),
        }
    }

    /// Says of every entry that differs from its tile which of the two is wrong.
    fn conclude(mut self) -> Report {
        let signed = Ok(self.head.root);
        let entries_hold = self.tree.size() == self.head.size && self.tree.root() == signed;
        let tiles_hold = self
            .as_tiled
            .as_ref()
            .is_some_and(|tree| tree.root() == signed);
        for index in std::mem::take(&mut self.doubtful) {
            let kind = if entries_hold {
                Kind::Hashes(0)
            } else {
                Kind::Entries
            };
            let file = Tile::full(kind, index / TILE_WIDTH).to_string();
            let (what, meaning) = match (entries_hold, tiles_hold) {
                (true, _) => (
                    What::Tile,
                    "the entry is as signed; the tile names another hash",
                ),
                (_, true) => (What::Altered, "the entry is not the one that was signed"),
                _ => (
                    What::Altered,
                    "entry and tile disagree, and the log is not as signed",
                ),
            };
            self.report.add(what, index..index + 1, Some(file), meaning);
        }
        if !entries_hold && !tiles_hold {
            let meaning = "the entries are not those that the log's key signed";
            self.report
                .add(What::Root, 0..self.head.size, None, meaning);
        }
        self.report
            .findings
            .sort_by_key(|finding| finding.entries.start);
        self.report
    }
}

/// Places at which a tile has neither the hash its entries have nor the one that the tiles below it have: in the
/// latter case it is they that are wrong, or the entries, and that is found there.
fn differences(found: &[u8], wanted: &[u8], tiled: Option<&[u8]>) -> Vec<u64> {
    let (found, wanted) = (found.chunks(32), wanted.chunks(32));
    let mut tiled = tiled.map(|bytes| bytes.chunks(32));
    let mut places = Vec::new();
    for ((at, found), wanted) in (0..).zip(found).zip(wanted) {
        let also = tiled.as_mut().and_then(Iterator::next);
        if found != wanted && Some(found) != also {
            places.push(at);
        }
    }
    places
}

/// Looks at every leaf of a log's first `size` entries, bundle by bundle on several threads, and gives what `pick` chose,
/// in order. Whether they are those that were signed, [`verify`] says; here they are taken as they are.
///
/// # Errors
/// Which bundle is missing, cut short or not text.
pub fn gather<T: Send>(
    source: &dyn Source,
    size: u64,
    pick: &(dyn Fn(&[Leaf<'_>]) -> Vec<T> + Sync),
) -> Result<Vec<T>, String> {
    let (bundles, next) = (size.div_ceil(TILE_WIDTH), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut found = Vec::new();
        loop {
            let stretch = next.fetch_add(STRIDE, Ordering::Relaxed);
            if stretch >= bundles {
                return Ok(found);
            }
            for index in stretch..bundles.min(stretch + STRIDE) {
                found.push((index, picked(source, size, index, pick)?));
            }
        }
    };
    let done: Vec<Result<Vec<Numbered<T>>, String>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let lost = || Err("a thread ended early".to_owned());
        let join =
            |worker: std::thread::ScopedJoinHandle<'_, _>| worker.join().unwrap_or_else(|_| lost());
        workers.into_iter().map(join).collect()
    });
    let mut all = Vec::new();
    for found in done {
        all.extend(found?);
    }
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().flat_map(|(_, found)| found).collect())
}

/// What was chosen of the bundle with this number.
type Numbered<T> = (u64, Vec<T>);

fn picked<T>(
    source: &dyn Source,
    size: u64,
    index: u64,
    pick: &(dyn Fn(&[Leaf<'_>]) -> Vec<T> + Sync),
) -> Result<Vec<T>, String> {
    let first = index * TILE_WIDTH;
    let tile = Tile {
        kind: Kind::Entries,
        index,
        width: (size - first).min(TILE_WIDTH) as u16,
    };
    let bytes = fetch(source, tile)?.ok_or_else(|| format!("{tile} is missing or cut short"))?;
    let mut leaves = Vec::with_capacity(TILE_WIDTH as usize);
    for (at, entry) in (first..).zip(Entries(&bytes)) {
        let text = entry.ok().and_then(|entry| std::str::from_utf8(entry).ok());
        let text = text.ok_or_else(|| format!("{tile} does not hold entries"))?;
        leaves.push(Leaf::new(at, text));
    }
    Ok(pick(&leaves))
}

/// Shows every whole entry of a journal folder (a copy, or one no gateway has open) with its sealed body.
///
/// # Errors
/// [`ReadError`] if it is not the journal of that log. Where it ends is not checked: [`verify`] does that.
pub fn entries(
    journal: &Path,
    origin: &str,
    visit: &mut dyn FnMut(&Leaf<'_>, &[u8]) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    if !journal::exists(&RealDisk, journal)? {
        return Err(ReadError::Missing);
    }
    let reader = Reader::start(Arc::new(RealDisk), journal, origin)?;
    let mut reader = reader.ok_or(ReadError::Damaged)?;
    loop {
        let index = reader.position().index;
        match reader.step()? {
            Step::Entry => {}
            Step::Checkpoint => continue,
            Step::End | Step::Torn => return Ok(()),
        }
        let leaf = reader.leaf().ok_or(ReadError::Damaged)?;
        if visit(&Leaf::new(index, leaf), reader.body()).is_break() {
            return Ok(());
        }
    }
}
