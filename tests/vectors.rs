//! The published vectors of `tests/vectors`, through the very code a receiver of ours runs: every honest answer opens
//! to what it says, every forgery is refused for the reason it says. `tests/interop/vectors.py` is the other reader.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "tests may panic"
)]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use bytes::Bytes;
use common::*;
use hyper::{HeaderMap, StatusCode};
use keys::{OpenKey, PublicJwk};
use sallyport::connect::{OpenError, Party, Reply};
use serde_json::{Value, json};

/// Each reason as the vectors name it, and the words in which our receiver says it.
const REASONS: &[(&str, &str)] = &[
    ("receipt-checkpoint", "its checkpoint: "),
    (
        "receipt-inclusion",
        "its checkpoint does not include its leaf",
    ),
    ("receipt-opening", "an opening does not fit the leaf"),
    ("ticket-sealed", "the ticket does not open"),
    (
        "ticket-signature",
        "signed by an unknown key|the signature does not hold|not a signed text of the expected form",
    ),
    (
        "ticket-claims",
        "the ticket's claims are not as they must be|the ticket is for another, by another, or expired",
    ),
    (
        "ticket-leaf",
        "the ticket names another entry of the ledger",
    ),
    (
        "count",
        "it is cut short|there is not exactly one key for each record",
    ),
    ("record-unnamed", "a record that the ticket does not name"),
    ("record-text", "signed for another record"),
    (
        "deposit-signature",
        "signed by an unknown key|the signature does not hold",
    ),
    (
        "key-commitment",
        "not the key this record was deposited with",
    ),
    ("patient-commitment", "deposited for another patient"),
];

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/envelopes.json")).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// The hospital of the vectors; its connection is the world's and is not used.
async fn hospital(receiver: &Value) -> (Party, Vec<PublicJwk>) {
    let keys = receiver["verify_keys"].as_array().unwrap().iter();
    let keys = keys.map(|key| PublicJwk::from_jwk(&key.to_string()).unwrap());
    // Why not in the file: nothing that looks like a private key stands in the house.
    let words = text(&receiver["open_key_d"]).strip_prefix("SHA-256 of: ");
    let d = B64.encode(keys::sha256(&[words.unwrap().as_bytes()]));
    let open = with(receiver["open_key"].clone(), &[("d", json!(d))]);
    let party = Party {
        client_id: text(&receiver["client_id"]).to_owned(),
        open: Some(OpenKey::from_jwk(&open.to_string()).unwrap()),
        issuer: text(&receiver["iss"]).to_owned(),
        vkey: text(&receiver["vkey"]).parse().unwrap(),
        ..shared().await.party("hospital-a").unwrap()
    };
    (party, keys.collect())
}

fn reply(case: &Value) -> Reply {
    let lines = case["answer"].as_array().unwrap().iter();
    let body: String = lines.map(|line| format!("{line}\n")).collect();
    Reply {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from(body),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_answers_open_and_every_forgery_is_refused_for_its_reason() {
    let file = vectors();
    let receiver = &file["receiver"];
    let (party, keys) = hospital(receiver).await;
    let now_s = receiver["now"].as_u64().unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for case in file["cases"].as_array().unwrap() {
        let name = text(&case["name"]);
        let answer = party.open(&reply(case), text(&receiver["patient"]), &keys, now_s);
        if case["expect"] == "accept" {
            let opened = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
            let records = opened.records.iter().map(|record| {
                let plaintext = std::str::from_utf8(&record.text).unwrap();
                json!({ "res": record.name, "cty": record.media_type, "plaintext": plaintext })
            });
            assert_eq!(case["opens"], Value::Array(records.collect()), "{name}");
            accepted += 1;
            continue;
        }
        let because = text(&case["because"]);
        let words = REASONS.iter().find(|(reason, _)| *reason == because);
        let words = words
            .unwrap_or_else(|| panic!("{name}: {because} is no reason"))
            .1;
        let Err(OpenError::Broken(said)) = answer else {
            panic!("{name}: a forgery was opened");
        };
        assert!(
            words.split('|').any(|words| said.contains(words)),
            "{name}: refused with {said:?}, not for {because}"
        );
        refused += 1;
    }
    assert!(accepted >= 3 && refused >= 20, "{accepted} {refused}");
}

/// A vector that is altered anywhere is not accepted any more: the honest ones do not open by luck.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_answer_with_any_one_part_exchanged_does_not_open() {
    let file = vectors();
    let receiver = &file["receiver"];
    let (party, keys) = hospital(receiver).await;
    let (patient, now_s) = (
        text(&receiver["patient"]),
        receiver["now"].as_u64().unwrap(),
    );
    let honest = &file["cases"][0];
    assert!(party.open(&reply(honest), patient, &keys, now_s).is_ok());
    assert!(
        party
            .open(&reply(honest), "9990000026", &keys, now_s)
            .is_err()
    );
    assert!(party.open(&reply(honest), patient, &[], now_s).is_err());
    assert!(
        party
            .open(&reply(honest), patient, &keys, now_s + 3600)
            .is_err()
    );
    for at in [
        "/answer/0/ticket",
        "/answer/1/record",
        "/answer/1/signature",
        "/answer/0/receipt/proof",
    ] {
        let mut case = honest.clone();
        let part = case.pointer_mut(at).unwrap();
        let mut bytes = text(part).as_bytes().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
        *part = Value::from(String::from_utf8_lossy(&bytes).into_owned());
        assert!(
            party.open(&reply(&case), patient, &keys, now_s).is_err(),
            "{at}"
        );
    }
}
