//! What the ledger promises its callers, on a disk that is in memory. Crashes are in `crash_tests`, auditors in
//! `audit_tests`, measurements in `figures`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use super::*;
use crate::disk::TestDisk;
use policy::{Account, Outcome};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const ORIGIN: &str = "audit.gw1.example/2026";

/// Ed25519 under a fresh key.
pub(super) struct Signer(pub(super) keys::NoteSigner);

impl SignsNotes for Signer {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message)
    }
    fn public(&self) -> [u8; 32] {
        self.0.public()
    }
}

/// Not a cipher: what it does must only be repeatable.
pub(super) struct Sealing;

impl Seals for Sealing {
    fn tag(&self, nonce: &[u8; 16]) -> [u8; 16] {
        nonce.map(|byte| !byte)
    }
    fn seal_body(&self, nonce: &[u8; 16], body: &[u8]) -> Vec<u8> {
        let key = nonce.iter().cycle();
        body.iter()
            .zip(key)
            .map(|(byte, key)| byte ^ key ^ 0x5a)
            .collect()
    }
}

/// A ledger's surroundings.
#[derive(Clone)]
pub(super) struct World {
    pub(super) disk: TestDisk,
    pub(super) place: Place,
    pub(super) signer: Arc<Signer>,
    pub(super) options: Options,
    now_ms: Arc<AtomicU64>,
}

impl World {
    pub(super) fn new(segment_bytes: u64) -> Self {
        let world = Self::empty(segment_bytes);
        world.init().unwrap();
        world
    }

    pub(super) fn empty(segment_bytes: u64) -> Self {
        let (disk, now_ms) = (TestDisk::new(), Arc::new(AtomicU64::new(1_790_000_000_000)));
        let ticking = now_ms.clone();
        let options = Options {
            clock: Clock::from_fn(move || ticking.load(Ordering::SeqCst)),
            publish_every: Duration::from_secs(3600),
            segment_bytes,
            disk: Arc::new(disk.clone()),
            ..Options::default()
        };
        Self {
            disk,
            place: Place {
                journal: "/journal".into(),
                log: "/log".into(),
            },
            signer: Arc::new(Signer(keys::NoteSigner::generate())),
            options,
            now_ms,
        }
    }

    pub(super) fn init(&self) -> Result<(), InitError> {
        let (disk, now) = (Arc::new(self.disk.clone()), self.options.clock.now_ms());
        let bytes = self.options.segment_bytes;
        Ledger::init_on(disk, bytes, &self.place, ORIGIN, &*self.signer, now)
    }

    /// The same world on another disk.
    pub(super) fn on(&self, disk: TestDisk) -> Self {
        let mut world = self.clone();
        world.options.disk = Arc::new(disk.clone());
        world.disk = disk;
        world
    }

    pub(super) fn try_open(&self) -> Result<Ledger, OpenError> {
        let (signer, options) = (self.signer.clone(), self.options.clone());
        Ledger::open(&self.place, ORIGIN, signer, options, &mut |_| {})
    }

    pub(super) fn open(&self) -> Ledger {
        self.try_open().unwrap()
    }

    pub(super) fn key(&self) -> Vkey {
        Vkey::new(ORIGIN, self.signer.public()).unwrap()
    }

    pub(super) fn set_now(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }

    pub(super) fn segment(&self, number: u32) -> PathBuf {
        self.place.journal.join(journal::segment_name(number))
    }
}

pub(super) fn account(n: u64, outcome: Outcome) -> Account {
    Account {
        event: match outcome {
            Outcome::Permit => "record.release",
            Outcome::Refuse => "record.refuse",
        },
        outcome,
        policy: "0123456789abcdef".to_owned(),
        actor: json!({ "client": "RJ1", "practitioner": "dr-müller", "certificate": "x" }),
        subject: json!({ "nhs": "9990000000" }),
        object: json!({ "records": [format!("Observation/{n}")] }),
        context: json!({ "purpose": "TREAT", "n": n }),
        emergency: false,
        name: String::new(),
        detail: json!([]),
    }
}

pub(super) async fn enter(ledger: &Ledger, account: &Account) -> Result<Receipt, RecordError> {
    let (draft, openings) = ledger.draft(account.clone(), Extra::default(), &Sealing)?;
    ledger.enter(draft, Some(openings)).await
}

pub(super) async fn permit(ledger: &Ledger, n: u64) -> Result<Receipt, RecordError> {
    enter(ledger, &account(n, Outcome::Permit)).await
}

