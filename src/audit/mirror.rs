//! A copy of the log on the auditor's machine: the published files, the sealed bodies beside them, and the keys that
//! verify what the gateway signs. Fetched over mutual TLS, where each reading of entries or bodies is itself an entry;
//! what is here already is not fetched again.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use hyper::{Method, StatusCode};

use crate::connect::{Http, HttpError};
use crate::ledger::audit::{Folder, Source};
use crate::ledger::note::Checkpoint;
use crate::ledger::tile::{Kind, Tile};
use crate::ledger::tree::TILE_WIDTH;
use crate::ledger::{Leaf, Vkey};

/// Why a mirror could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The gateway did not answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It answered otherwise than with a file of the log.
    #[error("{path}: the gateway answers {status}: {text}")]
    Status {
        /// What was asked for.
        path: String,
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        text: String,
    },
    /// A file could not be written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// What came is not a log.
    #[error("{0}")]
    Form(String),
}

/// The copy.
pub struct Mirror {
    dir: PathBuf,
    log: Folder,
    key: Vkey,
}

impl Mirror {
    /// The copy in this folder; a gateway's own `log` folder is one too, without bodies.
    #[must_use]
    pub fn at(dir: &Path, key: Vkey) -> Self {
        let (log, dir) = (Folder(dir.to_owned()), dir.to_owned());
        Self { dir, log, key }
    }

    /// The published part.
    #[must_use]
    pub fn log(&self) -> &dyn Source {
        &self.log
    }

    /// Entries that its signed checkpoint speaks of.
    ///
    /// # Errors
    /// There is no checkpoint by the log's key.
    pub fn size(&self) -> Result<u64, String> {
        let note = self.log.fetch("checkpoint")?;
        let note = note.ok_or_else(|| format!("{}: has no checkpoint", self.dir.display()))?;
        self.signed(&note)
    }

    fn signed(&self, note: &[u8]) -> Result<u64, String> {
        let text = std::str::from_utf8(note).map_err(|_| "the checkpoint is not text")?;
        let checkpoint = Checkpoint::open(text, &self.key);
        checkpoint
            .map(|checkpoint| checkpoint.size)
            .map_err(|error| format!("the checkpoint: {error}"))
    }

    /// The public JWK Set of the gateway, as it was fetched.
    #[must_use]
    pub fn jwks(&self) -> Option<String> {
        std::fs::read_to_string(self.dir.join("jwks.json")).ok()
    }

    /// The sealed bodies of a bundle's leaves, read when the first is asked for.
    pub(super) fn bodies(&self, leaves: &[Leaf<'_>]) -> Bodies {
        let first = leaves.first().map_or(0, Leaf::index);
        Bodies {
            path: self.dir.join(name(first / TILE_WIDTH)),
            first,
            bytes: OnceCell::new(),
        }
    }

    /// Fetches what is not here yet; `said` hears entries done and entries in all.
    ///
    /// # Errors
    /// What stands in the way; asking again goes on from there.
    pub async fn fetch(
        &self,
        http: &Http,
        said: &mut dyn FnMut(u64, u64),
    ) -> Result<u64, MirrorError> {
        // Why before the checkpoint: then it is never of more entries. Why not an error: a log may have no witnesses.
        let witnessed = get(http, "/log/witnessed").await.ok();
        let note = get(http, "/log/checkpoint").await?;
        let size = self.signed(&note).map_err(MirrorError::Form)?;
        let jwks = get(http, "/.well-known/jwks.json").await?;
        self.keep("jwks.json", &jwks)?;
        for index in 0..size.div_ceil(TILE_WIDTH) {
            let first = index * TILE_WIDTH;
            let width = (size - first).min(TILE_WIDTH) as u16;
            for kind in [Kind::Hashes(0), Kind::Entries] {
                self.once(http, Tile { kind, index, width }).await?;
            }
            self.sealed(http, index, u64::from(width)).await?;
            said(first + u64::from(width), size);
        }
        for level in 1..8 {
            let count = size >> (8 * u32::from(level));
            for index in 0..count.div_ceil(TILE_WIDTH) {
                let width = (count - index * TILE_WIDTH).min(TILE_WIDTH) as u16;
                let kind = Kind::Hashes(level);
                self.once(http, Tile { kind, index, width }).await?;
            }
        }
        if let Some(witnessed) = witnessed {
            self.keep("witnessed", &witnessed)?;
        }
        // Why last: whoever finds a checkpoint finds all that it speaks of.
        self.keep("checkpoint", &note)?;
        Ok(size)
    }

    async fn once(&self, http: &Http, tile: Tile) -> Result<(), MirrorError> {
        let name = tile.to_string();
        if self.dir.join(&name).exists() {
            return Ok(());
        }
        let bytes = get(http, &format!("/log/{name}")).await?;
        self.keep(&name, &bytes)
    }

    async fn sealed(&self, http: &Http, index: u64, width: u64) -> Result<(), MirrorError> {
        let name = name(index);
        let have = std::fs::read(self.dir.join(&name)).map_or(0, |bytes| Sealed(&bytes).count());
        if have as u64 >= width {
            return Ok(());
        }
        let bytes = get(http, &format!("/log/{name}")).await?;
        if (Sealed(&bytes).count() as u64) < width {
            let text = format!("{name}: holds fewer bodies than there are entries");
            return Err(MirrorError::Form(text));
        }
        self.keep(&name, &bytes)
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), MirrorError> {
        let path = self.dir.join(name);
        let file = |error| MirrorError::File {
            path: path.clone(),
            error,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(file)?;
        }
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, bytes).map_err(file)?;
        std::fs::rename(&fresh, &path).map_err(file)
    }
}

async fn get(http: &Http, path: &str) -> Result<Vec<u8>, MirrorError> {
    let reply = http.send(Method::GET, path, &[], Vec::new()).await?;
    if reply.status != StatusCode::OK {
        return Err(MirrorError::Status {
            path: path.to_owned(),
            status: reply.status,
            text: reply.text(),
        });
    }
    Ok(reply.body.to_vec())
}

/// The file of a bundle's bodies, over the wire and in the copy.
fn name(index: u64) -> String {
    format!("bodies/{index}")
}

/// The bodies of one bundle.
pub(super) struct Bodies {
    path: PathBuf,
    first: u64,
    bytes: OnceCell<Vec<u8>>,
}

impl Bodies {
    /// The sealed body of that entry; `None` where the copy has none.
    pub(super) fn of(&self, index: u64) -> Option<Vec<u8>> {
        let bytes = self
            .bytes
            .get_or_init(|| std::fs::read(&self.path).unwrap_or_default());
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        let body = Sealed(bytes).nth(at)?;
        (!body.is_empty()).then(|| body.to_vec())
    }
}

/// Bodies one after another, each behind its length as four bytes, big end first; a cut end is no body.
struct Sealed<'a>(&'a [u8]);

impl<'a> Iterator for Sealed<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (body, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(body)
    }
}
