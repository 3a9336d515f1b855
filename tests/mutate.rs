//! Every parser of foreign bytes under a simple mutator, on the stable toolchain: seeds of our own making, bent
//! for a few seconds. A failure prints the parser, the seed of the generator and the round; both are taken back by
//! `SALLYPORT_FUZZ_SEED`, and `SALLYPORT_FUZZ_SECONDS` makes it longer. `tests/fuzz` is the same for cargo-fuzz.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may panic"
)]

#[path = "fuzz/entries.rs"]
mod entries;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use entries::ENTRIES;
use sallyport::fhir::deposit::{Form, read_deposit};
use sallyport::fhir::resource::FhirVersion;
use serde_json::Value;

/// xorshift64*: enough to bend bytes, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = sallyport::fhir::fixtures::small_set()
        .iter()
        .map(|fixture| fixture.body.to_vec())
        .collect();
    let (record, _) =
        keys::FreshDek::generate().seal_record("r.1", "application/fhir+json", b"{\"a\":1}");
    let jwk = keys::OpenKey::generate().public_jwk();
    let texts = [
        record.as_str(),
        &jwk,
        "organisation,practitioner,requirement,completed,expires,evidence\nRJ1,x,data-security,2026-01-01,2027-01-01,\"a \"\"b\"\"\"\n",
        r#"{"sign":{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},"expires_ms":1,"proof":"a.b.c","overlap_days":7}"#,
        r#"{"client":"RJ1","nonce":"nonce"}"#,
        r#"{"resourceType":"Observation","id":"a-1","status":"final","subject":{"reference":"Patient/1"}}"#,
        r#"{"resourceType":"Consent","status":"active","patient":{"identifier":{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}},"provision":{"type":"deny"}}"#,
        r#"{"type":"patient_record","patient":"9990000018","purpose":"TREAT","practitioner":{"id":"x"},"relationship":{"type":"referral","reference":"r"},"categories":["problems"],"reason":"r","acknowledged":true}"#,
        r#"{"type":"deposit","practice":"A81001","patient":"9990000018"}"#,
        r#"{"iss":"RJ1","sub":"RJ1","aud":["https://gateway.example"],"jti":"j","iat":1790000000,"nbf":1790000000,"exp":1790000060}"#,
        "patient=9990000018&code=http%3A%2F%2Fsnomed.info%2Fsct%7C1&date=ge2019-05&_count=5&_cursor=abc",
        "tile/entries/x001/234.p/17",
        policy::rules::LOCAL[0].1,
        include_str!("../policy/proof.json"),
        include_str!("../docs/question.json"),
        "sallyport.dev/log+33d7b496+AeHZJ9/a3xZn5Q4l0zC0bqkC5dQ4M2Vd4Lk2l8w7m3bM",
        r#"{"leaf":"{}","proof":"c2sp.org/tlog-proof@v1\nindex 0\n\nsallyport.dev/log\n1\nAAAA\n\n— x AAAA\n","openings":{"actor":{"salt":"AA","value":{}}}}"#,
    ];
    seeds.extend(texts.iter().map(|text| text.as_bytes().to_vec()));
    seeds.extend(published());
    let cards = sallyport::fhir::fixtures::small_set();
    let cards = cards.iter().filter_map(|fixture| {
        let body = bytes::Bytes::copy_from_slice(fixture.body);
        read_deposit(&body, FhirVersion::R4, Form::Bundle).ok()
    });
    let cards: Vec<_> = cards.flat_map(|batch| batch.items).collect();
    assert!(!cards.is_empty(), "there is a card to begin with");
    seeds.extend(cards.iter().take(8).map(|item| item.card.to_bytes()));
    seeds
}

/// What stands in the published vectors: tickets, records, deposit signatures, receipts, and the claims in them.
fn published() -> Vec<Vec<u8>> {
    let file: Value = serde_json::from_str(include_str!("vectors/envelopes.json")).unwrap();
    let mut seeds = Vec::new();
    for case in file["cases"].as_array().unwrap().iter().take(4) {
        let lines = case["answer"].as_array().unwrap();
        let texts = [
            &lines[0]["ticket"],
            &lines[1]["record"],
            &lines[1]["signature"],
        ];
        seeds.extend(texts.map(|text| text.as_str().unwrap().as_bytes().to_vec()));
        seeds.push(lines[0]["receipt"].to_string().into_bytes());
        seeds.push(lines[0]["receipt"]["leaf"].to_string().into_bytes());
    }
    seeds.push(file["receiver"]["open_key"].to_string().into_bytes());
    seeds
}

fn bend(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len());
        match dice.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << dice.below(8),
            1 if !bytes.is_empty() => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, b"\"{}[]\\,:.\xff\x00"[dice.below(11)]),
            4 => {
                let from = dice.below(bytes.len());
                let piece: Vec<u8> = bytes[from..].iter().take(dice.below(64)).copied().collect();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len());
                bytes.splice(at..at, other[from..].iter().take(32).copied());
            }
            6 => {
                let depth = dice.below(200);
                bytes.splice(at..at, std::iter::repeat_n(b'[', depth));
            }
            _ => drop(bytes.drain(at..bytes.len().min(at + dice.below(40)))),
        }
    }
    bytes
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn no_parser_of_foreign_bytes_panics() {
    let seed = setting("SALLYPORT_FUZZ_SEED", 0x5A11_9047).max(1);
    let until = Instant::now() + Duration::from_secs(setting("SALLYPORT_FUZZ_SECONDS", 8));
    let (mut dice, seeds) = (Dice(seed), seeds());
    let mut rounds = 0u64;
    while Instant::now() < until {
        let bytes = bend(&mut dice, &seeds);
        for (name, parse) in ENTRIES {
            let held = catch_unwind(AssertUnwindSafe(|| parse(&bytes)));
            assert!(
                held.is_ok(),
                "{name} panicked: seed {seed}, round {rounds}, {} bytes",
                bytes.len()
            );
        }
        rounds += 1;
    }
    println!("{rounds} rounds of {} parsers, seed {seed}", ENTRIES.len());
    assert!(rounds > 10, "{rounds} rounds are none");
}
