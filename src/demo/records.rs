//! The story over the caller's own FHIR: every resource, Bundle and NDJSON line is filed by a practice and read
//! back by the hospital, byte for byte. Where the bytes name no NHS number, one is taken from
//! `nhs-numbers.tsv` beside them, or a 9xx test number is assigned, and that is said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use indicatif::ProgressBar;
use policy::words::NhsNumber;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::{DemoError, Story, progress};
use crate::clock::Clock;
use crate::connect::{OpenError, Party};
use crate::dev::{Patient, World, deposit, referral};
use crate::fhir::deposit::{Form, read_deposit};
use crate::fhir::resource::{FhirId, FhirVersion, Name, ResourceType};
use crate::fhir::subject::Subject;
use crate::ledger::audit;

/// Why the caller's records could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// A file or folder does not read.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// There is nothing to file.
    #[error("{0}: no .json or .ndjson file")]
    Nothing(PathBuf),
}

/// One body to be deposited.
struct Parcel {
    /// File, and line of an NDJSON file.
    from: String,
    /// `TYPE/ID` for a PUT; `None` is a Bundle's POST.
    target: Option<String>,
    version: FhirVersion,
    body: Bytes,
    subject: Subject,
    /// Ordinary records in it: name where it has one, and digest of its text.
    records: Vec<(Option<String>, [u8; 32])>,
    /// How many carry a sensitivity label and will be withheld.
    withheld: usize,
}

/// What became of one patient's parcels.
#[derive(Default)]
struct Outcome {
    bodies: usize,
    filed: usize,
    refused: Vec<String>,
    opened: usize,
    withheld: usize,
    wrong: Vec<String>,
}

/// Tells it.
pub(super) async fn tell(story: &mut Story, dir: &Path, path: &Path) -> Result<(), DemoError> {
    let parcels = collect(path)?;
    let numbers = Numbers::beside(path);
    let by_patient = numbers.sort(parcels);
    for line in &by_patient.said {
        story.note(line);
    }
    let patients: Vec<Patient> = by_patient
        .parcels
        .keys()
        .map(|nhs| Patient { nhs: nhs.clone() })
        .collect();
    let files: usize = by_patient.parcels.values().map(Vec::len).sum();
    story.heading(&format!(
        "{files} bodies for {} patients are filed, read back and opened.",
        patients.len()
    ));
    let world = World::open(dir, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &patients).await?;
    let practice = Arc::new(world.party("practice-a")?);
    let hospital = Arc::new(world.party("hospital-a")?);
    let keys = Arc::new(hospital.keys().await?);
    let bar = progress(files as u64, "bodies");
    let mut under_way = JoinSet::new();
    let mut total = Outcome::default();
    for (nhs, parcels) in by_patient.parcels {
        let (practice, hospital, keys, bar) = (
            Arc::clone(&practice),
            Arc::clone(&hospital),
            Arc::clone(&keys),
            bar.clone(),
        );
        if under_way.len() >= 16 {
            total.add(under_way.join_next().await.and_then(Result::ok));
        }
        under_way.spawn(async move {
            one_patient(&practice, &hospital, &keys, &nhs, parcels, &bar).await
        });
    }
    while let Some(outcome) = under_way.join_next().await {
        total.add(outcome.ok());
    }
    bar.finish_and_clear();
    for refusal in &total.refused {
        story.note(&format!("refused  {refusal}"));
    }
    let replaced = total.filed.saturating_sub(total.opened + total.withheld);
    let what = format!(
        "{} records of {} bodies filed; {} opened by the hospital byte for byte, {} sensitive ones withheld, \
         {replaced} replaced by later versions",
        total.filed, total.bodies, total.opened, total.withheld
    );
    story.check(
        &what,
        total.wrong.is_empty() && total.filed > 0,
        &total.wrong.join("; "),
    );
    let said = total.refused.iter().all(|line| line.len() > 20);
    story.check(
        &format!("{} bodies refused, each with a reason", total.refused.len()),
        said,
        "no reason",
    );
    world.publish().await;
    let vkey = world.vkey().clone();
    world.stop().await?;
    let report = audit::verify(
        &audit::Folder(dir.join("log")),
        &vkey,
        &audit::Check::default(),
    );
    let what = format!(
        "the auditor verifies all {} entries of the log offline",
        report.size
    );
    story.check(&what, report.holds(), &report.to_json().to_string());
    story.note(&format!(
        "filed {} refused {}",
        total.filed,
        total.refused.len()
    ));
    Ok(())
}

