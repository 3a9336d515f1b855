//! A keyring that is read all the time and changed seldom: no reader ever waits for a disk.
//!
//! A change is prepared and written beside the keyring in use, and taken between two reads. Changes wait for each other.
//! Never here: a lock held for writing across a sync. A failure to write leaves the keyring as it was.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use crate::family::{Families, Family};
use crate::keyring::{
    ChangeError, Draft, Keyring, activating, adding, announcing, destroying, retiring,
};
use crate::root::RootKey;

/// The keyring of a gateway at work. Its methods that change it block for the disk; call them where that may be.
pub struct SharedKeyring {
    ring: RwLock<Keyring>,
    turn: Mutex<()>,
}

impl SharedKeyring {
    /// Takes the keyring; nothing gives it back.
    #[must_use]
    pub fn new(ring: Keyring) -> SharedKeyring {
        SharedKeyring {
            ring: RwLock::new(ring),
            turn: Mutex::new(()),
        }
    }

    /// The keyring as it is now; keep it for one use only.
    pub fn read(&self) -> RwLockReadGuard<'_, Keyring> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a fresh key as the family's active one; the one before only opens from now on.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn add(&self, family: &Family, created_ms: u64) -> Result<u32, ChangeError> {
        let added = self.change(adding(std::slice::from_ref(family), created_ms))?;
        let version = added.and_then(|versions| versions.first().copied());
        version.ok_or(ChangeError::NotAddable)
    }

    /// Makes a signing family's next key, which is published and signs nothing until it is activated.
    ///
    /// # Errors
    /// [`ChangeError::Announced`] when there is one already.
    pub fn announce(&self, family: &Family, created_ms: u64) -> Result<u32, ChangeError> {
        self.change(announcing(family, created_ms))?
            .ok_or(ChangeError::NotAddable)
    }

    /// The announced key signs from now on; the secret half of the one before is gone on return.
    ///
    /// # Errors
    /// [`ChangeError::NotAnnounced`] when there is none.
    pub fn activate(&self, family: &Family) -> Result<u32, ChangeError> {
        self.change(activating(family))?
            .ok_or(ChangeError::NotAnnounced)
    }

    /// As [`Keyring::retire`].
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn retire(&self, family: &Family, version: u32) -> Result<(), ChangeError> {
        self.change(retiring(family, version)).map(drop)
    }

    /// As [`Keyring::destroy`].
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn destroy(&self, family: &Family, version: u32) -> Result<(), ChangeError> {
        self.change(destroying(family, version)).map(drop)
    }

    /// As [`Keyring::change_root`].
    ///
    /// # Errors
    /// [`ChangeError`].
    pub fn change_root(&self, root: &RootKey) -> Result<(), ChangeError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let draft = self
            .read()
            .draft_under(root.duplicate(), |_| Ok(Some(())))?;
        draft.map_or(Ok(()), |((), draft)| self.carry_out(draft))
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Families) -> Result<Option<T>, ChangeError>,
    ) -> Result<Option<T>, ChangeError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((answer, draft)) = self.read().draft(change)? else {
            return Ok(None);
        };
        self.carry_out(draft)?;
        Ok(Some(answer))
    }

    // INVARIANT: only `take` holds the lock for writing, and it touches no disk.
    fn carry_out(&self, draft: Draft) -> Result<(), ChangeError> {
        draft.write().map_err(ChangeError::Io)?;
        let taken = self
            .ring
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take(draft);
        Draft::settle(&taken.0, taken.1).map_err(ChangeError::Io)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;
    use crate::context::Context;
    use crate::family::KeyState;
    use crate::secret::Secret;

    fn ring(folder: &std::path::Path) -> SharedKeyring {
        let root = RootKey::for_test(Secret::random());
        let mut ring = Keyring::create(folder, &root).unwrap();
        ring.add_all(&[Family::Kek("a".to_owned()), Family::TokenSigning], 1)
            .unwrap();
        SharedKeyring::new(ring)
    }

    #[test]
    fn a_reader_in_the_middle_of_a_read_does_not_hold_the_disk_nor_the_disk_a_reader() {
        let folder = tempfile::tempdir().unwrap();
        let ring = ring(folder.path());
        let kek = Family::Kek("a".to_owned());
        let draft = {
            let reading = ring.read();
            let (_, draft) = reading
                .draft(adding(std::slice::from_ref(&kek), 2))
                .unwrap()
                .unwrap();
            // The whole of the disk's work is done while somebody reads.
            draft.write().unwrap();
            assert_eq!(reading.versions(&kek).len(), 1);
            draft
        };
        ring.carry_out(draft).unwrap();
        assert_eq!(ring.read().versions(&kek).len(), 2);
    }

    #[test]
    fn a_key_is_announced_then_signs_and_the_one_before_only_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let ring = ring(folder.path());
        let family = Family::TokenSigning;
        let old = ring.read().signer(&family).unwrap().kid().to_owned();
        assert!(matches!(
            ring.activate(&family),
            Err(ChangeError::NotAnnounced)
        ));
        assert_eq!(ring.announce(&family, 5).unwrap(), 2);
        assert!(matches!(
            ring.announce(&family, 5),
            Err(ChangeError::Announced)
        ));
        assert_eq!(ring.read().signer(&family).unwrap().kid(), old);
        assert_eq!(ring.read().verifying(&family).len(), 2);
        assert_eq!(ring.activate(&family).unwrap(), 2);
        assert_ne!(ring.read().signer(&family).unwrap().kid(), old);
        assert_eq!(ring.read().verifying(&family).len(), 2);
        let states: Vec<_> = ring
            .read()
            .versions(&family)
            .iter()
            .map(|version| version.state)
            .collect();
        assert_eq!(states, [KeyState::Retired, KeyState::Active]);
        assert!(matches!(
            ring.announce(&Family::Kek("a".to_owned()), 5),
            Err(ChangeError::NotAddable)
        ));
    }

    #[test]
    fn a_key_that_is_retiring_opens_seals_nothing_and_is_not_destroyed() {
        let folder = tempfile::tempdir().unwrap();
        let ring = ring(folder.path());
        let kek = Family::Kek("a".to_owned());
        let here = || Context::new("sallyport/test/v1");
        let sealed = ring.read().active_key(&kek).unwrap().seal(&here(), b"x");
        ring.add(&kek, 2).unwrap();
        assert!(ring.read().open_with(&kek, &here(), &sealed).is_ok());
        assert_eq!(ring.read().active_key(&kek).unwrap().version(), 2);
        assert!(matches!(
            ring.destroy(&kek, 1),
            Err(ChangeError::StillActive)
        ));
        ring.retire(&kek, 1).unwrap();
        assert!(ring.read().open_with(&kek, &here(), &sealed).is_ok());
        ring.destroy(&kek, 1).unwrap();
        assert!(ring.read().open_with(&kek, &here(), &sealed).is_err());
        let uses = ring.read().versions(&kek).last().map_or(0, |key| key.uses);
        assert!(uses > 0, "uses are counted across changes");
    }
}
