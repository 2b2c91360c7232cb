//! All live blocks of a process, numbered: pymalloc's in order of address, then malloc's chunks.
//!
//! Owns the numbering and the way from an address to a number. Holds no memory of the target: what is
//! kept per block elsewhere is an array by these numbers. Free blocks have none.

use pydefrag_heap::{Detail, PoolRecord, PoolState};
use rustc_hash::FxHashMap;

/// Number of a block.
pub(crate) type Ordinal = u32;

/// A chunk of malloc that is in use, as its user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Address that malloc returned.
    pub(crate) address: u64,
    /// Bytes that its user may write.
    pub(crate) size: u64,
}

/// A pool in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool {
    pub(crate) address: u64,
    /// Bytes of a block.
    pub(crate) size: u32,
    pub(crate) carved: u32,
    /// First word of its live bitmap.
    bitmap: u32,
    /// Number of its first live block.
    pub(crate) first: Ordinal,
    /// Index among the detail's pools.
    pub(crate) record: u32,
}

const POOL_HEAD: u64 = 48;
/// Addresses are looked up by stretches of 64 KiB.
const STRETCH: u32 = 16;

/// All live blocks.
pub(crate) struct Blocks<'a> {
    detail: &'a Detail,
    pub(crate) pools: Vec<Pool>,
    /// By address of a pool, in units of the pool's size.
    pool_of: FxHashMap<u64, u32>,
    pool_shift: u32,
    /// In order of address.
    pub(crate) chunks: Vec<Chunk>,
    /// By stretch: the first chunk that reaches into it.
    chunk_of: FxHashMap<u64, u32>,
    /// Number of the first chunk.
    pub(crate) first_chunk: Ordinal,
    /// Lowest and highest address of any block.
    bounds: (u64, u64),
}

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) ordinal: Ordinal,
    /// Address of the block.
    pub(crate) start: u64,
}

