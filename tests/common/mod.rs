//! What the end-to-end tests share: a world in a folder of its own, its parties, deposits and reads, receipts
//! that are checked wherever they appear, and a raw connection for what no honest client sends.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic, and no test file uses every part"
)]

pub mod moved;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use keys::{ClientKey, OpenKey};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sallyport::clock::Clock;
use sallyport::config::Config;
use sallyport::connect::{Http, Opened, Party, Reply, Seen};
use sallyport::dev::{MEMBERS, World, WorldError, referral};
use sallyport::fhir::fixtures::{Fixture, small_set};
use sallyport::ledger::{Evidence, Vkey, audit, check};
use sallyport::store::{Embedded, Expect, Store as _, Table, Write, WriteSet};
use sallyport::vault::Strongroom;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub const R4: &str = "application/fhir+json; fhirVersion=4.0";
pub const PRACTICE_A: &str = "A81001";
pub const PRACTICE_B: &str = "B82617";
/// A test number that no practice of the world holds.
pub const NOBODY: &str = "9990999988";

pub fn now_s() -> u64 {
    Clock::system().now_s()
}

/// The first R4 patient of the shipped set, registered at the first practice.
pub fn hale() -> &'static Fixture {
    &small_set()[0]
}

/// The patient with sensitive records.
pub fn quill() -> &'static Fixture {
    &small_set()[1]
}

/// The patient who objected from the first day on.
pub fn ferreira() -> &'static Fixture {
    &small_set()[2]
}

/// The patient of the second practice.
pub fn tanqueray() -> &'static Fixture {
    &small_set()[3]
}

/// Any free port of this machine.
pub fn any() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A folder that is gone with the value.
pub fn folder() -> TempDir {
    tempfile::Builder::new()
        .prefix("sallyport-test-")
        .tempdir()
        .expect("a temporary folder")
}

/// A world of this test alone.
pub struct Stage {
    pub world: World,
    pub dir: TempDir,
}

impl Stage {
    /// A copy of this file's first world: making one writes much more than copying it.
    pub async fn new() -> Self {
        let dir = folder();
        copy(template().await, dir.path());
        let world = World::open(dir.path(), any(), &[]).await.expect("a world");
        Self { world, dir }
    }

    pub fn party(&self, name: &str) -> Party {
        self.world.party(name).expect("a party")
    }

    pub fn vkey(&self) -> &Vkey {
        self.world.vkey()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        address_of(self.world.url())
    }

    /// Stops it and gives the folder.
    pub async fn stop(self) -> (TempDir, SocketAddr) {
        let address = self.address();
        self.world.stop().await.expect("a stop");
        (self.dir, address)
    }

    /// Serves a folder again, at the same address, so that tokens keep their issuer.
    pub async fn again(dir: TempDir, address: SocketAddr) -> Result<Self, WorldError> {
        let world = World::open(dir.path(), address, &[]).await?;
        Ok(Self { world, dir })
    }

    /// Stops, lets something happen to the folder, and serves it again at the same address.
    pub async fn after(self, what: impl FnOnce(&Path)) -> Result<Self, WorldError> {
        let (dir, address) = self.stop().await;
        what(dir.path());
        Self::again(dir, address).await
    }

    /// The same without anything happening.
    pub async fn restart(self) -> Self {
        self.after(|_| ()).await.expect("the same world again")
    }

    /// The entries of the journal, after a stop.
    pub async fn entries(self) -> BTreeMap<u64, String> {
        let vkey = self.vkey().clone();
        let (dir, _) = self.stop().await;
        entries(dir.path(), &vkey)
    }
}

/// One runtime that outlives every test of a file, for worlds that tests share.
static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));

/// A folder of this run alone, which goes at the next run: a static is never dropped.
fn run_folder(name: &str) -> PathBuf {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
    std::fs::create_dir_all(&base).expect("a folder");
    for old in std::fs::read_dir(&base).expect("a folder").flatten() {
        let pid = old.file_name().to_string_lossy().into_owned();
        if !Path::new("/proc").join(&pid).exists() {
            let _ = std::fs::remove_dir_all(old.path());
        }
    }
    base.join(std::process::id().to_string()).join(name)
}

