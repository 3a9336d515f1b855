//! A client's keys are taken in only from whoever holds them: a challenge that the new ticket key alone can open, and
//! an answer signed with the new signing key. The gateway keeps nothing between the two: the nonce is a keyed code of
//! client, keys and time. Two administrators then register what was proven.

use policy::words::ClientId;
use policy::{AdminAct, Ask, Caller, Decision};
use serde_json::{Value, json};

use super::{Answer, Fault, Gateway, Wish};
use crate::facts::{KeyOffer, Register, Unfit, unfit};
use crate::ledger::Extra;
use crate::token;

/// How long a challenge may be answered.
const CHALLENGE_LIFE_MS: u64 = 7 * 86_400_000;

impl Gateway {
    /// A challenge for the keys that a client offers; nothing changes yet.
    ///
    /// # Errors
    /// [`Fault::Unfit`] where the keys break a rule; or a fault of ours.
    pub(super) async fn challenge(
        &self,
        caller: Caller,
        wish: Wish,
    ) -> Result<Answer<Value>, Fault> {
        let now_ms = self.clock.now_ms();
        let facts = self.of_client(&caller, now_ms);
        let (client, act) = (wish.object.clone(), wish.act.clone());
        let asked = AdminAct {
            act: wish.act,
            object: wish.object,
            why: wish.why,
        };
        match policy::decide(&self.rules, Ask::new(caller, asked), &facts) {
            Decision::Refuse(refusal) => self.refused(refusal).await,
            Decision::Permit(grant) => {
                let made = self.challenged(&client, &wish.payload, now_ms);
                let made = self.or_noted(grant.caller(), &act, made).await?;
                let recorded = self.record(grant, None, Extra::default()).await?;
                let (_grant, receipt) = recorded.into_parts();
                Ok(Answer::Done(made, receipt))
            }
        }
    }

    fn challenged(&self, client: &str, payload: &Value, now_ms: u64) -> Result<Value, Unfit> {
        let mut offer = KeyOffer::read(payload)?;
        offer.expires_ms = now_ms + CHALLENGE_LIFE_MS;
        let (sign, open) = offer.keys()?;
        let nonce = self.facts.code("possession", &offer.subject(client)?);
        let mut out = json!({ "client": client, "expires_ms": offer.expires_ms });
        let Some(members) = out.as_object_mut() else {
            return Ok(out);
        };
        if let Some(sign) = sign {
            members.insert("sign".to_owned(), sign.jwk);
        }
        match open {
            Some(open) => {
                let text = self.vault.challenge(&open.jwk.to_string(), client, &nonce);
                let text = text.map_err(|error| unfit("payload.open", error.to_string()))?;
                members.insert("open".to_owned(), open.jwk);
                members.insert("challenge".to_owned(), text.into());
            }
            None => drop(members.insert("nonce".to_owned(), nonce.into())),
        }
        Ok(out)
    }

    /// Whether whoever made this proof holds the private halves of what is offered.
    pub(super) fn proven(
        &self,
        register: &Register,
        client: &str,
        payload: &Value,
    ) -> Result<(), Unfit> {
        let offer = KeyOffer::read(payload)?;
        let (sign, _) = offer.keys()?;
        let nonce = self.facts.code("possession", &offer.subject(client)?);
        let signs = match &sign {
            Some(sign) => Some(sign.jwk.clone()),
            // Why: a ticket key alone is vouched for by the signing key that stands.
            None => ClientId::try_from(client)
                .ok()
                .and_then(|id| register.client(&id)?.sign_key().cloned()),
        };
        let signs =
            signs.ok_or_else(|| unfit("payload.sign", "is missing, and no signing key stands"))?;
        if token::possession(&signs, &offer.proof, client, &nonce) {
            Ok(())
        } else {
            let rule = "is not a JWS by the signing key over this challenge's client and nonce";
            Err(unfit("payload.proof", rule))
        }
    }

    /// The same, and the challenge is not too old: asked of the first administrator.
    pub(super) fn freshly_proven(
        &self,
        register: &Register,
        client: &str,
        payload: &Value,
        now_ms: u64,
    ) -> Result<(), Unfit> {
        self.proven(register, client, payload)?;
        let fresh = KeyOffer::read(payload)?.expires_ms > now_ms;
        let rule = "has passed; ask for another challenge";
        fresh
            .then_some(())
            .ok_or_else(|| unfit("payload.expires_ms", rule))
    }
}
