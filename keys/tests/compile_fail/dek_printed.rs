//! A data key cannot be shown.

fn show(dek: &keys::Dek) {
    println!("{dek:?}");
}

fn main() {}
