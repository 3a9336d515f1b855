//! The life of every long-lived key: announced, active, retiring, retired, destroyed. Here: by which name an admin
//! calls each, what is reported of it, and the changes that no rewrap follows. Nothing here shows a key.

use std::sync::{Arc, Weak};

use keys::{ChangeError, Family, KeyState, SharedKeyring};
use policy::words::Ods;
use policy::{AdminAct, Approve, Grant};
use serde::Serialize;

use super::rotate::{Owner, RotationError};
use super::row::AUDIT_OWNER;
use super::{Vault, VaultError, read};
use crate::ledger::{Receipt, Recorded};

/// Families by the name that an admin calls them, where it is not an owner's.
const NAMED: [(&str, Family); 8] = [
    ("token-signing", Family::TokenSigning),
    ("ticket-signing", Family::TicketSigning),
    ("deposit-signing", Family::DepositSigning),
    ("ledger-signing", Family::LedgerSigning),
    ("ledger-bodies", Family::Audit),
    ("facts", Family::Facts),
    ("index", Family::Index),
    ("store", Family::StoreMac),
];

/// A key as an admin calls it: an ODS code, `audit`, or the name of what it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyName {
    /// An owner's KEK.
    Kek(Owner),
    /// A key of the gateway's own.
    Own(&'static str, Family),
}

/// Not the name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an ODS code, `audit`, or one of token-signing, ticket-signing, deposit-signing, ledger-signing, \
     ledger-bodies, facts, index, store"
)]
pub struct NotAKey;

impl TryFrom<&str> for KeyName {
    type Error = NotAKey;

    fn try_from(text: &str) -> Result<Self, NotAKey> {
        if text == AUDIT_OWNER {
            return Ok(Self::Kek(Owner::Audit));
        }
        if let Some((name, family)) = NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(Self::Own(name, family.clone()));
        }
        let practice = Ods::try_from(text).map_err(|_| NotAKey)?;
        Ok(Self::Kek(Owner::Practice(practice)))
    }
}

impl KeyName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Kek(owner) => owner.as_str(),
            Self::Own(name, _) => name,
        }
    }

    /// What it is: a KEK wraps other keys, a signing key is announced before it signs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kek(_) => "kek",
            Self::Own(_, family) if family.signs() => "signing",
            Self::Own(..) => "own",
        }
    }

    fn family(&self) -> Family {
        match self {
            Self::Kek(owner) => owner.family(),
            Self::Own(_, family) => family.clone(),
        }
    }
}

/// One version of a key, as an admin sees it.
#[derive(Clone, Debug, Serialize)]
pub struct VersionReport {
    /// Its number.
    pub version: u32,
    /// `announced`, `active`, `retiring`, `retired` or `destroyed`.
    pub state: &'static str,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// How often it was used since the gateway started.
    pub uses: u64,
    /// Wrapped keys that stand under it; only of a KEK.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wraps: Option<u64>,
}

/// A key with all its versions.
#[derive(Clone, Debug, Serialize)]
pub struct KeyReport {
    /// By which an admin calls it.
    pub key: String,
    /// `kek`, `signing` or `own`.
    pub kind: &'static str,
    /// What depends on it, in a sentence.
    pub serves: &'static str,
    /// The oldest first.
    pub versions: Vec<VersionReport>,
}

/// The version of a key that is in use, and since when.
#[derive(Clone, Debug, Serialize)]
pub struct ActiveKey {
    /// By which an admin calls it.
    pub key: String,
    /// `kek`, `signing` or `own`.
    pub kind: &'static str,
    /// What depends on it, in a sentence.
    pub serves: &'static str,
    /// Its number.
    pub version: u32,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
}

/// Sees whether anything still holds the keyring, without holding it.
pub struct KeyringWatch(Weak<SharedKeyring>);

impl KeyringWatch {
    /// Whether every key was dropped, and with it wiped.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl Vault {
    /// Which version of each key is in use and how old it is; nothing is read from the store.
    #[must_use]
    pub fn active_keys(&self) -> Vec<ActiveKey> {
        let active = |name: KeyName| {
            let mut versions = read(&self.ring).versions(&name.family()).into_iter();
            let key = versions.rfind(|key| key.state == KeyState::Active)?;
            Some(ActiveKey {
                key: name.as_str().to_owned(),
                kind: name.kind(),
                serves: serves(&name),
                version: key.version,
                created_ms: key.created_ms,
            })
        };
        self.key_names().into_iter().filter_map(active).collect()
    }

    /// The names of all keys there are.
    #[must_use]
    pub fn key_names(&self) -> Vec<KeyName> {
        let keks = self.owners().into_iter().map(KeyName::Kek);
        let own = NAMED
            .iter()
            .map(|(name, family)| KeyName::Own(name, family.clone()));
        keks.chain(own).collect()
    }

