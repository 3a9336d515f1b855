//! Our own frozen answers: what this version wrote, every later one must read.

use serde_json::{Value, json};

use super::{hex, unhex};
use crate::audit::AuditKey;
use crate::context::Context;
use crate::dek::{Dek, FreshDek};
use crate::deposit::{DepositClaims, DepositedBy, check_deposit, deposit_signature};
use crate::family::Family;
use crate::jwk::{Curve, PublicJwk};
use crate::key::{Active, Key};
use crate::keyring::Keyring;
use crate::mac::MacKey;
use crate::open_key::OpenKey;
use crate::receive::{open_record, open_ticket};
use crate::root::RootKey;
use crate::sealed::Sealed;
use crate::secret::Secret;
use crate::sign::{NoteSigner, Signer};
use crate::ticket::{TicketClaims, TicketKey, seal_ticket};

const KID: &str = "00112233445566778899aabbccddeeff.3";
const CTY: &str = "application/fhir+json; fhirVersion=4.0";
const RECORD: &[u8] = br#"{"resourceType":"Observation","id":"a"}"#;
const NUMBER: &str = "9990000018";
const WORDS: &[u8] = b"for frozen answers only";

fn file() -> Value {
    serde_json::from_str(include_str!("../../tests/vectors/frozen.json")).unwrap()
}

fn secret(byte: u8) -> Secret {
    Secret::from_slice(&[byte; 32]).unwrap()
}

fn context() -> Context {
    Context::new("sallyport/frozen/v1")
        .part(b"record")
        .part(b"")
}

fn opener(curve: Curve) -> OpenKey {
    OpenKey::from_secret(curve, secret(0x33)).unwrap()
}

fn sealed(value: &Value) -> Sealed {
    Sealed::try_from(unhex(value)).unwrap()
}

#[test]
fn formulas_without_randomness() {
    let file = file();
    let dek = Dek::from_secret(secret(3));
    let signer = Signer::from_secret(secret(5)).unwrap();
    let note = NoteSigner::from_secret(secret(6));
    let mac = MacKey::from_secret(secret(2)).mac(&[b"nhs", NUMBER.as_bytes()]);
    assert_eq!(hex(&mac), file["mac"]);
    assert_eq!(hex(&dek.key_commitment(KID)), file["kc"]);
    assert_eq!(hex(&dek.patient_commitment(NUMBER)), file["pc"]);
    assert_eq!(
        hex(&AuditKey::from_secret(secret(4)).tag(&[9; 16])),
        file["tag"]
    );
    assert_eq!(signer.jwk_public(), file["signer"]);
    assert_eq!(hex(&note.sign(b"note")), file["note"]);
    assert_eq!(opener(Curve::P256).public_jwk(), file["recipient"]);
    assert_eq!(opener(Curve::X25519).public_jwk(), file["recipient_x25519"]);
}

#[test]
fn sealed_values_and_bodies() {
    let file = file();
    let key: Key<Active> = Key::from_secret(7, secret(1));
    let data = key.open(&context(), &sealed(&file["sealed"])).ok().unwrap();
    assert_eq!(data.as_bytes(), b"words");
    let wrapped = key
        .unwrap(&context(), &sealed(&file["wrapped"]))
        .ok()
        .unwrap();
    assert_eq!(
        (wrapped.version(), wrapped.secret().expose()),
        (9, &[8; 32])
    );
    let dek = key
        .unwrap_dek(&context(), &sealed(&file["wrapped_dek"]))
        .ok()
        .unwrap();
    assert_eq!(dek.secret().expose(), &[3; 32]);
    let audit = key
        .unwrap_audit(&context(), &sealed(&file["wrapped_audit"]))
        .ok()
        .unwrap();
    let body = audit
        .open_body(&[9; 16], &unhex(&file["body"]))
        .ok()
        .unwrap();
    assert_eq!(body.as_bytes(), b"who looked");
}

#[test]
fn tickets_records_and_deposits() {
    let file = file();
    let signer = PublicJwk::from_jwk(file["signer"].as_str().unwrap()).unwrap();
    let (keys, record) = ([signer], file["record"].as_str().unwrap());
    for (curve, name) in [(Curve::P256, "ticket"), (Curve::X25519, "ticket_x25519")] {
        let text = file[name].as_str().unwrap();
        let ticket = open_ticket(&opener(curve), &keys, text).ok().unwrap();
        assert!(ticket.is_for("https://gateway.example", "RJ1", 1_770_811_200));
        assert_eq!(
            (ticket.jti.as_str(), ticket.token.as_str()),
            ("4f0c2b7e", "a91c")
        );
        assert_eq!((ticket.purpose.as_str(), ticket.leaf), ("TREAT", [7; 32]));
        let [entry] = ticket.keys.as_slice() else {
            unreachable!("one key")
        };
        assert_eq!(
            (entry.kid.as_str(), entry.res.as_str()),
            (KID, "Observation/a")
        );
        assert_eq!(entry.full_url.as_deref(), Some("urn:uuid:1"));
        let (cty, content) = open_record(&entry.dek, KID, record).ok().unwrap();
        assert_eq!((cty.as_str(), content.as_bytes()), (CTY, RECORD));
        let signature = file["deposit"].as_str().unwrap();
        let held = check_deposit(signature, &keys, record, &entry.dek, KID, NUMBER).unwrap();
        assert_eq!((held.by, held.iat), (DepositedBy::Gateway, 1_770_800_000));
    }
}

