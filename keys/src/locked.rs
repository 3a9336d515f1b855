//! Memory that is not swapped out: pages that are locked once, lent in slots of thirty-two bytes, wiped when a slot comes
//! back, and kept. Locking is by page, so a page is never unlocked: another secret may stand on it.
//!
//! Where the system does not allow it (`RLIMIT_MEMLOCK`) the slots serve all the same, and [`unlocked_pages`] says so.
#![allow(unsafe_code, reason = "one call, mlock, has no safe form")]

use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroize as _;

use crate::secret::SECRET_BYTES;

const PAGE_BYTES: usize = 4096;

#[repr(align(4096))]
struct Page([u8; PAGE_BYTES]);

struct Pool {
    free: Vec<&'static mut [u8]>,
    refused: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: Vec::new(),
    refused: 0,
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn grow(&mut self) {
        let page: &'static mut Page = Box::leak(Box::new(Page([0; PAGE_BYTES])));
        // SAFETY: the range is one page of our own that is never freed, and locking changes nothing that Rust sees.
        let locked = unsafe { rustix::mm::mlock(page.0.as_mut_ptr().cast(), PAGE_BYTES) };
        self.refused += usize::from(locked.is_err());
        self.free.extend(page.0.chunks_exact_mut(SECRET_BYTES));
    }
}

/// Pages with secrets on them that the system would not lock.
#[must_use]
pub fn unlocked_pages() -> usize {
    pool().refused
}

/// Thirty-two bytes of a locked page, zero at first; wiped and given back on drop.
pub(crate) struct Slot(&'static mut [u8]);

impl Slot {
    pub(crate) fn take() -> Slot {
        let mut pool = pool();
        loop {
            match pool.free.pop() {
                Some(slot) => return Slot(slot),
                None => pool.grow(),
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let slot = std::mem::take(&mut self.0);
        slot.zeroize();
        pool().free.push(slot);
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::string_slice,
        reason = "tests may panic"
    )]
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::secret::Secret;

    /// What a test looks for is kept under a mask: unmasked it would find itself.
    const MASK: u8 = 0xa5;

    fn masked(secret: &Secret) -> Vec<u8> {
        secret.expose().iter().map(|byte| byte ^ MASK).collect()
    }

    /// How often these bytes stand anywhere in this process's writable memory.
    fn found(masked: &[u8]) -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        let mut buffer = vec![0u8; 1 << 20];
        let own = buffer.as_ptr() as u64..buffer.as_ptr() as u64 + buffer.len() as u64;
        let mut count = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let (from, rest) = line.split_once('-').unwrap();
            let (to, _) = rest.split_once(' ').unwrap();
            let at = |hex| u64::from_str_radix(hex, 16).unwrap();
            let (mut from, to) = (at(from), at(to));
            while from < to {
                let wanted = usize::try_from(to - from).unwrap().min(buffer.len());
                // A region that went away meanwhile holds nothing.
                let Ok(read) = memory.read_at(&mut buffer[..wanted], from) else {
                    break;
                };
                if read == 0 {
                    break;
                }
                let hits =
                    buffer[..read]
                        .windows(masked.len())
                        .enumerate()
                        .filter(|(at, window)| {
                            !own.contains(&(from + *at as u64))
                                && window[0] ^ MASK == masked[0]
                                && window
                                    .iter()
                                    .zip(masked)
                                    .all(|(byte, masked)| byte ^ MASK == *masked)
                        });
                count += hits.count();
                // Why back by a window: what stands across two reads is seen too.
                let step = if read < masked.len() || from + read as u64 >= to {
                    read
                } else {
                    read - masked.len() + 1
                };
                from += step as u64;
            }
        }
        buffer.zeroize();
        count
    }

    #[test]
    fn a_secret_is_nowhere_in_memory_once_it_is_dropped() {
        let secret = Secret::random();
        let copy = secret.duplicate();
        let masked = masked(&secret);
        assert_eq!(found(&masked), 2, "the search finds what is there");
        drop(secret);
        assert_eq!(found(&masked), 1);
        let moved = Box::new(copy);
        assert_eq!(found(&masked), 1, "moving a secret copies nothing");
        drop(moved);
        assert_eq!(found(&masked), 0);
    }

    #[test]
    fn the_pages_of_secrets_are_locked() {
        let secret = Secret::random();
        let at = format!(
            "{:x}",
            secret.expose().as_ptr() as usize & !(PAGE_BYTES - 1)
        );
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let mut locked = None;
        for line in smaps.lines() {
            if let Some((from, rest)) = line
                .split_once('-')
                .filter(|(from, _)| u64::from_str_radix(from, 16).is_ok())
            {
                let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or_default();
                let to = rest.split(' ').next().unwrap_or_default();
                inside = (hex(from)..hex(to)).contains(&hex(&at));
            }
            if inside && line.starts_with("VmFlags:") {
                locked = Some(line.split(' ').any(|flag| flag == "lo"));
            }
        }
        assert_eq!(locked, Some(unlocked_pages() == 0));
    }
}
