//! A target that maps and unmaps all the while: its throughput while it is looked at without pause,
//! beside its throughput with a busy neighbour.
//!
//! The neighbour is a process that computes and touches memory for as long as our looks do, so that
//! what is left is what looking itself costs the target: the kernel's lock on its map.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pydefrag_harness::{Interpreters, Target};

use crate::table::Table;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);

pub(crate) fn measure(tool: &Path, table: &mut Table) -> anyhow::Result<()> {
    let Some(interpreter) = Interpreters::load().get("3.11") else {
        eprintln!("not run: 3.11 (no source)");
        return Ok(());
    };
    let mut target = Target::spawn(interpreter, "mmap_churn.py", &[], &[]);
    let pid = target.pid().to_string();
    let (mut losses, mut looks, mut rates) = (Vec::new(), 0, (0.0, 0.0));
    for _ in 0..ROUNDS {
        let beside_neighbour = {
            let _neighbour = Neighbour::start()?;
            rate(&mut target)
        };
        let (looked_at, n) = while_looking(tool, &pid, || rate(&mut target))?;
        looks += n;
        rates = (beside_neighbour, looked_at);
        losses.push(100.0 * (1.0 - looked_at / beside_neighbour));
    }
    losses.sort_by(f64::total_cmp);
    table.add(
        "% of an mmap-churning target's throughput lost to back-to-back snapshots",
        losses[ROUNDS / 2],
        Some(10.0),
        format!(
            "median of {ROUNDS}; last: {:.0} / s looked at, {:.0} / s beside a busy neighbour; {looks} snapshots",
            rates.1, rates.0
        ),
    );
    Ok(())
}

/// Iterations a second over one round, as the target counts them.
fn rate(target: &mut Target) -> f64 {
    let count = |line: String| -> f64 { line.trim().parse().expect("the target prints a count") };
    // The line that is being written now belongs to what was before.
    target.next_line();
    let first = count(target.next_line());
    let start = Instant::now();
    let mut last = first;
    while start.elapsed() < ROUND {
        last = count(target.next_line());
    }
    (last - first) / start.elapsed().as_secs_f64()
}

/// Runs `work` while another thread takes one snapshot after another.
fn while_looking(
    tool: &Path,
    pid: &str,
    work: impl FnOnce() -> f64,
) -> anyhow::Result<(f64, usize)> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| -> anyhow::Result<usize> {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                let out = Command::new(tool).args(["snapshot", pid]).output()?;
                anyhow::ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
                n += 1;
            }
            Ok(n)
        });
        let rate = work();
        done.store(true, Ordering::Relaxed);
        let n = looking.join().expect("the looking thread")?;
        Ok((rate, n))
    })
}

/// A process that keeps a core busy with copying, as a snapshot does.
struct Neighbour(Child);

impl Neighbour {
    fn start() -> anyhow::Result<Neighbour> {
        let program = "a = bytearray(4 << 20)\nwhile True: b = bytes(a)";
        let interpreters = Interpreters::load().all();
        let python = interpreters[0];
        let child = Command::new(&python.program)
            .args(&python.args)
            .args(["-c", program])
            .envs(python.env.iter().cloned())
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Neighbour(child))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
