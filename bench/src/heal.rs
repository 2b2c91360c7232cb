//! What giving memory back in place leaves of a program, beside what stock ways leave of it, in one run.
//!
//! Each program runs to its end in each way, several times; a second after the memory was given back its RSS is
//! read. [`pause`] measures how long a purge keeps other threads waiting, [`steady`] what `auto` costs a program that
//! has nothing to gain. Owns the matrix and its page; where a stock way leaves less, the page says so.

mod ledger;
mod pause;
mod steady;
mod ways;

use std::path::Path;

use anyhow::{Context, ensure};
use pydefrag_harness::{Interpreters, repository};

use self::ledger::Ledger;
use self::ways::{Bench, WAYS, Way};
use crate::table::Table;

const INTERPRETERS: [&str; 2] = ["3.11", "3.13"];

/// What the agent may weigh: its data, a stack and what it has allocated.
const AGENT: f64 = (128 << 10) as f64;

/// A program of the workloads, and what a heal has to leave of it.
struct Program {
    name: &'static str,
    script: &'static str,
    args: &'static [&'static str],
    limit: Limit,
}

enum Limit {
    /// A purge: this part of what is left untouched.
    Purge(f64),
    /// A trim: MiB.
    Trim(f64),
}

const PROGRAMS: [Program; 4] = [
    Program {
        name: "mixed cache 3000000",
        script: "mixed.py",
        args: &["cache", "3000000"],
        limit: Limit::Purge(0.35),
    },
    Program {
        name: "mixed rand5",
        script: "mixed.py",
        args: &["rand5"],
        limit: Limit::Purge(0.90),
    },
    Program {
        name: "w1 400000",
        script: "w1_pymalloc.py",
        args: &["400000"],
        limit: Limit::Purge(0.5),
    },
    Program { name: "w2 30000", script: "w2_glibc.py", args: &["30000"], limit: Limit::Trim(45.0) },
];

/// `heal [--write] [--rounds N] [matrix | pause | steady]`.
pub(crate) fn measure(tool: &Path, args: &[String]) -> anyhow::Result<()> {
    let mut rounds = 3;
    let (mut write, mut only) = (false, None);
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        match arg {
            "--write" => write = true,
            "--rounds" => rounds = args.next().context("--rounds takes a number")?.parse()?,
            "matrix" | "pause" | "steady" => only = Some(arg),
            other => anyhow::bail!("heal: unknown argument {other}"),
        }
    }
    let workloads = pydefrag_harness::workloads();
    let workloads = workloads.context("the workloads are not there (../shared/workloads)")?;
    let bench = Bench::prepare(tool, workloads)?;
    let mut table = Table::default();
    let mut ledger = Ledger::default();
    let wanted = |part: &str| only.is_none_or(|o| o == part);
    for name in INTERPRETERS {
        let Some(of) = Interpreters::load().get(name) else { continue };
        if wanted("pause") {
            pause::measure(&bench, of, &mut table)?;
        }
        if wanted("steady") {
            steady::measure(&bench, of, &mut table)?;
        }
        if wanted("matrix") {
            for program in &PROGRAMS {
                for way in WAYS {
                    ledger.add(name, program.name, bench.run(of, program, way, rounds)?);
                }
                judge(name, program, &ledger, &mut table);
            }
        }
    }
    ensure!(!table.is_empty(), "no interpreter to measure on: cargo xtask interpreters --list");
    let page = format!(
        "# What a heal leaves\n\n\
         Made by `cargo run --release -p pydefrag-bench -- heal --write`; `bench/src/heal.rs` says what exactly is\n\
         measured. Each program runs to its end in each way, and a second after its memory was given back its RSS is\n\
         read: the median of {rounds}. A program may end with 128 KiB more than untouched: the agent itself.\n\n{}\n\n{}## Limits\n\n{}",
        crate::table::machine(),
        ledger.markdown(),
        table.markdown()
    );
    print!("{page}");
    if write {
        let path = repository().join("docs/heal-benchmarks.md");
        std::fs::write(&path, page).context("docs/heal-benchmarks.md could not be written")?;
    }
    table.judge()
}

/// The limits of a program on an interpreter.
fn judge(python: &str, program: &Program, ledger: &Ledger, table: &mut Table) {
    let left = |way: Way| ledger.left(python, program.name, way);
    let Some(untouched) = left(Way::Untouched) else { return };
    let of = format!("{}, {python}", program.name);
    for (way, verb) in [(Way::Trim, "trim"), (Way::Purge, "purge")] {
        let Some(left) = left(way) else { continue };
        let beside = format!("{:.1} MiB / {:.1} MiB", mib(left), mib(untouched));
        let limit = match (&program.limit, way) {
            (Limit::Purge(part), Way::Purge) => *part,
            // Not more than was there, but for the agent itself where there is nothing to give back.
            _ => 1.0 + AGENT / untouched as f64,
        };
        let ratio = left as f64 / untouched as f64;
        table.add(&format!("RSS left by {verb} / untouched ({of})"), ratio, Some(limit), beside);
        if let (Limit::Trim(most), Way::Trim) = (&program.limit, way) {
            let beside = "RSS a second later".to_owned();
            table.add(&format!("MiB left by trim ({of})"), mib(left), Some(*most), beside);
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}
