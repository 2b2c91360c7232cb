//! Walkers: from the bytes of a process and the layouts of its allocators to a heap and its account.
//!
//! # Design constraints
//!
//! A walker does not know where the bytes come from. The process may run on while it is read: every
//! structure is validated, read again while it is torn, and counted when it stays so. Nothing that
//! comes from the process, no pointer, length or count, is trusted.
//!
//! # Entry points
//!
//! [`Runtime::find`] tells whether and which Python is in an [`Image`]; [`snapshot`] makes the whole
//! account; [`headers`] the quick look that reads pool headers only, and [`light`] the one that samples a
//! run.
//!
//! Data flows one way: `runtime` (which Python) → `obmalloc` (where its arenas are) → `pymalloc` (what
//! is in them, `pool` by pool) and `regions` (who owns the rest) → `snapshot` (the account).

#![forbid(unsafe_code)]

mod agent;
mod allocators;
mod freerun;
mod headers;
mod libc;
mod light;
mod malloc;
mod map;
mod objects;
mod obmalloc;
mod pool;
mod private;
mod pymalloc;
mod recognise;
mod regions;
mod runtime;
mod snapshot;

pub use agent::Done;
pub use headers::{HeaderTotals, headers};
pub use light::{Light, light};
pub use malloc::malloc_at;
pub use objects::{Asked, Sites, explain};
pub use obmalloc::{ListedArena, State, Variables, states};
pub use pymalloc::{Walk, walk};
pub use runtime::{Refusal, Runtime};
pub use snapshot::{Looked, Wanted, memory, snapshot, snapshot_partial};

pub use pydefrag_image::Image;
