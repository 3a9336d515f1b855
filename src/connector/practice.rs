//! `sallyport connect practice`: takes a practice's records over loopback or from a folder, deposits them, passes on
//! relationships and numbered objections, and demands a receipt for each that names these very bytes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use bytes::Bytes;
use policy::words::NhsNumber;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::asking::Asking;
use super::feed::Feed;
use super::said::{ENTRY, Trouble, fhir, outcome, with};
use super::stated;
use crate::connect::Reply;
use crate::fhir::outcome::IssueCode;
use crate::fhir::resource::{FhirId, FhirVersion, ResourceType};
use crate::fhir::subject::NHS_NUMBER_SYSTEMS;

/// As much as the gateway takes in one deposit.
const DEPOSIT_BYTES: usize = 16 * 1024 * 1024;
/// How often the gateway hears how far the objections have come: three times in the hour after which silence counts.
const BEAT: Duration = Duration::from_secs(20 * 60);
const FORM_BYTES: usize = 1024 * 1024;

/// The practice's side.
pub(super) struct Practice {
    pub(super) asking: Arc<Asking>,
    feed: Feed,
    news: tokio::sync::Notify,
}

/// What is deposited.
pub(super) enum Filing {
    /// A file: a Bundle, or one resource with an id.
    Sniffed(FhirVersion),
    /// `POST /fhir`.
    Bundle(FhirVersion),
    /// `PUT /fhir/TYPE/ID`.
    One(FhirVersion, String),
}

/// The gateway's answer, as JSON, and the entry that receipts it.
pub(super) type Filed = (Value, Option<u64>);

type Shared = Arc<Practice>;

pub(super) fn router(practice: Shared) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/fhir", post(bundle))
        .route("/fhir/{kind}/{id}", put(one).delete(withdraw))
        .route("/objections", post(objections))
        .fallback(nothing)
        .with_state(practice)
}

async fn nothing() -> Response {
    let text =
        "served here: POST /fhir, PUT and DELETE /fhir/TYPE/ID, POST /objections, GET /health";
    outcome(StatusCode::NOT_FOUND, IssueCode::NotFound, text)
}

async fn health(State(practice): State<Shared>) -> Response {
    let (proven, waiting) = practice.asking.watch.standing();
    let distrust = practice.asking.watch.distrust();
    let body = json!({
        "status": if distrust.is_some() { "stopped" } else { "serving" },
        "why": distrust,
        "objections": practice.feed.state(),
        "log": { "proven_entries": proven, "checkpoints_to_prove": waiting },
    });
    let status = match distrust {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    fhir(status, "application/json", body.to_string().into())
}

/// The version of a body; plain JSON is taken for R4.
fn version(headers: &HeaderMap) -> Result<FhirVersion, Trouble> {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    match media.unwrap_or_default() {
        "application/json" => Ok(FhirVersion::R4),
        media => FhirVersion::from_content_type(media).map_err(|error| {
            let (status, code) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, IssueCode::NotSupported);
            Trouble::Request(status, code, format!("Content-Type: {error}"))
        }),
    }
}

async fn whole(body: Body, bytes_max: usize) -> Result<Bytes, Trouble> {
    let bytes = to_bytes(body, bytes_max).await;
    bytes.map_err(|_| {
        let (status, code) = (StatusCode::PAYLOAD_TOO_LARGE, IssueCode::TooLong);
        Trouble::Request(
            status,
            code,
            format!("the body has more than {bytes_max} bytes"),
        )
    })
}

/// `POST /fhir`: a Bundle.
async fn bundle(State(practice): State<Shared>, headers: HeaderMap, body: Body) -> Response {
    let answer = async {
        let (version, patient) = (version(&headers)?, stated::patient(&headers)?);
        let bytes = whole(body, DEPOSIT_BYTES).await?;
        practice
            .deposit(Filing::Bundle(version), patient, bytes)
            .await
    };
    passed_on(answer.await)
}

