//! Looking up agreements: by practice and organisation for a decision, by either side for those who made them.
//! A decision reads the two parties' rows and no others, however many the practice has. Nothing is decided here.

use policy::facts::{Fact, Why};
use policy::words::{NhsNumber, Ods};

use super::agreement::{Countersignature, PracticeSettings, Standing};
use super::providers::RegisterAcceptance;
use super::statement::{Kind, RelationshipRow, Statement, fixed, two_party_key};
use super::{Facts, Register, StoreError, Table};

/// All of them or none: one that cannot be read makes the answer unknown.
pub(super) fn read<A, B>(all: Fact<Vec<A>>, read: impl Fn(&A) -> Option<B>) -> Fact<Vec<B>> {
    match all {
        Fact::Unknown(why) => Fact::Unknown(why),
        Fact::Known(all) => match all.iter().map(read).collect() {
            Some(read) => Fact::Known(read),
            None => Fact::Unknown(Why::Store),
        },
    }
}

impl Facts {
    /// What stands between this practice and this organisation, whatever has become of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn agreements(
        &self,
        practice: &Ods,
        organisation: &Ods,
    ) -> Result<Fact<Vec<Standing>>, StoreError> {
        let (practice, organisation) = (practice.as_str(), organisation.as_str());
        let proposed = self
            .rows(Kind::Agreement, &[&fixed(practice), &fixed(organisation)])
            .await?;
        let answers = match proposed.is_empty() {
            true => Vec::new(),
            false => {
                let parts: [&[u8]; 2] = [&fixed(organisation), &fixed(practice)];
                self.rows(Kind::Countersignature, &parts).await?
            }
        };
        Ok(self.joined(practice, proposed, answers))
    }

    /// One agreement, by its parties and reference. `Known(None)` if it was never proposed.
    ///
    /// # Errors
    /// The store's.
    pub async fn agreement(
        &self,
        practice: &Ods,
        organisation: &Ods,
        reference: &str,
    ) -> Result<Fact<Option<Standing>>, StoreError> {
        let all = self.agreements(practice, organisation).await?;
        Ok(match all {
            Fact::Unknown(why) => Fact::Unknown(why),
            Fact::Known(all) => {
                Fact::Known(all.into_iter().find(|it| it.row.reference == reference))
            }
        })
    }

    /// What this organisation answered to this practice under this reference. `Known(None)` if it never did.
    ///
    /// # Errors
    /// The store's.
    pub async fn countersignature(
        &self,
        practice: &Ods,
        organisation: &Ods,
        reference: &str,
    ) -> Result<Fact<Option<Countersignature>>, StoreError> {
        let key = two_party_key(
            Kind::Countersignature,
            self.seals.as_ref(),
            (organisation.as_str(), practice.as_str()),
            reference,
        );
        Ok(match self.at(vec![key]).await?.into_iter().next() {
            Some(Fact::Known(Statement::Countersignature(row))) => Fact::Known(Some(row)),
            Some(Fact::Known(_)) => Fact::Unknown(Why::Store),
            Some(Fact::Unknown(why)) => Fact::Unknown(why),
            None => match self.soundness(organisation.as_str()) {
                Ok(_) => Fact::Known(None),
                Err(why) => Fact::Unknown(why),
            },
        })
    }

    /// Everything this practice proposed to anybody.
    ///
    /// # Errors
    /// The store's.
    pub async fn proposed_by(&self, practice: &Ods) -> Result<Fact<Vec<Standing>>, StoreError> {
        let proposed = self
            .rows(Kind::Agreement, &[&fixed(practice.as_str())])
            .await?;
        let keys: Vec<Vec<u8>> = proposed
            .iter()
            .filter_map(|row| match row {
                Fact::Known(Statement::Agreement(row)) => Some(two_party_key(
                    Kind::Countersignature,
                    self.seals.as_ref(),
                    (&row.organisation, &row.practice),
                    &row.reference,
                )),
                Fact::Known(_) | Fact::Unknown(_) => None,
            })
            .collect();
        let answers = self.at(keys).await?;
        Ok(self.joined(practice.as_str(), proposed, answers))
    }

    /// Everything that was proposed to this organisation.
    ///
    /// # Errors
    /// The store's.
    pub async fn proposed_to(&self, organisation: &Ods) -> Result<Fact<Vec<Standing>>, StoreError> {
        let offers = self
            .rows(Kind::Offer, &[&fixed(organisation.as_str())])
            .await?;
        let mut keys = Vec::with_capacity(offers.len());
        for offer in offers {
            match offer {
                Fact::Known(Statement::Offer(offer)) => keys.push(two_party_key(
                    Kind::Agreement,
                    self.seals.as_ref(),
                    (&offer.practice, &offer.organisation),
                    &offer.reference,
                )),
                Fact::Known(_) => return Ok(Fact::Unknown(Why::Store)),
                // Why left out: what another practice's facts lost is not this organisation's trouble.
                Fact::Unknown(_) => {}
            }
        }
        let proposed = self.at(keys).await?;
        let answers = self
            .rows(Kind::Countersignature, &[&fixed(organisation.as_str())])
            .await?;
        Ok(self.joined(organisation.as_str(), proposed, answers))
    }

    /// How this practice wants its agreements made; what everybody has where it never said.
    ///
    /// # Errors
    /// The store's.
    pub async fn settings(&self, practice: &Ods) -> Result<Fact<PracticeSettings>, StoreError> {
        let rows = self
            .rows(Kind::PracticeSettings, &[&fixed(practice.as_str())])
            .await?;
        Ok(
            match (rows.into_iter().next(), self.soundness(practice.as_str())) {
                (_, Err(why)) | (Some(Fact::Unknown(why)), _) => Fact::Unknown(why),
                (Some(Fact::Known(Statement::PracticeSettings(row))), Ok(_)) => Fact::Known(row),
                (Some(Fact::Known(_)), Ok(_)) => Fact::Unknown(Why::Store),
                (None, Ok(_)) => Fact::Known(PracticeSettings::of(practice)),
            },
        )
    }

    /// What this practice accepted of the register of emergency providers; of every practice where none is named.
    ///
    /// # Errors
    /// The store's.
    pub async fn register_acceptances(
        &self,
        practice: Option<&Ods>,
    ) -> Result<Fact<Vec<RegisterAcceptance>>, StoreError> {
        let own = practice.map(|practice| fixed(practice.as_str()));
        let parts: Vec<&[u8]> = own.iter().map(|own| &own[..]).collect();
        let mut out = Vec::new();
        for row in self.rows(Kind::RegisterAcceptance, &parts).await? {
            match row {
                Fact::Known(Statement::RegisterAcceptance(row)) => out.push(row),
                Fact::Known(_) => return Ok(Fact::Unknown(Why::Store)),
                // Why left out of all: what one practice's facts lost is not the others' trouble.
                Fact::Unknown(_) if practice.is_none() => {}
                Fact::Unknown(why) => return Ok(Fact::Unknown(why)),
            }
        }
        let sound = practice.map(|practice| self.soundness(practice.as_str()));
        Ok(match sound {
            Some(Err(why)) => Fact::Unknown(why),
            Some(Ok(_)) | None => Fact::Known(out),
        })
    }

    /// Whether this practice ever used this reference towards one of these organisations.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_taken(
        &self,
        practice: &Ods,
        organisations: &[&str],
        reference: &str,
    ) -> Result<Fact<bool>, StoreError> {
        if let Err(why) = self.soundness(practice.as_str()) {
            return Ok(Fact::Unknown(why));
        }
        let key = |organisation: &&str| {
            let parties = (practice.as_str(), *organisation);
            two_party_key(Kind::Agreement, self.seals.as_ref(), parties, reference)
        };
        let keys = organisations.iter().map(key).collect();
        Ok(Fact::Known(!self.at(keys).await?.is_empty()))
    }

    /// Everything that anybody said of who cares for this patient.
    ///
    /// # Errors
    /// The store's.
    pub async fn relationship_rows(
        &self,
        patient: &NhsNumber,
    ) -> Result<Fact<Vec<RelationshipRow>>, StoreError> {
        let tag = self.seals.tag("patient", patient.as_str());
        let mut out = Vec::new();
        for row in self.rows(Kind::Relationship, &[&tag]).await? {
            match row {
                Fact::Known(Statement::Relationship(row)) => out.push(row),
                Fact::Known(_) => return Ok(Fact::Unknown(Why::Store)),
                Fact::Unknown(why) => return Ok(Fact::Unknown(why)),
            }
        }
        Ok(Fact::Known(out))
    }

    /// The clients that this practice accepted.
    ///
    /// # Errors
    /// The store's.
    pub async fn clients_of(&self, practice: &Ods) -> Result<Fact<Vec<String>>, StoreError> {
        let rows = self
            .rows(Kind::Acceptance, &[&fixed(practice.as_str())])
            .await?;
        let mut clients = Vec::with_capacity(rows.len());
        for row in rows {
            match row {
                Fact::Known(Statement::Acceptance(row)) => clients.push(row.client),
                Fact::Known(_) => return Ok(Fact::Unknown(Why::Store)),
                Fact::Unknown(why) => return Ok(Fact::Unknown(why)),
            }
        }
        Ok(match self.soundness(practice.as_str()) {
            Ok(_) => Fact::Known(clients),
            Err(why) => Fact::Unknown(why),
        })
    }

    /// The statements at these keys, those that there are.
    async fn at(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Fact<Statement>>, StoreError> {
        let rows = self.store.get_many(Table::Facts, keys).await?;
        Ok(rows
            .into_iter()
            .flatten()
            .map(|row| self.told(row))
            .collect())
    }

    /// Proposals, each with what answers it. Unknown if anything of it is.
    fn joined(
        &self,
        owner: &str,
        proposed: Vec<Fact<Statement>>,
        answers: Vec<Fact<Statement>>,
    ) -> Fact<Vec<Standing>> {
        match self.register() {
            Fact::Known(register) => self.joined_in(&register, owner, proposed, answers),
            Fact::Unknown(why) => Fact::Unknown(why),
        }
    }

    /// The same under the register of emergency providers as this directory has it.
    pub(super) fn joined_in(
        &self,
        register: &Register,
        owner: &str,
        proposed: Vec<Fact<Statement>>,
        answers: Vec<Fact<Statement>>,
    ) -> Fact<Vec<Standing>> {
        if let Err(why) = self.soundness(owner) {
            return Fact::Unknown(why);
        }
        let mut countersigned: std::collections::BTreeMap<_, Countersignature> =
            std::collections::BTreeMap::new();
        for answer in answers {
            match answer {
                Fact::Known(Statement::Countersignature(row)) => {
                    let key = (
                        row.practice.clone(),
                        row.organisation.clone(),
                        row.reference.clone(),
                    );
                    countersigned.insert(key, row);
                }
                Fact::Known(_) => return Fact::Unknown(Why::Store),
                Fact::Unknown(why) => return Fact::Unknown(why),
            }
        }
        let mut out = Vec::with_capacity(proposed.len());
        for row in proposed {
            match row {
                Fact::Known(Statement::Agreement(row)) => {
                    let key = (
                        row.practice.clone(),
                        row.organisation.clone(),
                        row.reference.clone(),
                    );
                    let spoken = (
                        register.provider(&row.organisation),
                        register.keeper_word(&row.practice, &row.reference),
                    );
                    out.push(Standing::of(row, countersigned.get(&key), spoken));
                }
                Fact::Known(_) => return Fact::Unknown(Why::Store),
                Fact::Unknown(why) => return Fact::Unknown(why),
            }
        }
        Fact::Known(out)
    }
}
