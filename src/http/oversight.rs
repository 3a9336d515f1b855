//! Who looked: a patient's own history for the portal and for auditors, what patients are to be told, and the privacy
//! officer's worklist. Each look and each closing is decided and recorded like any other act, also when it is refused.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use policy::words::Finding;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Problem, json_response, with_receipt};
use super::{Bearer, Client, Shared, body, limits, object_of};
use crate::alerts::{Kind, rfc3339};
use crate::gateway::{Answer, Closing, Explanation, LINES_MAX, Listed, Looked};
use crate::ledger::{Open, Receipt};

/// Lines of a page where none are asked for.
const LINES: usize = 50;
/// Characters of a note.
const NOTE_CHARS: usize = 500;

/// What may stand in a query here; each once, and nothing else.
#[derive(Default)]
struct Query {
    before: Option<u64>,
    after: Option<u64>,
    limit: Option<usize>,
    all: bool,
}

impl Query {
    fn read(text: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let wrong =
            |text: &str| Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text);
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(text.unwrap_or_default())
            .map_err(|_| wrong("the query must be NAME=VALUE pairs"))?;
        let mut query = Self::default();
        let mut seen = Vec::new();
        for (name, value) in pairs {
            if !known.contains(&name.as_str()) || seen.contains(&name) {
                return Err(wrong(&format!(
                    "the query takes {}, each once",
                    known.join(", ")
                )));
            }
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| wrong(&format!("{name}: must be a number")))
            };
            match name.as_str() {
                "before" => query.before = Some(number()?),
                "after" => query.after = Some(number()?),
                "limit" => {
                    let limit = usize::try_from(number()?).unwrap_or(0);
                    if !(1..=LINES_MAX).contains(&limit) {
                        return Err(wrong("limit: must be 1 to 200"));
                    }
                    query.limit = Some(limit);
                }
                _ => match value.as_str() {
                    "open" => {}
                    "all" => query.all = true,
                    _ => return Err(wrong("state: must be open or all")),
                },
            }
            seen.push(name);
        }
        Ok(query)
    }
}

fn say(answer: Result<Response, Problem>) -> Response {
    answer.unwrap_or_else(Problem::oauth)
}

fn done(body: &Value, receipt: &Receipt) -> Response {
    with_receipt(json_response(StatusCode::OK, body), receipt, Open::All)
}

/// `GET /history?before=&limit=` with a token of type `history`: who asked for this patient's records, newest first.
pub(super) async fn history(
    State(app): State<Shared>,
    bearer: Bearer,
    RawQuery(query): RawQuery,
) -> Response {
    let answer = say(told(&app, &bearer, query.as_deref()).await);
    bearer.hold(&app, answer)
}

async fn told(app: &Shared, bearer: &Bearer, query: Option<&str>) -> Result<Response, Problem> {
    let query = Query::read(query, &["before", "limit"])?;
    let limit = query.limit.unwrap_or(LINES);
    match app
        .gateway
        .history(bearer.caller.clone(), query.before, limit)
        .await?
    {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(history, receipt) => {
            let issuer = app.gateway.tokens().issuer();
            let next = history
                .next
                .map(|before| format!("{issuer}/history?before={before}&limit={limit}"));
            let lines: Vec<Value> = history.lines.into_iter().map(|line| line.told).collect();
            Ok(done(&json!({ "history": lines, "next": next }), &receipt))
        }
    }
}

/// `GET /notices?after=`: what the portal has to tell patients, oldest first.
pub(super) async fn notices(
    State(app): State<Shared>,
    client: Client,
    RawQuery(query): RawQuery,
) -> Response {
    say(noticed(&app, &client, query.as_deref()).await)
}

async fn noticed(app: &Shared, client: &Client, query: Option<&str>) -> Result<Response, Problem> {
    let query = Query::read(query, &["after"])?;
    match app
        .gateway
        .patient_notices(client.certified(), query.after)
        .await?
    {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done((notices, last), receipt) => {
            let notices: Vec<Value> = notices
                .into_iter()
                .map(|it| json!({ "patient": it.patient, "notice": it.line.told }))
                .collect();
            Ok(done(
                &json!({ "notices": notices, "after": last.or(query.after) }),
                &receipt,
            ))
        }
    }
}

/// `GET /reviews?after=&state=open|all&limit=`: the worklist, oldest first; names nobody.
pub(super) async fn worklist(
    State(app): State<Shared>,
    client: Client,
    RawQuery(query): RawQuery,
) -> Response {
    say(listed(&app, &client, query.as_deref()).await)
}

