//! Every route, every wrong caller, and what no honest client sends. A route without a row in this table fails.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::type_complexity,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::*;
use hyper::{Method, StatusCode};
use sallyport::connect::{Party, Reply};
use sallyport::dev::{MEMBERS, World};
use sallyport::http::{ROUTES, limits};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What a route wants of its caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wants {
    /// A registered certificate, and no more.
    Certificate,
    /// A certificate and a fresh assertion of the same client.
    Assertion,
    /// A token for records of this patient, over the certificate it was issued to.
    Records,
    /// A token to deposit for this practice.
    Deposit,
    /// A token for the practice's side of agreements.
    Agreement,
    /// A token for the organisation's side of agreements.
    Acceptance,
    /// A token for either side.
    EitherSide,
    /// A token to pass on this practice's objections.
    Objections,
    /// An admin's certificate.
    Admin,
    /// An admin's certificate, and that another person's proposal waits.
    Second,
    /// An auditor's or privacy officer's certificate.
    Auditor,
    /// A privacy officer's certificate.
    Officer,
    /// The patient portal's certificate.
    Portal,
    /// A token for one patient's access history.
    History,
}

/// One row: the route as the table of the gateway says it, a target of it, and what it wants.
struct Row {
    route: (&'static str, &'static str),
    target: &'static str,
    wants: Wants,
}

const fn row(method: &'static str, path: &'static str, target: &'static str, wants: Wants) -> Row {
    Row {
        route: (method, path),
        target,
        wants,
    }
}

const TABLE: &[Row] = &[
    row("GET", "/openapi.json", "/openapi.json", Wants::Certificate),
    row("POST", "/oauth/token", "/oauth/token", Wants::Assertion),
    row("POST", "/oauth/revoke", "/oauth/revoke", Wants::Assertion),
    row(
        "GET",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server",
        Wants::Certificate,
    ),
    row(
        "GET",
        "/.well-known/smart-configuration",
        "/.well-known/smart-configuration",
        Wants::Certificate,
    ),
    row(
        "GET",
        "/.well-known/jwks.json",
        "/.well-known/jwks.json",
        Wants::Certificate,
    ),
    row(
        "GET",
        "/fhir/metadata",
        "/fhir/metadata",
        Wants::Certificate,
    ),
    row("POST", "/fhir", "/fhir", Wants::Deposit),
    row(
        "GET",
        "/fhir/{kind}",
        "/fhir/Observation?patient=9990000018",
        Wants::Records,
    ),
    row(
        "GET",
        "/fhir/{kind}/{id}",
        "/fhir/Observation/hale-obs-4",
        Wants::Records,
    ),
    row(
        "PUT",
        "/fhir/{kind}/{id}",
        "/fhir/Observation/routes-put",
        Wants::Deposit,
    ),
    row(
        "DELETE",
        "/fhir/{kind}/{id}",
        "/fhir/Observation/routes-put",
        Wants::Deposit,
    ),
    row(
        "GET",
        "/fhir/Patient/{nhs}/$everything",
        "/fhir/Patient/9990000018/$everything",
        Wants::Records,
    ),
    row(
        "PUT",
        "/agreements/{practice}/{organisation}/{reference}",
        "/agreements/A81001/RJ1/routes-1",
        Wants::Agreement,
    ),
    row(
        "POST",
        "/agreements/{practice}/{organisation}/{reference}/accept",
        "/agreements/A81001/RJ1/routes-1/accept",
        Wants::Acceptance,
    ),
    row("GET", "/agreements", "/agreements", Wants::EitherSide),
    row(
        "DELETE",
        "/agreements/{practice}/{organisation}/{reference}",
        "/agreements/A81001/RJ1/routes-1",
        Wants::EitherSide,
    ),
    row(
        "GET",
        "/practices/{practice}",
        "/practices/A81001",
        Wants::Agreement,
    ),
    row(
        "PUT",
        "/practices/{practice}",
        "/practices/A81001",
        Wants::Agreement,
    ),
    row(
        "PUT",
        "/practices/{practice}/clients/{client}",
        "/practices/A81001/clients/A81001",
        Wants::Agreement,
    ),
    row(
        "DELETE",
        "/practices/{practice}/clients/{client}",
        "/practices/A81001/clients/nobody",
        Wants::Agreement,
    ),
    row(
        "GET",
        "/practices/{practice}/register",
        "/practices/A81001/register",
        Wants::Agreement,
    ),
    row(
        "PUT",
        "/practices/{practice}/register/{reference}",
        "/practices/A81001/register/routes",
        Wants::Agreement,
    ),
    row(
        "DELETE",
        "/practices/{practice}/register/{reference}",
        "/practices/A81001/register/routes",
        Wants::Agreement,
    ),
    row(
        "POST",
        "/feed/objections",
        "/feed/objections",
        Wants::Objections,
    ),
    row(
        "GET",
        "/feed/objections/status",
        "/feed/objections/status?after=0",
        Wants::Objections,
    ),
    row(
        "PUT",
        "/feed/objections/settings",
        "/feed/objections/settings",
        Wants::Objections,
    ),
    row(
        "GET",
        "/log/checkpoint",
        "/log/checkpoint",
        Wants::Certificate,
    ),
    row(
        "GET",
        "/log/tile/{*path}",
        "/log/tile/0/000.p/1",
        Wants::Certificate,
    ),
    row(
        "GET",
        "/log/consistency",
        "/log/consistency?from=1&to=2",
        Wants::Certificate,
    ),
    row(
        "GET",
        "/log/witnessed",
        "/log/witnessed",
        Wants::Certificate,
    ),
    // The same route again: entries are not for everybody.
    row(
        "GET",
        "/log/tile/{*path}",
        "/log/tile/entries/000.p/1",
        Wants::Auditor,
    ),
    row("POST", "/who-could", "/who-could", Wants::Agreement),
    row("GET", "/history", "/history?limit=5", Wants::History),
    row("GET", "/notices", "/notices", Wants::Portal),
    row("GET", "/reviews", "/reviews?state=all", Wants::Officer),
    // Entry 0 founded the log and is no item: the right caller learns so, the wrong ones do not.
    row("GET", "/reviews/{entry}", "/reviews/0", Wants::Officer),
    row("POST", "/reviews/{entry}", "/reviews/0", Wants::Officer),
    row("GET", "/auditor", "/auditor", Wants::Auditor),
    row("GET", "/auditor/state", "/auditor/state", Wants::Auditor),
    row("GET", "/auditor/{file}", "/auditor/app.js", Wants::Auditor),
    row("GET", "/admin/keys", "/admin/keys", Wants::Admin),
    row("GET", "/admin/erasures", "/admin/erasures", Wants::Admin),
    row("POST", "/admin/backup", "/admin/backup", Wants::Admin),
    row("POST", "/admin/seal", "/admin/seal", Wants::Admin),
    row(
        "GET",
        "/log/bodies/{bundle}",
        "/log/bodies/0",
        Wants::Auditor,
    ),
    row(
        "GET",
        "/admin/keys/{key}",
        "/admin/keys/A81001",
        Wants::Admin,
    ),
    row(
        "POST",
        "/admin/keys/{key}/rotate",
        "/admin/keys/A81001/rotate",
        Wants::Admin,
    ),
    row(
        "POST",
        "/admin/keys/{key}/announce",
        "/admin/keys/token-signing/announce",
        Wants::Admin,
    ),
    row(
        "POST",
        "/admin/keys/{key}/activate",
        "/admin/keys/token-signing/activate",
        Wants::Admin,
    ),
    row(
        "POST",
        "/admin/keys/{key}/retire",
        "/admin/keys/A81001/retire",
        Wants::Admin,
    ),
    row("GET", "/admin/status", "/admin/status", Wants::Admin),
    row("GET", "/admin/directory", "/admin/directory", Wants::Admin),
    row("GET", "/admin/register", "/admin/register", Wants::Admin),
    row("GET", "/admin/training", "/admin/training", Wants::Admin),
    row("POST", "/admin/training", "/admin/training", Wants::Admin),
    row("POST", "/admin/acts", "/admin/acts", Wants::Admin),
    row("GET", "/admin/proposals", "/admin/proposals", Wants::Admin),
    row(
        "POST",
        "/admin/proposals/{digest}/approve",
        "/admin/proposals/00/approve",
        Wants::Second,
    ),
    row(
        "POST",
        "/admin/proposals/{digest}/withdraw",
        "/admin/proposals/00/withdraw",
        Wants::Second,
    ),
];

