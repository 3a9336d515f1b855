//! The closed vocabularies of the wire and of the policy, and the identifiers of the domain.
//!
//! Each type is parsed exactly, once, at the edge: whoever holds one knows that it is well formed.
//! Nothing here is normalised, guessed or matched by hierarchy. `Display` gives the wire code;
//! an NHS number has none and its `Debug` is redacted, so that no log line prints one by accident.
//! A failure is a [`WordError`]: it names the word and the rule, never the text that broke it.

use std::fmt;
use std::str::FromStr;

/// A text is not the word it was taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {word}: {rule}")]
pub struct WordError {
    /// Which word was expected.
    pub word: &'static str,
    /// The rule that the text breaks.
    pub rule: &'static str,
}

/// Defines a closed vocabulary: an enum, its wire codes, and the exact parse between the two.
macro_rules! vocabulary {
    (
        $(#[$meta:meta])*
        $name:ident, $word:literal { $( $(#[$note:meta])* $variant:ident = $code:literal ),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$note])* $variant ),+ }

        impl $name {
            /// Every word of the vocabulary, in declared order.
            pub const ALL: &'static [$name] = &[$( $name::$variant ),+];

            /// The code on the wire and in the policy.
            pub const fn code(self) -> &'static str {
                match self { $( $name::$variant => $code ),+ }
            }
        }

        impl TryFrom<&str> for $name {
            type Error = WordError;
            fn try_from(text: &str) -> Result<Self, WordError> {
                match text {
                    $( $code => Ok($name::$variant), )+
                    _ => Err(WordError { word: $word, rule: concat!("one of", $( " ", $code ),+) }),
                }
            }
        }

        impl FromStr for $name {
            type Err = WordError;
            fn from_str(text: &str) -> Result<Self, WordError> { Self::try_from(text) }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.code()) }
        }
    };
}

vocabulary! {
    /// What a record is about; agreements and tokens are cut along these lines.
    Category, "category" {
        /// Who the patient is.
        Demographics = "demographics",
        /// Problems and diagnoses.
        Problems = "problems",
        /// Medication statements, requests and dispensings.
        Medications = "medications",
        /// Allergies and intolerances.
        Allergies = "allergies",
        /// Flags and warnings.
        Alerts = "alerts",
        /// Immunisations.
        Immunisations = "immunisations",
        /// Observations.
        Observations = "observations",
        /// Diagnostic reports and specimens.
        Investigations = "investigations",
        /// Encounters and consultations.
        Encounters = "encounters",
        /// Procedures.
        Procedures = "procedures",
        /// Letters and other documents.
        Documents = "documents",
        /// Care plans.
        CarePlans = "careplans",
        /// Everything that is none of these.
        Other = "other",
    }
}

impl Category {
    /// What an emergency sees unless it names its categories.
    pub const SUMMARY: [Category; 4] = [
        Category::Medications,
        Category::Allergies,
        Category::Problems,
        Category::Alerts,
    ];
}

vocabulary! {
    /// A sensitivity label on a record (HL7 Confidentiality and ActCode); none is "ordinary".
    Label, "label" {
        /// Restricted.
        R = "R",
        /// Very restricted.
        V = "V",
        /// Psychiatry.
        PSY = "PSY",
        /// Sexual assault, abuse or domestic violence.
        SDV = "SDV",
        /// Alcohol or drug use.
        ETH = "ETH",
        /// Genetic disease.
        GDIS = "GDIS",
        /// HIV or AIDS.
        HIV = "HIV",
        /// Sexuality and reproductive health.
        SEX = "SEX",
        /// Sexually transmitted disease.
        STD = "STD",
        /// Sickle cell disease.
        SCA = "SCA",
        /// Taboo.
        TBOO = "TBOO",
        /// Celebrity.
        CEL = "CEL",
        /// Employee.
        EMP = "EMP",
        /// Opioid use disorder.
        OPIOIDUD = "OPIOIDUD",
        /// Pregnancy.
        PREGNANT = "PREGNANT",
        /// Cognitive disability.
        COGN = "COGN",
        /// Disability.
        DIS = "DIS",
        /// Substance use disorder.
        SUD = "SUD",
        /// A code that we do not know: no agreement can cover it.
        Unrecognised = "unrecognised",
    }
}

vocabulary! {
    /// What a practitioner does; it comes from the directory, never from a request.
    Role, "role" {
        /// A doctor.
        Doctor = "doctor",
        /// A nurse.
        Nurse = "nurse",
        /// A pharmacist.
        Pharmacist = "pharmacist",
        /// A paramedic.
        Paramedic = "paramedic",
        /// An allied health professional.
        AlliedHealth = "allied-health",
        /// A receptionist.
        Receptionist = "receptionist",
        /// An administrator of a ward or clinic (not of the gateway).
        Administrator = "administrator",
        /// A researcher.
        Researcher = "researcher",
    }
}

impl Role {
    /// Whether this role treats patients.
    pub const fn is_clinician(self) -> bool {
        match self {
            Role::Doctor
            | Role::Nurse
            | Role::Pharmacist
            | Role::Paramedic
            | Role::AlliedHealth => true,
            Role::Receptionist | Role::Administrator | Role::Researcher => false,
        }
    }
}

vocabulary! {
    /// What kind of system a client certificate was registered for.
    ClientRole, "client role" {
        /// A GP practice's system.
        Practice = "practice",
        /// A hospital's electronic patient record.
        Hospital = "hospital",
        /// A hospital's admission feed: it says who was admitted, and can ask for no record.
        Admissions = "admissions",
        /// A research organisation.
        Research = "research",
        /// The keeper of an opt-out list, such as the national one.
        OptOutList = "opt-out-list",
        /// An administrator of the gateway.
        Admin = "admin",
        /// An auditor.
        Auditor = "auditor",
        /// A privacy officer.
        PrivacyOfficer = "privacy-officer",
        /// The portal where patients see who looked.
        Patient = "patient-portal",
    }
}

vocabulary! {
    /// Why an organisation may be caring for a patient.
    RelationKind, "relationship type" {
        /// The patient was referred.
        Referral = "referral",
        /// The patient is registered there.
        Registration = "registration",
        /// The patient is there, or was.
        Encounter = "encounter",
        /// The patient is expected.
        Appointment = "appointment",
    }
}

vocabulary! {
    /// What a privacy officer found when looking at an access.
    Finding, "finding" {
        /// There was a good reason for it.
        Appropriate = "appropriate",
        /// There was none; what follows happens elsewhere.
        Inappropriate = "inappropriate",
        /// The access was made under a rule or fact that was wrong.
        Mistake = "mistake",
        /// It was seen, and is not about an access.
        Noted = "noted",
    }
}

/// A purpose of use: HL7 `PurposeOfUse`, each code matched exactly, never by hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// `TREAT`: direct care.
    Treat,
    /// `ETREAT`: emergency care.
    Etreat,
    /// `BTG`: breaking the glass.
    Btg,
    /// `HRESCH`: research.
    Hresch,
    /// `PUBHLTH`: public health.
    Pubhlth,
    /// `HOPERAT`: healthcare operations.
    Hoperat,
    /// A well-formed code that this gateway serves to nobody.
    Unserved(String),
}

