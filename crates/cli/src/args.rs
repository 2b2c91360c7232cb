//! What can be typed: the arguments of every verb, with the help that teaches them.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::fix::options::{self, Fixing, Level};
use crate::objects::{Checked, NoObjects, Objects, Shown};
use crate::run::Schedule;
use crate::run::guard::{percent, size};

use clap::{Args as ClapArgs, Parser, Subcommand};
use pydefrag_heap::HealLevel;

/// Find, explain, predict and fix memory fragmentation in Python processes.
///
/// pydefrag looks at a running CPython process from outside, installs nothing in it, and accounts for
/// every resident byte: live objects, free pools, holes, pinned free space, malloc, libraries.
#[derive(Debug, Parser)]
#[command(name = "pydefrag", version, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Look:\n  ps        which Python processes are there, and may I look\n  snapshot  where every resident byte of one process is\n  run       run a program and account for its memory over time and at its end\n  report    show a snapshot that was kept\n  diff      what grew between two looks: live data or fragmentation\n\nWhy:\n  record    every allocation of a program, with its stack\n\nFix:\n  fix       have a running process give memory back, in place\n\nStart with `pydefrag run app.py`, or with `pydefrag ps`, then `pydefrag snapshot PID`.\nExit codes: 0 done, 1 failed, 2 wrong usage, 3 a limit of `run` was exceeded."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ps(Ps),
    Snapshot(Snapshot),
    Run(Run),
    Report(Report),
    Record(Record),
    Diff(Diff),
    Fix(Fix),
}

/// List Python processes with their memory and fragmentation.
///
/// Every Python process that can be seen, as a tree. LIVE and FRAG come from a quick look that reads
/// pool headers only. Where looking is not permitted, LOOK says what forbids it.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  pydefrag ps\n  sudo pydefrag ps          other users' processes too\n  pydefrag ps --json | jq '.processes[] | .fragmentation_percent'"
)]
pub(crate) struct Ps {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Account for every resident byte of a Python process.
///
/// CPython 3.8 to 3.15 on x86-64 Linux with glibc. The process is neither stopped nor changed, and
/// only memory that is resident is read. Its objects are looked at too: which hold the memory, and who
/// owns them. Where memory may not be read, what the kernel's maps alone tell is printed, marked partial.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  pydefrag snapshot 4242\n  pydefrag snapshot 4242 -o before.pdsnap\n  pydefrag snapshot 4242 --json | jq .fragmentation\n  pydefrag snapshot $(pgrep -of app.py)   the oldest of them\n  pydefrag snapshot --tree 4240   a master and its workers together"
)]
pub(crate) struct Snapshot {
    /// Process id, as `ps` or `pydefrag ps` shows it.
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
    /// Print JSON instead of the report (see docs/json.md).
    #[arg(long)]
    pub(crate) json: bool,
    /// Account for the process and all its descendants together, in proportional shares (PSS).
    ///
    /// What they share is counted once. For each: what it alone holds, what it inherited at the fork
    /// and copied since, and what it still shares by copy-on-write. Objects are not looked at.
    #[arg(long, conflicts_with_all = ["output", "show_values"])]
    pub(crate) tree: bool,
    /// Keep the snapshot, with the heap pool by pool, in this file; show it with `pydefrag report`.
    #[arg(short, long, value_name = "FILE.pdsnap")]
    pub(crate) output: Option<PathBuf>,
    /// Leave out the picture of pymalloc's arenas, which a colour terminal shows below the report.
    #[arg(long)]
    pub(crate) no_map: bool,
    /// Write the report as one HTML file: the heap as a map to look into, and all else of it.
    ///
    /// The file needs nothing but a browser, and loads nothing.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    checked: Checked,
}

impl Snapshot {
    /// What is wanted of the objects.
    pub(crate) fn objects(&self) -> Objects {
        let map = self.html.is_some() || self.output.is_some();
        Objects { map, ..self.checked.of(self.shown.objects()) }
    }
}

