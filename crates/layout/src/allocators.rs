//! CPython's allocator tables: `PyMemAllocatorEx` and what wraps it.
//!
//! Owns the recognition of the three domains' tables (raw, mem, obj) and of the debug hooks' copies.
//! The functions' names are not exported, so only equality between domains is ever used.

/// Bytes of a `PyMemAllocatorEx`: ctx, malloc, calloc, realloc, free.
pub const ALLOCATOR: usize = 40;
/// Bytes of a `debug_alloc_api_t`: api id, then the wrapped `PyMemAllocatorEx`.
pub const DEBUG_API: usize = 48;

/// A `PyMemAllocatorEx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocator {
    /// First argument of every call: NULL for CPython's own allocators, the wrapper's state else.
    pub ctx: u64,
    /// Code address of `malloc`.
    pub malloc: u64,
}

/// Reads an allocator from five words: `ctx` is not code, the other four are.
pub fn allocator(words: &[u64], is_code: impl Fn(u64) -> bool) -> Option<Allocator> {
    let [ctx, malloc, rest @ ..] = words.first_chunk::<5>()?;
    (!is_code(*ctx) && is_code(*malloc) && rest.iter().all(|w| is_code(*w)))
        .then_some(Allocator { ctx: *ctx, malloc: *malloc })
}

/// Whether a word can be the api id that begins a `debug_alloc_api_t`.
pub fn is_debug_api_id(word: u64) -> bool {
    matches!(word as u8, b'r' | b'm' | b'o') && word >> 8 == 0
}

/// Finds the three static tables among the words of the interpreter's data (3.8-3.11).
///
/// `_PyMem_Debug` is a row of three debug APIs ('r', 'm', 'o'), always initialised; the compiler lays
/// `_PyMem_Raw`, `_PyMem` and `_PyObject` right before and behind it, in any order. A table without
/// state holds the same functions as one of the row's; of what else looks like a table, the nearest
/// are taken.
pub fn find_static(words: &[u64], is_code: impl Fn(u64) -> bool + Copy) -> Option<[Allocator; 3]> {
    /// Three tables of 5 words, each aligned to 8, take no more words than this.
    const NEAR: usize = 26;
    const ROW: usize = 3 * DEBUG_API / 8;
    let api = |at: usize, id: u8| {
        let table = words.get(at + 1..).and_then(|w| allocator(w, is_code));
        table.filter(|_| words[at] == u64::from(id)).map(|t| t.malloc)
    };
    let (row, plain) = (0..words.len()).find_map(|at| {
        let step = DEBUG_API / 8;
        Some((at, [api(at, b'r')?, api(at + step, b'm')?, api(at + 2 * step, b'o')?]))
    })?;
    let behind = row + ROW;
    let near = (row.saturating_sub(NEAR)..row.saturating_sub(4))
        .map(|at| (row - at, at))
        .chain((behind..words.len().min(behind + NEAR)).map(|at| (at + 5 - behind, at)));
    let mut found: Nearest = [None; 3];
    for (distance, at) in near {
        let Some(table) = allocator(&words[at..], is_code) else { continue };
        if table.ctx != 0 || plain.contains(&table.malloc) {
            keep_nearest(&mut found, distance, table);
        }
    }
    let [a, b, c] = found;
    Some([a?.1, b?.1, c?.1])
}

type Nearest = [Option<(usize, Allocator)>; 3];

/// Inserts by distance; the farthest of more than three falls out.
fn keep_nearest(found: &mut Nearest, distance: usize, table: Allocator) {
    let mut new = Some((distance, table));
    for slot in found {
        if slot.is_none_or(|(d, _)| new.is_some_and(|(n, _)| n < d)) {
            std::mem::swap(slot, &mut new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: std::ops::Range<u64> = 1000..2000;

    fn is_code(w: u64) -> bool {
        CODE.contains(&w)
    }

    fn table(first: u64) -> [u64; 5] {
        [0, first, first + 1, first + 2, first + 3]
    }

    #[test]
    fn static_tables_are_found_beside_the_debug_row() {
        let (raw, obj) = (table(1000), table(1100));
        let mut w = vec![7; 200];
        for t in [obj, obj, raw] {
            w.extend(t);
            w.extend([0; 3]);
        }
        for (id, t) in [(b'r', raw), (b'm', obj), (b'o', obj)] {
            w.push(u64::from(id));
            w.extend(t);
        }
        w.extend([9; 200]);
        let found = find_static(&w, is_code).unwrap();
        // Nearest first: raw lies next to the row.
        assert_eq!(found.map(|a| a.malloc), [1000, 1100, 1100]);
        assert_eq!(find_static(&w[..w.len() - 205], is_code), None, "cut within the debug row");
    }

    #[test]
    fn a_table_with_data_among_its_functions_is_none() {
        assert!(allocator(&table(1000), is_code).is_some());
        assert!(allocator(&[0, 1000, 1001, 5, 1002], is_code).is_none());
        assert!(allocator(&[1000, 1000, 1001, 1005, 1002], is_code).is_none());
        assert!(allocator(&[0, 1000], is_code).is_none());
    }
}
