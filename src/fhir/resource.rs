//! The names of FHIR: resource types, ids, `TYPE/ID` names, versions; and the sharing category of a type.
//!
//! Each is a shape that is checked once, when it is made. A type that FHIR does not have yet is welcome
//! (payloads are opaque); it falls into [`Category::Other`], which an agreement must name like any other.

use policy::words::Category;
use std::fmt;

/// A resource type: `[A-Z][A-Za-z]{1,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceType(String);

/// A logical id: `[A-Za-z0-9._-]{1,64}`.
///
/// FHIR has no underscore in an id; real GP exports do, and it is as safe in a URL as a hyphen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FhirId(String);

/// What a practice calls a record: `TYPE/ID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The type.
    pub kind: ResourceType,
    /// The id.
    pub id: FhirId,
}

/// A text that has not the shape of the name it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a resource type.
    #[error("a resource type is a capital and 1 to 63 letters")]
    ResourceType,
    /// Not an id.
    #[error("an id has 1 to 64 characters of A-Z a-z 0-9 - . _")]
    Id,
    /// Not `TYPE/ID`.
    #[error("a name is written TYPE/ID")]
    Name,
}

impl TryFrom<&str> for ResourceType {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        let shaped = (2..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphabetic())
            && text
                .bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_uppercase());
        if shaped {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::ResourceType)
        }
    }
}

impl TryFrom<&str> for FhirId {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        let shaped = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        if shaped {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Id)
        }
    }
}

impl TryFrom<&str> for Name {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        let (kind, id) = text.split_once('/').ok_or(NameError::Name)?;
        Ok(Self {
            kind: kind.try_into()?,
            id: id.try_into()?,
        })
    }
}

impl ResourceType {
    /// The type as FHIR writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the type `name`.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.0 == name
    }

    /// The sharing category that records of this type belong to.
    #[must_use]
    pub fn category(&self) -> Category {
        match self.as_str() {
            "Patient" | "RelatedPerson" | "Person" => Category::Demographics,
            "Condition" | "ClinicalImpression" | "FamilyMemberHistory" => Category::Problems,
            "Medication"
            | "MedicationAdministration"
            | "MedicationDispense"
            | "MedicationOrder"
            | "MedicationRequest"
            | "MedicationStatement"
            | "MedicationUsage" => Category::Medications,
            "AllergyIntolerance" => Category::Allergies,
            "Flag" | "DetectedIssue" => Category::Alerts,
            "Immunization" | "ImmunizationEvaluation" | "ImmunizationRecommendation" => {
                Category::Immunisations
            }
            "Observation" | "RiskAssessment" => Category::Observations,
            "BodySite" | "BodyStructure" | "DiagnosticReport" | "ImagingManifest"
            | "ImagingStudy" | "MolecularSequence" | "Sequence" | "Specimen" => {
                Category::Investigations
            }
            "Appointment" | "AppointmentResponse" | "Encounter" | "EpisodeOfCare" => {
                Category::Encounters
            }
            "DeviceUseStatement" | "Procedure" => Category::Procedures,
            "Binary"
            | "Communication"
            | "Composition"
            | "DocumentManifest"
            | "DocumentReference"
            | "Media"
            | "QuestionnaireResponse" => Category::Documents,
            "CarePlan"
            | "CareTeam"
            | "CommunicationRequest"
            | "DeviceRequest"
            | "Goal"
            | "NutritionOrder"
            | "ProcedureRequest"
            | "ReferralRequest"
            | "RequestGroup"
            | "ServiceRequest"
            | "Task"
            | "VisionPrescription" => Category::CarePlans,
            _ => Category::Other,
        }
    }
}

impl FhirId {
    /// The id as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for FhirId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.id)
    }
}

/// The FHIR version that a payload is declared to be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FhirVersion {
    /// 4.0
    R4,
    /// 3.0: what GP Connect exports are.
    Stu3,
}

/// A `Content-Type` that is not FHIR JSON of a version we carry (HTTP 415).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// Not FHIR JSON.
    #[error("Content-Type: a deposit is application/fhir+json")]
    NotFhirJson,
    /// A version other than 4.0 and 3.0.
    #[error("Content-Type: fhirVersion is 4.0 or 3.0")]
    Version,
    /// A character set other than UTF-8.
    #[error("Content-Type: charset is utf-8")]
    Charset,
    /// A parameter that says nothing to us, or one that stands twice.
    #[error("Content-Type: the parameters are fhirVersion and charset, each once")]
    Parameter,
}