/// Show a snapshot or a recording that was kept.
///
/// A snapshot is what `snapshot -o` or `run -o` wrote, a recording what `record` did (while it is written too, under its
/// name with .part). A recording can be written for other viewers: pprof, speedscope.app, the Firefox Profiler, or as folded
/// stacks for flame graphs.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  pydefrag report before.pdsnap\n  pydefrag report before.pdsnap --json\n  pydefrag report app.pdtrace --html app.html\n  pydefrag report app.pdtrace --format speedscope -o app.speedscope.json"
)]
pub(crate) struct Report {
    /// A file written by `pydefrag snapshot -o`, `pydefrag run -o` or `pydefrag record`.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write a recording for another viewer, to the file that -o names.
    #[arg(long, value_enum, value_name = "FORMAT", requires = "output", conflicts_with_all = ["json", "html"])]
    pub(crate) format: Option<Format>,
    /// Where --format writes to.
    #[arg(short, long, value_name = "FILE", requires = "format")]
    pub(crate) output: Option<PathBuf>,
    /// Print JSON instead of the report (see docs/json.md).
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave out the picture of pymalloc's arenas, which a colour terminal shows below the report.
    #[arg(long)]
    pub(crate) no_map: bool,
    /// Write the report as one HTML file: the heap as a map to look into, and all else of it.
    ///
    /// The file needs nothing but a browser, and loads nothing.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
}

/// Record every allocation of a program, with the Python stack that made it.
///
/// An agent inside the program writes what it allocates and frees to a file, in a few nanoseconds each; the report says who
/// allocated, what was live at the peak, and what was kept. The program's output, exit code and signals stay what they are.
/// CPython 3.8 to 3.15 on x86-64 Linux with glibc; a free-threaded build without stacks.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "pydefrag record [OPTIONS] [--] SCRIPT | -m MODULE | -c CODE | COMMAND [ARGS]...\n       pydefrag record [OPTIONS] --pid PID",
    after_help = "Examples:\n  pydefrag record app.py --port 8000\n  pydefrag record -o tests.pdtrace -m pytest tests\n  pydefrag record --sample app.py            one allocation in 512 KiB: to be left on\n  pydefrag record --children gunicorn app:app\n  pydefrag record --native app.py            with the C functions that allocate\n  pydefrag record --wait service.py          and when there is something to see:\n  pydefrag record --pid 4242 --duration 60s -o slow.pdtrace\n  pydefrag report app.pdtrace --html app.html\n\nExit codes: the program's own; by its signal, if a signal ended it."
)]
pub(crate) struct Record {
    /// The interpreter for a script, -m or -c; python3 on PATH unless given.
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// The file; named after the program, in this folder, unless given. While it is written it ends in .part.
    #[arg(short, long, value_name = "FILE.pdtrace")]
    pub(crate) output: Option<PathBuf>,
    /// Record one allocation in so many bytes, at random, and tell estimates with their error. Units: B, KiB, MiB, GiB; kB, MB, GB.
    #[arg(
        long,
        value_name = "512KiB",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "512KiB",
        value_parser = sample
    )]
    pub(crate) sample: Option<u64>,
    /// Record the C functions too that stand between a Python function and an allocation, at a price of its own.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) native: bool,
    /// Record its forks, and what it starts, each to a file of its own: FILE.PID.pdtrace.
    #[arg(long)]
    pub(crate) children: bool,
    /// Record nothing yet: the program waits for `pydefrag record --pid`, at the price of a call or two an allocation.
    #[arg(long, conflicts_with_all = ["output", "sample", "json", "html", "no_report", "duration"])]
    pub(crate) wait: bool,
    /// Record a process that waits for it: one that was started with --wait.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..), conflicts_with_all = ["wait", "python", "children", "words"])]
    pub(crate) pid: Option<i32>,
    /// Record for so long; the program goes on. Units: s, m, h.
    #[arg(long, value_name = "60s", value_parser = options::duration)]
    pub(crate) duration: Option<std::time::Duration>,
    /// Report as JSON (see docs/json.md).
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report as one HTML file too.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
    /// Only keep the file.
    #[arg(long, conflicts_with_all = ["json", "html"])]
    pub(crate) no_report: bool,
    /// Walk every stack twice and count those that came out otherwise.
    #[arg(long, hide = true)]
    pub(crate) check_stacks: bool,
    /// Record as if Python had no GIL: without stacks, whoever allocates under a lock.
    #[arg(long, hide = true)]
    pub(crate) as_free_threaded: bool,
    /// The program, and all that belongs to it.
    #[arg(
        value_name = "PROGRAM",
        required_unless_present = "pid",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) words: Vec<OsString>,
}