/// A stopped world, to be copied.
async fn template() -> &'static Path {
    static TEMPLATE: tokio::sync::OnceCell<PathBuf> = tokio::sync::OnceCell::const_new();
    let made = || async {
        let dir = run_folder("template");
        let world = World::open(&dir, any(), &[]).await.expect("a world");
        world.stop().await.expect("a stop");
        dir
    };
    TEMPLATE.get_or_init(made).await
}

/// A world that all tests of one file share.
pub async fn shared() -> &'static World {
    shared_after(|_| ()).await
}

/// The same, with something done to the folder between its making and its being served.
pub async fn shared_after(prepare: fn(&Path)) -> &'static World {
    static WORLD: tokio::sync::OnceCell<World> = tokio::sync::OnceCell::const_new();
    let opened = || async {
        let dir = run_folder("shared");
        copy(template().await, &dir);
        prepare(&dir);
        let world = RUNTIME.spawn(async move { World::open(&dir, any(), &[]).await });
        world.await.expect("no panic").expect("a world")
    };
    WORLD.get_or_init(opened).await
}

pub fn address_of(url: &str) -> SocketAddr {
    url.trim_start_matches("https://")
        .parse()
        .expect("an address")
}

/// A party of a world that another process serves.
pub fn party_at(dir: &Path, name: &str) -> Party {
    let world: Value = serde_json::from_slice(&std::fs::read(dir.join("world.json")).unwrap())
        .expect("world.json");
    let url = world["url"].as_str().expect("a url");
    let vkey: Vkey = world["log"]["vkey"].as_str().unwrap().parse().unwrap();
    let member = MEMBERS.iter().find(|member| member.name == name).unwrap();
    let own = dir.join("clients").join(name);
    let http = Http::new(
        url,
        &dir.join("ca.pem"),
        &own.join("cert.pem"),
        &own.join("key.pem"),
    );
    let text = |file: &str| std::fs::read_to_string(own.join(file)).ok();
    Party {
        http: http.unwrap(),
        client_id: member.client_id.to_owned(),
        sign: ClientKey::from_jwk(&text("sign.jwk").unwrap())
            .ok()
            .unwrap(),
        open: text("open.jwk").map(|text| OpenKey::from_jwk(&text).ok().unwrap()),
        issuer: url.to_owned(),
        vkey,
        seen: Some(Seen::default()),
    }
}

/// What a clinician of the first hospital asks for this patient's direct care.
pub fn treat(nhs: &str) -> Value {
    json!({
        "type": "patient_record", "patient": nhs, "purpose": "TREAT", "practitioner": { "id": "dr-okafor" },
        "relationship": { "type": "referral", "reference": referral(nhs) },
    })
}

/// The same with members changed; a null takes one away.
pub fn with(mut details: Value, changes: &[(&str, Value)]) -> Value {
    let object = details.as_object_mut().unwrap();
    for (member, value) in changes {
        if value.is_null() {
            object.remove(*member);
        } else {
            object.insert((*member).to_owned(), value.clone());
        }
    }
    details
}

pub fn deposit_for(practice: &str, nhs: &str) -> Value {
    json!({ "type": "deposit", "practice": practice, "patient": nhs })
}

pub fn consent_for(practice: &str, nhs: &str) -> Value {
    json!({ "type": "consent", "practice": practice, "patient": nhs })
}

/// For the practice's side of agreements.
pub fn agreement_of(practice: &str) -> Value {
    json!({ "type": "agreement", "practice": practice })
}

/// For the organisation's side of agreements.
pub fn acceptance_of(organisation: &str) -> Value {
    json!({ "type": "agreement", "organisation": organisation })
}

/// What the portal asks for a grown-up patient's own history.
pub fn history_of(nhs: &str) -> Value {
    json!({ "type": "history", "patient": nhs, "for": "self", "born": "1980-02-29" })
}

