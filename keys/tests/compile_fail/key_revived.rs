//! There is no way back from retirement.

fn revive(key: keys::Key<keys::Retired>) -> keys::Key<keys::Active> {
    key
}

fn main() {}
