//! A data key that has encrypted its record cannot encrypt another.

fn main() {
    let (_, dek) = keys::FreshDek::generate().seal_record("a.1", "application/fhir+json", b"one");
    let _ = dek.seal_record("a.2", "application/fhir+json", b"two");
}
