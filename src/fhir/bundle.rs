//! The entries of a Bundle, one after the other: their requests, their names, their one patient.
//!
//! A transaction names every record once. A collection, which is what GP systems export, may repeat itself.
//! Only [`super::deposit::read_deposit`] calls this; a failure names the entry and keeps nothing.

use super::card::Card;
use super::deposit::{
    Batch, BundleKind, ENTRIES_MAX, FULL_URL_BYTES_MAX, Item, Method, Rule, Violation, own_id,
    patient_entry, resource_type,
};
use super::json::{Kind, Value};
use super::label;
use super::resource::{FhirId, FhirVersion, Name, ResourceType};
use super::subject::{self, Claim, PatientEntry};
use bytes::Bytes;
use policy::words::Label;
use std::collections::{BTreeSet, HashMap, HashSet};

/// A collection may say this many different things under one name. Why a limit: each is compared with all.
const BEARERS_MAX: usize = 8;

/// Reads a Bundle whose JSON is sound.
pub(super) fn bundle(
    body: &Bytes,
    version: FhirVersion,
    root: Value<'_>,
) -> Result<Batch, Violation> {
    let kind = match root.text_at("type").as_deref() {
        Some("transaction") => BundleKind::Transaction,
        Some("batch") => BundleKind::Batch,
        Some("collection") => BundleKind::Collection,
        Some("document") => BundleKind::Document,
        _ => return Err(Violation::new("Bundle.type", Rule::BundleType)),
    };
    let entries = root
        .get("entry")
        .filter(|entry| entry.kind() == Kind::Array);
    let count = entries.map_or(0, |entries| entries.items().count());
    if !(1..=ENTRIES_MAX).contains(&count) {
        return Err(Violation::new("Bundle.entry", Rule::Entries));
    }
    let labels = root.get("meta").map(label::security).unwrap_or_default();
    let mut reader = Reader {
        body,
        kind,
        labels,
        items: Vec::with_capacity(count),
        patient: None,
        claims: Vec::new(),
        urls: HashSet::new(),
        names: HashMap::new(),
    };
    for (index, entry) in entries.into_iter().flat_map(Value::items).enumerate() {
        reader.entry(index, entry)?;
    }
    let subject = subject::settle(reader.patient.as_ref(), &reader.claims)?;
    let mut items = reader.items;
    super::listed::inherit(&mut items);
    Ok(Batch {
        version,
        kind,
        subject,
        items,
        entries: count,
    })
}

/// What is known of a Bundle while its entries are read.
struct Reader<'a> {
    body: &'a Bytes,
    kind: BundleKind,
    /// The labels that the Bundle puts on all its entries.
    labels: BTreeSet<Label>,
    items: Vec<Item>,
    patient: Option<PatientEntry>,
    claims: Vec<Claim>,
    urls: HashSet<String>,
    /// The items that claim a name, in their order.
    names: HashMap<Name, Vec<usize>>,
}

