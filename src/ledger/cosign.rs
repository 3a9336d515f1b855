//! Cosignatures of witnesses (C2SP tlog-cosignature, `cosignature/v1`, Ed25519): a witness says that at this time it saw
//! this checkpoint, and that everything it ever saw of the log is a prefix of it. Here they are only verified; asking
//! for them is for whoever can reach a witness. A cosignature says nothing of extension lines or of what entries hold.

use super::note::{self, NotAVkey, NoteError, Vkey};
use std::fmt;
use std::str::FromStr;

/// Type byte of an Ed25519 cosignature (C2SP signed-note).
const COSIGNATURE: u8 = 4;

/// A witness's public key and name, as the text `NAME+HASH+BASE64` that its operator gives out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessKey(Vkey);

impl WitnessKey {
    /// The witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// When this witness cosigned the note, in seconds since 1970 by the witness's clock; the latest, if more than once.
    ///
    /// # Errors
    /// [`NoteError`]: it did not, or there is a line of its name and key that does not verify.
    pub fn cosigned(&self, note: &str) -> Result<u64, NoteError> {
        let (text, lines) = note::parts(note)?;
        let mut latest = None;
        for line in lines {
            if line.name != self.name() || line.id != self.0.id_as(COSIGNATURE) {
                continue;
            }
            let (time, signature) = line.signature.split_first_chunk().ok_or(NoteError::Form)?;
            let time = u64::from_be_bytes(*time);
            let message = format!("cosignature/v1\ntime {time}\n{text}");
            if !self.0.verifies(&message, signature) {
                return Err(NoteError::Signature);
            }
            latest = latest.max(Some(time));
        }
        latest.ok_or(NoteError::Unsigned)
    }

    /// The first of these lines that is this witness's cosignature of that note, with its newline, and its time.
    ///
    /// # Errors
    /// [`NoteError`]: none is, or one says so and does not verify.
    pub fn pick(&self, note: &str, lines: &str) -> Result<(String, u64), NoteError> {
        let mine = |line: &&str| {
            note::line(line).is_some_and(|line| {
                line.name == self.name() && line.id == self.0.id_as(COSIGNATURE)
            })
        };
        let line = lines.lines().find(mine).ok_or(NoteError::Unsigned)?;
        let (text, _) = note::parts(note)?;
        let time = self.cosigned(&format!("{text}\n{line}\n"))?;
        Ok((format!("{line}\n"), time))
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text_as(COSIGNATURE))
    }
}

impl FromStr for WitnessKey {
    type Err = NotAVkey;

    fn from_str(text: &str) -> Result<Self, NotAVkey> {
        Vkey::parse_as(text, COSIGNATURE).map(Self)
    }
}

/// Which of these witnesses cosigned the note, and when.
#[must_use]
pub fn cosigners<'a>(note: &str, by: &'a [WitnessKey]) -> Vec<(&'a WitnessKey, u64)> {
    let time = |key: &'a WitnessKey| Some((key, key.cosigned(note).ok()?));
    by.iter().filter_map(time).collect()
}

/// When so many had cosigned: the time of the oldest of the latest `quorum`; `None` if fewer did.
#[must_use]
pub fn quorum_time(cosigners: &[(&WitnessKey, u64)], quorum: usize) -> Option<u64> {
    let mut times: Vec<u64> = cosigners.iter().map(|(_, time)| *time).collect();
    times.sort_unstable_by_key(|time| std::cmp::Reverse(*time));
    times.get(quorum.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    const NOTE: &str =
        "log.example/a\n7\nCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=\n\n\u{2014} x AAAAAAAA\n";

    fn witness(name: &str) -> (keys::NoteSigner, WitnessKey) {
        let signer = keys::NoteSigner::generate();
        let key = WitnessKey(Vkey::new(name, signer.public()).unwrap());
        (signer, key)
    }

    fn line(signer: &keys::NoteSigner, key: &WitnessKey, note: &str, time: u64) -> String {
        let (text, _) = note.split_once("\n\n").unwrap();
        let message = format!("cosignature/v1\ntime {time}\n{text}\n");
        let mut bytes = key.0.id_as(COSIGNATURE).to_vec();
        bytes.extend_from_slice(&time.to_be_bytes());
        bytes.extend_from_slice(&signer.sign(message.as_bytes()));
        format!("\u{2014} {} {}\n", key.name(), STANDARD.encode(bytes))
    }

    #[test]
    fn keys_of_witnesses_are_no_keys_of_logs() {
        let (signer, key) = witness("w.example/1");
        assert_eq!(key.to_string().parse::<WitnessKey>(), Ok(key.clone()));
        assert_eq!(key.to_string().parse::<Vkey>(), Err(NotAVkey));
        let log = Vkey::new("w.example/1", signer.public()).unwrap();
        assert_eq!(log.to_string().parse::<WitnessKey>(), Err(NotAVkey));
    }

    #[test]
    fn a_cosignature_is_of_one_checkpoint_by_one_witness_at_one_time() {
        let (signer, key) = witness("w.example/1");
        let (other_signer, other) = witness("w.example/2");
        assert_eq!(key.cosigned(NOTE), Err(NoteError::Unsigned));
        let good = line(&signer, &key, NOTE, 1_790_000_000);
        let cosigned = format!("{NOTE}{good}");
        assert_eq!(key.cosigned(&cosigned), Ok(1_790_000_000));
        assert_eq!(other.cosigned(&cosigned), Err(NoteError::Unsigned));
        assert_eq!(key.pick(NOTE, &good), Ok((good.clone(), 1_790_000_000)));
        let grown = cosigned.replace("\n7\n", "\n8\n");
        assert_eq!(key.cosigned(&grown), Err(NoteError::Signature));
        // Its name and key id over another's signature.
        let posed = line(&other_signer, &key, NOTE, 1_790_000_000);
        assert_eq!(key.pick(NOTE, &posed), Err(NoteError::Signature));
        for garbage in [
            "",
            "\n",
            "\u{2014} w.example/1 AAAA\n",
            "200 OK",
            "\u{2014} \u{2014} \u{2014}",
        ] {
            assert!(key.pick(NOTE, garbage).is_err(), "{garbage:?}");
        }
        let later = line(&other_signer, &other, NOTE, 1_790_000_100);
        let both = format!("{cosigned}{later}");
        let named = [key, other];
        let found = cosigners(&both, &named);
        assert_eq!(quorum_time(&found, 1), Some(1_790_000_100));
        assert_eq!(quorum_time(&found, 2), Some(1_790_000_000));
        assert_eq!(quorum_time(&found, 3), None);
        assert_eq!(quorum_time(&found, 0), None);
    }
}
