//! One room owns the keyring.

fn copy(keyring: &keys::Keyring) -> keys::Keyring {
    keyring.clone()
}

fn main() {}
