//! pymalloc walked: every arena of every interpreter, pool by pool, a worker per core.
//!
//! Owns the reading of arenas in one piece each, the retries of torn pools, and the sums. Reads only
//! OS pages that residency shows present.

use std::sync::atomic::{AtomicUsize, Ordering};

use pydefrag_heap::{
    Account, Detail, InterpreterHeap, OS_PAGE, PoolRecord, PoolState, Pymalloc, SizeClass, Torn,
    request_fit,
};
use pydefrag_image::{Image, ReadError, Tally};
use pydefrag_layout::agent::{self, FEWEST_POOLS};
use pydefrag_layout::pymalloc::{Arena, CLASSES, Geometry, POOL_HEADER, block_size};

use crate::agent::{Done, missing};
use crate::freerun::FreeRuns;
use crate::obmalloc::{ListedArena, State, still_there};
use crate::pool::{self, Dropped, MOST_PAGES, Pages, Pool};

/// A torn pool is read this often before it is given up. One read of a pool takes about as long as
/// the target needs for a few dozen allocations, and only a pool in use at that moment is torn.
const TRIES: u32 = 200;
const MOST_WORKERS: usize = 8;
/// Neighbouring arenas share the target's page tables, whose locks two workers would fight for.
const ARENAS_A_TURN: usize = 16;

/// All pymalloc heaps of a process, walked.
#[derive(Debug)]
pub struct Walk {
    /// Counts.
    pub pymalloc: Pymalloc,
    /// One account and residency per interpreter, in the order of `pymalloc.interpreters`.
    pub accounts: Vec<(Account, Tally)>,
    /// Bytes that a purge gives back.
    pub purge: u64,
    /// Bytes that perfect packing gives back, at least `purge`.
    pub ideal: u64,
    /// What was torn.
    pub torn: Torn,
    /// Pool by pool.
    pub detail: Detail,
    /// Addresses of the arenas, with the index of their interpreter.
    pub arenas: Vec<(u64, usize)>,
    /// By pool of `detail`: bit k is set where its k-th OS page is a hole.
    pub(crate) holes: Vec<u8>,
    /// By pool of `detail`: bit k is set where a purge gives its k-th OS page back, if it is this process's alone.
    pub(crate) purged: Vec<u8>,
    /// By arena: whether a purge gives anything back of it.
    pub(crate) purges: Vec<bool>,
}

/// What one arena holds.
#[derive(Default)]
struct ArenaWalk {
    account: Account,
    tally: Tally,
    classes: [SizeClass; CLASSES],
    free_pools: u64,
    uncarved_pools: u64,
    parked_pools: u64,
    /// Resident and mapped by this process only, pools that could not be read left out.
    exclusive: u64,
    /// Live bytes on such pages, by size class.
    live_exclusive: [u64; CLASSES],
    runs: FreeRuns,
    torn: Torn,
    pools: Vec<PoolRecord>,
    holes: Vec<u8>,
    bitmaps: Vec<u64>,
    /// By pool: bit k is set where a purge gives its k-th OS page back.
    purged: Vec<u8>,
    /// Bytes that it gives back of pools never carved.
    virgin: u64,
    /// Indices of the free pools that are not parked.
    free: Vec<usize>,
    /// A page is shared with another process, or swapped out: a purge leaves the arena alone.
    alone: bool,
    gone: bool,
}

/// Where one arena's pool stands.
enum Found {
    Pool(Pool),
    /// Its header was dropped together with the pool, and nobody says why: free.
    Absent,
    Parked,
    Unread,
}

/// Walks the arenas of all states. The error is a process that is gone or forbids reading.
pub fn walk(image: &Image, states: &[State]) -> Result<Walk, ReadError> {
    let jobs: Vec<(usize, Geometry, &ListedArena)> = states
        .iter()
        .enumerate()
        .flat_map(|(i, s)| s.arenas.iter().map(move |a| (i, s.geometry, a)))
        .collect();
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
    let work = || -> Result<Vec<(usize, ArenaWalk)>, ReadError> {
        let mut buffer = Vec::new();
        let mut done = Vec::new();
        loop {
            let first = ARENAS_A_TURN * next.fetch_add(1, Ordering::Relaxed);
            if first >= jobs.len() {
                return Ok(done);
            }
            let turn = jobs.iter().enumerate().skip(first).take(ARENAS_A_TURN);
            for (i, (interpreter, geometry, listed)) in turn {
                let arena = ArenaReader { image, geometry: *geometry, listed, buffer: &mut buffer };
                done.push((i, arena.walk(*interpreter as u16)?));
            }
        }
    };
    let mut walked = if jobs.len() <= 2 * ARENAS_A_TURN || workers < 2 {
        work()?
    } else {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let mut all = Vec::with_capacity(jobs.len());
            for t in threads {
                all.extend(t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))?);
            }
            Ok::<_, ReadError>(all)
        })?
    };
    walked.sort_unstable_by_key(|(i, _)| *i);
    let mut walked: Vec<_> =
        walked.into_iter().map(|(i, w)| (jobs[i].0, jobs[i].2.arena, w)).collect();
    let purges = model_purge(states, &mut walked);
    Ok(sum(states, walked.into_iter().zip(purges)))
}

