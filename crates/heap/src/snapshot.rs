//! One look at a process: everything that a report, a file or a verdict needs, in plain data.
//!
//! Owns the shape of `--json` (its schema number is [`SCHEMA`]; `docs/json.md` describes it).
//! Does not own how anything was measured.

use serde::{Deserialize, Serialize};

use crate::{Explanation, Ladder, Malloc, Owner, Pymalloc, Run, Verdict};

/// Number of the JSON schema; raised when a field changes meaning or goes away.
pub const SCHEMA: u32 = 1;

/// The result of one look at a process. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Schema of this structure, [`SCHEMA`] when written.
    pub schema: u32,
    /// Name and version of the tool that looked.
    pub tool: String,
    /// When, in seconds since the Unix epoch.
    pub taken_at: f64,
    /// Set when memory could not be read: only what the kernel's maps tell is here.
    pub partial: Option<Partial>,
    /// What stayed inconsistent because the process ran on while it was read.
    pub torn: Torn,
    /// The process.
    pub process: Process,
    /// Its memory as the kernel counts it.
    pub memory: Memory,
    /// Every owner of resident bytes, largest first.
    pub owners: Vec<Owner>,
    /// Resident bytes without an owner. With the owners' it sums to `memory.rss`.
    pub unattributed: u64,
    /// Bytes by which page-by-page residency and smaps differ, summed over the mappings; 0 at rest.
    pub residency_difference: u64,
    /// pymalloc, where it serves the process.
    pub pymalloc: Option<Pymalloc>,
    /// The C library's malloc, where it was walked.
    #[serde(default)]
    pub malloc: Option<Malloc>,
    /// Fragmentation of the walked heaps.
    pub fragmentation: Option<Fragmentation>,
    /// What would come back.
    pub ladder: Ladder,
    /// What it comes to; `None` for what is partial.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// The program over time, where it was run by the tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Run>,
    /// What holds the memory; absent where objects were not looked at.
    #[serde(flatten)]
    pub explanation: Option<Explanation>,
    /// Things a reader should know: what was not tested, not seen, or assumed.
    pub notes: Vec<String>,
}

impl Snapshot {
    /// A snapshot taken now of which no more is known than what the kernel counts: all of it is nobody's.
    pub fn bare(process: Process, memory: Memory) -> Snapshot {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Snapshot {
            schema: SCHEMA,
            tool: format!("pydefrag {}", env!("CARGO_PKG_VERSION")),
            taken_at: now.map_or(0.0, |d| d.as_secs_f64()),
            partial: None,
            torn: Torn::default(),
            process,
            memory,
            owners: Vec::new(),
            unattributed: memory.rss,
            residency_difference: 0,
            pymalloc: None,
            malloc: None,
            fragmentation: None,
            ladder: Ladder::default(),
            verdict: None,
            run: None,
            explanation: None,
            notes: Vec::new(),
        }
    }
}

/// Why a snapshot is partial, and what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// One sentence: what could not be done and why.
    pub reason: String,
    /// The command that would allow it, if one is known.
    pub hint: Option<String>,
}

/// Structures caught in the middle of a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Torn {
    /// Pools looked at.
    pub pools: u64,
    /// Pools that were read again until they were consistent.
    pub retried: u64,
    /// Pools that stayed inconsistent; their bytes are in the account's `unread`.
    pub left: u64,
    /// Arenas that went away while they were read.
    pub arenas_gone: u64,
    /// Places where malloc's chunks could not be followed: changed while read, or corrupted.
    #[serde(default)]
    pub chunks: u64,
}

/// The process that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Process id as the tool sees it.
    pub pid: i32,
    /// Its command line, with what looks secret left out.
    pub command: String,
    /// Threads.
    pub threads: u64,
    /// The interpreter, unless the snapshot is partial.
    pub python: Option<PythonInfo>,
    /// The C library, if one was recognised.
    pub libc: Option<Libc>,
}

/// The Python interpreter inside the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonInfo {
    /// Version with patch level, such as `3.11.7`.
    pub version: String,
    /// Built without the GIL.
    pub free_threaded: bool,
    /// Who serves small objects: `pymalloc`, `malloc`, `mimalloc` or `unknown`.
    pub allocator: String,
    /// CPython's debug hooks are installed (`-X dev`, `PYTHONMALLOC=debug`).
    pub debug_hooks: bool,
    /// tracemalloc is tracing.
    pub tracemalloc: bool,
    /// A hook that is not CPython's lies on top: the file that its code is in.
    pub foreign_hook: Option<String>,
    /// The file that the interpreter's code is in, as the process sees it.
    pub image: String,
    /// Interpreters in the process; `None` before 3.12, where they share one pymalloc.
    pub interpreters: Option<u64>,
}

/// The C library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Libc {
    /// `glibc` or `musl`.
    pub name: String,
    /// Version, such as `2.36`, where it could be told.
    pub version: Option<String>,
}

/// Memory of the process as the kernel counts it, in bytes: the sums of smaps, and VmHWM.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident, each page once per mapping.
    pub rss: u64,
    /// Resident, shared pages divided by the processes that share them.
    pub pss: u64,
    /// Resident and mapped by this process only.
    pub uss: u64,
    /// Swapped out.
    pub swap: u64,
    /// Highest RSS so far (VmHWM); 0 where the kernel does not tell.
    pub hwm: u64,
    /// Resident anonymous bytes on transparent huge pages.
    pub anon_huge_pages: u64,
    /// Merged by KSM.
    pub ksm: u64,
    /// Given back with MADV_FREE, not yet taken by the kernel: still counted in `rss`.
    pub lazy_free: u64,
    /// hugetlb pages, which `rss` does not contain.
    pub hugetlb: u64,
}

/// Fragmentation of the walked heaps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Fragmentation {
    /// Resident bytes of the walked heaps that could be read, to which the others relate.
    pub resident: u64,
    /// Bytes inside live blocks that nobody asked for; `None` while not known.
    pub internal: Option<u64>,
    /// Free and resident, kept by what lives beside it.
    pub external: u64,
    /// 100 · (resident − resident live) / resident.
    pub percent: f64,
}

impl Fragmentation {
    /// Sums the walked owners' accounts; `None` when nothing was walked or nothing is resident.
    pub fn of(owners: &[Owner]) -> Option<Self> {
        let mut walked = owners.iter().filter_map(|o| Some((o.resident, o.account?)));
        let (mut resident, mut sum) = walked.next()?;
        for (r, a) in walked {
            resident += r;
            sum.add(&a);
        }
        let live = sum.live + sum.rounding.unwrap_or(0);
        // Of what could not be read, nothing is known.
        let resident = resident - sum.unread.min(resident);
        (resident > 0).then(|| Fragmentation {
            resident,
            internal: sum.rounding,
            external: sum.external(),
            percent: 100.0 * resident.saturating_sub(live) as f64 / resident as f64,
        })
    }
}