/// What a clinician of the first hospital asks who breaks the glass.
pub fn break_glass(nhs: &str, reason: &str) -> Value {
    with(
        treat(nhs),
        &[
            ("relationship", Value::Null),
            ("purpose", json!("BTG")),
            ("acknowledged", json!(true)),
            ("reason", json!(reason)),
        ],
    )
}

/// A request by certificate alone.
pub async fn certified(party: &Party, method: Method, path: &str, body: Value) -> Reply {
    let headers = [("content-type", "application/json")];
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    party
        .http
        .send(method, path, &headers, body)
        .await
        .expect("an answer")
}

pub async fn token(party: &Party, details: &Value) -> String {
    party.token(details, now_s()).await.expect("a token")
}

pub fn everything(nhs: &str) -> String {
    format!("/fhir/Patient/{nhs}/$everything")
}

/// An observation with this id, code and day, about this patient.
pub fn observation(id: &str, nhs: &str, code: &str, date: &str) -> Value {
    json!({
        "resourceType": "Observation", "id": id, "status": "final",
        "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory" }] }],
        "subject": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": nhs } },
        "code": { "coding": [{ "system": "http://loinc.org", "code": code }] },
        "effectiveDateTime": date, "valueQuantity": { "value": 4.10, "unit": "mmol/L" },
    })
}

/// A Bundle of this type with these resources.
pub fn bundle(kind: &str, resources: &[Value]) -> Value {
    let entry = |resource: &Value| {
        let name = format!(
            "{}/{}",
            resource["resourceType"].as_str().unwrap(),
            resource["id"].as_str().unwrap()
        );
        json!({
            "fullUrl": format!("https://practice.example/fhir/{name}"), "resource": resource,
            "request": { "method": "PUT", "url": name },
        })
    };
    let entries: Vec<Value> = resources.iter().map(entry).collect();
    json!({ "resourceType": "Bundle", "type": kind, "entry": entries })
}

pub fn consent(id: &str, nhs: &str) -> Value {
    json!({
        "resourceType": "Consent", "id": id, "status": "active",
        "scope": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy" }] },
        "category": [{ "coding": [{ "system": "http://loinc.org", "code": "59284-0" }] }],
        "patient": { "identifier": { "system": "https://fhir.nhs.uk/Id/nhs-number", "value": nhs } },
        "provision": { "type": "deny" },
    })
}

/// One request with a bearer token.
pub async fn send(
    party: &Party,
    method: Method,
    path: &str,
    token: &str,
    body: impl Into<Bytes>,
) -> Reply {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", R4)];
    let reply = party.http.send(method, path, &headers, body).await;
    reply.unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub async fn put(party: &Party, token: &str, name: &str, body: impl Into<Bytes>) -> Reply {
    send(party, Method::PUT, &format!("/fhir/{name}"), token, body).await
}

pub async fn post(party: &Party, token: &str, body: impl Into<Bytes>) -> Reply {
    send(party, Method::POST, "/fhir", token, body).await
}

pub async fn get(party: &Party, token: &str, path: &str) -> Reply {
    party
        .read(path, token)
        .await
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Passes on an objection with this id; gives the answer.
pub async fn object(practice: &Party, nhs: &str, id: &str) -> Reply {
    let token = token(practice, &consent_for(&practice.client_id, nhs)).await;
    put(
        practice,
        &token,
        &format!("Consent/{id}"),
        consent(id, nhs).to_string(),
    )
    .await
}

/// The receipt of an answer; it must have one, and it must hold.
pub fn receipt(reply: &Reply, vkey: &Vkey) -> Evidence {
    let header = reply
        .header("sallyport-receipt")
        .unwrap_or_else(|| panic!("no receipt: {} {}", reply.status, reply.text()));
    let text = B64.decode(header).expect("base64url");
    let value: Value = serde_json::from_slice(&text).expect("JSON");
    check(&value, vkey).expect("the receipt holds")
}

/// Opens a release; it must hold.
pub async fn open(hospital: &Party, reply: &Reply, nhs: &str) -> Opened {
    let keys = hospital.keys().await.expect("keys");
    hospital
        .open(reply, nhs, &keys, now_s())
        .unwrap_or_else(|error| panic!("{error}"))
}

/// The names of everything this party may read of the patient, over all pages.
pub async fn names(hospital: &Party, nhs: &str) -> Vec<String> {
    let token = token(hospital, &treat(nhs)).await;
    let mut next = Some(everything(nhs));
    let mut out = Vec::new();
    while let Some(path) = next {
        let reply = get(hospital, &token, &path).await;
        let opened = open(hospital, &reply, nhs).await;
        out.extend(opened.records.into_iter().map(|record| record.name));
        next = opened.next;
    }
    out
}

/// Asserts the one refusal of the FHIR side.
pub fn refused(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text());
    assert_eq!(
        reply.text(),
        r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"forbidden","details":{"text":"Not permitted."}}]}"#
    );
}

