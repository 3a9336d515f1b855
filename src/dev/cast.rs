//! Who is in the world: clients, practitioners, patients, agreements, relationships, objections. All made up.

use std::path::Path;

use keys::{ClientKey, OpenKey};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

use super::{WorldError, read};
use crate::facts::{
    Acceptance, AgreementRow, ApprovalRow, Client, Countersignature, FeedRow, Objection,
    Organisation, Practitioner, Registration, RelationshipRow, Statement,
};
use crate::fhir::fixtures::{Fixture, small_set};

/// A client of the world.
pub struct Member {
    /// Folder name under `clients/`.
    pub name: &'static str,
    /// The organisation it acts for.
    pub ods: &'static str,
    /// What kind of party it is.
    pub role: &'static str,
    /// OAuth client id.
    pub client_id: &'static str,
    /// Who holds it, where one human being does.
    pub person: Option<&'static str>,
}

impl Member {
    /// Whether tickets are addressed to it.
    #[must_use]
    pub fn opens(&self) -> bool {
        matches!(
            self.role,
            "hospital" | "research" | "auditor" | "privacy-officer"
        )
    }
}

const fn member(
    name: &'static str,
    ods: &'static str,
    role: &'static str,
    client_id: &'static str,
) -> Member {
    Member {
        name,
        ods,
        role,
        client_id,
        person: None,
    }
}

/// A client that one human being holds, at the gateway's operator.
const fn staff(name: &'static str, role: &'static str, person: &'static str) -> Member {
    Member {
        person: Some(person),
        ..member(name, OPERATOR_ODS, role, name)
    }
}

/// ODS code of the first practice.
pub(super) const PRACTICE_A: &str = "A81001";
/// ODS code of the second practice.
pub(super) const PRACTICE_B: &str = "B82617";
/// ODS code of the hospital that both practices agreed with.
pub const HOSPITAL_A: &str = "RJ1";
/// ODS code of the hospital that only the second practice agreed with.
pub const HOSPITAL_B: &str = "RM3";
const RESEARCH_C: &str = "R0C01";
/// Code of the keeper of the opt-out list.
const OPT_OUT_LIST: &str = "NDOO1";
const OPERATOR_ODS: &str = "X26";

/// Every client of the world.
pub const MEMBERS: &[Member] = &[
    member("practice-a", PRACTICE_A, "practice", PRACTICE_A),
    member("practice-b", PRACTICE_B, "practice", PRACTICE_B),
    member("hospital-a", HOSPITAL_A, "hospital", HOSPITAL_A),
    member("hospital-b", HOSPITAL_B, "hospital", HOSPITAL_B),
    member("research-c", RESEARCH_C, "research", RESEARCH_C),
    member("opt-out-list", OPT_OUT_LIST, "opt-out-list", OPT_OUT_LIST),
    staff("admin-1", "admin", "ines.roth"),
    staff("admin-2", "admin", "tom.vale"),
    staff("auditor", "auditor", "ada.finch"),
    staff("privacy-officer", "privacy-officer", "noor.aziz"),
    member(
        "patient-portal",
        OPERATOR_ODS,
        "patient-portal",
        "patient-portal",
    ),
];

/// id, organisation, role, name, training (days from now; `None`: not known), suspended.
pub(super) type Person = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<i64>,
    bool,
);

pub(super) const PEOPLE: &[Person] = &[
    (
        "dr-okafor",
        HOSPITAL_A,
        "doctor",
        "Dr Amaka Okafor",
        Some(300),
        false,
    ),
    (
        "nurse-lind",
        HOSPITAL_A,
        "nurse",
        "Tove Lind",
        Some(120),
        false,
    ),
    (
        "dr-late",
        HOSPITAL_A,
        "doctor",
        "Dr Rowan Late",
        Some(-30),
        false,
    ),
    (
        "dr-untold",
        HOSPITAL_A,
        "doctor",
        "Dr Una Told",
        None,
        false,
    ),
    (
        "dr-stopped",
        HOSPITAL_A,
        "doctor",
        "Dr Stan Stopped",
        Some(300),
        true,
    ),
    (
        "clerk-moss",
        HOSPITAL_A,
        "receptionist",
        "Mo Moss",
        Some(300),
        false,
    ),
    (
        "dr-hart",
        HOSPITAL_B,
        "doctor",
        "Dr Hera Hart",
        Some(300),
        false,
    ),
    (
        "r-quill",
        RESEARCH_C,
        "researcher",
        "Quin Quill",
        Some(300),
        false,
    ),
];

