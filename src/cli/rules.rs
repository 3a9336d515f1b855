//! `sallyport policy`: prove the rules, compare two sets, read them aloud. Offline: no gateway, no patient, no key.
//!
//! Exit codes as everywhere: 0 proven (or no difference), 1 it does not hold (or something changed), 2 it could not
//! be decided, which is never taken for a proof.

use std::path::Path;
use std::process::ExitCode;

use policy::Texts;

use super::{complain, say};
use crate::rulebook;

/// The set of a folder; without one, or for `built-in`, the program's own.
fn texts(folder: Option<&Path>) -> Result<Texts, rulebook::RulebookError> {
    match folder {
        None => Ok(Texts::built_in()),
        Some(name) if name == Path::new("built-in") => Ok(Texts::built_in()),
        Some(folder) => rulebook::read(folder),
    }
}

/// `sallyport policy says`
#[must_use]
pub fn says(folder: Option<&Path>) -> ExitCode {
    let texts = match texts(folder) {
        Ok(texts) => texts,
        Err(error) => return complain(&error),
    };
    let parsed = match texts.parse() {
        Ok(parsed) => parsed,
        Err(error) => return complain(&error),
    };
    let titles = [
        "Never, whatever anybody permits (guards)",
        "Why something may be let through (rules of the site)",
        "What holds of everything that was let through (invariants)",
    ];
    for (title, rules) in titles.iter().zip(parsed.says()) {
        say(&format!("{title}\n"));
        for rule in rules {
            say(&format!("  {}\n      {}", rule.id, rule.words));
        }
        say("");
    }
    say(&format!("digest {}", texts.digest()));
    ExitCode::SUCCESS
}

#[cfg(not(feature = "prove"))]
fn without(command: &str) -> ExitCode {
    complain(&format!(
        "this program was built without its prover; with the sources: cargo run --release --features prove -- policy \
         {command}"
    ))
}

/// `sallyport policy check`
#[cfg(not(feature = "prove"))]
#[must_use]
pub fn check(_folder: Option<&Path>, _write: bool, _json: bool) -> ExitCode {
    without("check")
}

/// `sallyport policy diff`
#[cfg(not(feature = "prove"))]
#[must_use]
pub fn diff(_old: &Path, _new: &Path, _json: bool) -> ExitCode {
    without("diff OLD NEW")
}

#[cfg(feature = "prove")]
pub use with_a_solver::{check, diff};

#[cfg(feature = "prove")]
mod with_a_solver {
    use std::path::Path;
    use std::process::ExitCode;
    use std::time::Instant;

    use policy::prove::{self, Breach, Difference, Progress, Report, Story, Undecided};
    use serde_json::{Value, json};

    use super::super::{NO, UNTRIED, complain, say};
    use crate::rulebook;

    /// `sallyport policy check`
    #[must_use]
    pub fn check(folder: Option<&Path>, write: bool, json: bool) -> ExitCode {
        let texts = match super::texts(folder) {
            Ok(texts) => texts,
            Err(error) => return complain(&error),
        };
        let began = Instant::now();
        let report = watched(|progress| prove::check(&texts, progress));
        let report = match report {
            Ok(report) => report,
            Err(error) => return complain(&error),
        };
        let seconds = began.elapsed().as_secs_f64();
        if json {
            say(&report_json(&report, seconds).to_string());
        } else {
            tell(&report, seconds);
        }
        if !report.holds() {
            let is_broken = !report.breaches.is_empty();
            return ExitCode::from(if is_broken { NO } else { UNTRIED });
        }
        match (write, folder, report.proof()) {
            (true, Some(folder), Some(proof)) => match rulebook::write_proof(folder, &proof) {
                Ok(path) if json => drop(path),
                Ok(path) => say(&format!("the proof stands in {}", path.display())),
                Err(error) => return complain(&error),
            },
            (true, None, _) => return complain(&"--write-proof needs a DIR to write into"),
            (true, Some(_), None) | (false, _, _) => {}
        }
        ExitCode::SUCCESS
    }

    /// `sallyport policy diff`
    #[must_use]
    pub fn diff(old: &Path, new: &Path, json: bool) -> ExitCode {
        let read = || {
            Ok::<_, rulebook::RulebookError>((super::texts(Some(old))?, super::texts(Some(new))?))
        };
        let (old, new) = match read() {
            Ok(both) => both,
            Err(error) => return complain(&error),
        };
        let difference = match watched(|progress| prove::compare(&old, &new, progress)) {
            Ok(difference) => difference,
            Err(error) => return complain(&error),
        };
        if json {
            say(&difference_json(&difference).to_string());
        } else {
            tell_difference(&difference);
        }
        if difference.is_none() {
            ExitCode::SUCCESS
        } else if difference.undecided.is_empty() {
            ExitCode::from(NO)
        } else {
            ExitCode::from(UNTRIED)
        }
    }

