//! The token endpoint and what describes it: RFC 6749 §4.4 with RFC 7523, RFC 8705 and RFC 9396; metadata
//! after RFC 8414 and SMART App Launch; keys as a JWK Set.

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use serde_json::{Value, json};

use super::answer::{Problem, issued, json_response, with_receipt};
use super::{Client, Shared, body, limits, record_disbelief};
use crate::caller::{self, NotAuthenticated};
use crate::gateway::Issue;
use crate::ledger::Open;
use crate::token::{TOKEN_SECONDS, scope_of};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A form whose members each stand once.
struct Form(Vec<(String, String)>);

impl Form {
    async fn read(headers: &HeaderMap, raw: Body) -> Result<Self, Problem> {
        let form = headers
            .get(CONTENT_TYPE)
            .and_then(|value: &HeaderValue| value.to_str().ok());
        if !form.is_some_and(|value| {
            value
                .trim()
                .to_ascii_lowercase()
                .starts_with("application/x-www-form-urlencoded")
        }) {
            return Err(invalid(
                "Content-Type must be application/x-www-form-urlencoded",
            ));
        }
        let bytes = body(raw, limits::FORM_BYTES).await?;
        let pairs: Vec<(String, String)> =
            serde_urlencoded::from_bytes(&bytes).map_err(|_| invalid("the body must be a form"))?;
        let mut seen = std::collections::BTreeSet::new();
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !seen.insert(name.as_str())) {
            return Err(invalid(&format!("{name}: stands twice (RFC 6749 §3.2)")));
        }
        Ok(Self(pairs))
    }

    fn get(&self, name: &str) -> Result<&str, Problem> {
        let found = self.0.iter().find(|(member, _)| member == name);
        found
            .map(|(_, value)| value.as_str())
            .ok_or_else(|| invalid(&format!("{name}: is required")))
    }

    fn exactly(&self, name: &str, value: &str) -> Result<(), Problem> {
        if self.get(name)? == value {
            Ok(())
        } else {
            Err(invalid(&format!("{name}: must be {value}")))
        }
    }
}

fn invalid(text: &str) -> Problem {
    Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text)
}

/// `POST /oauth/token`
pub(super) async fn token(
    State(app): State<Shared>,
    client: Client,
    headers: HeaderMap,
    raw: Body,
) -> Response {
    match issue(&app, &client, &headers, raw).await {
        Ok(response) => response,
        Err(problem) => problem.oauth(),
    }
}

async fn issue(
    app: &Shared,
    client: &Client,
    headers: &HeaderMap,
    raw: Body,
) -> Result<Response, Problem> {
    let form = Form::read(headers, raw).await?;
    if form.get("grant_type")? != "client_credentials" {
        return Err(Problem::malformed(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            "grant_type: must be client_credentials",
        ));
    }
    let now_ms = app.gateway.clock().now_ms();
    let (caller, assertion) = believed(app, client, &form, now_ms).await?;
    let details = form.get("authorization_details")?;
    let scope =
        one_detail(details).and_then(|detail| scope_of(&detail).map_err(|why| why.0.to_owned()));
    let scope = scope.map_err(|text| {
        Problem::malformed(
            StatusCode::BAD_REQUEST,
            "invalid_authorization_details",
            text,
        )
    })?;
    use_up(app, client, &assertion, now_ms).await?;
    match app.gateway.issue(caller, scope, &assertion).await? {
        Issue::Done(token, receipt) => Ok(issued(&token, &receipt)),
        Issue::Refused(receipt) => Err(Problem::Refused(receipt)),
        Issue::Capped(receipt, wait_s) => Err(Problem::Capped(receipt, wait_s)),
    }
}

/// The caller behind certificate and assertion; the assertion is not used up yet.
async fn believed(
    app: &Shared,
    client: &Client,
    form: &Form,
    now_ms: u64,
) -> Result<(policy::Caller, crate::token::Assertion), Problem> {
    form.exactly("client_assertion_type", ASSERTION_TYPE)?;
    // RFC 7521 §4.2: client_id may be left out; the assertion's subject says it.
    let claimed = form
        .get("client_id")
        .unwrap_or_else(|_| client.registered.id.as_str());
    let pair = (claimed, form.get("client_assertion")?);
    let tokens = app.gateway.tokens();
    let believed =
        caller::by_assertion(&client.registered, client.peer, tokens, pair, now_ms / 1000);
    let why = match believed {
        Ok(believed) => return Ok(believed),
        Err(NotAuthenticated::NotBelieved(_, why)) => why.0,
        Err(
            NotAuthenticated::Stranger
            | NotAuthenticated::Directory
            | NotAuthenticated::Suspended(_),
        ) => "client_id: is not known",
    };
    record_disbelief(app, client.registered.id.as_str(), why).await?;
    Err(Problem::NotAuthenticated(why))
}

