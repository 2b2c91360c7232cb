//! What to do where there is no way into a process: why, and how to start it so that there is one.

use pydefrag_heap::{HealLevel, Ladder};

use super::inject::Closed;
use crate::failure::hinted;

/// A failure that says why, with the way that helps; `agent` tells that one is in it that does not listen.
pub(super) fn closed(pid: i32, why: Closed, agent: bool, promised: Option<&str>) -> anyhow::Error {
    let start = start(pid, promised);
    let again = format!("pydefrag fix {pid} --timeout 300   (waits longer)");
    match why {
        Closed::Older if agent => hinted(
            format!("the agent in process {pid} does not listen: nobody started it there"),
            start,
        ),
        Closed::Older => hinted(
            format!(
                "process {pid} was not started with pydefrag, and only CPython 3.14 and later lets anybody in \
                 afterwards"
            ),
            start,
        ),
        Closed::FreeThreaded => hinted(
            format!("process {pid} runs a CPython without the GIL, whose memory mimalloc has"),
            format!("pydefrag snapshot {pid}   (says what is free in it)"),
        ),
        Closed::SwitchedOff => hinted(
            format!(
                "process {pid} does not allow remote execution: it was started with \
                 PYTHON_DISABLE_REMOTE_DEBUG or -X disable-remote-debug, or CPython was built \
                 without it"
            ),
            start,
        ),
        Closed::Taken => hinted(
            format!(
                "somebody else's script waits to be run in process {pid}, as a debugger's does"
            ),
            format!("pydefrag fix {pid}   (again, when the debugger is done)"),
        ),
        Closed::NotUnderstood(what) => {
            hinted(format!("process {pid} was left as it is, for {what}"), start)
        }
        Closed::NoFolder(what) => hinted(
            format!("no folder could be made from which process {pid} can load the agent ({what})"),
            start,
        ),
        Closed::Gone => gone(pid),
        Closed::NotRun(Some('T' | 't')) => stopped(pid, "nothing was done, and nothing will be"),
        Closed::NotRun(_) => hinted(
            format!(
                "the main thread of process {pid} ran no Python code in that time, as one that waits in C: \
                 nothing was done, and nothing will be"
            ),
            again,
        ),
        Closed::Refused(what) => hinted(
            format!("the agent could not be started in process {pid}: {what}"),
            format!("pydefrag snapshot {pid}   (says what is free in it)"),
        ),
        Closed::Interrupted => hinted(
            format!(
                "interrupted before process {pid} had begun: nothing was done, and nothing will be"
            ),
            format!("pydefrag fix {pid}"),
        ),
    }
}

pub(super) fn gone(pid: i32) -> anyhow::Error {
    let list = "pydefrag ps   (lists the Python processes there are)";
    hinted(format!("process {pid} ended before it was healed"), list)
}

pub(super) fn stopped(pid: i32, done: &str) -> anyhow::Error {
    let hint = format!("kill -CONT {pid}   (lets it run on)");
    hinted(format!("process {pid} is stopped: {done}"), hint)
}

/// What the ladder promises, in words.
pub(super) fn promised(level: HealLevel, ladder: &Ladder) -> Option<String> {
    let bytes = level.promised(ladder)?;
    Some(format!("{:.1} MiB by {}", bytes as f64 / f64::from(1 << 20), level.name()))
}

/// How to start a program so that it can be healed, and what can be had meanwhile.
fn start(pid: i32, promised: Option<&str>) -> String {
    let free = promised.map_or(String::new(), |p| format!(" ({p} would come back now)"));
    format!(
        "start it with pydefrag, and it gives memory back by itself:\n\
         pydefrag run --fix app.py                      a program\n\
         pydefrag run --fix gunicorn app:app            gunicorn\n\
         pydefrag run --fix celery -A app worker        celery\n\
         CMD [\"pydefrag\", \"run\", \"--fix\", \"app.py\"]     in a Dockerfile\n\
         import pydefrag; pydefrag.auto()               in the program, in sitecustomize.py, or in a .pth file\n\
         PYTHONPATH=FOLDER                              with that sitecustomize.py in FOLDER: a pod of which only \
         the environment can be changed\n\
         Meanwhile: pydefrag snapshot {pid}{free}; a restart gives back all that is not live"
    )
}
