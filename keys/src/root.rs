//! The root key: what opens the keyring, and the file it stands in under a passphrase.
//!
//! Never here: parameters read from the file, a passphrase kept, or the root key in clear on a disk.
//! A wrong passphrase and an altered file are one answer.

use std::io;
use std::path::Path;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::key::{Active, Key};
use crate::private_file::{self, ReadError};
use crate::sealed::Sealed;
use crate::secret::{SECRET_BYTES, Secret, random_array};

const MAGIC: &[u8; 17] = b"sallyport-root/1\n";
const SALT_BYTES: usize = 16;
const SEALED_BYTES: usize = 6 + 12 + SECRET_BYTES + 16;
const FILE_BYTES: usize = MAGIC.len() + SALT_BYTES + SEALED_BYTES;
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// Shortest passphrase that is taken for a new file.
pub const PASSPHRASE_BYTES_MIN: usize = 12;

/// Opens the keyring; never leaves the process but sealed.
pub struct RootKey(Key<Active>);

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A root file stands there already; it is never overwritten.
    #[error("a root file exists already")]
    Exists,
    /// There is no root file.
    #[error("there is no root file")]
    Missing,
    /// Others may read the file, or it is not ours, or not a plain file: `chmod 600` and look who had it.
    #[error("the root file is not private to its owner")]
    NotPrivate,
    /// Not a root file of this format and exact length.
    #[error("not a root file")]
    NotRootFile,
    /// Wrong passphrase, or the file was altered.
    #[error("the root file does not open with this passphrase")]
    Passphrase,
    /// Shorter than [`PASSPHRASE_BYTES_MIN`].
    #[error("the passphrase is too short")]
    ShortPassphrase,
    /// Not enough memory for the key derivation.
    #[error("the passphrase could not be stretched")]
    Derivation,
    /// The disk.
    #[error("the root file could not be read or written")]
    Io(#[source] io::Error),
}

impl RootKey {
    /// Makes a fresh root key and its file, which must not exist; both are on disk on return.
    ///
    /// # Errors
    /// [`RootError`]; an existing file is never touched.
    pub fn create(path: &Path, passphrase: &[u8]) -> Result<RootKey, RootError> {
        let root = RootKey(Key::generate(1));
        let bytes = root.file_bytes(passphrase)?;
        match private_file::write_new(path, &bytes) {
            Ok(()) => Ok(root),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(RootError::Exists),
            Err(error) => Err(RootError::Io(error)),
        }
    }

