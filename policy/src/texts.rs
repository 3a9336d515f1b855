//! The texts of a policy set: a schema and three kinds of rules, one family a text.
//!
//! Whoever holds [`Parsed`] knows that every rule has an id of its own and words, stands in its
//! place and validates strictly. This crate reads no files; a folder's texts are handed in. Order
//! matters (of several guards that fire, the first is named), so a folder that holds the shipped
//! families is read in the shipped order, and what is new comes after, by name.

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use sha2::{Digest, Sha256};

use crate::rules::{GUARDS, INVARIANTS, LOCAL, LoadError, RESERVED, SCHEMA};
use crate::words::hex;

/// How far a rule may follow attributes: `resource.patient.objections` is two steps, and no
/// further entity is ever loaded.
const DEREFERENCES_MAX: u32 = 2;

/// The longest schema, guards and invariants.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// The longest local text; an evaluation visits every rule.
pub(crate) const LOCAL_BYTES_MAX: usize = 64 * 1024;

/// One family of rules: a file `NAME.cedar`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The file's name, without its ending.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// A whole policy set, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// What a rule can speak about.
    pub schema: String,
    /// What is never let through.
    pub guards: Vec<Family>,
    /// Why something may be let through: the part that a site edits.
    pub rules: Vec<Family>,
    /// What holds of everything that is let through.
    pub invariants: Vec<Family>,
}

impl Texts {
    /// The set that is part of the program.
    pub fn built_in() -> Texts {
        let families = |shipped: &[(&str, &str)]| {
            let family = |(name, text): &(&str, &str)| Family {
                name: (*name).to_owned(),
                text: (*text).to_owned(),
            };
            shipped.iter().map(family).collect()
        };
        Texts {
            schema: SCHEMA.to_owned(),
            guards: families(GUARDS),
            rules: families(LOCAL),
            invariants: families(INVARIANTS),
        }
    }

    /// The built-in set with one local text instead of its own.
    pub fn with_local(text: &str) -> Texts {
        let rules = vec![Family {
            name: "local".to_owned(),
            text: text.to_owned(),
        }];
        Texts {
            rules,
            ..Texts::built_in()
        }
    }

    /// The same texts with each kind's families in their order.
    pub fn in_order(mut self) -> Texts {
        let kinds = [
            (&mut self.guards, GUARDS),
            (&mut self.rules, LOCAL),
            (&mut self.invariants, INVARIANTS),
        ];
        for (families, shipped) in kinds {
            let place = |family: &Family| {
                let place = shipped.iter().position(|(name, _)| *name == family.name);
                (place.unwrap_or(shipped.len()), family.name.clone())
            };
            families.sort_by_key(place);
        }
        self
    }

    /// SHA-256 over the whole set, each family with its name and length, in the order of their names, and the local
    /// text; 64 lower-case hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = self.hash();
        absorb(&mut hash, &joined(&self.rules));
        hex(&hash.finalize())
    }

    /// The same without the local rules: what a proof is about.
    pub fn proven_digest(&self) -> String {
        hex(&self.hash().finalize())
    }

    fn hash(&self) -> Sha256 {
        let mut hash = Sha256::new();
        hash.update(b"sallyport/policy/v2");
        absorb(&mut hash, &self.schema);
        for families in [&self.guards, &self.invariants] {
            hash.update(long(families.len()));
            // Why by name: which families are shipped, and so their order, differs from version to version.
            let mut by_name: Vec<(&str, &str)> = families
                .iter()
                .map(|it| (it.name.as_str(), it.text.as_str()))
                .collect();
            by_name.sort_unstable();
            for (name, text) in by_name {
                absorb(&mut hash, name);
                absorb(&mut hash, text);
            }
        }
        hash
    }

    /// Parses and validates every rule.
    ///
    /// # Errors
    /// Which rule is not Cedar, has no id or words, an id that is taken, the wrong effect for its
    /// place, or does not validate strictly.
    pub fn parse(&self) -> Result<Parsed, LoadError> {
        let local = joined(&self.rules);
        let fixed = [&self.guards, &self.invariants].into_iter().flatten();
        let length = self.schema.len() + fixed.map(|family| family.text.len()).sum::<usize>();
        if local.len() > LOCAL_BYTES_MAX || length > TEXT_BYTES_MAX {
            return Err(LoadError::TooLong);
        }
        let (schema, _) = Schema::from_cedarschema_str(&self.schema)
            .map_err(|error| LoadError::Schema(error.to_string()))?;
        let validator = Validator::new(schema.clone());

        let guards = of_effect(&joined(&self.guards), Effect::Forbid)?;
        let invariants = of_effect(&joined(&self.invariants), Effect::Permit)?;
        let rules = read(&local)?;
        if rules.is_empty() {
            return Err(LoadError::NoRules);
        }
        for rule in &rules {
            let id: &str = rule.id().as_ref();
            let is_fixed = |fixed: &[Policy]| fixed.iter().any(|it| it.id() == rule.id());
            if is_fixed(&guards)
                || is_fixed(&invariants)
                || RESERVED.contains(&id)
                || id.starts_with("unknown-")
            {
                return Err(LoadError::IdTaken(id.to_owned()));
            }
        }
        // Why only here: `never-anything-else` cannot fire under the schema it guards the future of.
        no_warnings(&validator, &set(&rules)?)?;
        strict(&validator, &set(guards.iter().chain(&rules))?)?;
        strict(&validator, &set(&invariants)?)?;
        Ok(Parsed {
            schema,
            guards,
            rules,
            invariants,
        })
    }
}

