//! Filing: each record version is sealed once, under a fresh data key, signed, and put beside its card.
//! A batch lands whole or not at all. Filing acts only on a recorded grant.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use keys::{Active, Context, DepositClaims, DepositedBy, Family, FreshDek, Key, Sealed};
use policy::words::{NhsNumber, Ods, RecordId};
use policy::{Deposit, Grant, Withdraw};

use super::row::{AUDIT_OWNER, CardRow, PatientRow, State, card_key, keeper_key, patient_key};
use super::{
    PatientTag, Vault, VaultError, audit_context, read, record_context, record_key_context, sure,
};
use crate::fhir::card::Card;
use crate::ledger::{Receipt, Recorded};
use crate::store::{Expect, StoreError, Table, Write};
use tokio::sync::OwnedRwLockReadGuard;

/// One record to be filed: the exact bytes, and what the gateway read of them.
pub struct Filing {
    /// `TYPE/ID`, as the practice calls it.
    pub name: String,
    /// Whether it says nothing of whom it is about: then its name is scoped to the patient it came with.
    pub shared: bool,
    /// The exact slice of bytes received.
    pub text: Bytes,
    /// FHIR media type with version; the envelope's `cty`.
    pub media_type: &'static str,
    /// For labels, routing and search.
    pub card: Card,
}

/// What became of one record.
pub struct Filed {
    /// `TYPE/ID`.
    pub name: String,
    /// Counts from 1.
    pub version: u32,
}

/// Why nothing was filed.
#[derive(Debug, thiserror::Error)]
pub enum FilingError {
    /// The vault or its store failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// This practice filed `TYPE/ID` for another patient.
    #[error("{0} is filed for another patient of this practice")]
    OtherPatient(String),
    /// Another deposit of the same record came between.
    #[error("another deposit of the same record came between; send it again")]
    Conflict,
}

impl From<StoreError> for FilingError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::Conflict,
            other => Self::Vault(VaultError::Store(other)),
        }
    }
}

/// What stands under a name already.
#[derive(Clone)]
struct Standing {
    /// The store's version of the card's row, for the expectation at commit.
    row: u64,
    /// The card as it stands.
    card: Sealed,
}

/// Under which id and version a filing will stand.
#[derive(Clone)]
struct Slot {
    id: RecordId,
    version: u32,
    /// What stands there now; `None`: nothing.
    standing: Option<Standing>,
}

/// What must be committed for a filing. Until it is dropped, no rotation looks for what is left: so it is held
/// until the commit returned.
pub struct Sealing {
    /// For the store.
    writes: Vec<Write>,
    /// Evidence of the entry.
    pub receipt: Receipt,
    _under_way: OwnedRwLockReadGuard<()>,
}

impl Sealing {
    /// Takes what is to be committed.
    pub fn take(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }
}

/// A batch that has been held against what stands: it can be recorded and then filed.
pub struct Batch {
    practice: Ods,
    patient: NhsNumber,
    tag: [u8; 16],
    filings: Vec<(Filing, Slot)>,
}

impl Batch {
    /// Versions each record will have, in order.
    pub fn outcome(&self) -> impl Iterator<Item = Filed> + '_ {
        self.filings.iter().map(|(filing, slot)| Filed {
            name: filing.name.clone(),
            version: slot.version,
        })
    }

    /// `TYPE/ID RECORDID.VERSION` of each record, for the entry: releases name record ids alone, and this is what
    /// leads from the practice's name to whoever received it.
    #[must_use]
    pub fn listed(&self) -> Vec<String> {
        let named = |(filing, slot): &(Filing, Slot)| {
            format!("{} {}.{}", filing.name, slot.id, slot.version)
        };
        self.filings.iter().map(named).collect()
    }
}

impl Vault {
    /// The patient of the record that this practice calls `name`, if the practice filed one.
    ///
    /// # Errors
    /// The store's, or a row that does not open.
    pub async fn patient_of(
        &self,
        practice: &Ods,
        name: &str,
    ) -> Result<Option<NhsNumber>, VaultError> {
        let rows = self
            .store
            .get_many(Table::Names, vec![self.name_key(practice, name, None)])
            .await?;
        let Some(row) = rows.into_iter().next().flatten() else {
            return Ok(None);
        };
        let tag: [u8; 16] = row
            .value
            .get(..16)
            .and_then(|tag| tag.try_into().ok())
            .ok_or(VaultError::Open)?;
        let row = self
            .patient_row(practice, &tag)
            .await?
            .ok_or(VaultError::Open)?;
        let key = self.record_key(practice, &tag, &row.wrapped)?;
        let number = key.open(
            &number_context(practice, &tag),
            row.number.as_ref().ok_or(VaultError::Open)?,
        )?;
        let text = std::str::from_utf8(number.as_bytes()).map_err(|_| VaultError::Open)?;
        NhsNumber::try_from(text)
            .map(Some)
            .map_err(|_| VaultError::Open)
    }

