//! A refusal is no grant, whatever becomes of it.
use policy::{Grant, Read, Refusal};

fn release(_: Grant<Read>) {}

fn leak(refusal: Refusal<Read>) {
    release(refusal);
}

fn main() {}
