//! The one thread that writes. It takes what is queued, appends it as one group, syncs once, extends the tree, signs
//! once and answers all: in this order, so that nothing is signed, let alone answered, that is not durable.
//! Leaves come as drafts; the writer gives only index and time, and hashes the very bytes it wrote.
//! After any error it answers nobody and ends: the ledger is stopped until it is reopened, which checks everything.

use super::RecordError;
use super::Watch;
use super::draft::{Draft, NUMBERS_BYTES};
use super::journal::{self, Appender, Group};
use super::leaf::Leaf;
use super::note::{Checkpoint, SignsNotes, Vkey};
use super::publish::Chore;
use super::tree::{Forgotten, Hash, Keep, Tree, leaf_hash};
use crate::clock::Clock;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Entries in a group at most. More wait for the next: a bound on what one caller waits for another.
pub(super) const GROUP_ENTRIES_MAX: usize = 1024;
/// Bytes of a group at most, one entry excepted.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Entries whose nodes are kept until they are published: 64 MiB of memory where the log folder cannot be written.
const UNPUBLISHED_MAX: u64 = 1 << 20;

/// What callers ask of the writer.
pub(super) enum Order {
    Enter(Draft, Reply),
    /// Answer what is queued and end.
    Close,
}

pub(super) type Reply = oneshot::Sender<Result<Entered, RecordError>>;

/// An entry that stands.
pub(super) struct Entered {
    pub(super) index: u64,
    pub(super) leaf: String,
    pub(super) leaf_hash: Hash,
    pub(super) path: Vec<Hash>,
    pub(super) size: u64,
    pub(super) checkpoint: Arc<str>,
}

/// What is signed last.
#[derive(Clone)]
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) root: Hash,
    pub(super) note: Arc<str>,
    /// Where the journal ends that it signs: segment and offset.
    pub(super) end: (u32, u64),
}

/// What all parts of a running ledger look at.
pub(super) struct Shared {
    head: Mutex<Head>,
    /// Over all that is durable; of what is published the right edge alone.
    tree: Mutex<Tree>,
    published: AtomicU64,
    stopped: AtomicBool,
}

