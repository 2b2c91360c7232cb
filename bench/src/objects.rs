//! Ten million objects in 1 GiB: what explaining them costs, in time and in memory of our own.
//!
//! Anonymous memory is what counts: the graph lies in unlinked files, which the kernel can write out.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use pydefrag_harness::{Interpreters, Target};

use crate::table::{Table, median};

pub(crate) const OBJECTS: &str = "10000000";
const ROUNDS: usize = 3;

pub(crate) fn measure(tool: &Path, table: &mut Table) -> anyhow::Result<()> {
    for name in ["3.8", "3.11", "3.13", "3.15"] {
        let Some(interpreter) = Interpreters::load().get(name) else {
            eprintln!("not run: {name} (no source)");
            continue;
        };
        let script = pydefrag_harness::repository().join("bench/targets/objects.py");
        let target = Target::spawn(interpreter, &script.display().to_string(), &[OBJECTS], &[]);
        target.wait_blocked();
        let pid = target.pid();
        let (mut whole, mut alone, mut own) = (vec![], vec![], 0);
        for _ in 0..ROUNDS {
            let (time, anonymous) = run(tool, pid, &["--json"])?;
            whole.push(time);
            own = own.max(anonymous);
            alone.push(run(tool, pid, &["--json", "--no-objects"])?.0);
        }
        let (whole, alone) = (median(whole), median(alone));
        let rss = field(pid, "VmRSS:");
        let mib = |bytes: u64| bytes >> 20;
        table.add(
            &format!("{name}, 10 million objects: seconds to explain"),
            whole.as_secs_f64(),
            Some(12.0),
            format!("{:.2} s, the account alone {:.2} s", whole.as_secs_f64(), alone.as_secs_f64()),
        );
        table.add(
            &format!("{name}, 10 million objects: RssAnon of the tool / RSS of the target"),
            own as f64 / rss as f64,
            Some(0.25),
            format!("{} / {} MiB", mib(own), mib(rss)),
        );
    }
    Ok(())
}

/// Runs the tool once: how long it took, and the most anonymous memory that was seen.
fn run(tool: &Path, pid: u32, options: &[&str]) -> anyhow::Result<(Duration, u64)> {
    let start = Instant::now();
    let mut child = Command::new(tool)
        .args(["snapshot", &pid.to_string()])
        .args(options)
        .stdout(Stdio::null())
        .spawn()?;
    let mut most = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        most = most.max(field(child.id(), "RssAnon:"));
        std::thread::sleep(Duration::from_millis(10));
    };
    ensure!(status.success(), "the tool failed: {status}");
    Ok((start.elapsed(), most))
}

/// A size in `/proc/PID/status`, in bytes; 0 once the process has ended.
pub(crate) fn field(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    let number = line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}
