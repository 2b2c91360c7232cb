//! A map marked byte by byte, and the marks counted.
//!
//! Shares nothing with what made the map but the words it is written in: each byte of each region gets the
//! letter of what it is, then each resident OS page is looked at.

use std::collections::BTreeMap;

use pydefrag_heap::map::page;
use pydefrag_heap::{Detail, Map, PoolState, Region, Tile};

const PAGE: usize = 4096;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Recount {
    /// By heap, then by term: bytes, where there are any.
    pub(super) terms: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// Bytes of pages that come back up to each rung: none, trim, purge, compact.
    pub(super) rungs: [u64; 4],
}

/// Marks of a region's bytes, and where malloc's free chunks could be dropped.
struct Marked {
    marks: Vec<u8>,
    /// From where to where a page must lie to be droppable.
    free: Vec<(usize, usize)>,
    /// Pools: from where on, and whether in use.
    pools: Vec<(usize, PoolState)>,
}

/// Counts.
pub(super) fn recount(map: &Map, detail: &Detail, what: &str) -> Recount {
    let mut counted = Recount::default();
    let (mut tiles, mut pages) = (map.tiles.iter(), &map.pages[..]);
    let pools: BTreeMap<u64, usize> =
        detail.pools.iter().enumerate().map(|(i, p)| (p.address, i)).collect();
    for region in &map.regions {
        let (own, rest) = pages.split_at(region.size as usize / PAGE);
        pages = rest;
        let marked = match region.tiles {
            0 => arena(region, detail, &pools),
            _ => chunks(region, &mut tiles),
        };
        let terms = counted.terms.entry(region.heap.clone()).or_default();
        for (i, flags) in own.iter().enumerate() {
            let at = format!("{what}: page {:#x}", region.start + (i * PAGE) as u64);
            count(&marked, i, *flags, region.tiles == 0, detail, terms, &at);
            for rung in &mut counted.rungs[usize::from((flags & page::RUNG) >> page::RUNG_SHIFT)..]
            {
                *rung += PAGE as u64;
            }
        }
    }
    // Pages that no rung returns are in none.
    let none = counted.rungs[0];
    counted.rungs.iter_mut().for_each(|r| *r -= none);
    counted.terms.values_mut().for_each(|t| t.retain(|_, bytes| *bytes > 0));
    counted
}

fn arena(region: &Region, detail: &Detail, pools: &BTreeMap<u64, usize>) -> Marked {
    let size = detail.pool_size as usize;
    let mut marks = vec![b'm'; region.size as usize];
    let mut states = Vec::new();
    let mut at = (region.start as usize).next_multiple_of(size) - region.start as usize;
    let mut n = 0;
    while at + size <= marks.len() {
        let bytes = &mut marks[at..at + size];
        if n == region.pools {
            bytes.fill(b'v');
        } else {
            let pool = &detail.pools[pools[&(region.start + at as u64)]];
            states.push((at, pool.state));
            match pool.state {
                PoolState::Unread => bytes.fill(b'u'),
                PoolState::Free => bytes[48..].fill(b's'),
                PoolState::Used => {
                    let block = 16 * (usize::from(pool.class) + 1);
                    let words = &detail.bitmaps[pool.bitmap as usize..];
                    for (slot, bytes) in bytes[48..].chunks_exact_mut(block).enumerate() {
                        bytes.fill(match slot < usize::from(pool.carved) {
                            false => b'v',
                            true if words[slot / 64] >> (slot % 64) & 1 == 1 => b'l',
                            true => b'f',
                        });
                    }
                }
            }
            n += 1;
        }
        at += size;
    }
    Marked { marks, free: Vec::new(), pools: states }
}

fn chunks(region: &Region, tiles: &mut impl Iterator<Item = (u64, Tile)>) -> Marked {
    let mut marks = Vec::with_capacity(region.size as usize);
    let mut free = Vec::new();
    for (bytes, tile) in tiles.take(region.tiles as usize) {
        let (at, end) = (marks.len(), marks.len() + bytes as usize);
        let (header, mark) = match tile {
            Tile::Used => (8, b'l'),
            Tile::Mapped => (16, b'l'),
            Tile::Rest => (0, b'l'),
            Tile::Cached => (8, b'c'),
            Tile::Fast => (0, b'c'),
            Tile::Free => (0, b'f'),
            Tile::Top => (0, b't'),
            Tile::Overhead => (0, b'm'),
            Tile::Unread => (0, b'u'),
            Tile::Other => (0, b'o'),
        };
        if tile == Tile::Free {
            // The chunk begins a word before its tile; six words of it stay.
            free.push(((at + 40), (end - 8)));
        }
        marks.resize((at + header).min(end), b'm');
        marks.resize(end, mark);
    }
    Marked { marks, free, pools: Vec::new() }
}

fn count(
    of: &Marked,
    i: usize,
    flags: u8,
    pymalloc: bool,
    detail: &Detail,
    terms: &mut BTreeMap<&'static str, u64>,
    at: &str,
) {
    let (start, end) = (i * PAGE, (i + 1) * PAGE);
    let has = |flag: u8| flags & flag > 0;
    let n = |mark: u8| of.marks[start..end].iter().filter(|m| **m == mark).count() as u64;
    assert!(!has(page::EXCLUSIVE) || has(page::RESIDENT), "{at}: {flags:#x}");
    assert!(!has(page::SWAPPED) || !has(page::RESIDENT), "{at}: {flags:#x}");
    assert!(!has(page::RUNG) || has(page::EXCLUSIVE), "{at}: {flags:#x}");
    let empty = match pymalloc {
        true => {
            let pool = of.pools.partition_point(|p| p.0 <= start).checked_sub(1);
            let pool = pool.map(|p| of.pools[p]);
            let size = detail.pool_size as usize;
            let inside = pool.filter(|(from, _)| start > *from && start < from + size);
            inside.is_some_and(|(_, state)| state == PoolState::Used) && n(b'l') == 0
        }
        false => {
            let chunk = of.free.partition_point(|f| f.1 < end);
            of.free.get(chunk).is_some_and(|f| f.0 <= start)
        }
    };
    assert_eq!(has(page::HOLE), empty && has(page::RESIDENT), "{at}: hole? {flags:#x}");
    if !has(page::RESIDENT) {
        return;
    }
    if empty {
        return *terms.entry("holes").or_default() += PAGE as u64;
    }
    for (mark, term) in [
        (b'l', "live"),
        (b'm', "metadata"),
        (b'v', "virgin"),
        (b's', "free_spans"),
        (b'f', "pinned_free"),
        (b't', "top"),
        (b'c', "cached"),
        (b'u', "unread"),
    ] {
        *terms.entry(term).or_default() += n(mark);
    }
}
