//! What a deposit may and may not be, rule by rule, and what is read of one that may.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use super::card::Card;
use super::deposit::{
    Batch, BundleKind, DepositError, ENTRIES_MAX, Form, Method, Rule, read_deposit,
};
use super::fixtures::small_set;
use super::resource::{FhirId, FhirVersion, ResourceType};
use super::subject::Subject;
use bytes::Bytes;
use policy::words::{Category, Label, NhsNumber};
use std::collections::BTreeSet;

const NHS: &str = "https://fhir.nhs.uk/Id/nhs-number";
const ONE: &str = "9990000018";
const TWO: &str = "9990000026";

fn post(body: impl Into<Bytes>) -> Result<Batch, DepositError> {
    read_deposit(&body.into(), FhirVersion::R4, Form::Bundle)
}

fn put(kind: &str, id: &str, body: impl Into<Bytes>) -> Result<Batch, DepositError> {
    let (kind, id) = (
        ResourceType::try_from(kind).unwrap(),
        FhirId::try_from(id).unwrap(),
    );
    read_deposit(
        &body.into(),
        FhirVersion::R4,
        Form::Put {
            kind: &kind,
            id: &id,
        },
    )
}

fn bundle(kind: &str, entries: &[String]) -> String {
    format!(
        r#"{{"resourceType":"Bundle","type":"{kind}","entry":[{}]}}"#,
        entries.join(",")
    )
}

