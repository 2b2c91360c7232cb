//! tracemalloc's tables: which traceback each traced block has.
//!
//! Owns the forms of CPython's hash tables (`Modules/hashtable.c` in 3.8, `Python/hashtable.c` later), of
//! traces, tracebacks and the names of files, and where `_PyRuntime` has tracemalloc's state (3.12+; a
//! hint, it moves in patch releases). Before 3.12 the tables are static variables without exported names.
//!
//! Sources: DWARF of the builds named in `cpython.rs`; `Modules/_tracemalloc.c`, `Python/tracemalloc.c`.

use crate::word::{u32_at, u64_at};

/// `tracing` in `_PyTraceMalloc_Config`, which is `_Py_tracemalloc_config` before 3.12.
pub const TRACING: usize = 4;

/// Members of `_PyRuntime.tracemalloc`: filenames, tracebacks, traces and domains, all of them tables.
pub const TABLES: [u64; 4] = [160, 176, 184, 192];
/// Bytes of it that the readers want.
pub const STATE: usize = 200;

/// Where `_PyRuntime` has tracemalloc's state.
pub fn state_hint(minor: u8) -> Option<u64> {
    match minor {
        ..=11 => None,
        12 => Some(2768),
        13 => Some(10080),
        14 => Some(10296),
        15.. => Some(10432),
    }
}

/// Whether bytes may be tracemalloc's state while it traces.
pub fn is_tracing_state(bytes: &[u8]) -> bool {
    const INITIALIZED: u32 = 1;
    let tables = TABLES.map(|at| u64_at(bytes, at as usize));
    u32_at(bytes, 0) == INITIALIZED
        && u32_at(bytes, TRACING) == 1
        && (1..=0xffff).contains(&u32_at(bytes, 8))
        && tables.iter().all(|t| *t != 0 && t.is_multiple_of(16))
}

/// Bytes of a `_Py_hashtable_t` that [`table`] wants.
pub const TABLE: usize = 64;

/// What a table holds, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 3.8: keys of this size and then values, in the entry.
    Inline {
        /// 8, or 12 with domains.
        key: usize,
    },
    /// 3.9+: an address each.
    Boxed,
}

impl Form {
    /// Bytes of an entry.
    pub fn entry(self) -> usize {
        match self {
            Form::Inline { key } => 16 + key + TRACE,
            Form::Boxed => 32,
        }
    }
}

/// A `_Py_hashtable_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// How its entries look.
    pub form: Form,
    /// Entries.
    pub entries: u64,
    /// Buckets: a power of two.
    pub buckets: u64,
    /// Address of the array of their first entries' addresses.
    pub array: u64,
    /// Its functions: of the interpreter's code.
    pub functions: [u64; 2],
}

/// Reads a table of traces or, in 3.9+, of anything.
pub fn table(minor: u8, bytes: &[u8]) -> Option<Table> {
    let word = |i: usize| u64_at(bytes, 8 * i);
    const MOST_BUCKETS: u64 = 1 << 30;
    let (first, second, array) = (word(0), word(1), word(2));
    let (entries, buckets, form, functions) = if minor == 8 {
        let key = word(3) as usize;
        let traces = matches!(word(3), 8 | 12) && word(4) == TRACE as u64;
        if !traces {
            return None;
        }
        (second, first, Form::Inline { key }, [word(5), word(6)])
    } else {
        (first, second, Form::Boxed, [word(4), word(5)])
    };
    // It grows when it is more than half full.
    let sane = buckets.is_power_of_two()
        && (16..=MOST_BUCKETS).contains(&buckets)
        && entries <= buckets
        && array != 0
        && array.is_multiple_of(16)
        && functions.iter().all(|f| *f != 0);
    sane.then_some(Table { form, entries, buckets, array, functions })
}

/// `trace_t`: the block's size, and the address of its traceback.
pub const TRACE: usize = 16;

/// The address of the traceback in a `trace_t`.
pub fn traceback_of(trace: &[u8]) -> Option<u64> {
    let (size, traceback) = (u64_at(trace, 0), u64_at(trace, 8));
    (size < 1 << 47 && traceback != 0 && traceback.is_multiple_of(8)).then_some(traceback)
}

/// An entry in a table of traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Address of the next one in its bucket, or zero.
    pub next: u64,
    /// The block's address.
    pub block: u64,
    /// The address of its traceback, or where a `trace_t` stands.
    pub value: Value,
}

/// Where the traceback is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Here.
    Traceback(u64),
    /// Behind a `trace_t` here.
    Trace(u64),
}

