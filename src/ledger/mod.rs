//! The signed, append-only access log: who asked for what, and what was answered, before anything moves.
//!
//! [`Ledger::record`] is the only maker of [`Recorded`]: it returns when the entry is durable and signed, never before.
//! Never here: personal data in a leaf, a second try after a disk error, an empty ledger made by [`Ledger::open`].
//! Dropping a future of `record` is safe: the ledger may then hold an access that never happened, never the reverse.
//! A failure of the disk stops the ledger until it is reopened, and nothing is released meanwhile.

pub mod audit;
mod body;
mod bundle;
mod canonical;
pub mod cosign;
mod draft;
mod fault;
mod folder;
mod handover;
mod journal;
pub mod leaf;
pub mod note;
mod publish;
mod reader;
pub mod receipt;
mod recover;
mod report;
pub mod tile;
pub mod tree;
mod writer;

#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod tamper_tests;
#[cfg(test)]
mod tests;

pub use body::body;
pub use fault::{InitError, OpenError, ReadError, RecordError};
pub use folder::Consistency;
pub use leaf::{Event, Extra, Leaf, Seals};
pub use note::{SignsNotes, Vkey};
pub use receipt::{CheckError, Evidence, Open, Receipt, check};

use crate::clock::Clock;
use crate::disk::{Disk, DiskLock, RealDisk};
use bytes::Bytes;
use draft::{Dice, Draft, Openings};
use folder::Folder;
use journal::{Appender, Spare};
use note::{Checkpoint, NotAVkey, NoteError};
use policy::Verdict;
use publish::{Chore, Housekeeper, PublishError, Publisher};
use reader::Reader;
use recover::Expected;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender, SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tree::{Forgotten, Hash};
use writer::{Order, Pen, Shared, Writer};

/// Entries that may wait for the writer; more are turned away at once.
pub const QUEUE_ENTRIES_MAX: usize = 4096;
/// Size of a journal segment.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Where a ledger lives.
#[derive(Debug, Clone)]
pub struct Place {
    /// Folder of the journal: the truth, with the sealed bodies. The gateway's own.
    pub journal: PathBuf,
    /// Folder of the published log (C2SP tlog-tiles), derived from the journal.
    pub log: PathBuf,
}

/// Fills a slice with bytes nobody can guess.
pub type Random = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// Is shown each new entry once it is durable and signed, in order, by the thread that writes: it must be quick.
pub type Watch = Arc<dyn Fn(&Leaf<'_>) + Send + Sync>;

/// What an open ledger needs from its surroundings.
#[derive(Clone)]
pub struct Options {
    /// Time of the entries.
    pub clock: Clock,
    /// Salts and nonces.
    pub random: Random,
    /// The gateway's name in each entry.
    pub gateway: String,
    /// Signed checkpoints that others hold (witnesses, auditors, the store): the ledger must still contain each.
    pub witnessed: Vec<String>,
    /// How long an entry waits at most before it is published.
    pub publish_every: Duration,
    /// Size of new journal segments; at least a few times the largest entry.
    pub segment_bytes: u64,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Who is shown each new entry, whether or not its caller still waits.
    pub watch: Watch,
}

impl Default for Options {
    /// This machine's clock, randomness and disk; published within a second; no witnesses.
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            random: Arc::new(keys::random),
            gateway: "gw1".to_owned(),
            witnessed: Vec::new(),
            publish_every: Duration::from_secs(1),
            segment_bytes: SEGMENT_BYTES,
            disk: Arc::new(RealDisk),
            watch: Arc::new(|_| ()),
        }
    }
}

/// A verdict that stands in the ledger, durably and signed. Only [`Ledger::record`] makes one.
///
/// It cannot be forged,
/// ```compile_fail,E0451
/// use sallyport::ledger::{Receipt, Recorded};
/// fn forge<V>(verdict: V, receipt: Receipt) -> Recorded<V> {
///     Recorded { verdict, receipt }
/// }
/// ```
/// nor made from a bare verdict,
/// ```compile_fail,E0277
/// use sallyport::ledger::Recorded;
/// fn skip<V: policy::Verdict>(verdict: V) -> Recorded<V> {
///     verdict.into()
/// }
/// ```
/// nor doubled,
/// ```compile_fail,E0599
/// use sallyport::ledger::Recorded;
/// fn twice<V>(recorded: Recorded<V>) -> (Recorded<V>, Recorded<V>) {
///     (recorded.clone(), recorded)
/// }
/// ```
/// and what is no verdict is not recorded.
/// ```compile_fail,E0277
/// use sallyport::ledger::{Extra, Ledger, Seals};
/// async fn anything(ledger: &Ledger, seal: &dyn Seals) {
///     let _ = ledger.record("open the door", Extra::default(), seal).await;
/// }
/// ```
#[must_use = "what is recorded has to be answered"]
pub struct Recorded<V> {
    verdict: V,
    receipt: Receipt,
}

