//! Deposit signatures: who deposited a record, which key opens it, whose record it is.
//!
//! Never here: the record's plaintext. GCM does not commit to its key, and whoever holds a data key could make new
//! content under it; this signature, made once, stops both. A failed check means: do not show this record.

use serde::{Deserialize, Serialize};

use crate::dek::Dek;
use crate::jose::{b64, exact_json, unb64_exact};
use crate::jwk::PublicJwk;
use crate::mac::{sha256, tags_match};
use crate::secret::stop;
use crate::sign::{Signer, VerifyError, verify_any};

const TYP: &str = "sallyport-deposit";

/// Whose key signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DepositedBy {
    /// The practice's own connector, before the record left it.
    Practice,
    /// The gateway's deposit key, on receipt.
    Gateway,
}

impl DepositedBy {
    fn word(self) -> &'static str {
        match self {
            DepositedBy::Practice => "practice",
            DepositedBy::Gateway => "gateway",
        }
    }
}

/// What a deposit signature is made from; the commitments are computed, never handed in.
pub struct DepositClaims<'a> {
    /// Whose key signs.
    pub by: DepositedBy,
    /// When, seconds.
    pub iat: u64,
    /// The practice.
    pub iss: &'a str,
    /// `RECORDID.VERSION`.
    pub kid: &'a str,
    /// The record's exact text.
    pub record: &'a str,
    /// The record's data key.
    pub dek: &'a Dek,
    /// The number of the patient the record belongs to.
    pub patient: &'a str,
}

/// A deposit signature that holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckedDeposit {
    /// Whose key signed, as it says; compare `signed_by` with the keys you know.
    pub by: DepositedBy,
    /// When, seconds.
    pub iat: u64,
    /// The practice.
    pub iss: String,
    /// Thumbprint of the key that signed.
    pub signed_by: String,
}

/// Why a record is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckDepositError {
    /// The signature itself.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Not exactly the payload of a deposit signature.
    #[error("not a deposit signature")]
    Malformed,
    /// Signed over another record's text or name.
    #[error("signed for another record")]
    OtherRecord,
    /// The data key is not the one the depositor used.
    #[error("not the key this record was deposited with")]
    OtherKey,
    /// Deposited for another patient.
    #[error("deposited for another patient")]
    OtherPatient,
}

/// The payload; members sorted.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    by: &'a str,
    h: &'a str,
    iat: u64,
    iss: &'a str,
    kc: &'a str,
    kid: &'a str,
    pc: &'a str,
}

/// `JWS({by, h, iat, iss, kc, kid, pc})`; `h = SHA-256(record)`, `kc = HMAC(DEK, "sallyport/kc/v1" ‖ 0 ‖ kid)`,
/// `pc = HMAC(DEK, "sallyport/patient/v1" ‖ 0 ‖ patient)`.
///
/// RFC 7515. Safe because it covers text, key and patient at once: none of the three can be exchanged alone.
#[must_use]
pub fn deposit_signature(signer: &Signer, claims: &DepositClaims<'_>) -> String {
    let payload = serde_json::to_vec(&Payload {
        by: claims.by.word(),
        h: &b64(&sha256(&[claims.record.as_bytes()])),
        iat: claims.iat,
        iss: claims.iss,
        kc: &b64(&claims.dek.key_commitment(claims.kid)),
        kid: claims.kid,
        pc: &b64(&claims.dek.patient_commitment(claims.patient)),
    });
    let Ok(payload) = payload else {
        stop("a deposit signature is not JSON")
    };
    signer.sign_jws(TYP, &payload)
}

