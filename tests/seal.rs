//! A gateway that starts sealed, end to end: everybody gets 503 until it is unsealed on a local socket, by its passphrase or
//! by shares that several people hold; it is sealed again on command, and the ledger says each time by what and by whom.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use hyper::{Method, StatusCode};
use keys::RootKey;
use sallyport::config::Config;
use sallyport::connect::{Party, Reply as Answered};
use sallyport::porter::{self, Doors, Porter, Reply, talk};
use serde_json::{Value, json};

/// A world that was stopped, with a config that lets it start sealed.
struct Sealed {
    stage: (tempfile::TempDir, std::net::SocketAddr),
    admin: Party,
    practice: Party,
    vkey: sallyport::ledger::Vkey,
    passphrase: Vec<u8>,
}

async fn ring(party: &Party, body: &str) -> Answered {
    let sent = party
        .http
        .send(Method::POST, "/admin/seal", &[], body.to_owned());
    sent.await.unwrap()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Sealed {
    async fn new() -> Self {
        let stage = Stage::new().await;
        let (admin, practice) = (stage.party("admin-1"), stage.party("practice-a"));
        let vkey = stage.vkey().clone();
        let stage = stage.stop().await;
        let dir = stage.0.path();
        let text = std::fs::read_to_string(dir.join("sallyport.toml")).unwrap();
        let text: String = text
            .lines()
            .filter(|line| !line.starts_with("passphrase_file"))
            .map(|line| format!("{line}\n"))
            .collect();
        let head = format!(
            "control = \"control.sock\"\noperations = \"127.0.0.1:{}\"\n",
            free_port()
        );
        std::fs::write(dir.join("sealed.toml"), head + &text).unwrap();
        let passphrase = std::fs::read(dir.join("passphrase")).unwrap();
        Self {
            stage,
            admin,
            practice,
            vkey,
            passphrase,
        }
    }

    fn path(&self) -> &Path {
        self.stage.0.path()
    }

    fn config_path(&self) -> PathBuf {
        self.path().join("sealed.toml")
    }

    fn config(&self) -> Config {
        Config::load(&self.config_path()).unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    async fn serve(&self) -> Doors {
        let config = self.config();
        let tls = porter::tls(&config).unwrap();
        Porter::new(config).serve(tls).await.unwrap()
    }

    async fn unseal(&self, what: &str, given: &[u8]) -> Reply {
        talk(&self.socket(), &format!("unseal {what}"), given)
            .await
            .unwrap()
    }

    async fn status_of(&self, path: &str) -> StatusCode {
        let reply = self.practice.http.send(Method::GET, path, &[], "");
        reply.await.unwrap().status
    }

    async fn operations(&self, path: &str) -> String {
        let address = self.config().operations.unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    /// The leaves of these events, after a stop.
    fn said(&self, event: &str) -> Vec<Value> {
        let all = entries(self.path(), &self.vkey);
        let leaves = all.values().map(|leaf| serde_json::from_str(leaf).unwrap());
        leaves.filter(|leaf: &Value| leaf["ev"] == event).collect()
    }

    fn command(&self, words: &[&str], stdin: &[u8]) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sallyport"))
            .env("SOFTHSM2_CONF", self.path().join("softhsm2.conf"))
            .args(words)
            .arg("--config")
            .arg(self.config_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait_with_output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_gateway_answers_nobody_until_its_passphrase_is_given_and_seals_again_on_command()
{
    let sealed = Sealed::new().await;
    let doors = sealed.serve().await;
    for path in [
        "/fhir/metadata",
        "/.well-known/jwks.json",
        "/admin/status",
        "/nothing",
    ] {
        let status = sealed.status_of(path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    let health = sealed.operations("/health").await;
    assert!(
        health.contains("503") && health.contains("\"status\":\"sealed\""),
        "{health}"
    );
    assert!(
        sealed
            .operations("/metrics")
            .await
            .contains("sallyport_sealed 1")
    );

    // A wrong try is told, counted, and costs time: even the right passphrase waits for the next turn.
    let wrong = sealed.unseal("passphrase", b"not the passphrase").await;
    assert!(
        !wrong.done && wrong.wait_s >= 1 && wrong.state == "sealed",
        "{wrong:?}"
    );
    assert!(
        wrong.text.contains("does not open with this passphrase"),
        "{}",
        wrong.text
    );
    let early = sealed.unseal("passphrase", &sealed.passphrase).await;
    assert!(
        !early.done && early.text.contains("looked at in"),
        "{}",
        early.text
    );
    // What is of the wrong kind is said and costs nothing.
    tokio::time::sleep(Duration::from_secs(early.wait_s)).await;
    let unfit = sealed.unseal("share", b"0000-0000").await;
    assert!(!unfit.done && unfit.wait_s == 0, "{unfit:?}");
    let unsealed = sealed.unseal("passphrase", &sealed.passphrase).await;
    assert!(unsealed.done && unsealed.state == "serving", "{unsealed:?}");
    assert_eq!(
        sealed.status_of("/.well-known/jwks.json").await,
        StatusCode::OK
    );
    assert!(
        sealed
            .operations("/metrics")
            .await
            .contains("sallyport_sealed 0")
    );

    // A practice cannot seal it, an administrator can, over the wire.
    let body = json!({ "why": "an intruder in the machine room" }).to_string();
    let refused = ring(&sealed.practice, &body).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    let sealing = ring(&sealed.admin, &body).await;
    assert_eq!(sealing.status, StatusCode::ACCEPTED, "{}", sealing.text());
    receipt(&sealing, &sealed.vkey);
    for _ in 0..1000 {
        if talk(&sealed.socket(), "status", &[]).await.unwrap().state == "sealed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        sealed.status_of("/fhir/metadata").await,
        StatusCode::SERVICE_UNAVAILABLE
    );

    // The same process opens it again, and the socket seals it too; twice is once.
    assert!(sealed.unseal("passphrase", &sealed.passphrase).await.done);
    assert_eq!(sealed.status_of("/fhir/metadata").await, StatusCode::OK);
    let shut = talk(&sealed.socket(), "seal", &[]).await.unwrap();
    assert!(shut.done && shut.state == "sealed", "{shut:?}");
    assert!(
        talk(&sealed.socket(), "seal", &[])
            .await
            .unwrap()
            .text
            .contains("already")
    );
    doors.stop().await.unwrap();
    assert!(!sealed.socket().exists());

    let unseals = sealed.said("gateway.unseal");
    assert_eq!(unseals.len(), 2);
    assert_eq!(
        (&unseals[0]["failed"], &unseals[1]["failed"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(unseals[0]["by"], "passphrase");
    let by: Vec<Value> = sealed
        .said("gateway.sealed")
        .iter()
        .map(|it| it["by"].clone())
        .collect();
    assert_eq!(by, ["administrator", "socket"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_five_people_unseal_it_and_what_they_get_wrong_is_told() {
    let sealed = Sealed::new().await;
    let root = &sealed.config().root.file;
    let key = RootKey::open(root, &sealed.passphrase).unwrap();
    let older = key.share_out(root, 3, 5).unwrap();
    let shares = key.share_out(root, 3, 5).unwrap();
    let text = |at: usize| shares[at].to_text();
    let doors = sealed.serve().await;

    let reply = sealed.unseal("passphrase", &sealed.passphrase).await;
    assert!(
        !reply.done && reply.text.contains("3 of 5 shares"),
        "{}",
        reply.text
    );
    let first = sealed.unseal("share", text(1).as_bytes()).await;
    assert!(
        first.done && first.have == [2] && first.need == 3,
        "{first:?}"
    );
    for (given, says) in [
        (text(1).to_string(), "share 2 was given already"),
        (older[0].to_text().to_string(), "an older set opens nothing"),
        (
            text(0).replace(['A', 'B', '7'], "C").replace('2', "3"),
            "mistyped",
        ),
    ] {
        let reply = sealed.unseal("share", given.as_bytes()).await;
        assert!(
            !reply.done && reply.text.contains(says),
            "{} / {says}",
            reply.text
        );
        assert_eq!((reply.wait_s, reply.have), (0, vec![2]));
    }
    let forgotten = talk(&sealed.socket(), "forget", &[]).await.unwrap();
    assert!(forgotten.have.is_empty());
    // Each holder by the command, on a file descriptor as a script would.
    for at in [4, 0, 2] {
        assert_eq!(
            sealed.status_of("/fhir/metadata").await,
            StatusCode::SERVICE_UNAVAILABLE
        );
        let given = text(at).to_lowercase();
        let out = sealed.command(&["unseal", "--fd", "0", "--json"], given.as_bytes());
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        let reply: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(reply["done"], true);
    }
    assert_eq!(sealed.status_of("/fhir/metadata").await, StatusCode::OK);
    doors.stop().await.unwrap();
    let unseals = sealed.said("gateway.unseal");
    assert_eq!(unseals[0]["shares"], json!([5, 1, 3]));
    assert_eq!(unseals[0]["by"], "shares");
    let uid = &unseals[0]["uid"];
    assert_eq!(uid, &json!(rustix::process::geteuid().as_raw()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_tell_how_it_stands_and_shares_are_made_from_what_opens_it_now() {
    let sealed = Sealed::new().await;
    let nobody = sealed.command(&["unseal", "--status"], b"");
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("nobody listens"));
    let made = [
        "keys",
        "shares",
        "--threshold",
        "2",
        "--shares",
        "3",
        "--fd",
        "0",
        "--json",
    ];
    let out = sealed.command(&made, b"not the passphrase\n");
    assert_eq!(out.status.code(), Some(2), "{out:?}");
    let out = sealed.command(&made, &sealed.passphrase);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let made: Value = serde_json::from_slice(&out.stdout).unwrap();
    let shares: Vec<&str> = made["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    assert_eq!(shares.len(), 3);
    let means = sealed.command(&["keys", "means"], b"");
    let means = String::from_utf8_lossy(&means.stdout).into_owned();
    assert!(means.contains("2 of 3 shares of set"), "{means}");

    let doors = sealed.serve().await;
    let status = sealed.command(&["unseal", "--status"], b"");
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        status.contains("sealed") && status.contains("2 more needed"),
        "{status}"
    );
    for share in &shares[..2] {
        assert!(
            sealed
                .command(&["unseal", "--fd", "0"], share.as_bytes())
                .status
                .success()
        );
    }
    assert_eq!(sealed.status_of("/fhir/metadata").await, StatusCode::OK);
    let out = sealed.command(&["seal"], b"");
    assert!(String::from_utf8_lossy(&out.stdout).contains("no key is in memory"));
    doors.stop().await.unwrap();

    // Back to a passphrase; the shares open nothing any more.
    let given = shares[1..].join("\n");
    let path = sealed.path().join("new-words");
    std::fs::write(&path, "other words, longer\n").unwrap();
    let shell = format!(
        "exec {} keys passphrase --config {} --fd 0 --new-fd 3 3<{}",
        env!("CARGO_BIN_EXE_sallyport"),
        sealed.config_path().display(),
        path.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &shell])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(given.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert!(RootKey::open(&sealed.config().root.file, b"other words, longer").is_ok());
}

/// A token in software, in the folder of this world; none where Debian's `softhsm2` is not installed.
fn token(sealed: &Sealed) -> Option<()> {
    let module = Path::new("/usr/lib/softhsm/libsofthsm2.so");
    if !module.exists()
        || Command::new("softhsm2-util")
            .arg("--version")
            .output()
            .is_err()
    {
        // Why not eprintln: what is skipped must be seen where tests are captured too.
        let why = "no hardware token was tried: apt-get install softhsm2";
        let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {why} ***\n");
        return None;
    }
    let tokens = sealed.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let conf = sealed.path().join("softhsm2.conf");
    std::fs::write(
        &conf,
        format!("directories.tokendir = {}\n", tokens.display()),
    )
    .unwrap();
    let made = Command::new("softhsm2-util")
        .env("SOFTHSM2_CONF", &conf)
        .args([
            "--init-token",
            "--free",
            "--label",
            "sallyport",
            "--pin",
            "135790",
            "--so-pin",
            "24680",
        ])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut config = std::fs::read_to_string(sealed.config_path()).unwrap();
    config.push_str(&format!(
        "\n[root.hsm]\nmodule = \"{}\"\ntoken = \"sallyport\"\nkey = \"root-1\"\n",
        module.display()
    ));
    std::fs::write(sealed.config_path(), config).unwrap();
    Some(())
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&[out.stdout.clone(), out.stderr.clone()].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hardware_token_opens_it_by_its_pin_and_one_that_is_gone_is_named() {
    let sealed = Sealed::new().await;
    if token(&sealed).is_none() {
        return;
    }
    let pin = sealed.path().join("pin");
    let into_hsm = |given: &str| {
        std::fs::write(&pin, given).unwrap();
        let shell = format!(
            "exec {} keys hsm --config {} --fd 0 --pin-fd 3 <{} 3<{}",
            env!("CARGO_BIN_EXE_sallyport"),
            sealed.config_path().display(),
            sealed.path().join("passphrase").display(),
            pin.display()
        );
        let mut command = Command::new("sh");
        command.env("SOFTHSM2_CONF", sealed.path().join("softhsm2.conf"));
        command.args(["-c", &shell]).output().unwrap()
    };
    let wrong = into_hsm("135791");
    assert!(
        !wrong.status.success() && said(&wrong).contains("does not take this PIN"),
        "{wrong:?}"
    );
    let moved = into_hsm("135790");
    assert!(moved.status.success(), "{}", said(&moved));
    assert!(
        said(&moved).contains("made the key root-1"),
        "{}",
        said(&moved)
    );
    let root = &sealed.config().root.file;
    assert!(
        RootKey::open(root, &sealed.passphrase).is_err(),
        "the passphrase opens nothing now"
    );

    let mut serving = Command::new(env!("CARGO_BIN_EXE_sallyport"))
        .env("SOFTHSM2_CONF", sealed.path().join("softhsm2.conf"))
        .args(["serve", "--config"])
        .arg(sealed.config_path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..1000 {
        if sealed.socket().exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        sealed.status_of("/fhir/metadata").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let out = sealed.command(&["unseal", "--fd", "0"], b"000000");
    assert!(
        out.status.code() == Some(1) && said(&out).contains("does not take this PIN"),
        "{out:?}"
    );
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // A token that is gone is said by name; it costs no time, and the gateway stays sealed.
    let (tokens, away) = (sealed.path().join("tokens"), sealed.path().join("away"));
    std::fs::rename(&tokens, &away).unwrap();
    std::fs::create_dir(&tokens).unwrap();
    let out = sealed.command(&["unseal", "--fd", "0"], b"135790");
    assert!(
        out.status.code() == Some(1) && said(&out).contains("no token with the label sallyport"),
        "{out:?}"
    );
    std::fs::remove_dir_all(&tokens).unwrap();
    std::fs::rename(&away, &tokens).unwrap();
    let out = sealed.command(&["unseal", "--fd", "0"], b"135790\n");
    assert!(out.status.success(), "{}", said(&out));
    assert_eq!(sealed.status_of("/fhir/metadata").await, StatusCode::OK);
    let pid = rustix::process::Pid::from_raw(i32::try_from(serving.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(serving.wait().unwrap().success());
    let unseals = sealed.said("gateway.unseal");
    assert_eq!(
        (&unseals[0]["by"], &unseals[0]["failed"]),
        (&json!("hsm"), &json!(1))
    );
}

/// `serve` itself, as an operator starts it.
#[tokio::test(flavor = "multi_thread")]
async fn serve_starts_sealed_with_core_dumps_off_and_stops_when_it_is_told_to() {
    let sealed = Arc::new(Sealed::new().await);
    let mut serving = Command::new(env!("CARGO_BIN_EXE_sallyport"))
        .args(["serve", "--config"])
        .arg(sealed.config_path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..1000 {
        if sealed.socket().exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", serving.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let numbers: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(numbers, ["0", "0"], "{core}");
    assert_eq!(
        sealed.status_of("/fhir/metadata").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(sealed.unseal("passphrase", &sealed.passphrase).await.done);
    assert_eq!(sealed.status_of("/fhir/metadata").await, StatusCode::OK);
    let pid = rustix::process::Pid::from_raw(i32::try_from(serving.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(serving.wait().unwrap().success());
    let all = entries(sealed.path(), &sealed.vkey);
    let last: Value = serde_json::from_str(all.values().next_back().unwrap()).unwrap();
    assert_eq!(last["ev"], "gateway.stop");
    assert_eq!(sealed.said("gateway.unseal").len(), 1);
}
