//! Incident: `aes-kw` 0.3 (found while this project chose its parts, 2026): RFC 3394's check value alone, eight times a6, unwraps to an empty key under any key-encryption key.
//! Here it would mean: somebody without any key writes a ticket that a hospital's side takes for the gateway's.
//! Stopped by: `keys::open_ticket` demands an encrypted key of exactly 40 bytes and a signature inside; the connector opens nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;

use crate::common::*;
use sallyport::connect::Reply;

#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_key_of_another_length_opens_nothing() {
    let stage = Stage::new().await;
    let hospital = stage.party("hospital-a");
    let nhs = hale().nhs;
    let read = token(&hospital, &treat(nhs)).await;
    let reply = get(&hospital, &read, &everything(nhs)).await;
    let keys = hospital.keys().await.unwrap();
    assert!(hospital.open(&reply, nhs, &keys, now_s()).is_ok());
    let text = reply.text();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let ticket = first["ticket"].as_str().unwrap();
    let parts: Vec<&str> = ticket.split('.').collect();
    assert_eq!((parts.len(), B64.decode(parts[1]).unwrap().len()), (5, 40));
    // What happened: the check value alone is a wrapped key, for whoever does not count.
    let wrong: Vec<Vec<u8>> = [0, 7, 8, 9, 16, 24, 32, 39, 40, 41, 48, 64, 4096]
        .into_iter()
        .flat_map(|length| [vec![0xa6; length], vec![0; length]])
        .collect();
    for wrapped in wrong {
        let mut parts = parts.clone();
        let wrapped = B64.encode(wrapped);
        parts[1] = &wrapped;
        let forged = parts.join(".");
        let body = text.replacen(ticket, &forged, 1);
        let reply = Reply {
            status: reply.status,
            headers: reply.headers.clone(),
            body: body.into(),
        };
        assert!(
            hospital.open(&reply, nhs, &keys, now_s()).is_err(),
            "{} bytes",
            wrapped.len()
        );
    }
    // Nor do other forms of the same: a part more or less, empty parts, padding.
    for forged in [
        format!("{ticket}."),
        format!("{ticket}="),
        ticket.replacen('.', "..", 1),
        parts[..4].join("."),
        format!("{}...{}.{}", parts[0], parts[3], parts[4]),
    ] {
        let body = text.replacen(ticket, &forged, 1);
        let reply = Reply {
            status: reply.status,
            headers: reply.headers.clone(),
            body: body.into(),
        };
        assert!(
            hospital.open(&reply, nhs, &keys, now_s()).is_err(),
            "{forged}"
        );
    }
}
