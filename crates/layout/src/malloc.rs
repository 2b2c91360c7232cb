//! glibc's malloc: arenas (`malloc_state`), chunks, tcaches.
//!
//! From `malloc/malloc.c` and `malloc/arena.c`, 2.31 to 2.43, x86-64. Two things moved in that time:
//! 2.43 has no fastbins, and from 2.42 on a tcache has more bins and counts free slots, not entries.
//! Which form is there is told by what validates, not by the version. Safe-linking came with 2.32.

use crate::word::u64_at;

/// Bytes of the words of a chunk that precede what the program gets.
pub const CHUNK_HEADER: u64 = 16;
/// Smallest chunk (`MINSIZE`).
pub const SMALLEST_CHUNK: u64 = 32;
/// Size field of the chunks that end a heap which is not the last.
pub const FENCEPOST: u64 = 16;
/// `sizeof (struct malloc_chunk)`: what malloc_trim keeps at the start of a free chunk.
pub const FREE_CHUNK: u64 = 48;

/// Words of `bins`: 127 pairs of list ends.
pub const BINS: usize = 254;

/// Offsets relative to `bins`, the same in all versions.
pub mod from_bins {
    /// `top`.
    pub const TOP: u64 = 16;
    /// `next`, the ring of arenas.
    pub const NEXT: u64 = 2048;
    /// `system_mem`.
    pub const SYSTEM: u64 = 2072;
}

/// One form of `malloc_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// Offset of `bins`.
    pub bins: u64,
    /// Offset of `fastbinsY`, ten list heads.
    pub fastbins: Option<u64>,
    /// Size of the whole.
    pub size: u64,
}

/// The forms there are: up to 2.42, and 2.43.
pub const FORMS: [Form; 2] = [
    Form { bins: 112, fastbins: Some(16), size: 2200 },
    Form { bins: 24, fastbins: None, size: 2112 },
];

/// Number of fastbins.
pub const FASTBINS: usize = 10;

/// What an arena says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Address of the top chunk.
    pub top: u64,
    /// Address of the next arena in the ring.
    pub next: u64,
    /// Bytes from the system.
    pub system: u64,
    /// Heads of the fastbins, chunk addresses or 0.
    pub fastbins: [u64; FASTBINS],
}

impl Form {
    /// Reads the `malloc_state` at `address` from its [`Form::size`] bytes; `None` unless its bins are
    /// a malloc's: each pair empty, that is pointing at itself, or two chunk addresses.
    pub fn state(&self, bytes: &[u8], address: u64) -> Option<State> {
        if bytes.len() < self.size as usize {
            return None;
        }
        let word = |offset: u64| u64_at(bytes, offset as usize);
        let bins = address + self.bins;
        let pair = |i: u64| (word(self.bins + i * 16), word(self.bins + i * 16 + 8));
        (0..BINS as u64 / 2).all(|i| is_bin(bins, i, pair(i))).then_some(())?;
        let top = word(self.bins - from_bins::TOP);
        let mut fastbins = [0; FASTBINS];
        if let Some(at) = self.fastbins {
            for (i, head) in fastbins.iter_mut().enumerate() {
                *head = word(at + i as u64 * 8);
            }
        }
        let aligned = top.is_multiple_of(8) && fastbins.iter().all(|f| f.is_multiple_of(16));
        (aligned && top != 0 && top >> 47 == 0).then_some(State {
            top,
            next: word(self.bins + from_bins::NEXT),
            system: word(self.bins + from_bins::SYSTEM),
            fastbins,
        })
    }
}

/// Whether a pair of words may be the ends of the list of bin `i`, whose pretended chunk begins 16
/// bytes before the pair: empty, it points at that; else at two chunks, and at no other bin.
fn is_bin(bins: u64, i: u64, (first, last): (u64, u64)) -> bool {
    let bin = bins + i * 16 - 16;
    let inside = |at: u64| (bins - 16..bins + BINS as u64 * 8).contains(&at);
    let chunk = |at: u64| at.is_multiple_of(16) && at > 4096 && at >> 47 == 0 && !inside(at);
    (first == bin && last == bin) || (chunk(first) && chunk(last))
}

/// Addresses within the words at `start` where the `bins` of an arena may begin: 127 pairs in a row that
/// may each be a bin. In a heap of many holes hardly one is empty, so that tells nothing; what is found is
/// believed only if the arena around it is sound and its ring of arenas closes.
pub fn find_bins(words: &[u64], start: u64) -> impl Iterator<Item = u64> + '_ {
    (0..(words.len() + 1).saturating_sub(BINS)).filter_map(move |i| {
        let bins = start + i as u64 * 8;
        let pair = |k: usize| (words[i + 2 * k], words[i + 2 * k + 1]);
        let whole = || (0..BINS / 2).all(|k| is_bin(bins, k as u64, pair(k)));
        (is_bin(bins, 0, pair(0)) && whole()).then_some(bins)
    })
}

/// The header of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Size of the chunk before, where that is free.
    pub previous_size: u64,
    /// Size, a multiple of 16.
    pub size: u64,
    /// The chunk before is in use.
    pub previous_in_use: bool,
    /// It belongs to a thread arena.
    pub thread_arena: bool,
}

