//! Making a leaf and its sealed body, on the caller's task: canonical text, salts, commitments, sealing.
//! A [`Draft`] lacks only index and time, which the writer alone gives: the writer joins three pieces of text.
//! A leaf's members are the same for a permit and a refusal, and what stands in clear is ASCII and integers.

use super::RecordError;
use super::canonical::{canonical, write, write_string};
use super::leaf::{
    BODY_BYTES_MAX, Event, Extra, GROUPS, LEAF_BYTES_MAX, Seals, commitment, is_plain,
    is_plain_text,
};
use super::tree::Hash;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use policy::Account;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Members that the ledger itself writes.
const OWN: [&str; 12] = [
    "atag", "b", "c", "ev", "gw", "i", "n", "out", "pol", "tag", "ts", "v",
];
/// Room for index and time, which come last.
pub(super) const NUMBERS_BYTES: usize = 40;

/// What opens the commitments of one leaf.
pub(super) struct Openings(Vec<(&'static str, Hash, Value)>);

impl Openings {
    /// One salt a group from one secret: `HMAC-SHA-256(secret, name)`; opening one tells nothing of the others.
    fn new(secret: &Hash, values: [Value; 4]) -> Self {
        let group = |(name, value)| (name, hmac(secret, name), value);
        Self(GROUPS.into_iter().zip(values).map(group).collect())
    }

    /// What a plain body holds, as [`Openings::committed`] wrote it.
    pub(super) fn of_body(plain: &[u8]) -> Option<Self> {
        let mut body: serde_json::Map<String, Value> = serde_json::from_slice(plain).ok()?;
        let secret = URL_SAFE_NO_PAD.decode(body.get("s")?.as_str()?).ok()?;
        let mut group = |name| body.remove(name);
        let values = [
            group("actor")?,
            group("context")?,
            group("object")?,
            group("subject")?,
        ];
        Some(Self::new(&secret.try_into().ok()?, values))
    }

    /// The text of the leaf's `c`, and of the plain body: `{actor, context, detail?, name?, object, s, subject}`.
    /// `detail` is the list of names that the object commits to by its digest; `name` is whose act it was, in words.
    fn committed(
        &self,
        secret: &Hash,
        detail: &Value,
        whose: &str,
    ) -> Result<(String, String), RecordError> {
        let (mut commitments, mut plain) =
            (String::with_capacity(256), String::with_capacity(1024));
        for (name, salt, value) in &self.0 {
            if *name == "object" && detail.as_array().is_some_and(|names| !names.is_empty()) {
                plain.push_str(",\"detail\":");
                write(detail, &mut plain)?;
            }
            if *name == "object" && !whose.is_empty() {
                plain.push_str(",\"name\":");
                write_string(whose, &mut plain);
            }
            // INVARIANT: the groups come in RFC 8785 order, and `s` falls before the last of them, `subject`.
            if *name == "subject" {
                add(&mut plain, &[",\"s\":", &encoded(secret)]);
            }
            add(&mut plain, &[",\"", name, "\":"]);
            let start = plain.len();
            write(value, &mut plain)?;
            let canonical = plain.get(start..).unwrap_or_default();
            let hash = commitment(name, salt, canonical.as_bytes());
            add(&mut commitments, &[",\"", name, "\":", &encoded(&hash)]);
        }
        // Why: each member brought its comma along, and the first one's makes room for the brace.
        let braced = |mut text: String| {
            text.replace_range(..1, "{");
            text.push('}');
            text
        };
        Ok((braced(commitments), braced(plain)))
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

/// HMAC-SHA-256 (RFC 2104) for a key of one hash's length.
pub(super) fn hmac(key: &Hash, message: &str) -> Hash {
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

/// Secret bytes of one entry: the salts' root and the nonce that its leaf shows.
pub(super) struct Dice {
    pub(super) secret: Hash,
    pub(super) nonce: [u8; 16],
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

/// A member's name and its canonical text.
type Member = (&'static str, String);

impl Draft {
    /// The leaf of a verdict.
    pub(super) fn of_account(
        account: Account,
        extra: Extra,
        gateway: &str,
        seal: &dyn Seals,
        dice: &Dice,
    ) -> Result<(Self, Arc<Openings>), RecordError> {
        let (secret, nonce) = (&dice.secret, &dice.nonce);
        let actor_tag = seal.actor_tag(&account.actor, nonce);
        let Account {
            actor,
            context,
            object,
            subject,
            detail,
            name,
            ..
        } = account;
        let openings = Openings::new(secret, [actor, context, object, subject]);
        let (commitments, plain) = openings.committed(secret, &detail, &name)?;
        let body = seal.seal_body(nonce, plain.as_bytes());
        if body.len() > BODY_BYTES_MAX {
            return Err(RecordError::TooLarge);
        }
        let mut members = vec![
            ("atag", encoded(&actor_tag)),
            ("b", encoded(&Sha256::digest(&body))),
            ("c", commitments),
            ("ev", text(account.event)?),
            ("gw", text(gateway)?),
            ("n", encoded(nonce)),
            ("out", text(account.outcome.code())?),
            ("pol", text(&account.policy)?),
            ("tag", encoded(&seal.tag(nonce))),
        ];
        join(&mut members, extra.members)?;
        let draft = Self::new(members, body, account.emergency)?;
        Ok((draft, Arc::new(openings)))
    }

    /// The leaf of one of the gateway's own acts.
    pub(super) fn of_event(event: Event, gateway: Option<&str>) -> Result<Self, RecordError> {
        let mut members = vec![("ev", text(event.name)?)];
        if let Some(name) = gateway {
            members.push(("gw", text(name)?));
        }
        join(&mut members, event.members)?;
        Self::new(members, Vec::new(), event.reserve)
    }

    fn new(mut members: Vec<Member>, body: Vec<u8>, reserve: bool) -> Result<Self, RecordError> {
        members.push(("v", "1".to_owned()));
        // Why by bytes: RFC 8785 sorts by UTF-16 units, which for ASCII names are the bytes.
        members.sort_unstable_by_key(|(name, _)| *name);
        let (mut head, mut middle, mut tail) = ("{".to_owned(), ",".to_owned(), String::new());
        for (name, value) in &members {
            match *name {
                name if name < "i" => add(&mut head, &["\"", name, "\":", value, ","]),
                name if name < "ts" => add(&mut middle, &["\"", name, "\":", value, ","]),
                name => add(&mut tail, &[",\"", name, "\":", value]),
            }
        }
        head.push_str("\"i\":");
        middle.push_str("\"ts\":");
        tail.push('}');
        let draft = Self {
            before_index: head,
            before_time: middle,
            after_time: tail,
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

fn add(to: &mut String, pieces: &[&str]) {
    pieces.iter().for_each(|piece| to.push_str(piece));
}

fn join(members: &mut Vec<Member>, more: Vec<(&'static str, Value)>) -> Result<(), RecordError> {
    for (name, value) in more {
        let lower = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let taken = OWN.contains(&name) || members.iter().any(|(other, _)| *other == name);
        if taken || !lower {
            return Err(RecordError::Malformed(
                "a member's name is taken or not a-z",
            ));
        }
        if !is_plain(&value) {
            return Err(RecordError::Malformed("a member is not ASCII and integers"));
        }
        members.push((name, canonical(&value)?));
    }
    Ok(())
}

/// A string that may stand in a leaf.
fn text(string: &str) -> Result<String, RecordError> {
    if !is_plain_text(string) {
        return Err(RecordError::Malformed("a member is not ASCII"));
    }
    let mut text = String::with_capacity(string.len() + 2);
    write_string(string, &mut text);
    Ok(text)
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    text.push('"');
    URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
    text.push('"');
    text
}
