//! The quick look: pool headers only, 48 bytes a pool.
//!
//! Owns what `ps` shows of a process: live bytes and the fragmentation of pymalloc's arenas. Free lists
//! are not followed, so where on their pools' OS pages the live blocks lie is not known; live blocks are
//! counted as resident.

use std::sync::atomic::{AtomicUsize, Ordering};

use pydefrag_heap::OS_PAGE;
use pydefrag_image::{Image, ReadError};
use pydefrag_layout::pymalloc::{self, POOL_HEADER, block_size};

use crate::agent::missing;
use crate::obmalloc::{ListedArena, State};

/// Sums of the headers of all arenas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeaderTotals {
    /// Resident bytes of the arenas.
    pub resident: u64,
    /// Bytes of live blocks.
    pub live: u64,
    /// Live blocks.
    pub used_blocks: u64,
    /// Pools with live blocks.
    pub used_pools: u64,
    /// Carved pools without, but for those that are parked.
    pub free_pools: u64,
    /// Headers that could not be understood.
    pub torn: u64,
}

impl HeaderTotals {
    /// 100 · (resident − live) / resident.
    pub fn fragmentation_percent(&self) -> Option<f64> {
        (self.resident > 0)
            .then(|| 100.0 * self.resident.saturating_sub(self.live) as f64 / self.resident as f64)
    }

    fn add(&mut self, other: &HeaderTotals) {
        self.resident += other.resident;
        self.live += other.live;
        self.used_blocks += other.used_blocks;
        self.used_pools += other.used_pools;
        self.free_pools += other.free_pools;
        self.torn += other.torn;
    }
}

/// Arenas whose headers a worker reads in one turn.
const ARENAS_A_BATCH: usize = 32;
const TRIES: usize = 20;

/// Reads the headers of all carved pools.
pub fn headers(image: &Image, states: &[State]) -> Result<HeaderTotals, ReadError> {
    let batches: Vec<(&State, &[ListedArena])> = states
        .iter()
        .flat_map(|s| s.arenas.chunks(ARENAS_A_BATCH).map(move |arenas| (s, arenas)))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<HeaderTotals, ReadError> {
        let mut sum = HeaderTotals::default();
        while let Some((state, arenas)) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            sum.add(&batch(image, state, arenas)?);
        }
        Ok(sum)
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(batches.len());
    if workers < 2 {
        return work();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut sum = HeaderTotals::default();
        for t in threads {
            sum.add(&t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))?);
        }
        Ok(sum)
    })
}

fn batch(image: &Image, state: &State, arenas: &[ListedArena]) -> Result<HeaderTotals, ReadError> {
    let g = state.geometry;
    let mut sum = HeaderTotals::default();
    let mut ranges = Vec::new();
    // By range: OS pages that were dropped inside the pool.
    let mut dropped = Vec::new();
    for (a, done) in arenas.iter().map(|a| (a.arena, a.done)) {
        let mut unnamed = if done.is_none() { missing(&a, g) } else { 0 };
        sum.resident += image.residency.tally(a.address, a.address + g.arena_size).resident;
        let mut runs = image.residency.runs_in(a.address, a.pool_address).peekable();
        let pools = (g.first_pool(a.address)..a.pool_address).step_by(g.pool_size as usize);
        for (n, pool) in (0..).zip(pools) {
            if done.is_some_and(|d| d.is_parked(n)) {
                continue;
            }
            while runs.next_if(|r| r.end <= pool).is_some() {}
            match runs.peek() {
                Some(r) if r.start <= pool && r.resident => {
                    ranges.push((pool, POOL_HEADER));
                    dropped.push(done.map_or(0, |d| d.dropped(n)));
                }
                Some(r) if r.start < pool + OS_PAGE && !r.resident => {}
                _ if unnamed > 0 => unnamed -= 1,
                _ => sum.free_pools += 1,
            }
        }
    }
    let mut bytes = vec![0; ranges.len() * POOL_HEADER];
    image.memory().read_scattered(&ranges, &mut bytes)?;
    let heads = bytes.chunks_exact_mut(POOL_HEADER);
    for (((address, _), dropped), head) in ranges.iter().zip(dropped).zip(heads) {
        let header_of = match dropped {
            0 => pymalloc::pool_header,
            _ => pymalloc::pool_header_losing,
        };
        let mut header = header_of(head, *address, g);
        for _ in 0..TRIES {
            if header.is_some() || image.memory().read(*address, head).is_err() {
                break;
            }
            header = header_of(head, *address, g);
        }
        match header {
            None => sum.torn += 1,
            Some(h) if h.used == 0 => sum.free_pools += 1,
            Some(h) => {
                sum.used_pools += 1;
                sum.used_blocks += u64::from(h.used);
                sum.live += u64::from(h.used) * block_size(h.class.unwrap_or(0));
            }
        }
    }
    Ok(sum)
}
