//! What local software must say with every request: who asks, what for, and on what ground. It stands in headers,
//! because no FHIR search has a place for it; what is missing is named. The gateway decides about it, not we.

use axum::http::HeaderMap;
use policy::words::NhsNumber;
use serde_json::{Value, json};

use super::said::Trouble;

pub(super) const PURPOSE: &str = "Sallyport-Purpose";
pub(super) const PRACTITIONER: &str = "Sallyport-Practitioner";
pub(super) const RELATIONSHIP: &str = "Sallyport-Relationship";
pub(super) const REASON: &str = "Sallyport-Reason";
pub(super) const ACKNOWLEDGED: &str = "Sallyport-Acknowledged";
pub(super) const CATEGORIES: &str = "Sallyport-Categories";
pub(super) const PATIENT: &str = "Sallyport-Patient";

/// Who asks, what for, on what ground: the same for all pages of one search.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) purpose: String,
    pub(super) practitioner: String,
    relationship: Option<(String, String)>,
    reason: Option<String>,
    categories: Option<Vec<String>>,
}

/// One header's text, if it stands there; at most once.
fn header(headers: &HeaderMap, name: &'static str) -> Result<Option<String>, Trouble> {
    let mut all = headers.get_all(name).iter();
    let Some(first) = all.next() else {
        return Ok(None);
    };
    if all.next().is_some() {
        return Err(Trouble::bad(format!("{name}: stands twice")));
    }
    let text = std::str::from_utf8(first.as_bytes());
    let text = text.map_err(|_| Trouble::bad(format!("{name}: must be UTF-8")))?;
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

fn required(headers: &HeaderMap, name: &'static str, what: &str) -> Result<String, Trouble> {
    header(headers, name)?
        .ok_or_else(|| Trouble::bad(format!("{name}: this header is required: {what}")))
}

impl Stated {
    /// Reads the headers of a request.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Trouble> {
        let purpose = required(
            headers,
            PURPOSE,
            "a PurposeOfUse code: TREAT, ETREAT, BTG, HRESCH, PUBHLTH or HOPERAT",
        )?;
        let practitioner = required(headers, PRACTITIONER, "the id of the person who asks")?;
        let mut relationship = header(headers, RELATIONSHIP)?;
        let mut reason = header(headers, REASON)?;
        match purpose.as_str() {
            "TREAT" => {
                let what = "what makes the patient this hospital's, as TYPE|REFERENCE, such as referral|UBRN-0000-0018";
                relationship = Some(required(headers, RELATIONSHIP, what)?);
            }
            "ETREAT" | "BTG" => {
                reason = Some(required(
                    headers,
                    REASON,
                    "why this is an emergency, in words",
                )?);
                let what = "the word true, once the person was shown that this access is looked at afterwards";
                if required(headers, ACKNOWLEDGED, what)? != "true" {
                    return Err(Trouble::bad(format!("{ACKNOWLEDGED}: must be {what}")));
                }
            }
            _ => {}
        }
        let relationship = relationship.map(|text| match text.split_once('|') {
            Some((kind, reference)) => Ok((kind.to_owned(), reference.to_owned())),
            None => Err(Trouble::bad(format!(
                "{RELATIONSHIP}: must be TYPE|REFERENCE, such as referral|UBRN-0000-0018"
            ))),
        });
        let categories = header(headers, CATEGORIES)?;
        Ok(Self {
            purpose,
            practitioner,
            relationship: relationship.transpose()?,
            reason,
            categories: categories
                .map(|text| text.split(',').map(|word| word.trim().to_owned()).collect()),
        })
    }

    /// As the token endpoint takes it (RFC 9396), for this patient.
    pub(super) fn details(&self, patient: &NhsNumber) -> Value {
        let mut details = json!({
            "type": "patient_record",
            "patient": patient.as_str(),
            "purpose": self.purpose,
            "practitioner": { "id": self.practitioner },
        });
        if let Some(members) = details.as_object_mut() {
            if let Some((kind, reference)) = &self.relationship {
                let value = json!({ "type": kind, "reference": reference });
                members.insert("relationship".to_owned(), value);
            }
            if let Some(categories) = &self.categories {
                members.insert("categories".to_owned(), json!(categories));
            }
            if let Some(reason) = self.reason.as_ref().filter(|_| self.is_emergency()) {
                members.insert("reason".to_owned(), json!(reason));
                members.insert("acknowledged".to_owned(), true.into());
            }
        }
        details
    }

    /// Whether a token for it declares an emergency, which is counted and looked at.
    pub(super) fn is_emergency(&self) -> bool {
        matches!(self.purpose.as_str(), "ETREAT" | "BTG")
    }
}

/// Whether a request states nothing of its own, as the next page of some clients does.
pub(super) fn says_nothing(headers: &HeaderMap) -> bool {
    let all = [
        PURPOSE,
        PRACTITIONER,
        RELATIONSHIP,
        REASON,
        ACKNOWLEDGED,
        CATEGORIES,
    ];
    !all.iter().any(|name| headers.contains_key(*name))
}

/// The patient whom the header names.
pub(super) fn patient(headers: &HeaderMap) -> Result<Option<NhsNumber>, Trouble> {
    let text = header(headers, PATIENT)?;
    let number = text.map(|text| NhsNumber::try_from(text.as_str()));
    number.transpose().map_err(|_| {
        Trouble::bad(format!(
            "{PATIENT}: must be an NHS number of ten digits with the right check digit"
        ))
    })
}
