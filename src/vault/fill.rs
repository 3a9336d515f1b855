//! Patients' keys by the thousand, so that a rotation can be measured over as many as a practice of any size has.
//! They wrap as a deposit's do and belong to nobody; nothing that serves calls this.

use keys::{Family, Key};
use policy::words::Ods;

use super::row::{PatientRow, patient_key};
use super::{Strongroom, VaultError, read, record_key_context};
use crate::store::{Expect, Table, Write};

impl Strongroom {
    /// Rows of so many fresh record keys under the practice's active KEK, with no record and no patient behind them.
    ///
    /// # Errors
    /// If the practice has no KEK.
    pub fn record_keys(&self, practice: &Ods, count: usize) -> Result<Vec<Write>, VaultError> {
        let ring = read(&self.0);
        let kek = ring
            .active_key(&Family::Kek(practice.as_str().to_owned()))
            .map_err(|_| VaultError::NoKey("the practice"))?;
        let row = |_| {
            let tag: [u8; 16] = keys::random_array();
            let wrapped = kek.wrap(&record_key_context(practice, &tag), &Key::generate(1));
            let number = None;
            Write {
                table: Table::PatientKeys,
                key: patient_key(practice.as_str(), &tag),
                value: Some(PatientRow { wrapped, number }.to_bytes()),
                expect: Expect::Absent,
            }
        };
        Ok((0..count).map(row).collect())
    }
}
