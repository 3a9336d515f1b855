//! The other side of the gateway: what a practice or a hospital does with it, in library form. A hospital's
//! side believes nothing: every answer is checked (receipt, ticket, deposit signature, both commitments, count)
//! before a record is given out, and what does not hold is named.

mod http;
mod possession;
mod seen;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use bytes::Bytes;
use hyper::{Method, StatusCode};
use keys::{ClientKey, OpenKey, PublicJwk, TicketEntry};
use serde_json::{Value, json};

pub use http::{Http, HttpError, Reply};
pub use possession::{Own, PossessionError};
pub use seen::{HistoryError, Kept, Seen};

use crate::ledger::{Evidence, Vkey, check};

/// What a client of the gateway knows of itself and of the gateway.
pub struct Party {
    /// Connection with its certificate.
    pub http: Http,
    /// OAuth client id.
    pub client_id: String,
    /// Signs its assertions.
    pub sign: ClientKey,
    /// Opens its tickets; hospitals have one.
    pub open: Option<OpenKey>,
    /// Issuer of tokens and tickets.
    pub issuer: String,
    /// Verifies the log.
    pub vkey: Vkey,
    /// What it has seen of the log: an answer that does not go on from there is not given out. `None` asks for no proofs.
    pub seen: Option<Seen>,
}

/// A release that was checked, and its records opened.
pub struct Opened {
    /// The records, in the order they came.
    pub records: Vec<Record>,
    /// The ledger's entry of this release.
    pub entry: Evidence,
    /// The `jti` of the access token that the ticket was made for; none where nothing was found.
    pub token: Option<String>,
    /// Where the next page is.
    pub next: Option<String>,
}

/// One opened record.
pub struct Record {
    /// `TYPE/ID`, as its practice calls it.
    pub name: String,
    /// The `fullUrl` that it had in the Bundle it was deposited in.
    pub full_url: Option<String>,
    /// Record id and version.
    pub kid: String,
    /// ODS code of the practice that filed it.
    pub practice: String,
    /// FHIR media type with version.
    pub media_type: String,
    /// The very bytes that were deposited.
    pub text: Bytes,
}

/// Why an answer gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There was none.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It was another one: a refusal, or a problem.
    #[error("{status}: {text}")]
    Status {
        /// Status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// It does not hold; nothing was opened.
    #[error("the answer does not hold: {0}")]
    Broken(String),
}

