//! The rows the vault keeps: a patient's wrapped keys, and a record's card beside the place of its
//! ciphertext. Fixed binary forms with a version byte; a row of another form is an error, never a guess.

use keys::Sealed;
use policy::words::{Ods, RecordId};

use crate::facts::fixed;
use crate::store::BlobRef;

/// A row that is not of this form.
#[derive(Debug, thiserror::Error)]
#[error("a stored row is malformed")]
pub(super) struct RowError;

/// The key's owner where a row is a patient's audit key and not a practice's record key.
pub(super) const AUDIT_OWNER: &str = "audit";

/// `owner (8) ‖ patient tag (16)`: a practice's rows stand together, so that a rotation reads only them.
pub(super) fn patient_key(owner: &str, tag: &[u8; 16]) -> Vec<u8> {
    [fixed(owner).as_slice(), tag].concat()
}

/// `patient tag (16) ‖ practice (8) ‖ record id (16)`: a patient's cards stand together.
pub(super) fn card_key(tag: &[u8; 16], practice: &Ods, id: &RecordId) -> Vec<u8> {
    [tag.as_slice(), &fixed(practice.as_str()), &id.0].concat()
}

/// Bytes of a keeper's key: no name's key is so long.
pub(super) const KEEPER_BYTES: usize = 24;

/// `patient tag (16) ‖ practice (8)`: this practice holds records of this patient.
pub(super) fn keeper_key(tag: &[u8; 16], practice: &Ods) -> Vec<u8> {
    [tag.as_slice(), &fixed(practice.as_str())].concat()
}

/// The practice that a keeper's key names.
pub(super) fn read_keeper_key(key: &[u8]) -> Result<Ods, RowError> {
    read_practice(key.get(16..KEEPER_BYTES).ok_or(RowError)?)
}

fn read_practice(bytes: &[u8]) -> Result<Ods, RowError> {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let code = bytes
        .get(..end)
        .and_then(|code| std::str::from_utf8(code).ok());
    Ods::try_from(code.ok_or(RowError)?).map_err(|_| RowError)
}

/// The practice and record that a card's key names.
pub(super) fn read_card_key(key: &[u8]) -> Result<(Ods, RecordId), RowError> {
    let practice = read_practice(key.get(16..24).ok_or(RowError)?)?;
    let id: [u8; 16] = key
        .get(24..)
        .and_then(|id| id.try_into().ok())
        .ok_or(RowError)?;
    Ok((practice, RecordId(id)))
}

/// What stands under a patient's key: the wrapped key, and the NHS number sealed under that key.
pub(super) struct PatientRow {
    pub(super) wrapped: Sealed,
    pub(super) number: Option<Sealed>,
}

impl PatientRow {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![1];
        part(&mut out, self.wrapped.as_bytes());
        part(
            &mut out,
            self.number.as_ref().map_or(&[], |sealed| sealed.as_bytes()),
        );
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, RowError> {
        let rest = bytes.strip_prefix(&[1]).ok_or(RowError)?;
        let (wrapped, rest) = take(rest)?;
        let (number, rest) = take(rest)?;
        if !rest.is_empty() {
            return Err(RowError);
        }
        let number = if number.is_empty() {
            None
        } else {
            Some(sealed(number)?)
        };
        Ok(Self {
            wrapped: sealed(wrapped)?,
            number,
        })
    }
}

/// Whether a record may still leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Filed,
    Withdrawn,
}

/// A record: which version, where its envelope stands, its wrapped DEK and its sealed card.
pub(super) struct CardRow {
    pub(super) version: u32,
    pub(super) state: State,
    pub(super) place: BlobRef,
    pub(super) dek: Sealed,
    pub(super) card: Sealed,
}

impl CardRow {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![1];
        out.extend_from_slice(&self.version.to_be_bytes());
        out.push(match self.state {
            State::Filed => 0,
            State::Withdrawn => 1,
        });
        out.extend_from_slice(&self.place.to_bytes());
        part(&mut out, self.dek.as_bytes());
        part(&mut out, self.card.as_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, RowError> {
        let rest = bytes.strip_prefix(&[1]).ok_or(RowError)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(RowError)?;
        let (state, rest) = rest.split_first().ok_or(RowError)?;
        let (place, rest) = rest.split_first_chunk::<16>().ok_or(RowError)?;
        let (dek, rest) = take(rest)?;
        let (card, rest) = take(rest)?;
        let state = match (state, rest) {
            (0, []) => State::Filed,
            (1, []) => State::Withdrawn,
            _ => return Err(RowError),
        };
        Ok(Self {
            version: u32::from_be_bytes(*version),
            state,
            place: BlobRef::from_bytes(*place),
            dek: sealed(dek)?,
            card: sealed(card)?,
        })
    }
}

fn part(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take(bytes: &[u8]) -> Result<(&[u8], &[u8]), RowError> {
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or(RowError)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        .ok_or(RowError)
}

fn sealed(bytes: &[u8]) -> Result<Sealed, RowError> {
    Sealed::try_from(bytes).map_err(|_| RowError)
}
