//! Where things lie in the memory of a process: offsets and constants of CPython, glibc and mimalloc
//! as data, each with the validator that tells whether bytes really are that thing.
//!
//! # Design constraints
//!
//! No I/O and no allocation: every function takes bytes or words that somebody else read and answers
//! with plain numbers. Nothing here trusts a byte: a validator accepts only what the allocator could
//! have written. Offsets that move within CPython's patch releases are hints, to be confirmed by a
//! validator; those that never moved are constants.
//!
//! Sources: CPython's `Objects/obmalloc.c` (3.8-3.11), `Include/internal/pycore_obmalloc.h` (3.12+),
//! `pycore_debug_offsets.h` (3.13+) and DWARF of the builds named in `cpython.rs`; glibc's
//! `malloc/malloc.c`, `malloc/arena.c` and `nptl/descr.h`; mimalloc's `include/mimalloc/types.h`.

#![forbid(unsafe_code)]

pub mod agent;
pub mod allocators;
pub mod cpython;
pub mod frames;
pub mod freelists;
pub mod glibc;
pub mod interpreter;
pub mod malloc;
pub mod mimalloc;
pub mod objects;
pub mod pymalloc;
pub mod remote;
pub mod tracemalloc;
pub mod word;
