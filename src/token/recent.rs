//! Access tokens whose signature was verified, or made here, a short while ago: the same text need not be verified
//! again. Only authenticity is remembered. Times, certificate and revocation are looked at on every use, and what the
//! token permits is decided anew each time; any change of a key forgets everything.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use policy::caller::Token;
use sha2::{Digest, Sha256};

/// How many are remembered, about 1 KiB each; the oldest goes first.
const TOKENS_MAX: usize = 16 * 1024;

/// What a signature of ours vouches for.
pub(super) struct Signed {
    /// OAuth client id it was issued to.
    pub(super) client: String,
    /// SHA-256 of the certificate it is bound to (RFC 8705 §3).
    pub(super) certificate: [u8; 32],
    /// Issued at, seconds since 1970.
    pub(super) iat: u64,
    /// Expires, seconds since 1970.
    pub(super) exp: u64,
    /// What it is for.
    pub(super) token: Token,
}

/// SHA-256 of a token's whole text, signature included.
pub(super) type Print = [u8; 32];

pub(super) fn print(text: &str) -> Print {
    Sha256::digest(text).into()
}

/// The tokens remembered under one epoch of the keyring.
#[derive(Default)]
pub(super) struct Recent {
    epoch: u64,
    signed: HashMap<Print, Arc<Signed>>,
    order: VecDeque<Print>,
}

impl Recent {
    /// The token of this text, if it was verified under the keys as they are now.
    pub(super) fn find(&self, print: &Print, epoch: u64) -> Option<Arc<Signed>> {
        (self.epoch == epoch)
            .then(|| self.signed.get(print).cloned())
            .flatten()
    }

    /// Remembers a token that was verified when the keyring stood at `epoch`.
    pub(super) fn keep(&mut self, print: Print, epoch: u64, signed: &Arc<Signed>) {
        if epoch > self.epoch {
            self.signed.clear();
            self.order.clear();
            self.epoch = epoch;
        }
        // Why: what was verified under older keys says nothing about the keys of now.
        if epoch < self.epoch || self.signed.contains_key(&print) {
            return;
        }
        if self.order.len() >= TOKENS_MAX {
            self.order
                .pop_front()
                .map(|oldest| self.signed.remove(&oldest));
        }
        self.order.push_back(print);
        self.signed.insert(print, Arc::clone(signed));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]

    use std::sync::Arc;

    use policy::caller::{Scope, Token};
    use policy::words::Ods;

    use super::{Recent, Signed, TOKENS_MAX, print};

    fn signed() -> Arc<Signed> {
        Arc::new(Signed {
            client: "A81001".to_owned(),
            certificate: [7; 32],
            iat: 1,
            exp: 2,
            token: Token {
                jti: "one".to_owned(),
                issued_ms: 1000,
                expires_ms: 2000,
                scope: Scope::Deposit {
                    practice: Ods::try_from("A81001").unwrap(),
                    patient: None,
                },
            },
        })
    }

    #[test]
    fn only_the_very_text_is_recalled_and_only_under_the_keys_of_then() {
        let (mut recent, text) = (Recent::default(), print("a.b.c"));
        recent.keep(text, 5, &signed());
        assert!(recent.find(&text, 5).is_some());
        assert!(recent.find(&print("a.b.d"), 5).is_none());
        assert!(recent.find(&text, 6).is_none(), "a key has changed since");

        recent.keep(print("new"), 6, &signed());
        assert!(recent.find(&text, 6).is_none());
        assert!(recent.find(&text, 5).is_none(), "and all is forgotten");
        recent.keep(text, 5, &signed());
        assert!(
            recent.find(&text, 6).is_none(),
            "verified under keys that are no more"
        );
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut recent = Recent::default();
        for n in 0..=TOKENS_MAX {
            recent.keep(print(&n.to_string()), 1, &signed());
        }
        assert!(recent.find(&print("0"), 1).is_none());
        assert!(recent.find(&print("1"), 1).is_some());
        assert_eq!(recent.signed.len(), TOKENS_MAX);
        assert_eq!(recent.order.len(), TOKENS_MAX);
    }
}
