//! What an administrator's act does to the directory: the changes of the operator's statements that it comes to.
//! A [`Deed`] is read off a grant, so nothing here changes the directory for an act that was not permitted. What does
//! not fit the directory as it stands is [`Unfit`], which names the member and the rule.

use std::sync::Arc;

use policy::words::{ClientRole, Ods, PractitionerId};
use policy::{AdminAct, Approve, Grant};
use serde::Deserialize;
use serde_json::Value;

use super::recipient::{KeyOffer, KeyUse, OLDER_MAX, Offered, OlderKey, kid_of};
use super::statement::{
    Client, Organisation, Practitioner, Statement, StatementError, client_id, ods, thumbprint,
};
use super::training::Requirement;
use super::{Change, Proposal, Register, Registered};

/// An act does not fit the directory as it stands, or what was sent with it is malformed.
#[derive(Debug, thiserror::Error)]
#[error("{member}: {rule}")]
pub struct Unfit {
    /// Which member of the request.
    pub member: &'static str,
    /// Which rule it breaks, and what to do.
    pub rule: String,
}

/// `member` breaks `rule`.
pub(crate) fn unfit(member: &'static str, rule: impl Into<String>) -> Unfit {
    let rule = rule.into();
    Unfit { member, rule }
}

impl From<StatementError> for Unfit {
    fn from(error: StatementError) -> Self {
        unfit(error.member, error.rule)
    }
}

/// A permitted act on the directory.
pub struct Deed<'a> {
    act: &'a str,
    pub(super) object: &'a str,
    payload: &'a Value,
    pub(super) now_ms: u64,
}

impl<'a> Deed<'a> {
    /// What one administrator may do alone.
    #[must_use]
    pub fn alone(grant: &'a Grant<AdminAct>, payload: &'a Value, now_ms: u64) -> Self {
        let (act, object) = (&grant.act().act, &grant.act().object);
        Self {
            act,
            object,
            payload,
            now_ms,
        }
    }

    /// What one proposed and another approved; `None` if the grant is of another proposal.
    #[must_use]
    pub fn approved(grant: &Grant<Approve>, proposal: &'a Proposal, now_ms: u64) -> Option<Self> {
        (grant.act().digest == proposal.digest()).then(|| Self::of(proposal, now_ms))
    }

    fn of(proposal: &'a Proposal, now_ms: u64) -> Self {
        let (act, object, payload) = (&proposal.act, &proposal.object, &proposal.payload);
        Self {
            act,
            object,
            payload,
            now_ms,
        }
    }

    /// What was sent with it, read strictly.
    pub(super) fn payload<T: serde::de::DeserializeOwned>(&self) -> Result<T, Unfit> {
        T::deserialize(self.payload).map_err(|error| unfit("payload", error.to_string()))
    }
}

/// What registers an organisation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrganisationForm {
    name: String,
    role: String,
    #[serde(default)]
    contacts: Option<Vec<String>>,
}

/// What registers a client. Its keys are registered apart, by whoever holds them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientForm {
    name: String,
    role: String,
    organisations: Vec<String>,
    certificates: Vec<String>,
    #[serde(default)]
    person: Option<String>,
}

/// What registers a practitioner. Training is imported apart, with its evidence.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PractitionerForm {
    name: String,
    role: String,
}

impl Register {
    /// Whether the directory takes what is proposed, as it stands now.
    ///
    /// # Errors
    /// Which member breaks which rule.
    pub fn fits(&self, proposal: &Proposal, now_ms: u64) -> Result<(), Unfit> {
        self.changes(&Deed::of(proposal, now_ms)).map(drop)
    }

    /// Whether this act is one on the directory.
    #[must_use]
    pub fn knows(act: &str) -> bool {
        let (kind, verb) = act.split_once('.').unwrap_or_default();
        matches!(
            (kind, verb),
            (
                "organisation" | "client" | "certificate" | "practitioner",
                _
            ) | ("recipient", "register" | "retire")
                | ("training", "require" | "waive")
                | ("providers", "publish" | "strike")
                | ("approval", "register" | "withdraw")
        )
    }

    /// The statements that this act makes or takes back.
    ///
    /// # Errors
    /// Which member breaks which rule.
    pub fn changes(&self, deed: &Deed<'_>) -> Result<Vec<Change>, Unfit> {
        let changes = match deed.act {
            "providers.publish" => self.providers_published(deed)?,
            _ => vec![self.change(deed)?],
        };
        for change in &changes {
            let (Change::Put(statement) | Change::Remove(statement)) = change;
            statement.check()?;
        }
        self.would_stand(&changes)?;
        Ok(changes)
    }

