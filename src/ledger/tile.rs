//! Names of the files of a C2SP tlog-tiles log, and cutting a tile or bundle to a width.
//! Pure. A path that is not exactly what the specification writes is no path: nothing is normalised,
//! so that no request can climb out of the folder or name one file in two ways.

use super::tree::TILE_WIDTH;
use std::fmt;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Hashes at this tile level (0 to 63).
    Hashes(u8),
    /// The entries themselves, each behind its length as two bytes.
    Entries,
}

/// One tile or entry bundle; `width` entries of it, 1 to 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its number within its level.
    pub index: u64,
    /// How many of its 256 places are meant.
    pub width: u16,
}

impl Tile {
    /// The full tile of that kind and index.
    #[must_use]
    pub fn full(kind: Kind, index: u64) -> Self {
        let width = TILE_WIDTH as u16;
        Self { kind, index, width }
    }

    /// Whether all 256 places are meant.
    #[must_use]
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == TILE_WIDTH
    }

    /// The tile that holds the last nodes of that kind in a tree of `size` leaves, if it has a partial one.
    #[must_use]
    pub fn partial(kind: Kind, size: u64) -> Option<Self> {
        let level = match kind {
            Kind::Hashes(level) => u32::from(level),
            Kind::Entries => 0,
        };
        let count = size.checked_shr(level * 8).unwrap_or(0);
        let width = (count % TILE_WIDTH) as u16;
        let index = count / TILE_WIDTH;
        (width > 0).then_some(Self { kind, index, width })
    }

    /// Reads `tile/<L>/<N>[.p/<W>]` or `tile/entries/<N>[.p/<W>]`.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("tile/")?;
        let (kind, rest) = rest.split_once('/')?;
        let kind = match kind {
            "entries" => Kind::Entries,
            level => Kind::Hashes(u8::try_from(number(level).filter(|l| *l < 64)?).ok()?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => {
                let width = number(width).filter(|w| (1..TILE_WIDTH).contains(w))?;
                (index, u16::try_from(width).ok()?)
            }
            None => (rest, TILE_WIDTH as u16),
        };
        let index = parse_index(index)?;
        Some(Self { kind, index, width })
    }

    /// The folder that holds the partial forms of this tile: `…/<N>.p`.
    #[must_use]
    pub fn partials(&self) -> String {
        format!("{}.p", Self::full(self.kind, self.index))
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Hashes(level) => write!(f, "tile/{level}/")?,
            Kind::Entries => f.write_str("tile/entries/")?,
        }
        write_index(f, self.index)?;
        if self.is_full() {
            Ok(())
        } else {
            write!(f, ".p/{}", self.width)
        }
    }
}

/// `x001/x234/067`: three digits an element, all but the last behind an `x`.
fn write_index(f: &mut fmt::Formatter<'_>, index: u64) -> fmt::Result {
    let mut elements = vec![index % 1000];
    let mut rest = index / 1000;
    while rest > 0 {
        elements.push(rest % 1000);
        rest /= 1000;
    }
    for (left, element) in elements.iter().enumerate().rev() {
        if left > 0 {
            write!(f, "x{element:03}/")?;
        } else {
            write!(f, "{element:03}")?;
        }
    }
    Ok(())
}

fn parse_index(text: &str) -> Option<u64> {
    let mut index: u64 = 0;
    let mut elements = text.split('/').peekable();
    let mut first = true;
    while let Some(element) = elements.next() {
        let digits = if elements.peek().is_some() {
            element.strip_prefix('x')?
        } else {
            element
        };
        if digits.len() != 3 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        // Why: `x000/001` would be a second name of `001`.
        if first && elements.peek().is_some() && digits == "000" {
            return None;
        }
        first = false;
        index = index
            .checked_mul(1000)?
            .checked_add(digits.parse::<u64>().ok()?)?;
    }
    Some(index)
}

/// A decimal without sign or leading zero.
pub(super) fn number(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok()).flatten()
}

