//! A recording, added up: what a program allocated, from where, and what was live at its peak and at its end.
//!
//! Owns the shape of `report TRACE --json`. Does not own the file that it comes from (`pydefrag-trace`).
//!
//! Invariants: [`Recording::calls`] is a tree in an order: a call's parent stands before it, and the first is the root,
//! its own parent. A call's [`Tally`] is its own alone; [`Recording::subtrees`] adds up what it called. The own tallies sum to
//! the totals.

use serde::{Deserialize, Serialize};

use crate::Amount;

/// A program's allocations over time. Sizes are bytes, as the program asked for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// Schema of this structure, [`crate::SCHEMA`] when written.
    pub schema: u32,
    /// Name and version of the tool that recorded.
    pub tool: String,
    /// When recording began, in seconds since the Unix epoch.
    pub started_at: f64,
    /// Nanoseconds from then to the last thing that was recorded.
    pub duration_ns: u64,
    /// What was recorded.
    pub process: RecordedProcess,
    /// How much of it was recorded.
    pub mode: RecordingMode,
    /// What happened, counted.
    pub events: Events,
    /// All that was allocated.
    pub allocated: Amount,
    /// The largest sum of live bytes.
    pub peak: Peak,
    /// What was still live when the program had come to its end, before the interpreter took itself apart; or when recording
    /// ended.
    pub retained: Amount,
    /// One standard error of what was estimated, in a sampled recording.
    pub error: Option<SamplingError>,
    /// Functions, by number.
    pub functions: Vec<Function>,
    /// The tree of calls that allocated.
    pub calls: Vec<Call>,
    /// Live memory over time, at most a few thousand moments.
    pub timeline: Vec<Moment>,
    /// What happened beside allocations, in order of time.
    pub happenings: Vec<Happening>,
    /// Threads that allocated.
    pub threads: Vec<RecordedThread>,
    /// Things a reader should know: what was lost, not seen, or assumed.
    pub notes: Vec<String>,
}

/// The process that was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecordedProcess {
    /// Its pid.
    pub pid: u32,
    /// The process whose fork it is.
    pub parent: Option<u32>,
    /// Its command line, without what looks secret.
    pub command: String,
    /// CPython's version, such as `3.13.0`.
    pub python: String,
}

/// How much of what happened was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordingMode {
    /// Everything.
    Full,
    /// One allocation in so many bytes, at random; numbers are estimates without bias.
    Sampled {
        /// Mean of the bytes between two samples.
        every: u64,
    },
}

impl RecordingMode {
    /// What one standard error of an estimate of so many bytes is at most; `None` where nothing was estimated.
    pub fn error_at_most(self, bytes: u64) -> Option<u64> {
        match self {
            RecordingMode::Full => None,
            // An allocation of s bytes is sampled with p = 1 - exp(-s / every) and counts s / p: a variance of
            // s² (1 - p) / p, which is at most s · every. Those of independent ones add up.
            RecordingMode::Sampled { every } => Some((bytes as f64 * every as f64).sqrt() as u64),
        }
    }
}

/// What happened, counted. In a sampled recording, of what was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Events {
    /// Allocations, one per block at its outermost layer; a realloc is one too.
    pub allocations: u64,
    /// Those of them that a realloc made.
    pub reallocations: u64,
    /// Frees of what was recorded, reallocs' included.
    pub frees: u64,
    /// Frees of what was allocated before recording began.
    pub frees_of_before: u64,
}

/// The moment of most live memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peak {
    /// What was live.
    pub live: Amount,
    /// When, in nanoseconds since recording began.
    pub at_ns: u64,
    /// RSS as last sampled before it, where it was.
    pub rss: Option<u64>,
}

/// One standard error, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SamplingError {
    /// Of what was allocated.
    pub allocated: u64,
    /// Of what was live at the peak.
    pub peak: u64,
    /// Of what was retained.
    pub retained: u64,
}

/// A Python function, or one of native code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Function {
    /// Its qualified name; up to 3.10 its name.
    pub name: String,
    /// The file that it was compiled from, as the interpreter names it. Empty for what is no code. Of native code the source, or
    /// the file that was loaded where that is not known.
    pub file: String,
    /// The line that it begins on; 0 where there is none.
    pub line: u32,
    /// It is native code, which a Python function has called.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub native: bool,
}

/// A line of a function, as it was called from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its caller: an index into [`Recording::calls`], smaller than its own; the root's is itself, 0.
    pub parent: u32,
    /// An index into [`Recording::functions`].
    pub function: u32,
    /// The line that was running; 0 where it is not known.
    pub line: u32,
    /// What that line allocated itself.
    pub own: Tally,
}

/// What was allocated from somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// In all.
    pub allocated: Amount,
    /// Of that, live at the program's peak.
    pub peak: Amount,
    /// Of that, live at the end of the recording.
    pub retained: Amount,
}