impl<'a> Blocks<'a> {
    /// Numbers the blocks. `None` where there are more than can be numbered.
    pub(crate) fn of(detail: &'a Detail, mut chunks: Vec<Chunk>) -> Option<Blocks<'a>> {
        chunks.sort_unstable_by_key(|c| c.address);
        let mut end = 0;
        chunks.retain(|c| {
            let fits = c.address >= end && c.size > 0;
            end = if fits { c.address + c.size } else { end };
            fits
        });
        let mut pools: Vec<Pool> = Vec::new();
        for (record, p) in detail.pools.iter().enumerate() {
            if p.state == PoolState::Used && p.carved > 0 {
                let size = 16 * (u32::from(p.class) + 1);
                let (address, bitmap) = (p.address, p.bitmap);
                let carved = u32::from(p.carved);
                pools.push(Pool { address, size, carved, bitmap, first: 0, record: record as u32 });
            }
        }
        pools.sort_unstable_by_key(|p| p.address);
        let mut count = 0u64;
        for p in &mut pools {
            p.first = u32::try_from(count).ok()?;
            let record = &detail.pools[p.record as usize];
            count += detail.bitmap(record).iter().map(|w| u64::from(w.count_ones())).sum::<u64>();
        }
        let first_chunk = u32::try_from(count).ok()?;
        // The highest number is kept for "none".
        u32::try_from(count + chunks.len() as u64 + 1).ok()?;
        let pool_shift = u64::from(detail.pool_size.max(4096)).trailing_zeros();
        let pool_of =
            pools.iter().enumerate().map(|(i, p)| (p.address >> pool_shift, i as u32)).collect();
        let mut chunk_of = FxHashMap::default();
        for (i, c) in chunks.iter().enumerate() {
            for stretch in c.address >> STRETCH..=(c.address + c.size - 1) >> STRETCH {
                chunk_of.entry(stretch).or_insert(i as u32);
            }
        }
        let pool_bytes = u64::from(detail.pool_size);
        let low =
            pools.first().map(|p| p.address).into_iter().chain(chunks.first().map(|c| c.address));
        let high = pools.last().map(|p| p.address + pool_bytes).into_iter();
        let high = high.chain(chunks.last().map(|c| c.address + c.size));
        let bounds = (low.min().unwrap_or(0), high.max().unwrap_or(0));
        Some(Blocks { detail, pools, pool_of, pool_shift, chunks, chunk_of, first_chunk, bounds })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.first_chunk as usize + self.chunks.len()
    }

    /// The live bitmap of a pool.
    pub(crate) fn bitmap(&self, pool: &Pool) -> &[u64] {
        &self.detail.bitmaps[pool.bitmap as usize..][..(pool.carved as usize).div_ceil(64)]
    }

    /// What was recorded of a pool.
    pub(crate) fn record(&self, pool: &Pool) -> &PoolRecord {
        &self.detail.pools[pool.record as usize]
    }

    /// Blocks that a pool has room for.
    pub(crate) fn capacity(&self, pool: &Pool) -> u32 {
        ((u64::from(self.detail.pool_size) - POOL_HEAD) / u64::from(pool.size)) as u32
    }

    /// The pool that an address lies in.
    fn pool_at(&self, address: u64) -> Option<&Pool> {
        self.pool_of.get(&(address >> self.pool_shift)).map(|i| &self.pools[*i as usize])
    }

    /// Whether an address lies in a pool in use.
    pub(crate) fn in_pool(&self, address: u64) -> bool {
        self.pool_at(address).is_some()
    }

    /// The live block that an address lies in.
    pub(crate) fn find(&self, address: u64) -> Option<Found> {
        if address < self.bounds.0 || address >= self.bounds.1 {
            return None;
        }
        if let Some(pool) = self.pool_at(address) {
            let offset = (address - pool.address).checked_sub(POOL_HEAD)? as u32;
            let slot = offset / pool.size;
            if slot >= pool.carved {
                return None;
            }
            let bitmap = self.bitmap(pool);
            let (word, bit) = (slot as usize / 64, slot % 64);
            if bitmap[word] >> bit & 1 == 0 {
                return None;
            }
            let before = bitmap[..word].iter().map(|w| w.count_ones()).sum::<u32>()
                + (bitmap[word] & ((1 << bit) - 1)).count_ones();
            let start = pool.address + POOL_HEAD + u64::from(slot * pool.size);
            return Some(Found { ordinal: pool.first + before, start });
        }
        let first = *self.chunk_of.get(&(address >> STRETCH))? as usize;
        let end = self.chunks.len().min(first + (1 << STRETCH) / 16 + 1);
        let after = self.chunks[first..end].partition_point(|c| c.address <= address);
        let i = (first + after).checked_sub(1)?;
        let c = self.chunks[i];
        let inside = address >= c.address && address - c.address < c.size;
        inside.then_some(Found { ordinal: self.first_chunk + i as u32, start: c.address })
    }

    /// The pool of a block of pymalloc.
    pub(crate) fn pool_of(&self, ordinal: Ordinal) -> Option<&Pool> {
        if ordinal >= self.first_chunk {
            return None;
        }
        let i = self.pools.partition_point(|p| p.first <= ordinal);
        self.pools.get(i.checked_sub(1)?)
    }

    /// Address and bytes of a block.
    pub(crate) fn block(&self, ordinal: Ordinal) -> Option<(u64, u64)> {
        if let Some(i) = ordinal.checked_sub(self.first_chunk) {
            return self.chunks.get(i as usize).map(|c| (c.address, c.size));
        }
        let pool = self.pool_of(ordinal)?;
        let (_, start) = self.live(pool).nth((ordinal - pool.first) as usize)?;
        Some((start, u64::from(pool.size)))
    }

    /// The live blocks of a pool: number and address.
    pub(crate) fn live(&self, pool: &Pool) -> impl Iterator<Item = (Ordinal, u64)> + '_ {
        let (first, at, size) = (pool.first, pool.address + POOL_HEAD, u64::from(pool.size));
        let words = self.bitmap(pool).iter().enumerate();
        let slots = words.flat_map(|(i, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                (rest != 0).then(|| {
                    rest &= rest - 1;
                    64 * i as u64 + u64::from(bit)
                })
            })
        });
        slots.enumerate().map(move |(n, slot)| (first + n as u32, at + slot * size))
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        let of_pool = |p: &Pool| {
            self.bitmap(p).iter().map(|w| u64::from(w.count_ones())).sum::<u64>()
                * u64::from(p.size)
        };
        self.pools.iter().map(of_pool).sum::<u64>()
            + self.chunks.iter().map(|c| c.size).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_live_byte_leads_to_its_block_and_no_other_byte_does() {
        let used = PoolRecord {
            address: 0x40_0000,
            interpreter: 0,
            class: 2,
            state: PoolState::Used,
            used: 3,
            carved: 70,
            resident: 1,
            exclusive: 1,
            bitmap: 0,
        };
        let mut bitmaps = vec![0u64; 2];
        for slot in [0, 5, 69] {
            bitmaps[slot / 64] |= 1 << (slot % 64);
        }
        let detail = Detail { pool_size: 16384, pools: vec![used], bitmaps, map: None };
        let chunks = [(0x50_0010, 0x18), (0x50_0030, 0x20_0008), (0x90_0010, 24)];
        let chunks = chunks.map(|(address, size)| Chunk { address, size }).to_vec();
        let blocks = Blocks::of(&detail, chunks).unwrap();
        let mut live = vec![None; 0x60_0000 + 0x1000];
        for ordinal in 0..blocks.count() as u32 {
            let (start, size) = blocks.block(ordinal).unwrap();
            for at in start..start + size {
                live[(at - 0x40_0000) as usize] = Some(Found { ordinal, start });
            }
        }
        assert_eq!(blocks.count(), 6);
        assert_eq!(blocks.block(2), Some((0x40_0000 + 48 + 69 * 48, 48)));
        for (i, expected) in live.iter().enumerate() {
            assert_eq!(blocks.find(0x40_0000 + i as u64), *expected, "{i:#x}");
        }
        assert_eq!(blocks.find(0), None);
        assert_eq!(blocks.find(u64::MAX), None);
    }
}
