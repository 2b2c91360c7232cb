//! What is known of pymalloc in one process, per size class and per interpreter.
//!
//! Owns the counts that `sys._debugmallocstats()` also prints, so that the two can be compared.

use serde::{Deserialize, Serialize};

use crate::{OS_PAGE, RequestFit};

/// One of pymalloc's size classes, summed over the pools in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeClass {
    /// Size of a block in bytes.
    pub size: u64,
    /// Pools with at least one live block.
    pub pools: u64,
    /// Live blocks.
    pub used_blocks: u64,
    /// Blocks of these pools that are not live: freed ones and virgin ones.
    pub free_blocks: u64,
}

/// pymalloc as one interpreter has it. Interpreters that share the main one's are not listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InterpreterHeap {
    /// CPython's id of the interpreter.
    pub id: i64,
    /// Arenas allocated now.
    pub arenas: u64,
    /// Carved pools with no live block, on an arena's `freepools`.
    pub free_pools: u64,
    /// Pools never carved from their arena yet.
    pub uncarved_pools: u64,
    /// Free pools that pydefrag's agent has parked: given back, and in none of the counts above until the
    /// program wants them.
    #[serde(default)]
    pub parked_pools: u64,
    /// The size classes that have pools, smallest first.
    pub classes: Vec<SizeClass>,
}

/// All pymalloc heaps of a process together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pymalloc {
    /// Bytes of an arena.
    pub arena_size: u64,
    /// Bytes of a pool.
    pub pool_size: u64,
    /// Arenas allocated now.
    pub arenas: u64,
    /// Carved pools with no live block.
    pub free_pools: u64,
    /// Pools never carved from their arena yet.
    pub uncarved_pools: u64,
    /// Free pools that pydefrag's agent has parked: given back, and in none of the counts above until the
    /// program wants them.
    #[serde(default)]
    pub parked_pools: u64,
    /// The size classes that have pools, smallest first.
    pub classes: Vec<SizeClass>,
    /// The same, one interpreter at a time.
    pub interpreters: Vec<InterpreterHeap>,
    /// Longest stretch of resident free bytes with no live block or header of a pool in use inside.
    pub largest_free_run: u64,
    /// Free bytes of pools in use, of free and of uncarved pools, resident or not: what `fit` is of.
    pub free_bytes: u64,
    /// Per request size: which share of the free bytes cannot serve it.
    pub fit: Vec<RequestFit>,
}

impl SizeClass {
    /// Blocks that a pool of `pool_size` bytes holds.
    pub fn blocks_per_pool(size: u64, pool_size: u64, header: u64) -> u64 {
        (pool_size - header) / size
    }

    /// Bytes of whole OS pages that a perfect packing of the live blocks needs: pools filled one
    /// after another, the last one resident only as far as it is filled.
    pub fn packed_bytes(&self, pool_size: u64, header: u64) -> u64 {
        let per_pool = Self::blocks_per_pool(self.size, pool_size, header);
        let (full, rest) = (self.used_blocks / per_pool, self.used_blocks % per_pool);
        let last =
            if rest == 0 { 0 } else { (header + rest * self.size).next_multiple_of(OS_PAGE) };
        let whole = (header + per_pool * self.size).next_multiple_of(OS_PAGE).min(pool_size);
        full * whole + last
    }
}

/// Sums size classes of several interpreters, keeping them ordered by size.
pub(crate) fn merge_classes<'a>(all: impl Iterator<Item = &'a SizeClass>) -> Vec<SizeClass> {
    let mut by_size = std::collections::BTreeMap::<u64, SizeClass>::new();
    for c in all {
        let sum = by_size.entry(c.size).or_insert(SizeClass { size: c.size, ..Default::default() });
        sum.pools += c.pools;
        sum.used_blocks += c.used_blocks;
        sum.free_blocks += c.free_blocks;
    }
    by_size.into_values().collect()
}

impl Pymalloc {
    /// Sums the interpreters' heaps. `largest_free_run`, `free_bytes` and `fit` are the walker's to fill.
    pub fn of(arena_size: u64, pool_size: u64, interpreters: Vec<InterpreterHeap>) -> Self {
        Pymalloc {
            arena_size,
            pool_size,
            arenas: interpreters.iter().map(|i| i.arenas).sum(),
            free_pools: interpreters.iter().map(|i| i.free_pools).sum(),
            uncarved_pools: interpreters.iter().map(|i| i.uncarved_pools).sum(),
            parked_pools: interpreters.iter().map(|i| i.parked_pools).sum(),
            classes: merge_classes(interpreters.iter().flat_map(|i| &i.classes)),
            interpreters,
            largest_free_run: 0,
            free_bytes: 0,
            fit: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perfect_packing_counts_the_last_pool_as_far_as_it_is_filled() {
        let c = |used_blocks| SizeClass { size: 64, used_blocks, ..Default::default() };
        // (16384 - 48) / 64 = 255 blocks a pool.
        assert_eq!(c(255).packed_bytes(16384, 48), 16384);
        assert_eq!(c(256).packed_bytes(16384, 48), 16384 + 4096);
        assert_eq!(c(63).packed_bytes(16384, 48), 4096);
        assert_eq!(c(64).packed_bytes(16384, 48), 8192);
        assert_eq!(c(0).packed_bytes(16384, 48), 0);
    }
}
