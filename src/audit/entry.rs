//! One entry as an auditor sees it: the leaf, and what its body says where a key that was disclosed opens it. A body
//! counts only if the leaf names its hash and each of its four groups fits its commitment.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use keys::AuditKey;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::ledger::Leaf;
use crate::ledger::tree::Hash;

/// Audit keys that were disclosed: each opens the entries about one patient, or about none.
#[derive(Default)]
pub struct Keys(Vec<AuditKey>);

impl Keys {
    /// These keys.
    #[must_use]
    pub const fn new(keys: Vec<AuditKey>) -> Self {
        Self(keys)
    }

    /// Whether there is none, so that no body can be opened.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of the entry with this nonce and tag.
    fn of(&self, nonce: &[u8; 16], tag: &[u8; 16]) -> Option<&AuditKey> {
        self.0.iter().find(|key| key.tag(nonce) == *tag)
    }
}

/// An entry of the log.
pub struct Entry {
    /// Its place.
    pub index: u64,
    /// When it was recorded, milliseconds since 1970, as the gateway claims it.
    pub ts_ms: u64,
    /// Its RFC 6962 leaf hash.
    pub hash: Hash,
    /// Its exact text: what is hashed, and the line of an export.
    pub text: String,
    /// What it says in clear.
    pub leaf: Map<String, Value>,
    /// `{actor, context, detail?, object, subject}`; `None` where no key opens it.
    pub plain: Option<Value>,
    /// A key opened the body, and it is not the one that the leaf commits to.
    pub is_altered: bool,
    /// Why a report names it, where it says.
    pub marks: Vec<&'static str>,
}

impl Entry {
    /// Reads a leaf, and opens its body if there is a key for it.
    pub(super) fn read(leaf: &Leaf<'_>, keys: &Keys, body: &dyn Fn() -> Option<Vec<u8>>) -> Self {
        let members = leaf.members().unwrap_or_default();
        let (mut plain, mut is_altered) = (None, false);
        if let Some(sealed) = key_of(&members, keys).and_then(|key| Some((key, body()?))) {
            let ((key, nonce), body) = sealed;
            plain = opened(&members, key, &nonce, &body);
            is_altered = plain.is_none();
        }
        Self {
            index: leaf.index(),
            ts_ms: leaf.ts_ms().unwrap_or_default(),
            hash: leaf.hash(),
            text: leaf.text().to_owned(),
            leaf: members,
            plain,
            is_altered,
            marks: Vec::new(),
        }
    }

    /// A text that stands in clear; empty where it does not stand.
    #[must_use]
    pub fn clear(&self, member: &str) -> &str {
        self.leaf
            .get(member)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// What happened, such as `record.release`.
    #[must_use]
    pub fn event(&self) -> &str {
        self.clear("ev")
    }

    /// `permit` or `refuse`; empty for the gateway's own acts.
    #[must_use]
    pub fn outcome(&self) -> &str {
        self.clear("out")
    }

    /// A text of the opened body; empty where it is not opened or not said.
    #[must_use]
    pub fn said(&self, group: &str, member: &str) -> &str {
        self.plain
            .as_ref()
            .and_then(|plain| plain.get(group)?.get(member)?.as_str())
            .unwrap_or_default()
    }

    /// Whose act it was, by the name that the directory had then; empty where it is not opened or not said.
    #[must_use]
    pub fn name(&self) -> &str {
        let name = self.plain.as_ref().and_then(|plain| plain.get("name"));
        name.and_then(Value::as_str).unwrap_or_default()
    }

    /// NHS number of whom it is about.
    #[must_use]
    pub fn patient(&self) -> &str {
        self.said("subject", "nhs")
    }

    /// What was given out or filed, as the body lists it.
    #[must_use]
    pub fn records(&self) -> Vec<&str> {
        let list = self.plain.as_ref().and_then(|plain| plain.get("detail"));
        let list = list.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    }

    /// When, as RFC 3339 in UTC.
    #[must_use]
    pub fn at(&self) -> String {
        let ms = i64::try_from(self.ts_ms).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms)
            .map_or_else(|_| self.ts_ms.to_string(), |at| at.to_string())
    }

    /// The leaf hash in hex.
    #[must_use]
    pub fn hash_hex(&self) -> String {
        self.hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether records were given out.
    #[must_use]
    pub fn is_release(&self) -> bool {
        self.event() == "record.release"
    }

    /// Whether an emergency was declared.
    #[must_use]
    pub fn is_emergency(&self) -> bool {
        ["ETREAT", "BTG"].contains(&self.said("context", "purpose"))
    }
}

fn bytes16(members: &Map<String, Value>, name: &str) -> Option<[u8; 16]> {
    B64.decode(members.get(name)?.as_str()?)
        .ok()?
        .try_into()
        .ok()
}

fn key_of<'a>(members: &Map<String, Value>, keys: &'a Keys) -> Option<(&'a AuditKey, [u8; 16])> {
    if keys.is_empty() {
        return None;
    }
    let nonce = bytes16(members, "n")?;
    Some((keys.of(&nonce, &bytes16(members, "tag")?)?, nonce))
}

/// The plain body, if it is the one that the leaf commits to in every part.
fn opened(
    members: &Map<String, Value>,
    key: &AuditKey,
    nonce: &[u8; 16],
    body: &[u8],
) -> Option<Value> {
    if members.get("b")?.as_str()? != B64.encode(Sha256::digest(body)) {
        return None;
    }
    let plain = key.open_body(nonce, body).ok()?;
    crate::ledger::body(members, plain.as_bytes())
}
