//! Progress on stderr: a bar that appears when work takes more than a second and stderr is a terminal.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Only what takes longer is worth a bar.
const WORTH_A_BAR: Duration = Duration::from_secs(1);

/// Steps of known number.
pub(crate) struct Progress {
    bar: ProgressBar,
    start: Instant,
}

impl Progress {
    /// A bar that is not shown yet.
    pub(crate) fn new(what: &str, steps: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::hidden());
        let template = format!("{what} {{wide_bar}} {{pos}}/{{len}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        Progress { bar, start: Instant::now() }
    }

    /// One step is done.
    pub(crate) fn step(&mut self) {
        let late = self.start.elapsed() > WORTH_A_BAR;
        if self.bar.is_hidden() && late && std::io::stderr().is_terminal() {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.inc(1);
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}
