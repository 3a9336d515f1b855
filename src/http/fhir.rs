//! The FHIR side: deposit, withdraw, objections, read by id, search, `$everything`. Payloads are carried
//! opaquely; what leaves is NDJSON of a ticket and envelopes, never plain FHIR.

use axum::body::{Body, HttpBody as _};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use bytes::Bytes;
use policy::words::{NhsNumber, Ods};
use policy::{Caller, ChangeFacts, Deposit, Read, Scope, Selection, Side, Withdraw};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::answer::{Page, Problem, fhir_response, with_header, with_receipt};
use super::budget::Place;
use super::{Bearer, Client, Shared, body, limits};
use crate::facts::{Change, FeedBatch, FeedEvent, Objection, Statement};
use crate::fhir::capability::{Identity, capability_statement};
use crate::fhir::consent::read_consent;
use crate::fhir::deposit::{self, Batch, BundleKind, Form, read_deposit};
use crate::fhir::query::Query;
use crate::fhir::relation;
use crate::fhir::resource::{FhirId, FhirVersion, Name, ResourceType};
use crate::fhir::subject::Subject;
use crate::gateway::{Answer, Relating};
use crate::ledger::Open;
use crate::vault::{Filed, Filing, Wanted};

/// Records in one answer at most: as many as one ticket carries.
const PAGE_MAX: usize = 200;

/// Says which number a Consent has in its practice's feed of objections, with the feed's count and digest.
const FEED: &str = "sallyport-feed";

/// `GET /fhir/metadata`
pub(super) async fn metadata(State(app): State<Shared>, _client: Client) -> Response {
    let identity = Identity {
        url: app.gateway.tokens().issuer(),
        version: env!("CARGO_PKG_VERSION"),
        date: "2026-11-21",
    };
    fhir_response(StatusCode::OK, &capability_statement(&identity))
}

fn bad(code: &'static str, text: impl Into<String>) -> Problem {
    Problem::malformed(StatusCode::BAD_REQUEST, code, text)
}

fn say(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(Problem::fhir)
}

fn kind_of(text: &str) -> Result<ResourceType, Problem> {
    ResourceType::try_from(text)
        .map_err(|error| bad("value", format!("the path's resource type: {error}")))
}

fn name_of(kind: &str, id: &str) -> Result<Name, Problem> {
    let id =
        FhirId::try_from(id).map_err(|error| bad("value", format!("the path's id: {error}")))?;
    Ok(Name {
        kind: kind_of(kind)?,
        id,
    })
}

/// What leaves is NDJSON of envelopes; who wants plain FHIR is told where to get it.
fn accepts_envelopes(headers: &HeaderMap) -> Result<(), Problem> {
    let mut wanted = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .peekable();
    let takes = |value: &str| {
        value
            .split(',')
            .filter_map(|range| range.split(';').next())
            .any(|range| {
                matches!(
                    range.trim(),
                    "*/*" | "application/*" | "application/x-ndjson"
                )
            })
    };
    if wanted.peek().is_none() || wanted.any(takes) {
        return Ok(());
    }
    Err(Problem::malformed(
        StatusCode::NOT_ACCEPTABLE,
        "not-supported",
        "records leave as application/x-ndjson of encrypted envelopes; the hospital's connector (sallyport connect) \
         opens them and serves plain FHIR on loopback",
    ))
}

/// `GET /fhir/{kind}/{id}`
pub(super) async fn one(
    State(app): State<Shared>,
    bearer: Bearer,
    headers: HeaderMap,
    Path((kind, id)): Path<(String, String)>,
) -> Response {
    let answer = async {
        accepts_envelopes(&headers)?;
        let name = name_of(&kind, &id)?.to_string();
        let selection = Selection::One { name: name.clone() };
        release(
            &app,
            &bearer.caller,
            None,
            selection,
            Wanted::One(name),
            1,
            None,
        )
        .await
    };
    let response = say(answer.await);
    bearer.hold(&app, response)
}

