//! The directory in memory: organisations, clients and practitioners, found by code, certificate and id.
//! It is a copy of the operator's statements; nothing here is newer than what the ledger holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use policy::facts::{Fact, PractitionerFacts, Why};
use policy::words::{ClientId, ClientRole, Ods, PractitionerId};

use super::statement::{
    Client, Organisation, Practitioner, Statement, client_role, ods, role, thumbprint,
};

/// The directory.
#[derive(Clone, Default)]
pub struct Register {
    organisations: BTreeMap<String, Organisation>,
    clients: BTreeMap<String, Arc<Registered>>,
    certificates: HashMap<[u8; 32], Arc<Registered>>,
    practitioners: BTreeMap<(String, String), Practitioner>,
}

/// A client as the directory knows it, parsed.
pub struct Registered {
    row: Client,
    /// Its id.
    pub id: ClientId,
    /// What kind of party it is.
    pub role: ClientRole,
    /// ODS codes it acts for; the first is its own.
    pub organisations: Vec<Ods>,
    certificates: Vec<[u8; 32]>,
}

impl Registered {
    fn parse(row: &Client) -> Option<Self> {
        Some(Self {
            id: ClientId::try_from(row.id.as_str()).ok()?,
            role: client_role(&row.role).ok()?,
            organisations: row
                .organisations
                .iter()
                .map(|code| ods(code))
                .collect::<Result<_, _>>()
                .ok()?,
            certificates: row
                .certificates
                .iter()
                .map(|print| thumbprint(print))
                .collect::<Option<_>>()?,
            row: row.clone(),
        })
    }

    /// Whether it is stopped.
    #[must_use]
    pub const fn suspended(&self) -> bool {
        self.row.suspended
    }

    /// Display name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.row.name
    }

    /// The public JWK that verifies its assertions, as JSON.
    #[must_use]
    pub const fn sign_key(&self) -> Option<&serde_json::Value> {
        self.row.sign_key.as_ref()
    }

    /// The public JWK that its tickets are addressed to, as JSON.
    #[must_use]
    pub const fn open_key(&self) -> Option<&serde_json::Value> {
        self.row.open_key.as_ref()
    }
}

impl Register {
    pub(super) fn put(&mut self, statement: &Statement) {
        match statement {
            Statement::Organisation(row) => {
                drop(self.organisations.insert(row.ods.clone(), row.clone()))
            }
            Statement::Practitioner(row) => {
                drop(
                    self.practitioners
                        .insert((row.organisation.clone(), row.id.clone()), row.clone()),
                );
            }
            Statement::Client(row) => {
                self.forget(&row.id);
                if let Some(client) = Registered::parse(row).map(Arc::new) {
                    for print in &client.certificates {
                        self.certificates.insert(*print, Arc::clone(&client));
                    }
                    self.clients.insert(row.id.clone(), client);
                }
            }
            Statement::Registration(_)
            | Statement::Agreement(_)
            | Statement::Objection(_)
            | Statement::Relationship(_)
            | Statement::Acceptance(_) => {}
        }
    }

    pub(super) fn remove(&mut self, statement: &Statement) {
        match statement {
            Statement::Organisation(row) => drop(self.organisations.remove(&row.ods)),
            Statement::Practitioner(row) => {
                drop(
                    self.practitioners
                        .remove(&(row.organisation.clone(), row.id.clone())),
                );
            }
            Statement::Client(row) => self.forget(&row.id),
            Statement::Registration(_)
            | Statement::Agreement(_)
            | Statement::Objection(_)
            | Statement::Relationship(_)
            | Statement::Acceptance(_) => {}
        }
    }

    fn forget(&mut self, id: &str) {
        if let Some(client) = self.clients.remove(id) {
            self.certificates
                .retain(|_, registered| !Arc::ptr_eq(registered, &client));
        }
    }

    /// The client with this certificate (SHA-256 of its DER).
    #[must_use]
    pub fn by_certificate(&self, print: &[u8; 32]) -> Option<&Arc<Registered>> {
        self.certificates.get(print)
    }

    /// Whether any client of this role stands in the directory and is not suspended.
    #[must_use]
    pub fn has(&self, role: ClientRole) -> bool {
        let mut clients = self.clients.values();
        clients.any(|client| client.role == role && !client.suspended())
    }

    /// The client with this id.
    #[must_use]
    pub fn client(&self, id: &ClientId) -> Option<&Arc<Registered>> {
        self.clients.get(id.as_str())
    }

    /// The organisation with this code.
    #[must_use]
    pub fn organisation(&self, code: &Ods) -> Option<&Organisation> {
        self.organisations.get(code.as_str())
    }

    /// What is known of this person at this organisation.
    #[must_use]
    pub fn practitioner(&self, organisation: &Ods, id: &PractitionerId) -> Fact<PractitionerFacts> {
        let Some(row) = self
            .practitioners
            .get(&(organisation.as_str().to_owned(), id.as_str().to_owned()))
        else {
            return Fact::Unknown(Why::NeverTold);
        };
        let Ok(role) = role(&row.role) else {
            return Fact::Unknown(Why::Store);
        };
        Fact::Known(PractitionerFacts {
            organisation: organisation.clone(),
            role,
            suspended: row.suspended,
            trained_until_ms: row
                .trained_until_ms
                .map_or(Fact::Unknown(Why::NeverTold), Fact::Known),
        })
    }
}
