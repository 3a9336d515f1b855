//! The keyring on a real folder: rotation, destruction, crashes between its steps, damage.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::key::Key;
use crate::secret::Secret;

struct Place {
    folder: TempDir,
    root: RootKey,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
            root: root(),
        }
    }

    fn create(&self) -> Keyring {
        Keyring::create(self.folder.path(), &self.root).unwrap()
    }

    fn open(&self) -> Result<Keyring, LoadError> {
        Keyring::open(self.folder.path(), &self.root)
    }

    fn file(&self, epoch: u64) -> PathBuf {
        self.folder.path().join(format!("keyring.{epoch}"))
    }

    fn epochs(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "keyring.lock")
            .collect();
        names.sort();
        names
    }
}

fn root() -> RootKey {
    RootKey::for_test(Secret::random())
}

fn kek() -> Family {
    Family::Kek("A81001".to_owned())
}

fn here() -> Context {
    Context::new("sallyport/test/v1").part(b"here")
}

#[test]
fn every_family_survives_the_file_and_does_its_work() {
    let place = Place::new();
    let mut ring = place.create();
    let all = [
        kek(),
        Family::Index,
        Family::Facts,
        Family::StoreMac,
        Family::Audit,
        Family::TokenSigning,
        Family::DepositSigning,
        Family::TicketSigning,
        Family::LedgerSigning,
    ];
    for family in &all {
        assert_eq!(ring.add(family.clone(), 1_700).unwrap(), 1);
    }
    let sealed = ring
        .active_key(&Family::Facts)
        .unwrap()
        .seal(&here(), b"fact");
    let mac = ring.mac(&Family::Index).unwrap().mac(&[b"9990000018"]);
    let tag = ring.audit().unwrap().tag(&[1; 16]);
    let kids: Vec<String> = all[5..8]
        .iter()
        .map(|family| ring.signer(family).unwrap().kid().to_owned())
        .collect();
    let note = ring.note_signer().unwrap().public();
    drop(ring);

    let ring = place.open().unwrap();
    assert_eq!(ring.epoch(), 10);
    assert_eq!(ring.families().count(), all.len());
    assert_eq!(
        ring.open_with(&Family::Facts, &here(), &sealed)
            .ok()
            .unwrap()
            .as_bytes(),
        b"fact"
    );
    assert_eq!(ring.mac(&Family::Index).unwrap().mac(&[b"9990000018"]), mac);
    assert_ne!(
        ring.mac(&Family::StoreMac).unwrap().mac(&[b"9990000018"]),
        mac
    );
    assert_eq!(ring.audit().unwrap().tag(&[1; 16]), tag);
    for (family, kid) in all[5..8].iter().zip(&kids) {
        assert_eq!(ring.signer(family).unwrap().kid(), kid);
    }
    assert_eq!(ring.note_signer().unwrap().public(), note);
    let version = KeyVersion {
        version: 1,
        state: KeyState::Active,
        created_ms: 1_700,
        uses: 0,
    };
    assert_eq!(ring.versions(&kek()), [version]);
}

#[test]
fn a_family_gives_only_its_own_kind_of_key() {
    let place = Place::new();
    let mut ring = place.create();
    for family in [Family::Facts, Family::Index, Family::TokenSigning] {
        ring.add(family, 0).unwrap();
    }
    assert!(ring.active_key(&Family::Index).is_err());
    assert!(ring.active_key(&Family::TokenSigning).is_err());
    assert!(ring.active_key(&kek()).is_err());
    assert!(ring.mac(&Family::Facts).is_err());
    assert!(ring.signer(&Family::Facts).is_err());
    assert!(ring.signer(&Family::TicketSigning).is_err());
    assert!(ring.note_signer().is_err() && ring.audit().is_err());
}