impl Outcome {
    fn add(&mut self, other: Option<Self>) {
        let Some(other) = other else {
            self.wrong.push("a task ended early".to_owned());
            return;
        };
        self.bodies += other.bodies;
        self.filed += other.filed;
        self.opened += other.opened;
        self.withheld += other.withheld;
        self.refused.extend(other.refused);
        self.wrong.extend(other.wrong);
    }
}

/// A patient's parcels in order, then all of the patient's records.
async fn one_patient(
    practice: &Party,
    hospital: &Party,
    keys: &[keys::PublicJwk],
    nhs: &str,
    parcels: Vec<Parcel>,
    bar: &ProgressBar,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut expected: BTreeMap<String, [u8; 32]> = BTreeMap::new();
    let mut unnamed: BTreeSet<[u8; 32]> = BTreeSet::new();
    let mut token = (String::new(), 0);
    for parcel in parcels {
        outcome.bodies += 1;
        bar.inc(1);
        let now_s = Clock::system().now_s();
        if token.1 <= now_s {
            let details =
                json!({ "type": "deposit", "practice": practice.client_id, "patient": nhs });
            match practice.token(&details, now_s).await {
                Ok(fresh) => token = (fresh, now_s + 240),
                Err(error) => outcome.wrong.push(error.to_string()),
            }
        }
        match deposit(
            practice,
            &token.0,
            parcel.target.as_deref(),
            parcel.version,
            parcel.body,
        )
        .await
        {
            Err(error) => outcome.wrong.push(format!("{}: {error}", parcel.from)),
            Ok(reply) if reply.status.is_success() => {
                outcome.filed += parcel.records.len() + parcel.withheld;
                outcome.withheld += parcel.withheld;
                for (name, digest) in parcel.records {
                    match name {
                        Some(name) => drop(expected.insert(name, digest)),
                        None => drop(unnamed.insert(digest)),
                    }
                }
            }
            Ok(reply) if reply.status.is_client_error() => {
                outcome.refused.push(format!(
                    "{}: {} {}",
                    parcel.from,
                    reply.status.as_u16(),
                    reason(&reply.json())
                ));
            }
            Ok(reply) => outcome.wrong.push(format!(
                "{}: {} {}",
                parcel.from,
                reply.status,
                reply.text()
            )),
        }
    }
    let wanted: BTreeSet<[u8; 32]> = expected.into_values().chain(unnamed).collect();
    match read_back(hospital, keys, nhs).await {
        Err(error) => outcome.wrong.push(format!("reading back: {error}")),
        Ok(found) => {
            outcome.opened = found.len();
            let digests: BTreeSet<[u8; 32]> = found
                .iter()
                .map(|text| Sha256::digest(text).into())
                .collect();
            if digests != wanted {
                let (lost, odd) = (
                    wanted.difference(&digests).count(),
                    digests.difference(&wanted).count(),
                );
                outcome.wrong.push(format!(
                    "{lost} records are missing, {odd} are not what was filed"
                ));
            }
        }
    }
    outcome
}

async fn read_back(
    hospital: &Party,
    keys: &[keys::PublicJwk],
    nhs: &str,
) -> Result<Vec<Bytes>, OpenError> {
    let details = json!({
        "type": "patient_record", "patient": nhs, "purpose": "TREAT", "practitioner": { "id": "dr-okafor" },
        "relationship": { "type": "referral", "reference": referral(nhs) },
    });
    let token = hospital.token(&details, Clock::system().now_s()).await?;
    let mut next = Some(format!("/fhir/Patient/{nhs}/$everything?_count=200"));
    let mut out = Vec::new();
    while let Some(path) = next {
        let reply = hospital.read(&path, &token).await?;
        let opened = hospital.open(&reply, nhs, keys, Clock::system().now_s())?;
        out.extend(opened.records.into_iter().map(|record| record.text));
        next = opened.next;
    }
    Ok(out)
}