/// Asserts the one refusal of the token endpoint.
pub fn denied(reply: &Reply) {
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text());
    assert_eq!(
        reply.text(),
        r#"{"error":"access_denied","error_description":"not permitted"}"#
    );
}

/// The names of the headers, sorted.
pub fn header_names(reply: &Reply) -> Vec<String> {
    let mut names: Vec<String> = reply.headers.keys().map(ToString::to_string).collect();
    names.sort();
    names
}

/// What an error's text must never hold: a patient's number, a place in the source, the name of a type.
pub fn says_nothing_inside(reply: &Reply) {
    let text = reply.text();
    let digits = text
        .split(|c: char| !c.is_ascii_digit())
        .any(|run| run.len() == 10 && run.starts_with('9'));
    assert!(!digits, "a patient's number in: {text}");
    for inside in [
        "::",
        ".rs",
        "panic",
        "src/",
        "Error(",
        "Some(",
        "sled",
        "tokio",
        "serde",
        "unwrap",
        "backtrace",
    ] {
        assert!(!text.contains(inside), "{inside} in: {text}");
    }
}

/// All entries of a stopped gateway's journal.
pub fn entries(dir: &Path, vkey: &Vkey) -> BTreeMap<u64, String> {
    let mut out = BTreeMap::new();
    audit::entries(&dir.join("data/journal"), vkey.name(), &mut |leaf, _| {
        out.insert(leaf.index(), leaf.text().to_owned());
        ControlFlow::Continue(())
    })
    .expect("a journal");
    out
}

/// Every receipt's entry stands in the journal.
pub fn all_stand(receipts: &[Evidence], entries: &BTreeMap<u64, String>) {
    for receipt in receipts {
        let leaf = entries
            .get(&receipt.index)
            .unwrap_or_else(|| panic!("entry {} is gone", receipt.index));
        let hash = sallyport::ledger::tree::leaf_hash(leaf.as_bytes());
        assert_eq!(hash, receipt.leaf_hash, "entry {} differs", receipt.index);
    }
}

/// The offline audit of a stopped gateway's published log.
pub fn verify(dir: &Path, vkey: &Vkey) -> audit::Report {
    audit::verify(
        &audit::Folder(dir.join("log")),
        vkey,
        &audit::Check::default(),
    )
}

/// A world's store, opened behind the stopped gateway's back with its own keys.
pub fn store_behind(dir: &Path) -> (Arc<Embedded>, Strongroom) {
    let config = Config::load(&dir.join("sallyport.toml")).expect("the config");
    let passphrase = std::fs::read(dir.join("passphrase")).expect("the passphrase");
    let root = keys::RootKey::open(&config.root.file, &passphrase).expect("the root key");
    let room = Strongroom::new(keys::Keyring::open(&config.keyring(), &root).unwrap()).unwrap();
    let store = Embedded::open(
        &config.store(),
        room.macs(),
        sallyport::store::Limits::default(),
    );
    (Arc::new(store.expect("the store")), room)
}

const CHUNK: usize = 64 * 1024;