impl Purpose {
    /// Every purpose that has a name of its own here.
    pub const NAMED: [Purpose; 6] = [
        Purpose::Treat,
        Purpose::Etreat,
        Purpose::Btg,
        Purpose::Hresch,
        Purpose::Pubhlth,
        Purpose::Hoperat,
    ];

    /// Parses a code; a well-formed code we do not know is [`Purpose::Unserved`].
    ///
    /// # Errors
    /// When the text cannot be a code at all.
    pub fn parse(code: &str) -> Result<Purpose, WordError> {
        if let Some(named) = Purpose::NAMED.into_iter().find(|p| p.code() == code) {
            return Ok(named);
        }
        let shaped = (1..=32).contains(&code.len())
            && code
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if shaped {
            Ok(Purpose::Unserved(code.to_owned()))
        } else {
            Err(WordError {
                word: "purpose",
                rule: "1 to 32 of A-Z a-z 0-9 _ -",
            })
        }
    }

    /// The code on the wire.
    pub fn code(&self) -> &str {
        match self {
            Purpose::Treat => "TREAT",
            Purpose::Etreat => "ETREAT",
            Purpose::Btg => "BTG",
            Purpose::Hresch => "HRESCH",
            Purpose::Pubhlth => "PUBHLTH",
            Purpose::Hoperat => "HOPERAT",
            Purpose::Unserved(code) => code,
        }
    }

