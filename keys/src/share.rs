//! Shares of an unlocking secret (Shamir, over GF(2^8), in constant time): any `threshold` of them rebuild it, fewer say
//! nothing about it. Here: their printed form, which people copy by hand, and the splitting and rebuilding.
//!
//! A printed share is `base32(set 5 ‖ threshold 1 ‖ index 1 ‖ y 32 ‖ check 6)` in groups of four, Crockford's alphabet,
//! where `check` is SHA-256 of what stands before it: a slip of the pen is told from a wrong share.
//! Never here: a share kept after it was used, or a rebuilt secret believed: whether it is right, only opening says.

use std::convert::Infallible;

use vsss_rs::Gf256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::mac::sha256;
use crate::secret::{SECRET_BYTES, Secret, random};

const SET_BYTES: usize = 5;
const CHECK_BYTES: usize = 6;
const SHARE_BYTES: usize = SET_BYTES + 2 + SECRET_BYTES + CHECK_BYTES;
/// Letters of a printed share, without what groups them.
const SHARE_LETTERS: usize = SHARE_BYTES * 8 / 5;
/// Longest text that is looked at for a share.
const TEXT_BYTES_MAX: usize = 512;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Most shares of one set.
pub const SHARES_MAX: u8 = 32;

/// Which shares belong together: 40 random bits, eight letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShareSet([u8; SET_BYTES]);

impl std::fmt::Display for ShareSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&letters(&self.0))
    }
}

impl ShareSet {
    pub(crate) fn random() -> ShareSet {
        let mut set = [0; SET_BYTES];
        random(&mut set);
        ShareSet(set)
    }

    pub(crate) fn from_bytes(bytes: [u8; SET_BYTES]) -> ShareSet {
        ShareSet(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; SET_BYTES] {
        &self.0
    }
}

/// Why a text is no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// Not as many letters as a share has, or a letter that no share has.
    #[error("not a share: it has 18 groups of four letters and digits, without I, L, O and U")]
    Malformed,
    /// A letter was mistyped, or two were swapped.
    #[error("the share is mistyped: its last letters, which check the others, do not fit")]
    Mistyped,
}

/// Why shares do not open a root file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareSetError {
    /// Not so many shares, or not so high a threshold, as there can be.
    #[error("from 2 to {SHARES_MAX} shares, of which from 2 to all are needed")]
    Count,
    /// Fewer than are needed.
    #[error("{have} of the {need} shares that are needed")]
    TooFew {
        /// Given.
        have: u8,
        /// Needed.
        need: u8,
    },
    /// Of another set: shares that were made anew make the older ones worthless.
    #[error("a share of set {got} was given, and the root file is sealed to set {want}")]
    OtherSet {
        /// Of the share.
        got: ShareSet,
        /// Of the root file.
        want: ShareSet,
    },
    /// The same share twice.
    #[error("share {0} was given twice")]
    Twice(u8),
}

/// One person's share.
pub struct Share {
    set: ShareSet,
    threshold: u8,
    index: u8,
    y: Secret,
}

impl Share {
    /// Reads a share as it was printed or typed; groups, case, and O for 0, I and L for 1 do not matter.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn parse(text: &[u8]) -> Result<Share, ShareError> {
        let malformed = ShareError::Malformed;
        if text.len() > TEXT_BYTES_MAX {
            return Err(malformed);
        }
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        read_letters(text, bytes.as_mut_slice()).ok_or(malformed)?;
        let (body, check) = bytes.split_at(SHARE_BYTES - CHECK_BYTES);
        if sha256(&[b"sallyport/share/v1", body]).get(..CHECK_BYTES) != Some(check) {
            return Err(ShareError::Mistyped);
        }
        let (set, rest) = body.split_first_chunk().ok_or(malformed)?;
        let ([threshold, index], y) = rest.split_first_chunk().ok_or(malformed)?;
        if *index == 0 || *threshold < 2 {
            return Err(malformed);
        }
        Ok(Share {
            set: ShareSet(*set),
            threshold: *threshold,
            index: *index,
            y: Secret::from_slice(y).ok_or(malformed)?,
        })
    }

    /// The share as it is printed: 18 groups of four.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        let body = [
            self.set.as_bytes().as_slice(),
            &[self.threshold, self.index],
            self.y.expose(),
        ];
        let mut at = bytes.iter_mut();
        for (to, from) in at.by_ref().zip(body.into_iter().flatten()) {
            *to = *from;
        }
        let check = sha256(&[
            b"sallyport/share/v1",
            bytes.get(..SHARE_BYTES - CHECK_BYTES).unwrap_or_default(),
        ]);
        let checked = bytes.iter_mut().skip(SHARE_BYTES - CHECK_BYTES);
        for (to, from) in checked.zip(check) {
            *to = from;
        }
        let plain = Zeroizing::new(letters(bytes.as_slice()));
        // INVARIANT: the capacity is exact, so no smaller buffer with part of the share is left behind.
        let mut text = Zeroizing::new(String::with_capacity(SHARE_LETTERS + SHARE_LETTERS / 4));
        for (position, letter) in plain.chars().enumerate() {
            if position > 0 && position % 4 == 0 {
                text.push('-');
            }
            text.push(letter);
        }
        text
    }

    /// The set it belongs to.
    #[must_use]
    pub fn set(&self) -> ShareSet {
        self.set
    }

    /// How many of its set are needed.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Its number in the set, from 1.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }
}