/// `GET /fhir/{kind}?patient=…`
pub(super) async fn search(
    State(app): State<Shared>,
    bearer: Bearer,
    headers: HeaderMap,
    Path(kind): Path<String>,
    RawQuery(raw): RawQuery,
) -> Response {
    let answer = async {
        accepts_envelopes(&headers)?;
        let pairs = pairs(raw.as_deref().unwrap_or_default())?;
        let query = Query::parse(&kind_of(&kind)?, &pairs)
            .map_err(|error| bad("invalid", error.to_string()))?;
        let (patient, limit) = (query.patient().clone(), query.count().min(PAGE_MAX));
        let selection = Selection::Search {
            query: query.canonical().to_owned(),
        };
        let link = Link {
            path: format!("/fhir/{kind}"),
            pairs,
        };
        let place = place_of(&query)?;
        let wanted = Wanted::Matching(query, place);
        release(
            &app,
            &bearer.caller,
            Some(patient),
            selection,
            wanted,
            limit,
            Some(link),
        )
        .await
    };
    let response = say(answer.await);
    bearer.hold(&app, response)
}

/// `GET /fhir/Patient/{nhs}/$everything`
pub(super) async fn everything(
    State(app): State<Shared>,
    bearer: Bearer,
    headers: HeaderMap,
    Path(nhs): Path<String>,
    RawQuery(raw): RawQuery,
) -> Response {
    let answer = async {
        accepts_envelopes(&headers)?;
        let patient = NhsNumber::try_from(nhs.as_str()).map_err(|_| {
            bad(
                "value",
                "the path's NHS number: must be ten digits with the right check digit",
            )
        })?;
        let pairs = pairs(raw.as_deref().unwrap_or_default())?;
        let query = Query::everything(patient.clone(), &pairs)
            .map_err(|error| bad("invalid", error.to_string()))?;
        let link = Link {
            path: format!("/fhir/Patient/{nhs}/$everything"),
            pairs,
        };
        let (limit, place) = (query.count().min(PAGE_MAX), place_of(&query)?);
        let wanted = Wanted::Matching(query, place);
        release(
            &app,
            &bearer.caller,
            Some(patient),
            Selection::Everything,
            wanted,
            limit,
            Some(link),
        )
        .await
    };
    let response = say(answer.await);
    bearer.hold(&app, response)
}

fn pairs(raw: &str) -> Result<Vec<(String, String)>, Problem> {
    serde_urlencoded::from_str(raw).map_err(|_| {
        bad(
            "invalid",
            "the query is not application/x-www-form-urlencoded",
        )
    })
}

/// The place that a next link named.
fn place_of(query: &Query) -> Result<Option<crate::vault::Place>, Problem> {
    let wrong = || bad("invalid", "_cursor: a text that an answer's next link gave");
    let Some(cursor) = query.cursor() else {
        return Ok(None);
    };
    let bytes = B64.decode(cursor).map_err(|_| wrong())?;
    bytes.try_into().map(Some).map_err(|_| wrong())
}

/// Where the next page of a search is asked for: the same question, from another place on.
struct Link {
    path: String,
    pairs: Vec<(String, String)>,
}

impl Link {
    fn at(mut self, issuer: &str, place: &[u8; 24]) -> String {
        self.pairs.retain(|(name, _)| name != "_cursor");
        self.pairs.push(("_cursor".to_owned(), B64.encode(place)));
        let query = serde_urlencoded::to_string(&self.pairs).unwrap_or_default();
        format!("{issuer}{}?{query}", self.path)
    }
}

async fn release(
    app: &Shared,
    caller: &Caller,
    asked: Option<NhsNumber>,
    selection: Selection,
    wanted: Wanted,
    limit: usize,
    link: Option<Link>,
) -> Result<Response, Problem> {
    let read = Read {
        selection,
        patient: asked,
        limit,
    };
    match app.gateway.read(caller.clone(), read, wanted).await? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(release, _) => {
            let issuer = app.gateway.tokens().issuer();
            let next = link
                .zip(release.next().copied())
                .map(|(link, place)| link.at(issuer, &place));
            Ok(Page { release, next }.into_response())
        }
    }
}

fn version_of(headers: &HeaderMap) -> Result<FhirVersion, Problem> {
    let header = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    FhirVersion::from_content_type(header).map_err(|error| {
        Problem::malformed(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-supported",
            format!("Content-Type: {error}"),
        )
    })
}

