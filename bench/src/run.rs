//! A program's own processor time under `pydefrag run`, beside that of the same program bare.
//!
//! The program measures itself at its end (RUSAGE_SELF), so that pydefrag's own time is no part of it; what
//! it waits for is none either. The arms take turns in going first.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use pydefrag_harness::{Interpreter, Interpreters, repository};

use crate::table::Table;

const ROUNDS: usize = 24;
const FASTEST: usize = 8;
const PROGRAMS: [(&str, &str); 2] = [("records.py", "150000"), ("threads_bytes.py", "30000")];

/// Runs a script and says what it has used.
const MEASURED: &str = "import resource, runpy, sys\n\
    sys.argv = sys.argv[1:]; sys.path.insert(0, 'tests/targets')\n\
    runpy.run_path('tests/targets/' + sys.argv[0], run_name='__main__')\n\
    used = resource.getrusage(resource.RUSAGE_SELF)\n\
    print('USED', used.ru_utime + used.ru_stime)";

pub(crate) fn measure(tool: &Path, table: &mut Table) -> anyhow::Result<()> {
    for name in ["3.11", "3.13"] {
        let Some(of) = Interpreters::load().get(name) else {
            eprintln!("not run: {name} (no source)");
            continue;
        };
        for (script, size) in PROGRAMS {
            // Under it, bare, and bare once more: what the machine alone makes of a comparison.
            let mut arms: [Vec<f64>; 3] = Default::default();
            for round in 0..ROUNDS {
                for turn in 0..arms.len() {
                    let arm = (round + turn) % arms.len();
                    arms[arm].push(used(of, (arm == 0).then_some(tool), script, size)?);
                }
            }
            let [under, bare, again] = arms.map(fastest);
            table.add(
                &format!("% of a program's own processor time that `run` costs it ({name}, {script})"),
                (100.0 * (under / ((bare + again) / 2.0) - 1.0)).max(0.0),
                Some(1.0),
                format!(
                    "mean of the fastest {FASTEST} of {ROUNDS}: {under:.3} s under it, bare {bare:.3} s and {again:.3} s"
                ),
            );
        }
    }
    Ok(())
}

/// Mean of the fastest: what a shared machine adds to a run is never less than nothing.
fn fastest(mut arm: Vec<f64>) -> f64 {
    arm.sort_by(f64::total_cmp);
    arm[..FASTEST].iter().sum::<f64>() / FASTEST as f64
}

/// Seconds of processor time that the script uses, under the tool if there is one.
fn used(of: &Interpreter, tool: Option<&Path>, script: &str, size: &str) -> anyhow::Result<f64> {
    let mut command = match tool {
        None => Command::new(&of.program),
        Some(tool) => {
            let mut command = Command::new(tool);
            command.arg("run").arg("--python").arg(&of.program);
            command
        }
    };
    let out = command
        .args(["-c", MEASURED, script, size])
        .envs(of.env.iter().cloned())
        .env("PYTHONHASHSEED", "0")
        .current_dir(repository())
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let used = text.lines().find_map(|l| l.strip_prefix("USED ")?.parse().ok());
    used.with_context(|| format!("{script}: {}", String::from_utf8_lossy(&out.stderr)))
}
