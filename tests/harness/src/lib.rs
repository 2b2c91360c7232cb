//! What pydefrag's tests stand on: real interpreters, programs running in them, and readers of the
//! ground truth that share no code with pydefrag itself.
//!
//! | module | owns |
//! |---|---|
//! | [`interpreters`] | which interpreters there are, and where |
//! | [`matrix`] | how much of its matrix a test runs |
//! | [`packages`] | which packages of PyPI there are, and where |
//! | [`variants`] | the same interpreter run in unusual ways: through ld.so, in a chroot, stripped |
//! | [`target`] | a running program of `tests/targets`, and questions to it |
//! | [`debugmallocstats`] | the numbers in `sys._debugmallocstats()` |
//! | [`browser`] | a real browser: a page, a mouse, a keyboard, and all that the page says |
//! | [`smaps`] | the kernel's account of a process, and a fingerprint of its page map |
//!
//! It never uses a crate of pydefrag: what checks must not agree by sharing a mistake.

pub mod browser;
pub mod debugmallocstats;
pub mod interpreters;
pub mod matrix;
pub mod packages;
pub mod smaps;
pub mod target;
pub mod variants;

pub use debugmallocstats::DebugMallocStats;
pub use interpreters::{Interpreter, Interpreters};
pub use target::Target;

use std::path::{Path, PathBuf};

/// The repository's top folder.
pub fn repository() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    top.canonicalize().expect("the harness stands two folders below the repository's top")
}

/// The git-ignored folder that `cargo xtask interpreters` fills.
pub fn cache() -> PathBuf {
    let cache = repository().join(".cache/interpreters");
    cache.canonicalize().unwrap_or(cache)
}

/// The programs on which peers were measured, where they are there: in a folder beside the repository.
pub fn workloads() -> Option<PathBuf> {
    repository().join("../shared/workloads").canonicalize().ok()
}
