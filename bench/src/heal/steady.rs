//! What `pydefrag.auto()` costs a program in a steady state: the same work with it and without, in pairs that run
//! side by side, so that what else the machine does falls on both.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use pydefrag_harness::{Interpreter, repository};
use serde_json::Value;

use super::ways::Bench;
use crate::table::Table;

const PAIRS: usize = 11;
const REQUESTS: &str = "8000";

pub(crate) fn measure(bench: &Bench, of: &Interpreter, table: &mut Table) -> anyhow::Result<()> {
    let (mut wall, mut cpu, mut heals) = (Vec::new(), Vec::new(), 0);
    for pair in 0..PAIRS {
        // Which is started first alternates.
        let order = if pair % 2 == 0 { ["0", "1"] } else { ["1", "0"] };
        let children = order.map(|auto| start(bench, of, auto));
        let mut said = Vec::new();
        for child in children {
            said.push(end(child?)?);
        }
        let (bare, auto) = if pair % 2 == 0 { (&said[0], &said[1]) } else { (&said[1], &said[0]) };
        let number = |of: &Value, what: &str| of[what].as_f64().context("a number");
        wall.push(100.0 * (1.0 - number(bare, "wall")? / number(auto, "wall")?));
        cpu.push(100.0 * (number(auto, "cpu")? / number(bare, "cpu")? - 1.0));
        heals += auto["heals"].as_u64().unwrap_or(0);
    }
    for (what, mut all) in [("throughput lost to", wall), ("processor time more under", cpu)] {
        all.sort_by(f64::total_cmp);
        table.add(
            &format!("% of {what} auto, {}", of.name),
            all[PAIRS / 2].max(0.0),
            Some(2.0),
            format!(
                "median of {PAIRS} pairs side by side, quartiles {:.1} and {:.1}; {heals} heals",
                all[PAIRS / 4],
                all[3 * PAIRS / 4]
            ),
        );
    }
    Ok(())
}

fn start(bench: &Bench, of: &Interpreter, auto: &str) -> anyhow::Result<Child> {
    Command::new(&of.program)
        .args(&of.args)
        .arg(repository().join("bench/targets/steady.py"))
        .args([auto, REQUESTS])
        .envs(of.env.iter().cloned())
        .env("PYTHONPATH", bench.python_path())
        .env("PYTHONHASHSEED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the program does not start")
}

fn end(child: Child) -> anyhow::Result<Value> {
    let out = child.wait_with_output()?;
    ensure!(out.status.success(), "steady.py failed ({})", out.status);
    Ok(serde_json::from_slice(&out.stdout)?)
}
