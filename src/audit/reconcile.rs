//! Receipts held against the log: what a hospital was told was recorded must stand there, to the letter.

use serde_json::Value;

use super::mirror::Mirror;
use crate::ledger::{Leaf, check};

/// What became of one receipt.
#[derive(Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// The log holds the entry at this index, byte for byte.
    Held(u64),
    /// The receipt itself proves nothing: why.
    NotAReceipt(String),
    /// It is signed, and the log is shorter: entries were taken away, or this copy is older than the receipt.
    Beyond(u64),
    /// It is signed, and the log has another entry in its place: history was rewritten.
    Other(u64),
}

/// Holds receipts in their wire form against the log; the answers come in the receipts' order.
///
/// # Errors
/// Which file of the log is missing or damaged.
pub fn reconcile(
    mirror: &Mirror,
    key: &crate::ledger::Vkey,
    receipts: &[Value],
) -> Result<Vec<Reconciled>, String> {
    let size = mirror.size()?;
    let checked: Vec<_> = receipts.iter().map(|receipt| check(receipt, key)).collect();
    let mut wanted: Vec<u64> = checked.iter().flatten().map(|it| it.index).collect();
    wanted.sort_unstable();
    let pick = |leaves: &[Leaf<'_>]| {
        let wanted = |leaf: &&Leaf<'_>| wanted.binary_search(&leaf.index()).is_ok();
        let found = leaves.iter().filter(wanted);
        found.map(|leaf| (leaf.index(), leaf.hash())).collect()
    };
    let found = crate::ledger::audit::gather(mirror.log(), size, &pick)?;
    let became = |checked: &Result<crate::ledger::Evidence, _>| match checked {
        Err(error) => Reconciled::NotAReceipt(format!("{error}")),
        Ok(evidence) if evidence.index >= size => Reconciled::Beyond(evidence.index),
        Ok(evidence) => {
            let at = found.binary_search_by_key(&evidence.index, |(index, _)| *index);
            let hash = at.ok().and_then(|at| found.get(at)).map(|(_, hash)| *hash);
            if hash == Some(evidence.leaf_hash) {
                Reconciled::Held(evidence.index)
            } else {
                Reconciled::Other(evidence.index)
            }
        }
    };
    Ok(checked.iter().map(became).collect::<Vec<Reconciled>>())
}
