//! Files only their owner can read: the root file and the keyring's epochs.
//!
//! Never here: a symbolic link followed, a file others may read, or a rename before its content is on disk.
//! A failure is the disk's or the operator's, and nothing was half replaced.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use zeroize::Zeroizing;

/// Why a private file was not read.
pub(crate) enum ReadError {
    NotPrivate,
    TooLong,
    Io(io::Error),
}

/// Creates a file that did not exist, owner-only, and returns when content and folder entry are on disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    sync_parent(path)
}

/// Writes beside `path` and renames over it: afterwards it is the old file or the new one, whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    remove_if_there(&beside)?;
    write_new(&beside, bytes)?;
    std::fs::rename(&beside, path)?;
    sync_parent(path)
}

/// Reads a regular file that belongs to us and that nobody else may read.
pub(crate) fn read(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(no_follow)
        .open(path);
    let file = file.map_err(ReadError::Io)?;
    let about = file.metadata().map_err(ReadError::Io)?;
    let is_ours = about.uid() == rustix::process::geteuid().as_raw();
    if !about.is_file() || !is_ours || about.mode() & 0o077 != 0 {
        return Err(ReadError::NotPrivate);
    }
    let length = usize::try_from(about.len()).unwrap_or(usize::MAX);
    if length > bytes_max {
        return Err(ReadError::TooLong);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    // Why one more: a file that grew since is too long, not cut.
    file.take(length as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(ReadError::Io)?;
    if bytes.len() > length {
        Err(ReadError::TooLong)
    } else {
        Ok(bytes)
    }
}

/// Removes a file; that it was not there is no error.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns when the folder's entries are on disk.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent != Path::new("") => sync_folder(parent),
        Some(_) | None => sync_folder(Path::new(".")),
    }
}