    /// The purposes beyond the patient's own care, which need an approval.
    pub const SECONDARY: [Purpose; 3] = [Purpose::Hresch, Purpose::Pubhlth, Purpose::Hoperat];

    /// Whether this purpose is one beyond the patient's own care that is served to some.
    pub const fn is_secondary(&self) -> bool {
        matches!(self, Purpose::Hresch | Purpose::Pubhlth | Purpose::Hoperat)
    }

    /// Whether this purpose declares an emergency.
    pub const fn is_emergency(&self) -> bool {
        matches!(self, Purpose::Etreat | Purpose::Btg)
    }
}

impl TryFrom<&str> for Purpose {
    type Error = WordError;
    fn try_from(code: &str) -> Result<Self, WordError> {
        Purpose::parse(code)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An NHS number: ten ASCII digits whose last is the right check digit (modulus 11).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NhsNumber([u8; 10]);

impl NhsNumber {
    /// The ten digits. There is no `Display`: writing the number out is always spelt.
    pub fn as_str(&self) -> &str {
        // INVARIANT: only `try_from` makes one, from ten ASCII digits; the default is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl TryFrom<&str> for NhsNumber {
    type Error = WordError;
    fn try_from(text: &str) -> Result<Self, WordError> {
        let wrong = |rule| WordError {
            word: "NHS number",
            rule,
        };
        let digits: [u8; 10] = text
            .as_bytes()
            .try_into()
            .map_err(|_| wrong("exactly ten digits"))?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(wrong("exactly ten digits"));
        }
        // The weights 10 to 1, the check digit among them, make a multiple of eleven; a check
        // digit of "10" is thereby impossible, as the NHS Data Dictionary asks.
        let sum: u32 = digits
            .iter()
            .zip((1..=10).rev())
            .map(|(digit, weight)| u32::from(digit - b'0') * weight)
            .sum();
        if sum.is_multiple_of(11) {
            Ok(NhsNumber(digits))
        } else {
            Err(wrong("check digit by modulus 11"))
        }
    }
}

impl fmt::Debug for NhsNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NhsNumber(…)")
    }
}

/// Defines an identifier: a string of a stated shape.
macro_rules! identifier {
    ($(#[$meta:meta])* $name:ident, $word:literal, $length:expr, $rule:literal, $allowed:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The identifier's text.
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl TryFrom<&str> for $name {
            type Error = WordError;
            fn try_from(text: &str) -> Result<Self, WordError> {
                let allowed: fn(u8) -> bool = $allowed;
                if $length.contains(&text.len()) && text.bytes().all(allowed) {
                    Ok($name(text.to_owned()))
                } else {
                    Err(WordError { word: $word, rule: $rule })
                }
            }
        }

        impl FromStr for $name {
            type Err = WordError;
            fn from_str(text: &str) -> Result<Self, WordError> { Self::try_from(text) }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
    };
}

identifier! {
    /// An organisation's ODS code: one leaf organisation, never "the NHS".
    Ods, "ODS code", (3..=8), "3 to 8 of A-Z 0-9",
    |b| b.is_ascii_uppercase() || b.is_ascii_digit()
}

impl Ods {
    /// A code that no organisation has: it stands for a practice nobody knows.
    pub(crate) fn nowhere() -> Ods {
        Ods("NOWHERE0".to_owned())
    }
}

identifier! {
    /// A registered client's identifier.
    ClientId, "client id", (1..=64), "1 to 64 of A-Z a-z 0-9 . _ -",
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
}

identifier! {
    /// A practitioner's identifier in the directory of one organisation.
    PractitionerId, "practitioner id", (1..=64), "1 to 64 printable ASCII without space, quotes or backslash",
    |b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'`' | b'\\')
}

identifier! {
    /// One human being, whatever certificates they hold. Lower case only, so that nobody is two by spelling.
    PersonId, "person", (1..=64), "1 to 64 of a-z 0-9 . _ - @",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'@')
}

