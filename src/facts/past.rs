//! What stood before: a row that a release looks at is kept when it is replaced or taken back, sealed and counted in its
//! owner's anchor like any other, with the time from and until which it stood. So what was so a week ago can be said,
//! and who deletes the past makes its owner's facts unknown. A row of the past is never looked at by a decision.

use policy::facts::{Fact, Why};

use super::register::Register;
use super::statement::{Kind, OPERATOR, Statement, Tags, prefix};
use super::{Change, Facts, StoreError, Table};

/// Before a row that says from when on it stands: eight bytes of milliseconds, then its text.
const STANDING: u8 = b'@';
/// Before one that is over: from when and until when, then its text.
const OVER: u8 = b'<';
/// Bytes by which a row grows when it is over.
pub(super) const GROWTH: usize = 8;

/// A row with its time.
pub(super) struct Kept {
    /// From when on it stands; 0 if from the beginning, or nobody knows.
    pub(super) from_ms: u64,
    /// Until when it stood; `None` if it stands.
    pub(super) until_ms: Option<u64>,
    pub(super) statement: Statement,
}

impl Kept {
    pub(super) fn to_text(&self) -> Vec<u8> {
        let mut text = match self.until_ms {
            None => vec![STANDING],
            Some(_) => vec![OVER],
        };
        text.extend_from_slice(&self.from_ms.to_be_bytes());
        text.extend(self.until_ms.iter().flat_map(|it| it.to_be_bytes()));
        text.extend(serde_json::to_vec(&self.statement).unwrap_or_default());
        text
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (from_ms, until_ms, json) = match text.split_first()? {
            (&STANDING, rest) => {
                let (from, json) = rest.split_first_chunk::<8>()?;
                (u64::from_be_bytes(*from), None, json)
            }
            (&OVER, rest) => {
                let (from, rest) = rest.split_first_chunk::<8>()?;
                let (until, json) = rest.split_first_chunk::<8>()?;
                let until_ms = u64::from_be_bytes(*until);
                (u64::from_be_bytes(*from), Some(until_ms), json)
            }
            // A row from before rows had times.
            _ => (0, None, text),
        };
        Some(Self {
            from_ms,
            until_ms,
            statement: serde_json::from_slice(json).ok()?,
        })
    }

    /// Whether this is the row of that key: one of the past has the key it had, and a change's number, behind a letter.
    pub(super) fn fits(&self, key: &[u8], tags: &dyn Tags) -> bool {
        let own = self.statement.key(tags);
        match self.until_ms {
            None => own == key,
            Some(_) => current(key) == Some(own.as_slice()),
        }
    }

    /// Whether it stood at that time.
    pub(super) fn stood(&self, then_ms: u64) -> bool {
        self.from_ms <= then_ms && self.until_ms.is_none_or(|until| then_ms < until)
    }
}

/// The key that a row of the past had.
fn current(key: &[u8]) -> Option<&[u8]> {
    let (letter, rest) = key.split_first()?;
    let own = rest.len().checked_sub(8)?;
    (*letter == Kind::Past as u8).then(|| rest.get(..own))?
}

/// The key of a row that its owner's change of this number ends.
fn past_key(key: &[u8], seq: u64) -> Vec<u8> {
    prefix(Kind::Past, &[key, &seq.to_be_bytes()])
}

/// Whether a release looks at rows like this, so that one that is over is kept. What only counts messages is not.
fn is_looked_at(statement: &Statement) -> bool {
    match statement {
        Statement::Organisation(_)
        | Statement::Client(_)
        | Statement::Practitioner(_)
        | Statement::Training(_)
        | Statement::Requirement(_)
        | Statement::EmergencyProvider(_)
        | Statement::KeeperWord(_)
        | Statement::Registration(_)
        | Statement::Agreement(_)
        | Statement::Countersignature(_)
        | Statement::Approval(_)
        | Statement::Objection(_)
        | Statement::Relationship(_) => true,
        Statement::Feed(_)
        | Statement::FeedPage(_)
        | Statement::FeedTerms(_)
        | Statement::Acceptance(_)
        | Statement::Proposal(_)
        | Statement::Offer(_)
        | Statement::RegisterAcceptance(_)
        | Statement::PracticeSettings(_) => false,
    }
}

/// One row of the directory that changed.
#[derive(Clone)]
pub(super) struct Turned {
    at_ms: u64,
    before: Option<Statement>,
    after: Option<Statement>,
}

