//! The samples of a run, thinned out where there are many.
//!
//! Invariant: the peak, the trough after it, the first and the last sample are always there.

use pydefrag_heap::{Sample, peak_index};

const MOST: usize = 2000;

/// Samples in order of time.
#[derive(Default)]
pub(crate) struct Series {
    samples: Vec<Sample>,
}

impl Series {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
        if self.samples.len() > MOST {
            self.thin();
        }
    }

    /// Another process is followed from now on.
    pub(crate) fn clear(&mut self) {
        self.samples.clear();
    }

    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }

    /// Drops every other sample.
    fn thin(&mut self) {
        let Some(peak) = peak_index(&self.samples) else { return };
        let trough = (peak..self.samples.len()).min_by_key(|i| self.samples[*i].in_use());
        let last = self.samples.len() - 1;
        let mut i = 0;
        self.samples.retain(|_| {
            let kept = i % 2 == 0 || i == peak || Some(i) == trough || i == last;
            i += 1;
            kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_what_is_measured() {
        let mut series = Series::default();
        for i in 0..20_000u64 {
            let (rss, free) = match i {
                1001 => (900, 0),
                15_003 => (500, 450),
                _ => (100 + i % 300, 1),
            };
            series.push(Sample { at: i as f64, rss, free });
        }
        let samples = series.into_samples();
        assert!(samples.len() <= MOST && samples.windows(2).all(|w| w[0].at < w[1].at));
        let (peak, trough, ..) = pydefrag_heap::measures(&samples).unwrap();
        assert_eq!((peak.at, trough.at), (1001.0, 15_003.0));
        assert_eq!((samples[0].at, samples[samples.len() - 1].at), (0.0, 19_999.0));
    }

    #[test]
    fn on_a_plateau_thinning_keeps_the_peak_that_is_measured() {
        let mut series = Series::default();
        for i in 0..20_000u64 {
            // The highest is mostly free; the one most in use is a little lower.
            let (rss, free) = match i {
                3001 => (995_000, 0),
                5001 => (1_000_000, 900_000),
                _ => (992_000 + i % 7, 500_000),
            };
            series.push(Sample { at: i as f64, rss, free });
        }
        let samples = series.into_samples();
        let (peak, trough, ..) = pydefrag_heap::measures(&samples).unwrap();
        assert_eq!((peak.at, trough.at), (3001.0, 5001.0));
    }
}