    fn change(&self, deed: &Deed<'_>) -> Result<Change, Unfit> {
        Ok(match deed.act {
            "organisation.register" => self.organisation_registered(deed)?,
            "organisation.suspend" => self.organisation_stopped(deed, true)?,
            "organisation.resume" => self.organisation_stopped(deed, false)?,
            "client.register" => self.client_registered(deed)?,
            "client.remove" => Change::Remove(Statement::Client(self.client_row(deed)?)),
            "client.suspend" => self.client_stopped(deed, true)?,
            "client.resume" => self.client_stopped(deed, false)?,
            "certificate.suspend" => self.certificate_stopped(deed, true)?,
            "certificate.resume" => self.certificate_stopped(deed, false)?,
            "recipient.register" => self.recipient_registered(deed)?,
            "recipient.retire" => self.recipient_retired(deed)?,
            "training.require" => Change::Put(self.requirement(deed, false)?),
            "training.waive" => Change::Remove(self.requirement(deed, true)?),
            "practitioner.register" => self.practitioner_registered(deed)?,
            "practitioner.suspend" => self.practitioner_stopped(deed, true)?,
            "practitioner.resume" => self.practitioner_stopped(deed, false)?,
            "providers.strike" => self.provider_struck(deed)?,
            "approval.register" => self.approval_registered(deed)?,
            "approval.withdraw" => self.approval_withdrawn(deed)?,
            _ => return Err(unfit("act", "is not one that is done to the directory")),
        })
    }

    /// A gateway without an administrator could not be mended, one without a privacy officer has nobody who looks.
    fn would_stand(&self, changes: &[Change]) -> Result<(), Unfit> {
        let mut next = self.clone();
        for change in changes {
            match change {
                Change::Put(statement) => next.put(statement),
                Change::Remove(statement) => next.remove(statement),
            }
        }
        let lost = self.missing().is_none().then(|| next.missing()).flatten();
        match lost {
            None => Ok(()),
            Some(role) => Err(unfit(
                "object",
                format!(
                    "is, or takes along, the last {role} that stands; register another one first"
                ),
            )),
        }
    }

    fn organisation_registered(&self, deed: &Deed<'_>) -> Result<Change, Unfit> {
        let code = ods(deed.object)?;
        let form: OrganisationForm = deed.payload()?;
        let before = self.organisation(&code);
        if before.is_some_and(|before| before.role != form.role) {
            return Err(unfit(
                "payload.role",
                "cannot change; register another code",
            ));
        }
        let contacts = form
            .contacts
            .or(before.map(|before| before.contacts.clone()));
        let contacts = contacts.unwrap_or_default();
        if form.role == "practice" && contacts.is_empty() {
            let rule =
                "must name whom a practice wants told what is done in its name, such as mailto:…";
            return Err(unfit("payload.contacts", rule));
        }
        Ok(Change::Put(Statement::Organisation(Organisation {
            ods: deed.object.to_owned(),
            name: named(form.name)?,
            role: form.role,
            suspended: before.is_some_and(|before| before.suspended),
            contacts,
        })))
    }

    fn organisation_stopped(&self, deed: &Deed<'_>, stop: bool) -> Result<Change, Unfit> {
        let known = self.organisation(&ods(deed.object)?);
        let known = known.ok_or_else(|| unfit("object", "no organisation has this ODS code"))?;
        turned(known.suspended, stop)?;
        Ok(Change::Put(Statement::Organisation(Organisation {
            suspended: stop,
            ..known.clone()
        })))
    }

    fn client_row(&self, deed: &Deed<'_>) -> Result<Client, Unfit> {
        let known = self.client(&client_id(deed.object)?);
        let known = known.ok_or_else(|| unfit("object", "no client has this id"))?;
        Ok(known.row().clone())
    }

