//! Incident: May 2017, WannaCry: systems of 81 trusts were encrypted, backups were untested or stale, services stopped (NAO, October 2017; NHS England lessons learned, February 2018).
//! Here it would mean: a gateway comes back from a backup that lacks entries, objections or suspensions, and serves as if nothing were missing; or a captured client goes on reading.
//! Stopped by: `sallyport restore` opens only what is whole and holds it until two people acknowledge it; `Ledger::open` refuses a journal that a published checkpoint outruns (`RolledBack`); anchors of facts; a suspension acts at the next request.

use crate::common::*;
use hyper::{Method, StatusCode};
use sallyport::assembly::{self, AssemblyError};
use sallyport::config::Config;
use sallyport::connect::{Party, Reply};
use sallyport::dev::WorldError;
use sallyport::facts::{Client, Organisation, Statement};
use sallyport::ledger::{OpenError, audit};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_from_an_older_backup_does_not_serve() {
    let stage = Stage::new().await;
    let backup = folder();
    let stage = stage.after(|dir| copy(dir, backup.path())).await.unwrap();
    let nhs = hale().nhs;
    let read = token(&stage.party("hospital-a"), &treat(nhs)).await;
    let released = receipt(
        &get(&stage.party("hospital-a"), &read, &everything(nhs)).await,
        stage.vkey(),
    );
    assert_eq!(
        object(&stage.party("practice-a"), nhs, "after-the-backup")
            .await
            .status,
        StatusCode::OK
    );
    let vkey = stage.vkey().clone();
    let (dir, address) = stage.stop().await;
    let latest = std::fs::read_to_string(dir.path().join("log/checkpoint")).unwrap();
    // What happened: the data folder is lost, and an old backup of it is put back beside the published log.
    put_back(&backup.path().join("data"), &dir.path().join("data"));
    let refused = Stage::again(dir, address)
        .await
        .err()
        .expect("it does not serve");
    let WorldError::Assembly(AssemblyError::Ledger(OpenError::RolledBack { size, known })) =
        refused
    else {
        panic!("{refused}");
    };
    assert!(size <= released.index && released.index < known);
    // With the published log lost too, whoever holds a later checkpoint still sees it.
    let report = verify(backup.path(), &vkey);
    assert!(report.holds(), "the backup was a good one in its day");
    let known = [latest];
    let check = audit::Check {
        known: &known,
        ..audit::Check::default()
    };
    let report = audit::verify(&audit::Folder(backup.path().join("log")), &vkey, &check);
    assert!(!report.holds(), "but not as far as was seen since");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_and_current_backup_serves_again_with_everything_in_it() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let want = names(&stage.party("hospital-a"), nhs).await;
    assert_eq!(
        object(&stage.party("practice-a"), quill().nhs, "before-the-backup")
            .await
            .status,
        StatusCode::OK
    );
    let backup = folder();
    // Everything is encrypted by somebody else; the backup of just before is all there is.
    let stage = stage.after(|dir| {
        copy(dir, backup.path());
        put_back(backup.path(), dir);
    });
    let stage = stage.await.unwrap();
    assert_eq!(names(&stage.party("hospital-a"), nhs).await, want);
    denied(
        &stage
            .party("hospital-a")
            .ask(&treat(quill().nhs), now_s())
            .await
            .unwrap(),
    );
    let vkey = stage.vkey().clone();
    let (dir, _) = stage.stop().await;
    assert!(verify(dir.path(), &vkey).holds());
}

