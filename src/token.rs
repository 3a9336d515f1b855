//! Tokens: what a client assertion must say, what an access token says, and that each is believed only after
//! its signature, its strictly typed times and its binding held. The only file that names `jsonwebtoken`,
//! which verifies here and never signs; times are checked against our clock, not its own.

mod recent;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use jsonwebtoken::{Algorithm, DecodingKey, crypto, jwk::Jwk};
use policy::ask::WIDE_REASON_CHARS;
use policy::caller::{Born, HistoryScope, RecordScope, RelationClaim, Scope, Side, Token};
use policy::words::{Category, NhsNumber, PractitionerId, Purpose};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::facts::{category, number, ods, relation};
use recent::{Recent, Signed};

#[cfg(test)]
mod tests;

/// How long an access token lives, seconds.
pub const TOKEN_SECONDS: u64 = 300;
/// The longest life of a client assertion, seconds (SMART Backend Services).
pub const ASSERTION_SECONDS: u64 = 300;
/// How far a client's clock may be ahead of ours, seconds.
const AHEAD_SECONDS: u64 = 30;
/// The longest token text that is looked at, bytes.
pub const TOKEN_BYTES: usize = 8 * 1024;
/// The longest reason, reference or other free text in a request, characters.
const TEXT_CHARS: usize = 500;

/// Signs tokens with the active key and says which keys verify; lent by the vault.
pub trait Signs: Send + Sync {
    /// Compact JWS (ES256) with this `typ`.
    fn sign(&self, typ: &str, payload: &[u8]) -> String;
    /// Public JWKs, active and retired, as JSON.
    fn verifying(&self) -> Vec<String>;
    /// Changes whenever any key does.
    fn epoch(&self) -> u64;
}

/// Why a token or an assertion is not believed. The words go to the client: they name a member and a rule
/// of its own message, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotBelieved(pub &'static str);

/// Issues and reads tokens of one issuer.
pub struct Tokens {
    issuer: String,
    signs: Arc<dyn Signs>,
    verifying: RwLock<Verifying>,
    recent: Mutex<Recent>,
    used: Mutex<Remembered<[u8; 16]>>,
    revoked: Mutex<Remembered<String>>,
}

/// What is remembered until it would have expired anyway. Forgetting costs what is forgotten, not what is kept.
struct Remembered<K> {
    until: HashMap<K, u64>,
    /// Keys by the second in which they may be forgotten.
    by_second: BTreeMap<u64, Vec<K>>,
}

impl<K: Clone + Eq + std::hash::Hash> Remembered<K> {
    fn new() -> Self {
        Self {
            until: HashMap::new(),
            by_second: BTreeMap::new(),
        }
    }

    /// `false` if it is remembered already; it then stays so for as long as it was.
    fn insert(&mut self, key: K, until_ms: u64, now_ms: u64) -> bool {
        while let Some(second) = self
            .by_second
            .first_entry()
            .filter(|entry| *entry.key() * 1000 < now_ms)
        {
            for key in second.remove() {
                self.until.remove(&key);
            }
        }
        if self.until.contains_key(&key) {
            return false;
        }
        // Why a second more: nothing is forgotten in the second in which it still counts.
        self.by_second
            .entry(until_ms / 1000 + 1)
            .or_default()
            .push(key.clone());
        self.until.insert(key, until_ms);
        true
    }

    fn contains(&self, key: &K) -> bool {
        self.until.contains_key(key)
    }
}

/// The keys that verify our own tokens, read once an epoch of the keyring.
struct Verifying {
    epoch: u64,
    keys: Arc<[VerifyingKey]>,
}

/// A client assertion that is believed: whose it is, and the tag under which it is used up.
#[derive(Debug)]
pub struct Assertion {
    tag: [u8; 16],
    expires_ms: u64,
}

impl Assertion {
    /// As the leaf's `aj` member says it: base64url of SHA-256(client id ‖ 0x00 ‖ jti), first 16 bytes.
    #[must_use]
    pub fn member(&self) -> String {
        B64.encode(self.tag)
    }
}

#[derive(Deserialize)]
struct AssertionClaims {
    iss: String,
    sub: String,
    aud: Audience,
    jti: String,
    iat: u64,
    exp: u64,
    nbf: Option<u64>,
}

