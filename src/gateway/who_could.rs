//! Who could open a patient's records now, and what changed since: asked by the practice about its own patients, by an
//! auditor or privacy officer about anybody's; decided and recorded like any look before anything is looked up. The
//! answer is the decisions' own: every question is weighed as a release would be.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use policy::survey::{Declared, Found, Opening, Survey, Way, survey};
use policy::words::{Category, Label, NhsNumber, Ods};
use policy::{Caller, Fact, RecordFacts, RecordId, Side, Strength};
use serde_json::{Value, json};

use super::{Answer, Fault, Gateway};
use crate::alerts::rfc3339;
use crate::facts::{Register, When};
use crate::ledger::Receipt;
use crate::vault::Wanted;

/// What is asked.
pub struct WhoCould {
    /// The practice that asks about its own patient; `None` for those who oversee all.
    pub practice: Option<Ods>,
    /// About whom.
    pub patient: NhsNumber,
    /// About which record alone, by its practice's name for it, `TYPE/ID`.
    pub record: Option<String>,
    /// Since when differences are told, milliseconds.
    pub since_ms: Option<u64>,
}

/// A kind of record: whose, about what, how sensitive; and how many there are.
type Kinds = BTreeMap<(Ods, Category, BTreeSet<Label>), usize>;

impl Gateway {
    /// Who could open this patient's records, or one of them; `None` where there is no such record.
    ///
    /// # Errors
    /// A fault of ours, or a directory that is unknown.
    pub async fn who_could(
        &self,
        caller: Caller,
        asked: WhoCould,
    ) -> Result<Answer<Option<Value>>, Fault> {
        const WHAT: &str = "who-could";
        let receipt = match &asked.practice {
            Some(practice) => {
                let of = Side::Practice(practice.clone());
                match self.look_up(caller, of, Some(&asked.patient), WHAT).await? {
                    Answer::Refused(receipt) => return Ok(Answer::Refused(receipt)),
                    Answer::Done((), receipt) => receipt,
                }
            }
            None => match self
                .look(caller, WHAT.to_owned(), Some(&asked.patient))
                .await?
            {
                Ok(recorded) => recorded.receipt().clone(),
                Err(receipt) => return Ok(Answer::Refused(receipt)),
            },
        };
        self.told_who_could(&asked, receipt).await
    }

    async fn told_who_could(
        &self,
        asked: &WhoCould,
        receipt: Receipt,
    ) -> Result<Answer<Option<Value>>, Fault> {
        let now_ms = self.clock.now_ms();
        let (keepers, kinds) = self.kinds(asked).await?;
        if asked.record.is_some() && kinds.is_empty() {
            return Ok(Answer::Done(None, receipt));
        }
        let (survey, found) = match self
            .weighed(asked, (&keepers, &kinds), now_ms, When::Now)
            .await?
        {
            Fact::Known(weighed) => weighed,
            Fact::Unknown(_) => {
                return Err(Fault::Standing(
                    "the directory is unknown; ask the operator",
                ));
            }
        };
        let names = match self.facts.register() {
            Fact::Known(register) => register,
            Fact::Unknown(_) => {
                return Err(Fault::Standing(
                    "the directory is unknown; ask the operator",
                ));
            }
        };
        let told = Telling {
            own: asked.practice.as_ref(),
            names: &names,
        };
        let unknown = survey.objections.iter().filter_map(|(purpose, fact)| {
            let why = fact.known().err()?;
            Some(json!({ "purpose": purpose.code(), "why": why.to_string() }))
        });
        let mut value = json!({
            "at": rfc3339(now_ms),
            "at_ms": now_ms,
            "records": said_kinds(&kinds),
            "could": told.could(&found),
            "objections_unknown": unknown.collect::<Vec<_>>(),
            "asked": {
                "organisations": found.everybody.len(), "alike": found.ways.len(), "questions": found.weighed,
            },
        });
        if let Some(since_ms) = asked.since_ms {
            let then = self
                .weighed(asked, (&keepers, &kinds), now_ms, When::Then(since_ms))
                .await?;
            let mut since = match then {
                Fact::Known((_, then)) => told.difference(&then, &found),
                Fact::Unknown(why) => json!({ "unknown": why.to_string() }),
            };
            if let Some(since) = since.as_object_mut() {
                since.insert("at".to_owned(), rfc3339(since_ms).into());
                since.insert("at_ms".to_owned(), since_ms.into());
            }
            if let Some(value) = value.as_object_mut() {
                value.insert("since".to_owned(), since);
            }
        }
        Ok(Answer::Done(Some(value), receipt))
    }

