//! A process's memory at one look: mappings, residency, and reading that obeys residency.
//!
//! Invariant: [`Image::read`] never touches a page of the target that is not resident. Absent
//! anonymous pages are zeros, absent pages of private file mappings come from the file, swapped pages
//! are an error.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::access::{LookError, diagnose};
use crate::live::LiveMemory;
use crate::mappings::{Mapping, ParseError, Smaps, parse_smaps};
use crate::memory::{Memory, ReadError};
use crate::pace::{Pace, Paced};
use crate::process::ProcessFacts;
use crate::residency::Residency;
use crate::{OS_PAGE, elf};

/// Why an image could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The process cannot be looked at.
    #[error(transparent)]
    Look(#[from] LookError),
    /// smaps is not understood.
    #[error("process {pid}: {source}")]
    Smaps {
        /// Its pid.
        pid: i32,
        /// What is wrong.
        source: ParseError,
    },
}

/// A process's memory at one look.
pub struct Image {
    /// Process id; 0 for an image that is not of a live process.
    pub pid: i32,
    /// Its mappings, in order of address.
    pub mappings: Vec<Mapping>,
    /// Their residency.
    pub residency: Residency,
    memory: Box<dyn Memory + Send>,
}

impl Image {
    /// Looks at the mappings and the residency of a live process. Its memory is not read yet.
    pub fn open(facts: &ProcessFacts) -> Result<Image, OpenError> {
        let pid = facts.pid;
        if facts.state == 'Z' || facts.state == 'X' {
            return Err(LookError::Zombie(pid).into());
        }
        if facts.kernel {
            return Err(LookError::Kernel(pid, facts.name.clone()).into());
        }
        let pace = Arc::new(Pace::of(pid));
        let mut smaps = read_smaps(pid, &pace)?;
        // Of a process whose map changes all the while, no list is whole.
        if smaps.overlaps > 0 && !pace.is_gentle() {
            smaps = read_smaps(pid, &pace)?;
        }
        let mappings = smaps.mappings;
        if mappings.is_empty() {
            return Err(LookError::Ended(pid).into());
        }
        let residency = Residency::paced(pid, &mappings, &pace).map_err(|e| look(pid, e))?;
        let memory = LiveMemory::new(pid, unshared(&mappings), pace);
        Ok(Image { pid, mappings, residency, memory: Box::new(memory) })
    }

    /// An image of planted memory, for tests and fuzzing.
    pub fn planted(
        mappings: Vec<Mapping>,
        residency: Residency,
        memory: impl Memory + Send + 'static,
    ) -> Image {
        Image { pid: 0, mappings, residency, memory: Box::new(memory) }
    }

    /// The memory itself, for walkers that consult the residency themselves.
    pub fn memory(&self) -> &dyn Memory {
        &*self.memory
    }

    /// The mapping that an address lies in.
    pub fn mapping_at(&self, address: u64) -> Option<&Mapping> {
        let i = self.mappings.partition_point(|m| m.end <= address);
        self.mappings.get(i).filter(|m| m.contains(address))
    }

    /// The program that the process runs, as it sees it.
    pub fn program(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// The first bytes of that program: where an ELF file says what machine it is for.
    pub fn program_head(&self) -> Option<[u8; 20]> {
        let mut head = [0; 20];
        let program = File::open(format!("/proc/{}/exe", self.pid)).ok()?;
        program.read_exact_at(&mut head, 0).ok()?;
        Some(head)
    }

    /// Reads exactly `into.len()` bytes at `address`, without changing the target.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let mut resident = Vec::new();
        let mut at = address;
        let end = address.checked_add(into.len() as u64).ok_or(ReadError::Unmapped(address))?;
        while at < end {
            let m = self.mapping_at(at).ok_or(ReadError::Unmapped(at))?;
            let run = self.residency.run_at(at);
            let upto = match run {
                Some(r) => r.end.min(m.end),
                None => m.end.min((at & !(OS_PAGE - 1)) + OS_PAGE),
            };
            let n = (upto.min(end) - at) as usize;
            let part = &mut into[(at - address) as usize..][..n];
            match run {
                Some(r) if r.resident => resident.push((at, n)),
                Some(_) => return Err(ReadError::Swapped(at)),
                None if m.is_file() => self.read_file(m, at, part)?,
                None => part.fill(0),
            }
            at += n as u64;
        }
        self.read_resident(address, &resident, into)
    }