/// RFC 7519 §4.1.3: one audience, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    /// Whether it is for us alone. Why alone: whoever else it is for could bring it here.
    fn names(&self, ours: &[&str]) -> bool {
        let is_ours = |name: &String| ours.contains(&name.as_str());
        match self {
            Self::One(name) => is_ours(name),
            Self::Several(names) => !names.is_empty() && names.iter().all(is_ours),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Confirmation {
    #[serde(rename = "x5t#S256")]
    thumbprint: String,
}

#[derive(Serialize, Deserialize)]
struct AccessClaims {
    iss: String,
    sub: String,
    client_id: String,
    aud: String,
    iat: u64,
    exp: u64,
    jti: String,
    cnf: Confirmation,
    authorization_details: Vec<Value>,
}

/// An access token as it goes out.
pub struct Issued {
    /// The compact JWS.
    pub access_token: String,
    /// What it is for, as granted.
    pub authorization_details: Value,
}

impl Tokens {
    /// Tokens of this issuer.
    #[must_use]
    pub fn new(issuer: String, signs: Arc<dyn Signs>) -> Self {
        Self {
            issuer,
            signs,
            verifying: RwLock::new(Verifying {
                epoch: u64::MAX,
                keys: Arc::new([]),
            }),
            recent: Mutex::new(Recent::default()),
            used: Mutex::new(Remembered::new()),
            revoked: Mutex::new(Remembered::new()),
        }
    }

    /// Who issues.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Believes a client assertion (RFC 7523 §3) or says why not. It is not used up yet.
    ///
    /// # Errors
    /// Which claim breaks which rule.
    pub fn assertion(
        &self,
        client: &str,
        sign_key: &Value,
        text: &str,
        now_s: u64,
    ) -> Result<Assertion, NotBelieved> {
        let key = VerifyingKey::from_jwk(sign_key).ok_or(NotBelieved(
            "client_assertion: the registered key is neither P-256 nor Ed25519",
        ))?;
        let claims: AssertionClaims = verify(text, &key, "client_assertion", None)?;
        if claims.iss != client || claims.sub != client {
            return Err(NotBelieved(
                "client_assertion: iss and sub must both be the client_id",
            ));
        }
        if !claims
            .aud
            .names(&[&self.issuer, &format!("{}/oauth/token", self.issuer)])
        {
            return Err(NotBelieved(
                "client_assertion: aud must be the issuer or the token endpoint, and nobody else",
            ));
        }
        if claims.jti.is_empty() || claims.jti.len() > 256 {
            return Err(NotBelieved(
                "client_assertion: jti must have 1 to 256 characters",
            ));
        }
        if claims.exp <= now_s {
            return Err(NotBelieved("client_assertion: exp has passed"));
        }
        if claims.iat > now_s + AHEAD_SECONDS
            || claims.nbf.is_some_and(|nbf| nbf > now_s + AHEAD_SECONDS)
        {
            return Err(NotBelieved(
                "client_assertion: iat or nbf lies in the future",
            ));
        }
        let limit = ASSERTION_SECONDS;
        if claims.exp.saturating_sub(claims.iat) > limit
            || claims.exp > now_s + limit + AHEAD_SECONDS
        {
            return Err(NotBelieved(
                "client_assertion: exp may lie at most 300 seconds after iat",
            ));
        }
        Ok(Assertion {
            tag: assertion_tag(client, &claims.jti),
            expires_ms: claims.exp.saturating_mul(1000),
        })
    }

    /// Uses an assertion up. `false`: it was used before.
    #[must_use]
    pub fn use_up(&self, assertion: &Assertion, now_ms: u64) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.insert(assertion.tag, assertion.expires_ms, now_ms)
    }

    /// At start: an assertion that the ledger says was used at `ts_ms` stays used for as long as it could live.
    pub fn used_before(&self, member: &str, ts_ms: u64) {
        let tag = B64.decode(member).ok().and_then(|tag| tag.try_into().ok());
        if let Some(tag) = tag {
            let until_ms = ts_ms + (ASSERTION_SECONDS + AHEAD_SECONDS) * 1000;
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            let _: bool = used.insert(tag, until_ms, 0);
        }
    }

    /// Revokes a token until it would have expired.
    pub fn revoke(&self, jti: &str, expires_ms: u64, now_ms: u64) {
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let _: bool = revoked.insert(jti.to_owned(), expires_ms, now_ms);
    }

    /// Makes the token of a recorded grant, bound to the certificate it was asked over (RFC 8705 §3).
    #[must_use]
    pub fn issue(&self, scope: &Scope, client: &str, certificate: &[u8; 32], now_s: u64) -> Issued {
        let details = details_of(scope);
        let claims = AccessClaims {
            iss: self.issuer.clone(),
            sub: client.to_owned(),
            client_id: client.to_owned(),
            aud: self.issuer.clone(),
            iat: now_s,
            exp: now_s + TOKEN_SECONDS,
            jti: keys::random_id(),
            cnf: Confirmation {
                thumbprint: B64.encode(certificate),
            },
            authorization_details: vec![details.clone()],
        };
        let payload = serde_json::to_vec(&claims).unwrap_or_default();
        let epoch = self.signs.epoch();
        let access_token = self.signs.sign("at+jwt", &payload);
        if let Some(signed) = self.read(claims) {
            self.remember(recent::print(&access_token), epoch, &Arc::new(signed));
        }
        Issued {
            access_token,
            authorization_details: Value::Array(vec![details]),
        }
    }

    fn remember(&self, print: recent::Print, epoch: u64, signed: &Arc<Signed>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.keep(print, epoch, signed);
    }

    fn recall(&self, print: &recent::Print, epoch: u64) -> Option<Arc<Signed>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.find(print, epoch)
    }

    /// A token whose signature is ours, verified now or remembered; nothing is said of its time or holder.
    fn signed(&self, text: &str) -> Option<Arc<Signed>> {
        let (print, epoch) = (recent::print(text), self.signs.epoch());
        if let Some(signed) = self.recall(&print, epoch) {
            return Some(signed);
        }
        let claims = self
            .own_keys()
            .iter()
            .find_map(|key| verify(text, key, "access_token", Some("at+jwt")).ok())?;
        let signed = Arc::new(self.read(claims)?);
        self.remember(print, epoch, &signed);
        Some(signed)
    }

    /// What the claims of one of our tokens say; `None` if they are not those of an access token of this issuer.
    fn read(&self, claims: AccessClaims) -> Option<Signed> {
        if claims.iss != self.issuer || claims.aud != self.issuer || claims.sub != claims.client_id
        {
            return None;
        }
        let [details] = claims.authorization_details.as_slice() else {
            return None;
        };
        Some(Signed {
            certificate: B64.decode(&claims.cnf.thumbprint).ok()?.try_into().ok()?,
            iat: claims.iat,
            exp: claims.exp,
            token: Token {
                jti: claims.jti,
                issued_ms: claims.iat.saturating_mul(1000),
                expires_ms: claims.exp.saturating_mul(1000),
                scope: scope_of(details).ok()?,
            },
            client: claims.client_id,
        })
    }

    /// Our own keys, as the keyring has them now: a key that was destroyed verifies nothing from then on.
    fn own_keys(&self) -> Arc<[VerifyingKey]> {
        let epoch = self.signs.epoch();
        let known = self
            .verifying
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if known.epoch == epoch {
            return Arc::clone(&known.keys);
        }
        drop(known);
        let parse = |jwk: &String| VerifyingKey::from_jwk(&serde_json::from_str(jwk).ok()?);
        let keys: Arc<[VerifyingKey]> = self.signs.verifying().iter().filter_map(parse).collect();
        let mut known = self
            .verifying
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = Verifying {
            epoch,
            keys: Arc::clone(&keys),
        };
        keys
    }

    /// Believes an access token over this certificate, or says why not.
    ///
    /// # Errors
    /// Always the same words: a stranger learns nothing from them.
    pub fn access(
        &self,
        text: &str,
        certificate: &[u8; 32],
        now_ms: u64,
    ) -> Result<(String, Token), NotBelieved> {
        const NO: NotBelieved = NotBelieved("the access token is not valid here");
        if text.len() > TOKEN_BYTES {
            return Err(NO);
        }
        let signed = self.signed(text).ok_or(NO)?;
        let now_s = now_ms / 1000;
        let current = signed.iat <= now_s + AHEAD_SECONDS && now_s < signed.exp;
        if !current || signed.certificate != *certificate {
            return Err(NO);
        }
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        if revoked.contains(&signed.token.jti) {
            return Err(NO);
        }
        Ok((signed.client.clone(), signed.token.clone()))
    }
}

