//! A program over time: light samples while it ran, and what follows from them.
//!
//! Owns the measures on the samples. Does not own how or when they were taken.

use serde::{Deserialize, Serialize};

use crate::Healed;

/// One light look at a running process. Sizes are bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the program was started.
    pub at: f64,
    /// Resident.
    pub rss: u64,
    /// Of it free inside pymalloc's and malloc's heaps, by their headers and bins.
    pub free: u64,
}

impl Sample {
    /// Resident bytes that are not known to be free.
    pub fn in_use(&self) -> u64 {
        self.rss.saturating_sub(self.free)
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Nobody told how: SIGCHLD was ignored.
    Unknown,
}

/// A program over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Seconds from start to end.
    pub seconds: f64,
    /// How it ended.
    pub ended: Ended,
    /// The sample with most resident bytes (of those within 5% of the most, the one with most in use): a
    /// lower bound of the peak, which `memory.hwm` tells.
    pub peak: Sample,
    /// The sample with the fewest bytes in use after `peak`.
    pub trough: Sample,
    /// The last one, or the account at the end.
    pub end: Sample,
    /// (RSS at trough / RSS at peak) / (bytes in use at trough / at peak): 1 where memory follows
    /// use, more where it stays.
    pub trough_ratio: f64,
    /// ∫ free dt in GB·s: what was resident for nothing, for how long.
    pub waste: f64,
    /// Whether the account is of the end, taken before modules were torn down; else of the last
    /// sample that could be taken, and why.
    pub account_at_end: bool,
    /// Why the account is not of the end.
    pub account_note: Option<String>,
    /// The samples, thinned out where there were many.
    pub samples: Vec<Sample>,
    /// Processes that the program started.
    pub children: Vec<Child>,
    /// Of children that were not followed for there were too many.
    pub children_left_out: u64,
    /// Memory given back while it ran; missing where that was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healed: Option<Healed>,
}

/// A process that the program started, directly or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Child {
    /// Process id.
    pub pid: i32,
    /// Its parent's, when it was first seen.
    pub parent: i32,
    /// Command line with what looks secret left out.
    pub command: String,
    /// Most resident bytes that were seen.
    pub peak_rss: u64,
    /// Resident bytes when it was last seen.
    pub rss: u64,
    /// Its proportional share when it was last seen, if it could be read.
    pub pss: Option<u64>,
    /// Free bytes in its heaps when they were last sampled, if they were.
    pub free: Option<u64>,
    /// Still running when the program ended.
    pub running: bool,
}

/// Samples whose RSS differs by less than this share are equally high: of these the one with most in
/// use is the peak. On a plateau a few pages more would else decide, and RSS that grows by less makes no
/// sample of its own.
const SAME_HEIGHT: f64 = 0.05;

/// Which of the samples is the peak; `None` without any.
pub fn peak_index(samples: &[Sample]) -> Option<usize> {
    let highest = samples.iter().map(|s| s.rss).max()?;
    let high = |s: &Sample| s.rss as f64 >= highest as f64 * (1.0 - SAME_HEIGHT);
    let plateau = samples.iter().enumerate().filter(|(_, s)| high(s));
    // The first of equals.
    plateau.rev().max_by_key(|(_, s)| s.in_use()).map(|(i, _)| i)
}

/// Peak, trough, ratio and waste of samples in order of time; `None` without any.
pub fn measures(samples: &[Sample]) -> Option<(Sample, Sample, f64, f64)> {
    let at = peak_index(samples)?;
    let peak = samples[at];
    let trough = *samples[at..].iter().min_by_key(|s| s.in_use()).unwrap_or(&peak);
    let share = |a: u64, b: u64| if b == 0 { 1.0 } else { a as f64 / b as f64 };
    let used = share(trough.in_use(), peak.in_use());
    let ratio = if used > 0.0 { share(trough.rss, peak.rss) / used } else { 1.0 };
    let waste = samples
        .windows(2)
        .map(|w| (w[1].at - w[0].at) * (w[0].free + w[1].free) as f64 / 2.0 / 1e9)
        .sum();
    Some((peak, trough, ratio, waste))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: f64, rss: u64, free: u64) -> Sample {
        Sample { at, rss, free }
    }

    #[test]
    fn peak_trough_ratio_and_waste_are_those_of_the_samples() {
        let s =
            [sample(0.0, 10, 0), sample(1.0, 100, 20), sample(2.0, 100, 80), sample(3.0, 90, 60)];
        let (peak, trough, ratio, waste) = measures(&s).unwrap();
        assert_eq!((peak.at, trough.at), (1.0, 2.0));
        assert!((ratio - 1.0 / (20.0 / 80.0)).abs() < 1e-9);
        assert!((waste - (10.0 + 50.0 + 70.0) / 1e9).abs() < 1e-15);
        let plateau = [sample(0.0, 1000, 5), sample(1.0, 1000, 5), sample(2.0, 1004, 900)];
        assert_eq!(measures(&plateau).unwrap().0.at, 0.0);
        assert_eq!(measures(&[]), None);
        assert_eq!(measures(&[sample(0.0, 0, 0)]).unwrap().2, 1.0);
    }
}