/// Reads an entry; `None` where its hash is not that of its key.
pub fn entry(form: Form, bytes: &[u8]) -> Option<Entry> {
    let (next, hash, block) = (u64_at(bytes, 0), u64_at(bytes, 8), u64_at(bytes, 16));
    let (domain, value) = match form {
        Form::Inline { key } => {
            let domain = if key == 12 { u32_at(bytes, 24) } else { 0 };
            (domain, Value::Traceback(traceback_of(bytes.get(16 + key..)?)?))
        }
        Form::Boxed => (0, Value::Trace(u64_at(bytes, 24))),
    };
    let linked = next.is_multiple_of(8) && value != Value::Trace(0);
    (linked && hash == hash_of(block) ^ u64::from(domain)).then_some(Entry { next, block, value })
}

/// `_Py_HashPointer`.
fn hash_of(pointer: u64) -> u64 {
    match pointer.rotate_right(4) {
        u64::MAX => u64::MAX - 1,
        hash => hash,
    }
}

/// An entry in the table of domains (3.9+): the next entry, and the table of the domain's traces.
pub fn domain(bytes: &[u8]) -> Option<(u64, u64)> {
    let (next, hash, number) = (u64_at(bytes, 0), u64_at(bytes, 8), u64_at(bytes, 16));
    let table = u64_at(bytes, 24);
    (hash == number && number <= u64::from(u32::MAX) && table != 0).then_some((next, table))
}

/// Bytes of a `traceback_t` that [`innermost`] wants.
pub const TRACEBACK: usize = 24;

/// Where a block was allocated: the address of the file's name, and the line.
pub fn innermost(minor: u8, bytes: &[u8]) -> Option<(u64, u32)> {
    let frames = if minor == 8 { u32_at(bytes, 8) } else { u32_at(bytes, 8) & 0xffff };
    // Frames are packed, the innermost one first.
    let (file, line) = (u64_at(bytes, 12), u32_at(bytes, 20));
    ((1..=0xffff).contains(&frames) && file != 0 && line < 1 << 31).then_some((file, line))
}

/// How a file's name is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileName {
    /// A `str`.
    Object,
    /// 3.15+: UTF-8, ended by a zero.
    Utf8,
}

/// How a version keeps the names of files.
pub fn file_name(minor: u8) -> FileName {
    if minor >= 15 { FileName::Utf8 } else { FileName::Object }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn tables_are_powers_of_two_and_have_functions() {
        let good = [5, 16, 0x1000, 0x10, 0x20, 0x30, 0, 0];
        let found = table(13, &bytes(&good)).unwrap();
        assert_eq!((found.entries, found.buckets, found.form), (5, 16, Form::Boxed));
        for (at, bad) in [(0, 17), (1, 24), (2, 0x1008), (2, 0), (4, 0)] {
            let mut words = good;
            words[at] = bad;
            assert_eq!(table(13, &bytes(&words)), None);
        }
        let old = [16, 5, 0x1000, 12, 16, 0x20, 0x30, 0];
        assert_eq!(table(8, &bytes(&old)).unwrap().form, Form::Inline { key: 12 });
        assert_eq!(table(8, &bytes(&good)), None);
        assert_eq!(table(13, &[]), None);
    }

    #[test]
    fn entries_have_the_hash_of_their_key() {
        let key = 0x7f00_1234_5670_u64;
        let good = bytes(&[0, key >> 4, key, 0x2000]);
        let wanted = Entry { next: 0, block: key, value: Value::Trace(0x2000) };
        assert_eq!(entry(Form::Boxed, &good), Some(wanted));
        assert_eq!(entry(Form::Boxed, &bytes(&[0, key, key, 0x2000])), None);
        assert_eq!(entry(Form::Boxed, &[]), None);
        // With a domain: a key of 12 bytes, then the trace.
        let mut inline = bytes(&[0, key >> 4 ^ 3, key]);
        inline.extend(3u32.to_le_bytes());
        inline.extend(bytes(&[48, 0x3000]));
        let wanted = Entry { next: 0, block: key, value: Value::Traceback(0x3000) };
        assert_eq!(entry(Form::Inline { key: 12 }, &inline), Some(wanted));
    }

    #[test]
    fn the_first_frame_is_read_packed() {
        let mut b = bytes(&[7]);
        b.extend([2, 0, 9, 0]);
        b.extend(0x5000u64.to_le_bytes());
        b.extend(42u32.to_le_bytes());
        assert_eq!(innermost(13, &b), Some((0x5000, 42)));
        assert_eq!(innermost(8, &b), None);
        assert_eq!(innermost(13, &b[..12]), None);
    }
}
