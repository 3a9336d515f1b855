//! Nothing new goes under a retired key.

fn main() {
    let retired = keys::Key::generate(1).retire();
    let _ = retired.wrap(&keys::Context::new("sallyport/test/v1"), &keys::Key::generate(2));
}
