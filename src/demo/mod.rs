//! The whole story on real FHIR files: each line that is printed is a thing that was just checked, over real
//! mutual TLS, against a gateway made for the occasion. One line that does not hold makes the exit non-zero.

mod own;
mod records;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

pub use records::RecordsError;

use crate::connect::{HttpError, OpenError};
use crate::dev::WorldError;
use crate::ledger::{Evidence, check};

/// Why the story could not be told to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The world.
    #[error(transparent)]
    World(#[from] WorldError),
    /// A party got no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A party got another answer than it must.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The caller's own records.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The folder for the world.
    #[error("a temporary folder: {0}")]
    Folder(std::io::Error),
}

/// The story being told: what held, what did not, and every receipt that was handed out.
pub struct Story {
    held: u64,
    failed: u64,
    receipts: Vec<Evidence>,
    json: bool,
    began: Instant,
}

impl Story {
    fn new(json: bool) -> Self {
        Self {
            held: 0,
            failed: 0,
            receipts: Vec::new(),
            json,
            began: Instant::now(),
        }
    }

    fn heading(&self, text: &str) {
        if !self.json {
            say(&format!("\n{text}"));
        }
    }

    /// One line: what was checked, whether it held, and what was seen if not.
    fn check(&mut self, what: &str, held: bool, seen: &str) -> bool {
        if held {
            self.held += 1
        } else {
            self.failed += 1
        }
        if self.json {
            let seen = if held { "" } else { seen };
            say(&json!({ "check": what, "held": held, "seen": seen }).to_string());
        } else {
            let colour = std::io::stdout().is_terminal();
            let mark = match (held, colour) {
                (true, true) => "\x1b[32m ok \x1b[0m",
                (true, false) => " ok ",
                (false, true) => "\x1b[31mFAIL\x1b[0m",
                (false, false) => "FAIL",
            };
            let seen = if held {
                String::new()
            } else {
                format!("\n       seen: {seen}")
            };
            say(&format!("  {mark} {what}{seen}"));
        }
        held
    }

    fn note(&self, text: &str) {
        if !self.json {
            say(&format!("       {text}"));
        }
    }

    /// Keeps the receipt of an answer, for the auditor; an answer that carries a decision must have one.
    fn keep(
        &mut self,
        reply: &crate::connect::Reply,
        vkey: &crate::ledger::Vkey,
    ) -> Option<Evidence> {
        use base64::Engine as _;
        let header = reply.header("sallyport-receipt")?;
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD
            .decode(header)
            .ok()?;
        let evidence = check(&serde_json::from_slice(&text).ok()?, vkey).ok()?;
        self.receipts.push(evidence.clone());
        Some(evidence)
    }

    fn end(self) -> bool {
        let seconds = self.began.elapsed().as_secs_f64();
        if self.json {
            say(&json!({ "held": self.held, "failed": self.failed }).to_string());
        } else if self.failed == 0 {
            say(&format!(
                "\nAll {} checks held, in {seconds:.1} s.",
                self.held
            ));
        } else {
            say(&format!(
                "\n{} of {} checks did NOT hold.",
                self.failed,
                self.held + self.failed
            ));
        }
        self.failed == 0
    }
}

/// A closed pipe ends the telling, not the program with a panic.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Tells the story over the project's own records, or over the caller's. `true`: every check held.
///
/// # Errors
/// What kept it from being told to its end.
pub async fn tell(records: Option<&Path>, json: bool) -> Result<bool, DemoError> {
    let folder = Folder::new().map_err(DemoError::Folder)?;
    let mut story = Story::new(json);
    match records {
        None => own::tell(&mut story, &folder.0).await?,
        Some(path) => records::tell(&mut story, &folder.0, path).await?,
    }
    Ok(story.end())
}

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn progress(length: u64, unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!(
        "  {{bar:40}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left"
    ));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A folder for one world, removed with everything in it when the story ends.
pub(crate) struct Folder(std::path::PathBuf);

impl Folder {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes one.
    pub(crate) fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("sallyport-demo-{}", keys::random_id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
