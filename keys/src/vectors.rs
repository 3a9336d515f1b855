//! Known answers: published vectors beside the checkout, and our own frozen ones in `tests/vectors`.
//!
//! Published: C2SP/wycheproof, RFC 7518 appendix C, RFC 7520. They stand in `../shared/vectors`; where that is
//! absent the tests say so and pass. A failure of a frozen one means that a format changed: make a new version of it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may panic"
)]

mod frozen;
mod jose;
mod wycheproof;

use std::path::Path;

use serde_json::Value;

/// A published file, or a loud line and `None`.
fn published(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/vectors")
        .join(name);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no {name} in ../shared/vectors");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// Every test of a Wycheproof file with its group.
fn cases(name: &str) -> Vec<(Value, Value)> {
    let Some(file) = published(&format!("wycheproof/{name}")) else {
        return Vec::new();
    };
    let groups = file["testGroups"].as_array().unwrap();
    let all = groups.iter().flat_map(|group| {
        let tests = group["tests"].as_array().unwrap();
        tests.iter().map(|test| (group.clone(), test.clone()))
    });
    all.collect()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is(test: &Value, result: &str) -> bool {
    test["result"] == result
}
