//! Sallyport: an encrypted record-sharing gateway between GP systems and hospitals.
//!
//! A sallyport is a gate with two doors that are never open together. A shared record passes two: the *decision*,
//! made for one person, one patient and one purpose, and the *ledger*, which has durably signed that decision
//! before anything moves. What passes is an envelope that only the addressed hospital can open.
//!
//! > **A record leaves this house only along one straight line, and every step of the line is a value that only the
//! > step before can make: `Ask -> Grant -> Recorded<Grant> -> Release`.**
//!
//! # The rooms
//!
//! From the ground up. A room imports only from rooms on floors below its own; which of them stands in
//! `tests/tidy.rs`, which reads the source.
//!
//! ```text
//! 7  main                           arguments and exit codes
//!    cli                            what each command does and says
//! 6  connector                      a hospital's and a practice's sidecar: plain FHIR on loopback, every answer checked
//!    demo                           the whole story, each line of it checked
//!    bench                          figures, measured on this machine
//!    dev                            a ready-made world, served
//!    porter                         unseals a gateway, serves it, seals it again
//! 5  http                           the table of routes; one file a protocol; `answer` alone makes responses
//!    assembly                       a gateway from its config: founded once, opened ever after
//!    audit                          the auditor's desk, offline: a copy of the log, searched, reported on, exported
//!    connect                        the other side: what a practice, hospital, admin or auditor does with us
//! 4  gateway                        the straight line; never sees a secret
//! 3  witness                        others cosign the log, so that nobody is shown another one; asked beside the requests
//!    alerts                         what somebody has to be told, read off the ledger, delivered until it is taken
//!    vault                          sealed records, patients' keys, tickets; owns the keyring
//!    caller                         certificate and token, bound together, make a Caller; the only place that vouches
//! 2  ledger                         leaf, journal, tree, checkpoint, receipt; `audit` verifies it from outside
//!    token                          assertions and access tokens: believed, issued
//!    facts                          what a decision may look at, each owner's statements anchored in the ledger
//! 1  store                          a seam; segments of ciphertext, an index that can be thrown away
//!    fhir                           bytes in, meaning out: patient, card, labels, search
//! 0  clock   config   disk          time and disk are handed in
//!    rulebook                       a policy set in a folder, and the proof beside it
//!    backup                         copies of what is kept, each file checked
//! ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
//!    keys (crate)                   the only code that sees secret bytes
//!    policy (crate)                 pure: schema, guards, rules, invariants; Ask and facts in, a verdict out
//!
//!    main ─> cli ─> demo ─> dev ─> http ─> gateway ─┬─> vault ─┬─> store ─> disk
//!                             └──> assembly ─> ^    ├─> facts ─┘─────^
//!                                                   ├─> alerts ─┐
//!                                                   └─> ledger ─> disk, clock
//!    vault, ledger (random bytes, one signature check), token (random ids), assembly, connect, dev, demo, bench ─> keys
//!    all that name a person, patient or purpose ─> policy
//! ```
//!
//! `keys` and `policy` know nothing of each other. `http` and `gateway` never name `keys`; `vault` alone owns the
//! keyring and lends the ledger, the facts, the store and the tokens a signature, a seal or a code, never a key.
//!
//! # The words
//!
//! One word, one thing: in code, log, page and command line.
//!
//! | word | thing |
//! |---|---|
//! | Caller | an authenticated party: certificate, and token where one is needed, bound together |
//! | Ask | what one caller wants: one act; of a patient's records, one patient and one purpose |
//! | Facts | what a decision may look at; each `Known` or `Unknown`, and unknown refuses |
//! | Statement | one row of facts, as its owner stated it: the practice, or the operator |
//! | Rules | validated policies: guards forbid, local rules permit, invariants watch |
//! | Proof | that guards imply invariants, for one exact text; a gateway loads no other |
//! | Grant, Refusal | the two verdicts; both are recorded |
//! | Ledger | the signed, append-only access log |
//! | Leaf | one entry of it: a line of JSON without personal data |
//! | Receipt | evidence of one entry: leaf, proof, openings |
//! | Checkpoint | a signed tree head |
//! | Sealed | ciphertext bound to its context |
//! | Deposit signature | who filed a record, under which key, for which patient |
//! | Ticket | the data keys of one release, signed, addressed to one hospital |
//! | Release | what may be sent: stored envelopes, the ticket that opens them, their receipt |
//! | Card | what routing, labels and search need of a record, read at deposit, kept encrypted |
//! | Porter | opens a gateway that starts sealed, and seals it again |
//! | Keyring | every long-lived key; *active* ones seal, *retired* ones only open |
//!
//! # How a request travels
//!
//! ```text
//! TLS peer + token          caller          -> Caller               or 401; a stranger is counted, a client recorded
//! budget                    http/budget     -> Turn                 or 429, before anything is decided
//! path, query, body         http            -> Ask                  or 400; parsed once
//! shelf, facts              vault, facts    -> PatientFacts         each Known or Unknown
//! decide(rules, ask, facts) policy          -> Grant | Refusal      pure
//! record(verdict)           ledger          -> Recorded<_>          append, fsync, sign; or 503 and nothing moves
//! release(recorded)         vault, keys     -> Release              data keys into a ticket; ciphertext untouched
//! into_response             http/answer     -> 200 + receipt | 403 + receipt, always the same words
//! ```
//!
//! Tokens, deposits, withdrawals, objections, rotations and reads of the log walk the same line with an `Ask` of
//! their own. Dropping the future is safe at every await: the ledger may over-report, never under-report.

pub mod alerts;
pub mod assembly;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod caller;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connect;
pub mod connector;
pub mod demo;
pub mod dev;
pub mod disk;
pub mod facts;
pub mod fhir;
pub mod gateway;
pub mod http;
pub mod ledger;
pub mod porter;
pub mod rulebook;
pub mod store;
pub mod token;
pub mod vault;
pub mod witness;