/// Splits a secret; the shares are numbered from 1.
///
/// Safe because every coefficient is fresh from the system's generator: `threshold - 1` shares are independent of it.
pub(crate) fn split(
    secret: &Secret,
    set: ShareSet,
    threshold: u8,
    count: u8,
) -> Result<Vec<Share>, ShareSetError> {
    if threshold < 2 || threshold > count || count > SHARES_MAX {
        return Err(ShareSetError::Count);
    }
    let (needed, all) = (usize::from(threshold), usize::from(count));
    let pieces = Gf256::split_bytes(needed, all, secret.expose(), SystemDice);
    let pieces = Zeroizing::new(pieces.map_err(|_| ShareSetError::Count)?);
    let share = |piece: &Vec<u8>| {
        let (index, y) = piece.split_first()?;
        let y = Secret::from_slice(y)?;
        Some(Share {
            set,
            threshold,
            index: *index,
            y,
        })
    };
    pieces
        .iter()
        .map(share)
        .collect::<Option<_>>()
        .ok_or(ShareSetError::Count)
}

/// What these shares give together. Wrong shares give a wrong secret: only opening something says which it is.
pub(crate) fn rebuild(
    shares: &[Share],
    set: ShareSet,
    threshold: u8,
) -> Result<Secret, ShareSetError> {
    for (at, share) in shares.iter().enumerate() {
        if share.set != set {
            return Err(ShareSetError::OtherSet {
                got: share.set,
                want: set,
            });
        }
        if shares
            .iter()
            .take(at)
            .any(|other| other.index == share.index)
        {
            return Err(ShareSetError::Twice(share.index));
        }
    }
    let have = u8::try_from(shares.len()).unwrap_or(u8::MAX);
    let too_few = ShareSetError::TooFew {
        have,
        need: threshold,
    };
    if have < threshold {
        return Err(too_few);
    }
    let mut pieces = Zeroizing::new(Vec::with_capacity(shares.len()));
    for share in shares.iter().take(usize::from(threshold)) {
        // INVARIANT: the capacity is exact, so the piece is never left behind in a smaller buffer.
        let mut piece = Vec::with_capacity(1 + SECRET_BYTES);
        piece.push(share.index);
        piece.extend_from_slice(share.y.expose());
        pieces.push(piece);
    }
    let rebuilt = Gf256::combine_bytes(pieces.as_slice()).map(Zeroizing::new);
    rebuilt
        .ok()
        .and_then(|bytes| Secret::from_slice(&bytes))
        .ok_or(too_few)
}

/// The system's generator, as the crate that splits asks for it.
struct SystemDice;