/// The first 16 bytes of SHA-256(client id ‖ 0x00 ‖ jti).
fn assertion_tag(client: &str, jti: &str) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(client.as_bytes());
    hash.update([0]);
    hash.update(jti.as_bytes());
    let mut tag = [0; 16];
    tag.iter_mut()
        .zip(hash.finalize())
        .for_each(|(to, from)| *to = from);
    tag
}

/// A key that verifies, the one algorithm it is for, and the names that algorithm goes by.
struct VerifyingKey {
    algorithm: Algorithm,
    names: &'static [&'static str],
    key: DecodingKey,
}

impl VerifyingKey {
    /// EC P-256 verifies ES256, OKP Ed25519 verifies Ed25519 (RFC 9864), which RFC 8037 called EdDSA; no other
    /// key verifies anything.
    fn from_jwk(jwk: &Value) -> Option<Self> {
        let member = |name| jwk.get(name).and_then(Value::as_str);
        let (algorithm, names): (_, &[&str]) = match (member("kty")?, member("crv")?) {
            ("EC", "P-256") => (Algorithm::ES256, &["ES256"]),
            ("OKP", "Ed25519") => (Algorithm::EdDSA, &["Ed25519", "EdDSA"]),
            _ => return None,
        };
        // RFC 7517 §4.2 to §4.4: a key that says what it is for is for nothing else.
        let said = |name| jwk.get(name).map(Value::as_str);
        let verifies = |operations: &Value| {
            operations
                .as_array()
                .is_some_and(|operations| operations.iter().any(|one| one == "verify"))
        };
        if said("use").is_some_and(|said| said != Some("sig"))
            || !jwk.get("key_ops").is_none_or(verifies)
            || said("alg").is_some_and(|said| !said.is_some_and(|alg| names.contains(&alg)))
        {
            return None;
        }
        let bare = json!({ "kty": jwk.get("kty"), "crv": jwk.get("crv"), "x": jwk.get("x"), "y": jwk.get("y") });
        let jwk: Jwk = serde_json::from_value(strip_null(bare)).ok()?;
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self {
            algorithm,
            names,
            key,
        })
    }
}