/// What a change makes of the row that stood.
pub(super) struct Succession {
    /// From when on the new row stands: an equal one stands on.
    pub(super) from_ms: u64,
    /// The row of the past to be written: key and text.
    pub(super) past: Option<(Vec<u8>, Kept)>,
    /// What it means to the directory, if it is of it.
    pub(super) turned: Option<Turned>,
}

impl Succession {
    pub(super) fn of(
        old: Option<Kept>,
        change: &Change,
        now_ms: u64,
        key: &[u8],
        seq: u64,
    ) -> Self {
        let new = match change {
            Change::Put(statement) => Some(statement),
            Change::Remove(_) => None,
        };
        let (Change::Put(statement) | Change::Remove(statement)) = change;
        let same = |old: &Kept| {
            let text = |it: &Statement| serde_json::to_vec(it).ok();
            new.is_some_and(|new| text(new) == text(&old.statement))
        };
        let Some(old) = old.filter(|_| is_looked_at(statement)) else {
            let turned = new.filter(|it| it.owner() == OPERATOR && is_looked_at(it));
            return Self {
                from_ms: now_ms,
                past: None,
                turned: turned.map(|after| Turned {
                    at_ms: now_ms,
                    before: None,
                    after: Some(after.clone()),
                }),
            };
        };
        if same(&old) {
            return Self {
                from_ms: old.from_ms,
                past: None,
                turned: None,
            };
        }
        // Why the later of the two: a clock that goes back must not make a row that never stood.
        let at_ms = now_ms.max(old.from_ms);
        let turned = (statement.owner() == OPERATOR).then(|| Turned {
            at_ms,
            before: Some(old.statement.clone()),
            after: new.cloned(),
        });
        let kept = Kept {
            until_ms: Some(at_ms),
            ..old
        };
        Self {
            from_ms: at_ms,
            past: Some((past_key(key, seq), kept)),
            turned,
        }
    }
}

/// The directory's rows with their times, gathered when the facts are opened: what changed, in order.
#[derive(Default)]
pub(super) struct Versions(Vec<(Vec<u8>, Kept)>);

impl Versions {
    pub(super) fn add(&mut self, key: &[u8], kept: &Kept) {
        if kept.statement.owner() != OPERATOR || !is_looked_at(&kept.statement) {
            return;
        }
        let own = match kept.until_ms {
            None => Some(key),
            Some(_) => current(key),
        };
        if let Some(own) = own {
            let kept = Kept {
                from_ms: kept.from_ms,
                until_ms: kept.until_ms,
                statement: kept.statement.clone(),
            };
            self.0.push((own.to_vec(), kept));
        }
    }

    pub(super) fn turned(mut self) -> Vec<Turned> {
        self.0
            .sort_by(|(a, x), (b, y)| (a, x.from_ms, x.until_ms).cmp(&(b, y.from_ms, y.until_ms)));
        let mut out = Vec::new();
        let mut last: Option<(Vec<u8>, Kept)> = None;
        for (key, kept) in self.0 {
            let before = match last.take() {
                Some((own, old)) if own == key && old.until_ms == Some(kept.from_ms) => {
                    Some(old.statement)
                }
                other => {
                    out.extend(ended(other));
                    None
                }
            };
            if kept.from_ms > 0 {
                out.push(Turned {
                    at_ms: kept.from_ms,
                    before,
                    after: Some(kept.statement.clone()),
                });
            }
            last = Some((key, kept));
        }
        out.extend(ended(last));
        out.sort_by_key(|turned| turned.at_ms);
        out
    }
}

/// A row after which none came.
fn ended(last: Option<(Vec<u8>, Kept)>) -> Option<Turned> {
    let (_, old) = last?;
    Some(Turned {
        at_ms: old.until_ms?,
        before: Some(old.statement),
        after: None,
    })
}

/// The directory as it stood at that time: what changed later is undone, the latest first.
pub(super) fn undone(register: &Register, turned: &[Turned], then_ms: u64) -> Register {
    let mut register = register.clone();
    for turned in turned.iter().rev().filter(|it| it.at_ms > then_ms) {
        match (&turned.before, &turned.after) {
            (Some(before), _) => register.put(before),
            (None, Some(after)) => register.remove(after),
            (None, None) => {}
        }
    }
    register
}

