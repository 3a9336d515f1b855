//! C2SP/wycheproof: each primitive through the very function the crate uses.

use aws_lc_rs::agreement as lc;

use super::{cases, is, unhex};
use crate::agreement::{WRAPPED_BYTES, agree_as_receiver, concat_kdf, lc_algorithm, unwrap, wrap};
use crate::gcm;
use crate::jwk::{Curve, Point, PublicJwk};
use crate::mac::{hkdf_sha256, hmac_sha256};
use crate::secret::Secret;
use crate::sign::{holds, verify_ed25519};

/// Compares the number of cases run, so that a filter that matches nothing is noticed.
fn ran(count: usize, expected: usize) {
    assert!(
        count == expected || count == 0,
        "{count} cases, not {expected}"
    );
}

#[test]
fn aes_256_gcm() {
    let mut count = 0;
    for (group, test) in cases("aes_gcm_test.json") {
        if group["keySize"] != 256 || group["ivSize"] != 96 || group["tagSize"] != 128 {
            continue;
        }
        count += 1;
        let key = Secret::from_slice(&unhex(&test["key"])).unwrap();
        let (iv, aad) = (unhex(&test["iv"]).try_into().unwrap(), unhex(&test["aad"]));
        let (message, ciphertext) = (unhex(&test["msg"]), unhex(&test["ct"]));
        let mut bytes = [ciphertext.clone(), unhex(&test["tag"])].concat();
        let length = gcm::open(&key, iv, &aad, &mut bytes);
        if is(&test, "valid") {
            assert_eq!(
                length.map(|length| &bytes[..length]),
                Some(message.as_slice()),
                "{test}"
            );
            let mut sealed = message;
            let tag = gcm::seal(&key, iv, &aad, &mut sealed);
            assert_eq!(
                (sealed, tag.to_vec()),
                (ciphertext, unhex(&test["tag"])),
                "{test}"
            );
        } else {
            assert_eq!(length, None, "{test}");
        }
    }
    ran(count, 66);
}

#[test]
fn aes_256_kw_takes_forty_bytes_and_nothing_else() {
    let (mut count, mut short) = (0, Vec::new());
    for (group, test) in cases("aes_wrap_test.json") {
        if group["keySize"] != 256 {
            continue;
        }
        count += 1;
        let key = Secret::from_slice(&unhex(&test["key"])).unwrap();
        let (message, ciphertext) = (unhex(&test["msg"]), unhex(&test["ct"]));
        // Why `None` for other lengths: no other length can be handed to `unwrap`.
        let wrapped: Option<[u8; WRAPPED_BYTES]> = ciphertext.try_into().ok();
        let opened = wrapped.and_then(|wrapped| unwrap(&key, &wrapped));
        if is(&test, "valid") && message.len() == 32 {
            assert_eq!(opened.unwrap().expose().as_slice(), message, "{test}");
            let again = wrap(&key, &Secret::from_slice(&message).unwrap());
            assert_eq!(again.to_vec(), unhex(&test["ct"]), "{test}");
        } else {
            assert!(opened.is_none(), "{test}");
        }
        if unhex(&test["ct"]).len() < 24 {
            short.extend(test["tcId"].as_u64());
        }
    }
    ran(count, 68);
    assert!(
        count == 0 || (short.contains(&108) && short.contains(&110)),
        "{short:?}"
    );
}

fn scalar(bytes: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = bytes
        .iter()
        .copied()
        .skip_while(|byte| *byte == 0)
        .collect();
    [vec![0; 32 - digits.len()], digits].concat()
}

#[test]
fn ecdh_p256_refuses_points_off_the_curve() {
    let mut count = 0;
    for (_, test) in cases("ecdh_secp256r1_ecpoint_test.json") {
        count += 1;
        let Some(point) = Point::new(Curve::P256, unhex(&test["public"])) else {
            assert!(!is(&test, "valid"), "{test}");
            continue;
        };
        assert!(is(&test, "valid"), "{test}");
        let private = scalar(&unhex(&test["private"]));
        let mine = lc::PrivateKey::from_private_key(&lc::ECDH_P256, &private).unwrap();
        let kek = agree_as_receiver(&mine, &point, b"u", b"v").unwrap();
        let expected = concat_kdf(&unhex(&test["shared"]), "ECDH-ES+A256KW", b"u", b"v", 256);
        assert_eq!(kek.expose(), expected.expose(), "{test}");
    }
    ran(count, 355);
}

#[test]
fn x25519_refuses_points_of_low_order() {
    let (mut count, mut refused) = (0, 0);
    for (_, test) in cases("x25519_test.json") {
        count += 1;
        let is_zero = unhex(&test["shared"]).iter().all(|byte| *byte == 0);
        let Some(point) = Point::new(Curve::X25519, unhex(&test["public"])) else {
            assert!(is_zero, "{test}");
            refused += 1;
            continue;
        };
        let private = unhex(&test["private"]);
        let mine = lc::PrivateKey::from_private_key(lc_algorithm(Curve::X25519), &private).unwrap();
        let kek = agree_as_receiver(&mine, &point, b"u", b"v").unwrap();
        let expected = concat_kdf(&unhex(&test["shared"]), "ECDH-ES+A256KW", b"u", b"v", 256);
        assert_eq!(kek.expose(), expected.expose(), "{test}");
    }
    ran(count, 518);
    ran(refused, 31);
}

#[test]
fn ecdsa_p256() {
    let mut count = 0;
    for (group, test) in cases("ecdsa_secp256r1_sha256_p1363_test.json") {
        count += 1;
        let point = unhex(&group["publicKey"]["uncompressed"]);
        let key = PublicJwk::from_point(Point::new(Curve::P256, point).unwrap());
        let signature: Option<[u8; 64]> = unhex(&test["sig"]).try_into().ok();
        let held = signature.is_some_and(|signature| holds(&key, &unhex(&test["msg"]), &signature));
        assert_eq!(held, is(&test, "valid"), "{test}");
    }
    ran(count, 262);
}

#[test]
fn ed25519() {
    let mut count = 0;
    for (group, test) in cases("ed25519_test.json") {
        count += 1;
        let public = unhex(&group["publicKey"]["pk"]).try_into().unwrap();
        let held = verify_ed25519(&public, &unhex(&test["msg"]), &unhex(&test["sig"]));
        assert_eq!(held, is(&test, "valid"), "{test}");
    }
    ran(count, 151);
}

#[test]
fn hmac() {
    let mut count = 0;
    for (_, test) in cases("hmac_sha256_test.json") {
        count += 1;
        let tag = unhex(&test["tag"]);
        let mac = hmac_sha256(&unhex(&test["key"]), &[&unhex(&test["msg"])]);
        assert_eq!(mac[..tag.len()] == tag[..], is(&test, "valid"), "{test}");
    }
    ran(count, 174);
}

#[test]
fn hkdf() {
    let mut count = 0;
    for (_, test) in cases("hkdf_sha256_test.json") {
        let okm = unhex(&test["okm"]);
        if !is(&test, "valid") || okm.len() < 32 {
            continue;
        }
        count += 1;
        // Why the first 32: HKDF's output for a shorter length is a prefix of that for a longer one.
        let key = hkdf_sha256(
            &unhex(&test["ikm"]),
            &unhex(&test["salt"]),
            &unhex(&test["info"]),
        );
        assert_eq!(key.expose().as_slice(), &okm[..32], "{test}");
    }
    assert!(count == 0 || count > 20, "{count}");
}