/// `PUT /fhir/{kind}/{id}`
pub(super) async fn put(
    State(app): State<Shared>,
    bearer: Bearer,
    headers: HeaderMap,
    Path((kind, id)): Path<(String, String)>,
    raw: Body,
) -> Response {
    let answer = async {
        let name = name_of(&kind, &id)?;
        let version = version_of(&headers)?;
        if let Some(Scope::Relationship { of, patient }) = scope_of(&bearer.caller) {
            let bytes = body(raw, limits::FORM_BYTES).await?;
            return relate(&app, bearer.caller, &name, (of, patient), &bytes).await;
        }
        if let Err(refused) = unfit(&app, &bearer.caller, "put").await {
            // Why read what is not wanted: a small body left unread would close the connection.
            let _ = body(raw, limits::FORM_BYTES).await;
            return Err(refused);
        }
        let bytes = deposited(&app, &bearer.caller, raw).await?;
        let deposits = matches!(
            bearer.caller.token().map(|token| &token.scope),
            Some(Scope::Deposit { .. })
        );
        // Why not for a deposit token: it is told that a Consent is not a record, so that none is lost as one.
        if name.kind.is("Consent") && !deposits {
            return object(
                &app,
                bearer.caller,
                &name,
                &bytes.bytes,
                version,
                headers.get(FEED),
            )
            .await;
        }
        let form = Form::Put {
            kind: &name.kind,
            id: &name.id,
        };
        file(&app, bearer.caller, &bytes.bytes, version, form).await
    };
    say(answer.await)
}

/// `POST /fhir`: a Bundle.
pub(super) async fn bundle(
    State(app): State<Shared>,
    bearer: Bearer,
    headers: HeaderMap,
    raw: Body,
) -> Response {
    let answer = async {
        let version = version_of(&headers)?;
        if let Err(refused) = unfit(&app, &bearer.caller, "post").await {
            // Why read what is not wanted: a small body left unread would close the connection.
            let _ = body(raw, limits::FORM_BYTES).await;
            return Err(refused);
        }
        let bytes = deposited(&app, &bearer.caller, raw).await?;
        file(&app, bearer.caller, &bytes.bytes, version, Form::Bundle).await
    };
    say(answer.await)
}

async fn file(
    app: &Shared,
    caller: Caller,
    bytes: &Bytes,
    version: FhirVersion,
    form: Form<'_>,
) -> Result<Response, Problem> {
    let (practice, fallback) = match caller.token().map(|token| token.scope.clone()) {
        Some(Scope::Deposit { practice, patient }) => (practice, patient),
        // Why: the token says it may not; which practice this would have been about nobody can say, so the
        // refusal is recorded about the practice that the client acts for.
        _ => return Err(refused_deposit(app, caller, "deposit").await),
    };
    let batch = read(bytes, version, form).await?;
    let patient = patient_of(app, &practice, &batch.subject, fallback).await?;
    let digest = Sha256::digest(bytes).into();
    let kind = batch.kind;
    let filings = filings(batch, version)?;
    let held = app
        .gateway
        .vault()
        .compare(&practice, &patient, filings)
        .await;
    let held = held.map_err(|error| Problem::from(crate::gateway::Fault::from(error)))?;
    let records = held.listed();
    let ask = Deposit {
        practice,
        patient,
        records,
        digest,
    };
    // Why spawned: a caller that hangs up must not leave a recorded deposit half done.
    let task = std::sync::Arc::clone(app);
    let done = tokio::spawn(async move { task.gateway.deposit(caller, ask, held).await });
    match done.await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(filed, receipt) => {
            let issuer = app.gateway.tokens().issuer();
            Ok(with_receipt(
                filed_response(issuer, kind, &filed),
                &receipt,
                Open::All,
            ))
        }
    }
}

/// A caller who may not file in a practice's name is refused before its body is read and before anything is
/// looked up.
async fn unfit(app: &Shared, caller: &Caller, attempt: &str) -> Result<(), Problem> {
    let practice = match caller.token().map(|token| &token.scope) {
        Some(Scope::Deposit { practice, .. } | Scope::Consent { practice, .. }) => Some(practice),
        _ => None,
    };
    if let Some(practice) = practice
        && app.gateway.stands(caller, practice).await?
    {
        return Ok(());
    }
    Err(refused_deposit(app, caller.clone(), attempt).await)
}

/// What a caller out of scope is told; its refusal stands in the ledger.
async fn refused_deposit(app: &Shared, caller: Caller, attempt: &str) -> Problem {
    match app.gateway.out_of_scope(caller, attempt).await {
        Ok(Answer::Refused(receipt)) => Problem::Refused(receipt),
        Ok(Answer::Done((), _)) => Problem::Internal,
        Err(fault) => Problem::from(fault),
    }
}

