//! A grant has private fields and no constructor: only `decide` makes one.
use policy::{Ask, Grant, Read};

fn forge(ask: Ask<Read>) -> Grant<Read> {
    Grant { ask, granted: Vec::new() }
}

fn main() {}
