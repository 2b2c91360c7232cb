//! The agent: the one that is in a process, and the library that this binary carries.
//!
//! Owns how one is found: by the magic of its table, in the writable data of a mapped file that is pydefrag's. Its
//! layout is `pydefrag_layout::agent`'s.

use std::ops::Range;
use std::path::PathBuf;

use pydefrag_image::{Image, Mapping, ProcessFacts};
use pydefrag_layout::agent::{self, Foreign, Head, MAGIC, TABLE};

use crate::failure::hinted;

/// The agent's library. Empty where nothing was built (`cargo check`); see `build.rs`.
static LIBRARY: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/../../../deps/libpydefrag_agent.so"));

/// More than any agent's data; a file's name proves nothing.
const MOST_DATA: u64 = 16 << 20;

/// The library that goes into a process.
pub(crate) fn library() -> anyhow::Result<&'static [u8]> {
    if LIBRARY.starts_with(b"\x7fELF") {
        return Ok(LIBRARY);
    }
    let hint = "cargo build -p pydefrag-cli   (which builds the agent too)";
    Err(hinted("this pydefrag was built without its agent, and cannot give memory back", hint))
}

/// An agent in a process.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// Address of its table.
    pub(crate) table: u64,
    pub(crate) head: Head,
    /// The file that it was loaded from, as the process sees it; may be deleted.
    pub(crate) file: PathBuf,
}

impl Agent {
    /// Whether its thread reads the mailbox, in this very process and not in the one that forked it.
    pub(crate) fn listens(&self, pid: i32) -> bool {
        self.head.listening && namesakes(pid).contains(&self.head.pid)
    }
}

/// The agent in a process; `None` if there is none, an error if it is another pydefrag's.
pub(crate) fn find(image: &Image) -> anyhow::Result<Option<Agent>> {
    let pid = image.pid;
    let mut foreign = None;
    for m in image.mappings.iter().filter(|m| ours(m)) {
        let mut bytes = vec![0; (m.end - m.start) as usize];
        if image.read(m.start, &mut bytes).is_err() {
            continue;
        }
        for at in places(&bytes) {
            match agent::head(&bytes[at.clone()]) {
                Ok(head) => {
                    let file = m.name.as_deref().map(PathBuf::from).unwrap_or_default();
                    return Ok(Some(Agent { table: m.start + at.start as u64, head, file }));
                }
                // A mere text of that word has neither a version nor a size.
                Err(Foreign::Version(version @ 1.., tool)) if sized(&bytes[at.clone()]) => {
                    foreign = Some((version, tool));
                }
                Err(_) => {}
            }
        }
    }
    match foreign {
        None => Ok(None),
        Some((version, tool)) => {
            let tool = String::from_utf8_lossy(&tool);
            let tool = tool.trim_end_matches('\0');
            Err(hinted(
                format!(
                    "the agent in process {pid} is that of pydefrag {tool}, whose table has version \
                     {version}; this one speaks version {}",
                    agent::VERSION
                ),
                format!(
                    "pydefrag fix {pid}   (with the pydefrag that the process was started with)"
                ),
            ))
        }
    }
}

/// The agent in a process, looked for anew.
pub(crate) fn find_in(pid: i32) -> anyhow::Result<Option<Agent>> {
    let image = ProcessFacts::of(pid).ok().and_then(|facts| Image::open(&facts).ok());
    image.map_or(Ok(None), |image| find(&image))
}

fn ours(m: &Mapping) -> bool {
    let named = m.name_bytes().windows(8).any(|w| w == b"pydefrag");
    m.permissions.write && m.is_file() && named && m.end - m.start <= MOST_DATA
}

/// Whether what follows the magic may be a table's size.
fn sized(table: &[u8]) -> bool {
    let size = u32::from_le_bytes([table[12], table[13], table[14], table[15]]);
    (64..=1 << 20).contains(&size) && size.is_multiple_of(8)
}

/// Where a table may be: at a word's boundary, whole.
fn places(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let whole = bytes.len().saturating_sub(TABLE - 1);
    (0..whole).step_by(8).filter(|at| bytes[*at..*at + 8] == MAGIC).map(|at| at..at + TABLE)
}

/// The pids that a process has, in our namespace and in each one below it.
fn namesakes(pid: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pids = status.lines().find_map(|l| l.strip_prefix("NSpid:"));
    let pids = pids.unwrap_or_default().split_ascii_whitespace().filter_map(|p| p.parse().ok());
    pids.chain(u32::try_from(pid)).collect()
}

#[cfg(test)]
mod tests {
    use pydefrag_image::{PageRun, Permissions, Residency, SparseMemory};
    use std::sync::Arc;

    use super::*;

    fn image(table: &[u8], name: &str) -> Image {
        let mut bytes = vec![0; 8192];
        bytes[4000..4000 + table.len()].copy_from_slice(table);
        let mut memory = SparseMemory::default();
        memory.plant(0x10000, bytes);
        let mapping = Mapping {
            start: 0x10000,
            end: 0x12000,
            permissions: Permissions { read: true, write: true, ..Default::default() },
            name: Some(Arc::from(std::path::Path::new(name))),
            inode: 7,
            ..Default::default()
        };
        let run =
            PageRun { start: 0x10000, end: 0x12000, resident: true, huge: false, shared: false };
        Image::planted(vec![mapping], Residency::from_runs(vec![run]), memory)
    }

    fn table(version: u32) -> Vec<u8> {
        let mut table = vec![0; TABLE];
        table[..8].copy_from_slice(&MAGIC);
        table[8..12].copy_from_slice(&version.to_le_bytes());
        table[12..16].copy_from_slice(&(TABLE as u32).to_le_bytes());
        table[16..21].copy_from_slice(b"7.0.1");
        table[36] = 1;
        table
    }

    #[test]
    fn an_agent_is_found_in_a_file_of_ours_only() {
        let ours = "/tmp/pydefrag-x/libpydefrag_agent.so (deleted)";
        let found = find(&image(&table(agent::VERSION), ours)).unwrap().unwrap();
        assert_eq!((found.table, found.head.listening), (0x10000 + 4000, true));
        assert!(find(&image(&table(agent::VERSION), "/usr/lib/libz.so")).unwrap().is_none());
        assert!(find(&image(b"pydefrag", ours)).unwrap().is_none());
    }

    #[test]
    fn another_version_is_named() {
        let e = find(&image(&table(99), "/opt/pydefrag/agent.so")).unwrap_err().to_string();
        assert!(e.contains("pydefrag 7.0.1,") && e.contains("version 99"), "{e}");
    }

    #[test]
    fn a_process_has_its_own_name() {
        let pid = std::process::id();
        assert!(namesakes(pid as i32).contains(&pid));
    }
}
