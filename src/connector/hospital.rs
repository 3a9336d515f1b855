//! `sallyport connect hospital`: plain FHIR R4 on loopback for a hospital's own software. Searches with pages, reads by
//! id, `$everything`, a CapabilityStatement; what the gateway released, opened and checked, and nothing kept of it.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use policy::words::NhsNumber;
use serde_json::json;
use tokio::sync::Semaphore;

use super::asking::{Asking, Expected};
use super::bundle::{Frame, Read, resource, searchset, version_of};
use super::said::{ENTRY, Trouble, fhir, outcome, with};
use super::search::Question;
use super::session::Page;
use super::stated::{self, Stated};
use super::{accept, statement};
use crate::connect::{Opened, Record};
use crate::fhir::outcome::IssueCode;
use crate::fhir::resource::{FhirId, FhirVersion, ResourceType};

/// Answers that are fetched and opened at the same time; each may be large.
const UNDER_WAY_MAX: usize = 32;
const FORM_BYTES: usize = 64 * 1024;
/// Stands in every answer, as it stands in the gateway's.
static NOTICE: HeaderName = HeaderName::from_static("sallyport-notice");

/// What the routes share.
pub(super) struct Desk {
    pub(super) asking: Arc<Asking>,
    /// `http://127.0.0.1:PORT/fhir`
    pub(super) base: String,
    places: Semaphore,
}

type Shared = Arc<Desk>;

pub(super) fn router(asking: Arc<Asking>, base: String) -> Router {
    let places = Semaphore::new(UNDER_WAY_MAX);
    let desk = Arc::new(Desk {
        asking,
        base,
        places,
    });
    let everything = get(everything).post(everything);
    let of_all = get(of_named).post(of_named);
    Router::new()
        .route("/health", get(health))
        .route("/fhir", get(page))
        .route("/fhir/metadata", get(metadata))
        .route("/fhir/{kind}", get(search))
        .route("/fhir/{kind}/_search", post(search_by_form))
        .route("/fhir/{kind}/{id}", get(one))
        .route("/fhir/Patient/$everything", of_all.clone())
        .route("/fhir/Patient/%24everything", of_all)
        .route("/fhir/Patient/{nhs}/$everything", everything.clone())
        .route("/fhir/Patient/{nhs}/%24everything", everything)
        .fallback(nothing)
        .method_not_allowed_fallback(no_such_method)
        .with_state(desk)
}

async fn nothing() -> Response {
    let text = "no such path: see GET /fhir/metadata for what is served";
    outcome(StatusCode::NOT_FOUND, IssueCode::NotFound, text)
}

async fn no_such_method() -> Response {
    let text = "records are read here; nothing is written";
    outcome(
        StatusCode::METHOD_NOT_ALLOWED,
        IssueCode::NotSupported,
        text,
    )
}

