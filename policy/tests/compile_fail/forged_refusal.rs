//! Nor is a refusal made by anyone else.
use policy::{Ask, Read, Refusal};

fn forge(ask: Ask<Read>) -> Refusal<Read> {
    Refusal::new(ask)
}

fn main() {}
