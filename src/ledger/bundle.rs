//! Reading one bundle of a log for the auditor: its entries hashed anew, its tile beside them, and what is odd about
//! any entry by itself. Bundles are read on as many threads as there are; what they add up to is put together after.

use super::audit::{Check, Source};
use super::leaf::Leaf;
use super::report::{Finding, What};
use super::tile::{self, Entries, Kind, Tile};
use super::tree::{Hash, TILE_WIDTH, leaf_hash};
use std::ops::Range;

/// What a thread found out about one bundle.
pub(super) struct Bundle {
    pub(super) index: u64,
    pub(super) hashes: Vec<Hash>,
    pub(super) tiled: Option<Vec<Hash>>,
    pub(super) present: bool,
    pub(super) first_ts: Option<u64>,
    pub(super) last_ts: Option<u64>,
    pub(super) findings: Vec<Finding>,
}

pub(super) fn read_bundle(source: &dyn Source, check: &Check<'_>, size: u64, index: u64) -> Bundle {
    let first = index * TILE_WIDTH;
    let width = (size - first).min(TILE_WIDTH) as u16;
    let all = first..first + u64::from(width);
    let of = |kind| Tile { kind, index, width };
    let mut bundle = Bundle {
        index,
        hashes: Vec::new(),
        tiled: None,
        present: true,
        first_ts: None,
        last_ts: None,
        findings: Vec::new(),
    };
    match fetch(source, of(Kind::Hashes(0))) {
        Ok(Some(bytes)) => bundle.tiled = Some(bytes.as_chunks::<32>().0.to_vec()),
        Ok(None) => bundle.find(
            What::Tile,
            &all,
            of(Kind::Hashes(0)),
            "this tile is missing",
        ),
        Err(error) => bundle.find(What::Unreadable, &all, of(Kind::Hashes(0)), &error),
    }
    match fetch(source, of(Kind::Entries)) {
        Ok(Some(bytes)) => {
            let entries = Entries(&bytes).filter_map(Result::ok);
            for (at, entry) in (first..).zip(entries) {
                bundle.hashes.push(leaf_hash(entry));
                if check.leaves {
                    bundle.leaf(at, entry, check.silence_ms_max);
                }
            }
        }
        Ok(None) => bundle.find(
            What::Missing,
            &all,
            of(Kind::Entries),
            "these entries are missing or cut short",
        ),
        Err(error) => bundle.find(What::Unreadable, &all, of(Kind::Entries), &error),
    }
    if bundle.hashes.len() != usize::from(width) {
        // Why the tile's: so that what follows still lines up, and one hole is one finding.
        bundle.present = false;
        bundle.hashes = bundle.tiled.clone().unwrap_or_default();
    }
    bundle
}

/// A tile or bundle of exactly that width: partial, or cut from the full one.
pub(super) fn fetch(source: &dyn Source, tile: Tile) -> Result<Option<Vec<u8>>, String> {
    let mut bytes = source.fetch(&tile.to_string())?;
    if bytes.is_none() && !tile.is_full() {
        bytes = source.fetch(&Tile::full(tile.kind, tile.index).to_string())?;
    }
    let Some(mut bytes) = bytes else {
        return Ok(None);
    };
    let cut = tile::cut(tile.kind, &bytes, tile.width).map(<[u8]>::len);
    // Why exact: bytes behind the last entry of a file are nobody's.
    if let Some(length) = cut.filter(|length| !tile.is_full() || *length == bytes.len()) {
        bytes.truncate(length);
        return Ok(Some(bytes));
    }
    Ok(None)
}

impl Bundle {
    fn find(&mut self, what: What, entries: &Range<u64>, tile: Tile, meaning: &str) {
        let (entries, file) = (entries.clone(), Some(tile.to_string()));
        let meaning = meaning.to_owned();
        self.findings.push(Finding {
            what,
            entries,
            file,
            meaning,
        });
    }

    fn leaf(&mut self, at: u64, entry: &[u8], silence_ms_max: Option<u64>) {
        let tile = Tile::full(Kind::Entries, at / TILE_WIDTH);
        let Ok(text) = std::str::from_utf8(entry) else {
            return self.find(What::Form, &(at..at + 1), tile, "the entry is not text");
        };
        let leaf = Leaf::new(at, text);
        if let Some(fault) = leaf.fault() {
            let meaning = format!("the entry is in a form that no gateway writes: {fault}");
            self.find(What::Form, &(at..at + 1), tile, &meaning);
        }
        if at == 0 && !text.contains("\"ev\":\"log.genesis\"") {
            self.find(
                What::Form,
                &(0..1),
                tile,
                "the log does not begin with its genesis",
            );
        }
        let ts = leaf.ts_ms().unwrap_or(0);
        if let Some(before) = self.last_ts {
            self.findings
                .extend(between(at, before, ts, silence_ms_max));
        }
        self.first_ts.get_or_insert(ts);
        self.last_ts = Some(ts);
    }
}

/// What is odd about the time from the entry before `at` to it.
pub(super) fn between(
    at: u64,
    before: u64,
    ts: u64,
    silence_ms_max: Option<u64>,
) -> Option<Finding> {
    let (what, meaning) = if ts < before {
        (What::Time, format!("time goes back by {} ms", before - ts))
    } else if silence_ms_max.is_some_and(|most| ts - before > most) {
        let minutes = (ts - before) / 60_000;
        let meaning = format!("nothing was recorded for {minutes} min: no heartbeat, no service");
        (What::Silence, meaning)
    } else {
        return None;
    };
    Some(Finding {
        what,
        entries: at.saturating_sub(1)..at + 1,
        file: None,
        meaning,
    })
}