    /// The practices that keep records of this patient, and the kinds of record in question: those there are, as they
    /// are labelled now. Where a patient has none yet, one of every category.
    async fn kinds(&self, asked: &WhoCould) -> Result<(BTreeSet<Ods>, Kinds), Fault> {
        let wanted = match &asked.record {
            Some(name) => Wanted::One(name.clone()),
            None => Wanted::All,
        };
        let shelf = self.vault.shelve(&asked.patient, &wanted).await?;
        let mut holders: Vec<policy::Holder> = shelf
            .keepers()
            .iter()
            .map(|practice| policy::Holder {
                practice: practice.clone(),
                agreements: Fact::Unknown(policy::Why::NotAsked),
                approvals: Fact::Unknown(policy::Why::NotAsked),
                records: Vec::new(),
            })
            .collect();
        shelf.label(&mut holders, |practice| {
            self.facts.feed_terms(practice).documents_inherit
        });
        let mut kinds = Kinds::new();
        for holder in holders {
            for record in holder.records {
                let kind = (holder.practice.clone(), record.category, record.labels);
                *kinds.entry(kind).or_default() += 1;
            }
        }
        if let Some(own) = &asked.practice {
            kinds.retain(|(practice, _, _), _| practice == own);
        }
        if kinds.is_empty() && asked.record.is_none() {
            let practices = match self.facts.registrations(&asked.patient).await? {
                Fact::Known(practices) => practices,
                Fact::Unknown(_) => BTreeSet::new(),
            };
            let own = practices
                .iter()
                .chain(shelf.keepers())
                .chain(&asked.practice);
            let own = own.filter(|it| asked.practice.as_ref().is_none_or(|own| own == *it));
            for practice in own {
                for category in Category::ALL {
                    kinds.insert((practice.clone(), *category, BTreeSet::new()), 0);
                }
            }
        }
        Ok((shelf.keepers().clone(), kinds))
    }

    /// Everybody of that moment, and what the rules of now say of them.
    async fn weighed(
        &self,
        asked: &WhoCould,
        (keepers, kinds): (&BTreeSet<Ods>, &Kinds),
        now_ms: u64,
        when: When,
    ) -> Result<Fact<(Survey, Found)>, Fault> {
        let of = self
            .facts
            .survey(&asked.patient, keepers, (now_ms, when))
            .await?;
        let mut of = match of {
            Fact::Known(of) => of,
            Fact::Unknown(why) => return Ok(Fact::Unknown(why)),
        };
        for (practice, records) in &mut of.practices {
            let own = kinds.keys().filter(|(own, _, _)| own == practice);
            records.extend(own.map(|(_, category, labels)| RecordFacts {
                id: RecordId([0; 16]),
                version: 1,
                category: *category,
                labels: labels.clone(),
            }));
        }
        let rules = std::sync::Arc::clone(&self.rules);
        let weighed = tokio::task::spawn_blocking(move || {
            let found = survey(&rules, &of);
            (of, found)
        });
        let weighed = weighed.await;
        Ok(Fact::Known(
            weighed.map_err(|_| Fault::Bug("a survey ended early"))?,
        ))
    }
}

fn said_kinds(kinds: &Kinds) -> Vec<Value> {
    kinds
        .iter()
        .map(|((practice, category, labels), count)| {
            json!({
                "practice": practice.as_str(), "category": category.code(), "labels": codes(labels),
                "records": count,
            })
        })
        .collect()
}

fn codes(labels: &BTreeSet<Label>) -> Vec<&'static str> {
    labels.iter().map(|label| label.code()).collect()
}

/// How what was found is told, and to whom: a practice is told of its own records alone.
struct Telling<'a> {
    own: Option<&'a Ods>,
    names: &'a Register,
}