impl Tally {
    /// Adds another's amounts.
    pub fn add(&mut self, other: &Tally) {
        for (sum, more) in [
            (&mut self.allocated, other.allocated),
            (&mut self.peak, other.peak),
            (&mut self.retained, other.retained),
        ] {
            sum.count = sum.count.saturating_add(more.count);
            sum.bytes = sum.bytes.saturating_add(more.bytes);
        }
    }
}

/// Live memory at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Moment {
    /// Nanoseconds since recording began.
    pub at_ns: u64,
    /// Live then; where moments were left out, at the highest of them.
    pub live: Amount,
    /// RSS as last sampled before, where it was.
    pub rss: Option<u64>,
}

/// Something beside allocations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Nanoseconds since recording began.
    pub at_ns: u64,
    /// What.
    pub what: What,
}

/// What can happen beside allocations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The collector began.
    GcStart {
        /// Its generation.
        generation: u8,
    },
    /// The collector ended.
    GcStop {
        /// Its generation.
        generation: u8,
        /// Objects that it freed.
        collected: u64,
        /// Objects that it could not free.
        uncollectable: u64,
    },
    /// pymalloc got an arena.
    ArenaBorn {
        /// Its address.
        address: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// pymalloc gave an arena back.
    ArenaDied {
        /// Its address.
        address: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// The program mapped memory.
    Mapped {
        /// Where.
        address: u64,
        /// How much.
        bytes: u64,
        /// From where: an index into [`Recording::calls`].
        call: u32,
    },
    /// The program unmapped memory.
    Unmapped {
        /// Where.
        address: u64,
        /// How much.
        bytes: u64,
    },
    /// The process forked.
    Forked {
        /// The child.
        child: u32,
    },
    /// The program said `pydefrag.mark(…)`.
    Mark {
        /// What it said.
        text: String,
    },
}

/// A thread that allocated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedThread {
    /// The kernel's id.
    pub tid: u32,
    /// What it allocated; threads that ran without the GIL are one.
    pub allocated: Amount,
}

impl Recording {
    /// What each call allocated together with all that it called, in the order of [`Recording::calls`]; the first is
    /// the whole.
    pub fn subtrees(&self) -> Vec<Tally> {
        let mut sums: Vec<Tally> = self.calls.iter().map(|c| c.own).collect();
        for i in (1..self.calls.len()).rev() {
            let sum = sums[i];
            // A tree from a damaged source may break the order; what it says is then left out.
            if let Some(parent) = sums
                .get_mut(self.calls[i].parent as usize)
                .filter(|_| self.calls[i].parent < i as u32)
            {
                parent.add(&sum);
            }
        }
        sums
    }

    /// The way from the root's first call to one: indices into [`Recording::calls`], outermost first, without the root.
    pub fn stack(&self, call: u32) -> Vec<u32> {
        let mut way = Vec::new();
        let mut at = call;
        while at != 0 && (at as usize) < self.calls.len() {
            way.push(at);
            let parent = self.calls[at as usize].parent;
            if parent >= at {
                break;
            }
            at = parent;
        }
        way.reverse();
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(parent: u32, bytes: u64) -> Call {
        let own = Tally { allocated: Amount { count: 1, bytes }, ..Tally::default() };
        Call { parent, function: 0, line: 1, own }
    }

    #[test]
    fn an_error_grows_as_the_root_of_what_is_estimated() {
        let sampled = RecordingMode::Sampled { every: 1 << 20 };
        assert_eq!(sampled.error_at_most(1 << 30), Some(1 << 25));
        assert_eq!(sampled.error_at_most(0), Some(0));
        assert_eq!(RecordingMode::Full.error_at_most(1 << 30), None);
    }

    #[test]
    fn subtrees_add_up_and_stacks_lead_to_the_root() {
        let recording = Recording {
            schema: crate::SCHEMA,
            tool: String::new(),
            started_at: 0.0,
            duration_ns: 0,
            process: RecordedProcess::default(),
            mode: RecordingMode::Full,
            events: Events::default(),
            allocated: Amount::default(),
            peak: Peak::default(),
            retained: Amount::default(),
            error: None,
            functions: Vec::new(),
            calls: vec![call(0, 0), call(0, 1), call(1, 10), call(2, 100), call(1, 1000)],
            timeline: Vec::new(),
            happenings: Vec::new(),
            threads: Vec::new(),
            notes: Vec::new(),
        };
        let bytes: Vec<u64> = recording.subtrees().iter().map(|t| t.allocated.bytes).collect();
        assert_eq!(bytes, [1111, 1111, 110, 100, 1000]);
        assert_eq!(recording.stack(3), [1, 2, 3]);
        assert!(recording.stack(0).is_empty());
    }
}
