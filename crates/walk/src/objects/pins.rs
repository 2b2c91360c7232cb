//! Pins: what each group of live blocks keeps resident beyond its own bytes.
//!
//! Owns the formula (on an OS page with `n` live blocks, each keeps `4096/n` less its own bytes there),
//! what comes back when a group goes, is packed or moved, and the model of compaction: pools all of whose
//! blocks can be moved are emptied, the sparsest first, into free blocks of the denser ones.

use pydefrag_heap::{Detail, OS_PAGE, Pin};
use pydefrag_image::Image;
use rustc_hash::{FxHashMap, FxHashSet};

use super::blocks::{Blocks, Ordinal, Pool};

/// The sums of a group, in shares of bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    count: u64,
    bytes: u64,
    pinned: f64,
    gone: u64,
    moved: f64,
}

/// Groups of one sort: types, say.
#[derive(Default)]
struct Groups {
    shares: Vec<Share>,
    /// Of pages on which nothing else is live, by group and size class: pages, live bytes.
    alone: FxHashMap<(u32, u32), (u64, u64)>,
}

impl Groups {
    fn share(&mut self, group: u32) -> &mut Share {
        if self.shares.len() <= group as usize {
            self.shares.resize(group as usize + 1, Share::default());
        }
        &mut self.shares[group as usize]
    }

    fn finish(self) -> Vec<Pin> {
        let mut packed: FxHashMap<u32, u64> = FxHashMap::default();
        for ((group, _), (pages, live)) in &self.alone {
            let back = (pages * OS_PAGE).saturating_sub(live.next_multiple_of(OS_PAGE));
            *packed.entry(*group).or_default() += back;
        }
        let shares = self.shares.into_iter().enumerate();
        shares
            .map(|(i, s)| Pin {
                count: s.count,
                bytes: s.bytes,
                pinned: s.pinned.max(0.0).round() as u64,
                gone: s.gone,
                packed: packed.get(&(i as u32)).copied().unwrap_or(0),
                moved: s.moved.round() as u64,
            })
            .collect()
    }
}

/// Which groups a block belongs to.
pub(crate) trait Grouping {
    /// Sorts of groups.
    const SORTS: usize;

    /// Its group of each sort.
    fn of(&self, ordinal: Ordinal) -> [u32; 4];

    /// It can be moved.
    fn movable(&self, ordinal: Ordinal) -> bool;
}

/// All pins.
pub(crate) struct Pinned {
    /// By sort of group, then by group.
    pub(crate) groups: Vec<Vec<Pin>>,
    /// What each pins, to be summed: a block that has most of its OS page for itself pins less than nothing.
    pub(crate) costs: Vec<Vec<f64>>,
    /// By size class: bytes of a block.
    pub(crate) classes: Vec<(u64, Pin)>,
    /// Free bytes on resident pages with live blocks.
    pub(crate) pinned: u64,
    /// Bytes that compaction gives back beyond a purge.
    pub(crate) compact: u64,
    /// Addresses of the pools that compaction empties.
    pub(crate) emptied: Vec<u64>,
}

/// A page's live blocks: number and bytes on this page.
struct Page {
    live: Vec<(Ordinal, u32)>,
}

struct Sums<'a, G: Grouping> {
    by: &'a G,
    groups: Vec<Groups>,
    classes: Groups,
    pinned: f64,
}

impl<G: Grouping> Sums<'_, G> {
    /// A block is counted once, where it begins.
    fn block(&mut self, ordinal: Ordinal, bytes: u64, class: u32) {
        let of = self.by.of(ordinal);
        for (sort, group) in of.into_iter().take(G::SORTS).enumerate() {
            let share = self.groups[sort].share(group);
            share.count += 1;
            share.bytes += bytes;
        }
        let share = self.classes.share(class);
        share.count += 1;
        share.bytes += bytes;
    }

    /// A resident page with live blocks. `emptied`: compaction moves them all away.
    fn page(&mut self, page: &Page, exclusive: bool, class: u32, emptied: bool) {
        let n = page.live.len() as f64;
        let mut alone = [None; 4];
        for (i, (ordinal, own)) in page.live.iter().enumerate() {
            let cost = OS_PAGE as f64 / n - f64::from(*own);
            self.pinned += cost;
            let of = self.by.of(*ordinal);
            for sort in 0..G::SORTS {
                let share = self.groups[sort].share(of[sort]);
                share.pinned += cost;
                if emptied && exclusive {
                    share.moved += OS_PAGE as f64 / n;
                }
                alone[sort] = match alone[sort] {
                    _ if i == 0 => Some(of[sort]),
                    Some(group) if group == of[sort] => Some(group),
                    _ => None,
                };
            }
            let share = self.classes.share(class);
            share.pinned += cost;
            if emptied && exclusive {
                share.moved += OS_PAGE as f64 / n;
            }
        }
        if !exclusive {
            return;
        }
        let live: u64 = page.live.iter().map(|(_, own)| u64::from(*own)).sum();
        let credit = |groups: &mut Groups, group: u32| {
            groups.share(group).gone += OS_PAGE;
            let (pages, bytes) = groups.alone.entry((group, class)).or_default();
            *pages += 1;
            *bytes += live;
        };
        for (sort, group) in alone.into_iter().take(G::SORTS).enumerate() {
            if let Some(group) = group {
                credit(&mut self.groups[sort], group);
            }
        }
        credit(&mut self.classes, class);
    }
}

