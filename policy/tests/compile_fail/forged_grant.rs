//! A grant has private fields and no constructor: only `decide` makes one.
use policy::{Ask, Grant, Page, Read};

fn forge(ask: Ask<Read>, granted: Page) -> Grant<Read> {
    Grant { ask, granted }
}

fn main() {}
