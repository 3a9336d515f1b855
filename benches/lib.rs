//! What the measurements share: a gateway of their own, with facts in its store.

#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::path::Path;

use policy::words::NhsNumber;
use sallyport::assembly;
use sallyport::clock::Clock;
use sallyport::config::Config;
use sallyport::facts::Statement;
use sallyport::gateway::Gateway;
use zeroize::Zeroizing;

/// A gateway of its own in `dir`, whose practice has so many agreements, each with another organisation.
pub async fn gateway(dir: &Path, patient: &NhsNumber, agreements: usize, now_ms: u64) -> Gateway {
    let until_ms = now_ms + 3_600_000;
    let file = dir.join("sallyport.toml");
    let text = r#"
        listen = "127.0.0.1:0"
        issuer = "https://gateway.example"
        data = "data"
        log = "log"
        origin = "gateway.example/log"
        [tls]
        certificate = "none"
        key = "none"
        client_ca = "none"
        [root]
        file = "root.key"
    "#;
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap();
    let passphrase = Zeroizing::new(b"a measurement".to_vec());
    let clock = Clock::system();
    assembly::found(&config, &passphrase, &clock).unwrap();
    let gateway = assembly::open(&config, &passphrase, clock).await.unwrap();

    let mut rows = vec![
        r#"{"organisation": {"ods": "A81001", "name": "Practice", "role": "practice"}}"#.to_owned(),
        r#"{"organisation": {"ods": "RJ1", "name": "Hospital", "role": "hospital"}}"#.to_owned(),
        r#"{"client": {"id": "RJ1", "name": "Hospital", "role": "hospital", "organisations": ["RJ1"], "certificates": []}}"#.to_owned(),
        format!(r#"{{"practitioner": {{"id": "dr-a", "organisation": "RJ1", "role": "doctor", "name": "Dr A", "trained_until_ms": {}}}}}"#, until_ms),
        format!(r#"{{"registration": {{"patient": "{}", "practice": "A81001"}}}}"#, patient.as_str()),
        format!(r#"{{"relationship": {{"patient": "{}", "practice": "A81001", "organisation": "RJ1", "kind": "referral", "reference": "ref-1", "corroborated": true, "from_ms": 0, "until_ms": {}}}}}"#, patient.as_str(), until_ms),
    ];
    rows.extend((0..agreements).map(|n| {
        let other = if n == agreements / 2 { "RJ1".to_owned() } else { format!("X{n:06}") };
        format!(
            r#"{{"agreement": {{"reference": "dsa-{n}", "practice": "A81001", "organisation": "{other}", "purposes": ["TREAT"], "categories": ["medications"], "from_ms": 0, "until_ms": {}}}}}"#,
            until_ms
        )
    }));
    let statements: Vec<Statement> = rows
        .iter()
        .map(|row| serde_json::from_str(row).unwrap())
        .collect();
    gateway.load(statements).await.unwrap();
    gateway
}
