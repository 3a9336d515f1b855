//! What every route takes and answers, one row each: the part of the OpenAPI description that is written by hand. A route
//! of the table in `mod` without a row here does not compile. Shapes are named here and stand in `shapes.json`.

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const BYTES: &str = "application/octet-stream";
pub(super) const AS_JSON: &str = "application/json";
pub(super) const AS_FHIR: &str = "application/fhir+json; charset=utf-8";

/// One route, described.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) about: &'static str,
    pub(super) token: Option<&'static str>,
    pub(super) asks: &'static [&'static str],
    pub(super) body: Option<Sent>,
    pub(super) answers: &'static [Answer],
    pub(super) refuses: &'static [u16],
}

/// What a route takes.
pub(super) struct Sent {
    pub(super) media: &'static [&'static str],
    pub(super) shape: &'static str,
    pub(super) required: bool,
}

/// How a route answers when it did what was asked.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) about: &'static str,
    pub(super) content: Option<(&'static str, &'static str)>,
    pub(super) receipt: Receipted,
    pub(super) headers: &'static [&'static str],
}

/// Whether an answer carries the receipt of a decision.
pub(super) enum Receipted {
    No,
    Yes,
    Sometimes,
}

const fn operation(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    about: &'static str,
) -> Operation {
    Operation {
        method,
        path,
        id,
        about,
        token: None,
        asks: &[],
        body: None,
        answers: &[],
        refuses: &[],
    }
}

impl Operation {
    /// It wants a token of this type of `authorization_details`.
    const fn token(mut self, kind: &'static str) -> Self {
        self.token = Some(kind);
        self
    }

    /// Parameters beside those in the path.
    const fn asks(mut self, names: &'static [&'static str]) -> Self {
        self.asks = names;
        self
    }

    /// A body that must be there.
    const fn takes(mut self, media: &'static [&'static str], shape: &'static str) -> Self {
        self.body = Some(Sent {
            media,
            shape,
            required: true,
        });
        self
    }

    /// A body that may be there.
    const fn may_take(mut self, media: &'static [&'static str], shape: &'static str) -> Self {
        self.body = Some(Sent {
            media,
            shape,
            required: false,
        });
        self
    }

    const fn answers(mut self, answers: &'static [Answer]) -> Self {
        self.answers = answers;
        self
    }

    /// Refusals beside those that every route of its form has.
    const fn refuses(mut self, statuses: &'static [u16]) -> Self {
        self.refuses = statuses;
        self
    }
}

const fn answer(
    status: u16,
    about: &'static str,
    media: &'static str,
    shape: &'static str,
) -> Answer {
    Answer {
        status,
        about,
        content: Some((media, shape)),
        receipt: Receipted::No,
        headers: &[],
    }
}

const fn json(status: u16, about: &'static str, shape: &'static str) -> Answer {
    answer(status, about, AS_JSON, shape)
}

const fn fhir(status: u16, about: &'static str, shape: &'static str) -> Answer {
    answer(status, about, AS_FHIR, shape)
}

/// A page of a release.
const fn page() -> Answer {
    answer(
        200,
        "Sealed records and the ticket that opens them.",
        "application/x-ndjson",
        "Release",
    )
    .receipted()
}