fn reason(outcome: &Value) -> String {
    outcome
        .pointer("/issue/0/details/text")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn collect(path: &Path) -> Result<Vec<Parcel>, RecordsError> {
    let mut files = Vec::new();
    walk(path, &mut files)?;
    files.sort();
    let mut parcels = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).map_err(|error| RecordsError::File {
            path: file.clone(),
            error,
        })?;
        let shown = file
            .strip_prefix(path)
            .ok()
            .filter(|rest| !rest.as_os_str().is_empty())
            .unwrap_or(&file);
        let shown = shown.display().to_string();
        if file
            .extension()
            .is_some_and(|extension| extension == "ndjson")
        {
            let bytes = Bytes::from(bytes);
            for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
                if !line.is_empty() {
                    parcels.push(parcel(
                        format!("{shown}:{}", number + 1),
                        bytes.slice_ref(line),
                        &file,
                    ));
                }
            }
        } else {
            parcels.push(parcel(shown, Bytes::from(bytes), &file));
        }
    }
    if parcels.is_empty() {
        Err(RecordsError::Nothing(path.to_owned()))
    } else {
        Ok(parcels)
    }
}

fn walk(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), RecordsError> {
    let wrong = |error| RecordsError::File {
        path: path.to_owned(),
        error,
    };
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(wrong)? {
            walk(&entry.map_err(wrong)?.path(), files)?;
        }
    } else if !path.exists() {
        return Err(wrong(std::io::ErrorKind::NotFound.into()));
    } else if path
        .extension()
        .is_some_and(|extension| extension == "json" || extension == "ndjson")
    {
        files.push(path.to_owned());
    }
    Ok(())
}

/// The gateway judges every body; what is read of it here only says where it goes and what must come back.
fn parcel(from: String, body: Bytes, file: &Path) -> Parcel {
    let stu3 = file.to_string_lossy().to_ascii_lowercase().contains("stu3");
    let version = if stu3 {
        FhirVersion::Stu3
    } else {
        FhirVersion::R4
    };
    let top: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |member: &str| top.get(member).and_then(Value::as_str);
    let kind = text("resourceType").and_then(|kind| ResourceType::try_from(kind).ok());
    let bundle = kind.as_ref().is_none_or(|kind| kind.as_str() == "Bundle");
    let named = kind.filter(|_| !bundle).and_then(|kind| {
        let digest = format!("demo-{}", hex(&Sha256::digest(&body)));
        let id = FhirId::try_from(text("id").unwrap_or(&digest)).ok()?;
        Some(Name { kind, id })
    });
    let form = match &named {
        Some(name) => Form::Put {
            kind: &name.kind,
            id: &name.id,
        },
        None => Form::Bundle,
    };
    let read = read_deposit(&body, version, form);
    let mut parcel = Parcel {
        from,
        target: named.as_ref().map(ToString::to_string),
        version,
        body: body.clone(),
        subject: Subject::Unnamed,
        records: Vec::new(),
        withheld: 0,
    };
    if let Ok(batch) = read {
        parcel.subject = batch.subject;
        for item in batch.items {
            if item.card.labels.is_empty() {
                let name = item.name.as_ref().map(ToString::to_string);
                parcel
                    .records
                    .push((name, Sha256::digest(&item.text).into()));
            } else {
                parcel.withheld += 1;
            }
        }
    }
    // Why: a Patient without an NHS number is found by its own name.
    if let (Subject::Unnamed, Some(name)) = (&parcel.subject, &named)
        && name.kind.as_str() == "Patient"
    {
        parcel.subject = Subject::Reference(name.to_string());
    }
    parcel
}

/// NHS numbers for records that name none.
struct Numbers {
    by_file: BTreeMap<String, String>,
    by_patient: BTreeMap<String, String>,
}

/// Parcels by NHS number, and what is to be said about where the numbers came from.
struct Sorted {
    parcels: BTreeMap<String, Vec<Parcel>>,
    said: Vec<String>,
}

