//! Who cares for a patient, from either side: the practice's word, a hospital's admission feed, or the word of the
//! very system that asks, which counts for less. Each act is decided and recorded before it is applied, and one that
//! ends a relationship acts at the next request.

use policy::words::{ClientRole, NhsNumber, Ods, RelationKind};
use policy::{Ask, Caller, ChangeFacts, Fact, Side, Stated};
use serde_json::json;

use super::agreement::stating;
use super::{Answer, Fault, Gateway};
use crate::facts::{Change, RelationshipRow, Statement};

/// What is said of who cares for a patient.
pub struct Relating {
    /// What it is in a token's claim.
    pub kind: RelationKind,
    /// The reference that a request names.
    pub reference: String,
    /// The organisation that cares; of an organisation's own word, itself.
    pub organisation: Option<Ods>,
    /// Whether it goes on; what does not ends now.
    pub open: bool,
    /// When it began; now where nothing is said.
    pub from_ms: Option<u64>,
    /// When it ends; after this long where nothing is said.
    pub until_ms: Option<u64>,
    /// How long it lasts where no end is said, milliseconds.
    pub lasting_ms: u64,
}

impl Gateway {
    /// States, changes or ends a relationship of this patient.
    ///
    /// # Errors
    /// A fault of ours, or that it does not fit what stands.
    pub async fn relate(
        &self,
        caller: Caller,
        (of, patient): (Side, NhsNumber),
        said: Relating,
    ) -> Result<Answer<()>, Fault> {
        let now_ms = self.clock.now_ms();
        let turn = self.facts.turn().await;
        let corroborates = match &of {
            Side::Practice(_) => true,
            // Why not everything a feed says: that somebody is in the house it knows; the rest it heard.
            Side::Organisation(_) => {
                caller.role() == ClientRole::Admissions && said.kind == RelationKind::Encounter
            }
        };
        let found = self.facts.relationship_rows(&patient).await?;
        let changes = changes(found, (&of, &patient, corroborates), &said, now_ms);
        let detail = json!({
            "kind": said.kind.code(), "reference": said.reference, "open": said.open,
            "organisation": said.organisation.as_ref().map_or("", Ods::as_str),
        });
        let about = (of.ods(), Some(&patient));
        match &of {
            Side::Practice(practice) => {
                let mut facts = self.of_practice(&caller, practice, now_ms).await?;
                facts.registration = self.cares(practice, &patient).await?;
                let act = ChangeFacts {
                    practice: practice.clone(),
                    patient: Some(patient.clone()),
                    change: ChangeFacts::RELATIONSHIP.to_owned(),
                    detail,
                };
                self.enact(Ask::new(caller, act), &facts, about, turn, changes)
                    .await
            }
            Side::Organisation(own) => {
                let facts = self.of_organisation(&caller, own, now_ms);
                let stated = Stated::Relationship { corroborates };
                let act = stating(own, Some(patient.clone()), stated, detail);
                self.enact(Ask::new(caller, act), &facts, about, turn, changes)
                    .await
            }
        }
    }
}

/// What a word of this side comes to, beside what the same side said before under the same kind and reference.
fn changes(
    found: Fact<Vec<RelationshipRow>>,
    (of, patient, corroborated): (&Side, &NhsNumber, bool),
    said: &Relating,
    now_ms: u64,
) -> Result<Vec<Change>, &'static str> {
    let Fact::Known(found) = found else {
        return Err("the relationships of this patient are unknown; nothing was done");
    };
    let stands = found.into_iter().find(|row| {
        row.stated_by == of.ods().as_str()
            && row.kind == said.kind.code()
            && row.reference == said.reference
    });
    let organisation = match (of, &said.organisation, &stands) {
        (Side::Organisation(own), Some(named), _) if named != own => {
            return Err("organisation: must be the one in whose name this is said");
        }
        (Side::Organisation(own), _, _) => own.as_str().to_owned(),
        (Side::Practice(_), Some(named), Some(row)) if named.as_str() != row.organisation => {
            return Err("this reference stands for another organisation; end that first");
        }
        (Side::Practice(_), Some(named), _) => named.as_str().to_owned(),
        (Side::Practice(_), None, Some(row)) => row.organisation.clone(),
        (Side::Practice(_), None, None) if !said.open => return Ok(Vec::new()),
        (Side::Practice(_), None, None) => {
            return Err("organisation: the practice must say who cares, by an ODS code");
        }
    };
    let row = match (stands, said.open) {
        (None, false) => return Ok(Vec::new()),
        (Some(row), false) => RelationshipRow {
            ended_ms: row.ended_ms.or(Some(now_ms)),
            ..row
        },
        (stands, true) => {
            let from_ms = said.from_ms.unwrap_or(now_ms);
            RelationshipRow {
                patient: patient.as_str().to_owned(),
                stated_by: of.ods().as_str().to_owned(),
                organisation,
                kind: said.kind.code().to_owned(),
                reference: said.reference.clone(),
                corroborated,
                from_ms,
                until_ms: said
                    .until_ms
                    .unwrap_or_else(|| from_ms.max(now_ms).saturating_add(said.lasting_ms)),
                stated_ms: stands.map_or(now_ms, |row| row.stated_ms),
                ended_ms: None,
            }
        }
    };
    Ok(vec![Change::Put(Statement::Relationship(row))])
}
