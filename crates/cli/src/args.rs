//! What can be typed: the arguments of every verb, with the help that teaches them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

/// Find, explain, predict and fix memory fragmentation in Python processes.
///
/// pydefrag looks at a running CPython process from outside, installs nothing in it, and accounts for
/// every resident byte: live objects, free pools, holes, pinned free space, malloc, libraries.
#[derive(Debug, Parser)]
#[command(name = "pydefrag", version, subcommand_required = true, arg_required_else_help = true)]
#[command(
    after_help = "Look:\n  ps        which Python processes are there, and may I look\n  snapshot  where every resident byte of one process is\n  report    show a snapshot that was kept\n  diff      what grew between two looks: live data or fragmentation\n\nStart with `pydefrag ps`, then `pydefrag snapshot PID`.\nExit codes: 0 done, 1 failed, 2 wrong usage."
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ps(Ps),
    Snapshot(Snapshot),
    Report(Report),
    Diff(Diff),
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
/// only memory that is resident is read. Where memory may not be read, what the kernel's maps alone
/// tell is printed, marked partial.
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
    /// and copied since, and what it still shares by copy-on-write.
    #[arg(long, conflicts_with = "output")]
    pub(crate) tree: bool,
    /// Keep the snapshot, with the heap pool by pool, in this file; show it with `pydefrag report`.
    #[arg(short, long, value_name = "FILE.pdsnap")]
    pub(crate) output: Option<PathBuf>,
}

/// Show a snapshot that was kept with `snapshot -o`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  pydefrag report before.pdsnap\n  pydefrag report before.pdsnap --json"
)]
pub(crate) struct Report {
    /// A file written by `pydefrag snapshot -o`.
    #[arg(value_name = "FILE.pdsnap")]
    pub(crate) file: PathBuf,
    /// Print JSON instead of the report (see docs/json.md).
    #[arg(long)]
    pub(crate) json: bool,
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
}
