//! The OpenAPI 3.1 description of every route: what each takes, who may come in, and every answer there is, refusals
//! included. Made from `described` and `shapes.json`; vocabularies come from the policy. It says nothing of any data.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use policy::AdminAct;
use policy::words::{Category, Finding, Label, Purpose, RelationKind};
use serde_json::{Map, Value, json};

use super::answer::json_response;
use super::described::{AS_FHIR, AS_JSON, Answer, DESCRIBED, Operation, Receipted};
use super::{Client, ROUTES, Shared};

/// The shapes that rows name: parameters, headers, bodies. An array of JSON Schema 2020-12, as OpenAPI 3.1 has it.
const SHAPES: &str = include_str!("shapes.json");
const RECEIPT: &str = "Sallyport-Receipt";
/// Every status of a refusal.
const REFUSALS: [u16; 15] = [
    400, 401, 403, 404, 406, 408, 409, 413, 414, 415, 422, 429, 431, 500, 503,
];

const _: () = assert!(
    every_route_is_described(),
    "each route of ROUTES needs its row in src/http/described.rs, and each row a route"
);

const fn every_route_is_described() -> bool {
    let mut routes = ROUTES;
    while let [(method, path), rest @ ..] = routes {
        let (mut rows, mut found) = (DESCRIBED, false);
        while let [row, others @ ..] = rows {
            found = found || (same(row.method, method) && same(row.path, path));
            rows = others;
        }
        if !found {
            return false;
        }
        routes = rest;
    }
    ROUTES.len() == DESCRIBED.len()
}

const fn same(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        match (one, other) {
            ([], []) => return true,
            ([a, rest @ ..], [b, others @ ..]) if *a == *b => (one, other) = (rest, others),
            _ => return false,
        }
    }
}

/// `GET /openapi.json`
pub(super) async fn description(State(app): State<Shared>, _client: Client) -> Response {
    json_response(StatusCode::OK, &openapi(app.gateway.tokens().issuer()))
}

/// The description of a gateway at this address.
#[must_use]
pub fn openapi(issuer: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for row in DESCRIBED {
        let path = paths
            .entry(row.path.replace("{*", "{"))
            .or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(row.method.to_lowercase(), row.described());
        }
    }
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Sallyport",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "An encrypted record-sharing gateway between GP systems and hospitals",
            "description": "Mutual TLS only. Nothing is released that is not recorded; what is not known refuses; every \
                            refusal by decision has the same bytes. Times that end in _ms are milliseconds since 1970.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": issuer }],
        "security": [{ "certificate": [] }],
        "paths": paths,
        "components": components(),
    })
}

/// The shapes, with the closed vocabularies as the policy has them.
fn components() -> Value {
    let mut components: Value = serde_json::from_str(SHAPES).unwrap_or_default();
    if let Some(schemas) = components.get_mut("schemas").and_then(Value::as_object_mut) {
        let words = |words: Vec<&str>| json!({ "type": "string", "enum": words });
        let mut add = |name: &str, value: Value| schemas.insert(name.to_owned(), value);
        add(
            "Category",
            words(Category::ALL.iter().map(|it| it.code()).collect()),
        );
        add(
            "Label",
            words(Label::ALL.iter().map(|it| it.code()).collect()),
        );
        add(
            "RelationKind",
            words(RelationKind::ALL.iter().map(|it| it.code()).collect()),
        );
        add(
            "Finding",
            words(Finding::ALL.iter().map(|it| it.code()).collect()),
        );
        add(
            "Purpose",
            words(Purpose::NAMED.iter().map(Purpose::code).collect()),
        );
        add("Act", words(AdminAct::ACTS.to_vec()));
    }
    let mut responses = Map::new();
    for (side, is_fhir) in [("fhir", true), ("json", false)] {
        for status in REFUSALS {
            responses.insert(format!("{side}-{status}"), refusal(is_fhir, status));
        }
    }
    if let Some(components) = components.as_object_mut() {
        components.insert("responses".to_owned(), responses.into());
    }
    components
}

fn of(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

impl Operation {
    fn is_fhir(&self) -> bool {
        self.path.starts_with("/fhir")
    }

    fn tag(&self) -> &'static str {
        match self.path.split('/').nth(1).unwrap_or_default() {
            "fhir" => "records",
            "oauth" | ".well-known" => "tokens",
            "agreements" | "practices" => "agreements",
            "feed" => "objections",
            "auditor" | "history" | "notices" | "reviews" => "oversight",
            "log" => "log",
            "admin" => "administration",
            _ => "description",
        }
    }

    /// The names between braces in the path.
    fn in_path(&self) -> impl Iterator<Item = &'static str> {
        let pieces = self.path.split('/');
        pieces
            .filter_map(|piece| piece.strip_prefix('{')?.strip_suffix('}'))
            .map(|name| name.trim_start_matches('*'))
    }

    fn described(&self) -> Value {
        let mut value = json!({
            "operationId": self.id,
            "tags": [self.tag()],
            "summary": self.about,
            "responses": self.responses(),
        });
        let Some(object) = value.as_object_mut() else {
            return value;
        };
        let parameters: Vec<Value> = self
            .in_path()
            .chain(self.asks.iter().copied())
            .map(|name| of("parameters", name))
            .collect();
        if !parameters.is_empty() {
            object.insert("parameters".to_owned(), parameters.into());
        }
        if let Some(kind) = self.token {
            object.insert(
                "description".to_owned(),
                format!("Token: `authorization_details` of type {kind}.").into(),
            );
            object.insert(
                "security".to_owned(),
                json!([{ "certificate": [], "token": [] }]),
            );
        }
        if let Some(sent) = &self.body {
            let content: Map<String, Value> = sent
                .media
                .iter()
                .map(|media| {
                    (
                        (*media).to_owned(),
                        json!({ "schema": of("schemas", sent.shape) }),
                    )
                })
                .collect();
            object.insert(
                "requestBody".to_owned(),
                json!({ "required": sent.required, "content": content }),
            );
        }
        value
    }

    fn responses(&self) -> Value {
        let mut all: Map<String, Value> = Map::new();
        for answer in self.answers {
            all.insert(answer.status.to_string(), answer.described());
        }
        let mut refusals = vec![401, 403, 414, 429, 431, 500, 503];
        let has_input =
            self.in_path().next().is_some() || !self.asks.is_empty() || self.body.is_some();
        refusals.extend(has_input.then_some(400));
        refusals.extend(self.body.iter().flat_map(|_| [408, 413]));
        refusals.extend(self.refuses);
        for status in refusals {
            let side = if self.is_fhir() { "fhir" } else { "json" };
            let name = format!("{side}-{status}");
            all.insert(status.to_string(), of("responses", &name));
        }
        all.into()
    }
}

