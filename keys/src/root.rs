//! The root key: what opens the keyring, and the file it stands in: under a passphrase, or under a random secret that is
//! split into shares, or under a key that never leaves a hardware token.
//!
//! Never here: parameters read from the file, a passphrase or PIN kept, or the root key in clear on a disk.
//! A wrong passphrase and an altered file are one answer. How a file is sealed is said in its first line, so that a
//! person is asked for the right thing; what that line says is authenticated with the rest.

use std::io;
use std::path::Path;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::hsm::{self, HsmError, HsmKey};
use crate::key::{Active, Key};
use crate::private_file::{self, ReadError};
use crate::sealed::{Plaintext, Sealed};
use crate::secret::{SECRET_BYTES, Secret, random_array};
use crate::share::{self, Share, ShareSet, ShareSetError};

const MAGIC: &[u8; 17] = b"sallyport-root/1\n";
const MAGIC_SHARES: &[u8; 24] = b"sallyport-root/shares/1\n";
const MAGIC_HSM: &[u8; 21] = b"sallyport-root/hsm/1\n";
const SALT_BYTES: usize = 16;
const SEALED_BYTES: usize = 6 + 12 + SECRET_BYTES + 16;
const FILE_BYTES_MAX: usize = 4096;
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 1;

/// Shortest passphrase that is taken for a new file.
pub const PASSPHRASE_BYTES_MIN: usize = 12;

/// Opens the keyring; never leaves the process but sealed.
pub struct RootKey(Key<Active>);

/// How a root file is sealed: what has to be given to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// A passphrase.
    Passphrase,
    /// So many shares of one set.
    Shares {
        /// Which set.
        set: ShareSet,
        /// How many of them are needed.
        threshold: u8,
        /// How many there are.
        count: u8,
    },
    /// The PIN of a hardware token, which holds the key that the root key is wrapped under.
    Hsm,
}

impl std::fmt::Display for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Means::Passphrase => f.write_str("a passphrase"),
            Means::Hsm => f.write_str("the PIN of a hardware token"),
            Means::Shares {
                set,
                threshold,
                count,
            } => {
                write!(f, "{threshold} of {count} shares of set {set}")
            }
        }
    }
}

