//! The map of the walked heaps: which byte of which region is what.
//!
//! Owns the cutting of the heaps into regions of whole OS pages, what is left out of them, and the flags of
//! each page. Reads nothing: it joins what the walkers found with residency. What the live blocks are is
//! added by who looks at objects.
//!
//! Invariants: the terms of an owner's account can be summed from its regions; pages whose rung is at most
//! trim sum to the ladder's trim, those at most purge to its purge.

use pydefrag_heap::map::page;
use pydefrag_heap::{Map, OS_PAGE, PoolRecord, Region, Tile};
use pydefrag_image::Image;
use pydefrag_layout::pymalloc::Geometry;

use crate::malloc::{MallocWalk, Picture};
use crate::obmalloc::State;
use crate::pymalloc::Walk;

/// Stretches of malloc's that are longer, and nowhere resident or swapped, are left out: a chunk may be of
/// any size.
const LONGEST_ABSENT: u64 = 1 << 20;

/// Something that an allocator has, byte by byte.
struct Part<'a> {
    start: u64,
    end: u64,
    heap: &'a str,
    of: Of<'a>,
}

enum Of<'a> {
    Arena(ArenaParts<'a>),
    Tiles(&'a pydefrag_heap::Tiles),
    /// A chunk with a mapping of its own.
    Mapped,
}

/// An arena of pymalloc.
#[derive(Clone, Copy)]
struct ArenaParts<'a> {
    geometry: Geometry,
    pools: &'a [PoolRecord],
    /// Which of the pools' pages are holes, and which a purge gives back.
    holes: &'a [u8],
    purged: &'a [u8],
    /// It gives back what was never carved, too.
    purges: bool,
}

/// Makes the map. `names`: of each interpreter's pymalloc, then of malloc's main arena, thread arenas and
/// mapped chunks. Takes the pictures of malloc's arenas.
pub(crate) fn map(
    image: &Image,
    states: &[State],
    walked: &Walk,
    malloc: Option<&mut MallocWalk>,
    mapped: &[(u64, u64)],
    names: &[String],
) -> Map {
    let mut parts = arenas(states, walked, names);
    let of_malloc = &names[names.len() - 3..];
    let pictures: Vec<(bool, Picture)> = malloc
        .into_iter()
        .flat_map(|m| &mut m.arenas)
        .filter_map(|a| Some((a.counts.main, a.picture.take()?)))
        .collect();
    for (main, picture) in &pictures {
        let heap = &of_malloc[usize::from(!main)];
        parts.extend(picture.stretches.iter().map(|s| Part {
            start: s.start,
            end: s.end,
            heap,
            of: Of::Tiles(&s.tiles),
        }));
    }
    if !pictures.is_empty() {
        let part =
            |&(start, end): &(u64, u64)| Part { start, end, heap: &of_malloc[2], of: Of::Mapped };
        parts.extend(mapped.iter().map(part));
    }
    parts.sort_by_key(|p| p.start);
    drop_overlapping(&mut parts);
    let mut drawing = Drawing::new(image);
    for p in &parts {
        drawing.add(p);
    }
    let mut map = drawing.finish();
    let mut flags = Flags::new(&mut map);
    flags.residency(image);
    for p in &parts {
        if let Of::Arena(arena) = p.of {
            flags.arena(p.start, arena);
        }
    }
    for (_, picture) in &pictures {
        for (start, end) in &picture.holes {
            flags.holes(*start, *end);
        }
        for (start, end) in &picture.trimmed {
            flags.returns(*start, *end, page::TRIM);
        }
    }
    map
}

/// The arenas of pymalloc, each with its pools.
fn arenas<'a>(states: &[State], walked: &'a Walk, names: &'a [String]) -> Vec<Part<'a>> {
    let (mut pools, mut holes) = (&walked.detail.pools[..], &walked.holes[..]);
    let mut purged = &walked.purged[..];
    let mut parts = Vec::with_capacity(walked.arenas.len());
    // Pools stand in the order of their arenas.
    for ((start, interpreter), purges) in walked.arenas.iter().zip(&walked.purges) {
        let geometry = states[*interpreter].geometry;
        let end = start + geometry.arena_size;
        let inside = |p: &PoolRecord| (*start..end).contains(&p.address);
        let count = pools.iter().take_while(|p| inside(p)).count();
        let (own, rest) = pools.split_at(count);
        let (own_holes, rest_holes) = holes.split_at(count);
        let (own_purged, rest_purged) = purged.split_at(count);
        (pools, holes, purged) = (rest, rest_holes, rest_purged);
        let of = Of::Arena(ArenaParts {
            geometry,
            pools: own,
            holes: own_holes,
            purged: own_purged,
            purges: *purges,
        });
        parts.push(Part { start: *start, end, heap: &names[*interpreter], of });
    }
    parts
}

