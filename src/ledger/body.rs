//! A plain body held against its leaf: what an auditor, or anybody with the key, reads is what the leaf commits to.

use super::canonical::canonical;
use super::draft::hmac;
use super::leaf::{GROUPS, commitment};
use super::tree::Hash;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

/// `{actor, context, detail?, object, subject}` of a plain body, if each of the four groups fits the commitment that
/// `leaf` has for it; the salt of a group is `HMAC-SHA-256(s, NAME)`. `detail` is bound by a digest in `object`.
#[must_use]
pub fn body(leaf: &Map<String, Value>, plain: &[u8]) -> Option<Value> {
    let mut body: Map<String, Value> = serde_json::from_slice(plain).ok()?;
    let secret = body.remove("s")?;
    let secret: Hash = URL_SAFE_NO_PAD
        .decode(secret.as_str()?)
        .ok()?
        .try_into()
        .ok()?;
    let committed = leaf.get("c")?;
    for name in GROUPS {
        let text = canonical(body.get(name)?).ok()?;
        let hash = commitment(name, &hmac(&secret, name), text.as_bytes());
        if committed.get(name)?.as_str()? != URL_SAFE_NO_PAD.encode(hash) {
            return None;
        }
    }
    Some(Value::Object(body))
}
