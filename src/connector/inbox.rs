//! A folder that a practice's system drops files into. What the gateway took is moved to `done` beside its answer, what
//! it refused to `refused` beside a reason a person can read, and the rest is tried again. A journal says what was
//! receipted, so that a connector that was killed goes on where it was.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::config::{StartError, file};
use super::kept::append;
use super::practice::{Filing, Practice};
use super::said::Trouble;
use crate::fhir::resource::FhirVersion;

/// How often the folder is looked at. A file is taken when it was the same at two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// After a gateway that did not answer, so long until it is asked again.
const PAUSE: Duration = Duration::from_secs(5);
const JOURNAL: &str = "deposits.ndjson";

/// What a folder's files are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Matter {
    Records(FhirVersion),
    Relationships,
    Objections,
}

const FOLDERS: [(&str, Matter); 4] = [
    ("records", Matter::Records(FhirVersion::R4)),
    ("records-stu3", Matter::Records(FhirVersion::Stu3)),
    ("relationships", Matter::Relationships),
    ("objections", Matter::Objections),
];

/// The folder, and what was receipted.
pub(super) struct Inbox {
    dir: PathBuf,
    journal: PathBuf,
    receipted: BTreeSet<String>,
    looks: HashMap<PathBuf, (u64, Option<std::time::SystemTime>)>,
}

impl Inbox {
    /// Opens the folder, or makes it, and reads the journal.
    pub(super) fn open(dir: &Path, keep: &Path) -> Result<Self, StartError> {
        for name in FOLDERS
            .map(|(name, _)| name)
            .iter()
            .chain(&["done", "refused"])
        {
            let folder = dir.join(name);
            std::fs::create_dir_all(&folder).map_err(|error| file(&folder, error))?;
        }
        let journal = keep.join(JOURNAL);
        let text = match journal.exists() {
            true => std::fs::read_to_string(&journal).map_err(|error| file(&journal, error))?,
            false => String::new(),
        };
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let name = |line: Value| line.get("file")?.as_str().map(str::to_owned);
        Ok(Self {
            dir: dir.to_owned(),
            journal,
            receipted: lines.filter_map(name).collect(),
            looks: HashMap::new(),
        })
    }

    /// Looks, and passes on what is there, until it is stopped.
    pub(super) async fn watch(mut self, practice: std::sync::Arc<Practice>) {
        loop {
            let pause = match self.look(&practice).await {
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    tracing::warn!(error, "the inbox waits");
                    PAUSE
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&mut self, practice: &Practice) -> Result<(), String> {
        for (name, matter) in FOLDERS {
            for path in self.settled(&self.dir.join(name))? {
                self.pass_on(practice, &path, name, matter).await?;
            }
        }
        Ok(())
    }

    /// Files that did not change since the last look, oldest name first.
    fn settled(&mut self, folder: &Path) -> Result<Vec<PathBuf>, String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", folder.display());
        let mut out = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let (path, name) = (entry.path(), entry.file_name());
            let hidden = name.to_string_lossy().starts_with('.');
            let about = entry.metadata().map_err(wrong)?;
            if hidden || !about.is_file() {
                continue;
            }
            let now = (about.len(), about.modified().ok());
            if self.looks.insert(path.clone(), now) == Some(now) {
                out.push(path);
            }
        }
        out.sort();
        Ok(out)
    }

    async fn pass_on(
        &mut self,
        practice: &Practice,
        path: &Path,
        folder: &str,
        matter: Matter,
    ) -> Result<(), String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
        let bytes = std::fs::read(path).map_err(wrong)?;
        let digest = Sha256::digest(&bytes);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let file_name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let file_name = file_name.unwrap_or_default();
        let name = format!("{folder}/{file_name} {digest}");
        self.looks.remove(path);
        if self.receipted.contains(&name) {
            return self.finish(path, &file_name, "done", None);
        }
        let filed = match matter {
            Matter::Records(version) => {
                practice
                    .file(Filing::Sniffed(version), None, bytes.into())
                    .await
            }
            Matter::Relationships => practice.relate(bytes.into()).await,
            Matter::Objections => practice.object(&bytes),
        };
        match filed {
            Ok((reply, entry)) => {
                self.receipt(&name, entry)?;
                let told = json!({ "entry": entry, "answer": reply });
                self.finish(
                    path,
                    &file_name,
                    "done",
                    Some(("answer.json", told.to_string())),
                )
            }
            Err(trouble) => match refusal(&trouble) {
                Some(why) => {
                    let text = format!(
                        "{folder}/{file_name} was not taken.\n\n{why}\n\nPut it right and drop it into {folder}/ again.\n"
                    );
                    self.finish(path, &file_name, "refused", Some(("reason.txt", text)))
                }
                None => Err(format!("{folder}/{file_name}: {}", trouble.words())),
            },
        }
    }

    /// Notes that the gateway has receipted this file with these bytes.
    fn receipt(&mut self, name: &str, entry: Option<u64>) -> Result<(), String> {
        let line = json!({ "file": name, "entry": entry });
        let kept = append(&self.journal).and_then(|mut journal| {
            writeln!(journal, "{line}")?;
            journal.sync_all()
        });
        kept.map_err(|error| format!("{}: {error}", self.journal.display()))?;
        self.receipted.insert(name.to_owned());
        Ok(())
    }

    /// Moves a file away, with what is said of it beside it.
    fn finish(
        &self,
        path: &Path,
        name: &str,
        folder: &str,
        said: Option<(&str, String)>,
    ) -> Result<(), String> {
        let folder = self.dir.join(folder);
        let moved = (|| {
            if let Some((end, text)) = said {
                super::kept::replace(&folder, &format!("{name}.{end}"), text.as_bytes())?;
            }
            std::fs::rename(path, folder.join(name))
        })();
        moved.map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// Why a file will never be taken as it is; `None` where it may be later.
fn refusal(trouble: &Trouble) -> Option<String> {
    let for_good = match trouble {
        Trouble::Request(..) | Trouble::Refused(_) => true,
        Trouble::Gateway(status, ..) => {
            status.is_client_error()
                && ![
                    StatusCode::UNAUTHORIZED,
                    StatusCode::REQUEST_TIMEOUT,
                    StatusCode::CONFLICT,
                    StatusCode::TOO_MANY_REQUESTS,
                ]
                .contains(status)
        }
        Trouble::NoAnswer(_) | Trouble::Broken(_) | Trouble::Own(_) => false,
    };
    for_good.then(|| trouble.words())
}
