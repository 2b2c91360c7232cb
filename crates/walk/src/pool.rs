//! One pool: from its bytes and the residency of its OS pages to the terms of the account.
//!
//! Owns the free-list walk with its validation and the arithmetic per OS page. Knows nothing of
//! arenas, processes or retries: it says [`Torn`] and the caller reads again.

use pydefrag_heap::{Account, OS_PAGE};
use pydefrag_layout::agent::starts_on;
use pydefrag_layout::pymalloc::{
    Geometry, POOL_HEADER, PoolHeader, block_size, pool_header, pool_header_losing, slot_of,
};
use pydefrag_layout::word::u64_at;

use crate::freerun::FreeRuns;

/// Words of a live bitmap: blocks of 16 bytes in a pool of 16 KiB.
const BITMAP: usize = 16;
/// OS pages of the largest pool.
pub(crate) const MOST_PAGES: usize = 4;

/// The bytes are not a pool in a consistent state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn;

/// Residency of a pool's OS pages: bit k is the k-th page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pages {
    pub(crate) resident: u8,
    pub(crate) exclusive: u8,
    pub(crate) swapped: u8,
}

impl Pages {
    /// Resident bytes.
    pub(crate) fn resident_bytes(self) -> u64 {
        u64::from(self.resident.count_ones()) * OS_PAGE
    }

    /// Bytes that would come back if all pages were dropped.
    pub(crate) fn returnable_bytes(self) -> u64 {
        u64::from((self.resident & self.exclusive).count_ones()) * OS_PAGE
    }
}

/// What a consistent pool in use looks like inside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contents {
    pub(crate) header: PoolHeader,
    pub(crate) class: u8,
    /// Bit i: block i is live. Only the first `carved` are meaningful; the others are zero.
    live: [u64; BITMAP],
}

/// What of a pool could come back. Only OS pages that this process maps exclusively count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Returnable {
    /// Bit k: a purge gives its k-th OS page back.
    pub(crate) purge: u8,
    /// Live bytes on exclusive resident OS pages: what perfect packing has to pack.
    pub(crate) live_exclusive: u64,
    /// Bit k: its k-th OS page is resident, and has neither a live byte nor the header.
    pub(crate) holes: u8,
}

/// A consistent pool.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pool {
    /// No live block.
    Free(PoolHeader),
    /// Live blocks.
    Used(Contents),
}

/// OS pages that the agent dropped inside a pool: free blocks that start on them may be lost (`layout::agent`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Bit k: the k-th.
    pub(crate) pages: u8,
    /// Nobody writes to a lost block, so it is zero as far as it lies on its page, if the page was really dropped (a
    /// locked one cannot be). Pages dropped in an earlier life of a pool, which is then caught in the middle of a
    /// change, might else look like lost blocks. So the first look asks for zeros, and who looks again does not.
    pub(crate) zero: bool,
}

/// Reads a pool from its bytes, following its free list to the end. What was dropped counts only where the free
/// list does not have all.
pub(crate) fn read(
    bytes: &[u8],
    address: u64,
    g: Geometry,
    dropped: Dropped,
) -> Result<Pool, Torn> {
    let header = match dropped.pages {
        0 => pool_header(bytes, address, g),
        _ => pool_header_losing(bytes, address, g),
    };
    let header = header.ok_or(Torn)?;
    let (Some(class), true) = (header.class, header.used > 0) else {
        return Ok(Pool::Free(header));
    };
    let mut live = [0u64; BITMAP];
    for (i, word) in live.iter_mut().enumerate() {
        let bits = header.carved.saturating_sub(64 * i as u32).min(64);
        *word = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
    }
    let mut block = header.freeblock;
    let mut length = 0;
    while block != 0 {
        let slot = slot_of(block, address, class, header.carved).ok_or(Torn)?;
        let (word, bit) = (slot as usize / 64, 1u64 << (slot % 64));
        // A block twice on the list would be a ring.
        if live[word] & bit == 0 {
            return Err(Torn);
        }
        live[word] &= !bit;
        length += 1;
        block = u64_at(bytes, (block - address) as usize);
    }
    let lost = (header.carved - header.used).checked_sub(length).ok_or(Torn)?;
    if lost > 0 {
        take_lost(bytes, class, dropped, lost, &mut live)?;
    }
    Ok(Pool::Used(Contents { header, class, live }))
}

