//! Every parser of foreign bytes; the first byte says which. `cargo fuzz run parsers` in `tests/fuzz`.

#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((which, rest)) = bytes.split_first() {
        let at = usize::from(*which) % entries::ENTRIES.len();
        if let Some((_, parse)) = entries::ENTRIES.get(at) {
            parse(rest);
        }
    }
});
