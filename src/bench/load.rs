//! Load: so many clients at once, each asking again as soon as it is answered. Latencies are of whole answers,
//! read to their last byte; what is not a success is counted and never timed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::connect::Party;

/// How many at once, for how long.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) clients: usize,
    pub(super) seconds: Duration,
}

/// What came of it.
pub(super) struct Figures {
    pub(super) per_second: f64,
    failed: usize,
    /// What the first of them was.
    failure: Option<String>,
    bytes: usize,
    latencies_us: Vec<u64>,
}

impl Figures {
    fn new(mut latencies_us: Vec<u64>, failed: usize, bytes: usize, elapsed: Duration) -> Self {
        latencies_us.sort_unstable();
        let per_second = latencies_us.len() as f64 / elapsed.as_secs_f64();
        Self {
            per_second,
            failed,
            failure: None,
            bytes,
            latencies_us,
        }
    }

    pub(super) fn quantile_ms(&self, part: f64) -> f64 {
        let last = self.latencies_us.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        self.latencies_us
            .get(at)
            .map_or(0.0, |us| (*us as f64 / 10.0).round() / 100.0)
    }

    /// Bytes of one answer.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn to_json(&self) -> Value {
        let mut value = json!({
            "per_second": self.per_second.round(), "p50_ms": self.quantile_ms(0.5), "p99_ms": self.quantile_ms(0.99),
            "answers": self.latencies_us.len(), "failed": self.failed, "bytes": self.bytes,
        });
        if let (Value::Object(members), Some(text)) = (&mut value, &self.failure) {
            members.insert("first_failure".to_owned(), json!(text));
        }
        value
    }
}

impl Load {
    /// Does each of `count` jobs once.
    pub(super) async fn each<T, F, W>(self, count: usize, job: F) -> (Figures, Vec<T>)
    where
        T: Send + 'static,
        F: Fn(usize) -> W + Clone + Send + 'static,
        W: Future<Output = Option<(T, usize)>> + Send,
    {
        let next = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..self.clients {
            let (next, job) = (Arc::clone(&next), job.clone());
            clients.spawn(async move {
                let (mut done, mut latencies, mut failed) = (Vec::new(), Vec::new(), 0);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return (done, latencies, failed);
                    }
                    let asked = Instant::now();
                    match job(n).await {
                        Some((value, _)) => {
                            latencies.push(micros(asked.elapsed()));
                            done.push((n, value));
                        }
                        None => failed += 1,
                    }
                }
            });
        }
        let (mut all, mut latencies, mut failed) = (Vec::new(), Vec::new(), 0);
        while let Some(client) = clients.join_next().await {
            if let Ok((done, more, not)) = client {
                all.extend(done);
                latencies.extend(more);
                failed += not;
            }
        }
        all.sort_by_key(|(n, _)| *n);
        let figures = Figures::new(latencies, failed, 0, began.elapsed());
        (figures, all.into_iter().map(|(_, value)| value).collect())
    }

    /// Asks these paths round and round, each with its own token, until the time is up.
    pub(super) async fn for_seconds(
        self,
        party: &Arc<Party>,
        asks: Vec<(String, String)>,
    ) -> Figures {
        let (stop, stopped) = watch::channel(false);
        let timer = async {
            tokio::time::sleep(self.seconds).await;
            stop.send_replace(true);
        };
        tokio::join!(self.until(party, asks, stopped), timer).0
    }

    /// Asks them until it is told to stop.
    pub(super) async fn until(
        self,
        party: &Arc<Party>,
        asks: Vec<(String, String)>,
        stopped: watch::Receiver<bool>,
    ) -> Figures {
        let (asks, next) = (Arc::new(asks), Arc::new(AtomicUsize::new(0)));
        let began = Instant::now();
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..self.clients {
            let (party, asks, next) = (Arc::clone(party), Arc::clone(&asks), Arc::clone(&next));
            let stopped = stopped.clone();
            clients.spawn(async move {
                let (mut latencies, mut failed, mut bytes) = (Vec::new(), Vec::new(), 0);
                while !*stopped.borrow() {
                    let n = next.fetch_add(1, Ordering::Relaxed) % asks.len().max(1);
                    let Some((path, token)) = asks.get(n) else {
                        break;
                    };
                    let asked = Instant::now();
                    match party.read(path, token).await {
                        Ok(reply) if reply.status == StatusCode::OK => {
                            latencies.push(micros(asked.elapsed()));
                            bytes = reply.body.len();
                        }
                        Ok(reply) => failed.push(format!("{} {}", reply.status, reply.text())),
                        Err(error) => failed.push(error.to_string()),
                    }
                }
                (latencies, failed, bytes)
            });
        }
        let (mut latencies, mut failed, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(client) = clients.join_next().await {
            if let Ok((more, not, size)) = client {
                latencies.extend(more);
                failed.extend(not);
                bytes = bytes.max(size);
            }
        }
        let figures = Figures::new(latencies, failed.len(), bytes, began.elapsed());
        Figures {
            failure: failed.into_iter().next(),
            ..figures
        }
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}
