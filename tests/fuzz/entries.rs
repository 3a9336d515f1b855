//! Where foreign bytes come in: one function a parser, for the fuzzer and for the mutator on the stable toolchain.
//! None of them may panic, whatever comes; what they answer does not matter here.

use std::sync::Arc;

use bytes::Bytes;
use policy::Purpose;
use sallyport::facts::{FeedBatch, KeyOffer, KeyUse, Offered, Register};
use sallyport::fhir::card::Card;
use sallyport::fhir::consent::read_consent;
use sallyport::fhir::deposit::{Form, read_deposit};
use sallyport::fhir::json::Document;
use sallyport::fhir::query::Query;
use sallyport::fhir::relation::read_relation;
use sallyport::fhir::resource::{FhirId, FhirVersion, Name, ResourceType};
use sallyport::ledger::{Vkey, check};
use sallyport::token::{Signs, Tokens, scope_of};

/// A parser and its name.
pub(crate) type Entry = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const ENTRIES: &[Entry] = &[
    ("json", json),
    ("bundle", bundle),
    ("resource", resource),
    ("consent", consent),
    ("feed", feed),
    ("relation", relation),
    ("search", search),
    ("training", training),
    ("recipient", recipient),
    ("possession", possession),
    ("card", card),
    ("authorization_details", authorization_details),
    ("assertion", assertion),
    ("ticket", ticket),
    ("record", record),
    ("audit_keys", audit_keys),
    ("jwk", jwk),
    ("receipt", receipt),
    ("history", history),
    ("vkey", vkey),
    ("tile", tile),
    ("rules", rules),
    ("proof", proof),
    ("question", question),
    ("manifest", manifest),
    ("control", control),
    ("share", share),
    ("register", register),
    ("witness_key", witness_key),
];

fn control(bytes: &[u8]) {
    use sallyport::porter::Request;
    let _ = Request::parse(bytes);
    for words in ["unseal passphrase\n", "unseal share\n", "unseal pin\n"] {
        let _ = Request::parse(&[words.as_bytes(), bytes].concat());
    }
}

fn share(bytes: &[u8]) {
    let _ = keys::Share::parse(bytes);
}

fn training(bytes: &[u8]) {
    use sallyport::facts::training::{Dates, read};
    for dates in [Dates::Iso, Dates::Uk] {
        assert!(read(bytes, dates, &Register::default(), 1_790_000_000_000).is_err());
    }
}

fn recipient(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return;
    };
    for purpose in [KeyUse::Sign, KeyUse::Open] {
        let _ = Offered::read(purpose, &value);
    }
    let _ = KeyOffer::read(&value).and_then(|offer| offer.subject("RJ1"));
}

fn possession(bytes: &[u8]) {
    let signer = keys::ClientKey::generate();
    let key = serde_json::from_str(&signer.signer().jwk_public()).unwrap_or_default();
    assert!(!sallyport::token::possession(
        &key,
        &text(bytes),
        "RJ1",
        "nonce"
    ));
    let signed = signer.signer().sign_jws("sallyport-possession+jwt", bytes);
    let _ = sallyport::token::possession(&key, &signed, "RJ1", "nonce");
    let mine = keys::OpenKey::generate();
    assert!(keys::open_challenge(&mine, &text(bytes)).is_none());
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn json(bytes: &[u8]) {
    if let Ok(document) = Document::parse(bytes) {
        // What our reader takes, the common one takes too.
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok());
        let _ = document.root().members().count();
    }
}

fn bundle(bytes: &[u8]) {
    let _ = read_deposit(
        &Bytes::copy_from_slice(bytes),
        FhirVersion::R4,
        Form::Bundle,
    );
}

fn resource(bytes: &[u8]) {
    let (Ok(kind), Ok(id)) = (
        ResourceType::try_from("Observation"),
        FhirId::try_from("a-1"),
    ) else {
        return;
    };
    let form = Form::Put {
        kind: &kind,
        id: &id,
    };
    let body = Bytes::copy_from_slice(bytes);
    if let Ok(batch) = read_deposit(&body, FhirVersion::Stu3, form) {
        for item in &batch.items {
            let card = item.card.to_bytes();
            assert_eq!(Card::from_bytes(&card).as_ref(), Ok(&item.card));
        }
    }
}

fn feed(bytes: &[u8]) {
    let _ = FeedBatch::parse(bytes, &Purpose::NAMED, false);
}

fn relation(bytes: &[u8]) {
    let (Ok(kind), Ok(id)) = (ResourceType::try_from("Encounter"), FhirId::try_from("r-1")) else {
        return;
    };
    let name = Name { kind, id };
    let _ = read_relation(&Bytes::copy_from_slice(bytes), &name);
}

fn consent(bytes: &[u8]) {
    let _ = read_consent(&Bytes::copy_from_slice(bytes), FhirVersion::R4);
}

