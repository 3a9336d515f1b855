//! Copies of what a gateway keeps: a folder of files with a manifest that names each by length and SHA-256, written last.
//! A folder without its manifest is no backup. Nothing is decided here and nothing is opened: what is sealed stays sealed.
//! A copy is read back before it counts; putting one back checks every file against the manifest first.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Where it stands, from the backup's folder on.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// What a backup holds, and of when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// The log's origin.
    pub origin: String,
    /// When, milliseconds since 1970.
    pub taken_ms: u64,
    /// The signed checkpoint over every entry in it.
    pub checkpoint: String,
    /// Entries in it.
    pub size: u64,
    /// The store's last commit in it.
    pub store_seq: u64,
    /// The keyring's epoch in it.
    pub keyring_epoch: u64,
    /// Its files.
    pub files: Vec<Part>,
}

/// Why there is no backup, or none that can be put back.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not a whole backup.
    #[error("{0}: is not a whole backup: {1}")]
    Broken(PathBuf, &'static str),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    |error| BackupError::File { path, error }
}

/// A file to be copied: from where, to where in the backup, and how much of it; all if that is not said.
pub struct Wanted {
    /// The file.
    pub from: PathBuf,
    /// Its place in the backup.
    pub to: String,
    /// Only so many bytes: the rest is not part of this moment.
    pub bytes: Option<u64>,
}

/// Copies these files into a new folder and reads them back; the manifest makes it a backup.
///
/// # Errors
/// Which file; the folder is then no backup.
pub fn take(
    folder: &Path,
    mut manifest: Manifest,
    wanted: &[Wanted],
) -> Result<Manifest, BackupError> {
    make_folder(folder)?;
    for file in wanted {
        let target = folder.join(&file.to);
        let part = copy(&file.from, &target, file.bytes)?;
        let read = measure(&target)?;
        if read != (part.0, part.1.clone()) {
            return Err(BackupError::Broken(target, "a file reads back otherwise"));
        }
        manifest.files.push(Part {
            path: file.to.clone(),
            bytes: part.0,
            sha256: part.1,
        });
    }
    let path = folder.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    let mut file = create(&path)?;
    file.write_all(&text).map_err(at(&path))?;
    file.sync_all().map_err(at(&path))?;
    sync_folder(folder)?;
    Ok(manifest)
}

/// The manifest of a backup, every file of it checked.
///
/// # Errors
/// Which file is missing or not what was copied.
pub fn check(folder: &Path) -> Result<Manifest, BackupError> {
    let path = folder.join(MANIFEST);
    let broken = |why| BackupError::Broken(folder.to_owned(), why);
    let mut text = Vec::new();
    let file = File::open(&path).map_err(at(&path))?;
    file.take(MANIFEST_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(at(&path))?;
    let manifest = parse(&text).ok_or_else(|| broken("its manifest is malformed"))?;
    for part in &manifest.files {
        let found = measure(&folder.join(&part.path))?;
        if found != (part.bytes, part.sha256.clone()) {
            return Err(BackupError::Broken(
                folder.join(&part.path),
                "this file is not the one that was copied",
            ));
        }
    }
    Ok(manifest)
}

/// A manifest's text, read strictly: no path in it leads out of the backup.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Manifest> {
    let manifest: Manifest = serde_json::from_slice(text).ok()?;
    let stays = |part: &Part| {
        let mut pieces = Path::new(&part.path).components();
        !part.path.is_empty() && pieces.all(|piece| matches!(piece, Component::Normal(_)))
    };
    (manifest.format == 1 && manifest.files.iter().all(stays)).then_some(manifest)
}

/// Copies one file of a checked backup to where it belongs, which must be free.
///
/// # Errors
/// Which file.
pub fn put_back(folder: &Path, part: &Part, target: &Path) -> Result<(), BackupError> {
    let (bytes, sha256) = copy(&folder.join(&part.path), target, None)?;
    if (bytes, &sha256) != (part.bytes, &part.sha256) {
        return Err(BackupError::Broken(
            target.to_owned(),
            "it changed meanwhile",
        ));
    }
    Ok(())
}

