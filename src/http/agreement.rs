//! Sharing agreements over the wire, in plain JSON: proposed and withdrawn by a practice's system, accepted and
//! ended by the organisation's own, read back by either. FHIR has no resource that is one: a Consent is a patient's.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use policy::words::{ClientId, Ods};
use policy::{Caller, Scope, Side};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answer::{Problem, json_response, with_receipt};
use super::{Bearer, Shared, body, limits, object_of};
use crate::facts::{Agreed, AgreementRow, PracticeSettings, Statement, reference};
use crate::gateway::{Accepting, Answer, Fault, Named};
use crate::ledger::{Open, Receipt};

/// What a practice proposes; the path says to whom and under which reference.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Terms {
    purposes: Vec<String>,
    categories: Vec<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    accepts_asserted: bool,
    #[serde(default)]
    emergency_overrides_objection: bool,
    from_ms: u64,
    until_ms: u64,
    signer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acceptance {
    terms: String,
    signer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    cooling_off_ms: u64,
    #[serde(default)]
    contacts: Vec<String>,
}

pub(super) fn bad(text: impl Into<String>) -> Problem {
    Problem::malformed(StatusCode::BAD_REQUEST, "invalid_request", text)
}

pub(super) fn say(result: Result<Response, Problem>) -> Response {
    result.unwrap_or_else(Problem::oauth)
}

/// JSON in which no member stands twice.
pub(super) async fn json_body<T: DeserializeOwned>(raw: Body) -> Result<T, Problem> {
    let bytes = body(raw, limits::FORM_BYTES).await?;
    crate::fhir::json::Document::parse(&bytes).map_err(|error| bad(error.to_string()))?;
    object_of(&bytes).map_err(bad)
}

pub(super) fn code(text: &str, what: &str) -> Result<Ods, Problem> {
    Ods::try_from(text).map_err(|_| bad(format!("{what}: must be an ODS code")))
}

fn named((practice, organisation, text): (String, String, String)) -> Result<Named, Problem> {
    reference(&text).map_err(|error| bad(error.to_string()))?;
    Ok(Named {
        practice: code(&practice, "the path's practice")?,
        organisation: code(&organisation, "the path's organisation")?,
        reference: text,
    })
}

/// Does it whether or not the caller waits: what is recorded is not left half done.
pub(super) async fn done<T: Send + 'static>(
    work: impl Future<Output = Result<Answer<T>, Fault>> + Send + 'static,
) -> Result<(T, Receipt), Problem> {
    match tokio::spawn(work).await.map_err(|_| Problem::Internal)?? {
        Answer::Refused(receipt) => Err(Problem::Refused(receipt)),
        Answer::Done(value, receipt) => Ok((value, receipt)),
    }
}

pub(super) fn answered(status: StatusCode, value: &Value, receipt: &Receipt) -> Response {
    with_receipt(json_response(status, value), receipt, Open::All)
}

/// What a caller is told whose token is for something else.
async fn refused(app: &Shared, caller: &Caller) -> Problem {
    match app.gateway.out_of_scope(caller.clone(), "agreements").await {
        Ok(Answer::Refused(receipt)) => Problem::Refused(receipt),
        Ok(Answer::Done((), _)) => Problem::Internal,
        Err(fault) => Problem::from(fault),
    }
}

/// `GET /agreements`: those of the side that the token is for.
pub(super) async fn list(State(app): State<Shared>, bearer: Bearer) -> Response {
    let answer = async {
        let of = match bearer.caller.token().map(|token| &token.scope) {
            Some(Scope::Agreement { of }) => of.clone(),
            _ => return Err(refused(&app, &bearer.caller).await),
        };
        let (task, caller) = (Shared::clone(&app), bearer.caller.clone());
        let (all, receipt) = done(async move { task.gateway.agreements(caller, of).await }).await?;
        let all: Vec<Value> = all
            .iter()
            .map(|(it, state)| said(it, state.code()))
            .collect();
        Ok(answered(
            StatusCode::OK,
            &json!({ "agreements": all }),
            &receipt,
        ))
    };
    say(answer.await)
}