const fn empty(status: u16, about: &'static str, headers: &'static [&'static str]) -> Answer {
    Answer {
        status,
        about,
        content: None,
        receipt: Receipted::No,
        headers,
    }
}

impl Answer {
    const fn receipted(mut self) -> Self {
        self.receipt = Receipted::Yes;
        self
    }

    const fn maybe_receipted(mut self) -> Self {
        self.receipt = Receipted::Sometimes;
        self
    }
}

const FHIR: &[&str] = &[
    "application/fhir+json; fhirVersion=4.0",
    "application/fhir+json; fhirVersion=3.0",
    "application/fhir+json",
];
const FORM: &[&str] = &["application/x-www-form-urlencoded"];
const JSON: &[&str] = &["application/json"];
const NDJSON: &[&str] = &["application/x-ndjson"];

const fn get(path: &'static str, id: &'static str, about: &'static str) -> Operation {
    operation("GET", path, id, about)
}

const fn post(path: &'static str, id: &'static str, about: &'static str) -> Operation {
    operation("POST", path, id, about)
}

const fn put(path: &'static str, id: &'static str, about: &'static str) -> Operation {
    operation("PUT", path, id, about)
}

const fn delete(path: &'static str, id: &'static str, about: &'static str) -> Operation {
    operation("DELETE", path, id, about)
}

/// A key's act, done or not to be done yet.
const KEY_DONE: &[Answer] = &[json(200, "Done.", "KeyDone").receipted()];

/// The side that a token for agreements is for.
const EITHER: &str = "agreement";

/// Every route, in the order of the table.
pub(super) const DESCRIBED: &[Operation] = &[
    get("/openapi.json", "openapi", "This description.")
        .answers(&[json(200, "OpenAPI 3.1.", "OpenApi")]),
    post(
        "/oauth/token",
        "token",
        "An access token for one patient and purpose, or for another errand, decided and recorded.",
    )
    .takes(FORM, "TokenForm")
    .answers(&[json(200, "The token (RFC 6749 §5.1, RFC 9396 §7).", "Token").receipted()]),
    post("/oauth/revoke", "revoke", "The caller's own token, dead at the next request (RFC 7009).")
        .takes(FORM, "RevokeForm")
        .answers(&[json(200, "It is dead, or never lived.", "Nothing").receipted()]),
    get("/.well-known/oauth-authorization-server", "metadata", "RFC 8414.")
        .answers(&[json(200, "How tokens are had.", "Metadata")]),
    get("/.well-known/smart-configuration", "smart", "SMART App Launch, backend services.")
        .answers(&[json(200, "How tokens are had.", "Metadata")]),
    get("/.well-known/jwks.json", "jwks", "The keys that verify what the gateway signed (RFC 7517).")
        .answers(&[json(200, "Active and retired verification keys.", "Jwks")]),
    get("/fhir/metadata", "capabilities", "What the FHIR side can do.")
        .answers(&[fhir(200, "R4.", "CapabilityStatement")]),
    post("/fhir", "deposit", "Files a Bundle of records of one patient, whole or not at all.")
        .token("deposit")
        .takes(FHIR, "Bundle")
        .answers(&[fhir(200, "Filed, in the Bundle's order.", "BundleResponse").receipted()])
        .refuses(&[409, 415, 422]),
    get("/fhir/{kind}", "search", "Searches the records of the token's patient.")
        .token("patient_record")
        .asks(&["patient", "code", "category", "date", "_count", "_cursor", "Accept"])
        .answers(&[page()])
        .refuses(&[406]),
    get("/fhir/{kind}/{id}", "read", "Reads one record of the token's patient.")
        .token("patient_record")
        .asks(&["Accept"])
        .answers(&[page()])
        .refuses(&[406]),
    put("/fhir/{kind}/{id}", "put", "Files one record; a Consent with a consent token is an objection.")
        .token("deposit, or consent")
        .asks(&["Sallyport-Feed"])
        .takes(FHIR, "Resource")
        .answers(&[
            empty(200, "Filed as a new version, or the objection is taken.", &["Location", "ETag"]).receipted(),
            empty(201, "Filed.", &["Location", "ETag"]).receipted(),
        ])
        .refuses(&[409, 415, 422]),
    delete("/fhir/{kind}/{id}", "withdraw", "No further release of this record; a Consent is an objection taken back.")
        .token("deposit, or consent")
        .answers(&[
            empty(200, "The objection is taken back.", &[]).receipted(),
            empty(204, "Withdrawn.", &[]).receipted(),
        ])
        .refuses(&[404, 409]),
    get("/fhir/Patient/{nhs}/$everything", "everything", "All that the token's patient has here and the token covers.")
        .token("patient_record")
        .asks(&["_type", "start", "end", "_count", "_cursor", "Accept"])
        .answers(&[page()])
        .refuses(&[406]),
    get("/agreements", "agreements", "The agreements of the side that the token is for.")
        .token(EITHER)
        .answers(&[json(200, "With their states.", "Agreements").receipted()]),
    put("/agreements/{practice}/{organisation}/{reference}", "propose", "Proposed by the practice.")
        .token("agreement, of the practice")
        .takes(JSON, "Terms")
        .answers(&[json(201, "It waits to be accepted.", "Proposed").receipted()])
        .refuses(&[409, 422]),
    delete(
        "/agreements/{practice}/{organisation}/{reference}",
        "end",
        "Withdrawn by the practice, or ended by the organisation; at the next request.",
    )
    .token(EITHER)
    .answers(&[json(200, "It is over.", "State").receipted()])
    .refuses(&[409]),
    post("/agreements/{practice}/{organisation}/{reference}/accept", "accept", "Accepted by the organisation.")
        .token("agreement, of the organisation")
        .takes(JSON, "Acceptance")
        .answers(&[json(200, "It acts once it has cooled off.", "State").receipted()])
        .refuses(&[409, 422]),
    get("/practices/{practice}", "practice", "How the practice wants its agreements made, and who acts for it.")
        .token("agreement, of the practice")
        .answers(&[json(200, "As it stands.", "Practice").receipted()]),
    put("/practices/{practice}", "setPractice", "Cooling-off time and contacts.")
        .token("agreement, of the practice")
        .takes(JSON, "PracticeSettings")
        .answers(&[json(200, "Set; a shorter time counts later.", "PracticeSet").receipted()])
        .refuses(&[409, 422]),
    put("/practices/{practice}/clients/{client}", "acceptClient", "This system may act for the practice.")
        .token("agreement, of the practice")
        .answers(&[json(200, "It may.", "PracticeClient").receipted()])
        .refuses(&[409, 422]),
    delete("/practices/{practice}/clients/{client}", "dismissClient", "It no longer may.")
        .token("agreement, of the practice")
        .answers(&[json(200, "It may not.", "PracticeClient").receipted()])
        .refuses(&[409, 422]),
    get("/practices/{practice}/register", "register", "The register of emergency providers, and what the practice accepted of it.")
        .token("agreement, of the practice")
        .answers(&[json(200, "As it stands, and who is new.", "EmergencyRegister").receipted()])
        .refuses(&[409]),
    put("/practices/{practice}/register/{reference}", "acceptRegister", "A version is accepted: one agreement with each organisation of it, for emergencies alone.")
        .token("agreement, of the practice")
        .takes(JSON, "EmergencyTerms")
        .answers(&[json(201, "It waits for the register's keeper.", "RegisterAccepted").receipted()])
        .refuses(&[409, 422]),
    delete("/practices/{practice}/register/{reference}", "withdrawRegister", "All agreements of this acceptance are withdrawn; at the next request.")
        .token("agreement, of the practice")
        .answers(&[json(200, "They are over.", "State").receipted()])
        .refuses(&[409]),
    post("/feed/objections", "passOn", "Numbered objections, or a heartbeat.")
        .token("objections")
        .takes(NDJSON, "FeedMessage")
        .answers(&[json(200, "How the feed stands now.", "FeedTaken").receipted()])
        .refuses(&[409, 415, 422]),
    get("/feed/objections/status", "feed", "How the feed stands, and which numbers are missing.")
        .token("objections")
        .asks(&["after"])
        .answers(&[json(200, "As it stands.", "FeedStatus").receipted()]),
    put("/feed/objections/settings", "settleFeed", "After how long without a sound feed what is refused.")
        .token("objections")
        .takes(JSON, "FeedSettings")
        .answers(&[json(200, "Set.", "Nothing").receipted()])
        .refuses(&[409, 422]),
    get("/log/checkpoint", "checkpoint", "The newest signed tree head of the log.")
        .answers(&[answer(200, "C2SP tlog-checkpoint.", TEXT, "Checkpoint")]),
    get("/log/tile/{*path}", "tile", "A tile of the log; entries are for auditors, and reading them is an entry.")
        .answers(&[answer(200, "C2SP tlog-tiles.", BYTES, "Bytes").maybe_receipted()])
        .refuses(&[404]),
    get("/log/consistency", "consistency", "That the log of one size is the beginning of that of another.")
        .asks(&["from", "to"])
        .answers(&[json(200, "The proof.", "Consistency")])
        .refuses(&[404]),
    post("/who-could", "whoCould", "Who could open this patient's records now, by which rule, and what changed since.")
        .token("agreement")
        .takes(JSON, "WhoCouldAsked")
        .answers(&[json(200, "Every organisation that could, and how; asked by a practice about its own patient, or with a token of type history by those who oversee.", "WhoCould").receipted()])
        .refuses(&[404]),
    get("/log/witnessed", "witnessed", "The last checkpoint that a quorum of the log's witnesses cosigned, with their lines.")
        .answers(&[answer(200, "C2SP tlog-cosignature.", TEXT, "Checkpoint")])
        .refuses(&[404]),
    get("/history", "history", "Who asked for this patient's records, newest first.")
        .token("history")
        .asks(&["before", "limit"])
        .answers(&[json(200, "Each line with its proof.", "History").receipted()]),
    get("/notices", "notices", "For the portal: what patients have to be told, oldest first.")
        .asks(&["after"])
        .answers(&[json(200, "Twenty at most; ask again with after.", "Notices").receipted()]),
    get("/reviews", "reviews", "For a privacy officer: the worklist, oldest first; it names nobody.")
        .asks(&["after", "state", "limit"])
        .answers(&[json(200, "The items.", "Reviews").receipted()]),
    get("/reviews/{entry}", "review", "For a privacy officer: one item in full.")
        .answers(&[json(200, "Who, about whom, why.", "Review").receipted()])
        .refuses(&[404]),
    post("/reviews/{entry}", "closeReview", "For a privacy officer: closes an item.")
        .takes(JSON, "Found")
        .answers(&[json(200, "Closed.", "ReviewClosed").receipted()])
        .refuses(&[404, 409]),
    get("/auditor", "auditorsPage", "For an auditor or privacy officer: the page for a browser; opening it is an entry.")
        .answers(&[answer(200, "HTML; its files follow.", HTML, "Bytes").receipted()]),
    get("/auditor/state", "auditorsState", "For an auditor or privacy officer: what stands now that no entry says.")
        .answers(&[json(200, "Health, alarms, feeds, ages of keys.", "Standing").receipted()]),
    get("/auditor/{file}", "auditorsFile", "For an auditor or privacy officer: a file of the page.")
        .answers(&[answer(200, "A script, the style or the icon.", "*/*", "Bytes")])
        .refuses(&[404]),
    get("/admin/keys", "keys", "For an administrator: every key there is.")
        .answers(&[json(200, "Names and states; no route shows a key.", "Keys").receipted()]),
    get("/admin/keys/{key}", "key", "For an administrator: one key.")
        .answers(&[json(200, "Its versions.", "Key").receipted()])
        .refuses(&[404]),
    post("/admin/keys/{key}/rotate", "rotateKey", "For an administrator: a new version from now on.")
        .answers(&[json(202, "The rewrap goes on in the background.", "KeyDone").receipted()])
        .refuses(&[404, 409]),
    post("/admin/keys/{key}/announce", "announceKey", "For an administrator: a signing key's next version is published.")
        .answers(KEY_DONE)
        .refuses(&[404, 409]),
    post("/admin/keys/{key}/activate", "activateKey", "For an administrator: the announced version signs from now on.")
        .answers(KEY_DONE)
        .refuses(&[404, 409]),
    post("/admin/keys/{key}/retire", "retireKey", "For an administrator: not until nothing is left under that version.")
        .takes(JSON, "KeyVersionForm")
        .answers(KEY_DONE)
        .refuses(&[404, 409]),
    get("/admin/erasures", "erasures", "For an administrator: what was erased, and what each erasure waits for.")
        .answers(&[json(200, "The erasures.", "Erasures").receipted()]),
    post("/admin/backup", "backup", "For an administrator: a copy of one moment, taken while serving and read back.")
        .answers(&[json(200, "Taken.", "Backup").receipted()])
        .refuses(&[409]),
    post("/admin/seal", "seal", "For an administrator: no key stays in memory, and everybody gets 503 until it is unsealed on the machine itself.")
        .takes(JSON, "SealForm")
        .answers(&[json(202, "It is being sealed.", "Sealing").receipted()])
        .refuses(&[409]),
    get("/log/bodies/{bundle}", "bodies", "For an auditor: the sealed bodies of 256 entries; reading them is an entry.")
        .answers(&[answer(200, "Sealed; audit keys open them.", BYTES, "Bytes").receipted()])
        .refuses(&[404]),
    post("/admin/acts", "act", "For an administrator: a change of the directory, or the proposal of what takes two people.")
        .takes(JSON, "ActForm")
        .answers(&[
            json(200, "Done.", "Done").receipted(),
            json(202, "It waits for a second person.", "ProposalMade").receipted(),
        ])
        .refuses(&[404, 409, 422]),
    get("/admin/status", "status", "For an administrator: how the gateway stands.")
        .answers(&[json(200, "In counts, and names of what is stopped.", "Status").receipted()]),
    get("/admin/directory", "directory", "For an administrator: everyone in it.")
        .answers(&[json(200, "As stated.", "Directory").receipted()]),
    get("/admin/register", "keptRegister", "For an administrator: the register of emergency providers, and every acceptance of it.")
        .answers(&[json(200, "As it stands.", "EmergencyRegister").receipted()]),
    get("/admin/training", "training", "For an administrator: everybody's training, requirement by requirement.")
        .answers(&[json(200, "As stated.", "Training").receipted()]),
    post("/admin/training", "importTraining", "For an administrator: a file of training, whole or not at all.")
        .takes(JSON, "TrainingForm")
        .answers(&[json(200, "Taken, or only looked at.", "TrainingTaken").receipted()])
        .refuses(&[409, 422]),
    get("/admin/proposals", "proposals", "For an administrator: what waits for a second person.")
        .answers(&[json(200, "Each in full.", "Proposals").receipted()]),
    post("/admin/proposals/{digest}/approve", "approve", "For a second administrator: what was proposed is then done.")
        .may_take(JSON, "WhyForm")
        .answers(&[json(200, "Done.", "Done").receipted()])
        .refuses(&[404, 409, 422]),
    post("/admin/proposals/{digest}/withdraw", "withdrawProposal", "For an administrator: takes a proposal back.")
        .may_take(JSON, "WhyForm")
        .answers(&[json(200, "Taken back.", "Nothing").receipted()])
        .refuses(&[404, 409, 422]),
];
