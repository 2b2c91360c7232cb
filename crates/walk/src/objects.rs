//! Objects: what every live block is, who refers to it, and what that keeps resident.
//!
//! Data flows one way: `blocks` (all live blocks, numbered) → `classify` (what each is by its bytes, which
//! buffers containers claim) → `edges` (who refers to whom, in an unlinked file) → `reach` (the way from a
//! root to each block, as a shape) → `sums` (types, pins, slack, garbage). `stream` reads; `types` and
//! `text` understand single structures; `kind` is what is kept of a block.
//!
//! Invariant: memory is read twice, in large pieces, and only what is live; there is no system call per
//! object. Memory of our own is bounded by the number of live blocks; the graph lies in files.

mod blocks;
mod chain;
mod check;
mod classify;
mod edges;
mod explain;
mod frames;
mod freelists;
mod interpreters;
mod kind;
mod named;
mod pins;
#[cfg(test)]
mod planted;
mod reach;
mod roots;
mod savings;
mod shape;
mod sites;
mod sizeof;
mod slack;
mod stream;
mod tables;
mod text;
mod types;

#[cfg(test)]
mod tests;

pub(crate) use blocks::Chunk;
pub use explain::{Asked, explain};
pub use sites::Sites;