    /// The versions of a key and what still depends on each; `None` where there never was one.
    ///
    /// # Errors
    /// The store's, or a row that is malformed.
    pub async fn report(&self, name: &KeyName) -> Result<Option<KeyReport>, VaultError> {
        let under = match name {
            KeyName::Kek(owner) => Some(self.under_versions(owner).await?),
            KeyName::Own(..) => None,
        };
        let wraps = |version| {
            let rows = under.as_ref()?.iter().find(|row| row.0 == version);
            Some(rows.map_or(0, |row| row.1))
        };
        let versions: Vec<VersionReport> = read(&self.ring)
            .versions(&name.family())
            .into_iter()
            .map(|key| VersionReport {
                version: key.version,
                state: key.state.name(),
                created_ms: key.created_ms,
                uses: key.uses,
                wraps: wraps(key.version),
            })
            .collect();
        Ok((!versions.is_empty()).then(|| KeyReport {
            key: name.as_str().to_owned(),
            kind: name.kind(),
            serves: serves(name),
            versions,
        }))
    }

    /// How often the keyring has changed: entries of the ledger name it, so that one put back from a copy is noticed.
    #[must_use]
    pub fn keyring_epoch(&self) -> u64 {
        read(&self.ring).epoch()
    }

    /// Says later whether the keyring is gone from memory.
    #[must_use]
    pub fn keyring_watch(&self) -> KeyringWatch {
        KeyringWatch(Arc::downgrade(&self.ring))
    }

    /// Makes and publishes a signing key that will sign once it is activated.
    ///
    /// # Errors
    /// If one is announced already, or the keyring cannot be written.
    pub async fn announce(
        &self,
        recorded: Recorded<Grant<AdminAct>>,
        name: &KeyName,
        now_ms: u64,
    ) -> Result<(u32, Receipt), RotationError> {
        let (_grant, receipt) = recorded.into_parts();
        let family = name.family();
        let version = self.blocking(move |ring| ring.announce(&family, now_ms));
        Ok((version.await?, receipt))
    }

    /// From its return on, the announced key signs; the secret half of the one before is gone.
    ///
    /// # Errors
    /// If none is announced, or the keyring cannot be written.
    pub async fn activate(
        &self,
        recorded: Recorded<Grant<AdminAct>>,
        name: &KeyName,
    ) -> Result<(u32, Receipt), RotationError> {
        let (_grant, receipt) = recorded.into_parts();
        let family = name.family();
        let version = self.blocking(move |ring| ring.activate(&family));
        Ok((version.await?, receipt))
    }

    /// Makes a fresh active key of a kind that no rewrap follows: older entries still open under the older versions.
    ///
    /// # Errors
    /// If the keyring cannot be written.
    pub async fn replace(
        &self,
        recorded: Recorded<Grant<AdminAct>>,
        name: &KeyName,
        now_ms: u64,
    ) -> Result<(u32, Receipt), RotationError> {
        let (_grant, receipt) = recorded.into_parts();
        let family = name.family();
        let version = self.blocking(move |ring| ring.add(&family, now_ms));
        Ok((version.await?, receipt))
    }

    /// Retires one version; the caller has seen that nothing depends on it.
    ///
    /// # Errors
    /// If there is no such version, or the keyring cannot be written.
    pub async fn retire(
        &self,
        recorded: Recorded<Grant<AdminAct>>,
        name: &KeyName,
        version: u32,
    ) -> Result<Receipt, RotationError> {
        let (_grant, receipt) = recorded.into_parts();
        let family = name.family();
        self.blocking(move |ring| ring.retire(&family, version))
            .await?;
        Ok(receipt)
    }

    /// Destroys one retired version: gone from memory and from this disk on return. Two people asked for it.
    ///
    /// # Errors
    /// If it is not retired, or the keyring cannot be written.
    pub async fn destroy(
        &self,
        approved: Recorded<Grant<Approve>>,
        name: &KeyName,
        version: u32,
    ) -> Result<Receipt, RotationError> {
        let (_grant, receipt) = approved.into_parts();
        let family = name.family();
        self.blocking(move |ring| ring.destroy(&family, version))
            .await?;
        Ok(receipt)
    }

    /// The state of one version.
    #[must_use]
    pub fn state_of(&self, name: &KeyName, version: u32) -> Option<KeyState> {
        let versions = read(&self.ring).versions(&name.family()).into_iter();
        versions
            .filter(|key| key.version == version)
            .map(|key| key.state)
            .next()
    }

    /// Changes the keyring where waiting for the disk holds nobody up.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        change: impl FnOnce(&SharedKeyring) -> Result<T, ChangeError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let ring = Arc::clone(&self.ring);
        let done = tokio::task::spawn_blocking(move || change(&ring)).await;
        done.unwrap_or(Err(ChangeError::Stopped))
    }
}

fn serves(name: &KeyName) -> &'static str {
    match name {
        KeyName::Kek(Owner::Practice(_)) => {
            "wraps the record key of each of the practice's patients"
        }
        KeyName::Kek(Owner::Audit) => "wraps each patient's audit key",
        KeyName::Own(name, _) => match *name {
            "token-signing" => {
                "signs access tokens; a retired one verifies those of its last 5 minutes"
            }
            "ticket-signing" => "signs tickets; a retired one verifies those of its last 5 minutes",
            "deposit-signing" => {
                "signs deposits; a retired one verifies them as long as a record stands"
            }
            "ledger-signing" => {
                "signs checkpoints; each hand-over is an entry signed by the key before"
            }
            "ledger-bodies" => {
                "seals ledger bodies of no patient; a retiring one opens older entries"
            }
            "facts" => "seals what a decision may look at",
            "index" => "finds patients without naming them",
            _ => "authenticates every frame and row of the store",
        },
    }
}
