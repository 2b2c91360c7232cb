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
    /// What dropping all free pools and all holes gives back: exclusively mapped pages only.
    pub(crate) purge: u64,
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

impl Recount {
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
        self.purge.max(self.exclusive.saturating_sub(needed))
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
            sum.purge += exclusive;
        } else if has(b'l') + has(b'h') == 0 {
            sum.holes += page;
            sum.purge += exclusive;
        } else {
            sum.live += has(b'l');
            sum.pinned_free += has(b'f');
        }
    }
}
