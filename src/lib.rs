//! Sallyport: an encrypted record-sharing gateway between GP systems and hospitals.

pub mod assembly;
pub mod bench;
pub mod caller;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connect;
pub mod demo;
pub mod dev;
pub mod disk;
pub mod facts;
pub mod fhir;
pub mod gateway;
pub mod http;
pub mod ledger;
pub mod store;
pub mod token;
pub mod vault;
