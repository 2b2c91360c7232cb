//! Progress on stderr: a bar that appears when work takes more than a second and stderr is a terminal.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Only what takes longer is worth a bar.
const WORTH_A_BAR: Duration = Duration::from_secs(1);

/// Who hears how far work is: bytes done, of how many. It may come from several threads.
pub(crate) type Report<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Work that is done step by step, or in shares. The bar goes when this does.
pub(crate) struct Progress {
    bar: ProgressBar,
    start: Instant,
    terminal: bool,
    /// The most that was reported: threads may report out of order.
    done: AtomicU64,
}

impl Progress {
    /// A bar of so many steps that is not shown yet.
    pub(crate) fn new(what: &str, steps: u64) -> Self {
        Progress::with(steps, &format!("{what} {{wide_bar}} {{pos}}/{{len}}"))
    }

    /// A bar of work in shares that is not shown yet: `looking at objects ███ 40%`.
    pub(crate) fn shares(what: &str) -> Self {
        Progress::with(0, &format!("{what} {{wide_bar}} {{percent}}%"))
    }

    fn with(length: u64, template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let terminal = std::io::stderr().is_terminal();
        Progress { bar, start: Instant::now(), terminal, done: AtomicU64::new(0) }
    }

    /// Whether there is a bar to be drawn, which appears now if it is time.
    fn shows(&self) -> bool {
        let late = self.terminal && self.start.elapsed() > WORTH_A_BAR;
        if late && self.bar.is_hidden() && !self.bar.is_finished() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        late && !self.bar.is_finished()
    }

    /// One step is done.
    pub(crate) fn step(&self) {
        self.shows();
        self.bar.inc(1);
    }

    /// So much of so much is done.
    pub(crate) fn set(&self, done: u64, total: u64) {
        let done = self.done.fetch_max(done, Ordering::Relaxed).max(done);
        if self.shows() {
            self.bar.set_length(total.max(done));
            self.bar.set_position(done);
        }
    }

    /// Takes the bar away for good.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_report_in_any_order_and_after_the_end() {
        let mut progress = Progress::shares("looking at objects");
        progress.start = Instant::now().checked_sub(WORTH_A_BAR * 2).expect("two seconds ago");
        let report: Report<'_> = &|done, total| progress.set(done, total);
        std::thread::scope(|s| {
            for thread in 0..4 {
                s.spawn(move || {
                    (0..100).rev().for_each(|i| report((i * 4 + thread) << 20, 400 << 20))
                });
            }
        });
        assert_eq!(progress.done.load(Ordering::Relaxed), 399 << 20);
        progress.finish();
        report(500 << 20, 400 << 20);
        assert!(progress.bar.is_finished());
    }
}
