//! From our words to Cedar's: entities, requests and contexts, always checked against the schema.
//!
//! Built from pairs, with the type names parsed once; no JSON. Nothing is decided here. What does
//! not fit the schema is [`Malformed`], and its text is dropped: it could name a patient.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
    Schema,
};

use crate::caller::{Caller, RecordScope};
use crate::facts::{self, Agreement, Hand, PractitionerFacts, Proposed, Relationship, Strength};
use crate::words::{Category, ClientRole, Label, NhsNumber, Ods, PersonId, Purpose, hex};

/// A request and all entities it speaks of.
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

/// The question does not fit the schema.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Malformed;

macro_rules! lexicon {
    ($( $kind:ident = $name:literal ),+ $(,)?) => {
        /// The names of our entity types, parsed once.
        pub(crate) struct Lexicon { $( $kind: EntityTypeName ),+ }

        impl Lexicon {
            pub(crate) fn new() -> Result<Lexicon, Malformed> {
                Ok(Lexicon { $( $kind: $name.parse().map_err(|_| Malformed)? ),+ })
            }
        }
    };
}

lexicon! {
    action = "Action", purpose = "Purpose", category = "Category", label = "Label", role = "Role",
    client_role = "ClientRole", relation_kind = "RelationKind", errand = "Errand",
    log_part = "LogPart", deed = "Deed", organisation = "Organisation", client = "Client",
    practitioner = "Practitioner", patient = "Patient", record = "Record",
    practice_file = "PracticeFile", person = "Person", proposal = "Proposal",
    organisation_file = "OrganisationFile",
}

/// What a release is decided about, whichever record: who, for whom, what for, under which token.
pub(crate) struct Bearing<'a> {
    /// `read`, or `issue`.
    pub(crate) action: &'static str,
    pub(crate) now_ms: u64,
    pub(crate) caller: &'a Caller,
    pub(crate) is_suspended: bool,
    pub(crate) practitioner: &'a PractitionerFacts,
    pub(crate) trained_until_ms: u64,
    pub(crate) objections: &'a BTreeSet<Purpose>,
    pub(crate) scope: &'a RecordScope,
    pub(crate) categories: &'a BTreeSet<Category>,
    pub(crate) expires_ms: u64,
}

/// What a practice's system may be sent for, and what its token says it was.
pub(crate) struct PracticeAct<'a> {
    pub(crate) action: &'static str,
    pub(crate) now_ms: u64,
    pub(crate) caller: &'a Caller,
    pub(crate) is_suspended: bool,
    pub(crate) is_accepted: bool,
    pub(crate) practice: &'a Ods,
    pub(crate) errand: &'static str,
    pub(crate) patient: Option<&'a NhsNumber>,
    pub(crate) token: PracticeToken<'a>,
}

/// A practice's token, as the policy sees it.
pub(crate) struct PracticeToken<'a> {
    pub(crate) errand: &'static str,
    pub(crate) practice: &'a Ods,
    pub(crate) patient: Option<&'a NhsNumber>,
    pub(crate) expires_ms: u64,
}

/// What an organisation's system may be sent for, and what its token says it was.
pub(crate) struct OrganisationAct<'a> {
    pub(crate) action: &'static str,
    pub(crate) now_ms: u64,
    pub(crate) caller: &'a Caller,
    pub(crate) is_suspended: bool,
    pub(crate) organisation: &'a Ods,
    pub(crate) errand: &'static str,
    pub(crate) patient: Option<&'a NhsNumber>,
    /// Errand, organisation, patient and expiry of its token.
    pub(crate) token: PracticeToken<'a>,
    pub(crate) hand: &'a Hand,
    pub(crate) accepts: bool,
    pub(crate) proposal: Option<&'a Hand>,
    pub(crate) corroborates: bool,
}

