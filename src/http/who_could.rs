//! `POST /who-could`: who could open a patient's records now, by which rule, and what changed since a time. The patient
//! stands in the body or the token, never in the path. Asked by a practice about its own patients with its token of type
//! `agreement`, by auditors and privacy officers with one of type `history` for that patient.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use policy::words::{NhsNumber, Ods};
use policy::{Caller, Scope, Side};
use serde::Deserialize;

use super::agreement::json_body;
use super::answer::{Problem, json_response, with_receipt};
use super::{Bearer, Shared};
use crate::gateway::{Answer, WhoCould};
use crate::ledger::Open;

/// What may be asked; a token of type `history` names the patient already.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    patient: Option<String>,
    record: Option<String>,
    since_ms: Option<u64>,
}

fn bad(text: &str) -> Problem {
    Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text)
}

/// `POST /who-could` with `{"patient"?,"record"?,"since_ms"?}`.
pub(super) async fn ask(State(app): State<Shared>, bearer: Bearer, raw: Body) -> Response {
    let answer = asked(&app, bearer.caller.clone(), raw).await;
    let answer = answer.unwrap_or_else(Problem::oauth);
    bearer.hold(&app, answer)
}

async fn asked(app: &Shared, caller: Caller, raw: Body) -> Result<Response, Problem> {
    let question: Question = json_body(raw).await?;
    let asked = read(question, &caller, app.gateway.clock().now_ms())?;
    let task = Shared::clone(app);
    let answer = tokio::spawn(async move { task.gateway.who_could(caller, asked).await });
    match answer.await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(None, _) => Err(Problem::malformed(
            StatusCode::NOT_FOUND,
            "not-found",
            "record: is no record of this patient",
        )),
        Answer::Done(Some(value), receipt) => Ok(with_receipt(
            json_response(StatusCode::OK, &value),
            &receipt,
            Open::All,
        )),
    }
}

/// What is asked, of whom: a token for anything else is asked about in its own organisation's name, and refused there.
fn read(question: Question, caller: &Caller, now_ms: u64) -> Result<WhoCould, Problem> {
    let named = question.patient.as_deref().map(|text| {
        let rule = "patient: must be an NHS number of ten digits with the right check digit";
        NhsNumber::try_from(text).map_err(|_| bad(rule))
    });
    let named = named.transpose()?;
    if let Some(name) = &question.record {
        let fits = name
            .split_once('/')
            .is_some_and(|(kind, id)| !kind.is_empty() && !id.is_empty());
        if !fits || name.len() > 128 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(bad("record: must be TYPE/ID, as its practice named it"));
        }
    }
    if question.since_ms.is_some_and(|since| since > now_ms) {
        return Err(bad(
            "since_ms: must be a time that has passed, in milliseconds since 1970",
        ));
    }
    let required = || bad("patient: is required, as an NHS number");
    let (practice, patient) = match caller.token().map(|token| &token.scope) {
        Some(Scope::History(history)) => {
            if named.is_some_and(|named| named != history.patient) {
                return Err(bad(
                    "patient: must be the one that the token names, or be left out",
                ));
            }
            (None, history.patient.clone())
        }
        Some(Scope::Agreement {
            of: Side::Practice(practice),
        }) => (Some(practice.clone()), named.ok_or_else(required)?),
        _ => {
            let own: Option<Ods> = caller.organisations().first().cloned();
            (own, named.ok_or_else(required)?)
        }
    };
    Ok(WhoCould {
        practice,
        patient,
        record: question.record,
        since_ms: question.since_ms,
    })
}
