//! The feed of objections: numbered batches by a practice's system or the keeper of an opt-out list, and how the feed
//! stands. The answer says which numbers are missing. Nothing here names a patient.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use policy::words::{Ods, Purpose};
use policy::{Caller, PassOn, Scope};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::{Problem, json_response, with_receipt};
use super::{Bearer, Shared, body, limits};
use crate::facts::{FeedBatch, FeedTerms, Reckoning, Statement, Sum};
use crate::gateway::{Answer, FeedReport};
use crate::ledger::Open;

fn bad(status: StatusCode, text: impl Into<String>) -> Problem {
    Problem::malformed(status, "invalid_request", text)
}

fn say(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(Problem::oauth)
}

/// Whose feed the caller's token is for; any other caller is refused before its body is read, and that is recorded.
async fn owner(app: &Shared, caller: &Caller, attempt: &str) -> Result<Ods, Problem> {
    if let Some(Scope::Objections { practice }) = caller.token().map(|token| &token.scope)
        && app.gateway.stands(caller, practice).await?
    {
        return Ok(practice.clone());
    }
    match app.gateway.out_of_scope(caller.clone(), attempt).await? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done((), _) => Err(Problem::Internal),
    }
}

/// `POST /feed/objections`: events and a last line with count and digest; the last line alone is a heartbeat.
pub(super) async fn pass_on(
    State(app): State<Shared>,
    bearer: Bearer,
    headers: HeaderMap,
    raw: Body,
) -> Response {
    say(passed(&app, bearer.caller, &headers, raw).await)
}

async fn passed(
    app: &Shared,
    caller: Caller,
    headers: &HeaderMap,
    raw: Body,
) -> Result<Response, Problem> {
    let owner = owner(app, &caller, "objections").await?;
    let media = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
    if !media.is_some_and(|it| {
        it.trim()
            .to_ascii_lowercase()
            .starts_with("application/x-ndjson")
    }) {
        let text = "Content-Type must be application/x-ndjson";
        return Err(bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let bytes = body(raw, limits::FEED_BYTES).await?;
    let is_list = app.gateway.facts().is_opt_out_list(&owner);
    let default: &[Purpose] = if is_list {
        &Purpose::SECONDARY
    } else {
        &Purpose::NAMED
    };
    let batch = tokio::task::block_in_place(|| FeedBatch::parse(&bytes, default, is_list))
        .map_err(|error| bad(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let numbers = batch.events.first().zip(batch.events.last());
    let detail = json!({
        "bytes": Sum::digest_of(&Sha256::digest(&bytes).into()),
        "count": batch.end.count,
        "events": batch.events.len(),
        "from": numbers.map_or(0, |(first, _)| first.n),
        "generation": batch.end.generation,
        "to": numbers.map_or(0, |(_, last)| last.n),
    });
    let ask = PassOn {
        practice: owner.clone(),
        detail,
    };
    // Why spawned: a caller that hangs up must not leave a recorded change half done.
    let task = Arc::clone(app);
    let done = tokio::spawn(async move { task.gateway.pass_on(caller, ask, batch).await });
    match done.await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done((reckoning, report), receipt) => {
            let mut value = described(&owner, &report);
            add(&mut value, &reckoning);
            let response = json_response(StatusCode::OK, &value);
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}

fn add(value: &mut Value, reckoning: &Reckoning) {
    if let Some(object) = value.as_object_mut() {
        object.insert("taken".to_owned(), reckoning.taken.into());
        object.insert("repeated".to_owned(), reckoning.repeated.into());
        object.insert("conflicts".to_owned(), json!(reckoning.conflicts));
    }
}

fn described(owner: &Ods, report: &FeedReport) -> Value {
    let (standing, settings) = (&report.standing, &report.standing.settings);
    let missing: Vec<[u64; 2]> = report.missing.iter().map(|(a, b)| [*a, *b]).collect();
    let row = standing.row.as_ref();
    json!({
        "practice": owner.as_str(),
        "state": standing.code(),
        "generation": row.map_or(0, |row| row.generation),
        "count": row.map_or(0, |row| row.count),
        "digest": row.map(|row| row.digest.as_str()),
        "held": row.map_or(0, |row| row.held),
        "held_digest": row.map(|row| row.sum.as_str()),
        "missing_count": row.map_or(0, |row| row.count.saturating_sub(row.held)),
        "missing": missing,
        "more": report.more,
        "sound_ms": row.map(|row| row.sound_ms),
        "heard_ms": row.map(|row| row.heard_ms),
        "refuses": {
            "secondary": standing.doubt().is_some(),
            "care": standing.stops_care(),
        },
        "settings": {
            "secondary_minutes": settings.secondary_minutes,
            "care_minutes": settings.care_minutes,
            "documents_inherit": settings.documents_inherit,
        },
    })
}

/// `GET /feed/objections/status?after=N`: how the feed stands, and the missing numbers after N.
pub(super) async fn status(
    State(app): State<Shared>,
    bearer: Bearer,
    RawQuery(raw): RawQuery,
) -> Response {
    say(stated(&app, bearer.caller, raw.as_deref().unwrap_or_default()).await)
}

async fn stated(app: &Shared, caller: Caller, query: &str) -> Result<Response, Problem> {
    let owner = owner(app, &caller, "feed-status").await?;
    let after = match query.strip_prefix("after=") {
        None if query.is_empty() => Ok(0),
        Some(number) => number.parse::<u64>().map_err(drop),
        None => Err(()),
    };
    let after = after.map_err(|()| {
        let text = "query: only after, a number, is known here";
        bad(StatusCode::BAD_REQUEST, text)
    })?;
    let ask = PassOn {
        practice: owner.clone(),
        detail: json!({ "after": after, "read": "status" }),
    };
    match app.gateway.feed_report(caller, ask, after).await? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(report, receipt) => {
            let response = json_response(StatusCode::OK, &described(&owner, &report));
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}

/// `PUT /feed/objections/settings`: the limits of the feed, and whether documents inherit labels.
pub(super) async fn settle(State(app): State<Shared>, bearer: Bearer, raw: Body) -> Response {
    say(settled(&app, bearer.caller, raw).await)
}

async fn settled(app: &Shared, caller: Caller, raw: Body) -> Result<Response, Problem> {
    let owner = owner(app, &caller, "settings").await?;
    let bytes = body(raw, limits::FORM_BYTES).await?;
    let wrong = "must be a JSON object of secondary_minutes, care_minutes and documents_inherit";
    let mut value: Value =
        serde_json::from_slice(&bytes).map_err(|_| bad(StatusCode::BAD_REQUEST, wrong))?;
    match value.as_object_mut() {
        Some(object) if !object.contains_key("practice") => {
            object.insert("practice".to_owned(), owner.as_str().into());
        }
        _ => return Err(bad(StatusCode::BAD_REQUEST, wrong)),
    }
    let row: FeedTerms = serde_json::from_value(value.clone())
        .map_err(|_| bad(StatusCode::UNPROCESSABLE_ENTITY, wrong))?;
    let statement = Statement::FeedTerms(row.clone());
    statement
        .check()
        .map_err(|error| bad(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let ask = PassOn {
        practice: owner,
        detail: json!({ "settings": value }),
    };
    let task = Arc::clone(app);
    let done = tokio::spawn(async move { task.gateway.settle(caller, ask, row).await });
    match done.await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done((), receipt) => {
            let response = json_response(StatusCode::OK, &json!({}));
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}