/// Cuts the bytes of a tile or bundle down to its first `width` places; `None` if it has fewer.
#[must_use]
pub fn cut(kind: Kind, bytes: &[u8], width: u16) -> Option<&[u8]> {
    match kind {
        Kind::Hashes(_) => bytes.get(..usize::from(width) * 32),
        Kind::Entries => {
            let mut rest = Entries(bytes);
            for _ in 0..width {
                rest.next()?.ok()?;
            }
            bytes.get(..bytes.len() - rest.0.len())
        }
    }
}

/// Walks through an entry bundle.
pub struct Entries<'a>(pub &'a [u8]);

/// A bundle ends in the middle of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bundle ends in the middle of an entry")]
pub struct CutShort;

impl<'a> Iterator for Entries<'a> {
    type Item = Result<&'a [u8], CutShort>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = self.0.split_first_chunk::<2>().and_then(|(length, rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        });
        let (entry, rest) = entry.map_or((Err(CutShort), &[][..]), |(e, rest)| (Ok(e), rest));
        self.0 = rest;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        for (tile, path) in [
            (
                Tile::full(Kind::Hashes(0), 1_234_067),
                "tile/0/x001/x234/067",
            ),
            (Tile::full(Kind::Entries, 0), "tile/entries/000"),
            (Tile::full(Kind::Hashes(63), 999), "tile/63/999"),
            (Tile::full(Kind::Hashes(1), 1000), "tile/1/x001/000"),
            (
                Tile::partial(Kind::Hashes(0), 70_000).unwrap(),
                "tile/0/273.p/112",
            ),
            (
                Tile::partial(Kind::Hashes(1), 70_000).unwrap(),
                "tile/1/001.p/17",
            ),
            (
                Tile::partial(Kind::Hashes(2), 70_000).unwrap(),
                "tile/2/000.p/1",
            ),
            (
                Tile::partial(Kind::Entries, 257).unwrap(),
                "tile/entries/001.p/1",
            ),
        ] {
            assert_eq!(tile.to_string(), path);
            assert_eq!(Tile::parse(path), Some(tile));
        }
        assert_eq!(Tile::partial(Kind::Hashes(0), 256), None);
        assert_eq!(Tile::partial(Kind::Hashes(8), 70_000), None);
    }

    #[test]
    fn nothing_else_is_a_name() {
        for path in [
            "",
            "tile",
            "tile/",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/+1/000",
            "tile/0/-01",
            "tile/0/x001",
            "tile/0/001/000",
            "tile/0/x000/001",
            "tile/0/x1/000",
            "tile/0/000.p",
            "tile/0/000.p/",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/1/",
            "/tile/0/000",
            "tile//0/000",
            "tile/0/../000",
            "tile/entries/..",
            "tile/0/000 ",
            "tile/0/\u{0661}00",
            "tile/data/000",
            "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
            "tile/0/000.p/1.p/1",
        ] {
            assert_eq!(Tile::parse(path), None, "{path}");
        }
    }

    #[test]
    fn bundles_are_cut_between_entries() {
        let bundle = b"\0\x01a\0\0\0\x02bc";
        assert_eq!(cut(Kind::Entries, bundle, 1), Some(&b"\0\x01a"[..]));
        assert_eq!(cut(Kind::Entries, bundle, 2), Some(&b"\0\x01a\0\0"[..]));
        assert_eq!(cut(Kind::Entries, bundle, 3), Some(&bundle[..]));
        assert_eq!(cut(Kind::Entries, bundle, 4), None);
        assert_eq!(cut(Kind::Entries, b"\0\x05abc", 1), None);
        assert_eq!(cut(Kind::Hashes(0), &[7; 64], 1), Some(&[7; 32][..]));
        assert_eq!(cut(Kind::Hashes(0), &[7; 63], 2), None);
        let found: Vec<_> = Entries(b"\0\x01a\0").collect();
        assert_eq!(found, [Ok(&b"a"[..]), Err(CutShort)]);
    }
}
