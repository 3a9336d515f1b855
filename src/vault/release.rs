//! The second door. A release is made from a recorded grant and nothing else: the grant names the records,
//! the ledger has the entry, and the ticket names that entry.

use bytes::Bytes;
use keys::{Family, Recipient, TicketClaims, TicketKey};
use policy::{Grant, Read};

use super::{Shelf, Vault, VaultError, read, record_context, sure};
use crate::ledger::{Receipt, Recorded};

/// How long a ticket is good for, seconds: as long as a token.
const TICKET_SECONDS: u64 = 300;

/// What leaves: stored envelopes, the ticket that opens them for one hospital, and their receipt.
pub struct Release {
    ticket: Option<String>,
    envelopes: Vec<Bytes>,
    receipt: Receipt,
    next: Option<super::shelf::Place>,
}

impl Release {
    /// The compact JWE addressed to the hospital; none where there is no record.
    #[must_use]
    pub fn ticket(&self) -> Option<&str> {
        self.ticket.as_deref()
    }

    /// The stored lines, byte for byte.
    #[must_use]
    pub fn envelopes(&self) -> &[Bytes] {
        &self.envelopes
    }

    /// Evidence of the entry.
    #[must_use]
    pub const fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// Where the next page begins, if the grant left something for one.
    #[must_use]
    pub const fn next(&self) -> Option<&super::shelf::Place> {
        self.next.as_ref()
    }
}

/// To whom, and when.
pub struct Address<'a> {
    /// OAuth client id of the hospital.
    pub client: &'a str,
    /// Its registered public JWK, as JSON.
    pub open_key: &'a str,
    /// The access token's `jti`.
    pub token: &'a str,
    /// PurposeOfUse code.
    pub purpose: &'a str,
    /// Seconds since the epoch.
    pub now_s: u64,
}

impl Vault {
    /// Unwraps the data keys of the granted records and seals them into a ticket for this hospital.
    ///
    /// # Errors
    /// The store's; a row or key that does not open; a recipient without a usable key.
    pub async fn release(
        &self,
        recorded: Recorded<Grant<Read>>,
        shelf: &Shelf,
        to: Address<'_>,
    ) -> Result<Release, VaultError> {
        let (grant, receipt) = recorded.into_parts();
        let permitted = grant.granted();
        let mut places = Vec::with_capacity(permitted.records.len());
        for record in &permitted.records {
            places.push(shelf.books.get(&record.id).ok_or(VaultError::Open)?.place);
        }
        let next = if permitted.more {
            permitted
                .records
                .last()
                .map(|record| Shelf::place(&record.practice, &record.id))
        } else {
            None
        };
        if places.is_empty() {
            return Ok(Release {
                ticket: None,
                envelopes: Vec::new(),
                receipt,
                next,
            });
        }
        let ticket = self.ticket(&grant, &receipt, shelf, to)?;
        let envelopes = self.blobs.get_many(places).await?;
        Ok(Release {
            ticket: Some(ticket),
            envelopes,
            receipt,
            next,
        })
    }

    /// A challenge that only the holder of this public JWK can open: the nonce, sealed to it as a ticket would be.
    ///
    /// # Errors
    /// A key that no ticket could be addressed to.
    pub fn challenge(
        &self,
        open_key: &str,
        client: &str,
        nonce: &str,
    ) -> Result<String, VaultError> {
        let to = Recipient::from_jwk(open_key).map_err(|_| VaultError::Recipient)?;
        keys::seal_challenge(&to, &self.issuer, client, nonce).ok_or(VaultError::Recipient)
    }

    fn ticket(
        &self,
        grant: &Grant<Read>,
        receipt: &Receipt,
        shelf: &Shelf,
        to: Address<'_>,
    ) -> Result<String, VaultError> {
        let mut opened = Vec::with_capacity(grant.granted().records.len());
        let mut record_keys = std::collections::BTreeMap::new();
        for record in &grant.granted().records {
            let book = shelf.books.get(&record.id).ok_or(VaultError::Open)?;
            // INVARIANT: the grant's record and the shelf's are the same version of the same practice.
            if book.version != record.version || book.practice != record.practice {
                return Err(VaultError::Open);
            }
            if !record_keys.contains_key(&book.practice) {
                let wrapped = shelf.keys.get(&book.practice).ok_or(VaultError::Open)?;
                record_keys.insert(
                    book.practice.clone(),
                    self.record_key(&book.practice, &shelf.tag, wrapped)?,
                );
            }
            let key = record_keys.get(&book.practice).ok_or(VaultError::Open)?;
            let kid = format!("{}.{}", record.id, record.version);
            let context = record_context("sallyport/dek/v1", &book.practice, &shelf.tag, &kid);
            opened.push((kid, key.unwrap_dek(&context, &book.dek)?, book));
        }
        let keys: Vec<TicketKey<'_>> = opened
            .iter()
            .map(|(kid, dek, book)| TicketKey {
                kid,
                dek,
                res: &book.name,
                full_url: book.full_url.as_deref(),
            })
            .collect();
        let recipient = Recipient::from_jwk(to.open_key).map_err(|_| VaultError::Recipient)?;
        let jti = keys::random_id();
        let claims = TicketClaims {
            iss: &self.issuer,
            aud: to.client,
            iat: to.now_s,
            exp: to.now_s + TICKET_SECONDS,
            jti: &jti,
            token: to.token,
            purpose: to.purpose,
            leaf: receipt.leaf_hash(),
        };
        let ring = read(&self.ring);
        keys::seal_ticket(
            &recipient,
            sure(ring.signer(&Family::TicketSigning)).as_ref(),
            &claims,
            &keys,
        )
        .map_err(|_| VaultError::Recipient)
    }
}
