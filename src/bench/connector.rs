//! What the connectors add: to an answer of 200 records, and to a whole history of 5,000 that is deposited through one
//! and read back through the other. Local software is one client that asks again as soon as it is answered.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::{BenchError, MANY_BYTES, details, file_all, numbered, record};
use crate::clock::Clock;
use crate::connect::OpenError;
use crate::connector::{Config, Connector, StartError};
use crate::dev::{World, referral};

const HISTORY: usize = 5_000;
const ANSWERS: usize = 100;

fn wrong(text: impl std::fmt::Display) -> BenchError {
    BenchError::Open(OpenError::Broken(text.to_string()))
}

impl From<StartError> for BenchError {
    fn from(error: StartError) -> Self {
        wrong(error)
    }
}

/// Local software.
struct Local {
    client: Client<HttpConnector, Full<Bytes>>,
    bearer: String,
    nhs: String,
}

impl Local {
    fn new(connector: &Connector, nhs: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            bearer: format!("Bearer {}", connector.secret()),
            nhs: nhs.to_owned(),
        }
    }

    async fn send(&self, url: &str, body: Option<Bytes>) -> Result<Bytes, BenchError> {
        let method = match body {
            Some(_) => "POST",
            None => "GET",
        };
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("authorization", &self.bearer)
            .header("content-type", "application/fhir+json; fhirVersion=4.0")
            .header("sallyport-patient", &self.nhs)
            .header("sallyport-purpose", "TREAT")
            .header("sallyport-practitioner", "dr-okafor")
            .header(
                "sallyport-relationship",
                format!("referral|{}", referral(&self.nhs)),
            )
            .body(Full::new(body.unwrap_or_default()))
            .map_err(wrong)?;
        let answer = self.client.request(request).await.map_err(wrong)?;
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(wrong)?
            .to_bytes();
        match status {
            StatusCode::OK => Ok(body),
            status => Err(wrong(format!(
                "{status}: {}",
                String::from_utf8_lossy(&body)
            ))),
        }
    }
}

fn config(world: &World, name: &str) -> Result<Config, BenchError> {
    let own = world.dir().join("clients").join(name);
    Ok(Config::load(&own.join("connect.toml"))?)
}

fn milliseconds(mut all: Vec<Duration>) -> f64 {
    all.sort_unstable();
    let middle = all.get(all.len() / 2).copied().unwrap_or_default();
    (middle.as_secs_f64() * 100_000.0).round() / 100.0
}

/// Measures both connectors in a world of their own.
pub(super) async fn measure(
    folder: &Path,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    let patients = [numbered(0), numbered(1)];
    let any = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    let world = World::open(&folder.join("connector"), any, &patients).await?;
    let practice = std::sync::Arc::new(world.party("practice-a")?);
    file_all(&practice, patients.get(..1).unwrap_or_default(), said).await?;
    let hospital = Connector::hospital(&config(&world, "hospital-a")?, Clock::system()).await?;
    let [many, history] = &patients;
    answers(&world, &hospital, &many.nhs, said).await?;
    let sidecar = Connector::practice(&config(&world, "practice-a")?, Clock::system()).await?;
    whole(&sidecar, &hospital, &history.nhs, said).await?;
    sidecar.stop().await;
    hospital.stop().await;
    world.stop().await?;
    Ok(())
}

/// 200 records, as ciphertext from the gateway and as FHIR from the connector, turn about.
async fn answers(
    world: &World,
    connector: &Connector,
    nhs: &str,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    let party = world.party("hospital-a")?;
    let token = party.token(&details(nhs), Clock::system().now_s()).await?;
    let path = format!("/Patient/{nhs}/$everything?_count=200");
    let local = Local::new(connector, nhs);
    let (mut direct, mut through, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ANSWERS {
        let began = Instant::now();
        party.read(&format!("/fhir{path}"), &token).await?;
        direct.push(began.elapsed());
        let began = Instant::now();
        let answer = local
            .send(&format!("{}{path}", connector.base()), None)
            .await?;
        through.push(began.elapsed());
        bytes = answer.len();
    }
    let (direct, through) = (milliseconds(direct), milliseconds(through));
    let added = ((through - direct) * 100.0).round() / 100.0;
    let figures = json!({
        "gateway_p50_ms": direct, "connector_p50_ms": through, "added_p50_ms": added, "answers": ANSWERS, "bytes": bytes,
    });
    said("connector: answers of 200 records, one client", &figures);
    Ok(())
}

/// One history, in through the practice's connector and out through the hospital's.
async fn whole(
    practice: &Connector,
    hospital: &Connector,
    nhs: &str,
    said: &mut dyn FnMut(&str, &Value),
) -> Result<(), BenchError> {
    let entry = |n: usize| {
        let resource = record(2_000_000 + n, MANY_BYTES);
        let resource: Value = serde_json::from_slice(&resource).unwrap_or_default();
        json!({ "resource": resource })
    };
    let entries: Vec<Value> = (0..HISTORY).map(entry).collect();
    let history = json!({ "resourceType": "Bundle", "type": "collection", "entry": entries });
    let history = Bytes::from(history.to_string());
    let bytes = history.len();
    let began = Instant::now();
    Local::new(practice, nhs)
        .send(&practice.base(), Some(history))
        .await?;
    let seconds = |began: Instant| (began.elapsed().as_secs_f64() * 100.0).round() / 100.0;
    let figures = json!({ "records": HISTORY, "bytes": bytes, "seconds": seconds(began) });
    said("connector: a history deposited", &figures);
    let local = Local::new(hospital, nhs);
    let (began, mut read) = (Instant::now(), 0);
    let mut next = Some(format!(
        "{}/Patient/{nhs}/$everything?_count=200",
        hospital.base()
    ));
    while let Some(url) = next {
        let page: Value =
            serde_json::from_slice(&local.send(&url, None).await?).unwrap_or_default();
        read += page
            .get("entry")
            .and_then(Value::as_array)
            .map_or(0, Vec::len);
        let links = page.get("link").and_then(Value::as_array);
        let link = links
            .into_iter()
            .flatten()
            .find(|link| link.get("relation") == Some(&"next".into()));
        next = link.and_then(|link| link.get("url")?.as_str().map(str::to_owned));
    }
    let figures = json!({ "records": read, "seconds": seconds(began) });
    said("connector: the history read back", &figures);
    match read {
        HISTORY => Ok(()),
        read => Err(wrong(format!("{read} of {HISTORY} records came back"))),
    }
}
