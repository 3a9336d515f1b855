//! The reader over real records and torture files that stand beside the project, where they are present.
//!
//! Nothing here is compiled into the program. Where `../shared/fhir` is missing each test says so loudly and
//! passes; a file that is there must come out as counted here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests may panic and report"
)]

use super::card::Card;
use super::card_bytes::CARD_BYTES_MAX;
use super::consent::read_consent;
use super::deposit::{Batch, DepositError, Form, Rule, read_deposit};
use super::json::{Document, JsonRule};
use super::outcome::OperationOutcome;
use super::query::Query;
use super::resource::{FhirId, FhirVersion, ResourceType};
use super::subject::Subject;
use bytes::Bytes;
use policy::words::{Label, NhsNumber};
use std::path::PathBuf;
use std::time::Instant;

/// The files under one folder, sorted; `None` (and a loud line) where the folder is missing.
fn files(folder: &str) -> Option<Vec<(String, Bytes)>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/fhir")
        .join(folder);
    if !root.is_dir() {
        eprintln!("SKIPPED: no records at {}", root.display());
        return None;
    }
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|end| end == "json" || end == "ndjson")
            {
                let name = path
                    .strip_prefix(&root)
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.push((name, Bytes::from(std::fs::read(path).unwrap())));
            }
        }
    }
    found.sort();
    Some(found)
}

/// Deposits a body as a client would: a Bundle is posted, anything else is put under its own name.
fn deposit(body: &Bytes, version: FhirVersion) -> Result<Batch, DepositError> {
    let (kind, id) = match Document::parse(body) {
        Ok(document) => (
            document
                .root()
                .text_at("resourceType")
                .map(|t| t.into_owned()),
            document.root().text_at("id").map(|t| t.into_owned()),
        ),
        Err(_) => (None, None),
    };
    let kind = ResourceType::try_from(kind.as_deref().unwrap_or("Bundle"))
        .unwrap_or_else(|_| "Bundle".try_into().unwrap());
    let id =
        FhirId::try_from(id.as_deref().unwrap_or("x")).unwrap_or_else(|_| "x".try_into().unwrap());
    let form = if kind.is("Bundle") {
        Form::Bundle
    } else {
        Form::Put {
            kind: &kind,
            id: &id,
        }
    };
    let result = read_deposit(body, version, form);
    match &result {
        Ok(batch) => batch.items.iter().for_each(check_item),
        Err(error) => {
            assert!(!error.to_string().is_empty() && [400, 413, 422].contains(&error.status()));
            assert!(OperationOutcome::from(error).to_json().contains("\"text\""));
        }
    }
    result
}

fn check_item(item: &super::deposit::Item) {
    let bytes = item.card.to_bytes();
    assert!(bytes.len() <= CARD_BYTES_MAX);
    assert_eq!(Card::from_bytes(&bytes).as_ref(), Ok(&item.card));
    let read: serde_json::Value = serde_json::from_slice(&item.text).unwrap();
    assert_eq!(read["resourceType"], item.card.kind.as_str());
}

/// How a folder came out: what was accepted, and why what was not was not.
#[derive(Default)]
struct Tally {
    accepted: usize,
    records: usize,
    numbered: usize,
    referenced: usize,
    unnamed: usize,
    labelled: usize,
    card_bytes: usize,
    refused: Vec<(String, String)>,
}

impl Tally {
    fn of<'a>(bodies: impl IntoIterator<Item = (&'a str, Bytes)>, version: FhirVersion) -> Self {
        let mut tally = Self::default();
        for (name, body) in bodies {
            match deposit(&body, version) {
                Ok(batch) => tally.add(&batch),
                Err(error) => tally.refused.push((name.to_owned(), error.to_string())),
            }
        }
        tally
    }

    fn add(&mut self, batch: &Batch) {
        self.accepted += 1;
        self.records += batch.items.len();
        self.labelled += batch
            .items
            .iter()
            .filter(|item| !item.card.labels.is_empty())
            .count();
        self.card_bytes += batch
            .items
            .iter()
            .map(|item| item.card.to_bytes().len())
            .sum::<usize>();
        match batch.subject {
            Subject::Number(_) => self.numbered += 1,
            Subject::Reference(_) => self.referenced += 1,
            Subject::Unnamed => self.unnamed += 1,
        }
    }

    fn report(&self, folder: &str) {
        let mean = self.card_bytes.checked_div(self.records).unwrap_or(0);
        eprintln!(
            "{folder}: {} accepted ({} records, {} labelled, cards {mean} bytes on average; by number {}, by reference {}, unnamed {}), {} refused",
            self.accepted,
            self.records,
            self.labelled,
            self.numbered,
            self.referenced,
            self.unnamed,
            self.refused.len()
        );
        for (name, why) in &self.refused {
            eprintln!("  {name}: {why}");
        }
    }
}

