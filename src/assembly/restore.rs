//! Putting a gateway back from a backup: every file is checked, the whole is opened and verified once, and what is known
//! to have come after the backup is named. It then stands as *restored* in the ledger and serves nobody until two
//! administrators have acknowledged it. Nothing that stands already is touched but the published log, which is kept aside.

use std::path::{Path, PathBuf};

use keys::Unlock;

use super::{AssemblyError, open};
use crate::backup::{self, Manifest};
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::note::Checkpoint;
use crate::ledger::{Event, SEGMENT_BYTES};

/// What was put back, and what is missing.
#[derive(Debug)]
pub struct Restored {
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// Entries that the latest known checkpoint signs; none known, none said.
    pub known: Option<u64>,
    /// Where the log that was published before stands now.
    pub aside: Option<PathBuf>,
}

/// Puts a backup in the place of a gateway that is gone. `since` are checkpoints that others kept.
///
/// # Errors
/// What is in the way, which file is not what was copied, or what does not open.
pub async fn restore<'a>(
    config: &Config,
    from: &Path,
    since: &[String],
    unlock: impl Into<Unlock<'a>>,
    clock: Clock,
) -> Result<Restored, AssemblyError> {
    let manifest = backup::check(from)?;
    if manifest.origin != config.origin {
        return Err(AssemblyError::OtherGateway(manifest.origin));
    }
    if config.data.exists()
        && std::fs::read_dir(&config.data).is_ok_and(|mut it| it.next().is_some())
    {
        return Err(AssemblyError::Exists(config.data.clone()));
    }
    let aside = put_aside(config, &clock)?;
    let published = aside
        .as_ref()
        .and_then(|log| std::fs::read_to_string(log.join("checkpoint")).ok());
    let file = |path: &Path, error| AssemblyError::File {
        path: path.to_owned(),
        error,
    };
    for part in &manifest.files {
        let target = match part.path.split_once('/') {
            Some(("journal", name)) => config.journal().join(name),
            Some(("segments", name)) => config.store().join("segments").join(name),
            Some(("keyring", name)) => config.keyring().join(name),
            _ if config.root.file.exists() => continue,
            _ => config.root.file.clone(),
        };
        backup::put_back(from, part, &target)?;
        if part.path.starts_with("journal/") {
            // Why: what is kept of the last segment ends with its last entry, and the ledger goes on in it.
            lengthen(&target).map_err(|error| file(&target, error))?;
        }
    }
    std::fs::create_dir_all(&config.log).map_err(|error| file(&config.log, error))?;
    let checkpoint = config.log.join("checkpoint");
    std::fs::write(&checkpoint, &manifest.checkpoint).map_err(|error| file(&checkpoint, error))?;
    let gateway = open(config, unlock, clock).await?;
    let keys = gateway.ledger().vkeys();
    let mut latest = None;
    for note in since {
        // Why an error: a checkpoint that is not this log's says nothing of what is missing.
        let known = Checkpoint::open_any(note, &keys).map_err(AssemblyError::Since)?;
        latest = latest.max(Some(known.size));
    }
    // Why not an error: whoever destroyed the gateway may have destroyed its published log too.
    let published = published.and_then(|note| Checkpoint::open_any(&note, &keys).ok());
    latest = latest.max(published.map(|known| known.size));
    let mut event = Event::new("gateway.restored")
        .with("size", manifest.size)
        .with("taken", manifest.taken_ms);
    if let Some(known) = latest {
        event = event.with("known", known);
    }
    gateway.ledger().note(event).await?;
    gateway.close().await?;
    Ok(Restored {
        manifest,
        known: latest,
        aside,
    })
}

fn lengthen(segment: &Path) -> std::io::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).open(segment)?;
    if file.metadata()?.len() < SEGMENT_BYTES {
        file.set_len(SEGMENT_BYTES)?;
        file.sync_all()?;
    }
    Ok(())
}

/// What was published before is evidence: it names what came after the backup.
fn put_aside(config: &Config, clock: &Clock) -> Result<Option<PathBuf>, AssemblyError> {
    if !config.log.exists() {
        return Ok(None);
    }
    let aside = config
        .log
        .with_extension(format!("before-{}", clock.now_ms()));
    std::fs::rename(&config.log, &aside).map_err(|error| AssemblyError::File {
        path: config.log.clone(),
        error,
    })?;
    Ok(Some(aside))
}
