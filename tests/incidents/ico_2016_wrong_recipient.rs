//! Incident: 2016, health sector: 232 incidents in one quarter, most of them data posted, faxed or e-mailed to the wrong recipient (ICO data security incident trends, first quarter of 2016/17).
//! Here it would mean: an answer, a token or a record reaches another organisation than the one it was meant for, and is read there.
//! Stopped by: the ticket opens with the addressed hospital's key alone (`keys::open_ticket`); a token works over one certificate (`Tokens::access`).

use crate::common::*;
use hyper::StatusCode;
use sallyport::connect::Reply;

#[tokio::test(flavor = "multi_thread")]
async fn what_reaches_the_wrong_hospital_opens_nothing_there() {
    let stage = Stage::new().await;
    let (addressed, wrong) = (stage.party("hospital-a"), stage.party("hospital-b"));
    let nhs = hale().nhs;
    let read = token(&addressed, &treat(nhs)).await;
    let reply = get(&addressed, &read, &everything(nhs)).await;
    let keys = addressed.keys().await.unwrap();
    assert!(
        addressed
            .open(&reply, nhs, &keys, now_s())
            .unwrap()
            .records
            .len()
            > 5
    );
    // What happened: the whole answer goes to somebody else; even under the addressee's name.
    let mut posing = stage.party("hospital-b");
    posing.client_id.clone_from(&addressed.client_id);
    for party in [
        &wrong,
        &posing,
        &stage.party("research-c"),
        &stage.party("practice-a"),
    ] {
        assert!(
            party.open(&reply, nhs, &keys, now_s()).is_err(),
            "{}",
            party.client_id
        );
    }
    let text = reply.text();
    for word in ["Hale", "Miriam", "1958-03-14", "Sallow", nhs, "hale-obs-4"] {
        let body: String = text.lines().skip(1).collect();
        assert!(!body.contains(word), "{word} travelled in clear");
    }
    // The token in the wrong hands, over every other certificate of the world.
    for name in [
        "hospital-b",
        "research-c",
        "practice-a",
        "admin-1",
        "auditor",
    ] {
        let reply = get(&stage.party(name), &read, &everything(nhs)).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{name}");
    }
    // And one patient's answer is not taken for another's.
    let error = addressed.open(&reply, quill().nhs, &keys, now_s());
    assert!(error.is_err(), "the records are bound to their patient");
    let later = addressed.open(&reply, nhs, &keys, now_s() + 3600);
    assert!(later.is_err(), "a ticket found later is no good");
    // Cut, doubled or mixed with another answer it is refused whole.
    let other = get(&addressed, &read, "/fhir/Observation/hale-obs-4").await;
    let lines: Vec<&str> = text.lines().collect();
    let others = other.text();
    let mixed = [
        text[..text.len() / 2].to_owned(),
        [&lines[..1], &lines[2..]].concat().join("\n"),
        [&lines[..2], &lines[1..]].concat().join("\n"),
        text.replacen(lines[1], others.lines().nth(1).unwrap(), 1)
            .replacen(lines[0], others.lines().next().unwrap(), 1),
    ];
    for body in mixed {
        let reply = Reply {
            status: reply.status,
            headers: reply.headers.clone(),
            body: body.into(),
        };
        assert!(addressed.open(&reply, nhs, &keys, now_s()).is_err());
    }
}