fn collection(resources: &[&str]) -> String {
    let entries: Vec<String> = resources
        .iter()
        .map(|resource| format!(r#"{{"resource":{resource}}}"#))
        .collect();
    bundle("collection", &entries)
}

fn patient(id: &str, number: &str) -> String {
    format!(
        r#"{{"resourceType":"Patient","id":"{id}","identifier":[{{"system":"{NHS}","value":"{number}"}}]}}"#
    )
}

fn broken(result: Result<Batch, DepositError>) -> (String, Rule) {
    match result {
        Err(DepositError::Invalid(violation)) => (violation.path, violation.rule),
        other => panic!("{other:?}"),
    }
}

fn number(text: &str) -> Subject {
    Subject::Number(NhsNumber::try_from(text).unwrap())
}

#[test]
fn the_fixtures_are_read_to_the_last_label() {
    let mut numbers = BTreeSet::new();
    for fixture in small_set() {
        let batch = read_deposit(
            &Bytes::from_static(fixture.body),
            fixture.version,
            Form::Bundle,
        )
        .unwrap();
        assert_eq!(batch.subject, number(fixture.nhs), "{}", fixture.name);
        assert!((6..=15).contains(&batch.items.len()), "{}", fixture.name);
        assert!(numbers.insert(fixture.nhs));
        for item in &batch.items {
            assert_eq!(
                Card::from_bytes(&item.card.to_bytes()).as_ref(),
                Ok(&item.card)
            );
            assert!(item.card.to_bytes().len() < 200, "{:?}", item.card);
        }
        let labelled: Vec<_> = batch
            .items
            .iter()
            .filter(|item| !item.card.labels.is_empty())
            .map(|item| {
                (
                    item.card.kind.as_str(),
                    item.card.labels.iter().copied().collect::<Vec<_>>(),
                )
            })
            .collect();
        match fixture.name {
            "quill" => assert_eq!(
                labelled,
                [
                    ("Condition", vec![Label::R, Label::PSY]),
                    ("MedicationRequest", vec![Label::PSY]),
                    ("Observation", vec![Label::R, Label::PSY]),
                    ("DocumentReference", vec![Label::R, Label::PSY]),
                    ("Flag", vec![Label::V]),
                ]
            ),
            "tanqueray" => {
                assert_eq!(
                    labelled,
                    [
                        ("List", vec![Label::R]),
                        ("MedicationStatement", vec![Label::R])
                    ]
                );
                assert_eq!(
                    (batch.kind, batch.entries, batch.items.len()),
                    (BundleKind::Collection, 15, 14)
                );
                assert_eq!(
                    batch
                        .items
                        .iter()
                        .filter(|item| item.name.is_none())
                        .count(),
                    2
                );
            }
            _ => assert_eq!(labelled, []),
        }
    }
}

#[test]
fn a_record_is_the_exact_bytes_received() {
    let observation = "{ \"resourceType\" : \"Observation\",\n \"id\":\"o1\", \"subject\":{\"reference\":\"Patient/p\"},\"valueQuantity\":{\"value\":1.50e0} }";
    let body = Bytes::from(collection(&[&patient("p", ONE), observation]));
    let batch = post(body.clone()).unwrap();
    assert_eq!(batch.subject, number(ONE));
    assert_eq!(batch.items[1].text, observation.as_bytes());
    assert_eq!(
        batch.items[1].name.as_ref().unwrap().to_string(),
        "Observation/o1"
    );
    assert_eq!(batch.items[1].method, Method::Unstated);
    assert_eq!(batch.items[1].card.category, Category::Observations);
    let within = body.as_ptr() as usize..body.as_ptr() as usize + body.len();
    assert!(
        within.contains(&(batch.items[1].text.as_ptr() as usize)),
        "a slice, not a copy"
    );

    let alone = format!(" {observation}\n");
    let batch = put("Observation", "o1", alone.clone()).unwrap();
    assert_eq!(batch.items[0].text, alone.as_bytes());
    assert_eq!(batch.subject, Subject::Reference("Patient/p".to_owned()));
    assert_eq!(
        (batch.kind, batch.items[0].method),
        (BundleKind::Single, Method::Put)
    );
}

#[test]
fn one_resource_is_what_its_url_says() {
    assert_eq!(
        broken(put("Observation", "1", r#"{"resourceType":"Condition"}"#)),
        ("resourceType".into(), Rule::OtherType)
    );
    assert_eq!(
        broken(put(
            "Observation",
            "1",
            r#"{"resourceType":"Observation","id":"2"}"#
        )),
        ("Observation.id".into(), Rule::OtherId)
    );
    assert_eq!(
        broken(put(
            "Observation",
            "1",
            r#"{"resourceType":"Observation","id":1}"#
        )),
        ("Observation.id".into(), Rule::Id)
    );
    assert_eq!(
        broken(put("Observation", "1", r#"{"id":"1"}"#)),
        ("resourceType".into(), Rule::ResourceType)
    );
    assert_eq!(broken(put("Observation", "1", "[]")).1, Rule::NotAnObject);
    assert_eq!(
        broken(put("Bundle", "1", r#"{"resourceType":"Bundle"}"#)).1,
        Rule::BundlePut
    );
    assert_eq!(
        broken(put("Consent", "1", r#"{"resourceType":"Consent"}"#)).1,
        Rule::Consent
    );
    assert!(put("Observation", "1", r#"{"resourceType":"Observation"}"#).is_ok());
    assert!(put("Zebra", "1", r#"{"resourceType":"Zebra"}"#).is_ok());
    let error = put("Observation", "1", r#"{"resourceType":"Observation",}"#).unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (
            400,
            "line 1, column 31: a member name stands in double quotes"
        )
    );
}

#[test]
fn bundles_that_are_no_deposit() {
    let entry = r#"{"resource":{"resourceType":"Observation","id":"1"}}"#.to_owned();
    for kind in [
        "searchset",
        "history",
        "message",
        "transaction-response",
        "batch-response",
        "",
    ] {
        assert_eq!(
            broken(post(bundle(kind, std::slice::from_ref(&entry)))),
            ("Bundle.type".into(), Rule::BundleType),
            "{kind}"
        );
    }
    assert_eq!(
        broken(post(r#"{"resourceType":"Observation"}"#)).1,
        Rule::NotABundle
    );
    assert_eq!(
        broken(post(bundle("collection", &[]))),
        ("Bundle.entry".into(), Rule::Entries)
    );
    assert_eq!(
        broken(post(r#"{"resourceType":"Bundle","type":"batch"}"#)).1,
        Rule::Entries
    );
    let unnamed = r#"{"resource":{"resourceType":"Observation"}}"#.to_owned();
    assert_eq!(
        post(bundle("collection", &vec![unnamed.clone(); ENTRIES_MAX]))
            .unwrap()
            .items
            .len(),
        ENTRIES_MAX
    );
    assert_eq!(
        broken(post(bundle("collection", &vec![unnamed; ENTRIES_MAX + 1]))).1,
        Rule::Entries
    );
    assert_eq!(
        broken(post(bundle("collection", &["{}".into()]))),
        ("Bundle.entry[0].resource".into(), Rule::NoResource)
    );
    assert_eq!(
        broken(post(collection(&[r#"{"resourceType":"Bundle"}"#]))).1,
        Rule::NestedBundle
    );
    assert_eq!(
        broken(post(collection(&[r#"{"resourceType":"Consent"}"#]))).1,
        Rule::Consent
    );
    assert_eq!(
        broken(post(collection(&[
            r#"{"resourceType":"Observation","id":"a/b"}"#
        ])))
        .1,
        Rule::Id
    );
}

#[test]
fn full_urls_stand_once() {
    let entry = |url: &str, id: &str| {
        format!(r#"{{"fullUrl":{url},"resource":{{"resourceType":"Observation","id":"{id}"}}}}"#)
    };
    let twice = bundle(
        "collection",
        &[
            entry("\"urn:uuid:1\"", "1"),
            entry("\"urn:uuid\\u003a1\"", "2"),
        ],
    );
    assert_eq!(
        broken(post(twice)),
        ("Bundle.entry[1].fullUrl".into(), Rule::DuplicateFullUrl)
    );
    for wrong in ["\"\"", "1", &format!("\"{}\"", "x".repeat(513))] {
        assert_eq!(
            broken(post(bundle("collection", &[entry(wrong, "1")]))).1,
            Rule::FullUrl,
            "{wrong}"
        );
    }
    let batch = post(bundle("collection", &[entry("\"urn:uuid:1\"", "1")])).unwrap();
    assert_eq!(batch.items[0].full_url.as_deref(), Some("urn:uuid:1"));
}

#[test]
fn requests_of_a_transaction() {
    let entry = |request: &str, id: &str| {
        format!(r#"{{"resource":{{"resourceType":"Observation"{id}}},"request":{request}}}"#)
    };
    let one = |request: &str, id: &str| post(bundle("transaction", &[entry(request, id)]));
    let own = r#","id":"1""#;
    let named = one(r#"{"method":"PUT","url":"Observation/1"}"#, own).unwrap();
    assert_eq!(
        (
            named.kind,
            named.items[0].method,
            named.items[0].name.as_ref().unwrap().to_string().as_str()
        ),
        (BundleKind::Transaction, Method::Put, "Observation/1")
    );
    assert_eq!(
        one(r#"{"method":"PUT","url":"Observation/7"}"#, "")
            .unwrap()
            .items[0]
            .card
            .id
            .as_ref()
            .unwrap()
            .as_str(),
        "7"
    );
    let mut posted = one(r#"{"method":"POST","url":"Observation"}"#, "")
        .unwrap()
        .items
        .remove(0);
    assert_eq!(
        (
            posted.method,
            posted.name.is_none(),
            posted.card.id.is_none()
        ),
        (Method::Post, true, true)
    );
    posted.assign("new".try_into().unwrap());
    assert_eq!(
        (
            posted.name.unwrap().to_string().as_str(),
            posted.card.id.unwrap().as_str()
        ),
        ("Observation/new", "new")
    );
    assert!(
        one(r#"{"method":"POST","url":"Observation"}"#, own)
            .unwrap()
            .items[0]
            .name
            .is_some()
    );

    let rule = |request: &str| broken(one(request, own)).1;
    assert_eq!(
        broken(post(bundle(
            "batch",
            &[r#"{"resource":{"resourceType":"Observation"}}"#.into()]
        ))),
        ("Bundle.entry[0].request".into(), Rule::Method)
    );
    for method in ["GET", "DELETE", "PATCH", "put"] {
        assert_eq!(
            rule(&format!(r#"{{"method":"{method}","url":"Observation/1"}}"#)),
            Rule::Method,
            "{method}"
        );
    }
    assert_eq!(
        rule(r#"{"method":"PUT","url":"Observation/2"}"#),
        Rule::OtherId
    );
    for url in [
        "Observation",
        "Condition/1",
        "/Observation/1",
        "Observation/1/_history/1",
    ] {
        assert_eq!(
            rule(&format!(r#"{{"method":"PUT","url":"{url}"}}"#)),
            Rule::RequestUrl,
            "{url}"
        );
    }
    assert_eq!(
        rule(r#"{"method":"POST","url":"Condition"}"#),
        Rule::RequestUrl
    );
    assert_eq!(
        rule(r#"{"method":"PUT","url":"Observation?identifier=1"}"#),
        Rule::Conditional
    );
    assert_eq!(
        rule(r#"{"method":"POST","url":"Observation","ifNoneExist":"x"}"#),
        Rule::Conditional
    );
    let twice = vec![entry(r#"{"method":"PUT","url":"Observation/1"}"#, own); 2];
    assert_eq!(
        broken(post(bundle("transaction", &twice))),
        ("Bundle.entry[1].resource.id".into(), Rule::DuplicateName)
    );
}

#[test]
fn a_collection_that_repeats_itself_loses_nothing() {
    let place = |name: &str, id: &str| {
        format!(r#"{{"resourceType":"Location","id":"{id}","name":"{name}"}}"#)
    };
    let long = "x".repeat(64);
    let resources = [
        place("A", "17"),
        place("A", "17"),
        place("B", "17"),
        place("C", "17.2"),
        place("C", &long),
        place("D", &long),
        place("B", "17"),
    ];
    let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
    let batch = post(collection(&resources)).unwrap();
    let names: Vec<_> = batch
        .items
        .iter()
        .map(|item| {
            (
                item.entry,
                item.name.as_ref().map(|name| name.id.as_str().to_owned()),
            )
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        names,
        [
            (0, some("17")),
            (2, some("17.2")),
            (3, some("17.2.2")),
            (4, Some(long)),
            (5, None)
        ]
    );
    assert_eq!(batch.entries, 7);
    let many: Vec<String> = (0..9).map(|n| place(&n.to_string(), "1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(post(collection(&many[..8])).unwrap().items.len(), 8);
    assert_eq!(broken(post(collection(&many))).1, Rule::DuplicateName);
}

#[test]
fn whose_a_bundle_is() {
    let subject = |resources: &[&str]| post(collection(resources)).unwrap().subject;
    let about = |pointer: &str| format!(r#"{{"resourceType":"Observation","subject":{pointer}}}"#);
    let (one, reference) = (patient("p", ONE), about(r#"{"reference":"Patient/p"}"#));
    assert_eq!(subject(&[&reference, &one]), number(ONE));
    assert_eq!(
        subject(&[&reference]),
        Subject::Reference("Patient/p".into())
    );
    assert_eq!(
        subject(&[r#"{"resourceType":"Organization"}"#]),
        Subject::Unnamed
    );
    assert_eq!(
        subject(&[r#"{"resourceType":"Patient","id":"p"}"#, &reference]),
        Subject::Unnamed
    );
    assert_eq!(
        subject(&[&about(r#"{"reference":"urn:uuid:1"}"#)]),
        Subject::Unnamed
    );
    for pointer in [
        format!(r#"{{"identifier":{{"system":"{NHS}","value":"{ONE}"}}}}"#),
        format!(r#"{{"reference":"Patient/p","identifier":{{"system":"{NHS}","value":"{ONE}"}}}}"#),
        format!(r#"{{"reference":"Patient?identifier={NHS}|{ONE}"}}"#),
        format!(r##"{{"reference":"#x"}},"contained":[{{"resourceType":"Patient","id":"x","identifier":[{{"system":"{NHS}","value":"{ONE}"}}]}}]"##).replace("}},\"contained\"", "}},\"contained\""),
    ] {
        assert_eq!(subject(&[&about(&pointer)]), number(ONE), "{pointer}");
    }
    for harmless in [
        r#"{"reference":"Patient/p/_history/3"}"#,
        r#"{"reference":"https://gp.example/fhir/Patient/p"}"#,
        r#"{"reference":"Group/7"}"#,
        r#"{"display":"him"}"#,
        "null",
    ] {
        assert_eq!(
            subject(&[&one, &about(harmless)]),
            number(ONE),
            "{harmless}"
        );
    }
    let old = format!(
        r#"{{"resourceType":"Patient","identifier":[{{"use":"old","system":"{NHS}","value":"{TWO}"}},{{"system":"{NHS}","value":"{ONE}"}}]}}"#
    );
    assert_eq!(subject(&[&old]), number(ONE));
}

#[test]
fn two_patients_in_one_deposit() {
    let rule = |resources: &[&str]| broken(post(collection(resources)));
    let about = |pointer: &str| format!(r#"{{"resourceType":"Observation","subject":{pointer}}}"#);
    let one = patient("p", ONE);
    assert_eq!(
        rule(&[&one, &patient("q", ONE)]),
        ("Bundle.entry[1].resource".into(), Rule::TwoPatients)
    );
    for pointer in [
        r#"{"reference":"Patient/q"}"#.to_owned(),
        r#"{"reference":"urn:uuid:1"}"#.to_owned(),
        format!(r#"{{"identifier":{{"system":"{NHS}","value":"{TWO}"}}}}"#),
    ] {
        assert_eq!(
            rule(&[&one, &about(&pointer)]),
            (
                "Bundle.entry[1].resource.subject".into(),
                Rule::OtherPatient
            ),
            "{pointer}"
        );
        assert_eq!(rule(&[&about(&pointer), &one]).1, Rule::OtherPatient);
    }
    let (p, q) = (
        about(r#"{"reference":"Patient/p"}"#),
        about(r#"{"reference":"Patient/q"}"#),
    );
    assert_eq!(
        rule(&[&p, &q]),
        (
            "Bundle.entry[1].resource.subject".into(),
            Rule::OtherPatient
        )
    );
    let numbered = about(&format!(
        r#"{{"identifier":{{"system":"{NHS}","value":"{ONE}"}}}}"#
    ));
    assert_eq!(rule(&[&p, &numbered]), ("Bundle".into(), Rule::Unlinked));
    let split = format!(
        r#"{{"resourceType":"Patient","identifier":[{{"system":"{NHS}","value":"{TWO}"}},{{"system":"{NHS}","value":"{ONE}"}}]}}"#
    );
    assert_eq!(rule(&[&split]).1, Rule::TwoNumbers);
    assert_eq!(
        rule(&[&patient("p", "9990000019")]),
        (
            "Bundle.entry[0].resource.identifier.value".into(),
            Rule::NhsNumber
        )
    );
    assert_eq!(
        rule(&[&about(r#"{"reference":"Patient/a b"}"#)]).1,
        Rule::Reference
    );
    let elsewhere = format!(
        r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"fullUrl":"https://gp.example/Patient/p","resource":{one}}},{{"resource":{}}}]}}"#,
        about(r#"{"reference":"https://other.example/Patient/p"}"#)
    );
    assert_eq!(broken(post(elsewhere)).1, Rule::OtherPatient);
}

#[test]
fn a_bundles_label_is_on_every_entry() {
    let body = r#"{"resourceType":"Bundle","type":"collection","meta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"V"}]},
        "entry":[{"resource":{"resourceType":"Observation"}},{"resource":{"resourceType":"Flag","meta":{"security":[{"code":"SDV"}]}}}]}"#;
    let labels: Vec<Vec<Label>> = post(body)
        .unwrap()
        .items
        .iter()
        .map(|item| item.card.labels.iter().copied().collect())
        .collect();
    assert_eq!(labels, [vec![Label::V], vec![Label::V, Label::SDV]]);
}

#[test]
fn errors_repeat_nothing_of_the_body() {
    let secret = "9990000019";
    let error = post(collection(&[&patient("p", secret)])).unwrap_err();
    assert!(!error.to_string().contains(secret));
    assert_eq!(error.status(), 422);
    let error = post(format!(
        r#"{{"resourceType":"Bundle","x":"{secret}","x":1}}"#
    ))
    .unwrap_err();
    assert!(!error.to_string().contains(secret));
    assert_eq!(
        post(vec![b' '; 16 * 1024 * 1024 + 1]).unwrap_err().status(),
        413
    );
}
