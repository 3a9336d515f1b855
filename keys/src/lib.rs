//! The only code that sees secret bytes: data keys, wrapping keys, envelopes, signatures, the keyring.
mod agreement;
mod audit;
mod context;
mod dek;
mod deposit;
mod gcm;
mod jose;
mod jwe;
mod jwk;
mod key;
mod mac;
mod private_file;
mod process;
mod receive;
mod root;
mod secret;
mod sign;
mod ticket;

pub use audit::AuditKey;
pub use context::Context;
pub use dek::{Dek, FreshDek};
pub use deposit::{
    CheckDepositError, CheckedDeposit, DepositClaims, DepositedBy, check_deposit, deposit_signature,
};
pub use jwk::{JwkError, PublicJwk, Recipient};
pub use key::{Active, Key, NotSealed, OpenError, Plaintext, Retired, Sealed};
pub use mac::{MacKey, sha256};
pub use process::harden_process;
pub use receive::{
    OpenKey, OpenRecordError, OpenTicketError, RECORD_TEXT_BYTES_MAX, Ticket, TicketEntry,
    open_record, open_ticket,
};
pub use root::{PASSPHRASE_BYTES_MIN, RootError, RootKey};
pub use secret::random;
pub use sign::{ClientKey, NoteSigner, Signer, VerifyError, verify_ed25519, verify_jws_es256};
pub use ticket::{TICKET_KEYS_MAX, TicketClaims, TicketError, TicketKey, seal_ticket};