#[test]
fn root_and_keyring_files() {
    let file = file();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    crate::private_file::write_new(&path, &unhex(&file["root"])).unwrap();
    let ring_at = folder.path().join("keyring.3");
    crate::private_file::write_new(&ring_at, &unhex(&file["keyring"])).unwrap();
    let ring = Keyring::open(folder.path(), &RootKey::open(&path, WORDS).unwrap()).unwrap();
    let kek = Family::Kek("A81001".to_owned());
    let data = ring
        .open_with(&kek, &context(), &sealed(&file["under_kek"]))
        .ok()
        .unwrap();
    assert_eq!(data.as_bytes(), b"words");
    assert_eq!(
        ring.signer(&Family::TicketSigning).unwrap().kid(),
        file["ring_signer"]
    );
}

fn ticket(curve: Curve, signer: &Signer, dek: &Dek) -> String {
    let claims = TicketClaims {
        iss: "https://gateway.example",
        aud: "RJ1",
        iat: 1_770_811_111,
        exp: 1_770_811_411,
        jti: "4f0c2b7e",
        token: "a91c",
        purpose: "TREAT",
        leaf: &[7; 32],
    };
    let key = TicketKey {
        kid: KID,
        dek,
        res: "Observation/a",
        full_url: Some("urn:uuid:1"),
    };
    seal_ticket(&opener(curve).recipient().unwrap(), signer, &claims, &[key]).unwrap()
}

fn keyring() -> Value {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    let root = RootKey::create(&path, WORDS).unwrap();
    let mut ring = Keyring::create(folder.path(), &root).unwrap();
    let kek = Family::Kek("A81001".to_owned());
    ring.add(kek.clone(), 1).unwrap();
    ring.add(Family::TicketSigning, 1).unwrap();
    let read = |path| hex(&std::fs::read(path).unwrap());
    json!({
        "root": read(path),
        "keyring": read(folder.path().join("keyring.3")),
        "under_kek": hex(ring.active_key(&kek).unwrap().seal(&context(), b"words").as_bytes()),
        "ring_signer": ring.signer(&Family::TicketSigning).unwrap().kid(),
    })
}

/// Prints a new file; run it for a new format only, and keep the old answers beside the new.
#[test]
#[ignore = "makes new answers: cargo test -p keys make_frozen -- --ignored --nocapture"]
fn make_frozen() {
    let key: Key<Active> = Key::from_secret(7, secret(1));
    let (record, dek) = FreshDek::from_secret(secret(3)).seal_record(KID, CTY, RECORD);
    let audit = AuditKey::from_secret(secret(4));
    let signer = Signer::from_secret(secret(5)).unwrap();
    let claims = DepositClaims {
        by: DepositedBy::Gateway,
        iat: 1_770_800_000,
        iss: "A81001",
        kid: KID,
        record: &record,
        dek: &dek,
        patient: NUMBER,
    };
    let mut file = json!({
        "mac": hex(&MacKey::from_secret(secret(2)).mac(&[b"nhs", NUMBER.as_bytes()])),
        "kc": hex(&dek.key_commitment(KID)),
        "pc": hex(&dek.patient_commitment(NUMBER)),
        "tag": hex(&audit.tag(&[9; 16])),
        "signer": signer.jwk_public(),
        "note": hex(&NoteSigner::from_secret(secret(6)).sign(b"note")),
        "recipient": opener(Curve::P256).public_jwk(),
        "recipient_x25519": opener(Curve::X25519).public_jwk(),
        "sealed": hex(key.seal(&context(), b"words").as_bytes()),
        "wrapped": hex(key.wrap(&context(), &Key::from_secret(9, secret(8))).as_bytes()),
        "wrapped_dek": hex(key.wrap_dek(&context(), &dek).as_bytes()),
        "wrapped_audit": hex(key.wrap_audit(&context(), &audit).as_bytes()),
        "body": hex(&audit.seal_body(&[9; 16], b"who looked")),
        "record": record,
        "deposit": deposit_signature(&signer, &claims),
        "ticket": ticket(Curve::P256, &signer, &dek),
        "ticket_x25519": ticket(Curve::X25519, &signer, &dek),
    });
    file.as_object_mut()
        .unwrap()
        .append(keyring().as_object_mut().unwrap());
    println!("{}", serde_json::to_string_pretty(&file).unwrap());
}
