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
/// `_PyMem_Debug` is a row of three debug APIs ('r', 'm', 'o'), always initialised; the compiler
/// lays `_PyMem_Raw`, `_PyMem` and `_PyObject` beside it. Their order is not known and not needed.
pub fn find_static(words: &[u64], is_code: impl Fn(u64) -> bool + Copy) -> Option<[Allocator; 3]> {
    const NEAR: usize = 64;
    let api = |at: usize, id: u8| {
        words.get(at) == Some(&u64::from(id))
            && words.get(at + 1..).is_some_and(|w| allocator(w, is_code).is_some())
    };
    let debug = (0..words.len()).find(|at| {
        api(*at, b'r') && api(at + DEBUG_API / 8, b'm') && api(at + 2 * DEBUG_API / 8, b'o')
    })?;
    let debug_end = debug + 3 * DEBUG_API / 8;
    let mut near = (debug.saturating_sub(NEAR)..words.len().min(debug_end + NEAR))
        .filter(|at| at + 5 <= debug || *at >= debug_end)
        .filter_map(|at| allocator(&words[at..], is_code));
    let three = [near.next()?, near.next()?, near.next()?];
    near.next().is_none().then_some(three)
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
        assert_eq!(found.map(|a| a.malloc), [1100, 1100, 1000]);
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
