//! The table of routes, and who may come in: a certificate that a client registered, within that client's
//! budget. One file a protocol; `answer` alone makes responses. This room never reaches a key.

mod admin;
mod agreement;
mod answer;
mod browser;
mod budget;
mod consistency;
mod described;
mod feed;
mod fhir;
mod gate;
mod key_acts;
pub mod limits;
mod log;
mod oauth;
mod openapi;
mod operations;
mod oversight;
mod page;
mod providers;
mod serve;
mod who_could;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post, put};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, SizeHint};
use policy::Caller;
use serde::de::DeserializeOwned;

pub use budget::Budgets;
pub use gate::{Bell, Gate, Leaving};
pub use openapi::openapi;
pub use operations::{beside, operations};
pub use serve::{Serving, TlsError, listen, serve, tls};

use crate::caller::{self, NotAuthenticated, Peer};
use crate::facts::Registered;
use crate::gateway::Gateway;
use answer::Problem;
use budget::{Place, Spent, Turn};

/// What every handler shares.
pub struct App {
    /// The gateway.
    pub gateway: Gateway,
    /// The budgets of its clients.
    pub budgets: Budgets,
    /// Rung to seal it; none where nobody could unseal it again.
    pub bell: Option<Bell>,
}

/// Shared state.
pub type Shared = Arc<App>;