/// An agreement with all that bears on it, as both sides read it.
fn said(it: &Agreed, state: &str) -> Value {
    let row = &it.row;
    let mut value = json!({
        "practice": row.practice, "organisation": row.organisation, "reference": row.reference,
        "state": state, "terms": row.terms(), "purposes": row.purposes, "categories": row.categories,
        "labels": row.labels, "accepts_asserted": row.accepts_asserted,
        "emergency_overrides_objection": row.emergency_overrides_objection,
        "from_ms": row.from_ms, "until_ms": row.until_ms, "signer": row.signer,
        "proposed_ms": row.proposed_ms, "cooling_ms": row.cooling_ms,
    });
    if let Some(object) = value.as_object_mut() {
        if let Some(accepted) = &it.accepted {
            object.insert("accepted_ms".to_owned(), accepted.at_ms.into());
            object.insert("accepted_by".to_owned(), accepted.signer.clone().into());
            object.insert(
                "acts_from_ms".to_owned(),
                it.cooled_ms().max(row.from_ms).into(),
            );
        }
        let ended = it.accepted.as_ref().and_then(|accepted| accepted.ended_ms);
        if let Some(at_ms) = row.withdrawn_ms.or(ended) {
            object.insert("withdrawn_ms".to_owned(), at_ms.into());
        }
        if let Some(version) = row.register {
            object.insert("register".to_owned(), version.into());
        }
    }
    value
}

/// `PUT /agreements/{practice}/{organisation}/{reference}`: proposed by the practice.
pub(super) async fn propose(
    State(app): State<Shared>,
    bearer: Bearer,
    Path(path): Path<(String, String, String)>,
    raw: Body,
) -> Response {
    let answer = async {
        let named = named(path)?;
        let row = proposal(&named, json_body(raw).await?)?;
        let (task, caller) = (Shared::clone(&app), bearer.caller.clone());
        let body = json!({ "state": "proposed", "terms": row.terms() });
        let proposing = async move { task.gateway.propose_agreement(caller, row, &named).await };
        let ((), receipt) = done(proposing).await?;
        Ok(answered(StatusCode::CREATED, &body, &receipt))
    };
    say(answer.await)
}

fn proposal(named: &Named, terms: Terms) -> Result<AgreementRow, Problem> {
    let row = AgreementRow {
        reference: named.reference.clone(),
        practice: named.practice.as_str().to_owned(),
        organisation: named.organisation.as_str().to_owned(),
        purposes: terms.purposes,
        categories: terms.categories,
        labels: terms.labels,
        accepts_asserted: terms.accepts_asserted,
        emergency_overrides_objection: terms.emergency_overrides_objection,
        from_ms: terms.from_ms,
        until_ms: terms.until_ms,
        signer: terms.signer,
        hand: None,
        proposed_ms: 0,
        cooling_ms: 0,
        withdrawn_ms: None,
        register: None,
    };
    let lists = [&row.purposes, &row.categories, &row.labels];
    if lists.iter().any(|codes| codes.len() > 32) {
        return Err(bad("purposes, categories, labels: at most 32 each"));
    }
    row.check().map_err(|error| bad(error.to_string()))?;
    Ok(row)
}

/// `POST /agreements/{practice}/{organisation}/{reference}/accept`: by the organisation's own system.
pub(super) async fn accept(
    State(app): State<Shared>,
    bearer: Bearer,
    Path(path): Path<(String, String, String)>,
    raw: Body,
) -> Response {
    let answer = async {
        let named = named(path)?;
        let Acceptance { terms, signer } = json_body(raw).await?;
        check_signer(&named, &terms, &signer)?;
        let (task, caller) = (Shared::clone(&app), bearer.caller.clone());
        let accepting = Accepting { terms, signer };
        let work = async move {
            task.gateway
                .accept_agreement(caller, &named, accepting)
                .await
        };
        let ((), receipt) = done(work).await?;
        Ok(answered(
            StatusCode::OK,
            &json!({ "state": "accepted" }),
            &receipt,
        ))
    };
    say(answer.await)
}

fn check_signer(named: &Named, terms: &str, signer: &str) -> Result<(), Problem> {
    let row = crate::facts::Countersignature {
        reference: named.reference.clone(),
        practice: named.practice.as_str().to_owned(),
        organisation: named.organisation.as_str().to_owned(),
        terms: terms.to_owned(),
        signer: signer.to_owned(),
        hand: None,
        accepted_ms: 0,
        ended_ms: None,
    };
    if terms.len() != 64 {
        return Err(bad(
            "terms: must be the 64 hexadecimal digits that GET /agreements gives",
        ));
    }
    row.check().map_err(|error| bad(error.to_string()))
}

