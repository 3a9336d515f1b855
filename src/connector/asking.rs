//! Asking the gateway, and believing nothing of its answer: receipt, ticket, deposit signatures and both commitments
//! (in [`crate::connect`]), and here that the ledger recorded this very question, by this person, with this token,
//! now. Every receipt is on disk before anything is given out; refusals are evidence too.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use keys::PublicJwk;
use policy::words::NhsNumber;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::kept::Kept;
use super::said::Trouble;
use super::session::{Session, Token};
use super::stated::Stated;
use super::watch::Watch;
use crate::clock::Clock;
use crate::connect::{OpenError, Opened, Party, Reply};
use crate::ledger::{Evidence, check};

/// A token is not used in its last seconds.
const MARGIN_MS: u64 = 20_000;

/// One organisation's way to the gateway.
pub(super) struct Asking {
    pub(super) party: Arc<Party>,
    pub(super) clock: Clock,
    pub(super) kept: Kept,
    pub(super) watch: Watch,
    pub(super) session: Session,
    keys: Mutex<Arc<Vec<PublicJwk>>>,
    /// One emergency is declared once, however many requests come at the same time.
    emergencies: tokio::sync::Mutex<()>,
}

/// How the ledger must have recorded what was asked.
pub(super) struct Expected<'a> {
    pub(super) patient: &'a NhsNumber,
    pub(super) stated: &'a Stated,
    /// Member of the entry's object, and its value: `search` and the query, `name` and TYPE/ID, `selection` `everything`.
    pub(super) object: (&'static str, &'a str),
}

fn broken(text: impl Into<String>) -> Trouble {
    Trouble::Broken(text.into())
}

impl Asking {
    pub(super) fn new(party: Party, clock: Clock, kept: Kept, watch: Watch) -> Self {
        Self {
            party: Arc::new(party),
            clock,
            kept,
            watch,
            session: Session::default(),
            keys: Mutex::default(),
            emergencies: tokio::sync::Mutex::default(),
        }
    }

    /// # Errors
    /// Nothing is asked of a gateway whose log contradicted itself.
    pub(super) fn trusts(&self) -> Result<(), Trouble> {
        match self.watch.distrust() {
            None => Ok(()),
            Some(why) => Err(broken(format!(
                "its log contradicts itself ({why}); tell the operator and the auditors, and keep this connector's folder as evidence"
            ))),
        }
    }

    /// Checks a receipt, takes it as fresh evidence, and keeps it.
    pub(super) async fn evidence(
        &self,
        receipt: &Value,
        asked_at: u64,
    ) -> Result<Evidence, Trouble> {
        let evidence = check(receipt, &self.party.vkey)
            .map_err(|error| broken(format!("the receipt: {error}")))?;
        self.watch.take(&evidence, asked_at).map_err(broken)?;
        self.kept.receipt(receipt).await?;
        Ok(evidence)
    }

    /// What became of a request that was not permitted, or not served.
    pub(super) async fn not_done(&self, reply: &Reply, asked_at: u64) -> Trouble {
        if reply.status == StatusCode::FORBIDDEN {
            let Some(receipt) = header_receipt(reply) else {
                return broken("it refuses, and shows no entry of its ledger that says so");
            };
            let evidence = match self.evidence(&receipt, asked_at).await {
                Ok(evidence) => evidence,
                Err(trouble) => return trouble,
            };
            let refused = said(&Value::Object(evidence.leaf.clone()), "/out") == "refuse";
            let ours = opened(&evidence, "actor", "/client") == self.party.client_id;
            return match refused && ours {
                true => Trouble::Refused(evidence.index),
                false => broken("it refuses, and its ledger says otherwise"),
            };
        }
        let wait = reply.header("retry-after").map(str::to_owned);
        Trouble::Gateway(reply.status, words_of(reply), wait)
    }

    /// The token for this patient and what was stated: the one that lives, or a new one.
    async fn token(
        &self,
        patient: &NhsNumber,
        stated: &Stated,
    ) -> Result<(String, Token), Trouble> {
        let details = stated.details(patient);
        let name = details.to_string();
        let now_ms = self.clock.now_ms();
        if let Some(token) = self.session.token(&name, now_ms) {
            return Ok((name, token));
        }
        let _one = match stated.is_emergency() {
            true => Some(self.emergencies.lock().await),
            false => None,
        };
        if let Some(token) = self.session.token(&name, now_ms) {
            return Ok((name, token));
        }
        let asked_at = self.watch.size();
        let reply = self.party.ask(&details, self.clock.now_s()).await?;
        if reply.status != StatusCode::OK {
            return Err(self.not_done(&reply, asked_at).await);
        }
        let receipt = header_receipt(&reply).ok_or_else(|| broken("the token has no receipt"))?;
        let evidence = self.evidence(&receipt, asked_at).await?;
        let wanted = [
            ("actor", "/client", self.party.client_id.as_str()),
            ("actor", "/practitioner", &stated.practitioner),
            ("subject", "/nhs", patient.as_str()),
            ("context", "/purpose", &stated.purpose),
            ("context", "/outcome", "permit"),
        ];
        recorded("token.issue", &evidence, &wanted)?;
        let token = token_of(&reply.json(), now_ms)?;
        self.session.keep(name.clone(), token.clone(), now_ms);
        Ok((name, token))
    }

