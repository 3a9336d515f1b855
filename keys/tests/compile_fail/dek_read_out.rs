//! The bytes of a data key are private.

fn bytes(dek: keys::Dek) -> [u8; 32] {
    dek.0
}

fn main() {}
