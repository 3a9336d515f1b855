//! The seam between the rooms that must survive a power cut (ledger, store) and the disk.
//! Here: what a disk promises and the machine's own; in `disk/test.rs` the one that crashes on demand.
//! Never here: formats, checksums, retries. Who calls must treat every error but `StorageFull`
//! before a write as the end of that file: after a failed `sync` nobody knows what is on the disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

#[cfg(test)]
mod test;
#[cfg(test)]
pub(crate) use test::{Crash, TestDisk};

/// A place for files whose names and bytes become durable when, and only when, they are synced.
///
/// * A file's bytes and length survive power loss once its [`DiskFile::sync`] returned `Ok`.
/// * A name (created, renamed, removed) survives once [`Disk::sync_dir`] of its folder returned `Ok`.
/// * Before that either state, or any mixture of 512-byte sectors, may be found afterwards.
pub trait Disk: Send + Sync + 'static {
    /// Makes one folder, readable by its owner only; its parent must exist, itself must not.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a file that must not exist yet, readable by its owner only. Its first `preallocate`
    /// bytes are zero, allocated and synced on return, so that a later sync of a write within
    /// them has nothing but data to move and cannot find the disk full.
    fn create(&self, path: &Path, preallocate: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Opens an existing file to read and write; never makes one.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Whether a file or folder of that name is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// The names in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Removes a file's name. Whoever has it open goes on reading it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name, at once, over whatever had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that may still be written to the file system of `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Locks a file (made if need be) against every other process and handle until dropped.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// A file of a [`Disk`]. All calls may be made from several threads at once.
pub trait DiskFile: Send + Sync {
    /// Writes all of `bytes` at `offset`, growing the file if need be. Not durable before `sync`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads at most `into.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// fdatasync: everything written so far, and the length, survives power loss. An error is final:
    /// the kernel may have dropped the bytes, and a second try may lie. A file that no folder names any more
    /// survives nothing, so that is an error too.
    fn sync(&self) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Takes room on the disk for all of the file's length, where a copy left holes in it: a later write within
    /// cannot find the disk full.
    fn fill_holes(&self) -> io::Result<()>;

    /// Cuts or extends (with zeros) the file. Not durable before `sync`.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Fills `into` or fails with `UnexpectedEof`.
    fn read_exact_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let read = self.read_at(offset, into)?;
        if read == into.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// A held lock; dropping it lets go.
pub trait DiskLock: Send + Sync {}

/// The machine's own file systems.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn create(&self, path: &Path, preallocate: u64) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        if let Err(error) = fill_with_zeros(&file, preallocate) {
            // Why: half a file must not stand in the way of the next try; the first error counts.
            let _ = fs::remove_file(path);
            return Err(error);
        }
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(
            OpenOptions::new().read(true).write(true).open(path)?,
        )))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name().into_string();
            names.push(name.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        file.try_lock()?;
        Ok(Box::new(RealLock { _file: file }))
    }
}

/// Why zeros and not only `fallocate`: ext4 and xfs mark merely allocated extents as unwritten, and
/// turning them into written ones costs every later fdatasync a journal commit.
fn fill_with_zeros(file: &File, bytes: u64) -> io::Result<()> {
    const CHUNK: usize = 1 << 20;
    if bytes == 0 {
        return Ok(());
    }
    take_room(file, bytes)?;
    let zeros = vec![0; CHUNK];
    let mut offset = 0;
    while offset < bytes {
        let length = usize::try_from(bytes - offset).unwrap_or(CHUNK).min(CHUNK);
        file.write_all_at(zeros.get(..length).unwrap_or(&zeros), offset)?;
        offset += length as u64;
    }
    file.sync_all()
}

fn take_room(file: &File, bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        self.0.sync_data()?;
        // Why: the kernel goes on writing to a deleted file without a word, and forgets it with the process.
        if self.0.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn fill_holes(&self) -> io::Result<()> {
        take_room(&self.0, self.len()?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may panic")]
    use super::*;

    /// What both disks must do alike.
    fn behaves(disk: &dyn Disk, root: &Path) {
        let dir = root.join("d");
        disk.create_dir(&dir).unwrap();
        assert_eq!(
            disk.create_dir(&dir).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        let path = dir.join("a");
        assert_eq!(
            disk.open(&path).err().unwrap().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(
            disk.create(&root.join("x/y"), 0).err().unwrap().kind(),
            io::ErrorKind::NotFound
        );

        let file = disk.create(&path, 3 << 19).unwrap();
        assert_eq!(
            disk.create(&path, 0).err().unwrap().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(file.len().unwrap(), 3 << 19);
        file.write_at(5, b"hello").unwrap();
        file.sync().unwrap();
        let mut read = [1; 12];
        file.read_exact_at(0, &mut read).unwrap();
        assert_eq!(&read, b"\0\0\0\0\0hello\0\0");
        file.fill_holes().unwrap();
        assert_eq!(file.len().unwrap(), 3 << 19);
        file.read_exact_at(0, &mut read).unwrap();
        assert_eq!(&read, b"\0\0\0\0\0hello\0\0", "no byte changes");
        file.set_len(8).unwrap();
        assert_eq!(file.read_at(5, &mut read).unwrap(), 3);
        assert_eq!(
            file.read_exact_at(5, &mut read).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!(file.read_at(100, &mut read).unwrap(), 0);

        disk.rename(&path, &dir.join("b")).unwrap();
        drop(disk.create(&path, 0).unwrap());
        disk.sync_dir(&dir).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["a", "b"]);
        disk.remove(&path).unwrap();
        assert!(
            !disk.exists(&path).unwrap()
                && disk.exists(&dir.join("b")).unwrap()
                && disk.exists(&dir).unwrap()
        );
        assert_eq!(disk.open(&dir.join("b")).unwrap().len().unwrap(), 8);
        assert!(disk.free_bytes(&dir).unwrap() > 0);

        disk.remove_dir(&dir).unwrap_err();
        disk.create_dir(&dir.join("empty")).unwrap();
        disk.remove_dir(&dir.join("empty")).unwrap();
        assert!(!disk.exists(&dir.join("empty")).unwrap());

        let held = disk.lock(&dir.join("lock")).unwrap();
        assert_eq!(
            disk.lock(&dir.join("lock")).err().unwrap().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(held);
        disk.lock(&dir.join("lock")).unwrap();
    }

    #[test]
    fn the_real_disk_and_the_test_disk_behave_alike() {
        let root = tempfile::tempdir().unwrap();
        behaves(&RealDisk, root.path());
        behaves(&TestDisk::new(), Path::new("/"));
    }

    #[test]
    fn holes_that_a_copy_left_are_filled() {
        use std::os::unix::fs::MetadataExt as _;
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("f");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        file.write_all_at(b"x", 5000).unwrap();
        RealDisk.open(&path).unwrap().fill_holes().unwrap();
        let about = fs::metadata(&path).unwrap();
        assert!(about.blocks() * 512 >= 1 << 20 && about.len() == 1 << 20);
    }

    #[test]
    fn what_is_made_is_the_owners_only() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d");
        RealDisk.create_dir(&dir).unwrap();
        drop(RealDisk.create(&dir.join("f"), 0).unwrap());
        drop(RealDisk.lock(&dir.join("l")).unwrap());
        for (path, mode) in [
            (dir.clone(), 0o700),
            (dir.join("f"), 0o600),
            (dir.join("l"), 0o600),
        ] {
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                mode,
                "{path:?}"
            );
        }
    }
}
