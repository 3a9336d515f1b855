//! What a ciphertext belongs to: the associated data of every seal in this crate.
//!
//! Never here: anything secret. A wrong context is found at `open`, as `OpenError::Sealed`.

/// Associated data: `len(label) ‖ label ‖ len(part) ‖ part ‖ …`, every length a big-endian u64.
///
/// NIST SP 800-38D §7 authenticates it. Safe because it is injective: no two lists of parts give the same bytes,
/// so a sealed value moved to another record, owner or version does not open.
pub struct Context(Vec<u8>);

impl Context {
    /// Starts a context with a label that names its use and format version, such as `sallyport/record-key/v1`.
    #[must_use]
    pub fn new(label: &'static str) -> Context {
        Context(Vec::with_capacity(128)).part(label.as_bytes())
    }

    /// Adds one part; order matters.
    #[must_use]
    pub fn part(mut self, part: &[u8]) -> Context {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part);
        self
    }

    /// `header ‖ context`: the header has a fixed length, so the whole stays injective.
    pub(crate) fn under(&self, header: &[u8; 6]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(header.len() + self.0.len());
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&self.0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_between_parts_count() {
        let contexts = [
            Context::new("l").part(b"ab").part(b"c"),
            Context::new("l").part(b"a").part(b"bc"),
            Context::new("l").part(b"abc"),
            Context::new("l").part(b"abc").part(b""),
            Context::new("la").part(b"bc"),
        ];
        for (i, one) in contexts.iter().enumerate() {
            for other in contexts.iter().skip(i + 1) {
                assert_ne!(one.0, other.0);
            }
        }
    }

    #[test]
    fn the_bytes_are_frozen() {
        let bytes = Context::new("l").part(b"xy").0;
        assert_eq!(bytes, b"\0\0\0\0\0\0\0\x01l\0\0\0\0\0\0\0\x02xy");
    }
}
