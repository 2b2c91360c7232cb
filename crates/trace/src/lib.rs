//! The format of a recording (`.pdtrace`): events, stacks and the file, as they are written and read.
//!
//! # Design constraints
//!
//! An event is written in a few nanoseconds by whoever allocates: without a clock, a lock or a hash. So it holds only what
//! cannot be told from the events before it: both sides keep the same [`Model`], which predicts the next event, and a
//! trace is read from its begin. What is rare (a new stack, another thread, time) is an event of its own beside them.
//!
//! No length, number or text of a file is trusted. A damaged file yields what stands before the damage.
//!
//! # Entry points
//!
//! The agent: [`Model`] and [`encode`] for events, [`chunk`] for the file. Others: [`Trace::open`], then [`Trace::events`],
//! or [`sum`] for what it all comes to ([`sum_named`] with native functions); [`compress`] makes a finished file of a raw one.
//!
//! This crate does not know how events are caught.

#![forbid(unsafe_code)]

pub mod chunk;
pub mod code;
pub mod encode;
pub mod event;
mod model;
pub mod varint;

#[cfg(feature = "reader")]
mod ahead;
#[cfg(feature = "reader")]
mod calls;
#[cfg(feature = "reader")]
mod compress;
#[cfg(feature = "reader")]
mod decode;
#[cfg(feature = "reader")]
pub mod lines;
#[cfg(feature = "reader")]
mod live;
#[cfg(feature = "reader")]
mod merge;
#[cfg(feature = "reader")]
mod placed;
#[cfg(feature = "reader")]
mod reader;
#[cfg(feature = "reader")]
mod sum;
#[cfg(feature = "reader")]
mod symbols;

pub use model::Model;

#[cfg(feature = "reader")]
pub use compress::{Compressed, compress};
#[cfg(feature = "reader")]
pub use decode::Decoder;
#[cfg(feature = "reader")]
pub use merge::Events;
#[cfg(feature = "reader")]
pub use placed::{Placed, placed};
#[cfg(feature = "reader")]
pub use reader::{Error, Trace};
#[cfg(feature = "reader")]
pub use sum::{sum, sum_named};
#[cfg(feature = "reader")]
pub use symbols::{Nameless, Symbol, Symbols};
