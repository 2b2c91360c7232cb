//! CPython's free lists: objects and dict keys that were freed, but kept for the next of their kind.
//! pymalloc counts their blocks as used.
//!
//! Owns where the lists are (3.10+: relative to a base inside `PyInterpreterState`; before, in static
//! variables of any order), how they are linked and how long they get. The base moves in patch releases:
//! it is a hint, to be confirmed by what the lists hold. What lies behind the base never moved.
//!
//! Sources: DWARF of the builds named in `cpython.rs`; `Objects/*object.c` of 3.8 and 3.9,
//! `pycore_freelist_state.h` (3.13+), `pycore_interp.h`.

/// How a list's members hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A head; each member holds the next one's address at this offset, the last one zero.
    Chain(u64),
    /// An array of addresses; those behind the count are stale.
    Array,
    /// One address, or zero.
    Single,
}

/// What a member looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// An object of the static type with this `tp_name`, less what is before its last dot.
    Object(&'static str),
    /// A float whose `ob_type` is the link (3.8-3.13).
    Float,
    /// Dict keys for up to eight entries, or five.
    Keys,
    /// No object.
    Buffer,
}

/// A list, or several of the same kind in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeList {
    /// What is on it.
    pub what: &'static str,
    /// What that looks like.
    pub member: Member,
    /// How it is linked.
    pub shape: Shape,
    /// Offset of the head or array from the base.
    pub head: u64,
    /// Offset of the number of members.
    pub count: u64,
    /// Members that it has at most.
    pub most: u32,
    /// Lists in the row.
    pub times: u64,
    /// From one head, and from one count, to the next.
    pub steps: (u64, u64),
}

/// The free lists of an interpreter.
#[derive(Debug, Clone, Copy)]
pub struct FreeLists {
    /// Where the base may be in `PyInterpreterState`, likeliest first.
    pub bases: &'static [u64],
    /// The lists.
    pub lists: &'static [FreeList],
}

/// A base lies no further than this from where a known patch release has it.
pub const DRIFT: u64 = 1024;

const fn list(what: &'static str, member: Member, shape: Shape, head: u64, most: u32) -> FreeList {
    FreeList { what, member, shape, head, count: head + 8, most, times: 1, steps: (0, 0) }
}

const fn array(what: &'static str, member: Member, head: u64, count: u64) -> FreeList {
    FreeList { count, ..list(what, member, Shape::Array, head, 80) }
}

/// 3.8-3.13: a list per length, chained through the first item.
const fn tuples(head: u64) -> FreeList {
    FreeList {
        count: head + 160,
        times: 20,
        steps: (8, 4),
        ..list("tuple", Member::Object("tuple"), Shape::Chain(24), head, 2000)
    }
}

/// 3.14+: every list is a head and a size, chained through the reference count.
const fn linked(what: &'static str, member: Member, head: u64, most: u32) -> FreeList {
    list(what, member, Shape::Chain(0), head, most)
}

const fn object(what: &'static str, head: u64, most: u32) -> FreeList {
    linked(what, Member::Object(what), head, most)
}

const fn linked_tuples(head: u64) -> FreeList {
    FreeList { times: 20, steps: (16, 16), ..object("tuple", head, 2000) }
}

const FLOATS: FreeList =
    FreeList { head: 8, count: 0, ..list("float", Member::Float, Shape::Chain(8), 8, 100) };
const LIST: Member = Member::Object("list");
const DICT: Member = Member::Object("dict");
const FRAME: Member = Member::Object("frame");
const CONTEXT: Member = Member::Object("Context");
const WRAPPED: Member = Member::Object("async_generator_wrapped_value");
const ASEND: Member = Member::Object("async_generator_asend");
const SLICE: Member = Member::Object("slice");

/// The base is `float_state`.
const V10: FreeLists = FreeLists {
    bases: &[9776],
    lists: &[
        FLOATS,
        list("slice", SLICE, Shape::Single, 16, 1),
        tuples(24),
        array("list", LIST, 264, 904),
        array("dict", DICT, 912, 1552),
        array("dict keys", Member::Keys, 1560, 2200),
        list("frame", FRAME, Shape::Chain(24), 2208, 200),
        array("async_generator_wrapped_value", WRAPPED, 2224, 2864),
        array("async_generator_asend", ASEND, 2872, 3512),
        list("Context", CONTEXT, Shape::Chain(32), 3520, 255),
    ],
};