/// What a header may say that matters here. Why a type: a member that stands twice makes it no header at all.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    #[serde(default)]
    crit: Stands,
    #[serde(default)]
    b64: Stands,
    #[serde(default)]
    zip: Stands,
}

/// Whether a member stands there, whatever it says; `null` stands too.
#[derive(Default)]
struct Stands(bool);

impl<'de> Deserialize<'de> for Stands {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(from).map(|_| Self(true))
    }
}

/// Why a compact JWS is not believed.
#[derive(Debug, PartialEq, Eq)]
enum Unsigned {
    /// Not the form that is taken here.
    Malformed,
    /// Another key, or another algorithm than the key's.
    OtherKey,
}

/// The payload of a compact JWS by this key (RFC 7515 §5.2). The algorithm is the key's; a header that names
/// another is refused.
fn payload(text: &str, key: &VerifyingKey, typ: Option<&str>) -> Result<Vec<u8>, Unsigned> {
    if text.len() > TOKEN_BYTES {
        return Err(Unsigned::Malformed);
    }
    let mut parts = text.split('.');
    let (Some(head), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Unsigned::Malformed);
    };
    let header: Header = part(head).ok_or(Unsigned::Malformed)?;
    // Why: a critical extension that is not understood makes the whole JWS invalid (RFC 7515 §4.1.11).
    if header.crit.0 || header.b64.0 || header.zip.0 {
        return Err(Unsigned::Malformed);
    }
    if typ.is_some_and(|typ| header.typ.as_deref() != Some(typ)) {
        return Err(Unsigned::Malformed);
    }
    if !key.names.contains(&header.alg.as_str()) {
        return Err(Unsigned::OtherKey);
    }
    let message = format!("{head}.{payload}");
    match crypto::verify(signature, message.as_bytes(), &key.key, key.algorithm) {
        Ok(true) => B64.decode(payload).map_err(|_| Unsigned::Malformed),
        Ok(false) | Err(_) => Err(Unsigned::OtherKey),
    }
}

