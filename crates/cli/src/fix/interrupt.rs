//! Ctrl-C, SIGTERM and SIGHUP while something of ours is in a process or on its disk: they end us once that is gone.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals held back, until this is dropped. Then what came is delivered.
pub(crate) struct Interrupt {
    before: Option<SigSet>,
    fd: Option<SignalFd>,
    came: std::cell::Cell<Option<Signal>>,
}

impl Interrupt {
    pub(crate) fn hold() -> Interrupt {
        let ending: SigSet =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let before = ending.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok();
        let fd = SignalFd::with_flags(&ending, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok();
        Interrupt { before, fd, came: std::cell::Cell::new(None) }
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        if let Some(Ok(Some(info))) = self.fd.as_ref().map(SignalFd::read_signal) {
            self.came.set(Signal::try_from(info.ssi_signo as i32).ok());
        }
        self.came.get().is_some()
    }
}

impl Interrupt {
    /// Takes what came as attended to: it does not end us.
    pub(crate) fn forget(self) {
        self.came();
        self.came.set(None);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.came();
        if let Some(before) = self.before {
            let _ = before.thread_set_mask();
        }
        if let Some(signal) = self.came.get() {
            let _ = raise(signal);
        }
    }
}
