//! Checkpoints: C2SP signed notes whose text is origin, size and root hash (tlog-checkpoint), signed with Ed25519.
//! Never here: time or counters in a checkpoint (extension lines cannot be audited).
//! A note that fails to open means nothing at all: no field of it may be looked at.

use super::tile::number;
use super::tree::Hash;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// Whoever can sign the ledger's checkpoints. Ed25519 is deterministic: the same head, the same bytes.
pub trait SignsNotes: Send + Sync {
    /// Ed25519 (RFC 8032) over the message.
    fn sign(&self, message: &[u8]) -> [u8; 64];
    /// The public key.
    fn public(&self) -> [u8; 32];
}

/// Type byte of an Ed25519 signature (C2SP signed-note).
const ED25519: u8 = 1;
const NOTE_BYTES_MAX: usize = 64 << 10;

/// A log's public key and name, as the text `NAME+HASH+BASE64` (the `log.vkey` of an auditor).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    public: [u8; 32],
}

/// Why a key text was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 note key of the form NAME+HASH+BASE64")]
pub struct NotAVkey;

impl Vkey {
    /// The key of the log `name`.
    ///
    /// # Errors
    /// [`NotAVkey`] if the name is empty or has white space, control characters or `+` in it.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, NotAVkey> {
        let bad = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.contains(bad) {
            return Err(NotAVkey);
        }
        let name = name.to_owned();
        Ok(Self { name, public })
    }

    /// The name that stands in the signature lines; the origin of our logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)[:4]` (C2SP signed-note).
    fn id(&self) -> [u8; 4] {
        let hash: Hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', ED25519])
            .chain_update(self.public)
            .finalize()
            .into();
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        keys::verify_ed25519(&self.public, text.as_bytes(), signature)
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519];
        key.extend_from_slice(&self.public);
        let id = u32::from_be_bytes(self.id());
        write!(f, "{}+{id:08x}+{}", self.name, STANDARD.encode(key))
    }
}

impl FromStr for Vkey {
    type Err = NotAVkey;

    fn from_str(text: &str) -> Result<Self, NotAVkey> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let (name, rest) = text.split_once('+').ok_or(NotAVkey)?;
        let (_, key) = rest.split_once('+').ok_or(NotAVkey)?;
        let key = STANDARD.decode(key).map_err(|_| NotAVkey)?;
        let (kind, public) = key.split_first().ok_or(NotAVkey)?;
        let public = public.try_into().map_err(|_| NotAVkey)?;
        let vkey = Self::new(name, public)?;
        // Why compare the whole text: the hash must be right and nothing may have a second form.
        if *kind == ED25519 && vkey.to_string() == text {
            Ok(vkey)
        } else {
            Err(NotAVkey)
        }
    }
}

/// What a checkpoint says: this log had this many entries, and this root over them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root hash over them (RFC 6962 §2.1).
    pub root: Hash,
}

/// Why a signed checkpoint did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the form of a note.
    #[error("not a signed note")]
    Form,
    /// A note, but its text is not origin, size and root.
    #[error("the note is not a checkpoint")]
    Text,
    /// No signature by this key.
    #[error("not signed by this log's key")]
    Unsigned,
    /// There is a signature under this key's name and id, and it is wrong.
    #[error("the signature of this log's key is wrong")]
    Signature,
    /// Properly signed, for another log.
    #[error("a checkpoint of another log")]
    Origin,
}

impl Checkpoint {
    /// The note's text: three lines.
    #[must_use]
    pub fn text(&self) -> String {
        let root = STANDARD.encode(self.root);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// The signed note.
    #[must_use]
    pub fn sign(&self, key: &Vkey, signer: &dyn SignsNotes) -> String {
        let mut note = self.text();
        let mut signature = key.id().to_vec();
        signature.extend_from_slice(&signer.sign(note.as_bytes()));
        let signature = STANDARD.encode(signature);
        // Why ignored: writing to a `String` cannot fail.
        let _ = writeln!(note, "\n\u{2014} {} {signature}", key.name);
        note
    }

    /// Opens a signed note by `key` over a checkpoint of the log of the same name. Signatures by others are ignored.
    ///
    /// # Errors
    /// [`NoteError`] says in what it is not one.
    pub fn open(note: &str, key: &Vkey) -> Result<Self, NoteError> {
        let text = signed_text(note, key)?;
        let checkpoint = Self::parse(text).ok_or(NoteError::Text)?;
        if checkpoint.origin == key.name {
            Ok(checkpoint)
        } else {
            Err(NoteError::Origin)
        }
    }

    /// Reads a note's text without looking at its signatures: good only for what is compared with a known tree.
    pub(super) fn unverified(note: &str) -> Option<Self> {
        let (body, _) = note.rsplit_once("\n\n")?;
        Self::parse(note.get(..=body.len())?)
    }

    /// Reads a checkpoint's text. Extension lines are allowed and mean nothing.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        if origin.is_empty() || lines.any(str::is_empty) {
            return None;
        }
        Some(Self {
            origin: origin.to_owned(),
            size: number(size)?,
            root: STANDARD.decode(root).ok()?.try_into().ok()?,
        })
    }
}

/// The text of a note that `key` has signed.
fn signed_text<'a>(note: &'a str, key: &Vkey) -> Result<&'a str, NoteError> {
    let control = |c: char| c < ' ' && c != '\n';
    if note.len() > NOTE_BYTES_MAX || note.contains(control) {
        return Err(NoteError::Form);
    }
    let (body, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
    // Why the length: the text ends in the first of the two newlines.
    let text = note.get(..=body.len()).ok_or(NoteError::Form)?;
    let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Form)?;
    let mut signed = false;
    for line in signatures.split('\n') {
        let line = line.strip_prefix("\u{2014} ").ok_or(NoteError::Form)?;
        let (name, signature) = line.split_once(' ').ok_or(NoteError::Form)?;
        let signature = STANDARD.decode(signature).map_err(|_| NoteError::Form)?;
        let (id, signature) = signature.split_first_chunk().ok_or(NoteError::Form)?;
        if name != key.name || *id != key.id() {
            continue;
        }
        if !key.verifies(text, signature) {
            return Err(NoteError::Signature);
        }
        signed = true;
    }
    if signed { Ok(text) } else { Err(NoteError::Unsigned) }
}