/// `PUT /fhir/{kind}/{id}`: one resource.
async fn one(
    State(practice): State<Shared>,
    headers: HeaderMap,
    Path((kind, id)): Path<(String, String)>,
    body: Body,
) -> Response {
    let answer = async {
        let (version, patient) = (version(&headers)?, stated::patient(&headers)?);
        let name = name(&kind, &id)?;
        let bytes = whole(body, DEPOSIT_BYTES).await?;
        practice
            .deposit(Filing::One(version, name), patient, bytes)
            .await
    };
    passed_on(answer.await)
}

/// `DELETE /fhir/{kind}/{id}`: withdrawn; it is released no further.
async fn withdraw(
    State(practice): State<Shared>,
    headers: HeaderMap,
    Path((kind, id)): Path<(String, String)>,
) -> Response {
    let answer = async {
        let path = format!("/fhir/{}", name(&kind, &id)?);
        let details = practice.details("deposit", stated::patient(&headers)?.as_ref());
        let sent = (Method::DELETE, path.as_str(), &[][..], Bytes::new());
        practice.asking.act(sent, &details, None, &[]).await
    };
    passed_on(answer.await)
}

/// `POST /objections`: events without numbers, one JSON object a line.
async fn objections(State(practice): State<Shared>, body: Body) -> Response {
    let answer = async {
        let bytes = whole(body, FORM_BYTES).await?;
        practice.object(&bytes)
    };
    match answer.await {
        Ok((told, _)) => fhir(
            StatusCode::ACCEPTED,
            "application/json",
            told.to_string().into(),
        ),
        Err(trouble) => trouble.into_response(),
    }
}

fn name(kind: &str, id: &str) -> Result<String, Trouble> {
    let kind = ResourceType::try_from(kind)
        .map_err(|error| Trouble::bad(format!("the path's resource type: {error}")))?;
    let id =
        FhirId::try_from(id).map_err(|error| Trouble::bad(format!("the path's id: {error}")))?;
    Ok(format!("{kind}/{id}"))
}

/// The gateway's own answer, with the entry that receipts it.
fn passed_on(answer: Result<(Reply, u64), Trouble>) -> Response {
    match answer {
        Err(trouble) => trouble.into_response(),
        Ok((reply, entry)) => {
            let media = reply
                .header("content-type")
                .unwrap_or("application/fhir+json")
                .to_owned();
            let mut response = fhir(reply.status, &media, reply.body.clone());
            for name in [ETAG, LOCATION] {
                if let Some(value) = reply.header(name.as_str()) {
                    response = with(response, name, value);
                }
            }
            with(response, ENTRY.clone(), &entry.to_string())
        }
    }
}

impl Practice {
    pub(super) fn new(asking: Arc<Asking>, feed: Feed) -> Self {
        let news = tokio::sync::Notify::new();
        // Why: the feed is told at start, so that what was numbered before a kill arrives.
        news.notify_one();
        Self { asking, feed, news }
    }

    fn details(&self, kind: &str, patient: Option<&NhsNumber>) -> Value {
        let practice = self.asking.party.client_id.as_str();
        match patient {
            Some(patient) => {
                json!({ "type": kind, "practice": practice, "patient": patient.as_str() })
            }
            None => json!({ "type": kind, "practice": practice }),
        }
    }

    async fn deposit(
        &self,
        filing: Filing,
        patient: Option<NhsNumber>,
        bytes: Bytes,
    ) -> Result<(Reply, u64), Trouble> {
        let (version, method, path) = match filing {
            Filing::Bundle(version) => (version, Method::POST, "/fhir".to_owned()),
            Filing::One(version, name) => (version, Method::PUT, format!("/fhir/{name}")),
            Filing::Sniffed(version) => match sniffed(&bytes)? {
                Some(name) => (version, Method::PUT, format!("/fhir/{name}")),
                None => (version, Method::POST, "/fhir".to_owned()),
            },
        };
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let details = self.details("deposit", patient.as_ref());
        let headers = [("content-type", version.media_type())];
        let wanted = [("object", "/digest", digest.as_str())];
        let sent = (method, path.as_str(), &headers[..], bytes);
        self.asking
            .act(sent, &details, Some("record.deposit"), &wanted)
            .await
    }