/// What an administrator or auditor wants: a deed, the approval of one, or a part of the log.
pub(crate) enum StaffAct<'a> {
    Administer(&'a str),
    Approve(Approval<'a>),
    ReadLog(&'static str),
    Review,
}

/// An approval of what was proposed, by whom, with which content.
pub(crate) struct Approval<'a> {
    pub(crate) deed: &'a str,
    pub(crate) digest: &'a [u8; 32],
    pub(crate) person: &'a PersonId,
    pub(crate) proposed: &'a Proposed,
}

impl Lexicon {
    /// The acts by which records leave.
    pub(crate) fn release_actions(&self) -> [EntityUid; 2] {
        ["issue", "read"].map(|action| uid(&self.action, action))
    }

    /// Everyone and everything a release speaks of, except the record itself.
    pub(crate) fn people(
        &self,
        schema: &Schema,
        bearing: &Bearing<'_>,
    ) -> Result<Entities, Malformed> {
        let practitioner = entity(
            uid(&self.practitioner, bearing.scope.practitioner.as_str()),
            [
                ("organisation", self.ods(&bearing.practitioner.organisation)),
                ("role", name(&self.role, bearing.practitioner.role.code())),
                ("suspended", truth(bearing.practitioner.suspended)),
                ("trainedUntil", long(bearing.trained_until_ms)),
            ],
        )?;
        let patient = entity(
            uid(&self.patient, bearing.scope.patient.as_str()),
            [("objections", self.purposes(bearing.objections.iter()))],
        )?;
        let client = self.client_entity(bearing.caller, bearing.is_suspended)?;
        entities([practitioner, patient, client], schema)
    }

    /// The request: the same for every record under one agreement.
    ///
    /// Token and agreement are narrowed to the purpose and the categories in question, which saves
    /// a third of the work. They are evidence: what is left out of them can only refuse.
    pub(crate) fn release_request(
        &self,
        schema: &Schema,
        bearing: &Bearing<'_>,
        agreement: Option<&Agreement>,
        approval: Option<&facts::Approval>,
        relationship: Option<&Relationship>,
        in_question: &BTreeSet<Category>,
    ) -> Result<Request, Malformed> {
        let holder = uid(&self.practitioner, bearing.scope.practitioner.as_str());
        let mut pairs = vec![
            ("now", long(bearing.now_ms)),
            (
                "client",
                name(&self.client, bearing.caller.client().as_str()),
            ),
            ("token", self.token(bearing, &holder, in_question)?),
        ];
        if let Some(agreement) = agreement {
            pairs.push((
                "agreement",
                self.agreement(agreement, bearing, in_question)?,
            ));
        }
        if let Some(approval) = approval {
            pairs.push(("approval", self.approval(approval, bearing, in_question)?));
        }
        if let Some(relationship) = relationship {
            pairs.push(("relationship", self.relationship(relationship)?));
        }
        self.request(holder, bearing.action, self.candidate(), pairs, schema)
    }

    /// A record of that practice, category and label set.
    pub(crate) fn record(
        &self,
        patient: &NhsNumber,
        practice: &Ods,
        category: Category,
        labels: &BTreeSet<Label>,
    ) -> Result<Entity, Malformed> {
        let labels = labels.iter().map(|label| name(&self.label, label.code()));
        entity(
            self.candidate(),
            [
                ("practice", self.ods(practice)),
                ("patient", name(&self.patient, patient.as_str())),
                ("category", name(&self.category, category.code())),
                ("labels", RestrictedExpression::new_set(labels)),
            ],
        )
    }

    /// The whole question of an act in a practice's name.
    pub(crate) fn practice_question(
        &self,
        schema: &Schema,
        act: &PracticeAct<'_>,
    ) -> Result<Question, Malformed> {
        let mut token = vec![
            ("errand", name(&self.errand, act.token.errand)),
            ("practice", self.ods(act.token.practice)),
            ("expires", long(act.token.expires_ms)),
        ];
        token.extend(act.token.patient.map(|it| ("patient", self.nhs(it))));
        let mut pairs = vec![
            ("now", long(act.now_ms)),
            ("token", record(token)?),
            ("errand", name(&self.errand, act.errand)),
            ("accepted", truth(act.is_accepted)),
        ];
        pairs.extend(act.patient.map(|it| ("patient", self.nhs(it))));

        let file = uid(&self.practice_file, act.practice.as_str());
        let client = self.client_entity(act.caller, act.is_suspended)?;
        Ok(Question {
            request: self.request(client.uid(), act.action, file.clone(), pairs, schema)?,
            entities: entities(
                [
                    client,
                    entity(file, [("practice", self.ods(act.practice))])?,
                ],
                schema,
            )?,
        })
    }

    /// The whole question of an act in the name of an organisation that asks.
    pub(crate) fn organisation_question(
        &self,
        schema: &Schema,
        act: &OrganisationAct<'_>,
    ) -> Result<Question, Malformed> {
        let mut token = vec![
            ("errand", name(&self.errand, act.token.errand)),
            ("organisation", self.ods(act.token.practice)),
            ("expires", long(act.token.expires_ms)),
        ];
        token.extend(act.token.patient.map(|it| ("patient", self.nhs(it))));
        let own = act.caller.organisations().first().ok_or(Malformed)?;
        let mut pairs = vec![
            ("now", long(act.now_ms)),
            ("token", record(token)?),
            ("errand", name(&self.errand, act.errand)),
            ("own", self.ods(own)),
            ("hand", self.hand(act.hand)?),
            ("accepts", truth(act.accepts)),
            ("corroborates", truth(act.corroborates)),
        ];
        pairs.extend(act.patient.map(|it| ("patient", self.nhs(it))));
        if let Some(proposal) = act.proposal {
            pairs.push(("proposal", self.hand(proposal)?));
        }
        let file = uid(&self.organisation_file, act.organisation.as_str());
        let client = self.client_entity(act.caller, act.is_suspended)?;
        Ok(Question {
            request: self.request(client.uid(), act.action, file.clone(), pairs, schema)?,
            entities: entities(
                [
                    client,
                    entity(file, [("organisation", self.ods(act.organisation))])?,
                ],
                schema,
            )?,
        })
    }

    fn hand(&self, hand: &Hand) -> Result<RestrictedExpression, Malformed> {
        record(vec![
            ("client", name(&self.client, &hand.client)),
            ("certificate", text(&hand.certificate)),
            ("signing", text(&hand.signing)),
        ])
    }

    /// The whole question of an administrator's or auditor's act.
    pub(crate) fn staff_question(
        &self,
        schema: &Schema,
        caller: &Caller,
        is_suspended: bool,
        now_ms: u64,
        act: &StaffAct<'_>,
    ) -> Result<Question, Malformed> {
        let client = self.client_entity(caller, is_suspended)?;
        let mut pairs = vec![("now", long(now_ms))];
        let mut known = vec![client.clone()];
        let (action, resource) = match act {
            StaffAct::Administer(deed) => ("administer", uid(&self.deed, deed)),
            StaffAct::ReadLog(part) => ("readLog", uid(&self.log_part, part)),
            StaffAct::Approve(approval) => {
                let digest = hex(approval.digest);
                pairs.push(("person", name(&self.person, approval.person.as_str())));
                pairs.push(("deed", name(&self.deed, approval.deed)));
                pairs.push(("digest", text(&digest)));
                let proposal = self.proposal(approval.proposed)?;
                let resource = proposal.uid();
                known.push(proposal);
                ("approve", resource)
            }
            StaffAct::Review => ("review", uid(&self.log_part, "worklist")),
        };
        Ok(Question {
            request: self.request(client.uid(), action, resource, pairs, schema)?,
            entities: entities(known, schema)?,
        })
    }

    fn proposal(&self, proposed: &Proposed) -> Result<Entity, Malformed> {
        let digest = hex(&proposed.digest);
        entity(
            uid(&self.proposal, &digest),
            [
                ("deed", name(&self.deed, &proposed.act)),
                ("person", name(&self.person, proposed.person.as_str())),
                ("digest", text(&digest)),
                ("proposerSuspended", truth(proposed.proposer_suspended)),
                ("expires", long(proposed.expires_ms)),
            ],
        )
    }

    fn request(
        &self,
        principal: EntityUid,
        action: &str,
        resource: EntityUid,
        pairs: Vec<(&str, RestrictedExpression)>,
        schema: &Schema,
    ) -> Result<Request, Malformed> {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        let context = Context::from_pairs(pairs).map_err(|_| Malformed)?;
        let action = uid(&self.action, action);
        // Why the schema: a context without its required fields would make guards err.
        Request::new(principal, action, resource, context, Some(schema)).map_err(|_| Malformed)
    }

    fn client_entity(&self, caller: &Caller, is_suspended: bool) -> Result<Entity, Malformed> {
        let role: ClientRole = caller.role();
        let organisations = caller.organisations().iter().map(|ods| self.ods(ods));
        entity(
            uid(&self.client, caller.client().as_str()),
            [
                ("role", name(&self.client_role, role.code())),
                (
                    "organisations",
                    RestrictedExpression::new_set(organisations),
                ),
                ("suspended", truth(is_suspended)),
            ],
        )
    }

    fn token(
        &self,
        bearing: &Bearing<'_>,
        holder: &EntityUid,
        in_question: &BTreeSet<Category>,
    ) -> Result<RestrictedExpression, Malformed> {
        let scope = bearing.scope;
        let reason = scope.reason.as_deref().unwrap_or_default().trim();
        let mut pairs = vec![
            (
                "holder",
                RestrictedExpression::new_entity_uid(holder.clone()),
            ),
            ("patient", self.nhs(&scope.patient)),
            ("purpose", self.purpose(&scope.purpose)),
            (
                "categories",
                self.categories(bearing.categories.intersection(in_question)),
            ),
            ("expires", long(bearing.expires_ms)),
            ("reason", text(reason)),
            ("reasonLength", long(reason.chars().count() as u64)),
            ("acknowledged", truth(scope.acknowledged)),
        ];
        if let Some(claim) = &scope.relationship {
            let claim = record(vec![
                ("kind", name(&self.relation_kind, claim.kind.code())),
                ("reference", text(&claim.reference)),
            ])?;
            pairs.push(("claim", claim));
        }
        record(pairs)
    }

    fn agreement(
        &self,
        agreement: &Agreement,
        bearing: &Bearing<'_>,
        in_question: &BTreeSet<Category>,
    ) -> Result<RestrictedExpression, Malformed> {
        let purposes = agreement.purposes.iter();
        let purposes = purposes.filter(|purpose| **purpose == bearing.scope.purpose);
        let labels = agreement.labels.iter();
        let labels = labels.map(|label| name(&self.label, label.code()));
        record(vec![
            ("practice", self.ods(&agreement.practice)),
            ("organisation", self.ods(&agreement.organisation)),
            ("purposes", self.purposes(purposes)),
            (
                "categories",
                self.categories(agreement.categories.intersection(in_question)),
            ),
            ("labels", RestrictedExpression::new_set(labels)),
            ("acceptsAsserted", truth(agreement.accepts_asserted)),
            (
                "emergencyOverridesObjection",
                truth(agreement.emergency_overrides_objection),
            ),
            ("from", long(agreement.from_ms)),
            ("until", long(agreement.until_ms)),
            ("proposedBy", text(&agreement.proposed_by)),
            ("acceptedBy", text(&agreement.accepted_by)),
            ("cooledOff", long(agreement.cooled_ms)),
        ])
    }

    fn approval(
        &self,
        approval: &facts::Approval,
        bearing: &Bearing<'_>,
        in_question: &BTreeSet<Category>,
    ) -> Result<RestrictedExpression, Malformed> {
        let purposes = approval.purposes.iter();
        let purposes = purposes.filter(|purpose| **purpose == bearing.scope.purpose);
        record(vec![
            ("practice", self.ods(&approval.practice)),
            ("organisation", self.ods(&approval.organisation)),
            ("purposes", self.purposes(purposes)),
            (
                "categories",
                self.categories(approval.categories.intersection(in_question)),
            ),
            ("from", long(approval.from_ms)),
            ("until", long(approval.until_ms)),
        ])
    }

    fn relationship(&self, it: &Relationship) -> Result<RestrictedExpression, Malformed> {
        record(vec![
            ("patient", self.nhs(&it.patient)),
            ("organisation", self.ods(&it.organisation)),
            ("kind", name(&self.relation_kind, it.kind.code())),
            ("reference", text(&it.reference)),
            ("corroborated", truth(it.strength == Strength::Corroborated)),
            ("from", long(it.from_ms)),
            ("until", long(it.until_ms)),
        ])
    }

    fn purposes<'a>(&self, purposes: impl Iterator<Item = &'a Purpose>) -> RestrictedExpression {
        RestrictedExpression::new_set(purposes.map(|purpose| self.purpose(purpose)))
    }

    fn categories<'a>(
        &self,
        categories: impl Iterator<Item = &'a Category>,
    ) -> RestrictedExpression {
        RestrictedExpression::new_set(categories.map(|it| name(&self.category, it.code())))
    }

    /// Purposes that nobody is served are one word to the policy.
    fn purpose(&self, purpose: &Purpose) -> RestrictedExpression {
        match purpose {
            Purpose::Unserved(_) => name(&self.purpose, "unserved"),
            Purpose::Treat
            | Purpose::Etreat
            | Purpose::Btg
            | Purpose::Hresch
            | Purpose::Pubhlth
            | Purpose::Hoperat => name(&self.purpose, purpose.code()),
        }
    }

    fn ods(&self, ods: &Ods) -> RestrictedExpression {
        name(&self.organisation, ods.as_str())
    }

    fn nhs(&self, patient: &NhsNumber) -> RestrictedExpression {
        name(&self.patient, patient.as_str())
    }

    /// The record in question has no name: practice, category and labels are all that decides.
    fn candidate(&self) -> EntityUid {
        uid(&self.record, "candidate")
    }
}

/// Entities with the schema's actions, each one checked against the schema.
pub(crate) fn entities(
    these: impl IntoIterator<Item = Entity>,
    schema: &Schema,
) -> Result<Entities, Malformed> {
    Entities::from_entities(these, Some(schema)).map_err(|_| Malformed)
}

fn entity<const N: usize>(
    uid: EntityUid,
    attributes: [(&str, RestrictedExpression); N],
) -> Result<Entity, Malformed> {
    let attributes: HashMap<String, RestrictedExpression> = attributes
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    Entity::new(uid, attributes, HashSet::new()).map_err(|_| Malformed)
}

fn record(pairs: Vec<(&str, RestrictedExpression)>) -> Result<RestrictedExpression, Malformed> {
    let pairs = pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    RestrictedExpression::new_record(pairs).map_err(|_| Malformed)
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn name(kind: &EntityTypeName, id: &str) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(uid(kind, id))
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn truth(truth: bool) -> RestrictedExpression {
    RestrictedExpression::new_bool(truth)
}

/// Milliseconds beyond Cedar's integers are the end of time: a `now` there is past every expiry.
fn long(time_ms: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(time_ms).unwrap_or(i64::MAX))
}