fn copy(from: &Path, to: &Path, bytes: Option<u64>) -> Result<(u64, String), BackupError> {
    if let Some(parent) = to.parent() {
        make_folder(parent)?;
    }
    let source = File::open(from).map_err(at(from))?;
    let mut source = source.take(bytes.unwrap_or(u64::MAX));
    let mut target = create(to)?;
    let mut hash = Sha256::new();
    let (mut buffer, mut length) = (vec![0; 1 << 20], 0);
    loop {
        let count = source.read(&mut buffer).map_err(at(from))?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
            break;
        };
        hash.update(piece);
        target.write_all(piece).map_err(at(to))?;
        length += piece.len() as u64;
    }
    if bytes.is_some_and(|bytes| bytes != length) {
        return Err(BackupError::Broken(from.to_owned(), "it became shorter"));
    }
    target.sync_all().map_err(at(to))?;
    sync_folder(to.parent().unwrap_or(to))?;
    Ok((length, hex(&hash.finalize())))
}

fn measure(path: &Path) -> Result<(u64, String), BackupError> {
    let mut file = File::open(path).map_err(at(path))?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(at(path))?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
            return Ok((length, hex(&hash.finalize())));
        };
        hash.update(piece);
        length += piece.len() as u64;
    }
}

fn create(path: &Path) -> Result<File, BackupError> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(at(path))
}

fn make_folder(path: &Path) -> Result<(), BackupError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(at(path))
}

fn sync_folder(path: &Path) -> Result<(), BackupError> {
    let folder = fs::File::open(path).map_err(at(path))?;
    folder.sync_all().map_err(at(path))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: 1,
            origin: "a.example/log".to_owned(),
            taken_ms: 1,
            checkpoint: String::new(),
            size: 1,
            store_seq: 0,
            keyring_epoch: 1,
            files: Vec::new(),
        }
    }

    #[test]
    fn only_what_was_copied_whole_is_put_back() {
        let here = tempfile::tempdir().unwrap();
        let source = here.path().join("a.seg");
        fs::write(&source, b"0123456789").unwrap();
        let wanted = [Wanted {
            from: source.clone(),
            to: "data/journal/a.seg".to_owned(),
            bytes: Some(4),
        }];
        let folder = here.path().join("backup");
        let taken = take(&folder, manifest(), &wanted).unwrap();
        assert_eq!(check(&folder).unwrap(), taken);
        let (part, back) = (taken.files.first().unwrap(), here.path().join("back/a.seg"));
        put_back(&folder, part, &back).unwrap();
        assert_eq!(fs::read(&back).unwrap(), b"0123");
        assert!(put_back(&folder, part, &back).is_err(), "never over a file");
        assert!(
            take(&folder, manifest(), &wanted).is_err(),
            "never over a backup"
        );
        fs::write(folder.join("data/journal/a.seg"), b"0124").unwrap();
        assert!(matches!(check(&folder), Err(BackupError::Broken(..))));
        fs::remove_file(folder.join(MANIFEST)).unwrap();
        assert!(check(&folder).is_err(), "without its manifest it is none");
    }

    #[test]
    fn no_path_leads_out_and_no_other_form_is_read() {
        for path in ["../x", "/etc/passwd", "a/../../x", "", "./a"] {
            let (bytes, sha256) = (0, String::new());
            let part = Part {
                path: path.to_owned(),
                bytes,
                sha256,
            };
            let files = vec![part];
            let text = serde_json::to_vec(&Manifest {
                files,
                ..manifest()
            })
            .unwrap();
            assert!(parse(&text).is_none() || path == "./a", "{path}");
        }
        let text = serde_json::to_vec(&Manifest {
            format: 2,
            ..manifest()
        })
        .unwrap();
        assert!(parse(&text).is_none());
        assert!(parse(b"{}").is_none() && parse(b"\xff").is_none());
    }
}