/// This client's row, as the world made it.
fn row(dir: &std::path::Path, name: &str, suspended: bool) -> Statement {
    use sha2::Digest as _;
    let member = sallyport::dev::MEMBERS
        .iter()
        .find(|member| member.name == name)
        .unwrap();
    let own = dir.join("clients").join(name);
    let certificate = &Identity::of(dir, name).certificate[0];
    let print = sha2::Sha256::digest(certificate.as_ref());
    let sign = keys::ClientKey::from_jwk(&std::fs::read_to_string(own.join("sign.jwk")).unwrap())
        .ok()
        .unwrap();
    let open = std::fs::read_to_string(own.join("open.jwk")).ok();
    let open = open.map(|text| keys::OpenKey::from_jwk(&text).ok().unwrap().public_jwk());
    Statement::Client(Client {
        id: member.client_id.to_owned(),
        name: name.to_owned(),
        role: member.role.to_owned(),
        organisations: vec![member.ods.to_owned()],
        certificates: vec![print.iter().map(|byte| format!("{byte:02x}")).collect()],
        sign_key: serde_json::from_str(&sign.signer().jwk_public()).ok(),
        open_key: open.and_then(|text| serde_json::from_str(&text).ok()),
        suspended,
        person: member.person.map(str::to_owned),
        stopped: Vec::new(),
        older: Vec::new(),
        waits: false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captured_client_is_stopped_at_its_next_request() {
    let stage = Stage::new().await;
    let nhs = hale().nhs;
    let (dir, _) = stage.stop().await;
    let served = Served::open(dir.path(), None).await.unwrap();
    let (hospital, practice) = (
        party_at(dir.path(), "hospital-a"),
        party_at(dir.path(), "practice-a"),
    );
    let (admin, auditor) = (
        party_at(dir.path(), "admin-1"),
        party_at(dir.path(), "auditor"),
    );
    let read = token(&hospital, &treat(nhs)).await;
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let acts = async |may: bool| {
        let read = get(&hospital, &read, &everything(nhs)).await;
        let filed = put(
            &practice,
            &deposit,
            "Observation/captured",
            observation("captured", nhs, "1-1", "2026").to_string(),
        )
        .await;
        let rotated = admin
            .http
            .send(
                Method::POST,
                &format!("/admin/keys/{PRACTICE_A}/rotate"),
                &[],
                "",
            )
            .await
            .unwrap();
        let log = auditor
            .http
            .send(Method::GET, "/log/tile/entries/000.p/1", &[], "")
            .await
            .unwrap();
        let asked = hospital.ask(&treat(nhs), now_s()).await.unwrap();
        for reply in [read, filed, rotated, log, asked] {
            if may {
                assert!(
                    reply.status.is_success() || reply.status == StatusCode::NOT_FOUND,
                    "{} {}",
                    reply.status,
                    reply.text()
                );
            } else {
                assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text());
            }
        }
    };
    acts(true).await;
    for suspended in [true, false] {
        for name in ["hospital-a", "practice-a", "admin-1", "auditor"] {
            served
                .app
                .gateway
                .load(vec![row(dir.path(), name, suspended)])
                .await
                .unwrap();
        }
        acts(!suspended).await;
    }
    // Or a whole organisation at once.
    for suspended in [true, false] {
        let hospital = Organisation {
            ods: "RJ1".to_owned(),
            name: "hospital-a".to_owned(),
            role: "hospital".to_owned(),
            suspended,
            contacts: Vec::new(),
        };
        served
            .app
            .gateway
            .load(vec![Statement::Organisation(hospital)])
            .await
            .unwrap();
        let reply = get(&party_at(dir.path(), "hospital-a"), &read, &everything(nhs)).await;
        assert_eq!(
            reply.status == StatusCode::FORBIDDEN,
            suspended,
            "{}",
            reply.text()
        );
    }
    // And it stays stopped across a restart.
    served
        .app
        .gateway
        .load(vec![row(dir.path(), "hospital-a", true)])
        .await
        .unwrap();
    served.stop().await;
    let served = Served::open(dir.path(), None).await.unwrap();
    refused(&get(&party_at(dir.path(), "hospital-a"), &read, &everything(nhs)).await);
    served.stop().await;
}

/// Every file below is overwritten with noise, as ransomware leaves it.
fn encrypted(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            encrypted(&path);
        } else {
            let mut noise = vec![0; std::fs::metadata(&path).unwrap().len().min(9_999) as usize];
            keys::random(&mut noise);
            std::fs::write(&path, noise).unwrap();
        }
    }
}

