//! What recording costs a program, beside the same program bare and under memray's full mode, in one run.
//!
//! A recorded program and a bare one run at the same time on the same core, which the kernel gives to them by turns of a few
//! milliseconds: what a shared machine takes away from a core (another's work beside it, a lower clock) it takes from both. Where the
//! bare one has ended another follows, until the recorded one ends too. Two such pairs run at once, one a core, in which the one and
//! the other is started first. A program measures itself at its end (RUSAGE_SELF); a round's ratio is the geometric mean of its
//! two, and what is told is the median of the rounds' with the interval that holds it in 95 of 100 such benches. What comes of two
//! bare ones is told beside it. The recording is made by the agent alone, as `pydefrag record` has it made; what the tool does
//! with the file after the program's end is not the program's time.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use pydefrag_harness::packages::Packages;
use pydefrag_harness::{Interpreter, Interpreters, repository};
use pydefrag_trace::{Trace, compress, event::Event};

use crate::table::Table;

/// Of two pairs each.
const ROUNDS: usize = 9;
/// Of a program without a limit.
const FEW_ROUNDS: usize = 3;
/// memray takes long, and is far from any limit.
const ROUNDS_OF_MEMRAY: usize = 1;
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
    /// With the agent in it, which nobody asks to record.
    Waiting,
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
    let bare = pairs(of, &Arm::Bare, program, folder.path(), rounds)?;
    let full = pairs(of, &Arm::Full, program, folder.path(), rounds)?;
    let sampled = pairs(of, &Arm::Sampled, program, folder.path(), rounds)?;
    let waiting = match program.sampled {
        Some(_) => Some(pairs(of, &Arm::Waiting, program, folder.path(), rounds)?),
        None => None,
    };
    let memray = memray.map(|packages| {
        pairs(of, &Arm::Memray(packages), program, folder.path(), ROUNDS_OF_MEMRAY)
    });
    let memray = memray.transpose()?.map(|m| format!("; memray's full mode {:.2}", m.ratio));
    let part = folder.path().join("full0.part");
    let raw = std::fs::metadata(&part)?.len() as f64;
    let events = events(&part)?;
    let mut finished = Vec::new();
    compress(&part, &mut finished, &|_, _| {})?;
    table.add(&what("CPU of a program bare, of that bare"), bare.ratio, None, bare.interval());
    table.add(
        &what("CPU of a program recorded with stacks, of that bare"),
        full.ratio,
        program.full,
        format!(
            "{}; {:.2} s of {:.2} s, {events} events, {:.1} ns each{}",
            full.interval(),
            full.time * full.ratio,
            full.time,
            full.time * (full.ratio - 1.0) * 1e9 / events as f64,
            memray.unwrap_or_default()
        ),
    );
    table.add(
        &what("CPU sampled every 512 KiB, of that bare"),
        sampled.ratio,
        program.sampled,
        format!(
            "{}; {:.2} s of {:.2} s",
            sampled.interval(),
            sampled.time * sampled.ratio,
            sampled.time
        ),
    );
    if let Some(waiting) = waiting {
        let what = what("CPU until recording is asked for (--wait), of that bare");
        table.add(&what, waiting.ratio, None, waiting.interval());
    }
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
    table.add(&what("MiB of RSS more"), full.memory, Some(MEMORY), String::new());
    Ok(())
}

/// What an arm has used, beside a bare one.
struct Beside {
    /// Median of the rounds' ratios of processor time.
    ratio: f64,
    /// Holds that median in 95 of 100 benches.
    between: (f64, f64),
    /// Median of the bare ones' seconds.
    time: f64,
    /// Median of what the highest RSS was more, in MiB.
    memory: f64,
}

