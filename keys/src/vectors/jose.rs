//! RFC 7518 appendix C, RFC 7520, and Wycheproof's JOSE files: what must open opens, and no other form is taken.

use std::path::Path;

use aws_lc_rs::agreement as lc;
use aws_lc_rs::key_wrap::{AES_128, AesKek, KeyWrap};
use ring::aead;
use serde_json::Value;

use super::{cases, is, published, unhex};
use crate::agreement::{concat_kdf, unwrap};
use crate::dek::Dek;
use crate::gcm;
use crate::jose::{b64, parts, unb64, unb64_exact};
use crate::jwk::{Point, PointMembers, PublicJwk};
use crate::open_key::OpenKey;
use crate::receive::open_ticket;
use crate::record::open_record;
use crate::secret::Secret;
use crate::sign::{Signer, verify_any};

#[test]
fn rfc_7518_appendix_c() {
    let z = [
        158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110,
        163, 218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
    ];
    let key = concat_kdf(&z, "A128GCM", b"Alice", b"Bob", 128);
    assert_eq!(b64(&key.expose()[..16]), "VqqN6vgjbSBcIijNcacQGg");
}

/// The RFC's curve is P-384 and its ciphers have 128 bits: key derivation and reading are ours, the rest is the test's.
#[test]
fn rfc_7520_section_5_4() {
    let name =
        "5_4.key_agreement_with_key_wrapping_using_ecdh-es_and_aes-keywrap_with_aes-gcm.json";
    let Some(file) = published(&format!("rfc7520/jwe/{name}")) else {
        return;
    };
    let text = |value: &Value| unb64(value.as_str().unwrap()).unwrap();
    let compact = file["output"]["compact"].as_str().unwrap();
    let [header, wrapped, iv, ciphertext, tag] = parts(compact, 4096).unwrap();

    let d = text(&file["input"]["key"]["d"]);
    let mine = lc::PrivateKey::from_private_key(&lc::ECDH_P384, &d).unwrap();
    let epk = &file["encrypting_key"]["epk"];
    let epk = [vec![4], text(&epk["x"]), text(&epk["y"])].concat();
    let theirs = lc::UnparsedPublicKey::new(&lc::ECDH_P384, epk);
    let kek = lc::agree(&mine, theirs, (), |z| {
        Ok(concat_kdf(z, "ECDH-ES+A128KW", b"", b"", 128))
    });

    let mut cek = [0; 16];
    let kek = AesKek::new(&AES_128, &kek.unwrap().expose()[..16]).unwrap();
    kek.unwrap(&unb64(wrapped).unwrap(), &mut cek).unwrap();
    assert_eq!(b64(&cek), file["generated"]["cek"]);
    let cipher = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_128_GCM, &cek).unwrap());
    let mut bytes = [unb64(ciphertext).unwrap(), unb64(tag).unwrap()].concat();
    let nonce = aead::Nonce::assume_unique_for_key(unb64_exact(iv).unwrap());
    let opened = cipher.open_in_place(nonce, aead::Aad::from(header.as_bytes()), &mut bytes);
    assert_eq!(
        opened.unwrap(),
        file["input"]["plaintext"].as_str().unwrap().as_bytes()
    );
}

/// The RFC's other forms, each honest and none of them ours: nothing here takes one.
#[test]
fn rfc_7520_every_other_form_is_refused() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/rfc7520");
    let (mine, signer) = (OpenKey::generate(), Signer::generate());
    let (keys, dek) = (
        [signer.public().clone()],
        Dek::from_secret(Secret::random()),
    );
    let mut count = 0;
    for folder in ["jwe", "jws", "curve25519", "."] {
        let Ok(entries) = std::fs::read_dir(root.join(folder)) else {
            eprintln!("SKIPPED: no rfc7520/{folder} in ../shared/vectors");
            return;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let outputs = [
                &file["output"],
                &file["sign"]["output"],
                &file["encrypt"]["output"],
            ];
            let texts = outputs.map(|output| {
                let forms = ["compact", "json", "json_flat"].map(|form| &output[form]);
                forms.map(|text| {
                    text.as_str()
                        .map_or_else(|| text.to_string(), str::to_owned)
                })
            });
            for text in texts.iter().flatten().filter(|text| *text != "null") {
                assert!(open_ticket(&mine, &keys, text).is_err(), "{path:?}");
                assert!(open_record(&dek, "", text).is_err(), "{path:?}");
                assert!(verify_any(&keys, "JWT", text).is_err(), "{path:?}");
                count += 1;
            }
        }
    }
    assert!(count >= 50, "{count}");
}

