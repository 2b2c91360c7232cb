//! One pool: from its bytes and the residency of its OS pages to the terms of the account.
//!
//! Owns the free-list walk with its validation and the arithmetic per OS page. Knows nothing of
//! arenas, processes or retries: it says [`Torn`] and the caller reads again.

use pydefrag_heap::{Account, OS_PAGE};
use pydefrag_layout::pymalloc::{
    Geometry, POOL_HEADER, PoolHeader, block_size, pool_header, slot_of,
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
    /// Bytes that a purge gives back: OS pages with neither a live byte nor the header.
    pub(crate) purge: u64,
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

/// Reads a pool from its bytes, following its free list to the end.
pub(crate) fn read(bytes: &[u8], address: u64, g: Geometry) -> Result<Pool, Torn> {
    let header = pool_header(bytes, address, g).ok_or(Torn)?;
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
    if length != header.carved - header.used {
        return Err(Torn);
    }
    Ok(Pool::Used(Contents { header, class, live }))
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

    /// Adds the pool to the account, and says what of it could come back.
    pub(crate) fn account(&self, g: Geometry, pages: Pages, to: &mut Account) -> Returnable {
        let size = block_size(self.class);
        let head = POOL_HEADER as u64;
        let virgin_from = head + u64::from(self.header.carved) * size;
        let unusable_from = head + g.blocks(self.class) * size;
        let mut back = Returnable::default();
        for page in 0..g.pool_size / OS_PAGE {
            let (start, end) = (page * OS_PAGE, (page + 1) * OS_PAGE);
            let live = self.live_bytes(start, end);
            if pages.resident >> page & 1 == 0 {
                to.live_not_resident += live;
                continue;
            }
            let exclusive = u64::from(pages.exclusive >> page & 1);
            back.live_exclusive += exclusive * live;
            if live == 0 && page > 0 {
                to.holes += OS_PAGE;
                back.holes |= 1 << page;
                back.purge += exclusive * OS_PAGE;
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
        let last_live = (0..BITMAP)
            .rev()
            .find(|i| self.live[*i] != 0)
            .map_or(0, |i| 64 * i as u64 + 63 - u64::from(self.live[i].leading_zeros()));
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: u64 = 0x7f00_0000_0000;
    const ALL: Pages = Pages { resident: 0b1111, exclusive: 0b1111, swapped: 0 };

    /// A pool as obmalloc.c would write it: `carved` blocks of `class`, those of `free` on its list.
    fn planted(class: u8, carved: u32, free: &[u32], g: Geometry) -> Vec<u8> {
        let size = block_size(class) as u32;
        let mut b = vec![0xaa; g.pool_size as usize];
        let put32 =
            |b: &mut [u8], at: usize, v: u32| b[at..at + 4].copy_from_slice(&v.to_le_bytes());
        let put64 =
            |b: &mut [u8], at: usize, v: u64| b[at..at + 8].copy_from_slice(&v.to_le_bytes());
        let block = |slot: u32| AT + 48 + u64::from(slot * size);
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

    fn used(bytes: &[u8], g: Geometry) -> Contents {
        match read(bytes, AT, g) {
            Ok(Pool::Used(c)) => c,
            other => panic!("{other:?}"),
        }
    }

    /// The account byte by byte, the slow and obvious way.
    fn recount(c: u8, carved: u32, free: &[u32], g: Geometry, pages: Pages) -> (Account, u64) {
        let size = block_size(c);
        let blocks = (g.pool_size - 48) / size;
        let kind = |byte: u64| match byte.checked_sub(48).map(|b| b / size) {
            None => 'h',
            Some(s) if s >= blocks => 'h',
            Some(s) if s >= u64::from(carved) => 'v',
            Some(s) if free.contains(&(s as u32)) => 'f',
            Some(_) => 'l',
        };
        let (mut a, mut back) = (Account::default(), 0);
        for page in 0..g.pool_size / 4096 {
            let bytes: Vec<char> = (page * 4096..(page + 1) * 4096).map(kind).collect();
            let n = |k| bytes.iter().filter(|b| **b == k).count() as u64;
            if pages.resident >> page & 1 == 0 {
                a.live_not_resident += n('l');
            } else if n('l') == 0 && page > 0 {
                a.holes += 4096;
                back += u64::from(pages.exclusive >> page & 1) * 4096;
            } else {
                a.live += n('l');
                a.metadata += n('h');
                a.virgin += n('v');
                a.pinned_free += n('f');
            }
        }
        (a, back)
    }

    #[test]
    fn a_free_pool_has_no_contents() {
        let bytes = planted(3, 10, &(0..10).collect::<Vec<_>>(), Geometry::LARGE);
        assert!(matches!(read(&bytes, AT, Geometry::LARGE), Ok(Pool::Free(_))));
    }

    #[test]
    fn broken_lists_are_torn() {
        let g = Geometry::LARGE;
        let good = planted(2, 9, &[4, 1, 7], g);
        assert!(read(&good, AT, g).is_ok());
        let torn = |at: usize, v: u64| {
            let mut b = good.clone();
            b[at..at + 8].copy_from_slice(&v.to_le_bytes());
            read(&b, AT, g).is_err()
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
    fn the_longest_free_run_is_found_inside_and_at_the_end() {
        let g = Geometry::LARGE;
        let mut runs = FreeRuns::default();
        // Blocks of 512: 31 a pool, 10 carved; 2..=5 free in the middle.
        used(&planted(31, 10, &[2, 3, 4, 5], g), g).free_runs(g, ALL, &mut runs);
        assert_eq!(runs.longest, 16384 - 48 - 10 * 512);
        let mut runs = FreeRuns::default();
        used(&planted(31, 31, &[2, 3, 4, 5], g), g).free_runs(g, ALL, &mut runs);
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
            let pool = used(&planted(class, carved, &free, g), g);
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
        fn free_runs_are_found_by_their_length(
            chosen in proptest::collection::vec(any::<bool>(), 200), length in 1u32..200,
        ) {
            let mut free: Vec<u32> = (0..200).filter(|s| chosen[*s as usize]).collect();
            free.truncate(199);
            let pool = used(&planted(0, 200, &free, Geometry::LARGE), Geometry::LARGE);
            let longest = chosen.split(|f| !f).map(<[bool]>::len).max().unwrap_or(0) as u32;
            prop_assert_eq!(pool.has_free_run(length), length <= longest.min(199));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 48..4096), class in 0u32..34) {
            let mut bytes = bytes;
            bytes[4..8].fill(0);
            bytes[36..40].copy_from_slice(&class.to_le_bytes());
            let _ = read(&bytes, AT, Geometry::SMALL);
        }
    }
}
