//! A process's memory as bytes: its mappings, which pages are resident, how to read them, and the
//! symbols of the files mapped into it.
//!
//! # Design constraints
//!
//! This crate does not know what the bytes mean. It never writes to a process, never stops one and
//! never reads a page that is not resident: reading such a page would map a zero page or swap it in,
//! and so change the process. What is not resident but comes from a file is read from the file.
//!
//! It never pins a page that is shared by copy-on-write, which would copy it.
//!
//! `unsafe` lives in `live.rs` (`process_vm_readv`), `residency.rs` (`PAGEMAP_SCAN`) and `threads.rs`
//! (`get_robust_list`), one system call each, and in `spill.rs` (mapped files of our own).
//!
//! # Entry points
//!
//! [`Image::open`] for a live process; [`Image::read`] for a few bytes; [`Image::memory`] together
//! with [`Residency`] for walkers that read in bulk.

mod access;
mod elf;
mod glance;
mod image;
mod live;
mod mappings;
mod memory;
mod pace;
mod process;
mod redact;
mod residency;
mod spill;
mod threads;

pub use access::{Denial, Facts, LookError, diagnose};
pub use elf::{ElfError, Module, Segment};
pub use glance::{Glance, children_of, descriptor_of};
pub use image::{Image, OpenError};
pub use mappings::{Mapping, ParseError, Permissions, Smaps, parse_smaps};
pub use memory::{Memory, ReadError, SparseMemory};
pub use process::{Identity, ProcessFacts, ProcessList};
pub use redact::command_line;
pub use residency::{PageRun, Residency, Tally};
pub use spill::{Log, Records, Words};
pub use threads::{Thread, threads};

/// Size of an OS page in bytes.
pub const OS_PAGE: u64 = 4096;