async fn posted(admin: &Party, path: &str, body: &Value) -> Reply {
    let reply = admin.http.send(Method::POST, path, &[], body.to_string());
    reply.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_taken_while_serving_comes_back_whole_and_waits_for_two_people() {
    let stage = Stage::new().await;
    let (nhs, vkey) = (hale().nhs, stage.vkey().clone());
    let (hospital, practice) = (stage.party("hospital-a"), stage.party("practice-a"));
    let read = token(&hospital, &treat(nhs)).await;
    // Deposits and reads go on while it is taken; what was acknowledged before it began must be in it.
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let file = async |id: &str| {
        let body = observation(id, nhs, "1-1", "2026").to_string();
        let reply = put(&practice, &deposit, &format!("Observation/{id}"), body).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    };
    file("before-the-backup").await;
    let acknowledged = names(&hospital, nhs).await;
    let going_on = async {
        for n in 0..5 {
            file(&format!("during-{n}")).await;
            let reply = get(&hospital, &read, &everything(nhs)).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        }
    };
    let admin = stage.party("admin-1");
    let taking = posted(&admin, "/admin/backup", &Value::Null);
    let (taken, ()) = tokio::join!(taking, going_on);
    assert_eq!(taken.status, StatusCode::OK, "{}", taken.text());
    let taken = taken.json();
    file("after-the-backup").await;
    let (dir, address) = stage.stop().await;
    let elsewhere = folder();
    copy(
        std::path::Path::new(taken["folder"].as_str().unwrap()),
        elsewhere.path(),
    );
    let kept = std::fs::read_to_string(dir.path().join("log/checkpoint")).unwrap();
    let secret = std::fs::read(dir.path().join("passphrase")).unwrap();
    holds_no(elsewhere.path(), &secret);
    holds_no(elsewhere.path(), nhs.as_bytes());

    // What happened.
    for lost in ["data", "log", "backups"] {
        encrypted(&dir.path().join(lost));
    }
    let config = Config::load(&dir.path().join("sallyport.toml")).unwrap();
    let passphrase = zeroize::Zeroizing::new(secret);
    let clock = sallyport::clock::Clock::system;
    let since = [kept];
    let again = || assembly::restore(&config, elsewhere.path(), &since, &passphrase, clock());
    assert!(again().await.is_err(), "never over what stands there");
    std::fs::remove_dir_all(dir.path().join("data")).unwrap();
    let restored = again().await.unwrap();
    let size = taken["entries"].as_u64().unwrap();
    assert_eq!(restored.manifest.size, size);
    assert!(restored.known.unwrap() > size, "what came after is named");

    // It answers administrators only, until two of them have acknowledged it.
    let stage = Stage::again(dir, address).await.unwrap();
    let (one, two) = (stage.party("admin-1"), stage.party("admin-2"));
    let hospital = stage.party("hospital-a");
    let reply = hospital.ask(&treat(nhs), now_s()).await.unwrap();
    assert_eq!(
        reply.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        reply.text()
    );
    let why = "known: what came after the backup is asked for again";
    let body = json!({ "act": "backup.restore", "object": "gateway", "why": why });
    let proposed = posted(&one, "/admin/acts", &body).await;
    assert_eq!(proposed.status, StatusCode::ACCEPTED, "{}", proposed.text());
    let stage = stage.restart().await;
    let digest = proposed.json()["proposal"]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/admin/proposals/{digest}/approve");
    let alone = posted(&one, &path, &json!({})).await;
    assert_eq!(alone.status, StatusCode::FORBIDDEN, "{}", alone.text());
    let reply = hospital.ask(&treat(nhs), now_s()).await.unwrap();
    assert_eq!(
        reply.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        reply.text()
    );
    let approved = posted(&two, &path, &json!({})).await;
    assert_eq!(approved.status, StatusCode::OK, "{}", approved.text());
    let now = names(&stage.party("hospital-a"), nhs).await;
    for name in &acknowledged {
        assert!(
            now.contains(name),
            "{name} was acknowledged before the backup"
        );
    }
    assert!(!now.contains(&"Observation/after-the-backup".to_owned()));
    let (dir, _) = stage.stop().await;
    assert!(verify(dir.path(), &vkey).holds());
}

/// No file below holds these bytes in clear.
fn holds_no(dir: &std::path::Path, bytes: &[u8]) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holds_no(&path, bytes);
        } else {
            let file = std::fs::read(&path).unwrap();
            let found = file.windows(bytes.len()).any(|window| window == bytes);
            assert!(!found, "{}", path.display());
        }
    }
}