    /// Whether this practice filed this name for this patient, where the record itself says nothing of whom.
    ///
    /// # Errors
    /// The store's.
    pub async fn files_within(
        &self,
        practice: &Ods,
        patient: &NhsNumber,
        name: &str,
    ) -> Result<bool, VaultError> {
        let PatientTag(tag) = self.tag(patient);
        let key = self.name_key(practice, name, Some(&tag));
        Ok(self
            .store
            .get_many(Table::Names, vec![key])
            .await?
            .into_iter()
            .flatten()
            .next()
            .is_some())
    }

    /// Holds a batch against what stands under the same names. Nothing is written.
    ///
    /// # Errors
    /// A name that stands for another patient; the store's.
    pub async fn compare(
        &self,
        practice: &Ods,
        patient: &NhsNumber,
        filings: Vec<Filing>,
    ) -> Result<Batch, FilingError> {
        let PatientTag(tag) = self.tag(patient);
        let keys = filings
            .iter()
            .map(|filing| self.name_key(practice, &filing.name, filing.shared.then_some(&tag)))
            .collect();
        let names = self.store.get_many(Table::Names, keys).await?;
        let mut cards = Vec::new();
        for (filing, row) in filings.iter().zip(&names) {
            let Some(row) = row else { continue };
            let (owner, id) = row
                .value
                .split_first_chunk::<16>()
                .ok_or(VaultError::Open)?;
            if *owner != tag {
                return Err(FilingError::OtherPatient(filing.name.clone()));
            }
            cards.push(card_key(
                &tag,
                practice,
                &RecordId(id.try_into().map_err(|_| VaultError::Open)?),
            ));
        }
        let mut standing = self.store.get_many(Table::Cards, cards).await?.into_iter();
        let mut out = Vec::with_capacity(filings.len());
        for (filing, name) in filings.into_iter().zip(names) {
            let slot = match name {
                None => Slot {
                    id: new_id(),
                    version: 1,
                    standing: None,
                },
                Some(_) => {
                    let row = standing.next().flatten().ok_or(VaultError::Open)?;
                    let card = CardRow::from_bytes(&row.value).map_err(VaultError::from)?;
                    let (_, id) = super::row::read_card_key(&row.key).map_err(VaultError::from)?;
                    Slot {
                        id,
                        version: card.version + 1,
                        standing: Some(Standing {
                            row: row.version,
                            card: card.card,
                        }),
                    }
                }
            };
            out.push((filing, slot));
        }
        Ok(Batch {
            practice: practice.clone(),
            patient: patient.clone(),
            tag,
            filings: out,
        })
    }

    /// Seals and signs the batch, and gives what must be committed for it, together with whatever belongs to
    /// the same act.
    ///
    /// # Errors
    /// The store's, or a key that is missing.
    pub async fn file(
        &self,
        recorded: Recorded<Grant<Deposit>>,
        mut batch: Batch,
        now_s: u64,
    ) -> Result<Sealing, FilingError> {
        let (grant, receipt) = recorded.into_parts();
        // INVARIANT: what was granted is what is filed.
        if grant.act().practice != batch.practice || grant.act().patient != batch.patient {
            return Err(VaultError::Open.into());
        }
        let under_way = Arc::clone(&self.filing).read_owned().await;
        let mut writes = Vec::with_capacity(batch.filings.len() * 2 + 3);
        let key = self.keys_for(&batch, &mut writes).await?;
        keep_labels(&mut batch, &key)?;
        let mut envelopes = Vec::with_capacity(batch.filings.len());
        let mut rows = Vec::with_capacity(batch.filings.len());
        for (filing, slot) in &batch.filings {
            let kid = format!("{}.{}", slot.id, slot.version);
            let (line, dek, card) = self.envelope(&batch, &key, filing, &kid, now_s);
            envelopes.push(line);
            rows.push((dek, card));
        }
        let places = self.blobs.put(envelopes).await?;
        for (((filing, slot), (dek, card)), place) in batch.filings.iter().zip(rows).zip(places) {
            let standing = slot.standing.as_ref();
            let expect = standing.map_or(Expect::Absent, |it| Expect::Version(it.row));
            let row = CardRow {
                version: slot.version,
                state: State::Filed,
                place,
                dek,
                card,
            };
            let key = card_key(&batch.tag, &batch.practice, &slot.id);
            writes.push(Write {
                table: Table::Cards,
                key,
                value: Some(row.to_bytes()),
                expect,
            });
            if slot.standing.is_none() {
                let key = self.name_key(
                    &batch.practice,
                    &filing.name,
                    filing.shared.then_some(&batch.tag),
                );
                let value = Some([batch.tag, slot.id.0].concat());
                writes.push(Write {
                    table: Table::Names,
                    key,
                    value,
                    expect: Expect::Absent,
                });
            }
        }
        Ok(Sealing {
            writes,
            receipt,
            _under_way: under_way,
        })
    }

