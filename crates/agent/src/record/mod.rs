//! Recording: every allocation of the process with its stack, into a file.
//!
//! # Design constraints
//!
//! An allocation costs a few nanoseconds more, or nobody leaves this on: no clock, no lock, no hash, no system call at an event.
//! The order of events is kept by the GIL; memory is read where it lies. All else happens at what is rare: a stack that is
//! new, another thread, two kilobytes that were filled.
//!
//! The library is preloaded (LD_PRELOAD), with what is wanted in the environment. It puts its hooks over Python's allocators
//! before there is an interpreter, and stands in malloc's place; both go on to what was there before. No object of Python's is
//! made, changed or held, but for a callback in `gc.callbacks` and one in `atexit`.
//!
//! In order of use:
//!
//! | module | owns |
//! |---|---|
//! | `start` | the begin, forks, the end |
//! | `state`, `file` | whether and into which file |
//! | `wait` | recording on demand |
//! | `own` | what is kept per thread |
//! | `real`, `malloc` | the malloc family, and who stands behind it |
//! | `installed`, `hooks` | which hooks stand on Python's allocators; what they do |
//! | `python`, `current` | CPython by name; which thread runs |
//! | `within`, `turn` | what malloc does within a call of those; whose events the GIL's lane has |
//! | `arenas` | when pymalloc takes and gives back arenas |
//! | `plain` | whether small blocks are pymalloc's |
//! | `sample` | one allocation in so many bytes |
//! | `stack` | the node of each thread's stack |
//! | `frame`, `marked`, `chain` | frames read raw; followed by marks; followed by comparison |
//! | `nodes`, `codes` | stacks as a tree, and the code objects in it |
//! | `native`, `loaded` | the C functions between a Python function and an allocation; the files that they are in |
//! | `lane` | events in their order, in buffers |
//! | `gc` | the collector, marks |

mod arenas;
mod chain;
mod codes;
mod current;
mod file;
mod frame;
mod gc;
mod hooks;
mod installed;
mod lane;
mod loaded;
mod malloc;
mod marked;
mod native;
mod nodes;
mod own;
mod plain;
mod python;
mod real;
mod sample;
mod stack;
mod start;
mod state;
mod turn;
mod wait;
mod within;

pub use gc::pydefrag_mark;
pub use malloc::{
    _exit, aligned_alloc, calloc, execv, execve, fork, free, malloc, memalign, mmap, mmap64,
    munmap, posix_memalign, pvalloc, realloc, reallocarray, valloc,
};
