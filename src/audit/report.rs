//! The questions that auditors really ask, each one a command: who looked at this patient, all emergencies, what was
//! refused and why, accesses that only the asker vouches for, what was done to keys, whether objections were honoured,
//! who received a record that should not have been shared.

use std::collections::BTreeMap;

use super::entry::{Entry, Keys};
use super::mirror::Mirror;
use super::query::Query;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Who looked at the patient, or tried to.
    Patient,
    /// Every declared emergency.
    BreakGlass,
    /// Refusals, counted by rule and organisation.
    Refusals,
    /// Releases without a relationship that somebody else than the asker states.
    Uncorroborated,
    /// What administrators did, and what was done with keys.
    Administration,
    /// Requests that an objection stopped, and emergencies that overrode one.
    Objections,
    /// Who received a record: `--record TYPE/ID`, or its own id.
    Recall,
    /// Accesses by one person or organisation, counted by patient.
    Volume,
    /// Accesses to oneself, to the same surname or address, to colleagues, VIPs and the dead, and too many of them, each
    /// with its explanation found or missing: `--register FILE`.
    Unusual,
}

/// An answer: entries, or counts, and what could not be looked into.
pub struct Report {
    /// The entries that answer, in order.
    pub entries: Vec<Entry>,
    /// Counted groups, largest first: what is counted, and how many.
    pub counts: Vec<(String, u64)>,
    /// Entries that no disclosed key opens: the answer says nothing of them.
    pub closed: u64,
}

impl Kind {
    fn is_counted(self) -> bool {
        matches!(self, Self::Refusals | Self::Volume)
    }

    /// What stands in clear of the entries that can answer.
    fn narrow(self, query: &Query) -> Query {
        let mut query = query.clone();
        match self {
            Self::Refusals | Self::Objections => query.outcome = Some("refuse".to_owned()),
            Self::Uncorroborated | Self::Recall | Self::Volume => {
                query.event = Some("record.release".to_owned());
            }
            Self::Patient | Self::BreakGlass | Self::Administration | Self::Unusual => {}
        }
        query
    }

    fn answers(self, entry: &Entry, records: &[String]) -> bool {
        match self {
            Self::Patient | Self::Refusals | Self::Volume | Self::Unusual => true,
            Self::BreakGlass => entry.is_emergency() && entry.event().starts_with("record."),
            Self::Uncorroborated => {
                ["asserted", "none"].contains(&entry.said("context", "evidence"))
            }
            Self::Administration => ["admin.", "kek.", "key.", "signing.", "policy.", "gateway."]
                .iter()
                .any(|family| entry.event().starts_with(family)),
            Self::Objections => entry.said("context", "rule").contains("objection"),
            Self::Recall => entry.records().iter().any(|named| {
                let id = named.split_once('.').map_or(*named, |(id, _)| id);
                records.iter().any(|record| record == named || record == id)
            }),
        }
    }

    fn group(self, entry: &Entry) -> String {
        let organisation = entry.said("actor", "organisation");
        match self {
            Self::Volume => format!(
                "{organisation} {} looked at {}",
                entry.said("actor", "practitioner"),
                entry.patient()
            ),
            _ => format!(
                "{} {organisation} {}",
                entry.event(),
                entry.said("context", "rule")
            ),
        }
    }
}

/// Answers a question about the entries that `query` also fits.
///
/// # Errors
/// Which file of the mirror is missing or damaged; a question that lacks what it is about.
pub fn report(
    kind: Kind,
    query: &Query,
    record: Option<&str>,
    (mirror, keys): (&Mirror, &Keys),
) -> Result<Report, String> {
    if kind == Kind::Patient && query.patient.is_none() {
        return Err("patient: name the patient with --patient".to_owned());
    }
    if kind == Kind::Unusual {
        return Err("unusual: name the register of staff and patients with --register".to_owned());
    }
    if kind == Kind::Recall && record.is_none() {
        return Err("recall: name the record with --record".to_owned());
    }
    let wanted = match record {
        Some(record) if record.contains('/') => ids_of(record, query, (mirror, keys))?,
        Some(record) => vec![record.to_owned()],
        None => Vec::new(),
    };
    let (found, closed) = kind.narrow(query).run(mirror, keys)?;
    let entries: Vec<Entry> = found
        .into_iter()
        .filter(|entry| kind.answers(entry, &wanted))
        .collect();
    if !kind.is_counted() {
        let counts = Vec::new();
        return Ok(Report {
            entries,
            counts,
            closed,
        });
    }
    let mut groups: BTreeMap<String, u64> = BTreeMap::new();
    for entry in &entries {
        *groups.entry(kind.group(entry)).or_default() += 1;
    }
    let mut counts: Vec<(String, u64)> = groups.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(Report {
        entries: Vec::new(),
        counts,
        closed,
    })
}

/// The ids under which a practice's `TYPE/ID` was filed, as the entries of its deposits say.
fn ids_of(
    name: &str,
    query: &Query,
    (mirror, keys): (&Mirror, &Keys),
) -> Result<Vec<String>, String> {
    let deposits = Query {
        event: Some("record.deposit".to_owned()),
        patient: query.patient.clone(),
        ..Query::default()
    };
    let (found, closed) = deposits.run(mirror, keys)?;
    let named = |line: &&str| line.split_once(' ').is_some_and(|(this, _)| this == name);
    let id = |line: &str| {
        let (_, kid) = line.split_once(' ')?;
        Some(kid.split_once('.')?.0.to_owned())
    };
    let mut ids: Vec<String> = found
        .iter()
        .flat_map(|entry| entry.records())
        .filter(named)
        .filter_map(id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return Err(format!(
            "recall: no deposit of {name} among the entries that could be opened; {closed} could not"
        ));
    }
    Ok(ids)
}