/// A deposit's bytes: as many at once as there is room for, all clients together and this one alone.
async fn deposited(app: &Shared, caller: &Caller, raw: Body) -> Result<Room, Problem> {
    let announced = raw
        .size_hint()
        .exact()
        .unwrap_or(limits::DEPOSIT_BYTES as u64);
    let announced = usize::try_from(announced).unwrap_or(limits::DEPOSIT_BYTES);
    let place = app.budgets.room(
        caller.client().as_str(),
        announced.min(limits::DEPOSIT_BYTES),
    );
    let place = tokio::time::timeout(limits::BODY_TIME, place).await;
    let place = place.ok().flatten().ok_or(Problem::Spent)?;
    let bytes = body(raw, limits::DEPOSIT_BYTES).await?;
    Ok(Room {
        bytes,
        _place: place,
    })
}

/// Bytes, and the room they take until they are dropped.
struct Room {
    bytes: Bytes,
    _place: Place,
}

fn unreadable(status: u16, error: &dyn std::fmt::Display) -> Problem {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY);
    let code = if status == StatusCode::UNPROCESSABLE_ENTITY {
        "business-rule"
    } else {
        "structure"
    };
    Problem::malformed(status, code, error.to_string())
}

/// Reading a large Bundle takes a while: it does not hold up the others.
async fn read(bytes: &Bytes, version: FhirVersion, form: Form<'_>) -> Result<Batch, Problem> {
    let read = if bytes.len() > 256 * 1024 {
        tokio::task::block_in_place(|| read_deposit(bytes, version, form))
    } else {
        read_deposit(bytes, version, form)
    };
    read.map_err(|error| unreadable(error.status(), &error))
}

async fn patient_of(
    app: &Shared,
    practice: &Ods,
    subject: &Subject,
    fallback: Option<NhsNumber>,
) -> Result<NhsNumber, Problem> {
    let unprocessable =
        |text: &str| Problem::malformed(StatusCode::UNPROCESSABLE_ENTITY, "business-rule", text);
    let named = match subject {
        Subject::Number(number) => Some(number.clone()),
        Subject::Reference(reference) => {
            let found = app.gateway.vault().patient_of(practice, reference).await;
            found.map_err(|error| Problem::from(crate::gateway::Fault::from(error)))?
        }
        Subject::Unnamed => None,
    };
    match (named, fallback) {
        (Some(named), Some(fallback)) if named != fallback => Err(unprocessable(
            "subject: the bytes name another patient than the token",
        )),
        (Some(number), _) | (None, Some(number)) => Ok(number),
        (None, None) => Err(unprocessable(
            "no patient: the bytes name no NHS number and no Patient this practice deposited, and neither does the token",
        )),
    }
}

fn filings(batch: Batch, version: FhirVersion) -> Result<Vec<Filing>, Problem> {
    let filing = |mut item: deposit::Item| {
        if item.name.is_none() {
            // FHIR §3.1.0.8: what is posted without an id gets one from the server.
            if let Ok(id) = FhirId::try_from(crate::vault::fresh_id().as_str()) {
                item.assign(id);
            }
        }
        Filing {
            name: item
                .name
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            shared: !item.is_about_patient,
            text: item.text,
            media_type: version.media_type(),
            card: item.card,
        }
    };
    let filings: Vec<Filing> = batch.items.into_iter().map(filing).collect();
    match crate::vault::repeated(&filings) {
        None => Ok(filings),
        Some(name) => Err(Problem::malformed(
            StatusCode::UNPROCESSABLE_ENTITY,
            "duplicate",
            format!("{name} stands twice in the Bundle"),
        )),
    }
}

fn filed_response(issuer: &str, kind: BundleKind, filed: &[Filed]) -> Response {
    let status = |filed: &Filed| {
        if filed.version == 1 {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        }
    };
    if let (BundleKind::Single, [one]) = (kind, filed) {
        let response = Response::new(Body::empty());
        let location = format!("{issuer}/fhir/{}", one.name);
        let mut response = with_header(response, LOCATION, &location);
        *response.status_mut() = status(one);
        return with_header(response, ETAG, &format!("W/\"{}\"", one.version));
    }
    let entries: Vec<Value> = filed
        .iter()
        .map(|filed| {
            json!({ "response": {
                "status": if filed.version == 1 { "201 Created" } else { "200 OK" },
                "location": format!("{}/_history/{}", filed.name, filed.version),
                "etag": format!("W/\"{}\"", filed.version),
            } })
        })
        .collect();
    let kind = if matches!(kind, BundleKind::Batch) {
        "batch-response"
    } else {
        "transaction-response"
    };
    fhir_response(
        StatusCode::OK,
        &json!({ "resourceType": "Bundle", "type": kind, "entry": entries }),
    )
}

