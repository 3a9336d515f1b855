//! `sallyport connect`: the sidecars, until they are asked to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use super::{asked_to_stop, complain, log, run, say};
use crate::clock::Clock;
use crate::connector::{Config, Connector};

/// Whose sidecar.
#[derive(Subcommand)]
pub enum Connect {
    /// Give a hospital's software plain FHIR R4 on loopback: every answer opened, checked and receipted.
    ///
    /// Requests show the local secret (`Authorization: Bearer`, the text of KEEP/secret) and state who asks and what for:
    /// Sallyport-Purpose, Sallyport-Practitioner, and Sallyport-Relationship (TREAT) or Sallyport-Reason with
    /// Sallyport-Acknowledged (ETREAT, BTG). The guide is docs/integrator.md.
    Hospital {
        /// The connector's config, `connect.toml`.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Take a practice's records from a folder or over loopback, deposit them, and keep the receipts.
    ///
    /// Files dropped into INBOX/records (FHIR R4; records-stu3 for STU3), INBOX/relationships and INBOX/objections are moved
    /// to INBOX/done with the gateway's answer, or to INBOX/refused with a reason. POST /fhir, PUT and DELETE /fhir/TYPE/ID
    /// and POST /objections do the same over loopback. The guide is docs/integrator.md.
    Practice {
        /// The connector's config, `connect.toml`, with an `inbox` where files are taken.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// `sallyport connect`
#[must_use]
pub fn connect(command: &Connect) -> ExitCode {
    log();
    let (Connect::Hospital { config: path } | Connect::Practice { config: path }) = command;
    let work = async {
        let config = Config::load(path)?;
        let connector = match command {
            Connect::Hospital { .. } => Connector::hospital(&config, Clock::system()).await?,
            Connect::Practice { .. } => Connector::practice(&config, Clock::system()).await?,
        };
        say(&format!("plain FHIR at {}", connector.base()));
        if let Some(inbox) = &config.inbox {
            say(&format!("  files are taken from {}", inbox.display()));
        }
        say(&format!(
            "  secret and receipts in {}; stop with Ctrl-C",
            config.keep.display()
        ));
        asked_to_stop().await;
        connector.stop().await;
        Ok::<_, crate::connector::StartError>(())
    };
    match run(work) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => complain(&error),
        Err(error) => complain(&error),
    }
}
