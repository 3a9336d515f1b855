//! Acts on keys over mutual TLS, by admins. Each is decided and recorded like any other, also when it is refused. What was
//! permitted and cannot be done yet is a 409 that says what has to be so first. No route shows or takes a key.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Problem, json_response, with_receipt};
use super::{Bell, Client, Shared, body, limits, object_of};
use crate::gateway::{Answer, Fault, KeyDone};
use crate::ledger::Open;
use crate::vault::{KeyName, Owner};

/// A version in the body of a request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    version: u32,
}

fn key(name: &str) -> Result<KeyName, Problem> {
    KeyName::try_from(name).map_err(|error| {
        Problem::malformed(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            format!("key: {error}"),
        )
    })
}

fn version(body: &[u8]) -> Result<u32, Problem> {
    let parsed = object_of::<Version>(body);
    parsed.map(|body| body.version).map_err(|_| {
        let text = "body: must be {\"version\": number}";
        Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text)
    })
}

/// `GET /admin/keys`: every key there is.
pub(super) async fn all(State(app): State<Shared>, client: Client) -> Response {
    listed(&app, &client, None)
        .await
        .unwrap_or_else(Problem::oauth)
}

/// `GET /admin/keys/{key}`: one key.
pub(super) async fn one(
    State(app): State<Shared>,
    client: Client,
    Path(name): Path<String>,
) -> Response {
    let response = async { listed(&app, &client, Some(key(&name)?)).await };
    response.await.unwrap_or_else(Problem::oauth)
}

async fn listed(app: &Shared, client: &Client, name: Option<KeyName>) -> Result<Response, Problem> {
    let answer = app.gateway.keys(client.certified(), name.as_ref()).await?;
    let (reports, receipt) = match answer {
        Answer::Refused(receipt) => return Err(Problem::Refused(receipt)),
        Answer::Done(reports, receipt) => (reports, receipt),
    };
    let vault = app.gateway.vault();
    let rotations = vault.rotations();
    let body = match &name {
        None => json!({
            "keys": reports, "rotations": rotations, "keyring_epoch": vault.keyring_epoch(),
            "log_vkey": app.gateway.ledger().vkey().to_string(),
        }),
        Some(name) => {
            let report = reports.into_iter().next().ok_or_else(|| {
                let text = "key: this gateway has none of that name";
                Problem::malformed(StatusCode::NOT_FOUND, "not-found", text)
            })?;
            let rotation = rotations.iter().find(|one| one.owner == name.as_str());
            let kek: Vec<_> = report
                .versions
                .iter()
                .filter(|row| row.wraps.is_some_and(|wraps| wraps > 0))
                .map(|row| json!({ "version": row.version, "record_keys": row.wraps }))
                .collect();
            json!({
                "key": report.key, "kind": report.kind, "serves": report.serves, "versions": report.versions,
                "rotation": rotation, "practice": report.key, "kek": kek,
            })
        }
    };
    let response = json_response(StatusCode::OK, &body);
    Ok(with_receipt(response, &receipt, Open::All))
}

/// `POST /admin/keys/{key}/rotate`: a new version from now on; a KEK's rewrap goes on in the background and ends with
/// its own entry in the ledger.
pub(super) async fn rotate(
    State(app): State<Shared>,
    client: Client,
    Path(name): Path<String>,
) -> Response {
    let response = async {
        let (name, caller) = (key(&name)?, client.certified());
        // Why spawned: an admin who hangs up must not leave a new key without its rewrap.
        let (task, own) = (Arc::clone(&app), name.clone());
        let done = tokio::spawn(async move {
            let answer = task.gateway.rotate(caller, &own).await?;
            if let (Answer::Done(KeyDone::Version(_), _), KeyName::Kek(owner)) = (&answer, own) {
                tokio::spawn(rewrap(Arc::clone(&task), owner));
            }
            Ok::<_, Fault>(answer)
        });
        let answer = done.await.map_err(|_| Problem::Internal)??;
        done_as(StatusCode::ACCEPTED, &name, answer)
    };
    response.await.unwrap_or_else(Problem::oauth)
}

async fn rewrap(app: Shared, owner: Owner) {
    if let Err(fault) = app.gateway.rewrap(&owner).await {
        tracing::error!(%fault, owner = owner.as_str(), "the rewrap stopped; it is taken up again within five minutes");
    }
}

/// `POST /admin/keys/{key}/announce`: a signing key's next version is published; it signs nothing yet.
pub(super) async fn announce(
    State(app): State<Shared>,
    client: Client,
    Path(name): Path<String>,
) -> Response {
    let response = async {
        let (name, caller) = (key(&name)?, client.certified());
        let (task, own) = (Arc::clone(&app), name.clone());
        let done = tokio::spawn(async move { task.gateway.announce(caller, &own).await });
        let answer = done.await.map_err(|_| Problem::Internal)??;
        done_as(StatusCode::OK, &name, answer)
    };
    response.await.unwrap_or_else(Problem::oauth)
}

