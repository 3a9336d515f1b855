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
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::*;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use sallyport::clock::Clock;
use sallyport::connect::Reply;
use sallyport::connector::{Config, Connector};
use sallyport::dev::referral;
use sallyport::ledger::check;
use serde_json::{Value, json};

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
    let bare = [("authorization", format!("Bearer {}", connector.secret()))];
    let bare = [(bare[0].0, bare[0].1.as_str())];
    let second = plain(Method::GET, &next, &bare, "").await;
    assert_eq!(
        second.names(),
        whole[4..8],
        "some clients state nothing again for the next page"
    );
    assert_eq!(
        plain(Method::GET, &next, &[], "").await.status,
        StatusCode::UNAUTHORIZED
    );
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

/// What stands between the connector and the gateway: it has the gateway's own certificate, passes everything on, and
/// answers otherwise than the gateway did.
struct Liar {
    url: String,
    lie: Arc<Mutex<Lie>>,
    serving: sallyport::http::Serving,
}

type Lie = Box<dyn FnMut(&str, &mut Reply) + Send>;

impl Liar {
    async fn before(stage: &Stage) -> Self {
        let read = |name: &str| std::fs::read(stage.path().join(name)).unwrap();
        let tls = (
            read("server/cert.pem"),
            read("server/key.pem"),
            read("ca.pem"),
        );
        let tls = sallyport::http::tls(&tls.0, &tls.1, &tls.2).unwrap();
        let listener = sallyport::http::listen(any()).unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let honest: Lie = Box::new(|_, _| ());
        let (lie, http) = (Arc::new(Mutex::new(honest)), stage.party("hospital-a").http);
        let told = Arc::clone(&lie);
        let pass = move |request: axum::extract::Request| {
            let (told, http) = (Arc::clone(&told), http.clone());
            async move {
                let (head, body) = request.into_parts();
                let path = head.uri.path_and_query().unwrap().as_str().to_owned();
                let text = |name: &str| {
                    head.headers
                        .get(name)
                        .map(|it| it.to_str().unwrap().to_owned())
                };
                let (bearer, media) = (text("authorization"), text("content-type"));
                let mut headers = Vec::new();
                headers.extend(bearer.as_deref().map(|it| ("authorization", it)));
                headers.extend(media.as_deref().map(|it| ("content-type", it)));
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let mut reply = http.send(head.method, &path, &headers, body).await.unwrap();
                told.lock().unwrap()(&path, &mut reply);
                let mut answer = axum::response::Response::new(axum::body::Body::from(reply.body));
                *answer.status_mut() = reply.status;
                reply.headers.remove("content-length");
                *answer.headers_mut() = reply.headers;
                answer
            }
        };
        let serving = sallyport::http::serve(listener, tls, axum::Router::new().fallback(pass));
        Self { url, lie, serving }
    }

    fn lies(&self, lie: impl FnMut(&str, &mut Reply) + Send + 'static) {
        *self.lie.lock().unwrap() = Box::new(lie);
    }
}

