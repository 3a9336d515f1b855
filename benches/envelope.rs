//! What one record costs to seal, and one answer to address: record, deposit signature, ticket of one key and of 200,
//! access to wrapped data keys. Each figure stands beside what it is made of.
//!
//! `cargo bench --manifest-path benches/Cargo.toml --bench envelope`

#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keys::{
    Context, Dek, DepositClaims, DepositedBy, FreshDek, Key, OpenKey, Signer, TicketClaims,
    TicketKey, deposit_signature, open_record, seal_ticket, sha256,
};

const KID: &str = "AAAAAAAAAAAAAAAAAAAAAA.1";
const CTY: &str = "application/fhir+json; fhirVersion=4.0";

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("record");
    for bytes in [4_096, 262_144] {
        let plaintext = vec![b'x'; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("seal {bytes} bytes"), |b| {
            b.iter(|| FreshDek::generate().seal_record(KID, CTY, black_box(&plaintext)));
        });
        let (text, dek) = FreshDek::generate().seal_record(KID, CTY, &plaintext);
        group.bench_function(format!("open {bytes} bytes"), |b| {
            b.iter(|| open_record(&dek, KID, black_box(&text)).unwrap());
        });
        group.bench_function(format!("SHA-256 of {bytes} bytes sealed"), |b| {
            b.iter(|| sha256(&[black_box(text.as_bytes())]));
        });
    }
    group.finish();
}

fn deks(count: usize) -> Vec<(String, Dek)> {
    let sealed = |n: usize| {
        let kid = format!("{n:022}.1");
        let dek = FreshDek::generate().seal_record(&kid, CTY, b"{}").1;
        (kid, dek)
    };
    (0..count).map(sealed).collect()
}

fn tickets(c: &mut Criterion) {
    let (signer, hospital) = (Signer::generate(), OpenKey::generate());
    let to = hospital.recipient().unwrap();
    let mut group = c.benchmark_group("ticket");
    for count in [1, 200] {
        let deks = deks(count);
        let entries: Vec<TicketKey<'_>> = deks
            .iter()
            .map(|(kid, dek)| TicketKey {
                kid,
                dek,
                res: "Observation/one",
                full_url: None,
            })
            .collect();
        let claims = TicketClaims {
            iss: "https://gateway.example",
            aud: "RJ1",
            iat: 1_800_000_000,
            exp: 1_800_000_300,
            jti: "jti",
            token: "token",
            purpose: "TREAT",
            leaf: &[7; 32],
        };
        group.bench_function(format!("sign and seal {count} keys"), |b| {
            b.iter(|| seal_ticket(&to, &signer, &claims, black_box(&entries)).unwrap());
        });
    }
    group.bench_function("of which: one ES256 signature", |b| {
        b.iter(|| signer.sign_raw(black_box(b"a message of no great length")));
    });
    group.finish();
}

fn wrapping(c: &mut Criterion) {
    let key = Key::generate(1);
    let context = Context::new("bench/dek/v1").part(b"record");
    let (_, dek) = FreshDek::generate().seal_record(KID, CTY, b"{}");
    let wrapped = key.wrap_dek(&context, &dek);
    let mut group = c.benchmark_group("data key");
    group.bench_function("wrap", |b| b.iter(|| key.wrap_dek(&context, &dek)));
    group.bench_function("unwrap", |b| {
        b.iter(|| key.unwrap_dek(&context, black_box(&wrapped)).unwrap());
    });
    let signer = Signer::generate();
    let (record, dek) = FreshDek::generate().seal_record(KID, CTY, &[b'x'; 4_096]);
    let claims = DepositClaims {
        by: DepositedBy::Gateway,
        iat: 1_800_000_000,
        iss: "A81001",
        kid: KID,
        record: &record,
        dek: &dek,
        patient: "9990000018",
    };
    group.bench_function("deposit signature", |b| {
        b.iter(|| deposit_signature(&signer, black_box(&claims)));
    });
    group.finish();
}

criterion_group!(benches, records, tickets, wrapping);
criterion_main!(benches);
