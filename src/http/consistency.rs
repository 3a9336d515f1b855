//! That the log only ever grows, in the answers themselves: a caller says which size it has seen, and every answer with
//! a receipt brings the proof that what it saw is still the beginning of what its receipt stands under. Who asks
//! for nothing gets nothing. Nothing here is decided: what is proven are hashes, which tell nobody anything.

use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::answer::{Problem, Under, json_response, with_header};
use super::{Client, Shared};
use crate::ledger::tree::Hash;

/// The size of the last checkpoint that the caller has checked.
static SEEN: HeaderName = HeaderName::from_static("sallyport-seen");
/// That size again, and the hashes of the proof.
static CONSISTENCY: HeaderName = HeaderName::from_static("sallyport-consistency");

/// Adds the proof to an answer whose caller says what it has seen.
pub(super) async fn attach(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let seen = match seen(request.headers()) {
        Ok(seen) => seen,
        Err(problem) if request.uri().path().starts_with("/fhir") => return problem.fhir(),
        Err(problem) => return problem.oauth(),
    };
    let response = next.run(request).await;
    let under = response.extensions().get::<Under>().copied();
    let (Some(seen), Some(Under(size))) = (seen, under) else {
        return response;
    };
    match app.gateway.ledger().consistency_between(seen, size) {
        Ok(Some(path)) => {
            let hashes: String = path
                .iter()
                .map(|hash| format!(" {}", STANDARD.encode(hash)))
                .collect();
            with_header(response, CONSISTENCY.clone(), &format!("{seen}{hashes}"))
        }
        // Why no more than nothing: whoever has seen more than there is has found what it looks for.
        Ok(None) => response,
        Err(error) => {
            tracing::error!(%error, "no proof of consistency could be made");
            response
        }
    }
}

/// What the caller says it has seen.
fn seen(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut values = headers.get_all(&SEEN).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let size = value.to_str().ok().and_then(size_of);
    let size = size.filter(|_| values.next().is_none());
    size.map(Some).ok_or_else(|| {
        let text = "Sallyport-Seen: must stand once, and be the size of a checkpoint";
        Problem::malformed(StatusCode::BAD_REQUEST, "invalid", text)
    })
}

fn size_of(text: &str) -> Option<u64> {
    let size = text.parse::<u64>().ok()?;
    (size > 0 && size.to_string() == text).then_some(size)
}

/// `GET /log/consistency?from=SIZE&to=SIZE`
pub(super) async fn between(
    State(app): State<Shared>,
    _client: Client,
    RawQuery(query): RawQuery,
) -> Response {
    match proof(&app, query.as_deref().unwrap_or_default()) {
        Ok(response) => response,
        Err(problem) => problem.oauth(),
    }
}

fn proof(app: &Shared, query: &str) -> Result<Response, Problem> {
    let wrong = |text| Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text);
    let form = "the query takes from and to, each once, each the size of a checkpoint";
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(query).map_err(|_| wrong(form))?;
    let (mut from, mut to) = (None, None);
    for (name, value) in &pairs {
        let slot = match name.as_str() {
            "from" => &mut from,
            "to" => &mut to,
            _ => return Err(wrong(form)),
        };
        let size = size_of(value).ok_or_else(|| wrong(form))?;
        if slot.replace(size).is_some() {
            return Err(wrong(form));
        }
    }
    let (Some(from), Some(to)) = (from, to) else {
        return Err(wrong(form));
    };
    let found = app.gateway.ledger().consistency_between(from, to);
    let path: Vec<Hash> = match found {
        Ok(Some(path)) => path,
        Ok(None) => {
            let text = "from must not be above to, and so many entries must be signed";
            return Err(Problem::malformed(StatusCode::NOT_FOUND, "not-found", text));
        }
        Err(error) => {
            tracing::error!(%error, "no proof of consistency could be made");
            return Err(Problem::Unavailable("the published log cannot be read"));
        }
    };
    let hashes: Vec<String> = path.iter().map(|hash| STANDARD.encode(hash)).collect();
    let body = json!({ "from": from, "to": to, "consistency": hashes });
    Ok(json_response(StatusCode::OK, &body))
}
