//! `sallyport connect`: the sidecars, until they are asked to stop.

use std::path::{Path, PathBuf};
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
}

/// `sallyport connect`
#[must_use]
pub fn connect(command: &Connect) -> ExitCode {
    log();
    match command {
        Connect::Hospital { config } => hospital(config),
    }
}

fn hospital(path: &Path) -> ExitCode {
    let work = async {
        let config = Config::load(path)?;
        let connector = Connector::hospital(&config, Clock::system()).await?;
        say(&format!("plain FHIR R4 at {}", connector.base()));
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