impl rand_core::TryRng for SystemDice {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        random(&mut bytes);
        Ok(u32::from_ne_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        random(&mut bytes);
        Ok(u64::from_ne_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        random(out);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for SystemDice {}

/// Crockford's base32, without padding; the length of `bytes` is a multiple of five.
fn letters(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5);
    for group in bytes.chunks(5) {
        let number = group
            .iter()
            .fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        for place in (0..8).rev() {
            let digit = usize::try_from(number >> (5 * place) & 31).unwrap_or_default();
            text.push(ALPHABET.get(digit).copied().map_or('0', char::from));
        }
    }
    text
}

/// The way back: exactly `out` bytes, or none.
fn read_letters(text: &[u8], out: &mut [u8]) -> Option<()> {
    let mut digits = Zeroizing::new([0u8; SHARE_LETTERS]);
    let mut count = 0;
    for byte in text {
        let letter = match byte.to_ascii_uppercase() {
            b'-' | b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'O' => b'0',
            b'I' | b'L' => b'1',
            letter => letter,
        };
        let digit = ALPHABET.iter().position(|known| *known == letter)?;
        *digits.get_mut(count)? = u8::try_from(digit).ok()?;
        count += 1;
    }
    if count != out.len() * 8 / 5 {
        return None;
    }
    for (group, to) in digits.chunks(8).zip(out.chunks_mut(5)) {
        let mut number = group
            .iter()
            .fold(0u64, |number, digit| number << 5 | u64::from(*digit));
        for byte in to.iter_mut().rev() {
            *byte = u8::try_from(number & 0xff).unwrap_or_default();
            number >>= 8;
        }
        number.zeroize();
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;

    fn of(indices: &[usize], all: &[Share]) -> Vec<Share> {
        indices
            .iter()
            .map(|at| Share::parse(all[*at].to_text().as_bytes()).ok().unwrap())
            .collect()
    }

    #[test]
    fn any_three_of_five_rebuild_the_secret_and_no_two_do() {
        let (secret, set) = (Secret::random(), ShareSet::random());
        let all = split(&secret, set, 3, 5).ok().unwrap();
        assert_eq!(
            all.iter().map(Share::index).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5]
        );
        for one in 0..5 {
            for two in (0..5).filter(|two| *two != one) {
                let pair = of(&[one, two], &all);
                assert_eq!(
                    rebuild(&pair, set, 3).err(),
                    Some(ShareSetError::TooFew { have: 2, need: 3 })
                );
                // Whoever lies about the threshold gets something else than the secret.
                assert_ne!(
                    rebuild(&pair, set, 2).ok().unwrap().expose(),
                    secret.expose()
                );
                for three in (0..5).filter(|three| *three != one && *three != two) {
                    let rebuilt = rebuild(&of(&[one, two, three], &all), set, 3);
                    assert_eq!(rebuilt.ok().unwrap().expose(), secret.expose());
                }
            }
        }
    }

    #[test]
    fn sets_do_not_mix_and_a_share_counts_once() {
        let (secret, set, other) = (Secret::random(), ShareSet::random(), ShareSet::random());
        let all = split(&secret, set, 2, 3).ok().unwrap();
        let others = split(&secret, other, 2, 3).ok().unwrap();
        let mixed = [of(&[0], &all), of(&[1], &others)].concat_shares();
        assert_eq!(
            rebuild(&mixed, set, 2).err(),
            Some(ShareSetError::OtherSet {
                got: other,
                want: set
            })
        );
        assert_eq!(
            rebuild(&of(&[1, 1], &all), set, 2).err(),
            Some(ShareSetError::Twice(2))
        );
        for (threshold, count) in [(1, 3), (4, 3), (0, 0), (2, SHARES_MAX + 1)] {
            assert_eq!(
                split(&secret, set, threshold, count).err(),
                Some(ShareSetError::Count)
            );
        }
    }

    trait Concat {
        fn concat_shares(self) -> Vec<Share>;
    }

    impl Concat for [Vec<Share>; 2] {
        fn concat_shares(self) -> Vec<Share> {
            self.into_iter().flatten().collect()
        }
    }

    #[test]
    fn a_share_is_read_as_people_write_it_and_a_slip_is_told() {
        let all = split(&Secret::random(), ShareSet::random(), 2, 2)
            .ok()
            .unwrap();
        let text = all[0].to_text();
        assert_eq!(text.split('-').count(), 18);
        let spoken = text
            .to_lowercase()
            .replace('-', " ")
            .replace('0', "o")
            .replace('1', "l");
        let back = Share::parse(spoken.as_bytes()).ok().unwrap();
        assert_eq!(
            (back.index(), back.threshold(), back.set()),
            (1, 2, all[0].set())
        );
        assert_eq!(back.y.expose(), all[0].y.expose());
        for at in (0..text.len()).filter(|at| text.as_bytes()[*at] != b'-') {
            let mut slip = text.as_bytes().to_vec();
            slip[at] = if slip[at] == b'7' { b'8' } else { b'7' };
            assert_eq!(
                Share::parse(&slip).err(),
                Some(ShareError::Mistyped),
                "{at}"
            );
        }
        let long = vec![b'7'; TEXT_BYTES_MAX + 1];
        for wrong in [
            b"".as_slice(),
            &text.as_bytes()[1..],
            b"UUUU",
            &long,
            b"\xff\xfe",
        ] {
            assert_eq!(Share::parse(wrong).err(), Some(ShareError::Malformed));
        }
    }
}