    /// Deposits a file.
    pub(super) async fn file(
        &self,
        filing: Filing,
        patient: Option<NhsNumber>,
        bytes: Bytes,
    ) -> Result<Filed, Trouble> {
        let (reply, entry) = self.deposit(filing, patient, bytes).await?;
        Ok((reply.json(), Some(entry)))
    }

    /// Passes on who cares for a patient: a ServiceRequest, Encounter, Appointment or EpisodeOfCare.
    pub(super) async fn relate(&self, bytes: Bytes) -> Result<Filed, Trouble> {
        let resource: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Trouble::bad(format!("is not JSON: {error}")))?;
        let name =
            sniffed(&bytes)?.ok_or_else(|| Trouble::bad("a relationship is one resource"))?;
        let patient = patient_of(&resource).ok_or_else(|| {
            Trouble::bad(
                "names no patient by identifier with the system https://fhir.nhs.uk/Id/nhs-number",
            )
        })?;
        let details = self.details("relationship", Some(&patient));
        let headers = [("content-type", FhirVersion::R4.media_type())];
        let path = format!("/fhir/{name}");
        let wanted = [("subject", "/nhs", patient.as_str())];
        let sent = (Method::PUT, path.as_str(), &headers[..], bytes);
        let (reply, entry) = self.asking.act(sent, &details, None, &wanted).await?;
        Ok((reply.json(), Some(entry)))
    }

    /// Numbers objections and has them on disk; they are sent until the gateway has them.
    pub(super) fn object(&self, bytes: &[u8]) -> Result<Filed, Trouble> {
        let text = std::str::from_utf8(bytes).map_err(|_| Trouble::bad("is not UTF-8"))?;
        if self.feed.state() == "not yet asked" {
            return Err(Trouble::NoAnswer(
                "no answer yet about how far the feed has come".to_owned(),
            ));
        }
        let taken = self.feed.take(text).map_err(Trouble::bad)?;
        self.news.notify_one();
        Ok((json!({ "numbered": taken }), None))
    }

    /// Tells the gateway of objections, at once when there are new ones and now and then when there are none.
    pub(super) async fn keep_telling(self: Arc<Self>) {
        let mut wait = BEAT;
        loop {
            let _ = tokio::time::timeout(wait, self.news.notified()).await;
            wait = match self.feed.tell(&self.asking).await {
                Ok(()) => BEAT,
                Err(trouble) => {
                    tracing::warn!(why = trouble.words(), "objections wait to be passed on");
                    Duration::from_secs(10)
                }
            };
        }
    }
}

/// `TYPE/ID` of one resource; `None` for a Bundle.
fn sniffed(bytes: &[u8]) -> Result<Option<String>, Trouble> {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        #[serde(rename = "resourceType", borrow)]
        kind: std::borrow::Cow<'a, str>,
        #[serde(borrow)]
        id: Option<std::borrow::Cow<'a, str>>,
    }
    let head: Head<'_> = serde_json::from_slice(bytes)
        .map_err(|error| Trouble::bad(format!("is not a FHIR resource in JSON: {error}")))?;
    match (head.kind.as_ref(), head.id) {
        ("Bundle", _) => Ok(None),
        (kind, Some(id)) => name(kind, &id).map(Some),
        (kind, None) => Err(Trouble::bad(format!(
            "id: a file that is no Bundle needs one: {kind} has none"
        ))),
    }
}

/// The patient of a relationship, by identifier.
fn patient_of(resource: &Value) -> Option<NhsNumber> {
    let number = |reference: &Value| {
        let identifier = reference.get("identifier")?;
        let system = identifier.get("system")?.as_str()?;
        NHS_NUMBER_SYSTEMS.contains(&system).then_some(())?;
        NhsNumber::try_from(identifier.get("value")?.as_str()?).ok()
    };
    let direct = ["subject", "patient"]
        .iter()
        .filter_map(|name| resource.get(name));
    let actors = resource.get("participant").and_then(Value::as_array);
    let actors = actors
        .into_iter()
        .flatten()
        .filter_map(|it| it.get("actor"));
    direct.chain(actors).find_map(number)
}
