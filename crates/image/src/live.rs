//! Memory of a live process: `/proc/PID/mem`, and `process_vm_readv` for many small pieces.
//!
//! Owns the choice between the two. `process_vm_readv` pins pages, and from Linux 5.19 on pinning an
//! anonymous page that a fork or KSM shares makes the kernel copy it first: looking would break
//! copy-on-write. It is used only in private anonymous mappings of which no page is shared, until the
//! process is seen to have forked since, and only where it is several times faster. The file never pins.
//! Neither stops the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::OS_PAGE;
use crate::memory::{Memory, ReadError};
use crate::pace::Pace;
use crate::residency::is_copied_when_written;

/// The kernel takes at most this many pieces in one call (`UIO_MAXIOV`).
const MOST_PIECES: usize = 1024;

/// Pieces of at least this many bytes are read as fast through the file.
const LARGE_PIECE: usize = 1024;

/// Before a call, the page of every so many pieces is asked for whether a fork shares it by now.
const PIECES_A_LOOK: usize = 128;

/// Memory of the live process `pid`.
#[derive(Debug)]
pub(crate) struct LiveMemory {
    pid: i32,
    /// `/proc/PID/mem`; none where it may not be opened.
    file: Option<File>,
    /// Ranges, in order of address, in which no anonymous page is shared: pinning copies nothing.
    unshared: Vec<(u64, u64)>,
    /// `/proc/PID/pagemap`: a process that forks while it is looked at shares what it did not before.
    pagemap: Option<File>,
    /// It was seen to have forked, or `process_vm_readv` was refused: a seccomp filter may forbid the
    /// call and allow the file.
    pins_no_more: AtomicBool,
    pace: Arc<Pace>,
}

impl LiveMemory {
    /// Memory of `pid`, read at this pace; in the `unshared` ranges, in order of address, it shares no
    /// anonymous page.
    pub(crate) fn new(pid: i32, unshared: Vec<(u64, u64)>, pace: Arc<Pace>) -> Self {
        let file = File::open(format!("/proc/{pid}/mem")).ok();
        let pagemap = File::open(format!("/proc/{pid}/pagemap")).ok();
        LiveMemory { pid, file, unshared, pagemap, pins_no_more: AtomicBool::new(false), pace }
    }

    fn is_unshared(&self, (at, length): (u64, usize)) -> bool {
        let i = self.unshared.partition_point(|r| r.1 <= at);
        self.unshared.get(i).is_some_and(|r| r.0 <= at && at + length as u64 <= r.1)
    }

    fn pins(&self, ranges: &[(u64, usize)]) -> bool {
        let small = || ranges.len() > 1 && ranges.iter().all(|r| r.1 < LARGE_PIECE);
        (self.file.is_none() || small())
            && !self.pins_no_more.load(Ordering::Relaxed)
            && ranges.iter().all(|r| self.is_unshared(*r))
            && !self.has_forked(ranges)
    }

    /// Whether pages of these ranges, in which none was shared, are now. A fork shares all of them at
    /// once and the process takes them back one by one as it writes, so a few tell; what it forks
    /// between this look and the call is the most that can be copied.
    fn has_forked(&self, ranges: &[(u64, usize)]) -> bool {
        let shared = |address: u64| {
            let mut entry = [0; 8];
            let read =
                self.pagemap.as_ref().map(|p| p.read_exact_at(&mut entry, address / OS_PAGE * 8));
            !matches!(read, Some(Ok(()))) || is_copied_when_written(u64::from_le_bytes(entry))
        };
        let mut looked = ranges.iter().step_by(PIECES_A_LOOK).chain(ranges.last());
        let forked = self.pace.locked(|| looked.any(|r| shared(r.0)));
        if forked {
            self.pins_no_more.store(true, Ordering::Relaxed);
        }
        forked
    }

    /// One `process_vm_readv`: the bytes transferred, which end at the first piece that failed.
    fn call(&self, remote: &[libc::iovec], into: &mut [u8]) -> io::Result<usize> {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let (pieces, count) = (remote.as_ptr(), remote.len() as u64);
        let n = self.pace.locked(|| {
            // SAFETY: `local` describes exactly the exclusively borrowed `into`, into which the
            // kernel writes at most `iov_len` bytes. `pieces` are `count` addresses of another
            // process, which the kernel validates.
            unsafe { libc::process_vm_readv(self.pid, &local, 1, pieces, count, 0) }
        });
        if n < 0 { Err(io::Error::last_os_error()) } else { Ok(n as usize) }
    }

