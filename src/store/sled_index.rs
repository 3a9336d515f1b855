//! The index in sled 0.34: the only file that names it. Its traps were measured, and each line that looks odd
//! is one of them: `flush` is no fsync, a left-over snapshot stops `open`, broken files panic, large values
//! go to files that are never synced, large batches hold gigabytes. Nothing that was acknowledged rests here.
//! Any failure, a panic included, is [`IndexBroken`]; the cure is to open again or to rebuild.

use super::index::{Change, Index, IndexBroken, IndexPlace};
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// The folder of an index.
pub(super) struct SledPlace {
    pub(super) dir: PathBuf,
    pub(super) cache_bytes: u64,
}

struct SledIndex {
    db: sled::Db,
    /// Our own handle of sled's one data file, to sync what sled only hands to the kernel.
    file: File,
    blobs: PathBuf,
}

impl IndexPlace for SledPlace {
    fn open(&self) -> Result<Box<dyn Index>, IndexBroken> {
        self.remove_half_snapshots().map_err(broken)?;
        let config = sled::Config::default()
            .path(&self.dir)
            .cache_capacity(self.cache_bytes)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let db = guarded(|| config.open())?;
        let index = SledIndex {
            db,
            file: File::open(self.dir.join("db")).map_err(broken)?,
            blobs: self.dir.join("blobs"),
        };
        // Why: the names of a fresh database are not synced by sled.
        for dir in [Some(self.dir.as_path()), self.dir.parent()]
            .into_iter()
            .flatten()
        {
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(broken)?;
        }
        Ok(Box::new(index))
    }

    fn wipe(&self) -> Result<(), IndexBroken> {
        match fs::remove_dir_all(&self.dir) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                fs::remove_file(&self.dir).map_err(broken)
            }
            Err(error) => Err(broken(error)),
        }
    }
}

impl SledPlace {
    /// A full disk leaves an empty `snap.*.generating` behind, and sled takes it for corruption.
    fn remove_half_snapshots(&self) -> io::Result<()> {
        if !self.dir.try_exists()? {
            return Ok(());
        }
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("snap.") && name.ends_with(".generating") {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexBroken> {
        guarded(|| Ok(self.db.get(key)?.map(|value| value.to_vec())))
    }

    fn visit(
        &self,
        lower: Bound<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), IndexBroken> {
        guarded(|| {
            for item in self.db.range::<&[u8], _>((lower, Bound::Unbounded)) {
                let (key, value) = item?;
                if !each(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn apply(&self, batch: Vec<Change>) -> Result<(), IndexBroken> {
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        guarded(|| self.db.apply_batch(changes))
    }

    fn sync(&self) -> Result<(), IndexBroken> {
        guarded(|| self.db.flush().map(drop))?;
        self.file.sync_data().map_err(broken)?;
        let is_outside = self.blobs.try_exists().map_err(broken)?
            && fs::read_dir(&self.blobs).map_err(broken)?.next().is_some();
        if is_outside {
            tracing::error!("the index keeps values outside its file, where they are not durable");
            return Err(IndexBroken);
        }
        Ok(())
    }
}

fn broken(error: io::Error) -> IndexBroken {
    tracing::error!(%error, "the index cannot use its folder");
    IndexBroken
}

/// sled panics on some damage; a panic must not take a thread with it.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexBroken> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::error!(%error, "the index does not work");
            Err(IndexBroken)
        }
        Err(_) => {
            tracing::error!("the index panicked");
            Err(IndexBroken)
        }
    }
}
