//! The directory in memory: organisations, clients and practitioners, found by code, certificate and id.
//! It is a copy of the operator's statements; nothing here is newer than what the ledger holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use policy::facts::{Fact, PractitionerFacts, Proposed, Why};
use policy::words::{ClientId, ClientRole, Ods, PersonId, PractitionerId};

use serde_json::{Value, json};

use super::proposal::Proposal;
use super::providers::{EmergencyProvider, KeeperWord};
use super::recipient::{KeyUse, kid_of};
use super::statement::{
    ApprovalRow, Client, Organisation, Practitioner, Statement, client_role, ods, role, thumbprint,
};
use super::training::Training;

/// The directory.
#[derive(Clone, Default)]
pub struct Register {
    organisations: BTreeMap<String, Organisation>,
    clients: BTreeMap<String, Arc<Registered>>,
    certificates: HashMap<[u8; 32], Arc<Registered>>,
    practitioners: BTreeMap<(String, String), Practitioner>,
    proposals: BTreeMap<String, Proposal>,
    pub(super) providers: BTreeMap<String, EmergencyProvider>,
    pub(super) words: BTreeMap<(String, String), KeeperWord>,
    pub(super) approvals: BTreeMap<(String, String, String), ApprovalRow>,
    contacts: BTreeMap<String, Vec<String>>,
    pub(super) trainings: BTreeMap<(String, String), BTreeMap<String, Training>>,
    pub(super) requirements: BTreeSet<(String, String)>,
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
    stopped: Vec<[u8; 32]>,
}