/// What a corrupted heap claims too is an arena's, which validated; else the first's.
fn drop_overlapping(parts: &mut Vec<Part<'_>>) {
    let whole = |p: &Part<'_>| (floor(p.start), p.end.next_multiple_of(OS_PAGE));
    let arenas: Vec<(u64, u64)> =
        parts.iter().filter(|p| matches!(p.of, Of::Arena(..))).map(whole).collect();
    let (mut end, mut heap) = (0, "");
    parts.retain(|p| {
        let (from, upto) = whole(p);
        let i = arenas.partition_point(|a| a.1 <= from);
        let arena = matches!(p.of, Of::Arena(..));
        // Only stretches of one heap may share an OS page.
        let behind = if p.heap == heap { p.start >= end } else { from >= end };
        let keep =
            behind && p.start < p.end && (arena || arenas.get(i).is_none_or(|a| a.0 >= upto));
        if keep {
            heap = p.heap;
            end = p.end;
        }
        keep
    });
}

fn floor(at: u64) -> u64 {
    at & !(OS_PAGE - 1)
}

/// Regions while they are made, in order of address.
struct Drawing<'a> {
    image: &'a Image,
    map: Map,
    /// The region of malloc's that tiles are added to, and the address up to which it is tiled.
    open: Option<(Region, u64)>,
}

impl<'a> Drawing<'a> {
    fn new(image: &'a Image) -> Drawing<'a> {
        Drawing { image, map: Map::default(), open: None }
    }

    fn add(&mut self, part: &Part<'_>) {
        match part.of {
            Of::Arena(ArenaParts { pools, .. }) => {
                self.close();
                self.map.regions.push(Region {
                    start: part.start,
                    size: part.end - part.start,
                    heap: part.heap.to_owned(),
                    pools: pools.len() as u32,
                    tiles: 0,
                });
            }
            Of::Tiles(tiles) => self.tiles(part, tiles.iter()),
            Of::Mapped => self.tiles(part, [(part.end - part.start, Tile::Mapped)].into_iter()),
        }
    }

    /// Adds a stretch of malloc's without what is absent.
    fn tiles(&mut self, part: &Part<'_>, tiles: impl Iterator<Item = (u64, Tile)>) {
        let mut gaps = self.absent(part.start, part.end).into_iter().peekable();
        let mut at = part.start;
        for (bytes, tile) in tiles {
            let (first, end) = (at, at + bytes);
            while at < end {
                let tile = if at == first { tile } else { tile.rest() };
                match gaps.peek() {
                    Some((from, upto)) if *from <= at => {
                        self.close();
                        at = end.min(*upto);
                        if at == *upto {
                            gaps.next();
                        }
                    }
                    next => {
                        let upto = next.map_or(end, |(from, _)| end.min(*from));
                        self.tile(part.heap, at, upto, tile);
                        at = upto;
                    }
                }
            }
        }
    }

    /// Whole OS pages that are long nowhere resident nor swapped.
    fn absent(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let (mut at, end) = (start.next_multiple_of(OS_PAGE), floor(end));
        let mut gaps = Vec::new();
        if at >= end {
            return gaps;
        }
        for run in self.image.residency.runs_in(at, end) {
            gaps.push((at, run.start));
            at = run.end;
        }
        gaps.push((at, end));
        gaps.retain(|(from, upto)| upto.saturating_sub(*from) > LONGEST_ABSENT);
        gaps
    }

    /// Adds a tile to the open region, or to a new one.
    fn tile(&mut self, heap: &str, start: u64, end: u64, tile: Tile) {
        let here = floor(start);
        let near = |(r, at): &(Region, u64)| {
            r.heap == heap && (*at == start || at.next_multiple_of(OS_PAGE) > here)
        };
        if !self.open.as_ref().is_some_and(near) {
            self.close();
        }
        let new = || (Region { start: here, heap: heap.to_owned(), ..Region::default() }, here);
        let (region, at) = self.open.get_or_insert_with(new);
        for (bytes, tile) in [(start - *at, Tile::Other), (end - start, tile)] {
            if bytes > 0 {
                self.map.tiles.push(bytes, tile);
                region.tiles += 1;
            }
        }
        *at = end;
    }

    /// Ends the open region with an OS page.
    fn close(&mut self) {
        let Some((mut region, at)) = self.open.take() else { return };
        let end = at.next_multiple_of(OS_PAGE);
        if end > at {
            self.map.tiles.push(end - at, Tile::Other);
            region.tiles += 1;
        }
        region.size = end - region.start;
        self.map.regions.push(region);
    }

    fn finish(mut self) -> Map {
        self.close();
        let pages: u64 = self.map.regions.iter().map(Region::pages).sum();
        self.map.pages = vec![0; pages as usize];
        self.map
    }
}

/// The flags of a map's pages, by address.
pub(crate) struct Flags<'a> {
    /// First and last address of each region, and the index of its first page.
    regions: Vec<(u64, u64, usize)>,
    pages: &'a mut [u8],
}