fn tally(folder: &str, version: FhirVersion) -> Option<Tally> {
    let files = files(folder)?;
    let tally = Tally::of(
        files
            .iter()
            .map(|(name, body)| (name.as_str(), body.clone())),
        version,
    );
    tally.report(folder);
    Some(tally)
}

#[test]
fn synthea_transactions_are_accepted_whole() {
    let Some(tally) = tally("synthea-r4", FhirVersion::R4) else {
        return;
    };
    assert_eq!(
        (tally.accepted, tally.refused.len(), tally.records),
        (9, 0, 1714)
    );
    // Why unnamed: Synthea's identifiers are American; the token names the patient.
    assert_eq!(tally.unnamed, 9);
}

#[test]
fn synthea_bulk_lines_are_accepted_one_by_one() {
    let Some(files) = files("synthea-bulk-r4") else {
        return;
    };
    for (name, body) in files {
        let lines: Vec<Bytes> = body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| body.slice_ref(line))
            .collect();
        let tally = Tally::of(
            lines.iter().map(|line| (name.as_str(), line.clone())),
            FhirVersion::R4,
        );
        tally.report(&name);
        assert_eq!((tally.accepted, tally.refused.len()), (lines.len(), 0));
        let about_someone = !["Organization", "Practitioner", "Patient"]
            .iter()
            .any(|kind| name.starts_with(kind));
        assert_eq!(
            tally.referenced,
            if about_someone { lines.len() } else { 0 }
        );
    }
}

#[test]
fn gp_connect_exports_are_accepted_and_their_errors_named() {
    let Some(files) = files("gpconnect-stu3") else {
        return;
    };
    let (errors, exports): (Vec<_>, Vec<_>) = files
        .iter()
        .partition(|(name, _)| name.starts_with("errors/"));
    let tally = Tally::of(
        exports
            .iter()
            .map(|(name, body)| (name.as_str(), body.clone())),
        FhirVersion::Stu3,
    );
    tally.report("gpconnect-stu3");
    assert_eq!(
        (tally.accepted, tally.numbered, tally.unnamed),
        (16, 11, 5),
        "the five Binary documents say nothing of their patient"
    );
    let refused: Vec<&str> = tally
        .refused
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(refused, [LARGEST]);
    let tally = Tally::of(
        errors
            .iter()
            .map(|(name, body)| (name.as_str(), body.clone())),
        FhirVersion::Stu3,
    );
    tally.report("gpconnect-stu3/errors");
    assert_eq!(
        (tally.accepted, tally.unnamed),
        (8, 8),
        "outcomes name nobody"
    );
    let why: Vec<&str> = tally.refused.iter().map(|(_, why)| why.as_str()).collect();
    assert_eq!(
        why,
        ["Bundle.entry[2].resource.subject: a deposit is about one patient, and this is another"],
        "a record without a Patient, whose lists name two NHS numbers"
    );
}

/// The largest export: 1,283 entries, of which 27 letters are about a patient of another export.
const LARGEST: &str = "9690937286.structuredRecord.large.json";

fn largest_mended(files: &[(String, Bytes)]) -> Bytes {
    let (_, body) = files.iter().find(|(name, _)| name == LARGEST).unwrap();
    let text = std::str::from_utf8(body).unwrap();
    text.replace("Patient/C71B9A8D-26CD-43D9-9030-F6C650879B37", "Patient/2")
        .into()
}

