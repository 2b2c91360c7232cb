//! A process's memory, open for reading and writing.
//!
//! Owns the one write: everything that pydefrag ever changes in another process's memory goes through [`Theirs::write`], one
//! call of the kernel each, so that the process sees it whole or not at all where it fits a page.
//!
//! Invariant: what was opened is the address space of one program. After an exec nothing is read or written through it:
//! the kernel keeps the old one, empty.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::FileExt;

use nix::time::{ClockId, clock_gettime};
use pydefrag_image::Identity;

/// A process's memory.
pub(crate) struct Theirs {
    pub(crate) pid: i32,
    memory: File,
    identity: Option<Identity>,
}

impl Theirs {
    pub(crate) fn open(pid: i32) -> std::io::Result<Theirs> {
        let identity = Identity::of(pid);
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        Ok(Theirs { pid, memory, identity })
    }

    /// Whether it still runs the program that it ran when it was opened.
    pub(crate) fn is_there(&self) -> bool {
        self.identity.is_some() && Identity::of(self.pid) == self.identity
    }

    /// Reads what is resident, for it was written to by its owner.
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.memory.read_exact_at(into, at)
    }

    /// Reads an `int`.
    pub(crate) fn int(&self, at: u64) -> std::io::Result<i32> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(i32::from_le_bytes(bytes))
    }

    /// Writes all of it with one call.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        match self.memory.write_at(bytes, at)? {
            n if n == bytes.len() => Ok(()),
            _ => Err(Error::from(ErrorKind::WriteZero)),
        }
    }

    /// Its CLOCK_MONOTONIC now, in nanoseconds: another time namespace has another one.
    pub(crate) fn clock(&self) -> u64 {
        let ours = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |t| i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec()));
        let now = ours + offset(self.pid.to_string().as_str()) - offset("self");
        u64::try_from(now).unwrap_or(0)
    }

    /// The letter of its state, as in `T`.
    pub(crate) fn state(&self) -> Option<char> {
        let stat = std::fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        let after = stat.iter().rposition(|b| *b == b')')?;
        stat.get(after + 2).map(|b| char::from(*b))
    }

    /// Its minor page faults so far.
    pub(crate) fn minor_faults(&self) -> Option<u64> {
        let stat = std::fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        let after = stat.iter().rposition(|b| *b == b')')? + 1;
        let fields = String::from_utf8_lossy(&stat[after..]).into_owned();
        // proc(5): number 10, counted from 1, of which two come before.
        fields.split_ascii_whitespace().nth(7)?.parse().ok()
    }
}

/// By how much a process's CLOCK_MONOTONIC is ahead of the machine's.
fn offset(process: &str) -> i128 {
    let text = std::fs::read_to_string(format!("/proc/{process}/timens_offsets"));
    let text = text.unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("monotonic"));
    let mut numbers = line.unwrap_or_default().split_ascii_whitespace().map(str::parse::<i128>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(seconds)), Some(Ok(nanos))) => seconds * 1_000_000_000 + nanos,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_read_and_written() {
        let theirs = Theirs::open(std::process::id() as i32).unwrap();
        let word = Box::new(std::sync::atomic::AtomicU64::new(7));
        let at = &raw const *word as u64;
        theirs.write(at, &9u64.to_le_bytes()).unwrap();
        assert_eq!(word.load(std::sync::atomic::Ordering::SeqCst), 9);
        assert_eq!(theirs.int(at).unwrap(), 9);
        assert!(theirs.is_there() && theirs.minor_faults() > Some(0));
        assert!(theirs.read(8, &mut [0]).is_err());
        let clock = theirs.clock();
        assert!(clock > 0 && theirs.clock() >= clock);
    }
}
