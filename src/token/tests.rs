//! What a client assertion may look like: each form that an honest client was seen to send, and the forms made to deceive.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests may panic"
)]

use super::*;

const ISSUER: &str = "https://gateway.example";
const NOW: u64 = 1_790_000_000;

struct NoKeys;

impl Signs for NoKeys {
    fn sign(&self, _: &str, _: &[u8]) -> String {
        String::new()
    }
    fn verifying(&self) -> Vec<String> {
        Vec::new()
    }
    fn epoch(&self) -> u64 {
        0
    }
}

/// The two kinds of key a client may register.
enum Pair {
    P256(keys::Signer),
    Ed25519(keys::NoteSigner),
}

impl Pair {
    fn jwk(&self) -> Value {
        match self {
            Self::P256(pair) => serde_json::from_str(&pair.jwk_public()).unwrap(),
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": B64.encode(pair.public()) })
            }
        }
    }

    fn jws(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", B64.encode(header), B64.encode(claims));
        let signature = match self {
            Self::P256(pair) => pair.sign_raw(message.as_bytes()),
            Self::Ed25519(pair) => pair.sign(message.as_bytes()),
        };
        format!("{message}.{}", B64.encode(signature))
    }
}

fn claims() -> Value {
    json!({ "iss": "RJ1", "sub": "RJ1", "aud": ISSUER, "jti": "j-1", "iat": NOW, "exp": NOW + 60 })
}

fn believed(pair: &Pair, text: &str) -> Result<(), &'static str> {
    let tokens = Tokens::new(ISSUER.to_owned(), Arc::new(NoKeys));
    let said = tokens.assertion("RJ1", &pair.jwk(), text, NOW);
    said.map(drop).map_err(|why| why.0)
}

fn pairs() -> [Pair; 2] {
    [
        Pair::P256(keys::Signer::generate()),
        Pair::Ed25519(keys::NoteSigner::generate()),
    ]
}

#[test]
fn each_algorithm_goes_by_its_names_and_no_other() {
    for pair in pairs() {
        let own: &[&str] = match &pair {
            Pair::P256(_) => &["ES256"],
            Pair::Ed25519(_) => &["Ed25519", "EdDSA"],
        };
        for alg in [
            "ES256", "Ed25519", "EdDSA", "none", "HS256", "ES384", "RS256", "es256", "",
        ] {
            let header = json!({ "alg": alg }).to_string();
            let said = believed(&pair, &pair.jws(&header, &claims().to_string()));
            if own.contains(&alg) {
                assert_eq!(said, Ok(()), "{alg}");
            } else {
                assert!(said.unwrap_err().contains("signature"), "{alg}");
            }
        }
    }
}

