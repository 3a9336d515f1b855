//! As many patients' keys as a large practice has, written behind a stopped gateway's back, so that turning them can be
//! measured. They wrap as a deposit's do and belong to nobody. Nothing that serves calls this.

use keys::{Keyring, RootKey};
use policy::words::Ods;
use zeroize::Zeroizing;

use super::AssemblyError;
use crate::config::Config;
use crate::store::{Embedded, Limits, Store as _, WriteSet};
use crate::vault::{Strongroom, VaultError};

/// Keys written in one commit.
const COMMIT: usize = 5_000;

/// Writes so many record keys under this practice's KEK.
///
/// # Errors
/// Which part does not open or write.
pub async fn fill(
    config: &Config,
    passphrase: &Zeroizing<Vec<u8>>,
    practice: &Ods,
    keys: usize,
) -> Result<(), AssemblyError> {
    let root = RootKey::open(&config.root.file, passphrase)?;
    let room = Strongroom::new(Keyring::open(&config.keyring(), &root)?)?;
    let store = Embedded::open(&config.store(), room.macs(), Limits::default())?;
    let mut left = keys;
    while left > 0 {
        let count = left.min(COMMIT);
        let writes = room.record_keys(practice, count)?;
        let token = None;
        let done = store.commit(WriteSet { writes, token }).await;
        done.map_err(VaultError::from)?;
        left -= count;
    }
    Ok(())
}
