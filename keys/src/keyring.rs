//! The keyring: every long-lived key of the gateway, by family and version.
//!
//! Never here: a clock, a way to copy it, or a change in memory that is not on disk first. Owned by one room only.
//! Keys are added, retired, destroyed while the gateway serves. After a failed write the keyring still opens and
//! signs, but refuses every change until it is opened again, because only then is it known what the disk holds.

use std::io;
use std::path::Path;

use crate::audit::AuditKey;
use crate::context::Context;
use crate::epoch::{Folder, LoadError};
use crate::family::{Families, Family, Held, KeyState, KeyVersion, Material};
use crate::jwk::PublicJwk;
use crate::key::{Active, Key, Opens, wrapped_key};
use crate::mac::MacKey;
use crate::root::RootKey;
use crate::sealed::{Kind, OpenError, Plaintext, Sealed};
use crate::sign::{NoteSigner, Signer};

/// Longest owner name of a key-encryption key.
const OWNER_BYTES_MAX: usize = 256;

/// Every long-lived key of the gateway.
pub struct Keyring {
    folder: Folder,
    root: RootKey,
    epoch: u64,
    families: Families,
    is_stopped: bool,
}

/// The family has no such key, or none that may still make anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such key")]
pub struct NoKey;

/// Why the keyring was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The family has no such version.
    #[error("no such key")]
    NoKey,
    /// The key still seals or signs: retire it first.
    #[error("the key is still active")]
    StillActive,
    /// The owner's name is empty or too long, or there are no numbers left.
    #[error("not a key that can be added")]
    NotAddable,
    /// An earlier write failed; open the keyring again.
    #[error("the keyring takes no change until it is opened again")]
    Stopped,
    /// The disk. What was asked may or may not have happened.
    #[error("the keyring could not be written")]
    Io(#[source] io::Error),
}

impl Keyring {
    /// Makes an empty keyring in a folder that holds none; on disk on return.
    ///
    /// # Errors
    /// [`LoadError`]; an existing keyring is never touched.
    pub fn create(folder: &Path, root: &RootKey) -> Result<Keyring, LoadError> {
        let folder = Folder::lock(folder, true)?;
        if folder.newest().map_err(LoadError::Io)?.is_some() {
            return Err(LoadError::Exists);
        }
        let (root, epoch, families) = (root.duplicate(), 1, Families::empty());
        folder
            .write(&root, epoch, &families)
            .map_err(LoadError::Io)?;
        Ok(Keyring {
            folder,
            root,
            epoch,
            families,
            is_stopped: false,
        })
    }

    /// Opens the newest epoch, and finishes the removal of older ones that a crash interrupted.
    ///
    /// # Errors
    /// [`LoadError`]; an older epoch is never taken in place of one that does not open.
    pub fn open(folder: &Path, root: &RootKey) -> Result<Keyring, LoadError> {
        let folder = Folder::lock(folder, false)?;
        let epoch = folder
            .newest()
            .map_err(LoadError::Io)?
            .ok_or(LoadError::Missing)?;
        let (root, families) = (root.duplicate(), folder.read(root, epoch)?);
        folder.remove_before(epoch).map_err(LoadError::Io)?;
        Ok(Keyring {
            folder,
            root,
            epoch,
            families,
            is_stopped: false,
        })
    }

