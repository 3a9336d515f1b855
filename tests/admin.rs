//! What administrators do to a running gateway, over real mutual TLS: alone what stops somebody, by two what lets
//! somebody in or cannot be undone; and what a stolen, repeated, late or racing approval comes to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use common::*;
use hyper::{Method, StatusCode};
use keys::{ClientKey, OpenKey};
use sallyport::connect::{Http, Party, Reply};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A CA that the gateway takes certificates of, so that newcomers can be made.
struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    /// A world whose gateway takes this CA too, and the CA.
    async fn stage() -> (Stage, Self) {
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "newcomers' CA");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        let both = |dir: &Path| {
            let path = dir.join("ca.pem");
            let text = format!("{}{ca}", std::fs::read_to_string(&path).unwrap());
            std::fs::write(path, text).unwrap();
        };
        (
            Stage::new().await.after(both).await.unwrap(),
            Self { issuer },
        )
    }

    /// A party with keys of its own that nobody has registered yet, and its certificate's thumbprint.
    fn newcomer(&self, stage: &Stage, name: &str, client_id: &str) -> (Party, String) {
        let mut leaf = rcgen::CertificateParams::default();
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let own = rcgen::KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&own, &self.issuer).unwrap();
        let dir = stage.path().join("clients").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(dir.join("key.pem"), own.serialize_pem()).unwrap();
        let print = Sha256::digest(certificate.der());
        let print = print.iter().map(|byte| format!("{byte:02x}")).collect();
        let party = Party {
            http: Http::new(
                stage.world.url(),
                &stage.path().join("ca.pem"),
                &dir.join("cert.pem"),
                &dir.join("key.pem"),
            )
            .unwrap(),
            client_id: client_id.to_owned(),
            sign: ClientKey::generate(),
            open: Some(OpenKey::generate()),
            issuer: stage.world.url().to_owned(),
            vkey: stage.vkey().clone(),
        };
        (party, print)
    }
}

async fn post_to(party: &Party, path: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json")];
    let reply = party
        .http
        .send(Method::POST, path, &headers, body.to_string());
    reply.await.unwrap()
}

async fn act(admin: &Party, act: &str, object: &str, payload: Value) -> Reply {
    let body = json!({ "act": act, "object": object, "why": "a test", "payload": payload });
    post_to(admin, "/admin/acts", &body).await
}

async fn approve(admin: &Party, digest: &str) -> Reply {
    let path = format!("/admin/proposals/{digest}/approve");
    post_to(admin, &path, &json!({ "why": "seen and checked" })).await
}

/// The digest of a proposal that was just made.
fn digest(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    let body = reply.json();
    body["proposal"]["digest"].as_str().unwrap().to_owned()
}

