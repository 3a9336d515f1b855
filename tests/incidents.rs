//! Accidents that really happened, each re-enacted over real mutual TLS and then stopped. One file each; its first
//! three lines say what happened, what it would mean here, and what stops it.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::type_complexity,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests may panic"
)]

mod common;

#[path = "incidents/aes_kw_empty_key.rs"]
mod aes_kw_empty_key;
#[path = "incidents/audit_device_deleted_service_continues.rs"]
mod audit_device_deleted_service_continues;
#[path = "incidents/caldicott_2017_nobody_saw_who_looked.rs"]
mod caldicott_2017_nobody_saw_who_looked;
#[path = "incidents/caldicott_2017_patient_left_out.rs"]
mod caldicott_2017_patient_left_out;
#[path = "incidents/cedar_forbid_that_errors.rs"]
mod cedar_forbid_that_errors;
#[path = "incidents/ico_2016_training_unrecorded.rs"]
mod ico_2016_training_unrecorded;
#[path = "incidents/ico_2016_wrong_recipient.rs"]
mod ico_2016_wrong_recipient;
#[path = "incidents/jsonwebtoken_nbf_as_text.rs"]
mod jsonwebtoken_nbf_as_text;
#[path = "incidents/junior_doctors_2017_published.rs"]
mod junior_doctors_2017_published;
#[path = "incidents/kent_medway_2018_curious_employee.rs"]
mod kent_medway_2018_curious_employee;
#[path = "incidents/opentdf_empty_policy_permits.rs"]
mod opentdf_empty_policy_permits;
#[path = "incidents/rotation_breaks_messages_in_flight.rs"]
mod rotation_breaks_messages_in_flight;
#[path = "incidents/sled_flush_without_fsync.rs"]
mod sled_flush_without_fsync;
#[path = "incidents/systmone_2017_anyone_can_view.rs"]
mod systmone_2017_anyone_can_view;
#[path = "incidents/systmone_2018_objections_never_arrived.rs"]
mod systmone_2018_objections_never_arrived;
#[path = "incidents/wannacry_2017_restore.rs"]
mod wannacry_2017_restore;

/// Every file of the folder is played, and says its three lines.
#[test]
fn every_incident_has_its_three_lines() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/incidents");
    let this = include_str!("incidents.rs");
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(
            this.contains(&format!("incidents/{name}\"")),
            "{name} is not played"
        );
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let mut lines = text.lines();
        for begins in [
            "//! Incident: ",
            "//! Here it would mean: ",
            "//! Stopped by: ",
        ] {
            let line = lines.next().unwrap_or_default();
            assert!(
                line.starts_with(begins) && line.len() > begins.len() + 10,
                "{name}: {line}"
            );
        }
    }
}