static OTHER_CA: OnceLock<Identity> = OnceLock::new();

/// The world of this file. Its CA file also holds a CA of which no certificate is registered.
async fn world() -> &'static World {
    shared_after(|dir| {
        let (stranger, ca) = Identity::under_a_new_ca();
        let path = dir.join("ca.pem");
        let both = format!("{}{ca}", std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, both).unwrap();
        assert!(OTHER_CA.set(stranger).is_ok());
    })
    .await
}

/// Why it asks for no proofs: its first request could not, and answers are compared with each other here.
fn party(world: &World, name: &str) -> Party {
    Party {
        seen: None,
        ..world.party(name).unwrap()
    }
}

fn body_of(row: &Row) -> String {
    let record = observation("routes-put", hale().nhs, "1-1", "2026-01-01");
    match row.route {
        ("PUT", path) if path.starts_with("/agreements") => agreed().0.to_string(),
        ("PUT", "/practices/{practice}/register/{reference}") => json!({
            "version": 1, "categories": ["medications", "allergies"], "from_ms": 0,
            "until_ms": 9_000_000_000_000_u64, "signer": "Dr Ada Prior",
        })
        .to_string(),
        ("PUT", "/practices/{practice}") => json!({ "cooling_off_ms": 86_400_000 }).to_string(),
        ("POST", "/feed/objections") => {
            json!({ "end": { "count": 0, "digest": "0".repeat(64) } }).to_string()
        }
        ("PUT", "/feed/objections/settings") => {
            json!({ "secondary_minutes": 60, "care_minutes": 4320, "documents_inherit": true })
                .to_string()
        }
        ("PUT", _) => record.to_string(),
        ("POST", "/fhir") => bundle("transaction", &[record]).to_string(),
        ("POST", "/admin/keys/{key}/retire") => json!({ "version": 1 }).to_string(),
        ("POST", "/admin/seal") => json!({ "why": "routes" }).to_string(),
        ("POST", "/admin/training") => {
            let head = "organisation,practitioner,requirement,completed,expires,evidence";
            let csv = format!("{head}\nRJ1,nurse-lind,routes,2026-01-01,2026-12-01,none\n");
            json!({ "csv": csv, "dry_run": true }).to_string()
        }
        ("POST", "/admin/acts") => {
            let payload = json!({ "name": "Dr Routes", "role": "doctor" });
            let (act, object) = ("practitioner.register", "RJ1/dr-routes");
            json!({ "act": act, "object": object, "why": "routes", "payload": payload }).to_string()
        }
        (_, path) if path.ends_with("/accept") => {
            json!({ "terms": agreed().1, "signer": "Ola Berg" }).to_string()
        }
        ("POST", "/who-could") => json!({ "patient": hale().nhs }).to_string(),
        ("POST", "/reviews/{entry}") => json!({ "finding": "noted" }).to_string(),
        _ => String::new(),
    }
}

/// What the practice proposes, and the digest that the organisation accepts.
fn agreed() -> (serde_json::Value, String) {
    let terms = json!({
        "purposes": ["TREAT"], "categories": ["problems"], "from_ms": 0, "until_ms": 9_000_000_000_000_u64,
        "signer": "Dr Ada Prior",
    });
    let mut row = terms.clone();
    for (member, code) in [
        ("practice", "A81001"),
        ("organisation", "RJ1"),
        ("reference", "routes-1"),
    ] {
        row[member] = code.into();
    }
    let row: sallyport::facts::AgreementRow = serde_json::from_value(row).unwrap();
    (terms, row.terms())
}