#[test]
fn rotation_opens_the_old_seals_with_the_new_and_ends_in_destruction() {
    let place = Place::new();
    let mut ring = place.create();
    ring.add(kek(), 1).unwrap();
    let (record_key, audit_key) = (Key::generate(5), AuditKey::generate());
    let old = ring.active_key(&kek()).unwrap();
    let wrapped = old.wrap(&here(), &record_key);
    let wrapped_audit = old.wrap_audit(&here(), &audit_key);

    assert_eq!(ring.add(kek(), 2).unwrap(), 2);
    assert_eq!(ring.active_key(&kek()).unwrap().version(), 2);
    assert_eq!(
        ring.unwrap_with(&kek(), &here(), &wrapped)
            .ok()
            .unwrap()
            .version(),
        5
    );
    let moved = ring.rewrap("A81001", &here(), &wrapped).unwrap();
    let moved_audit = ring.rewrap("A81001", &here(), &wrapped_audit).unwrap();
    assert_eq!((moved.key_version(), moved_audit.key_version()), (2, 2));

    assert!(matches!(
        ring.destroy(&kek(), 2),
        Err(ChangeError::StillActive)
    ));
    assert!(matches!(
        ring.destroy(&kek(), 1),
        Err(ChangeError::StillActive)
    ));
    ring.retire(&kek(), 1).unwrap();
    ring.destroy(&kek(), 1).unwrap();
    ring.destroy(&kek(), 1).unwrap();
    assert!(matches!(ring.retire(&kek(), 1), Err(ChangeError::NoKey)));
    assert!(matches!(ring.destroy(&kek(), 3), Err(ChangeError::NoKey)));
    let gone = ring.unwrap_with(&kek(), &here(), &wrapped).err();
    assert_eq!(gone, Some(OpenError::UnknownKey));
    drop(ring);

    let mut ring = place.open().unwrap();
    assert!(ring.unwrap_with(&kek(), &here(), &wrapped).is_err());
    assert!(ring.unwrap_with(&kek(), &here(), &moved).is_ok());
    let back = ring
        .unwrap_audit_with(&kek(), &here(), &moved_audit)
        .ok()
        .unwrap();
    assert_eq!(back.tag(&[1; 16]), audit_key.tag(&[1; 16]));
    let states: Vec<KeyState> = ring.versions(&kek()).iter().map(|v| v.state).collect();
    assert_eq!(states, [KeyState::Destroyed, KeyState::Active]);
    assert_eq!(
        ring.add(kek(), 3).unwrap(),
        3,
        "a number is never used twice"
    );
    let other = ring.rewrap("B82002", &here(), &moved).err();
    assert_eq!(other, Some(OpenError::UnknownKey));
}

#[test]
fn a_retired_signing_key_leaves_only_its_public_half() {
    let place = Place::new();
    let mut ring = place.create();
    let family = Family::DepositSigning;
    ring.add(family.clone(), 0).unwrap();
    let first = ring.signer(&family).unwrap().kid().to_owned();
    let signature = ring.signer(&family).unwrap().sign_jws("t", b"{}");
    ring.add(family.clone(), 0).unwrap();
    ring.add(Family::LedgerSigning, 0).unwrap();
    ring.retire(&Family::LedgerSigning, 1).unwrap();
    ring.retire(&Family::LedgerSigning, 1).unwrap();
    assert!(ring.note_signer().is_err());
    drop(ring);

    let mut ring = place.open().unwrap();
    let kids: Vec<String> = ring
        .verifying_keys(&family)
        .iter()
        .map(|key| key.kid().to_owned())
        .collect();
    assert_eq!(
        kids,
        [first, ring.signer(&family).unwrap().kid().to_owned()]
    );
    assert!(crate::sign::verify_any(&ring.verifying_keys(&family), "t", &signature).is_ok());
    ring.destroy(&family, 1).unwrap();
    assert_eq!(ring.verifying(&family).len(), 1);
    assert!(crate::sign::verify_any(&ring.verifying_keys(&family), "t", &signature).is_err());
}

#[test]
fn retired_mac_and_audit_keys_can_still_be_read_with() {
    let place = Place::new();
    let mut ring = place.create();
    for family in [Family::Audit, Family::StoreMac] {
        ring.add(family.clone(), 0).unwrap();
        ring.add(family, 0).unwrap();
    }
    let tags: Vec<[u8; 16]> = ring.audits().map(|key| key.tag(&[1; 16])).collect();
    assert_eq!(
        (tags.len(), tags[0]),
        (2, ring.audit().unwrap().tag(&[1; 16]))
    );
    assert_ne!(tags[0], tags[1]);
    assert_eq!(ring.macs(&Family::StoreMac).count(), 2);
}

#[test]
fn only_one_epoch_stands_on_the_disk() {
    let place = Place::new();
    let mut ring = place.create();
    assert_eq!(place.epochs(), ["keyring.1"]);
    ring.add(kek(), 0).unwrap();
    assert_eq!(place.epochs(), ["keyring.2"]);
}

#[test]
fn a_crash_before_the_removal_is_finished_at_the_next_open() {
    let place = Place::new();
    let mut ring = place.create();
    ring.add(kek(), 0).unwrap();
    let wrapped = ring
        .active_key(&kek())
        .unwrap()
        .wrap(&here(), &Key::generate(1));
    ring.retire(&kek(), 1).unwrap();
    let before = std::fs::read(place.file(3)).unwrap();
    ring.destroy(&kek(), 1).unwrap();
    drop(ring);
    crate::private_file::write_new(&place.file(3), &before).unwrap();
    crate::private_file::write_new(&place.folder.path().join("keyring.tmp"), b"half").unwrap();

    let ring = place.open().unwrap();
    assert_eq!(ring.epoch(), 4);
    assert!(ring.unwrap_with(&kek(), &here(), &wrapped).is_err());
    assert_eq!(place.epochs(), ["keyring.4"]);
}