    fn error(&self, address: u64, e: &io::Error) -> ReadError {
        match e.raw_os_error() {
            Some(libc::EFAULT | libc::EIO) => ReadError::Unmapped(address),
            Some(libc::ESRCH) => ReadError::Gone,
            Some(libc::EPERM | libc::EACCES) => ReadError::Denied,
            errno => ReadError::Os { address, errno: errno.unwrap_or(0) },
        }
    }
}

impl Memory for LiveMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let length = into.len();
        match self.read_scattered(&[(address, length)], into)?.is_empty() {
            true => Ok(()),
            false => Err(ReadError::Unmapped(address)),
        }
    }

    fn read_scattered(
        &self,
        ranges: &[(u64, usize)],
        into: &mut [u8],
    ) -> Result<Vec<usize>, ReadError> {
        assert_eq!(into.len(), ranges.iter().map(|r| r.1).sum::<usize>(), "buffer and ranges");
        let mut failed = Vec::new();
        let mut pieces = Vec::with_capacity(ranges.len().min(MOST_PIECES));
        let (mut next, mut at) = (0, 0);
        while next < ranges.len() {
            let batch = &ranges[next..ranges.len().min(next + MOST_PIECES)];
            let bytes: usize = batch.iter().map(|r| r.1).sum();
            let part = &mut into[at..at + bytes];
            if !self.pins(batch) {
                let file = self.file.as_ref().ok_or(ReadError::Denied)?;
                self.read_file(file, batch, part, next, &mut failed)?;
                (next, at) = (next + batch.len(), at + bytes);
                continue;
            }
            pieces.clear();
            pieces.extend(batch.iter().map(|(a, n)| libc::iovec {
                iov_base: *a as usize as *mut libc::c_void,
                iov_len: *n,
            }));
            let mut got = match self.call(&pieces, part) {
                Ok(n) => n,
                Err(e) => match e.raw_os_error() {
                    Some(libc::EFAULT) => 0,
                    Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
                        self.pins_no_more.store(true, Ordering::Relaxed);
                        continue;
                    }
                    _ => return Err(self.error(batch[0].0, &e)),
                },
            };
            // Count the whole pieces; the one after them failed, the next call begins behind it.
            for (_, length) in batch {
                if got >= *length {
                    got -= length;
                    (next, at) = (next + 1, at + length);
                } else {
                    into[at..at + length].fill(0);
                    failed.push(next);
                    (next, at) = (next + 1, at + length);
                    break;
                }
            }
        }
        Ok(failed)
    }
}

impl LiveMemory {
    fn read_file(
        &self,
        file: &File,
        batch: &[(u64, usize)],
        mut part: &mut [u8],
        first: usize,
        failed: &mut Vec<usize>,
    ) -> Result<(), ReadError> {
        for (i, (address, length)) in batch.iter().enumerate() {
            let (piece, rest) = part.split_at_mut(*length);
            match self.pace.locked(|| file.read_exact_at(piece, *address)) {
                Ok(()) => {}
                // An ended process's memory file is empty.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(ReadError::Gone),
                Err(_) => {
                    piece.fill(0);
                    failed.push(first + i);
                }
            }
            part = rest;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(may_pin: bool) -> LiveMemory {
        let unshared = if may_pin { vec![(0, 1 << 63)] } else { vec![] };
        LiveMemory::new(std::process::id() as i32, unshared, Arc::default())
    }

    #[test]
    fn own_memory_is_read_and_bad_addresses_are_told_apart() {
        let planted: Vec<u8> = (0..=255).collect();
        let at = planted.as_ptr() as u64;
        for may_pin in [true, false] {
            let me = ours(may_pin);
            let ranges = [(at, 32), (16, 32), (at + 200, 32)];
            assert_eq!(me.pins(&ranges), may_pin);
            let mut got = vec![7; 96];
            assert_eq!(me.read_scattered(&ranges, &mut got).unwrap(), [1]);
            assert_eq!(got[..32], planted[..32]);
            assert_eq!(got[32..64], [0; 32]);
            assert_eq!(got[64..], planted[200..232]);
            assert_eq!(me.read(16, &mut [0; 8]), Err(ReadError::Unmapped(16)));
        }
    }

    #[test]
    fn more_pieces_than_one_call_takes_are_read() {
        let planted: Vec<u8> = (0..4096).map(|i| (i / 2) as u8).collect();
        let at = planted.as_ptr() as u64;
        let ranges: Vec<_> = (0..2048).map(|i| (at + 2 * i, 2)).collect();
        let mut got = vec![0; 4096];
        let me = ours(true);
        assert!(me.read_scattered(&ranges, &mut got).unwrap().is_empty());
        assert_eq!(got, planted);
    }
}
