//! How long a purge keeps other threads waiting: the longest gap that a ticking thread sees while it lasts, less the
//! longest one over the same time without.

use anyhow::Context;
use pydefrag_harness::Interpreter;

use super::ways::{Bench, Way};
use crate::table::Table;

const TIMES: usize = 15;

pub(crate) fn measure(bench: &Bench, of: &Interpreter, table: &mut Table) -> anyhow::Result<()> {
    let args = ["rand5", "1000000"];
    let target = bench.start(of, Way::Purge, "mixed.py", &args);
    let mut target = target.context("a purge needs no library")?;
    let answer = target.ask(&format!("pause {TIMES}"));
    let gaps: Vec<[f64; 5]> = serde_json::from_str(&answer)?;
    let column = |of: &dyn Fn(&[f64; 5]) -> f64| {
        let mut all: Vec<f64> = gaps.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let more = column(&|g| (g[1] - g[0]) * 1e3);
    let (untouched, during) = (column(&|g| g[0] * 1e3), column(&|g| g[1] * 1e3));
    let (slices, lasts) = (column(&|g| g[3] * 1e3), column(&|g| g[2] * 1e3));
    let of_all = |all: &[f64]| {
        format!("{:.1} ({:.1}-{:.1})", all[all.len() / 2], all[0], all[all.len() - 1])
    };
    table.add(
        &format!("ms of pause by a purge, {}", of.name),
        more[TIMES / 2].max(0.0),
        Some(10.0),
        format!(
            "median of {TIMES} pairs, {:.1} to {:.1}; longest gap {} in it, {} without; longest slice {}, a purge {} ms",
            more[0],
            more[TIMES - 1],
            of_all(&during),
            of_all(&untouched),
            of_all(&slices),
            of_all(&lasts)
        ),
    );
    Ok(())
}
