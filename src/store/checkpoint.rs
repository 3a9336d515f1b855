//! A small file that says up to which commit the index was durably on disk when it was written.
//!
//! Opening replays the log from here, not from where the index says it is: sled may have lost or kept any part
//! of what came after its last sync. It also shows an index that fell behind its own promise, and a log that
//! became shorter than it was. Missing or damaged it costs a rebuild, nothing else.

use super::index::Mark;
use super::stamp::{Stamp, same};
use crate::disk::Disk;
use std::io;
use std::path::Path;

const NAME: &str = "checkpoint";
const FORMAT: u8 = 1;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// The log had come at least so far.
    pub(super) mark: Mark,
    /// The index held all of it durably. Otherwise it was being rebuilt, and this is only the log's witness.
    pub(super) is_complete: bool,
}

/// Writes it: new file, sync, rename, sync of the folder.
pub(super) fn write(
    disk: &dyn Disk,
    dir: &Path,
    stamp: &Stamp,
    checkpoint: Checkpoint,
) -> io::Result<()> {
    let mut bytes = vec![FORMAT, u8::from(checkpoint.is_complete)];
    bytes.extend_from_slice(&checkpoint.mark.to_bytes());
    bytes.extend_from_slice(&stamp.checkpoint(&bytes));
    let half = dir.join("checkpoint.new");
    if disk.exists(&half)? {
        disk.remove(&half)?;
    }
    let file = disk.create(&half, 0)?;
    file.write_at(0, &bytes)?;
    file.sync()?;
    disk.rename(&half, &dir.join(NAME))?;
    disk.sync_dir(dir)
}

/// Reads it, if there is one that this store wrote.
pub(super) fn read(disk: &dyn Disk, dir: &Path, stamp: &Stamp) -> io::Result<Option<Checkpoint>> {
    let path = dir.join(NAME);
    if !disk.exists(&path)? {
        return Ok(None);
    }
    let mut bytes = [0; 64];
    let length = disk.open(&path)?.read_at(0, &mut bytes)?;
    Ok(bytes.get(..length).and_then(|bytes| parse(stamp, bytes)))
}

/// Removes it, durably: whoever opens next must rebuild.
pub(super) fn remove(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    if disk.exists(&dir.join(NAME))? {
        disk.remove(&dir.join(NAME))?;
    }
    disk.sync_dir(dir)
}

fn parse(stamp: &Stamp, bytes: &[u8]) -> Option<Checkpoint> {
    let (said, code) = bytes.split_last_chunk()?;
    let ([format, is_complete], mark) = said.split_first_chunk()?;
    let is_ours = *format == FORMAT && same(&stamp.checkpoint(said), code);
    let mark = Mark::parse(mark).filter(|_| is_ours)?;
    Some(Checkpoint {
        mark,
        is_complete: *is_complete == 1,
    })
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )]
    use super::*;
    use crate::disk::TestDisk;
    use crate::store::memory::TestMacs;
    use crate::store::stamp::Position;
    use std::sync::Arc;

    #[test]
    fn what_was_not_written_by_this_store_says_nothing() {
        let (disk, dir) = (TestDisk::new(), Path::new("/"));
        let stamp = Stamp::new(Arc::new(TestMacs), [3; 16]);
        let mark = Mark {
            at: Position {
                segment: 1,
                offset: 2,
            },
            seq: 3,
        };
        let (known, witness) = (
            Checkpoint {
                mark,
                is_complete: true,
            },
            Checkpoint {
                mark,
                is_complete: false,
            },
        );
        assert_eq!(read(&disk, dir, &stamp).unwrap(), None);
        write(&disk, dir, &stamp, witness).unwrap();
        assert_eq!(read(&disk, dir, &stamp).unwrap(), Some(witness));
        write(&disk, dir, &stamp, known).unwrap();
        assert_eq!(read(&disk, dir, &stamp).unwrap(), Some(known));
        assert_eq!(
            read(&disk, dir, &Stamp::new(Arc::new(TestMacs), [4; 16])).unwrap(),
            None
        );
        for at in 0..disk.contents(&dir.join(NAME)).len() {
            disk.tamper(&dir.join(NAME), |bytes| bytes[at] ^= 1);
            assert_eq!(read(&disk, dir, &stamp).unwrap(), None, "byte {at}");
            disk.tamper(&dir.join(NAME), |bytes| bytes[at] ^= 1);
        }
        remove(&disk, dir).unwrap();
        assert_eq!(read(&disk, dir, &stamp).unwrap(), None);
    }
}
