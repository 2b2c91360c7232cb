//! The bytes of an event.
//!
//! ```text
//! word    = a little-endian number of 1 to 8 bytes: kind (2 bits), its length - 1 (3 bits), then
//! free    = kind 0, or 2 if a realloc frees it: zigzag(address - the last free's) / 16
//! alloc   = kind 1: a bit whether a surprise follows, zigzag(address - where it was expected) / 16
//! surprise = a byte of bits: 1 another stack, 2 another size, 4 the domain is malloc's; then, as varints, each where it is
//!           another, the size and zigzag(stack - the last alloc's). The five lowest bits of the first of them
//!           are the byte's upper ones, and its varint has the rest.
//! escape  = kind 3: a byte with its number above the kind, then varints (see [`escape`])
//! ```
//!
//! What is not at a multiple of 16, as pymalloc and glibc have every block (jemalloc and mimalloc: but for those of 8 bytes), or
//! is larger than [`LARGEST`], is an escape of its own.

/// A block was freed.
pub const FREE: u64 = 0;
/// A block was allocated.
pub const ALLOC: u64 = 1;
/// A block was freed by a realloc; its new one follows.
pub const MOVED: u64 = 2;
/// Anything else.
pub const ESCAPE: u64 = 3;

/// Bits of an address that a word does not tell: they are 0.
pub const ALIGNED_BITS: u32 = 4;
/// The largest size that an alloc's word tells.
pub const LARGEST: u64 = (1 << 31) - 1;

/// Bits of a surprise's first number that its first byte has.
pub const LOW_BITS: u32 = 5;
/// Those bits.
pub const LOW: u64 = (1 << LOW_BITS) - 1;

/// Numbers of escapes, with the varints that follow them.
pub mod escape {
    /// A stack: its caller's number, the code's, the byte of its code that was running + 1 (0: none yet); of native code the
    /// address that the file states, + 1. Numbers count from [`crate::event::FIRST_NODE`].
    pub const NODE: u8 = 0;
    /// What follows is another thread's: the kernel's id of it.
    pub const THREAD: u8 = 1;
    /// Microseconds since the last.
    pub const TIME: u8 = 2;
    /// In a lane beside the GIL's: events in the GIL's before the next one, since the last.
    pub const STAMP: u8 = 3;
    /// The collector began: generation.
    pub const GC_START: u8 = 4;
    /// It ended: generation, collected, uncollectable.
    pub const GC_STOP: u8 = 5;
    /// pymalloc got an arena: address, bytes.
    pub const ARENA_BORN: u8 = 6;
    /// It gave one back: address, bytes.
    pub const ARENA_DIED: u8 = 7;
    /// RSS in OS pages.
    pub const RSS: u8 = 8;
    /// Memory was mapped: address, bytes, stack.
    pub const MAPPED: u8 = 9;
    /// Memory was unmapped: address, bytes.
    pub const UNMAPPED: u8 = 10;
    /// The process forked: the child's pid.
    pub const FORKED: u8 = 11;
    /// The program marked a phase: length, then so many bytes of UTF-8.
    pub const MARK: u8 = 12;
    /// An allocation that no word can tell: address, size, stack, domain.
    pub const ALLOC: u8 = 13;
    /// A free that no word can tell: address, 1 if a realloc's.
    pub const FREE: u8 = 14;
    /// The realloc whose free was the last event came to nothing: the block is where it was.
    pub const KEPT: u8 = 15;
    /// The program has ended; the interpreter takes itself apart.
    pub const ENDING: u8 = 16;
}

/// The stack of what no Python frame was seen for.
pub const NO_STACK: u32 = 0;
/// The stack of what ran without the GIL.
pub const NO_GIL: u32 = 1;
/// In the place of a code's number: a native frame that is in no file.
pub const NO_FILE: u32 = u32::MAX;
/// The number of the first stack that a trace tells.
pub const FIRST_NODE: u32 = 2;

/// Who handed a block out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Domain {
    /// Python's own allocator (`PYMEM_DOMAIN_MEM`, `PYMEM_DOMAIN_OBJ`).
    Python = 0,
    /// malloc and its family.
    Malloc = 1,
}

/// An event, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A block was allocated.
    Alloc {
        /// Its address.
        address: u64,
        /// Bytes that were asked for.
        size: u64,
        /// The number of its stack.
        node: u32,
        /// Who handed it out.
        domain: Domain,
    },
    /// A block was freed.
    Free {
        /// Its address.
        address: u64,
        /// By a realloc, whose new block follows.
        moved: bool,
    },
    /// A stack.
    Node {
        /// Its own number.
        node: u32,
        /// Its caller's.
        parent: u32,
        /// The code that ran.
        code: u32,
        /// The byte of its instructions that was running, + 1; 0 before the first. Of native code the address that the
        /// file states for the call, + 1.
        offset: u32,
    },
    /// What follows in this lane is this thread's.
    Thread(u32),
    /// Nanoseconds since the begin.
    Time(u64),
    /// The next event of this lane comes after so many of the GIL's.
    Stamp(u64),
    /// The collector began: generation.
    GcStart(u8),
    /// It ended: generation, collected, uncollectable.
    GcStop(u8, u64, u64),
    /// pymalloc got an arena: address, bytes.
    ArenaBorn(u64, u64),
    /// It gave one back.
    ArenaDied(u64, u64),
    /// RSS in bytes.
    Rss(u64),
    /// Memory was mapped: address, bytes, stack.
    Mapped(u64, u64, u32),
    /// Memory was unmapped.
    Unmapped(u64, u64),
    /// The process forked: the child.
    Forked(u32),
    /// The program said so.
    Mark(String),
    /// The realloc whose free was this lane's last came to nothing.
    Kept,
    /// The program has ended; the interpreter takes itself apart.
    Ending,
}
