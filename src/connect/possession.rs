//! A client's side of registering its keys: what it offers, and the proof that it holds the private halves. These run
//! where the private keys are; only public keys and a signature leave.

use keys::{ClientKey, OpenKey};
use serde_json::{Value, json};

/// `typ` of the proof.
const PROOF: &str = "sallyport-possession+jwt";

/// Why there is no offer or no proof.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PossessionError(String);

fn wrong(text: impl Into<String>) -> PossessionError {
    PossessionError(text.into())
}

/// A client's own private keys, as they stand in its files.
pub struct Own<'a> {
    /// `sign.jwk`.
    pub sign: &'a str,
    /// `open.jwk`, of a client that opens tickets.
    pub open: Option<&'a str>,
}

impl Own<'_> {
    fn keys(&self) -> Result<(ClientKey, Option<OpenKey>), PossessionError> {
        let sign = ClientKey::from_jwk(self.sign);
        let sign = sign.map_err(|error| wrong(format!("the signing key: {error}")))?;
        let open = self.open.map(OpenKey::from_jwk).transpose();
        let open = open.map_err(|error| wrong(format!("the ticket key: {error}")))?;
        Ok((sign, open))
    }

    /// The public halves, for the administrator who asks for a challenge.
    ///
    /// # Errors
    /// A key that does not read.
    pub fn offer(&self) -> Result<Value, PossessionError> {
        let (sign, open) = self.keys()?;
        let public = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let mut offer = json!({ "sign": public(&sign.signer().jwk_public()) });
        if let (Some(open), Some(offer)) = (open, offer.as_object_mut()) {
            offer.insert("open".to_owned(), public(&open.public_jwk()));
        }
        Ok(offer)
    }

    /// Answers a challenge: what an administrator then proposes.
    ///
    /// # Errors
    /// A key that does not read, or a challenge that is not for these keys.
    pub fn prove(&self, challenge: &Value) -> Result<Value, PossessionError> {
        let (sign, open) = self.keys()?;
        let member = |name| challenge.get(name).and_then(Value::as_str);
        let client = member("client").ok_or_else(|| wrong("the challenge names no client"))?;
        let nonce = match (member("challenge"), &open) {
            (Some(text), Some(open)) => keys::open_challenge(open, text)
                .ok_or_else(|| wrong("the challenge does not open with this ticket key"))?,
            (Some(_), None) => return Err(wrong("the challenge needs the ticket key to open it")),
            (None, _) => member("nonce").unwrap_or_default().to_owned(),
        };
        let claims = json!({ "client": client, "nonce": nonce }).to_string();
        let mut proof = json!({
            "expires_ms": challenge.get("expires_ms"),
            "proof": sign.signer().sign_jws(PROOF, claims.as_bytes()),
        });
        if let Some(proof) = proof.as_object_mut() {
            for name in ["sign", "open"] {
                let key = challenge.get(name).filter(|it| it.is_object());
                proof.extend(key.map(|key| (name.to_owned(), key.clone())));
            }
        }
        Ok(proof)
    }
}
