//! A disk that loses power at every sync, keeping or losing what was not synced; a disk that lies; a disk that rots.
//! The one promise: every receipt ever handed out still proves after reopening, or the ledger does not open.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

use super::reader::Step;
use super::tests::{ORIGIN, World, account, enter, fill, permit};
use super::*;
use crate::disk::{Crash, TestDisk};
use policy::Outcome;
use std::path::Path;

/// Everything a ledger does: entries one by one and together, publishing, a new segment, closing, opening again.
async fn live(world: &World, receipts: &mut Vec<Receipt>) {
    for round in 0..2 {
        let Ok(ledger) = world.try_open() else { return };
        for n in 0..3 {
            receipts.extend(permit(&ledger, n).await.ok());
        }
        ledger.publish_now().await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..150 {
            let ledger = ledger.clone();
            tasks.spawn(async move { permit(&ledger, n).await });
            if n == 75 * round {
                tokio::task::yield_now().await;
            }
        }
        receipts.extend(tasks.join_all().await.into_iter().flatten());
        ledger.publish_now().await;
        receipts.extend(permit(&ledger, 9).await.ok());
        ledger.close();
    }
}

/// Every receipt holds by itself; the checkpoints they rest on, each once.
fn all_check(world: &World, receipts: &[Receipt]) -> Vec<String> {
    let key = world.key();
    let mut notes = std::collections::BTreeSet::new();
    for receipt in receipts {
        check(&receipt.to_json(Open::ActorOnly), &key).unwrap();
        notes.insert(receipt.proof().split_once("\n\n").unwrap().1.to_owned());
    }
    notes.into_iter().collect()
}

/// Reopens and holds every receipt against what is there: the same leaf at the same place, under a tree that contains
/// every checkpoint that a receipt rests on; and an auditor finds nothing.
fn all_prove(world: &World, receipts: &[Receipt], notes: &[String], why: &str) {
    let mut leaves = Vec::new();
    let (signer, mut options) = (world.signer.clone(), world.options.clone());
    options.witnessed = notes.to_vec();
    let opened = Ledger::open(&world.place, ORIGIN, signer, options, &mut |leaf| {
        leaves.push(leaf.text().to_owned());
    });
    assert!(opened.is_ok(), "{why}: {:?}", opened.err());
    let ledger = opened.unwrap();
    for receipt in receipts {
        let at = usize::try_from(receipt.index()).unwrap();
        let there = leaves.get(at).map(String::as_str);
        assert_eq!(there, Some(receipt.leaf()), "{why}");
    }
    let source = Published(world.disk.clone());
    let report = audit::verify(&source, &world.key(), &audit::Check::default());
    let whole = report.holds() && report.size == leaves.len() as u64;
    assert!(whole, "{why}: {report:?}");
    ledger.close();
}

/// The log folder of a test disk.
pub(super) struct Published(pub(super) TestDisk);