impl<V> Recorded<V> {
    /// What was decided.
    pub fn verdict(&self) -> &V {
        &self.verdict
    }

    /// Evidence of its entry.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The verdict, to be acted on once, and the receipt to go with it.
    #[allow(dead_code, reason = "the rooms above take it apart")]
    pub(crate) fn into_parts(self) -> (V, Receipt) {
        (self.verdict, self.receipt)
    }
}

/// How the ledger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Entries that are signed.
    pub size: u64,
    /// Entries that are published.
    pub published: u64,
    /// Whether a disk error has stopped it.
    pub is_stopped: bool,
    /// Whether there is room for another segment; without one, emergencies alone are served in the end.
    pub has_room: bool,
}

/// A moment of the journal.
pub struct Frozen {
    /// Its segment files; of the last one only so many bytes.
    pub journal: Vec<(PathBuf, Option<u64>)>,
    /// Entries in it.
    pub size: u64,
    /// The signed checkpoint over them.
    pub checkpoint: Arc<str>,
}

/// A handle on the open ledger; clones share it.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    orders: SyncSender<Order>,
    chores: Sender<Chore>,
    shared: Arc<Shared>,
    spare: Arc<Spare>,
    folder: Folder,
    place: Place,
    /// The key it was opened with.
    key: Vkey,
    signer: Arc<dyn SignsNotes>,
    options: Options,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: JoinHandle<()>,
    housekeeper: JoinHandle<()>,
    /// Held by both threads too: another process may come in only when the last has written its last.
    _lock: Arc<dyn DiskLock>,
}

impl Ledger {
    /// Makes a new ledger whose first entry is `log.genesis`. The parents of both folders must exist.
    ///
    /// # Errors
    /// [`InitError::Exists`] if there is one.
    pub fn init(
        place: &Place,
        origin: &str,
        signer: &dyn SignsNotes,
        now_ms: u64,
    ) -> Result<(), InitError> {
        Self::init_on(
            Arc::new(RealDisk),
            SEGMENT_BYTES,
            place,
            origin,
            signer,
            now_ms,
        )
    }

    /// [`Ledger::init`] on a given disk.
    ///
    /// # Errors
    /// [`InitError::Exists`] if there is one.
    pub fn init_on(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        place: &Place,
        origin: &str,
        signer: &dyn SignsNotes,
        now_ms: u64,
    ) -> Result<(), InitError> {
        let key = Vkey::new(origin, signer.public()).map_err(|NotAVkey| InitError::Origin)?;
        for folder in [&place.journal, &place.log] {
            if !disk.exists(folder)? {
                disk.create_dir(folder)?;
            }
            folder
                .parent()
                .map_or(Ok(()), |parent| disk.sync_dir(parent))?;
        }
        if journal::exists(&*disk, &place.journal)? {
            return Err(InitError::Exists);
        }
        let published = folder::read(&*disk, &place.log.join(publish::CHECKPOINT))?;
        let published = published.and_then(|note| String::from_utf8(note).ok());
        let published = published.and_then(|note| Checkpoint::unverified(&note));
        // Why 1: an `init` that lost power may have come as far as its own checkpoint.
        if published.is_some_and(|checkpoint| checkpoint.size > 1) {
            return Err(InitError::Exists);
        }
        genesis(disk, segment_bytes, place, &key, signer, now_ms)
    }

