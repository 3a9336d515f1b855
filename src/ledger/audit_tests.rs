//! What an auditor sees when somebody has been at the log: each change is found, named by entry, and told apart.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use super::audit::{Check, Folder, Report, Source, What, verify};
use super::crash_tests::Published;
use super::tests::{ORIGIN, World, fill, permit};
use super::tile::{Entries, Kind, Tile};
use super::tree::{Tree, leaf_hash};
use super::*;
use std::collections::BTreeMap;
use std::path::Path;

/// A log's files in memory.
#[derive(Clone)]
pub(super) struct Files(pub(super) BTreeMap<String, Vec<u8>>);

impl Source for Files {
    fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(name).cloned())
    }
}

/// The tiles of a log of that size.
fn names(size: u64) -> Vec<String> {
    let mut names = Vec::new();
    for (kind, span) in [
        (Kind::Entries, 1 << 8),
        (Kind::Hashes(0), 1 << 8),
        (Kind::Hashes(1), 1 << 16),
    ] {
        names.extend((0..size / span).map(|index| Tile::full(kind, index).to_string()));
        names.extend(Tile::partial(kind, size).map(|tile| tile.to_string()));
    }
    names
}

impl Files {
    /// Every file that a log of that size has.
    pub(super) fn of(world: &World, size: u64) -> Self {
        let disk = Published(world.disk.clone());
        let read = |name: String| (name.clone(), disk.fetch(&name).unwrap().unwrap());
        let names = names(size).into_iter().chain(["checkpoint".to_owned()]);
        Self(names.map(read).collect())
    }

    pub(super) fn entries(&self) -> Vec<Vec<u8>> {
        let bundles = self
            .0
            .iter()
            .filter(|(name, _)| name.starts_with("tile/entries/"));
        let entries =
            bundles.flat_map(|(_, bytes)| Entries(bytes).map(|entry| entry.unwrap().to_vec()));
        entries.collect()
    }

    /// The same log with other entries, consistent in itself and signed anew.
    pub(super) fn rebuilt(world: &World, entries: &[Vec<u8>]) -> Self {
        let mut files = BTreeMap::new();
        let mut tree = Tree::default();
        for entry in entries {
            tree.push(leaf_hash(entry)).unwrap();
        }
        for name in names(entries.len() as u64) {
            let tile = Tile::parse(&name).unwrap();
            let bytes = match tile.kind {
                Kind::Hashes(level) => tree.tile(level, tile.index, u64::from(tile.width)).unwrap(),
                Kind::Entries => {
                    let from = usize::try_from(tile.index * 256).unwrap();
                    let some = &entries[from..from + usize::from(tile.width)];
                    let framed = |entry: &Vec<u8>| {
                        [&(entry.len() as u16).to_be_bytes(), &entry[..]].concat()
                    };
                    some.iter().flat_map(framed).collect()
                }
            };
            files.insert(name, bytes);
        }
        let (origin, size, root) = (ORIGIN.to_owned(), tree.size(), tree.root().unwrap());
        let note = Checkpoint { origin, size, root }.sign(&world.key(), &*world.signer);
        files.insert("checkpoint".to_owned(), note.into_bytes());
        Self(files)
    }
}

const SIZE: u64 = 701;

async fn log() -> (World, Files, Vec<String>) {
    let world = World::new(1 << 20);
    let ledger = world.open();
    let mut kept = Vec::new();
    for _ in 0..7 {
        fill(&ledger, 99).await;
        let receipt = permit(&ledger, 1).await.unwrap();
        kept.push(receipt.proof().split_once("\n\n").unwrap().1.to_owned());
    }
    ledger.close();
    let files = Files::of(&world, SIZE);
    (world, files, kept)
}

pub(super) fn found(report: &Report) -> Vec<(What, std::ops::Range<u64>)> {
    report
        .findings
        .iter()
        .map(|finding| (finding.what, finding.entries.clone()))
        .collect()
}

