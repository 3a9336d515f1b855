//! The full decision table: role x purpose x relationship x objection x training x label x declaration x category, and
//! suspension x agreement x client; each cell is the rule that decides. It stands in `decisions.txt`, to be reviewed
//! as a diff when rules change: `SALLYPORT_UPDATE=1 cargo test -p policy --test table` writes it anew.
//!
//! Every cell, and random cases beside, agree with a second implementation that knows nothing of Cedar.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod plain;
mod world;

use std::fmt::Write as _;
use std::path::Path;

use policy::{
    Category, ClientRole, Fact, Label, Purpose, RelationKind, Role, Rules, Standing, Strength,
};
use world::{
    NOW_MS, PERMIT_ALL, World, agreement, approval, is_permit, ods, other_patient, relationship,
    rule,
};

/// One letter a rule: capitals permit. A rule that is new needs a letter of its own.
const LETTERS: &[(char, &str)] = &[
    ('C', "care"),
    ('D', "front-desk"),
    ('E', "emergency"),
    ('A', "approved-use"),
    ('t', "never-without-token"),
    ('k', "never-beyond-the-token"),
    ('h', "never-through-another-client"),
    ('s', "never-suspended"),
    ('u', "never-untrained"),
    ('p', "never-another-purpose"),
    ('q', "never-secondary-use-without-approval"),
    ('r', "never-without-relationship"),
    ('e', "never-an-undeclared-emergency"),
    ('w', "never-a-wide-emergency-on-few-words"),
    ('a', "never-without-agreement"),
    ('c', "never-before-both-agreed"),
    ('b', "never-beyond-the-agreement"),
    ('l', "never-sensitive-by-default"),
    ('o', "never-against-objection"),
    ('-', "not-permitted"),
];

fn letter(rule: &str) -> char {
    let found = LETTERS.iter().find(|(_, name)| *name == rule);
    found.unwrap_or_else(|| panic!("{rule} has no letter")).0
}