/// `GET /health`
async fn health(State(desk): State<Shared>) -> Response {
    let (proven, waiting) = desk.asking.watch.standing();
    let distrust = desk.asking.watch.distrust();
    let body = json!({
        "status": if distrust.is_some() { "stopped" } else { "serving" },
        "why": distrust,
        "log": { "proven_entries": proven, "checkpoints_to_prove": waiting },
    });
    let status = match distrust {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    fhir(status, "application/json", body.to_string().into())
}

/// `GET /fhir/metadata`
async fn metadata(State(desk): State<Shared>, headers: HeaderMap) -> Response {
    match accept::version(&headers) {
        Ok(_) => {
            let body = statement::capability_statement(&desk.base).to_string();
            fhir(StatusCode::OK, FhirVersion::R4.media_type(), body.into())
        }
        Err(trouble) => trouble.into_response(),
    }
}

fn say(answer: Result<Response, Trouble>) -> Response {
    answer.unwrap_or_else(axum::response::IntoResponse::into_response)
}

fn kind_of(text: &str) -> Result<ResourceType, Trouble> {
    let kind = ResourceType::try_from(text);
    kind.map_err(|error| Trouble::bad(format!("the path's resource type: {error}")))
}

fn pairs(raw: &str) -> Result<Vec<(String, String)>, Trouble> {
    let pairs = serde_urlencoded::from_str(raw);
    pairs.map_err(|_| Trouble::bad("the query is not application/x-www-form-urlencoded"))
}

/// `GET /fhir/{kind}?…`
async fn search(
    State(desk): State<Shared>,
    headers: HeaderMap,
    Path(kind): Path<String>,
    RawQuery(raw): RawQuery,
) -> Response {
    let answer = async {
        let (kind, pairs) = (kind_of(&kind)?, pairs(raw.as_deref().unwrap_or_default())?);
        if let Some(page) = desk.page(&headers, &pairs).await {
            return page;
        }
        let question = Question::read(Some(kind), stated::patient(&headers)?, pairs)?;
        desk.search(&headers, question).await
    };
    say(answer.await)
}

/// `POST /fhir/{kind}/_search`: the same, with nothing of it in a URL.
async fn search_by_form(
    State(desk): State<Shared>,
    headers: HeaderMap,
    Path(kind): Path<String>,
    RawQuery(raw): RawQuery,
    body: Body,
) -> Response {
    let answer = async {
        let mut all = pairs(raw.as_deref().unwrap_or_default())?;
        all.extend(form(&headers, body).await?);
        let question = Question::read(Some(kind_of(&kind)?), stated::patient(&headers)?, all)?;
        desk.search(&headers, question).await
    };
    say(answer.await)
}

async fn form(headers: &HeaderMap, body: Body) -> Result<Vec<(String, String)>, Trouble> {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let is_form = media.is_some_and(|it| it.starts_with("application/x-www-form-urlencoded"));
    let bytes = to_bytes(body, FORM_BYTES).await;
    let bytes = bytes.map_err(|_| Trouble::bad("the form has more than 64 KiB"))?;
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    if !is_form {
        let text = "Content-Type: must be application/x-www-form-urlencoded";
        let (status, code) = (StatusCode::UNSUPPORTED_MEDIA_TYPE, IssueCode::NotSupported);
        return Err(Trouble::Request(status, code, text.to_owned()));
    }
    let text = std::str::from_utf8(&bytes);
    pairs(text.map_err(|_| Trouble::bad("the form is not UTF-8"))?)
}

/// `GET /fhir/Patient/{nhs}/$everything`
async fn everything(
    State(desk): State<Shared>,
    method: Method,
    headers: HeaderMap,
    Path(nhs): Path<String>,
    RawQuery(raw): RawQuery,
    body: Body,
) -> Response {
    let answer = async {
        // Why a practice's own Patient id will not do: only the header can say whose it is.
        let named = NhsNumber::try_from(nhs.as_str()).ok();
        let known = stated::patient(&headers)?;
        let patient = match (named, known) {
            (Some(named), Some(known)) if named != known => {
                let text = format!("{}: names another patient than the path", stated::PATIENT);
                return Err(Trouble::bad(text));
            }
            (named, known) => named.or(known),
        };
        desk.everything(method, &headers, patient, raw, body).await
    };
    say(answer.await)
}

/// `GET /fhir/Patient/$everything`, of the patient whom header or query names.
async fn of_named(
    State(desk): State<Shared>,
    method: Method,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
    body: Body,
) -> Response {
    let answer = async {
        let known = stated::patient(&headers)?;
        desk.everything(method, &headers, known, raw, body).await
    };
    say(answer.await)
}

/// `GET /fhir?_page=…`: what a self or next link says.
async fn page(State(desk): State<Shared>, headers: HeaderMap, RawQuery(raw): RawQuery) -> Response {
    let answer = async {
        let pairs = pairs(raw.as_deref().unwrap_or_default())?;
        let page = desk.page(&headers, &pairs).await;
        page.ok_or_else(|| Trouble::bad("a search needs a resource type"))?
    };
    say(answer.await)
}

/// `GET /fhir/{kind}/{id}`
async fn one(
    State(desk): State<Shared>,
    headers: HeaderMap,
    Path((kind, id)): Path<(String, String)>,
) -> Response {
    say(desk.one(&headers, &kind, &id).await)
}

impl Desk {
    /// The page that a link of ours names, if this is one. `_count` is put there by clients that put it everywhere;
    /// others take the headers along for the first page only, so that a link says what was stated, and who states
    /// something else is not answered.
    async fn page(
        &self,
        headers: &HeaderMap,
        pairs: &[(String, String)],
    ) -> Option<Result<Response, Trouble>> {
        let (_, name) = pairs.iter().find(|(name, _)| name == "_page")?;
        let page = self.linked(headers, name);
        Some(match page {
            Ok(page) => self.answer(&page.stated, page.question, page.version).await,
            Err(trouble) => Err(trouble),
        })
    }

    fn linked(&self, headers: &HeaderMap, name: &str) -> Result<Page, Trouble> {
        let now_ms = self.asking.clock.now_ms();
        let page = self.asking.session.page(name, now_ms);
        let stated = match stated::says_nothing(headers) {
            true => None,
            false => Some(Stated::read(headers)?),
        };
        let fits = |page: &Page| stated.as_ref().is_none_or(|stated| *stated == page.stated);
        let page = page.filter(fits).ok_or_else(|| {
            let text = "this link was not made for who asks now with this purpose, or is too old: search again";
            Trouble::Request(StatusCode::NOT_FOUND, IssueCode::NotFound, text.to_owned())
        })?;
        if stated::patient(headers)?.is_some_and(|named| named != page.question.patient) {
            let text = format!("{}: names another patient than the link", stated::PATIENT);
            return Err(Trouble::bad(text));
        }
        Ok(page)
    }

    async fn search(&self, headers: &HeaderMap, question: Question) -> Result<Response, Trouble> {
        let stated = Stated::read(headers)?;
        self.answer(&stated, question, accept::version(headers)?)
            .await
    }

    async fn everything(
        &self,
        method: Method,
        headers: &HeaderMap,
        patient: Option<NhsNumber>,
        raw: Option<String>,
        body: Body,
    ) -> Result<Response, Trouble> {
        let mut all = pairs(raw.as_deref().unwrap_or_default())?;
        if method == Method::POST {
            all.extend(form(headers, body).await?);
        }
        self.search(headers, Question::read(None, patient, all)?)
            .await
    }

    async fn place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Trouble> {
        let place = self.places.acquire().await;
        place.map_err(|_| Trouble::Own("the connector is stopping".to_owned()))
    }

    /// One page of a search.
    async fn answer(
        &self,
        stated: &Stated,
        question: Question,
        version: FhirVersion,
    ) -> Result<Response, Trouble> {
        let _place = self.place().await?;
        let query = question.query()?;
        let object = match question.kind {
            None => ("selection", "everything"),
            Some(_) => ("search", query.canonical()),
        };
        let expected = Expected {
            patient: &question.patient,
            stated,
            object,
        };
        let opened = self.asking.read(&question.path(), &expected).await?;
        let next = match &opened.next {
            None => None,
            Some(link) => Some(
                question
                    .next(link)
                    .ok_or_else(|| Trouble::Broken("its next link leads nowhere".to_owned()))?,
            ),
        };
        let (records, left_out) = fit(&opened, question.kind.as_ref(), version)?;
        let now_ms = self.asking.clock.now_ms();
        // Why the type in the path: some clients ask their own path again with a link's parameters.
        let path = question
            .kind
            .as_ref()
            .map_or_else(String::new, |kind| format!("/{kind}"));
        let link = |question: Question| {
            let name = self.asking.session.link(question, stated, version, now_ms);
            format!("{}{path}?_page={name}", self.base)
        };
        let next = next.map(link);
        let frame = Frame {
            base: &self.base,
            at: moment(now_ms),
            itself: link(question),
            next,
            left_out,
            version,
        };
        let body = searchset(&frame, &records);
        Ok(evidenced(
            fhir(StatusCode::OK, version.media_type(), body.into()),
            &opened,
        ))
    }

    /// One record by the name that its practice gave it.
    async fn one(&self, headers: &HeaderMap, kind: &str, id: &str) -> Result<Response, Trouble> {
        let kind = kind_of(kind)?;
        let id = FhirId::try_from(id)
            .map_err(|error| Trouble::bad(format!("the path's id: {error}")))?;
        let stated = Stated::read(headers)?;
        let patient = stated::patient(headers)?.ok_or_else(|| {
            let text = "this header is required to read by id: the patient's NHS number";
            Trouble::bad(format!("{}: {text}", stated::PATIENT))
        })?;
        let version = accept::version(headers)?;
        let _place = self.place().await?;
        let name = format!("{kind}/{id}");
        let expected = Expected {
            patient: &patient,
            stated: &stated,
            object: ("name", &name),
        };
        let opened = self
            .asking
            .read(&format!("/fhir/{name}"), &expected)
            .await?;
        let [record] = opened.records.as_slice() else {
            return Err(Trouble::Broken(
                "it has not the one record that was asked for".to_owned(),
            ));
        };
        if record.name != name {
            return Err(Trouble::Broken(
                "it has another record than was asked for".to_owned(),
            ));
        }
        let of = version_of(record).ok_or_else(|| not_fhir(record))?;
        if of != version {
            let text = format!("this record is {}: ask for it with Accept", of.media_type());
            let (status, code) = (StatusCode::NOT_ACCEPTABLE, IssueCode::NotSupported);
            return Err(Trouble::Request(status, code, text));
        }
        let text = resource(record)
            .ok_or_else(|| not_fhir(record))?
            .into_owned();
        let response = fhir(StatusCode::OK, of.media_type(), text.into());
        let version = record
            .kid
            .rsplit_once('.')
            .map_or("", |(_, version)| version);
        let response = with(response, ETAG, &format!("W/\"{version}\""));
        Ok(evidenced(response, &opened))
    }
}

fn not_fhir(record: &Record) -> Trouble {
    Trouble::Broken(format!(
        "what was deposited as {} is not that resource",
        record.name
    ))
}

fn evidenced(response: Response, opened: &Opened) -> Response {
    let response = with(response, ENTRY.clone(), &opened.entry.index.to_string());
    with(response, NOTICE.clone(), "Items may have been withheld.")
}

/// The records of this version, read as FHIR, and how many are of the other.
fn fit<'o>(
    opened: &'o Opened,
    kind: Option<&ResourceType>,
    version: FhirVersion,
) -> Result<(Vec<Read<'o>>, usize), Trouble> {
    let (mut fit, mut left_out) = (Vec::with_capacity(opened.records.len()), 0);
    for record in &opened.records {
        let of_kind = |kind: &ResourceType| {
            record
                .name
                .split_once('/')
                .is_some_and(|(of, _)| of == kind.as_str())
        };
        if kind.is_some_and(|kind| !of_kind(kind)) {
            return Err(Trouble::Broken(
                "it has a record of another type than was asked for".to_owned(),
            ));
        }
        if version_of(record) != Some(version) {
            left_out += 1;
            continue;
        }
        fit.push((record, resource(record).ok_or_else(|| not_fhir(record))?));
    }
    Ok((fit, left_out))
}

/// A moment as FHIR's instant.
fn moment(now_ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(i64::MAX));
    at.map_or_else(|_| String::new(), |at| at.to_string())
}