/// How the FHIR side, or another, refuses with this status.
fn refusal(is_fhir: bool, status: u16) -> Value {
    let about = match status {
        400 => "It breaks a rule of its own form: the text names the member and the rule.",
        401 => "No registered certificate, or no token that is believed here.",
        403 => "Refused by decision, and recorded; always these bytes.",
        404 => "There is no such thing, and the caller may know it.",
        406 => "Records leave as encrypted envelopes only.",
        408 => "The body took longer than 60 seconds.",
        409 => "It does not fit what stands: the text says what has to be so first.",
        413 => "The body is larger than its limit.",
        414 => "The path and query have more than 4096 bytes.",
        415 => "Not a media type that is taken here.",
        422 => "It reads, and means what cannot be: the text names the member and the rule.",
        429 => "More than the budget allows, or too many emergencies within the hour.",
        431 => "The head is larger than 32 KiB.",
        503 => "It cannot be recorded or kept at present, so nothing was done.",
        _ => "Something of ours is broken; nothing was released.",
    };
    if status == 431 {
        return json!({ "description": about });
    }
    let (media, shape) = if is_fhir {
        (AS_FHIR, "OperationOutcome")
    } else {
        (AS_JSON, "Error")
    };
    let headers: &[(&str, &str)] = match status {
        401 => &[("WWW-Authenticate", "WWW-Authenticate")],
        403 => &[(RECEIPT, RECEIPT)],
        429 => &[
            ("Retry-After", "Retry-After"),
            (RECEIPT, "Receipt-Where-Recorded"),
        ],
        503 => &[("Retry-After", "Retry-After")],
        _ => &[],
    };
    let headers: Map<String, Value> = headers
        .iter()
        .map(|(name, shape)| ((*name).to_owned(), of("headers", shape)))
        .collect();
    let mut value =
        json!({ "description": about, "content": { media: { "schema": of("schemas", shape) } } });
    if let (false, Some(object)) = (headers.is_empty(), value.as_object_mut()) {
        object.insert("headers".to_owned(), headers.into());
    }
    value
}

impl Answer {
    fn described(&self) -> Value {
        let mut value = json!({ "description": self.about });
        let Some(object) = value.as_object_mut() else {
            return value;
        };
        let receipt = match self.receipt {
            Receipted::No => None,
            Receipted::Yes => Some((RECEIPT, RECEIPT)),
            Receipted::Sometimes => Some((RECEIPT, "Receipt-Where-Recorded")),
        };
        let headers = self
            .headers
            .iter()
            .map(|name| (*name, *name))
            .chain(receipt);
        let headers: Map<String, Value> = headers
            .map(|(name, shape)| (name.to_owned(), of("headers", shape)))
            .collect();
        if !headers.is_empty() {
            object.insert("headers".to_owned(), headers.into());
        }
        if let Some((media, shape)) = self.content {
            object.insert(
                "content".to_owned(),
                json!({ media: { "schema": of("schemas", shape) } }),
            );
        }
        value
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use std::collections::BTreeSet;

    use super::*;

    /// Every `$ref` below this value.
    fn named(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    match value.as_str() {
                        Some(target) if name == "$ref" => drop(found.insert(target.to_owned())),
                        _ => named(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| named(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_shape_that_is_named_is_there_and_every_shape_is_named() {
        let document = openapi("https://gateway.example.nhs.uk");
        let mut found = BTreeSet::new();
        named(&document, &mut found);
        for target in &found {
            let shape = document.pointer(target.trim_start_matches('#'));
            assert!(shape.is_some(), "{target} is named and not there");
        }
        for kind in ["parameters", "headers", "schemas", "responses"] {
            for name in document
                .pointer(&format!("/components/{kind}"))
                .unwrap()
                .as_object()
                .unwrap()
                .keys()
            {
                let target = format!("#/components/{kind}/{name}");
                let beside = name.starts_with("Release") || name == "json-406";
                assert!(
                    beside || found.contains(&target),
                    "{target} is there and never named"
                );
            }
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_says_how_it_refuses() {
        let document = openapi("https://gateway.example.nhs.uk");
        let mut names = BTreeSet::new();
        for row in DESCRIBED {
            assert!(names.insert(row.id), "{} stands twice", row.id);
            assert!(!row.answers.is_empty(), "{} never succeeds", row.id);
            let pointer = row.path.replace("{*", "{").replace('/', "~1");
            let said = document.pointer(&format!(
                "/paths/{pointer}/{}/responses",
                row.method.to_lowercase()
            ));
            for status in ["401", "403", "429", "503"] {
                assert!(
                    said.unwrap().get(status).is_some(),
                    "{} does not say {status}",
                    row.id
                );
            }
        }
    }
}
