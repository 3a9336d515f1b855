//! The ledger as it is published: C2SP tlog-tiles. Checkpoints and hash tiles for every registered certificate;
//! entries for auditors, and reading them is itself an entry.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;

use super::answer::{Problem, bytes_response, with_receipt};
use super::{Client, Shared};
use crate::gateway::Answer;
use crate::ledger::Open;

/// `GET /log/checkpoint`
pub(super) async fn checkpoint(State(app): State<Shared>, _client: Client) -> Response {
    let cosigned = app.gateway.witnesses().cosigned();
    match file(&app, "checkpoint") {
        // Why not the cosigned one always: it may be older, and whoever asks wants the newest.
        Ok(bytes)
            if cosigned
                .as_ref()
                .is_some_and(|it| it.as_bytes().starts_with(&bytes)) =>
        {
            witnessed(State(app), _client).await
        }
        Ok(bytes) => bytes_response(StatusCode::OK, "text/plain; charset=utf-8", bytes),
        Err(problem) => problem.oauth(),
    }
}

/// `GET /log/witnessed`: the last checkpoint that a quorum of witnesses cosigned.
pub(super) async fn witnessed(State(app): State<Shared>, _client: Client) -> Response {
    match app.gateway.witnesses().cosigned() {
        Some(note) => {
            let bytes = Bytes::copy_from_slice(note.as_bytes());
            bytes_response(StatusCode::OK, "text/plain; charset=utf-8", bytes)
        }
        None => {
            let text = "no quorum of witnesses has cosigned this log";
            Problem::malformed(StatusCode::NOT_FOUND, "not-found", text).oauth()
        }
    }
}

/// `GET /log/tile/…`
pub(super) async fn tile(
    State(app): State<Shared>,
    client: Client,
    Path(path): Path<String>,
) -> Response {
    match read(&app, &client, &path).await {
        Ok(response) => response,
        Err(problem) => problem.oauth(),
    }
}

async fn read(app: &Shared, client: &Client, path: &str) -> Result<Response, Problem> {
    let whole = format!("tile/{path}");
    if !path.starts_with("entries/") {
        return Ok(bytes_response(
            StatusCode::OK,
            "application/octet-stream",
            file(app, &whole)?,
        ));
    }
    match app.gateway.read_log(client.certified(), &whole).await? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done((), receipt) => {
            let response = bytes_response(
                StatusCode::OK,
                "application/octet-stream",
                file(app, &whole)?,
            );
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}

/// `GET /log/bodies/{bundle}`
pub(super) async fn bodies(
    State(app): State<Shared>,
    client: Client,
    Path(bundle): Path<String>,
) -> Response {
    match sealed(&app, &client, &bundle).await {
        Ok(response) => response,
        Err(problem) => problem.oauth(),
    }
}

async fn sealed(app: &Shared, client: &Client, bundle: &str) -> Result<Response, Problem> {
    let number = bundle.parse::<u64>().ok();
    let number = number.filter(|number| number.to_string() == bundle);
    let number = number.ok_or_else(|| {
        let text = "bundle: must be a number, 256 entries each, the first is 0";
        Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text)
    })?;
    match app.gateway.bodies(client.certified(), number).await? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(bytes, receipt) => {
            let kind = "application/octet-stream";
            let response = bytes_response(StatusCode::OK, kind, Bytes::from(bytes));
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}

fn file(app: &Shared, path: &str) -> Result<Bytes, Problem> {
    match app.gateway.ledger().file(path) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(Problem::malformed(
            StatusCode::NOT_FOUND,
            "not-found",
            "the log has no such tile",
        )),
        Err(error) => {
            tracing::error!(%error, "the published log cannot be read");
            Err(Problem::Unavailable("the published log cannot be read"))
        }
    }
}
