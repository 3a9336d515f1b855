//! Absence is not a fact: `None` does not become one by itself.
use policy::Fact;

fn guess(found: Option<bool>) -> Fact<bool> {
    found.into()
}

fn main() {}
