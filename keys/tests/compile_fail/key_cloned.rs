//! A key has one owner.

fn copy(key: &keys::Key<keys::Active>) -> keys::Key<keys::Active> {
    key.clone()
}

fn main() {}
