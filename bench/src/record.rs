//! What recording costs a program, beside the same program bare and under memray's full mode, in one run.
//!
//! The program is run bare, recorded and sampled in turns, on either core in turns. It measures itself at its end
//! (RUSAGE_SELF); what is told is the ratio of the least times: a machine that others use too adds to a time, and never
//! takes from it. (Side by side, a core each, the two fight for the memory that they share.) The recording is made by the agent alone, as `pydefrag record` has it made; what the tool does with the file
//! after the program's end is not the program's time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use pydefrag_harness::packages::Packages;
use pydefrag_harness::{Interpreter, Interpreters, repository};
use pydefrag_trace::{Trace, compress, event::Event};

use crate::table::Table;

const ROUNDS: usize = 15;
/// Of a program without a limit. (memray runs once: it takes long, and is far from any.)
const FEW_ROUNDS: usize = 5;
const SAMPLE: u64 = 512 << 10;

/// A program, and the limits on what recording may make of its time.
struct Program {
    name: &'static str,
    words: &'static [&'static str],
    full: Option<f64>,
    sampled: Option<f64>,
    /// Bytes an event, in the finished file.
    finished: Option<f64>,
}

const PROGRAMS: [Program; 6] = [
    Program {
        name: "w1",
        words: &["tests/targets/records.py", "150000"],
        full: Some(1.30),
        sampled: Some(1.06),
        finished: Some(1.1),
    },
    Program {
        name: "w2",
        words: &["tests/targets/threads_bytes.py", "30000"],
        full: Some(1.15),
        sampled: Some(1.06),
        finished: Some(1.3),
    },
    Program {
        name: "calls",
        words: &["tests/targets/calls.py", "calls", "300000"],
        full: Some(1.5),
        sampled: None,
        finished: None,
    },
    Program {
        name: "depth 500",
        words: &["tests/targets/calls.py", "deep", "300000", "500"],
        full: Some(1.4),
        sampled: None,
        finished: None,
    },
    Program {
        name: "session_cache",
        words: &["examples/session_cache.py"],
        full: None,
        sampled: None,
        finished: None,
    },
    Program {
        name: "json_document",
        words: &["examples/json_document.py"],
        full: None,
        sampled: None,
        finished: None,
    },
];

/// Bytes an event while it is recorded.
const RAW: f64 = 2.8;
/// MiB of RSS more.
const MEMORY: f64 = 10.0;

/// Runs a script and says what it has used. (`ru_maxrss` would be the parent's, where that is higher.)
const MEASURED: &str = "import resource, runpy, sys\n\
    sys.argv = sys.argv[1:]; sys.path.insert(0, 'tests/targets')\n\
    runpy.run_path(sys.argv[0], run_name='__main__')\n\
    used = resource.getrusage(resource.RUSAGE_SELF)\n\
    high = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')]\n\
    sys.stderr.write('USED %f %s\\n' % (used.ru_utime + used.ru_stime, high[0]))";

enum Arm<'a> {
    Bare,
    Full,
    Sampled,
    Memray(&'a Path),
}

/// Seconds of processor time, and the highest RSS in KiB.
type Used = (f64, f64);

/// Measures all programs, or those whose names are given.
pub(crate) fn measure(table: &mut Table, only: &[String]) -> anyhow::Result<()> {
    let known = |name: &String| PROGRAMS.iter().any(|p| p.name == name);
    anyhow::ensure!(
        only.iter().all(known),
        "no such program: {}",
        PROGRAMS.map(|p| p.name).join(", ")
    );
    for program in PROGRAMS.iter().filter(|p| only.is_empty() || only.iter().any(|o| o == p.name)) {
        for name in ["3.11", "3.13"] {
            let Some(of) = Interpreters::load().get(name) else {
                eprintln!("not run: {name} (no source)");
                continue;
            };
            let memray = memray(of);
            if memray.is_none() {
                eprintln!("not run: memray on {name} (cargo xtask packages brings it)");
            }
            one(table, of, memray.as_deref(), program)?;
        }
    }
    Ok(())
}