    /// Runs with a bar on a terminal.
    fn watched<T>(work: impl FnOnce(&mut dyn FnMut(Progress<'_>)) -> T) -> T {
        let bar = crate::demo::progress(0, "kinds of question");
        let done = work(&mut |progress| {
            bar.set_length(progress.all as u64);
            bar.set_position(progress.done as u64);
        });
        bar.finish_and_clear();
        done
    }

    fn tell(report: &Report, seconds: f64) {
        for breach in &report.breaches {
            tell_breach(breach);
        }
        tell_undecided(&report.undecided);
        for note in &report.notes {
            say(&format!("note: {note}"));
        }
        let solver = &report.solver;
        if report.holds() {
            say(&format!(
                "PROVEN in {seconds:.1} s ({solver}): whatever local rules permit, these or any others, the guards imply \
                 every invariant ({} implications)",
                report.proven
            ));
        } else {
            say(&format!(
                "NOT PROVEN ({solver}, {seconds:.1} s): {} broken, {} undecided, {} proven",
                report.breaches.len(),
                report.undecided.len(),
                report.proven
            ));
        }
        say(&format!(
            "  schema, guards and invariants {}",
            report.digest
        ));
        say(&format!(
            "  with the local rules          {}",
            report.policy
        ));
    }

    fn tell_breach(breach: &Breach) {
        say(&format!("BROKEN {}: {}", breach.rule.id, breach.rule.words));
        tell_story(&breach.story);
        match breach.also.as_slice() {
            [] => say("    everything else was in order"),
            also => say(&format!("    this example also breaks {}", also.join(", "))),
        }
        if breach.by.is_empty() {
            say("    the given local rules do not let it through, but another local rule could");
        }
        say(&format!("    possible by: {}\n", breach.acts.join("; ")));
    }

    fn tell_story(story: &Story) {
        say(&format!("  {}.", story.sentence));
        for (part, said) in &story.facts {
            say(&format!("    {part:16} {said}"));
        }
    }

    fn tell_undecided(undecided: &[Undecided]) {
        for it in undecided {
            say(&format!("UNDECIDED {}: {}", it.what, it.why));
        }
    }

    fn tell_difference(difference: &Difference) {
        for change in &difference.changes {
            let how = if change.permits {
                "NEWLY PERMITTED"
            } else {
                "NEWLY REFUSED"
            };
            say(&format!("{how} {}, for example:", change.act));
            tell_story(&change.story);
            say("");
        }
        for said in difference.acts.iter().chain(&difference.invariants) {
            say(&format!("CHANGED {said}"));
        }
        tell_undecided(&difference.undecided);
        if difference.is_none() {
            say(&format!(
                "no difference (proven by {} for all {} kinds of question)",
                difference.solver, difference.compared
            ));
        }
    }

    fn story_json(story: &Story) -> Value {
        let facts: serde_json::Map<String, Value> = story
            .facts
            .iter()
            .map(|(part, said)| (part.clone(), said.clone().into()))
            .collect();
        json!({ "sentence": story.sentence, "facts": facts })
    }

    fn undecided_json(undecided: &[Undecided]) -> Vec<Value> {
        let it = undecided.iter();
        it.map(|it| json!({ "what": it.what, "why": it.why }))
            .collect()
    }

    fn report_json(report: &Report, seconds: f64) -> Value {
        let breaches = report.breaches.iter().map(|breach| {
            json!({
                "rule": breach.rule.id, "says": breach.rule.words, "acts": breach.acts,
                "story": story_json(&breach.story), "by": breach.by, "also": breach.also,
            })
        });
        json!({
            "proven": report.holds(), "digest": report.digest, "policy": report.policy,
            "solver": report.solver, "seconds": seconds, "implications": report.proven,
            "broken": breaches.collect::<Vec<_>>(),
            "undecided": undecided_json(&report.undecided), "notes": report.notes,
        })
    }

    fn difference_json(difference: &Difference) -> Value {
        let changes = difference.changes.iter().map(|change| {
            json!({
                "act": change.act, "newly": if change.permits { "permitted" } else { "refused" },
                "story": story_json(&change.story),
            })
        });
        json!({
            "none": difference.is_none(), "solver": difference.solver, "compared": difference.compared,
            "changes": changes.collect::<Vec<_>>(), "acts": difference.acts,
            "invariants": difference.invariants, "undecided": undecided_json(&difference.undecided),
        })
    }
}
