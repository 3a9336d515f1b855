//! The only code that sees secret bytes: data keys, wrapping keys, envelopes, signatures, the keyring.
//!
//! No domain words, no network, no clock, no policy: whoever calls has decided. Read in this order, an hour in all:
//!
//! ```text
//! secret     32 bytes, wiped on drop; randomness, or the process stops       locked   pages that are not swapped
//! context    what a ciphertext belongs to (associated data)
//! mac        SHA-256, HMAC-SHA-256, HKDF-SHA-256          gcm        AES-256-GCM on raw bytes
//! sealed     what a key makes and opens                   key        Key<Active> seals and opens, Key<Retired> opens
//! dek        one data key, one encryption                 record     that encryption, and the strict way back
//! audit      a patient's ledger bodies and entry tags
//! jose       base64url, compact, exact JSON               jwk        public keys, named by thumbprint
//! sign       ES256, Ed25519                               agreement  ECDH-ES, Concat KDF, AES-KW
//! jwe        one JWE to one key                           ticket     the data keys of a release, signed, then sealed
//! deposit    who deposited what, under which key, of whom disclosure audit keys to an auditor
//! open_key   a hospital's own key                         receive    opening tickets, strictly
//! root       the root key: passphrase, shares or token    share      shares of a secret, as people copy them
//! hsm        the root key under a token's key (PKCS#11)  family     kinds of long-lived keys, and their bytes
//! epoch      the keyring's files                          keyring    add, announce, activate, retire, destroy, rewrap
//! shared     a keyring at work: no reader waits for a disk
//! private_file, process                                   owner-only files; no core dumps
//! ```
//!
//! How keys hang together; each arrow is a wrap that names the version of the key above it:
//!
//! ```text
//! passphrase -> root key -> keyring epoch: KEK of each owner -> record key -> data key -> record
//!                           |                               -> audit key  -> ledger body
//!                           index, facts, store, signing keys
//! ```
//!
//! The rules, and where each is kept:
//!
//! * A data key encrypts once: [`FreshDek::seal_record`] consumes it, and a [`Dek`] has no such method.
//! * A retired key seals nothing: `seal` and `wrap` exist on `Key<Active>` only; a retired signing key is its public half.
//! * A moved ciphertext does not open: format, kind, key version and [`Context`] are all authenticated.
//! * One form of envelope: header members, algorithms and lengths are fixed before a key is touched.
//! * GCM does not commit to its key, and anyone may encrypt to a public key: [`check_deposit`] and the signature inside
//!   a ticket close both. An opened record that was not checked must not be shown.
//! * Destruction is the removal of an epoch file; of copies in backups this crate knows nothing.
//!
//! `ring` makes tickets, seals and signatures; `aws-lc-rs` does AES-KW, static ECDH and point arithmetic, which `ring` lacks.
//! Neither wipes what it copies: key schedules, signing keys it holds, the key-encryption key of one ticket. Nor is
//! anything wiped that the system swapped out, or that a caller copied out of a [`Plaintext`].

mod agreement;
mod audit;
mod context;
mod dek;
mod deposit;
mod disclosure;
mod epoch;
mod family;
mod gcm;
mod hsm;
mod jose;
mod jwe;
mod jwk;
mod key;
mod keyring;
mod locked;
mod mac;
mod open_key;
mod possession;
mod private_file;
mod process;
mod receive;
mod record;
mod root;
mod sealed;
mod secret;
mod share;
mod shared;
mod sign;
mod ticket;
#[cfg(test)]
mod vectors;

pub use audit::AuditKey;
pub use context::Context;
pub use dek::{Dek, FreshDek};
pub use deposit::{
    CheckDepositError, CheckedDeposit, DepositClaims, DepositedBy, check_deposit, deposit_signature,
};
pub use disclosure::{AuditKeys, open_audit_keys, seal_audit_keys};
pub use epoch::LoadError;
pub use family::{Family, KeyState, KeyVersion};
pub use hsm::{HsmError, HsmKey, make_hsm_key};
pub use jwk::{JwkError, PublicJwk, Recipient};
pub use key::{Active, Key, Retired};
pub use keyring::{ChangeError, Keyring, NoKey};
pub use locked::unlocked_pages;
pub use mac::{MacKey, sha256};
pub use open_key::OpenKey;
pub use possession::{open_challenge, seal_challenge};
pub use process::harden_process;
pub use receive::{OpenTicketError, Ticket, TicketEntry, open_ticket};
pub use record::{OpenRecordError, RECORD_TEXT_BYTES_MAX, open_record};
pub use root::{Means, PASSPHRASE_BYTES_MIN, RootError, RootKey, Unlock};
pub use sealed::{NotSealed, OpenError, Plaintext, Sealed};
pub use secret::{random, random_array, random_id};
pub use share::{SHARES_MAX, Share, ShareError, ShareSet, ShareSetError};
pub use shared::SharedKeyring;
pub use sign::{ClientKey, NoteSigner, Signer, VerifyError, verify_ed25519, verify_jws_es256};
pub use ticket::{TICKET_KEYS_MAX, TicketClaims, TicketError, TicketKey, seal_ticket};
