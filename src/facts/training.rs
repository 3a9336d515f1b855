//! Who is trained for what, until when, and by which evidence: read from the CSV that learning systems export, whole or
//! not at all, with a fault for each wrong line. What a role requires is stated apart.
//!
//! Columns, in any order, by the names in the first line; others are passed over: `organisation` (ODS code),
//! `practitioner` (its id there), `requirement` (a-z, 0-9 and `-`), `completed` and `expires` (dates; trained to the
//! end of the latter), `evidence` (a certificate's number, a course's name).

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use policy::words::PractitionerId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Register;
use super::statement::{StatementError, ods, role, wrong};

/// What every role requires: the yearly training in data security. The date that a founding statement gives
/// (`trained_until_ms`) is of this one.
pub const DATA_SECURITY: &str = "data-security";
/// Lines of one file.
const LINES_MAX: usize = 10_000;
/// Faults that are told of one file.
const FAULTS_MAX: usize = 100;
/// A training that is said to last longer is a typing error.
const YEARS_MAX: i16 = 5;
const COLUMNS: [&str; 6] = [
    "organisation",
    "practitioner",
    "requirement",
    "completed",
    "expires",
    "evidence",
];

/// That somebody met a requirement.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// ODS code of the organisation whose directory has this person.
    pub organisation: String,
    /// The person there.
    pub practitioner: String,
    /// What was met.
    pub requirement: String,
    /// When, as the file says it: `YYYY-MM-DD`.
    pub completed: String,
    /// Until when (exclusive), milliseconds.
    pub until_ms: u64,
    /// What shows it.
    pub evidence: String,
}

/// That a role requires a training beside the one in data security.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// Role code.
    pub role: String,
    /// What it requires.
    pub requirement: String,
}

/// How a file writes its dates. Why asked for: 03/04/2026 is two days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dates {
    /// `2026-04-03`.
    #[default]
    Iso,
    /// `03/04/2026` is the third of April.
    Uk,
}

/// What is wrong with one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineFault {
    /// Which line of the file, the first is 1.
    pub line: u64,
    /// Which column.
    pub column: &'static str,
    /// Which rule it breaks.
    pub rule: String,
}

impl Training {
    pub(super) fn check(&self) -> Result<(), StatementError> {
        ods(&self.organisation)?;
        requirement(&self.requirement)?;
        let id = PractitionerId::try_from(self.practitioner.as_str());
        id.map(drop)
            .map_err(|_| wrong("practitioner", "is not an id"))
    }
}

impl Requirement {
    pub(super) fn check(&self) -> Result<(), StatementError> {
        role(&self.role)?;
        requirement(&self.requirement)
    }
}

fn requirement(code: &str) -> Result<(), StatementError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=40).contains(&code.len()) && code.bytes().all(plain) {
        Ok(())
    } else {
        Err(wrong("requirement", "must be 1 to 40 of a-z 0-9 -"))
    }
}

/// Reads a whole file against the directory.
///
/// # Errors
/// Each wrong line, up to a hundred of them; then nothing of the file may be taken in.
pub fn read(
    file: &[u8],
    dates: Dates,
    register: &Register,
    now_ms: u64,
) -> Result<Vec<Training>, Vec<LineFault>> {
    let whole = |rule: &str| vec![fault(1, "file", rule)];
    let text = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    if std::str::from_utf8(text).is_err() {
        return Err(whole("is not UTF-8; save it as CSV UTF-8"));
    }
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text);
    let header = reader.headers().map_err(|_| whole("has no first line"))?;
    let places = columns(header)?;
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut lines = Lines {
        text,
        at: 0,
        line: 1,
    };
    let mut seen: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for (count, record) in reader.records().enumerate() {
        if count >= LINES_MAX {
            return Err(whole("has more than 10000 lines; split it"));
        }
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = lines.of(error.position());
                faults.push(fault(
                    line,
                    "line",
                    "has not as many columns as the first line",
                ));
                continue;
            }
        };
        let line = lines.of(record.position());
        let cell = |column: &'static str| {
            let place = places.get(column).and_then(|place| record.get(*place));
            Cell {
                line,
                column,
                text: place.unwrap_or_default(),
            }
        };
        match one(cell, dates, register, now_ms) {
            Ok(row) => {
                let key = (
                    row.organisation.clone(),
                    row.practitioner.clone(),
                    row.requirement.clone(),
                );
                if let Some(first) = seen.insert(key, line) {
                    let rule =
                        format!("the same person and requirement stand in line {first} already");
                    faults.push(fault(line, "practitioner", &rule));
                }
                rows.push(row);
            }
            Err(mut more) => faults.append(&mut more),
        }
        if faults.len() >= FAULTS_MAX {
            break;
        }
    }
    if rows.is_empty() && faults.is_empty() {
        return Err(whole("holds no line of training"));
    }
    if faults.is_empty() {
        Ok(rows)
    } else {
        Err(faults)
    }
}

