//! Who is asking: the one place that turns a certificate, an assertion or a token into a [`Caller`].
//!
//! A certificate that no client registered is a stranger: counted, never recorded. A registered one that
//! brings a bad token is recorded. Nothing is authorised here.

use std::sync::Arc;

use policy::words::ClientId;
use policy::{Caller, Fact, Token};

use crate::facts::{Register, Registered};
use crate::token::{Assertion, NotBelieved, Tokens};

/// The peer of one connection: SHA-256 of the DER certificate it proved possession of in the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(pub [u8; 32]);

/// Why nobody is asking.
#[derive(Debug)]
pub enum NotAuthenticated {
    /// No client registered this certificate.
    Stranger,
    /// The directory does not match the ledger: nobody can be known.
    Directory,
    /// A registered client that is suspended, or whose organisation or certificate is.
    Suspended(ClientId),
    /// A registered client brought something that is not believed.
    NotBelieved(ClientId, NotBelieved),
}

/// The client that registered this certificate.
///
/// # Errors
/// A stranger, or a directory that cannot be trusted.
pub fn registered(
    register: &Fact<Arc<Register>>,
    peer: Peer,
) -> Result<Arc<Registered>, NotAuthenticated> {
    let Fact::Known(register) = register else {
        return Err(NotAuthenticated::Directory);
    };
    let client = register.by_certificate(&peer.0).cloned();
    let client = client.ok_or(NotAuthenticated::Stranger)?;
    let organisation = client
        .organisations
        .first()
        .and_then(|own| register.organisation(own));
    if client.suspended()
        || client.stopped(&peer.0)
        || organisation.is_none_or(|organisation| organisation.suspended)
    {
        return Err(NotAuthenticated::Suspended(client.id.clone()));
    }
    Ok(client)
}

/// A caller known by its certificate alone: for the log and for admin acts, which need no token.
#[must_use]
pub fn by_certificate(client: &Registered, peer: Peer) -> Caller {
    vouch(client, peer, None)
}

/// A caller at the token endpoint: certificate and client assertion belong to the same client.
///
/// # Errors
/// Which part of the assertion breaks which rule.
pub fn by_assertion(
    client: &Registered,
    peer: Peer,
    tokens: &Tokens,
    (claimed, assertion): (&str, &str),
    now_s: u64,
) -> Result<(Caller, Assertion), NotAuthenticated> {
    let wrong = |why| NotAuthenticated::NotBelieved(client.id.clone(), why);
    if claimed != client.id.as_str() {
        return Err(wrong(NotBelieved(
            "client_id: is not the client of this certificate",
        )));
    }
    let mut why = NotBelieved("client_id: has no registered signing key");
    for key in client.sign_keys(now_s * 1000) {
        match tokens.assertion(claimed, key, assertion, now_s) {
            Ok(assertion) => return Ok((vouch(client, peer, None), assertion)),
            Err(other) => why = other,
        }
    }
    Err(wrong(why))
}

/// A caller by certificate and access token, bound together.
///
/// # Errors
/// The token is not valid over this certificate.
pub fn by_token(
    client: &Registered,
    peer: Peer,
    tokens: &Tokens,
    text: &str,
    now_ms: u64,
) -> Result<Caller, NotAuthenticated> {
    let wrong = |why| NotAuthenticated::NotBelieved(client.id.clone(), why);
    let (issued_to, token) = tokens.access(text, &peer.0, now_ms).map_err(wrong)?;
    if issued_to != client.id.as_str() {
        return Err(wrong(NotBelieved("the access token is not valid here")));
    }
    Ok(vouch(client, peer, Some(token)))
}

fn vouch(client: &Registered, peer: Peer, token: Option<Token>) -> Caller {
    Caller::assertion(
        client.id.clone(),
        client.role,
        client.organisations.clone(),
        peer.0,
        token,
    )
}