async fn play(row: &Row, party: &Party, token: Option<&str>) -> Reply {
    let bearer = format!("Bearer {}", token.unwrap_or_default());
    let feed = row.route.1.starts_with("/feed");
    let mut headers = vec![(
        "content-type",
        if feed { "application/x-ndjson" } else { R4 },
    )];
    if token.is_some() {
        headers.push(("authorization", bearer.as_str()));
    }
    let method = Method::from_bytes(row.route.0.as_bytes()).unwrap();
    party
        .http
        .send(method, row.target, &headers, body_of(row))
        .await
        .unwrap()
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    for route in ROUTES {
        assert!(
            TABLE.iter().any(|row| row.route == *route),
            "{route:?} has no row"
        );
    }
    for row in TABLE {
        assert!(ROUTES.contains(&row.route), "{:?} is no route", row.route);
        let pieces = row
            .route
            .1
            .split('/')
            .zip(row.target.split(['?']).next().unwrap().split('/'));
        for (want, have) in pieces {
            assert!(
                want == have || want.starts_with('{'),
                "{} is not {}",
                row.target,
                row.route.1
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_certificate_of_the_right_ca() {
    let world = world().await;
    let foreign = Identity::foreign();
    for row in TABLE {
        let request = format!(
            "{} {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            row.route.0, row.target
        );
        for identity in [None, Some(&foreign)] {
            let answer = raw(world.dir(), world.url(), identity, request.as_bytes()).await;
            assert!(
                !answer.is_ok_and(|text| text.contains("HTTP/")),
                "{:?}",
                row.route
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_under_the_right_ca_learns_nothing() {
    let world = world().await;
    let stranger = OTHER_CA.get().unwrap();
    let mut answers: BTreeMap<bool, Vec<String>> = BTreeMap::new();
    let unknown = [
        ("GET", "/none"),
        ("GET", "/fhir/Observation/none/none"),
        ("PATCH", "/fhir"),
        ("PUT", "/oauth/token"),
    ];
    for (method, target) in TABLE
        .iter()
        .map(|row| (row.route.0, row.target))
        .chain(unknown)
    {
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer x\r\ncontent-length: 0\r\n\r\n"
        );
        let answer = raw(world.dir(), world.url(), Some(stranger), request.as_bytes())
            .await
            .unwrap();
        assert_eq!(status_of(&answer), 401, "{method} {target}: {answer}");
        let without_date: String = answer
            .lines()
            .filter(|line| !line.starts_with("date:") && !line.starts_with("allow:"))
            .collect();
        answers
            .entry(target.starts_with("/fhir"))
            .or_default()
            .push(without_date);
    }
    for (_, mut alike) in answers {
        alike.sort();
        alike.dedup();
        assert!(alike.len() == 1, "{alike:#?}");
    }
}

/// A browser shows its user's certificate to any page that sends it here: what another site asks is refused like
/// anything else, recorded, and not done, whoever's certificate it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_another_site_drives_is_refused_everywhere() {
    let world = world().await;
    let before = world.party("auditor").unwrap();
    let size = entries(&before, world).await;
    let mut alike: BTreeMap<bool, Vec<String>> = BTreeMap::new();
    for row in TABLE {
        let (method, body) = (
            Method::from_bytes(row.route.0.as_bytes()).unwrap(),
            body_of(row),
        );
        let party = world.party("privacy-officer").unwrap();
        let mut driven = vec![
            vec![("sec-fetch-site", "cross-site"), ("sallyport-page", "1")],
            vec![
                ("origin", "https://elsewhere.example"),
                ("sallyport-page", "1"),
            ],
        ];
        if method != Method::GET {
            // Our own page says so in a header that no form of another site can send.
            driven.push(vec![("sec-fetch-site", "same-origin")]);
            driven.push(vec![("sec-fetch-site", "none"), ("sallyport-page", "1")]);
        }
        for headers in driven {
            let reply = party
                .http
                .send(method.clone(), row.target, &headers, body.clone())
                .await
                .unwrap();
            let status = reply.status;
            assert_eq!(status, StatusCode::FORBIDDEN, "{:?} {headers:?}", row.route);
            let says = receipt(&reply, world.vkey()).leaf;
            assert_eq!(says["ev"], "caller.refuse");
            let side = row.route.1.starts_with("/fhir");
            alike.entry(side).or_default().push(reply.text());
        }
    }
    for (_, mut texts) in alike {
        texts.dedup();
        assert_eq!(texts.len(), 1, "{texts:?}");
    }
    assert!(entries(&before, world).await > size + TABLE.len() as u64);
}

async fn entries(party: &Party, world: &World) -> u64 {
    world.publish().await;
    let note = party
        .http
        .send(Method::GET, "/log/checkpoint", &[], "")
        .await;
    note.unwrap()
        .text()
        .lines()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_auditors_page_keeps_a_browser_to_its_own_files() {
    let world = world().await;
    let auditor = party(world, "auditor");
    let get = |path: &'static str| {
        auditor
            .http
            .send(Method::GET, path, &[("sec-fetch-site", "same-origin")], "")
    };
    let page = get("/auditor").await.unwrap();
    assert!(page.text().starts_with("<!doctype html>"));
    // Whatever the page or one of its scripts names is there, under the same rules, and of no other host.
    let mut named = vec!["/auditor".to_owned()];
    let mut at = 0;
    while let Some(path) = named.get(at).cloned() {
        at += 1;
        let reply = auditor
            .http
            .send(Method::GET, &path, &[], "")
            .await
            .unwrap();
        assert_eq!(reply.status, StatusCode::OK, "{path}");
        let header = |name: &str| {
            reply
                .headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
                .to_owned()
        };
        let rules = header("content-security-policy");
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(rules.contains(rule), "{path}: {rules}");
        }
        assert!(
            !rules.contains("unsafe") && !rules.contains("http"),
            "{rules}"
        );
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
        let text = reply.text().replace("http://www.w3.org/2000/svg", "");
        assert!(
            !text.contains("http://") && !text.contains("https://"),
            "{path} names another host"
        );
        assert!(
            !text.contains("innerHTML") && !text.contains("style=\""),
            "{path}"
        );
        let names = text
            .split('"')
            .filter_map(|name| match name.strip_prefix("./") {
                Some(file) => file.ends_with(".js").then(|| format!("/auditor/{file}")),
                None => name.starts_with("/auditor/").then(|| name.to_owned()),
            });
        for name in names.filter(|name| name.contains('.')) {
            if !named.contains(&name) {
                named.push(name);
            }
        }
    }
    assert!(named.len() > 12, "{named:?}");
    assert_eq!(
        get("/auditor/none.js").await.unwrap().status,
        StatusCode::NOT_FOUND
    );
}

/// Tokens that parties of this world can have, by what they are for.
async fn tokens(world: &World) -> Vec<(&'static str, &'static str, String)> {
    let hospital = party(world, "hospital-a");
    let (a, b) = (party(world, "practice-a"), party(world, "practice-b"));
    let other = party(world, "hospital-b");
    let nhs = hale().nhs;
    vec![
        ("hospital-a", "records", token(&hospital, &treat(nhs)).await),
        (
            "hospital-a",
            "records of another",
            token(&hospital, &treat(quill().nhs)).await,
        ),
        (
            "practice-a",
            "deposit",
            token(&a, &deposit_for(PRACTICE_A, nhs)).await,
        ),
        (
            "practice-a",
            "deposit of any",
            token(&a, &json!({ "type": "deposit", "practice": PRACTICE_A })).await,
        ),
        (
            "practice-a",
            "consent",
            token(&a, &consent_for(PRACTICE_A, nhs)).await,
        ),
        (
            "practice-a",
            "objections",
            token(&a, &json!({ "type": "objections", "practice": PRACTICE_A })).await,
        ),
        (
            "patient-portal",
            "history",
            token(&party(world, "patient-portal"), &history_of(nhs)).await,
        ),
        (
            "practice-b",
            "consent elsewhere",
            token(&b, &consent_for(PRACTICE_B, tanqueray().nhs)).await,
        ),
        (
            "practice-a",
            "agreements",
            token(&a, &agreement_of(PRACTICE_A)).await,
        ),
        (
            "practice-b",
            "agreements elsewhere",
            token(&b, &agreement_of(PRACTICE_B)).await,
        ),
        (
            "hospital-a",
            "acceptances",
            token(&hospital, &acceptance_of("RJ1")).await,
        ),
        (
            "hospital-b",
            "acceptances elsewhere",
            token(&other, &acceptance_of("RM3")).await,
        ),
        (
            "practice-a",
            "relationships",
            token(
                &a,
                &json!({ "type": "relationship", "practice": PRACTICE_A, "patient": nhs }),
            )
            .await,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_caller_of_every_route_is_refused_alike() {
    let world = world().await;
    world.publish().await;
    let tokens = tokens(world).await;
    // status, FHIR side -> every body and set of header names seen
    let mut seen: BTreeMap<(u16, bool), Vec<(String, Vec<String>)>> = BTreeMap::new();
    let mut wrong = 0;
    let mut note = |row: &Row, who: &str, reply: Reply, status: u16| {
        assert_eq!(
            reply.status.as_u16(),
            status,
            "{:?} by {who}: {}",
            row.route,
            reply.text()
        );
        says_nothing_inside(&reply);
        if status == 403 {
            receipt(&reply, world.vkey());
        }
        wrong += 1;
        let side = row.route.1.starts_with("/fhir");
        seen.entry((status, side))
            .or_default()
            .push((reply.text(), header_names(&reply)));
    };
    for row in TABLE {
        for member in MEMBERS {
            let party = party(world, member.name);
            match row.wants {
                Wants::Certificate => {
                    let reply = play(row, &party, None).await;
                    // Why not found: the world has no witnesses, and whoever may come in may know it.
                    let wanted = match row.route.1 {
                        "/log/witnessed" => StatusCode::NOT_FOUND,
                        _ => StatusCode::OK,
                    };
                    assert_eq!(reply.status, wanted, "{:?} by {}", row.route, member.name);
                }
                Wants::Assertion => {}
                Wants::Admin if member.role == "admin" => {
                    let status = play(row, &party, None).await.status;
                    // Why a conflict too: the other admin did it already; it says so only to those who are let in.
                    let is_in = status.is_success() || status == StatusCode::CONFLICT;
                    assert!(is_in, "{:?}: {status}", row.route);
                }
                Wants::Auditor if ["auditor", "privacy-officer"].contains(&member.role) => {
                    assert_eq!(
                        play(row, &party, None).await.status,
                        StatusCode::OK,
                        "{:?}",
                        row.route
                    );
                }
                Wants::Second if member.role == "admin" => {
                    let reply = play(row, &party, None).await;
                    assert!(reply.status.is_client_error(), "{:?}", row.route);
                    assert!(
                        [403, 409].contains(&reply.status.as_u16()),
                        "{}",
                        reply.text()
                    );
                }
                Wants::Officer if member.role == "privacy-officer" => {
                    let status = play(row, &party, None).await.status.as_u16();
                    assert!([200, 404].contains(&status), "{:?}: {status}", row.route);
                }
                Wants::Portal if member.role == "patient-portal" => {
                    let reply = play(row, &party, None).await;
                    assert_eq!(reply.status, StatusCode::OK, "{:?}", row.route);
                }
                Wants::Admin | Wants::Second | Wants::Auditor | Wants::Officer | Wants::Portal => {
                    note(row, member.name, play(row, &party, None).await, 403);
                    // A token of any kind is no key to these.
                    for (_, _, token) in tokens.iter().filter(|(whose, _, _)| *whose == member.name)
                    {
                        note(row, member.name, play(row, &party, Some(token)).await, 403);
                    }
                }
                Wants::Records
                | Wants::Deposit
                | Wants::Agreement
                | Wants::Acceptance
                | Wants::EitherSide
                | Wants::Objections
                | Wants::History => {
                    note(row, member.name, play(row, &party, None).await, 401);
                    for (whose, what, token) in &tokens {
                        let who = format!("{} with {whose}'s token for {what}", member.name);
                        if *whose != member.name {
                            note(row, &who, play(row, &party, Some(token)).await, 401);
                            continue;
                        }
                        let right = match row.wants {
                            Wants::Records => *what == "records",
                            Wants::Agreement => *what == "agreements",
                            Wants::Acceptance => *what == "acceptances",
                            // Everybody has a list of its own, be it empty.
                            Wants::EitherSide if row.route.0 == "GET" => {
                                what.starts_with("agreements") || what.starts_with("acceptances")
                            }
                            Wants::EitherSide => ["agreements", "acceptances"].contains(what),
                            Wants::Objections => *what == "objections",
                            Wants::History => *what == "history",
                            // Who cares for a patient is said at the same place, as another kind of resource.
                            Wants::Deposit if row.route.1 == "/fhir/{kind}/{id}" => {
                                what.starts_with("deposit") || *what == "relationships"
                            }
                            _ => what.starts_with("deposit"),
                        };
                        if !right {
                            note(row, &who, play(row, &party, Some(token)).await, 403);
                        }
                    }
                }
            }
        }
    }
    assert!(wrong > 300, "{wrong} wrong callers");
    for ((status, side), mut alike) in seen {
        alike.sort();
        alike.dedup();
        // A 401 says whether there was no token or one that is not valid here, and no more.
        let most = if status == 401 { 2 } else { 1 };
        assert!(
            alike.len() <= most,
            "{status}, FHIR side {side}: {alike:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_callers_are_let_in() {
    let world = world().await;
    let (practice, hospital) = (party(world, "practice-a"), party(world, "hospital-a"));
    let deposit = token(&practice, &deposit_for(PRACTICE_A, hale().nhs)).await;
    let read = token(&hospital, &treat(hale().nhs)).await;
    let agree = token(&practice, &agreement_of(PRACTICE_A)).await;
    let accept = token(&hospital, &acceptance_of("RJ1")).await;
    let feed = json!({ "type": "objections", "practice": PRACTICE_A });
    let feed = token(&practice, &feed).await;
    publish_providers(world).await;
    for row in TABLE {
        let reply = match row.wants {
            Wants::Records => play(row, &hospital, Some(&read)).await,
            Wants::Deposit => play(row, &practice, Some(&deposit)).await,
            Wants::Agreement | Wants::EitherSide => play(row, &practice, Some(&agree)).await,
            Wants::Acceptance => play(row, &hospital, Some(&accept)).await,
            Wants::Objections => play(row, &practice, Some(&feed)).await,
            Wants::History => {
                let portal = party(world, "patient-portal");
                let history = token(&portal, &history_of(hale().nhs)).await;
                play(row, &portal, Some(&history)).await
            }
            _ => continue,
        };
        assert!(
            reply.status.is_success(),
            "{:?}: {}",
            row.route,
            reply.text()
        );
    }
}

/// A first version of the register of emergency providers, by two administrators.
async fn publish_providers(world: &World) {
    let act = json!({ "act": "providers.publish", "object": "1", "why": "routes", "payload": { "add": ["RJ1"] } });
    let proposed = certified(&party(world, "admin-1"), Method::POST, "/admin/acts", act).await;
    let digest = proposed.json()["proposal"]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    let approve = format!("/admin/proposals/{digest}/approve");
    let done = certified(&party(world, "admin-2"), Method::POST, &approve, json!({})).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text());
}

fn form(pairs: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(pairs).unwrap()
}

const FORM: &str = "application/x-www-form-urlencoded";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

async fn posts(party: &Party, path: &str, media: &str, body: String) -> Reply {
    party
        .http
        .send(Method::POST, path, &[("content-type", media)], body)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_token_with_anothers_assertion() {
    let world = world().await;
    let details = json!([treat(hale().nhs)]).to_string();
    let hospital = party(world, "hospital-a");
    let ask = |claimed: String, assertion: String| {
        form(&[
            ("grant_type", "client_credentials"),
            ("client_id", &claimed),
            ("client_assertion_type", ASSERTION),
            ("client_assertion", &assertion),
            ("authorization_details", &details),
            ("token", "x"),
        ])
    };
    for path in ["/oauth/token", "/oauth/revoke"] {
        let mut texts = Vec::new();
        for member in MEMBERS.iter().filter(|member| member.name != "hospital-a") {
            let other = party(world, member.name);
            for claimed in [&hospital.client_id, &other.client_id] {
                let reply = posts(
                    &other,
                    path,
                    FORM,
                    ask(claimed.clone(), hospital.assertion(now_s())),
                )
                .await;
                assert_eq!(
                    reply.status,
                    StatusCode::UNAUTHORIZED,
                    "{path} {}: {}",
                    member.name,
                    reply.text()
                );
                assert_eq!(reply.json()["error"], "invalid_client");
                says_nothing_inside(&reply);
                texts.push(reply.text());
            }
            // Signed by its own key in the hospital's name.
            let claims = json!({ "iss": "RJ1", "sub": "RJ1", "aud": world.url(), "jti": keys::random_id(), "iat": now_s(), "exp": now_s() + 60 });
            let forged = other
                .sign
                .signer()
                .sign_jws("JWT", claims.to_string().as_bytes());
            for sender in [&other, &hospital] {
                let reply = posts(sender, path, FORM, ask("RJ1".to_owned(), forged.clone())).await;
                assert_eq!(
                    reply.status,
                    StatusCode::UNAUTHORIZED,
                    "{path} {}",
                    reply.text()
                );
            }
        }
        texts.sort();
        texts.dedup();
        assert!(texts.len() <= 2, "{texts:#?}");
    }
    // What a client may ask for, asked by every other kind of client: one refusal, byte for byte.
    let mut refusals = Vec::new();
    for member in MEMBERS {
        let other = party(world, member.name);
        let details = [
            (treat(hale().nhs), member.name == "hospital-a"),
            (treat(NOBODY), false),
            (
                deposit_for(PRACTICE_A, hale().nhs),
                member.name == "practice-a",
            ),
            (
                deposit_for(PRACTICE_B, hale().nhs),
                member.name == "practice-b",
            ),
            (
                consent_for(PRACTICE_A, hale().nhs),
                member.name == "practice-a",
            ),
            (deposit_for("Z99999", hale().nhs), false),
        ];
        for (details, may) in details {
            let reply = other.ask(&details, now_s()).await.unwrap();
            if may {
                assert_eq!(
                    reply.status,
                    StatusCode::OK,
                    "{} {details}: {}",
                    member.name,
                    reply.text()
                );
            } else {
                denied(&reply);
                refusals.push(header_names(&reply));
            }
        }
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_to_the_token_endpoint_name_member_and_rule() {
    let world = world().await;
    let hospital = party(world, "hospital-a");
    let good = json!([treat(hale().nhs)]).to_string();
    let ask = |details: &str| {
        form(&[
            ("grant_type", "client_credentials"),
            ("client_id", "RJ1"),
            ("client_assertion_type", ASSERTION),
            ("client_assertion", &hospital.assertion(now_s())),
            ("authorization_details", details),
        ])
    };
    let nhs = hale().nhs;
    let changed = |member: &str, value: serde_json::Value| {
        json!([with(treat(nhs), &[(member, value)])]).to_string()
    };
    let cases = [
        (changed("patient", json!("9990000019")), "patient"),
        (changed("patient", json!(9_990_000_018_u64)), "patient"),
        (changed("purpose", json!("any purpose")), "purpose"),
        (changed("purpose", json!(["TREAT"])), "purpose"),
        (changed("practitioner", json!("dr-okafor")), "practitioner"),
        (
            changed("practitioner", json!({ "id": "a b" })),
            "practitioner",
        ),
        (
            changed(
                "relationship",
                json!({ "type": "friend", "reference": "x" }),
            ),
            "relationship",
        ),
        (changed("categories", json!([])), "categories"),
        (
            changed("categories", json!(["problems", "problems"])),
            "categories",
        ),
        (changed("acknowledged", json!("yes")), "acknowledged"),
        (changed("reason", json!("r".repeat(501))), "reason"),
        (changed("anyone", json!(true)), "member"),
        (changed("type", json!("all")), "type"),
        ("[]".to_owned(), "exactly one"),
        (json!([treat(nhs), treat(nhs)]).to_string(), "exactly one"),
        (treat(nhs).to_string(), "array"),
        ("nonsense".to_owned(), "authorization_details"),
        (
            good.replacen("\"purpose\"", "\"purpose\":\"BTG\",\"purpose\"", 1),
            "authorization_details",
        ),
        (
            format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
            "authorization_details",
        ),
    ];
    for (details, word) in cases {
        let reply = posts(&hospital, "/oauth/token", FORM, ask(&details)).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{word}: {}",
            reply.text()
        );
        let said = reply.json();
        assert_eq!(said["error"], "invalid_authorization_details");
        assert!(
            said["error_description"].as_str().unwrap().contains(word),
            "{word}: {said}"
        );
        says_nothing_inside(&reply);
    }
    for twice in [
        "grant_type",
        "client_id",
        "client_assertion",
        "authorization_details",
    ] {
        let reply = posts(
            &hospital,
            "/oauth/token",
            FORM,
            format!("{}&{twice}=x", ask(&good)),
        )
        .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert!(reply.text().contains(twice), "{}", reply.text());
    }
    for (media, body) in [
        ("application/json", ask(&good)),
        (FORM, String::new()),
        (FORM, "%zz=%%%".to_owned()),
        (FORM, ask(&good).replace("client_credentials", "password")),
    ] {
        let reply = posts(&hospital, "/oauth/token", media, body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
    }
    // Why not sent whole: the gateway answers and closes while the rest is on its way, and the answer may be lost.
    let head = format!(
        "POST /oauth/token HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM}\r\ncontent-length: 70000\r\nconnection: close\r\n\r\n"
    );
    let answer = send_raw(world, &head).await;
    assert_eq!(status_of(&answer), 413, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_other_paths_are_answered_shortly() {
    let world = world().await;
    let hospital = party(world, "hospital-a");
    for row in TABLE {
        for method in [
            "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "BREW",
        ] {
            if ROUTES
                .iter()
                .any(|(m, path)| *m == method && *path == row.route.1)
            {
                continue;
            }
            let target = row.target.split('?').next().unwrap();
            let reply = hospital
                .http
                .send(
                    Method::from_bytes(method.as_bytes()).unwrap(),
                    target,
                    &[],
                    "",
                )
                .await
                .unwrap();
            assert_eq!(
                reply.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {target}: {}",
                reply.text()
            );
            says_nothing_inside(&reply);
        }
    }
    for target in [
        "/",
        "/none",
        "/fhir/",
        "/fhir/Observation/",
        "/fhir/Observation/a/b",
        "/fhir/Patient/9990000018/$all",
        "/oauth",
        "/admin",
        "/admin/keys/",
        "/log/",
        "/health",
        "/metrics",
        "//fhir/metadata",
        "/fhir/metadata/",
        "/%2e%2e/fhir/metadata",
        "/fhir/Patient/9990000018/%24everything/x",
    ] {
        let reply = hospital
            .http
            .send(Method::GET, target, &[], "")
            .await
            .unwrap();
        assert!(
            [400, 401, 404].contains(&reply.status.as_u16()),
            "{target}: {} {}",
            reply.status,
            reply.text()
        );
        says_nothing_inside(&reply);
    }
    for target in [
        "/log/tile/../checkpoint",
        "/log/tile/../../data/keyring",
        "/log/tile/%2e%2e/%2e%2e/passphrase",
        "/log/tile/..%2f..%2fpassphrase",
        "/log/tile/0/099",
        "/log/tile/0/000.p/999",
        "/log/tile/0/x",
        "/log/tile/-1/000",
        "/log/tile/99/000",
        "/log/tile/",
        "/log/tile//etc/passwd",
    ] {
        let reply = hospital
            .http
            .send(Method::GET, target, &[], "")
            .await
            .unwrap();
        assert!(
            [400, 404].contains(&reply.status.as_u16()),
            "{target}: {} {}",
            reply.status,
            reply.text()
        );
        says_nothing_inside(&reply);
    }
    let read = token(&hospital, &treat(hale().nhs)).await;
    for (target, word) in [
        ("/fhir/observation/x", "type"),
        ("/fhir/Observation/a%20b", "id"),
        ("/fhir/Observation/%F0%9F%92%A9", "id"),
        ("/fhir/Observation", "patient"),
        (
            "/fhir/Observation?patient=9990000018&patient=9990000018",
            "patient",
        ),
        (
            "/fhir/Observation?patient=9990000018&patient=9990000026",
            "patient",
        ),
        ("/fhir/Observation?patient=9990000019", "patient"),
        (
            "/fhir/Observation?patient=9990000018&_include=x",
            "_include",
        ),
        (
            "/fhir/Observation?patient=9990000018&code:not=x",
            "code:not",
        ),
        (
            "/fhir/Observation?patient=9990000018&date=yesterday",
            "date",
        ),
        ("/fhir/Observation?patient=9990000018&_count=-1", "_count"),
        (
            "/fhir/Observation?patient=9990000018&_count=99999999999999999999",
            "_count",
        ),
        ("/fhir/Patient/9990000019/$everything", "NHS number"),
        ("/fhir/Patient/x/$everything", "NHS number"),
    ] {
        let reply = get(&hospital, &read, target).await;
        assert_eq!(
            reply.status,
            StatusCode::BAD_REQUEST,
            "{target}: {}",
            reply.text()
        );
        assert!(reply.text().contains(word), "{target}: {}", reply.text());
        assert_eq!(reply.json()["resourceType"], "OperationOutcome");
        says_nothing_inside(&reply);
    }
    // Plain FHIR is not what leaves here, and who wants it is told where to go; no refusal looks like this.
    let bearer = format!("Bearer {read}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("accept", "application/fhir+json"),
    ];
    let reply = hospital
        .http
        .send(Method::GET, &everything(hale().nhs), &headers, "")
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::NOT_ACCEPTABLE);
    assert!(reply.text().contains("connect"));
    // Two Authorization headers are nobody's.
    let headers = [
        ("authorization", bearer.as_str()),
        ("authorization", bearer.as_str()),
    ];
    let reply = hospital
        .http
        .send(Method::GET, &everything(hale().nhs), &headers, "")
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

async fn send_raw(world: &World, request: &str) -> String {
    let hospital = Identity::of(world.dir(), "hospital-a");
    raw(
        world.dir(),
        world.url(),
        Some(&hospital),
        request.as_bytes(),
    )
    .await
    .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn long_targets_header_floods_and_smuggling_are_turned_away() {
    let world = world().await;
    let head = |target: &str, more: &str| {
        format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n")
    };
    let long = format!(
        "/fhir/Observation?patient=9990000018&code={}",
        "9".repeat(limits::TARGET_BYTES)
    );
    assert_eq!(status_of(&send_raw(world, &head(&long, "")).await), 414);
    let longer = format!("/fhir/Observation?code={}", "9".repeat(100_000));
    assert!([0, 400, 414, 431].contains(&status_of(&send_raw(world, &head(&longer, "")).await)));
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    assert!([0, 400, 431].contains(&status_of(
        &send_raw(world, &head("/fhir/metadata", &many)).await
    )));
    let large = format!("x-large: {}\r\n", "y".repeat(limits::HEAD_BYTES * 2));
    assert!([0, 400, 431].contains(&status_of(
        &send_raw(world, &head("/fhir/metadata", &large)).await
    )));
    let practice = party(world, "practice-a");
    let token = token(&practice, &deposit_for(PRACTICE_A, hale().nhs)).await;
    for lengths in [
        "content-length: 10\r\ncontent-length: 20\r\n",
        "content-length: -1\r\n",
        "content-length: 10\r\ntransfer-encoding: chunked, identity\r\n",
        "content-length: 18446744073709551616\r\n",
        "transfer-encoding: gzip\r\n",
    ] {
        let request = format!(
            "POST /fhir HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: {R4}\r\n{lengths}connection: close\r\n\r\n0123456789"
        );
        let identity = Identity::of(world.dir(), "practice-a");
        let answer = raw(
            world.dir(),
            world.url(),
            Some(&identity),
            request.as_bytes(),
        )
        .await
        .unwrap_or_default();
        assert!(
            (400..500).contains(&status_of(&answer)) || answer.is_empty(),
            "{lengths}: {answer}"
        );
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{answer}");
    }
    for nonsense in [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "\x16\x03\x01\x02\x00",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /fhir/metadata HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let answer = send_raw(world, nonsense).await;
        assert!(
            !answer.contains(" 200 ") && !answer.contains(" 500 "),
            "{nonsense:?}: {answer}"
        );
    }
    assert_eq!(
        party(world, "hospital-a")
            .http
            .send(Method::GET, "/fhir/metadata", &[], "")
            .await
            .unwrap()
            .status,
        StatusCode::OK,
        "it still serves"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_too_large_too_deep_or_of_another_kind_are_refused_and_nothing_is_stored() {
    let world = world().await;
    let (practice, hospital) = (party(world, "practice-a"), party(world, "hospital-a"));
    let nhs = quill().nhs;
    let deposit = token(&practice, &deposit_for(PRACTICE_A, nhs)).await;
    let before = names(&hospital, nhs).await;
    let padded = |bytes: usize| {
        let record = with(
            observation("large", nhs, "1-1", "2026"),
            &[("note", json!([{ "text": "x".repeat(bytes) }]))],
        );
        record.to_string()
    };
    for bytes in [limits::DEPOSIT_BYTES, 17 << 20] {
        let reply = practice
            .http
            .send(
                Method::PUT,
                "/fhir/Observation/large",
                &[
                    ("authorization", &format!("Bearer {deposit}")),
                    ("content-type", R4),
                ],
                padded(bytes),
            )
            .await;
        // Why either: the gateway may close while the rest is still on its way.
        if let Ok(reply) = reply {
            assert_eq!(
                reply.status,
                StatusCode::PAYLOAD_TOO_LARGE,
                "{}",
                reply.text()
            );
        }
    }
    let declared = format!(
        "POST /fhir HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {deposit}\r\ncontent-type: {R4}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{{",
        17 << 20
    );
    let identity = Identity::of(world.dir(), "practice-a");
    let began = Instant::now();
    let answer = raw(
        world.dir(),
        world.url(),
        Some(&identity),
        declared.as_bytes(),
    )
    .await
    .unwrap_or_default();
    assert_eq!(status_of(&answer), 413, "{answer}");
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "a length that is too large is refused before the body comes"
    );
    for deep in [
        "[".repeat(100_000),
        format!(
            "{{\"resourceType\":\"Observation\",\"x\":{}",
            "[".repeat(100_000)
        ),
        "{\"a\":".repeat(100_000),
    ] {
        for reply in [
            put(&practice, &deposit, "Observation/deep", deep.clone()).await,
            post(&practice, &deposit, deep.clone()).await,
        ] {
            assert!(
                [400, 413].contains(&reply.status.as_u16()),
                "{} {}",
                reply.status,
                reply.text()
            );
            assert!(reply.text().contains("64 deep"), "{}", reply.text());
        }
    }
    let record = observation("kind", nhs, "1-1", "2026").to_string();
    for media in [
        "application/json",
        "text/plain",
        "application/fhir+xml",
        "application/fhir+json; fhirVersion=5.0",
        "",
        "application/fhir+json; fhirVersion=4.0; fhirVersion=3.0",
    ] {
        let headers = [
            ("authorization", &*format!("Bearer {deposit}")),
            ("content-type", media),
        ];
        let reply = practice
            .http
            .send(
                Method::PUT,
                "/fhir/Observation/kind",
                &headers,
                record.clone(),
            )
            .await
            .unwrap();
        assert_eq!(
            reply.status,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "{media}: {}",
            reply.text()
        );
    }
    let twice = record.replacen("\"status\"", "\"status\":\"final\",\"status\"", 1);
    let reply = put(&practice, &deposit, "Observation/kind", twice).await;
    assert!(
        [400, 422].contains(&reply.status.as_u16()),
        "{}",
        reply.text()
    );
    assert!(reply.text().contains("status"), "{}", reply.text());
    let reply = put(&practice, &deposit, "Observation/other-id", record.clone()).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    let reply = put(&practice, &deposit, "Condition/kind", record.clone()).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    // Bytes cut off in the middle of what was announced.
    let cut = format!(
        "PUT /fhir/Observation/kind HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {deposit}\r\ncontent-type: {R4}\r\ncontent-length: {}\r\n\r\n{}",
        record.len(),
        &record[..record.len() / 2]
    );
    let mut stream = connect(world.dir(), world.url(), Some(&identity))
        .await
        .unwrap();
    stream.write_all(cut.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(names(&hospital, nhs).await, before, "nothing was stored");
}

async fn drip(dir: &Path, url: &str, head: &str, each: &str) -> (String, Duration) {
    let identity = Identity::of(dir, "practice-a");
    let mut stream = connect(dir, url, Some(&identity)).await.unwrap();
    let began = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let mut out = Vec::new();
    let mut buffer = [0; 4096];
    while began.elapsed() < Duration::from_secs(80) {
        match tokio::time::timeout(Duration::from_secs(1), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(count)) => out.extend_from_slice(&buffer[..count]),
            Err(_) => {
                if stream.write_all(each.as_bytes()).await.is_err() || stream.flush().await.is_err()
                {
                    break;
                }
            }
        }
    }
    (String::from_utf8_lossy(&out).into_owned(), began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_slowly_is_cut_off_and_holds_nobody_up() {
    let world = world().await;
    let (practice, hospital) = (party(world, "practice-a"), party(world, "hospital-a"));
    let token = token(&practice, &deposit_for(PRACTICE_A, hale().nhs)).await;
    let body = format!(
        "PUT /fhir/Observation/slow HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: {R4}\r\ncontent-length: 5000\r\nconnection: close\r\n\r\n{{"
    );
    let (dir, url) = (world.dir(), world.url());
    let others = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..100 {
            let began = Instant::now();
            let reply = hospital
                .http
                .send(Method::GET, "/log/checkpoint", &[], "")
                .await
                .unwrap();
            assert_eq!(reply.status, StatusCode::OK);
            slowest = slowest.max(began.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest
    };
    let ((slow_body, body_time), (_, head_time), slowest) = tokio::join!(
        drip(dir, url, &body, " "),
        drip(dir, url, "GET /fhir/metadata HTTP/1.1\r\n", "x: y\r\n"),
        others,
    );
    assert_eq!(status_of(&slow_body), 408, "{slow_body}");
    assert!(
        body_time < limits::BODY_TIME + Duration::from_secs(10),
        "{body_time:?}"
    );
    assert!(
        head_time < limits::HEAD_TIME + Duration::from_secs(10),
        "{head_time:?}"
    );
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
