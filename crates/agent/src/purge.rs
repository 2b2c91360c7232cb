//! A purge: one pass over pymalloc's arenas in slices of the GIL, moving nothing.
//!
//! Of each arena: free pools are parked and dropped (in those that the next requests are served from, only
//! their pages but the first), free tails and dead pages of pools in use dropped, pages never carved dropped.
//! Then each ring is sorted. Between two slices the program runs, and pymalloc's structures are whole.
//!
//! Left alone: what a fork still shares, what is swapped out, what does not validate; each is counted.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use pydefrag_layout::agent::{Entry, RESERVE};
use pydefrag_layout::pymalloc::{CLASSES, DUMMY_CLASS};

use crate::arenas::{self, ArenaAt, LEAST_POOLS};
use crate::memory::{drop_pages, get, put};
use crate::pages::{OS_PAGE, Page, PageMap, Pages};
use crate::place::Place;
use crate::pool::{self, Leave};
use crate::python::{Attachment, Held};
use crate::rings;
use crate::table::table;

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub(crate) struct Purged {
    /// Free pools taken off pymalloc's books, in this pass.
    pub(crate) pools_parked: u64,
    /// Pools in use of which pages were dropped.
    pub(crate) pools_trimmed: u64,
    /// OS pages given back, in bytes.
    pub(crate) bytes_dropped: u64,
    /// How often the GIL was taken.
    pub(crate) slices: u64,
    /// Longest time that it was held, in microseconds.
    pub(crate) longest_slice_us: u64,
    /// Time that it was held in all, in milliseconds.
    pub(crate) gil_ms: f64,
    /// Arenas seen.
    pub(crate) arenas: u64,
    /// Arenas left alone for a page that a fork shares.
    pub(crate) arenas_shared: u64,
    /// Arenas left alone for a page that is swapped out.
    pub(crate) arenas_swapped: u64,
    /// Arenas or pools that did not validate and were left alone.
    pub(crate) invalid: u64,
    /// Rings that were too long to be sorted.
    pub(crate) rings_unsorted: u64,
}

/// The program gets at least this long between two slices, and a quarter of a slice.
const BREATH: Duration = Duration::from_micros(500);

/// Work that is done slice by slice: each call does a small part, and says whether more is left.
pub(crate) fn sliced(
    attachment: &Attachment,
    slice: Duration,
    stop: &dyn Fn() -> bool,
    purged: &mut Purged,
    mut part: impl FnMut(&Held, &mut Purged) -> Result<bool, String>,
) -> Result<(), String> {
    loop {
        if stop() {
            return Ok(());
        }
        let more = attachment.held(|held| {
            let begun = Instant::now();
            let more = loop {
                match part(held, purged) {
                    Ok(true) if begun.elapsed() < slice => {}
                    other => break other,
                }
            };
            let took = begun.elapsed();
            purged.slices += 1;
            purged.longest_slice_us = purged.longest_slice_us.max(took.as_micros() as u64);
            purged.gil_ms += took.as_secs_f64() * 1e3;
            more
        });
        match more {
            None | Some(Ok(false)) => return Ok(()),
            Some(Ok(true)) => std::thread::sleep(BREATH.max(slice / 4)),
            Some(Err(e)) => return Err(e),
        }
    }
}

/// A pass that is under way.
pub(crate) struct Pass<'a> {
    place: &'a Place,
    next: usize,
    class: usize,
    /// A page of some arena is shared or swapped out.
    touchy: bool,
    /// Arenas from which the next requests for a pool are served: their free pools stay on the books.
    reserve: HashSet<u64>,
    map: Option<PageMap>,
}