fn one(
    table: &mut Table,
    of: &Interpreter,
    memray: Option<&Path>,
    program: &Program,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let what = |what: &str| format!("{what} ({}, {})", of.name, program.name);
    let rounds = if program.full.is_some() { ROUNDS } else { FEW_ROUNDS };
    let [mut bare, mut full, mut sampled] = [const { Vec::new() }; 3];
    for round in 0..rounds {
        for (arm, runs) in
            [(Arm::Bare, &mut bare), (Arm::Full, &mut full), (Arm::Sampled, &mut sampled)]
        {
            runs.push(used(of, &arm, program, folder.path(), round)?);
        }
    }
    let (bare, full, sampled) = (Runs::of(bare), Runs::of(full), Runs::of(sampled));
    let memray = memray.map(|packages| {
        used(of, &Arm::Memray(packages), program, folder.path(), 0).map(|m| m.0 / bare.time)
    });
    let memray = memray.transpose()?.map(|ratio| format!("; memray's full mode {ratio:.2}"));
    let part = folder.path().join("full.part");
    let raw = std::fs::metadata(&part)?.len() as f64;
    let events = events(&part)?;
    let mut finished = Vec::new();
    compress(&part, &mut finished, &|_, _| {})?;
    table.add(
        &what("CPU of a program recorded with stacks, of that bare"),
        full.time / bare.time,
        program.full,
        format!(
            "{:.2} s of {:.2} s, {events} events, {:.1} ns each{}",
            full.time,
            bare.time,
            (full.time - bare.time) * 1e9 / events as f64,
            memray.unwrap_or_default()
        ),
    );
    table.add(
        &what("CPU sampled every 512 KiB, of that bare"),
        sampled.time / bare.time,
        program.sampled,
        format!("{:.2} s of {:.2} s", sampled.time, bare.time),
    );
    table.add(
        &what("bytes an event while recording"),
        raw / events as f64,
        Some(RAW),
        format!("{raw} bytes"),
    );
    table.add(
        &what("bytes an event in the finished file"),
        finished.len() as f64 / events as f64,
        program.finished,
        format!("{} bytes", finished.len()),
    );
    let more = (full.memory - bare.memory) / 1024.0;
    table.add(&what("MiB of RSS more"), more, Some(MEMORY), String::new());
    Ok(())
}

/// What an arm has used.
struct Runs {
    /// The least processor time, in seconds.
    time: f64,
    /// Median of the highest RSS, in KiB.
    memory: f64,
}

impl Runs {
    fn of(runs: Vec<Used>) -> Runs {
        let (times, memory): (Vec<f64>, Vec<f64>) = runs.into_iter().unzip();
        Runs { time: times.into_iter().fold(f64::INFINITY, f64::min), memory: median(memory) }
    }
}

pub(crate) fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Allocations and frees in a trace.
pub(crate) fn events(part: &Path) -> anyhow::Result<u64> {
    let trace = Trace::open(part)?;
    let mut count = 0;
    trace.events().each(&|_, _| {}, &mut |_, event| {
        count += u64::from(matches!(event, Event::Alloc { .. } | Event::Free { .. }));
    });
    Ok(count)
}

/// The folder with memray for this interpreter, where it is there.
fn memray(of: &Interpreter) -> Option<PathBuf> {
    let sets = Packages::load().set;
    let set = sets.into_iter().find(|set| set.name == format!("memray-3{}", of.minor))?;
    set.is_there().then(|| set.folder())
}

/// The command of an interpreter whose program is recorded into a file.
pub(crate) fn recorded(of: &Interpreter, file: &Path, every: Option<u64>) -> Command {
    let mut command = Command::new(&of.program);
    preload(&mut command, file, every);
    command
}

fn preload(command: &mut Command, file: &Path, every: Option<u64>) {
    let library = repository().join("target/release/deps/libpydefrag_agent.so");
    let wanted = serde_json::json!({
        "path": file, "tool": "bench", "library": library, "every": every,
    });
    command.env("LD_PRELOAD", library).env("PYDEFRAG_RECORD", wanted.to_string());
}

/// Runs a program on one core, the other one in the next round; what it has used.
fn used(
    of: &Interpreter,
    arm: &Arm,
    program: &Program,
    folder: &Path,
    round: usize,
) -> anyhow::Result<Used> {
    let mut command = Command::new("taskset");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    command.args(["-c", &(round % cores).to_string()]).arg(&of.program);
    let file = match arm {
        Arm::Full => folder.join("full.part"),
        Arm::Sampled => folder.join("sampled.part"),
        _ => folder.join("memray"),
    };
    let _ = std::fs::remove_file(&file);
    match arm {
        Arm::Bare => {}
        Arm::Full => preload(&mut command, &file, None),
        Arm::Sampled => preload(&mut command, &file, Some(SAMPLE)),
        Arm::Memray(packages) => {
            command.env("PYTHONPATH", packages);
            command.args(["-m", "memray", "run", "--trace-python-allocators", "-q", "-f", "-o"]);
            command.arg(&file);
        }
    }
    command
        .args(["-c", MEASURED])
        .args(program.words)
        .envs(of.env.iter().cloned())
        .env("PYTHONHASHSEED", "0")
        .current_dir(repository())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let out = command.output().context("taskset (of util-linux) could not be started")?;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let used = text.lines().find_map(|l| {
        let (seconds, kib) = l.strip_prefix("USED ")?.split_once(' ')?;
        Some((seconds.parse().ok()?, kib.parse().ok()?))
    });
    used.with_context(|| format!("{}: {text}", program.name))
}