impl audit::Source for Published {
    fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        folder::read(&self.0, &Path::new("/log").join(name)).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn power_lost_at_every_sync_loses_nothing_that_was_answered() {
    let made = World::new(256 << 10);
    let mut stops = 0;
    for n in 1.. {
        let world = made.on(made.disk.crash(Crash::Lost));
        world.disk.stop_at_sync(n);
        let mut receipts = Vec::new();
        live(&world, &mut receipts).await;
        if !world.disk.is_stopped() {
            assert_eq!(receipts.len(), 308, "without a fault all are answered");
            break;
        }
        stops += 1;
        let notes = all_check(&world, &receipts);
        for crash in [
            Crash::Lost,
            Crash::Kept,
            Crash::Mixed(n),
            Crash::Mixed(n << 32),
        ] {
            let after = world.on(world.disk.crash(crash));
            all_prove(&after, &receipts, &notes, &format!("sync {n}, {crash:?}"));
        }
    }
    assert!(stops > 20, "{stops}");
}

#[tokio::test]
async fn power_lost_in_the_middle_of_every_write_loses_nothing_that_was_answered() {
    let made = World::new(256 << 10);
    let mut stops = 0;
    for n in 1.. {
        let world = made.on(made.disk.crash(Crash::Lost));
        world.disk.stop_at_write(n);
        let mut receipts = Vec::new();
        live(&world, &mut receipts).await;
        if !world.disk.is_stopped() {
            break;
        }
        stops += 1;
        let notes = all_check(&world, &receipts);
        for crash in [Crash::Lost, Crash::Kept, Crash::Mixed(n)] {
            let after = world.on(world.disk.crash(crash));
            all_prove(&after, &receipts, &notes, &format!("write {n}, {crash:?}"));
        }
    }
    assert!(stops > 20, "{stops}");
}

#[test]
fn power_lost_while_it_is_made_leaves_a_ledger_or_none() {
    for n in 1.. {
        let world = World::empty(64 << 10);
        world.disk.stop_at_sync(n);
        let made = world.init();
        for crash in [Crash::Lost, Crash::Kept, Crash::Mixed(n)] {
            let after = world.on(world.disk.crash(crash));
            match after.try_open() {
                Ok(ledger) => ledger.close(),
                Err(error) => {
                    assert!(
                        matches!(error, OpenError::Missing | OpenError::NoCheckpoint),
                        "{error}"
                    );
                    assert!(made.is_err());
                    if matches!(error, OpenError::Missing) {
                        after.init().unwrap();
                        after.open().close();
                    }
                }
            }
        }
        if made.is_ok() {
            assert!(n > 4);
            break;
        }
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_answered_until_it_is_reopened() {
    for n in 1..12 {
        let world = World::new(64 << 10);
        let ledger = world.open();
        ledger.publish_now().await;
        world.disk.fail_sync(n);
        let mut receipts = Vec::new();
        for entry in 0..20 {
            receipts.extend(permit(&ledger, entry).await.ok());
        }
        assert_eq!(receipts.len() as u64, n - 1);
        assert!(ledger.health().is_stopped);
        assert_eq!(permit(&ledger, 0).await.err(), Some(RecordError::Stopped));
        ledger.close();
        // The bytes of the failed group are still to be read, as from a page cache; they must get to the disk or go.
        let notes = all_check(&world, &receipts);
        all_prove(&world, &receipts, &notes, "reopened");
        let lost = world.on(world.disk.crash(Crash::Lost));
        all_prove(&lost, &receipts, &notes, "reopened and lost");
    }
}

/// A closed ledger of some entries, its receipts, and where its frames end.
async fn closed(entries: u64) -> (World, Vec<Receipt>, usize) {
    let world = World::new(1 << 20);
    let ledger = world.open();
    let mut receipts = Vec::new();
    for n in 0..entries {
        receipts.push(permit(&ledger, n).await.unwrap());
    }
    ledger.close();
    let end = frames_end(&world);
    (world, receipts, end)
}

/// Not the last byte that is not zero: a check may end in zeros.
fn frames_end(world: &World) -> usize {
    let disk = Arc::new(world.disk.clone());
    let mut reader = Reader::start(disk, &world.place.journal, ORIGIN)
        .unwrap()
        .unwrap();
    while reader.step().unwrap() != Step::End {}
    reader.position().offset as usize
}

fn fork(world: &World) -> World {
    world.on(world.disk.crash(Crash::Kept))
}

#[tokio::test]
async fn a_torn_tail_is_cut_only_where_nobody_was_answered() {
    let (world, receipts, end) = closed(5).await;
    for torn in [
        &b"\0\0\0\x09\x01garbage"[..],
        b"\0",
        b"\0\0\0\0\0\0\0\0\0x",
        &[0xff; 700],
    ] {
        let after = fork(&world);
        after.disk.tamper(&after.segment(0), |bytes| {
            bytes[end..end + torn.len()].copy_from_slice(torn);
        });
        let ledger = after.open();
        let bytes = after.disk.contents(&after.segment(0));
        assert!(
            bytes[end..].iter().all(|byte| *byte == 0),
            "what was cut is gone"
        );
        permit(&ledger, 9).await.unwrap();
        ledger.close();
        all_prove(&after, &receipts, &all_check(&world, &receipts), "torn");
    }
}

#[tokio::test]
async fn a_journal_that_lost_or_changed_signed_entries_is_refused_and_left_alone() {
    let (world, receipts, end) = closed(5).await;
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let after = fork(&world);
        after.disk.tamper(&after.segment(0), |bytes| change(bytes));
        let before = after.disk.contents(&after.segment(0));
        let error = after.try_open().err().unwrap();
        assert!(
            before == after.disk.contents(&after.segment(0)),
            "left alone"
        );
        error
    };
    for at in (journal::HEADER_BYTES as usize..end).step_by(61) {
        let error = refused(&|bytes| bytes[at] ^= 1);
        assert!(
            matches!(
                error,
                OpenError::Damaged { .. } | OpenError::RolledBack { .. }
            ),
            "{at}: {error}"
        );
    }
    assert!(matches!(
        refused(&|bytes| bytes[3] ^= 1),
        OpenError::Damaged { index: 0 }
    ));
    let cut = refused(&|bytes| bytes[end - 9..].fill(0));
    assert!(
        matches!(cut, OpenError::RolledBack { size: 5, known: 6 }),
        "{cut}"
    );
    let half = refused(&|bytes| bytes[end / 2..].fill(0));
    assert!(matches!(half, OpenError::RolledBack { .. }), "{half}");
    let short = refused(&|bytes| bytes.truncate(end / 2));
    assert!(matches!(short, OpenError::RolledBack { .. }), "{short}");
    let empty = refused(&|bytes| bytes.truncate(0));
    assert!(matches!(empty, OpenError::Damaged { index: 0 }), "{empty}");
    assert!(receipts.len() == 5);
}

#[tokio::test]
async fn a_restored_or_foreign_ledger_is_refused_by_what_others_hold() {
    let (world, receipts, _) = closed(3).await;
    let backup = fork(&world);
    let ledger = world.open();
    let later = permit(&ledger, 9).await.unwrap();
    ledger.close();
    let note = |receipt: &Receipt| receipt.proof().split_once("\n\n").unwrap().1.to_owned();

    // The whole machine from a backup: nothing on it is wrong. Only those who hold a later checkpoint know.
    let mut restored = fork(&backup);
    restored.options.witnessed = receipts.iter().map(note).collect();
    restored.open().close();
    restored.options.witnessed.push(note(&later));
    let error = restored.try_open().err().unwrap();
    assert!(
        matches!(error, OpenError::RolledBack { size: 4, known: 5 }),
        "{error}"
    );

    // It went on from the backup: another history under the same name.
    restored.options.witnessed.clear();
    let ledger = restored.open();
    for n in 0..3 {
        enter(&ledger, &account(n, Outcome::Refuse)).await.unwrap();
    }
    ledger.close();
    restored.options.witnessed.push(note(&later));
    let error = restored.try_open().err().unwrap();
    assert!(matches!(error, OpenError::Forked { size: 5 }), "{error}");

    // Only the journal from a backup.
    let journal = backup.disk.contents(&world.segment(0));
    let only = fork(&world);
    only.disk
        .tamper(&only.segment(0), |bytes| bytes.clone_from(&journal));
    let error = only.try_open().err().unwrap();
    assert!(
        matches!(error, OpenError::RolledBack { size: 4, known: 5 }),
        "{error}"
    );

    let gone = fork(&world);
    gone.disk.remove(Path::new("/log/checkpoint")).unwrap();
    assert!(matches!(gone.try_open(), Err(OpenError::NoCheckpoint)));

    let stranger = World::empty(1 << 20).on(world.disk.crash(Crash::Kept));
    let error = stranger.try_open().err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Checkpoint("published", NoteError::Unsigned)
        ),
        "{error}"
    );
}