impl Numbers {
    /// `nhs-numbers.tsv` in this folder or the one above: patient_file, patient_id, nhs_number.
    fn beside(path: &Path) -> Self {
        let mut numbers = Self {
            by_file: BTreeMap::new(),
            by_patient: BTreeMap::new(),
        };
        let folders = path.ancestors().take(3);
        let Some(text) = folders
            .map(|folder| folder.join("nhs-numbers.tsv"))
            .find_map(|file| std::fs::read_to_string(file).ok())
        else {
            return numbers;
        };
        for line in text.lines().skip(1) {
            let mut cells = line.split('\t');
            if let (Some(file), Some(patient), Some(nhs)) =
                (cells.next(), cells.next(), cells.next())
                && NhsNumber::try_from(nhs).is_ok()
            {
                let file = file.rsplit('/').next().unwrap_or(file);
                numbers.by_file.insert(file.to_owned(), nhs.to_owned());
                numbers
                    .by_patient
                    .insert(patient.to_owned(), nhs.to_owned());
            }
        }
        numbers
    }

    fn sort(mut self, parcels: Vec<Parcel>) -> Sorted {
        let mut taken: BTreeSet<String> = self.by_patient.values().cloned().collect();
        for parcel in &parcels {
            if let Subject::Number(number) = &parcel.subject {
                taken.insert(number.as_str().to_owned());
                // A Patient among them says whom the others mean by its name.
                let id = parcel
                    .target
                    .as_deref()
                    .and_then(|name| name.strip_prefix("Patient/"));
                if let Some(id) = id {
                    self.by_patient
                        .insert(id.to_owned(), number.as_str().to_owned());
                }
            }
        }
        let mut fresh = (0..10_000_000u32)
            .map(test_number)
            .map_while(|nhs| nhs)
            .filter(|nhs| !taken.contains(nhs));
        let mut assigned: BTreeMap<String, String> = BTreeMap::new();
        let mut sorted = Sorted {
            parcels: BTreeMap::new(),
            said: Vec::new(),
        };
        let (mut named, mut listed) = (0, 0);
        for parcel in parcels {
            let nhs = match (&parcel.subject, self.listed(&parcel)) {
                (Subject::Number(number), _) => {
                    named += 1;
                    number.as_str().to_owned()
                }
                (_, Some(nhs)) => {
                    listed += 1;
                    nhs.clone()
                }
                (subject, None) => {
                    let who = match subject {
                        Subject::Reference(reference) => reference.clone(),
                        _ if parcel.target.is_none() => parcel.from.clone(),
                        _ => "records that are about no patient".to_owned(),
                    };
                    let next = || fresh.next().unwrap_or_default();
                    assigned.entry(who).or_insert_with(next).clone()
                }
            };
            sorted.parcels.entry(nhs).or_default().push(parcel);
        }
        sorted.said.push(format!(
            "{named} bodies name their patient's NHS number; {listed} are listed in nhs-numbers.tsv"
        ));
        if !assigned.is_empty() {
            let said = format!(
                "{} patients without a number are assigned 9xx test numbers, such as:",
                assigned.len()
            );
            sorted.said.push(said);
            sorted.said.extend(
                assigned
                    .iter()
                    .take(3)
                    .map(|(who, nhs)| format!("  {nhs}  {who}")),
            );
        }
        sorted
    }

    fn listed(&self, parcel: &Parcel) -> Option<&String> {
        let by_reference = match &parcel.subject {
            Subject::Reference(reference) => {
                let id = reference.rsplit(['/', ':']).next().unwrap_or(reference);
                self.by_patient.get(id)
            }
            Subject::Number(_) | Subject::Unnamed => None,
        };
        let file = parcel.from.rsplit('/').next().unwrap_or(&parcel.from);
        by_reference.or_else(|| self.by_file.get(file))
    }
}

/// The n-th number of the 999 test range from 999 5 on, where it has a check digit.
fn test_number(n: u32) -> Option<String> {
    (0..)
        .map(|skip| 999_500_000 + n * 7 + skip)
        .find_map(|nine| {
            (0..10)
                .map(|digit| format!("{nine:09}{digit}"))
                .find(|text| NhsNumber::try_from(text.as_str()).is_ok())
        })
}

/// The first 16 bytes in hex.
fn hex(digest: &[u8]) -> String {
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