/// A record's identifier: 128 random bits, written as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub [u8; 16]);

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for RecordId {
    type Err = WordError;
    fn from_str(text: &str) -> Result<Self, WordError> {
        let wrong = WordError {
            word: "record id",
            rule: "exactly 32 of 0-9 a-f",
        };
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            _ => None,
        };
        let bytes: Vec<u8> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| match *pair {
                [high, low] => Some(digit(high)? << 4 | digit(low)?),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or(wrong)?;
        bytes.try_into().map(RecordId).map_err(|_| wrong)
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    let nibbles = bytes.iter().flat_map(|b| [b >> 4, b & 15]);
    text.extend(nibbles.filter_map(|nibble| char::from_digit(u32::from(nibble), 16)));
    text
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;

    #[test]
    fn an_nhs_number_needs_its_check_digit() {
        assert_eq!(
            NhsNumber::try_from("9434765919").unwrap().as_str(),
            "9434765919"
        );
        for wrong in [
            "9434765918",
            "943476591",
            "94347659190",
            "943 476 5919",
            "943476591９",
            "",
        ] {
            assert!(NhsNumber::try_from(wrong).is_err(), "{wrong:?}");
        }
        // Every single wrong digit is caught.
        for place in 0..10 {
            for digit in b'0'..=b'9' {
                let mut text = *b"9434765919";
                let right = text[place] == digit;
                text[place] = digit;
                let text = std::str::from_utf8(&text).unwrap();
                assert_eq!(NhsNumber::try_from(text).is_ok(), right, "{text}");
            }
        }
    }

    #[test]
    fn an_nhs_number_is_not_printed() {
        let number = NhsNumber::try_from("9434765919").unwrap();
        assert_eq!(format!("{number:?}"), "NhsNumber(…)");
    }

    #[test]
    fn purposes_match_exactly() {
        assert_eq!(Purpose::parse("TREAT").unwrap(), Purpose::Treat);
        // A descendant in HL7's tree, and a different case, are other purposes.
        for other in ["CLINTRCH", "treat", "COC", "ETREAT2"] {
            assert_eq!(
                Purpose::parse(other).unwrap(),
                Purpose::Unserved(other.to_owned())
            );
        }
        for wrong in ["", " TREAT", "TREAT\n", "TRÉAT", &"A".repeat(33)] {
            assert!(Purpose::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn vocabularies_read_what_they_write() {
        for category in Category::ALL {
            assert_eq!(Category::try_from(category.code()), Ok(*category));
        }
        for label in Label::ALL {
            assert_eq!(label.to_string().parse(), Ok(*label));
        }
        assert!(Category::try_from("Medications").is_err());
        assert!(Role::try_from("doctor ").is_err());
        assert_eq!(
            ClientRole::try_from("patient-portal"),
            Ok(ClientRole::Patient)
        );
    }

    #[test]
    fn identifiers_keep_their_shape() {
        assert!(Ods::try_from("A81001").is_ok());
        for wrong in ["a81001", "A8", "A81001234", "A8 001", ""] {
            assert!(Ods::try_from(wrong).is_err(), "{wrong:?}");
        }
        assert!(ClientId::try_from("RJ1.epr_2-x").is_ok());
        assert!(ClientId::try_from("RJ1/epr").is_err());
        assert!(PersonId::try_from("sam.reed@x26").is_ok());
        assert!(PersonId::try_from("Sam.Reed").is_err());
        assert!(PractitionerId::try_from("https://x/1|2").is_ok());
        for wrong in ["a b", "a\"b", "", "a\u{7f}", "é"] {
            assert!(PractitionerId::try_from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn record_ids_read_what_they_write() {
        let id = RecordId([0x0f, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xfe]);
        assert_eq!(id.to_string(), "0f0102030405060708090a0b0c0d0efe");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "0F0102030405060708090a0b0c0d0efe",
            "0f",
            "",
            "0f0102030405060708090a0b0c0d0ef",
        ] {
            assert!(wrong.parse::<RecordId>().is_err(), "{wrong:?}");
        }
    }
}
