//! The connectors from outside: plain FHIR on loopback over a world on mutual TLS; who may ask, what must be stated,
//! pages, versions, what is kept; and a gateway that lies, with every lie named.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use common::*;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use sallyport::clock::Clock;
use sallyport::connector::{Config, Connector};
use sallyport::dev::referral;
use sallyport::ledger::check;
use serde_json::Value;

const NHS_NUMBER: &str = "https://fhir.nhs.uk/Id/nhs-number";

fn config(stage: &Stage, name: &str) -> Config {
    let path = stage.path().join("clients").join(name).join("connect.toml");
    Config::load(&path).expect("the config that dev writes")
}

/// What came over loopback.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The text of its OperationOutcome.
    fn says(&self) -> String {
        let json = self.json();
        assert_eq!(json["resourceType"], "OperationOutcome", "{json}");
        json["issue"][0]["details"]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The names of the records of a Bundle.
    fn names(&self) -> Vec<String> {
        let bundle = self.json();
        assert_eq!(bundle["resourceType"], "Bundle", "{bundle}");
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        let matches = entries
            .iter()
            .filter(|entry| entry["search"]["mode"] == "match");
        let name = |entry: &Value| {
            let resource = &entry["resource"];
            let text = |member: &str| resource[member].as_str().unwrap().to_owned();
            format!("{}/{}", text("resourceType"), text("id"))
        };
        matches.map(name).collect()
    }

    fn link(&self, relation: &str) -> Option<String> {
        let bundle = self.json();
        let links = bundle["link"].as_array().unwrap();
        let link = links.iter().find(|link| link["relation"] == relation)?;
        Some(link["url"].as_str().unwrap().to_owned())
    }
}

