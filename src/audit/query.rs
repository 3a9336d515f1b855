//! What an auditor looks for. What stands in clear is looked at first: most entries are never parsed.

use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::{Entry, Keys};
use super::mirror::Mirror;
use crate::ledger::Leaf;

/// A search: every member that is given must fit.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// What happened: `record.release`, or `record.` for all that begin so.
    pub event: Option<String>,
    /// `permit` or `refuse`.
    pub outcome: Option<String>,
    /// From this time on, milliseconds.
    pub since_ms: Option<u64>,
    /// Before this time, milliseconds.
    pub until_ms: Option<u64>,
    /// NHS number.
    pub patient: Option<String>,
    /// The practitioner's id in the directory of the organisation.
    pub practitioner: Option<String>,
    /// ODS code of the organisation that asked.
    pub organisation: Option<String>,
    /// PurposeOfUse code.
    pub purpose: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
}

impl Query {
    /// Whether it asks for what stands in bodies only.
    #[must_use]
    pub const fn needs_bodies(&self) -> bool {
        self.patient.is_some()
            || self.practitioner.is_some()
            || self.organisation.is_some()
            || self.purpose.is_some()
            || self.rule.is_some()
    }

    /// A quick look at the leaf's text. Never wrong when it says no.
    fn may_fit(&self, leaf: &Leaf<'_>) -> bool {
        let mentions = |member: &str, value: &Option<String>, end: &str| {
            value.as_ref().is_none_or(|value| {
                leaf.text()
                    .contains(&format!("\"{member}\":\"{value}{end}"))
            })
        };
        let begins = self
            .event
            .as_ref()
            .is_some_and(|event| event.ends_with('.'));
        mentions("ev", &self.event, if begins { "" } else { "\"" })
            && mentions("out", &self.outcome, "\"")
            && leaf.ts_ms().is_none_or(|ts_ms| {
                self.since_ms.is_none_or(|since| since <= ts_ms)
                    && self.until_ms.is_none_or(|until| ts_ms < until)
            })
    }

    fn fits(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == value)
        };
        let event = self.event.as_ref().is_none_or(|event| {
            entry.event() == event || (event.ends_with('.') && entry.event().starts_with(event))
        });
        event
            && is(&self.outcome, entry.outcome())
            && is(&self.patient, entry.patient())
            && is(&self.practitioner, entry.said("actor", "practitioner"))
            && is(&self.organisation, entry.said("actor", "organisation"))
            && is(&self.purpose, entry.said("context", "purpose"))
            && is(&self.rule, entry.said("context", "rule"))
    }

    /// Every entry that fits, in order, and how many could not be looked into for want of a key.
    ///
    /// # Errors
    /// Which file of the mirror is missing or damaged.
    pub fn run(&self, mirror: &Mirror, keys: &Keys) -> Result<(Vec<Entry>, u64), String> {
        let closed = AtomicU64::new(0);
        let pick = |leaves: &[Leaf<'_>]| {
            let bodies = mirror.bodies(leaves);
            let looked = leaves.iter().filter(|leaf| self.may_fit(leaf));
            let read = looked.map(|leaf| Entry::read(leaf, keys, &|| bodies.of(leaf.index())));
            let fits = |entry: &Entry| {
                let is_closed = entry.plain.is_none() && entry.leaf.contains_key("b");
                if is_closed {
                    closed.fetch_add(1, Ordering::Relaxed);
                }
                self.fits(entry)
            };
            read.filter(fits).collect()
        };
        let found = crate::ledger::audit::gather(mirror.log(), mirror.size()?, &pick)?;
        Ok((found, closed.into_inner()))
    }
}
