//! When a look may be taken: looks are paid for with processor time that accrues at a fixed rate.
//!
//! Owns the rates. Invariant: over any long while, light looks take no more of a core than [`rate`] says.
//! Not paid from it are those that are asked for (accounts of the end and of peaks), those at children when
//! the main process ends, and the rounds that find children, which have a share of their own.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// The program's first seconds, which are worth more.
pub(crate) const BEGINNING: Duration = Duration::from_secs(10);
/// Looks are at least this far apart.
const APART: Duration = Duration::from_millis(10);
/// What is there from the start: enough for a first look at a small program.
const START: f64 = 0.005;
/// What can be saved up, in seconds.
const MOST: f64 = 0.1;

/// Share of a core that looks may take.
fn rate(since_start: Duration) -> f64 {
    if since_start < BEGINNING { 0.1 } else { 0.01 }
}

/// Processor time saved up for looks.
pub(crate) struct Budget {
    start: Instant,
    /// Seconds; less than nothing after a look that cost more than there was.
    saved: f64,
    counted: Instant,
    last: Option<Instant>,
    /// What a look cost lately.
    cost: f64,
}

impl Budget {
    pub(crate) fn new(start: Instant) -> Budget {
        Budget { start, saved: START, counted: start, last: None, cost: 0.0 }
    }

    /// Whether the next look may be taken. An urgent one may take the last that is saved; any other leaves
    /// enough for one more.
    pub(crate) fn allows(&mut self, now: Instant, urgent: bool) -> bool {
        let since = now.duration_since(self.counted);
        let rate = rate(now.duration_since(self.start));
        self.saved = (self.saved + since.as_secs_f64() * rate).min(MOST.max(2.0 * self.cost));
        self.counted = now;
        let apart = self.last.is_none_or(|l| now.duration_since(l) >= APART);
        apart && self.saved > if urgent { 0.0 } else { self.cost.min(MOST) }
    }

    /// Pays for a look that has just been taken.
    pub(crate) fn pay(&mut self, cost: f64) {
        self.saved -= cost;
        self.cost = if self.cost == 0.0 { cost } else { (self.cost + cost) / 2.0 };
        self.last = Some(Instant::now());
    }
}

/// Seconds of processor time that this thread has used.
pub(crate) fn thread_time() -> f64 {
    seconds(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Seconds of processor time that this process has used.
pub(crate) fn processor_time() -> f64 {
    seconds(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn seconds(of: ClockId) -> f64 {
    clock_gettime(of).map_or(0.0, |t| t.tv_sec() as f64 + t.tv_nsec() as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_take_no_more_than_their_share() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut taken = [0, 0];
        for ms in 0..110_000 {
            let now = start + Duration::from_millis(ms);
            if budget.allows(now, ms % 3 == 0) {
                budget.saved -= 0.02;
                budget.cost = 0.02;
                budget.last = Some(now);
                taken[usize::from(ms >= 10_000)] += 1;
            }
        }
        // 10% of 10 s and 1% of 100 s, at 20 ms each; and what can be saved up.
        assert!((45..=56).contains(&taken[0]) && (45..=56).contains(&taken[1]), "{taken:?}");
    }
}
