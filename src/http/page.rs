//! The auditor's page: files compiled into the program, for auditors' and privacy officers' certificates alone.
//!
//! The page brings no credential of its own: the browser's certificate is the caller, and each thing it then asks for is
//! decided and recorded like anybody's. Nothing here is made from a request; no file comes from, or names, another host.
//! It is served by the very gateway that is audited, so it convinces nobody that this gateway is honest: `sallyport
//! audit` on another machine does.

use axum::extract::{Path, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Problem, bytes_response, json_response, with_receipt};
use super::{Client, Shared, operations};
use crate::gateway::{Answer, Asked};
use crate::ledger::Open;

/// Where the page stands.
pub(super) const DOCUMENT: &str = "/auditor";

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($( $name:literal, $kind:expr; )+) => {
        &[$( ($name, $kind, include_bytes!(concat!("page/", $name))) ),+]
    };
}

/// What the page consists of, beside its document.
const FILES: &[(&str, &str, &[u8])] = files! {
    "style.css", "text/css; charset=utf-8";
    "icon.svg", "image/svg+xml";
    "app.js", SCRIPT;
    "bytes.js", SCRIPT;
    "charts.js", SCRIPT;
    "dom.js", SCRIPT;
    "entry.js", SCRIPT;
    "gateway.js", SCRIPT;
    "list.js", SCRIPT;
    "log.js", SCRIPT;
    "merkle.js", SCRIPT;
    "note.js", SCRIPT;
    "overview.js", SCRIPT;
    "reviews.js", SCRIPT;
    "scan.js", SCRIPT;
    "scanner.js", SCRIPT;
    "sealed.js", SCRIPT;
    "search.js", SCRIPT;
    "tiles.js", SCRIPT;
    "unlock.js", SCRIPT;
    "words.js", SCRIPT;
};

/// What the browser is to keep the page to: its own files, its own gateway, no frame around it.
const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types sallyport",
    ),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
];

fn hardened(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let headers = response.headers_mut();
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

/// `GET /auditor`: the page itself. Opening it is an entry.
pub(super) async fn document(State(app): State<Shared>, client: Client) -> Response {
    match app.gateway.read_log(client.certified(), "page").await {
        Ok(Answer::Done((), receipt)) => {
            let page = Bytes::from_static(include_bytes!("page/index.html"));
            let response = bytes_response(StatusCode::OK, "text/html; charset=utf-8", page);
            hardened(with_receipt(response, &receipt, Open::All))
        }
        Ok(Answer::Refused(receipt)) => Problem::Refused(receipt).oauth(),
        Err(fault) => Problem::from(fault).oauth(),
    }
}

/// `GET /auditor/{file}`: one of its files.
pub(super) async fn file(
    State(app): State<Shared>,
    client: Client,
    Path(name): Path<String>,
) -> Response {
    match app.gateway.may_read_log(client.certified(), "page").await {
        Ok(Asked::Permitted) => {}
        Ok(Asked::Refused(receipt)) => return Problem::Refused(receipt).oauth(),
        Err(fault) => return Problem::from(fault).oauth(),
    }
    let Some((_, kind, bytes)) = FILES.iter().find(|(file, ..)| *file == name) else {
        let text = "the page has no such file";
        return Problem::malformed(StatusCode::NOT_FOUND, "not-found", text).oauth();
    };
    hardened(bytes_response(
        StatusCode::OK,
        kind,
        Bytes::from_static(bytes),
    ))
}

/// `GET /auditor/state`: what stands now that no entry says: who asks, the log's key, health, alarms, feeds, ages of keys.
pub(super) async fn state(State(app): State<Shared>, client: Client) -> Response {
    match app.gateway.read_log(client.certified(), "state").await {
        Ok(Answer::Done((), receipt)) => {
            let response = json_response(StatusCode::OK, &stands(&app, &client));
            with_receipt(response, &receipt, Open::All)
        }
        Ok(Answer::Refused(receipt)) => Problem::Refused(receipt).oauth(),
        Err(fault) => Problem::from(fault).oauth(),
    }
}

fn stands(app: &Shared, client: &Client) -> Value {
    let ledger = app.gateway.ledger();
    let (_, word, why) = operations::serving(app);
    let organisation = client.registered.organisations.first();
    json!({
        "client": client.registered.id.as_str(),
        "role": client.registered.role.code(),
        "organisation": organisation.map(policy::words::Ods::as_str),
        "now_ms": app.gateway.clock().now_ms(),
        "log": { "vkey": ledger.vkey().to_string(), "entries": ledger.health().size },
        "health": { "status": word, "why": why },
        "alerts": operations::alerts(app),
        "feeds": operations::feeds(app),
        "keys": app.gateway.vault().active_keys(),
    })
}