/// `PUT /fhir/Consent/{id}` with a consent token: a patient's objection, passed on by the practice.
async fn object(
    app: &Shared,
    caller: Caller,
    name: &Name,
    bytes: &Bytes,
    version: FhirVersion,
    beside: Option<&HeaderValue>,
) -> Result<Response, Problem> {
    let Some(Scope::Consent { practice, patient }) =
        caller.token().map(|token| token.scope.clone())
    else {
        return Err(refused_deposit(app, caller, "deposit").await);
    };
    let objection =
        read_consent(bytes, version).map_err(|error| unreadable(error.status(), &error))?;
    if objection.id.as_ref().is_some_and(|own| *own != name.id) {
        return Err(unreadable(422, &"Consent.id: the id is the one in the URL"));
    }
    // Why: an objection filed for the wrong patient would be lost for the right one.
    patient_of(app, &practice, &objection.patient, Some(patient.clone())).await?;
    let purposes: Vec<String> = objection.purposes.iter().map(ToString::to_string).collect();
    if let Some(beside) = beside {
        let event = |n| FeedEvent {
            n,
            id: name.id.as_str().to_owned(),
            patient: patient.clone(),
            purposes: objection.purposes.clone(),
            active: objection.active,
        };
        let batch = FeedBatch::single(beside.to_str().unwrap_or_default(), event)
            .map_err(|rule| bad("value", format!("Sallyport-Feed: {rule}")))?;
        let detail = json!({
            "active": objection.active, "n": batch.events.first().map_or(0, |event| event.n),
            "purposes": purposes, "reference": name.id.as_str(),
        });
        let act = ChangeFacts {
            practice,
            patient: Some(patient),
            change: "objection".to_owned(),
            detail,
        };
        return numbered(app, caller, act, batch).await;
    }
    let row = Statement::Objection(Objection {
        patient: patient.as_str().to_owned(),
        practice: practice.as_str().to_owned(),
        reference: name.id.as_str().to_owned(),
        purposes: purposes.clone(),
        generation: 0,
        n: 0,
    });
    let detail =
        json!({ "reference": name.id.as_str(), "purposes": purposes, "active": objection.active });
    let change = if objection.active {
        Change::Put(row)
    } else {
        Change::Remove(row)
    };
    let act = ChangeFacts {
        practice,
        patient: Some(patient),
        change: "objection".to_owned(),
        detail,
    };
    changed(app, caller, act, change).await
}

/// An objection that came with its number in the practice's feed.
async fn numbered(
    app: &Shared,
    caller: Caller,
    act: ChangeFacts,
    batch: FeedBatch,
) -> Result<Response, Problem> {
    let task = std::sync::Arc::clone(app);
    let done = tokio::spawn(async move { task.gateway.object_by_number(caller, act, batch).await });
    match done.await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done((), receipt) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::OK;
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}

fn scope_of(caller: &Caller) -> Option<Scope> {
    caller.token().map(|token| token.scope.clone())
}

fn kind_of_relation(name: &Name) -> Option<policy::RelationKind> {
    relation::kind_of(name.kind.as_str())
}

/// `PUT /fhir/{kind}/{id}` with a relationship token: who cares for a patient. It is no record, and is not stored as one.
async fn relate(
    app: &Shared,
    caller: Caller,
    name: &Name,
    (of, patient): (Side, NhsNumber),
    bytes: &Bytes,
) -> Result<Response, Problem> {
    let read = relation::read_relation(bytes, name);
    let read = read.map_err(|error| unreadable(error.status(), &error))?;
    match (&of, &read.patient) {
        (Side::Practice(practice), subject) => {
            patient_of(app, practice, subject, Some(patient.clone())).await?;
        }
        (Side::Organisation(_), Subject::Number(number)) if *number == patient => {}
        (Side::Organisation(_), _) => {
            let rule = "subject: must name the token's patient, by the NHS number";
            return Err(unreadable(422, &rule));
        }
    }
    if matches!(of, Side::Practice(_)) && read.organisation.is_none() && read.open {
        let rule = "the organisation that cares must be named, by its ODS code";
        return Err(unreadable(422, &rule));
    }
    let said = Relating {
        kind: read.kind,
        reference: name.id.as_str().to_owned(),
        organisation: read.organisation,
        open: read.open,
        from_ms: read.from_ms,
        until_ms: read.until_ms,
        lasting_ms: relation::lasting_ms(name.kind.as_str()),
    };
    related(app, caller, (of, patient), said).await
}