#[tokio::test]
async fn exchanged_and_missing_segments_are_refused() {
    let world = World::new(64 << 10);
    let ledger = world.open();
    fill(&ledger, 400).await;
    ledger.close();
    assert!(world.disk.exists(&world.segment(4)).unwrap());
    let exchanged = fork(&world);
    let [two, three] = [2, 3].map(|number| exchanged.segment(number));
    let bytes = exchanged.disk.contents(&two);
    let other = exchanged.disk.contents(&three);
    exchanged.disk.tamper(&two, |at| at.clone_from(&other));
    exchanged.disk.tamper(&three, |at| at.clone_from(&bytes));
    assert!(matches!(
        exchanged.try_open(),
        Err(OpenError::Damaged { .. })
    ));
    let missing = fork(&world);
    missing.disk.remove(&missing.segment(2)).unwrap();
    let error = missing.try_open().err().unwrap();
    assert!(matches!(error, OpenError::RolledBack { .. }), "{error}");
    all_prove(&world, &[], &[], "untouched");
}

/// What the housekeeper reads back is not what was signed: nothing of it is published, and nobody is answered any more.
#[tokio::test]
async fn a_bit_that_flips_under_a_running_ledger_stops_it() {
    let world = World::new(1 << 20);
    let ledger = world.open();
    permit(&ledger, 1).await.unwrap();
    ledger.publish_now().await;
    let before = world.disk.contents(Path::new("/log/checkpoint"));
    permit(&ledger, 2).await.unwrap();
    let end = frames_end(&world);
    world
        .disk
        .tamper(&world.segment(0), |bytes| bytes[end - 30] ^= 4);
    ledger.publish_now().await;
    assert!(ledger.health().is_stopped);
    assert_eq!(permit(&ledger, 3).await.err(), Some(RecordError::Stopped));
    ledger.close();
    assert_eq!(before, world.disk.contents(Path::new("/log/checkpoint")));
}
