//! Reading the published log folder: its files as C2SP tlog-tiles names them, and proofs made from its tiles.
//! Everything here was published before; nothing here is signed or decided. Only exact paths exist.
//! Partial tiles of every width that any checkpoint needed are cut from what is there.

use super::ReadError;
use super::note::Checkpoint;
use super::publish::{CHECKPOINT, WITNESSED};
use super::receipt::Receipt;
use super::tile::{self, Entries, Kind, Tile};
use super::tree::{self, Hash};
use crate::disk::Disk;
use bytes::Bytes;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The published folder.
pub(super) struct Folder {
    disk: Arc<dyn Disk>,
    log: PathBuf,
}

/// A checkpoint's inclusion of an older one.
#[derive(Debug, Clone)]
pub struct Consistency {
    /// RFC 6962 §2.1.2 proof from the old size to the checkpoint's.
    pub path: Vec<Hash>,
    /// The published checkpoint it leads to.
    pub checkpoint: String,
}

impl Folder {
    pub(super) fn new(disk: Arc<dyn Disk>, log: &Path) -> Self {
        let log = log.to_owned();
        Self { disk, log }
    }

    pub(super) fn file(&self, path: &str) -> Result<Option<Bytes>, ReadError> {
        if path == CHECKPOINT || path == WITNESSED {
            return Ok(self.whole(path)?.map(Bytes::from));
        }
        let Some(tile) = Tile::parse(path) else {
            return Ok(None);
        };
        Ok(self.tile(&tile)?.map(Bytes::from))
    }

    /// The leaf at `index` with its proof under the published checkpoint; `None` if that does not cover it.
    pub(super) fn evidence(&self, index: u64) -> Result<Option<Receipt>, ReadError> {
        let (note, size) = self.published()?;
        if index >= size {
            return Ok(None);
        }
        let (bundle, place) = (index / tree::TILE_WIDTH, index % tree::TILE_WIDTH);
        let (kind, width) = (Kind::Entries, place as u16 + 1);
        let tile = Tile {
            kind,
            index: bundle,
            width,
        };
        let bytes = self.tile(&tile)?.ok_or(ReadError::Damaged)?;
        let leaf = Entries(&bytes).last().and_then(Result::ok);
        let leaf = leaf.and_then(|leaf| std::str::from_utf8(leaf).ok());
        let leaf: Arc<str> = leaf.ok_or(ReadError::Damaged)?.into();
        let hash = tree::leaf_hash(leaf.as_bytes());
        let path = tree::inclusion_path(index, size, &mut |h, i| self.node(h, i))?;
        Ok(Some(Receipt::new(
            index,
            leaf,
            hash,
            &path,
            (size, &note),
            None,
        )))
    }

    /// Proof that the log of `old` entries is a prefix of the published one; `None` if that is shorter, or `old` is 0.
    pub(super) fn consistency(&self, old: u64) -> Result<Option<Consistency>, ReadError> {
        let (checkpoint, size) = self.published()?;
        if old == 0 || old > size {
            return Ok(None);
        }
        let path = tree::consistency_path(old, size, &mut |h, i| self.node(h, i))?;
        Ok(Some(Consistency { path, checkpoint }))
    }

    fn published(&self) -> Result<(String, u64), ReadError> {
        let note = self.whole(CHECKPOINT)?.ok_or(ReadError::Damaged)?;
        let note = String::from_utf8(note).map_err(|_| ReadError::Damaged)?;
        let size = Checkpoint::unverified(&note)
            .ok_or(ReadError::Damaged)?
            .size;
        Ok((note, size))
    }

    /// A node of the tree, from the tile that holds the hashes below it.
    pub(super) fn node(&self, height: u32, index: u64) -> Result<Hash, ReadError> {
        let (level, within) = ((height / 8) as u8, height % 8);
        let (first, count) = (index << within, 1 << within);
        let place = (first % tree::TILE_WIDTH) as u16;
        let tile = Tile {
            kind: Kind::Hashes(level),
            index: first / tree::TILE_WIDTH,
            width: place + count,
        };
        let bytes = self.tile(&tile)?.ok_or(ReadError::Damaged)?;
        let (hashes, _) = bytes.as_chunks::<32>();
        let hashes = hashes.get(usize::from(place)..).unwrap_or_default();
        below(hashes, within, 0).ok_or(ReadError::Damaged)
    }

    fn tile(&self, tile: &Tile) -> Result<Option<Vec<u8>>, ReadError> {
        let full = Tile::full(tile.kind, tile.index);
        let mut bytes = self.whole(&full.to_string())?;
        if bytes.is_none() && !tile.is_full() {
            bytes = self.wider_partial(tile)?;
        }
        if bytes.is_none() && !tile.is_full() {
            // Why again: its partials go as soon as the full one is there.
            bytes = self.whole(&full.to_string())?;
        }
        let Some(mut bytes) = bytes else {
            return Ok(None);
        };
        let length = tile::cut(tile.kind, &bytes, tile.width).ok_or(ReadError::Damaged)?;
        bytes.truncate(length.len());
        Ok(Some(bytes))
    }

    fn wider_partial(&self, tile: &Tile) -> Result<Option<Vec<u8>>, ReadError> {
        let folder = self.log.join(tile.partials());
        if !self.disk.exists(&folder)? {
            return Ok(None);
        }
        let names = self.disk.list(&folder)?;
        let widths = names.iter().filter_map(|name| name.parse::<u16>().ok());
        let Some(width) = widths.filter(|width| *width >= tile.width).min() else {
            return Ok(None);
        };
        Ok(self.whole(&Tile { width, ..*tile }.to_string())?)
    }

    fn whole(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        read(&*self.disk, &self.log.join(name))
    }
}

/// The root of the `2^height` hashes from `at · 2^height` on.
fn below(hashes: &[Hash], height: u32, at: u64) -> Option<Hash> {
    if height == 0 {
        return hashes.get(usize::try_from(at).ok()?).copied();
    }
    let left = below(hashes, height - 1, at * 2)?;
    let right = below(hashes, height - 1, at * 2 + 1)?;
    Some(tree::node_hash(&left, &right))
}

/// A whole file, if it is there.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(0, &mut bytes)?;
    Ok(Some(bytes))
}