/// A setting of one thing in the world.
type Setting = (&'static str, fn(&mut World));

/// Cedar's decision, which the plain implementation shares to the rule.
fn decided(rules: &Rules, world: &World) -> char {
    let decision = world.read(rules);
    let expected = plain::decide(world);
    let name = rule(&decision);
    let plain = match expected {
        Ok(name) | Err(name) => name,
    };
    assert!(
        is_permit(&decision) == expected.is_ok() && name == plain,
        "Cedar says {name}, the plain rules say {plain}: {} {:?} {:?} {:?} {:?}",
        world.scope.purpose,
        world.scope.categories,
        world.scope.reason,
        world.client_role,
        world.facts
    );
    letter(name)
}

fn purposes() -> Vec<Purpose> {
    let unserved = Purpose::parse("FAMRQT").unwrap();
    Purpose::NAMED.into_iter().chain([unserved]).collect()
}

fn is_secondary(purpose: &Purpose) -> bool {
    [Purpose::Hresch, Purpose::Pubhlth, Purpose::Hoperat].contains(purpose)
}

/// In order, but for this role and purpose; agreement and approval name every purpose, and no emergency is declared yet.
fn base(role: Role, purpose: &Purpose) -> World {
    let mut world = match is_secondary(purpose) {
        true => World::in_research(),
        false => World::in_order(),
    };
    world.facts.relationships = Fact::Known(vec![relationship()]);
    if is_secondary(purpose) {
        world.approval().purposes = purposes().into_iter().collect();
        world.approval().categories = Category::ALL.iter().copied().collect();
    }
    world.scope.purpose = purpose.clone();
    world.agreement().purposes = purposes().into_iter().collect();
    world.practitioner().role = role;
    world
}

const RELATIONSHIPS: &[Setting] = &[
    ("corroborated", |_| ()),
    ("asserted, accepted", |world| {
        world.relationship().strength = Strength::Asserted;
        world.agreement().accepts_asserted = true;
    }),
    ("asserted only", |world| {
        world.relationship().strength = Strength::Asserted;
    }),
    ("another than claimed", |world| {
        world.relationship().reference = "ref-9".into();
    }),
    ("none", |world| {
        world.facts.relationships = Fact::Known(Vec::new());
    }),
];

const OBJECTIONS: &[Setting] = &[
    ("no objection", |_| ()),
    ("to another purpose", |world| {
        let other = match world.scope.purpose {
            Purpose::Treat => Purpose::Hresch,
            _ => Purpose::Treat,
        };
        world.object(other);
    }),
    ("to this", |world| {
        let purpose = world.scope.purpose.clone();
        world.object(purpose);
    }),
    ("to this, overridable", |world| {
        let purpose = world.scope.purpose.clone();
        world.object(purpose);
        world.agreement().emergency_overrides_objection = true;
    }),
];

const LABELS: &[Setting] = &[
    ("none", |_| ()),
    ("covered", |world| {
        world.record().labels = [Label::PSY, Label::SDV].into();
    }),
    ("one not", |world| {
        world.record().labels = [Label::PSY, Label::V].into();
    }),
    ("unknown", |world| {
        world.record().labels = [Label::Unrecognised].into();
    }),
];

const TRAINING: &[Setting] = &[
    ("trained", |_| ()),
    ("lapsed", |world| {
        world.practitioner().trained_until_ms = Fact::Known(NOW_MS);
    }),
];

const DECLARED: &[Setting] = &[
    ("declared", |world| {
        world.scope.reason = Some("found unconscious".into());
        world.scope.acknowledged = true;
    }),
    ("undeclared", |_| ()),
];

const CATEGORIES: &[Setting] = &[
    ("medications", |world| {
        world.scope.categories = Some([Category::Medications].into());
    }),
    ("demographics", |world| {
        world.scope.categories = Some([Category::Demographics].into());
        world.record().category = Category::Demographics;
    }),
];

const SUSPENSIONS: &[Setting] = &[
    ("nobody suspended", |_| ()),
    ("practitioner suspended", |world| {
        world.practitioner().suspended = true;
    }),
    ("organisation suspended", |world| {
        world.facts.organisation = Fact::Known(Standing { suspended: true });
    }),
];

const AGREEMENTS: &[Setting] = &[
    ("in force", |_| ()),
    ("none", |world| {
        world.facts.holders[0].agreements = Fact::Known(Vec::new());
    }),
    ("of another practice", |world| {
        world.agreement().practice = ods("A81002");
    }),
    ("with another organisation", |world| {
        world.agreement().organisation = ods("RJ2");
    }),
    ("for another purpose", |world| {
        let purpose = world.scope.purpose.clone();
        world.agreement().purposes.remove(&purpose);
    }),
    ("without the category", |world| {
        let category = world.record().category;
        world.agreement().categories.remove(&category);
    }),
    ("not begun", |world| world.agreement().from_ms = NOW_MS + 1),
    ("over", |world| world.agreement().until_ms = NOW_MS),
    ("not accepted", |world| {
        world.agreement().accepted_by = String::new();
    }),
    ("accepted by the hand that proposed", |world| {
        world.agreement().accepted_by = world.agreement().proposed_by.clone();
    }),
    ("still cooling", |world| {
        world.agreement().cooled_ms = NOW_MS + 1;
    }),
];

const APPROVALS: &[Setting] = &[
    ("approval in force", |_| ()),
    ("no approval", |world| {
        world.facts.holders[0].approvals = Fact::Known(Vec::new());
    }),
    ("approval of another practice", |world| {
        world.approval().practice = ods("A81002");
    }),
    ("approval of another organisation", |world| {
        world.approval().organisation = ods("RJ2");
    }),
    ("approval for another purpose", |world| {
        let purpose = world.scope.purpose.clone();
        world.approval().purposes.remove(&purpose);
    }),
    ("approval without the category", |world| {
        let category = world.record().category;
        world.approval().categories.remove(&category);
    }),
    ("approval not begun", |world| {
        world.approval().from_ms = NOW_MS + 1;
    }),
    ("approval over", |world| world.approval().until_ms = NOW_MS),
];

const CLIENTS: &[Setting] = &[
    ("of its own kind", |_| ()),
    ("of the other kind", |world| {
        world.client_role = match world.client_role {
            ClientRole::Research => ClientRole::Hospital,
            _ => ClientRole::Research,
        };
    }),
    ("of another organisation", |world| {
        world.organisations = vec![ods("RJ2")];
    }),
];

/// A block of lines (rows) by columns: every combination of both.
fn block(rules: &Rules, world: &World, rows: &[&[Setting]], columns: &[&[Setting]]) -> String {
    let mut text = String::new();
    for row in combined(rows) {
        let names: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
        let mut cells = String::new();
        for (at, column) in combined(columns).into_iter().enumerate() {
            let mut world = world.clone();
            for (_, set) in row.iter().chain(&column) {
                set(&mut world);
            }
            if at > 0 && at % columns.last().unwrap().len() == 0 {
                cells.push(' ');
            }
            cells.push(decided(rules, &world));
        }
        writeln!(text, "  {:44} {cells}", names.join(", ")).unwrap();
    }
    text
}

fn combined(dimensions: &[&[Setting]]) -> Vec<Vec<Setting>> {
    let mut combinations = vec![Vec::new()];
    for dimension in dimensions {
        let longer = |combination: Vec<Setting>| {
            let with = move |setting: &Setting| [combination.clone(), vec![*setting]].concat();
            dimension.iter().map(with).collect::<Vec<_>>()
        };
        combinations = combinations.into_iter().flat_map(longer).collect();
    }
    combinations
}

/// The blocks of all roles and purposes; those that are the same stand once.
fn blocks(
    rules: &Rules,
    purposes: &[Purpose],
    rows: &[&[Setting]],
    columns: &[&[Setting]],
) -> String {
    let mut found: Vec<(String, Vec<(Role, String)>)> = Vec::new();
    for role in Role::ALL {
        for purpose in purposes {
            let text = block(rules, &base(*role, purpose), rows, columns);
            let who = (*role, purpose.code().to_owned());
            match found.iter_mut().find(|(same, _)| *same == text) {
                Some((_, all)) => all.push(who),
                None => found.push((text, vec![who])),
            }
        }
    }
    let mut text = String::new();
    for (block, who) in found {
        for role in Role::ALL {
            let mine = who.iter().filter(|(it, _)| it == role);
            let codes: Vec<&str> = mine.map(|(_, purpose)| purpose.as_str()).collect();
            if !codes.is_empty() {
                writeln!(text, "{role}: {}", codes.join(" ")).unwrap();
            }
        }
        text.push_str(&block);
        text.push('\n');
    }
    text
}

fn names(dimension: &[Setting]) -> String {
    let names: Vec<&str> = dimension.iter().map(|(name, _)| *name).collect();
    names.join(" | ")
}

fn table(rules: &Rules) -> String {
    let mut text = String::from(
        "Who may read one record, by which rule. Written by tests/table.rs; see there how to write it anew.\n\n",
    );
    let [guards, local, _] = policy::Texts::built_in().parse().unwrap().says();
    for (letter, rule) in LETTERS {
        let words = guards.iter().chain(&local).find(|said| said.id == *rule);
        let words = words.map_or("No local rule permits it.", |said| said.words.as_str());
        writeln!(text, "{letter} {rule}\n    {words}").unwrap();
    }
    let columns: [&[Setting]; 4] = [TRAINING, DECLARED, CATEGORIES, LABELS];
    writeln!(
        text,
        "\n\nROLE x PURPOSE\n  relationship, objection; across: {}\n",
        columns.map(names).join(", then ")
    )
    .unwrap();
    let all = purposes();
    text.push_str(&blocks(rules, &all, &[RELATIONSHIPS, OBJECTIONS], &columns));
    let columns: [&[Setting]; 2] = [AGREEMENTS, CLIENTS];
    writeln!(
        text,
        "\nROLE x PURPOSE\n  emergency declared or not, suspension; across: {}\n",
        columns.map(names).join(", then ")
    )
    .unwrap();
    text.push_str(&blocks(rules, &all, &[DECLARED, SUSPENSIONS], &columns));
    let secondary: Vec<Purpose> = all.into_iter().filter(is_secondary).collect();
    let columns: [&[Setting]; 2] = [OBJECTIONS, LABELS];
    writeln!(
        text,
        "\nROLE x PURPOSE, secondary uses\n  approval; across: {}\n",
        columns.map(names).join(", then ")
    )
    .unwrap();
    text.push_str(&blocks(rules, &secondary, &[APPROVALS], &columns));
    text
}

#[test]
fn the_table_is_the_one_that_was_reviewed() {
    let table = table(&Rules::built_in().unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decisions.txt");
    if std::env::var_os("SALLYPORT_UPDATE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = reviewed
        .lines()
        .zip(table.lines())
        .find(|(was, is)| was != is);
    assert!(
        reviewed == table,
        "tests/decisions.txt says otherwise, first here: {differs:#?}\nreview the change, then write it with \
         SALLYPORT_UPDATE=1"
    );
    let cells = table.lines().filter(|line| line.starts_with("  ")).count();
    assert!(cells > 100, "{cells} rows");
}

/// Whatever a site permits, each cell is what the plain rules say or a guard's refusal; no invariant ever has to speak.
#[test]
fn with_anything_permitted_the_guards_still_imply_the_invariants() {
    let anything = Rules::parse(PERMIT_ALL).unwrap();
    let columns = [TRAINING, DECLARED, CATEGORIES, LABELS];
    let (mut cells, mut permitted) = (0, 0);
    for role in Role::ALL {
        for purpose in purposes() {
            let base = base(*role, &purpose);
            let settings = [RELATIONSHIPS, OBJECTIONS].into_iter().chain(columns);
            let settings: Vec<_> = settings.collect();
            // A part of the table: eleven divides none of its dimensions.
            for setting in combined(&settings).into_iter().step_by(11) {
                let mut world = base.clone();
                for (_, set) in setting {
                    set(&mut world);
                }
                let decision = world.read(&anything);
                let name = rule(&decision);
                let plain = plain::decide(&world);
                let agrees = match plain {
                    Ok(_) | Err("not-permitted") => name == "anything",
                    Err(guard) => name == guard,
                };
                assert!(agrees, "{name}, but {plain:?}: {role} {purpose}");
                cells += 1;
                permitted += usize::from(is_permit(&decision));
            }
        }
    }
    println!("{permitted} of {cells} permitted");
    assert!(permitted > 100 && cells - permitted > 1_000);
}

/// xorshift64*: the same everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % end
    }

    /// Now and then.
    fn rarely(&mut self) -> bool {
        self.below(8) == 0
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn some<T: Clone + Ord>(&mut self, of: &[T]) -> std::collections::BTreeSet<T> {
        of.iter().filter(|_| self.below(2) == 0).cloned().collect()
    }
}

/// A world in which anything may be otherwise, and most is in order.
fn random(dice: &mut Dice) -> World {
    let mut world = match dice.below(4) {
        0 => World::in_emergency(),
        1 => base(Role::Researcher, &Purpose::Hresch),
        _ => World::in_order(),
    };
    if dice.rarely() || matches!(world.facts.holders[0].approvals, Fact::Unknown(_)) {
        let mut it = approval();
        it.organisation = ods(dice.one(&["RJ1", "R0C01"]));
        it.purposes = dice.some(&purposes());
        it.categories = dice.some(Category::ALL);
        world.facts.holders[0].approvals = Fact::Known(vec![it]);
    }
    if is_secondary(&world.scope.purpose) && dice.below(4) == 0 {
        dice.one(APPROVALS).1(&mut world);
    }
    let (organisations, times) = (
        ["RJ1", "RJ2", "R0C01", "A81001", "A81002"],
        [NOW_MS - 1, NOW_MS, NOW_MS + 1],
    );
    let all = [
        RELATIONSHIPS,
        OBJECTIONS,
        LABELS,
        TRAINING,
        DECLARED,
        CATEGORIES,
        SUSPENSIONS,
        CLIENTS,
    ];
    world.facts.relationships = Fact::Known(vec![relationship()]);
    for settings in all {
        if dice.below(4) == 0 {
            dice.one(settings).1(&mut world);
        }
    }
    if let Fact::Known(relationships) = &mut world.facts.relationships
        && let Some(it) = relationships.first_mut()
    {
        if dice.rarely() {
            it.patient = other_patient();
        }
        if dice.rarely() {
            it.organisation = ods(dice.one(&organisations));
        }
        if dice.rarely() {
            it.kind = dice.one(RelationKind::ALL);
        }
        if dice.rarely() {
            (it.from_ms, it.until_ms) = (dice.one(&times), dice.one(&times));
        }
    }
    if dice.below(3) == 0 {
        world.scope.purpose = dice.one(&purposes());
    }
    if dice.rarely() {
        world.scope.relationship = None;
    }
    if dice.rarely() {
        world.scope.reason = dice.one(&[
            None,
            Some(String::new()),
            Some(" ".into()),
            Some("r".into()),
        ]);
        world.scope.acknowledged = dice.below(2) == 0;
    }
    if dice.rarely() {
        world.scope.categories = Some(dice.some(Category::ALL)).filter(|it| !it.is_empty());
    }
    if dice.rarely() {
        world.expires_ms = dice.one(&times);
    }
    if dice.below(3) == 0 {
        world.practitioner().role = dice.one(Role::ALL);
    }
    if dice.rarely() {
        world.practitioner().organisation = ods(dice.one(&organisations));
    }
    if dice.rarely() {
        world.record().category = dice.one(Category::ALL);
    }
    if dice.rarely() {
        world.record().labels = dice.some(Label::ALL);
    }
    if dice.rarely() {
        world.facts.objections = Fact::Known(dice.some(&purposes()));
    }
    if dice.rarely() {
        let mut it = agreement(dice.one(&["A81001", "A81002"]));
        it.organisation = ods(dice.one(&organisations));
        it.purposes = dice.some(&purposes());
        it.categories = dice.some(Category::ALL);
        it.labels = dice.some(Label::ALL);
        it.accepts_asserted = dice.below(2) == 0;
        it.emergency_overrides_objection = dice.below(2) == 0;
        it.from_ms = dice.one(&times);
        it.until_ms = dice.one(&times);
        world.facts.holders[0].agreements = Fact::Known(vec![it]);
    } else if dice.rarely() {
        dice.one(AGREEMENTS).1(&mut world);
    }
    world
}

#[test]
fn random_cases_are_decided_as_the_plain_rules_say() {
    let seed = std::env::var("SALLYPORT_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or(0x5A11_9047);
    println!("SALLYPORT_SEED={seed}");
    let rules = Rules::built_in().unwrap();
    let (mut dice, mut seen) = (Dice(seed.max(1)), std::collections::BTreeMap::new());
    for _ in 0..20_000 {
        *seen.entry(decided(&rules, &random(&mut dice))).or_insert(0) += 1;
    }
    println!("{seen:?}");
    // Every rule had its turn, permits not least.
    assert_eq!(seen.len(), LETTERS.len(), "{seen:?}");
    assert!(seen[&'C'] > 500 && seen[&'E'] > 200, "{seen:?}");
}