/// Records so many entries, many at a time; receipts in the order of their index.
pub(super) async fn fill(ledger: &Ledger, count: u64) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..count {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            loop {
                match permit(&ledger, n).await {
                    // Why: with tiny segments the spare may not be ready yet.
                    Err(RecordError::Full | RecordError::Busy) => tokio::task::yield_now().await,
                    done => return done.unwrap(),
                }
            }
        });
        if tasks.len() >= 64 {
            receipts.push(tasks.join_next().await.unwrap().unwrap());
        }
    }
    receipts.extend(tasks.join_all().await);
    receipts.sort_by_key(Receipt::index);
    receipts
}

#[tokio::test]
async fn a_receipt_is_what_the_contract_says() {
    let world = World::new(1 << 20);
    let ledger = world.open();
    let receipt = permit(&ledger, 7).await.unwrap();
    let wire = receipt.to_json(Open::All);
    let evidence = check(&wire, &world.key()).unwrap();
    assert_eq!((evidence.index, evidence.checkpoint.size), (1, 2));
    assert_eq!(evidence.leaf_hash, *receipt.leaf_hash());
    assert_eq!(
        evidence.opened["object"],
        json!({ "records": ["Observation/7"] })
    );
    assert_eq!(evidence.opened["actor"]["practitioner"], "dr-müller");
    assert_eq!(evidence.opened.len(), 4);
    assert!(
        receipt.leaf().is_ascii() && receipt.leaf().len() < 600,
        "{}",
        receipt.leaf().len()
    );
    assert!(!receipt.leaf().contains("9990000000") && !receipt.leaf().contains("RJ1"));
    assert!(
        receipt
            .proof()
            .starts_with("c2sp.org/tlog-proof@v1\nindex 1\n")
    );
    assert!(receipt.proof().ends_with(&*ledger.checkpoint()));

    let refused = receipt.to_json(Open::ActorOnly);
    assert_eq!(
        refused["openings"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["actor"]
    );
    assert!(check(&refused, &world.key()).is_ok());
    let noted = ledger.note(Event::new("heartbeat").with("n", 3)).await;
    assert!(
        matches!(noted, Err(RecordError::Malformed(_))),
        "`n` is the ledger's own"
    );
    let noted = ledger
        .note(Event::new("heartbeat").with("permits", 3))
        .await
        .unwrap();
    assert!(
        noted
            .leaf()
            .starts_with("{\"ev\":\"heartbeat\",\"gw\":\"gw1\",\"i\":2,\"permits\":3,\"ts\":")
    );
    assert!(
        check(&noted.to_json(Open::All), &world.key())
            .unwrap()
            .opened
            .is_empty()
    );
    ledger.close();
}

#[tokio::test]
async fn a_changed_receipt_proves_nothing() {
    let world = World::new(1 << 20);
    let (ledger, key) = (world.open(), world.key());
    fill(&ledger, 5).await;
    let receipt = permit(&ledger, 7).await.unwrap();
    let wire = receipt.to_json(Open::All);
    let changed = |member: &str, from: &str, to: &str| {
        let mut wire = wire.clone();
        let text = wire[member].as_str().unwrap();
        assert!(text.contains(from), "{member} {from}");
        wire[member] = text.replacen(from, to, 1).into();
        check(&wire, &key).unwrap_err()
    };
    assert_eq!(changed("leaf", "permit", "refuse"), CheckError::Inclusion);
    assert_eq!(
        changed("leaf", "\"v\":1", "\"v\": 1"),
        CheckError::Inclusion
    );
    assert_eq!(
        changed("proof", "index 6", "index 5"),
        CheckError::Inclusion
    );
    assert_eq!(
        changed("proof", "index 6", "index 06"),
        CheckError::Form("the proof")
    );
    assert_eq!(
        changed("proof", "@v1", "@v2"),
        CheckError::Form("the proof")
    );
    let size = format!("{ORIGIN}\n7");
    assert_eq!(
        changed("proof", &size, &size.replace("\n7", "\n8")),
        NoteError::Signature.into()
    );
    let mut opened = wire.clone();
    opened["openings"]["subject"]["value"]["nhs"] = "9990000001".into();
    assert_eq!(check(&opened, &key).unwrap_err(), CheckError::Opening);
    let mut opened = wire.clone();
    opened["openings"]["other"] = opened["openings"]["actor"].clone();
    assert_eq!(check(&opened, &key).unwrap_err(), CheckError::Opening);
    ledger.close();
}

/// A receipt of a log that is properly signed but whose leaf lies about its place.
#[test]
fn a_leaf_stands_where_it_says() {
    let world = World::new(1 << 20);
    let draft = Draft::of_event(Event::new("x"), None).unwrap();
    let leaf = draft.leaf(4, 9);
    let (origin, size, root) = (ORIGIN.to_owned(), 1, tree::leaf_hash(leaf.as_bytes()));
    let note = Checkpoint { origin, size, root }.sign(&world.key(), &*world.signer);
    let receipt = Receipt::new(0, leaf.into(), root, &[], (1, &note), None);
    let wrong = check(&receipt.to_json(Open::All), &world.key());
    assert!(matches!(wrong, Err(CheckError::Leaf(_))), "{wrong:?}");
}

#[tokio::test]
async fn a_refusal_has_the_shape_of_a_permit() {
    let world = World::new(1 << 20);
    let ledger = world.open();
    let shape = |receipt: Receipt| {
        let leaf: Value = serde_json::from_str(receipt.leaf()).unwrap();
        let c: Vec<_> = leaf["c"].as_object().unwrap().keys().cloned().collect();
        let names: Vec<_> = leaf.as_object().unwrap().keys().cloned().collect();
        (names, c, leaf["b"].as_str().unwrap().len())
    };
    let permitted = shape(permit(&ledger, 1).await.unwrap());
    let refused = enter(&ledger, &account(1, Outcome::Refuse)).await.unwrap();
    assert!(
        refused.leaf().contains("\"ev\":\"record.refuse\"")
            && refused.leaf().contains("\"out\":\"refuse\"")
    );
    assert_eq!(permitted, shape(refused));
    ledger.close();
}

#[tokio::test]
async fn members_beside_the_ledgers_own_are_plain_and_its_names_are_taken() {
    let world = World::new(1 << 20);
    let ledger = world.open();
    let attempt = |name: &'static str, value: Value| {
        let members = vec![(name, value)];
        let made = ledger.draft(account(1, Outcome::Permit), Extra { members }, &Sealing);
        made.map(|(draft, _)| draft.leaf(1, 2))
    };
    let leaf = attempt("facts", json!({ "ods": "A81001", "n": 12, "digest": "x" })).unwrap();
    assert!(leaf.contains(",\"ev\":\"record.release\",\"facts\":{\"digest\":\"x\",\"n\":12,\"ods\":\"A81001\"},\"gw\":"));
    assert!(
        attempt("aj", json!("AAA"))
            .unwrap()
            .starts_with("{\"aj\":\"AAA\",\"atag\":")
    );
    assert!(
        attempt("zz", json!(true))
            .unwrap()
            .ends_with(",\"v\":1,\"zz\":true}")
    );
    for (name, value) in [
        ("i", json!(1)),
        ("ts", json!(1)),
        ("c", json!({})),
        ("", json!(1)),
        ("A", json!(1)),
        ("x", json!(1.5)),
        ("x", json!(1_u64 << 53)),
        ("x", json!(null)),
        ("x", json!("müller")),
        ("x", json!("a\nb")),
        ("x", json!([{ "a": "\u{7f}" }])),
    ] {
        let refused = attempt(name, value.clone());
        assert!(
            matches!(refused, Err(RecordError::Malformed(_))),
            "{name} {value}"
        );
    }
    assert_eq!(
        attempt("x", "y".repeat(4000).into()).unwrap_err(),
        RecordError::TooLarge
    );
    let mut large = account(1, Outcome::Permit);
    large.object = "y".repeat(leaf::BODY_BYTES_MAX).into();
    assert_eq!(
        enter(&ledger, &large).await.err(),
        Some(RecordError::TooLarge)
    );
    ledger.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_gets_an_entry_of_its_own_and_time_never_goes_back() {
    let world = World::new(1 << 20);
    let ledger = world.open();
    let mut receipts = fill(&ledger, 300).await;
    world.set_now(5);
    receipts.extend(fill(&ledger, 300).await);
    let key = world.key();
    let mut last = 0;
    for (at, receipt) in receipts.iter().enumerate() {
        assert_eq!(receipt.index(), at as u64 + 1);
        check(&receipt.to_json(Open::All), &key).unwrap();
        let ts = Leaf::new(receipt.index(), receipt.leaf()).ts_ms().unwrap();
        assert!(ts >= last && ts > 5);
        last = ts;
    }
    ledger.close();
    let again = world.open();
    let ts = permit(&again, 0).await.unwrap();
    assert!(
        Leaf::new(601, ts.leaf()).ts_ms().unwrap() >= last,
        "nor after a restart"
    );
    again.close();
}

#[test]
fn a_ledger_is_made_once_and_never_by_opening() {
    let world = World::empty(1 << 20);
    assert!(matches!(world.try_open(), Err(OpenError::Missing)));
    world.init().unwrap();
    assert!(matches!(world.init(), Err(InitError::Exists)));
    let ledger = world.open();
    assert!(matches!(world.try_open(), Err(OpenError::Locked)));
    ledger.close();
    world.open().close();
    world.disk.remove(&world.segment(0)).unwrap();
    assert!(matches!(world.try_open(), Err(OpenError::Missing)));
}

#[tokio::test]
async fn a_closed_ledger_answers_nobody() {
    let world = World::new(1 << 20);
    let ledger = world.open();
    let other = ledger.clone();
    ledger.close();
    assert_eq!(permit(&other, 1).await.err(), Some(RecordError::Stopped));
    other.publish_now().await;
    other.close();
}

#[tokio::test]
async fn replay_shows_every_leaf_and_scan_every_body() {
    let world = World::new(64 << 10);
    let ledger = world.open();
    let receipts = fill(&ledger, 500).await;
    for from in [0, 1, 77, 499, 500, 501] {
        let mut seen = from;
        ledger
            .scan(from, &mut |leaf, body| {
                assert_eq!(leaf.index(), seen);
                if let Some(at) = seen.checked_sub(1) {
                    assert_eq!(leaf.text(), receipts[at as usize].leaf());
                    let members = leaf.members().unwrap();
                    let named = members["n"].as_str().unwrap();
                    assert!(leaf.mentions("n") && leaf.mentions("tag") && !leaf.mentions("ag"));
                    let nonce =
                        base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, named)
                            .unwrap();
                    let plain = Sealing.seal_body(&nonce.try_into().unwrap(), body);
                    let plain: Value = serde_json::from_slice(&plain).unwrap();
                    assert_eq!(plain["subject"], json!({ "nhs": "9990000000" }));
                }
                seen += 1;
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(seen, 501);
    }
    ledger.close();
    assert!(
        world.disk.exists(&world.segment(5)).unwrap(),
        "many segments"
    );
    let (mut texts, options) = (Vec::new(), world.options.clone());
    let mut replay = |leaf: &Leaf<'_>| texts.push(leaf.text().to_owned());
    let signer = world.signer.clone();
    Ledger::open(&world.place, ORIGIN, signer, options, &mut replay)
        .unwrap()
        .close();
    assert!(texts[0].contains("log.genesis"));
    assert!(
        texts[1..]
            .iter()
            .zip(&receipts)
            .all(|(text, receipt)| text == receipt.leaf())
    );
    assert_eq!(texts.len(), 501);
}

#[tokio::test]
async fn a_full_disk_leaves_room_for_emergencies_only() {
    let world = World::new(64 << 10);
    let ledger = world.open();
    fill(&ledger, 20).await;
    world.disk.set_free_bytes(0);
    let mut done = 0;
    while permit(&ledger, done).await.is_ok() {
        done += 1;
        assert!(done < 500);
    }
    assert_eq!(permit(&ledger, 1).await.err(), Some(RecordError::Full));
    assert!(!ledger.health().has_room && !ledger.health().is_stopped);
    let mut emergency = account(1, Outcome::Permit);
    emergency.emergency = true;
    for _ in 0..5 {
        let receipt = enter(&ledger, &emergency).await.unwrap();
        check(&receipt.to_json(Open::All), &world.key()).unwrap();
    }
    assert_eq!(permit(&ledger, 1).await.err(), Some(RecordError::Full));
    ledger
        .note(Event::new("gateway.stop").from_reserve())
        .await
        .unwrap();
    ledger.close();
    let again = world.open();
    assert_eq!(permit(&again, 1).await.err(), Some(RecordError::Full));
    while enter(&again, &emergency).await.is_ok() {}
    assert_eq!(
        enter(&again, &emergency).await.err(),
        Some(RecordError::Full)
    );
    world.disk.set_free_bytes(1 << 30);
    again.publish_now().await;
    assert!(again.health().has_room);
    permit(&again, 1).await.unwrap();
    again.close();
    world.open().close();
}

#[tokio::test]
async fn the_folder_serves_every_size_that_was_signed() {
    let world = World::new(1 << 20);
    let ledger = world.open();
    let key = world.key();
    let mut roots = vec![];
    for _ in 0..3 {
        let receipts = fill(&ledger, 230).await;
        ledger.publish_now().await;
        let proof = receipts.last().unwrap().proof();
        let note = proof.split_once("\n\n").unwrap().1;
        roots.push(Checkpoint::open(note, &key).unwrap());
        assert_eq!(ledger.health().published, ledger.health().size);
    }
    let published = ledger.file("checkpoint").unwrap().unwrap();
    assert_eq!(&published[..], ledger.checkpoint().as_bytes());
    for index in [0, 1, 230, 255, 256, 300, 511, 512, 690] {
        let receipt = ledger.evidence(index).unwrap().unwrap();
        let evidence = check(&receipt.to_json(Open::All), &key).unwrap();
        assert_eq!((evidence.index, evidence.checkpoint.size), (index, 691));
    }
    assert!(ledger.evidence(691).unwrap().is_none());
    let last = roots.last().unwrap();
    for old in &roots {
        let proof = ledger.consistency(old.size).unwrap().unwrap();
        assert!(tree::proves_consistency(
            old.size,
            691,
            &old.root,
            &last.root,
            &proof.path
        ));
    }
    assert!(ledger.consistency(0).unwrap().is_none() && ledger.consistency(692).unwrap().is_none());
    for size in [1, 200, 231, 256, 300, 461, 691] {
        for kind in [
            tile::Kind::Hashes(0),
            tile::Kind::Hashes(1),
            tile::Kind::Entries,
        ] {
            if let Some(tile) = tile::Tile::partial(kind, size) {
                let bytes = ledger.file(&tile.to_string()).unwrap().unwrap();
                assert_eq!(
                    tile::cut(kind, &bytes, tile.width),
                    Some(&bytes[..]),
                    "{tile}"
                );
            }
        }
    }
    assert_eq!(ledger.file("tile/0/000").unwrap().unwrap().len(), 8192);
    for none in [
        "tile/0/002",
        "tile/0/003",
        "tile/0/002.p/180",
        "tile/2/000.p/1",
        "../journal/lock",
        "",
        "/etc/passwd",
    ] {
        assert!(ledger.file(none).unwrap().is_none(), "{none}");
    }
    assert!(
        !world.disk.exists(Path::new("/log/tile/0/001.p")).unwrap(),
        "a full tile needs no partial ones"
    );
    ledger.close();
}

#[test]
fn the_frozen_vector_still_comes_out() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/ledger.json");
    let vector: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let dice = Dice {
        secret: [0x11; 32],
        nonce: [0x22; 16],
    };
    let members = vec![("aj", json!("AAAAAAAAAAAAAAAAAAAAAA"))];
    let account = account(7, Outcome::Permit);
    let made = Draft::of_account(account, Extra { members }, "gw1", &Sealing, &dice);
    let (draft, openings) = made.unwrap();
    let genesis = Draft::of_event(Event::new("log.genesis").with("origin", ORIGIN), None).unwrap();
    let leaves = [
        genesis.leaf(0, 1_790_000_000_000),
        draft.leaf(1, 1_790_000_000_123),
    ];
    let hashes = leaves
        .each_ref()
        .map(|leaf| tree::leaf_hash(leaf.as_bytes()));
    let proof = vector["receipt"]["proof"].as_str().unwrap();
    let note = proof.split_once("\n\n").unwrap().1;
    let leaf = leaves[1].clone().into();
    let receipt = Receipt::new(1, leaf, hashes[1], &hashes[..1], (2, note), Some(openings));
    let hex = |hash: &[u8]| {
        hash.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(vector["genesis"], leaves[0]);
    assert_eq!(vector["leaf_hash"], hex(&hashes[1]));
    assert_eq!(vector["body"], hex(&draft.body));
    assert_eq!(vector["receipt"], receipt.to_json(Open::All));
    let key = vector["vkey"].as_str().unwrap().parse().unwrap();
    let evidence = check(&vector["receipt"], &key).unwrap();
    assert_eq!(
        hex(&evidence.checkpoint.root),
        vector["root"].as_str().unwrap()
    );
}
