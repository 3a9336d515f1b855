//! A verdict that nobody looks at is a mistake.
#![deny(unused_must_use)]
use policy::{Ask, PatientFacts, Read, Rules, decide};

fn forget(rules: &Rules, ask: Ask<Read>, facts: &PatientFacts) {
    decide(rules, ask, facts);
}

fn main() {}