/// Takes the lost blocks out of the live ones: all that start on a dropped page and are not on the list, which have
/// to be exactly so many.
fn take_lost(
    bytes: &[u8],
    class: u8,
    dropped: Dropped,
    lost: u32,
    live: &mut [u64; BITMAP],
) -> Result<(), Torn> {
    let size = block_size(class);
    let mut taken = 0;
    for slot in 0..64 * BITMAP as u32 {
        let (word, bit) = (slot as usize / 64, 1u64 << (slot % 64));
        if live[word] & bit == 0 || !starts_on(dropped.pages, class, slot) {
            continue;
        }
        let start = POOL_HEADER as u64 + u64::from(slot) * size;
        let end = (start + size).min((start / OS_PAGE + 1) * OS_PAGE);
        let on_page = bytes.get(start as usize..end as usize).ok_or(Torn)?;
        if dropped.zero && on_page.iter().any(|b| *b != 0) {
            return Err(Torn);
        }
        live[word] &= !bit;
        taken += 1;
    }
    if taken == lost { Ok(()) } else { Err(Torn) }
}

impl Contents {
    /// The live bitmap's meaningful words.
    pub(crate) fn bitmap(&self) -> &[u64] {
        &self.live[..(self.header.carved as usize).div_ceil(64)]
    }