#[tokio::test]
async fn a_sound_log_holds_and_every_change_is_found_where_it_is() {
    let (world, files, kept) = log().await;
    let key = world.key();
    for threads in [1, 3] {
        let check = Check {
            known: &kept,
            threads,
            ..Check::default()
        };
        let report = verify(&files, &key, &check);
        assert!(report.holds(), "{report:?}");
        assert_eq!((report.size, report.entries), (SIZE, SIZE));
    }
    let after = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = files.clone();
        change(files.0.get_mut(name).unwrap());
        found(&verify(&files, &key, &Check::default()))
    };
    // One letter of entry 300: as long as it stays JSON, only the hash tells.
    let altered = after("tile/entries/001", &|bytes| {
        let skip: usize = Entries(bytes)
            .take(44)
            .map(|entry| entry.unwrap().len() + 2)
            .sum();
        let at = bytes[skip..]
            .windows(6)
            .position(|text| text == b"permit")
            .unwrap()
            + skip;
        bytes[at..at + 6].copy_from_slice(b"refuse");
    });
    assert_eq!(altered, [(What::Altered, 300..301)]);
    let tile = after("tile/0/001", &|bytes| bytes[44 * 32] ^= 1);
    assert_eq!(tile, [(What::Tile, 300..301)]);
    let upper = after("tile/1/000.p/2", &|bytes| bytes[32] ^= 1);
    assert_eq!(upper, [(What::Tile, 256..512)]);
    let cut = after("tile/entries/001", &|bytes| bytes.truncate(5000));
    assert_eq!(cut[0], (What::Missing, 256..512));
    let longer = after("tile/entries/001", &|bytes| {
        bytes.extend_from_slice(b"\0\x02{}")
    });
    assert_eq!(longer[0], (What::Missing, 256..512));
    for name in [
        "tile/entries/000",
        "tile/0/000",
        "tile/1/000.p/2",
        "checkpoint",
    ] {
        let mut files = files.clone();
        files.0.remove(name);
        let report = verify(&files, &key, &Check::default());
        assert!(
            !report.holds() && report.findings[0].file.as_deref() == Some(name),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn a_log_rebuilt_and_signed_anew_is_found_by_the_checkpoints_kept() {
    let (world, files, kept) = log().await;
    let key = world.key();
    let mut entries = files.entries();
    let text = String::from_utf8(entries[450].clone()).unwrap();
    entries[450] = text.replace("permit", "refuse").into_bytes();
    let rebuilt = Files::rebuilt(&world, &entries);
    assert!(
        verify(&rebuilt, &key, &Check::default()).holds(),
        "perfect in itself"
    );
    let check = Check {
        known: &kept,
        ..Check::default()
    };
    let report = verify(&rebuilt, &key, &check);
    assert_eq!(found(&report)[0], (What::Rewritten, 401..501));
    assert_eq!(report.findings.len(), 3, "501, 601, 701");

    // The same without the key: tiles agree with the entries, the checkpoint does not.
    let mut unsigned = rebuilt.clone();
    unsigned
        .0
        .insert("checkpoint".to_owned(), files.0["checkpoint"].clone());
    assert_eq!(
        found(&verify(&unsigned, &key, &Check::default())),
        [(What::Root, 0..SIZE)]
    );

    let older = Files::rebuilt(&world, &files.entries()[..600]);
    let report = verify(&older, &key, &check);
    assert!(
        found(&report).contains(&(What::RolledBack, 600..601)),
        "{report:?}"
    );
    assert!(
        found(&report).contains(&(What::RolledBack, 600..701)),
        "{report:?}"
    );
    let other = World::empty(1 << 20);
    assert_eq!(
        found(&verify(&files, &other.key(), &Check::default())),
        [(What::Checkpoint, 0..0)]
    );
}

#[tokio::test]
async fn entries_out_of_form_or_time_are_found_though_signed() {
    let (world, files, _) = log().await;
    let mut entries = files.entries();
    let text = String::from_utf8(entries[10].clone()).unwrap();
    entries[10] = text
        .replace("\"ts\":1790000000000", "\"ts\":1790000000001")
        .into_bytes();
    entries[20] = String::from_utf8(entries[20].clone())
        .unwrap()
        .replace("\"i\":20", "\"i\":21")
        .into_bytes();
    entries[30].extend_from_slice(b" ");
    entries.swap(0, 40);
    let report = verify(
        &Files::rebuilt(&world, &entries),
        &world.key(),
        &Check::default(),
    );
    let found = found(&report);
    assert_eq!(found.len(), 6, "{report:?}");
    assert_eq!(found[0], (What::Form, 0..1), "its place");
    assert_eq!(found[1], (What::Form, 0..1), "no genesis");
    assert!(found.contains(&(What::Time, 10..12)) && found.contains(&(What::Form, 20..21)));
    assert!(found.contains(&(What::Form, 30..31)) && found.contains(&(What::Form, 40..41)));
    let json = report.to_json();
    assert_eq!(
        (&json["holds"], json["findings"].as_array().unwrap().len()),
        (&false.into(), 6)
    );
    let check = Check {
        leaves: false,
        ..Check::default()
    };
    assert!(verify(&Files::rebuilt(&world, &entries), &world.key(), &check).holds());
}

#[tokio::test]
async fn silence_is_found() {
    let world = World::new(1 << 20);
    let ledger = world.open();
    permit(&ledger, 1).await.unwrap();
    world.set_now(1_790_000_000_000 + 600_001);
    permit(&ledger, 2).await.unwrap();
    ledger.close();
    let check = Check {
        silence_ms_max: Some(600_000),
        ..Check::default()
    };
    let report = verify(&Published(world.disk.clone()), &world.key(), &check);
    assert_eq!(found(&report), [(What::Silence, 1..3)]);
}

/// Tessera's own test log, checkpoints and tiles by another hand.
#[test]
fn a_foreign_log_verifies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/tessera-log");
    if !root.exists() {
        eprintln!("SKIPPED: no log at {}", root.display());
        return;
    }
    let key = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
    let key: Vkey = key.parse().unwrap();
    let kept: Vec<_> = (1..=15)
        .map(|n| std::fs::read_to_string(root.join(format!("checkpoint.{n}"))).unwrap())
        .collect();
    let check = Check {
        known: &kept,
        leaves: false,
        ..Check::default()
    };
    let report = verify(&Folder(root), &key, &check);
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.size, 15);
}
