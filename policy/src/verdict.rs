//! The two verdicts: [`Grant`] and [`Refusal`], and the account of each that the ledger records.
//!
//! Both are made by `decide` alone: private fields, no constructor outside this crate, not `Clone`,
//! `#[must_use]`. So nobody forges, copies or forgets one, and a refusal is a value to be recorded,
//! not an error that escapes by `?`. The grant names what it permits; no step behind it takes an
//! id beside it. A refusal's reason is for the ledger: it is never sent to the caller.

use std::sync::Arc;

use serde_json::Value;

use crate::ask::{Act, Ask};
use crate::caller::Caller;
use crate::words::{Ods, RecordId};

/// What was decided.
#[must_use = "a verdict has to be recorded, whichever it is"]
pub enum Decision<A: Act> {
    /// The rules permit the ask, now.
    Permit(Grant<A>),
    /// They do not.
    Refuse(Refusal<A>),
}

/// The rules permit this ask, now. Only `decide` makes one.
#[must_use = "a grant has to be recorded before anything moves"]
pub struct Grant<A: Act> {
    ask: Ask<A>,
    granted: A::Granted,
    reason: Reason,
    digest: Arc<str>,
    account: Account,
}

impl<A: Act> Grant<A> {
    pub(crate) fn new(
        ask: Ask<A>,
        granted: A::Granted,
        reason: Reason,
        digest: Arc<str>,
        account: Account,
    ) -> Grant<A> {
        Grant {
            ask,
            granted,
            reason,
            digest,
            account,
        }
    }

    /// Who asked.
    pub fn caller(&self) -> &Caller {
        self.ask.caller()
    }

    /// For what.
    pub fn act(&self) -> &A {
        self.ask.act()
    }

    /// What is permitted: exactly this.
    pub fn granted(&self) -> &A::Granted {
        &self.granted
    }

    /// The local rule that permits it.
    pub fn rule(&self) -> &str {
        self.reason.rule()
    }

    /// The digest of the rules that decided.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// The rules do not permit this ask. Only `decide` makes one.
#[must_use = "a refusal has to be recorded like a grant"]
pub struct Refusal<A: Act> {
    ask: Ask<A>,
    reason: Reason,
    account: Account,
}

impl<A: Act> Refusal<A> {
    pub(crate) fn new(ask: Ask<A>, reason: Reason, account: Account) -> Refusal<A> {
        Refusal {
            ask,
            reason,
            account,
        }
    }

    /// Who asked.
    pub fn caller(&self) -> &Caller {
        self.ask.caller()
    }

    /// For what.
    pub fn act(&self) -> &A {
        self.ask.act()
    }

    /// Why not. For the ledger and its readers; never for the caller.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }
}

/// The rule that decided, and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    rule: Arc<str>,
    words: Arc<str>,
}

impl Reason {
    pub(crate) fn new(rule: impl Into<Arc<str>>, words: impl Into<Arc<str>>) -> Reason {
        Reason {
            rule: rule.into(),
            words: words.into(),
        }
    }

    /// The rule's id.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The rule in words that a data controller reads.
    pub fn words(&self) -> &str {
        &self.words
    }
}

/// One record that a grant names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permitted {
    /// The practice whose record it is.
    pub practice: Ods,
    /// Which record.
    pub id: RecordId,
    /// Which version of it.
    pub version: u32,
}

/// The records that a grant names: a page of those that are permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// These, in the order of the facts.
    pub records: Vec<Permitted>,
    /// Whether more would be permitted after the last of them.
    pub more: bool,
}

/// Which of the two verdicts an account is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A grant.
    Permit,
    /// A refusal.
    Refuse,
}

impl Outcome {
    /// The word in the ledger.
    pub const fn code(self) -> &'static str {
        match self {
            Outcome::Permit => "permit",
            Outcome::Refuse => "refuse",
        }
    }
}

/// What the ledger records of a verdict: strings and integers only.
///
/// A grant's four values are opened to its caller, a refusal's only `actor`; so `actor` holds
/// nothing but what the caller said or is, and a grant's values never tell what was withheld.
#[derive(Clone)]
pub struct Account {
    /// The event's name.
    pub event: &'static str,
    /// Which verdict.
    pub outcome: Outcome,
    /// The first 16 hexadecimal digits of the rules' digest.
    pub policy: String,
    /// Who asked.
    pub actor: Value,
    /// About whom: the patient, or nothing.
    pub subject: Value,
    /// What was asked for; in a grant, what was granted.
    pub object: Value,
    /// Purpose, evidence, rule and outcome.
    pub context: Value,
    /// Whether an emergency was declared.
    pub emergency: bool,
    /// The practitioner's name as the directory had it, for the sealed body alone: no caller is shown it.
    pub name: String,
    /// The list behind a digest that `object` commits to, for the sealed body alone.
    pub detail: Value,
}

/// A [`Grant`] or a [`Refusal`], and nothing else: what the ledger can record. Sealed.
pub trait Verdict: sealed::Verdict {
    /// What the ledger records.
    fn account(&self) -> Account;
}

impl<A: Act> Verdict for Grant<A> {
    fn account(&self) -> Account {
        self.account.clone()
    }
}

impl<A: Act> Verdict for Refusal<A> {
    fn account(&self) -> Account {
        self.account.clone()
    }
}

mod sealed {
    /// Implemented here only.
    pub trait Verdict {}
    impl<A: super::Act> Verdict for super::Grant<A> {}
    impl<A: super::Act> Verdict for super::Refusal<A> {}
}
