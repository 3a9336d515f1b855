//! A grant moves: what was recorded once is released once.
use policy::{Grant, Read};

fn record(_: Grant<Read>) {}

fn twice(grant: Grant<Read>) {
    record(grant);
    record(grant);
}

fn main() {}