fn sample(text: &str) -> Result<u64, String> {
    match size(text)? {
        every @ 1.. => Ok(every),
        0 => Err("one allocation in 0 bytes cannot be taken: at least 1B".into()),
    }
}

/// A format of another viewer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// go tool pprof, Pyroscope, Parca (gzipped protobuf).
    Pprof,
    /// speedscope.app.
    Speedscope,
    /// profiler.firefox.com.
    Firefox,
    /// flamegraph.pl, inferno: a line per stack, live bytes at the peak.
    Folded,
}

/// What grew between two looks: live data, fragmentation, or slack.
///
/// That tells a leak from fragmentation. Each look is a file that `snapshot -o` kept, or a pid: the
/// process as it is now. One of the two must be a file. The verdict is on one process at two times;
/// looks at different programs are compared all the same, and it is said that they are.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  pydefrag snapshot 4242 -o before.pdsnap\n  pydefrag diff before.pdsnap 4242\n  pydefrag diff before.pdsnap after.pdsnap --json | jq .heaps.live"
)]
pub(crate) struct Diff {
    /// The first look: a .pdsnap file, or a pid.
    #[arg(value_name = "A")]
    pub(crate) before: OsString,
    /// The second look: a .pdsnap file, or a pid.
    #[arg(value_name = "B")]
    pub(crate) after: OsString,
    /// Print JSON instead of the report (see docs/json.md).
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report as one HTML file: the heap as a map to look into, and all else of it.
    ///
    /// The file needs nothing but a browser, and loads nothing.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) looked_at: NoObjects,
}

/// Run a program as it would run without pydefrag, and report its memory when it ends.
///
/// The program is a Python script by default. Its output, exit code and signals stay what they are; the
/// report goes to stderr. While it runs, light looks sample it. At its end, after its exit callbacks and
/// before its modules are torn down, its memory is accounted for as `pydefrag snapshot` does.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "pydefrag run [OPTIONS] [--] SCRIPT | -m MODULE | -c CODE | COMMAND [ARGS]...",
    after_help = "Examples:\n  pydefrag run app.py --port 8000\n  pydefrag run -m pytest tests\n  pydefrag run gunicorn app:app          any command that ends in a Python\n  pydefrag run --python python3.13 -o end.pdsnap app.py\n  pydefrag run --max-fragmentation 30% --max-retained 50MiB app.py    in CI\n  pydefrag run --fix app.py              and give memory back when it pays\n  pydefrag run --fix --when 'fragmentation>30%' app.py\n\nExit codes: the program's own; by its signal, if a signal ended it; 3 if a limit was exceeded."
)]
pub(crate) struct Run {
    /// The interpreter for a script, -m or -c; python3 on PATH unless given.
    #[arg(long, value_name = "PATH")]
    pub(crate) python: Option<PathBuf>,
    /// Report to this file instead of stderr. A name that ends in .pdsnap keeps the snapshot instead,
    /// for `pydefrag report`.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Report as JSON (see docs/json.md).
    #[arg(long)]
    pub(crate) json: bool,
    /// Account for the memory at its peak too, and report that. Costs an account each time that RSS
    /// has grown by a tenth (at least 4 MiB) over the last one's. Objects are looked at at the end only.
    #[arg(long)]
    pub(crate) at_peak: bool,
    /// Write the report as one HTML file: the heap as a map to look into, and all else of it.
    ///
    /// The file needs nothing but a browser, and loads nothing.
    #[arg(long, value_name = "FILE.html")]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) shown: Shown,
    /// Exit with 3 if more of the walked heaps than this is not live at the end.
    #[arg(long, value_name = "N%", value_parser = percent)]
    pub(crate) max_fragmentation: Option<f64>,
    /// Exit with 3 if more than this is free at the end, yet resident. Units: B, KiB, MiB, GiB; kB, MB, GB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_retained: Option<u64>,
    /// Give memory back while it runs, in place: when it pays (auto), or what the level says every 30 s, or as
    /// --every or --when say.
    #[arg(
        long,
        value_enum,
        value_name = "LEVEL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "auto"
    )]
    pub(crate) fix: Option<Fixing>,
    /// With --fix, give memory back each time so long has passed. Units: ms, s, min, h.
    #[arg(long, value_name = "30s", value_parser = options::duration, requires = "fix", conflicts_with = "when")]
    pub(crate) every: Option<std::time::Duration>,
    /// With --fix, give memory back when more than this of RSS is free in its heaps, by the light looks; again when it was not, or after 30 s.
    #[arg(long, value_name = "'fragmentation>N%'", value_parser = options::when, requires = "fix")]
    pub(crate) when: Option<options::When>,
    /// The program, and all that belongs to it.
    #[arg(
        value_name = "PROGRAM",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) words: Vec<OsString>,
}