    /// Opens a ledger and verifies all of it; never makes one. Each leaf is shown to `replay`, in order.
    ///
    /// # Errors
    /// [`OpenError`] for a ledger that is missing, in use, or not what was signed; it is then left as it is.
    pub fn open(
        place: &Place,
        origin: &str,
        signer: Arc<dyn SignsNotes>,
        options: Options,
        replay: &mut dyn FnMut(&Leaf<'_>),
    ) -> Result<Self, OpenError> {
        let disk = options.disk.clone();
        let key = Vkey::new(origin, signer.public()).map_err(|NotAVkey| OpenError::Origin)?;
        if !journal::exists(&*disk, &place.journal)? {
            return Err(OpenError::Missing);
        }
        let lock = match disk.lock(&place.journal.join("lock")) {
            Ok(lock) => Arc::<dyn DiskLock>::from(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(OpenError::Locked);
            }
            Err(error) => return Err(error.into()),
        };
        let keys = vkeys(origin, &*signer);
        let expected = expected(place, &keys, &options)?;
        let recovered = recover::recover(&disk, &place.journal, expected, replay)?;
        let pen = Pen {
            key: key.clone(),
            signer: signer.clone(),
        };
        let head = pen.head(
            &recovered.tree,
            (recovered.end.segment, recovered.end.offset),
        )?;
        let shared = Arc::new(Shared::new(head, recovered.tree));
        let (tree, at) = recovered.settled;
        let reader = Reader::resume(disk.clone(), &place.journal, at)?;
        let mut publisher =
            Publisher::resume(disk.clone(), &place.log, &place.journal, tree, reader);
        match publisher.advance(&shared.head()) {
            Ok(size) => shared.set_published(size),
            Err(PublishError::Mismatch) => return Err(OpenError::Damaged { index: at.index }),
            Err(PublishError::Folder(error)) if error.kind() != io::ErrorKind::StorageFull => {
                return Err(error.into());
            }
            Err(PublishError::Folder(_)) => {}
        }
        let spare = Spare::new(disk.clone(), &place.journal, options.segment_bytes);
        let spare = Arc::new(spare);
        let (orders, taken) = mpsc::sync_channel(QUEUE_ENTRIES_MAX);
        let (chores, done) = mpsc::channel();
        let writer = Writer {
            orders: taken,
            chores: chores.clone(),
            journal: Appender::resume(spare.clone(), recovered.end)?,
            pen,
            shared: shared.clone(),
            clock: options.clock.clone(),
            last_ts_ms: recovered.last_ts_ms,
            reserve_bytes: options.segment_bytes / 4,
            watch: options.watch.clone(),
        };
        let housekeeper = Housekeeper {
            chores: done,
            publisher,
            spare: spare.clone(),
            shared: shared.clone(),
            every: options.publish_every,
        };
        let _ = chores.send(Chore::Spare);
        let threads = Threads {
            writer: spawn("ledger-writer", &lock, || writer.run())?,
            housekeeper: spawn("ledger-keeper", &lock, || housekeeper.run())?,
            _lock: lock,
        };
        Ok(Self(Arc::new(Inner {
            orders,
            chores,
            shared,
            spare,
            folder: Folder::new(disk, &place.log),
            place: place.clone(),
            key,
            signer,
            options,
            threads: Mutex::new(Some(threads)),
        })))
    }

    /// Records a verdict. When this returns `Ok`, the entry survives power loss and its checkpoint is signed.
    ///
    /// # Errors
    /// [`RecordError`]: the verdict is gone and nothing may be done on its account.
    pub async fn record<V: Verdict>(
        &self,
        verdict: V,
        extra: Extra,
        seal: &dyn Seals,
    ) -> Result<Recorded<V>, RecordError> {
        let (draft, openings) = self.draft(verdict.account(), extra, seal)?;
        let receipt = self.enter(draft, Some(openings)).await?;
        Ok(Recorded { verdict, receipt })
    }

    /// Records one of the gateway's own acts, as durably.
    ///
    /// # Errors
    /// [`RecordError`]: it is not recorded.
    pub async fn note(&self, event: Event) -> Result<Receipt, RecordError> {
        let draft = Draft::of_event(event, Some(&self.0.options.gateway))?;
        self.enter(draft, None).await
    }

    /// The checkpoint signed last.
    #[must_use]
    pub fn checkpoint(&self) -> Arc<str> {
        self.0.shared.head().note
    }

    /// The public key that auditors are given.
    #[must_use]
    pub fn vkey(&self) -> Vkey {
        let key = &self.0.key;
        // Why not the one it was opened with: a key may hand over while the gateway serves.
        Vkey::new(key.name(), self.0.signer.public()).unwrap_or_else(|NotAVkey| key.clone())
    }

    /// Records that the key which signs hands over to the one that is announced; both sign the entry. `None` where
    /// none is announced.
    ///
    /// # Errors
    /// [`RecordError`]: it is not recorded.
    pub async fn hand_over(&self) -> Result<Option<Receipt>, RecordError> {
        match handover::entry(self.0.key.name(), &*self.0.signer) {
            Some(event) => self.note(event).await.map(Some),
            None => Ok(None),
        }
    }

    /// The public keys of this log, those before and after the present one too.
    #[must_use]
    pub fn vkeys(&self) -> Vec<Vkey> {
        vkeys(self.0.key.name(), &*self.0.signer)
    }

    /// The journal as it stands now: what is durable and signed, and no byte more.
    #[must_use]
    pub fn frozen(&self) -> Frozen {
        let head = self.0.shared.head();
        let (last, offset) = head.end;
        let file = |number| self.0.place.journal.join(journal::segment_name(number));
        let whole = (1..last).map(|number| (file(number), None));
        Frozen {
            journal: whole.chain([(file(last), Some(offset))]).collect(),
            size: head.size,
            checkpoint: head.note,
        }
    }

    /// How the ledger is.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            size: self.0.shared.head().size,
            published: self.0.shared.published(),
            is_stopped: self.0.shared.is_stopped(),
            has_room: !self.0.spare.is_refused(),
        }
    }

    /// Publishes everything signed so far, now. On return the log folder has it, unless the folder cannot be written.
    pub async fn publish_now(&self) {
        let (done, published) = oneshot::channel();
        if self.0.chores.send(Chore::Publish(done)).is_ok() {
            // Why ignored: a closed ledger has published everything.
            let _ = published.await;
        }
    }

    /// A published file by its C2SP tlog-tiles name: `checkpoint`, `tile/L/N[.p/W]`, `tile/entries/N[.p/W]`.
    /// `None` for what is not there, and for every name that is not exactly one of these.
    ///
    /// # Errors
    /// [`ReadError`] if the folder does not hold what was published.
    pub fn file(&self, path: &str) -> Result<Option<Bytes>, ReadError> {
        self.0.folder.file(path)
    }

    /// Keeps the checkpoint that witnesses have cosigned beside the published one, as `witnessed`. Reads by auditors find it
    /// there, and the next start demands that the ledger still contains it.
    ///
    /// # Errors
    /// The log folder cannot be written.
    pub fn keep_witnessed(&self, note: &str) -> io::Result<()> {
        let path = self.0.place.log.join(publish::WITNESSED);
        publish::write_synced(&*self.0.options.disk, &path, note.as_bytes())
    }

    /// An old entry with its proof under the published checkpoint, opening nothing. Reads files.
    ///
    /// # Errors
    /// [`ReadError`] if the folder does not hold what was published.
    pub fn evidence(&self, index: u64) -> Result<Option<Receipt>, ReadError> {
        self.0.folder.evidence(index)
    }

    /// Proof that a log of `old` entries is a prefix of the published one; `None` if it is not yet, or `old` is 0.
    ///
    /// # Errors
    /// [`ReadError`] if the folder does not hold what was published.
    pub fn consistency(&self, old: u64) -> Result<Option<Consistency>, ReadError> {
        self.0.folder.consistency(old)
    }

    /// RFC 6962 §2.1.2 proof that the log of `old` entries is a prefix of the signed one of `size`, published or not yet;
    /// `None` where `old` is 0 or more than `size`, or so many are not signed.
    ///
    /// # Errors
    /// [`ReadError`] if the folder does not hold what was published.
    pub fn consistency_between(&self, old: u64, size: u64) -> Result<Option<Vec<Hash>>, ReadError> {
        let shared = &self.0.shared;
        if old == 0 || old > size || size > shared.head().size {
            return Ok(None);
        }
        let mut node = |height, index| {
            let kept = shared.tree().node(height, index);
            kept.or_else(|Forgotten| self.0.folder.node(height, index))
        };
        tree::consistency_path(old, size, &mut node).map(Some)
    }

    /// Shows signed entries with their sealed bodies from index `from` on, until `visit` breaks off. Reads files.
    ///
    /// # Errors
    /// [`ReadError`] if the journal does not hold what was signed.
    pub fn scan(
        &self,
        from: u64,
        visit: &mut dyn FnMut(&Leaf<'_>, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let end = self.0.shared.head().size;
        reader::scan(
            self.0.options.disk.clone(),
            &self.0.place.journal,
            from..end,
            visit,
        )
    }

    /// Records what waits, publishes, syncs the log folder and ends. Blocks; other handles then find it stopped.
    pub fn close(self) {
        let threads = self.0.threads.lock();
        let threads = threads.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(threads) = threads {
            // Why ignored: who has ended already needs no telling, and a panic there was reported there.
            let _ = self.0.orders.send(Order::Close);
            let _ = threads.writer.join();
            let _ = self.0.chores.send(Chore::Close);
            let _ = threads.housekeeper.join();
        }
    }

    fn draft(
        &self,
        account: policy::Account,
        extra: Extra,
        seal: &dyn Seals,
    ) -> Result<(Draft, Arc<Openings>), RecordError> {
        let mut dice = [[0; 16]; 3];
        (self.0.options.random)(dice.as_flattened_mut());
        let [first, second, nonce] = dice;
        let mut secret = [0; 32];
        for (to, from) in secret.iter_mut().zip(first.into_iter().chain(second)) {
            *to = from;
        }
        let dice = Dice { secret, nonce };
        Draft::of_account(account, extra, &self.0.options.gateway, seal, &dice)
    }

    async fn enter(
        &self,
        draft: Draft,
        openings: Option<Arc<Openings>>,
    ) -> Result<Receipt, RecordError> {
        if self.0.shared.is_stopped() {
            return Err(RecordError::Stopped);
        }
        let (reply, entered) = oneshot::channel();
        match self.0.orders.try_send(Order::Enter(draft, reply)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(RecordError::Busy),
            Err(TrySendError::Disconnected(_)) => return Err(RecordError::Stopped),
        }
        let entered = entered.await.map_err(|_| RecordError::Stopped)??;
        Ok(Receipt::new(
            entered.index,
            entered.leaf.into(),
            entered.leaf_hash,
            &entered.path,
            (entered.size, &entered.checkpoint),
            openings,
        ))
    }
}