    /// Reads pieces of the range that `into` stands for, with one call where one will do.
    fn read_resident(
        &self,
        address: u64,
        pieces: &[(u64, usize)],
        into: &mut [u8],
    ) -> Result<(), ReadError> {
        if let [(at, n)] = pieces {
            return self.memory.read(*at, &mut into[(at - address) as usize..][..*n]);
        }
        let mut packed = vec![0; pieces.iter().map(|p| p.1).sum()];
        let failed = self.memory.read_scattered(pieces, &mut packed)?;
        if let Some(first) = failed.first() {
            return Err(ReadError::Unmapped(pieces[*first].0));
        }
        let mut from = &packed[..];
        for (at, n) in pieces {
            let (part, rest) = from.split_at(*n);
            into[(at - address) as usize..][..*n].copy_from_slice(part);
            from = rest;
        }
        Ok(())
    }

    fn read_file(&self, m: &Mapping, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let file = elf::open_mapped(self.pid, m).map_err(|_| ReadError::Unmapped(at))?;
        let mut from = m.offset + (at - m.start);
        let mut rest = into;
        while !rest.is_empty() {
            match file.read_at(rest, from).map_err(|_| ReadError::Unmapped(at))? {
                // The kernel fills the last page's rest with zeros.
                0 => {
                    rest.fill(0);
                    break;
                }
                n => (rest, from) = (&mut rest[n..], from + n as u64),
            }
        }
        Ok(())
    }

    /// Reads `count` words.
    pub fn words(&self, address: u64, count: usize) -> Result<Vec<u64>, ReadError> {
        let mut bytes = vec![0; count * 8];
        self.read(address, &mut bytes)?;
        Ok(bytes.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect())
    }

    /// Reads one word.
    pub fn word(&self, address: u64) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Where no anonymous page is shared with another process, by a fork or KSM. Neighbours are one range.
fn unshared(mappings: &[Mapping]) -> Vec<(u64, u64)> {
    // A file's own pages may be shared without harm, but of which sort one is only the kernel knows.
    let shares = |m: &Mapping| m.ksm > 0 || m.shared > 0 && (m.anonymous > 0 || !m.is_file());
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for m in mappings.iter().filter(|m| !shares(m)) {
        match ranges.last_mut() {
            Some(last) if last.1 == m.start => last.1 = m.end,
            _ => ranges.push((m.start, m.end)),
        }
    }
    ranges
}

fn read_smaps(pid: i32, pace: &Pace) -> Result<Smaps, OpenError> {
    let from = File::open(format!("/proc/{pid}/smaps")).map_err(|e| look(pid, e))?;
    parse_smaps(BufReader::with_capacity(256 << 10, Paced { pace, from })).map_err(|e| match e {
        ParseError::Read(e) => OpenError::Look(look(pid, e)),
        source => OpenError::Smaps { pid, source },
    })
}

fn look(pid: i32, e: std::io::Error) -> LookError {
    match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => LookError::Denied { pid, denial: diagnose(pid, false) },
        Some(libc::ESRCH | libc::ENOENT) => LookError::Ended(pid),
        _ => LookError::Io { pid, source: e },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::SparseMemory;
    use crate::residency::PageRun;

    #[test]
    fn only_resident_pages_are_read_from_the_target() {
        let mapping = Mapping { start: 0x1000, end: 0x4000, ..Default::default() };
        let run = |start, resident| PageRun {
            start,
            end: start + OS_PAGE,
            resident,
            huge: false,
            shared: false,
        };
        let mut memory = SparseMemory::default();
        memory.plant(0x1000, vec![7; 3 * 4096]);
        let residency = Residency::from_runs(vec![run(0x1000, true), run(0x3000, false)]);
        let image = Image::planted(vec![mapping], residency, memory);
        assert_eq!(image.words(0x1ff8, 2).unwrap(), [0x0707_0707_0707_0707, 0]);
        assert_eq!(image.word(0x3000), Err(ReadError::Swapped(0x3000)));
        assert_eq!(image.word(0x3ffc + 4), Err(ReadError::Unmapped(0x4000)));
        assert_eq!(image.word(0), Err(ReadError::Unmapped(0)));
    }

    #[test]
    fn our_own_image_opens() {
        let facts = ProcessFacts::of(std::process::id() as i32).unwrap();
        let image = Image::open(&facts).unwrap();
        let planted = Box::new(0x1234_5678_9abc_def0_u64);
        assert_eq!(image.word(&raw const *planted as u64), Ok(*planted));
    }
}