/// Uses the assertion up. Why only now: what follows is recorded with it, so that it stays used up across a
/// restart; a request that came to nothing for its form has used nothing.
async fn use_up(
    app: &Shared,
    client: &Client,
    assertion: &crate::token::Assertion,
    now_ms: u64,
) -> Result<(), Problem> {
    if app.gateway.tokens().use_up(assertion, now_ms) {
        return Ok(());
    }
    let why = "client_assertion: its jti was used before";
    record_disbelief(app, client.registered.id.as_str(), why).await?;
    Err(Problem::NotAuthenticated(why))
}

/// RFC 9396 allows several; here it is exactly one, so that one token is for one patient and one purpose.
fn one_detail(text: &str) -> Result<Value, String> {
    let one =
        "authorization_details: must be a JSON array of exactly one object, no member name twice";
    crate::fhir::json::Document::parse(text.as_bytes())
        .map_err(|error| format!("authorization_details: {error}"))?;
    match serde_json::from_str::<Vec<Value>>(text) {
        Ok(mut details) if details.len() == 1 => details.pop().ok_or_else(|| one.to_owned()),
        Ok(_) | Err(_) => Err(one.to_owned()),
    }
}

/// `POST /oauth/revoke` (RFC 7009): the caller's own token, dead at the next request.
pub(super) async fn revoke(
    State(app): State<Shared>,
    client: Client,
    headers: HeaderMap,
    raw: Body,
) -> Response {
    match revoked(&app, &client, &headers, raw).await {
        Ok(response) => response,
        Err(problem) => problem.oauth(),
    }
}

async fn revoked(
    app: &Shared,
    client: &Client,
    headers: &HeaderMap,
    raw: Body,
) -> Result<Response, Problem> {
    let form = Form::read(headers, raw).await?;
    let now_ms = app.gateway.clock().now_ms();
    let (_caller, assertion) = believed(app, client, &form, now_ms).await?;
    let text = form.get("token")?;
    use_up(app, client, &assertion, now_ms).await?;
    let caller = caller::by_token(
        &client.registered,
        client.peer,
        app.gateway.tokens(),
        text,
        now_ms,
    );
    // RFC 7009 §2.2: a token that is not valid is answered, and recorded, like one that was revoked.
    let token = caller.as_ref().ok().and_then(policy::Caller::token);
    let receipt = app.gateway.revoke(&assertion, token).await?;
    let answer = json_response(StatusCode::OK, &json!({}));
    Ok(with_receipt(answer, &receipt, Open::All))
}

/// `GET /.well-known/oauth-authorization-server` (RFC 8414)
pub(super) async fn metadata(State(app): State<Shared>, _client: Client) -> Response {
    json_response(StatusCode::OK, &described(app.gateway.tokens().issuer()))
}

/// `GET /.well-known/smart-configuration` (SMART App Launch 2.2, backend services)
pub(super) async fn smart(State(app): State<Shared>, _client: Client) -> Response {
    let mut value = described(app.gateway.tokens().issuer());
    if let Some(object) = value.as_object_mut() {
        object.insert(
            "capabilities".to_owned(),
            json!(["client-confidential-asymmetric"]),
        );
    }
    json_response(StatusCode::OK, &value)
}

fn described(issuer: &str) -> Value {
    let token = format!("{issuer}/oauth/token");
    let revoke = format!("{issuer}/oauth/revoke");
    json!({
        "issuer": issuer,
        "token_endpoint": token,
        "revocation_endpoint": revoke,
        "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256", "Ed25519", "EdDSA"],
        "revocation_endpoint_auth_methods_supported": ["private_key_jwt"],
        "revocation_endpoint_auth_signing_alg_values_supported": ["ES256", "Ed25519", "EdDSA"],
        "authorization_details_types_supported": ["patient_record", "deposit", "consent", "objections", "agreement", "relationship", "history"],
        "tls_client_certificate_bound_access_tokens": true,
        "mtls_endpoint_aliases": { "token_endpoint": token, "revocation_endpoint": revoke },
        "access_token_lifetime_seconds": TOKEN_SECONDS,
    })
}

/// `GET /.well-known/jwks.json` (RFC 7517 §5): active and retired verification keys.
pub(super) async fn jwks(State(app): State<Shared>, _client: Client) -> Response {
    let keys: Vec<Value> = app
        .gateway
        .vault()
        .published()
        .iter()
        .filter_map(|key| serde_json::from_str(key).ok())
        .collect();
    json_response(StatusCode::OK, &json!({ "keys": keys }))
}