/// A patient of the world with the records the project ships.
pub(super) struct Own {
    pub(super) nhs: &'static str,
    pub(super) practice: &'static str,
    pub(super) member: &'static str,
    pub(super) fixture: &'static Fixture,
}

/// The patients whose records the project ships: STU3 at the second practice, the others at the first.
pub(super) fn patients() -> impl Iterator<Item = Own> {
    small_set().iter().map(|fixture| {
        let second = fixture.version == crate::fhir::resource::FhirVersion::Stu3;
        let (practice, member) = if second {
            (PRACTICE_B, "practice-b")
        } else {
            (PRACTICE_A, "practice-a")
        };
        Own {
            nhs: fixture.nhs,
            practice,
            member,
            fixture,
        }
    })
}

/// A further patient, registered at the first practice and referred to the first hospital.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Patient {
    /// NHS number.
    pub nhs: String,
}

/// The reference of the referral of this patient to the first hospital.
#[must_use]
pub fn referral(nhs: &str) -> String {
    let end = nhs.get(6..).unwrap_or(nhs);
    format!("UBRN-0000-{end}")
}

/// The patient who objects: the last R4 patient of the shipped set.
pub(super) fn objector() -> Option<&'static Fixture> {
    small_set()
        .iter()
        .rev()
        .find(|fixture| fixture.version == crate::fhir::resource::FhirVersion::R4)
}

const DAY_MS: i64 = 86_400_000;

fn day(now_ms: u64, days: i64) -> u64 {
    now_ms.saturating_add_signed(days * DAY_MS)
}

/// Who passes on objections by number, and under which name.
pub(super) const FEEDING: [(&str, &str); 2] =
    [(PRACTICE_A, "practice-a"), (OPT_OUT_LIST, "opt-out-list")];

/// Everything the world states on its first day.
pub(super) fn statements(
    dir: &Path,
    more: &[Patient],
    now_ms: u64,
) -> Result<Vec<Statement>, WorldError> {
    let mut out = directory(dir, now_ms)?;
    out.extend(agreements(now_ms));
    let own = patients().map(|own| (own.nhs.to_owned(), own.practice));
    let more = more.iter().map(|patient| (patient.nhs.clone(), PRACTICE_A));
    for (nhs, practice) in own.chain(more) {
        out.push(Statement::Registration(Registration {
            patient: nhs.clone(),
            practice: practice.to_owned(),
        }));
        out.push(relationship(&nhs, practice, HOSPITAL_A, now_ms));
    }
    for (nhs, practice, hospital) in strangers() {
        out.push(relationship(nhs, practice, hospital, now_ms));
    }
    for (owner, _) in FEEDING {
        out.push(Statement::Feed(FeedRow::begun(owner, now_ms)));
    }
    if let Some(fixture) = objector() {
        out.push(Statement::Objection(Objection {
            patient: fixture.nhs.to_owned(),
            practice: PRACTICE_A.to_owned(),
            reference: "objection-1".to_owned(),
            purposes: ["TREAT", "ETREAT", "BTG", "HRESCH", "PUBHLTH", "HOPERAT"]
                .map(str::to_owned)
                .to_vec(),
            generation: 0,
            n: 0,
        }));
    }
    Ok(out)
}

/// Relationships with organisations that have no agreement: a referral alone opens nothing.
fn strangers() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let first = small_set().first().map(|fixture| fixture.nhs);
    first
        .into_iter()
        .flat_map(|nhs| [(nhs, PRACTICE_A, HOSPITAL_B), (nhs, PRACTICE_A, RESEARCH_C)])
}

fn relationship(nhs: &str, practice: &str, hospital: &str, now_ms: u64) -> Statement {
    Statement::Relationship(RelationshipRow {
        patient: nhs.to_owned(),
        stated_by: practice.to_owned(),
        organisation: hospital.to_owned(),
        kind: "referral".to_owned(),
        reference: referral(nhs),
        corroborated: true,
        from_ms: day(now_ms, -1),
        until_ms: day(now_ms, 180),
        stated_ms: 0,
        ended_ms: None,
    })
}

