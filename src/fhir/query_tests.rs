//! Searches: what they find, what they refuse, what the ledger is told.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use super::card::{Card, Code};
use super::moment::{Moment, Span};
use super::query::*;
use super::resource::ResourceType;
use policy::words::Category;

const NHS: &str = "9990000018";

fn kind() -> ResourceType {
    "Observation".try_into().unwrap()
}

fn pairs(text: &str) -> Vec<(String, String)> {
    serde_urlencoded::from_str(text).unwrap()
}

fn query(text: &str) -> Result<Query, QueryError> {
    Query::parse(&kind(), &pairs(&format!("patient={NHS}&{text}")))
}

fn card(date: &str) -> Card {
    let code = |system: Option<&'static str>, code: &str| Code {
        system: system.map(Into::into),
        code: code.into(),
    };
    Card {
        kind: kind(),
        id: None,
        full_url: None,
        category: Category::Observations,
        labels: Default::default(),
        codes: vec![
            code(Some("http://loinc.org"), "8480-6"),
            code(None, "a,b|c"),
        ],
        categories: vec![code(Some("s"), "vital-signs")],
        dates: Moment::parse(date).map(Span::from),
        last_updated_ms: None,
        overflow: false,
    }
}

#[test]
fn tokens_match_as_fhir_says() {
    let found = |text: &str| query(text).unwrap().matches(&card("2019"));
    for text in [
        "code=8480-6",
        "code=http://loinc.org|8480-6",
        "code=http://loinc.org|",
        "code=x,8480-6",
        "code=|a\\,b\\|c",
        "category=vital-signs",
        "",
        "code=8480-6&category=s|vital-signs",
    ] {
        assert!(found(text), "{text}");
    }
    for text in [
        "code=8480",
        "code=http://snomed.info/sct|8480-6",
        "code=|8480-6",
        "code=8480-6&code=x",
        "category=s|laboratory",
        "date=2020",
    ] {
        assert!(!found(text), "{text}");
    }
    let other = Card {
        kind: "Condition".try_into().unwrap(),
        ..card("2019")
    };
    assert!(!query("").unwrap().matches(&other));
    let crowded = Card {
        overflow: true,
        ..card("2019")
    };
    assert!(
        query("code=whatever").unwrap().matches(&crowded)
            && !query("date=2020").unwrap().matches(&crowded)
    );
}

#[test]
fn dates_match_as_fhir_says() {
    let day = "2019-05-05";
    let table = [
        ("2019", day, "eq ge le"),
        (day, day, "eq ge le"),
        ("2019-05-05T12:00:00", day, "ne gt lt ge le"),
        ("2019-05-04", day, "ne gt ge sa"),
        ("2019-05-06", day, "ne lt le eb"),
        ("2018", day, "ne gt ge sa"),
        // A stay over new year.
        ("2019", "2018-12..2019-01", "ne lt le"),
        ("2018-12", "2018-12..2019-01", "ne gt ge"),
        ("2019", "2019-12..", "ne gt ge"),
        ("2019", "..2019-02", "ne lt le"),
    ];
    for (asked, happened, holds) in table {
        let mut card = card(happened);
        if let Some((from, until)) = happened.split_once("..") {
            card.dates = Some(Span::between(Moment::parse(from), Moment::parse(until)));
        }
        for prefix in ["eq", "ne", "lt", "gt", "le", "ge", "sa", "eb"] {
            let found = query(&format!("date={prefix}{asked}"))
                .unwrap()
                .matches(&card);
            assert_eq!(
                found,
                holds.contains(prefix),
                "{prefix}{asked} of {happened}"
            );
        }
    }
    let undated = Card {
        dates: None,
        ..card(day)
    };
    assert!(!query("date=ne2019").unwrap().matches(&undated));
    assert!(query("date=2018,2019").unwrap().matches(&card(day)));
    assert!(
        !query("date=ge2019&date=lt2019-03")
            .unwrap()
            .matches(&card(day))
    );
}

#[test]
fn a_day_is_the_writers_day_and_an_instant_is_an_instant() {
    let written = card("2018-06-01T00:00:00+01:00");
    assert!(query("date=2018-06-01").unwrap().matches(&written));
    assert!(!query("date=2018-05-31").unwrap().matches(&written));
    assert!(
        query("date=2018-05-31T23:00:00Z")
            .unwrap()
            .matches(&written)
    );
    assert!(
        query("date=2018-06-01T00:00:00%2B01:00")
            .unwrap()
            .matches(&written)
    );
}

