//! The register of emergency providers over the wire: read, accepted by version and withdrawn by a practice's system,
//! read by its keeper. It names organisations, never "any": what a practice accepts is one agreement with each.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::agreement::{answered, bad, code, done, json_body, say};
use super::answer::Problem;
use super::{Bearer, Client, Shared};
use crate::facts::{AgreementRow, Register, RegisterAcceptance, State as Stands, reference};
use crate::gateway::EMERGENCY;

/// What a practice accepts; the path names the practice and the reference of the agreements.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u64,
    categories: Vec<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    emergency_overrides_objection: bool,
    from_ms: u64,
    until_ms: u64,
    signer: String,
}

/// `GET /practices/{practice}/register`: the register, what this practice accepted of it, and who is new.
pub(super) async fn of_practice(
    State(app): State<Shared>,
    bearer: Bearer,
    Path(practice): Path<String>,
) -> Response {
    let answer = async {
        let practice = code(&practice, "the path's practice")?;
        let (task, caller) = (Shared::clone(&app), bearer.caller.clone());
        let work = async move { task.gateway.providers_of(caller, &practice).await };
        let ((register, said), receipt) = done(work).await?;
        let now_ms = app.gateway.clock().now_ms();
        let standing: Vec<u64> = said
            .iter()
            .filter(|it| it.withdrawn_ms.is_none() && now_ms < it.until_ms)
            .map(|it| it.version)
            .collect();
        let (_, named) = register.providers();
        let new: Vec<&str> = named
            .iter()
            .filter(|it| standing.iter().all(|version| it.since > *version))
            .map(|it| it.ods.as_str())
            .collect();
        let mut body = register.providers_told();
        if let Some(members) = body.as_object_mut() {
            members.insert("new".to_owned(), json!(new));
            let said: Vec<Value> = said.iter().map(|it| told(it, &register, now_ms)).collect();
            members.insert("accepted".to_owned(), said.into());
        }
        Ok(answered(StatusCode::OK, &body, &receipt))
    };
    say(answer.await)
}

/// An acceptance as the practice and the keeper read it.
fn told(it: &RegisterAcceptance, register: &Register, now_ms: u64) -> Value {
    let word = register.keeper_word(&it.practice, &it.reference);
    let mut value = json!({
        "practice": it.practice, "reference": it.reference, "version": it.version, "terms": it.terms,
        "signer": it.signer, "agreements": it.agreements, "accepted_ms": it.accepted_ms,
        "until_ms": it.until_ms, "state": it.state(word, now_ms).code(),
    });
    if let (Some(word), Some(members)) = (word, value.as_object_mut()) {
        members.insert("answered_ms".to_owned(), word.at_ms.into());
        let acts = word.at_ms.saturating_add(it.cooling_ms).max(it.from_ms);
        members.insert("acts_from_ms".to_owned(), acts.into());
    }
    value
}

/// `PUT /practices/{practice}/register/{reference}`: this version is accepted, for emergencies alone.
pub(super) async fn accept(
    State(app): State<Shared>,
    bearer: Bearer,
    Path((practice, named)): Path<(String, String)>,
    raw: Body,
) -> Response {
    let answer = async {
        let practice = code(&practice, "the path's practice")?;
        let common = common(practice.as_str(), named, json_body(raw).await?)?;
        let (task, caller) = (Shared::clone(&app), bearer.caller.clone());
        let work = async move {
            let accepting = task.gateway.accept_providers(caller, &practice, common);
            accepting.await
        };
        let ((agreements, terms), receipt) = done(work).await?;
        let body =
            json!({ "state": Stands::Proposed.code(), "agreements": agreements, "terms": terms });
        Ok(answered(StatusCode::CREATED, &body, &receipt))
    };
    say(answer.await)
}

/// What each of the agreements says, checked as an agreement is; whom it is with comes from the register.
fn common(practice: &str, named: String, form: Form) -> Result<AgreementRow, Problem> {
    reference(&named).map_err(|error| bad(error.to_string()))?;
    let row = AgreementRow {
        reference: named,
        practice: practice.to_owned(),
        // Why the practice's own code: until it is expanded it is with nobody, and this is nobody's that asks.
        organisation: practice.to_owned(),
        purposes: EMERGENCY.iter().map(|it| it.code().to_owned()).collect(),
        categories: form.categories,
        labels: form.labels,
        accepts_asserted: false,
        emergency_overrides_objection: form.emergency_overrides_objection,
        from_ms: form.from_ms,
        until_ms: form.until_ms,
        signer: form.signer,
        hand: None,
        proposed_ms: 0,
        cooling_ms: 0,
        withdrawn_ms: None,
        register: Some(form.version),
    };
    if [&row.categories, &row.labels]
        .iter()
        .any(|codes| codes.len() > 32)
    {
        return Err(bad("categories, labels: at most 32 each"));
    }
    row.check().map_err(|error| bad(error.to_string()))?;
    Ok(row)
}

/// `DELETE /practices/{practice}/register/{reference}`: all of it is withdrawn at once.
pub(super) async fn withdraw(
    State(app): State<Shared>,
    bearer: Bearer,
    Path((practice, named)): Path<(String, String)>,
) -> Response {
    let answer = async {
        let practice = code(&practice, "the path's practice")?;
        reference(&named).map_err(|error| bad(error.to_string()))?;
        let (task, caller) = (Shared::clone(&app), bearer.caller.clone());
        let work = async move {
            let withdrawing = task.gateway.withdraw_providers(caller, &practice, &named);
            withdrawing.await
        };
        let ((), receipt) = done(work).await?;
        let body = json!({ "state": Stands::Withdrawn.code() });
        Ok(answered(StatusCode::OK, &body, &receipt))
    };
    say(answer.await)
}

/// `GET /admin/register`: the register, and every practice's acceptance of it, those that wait for an answer too.
pub(super) async fn of_keeper(State(app): State<Shared>, client: Client) -> Response {
    let answer = async {
        let (task, caller) = (Shared::clone(&app), client.certified());
        let work = async move { task.gateway.providers(caller).await };
        let ((register, said), receipt) = done(work).await?;
        let now_ms = app.gateway.clock().now_ms();
        let mut body = register.providers_told();
        if let Some(members) = body.as_object_mut() {
            let said: Vec<Value> = said.iter().map(|it| told(it, &register, now_ms)).collect();
            members.insert("accepted".to_owned(), said.into());
        }
        Ok(answered(StatusCode::OK, &body, &receipt))
    };
    say(answer.await)
}