/// Which line a place in the file is on, as an editor counts. Why not the reader's own count: after `\r\n` it is one
/// behind.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line on which the record begins that was read from here; places come in order.
    fn of(&mut self, place: Option<&csv::Position>) -> u64 {
        let byte = place.map_or(self.at, |it| {
            usize::try_from(it.byte()).unwrap_or(usize::MAX)
        });
        while let Some(this) = self.text.get(self.at) {
            let ends =
                *this == b'\n' || (*this == b'\r' && self.text.get(self.at + 1) != Some(&b'\n'));
            // Why beyond the place: what is left of the line before, and empty lines, come before the record.
            if self.at >= byte && !matches!(*this, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(ends);
            self.at += 1;
        }
        self.line
    }
}

fn fault(line: u64, column: &'static str, rule: &str) -> LineFault {
    let rule = rule.to_owned();
    LineFault { line, column, rule }
}

fn columns(header: &csv::StringRecord) -> Result<BTreeMap<&'static str, usize>, Vec<LineFault>> {
    let mut places = BTreeMap::new();
    for (place, name) in header.iter().enumerate() {
        let name = name.to_ascii_lowercase();
        let Some(column) = COLUMNS.iter().find(|it| **it == name) else {
            continue;
        };
        if places.insert(*column, place).is_some() {
            return Err(vec![fault(1, column, "stands twice in the first line")]);
        }
    }
    let missing = COLUMNS.iter().filter(|it| !places.contains_key(*it));
    let missing: Vec<LineFault> = missing
        .map(|column| fault(1, column, "is missing from the first line"))
        .collect();
    if missing.is_empty() {
        Ok(places)
    } else {
        Err(missing)
    }
}

/// One cell of a line.
#[derive(Clone, Copy)]
struct Cell<'a> {
    line: u64,
    column: &'static str,
    text: &'a str,
}

impl Cell<'_> {
    fn wrong(&self, rule: &str) -> LineFault {
        fault(self.line, self.column, rule)
    }

    fn date(&self, dates: Dates) -> Result<Date, LineFault> {
        let (form, rule) = match dates {
            Dates::Iso => ("%Y-%m-%d", "must be a date as 2026-04-03"),
            Dates::Uk => (
                "%d/%m/%Y",
                "must be a date as 03/04/2026, the third of April",
            ),
        };
        // Why the length: two digits of a year would be read as a year of antiquity.
        let date = Date::strptime(form, self.text).ok();
        date.filter(|_| self.text.len() == 10)
            .ok_or_else(|| self.wrong(rule))
    }
}

