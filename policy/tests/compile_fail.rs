//! What must not compile, with the compiler's words.

#[test]
fn the_straight_line_cannot_be_left() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile_fail/*.rs");
}