#[test]
fn an_older_epoch_is_never_taken_for_a_damaged_newer_one() {
    let place = Place::new();
    let mut ring = place.create();
    ring.add(kek(), 0).unwrap();
    let older = std::fs::read(place.file(2)).unwrap();
    ring.add(kek(), 0).unwrap();
    drop(ring);
    let newest = std::fs::read(place.file(3)).unwrap();
    crate::private_file::write_new(&place.file(2), &older).unwrap();
    for at in 0..newest.len() {
        let mut bytes = newest.clone();
        bytes[at] ^= 1;
        std::fs::write(place.file(3), &bytes).unwrap();
        assert!(place.open().is_err(), "byte {at}");
    }
    std::fs::write(place.file(3), &older).unwrap();
    assert!(
        matches!(place.open(), Err(LoadError::Sealed)),
        "an older epoch under a newer name"
    );
    std::fs::write(place.file(3), &newest[..newest.len() - 1]).unwrap();
    assert!(place.open().is_err());
    std::fs::write(place.file(3), &newest).unwrap();
    assert_eq!(place.open().unwrap().epoch(), 3);
}

#[test]
fn after_a_failed_write_it_serves_but_takes_no_change() {
    let place = Place::new();
    let mut ring = place.create();
    ring.add(kek(), 0).unwrap();
    let in_the_way = place.folder.path().join("keyring.tmp");
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(matches!(ring.add(kek(), 0), Err(ChangeError::Io(_))));
    std::fs::remove_dir(&in_the_way).unwrap();
    assert!(matches!(ring.add(kek(), 0), Err(ChangeError::Stopped)));
    assert_eq!(ring.active_key(&kek()).unwrap().version(), 1);
    drop(ring);
    assert_eq!(place.open().unwrap().add(kek(), 0).unwrap(), 2);
}

#[test]
fn a_refused_change_does_not_stop_the_keyring() {
    let place = Place::new();
    let mut ring = place.create();
    let long = Family::Kek("x".repeat(257));
    assert!(matches!(ring.add(long, 0), Err(ChangeError::NotAddable)));
    assert!(matches!(
        ring.add(Family::Kek(String::new()), 0),
        Err(ChangeError::NotAddable)
    ));
    assert_eq!(ring.epoch(), 1);
    assert!(ring.add(kek(), 0).is_ok());
}

#[test]
fn the_wrong_root_a_second_process_and_a_second_creation_are_refused() {
    let place = Place::new();
    assert!(matches!(place.open(), Err(LoadError::Missing)));
    let nowhere = place.folder.path().join("nowhere");
    assert!(matches!(
        Keyring::open(&nowhere, &place.root),
        Err(LoadError::Missing)
    ));
    assert!(!nowhere.exists());
    let ring = place.create();
    assert!(matches!(place.open(), Err(LoadError::InUse)));
    drop(ring);
    assert!(matches!(
        Keyring::create(place.folder.path(), &place.root),
        Err(LoadError::Exists)
    ));
    assert!(matches!(
        Keyring::open(place.folder.path(), &root()),
        Err(LoadError::Sealed)
    ));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(place.file(1), mode).unwrap();
    assert!(matches!(place.open(), Err(LoadError::NotPrivate)));
}

#[test]
fn another_root_takes_over_and_the_old_one_opens_nothing() {
    let place = Place::new();
    let mut ring = place.create();
    ring.add(kek(), 0).unwrap();
    let next = root();
    ring.change_root(&next).unwrap();
    drop(ring);
    assert!(matches!(place.open(), Err(LoadError::Sealed)));
    let mut ring = Keyring::open(place.folder.path(), &next).unwrap();
    assert_eq!(ring.active_key(&kek()).unwrap().version(), 1);
    assert!(ring.add(kek(), 0).is_ok());
}

#[test]
fn many_families_are_one_write_and_all_or_none() {
    let place = Place::new();
    let mut ring = place.create();
    let owners: Vec<Family> = (0..300).map(|i| Family::Kek(format!("P{i:05}"))).collect();
    assert_eq!(ring.add_all(&owners, 1).unwrap(), vec![1; 300]);
    assert_eq!(ring.epoch(), 2);
    let bad = [owners[0].clone(), Family::Kek(String::new())];
    assert!(matches!(
        ring.add_all(&bad, 2),
        Err(ChangeError::NotAddable)
    ));
    assert_eq!(ring.versions(&owners[0]).len(), 1);
    drop(ring);
    assert_eq!(place.open().unwrap().families().count(), 300);
}

#[test]
fn a_keyring_and_its_keys_may_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Keyring>();
    shared::<crate::OpenKey>();
    shared::<crate::ClientKey>();
    shared::<crate::Dek>();
}

#[test]
fn bytes_that_no_keyring_wrote_are_refused() {
    let place = Place::new();
    let mut ring = place.create();
    ring.add(kek(), 0).unwrap();
    let bytes = ring.families.encode();
    assert!(Families::decode(&bytes).is_some());
    assert!(
        Families::decode(&[bytes.as_slice(), &bytes].concat()).is_none(),
        "a version twice"
    );
    for length in 1..bytes.len() {
        assert!(
            Families::decode(&bytes[..length]).is_none(),
            "cut to {length}"
        );
    }
    let mut second = bytes.clone();
    let version_at = 1 + 2 + "A81001".len();
    second[version_at + 3] = 2;
    let two_active = [bytes.as_slice(), &second].concat();
    assert!(
        Families::decode(&two_active).is_none(),
        "two active versions"
    );
}
