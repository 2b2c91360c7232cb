//! Recording a process that waits for it: one that was started with `pydefrag record --wait`.
//!
//! Owns the asking. It is by files in the agent's folder, whose layout and meaning are those of the agent's `record::wait`;
//! nothing is written to the process's memory, and no debugger's right is needed: the user who started it may ask.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pydefrag_trace::Trace;
use serde::Deserialize;

use crate::args::Record;
use crate::failure::{hinted, say};
use crate::fix::interrupt::Interrupt;

use super::files::Files;
use super::preload::{VARIABLE, tool};

/// Between two looks at what the agent says.
const POLL: Duration = Duration::from_millis(20);
/// How long it may take until a process allocates enough to notice.
const BEGIN: Duration = Duration::from_secs(10);
/// How long it may take, once its time is over, until it allocates again.
const END: Duration = Duration::from_secs(2);

/// What the process was told when it was started.
#[derive(Debug, Deserialize)]
struct Told {
    tool: String,
    library: PathBuf,
    #[serde(default)]
    wait: bool,
}

/// The files by which a process is asked.
struct Asking {
    ask: PathBuf,
    recording: PathBuf,
    refused: PathBuf,
}

/// Records a running process until its time is over, it ends, or we are interrupted.
pub(crate) fn record(pid: i32, args: &Record, files: &Files) -> anyhow::Result<()> {
    let asking = asking(pid)?;
    let interrupt = Interrupt::hold();
    begin(pid, args, files, &asking)?;
    let until = args.duration.map(|d| Instant::now() + d + END);
    match args.duration {
        Some(d) => {
            say(&format!("recording process {pid} for {} s; Ctrl-C ends it", d.as_secs_f64()))
        }
        None => say(&format!("recording process {pid} until it ends; Ctrl-C ends it")),
    }
    while asking.recording.exists() && is_there(pid) {
        if interrupt.came() || until.is_some_and(|until| Instant::now() > until) {
            let _ = std::fs::remove_file(&asking.recording);
            let since = Instant::now();
            while !has_ended(&files.part) && is_there(pid) {
                if since.elapsed() > END {
                    say(&format!(
                        "pydefrag: process {pid} allocates next to nothing now: its recording ends when it goes on"
                    ));
                    break;
                }
                std::thread::sleep(POLL);
            }
            break;
        }
        std::thread::sleep(POLL);
    }
    if !is_there(pid) {
        let _ = std::fs::remove_file(&asking.recording);
    }
    // What came was meant for the recording, which is now reported.
    interrupt.forget();
    Ok(())
}

fn is_there(pid: i32) -> bool {
    pydefrag_image::Glance::of(pid).is_some_and(|glance| !glance.ended)
}

fn has_ended(part: &Path) -> bool {
    Trace::open(part).is_ok_and(|trace| trace.end.is_some())
}

/// Asks, and waits until the process records.
fn begin(pid: i32, args: &Record, files: &Files, asking: &Asking) -> anyhow::Result<()> {
    if asking.recording.exists() {
        return Err(hinted(
            format!("process {pid} is being recorded already"),
            format!("rm {}   (ends that recording)", asking.recording.display()),
        ));
    }
    let _ = std::fs::remove_file(&asking.refused);
    let seconds = args.duration.map(|d| d.as_secs_f64());
    let text = serde_json::json!({
        "path": files.part, "every": args.sample, "seconds": seconds, "native": args.native,
    });
    let new = asking.ask.with_extension("new");
    let written =
        std::fs::write(&new, text.to_string()).and_then(|()| std::fs::rename(&new, &asking.ask));
    written.map_err(|e| {
        hinted(
            format!("process {pid} cannot be asked: {}: {e}", asking.ask.display()),
            "ask as the user who started it, on the machine (or in the container) that it runs in",
        )
    })?;
    let since = Instant::now();
    loop {
        if asking.recording.exists() || has_ended(&files.part) {
            return Ok(());
        }
        if let Ok(why) = std::fs::read_to_string(&asking.refused) {
            let _ = std::fs::remove_file(&asking.refused);
            return Err(hinted(
                format!("process {pid} is not recorded: {why}"),
                "pydefrag record --help   (says what can be asked)",
            ));
        }
        if since.elapsed() > BEGIN || !is_there(pid) {
            break;
        }
        std::thread::sleep(POLL);
    }
    let _ = std::fs::remove_file(&asking.ask);
    if !is_there(pid) {
        return Err(hinted(
            format!("process {pid} has ended before it was recorded"),
            "pydefrag ps   (shows the Pythons that run)",
        ));
    }
    Err(hinted(
        format!(
            "process {pid} has not begun to record within {} s: it allocates next to nothing",
            BEGIN.as_secs()
        ),
        "pydefrag snapshot PID   (shows what it holds as it is)",
    ))
}

/// How a process is asked; an error where it cannot be.
fn asking(pid: i32) -> anyhow::Result<Asking> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).map_err(|e| {
        let what = match e.kind() {
            std::io::ErrorKind::NotFound => format!("there is no process {pid}"),
            _ => format!("process {pid} cannot be looked at: {e}"),
        };
        hinted(what, "pydefrag ps   (shows the Pythons that run)")
    })?;
    // The agent takes it out of the list of variables, not out of the memory that the kernel shows.
    let told = environ
        .split(|b| *b == 0)
        .find_map(|entry| entry.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))
        .and_then(|text| serde_json::from_slice::<Told>(text).ok());
    let Some(told) = told else {
        return Err(hinted(
            format!("process {pid} has no agent that could record it"),
            "pydefrag record --wait PROGRAM   (starts one that can be recorded later)",
        ));
    };
    if told.tool != tool() {
        return Err(hinted(
            format!("the agent in process {pid} is that of {}, and this is {}", told.tool, tool()),
            "record it with the pydefrag that it was started with",
        ));
    }
    if !told.wait {
        return Err(hinted(
            format!("process {pid} is being recorded since its start"),
            "pydefrag report FILE.pdtrace.part   (shows it as it is)",
        ));
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let own =
        pids.and_then(|pids| pids.split_ascii_whitespace().last()?.parse().ok()).unwrap_or(pid);
    let file = |what: &str| told.library.with_file_name(format!("{what}.{own}"));
    Ok(Asking { ask: file("ask"), recording: file("recording"), refused: file("refused") })
}
