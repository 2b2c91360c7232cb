//! Which test files are run on which interpreter.

use std::ops::RangeInclusive;

use super::kind::Kind;

/// The files that use most memory, or look at it most closely, and run for less than a minute. Where a name is a package's, its files.
pub(super) const HEAVY: &[&str] = &[
    "test_array",
    "test_ast",
    "test_buffer",
    "test_bytes",
    "test_capi",
    "test_class",
    "test_codecs",
    "test_collections",
    "test_compile",
    "test_copy",
    "test_coroutines",
    "test_csv",
    "test_decimal",
    "test_deque",
    "test_descr",
    "test_dict",
    "test_enumerate",
    "test_exceptions",
    "test_fork1",
    "test_fractions",
    "test_functools",
    "test_gc",
    "test_generators",
    "test_heapq",
    "test_io",
    "test_itertools",
    "test_json",
    "test_list",
    "test_long",
    "test_marshal",
    "test_memoryio",
    "test_memoryview",
    "test_mmap",
    "test_ordered_dict",
    "test_os",
    "test_pickle",
    "test_queue",
    "test_re",
    "test_set",
    "test_sort",
    "test_sqlite",
    "test_sqlite3",
    "test_statistics",
    "test_str",
    "test_struct",
    "test_thread",
    "test_threading",
    "test_tracemalloc",
    "test_tuple",
    "test_unicode",
    "test_userdict",
    "test_weakref",
    "test_weakset",
    "test_xml_etree",
    "test_xml_etree_c",
    "test_zlib",
];

/// What `.ci/run` runs under purge: the allocator's best customers, all of them short.
pub(super) const SUBSET: &[&str] = &[
    "test_descr",
    "test_dict",
    "test_fork1",
    "test_gc",
    "test_json",
    "test_list",
    "test_pickle",
    "test_set",
    "test_threading",
    "test_tracemalloc",
    "test_weakref",
];

/// The subset where the interpreters before have run all of it.
pub(super) const SUBSET_OF_OTHERS: &[&str] = &[
    "test_dict",
    "test_gc",
    "test_list",
    "test_pickle",
    "test_set",
    "test_tracemalloc",
    "test_weakref",
];

/// What `.ci/run` runs recorded: where stacks are strangest, and who looks at memory, frames and ends himself.
pub(super) const RECORDED: &[&str] = &[
    "test_asyncgen",
    "test_coroutines",
    "test_exceptions",
    "test_fork1",
    "test_frame",
    "test_gc",
    "test_generators",
    "test_sys_settrace",
    "test_threading",
    "test_tracemalloc",
];

/// A test that is left out.
pub(super) struct LeftOut {
    pub(super) minors: RangeInclusive<u32>,
    pub(super) file: &'static str,
    pub(super) name: &'static str,
    pub(super) kinds: &'static [Kind],
    pub(super) why: &'static str,
}

/// All of them.
pub(super) const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        minors: 10..=u32::MAX,
        file: "test_socket",
        name: "ThreadedVSOCKSocketStreamTest",
        kinds: &[Kind::Purge, Kind::Record],
        why: "on some virtual machines it never ends, with us or without, and nor does the rest of the file",
    },
    LeftOut {
        minors: 12..=u32::MAX,
        file: "test_capi",
        name: "test_interp_init",
        kinds: &[Kind::Purge],
        why: "it makes interpreters with a GIL of their own that share the main one's pymalloc, which only ever works in a \
              process of one thread: `use_main_obmalloc` says that it \"must not\" be (Doc/c-api/init.rst)",
    },
    LeftOut {
        minors: 13..=13,
        file: "test_external_inspection",
        name: "test_self_trace",
        kinds: &[Kind::Purge],
        why: "it takes the newest thread's frames for its own, and so fails in any process with a second thread",
    },
];

/// Interpreters that run the whole suite, and those that run what uses most memory.
pub(super) const WHOLE: &[&str] = &["3.11", "3.13", "3.14"];
pub(super) const PART: &[&str] = &["3.10", "3.12", "3.15"];

/// Whether a listed file belongs to one of the names: `test_dict`, `test.test_json.test_scanner`.
pub(super) fn belongs(listed: &str, names: &[&str]) -> bool {
    let listed = listed.strip_prefix("test.").unwrap_or(listed);
    let first = listed.split('.').next().unwrap_or_default();
    names.iter().any(|name| *name == listed || *name == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_package_belong_to_it() {
        assert!(belongs("test_dict", &["test_dict"]));
        assert!(belongs("test.test_json.test_scanner", &["test_json"]));
        assert!(belongs("test.test_json.test_scanner", &["test_json.test_scanner"]));
        assert!(!belongs("test_dictcomps", &["test_dict"]));
    }

    #[test]
    fn the_part_is_large_enough() {
        assert!(HEAVY.len() >= 35 && HEAVY.is_sorted());
        assert!(SUBSET.iter().chain(SUBSET_OF_OTHERS).all(|name| HEAVY.contains(name)));
        assert!(RECORDED.is_sorted());
    }
}
