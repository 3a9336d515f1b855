//! Incident: secret stores and databases whose audit file is deleted or moved away keep serving: the kernel goes on writing to a file that no folder names (hashicorp/vault issue 31718).
//! Here it would mean: records are released while their entries go to a file that is gone with the process.
//! Stopped by: `DiskFile::sync` fails for a file without a name; the publisher reads the journal back by its name; `Ledger::open` never makes a journal.

use std::time::{Duration, Instant};

use crate::common::*;
use hyper::StatusCode;
use sallyport::assembly::AssemblyError;
use sallyport::dev::WorldError;
use sallyport::ledger::OpenError;

/// Reads until nothing is released any more; says for how long it was.
async fn stops(stage: &Stage, read: &str) -> (Duration, u64) {
    let hospital = stage.party("hospital-a");
    let began = Instant::now();
    let mut released = 0;
    while began.elapsed() < Duration::from_secs(10) {
        let reply = get(&hospital, read, &everything(hale().nhs)).await;
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            says_nothing_inside(&reply);
            return (began.elapsed(), released);
        }
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        released += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{released} records were released without a journal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_deleted_under_a_running_gateway_stops_it() {
    let stage = Stage::new().await;
    let read = token(&stage.party("hospital-a"), &treat(hale().nhs)).await;
    // What happened: somebody cleans up.
    std::fs::remove_dir_all(stage.path().join("data/journal")).unwrap();
    let (_, released) = stops(&stage, &read).await;
    assert_eq!(
        released, 0,
        "nothing is released from the moment it is gone"
    );
    let deposit = stage
        .party("practice-a")
        .ask(&deposit_for(PRACTICE_A, hale().nhs), now_s())
        .await
        .unwrap();
    assert_eq!(deposit.status, StatusCode::SERVICE_UNAVAILABLE);
    let address = stage.address();
    let Stage { world, dir } = stage;
    assert!(
        world.stop().await.is_err(),
        "its stop cannot be recorded either"
    );
    let error = Stage::again(dir, address)
        .await
        .err()
        .expect("it does not start");
    assert!(
        matches!(
            error,
            WorldError::Assembly(AssemblyError::Ledger(OpenError::Missing))
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_replaced_under_a_running_gateway_stops_it_within_seconds() {
    let stage = Stage::new().await;
    let backup = folder();
    let stage = stage
        .after(|dir| copy(&dir.join("data/journal"), backup.path()))
        .await
        .unwrap();
    let read = token(&stage.party("hospital-a"), &treat(hale().nhs)).await;
    // What happened: the folder is moved away, and another one, shorter by what was written since, takes its place.
    let journal = stage.path().join("data/journal");
    std::fs::rename(&journal, stage.path().join("data/moved")).unwrap();
    copy(backup.path(), &journal);
    let (took, _) = stops(&stage, &read).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_gateway_does_not_start_without_its_journal_or_with_another() {
    let stage = Stage::new().await;
    let other = Stage::new().await;
    let (other, _) = other.stop().await;
    let (clean, address) = stage.stop().await;
    let journal = |dir: &std::path::Path| dir.join("data/journal");
    let segment = |dir: &std::path::Path| {
        let mut names: Vec<_> = std::fs::read_dir(journal(dir))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        names.retain(|path| {
            std::fs::metadata(path).unwrap().len() > 1 << 20
                && !path.to_string_lossy().contains("spare")
        });
        names.sort();
        names.remove(0)
    };
    let damages: [(&str, &dyn Fn(&std::path::Path)); 6] = [
        ("deleted", &|dir| {
            std::fs::remove_dir_all(journal(dir)).unwrap()
        }),
        ("emptied", &|dir| {
            std::fs::remove_dir_all(journal(dir)).unwrap();
            std::fs::create_dir(journal(dir)).unwrap();
        }),
        ("another's", &|dir| {
            put_back(&journal(other.path()), &journal(dir))
        }),
        ("its segment deleted", &|dir| {
            std::fs::remove_file(segment(dir)).unwrap()
        }),
        ("cut to its first page", &|dir| {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(segment(dir))
                .unwrap();
            file.set_len(4096).unwrap();
        }),
        ("a byte changed", &|dir| {
            use std::os::unix::fs::FileExt as _;
            let file = std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(segment(dir))
                .unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, 2000).unwrap();
            file.write_all_at(&[byte[0] ^ 1], 2000).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let dir = folder();
        copy(clean.path(), dir.path());
        damage(dir.path());
        let error = Stage::again(dir, address).await.err();
        assert!(
            matches!(error, Some(WorldError::Assembly(AssemblyError::Ledger(_)))),
            "{what}: {error:?}"
        );
    }
    assert!(
        Stage::again(clean, address).await.is_ok(),
        "untouched it starts"
    );
}
