//! How a keyring changes: on a copy, written whole as the next epoch, taken, and only then is the epoch before removed.
//!
//! Never here: a change in memory that is not on disk first, or a version number used twice. After a failed write the
//! keyring still opens and signs, but refuses every change until it is opened again, because only then is it known
//! what the disk holds. A family's key is announced (published, makes nothing), active, retiring (only opens, and
//! something still depends on it), retired (nothing does) and destroyed, in this order.

use std::io;
use std::sync::Arc;

use super::{ChangeError, Keyring};
use crate::epoch::Folder;
use crate::family::{Families, Family, Held, KeyState, Material};
use crate::root::RootKey;

/// Longest owner name of a key-encryption key.
const OWNER_BYTES_MAX: usize = 256;

/// The keyring as it will be: to be written, then taken, then settled, in this order.
pub(crate) struct Draft {
    folder: Arc<Folder>,
    root: RootKey,
    epoch: u64,
    families: Families,
}

impl Draft {
    /// Returns when the next epoch is on disk whole. Until it is settled the keyring takes no other change.
    pub(crate) fn write(&self) -> io::Result<()> {
        // INVARIANT: stopped until `settle` is done, so that no way out of here leaves it half changed.
        self.folder.stop(true);
        self.folder.write(&self.root, self.epoch, &self.families)
    }

    /// Removes the epoch before; to be called once the keyring has taken the draft.
    pub(crate) fn settle(folder: &Folder, epoch: u64) -> io::Result<()> {
        folder.remove_before(epoch)?;
        folder.stop(false);
        Ok(())
    }
}

/// What a change answers, or that all was so already.
type Changed<T> = Result<Option<T>, ChangeError>;

impl Keyring {
    /// Adds a fresh key as the family's active one; the one before is retiring. On disk on return.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add(&mut self, family: Family, created_ms: u64) -> Result<u32, ChangeError> {
        let versions = self.add_all(&[family], created_ms)?;
        versions.first().copied().ok_or(ChangeError::NotAddable)
    }

    /// Adds one key to each family with a single write; all of them or none.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add_all(
        &mut self,
        families: &[Family],
        created_ms: u64,
    ) -> Result<Vec<u32>, ChangeError> {
        self.change(adding(families, created_ms))
            .map(Option::unwrap_or_default)
    }

    /// Takes the right to seal or sign, and says that nothing depends on the key; a signing key keeps its public half
    /// only. Asking twice is asking once.
    ///
    /// # Errors
    /// [`ChangeError::NoKey`] for a version that was never there or is destroyed.
    pub fn retire(&mut self, family: &Family, version: u32) -> Result<(), ChangeError> {
        self.change(retiring(family, version)).map(drop)
    }

    /// Destroys a retired key: gone from memory and from this disk on return. Asking twice is asking once.
    ///
    /// The caller has seen to it that nothing is left under this version, and knows when the backups expire.
    ///
    /// # Errors
    /// [`ChangeError::StillActive`] for a key that was not retired first.
    pub fn destroy(&mut self, family: &Family, version: u32) -> Result<(), ChangeError> {
        self.change(destroying(family, version)).map(drop)
    }

    /// Seals the whole keyring under another root key; the file under the old one is gone on return.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn change_root(&mut self, root: &RootKey) -> Result<(), ChangeError> {
        let draft = self.draft_under(root.duplicate(), |_| Ok(Some(())))?;
        draft.map_or(Ok(()), |((), draft)| self.carry_out(draft))
    }

    /// What the keyring would be after this change; `None` if it is so already.
    pub(crate) fn draft<T>(
        &self,
        change: impl FnOnce(&mut Families) -> Changed<T>,
    ) -> Changed<(T, Draft)> {
        self.draft_under(self.root.duplicate(), change)
    }

    /// The same, to be sealed under another root key.
    pub(crate) fn draft_under<T>(
        &self,
        root: RootKey,
        change: impl FnOnce(&mut Families) -> Changed<T>,
    ) -> Changed<(T, Draft)> {
        if self.folder.is_stopped() {
            return Err(ChangeError::Stopped);
        }
        // Why a round through bytes: it is the only way to copy keys, and it proves that what is written can be read.
        let mut families = Families::decode(&self.families.encode()).ok_or(ChangeError::Stopped)?;
        let Some(answer) = change(&mut families)? else {
            return Ok(None);
        };
        let draft = Draft {
            folder: Arc::clone(&self.folder),
            root,
            epoch: self.epoch.checked_add(1).ok_or(ChangeError::NotAddable)?,
            families,
        };
        Ok(Some((answer, draft)))
    }

    /// Takes a draft that was written. Nothing here waits for a disk.
    pub(crate) fn take(&mut self, draft: Draft) -> (Arc<Folder>, u64) {
        draft.families.count_on_from(&self.families);
        (self.root, self.epoch, self.families) = (draft.root, draft.epoch, draft.families);
        (draft.folder, draft.epoch)
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Families) -> Changed<T>) -> Changed<T> {
        let Some((answer, draft)) = self.draft(change)? else {
            return Ok(None);
        };
        self.carry_out(draft)?;
        Ok(Some(answer))
    }

    fn carry_out(&mut self, draft: Draft) -> Result<(), ChangeError> {
        draft.write().map_err(ChangeError::Io)?;
        let (folder, epoch) = self.take(draft);
        Draft::settle(&folder, epoch).map_err(ChangeError::Io)
    }
}

