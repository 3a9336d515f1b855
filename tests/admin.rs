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
use common::moved::events;
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
            seen: None,
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

/// Offers these keys, answers the challenge, and proposes them; the digest.
async fn offered(admin: &Party, client: &str, own: &Party, overlap_days: u64) -> String {
    let (sign, open) = (own.sign.to_jwk(), own.open.as_ref().map(OpenKey::to_jwk));
    let own = sallyport::connect::Own {
        sign: &sign,
        open: open.as_ref().map(|it| it.as_str()),
    };
    let challenge = act(admin, "recipient.challenge", client, own.offer().unwrap()).await;
    done(&challenge);
    let mut proof = own.prove(&challenge.json()).unwrap();
    proof["overlap_days"] = overlap_days.into();
    digest(&act(admin, "recipient.register", client, proof).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hospitals_keys_are_proven_registered_by_two_and_replaced_with_an_overlap() {
    let stage = Stage::new().await;
    let (one, two, old) = (
        stage.party("admin-1"),
        stage.party("admin-2"),
        stage.party("hospital-a"),
    );
    let mut new = stage.party("hospital-a");
    (new.sign, new.open) = (ClientKey::generate(), Some(OpenKey::generate()));
    let digest = offered(&one, "RJ1", &new, 7).await;
    let before = old.token(&treat(hale().nhs), now_s()).await.unwrap();
    assert!(
        new.token(&treat(hale().nhs), now_s()).await.is_err(),
        "not yet"
    );
    done(&approve(&two, &digest).await);
    // New tickets go to the new key, whichever key signed the assertion; both keys sign for a week.
    let reply = get(&old, &before, &everything(hale().nhs)).await;
    let keys = new.keys().await.unwrap();
    assert!(old.open(&reply, hale().nhs, &keys, now_s()).is_err());
    assert!(
        !new.open(&reply, hale().nhs, &keys, now_s())
            .unwrap()
            .records
            .is_empty()
    );
    for party in [&old, &new] {
        party.token(&treat(hale().nhs), now_s()).await.unwrap();
    }
    // The overlap of the old key ends at once when it is retired; when the ticket key goes, nothing is given out.
    let kid = old.sign.signer().kid().to_owned();
    done(&act(&one, "recipient.retire", &format!("RJ1/{kid}"), Value::Null).await);
    assert!(old.token(&treat(hale().nhs), now_s()).await.is_err());
    let live = new.token(&treat(hale().nhs), now_s()).await.unwrap();
    let kid = new.open.as_ref().unwrap().kid().to_owned();
    done(&act(&one, "recipient.retire", &format!("RJ1/{kid}"), Value::Null).await);
    refused(&get(&new, &live, &everything(hale().nhs)).await);
    let gone = act(&one, "recipient.retire", &format!("RJ1/{kid}"), Value::Null).await;
    assert_eq!(gone.status, StatusCode::CONFLICT);
    // A key that was burnt is not taken in again, nor anybody else's.
    let stage = stage.restart().await;
    let entries = stage.entries().await;
    let told = entries
        .values()
        .filter(|leaf| leaf.contains("recipient.registered"));
    assert_eq!(told.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_proven_or_not_fit_are_not_taken_in() {
    let stage = Stage::new().await;
    let (one, hospital) = (stage.party("admin-1"), stage.party("hospital-a"));
    let (sign, open) = (ClientKey::generate(), OpenKey::generate());
    let (sign_jwk, open_jwk) = (sign.to_jwk(), open.to_jwk());
    let own = sallyport::connect::Own {
        sign: &sign_jwk,
        open: Some(&open_jwk),
    };
    let challenge = act(&one, "recipient.challenge", "RJ1", own.offer().unwrap()).await;
    let proof = own.prove(&challenge.json()).unwrap();
    // By another key, for another client, with other keys, for another time, without a proof.
    let other_sign = ClientKey::generate().to_jwk();
    let other = sallyport::connect::Own {
        sign: &other_sign,
        open: Some(&open_jwk),
    };
    let mut wrong = vec![
        ("RJ1", other.prove(&challenge.json()).unwrap()),
        ("RM3", proof.clone()),
    ];
    let public = |own: &sallyport::connect::Own<'_>| own.offer().unwrap();
    let another_open = OpenKey::generate().to_jwk();
    let another = sallyport::connect::Own {
        sign: &sign_jwk,
        open: Some(&another_open),
    };
    for (name, value) in [
        ("sign", public(&other)["sign"].clone()),
        ("open", public(&another)["open"].clone()),
        ("expires_ms", json!(9_999_999_999_999_u64)),
        ("proof", json!("")),
        ("proof", json!(hospital.assertion(now_s()))),
        ("overlap_days", json!(91)),
        ("more", json!(1)),
    ] {
        let mut proof = proof.clone();
        proof[name] = value;
        wrong.push(("RJ1", proof));
    }
    for (client, proof) in wrong {
        let reply = act(&one, "recipient.register", client, proof.clone()).await;
        assert_eq!(
            reply.status,
            StatusCode::CONFLICT,
            "{proof}: {}",
            reply.text()
        );
    }
    // Keys that no challenge is given for: private, another's, one key for both uses.
    let private: Value = serde_json::from_str(&sign_jwk).unwrap();
    let theirs: Value = serde_json::from_str(hospital.sign.signer().jwk_public().as_str()).unwrap();
    let mut twice = public(&own);
    twice["open"] = twice["sign"].clone();
    for member in ["use", "alg", "kid"] {
        twice["open"].as_object_mut().unwrap().remove(member);
    }
    for offer in [json!({ "sign": private }), twice, json!({})] {
        let reply = act(&one, "recipient.challenge", "RJ1", offer.clone()).await;
        assert_eq!(
            reply.status,
            StatusCode::CONFLICT,
            "{offer}: {}",
            reply.text()
        );
    }
    let known = sallyport::connect::Own {
        sign: &hospital.sign.to_jwk(),
        open: None,
    };
    let challenge = act(
        &one,
        "recipient.challenge",
        "RM3",
        json!({ "sign": theirs }),
    )
    .await;
    let proof = known.prove(&challenge.json()).unwrap();
    let reply = act(&one, "recipient.register", "RM3", proof).await;
    assert_eq!(
        reply.status,
        StatusCode::CONFLICT,
        "another's key: {}",
        reply.text()
    );
    // The honest one still is.
    let proof = own.prove(
        &act(&one, "recipient.challenge", "RJ1", own.offer().unwrap())
            .await
            .json(),
    );
    let reply = act(&one, "recipient.register", "RJ1", proof.unwrap()).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
}

/// A gateway that somebody founds from nothing, with a CA of its own, served by the program itself.
struct Firm {
    dir: tempfile::TempDir,
    url: String,
    authority: Authority,
    serving: Option<std::process::Child>,
}

impl Drop for Firm {
    fn drop(&mut self) {
        if let Some(serving) = &mut self.serving {
            let _ = serving.kill();
            let _ = serving.wait();
        }
    }
}

fn private(path: &Path, text: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

impl Firm {
    fn new() -> Self {
        let (dir, mut params) = (folder(), rcgen::CertificateParams::default());
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(
            dir.path().join("ca.pem"),
            params.self_signed(&key).unwrap().pem(),
        )
        .unwrap();
        let port = std::net::TcpListener::bind(any())
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let authority = Authority {
            issuer: rcgen::Issuer::new(params, key),
        };
        let url = format!("https://127.0.0.1:{port}");
        let firm = Self {
            dir,
            url,
            authority,
            serving: None,
        };
        let usage = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
        firm.certificate("server", vec!["127.0.0.1".to_owned()], usage);
        let config = format!(
            "listen = \"127.0.0.1:{port}\"\nissuer = \"{}\"\ndata = \"data\"\nlog = \"log\"\norigin = \"first.example/log\"\n\
             [tls]\ncertificate = \"server/cert.pem\"\nkey = \"server/key.pem\"\nclient_ca = \"ca.pem\"\n\
             [root]\nfile = \"root.key\"\npassphrase_file = \"passphrase\"\n",
            firm.url
        );
        std::fs::write(firm.dir.path().join("sallyport.toml"), config).unwrap();
        private(
            &firm.dir.path().join("passphrase"),
            b"correct horse battery staple\n",
        );
        firm
    }

    /// A folder with a certificate and its key; the thumbprint.
    fn certificate(
        &self,
        name: &str,
        names: Vec<String>,
        usage: rcgen::ExtendedKeyUsagePurpose,
    ) -> String {
        let mut leaf = rcgen::CertificateParams::new(names).unwrap();
        leaf.extended_key_usages = vec![usage];
        let own = rcgen::KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&own, &self.authority.issuer).unwrap();
        let dir = self.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
        private(&dir.join("key.pem"), own.serialize_pem().as_bytes());
        let print = Sha256::digest(certificate.der());
        print.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn client(&self, name: &str) -> String {
        self.certificate(name, Vec::new(), rcgen::ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn command(&self, line: &str) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sallyport"));
        command.args(line.split(' ')).current_dir(self.dir.path());
        command
            .env("SALLYPORT_URL", &self.url)
            .env("SALLYPORT_CA", "ca.pem");
        command.stdin(std::process::Stdio::null());
        command
    }

    /// Runs it to its end, which must be good; what it printed.
    fn run(&self, admin: &str, line: &str) -> String {
        let out = self
            .command(line)
            .env("SALLYPORT_CLIENT", admin)
            .output()
            .unwrap();
        let said = String::from_utf8([out.stdout.clone(), out.stderr].concat()).unwrap();
        assert!(out.status.success(), "{line}: {said}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// One administrator proposes, the other approves.
    fn both(&self, line: &str) {
        let said = self.run("ines", line);
        let digits = said
            .split("approve ")
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap();
        self.run("tom", &format!("admin proposals approve {digits} --yes"));
    }

    /// Keys of a client: offered, challenged, proven and registered, each with its own command.
    fn keys(&self, client: &str, name: &str, opens: bool) {
        let own = self.dir.path().join(name);
        private(
            &own.join("sign.jwk"),
            ClientKey::generate().to_jwk().as_bytes(),
        );
        let mut files = format!("--sign {name}/sign.jwk");
        if opens {
            private(
                &own.join("open.jwk"),
                OpenKey::generate().to_jwk().as_bytes(),
            );
            files = format!("{files} --open {name}/open.jwk");
        }
        let keep =
            |file: &str, text: String| std::fs::write(self.dir.path().join(file), text).unwrap();
        keep(
            "offer.json",
            self.run("ines", &format!("possession offer {files}")),
        );
        let line = format!("admin recipient challenge {client} --offer offer.json");
        keep("challenge.json", self.run("ines", &line));
        let line = format!("possession prove {files} --challenge challenge.json");
        keep("proof.json", self.run("ines", &line));
        self.both(&format!(
            "admin recipient register {client} --proof proof.json --why first-day"
        ));
    }

    fn party(&self, name: &str, client_id: &str) -> Party {
        let own = self.dir.path().join(name);
        let vkey = std::fs::read_to_string(self.dir.path().join("log.vkey")).unwrap();
        let sign = std::fs::read_to_string(own.join("sign.jwk")).unwrap();
        let (ca, certificate, key) = (
            self.dir.path().join("ca.pem"),
            own.join("cert.pem"),
            own.join("key.pem"),
        );
        Party {
            http: Http::new(&self.url, &ca, &certificate, &key).unwrap(),
            client_id: client_id.to_owned(),
            sign: ClientKey::from_jwk(&sign).ok().unwrap(),
            open: None,
            issuer: self.url.clone(),
            vkey: vkey.trim().parse().unwrap(),
            seen: None,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_first_day_and_worst_day() {
    let mut firm = Firm::new();
    let staff = [
        ("ines", "admin"),
        ("tom", "admin"),
        ("noor", "privacy-officer"),
    ];
    let mut statements =
        vec![json!({ "organisation": { "ods": "X26", "name": "Operator", "role": "admin" } })];
    for (name, role) in staff {
        let print = firm.client(name);
        statements.push(json!({ "client": {
            "id": name, "name": name, "role": role, "organisations": ["X26"], "person": name, "certificates": [print],
        } }));
    }
    let text = Value::Array(statements).to_string();
    std::fs::write(firm.dir.path().join("statements.json"), text).unwrap();
    tokio::task::block_in_place(|| {
        firm.run(
            "ines",
            "init --config sallyport.toml --statements statements.json",
        );
        let mut serve = firm.command("serve --config sallyport.toml");
        serve
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        firm.serving = Some(serve.spawn().unwrap());
        let status = || {
            firm.command("admin status")
                .env("SALLYPORT_CLIENT", "ines")
                .output()
                .unwrap()
        };
        let up = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(100));
            status().status.success()
        });
        assert!(up, "it serves");
        // Its own keys turn, and what cannot be done says why.
        let said = firm.run("ines", "admin keys announce token-signing");
        assert!(said.contains("signs nothing yet"), "{said}");
        firm.run("tom", "admin keys activate token-signing --json");
        let said = firm.run("ines", "admin keys list token-signing");
        assert!(
            said.contains("retired") && said.contains("active"),
            "{said}"
        );
        firm.run("ines", "admin erasures");
        for line in [
            "admin backup",
            "admin seal --yes --why worst-day",
            "admin keys retire audit 1",
        ] {
            let out = firm.command(line).env("SALLYPORT_CLIENT", "ines").output();
            assert_eq!(out.unwrap().status.code(), Some(1), "{line}");
        }
        // The first practice and the first hospital.
        firm.run(
            "ines",
            "admin organisation register A81001 --name Surgery --role practice --contact mailto:guardian@surgery.example",
        );
        firm.run(
            "ines",
            "admin organisation register RJ1 --name Hospital --role hospital",
        );
        for (id, name, role) in [
            ("A81001", "surgery", "practice"),
            ("RJ1", "hospital", "hospital"),
        ] {
            firm.client(name);
            firm.both(&format!(
                "admin client register {id} --name EPR --role {role} --organisation {id} \
                 --certificate {name}/cert.pem --why first-day"
            ));
        }
        firm.keys("A81001", "surgery", false);
        firm.keys("RJ1", "hospital", true);
        firm.run(
            "ines",
            "admin practitioner register RJ1/dr-okafor --name Okafor --role doctor",
        );
        let head = "organisation,practitioner,requirement,completed,expires,evidence";
        let csv = format!("{head}\nRJ1,dr-okafor,data-security,2026-01-01,2029-01-01,ESR-1\n");
        std::fs::write(firm.dir.path().join("training.csv"), csv).unwrap();
        // The hospital is an emergency provider, by two people.
        std::fs::write(firm.dir.path().join("providers.txt"), "RJ1 # County\n").unwrap();
        firm.both("admin providers publish providers.txt --why first-version");
        let register = firm.run("tom", "admin providers list");
        assert!(register.contains("version: 1"), "{register}");
        // The practice accepts it from its own machine, and the keeper answers.
        let practice = format!(
            "practice --url {} --ca ca.pem --client surgery --key log.vkey --practice A81001",
            firm.url
        );
        let shown = firm.run("nobody", &format!("{practice} register show"));
        assert!(shown.contains("new: RJ1"), "{shown}");
        let terms =
            "--category medications --from 2026-01-01 --until 2036-12-31 --signer Ada-Prior";
        firm.run(
            "nobody",
            &format!("{practice} register accept ed-1 --version 1 {terms}"),
        );
        firm.run(
            "tom",
            "admin providers answer A81001/ed-1 --why telephoned --yes",
        );
        let shown = firm.run("nobody", &format!("{practice} register show"));
        assert!(shown.contains("state: cooling"), "{shown}");
        firm.run("nobody", &format!("{practice} register withdraw ed-1"));
        let listed = firm.run("nobody", &format!("{practice} agreement list"));
        assert!(listed.contains("state: withdrawn"), "{listed}");
        let ended = firm.run("nobody", &format!("{practice} show"));
        assert!(ended.contains("its receipt holds"), "{ended}");
        // A secondary use, approved by two and ended by one.
        firm.run(
            "ines",
            "admin organisation register R0C01 --name University --role research",
        );
        let approval = "A81001/R0C01/26/CAG/0042";
        firm.both(&format!(
            "admin approval register {approval} --purpose HRESCH --category observations \
             --from 2026-01-01 --until 2036-12-31 --why letter"
        ));
        firm.run(
            "ines",
            &format!("admin approval withdraw {approval} --why closed --yes"),
        );
        firm.run("ines", "admin training import training.csv --dry-run");
        firm.run("ines", "admin training import training.csv --why monthly");
        let report = firm.run("ines", "admin training export");
        assert!(
            report.contains(
                "RJ1,dr-okafor,doctor,no,data-security,current,2026-01-01,2029-01-01,ESR-1"
            ),
            "{report}"
        );
    });
    // The first record.
    let practice = firm.party("surgery", "A81001");
    let nhs = hale().nhs;
    let deposit = token(&practice, &deposit_for("A81001", nhs)).await;
    let record = observation("first", nhs, "718-7", "2026-01-01").to_string();
    let filed = put(&practice, &deposit, "Observation/first", record.clone()).await;
    assert_eq!(filed.status, StatusCode::CREATED, "{}", filed.text());
    receipt(&filed, &practice.vkey);
    // The worst day: the practice's key is stolen; one command stops it, and another looks after the keys.
    tokio::task::block_in_place(|| {
        firm.run("tom", "admin client suspend A81001 --why stolen --yes");
        let status = firm.run("ines", "admin status --json");
        let status: Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["body"]["clients"]["suspended"], json!(["A81001"]));
        firm.run("ines", "admin keys rotate A81001");
        firm.run("ines", "completions bash");
    });
    let again = put(&practice, &deposit, "Observation/second", record).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN, "{}", again.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_practices_first_system_is_let_in_by_two_and_a_further_one_waits_for_the_practices_word()
{
    let (stage, authority) = Authority::stage().await;
    let (one, two) = (stage.party("admin-1"), stage.party("admin-2"));
    let own = json!({ "type": "deposit", "practice": "C83001" });
    // A practice names whom it wants told, or is not admitted.
    let mut practice = json!({ "name": "Third surgery", "role": "practice" });
    let reply = act(&one, "organisation.register", "C83001", practice.clone()).await;
    assert_eq!(reply.status, StatusCode::CONFLICT, "{}", reply.text());
    assert!(reply.text().contains("contacts"), "{}", reply.text());
    practice["contacts"] = json!(["mailto:guardian@third.example"]);
    done(&act(&one, "organisation.register", "C83001", practice).await);
    let system = async |party: &Party, id: &str, print: &str| {
        let client = form("GP system", "practice", "C83001", &[print], None);
        let proposed = act(&one, "client.register", id, client).await;
        done(&approve(&two, &digest(&proposed)).await);
        let digest = offered(&one, id, party, 0).await;
        done(&approve(&two, &digest).await);
    };
    let (first, print) = authority.newcomer(&stage, "c-first", "C83001");
    system(&first, "C83001", &print).await;
    let deposit = token(&first, &own).await;
    assert!(!deposit.is_empty());
    // Two administrators put another system beside it: that the practice knows nothing of, and it does nothing.
    let (second, print) = authority.newcomer(&stage, "c-second", "C83001-b");
    system(&second, "C83001-b", &print).await;
    denied(&second.ask(&own, now_s()).await.unwrap());
    let side = agreement_of("C83001");
    denied(&second.ask(&side, now_s()).await.unwrap());
    let agree = token(&first, &side).await;
    let path = "/practices/C83001/clients/C83001-b";
    done(&send(&first, Method::PUT, path, &agree, "").await);
    token(&second, &own).await;
    // The practice lost its own: with none left that stands, two people let one in again.
    done(&act(&one, "client.suspend", "C83001", Value::Null).await);
    done(&act(&one, "client.suspend", "C83001-b", Value::Null).await);
    let (third, print) = authority.newcomer(&stage, "c-third", "C83001-c");
    system(&third, "C83001-c", &print).await;
    token(&third, &own).await;
    let vkey = stage.vkey().clone();
    let (dir, _) = stage.stop().await;
    let notices = events(dir.path(), &vkey, "notice");
    let told = notices.iter().filter(|it| it["al"] == "practice.system");
    let told: Vec<&Value> = told.map(|it| &it["about"]).collect();
    assert_eq!(told, ["C83001", "C83001-b", "C83001-c"]);
}
