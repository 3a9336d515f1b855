//! What a connector remembers between requests, in memory only: access tokens while they live, and what its own page
//! links mean. A link is an unguessable name; it opens nothing for a request that states another purpose or person.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::search::Question;
use super::stated::Stated;
use crate::fhir::resource::FhirVersion;

/// Tokens and links that are remembered; past so many the oldest go.
const TOKENS_MAX: usize = 1_024;
const PAGES_MAX: usize = 8_192;
/// A link is good for so long.
const PAGE_LIFE_MS: u64 = 30 * 60 * 1000;

/// An access token, and its own name, which the ledger and the ticket must say again.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) jti: String,
    pub(super) until_ms: u64,
}

/// A page that was linked to.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) question: Question,
    pub(super) stated: Stated,
    pub(super) version: FhirVersion,
    until_ms: u64,
}

/// Both.
#[derive(Default)]
pub(super) struct Session {
    tokens: Mutex<HashMap<String, Token>>,
    pages: Mutex<HashMap<String, Page>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// The token for these details, if one lives.
    pub(super) fn token(&self, details: &str, now_ms: u64) -> Option<Token> {
        let tokens = locked(&self.tokens);
        let token = tokens.get(details).filter(|token| token.until_ms > now_ms);
        token.cloned()
    }

    /// Remembers a token.
    pub(super) fn keep(&self, details: String, token: Token, now_ms: u64) {
        let mut tokens = locked(&self.tokens);
        if tokens.len() >= TOKENS_MAX {
            tokens.retain(|_, token| token.until_ms > now_ms);
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(details, token);
    }

    /// A token that the gateway no longer takes.
    pub(super) fn forget(&self, details: &str) {
        locked(&self.tokens).remove(details);
    }

    /// A fresh name for this page.
    pub(super) fn link(
        &self,
        question: Question,
        stated: &Stated,
        version: FhirVersion,
        now_ms: u64,
    ) -> String {
        let name = keys::random_id();
        let until_ms = now_ms.saturating_add(PAGE_LIFE_MS);
        let page = Page {
            question,
            stated: stated.clone(),
            version,
            until_ms,
        };
        let mut pages = locked(&self.pages);
        if pages.len() >= PAGES_MAX {
            pages.retain(|_, page| page.until_ms > now_ms);
        }
        if pages.len() >= PAGES_MAX {
            let oldest = pages.iter().min_by_key(|(_, page)| page.until_ms);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|name| pages.remove(&name));
        }
        pages.insert(name.clone(), page);
        name
    }

    /// The page of this name.
    pub(super) fn page(&self, name: &str, now_ms: u64) -> Option<Page> {
        let pages = locked(&self.pages);
        let page = pages.get(name).filter(|page| page.until_ms > now_ms);
        page.cloned()
    }
}