impl Shared {
    pub(super) fn new(head: Head, tree: Tree) -> Self {
        Self {
            head: Mutex::new(head),
            tree: Mutex::new(tree),
            published: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn head(&self) -> Head {
        let head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        head.clone()
    }

    pub(super) fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_head(&self, head: Head) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }

    pub(super) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(super) fn set_published(&self, size: u64) {
        self.published.store(size, Ordering::Relaxed);
    }

    /// Final until the ledger is reopened.
    pub(super) fn stop(&self, why: &str) {
        self.stopped.store(true, Ordering::SeqCst);
        tracing::error!(why, "the ledger stops until it is reopened");
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// The signer, and the log's name and key.
pub(super) struct Pen {
    pub(super) key: Vkey,
    pub(super) signer: Arc<dyn SignsNotes>,
}

impl Pen {
    /// Signs the head of a tree.
    pub(super) fn head(&self, tree: &Tree, end: (u32, u64)) -> Result<Head, Forgotten> {
        let (size, root) = (tree.size(), tree.root()?);
        let origin = self.key.name().to_owned();
        let checkpoint = Checkpoint { origin, size, root };
        let note = checkpoint.sign(&self.key, &*self.signer).into();
        Ok(Head {
            size,
            root,
            note,
            end,
        })
    }
}

pub(super) struct Writer {
    pub(super) orders: Receiver<Order>,
    pub(super) chores: Sender<Chore>,
    pub(super) journal: Appender,
    pub(super) pen: Pen,
    pub(super) shared: Arc<Shared>,
    pub(super) clock: Clock,
    pub(super) last_ts_ms: u64,
    /// Bytes of a last segment that only emergencies and stopping may use.
    pub(super) reserve_bytes: u64,
    pub(super) watch: Watch,
}

#[derive(Debug, thiserror::Error)]
enum CommitError {
    #[error("the journal: {0}")]
    Disk(#[from] io::Error),
    #[error("the tree: {0}")]
    Tree(#[from] Forgotten),
}

/// Where a draft can go.
enum Fit {
    /// Into this group.
    Here,
    /// Into the next segment.
    Next,
    /// Nowhere: the disk is full.
    Nowhere,
}

type Job = (Draft, Reply);
/// An entry's index, its leaf hash and the path to the root.
type Proven = (u64, Hash, Vec<Hash>);

impl Writer {
    /// Serves until told to close, until the last handle is gone, or until an error.
    pub(super) fn run(mut self) {
        let mut open = true;
        while open {
            let jobs;
            (jobs, open) = self.take();
            if self.shared.is_stopped() {
                return;
            }
            if let Err(error) = self.enter(jobs) {
                self.shared.stop(&error.to_string());
                return;
            }
        }
    }

    /// Waits for one order and takes what else is queued. Why no longer wait: while one group is being synced the
    /// next one gathers, so that groups grow exactly as fast as the disk is slow.
    fn take(&self) -> (VecDeque<Job>, bool) {
        let mut jobs = VecDeque::new();
        let mut bytes = 0;
        let mut next = self.orders.recv().ok();
        while let Some(Order::Enter(draft, reply)) = next {
            bytes += draft.body.len();
            jobs.push_back((draft, reply));
            if jobs.len() >= GROUP_ENTRIES_MAX || bytes >= GROUP_BYTES_MAX {
                return (jobs, true);
            }
            match self.orders.try_recv() {
                Ok(order) => next = Some(order),
                Err(_) => return (jobs, true),
            }
        }
        (jobs, false)
    }

    fn enter(&mut self, mut jobs: VecDeque<Job>) -> Result<(), CommitError> {
        while !jobs.is_empty() {
            let mut batch = Batch::new(self);
            while let Some((draft, reply)) = jobs.pop_front() {
                match self.fit(&draft, &batch) {
                    Fit::Here => batch.add(draft, reply),
                    Fit::Next => {
                        jobs.push_front((draft, reply));
                        break;
                    }
                    Fit::Nowhere => {
                        // Why ignored, here and below: the caller may have hung up, which changes nothing.
                        let _ = reply.send(Err(RecordError::Full));
                    }
                }
            }
            if batch.waiting.is_empty() {
                self.roll_for(&mut jobs)?;
            } else {
                self.commit(batch)?;
            }
        }
        Ok(())
    }

    fn fit(&self, draft: &Draft, batch: &Batch) -> Fit {
        let needed = draft.journal_bytes();
        let taken = batch.group.bytes().len() as u64;
        let room = self.journal.room().saturating_sub(taken);
        let spare = self.journal.has_spare();
        let for_all = room.saturating_sub(self.reserve_bytes);
        if needed <= room && (spare || draft.reserve || needed <= for_all) {
            Fit::Here
        } else if spare
            && needed + journal::checkpoint_bytes(&batch.note) <= self.journal.capacity()
        {
            Fit::Next
        } else {
            Fit::Nowhere
        }
    }

    /// Turns to the next segment. If the spare is gone after all, the disk is full for the one who needed it.
    fn roll_for(&mut self, jobs: &mut VecDeque<Job>) -> Result<(), CommitError> {
        if jobs.is_empty() {
            return Ok(());
        }
        if !self.journal.roll()?
            && let Some((_, reply)) = jobs.pop_front()
        {
            let _ = reply.send(Err(RecordError::Full));
        }
        // Why ignored: without its housekeeper the ledger goes on until there is no room left.
        let _ = self.chores.send(Chore::Spare);
        Ok(())
    }

    // INVARIANT: append (write and sync), then tree, then signature, then answers. STYLE §14.7 in its only place.
    fn commit(&mut self, batch: Batch) -> Result<(), CommitError> {
        self.journal.append(&batch.group)?;
        self.last_ts_ms = batch.ts_ms;
        let (head, proven) = self.extend(&batch)?;
        self.shared.set_head(head.clone());
        for ((index, leaf_hash, path), waiting) in proven.into_iter().zip(batch.waiting) {
            // Why before the answer: whoever has the answer may ask what the watch knows.
            (self.watch)(&Leaf::new(index, &waiting.leaf));
            let entered = Entered {
                index,
                leaf_hash,
                leaf: waiting.leaf,
                path,
                size: head.size,
                checkpoint: head.note.clone(),
            };
            let _ = waiting.reply.send(Ok(entered));
        }
        Ok(())
    }

    /// The tree with this group, signed, and what proves each of its entries.
    fn extend(&self, batch: &Batch) -> Result<(Head, Vec<Proven>), CommitError> {
        let mut tree = self.shared.tree();
        let first = tree.size();
        let mut hashes = Vec::with_capacity(batch.waiting.len());
        for waiting in &batch.waiting {
            let leaf = batch.group.bytes().get(waiting.leaf_at.clone());
            let hash = leaf_hash(leaf.unwrap_or_default());
            tree.push(hash)?;
            hashes.push(hash);
        }
        let head = self.pen.head(&tree, self.journal.end())?;
        let proven = (first..).zip(hashes);
        let proven = proven.map(|(index, hash)| Ok((index, hash, tree.path(index)?)));
        let proven = proven.collect::<Result<_, Forgotten>>()?;
        let behind = head.size.saturating_sub(UNPUBLISHED_MAX);
        tree.trim(Keep::Since(self.shared.published().max(behind)));
        Ok((head, proven))
    }
}

/// One group on its way.
struct Batch {
    group: Group,
    note: Arc<str>,
    waiting: Vec<Waiting>,
    next_index: u64,
    ts_ms: u64,
}

struct Waiting {
    leaf: String,
    leaf_at: Range<usize>,
    reply: Reply,
}

impl Batch {
    /// A group that opens with the checkpoint of the one before it.
    fn new(writer: &Writer) -> Self {
        let mut group = writer.journal.group();
        let note = writer.shared.head().note;
        group.checkpoint(&note);
        Self {
            group,
            note,
            waiting: Vec::new(),
            next_index: writer.shared.head().size,
            // Why max: a clock that goes back must not make time in the ledger go back.
            ts_ms: writer.clock.now_ms().max(writer.last_ts_ms),
        }
    }

    fn add(&mut self, draft: Draft, reply: Reply) {
        let leaf = draft.leaf(self.next_index, self.ts_ms);
        let leaf_at = self.group.entry(&leaf, &draft.body);
        self.next_index += 1;
        let waiting = Waiting {
            leaf,
            leaf_at,
            reply,
        };
        self.waiting.push(waiting);
    }
}

impl Draft {
    fn journal_bytes(&self) -> u64 {
        journal::entry_bytes(self.leaf_bytes() + NUMBERS_BYTES, self.body.len())
    }
}
