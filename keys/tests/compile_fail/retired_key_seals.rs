//! A retired key opens and does nothing else.

fn main() {
    let key = keys::Key::generate(1).retire();
    let _ = key.seal(&keys::Context::new("sallyport/test/v1"), b"words");
}
