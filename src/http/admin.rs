//! Admin acts over mutual TLS. Each is decided and recorded like any other, also when it is refused.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use policy::words::Ods;
use serde_json::json;

use super::answer::{Problem, json_response, with_receipt};
use super::{Client, Shared};
use crate::gateway::Answer;
use crate::ledger::Open;

fn practice(code: &str) -> Result<Ods, Problem> {
    Ods::try_from(code).map_err(|_| {
        Problem::malformed(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            "practice: must be an ODS code",
        )
    })
}

/// `POST /admin/keys/{practice}/rotate`: a new KEK from now on; the rewrap goes on in the background and ends
/// with its own entry in the ledger.
pub(super) async fn rotate(
    State(app): State<Shared>,
    client: Client,
    Path(code): Path<String>,
) -> Response {
    match rotated(&app, &client, &code).await {
        Ok(response) => response,
        Err(problem) => problem.oauth(),
    }
}

async fn rotated(app: &Shared, client: &Client, code: &str) -> Result<Response, Problem> {
    let (practice, caller) = (practice(code)?, client.certified());
    // Why spawned: an admin who hangs up must not leave a new key without its rewrap.
    let (task, owner) = (std::sync::Arc::clone(app), practice.clone());
    let done = tokio::spawn(async move {
        let answer = task.gateway.rotate(caller, &owner).await?;
        if matches!(answer, Answer::Done(..)) {
            tokio::spawn(rewrap(std::sync::Arc::clone(&task), owner));
        }
        Ok::<_, crate::gateway::Fault>(answer)
    });
    match done.await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(version, receipt) => {
            let body = json!({ "practice": practice.as_str(), "version": version });
            let response = json_response(StatusCode::ACCEPTED, &body);
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}

async fn rewrap(app: Shared, practice: Ods) {
    if let Err(fault) = app.gateway.rewrap(&practice, |_| ()).await {
        tracing::error!(%fault, practice = practice.as_str(), "the rewrap stopped; the next start goes on with it");
    }
}

/// `GET /admin/keys/{practice}`: how many record keys stand under each version of its KEK.
pub(super) async fn versions(
    State(app): State<Shared>,
    client: Client,
    Path(code): Path<String>,
) -> Response {
    match counted(&app, &client, &code).await {
        Ok(response) => response,
        Err(problem) => problem.oauth(),
    }
}

async fn counted(app: &Shared, client: &Client, code: &str) -> Result<Response, Problem> {
    let practice = practice(code)?;
    match app
        .gateway
        .key_versions(client.certified(), &practice)
        .await?
    {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(versions, receipt) => {
            let rows: Vec<_> = versions
                .iter()
                .map(|(version, keys)| json!({ "version": version, "record_keys": keys }))
                .collect();
            let body = json!({ "practice": practice.as_str(), "kek": rows });
            Ok(with_receipt(
                json_response(StatusCode::OK, &body),
                &receipt,
                Open::All,
            ))
        }
    }
}
