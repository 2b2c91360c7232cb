//! pymalloc's geometry and structures, unchanged from CPython 3.8 to 3.15.
//!
//! Owns pool headers, arena objects and the `usedpools` pattern with their validators. Does not own
//! where an interpreter keeps them (`cpython.rs`).

use crate::word::{u32_at, u64_at};

/// Number of size classes; class i has blocks of `16 * (i + 1)` bytes.
pub const CLASSES: usize = 32;
/// Alignment and smallest block size in bytes.
pub const ALIGNMENT: u64 = 16;
/// Bytes of a pool header (`POOL_OVERHEAD`).
pub const POOL_HEADER: usize = 48;
/// Bytes of an `arena_object`.
pub const ARENA_OBJECT: usize = 48;
/// `DUMMY_SIZE_IDX`: the class of a pool that was never initialised or was purged.
pub const DUMMY_CLASS: u32 = 0xffff;
/// Words of `usedpools`: a pair for each size class, the upper half of the array unused pairs.
pub const USEDPOOLS_WORDS: usize = 64;
/// Offset of `mgmt.arenas` within `_obmalloc_state` (3.12+), whose first member is `usedpools`.
pub const STATE_ARENAS: u64 = 512;
/// Offset of `mgmt.maxarenas` within `_obmalloc_state`.
pub const STATE_MAXARENAS: u64 = 520;

/// Sizes that differ between versions and builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// `POOL_SIZE` in bytes.
    pub pool_size: u64,
    /// `ARENA_SIZE` in bytes.
    pub arena_size: u64,
}

impl Geometry {
    /// 3.8 and 3.9.
    pub const SMALL: Geometry = Geometry { pool_size: 4096, arena_size: 256 << 10 };
    /// 3.10 and later.
    pub const LARGE: Geometry = Geometry { pool_size: 16384, arena_size: 1 << 20 };
    /// 3.15 built `--with-pymalloc-hugepages`.
    pub const HUGE: Geometry = Geometry { pool_size: 16384, arena_size: 2 << 20 };

    /// Pools of an arena at `address`: one less when its start is not aligned to a pool.
    pub fn pools_in(&self, address: u64) -> u64 {
        (address + self.arena_size - self.first_pool(address)) / self.pool_size
    }

    /// Address of the first pool of an arena at `address`.
    pub fn first_pool(&self, address: u64) -> u64 {
        address.next_multiple_of(self.pool_size)
    }

    /// Blocks that a pool of `class` holds (`NUMBLOCKS`).
    pub fn blocks(&self, class: u8) -> u64 {
        (self.pool_size - POOL_HEADER as u64) / block_size(class)
    }
}

/// Block size of a class in bytes.
pub fn block_size(class: u8) -> u64 {
    ALIGNMENT * (u64::from(class) + 1)
}

/// A `pool_header` that passed [`pool_header`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolHeader {
    /// Live blocks (`ref.count`).
    pub used: u32,
    /// Address of the first free carved block, 0 if none (`freeblock`).
    pub freeblock: u64,
    /// Index of the arena in `arenas`.
    pub arenaindex: u32,
    /// Size class; [`None`] for a free pool that has none (`DUMMY_SIZE_IDX`).
    pub class: Option<u8>,
    /// Blocks handed out at least once.
    pub carved: u32,
}

/// Validates the header of the carved pool at `address`. `None` means torn or no pool at all.
///
/// A used pool must satisfy every invariant that `obmalloc.c` keeps between calls. A free pool
/// (`ref.count == 0`) must look like one that was used before, or carry `DUMMY_SIZE_IDX`.
pub fn pool_header(bytes: &[u8], address: u64, g: Geometry) -> Option<PoolHeader> {
    let header = pool_header_losing(bytes, address, g)?;
    // Without a free list all carved blocks are live.
    let full = header.class.is_none() || header.freeblock != 0 || header.used == header.carved;
    full.then_some(header)
}

