//! The frozen tables by which a card names common words with one byte or one bit.
//!
//! The place in a table is on disk: only ever append. A word that stands in no table is written out.

use policy::words::{Category, Label};
use std::borrow::Cow;

/// The types that a card names by one byte. Only ever append: the place in the list is on disk.
pub(super) const KINDS: [&str; 52] = [
    "Patient",
    "Observation",
    "Condition",
    "MedicationRequest",
    "MedicationStatement",
    "Medication",
    "AllergyIntolerance",
    "Immunization",
    "Encounter",
    "Procedure",
    "DiagnosticReport",
    "DocumentReference",
    "Binary",
    "List",
    "Organization",
    "Practitioner",
    "PractitionerRole",
    "Location",
    "CarePlan",
    "CareTeam",
    "Goal",
    "ServiceRequest",
    "ProcedureRequest",
    "ReferralRequest",
    "Specimen",
    "Composition",
    "QuestionnaireResponse",
    "Questionnaire",
    "Flag",
    "Appointment",
    "EpisodeOfCare",
    "FamilyMemberHistory",
    "Claim",
    "ExplanationOfBenefit",
    "Coverage",
    "RelatedPerson",
    "Person",
    "Device",
    "DeviceUseStatement",
    "ImagingStudy",
    "MedicationDispense",
    "MedicationAdministration",
    "Communication",
    "CommunicationRequest",
    "Task",
    "Provenance",
    "HealthcareService",
    "Schedule",
    "Slot",
    "RequestGroup",
    "ClinicalImpression",
    "RiskAssessment",
];

/// The categories by their byte. Only ever append.
pub(super) const CATEGORIES: [Category; 13] = [
    Category::Demographics,
    Category::Problems,
    Category::Medications,
    Category::Allergies,
    Category::Alerts,
    Category::Immunisations,
    Category::Observations,
    Category::Investigations,
    Category::Encounters,
    Category::Procedures,
    Category::Documents,
    Category::CarePlans,
    Category::Other,
];

/// The labels by their bit. Only ever append.
pub(super) const LABELS: [Label; 19] = [
    Label::R,
    Label::V,
    Label::PSY,
    Label::SDV,
    Label::ETH,
    Label::GDIS,
    Label::HIV,
    Label::SEX,
    Label::STD,
    Label::SCA,
    Label::TBOO,
    Label::CEL,
    Label::EMP,
    Label::OPIOIDUD,
    Label::PREGNANT,
    Label::COGN,
    Label::DIS,
    Label::SUD,
    Label::Unrecognised,
];

/// The code systems that a card names by one byte. Only ever append: the place in the list is on disk.
pub(super) const SYSTEMS: [&str; 26] = [
    "http://snomed.info/sct",
    "http://loinc.org",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://hl7.org/fhir/sid/cvx",
    "http://hl7.org/fhir/sid/icd-10",
    "http://read.info/readv2",
    "http://read.info/ctv3",
    "https://fhir.hl7.org.uk/Id/emis-drug-codes",
    "https://fhir.hl7.org.uk/Id/multilex-drug-codes",
    "https://fhir.hl7.org.uk/Id/resipuk-gemscript-drug-codes",
    "https://fhir.hl7.org.uk/Id/egton-codes",
    "http://terminology.hl7.org/CodeSystem/observation-category",
    "http://hl7.org/fhir/observation-category",
    "http://terminology.hl7.org/CodeSystem/condition-category",
    "http://hl7.org/fhir/condition-category",
    "https://fhir.hl7.org.uk/STU3/CodeSystem/CareConnect-ConditionCategory-1",
    "https://fhir.hl7.org.uk/CodeSystem/UKCore-ConditionCategory",
    "http://terminology.hl7.org/CodeSystem/v2-0074",
    "http://hl7.org/fhir/v2/0074",
    "http://terminology.hl7.org/CodeSystem/medicationrequest-category",
    "http://terminology.hl7.org/CodeSystem/medication-statement-category",
    "http://terminology.hl7.org/CodeSystem/diagnostic-service-sections",
    "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "https://fhir.nhs.uk/STU3/CodeSystem/GPConnect-RecordType-1",
    "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
    "http://unitsofmeasure.org",
];

/// The system as a card holds it: borrowed where it is known.
pub(super) fn known_system(system: &str) -> Cow<'static, str> {
    match SYSTEMS.iter().find(|known| **known == system) {
        Some(known) => Cow::Borrowed(known),
        None => Cow::Owned(system.to_owned()),
    }
}