fn prints(texts: &[String]) -> Option<Vec<[u8; 32]>> {
    texts.iter().map(|print| thumbprint(print)).collect()
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
            certificates: prints(&row.certificates)?,
            stopped: prints(&row.stopped)?,
            row: row.clone(),
        })
    }

    /// Whether it is stopped.
    #[must_use]
    pub const fn suspended(&self) -> bool {
        self.row.suspended
    }

    /// Whether this one of its certificates is stopped.
    #[must_use]
    pub fn stopped(&self, print: &[u8; 32]) -> bool {
        self.stopped.contains(print)
    }

    /// Who holds it, as a human being.
    #[must_use]
    pub fn person(&self) -> Fact<PersonId> {
        match self.row.person.as_deref().map(PersonId::try_from) {
            Some(Ok(person)) => Fact::Known(person),
            Some(Err(_)) => Fact::Unknown(Why::Store),
            None => Fact::Unknown(Why::NeverTold),
        }
    }

    pub(super) const fn row(&self) -> &Client {
        &self.row
    }

    /// Whether it acts for its practice only once that practice says so.
    #[must_use]
    pub const fn waits(&self) -> bool {
        self.row.waits
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

    /// Every public JWK that verifies its assertions now: the one that stands, and replaced ones in their overlap.
    pub fn sign_keys(&self, now_ms: u64) -> impl Iterator<Item = &serde_json::Value> {
        let older = self.row.older.iter();
        let older = older.filter(move |it| it.r#use == KeyUse::Sign && now_ms < it.until_ms);
        self.row.sign_key.iter().chain(older.map(|it| &it.jwk))
    }

    /// Whether tickets would be addressed to it, and no key of it stands.
    #[must_use]
    pub fn lacks_open_key(&self) -> bool {
        let opens = matches!(self.role, ClientRole::Hospital | ClientRole::Research);
        opens && self.row.open_key.is_none()
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
            Statement::EmergencyProvider(row) => {
                drop(self.providers.insert(row.ods.clone(), row.clone()));
            }
            Statement::KeeperWord(row) => {
                let key = (row.practice.clone(), row.reference.clone());
                drop(self.words.insert(key, row.clone()));
            }
            Statement::PracticeSettings(row) => {
                let key = row.practice.clone();
                drop(self.contacts.insert(key, row.contacts.clone()));
            }
            Statement::Approval(row) => drop(self.approvals.insert(row.name(), row.clone())),
            Statement::Client(row) => {
                self.forget(&row.id);
                if let Some(client) = Registered::parse(row).map(Arc::new) {
                    for print in &client.certificates {
                        self.certificates.insert(*print, Arc::clone(&client));
                    }
                    self.clients.insert(row.id.clone(), client);
                }
            }
            Statement::Proposal(row) => drop(self.proposals.insert(row.name(), row.clone())),
            Statement::Training(row) => {
                let key = (row.organisation.clone(), row.practitioner.clone());
                let met = self.trainings.entry(key).or_default();
                met.insert(row.requirement.clone(), row.clone());
            }
            Statement::Requirement(row) => {
                let key = (row.role.clone(), row.requirement.clone());
                self.requirements.insert(key);
            }
            Statement::Registration(_)
            | Statement::Agreement(_)
            | Statement::RegisterAcceptance(_)
            | Statement::Objection(_)
            | Statement::Feed(_)
            | Statement::FeedPage(_)
            | Statement::FeedTerms(_)
            | Statement::Relationship(_)
            | Statement::Acceptance(_)
            | Statement::Countersignature(_)
            | Statement::Offer(_) => {}
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
            Statement::EmergencyProvider(row) => drop(self.providers.remove(&row.ods)),
            Statement::KeeperWord(row) => {
                let key = (row.practice.clone(), row.reference.clone());
                drop(self.words.remove(&key));
            }
            Statement::PracticeSettings(row) => drop(self.contacts.remove(&row.practice)),
            Statement::Approval(row) => drop(self.approvals.remove(&row.name())),
            Statement::Client(row) => self.forget(&row.id),
            Statement::Proposal(row) => drop(self.proposals.remove(&row.name())),
            Statement::Training(row) => {
                let key = (row.organisation.clone(), row.practitioner.clone());
                if let Some(met) = self.trainings.get_mut(&key) {
                    met.remove(&row.requirement);
                }
            }
            Statement::Requirement(row) => {
                let key = (row.role.clone(), row.requirement.clone());
                self.requirements.remove(&key);
            }
            Statement::Registration(_)
            | Statement::Agreement(_)
            | Statement::RegisterAcceptance(_)
            | Statement::Objection(_)
            | Statement::Feed(_)
            | Statement::FeedPage(_)
            | Statement::FeedTerms(_)
            | Statement::Relationship(_)
            | Statement::Acceptance(_)
            | Statement::Countersignature(_)
            | Statement::Offer(_) => {}
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

    /// The codes of all who pass on objections: practices and opt-out lists.
    #[must_use]
    pub fn keepers_of_objections(&self) -> Vec<String> {
        let keepers = self.organisations.values();
        keepers
            .filter(|row| matches!(row.role.as_str(), "practice" | "opt-out-list"))
            .map(|row| row.ods.clone())
            .collect()
    }

    /// The codes of the opt-out lists.
    #[must_use]
    pub fn opt_out_lists(&self) -> Vec<String> {
        let lists = self.organisations.values();
        lists
            .filter(|row| row.role == "opt-out-list")
            .map(|row| row.ods.clone())
            .collect()
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

    /// Whom a practice named when it was admitted, and whom it names now.
    #[must_use]
    pub fn contacts(&self, practice: &str) -> Vec<String> {
        let admitted = self.organisations.get(practice);
        let admitted = admitted.into_iter().flat_map(|own| &own.contacts);
        let now = self.contacts.get(practice).into_iter().flatten();
        let mut all: Vec<String> = Vec::new();
        for contact in admitted.chain(now) {
            if !all.contains(contact) {
                all.push(contact.clone());
            }
        }
        all
    }

    /// Whether this client and its own organisation stand in the directory, unsuspended.
    fn stands(&self, client: &Registered) -> bool {
        let own = client.organisations.first();
        let own = own.and_then(|code| self.organisation(code));
        !client.suspended() && own.is_some_and(|own| !own.suspended)
    }

    /// Which kind of client this gateway lacks that none may go without: an administrator, or a privacy officer.
    #[must_use]
    pub fn missing(&self) -> Option<ClientRole> {
        let lacks = |role: &ClientRole| {
            let mut clients = self.clients.values();
            !clients.any(|client| client.role == *role && self.stands(client))
        };
        [ClientRole::Admin, ClientRole::PrivacyOfficer]
            .into_iter()
            .find(lacks)
    }

    /// How many are registered, who is stopped and whose training is not current, for an administrator.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Value {
        let organisations = self.organisations.values();
        let stopped: Vec<&str> = organisations
            .filter(|it| it.suspended)
            .map(|it| it.ods.as_str())
            .collect();
        let clients = self.clients.values().filter(|it| it.suspended());
        let clients: Vec<&str> = clients.map(|it| it.id.as_str()).collect();
        let certificates = self.clients.values().flat_map(|it| it.row.stopped.iter());
        let people = self.practitioners.values();
        let resting = people.clone().filter(|it| it.suspended).count();
        let untrained = people
            .filter(|it| self.trained_until(it).is_none_or(|until| until <= now_ms))
            .count();
        json!({
            "organisations": { "registered": self.organisations.len(), "suspended": stopped },
            "clients": {
                "registered": self.clients.len(), "suspended": clients,
                "suspended_certificates": certificates.collect::<Vec<_>>(),
            },
            "practitioners": {
                "registered": self.practitioners.len(), "suspended": resting, "untrained": untrained,
            },
            "proposals_waiting": self.proposals(now_ms).count(),
        })
    }

    /// Every organisation, client and practitioner as stated, for an administrator.
    #[must_use]
    pub fn everyone(&self) -> Value {
        let clients: Vec<&Client> = self.clients.values().map(|it| &it.row).collect();
        json!({
            "organisations": self.organisations.values().collect::<Vec<_>>(),
            "clients": clients,
            "practitioners": self.practitioners.values().collect::<Vec<_>>(),
            "approvals": self.approvals.values().collect::<Vec<_>>(),
        })
    }

    /// The proposals that wait, and can still be approved.
    pub fn proposals(&self, now_ms: u64) -> impl Iterator<Item = &Proposal> {
        self.proposals
            .values()
            .filter(move |it| now_ms < it.expires_ms)
    }

    /// The proposals whose time is over.
    pub fn expired(&self, now_ms: u64) -> impl Iterator<Item = &Proposal> {
        self.proposals
            .values()
            .filter(move |it| now_ms >= it.expires_ms)
    }

    /// The proposal of this name, expired or not.
    #[must_use]
    pub fn proposal(&self, name: &str) -> Option<&Proposal> {
        self.proposals.get(name)
    }

    /// A proposal as the policy reads it: whoever proposed it must still stand, as the same human being.
    #[must_use]
    pub fn proposed(&self, name: &str) -> Fact<Proposed> {
        let Some(proposal) = self.proposal(name) else {
            return Fact::Unknown(Why::NeverTold);
        };
        let proposer = self.clients.get(&proposal.client);
        let stands = proposer.is_some_and(|it| {
            self.stands(it)
                && it.role == ClientRole::Admin
                && it.row.person.as_deref() == Some(proposal.person.as_str())
        });
        proposal
            .proposed(!stands)
            .map_or(Fact::Unknown(Why::Store), Fact::Known)
    }

    /// Whether this key, by its name, stands anywhere in the directory, for whomever and whatever.
    pub(super) fn has_key(&self, kid: &str) -> bool {
        self.clients.values().any(|client| {
            let row = &client.row;
            let sign = row
                .sign_key
                .iter()
                .filter_map(|jwk| kid_of(KeyUse::Sign, jwk));
            let open = row
                .open_key
                .iter()
                .filter_map(|jwk| kid_of(KeyUse::Open, jwk));
            let older = row.older.iter().map(|it| it.kid.clone());
            sign.chain(open).chain(older).any(|it| it == kid)
        })
    }

    /// Every practitioner of every organisation.
    pub(super) fn everybody(&self) -> impl Iterator<Item = &Practitioner> {
        self.practitioners.values()
    }

    /// The statement about this person at this organisation.
    pub(super) fn practitioner_stated(
        &self,
        organisation: &Ods,
        id: &PractitionerId,
    ) -> Option<&Practitioner> {
        let key = (organisation.as_str().to_owned(), id.as_str().to_owned());
        self.practitioners.get(&key)
    }

    /// The clients that can connect at that time: by a certificate that is not stopped, with a key to sign by.
    pub fn connecting(&self, at_ms: u64) -> impl Iterator<Item = &Arc<Registered>> {
        self.clients.values().filter(move |client| {
            let mut certificates = client.certificates.iter();
            certificates.any(|print| !client.stopped(print))
                && client.sign_keys(at_ms).next().is_some()
        })
    }

    /// Everybody who stands in this organisation's directory.
    pub fn people(&self, organisation: &Ods) -> impl Iterator<Item = &Practitioner> {
        let first = (organisation.as_str().to_owned(), String::new());
        self.practitioners
            .range(first..)
            .take_while(|((own, _), _)| own == organisation.as_str())
            .map(|(_, person)| person)
    }

    /// The clients that act for this organisation.
    pub fn acting_for(&self, organisation: &Ods) -> impl Iterator<Item = &Arc<Registered>> + Clone {
        self.clients
            .values()
            .filter(|client| client.organisations.contains(organisation))
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
            name: row.name.clone(),
            organisation: organisation.clone(),
            role,
            suspended: row.suspended,
            trained_until_ms: self
                .trained_until(row)
                .map_or(Fact::Unknown(Why::NeverTold), Fact::Known),
        })
    }
}