/// Every route of the gateway: method and path. `tests/routes.rs` plays each of them, and `described` says what it
/// takes and answers.
pub const ROUTES: &[(&str, &str)] = &[
    ("GET", "/openapi.json"),
    ("POST", "/oauth/token"),
    ("POST", "/oauth/revoke"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/.well-known/smart-configuration"),
    ("GET", "/.well-known/jwks.json"),
    ("GET", "/fhir/metadata"),
    ("POST", "/fhir"),
    ("GET", "/fhir/{kind}"),
    ("GET", "/fhir/{kind}/{id}"),
    ("PUT", "/fhir/{kind}/{id}"),
    ("DELETE", "/fhir/{kind}/{id}"),
    ("GET", "/fhir/Patient/{nhs}/$everything"),
    ("GET", "/agreements"),
    ("PUT", "/agreements/{practice}/{organisation}/{reference}"),
    (
        "DELETE",
        "/agreements/{practice}/{organisation}/{reference}",
    ),
    (
        "POST",
        "/agreements/{practice}/{organisation}/{reference}/accept",
    ),
    ("GET", "/practices/{practice}"),
    ("PUT", "/practices/{practice}"),
    ("PUT", "/practices/{practice}/clients/{client}"),
    ("DELETE", "/practices/{practice}/clients/{client}"),
    ("GET", "/practices/{practice}/register"),
    ("PUT", "/practices/{practice}/register/{reference}"),
    ("DELETE", "/practices/{practice}/register/{reference}"),
    ("POST", "/feed/objections"),
    ("GET", "/feed/objections/status"),
    ("PUT", "/feed/objections/settings"),
    ("GET", "/log/checkpoint"),
    ("GET", "/log/tile/{*path}"),
    ("GET", "/log/consistency"),
    ("POST", "/who-could"),
    ("GET", "/log/witnessed"),
    ("GET", "/history"),
    ("GET", "/notices"),
    ("GET", "/reviews"),
    ("GET", "/reviews/{entry}"),
    ("POST", "/reviews/{entry}"),
    ("GET", "/auditor"),
    ("GET", "/auditor/state"),
    ("GET", "/auditor/{file}"),
    ("GET", "/admin/keys"),
    ("GET", "/admin/keys/{key}"),
    ("POST", "/admin/keys/{key}/rotate"),
    ("POST", "/admin/keys/{key}/announce"),
    ("POST", "/admin/keys/{key}/activate"),
    ("POST", "/admin/keys/{key}/retire"),
    ("GET", "/admin/erasures"),
    ("POST", "/admin/backup"),
    ("POST", "/admin/seal"),
    ("GET", "/log/bodies/{bundle}"),
    ("POST", "/admin/acts"),
    ("GET", "/admin/status"),
    ("GET", "/admin/directory"),
    ("GET", "/admin/register"),
    ("GET", "/admin/training"),
    ("POST", "/admin/training"),
    ("GET", "/admin/proposals"),
    ("POST", "/admin/proposals/{digest}/approve"),
    ("POST", "/admin/proposals/{digest}/withdraw"),
];

/// The routes.
pub fn router(app: Shared) -> Router {
    Router::new()
        .route("/openapi.json", get(openapi::description))
        .route("/oauth/token", post(oauth::token))
        .route("/oauth/revoke", post(oauth::revoke))
        .route(
            "/.well-known/oauth-authorization-server",
            get(oauth::metadata),
        )
        .route("/.well-known/smart-configuration", get(oauth::smart))
        .route("/.well-known/jwks.json", get(oauth::jwks))
        .route("/fhir/metadata", get(fhir::metadata))
        .route("/fhir", post(fhir::bundle))
        .route("/fhir/{kind}", get(fhir::search))
        .route(
            "/fhir/{kind}/{id}",
            get(fhir::one).put(fhir::put).delete(fhir::withdraw),
        )
        .route("/fhir/Patient/{nhs}/$everything", get(fhir::everything))
        .route("/fhir/Patient/{nhs}/%24everything", get(fhir::everything))
        .route("/agreements", get(agreement::list))
        .route(
            "/agreements/{practice}/{organisation}/{reference}",
            put(agreement::propose).delete(agreement::withdraw),
        )
        .route(
            "/agreements/{practice}/{organisation}/{reference}/accept",
            post(agreement::accept),
        )
        .route(
            "/practices/{practice}",
            get(agreement::settings).put(agreement::set),
        )
        .route(
            "/practices/{practice}/clients/{client}",
            put(agreement::accept_client).delete(agreement::dismiss_client),
        )
        .route(
            "/practices/{practice}/register",
            get(providers::of_practice),
        )
        .route(
            "/practices/{practice}/register/{reference}",
            put(providers::accept).delete(providers::withdraw),
        )
        .route("/feed/objections", post(feed::pass_on))
        .route("/feed/objections/status", get(feed::status))
        .route("/feed/objections/settings", put(feed::settle))
        .route("/log/checkpoint", get(log::checkpoint))
        .route("/log/tile/{*path}", get(log::tile))
        .route("/log/consistency", get(consistency::between))
        .route("/who-could", post(who_could::ask))
        .route("/log/witnessed", get(log::witnessed))
        .route("/history", get(oversight::history))
        .route("/notices", get(oversight::notices))
        .route("/reviews", get(oversight::worklist))
        .route(
            "/reviews/{entry}",
            get(oversight::item).post(oversight::close),
        )
        .route(page::DOCUMENT, get(page::document))
        .route("/auditor/state", get(page::state))
        .route("/auditor/{file}", get(page::file))
        .route("/admin/keys", get(key_acts::all))
        .route("/admin/keys/{key}", get(key_acts::one))
        .route("/admin/keys/{key}/rotate", post(key_acts::rotate))
        .route("/admin/keys/{key}/announce", post(key_acts::announce))
        .route("/admin/keys/{key}/activate", post(key_acts::activate))
        .route("/admin/keys/{key}/retire", post(key_acts::retire))
        .route("/admin/erasures", get(key_acts::erasures))
        .route("/admin/backup", post(key_acts::backup))
        .route("/admin/seal", post(key_acts::seal))
        .route("/log/bodies/{bundle}", get(log::bodies))
        .route("/admin/acts", post(admin::act))
        .route("/admin/status", get(admin::status))
        .route("/admin/directory", get(admin::directory))
        .route("/admin/register", get(providers::of_keeper))
        .route("/admin/training", get(admin::training).post(admin::import))
        .route("/admin/proposals", get(admin::proposals))
        .route("/admin/proposals/{digest}/approve", post(admin::approve))
        .route("/admin/proposals/{digest}/withdraw", post(admin::withdraw))
        .fallback(nothing)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(limits::FORM_BYTES))
        .layer(from_fn_with_state(Arc::clone(&app), consistency::attach))
        .layer(from_fn(bounded))
        .with_state(app)
}