impl Flags<'_> {
    pub(crate) fn new(map: &mut Map) -> Flags<'_> {
        let mut first = 0;
        let of = |r: &Region| {
            let region = (r.start, r.end(), first);
            first += r.pages() as usize;
            region
        };
        Flags { regions: map.regions.iter().map(of).collect(), pages: &mut map.pages }
    }

    /// The flags of the pages in a range, region by region.
    fn each(&mut self, start: u64, end: u64, mut change: impl FnMut(&mut u8)) {
        let from = self.regions.partition_point(|r| r.1 <= start);
        for (first, last, index) in self.regions[from..].iter().take_while(|r| r.0 < end) {
            let page = |at: u64| index + ((at - first) / OS_PAGE) as usize;
            let range = page(start.max(*first))..page(end.min(*last));
            self.pages[range].iter_mut().for_each(&mut change);
        }
    }

    fn residency(&mut self, image: &Image) {
        for i in 0..self.regions.len() {
            let (start, end, _) = self.regions[i];
            for run in image.residency.runs_in(start, end) {
                let flags = match (run.resident, run.shared) {
                    (true, false) => page::RESIDENT | page::EXCLUSIVE,
                    (true, true) => page::RESIDENT,
                    (false, _) => page::SWAPPED,
                };
                self.each(run.start, run.end, |page| *page |= flags);
            }
        }
    }

    fn arena(&mut self, start: u64, arena: ArenaParts<'_>) {
        let g = arena.geometry;
        let pages = arena.holes.iter().zip(arena.purged);
        for (pool, (holes, purged)) in arena.pools.iter().zip(pages) {
            for k in 0..g.pool_size / OS_PAGE {
                let at = pool.address + k * OS_PAGE;
                if holes >> k & 1 == 1 {
                    self.holes(at, at + OS_PAGE);
                }
                if purged >> k & 1 == 1 {
                    self.returns(at, at + OS_PAGE, page::PURGE);
                }
            }
        }
        if arena.purges {
            let first = g.first_pool(start);
            let carved = first + arena.pools.len() as u64 * g.pool_size;
            let end = first + g.pools_in(start) * g.pool_size;
            self.returns(carved, end, page::PURGE);
        }
    }

    fn holes(&mut self, start: u64, end: u64) {
        self.each(start, end, |page| {
            if *page & page::RESIDENT > 0 {
                *page |= page::HOLE;
            }
        });
    }

    /// Of these pages, those that would come back do so from a rung on, unless one before returns them.
    pub(crate) fn returns(&mut self, start: u64, end: u64, rung: u8) {
        self.each(start, end, |page| {
            if *page & page::EXCLUSIVE > 0 && *page & page::RUNG == 0 {
                *page |= rung << page::RUNG_SHIFT;
            }
        });
    }
}