    fn is_live(&self, slot: u64) -> bool {
        self.live[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// Live blocks among the slots `from..to`.
    fn count(&self, from: u64, to: u64) -> u64 {
        let ones = |upto: u64| {
            let (word, bits) = (upto as usize / 64, upto % 64);
            let whole: u32 = self.live[..word].iter().map(|w| w.count_ones()).sum();
            let rest =
                if bits == 0 { 0 } else { (self.live[word] & ((1 << bits) - 1)).count_ones() };
            u64::from(whole + rest)
        };
        ones(to) - ones(from)
    }

    /// Live bytes in `from..to`, counted from the pool's start.
    fn live_bytes(&self, from: u64, to: u64) -> u64 {
        let (size, head) = (block_size(self.class), POOL_HEADER as u64);
        let end = head + u64::from(self.header.carved) * size;
        let (from, to) = (from.clamp(head, end), to.clamp(head, end));
        if from >= to {
            return 0;
        }
        let (first, last) = ((from - head) / size, (to - head - 1) / size);
        let mut bytes = self.count(first, last + 1) * size;
        // The blocks at both ends may reach over the border.
        if self.is_live(first) {
            bytes -= from - (head + first * size);
        }
        if self.is_live(last) {
            bytes -= head + (last + 1) * size - to;
        }
        bytes
    }

    /// The dead OS page that a purge leaves, as the pool's free list would be empty without: of those before the last
    /// live block, the last.
    fn kept_page(&self, dead: u8) -> u8 {
        let size = block_size(self.class);
        let Some(last) = self.last_live() else { return 0 };
        let tail = (POOL_HEADER as u64 + (last + 1) * size).div_ceil(OS_PAGE);
        let inner = dead & ((1u16 << tail) - 1) as u8;
        // What is carved behind is cut off, and the next block carved anew.
        let first = (tail * OS_PAGE - POOL_HEADER as u64).div_ceil(size).max(2);
        let carved = u64::from(self.header.carved);
        if inner == 0 || tail < MOST_PAGES as u64 && first < carved {
            return 0;
        }
        let listed = |slot: u64| !self.is_live(slot) && !starts_on(inner, self.class, slot as u32);
        if (0..carved).any(listed) { 0 } else { 1 << (7 - inner.leading_zeros()) }
    }

    fn last_live(&self) -> Option<u64> {
        let word = (0..BITMAP).rev().find(|i| self.live[*i] != 0)?;
        Some(64 * word as u64 + 63 - u64::from(self.live[word].leading_zeros()))
    }

    /// Adds the pool to the account, and says what of it could come back.
    pub(crate) fn account(&self, g: Geometry, pages: Pages, to: &mut Account) -> Returnable {
        let size = block_size(self.class);
        let head = POOL_HEADER as u64;
        let virgin_from = head + u64::from(self.header.carved) * size;
        let unusable_from = head + g.blocks(self.class) * size;
        let mut back = Returnable::default();
        let mut dead = 0;
        for page in 0..g.pool_size / OS_PAGE {
            let (start, end) = (page * OS_PAGE, (page + 1) * OS_PAGE);
            let live = self.live_bytes(start, end);
            dead |= u8::from(live == 0 && page > 0) << page;
            if pages.resident >> page & 1 == 0 {
                to.live_not_resident += live;
                continue;
            }
            let exclusive = u64::from(pages.exclusive >> page & 1);
            back.live_exclusive += exclusive * live;
            if live == 0 && page > 0 {
                to.holes += OS_PAGE;
                back.holes |= 1 << page;
                continue;
            }
            let overlap = |from: u64, upto: u64| upto.min(end).saturating_sub(from.max(start));
            let metadata = overlap(0, head) + overlap(unusable_from, g.pool_size);
            let virgin = overlap(virgin_from, unusable_from);
            to.live += live;
            to.metadata += metadata;
            to.virgin += virgin;
            to.pinned_free += OS_PAGE - live - metadata - virgin;
        }
        // Of a full one nothing is taken: it is on no list.
        let full = self.header.freeblock == 0;
        back.purge = back.holes & pages.exclusive & if full { 0 } else { !self.kept_page(dead) };
        back
    }

    /// Whether `length` neighbouring carved blocks are free: each doubling of the shift halves the
    /// runs that survive.
    fn has_free_run(&self, length: u32) -> bool {
        if length > self.header.carved - self.header.used {
            return false;
        }
        let mut starts = self.live.map(|w| !w);
        // Slots that were never carved are not free blocks.
        for (i, word) in starts.iter_mut().enumerate() {
            let bits = self.header.carved.saturating_sub(64 * i as u32).min(64);
            *word &= if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
        }
        let mut reach = 1;
        while reach < length {
            let shift = reach.min(length - reach);
            let (words, bits) = (shift as usize / 64, shift % 64);
            for i in 0..BITMAP {
                let at = |k: usize| starts.get(k).copied().unwrap_or(0);
                let high = if bits == 0 { 0 } else { at(i + words + 1) << (64 - bits) };
                let moved = at(i + words) >> bits | high;
                starts[i] &= moved;
            }
            reach += shift;
        }
        starts.iter().any(|w| *w != 0)
    }

    /// Adds the pool to the free runs. Runs inside that cannot become the longest are skipped.
    pub(crate) fn free_runs(&self, g: Geometry, pages: Pages, runs: &mut FreeRuns) {
        let (size, head) = (block_size(self.class), POOL_HEADER as u64);
        runs.interrupt();
        let last_live = self.last_live().unwrap_or(0);
        if self.has_free_run((runs.longest / size) as u32 + 1) {
            for slot in 0..last_live {
                let start = head + slot * size;
                match self.is_live(slot) {
                    true => runs.interrupt(),
                    false => free_bytes(start, start + size, pages, runs),
                }
            }
        }
        runs.interrupt();
        free_bytes(head + (last_live + 1) * size, g.pool_size, pages, runs);
    }
}

/// Free bytes `from..to` of a pool, interrupted where a page is not resident.
pub(crate) fn free_bytes(from: u64, to: u64, pages: Pages, runs: &mut FreeRuns) {
    let mut at = from;
    while at < to {
        let upto = ((at / OS_PAGE + 1) * OS_PAGE).min(to);
        match pages.resident >> (at / OS_PAGE) & 1 {
            1 => runs.free(upto - at),
            _ => runs.interrupt(),
        }
        at = upto;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: u64 = 0x7f00_0000_0000;
    const ALL: Pages = Pages { resident: 0b1111, exclusive: 0b1111, swapped: 0 };

    /// A pool as obmalloc.c would write it: `carved` blocks of `class`, those of `free` on its list.
    pub(crate) fn planted(at: u64, class: u8, carved: u32, free: &[u32], g: Geometry) -> Vec<u8> {
        let size = block_size(class) as u32;
        let mut b = vec![0xaa; g.pool_size as usize];
        let put32 =
            |b: &mut [u8], at: usize, v: u32| b[at..at + 4].copy_from_slice(&v.to_le_bytes());
        let put64 =
            |b: &mut [u8], at: usize, v: u64| b[at..at + 8].copy_from_slice(&v.to_le_bytes());
        let block = |slot: u32| at + 48 + u64::from(slot * size);
        put64(&mut b, 0, u64::from(carved - free.len() as u32));
        put64(&mut b, 8, free.first().map_or(0, |s| block(*s)));
        put32(&mut b, 36, u32::from(class));
        put32(&mut b, 40, 48 + carved * size);
        put32(&mut b, 44, g.pool_size as u32 - size);
        for (i, slot) in free.iter().enumerate() {
            let next = free.get(i + 1).map_or(0, |s| block(*s));
            put64(&mut b, (48 + slot * size) as usize, next);
        }
        b
    }

    /// A pool after the agent dropped those of the OS pages `wanted` that are dead.
    pub(crate) struct Losing {
        pub(crate) bytes: Vec<u8>,
        pub(crate) dropped: u8,
        pub(crate) lost: usize,
    }

    /// What the agent makes of [`planted`].
    pub(crate) fn losing(
        at: u64,
        (class, carved, free): (u8, u32, &[u32]),
        wanted: u8,
        g: Geometry,
    ) -> Losing {
        let size = block_size(class);
        let start = |slot: u32| 48 + u64::from(slot) * size;
        let is_dead = |k: u64| {
            let mut live = (0..carved).filter(|s| !free.contains(s));
            live.all(|s| start(s) >= (k + 1) * 4096 || start(s) + size <= k * 4096)
        };
        let dropped = (1..g.pool_size / 4096)
            .filter(|k| wanted >> k & 1 == 1 && is_dead(*k))
            .fold(0, |mask, k| mask | 1 << k);
        let on = |slot: &u32| dropped >> (start(*slot) / 4096) & 1 == 1;
        let (lost, listed): (Vec<u32>, Vec<u32>) = free.iter().copied().partition(on);
        let mut bytes = planted(at, class, carved, &listed, g);
        bytes[..4].copy_from_slice(&(carved - free.len() as u32).to_le_bytes());
        for k in (0..4).filter(|k| dropped >> k & 1 == 1) {
            bytes[k * 4096..(k + 1) * 4096].fill(0);
        }
        Losing { bytes, dropped, lost: lost.len() }
    }

    const NONE: Dropped = Dropped { pages: 0, zero: true };

    fn zero(pages: u8) -> Dropped {
        Dropped { pages, zero: true }
    }

    fn used(bytes: &[u8], g: Geometry) -> Contents {
        match read(bytes, AT, g, NONE) {
            Ok(Pool::Used(c)) => c,
            other => panic!("{other:?}"),
        }
    }

    /// The account byte by byte, the slow and obvious way, and the pages that a purge drops: the dead ones, as long
    /// as a free block is left that starts on none of them, or one can be carved anew behind the last live one.
    fn recount(c: u8, carved: u32, free: &[u32], g: Geometry, pages: Pages) -> (Account, u8) {
        let size = block_size(c);
        let blocks = (g.pool_size - 48) / size;
        let kind = |byte: u64| match byte.checked_sub(48).map(|b| b / size) {
            None => 'h',
            Some(s) if s >= blocks => 'h',
            Some(s) if s >= u64::from(carved) => 'v',
            Some(s) if free.contains(&(s as u32)) => 'f',
            Some(_) => 'l',
        };
        let (mut a, mut back, mut dead) = (Account::default(), 0, Vec::new());
        for page in 0..g.pool_size / 4096 {
            let bytes: Vec<char> = (page * 4096..(page + 1) * 4096).map(kind).collect();
            let n = |k| bytes.iter().filter(|b| **b == k).count() as u64;
            if n('l') == 0 && page > 0 {
                dead.push(page);
            }
            if pages.resident >> page & 1 == 0 {
                a.live_not_resident += n('l');
            } else if n('l') == 0 && page > 0 {
                a.holes += 4096;
                back |= (pages.exclusive >> page & 1) << page;
            } else {
                a.live += n('l');
                a.metadata += n('h');
                a.virgin += n('v');
                a.pinned_free += n('f');
            }
        }
        let start = |slot: u32| 48 + u64::from(slot) * size;
        let last = (0..carved).rfind(|s| !free.contains(s)).unwrap();
        let behind = (start(last) + size).next_multiple_of(4096);
        let inner: Vec<u64> = dead.into_iter().filter(|k| k * 4096 < behind).collect();
        let on_inner = |slot: &u32| inner.contains(&(start(*slot) / 4096));
        let cut = free.iter().any(|s| start(*s) >= behind && *s >= 2);
        if free.is_empty() {
            back = 0;
        } else if free.iter().all(on_inner) && !cut && !inner.is_empty() {
            back &= !(1 << inner[inner.len() - 1]);
        }
        (a, back)
    }

    #[test]
    fn a_free_pool_has_no_contents() {
        let bytes = planted(AT, 3, 10, &(0..10).collect::<Vec<_>>(), Geometry::LARGE);
        assert!(matches!(read(&bytes, AT, Geometry::LARGE, NONE), Ok(Pool::Free(_))));
    }

    #[test]
    fn broken_lists_are_torn() {
        let g = Geometry::LARGE;
        let good = planted(AT, 2, 9, &[4, 1, 7], g);
        assert!(read(&good, AT, g, NONE).is_ok());
        let torn = |at: usize, v: u64| {
            let mut b = good.clone();
            b[at..at + 8].copy_from_slice(&v.to_le_bytes());
            read(&b, AT, g, NONE).is_err()
        };
        let block = |slot: u64| 48 + slot as usize * 48;
        assert!(torn(block(7), AT + 48 + 4 * 48), "a ring");
        assert!(torn(block(7), AT + 48 + 5 * 48), "one more than counted");
        assert!(torn(block(1), 0), "one less than counted");
        assert!(torn(block(7), AT + 48 + 9 * 48), "beyond the carved blocks");
        assert!(torn(block(7), AT + 60), "between two blocks");
        assert!(torn(0, 7), "another count");
    }

    #[test]
    fn blocks_are_lost_only_where_pages_were_dropped() {
        let g = Geometry::LARGE;
        // Blocks of 512: 8 of them start on the second page, slots 8 to 15.
        let free: Vec<u32> = (4..17).collect();
        let pool = losing(AT, (31, 20, &free), 0b0010, g);
        assert_eq!((pool.dropped, pool.lost), (0b0010, 8));
        let contents = |bytes: &[u8], dropped| match read(bytes, AT, g, dropped) {
            Ok(Pool::Used(c)) => Some(c.bitmap().to_vec()),
            _ => None,
        };
        let live = Some(vec![0xf | 0b111 << 17]);
        assert_eq!(contents(&pool.bytes, zero(0b0010)), live);
        assert_eq!(contents(&pool.bytes, NONE), None, "nobody says so");
        assert_eq!(contents(&pool.bytes, zero(0b0100)), None, "of another page");
        assert_eq!(contents(&pool.bytes, zero(0b0110)), None, "of one more page");
        let mut bytes = pool.bytes.clone();
        bytes[48 + 9 * 512] = 1;
        assert_eq!(contents(&bytes, zero(0b0010)), None, "written to, at the first look");
        assert_eq!(contents(&bytes, Dropped { pages: 0b0010, zero: false }), live);
        // Stale: the pool has been initialised anew, and is caught in the middle of a change.
        let mut bytes = planted(AT, 31, 20, &[1, 2], g);
        bytes[0] -= 1;
        for pages in 0..16 {
            assert_eq!(contents(&bytes, zero(pages)), None, "one block short: {pages:b}");
        }
        // All of its free blocks are lost: it has no list at all.
        let free: Vec<u32> = (8..16).collect();
        let pool = losing(AT, (31, 20, &free), 0b0010, g);
        assert_eq!(contents(&pool.bytes, zero(0b0010)), Some(vec![0xff | 0b1111 << 16]));
    }

    #[test]
    fn a_purge_leaves_a_page_where_the_free_list_would_be_empty() {
        let g = Geometry::LARGE;
        let back = |class: u8, carved: u32, free: &[u32]| {
            let pool = used(&planted(AT, class, carved, free, g), g);
            pool.account(g, ALL, &mut Account::default()).purge
        };
        // Blocks of 16 begin just where each page does: slots 253, 509 and 765.
        let third: Vec<u32> = (509..765).collect();
        assert_eq!(back(0, 1021, &third), 0, "all that is free lies on it");
        let one_more: Vec<u32> = (508..765).collect();
        assert_eq!(back(0, 1021, &one_more), 0b0100);
        let two: Vec<u32> = (253..765).collect();
        assert_eq!(back(0, 1021, &two), 0b0010, "the last of two stays");
        // The last live block before the fourth page: what is carved behind becomes virgin again.
        let behind: Vec<u32> = (253..509).chain(765..900).collect();
        assert_eq!(back(0, 900, &behind), 0b1010);
        // Nothing carved behind: no block to be carved anew.
        let inner: Vec<u32> = (253..509).collect();
        assert_eq!(back(0, 765, &inner), 0b1000);
        // Full ones are on no list.
        assert_eq!(back(0, 100, &[]), 0);
    }

    #[test]
    fn the_longest_free_run_is_found_inside_and_at_the_end() {
        let g = Geometry::LARGE;
        let mut runs = FreeRuns::default();
        // Blocks of 512: 31 a pool, 10 carved; 2..=5 free in the middle.
        used(&planted(AT, 31, 10, &[2, 3, 4, 5], g), g).free_runs(g, ALL, &mut runs);
        assert_eq!(runs.longest, 16384 - 48 - 10 * 512);
        let mut runs = FreeRuns::default();
        used(&planted(AT, 31, 31, &[2, 3, 4, 5], g), g).free_runs(g, ALL, &mut runs);
        assert_eq!(runs.longest, 4 * 512);
    }

    proptest! {
        #[test]
        fn the_account_equals_a_count_byte_by_byte(
            class in 0u8..32,
            fill in 0.0..=1.0f64,
            chosen in proptest::collection::vec(any::<bool>(), 1021),
            resident in 0u8..16,
            exclusive in 0u8..16,
            small in any::<bool>(),
        ) {
            let g = if small { Geometry::SMALL } else { Geometry::LARGE };
            let mask = if small { 1 } else { 0b1111 };
            let pages = Pages { resident: resident & mask, exclusive: exclusive & mask, swapped: 0 };
            let blocks = ((g.pool_size - 48) / block_size(class)) as u32;
            let carved = (2 + (f64::from(blocks - 2) * fill) as u32).min(blocks);
            let mut free: Vec<u32> = (0..carved).filter(|s| chosen[*s as usize]).collect();
            free.truncate(carved as usize - 1);
            let pool = used(&planted(AT, class, carved, &free, g), g);
            let mut account = Account::default();
            let back = pool.account(g, pages, &mut account);
            let (expected, expected_back) = recount(class, carved, &free, g, pages);
            prop_assert_eq!(account, expected);
            prop_assert_eq!(back.purge, expected_back);
            prop_assert_eq!(u64::from(back.holes.count_ones()) * OS_PAGE, account.holes);
            prop_assert_eq!(back.holes & !pages.resident, 0);
            prop_assert!(back.live_exclusive <= account.live);
            if pages.exclusive & pages.resident == pages.resident {
                prop_assert_eq!(back.live_exclusive, account.live);
            }
            prop_assert_eq!(account.total(), pages.resident_bytes());
        }

        #[test]
        fn lost_blocks_are_free_and_no_others(
            class in 0u8..32,
            fill in 0.0..=1.0f64,
            chosen in proptest::collection::vec(any::<bool>(), 1021),
            dead in 0u8..16,
            wanted in 0u8..16,
            stale in 0u8..16,
            resident in 0u8..16,
        ) {
            let g = Geometry::LARGE;
            let size = block_size(class);
            let blocks = ((g.pool_size - 48) / size) as u32;
            let carved = (2 + (f64::from(blocks - 2) * fill) as u32).min(blocks);
            // All blocks that touch a page of `dead` are free, and some others.
            let touches = |slot: u32| {
                let start = 48 + u64::from(slot) * size;
                (start / 4096..=(start + size - 1) / 4096).any(|k| dead >> k & 1 == 1)
            };
            let mut free: Vec<u32> =
                (0..carved).filter(|s| chosen[*s as usize] || touches(*s)).collect();
            free.truncate(carved as usize - 1);
            let pool = losing(AT, (class, carved, &free), wanted, g);
            let contents = match read(&pool.bytes, AT, g, zero(pool.dropped)) {
                Ok(Pool::Used(c)) => c,
                other => panic!("{other:?}"),
            };
            for slot in 0..carved {
                prop_assert_eq!(contents.is_live(u64::from(slot)), !free.contains(&slot));
            }
            let pages = Pages { resident, exclusive: resident, swapped: 0 };
            let mut account = Account::default();
            contents.account(g, pages, &mut account);
            prop_assert_eq!(account, recount(class, carved, &free, g, pages).0);
            // A mask that is stale says nothing of a pool whose list is whole.
            let whole = planted(AT, class, carved, &free, g);
            let Ok(Pool::Used(contents)) = read(&whole, AT, g, zero(stale)) else { panic!("torn") };
            prop_assert_eq!(contents.live, used(&whole, g).live);
            if pool.lost > 0 {
                prop_assert!(read(&pool.bytes, AT, g, NONE).is_err());
            }
        }

        #[test]
        fn free_runs_are_found_by_their_length(
            chosen in proptest::collection::vec(any::<bool>(), 200), length in 1u32..200,
        ) {
            let mut free: Vec<u32> = (0..200).filter(|s| chosen[*s as usize]).collect();
            free.truncate(199);
            let pool = used(&planted(AT, 0, 200, &free, Geometry::LARGE), Geometry::LARGE);
            let longest = chosen.split(|f| !f).map(<[bool]>::len).max().unwrap_or(0) as u32;
            prop_assert_eq!(pool.has_free_run(length), length <= longest.min(199));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 48..4096), class in 0u32..34) {
            let mut bytes = bytes;
            bytes[4..8].fill(0);
            bytes[36..40].copy_from_slice(&class.to_le_bytes());
            let _ = read(&bytes, AT, Geometry::SMALL, NONE);
            let _ = read(&bytes, AT, Geometry::SMALL, zero(0xf));
        }
    }
}
