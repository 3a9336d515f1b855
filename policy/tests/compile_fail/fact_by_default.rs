//! A fact has no default.
use policy::Fact;

fn guess() -> Fact<bool> {
    Fact::default()
}

fn main() {}
