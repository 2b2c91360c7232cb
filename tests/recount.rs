//! An independent recount of pymalloc: slow, byte by byte, from scratch.
//!
//! Shares no code with the walkers. It finds pools by scanning all anonymous writable memory for pool
//! headers (the walkers go from interpreter to arena to pool), marks every byte, and looks at every OS
//! page by its entry in `/proc/PID/pagemap`. The target must be at rest, and without transparent huge
//! pages: they make pools resident that were never carved and so have no header to be found by.

use std::fs::File;
use std::os::unix::fs::FileExt;

const PAGE: usize = 4096;

/// What the recount found, in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recount {
    /// Bytes of live blocks on resident pages.
    pub(crate) live: u64,
    /// Resident bytes of pools without a live block.
    pub(crate) free_pools: u64,
    /// Resident pages without a live byte or header in pools with one.
    pub(crate) holes: u64,
    /// Freed bytes on the other pages.
    pub(crate) pinned_free: u64,
    /// Free pools and holes without which a pool has still a free list: exclusively mapped pages only.
    droppable: u64,
    /// Pools that stand together in an arena, by its first one's address.
    arenas: Vec<Arena>,
    /// Bytes of pools on exclusively mapped resident pages.
    pub(crate) exclusive: u64,
    /// Live bytes on such pages, by block size.
    pub(crate) live_exclusive: std::collections::BTreeMap<u64, u64>,
    /// By block size: live blocks, and what is beside them on resident pages with a live byte.
    pub(crate) pins: std::collections::BTreeMap<u64, (u64, u64)>,
    /// Pools with a live block.
    pub(crate) used_pools: u64,
    /// Pools without.
    pub(crate) empty_pools: u64,
}

/// The pools of an arena.
#[derive(Debug, PartialEq, Eq)]
struct Arena {
    first: u64,
    /// `arenaindex` of their headers.
    index: usize,
    used: u64,
    empty: u64,
}

/// Free pools that a purge leaves on their lists, with the page of their header: at least so many, if there are, and at
/// most twice as many.
const RESERVE: u64 = 64;

impl Recount {
    /// What a purge gives back, at least and at most; nothing where pools are OS pages.
    ///
    /// It leaves the arenas alone that have the fewest free pools, and two pools of each. Whether an arena has 63 pools or
    /// 64, and so how many were never carved, its pools do not tell: one arena more or less may be left.
    /// (`tests/healed.rs` compares with what a purge really gives.)
    pub(crate) fn purge(&self, pool_size: u64) -> (u64, u64) {
        if pool_size == PAGE as u64 {
            return (0, 0);
        }
        let left = |pools: u64| {
            let free = |a: &Arena| pools.saturating_sub(a.used);
            let mut arenas: Vec<&Arena> = self.arenas.iter().filter(|a| free(a) > 0).collect();
            arenas.sort_by_key(|a| (free(a), a.first));
            let (mut reserve, mut full, mut left) = (0, false, 0);
            for a in arenas {
                full |= reserve >= RESERVE || reserve + free(a) > 2 * RESERVE;
                reserve += free(a);
                let alone = u64::from(a.used == 1 && a.empty + 1 >= pools);
                left += if full { alone } else { a.empty };
            }
            self.droppable - PAGE as u64 * left
        };
        let (some, others) = (left(63), left(64));
        let arena = 64 * PAGE as u64;
        (some.min(others).saturating_sub(arena), some.max(others) + arena)
    }

    /// Adds a pool to its arena; they come in order of address.
    fn add_to_arena(&mut self, pool: u64, index: usize, used: bool) {
        let same = |a: &Arena| a.index == index && pool - a.first < 1 << 20;
        if !self.arenas.last().is_some_and(same) {
            self.arenas.push(Arena { first: pool, index, used: 0, empty: 0 });
        }
        let arena = self.arenas.last_mut().expect("there is one now");
        *(if used { &mut arena.used } else { &mut arena.empty }) += 1;
    }

    /// What is left of the exclusive bytes when the live ones are packed pool after pool, each page
    /// of a pool being needed as far as the pool is filled.
    pub(crate) fn ideal(&self, pool_size: u64) -> u64 {
        let mut needed = 0;
        for (size, live) in &self.live_exclusive {
            let (mut blocks, mut filled) = (live.div_ceil(*size), 48);
            while blocks > 0 {
                while blocks > 0 && filled + size <= pool_size {
                    (filled, blocks) = (filled + size, blocks - 1);
                }
                needed += filled.div_ceil(4096) * 4096;
                filled = 48;
            }
        }
        self.exclusive.saturating_sub(needed)
    }
}

