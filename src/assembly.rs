//! Putting a gateway together from its config: `found` makes one that does not exist, `open` opens one that
//! does. `open` never creates anything: an empty folder at start is an error, not a fresh log.

mod advice;
mod fill;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use keys::{Family, HsmKey, Keyring, RootKey, Unlock};
use policy::Rules;
use zeroize::Zeroizing;

use crate::alerts::{self, Board, Post, Target, TargetError};
use crate::clock::Clock;
use crate::config::Config;
use crate::facts::{Anchor, Change, Facts, OPERATOR, Statement};
use crate::fhir::sensitive_codes::{ListError, SensitiveCodes};
use crate::gateway::{Folders, Gateway};
use crate::ledger::{Event, Ledger, Options, Place};
use crate::rulebook;
use crate::store::{BlobStore, Embedded, Limits, Recovery, Store};
use crate::token::{ASSERTION_SECONDS, Tokens};
use crate::vault::{FAMILIES, Strongroom, Tombstone, Vault};
use crate::witness::{WitnessError, Witnesses};

mod restore;
pub use fill::fill;
pub use restore::{Restored, restore};

/// Why there is no gateway. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AssemblyError {
    /// Something is there already.
    #[error("{0} is there already: `init` makes a new gateway and never touches one")]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The root key.
    #[error("the root key: {0}")]
    Root(#[from] keys::RootError),
    /// The keyring.
    #[error("the keyring: {0}")]
    Keyring(#[from] keys::LoadError),
    /// The keyring cannot be changed.
    #[error("the keyring: {0}")]
    Change(#[from] keys::ChangeError),
    /// What the ledger says was erased could not be.
    #[error("an erasure that the ledger holds could not be finished: {0}")]
    Erase(#[from] crate::gateway::Fault),
    /// A backup that cannot be put back.
    #[error("the backup: {0}")]
    Backup(#[from] crate::backup::BackupError),
    /// The backup of another gateway.
    #[error("the backup is of {0}, not of the gateway that this config names")]
    OtherGateway(String),
    /// A checkpoint given with `--since`, or found in the log that was published, is not this log's.
    #[error("a checkpoint that says what is missing cannot be used: {0}")]
    Since(crate::ledger::note::NoteError),
    /// The ledger could not be made.
    #[error("the ledger: {0}")]
    Init(#[from] crate::ledger::InitError),
    /// The ledger does not open.
    #[error("the ledger: {0}")]
    Ledger(#[from] crate::ledger::OpenError),
    /// The ledger could not record.
    #[error("the ledger: {0}")]
    Record(#[from] crate::ledger::RecordError),
    /// The store could not be made.
    #[error("the store: {0}")]
    Create(#[from] crate::store::CreateError),
    /// The store is older than the ledger: it was put back from a copy.
    #[error(
        "the store stands at commit {have}, but the ledger names commit {named}: the store was put back from an \
         older copy, and what was filed, withdrawn or objected since is missing; put the newer one back"
    )]
    StoreBehind {
        /// Last commit in the store.
        have: u64,
        /// Latest commit that an entry of the ledger names.
        named: u64,
    },
    /// The keyring is older than the ledger: it was put back from a copy.
    #[error(
        "the keyring stands at epoch {have}, but the ledger names epoch {named}: it was put back from an older copy, \
         and keys that were made since are missing, keys that were destroyed are back; put the newer one back"
    )]
    KeyringBehind {
        /// Epoch of the keyring.
        have: u64,
        /// Latest epoch that an entry of the ledger names.
        named: u64,
    },
    /// The store does not open.
    #[error("the store: {0}")]
    Store(#[from] crate::store::OpenError),
    /// The facts.
    #[error("the facts: {0}")]
    Facts(#[from] crate::facts::FactsError),
    /// The vault.
    #[error("the vault: {0}")]
    Vault(#[from] crate::vault::VaultError),
    /// Making a practice's key.
    #[error("a practice's key: {0}")]
    Provide(#[from] crate::vault::RotationError),
    /// The rules do not load.
    #[error("the rules: {0}")]
    Rules(#[from] policy::LoadError),
    /// The list of sensitive codes cannot be used.
    #[error("{path}: {error}")]
    SensitiveCodes {
        /// Which file.
        path: PathBuf,
        /// Which line, which rule.
        error: ListError,
    },
    /// A target of alerts cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A witness cannot be asked.
    #[error(transparent)]
    Witness(#[from] WitnessError),
    /// The folder of rules is none, or has no proof.
    #[error("the rules: {0}")]
    Rulebook(#[from] crate::rulebook::RulebookError),
}

/// How a gateway was unsealed, as the ledger says it.
pub struct Unsealed {
    /// `passphrase`, `shares` or `hsm`.
    pub means: &'static str,
    /// The user of this machine who gave the last of it; none where it was given at the start.
    pub uid: Option<u32>,
    /// Which shares.
    pub shares: Vec<u32>,
    /// Wrong tries since it was sealed.
    pub failed: u64,
}

/// Said where the root key is wrapped under a token's key and the config does not say which.
pub const NO_HSM: &str = "the root key is opened by a hardware token: name it in the config, as \
     [root.hsm] with module, token and key";

/// The token's key, as the config names it.
#[must_use]
pub fn hsm_key(hsm: &crate::config::Hsm) -> HsmKey {
    HsmKey {
        module: hsm.module.clone(),
        token: hsm.token.clone(),
        key: hsm.key.clone(),
    }
}

/// Makes a new gateway: root key, keyring, store and ledger. Refuses to touch an existing one.
///
/// # Errors
/// What is there already, or which part could not be made.
pub fn found(
    config: &Config,
    passphrase: &Zeroizing<Vec<u8>>,
    clock: &Clock,
) -> Result<(), AssemblyError> {
    for path in [
        config.keyring(),
        config.store(),
        config.journal(),
        config.root.file.clone(),
    ] {
        if path.exists() {
            return Err(AssemblyError::Exists(path));
        }
    }
    private_dir(&config.data)?;
    let now_ms = clock.now_ms();
    let root = RootKey::create(&config.root.file, passphrase)?;
    let mut ring = Keyring::create(&config.keyring(), &root)?;
    for (family, _) in FAMILIES {
        ring.add(family, now_ms)?;
    }
    ring.add(Family::Kek("audit".to_owned()), now_ms)?;
    let room = Strongroom::new(ring)?;
    Embedded::create(&config.store(), room.macs())?;
    Ledger::init(
        &place(config),
        &config.origin,
        room.notes().as_ref(),
        now_ms,
    )?;
    Ok(())
}

fn private_dir(path: &Path) -> Result<(), AssemblyError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| AssemblyError::File {
        path: path.to_owned(),
        error,
    })
}

fn place(config: &Config) -> Place {
    Place {
        journal: config.journal(),
        log: config.log.clone(),
    }
}

/// What the ledger's entries say at start: the anchors of the facts, and what was used up or revoked lately.
#[derive(Default)]
struct Replay {
    anchors: BTreeMap<String, Anchor>,
    used: Vec<(String, u64)>,
    revoked: Vec<(String, u64)>,
    store_seq: u64,
    keyring_epoch: u64,
    erased: Vec<Tombstone>,
    /// Put back from a backup, and not acknowledged since.
    is_held: bool,
}

/// Opens a gateway that exists. Re-verifies the whole ledger, and holds the facts against it.
///
/// # Errors
/// Which part does not open, and what to do about it.
pub async fn open<'a>(
    config: &Config,
    unlock: impl Into<Unlock<'a>>,
    clock: Clock,
) -> Result<Gateway, AssemblyError> {
    let rules = rules(config)?;
    let root = RootKey::open(&config.root.file, unlock)?;
    let room = Strongroom::new(Keyring::open(&config.keyring(), &root)?)?;
    let mut replay = Replay::default();
    let recent_ms = clock
        .now_ms()
        .saturating_sub((ASSERTION_SECONDS + 60) * 1000);
    let post = post(config, &room, &clock)?;
    let witnesses = Witnesses::new(config.witness.as_ref(), clock.clone())?;
    let (board, watched) = (post.shared_board(), post.shared_board());
    let options = Options {
        clock: clock.clone(),
        watch: Arc::new(move |leaf| watched.read(leaf)),
        ..Options::default()
    };
    let ledger = Ledger::open(
        &place(config),
        &config.origin,
        room.notes(),
        options,
        &mut |leaf| {
            replay.read(leaf, recent_ms);
            board.read(leaf);
        },
    )?;
    let begun = board.begin();
    let (have, named) = (room.epoch(), replay.keyring_epoch);
    if have < named {
        return Err(AssemblyError::KeyringBehind { have, named });
    }
    let embedded = Arc::new(Embedded::open(
        &config.store(),
        room.macs(),
        Limits::default(),
    )?);
    let (have, named) = (embedded.seq().0, replay.store_seq);
    if have < named {
        return Err(AssemblyError::StoreBehind { have, named });
    }
    let store: Arc<dyn Store> = Arc::clone(&embedded) as Arc<dyn Store>;
    let blobs: Arc<dyn BlobStore> = Arc::clone(&embedded) as Arc<dyn BlobStore>;
    let facts = Facts::open(
        Arc::clone(&store),
        room.seals(),
        &replay.anchors,
        clock.clone(),
    )
    .await?;
    let sensitive = sensitive_codes(config)?;
    let codes = sensitive.digest().to_owned();
    let vault = Arc::new(Vault::new(
        &room,
        Arc::clone(&store),
        blobs,
        config.issuer.clone(),
        sensitive,
    )?);
    let tokens = Tokens::new(config.issuer.clone(), room.token_signs());
    replay
        .used
        .iter()
        .for_each(|(tag, ts_ms)| tokens.used_before(tag, *ts_ms));
    replay
        .revoked
        .iter()
        .for_each(|(jti, ts_ms)| tokens.revoke(jti, ts_ms + 1000 * ASSERTION_SECONDS, 0));
    ledger
        .note(
            Event::new("gateway.start")
                .with("policy", rules.digest())
                .with("codes", codes)
                .with("kr", vault.keyring_epoch())
                .from_reserve(),
        )
        .await?;
    for event in begun {
        ledger.note(event.from_reserve()).await?;
    }
    witnesses.resume(&ledger);
    let gateway = Gateway::new(
        (rules, facts, ledger),
        (vault, tokens),
        embedded,
        (post, witnesses),
        clock,
    );
    let folders = Folders {
        keyring: config.keyring(),
        store: config.store(),
        root: config.root.file.clone(),
        backups: config.backups.clone(),
    };
    gateway.settle_in(folders, replay.is_held);
    if replay.is_held {
        tracing::warn!(
            "put back from a backup: nobody is served until two administrators acknowledge it"
        );
    }
    gateway.bury(&replay.erased).await?;
    Ok(gateway)
}

/// The list of codes that make a record sensitive, where the config names one.
fn sensitive_codes(config: &Config) -> Result<SensitiveCodes, AssemblyError> {
    let Some(path) = &config.sensitive_codes else {
        return Ok(SensitiveCodes::default());
    };
    let text = std::fs::read_to_string(path).map_err(|error| AssemblyError::File {
        path: path.clone(),
        error,
    })?;
    SensitiveCodes::parse(&text).map_err(|error| AssemblyError::SensitiveCodes {
        path: path.clone(),
        error,
    })
}

/// The targets of alerts, and the board that the ledger is shown on.
fn post(config: &Config, room: &Strongroom, clock: &Clock) -> Result<Post, TargetError> {
    let lent = room.token_signs();
    let signs: alerts::Signs = Arc::new(move |typ, payload| lent.sign(typ, payload));
    let targets = config
        .alerts
        .iter()
        .map(|alert| Target::new(alert, &config.issuer, &signs))
        .collect::<Result<Vec<_>, _>>()?;
    let names: Vec<String> = targets.iter().map(|it| it.name().to_owned()).collect();
    if let Some(twice) = names
        .iter()
        .enumerate()
        .find(|(at, name)| names.iter().take(*at).any(|other| other == *name))
    {
        return Err(TargetError::Twice(twice.1.clone()));
    }
    Ok(Post::new(
        Arc::new(Board::new(names)),
        targets,
        clock.clone(),
    ))
}

/// The built-in rules, local rules of one's own, or a whole set of one's own: that one only with its proof.
fn rules(config: &Config) -> Result<Rules, AssemblyError> {
    if let Some(folder) = &config.policy {
        let texts = rulebook::read(folder)?;
        return Ok(Rules::proven(&texts, &rulebook::proof(folder)?)?);
    }
    match &config.rules {
        None => Ok(Rules::built_in()?),
        Some(path) => {
            let text = std::fs::read_to_string(path);
            Ok(Rules::parse(&text.map_err(|error| {
                AssemblyError::File {
                    path: path.clone(),
                    error,
                }
            })?)?)
        }
    }
}

/// Throws the store's index away and builds it from the segments, which count as they are from then on. For the
/// operator, with the gateway stopped: when the index was deleted or damaged, or `serve` says that the store's log
/// became shorter.
///
/// # Errors
/// Which part does not open.
pub fn rebuild<'a>(
    config: &Config,
    unlock: impl Into<Unlock<'a>>,
) -> Result<Recovery, AssemblyError> {
    let root = RootKey::open(&config.root.file, unlock)?;
    let room = Strongroom::new(Keyring::open(&config.keyring(), &root)?)?;
    Ok(Embedded::rebuild(&config.store(), room.macs())?)
}

/// The erasure that a leaf says was decided.
fn tombstone(leaf: &crate::ledger::Leaf<'_>) -> Option<Tombstone> {
    let members = leaf.members()?;
    Some(Tombstone {
        practice: policy::words::Ods::try_from(members.get("owner")?.as_str()?).ok()?,
        code: Tombstone::code_of(members.get("er")?.as_str()?)?,
        upto: u32::try_from(members.get("upto")?.as_u64()?).ok()?,
        at_ms: members.get("at")?.as_u64()?,
    })
}

impl Replay {
    fn read(&mut self, leaf: &crate::ledger::Leaf<'_>, recent_ms: u64) {
        if leaf.mentions("facts") {
            let anchor = leaf
                .members()
                .and_then(|members| Anchor::from_member(members.get("facts")?).ok());
            if let Some((owner, anchor)) = anchor {
                self.anchors.insert(owner, anchor);
            }
        }
        if leaf.mentions("er") {
            self.erased.extend(tombstone(leaf));
        }
        if leaf.mentions("known") || leaf.mentions("taken") || leaf.mentions("size") {
            let event = leaf.members();
            let event = event
                .as_ref()
                .and_then(|members| members.get("ev")?.as_str());
            match event {
                Some("gateway.restored") => self.is_held = true,
                Some("backup.acknowledged") => self.is_held = false,
                _ => {}
            }
        }
        if leaf.mentions("kr") {
            let named = leaf
                .members()
                .and_then(|members| members.get("kr")?.as_u64());
            self.keyring_epoch = self.keyring_epoch.max(named.unwrap_or(0));
        }
        if leaf.mentions("st") {
            let named = leaf
                .members()
                .and_then(|members| members.get("st")?.as_u64());
            self.store_seq = self.store_seq.max(named.unwrap_or(0));
        }
        let lately = leaf.ts_ms().filter(|ts_ms| *ts_ms >= recent_ms);
        for (member, list) in [("aj", &mut self.used), ("rv", &mut self.revoked)] {
            if let (Some(ts_ms), true) = (lately, leaf.mentions(member)) {
                let said = leaf
                    .members()
                    .and_then(|members| Some(members.get(member)?.as_str()?.to_owned()));
                list.extend(said.map(|said| (said, ts_ms)));
            }
        }
    }
}

/// A gateway that is founded with agreements made on paper is founded with their countersignatures too; each is of
/// the terms that stand beside it.
fn countersign(statements: &mut [Statement]) {
    let key = |practice: &str, organisation: &str, reference: &str| {
        [practice, organisation, reference].map(str::to_owned)
    };
    let terms: BTreeMap<_, _> = statements
        .iter()
        .filter_map(|statement| match statement {
            Statement::Agreement(row) => Some((
                key(&row.practice, &row.organisation, &row.reference),
                row.terms(),
            )),
            _ => None,
        })
        .collect();
    for statement in statements {
        if let Statement::Countersignature(row) = statement
            && row.terms.is_empty()
            && let Some(of) = terms.get(&key(&row.practice, &row.organisation, &row.reference))
        {
            row.terms.clone_from(of);
        }
    }
}

impl Gateway {
    /// Records that the gateway was unsealed: by what, by which user of this machine, after how many wrong tries.
    ///
    /// # Errors
    /// If it cannot be recorded; then nobody may be served.
    pub async fn record_unseal(&self, by: &Unsealed) -> Result<(), AssemblyError> {
        let event = Event::new("gateway.unseal")
            .with("by", by.means)
            .with("failed", by.failed);
        let event = by
            .uid
            .iter()
            .fold(event, |event, uid| event.with("uid", u64::from(*uid)));
        let event = match by.shares.is_empty() {
            true => event,
            false => event.with("shares", by.shares.clone()),
        };
        self.ledger().note(event.from_reserve()).await?;
        Ok(())
    }

    /// Records that the gateway is sealed, while the key that signs the record is still there.
    ///
    /// # Errors
    /// If it cannot be recorded.
    pub async fn record_seal(&self, by: &str, uid: Option<u32>) -> Result<(), AssemblyError> {
        let event = Event::new("gateway.sealed").with("by", by);
        let event = uid
            .iter()
            .fold(event, |event, uid| event.with("uid", u64::from(*uid)));
        self.ledger().note(event.from_reserve()).await?;
        Ok(())
    }

    /// Records the stop, publishes, and closes ledger and store.
    ///
    /// # Errors
    /// If the stop cannot be recorded.
    pub async fn close(&self) -> Result<(), AssemblyError> {
        let recorded = self
            .ledger()
            .note(
                Event::new("gateway.stop")
                    .with("st", self.store().seq().0)
                    .from_reserve(),
            )
            .await;
        let (ledger, embedded) = (self.ledger().clone(), Arc::clone(self.store()));
        let closing = tokio::task::spawn_blocking(move || {
            embedded.close();
            ledger.close();
        });
        if closing.await.is_err() {
            tracing::error!("closing ended early");
        }
        recorded.map(drop).map_err(AssemblyError::from)
    }

    /// States a gateway's first directory and facts: at its founding, before it serves anyone. Each owner's
    /// statements are one recorded change.
    ///
    /// # Errors
    /// A statement that does not parse, or a part that failed.
    pub async fn load(&self, statements: Vec<Statement>) -> Result<(), AssemblyError> {
        let now_ms = self.clock().now_ms();
        let mut statements = statements;
        countersign(&mut statements);
        self.vault().provide("audit", now_ms)?;
        let mut owners: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        for statement in statements {
            statement.check().map_err(crate::facts::FactsError::from)?;
            match &statement {
                Statement::Organisation(row) if row.role == "practice" => {
                    self.vault().provide(&row.ods, now_ms)?
                }
                Statement::Registration(row) => {
                    self.vault()
                        .know(
                            &crate::facts::number(&row.patient)
                                .map_err(crate::facts::FactsError::from)?,
                        )
                        .await?;
                }
                _ => {}
            }
            owners
                .entry(statement.owner().to_owned())
                .or_default()
                .push(Change::Put(statement));
        }
        // Why first: who states the rest must stand in the directory.
        let operator = owners
            .remove(OPERATOR)
            .map(|changes| (OPERATOR.to_owned(), changes));
        for (owner, changes) in operator.into_iter().chain(owners) {
            let turn = self.facts().turn().await;
            let prepared = self.facts().prepare(turn, &owner, changes).await?;
            self.facts().pend(&prepared).await?;
            let member = prepared.anchor().1.to_member(&owner);
            self.ledger()
                .note(Event::new("facts.load").with("facts", member))
                .await?;
            self.facts().apply(prepared, Vec::new()).await?;
        }
        Ok(())
    }
}