impl Telling<'_> {
    fn is_told(&self, opening: &Opening) -> bool {
        self.own.is_none_or(|own| *own == opening.practice)
    }

    fn told(&self, ways: &[Way]) -> Vec<Way> {
        let mut out = Vec::new();
        for way in ways {
            let opens = way.opens.iter().filter(|it| self.is_told(it));
            let opens: Vec<Opening> = opens.cloned().collect();
            if !opens.is_empty() {
                out.push(Way {
                    opens,
                    ..way.clone()
                });
            }
        }
        out
    }

    /// Who could: those together who could in the same ways.
    fn could(&self, found: &Found) -> Vec<Value> {
        let mut by_place: BTreeMap<usize, Vec<&Ods>> = BTreeMap::new();
        for (organisation, place) in &found.everybody {
            by_place.entry(*place).or_default().push(organisation);
        }
        let ways = |place: usize| self.told(found.ways.get(place).map_or(&[][..], Vec::as_slice));
        let groups = by_place.into_iter().map(|(place, who)| (who, ways(place)));
        self.groups(groups)
    }

    fn groups<'o>(&self, groups: impl Iterator<Item = (Vec<&'o Ods>, Vec<Way>)>) -> Vec<Value> {
        // Why merged once more: who differs in facts can be alike in what comes of them.
        let mut out: Vec<(Vec<&Ods>, Vec<Way>)> = Vec::new();
        for (who, ways) in groups.filter(|(_, ways)| !ways.is_empty()) {
            match out.iter_mut().find(|(_, told)| *told == ways) {
                Some((all, _)) => all.extend(who),
                None => out.push((who, ways)),
            }
        }
        let said = |organisation: &&Ods| {
            let known = self.names.organisation(organisation);
            json!({ "ods": organisation.as_str(), "name": known.map(|it| it.name.as_str()) })
        };
        out.into_iter()
            .map(|(mut who, ways)| {
                who.sort_unstable();
                json!({
                    "organisations": who.iter().map(said).collect::<Vec<_>>(),
                    "ways": ways.iter().map(said_way).collect::<Vec<_>>(),
                })
            })
            .collect()
    }

    /// What is newly possible, and what no longer is.
    fn difference(&self, then: &Found, now: &Found) -> Value {
        let before: HashMap<&Ods, usize> =
            then.everybody.iter().map(|(it, at)| (it, *at)).collect();
        let after: HashMap<&Ods, usize> = now.everybody.iter().map(|(it, at)| (it, *at)).collect();
        let everybody: BTreeSet<&Ods> = before.keys().chain(after.keys()).copied().collect();
        // Why by places: what ten thousand share is compared once.
        let mut pairs: BTreeMap<(Option<usize>, Option<usize>), Vec<&Ods>> = BTreeMap::new();
        for organisation in everybody {
            let pair = (
                before.get(organisation).copied(),
                after.get(organisation).copied(),
            );
            pairs.entry(pair).or_default().push(organisation);
        }
        let (mut newly, mut no_longer) = (Vec::new(), Vec::new());
        for ((before, after), who) in pairs {
            let ways = |found: &Found, place: Option<usize>| {
                let ways = place.and_then(|place| found.ways.get(place));
                self.told(ways.map_or(&[][..], Vec::as_slice))
            };
            let (before, after) = (ways(then, before), ways(now, after));
            newly.push((who.clone(), without(&after, &before)));
            no_longer.push((who, without(&before, &after)));
        }
        json!({
            "newly": self.groups(newly.into_iter()), "no_longer": self.groups(no_longer.into_iter()),
        })
    }
}

/// What these ways open that none of those opens on the same terms, or easier ones.
fn without(these: &[Way], those: &[Way]) -> Vec<Way> {
    let mut out = Vec::new();
    for way in these {
        let as_easy = |it: &&Way| {
            it.purpose == way.purpose
                && it.role == way.role
                && (it.declared == way.declared || it.declared == Some(Declared::Briefly))
                && (it.relationship == way.relationship || it.relationship.is_none())
        };
        let known: Vec<&Opening> = those
            .iter()
            .filter(as_easy)
            .flat_map(|it| &it.opens)
            .collect();
        let same = |it: &Opening| {
            let is = |other: &&Opening| {
                (&other.practice, other.category, &other.labels)
                    == (&it.practice, it.category, &it.labels)
            };
            known.iter().any(is)
        };
        let opens = way.opens.iter().filter(|it| !same(it));
        let opens: Vec<Opening> = opens.cloned().collect();
        if !opens.is_empty() {
            out.push(Way {
                opens,
                ..way.clone()
            });
        }
    }
    out
}

fn said_way(way: &Way) -> Value {
    let opens = way.opens.iter().map(|it| {
        json!({
            "practice": it.practice.as_str(), "category": it.category.code(), "labels": codes(&it.labels),
            "rule": it.rule.rule(), "says": it.rule.words(),
        })
    });
    json!({
        "purpose": way.purpose.code(),
        "role": way.role.code(),
        "relationship": way.relationship.map(|(kind, strength)| json!({
            "type": kind.code(),
            "strength": match strength {
                Strength::Corroborated => "corroborated",
                Strength::Asserted => "asserted",
            },
        })),
        "reason": way.declared.map(|declared| match declared {
            Declared::Briefly => "any",
            Declared::AtLength => "at length",
        }),
        "opens": opens.collect::<Vec<_>>(),
    })
}
