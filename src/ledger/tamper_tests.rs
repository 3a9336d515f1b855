//! Whoever has the disk, and even the log's key, changes something: each change is refused at the next start or found by
//! an audit, and the words name the entry. The table in docs/auditor.md is this file, `audit_tests` and `crash_tests`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::type_complexity,
    reason = "tests may panic"
)]

use super::audit::{Check, What, verify};
use super::audit_tests::{Files, found};
use super::tests::{World, fill, permit};
use super::*;

async fn small() -> (World, Files, Vec<String>) {
    let world = World::new(1 << 20);
    let ledger = world.open();
    let mut kept = Vec::new();
    for n in 0..11 {
        let receipt = permit(&ledger, n).await.unwrap();
        kept.push(receipt.proof().split_once("\n\n").unwrap().1.to_owned());
    }
    ledger.close();
    let files = Files::of(&world, 12);
    (world, files, kept)
}

/// Which entry each byte of a bundle belongs to, its length included.
fn owners(bundle: &[u8]) -> Vec<u64> {
    let mut owners = Vec::new();
    for (entry, index) in super::tile::Entries(bundle).zip(0..) {
        owners.extend(std::iter::repeat_n(index, entry.unwrap().len() + 2));
    }
    owners
}

#[tokio::test]
async fn no_byte_of_what_is_published_changes_unseen() {
    let (world, files, _) = small().await;
    let key = world.key();
    assert!(verify(&files, &key, &Check::default()).holds());
    for (name, bytes) in &files.0 {
        let owners = match name.starts_with("tile/entries/") {
            true => owners(bytes),
            false => Vec::new(),
        };
        for at in (0..bytes.len()).step_by(if owners.is_empty() { 1 } else { 13 }) {
            let mut changed = files.clone();
            changed.0.get_mut(name).unwrap()[at] ^= 1;
            let report = verify(&changed, &key, &Check::default());
            let first = report.findings.first();
            let first = first.unwrap_or_else(|| panic!("{name}, byte {at}: nothing was found"));
            let entry = match (name.strip_prefix("tile/0/"), owners.get(at)) {
                (Some(_), _) => Some(at as u64 / 32),
                (None, owner) => owner.copied(),
            };
            let about = entry
                .is_none_or(|entry| report.findings.iter().any(|it| it.entries.contains(&entry)));
            assert!(about, "{name}, byte {at}: {first:?}");
            assert!(!first.meaning.is_empty());
        }
    }
}

#[tokio::test]
async fn dropped_doubled_exchanged_and_inserted_entries_are_found_with_and_without_the_key() {
    let (world, files, kept) = small().await;
    let key = world.key();
    let entries = files.entries();
    let changes: [(&str, (u64, u64), Box<dyn Fn(&mut Vec<Vec<u8>>)>); 4] = [
        ("dropped", (5, 5), Box::new(|all| drop(all.remove(5)))),
        (
            "doubled",
            (6, 6),
            Box::new(|all| all.insert(6, all[5].clone())),
        ),
        ("exchanged", (5, 5), Box::new(|all| all.swap(5, 6))),
        (
            "inserted",
            (6, 5),
            Box::new(|all| {
                let forged = String::from_utf8(all[5].clone()).unwrap();
                all.insert(5, forged.replace("permit", "refuse").into_bytes());
            }),
        ),
    ];
    for (what, (moved, entry), change) in changes {
        let mut forged = entries.clone();
        change(&mut forged);
        let signed = Files::rebuilt(&world, &forged);
        // Signed anew with the real key: entries say their own place, so what moved is out of it.
        let report = verify(&signed, &key, &Check::default());
        let places = found(&report);
        assert!(
            places
                .iter()
                .any(|(found, range)| *found == What::Form && range.contains(&moved)),
            "{what}: {report:?}"
        );
        // Places put right as well: then only what somebody kept shows it, and it shows from which entry on.
        for (at, leaf) in forged.iter_mut().enumerate() {
            let text = String::from_utf8(leaf.clone()).unwrap();
            let (before, rest) = text.split_once("\"i\":").unwrap();
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
            *leaf = format!("{before}\"i\":{at}{}", &rest[digits..]).into_bytes();
        }
        let perfect = Files::rebuilt(&world, &forged);
        assert!(verify(&perfect, &key, &Check::default()).holds(), "{what}");
        let check = Check {
            known: &kept,
            ..Check::default()
        };
        let places = found(&verify(&perfect, &key, &check));
        let (first, range) = &places[0];
        assert_eq!(
            (*first, range.contains(&entry)),
            (What::Rewritten, true),
            "{what}: {places:?}"
        );
        // Without the key nothing signs it.
        let mut unsigned = perfect.clone();
        let checkpoint = files.0["checkpoint"].clone();
        unsigned.0.insert("checkpoint".to_owned(), checkpoint);
        assert!(
            !verify(&unsigned, &key, &Check::default()).holds(),
            "{what}"
        );
    }
}

#[tokio::test]
async fn two_writers_never_stand_on_one_folder() {
    let world = World::new(1 << 20);
    let ledger = world.open();
    fill(&ledger, 3).await;
    assert!(matches!(world.try_open(), Err(OpenError::Locked)));
    let words = world.try_open().err().unwrap().to_string();
    assert!(words.contains("another process"), "{words}");
    permit(&ledger, 1).await.unwrap();
    ledger.close();
    world.open().close();
}
