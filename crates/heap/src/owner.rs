//! Owners: who holds which resident bytes of a process.
//!
//! Owns the list of kinds and their display names. Every resident byte has exactly one owner.

use serde::{Deserialize, Serialize};

use crate::Account;

/// What sort of thing an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerKind {
    /// pymalloc's arenas of one interpreter.
    Pymalloc,
    /// The C library's malloc: brk heap, thread arenas and mmapped chunks.
    Malloc,
    /// mimalloc, CPython's own or the process's malloc.
    Mimalloc,
    /// An allocator that a library carries for itself.
    Private,
    /// jemalloc as the process's malloc.
    Jemalloc,
    /// tcmalloc as the process's malloc.
    Tcmalloc,
    /// CPython's frame (data stack) chunks, 3.11 and later.
    FrameStacks,
    /// Stacks of the main thread and of all others, with their thread control blocks.
    ThreadStacks,
    /// The python executable and libpython, their data and bss.
    Interpreter,
    /// Extension modules.
    Extensions,
    /// Every other mapped ELF file, and the vdso.
    Libraries,
    /// Other mapped files.
    DataFiles,
    /// Memory that can be shared with other processes: memfd, /dev/shm, SysV, shared anonymous.
    SharedMemory,
    /// Private anonymous memory that nothing above claims.
    OtherAnonymous,
}

impl OwnerKind {
    /// The owner's name in reports and JSON, where the owner has no more specific one.
    pub fn label(self) -> &'static str {
        match self {
            OwnerKind::Pymalloc => "pymalloc",
            OwnerKind::Malloc => "malloc",
            OwnerKind::Mimalloc => "mimalloc",
            OwnerKind::Private => "private allocator",
            OwnerKind::Jemalloc => "jemalloc",
            OwnerKind::Tcmalloc => "tcmalloc",
            OwnerKind::FrameStacks => "interpreter frame stacks",
            OwnerKind::ThreadStacks => "thread stacks",
            OwnerKind::Interpreter => "interpreter",
            OwnerKind::Extensions => "extension modules",
            OwnerKind::Libraries => "shared libraries",
            OwnerKind::DataFiles => "data files",
            OwnerKind::SharedMemory => "shared memory",
            OwnerKind::OtherAnonymous => "other anonymous",
        }
    }
}

/// How it is known that the bytes belong to the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The allocator's own structures were followed and validated.
    Walked,
    /// The region carries the allocator's or C library's headers.
    Recognised,
    /// The kernel's map of the process says so.
    Mapped,
    /// Nothing else claims it.
    ByExclusion,
}

/// One owner of resident bytes. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// Name, unique within a snapshot, such as `pymalloc (interpreter 0)`.
    pub name: String,
    /// What sort of thing it is.
    pub kind: OwnerKind,
    /// How that is known.
    pub basis: Basis,
    /// Resident bytes; the owners' sum and `unattributed` make RSS.
    pub resident: u64,
    /// Its proportional share of them: what other processes map too counts in part.
    #[serde(default)]
    pub pss: u64,
    /// Bytes swapped out. Not part of `resident`.
    pub swapped: u64,
    /// Resident bytes on transparent huge pages, where it was looked at page by page.
    pub huge: u64,
    /// Resident anonymous bytes that another process maps too: copy-on-write, not yet copied.
    pub copy_on_write_shared: u64,
    /// The account, for walked heaps: its terms sum to `resident`.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

impl Owner {
    /// An owner with nothing in it yet.
    pub fn new(name: impl Into<String>, kind: OwnerKind, basis: Basis) -> Self {
        Owner {
            name: name.into(),
            kind,
            basis,
            resident: 0,
            pss: 0,
            swapped: 0,
            huge: 0,
            copy_on_write_shared: 0,
            account: None,
        }
    }
}