/// What a proof of possession says; nothing more stands in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Possession {
    client: String,
    nonce: String,
}

/// Whether this is a JWS by this public key, made for the registration of keys, over this client and nonce.
#[must_use]
pub fn possession(sign_key: &Value, proof: &str, client: &str, nonce: &str) -> bool {
    let Some(key) = VerifyingKey::from_jwk(sign_key) else {
        return false;
    };
    let typ = Some("sallyport-possession+jwt");
    let said: Result<Possession, _> = verify(proof, &key, "possession", typ);
    said.is_ok_and(|said| said.client == client && said.nonce == nonce)
}

/// The claims of a compact JWS by this key.
fn verify<C: for<'de> Deserialize<'de>>(
    text: &str,
    key: &VerifyingKey,
    what: &'static str,
    typ: Option<&str>,
) -> Result<C, NotBelieved> {
    const ACCESS: NotBelieved = NotBelieved("the access token is not valid here");
    let (malformed, other_key) = match what {
        "client_assertion" => (
            NotBelieved(
                "client_assertion: must be a compact JWS whose claims iss sub aud jti iat exp have the types of RFC 7519",
            ),
            NotBelieved("client_assertion: the signature is not by the client's registered key"),
        ),
        _ => (ACCESS, ACCESS),
    };
    match payload(text, key, typ) {
        Ok(claims) => serde_json::from_slice(&claims).map_err(|_| malformed),
        Err(Unsigned::Malformed) => Err(malformed),
        Err(Unsigned::OtherKey) => Err(other_key),
    }
}

/// One part of a compact JWS: base64url of JSON.
fn part<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::from_slice(&B64.decode(text).ok()?).ok()
}

fn strip_null(mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        map.retain(|_, member| !member.is_null());
    }
    value
}

/// What an element of `authorization_details` asks for (RFC 9396).
///
/// # Errors
/// Which member breaks which rule.
pub fn scope_of(details: &Value) -> Result<Scope, NotBelieved> {
    let object = details.as_object().ok_or(NotBelieved(
        "authorization_details: must be an array of one object",
    ))?;
    let known: &[&str] = match object.get("type").and_then(Value::as_str) {
        Some("patient_record") => &[
            "type",
            "patient",
            "purpose",
            "practitioner",
            "relationship",
            "categories",
            "reason",
            "acknowledged",
        ],
        Some("deposit" | "consent") => &["type", "practice", "patient"],
        Some("objections") => &["type", "practice"],
        Some("agreement") => &["type", "practice", "organisation"],
        Some("relationship") => &["type", "practice", "organisation", "patient"],
        Some("history") => &["type", "patient", "for", "born"],
        _ => {
            return Err(NotBelieved(
                "authorization_details.type: must be patient_record, deposit, consent, objections, agreement, relationship or history",
            ));
        }
    };
    if object.keys().any(|name| !known.contains(&name.as_str())) {
        return Err(NotBelieved(
            "authorization_details: has a member that this type does not know",
        ));
    }
    if object.get("type").and_then(Value::as_str) == Some("patient_record") {
        return record_scope(object).map(Scope::Records);
    }
    if known.contains(&"organisation") {
        return two_sided(object);
    }
    if object.get("type").and_then(Value::as_str) == Some("history") {
        return history_scope(object).map(Scope::History);
    }
    let practice = text(
        object,
        "practice",
        "authorization_details.practice: must be an ODS code",
    )?;
    let practice = ods(practice)
        .map_err(|_| NotBelieved("authorization_details.practice: must be an ODS code"))?;
    if object.get("type").and_then(Value::as_str) == Some("objections") {
        return Ok(Scope::Objections { practice });
    }
    let patient = object.get("patient").map(patient_of).transpose()?;
    if object.get("type").and_then(Value::as_str) == Some("deposit") {
        return Ok(Scope::Deposit { practice, patient });
    }
    let patient = patient.ok_or(NotBelieved("authorization_details.patient: is required"))?;
    Ok(Scope::Consent { practice, patient })
}

