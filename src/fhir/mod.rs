//! FHIR as far as the gateway needs it: bytes in, meaning out. Pure: no clock, no disk, no network.
//!
//! Payloads are opaque. [`deposit`] reads whose records a body holds and cuts it into exact slices;
//! [`card`] keeps what labels and search need; [`query`] asks cards; [`consent`] reads an objection;
//! [`outcome`] and [`capability`] are what the gateway says of itself. Strict on JSON ([`json`]),
//! lenient on FHIR. Every failure names the member or parameter and the rule; none repeats foreign text.

mod bundle;
pub mod capability;
pub mod card;
pub mod card_bytes;
mod card_words;
pub mod consent;
mod criterion;
pub mod deposit;
pub mod fixtures;
pub mod json;
mod json_reader;
mod label;
mod listed;
pub mod moment;
pub mod outcome;
pub mod query;
pub mod relation;
pub mod resource;
pub mod sensitive_codes;
pub mod subject;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod deposit_tests;
#[cfg(test)]
mod json_tests;
#[cfg(test)]
mod query_tests;
