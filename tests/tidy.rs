//! The house rules, read from the source: what a compiler cannot keep and a reviewer forgets.
//!
//! Each test is one rule; a failure names the file and the line. Comments are not looked at, and "outside tests"
//! leaves out files and modules under `#[cfg(test)]`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may panic"
)]

#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;

use source::{definition, files, names, root, sources};

/// Rooms from the ground up: name, the crates of ours it may name, the rooms it may import. A room imports only
/// from rooms that stand above it in this table, so arrows run down and never in a circle.
const ROOMS: &[(&str, &str, &str)] = &[
    ("clock", "", ""),
    ("config", "", ""),
    ("disk", "", ""),
    ("rulebook", "policy", ""),
    ("backup", "", ""),
    ("fhir", "policy", ""),
    ("store", "", "disk"),
    ("facts", "policy", "clock store"),
    ("ledger", "keys policy", "clock disk"),
    ("alerts", "", "clock config ledger"),
    ("witness", "", "alerts clock config ledger"),
    ("token", "keys policy", "facts"),
    ("caller", "policy", "facts token"),
    ("vault", "keys policy", "facts fhir ledger store token"),
    (
        "gateway",
        "policy",
        "backup alerts clock facts ledger store token vault witness",
    ),
    (
        "http",
        "policy",
        "alerts caller facts fhir gateway ledger store token vault witness",
    ),
    (
        "assembly",
        "keys policy",
        "alerts backup clock config disk facts fhir gateway ledger rulebook store token vault witness",
    ),
    ("connect", "keys", "ledger"),
    ("audit", "keys policy", "clock connect ledger"),
    (
        "connector",
        "keys policy",
        "clock connect facts fhir ledger",
    ),
    (
        "dev",
        "keys policy",
        "assembly clock config connect facts fhir http ledger",
    ),
    ("demo", "keys policy", "clock connect dev fhir ledger"),
    (
        "bench",
        "keys policy",
        "audit clock connect connector demo dev fhir ledger",
    ),
    ("porter", "keys", "assembly clock config gateway http vault"),
    (
        "cli",
        "keys policy",
        "assembly audit bench clock config connect connector demo dev facts http ledger porter rulebook",
    ),
];

/// Crates that one place may name, and that place.
const OWNED: &[(&str, &str)] = &[
    ("sled", "src/store/sled_index.rs"),
    ("jsonwebtoken", "src/token.rs"),
    ("cedar_policy", "policy/"),
    ("ring", "keys/"),
    ("cryptoki", "keys/src/hsm.rs"),
    ("vsss_rs", "keys/src/share.rs"),
    ("aws_lc_rs", "keys/"),
    (
        "zeroize",
        "keys/ src/cli.rs src/cli/ src/assembly src/porter/ src/dev/mod.rs benches/lib.rs",
    ),
];

/// Types in `keys` that hold secret bytes, directly or in something they own.
const SECRETS: &[&str] = &[
    "Secret",
    "Slot",
    "Dek",
    "FreshDek",
    "Key",
    "MacKey",
    "RootKey",
    "Share",
    "AuditKey",
    "AuditKeys",
    "OpenKey",
    "Signer",
    "ClientKey",
    "NoteSigner",
    "Plaintext",
    "Ticket",
    "TicketEntry",
    "Material",
    "Held",
    "Families",
    "Keyring",
];

/// Types whose values vouch for a step: none has a public field.
const VOUCHING: &[&str] = &[
    "Caller",
    "Ask",
    "Grant",
    "Refusal",
    "Rules",
    "Recorded",
    "Receipt",
    "Release",
    "NhsNumber",
];

fn report(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}\n  {}\n", found.join("\n  "));
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

#[test]
fn one_place_vouches_for_a_caller() {
    let mut found = Vec::new();
    for source in sources() {
        found.extend(
            source
                .code()
                .filter(|(_, line)| line.contains("Caller::assertion("))
                .map(|_| source.path.clone()),
        );
    }
    assert_eq!(
        found,
        ["src/caller.rs"],
        "Caller::assertion( stands once, in src/caller.rs"
    );
}

#[test]
fn a_crate_that_needs_care_is_named_in_one_place() {
    let mut found = Vec::new();
    for source in sources() {
        for (name, owners) in OWNED {
            if owners
                .split(' ')
                .any(|owner| source.path.starts_with(owner))
            {
                continue;
            }
            let lines = source.code().filter(|(_, line)| names(line, name));
            found
                .extend(lines.map(|(at, _)| {
                    format!("{}:{at} names {name}; only {owners} may", source.path)
                }));
        }
    }
    report("some crates are named in one place only", &found);
}