/// What is given to open a root file.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// The passphrase.
    Passphrase(&'a [u8]),
    /// Shares, in any order.
    Shares(&'a [Share]),
    /// The token that holds the key, and its PIN.
    Hsm(&'a HsmKey, &'a [u8]),
}

impl<'a, T: AsRef<[u8]> + ?Sized> From<&'a T> for Unlock<'a> {
    fn from(passphrase: &'a T) -> Self {
        Unlock::Passphrase(passphrase.as_ref())
    }
}

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
    /// The file is sealed otherwise than it was tried.
    #[error("the root file is opened by {0}")]
    OtherMeans(Means),
    /// Shares that cannot be put together.
    #[error(transparent)]
    ShareSet(#[from] ShareSetError),
    /// Put together, the shares open nothing: one of them is not of this set, or the file was altered.
    #[error("the root file does not open with these shares")]
    Shares,
    /// The hardware token.
    #[error(transparent)]
    Hsm(#[from] HsmError),
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
        let root = RootKey::generate();
        let bytes = root.under_passphrase(passphrase)?;
        match private_file::write_new(path, &bytes) {
            Ok(()) => Ok(root),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(RootError::Exists),
            Err(error) => Err(RootError::Io(error)),
        }
    }

    /// How the root file is sealed; needs no secret, and believes the file until it is opened.
    ///
    /// # Errors
    /// [`RootError`].
    pub fn means(path: &Path) -> Result<Means, RootError> {
        Ok(RootFile::parse(&read(path)?)?.means())
    }

    /// Opens the root file.
    ///
    /// # Errors
    /// [`RootError`]; an operator can act on each.
    pub fn open<'a>(path: &Path, unlock: impl Into<Unlock<'a>>) -> Result<RootKey, RootError> {
        let bytes = read(path)?;
        let file = RootFile::parse(&bytes)?;
        let secret = match (&file, unlock.into()) {
            (RootFile::Passphrase { salt, sealed }, Unlock::Passphrase(passphrase)) => {
                let opened = stretch(passphrase, salt)?.open(&context(salt), sealed);
                secret_of(&opened.map_err(|_| RootError::Passphrase)?)?
            }
            (
                RootFile::Shares {
                    set,
                    threshold,
                    count,
                    sealed,
                },
                Unlock::Shares(shares),
            ) => {
                let unlocking = share::rebuild(shares, *set, *threshold)?;
                let opened = Key::<Active>::from_secret(1, unlocking)
                    .open(&shares_context(*set, *threshold, *count), sealed);
                secret_of(&opened.map_err(|_| RootError::Shares)?)?
            }
            (RootFile::Hsm { nonce, wrapped }, Unlock::Hsm(place, pin)) => {
                hsm::unwrap(place, pin, nonce, wrapped)?
            }
            (file, _) => return Err(RootError::OtherMeans(file.means())),
        };
        Ok(RootKey(Key::from_secret(1, secret)))
    }

    /// Puts the same root key under another passphrase; the old file is gone on return (its backups are not).
    ///
    /// # Errors
    /// [`RootError`]; afterwards the file is the old one or the new one, whole.
    pub fn change_passphrase(&self, path: &Path, passphrase: &[u8]) -> Result<(), RootError> {
        let bytes = self.under_passphrase(passphrase)?;
        private_file::replace(path, &bytes).map_err(RootError::Io)
    }

    /// Puts the same root key under a fresh secret of which `threshold` of `count` shares are needed, and gives the
    /// shares, which stand nowhere else. The old file is gone on return (its backups are not).
    ///
    /// # Errors
    /// [`RootError`]; afterwards the file is the old one or the new one, whole.
    pub fn share_out(
        &self,
        path: &Path,
        threshold: u8,
        count: u8,
    ) -> Result<Vec<Share>, RootError> {
        let (bytes, shares) = self.under_shares(threshold, count)?;
        private_file::replace(path, &bytes).map_err(RootError::Io)?;
        Ok(shares)
    }

    /// Puts the same root key under a key that a hardware token holds. It is opened by it once before the old file goes
    /// (its backups do not).
    ///
    /// # Errors
    /// [`RootError`]; afterwards the file is the old one or the new one, whole.
    pub fn move_to_hsm(&self, path: &Path, place: &HsmKey, pin: &[u8]) -> Result<(), RootError> {
        let (nonce, wrapped) = hsm::wrap(place, pin, self.0.secret())?;
        hsm::unwrap(place, pin, &nonce, &wrapped)?;
        let bytes = [MAGIC_HSM.as_slice(), &nonce, &wrapped].concat();
        private_file::replace(path, &bytes).map_err(RootError::Io)
    }

    fn generate() -> RootKey {
        RootKey(Key::generate(1))
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

    fn under_passphrase(&self, passphrase: &[u8]) -> Result<Vec<u8>, RootError> {
        if passphrase.len() < PASSPHRASE_BYTES_MIN {
            return Err(RootError::ShortPassphrase);
        }
        let salt: [u8; SALT_BYTES] = random_array();
        let sealed = stretch(passphrase, &salt)?.seal(&context(&salt), self.0.secret().expose());
        Ok([MAGIC.as_slice(), &salt, sealed.as_bytes()].concat())
    }

    fn under_shares(&self, threshold: u8, count: u8) -> Result<(Vec<u8>, Vec<Share>), RootError> {
        let (set, unlocking) = (ShareSet::random(), Secret::random());
        let shares = share::split(&unlocking, set, threshold, count)?;
        let context = || shares_context(set, threshold, count);
        let sealed =
            Key::<Active>::from_secret(1, unlocking).seal(&context(), self.0.secret().expose());
        // Why: a set that opens nothing must be found before the file under the old means is gone.
        let needed = shares
            .get(shares.len() - usize::from(threshold)..)
            .unwrap_or_default();
        let again = Key::<Active>::from_secret(1, share::rebuild(needed, set, threshold)?);
        again
            .open(&context(), &sealed)
            .map_err(|_| RootError::Shares)?;
        let how = [threshold, count];
        let bytes = [
            MAGIC_SHARES.as_slice(),
            set.as_bytes(),
            &how,
            sealed.as_bytes(),
        ]
        .concat();
        Ok((bytes, shares))
    }
}

/// A root file, parsed: nothing of it is believed until it opens.
enum RootFile {
    Passphrase {
        salt: [u8; SALT_BYTES],
        sealed: Sealed,
    },
    Shares {
        set: ShareSet,
        threshold: u8,
        count: u8,
        sealed: Sealed,
    },
    Hsm {
        nonce: [u8; hsm::NONCE_BYTES],
        wrapped: [u8; hsm::WRAPPED_BYTES],
    },
}