impl Run {
    /// When memory is to be given back, if it is.
    pub(crate) fn healing(&self) -> Option<Schedule> {
        /// Of a level without a time.
        const EVERY: std::time::Duration = std::time::Duration::from_secs(30);
        let level = match self.fix? {
            Fixing::Trim => HealLevel::Trim,
            Fixing::Purge | Fixing::Auto => HealLevel::Purge,
        };
        Some(match (self.fix, self.every, self.when) {
            (_, Some(every), _) => Schedule::Every(level, every),
            (_, None, Some(when)) => Schedule::When(level, when),
            (Some(Fixing::Auto), None, None) => Schedule::Auto,
            _ => Schedule::Every(level, EVERY),
        })
    }

    /// What is wanted of the objects at the end.
    pub(crate) fn objects(&self) -> Objects {
        let kept =
            self.output.as_ref().is_some_and(|o| o.extension().is_some_and(|e| e == "pdsnap"));
        Objects { map: self.html.is_some() || kept, ..self.shown.objects() }
    }
}

/// Have a running Python process give memory back, in place.
///
/// Stock CPython keeps free pools resident inside arenas that one object pins, and malloc keeps free pages between
/// survivors; a restart is the usual cure. Here an agent inside the process gives such memory back to the kernel, moving
/// nothing. It is there if the program was started with `pydefrag run --fix`, or calls `pydefrag.auto()`; CPython
/// 3.14 and later loads it on request (PEP 768), unless it was told not to. The report says what was promised, what
/// came back and stays away, what it cost, and who keeps the rest.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  pydefrag fix 4242 --dry-run      what would come back, and whether it may\n  pydefrag fix 4242\n  pydefrag fix 4242 --level trim   malloc only\n  pydefrag fix 4242 --collect      with a full collection of Python's first\n  pydefrag fix 4242 --json | jq '[.promised, .returned, .realised.returned]'"
)]
pub(crate) struct Fix {
    /// Process id, as `ps` or `pydefrag ps` shows it.
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) pid: i32,
    /// How far memory is asked back; see the ladder of `pydefrag snapshot`.
    #[arg(long, value_enum, default_value = "purge")]
    pub(crate) level: Level,
    /// Run Python's garbage collector first. It holds the GIL as long as it takes: the pause is not sliced.
    #[arg(long)]
    pub(crate) collect: bool,
    /// Do nothing: say what would come back, how the process would be reached, and whether it would refuse.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Longest time that the GIL is held at once, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "5", value_parser = options::slice)]
    pub(crate) slice: std::time::Duration,
    /// Seconds within which the process must begin; later it does nothing.
    #[arg(long, value_name = "S", default_value = "60", value_parser = options::timeout)]
    pub(crate) timeout: std::time::Duration,
    /// Seconds after which it is looked whether what came back stayed away; 0 does not look.
    #[arg(long, value_name = "S", default_value = "10", value_parser = options::settle)]
    pub(crate) settle: std::time::Duration,
    /// Print JSON instead of the report (see docs/json.md).
    #[arg(long)]
    pub(crate) json: bool,
    /// Report to this file instead of stdout.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) looked_at: NoObjects,
}
