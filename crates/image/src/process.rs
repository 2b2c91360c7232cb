//! What `/proc` says of a process beside its memory: who it is, what state it is in, who its parent is.
//!
//! Owns the facts and the identity by which a changed process (ended, exec'd, pid reused) is noticed.

use std::path::PathBuf;

use procfs::FromBufRead;
use procfs::process::{Process, Status};

use crate::access::LookError;
use crate::redact::command_line;

/// Facts about a process that anyone may read. Sizes in bytes.
#[derive(Debug, Clone)]
pub struct ProcessFacts {
    /// Process id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// State letter of `/proc/PID/stat`: `R`, `S`, `T`, `Z`, …
    pub state: char,
    /// Effective user id.
    pub uid: u32,
    /// Threads.
    pub threads: u64,
    /// Name of the executable as the kernel keeps it, at most 15 bytes.
    pub name: String,
    /// Command line without secrets; the name in brackets when there is none.
    pub command: String,
    /// First argument as it was given.
    pub argv0: String,
    /// RSS as `/proc/PID/status` gives it: fast, world-readable and inexact.
    pub rss: Option<u64>,
    /// Highest RSS so far.
    pub hwm: Option<u64>,
    /// A thread of the kernel.
    pub kernel: bool,
}

impl ProcessFacts {
    /// Facts about `pid`.
    pub fn of(pid: i32) -> Result<ProcessFacts, LookError> {
        let process = Process::new(pid).map_err(|e| not_there(pid, e))?;
        Self::read(&process).map_err(|e| not_there(pid, e))
    }

    fn read(process: &Process) -> procfs::ProcResult<ProcessFacts> {
        /// `PF_KTHREAD`. That there is no memory does not tell: an ending process has none either.
        const KERNEL_THREAD: u32 = 0x0020_0000;
        // Names and arguments may hold any bytes; procfs gives up on those that are not UTF-8.
        let text = |file: &str| {
            let bytes = std::fs::read(format!("/proc/{}/{file}", process.pid))?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let stat = process.stat()?;
        let status = Status::from_buf_read(text("status")?.as_bytes())?;
        let arguments = text("cmdline").unwrap_or_default();
        let arguments: Vec<&str> = arguments.split('\0').filter(|a| !a.is_empty()).collect();
        let kib = |v: Option<u64>| v.map(|v| v * 1024);
        let command = match arguments.is_empty() {
            true => format!("[{}]", stat.comm),
            false => command_line(arguments.iter().copied()),
        };
        Ok(ProcessFacts {
            pid: process.pid,
            parent: status.ppid,
            state: status.state.chars().next().unwrap_or('?'),
            uid: status.euid,
            threads: status.threads,
            command,
            argv0: arguments.first().copied().unwrap_or_default().into(),
            rss: kib(status.vmrss),
            hwm: kib(status.vmhwm),
            kernel: stat.flags & KERNEL_THREAD != 0,
            name: stat.comm,
        })
    }
}

fn not_there(pid: i32, e: procfs::ProcError) -> LookError {
    match e {
        procfs::ProcError::NotFound(_) => LookError::NoSuchProcess(pid),
        procfs::ProcError::Io(e, _) => match e.raw_os_error() {
            Some(libc::ESRCH | libc::ENOENT) => LookError::NoSuchProcess(pid),
            _ => LookError::Io { pid, source: e },
        },
        e => LookError::Io { pid, source: std::io::Error::other(e.to_string()) },
    }
}

/// Every process that `/proc` shows.
#[derive(Debug)]
pub struct ProcessList;

impl ProcessList {
    /// Facts about all processes; those that end meanwhile are left out.
    pub fn all() -> std::io::Result<Vec<ProcessFacts>> {
        let all =
            procfs::process::all_processes().map_err(|e| std::io::Error::other(e.to_string()))?;
        Ok(all.flatten().filter_map(|p| ProcessFacts::read(&p).ok()).collect())
    }
}

/// What tells one program's run from another's under the same pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    start_time: u64,
    exe: Option<PathBuf>,
    /// The auxiliary vector, whose addresses change with every exec.
    auxv: Vec<u8>,
}

impl Identity {
    /// The identity of `pid` now; `None` when it has ended.
    pub fn of(pid: i32) -> Option<Identity> {
        let stat = Process::new(pid).ok()?.stat().ok()?;
        if matches!(stat.state, 'Z' | 'X') {
            return None;
        }
        let auxv = match std::fs::read(format!("/proc/{pid}/auxv")) {
            // Its memory is gone: it is about to be a zombie.
            Ok(auxv) if auxv.is_empty() => return None,
            Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => return None,
            auxv => auxv.unwrap_or_default(),
        };
        let exe = match std::fs::read_link(format!("/proc/{pid}/exe")) {
            // Its memory went in this very moment.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => return None,
            exe => exe.ok(),
        };
        Some(Identity { start_time: stat.starttime, exe, auxv })
    }

    /// Whether two processes run one program in one address space layout: one forked the other, or
    /// something forked both.
    pub fn same_program(&self, other: &Identity) -> bool {
        self.exe == other.exe && self.auxv == other.auxv && !self.auxv.is_empty()
    }

    /// Whether a process that was `self` has become another program (not merely ended).
    pub fn same_process(&self, later: &Identity) -> bool {
        self.start_time == later.start_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_about_ourselves() {
        let pid = std::process::id() as i32;
        let me = ProcessFacts::of(pid).unwrap();
        assert!(me.rss.unwrap() > 0 && me.threads >= 1 && !me.kernel);
        assert_eq!(Identity::of(pid), Identity::of(pid));
        assert!(ProcessList::all().unwrap().iter().any(|p| p.pid == pid));
    }

    #[test]
    fn no_such_process_is_said() {
        assert!(matches!(ProcessFacts::of(i32::MAX), Err(LookError::NoSuchProcess(_))));
    }
}
