//! The leaf: one line of RFC 8785 JSON, ASCII and integers, without personal data; and the sealed body beside it.
//! What a leaf says of actor, subject, object and context are salted commitments; salts and values stand in the body.
//! A [`Draft`] is made on the caller's task and lacks only index and time, which the writer alone gives.
//! Leaves are hashed as the bytes they are: nobody re-serialises one to verify it.

use super::RecordError;
use super::tree::{Hash, leaf_hash};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use policy::Account;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// A leaf is at most this long, so that a bundle of them stays small and an entry fits its two-byte length.
pub const LEAF_BYTES_MAX: usize = 4096;
/// A sealed body is at most this long.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// The four things a leaf commits to, in their RFC 8785 order.
pub const GROUPS: [&str; 4] = ["actor", "context", "object", "subject"];
/// Members that the ledger itself writes.
const OWN: [&str; 12] = [
    "atag", "b", "c", "ev", "gw", "i", "n", "out", "pol", "tag", "ts", "v",
];
/// Room for index and time, which come last.
pub(super) const NUMBERS_BYTES: usize = 40;

/// Keys that hide what a leaf is about, for all but those who hold them.
pub trait Seals: Send + Sync {
    /// 16 bytes that only a holder of the subject's audit key can tell from random; other ones for each nonce.
    fn tag(&self, nonce: &[u8; 16]) -> [u8; 16];
    /// The same for the actor, by which all that one person did is found. As it stands here it is made under the
    /// subject's key; who has a key for actors overrides it.
    fn actor_tag(&self, actor: &Value, nonce: &[u8; 16]) -> [u8; 16] {
        let mut hash = Sha256::new().chain_update("sallyport/actor-tag/v1\0");
        hash.update(canonical(actor).unwrap_or_default());
        hash.update(nonce);
        let mut derived = [0; 16];
        for (to, from) in derived.iter_mut().zip(hash.finalize()) {
            *to = from;
        }
        self.tag(&derived)
    }
    /// Encrypts the body under the subject's audit key; each nonce is used once.
    fn seal_body(&self, nonce: &[u8; 16], body: &[u8]) -> Vec<u8>;
}

/// Members a leaf carries beside the ledger's own, in clear: ASCII and integers, nothing personal.
#[derive(Debug, Default)]
pub struct Extra {
    /// Names and values, such as `aj` (the assertion's tag) or `facts` (count and digest of a practice's facts).
    pub members: Vec<(&'static str, Value)>,
}

/// One of the gateway's own acts: start, stop, heartbeat, a key turned. It is about no person and commits to nothing.
#[derive(Debug)]
pub struct Event {
    pub(super) name: &'static str,
    pub(super) members: Vec<(&'static str, Value)>,
    pub(super) reserve: bool,
}

impl Event {
    /// The event of that name, such as `heartbeat`.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let (members, reserve) = (Vec::new(), false);
        Self {
            name,
            members,
            reserve,
        }
    }