/// The same of a pool that may have lost free blocks (`agent.rs`): all of them may be off its free list.
pub fn pool_header_losing(bytes: &[u8], address: u64, g: Geometry) -> Option<PoolHeader> {
    if bytes.len() < POOL_HEADER || u32_at(bytes, 4) != 0 {
        return None;
    }
    let used = u32_at(bytes, 0);
    let freeblock = u64_at(bytes, 8);
    let arenaindex = u32_at(bytes, 32);
    let szidx = u32_at(bytes, 36);
    if szidx == DUMMY_CLASS && used == 0 {
        return Some(PoolHeader { used, freeblock: 0, arenaindex, class: None, carved: 0 });
    }
    let class = u8::try_from(szidx).ok().filter(|c| usize::from(*c) < CLASSES)?;
    let size = block_size(class);
    let (next, max) = (u64::from(u32_at(bytes, 40)), u64::from(u32_at(bytes, 44)));
    let head = POOL_HEADER as u64;
    // A new pool hands out its first block and carves the second: never fewer than two.
    let carvable =
        (head + 2 * size..=max + size).contains(&next) && (next - head).is_multiple_of(size);
    if max != g.pool_size - size || !carvable {
        return None;
    }
    let carved = ((next - head) / size) as u32;
    let chain_fits = match freeblock {
        0 => used <= carved,
        _ => used < carved && slot_of(freeblock, address, class, carved).is_some(),
    };
    (chain_fits).then_some(PoolHeader { used, freeblock, arenaindex, class: Some(class), carved })
}

/// The slot that a free-list pointer names: `None` unless it is exactly the start of a carved block.
pub fn slot_of(block: u64, pool: u64, class: u8, carved: u32) -> Option<u32> {
    let offset = block.wrapping_sub(pool).wrapping_sub(POOL_HEADER as u64);
    // Pools are at most 16 KiB, so a 32-bit division does.
    let offset = u32::try_from(offset).ok().filter(|o| *o < 1 << 16)?;
    let size = block_size(class) as u32;
    (offset % size == 0 && offset / size < carved).then_some(offset / size)
}

/// An `arena_object` that passed [`arena_object`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arena {
    /// Start of the arena's memory.
    pub address: u64,
    /// Start of the first pool never carved (`pool_address`).
    pub pool_address: u64,
    /// Free pools, carved or not.
    pub nfreepools: u32,
    /// All pools.
    pub ntotalpools: u32,
}

/// What an entry of `arenas` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArenaEntry {
    /// No memory is allocated for it.
    Unassociated,
    /// An arena.
    Allocated(Arena),
}

/// Validates an entry of `arenas`.
///
/// `ntotalpools` may be lower than the arena's geometry gives (a purge parks pools by lowering it),
/// never higher.
pub fn arena_object(bytes: &[u8], g: Geometry) -> Option<ArenaEntry> {
    if bytes.len() < ARENA_OBJECT {
        return None;
    }
    let arena = Arena {
        address: u64_at(bytes, 0),
        pool_address: u64_at(bytes, 8),
        nfreepools: u32_at(bytes, 16),
        ntotalpools: u32_at(bytes, 20),
    };
    if arena.address == 0 {
        return Some(ArenaEntry::Unassociated);
    }
    let user_space = arena.address >= 0x1_0000 && arena.address < 1 << 47;
    if !user_space || !arena.address.is_multiple_of(4096) {
        return None;
    }
    let first = g.first_pool(arena.address);
    let end = first + g.pools_in(arena.address) * g.pool_size;
    let carved_ok = (first..=end).contains(&arena.pool_address)
        && (arena.pool_address - first).is_multiple_of(g.pool_size);
    let counts_ok = arena.nfreepools <= arena.ntotalpools
        && u64::from(arena.ntotalpools) <= g.pools_in(arena.address);
    (carved_ok && counts_ok).then_some(ArenaEntry::Allocated(arena))
}

