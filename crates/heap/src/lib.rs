//! What a heap is, in the words that the whole project uses.
//!
//! # Glossary
//!
//! - **resident**: backed by physical memory now. RSS counts it once per mapping, PSS shares it out.
//! - **arena / pool / block**: pymalloc's 1 MiB (256 KiB up to 3.9) / 16 KiB (4 KiB) / size-class
//!   slot. *chunk, bin, top, heap, arena* are glibc's words, *segment, page, block* mimalloc's; the
//!   allocator is named whenever a word has two meanings (`pymalloc arena`, `malloc arena`).
//! - **OS page**: 4 KiB of address space, the kernel's unit of residency.
//! - **live**: handed out by the allocator and not freed. **requested**: what the program asked for.
//! - **carved / virgin**: a pool's slots that were handed out at least once / never yet.
//! - **internal fragmentation**: bytes inside live blocks that nobody asked for.
//! - **external fragmentation**: resident bytes that are free, yet can neither go back to the kernel
//!   nor serve the request that needs them, because of what lives beside them.
//! - **hole**: an OS page with no live byte inside a region that is in use.
//! - **pin**: a live block that keeps an OS page, pool or arena from being returned.
//! - **container slack**: room that a container holds beyond its items: live for the allocator, and counted
//!   apart from internal fragmentation.
//! - **owner of a block**: the slot that holds the pointer to it, and by a **chain** of such slots what a person
//!   can name: a module's global, a frame's local, a library.
//! - **span**: the unit that an allocator can give back: for pymalloc, a free pool (to its arena).
//!
//! # Design constraints
//!
//! This crate does no I/O, holds no `unsafe` and knows no CPython version. Its types are what
//! walkers produce and what reports, verdicts and files consume. All sizes are bytes.
//!
//! # Entry points
//!
//! [`Snapshot`] is the whole of what one look at a process tells; [`Detail`] is the heap behind it,
//! pool by pool, and its [`Map`], which pictures are drawn from; [`pdsnap`] turns both into bytes and back.

#![forbid(unsafe_code)]

mod account;
mod detail;
mod diff;
mod explanation;
mod fit;
mod heal;
mod malloc;
pub mod map;
mod owner;
pub mod pdsnap;
mod pymalloc;
mod recording;
mod run;
mod snapshot;
mod tree;
mod verdict;

pub use account::{Account, Ladder};
pub use detail::{Detail, PoolRecord, PoolState};
pub use diff::{Change, Diff, HeapChange, MOST_ROWS, OwnerChange, PinChange, TypeChange};
pub use explanation::{
    Amount, Block, ClassPin, Coverage, Duplicates, Explanation, Garbage, Generation, Objects,
    OwnerDuplicates, OwnerPin, OwnerSlack, Pin, Pins, RootKind, Saving, SitePin, Slack, SlackOf,
    StructureChange, TypePin, TypeTotal,
};
pub use fit::{RequestFit, request_fit};
pub use heal::{Heal, HealLevel, HealMemory, HealWay, HealWork, Healed, Keeper, Left, Realised};
pub use malloc::{ArenaThread, Malloc, MallocArena, Mmapped};
pub use map::{Group, Map, MapOwner, Named, Region, Tile, Tiles};
pub use owner::{Basis, Owner, OwnerKind};
pub use pymalloc::{InterpreterHeap, Pymalloc, SizeClass};
pub use recording::{
    Call, Events, Function, Happening, Moment, Peak, RecordedProcess, RecordedThread, Recording,
    RecordingMode, SamplingError, Tally, What,
};
pub use run::{Child, Ended, Run, Sample, measures, peak_index};
pub use snapshot::{
    Fragmentation, Libc, Memory, Partial, Process, PythonInfo, SCHEMA, Snapshot, Torn,
};
pub use tree::{Member, Missing, Tree, TreeOwner};
pub use verdict::{Remedy, Verdict, VerdictKind};

/// Size of an OS page in bytes. The only page size of x86-64 Linux; huge pages are counted in it.
pub const OS_PAGE: u64 = 4096;