impl<'a> Pass<'a> {
    /// A pass over all arenas.
    pub(crate) fn new(place: &'a Place) -> Pass<'a> {
        Pass { place, next: 0, class: 0, touchy: false, reserve: HashSet::new(), map: None }
    }

    /// One slice: parts until the time is up.
    pub(crate) fn run(
        &mut self,
        attachment: &Attachment,
        slice: Duration,
        stop: &dyn Fn() -> bool,
        purged: &mut Purged,
    ) -> Result<(), String> {
        let mut slices = u64::MAX;
        sliced(attachment, slice, stop, purged, |held, purged| {
            if slices != purged.slices {
                // A new slice: the program ran, and may have closed any descriptor.
                slices = purged.slices;
                self.map = Some(PageMap::open()?);
                if self.next == 0 {
                    arenas::check(held, self.place)?;
                    let (_, most) = arenas::array(held, self.place);
                    table().grow(held, most);
                    self.reserve = reserve(held, self.place);
                }
            }
            Ok(self.part(held, purged))
        })
    }

    /// The next arena, and after the last one the next ring.
    fn part(&mut self, held: &Held, purged: &mut Purged) -> bool {
        let (_, most) = arenas::array(held, self.place);
        while self.next < most {
            let index = self.next;
            self.next += 1;
            if let Some(a) = arenas::nth(held, self.place, index) {
                self.arena(held, &a, purged);
                return true;
            }
        }
        // The links of a ring run through any arena: with a page shared anywhere none is written, with one swapped out none read.
        if self.class < CLASSES && !self.touchy {
            if !rings::sort(held, self.place, self.class) {
                purged.rings_unsorted += 1;
            }
            self.class += 1;
            return true;
        }
        false
    }

    fn arena(&mut self, held: &Held, a: &ArenaAt, purged: &mut Purged) {
        purged.arenas += 1;
        let Some(map) = &self.map else { return };
        let g = self.place.geometry;
        let (Some(pages), Some(own)) = (map.arena(a.arena.address), map.page(a.object)) else {
            purged.invalid += 1;
            return;
        };
        // A table that grew after the pass began has no entry for arenas born since.
        let mut entry = table().entry(held, a.index);
        if !entry.is_of(&a.arena, g) {
            entry = Entry { address: a.arena.address, ..Default::default() };
            if !entry.is_of(&a.arena, g) {
                purged.invalid += 1;
                return;
            }
        }
        let first = g.first_pool(a.arena.address);
        let is_parked = |at: u64| at >= first && entry.is_parked((at - first) / g.pool_size);
        if pages.shares(is_parked) || !own.is_ours() {
            self.touchy = true;
            purged.arenas_shared += 1;
            return;
        }
        if pages.swapped() {
            self.touchy = true;
            purged.arenas_swapped += 1;
            return;
        }
        self.virgin(held, a, &pages, purged);
        let free = self.free_pools(held, a, &mut entry, purged);
        self.used_pools(held, a, &mut entry, &pages, &free, purged);
        table().set_entry(held, a.index, &entry);
    }

    /// Pages that were never carved, yet are there.
    fn virgin(&self, held: &Held, a: &ArenaAt, pages: &Pages, purged: &mut Purged) {
        let g = self.place.geometry;
        let end = g.first_pool(a.arena.address) + g.pools_in(a.arena.address) * g.pool_size;
        give(held, pages, a.arena.pool_address, end, purged);
    }

    /// Parks the free pools, or drops their pages. Returns those that were on the list.
    fn free_pools(
        &self,
        held: &Held,
        a: &ArenaAt,
        entry: &mut Entry,
        purged: &mut Purged,
    ) -> Vec<u64> {
        let g = self.place.geometry;
        let mut pools = Vec::new();
        let mut at = a.freepools(held);
        while at != 0 {
            let valid = a.has_pool(at, g) && pools.len() < 64 && !pools.contains(&at);
            // SAFETY: the header of a carved pool; it is present, for the list runs through it.
            if !valid || unsafe { get::<u32>(held, at) } != 0 {
                purged.invalid += 1;
                return pools;
            }
            pools.push(at);
            // SAFETY: the same.
            at = unsafe { get(held, at + 16) };
        }
        if pools.is_empty() {
            return pools;
        }
        let whole = a.arena.nfreepools == a.arena.ntotalpools;
        let keep = if whole || self.reserve.contains(&a.arena.address) {
            pools.len()
        } else {
            let left = a.arena.ntotalpools - pools.len() as u32;
            LEAST_POOLS.saturating_sub(left) as usize
        };
        // In order of address, the lowest first: what is taken next packs the arena's front.
        pools.sort_unstable();
        let (kept, parked) = pools.split_at(keep);
        if !parked.is_empty() {
            arenas::park(held, self.place, a, entry, parked, kept);
            purged.pools_parked += parked.len() as u64;
        }
        let Some(pages) = self.map.as_ref().and_then(|m| m.arena(a.arena.address)) else {
            return pools;
        };
        let mut runs = parked.iter().copied().peekable();
        while let Some(start) = runs.next() {
            let mut end = start + g.pool_size;
            while runs.next_if_eq(&end).is_some() {
                end += g.pool_size;
            }
            give(held, &pages, start, end, purged);
        }
        for pool in kept {
            // SAFETY: the header of a free pool; without a class it is initialised before it is used.
            unsafe { put(held, pool + 36, DUMMY_CLASS) };
            give(held, &pages, pool + OS_PAGE, pool + g.pool_size, purged);
            entry.set_dropped(a.number(*pool, g), 0);
        }
        pools
    }

    fn used_pools(
        &self,
        held: &Held,
        a: &ArenaAt,
        entry: &mut Entry,
        pages: &Pages,
        free: &[u64],
        purged: &mut Purged,
    ) {
        let g = self.place.geometry;
        let first = g.first_pool(a.arena.address);
        for address in (first..a.arena.pool_address).step_by(g.pool_size as usize) {
            let n = a.number(address, g);
            if entry.is_parked(n) || free.contains(&address) {
                continue;
            }
            let (used, class) = pool::filling(held, address);
            if used == 0 || class as usize >= CLASSES {
                purged.invalid += 1;
                continue;
            }
            let of: [Page; 4] = std::array::from_fn(|k| pages.at(address + k as u64 * OS_PAGE));
            // SAFETY: a pool of an arena in use, whose header and free blocks only change under the GIL; the
            // plan reads no others.
            let bytes = unsafe {
                std::slice::from_raw_parts(address as usize as *const u8, g.pool_size as usize)
            };
            let plan = match pool::plan(bytes, address, g, of, entry.dropped(n)) {
                Ok(plan) => plan,
                Err(Leave::Nothing) => continue,
                Err(Leave::Invalid) => {
                    purged.invalid += 1;
                    continue;
                }
            };
            // SAFETY: made of these bytes just now; the arena has no page that is shared or swapped.
            unsafe { pool::carry_out(held, address, class as u8, &plan) };
            entry.set_dropped(n, plan.dropped);
            let mut k = 0;
            while k < 4 {
                let from = k;
                while k < 4 && plan.drop >> k & 1 == 1 {
                    k += 1;
                }
                if k > from {
                    let (start, end) = (address + from * OS_PAGE, address + k * OS_PAGE);
                    // SAFETY: pages of the pool without a live byte or a link, by the plan.
                    if unsafe { drop_pages(held, start, end) } {
                        purged.bytes_dropped += end - start;
                    }
                }
                k += 1;
            }
            purged.pools_trimmed += 1;
        }
    }
}

/// Drops the pages of a range without a live byte that are there.
fn give(held: &Held, pages: &Pages, start: u64, end: u64, purged: &mut Purged) {
    let there = pages.range(start, end).filter(|p| p.1.present).count() as u64;
    // SAFETY: whole pages of free pools or of pools never carved, in an arena in use.
    if there > 0 && unsafe { drop_pages(held, start, end) } {
        purged.bytes_dropped += there * OS_PAGE;
    }
}

/// The arenas with the fewest free pools, until those are enough.
fn reserve(held: &Held, place: &Place) -> HashSet<u64> {
    let mut of: Vec<_> = (0..arenas::array(held, place).1)
        .filter_map(|i| arenas::nth(held, place, i))
        .filter(|a| a.arena.nfreepools > 0)
        .map(|a| (a.arena.nfreepools, a.arena.address))
        .collect();
    of.sort_unstable();
    let mut free = 0;
    let enough = |(pools, address): (u32, u64)| {
        let before = free;
        free += u64::from(pools);
        (before < RESERVE && free <= 2 * RESERVE).then_some(address)
    };
    of.into_iter().map_while(enough).collect()
}
