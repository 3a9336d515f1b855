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
    /// Every key that signs now with its signature over the message, the log's own first: two while one hands over to
    /// the next (C2SP signed-note, a line each).
    fn sign_all(&self, message: &[u8]) -> Vec<([u8; 32], [u8; 64])> {
        vec![(self.public(), self.sign(message))]
    }
    /// Every key that ever signed or will, the log's own first: what was signed before a hand-over is still ours.
    fn publics(&self) -> Vec<[u8; 32]> {
        vec![self.public()]
    }
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
        self.id_as(ED25519)
    }

    pub(super) fn id_as(&self, kind: u8) -> [u8; 4] {
        let hash: Hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', kind])
            .chain_update(self.public)
            .finalize()
            .into();
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    }

    /// The text form of this key as one of that type.
    pub(super) fn text_as(&self, kind: u8) -> String {
        let mut key = vec![kind];
        key.extend_from_slice(&self.public);
        let id = u32::from_be_bytes(self.id_as(kind));
        format!("{}+{id:08x}+{}", self.name, STANDARD.encode(key))
    }

    /// Reads the text form of a key of that type; nothing has a second form.
    pub(super) fn parse_as(text: &str, kind: u8) -> Result<Self, NotAVkey> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let (name, rest) = text.split_once('+').ok_or(NotAVkey)?;
        let (_, key) = rest.split_once('+').ok_or(NotAVkey)?;
        let key = STANDARD.decode(key).map_err(|_| NotAVkey)?;
        let (found, public) = key.split_first().ok_or(NotAVkey)?;
        let public = public.try_into().map_err(|_| NotAVkey)?;
        let vkey = Self::new(name, public)?;
        // Why compare the whole text: the hash must be right.
        if *found == kind && vkey.text_as(kind) == text {
            Ok(vkey)
        } else {
            Err(NotAVkey)
        }
    }

    pub(super) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        keys::verify_ed25519(&self.public, text.as_bytes(), signature)
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text_as(ED25519))
    }
}

impl FromStr for Vkey {
    type Err = NotAVkey;

    fn from_str(text: &str) -> Result<Self, NotAVkey> {
        Self::parse_as(text, ED25519)
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
        let signatures = signer.sign_all(note.as_bytes());
        note.push('\n');
        for (public, signature) in signatures {
            let name = key.name.clone();
            let mut line = Vkey { name, public }.id().to_vec();
            line.extend_from_slice(&signature);
            let line = STANDARD.encode(line);
            // Why ignored: writing to a `String` cannot fail.
            let _ = writeln!(note, "\u{2014} {} {line}", key.name);
        }
        note
    }

