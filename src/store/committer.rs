//! The one thread that writes. It takes whatever is queued, appends it, syncs once, applies it, answers all.
//! While one group is being synced the next one queues up: that is the whole of group commit; nobody waits
//! for company. Nothing is acknowledged before the sync, nothing is read before it is applied. After any
//! error of disk or index it writes no more: commits under way are unknown, later ones refused.

use super::commit::Commit;
use super::frame::Kind;
use super::index::{IndexBroken, Mark, Staged};
use super::log::Log;
use super::{BlobRef, Seq, StoreError, WriteSet, index};
use super::{Expect, shared::Shared};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};

/// What is asked of the committer, with its size and where to answer.
pub(super) enum Message {
    Commit(WriteSet, usize, oneshot::Sender<Result<Seq, StoreError>>),
    Put(
        Vec<Bytes>,
        usize,
        oneshot::Sender<Result<Vec<BlobRef>, StoreError>>,
    ),
    Close,
}

const GROUP_MESSAGES_MAX: usize = 1_024;
const GROUP_BYTES_MAX: usize = 8 << 20;

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) log: Log,
    pub(super) seq: u64,
    pub(super) free_floor_bytes: u64,
}

/// The engine cannot go on.
struct Stop;

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        tracing::error!(%error, "the store's disk failed: it writes no more until it is opened again");
        Self
    }
}

impl From<IndexBroken> for Stop {
    fn from(IndexBroken: IndexBroken) -> Self {
        tracing::error!("the store's index failed: it writes no more until it is opened again");
        Self
    }
}

type Answers = Vec<(
    oneshot::Sender<Result<Seq, StoreError>>,
    Result<Seq, StoreError>,
)>;

impl Committer {
    /// Runs until closed and everything queued before is done.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut group = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = first.bytes();
            group.push(first);
            while group.len() < GROUP_MESSAGES_MAX && bytes < GROUP_BYTES_MAX {
                let Ok(next) = queue.try_recv() else { break };
                bytes += next.bytes();
                group.push(next);
            }
            if group
                .iter()
                .any(|message| matches!(message, Message::Close))
            {
                queue.close();
            }
            self.group(std::mem::take(&mut group), bytes);
        }
    }

    fn group(&mut self, group: Vec<Message>, bytes: usize) {
        if let Err(refusal) = self.may_write(bytes) {
            group
                .into_iter()
                .for_each(|message| message.refuse(refusal));
            return;
        }
        let mut answers = Answers::new();
        let outcome = self.write(group, &mut answers);
        if outcome.is_err() {
            self.shared.is_stopped.store(true, Ordering::Release);
        }
        for (reply, answer) in answers {
            // Why unknown for all: a commit of this group may be found whole when the log is read again.
            let _ = reply.send(
                outcome
                    .as_ref()
                    .map_or(Err(StoreError::OutcomeUnknown), |()| answer),
            );
        }
    }

    fn may_write(&self, bytes: usize) -> Result<(), StoreError> {
        if self.shared.is_stopped.load(Ordering::Acquire) {
            return Err(StoreError::Fatal);
        }
        self.shared.segments.has_room(bytes, self.free_floor_bytes)
    }

    fn write(&mut self, group: Vec<Message>, answers: &mut Answers) -> Result<(), Stop> {
        let shared = self.shared.clone();
        let mut staged = Staged::new(&*shared.index, &shared.stamp);
        let before = self.seq;
        let mut messages = group.into_iter();
        for message in messages.by_ref() {
            let done = match message {
                Message::Commit(set, _, reply) => {
                    let answer = self.commit(set, &mut staged);
                    let (answer, done) = answer.map_or_else(
                        |stop| (Err(StoreError::OutcomeUnknown), Err(stop)),
                        |a| (a, Ok(())),
                    );
                    answers.push((reply, answer));
                    done
                }
                Message::Put(blobs, _, reply) => self.put(blobs, reply),
                Message::Close => Ok(()),
            };
            if let Err(stop) = done {
                messages.for_each(|message| message.refuse(StoreError::Fatal));
                return Err(stop);
            }
        }
        if self.seq == before {
            return Ok(());
        }
        self.log.sync()?;
        let mark = Mark {
            at: self.log.end(),
            seq: self.seq,
        };
        shared.apply(staged, mark)?;
        Ok(())
    }

    /// Judges and appends one commit. The outer error is the end, the inner one an answer.
    fn commit(
        &mut self,
        set: WriteSet,
        staged: &mut Staged<'_>,
    ) -> Result<Result<Seq, StoreError>, Stop> {
        if let Some(token) = &set.token
            && let Some(first) = staged.seq_of(token)?
        {
            return Ok(Ok(Seq(first)));
        }
        for write in &set.writes {
            let expected = match write.expect {
                Expect::Any => continue,
                Expect::Absent => None,
                Expect::Version(version) => Some(version),
            };
            if staged.version(&index::row_key(write.table, &write.key))? != expected {
                return Ok(Err(StoreError::Conflict));
            }
        }
        let mut commit = Commit::new(self.seq + 1, 0, set);
        self.log.make_room(commit.encoded_bytes(), self.seq)?;
        commit.durable = self.log.durable();
        self.log.append(Kind::Commit, &commit.to_bytes())?;
        self.seq = commit.seq;
        staged.add(commit)?;
        Ok(Ok(Seq(self.seq)))
    }

    /// Writes blobs so that they can be read; the next commit's sync makes them durable.
    fn put(
        &mut self,
        blobs: Vec<Bytes>,
        reply: oneshot::Sender<Result<Vec<BlobRef>, StoreError>>,
    ) -> Result<(), Stop> {
        let mut refs = Vec::with_capacity(blobs.len());
        for blob in blobs {
            match self.put_one(&blob) {
                Ok(blob) => refs.push(blob),
                Err(error) => {
                    let _ = reply.send(Err(StoreError::Fatal));
                    return Err(error.into());
                }
            }
        }
        let outcome = self.log.write();
        let _ = reply.send(
            outcome
                .as_ref()
                .map_or(Err(StoreError::Fatal), |()| Ok(refs)),
        );
        Ok(outcome?)
    }

    fn put_one(&mut self, blob: &Bytes) -> io::Result<BlobRef> {
        self.log.make_room(blob.len(), self.seq)?;
        let at = self.log.append(Kind::Blob, blob)?;
        let length = u32::try_from(blob.len()).map_err(io::Error::other)?;
        Ok(BlobRef {
            segment: at.segment,
            offset: at.offset,
            length,
        })
    }
}

impl Message {
    fn bytes(&self) -> usize {
        match self {
            Self::Commit(_, bytes, _) | Self::Put(_, bytes, _) => *bytes,
            Self::Close => 0,
        }
    }

    fn refuse(self, error: StoreError) {
        // Why ignored: whoever dropped its future does not wait for the answer.
        let _ = match self {
            Self::Commit(_, _, reply) => reply.send(Err(error)).is_err(),
            Self::Put(_, _, reply) => reply.send(Err(error)).is_err(),
            Self::Close => false,
        };
    }
}
