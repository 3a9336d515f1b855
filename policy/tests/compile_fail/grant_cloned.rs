//! A grant is not `Clone`.
use policy::{Grant, Read};

fn copy(grant: &Grant<Read>) -> Grant<Read> {
    Clone::clone(grant)
}

fn main() {}
