//! RFC 8785 for what leaves and accounts are made of: objects with ASCII names, strings and integers.
//! Everything else (floating point, names beyond ASCII) is left to `serde_json_canonicalizer`, which knows the whole RFC
//! and costs ten times as much; a unit test holds the two against each other.

use super::RecordError;
use serde_json::Value;
use std::fmt::Write as _;

/// The value's only text.
pub(super) fn canonical(value: &Value) -> Result<String, RecordError> {
    let mut text = String::with_capacity(256);
    write(value, &mut text)?;
    Ok(text)
}

/// Adds the value's only text.
pub(super) fn write(value: &Value, text: &mut String) -> Result<(), RecordError> {
    let start = text.len();
    if write_common(value, text).is_none() {
        text.truncate(start);
        let whole = serde_json_canonicalizer::to_string(value);
        text.push_str(&whole.map_err(|_| RecordError::Malformed("a value has no canonical form"))?);
    }
    Ok(())
}

/// Adds a string's only text.
pub(super) fn write_string(string: &str, text: &mut String) {
    text.push('"');
    if string.bytes().all(|b| b >= 0x20 && b != b'"' && b != b'\\') {
        text.push_str(string);
    } else {
        string.chars().for_each(|char| write_char(char, text));
    }
    text.push('"');
}

/// RFC 8785 §3.2.2.2.
fn write_char(char: char, text: &mut String) {
    match char {
        '"' => text.push_str("\\\""),
        '\\' => text.push_str("\\\\"),
        '\u{8}' => text.push_str("\\b"),
        '\t' => text.push_str("\\t"),
        '\n' => text.push_str("\\n"),
        '\u{c}' => text.push_str("\\f"),
        '\r' => text.push_str("\\r"),
        // Why ignored: writing to a `String` cannot fail.
        control if control < ' ' => drop(write!(text, "\\u{:04x}", u32::from(control))),
        other => text.push(other),
    }
}

/// An integer that every reader of JSON takes for the same (RFC 7493 §2.2), if the value is one.
pub(super) fn exact(value: &Value) -> Option<i64> {
    const MOST: i64 = (1 << 53) - 1;
    value.as_i64().filter(|n| (-MOST..=MOST).contains(n))
}

/// `None` if the value is not of the common kind; what was added by then is to be dropped.
fn write_common(value: &Value, text: &mut String) -> Option<()> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(_) => write!(text, "{}", exact(value)?).ok()?,
        Value::String(string) => write_string(string, text),
        Value::Array(list) => {
            text.push('[');
            for (at, value) in list.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_common(value, text)?;
            }
            text.push(']');
        }
        Value::Object(map) => {
            if !map.keys().all(|name| name.is_ascii()) {
                return None;
            }
            let mut members: Vec<_> = map.iter().collect();
            // Why by bytes: RFC 8785 sorts by UTF-16 units, which for ASCII are the bytes.
            members.sort_unstable_by_key(|(name, _)| name.as_str());
            text.push('{');
            for (at, (name, value)) in members.into_iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                write_string(name, text);
                text.push(':');
                write_common(value, text)?;
            }
            text.push('}');
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    #[test]
    fn the_short_way_says_what_the_long_way_says() {
        for text in [
            "null",
            "[true,false,null,[],{}]",
            r#"{"b":1,"a":{"z":[3,-9007199254740991],"A":""},"10":2,"1":3,"":4}"#,
            r#"{"é":1,"e":2,"\ud83d\ude00":3,"\ufb33":4}"#,
            "[9007199254740993,18446744073709551615,-9223372036854775808]",
            "[1.0,-0.0,1e21,1e-7,333333333.33333329,4.50,2e-3]",
            r#"["\u0000\u0001\b\t\n\u000b\f\r\u001f \"\\\/\u007f\u0080é\u2028\ud83d\ude00"]"#,
            r#"{"a\nb":"c","a\"b":{"\\":1}}"#,
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            let long = serde_json_canonicalizer::to_string(&value).unwrap();
            assert_eq!(canonical(&value).unwrap(), long);
            let mut behind = "x".to_owned();
            write(&value, &mut behind).unwrap();
            assert_eq!(behind, format!("x{long}"));
        }
        for code in 0..0x250 {
            let value: Value = char::from_u32(code).unwrap().to_string().into();
            let long = serde_json_canonicalizer::to_string(&value).unwrap();
            assert_eq!(canonical(&value).unwrap(), long);
        }
    }
}