/// An agreement or a relationship: one side says it, and names itself.
fn two_sided(object: &Object) -> Result<Scope, NotBelieved> {
    const SIDE: NotBelieved = NotBelieved(
        "authorization_details: must have either practice or organisation, an ODS code, and not both",
    );
    let code = |value: &Value| ods(value.as_str().unwrap_or_default()).map_err(|_| SIDE);
    let of = match (object.get("practice"), object.get("organisation")) {
        (Some(practice), None) => Side::Practice(code(practice)?),
        (None, Some(organisation)) => Side::Organisation(code(organisation)?),
        (Some(_), Some(_)) | (None, None) => return Err(SIDE),
    };
    if object.get("type").and_then(Value::as_str) == Some("agreement") {
        return Ok(Scope::Agreement { of });
    }
    let patient = object.get("patient");
    let patient = patient.ok_or(NotBelieved("authorization_details.patient: is required"))?;
    let patient = patient_of(patient)?;
    Ok(Scope::Relationship { of, patient })
}

type Object = serde_json::Map<String, Value>;

fn text<'a>(object: &'a Object, member: &str, rule: &'static str) -> Result<&'a str, NotBelieved> {
    object
        .get(member)
        .and_then(Value::as_str)
        .ok_or(NotBelieved(rule))
}

fn patient_of(value: &Value) -> Result<NhsNumber, NotBelieved> {
    const RULE: NotBelieved = NotBelieved(
        "authorization_details.patient: must be an NHS number of ten digits with the right check digit",
    );
    number(value.as_str().ok_or(RULE)?).map_err(|_| RULE)
}

/// Whose history, for whom. That a proxy or a child is refused is a decision, and recorded; it is not a matter of form.
fn history_scope(object: &Object) -> Result<HistoryScope, NotBelieved> {
    const FOR: &str = "authorization_details.for: must be self or proxy";
    const BORN: NotBelieved = NotBelieved("authorization_details.born: must be a date, YYYY-MM-DD");
    let patient = patient_of(object.get("patient").unwrap_or(&Value::Null))?;
    let own = match object
        .get("for")
        .map(|_| text(object, "for", FOR))
        .transpose()?
    {
        Some("self") => true,
        None | Some("proxy") => false,
        Some(_) => return Err(NotBelieved(FOR)),
    };
    let born = object
        .get("born")
        .map(|born| born.as_str().and_then(Born::parse).ok_or(BORN));
    let born = born.transpose()?;
    Ok(HistoryScope { patient, own, born })
}