/// Takes from what could be given back what a purge leaves: arenas of sizes, interpreters or pages that are none of
/// its, and the first OS pages of the free pools that stay on their lists. Returns of which arenas it gives anything.
fn model_purge(states: &[State], walked: &mut [(usize, Arena, ArenaWalk)]) -> Vec<bool> {
    let mut counts: Vec<_> = walked
        .iter()
        .filter(|(i, a, _)| *i == 0 && a.nfreepools > 0)
        .map(|(_, a, _)| (a.nfreepools, a.address))
        .collect();
    counts.sort_unstable();
    counts.truncate(agent::reserve(counts.iter().map(|c| c.0)));
    let one = |(i, arena, w): &mut (usize, Arena, ArenaWalk)| {
        // Only the main interpreter's, which is the first.
        if *i > 0 || w.alone || !agent::purges(states[*i].geometry) {
            w.purged.fill(0);
            w.virgin = 0;
            return false;
        }
        let stay = match counts.binary_search(&(arena.nfreepools, arena.address)) {
            Ok(_) => w.free.len(),
            Err(_) => {
                let others = u64::from(arena.ntotalpools).saturating_sub(w.free.len() as u64);
                FEWEST_POOLS.saturating_sub(others) as usize
            }
        };
        for pool in w.free.iter().take(stay) {
            w.purged[*pool] &= !1;
        }
        true
    };
    walked.iter_mut().map(one).collect()
}

/// Sums the arenas, in order of interpreter and address.
fn sum(states: &[State], walked: impl Iterator<Item = ((usize, Arena, ArenaWalk), bool)>) -> Walk {
    let geometry = states.first().map_or(Geometry::LARGE, |s| s.geometry);
    let mut heaps: Vec<_> = states
        .iter()
        .map(|s| InterpreterHeap {
            id: s.interpreter,
            arenas: 0,
            free_pools: 0,
            uncarved_pools: 0,
            parked_pools: 0,
            classes: Vec::new(),
        })
        .collect();
    let mut classes = vec![[SizeClass::default(); CLASSES]; states.len()];
    let mut accounts = vec![(Account::default(), Tally::default()); states.len()];
    let mut detail = Detail { pool_size: geometry.pool_size as u32, ..Default::default() };
    let (mut purge, mut exclusive, mut torn) = (0, 0, Torn::default());
    let mut live_exclusive = vec![[0u64; CLASSES]; states.len()];
    let (mut arenas, mut runs, mut end) = (Vec::new(), FreeRuns::default(), 0);
    let (mut holes, mut purged, mut purges) = (Vec::new(), Vec::new(), Vec::new());
    for ((i, Arena { address, .. }, w), any) in walked {
        torn.pools += w.torn.pools;
        torn.retried += w.torn.retried;
        torn.left += w.torn.left;
        if w.gone {
            torn.arenas_gone += 1;
            continue;
        }
        let (heap, (account, tally)) = (&mut heaps[i], &mut accounts[i]);
        heap.arenas += 1;
        heap.free_pools += w.free_pools;
        heap.uncarved_pools += w.uncarved_pools;
        heap.parked_pools += w.parked_pools;
        for (sum, c) in classes[i].iter_mut().zip(&w.classes) {
            sum.pools += c.pools;
            sum.used_blocks += c.used_blocks;
            sum.free_blocks += c.free_blocks;
        }
        account.add(&w.account);
        tally.resident += w.tally.resident;
        tally.swapped += w.tally.swapped;
        tally.huge += w.tally.huge;
        tally.shared += w.tally.shared;
        let back = w.pools.iter().zip(&w.purged).map(|(p, back)| p.resident & p.exclusive & back);
        purge += w.virgin + OS_PAGE * back.map(|b| u64::from(b.count_ones())).sum::<u64>();
        exclusive += w.exclusive;
        for (sum, live) in live_exclusive[i].iter_mut().zip(w.live_exclusive) {
            *sum += live;
        }
        if end != address {
            runs.interrupt();
        }
        end = address + geometry.arena_size;
        runs.join(&w.runs);
        arenas.push((address, i));
        let base = detail.bitmaps.len() as u32;
        detail.pools.extend(w.pools.iter().map(|p| PoolRecord { bitmap: p.bitmap + base, ..*p }));
        detail.bitmaps.extend(&w.bitmaps);
        holes.extend(&w.holes);
        purged.extend(&w.purged);
        purges.push(any);
    }
    for (heap, classes) in heaps.iter_mut().zip(classes) {
        heap.classes = (0..CLASSES as u8)
            .map(|c| SizeClass { size: block_size(c), ..classes[c as usize] })
            .filter(|c| c.pools > 0)
            .collect();
    }
    let mut pymalloc = Pymalloc::of(geometry.arena_size, geometry.pool_size, heaps);
    let free_pool_bytes = (pymalloc.free_pools + pymalloc.uncarved_pools) * geometry.pool_size;
    pymalloc.largest_free_run = runs.longest;
    pymalloc.free_bytes =
        free_pool_bytes + pymalloc.classes.iter().map(|c| c.free_blocks * c.size).sum::<u64>();
    pymalloc.fit = request_fit(&pymalloc.classes, free_pool_bytes);
    let packed: u64 = live_exclusive
        .iter()
        .flat_map(|classes| classes.iter().enumerate())
        .map(|(class, live)| {
            let size = block_size(class as u8);
            let blocks = SizeClass { size, used_blocks: live.div_ceil(size), ..Default::default() };
            blocks.packed_bytes(geometry.pool_size, POOL_HEADER as u64)
        })
        .sum();
    let ideal = exclusive.saturating_sub(packed).max(purge);
    Walk { pymalloc, accounts, purge, ideal, torn, detail, arenas, holes, purged, purges }
}

