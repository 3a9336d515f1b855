//! Reading the house as text: its files, their lines outside tests and comments, and where a type is defined.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) lines: Vec<String>,
    /// Line where the file's own `#[cfg(test)]` module begins.
    tests_at: usize,
    pub(crate) is_test: bool,
}

impl Source {
    pub(crate) fn room(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        Some(rest.split(['/', '.']).next().unwrap())
    }

    /// Numbered lines outside tests and comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_test { 0 } else { self.tests_at };
        let lines = self.lines.iter().take(end).enumerate();
        lines
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
            .map(|(at, line)| (at + 1, line.as_str()))
    }
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the house, without what was built or fetched.
pub(crate) fn files() -> Vec<String> {
    fn walk(folder: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let skipped = [
                "target",
                ".git",
                "node_modules",
                "__pycache__",
                "mutants.out",
            ];
            if skipped.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                walk(&path, out);
            } else {
                out.push(
                    path.strip_prefix(root())
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    let mut out = Vec::new();
    walk(&root(), &mut out);
    out.sort();
    out
}

pub(crate) fn sources() -> Vec<Source> {
    let mut out: Vec<Source> = files()
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let opens = |at: &usize| lines[*at] == "#[cfg(test)]" && module(&lines, *at).1;
            let tests_at = (0..lines.len()).find(opens).unwrap_or(lines.len());
            let outside = path.starts_with("tests/") || path.contains("/tests/");
            Source {
                is_test: outside,
                path,
                lines,
                tests_at,
            }
        })
        .collect();
    let under_test: Vec<PathBuf> = out.iter().flat_map(test_modules).collect();
    for source in &mut out {
        let stem = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        source.is_test |= under_test
            .iter()
            .any(|test| Path::new(stem).starts_with(test));
    }
    out
}

/// The module after `#[cfg(test)]` at this line: its declaration, and whether its body stands here.
fn module(lines: &[String], at: usize) -> (Option<&str>, bool) {
    let line = lines[at + 1..]
        .iter()
        .map(|line| line.trim())
        .find(|line| !line.starts_with("#["));
    let name = line
        .and_then(|line| line.split_once("mod "))
        .map(|(_, name)| name);
    (
        name.and_then(|name| name.strip_suffix(';')),
        name.is_some_and(|name| name.ends_with('{')),
    )
}

/// Where the modules live that this file declares under `#[cfg(test)]`.
fn test_modules(source: &Source) -> Vec<PathBuf> {
    let path = Path::new(&source.path);
    let own =
        ["mod.rs", "lib.rs", "main.rs"].contains(&path.file_name().unwrap().to_str().unwrap());
    let folder = if own {
        path.parent().unwrap().to_owned()
    } else {
        path.with_extension("")
    };
    let declared = (0..source.lines.len()).filter(|at| source.lines[*at] == "#[cfg(test)]");
    declared
        .filter_map(|at| Some(folder.join(module(&source.lines, at).0?)))
        .collect()
}

/// Whether this line names the crate: `name::`, `use name;`, but not `other::name::` or `my_name::`.
pub(crate) fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let begins = !before.ends_with(|c: char| c.is_alphanumeric() || "_:\"".contains(c))
            || before.ends_with(" ::");
        begins
            && (after.starts_with("::")
                || (before.trim_end().ends_with("use") && after.starts_with([';', ' '])))
    })
}

/// A type's definition: file and line, the attributes above it, and what stands in its braces.
pub(crate) struct Definition {
    pub(crate) place: String,
    pub(crate) derives: String,
    fields: Vec<String>,
}

impl Definition {
    pub(crate) fn has_public_field(&self) -> bool {
        self.fields.iter().any(|field| field.starts_with("pub "))
    }
}

pub(crate) fn definition(sources: &[Source], folder: &str, name: &str) -> Option<Definition> {
    for source in sources
        .iter()
        .filter(|source| source.path.starts_with(folder) && !source.is_test)
    {
        let lines = &source.lines;
        let defines = |line: &str| {
            let rest = ["struct ", "enum "]
                .iter()
                .find_map(|kind| line.split_once(kind));
            rest.is_some_and(|(before, rest)| {
                let head = rest
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next();
                head == Some(name) && (before.is_empty() || before.starts_with("pub"))
            })
        };
        let Some(at) = lines.iter().position(|line| defines(line)) else {
            continue;
        };
        let above = lines[..at]
            .iter()
            .rev()
            .take_while(|line| !line.is_empty() && *line != "}");
        let derives = above
            .filter(|line| line.contains("derive"))
            .cloned()
            .collect();
        let fields = match lines[at].split_once('(') {
            Some((_, fields)) => fields
                .split(',')
                .map(|field| field.trim().to_owned())
                .collect(),
            None => lines[at + 1..]
                .iter()
                .take_while(|line| *line != "}")
                .map(|line| line.trim().to_owned())
                .collect(),
        };
        return Some(Definition {
            place: format!("{}:{}", source.path, at + 1),
            derives,
            fields,
        });
    }
    None
}
