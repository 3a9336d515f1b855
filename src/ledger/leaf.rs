//! The leaf: one line of RFC 8785 JSON, ASCII and integers, without personal data; and the sealed body beside it.
//! What a leaf says of actor, subject, object and context are salted commitments; salts and values stand in the body.
//! Leaves are hashed as the bytes they are: nobody re-serialises one to verify it.

use super::canonical::{canonical, exact};
use super::tree::{Hash, leaf_hash};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A leaf is at most this long, so that a bundle of them stays small and an entry fits its two-byte length.
pub const LEAF_BYTES_MAX: usize = 4096;
/// A sealed body is at most this long.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// The four things a leaf commits to, in their RFC 8785 order.
pub const GROUPS: [&str; 4] = ["actor", "context", "object", "subject"];

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

/// ASCII strings and integers that every JSON reader reads alike, and lists and objects of them.
pub(super) fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) => true,
        Value::Number(_) => exact(value).is_some(),
        Value::String(string) => is_plain_text(string),
        Value::Array(list) => list.iter().all(is_plain),
        Value::Object(map) => map
            .iter()
            .all(|(name, value)| is_plain_text(name) && is_plain(value)),
    }
}

/// Printable ASCII.
pub(super) fn is_plain_text(text: &str) -> bool {
    text.bytes().all(|b| (0x20..0x7f).contains(&b))
}

/// A leaf that stands in the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    index: u64,
    text: &'a str,
}

impl<'a> Leaf<'a> {
    pub(crate) fn new(index: u64, text: &'a str) -> Self {
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

    /// Nonce and tag, by which a holder of the subject's key finds it; `None` where it is about nobody.
    #[must_use]
    pub fn nonce_and_tag(&self) -> Option<([u8; 16], [u8; 16])> {
        // Why not parsed: whoever looks for one patient's entries looks at all, and a string's quotes are escaped.
        let member = |name: &str| {
            let (_, rest) = self.text.split_once(name)?;
            let (text, _) = rest.split_once('"')?;
            URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
        };
        Some((member(",\"n\":\"")?, member(",\"tag\":\"")?))
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