/// Changes an answer with records, line by line.
fn lines(reply: &mut Reply, change: impl FnOnce(&mut Vec<Value>)) {
    let text = reply.text();
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    change(&mut lines);
    let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    reply.body = format!("{}\n", lines.join("\n")).into();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_lies_is_told_what_does_not_hold() {
    let stage = Stage::new().await;
    let liar = Liar::before(&stage).await;
    let mut config = config(&stage, "hospital-a");
    config.issuer = Some(config.url.clone());
    config.url.clone_from(&liar.url);
    let connector = Connector::hospital(&config, Clock::system())
        .await
        .expect("a connector");
    let nhs = hale().nhs;
    let path = format!("/Observation?patient={nhs}");
    let honest = ask(&connector, &path, nhs).await;
    assert_eq!(
        honest.names().len(),
        3,
        "between them, saying nothing of its own"
    );

    type Change = fn(&mut Vec<Value>);
    let on_lines: [(&str, Change, &str); 8] = [
        ("truncated", |lines| drop(lines.pop()), "cut short"),
        (
            "a record taken out, and not counted",
            |lines| {
                lines.remove(1);
                *lines.last_mut().unwrap() = json!({ "end": { "records": 2 } });
            },
            "one key for each record",
        ),
        (
            "a record twice, in place of another",
            |lines| lines[2] = lines[1].clone(),
            "does not name",
        ),
        (
            "one record under another's signature",
            |lines| {
                let signature = lines[1]["signature"].take();
                lines[1]["signature"] = lines[2]["signature"].take();
                lines[2]["signature"] = signature;
            },
            "does not hold",
        ),
        (
            "a record altered",
            |lines| {
                let text = lines[1]["record"].as_str().unwrap().to_owned();
                let (head, tag) = text.rsplit_once('.').unwrap();
                let other = if tag.starts_with('A') { "B" } else { "A" };
                lines[1]["record"] = format!("{head}.{other}{}", &tag[1..]).into();
            },
            "does not hold",
        ),
        (
            "a forged receipt",
            |lines| {
                let leaf = lines[0]["receipt"]["leaf"]
                    .as_str()
                    .unwrap()
                    .replace("record.release", "record.refuse");
                lines[0]["receipt"]["leaf"] = leaf.into();
            },
            "does not include its leaf",
        ),
        (
            "a receipt that opens to another purpose",
            |lines| {
                lines[0]["receipt"]["openings"]["context"]["value"]["purpose"] = "BTG".into();
            },
            "an opening does not fit",
        ),
        (
            "nothing found, where there was something",
            |lines| {
                lines[0].as_object_mut().unwrap().remove("ticket");
                lines.truncate(1);
                lines.push(json!({ "end": { "records": 0 } }));
            },
            "not the records that its ledger names",
        ),
    ];
    for (what, change, named) in on_lines {
        liar.lies(move |path, reply| {
            if path.starts_with("/fhir/") {
                lines(reply, change);
            }
        });
        let answer = ask(&connector, &path, nhs).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{what}");
        assert!(answer.says().contains(named), "{what}: {}", answer.says());
    }

    // Another answer than the one to this question: an older one, and a fresh one to something else.
    let old: Arc<Mutex<Option<(Bytes, HeaderMap)>>> = Arc::default();
    let first = Arc::clone(&old);
    liar.lies(move |path, reply| {
        if path.starts_with("/fhir/") {
            let mut first = first.lock().unwrap();
            match &*first {
                Some((body, headers)) => {
                    (reply.body, reply.headers) = (body.clone(), headers.clone())
                }
                None => *first = Some((reply.body.clone(), reply.headers.clone())),
            }
        }
    });
    assert_eq!(ask(&connector, &path, nhs).await.status, StatusCode::OK);
    let replayed = ask(&connector, &path, nhs).await;
    assert_eq!(replayed.status, StatusCode::BAD_GATEWAY);
    assert!(
        replayed.says().contains("old answer"),
        "{}",
        replayed.says()
    );
    // Held back once and given out for the next question of the same person: fresh, signed, and not the answer.
    let held: Arc<Mutex<Option<Bytes>>> = Arc::default();
    let back = Arc::clone(&held);
    liar.lies(move |path, reply| {
        if path.starts_with("/fhir/Condition") {
            *back.lock().unwrap() = Some(std::mem::take(&mut reply.body));
        } else if path.starts_with("/fhir/")
            && let Some(body) = back.lock().unwrap().take()
        {
            reply.body = body;
        }
    });
    let nothing = ask(&connector, &format!("/Condition?patient={nhs}"), nhs).await;
    assert!(nothing.says().contains("cut short"), "{}", nothing.says());
    let swapped = ask(&connector, &path, nhs).await;
    assert_eq!(swapped.status, StatusCode::BAD_GATEWAY);
    assert!(
        swapped.says().contains("another question"),
        "{}",
        swapped.says()
    );

    // Refusals and tokens without evidence, or with evidence of something else; and a gateway that is simply broken.
    liar.lies(|path, reply| {
        if path.starts_with("/fhir/") {
            reply.status = StatusCode::FORBIDDEN;
            reply.headers.remove("sallyport-receipt");
        }
    });
    let bare = ask(&connector, &path, nhs).await;
    assert!(bare.says().contains("shows no entry"), "{}", bare.says());
    liar.lies(|path, reply| {
        if path.starts_with("/fhir/") {
            reply.status = StatusCode::FORBIDDEN;
        }
    });
    let denied = ask(&connector, &path, nhs).await;
    assert!(
        denied.says().contains("its ledger says otherwise"),
        "{}",
        denied.says()
    );
    liar.lies(|path, reply| {
        if path == "/oauth/token" {
            reply.headers.remove("sallyport-receipt");
        }
    });
    let other = quill().nhs;
    let unproven = ask(&connector, &format!("/Observation?patient={other}"), other).await;
    assert!(
        unproven.says().contains("the token has no receipt"),
        "{}",
        unproven.says()
    );
    liar.lies(|path, reply| {
        if path.starts_with("/fhir/") {
            reply.status = StatusCode::INTERNAL_SERVER_ERROR;
            reply.body = Bytes::from_static(b"<html>oh no</html>");
        }
    });
    assert_eq!(
        ask(&connector, &path, nhs).await.status,
        StatusCode::BAD_GATEWAY
    );
    liar.lies(|_, _| ());
    assert_eq!(
        ask(&connector, &path, nhs).await.names().len(),
        3,
        "nothing of it stays"
    );
    connector.stop().await;
    liar.serving.stop().await;
}

/// The log as `/health` has it.
async fn standing(connector: &Connector) -> (StatusCode, Value) {
    let url = connector.base().replace("/fhir", "/health");
    let answer = plain(Method::GET, &url, &[], "").await;
    (answer.status, answer.json())
}

async fn until(connector: &Connector, holds: impl Fn(&(StatusCode, Value)) -> bool) -> Value {
    for _ in 0..200 {
        let now = standing(connector).await;
        if holds(&now) {
            return now.1;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("never so: {:?}", standing(connector).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_ends_the_connectors_trust() {
    let stage = Stage::new().await;
    let (dir, address) = stage.stop().await;
    let aside = folder();
    copy(&dir.path().join("data"), &aside.path().join("data"));
    copy(&dir.path().join("log"), &aside.path().join("log"));
    let stage = Stage::again(dir, address).await.unwrap();
    let connector = hospital(&stage).await;
    let nhs = hale().nhs;
    let path = format!("/Observation?patient={nhs}");
    for _ in 0..5 {
        assert_eq!(ask(&connector, &path, nhs).await.status, StatusCode::OK);
    }
    // Everything that was signed is proven to lie on one history, and the checkpoint is kept.
    let all = |(_, body): &(StatusCode, Value)| {
        body["log"]["checkpoints_to_prove"] == 0 && body["log"]["proven_entries"].as_u64() > Some(6)
    };
    let before = until(&connector, all).await["log"]["proven_entries"]
        .as_u64()
        .unwrap();
    let note = config(&stage, "hospital-a").keep.join("checkpoint");
    let note = std::fs::read_to_string(note).unwrap();
    assert_eq!(note.lines().nth(1).unwrap(), before.to_string());
    connector.stop().await;

    // The gateway is put back from a copy that was made before: sound in itself, and less than was signed.
    let stage = stage
        .after(|dir| {
            for part in ["data", "log"] {
                std::fs::remove_dir_all(dir.join(part)).unwrap();
                copy(&aside.path().join(part), &dir.join(part));
            }
        })
        .await
        .unwrap();
    let connector = hospital(&stage).await;
    let answer = ask(&connector, &path, nhs).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.says());
    let stopped = until(&connector, |(status, _)| {
        *status == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;
    assert!(
        stopped["why"].as_str().unwrap().contains("cut"),
        "{stopped}"
    );
    let answer = ask(&connector, &path, nhs).await;
    assert!(
        answer.says().contains("its log contradicts itself"),
        "{}",
        answer.says()
    );
    connector.stop().await;
}

/// Waits until this file is there, and gives it.
async fn there(path: &Path) -> String {
    for _ in 0..400 {
        if let Ok(text) = std::fs::read_to_string(path) {
            return text;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{} never came", path.display());
}

async fn sidecar(stage: &Stage) -> (Connector, Config) {
    let config = config(stage, "practice-a");
    let connector = Connector::practice(&config, Clock::system()).await;
    (connector.expect("a connector"), config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_practices_files_are_filed_once_and_what_is_refused_says_why() {
    let stage = Stage::new().await;
    let (connector, config) = sidecar(&stage).await;
    let inbox = config.inbox.clone().unwrap();
    let nhs = hale().nhs;
    let drop = |name: &str, text: &str| {
        // Why renamed into it: so does whoever does not want half a file taken.
        let hidden = inbox.join("records").join(".new");
        std::fs::write(&hidden, text).unwrap();
        std::fs::rename(hidden, inbox.join(name)).unwrap();
    };
    let resources: Vec<Value> = (0..3)
        .map(|n| observation(&format!("drop-{n}"), nhs, "2339-0", "2026-01-01"))
        .collect();
    drop(
        "records/history.json",
        &bundle("transaction", &resources).to_string(),
    );
    drop(
        "records/one.json",
        &observation("drop-one", nhs, "2339-0", "2026-01-01").to_string(),
    );
    drop("records/broken.json", "{\"resourceType\":");
    let consent = consent("drop-consent", nhs).to_string();
    drop("records/consent.json", &consent);
    let done = inbox.join("done");
    let answer = there(&done.join("history.json.answer.json")).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["answer"]["entry"].as_array().unwrap().len(), 3);
    assert!(answer["entry"].as_u64().is_some());
    there(&done.join("one.json")).await;
    let refused = inbox.join("refused");
    assert!(
        there(&refused.join("broken.json.reason.txt"))
            .await
            .contains("not a FHIR resource")
    );
    assert!(
        there(&refused.join("consent.json.reason.txt"))
            .await
            .contains("was not taken")
    );
    there(&refused.join("consent.json")).await;

    // Over loopback the same, with the gateway's own answer.
    let url = format!("{}/Observation/drop-two", connector.base());
    let bearer = format!("Bearer {}", connector.secret());
    let headers = [("authorization", bearer.as_str()), ("content-type", R4)];
    let two = observation("drop-two", nhs, "2339-0", "2026-01-01").to_string();
    let put = plain(Method::PUT, &url, &headers, &two).await;
    assert_eq!(
        (put.status, put.header("etag")),
        (StatusCode::CREATED, "W/\"1\"")
    );
    assert!(put.header("sallyport-entry").parse::<u64>().is_ok());
    let stranger = plain(Method::PUT, &url, &[("content-type", R4)], &two).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    let wrong = plain(
        Method::PUT,
        &url,
        &headers,
        &observation("other", nhs, "1", "2026").to_string(),
    )
    .await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    let all: BTreeSet<String> = names(&stage.party("hospital-a"), nhs)
        .await
        .into_iter()
        .collect();
    for id in ["drop-0", "drop-1", "drop-2", "drop-one", "drop-two"] {
        assert!(all.contains(&format!("Observation/{id}")), "{id}");
    }
    connector.stop().await;

    // Killed after the gateway's receipt was noted and before the file was moved: it is moved, and not filed again.
    let deposits = |receipts: &[Value]| {
        let is = |it: &&Value| it["leaf"].as_str().unwrap().contains("\"record.deposit\"");
        receipts.iter().filter(is).count()
    };
    let before = deposits(&kept(&stage, &config.keep));
    assert_eq!(before, 3);
    std::fs::rename(done.join("one.json"), inbox.join("records/one.json")).unwrap();
    let journal = config.keep.join("deposits.ndjson");
    // A line that a power cut left unfinished is no line.
    let mut text = std::fs::read_to_string(&journal).unwrap();
    text.push_str("{\"file\":\"records/th");
    std::fs::write(&journal, text).unwrap();
    let (connector, _) = sidecar(&stage).await;
    there(&done.join("one.json")).await;
    drop(
        "records/later.json",
        &observation("drop-later", nhs, "2339-0", "2026-01-01").to_string(),
    );
    there(&done.join("later.json")).await;
    assert_eq!(deposits(&kept(&stage, &config.keep)), before + 1);
    connector.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objections_are_numbered_once_and_arrive_after_a_gateway_that_was_away() {
    let stage = Stage::new().await;
    let (connector, config) = sidecar(&stage).await;
    let nhs = quill().nhs;
    assert!(!names(&stage.party("hospital-a"), nhs).await.is_empty());
    until(&connector, |(_, body)| body["objections"] == "sound").await;
    let url = connector.base().replace("/fhir", "/objections");
    let bearer = format!("Bearer {}", connector.secret());
    let headers = [("authorization", bearer.as_str())];
    let numbered = plain(
        Method::POST,
        &url,
        &headers,
        "{\"id\":\"o-1\",\"n\":7,\"patient\":\"9990000026\"}",
    )
    .await;
    assert!(
        numbered.says().contains("the connector numbers"),
        "{}",
        numbered.says()
    );

    // The gateway is away: the objection is taken, and stands on disk.
    let (dir, address) = stage.stop().await;
    let event = format!("{{\"id\":\"o-1\",\"patient\":\"{nhs}\"}}\n");
    let taken = plain(Method::POST, &url, &headers, &event).await;
    assert_eq!(
        taken.status,
        StatusCode::ACCEPTED,
        "{}",
        String::from_utf8_lossy(&taken.body)
    );
    assert_eq!(taken.json()["numbered"], 1);
    connector.stop().await;
    let stage = Stage::again(dir, address).await.unwrap();
    let (connector, _) = sidecar(&stage).await;
    until(&connector, |(_, body)| body["objections"] == "sound").await;
    let refused = stage
        .party("hospital-a")
        .ask(&treat(nhs), now_s())
        .await
        .unwrap();
    denied(&refused);
    let lines = std::fs::read_to_string(config.keep.join("objections.ndjson")).unwrap();
    assert_eq!(
        lines.lines().count(),
        2,
        "where it began, and one event: {lines}"
    );

    // Taken back through the folder; and who cares for the patient.
    let inbox = config.inbox.unwrap();
    let back = format!("{{\"id\":\"o-1\",\"patient\":\"{nhs}\",\"status\":\"inactive\"}}\n");
    std::fs::write(inbox.join("objections/back.ndjson"), back).unwrap();
    there(&inbox.join("done/back.ndjson")).await;
    let referral = json!({
        "resourceType": "ServiceRequest", "id": "UBRN-7", "status": "active", "intent": "order",
        "subject": { "identifier": { "system": NHS_NUMBER, "value": nhs } },
        "performer": [{ "identifier": { "system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "RJ1" } }],
    });
    std::fs::write(
        inbox.join("relationships/referral.json"),
        referral.to_string(),
    )
    .unwrap();
    there(&inbox.join("done/referral.json")).await;
    let details = with(
        treat(nhs),
        &[(
            "relationship",
            json!({ "type": "referral", "reference": "UBRN-7" }),
        )],
    );
    let mut answer = stage
        .party("hospital-a")
        .ask(&details, now_s())
        .await
        .unwrap();
    for _ in 0..50 {
        if answer.status == StatusCode::OK {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        answer = stage
            .party("hospital-a")
            .ask(&details, now_s())
            .await
            .unwrap();
    }
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    connector.stop().await;
}