/// The same without frames.
const V11: FreeLists = FreeLists {
    bases: &[3608],
    lists: &[
        FLOATS,
        list("slice", SLICE, Shape::Single, 16, 1),
        tuples(24),
        array("list", LIST, 264, 904),
        array("dict", DICT, 912, 1552),
        array("dict keys", Member::Keys, 1560, 2200),
        array("async_generator_wrapped_value", WRAPPED, 2208, 2848),
        array("async_generator_asend", ASEND, 2856, 3496),
        list("Context", CONTEXT, Shape::Chain(32), 3504, 255),
    ],
};

/// The same with the state of `dtoa.c` behind floats, and with watchers of dicts.
const V12: FreeLists = FreeLists {
    bases: &[267_408],
    lists: &[
        FLOATS,
        list("slice", SLICE, Shape::Single, 2416, 1),
        tuples(2424),
        array("list", LIST, 2664, 3304),
        array("dict", DICT, 3328, 4608),
        array("dict keys", Member::Keys, 3968, 4612),
        array("async_generator_wrapped_value", WRAPPED, 4680, 5320),
        array("async_generator_asend", ASEND, 5328, 5968),
        list("Context", CONTEXT, Shape::Chain(32), 5976, 255),
    ],
};

/// The base is `object_state.freelists`.
const V13: FreeLists = FreeLists {
    bases: &[10952],
    lists: &[
        FLOATS,
        tuples(16),
        array("list", LIST, 256, 896),
        array("dict", DICT, 904, 1544),
        array("dict keys", Member::Keys, 1552, 2192),
        list("slice", SLICE, Shape::Single, 2200, 1),
        list("Context", CONTEXT, Shape::Chain(32), 2208, 255),
        array("async_generator_wrapped_value", WRAPPED, 2224, 2864),
        array("async_generator_asend", ASEND, 2872, 3512),
    ],
};

const V14: FreeLists = FreeLists {
    bases: &[11120, 11096, 11088],
    lists: &[
        object("float", 0, 100),
        object("int", 16, 100),
        linked_tuples(32),
        object("list", 352, 80),
        object("list_iterator", 368, 10),
        object("tuple_iterator", 384, 10),
        object("dict", 400, 80),
        linked("dict keys", Member::Keys, 416, 80),
        object("slice", 432, 1),
        object("range", 448, 6),
        object("range_iterator", 464, 6),
        object("Context", 480, 255),
        object("async_generator_wrapped_value", 496, 80),
        object("async_generator_asend", 512, 80),
        object("FutureIter", 528, 255),
        linked("object stack", Member::Buffer, 544, 4),
        linked("unicode writer", Member::Buffer, 560, 1),
        object("builtin_function_or_method", 576, 16),
        object("builtin_method", 592, 16),
        object("method", 608, 20),
    ],
};

const V15: FreeLists = FreeLists {
    bases: &[11096],
    lists: &[
        object("float", 0, 100),
        object("complex", 16, 100),
        object("int", 32, 100),
        linked_tuples(48),
        object("list", 368, 80),
        object("list_iterator", 384, 10),
        object("tuple_iterator", 400, 10),
        object("dict", 416, 80),
        linked("dict keys", Member::Keys, 432, 80),
        object("slice", 448, 1),
        object("range", 464, 6),
        object("range_iterator", 480, 6),
        object("Context", 496, 255),
        object("async_generator_wrapped_value", 512, 80),
        object("async_generator_asend", 528, 80),
        object("FutureIter", 544, 255),
        linked("object stack", Member::Buffer, 560, 4),
        linked("unicode writer", Member::Buffer, 576, 1),
        linked("bytes writer", Member::Buffer, 592, 1),
        object("builtin_function_or_method", 608, 16),
        object("builtin_method", 624, 16),
        object("method", 640, 20),
    ],
};

/// The free lists of an interpreter of 3.10 or later.
pub fn free_lists(minor: u8) -> Option<&'static FreeLists> {
    match minor {
        10 => Some(&V10),
        11 => Some(&V11),
        12 => Some(&V12),
        13 => Some(&V13),
        14 => Some(&V14),
        15.. => Some(&V15),
        _ => None,
    }
}