fn search(bytes: &[u8]) {
    let (Ok(kind), Ok(pairs)) = (
        ResourceType::try_from("Observation"),
        serde_urlencoded::from_bytes(bytes),
    ) else {
        return;
    };
    let pairs: Vec<(String, String)> = pairs;
    let _ = Query::parse(&kind, &pairs);
}

fn card(bytes: &[u8]) {
    let _ = Card::from_bytes(bytes);
}

fn authorization_details(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = scope_of(&value);
    }
}

/// No key of its own: an assertion is verified under the client's.
struct NoKeys;

impl Signs for NoKeys {
    fn sign(&self, _: &str, _: &[u8]) -> String {
        String::new()
    }
    fn verifying(&self) -> Vec<String> {
        Vec::new()
    }
    fn epoch(&self) -> u64 {
        0
    }
}

fn assertion(bytes: &[u8]) {
    let tokens = Tokens::new("https://gateway.example".to_owned(), Arc::new(NoKeys));
    let signer = keys::Signer::generate();
    let Ok(key) = serde_json::from_str(&signer.jwk_public()) else {
        return;
    };
    let _ = tokens.assertion("RJ1", &key, &text(bytes), 1_790_000_000);
    // What comes is the claims, too, under a signature that holds: they are parsed only then.
    let signed = signer.sign_jws("JWT", bytes);
    let _ = tokens.assertion("RJ1", &key, &signed, 1_790_000_000);
    let _ = tokens.access(&text(bytes), &[0; 32], 1_790_000_000_000);
}

fn audit_keys(bytes: &[u8]) {
    let key = keys::OpenKey::generate();
    let _ = keys::open_audit_keys(&key, &[], &text(bytes));
}

fn ticket(bytes: &[u8]) {
    let key = keys::OpenKey::generate();
    let _ = keys::open_ticket(&key, &[], &text(bytes));
}

fn record(bytes: &[u8]) {
    let (_, dek) = keys::FreshDek::generate().seal_record("r.1", "application/fhir+json", b"{}");
    let _ = keys::open_record(&dek, "r.1", &text(bytes));
    let _ = keys::check_deposit(&text(bytes), &[], &text(bytes), &dek, "r.1", "9990000018");
}

fn jwk(bytes: &[u8]) {
    let text = text(bytes);
    let _ = keys::PublicJwk::from_jwk(&text);
    let _ = keys::Recipient::from_jwk(&text);
    let _ = keys::Sealed::try_from(bytes);
}

fn receipt(bytes: &[u8]) {
    let Ok(key) = Vkey::new("fuzz.example/log", [7; 32]) else {
        return;
    };
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = check(&value, &key);
    }
}

fn history(bytes: &[u8]) {
    use sallyport::connect::{Reply, Seen};
    let Ok(key) = Vkey::new("fuzz.example/log", [7; 32]) else {
        return;
    };
    let mut headers = hyper::HeaderMap::new();
    for name in ["sallyport-receipt", "sallyport-consistency"] {
        if let Ok(value) = hyper::header::HeaderValue::from_bytes(bytes) {
            headers.insert(name, value);
        }
    }
    let reply = Reply {
        status: hyper::StatusCode::OK,
        headers,
        body: Bytes::new(),
    };
    let _ = Seen::default().take(&reply, None, &key);
}

fn vkey(bytes: &[u8]) {
    let _ = text(bytes).parse::<Vkey>();
}

fn tile(bytes: &[u8]) {
    let _ = sallyport::ledger::tile::Tile::parse(&text(bytes));
}

fn rules(bytes: &[u8]) {
    let _ = policy::Rules::parse(&text(bytes));
}

fn question(bytes: &[u8]) {
    let _ = sallyport::cli::explain::read(bytes, 1_790_000_000_000);
}

fn proof(bytes: &[u8]) {
    if let Ok(proof) = policy::Proof::parse(&text(bytes)) {
        assert_eq!(policy::Proof::parse(&proof.to_string()), Ok(proof));
    }
}

fn register(bytes: &[u8]) {
    let _ = sallyport::audit::Register::parse(bytes);
    let head = b"kind,organisation,id,nhs_number,surname,address,vip,deceased\n";
    let _ = sallyport::audit::Register::parse(&[head, bytes].concat());
}

fn witness_key(bytes: &[u8]) {
    use sallyport::ledger::cosign::WitnessKey;
    let _ = text(bytes).parse::<WitnessKey>();
    let key = "witness.example/w1+f5f1ad4c+BAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";
    let key = key.parse::<WitnessKey>();
    assert!(key.is_ok());
    let _ = key.map(|key| key.cosigned(&text(bytes)));
}

fn manifest(bytes: &[u8]) {
    let _ = sallyport::backup::parse(bytes);
}
