//! What is written in docs and deploy from the code is what the code says. `WRITE=1 cargo test --test reference` writes
//! it anew.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::path::Path;

use common::*;
use hyper::{Method, StatusCode};
use serde_json::Value;

/// Holds a file against what the code says of it, or writes it.
fn is_kept(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("WRITE").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what the code says: WRITE=1 cargo test --test reference",
        path.display()
    );
}

#[test]
fn the_openapi_description_is_the_codes() {
    let document = sallyport::http::openapi("https://gateway.example.nhs.uk");
    let text = serde_json::to_string_pretty(&document).unwrap();
    is_kept("docs/openapi.json", &format!("{text}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_serves_its_own_description() {
    let stage = Stage::new().await;
    let hospital = stage.party("hospital-a");
    let reply = hospital
        .http
        .send(Method::GET, "/openapi.json", &[], String::new())
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    let served: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(served, sallyport::http::openapi(stage.world.url()));
    assert_eq!(served["servers"][0]["url"], stage.world.url());
}