    /// The record key of this practice and patient; made, wrapped and written at the first deposit.
    async fn keys_for(
        &self,
        batch: &Batch,
        writes: &mut Vec<Write>,
    ) -> Result<Key<Active>, FilingError> {
        if let Some(row) = self.patient_row(&batch.practice, &batch.tag).await? {
            return Ok(self.record_key(&batch.practice, &batch.tag, &row.wrapped)?);
        }
        let key = Key::generate(1);
        let number = key.seal(
            &number_context(&batch.practice, &batch.tag),
            batch.patient.as_str().as_bytes(),
        );
        let ring = read(&self.ring);
        let family = Family::Kek(batch.practice.as_str().to_owned());
        let kek = ring
            .active_key(&family)
            .map_err(|_| VaultError::NoKey("the practice"))?;
        let wrapped = kek.wrap(&record_key_context(&batch.practice, &batch.tag), &key);
        writes.push(Write {
            table: Table::PatientKeys,
            key: patient_key(batch.practice.as_str(), &batch.tag),
            value: Some(
                PatientRow {
                    wrapped,
                    number: Some(number),
                }
                .to_bytes(),
            ),
            expect: Expect::Absent,
        });
        writes.push(Write {
            table: Table::Names,
            key: keeper_key(&batch.tag, &batch.practice),
            value: Some(vec![1]),
            expect: Expect::Any,
        });
        Ok(key)
    }

