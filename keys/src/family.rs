//! What the keyring holds: families of keys, their versions, and how they are written down.
//!
//! Never here: a file or a seal; the bytes made here exist only inside a sealed epoch.
//! A family has at most one active version; a version number is never used twice, not even after destruction.
//! A failure to read means bytes that this keyring did not write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::audit::AuditKey;
use crate::jwk::{Curve, Point, PublicJwk};
use crate::key::{Active, Key, Retired};
use crate::mac::MacKey;
use crate::secret::Secret;
use crate::sign::{NoteSigner, Signer};

/// What a key is for. Keys of one family replace each other; keys of two never do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// An owner's key-encryption key: wraps that owner's record keys and audit keys.
    Kek(String),
    /// Finds things by HMAC without naming them.
    Index,
    /// Seals facts.
    Facts,
    /// Authenticates what the store keeps.
    StoreMac,
    /// Seals ledger bodies that belong to no patient.
    Audit,
    /// Signs access tokens.
    TokenSigning,
    /// Signs deposits.
    DepositSigning,
    /// Signs tickets.
    TicketSigning,
    /// Signs checkpoints.
    LedgerSigning,
}

/// Whether a key may make, may only read, or is no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyState {
    /// A signing key whose public half is published; it signs nothing yet.
    Announced,
    /// Seals, signs, opens.
    Active,
    /// Only opens, and something may still stand under it.
    Retiring,
    /// Only opens, and nothing stands under it; of a signing key only the public half is left.
    Retired,
    /// Gone; the number stays taken.
    Destroyed,
}

/// One version of a family, as an operator sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyVersion {
    /// Its number.
    pub version: u32,
    /// What it may do.
    pub state: KeyState,
    /// When it was made, milliseconds.
    pub created_ms: u64,
    /// How often it was used since this process opened the keyring.
    pub uses: u64,
}

// Why `Arc`: threads that sign and authenticate all day do so without waiting for a change of the keyring.
pub(crate) enum Material {
    Sealing(Key<Active>),
    Opening(Key<Retired>),
    Mac(Arc<MacKey>),
    Audit(AuditKey),
    Signing(Arc<Signer>),
    Verifying(PublicJwk),
    Noting(Arc<NoteSigner>),
    NotePublic([u8; 32]),
    Destroyed,
}

pub(crate) struct Held {
    pub(crate) state: KeyState,
    pub(crate) created_ms: u64,
    pub(crate) material: Material,
    uses: AtomicU64,
}

impl Held {
    pub(crate) fn new(state: KeyState, created_ms: u64, material: Material) -> Held {
        Held {
            state,
            created_ms,
            material,
            uses: AtomicU64::new(0),
        }
    }

    /// Counts one use.
    pub(crate) fn used(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }
}

pub(crate) type Versions = BTreeMap<u32, Held>;

/// Every family and version.
pub(crate) struct Families(pub(crate) BTreeMap<Family, Versions>);

impl Family {
    fn code(&self) -> (u8, &str) {
        match self {
            Family::Kek(owner) => (1, owner),
            Family::Index => (2, ""),
            Family::Facts => (3, ""),
            Family::StoreMac => (4, ""),
            Family::Audit => (5, ""),
            Family::TokenSigning => (6, ""),
            Family::DepositSigning => (7, ""),
            Family::TicketSigning => (8, ""),
            Family::LedgerSigning => (9, ""),
        }
    }

    fn from_code(code: u8, owner: &str) -> Option<Family> {
        let family = match code {
            1 => Family::Kek(owner.to_owned()),
            2 => Family::Index,
            3 => Family::Facts,
            4 => Family::StoreMac,
            5 => Family::Audit,
            6 => Family::TokenSigning,
            7 => Family::DepositSigning,
            8 => Family::TicketSigning,
            9 => Family::LedgerSigning,
            _ => return None,
        };
        (family.code() == (code, owner)).then_some(family)
    }
}

impl Family {
    /// Whether its keys sign: then the next one is announced before it does.
    #[must_use]
    pub fn signs(&self) -> bool {
        matches!(
            self,
            Family::TokenSigning
                | Family::DepositSigning
                | Family::TicketSigning
                | Family::LedgerSigning
        )
    }
}

impl KeyState {
    /// The word for it, in pages and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            KeyState::Announced => "announced",
            KeyState::Active => "active",
            KeyState::Retiring => "retiring",
            KeyState::Retired => "retired",
            KeyState::Destroyed => "destroyed",
        }
    }

    fn code(self) -> u8 {
        match self {
            KeyState::Active => 1,
            KeyState::Retired => 2,
            KeyState::Destroyed => 3,
            KeyState::Announced => 4,
            KeyState::Retiring => 5,
        }
    }

    fn from_code(code: u8) -> Option<KeyState> {
        [
            KeyState::Active,
            KeyState::Retired,
            KeyState::Destroyed,
            KeyState::Announced,
            KeyState::Retiring,
        ]
        .into_iter()
        .find(|state| state.code() == code)
    }
}

impl Material {
    pub(crate) fn fresh(family: &Family, version: u32) -> Material {
        match family {
            Family::Kek(_) | Family::Facts => Material::Sealing(Key::generate(version)),
            Family::Index | Family::StoreMac => Material::Mac(Arc::new(MacKey::generate())),
            Family::Audit => Material::Audit(AuditKey::generate()),
            Family::TokenSigning | Family::DepositSigning | Family::TicketSigning => {
                Material::Signing(Arc::new(Signer::generate()))
            }
            Family::LedgerSigning => Material::Noting(Arc::new(NoteSigner::generate())),
        }
    }

