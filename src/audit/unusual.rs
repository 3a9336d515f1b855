//! Accesses that want an explanation: to oneself, to somebody of one's own name or address, to a colleague, to a person
//! under special protection, to the dead, beyond the ordinary in number. Who is related to whom no entry says and no
//! gateway is told: the auditor brings a register of their own (from staff and patient records), it is joined on the
//! auditor's machine, and nothing of it goes anywhere else. A gateway's own marks are not believed here.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Entry, Keys};
use super::mirror::Mirror;
use super::query::Query;
use super::report::Report;
use crate::clock::is_out_of_hours;

/// The largest register that is read.
const BYTES_MAX: usize = 256 << 20;
/// More patients than this within an hour of one person are out of the ordinary.
const PATIENTS_AN_HOUR: usize = 60;
const COLUMNS: [&str; 8] = [
    "kind",
    "organisation",
    "id",
    "nhs_number",
    "surname",
    "address",
    "vip",
    "deceased",
];

#[derive(Default)]
struct Person {
    nhs: String,
    surname: String,
    address: String,
}

#[derive(Default)]
struct Patient {
    surname: String,
    address: String,
    is_vip: bool,
    deceased_ms: Option<u64>,
}

/// What the auditor knows of staff and patients.
#[derive(Default)]
pub struct Register {
    /// By organisation and the practitioner's id in its directory.
    people: BTreeMap<(String, String), Person>,
    /// By NHS number.
    patients: BTreeMap<String, Patient>,
    /// Organisations at which somebody with this NHS number works, with that person's id.
    staff: BTreeMap<String, BTreeSet<(String, String)>>,
}

impl Register {
    /// Reads a CSV file with the columns `kind,organisation,id,nhs_number,surname,address,vip,deceased`. A row of kind
    /// `person` has organisation and id, one of kind `patient` an NHS number; what is empty is not known.
    ///
    /// # Errors
    /// Which line, which column, which rule.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > BYTES_MAX {
            return Err("the register is larger than 256 MiB".to_owned());
        }
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let header = reader.headers().map_err(|error| error.to_string())?;
        if header.iter().ne(COLUMNS) {
            return Err(format!("its first line must be {}", COLUMNS.join(",")));
        }
        let mut register = Self::default();
        for (row, line) in reader.records().zip(2u64..) {
            let row = row.map_err(|error| error.to_string())?;
            let cell = |name: &str| {
                let at = COLUMNS.iter().position(|column| *column == name);
                at.and_then(|at| row.get(at)).unwrap_or_default()
            };
            register
                .take(&cell)
                .map_err(|rule| format!("line {line}: {rule}"))?;
        }
        Ok(register)
    }

    fn take<'a>(&mut self, cell: &dyn Fn(&str) -> &'a str) -> Result<(), String> {
        let nhs: String = cell("nhs_number")
            .chars()
            .filter(|c| !c.is_whitespace())
            .collect();
        if !nhs.is_empty() && policy::NhsNumber::try_from(nhs.as_str()).is_err() {
            return Err("nhs_number: must be one with the right check digit, or empty".to_owned());
        }
        let (surname, address) = (plain(cell("surname")), plain(cell("address")));
        match cell("kind") {
            "person" => {
                let key = (cell("organisation").to_owned(), cell("id").to_owned());
                if key.0.is_empty() || key.1.is_empty() {
                    return Err("a person needs organisation and id".to_owned());
                }
                if !nhs.is_empty() {
                    let works = self.staff.entry(nhs.clone()).or_default();
                    works.insert(key.clone());
                }
                let person = Person {
                    nhs,
                    surname,
                    address,
                };
                self.people.insert(key, person);
            }
            "patient" if nhs.is_empty() => return Err("a patient needs an nhs_number".to_owned()),
            "patient" => {
                let is_vip = match cell("vip") {
                    "" | "no" => false,
                    "yes" => true,
                    _ => return Err("vip: must be yes, no or empty".to_owned()),
                };
                let patient = Patient {
                    surname,
                    address,
                    is_vip,
                    deceased_ms: day(cell("deceased"))?,
                };
                self.patients.insert(nhs, patient);
            }
            _ => return Err("kind: must be person or patient".to_owned()),
        }
        Ok(())
    }

    /// Why this access wants an explanation.
    fn marks(&self, entry: &Entry) -> Vec<&'static str> {
        let unknown = (Person::default(), Patient::default());
        let key = (
            entry.said("actor", "organisation").to_owned(),
            entry.said("actor", "practitioner").to_owned(),
        );
        let nhs = entry.patient();
        let person = self.people.get(&key).unwrap_or(&unknown.0);
        let patient = self.patients.get(nhs).unwrap_or(&unknown.1);
        // Why: the entry has the name as it was then; the register may know no other.
        let then = plain(last_word(entry.name()));
        let is_same = |one: &str, other: &str| !one.is_empty() && one == other;
        let is_self = is_same(&person.nhs, nhs);
        let works_beside = |(place, id): &(String, String)| *place == key.0 && *id != key.1;
        let is_colleague = self
            .staff
            .get(nhs)
            .is_some_and(|works| works.iter().any(works_beside));
        let was_dead = patient
            .deceased_ms
            .is_some_and(|at_ms| at_ms <= entry.ts_ms);
        let marks = [
            (is_self, "self"),
            (
                !is_self
                    && (is_same(&person.surname, &patient.surname)
                        || is_same(&then, &patient.surname)),
                "same-surname",
            ),
            (
                !is_self && is_same(&person.address, &patient.address),
                "same-address",
            ),
            (!is_self && is_colleague, "colleague"),
            (patient.is_vip, "vip"),
            (was_dead, "deceased"),
        ];
        let marks = marks.into_iter().filter(|(holds, _)| *holds);
        marks.map(|(_, mark)| mark).collect()
    }
}

