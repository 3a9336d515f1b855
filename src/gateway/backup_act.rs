//! Taking a backup while the gateway serves, and holding one that was put back until two people have acknowledged it.
//!
//! What is kept is append-only, so a moment is a set of lengths. For that moment, and not for the copying, changes of
//! facts and deposits wait; reads never do. The ledger is measured first, the store after it, the keyring last: each
//! then knows all that the one before names.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use policy::{AdminAct, Approve, Ask, Caller, Decision, Grant};
use serde_json::{Value, json};

use super::{Answer, Fault, Gateway};
use crate::backup::{self, Manifest, Wanted};
use crate::ledger::{Event, Extra, Recorded};

/// Where a gateway's files are, and where its backups go.
#[derive(Clone, Debug)]
pub struct Folders {
    /// The keyring's folder.
    pub keyring: PathBuf,
    /// The store's folder.
    pub store: PathBuf,
    /// The sealed root key.
    pub root: PathBuf,
    /// Where backups go; none are taken without.
    pub backups: Option<PathBuf>,
}

impl Gateway {
    /// Tells the gateway where its files are, once, at its opening.
    pub fn settle_in(&self, folders: Folders, is_held: bool) {
        // Why ignored: only its opening calls this.
        let _ = self.folders.set(folders);
        self.is_held.store(is_held, Ordering::Release);
    }

    /// Whether this gateway was put back from a backup that nobody has acknowledged: it answers administrators only.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Acquire)
    }

    /// Takes a backup into a new folder, reads it back, and says what is in it.
    ///
    /// # Errors
    /// A fault of ours; then there is no backup.
    pub async fn back_up(&self, caller: Caller) -> Result<Answer<Value>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_client(&caller, now_ms);
        let (act, object) = ("backup.take".to_owned(), "all".to_owned());
        let why = String::new();
        match policy::decide(
            &self.rules,
            Ask::new(caller, AdminAct { act, object, why }),
            &facts,
        ) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let recorded = self.record(grant, None, Extra::default()).await?;
                let (_grant, receipt) = recorded.into_parts();
                Ok(Answer::Done(self.copied(now_ms).await?, receipt))
            }
        }
    }

    async fn copied(&self, now_ms: u64) -> Result<Value, Fault> {
        let folders = self
            .folders
            .get()
            .and_then(|it| Some((it, it.backups.clone()?)));
        let Some((folders, backups)) = folders else {
            return Ok(Value::Null);
        };
        let (manifest, wanted) = self.moment(folders, now_ms).await?;
        let folder = backups.join(format!("{now_ms}"));
        let target = folder.clone();
        let taken = tokio::task::spawn_blocking(move || backup::take(&target, manifest, &wanted));
        let taken = taken
            .await
            .map_err(|_| Fault::Bug("a backup's thread ended"))??;
        let bytes: u64 = taken.files.iter().map(|part| part.bytes).sum();
        let event = Event::new("backup.taken")
            .with("size", taken.size)
            .with("st", taken.store_seq)
            .with("kr", taken.keyring_epoch)
            .with("bytes", bytes);
        self.ledger.note(event).await?;
        Ok(json!({
            "folder": folder, "entries": taken.size, "store_seq": taken.store_seq, "taken_ms": taken.taken_ms,
            "keyring_epoch": taken.keyring_epoch, "bytes": bytes, "files": taken.files.len(), "verified": true,
        }))
    }

    /// One moment of everything that is kept, as lengths.
    async fn moment(
        &self,
        folders: &Folders,
        taken_ms: u64,
    ) -> Result<(Manifest, Vec<Wanted>), Fault> {
        let _no_facts_change = self.facts.turn().await;
        let _nothing_is_filed = self.vault.hold().await;
        let frozen = self.ledger.frozen();
        let named = |from: &PathBuf, folder: &str| {
            let name = from
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            format!("{folder}/{}", name.unwrap_or_default())
        };
        let mut wanted = Vec::new();
        for (from, bytes) in frozen.journal {
            let to = named(&from, "journal");
            wanted.push(Wanted { from, to, bytes });
        }
        for (from, bytes) in self.store.frozen()? {
            let (to, bytes) = (named(&from, "segments"), Some(bytes));
            wanted.push(Wanted { from, to, bytes });
        }
        let (epoch, store_seq) = (self.vault.keyring_epoch(), self.store.seq().0);
        let from = folders.keyring.join(format!("keyring.{epoch}"));
        let (to, bytes) = (named(&from, "keyring"), None);
        wanted.push(Wanted { from, to, bytes });
        let (from, to) = (folders.root.clone(), "root.key".to_owned());
        wanted.push(Wanted { from, to, bytes });
        let manifest = Manifest {
            format: 1,
            origin: self.ledger.vkey().name().to_owned(),
            taken_ms,
            checkpoint: frozen.checkpoint.to_string(),
            size: frozen.size,
            store_seq,
            keyring_epoch: epoch,
            files: Vec::new(),
        };
        Ok((manifest, wanted))
    }

    /// Lets a gateway that was put back from a backup serve again. Two people asked for it.
    pub(super) async fn acknowledge(
        &self,
        approved: Recorded<Grant<Approve>>,
    ) -> Result<Value, Fault> {
        let (_grant, _receipt) = approved.into_parts();
        let size = self.ledger.health().size;
        let event = Event::new("backup.acknowledged").with("size", size);
        self.ledger.note(event).await?;
        self.is_held.store(false, Ordering::Release);
        Ok(json!({ "serving": true }))
    }
}
