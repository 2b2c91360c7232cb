//! The heap behind a snapshot, pool by pool: what `.pdsnap` keeps and `--json` does not.
//!
//! Owns the pool records and their live bitmaps. Never holds a byte of the target's memory.

/// What a pool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PoolState {
    /// Has live blocks.
    Used = 0,
    /// Carved once, no live block now; parked or not.
    Free = 1,
    /// Stayed torn, or its header is not resident: only its residency is known.
    Unread = 2,
}

impl PoolState {
    /// The state with this number, if there is one.
    pub fn from_number(n: u8) -> Option<Self> {
        [PoolState::Used, PoolState::Free, PoolState::Unread].into_iter().find(|s| *s as u8 == n)
    }
}

/// One carved pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolRecord {
    /// Address in the target.
    pub address: u64,
    /// Index into the snapshot's `pymalloc.interpreters`.
    pub interpreter: u16,
    /// Size class 0..32; block size is `16 * (class + 1)`.
    pub class: u8,
    /// What it is doing.
    pub state: PoolState,
    /// Live blocks.
    pub used: u16,
    /// Blocks handed out at least once.
    pub carved: u16,
    /// Bit k: the pool's k-th OS page is resident.
    pub resident: u8,
    /// Bit k: and mapped by this process only.
    pub exclusive: u8,
    /// Index of its live bitmap's first word in [`Detail::bitmaps`], for pools in use.
    pub bitmap: u32,
}

/// All carved pools of a process, in order of address within each interpreter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// Bytes of a pool.
    pub pool_size: u32,
    /// The pools.
    pub pools: Vec<PoolRecord>,
    /// Live bitmaps: bit i of a pool's words is set when its block i is live. A pool in use has
    /// `carved.div_ceil(64)` words, any other pool none.
    pub bitmaps: Vec<u64>,
    /// All walked heaps, for a picture; `None` where none was wanted.
    pub map: Option<Box<crate::Map>>,
}

impl PoolRecord {
    /// Words that its live bitmap takes.
    pub fn bitmap_words(&self) -> usize {
        if self.state == PoolState::Used { usize::from(self.carved).div_ceil(64) } else { 0 }
    }
}

impl Detail {
    /// The live bitmap of a pool of this detail.
    pub fn bitmap(&self, pool: &PoolRecord) -> &[u64] {
        &self.bitmaps[pool.bitmap as usize..][..pool.bitmap_words()]
    }
}
