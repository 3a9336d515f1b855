//! Admin acts over mutual TLS. Each is decided and recorded like any other, also when it is refused.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Problem, json_response, with_receipt};
use super::{Client, Shared, body, limits, object_of};
use crate::facts::{Proposal, WHY_CHARACTERS_MAX};
use crate::gateway::{Answer, Fault, Outcome, TrainingFile, Wish};
use crate::ledger::{Open, Receipt};

/// `POST /admin/acts`: what is wanted, of what, why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActForm {
    act: String,
    object: String,
    #[serde(default)]
    why: String,
    #[serde(default)]
    payload: Value,
}

/// What may stand beside an approval or a withdrawal.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhyForm {
    #[serde(default)]
    why: String,
}

fn invalid(text: impl Into<String>) -> Problem {
    Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text)
}

async fn form<T: for<'de> Deserialize<'de>>(raw: Body, limit: usize) -> Result<T, Problem> {
    let bytes = body(raw, limit).await?;
    object_of(&bytes).map_err(|error| invalid(format!("the body: {error}")))
}

fn reason(why: String) -> Result<String, Problem> {
    let fits = why.chars().count() <= WHY_CHARACTERS_MAX && !why.chars().any(char::is_control);
    let rule = "why: must have at most 300 characters, none of them a control character";
    fits.then_some(why).ok_or_else(|| invalid(rule))
}

/// An act's answer: 200 and what was done, with the receipt of its entry.
fn answered(answer: Answer<Value>) -> Result<Response, Problem> {
    match answer {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(value, receipt) => Ok(with(StatusCode::OK, &value, &receipt)),
    }
}

fn with(status: StatusCode, value: &Value, receipt: &Receipt) -> Response {
    with_receipt(json_response(status, value), receipt, Open::All)
}

fn said(answer: Result<Response, Problem>) -> Response {
    answer.unwrap_or_else(Problem::oauth)
}

/// Runs to its end whatever becomes of the caller: an act that is recorded is also done.
async fn finished<T: Send + 'static>(
    work: impl Future<Output = Result<T, Fault>> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::spawn(work).await;
    Ok(done.map_err(|_| Problem::Internal)??)
}

/// A proposal as it is shown: all that its digest covers, and the digest.
fn shown(proposal: &Proposal) -> Value {
    let mut value = serde_json::to_value(proposal).unwrap_or_default();
    if let Some(object) = value.as_object_mut() {
        object.insert("digest".to_owned(), proposal.name().into());
    }
    value
}

/// `POST /admin/acts`: 200 when it is done; 202 with the proposal when it waits for a second person.
pub(super) async fn act(State(app): State<Shared>, client: Client, raw: Body) -> Response {
    said(acted(app, client, raw).await)
}

async fn acted(app: Shared, client: Client, raw: Body) -> Result<Response, Problem> {
    let form: ActForm = form(raw, limits::FORM_BYTES).await?;
    let (caller, (act, object)) = (client.certified(), (form.act, form.object));
    for (member, text) in [("act", &act), ("object", &object)] {
        let fits = (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !fits {
            let rule = "must have 1 to 200 printable ASCII characters without spaces";
            return Err(invalid(format!("{member}: {rule}")));
        }
    }
    let (why, payload) = (reason(form.why)?, form.payload);
    let wish = Wish {
        act,
        object,
        why,
        payload,
    };
    if wish.wants_reason() && wish.why.trim().is_empty() {
        return Err(invalid(
            "why: is required for this act; say it for whoever reads the log later",
        ));
    }
    match finished(async move { app.gateway.administer(caller, wish).await }).await? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(Outcome::Done(value), receipt) => Ok(with(StatusCode::OK, &value, &receipt)),
        Answer::Done(Outcome::Proposed(proposal), receipt) => {
            let body = json!({ "proposal": shown(&proposal) });
            Ok(with(StatusCode::ACCEPTED, &body, &receipt))
        }
    }
}

/// `GET /admin/status`: how the gateway stands.
pub(super) async fn status(State(app): State<Shared>, client: Client) -> Response {
    let status = async { answered(app.gateway.status(client.certified()).await?) };
    said(status.await)
}

/// `GET /admin/directory`: everyone in it.
pub(super) async fn directory(State(app): State<Shared>, client: Client) -> Response {
    let everyone = async { answered(app.gateway.everyone(client.certified()).await?) };
    said(everyone.await)
}

/// `GET /admin/training`: everybody's state, requirement by requirement.
pub(super) async fn training(State(app): State<Shared>, client: Client) -> Response {
    let report = async { answered(app.gateway.training(client.certified()).await?) };
    said(report.await)
}

/// `POST /admin/training`: a file of training, whole or not at all; 422 names each wrong line.
pub(super) async fn import(State(app): State<Shared>, client: Client, raw: Body) -> Response {
    said(imported(app, client, raw).await)
}

async fn imported(app: Shared, client: Client, raw: Body) -> Result<Response, Problem> {
    let mut file: TrainingFile = form(raw, limits::TRAINING_BYTES).await?;
    file.why = reason(file.why)?;
    let caller = client.certified();
    match finished(async move { app.gateway.import_training(caller, file).await }).await? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(Ok(value), receipt) => Ok(with(StatusCode::OK, &value, &receipt)),
        Answer::Done(Err(lines), receipt) => {
            let text = format!("{} faults; nothing was loaded", lines.len());
            let body =
                json!({ "error": "invalid_request", "error_description": text, "lines": lines });
            Ok(with(StatusCode::UNPROCESSABLE_ENTITY, &body, &receipt))
        }
    }
}

/// `GET /admin/proposals`: those that wait for a second person.
pub(super) async fn proposals(State(app): State<Shared>, client: Client) -> Response {
    let listed = async {
        let answer = app.gateway.proposals(client.certified()).await?;
        answered(match answer {
            Answer::Refused(receipt) => Answer::Refused(receipt),
            Answer::Done(waiting, receipt) => {
                let waiting: Vec<Value> = waiting.iter().map(shown).collect();
                Answer::Done(json!({ "proposals": waiting }), receipt)
            }
        })
    };
    said(listed.await)
}

/// `POST /admin/proposals/{digest}/approve`: the second person's word; what was proposed is then done.
pub(super) async fn approve(
    State(app): State<Shared>,
    client: Client,
    Path(digest): Path<String>,
    raw: Body,
) -> Response {
    let approved = async {
        let why = why_of(raw).await?;
        let (caller, task) = (client.certified(), Arc::clone(&app));
        answered(finished(async move { task.gateway.approve(caller, &digest, why).await }).await?)
    };
    said(approved.await)
}

/// `POST /admin/proposals/{digest}/withdraw`: takes it back.
pub(super) async fn withdraw(
    State(app): State<Shared>,
    client: Client,
    Path(digest): Path<String>,
    raw: Body,
) -> Response {
    let withdrawn = async {
        let why = why_of(raw).await?;
        let (caller, task) = (client.certified(), Arc::clone(&app));
        let work = async move { task.gateway.withdraw_proposal(caller, &digest, why).await };
        answered(match finished(work).await? {
            Answer::Refused(receipt) => Answer::Refused(receipt),
            Answer::Done((), receipt) => Answer::Done(json!({}), receipt),
        })
    };
    said(withdrawn.await)
}

/// Nothing, or `{"why"}`.
async fn why_of(raw: Body) -> Result<String, Problem> {
    let bytes = body(raw, limits::FORM_BYTES).await?;
    let form = match bytes.as_ref() {
        [] => WhyForm::default(),
        some => object_of(some).map_err(|error| invalid(format!("the body: {error}")))?,
    };
    reason(form.why)
}