#[test]
fn arrows_run_down() {
    let mut found = Vec::new();
    let floor = |name: &str| ROOMS.iter().position(|(room, ..)| *room == name);
    for (at, (room, _, below)) in ROOMS.iter().enumerate() {
        let up = below
            .split_whitespace()
            .filter(|name| floor(name).is_none_or(|floor| floor >= at));
        found.extend(up.map(|name| format!("the table: {room} may not stand on {name}")));
    }
    let mut walked = BTreeSet::new();
    for source in sources() {
        let Some(room) = source.room().filter(|room| !["main", "lib"].contains(room)) else {
            continue;
        };
        let Some((room, crates, below)) = ROOMS.iter().find(|(name, ..)| *name == room) else {
            found.push(format!("{}: the room is not in the table", source.path));
            continue;
        };
        for (at, line) in source.code() {
            if line.contains("crate::{") {
                found.push(format!(
                    "{}:{at} imports from the root, not from the defining room",
                    source.path
                ));
            }
            for (position, _) in line.match_indices("crate::") {
                let rest = &line[position + 7..];
                let name = rest
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap();
                walked.insert((*room, name.to_owned()));
                if name != *room && !name.is_empty() && !words(below).contains(name) {
                    found.push(format!(
                        "{}:{at} {room} does not stand on {name}",
                        source.path
                    ));
                }
            }
            for ours in ["keys", "policy"] {
                if names(line, ours) && !words(crates).contains(ours) {
                    found.push(format!(
                        "{}:{at} {room} does not know the crate {ours}",
                        source.path
                    ));
                }
            }
        }
    }
    for (room, _, below) in ROOMS {
        for name in words(below) {
            if !walked.contains(&(*room, name.to_owned())) {
                println!("note: the table lets {room} stand on {name}, and it does not");
            }
        }
    }
    report(
        "a room imports only from rooms below it; the table stands in tests/tidy.rs",
        &found,
    );
}

#[test]
fn one_place_reads_the_system_clock() {
    let mut found = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path != "src/clock.rs")
    {
        let reads = |line: &str| {
            ["SystemTime::now", "Timestamp::now", "Zoned::now"]
                .iter()
                .any(|call| line.contains(call))
        };
        found.extend(
            source
                .code()
                .filter(|(_, line)| reads(line))
                .map(|(at, _)| format!("{}:{at}", source.path)),
        );
    }
    report("only src/clock.rs reads the system clock", &found);
}

#[test]
fn a_secret_cannot_be_shown_copied_or_compared() {
    let (sources, mut found) = (sources(), Vec::new());
    for name in SECRETS {
        let Some(defined) = definition(&sources, "keys/src", name) else {
            found.push(format!(
                "{name}: the table names it and keys/ does not have it"
            ));
            continue;
        };
        for shown in [
            "Debug",
            "Display",
            "Clone",
            "Copy",
            "Serialize",
            "PartialEq",
        ] {
            if defined.derives.contains(shown) {
                found.push(format!("{} {name} derives {shown}", defined.place));
            }
        }
    }
    for source in sources
        .iter()
        .filter(|source| source.path.starts_with("keys/src"))
    {
        for (at, line) in source.code() {
            let Some((what, whose)) = line
                .split_once(" for ")
                .filter(|_| line.starts_with("impl"))
            else {
                continue;
            };
            let whose = whose
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap();
            let shows = [
                "Debug",
                "Display",
                "Clone",
                "Serialize",
                "PartialEq",
                "Deref",
            ]
            .iter()
            .any(|name| what.ends_with(name));
            if shows && SECRETS.contains(&whose) {
                found.push(format!("{}:{at} {line}", source.path));
            }
        }
        let holds = |line: &str| {
            ["Zeroizing<", "(Secret", ": Secret", "Box<Secret", "<Secret"]
                .iter()
                .any(|held| line.contains(held))
        };
        for (at, line) in source.code() {
            let name = line
                .split_once("struct ")
                .map(|(_, rest)| rest.split(|c: char| !c.is_alphanumeric()).next().unwrap());
            if let Some(name) = name.filter(|name| holds(line) && !SECRETS.contains(name)) {
                found.push(format!(
                    "{}:{at} {name} holds a secret and is not in the table",
                    source.path
                ));
            }
        }
    }
    report(
        "a type that holds a secret has no Debug, Clone, Serialize or ==",
        &found,
    );
}

#[test]
fn a_value_that_vouches_has_no_public_field() {
    let (sources, mut found) = (sources(), Vec::new());
    for name in VOUCHING {
        match ["policy/src", "src"]
            .iter()
            .find_map(|folder| definition(&sources, folder, name))
        {
            None => found.push(format!(
                "{name}: the table names it and the house does not have it"
            )),
            Some(defined) if defined.has_public_field() => {
                found.push(format!("{} {name}", defined.place))
            }
            Some(_) => {}
        }
    }
    report(
        "a value that only one step can make has no public field",
        &found,
    );
}