/// One arena being read.
struct ArenaReader<'a> {
    image: &'a Image,
    geometry: Geometry,
    listed: &'a ListedArena,
    buffer: &'a mut Vec<u8>,
}

/// Residency of an arena, page by page, and where each page's bytes are in the buffer.
struct ArenaPages {
    flags: Vec<PageFlags>,
    tally: Tally,
}

#[derive(Clone, Copy, Default)]
struct PageFlags {
    resident: bool,
    exclusive: bool,
    swapped: bool,
    /// Index in the buffer, in pages, of a page that was read.
    at: u32,
}

impl ArenaReader<'_> {
    fn walk(mut self, interpreter: u16) -> Result<ArenaWalk, ReadError> {
        let (g, arena) = (self.geometry, self.listed.arena);
        let first = g.first_pool(arena.address);
        let mut pages = self.pages();
        let mut out = ArenaWalk { tally: pages.tally, ..Default::default() };
        if !self.read_carved(&mut pages, first)? {
            out.gone = true;
            return Ok(out);
        }
        out.exclusive =
            OS_PAGE * pages.flags.iter().filter(|p| p.resident && p.exclusive).count() as u64;
        out.alone = pages.flags.iter().any(|p| p.swapped || p.resident && !p.exclusive);
        let page_of = |address: u64| ((address - arena.address) / OS_PAGE) as usize;
        let per_pool = (g.pool_size / OS_PAGE) as usize;
        self.edge(&pages, 0..page_of(first), &mut out);
        let mut scratch = vec![0; g.pool_size as usize];
        // Their pages are not among the resident ones, whatever is on them.
        let hugetlb = self.image.mapping_at(arena.address).is_some_and(|m| m.hugetlb > 0);
        // Parked pools that nobody names are those that are not there.
        let mut unnamed = if self.listed.done.is_none() { missing(&arena, g) } else { 0 };
        for n in 0..g.pools_in(arena.address) {
            let address = first + n * g.pool_size;
            let flags = &pages.flags[page_of(address)..][..per_pool];
            let there = pool_pages(flags);
            if address >= arena.pool_address {
                out.uncarved_pools += 1;
                out.account.virgin += there.resident_bytes();
                out.virgin += there.returnable_bytes();
                pool::free_bytes(0, g.pool_size, there, &mut out.runs);
                continue;
            }
            out.torn.pools += 1;
            let whole = flags.windows(2).all(|w| w[1].at == w[0].at + 1);
            let bytes = if whole && there.resident.count_ones() as usize == per_pool {
                &self.buffer[flags[0].at as usize * OS_PAGE as usize..][..g.pool_size as usize]
            } else {
                gather(self.buffer, flags, &mut scratch);
                &scratch
            };
            let found = if self.listed.done.is_some_and(|d| d.is_parked(n)) {
                Found::Parked
            } else if there.resident & 1 == 1 {
                self.pool(bytes, address, n, there, &mut out)?
            } else if there.swapped & 1 == 1 || hugetlb {
                Found::Unread
            } else if unnamed > 0 {
                unnamed -= 1;
                Found::Parked
            } else {
                Found::Absent
            };
            let mut record = PoolRecord {
                address,
                interpreter,
                class: 0,
                state: PoolState::Unread,
                used: 0,
                carved: 0,
                resident: there.resident,
                exclusive: there.exclusive,
                bitmap: out.bitmaps.len() as u32,
            };
            let (mut holes, mut purged) = (0, u8::MAX);
            match found {
                Found::Pool(pool) => {
                    (holes, purged) = self.take(pool, there, &mut record, &mut out);
                }
                Found::Absent => {
                    record.state = PoolState::Free;
                    out.free_pools += 1;
                    self.take_free(there, &mut out);
                }
                // Should a page of it be there again, it is as free as any.
                Found::Parked => {
                    record.state = PoolState::Free;
                    out.parked_pools += 1;
                    self.take_free(there, &mut out);
                }
                Found::Unread => {
                    out.account.unread += there.resident_bytes();
                    out.exclusive -= there.returnable_bytes();
                    out.runs.interrupt();
                    purged = 0;
                }
            }
            out.pools.push(record);
            out.holes.push(holes);
            out.purged.push(purged);
        }
        let end = page_of(first + g.pools_in(arena.address) * g.pool_size);
        self.edge(&pages, end..pages.flags.len(), &mut out);
        if out.torn.left > 0 && !still_there(self.image, self.listed) {
            return Ok(ArenaWalk {
                gone: true,
                torn: Torn { left: 0, ..out.torn },
                ..Default::default()
            });
        }
        Ok(out)
    }

    /// OS pages of an arena that is not aligned to its pools and so no pool covers.
    fn edge(&self, pages: &ArenaPages, range: std::ops::Range<usize>, out: &mut ArenaWalk) {
        if !range.is_empty() {
            let resident = pages.flags[range].iter().filter(|p| p.resident).count() as u64;
            out.account.metadata += OS_PAGE * resident;
            out.runs.interrupt();
        }
    }

    fn pages(&self) -> ArenaPages {
        let (start, size) = (self.listed.arena.address, self.geometry.arena_size);
        let mut flags = vec![PageFlags::default(); (size / OS_PAGE) as usize];
        for run in self.image.residency.runs_in(start, start + size) {
            let pages = (run.start - start) / OS_PAGE..(run.end - start) / OS_PAGE;
            for p in &mut flags[pages.start as usize..pages.end as usize] {
                p.resident = run.resident;
                p.exclusive = run.resident && !run.shared;
                p.swapped = !run.resident;
            }
        }
        ArenaPages { flags, tally: self.image.residency.tally(start, start + size) }
    }

    /// Reads the resident pages of carved pools; false when the arena is gone.
    fn read_carved(&mut self, pages: &mut ArenaPages, first: u64) -> Result<bool, ReadError> {
        const PIECE: usize = OS_PAGE as usize;
        let start = self.listed.arena.address;
        let carved = (first - start) / OS_PAGE..(self.listed.arena.pool_address - start) / OS_PAGE;
        let mut ranges: Vec<(u64, usize)> = Vec::new();
        let mut read = 0;
        for i in carved.start as usize..carved.end as usize {
            let page = &mut pages.flags[i];
            if !page.resident {
                continue;
            }
            page.at = read;
            read += 1;
            let address = start + i as u64 * OS_PAGE;
            match ranges.last_mut() {
                Some((from, length)) if *from + *length as u64 == address => *length += PIECE,
                _ => ranges.push((address, PIECE)),
            }
        }
        let bytes = read as usize * PIECE;
        if self.buffer.len() < bytes {
            self.buffer.resize(bytes, 0);
        }
        let failed = self.image.memory().read_scattered(&ranges, &mut self.buffer[..bytes])?;
        // Pieces that failed are zero, and no zero page is a pool: they will be torn.
        Ok(failed.is_empty() || still_there(self.image, self.listed))
    }

    /// Reads the n-th pool until it is consistent; it is unread when it stays torn or parts are swapped out.
    fn pool(
        &self,
        bytes: &[u8],
        address: u64,
        n: u64,
        there: Pages,
        out: &mut ArenaWalk,
    ) -> Result<Found, ReadError> {
        let dropped = |done: Option<Done>, zero: bool| {
            // What is swapped out looks like zeros, and has not been dropped.
            Dropped { pages: done.map_or(0, |d| d.dropped(n)) & !there.swapped, zero }
        };
        let mut done = self.listed.done;
        match pool::read(bytes, address, self.geometry, dropped(done, true)) {
            Ok(pool) => return Ok(Found::Pool(pool)),
            Err(_) if there.swapped != 0 => return Ok(Found::Unread),
            Err(pool::Torn) => {}
        }
        out.torn.retried += 1;
        let mut again = vec![0; self.geometry.pool_size as usize];
        let ranges: Vec<_> = (0..MOST_PAGES as u64)
            .filter(|k| there.resident >> k & 1 == 1)
            .map(|k| (address + k * OS_PAGE, OS_PAGE as usize))
            .collect();
        let mut packed = vec![0; ranges.len() * OS_PAGE as usize];
        for attempt in 0..TRIES {
            self.image.memory().read_scattered(&ranges, &mut packed)?;
            for (piece, (at, length)) in packed.chunks_exact(OS_PAGE as usize).zip(&ranges) {
                again[(at - address) as usize..][..*length].copy_from_slice(piece);
            }
            // The agent may have been here since.
            done = done.map(|d| d.again(self.image));
            if done.is_some_and(|d| d.is_parked(n)) {
                return Ok(Found::Parked);
            }
            if let Ok(pool) = pool::read(&again, address, self.geometry, dropped(done, false)) {
                return Ok(Found::Pool(pool));
            }
            // The target may be at work on this very pool: let it go on to another.
            if attempt % 16 == 15 {
                std::thread::yield_now();
            }
        }
        out.torn.left += 1;
        Ok(Found::Unread)
    }

    /// Adds a pool; the OS pages of it that are holes, and those that a purge gives back.
    fn take(
        &self,
        pool: Pool,
        there: Pages,
        record: &mut PoolRecord,
        out: &mut ArenaWalk,
    ) -> (u8, u8) {
        let g = self.geometry;
        let contents = match pool {
            Pool::Used(contents) => contents,
            Pool::Free(header) => {
                record.state = PoolState::Free;
                record.class = header.class.unwrap_or(0);
                record.carved = header.carved as u16;
                out.free_pools += 1;
                out.free.push(out.pools.len());
                self.take_free(there, out);
                return (0, u8::MAX);
            }
        };
        record.state = PoolState::Used;
        record.class = contents.class;
        record.used = contents.header.used as u16;
        record.carved = contents.header.carved as u16;
        out.bitmaps.extend(contents.bitmap());
        let sum = &mut out.classes[contents.class as usize];
        sum.pools += 1;
        sum.used_blocks += u64::from(contents.header.used);
        sum.free_blocks += g.blocks(contents.class) - u64::from(contents.header.used);
        let back = contents.account(g, there, &mut out.account);
        out.live_exclusive[contents.class as usize] += back.live_exclusive;
        contents.free_runs(g, there, &mut out.runs);
        (back.holes, back.purge)
    }

    /// A free pool: its header's bytes are metadata, all else a free span.
    fn take_free(&self, there: Pages, out: &mut ArenaWalk) {
        let header = if there.resident & 1 == 1 { POOL_HEADER as u64 } else { 0 };
        out.account.metadata += header;
        out.account.free_spans += there.resident_bytes() - header;
        pool::free_bytes(0, self.geometry.pool_size, there, &mut out.runs);
    }
}

fn pool_pages(flags: &[PageFlags]) -> Pages {
    let bits = |f: fn(&PageFlags) -> bool| {
        flags.iter().enumerate().fold(0, |bits, (k, p)| bits | u8::from(f(p)) << k)
    };
    Pages {
        resident: bits(|p| p.resident),
        exclusive: bits(|p| p.exclusive),
        swapped: bits(|p| p.swapped),
    }
}

/// Puts a pool's resident pages where they belong; absent ones are zero.
fn gather(buffer: &[u8], flags: &[PageFlags], into: &mut [u8]) {
    for (page, part) in flags.iter().zip(into.chunks_exact_mut(OS_PAGE as usize)) {
        match page.resident {
            true => {
                let at = page.at as usize * OS_PAGE as usize;
                part.copy_from_slice(&buffer[at..at + OS_PAGE as usize]);
            }
            false => part.fill(0),
        }
    }
}
