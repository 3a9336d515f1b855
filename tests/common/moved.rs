//! A world under a clock that the test moves, and the entries it leaves behind.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

pub const HOUR_MS: u64 = 3_600_000;

/// A world under a clock that the test moves.
pub struct Moved {
    pub served: Served,
    pub dir: TempDir,
    ahead_ms: Arc<AtomicU64>,
}

impl Moved {
    pub async fn new() -> Self {
        let (dir, _) = Stage::new().await.stop().await;
        let ahead_ms = Arc::new(AtomicU64::new(0));
        let served = Served::open_at(dir.path(), None, clock(&ahead_ms))
            .await
            .unwrap();
        Self {
            served,
            dir,
            ahead_ms,
        }
    }

    pub fn party(&self, name: &str) -> Party {
        party_at(self.dir.path(), name)
    }

    pub fn pass(&self, hours: u64) {
        self.ahead_ms.fetch_add(hours * HOUR_MS, Ordering::SeqCst);
    }

    pub fn now_s(&self) -> u64 {
        clock(&self.ahead_ms).now_s()
    }

    pub async fn token(&self, name: &str, details: &Value) -> String {
        self.party(name)
            .token(details, self.now_s())
            .await
            .expect("a token")
    }

    pub async fn ask(&self, name: &str, details: &Value) -> Reply {
        self.party(name).ask(details, self.now_s()).await.unwrap()
    }

    /// One request in JSON with a token for these details.
    pub async fn json(
        &self,
        name: &str,
        details: &Value,
        (method, path): (Method, &str),
        body: &Value,
    ) -> Reply {
        let token = self.token(name, details).await;
        let text = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        send(&self.party(name), method, path, &token, text).await
    }
}

fn clock(ahead_ms: &Arc<AtomicU64>) -> Clock {
    let ahead_ms = Arc::clone(ahead_ms);
    let system = Clock::system();
    Clock::from_fn(move || system.now_ms() + ahead_ms.load(Ordering::SeqCst))
}

/// The entries of one event, of a stopped world.
pub fn events(dir: &Path, vkey: &sallyport::ledger::Vkey, event: &str) -> Vec<Value> {
    let leaves = entries(dir, vkey).into_values();
    let leaves = leaves.map(|leaf| serde_json::from_str::<Value>(&leaf).unwrap());
    leaves.filter(|leaf| leaf["ev"] == event).collect()
}
