//! Each client's budget and share of the queue, taken before anything is decided: nobody can grow the ledger
//! or starve care with refusals. What is over the budget is counted, and the heartbeat says how much it was.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::{
    ANSWERS_BYTES, ANSWERS_BYTES_OF_ONE, BODIES_BYTES, BODIES_BYTES_OF_ONE, REQUESTS_BURST,
    REQUESTS_PER_SECOND, UNDER_WAY_MAX,
};

/// The budgets of all clients.
pub struct Budgets {
    purses: Mutex<HashMap<String, Purse>>,
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
    over: AtomicU64,
    strangers: AtomicU64,
}

/// Room for bodies and answers is counted in pieces of this many bytes.
const PIECE_BYTES: usize = 64 * 1024;

impl Default for Budgets {
    fn default() -> Self {
        Self {
            purses: Mutex::default(),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES / PIECE_BYTES)),
            answers: Arc::new(Semaphore::new(ANSWERS_BYTES / PIECE_BYTES)),
            over: AtomicU64::new(0),
            strangers: AtomicU64::new(0),
        }
    }
}

/// Room for one body or answer, until it is dropped.
pub struct Place(#[allow(dead_code, reason = "held for its Drop")] [OwnedSemaphorePermit; 2]);

struct Purse {
    /// Thousandths of a request.
    left: u64,
    filled_ms: u64,
    share: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

/// The right to one request: held until it is answered.
pub struct Turn(#[allow(dead_code, reason = "held for its Drop")] OwnedSemaphorePermit);

/// The client asked for more than its budget.
#[derive(Debug)]
pub struct Spent;

impl Budgets {
    /// Takes one request out of this client's budget.
    ///
    /// # Errors
    /// There is none left, or too many are under way.
    pub fn take(&self, client: &str, now_ms: u64) -> Result<Turn, Spent> {
        let burst = u64::from(REQUESTS_BURST) * 1000;
        let share = {
            let mut purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
            let purse = purses.entry(client.to_owned()).or_insert_with(|| Purse {
                left: burst,
                filled_ms: now_ms,
                share: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
                bodies: Arc::new(Semaphore::new(BODIES_BYTES_OF_ONE / PIECE_BYTES)),
                answers: Arc::new(Semaphore::new(ANSWERS_BYTES_OF_ONE / PIECE_BYTES)),
            });
            let earned = now_ms
                .saturating_sub(purse.filled_ms)
                .saturating_mul(u64::from(REQUESTS_PER_SECOND));
            purse.left = purse.left.saturating_add(earned).min(burst);
            purse.filled_ms = purse.filled_ms.max(now_ms);
            if purse.left < 1000 {
                None
            } else {
                purse.left -= 1000;
                Some(Arc::clone(&purse.share))
            }
        };
        let permit = share.and_then(|share| share.try_acquire_owned().ok());
        permit.map(Turn).ok_or_else(|| {
            self.over.fetch_add(1, Ordering::Relaxed);
            Spent
        })
    }

    /// Waits until there is room for a body of this client, of its own share and of all.
    pub async fn room(&self, client: &str, bytes: usize) -> Option<Place> {
        let pieces = u32::try_from(bytes / PIECE_BYTES + 1).ok()?;
        let own = {
            let purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&purses.get(client)?.bodies)
        };
        let own = own.acquire_many_owned(pieces).await.ok()?;
        let all = Arc::clone(&self.bodies)
            .acquire_many_owned(pieces)
            .await
            .ok()?;
        Some(Place([own, all]))
    }

    /// Room for an answer until it is sent. Why nothing waits here: what waits is in memory already.
    ///
    /// # Errors
    /// The client, or all together, let too much stand that they asked for.
    pub fn answer(&self, client: &str, bytes: u64) -> Result<Place, Spent> {
        let own = {
            let purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
            purses.get(client).map(|purse| Arc::clone(&purse.answers))
        };
        let room = || {
            let pieces = u32::try_from(bytes / PIECE_BYTES as u64 + 1).ok()?;
            let own = own?.try_acquire_many_owned(pieces).ok()?;
            let all = Arc::clone(&self.answers).try_acquire_many_owned(pieces);
            Some(Place([own, all.ok()?]))
        };
        room().ok_or_else(|| {
            self.over.fetch_add(1, Ordering::Relaxed);
            Spent
        })
    }

    /// Counts a connection that no registered certificate made.
    pub fn stranger(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were over a budget, and how many strangers came, since the last time this was asked.
    pub fn counted(&self) -> (u64, u64) {
        (
            self.over.swap(0, Ordering::Relaxed),
            self.strangers.swap(0, Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn a_spent_budget_refuses_until_time_passes_and_leaves_others_alone() {
        let budgets = Budgets::default();
        for _ in 0..REQUESTS_BURST {
            drop(budgets.take("a", 0).unwrap());
        }
        assert!(budgets.take("a", 0).is_err());
        assert!(budgets.take("b", 0).is_ok());
        assert!(budgets.take("a", 1000).is_ok());
        assert_eq!(budgets.counted(), (1, 0));
        assert_eq!(budgets.counted(), (0, 0));
    }

    #[test]
    fn a_client_has_no_more_than_its_share_under_way() {
        let budgets = Budgets::default();
        let held: Vec<_> = (0..UNDER_WAY_MAX)
            .map(|_| budgets.take("a", 0).unwrap())
            .collect();
        assert!(budgets.take("a", 0).is_err());
        drop(held);
        assert!(budgets.take("a", 0).is_ok());
    }

    #[test]
    fn answers_that_nobody_takes_have_a_bound_and_small_ones_none_but_the_clients_share() {
        const PAGE: u64 = 24 * 1024 * 1024;
        let budgets = Budgets::default();
        let turns: Vec<_> = (0..UNDER_WAY_MAX)
            .map(|_| budgets.take("a", 0).unwrap())
            .collect();
        let small: Vec<_> = turns.iter().map(|_| budgets.answer("a", 4_096)).collect();
        assert!(small.iter().all(Result::is_ok));
        drop(small);
        let held: Vec<_> = (0..)
            .map_while(|_| budgets.answer("a", PAGE).ok())
            .collect();
        assert_eq!(held.len(), 10, "of one client");
        assert!(budgets.answer("a", 0).is_ok(), "a small one still fits");
        let others: Vec<String> = (0..8).map(|n| n.to_string()).collect();
        let mut all = held;
        for other in &others {
            drop(budgets.take(other, 0).unwrap());
            all.extend((0..).map_while(|_| budgets.answer(other, PAGE).ok()));
        }
        assert_eq!(all.len(), 42, "of all");
        drop(all);
        assert!(budgets.answer("a", PAGE).is_ok());
        assert!(budgets.answer("stranger", 0).is_err());
    }

    #[test]
    fn a_clock_that_goes_back_earns_nothing() {
        let budgets = Budgets::default();
        for _ in 0..REQUESTS_BURST {
            drop(budgets.take("a", 10_000).unwrap());
        }
        assert!(budgets.take("a", 0).is_err());
        assert!(budgets.take("a", 10_000).is_err());
    }
}