    /// Opens the root file.
    ///
    /// # Errors
    /// [`RootError`]; an operator can act on each.
    pub fn open(path: &Path, passphrase: &[u8]) -> Result<RootKey, RootError> {
        let bytes = private_file::read(path, FILE_BYTES).map_err(|error| match error {
            ReadError::NotPrivate => RootError::NotPrivate,
            ReadError::TooLong => RootError::NotRootFile,
            ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => RootError::Missing,
            ReadError::Io(error) => RootError::Io(error),
        })?;
        if bytes.len() != FILE_BYTES {
            return Err(RootError::NotRootFile);
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(RootError::NotRootFile)?;
        let (salt, sealed) = rest.split_first_chunk().ok_or(RootError::NotRootFile)?;
        let sealed = Sealed::try_from(sealed).map_err(|_| RootError::NotRootFile)?;
        let opened = stretch(passphrase, salt)?
            .open(&context(salt), &sealed)
            .map_err(|_| RootError::Passphrase)?;
        let secret = Secret::from_slice(opened.as_bytes()).ok_or(RootError::NotRootFile)?;
        Ok(RootKey(Key::from_secret(1, secret)))
    }

    /// Puts the same root key under another passphrase; the old file is gone on return (its backups are not).
    ///
    /// # Errors
    /// [`RootError`]; afterwards the file is the old one or the new one, whole.
    pub fn change_passphrase(&self, path: &Path, passphrase: &[u8]) -> Result<(), RootError> {
        let bytes = self.file_bytes(passphrase)?;
        private_file::replace(path, &bytes).map_err(RootError::Io)
    }

    pub(crate) fn duplicate(&self) -> RootKey {
        RootKey(Key::from_secret(
            self.0.version(),
            self.0.secret().duplicate(),
        ))
    }

    #[cfg(test)]
    pub(crate) fn for_test(secret: Secret) -> RootKey {
        RootKey(Key::from_secret(1, secret))
    }

    pub(crate) fn key(&self) -> &Key<Active> {
        &self.0
    }

    fn file_bytes(&self, passphrase: &[u8]) -> Result<Vec<u8>, RootError> {
        if passphrase.len() < PASSPHRASE_BYTES_MIN {
            return Err(RootError::ShortPassphrase);
        }
        let salt: [u8; SALT_BYTES] = random_array();
        let sealed = stretch(passphrase, &salt)?.seal(&context(&salt), self.0.secret().expose());
        Ok([MAGIC.as_slice(), &salt, sealed.as_bytes()].concat())
    }
}

fn context(salt: &[u8; SALT_BYTES]) -> Context {
    Context::new("sallyport/root/v1").part(salt)
}

/// `Argon2id(passphrase, salt, m = 64 MiB, t = 3, p = 1)`, 32 bytes (RFC 9106 §4, the second recommended setting, one lane).
///
/// Safe because the cost is fixed by the format: a file cannot ask for a cheaper one.
fn stretch(passphrase: &[u8], salt: &[u8; SALT_BYTES]) -> Result<Key<Active>, RootError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(SECRET_BYTES))
        .map_err(|_| RootError::Derivation)?;
    let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let secret = Secret::filled(|out| {
        argon2
            .hash_password_into_with_memory(passphrase, salt, out, memory.as_mut_slice())
            .ok()
    });
    Ok(Key::from_secret(1, secret.ok_or(RootError::Derivation)?))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "tests may panic"
    )]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const WORDS: &[u8] = b"correct horse battery";

    #[test]
    fn opens_with_its_passphrase_only_and_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let made = RootKey::create(&path, WORDS).unwrap();
        let opened = RootKey::open(&path, WORDS).unwrap();
        assert_eq!(made.key().secret().expose(), opened.key().secret().expose());
        assert!(matches!(
            RootKey::open(&path, b"another passphrase"),
            Err(RootError::Passphrase)
        ));
        assert!(matches!(
            RootKey::create(&path, WORDS),
            Err(RootError::Exists)
        ));
        opened
            .change_passphrase(&path, b"other words, longer")
            .unwrap();
        assert!(matches!(
            RootKey::open(&path, WORDS),
            Err(RootError::Passphrase)
        ));
        let moved = RootKey::open(&path, b"other words, longer").unwrap();
        assert_eq!(made.key().secret().expose(), moved.key().secret().expose());
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn what_is_not_a_private_root_file_is_refused_with_its_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        assert!(matches!(
            RootKey::open(&path, WORDS),
            Err(RootError::Missing)
        ));
        assert!(matches!(
            RootKey::create(&path, b"short"),
            Err(RootError::ShortPassphrase)
        ));
        drop(RootKey::create(&path, WORDS).unwrap());
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), FILE_BYTES);
        let mut altered = whole.clone();
        altered[FILE_BYTES - 1] ^= 1;
        let longer = [whole.clone(), vec![0]].concat();
        for (bytes, is_passphrase) in [
            (&whole[..FILE_BYTES - 1], false),
            (&altered, true),
            (&longer, false),
            (&[], false),
        ] {
            std::fs::write(&path, bytes).unwrap();
            match RootKey::open(&path, WORDS) {
                Err(RootError::Passphrase) => assert!(is_passphrase),
                Err(RootError::NotRootFile) => assert!(!is_passphrase),
                other => panic!("{:?}", other.err()),
            }
        }
        std::fs::write(&path, &whole).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(
            RootKey::open(&path, WORDS),
            Err(RootError::NotPrivate)
        ));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(RootKey::open(&link, WORDS), Err(RootError::Io(_))));
    }
}