async fn listed(app: &Shared, client: &Client, query: Option<&str>) -> Result<Response, Problem> {
    let query = Query::read(query, &["after", "state", "limit"])?;
    let (which, limit) = ((query.after, query.all), query.limit.unwrap_or(LINES));
    match app
        .gateway
        .worklist(client.certified(), which, limit)
        .await?
    {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(items, receipt) => {
            let last = items.last().and_then(|listed| listed.item.heading.entry);
            let items: Vec<Value> = items.iter().map(heading).collect();
            Ok(done(
                &json!({ "items": items, "after": last.or(query.after) }),
                &receipt,
            ))
        }
    }
}

fn heading(listed: &Listed) -> Value {
    let heading = &listed.item.heading;
    let says = Kind::parse(&heading.code).map(Kind::says);
    json!({
        "entry": heading.entry,
        "at": rfc3339(heading.ts_ms),
        "at_ms": heading.ts_ms,
        "alert": heading.code,
        "of": heading.of,
        "says": says,
        "marks": listed.marks,
        "closed_by": listed.item.closed_by,
    })
}

fn entry(text: &str) -> Result<u64, Problem> {
    let wrong = "entry: must be the number of an entry";
    let entry = text.parse();
    entry.map_err(|_| Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", wrong))
}

fn no_such_item() -> Problem {
    Problem::malformed(
        StatusCode::NOT_FOUND,
        "not-found",
        "entry: is no item of the worklist",
    )
}

/// `GET /reviews/{entry}`: one item in full, with names and roles as they were.
pub(super) async fn item(
    State(app): State<Shared>,
    client: Client,
    Path(text): Path<String>,
) -> Response {
    say(looked(&app, &client, &text).await)
}

async fn looked(app: &Shared, client: &Client, text: &str) -> Result<Response, Problem> {
    match app.gateway.item(client.certified(), entry(text)?).await? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(None, _) => Err(no_such_item()),
        Answer::Done(
            Some(Looked {
                listed,
                line,
                explanation,
            }),
            receipt,
        ) => {
            let explanation = match explanation {
                Explanation::Found(it) => {
                    json!({ "found": true, "type": it.kind.code(), "reference": it.reference })
                }
                Explanation::Missing => json!({ "found": false }),
                Explanation::Unknown => json!({ "found": null }),
                Explanation::None => Value::Null,
            };
            let access = line.map(|line| line.told);
            let body =
                json!({ "item": heading(&listed), "access": access, "explanation": explanation });
            Ok(done(&body, &receipt))
        }
    }
}

/// What an officer sends to close an item.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found {
    finding: String,
    #[serde(default)]
    note: String,
}

/// `POST /reviews/{entry}` with `{"finding","note"}`: closes an item.
pub(super) async fn close(
    State(app): State<Shared>,
    client: Client,
    Path(text): Path<String>,
    raw: Body,
) -> Response {
    say(closed(&app, &client, &text, raw).await)
}

async fn closed(app: &Shared, client: &Client, text: &str, raw: Body) -> Result<Response, Problem> {
    let malformed =
        |text: String| Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text);
    let item = entry(text)?;
    let bytes = body(raw, limits::FORM_BYTES).await?;
    let closing: Found = object_of(&bytes).map_err(|_| {
        malformed("the body must be JSON with finding and note, and no other member".to_owned())
    })?;
    let finding = Finding::try_from(closing.finding.as_str())
        .map_err(|error| malformed(format!("finding: must be {}", error.rule)))?;
    let note = closing.note;
    if note.chars().count() > NOTE_CHARS || note.chars().any(char::is_control) {
        return Err(malformed(
            "note: must be at most 500 characters, none of them a control character".to_owned(),
        ));
    }
    let review = policy::Review {
        item,
        finding,
        note,
    };
    match app.gateway.close_item(client.certified(), review).await? {
        Closing::Refused(receipt) => Err(Problem::Refused(receipt)),
        Closing::NoItem => Err(no_such_item()),
        Closing::ClosedAlready => {
            let text = "entry: is closed already";
            Err(Problem::malformed(StatusCode::CONFLICT, "conflict", text))
        }
        Closing::Done(receipt) => {
            let body =
                json!({ "entry": item, "finding": finding.code(), "closed_by": receipt.index() });
            Ok(done(&body, &receipt))
        }
    }
}