#[test]
fn letters_of_another_patient_are_found_in_a_real_export() {
    let Some(files) = files("gpconnect-stu3") else {
        return;
    };
    let (_, body) = files.iter().find(|(name, _)| name == LARGEST).unwrap();
    match deposit(body, FhirVersion::Stu3) {
        Err(DepositError::Invalid(violation)) => {
            assert_eq!(
                (violation.path.as_str(), violation.rule),
                ("Bundle.entry[241].resource.subject", Rule::OtherPatient)
            );
        }
        other => panic!("{other:?}"),
    }
    // All else in it is taken as it comes: ids with underscores, one practitioner twice, two places under one id.
    let batch = deposit(&largest_mended(&files), FhirVersion::Stu3).unwrap();
    assert_eq!((batch.entries, batch.items.len()), (1283, 1282));
    let second: Vec<String> = batch
        .items
        .iter()
        .filter_map(|item| item.name.as_ref().map(ToString::to_string))
        .filter(|name| name.ends_with(".2"))
        .collect();
    assert_eq!(
        second,
        [
            "PractitionerRole/e0244de8-07ef-4274-9f7a-d7067bcc8d21.2",
            "Location/17.2"
        ]
    );
}

#[test]
fn uk_core_examples() {
    let Some(tally) = tally("uk-core-r4/json", FhirVersion::R4) else {
        return;
    };
    assert_eq!(tally.accepted + tally.refused.len(), 142);
    let refused: Vec<&str> = tally
        .refused
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let expected = [
        "UKCore-Bundle-Batch-Example.json",
        "UKCore-Bundle-Sn-NoAllergyData-Example.json",
        "UKCore-Consent-ForInformationAccess-Example.json",
        "UKCore-Patient-BabyPatient-Example.json",
    ];
    assert_eq!(
        refused, expected,
        "a batch of GETs, a searchset, a Consent, an NHS number with a wrong check digit"
    );
}

#[test]
fn the_specifications_examples_and_other_programmes() {
    let counts = ["fhir-spec-r4", "pds-r4", "eps-r4", "bars-r4"].map(|folder| {
        tally(folder, FhirVersion::R4).map(|tally| (tally.accepted, tally.refused.len()))
    });
    for (found, counted) in counts
        .into_iter()
        .zip([(71, 1), (45, 35), (58, 70), (72, 14)])
    {
        assert!(found.is_none_or(|found| found == counted), "{counts:?}");
    }
}

#[test]
fn consents_that_are_no_objection_are_refused_with_a_reason() {
    for (folder, name) in [
        ("fhir-spec-r4", "consent-example.json"),
        (
            "uk-core-r4/json",
            "UKCore-Consent-ForInformationAccess-Example.json",
        ),
    ] {
        let Some(files) = files(folder) else { continue };
        let (_, body) = files.iter().find(|(file, _)| file == name).unwrap();
        let error = read_consent(body, FhirVersion::R4).unwrap_err();
        eprintln!("{name}: {error}");
        assert_eq!(error.status(), 422);
        assert!(
            OperationOutcome::from(&error)
                .to_json()
                .contains("an objection denies")
        );
    }
}

#[test]
fn a_sensitive_patient_is_labelled() {
    let Some(files) = files("pds-r4") else { return };
    let (_, body) = files
        .iter()
        .find(|(name, _)| name.ends_with("searchResponses/Sensitive_Patient.json"))
        .unwrap();
    let batch = deposit(body, FhirVersion::R4).unwrap();
    assert_eq!(
        batch.subject,
        Subject::Number(NhsNumber::try_from("9000000025").unwrap())
    );
    assert_eq!(batch.items[0].card.labels, [Label::R].into());
}

/// What must parse and does not, and why. The reader refuses duplicate names; RFC 8259 §4 only advises against them.
const Y_REFUSED: [&str; 2] = [
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
];

#[test]
fn json_torture() {
    let Some(files) = files("json-torture") else {
        return;
    };
    let (mut accepted, mut refused) = (0, 0);
    for (name, body) in &files {
        let result = Document::parse(body);
        let serde = serde_json::from_slice::<serde_json::Value>(body).is_ok();
        match (name.get(..2).unwrap(), &result) {
            ("y_", Ok(_)) => accepted += 1,
            ("y_", Err(error)) => {
                assert!(Y_REFUSED.contains(&name.as_str()), "{name}: {error}");
                assert_eq!(error.rule, JsonRule::Duplicate);
            }
            ("n_", Err(error)) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
            ("n_", Ok(_)) => panic!("{name} was accepted"),
            // Why "i_": the suite leaves these open. What we accept more than serde_json does are numbers that no float can hold.
            (_, result) => eprintln!(
                "{name}: {}",
                result
                    .as_ref()
                    .map_or_else(ToString::to_string, |_| format!(
                        "accepted (serde_json: {serde})"
                    ))
            ),
        }
    }
    eprintln!(
        "json-torture: {accepted} y_ accepted, {} y_ refused for duplicate names, {refused} n_ refused, of {}",
        Y_REFUSED.len(),
        files.len()
    );
    assert_eq!(
        accepted + Y_REFUSED.len(),
        files
            .iter()
            .filter(|(name, _)| name.starts_with("y_"))
            .count()
    );
    assert_eq!(
        refused,
        files
            .iter()
            .filter(|(name, _)| name.starts_with("n_"))
            .count()
    );
}

