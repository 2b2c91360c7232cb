//! Starting the program, passing signals on to it, and ending as it did.
//!
//! Owns the program's process: nobody else waits for it or sends it signals. A signal that the kernel
//! sends (a terminal's Ctrl-C) reaches the whole process group, so the program too; what another process
//! sends to us is passed on. Nothing tells whether it was sent to us alone: what a process sends to the
//! whole group (`kill -- -PGID`, `timeout`) reaches the program twice.
//!
//! Where SIGCHLD is ignored, as whoever started us may have left it, the kernel tells neither that the
//! program has ended nor how: that it is gone is then found out by asking, and how it ended is not known.
//! The program shall find SIGCHLD ignored too, so it stays so.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pydefrag_heap::Ended;

use super::environment::Environment;
use super::hook::Hook;
use super::program::Program;
use crate::failure::{hinted, say};

/// Milliseconds.
const ASK: u8 = 50;

/// Signals that are read instead of being delivered: all that may be sent to us for the program's sake.
const PASSED_ON: [Signal; 13] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGURG,
    Signal::SIGVTALRM,
    Signal::SIGWINCH,
    Signal::SIGIO,
];

/// Signals, from when they are caught until this is dropped.
pub(crate) struct Signals {
    before: SigSet,
    fd: SignalFd,
    /// Between two questions whether the program is gone, where nothing tells it.
    ask: PollTimeout,
}

impl Signals {
    /// To be called before any thread is started: threads inherit what is caught.
    pub(crate) fn catch() -> anyhow::Result<Signals> {
        let mut set: SigSet = PASSED_ON.into_iter().collect();
        set.add(Signal::SIGCHLD);
        let before = SigSet::thread_get_mask()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        set.thread_block()?;
        let ask = if ignored(Signal::SIGCHLD) { PollTimeout::from(ASK) } else { PollTimeout::NONE };
        Ok(Signals { before, fd, ask })
    }

    /// Waits for the program and passes signals on to it until it has ended.
    pub(crate) fn attend(&self, program: Pid) -> Ended {
        loop {
            // Whatever SIGCHLD stood for; several may have become one.
            match waitpid(program, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
                Ok(WaitStatus::Exited(_, code)) => return Ended::Code(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ended::Signal(signal as i32),
                // Ctrl-Z, or reading from the terminal in the background: its shell waits for us.
                Ok(WaitStatus::Stopped(_, Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU)) => {
                    let _ = raise(Signal::SIGSTOP);
                }
                Ok(_) => {}
                // A real-time signal, for which there is no name.
                Err(Errno::EINVAL) => return Ended::Signal(0),
                Err(Errno::EINTR) => continue,
                // The kernel has waited for it.
                Err(_) => return Ended::Unknown,
            }
            self.wait();
            while let Ok(Some(info)) = self.fd.read_signal() {
                let signal = Signal::try_from(info.ssi_signo as i32);
                // 0 and less: sent by a process.
                if let (Ok(signal), true) = (signal, info.ssi_code <= 0)
                    && signal != Signal::SIGCHLD
                {
                    // It may have become another user's.
                    let _ = kill(program, signal);
                }
            }
        }
    }

    /// Until there is a signal to be read, or it is time to ask.
    fn wait(&self) {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, self.ask);
    }
}

/// Whether a signal is ignored by this process.
fn ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let set = set.and_then(|s| u64::from_str_radix(s.trim(), 16).ok());
    // Asking where it is not needed costs less than waiting for ever.
    set.is_none_or(|s| s >> (signal as i32 - 1) & 1 == 1)
}

impl Drop for Signals {
    fn drop(&mut self) {
        // What ended the program has come to us too; it shall not end us before the report.
        while let Ok(Some(_)) = self.fd.read_signal() {}
        let _ = self.before.thread_set_mask();
    }
}

/// Starts the program with the signals that we were started with.
pub(crate) fn launch(
    program: &Program,
    environment: &Environment,
    hook: Option<&Hook>,
    signals: &Signals,
) -> anyhow::Result<Pid> {
    let name = program.file.display();
    let mut actions = PosixSpawnFileActions::init()?;
    if let Some(hook) = hook {
        // Not close-on-exec: a launcher passes it on. The hook then makes it so.
        actions.add_dup2(hook.theirs.as_raw_fd(), hook.fd)?;
    }
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF,
    )?;
    attributes.set_sigmask(&signals.before)?;
    // The one that Rust's runtime has changed.
    attributes.set_sigdefault(&SigSet::from(Signal::SIGPIPE))?;
    let text = |s: &OsStr| CString::new(s.as_bytes());
    let argv: Vec<CString> = program.argv.iter().map(|a| text(a)).collect::<Result<_, _>>()?;
    posix_spawn(program.file.as_path(), &actions, &attributes, &argv, &environment.entries())
        .map_err(|e| {
            let why = match e {
                Errno::ENOENT => {
                    "it, or the interpreter that its first line names, is not there".into()
                }
                Errno::EACCES => "it may not be executed".into(),
                Errno::ENOEXEC => "it is no program that this machine runs".into(),
                Errno::E2BIG => "its arguments and environment are too long".into(),
                e => std::io::Error::from(e).to_string(),
            };
            hinted(
                format!("{name} could not be started: {why}"),
                "pydefrag run --python PATH SCRIPT   (to name the interpreter that shall run it)",
            )
        })
}

/// Ends as the program did: with its code, or by its signal.
pub(crate) fn end_alike(ended: Ended) -> ExitCode {
    let signal = match ended {
        Ended::Code(code) => return ExitCode::from(code as u8),
        Ended::Signal(number) => number,
        Ended::Unknown => {
            say("pydefrag: how the program ended could not be learnt, for SIGCHLD was ignored");
            return ExitCode::FAILURE;
        }
    };
    // Its core, if it left one, is what is wanted; not ours.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if let Ok(signal) = Signal::try_from(signal) {
        let mut open = SigSet::empty();
        open.add(signal);
        let _ = open.thread_unblock();
        // The first of two may only take Rust's own handler away (SIGSEGV, SIGBUS).
        let _ = raise(signal).and_then(|()| raise(signal));
    }
    // Ignored: SIGPIPE by Rust's runtime, others by whoever started us.
    ExitCode::from(128u8.wrapping_add(signal as u8))
}