/// Whether 64 words at `base` can be `usedpools`: of each of the 32 pairs both words are the empty
/// list's own address (`base + 16 i - 16`), or both are addresses of pools.
///
/// Returns the number of classes whose list is empty. That the pools are pools is for the caller to
/// confirm by their headers.
pub fn usedpools(words: &[u64], base: u64, pool_size: u64) -> Option<usize> {
    let mut empty = 0;
    for (i, pair) in words.get(..USEDPOOLS_WORDS)?.chunks_exact(2).enumerate() {
        let own = base.wrapping_add(16 * i as u64).wrapping_sub(16);
        if pair == [own, own] {
            empty += 1;
        } else if !pair.iter().all(|p| *p >= 0x1_0000 && *p < 1 << 47 && p % pool_size == 0) {
            return None;
        }
    }
    Some(empty)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: u64 = 0x7f00_0000_4000;

    fn header(used: u32, free: u64, szidx: u32, next: u32, max: u32) -> [u8; 48] {
        let mut b = [0; 48];
        b[..4].copy_from_slice(&used.to_le_bytes());
        b[8..16].copy_from_slice(&free.to_le_bytes());
        b[36..40].copy_from_slice(&szidx.to_le_bytes());
        b[40..44].copy_from_slice(&next.to_le_bytes());
        b[44..48].copy_from_slice(&max.to_le_bytes());
        b
    }

    fn read(b: [u8; 48]) -> Option<PoolHeader> {
        pool_header(&b, AT, Geometry::LARGE)
    }

    #[test]
    fn a_pool_in_use_is_read() {
        // Class 2: blocks of 48 bytes; 5 carved, 2 free.
        let h = read(header(3, AT + 48 + 96, 2, 48 + 5 * 48, 16384 - 48)).unwrap();
        assert_eq!((h.used, h.carved, h.class), (3, 5, Some(2)));
    }

    #[test]
    fn each_broken_invariant_is_refused() {
        let good = |f: fn(&mut [u8; 48])| {
            let mut b = header(3, AT + 48 + 96, 2, 48 + 5 * 48, 16384 - 48);
            f(&mut b);
            read(b)
        };
        assert!(good(|_| {}).is_some());
        assert!(good(|b| b[4] = 1).is_none(), "count above 32 bits");
        assert!(good(|b| b[36] = 32).is_none(), "no such class");
        assert!(good(|b| b[40] += 16).is_none(), "nextoffset between two blocks");
        assert!(good(|b| b[44] = 0).is_none(), "maxnextoffset of another class");
        assert!(good(|b| b[0] = 6).is_none(), "more live than carved");
        assert!(good(|b| b[8] += 16).is_none(), "freeblock between two blocks");
        assert!(good(|b| b[8..16].fill(0)).is_none(), "no free list, yet not full");
        assert!(good(|b| b[0] = 5).is_none(), "a free list, yet full");
    }

    #[test]
    fn a_pool_that_lost_blocks_may_have_no_free_list() {
        let mut b = header(3, 0, 2, 48 + 5 * 48, 16384 - 48);
        assert!(pool_header(&b, AT, Geometry::LARGE).is_none());
        assert!(pool_header_losing(&b, AT, Geometry::LARGE).is_some());
        b[0] = 6;
        assert!(pool_header_losing(&b, AT, Geometry::LARGE).is_none(), "more live than carved");
    }

    #[test]
    fn a_full_pool_has_no_free_list() {
        assert!(read(header(340, 0, 2, 48 + 340 * 48, 16384 - 48)).is_some());
    }

    #[test]
    fn arenas_are_read_and_validated() {
        let mut b = [0; 48];
        assert_eq!(arena_object(&b, Geometry::LARGE), Some(ArenaEntry::Unassociated));
        let at = 0x7f00_0000_1000_u64;
        b[..8].copy_from_slice(&at.to_le_bytes());
        b[8..16].copy_from_slice(&0x7f00_0000_8000_u64.to_le_bytes());
        b[16] = 62;
        b[20] = 63;
        let Some(ArenaEntry::Allocated(a)) = arena_object(&b, Geometry::LARGE) else { panic!() };
        assert_eq!((a.address, a.ntotalpools), (at, 63));
        b[20] = 64;
        assert_eq!(arena_object(&b, Geometry::LARGE), None, "an unaligned arena has 63 pools");
        b[20] = 61;
        assert_eq!(arena_object(&b, Geometry::LARGE), None, "more free than there are");
    }

    #[test]
    fn the_empty_usedpools_is_recognised() {
        let base = 0x55_0000_0000;
        let mut w: Vec<u64> = (0..64).map(|i| base + 16 * (i / 2) - 16).collect();
        assert_eq!(usedpools(&w, base, 16384), Some(32));
        assert_eq!(usedpools(&w, base + 8, 16384), None);
        w[6] = 0x7f00_0000_4000;
        w[7] = 0x7f00_0000_8000;
        assert_eq!(usedpools(&w, base, 16384), Some(31));
        w[7] = 0x7f00_0000_8010;
        assert_eq!(usedpools(&w, base, 16384), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), at in any::<u64>()) {
            let at = at >> 17 << 14;
            let _ = pool_header(&bytes, at, Geometry::SMALL);
            let _ = arena_object(&bytes, Geometry::LARGE);
        }

        #[test]
        fn slots_round_trip(class in 0u8..32, slot in 0u32..1020) {
            let block = AT + 48 + u64::from(slot) * block_size(class);
            prop_assert_eq!(slot_of(block, AT, class, slot + 1), (slot < 1021 && u64::from(slot) * block_size(class) < 1 << 16).then_some(slot));
            prop_assert_eq!(slot_of(block, AT, class, slot), None);
        }
    }
}