    /// Reads this path of the gateway: opened records that were checked, or why there are none.
    pub(super) async fn read(
        &self,
        path: &str,
        expected: &Expected<'_>,
    ) -> Result<Opened, Trouble> {
        self.trusts()?;
        let (mut name, mut token) = self.token(expected.patient, expected.stated).await?;
        let mut asked_at = self.watch.size();
        let mut reply = self.party.read(path, &token.text).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            // Why again: a token may have been revoked; a new one is asked for, and decided about, anew.
            self.session.forget(&name);
            (name, token) = self.token(expected.patient, expected.stated).await?;
            asked_at = self.watch.size();
            reply = self.party.read(path, &token.text).await?;
        }
        if reply.status != StatusCode::OK {
            self.session.forget(&name);
            return Err(self.not_done(&reply, asked_at).await);
        }
        let (opened, receipt) = self.opened(reply, expected.patient).await?;
        self.watch.take(&opened.entry, asked_at).map_err(broken)?;
        // Why before the rest is looked at: what the ledger says was released is evidence, whatever else is wrong.
        self.kept.receipt(&receipt).await?;
        self.is_answer(&opened, expected, &token)?;
        self.trusts()?;
        Ok(opened)
    }

    /// Does something under a token for these details: the answer, and the entry that receipts it, which is of this
    /// event, if one is named, and says these things. Anything but success is trouble.
    pub(super) async fn act(
        &self,
        (method, path, headers, body): (Method, &str, &[(&'static str, &str)], Bytes),
        details: &Value,
        event: Option<&str>,
        wanted: &[(&str, &str, &str)],
    ) -> Result<(Reply, u64), Trouble> {
        self.trusts()?;
        let token = self.plain_token(details).await?;
        let asked_at = self.watch.size();
        let bearer = format!("Bearer {}", token.text);
        let mut all = vec![("authorization", bearer.as_str())];
        all.extend_from_slice(headers);
        let reply = self.party.http.send(method, path, &all, body).await?;
        if !reply.status.is_success() {
            self.session.forget(&details.to_string());
            return Err(self.not_done(&reply, asked_at).await);
        }
        let receipt = header_receipt(&reply);
        let receipt = receipt.ok_or_else(|| broken("it shows no entry of its ledger"))?;
        let evidence = self.evidence(&receipt, asked_at).await?;
        let own = [
            ("actor", "/client", self.party.client_id.as_str()),
            ("context", "/outcome", "permit"),
        ];
        let said = evidence
            .leaf
            .get("ev")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let event = event.unwrap_or(said).to_owned();
        recorded(&event, &evidence, &own)?;
        recorded(&event, &evidence, wanted)?;
        Ok((reply, evidence.index))
    }

    /// Reads something of the practice's own that is no record and has no receipt.
    pub(super) async fn plain_read(&self, path: &str, details: &Value) -> Result<Value, Trouble> {
        let token = self.plain_token(details).await?;
        let reply = self.party.read(path, &token.text).await?;
        match reply.status {
            StatusCode::OK => Ok(reply.json()),
            _ => {
                self.session.forget(&details.to_string());
                Err(self.not_done(&reply, self.watch.size()).await)
            }
        }
    }

    /// A token for these details, without a patient's record behind it.
    async fn plain_token(&self, details: &Value) -> Result<Token, Trouble> {
        let (name, now_ms) = (details.to_string(), self.clock.now_ms());
        if let Some(token) = self.session.token(&name, now_ms) {
            return Ok(token);
        }
        let asked_at = self.watch.size();
        let reply = self.party.ask(details, self.clock.now_s()).await?;
        if reply.status != StatusCode::OK {
            return Err(self.not_done(&reply, asked_at).await);
        }
        let receipt = header_receipt(&reply).ok_or_else(|| broken("the token has no receipt"))?;
        let evidence = self.evidence(&receipt, asked_at).await?;
        let own = [("actor", "/client", self.party.client_id.as_str())];
        recorded("token.issue", &evidence, &own)?;
        let token = token_of(&reply.json(), now_ms)?;
        self.session.keep(name, token.clone(), now_ms);
        Ok(token)
    }

    /// Opens an answer; with the gateway's keys fetched anew if the known ones do not do.
    async fn opened(&self, reply: Reply, patient: &NhsNumber) -> Result<(Opened, Value), Trouble> {
        let reply = Arc::new(reply);
        let (mut keys, mut fresh) = (self.known_keys(), false);
        loop {
            if keys.is_empty() {
                keys = Arc::new(self.party.keys().await?);
                *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keys);
                fresh = true;
            }
            let (party, with, answer) = (
                Arc::clone(&self.party),
                Arc::clone(&keys),
                Arc::clone(&reply),
            );
            let (patient, now_s) = (patient.clone(), self.clock.now_s());
            let open = move || {
                let opened = party.open(&answer, patient.as_str(), &with, now_s)?;
                let first = answer.body.split(|byte| *byte == b'\n').next();
                let first: Value =
                    serde_json::from_slice(first.unwrap_or_default()).unwrap_or_default();
                let receipt = first.get("receipt").cloned().unwrap_or_default();
                Ok::<_, OpenError>((opened, receipt))
            };
            let opened = tokio::task::spawn_blocking(open).await;
            match opened.map_err(|error| Trouble::Own(error.to_string()))? {
                Ok(opened) => return Ok(opened),
                Err(OpenError::Broken(_)) if !fresh => keys = Arc::default(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn known_keys(&self) -> Arc<Vec<PublicJwk>> {
        Arc::clone(&self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the ledger recorded this question and no other, and released exactly these records for it.
    fn is_answer(
        &self,
        opened: &Opened,
        expected: &Expected<'_>,
        token: &Token,
    ) -> Result<(), Trouble> {
        let (member, value) = expected.object;
        let object = format!("/{member}");
        let wanted = [
            ("actor", "/client", self.party.client_id.as_str()),
            ("actor", "/practitioner", &expected.stated.practitioner),
            ("subject", "/nhs", expected.patient.as_str()),
            ("context", "/purpose", &expected.stated.purpose),
            ("context", "/token", &token.jti),
            ("context", "/outcome", "permit"),
            ("object", &object, value),
        ];
        recorded("record.release", &opened.entry, &wanted)?;
        if opened.token.as_ref().is_some_and(|of| *of != token.jti) {
            return Err(broken("the ticket was made for another access token"));
        }
        let kids: Vec<&str> = opened
            .records
            .iter()
            .map(|record| record.kid.as_str())
            .collect();
        let digest: String = Sha256::digest(kids.join("\n"))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let records = opened
            .entry
            .opened
            .get("object")
            .and_then(|it| it.get("records"));
        let listed = match records {
            None => kids.is_empty(),
            Some(listed) => {
                listed.get("count").and_then(Value::as_u64) == Some(kids.len() as u64)
                    && said(listed, "/sha256") == digest
            }
        };
        match listed {
            true => Ok(()),
            false => Err(broken("these are not the records that its ledger names")),
        }
    }
}

fn said<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn opened<'e>(evidence: &'e Evidence, group: &str, pointer: &str) -> &'e str {
    evidence
        .opened
        .get(group)
        .map_or("", |value| said(value, pointer))
}

/// Whether an entry is of this event and says these things, each opened from its commitment.
fn recorded(
    event: &str,
    evidence: &Evidence,
    wanted: &[(&str, &str, &str)],
) -> Result<(), Trouble> {
    if evidence.leaf.get("ev").and_then(Value::as_str) != Some(event) {
        return Err(broken(format!(
            "entry {} of the ledger is of something else",
            evidence.index
        )));
    }
    for (group, pointer, value) in wanted {
        if opened(evidence, group, pointer) != *value {
            let member = pointer.trim_start_matches('/');
            let text = format!(
                "it answers another question: its entry in the ledger has another {group}.{member}"
            );
            return Err(broken(text));
        }
    }
    Ok(())
}

/// The receipt that an answer carries in its header.
pub(super) fn header_receipt(reply: &Reply) -> Option<Value> {
    let bytes = B64.decode(reply.header("sallyport-receipt")?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// A token, as the token endpoint answers.
fn token_of(body: &Value, now_ms: u64) -> Result<Token, Trouble> {
    let text = said(body, "/access_token").to_owned();
    let jti = jti_of(&text).ok_or_else(|| broken("the access token is none"))?;
    let life_s = body.get("expires_in").and_then(Value::as_u64).unwrap_or(0);
    let until_ms = now_ms.saturating_add(life_s.saturating_mul(1000));
    Ok(Token {
        text,
        jti,
        until_ms: until_ms.saturating_sub(MARGIN_MS),
    })
}

/// An access token's own name. Its signature is the gateway's affair: it came from there, and goes back there.
fn jti_of(token: &str) -> Option<String> {
    let payload = B64.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&payload).ok()?;
    let jti = claims.get("jti")?.as_str()?;
    (!jti.is_empty()).then(|| jti.to_owned())
}

/// What the gateway said of a problem, in its own words.
pub(super) fn words_of(reply: &Reply) -> String {
    let body = reply.json();
    let texts = ["/error_description", "/issue/0/details/text", "/error"];
    let found = texts
        .iter()
        .map(|at| said(&body, at))
        .find(|text| !text.is_empty());
    let text: String = found.unwrap_or_default().chars().take(500).collect();
    match text.is_empty() {
        true => reply.status.to_string(),
        false => text,
    }
}