#[test]
fn fhir_torture() {
    let Some(files) = files("fhir-torture") else {
        return;
    };
    for (name, body) in &files {
        let result = deposit(body, FhirVersion::R4);
        eprintln!(
            "fhir-torture/{name}: {}",
            result
                .as_ref()
                .map_or_else(ToString::to_string, |batch| format!(
                    "accepted, {} records",
                    batch.items.len()
                ))
        );
        let rule = match &result {
            Err(DepositError::Invalid(violation)) => Some(violation.rule),
            _ => None,
        };
        match name.as_str() {
            name if name.starts_with("bad-json") => assert_eq!(result.unwrap_err().status(), 400),
            "bundle-bad-empty.json" => assert_eq!(rule, Some(Rule::FullUrl)),
            "bundle-document-versioned-references-bad.json" => {
                assert_eq!(rule, Some(Rule::DuplicateFullUrl))
            }
            // What is wrong with the others is FHIR's business, not ours: payloads are opaque.
            _ => assert!(result.is_ok(), "{name}"),
        }
    }
}

#[test]
fn cut_and_bent_bodies_never_panic() {
    let Some(files) = files("gpconnect-stu3") else {
        return;
    };
    let (_, body) = files
        .iter()
        .find(|(name, _)| name.starts_with("Medicus"))
        .unwrap();
    for end in (0..body.len()).step_by(97) {
        assert!(
            deposit(&body.slice(..end), FhirVersion::Stu3).is_err(),
            "cut at {end}"
        );
    }
    let mut state = 88_172_645_463_325_252_u64;
    for _ in 0..300 {
        let mut bent = body.to_vec();
        for _ in 0..4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = (state % bent.len() as u64) as usize;
            bent[at] = (state >> 40) as u8;
        }
        drop(deposit(&bent.into(), FhirVersion::Stu3));
    }
}

#[test]
fn three_megabytes_are_read_quickly() {
    let Some(files) = files("gpconnect-stu3") else {
        return;
    };
    let body = &largest_mended(&files);
    let best = |act: &mut dyn FnMut()| {
        let times = (0..7).map(|_| {
            let start = Instant::now();
            act();
            start.elapsed()
        });
        times.min().unwrap()
    };
    let parse = best(&mut || drop(Document::parse(body).unwrap()));
    let whole = best(&mut || drop(read_deposit(body, FhirVersion::Stu3, Form::Bundle).unwrap()));
    let cards: Vec<Vec<u8>> = read_deposit(body, FhirVersion::Stu3, Form::Bundle)
        .unwrap()
        .items
        .iter()
        .map(|item| item.card.to_bytes())
        .collect();
    let pairs = [
        ("patient", "9990000018"),
        (
            "code",
            "http://snomed.info/sct|163020007,http://loinc.org|8480-6",
        ),
        ("date", "ge2015"),
    ];
    let pairs: Vec<(String, String)> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let query = Query::parse(&"Observation".try_into().unwrap(), &pairs).unwrap();
    let mut found = 0;
    let search = best(&mut || {
        found = cards
            .iter()
            .filter(|bytes| query.matches(&Card::from_bytes(bytes).unwrap()))
            .count()
    });
    let each = search / u32::try_from(cards.len()).unwrap();
    eprintln!(
        "{} bytes, {} records: JSON {parse:?}, deposit {whole:?}; a card opened and asked {each:?} ({found} found)",
        body.len(),
        cards.len()
    );
}

#[test]
fn the_test_numbers_of_the_records_are_numbers() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fhir/nhs-numbers.tsv");
    let Ok(table) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: no {}", path.display());
        return;
    };
    let ours: Vec<&str> = super::fixtures::small_set()
        .iter()
        .map(|fixture| fixture.nhs)
        .collect();
    for number in table
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').nth(2))
    {
        assert!(
            NhsNumber::try_from(number).is_ok() && !ours.contains(&number),
            "{number}"
        );
    }
}
