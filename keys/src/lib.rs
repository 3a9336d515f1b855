//! The only code that sees secret bytes: data keys, wrapping keys, envelopes, signatures, the keyring.
mod agreement;
mod audit;
mod context;
mod dek;
mod deposit;
mod epoch;
mod family;
mod gcm;
mod jose;
mod jwe;
mod jwk;
mod key;
mod keyring;
mod mac;
mod open_key;
mod private_file;
mod process;
mod receive;
mod root;
mod sealed;
mod secret;
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
pub use epoch::LoadError;
pub use family::{Family, KeyState, KeyVersion};
pub use jwk::{JwkError, PublicJwk, Recipient};
pub use key::{Active, Key, Retired};
pub use keyring::{ChangeError, Keyring, NoKey};
pub use mac::{MacKey, sha256};
pub use open_key::OpenKey;
pub use process::harden_process;
pub use receive::{
    OpenRecordError, OpenTicketError, RECORD_TEXT_BYTES_MAX, Ticket, TicketEntry, open_record,
    open_ticket,
};
pub use root::{PASSPHRASE_BYTES_MIN, RootError, RootKey};
pub use sealed::{NotSealed, OpenError, Plaintext, Sealed};
pub use secret::random;
pub use sign::{ClientKey, NoteSigner, Signer, VerifyError, verify_ed25519, verify_jws_es256};
pub use ticket::{TICKET_KEYS_MAX, TicketClaims, TicketError, TicketKey, seal_ticket};
