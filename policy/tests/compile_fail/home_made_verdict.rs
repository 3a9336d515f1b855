//! The ledger records grants and refusals, and nothing that calls itself a verdict.
use policy::{Account, Verdict};

struct Fine(Account);

impl Verdict for Fine {
    fn account(&self) -> Account {
        self.0.clone()
    }
}

fn main() {}