#[test]
fn what_is_not_served_is_named() {
    let refused = |text: &str| {
        let error = query(text).unwrap_err();
        (error.parameter, error.rule)
    };
    for name in [
        "subject",
        "code:text",
        "_format",
        "start",
        "_type",
        "identifier",
        "_include",
        "patient.identifier",
    ] {
        assert_eq!(
            refused(&format!("{name}=x")),
            (name.to_owned(), QueryRule::Unknown)
        );
    }
    assert_eq!(refused("date=ap2019"), ("date".into(), QueryRule::Date));
    assert_eq!(refused("date=2019-02-30").1, QueryRule::Date);
    assert_eq!(refused("date=2019-05-05T10:00:00+01:00").1, QueryRule::Date);
    for value in ["", "|", "a|b|c", "x,"] {
        assert_eq!(
            refused(&format!("code={value}")).1,
            QueryRule::Token,
            "{value}"
        );
    }
    for value in ["0", "201", "-1", "%2B5", "x", ""] {
        assert_eq!(
            refused(&format!("_count={value}")).1,
            QueryRule::Count,
            "{value}"
        );
    }
    assert_eq!(refused("_cursor=a.b").1, QueryRule::Cursor);
    assert_eq!(refused("_count=5&_count=5").1, QueryRule::Once);
    assert_eq!(refused(&format!("patient={NHS}")).1, QueryRule::Once);
    assert_eq!(
        refused(&format!("code={}", "x".repeat(3000))).1,
        QueryRule::TooMuch
    );
    assert_eq!(refused(&"code=x&".repeat(40)).1, QueryRule::TooMuch);
    let missing = Query::parse(&kind(), &[]).unwrap_err();
    assert_eq!(
        (missing.parameter.as_str(), missing.rule),
        ("patient", QueryRule::Required)
    );
    for wrong in [
        "9990000019",
        "Patient/1",
        "Group/9990000018",
        "urn:x|9990000018",
        "",
    ] {
        let error = Query::parse(&kind(), &[("patient".into(), wrong.into())]).unwrap_err();
        assert_eq!(error.rule, QueryRule::Patient, "{wrong}");
        assert!(wrong.is_empty() || !error.to_string().contains(wrong));
    }
}

#[test]
fn the_ledgers_line_is_the_same_for_the_same_search_and_names_nobody() {
    let first = query("date=ge2019&code=http://loinc.org|8480-6&_count=5").unwrap();
    let second = Query::parse(
        &kind(),
        &pairs(&format!(
            "_count=5&code=http://loinc.org|8480-6&patient=Patient/{NHS}&date=ge2019"
        )),
    )
    .unwrap();
    assert_eq!(first.canonical(), second.canonical());
    assert_eq!(
        first.canonical(),
        "Observation?_count=5&code=http%3A%2F%2Floinc.org%7C8480-6&date=ge2019"
    );
    assert_eq!(
        (first.count(), query("").unwrap().count()),
        (5, COUNT_DEFAULT)
    );
    assert_eq!(query("_cursor=Ab-_9").unwrap().cursor(), Some("Ab-_9"));
}

#[test]
fn everything_is_narrowed_by_type_and_time() {
    let everything = |text: &str| Query::everything(NHS.try_into().unwrap(), &pairs(text));
    let query = everything("_type=Observation,Condition&start=2019-01-01&end=2019-12-31").unwrap();
    assert_eq!(query.kind(), None);
    assert!(
        query
            .canonical()
            .starts_with("Patient/$everything?_count=100")
    );
    assert!(
        query.matches(&card("2019-05-05"))
            && !query.matches(&card("2020-05-05"))
            && !query.matches(&card("2018-05-05"))
    );
    assert!(query.matches(&Card {
        dates: None,
        ..card("2019")
    }));
    assert!(!query.matches(&Card {
        kind: "Encounter".try_into().unwrap(),
        ..card("2019-05-05")
    }));
    assert_eq!(
        everything(&format!("patient={NHS}")).unwrap_err().rule,
        QueryRule::Unknown
    );
    assert_eq!(everything("_type=x").unwrap_err().rule, QueryRule::Type);
}