    fn client_registered(&self, deed: &Deed<'_>) -> Result<Change, Unfit> {
        let form: ClientForm = deed.payload()?;
        for code in &form.organisations {
            if self.organisation(&ods(code)?).is_none() {
                let rule = format!("{code} is not registered; register the organisation first");
                return Err(unfit("payload.organisations", rule));
            }
        }
        for print in &form.certificates {
            let other = thumbprint(print).and_then(|print| self.by_certificate(&print));
            if other.is_some_and(|other| other.id.as_str() != deed.object) {
                let rule = "one of them is another client's: a certificate is one client's only";
                return Err(unfit("payload.certificates", rule));
            }
        }
        let before = self.client(&client_id(deed.object)?).map(|it| it.row());
        let stopped = before.map(|row| row.stopped.clone()).unwrap_or_default();
        let waits = self.would_wait(&form, deed.object);
        Ok(Change::Put(Statement::Client(Client {
            waits,
            id: deed.object.to_owned(),
            name: named(form.name)?,
            role: form.role,
            organisations: form.organisations,
            // Why kept: a certificate that was stopped stays so until it is let in again by name.
            stopped: stopped
                .into_iter()
                .filter(|print| form.certificates.contains(print))
                .collect(),
            certificates: form.certificates,
            person: form.person,
            sign_key: before.and_then(|row| row.sign_key.clone()),
            open_key: before.and_then(|row| row.open_key.clone()),
            suspended: before.is_some_and(|row| row.suspended),
            older: before.map(|row| row.older.clone()).unwrap_or_default(),
        })))
    }

    /// A practice's first system is let in by the two who register it: nobody there could say anything yet. A further one
    /// waits for the practice's own word, so that nobody else puts a system beside the one that the practice runs.
    fn would_wait(&self, form: &ClientForm, id: &str) -> bool {
        let Some(practice) = form.organisations.first().and_then(|code| ods(code).ok()) else {
            return false;
        };
        let of_practice = |it: &Registered| {
            it.role == ClientRole::Practice && it.organisations.first() == Some(&practice)
        };
        let mut clients = self.acting_for(&practice).filter(|it| of_practice(it));
        let own = clients.clone().find(|it| it.id.as_str() == id);
        let stands = |it: &Arc<Registered>| it.id.as_str() != id && !it.suspended() && !it.waits();
        form.role == "practice" && own.is_none_or(|own| own.waits()) && clients.any(stands)
    }

    /// New keys of a client, whose possession the gateway has checked. What they replace holds for the overlap.
    fn recipient_registered(&self, deed: &Deed<'_>) -> Result<Change, Unfit> {
        let mut row = self.client_row(deed)?;
        let offer = KeyOffer::read(deed.payload)?;
        let (sign, open) = offer.keys()?;
        for key in [&sign, &open].into_iter().flatten() {
            if self.has_key(&key.kid) {
                let rule = "offers a key that stands, or stood, in the directory; make another one";
                return Err(unfit("payload", rule));
            }
        }
        row.older.retain(|it| deed.now_ms < it.until_ms);
        let until_ms = offer.overlap_until(deed.now_ms);
        let mut replace = |purpose, place: &mut Option<Value>, new: Option<Offered>| {
            let Some(new) = new else { return };
            let old = place.replace(new.jwk);
            let old = old.and_then(|jwk| Some((kid_of(purpose, &jwk)?, jwk)));
            row.older.extend(old.map(|(kid, jwk)| OlderKey {
                r#use: purpose,
                kid,
                jwk,
                until_ms,
            }));
        };
        replace(KeyUse::Sign, &mut row.sign_key, sign);
        replace(KeyUse::Open, &mut row.open_key, open);
        row.older.retain(|it| deed.now_ms < it.until_ms);
        if row.older.len() > OLDER_MAX {
            let rule = "would leave more than 4 earlier keys in their overlap; retire one first";
            return Err(unfit("payload", rule));
        }
        Ok(Change::Put(Statement::Client(row)))
    }

    /// `CLIENT/KID`: that key is gone at once, in its overlap too.
    fn recipient_retired(&self, deed: &Deed<'_>) -> Result<Change, Unfit> {
        let rule = "must name client and key as CLIENT/KID, the key by its RFC 7638 thumbprint";
        let (client, kid) = deed
            .object
            .split_once('/')
            .ok_or_else(|| unfit("object", rule))?;
        let known = self.client(&client_id(client)?);
        let known = known.ok_or_else(|| unfit("object", "no client has this id"))?;
        let mut row = known.row().clone();
        let is_it = |purpose, key: &Option<Value>| {
            key.as_ref().and_then(|jwk| kid_of(purpose, jwk)).as_deref() == Some(kid)
        };
        let older = row.older.len();
        row.older.retain(|it| it.kid != kid);
        let mut is_gone = row.older.len() < older;
        if is_it(KeyUse::Sign, &row.sign_key) {
            (row.sign_key, is_gone) = (None, true);
        }
        if is_it(KeyUse::Open, &row.open_key) {
            (row.open_key, is_gone) = (None, true);
        }
        if !is_gone {
            return Err(unfit("object", "no key of this client has this name"));
        }
        Ok(Change::Put(Statement::Client(row)))
    }

