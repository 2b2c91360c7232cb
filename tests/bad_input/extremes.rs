//! Processes that are sound and large in some way.

use std::process::Command;
use std::time::{Duration, Instant};

use pydefrag_harness::smaps::mapping_count;
use pydefrag_harness::{Interpreters, Target};
use serde_json::Value;

use super::{LIMIT, Stranger, account, look, python, python_says, within};
use crate::support::text;

#[test]
fn two_thousand_threads() {
    let target = Target::spawn(python(), "threads.py", &["2000"], &[]);
    target.wait_blocked();
    let start = Instant::now();
    let json = account(&look(target.pid()), "2,000 threads");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(json["process"]["threads"].as_u64() >= Some(2001));
    let resident = |name: &str| -> u64 {
        let owners = json["owners"].as_array().expect("owners");
        owners.iter().filter(|o| o["name"] == name).filter_map(|o| o["resident"].as_u64()).sum()
    };
    // Each thread has touched its stack.
    assert!(resident("thread stacks") >= 2000 * 8192, "{json:#}");
    let rss = json["memory"]["rss"].as_u64().expect("bytes");
    let unknown = resident("other anonymous") + json["unattributed"].as_u64().expect("bytes");
    assert!(unknown * 50 <= rss, "{unknown} of {rss} bytes have no owner");
}

/// With one arena or two, much in the interpreter's data looks like the list of them.
#[test]
fn next_to_nothing() {
    for interpreter in Interpreters::load().minors() {
        // Nothing but `-c`: the fewest arenas that there can be.
        let mut command = Command::new(&interpreter.program);
        command.envs(interpreter.env.iter().map(|(k, v)| (k, v))).args(&interpreter.args);
        let says = "import sys; sys._debugmallocstats(); print('READY', flush=True); input()";
        let errors = tempfile::NamedTempFile::new().expect("a temporary file");
        command.stderr(errors.reopen().expect("the same file")).args(["-S", "-c", says]);
        let target = Stranger::ready(&mut command);
        let json = account(&look(target.pid()), &interpreter.name);
        let stats = std::fs::read_to_string(errors.path()).expect("what it printed");
        let line = stats.lines().find(|l| l.starts_with("# arenas allocated current"));
        let said = line.and_then(|l| l.rsplit(' ').next()).expect("a count");
        assert_eq!(json["pymalloc"]["arenas"].to_string(), said, "{}", interpreter.name);
    }
}

#[test]
fn sixty_thousand_mappings() {
    let target = Target::spawn(python(), "mappings.py", &["60000"], &[]);
    target.wait_blocked();
    assert!(mapping_count(target.pid()) >= 60_000);
    let start = Instant::now();
    let (json, peak) = look_and_peak(target.pid());
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    let rss = json["memory"]["rss"].as_u64().expect("bytes");
    let bound = (64 << 20) + rss / 50;
    eprintln!("60,000 mappings: {:?}, peak RSS {peak}", start.elapsed());
    assert!(peak < bound, "peak RSS {peak}, more than {bound}");
}

/// A snapshot's JSON and the peak RSS of the process that took it, which Python asks the kernel for.
fn look_and_peak(pid: u32) -> (Value, u64) {
    let ask = "import resource, subprocess, sys\n\
        out = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True).stdout\n\
        print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, flush=True)\n\
        sys.stdout.buffer.write(out)";
    let mut command = python_says(python(), ask);
    command.arg(env!("CARGO_BIN_EXE_pydefrag")).args(["snapshot", &pid.to_string(), "--json"]);
    let out = within(command, LIMIT);
    let (stdout, stderr) = text(&out);
    let (peak, json) = stdout.split_once('\n').unwrap_or_else(|| panic!("{stderr}"));
    let peak: u64 = peak.parse().expect("KiB");
    (serde_json::from_str(json).expect("JSON"), peak * 1024)
}