/// The RFC's companion for curve 25519: our derivation of its key opens its text (`ECDH-ES`, so there is no wrap).
#[test]
fn rfc_7520_curve_25519() {
    let Some(file) = published("rfc7520/curve25519/ecdh-es.json") else {
        return;
    };
    let text = |value: &Value| unb64(value.as_str().unwrap()).unwrap();
    let compact = file["output"]["compact"].as_str().unwrap();
    let [header, none, iv, ciphertext, tag] = parts(compact, 4096).unwrap();
    let said: Value = serde_json::from_slice(&unb64(header).unwrap()).unwrap();
    let d = text(&file["input"]["key"]["d"]);
    let mine = lc::PrivateKey::from_private_key(&lc::X25519, &d).unwrap();
    let theirs = lc::UnparsedPublicKey::new(&lc::X25519, text(&said["epk"]["x"]));
    let cek = lc::agree(&mine, theirs, (), |z| {
        Ok(concat_kdf(z, "A128GCM", b"", b"", 128))
    });
    let cek = &cek.unwrap().expose()[..16].to_vec();
    let cipher = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_128_GCM, cek).unwrap());
    let mut bytes = [unb64(ciphertext).unwrap(), unb64(tag).unwrap()].concat();
    let nonce = aead::Nonce::assume_unique_for_key(unb64_exact(iv).unwrap());
    let opened = cipher.open_in_place(nonce, aead::Aad::from(header.as_bytes()), &mut bytes);
    let plaintext = file["input"]["plaintext"].as_str().unwrap();
    assert_eq!((none, &*opened.unwrap()), ("", plaintext.as_bytes()));
}

/// Opens `ECDH-ES+A256KW` with our agreement, derivation, unwrap and cipher, whatever else the header says.
fn open_loosely(private: &Value, jwe: &str) -> Option<Vec<u8>> {
    let mut jwk = private.clone();
    jwk.as_object_mut().unwrap().retain(|name, _| name != "alg");
    let key = OpenKey::from_jwk(&jwk.to_string()).ok()?;
    let [header, wrapped, iv, ciphertext, tag] = parts(jwe, 65_536)?;
    let said: Value = serde_json::from_slice(&unb64(header)?).ok()?;
    let (epk, none) = (&said["epk"], Value::from(""));
    let party = |name: &str| unb64(said.get(name).unwrap_or(&none).as_str()?);
    let epk = PointMembers {
        crv: epk["crv"].as_str()?,
        kty: epk["kty"].as_str()?,
        x: epk["x"].as_str()?,
        y: epk["y"].as_str(),
    };
    let epk = Point::from_members(&epk).ok()?;
    let kek = key.agree(&epk, &party("apu")?, &party("apv")?)?;
    let cek = unwrap(&kek, &unb64_exact(wrapped)?)?;
    let mut bytes = [unb64(ciphertext)?, unb64_exact::<16>(tag)?.to_vec()].concat();
    let length = gcm::open(&cek, unb64_exact(iv)?, header.as_bytes(), &mut bytes)?;
    bytes.truncate(length);
    Some(bytes)
}

#[test]
fn wycheproof_jwe() {
    let (mut count, mut opened) = (0, 0);
    let (mine, signer) = (OpenKey::generate(), Signer::generate());
    let dek = Dek::from_secret(Secret::random());
    for (group, test) in cases("json_web_encryption_test.json") {
        let Some(jwe) = test["jwe"].as_str() else {
            continue;
        };
        count += 1;
        assert!(
            open_ticket(&mine, &[signer.public().clone()], jwe).is_err(),
            "{test}"
        );
        assert!(open_record(&dek, "", jwe).is_err(), "{test}");
        let header = jwe.split('.').next().and_then(unb64);
        let header = header.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
        let Some(header) = header else { continue };
        if header["alg"] != "ECDH-ES+A256KW" {
            continue;
        }
        let answer = open_loosely(&group["private"], jwe);
        if is(&test, "valid") && header["enc"] == "A256GCM" {
            assert_eq!(answer, Some(unhex(&test["pt"])), "{test}");
            opened += 1;
        } else {
            assert_eq!(answer, None, "{test}");
        }
    }
    assert!(
        count == 0 || (count > 100 && opened >= 1),
        "{count} {opened}"
    );
}

/// Under the very key a group names, too: our texts always say `kid` and `typ`, and theirs do not.
#[test]
fn wycheproof_jose_has_no_text_of_our_form() {
    let (mine, stranger) = (OpenKey::generate(), Signer::generate());
    let dek = Dek::from_secret(Secret::random());
    for name in [
        "json_web_signature_test.json",
        "json_web_crypto_test.json",
        "json_web_key_test.json",
    ] {
        let mut count = 0;
        for (group, test) in cases(name) {
            let public = group["public"].as_object().cloned();
            let own =
                public.and_then(|key| PublicJwk::from_jwk(&Value::from(key).to_string()).ok());
            let keys: Vec<PublicJwk> = own.into_iter().chain([stranger.public().clone()]).collect();
            for text in [&test["jws"], &test["jwe"]]
                .into_iter()
                .filter_map(Value::as_str)
            {
                count += 1;
                for typ in ["JWT", "sallyport-deposit"] {
                    assert!(verify_any(&keys, typ, text).is_err(), "{test}");
                }
                assert!(open_ticket(&mine, &keys, text).is_err(), "{test}");
                assert!(open_record(&dek, "", text).is_err(), "{test}");
            }
        }
        assert!(count == 0 || count >= 26, "{name}: {count}");
    }
}