/// One request, with these headers and no others.
async fn plain(method: Method, url: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    let answer = client.request(request.unwrap()).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// What a clinician's system states.
fn stated(connector: &Connector, nhs: &str) -> Vec<(String, String)> {
    [
        ("authorization", format!("Bearer {}", connector.secret())),
        ("sallyport-purpose", "TREAT".to_owned()),
        ("sallyport-practitioner", "dr-okafor".to_owned()),
        (
            "sallyport-relationship",
            format!("referral|{}", referral(nhs)),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

fn borrowed(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    let pair = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    pair.collect()
}

async fn ask(connector: &Connector, path: &str, nhs: &str) -> Answer {
    let headers = stated(connector, nhs);
    let url = match path.starts_with("http://") {
        true => path.to_owned(),
        false => format!("{}{path}", connector.base()),
    };
    plain(Method::GET, &url, &borrowed(&headers), "").await
}

async fn hospital(stage: &Stage) -> Connector {
    let config = config(stage, "hospital-a");
    Connector::hospital(&config, Clock::system())
        .await
        .expect("a connector")
}

/// All receipts that were kept, checked.
fn kept(stage: &Stage, folder: &Path) -> Vec<Value> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if !entry.file_name().to_string_lossy().starts_with("receipts-") {
            continue;
        }
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0);
        for line in std::fs::read_to_string(entry.path()).unwrap().lines() {
            let receipt: Value = serde_json::from_str(line).unwrap();
            check(&receipt, stage.vkey()).expect("a kept receipt holds");
            out.push(receipt);
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_fhir_comes_out_and_every_answer_leaves_its_receipt() {
    let stage = Stage::new().await;
    let connector = hospital(&stage).await;
    let nhs = hale().nhs;
    let by_identifier = format!("/Observation?patient.identifier={NHS_NUMBER}|{nhs}");
    let first = ask(&connector, &by_identifier, nhs).await;
    assert_eq!(
        first.status,
        StatusCode::OK,
        "{}",
        String::from_utf8_lossy(&first.body)
    );
    assert!(
        first
            .header("content-type")
            .starts_with("application/fhir+json")
    );
    assert_eq!(first.header("cache-control"), "no-store");
    let names = first.names();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.starts_with("Observation/")));
    let bundle = first.json();
    assert_eq!(bundle["type"], "searchset");
    let url = format!("{}/{}", connector.base(), names[0]);
    assert_eq!(bundle["entry"][0]["fullUrl"], url.as_str());

    // The same patient, said in the other ways that clients have.
    let form = format!("patient.identifier={NHS_NUMBER}%7C{nhs}");
    let mut headers = stated(&connector, nhs);
    headers.push((
        "content-type".to_owned(),
        "application/x-www-form-urlencoded".to_owned(),
    ));
    let url = format!("{}/Observation/_search", connector.base());
    let posted = plain(Method::POST, &url, &borrowed(&headers), &form).await;
    assert_eq!(posted.names(), names);
    let mut headers = stated(&connector, nhs);
    headers.push(("sallyport-patient".to_owned(), nhs.to_owned()));
    headers.push(("accept".to_owned(), "application/json".to_owned()));
    let url = format!("{}/Observation?_count=1000", connector.base());
    let by_header = plain(Method::GET, &url, &borrowed(&headers), "").await;
    assert_eq!(by_header.names(), names);

    // The very bytes that the practice deposited stand in the Bundle, and by id.
    let url = format!("{}/{}", connector.base(), names[0]);
    let one = plain(Method::GET, &url, &borrowed(&headers), "").await;
    assert_eq!(
        (one.status, one.header("etag")),
        (StatusCode::OK, "W/\"1\"")
    );
    let deposited: Value = serde_json::from_slice(hale().body).unwrap();
    let entry = deposited["entry"].as_array().unwrap().iter();
    let of = |entry: &&Value| {
        let resource = &entry["resource"];
        let (kind, id) = (&resource["resourceType"], &resource["id"]);
        format!("{}/{}", kind.as_str().unwrap(), id.as_str().unwrap()) == names[0]
    };
    let deposited = entry.clone().find(of).unwrap()["resource"].clone();
    assert_eq!(one.json(), deposited);
    assert_eq!(bundle["entry"][0]["resource"], deposited);

    let everything = ask(&connector, &format!("/Patient/{nhs}/$everything"), nhs).await;
    assert_eq!(everything.names().len(), 14);
    let entry: u64 = everything.header("sallyport-entry").parse().unwrap();

    // One token served all of it, and each answer has its receipt on disk.
    let receipts = kept(&stage, &config(&stage, "hospital-a").keep);
    let events: Vec<String> = receipts
        .iter()
        .map(|receipt| {
            let leaf: Value = serde_json::from_str(receipt["leaf"].as_str().unwrap()).unwrap();
            leaf["ev"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        events
            .iter()
            .filter(|event| *event == "token.issue")
            .count(),
        1
    );
    assert_eq!(
        events
            .iter()
            .filter(|event| *event == "record.release")
            .count(),
        5
    );
    let last: Value =
        serde_json::from_str(receipts.last().unwrap()["leaf"].as_str().unwrap()).unwrap();
    assert_eq!(last["i"], entry);
    connector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_walked_by_links_that_mean_nothing_to_anybody_else() {
    let stage = Stage::new().await;
    let connector = hospital(&stage).await;
    let nhs = hale().nhs;
    let whole = ask(&connector, &format!("/Patient/{nhs}/$everything"), nhs)
        .await
        .names();
    let mut page = ask(
        &connector,
        &format!("/Patient/{nhs}/$everything?_count=4"),
        nhs,
    )
    .await;
    let (mut walked, mut first_next) = (page.names(), None);
    while let Some(next) = page.link("next") {
        assert!(!next.contains(nhs), "a link tells nothing: {next}");
        first_next.get_or_insert(next.clone());
        // Clients that put _count everywhere put it here too.
        page = ask(&connector, &format!("{next}&_count=1000"), nhs).await;
        assert_eq!(page.status, StatusCode::OK);
        walked.extend(page.names());
    }
    assert_eq!(walked, whole);
    let again = ask(&connector, &page.link("self").unwrap(), nhs).await;
    assert_eq!(again.names(), page.names());

    // Another purpose, another person, another session: the link is nothing to them.
    let next = first_next.unwrap();
    let mut other = stated(&connector, nhs);
    other[2].1 = "nurse-lind".to_owned();
    let foreign = plain(Method::GET, &next, &borrowed(&other), "").await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let mut other = stated(&connector, nhs);
    other.push(("sallyport-patient".to_owned(), quill().nhs.to_owned()));
    let foreign = plain(Method::GET, &next, &borrowed(&other), "").await;
    assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
    let forged = format!("{}?_page=AAAAAAAAAAAAAAAAAAAAAA", connector.base());
    assert_eq!(
        ask(&connector, &forged, nhs).await.status,
        StatusCode::NOT_FOUND
    );
    connector.stop().await;
    let connector = hospital(&stage).await;
    let port = connector.base();
    let moved = format!("{port}?{}", next.split_once('?').unwrap().1);
    assert_eq!(
        ask(&connector, &moved, nhs).await.status,
        StatusCode::NOT_FOUND
    );
    connector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stated_is_named_and_what_is_refused_is_refused() {
    let stage = Stage::new().await;
    let connector = hospital(&stage).await;
    let nhs = hale().nhs;
    let url = format!("{}/Observation?patient={nhs}", connector.base());
    let before = kept(&stage, &config(&stage, "hospital-a").keep).len();
    for name in [
        "sallyport-purpose",
        "sallyport-practitioner",
        "sallyport-relationship",
    ] {
        let mut headers = stated(&connector, nhs);
        headers.retain(|(header, _)| header != name);
        let answer = plain(Method::GET, &url, &borrowed(&headers), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
        assert!(
            answer.says().to_lowercase().starts_with(name),
            "{}",
            answer.says()
        );
    }
    let emergency = |more: &[(&str, &str)]| {
        let mut headers = stated(&connector, nhs);
        headers.retain(|(header, _)| header != "sallyport-relationship");
        headers[1].1 = "BTG".to_owned();
        headers.extend(more.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())));
        headers
    };
    let reason = (
        "sallyport-reason",
        "Unconscious in resus; allergies unknown.",
    );
    for (more, named) in [
        (vec![], "Sallyport-Reason"),
        (vec![reason], "Sallyport-Acknowledged"),
        (
            vec![reason, ("sallyport-acknowledged", "yes")],
            "Sallyport-Acknowledged",
        ),
    ] {
        let answer = plain(Method::GET, &url, &borrowed(&emergency(&more)), "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert!(answer.says().starts_with(named), "{}", answer.says());
    }
    for (path, named) in [
        ("/Observation".to_owned(), "one patient"),
        (format!("/Observation?patient={nhs}&_sort=date"), "_sort"),
        (
            format!("/Observation?patient={nhs}&_cursor=AAAA"),
            "_cursor",
        ),
        (format!("/Observation?patient={nhs}&_count=0"), "_count"),
        ("/Observation?patient=1234567890".to_owned(), "patient"),
        ("/Observation/x".to_owned(), "Sallyport-Patient"),
        (
            format!("/Observation?patient={nhs}&subject={}", quill().nhs),
            "subject",
        ),
    ] {
        let answer = ask(&connector, &path, nhs).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(answer.says().contains(named), "{path}: {}", answer.says());
    }
    let folder = config(&stage, "hospital-a").keep;
    assert_eq!(
        kept(&stage, &folder).len(),
        before,
        "the gateway was never asked"
    );

    // Refused: one text, with the entry that says so; and its receipt is kept like any other.
    let refused = ask(
        &connector,
        &format!("/Observation?patient={}", ferreira().nhs),
        ferreira().nhs,
    )
    .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(refused.says().starts_with("Not permitted."));
    assert!(refused.header("sallyport-entry").parse::<u64>().is_ok());
    let nobody = ask(
        &connector,
        &format!("/Observation?patient={NOBODY}"),
        NOBODY,
    )
    .await;
    let plain_words = |text: &str| {
        text.chars()
            .filter(|c| !c.is_ascii_digit())
            .collect::<String>()
    };
    assert_eq!(plain_words(&nobody.says()), plain_words(&refused.says()));
    assert_eq!(kept(&stage, &folder).len(), before + 2);

    // The glass breaks once for all that is asked behind it.
    let headers = emergency(&[reason, ("sallyport-acknowledged", "true")]);
    let url = format!("{}/AllergyIntolerance?patient={nhs}", connector.base());
    let headers = borrowed(&headers);
    let both = tokio::join!(
        plain(Method::GET, &url, &headers, ""),
        plain(Method::GET, &url, &headers, "")
    );
    assert_eq!((both.0.names().len(), both.1.names().len()), (1, 1));
    let declared = kept(&stage, &folder)
        .iter()
        .filter(|receipt| {
            receipt["leaf"]
                .as_str()
                .unwrap()
                .contains("\"al\":\"break-glass\"")
        })
        .count();
    assert_eq!(declared, 1);
    connector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_software_of_this_machine_that_knows_the_secret_is_answered() {
    let stage = Stage::new().await;
    let connector = hospital(&stage).await;
    let nhs = hale().nhs;
    let url = format!("{}/Observation?patient={nhs}", connector.base());
    let without: Vec<_> = stated(&connector, nhs).into_iter().skip(1).collect();
    let answer = plain(Method::GET, &url, &borrowed(&without), "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    let mut wrong = stated(&connector, nhs);
    wrong[0].1 = "Bearer AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".to_owned();
    assert_eq!(
        plain(Method::GET, &url, &borrowed(&wrong), "").await.status,
        StatusCode::UNAUTHORIZED
    );

    // A page that rebound its own name to this address, and a page of another origin.
    for (name, value, status) in [
        (
            "host",
            "records.attacker.example",
            StatusCode::MISDIRECTED_REQUEST,
        ),
        ("host", "127.0.0.1:1", StatusCode::MISDIRECTED_REQUEST),
        ("origin", "http://attacker.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
    ] {
        let mut headers = stated(&connector, nhs);
        headers.push((name.to_owned(), value.to_owned()));
        let answer = plain(Method::GET, &url, &borrowed(&headers), "").await;
        assert_eq!(answer.status, status, "{name}: {value}");
        assert!(answer.says().to_lowercase().starts_with(name));
    }

    // What clients look at first needs no secret, and tells of nobody.
    let url = format!("{}/metadata", connector.base());
    let statement = plain(Method::GET, &url, &[("accept", "application/json")], "").await;
    assert_eq!(statement.json()["fhirVersion"], "4.0.1");
    assert_eq!(statement.json()["implementation"]["url"], connector.base());
    let html = plain(Method::GET, &url, &[("accept", "text/html")], "").await;
    assert_eq!(html.status, StatusCode::NOT_ACCEPTABLE);

    // Only this user reads the secret; only one connector keeps here; nobody listens elsewhere.
    let mut config = config(&stage, "hospital-a");
    use std::os::unix::fs::PermissionsExt as _;
    let secret = config.keep.join("secret");
    let mode = std::fs::metadata(&secret).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = Connector::hospital(&config, Clock::system()).await;
    assert!(
        second
            .err()
            .unwrap()
            .to_string()
            .contains("another connector")
    );
    connector.stop().await;
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = Connector::hospital(&config, Clock::system()).await;
    assert!(
        open.err()
            .unwrap()
            .to_string()
            .contains("others may read it")
    );
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    config.listen = "0.0.0.0:0".parse().unwrap();
    let outside = Connector::hospital(&config, Clock::system()).await;
    assert!(outside.err().unwrap().to_string().contains("loopback"));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_the_other_version_are_named_not_disguised() {
    let stage = Stage::new().await;
    let connector = hospital(&stage).await;
    let nhs = tanqueray().nhs;
    let path = format!("/Patient/{nhs}/$everything");
    let r4 = ask(&connector, &path, nhs).await;
    assert!(r4.names().is_empty());
    let entry = r4.json()["entry"][0].clone();
    assert_eq!(entry["search"]["mode"], "outcome");
    let text = entry["resource"]["issue"][0]["details"]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(text.contains("FHIR 3.0"), "{text}");
    let mut headers = stated(&connector, nhs);
    let version = "application/fhir+json; fhirVersion=3.0";
    headers.push(("accept".to_owned(), version.to_owned()));
    let url = format!("{}{path}", connector.base());
    let stu3 = plain(Method::GET, &url, &borrowed(&headers), "").await;
    assert_eq!(stu3.header("content-type"), version);
    let names: BTreeSet<String> = stu3.names().into_iter().collect();
    assert!(names.len() > 3, "{names:?}");
    connector.stop().await;
}
