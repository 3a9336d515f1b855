//! Epoch files: the whole keyring, sealed under the root key, one numbered file at a time.
//!
//! `sallyport-keyring/1\n ‖ epoch u64 BE ‖ Sealed`. A change writes the next epoch whole and then removes the one
//! before: that removal is what destroys a key on this disk. Backups destroy it when they expire.
//! Never here: an older epoch taken because the newest does not open; that would bring destroyed keys back.
//! A failure leaves the old epoch or the new one, never half of one.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::context::Context;
use crate::family::Families;
use crate::private_file::{self, ReadError};
use crate::root::RootKey;
use crate::sealed::Sealed;

const MAGIC: &[u8; 20] = b"sallyport-keyring/1\n";
const FILE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Why a keyring was not created or opened.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A keyring stands there already; it is never overwritten.
    #[error("a keyring exists already")]
    Exists,
    /// There is no keyring; `open` never makes one.
    #[error("there is no keyring")]
    Missing,
    /// Another process holds it.
    #[error("the keyring is in use")]
    InUse,
    /// Others may read the file, or it is not ours.
    #[error("the keyring file is not private to its owner")]
    NotPrivate,
    /// Another root key sealed it, or it was altered or renamed.
    #[error("the keyring does not open under this root key")]
    Sealed,
    /// Not a keyring of this format.
    #[error("not a keyring file")]
    NotKeyring,
    /// The disk.
    #[error("the keyring could not be read or written")]
    Io(#[source] io::Error),
}

/// The folder, held against a second process for as long as this lives.
pub(crate) struct Folder {
    path: PathBuf,
    is_stopped: AtomicBool,
    _lock: File,
}

impl Folder {
    /// Takes the folder, making it owner-only where `is_new`.
    pub(crate) fn lock(path: &Path, is_new: bool) -> Result<Folder, LoadError> {
        if is_new {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(LoadError::Io)?;
        } else if !path.is_dir() {
            return Err(LoadError::Missing);
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("keyring.lock"))
            .map_err(LoadError::Io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder {
                path: path.to_owned(),
                is_stopped: AtomicBool::new(false),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(LoadError::InUse),
            Err(TryLockError::Error(error)) => Err(LoadError::Io(error)),
        }
    }

    /// Whether it is unknown what the disk holds, because a write has not ended well or has not ended yet.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self, stop: bool) {
        self.is_stopped.store(stop, Ordering::Release);
    }

    /// The newest epoch's number, if there is one.
    pub(crate) fn newest(&self) -> io::Result<Option<u64>> {
        Ok(self.epochs()?.into_iter().max())
    }

    pub(crate) fn read(&self, root: &RootKey, epoch: u64) -> Result<Families, LoadError> {
        let bytes =
            private_file::read(&self.file(epoch), FILE_BYTES_MAX).map_err(|error| match error {
                ReadError::NotPrivate => LoadError::NotPrivate,
                ReadError::TooLong => LoadError::NotKeyring,
                ReadError::Io(error) => LoadError::Io(error),
            })?;
        let rest = bytes.strip_prefix(MAGIC).ok_or(LoadError::NotKeyring)?;
        let (number, sealed) = rest.split_first_chunk().ok_or(LoadError::NotKeyring)?;
        let sealed = Sealed::try_from(sealed).map_err(|_| LoadError::NotKeyring)?;
        if u64::from_be_bytes(*number) != epoch {
            return Err(LoadError::Sealed);
        }
        let opened = root
            .key()
            .open(&context(epoch), &sealed)
            .map_err(|_| LoadError::Sealed)?;
        Families::decode(opened.as_bytes()).ok_or(LoadError::NotKeyring)
    }

    /// Returns when the epoch is on disk whole.
    pub(crate) fn write(&self, root: &RootKey, epoch: u64, families: &Families) -> io::Result<()> {
        let sealed = root.key().seal(&context(epoch), &families.encode());
        let bytes = [MAGIC.as_slice(), &epoch.to_be_bytes(), sealed.as_bytes()].concat();
        let beside = self.path.join("keyring.tmp");
        private_file::remove_if_there(&beside)?;
        private_file::write_new(&beside, &bytes)?;
        std::fs::rename(&beside, self.file(epoch))?;
        private_file::sync_folder(&self.path)
    }

    /// Removes every epoch before `epoch` and what a crash left; gone from this disk on return.
    pub(crate) fn remove_before(&self, epoch: u64) -> io::Result<()> {
        private_file::remove_if_there(&self.path.join("keyring.tmp"))?;
        for older in self.epochs()?.into_iter().filter(|older| *older < epoch) {
            private_file::remove_if_there(&self.file(older))?;
        }
        private_file::sync_folder(&self.path)
    }

    fn file(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("keyring.{epoch}"))
    }

    fn epochs(&self) -> io::Result<Vec<u64>> {
        let mut epochs = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("keyring."));
            let number = number.and_then(|number| number.parse::<u64>().ok());
            // Why compared: "+7" and "07" parse too, and only our own spelling is an epoch.
            epochs.extend(number.filter(|number| name == *format!("keyring.{number}")));
        }
        Ok(epochs)
    }
}

fn context(epoch: u64) -> Context {
    Context::new("sallyport/keyring/v1").part(&epoch.to_be_bytes())
}