fn record_scope(object: &Object) -> Result<RecordScope, NotBelieved> {
    const PURPOSE: &str = "authorization_details.purpose: must be a PurposeOfUse code";
    const PERSON: &str =
        "authorization_details.practitioner: must be an object with the member id and no other";
    const CATEGORIES: NotBelieved = NotBelieved(
        "authorization_details.categories: must be an array of known categories, each once",
    );
    let patient = patient_of(object.get("patient").unwrap_or(&Value::Null))?;
    let purpose =
        Purpose::try_from(text(object, "purpose", PURPOSE)?).map_err(|_| NotBelieved(PURPOSE))?;
    let person = object
        .get("practitioner")
        .and_then(Value::as_object)
        .filter(|person| person.len() == 1);
    let person = text(person.ok_or(NotBelieved(PERSON))?, "id", PERSON)?;
    let practitioner = PractitionerId::try_from(person).map_err(|_| {
        NotBelieved("authorization_details.practitioner.id: must be 1 to 64 printable characters without spaces")
    })?;
    let categories = match object.get("categories") {
        None => None,
        Some(Value::Array(codes)) if !codes.is_empty() => {
            let parsed = codes
                .iter()
                .map(|code| category(code.as_str().unwrap_or_default()));
            let parsed: BTreeSet<_> = parsed.collect::<Result<_, _>>().map_err(|_| CATEGORIES)?;
            Some(parsed)
                .filter(|parsed| parsed.len() == codes.len())
                .map_or(Err(CATEGORIES), |parsed| Ok(Some(parsed)))?
        }
        Some(_) => return Err(CATEGORIES),
    };
    let reason = match object.get("reason") {
        None => None,
        Some(Value::String(reason)) if is_words(reason) => Some(reason.clone()),
        Some(_) => {
            return Err(NotBelieved(
                "authorization_details.reason: must be a text of at most 500 characters, none of them a control character",
            ));
        }
    };
    let acknowledged = match object.get("acknowledged") {
        None => false,
        Some(Value::Bool(said)) => *said,
        Some(_) => {
            return Err(NotBelieved(
                "authorization_details.acknowledged: must be true or false",
            ));
        }
    };
    let relationship = object.get("relationship").map(relation_claim).transpose()?;
    let is_wide = |named: &BTreeSet<_>| named.iter().any(|it| !Category::SUMMARY.contains(it));
    let written = reason
        .as_deref()
        .map_or(0, |reason: &str| reason.trim().chars().count());
    if purpose.is_emergency()
        && categories.as_ref().is_some_and(is_wide)
        && written < WIDE_REASON_CHARS
    {
        return Err(NotBelieved(
            "authorization_details.reason: an emergency that names categories beyond medications, allergies, problems \
             and alerts needs a reason of at least 20 characters that says why",
        ));
    }
    Ok(RecordScope {
        patient,
        purpose,
        practitioner,
        relationship,
        categories,
        reason,
        acknowledged,
    })
}

/// Free text: bounded, and without control characters, which only make a token longer.
fn is_words(text: &str) -> bool {
    text.chars().count() <= TEXT_CHARS && !text.chars().any(char::is_control)
}

fn relation_claim(value: &Value) -> Result<RelationClaim, NotBelieved> {
    const RULE: &str = "authorization_details.relationship: must be an object with the members type (referral, \
                        registration, encounter, appointment) and reference (1 to 500 characters)";
    let object = value
        .as_object()
        .filter(|object| object.len() == 2)
        .ok_or(NotBelieved(RULE))?;
    let kind = relation(text(object, "type", RULE)?).map_err(|_| NotBelieved(RULE))?;
    let reference = text(object, "reference", RULE)?;
    if reference.is_empty() || !is_words(reference) {
        return Err(NotBelieved(RULE));
    }
    Ok(RelationClaim {
        kind,
        reference: reference.to_owned(),
    })
}

/// The element of `authorization_details` that says this scope; [`scope_of`] reads it again.
#[must_use]
pub fn details_of(scope: &Scope) -> Value {
    match scope {
        Scope::Deposit { practice, patient } => strip_null(json!({
            "type": "deposit",
            "practice": practice.as_str(),
            "patient": patient.as_ref().map(NhsNumber::as_str),
        })),
        Scope::Consent { practice, patient } => {
            json!({ "type": "consent", "practice": practice.as_str(), "patient": patient.as_str() })
        }
        Scope::Objections { practice } => {
            json!({ "type": "objections", "practice": practice.as_str() })
        }
        Scope::Agreement { of } => json!({ "type": "agreement", of.kind(): of.ods().as_str() }),
        Scope::Relationship { of, patient } => json!({
            "type": "relationship", of.kind(): of.ods().as_str(), "patient": patient.as_str(),
        }),
        Scope::History(history) => strip_null(json!({
            "type": "history",
            "patient": history.patient.as_str(),
            "for": history.own.then_some("self"),
            "born": history.born.map(|born| born.to_string()),
        })),
        Scope::Records(scope) => strip_null(json!({
            "type": "patient_record",
            "patient": scope.patient.as_str(),
            "purpose": scope.purpose.to_string(),
            "practitioner": { "id": scope.practitioner.as_str() },
            "relationship": scope.relationship.as_ref().map(|claim| json!({
                "type": claim.kind.to_string(), "reference": claim.reference,
            })),
            "categories": scope.categories.as_ref().map(|set| set.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "reason": scope.reason,
            "acknowledged": scope.acknowledged.then_some(true),
        })),
    }
}
