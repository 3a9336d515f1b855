//! FHIR as far as the gateway needs it: bytes in, meaning out. Pure: no clock, no disk, no network.
//!
//! Payloads are opaque. [`deposit`] reads whose records a body holds and cuts it into exact slices;
//! [`card`] keeps what labels and search need; [`query`] asks cards; [`consent`] reads an objection;
//! [`outcome`] and [`capability`] are what the gateway says of itself. Strict on JSON ([`json`]),
//! lenient on FHIR. Every failure names the member or parameter and the rule; none repeats foreign text.

pub mod capability;
pub mod card;
pub mod card_bytes;
pub mod consent;
pub mod deposit;
pub mod fixtures;
pub mod json;
pub mod label;
pub mod moment;
pub mod outcome;
pub mod query;
pub mod resource;
pub mod subject;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod deposit_tests;
