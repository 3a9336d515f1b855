//! What a person at the terminal is told when there is no gateway: the rule that does not hold, the file or folder
//! it is about, and what to do. Never here: a repair, or anything that would help whoever made the damage.

use std::io;
use std::path::{Path, PathBuf};

use super::AssemblyError;
use crate::config::Config;
use crate::disk::{Disk as _, RealDisk};
use crate::ledger::OpenError as LedgerError;
use crate::store::OpenError as StoreError;

/// With less than this nothing can be opened.
const BYTES_TO_OPEN: u64 = 16 << 20;

const RUNS_ALREADY: &str =
    "another process serves or rebuilds this gateway: stop it first, or take another folder";
const RESTORE: &str = "keep what is there, put the newest copy back whole, and start again";

impl AssemblyError {
    /// The error, what it is about, and what to do about it.
    #[must_use]
    pub fn told(&self, config: &Config) -> String {
        let Some((path, advice)) = self.advice(config) else {
            return self.to_string();
        };
        let advice = disk_is_full(&path).unwrap_or(advice);
        format!("{self}\n  where: {}\n  do: {advice}", path.display())
    }

    fn advice(&self, config: &Config) -> Option<(PathBuf, String)> {
        let (path, advice) = match self {
            Self::Root(error) => (config.root.file.clone(), of_root(error)),
            Self::Keyring(error) => (config.keyring(), of_keyring(error)),
            Self::Ledger(error) => of_ledger(error, config),
            Self::Store(error) => (config.store(), of_store(error)),
            Self::StoreBehind { .. } => (config.store(), RESTORE.to_owned()),
            Self::Record(_) => {
                let why =
                    "the start could not be recorded, so nothing is served: free some space there";
                (config.journal(), why.to_owned())
            }
            _ => return None,
        };
        Some((path, advice))
    }
}

/// Whatever else was found: what a full disk breaks is repaired by space.
fn disk_is_full(path: &Path) -> Option<String> {
    let there = path.ancestors().find(|path| path.exists())?;
    let free = RealDisk.free_bytes(there).ok()?;
    let full =
        "the disk is full: free some space (1 GiB for deposits to be taken again) and start again";
    (free < BYTES_TO_OPEN).then(|| full.to_owned())
}

fn of_root(error: &keys::RootError) -> String {
    match error {
        keys::RootError::Missing => "put the root key's file back from its copy: without it nothing opens",
        keys::RootError::NotPrivate => "make it the gateway's own: chown to its user, chmod 600",
        keys::RootError::Io(error) => return of_disk(error),
        keys::RootError::Hsm(_) => "look at the token, its label and its key (`pkcs11-tool --list-objects`); give its user's PIN",
        keys::RootError::Shares => {
            "give shares of this one set, each as its holder has it; was the file replaced, put its copy back"
        }
        keys::RootError::OtherMeans(_) => "give that, not something else",
        _ => "give the passphrase that was chosen at `init`; was the file replaced, put its copy back",
    }
    .to_owned()
}

fn of_keyring(error: &keys::LoadError) -> String {
    match error {
        keys::LoadError::InUse => RUNS_ALREADY,
        keys::LoadError::Missing => {
            "is its disk mounted? Put the folder back from the newest copy; `init` would make another gateway"
        }
        keys::LoadError::NotPrivate => "make its files the gateway's own: chown to its user, chmod 600",
        keys::LoadError::Io(error) => return of_disk(error),
        _ => RESTORE,
    }
    .to_owned()
}

fn of_ledger(error: &LedgerError, config: &Config) -> (PathBuf, String) {
    let advice = match error {
        LedgerError::Locked => RUNS_ALREADY.to_owned(),
        LedgerError::Missing => "is its disk mounted? Put the folder back from the newest copy, which must be as long as \
                           the published log; `init` would make another gateway"
            .to_owned(),
        LedgerError::NoCheckpoint | LedgerError::Checkpoint("published", _) => {
            let advice = "put `checkpoint` back from the newest copy of this folder; auditors keep one too".to_owned();
            return (config.log.clone(), advice);
        }
        LedgerError::Disk(error) => {
            // Why asked: opening touches both folders, and only one of them may be at fault.
            let is_log = RealDisk.list(&config.log).is_err() || !writable(&config.log);
            let path = if is_log { config.log.clone() } else { config.journal() };
            return (path, of_disk(error));
        }
        LedgerError::RolledBack { .. } | LedgerError::Forked { .. } | LedgerError::Damaged { .. } => {
            "entries that were signed are missing or changed, so nothing is served. Keep what is there and tell the \
             auditor; put back the newest copy of the journal, at least as long as the published log"
                .to_owned()
        }
        LedgerError::Checkpoint(..) => RESTORE.to_owned(),
        LedgerError::Origin => "`origin` in the config names the log, for good: set it to what `init` was given".to_owned(),
        LedgerError::Bug(_) => "this is a mistake of ours: keep the folder and report it".to_owned(),
    };
    (config.journal(), advice)
}

fn of_store(error: &StoreError) -> String {
    match error {
        StoreError::Locked => RUNS_ALREADY,
        StoreError::Missing => "is its disk mounted? Put the folder back from the newest copy",
        StoreError::Corrupt { .. } => {
            "put that file (in segments/, by its number) back from the newest copy; nothing else was touched"
        }
        StoreError::Shortened => {
            "put the newest copy back; or, if none is newer, `sallyport store rebuild` accepts what is left, and the \
             ledger says what is missing"
        }
        StoreError::Index => "look at the disk and at who owns the folder, then `sallyport store rebuild`",
        StoreError::Disk(error) => return of_disk(error),
    }
    .to_owned()
}

fn of_disk(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "the gateway's user may not write there: give it back (chown -R, chmod -R u+rwX) and start again"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is mounted read-only: look why (dmesg), mount it to write, and start again"
        }
        _ => "look at the disk (dmesg), then start again; nothing there was changed",
    }
    .to_owned()
}

fn writable(dir: &Path) -> bool {
    rustix::fs::access(dir, rustix::fs::Access::WRITE_OK).is_ok()
}