    fn client_stopped(&self, deed: &Deed<'_>, stop: bool) -> Result<Change, Unfit> {
        let row = self.client_row(deed)?;
        turned(row.suspended, stop)?;
        Ok(Change::Put(Statement::Client(Client {
            suspended: stop,
            ..row
        })))
    }

    fn certificate_stopped(&self, deed: &Deed<'_>, stop: bool) -> Result<Change, Unfit> {
        let print = thumbprint(deed.object).ok_or_else(|| {
            let rule = "must be the SHA-256 thumbprint of a certificate, in lower-case hex";
            unfit("object", rule)
        })?;
        let client = self.by_certificate(&print);
        let client = client.ok_or_else(|| unfit("object", "no client has this certificate"))?;
        let mut row = client.row().clone();
        turned(row.stopped.iter().any(|it| it == deed.object), stop)?;
        row.stopped.retain(|it| it != deed.object);
        if stop {
            row.stopped.push(deed.object.to_owned());
        }
        Ok(Change::Put(Statement::Client(row)))
    }

    /// `ROLE/REQUIREMENT`: asked of everybody in that role, beside data security.
    fn requirement(&self, deed: &Deed<'_>, stands: bool) -> Result<Statement, Unfit> {
        let rule = "must name role and requirement as ROLE/REQUIREMENT";
        let (role, requirement) = deed
            .object
            .split_once('/')
            .ok_or_else(|| unfit("object", rule))?;
        let (role, requirement) = (role.to_owned(), requirement.to_owned());
        let key = (role.clone(), requirement.clone());
        match (self.requirements.contains(&key), stands) {
            (true, true) | (false, false) => {}
            (true, false) => return Err(unfit("object", "is required already")),
            (false, true) => return Err(unfit("object", "is not required")),
        }
        Ok(Statement::Requirement(Requirement { role, requirement }))
    }

    fn practitioner_row(&self, deed: &Deed<'_>) -> Result<Option<Practitioner>, Unfit> {
        let (organisation, id) = person_at(deed.object)?;
        if self.organisation(&organisation).is_none() {
            let rule = "names an organisation that is not registered; register it first";
            return Err(unfit("object", rule));
        }
        Ok(self.practitioner_stated(&organisation, &id).cloned())
    }

    fn practitioner_registered(&self, deed: &Deed<'_>) -> Result<Change, Unfit> {
        let form: PractitionerForm = deed.payload()?;
        let before = self.practitioner_row(deed)?;
        let (organisation, id) = person_at(deed.object)?;
        Ok(Change::Put(Statement::Practitioner(Practitioner {
            id: id.as_str().to_owned(),
            organisation: organisation.as_str().to_owned(),
            role: form.role,
            name: named(form.name)?,
            trained_until_ms: before.as_ref().and_then(|row| row.trained_until_ms),
            suspended: before.is_some_and(|row| row.suspended),
        })))
    }

    fn practitioner_stopped(&self, deed: &Deed<'_>, stop: bool) -> Result<Change, Unfit> {
        let row = self.practitioner_row(deed)?;
        let row = row.ok_or_else(|| unfit("object", "no such practitioner is registered"))?;
        turned(row.suspended, stop)?;
        Ok(Change::Put(Statement::Practitioner(Practitioner {
            suspended: stop,
            ..row
        })))
    }
}

/// `ODS/ID`, as a practitioner is named.
fn person_at(object: &str) -> Result<(Ods, PractitionerId), Unfit> {
    let rule = "must name organisation and practitioner as ODS/ID";
    let (organisation, id) = object
        .split_once('/')
        .ok_or_else(|| unfit("object", rule))?;
    let id = PractitionerId::try_from(id).map_err(|_| unfit("object", rule))?;
    Ok((ods(organisation)?, id))
}

fn named(name: String) -> Result<String, Unfit> {
    let fits = (1..=120).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if fits {
        Ok(name)
    } else {
        let rule = "must have 1 to 120 characters, none of them a control character";
        Err(unfit("payload.name", rule))
    }
}

/// Stopping what is stopped, or letting in what is let in, is said rather than done again.
fn turned(is_stopped: bool, stop: bool) -> Result<(), Unfit> {
    match (is_stopped, stop) {
        (true, true) => Err(unfit("object", "is suspended already")),
        (false, false) => Err(unfit("object", "is not suspended")),
        (true, false) | (false, true) => Ok(()),
    }
}
