//! The verdict: one sentence and one number that a person can act on, and remedies.
//!
//! Owns its shape. How it is reached is the advise crate's.

use serde::{Deserialize, Serialize};

/// What is the matter with a process's memory, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Nothing that fragmentation explains.
    Healthy,
    /// Much of the Python and malloc heaps is free, yet resident.
    Fragmented,
    /// So it is, but the program uses it again and again: its peak needs it.
    Retained,
    /// Live data grows: a suspected leak, not fragmentation.
    Growing,
    /// Containers hold much room beyond their items.
    OverAllocated,
    /// Most resident memory is neither Python's nor malloc's.
    Native,
}

impl VerdictKind {
    /// Its name in reports.
    pub fn label(self) -> &'static str {
        match self {
            VerdictKind::Healthy => "healthy",
            VerdictKind::Fragmented => "fragmented",
            VerdictKind::Retained => "retained",
            VerdictKind::Growing => "growing",
            VerdictKind::OverAllocated => "over-allocated",
            VerdictKind::Native => "native",
        }
    }
}

/// A verdict on one look, a run, or a difference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which.
    pub kind: VerdictKind,
    /// It in one sentence, with its number.
    pub sentence: String,
    /// The measurement that would decide what this one cannot, if any.
    pub undecided: Option<String>,
    /// What helps, most bytes first.
    pub remedies: Vec<Remedy>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// What it is called.
    pub name: String,
    /// Bytes that it would bring back, where that is known.
    pub bytes: Option<u64>,
    /// How to do it.
    pub command: String,
}
