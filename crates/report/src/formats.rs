//! A recording in the formats of other tools, so that what they show of it needs nothing from here.
//!
//! Owns which formats there are. Each has a file of its own; what several need (frames, stacks) is in `frames.rs`.
//!
//! # Invariants
//!
//! What is exported is what each line allocated itself, so that the amounts of an export sum to the recording's totals.
//! Texts of the process's are escaped as in every report, for some of what reads them prints them. No function calls
//! itself, and where whole stacks are written (collapsed, speedscope, pprof) their frames are bounded in number:
//! a recording of 200,000 calls, each thousands deep, would else be a file of gigabytes.

mod firefox;
mod folded;
mod frames;
mod pprof;
mod speedscope;

use pydefrag_heap::Recording;

/// A format to export to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Collapsed stacks, a line each with the bytes live at the peak: `flamegraph.pl`, inferno, and most others.
    Folded,
    /// speedscope's JSON: a profile each for what was live at the peak, retained, allocated.
    Speedscope,
    /// pprof's gzipped protobuf: counts and bytes of all three.
    Pprof,
    /// The Firefox Profiler's JSON: a thread each for all three, memory over time, and what happened as markers.
    Firefox,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 4] =
        [Format::Folded, Format::Speedscope, Format::Pprof, Format::Firefox];

    /// Its name, as a reader gives it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Folded => "folded",
            Format::Speedscope => "speedscope",
            Format::Pprof => "pprof",
            Format::Firefox => "firefox",
        }
    }
}

/// The recording in a format: text of whole lines, or pprof's bytes.
pub fn export(recording: &Recording, format: Format) -> Vec<u8> {
    match format {
        Format::Folded => folded::write(recording),
        Format::Speedscope => speedscope::write(recording),
        Format::Pprof => pprof::write(recording),
        Format::Firefox => firefox::write(recording),
    }
}

#[cfg(test)]
mod tests;