/// Checks signature, hash and both commitments of a record in hand.
///
/// # Errors
/// [`CheckDepositError`]; on any of them the record must not be used.
pub fn check_deposit(
    signature: &str,
    verify: &[PublicJwk],
    record: &str,
    dek: &Dek,
    kid: &str,
    patient: &str,
) -> Result<CheckedDeposit, CheckDepositError> {
    let (payload, key) = verify_any(verify, TYP, signature)?;
    let said: Payload<'_> = exact_json(&payload).ok_or(CheckDepositError::Malformed)?;
    let by = [DepositedBy::Practice, DepositedBy::Gateway]
        .into_iter()
        .find(|by| by.word() == said.by)
        .ok_or(CheckDepositError::Malformed)?;
    if said.kid != kid || !matches(said.h, &sha256(&[record.as_bytes()])) {
        return Err(CheckDepositError::OtherRecord);
    }
    if !matches(said.kc, &dek.key_commitment(kid)) {
        return Err(CheckDepositError::OtherKey);
    }
    if !matches(said.pc, &dek.patient_commitment(patient)) {
        return Err(CheckDepositError::OtherPatient);
    }
    let signed_by = key.kid().to_owned();
    Ok(CheckedDeposit {
        by,
        iat: said.iat,
        iss: said.iss.to_owned(),
        signed_by,
    })
}

fn matches(text: &str, expected: &[u8; 32]) -> bool {
    unb64_exact::<32>(text).is_some_and(|said| tags_match(&said, expected))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;
    use crate::dek::FreshDek;

    const KID: &str = "00112233445566778899aabbccddeeff.3";

    fn deposit(signer: &Signer, record: &str, dek: &Dek) -> String {
        deposit_signature(
            signer,
            &DepositClaims {
                by: DepositedBy::Gateway,
                iat: 1_770_800_000,
                iss: "A81001",
                kid: KID,
                record,
                dek,
                patient: "9990000018",
            },
        )
    }

    #[test]
    fn text_key_patient_name_and_signer_are_all_bound() {
        let (record, dek) = FreshDek::generate().seal_record(KID, "application/fhir+json", b"{}");
        let (other, other_dek) =
            FreshDek::generate().seal_record(KID, "application/fhir+json", b"[]");
        let signer = Signer::generate();
        let keys = [Signer::generate().public().clone(), signer.public().clone()];
        let text = deposit(&signer, &record, &dek);
        let check = |record: &str, dek: &Dek, kid: &str, patient: &str| {
            check_deposit(&text, &keys, record, dek, kid, patient)
        };
        let held = check(&record, &dek, KID, "9990000018").unwrap();
        assert_eq!(
            (held.by, held.iss.as_str()),
            (DepositedBy::Gateway, "A81001")
        );
        assert_eq!(held.signed_by, signer.kid());
        for (answer, why) in [
            (
                check(&other, &dek, KID, "9990000018"),
                CheckDepositError::OtherRecord,
            ),
            (
                check(&record, &other_dek, KID, "9990000018"),
                CheckDepositError::OtherKey,
            ),
            (
                check(&record, &dek, "another.3", "9990000018"),
                CheckDepositError::OtherRecord,
            ),
            (
                check(&record, &dek, KID, "9990000026"),
                CheckDepositError::OtherPatient,
            ),
            (
                check_deposit(&text, &[], &record, &dek, KID, "9990000018"),
                CheckDepositError::Verify(VerifyError::UnknownKey),
            ),
        ] {
            assert_eq!(answer.err(), Some(why));
        }
    }

    #[test]
    fn a_token_signed_by_the_same_key_is_no_deposit() {
        let (record, dek) = FreshDek::generate().seal_record(KID, "application/fhir+json", b"{}");
        let signer = Signer::generate();
        let token = signer.sign_jws("at+jwt", b"{}");
        let keys = [signer.public().clone()];
        assert!(check_deposit(&token, &keys, &record, &dek, KID, "9990000018").is_err());
        let empty = signer.sign_jws(TYP, b"{}");
        assert_eq!(
            check_deposit(&empty, &keys, &record, &dek, KID, "9990000018").err(),
            Some(CheckDepositError::Malformed)
        );
    }
}