#[test]
fn what_clients_send_beside_is_taken_and_what_changes_the_meaning_is_not() {
    let [pair, _] = pairs();
    let alg = match pair {
        Pair::P256(_) => "ES256",
        Pair::Ed25519(_) => "EdDSA",
    };
    for more in [
        r#","typ":"JWT""#,
        r#","kid":"whatever""#,
        r#","typ":"JOSE","x":1"#,
    ] {
        let header = format!(r#"{{"alg":"{alg}"{more}}}"#);
        assert_eq!(
            believed(&pair, &pair.jws(&header, &claims().to_string())),
            Ok(()),
            "{more}"
        );
    }
    for more in [
        r#","crit":["exp"]"#,
        r#","crit":null"#,
        r#","b64":false"#,
        r#","zip":"DEF""#,
        r#","alg":"none""#,
        r#","typ":1"#,
    ] {
        let header = format!(r#"{{"alg":"{alg}"{more}}}"#);
        assert!(
            believed(&pair, &pair.jws(&header, &claims().to_string())).is_err(),
            "{more}"
        );
    }
}

#[test]
fn audiences_and_times_of_the_clients_seen() {
    let [pair, _] = pairs();
    let said = |changes: Value| {
        let mut claims = claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        believed(&pair, &pair.jws(r#"{"alg":"ES256"}"#, &claims.to_string()))
    };
    let endpoint = format!("{ISSUER}/oauth/token");
    for aud in [
        json!(ISSUER),
        json!(endpoint),
        json!([ISSUER]),
        json!([ISSUER, endpoint]),
    ] {
        assert_eq!(said(json!({ "aud": aud })), Ok(()), "{aud}");
    }
    for aud in [
        json!(format!("{ISSUER}/")),
        json!("RJ1"),
        json!([]),
        json!([ISSUER, "https://other.example"]),
    ] {
        assert!(said(json!({ "aud": aud })).unwrap_err().contains("aud"));
    }
    assert_eq!(said(json!({ "exp": NOW + 300, "nbf": NOW })), Ok(()));
    let hour = said(json!({ "exp": NOW + 3600 })).unwrap_err();
    assert!(hour.contains("at most 300 seconds after iat"), "{hour}");
}

#[test]
fn a_text_that_is_cut_bent_or_padded_is_not_believed() {
    let [pair, other] = pairs();
    let good = pair.jws(r#"{"alg":"ES256"}"#, &claims().to_string());
    assert_eq!(believed(&pair, &good), Ok(()));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let none = B64.encode([0; 64]);
    for bad in [
        message.to_owned(),
        format!("{message}."),
        format!("{good}."),
        format!("{good}="),
        format!("{good} "),
        format!("{message}.{none}"),
        format!("{message}..{signature}"),
        other.jws(r#"{"alg":"ES256"}"#, &claims().to_string()),
        "A".repeat(TOKEN_BYTES + 1),
        String::new(),
    ] {
        assert!(believed(&pair, &bad).is_err(), "{bad}");
    }
}

/// A published file beside the checkout, or a loud line and nothing.
fn published(name: &str) -> Option<Value> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let Ok(text) = std::fs::read_to_string(path.join(name)) else {
        eprintln!("SKIPPED: no {name} in ../shared/vectors");
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// C2SP/wycheproof: what is valid under a key of ours is taken, and nothing else is, whatever the key.
#[test]
fn published_vectors_wycheproof_jws() {
    for (name, taken, refused) in [
        ("json_web_signature_test.json", 2, 399),
        ("json_web_crypto_test.json", 1, 47),
        ("json_web_key_test.json", 0, 26),
    ] {
        let Some(file) = published(&format!("wycheproof/{name}")) else {
            return;
        };
        let (mut yes, mut no, mut wrong) = (0, 0, Vec::new());
        for group in file["testGroups"].as_array().unwrap() {
            let key = if group["public"].is_object() {
                &group["public"]
            } else {
                &group["private"]
            };
            for test in group["tests"].as_array().unwrap() {
                let Some(text) = test["jws"].as_str() else {
                    continue;
                };
                let key = VerifyingKey::from_jwk(key);
                let is_ours = key.is_some();
                let held = key.is_some_and(|key| payload(text, &key, None).is_ok());
                if held != (is_ours && test["result"] == "valid") {
                    wrong.push(format!(
                        "{}: {} {}",
                        test["tcId"], test["comment"], test["flags"]
                    ));
                }
                if held {
                    yes += 1;
                } else {
                    no += 1;
                }
            }
        }
        assert_eq!(wrong, Vec::<String>::new(), "{name}");
        assert_eq!((yes, no), (taken, refused), "{name}");
    }
}

/// RFC 7520 and its companion for curve 25519: what is signed as we take it holds, every other form is refused.
#[test]
fn published_vectors_rfc_7520_jws() {
    let Some(file) = published("rfc7520/curve25519/jws.json") else {
        return;
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let key = VerifyingKey::from_jwk(&file["input"]["key"]).unwrap();
    let said = payload(&text(&file["output"]["compact"]), &key, None).unwrap();
    assert_eq!(said, text(&file["input"]["payload"]).as_bytes());
    for name in [
        "4_1.rsa_v15_signature",
        "4_2.rsa-pss_signature",
        "4_3.ecdsa_signature",
        "4_4.hmac-sha2_integrity_protection",
        "4_5.signature_with_detached_content",
    ] {
        let file = published(&format!("rfc7520/jws/{name}.json")).unwrap();
        assert!(
            VerifyingKey::from_jwk(&file["input"]["key"]).is_none(),
            "{name}"
        );
        let compact = text(&file["output"]["compact"]);
        assert_eq!(
            payload(&compact, &key, None),
            Err(Unsigned::OtherKey),
            "{name}"
        );
    }
}