fn spawn(
    name: &str,
    lock: &Arc<dyn DiskLock>,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let lock = lock.clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            run();
            drop(lock);
        })
}

/// Every checkpoint that the journal must explain.
fn expected<'a>(
    place: &Place,
    keys: &'a [Vkey],
    options: &Options,
) -> Result<Expected<'a>, OpenError> {
    let open = |which, note: &[u8]| {
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Form);
        let checkpoint = note.and_then(|note| Checkpoint::open_any(note, keys));
        checkpoint.map_err(|error| OpenError::Checkpoint(which, error))
    };
    let disk = &*options.disk;
    let published = folder::read(disk, &place.log.join(publish::CHECKPOINT))?;
    let published = published.ok_or(OpenError::NoCheckpoint)?;
    let mut known = vec![open("published", &published)?];
    if let Some(note) = folder::read(disk, &place.log.join(publish::WITNESSED))? {
        known.push(open("cosigned", &note)?);
    }
    let mut settled = 0;
    if let Some(note) = folder::read(disk, &place.journal.join(publish::SETTLED))? {
        let checkpoint = open("settled", &note)?;
        settled = checkpoint.size;
        known.push(checkpoint);
    }
    for note in &options.witnessed {
        known.push(open("witnessed", note.as_bytes())?);
    }
    known.retain(|checkpoint| checkpoint.size > 0);
    Ok(Expected {
        keys,
        known,
        settled,
    })
}

/// The log's key, and those before and after it.
fn vkeys(origin: &str, signer: &dyn SignsNotes) -> Vec<Vkey> {
    let publics = signer.publics().into_iter();
    publics
        .filter_map(|public| Vkey::new(origin, public).ok())
        .collect()
}

/// Writes the first entry and its checkpoint, and only then gives the first segment its name.
fn genesis(
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    place: &Place,
    key: &Vkey,
    signer: &dyn SignsNotes,
    now_ms: u64,
) -> Result<(), InitError> {
    let event = Event::new("log.genesis")
        .with("origin", key.name())
        .with("vkey", key.to_string());
    let leaf = Draft::of_event(event, None).map_err(|_| InitError::Origin)?;
    let leaf = leaf.leaf(0, now_ms);
    let checkpoint = Checkpoint {
        origin: key.name().to_owned(),
        size: 1,
        root: tree::leaf_hash(leaf.as_bytes()),
    };
    let note = checkpoint.sign(key, signer);
    publish::write_synced(
        &*disk,
        &place.log.join(publish::CHECKPOINT),
        note.as_bytes(),
    )?;
    let spare = Spare::new(disk, &place.journal, segment_bytes);
    Ok(journal::create(&spare, key.name(), &leaf)?)
}