/// Letters and digits alone, in lower case: "12 High St." and "12, High St" are one address.
fn plain(text: &str) -> String {
    let kept = text.chars().filter(|c| c.is_alphanumeric());
    kept.flat_map(char::to_lowercase).collect()
}

fn last_word(name: &str) -> &str {
    name.split_whitespace().next_back().unwrap_or_default()
}

fn day(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let at = format!("{text}T00:00:00Z").parse::<jiff::Timestamp>();
    let at = at
        .ok()
        .and_then(|at| u64::try_from(at.as_millisecond()).ok());
    at.map(Some)
        .ok_or_else(|| "deceased: must be a date like 2026-01-31, or empty".to_owned())
}

/// Every access that wants an explanation, with why, those without one first.
///
/// # Errors
/// Which file of the mirror is missing or damaged.
pub fn unusual(
    query: &Query,
    register: &Register,
    (mirror, keys): (&Mirror, &Keys),
) -> Result<Report, String> {
    let releases = Query {
        event: Some("record.release".to_owned()),
        ..query.clone()
    };
    let (found, closed) = releases.run(mirror, keys)?;
    let mut hours: BTreeMap<(String, String, u64), BTreeSet<String>> = BTreeMap::new();
    let mut entries = Vec::new();
    for mut entry in found {
        entry.marks = register.marks(&entry);
        let hour = (
            entry.said("actor", "organisation").to_owned(),
            entry.said("actor", "practitioner").to_owned(),
            entry.ts_ms / 3_600_000,
        );
        let seen = hours.entry(hour).or_default();
        let is_new = entry.plain.is_some() && seen.insert(entry.patient().to_owned());
        if is_new && seen.len() > PATIENTS_AN_HOUR {
            entry.marks.push("volume");
        }
        if entry.marks.is_empty() {
            continue;
        }
        let is_explained = entry.said("context", "evidence") == "corroborated";
        // Why only then: hospitals work at night.
        if !is_explained && is_out_of_hours(entry.ts_ms) {
            entry.marks.push("out-of-hours");
        }
        entry.marks.push(match is_explained {
            true => "explanation-found",
            false => "explanation-missing",
        });
        entries.push(entry);
    }
    entries.sort_by_key(|entry| entry.marks.contains(&"explanation-found"));
    let counts = Vec::new();
    Ok(Report {
        entries,
        counts,
        closed,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;
    use serde_json::json;

    const HEAD: &str = "kind,organisation,id,nhs_number,surname,address,vip,deceased\n";

    fn access(practitioner: &str, name: &str, nhs: &str) -> Entry {
        let plain = json!({
            "actor": { "organisation": "RJ1", "practitioner": practitioner },
            "context": {}, "name": name, "object": {}, "subject": { "nhs": nhs },
        });
        Entry {
            index: 7,
            ts_ms: 1_795_000_000_000,
            hash: [0; 32],
            text: String::new(),
            leaf: serde_json::Map::new(),
            plain: Some(plain),
            is_altered: false,
            marks: Vec::new(),
        }
    }

    #[test]
    fn who_is_related_to_whom_the_register_says_and_the_name_as_it_was_then() {
        let text = format!(
            "{HEAD}person,RJ1,a,9990000018,O'Hale,\"12 High St., LS1 1AA\",,\n\
             person,RJ1,b,9990000026,Quill,,,\n\
             person,RM3,c,9990000034,,,,\n\
             patient,,,9990000018,O\u{2019}Hale,,,\n\
             patient,,,9990000042,Okafor,\"12, HIGH ST LS1 1AA\",yes,2026-01-31\n"
        );
        let register = Register::parse(text.as_bytes()).unwrap();
        let of = |id, name, nhs| register.marks(&access(id, name, nhs));
        assert_eq!(of("a", "Dr Hale", "9990000018"), ["self"]);
        assert_eq!(of("b", "Dr Quill", "9990000018"), ["colleague"]);
        assert_eq!(
            of("a", "Dr Adaeze Okafor", "9990000042"),
            ["same-surname", "same-address", "vip", "deceased"]
        );
        assert_eq!(of("b", "Dr Quill", "9990000042"), ["vip", "deceased"]);
        let elsewhere: [&str; 0] = [];
        assert_eq!(
            of("b", "Dr Quill", "9990000034"),
            elsewhere,
            "at another organisation"
        );
        assert_eq!(
            of("z", "", "9990000050"),
            elsewhere,
            "nothing known matches nothing"
        );
    }

    #[test]
    fn a_register_that_does_not_read_names_line_and_rule() {
        for (text, says) in [
            (String::new(), "first line"),
            ("kind,id\n".to_owned(), "first line"),
            (
                format!("{HEAD}person,RJ1,,,,,,\n"),
                "line 2: a person needs",
            ),
            (format!("{HEAD}patient,,,,,,,\n"), "line 2: a patient needs"),
            (format!("{HEAD}patient,,,9990000019,,,,\n"), "nhs_number"),
            (format!("{HEAD}patient,,,9990000018,,,maybe,\n"), "vip"),
            (
                format!("{HEAD}patient,,,9990000018,,,,31/01/2026\n"),
                "deceased",
            ),
            (format!("{HEAD}cat,,,,,,,\n"), "kind"),
        ] {
            let error = Register::parse(text.as_bytes()).err().unwrap();
            assert!(error.contains(says), "{error}");
        }
        assert!(Register::parse(&[0xff, b'\n', 0xfe]).is_err());
    }
}