/// A policy set whose every rule parsed and validated strictly.
pub struct Parsed {
    pub(crate) schema: Schema,
    pub(crate) guards: Vec<Policy>,
    pub(crate) rules: Vec<Policy>,
    pub(crate) invariants: Vec<Policy>,
}

/// One rule, for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its `@id`.
    pub id: String,
    /// Its `@says`.
    pub words: String,
}

impl Parsed {
    /// What guards, local rules and invariants say, in the order of their texts.
    pub fn says(&self) -> [Vec<Said>; 3] {
        let said = |policies: &[Policy]| {
            let said = |policy: &Policy| Said {
                id: policy.id().to_string(),
                words: policy.annotation("says").unwrap_or_default().to_owned(),
            };
            policies.iter().map(said).collect()
        };
        [
            said(&self.guards),
            said(&self.rules),
            said(&self.invariants),
        ]
    }
}

fn joined(families: &[Family]) -> String {
    let texts: Vec<&str> = families.iter().map(|it| it.text.as_str()).collect();
    texts.join("\n")
}

fn long(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes()
}

fn absorb(hash: &mut Sha256, text: &str) {
    hash.update(long(text.len()));
    hash.update(text);
}

fn of_effect(text: &str, effect: Effect) -> Result<Vec<Policy>, LoadError> {
    let policies = read(text)?;
    match policies.iter().find(|policy| policy.effect() != effect) {
        Some(wrong) => Err(LoadError::Effect(wrong.id().to_string())),
        None => Ok(policies),
    }
}

/// The rules of a text, in its order, each under the id it gives itself.
fn read(text: &str) -> Result<Vec<Policy>, LoadError> {
    let parsed: PolicySet = text
        .parse()
        .map_err(|error: cedar_policy::ParseErrors| LoadError::Syntax(error.to_string()))?;
    if parsed.num_of_templates() > 0 {
        return Err(LoadError::Template);
    }
    // Why: the parser numbers the policies `policy0`, `policy1`, … and keeps them in a map.
    (0..parsed.num_of_policies())
        .map(|place| {
            let policy = parsed
                .policy(&PolicyId::new(format!("policy{place}")))
                .ok_or_else(|| LoadError::Syntax("a rule was lost".to_owned()))?;
            let id = policy
                .annotation("id")
                .filter(|id| is_id(id))
                .ok_or(LoadError::NoId(place + 1))?;
            match policy.annotation("says") {
                Some(words) if !words.trim().is_empty() => Ok(policy.new_id(PolicyId::new(id))),
                _ => Err(LoadError::NoWords(id.to_owned())),
            }
        })
        .collect()
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// These policies as one set.
pub(crate) fn set<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
) -> Result<PolicySet, LoadError> {
    let mut set = PolicySet::new();
    for policy in policies {
        set.add(policy.clone())
            .map_err(|_| LoadError::IdTaken(policy.id().to_string()))?;
    }
    Ok(set)
}

fn strict(validator: &Validator, policies: &PolicySet) -> Result<(), LoadError> {
    let result = validator.validate_with_level(policies, ValidationMode::Strict, DEREFERENCES_MAX);
    match result.validation_errors().next() {
        Some(error) => Err(LoadError::Invalid(error.to_string())),
        None => Ok(()),
    }
}

fn no_warnings(validator: &Validator, policies: &PolicySet) -> Result<(), LoadError> {
    strict(validator, policies)?;
    match validator
        .validate(policies, ValidationMode::Strict)
        .validation_warnings()
        .next()
    {
        Some(warning) => Err(LoadError::Suspicious(warning.to_string())),
        None => Ok(()),
    }
}
