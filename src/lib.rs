//! Sallyport: an encrypted record-sharing gateway.

pub mod clock;
pub mod disk;
pub mod fhir;
pub mod ledger;
pub mod store;