fn pairs(
    of: &Interpreter,
    arm: &Arm,
    program: &Program,
    folder: &Path,
    rounds: usize,
) -> anyhow::Result<Beside> {
    let (mut ratios, mut times, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let both = std::thread::scope(|scope| {
            let both = [0, 1].map(|core| scope.spawn(move || pair(of, arm, program, folder, core)));
            both.map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let mut round = 1.0;
        for both in both {
            let (bare, other) = both?;
            round *= other.0 / bare.0;
            times.push(bare.0);
            memory.push((other.1 - bare.1) / 1024.0);
        }
        ratios.push(round.sqrt());
    }
    let between = interval(&ratios);
    Ok(Beside { ratio: median(ratios), between, time: median(times), memory: median(memory) })
}

/// A bare one and another on a core of theirs; the one or the other is started first.
fn pair(
    of: &Interpreter,
    arm: &Arm,
    program: &Program,
    folder: &Path,
    core: usize,
) -> anyhow::Result<(Used, Used)> {
    let begin = |arm: &Arm| start(of, arm, program, folder, core);
    let (bare, mut other) = match core {
        0 => (begin(&Arm::Bare)?, begin(arm)?),
        _ => {
            let other = begin(arm)?;
            (begin(&Arm::Bare)?, other)
        }
    };
    let bare = used(bare, program)?;
    // The one that takes longer is not to have the core for itself at its end.
    let mut company: Option<Child> = None;
    while other.try_wait()?.is_none() {
        let is_there = match &mut company {
            Some(child) => child.try_wait()?.is_none(),
            None => false,
        };
        if !is_there {
            company = Some(begin(&Arm::Bare)?);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Some(mut child) = company {
        child.kill()?;
        child.wait()?;
    }
    Ok((bare, used(other, program)?))
}

impl Beside {
    fn interval(&self) -> String {
        format!("{:.2} to {:.2}", self.between.0, self.between.1)
    }
}

/// What holds the median of such numbers in 95 of 100 samples of that size, whatever they are distributed like: those at the
/// ranks that a coin thrown so often has heads (Conover, Practical Nonparametric Statistics, 3.2); of fewer than six, all.
fn interval(of: &[f64]) -> (f64, f64) {
    let mut of = of.to_vec();
    of.sort_by(f64::total_cmp);
    let n = of.len();
    // The chance that fewer than `rank` heads come, on either side.
    let (mut rank, mut chance, mut exactly) = (0, 0.0, 0.5f64.powi(n as i32));
    while chance + exactly <= 0.025 {
        chance += exactly;
        exactly *= (n - rank) as f64 / (rank + 1) as f64;
        rank += 1;
    }
    let low = rank.saturating_sub(1);
    (of[low], of[n - 1 - low])
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
    preload(&mut command, file, every, false);
    command
}

fn preload(command: &mut Command, file: &Path, every: Option<u64>, wait: bool) {
    let library = repository().join("target/release/deps/libpydefrag_agent.so");
    let wanted = serde_json::json!({
        "path": file, "tool": "bench", "library": library, "every": every, "wait": wait,
    });
    command.env("LD_PRELOAD", library).env("PYDEFRAG_RECORD", wanted.to_string());
}

/// Starts a program on a core.
fn start(
    of: &Interpreter,
    arm: &Arm,
    program: &Program,
    folder: &Path,
    core: usize,
) -> anyhow::Result<Child> {
    let mut command = Command::new("taskset");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    command.args(["-c", &(core % cores).to_string()]).arg(&of.program);
    let file = match arm {
        Arm::Full => folder.join(format!("full{core}.part")),
        Arm::Sampled => folder.join(format!("sampled{core}.part")),
        Arm::Memray(_) => folder.join(format!("memray{core}")),
        Arm::Bare | Arm::Waiting => folder.join("nothing"),
    };
    let _ = std::fs::remove_file(&file);
    match arm {
        Arm::Bare => {}
        Arm::Full => preload(&mut command, &file, None, false),
        Arm::Sampled => preload(&mut command, &file, Some(SAMPLE), false),
        Arm::Waiting => preload(&mut command, &file, None, true),
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
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("taskset (of util-linux) could not be started")
}

/// Waits for its end.
fn used(child: Child, program: &Program) -> anyhow::Result<Used> {
    let out = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    let used = text.lines().find_map(|l| {
        let (seconds, kib) = l.strip_prefix("USED ")?.split_once(' ')?;
        Some((seconds.parse().ok()?, kib.parse().ok()?))
    });
    used.with_context(|| format!("{}: {text}", program.name))
}

#[cfg(test)]
mod tests {
    use super::interval;

    #[test]
    fn the_interval_is_that_of_the_tables() {
        // Ranks of the sign test: of 9, the 2nd and the 8th; of 25, the 8th and the 18th; of six, all.
        let ranks = |n: usize| interval(&(1..=n).map(|i| i as f64).collect::<Vec<_>>());
        assert_eq!(ranks(9), (2.0, 8.0));
        assert_eq!(ranks(25), (8.0, 18.0));
        assert_eq!(ranks(6), (1.0, 6.0));
        assert_eq!(ranks(3), (1.0, 3.0));
    }
}