/// A target that is longer than any honest one is not looked at.
async fn bounded(request: Request, next: Next) -> Response {
    if !decodes(request.uri().path()) {
        let text = "the path is not percent-encoded UTF-8";
        let problem = Problem::malformed(StatusCode::BAD_REQUEST, "invalid", text);
        return problem.said_at(request.uri().path());
    }
    let target = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target > limits::TARGET_BYTES {
        return Problem::malformed(
            StatusCode::URI_TOO_LONG,
            "too-long",
            "the path and query have more than 4096 bytes",
        )
        .said_at(request.uri().path());
    }
    next.run(request).await
}

/// Whether a path is what percent-encoding makes of UTF-8 (RFC 3986 §2.1).
fn decodes(path: &str) -> bool {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let pair = (rest.next().map(char::from), rest.next().map(char::from));
        let digit = |digit: Option<char>| digit.and_then(|digit| digit.to_digit(16));
        match (digit(pair.0), digit(pair.1)) {
            (Some(high), Some(low)) => bytes.extend(u8::try_from(high * 16 + low)),
            _ => return false,
        }
    }
    std::str::from_utf8(&bytes).is_ok()
}

async fn nothing(_client: Client, target: Uri) -> Response {
    let text = "there is no such path here; see /openapi.json";
    let code = if is_fhir(target.path()) {
        "not-supported"
    } else {
        "not-found"
    };
    Problem::malformed(StatusCode::NOT_FOUND, code, text).said_at(target.path())
}

async fn no_such_method(_client: Client, method: Method, target: Uri) -> Response {
    let text = format!("this path does not take {method}");
    Problem::malformed(StatusCode::METHOD_NOT_ALLOWED, "not-supported", text).said_at(target.path())
}

/// Which side a path is on, and so how it is answered there.
fn is_fhir(path: &str) -> bool {
    path == "/fhir" || path.starts_with("/fhir/")
}

/// A registered client within its budget, known by its certificate.
pub struct Client {
    registered: Arc<Registered>,
    peer: Peer,
    _turn: Turn,
}

impl FromRequestParts<Shared> for Client {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let say = |problem: Problem| problem.said_at(parts.uri.path());
        let stranger = || {
            app.budgets.stranger();
            say(Problem::NotAuthenticated(
                "no client is registered with this certificate",
            ))
        };
        let peer = parts
            .extensions
            .get::<Peer>()
            .copied()
            .ok_or_else(stranger)?;
        let registered = match caller::registered(&app.gateway.facts().register(), peer) {
            Ok(registered) => registered,
            Err(NotAuthenticated::Stranger | NotAuthenticated::NotBelieved(..)) => {
                return Err(stranger());
            }
            Err(NotAuthenticated::Directory) => {
                let text = "the directory is unknown; nobody is served";
                return Err(say(Problem::Unavailable(text)));
            }
            Err(NotAuthenticated::Suspended(client)) => {
                let turn = app
                    .budgets
                    .take(client.as_str(), app.gateway.clock().now_ms());
                let _until_recorded = turn.map_err(|_| say(Problem::Spent))?;
                let recorded = app.gateway.not_believed(client.as_str(), "suspended").await;
                return Err(say(recorded.map_or_else(Problem::from, Problem::Refused)));
            }
        };
        let turn = app
            .budgets
            .take(registered.id.as_str(), app.gateway.clock().now_ms());
        let turn = turn.map_err(|_| say(Problem::Spent))?;
        if browser::asks_for_another(parts, page::DOCUMENT) {
            let (id, why) = (registered.id.as_str(), "a browser asked for another site");
            let recorded = app.gateway.not_believed(id, why).await;
            return Err(say(recorded.map_or_else(Problem::from, Problem::Refused)));
        }
        if app.gateway.is_held() && !answers_held(parts.uri.path()) {
            let text = "this gateway was put back from a backup; two administrators must acknowledge that first";
            return Err(say(Problem::Unavailable(text)));
        }
        Ok(Self {
            registered,
            peer,
            _turn: turn,
        })
    }
}

/// What is answered while nobody has acknowledged that a backup was put back: whoever can do it, and who checks the log.
fn answers_held(path: &str) -> bool {
    ["/admin/", "/log/", page::DOCUMENT]
        .iter()
        .any(|begin| path.starts_with(begin))
}