    /// Makes this patient's audit key where there is none yet, so that the entries about the patient, from
    /// the very deposit on, stand under it.
    ///
    /// # Errors
    /// The store's, or a missing key.
    pub async fn know(&self, patient: &NhsNumber) -> Result<(), VaultError> {
        let PatientTag(tag) = self.tag(patient);
        let key = patient_key(AUDIT_OWNER, &tag);
        let standing = self
            .store
            .get_many(Table::PatientKeys, vec![key.clone()])
            .await?;
        if standing.into_iter().next().flatten().is_some() {
            return Ok(());
        }
        let _under_way = self.filing.read().await;
        let wrapped = {
            let ring = read(&self.ring);
            let family = Family::Kek(AUDIT_OWNER.to_owned());
            let kek = ring
                .active_key(&family)
                .map_err(|_| VaultError::NoKey("audit"))?;
            kek.wrap_audit(&audit_context(&tag), &keys::AuditKey::generate())
        };
        let value = Some(
            PatientRow {
                wrapped,
                number: None,
            }
            .to_bytes(),
        );
        let write = Write {
            table: Table::PatientKeys,
            key,
            value,
            expect: Expect::Absent,
        };
        match self
            .store
            .commit(crate::store::WriteSet {
                writes: vec![write],
                token: None,
            })
            .await
        {
            // Why: two first deposits of one patient may meet; either key serves.
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    fn envelope(
        &self,
        batch: &Batch,
        key: &Key<Active>,
        filing: &Filing,
        kid: &str,
        now_s: u64,
    ) -> (Bytes, Sealed, Sealed) {
        let (record, dek) = FreshDek::generate().seal_record(kid, filing.media_type, &filing.text);
        let claims = DepositClaims {
            by: DepositedBy::Gateway,
            iat: now_s,
            iss: batch.practice.as_str(),
            kid,
            record: &record,
            dek: &dek,
            patient: batch.patient.as_str(),
        };
        let signature = keys::deposit_signature(
            sure(read(&self.ring).signer(&Family::DepositSigning)).as_ref(),
            &claims,
        );
        let line = format!("{{\"record\":\"{record}\",\"signature\":\"{signature}\"}}\n");
        let context = |label| record_context(label, &batch.practice, &batch.tag, kid);
        let wrapped = key.wrap_dek(&context("sallyport/dek/v1"), &dek);
        let card = key.seal(&context("sallyport/card/v1"), &filing.card.to_bytes());
        (Bytes::from(line), wrapped, card)
    }

    /// Withdraws a record: no further release. Its envelopes stay, unreachable, until its key is destroyed.
    /// `None` if the practice filed no such record.
    ///
    /// # Errors
    /// The store's, or a row that does not open.
    pub async fn withdrawal(
        &self,
        recorded: Recorded<Grant<Withdraw>>,
    ) -> Result<(Option<Write>, Receipt), FilingError> {
        let (grant, receipt) = recorded.into_parts();
        let act = grant.act();
        let PatientTag(tag) = self.tag(&act.patient);
        let keys = [None, Some(&tag)]
            .map(|within| self.name_key(&act.practice, &act.name, within))
            .to_vec();
        let rows = self.store.get_many(Table::Names, keys).await?;
        let Some(name) = rows.into_iter().flatten().next() else {
            return Ok((None, receipt));
        };
        let (owner, id) = name
            .value
            .split_first_chunk::<16>()
            .ok_or(VaultError::Open)?;
        if *owner != tag {
            return Ok((None, receipt));
        }
        let id = RecordId(id.try_into().map_err(|_| VaultError::Open)?);
        let key = card_key(&tag, &act.practice, &id);
        let row = self.store.get_many(Table::Cards, vec![key.clone()]).await?;
        let row = row.into_iter().next().flatten().ok_or(VaultError::Open)?;
        let mut card = CardRow::from_bytes(&row.value).map_err(VaultError::from)?;
        card.state = State::Withdrawn;
        let expect = Expect::Version(row.version);
        Ok((
            Some(Write {
                table: Table::Cards,
                key,
                value: Some(card.to_bytes()),
                expect,
            }),
            receipt,
        ))
    }

    /// What says whom it is about has one name at its practice; an Organization or a Medication, which comes
    /// with every patient who has to do with it, has one name for each.
    pub(super) fn name_key(
        &self,
        practice: &Ods,
        name: &str,
        within: Option<&[u8; 16]>,
    ) -> Vec<u8> {
        let within = within.map_or(&[][..], |tag| tag.as_slice());
        let parts: [&[u8]; 4] = [
            b"name",
            practice.as_str().as_bytes(),
            name.as_bytes(),
            within,
        ];
        sure(read(&self.ring).mac(&Family::Index))
            .tag16(&parts)
            .to_vec()
    }
}

/// A record that is filed again keeps the labels it had: what was sensitive does not become ordinary because its
/// practice forgot to say so again (FHIR R4 §2.26.0.4 asks the same of security labels on update).
fn keep_labels(batch: &mut Batch, key: &Key<Active>) -> Result<(), FilingError> {
    let Batch {
        practice,
        tag,
        filings,
        ..
    } = batch;
    for (filing, slot) in filings {
        let Some(standing) = &slot.standing else {
            continue;
        };
        // Why one less: the slot says which version it will be.
        let kid = format!("{}.{}", slot.id, slot.version - 1);
        let context = record_context("sallyport/card/v1", practice, tag, &kid);
        let card = key
            .open(&context, &standing.card)
            .map_err(VaultError::from)?;
        let card = Card::from_bytes(card.as_bytes()).map_err(|_| VaultError::Open)?;
        filing.card.labels.extend(card.labels);
    }
    Ok(())
}

/// An id for a record that came without one: 128 random bits in hex, which FHIR allows.
#[must_use]
pub fn fresh_id() -> String {
    new_id().to_string()
}

fn number_context(practice: &Ods, tag: &[u8; 16]) -> Context {
    Context::new("sallyport/number/v1")
        .part(practice.as_str().as_bytes())
        .part(tag)
}

fn new_id() -> RecordId {
    RecordId(keys::random_array())
}

/// Whether two filings of one batch carry one name; a batch may not say two things of one record.
#[must_use]
pub fn repeated(filings: &[Filing]) -> Option<&str> {
    let mut seen = BTreeMap::new();
    filings.iter().find_map(|filing| {
        seen.insert(filing.name.as_str(), ())
            .map(|()| filing.name.as_str())
    })
}