    /// What is left of a key that may no longer make anything: a signing key's secret half goes at once.
    pub(crate) fn retired(self) -> Material {
        match self {
            Material::Sealing(key) => Material::Opening(key.retire()),
            Material::Signing(signer) => Material::Verifying(signer.public().clone()),
            Material::Noting(signer) => Material::NotePublic(signer.public()),
            kept @ (Material::Opening(_)
            | Material::Mac(_)
            | Material::Audit(_)
            | Material::Verifying(_)
            | Material::NotePublic(_)
            | Material::Destroyed) => kept,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Material::Sealing(key) => key.secret().expose(),
            Material::Opening(key) => key.secret().expose(),
            Material::Mac(key) => key.secret().expose(),
            Material::Audit(key) => key.secret().expose(),
            Material::Signing(signer) => signer.secret().expose(),
            Material::Noting(signer) => signer.secret().expose(),
            Material::Verifying(public) => public.point().bytes(),
            Material::NotePublic(public) => public,
            Material::Destroyed => &[],
        }
    }

    fn from_bytes(
        family: &Family,
        version: u32,
        state: KeyState,
        bytes: &[u8],
    ) -> Option<Material> {
        let secret = || Secret::from_slice(bytes);
        match (family, state) {
            (_, KeyState::Destroyed) => bytes.is_empty().then_some(Material::Destroyed),
            (Family::Kek(_) | Family::Facts, KeyState::Active) => {
                Some(Material::Sealing(Key::from_secret(version, secret()?)))
            }
            (Family::Kek(_) | Family::Facts, KeyState::Retiring | KeyState::Retired) => {
                Some(Material::Opening(Key::from_secret(version, secret()?)))
            }
            (Family::Index | Family::StoreMac, _) => {
                Some(Material::Mac(Arc::new(MacKey::from_secret(secret()?))))
            }
            (Family::Audit, _) => Some(Material::Audit(AuditKey::from_secret(secret()?))),
            (Family::LedgerSigning, KeyState::Active | KeyState::Announced) => Some(
                Material::Noting(Arc::new(NoteSigner::from_secret(secret()?))),
            ),
            (Family::LedgerSigning, KeyState::Retired) => {
                Some(Material::NotePublic(bytes.try_into().ok()?))
            }
            // Why last: a kind of key in a state that it never has is not a keyring of ours.
            (Family::Kek(_) | Family::Facts, KeyState::Announced) | (_, KeyState::Retiring) => None,
            (_, KeyState::Active | KeyState::Announced) => {
                Some(Material::Signing(Arc::new(Signer::from_secret(secret()?)?)))
            }
            (_, KeyState::Retired) => {
                let point = Point::new(Curve::P256, bytes.to_vec())?;
                Some(Material::Verifying(PublicJwk::from_point(point)))
            }
        }
    }
}

impl Families {
    pub(crate) fn empty() -> Families {
        Families(BTreeMap::new())
    }

    pub(crate) fn held(&self, family: &Family, version: u32) -> Option<&Held> {
        self.0.get(family)?.get(&version)
    }

    pub(crate) fn active(&self, family: &Family) -> Option<&Held> {
        self.in_state(family, KeyState::Active)
    }

    pub(crate) fn in_state(&self, family: &Family, state: KeyState) -> Option<&Held> {
        let versions = self.0.get(family)?;
        versions.values().rev().find(|held| held.state == state)
    }

    /// Takes over the counts of use.
    pub(crate) fn count_on_from(&self, before: &Families) {
        for (family, versions) in &self.0 {
            for (version, held) in versions {
                let uses = before.held(family, *version).map_or(0, Held::uses);
                held.uses.fetch_add(uses, Ordering::Relaxed);
            }
        }
    }

    /// Every version: `code u8 ‖ owner (length u16) ‖ version u32 ‖ state u8 ‖ created u64 ‖ material (length u8)`.
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        let rows = || {
            self.0
                .iter()
                .flat_map(|(family, all)| all.iter().map(move |row| (family, row)))
        };
        let length = rows()
            .map(|(family, (_, held))| 17 + family.code().1.len() + held.material.bytes().len());
        // INVARIANT: exact capacity, so that no key is left behind in a buffer given back unwiped.
        let mut out = Zeroizing::new(Vec::with_capacity(length.sum()));
        for (family, (version, held)) in rows() {
            let (code, owner) = family.code();
            let material = held.material.bytes();
            out.push(code);
            out.extend_from_slice(&u16::try_from(owner.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(owner.as_bytes());
            out.extend_from_slice(&version.to_be_bytes());
            out.push(held.state.code());
            out.extend_from_slice(&held.created_ms.to_be_bytes());
            out.push(u8::try_from(material.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(material);
        }
        out
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Families> {
        let mut families = Families::empty();
        while !bytes.is_empty() {
            let [code] = take::<1>(&mut bytes)?;
            let owner = u16::from_be_bytes(take(&mut bytes)?);
            let owner = std::str::from_utf8(take_slice(&mut bytes, owner.into())?).ok()?;
            let family = Family::from_code(code, owner)?;
            let version = u32::from_be_bytes(take(&mut bytes)?);
            let [state] = take::<1>(&mut bytes)?;
            let state = KeyState::from_code(state)?;
            let created_ms = u64::from_be_bytes(take(&mut bytes)?);
            let [length] = take::<1>(&mut bytes)?;
            let material = take_slice(&mut bytes, length.into())?;
            let material = Material::from_bytes(&family, version, state, material)?;
            let is_one = matches!(state, KeyState::Active | KeyState::Announced);
            if is_one && families.in_state(&family, state).is_some() {
                return None;
            }
            let held = Held::new(state, created_ms, material);
            if families
                .0
                .entry(family)
                .or_default()
                .insert(version, held)
                .is_some()
            {
                return None;
            }
        }
        Some(families)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn take_slice<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}