fn done(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

/// What registers another certificate of this client.
fn form(name: &str, role: &str, ods: &str, prints: &[&str], person: Option<&str>) -> Value {
    let mut form =
        json!({ "name": name, "role": role, "organisations": [ods], "certificates": prints });
    if let Some(person) = person {
        form["person"] = person.into();
    }
    form
}

async fn answers(party: &Party) -> StatusCode {
    let reply = party.http.send(Method::GET, "/log/checkpoint", &[], "");
    reply.await.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_registered_by_two_people_and_comes_in_at_once() {
    let (stage, authority) = Authority::stage().await;
    let (one, two) = (stage.party("admin-1"), stage.party("admin-2"));
    let (newcomer, print) = authority.newcomer(&stage, "hospital-d", "RD9");
    assert_eq!(answers(&newcomer).await, StatusCode::UNAUTHORIZED);
    let payload = json!({ "name": "Fourth hospital", "role": "hospital" });
    done(&act(&one, "organisation.register", "RD9", payload).await);
    let client = form("RD9", "hospital", "RD9", &[&print], None);
    let proposed = act(&one, "client.register", "RD9", client).await;
    receipt(&proposed, stage.vkey());
    let digest = digest(&proposed);
    assert_eq!(
        answers(&newcomer).await,
        StatusCode::UNAUTHORIZED,
        "one alone lets nobody in"
    );

    denied(&approve(&one, &digest).await);
    assert_eq!(answers(&newcomer).await, StatusCode::UNAUTHORIZED);
    for stranger in ["hospital-a", "auditor", "privacy-officer", "practice-a"] {
        denied(&approve(&stage.party(stranger), &digest).await);
    }
    let waiting = two
        .http
        .send(Method::GET, "/admin/proposals", &[], "")
        .await
        .unwrap();
    let listed = waiting.json()["proposals"][0].clone();
    assert_eq!(listed["digest"], json!(digest));
    assert_eq!(listed["payload"]["certificates"], json!([print]));
    assert_eq!(listed["person"], "ines.roth");

    let approved = approve(&two, &digest).await;
    done(&approved);
    let entry = receipt(&approved, stage.vkey());
    assert_eq!(entry.leaf["ev"], "admin.approve", "{:?}", entry.leaf);
    assert_eq!(answers(&newcomer).await, StatusCode::OK);
    // The approval is used up, by whomever it is played again.
    denied(&approve(&two, &digest).await);
    denied(&approve(&one, &digest).await);
    let waiting = two
        .http
        .send(Method::GET, "/admin/proposals", &[], "")
        .await
        .unwrap();
    assert_eq!(waiting.json()["proposals"], json!([]));
    let stage = stage.restart().await;
    let newcomer = Party {
        http: Http::new(
            stage.world.url(),
            &stage.path().join("ca.pem"),
            &stage.path().join("clients/hospital-d/cert.pem"),
            &stage.path().join("clients/hospital-d/key.pem"),
        )
        .unwrap(),
        ..newcomer
    };
    assert_eq!(
        answers(&newcomer).await,
        StatusCode::OK,
        "also after a restart"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_with_two_certificates_is_still_one_person() {
    let (stage, authority) = Authority::stage().await;
    let (one, two) = (stage.party("admin-1"), stage.party("admin-2"));
    // The first admin gets a second client, in good order: both agree to it.
    let (again, print) = authority.newcomer(&stage, "admin-1b", "admin-1b");
    let form_of = |person| form("Second laptop", "admin", "X26", &[&print], Some(person));
    let nobody = act(
        &one,
        "client.register",
        "admin-1b",
        form("x", "admin", "X26", &[&print], None),
    )
    .await;
    assert_eq!(nobody.status, StatusCode::CONFLICT, "{}", nobody.text());
    assert!(nobody.text().contains("person"), "{}", nobody.text());
    let proposed = act(&one, "client.register", "admin-1b", form_of("ines.roth")).await;
    done(&approve(&two, &digest(&proposed)).await);
    assert_eq!(answers(&again).await, StatusCode::OK);
    // What one of her certificates proposes the other one does not approve, either way round.
    for (first, second) in [(&one, &again), (&again, &one)] {
        let proposed = act(first, "client.remove", "hospital-x", Value::Null).await;
        assert_eq!(proposed.status, StatusCode::CONFLICT, "no such client");
        let proposed = act(first, "client.remove", "RM3", Value::Null).await;
        let digest = digest(&proposed);
        denied(&approve(second, &digest).await);
        denied(&approve(first, &digest).await);
        let path = format!("/admin/proposals/{digest}/withdraw");
        done(&post_to(second, &path, &json!({ "why": "a mistake" })).await);
        denied(&approve(&two, &digest).await);
    }
    assert_eq!(answers(&stage.party("hospital-b")).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_approvals_one_acts_and_a_stolen_admin_alone_does_nothing_that_takes_two() {
    let (stage, authority) = Authority::stage().await;
    let (one, two) = (stage.party("admin-1"), stage.party("admin-2"));
    let (_, print) = authority.newcomer(&stage, "thief", "thief");
    let client = form("x", "hospital", "RJ1", &[&print], None);
    // Whoever holds one administrator's certificate and key tries all that takes two.
    for (name, object) in [
        ("client.register", "RJ1"),
        ("client.remove", "admin-2"),
        ("client.resume", "RJ1"),
        ("certificate.resume", print.as_str()),
        ("organisation.resume", "RJ1"),
        ("kek.destroy", "A81001/1"),
        ("patient.erase", "9990000018"),
        ("backup.restore", "b1"),
        ("recipient.register", "RJ1"),
    ] {
        let tried = act(&one, name, object, client.clone()).await;
        assert_ne!(tried.status, StatusCode::OK, "{name}: {}", tried.text());
        if tried.status == StatusCode::ACCEPTED {
            denied(&approve(&one, &digest(&tried)).await);
        }
    }
    assert_eq!(answers(&two).await, StatusCode::OK);
    // When the theft is found, one command stops it, and what it proposed dies with it.
    let left = act(&one, "client.remove", "admin-2", Value::Null).await;
    done(&act(&two, "client.suspend", "admin-1", Value::Null).await);
    denied(&approve(&two, &digest(&left)).await);
    assert_eq!(answers(&one).await, StatusCode::FORBIDDEN);

    let (stage, _) = Authority::stage().await;
    let (one, two) = (stage.party("admin-1"), stage.party("admin-2"));
    let digest = digest(&act(&one, "client.remove", "RM3", Value::Null).await);
    let race = (0..8).map(|_| {
        let (party, digest) = (stage.party("admin-2"), digest.clone());
        tokio::spawn(async move { approve(&party, &digest).await.status })
    });
    let mut statuses = Vec::new();
    for racer in race.collect::<Vec<_>>() {
        statuses.push(racer.await.unwrap());
    }
    statuses.sort();
    assert_eq!(statuses[0], StatusCode::OK);
    assert!(
        statuses[1..].iter().all(|it| *it == StatusCode::FORBIDDEN),
        "{statuses:?}"
    );
    drop(two);
    let vkey = stage.vkey().clone();
    let entries = stage.entries().await;
    let approvals = entries
        .values()
        .filter(|leaf| leaf.contains("\"ev\":\"admin.approve\""));
    assert_eq!(approvals.count(), 1);
    let refusals = entries
        .values()
        .filter(|leaf| leaf.contains("\"ev\":\"admin.refuse\""));
    assert_eq!(
        refusals.count(),
        7,
        "the others stand in {} too",
        vkey.name()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_survives_a_restart_and_a_changed_one_is_another() {
    let (stage, authority) = Authority::stage().await;
    let (_, print) = authority.newcomer(&stage, "x", "x");
    let admin = stage.party("admin-1");
    let client = |name: &str| form(name, "hospital", "RM3", &[&print], None);
    let first = digest(&act(&admin, "client.register", "RM3", client("first")).await);
    let second = digest(&act(&admin, "client.register", "RM3", client("second")).await);
    assert_ne!(first, second);
    let stage = stage.restart().await;
    let two = stage.party("admin-2");
    let mut altered = first.clone();
    altered.replace_range(..1, if first.starts_with('0') { "1" } else { "0" });
    for wrong in [altered.as_str(), "x", "RM3"] {
        denied(&approve(&two, wrong).await);
    }
    done(&approve(&two, &first).await);
    let listed = two
        .http
        .send(Method::GET, "/admin/proposals", &[], "")
        .await
        .unwrap();
    let listed = listed.json()["proposals"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["digest"], json!(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_stops_at_the_next_request_of_an_open_connection() {
    let stage = Stage::new().await;
    let (admin, hospital) = (stage.party("admin-1"), stage.party("hospital-a"));
    let read = token(&hospital, &treat(hale().nhs)).await;
    let identity = Identity::of(stage.path(), "hospital-a");
    let mut open = connect(stage.path(), stage.world.url(), Some(&identity))
        .await
        .unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {read}\r\n\r\n",
        everything(hale().nhs)
    );
    assert_eq!(on_open(&mut open, &request).await, 200);
    // A practitioner, an organisation, a client, a certificate: each stopped by one command, on the same connection.
    let print = Sha256::digest(&identity.certificate[0]);
    let print: String = print.iter().map(|byte| format!("{byte:02x}")).collect();
    done(&act(&admin, "practitioner.suspend", "RJ1/dr-okafor", Value::Null).await);
    assert_eq!(on_open(&mut open, &request).await, 403);
    done(&act(&admin, "practitioner.resume", "RJ1/dr-okafor", Value::Null).await);
    assert_eq!(on_open(&mut open, &request).await, 200);
    for (what, object) in [
        ("organisation", "RJ1"),
        ("client", "RJ1"),
        ("certificate", print.as_str()),
    ] {
        done(&act(&admin, &format!("{what}.suspend"), object, Value::Null).await);
        assert_eq!(on_open(&mut open, &request).await, 403, "{what}");
        let again = act(&admin, &format!("{what}.suspend"), object, Value::Null).await;
        assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.text());
        let proposed = act(&admin, &format!("{what}.resume"), object, Value::Null).await;
        assert_eq!(on_open(&mut open, &request).await, 403, "{what} still");
        done(&approve(&stage.party("admin-2"), &digest(&proposed)).await);
        assert_eq!(
            on_open(&mut open, &request).await,
            200,
            "{what} let in again"
        );
    }
}

/// One request on a connection that stays open; the status of the answer.
async fn on_open(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
    request: &str,
) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the connection was closed");
        seen.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&seen);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            return status_of(&text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_admin_and_the_last_privacy_officer_stay() {
    let stage = Stage::new().await;
    let (one, two) = (stage.party("admin-1"), stage.party("admin-2"));
    for object in ["privacy-officer", "X26"] {
        let name = if object == "X26" {
            "organisation"
        } else {
            "client"
        };
        let stopped = act(&one, &format!("{name}.suspend"), object, Value::Null).await;
        assert_eq!(stopped.status, StatusCode::CONFLICT, "{}", stopped.text());
    }
    let removed = act(&one, "client.remove", "privacy-officer", Value::Null).await;
    assert_eq!(removed.status, StatusCode::CONFLICT, "{}", removed.text());
    done(&act(&two, "client.suspend", "admin-1", Value::Null).await);
    let last = act(&two, "client.suspend", "admin-2", Value::Null).await;
    assert_eq!(last.status, StatusCode::CONFLICT, "{}", last.text());
    assert!(last.text().contains("last admin"), "{}", last.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_act_is_an_entry_with_who_and_why_and_the_refused_ones_too() {
    let stage = Stage::new().await;
    let (admin, hospital) = (stage.party("admin-1"), stage.party("hospital-a"));
    let payload = json!({ "name": "Dr New", "role": "doctor" });
    let reply = act(
        &admin,
        "practitioner.register",
        "RJ1/dr-new",
        payload.clone(),
    )
    .await;
    done(&reply);
    let entry = receipt(&reply, stage.vkey());
    assert_eq!(entry.leaf["ev"], "admin.act");
    assert_eq!(
        entry.opened["context"]["why"], "a test",
        "{:?}",
        entry.opened
    );
    assert_eq!(entry.opened["object"]["object"], "RJ1/dr-new");
    assert!(
        entry.leaf["facts"]["seq"].is_u64(),
        "the change is anchored"
    );
    let refusal = act(&hospital, "practitioner.register", "RJ1/dr-new", payload).await;
    denied(&refusal);
    assert_eq!(receipt(&refusal, stage.vkey()).leaf["ev"], "admin.refuse");
    let unfit = act(&admin, "practitioner.suspend", "RJ1/nobody", Value::Null).await;
    assert_eq!(unfit.status, StatusCode::CONFLICT, "{}", unfit.text());
    let entries = stage.entries().await;
    assert!(entries.values().any(|leaf| leaf.contains("admin.unfit")));
}

/// The program itself, as an administrator runs it: exit code, and what it said.
fn sallyport(stage: &Stage, admin: &str, arguments: &[&str]) -> (i32, String) {
    let config = stage.path().join(format!("{admin}.toml"));
    let text = format!(
        "url = \"{}\"\nca = \"ca.pem\"\nclient = \"clients/{admin}\"\n",
        stage.world.url()
    );
    std::fs::write(&config, text).unwrap();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_sallyport"))
        .args(["admin", "--config", config.to_str().unwrap()])
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].concat();
    (out.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_does_it_all() {
    let (stage, authority) = Authority::stage().await;
    let (newcomer, _) = authority.newcomer(&stage, "hospital-d", "RD9");
    let certificate = stage.path().join("clients/hospital-d/cert.pem");
    let certificate = certificate.to_str().unwrap();
    let run = |admin: &'static str, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        tokio::task::block_in_place(|| sallyport(&stage, admin, &words))
    };
    let (code, said) = run("admin-1", "status");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("proposals_waiting: 0"), "{said}");
    let (code, said) = run("hospital-a", "status");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("not permitted (entry "), "{said}");
    let (code, said) = run(
        "admin-1",
        "organisation register RD9 --name Fourth --role hospital",
    );
    assert_eq!(code, 0, "{said}");
    let register = format!(
        "client register RD9 --name EPR --role hospital --organisation RD9 --certificate {certificate}"
    );
    let (code, said) = run("admin-1", &register);
    assert_eq!(
        (code, said.contains("why: is required")),
        (1, true),
        "{said}"
    );
    let (code, said) = run("admin-1", &format!("{register} --why contract"));
    assert_eq!(code, 0, "{said}");
    let digits = said
        .split("approve ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    let (code, said) = run("admin-2", "proposals list");
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("by ines.roth (admin-1)") && said.contains("why: contract"),
        "{said}"
    );
    // Without a terminal nothing is approved, stopped or removed by accident.
    let (code, said) = run("admin-2", &format!("proposals approve {digits}"));
    assert_eq!((code, said.contains("--yes")), (2, true), "{said}");
    let (code, said) = run("admin-1", &format!("proposals approve {digits} --yes"));
    assert_eq!(code, 1, "{said}");
    let (code, said) = run("admin-2", &format!("proposals approve {digits} --yes"));
    assert_eq!(code, 0, "{said}");
    assert_eq!(answers(&newcomer).await, StatusCode::OK);
    let stop = format!("certificate suspend {certificate} --why stolen --yes --json");
    let (code, said) = run("admin-2", &stop);
    assert_eq!(code, 0, "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(said["entry"].as_u64().unwrap() > 0, "{said}");
    assert_eq!(answers(&newcomer).await, StatusCode::FORBIDDEN);
    let (code, said) = run("admin-2", "directory");
    assert_eq!((code, said.contains("ods: RD9")), (0, true), "{said}");
    let (code, said) = run("admin-2", "keys list A81001");
    assert_eq!((code, said.contains("version: 1")), (0, true), "{said}");
    let nowhere = ["admin", "--url", "https://127.0.0.1:1", "status"];
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_sallyport"))
        .args(nowhere)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_token_is_killed_by_its_name_also_across_a_restart() {
    let stage = Stage::new().await;
    let (admin, hospital) = (stage.party("admin-1"), stage.party("hospital-a"));
    let read = token(&hospital, &treat(hale().nhs)).await;
    let other = token(&hospital, &treat(hale().nhs)).await;
    let path = everything(hale().nhs);
    assert_eq!(get(&hospital, &read, &path).await.status, StatusCode::OK);
    let claims = B64.decode(read.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let jti = claims["jti"].as_str().unwrap();
    let silent = json!({ "act": "token.revoke", "object": jti });
    let silent = post_to(&admin, "/admin/acts", &silent).await;
    assert_eq!(silent.status, StatusCode::BAD_REQUEST, "{}", silent.text());
    done(&act(&admin, "token.revoke", jti, Value::Null).await);
    assert_eq!(
        get(&hospital, &read, &path).await.status,
        StatusCode::UNAUTHORIZED
    );
    let stage = stage.restart().await;
    let hospital = stage.party("hospital-a");
    assert_eq!(
        get(&hospital, &read, &path).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(get(&hospital, &other, &path).await.status, StatusCode::OK);
}