/// Pools that compaction empties.
fn emptied<G: Grouping>(blocks: &Blocks<'_>, by: &G) -> FxHashSet<u32> {
    // By interpreter and class, as blocks are moved within a heap only.
    // Live blocks, the pool's index, and whether all of them can be moved.
    type Candidates = Vec<(u32, u32, bool)>;
    let mut classes: FxHashMap<(u16, u32), Candidates> = FxHashMap::default();
    for (i, pool) in blocks.pools.iter().enumerate() {
        let mut live = 0;
        let mut movable = true;
        for (ordinal, _) in blocks.live(pool) {
            live += 1;
            movable &= by.movable(ordinal);
        }
        let heap = (blocks.record(pool).interpreter, pool.size);
        classes.entry(heap).or_default().push((live, i as u32, movable));
    }
    let mut emptied = FxHashSet::default();
    for pools in classes.values_mut() {
        pools.sort_unstable();
        let room =
            |p: &(u32, u32, bool)| u64::from(blocks.capacity(&blocks.pools[p.1 as usize]) - p.0);
        let mut free: u64 = pools.iter().map(room).sum();
        let mut moved = 0u64;
        for p in pools.iter().filter(|p| p.2) {
            // Its own free blocks are none to move into.
            let (rest, more) = (free - room(p), moved + u64::from(p.0));
            if more > rest {
                break;
            }
            (free, moved) = (rest, more);
            emptied.insert(p.1);
        }
    }
    emptied
}

/// Shares out what all live blocks pin. `compacts`: pools that are emptied can be given back.
pub(crate) fn pins<G: Grouping>(
    image: &Image,
    detail: &Detail,
    blocks: &Blocks<'_>,
    by: &G,
    compacts: bool,
) -> Pinned {
    let empty = if compacts { emptied(blocks, by) } else { FxHashSet::default() };
    let mut groups = Vec::new();
    groups.resize_with(G::SORTS, Groups::default);
    let mut sums = Sums { by, groups, classes: Groups::default(), pinned: 0.0 };
    let mut compact = 0;
    let per_pool = u64::from(detail.pool_size) / OS_PAGE;
    let mut pages: Vec<Page> = (0..per_pool).map(|_| Page { live: Vec::new() }).collect();
    for (i, pool) in blocks.pools.iter().enumerate() {
        let record = blocks.record(pool);
        let class = pool.size / 16;
        let emptied = empty.contains(&(i as u32));
        pages.iter_mut().for_each(|p| p.live.clear());
        spread(blocks, pool, &mut pages, &mut sums, class);
        for (k, page) in pages.iter().enumerate() {
            let resident = record.resident >> k & 1 == 1;
            let exclusive = resident && record.exclusive >> k & 1 == 1;
            if resident && !page.live.is_empty() {
                sums.page(page, exclusive, class, emptied);
                compact += if emptied && exclusive { OS_PAGE } else { 0 };
            } else if k == 0 && emptied && exclusive {
                compact += OS_PAGE;
            }
        }
    }
    chunks(image, blocks, &mut sums);
    let costs = sums.groups.iter().map(|g| g.shares.iter().map(|s| s.pinned).collect()).collect();
    let classes = sums.classes.finish().into_iter().enumerate();
    let of_class =
        |(c, pin): (usize, Pin)| (pin.count > 0 && c > 0).then_some((16 * c as u64, pin));
    Pinned {
        classes: classes.filter_map(of_class).collect(),
        groups: sums.groups.into_iter().map(Groups::finish).collect(),
        costs,
        pinned: sums.pinned.max(0.0).round() as u64,
        compact,
        emptied: empty.iter().map(|i| blocks.pools[*i as usize].address).collect(),
    }
}

/// The live blocks of a pool, page by page.
fn spread<G: Grouping>(
    blocks: &Blocks<'_>,
    pool: &Pool,
    pages: &mut [Page],
    sums: &mut Sums<'_, G>,
    class: u32,
) {
    let size = u64::from(pool.size);
    for (ordinal, address) in blocks.live(pool) {
        sums.block(ordinal, size, class);
        let (mut from, end) = (address - pool.address, address - pool.address + size);
        while from < end {
            let page = from / OS_PAGE;
            let upto = end.min((page + 1) * OS_PAGE);
            pages[page as usize].live.push((ordinal, (upto - from) as u32));
            from = upto;
        }
    }
}

/// malloc's chunks, of which a page seldom has many: only the pages at their ends are shared. Class 0.
fn chunks<G: Grouping>(image: &Image, blocks: &Blocks<'_>, sums: &mut Sums<'_, G>) {
    let mut page = Page { live: Vec::new() };
    let mut at = 0;
    let flush = |page: &mut Page, at: u64, sums: &mut Sums<'_, G>| {
        if let Some(run) =
            image.residency.run_at(at).filter(|r| r.resident && !page.live.is_empty())
        {
            sums.page(page, !run.shared, 0, false);
        }
        page.live.clear();
    };
    for (i, c) in blocks.chunks.iter().enumerate() {
        let ordinal = blocks.first_chunk + i as u32;
        sums.block(ordinal, c.size, 0);
        // With its header.
        let (mut from, end) = (c.address - 8, c.address + c.size);
        while from < end {
            let start = from & !(OS_PAGE - 1);
            if start != at {
                flush(&mut page, at, sums);
                at = start;
            }
            let upto = end.min(start + OS_PAGE);
            // Whole pages within a chunk are its own: nothing is pinned there but itself.
            if from == start && upto == start + OS_PAGE && end > start + OS_PAGE {
                let inner = (end & !(OS_PAGE - 1)).max(start + OS_PAGE);
                let of = sums.by.of(ordinal);
                let tally = image.residency.tally(start, inner);
                for (sort, group) in of.into_iter().take(G::SORTS).enumerate() {
                    sums.groups[sort].share(group).gone += tally.resident - tally.shared;
                }
                from = inner;
                continue;
            }
            page.live.push((ordinal, (upto - from) as u32));
            from = upto;
        }
    }
    flush(&mut page, at, sums);
}