impl FhirVersion {
    /// The version that a `Content-Type` declares: `application/fhir+json`, optionally `; fhirVersion=4.0` or
    /// `3.0` (without one 4.0) and `; charset=utf-8`.
    ///
    /// # Errors
    /// Any other media type, version, charset or parameter.
    pub fn from_content_type(header: &str) -> Result<Self, MediaError> {
        let mut parts = header.split(';').map(str::trim);
        if !parts
            .next()
            .is_some_and(|media| media.eq_ignore_ascii_case("application/fhir+json"))
        {
            return Err(MediaError::NotFhirJson);
        }
        let (mut version, mut charset) = (None, false);
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or(MediaError::Parameter)?;
            let value = value.trim().trim_matches('"');
            if name.trim().eq_ignore_ascii_case("fhirVersion") && version.is_none() {
                version = Some(match value {
                    "4.0" => Self::R4,
                    "3.0" => Self::Stu3,
                    _ => return Err(MediaError::Version),
                });
            } else if name.trim().eq_ignore_ascii_case("charset") && !charset {
                charset = true;
                if !value.eq_ignore_ascii_case("utf-8") {
                    return Err(MediaError::Charset);
                }
            } else {
                return Err(MediaError::Parameter);
            }
        }
        Ok(version.unwrap_or(Self::R4))
    }

    /// The media type that declares it, as a record's `cty` has it.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::R4 => "application/fhir+json; fhirVersion=4.0",
            Self::Stu3 => "application/fhir+json; fhirVersion=3.0",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn names_have_their_shape() {
        for good in [
            "Patient/1",
            "Observation/a.B-9_c",
            &format!("List/{}", "x".repeat(64)),
        ] {
            assert_eq!(Name::try_from(good).unwrap().to_string(), *good);
        }
        assert_eq!(Name::try_from("Patient"), Err(NameError::Name));
        for bad in [
            "patient/1",
            "P/1",
            "Pat1ent/1",
            "/1",
            &format!("A{}/1", "b".repeat(64)),
        ] {
            assert_eq!(Name::try_from(bad), Err(NameError::ResourceType), "{bad}");
        }
        for bad in [
            "Patient/",
            "Patient/a b",
            "Patient/a/b",
            "Patient/é",
            "Patient/a%b",
            &format!("List/{}", "x".repeat(65)),
        ] {
            assert_eq!(Name::try_from(bad), Err(NameError::Id), "{bad}");
        }
    }

    #[test]
    fn the_content_type_declares_the_version() {
        let read = FhirVersion::from_content_type;
        assert_eq!(read("application/fhir+json"), Ok(FhirVersion::R4));
        assert_eq!(
            read("Application/FHIR+json ; charset=UTF-8; fhirVersion=\"3.0\""),
            Ok(FhirVersion::Stu3)
        );
        for version in [FhirVersion::R4, FhirVersion::Stu3] {
            assert_eq!(read(version.media_type()), Ok(version));
        }
        assert_eq!(read("application/json"), Err(MediaError::NotFhirJson));
        assert_eq!(read(""), Err(MediaError::NotFhirJson));
        assert_eq!(
            read("application/fhir+json; fhirVersion=5.0"),
            Err(MediaError::Version)
        );
        assert_eq!(
            read("application/fhir+json; charset=latin1"),
            Err(MediaError::Charset)
        );
        assert_eq!(
            read("application/fhir+json; fhirVersion=4.0; fhirVersion=3.0"),
            Err(MediaError::Parameter)
        );
        assert_eq!(read("application/fhir+json; x"), Err(MediaError::Parameter));
    }

    #[test]
    fn a_type_has_one_category_and_strangers_are_other() {
        let category = |kind: &str| ResourceType::try_from(kind).unwrap().category();
        assert_eq!(category("Observation"), Category::Observations);
        assert_eq!(category("ProcedureRequest"), Category::CarePlans);
        assert_eq!(category("Practitioner"), Category::Other);
        assert_eq!(category("Zebra"), Category::Other);
    }
}
