//! A policy set in a folder, laid out like `policy/`: `schema.cedarschema`, `guards/`, `rules/`, `invariants/`
//! with a family of rules a file, and `proof.json`. Only reads and writes; what the texts say is `policy`'s.
//!
//! What is not such a folder is an error that names the file; nothing is left out in silence.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use policy::Texts;
use policy::proof::Proof;
use policy::texts::Family;

/// The longest single file.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The most files of one kind.
const FILES_MAX: usize = 256;

/// Why a folder is no policy set.
#[derive(Debug, thiserror::Error)]
pub enum RulebookError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {rule}")]
    Form {
        /// Which.
        path: PathBuf,
        /// What it should be.
        rule: String,
    },
}

/// Reads the texts of a folder.
///
/// # Errors
/// Which file is missing, too long, not text, or not a family of rules.
pub fn read(folder: &Path) -> Result<Texts, RulebookError> {
    let texts = Texts {
        schema: text(&folder.join("schema.cedarschema"))?,
        guards: families(&folder.join("guards"))?,
        rules: families(&folder.join("rules"))?,
        invariants: families(&folder.join("invariants"))?,
    };
    Ok(texts.in_order())
}

/// Reads the proof of a folder.
///
/// # Errors
/// When there is none, or it is not one.
pub fn proof(folder: &Path) -> Result<Proof, RulebookError> {
    let path = folder.join("proof.json");
    let said = text(&path)?;
    Proof::parse(&said).map_err(|error| RulebookError::Form {
        path,
        rule: error.to_string(),
    })
}

/// Writes the proof of a folder; a crash leaves the old one or the new one.
///
/// # Errors
/// When it cannot be written.
pub fn write_proof(folder: &Path, proof: &Proof) -> Result<PathBuf, RulebookError> {
    let (path, draft) = (folder.join("proof.json"), folder.join("proof.json.new"));
    let written = std::fs::write(&draft, proof.to_string());
    let written = written.and_then(|()| std::fs::rename(&draft, &path));
    match written {
        Ok(()) => Ok(path),
        Err(error) => Err(RulebookError::File { path, error }),
    }
}

/// A folder's families, by name. Why a missing folder is an error: no guards at all is hardly what anyone meant, and
/// an empty folder says it.
fn families(folder: &Path) -> Result<Vec<Family>, RulebookError> {
    let wrong = |error| RulebookError::File {
        path: folder.to_owned(),
        error,
    };
    let mut families = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let form = |rule: &str| RulebookError::Form {
            path: path.clone(),
            rule: rule.to_owned(),
        };
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let (Some(name), Some("cedar")) = (stem, path.extension().and_then(|it| it.to_str()))
        else {
            return Err(form("only files NAME.cedar stand here"));
        };
        if families.len() == FILES_MAX {
            return Err(form("more than 256 files"));
        }
        families.push(Family {
            name: name.to_owned(),
            text: text(&path)?,
        });
    }
    families.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(families)
}

fn text(path: &Path) -> Result<String, RulebookError> {
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(RulebookError::File {
            path: path.to_owned(),
            error,
        }),
        Ok(_) if u64::try_from(text.len()).is_ok_and(|length| length > FILE_BYTES_MAX) => {
            Err(RulebookError::Form {
                path: path.to_owned(),
                rule: "longer than 1 MiB".to_owned(),
            })
        }
        Ok(_) => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("policy")
    }

    #[test]
    fn the_folder_of_the_house_is_the_built_in_set() {
        let texts = read(&shipped()).unwrap();
        assert_eq!(texts, Texts::built_in());
        assert_eq!(texts.digest(), Texts::built_in().digest());
        assert_eq!(proof(&shipped()).unwrap(), Proof::built_in().unwrap());
    }

    #[test]
    fn what_is_missing_or_strange_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let named = |says: &str| {
            let error = read(here).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        named("schema.cedarschema");
        std::fs::write(here.join("schema.cedarschema"), "").unwrap();
        named("guards");
        for kind in ["guards", "rules", "invariants"] {
            std::fs::create_dir(here.join(kind)).unwrap();
        }
        assert!(read(here).unwrap().guards.is_empty());
        std::fs::write(here.join("guards/token.cedar~"), "").unwrap();
        named("NAME.cedar");
        std::fs::remove_file(here.join("guards/token.cedar~")).unwrap();
        std::fs::write(here.join("guards/token.cedar"), [0xff]).unwrap();
        named("token.cedar");
        assert!(proof(here).unwrap_err().to_string().contains("proof.json"));
    }
}