/// The parts of a file that are not all zeros, and where they stand: a journal is mostly room for more.
fn written(path: &Path, mut each: impl FnMut(u64, &[u8])) -> u64 {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::open(path).expect("a file");
    let (mut buffer, zeros, mut at) = (vec![0; CHUNK], vec![0; CHUNK], 0);
    loop {
        let count = file.read_at(&mut buffer, at).expect("a file that reads");
        if count == 0 {
            return at;
        }
        if buffer[..count] != zeros[..count] {
            each(at, &buffer[..count]);
        }
        at += count as u64;
    }
}

/// Copies a folder with everything in it.
pub fn copy(from: &Path, to: &Path) {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
            continue;
        }
        let file = std::fs::File::create(&target).expect("a copy");
        let length = written(&entry.path(), |at, bytes| {
            file.write_all_at(bytes, at).expect("a copy");
        });
        file.set_len(length).expect("a copy");
        let mode = entry.metadata().unwrap().permissions().mode();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Puts an older copy of a folder in place of the present one.
pub fn put_back(copied: &Path, at: &Path) {
    std::fs::remove_dir_all(at).expect("the present one goes");
    copy(copied, at);
}

/// A certificate chain and its key, as PEM files in one folder.
pub struct Identity {
    pub certificate: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    pub fn of(dir: &Path, name: &str) -> Self {
        let own = dir.join("clients").join(name);
        Self {
            certificate: CertificateDer::pem_file_iter(own.join("cert.pem"))
                .unwrap()
                .map(Result::unwrap)
                .collect(),
            key: PrivateKeyDer::from_pem_file(own.join("key.pem")).unwrap(),
        }
    }

    /// A certificate in good order, under a CA that the gateway does not know.
    pub fn foreign() -> Self {
        Self::under_a_new_ca().0
    }

    /// The same, and its CA's certificate as PEM.
    pub fn under_a_new_ca() -> (Self, String) {
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "another CA");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(params, key);
        let mut leaf = rcgen::CertificateParams::default();
        leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let own = rcgen::KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&own, &issuer).unwrap();
        let identity = Self {
            certificate: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(own.serialize_der()).unwrap(),
        };
        (identity, ca)
    }
}

/// A TLS connection to the gateway, with or without a client certificate.
pub async fn connect(
    dir: &Path,
    url: &str,
    identity: Option<&Identity>,
) -> std::io::Result<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(dir.join("ca.pem")).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(identity.certificate.clone(), identity.key.clone_key())
            .unwrap(),
    };
    let stream = tokio::net::TcpStream::connect(address_of(url)).await?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// Sends these bytes and reads until the gateway closes, 80 seconds at most. What arrived, as text.
