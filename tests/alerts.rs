//! Alerts end to end: a gateway over real mutual TLS, a receiver of webhooks that goes away and comes back, a syslog
//! collector; restarts between, floods, and what the ledger says of all of it.

#![allow(
    clippy::unwrap_used,
    clippy::string_slice,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use common::*;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use sallyport::alerts::Kind;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A receiver of Security Event Tokens (RFC 8935) with a certificate under a CA of its own.
struct Receiver {
    got: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

/// Its certificate and key, and its CA as a file.
struct Papers {
    tls: Arc<rustls::ServerConfig>,
}

impl Papers {
    fn new(ca_file: &Path) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(ca_file, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let own = rcgen::KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&own, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                own.serialize_der().try_into().unwrap(),
            );
        Self {
            tls: Arc::new(tls.unwrap()),
        }
    }
}

impl Receiver {
    async fn listen(papers: &Papers, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address");
        let got: Arc<Mutex<Vec<String>>> = Arc::default();
        let (tls, kept) = (TlsAcceptor::from(Arc::clone(&papers.tls)), Arc::clone(&got));
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, kept) = (tls.clone(), Arc::clone(&kept));
                open.spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(|request: hyper::Request<_>| {
                        let kept = Arc::clone(&kept);
                        async move {
                            assert_eq!(
                                request.headers()["content-type"],
                                "application/secevent+jwt"
                            );
                            let body: hyper::body::Incoming = request.into_body();
                            let bytes = body.collect().await.unwrap().to_bytes();
                            kept.lock()
                                .unwrap()
                                .push(String::from_utf8(bytes.to_vec()).unwrap());
                            let mut response = Response::new(Empty::<bytes::Bytes>::new());
                            *response.status_mut() = StatusCode::ACCEPTED;
                            Ok::<_, std::convert::Infallible>(response)
                        }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { got, task }
    }

    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until something satisfies this, 20 seconds at most.
    async fn until(&self, mut enough: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
        let since = Instant::now();
        loop {
            let alerts: Vec<Value> = self
                .got
                .lock()
                .unwrap()
                .iter()
                .map(|it| alert(it))
                .collect();
            if enough(&alerts) {
                return alerts;
            }
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "it did not come: {alerts:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What a token says of its alert; the signature is checked elsewhere.
fn alert(token: &str) -> Value {
    let payload = B64.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    let mut alert = claims["events"]["urn:sallyport:alert:v1"].clone();
    alert["jti"] = claims["jti"].clone();
    alert
}

/// A stopped world whose config names these targets.
async fn told(targets: &str) -> tempfile::TempDir {
    let (dir, _) = Stage::new().await.stop().await;
    let path = dir.path().join("sallyport.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    // Why in front: an array of tables may not stand after the tables, as text that is only added would.
    std::fs::write(&path, config.replace("alerts = []", "") + targets).unwrap();
    dir
}

/// No practice of the world: the gateway does not clear by itself what it watches no feed of.
const UNWATCHED: &str = "Z90001";

/// A gateway that serves and delivers.
struct Delivering {
    served: Served,
    beside: tokio::task::JoinHandle<()>,
}

impl Delivering {
    async fn open(dir: &Path) -> Self {
        let served = Served::open(dir, None).await.expect("a gateway");
        let beside = tokio::spawn(sallyport::http::beside(Arc::clone(&served.app)));
        Self { served, beside }
    }

    async fn stop(self) {
        self.beside.abort();
        let _ = self.beside.await;
        self.served.stop().await;
    }

    async fn until_delivered(&self) {
        let since = Instant::now();
        let board = self.served.app.gateway.post().board();
        while board.targets().iter().any(|it| it.undelivered > 0) {
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "{:?}",
                board.targets()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn webhook(name: &str, address: SocketAddr) -> String {
    format!(
        "\n[[alerts]]\nname = \"{name}\"\nto = \"https://{address}/alerts\"\nca = \"receiver-ca.pem\"\n"
    )
}

/// An address that nobody listens on.
async fn vacant() -> SocketAddr {
    TcpListener::bind(any())
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_was_down_is_told_after_a_restart_and_told_once() {
    let address = vacant().await;
    let dir = told(&webhook("po", address)).await;
    let papers = Papers::new(&dir.path().join("receiver-ca.pem"));
    let gateway = Delivering::open(dir.path()).await;
    let app = &gateway.served.app;
    app.gateway
        .raise(Kind::FeedSilent, UNWATCHED)
        .await
        .unwrap();
    app.gateway
        .raise(Kind::FeedSilent, UNWATCHED)
        .await
        .unwrap();
    let board = app.gateway.post().board();
    let since = Instant::now();
    while board.targets()[0].failure.is_none() {
        assert!(
            since.elapsed() < Duration::from_secs(20),
            "an attempt fails"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        board.targets()[0].undelivered,
        1,
        "an alarm that stands is raised once"
    );
    gateway.stop().await;

    // The gateway comes back before its receiver does.
    let gateway = Delivering::open(dir.path()).await;
    assert_eq!(
        gateway.served.app.gateway.post().board().targets()[0].undelivered,
        1
    );
    let receiver = Receiver::listen(&papers, address).await;
    let alerts = receiver.until(|alerts| !alerts.is_empty()).await;
    assert_eq!(alerts[0]["alert"], "feed.silent");
    assert_eq!(alerts[0]["level"], "alert");
    assert_eq!(alerts[0]["of"], UNWATCHED);
    gateway.until_delivered().await;
    signed_by_the_gateway(&gateway, &receiver).await;
    gateway.stop().await;

    // What was delivered stays delivered: the ledger says so.
    let gateway = Delivering::open(dir.path()).await;
    let app = &gateway.served.app;
    assert!(
        app.gateway
            .post()
            .board()
            .stands(Kind::FeedSilent, UNWATCHED)
    );
    app.gateway
        .clear(Kind::FeedSilent, UNWATCHED)
        .await
        .unwrap();
    let alerts = receiver.until(|alerts| alerts.len() > 1).await;
    assert_eq!(alerts.len(), 2, "nothing came twice: {alerts:?}");
    assert_eq!(
        (&alerts[1]["event"], &alerts[1]["level"]),
        (&"alarm.clear".into(), &"notification".into())
    );
    gateway.until_delivered().await;
    gateway.stop().await;
    receiver.stop().await;
}

/// The token's signature verifies with the keys that the gateway publishes.
async fn signed_by_the_gateway(gateway: &Delivering, receiver: &Receiver) {
    let token = receiver.got.lock().unwrap()[0].clone();
    let verified = gateway
        .served
        .app
        .gateway
        .vault()
        .published()
        .iter()
        .any(|jwk| {
            let key = keys::PublicJwk::from_jwk(jwk).ok().unwrap();
            keys::verify_jws_es256(&key, "secevent+jwt", &token).is_ok()
        });
    assert!(verified, "{token}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_comes_as_few_letters_that_count_all_of_it() {
    let address = vacant().await;
    let dir = told(&webhook("po", address)).await;
    let papers = Papers::new(&dir.path().join("receiver-ca.pem"));
    let gateway = Delivering::open(dir.path()).await;
    for _ in 0..300 {
        let event = Kind::RecipientRegistered.notice("RJ1");
        gateway.served.app.gateway.tell(event).await.unwrap();
    }
    let receiver = Receiver::listen(&papers, address).await;
    let counted = |alerts: &[Value]| {
        alerts
            .iter()
            .map(|it| it["count"].as_u64().unwrap())
            .sum::<u64>()
    };
    let alerts = receiver.until(|alerts| counted(alerts) >= 300).await;
    assert_eq!(counted(&alerts), 300);
    assert!(alerts.len() <= 3, "{} letters", alerts.len());
    gateway.until_delivered().await;
    gateway.stop().await;
    receiver.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_down_holds_up_no_other() {
    let collector = tokio::net::UdpSocket::bind(any()).await.unwrap();
    let stream = TcpListener::bind(any()).await.unwrap();
    let targets = format!(
        "{}\n[[alerts]]\nname = \"udp\"\nto = \"syslog+udp://{}\"\n\n[[alerts]]\nname = \"tcp\"\nto = \"syslog+tcp://{}\"\n",
        webhook("po", vacant().await),
        collector.local_addr().unwrap(),
        stream.local_addr().unwrap(),
    );
    let dir = told(&targets).await;
    Papers::new(&dir.path().join("receiver-ca.pem"));
    let gateway = Delivering::open(dir.path()).await;
    gateway
        .served
        .app
        .gateway
        .raise(Kind::FeedGap, UNWATCHED)
        .await
        .unwrap();
    let mut bytes = vec![0; 4096];
    let datagram = tokio::time::timeout(Duration::from_secs(10), collector.recv(&mut bytes));
    let count = datagram.await.expect("in time").unwrap();
    let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
    assert!(
        text.starts_with("<105>1 ") && text.contains(" feed.gap "),
        "{text}"
    );
    assert!(text.contains("of=\"Z90001\""), "{text}");
    let (mut stream, _) = stream.accept().await.unwrap();
    let mut framed = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut framed)
        .await
        .unwrap();
    let framed = String::from_utf8(framed).unwrap();
    let (length, message) = framed.split_once(' ').unwrap();
    assert_eq!(
        length.parse::<usize>().unwrap(),
        message.len(),
        "octet counting (RFC 6587)"
    );
    let board = gateway.served.app.gateway.post().board();
    let since = Instant::now();
    let left = loop {
        let left: Vec<_> = board
            .targets()
            .into_iter()
            .filter(|it| it.undelivered > 0)
            .collect();
        if left.len() == 1 {
            break left;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "{left:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(left[0].target, "po");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_glass_is_told_within_seconds_and_names_nobody() {
    let address = vacant().await;
    let dir = told(&webhook("po", address)).await;
    let papers = Papers::new(&dir.path().join("receiver-ca.pem"));
    let gateway = Delivering::open(dir.path()).await;
    let receiver = Receiver::listen(&papers, address).await;
    let hospital = party_at(dir.path(), "hospital-a");
    let nhs = hale().nhs;
    let reply = hospital
        .ask(&break_glass(nhs, "unresponsive"), now_s())
        .await
        .unwrap();
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let since = Instant::now();
    let entry = receipt(&reply, &hospital.vkey).index;
    let alerts = receiver.until(|alerts| !alerts.is_empty()).await;
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    assert_eq!(alerts[0]["alert"], "break-glass");
    assert_eq!(
        (&alerts[0]["of"], &alerts[0]["entries"][0]),
        (&"RJ1".into(), &entry.into())
    );
    let all = receiver.got.lock().unwrap().join(" ") + &alerts[0].to_string();
    assert!(
        !all.contains(nhs) && !all.to_lowercase().contains("okafor"),
        "{all}"
    );

    // Without naming more, only the summary is opened; naming more wants a reason that says why.
    let granted = reply.json()["authorization_details"][0]["categories"].clone();
    assert_eq!(
        granted,
        json!(["problems", "medications", "allergies", "alerts"])
    );
    let wide = |reason: &str| {
        with(
            break_glass(nhs, reason),
            &[("categories", json!(["medications", "documents"]))],
        )
    };
    let reply = hospital.ask(&wide("unresponsive"), now_s()).await.unwrap();
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
    assert!(reply.text().contains("20 characters"), "{}", reply.text());
    let why = "unresponsive, and the discharge letter says what was given";
    assert_eq!(
        hospital.ask(&wide(why), now_s()).await.unwrap().status,
        StatusCode::OK
    );
    gateway.stop().await;
    receiver.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hourly_cap_holds_across_a_restart_and_stops_nobody_else() {
    let dir = told("").await;
    let gateway = Delivering::open(dir.path()).await;
    let hospital = party_at(dir.path(), "hospital-a");
    let ask = break_glass(hale().nhs, "found unconscious");
    let asks = (0..12).map(|_| hospital.ask(&ask, now_s()));
    let mut statuses = Vec::new();
    for reply in asks {
        statuses.push(reply.await.unwrap().status.as_u16());
    }
    let (permitted, capped) = statuses.split_at(10);
    assert!(permitted.iter().all(|it| *it == 200), "{statuses:?}");
    assert!(capped.iter().all(|it| *it == 429), "{statuses:?}");
    gateway.stop().await;

    let gateway = Delivering::open(dir.path()).await;
    let reply = hospital.ask(&ask, now_s()).await.unwrap();
    assert_eq!(
        reply.status,
        StatusCode::TOO_MANY_REQUESTS,
        "{}",
        reply.text()
    );
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3601).contains(&wait), "{wait}");
    let refusal = receipt(&reply, &hospital.vkey);
    assert_eq!(
        (&refusal.leaf["ev"], &refusal.leaf["al"]),
        (&"token.refuse".into(), &"break-glass.cap".into())
    );
    // A patient nobody knows is refused in the same words: the cap tells nothing of anybody.
    let nobody = hospital
        .ask(&break_glass(NOBODY, "found unconscious"), now_s())
        .await
        .unwrap();
    assert_eq!((nobody.status, nobody.text()), (reply.status, reply.text()));
    let nurse = with(ask, &[("practitioner", json!({ "id": "nurse-lind" }))]);
    assert_eq!(
        hospital.ask(&nurse, now_s()).await.unwrap().status,
        StatusCode::OK
    );
    let treated = hospital.ask(&treat(hale().nhs), now_s()).await.unwrap();
    assert_eq!(
        treated.status,
        StatusCode::OK,
        "care with a relationship has no cap"
    );
    let board = gateway.served.app.gateway.post().board();
    let capped = board.items(None, false, 100);
    let capped = capped
        .iter()
        .filter(|item| item.heading.code == Kind::BreakGlassCap.code());
    assert_eq!(capped.count(), 4, "each attempt beyond it is an item");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_cannot_be_used_is_named_at_start() {
    for (target, says) in [
        ("name = \"PO\"\nto = \"https://127.0.0.1:1/\"\n", "a-z"),
        ("name = \"po\"\nto = \"https://127.0.0.1:1/\"\n", "`ca`"),
        (
            "name = \"po\"\nto = \"http://127.0.0.1:1/\"\n",
            "must begin with",
        ),
        (
            "name = \"po\"\nto = \"syslog+tls://siem\"\nca = \"log.vkey\"\n",
            "no certificate",
        ),
        (
            "name = \"po\"\nto = \"unix:/dev/log\"\n[[alerts]]\nname = \"po\"\nto = \"unix:/x\"\n",
            "twice",
        ),
    ] {
        let dir = told(&format!("\n[[alerts]]\n{target}")).await;
        let error = Served::open(dir.path(), None)
            .await
            .err()
            .expect("no gateway");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_concerns_a_practice_names_whom_it_wants_told_and_whoever_it_named_first_stays() {
    let address = vacant().await;
    let dir = told(&webhook("bridge", address)).await;
    let papers = Papers::new(&dir.path().join("receiver-ca.pem"));
    let gateway = Delivering::open(dir.path()).await;
    let receiver = Receiver::listen(&papers, address).await;
    let admitted = json!({
        "organisation": {
            "ods": PRACTICE_A, "name": "practice-a", "role": "practice", "contacts": ["mailto:first@a.example"],
        },
    });
    let admitted = serde_json::from_value(admitted).unwrap();
    gateway
        .served
        .app
        .gateway
        .load(vec![admitted])
        .await
        .unwrap();
    // Whoever holds the practice's keys names another one.
    let practice = party_at(dir.path(), "practice-a");
    let token = token(&practice, &agreement_of(PRACTICE_A)).await;
    let body = json!({ "cooling_off_ms": 0, "contacts": ["mailto:thief@example.org"] });
    let path = format!("/practices/{PRACTICE_A}");
    let reply = send(
        &practice,
        hyper::Method::PUT,
        &path,
        &token,
        body.to_string(),
    )
    .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let changed = |alerts: &[Value]| alerts.iter().any(|it| it["alert"] == "settings.changed");
    let alerts = receiver.until(changed).await;
    let letter = alerts.iter().find(|it| it["alert"] == "settings.changed");
    let contacts = json!(["mailto:first@a.example", "mailto:thief@example.org"]);
    assert_eq!(letter.unwrap()["contacts"], contacts);
    gateway.stop().await;
    receiver.stop().await;
}