/// `DELETE /agreements/{practice}/{organisation}/{reference}`: withdrawn by the practice, or ended by the organisation.
pub(super) async fn withdraw(
    State(app): State<Shared>,
    bearer: Bearer,
    Path(path): Path<(String, String, String)>,
) -> Response {
    let answer = async {
        let named = named(path)?;
        let (task, caller) = (Shared::clone(&app), bearer.caller.clone());
        let ends = matches!(
            caller.token().map(|token| &token.scope),
            Some(Scope::Agreement {
                of: Side::Organisation(_)
            })
        );
        let ((), receipt) = if ends {
            done(async move { task.gateway.end_agreement(caller, &named).await }).await?
        } else {
            done(async move { task.gateway.withdraw_agreement(caller, &named).await }).await?
        };
        Ok(answered(
            StatusCode::OK,
            &json!({ "state": "withdrawn" }),
            &receipt,
        ))
    };
    say(answer.await)
}

/// `GET /practices/{practice}`: how it wants its agreements made, and which systems act for it.
pub(super) async fn settings(
    State(app): State<Shared>,
    bearer: Bearer,
    Path(practice): Path<String>,
) -> Response {
    let answer = async {
        let practice = code(&practice, "the path's practice")?;
        let (task, caller) = (Shared::clone(&app), bearer.caller.clone());
        let work = async move { task.gateway.settings(caller, &practice).await };
        let ((settings, clients, approvals), receipt) = done(work).await?;
        let now_ms = app.gateway.clock().now_ms();
        let body = json!({
            "practice": settings.practice, "cooling_off_ms": settings.cooling_off_ms,
            "cooling_off_now_ms": settings.cooling_off_at(now_ms), "contacts": settings.contacts,
            "clients": clients, "approvals": approvals,
        });
        Ok(answered(StatusCode::OK, &body, &receipt))
    };
    say(answer.await)
}

/// `PUT /practices/{practice}`: cooling-off time and contacts.
pub(super) async fn set(
    State(app): State<Shared>,
    bearer: Bearer,
    Path(practice): Path<String>,
    raw: Body,
) -> Response {
    let answer = async {
        let practice = code(&practice, "the path's practice")?;
        let Settings {
            cooling_off_ms,
            contacts,
        } = json_body(raw).await?;
        let asked = PracticeSettings::of(&practice).changed(cooling_off_ms, contacts.clone(), 0);
        let checked = Statement::PracticeSettings(asked).check();
        checked.map_err(|error| bad(error.to_string()))?;
        let (task, caller) = (Shared::clone(&app), bearer.caller.clone());
        let setting = (cooling_off_ms, contacts);
        let work = async move { task.gateway.set(caller, &practice, setting).await };
        let ((), receipt) = done(work).await?;
        Ok(answered(
            StatusCode::OK,
            &json!({ "cooling_off_ms": cooling_off_ms }),
            &receipt,
        ))
    };
    say(answer.await)
}

/// `PUT /practices/{practice}/clients/{client}`: this system may act for the practice.
pub(super) async fn accept_client(
    State(app): State<Shared>,
    bearer: Bearer,
    Path(path): Path<(String, String)>,
) -> Response {
    say(client(&app, &bearer, path, true).await)
}

/// `DELETE /practices/{practice}/clients/{client}`: it no longer may.
pub(super) async fn dismiss_client(
    State(app): State<Shared>,
    bearer: Bearer,
    Path(path): Path<(String, String)>,
) -> Response {
    say(client(&app, &bearer, path, false).await)
}

async fn client(
    app: &Shared,
    bearer: &Bearer,
    (practice, client): (String, String),
    accepted: bool,
) -> Result<Response, Problem> {
    let practice = code(&practice, "the path's practice")?;
    let id = ClientId::try_from(client.as_str())
        .map_err(|_| bad("the path's client: must be 1 to 64 letters, digits, . _ -"))?;
    let (task, caller) = (Shared::clone(app), bearer.caller.clone());
    let work = async move {
        task.gateway
            .accept_client(caller, &practice, (&id, accepted))
            .await
    };
    let ((), receipt) = done(work).await?;
    let body = json!({ "client": client, "accepted": accepted });
    Ok(answered(StatusCode::OK, &body, &receipt))
}
