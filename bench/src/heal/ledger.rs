//! All runs, and the tables that they become.

use std::fmt::Write as _;

use super::mib;
use super::ways::{Runs, Way};

/// What was measured, in order.
#[derive(Default)]
pub(crate) struct Ledger {
    rows: Vec<(String, String, Runs)>,
}

impl Ledger {
    /// Adds the runs of a program; a way that could not be had is left out.
    pub(crate) fn add(&mut self, python: &str, program: &str, runs: Option<Runs>) {
        self.rows.extend(runs.map(|runs| (python.to_owned(), program.to_owned(), runs)));
    }

    fn of(&self, python: &str, program: &str) -> impl Iterator<Item = &Runs> {
        let rows = self.rows.iter().filter(move |r| r.0 == python && r.1 == program);
        rows.map(|r| &r.2)
    }

    /// RSS left in a way, in bytes.
    pub(crate) fn left(&self, python: &str, program: &str, way: Way) -> Option<u64> {
        self.of(python, program).find(|r| r.way == way).map(median)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let mut done: Vec<(&str, &str)> = Vec::new();
        for (python, program, _) in &self.rows {
            if done.contains(&(python, program)) {
                continue;
            }
            done.push((python, program));
            let _ = write!(
                text,
                "## {program}, Python {python}\n\n\
                 | way | RSS left, MiB | of untouched | least to most | peak, MiB | CPU, s |\n\
                 |---|--:|--:|--:|--:|--:|\n"
            );
            let untouched = self.left(python, program, Way::Untouched).unwrap_or(1) as f64;
            for runs in self.of(python, program) {
                let (least, most) = (runs.left[0], runs.left[runs.left.len() - 1]);
                let _ = writeln!(
                    text,
                    "| {} | {:.1} | {:.2} | {:.1}-{:.1} | {:.1} | {:.2} |",
                    runs.way.label(),
                    mib(median(runs)),
                    median(runs) as f64 / untouched,
                    mib(least),
                    mib(most),
                    mib(runs.peak),
                    runs.cpu
                );
            }
            text.push('\n');
            text += &self.less(python, program);
            for runs in self.of(python, program) {
                if let Some(kept) = &runs.kept {
                    let _ = write!(text, "What did not come back by purge, in MiB: {kept}.\n\n");
                }
            }
        }
        text
    }

    /// The stock ways that leave less than the better of ours.
    fn less(&self, python: &str, program: &str) -> String {
        let ours = [Way::Trim, Way::Purge].into_iter();
        let Some(ours) = ours.filter_map(|w| self.left(python, program, w)).min() else {
            return String::new();
        };
        let stock = self.of(python, program).filter(|r| r.way.is_stock());
        let less: Vec<_> = stock
            .filter(|r| median(r) < ours)
            .map(|r| format!("{} ({:.1} MiB less)", r.way.label(), mib(ours - median(r))))
            .collect();
        match less.is_empty() {
            true => "No stock way leaves less.\n\n".into(),
            false => format!("**Less is left by**: {}.\n\n", less.join("; ")),
        }
    }
}

fn median(runs: &Runs) -> u64 {
    runs.left[runs.left.len() / 2]
}