fn one<'a>(
    cell: impl Fn(&'static str) -> Cell<'a>,
    dates: Dates,
    register: &Register,
    now_ms: u64,
) -> Result<Training, Vec<LineFault>> {
    let mut faults = Vec::new();
    let (organisation, person) = (cell("organisation"), cell("practitioner"));
    let known = ods(organisation.text).ok();
    let known = known.filter(|code| register.organisation(code).is_some());
    match (&known, PractitionerId::try_from(person.text)) {
        (None, _) => {
            faults.push(organisation.wrong("no organisation with this ODS code is registered"))
        }
        (Some(_), Err(_)) => faults.push(person.wrong("is not an id of the directory")),
        (Some(code), Ok(id)) if register.practitioner_stated(code, &id).is_none() => {
            faults
                .push(person.wrong(
                    "this organisation's directory has no such person; register them first",
                ));
        }
        (Some(_), Ok(_)) => {}
    }
    let named = cell("requirement");
    if let Err(error) = requirement(named.text) {
        faults.push(named.wrong(error.rule));
    }
    let evidence = cell("evidence");
    let length = evidence.text.chars().count();
    if !(1..=120).contains(&length) || evidence.text.chars().any(char::is_control) {
        faults.push(evidence.wrong("must have 1 to 120 characters: what shows that it was done"));
    }
    let (completed, expires) = (cell("completed"), cell("expires"));
    let (done, until) = (completed.date(dates), expires.date(dates));
    if let (Ok(done), Ok(until)) = (&done, &until) {
        if day_ms(*done).is_none_or(|ms| ms > now_ms) {
            faults.push(completed.wrong("lies in the future"));
        }
        let latest = done.checked_add(jiff::Span::new().years(YEARS_MAX)).ok();
        if until < done {
            faults.push(expires.wrong("lies before completed"));
        } else if latest.is_none_or(|latest| *until > latest) {
            faults.push(expires.wrong("lies more than 5 years after completed"));
        }
    }
    faults.extend(
        [&done, &until]
            .into_iter()
            .filter_map(|it| it.as_ref().err().cloned()),
    );
    let end = until.ok().and_then(|date| day_ms(date.tomorrow().ok()?));
    match (done, end) {
        (Ok(done), Some(until_ms)) if faults.is_empty() => Ok(Training {
            organisation: organisation.text.to_owned(),
            practitioner: person.text.to_owned(),
            requirement: named.text.to_owned(),
            completed: done.to_string(),
            until_ms,
            evidence: evidence.text.to_owned(),
        }),
        _ => Err(faults),
    }
}

/// The first millisecond of a day, UTC.
fn day_ms(date: Date) -> Option<u64> {
    let start = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(start.timestamp().as_millisecond()).ok()
}

impl Register {
    /// What this role requires.
    pub(super) fn required(&self, role: &str) -> BTreeSet<&str> {
        let stated = self.requirements.iter().filter(|(of, _)| of == role);
        let stated = stated.map(|(_, requirement)| requirement.as_str());
        stated.chain([DATA_SECURITY]).collect()
    }

    /// Until when a person has what a role requires of one thing.
    pub(super) fn met_until(&self, person: &super::Practitioner, requirement: &str) -> Option<u64> {
        let key = (person.organisation.clone(), person.id.clone());
        let imported = self
            .trainings
            .get(&key)
            .and_then(|all| all.get(requirement));
        let stated = person
            .trained_until_ms
            .filter(|_| requirement == DATA_SECURITY);
        imported.map(|it| it.until_ms).max(stated)
    }

    /// Until when a person has everything that the role requires; `None` where something never was.
    pub(super) fn trained_until(&self, person: &super::Practitioner) -> Option<u64> {
        let required = self.required(&person.role);
        let until = required.into_iter().map(|it| self.met_until(person, it));
        until.min().flatten()
    }

    /// Everybody's state, requirement by requirement: the report.
    #[must_use]
    pub fn training(&self, now_ms: u64) -> Value {
        let mut people = Vec::new();
        for person in self.everybody() {
            let key = (person.organisation.clone(), person.id.clone());
            let imported = self.trainings.get(&key);
            let mut met = Vec::new();
            for requirement in self.required(&person.role) {
                let until_ms = self.met_until(person, requirement);
                let row = imported.and_then(|all| all.get(requirement));
                let state = match until_ms {
                    None => "never",
                    Some(until) if until <= now_ms => "expired",
                    Some(_) => "current",
                };
                met.push(json!({
                    "requirement": requirement, "state": state, "until_ms": until_ms,
                    "completed": row.map(|it| &it.completed), "evidence": row.map(|it| &it.evidence),
                }));
            }
            people.push(json!({
                "organisation": person.organisation, "practitioner": person.id, "role": person.role,
                "suspended": person.suspended, "requirements": met,
                "may_ask": !person.suspended && self.trained_until(person).is_some_and(|it| now_ms < it),
            }));
        }
        let mut required: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (role, requirement) in &self.requirements {
            required.entry(role).or_default().push(requirement);
        }
        json!({ "always_required": DATA_SECURITY, "required": required, "people": people })
    }
}
