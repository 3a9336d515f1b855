//! The record of a proof: that one exact text of schema, guards and invariants was proven, by what.
//!
//! Written by `sallyport policy check --write-proof`, read when rules are loaded. It is bound to the
//! text by its digest and to nothing else: whoever can write the folder can also write a proof that
//! never was, which is why the digest stands in every verdict and anyone can prove it again.

use serde_json::{Value, json};

use crate::rules::LoadError;
use crate::texts::Texts;

/// The proof of the built-in set.
const BUILT_IN: &str = include_str!("../proof.json");

/// What is proven here; another theorem is another name.
pub const THEOREM: &str =
    "permit(principal, action, resource) with the guards implies every invariant";

/// The longest proof that is read.
const PROOF_BYTES_MAX: usize = 4096;

/// That a text was proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// SHA-256 of schema, guards and invariants, as [`Texts::proven_digest`] has it.
    pub digest: String,
    /// The solver and its version.
    pub solver: String,
    /// Who put the question to the solver, and its version.
    pub compiler: String,
    /// How many implications were proven.
    pub proven: u64,
}

/// A text is not a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a proof: {0}")]
pub struct NotAProof(&'static str);

impl Proof {
    /// The proof that the program carries for its own set.
    ///
    /// # Errors
    /// Only if the program was built with a file that is none.
    pub fn built_in() -> Result<Proof, NotAProof> {
        Proof::parse(BUILT_IN)
    }

    /// Reads a `proof.json`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Proof, NotAProof> {
        if text.len() > PROOF_BYTES_MAX {
            return Err(NotAProof("it is longer than 4096 bytes"));
        }
        let value: Value = serde_json::from_str(text).map_err(|_| NotAProof("it is not JSON"))?;
        let said = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        if value.as_object().is_none_or(|object| object.len() != 5) {
            return Err(NotAProof("it has not the five members of a proof"));
        }
        if said("theorem").as_deref() != Some(THEOREM) {
            return Err(NotAProof("it proves another theorem"));
        }
        let digest = said("digest").filter(|digest| {
            digest.len() == 64
                && digest
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        let count = value.get("proven").and_then(Value::as_u64);
        Ok(Proof {
            digest: digest.ok_or(NotAProof("digest: 64 of 0-9 a-f"))?,
            solver: said("solver").ok_or(NotAProof("solver: its name and version"))?,
            compiler: said("compiler").ok_or(NotAProof("compiler: its name and version"))?,
            proven: count
                .filter(|count| *count > 0)
                .ok_or(NotAProof("proven: how many implications"))?,
        })
    }

    /// Whether this is the proof of exactly these texts.
    ///
    /// # Errors
    /// That it is not, with both digests and what to do.
    pub fn covers(&self, texts: &Texts) -> Result<(), LoadError> {
        let digest = texts.proven_digest();
        if self.digest == digest {
            return Ok(());
        }
        Err(LoadError::Unproven {
            proven: self.digest.clone(),
            digest,
        })
    }
}

impl std::fmt::Display for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = json!({
            "theorem": THEOREM, "digest": self.digest, "solver": self.solver,
            "compiler": self.compiler, "proven": self.proven,
        });
        writeln!(f, "{value:#}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;

    fn proof() -> Proof {
        Proof {
            digest: Texts::built_in().proven_digest(),
            solver: "cvc5 1.0.3".to_owned(),
            compiler: "cedar-policy-symcc 0.8.1".to_owned(),
            proven: 40,
        }
    }

    #[test]
    fn a_proof_reads_what_it_writes_and_covers_one_text_to_the_letter() {
        let proof = proof();
        assert_eq!(Proof::parse(&proof.to_string()), Ok(proof.clone()));
        let texts = Texts::built_in();
        assert!(proof.covers(&texts).is_ok());
        let mut turned = texts.clone();
        turned.guards.reverse();
        assert!(
            proof.covers(&turned).is_ok(),
            "the order of files is nothing"
        );
        let local = Texts::with_local("another local text");
        assert!(proof.covers(&local).is_ok(), "local rules need no proof");
        for spoil in [
            |texts: &mut Texts| texts.schema.push(' '),
            |texts: &mut Texts| texts.guards[0].text.push(' '),
            |texts: &mut Texts| texts.invariants[0].text.push(' '),
            |texts: &mut Texts| drop(texts.guards.pop()),
            |texts: &mut Texts| texts.guards[0].name.push('2'),
            |texts: &mut Texts| texts.invariants.extend(texts.guards.pop()),
        ] as [fn(&mut Texts); 6]
        {
            let mut other = texts.clone();
            spoil(&mut other);
            assert!(proof.covers(&other).is_err());
        }
    }

    #[test]
    fn the_built_in_set_was_proven_as_it_stands() {
        let covered = Proof::built_in().unwrap().covers(&Texts::built_in());
        assert!(covered.is_ok(), "{}", covered.unwrap_err());
    }

    #[test]
    fn what_is_no_proof_is_turned_away() {
        let good = proof().to_string();
        for bad in [
            String::new(),
            "{}".to_owned(),
            "[]".to_owned(),
            good.replace("implies", "suggests"),
            good.replace("\"proven\": 40", "\"proven\": 0"),
            good.replace("\"proven\": 40", "\"proven\": 40, \"more\": 1"),
            good.replace(&proof().digest, "0"),
            good + &" ".repeat(PROOF_BYTES_MAX),
        ] {
            assert!(Proof::parse(&bad).is_err(), "{bad}");
        }
    }
}
