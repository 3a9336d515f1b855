//! The guide for who answers for the rules says what the rules say. `SALLYPORT_UPDATE=1` writes it anew.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fmt::Write as _;
use std::path::Path;

use policy::Texts;

#[test]
fn the_guide_says_what_the_rules_say() {
    let titles = [
        "Never, whatever anybody permits",
        "Why something may be let through",
        "What holds of everything that was let through",
    ];
    let mut says = String::new();
    for (title, rules) in titles.iter().zip(Texts::built_in().parse().unwrap().says()) {
        writeln!(says, "### {title}\n").unwrap();
        for rule in rules {
            writeln!(says, "* {} (`{}`)", rule.words, rule.id).unwrap();
        }
        says.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
    let guide = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = guide.split_once("<!-- says -->\n").unwrap();
    let (said, after) = rest.split_once("<!-- end of says -->").unwrap();
    if std::env::var_os("SALLYPORT_UPDATE").is_some() {
        let guide = format!("{before}<!-- says -->\n{says}<!-- end of says -->{after}");
        std::fs::write(&path, guide).unwrap();
        return;
    }
    assert_eq!(
        said, says,
        "docs/policy.md: write it anew with SALLYPORT_UPDATE=1"
    );
}