    /// How often the keyring has changed. Kept elsewhere too, it shows a keyring that was rolled back.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Adds a fresh key as the family's active one; the one before is retired. On disk on return.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add(&mut self, family: Family, created_ms: u64) -> Result<u32, ChangeError> {
        if matches!(&family, Family::Kek(owner) if owner.is_empty() || owner.len() > OWNER_BYTES_MAX)
        {
            return Err(ChangeError::NotAddable);
        }
        self.change(|families| {
            let versions = families.0.entry(family.clone()).or_default();
            let last = versions.last_key_value().map_or(0, |(version, _)| *version);
            let version = last.checked_add(1).ok_or(ChangeError::NotAddable)?;
            versions.values_mut().for_each(retire);
            let material = Material::fresh(&family, version);
            versions.insert(
                version,
                Held {
                    state: KeyState::Active,
                    created_ms,
                    material,
                },
            );
            Ok(version)
        })
    }

    /// Takes the right to seal or sign; a signing key keeps its public half only. Asking twice is asking once.
    ///
    /// # Errors
    /// [`ChangeError::NoKey`] for a version that was never there or is destroyed.
    pub fn retire(&mut self, family: &Family, version: u32) -> Result<(), ChangeError> {
        match self.state(family, version) {
            None | Some(KeyState::Destroyed) => Err(ChangeError::NoKey),
            Some(KeyState::Retired) => Ok(()),
            Some(KeyState::Active) => self.change(|families| {
                families
                    .0
                    .get_mut(family)
                    .and_then(|all| all.get_mut(&version))
                    .map(retire);
                Ok(())
            }),
        }
    }

    /// Destroys a retired key: gone from memory and from this disk on return. Asking twice is asking once.
    ///
    /// The caller has seen to it that nothing is left under this version, and knows when the backups expire.
    ///
    /// # Errors
    /// [`ChangeError::StillActive`] for a key that was not retired first.
    pub fn destroy(&mut self, family: &Family, version: u32) -> Result<(), ChangeError> {
        match self.state(family, version) {
            None => Err(ChangeError::NoKey),
            Some(KeyState::Active) => Err(ChangeError::StillActive),
            Some(KeyState::Destroyed) => Ok(()),
            Some(KeyState::Retired) => self.change(|families| {
                if let Some(held) = families
                    .0
                    .get_mut(family)
                    .and_then(|all| all.get_mut(&version))
                {
                    held.state = KeyState::Destroyed;
                    held.material = Material::Destroyed;
                }
                Ok(())
            }),
        }
    }

    /// Seals the whole keyring under another root key; the file under the old one is gone on return.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn change_root(&mut self, root: &RootKey) -> Result<(), ChangeError> {
        let before = std::mem::replace(&mut self.root, root.duplicate());
        let changed = self.change(|_| Ok(()));
        if changed.is_err() {
            self.root = before;
        }
        changed
    }

    /// Every family that has ever had a key.
    pub fn families(&self) -> impl Iterator<Item = &Family> {
        self.families.0.keys()
    }

    /// Every version of a family, the oldest first, destroyed ones too.
    #[must_use]
    pub fn versions(&self, family: &Family) -> Vec<KeyVersion> {
        let versions = self.families.0.get(family).into_iter().flatten();
        versions
            .map(|(version, held)| KeyVersion {
                version: *version,
                state: held.state,
                created_ms: held.created_ms,
            })
            .collect()
    }

    /// The key that seals for this family.
    ///
    /// # Errors
    /// [`NoKey`] when none is active, or the family does not seal.
    pub fn active_key(&self, family: &Family) -> Result<&Key<Active>, NoKey> {
        let Material::Sealing(key) = self.active(family)? else {
            return Err(NoKey);
        };
        Ok(key)
    }

    /// Opens data sealed under whatever version it names.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(
        &self,
        family: &Family,
        context: &Context,
        sealed: &Sealed,
    ) -> Result<Plaintext, OpenError> {
        self.opener(family, sealed)?
            .open_as(Kind::Data, context, sealed)
    }

    /// Opens a key wrapped under whatever version it names.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn unwrap_with(
        &self,
        family: &Family,
        context: &Context,
        sealed: &Sealed,
    ) -> Result<Key<Active>, OpenError> {
        wrapped_key(
            &self
                .opener(family, sealed)?
                .open_as(Kind::Key, context, sealed)?,
        )
    }

    /// Opens an audit key wrapped under whatever version it names.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn unwrap_audit_with(
        &self,
        family: &Family,
        context: &Context,
        sealed: &Sealed,
    ) -> Result<AuditKey, OpenError> {
        let opened = self
            .opener(family, sealed)?
            .open_as(Kind::Audit, context, sealed)?;
        opened.secret().map(AuditKey::from_secret)
    }

    /// Seals again under the owner's active key what any of its versions opens; kind and context stay.
    ///
    /// # Errors
    /// [`OpenError::UnknownKey`] also when the owner has no active key.
    pub fn rewrap(
        &self,
        owner: &str,
        context: &Context,
        sealed: &Sealed,
    ) -> Result<Sealed, OpenError> {
        let family = Family::Kek(owner.to_owned());
        let from = self.opener(&family, sealed)?;
        let to = self
            .active_key(&family)
            .map_err(|NoKey| OpenError::UnknownKey)?;
        to.rewrap(from, context, sealed)
    }

    /// The ES256 key that signs for this family.
    ///
    /// # Errors
    /// [`NoKey`] when none is active, or the family does not sign so.
    pub fn signer(&self, family: &Family) -> Result<&Signer, NoKey> {
        let Material::Signing(signer) = self.active(family)? else {
            return Err(NoKey);
        };
        Ok(signer)
    }

    /// The public halves whose signatures still count: active and retired, the oldest first.
    #[must_use]
    pub fn verifying_keys(&self, family: &Family) -> Vec<PublicJwk> {
        let all = self
            .families
            .0
            .get(family)
            .into_iter()
            .flat_map(|versions| versions.values());
        all.filter_map(|held| match &held.material {
            Material::Signing(signer) => Some(signer.public().clone()),
            Material::Verifying(public) => Some(public.clone()),
            _ => None,
        })
        .collect()
    }

    /// [`Keyring::verifying_keys`] as JWKs to publish.
    #[must_use]
    pub fn verifying(&self, family: &Family) -> Vec<String> {
        self.verifying_keys(family)
            .iter()
            .map(PublicJwk::to_jwk)
            .collect()
    }

    /// The Ed25519 key that signs checkpoints.
    ///
    /// # Errors
    /// [`NoKey`] when none is active.
    pub fn note_signer(&self) -> Result<&NoteSigner, NoKey> {
        let Material::Noting(signer) = self.active(&Family::LedgerSigning)? else {
            return Err(NoKey);
        };
        Ok(signer)
    }

    /// The family's active authentication key.
    ///
    /// # Errors
    /// [`NoKey`] when none is active, or the family does not authenticate.
    pub fn mac(&self, family: &Family) -> Result<&MacKey, NoKey> {
        let Material::Mac(key) = self.active(family)? else {
            return Err(NoKey);
        };
        Ok(key)
    }

    /// That key in every version that is left, the newest first, to check what older ones made.
    pub fn macs(&self, family: &Family) -> impl Iterator<Item = &MacKey> {
        let all = self
            .families
            .0
            .get(family)
            .into_iter()
            .flat_map(|all| all.values().rev());
        all.filter_map(|held| match &held.material {
            Material::Mac(key) => Some(key),
            _ => None,
        })
    }

    /// The key for ledger bodies that belong to no patient.
    ///
    /// # Errors
    /// [`NoKey`] when none is active.
    pub fn audit(&self) -> Result<&AuditKey, NoKey> {
        let Material::Audit(key) = self.active(&Family::Audit)? else {
            return Err(NoKey);
        };
        Ok(key)
    }

    /// That key in every version that is left, the newest first, to read older entries with.
    pub fn audits(&self) -> impl Iterator<Item = &AuditKey> {
        let all = self
            .families
            .0
            .get(&Family::Audit)
            .into_iter()
            .flat_map(|all| all.values().rev());
        all.filter_map(|held| match &held.material {
            Material::Audit(key) => Some(key),
            _ => None,
        })
    }

    fn active(&self, family: &Family) -> Result<&Material, NoKey> {
        self.families
            .active(family)
            .map(|held| &held.material)
            .ok_or(NoKey)
    }

    fn opener(&self, family: &Family, sealed: &Sealed) -> Result<&dyn Opens, OpenError> {
        match self
            .families
            .held(family, sealed.key_version())
            .map(|held| &held.material)
        {
            Some(Material::Sealing(key)) => Ok(key),
            Some(Material::Opening(key)) => Ok(key),
            _ => Err(OpenError::UnknownKey),
        }
    }

    fn state(&self, family: &Family, version: u32) -> Option<KeyState> {
        self.families.held(family, version).map(|held| held.state)
    }

    /// Changes a copy, writes it as the next epoch, takes it, then removes the epoch before.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Families) -> Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        if self.is_stopped {
            return Err(ChangeError::Stopped);
        }
        // Why a round through bytes: it is the only way to copy keys, and it proves that what is written can be read.
        let mut next = Families::decode(&self.families.encode()).ok_or(ChangeError::Stopped)?;
        let answer = change(&mut next)?;
        let epoch = self.epoch.checked_add(1).ok_or(ChangeError::NotAddable)?;
        // INVARIANT: stopped until both disk steps are done, so that no way out of here leaves it half changed.
        self.is_stopped = true;
        self.folder
            .write(&self.root, epoch, &next)
            .map_err(ChangeError::Io)?;
        (self.epoch, self.families) = (epoch, next);
        self.folder.remove_before(epoch).map_err(ChangeError::Io)?;
        self.is_stopped = false;
        Ok(answer)
    }
}

fn retire(held: &mut Held) {
    if held.state == KeyState::Active {
        held.state = KeyState::Retired;
        held.material = std::mem::replace(&mut held.material, Material::Destroyed).retired();
    }
}

#[cfg(test)]
mod tests;
