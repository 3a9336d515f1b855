//! The project's own records: four made-up patients, for tests, `demo` and `dev`.
//!
//! Written for this project (`tests/fixtures/README.md`); nobody's real record. They are compiled in, so that
//! a demonstration needs no file beside the program.

use super::resource::FhirVersion;

/// One made-up patient's record, as a practice would deposit it.
#[derive(Debug, Clone, Copy)]
pub struct Fixture {
    /// What it is called.
    pub name: &'static str,
    /// The version it is of.
    pub version: FhirVersion,
    /// The Bundle.
    pub body: &'static [u8],
    /// The patient's test NHS number.
    pub nhs: &'static str,
    /// A record in it that carries a sensitivity label, by its name.
    pub sensitive: Option<&'static str>,
}

const SMALL_SET: [Fixture; 4] = [
    Fixture {
        name: "hale",
        version: FhirVersion::R4,
        body: include_bytes!("../../tests/fixtures/r4/hale.json"),
        nhs: "9990000018",
        sensitive: None,
    },
    Fixture {
        name: "quill",
        version: FhirVersion::R4,
        body: include_bytes!("../../tests/fixtures/r4/quill.json"),
        nhs: "9990000026",
        sensitive: Some("Condition/quill-cond-3"),
    },
    Fixture {
        name: "ferreira",
        version: FhirVersion::R4,
        body: include_bytes!("../../tests/fixtures/r4/ferreira.json"),
        nhs: "9990000034",
        sensitive: None,
    },
    Fixture {
        name: "tanqueray",
        version: FhirVersion::Stu3,
        body: include_bytes!("../../tests/fixtures/stu3/tanqueray.json"),
        nhs: "9990000042",
        sensitive: None,
    },
];

/// The four.
#[must_use]
pub fn small_set() -> &'static [Fixture] {
    &SMALL_SET
}
