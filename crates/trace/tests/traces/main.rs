//! The reader against planted traces: what they come to, and what is left of damaged ones.

mod damage;
mod native;
mod planted;
mod random;
mod recount;
mod seeds;
mod sums;
mod writer;
