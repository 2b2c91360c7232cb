//! Judgement: what a snapshot, a run or a difference comes to, and what would help.
//!
//! Owns the thresholds, the precedence of verdicts, their sentences and the remedies. Does not own
//! any measurement, nor how a verdict is shown.
//!
//! # Entry points
//!
//! [`verdict`] judges one look, with the run that it ends if there is one; [`of_diff`] judges two
//! looks. `docs/verdicts.md` is the same for a reader.
//!
//! # Design constraints
//!
//! A pure function of plain data: the same snapshot has the same verdict, wherever it is judged. A
//! lone look never says that something grows or is used again: it names the measurement that would
//! decide. No number is promised that was not measured: a remedy without a known gain has `None`.

#![forbid(unsafe_code)]

mod difference;
mod facts;
mod lone;
mod remedies;
#[cfg(test)]
mod samples;
mod thresholds;
mod time;
mod words;

use pydefrag_heap::{Snapshot, Verdict};

pub use difference::of_diff;
pub use thresholds::*;

/// The verdict on a snapshot, and on the run that it ends. `None` for what is partial, unless its
/// run was sampled.
pub fn verdict(snapshot: &Snapshot) -> Option<Verdict> {
    match &snapshot.run {
        Some(run) => time::judge(snapshot, run),
        None if snapshot.partial.is_some() => None,
        None => Some(lone::judge(snapshot)),
    }
}