/// 3.8 and 3.9: what static heads and arrays hold, by `tp_name`, and where a member of a chain holds the
/// next one's address. Floats and dict keys come in addition.
pub const STATIC: &[(&str, Option<u64>)] = &[
    ("tuple", Some(24)),
    ("list", None),
    ("dict", None),
    ("frame", Some(24)),
    ("builtin_function_or_method", Some(24)),
    ("method", Some(24)),
    ("Context", Some(32)),
    ("async_generator_wrapped_value", None),
    ("async_generator_asend", None),
    ("slice", None),
];

/// Members of the longest chain.
pub const LONGEST: u32 = 2000;
/// Members of the longest chain of floats.
pub const MOST_FLOATS: u32 = 100;

/// The link is where the reference count was (3.14+); before, the reference count of a member is zero.
pub fn links_in_refcount(minor: u8) -> bool {
    minor >= 14
}

/// Whether keys with this second word are of the one size that is kept.
pub fn are_kept_keys(minor: u8, second: u64) -> bool {
    match minor {
        // dk_size.
        ..=10 => second == 8,
        // dk_log2_size, dk_log2_index_bytes, dk_kind; dk_version is stale.
        _ => matches!(second.to_le_bytes(), [3, 3, kind, ..] if kind <= 2),
    }
}

/// Whether objects of a type that has a free list stand behind a GC head.
pub fn has_gc_head(what: &str) -> bool {
    !matches!(what, "float" | "int" | "complex" | "range" | "range_iterator")
}

/// Whether a GC head is that of an object that the collector does not track, as on a free list.
pub fn is_untracked(next: u64, prev: u64) -> bool {
    const FINALIZED: u64 = 1;
    next == 0 && prev & !FINALIZED == 0
}

/// The types that have a free list, by the symbol that names them, and what is on it.
pub const TYPES: [(&str, &str); 17] = [
    ("PyTuple_Type", "tuple"),
    ("PyList_Type", "list"),
    ("PyDict_Type", "dict"),
    ("PyFrame_Type", "frame"),
    ("PyFloat_Type", "float"),
    ("PyLong_Type", "int"),
    ("PyComplex_Type", "complex"),
    ("PyCFunction_Type", "builtin_function_or_method"),
    ("PyCMethod_Type", "builtin_method"),
    ("PyMethod_Type", "method"),
    ("PyContext_Type", "Context"),
    ("PySlice_Type", "slice"),
    ("PyRange_Type", "range"),
    ("PyRangeIter_Type", "range_iterator"),
    ("PyListIter_Type", "list_iterator"),
    ("PyTupleIter_Type", "tuple_iterator"),
    ("_PyAsyncGenASend_Type", "async_generator_asend"),
];

/// Whether a type that has a free list in some version has one in this.
pub fn has_free_list(minor: u8, what: &str) -> bool {
    match free_lists(minor) {
        Some(all) => all.lists.iter().any(|l| l.what == what),
        None => what == "float" || STATIC.iter().any(|(name, _)| *name == what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_overlap() {
        for minor in 10..=15 {
            let mut taken = Vec::new();
            for l in free_lists(minor).unwrap().lists {
                let width = if l.shape == Shape::Array { 8 * u64::from(l.most) } else { 8 };
                for i in 0..l.times {
                    taken.push((l.head + i * l.steps.0, width));
                    if l.shape != Shape::Single {
                        taken.push((l.count + i * l.steps.1, 4));
                    }
                }
            }
            taken.sort_unstable();
            assert!(taken.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "3.{minor}: {taken:?}");
        }
    }

    #[test]
    fn keys_of_one_size_are_kept() {
        assert!(are_kept_keys(8, 8) && !are_kept_keys(8, 16));
        assert!(are_kept_keys(13, 0x1_0303) && !are_kept_keys(13, 0x1_0404));
    }

    #[test]
    fn each_version_has_its_types() {
        assert!(has_free_list(8, "method") && !has_free_list(11, "method"));
        assert!(has_free_list(14, "int") && !has_free_list(13, "int"));
    }
}