impl Reader<'_> {
    fn entry(&mut self, index: usize, entry: Value<'_>) -> Result<(), Violation> {
        let path = format!("Bundle.entry[{index}]");
        let method = self.method(entry, &path)?;
        let resource = entry
            .get("resource")
            .filter(|resource| resource.kind() == Kind::Object);
        let resource =
            resource.ok_or_else(|| Violation::new(format!("{path}.resource"), Rule::NoResource))?;
        let full_url = self.full_url(entry, &path)?;
        let inner = format!("{path}.resource");
        let kind = resource_type(resource, &inner)?;
        match kind.as_str() {
            "Bundle" => return Err(Violation::new(inner, Rule::NestedBundle)),
            "Consent" => return Err(Violation::new(inner, Rule::Consent)),
            _ => {}
        }
        let own = own_id(resource, &inner)?;
        let asked = asked_id(entry, method, &kind, &path)?;
        if asked.is_some() && own.is_some() && asked != own {
            return Err(Violation::new(format!("{inner}.id"), Rule::OtherId));
        }
        let text = self.body.slice(resource.span());
        let mut id = asked.or(own);
        if let Some(claimed) = id.take() {
            let name = Name {
                kind: kind.clone(),
                id: claimed,
            };
            match self.claim(&name, &text, &inner)? {
                Claimed::Repeated => return Ok(()),
                Claimed::As(own) => id = own,
            }
        }
        if let Some(patient) =
            patient_entry(resource, &kind, id.as_ref(), full_url.as_deref(), &inner)?
        {
            if self.patient.is_some() {
                return Err(Violation::new(inner, Rule::TwoPatients));
            }
            self.patient = Some(patient);
        }
        let claims = subject::claims(resource, &inner)?;
        let is_about_patient = kind.is("Patient") || !claims.is_empty();
        self.claims.extend(claims);
        let card = Card::read(
            resource,
            kind.clone(),
            id.clone(),
            full_url.clone(),
            &self.labels,
        );
        let name = id.map(|id| Name { kind, id });
        self.items.push(Item {
            entry: index,
            name,
            full_url,
            text,
            card,
            method,
            is_about_patient,
        });
        Ok(())
    }

    fn full_url(&mut self, entry: Value<'_>, path: &str) -> Result<Option<String>, Violation> {
        let wrong = |rule| Violation::new(format!("{path}.fullUrl"), rule);
        let Some(value) = entry.get("fullUrl") else {
            return Ok(None);
        };
        let url = value
            .text()
            .filter(|url| (1..=FULL_URL_BYTES_MAX).contains(&url.len()));
        let url = url.ok_or_else(|| wrong(Rule::FullUrl))?.into_owned();
        if !self.urls.insert(url.clone()) {
            return Err(wrong(Rule::DuplicateFullUrl));
        }
        Ok(Some(url))
    }

    fn method(&self, entry: Value<'_>, path: &str) -> Result<Method, Violation> {
        if matches!(self.kind, BundleKind::Collection | BundleKind::Document) {
            return Ok(Method::Unstated);
        }
        let request = entry
            .get("request")
            .ok_or_else(|| Violation::new(format!("{path}.request"), Rule::Method))?;
        match request.text_at("method").as_deref() {
            Some("PUT") => Ok(Method::Put),
            Some("POST") => Ok(Method::Post),
            _ => Err(Violation::new(
                format!("{path}.request.method"),
                Rule::Method,
            )),
        }
    }

    /// Settles who bears a name. Why not simply refuse a second bearer: real GP exports repeat staff and
    /// places, mostly byte for byte, now and then with other words. A repetition is left out; a second text
    /// is kept as `ID.2`, so that nothing is lost and depositing again finds it again.
    fn claim(&mut self, name: &Name, text: &Bytes, path: &str) -> Result<Claimed, Violation> {
        let next = self.items.len();
        let Some(bearers) = self.names.get_mut(name) else {
            self.names.insert(name.clone(), vec![next]);
            return Ok(Claimed::As(Some(name.id.clone())));
        };
        if self.kind != BundleKind::Collection || bearers.len() >= BEARERS_MAX {
            return Err(Violation::new(format!("{path}.id"), Rule::DuplicateName));
        }
        if bearers
            .iter()
            .any(|at| self.items.get(*at).is_some_and(|item| item.text == *text))
        {
            return Ok(Claimed::Repeated);
        }
        bearers.push(next);
        let id = FhirId::try_from(format!("{}.{}", name.id, bearers.len()).as_str()).ok();
        let Some(id) = id else {
            return Ok(Claimed::As(None));
        };
        self.claim(
            &Name {
                kind: name.kind.clone(),
                id,
            },
            text,
            path,
        )
    }
}

/// The id that an entry asks to be stored under.
fn asked_id(
    entry: Value<'_>,
    method: Method,
    kind: &ResourceType,
    path: &str,
) -> Result<Option<FhirId>, Violation> {
    let Some(request) = entry.get("request").filter(|_| method != Method::Unstated) else {
        return Ok(None);
    };
    if request.members().any(|(name, _)| {
        matches!(
            name.as_ref(),
            "ifMatch" | "ifNoneMatch" | "ifNoneExist" | "ifModifiedSince"
        )
    }) {
        return Err(Violation::new(format!("{path}.request"), Rule::Conditional));
    }
    let url = request.text_at("url").unwrap_or_default();
    let wrong = |rule| Err(Violation::new(format!("{path}.request.url"), rule));
    match (method, Name::try_from(url.as_ref())) {
        _ if url.contains('?') => wrong(Rule::Conditional),
        (Method::Post, _) if url == kind.as_str() => Ok(None),
        (Method::Put, Ok(name)) if name.kind == *kind => Ok(Some(name.id)),
        _ => wrong(Rule::RequestUrl),
    }
}

/// Who bears a name after all.
enum Claimed {
    /// The entry says again what another entry said.
    Repeated,
    /// The entry, under this id; `None` where one is to be assigned.
    As(Option<FhirId>),
}
