//! A data key encrypts exactly once.

fn main() {
    let dek = keys::FreshDek::generate();
    let _ = dek.seal_record("a.1", "application/fhir+json", b"one");
    let _ = dek.seal_record("a.2", "application/fhir+json", b"two");
}
