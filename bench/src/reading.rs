//! What reporting a recording of 100 million events costs: time an event, and memory; raw, and finished.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use pydefrag_harness::{Interpreters, repository};
use pydefrag_trace::compress;

use crate::record::{events, median};
use crate::table::Table;
use crate::{peak, record};

/// Of w1: so many records are 100 million events.
const RECORDS: &str = "1070000";
const ROUNDS: usize = 3;
/// Nanoseconds an event: 10 million a second.
const TIME: f64 = 100.0;
/// MiB.
const MEMORY: f64 = 1024.0;

pub(crate) fn measure(tool: &Path, table: &mut Table) -> anyhow::Result<()> {
    let of = Interpreters::load().get("3.13").context("3.13 is not there")?;
    let folder = tempfile::tempdir()?;
    let (raw, finished) = (folder.path().join("raw.pdtrace"), folder.path().join("t.pdtrace"));
    let ended = record::recorded(of, &raw, None)
        .args(["tests/targets/records.py", RECORDS])
        .envs(of.env.iter().cloned())
        .current_dir(repository())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()?;
    ensure!(ended.success(), "the program failed");
    let count = events(&raw)? as f64;
    let started = Instant::now();
    compress(&raw, &mut std::fs::File::create(&finished)?, &|_, _| {})?;
    table.add(
        "ns an event to finish a recording",
        started.elapsed().as_secs_f64() * 1e9 / count,
        None,
        format!("{:.1} s, {count} events", started.elapsed().as_secs_f64()),
    );
    for (what, file) in [("raw", &raw), ("finished", &finished)] {
        let name = file.to_string_lossy();
        let mut seconds = Vec::new();
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let out = Command::new(tool).args(["report", &name, "--json"]).output()?;
            ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            seconds.push(started.elapsed().as_secs_f64());
        }
        let time = median(seconds);
        table.add(
            &format!("ns an event to report a {what} recording"),
            time * 1e9 / count,
            Some(TIME),
            format!("{:.1} million a second, {time:.1} s", count / time / 1e6),
        );
        let memory = peak::of(tool, &["report", &name, "--json"])? as f64 / f64::from(1 << 20);
        table.add(
            &format!("MiB of RSS to report a {what} recording"),
            memory,
            Some(MEMORY),
            String::new(),
        );
    }
    Ok(())
}
