//! Receipts: a leaf, its `c2sp.org/tlog-proof@v1`, and what opens its commitments; and checking one from outside.
//! A receipt is evidence. It may be copied and kept, and it opens nothing by itself.
//! A receipt that fails [`check`] proves nothing, whatever stands in it.

use super::canonical::canonical;
use super::draft::Openings;
use super::leaf::{Leaf, commitment};
use super::note::{Checkpoint, NoteError, Vkey};
use super::tile::number;
use super::tree::{self, Hash};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// First line of a proof.
const PROOF: &str = "c2sp.org/tlog-proof@v1";

/// Evidence that one entry stands in the ledger, durably, under a signed checkpoint.
#[derive(Clone)]
pub struct Receipt {
    index: u64,
    leaf: Arc<str>,
    leaf_hash: Hash,
    size: u64,
    proof: Arc<str>,
    openings: Option<Arc<Openings>>,
}

/// How much of a leaf its receipt opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// Actor, subject, object and context: for whoever was permitted.
    All,
    /// Only what the caller said of himself: for whoever was refused.
    ActorOnly,
    /// All but who it was: for the patient, to whom an employee's name is not told.
    WithoutActor,
}

impl Receipt {
    pub(super) fn new(
        index: u64,
        leaf: Arc<str>,
        leaf_hash: Hash,
        path: &[Hash],
        (size, checkpoint): (u64, &str),
        openings: Option<Arc<Openings>>,
    ) -> Self {
        let proof = proof_text(index, path, checkpoint).into();
        Self {
            index,
            leaf,
            leaf_hash,
            size,
            proof,
            openings,
        }
    }

    /// The same receipt, opening what its entry's plain body holds; `None` if that is not the body of an entry.
    #[must_use]
    pub fn with_body(self, plain: &[u8]) -> Option<Self> {
        let openings = Some(Arc::new(Openings::of_body(plain)?));
        Some(Self { openings, ..self })
    }

    /// Its place in the ledger.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The leaf's exact text.
    #[must_use]
    pub fn leaf(&self) -> &str {
        &self.leaf
    }

    /// The leaf's RFC 6962 hash, by which a ticket names its entry.
    #[must_use]
    pub fn leaf_hash(&self) -> &Hash {
        &self.leaf_hash
    }

    /// Entries under the checkpoint that it stands under.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The inclusion proof with its signed checkpoint.
    #[must_use]
    pub fn proof(&self) -> &str {
        &self.proof
    }

    /// The wire form: `{"leaf","proof","openings"}`.
    #[must_use]
    pub fn to_json(&self, open: Open) -> Value {
        let wanted = |name: &str| match open {
            Open::All => true,
            Open::ActorOnly => name == "actor",
            Open::WithoutActor => name != "actor",
        };
        let none = || Value::Object(Map::new());
        let openings = self.openings.as_ref();
        let openings = openings.map_or_else(none, |openings| openings.to_json(wanted));
        json!({ "leaf": &*self.leaf, "proof": &*self.proof, "openings": openings })
    }

    /// The wire form as it stands in a header: base64url of the JSON.
    #[must_use]
    pub fn to_header(&self, open: Open) -> String {
        URL_SAFE_NO_PAD.encode(self.to_json(open).to_string())
    }
}

/// The proof's text, to the letter.
fn proof_text(index: u64, path: &[Hash], checkpoint: &str) -> String {
    let mut text = format!("{PROOF}\nindex {index}\n");
    for hash in path {
        STANDARD.encode_string(hash, &mut text);
        text.push('\n');
    }
    text.push('\n');
    text.push_str(checkpoint);
    text
}

/// What a receipt that holds says.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The entry's place in the log.
    pub index: u64,
    /// The leaf's RFC 6962 hash.
    pub leaf_hash: Hash,
    /// The leaf's members.
    pub leaf: Map<String, Value>,
    /// The checkpoint that includes it.
    pub checkpoint: Checkpoint,
    /// The same as it was signed.
    pub note: String,
    /// Opened values by name, each equal to its commitment.
    pub opened: Map<String, Value>,
}

/// Why a receipt proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Not the form of a receipt.
    #[error("not a receipt: {0}")]
    Form(&'static str),
    /// Its checkpoint does not open.
    #[error("its checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
    /// The checkpointed tree does not include the leaf.
    #[error("its checkpoint does not include its leaf")]
    Inclusion,
    /// The leaf is no leaf of ours.
    #[error("its leaf is wrong: {0}")]
    Leaf(&'static str),
    /// An opened value is not the one committed to.
    #[error("an opening does not fit the leaf")]
    Opening,
}

/// Checks a receipt in its wire form against the log's key alone, as anybody outside can.
///
/// # Errors
/// [`CheckError`] names the first thing that does not hold.
pub fn check(receipt: &Value, key: &Vkey) -> Result<Evidence, CheckError> {
    let text = |name| receipt.get(name).and_then(Value::as_str);
    let leaf = text("leaf").ok_or(CheckError::Form("no leaf"))?;
    let proof = text("proof").ok_or(CheckError::Form("no proof"))?;
    let (index, path, note) = parse_proof(proof).ok_or(CheckError::Form("the proof"))?;
    let checkpoint = Checkpoint::open(note, key)?;
    let leaf_hash = tree::leaf_hash(leaf.as_bytes());
    let (size, root) = (checkpoint.size, &checkpoint.root);
    if !tree::proves_inclusion(index, size, &leaf_hash, &path, root) {
        return Err(CheckError::Inclusion);
    }
    let leaf = Leaf::new(index, leaf);
    if let Some(fault) = leaf.fault() {
        return Err(CheckError::Leaf(fault));
    }
    let leaf = leaf.members().unwrap_or_default();
    let mut opened = Map::new();
    let openings = receipt.get("openings").and_then(Value::as_object);
    for (name, opening) in openings.into_iter().flatten() {
        let value = open(name, opening, &leaf).ok_or(CheckError::Opening)?;
        opened.insert(name.clone(), value);
    }
    Ok(Evidence {
        index,
        leaf_hash,
        leaf,
        checkpoint,
        note: note.to_owned(),
        opened,
    })
}

fn parse_proof(text: &str) -> Option<(u64, Vec<Hash>, &str)> {
    let (head, checkpoint) = text.split_once("\n\n")?;
    let mut lines = head.split('\n').peekable();
    if lines.next()? != PROOF {
        return None;
    }
    if let Some(extra) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
        STANDARD.decode(extra).ok()?;
        lines.next();
    }
    let index = number(lines.next()?.strip_prefix("index ")?)?;
    let hash = |line| STANDARD.decode(line).ok()?.try_into().ok();
    let path = lines.map(hash).collect::<Option<_>>()?;
    Some((index, path, checkpoint))
}

/// The value of an opening that fits its commitment in the leaf.
fn open(name: &str, opening: &Value, leaf: &Map<String, Value>) -> Option<Value> {
    let committed = leaf.get("c")?.get(name)?.as_str()?;
    let salt = URL_SAFE_NO_PAD
        .decode(opening.get("salt")?.as_str()?)
        .ok()?;
    let value = opening.get("value")?;
    let text = canonical(value).ok()?;
    let hash = commitment(name, &salt.try_into().ok()?, text.as_bytes());
    (URL_SAFE_NO_PAD.encode(hash) == committed).then(|| value.clone())
}
