//! Approvals of secondary uses while the gateway serves: stated by two administrators, withdrawn at once by one, read by
//! a decision beside the practice's own agreement. Nothing here looks at a patient: every objection is looked at apart.

use policy::facts::Approval;
use policy::words::Ods;
use serde::Deserialize;

use super::deed::{Deed, Unfit, unfit};
use super::statement::{ApprovalRow, Statement, ods};
use super::{Change, Register};

/// What an approval says; the object names practice, organisation and reference.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalForm {
    purposes: Vec<String>,
    categories: Vec<String>,
    from_ms: u64,
    until_ms: u64,
}

impl ApprovalRow {
    /// Practice, organisation and reference: no two approvals have all three alike.
    #[must_use]
    pub fn name(&self) -> (String, String, String) {
        (
            self.practice.clone(),
            self.organisation.clone(),
            self.reference.clone(),
        )
    }
}

/// `PRACTICE/ORGANISATION/REFERENCE`; a reference may hold a slash, as ethics committees' do.
fn named(object: &str) -> Result<(Ods, Ods, String), Unfit> {
    let mut parts = object.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(practice), Some(organisation), Some(reference)) if !reference.is_empty() => {
            Ok((ods(practice)?, ods(organisation)?, reference.to_owned()))
        }
        _ => Err(unfit(
            "object",
            "must name the approval as PRACTICE/ORGANISATION/REFERENCE",
        )),
    }
}

/// Of which practice an act on an approval is.
pub(crate) fn practice_of(object: &str) -> Option<Ods> {
    named(object).ok().map(|(practice, _, _)| practice)
}

impl Register {
    /// The approvals for this organisation at this practice, as the policy reads them; `None` if one does not parse.
    #[must_use]
    pub fn approvals(&self, practice: &Ods, organisation: &Ods) -> Option<Vec<Approval>> {
        self.approvals_at(practice)
            .filter(|row| row.organisation == organisation.as_str())
            .map(|row| row.approval().ok())
            .collect()
    }

    /// Every approval at this practice, withdrawn ones too.
    pub fn approvals_at(&self, practice: &Ods) -> impl Iterator<Item = &ApprovalRow> {
        let first = (practice.as_str().to_owned(), String::new(), String::new());
        self.approvals
            .range(first..)
            .take_while(|((own, _, _), _)| own == practice.as_str())
            .map(|(_, row)| row)
    }

    pub(super) fn approval_registered(&self, deed: &Deed<'_>) -> Result<Change, Unfit> {
        let (practice, organisation, reference) = named(deed.object)?;
        let form: ApprovalForm = deed.payload()?;
        let role = |code: &Ods| self.organisation(code).map(|own| own.role.as_str());
        if role(&practice) != Some("practice") {
            return Err(unfit("object", format!("{practice} is no practice here")));
        }
        if !matches!(role(&organisation), Some("hospital" | "research")) {
            let rule = format!("{organisation} is not registered as an organisation that asks");
            return Err(unfit("object", rule));
        }
        let row = ApprovalRow {
            reference,
            practice: practice.as_str().to_owned(),
            organisation: organisation.as_str().to_owned(),
            purposes: form.purposes,
            categories: form.categories,
            from_ms: form.from_ms,
            until_ms: form.until_ms,
            stated_ms: deed.now_ms,
            withdrawn_ms: None,
        };
        if self.approvals.contains_key(&row.name()) {
            let rule = "names an approval that was given already; a reference is used once";
            return Err(unfit("object", rule));
        }
        Ok(Change::Put(Statement::Approval(row)))
    }

    /// It stays in the directory as what it was; nothing is opened by it any more.
    pub(super) fn approval_withdrawn(&self, deed: &Deed<'_>) -> Result<Change, Unfit> {
        let (practice, organisation, reference) = named(deed.object)?;
        let name = (
            practice.as_str().to_owned(),
            organisation.as_str().to_owned(),
            reference,
        );
        let known = self.approvals.get(&name);
        let known = known.ok_or_else(|| unfit("object", "no such approval was given"))?;
        if known.withdrawn_ms.is_some() {
            return Err(unfit("object", "is withdrawn already"));
        }
        Ok(Change::Put(Statement::Approval(ApprovalRow {
            withdrawn_ms: Some(deed.now_ms),
            ..known.clone()
        })))
    }
}
