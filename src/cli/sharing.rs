//! `sallyport admin providers` and `sallyport admin approval`: the register of emergency providers as its keeper runs it,
//! and approvals of secondary uses. A version is published from a list; what is sent, and what the second person sees,
//! is whom it adds and takes off. Nothing here accepts anything for a practice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::admin::{Desk, Failed, Named, Why, lines};
use super::say;

/// `sallyport admin providers`
#[derive(Subcommand)]
pub(super) enum Providers {
    /// The register as it stands, and every practice's acceptance of it.
    List,
    /// Propose the next version: a file that names every emergency provider by its ODS code, one a line.
    Publish {
        /// The whole list; what follows a # is passed over.
        file: PathBuf,
        #[command(flatten)]
        why: Why,
    },
    /// Take one off at once: at every practice nothing is read by it under the register any more.
    Strike(Named),
    /// Answer a practice that accepted a version, as PRACTICE/REFERENCE: its cooling-off time begins.
    Answer(Named),
}

/// `sallyport admin approval`
#[derive(Subcommand)]
pub(super) enum Approval {
    /// Propose an approval, as PRACTICE/ORGANISATION/REFERENCE.
    Register(ApprovalForm),
    /// Withdraw one at once.
    Withdraw(Named),
}

/// What is approved.
#[derive(Args)]
pub(super) struct ApprovalForm {
    /// Practice, organisation and the approval's own reference, such as A81001/R0C01/26/CAG/0042.
    name: String,
    /// HRESCH, PUBHLTH or HOPERAT.
    #[arg(long = "purpose", value_name = "CODE", required = true)]
    purposes: Vec<String>,
    /// Categories of record.
    #[arg(long = "category", value_name = "CODE", required = true)]
    categories: Vec<String>,
    /// The first day, as 2026-04-03.
    #[arg(long, value_name = "DATE")]
    from: jiff::civil::Date,
    /// The last day.
    #[arg(long, value_name = "DATE")]
    until: jiff::civil::Date,
    #[command(flatten)]
    why: Why,
}

/// When this day begins, milliseconds.
pub(super) fn begins(day: jiff::civil::Date) -> Result<i64, Failed> {
    let day = day.to_zoned(jiff::tz::TimeZone::UTC)?;
    Ok(day.timestamp().as_millisecond())
}

/// The codes of a file, one a line.
fn codes(path: &Path) -> Result<BTreeSet<String>, Failed> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| Failed::Untried(format!("{}: {error}", path.display())))?;
    let line = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    let mut out = BTreeSet::new();
    for code in text.lines().map(line).filter(|code| !code.is_empty()) {
        if !out.insert(code.clone()) {
            let text = format!("{}: {code} stands twice", path.display());
            return Err(Failed::Untried(text));
        }
    }
    Ok(out)
}

impl Desk {
    pub(super) async fn providers(&self, command: Providers) -> Result<(), Failed> {
        match command {
            Providers::List => self.show("/admin/register").await,
            Providers::Publish { file, why } => self.publish(&codes(&file)?, &why.why).await,
            Providers::Strike(it) => self.stop("providers.strike", &it.name, &it.why.why).await,
            Providers::Answer(it) => self.answer(&it).await,
        }
    }

    async fn publish(&self, wanted: &BTreeSet<String>, why: &str) -> Result<(), Failed> {
        let register = self.read("/admin/register").await?.json();
        let version = register.get("version").and_then(Value::as_u64);
        let version = version.ok_or("the gateway's answer names no version")?;
        let named = register.get("providers").and_then(Value::as_array);
        let code = |it: &Value| Some(it.get("ods")?.as_str()?.to_owned());
        let named: BTreeSet<String> = named.into_iter().flatten().filter_map(code).collect();
        let add: Vec<&String> = wanted.difference(&named).collect();
        let remove: Vec<&String> = named.difference(wanted).collect();
        if add.is_empty() && remove.is_empty() {
            return Err(Failed::Said(format!("version {version} names just these")));
        }
        if !self.json {
            say(&format!("version {}", version + 1));
            lines(&json!({ "adds": add, "takes off": remove }), 1);
        }
        let payload = json!({ "add": add, "remove": remove });
        let next = (version + 1).to_string();
        self.act("providers.publish", &next, payload, why).await
    }

    async fn answer(&self, it: &Named) -> Result<(), Failed> {
        let register = self.read("/admin/register").await?.json();
        let (practice, reference) = it.name.split_once('/').unwrap_or_default();
        let all = register.get("accepted").and_then(Value::as_array);
        let found = all.into_iter().flatten().find(|said| {
            said.get("practice").and_then(Value::as_str) == Some(practice)
                && said.get("reference").and_then(Value::as_str) == Some(reference)
        });
        let found = found.ok_or_else(|| {
            Failed::Said("no practice accepted the register under this name".to_owned())
        })?;
        if !self.json {
            lines(found, 0);
        }
        self.confirm("answer this practice", &it.name)?;
        let payload = json!({ "terms": found.get("terms") });
        self.act("providers.countersign", &it.name, payload, &it.why.why)
            .await
    }

    pub(super) async fn approval(&self, command: Approval) -> Result<(), Failed> {
        match command {
            Approval::Register(it) => {
                let payload = json!({
                    "purposes": it.purposes, "categories": it.categories,
                    "from_ms": begins(it.from)?, "until_ms": begins(it.until.tomorrow()?)?,
                });
                self.act("approval.register", &it.name, payload, &it.why.why)
                    .await
            }
            Approval::Withdraw(it) => self.stop("approval.withdraw", &it.name, &it.why.why).await,
        }
    }
}
