//! An old question cannot be asked again: `decide` uses it up.
use policy::{Ask, PatientFacts, Read, Rules, decide};

fn again(rules: &Rules, ask: Ask<Read>, facts: &PatientFacts) {
    let _first = decide(rules, ask, facts);
    let _second = decide(rules, ask, facts);
}

fn main() {}
