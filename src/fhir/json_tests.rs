//! The JSON reader, rule by rule, and against serde_json on bent texts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use super::json::*;

fn rule(text: &str) -> JsonRule {
    Document::parse(text.as_bytes()).unwrap_err().rule
}

#[test]
fn spans_are_the_exact_text() {
    let text = " { \"a\" : [ 1.50 , { } , \"x\\u00e9\\ud83d\\ude00\" ] , \"b\":null} ";
    let document = Document::parse(text.as_bytes()).unwrap();
    let root = document.root();
    assert_eq!(root.raw(), text.trim());
    let items: Vec<_> = root.get("a").unwrap().items().map(Value::raw).collect();
    assert_eq!(items, ["1.50", "{ }", "\"x\\u00e9\\ud83d\\ude00\""]);
    assert_eq!(
        root.get("a")
            .unwrap()
            .items()
            .nth(2)
            .unwrap()
            .text()
            .unwrap(),
        "xé😀"
    );
    assert_eq!(root.get("b").unwrap().kind(), Kind::Null);
    assert!(root.get("c").is_none());
}

#[test]
fn every_rule_is_named_where_it_breaks() {
    assert_eq!(rule(""), JsonRule::End);
    assert_eq!(rule("[1"), JsonRule::End);
    assert_eq!(rule("\u{feff}1"), JsonRule::ByteOrderMark);
    assert_eq!(rule("01"), JsonRule::Number);
    assert_eq!(rule("\"\t\""), JsonRule::Control);
    assert_eq!(rule(r#""\q""#), JsonRule::Escape);
    assert_eq!(rule(r#""\ud800""#), JsonRule::Surrogate);
    assert_eq!(rule(r#""\udc00""#), JsonRule::Surrogate);
    assert_eq!(rule(r#""\ud800\u0041""#), JsonRule::Surrogate);
    assert_eq!(rule("[1,]"), JsonRule::Value);
    assert_eq!(rule("{a:1}"), JsonRule::Name);
    assert_eq!(rule("{\"a\" 1}"), JsonRule::Colon);
    assert_eq!(rule("[1 2]"), JsonRule::Comma);
    assert_eq!(rule("1 2"), JsonRule::Trailing);
    assert_eq!(
        Document::parse(b"[\"\xff\"]").unwrap_err().rule,
        JsonRule::Utf8
    );
    let error =
        Document::parse(b"{\n  \"entry\": [ {}, {\"resource\": {\"id\": 1, \"\\u0069d\": 2}} ]}")
            .unwrap_err();
    assert_eq!(
        (error.rule, error.line, error.column),
        (JsonRule::Duplicate, 2, 41)
    );
    assert_eq!(error.path, "entry[1].resource.id");
    assert_eq!(
        error.to_string(),
        "line 2, column 41, at entry[1].resource.id: a member name stands once in an object"
    );
}

#[test]
fn a_duplicate_is_found_among_many_names() {
    let mut text: String = (0..5000).map(|n| format!("\"n{n}\":{n},")).collect();
    assert!(Document::parse(format!("{{{text}\"last\":0}}").as_bytes()).is_ok());
    text.push_str("\"n17\":0");
    assert_eq!(rule(&format!("{{{text}}}")), JsonRule::Duplicate);
}

#[test]
fn depth_and_values_are_bounded() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(Document::parse(nested(DEPTH_MAX).as_bytes()).is_ok());
    assert_eq!(rule(&nested(DEPTH_MAX + 1)), JsonRule::Depth);
    assert_eq!(rule(&"[".repeat(100_000)), JsonRule::Depth);
    let many = |n: usize| format!("[{}1]", "1,".repeat(n - 2));
    assert!(Document::parse(many(VALUES_MAX).as_bytes()).is_ok());
    assert_eq!(rule(&many(VALUES_MAX + 1)), JsonRule::Values);
    assert_eq!(rule(&" ".repeat(BYTES_MAX + 1)), JsonRule::Size);
}

#[test]
fn agrees_with_serde_json_on_mutated_texts() {
    let seed = br#"{"a":[1,-0.5e+3,true,null,"x\n\u00e9\ud834\udd1e"],"b":{"c":[],"d":{}}}"#;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let mut text = seed.to_vec();
        for _ in 0..=next() % 3 {
            let at = (next() % text.len() as u64) as usize;
            match next() % 3 {
                0 => text[at] = b"{}[],:\"\\u0e-.1 nt\n"[(next() % 18) as usize],
                1 => drop(text.remove(at)),
                _ => text.insert(at, b"{}[],:\"\\u0e-.1 nt\n"[(next() % 18) as usize]),
            }
        }
        let ours = Document::parse(&text);
        let theirs = serde_json::from_slice::<serde_json::Value>(&text);
        match (&ours, &theirs) {
            (Ok(_), Ok(_)) | (Err(_), Err(_)) => {}
            (Err(error), Ok(_)) => assert_eq!(
                error.rule,
                JsonRule::Duplicate,
                "{}",
                String::from_utf8_lossy(&text)
            ),
            // Why: serde_json keeps numbers as f64 and refuses those that do not fit; we keep their text.
            (Ok(_), Err(error)) => assert!(
                error.to_string().contains("out of range"),
                "{error} {}",
                String::from_utf8_lossy(&text)
            ),
        }
    }
}
