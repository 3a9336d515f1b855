//! What is said on the control socket: one request a connection, a line of words and then, up to the end, the secret or
//! the reason as it is; one line of JSON back. Requests are borrowed from the one buffer they came in, which is wiped.
//! Never here: an answer that holds a secret, or says of a wrong one how wrong it is.

use serde::{Deserialize, Serialize};

/// Longest request.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// What is asked of the porter.
#[derive(PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// How the gateway stands, and what opens it.
    Status,
    /// Open it with this.
    Unseal(Given<'a>),
    /// Forget the shares that were given so far.
    Forget,
    /// Seal it.
    Seal,
}

/// What is given to open it.
#[derive(PartialEq, Eq)]
pub enum Given<'a> {
    /// The passphrase of the root key.
    Passphrase(&'a [u8]),
    /// One share, as it is printed.
    Share(&'a [u8]),
    /// The PIN of the hardware token.
    Pin(&'a [u8]),
}

// Why by hand: what was given is never shown.
impl std::fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl Given<'_> {
    /// What it is called.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Given::Passphrase(_) => "passphrase",
            Given::Share(_) => "share",
            Given::Pin(_) => "pin",
        }
    }
}

/// Not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than any.
    #[error("a request has {REQUEST_BYTES_MAX} bytes at most")]
    TooLong,
    /// Not one of the words.
    #[error(
        "must be `status`, `unseal passphrase`, `unseal share`, `unseal pin`, `forget` or `seal`, on a line of its own"
    )]
    Unknown,
    /// Nothing was given to open it with.
    #[error("nothing was given")]
    Empty,
}

impl<'a> Request<'a> {
    /// Reads a whole request.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Request<'a>, RequestError> {
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let rest = rest.strip_prefix(b"\n").unwrap_or_default();
        let secret = (!rest.is_empty())
            .then_some(rest)
            .ok_or(RequestError::Empty);
        match line {
            b"status" => Ok(Request::Status),
            b"forget" => Ok(Request::Forget),
            b"seal" => Ok(Request::Seal),
            b"unseal passphrase" => Ok(Request::Unseal(Given::Passphrase(secret?))),
            b"unseal share" => Ok(Request::Unseal(Given::Share(secret?))),
            b"unseal pin" => Ok(Request::Unseal(Given::Pin(secret?))),
            _ => Err(RequestError::Unknown),
        }
    }
}

/// What the porter answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Whether what was asked was done.
    pub done: bool,
    /// `sealed` or `serving`.
    pub state: String,
    /// What the root file asks for: `passphrase`, `share` or `pin`.
    pub asks: String,
    /// In words: what opens it.
    pub means: String,
    /// How many shares are needed; 0 where it is no shares.
    pub need: u8,
    /// Which shares were given so far.
    pub have: Vec<u8>,
    /// Seconds until the next try is looked at.
    pub wait_s: u64,
    /// For a person: what came of it.
    pub text: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn a_request_is_its_words_and_a_secret_as_it_is() {
        let secret = b"with\nlines \xff and no end";
        let whole = [b"unseal passphrase\n".as_slice(), secret].concat();
        assert_eq!(
            Request::parse(&whole),
            Ok(Request::Unseal(Given::Passphrase(secret)))
        );
        assert_eq!(Request::parse(b"status\n"), Ok(Request::Status));
        assert_eq!(Request::parse(b"seal"), Ok(Request::Seal));
        for (bytes, error) in [
            (b"".as_slice(), RequestError::Unknown),
            (b"unseal", RequestError::Unknown),
            (b"unseal  share\nx", RequestError::Unknown),
            (b"unseal share", RequestError::Empty),
            (b"unseal passphrase\n", RequestError::Empty),
            (&[b'x'; REQUEST_BYTES_MAX + 1], RequestError::TooLong),
        ] {
            assert_eq!(Request::parse(bytes), Err(error));
        }
        let shown = format!("{:?}", Request::parse(&whole).unwrap());
        assert!(!shown.contains("lines"), "{shown}");
    }
}
