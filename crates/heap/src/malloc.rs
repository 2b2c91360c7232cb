//! What is known of the C library's malloc in one process: its arenas, one by one, and mmapped chunks.
//!
//! Owns the counts that `mallinfo2` also tells, so that the two can be compared: these are bytes of
//! address space, resident or not. Where their resident bytes are is in the owners' accounts.

use serde::{Deserialize, Serialize};

/// malloc as it was walked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Malloc {
    /// The arenas: the main arena first.
    pub arenas: Vec<MallocArena>,
    /// Chunks that have a mapping of their own.
    pub mmapped: Mmapped,
}

/// One arena of malloc. `used + overhead + tcache + free + unread = system`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MallocArena {
    /// Address of its `malloc_state`.
    pub address: u64,
    /// The arena that grows by brk.
    pub main: bool,
    /// Stretches of address space that it consists of: `heap_info`s, or parts of the brk heap.
    pub heaps: u64,
    /// Bytes that it has from the system (`system_mem`; its share of mallinfo2's `arena`).
    pub system: u64,
    /// Bytes of chunks in use, without their headers.
    pub used: u64,
    /// Headers of these chunks, of those in tcaches, the arena's own structures, and what other users
    /// of brk have between its chunks.
    pub overhead: u64,
    /// Bytes of chunks in threads' tcaches, without their headers: free, though the arena counts
    /// them as used.
    pub tcache: u64,
    /// Bytes of free chunks: in bins, in fastbins, and `top` (its share of `fordblks`).
    pub free: u64,
    /// Of `free`: in fastbins.
    pub fastbins: u64,
    /// Of `free`: the last chunk, from which the arena is extended.
    pub top: u64,
    /// Bytes in which no chunks could be followed: changed while read, or corrupted.
    pub unread: u64,
    /// Chunks in use.
    pub used_chunks: u64,
    /// Free chunks in bins.
    pub free_chunks: u64,
    /// Largest free chunk in bins.
    pub largest_free: u64,
    /// Resident bytes.
    pub resident: u64,
    /// The threads that allocate from it now.
    pub threads: Vec<ArenaThread>,
}

/// A thread and its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaThread {
    /// Thread id.
    pub tid: i32,
    /// Its name as the kernel keeps it.
    pub name: String,
}

/// Chunks that have a mapping of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mmapped {
    /// Chunks (mallinfo2's `hblks`).
    pub chunks: u64,
    /// Bytes of their mappings (`hblkhd`).
    pub bytes: u64,
}