/// `DELETE /fhir/{kind}/{id}` with a relationship token: it ends now.
async fn ended(
    app: &Shared,
    caller: Caller,
    name: &Name,
    about: (Side, NhsNumber),
) -> Result<Response, Problem> {
    let kind = kind_of_relation(name).ok_or(Problem::Internal)?;
    let said = Relating {
        kind,
        reference: name.id.as_str().to_owned(),
        organisation: None,
        open: false,
        from_ms: None,
        until_ms: None,
        lasting_ms: 0,
    };
    related(app, caller, about, said).await
}

async fn related(
    app: &Shared,
    caller: Caller,
    about: (Side, NhsNumber),
    said: Relating,
) -> Result<Response, Problem> {
    let task = std::sync::Arc::clone(app);
    let done = tokio::spawn(async move { task.gateway.relate(caller, about, said).await });
    match done.await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done((), receipt) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::OK;
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}

async fn changed(
    app: &Shared,
    caller: Caller,
    act: ChangeFacts,
    change: Change,
) -> Result<Response, Problem> {
    let task = std::sync::Arc::clone(app);
    let done = tokio::spawn(async move { task.gateway.change(caller, act, vec![change]).await });
    match done.await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done((), receipt) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::OK;
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}

/// `DELETE /fhir/{kind}/{id}`: no further release of this record; a Consent is an objection taken back.
pub(super) async fn withdraw(
    State(app): State<Shared>,
    bearer: Bearer,
    Path((kind, id)): Path<(String, String)>,
) -> Response {
    let answer = async {
        let name = name_of(&kind, &id)?;
        match bearer.caller.token().map(|token| token.scope.clone()) {
            Some(Scope::Consent { practice, patient }) if name.kind.is("Consent") => {
                let row = Statement::Objection(Objection {
                    patient: patient.as_str().to_owned(),
                    practice: practice.as_str().to_owned(),
                    reference: name.id.as_str().to_owned(),
                    purposes: Vec::new(),
                    generation: 0,
                    n: 0,
                });
                let detail = json!({ "reference": name.id.as_str(), "active": false });
                let act = ChangeFacts {
                    practice,
                    patient: Some(patient),
                    change: "objection".to_owned(),
                    detail,
                };
                changed(&app, bearer.caller, act, Change::Remove(row)).await
            }
            Some(Scope::Relationship { of, patient }) if kind_of_relation(&name).is_some() => {
                ended(&app, bearer.caller, &name, (of, patient)).await
            }
            Some(Scope::Deposit { practice, patient }) => {
                withdrawn(&app, bearer.caller, practice, patient, &name.to_string()).await
            }
            _ => Err(refused_deposit(&app, bearer.caller, "withdraw").await),
        }
    };
    say(answer.await)
}

async fn withdrawn(
    app: &Shared,
    caller: Caller,
    practice: Ods,
    patient: Option<NhsNumber>,
    name: &str,
) -> Result<Response, Problem> {
    unfit(app, &caller, "withdraw").await?;
    let fault = |error| Problem::from(crate::gateway::Fault::from(error));
    let vault = app.gateway.vault();
    let mut found = vault.patient_of(&practice, name).await.map_err(fault)?;
    if let (None, Some(patient)) = (&found, &patient)
        && vault
            .files_within(&practice, patient, name)
            .await
            .map_err(fault)?
    {
        found = Some(patient.clone());
    }
    let missing = || {
        Problem::malformed(
            StatusCode::NOT_FOUND,
            "not-found",
            "this practice has filed no such record",
        )
    };
    let patient = match (found, patient) {
        (Some(found), Some(named)) if found != named => return Err(missing()),
        (Some(found), _) => found,
        (None, _) => return Err(missing()),
    };
    let ask = Withdraw {
        practice,
        patient,
        name: name.to_owned(),
    };
    let task = std::sync::Arc::clone(app);
    let done = tokio::spawn(async move { task.gateway.withdraw(caller, ask).await });
    match done.await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done((), receipt) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(with_receipt(response, &receipt, Open::All))
        }
    }
}
