//! How long a decision takes, from facts to verdict with the monitor on: medians on one thread.
//!
//! `cargo run --release -p policy --example latency`

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement may panic"
)]

#[path = "../tests/world/mod.rs"]
mod world;

use std::hint::black_box;
use std::time::Instant;

use policy::{Category, Fact, Label, Purpose, Rules, Verdict};
use world::{World, agreement, record};

const ROUNDS: usize = 2_000;

fn measure(what: &str, classes: usize, mut decide: impl FnMut()) {
    let mut nanos: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            decide();
            start.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let micros = |at: usize| nanos[at] as f64 / 1000.0;
    println!(
        "{what:<58} min {:>8.1}  median {:>8.1}  p99 {:>8.1} us; per label set {:>6.1} us",
        micros(0),
        micros(ROUNDS / 2),
        micros(ROUNDS * 99 / 100),
        micros(ROUNDS / 2) / classes as f64,
    );
}

fn main() {
    let rules = Rules::built_in().unwrap();
    let one = World::in_order();
    measure("one record, permitted", 1, || {
        let policy::Decision::Permit(grant) = black_box(one.read(&rules)) else {
            return;
        };
        black_box(grant.account());
    });
    measure("token issued", 1, || {
        let _ = black_box(one.issue(&rules));
    });
    let mut objecting = World::in_order();
    objecting.object(Purpose::Treat);
    measure("token refused: objection", 1, || {
        let _ = black_box(objecting.issue(&rules));
    });
    let mut unknown = World::in_order();
    unknown.facts.patient = Fact::Unknown(policy::Why::NeverTold);
    unknown.facts.holders.clear();
    measure("token refused: unknown patient", 1, || {
        let _ = black_box(unknown.issue(&rules));
    });

    let mut many = World::in_order();
    many.facts.holders[0].records = (0..200)
        .map(|at| record(at, Category::Medications, &[]))
        .collect();
    measure("200 records, one label set", 1, || {
        let _ = black_box(many.search(&rules));
    });
    many.facts.holders[0].records = (0..200)
        .map(|at| {
            let category = Category::ALL[usize::from(at) % 10];
            let labels = [&[][..], &[Label::PSY]][usize::from(at / 10) % 2];
            record(at, category, labels)
        })
        .collect();
    measure("200 records, 20 label sets", 20, || {
        let _ = black_box(many.search(&rules));
    });

    let mut agreements = World::in_order();
    agreements.facts.holders[0].agreements =
        Fact::Known((0..1_000).map(|_| agreement("A81001")).collect());
    measure(
        "one record, 1,000 agreements with this organisation",
        1,
        || {
            let _ = black_box(agreements.read(&rules));
        },
    );
}