impl RootFile {
    fn parse(bytes: &[u8]) -> Result<RootFile, RootError> {
        let wrong = || RootError::NotRootFile;
        let sealed = |bytes: &[u8]| {
            let whole = bytes.len() == SEALED_BYTES;
            let sealed = whole.then(|| Sealed::try_from(bytes).ok()).flatten();
            sealed.ok_or_else(wrong)
        };
        if let Some(rest) = bytes.strip_prefix(MAGIC) {
            let (salt, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
            return Ok(RootFile::Passphrase {
                salt: *salt,
                sealed: sealed(rest)?,
            });
        }
        if let Some(rest) = bytes.strip_prefix(MAGIC_HSM) {
            let (nonce, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
            return Ok(RootFile::Hsm {
                nonce: *nonce,
                wrapped: rest.try_into().map_err(|_| wrong())?,
            });
        }
        let rest = bytes.strip_prefix(MAGIC_SHARES).ok_or_else(wrong)?;
        let (set, rest) = rest.split_first_chunk().ok_or_else(wrong)?;
        let ([threshold, count], rest) = rest.split_first_chunk().ok_or_else(wrong)?;
        Ok(RootFile::Shares {
            set: ShareSet::from_bytes(*set),
            threshold: *threshold,
            count: *count,
            sealed: sealed(rest)?,
        })
    }

    fn means(&self) -> Means {
        match self {
            RootFile::Passphrase { .. } => Means::Passphrase,
            RootFile::Hsm { .. } => Means::Hsm,
            RootFile::Shares {
                set,
                threshold,
                count,
                ..
            } => Means::Shares {
                set: *set,
                threshold: *threshold,
                count: *count,
            },
        }
    }
}

fn secret_of(opened: &Plaintext) -> Result<Secret, RootError> {
    Secret::from_slice(opened.as_bytes()).ok_or(RootError::NotRootFile)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, RootError> {
    private_file::read(path, FILE_BYTES_MAX).map_err(|error| match error {
        ReadError::NotPrivate => RootError::NotPrivate,
        ReadError::TooLong => RootError::NotRootFile,
        ReadError::Io(error) if error.kind() == io::ErrorKind::NotFound => RootError::Missing,
        ReadError::Io(error) => RootError::Io(error),
    })
}

fn shares_context(set: ShareSet, threshold: u8, count: u8) -> Context {
    Context::new("sallyport/root-shares/v1")
        .part(set.as_bytes())
        .part(&[threshold, count])
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

    const FILE_BYTES: usize = MAGIC.len() + SALT_BYTES + SEALED_BYTES;
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

    #[test]
    fn shares_open_what_the_passphrase_no_longer_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.key");
        let made = RootKey::create(&path, WORDS).unwrap();
        assert_eq!(RootKey::means(&path).unwrap(), Means::Passphrase);
        let shares = made.share_out(&path, 2, 3).unwrap();
        let means = RootKey::means(&path).unwrap();
        let set = shares[0].set();
        assert_eq!(
            means,
            Means::Shares {
                set,
                threshold: 2,
                count: 3
            }
        );
        assert!(matches!(
            RootKey::open(&path, WORDS),
            Err(RootError::OtherMeans(other)) if other == means
        ));
        let opened = RootKey::open(&path, Unlock::Shares(&shares[1..])).unwrap();
        assert_eq!(made.key().secret().expose(), opened.key().secret().expose());
        assert!(matches!(
            RootKey::open(&path, Unlock::Shares(&shares[..1])),
            Err(RootError::ShareSet(ShareSetError::TooFew {
                have: 1,
                need: 2
            }))
        ));
        // A set that was made anew makes the older shares worthless; a lowered threshold is no way round.
        let newer = opened.share_out(&path, 2, 3).unwrap();
        assert!(matches!(
            RootKey::open(&path, Unlock::Shares(&shares)),
            Err(RootError::ShareSet(ShareSetError::OtherSet { .. }))
        ));
        let whole = std::fs::read(&path).unwrap();
        for at in [MAGIC_SHARES.len() + 6, whole.len() - 1] {
            let mut altered = whole.clone();
            altered[at] ^= 1;
            std::fs::write(&path, &altered).unwrap();
            let refused = RootKey::open(&path, Unlock::Shares(&newer));
            assert!(matches!(refused, Err(RootError::Shares)), "{at}");
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(matches!(RootKey::means(&path), Err(RootError::NotRootFile)));
    }
}
