//! The keyring: every long-lived key of the gateway, by family and version.
//!
//! Never here: a clock, a way to copy it, or a change in memory that is not on disk first. Owned by one room only.
//! How it changes stands in `keyring/change.rs`; `shared` lends it to many readers at once.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::audit::AuditKey;
use crate::context::Context;
use crate::epoch::{Folder, LoadError};
use crate::family::{Families, Family, KeyState, KeyVersion, Material};
use crate::jwk::PublicJwk;
use crate::key::{Active, Key, Opens, wrapped_key};
use crate::mac::MacKey;
use crate::root::RootKey;
use crate::sealed::{Kind, OpenError, Plaintext, Sealed};
use crate::sign::{NoteSigner, Signer};

mod change;
pub(crate) use change::{Draft, activating, adding, announcing, destroying, retiring};

/// Every long-lived key of the gateway.
pub struct Keyring {
    folder: Arc<Folder>,
    root: RootKey,
    epoch: u64,
    families: Families,
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
    /// The key still seals or signs, or something still depends on it: retire it first.
    #[error("the key is not retired")]
    StillActive,
    /// The family's next key is announced already: activate it.
    #[error("the next key is announced already")]
    Announced,
    /// The family has no announced key to activate.
    #[error("no key is announced")]
    NotAnnounced,
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
            folder: Arc::new(folder),
            root,
            epoch,
            families,
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
            folder: Arc::new(folder),
            root,
            epoch,
            families,
        })
    }

    /// How often the keyring has changed. Kept elsewhere too, it shows a keyring that was rolled back.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
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
                uses: held.uses(),
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

    /// The ES256 key that signs for this family; who shares it drops it when it is retired.
    ///
    /// # Errors
    /// [`NoKey`] when none is active, or the family does not sign so.
    pub fn signer(&self, family: &Family) -> Result<&Arc<Signer>, NoKey> {
        let Material::Signing(signer) = self.active(family)? else {
            return Err(NoKey);
        };
        Ok(signer)
    }

    /// The public halves whose signatures count: retired, active and announced, the oldest first.
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

    /// The Ed25519 key that signs checkpoints; who shares it drops it when it is retired.
    ///
    /// # Errors
    /// [`NoKey`] when none is active.
    pub fn note_signer(&self) -> Result<&Arc<NoteSigner>, NoKey> {
        let Material::Noting(signer) = self.active(&Family::LedgerSigning)? else {
            return Err(NoKey);
        };
        Ok(signer)
    }

    /// The Ed25519 key that signs checkpoints next, while it is announced: it signs beside the active one.
    #[must_use]
    pub fn next_note_signer(&self) -> Option<&Arc<NoteSigner>> {
        let held = self
            .families
            .in_state(&Family::LedgerSigning, KeyState::Announced)?;
        match &held.material {
            Material::Noting(signer) => Some(signer),
            _ => None,
        }
    }

    /// The public halves of every key that signs, signed or will sign checkpoints.
    pub fn note_publics(&self) -> impl Iterator<Item = [u8; 32]> {
        let all = self.families.0.get(&Family::LedgerSigning);
        let all = all.into_iter().flat_map(|versions| versions.values());
        all.filter_map(|held| match &held.material {
            Material::Noting(signer) => Some(signer.public()),
            Material::NotePublic(public) => Some(*public),
            _ => None,
        })
    }

    /// The family's active authentication key; who shares it drops it when it is retired.
    ///
    /// # Errors
    /// [`NoKey`] when none is active, or the family does not authenticate.
    pub fn mac(&self, family: &Family) -> Result<&Arc<MacKey>, NoKey> {
        let Material::Mac(key) = self.active(family)? else {
            return Err(NoKey);
        };
        Ok(key)
    }

    /// That key in every version that is left, the newest first, to check what older ones made.
    pub fn macs(&self, family: &Family) -> impl Iterator<Item = &Arc<MacKey>> {
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
        let held = self.families.active(family).ok_or(NoKey)?;
        held.used();
        Ok(&held.material)
    }

    fn opener(&self, family: &Family, sealed: &Sealed) -> Result<&dyn Opens, OpenError> {
        let held = self.families.held(family, sealed.key_version());
        held.inspect(|held| held.used());
        match held.map(|held| &held.material) {
            Some(Material::Sealing(key)) => Ok(key),
            Some(Material::Opening(key)) => Ok(key),
            _ => Err(OpenError::UnknownKey),
        }
    }
}

#[cfg(test)]
mod tests;