/// One fresh active key for each family.
pub(crate) fn adding(
    families: &[Family],
    created_ms: u64,
) -> impl FnOnce(&mut Families) -> Changed<Vec<u32>> {
    move |all| {
        let add = |family| add(all, family, KeyState::Active, created_ms);
        families.iter().map(add).collect::<Result<_, _>>().map(Some)
    }
}

/// The family's next key: published, but it makes nothing until it is activated.
pub(crate) fn announcing(
    family: &Family,
    created_ms: u64,
) -> impl FnOnce(&mut Families) -> Changed<u32> {
    move |all| {
        if !family.signs() {
            return Err(ChangeError::NotAddable);
        }
        if all.in_state(family, KeyState::Announced).is_some() {
            return Err(ChangeError::Announced);
        }
        add(all, family, KeyState::Announced, created_ms).map(Some)
    }
}

/// The announced key signs from now on; of the one before only the public half is left.
pub(crate) fn activating(family: &Family) -> impl FnOnce(&mut Families) -> Changed<u32> {
    move |all| {
        let versions = all.0.get_mut(family).ok_or(ChangeError::NoKey)?;
        let announced = |(_, held): &(&u32, &Held)| held.state == KeyState::Announced;
        let Some(version) = versions.iter().find(announced).map(|(version, _)| *version) else {
            return Err(ChangeError::NotAnnounced);
        };
        versions
            .values_mut()
            .for_each(|held| step_down(family, held));
        if let Some(held) = versions.get_mut(&version) {
            held.state = KeyState::Active;
        }
        Ok(Some(version))
    }
}

pub(crate) fn retiring(family: &Family, version: u32) -> impl FnOnce(&mut Families) -> Changed<()> {
    move |all| {
        let held = held(all, family, version)?;
        match held.state {
            KeyState::Destroyed => Err(ChangeError::NoKey),
            KeyState::Announced => Err(ChangeError::StillActive),
            KeyState::Retired => Ok(None),
            KeyState::Active | KeyState::Retiring => {
                step_down(family, held);
                held.state = KeyState::Retired;
                Ok(Some(()))
            }
        }
    }
}

pub(crate) fn destroying(
    family: &Family,
    version: u32,
) -> impl FnOnce(&mut Families) -> Changed<()> {
    move |all| {
        let held = held(all, family, version)?;
        match held.state {
            KeyState::Active | KeyState::Retiring => Err(ChangeError::StillActive),
            KeyState::Destroyed => Ok(None),
            KeyState::Retired | KeyState::Announced => {
                held.state = KeyState::Destroyed;
                held.material = Material::Destroyed;
                Ok(Some(()))
            }
        }
    }
}

fn held<'a>(
    all: &'a mut Families,
    family: &Family,
    version: u32,
) -> Result<&'a mut Held, ChangeError> {
    let versions = all.0.get_mut(family).ok_or(ChangeError::NoKey)?;
    versions.get_mut(&version).ok_or(ChangeError::NoKey)
}

fn add(
    families: &mut Families,
    family: &Family,
    state: KeyState,
    created_ms: u64,
) -> Result<u32, ChangeError> {
    if matches!(family, Family::Kek(owner) if owner.is_empty() || owner.len() > OWNER_BYTES_MAX) {
        return Err(ChangeError::NotAddable);
    }
    let versions = families.0.entry(family.clone()).or_default();
    let last = versions.last_key_value().map_or(0, |(version, _)| *version);
    let version = last.checked_add(1).ok_or(ChangeError::NotAddable)?;
    if state == KeyState::Active {
        versions
            .values_mut()
            .for_each(|held| step_down(family, held));
    }
    let material = Material::fresh(family, version);
    versions.insert(version, Held::new(state, created_ms, material));
    Ok(version)
}

/// What was active makes nothing any more. Of a signing key nothing depends on the secret half, so it goes at once.
fn step_down(family: &Family, held: &mut Held) {
    if held.state == KeyState::Active {
        held.state = if family.signs() {
            KeyState::Retired
        } else {
            KeyState::Retiring
        };
        held.material = std::mem::replace(&mut held.material, Material::Destroyed).retired();
    }
}
