//! A whole decision, from the store's facts to the verdict's account, monitor on: one patient and one label set, at a
//! practice with ten agreements and at one with a hundred thousand. The figure to watch is the ratio of the two.
//!
//! `cargo bench --manifest-path benches/Cargo.toml --bench decision`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement may panic")]

#[path = "../policy/tests/world/mod.rs"]
mod world;

use std::collections::BTreeSet;
use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use policy::words::{Category, Label};
use policy::{Rules, Verdict};
use sallyport::facts::Question;
use sallyport_benches::gateway;
use world::{NOW_MS, World, ods, patient};

fn decision(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let rules = Rules::built_in().unwrap();
    let mut group = c.benchmark_group("decision, facts to verdict");
    for agreements in [10, 1_000, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let gateway = runtime.block_on(gateway(dir.path(), &patient(), agreements, NOW_MS));
        let asked = World::in_order();
        let (caller, organisation, keepers) =
            (asked.caller(), ods("RJ1"), BTreeSet::from([ods("A81001")]));
        let patient = patient();
        group.bench_function(BenchmarkId::new("agreements", agreements), |b| {
            b.iter_batched(
                || asked.read_ask(policy::Selection::Everything),
                |ask| {
                    let question = Question {
                        client: caller.client(),
                        organisation: &organisation,
                        practitioner: &asked.scope.practitioner,
                        patient: &patient,
                        keepers: &keepers,
                        now_ms: NOW_MS,
                    };
                    let mut facts = runtime.block_on(gateway.facts().about(question)).unwrap();
                    for holder in &mut facts.holders {
                        holder.records = vec![world::record(1, Category::Medications, &[])];
                    }
                    match policy::decide(&rules, ask, &facts) {
                        policy::Decision::Permit(grant) => black_box(grant.account()),
                        policy::Decision::Refuse(refusal) => {
                            panic!("refused by {}", refusal.reason().rule())
                        }
                    }
                },
                BatchSize::SmallInput,
            );
        });
        gateway.store().close();
        gateway.ledger().clone().close();
    }
    group.finish();
}

/// The pure part, with facts at hand.
fn rulings(c: &mut Criterion) {
    let rules = Rules::built_in().unwrap();
    let mut group = c.benchmark_group("decision, facts at hand");
    let one = World::in_order();
    group.bench_function("one record", |b| b.iter(|| black_box(one.search(&rules))));
    group.bench_function("a token", |b| b.iter(|| black_box(one.issue(&rules))));
    let mut many = World::in_order();
    let labelled = |n: u8| {
        let category = Category::ALL[usize::from(n) % 10];
        world::record(
            n,
            category,
            [&[][..], &[Label::PSY]][usize::from(n / 10) % 2],
        )
    };
    for (what, record) in [
        (
            "200 records, one label set",
            (|n| world::record(n, Category::Medications, &[])) as fn(u8) -> _,
        ),
        ("200 records, 20 label sets", labelled),
    ] {
        if let Some(holder) = many.facts.holders.first_mut() {
            holder.records = (0..200).map(record).collect();
        }
        group.bench_function(what, |b| b.iter(|| black_box(many.search(&rules))));
    }
    group.finish();
}

criterion_group!(benches, decision, rulings);
criterion_main!(benches);
