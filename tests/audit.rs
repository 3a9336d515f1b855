//! The auditor's desk, as an auditor uses it: the program itself, on a copy fetched over real mutual TLS, with keys that
//! two administrators disclosed; and what the desk says of a log, a body or a receipt that somebody changed.

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

use common::*;
use hyper::{Method, StatusCode};
use sallyport::connect::{Party, Reply};
use serde_json::{Value, json};

/// Runs `sallyport audit …`; `number` goes to its standard input.
fn desk(arguments: &[&str], number: Option<&str>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sallyport"))
        .arg("audit")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(format!("{}\n", number.unwrap_or_default()).as_bytes())
        .ok();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn administer(admin: &Party, path: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json")];
    let body = body.to_string();
    admin
        .http
        .send(Method::POST, path, &headers, body)
        .await
        .unwrap()
}

/// What two administrators disclose to the auditor, as a file.
async fn disclosed(stage: &Stage, payload: &Value) -> PathBuf {
    let ask = json!({ "act": "audit.disclose", "object": "auditor", "why": "complaint 7", "payload": payload });
    let reply = administer(&stage.party("admin-1"), "/admin/acts", &ask).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    let digest = reply.json()["proposal"]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/admin/proposals/{digest}/approve");
    // Who asked cannot agree.
    let own = administer(&stage.party("admin-1"), &path, &json!({})).await;
    assert_eq!(own.status, StatusCode::FORBIDDEN);
    let reply = administer(&stage.party("admin-2"), &path, &json!({})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let file = stage.path().join("disclosed.json");
    std::fs::write(&file, &reply.body).unwrap();
    file
}

struct Desk {
    log: String,
    key: String,
    open: String,
    disclosed: String,
}

impl Desk {
    /// The whole round: accesses, a disclosure, and the copy.
    async fn of(stage: &Stage, payload: &Value) -> Self {
        let file = disclosed(stage, payload).await;
        stage.world.publish().await;
        let own = |name: &str| stage.path().join(name).display().to_string();
        let it = Self {
            log: own("copy"),
            key: own("log.vkey"),
            open: own("clients/auditor/open.jwk"),
            disclosed: file.display().to_string(),
        };
        let done = it.fetch(stage);
        assert!(done.status.success(), "{}", text(&done));
        it
    }

    fn fetch(&self, stage: &Stage) -> Output {
        let own = |name: &str| stage.path().join(name).display().to_string();
        desk(
            &[
                "fetch",
                "--url",
                stage.world.url(),
                "--client",
                &own("clients/auditor"),
                "--ca",
                &own("ca.pem"),
                "--key",
                &self.key,
                "--into",
                &self.log,
            ],
            None,
        )
    }

    fn run(&self, arguments: &[&str], number: Option<&str>) -> Output {
        let mut all = arguments.to_vec();
        all.extend([
            "--log",
            &self.log,
            "--key",
            &self.key,
            "--open-key",
            &self.open,
        ]);
        all.extend(["--disclosed", &self.disclosed]);
        desk(&all, number)
    }
}

/// A release, a refusal and a deposit about one patient, a release about another.
async fn accesses(stage: &Stage) -> Reply {
    let (hospital, practice) = (stage.party("hospital-a"), stage.party("practice-a"));
    let access = token(&hospital, &treat(hale().nhs)).await;
    let kept = get(&hospital, &access, &everything(hale().nhs)).await;
    assert_eq!(kept.status, StatusCode::OK);
    let own = with(
        treat(hale().nhs),
        &[("purpose", json!("HRESCH")), ("relationship", Value::Null)],
    );
    denied(&hospital.ask(&own, now_s()).await.unwrap());
    let other = token(&hospital, &treat(quill().nhs)).await;
    get(&hospital, &other, &everything(quill().nhs)).await;
    let filing = token(&practice, &deposit_for("A81001", hale().nhs)).await;
    let name = "Observation/recalled";
    let body = observation("recalled", hale().nhs, "2339-0", "2026-11-02").to_string();
    assert_eq!(
        put(&practice, &filing, name, body).await.status,
        StatusCode::CREATED
    );
    let access = token(&hospital, &treat(hale().nhs)).await;
    get(&hospital, &access, "/fhir/Observation/recalled").await;
    kept
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_finds_who_looked_at_one_patient_and_nothing_of_another() {
    let stage = Stage::new().await;
    let kept = accesses(&stage).await;
    let it = Desk::of(&stage, &json!({ "patients": [hale().nhs] })).await;

    let found = lines(&it.run(
        &["search", "--event", "record.release", "--patient", "--json"],
        Some(hale().nhs),
    ));
    let releases: Vec<_> = found
        .iter()
        .filter(|row| row.get("index").is_some())
        .collect();
    assert_eq!(releases.len(), 2, "{found:?}");
    assert!(
        releases
            .iter()
            .all(|row| row["body"]["actor"]["practitioner"] == "dr-okafor"
                && row["body"]["subject"]["nhs"] == hale().nhs)
    );
    // The other patient's release is there, and says nothing: its key was not disclosed.
    assert!(found.iter().any(|row| row["closed"] == 1), "{found:?}");
    let all = text(&it.run(&["search"], None));
    assert!(
        all.contains("proposal") || all.contains("admin.approve"),
        "{all}"
    );
    assert!(!all.contains(quill().nhs));

    let said = text(&it.run(&["report", "refusals"], None));
    assert!(said.contains("token.refuse RJ1"), "{said}");
    let recalled = lines(&it.run(
        &[
            "report",
            "recall",
            "--record",
            "Observation/recalled",
            "--json",
        ],
        None,
    ));
    let to: Vec<_> = recalled
        .iter()
        .filter(|row| row.get("index").is_some())
        .collect();
    assert_eq!(to.len(), 1, "{recalled:?}");
    assert_eq!(to[0]["body"]["actor"]["organisation"], "RJ1");

    // The auditor's own register says who is related to whom; no gateway is asked.
    let register = stage.path().join("register.csv");
    let rows = format!(
        "kind,organisation,id,nhs_number,surname,address,vip,deceased\n\
         person,RJ1,dr-okafor,,,\"1 Mill Lane, Leeds\",,\n\
         patient,,,{},Okafor,1 mill lane leeds,yes,2020-01-31\n",
        hale().nhs
    );
    std::fs::write(&register, rows).unwrap();
    let register = register.display().to_string();
    let unusual = ["report", "unusual", "--register", &register, "--json"];
    let found = lines(&it.run(&unusual, None));
    let marked: Vec<&Value> = found.iter().map(|row| &row["marks"]).collect();
    let marked: Vec<&&Value> = marked.iter().filter(|marks| marks.is_array()).collect();
    assert_eq!(marked.len(), 2, "{found:?}");
    for marks in marked {
        let marks = marks.as_array().unwrap();
        for mark in ["same-surname", "same-address", "vip", "deceased"] {
            assert!(marks.contains(&json!(mark)), "{mark}: {marks:?}");
        }
        assert!(
            marks
                .last()
                .unwrap()
                .as_str()
                .unwrap()
                .starts_with("explanation-")
        );
    }
    let without = it.run(&["report", "unusual"], None);
    assert_eq!(without.status.code(), Some(2), "{}", text(&without));

    // What hospitals kept stands in the log; the same receipt over another leaf proves nothing.
    let receipts = stage.path().join("kept");
    std::fs::write(
        &receipts,
        kept.body.split(|byte| *byte == b'\n').next().unwrap(),
    )
    .unwrap();
    let receipts = receipts.display().to_string();
    let held = it.run(&["reconcile", &receipts], None);
    assert!(
        held.status.success() && text(&held).contains("1 of 1"),
        "{}",
        text(&held)
    );
    let mut line: Value =
        serde_json::from_slice(kept.body.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let leaf = line["receipt"]["leaf"]
        .as_str()
        .unwrap()
        .replace("permit", "refuse");
    line["receipt"]["leaf"] = leaf.into();
    std::fs::write(&receipts, line.to_string()).unwrap();
    assert_eq!(
        it.run(&["reconcile", &receipts], None).status.code(),
        Some(1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_export_names_index_and_leaf_hash_and_the_leaves_verify() {
    let stage = Stage::new().await;
    accesses(&stage).await;
    let it = Desk::of(&stage, &json!({ "all": true })).await;
    let rows = |format: &str| {
        let out = it.run(
            &["export", "--format", format, "--event", "record.release"],
            None,
        );
        assert!(out.status.success(), "{}", text(&out));
        String::from_utf8(out.stdout).unwrap()
    };
    let leaves = rows("leaves");
    assert_eq!(leaves.lines().count(), 3);
    let hash = |leaf: &str| {
        let hash = sallyport::ledger::tree::leaf_hash(leaf.as_bytes());
        hash.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    for format in ["ndjson", "csv", "fhir", "syslog", "cef"] {
        let said = rows(format);
        for leaf in leaves.lines() {
            assert!(said.contains(&hash(leaf)), "{format}: {said}");
        }
        assert!(
            said.contains("dr-okafor") && said.contains(quill().nhs),
            "{format}: {said}"
        );
    }
    for line in rows("fhir").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["resourceType"], "AuditEvent");
        assert_eq!(event["purposeOfEvent"][0]["coding"][0]["code"], "TREAT");
    }
}

/// The guide's ten lines of Python, run as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_ours_finds_the_same_root() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no python3 here");
        return;
    }
    let stage = Stage::new().await;
    accesses(&stage).await;
    let it = Desk::of(&stage, &json!({ "all": true })).await;
    let leaves = it.run(&["export", "--format", "leaves"], None).stdout;
    let guide =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/auditor.md")).unwrap();
    let script = guide
        .split("```python\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let file = stage.path().join("leaves");
    let verdict = |leaves: &[u8]| {
        std::fs::write(&file, leaves).unwrap();
        let checkpoint = Path::new(&it.log).join("checkpoint");
        let out = Command::new("python3")
            .args(["-c", script])
            .arg(&file)
            .arg(checkpoint)
            .output()
            .unwrap();
        text(&out).trim().to_owned()
    };
    assert_eq!(verdict(&leaves), "holds");
    let changed = String::from_utf8(leaves)
        .unwrap()
        .replacen("permit", "refuse", 1);
    assert_eq!(verdict(changed.as_bytes()), "DOES NOT HOLD");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_of_a_copy_that_was_changed_and_a_changed_body_is_named() {
    let stage = Stage::new().await;
    accesses(&stage).await;
    let it = Desk::of(&stage, &json!({ "patients": [hale().nhs] })).await;
    let bodies = Path::new(&it.log).join("bodies/0");
    let whole = std::fs::read(&bodies).unwrap();
    let mut spoilt = whole.clone();
    // Why so many: somewhere in them is a body of the patient's.
    for at in (60..spoilt.len()).step_by(300) {
        spoilt[at] ^= 1;
    }
    let _ = std::fs::write(&bodies, &spoilt);
    let said = it.run(&["search", "--event", "record.release"], None);
    let is_named = text(&said).contains("BODY ALTERED") && said.status.code() == Some(1);
    assert!(
        is_named || !text(&said).contains(hale().nhs),
        "{}",
        text(&said)
    );
    std::fs::write(&bodies, whole).unwrap();

    let entries = Path::new(&it.log).join("tile/entries");
    let file = walk(&entries).pop().unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(
        &file,
        String::from_utf8_lossy(&bytes).replace("permit", "refuse"),
    )
    .unwrap();
    let said = it.run(&["search"], None);
    assert_eq!(said.status.code(), Some(1));
    assert!(text(&said).contains("does NOT hold"), "{}", text(&said));
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        match entry.path().is_dir() {
            true => all.extend(walk(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_to_auditors_only_and_never_by_one_hand() {
    let stage = Stage::new().await;
    let admin = stage.party("admin-1");
    for (object, payload, member) in [
        ("RJ1", json!({ "all": true }), "object"),
        ("nobody", json!({ "all": true }), "object"),
        (
            "auditor",
            json!({ "patients": ["9990000000"] }),
            "payload.patients",
        ),
        (
            "auditor",
            json!({ "all": true, "patients": [hale().nhs] }),
            "payload.all",
        ),
        ("auditor", json!({ "everybody": true }), "payload"),
    ] {
        let ask =
            json!({ "act": "audit.disclose", "object": object, "why": "w", "payload": payload });
        let reply = administer(&admin, "/admin/acts", &ask).await;
        assert!(reply.status.is_client_error(), "{}", reply.text());
        assert!(reply.text().contains(member), "{}", reply.text());
    }
    for name in ["hospital-a", "practice-a", "auditor"] {
        let ask = json!({ "act": "audit.disclose", "object": "auditor", "why": "w", "payload": { "all": true } });
        let reply = administer(&stage.party(name), "/admin/acts", &ask).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN);
    }
    // Bodies are for those who may read entries, and say nothing without keys.
    for (name, status) in [
        ("hospital-a", 403),
        ("practice-a", 403),
        ("admin-1", 403),
        ("auditor", 200),
    ] {
        let http = stage.party(name).http;
        let reply = http
            .send(Method::GET, "/log/bodies/0", &[], Vec::new())
            .await
            .unwrap();
        assert_eq!(reply.status.as_u16(), status, "{name}");
        assert!(!reply.text().contains("dr-okafor") && !reply.text().contains(hale().nhs));
    }
    for wrong in ["-1", "01", "x", "99999999999999999999"] {
        let http = stage.party("auditor").http;
        let path = format!("/log/bodies/{wrong}");
        let reply = http
            .send(Method::GET, &path, &[], Vec::new())
            .await
            .unwrap();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    }
}