/// Reads a chunk's header: `None` for what is none inside an arena. A size may be 0 or 16 (fenceposts).
pub fn chunk(previous_size: u64, size: u64) -> Option<Chunk> {
    const FLAGS: u64 = 7;
    let (flags, size) = (size & FLAGS, size & !FLAGS);
    let mmapped = flags & 2 != 0;
    (!mmapped && size.is_multiple_of(16) && size >> 46 == 0).then_some(Chunk {
        previous_size,
        size,
        previous_in_use: flags & 1 != 0,
        thread_arena: flags & 4 != 0,
    })
}

/// A list's next pointer as it was before safe-linking hid it; `at` is where it is stored.
pub fn reveal(at: u64, stored: u64, safe_linking: bool) -> u64 {
    if safe_linking { (at >> 12) ^ stored } else { stored }
}

/// One form of `tcache_perthread_struct`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcacheForm {
    /// Size of the chunk that holds it.
    pub chunk: u64,
    /// Bins, each with a u16 at the start and a list head behind all of these.
    pub bins: usize,
    /// The u16 counts free slots rather than entries.
    pub counts_slots: bool,
}

/// The forms there are: 2.30 to 2.41, and from 2.42 on.
pub const TCACHE_FORMS: [TcacheForm; 2] = [
    TcacheForm { chunk: 0x290, bins: 64, counts_slots: false },
    TcacheForm { chunk: 0x300, bins: 76, counts_slots: true },
];

/// Bins whose entries all have the same size; the others hold a range of larger ones.
pub const TCACHE_SMALL_BINS: usize = 64;
/// No bin of a tcache holds more (`tcache_count` is at most `UINT16_MAX`).
pub const TCACHE_MOST: u64 = u16::MAX as u64;

impl TcacheForm {
    /// Bytes to read.
    pub fn size(&self) -> usize {
        (self.bins * 10).next_multiple_of(8)
    }

    /// The count and the list head (address of the user's memory, or 0) of each bin.
    pub fn bins<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = (u64, u64)> + 'a {
        let (heads, bins) = ((self.bins * 2).next_multiple_of(8), self.bins);
        (0..bins).map(move |i| {
            let count = bytes.get(i * 2..i * 2 + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]));
            (u64::from(count), u64_at(bytes, heads + i * 8))
        })
    }

    /// Size of the chunks in a small bin.
    pub fn chunk_size(bin: usize) -> u64 {
        SMALLEST_CHUNK + bin as u64 * 16
    }
}

/// First chunk in an arena's first heap, behind its `malloc_state`.
pub fn first_chunk(arena: u64, form: Form) -> u64 {
    (arena + form.size).next_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An arena with empty bins at `address`, in the given form.
    fn arena(address: u64, form: Form) -> Vec<u64> {
        let mut words = vec![0; form.size as usize / 8];
        let bins = form.bins as usize / 8;
        for i in 0..BINS / 2 {
            let bin = address + form.bins + i as u64 * 16 - 16;
            (words[bins + 2 * i], words[bins + 2 * i + 1]) = (bin, bin);
        }
        words[bins - 2] = 0x55_0000;
        words[bins + 256] = address;
        words[bins + 259] = 0x21000;
        words
    }

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn an_arena_is_found_and_read_in_both_forms() {
        for form in FORMS {
            let at = 0x7f00_0000_1000;
            let words = arena(at, form);
            let mut data = vec![7; 100];
            data.extend(&words);
            data.extend([9; 40]);
            let found: Vec<_> = find_bins(&data, at - 800).collect();
            assert!(found.contains(&(at + form.bins)), "{found:x?}");
            let state = form.state(&bytes(&words), at).unwrap();
            assert_eq!((state.top, state.next, state.system), (0x55_0000, at, 0x21000));
            assert_eq!(form.state(&bytes(&words), at + 16), None);
            assert_eq!(form.state(&bytes(&words)[8..], at), None);
        }
    }

    #[test]
    fn an_arena_without_an_empty_bin_is_found() {
        let (at, form) = (0x7f00_0000_1000, FORMS[1]);
        let mut words = arena(at, form);
        for i in 0..BINS {
            words[form.bins as usize / 8 + i] = 0x5500_0000_0000 + i as u64 * 64;
        }
        let found: Vec<_> = find_bins(&words, at).collect();
        assert!(found.contains(&(at + form.bins)), "{found:x?}");
        assert!(form.state(&bytes(&words), at).is_some());
    }

    #[test]
    fn chunks_and_links_are_read() {
        let c = chunk(0x40, 0x1f5).unwrap();
        assert_eq!((c.size, c.previous_in_use, c.thread_arena), (0x1f0, true, true));
        assert_eq!(chunk(0, 0x22), None, "mmapped");
        assert_eq!(chunk(0, 0x29), None, "unaligned");
        assert_eq!(reveal(0x5000, 0x1235, true), 0x1230);
        assert_eq!(reveal(0x5000, 0x1235, false), 0x1235);
    }

    #[test]
    fn tcaches_of_both_forms_are_read() {
        for form in TCACHE_FORMS {
            let mut b = vec![0; form.size()];
            b[6] = 5;
            let head = (form.bins * 2).next_multiple_of(8) + 3 * 8;
            b[head..head + 8].copy_from_slice(&0x1234_5670_u64.to_le_bytes());
            assert_eq!(form.bins(&b).nth(3), Some((5, 0x1234_5670)));
            assert_eq!(form.bins(&b).count(), form.bins);
            assert!(form.size() as u64 + 8 <= form.chunk);
        }
        assert_eq!(TcacheForm::chunk_size(61), 0x3f0);
    }
}