/// Of which moment facts are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// As they stand.
    Now,
    /// As they stood at that time, milliseconds.
    Then(u64),
}

/// A row by the key it has, or had.
pub(super) type Row = (Vec<u8>, Fact<Statement>);

impl Facts {
    /// The rows of a kind under a prefix, of that moment.
    pub(super) async fn rows_of(
        &self,
        kind: Kind,
        parts: &[&[u8]],
        when: When,
        wants: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Row>, StoreError> {
        let start = prefix(kind, parts);
        let standing = self
            .store
            .scan(Table::Facts, start.clone(), None, usize::MAX);
        let standing = standing.await?;
        let mut over = Vec::new();
        if when != When::Now {
            let start = prefix(Kind::Past, &[&start]);
            over = self
                .store
                .scan(Table::Facts, start, None, usize::MAX)
                .await?;
        }
        let mut out = Vec::new();
        for row in standing.into_iter().chain(over) {
            let own = current(&row.key).unwrap_or(&row.key);
            if !wants(own) {
                continue;
            }
            let own = own.to_vec();
            let told = match (self.kept(&row.key, &row.value), when) {
                (None, _) => Fact::Unknown(Why::Store),
                (Some((_, kept)), When::Then(then_ms)) if !kept.stood(then_ms) => continue,
                (Some((owner, kept)), _) => match self.soundness(&owner) {
                    Ok(_) => Fact::Known(kept.statement),
                    Err(why) => Fact::Unknown(why),
                },
            };
            out.push((own, told));
        }
        // Why sorted: a decision reads its rows in the order of their keys.
        out.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;
    use crate::facts::Organisation;

    fn organisation(name: &str) -> Statement {
        Statement::Organisation(Organisation {
            ods: "RJ1".into(),
            name: name.into(),
            role: "hospital".into(),
            suspended: false,
            contacts: Vec::new(),
        })
    }

    fn kept(from_ms: u64, until_ms: Option<u64>, name: &str) -> Kept {
        Kept {
            from_ms,
            until_ms,
            statement: organisation(name),
        }
    }

    #[test]
    fn a_row_says_when_it_stood_and_older_rows_are_read() {
        for row in [kept(5, None, "a"), kept(5, Some(9), "a")] {
            let again = Kept::parse(&row.to_text()).unwrap();
            assert_eq!((again.from_ms, again.until_ms), (row.from_ms, row.until_ms));
            assert!(!again.stood(4));
            assert!(again.stood(5) && again.stood(8));
            assert_eq!(again.stood(9), row.until_ms.is_none());
        }
        let older = serde_json::to_vec(&organisation("a")).unwrap();
        assert!(Kept::parse(&older).unwrap().stood(0));
        assert!(Kept::parse(b"").is_none() && Kept::parse(b"<1234").is_none());
    }

    #[test]
    fn what_stands_on_is_not_ended_and_what_is_ended_is_kept() {
        let same = Change::Put(organisation("a"));
        let on = Succession::of(Some(kept(5, None, "a")), &same, 9, b"k", 1);
        assert!(on.past.is_none() && on.turned.is_none() && on.from_ms == 5);
        let other = Change::Put(organisation("b"));
        let next = Succession::of(Some(kept(5, None, "a")), &other, 3, b"k", 1);
        let (key, past) = next.past.unwrap();
        assert_eq!((past.from_ms, past.until_ms, next.from_ms), (5, Some(5), 5));
        assert_eq!(current(&key), Some(&b"k"[..]));
    }

    #[test]
    fn the_directory_is_undone_to_any_time() {
        let mut versions = Versions::default();
        versions.add(b"k", &kept(30, None, "c"));
        for (row, seq) in [
            (kept(10, Some(20), "a"), 2u64),
            (kept(20, Some(25), "b"), 3),
        ] {
            versions.add(&past_key(b"k", seq), &row);
        }
        let turned = versions.turned();
        let mut register = Register::default();
        register.put(&organisation("c"));
        let code = super::super::ods("RJ1").unwrap();
        let name = |then_ms| {
            let then = undone(&register, &turned, then_ms);
            then.organisation(&code).map(|it| it.name.clone())
        };
        assert_eq!(name(9), None);
        assert_eq!(name(10).as_deref(), Some("a"));
        assert_eq!(name(24).as_deref(), Some("b"));
        assert_eq!(name(27), None);
        assert_eq!(name(30).as_deref(), Some("c"));
    }
}
