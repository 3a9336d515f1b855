//! A log's key hands over to the next: an entry that names both keys, signed by both, so that who was given the old key
//! years ago verifies the log of today from the log alone. Checkpoints carry both signatures until the new key signs
//! alone. Never here: a new key believed that the one before did not sign for.

use super::leaf::{Event, Leaf};
use super::note::{SignsNotes, Vkey};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The event of the entry.
pub(super) const EVENT: &str = "log.key";

/// What both keys sign: `sallyport/log-key/v1`, the old key and the new one, a line each.
fn statement(old: &Vkey, new: &Vkey) -> String {
    format!("sallyport/log-key/v1\n{old}\n{new}\n")
}

/// The entry by which the signer's first key hands over to its second; `None` where there is no second.
pub(super) fn entry(origin: &str, signer: &dyn SignsNotes) -> Option<Event> {
    let [(old, _), (new, _)] = *signer.sign_all(b"").first_chunk()?;
    let (old, new) = (Vkey::new(origin, old).ok()?, Vkey::new(origin, new).ok()?);
    let signatures = signer.sign_all(statement(&old, &new).as_bytes());
    let [(by_old, old_signature), (by_new, new_signature)] = *signatures.first_chunk()?;
    // Why: between the two calls the keys may have changed.
    if Vkey::new(origin, by_old).ok()? != old || Vkey::new(origin, by_new).ok()? != new {
        return None;
    }
    let event = Event::new(EVENT)
        .with("new", new.to_string())
        .with("newsig", STANDARD.encode(new_signature))
        .with("old", old.to_string())
        .with("oldsig", STANDARD.encode(old_signature));
    Some(event)
}

/// The key that this leaf hands over to from `from`, if it does and both have signed it.
pub(super) fn follow(leaf: &Leaf<'_>, from: &Vkey) -> Option<Vkey> {
    if !leaf.mentions("oldsig") {
        return None;
    }
    let members = leaf.members()?;
    let text = |name: &str| members.get(name)?.as_str();
    if text("ev") != Some(EVENT) {
        return None;
    }
    let key = |name: &str| text(name)?.parse::<Vkey>().ok();
    let signature = |name: &str| STANDARD.decode(text(name)?).ok();
    let (old, new) = (key("old")?, key("new")?);
    let signed = statement(&old, &new);
    let holds = old == *from
        && new.name() == old.name()
        && old.verifies(&signed, &signature("oldsig")?)
        && new.verifies(&signed, &signature("newsig")?);
    holds.then_some(new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::super::draft::Draft;
    use super::*;

    struct Two(keys::NoteSigner, keys::NoteSigner);

    impl SignsNotes for Two {
        fn sign(&self, message: &[u8]) -> [u8; 64] {
            self.0.sign(message)
        }
        fn public(&self) -> [u8; 32] {
            self.0.public()
        }
        fn sign_all(&self, message: &[u8]) -> Vec<([u8; 32], [u8; 64])> {
            [&self.0, &self.1]
                .map(|key| (key.public(), key.sign(message)))
                .to_vec()
        }
    }

    fn two() -> Two {
        Two(keys::NoteSigner::generate(), keys::NoteSigner::generate())
    }

    fn leaf(event: Event) -> String {
        Draft::of_event(event, None).unwrap().leaf(0, 1)
    }

    #[test]
    fn only_what_both_keys_signed_leads_from_one_to_the_other() {
        let (signer, stranger) = (two(), two());
        let old = Vkey::new("a.example/log", signer.0.public()).unwrap();
        let new = Vkey::new("a.example/log", signer.1.public()).unwrap();
        let text = leaf(entry("a.example/log", &signer).unwrap());
        let honest = Leaf::new(0, &text);
        assert_eq!(follow(&honest, &old), Some(new.clone()));
        assert_eq!(follow(&honest, &new), None, "there is no way back");
        let other = Vkey::new("a.example/log", stranger.1.public()).unwrap();
        for (from, to) in [
            (new.to_string(), other.to_string()),
            ("oldsig".to_owned(), "newsig".to_owned()),
            (EVENT.to_owned(), "log.kez".to_owned()),
        ] {
            let forged = text.replace(&from, &to);
            assert_eq!(follow(&Leaf::new(0, &forged), &old), None, "{to}");
        }
        // A key that took itself the log: signed by itself twice.
        let thief = Two(stranger.0, stranger.1);
        let taken = leaf(entry("a.example/log", &thief).unwrap());
        assert_eq!(follow(&Leaf::new(0, &taken), &old), None);
    }

    #[test]
    fn one_key_alone_hands_over_to_nobody() {
        struct One(keys::NoteSigner);
        impl SignsNotes for One {
            fn sign(&self, message: &[u8]) -> [u8; 64] {
                self.0.sign(message)
            }
            fn public(&self) -> [u8; 32] {
                self.0.public()
            }
        }
        assert!(entry("a", &One(keys::NoteSigner::generate())).is_none());
    }
}