    /// Adds a member in clear: ASCII and integers, nothing personal.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// Lets it use the room kept for emergencies and for stopping when the disk is full.
    #[must_use]
    pub fn from_reserve(mut self) -> Self {
        self.reserve = true;
        self
    }
}

/// What opens the commitments of one leaf.
pub(super) struct Openings(Vec<(&'static str, Hash, Value)>);

impl Openings {
    /// One salt a group from one secret: `HMAC-SHA-256(secret, name)`; opening one tells nothing of the others.
    fn new(secret: &Hash, account: &Account) -> Self {
        let value = |name| match name {
            "actor" => &account.actor,
            "context" => &account.context,
            "object" => &account.object,
            _ => &account.subject,
        };
        let group = |name| (name, hmac(secret, name), Value::clone(value(name)));
        Self(GROUPS.into_iter().map(group).collect())
    }

    /// `{NAME: {"salt", "value"}}` of the groups `wanted`.
    pub(super) fn to_json(&self, wanted: impl Fn(&str) -> bool) -> Value {
        let chosen = self.0.iter().filter(|(name, ..)| wanted(name));
        let opened = chosen.map(|(name, salt, value)| {
            let opening = json!({ "salt": URL_SAFE_NO_PAD.encode(salt), "value": value });
            ((*name).to_owned(), opening)
        });
        Value::Object(opened.collect())
    }
}

/// `SHA-256("sallyport/audit/v1/NAME" ‖ 0x00 ‖ salt ‖ RFC 8785 of value)`. The salt hides values that can be guessed;
/// the commitment, not the body's encryption, is what nobody can later read in two ways.
#[must_use]
pub fn commitment(name: &str, salt: &Hash, canonical: &[u8]) -> Hash {
    let hash = Sha256::new()
        .chain_update("sallyport/audit/v1/")
        .chain_update(name)
        .chain_update([0])
        .chain_update(salt)
        .chain_update(canonical);
    hash.finalize().into()
}

/// HMAC-SHA-256 (RFC 2104) for a key of one hash's length.
fn hmac(key: &Hash, message: &str) -> Hash {
    let pad = |with: u8| {
        let mut block = [with; 64];
        for (byte, key) in block.iter_mut().zip(key) {
            *byte ^= key;
        }
        Sha256::new().chain_update(block)
    };
    let inner = pad(0x36).chain_update(message).finalize();
    pad(0x5c).chain_update(inner).finalize().into()
}

/// RFC 8785.
pub(super) fn canonical(value: &Value) -> Result<String, RecordError> {
    serde_json_canonicalizer::to_string(value)
        .map_err(|_| RecordError::Malformed("a value has no canonical form"))
}

/// A leaf and body that lack only their place and time.
pub(super) struct Draft {
    before_index: String,
    before_time: String,
    after_time: String,
    /// Sealed; empty for the gateway's own acts.
    pub(super) body: Vec<u8>,
    /// Whether it may use the room kept for emergencies.
    pub(super) reserve: bool,
}

impl Draft {
    /// The leaf of a verdict. Its members are the same for a permit and a refusal.
    pub(super) fn of_account(
        account: &Account,
        extra: Extra,
        gateway: &str,
        seal: &dyn Seals,
        secret: &Hash,
        nonce: &[u8; 16],
    ) -> Result<(Self, Arc<Openings>), RecordError> {
        let openings = Openings::new(secret, account);
        let mut commitments = Map::new();
        let mut plain = Map::from_iter([("s".to_owned(), encoded(secret))]);
        for (name, salt, value) in &openings.0 {
            let hash = commitment(name, salt, canonical(value)?.as_bytes());
            commitments.insert((*name).to_owned(), encoded(&hash));
            plain.insert((*name).to_owned(), value.clone());
        }
        // The names that the object's digest stands for: bound by it, and in the body alone.
        plain.insert("detail".to_owned(), account.detail.clone());
        let body = seal.seal_body(nonce, canonical(&Value::Object(plain))?.as_bytes());
        if body.len() > BODY_BYTES_MAX {
            return Err(RecordError::TooLarge);
        }
        let mut members = vec![
            ("atag", encoded(&seal.actor_tag(&account.actor, nonce))),
            ("b", encoded(&Sha256::digest(&body))),
            ("c", Value::Object(commitments)),
            ("ev", account.event.into()),
            ("gw", gateway.into()),
            ("n", encoded(nonce)),
            ("out", account.outcome.code().into()),
            ("pol", account.policy.as_str().into()),
            ("tag", encoded(&seal.tag(nonce))),
        ];
        join(&mut members, extra.members)?;
        let draft = Self::new(members, body, account.emergency)?;
        Ok((draft, Arc::new(openings)))
    }

    /// The leaf of one of the gateway's own acts.
    pub(super) fn of_event(event: Event, gateway: Option<&str>) -> Result<Self, RecordError> {
        let mut members = vec![("ev", event.name.into())];
        members.extend(gateway.map(|name| ("gw", name.into())));
        join(&mut members, event.members)?;
        Self::new(members, Vec::new(), event.reserve)
    }

    fn new(
        mut members: Vec<(&'static str, Value)>,
        body: Vec<u8>,
        reserve: bool,
    ) -> Result<Self, RecordError> {
        if !members.iter().all(|(_, value)| is_plain(value)) {
            return Err(RecordError::Malformed("a member is not ASCII and integers"));
        }
        members.push(("v", 1.into()));
        // Why by bytes: RFC 8785 sorts by UTF-16 units, which for ASCII names are the bytes.
        members.sort_unstable_by_key(|(name, _)| *name);
        let mut parts = [String::from("{"), String::new(), String::new()];
        for (name, value) in members {
            let part = match name {
                name if name < "i" => 0,
                name if name < "ts" => 1,
                _ => 2,
            };
            if let Some(text) = parts.get_mut(part) {
                let open = if part == 2 { (",", "") } else { ("", ",") };
                text.push_str(&format!(
                    "{}\"{name}\":{}{}",
                    open.0,
                    canonical(&value)?,
                    open.1
                ));
            }
        }
        let [mut before_index, middle, mut after_time] = parts;
        before_index.push_str("\"i\":");
        let before_time = format!(",{middle}\"ts\":");
        after_time.push('}');
        let draft = Self {
            before_index,
            before_time,
            after_time,
            body,
            reserve,
        };
        if draft.leaf_bytes() + NUMBERS_BYTES > LEAF_BYTES_MAX {
            return Err(RecordError::TooLarge);
        }
        Ok(draft)
    }

    /// The leaf's length without index and time.
    pub(super) fn leaf_bytes(&self) -> usize {
        self.before_index.len() + self.before_time.len() + self.after_time.len()
    }

    /// The leaf's text at that place and time.
    pub(super) fn leaf(&self, index: u64, ts_ms: u64) -> String {
        let (a, b, c) = (&self.before_index, &self.before_time, &self.after_time);
        format!("{a}{index}{b}{ts_ms}{c}")
    }
}

fn join(
    members: &mut Vec<(&'static str, Value)>,
    more: Vec<(&'static str, Value)>,
) -> Result<(), RecordError> {
    for (name, value) in more {
        let lower = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let taken = OWN.contains(&name) || members.iter().any(|(other, _)| *other == name);
        if taken || !lower {
            return Err(RecordError::Malformed(
                "a member's name is taken or not a-z",
            ));
        }
        members.push((name, value));
    }
    Ok(())
}

/// ASCII strings and integers that every JSON reader reads alike, and lists and objects of them.
fn is_plain(value: &Value) -> bool {
    const EXACT: i64 = (1 << 53) - 1;
    let text = |text: &str| text.bytes().all(|b| (0x20..0x7f).contains(&b));
    match value {
        Value::Null => false,
        Value::Bool(_) => true,
        Value::Number(number) => number
            .as_i64()
            .is_some_and(|n| (-EXACT..=EXACT).contains(&n)),
        Value::String(string) => text(string),
        Value::Array(list) => list.iter().all(is_plain),
        Value::Object(map) => map
            .iter()
            .all(|(name, value)| text(name) && is_plain(value)),
    }
}

fn encoded(bytes: &[u8]) -> Value {
    URL_SAFE_NO_PAD.encode(bytes).into()
}

/// A leaf that stands in the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    index: u64,
    text: &'a str,
}

impl<'a> Leaf<'a> {
    pub(super) fn new(index: u64, text: &'a str) -> Self {
        Self { index, text }
    }

    /// Its place in the ledger.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Its exact text.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Its RFC 6962 hash.
    #[must_use]
    pub fn hash(&self) -> Hash {
        leaf_hash(self.text.as_bytes())
    }

    /// Whether a member of that name may stand in it: a quick look before [`Leaf::members`]. Never wrong when it says no.
    #[must_use]
    pub fn mentions(&self, member: &str) -> bool {
        let mut found = self.text.match_indices(member);
        found.any(|(at, name)| {
            let before = at
                .checked_sub(1)
                .and_then(|at| self.text.as_bytes().get(at));
            let after = self.text.get(at + name.len()..at + name.len() + 2);
            before == Some(&b'"') && after == Some("\":")
        })
    }

    /// Its members, if it is a JSON object.
    #[must_use]
    pub fn members(&self) -> Option<Map<String, Value>> {
        serde_json::from_str(self.text).ok()
    }

    /// Its time in milliseconds, as the ledger claims it.
    #[must_use]
    pub fn ts_ms(&self) -> Option<u64> {
        // Why from the right: canonical order puts `ts` among the last, so this is found without parsing.
        let (_, rest) = self.text.rsplit_once("\"ts\":")?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest.get(..digits)?.parse().ok()
    }

    /// What is wrong with its form, if anything: the rules above, and that it stands where it says.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        if self.text.len() > LEAF_BYTES_MAX {
            return Some("it is longer than a leaf may be");
        }
        let Some(members) = self.members() else {
            return Some("it is not a JSON object");
        };
        let says = |name: &str| members.get(name).and_then(Value::as_u64);
        let (version, index, ts) = (says("v"), says("i"), says("ts"));
        let named = members.get("ev").is_some_and(Value::is_string);
        let members = Value::Object(members);
        if !is_plain(&members) {
            Some("it is not made of ASCII and integers")
        } else if !canonical(&members).is_ok_and(|text| text == self.text) {
            Some("it is not in canonical form (RFC 8785)")
        } else if version != Some(1) || ts.is_none() || !named {
            Some("it lacks version, time or event")
        } else if index != Some(self.index) {
            Some("it says that it stands at another place")
        } else {
            None
        }
    }
}
