//! What an operator meets: an index that is gone, files that are gone or cut, a second start. Each either comes back
//! whole by the command that is there for it, or is refused with the rule, the place and what to do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

#[path = "common/acknowledged.rs"]
mod acknowledged;
mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use acknowledged::Running;
use common::*;
use hyper::{Method, StatusCode};

fn sallyport(dir: &Path, command: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sallyport"))
        .args(command)
        .arg("--config")
        .arg(dir.join("sallyport.toml"))
        .output()
        .unwrap()
}

fn refused_with(output: &Output, words: &[&str], what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {said}");
    for word in words {
        assert!(
            said.contains(word),
            "{what}: `{word}` is missing in: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_index_deleted_the_store_is_rebuilt_by_command_and_everything_is_back() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let (practice, hospital) = (stage.party("practice-a"), stage.party("hospital-a"));
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    for id in ["stays", "goes"] {
        let body = observation(id, nhs, "1-1", "2026").to_string();
        let reply = put(&practice, &deposit, &format!("Observation/{id}"), body).await;
        assert_eq!(reply.status, StatusCode::CREATED);
    }
    let gone = "/fhir/Observation/goes";
    let reply = send(&practice, Method::DELETE, gone, &deposit, "").await;
    assert!(reply.status.is_success(), "{}", reply.text());
    let reply = object(&practice, quill().nhs, "rebuilt").await;
    assert_eq!(reply.status, StatusCode::OK);
    let path = format!("/admin/keys/{PRACTICE_A}/rotate");
    let admin = stage.party("admin-1");
    let reply = admin.http.send(Method::POST, &path, &[], "").await.unwrap();
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    let all = acknowledged::Shared::default();
    all.lock().unwrap().kek = 2;
    acknowledged::rewrapped(stage.path(), &all).await;
    let want = names(&hospital, nhs).await;
    let read = token(&hospital, &treat(nhs)).await;
    assert!(want.contains(&"Observation/stays".to_owned()));

    let (dir, address) = stage.stop().await;
    std::fs::remove_dir_all(dir.path().join("data/store/index")).unwrap();
    let rebuilt = sallyport(dir.path(), &["store", "rebuild"]);
    let said = String::from_utf8_lossy(&rebuilt.stdout);
    assert!(
        rebuilt.status.success() && said.contains("commits"),
        "{rebuilt:?}"
    );

    let stage = Stage::again(dir, address).await.unwrap();
    let hospital = stage.party("hospital-a");
    assert_eq!(names(&hospital, nhs).await, want, "with a new token");
    let reply = get(&hospital, &read, "/fhir/Observation/stays").await;
    let opened = open(&hospital, &reply, nhs).await;
    assert_eq!(opened.records.len(), 1, "and with the token from before");
    // Withdrawn stays withdrawn.
    refused(&get(&hospital, &read, gone).await);
    denied(&hospital.ask(&treat(quill().nhs), now_s()).await.unwrap());
    acknowledged::rewrapped(stage.path(), &all).await;
}

/// The first file of a folder whose name ends so.
fn first(dir: &Path, ending: &str) -> PathBuf {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths.remove(0)
}

fn cut(path: &Path, bytes: u64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(bytes).unwrap();
}

/// What is done to a stopped gateway, and what `serve` must say.
type Damage = (&'static str, fn(&Path), &'static [&'static str]);

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_start_says_the_rule_the_place_and_what_to_do() {
    let (clean, _) = Stage::new().await.stop().await;
    let damages: [Damage; 9] = [
        (
            "journal gone",
            |dir| std::fs::remove_file(first(&dir.join("data/journal"), ".seg")).unwrap(),
            &[
                "no ledger",
                "where: ",
                "data/journal",
                "do: ",
                "newest copy",
            ],
        ),
        (
            "journal cut",
            |dir| cut(&first(&dir.join("data/journal"), ".seg"), 3000),
            &["were signed", "data/journal", "do: ", "auditor"],
        ),
        (
            "checkpoint gone",
            |dir| std::fs::remove_file(dir.join("log/checkpoint")).unwrap(),
            &["checkpoint is missing", "where: ", "/log", "do: "],
        ),
        (
            "segment gone",
            |dir| std::fs::remove_file(first(&dir.join("data/store/segments"), ".seg")).unwrap(),
            &["segment 1", "data/store", "do: ", "copy"],
        ),
        (
            "segment cut",
            |dir| cut(&first(&dir.join("data/store/segments"), ".seg"), 500),
            &["segment 1", "at byte", "data/store", "do: "],
        ),
        (
            "keyring gone",
            |dir| std::fs::remove_dir_all(dir.join("data/keyring")).unwrap(),
            &["no keyring", "data/keyring", "do: ", "mounted"],
        ),
        (
            "root key gone",
            |dir| std::fs::remove_file(dir.join("root.key")).unwrap(),
            &["no root file", "root.key", "do: ", "copy"],
        ),
        (
            "another passphrase",
            |dir| std::fs::write(dir.join("passphrase"), "not this passphrase").unwrap(),
            &[
                "does not open with this passphrase",
                "root.key",
                "do: ",
                "init",
            ],
        ),
        (
            "certificate gone",
            |dir| std::fs::remove_file(dir.join("server/cert.pem")).unwrap(),
            &["server/cert.pem"],
        ),
    ];
    for (what, damage, words) in damages {
        let dir = folder();
        copy(clean.path(), dir.path());
        damage(dir.path());
        refused_with(&sallyport(dir.path(), &["serve"]), words, what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_folder_is_refused_and_the_first_goes_on() {
    let (dir, _) = Stage::new().await.stop().await;
    let config = dir.path().join("sallyport.toml");
    let log = dir.path().join("stderr.log");
    let arguments = ["serve", "--config", config.to_str().unwrap()];
    let running = Running::start(dir.path(), &log, &arguments).await;
    for command in [&["serve"][..], &["store", "rebuild"]] {
        let words = ["in use", "data/keyring", "do: ", "another process"];
        refused_with(&sallyport(dir.path(), command), &words, command[0]);
    }
    let hospital = party_at(dir.path(), "hospital-a");
    assert!(!names(&hospital, hale().nhs).await.is_empty());
    running.stop();
}