#[test]
fn every_incident_says_what_happened_and_what_stops_it() {
    let mut found = Vec::new();
    for source in sources() {
        let Some(name) = source.path.strip_prefix("tests/incidents/") else {
            continue;
        };
        if name == "main.rs" || name.contains('/') {
            continue;
        }
        let says = [
            "//! Incident:",
            "//! Here it would mean:",
            "//! Stopped by:",
        ];
        for (at, says) in says.iter().enumerate() {
            if !source
                .lines
                .get(at)
                .is_some_and(|line| line.starts_with(says))
            {
                found.push(format!(
                    "{}:{} does not begin with `{says}`",
                    source.path,
                    at + 1
                ));
            }
        }
    }
    report("the first three lines of an incident", &found);
}

#[test]
fn no_file_is_a_private_key() {
    let mut found = Vec::new();
    for path in files() {
        let text = fs::read(root().join(&path)).unwrap();
        let text = String::from_utf8_lossy(&text);
        let pem = text.contains(concat!("-----BEGIN ", "PRIVATE KEY"))
            || text.contains(concat!("PRIVATE", " KEY-----"));
        let compact: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let jwk = compact.match_indices(r#""d":""#).any(|(at, _)| {
            let value = compact[at + 5..].split('"').next().unwrap();
            value.len() >= 43
                && value
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        });
        let named = [".pem", ".key", ".p12", ".pfx", ".jwk", ".der"]
            .iter()
            .any(|end| path.ends_with(end));
        if pem || jwk || named {
            found.push(path);
        }
    }
    report(
        "keys are made when they are needed; none stands in the house",
        &found,
    );
}

#[test]
fn every_file_says_what_it_is_and_leaves_nothing_for_later() {
    let mut found = Vec::new();
    for source in sources() {
        if !source
            .lines
            .first()
            .is_some_and(|line| line.starts_with("//!"))
        {
            found.push(format!("{} does not begin with `//!`", source.path));
        }
        for (at, line) in source.lines.iter().enumerate() {
            if [concat!("TO", "DO"), concat!("FIX", "ME")]
                .iter()
                .any(|later| line.contains(later))
            {
                found.push(format!("{}:{} {}", source.path, at + 1, line.trim()));
            }
        }
    }
    report(
        "every file opens with `//!`, and none says what somebody else should do",
        &found,
    );
}

#[test]
fn errors_are_enums_and_types_have_names() {
    let vague = [
        "Manager", "Helper", "Helpers", "Util", "Utils", "Service", "Handler", "Info",
    ];
    let mut found = Vec::new();
    for source in sources() {
        for (at, line) in source.code() {
            if line.contains("Box<dyn std::error::Error")
                || line.contains("Box<dyn Error")
                || names(line, "anyhow")
            {
                found.push(format!("{}:{at} {}", source.path, line.trim()));
            }
            let kinds = ["struct ", "enum ", "trait ", "mod "];
            let named = kinds.iter().find_map(|kind| {
                line.trim_start()
                    .trim_start_matches("pub ")
                    .strip_prefix(kind)
            });
            let name = named.map_or("", |rest| {
                rest.split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next()
                    .unwrap()
            });
            if vague
                .iter()
                .any(|word| name.ends_with(word) || name == word.to_lowercase())
            {
                found.push(format!("{}:{at} {name} says nothing", source.path));
            }
        }
    }
    report(
        "one error enum a verb; no Manager, Helper, Util, Service, Handler, Info",
        &found,
    );
}

#[test]
fn what_is_installed_is_pinned_and_names_no_host() {
    for folder in ["tests/interop", "tests/interop/fhir"] {
        let lock = fs::read_to_string(root().join(folder).join("package-lock.json")).unwrap();
        assert!(
            !lock.contains("\"resolved\""),
            "{folder}/package-lock.json records no download addresses"
        );
        assert!(lock.contains("\"integrity\": \"sha512-"));
    }
    for name in [
        "tests/requirements.txt",
        "tests/requirements-log.txt",
        "tests/requirements-fhir.txt",
        "tests/attack/requirements.txt",
    ] {
        let text = fs::read_to_string(root().join(name)).unwrap();
        assert!(!text.contains("://"), "{name} names no host");
        let (pins, hashed) = (
            text.matches("==").count(),
            text.matches(" \\\n    --hash=sha256:").count(),
        );
        assert!(
            pins > 0 && hashed >= pins,
            "{name}: every package is pinned by hash"
        );
    }
}

/// A guide figure, not a limit: said, never failed.
#[test]
fn long_files_are_mentioned() {
    for source in sources() {
        if source.lines.len() > 400 {
            println!("note: {} has {} lines", source.path, source.lines.len());
        }
    }
}