/// `POST /admin/keys/{key}/activate`: the announced version signs from now on.
pub(super) async fn activate(
    State(app): State<Shared>,
    client: Client,
    Path(name): Path<String>,
) -> Response {
    let response = async {
        let (name, caller) = (key(&name)?, client.certified());
        let (task, own) = (Arc::clone(&app), name.clone());
        let done = tokio::spawn(async move { task.gateway.activate(caller, &own).await });
        let answer = done.await.map_err(|_| Problem::Internal)??;
        done_as(StatusCode::OK, &name, answer)
    };
    response.await.unwrap_or_else(Problem::oauth)
}

/// `POST /admin/keys/{key}/retire` with `{"version": n}`: refused until nothing is left under that version.
pub(super) async fn retire(
    State(app): State<Shared>,
    client: Client,
    Path(name): Path<String>,
    raw: Body,
) -> Response {
    let response = async {
        let bytes = body(raw, limits::FORM_BYTES).await?;
        let (name, version, caller) = (key(&name)?, version(&bytes)?, client.certified());
        let (task, own) = (Arc::clone(&app), name.clone());
        let done = tokio::spawn(async move { task.gateway.retire(caller, &own, version).await });
        let answer = done.await.map_err(|_| Problem::Internal)??;
        done_as(StatusCode::OK, &name, answer)
    };
    response.await.unwrap_or_else(Problem::oauth)
}

/// `POST /admin/backup`: a copy of one moment, taken while serving and read back.
pub(super) async fn backup(State(app): State<Shared>, client: Client) -> Response {
    let response = async {
        let (task, caller) = (Arc::clone(&app), client.certified());
        // Why spawned: an admin who hangs up must not leave half a backup.
        let done = tokio::spawn(async move { task.gateway.back_up(caller).await });
        match done.await.map_err(|_| Problem::Internal)?? {
            Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
            Answer::Done(taken, receipt) if taken.is_null() => {
                let why = "no backups: name a folder for them (`backups`) in the gateway's config";
                let body = json!({ "error": "conflict", "error_description": why });
                let response = json_response(StatusCode::CONFLICT, &body);
                Ok(with_receipt(response, &receipt, Open::All))
            }
            Answer::Done(taken, receipt) => {
                let response = json_response(StatusCode::OK, &taken);
                Ok(with_receipt(response, &receipt, Open::All))
            }
        }
    };
    response.await.unwrap_or_else(Problem::oauth)
}

/// Why an administrator seals the gateway.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    why: String,
}

/// `POST /admin/seal` with `{"why": "…"}`: every key leaves memory, and everybody gets 503 until it is unsealed on the
/// machine itself. One administrator may: what stops somebody takes one.
pub(super) async fn seal(
    State(app): State<Shared>,
    client: Client,
    raw: axum::body::Body,
) -> Response {
    let response = async {
        let bytes = body(raw, limits::FORM_BYTES).await?;
        let seal = serde_json::from_slice::<Seal>(&bytes).map_err(|_| {
            let text = "body: must be {\"why\": text}";
            Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text)
        })?;
        match app.gateway.seal(client.certified(), seal.why).await? {
            Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
            Answer::Done((), receipt) => {
                let response = match app.bell.as_ref().is_some_and(Bell::ring) {
                    true => json_response(StatusCode::ACCEPTED, &json!({ "state": "sealing" })),
                    false => {
                        let why = "not sealed: nobody could unseal this gateway again; name a control socket \
                                   (`control`) in its config";
                        let body = json!({ "error": "conflict", "error_description": why });
                        json_response(StatusCode::CONFLICT, &body)
                    }
                };
                Ok(with_receipt(response, &receipt, Open::All))
            }
        }
    };
    response.await.unwrap_or_else(Problem::oauth)
}

/// `GET /admin/erasures`: what was erased, and what each erasure still waits for.
pub(super) async fn erasures(State(app): State<Shared>, client: Client) -> Response {
    let response = async {
        match app.gateway.erasures(client.certified()).await? {
            Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
            Answer::Done(erasures, receipt) => {
                let body = json!({ "erasures": erasures });
                let response = json_response(StatusCode::OK, &body);
                Ok(with_receipt(response, &receipt, Open::All))
            }
        }
    };
    response.await.unwrap_or_else(Problem::oauth)
}

fn done_as(
    status: StatusCode,
    name: &KeyName,
    answer: Answer<KeyDone>,
) -> Result<Response, Problem> {
    let (done, receipt) = match answer {
        Answer::Refused(receipt) => return Err(Problem::Refused(receipt)),
        Answer::Done(done, receipt) => (done, receipt),
    };
    let response = match done {
        KeyDone::Version(version) => {
            let body =
                json!({ "key": name.as_str(), "practice": name.as_str(), "version": version });
            json_response(status, &body)
        }
        KeyDone::NotYet(why) => {
            let body = json!({ "error": "conflict", "error_description": why });
            json_response(StatusCode::CONFLICT, &body)
        }
    };
    Ok(with_receipt(response, &receipt, Open::All))
}
