//! What a connector keeps: every receipt, one a line, in files that are only ever added to, and the last checkpoint
//! that was proven to extend all before it. Nothing is given out before its receipt is on disk. `sallyport audit
//! reconcile` reads the files; they name patients and people, so they are their owner's alone.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;
use tokio::sync::oneshot;

use super::config::{StartError, file, private};
use crate::clock::Clock;

/// Lines written with one fsync at most.
const BATCH_LINES: usize = 256;

/// The receipt is not on disk.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the receipt could not be kept on this machine's disk; nothing is given out without it")]
pub(super) struct NotKept;

type Line = (String, oneshot::Sender<()>);

/// The folder, held by one connector alone.
pub(super) struct Kept {
    dir: PathBuf,
    lines: Sender<Line>,
    _lock: File,
}

impl Kept {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// What stands in the way: another connector that holds it, above all.
    pub(super) fn open(dir: &Path, clock: &Clock) -> Result<Self, StartError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|error| file(dir, error))?;
        let path = dir.join("lock");
        let lock = own(&path, false).map_err(|error| file(&path, error))?;
        lock.try_lock()
            .map_err(|_| file(dir, "another connector keeps its receipts here"))?;
        let (lines, queue) = channel();
        let (folder, clock) = (dir.to_owned(), clock.clone());
        std::thread::Builder::new()
            .name("receipts".to_owned())
            .spawn(move || write(&folder, &clock, &queue))
            .map_err(|error| file(dir, error))?;
        Ok(Self {
            dir: dir.to_owned(),
            lines,
            _lock: lock,
        })
    }

    /// Keeps one receipt; when this returns it is on disk.
    pub(super) async fn receipt(&self, receipt: &Value) -> Result<(), NotKept> {
        let (done, kept) = oneshot::channel();
        let line = (format!("{receipt}\n"), done);
        self.lines.send(line).map_err(|_| NotKept)?;
        kept.await.map_err(|_| NotKept)
    }

    /// The last proven checkpoint, a signed note.
    pub(super) fn checkpoint(&self) -> Result<Option<String>, StartError> {
        let path = self.dir.join("checkpoint");
        match path.exists() {
            true => private(&path).map(Some),
            false => Ok(None),
        }
    }

    /// Puts a file of this name in the place of the one before, whole.
    pub(super) fn replace(&self, name: &str, text: &str) -> std::io::Result<()> {
        replace(&self.dir, name, text.as_bytes())
    }

    /// The secret that local software shows: made once, readable by this user alone.
    pub(super) fn secret(&self) -> Result<String, StartError> {
        let path = self.dir.join("secret");
        if !path.exists() {
            let secret = format!("{}{}\n", keys::random_id(), keys::random_id());
            replace(&self.dir, "secret", secret.as_bytes()).map_err(|error| file(&path, error))?;
        }
        let secret = private(&path)?.trim().to_owned();
        match secret.len() >= 22 {
            true => Ok(secret),
            false => Err(file(
                &path,
                "has fewer than 22 characters; remove it, and a new one is made",
            )),
        }
    }
}

/// A file of the owner's alone, to be read and written.
fn own(path: &Path, append: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).create(true).mode(0o600);
    match append {
        true => options.append(true),
        false => options.write(true).truncate(false),
    };
    options.open(path)
}

/// Writes beside, then renames: afterwards it is the old file or the new one, whole.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let fresh = dir.join(format!("{name}.new"));
    let mut new = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    std::fs::rename(&fresh, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// Opens a file that is only added to; a line that a power cut left unfinished is ended, so that the next stands alone.
pub(super) fn append(path: &Path) -> std::io::Result<File> {
    let is_new = !path.exists();
    let mut lines = own(path, true)?;
    if is_new && let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    if lines.metadata()?.len() > 0 {
        let mut last = [0];
        lines.seek(SeekFrom::End(-1))?;
        lines.read_exact(&mut last)?;
        if last != *b"\n" {
            lines.write_all(b"\n")?;
        }
    }
    Ok(lines)
}

/// Takes what is queued, writes it, syncs once, and tells all. After a failure it takes no more: a disk that lost one
/// receipt is not asked to keep the next.
fn write(dir: &Path, clock: &Clock, queue: &Receiver<Line>) {
    let mut open: Option<(String, File)> = None;
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(BATCH_LINES - 1));
        let text: String = batch.iter().map(|(line, _)| line.as_str()).collect();
        let day = day(clock.now_ms());
        let kept = (|| {
            let mut current = match open.take() {
                Some((of, lines)) if of == day => lines,
                Some(_) | None => append(&dir.join(format!("receipts-{day}.ndjson")))?,
            };
            current.write_all(text.as_bytes())?;
            current.sync_data()?;
            Ok::<_, std::io::Error>(current)
        })();
        match kept {
            Ok(current) => open = Some((day, current)),
            Err(error) => {
                tracing::error!(%error, "a receipt could not be kept; the connector answers nothing more");
                return;
            }
        }
        for (_, done) in batch {
            let _ = done.send(());
        }
    }
}

/// The day of a moment: `2026-11-22`.
fn day(now_ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(now_ms).unwrap_or(i64::MAX));
    at.map_or_else(
        |_| "later".to_owned(),
        |at| at.strftime("%Y-%m-%d").to_string(),
    )
}
