//! Opened bytes do not end in a log by accident.

fn show(plaintext: &keys::Plaintext) {
    println!("{plaintext:?}");
}

fn main() {}
