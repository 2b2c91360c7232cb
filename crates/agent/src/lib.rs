//! What runs inside a Python process: memory given back in place, by the allocators that are there.
//!
//! # Design constraints
//!
//! Loaded into a process that somebody depends on. It links against nothing but the C library, takes none of
//! the target's malloc (its own memory comes from the kernel, by `dlmalloc`), lets no panic out, and moves
//! nothing: a purge only takes free pools off pymalloc's books, shortens free lists and gives OS pages back.
//! Every precondition is checked before anything is written; one that fails is a sentence, and nothing was done.
//!
//! pymalloc is only touched while the main interpreter's GIL is held (`Held` of `python` is the proof), in
//! slices, and is whole at the end of each.
//!
//! # Entry points
//!
//! `PyInit__agent` (`module`), for `import`, the hook of `pydefrag run --fix`, and a debugger's script; the
//! exported table (`table`), for whoever reads the process's memory, with the mailbox that `thread` answers.
//!
//! `unsafe` is what this crate is for; it is kept to `python` (the C API), `memory` (words at an address) and the
//! few calls of the C library, each with its reason.

mod arenas;
mod auto;
mod heal;
mod memory;
mod module;
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod old_glibc;
mod own;
mod pages;
mod place;
mod pool;
mod purge;
mod python;
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
pub mod record;
mod rings;
mod table;
mod thread;
mod trim;
mod wanted;
mod weight;

pub use module::PyInit__agent;
pub use table::{Table, pydefrag_agent};

/// The target's malloc is the target's.
#[global_allocator]
static OWN: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;
