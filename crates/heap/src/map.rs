//! The walked heaps as a picture needs them: which byte of which region is what, down to single blocks.
//!
//! Owns the regions, a byte of flags per OS page, malloc's chunks as tiles, and what each live block is, as
//! numbers of names. Together with the pools of a [`Detail`] every resident byte of a walked heap
//! falls under one term of its [`Account`](crate::Account). Does not own how it is drawn, nor (see `columns`) how it
//! is stored.
//!
//! Invariants, which [`Map::fits`] checks: regions are in order of address, do not overlap and consist of whole OS
//! pages; `pages` has one byte for each of them; the chunks of a region tile it without gaps; `blocks` has one
//! number for each live block, in order of address.

mod columns;
mod tiles;
mod varint;

use serde::{Deserialize, Serialize};

use crate::{Detail, OS_PAGE, PoolRecord, PoolState, RootKind};

pub use columns::Column;
pub use tiles::{Tile, Tiles};

/// The walked heaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map {
    /// Stretches of address space that the walked allocators have, in order of address. Stretches of malloc's
    /// that are long and nowhere resident are left out.
    pub regions: Vec<Region>,
    /// Flags of each OS page of the regions, in their order: see [`page`].
    pub pages: Vec<u8>,
    /// What malloc's regions consist of, in order, without gaps.
    pub tiles: Tiles,
    /// What the live blocks are; `None` where objects were not looked at.
    pub named: Option<Named>,
}

/// Flags of an OS page.
pub mod page {
    /// Backed by memory.
    pub const RESIDENT: u8 = 1;
    /// And mapped by this process only: it would come back if it were dropped.
    pub const EXCLUSIVE: u8 = 2;
    /// Swapped out.
    pub const SWAPPED: u8 = 4;
    /// Resident, with neither a live byte nor a header on it, inside a pool in use or a free chunk.
    pub const HOLE: u8 = 8;
    /// The first rung of the ladder that returns it, in these two bits.
    pub const RUNG: u8 = 0b11 << RUNG_SHIFT;
    /// Where [`RUNG`] begins.
    pub const RUNG_SHIFT: u8 = 4;
    /// Values of [`RUNG`]: `malloc_trim` returns it.
    pub const TRIM: u8 = 1;
    /// A purge does.
    pub const PURGE: u8 = 2;
    /// Compaction does.
    pub const COMPACT: u8 = 3;
}

/// A stretch of address space of one walked heap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Address of its first byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Name of the account's owner that it belongs to, `pymalloc` or `malloc main arena`.
    pub heap: String,
    /// Carved pools: they follow each other from the first address that a pool may have. 0 for malloc.
    pub pools: u32,
    /// Tiles. 0 for pymalloc.
    pub tiles: u32,
}

/// What the live blocks are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Names of types.
    pub types: Vec<String>,
    /// Owners.
    pub owners: Vec<MapOwner>,
    /// Combinations of both that there are.
    pub groups: Vec<Group>,
    /// The group of each live block: those of the regions in their order, within one in order of address.
    pub blocks: Vec<u16>,
    /// Container slack: which block (index among `blocks`), and bytes of room to spare in it.
    pub slack: Vec<(u32, u32)>,
}

/// Who a block belongs to. The same texts as in `pins.by_owner`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapOwner {
    /// The chain that a person can read, of the shape that pins most.
    pub owner: String,
    /// Where it begins.
    pub head: String,
    /// What sort of head.
    pub root: RootKind,
}

/// Blocks of one type, role and owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Index among the types; `None`: no type is known, or it is not listed.
    #[serde(rename = "type")]
    pub of: Option<u32>,
    /// What the block is to the type: `object`, `items`, `keys`, …, `free_listed`, `native`, `unknown`.
    pub role: String,
    /// Index among the owners; `None`: an owner that is not listed.
    pub owner: Option<u32>,
    /// Blocks.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Region {
    /// Address behind it.
    pub fn end(&self) -> u64 {
        self.start + self.size
    }

    /// OS pages.
    pub fn pages(&self) -> u64 {
        self.size / OS_PAGE
    }

    /// Address of the `n`-th carved pool; `None` where there is no such address.
    pub fn pool(&self, n: u32, pool_size: u64) -> Option<u64> {
        let first = self.start.checked_next_multiple_of(pool_size)?;
        first.checked_add(u64::from(n).checked_mul(pool_size)?)
    }
}

impl Map {
    /// The pools of its regions, in their order; `None` where one is missing.
    pub fn pools<'a>(&self, detail: &'a Detail) -> Option<Vec<&'a PoolRecord>> {
        let mut by_address: Vec<&PoolRecord> = detail.pools.iter().collect();
        by_address.sort_unstable_by_key(|p| p.address);
        let size = u64::from(detail.pool_size);
        let mut at = 0;
        let mut pools = Vec::with_capacity(by_address.len());
        for region in &self.regions {
            for n in 0..region.pools {
                let address = region.pool(n, size)?;
                let pool = by_address.get(at).filter(|p| p.address == address)?;
                pools.push(*pool);
                at += 1;
            }
        }
        (at == by_address.len()).then_some(pools)
    }

    /// Whether all parts agree, with one another and with the pools.
    pub fn fits(&self, detail: &Detail) -> bool {
        let ordered = self
            .regions
            .windows(2)
            .all(|w| w[0].start.checked_add(w[0].size).is_some_and(|e| e <= w[1].start));
        let whole = |r: &Region| {
            r.start.is_multiple_of(OS_PAGE)
                && r.size.is_multiple_of(OS_PAGE)
                && r.start.checked_add(r.size).is_some()
                && u64::from(r.pools).saturating_mul(u64::from(detail.pool_size)) <= r.size
        };
        if !ordered || !self.regions.iter().all(whole) {
            return false;
        }
        let pages: u128 = self.regions.iter().map(|r| u128::from(r.pages())).sum();
        if pages != self.pages.len() as u128 {
            return false;
        }
        let mut tiles = self.tiles.iter();
        let mut blocks = 0;
        for r in self.regions.iter().filter(|r| r.tiles > 0) {
            let mut size = 0u64;
            for _ in 0..r.tiles {
                let Some((bytes, tile)) = tiles.next() else { return false };
                size = size.saturating_add(bytes);
                blocks += usize::from(tile.is_block());
            }
            if size != r.size {
                return false;
            }
        }
        let Some(pools) = self.pools(detail).filter(|_| tiles.next().is_none()) else {
            return false;
        };
        let used = pools.iter().filter(|p| p.state == PoolState::Used);
        blocks += used
            .map(|p| detail.bitmap(p).iter().map(|w| w.count_ones() as usize).sum::<usize>())
            .sum::<usize>();
        self.named.as_ref().is_none_or(|n| n.fits(blocks))
    }
}

impl Named {
    fn fits(&self, blocks: usize) -> bool {
        let (types, owners) = (self.types.len(), self.owners.len());
        let known = |of: Option<u32>, n: usize| of.is_none_or(|i| (i as usize) < n);
        self.blocks.len() == blocks
            && self.groups.iter().all(|g| known(g.of, types) && known(g.owner, owners))
            && self.blocks.iter().all(|b| usize::from(*b) < self.groups.len())
            && self.slack.iter().all(|(b, _)| (*b as usize) < blocks)
            && self.slack.windows(2).all(|w| w[0].0 < w[1].0)
    }
}