    /// [`Checkpoint::open`] with whichever of these keys has signed it; the error is that of the first.
    pub(crate) fn open_any(note: &str, keys: &[Vkey]) -> Result<Self, NoteError> {
        let mut opened = keys.iter().map(|key| Self::open(note, key));
        let first = opened.next().unwrap_or(Err(NoteError::Unsigned));
        let rest = opened.find(Result::is_ok);
        if first.is_ok() {
            first
        } else {
            rest.unwrap_or(first)
        }
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
    pub(crate) fn unverified(note: &str) -> Option<Self> {
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

/// One signature line of a note.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) id: [u8; 4],
    pub(super) signature: Vec<u8>,
}

/// A note's text, up to and with its last newline, and its signatures; nothing of it is verified.
pub(super) fn parts(note: &str) -> Result<(&str, Vec<Line<'_>>), NoteError> {
    let control = |c: char| c < ' ' && c != '\n';
    if note.len() > NOTE_BYTES_MAX || note.contains(control) {
        return Err(NoteError::Form);
    }
    let (body, signatures) = note.rsplit_once("\n\n").ok_or(NoteError::Form)?;
    // Why the length: the text ends in the first of the two newlines.
    let text = note.get(..=body.len()).ok_or(NoteError::Form)?;
    let signatures = signatures.strip_suffix('\n').ok_or(NoteError::Form)?;
    let lines = signatures.split('\n').map(line);
    Ok((text, lines.collect::<Option<_>>().ok_or(NoteError::Form)?))
}

/// Reads one signature line, without its newline.
pub(super) fn line(line: &str) -> Option<Line<'_>> {
    let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let signature = STANDARD.decode(signature).ok()?;
    let (id, signature) = signature.split_first_chunk()?;
    let (id, signature) = (*id, signature.to_vec());
    Some(Line {
        name,
        id,
        signature,
    })
}

/// The text of a note that `key` has signed.
fn signed_text<'a>(note: &'a str, key: &Vkey) -> Result<&'a str, NoteError> {
    let (text, lines) = parts(note)?;
    let mut signed = false;
    for line in lines {
        if line.name != key.name || line.id != key.id() {
            continue;
        }
        if !key.verifies(text, &line.signature) {
            return Err(NoteError::Signature);
        }
        signed = true;
    }
    if signed {
        Ok(text)
    } else {
        Err(NoteError::Unsigned)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    /// The example of the Go reference implementation (golang.org/x/mod/sumdb/note).
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\u{2014} PeterNeumann \
        x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    struct Signer(keys::NoteSigner);

    impl SignsNotes for Signer {
        fn sign(&self, message: &[u8]) -> [u8; 64] {
            self.0.sign(message)
        }
        fn public(&self) -> [u8; 32] {
            self.0.public()
        }
    }

    #[test]
    fn foreign_notes_open_and_are_still_no_checkpoints() {
        let key: Vkey = GO_KEY.parse().unwrap();
        assert_eq!(key.to_string(), GO_KEY);
        assert!(
            signed_text(GO_NOTE, &key)
                .unwrap()
                .ends_with("problem is.\n")
        );
        assert_eq!(Checkpoint::open(GO_NOTE, &key), Err(NoteError::Text));
        let changed = GO_NOTE.replace("think", "thing");
        assert_eq!(signed_text(&changed, &key), Err(NoteError::Signature));
    }

    #[test]
    fn keys_have_one_form() {
        let (wrong_hash, other_type) =
            (GO_KEY.replace("c74f", "c74e"), GO_KEY.replace("+AR", "+BR"));
        let upper = GO_KEY.replace("c74f", "C74F");
        for text in [
            "",
            "a+b",
            "a+00000000+AQ==",
            &wrong_hash,
            &other_type,
            &upper,
            &format!("{GO_KEY} "),
        ] {
            assert_eq!(text.parse::<Vkey>(), Err(NotAVkey), "{text}");
        }
        assert!(format!("{GO_KEY}\n").parse::<Vkey>().is_ok());
        for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b"] {
            assert_eq!(Vkey::new(name, [0; 32]), Err(NotAVkey));
        }
    }

    #[test]
    fn checkpoints_open_under_their_own_key_and_log_only() {
        let signer = Signer(keys::NoteSigner::generate());
        let key = Vkey::new("log.example/a", signer.public()).unwrap();
        let (origin, size, root) = ("log.example/a".to_owned(), 7, [9; 32]);
        let checkpoint = Checkpoint { origin, size, root };
        let note = checkpoint.sign(&key, &signer);
        assert_eq!(Checkpoint::open(&note, &key), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::unverified(&note), Some(checkpoint.clone()));

        let witnessed = format!("{note}\u{2014} witness.example AAAAAAAA\n");
        assert!(Checkpoint::open(&witnessed, &key).is_ok(), "cosigned");
        let extended = signed(&key, &signer, &format!("{}extension\n", checkpoint.text()));
        assert!(
            Checkpoint::open(&extended, &key).is_ok(),
            "an extension line"
        );

        let other = Vkey::new("log.example/b", signer.public()).unwrap();
        assert_eq!(Checkpoint::open(&note, &other), Err(NoteError::Unsigned));
        let foreign = signed(&other, &signer, &checkpoint.text());
        assert_eq!(Checkpoint::open(&foreign, &other), Err(NoteError::Origin));
        let stranger = Vkey::new("log.example/a", [7; 32]).unwrap();
        assert_eq!(Checkpoint::open(&note, &stranger), Err(NoteError::Unsigned));

        for text in [
            "log.example/a\n07\n",
            "log.example/a\n-1\n",
            "log.example/a\n7 \n",
            "log.example/a\n",
        ] {
            let text = text.to_owned() + &STANDARD.encode(root) + "\n";
            assert_eq!(
                Checkpoint::open(&signed(&key, &signer, &text), &key),
                Err(NoteError::Text)
            );
        }
        for note in [
            "",
            "\n\n",
            "a\n\nb",
            &note.replace('\n', "\r\n"),
            note.trim_end(),
            &note.replace("\n\n", "\n"),
        ] {
            assert_eq!(
                Checkpoint::open(note, &key),
                Err(NoteError::Form),
                "{note:?}"
            );
        }
    }

    fn signed(key: &Vkey, signer: &Signer, text: &str) -> String {
        let mut signature = key.id().to_vec();
        signature.extend_from_slice(&signer.sign(text.as_bytes()));
        format!(
            "{text}\n\u{2014} {} {}\n",
            key.name,
            STANDARD.encode(signature)
        )
    }
}
