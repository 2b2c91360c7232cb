//! Side-by-side measurements: `cargo run --release -p pydefrag-bench [-- --write | -- objects | -- map | -- look |
//! -- run | -- record [PROGRAM…] | -- reading | -- heal …]`.
//!
//! Everything is a ratio of two things measured in turn in one run, the median of several. `--write`
//! puts the table with the date and the machine into `docs/benchmarks.md`; `objects` measures only what explaining
//! objects costs, `map` what the map of them does, `look` the HTML report, `run` what being followed costs a program,
//! `record` what being recorded does, `reading` what reporting a recording does, `heal` what giving memory back leaves of it
//! (`heal --write` puts that into `docs/heal-benchmarks.md`).

#![forbid(unsafe_code)]

mod churn;
mod heal;
mod heap;
mod look;
mod map;
mod objects;
mod peak;
mod reading;
mod record;
mod run;
mod table;

use anyhow::{Context, bail};

use crate::table::Table;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        // A child of ours: runs a command and says the peak RSS of its children.
        Some("peak") => return peak::of_children(&args[1..]),
        // Another: looks at a process once and says what that cost.
        Some("explain") => return map::child(&args[1..]),
        Some("heal") => return heal::measure(&build_tool()?, &args[1..]),
        Some("--write" | "objects" | "map" | "look" | "run" | "record" | "reading") | None => {}
        Some(other) => {
            bail!(
                "unknown argument {other}; usage: pydefrag-bench [--write | objects | map | look | run | record | reading | heal]"
            )
        }
    }
    let tool = build_tool()?;
    let mut table = Table::default();
    let only = args.first().map(String::as_str).filter(|a| *a != "--write");
    let wanted = |part: &str| only.is_none_or(|only| only == part);
    if wanted("objects") {
        objects::measure(&tool, &mut table)?;
    }
    if wanted("map") {
        map::measure(&mut table)?;
    }
    if wanted("look") {
        look::measure(&tool, &mut table)?;
    }
    if only == Some("run") {
        run::measure(&tool, &mut table)?;
    }
    if only == Some("record") {
        record::measure(&mut table, &args[1..])?;
    }
    if only == Some("reading") {
        reading::measure(&tool, &mut table)?;
    }
    if only.is_some() {
        print!("{}", table.markdown());
        return table.judge();
    }
    heap::measure(&tool, &mut table)?;
    churn::measure(&tool, &mut table)?;
    run::measure(&tool, &mut table)?;
    if table.is_empty() {
        bail!("no interpreter to measure on: cargo xtask interpreters --list");
    }
    print!("{}", table.markdown());
    if !args.is_empty() {
        let path = pydefrag_harness::repository().join("docs/benchmarks.md");
        std::fs::write(&path, table.page()).context("docs/benchmarks.md could not be written")?;
    }
    table.judge()
}

/// The release binary of the tool.
fn build_tool() -> anyhow::Result<std::path::PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let built = std::process::Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "pydefrag-cli"])
        .current_dir(pydefrag_harness::repository())
        .status()?;
    if !built.success() {
        bail!("the tool does not build");
    }
    let target = std::env::current_exe()?;
    let folder = target.parent().context("the bench's own folder")?;
    Ok(folder.join("pydefrag"))
}