/// Recounts the target. Pools are `pool_size` bytes (4096 up to 3.9, 16384 later).
pub(crate) fn recount(pid: u32, pool_size: usize) -> Recount {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut sum = Recount::default();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, permissions) = (words.next().unwrap(), words.next().unwrap());
        // Arenas have no name; the heap of brk holds none.
        if permissions != "rw-p" || words.nth(3).is_some() {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let hex = |s| u64::from_str_radix(s, 16).unwrap();
        let end = hex(end);
        let mut pool = hex(start).next_multiple_of(pool_size as u64);
        while pool + pool_size as u64 <= end {
            if let Some(page) = entries(&pagemap, pool, pool_size) {
                count(&memory, pool, pool_size, &page, &mut sum);
            }
            pool += pool_size as u64;
        }
    }
    sum
}

/// Pagemap entries of a pool's pages, if its first is present.
fn entries(pagemap: &File, pool: u64, pool_size: usize) -> Option<Vec<u64>> {
    let mut bytes = vec![0; pool_size / PAGE * 8];
    pagemap.read_exact_at(&mut bytes, pool / PAGE as u64 * 8).ok()?;
    let all: Vec<u64> =
        bytes.chunks(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).collect();
    (all[0] >> 63 == 1).then_some(all)
}

fn count(memory: &File, pool: u64, pool_size: usize, pages: &[u64], sum: &mut Recount) {
    let mut bytes = vec![0; pool_size];
    for (k, entry) in pages.iter().enumerate() {
        if entry >> 63 == 1 {
            let part = &mut bytes[k * PAGE..(k + 1) * PAGE];
            memory.read_exact_at(part, pool + (k * PAGE) as u64).unwrap();
        }
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (used, class, next) = (u32_at(0), u32_at(36), u32_at(40));
    let size = 16 * (class + 1);
    let is_pool = class < 32
        && u32_at(4) == 0
        && u32_at(44) == pool_size - size
        && next >= 48 + size
        && next <= pool_size
        && (next - 48) % size == 0
        && used <= (next - 48) / size;
    if !is_pool {
        return;
    }
    // Marks: 'h' header, 'f' freed, 'l' live, ' ' never handed out.
    let mut marks = vec![b' '; pool_size];
    marks[..48].fill(b'h');
    marks[48..next].fill(b'l');
    let mut block = u64_at(8);
    let mut freed = 0;
    while block != 0 && freed <= 1024 {
        let at = block.wrapping_sub(pool) as usize;
        if at < 48 || at + size > next || !(at - 48).is_multiple_of(size) {
            return;
        }
        marks[at..at + size].fill(b'f');
        freed += 1;
        block = u64_at(at);
    }
    if freed + used != (next - 48) / size {
        return;
    }
    *(if used > 0 { &mut sum.used_pools } else { &mut sum.empty_pools }) += 1;
    sum.add_to_arena(pool, u32_at(32), used > 0);
    if used > 0 {
        sum.pins.entry(size as u64).or_default().0 += used as u64;
    }
    for (k, entry) in pages.iter().enumerate() {
        if entry >> 63 == 0 {
            continue;
        }
        let has =
            |mark| marks[k * PAGE..(k + 1) * PAGE].iter().filter(|m| **m == mark).count() as u64;
        let page = PAGE as u64;
        let exclusive = page * (entry >> 56 & 1);
        sum.exclusive += exclusive;
        if exclusive > 0 && used > 0 {
            *sum.live_exclusive.entry(size as u64).or_default() += has(b'l');
        }
        if used > 0 && has(b'l') > 0 {
            sum.pins.entry(size as u64).or_default().1 += page - has(b'l');
        }
        if used == 0 {
            sum.free_pools += page;
            sum.droppable += exclusive;
        } else if has(b'l') + has(b'h') == 0 {
            sum.holes += page;
            sum.droppable += exclusive;
        } else {
            sum.live += has(b'l');
            sum.pinned_free += has(b'f');
        }
    }
}