pub async fn raw(
    dir: &Path,
    url: &str,
    identity: Option<&Identity>,
    bytes: &[u8],
) -> std::io::Result<String> {
    let mut stream = connect(dir, url, identity).await?;
    // Why ignored: a gateway that has heard enough may close while this still talks.
    let _ = stream.write_all(bytes).await;
    let _ = stream.flush().await;
    let mut out = Vec::new();
    let read = async {
        let mut buffer = [0; 16 * 1024];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => return Ok(()),
                Ok(count) => out.extend_from_slice(&buffer[..count]),
                Err(error) if out.is_empty() => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(80), read).await {
        Ok(read) => read?,
        Err(_) => return Err(std::io::ErrorKind::TimedOut.into()),
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// The status of a raw HTTP/1.1 answer; 0 if there is none.
pub fn status_of(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}

/// Deletes or rewrites rows of facts of one kind through the store's own API, behind a stopped gateway's back.
pub fn facts_rows(dir: &Path, kind: u8, change: impl Fn(&mut Vec<u8>) -> bool + Send + 'static) {
    let (store, _room) = store_behind(dir);
    let work = async move {
        let rows = store
            .scan(Table::Facts, vec![kind], None, usize::MAX)
            .await
            .unwrap();
        assert!(!rows.is_empty(), "there are such rows");
        let write = |row: sallyport::store::Row| {
            let mut value = row.value;
            let keep = change(&mut value);
            Write {
                table: Table::Facts,
                key: row.key,
                value: keep.then_some(value),
                expect: Expect::Any,
            }
        };
        let writes = rows.into_iter().map(write).collect();
        store
            .commit(WriteSet {
                writes,
                token: None,
            })
            .await
            .unwrap();
        store.close();
    };
    std::thread::spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(work))
        .join()
        .unwrap();
}

/// Everything of the first practice is refused, everything of the second one is served.
pub async fn first_practice_is_unknown(stage: &Stage, read: &str) {
    let (practice, hospital) = (stage.party("practice-a"), stage.party("hospital-a"));
    refused(&get(&hospital, read, &everything(hale().nhs)).await);
    for nhs in [hale().nhs, quill().nhs, ferreira().nhs] {
        denied(&hospital.ask(&treat(nhs), now_s()).await.unwrap());
    }
    for details in [
        deposit_for(PRACTICE_A, hale().nhs),
        consent_for(PRACTICE_A, hale().nhs),
    ] {
        denied(&practice.ask(&details, now_s()).await.unwrap());
    }
    let emergency = with(
        treat(hale().nhs),
        &[
            ("purpose", json!("BTG")),
            ("relationship", Value::Null),
            ("reason", json!("resus")),
            ("acknowledged", json!(true)),
        ],
    );
    denied(&hospital.ask(&emergency, now_s()).await.unwrap());
    let others = token(&hospital, &treat(tanqueray().nhs)).await;
    assert_eq!(
        get(&hospital, &others, &everything(tanqueray().nhs))
            .await
            .status,
        StatusCode::OK,
        "the other practice is served"
    );
}

/// A world's gateway under rules of this test's own, with the gateway itself at hand.
pub struct Served {
    pub app: sallyport::http::Shared,
    serving: sallyport::http::Serving,
}

impl Served {
    /// Serves a stopped world's folder again, at the address its config says.
    pub async fn open(
        dir: &Path,
        rules: Option<&str>,
    ) -> Result<Self, sallyport::assembly::AssemblyError> {
        Self::open_at(dir, rules, Clock::system()).await
    }

    /// The same by a clock of this test's own.
    pub async fn open_at(
        dir: &Path,
        rules: Option<&str>,
        clock: Clock,
    ) -> Result<Self, sallyport::assembly::AssemblyError> {
        let mut config = Config::load(&dir.join("sallyport.toml")).expect("the config");
        if let Some(rules) = rules {
            let path = dir.join("local.cedar");
            std::fs::write(&path, rules).expect("the rules");
            config.rules = Some(path);
        }
        let passphrase = std::fs::read(dir.join("passphrase")).expect("the passphrase");
        let gateway = sallyport::assembly::open(&config, &passphrase, clock).await?;
        let budgets = sallyport::http::Budgets::default();
        let app = Arc::new(sallyport::http::App {
            gateway,
            budgets,
            bell: None,
        });
        let read = |path: &Path| std::fs::read(path).expect("a file");
        let tls = sallyport::http::tls(
            &read(&config.tls.certificate),
            &read(&config.tls.key),
            &read(&config.tls.client_ca),
        );
        let listener = tokio::net::TcpListener::bind(config.listen)
            .await
            .expect("the address");
        let router = sallyport::http::router(Arc::clone(&app));
        let serving = sallyport::http::serve(listener, tls.expect("TLS"), router);
        Ok(Self { app, serving })
    }

    pub async fn stop(self) {
        self.serving.stop().await;
        self.app.gateway.close().await.expect("a stop");
    }
}

/// Every file under these folders holds none of these texts.
pub fn nowhere_in_clear(folders: &[PathBuf], texts: &[&str]) {
    let mut left = folders.to_vec();
    let mut files = 0;
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let mut bytes = Vec::new();
            written(&path, |_, chunk| bytes.extend_from_slice(chunk));
            files += 1;
            let text_of = String::from_utf8_lossy(&bytes);
            for text in texts {
                let found = text_of.contains(text);
                assert!(!found, "{text} stands in {}", path.display());
            }
        }
    }
    assert!(files > 5, "there was something to look at");
}
