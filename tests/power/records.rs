//! A load on the store alone, in which the whole state after n commits follows from n; and the check of a store
//! that was found after a cut against it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sallyport::store::{
    BlobRef, BlobStore, Embedded, Expect, Limits, Macs, OpenError, Store as _, Table, Write,
    WriteSet,
};
use sha2::{Digest as _, Sha256};

/// Rows that are rewritten again and again, as wrapped keys are.
const KEYS: u64 = 4000;
const REWRITTEN: u64 = 16;

struct Codes;

impl Macs for Codes {
    fn mac(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut hash = Sha256::new_with_prefix([0x5a; 64]);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize()[..16].try_into().unwrap()
    }
}

/// Small segments and a sync of the index every tenth of a second: as many borders as a cut can meet.
fn open(dir: &Path) -> Result<Embedded, OpenError> {
    let limits = Limits {
        segment_bytes: 4 << 20,
        free_floor_bytes: 0,
        cache_bytes: 64 << 20,
        checkpoint_ms: 100,
    };
    Embedded::open(dir, Arc::new(Codes), limits)
}

fn noise(seed: u64, bytes: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

/// The n-th record: mostly small, every sixteenth of 40 KiB.
fn blob(n: u64) -> Bytes {
    let bytes = if n.is_multiple_of(16) {
        40 << 10
    } else {
        200 + n * 37 % 2000
    };
    noise(n, bytes).into()
}

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// The n-th commit's rows besides the record's name: keys that are rewritten, an objection that comes and goes, a mark.
fn rows(n: u64) -> Vec<(Table, Vec<u8>, Option<Vec<u8>>)> {
    let key = |i: u64| (n * 7919 + i * 104_729) % KEYS;
    let mut rows: Vec<_> = (0..REWRITTEN)
        .map(|i| {
            (
                Table::PatientKeys,
                key(i).to_be_bytes().to_vec(),
                Some(noise(n + i, 100)),
            )
        })
        .collect();
    let objection = (n % 50).to_be_bytes().to_vec();
    let stands = !(n / 50).is_multiple_of(2);
    rows.push((Table::Facts, objection, stands.then(|| noise(n, 300))));
    rows.push((
        Table::Meta,
        b"last".to_vec(),
        Some(n.to_be_bytes().to_vec()),
    ));
    rows
}

fn state_after(last: u64) -> Rows {
    let mut all = Rows::new();
    for (table, key, value) in (1..=last).flat_map(rows) {
        match value {
            Some(value) => all.insert((table, key), value),
            None => all.remove(&(table, key)),
        };
    }
    all
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

async fn all_of(store: &Embedded, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let rows = store.scan(table, vec![], None, usize::MAX).await.unwrap();
    rows.into_iter().map(|row| (row.key, row.value)).collect()
}

async fn last(store: &Embedded) -> u64 {
    let marks = all_of(store, Table::Meta).await;
    marks.first().map_or(0, |(_, value)| {
        u64::from_be_bytes(value[..].try_into().unwrap())
    })
}

/// Commits until it is killed, and says each commit's number once it is acknowledged.
pub(crate) fn write(dir: &Path) {
    let store = match open(dir) {
        Err(OpenError::Missing) => {
            Embedded::create(dir, Arc::new(Codes)).unwrap();
            open(dir).unwrap()
        }
        opened => opened.unwrap(),
    };
    block_on(async {
        let mut out = std::io::stdout();
        for n in last(&store).await + 1.. {
            let kept = store.put(vec![blob(n)]).await.unwrap();
            let mut all = rows(n);
            let name = (
                Table::Names,
                n.to_be_bytes().to_vec(),
                Some(kept[0].to_bytes().to_vec()),
            );
            all.push(name);
            let write = |(table, key, value)| Write {
                table,
                key,
                value,
                expect: Expect::Any,
            };
            let writes = all.into_iter().map(write).collect();
            store
                .commit(WriteSet {
                    writes,
                    token: None,
                })
                .await
                .unwrap();
            writeln!(out, "{n}").unwrap();
            out.flush().unwrap();
        }
    });
}

/// What was found after a cut.
pub(crate) struct Found {
    /// The last commit that is there.
    pub(crate) last: u64,
    pub(crate) is_rebuilt: bool,
}

/// Opens what a cut left and holds all of it against what was acknowledged.
///
/// # Errors
/// What is lost, torn or different.
pub(crate) fn check(dir: &Path, acknowledged: u64) -> Result<Found, String> {
    let store = match open(dir) {
        Err(OpenError::Missing) if acknowledged == 0 => {
            return Ok(Found {
                last: 0,
                is_rebuilt: false,
            });
        }
        opened => opened.map_err(|error| format!("it does not open: {error}"))?,
    };
    block_on(async {
        let last = last(&store).await;
        if !(acknowledged..=acknowledged + 1).contains(&last) {
            return Err(format!(
                "{acknowledged} commits were acknowledged, {last} are there"
            ));
        }
        let expected = state_after(last);
        for table in [Table::PatientKeys, Table::Facts] {
            let want: Vec<_> = expected
                .iter()
                .filter(|((of, _), _)| *of == table)
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            if all_of(&store, table).await != want {
                return Err(format!(
                    "the rows of {table:?} are not those of commit {last}"
                ));
            }
        }
        let names = all_of(&store, Table::Names).await;
        if names.len() as u64 != last {
            return Err(format!("{} records are named, not {last}", names.len()));
        }
        for (n, (key, value)) in (1..).zip(&names) {
            let kept = BlobRef::from_bytes(value[..].try_into().unwrap());
            let blobs = BlobStore::get_many(&store, vec![kept]).await;
            if *key != u64::to_be_bytes(n) || blobs != Ok(vec![blob(n)]) {
                return Err(format!("record {n} is not what was put: {:?}", blobs.err()));
            }
        }
        let is_rebuilt = store.recovery().is_rebuilt;
        store.close();
        Ok(Found { last, is_rebuilt })
    })
}