fn broken(text: impl std::fmt::Display) -> OpenError {
    OpenError::Broken(text.to_string())
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Party {
    /// A fresh client assertion (RFC 7523 §3), good for one minute and one use.
    #[must_use]
    pub fn assertion(&self, now_s: u64) -> String {
        let claims = json!({
            "iss": self.client_id, "sub": self.client_id, "aud": self.issuer,
            "jti": keys::random_id(), "iat": now_s, "exp": now_s + 60,
        });
        self.sign
            .signer()
            .sign_jws("JWT", claims.to_string().as_bytes())
    }

    /// Asks for a token; the answer may be a refusal.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn ask(&self, details: &Value, now_s: u64) -> Result<Reply, HttpError> {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &self.assertion(now_s)),
            ("authorization_details", &json!([details]).to_string()),
        ];
        let body = serde_urlencoded::to_string(form)
            .map_err(|error| HttpError::Request(error.to_string()))?;
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, "/oauth/token", &headers, body)
            .await
    }

    /// Sends one request, and holds the answer's receipt against what was seen of the log before.
    ///
    /// # Errors
    /// Where there is no answer, or its log is not the one that was seen.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, HttpError> {
        let Some(seen) = &self.seen else {
            return self.http.send(method, path, headers, body).await;
        };
        let last = seen.last();
        let size = last.as_ref().map(Kept::size);
        let mut headers = headers.to_vec();
        headers.extend(size.as_deref().map(|size| ("sallyport-seen", size)));
        let reply = self.http.send(method, path, &headers, body).await?;
        seen.take(&reply, last.as_ref(), &self.vkey)?;
        Ok(reply)
    }

    /// A token for these details.
    ///
    /// # Errors
    /// A refusal or problem, with its status and text.
    pub async fn token(&self, details: &Value, now_s: u64) -> Result<String, OpenError> {
        let reply = self.ask(details, now_s).await?;
        match (
            reply.status,
            reply.json().get("access_token").and_then(Value::as_str),
        ) {
            (StatusCode::OK, Some(token)) => Ok(token.to_owned()),
            _ => Err(OpenError::Status {
                status: reply.status,
                text: reply.text(),
            }),
        }
    }

    /// Reads with a token; the answer may be a refusal.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn read(&self, path: &str, token: &str) -> Result<Reply, HttpError> {
        self.send(
            Method::GET,
            path,
            &[("authorization", &format!("Bearer {token}"))],
            Bytes::new(),
        )
        .await
    }

    /// The keys that verify tickets and deposit signatures.
    ///
    /// # Errors
    /// Where there is no answer, or it is no JWK Set.
    pub async fn keys(&self) -> Result<Vec<PublicJwk>, OpenError> {
        let reply = self
            .http
            .send(Method::GET, "/.well-known/jwks.json", &[], Bytes::new())
            .await?;
        let set = reply.json();
        let keys = set
            .get("keys")
            .and_then(Value::as_array)
            .ok_or_else(|| broken("no JWK Set"))?;
        Ok(keys
            .iter()
            .filter_map(|key| PublicJwk::from_jwk(&key.to_string()).ok())
            .collect())
    }

    /// Checks and opens a release for this patient: nothing is given out unless all of it holds.
    ///
    /// # Errors
    /// What does not hold.
    pub fn open(
        &self,
        reply: &Reply,
        patient: &str,
        keys: &[PublicJwk],
        now_s: u64,
    ) -> Result<Opened, OpenError> {
        if reply.status != StatusCode::OK {
            return Err(OpenError::Status {
                status: reply.status,
                text: reply.text(),
            });
        }
        let mut lines = Vec::new();
        for line in reply
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            lines.push(serde_json::from_slice::<Value>(line).map_err(broken)?);
        }
        let [first, records @ .., end] = lines.as_slice() else {
            return Err(broken("it is cut short"));
        };
        if end.pointer("/end/records").and_then(Value::as_u64) != Some(records.len() as u64) {
            return Err(broken(
                "it is cut short: the last line does not count the records",
            ));
        }
        let receipt = first
            .get("receipt")
            .ok_or_else(|| broken("it has no receipt"))?;
        let entry = check(receipt, &self.vkey).map_err(broken)?;
        let next = first.get("next").and_then(Value::as_str).map(str::to_owned);
        let ticket = first.get("ticket").and_then(Value::as_str);
        let (records, token) = match (ticket, records) {
            (None, []) => (Vec::new(), None),
            (None, _) => return Err(broken("records came without a ticket")),
            (Some(ticket), records) => {
                self.open_records(ticket, records, &entry, (patient, keys, now_s))?
            }
        };
        Ok(Opened {
            records,
            entry,
            token,
            next,
        })
    }

    fn open_records(
        &self,
        ticket: &str,
        records: &[Value],
        entry: &Evidence,
        (patient, keys, now_s): (&str, &[PublicJwk], u64),
    ) -> Result<(Vec<Record>, Option<String>), OpenError> {
        let open = self
            .open
            .as_ref()
            .ok_or_else(|| broken("this party has no key that opens tickets"))?;
        let ticket = keys::open_ticket(open, keys, ticket).map_err(broken)?;
        if !ticket.is_for(&self.issuer, &self.client_id, now_s) {
            return Err(broken("the ticket is for another, by another, or expired"));
        }
        if ticket.leaf != entry.leaf_hash {
            return Err(broken(
                "the ticket names another entry of the ledger than the receipt",
            ));
        }
        let mut deks: BTreeMap<&str, _> = ticket
            .keys
            .iter()
            .map(|key| (key.kid.as_str(), key))
            .collect();
        if deks.len() != ticket.keys.len() || deks.len() != records.len() {
            return Err(broken("there is not exactly one key for each record"));
        }
        let mut sealed = Vec::with_capacity(records.len());
        for line in records {
            let member = |name| {
                line.get(name)
                    .and_then(Value::as_str)
                    .ok_or_else(|| broken("a record line"))
            };
            let (record, signature) = (member("record")?, member("signature")?);
            let kid = kid_of(record).ok_or_else(|| broken("a record without a kid"))?;
            let key = deks
                .remove(kid.as_str())
                .ok_or_else(|| broken("a record that the ticket does not name"))?;
            sealed.push((record, signature, key));
        }
        let one = |(record, signature, key): &(&str, &str, &TicketEntry)| {
            let deposit = keys::check_deposit(signature, keys, record, &key.dek, &key.kid, patient)
                .map_err(broken)?;
            let (media_type, text) =
                keys::open_record(&key.dek, &key.kid, record).map_err(broken)?;
            Ok(Record {
                name: key.res.clone(),
                full_url: key.full_url.clone(),
                kid: key.kid.clone(),
                practice: deposit.iss,
                media_type,
                text: Bytes::copy_from_slice(text.as_bytes()),
            })
        };
        let out = on_all_cores(&sealed, &one)?;
        Ok((out, Some(ticket.token.clone())))
    }
}

/// Records that are worth a thread of their own.
const SHARE_MIN: usize = 32;

/// Does the same to each, on as many cores as there are: a deposit signature takes longer than all else of a record.
fn on_all_cores<T: Sync, R: Send>(
    all: &[T],
    one: &(impl Fn(&T) -> Result<R, OpenError> + Sync),
) -> Result<Vec<R>, OpenError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = all.len().div_ceil(cores).max(SHARE_MIN);
    let (first, rest) = all.split_at(all.len().min(share));
    std::thread::scope(|scope| {
        let shares = rest.chunks(share);
        let others: Vec<_> = shares
            .map(|share| scope.spawn(move || share.iter().map(one).collect::<Result<Vec<_>, _>>()))
            .collect();
        let mut out = first.iter().map(one).collect::<Result<Vec<_>, _>>()?;
        for other in others {
            let other = other.join();
            out.extend(other.map_err(|_| broken("it could not be opened"))??);
        }
        Ok(out)
    })
}

/// Which record a compact JWE says it is; opening it checks that.
fn kid_of(record: &str) -> Option<String> {
    let header = B64
        .decode(
            record
                .split('.')
                .next()
                .filter(|header| header.len() < 1024)?,
        )
        .ok()?;
    serde_json::from_slice::<Value>(&header)
        .ok()?
        .get("kid")?
        .as_str()
        .map(str::to_owned)
}
