//! Incident: CVE-2026-25537 (jsonwebtoken before 10.3.0): `exp` or `nbf` given as text instead of a number was treated as absent, and the token never expired.
//! Here it would mean: a client assertion whose times are texts is good for ever, and one that was captured opens the door years later.
//! Stopped by: `AssertionClaims` in `src/token.rs`: times are strictly typed, required, and checked against our own clock.

use serde_json::{Value, json};

use crate::common::*;
use hyper::{Method, StatusCode};
use sallyport::connect::{Party, Reply};

async fn ask(party: &Party, claims: &Value) -> Reply {
    let assertion = party
        .sign
        .signer()
        .sign_jws("JWT", claims.to_string().as_bytes());
    let details = json!([treat(hale().nhs)]).to_string();
    let body = serde_urlencoded::to_string([
        ("grant_type", "client_credentials"),
        ("client_id", &party.client_id),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", &assertion),
        ("authorization_details", &details),
    ]);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    party
        .http
        .send(Method::POST, "/oauth/token", &headers, body.unwrap())
        .await
        .unwrap()
}

/// The check as it was: what is no number is as if it were not there.
fn lenient(claims: &Value, now_s: u64) -> bool {
    claims["exp"].as_u64().is_none_or(|exp| now_s < exp)
        && claims["nbf"].as_u64().is_none_or(|nbf| nbf <= now_s)
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_are_no_numbers_are_not_believed() {
    let stage = Stage::new().await;
    let hospital = stage.party("hospital-a");
    let now = now_s();
    let claims = |changes: &[(&str, Value)]| {
        let base = json!({
            "iss": "RJ1", "sub": "RJ1", "aud": stage.world.url(), "jti": keys::random_id(),
            "iat": now, "exp": now + 60, "nbf": now,
        });
        with(base, changes)
    };
    assert_eq!(ask(&hospital, &claims(&[])).await.status, StatusCode::OK);
    let long_ago = (now - 100_000).to_string();
    let far_off = (now + 100_000).to_string();
    // What happened: both pass the lenient check.
    for forged in [
        claims(&[("exp", json!(long_ago))]),
        claims(&[("nbf", json!(far_off))]),
    ] {
        assert!(lenient(&forged, now));
    }
    let forgeries = [
        ("exp", json!(long_ago)),
        ("exp", json!((now + 60).to_string())),
        ("exp", json!("")),
        ("exp", json!(true)),
        ("exp", json!([now + 60])),
        ("exp", json!({})),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", Value::Null),
        ("exp", json!(now - 1)),
        ("exp", json!(now + 100_000)),
        ("exp", json!(u64::MAX)),
        ("nbf", json!(far_off)),
        ("nbf", json!(now.to_string())),
        ("nbf", json!(now + 100_000)),
        ("nbf", json!(u64::MAX)),
        ("iat", json!(now.to_string())),
        ("iat", Value::Null),
        ("iat", json!(now + 100_000)),
        ("iat", json!(now - 100_000)),
        ("jti", Value::Null),
        ("jti", json!(7)),
        ("jti", json!("")),
        ("aud", json!("https://elsewhere.example")),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("sub", json!("RM3")),
        ("iss", json!("RM3")),
        ("iss", Value::Null),
    ];
    for (claim, value) in forgeries {
        let reply = ask(&hospital, &claims(&[(claim, value.clone())])).await;
        assert_eq!(
            reply.status,
            StatusCode::UNAUTHORIZED,
            "{claim} {value}: {}",
            reply.text()
        );
        assert_eq!(reply.json()["error"], "invalid_client");
        says_nothing_inside(&reply);
    }
    // A claim that stands twice has no one value.
    let twice = claims(&[])
        .to_string()
        .replacen('{', &format!("{{\"exp\":{},", now + 60), 1);
    let assertion = hospital.sign.signer().sign_jws("JWT", twice.as_bytes());
    assert!(assertion.len() > 100);
    let details = json!([treat(hale().nhs)]).to_string();
    let body = serde_urlencoded::to_string([
        ("grant_type", "client_credentials"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_assertion", &assertion),
        ("authorization_details", &details),
    ]);
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let reply = hospital
        .http
        .send(Method::POST, "/oauth/token", &headers, body.unwrap())
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{}", reply.text());
}
