//! What would become of an ask that nobody made: the very weighing that a token is issued by and a read is decided by,
//! without a verdict. No grant comes of it, so nothing can be recorded or released by supposing.

use std::collections::BTreeSet;

use super::{Inquiry, Ruling, categories};
use crate::ask::{Ask, IssueToken, TOKEN_LIFE_MS};
use crate::caller::{Caller, RecordScope, Scope, Token};
use crate::decide::{Weigh, Weighed, no_token};
use crate::facts::{PatientFacts, TokenFacts};
use crate::rules::Rules;
use crate::verdict::Reason;
use crate::words::{Category, ClientId, ClientRole, Label, Ods};

/// An ask that nobody made.
#[derive(Clone)]
pub struct Supposed {
    /// Through which client.
    pub client: ClientId,
    /// What kind of system that is.
    pub role: ClientRole,
    /// The organisations it acts for.
    pub organisations: Vec<Ods>,
    /// What the token would say.
    pub scope: RecordScope,
}

impl Supposed {
    pub(crate) fn caller(&self, token: Option<Token>) -> Caller {
        let organisations = self.organisations.clone();
        Caller::supposed(self.client.clone(), self.role, organisations, token)
    }
}

/// One kind of record that would be opened, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The practice whose records they are.
    pub practice: Ods,
    /// What they are about.
    pub category: Category,
    /// How sensitive they are.
    pub labels: BTreeSet<Label>,
    /// The rule that permits it.
    pub rule: Reason,
}

/// What would be opened: first a token would have to be issued, then each kind of record be permitted to be read.
///
/// # Errors
/// The rule by which nothing would be.
pub(crate) fn openings(
    rules: &Rules,
    supposed: &Supposed,
    facts: &PatientFacts,
) -> Result<Vec<Opening>, Reason> {
    let caller = |token| supposed.caller(token);
    let act = IssueToken {
        scope: Scope::Records(supposed.scope.clone()),
        assertion: String::new(),
    };
    let issued = TokenFacts::Records(facts.clone());
    let Weighed { outcome, .. } = IssueToken::weigh(rules, &Ask::new(caller(None), act), &issued);
    let (granted, _) = outcome?;
    let Scope::Records(scope) = &granted else {
        return Err(no_token());
    };
    let expires_ms = facts.now_ms.saturating_add(TOKEN_LIFE_MS);
    let token = Token {
        jti: String::new(),
        issued_ms: facts.now_ms,
        expires_ms,
        scope: granted.clone(),
    };
    let (caller, categories) = (caller(Some(token)), categories(scope));
    let life = ("read", expires_ms);
    let mut inquiry = Inquiry::new(rules, &caller, scope, &categories, life, facts);
    let (mut opened, mut refusal) = (Vec::new(), None);
    for (practice, category, labels, ruling) in inquiry.rulings_of_kinds() {
        match ruling {
            Ok(rule) => opened.push(Opening {
                practice: practice.clone(),
                category,
                labels: labels.clone(),
                rule,
            }),
            Err(reason) => drop(refusal.get_or_insert(reason)),
        }
    }
    match (opened.is_empty(), refusal) {
        (true, Some(reason)) => Err(reason),
        (true, None) => Err(Reason::new(
            "no-such-record",
            "There is no record in question.",
        )),
        (false, _) => Ok(opened),
    }
}

/// A practice, and a kind of its records with the ruling on it.
type Ruled<'a> = (&'a Ods, Category, &'a BTreeSet<Label>, Ruling);

impl<'a> Inquiry<'a> {
    /// The ruling on each kind of record of each holder.
    fn rulings_of_kinds(&mut self) -> Vec<Ruled<'a>> {
        let mut out = Vec::new();
        for (at, holder) in self.holders.clone().into_iter().enumerate() {
            let kinds: BTreeSet<_> = holder
                .records
                .iter()
                .map(|record| (record.category, &record.labels))
                .collect();
            for (category, labels) in kinds {
                let ruling = self.ruling(at, category, labels);
                out.push((&holder.practice, category, labels, ruling));
            }
        }
        out
    }
}
