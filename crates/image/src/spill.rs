//! Memory of our own that need not be resident: words and records in unlinked files.
//!
//! Owns where such a file lies and its mapping. A graph of ten million objects would otherwise cost the
//! machine a good part of what the process under study costs it; in a file the kernel can write it out.
//! The file has no name, and ends with us. It holds numbers of our own, never a byte of a target's memory.
//!
//! Invariant: all blocks of a mapped file are reserved before it is mapped, so that a full disk is an
//! error and not a signal.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// `/tmp` is often memory itself; `/var/tmp` hardly ever.
fn unlinked() -> io::Result<File> {
    let chosen = std::env::var_os("TMPDIR").map(PathBuf::from);
    let folders = chosen.into_iter().chain(["/var/tmp".into(), std::env::temp_dir()]);
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for folder in folders {
        match tempfile::tempfile_in(&folder) {
            Ok(file) => return Ok(file),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// A shared mapping of a whole file.
struct Mapped {
    at: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: the mapping is memory like any other; what is in it is reached as atomics or read only.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    fn of(file: &File, bytes: usize, write: bool) -> io::Result<Mapped> {
        if bytes == 0 {
            return Ok(Mapped { at: std::ptr::null_mut(), bytes });
        }
        let protection = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping of a file that is at least as long; nothing else uses its address.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapped { at, bytes })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: our own mapping, which nothing borrows any more.
            unsafe { libc::munmap(self.at, self.bytes) };
        }
    }
}

/// A fixed number of 32-bit words, zero at first, written from any thread.
pub struct Words {
    mapped: Mapped,
    count: usize,
}

impl Words {
    /// So many zeros.
    pub fn zeroed(count: usize) -> io::Result<Words> {
        let file = unlinked()?;
        let bytes = count * 4;
        if bytes > 0 {
            // SAFETY: a system call on a file descriptor of ours.
            let failed = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes as i64) };
            if failed != 0 {
                return Err(io::Error::from_raw_os_error(failed));
            }
        }
        Ok(Words { mapped: Mapped::of(&file, bytes, true)?, count })
    }
}

impl std::ops::Deref for Words {
    type Target = [AtomicU32];

    fn deref(&self) -> &[AtomicU32] {
        if self.count == 0 {
            return &[];
        }
        // SAFETY: the mapping has `count` words, aligned to a page, zero or written as atomics; no other
        // process has the file.
        unsafe { std::slice::from_raw_parts(self.mapped.at.cast::<AtomicU32>(), self.count) }
    }
}

/// Records of 64 bits, appended from any thread, read when all are there.
pub struct Log {
    file: File,
    end: AtomicU64,
}

impl Log {
    /// An empty one.
    pub fn create() -> io::Result<Log> {
        Ok(Log { file: unlinked()?, end: AtomicU64::new(0) })
    }

    /// Appends records in a row; the number of the first.
    pub fn append(&self, records: &[u64]) -> io::Result<u64> {
        let first = self.end.fetch_add(records.len() as u64, Ordering::Relaxed);
        // SAFETY: any eight bytes of a u64 are eight bytes.
        let bytes =
            unsafe { std::slice::from_raw_parts(records.as_ptr().cast::<u8>(), records.len() * 8) };
        self.file.write_all_at(bytes, first * 8)?;
        Ok(first)
    }

    /// A copy of all that was appended so far.
    pub fn kept(&self) -> io::Result<Vec<u64>> {
        let mut bytes = vec![0; self.end.load(Ordering::Relaxed) as usize * 8];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes.chunks_exact(8).map(|b| u64::from_ne_bytes(b.try_into().unwrap())).collect())
    }

    /// All of them.
    pub fn read(self) -> io::Result<Records> {
        let count = self.end.into_inner() as usize;
        // A failed append may have left it shorter.
        self.file.set_len(count as u64 * 8)?;
        Ok(Records { mapped: Mapped::of(&self.file, count * 8, false)?, count })
    }
}

/// The records of a [`Log`].
pub struct Records {
    mapped: Mapped,
    count: usize,
}

impl std::ops::Deref for Records {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        if self.count == 0 {
            return &[];
        }
        // SAFETY: the mapping has `count` records, aligned to a page, and nobody writes to them any more.
        unsafe { std::slice::from_raw_parts(self.mapped.at.cast::<u64>(), self.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let words = Words::zeroed(5000).unwrap();
        assert!(words.iter().all(|w| w.load(Ordering::Relaxed) == 0));
        words[4999].store(7, Ordering::Relaxed);
        assert_eq!(words[4999].load(Ordering::Relaxed), 7);
        let log = Log::create().unwrap();
        assert_eq!((log.append(&[1, 2]).unwrap(), log.append(&[3]).unwrap()), (0, 2));
        assert_eq!(*log.read().unwrap(), [1, 2, 3]);
        assert!(Words::zeroed(0).unwrap().is_empty());
        assert!(Log::create().unwrap().read().unwrap().is_empty());
    }
}