impl Client {
    /// This client as a caller by certificate alone.
    #[must_use]
    pub fn certified(&self) -> Caller {
        caller::by_certificate(&self.registered, self.peer)
    }
}

/// A caller by certificate and access token: the argument without which nothing of a patient can be asked.
pub struct Bearer {
    caller: Caller,
    _client: Client,
}

impl FromRequestParts<Shared> for Bearer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Response> {
        let client = Client::from_request_parts(parts, app).await?;
        let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
        let header = headers.next().filter(|_| headers.next().is_none());
        let token = header
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .and_then(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer").then_some(token));
        let now_ms = app.gateway.clock().now_ms();
        let caller = match token {
            Some(text) => caller::by_token(
                &client.registered,
                client.peer,
                app.gateway.tokens(),
                text,
                now_ms,
            ),
            None => Err(NotAuthenticated::Stranger),
        };
        let said = match caller {
            Ok(caller) => {
                return Ok(Self {
                    caller,
                    _client: client,
                });
            }
            Err(NotAuthenticated::Stranger) => "an access token is required",
            Err(_) => "the access token is not valid here",
        };
        let say = |problem: Problem| {
            if is_fhir(parts.uri.path()) {
                problem.fhir()
            } else {
                problem.bearer()
            }
        };
        let recorded = record_disbelief(app, client.registered.id.as_str(), said).await;
        Err(say(recorded
            .err()
            .unwrap_or(Problem::NotAuthenticated(said))))
    }
}

impl Bearer {
    /// Keeps the client's share of the queue, and the answer's room in memory, taken until it is sent. If there is
    /// no room the answer is dropped: the ledger has its entry, and nothing of it left.
    fn hold(self, app: &Shared, response: Response) -> Response {
        let (client, bytes) = (&self._client.registered.id, response.body().size_hint());
        match app.budgets.answer(client.as_str(), bytes.lower()) {
            Ok(place) => response.map(|body| {
                axum::body::Body::new(Holding {
                    body,
                    _until_sent: (self, place),
                })
            }),
            Err(Spent) => Problem::Spent.fhir(),
        }
    }
}

/// A body that holds its caller's share until it is sent. Why not a mapped one: that would forget its length,
/// and a refusal of a read would not look like any other.
struct Holding {
    body: axum::body::Body,
    _until_sent: (Bearer, Place),
}

impl Body for Holding {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A registered client that is not believed is an entry; if it cannot be recorded, that is said instead.
async fn record_disbelief(app: &Shared, client: &str, why: &str) -> Result<(), Problem> {
    app.gateway
        .not_believed(client, why)
        .await
        .map(drop)
        .map_err(Problem::from)
}

/// A body, whole, within its bytes and its time.
async fn body(mut body: axum::body::Body, limit: usize) -> Result<bytes::Bytes, Problem> {
    let too_large = || {
        Problem::malformed(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            format!("the body has more than {limit} bytes, or ended early"),
        )
    };
    // Why: a length that is too large is said soon, not after all of it was waited for.
    if body.size_hint().lower() > limit as u64 {
        pass_over(&mut body).await;
        return Err(too_large());
    }
    let whole = Limited::new(&mut body, limit).collect();
    match tokio::time::timeout(limits::BODY_TIME, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(_)) => {
            pass_over(&mut body).await;
            Err(too_large())
        }
        Err(_) => Err(Problem::malformed(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the body took longer than 60 seconds",
        )),
    }
}

/// A JSON object as this form. Why not serde alone: it takes an array for a form, by the order of its members.
fn object_of<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err("must be a JSON object".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Takes in what nobody wants, within bounds. Why: HTTP/1.1 closes on what was left unread, and whoever still sends
/// then sees a broken connection instead of the answer.
async fn pass_over(body: &mut axum::body::Body) {
    let all = async {
        let mut left = limits::PASSED_OVER_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, bytes::Bytes::len);
            let Some(less) = left.checked_sub(length) else {
                break;
            };
            left = less;
        }
    };
    let _ = tokio::time::timeout(limits::PASSED_OVER_TIME, all).await;
}