fn agreements(now_ms: u64) -> Vec<Statement> {
    let agreement = |reference: &str, practice: &str, organisation: &str, purposes: &[&str]| {
        let proposed = Statement::Agreement(AgreementRow {
            reference: reference.to_owned(),
            practice: practice.to_owned(),
            organisation: organisation.to_owned(),
            purposes: purposes.iter().map(|code| (*code).to_owned()).collect(),
            categories: policy::Category::ALL
                .iter()
                .map(ToString::to_string)
                .collect(),
            labels: Vec::new(),
            accepts_asserted: false,
            emergency_overrides_objection: false,
            from_ms: day(now_ms, -1),
            until_ms: day(now_ms, 365),
            signer: "Dr Ada Prior, Caldicott Guardian".to_owned(),
            hand: None,
            proposed_ms: 0,
            cooling_ms: 0,
            withdrawn_ms: None,
            register: None,
        });
        let countersigned = Statement::Countersignature(Countersignature {
            reference: reference.to_owned(),
            practice: practice.to_owned(),
            organisation: organisation.to_owned(),
            terms: String::new(),
            signer: "Ola Berg, Caldicott Guardian".to_owned(),
            hand: None,
            accepted_ms: 0,
            ended_ms: None,
        });
        [proposed, countersigned]
    };
    let approval = Statement::Approval(ApprovalRow {
        reference: "26/CAG/0042".to_owned(),
        practice: PRACTICE_A.to_owned(),
        organisation: RESEARCH_C.to_owned(),
        purposes: vec!["HRESCH".to_owned()],
        categories: ["observations", "problems", "medications"]
            .map(str::to_owned)
            .to_vec(),
        from_ms: day(now_ms, -1),
        until_ms: day(now_ms, 365),
        stated_ms: 0,
        withdrawn_ms: None,
    });
    [
        agreement(
            "A81001-RJ1-2026",
            PRACTICE_A,
            HOSPITAL_A,
            &["TREAT", "ETREAT", "BTG"],
        ),
        agreement("B82617-RJ1-2026", PRACTICE_B, HOSPITAL_A, &["TREAT"]),
        agreement("B82617-RM3-2026", PRACTICE_B, HOSPITAL_B, &["TREAT"]),
        agreement(
            "A81001-R0C01-2026",
            PRACTICE_A,
            RESEARCH_C,
            &["HRESCH", "PUBHLTH"],
        ),
    ]
    .into_iter()
    .flatten()
    .chain([approval])
    .collect()
}

fn directory(dir: &Path, now_ms: u64) -> Result<Vec<Statement>, WorldError> {
    let mut out = Vec::new();
    for member in MEMBERS {
        let role = if member.ods == OPERATOR_ODS {
            "admin"
        } else {
            member.role
        };
        out.push(Statement::Organisation(Organisation {
            ods: member.ods.to_owned(),
            name: member.name.to_owned(),
            role: role.to_owned(),
            suspended: false,
            contacts: Vec::new(),
        }));
        out.push(Statement::Client(client(dir, member)?));
    }
    for own in [PRACTICE_A, PRACTICE_B, OPT_OUT_LIST] {
        let (client, practice) = (own.to_owned(), own.to_owned());
        out.push(Statement::Acceptance(Acceptance { practice, client }));
    }
    for (id, organisation, role, name, trained, suspended) in PEOPLE {
        out.push(Statement::Practitioner(Practitioner {
            id: (*id).to_owned(),
            organisation: (*organisation).to_owned(),
            role: (*role).to_owned(),
            name: (*name).to_owned(),
            trained_until_ms: trained.map(|days| day(now_ms, days)),
            suspended: *suspended,
        }));
    }
    Ok(out)
}

fn client(dir: &Path, member: &Member) -> Result<Client, WorldError> {
    let own = dir.join("clients").join(member.name);
    let certificate = own.join("cert.pem");
    let der = CertificateDer::from_pem_slice(&read(&certificate)?)
        .map_err(|_| WorldError::Foreign(certificate))?;
    let print = Sha256::digest(der.as_ref())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let text = |name: &str| {
        let path = own.join(name);
        read(&path).map(|bytes| (path, String::from_utf8_lossy(&bytes).into_owned()))
    };
    let (path, sign) = text("sign.jwk")?;
    let sign = ClientKey::from_jwk(&sign).map_err(|_| WorldError::Foreign(path))?;
    let open = if member.opens() {
        let (path, open) = text("open.jwk")?;
        let open = OpenKey::from_jwk(&open).map_err(|_| WorldError::Foreign(path))?;
        serde_json::from_str(&open.public_jwk()).ok()
    } else {
        None
    };
    Ok(Client {
        id: member.client_id.to_owned(),
        name: member.name.to_owned(),
        role: member.role.to_owned(),
        organisations: vec![member.ods.to_owned()],
        certificates: vec![print],
        sign_key: serde_json::from_str(&sign.signer().jwk_public()).ok(),
        open_key: open,
        suspended: false,
        person: member.person.map(str::to_owned),
        stopped: Vec::new(),
        older: Vec::new(),
        waits: false,
    })
}
