//! Whether a process may be looked at, and if not, what forbids it and what would help.
//!
//! Owns the diagnosis: the kernel says only `EPERM` or `EACCES`, the reason is told from the facts
//! around it. [`Denial::from_facts`] is pure, so that every reason can be tested.

use crate::process::ProcessFacts;

/// Why a process cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LookError {
    /// There is none with this pid.
    #[error("no process has pid {0}")]
    NoSuchProcess(i32),
    /// It has ended; its parent has not asked for its exit code yet.
    #[error("process {0} is a zombie: it has ended and has no memory any more")]
    Zombie(i32),
    /// A thread of the kernel.
    #[error("process {0} ({1}) is a thread of the kernel, without memory of its own")]
    Kernel(i32, String),
    /// It ended while it was looked at.
    #[error("process {0} ended while it was looked at")]
    Ended(i32),
    /// It became another program while it was looked at.
    #[error("process {0} began another program (exec) while it was looked at")]
    Execed(i32),
    /// Not permitted.
    #[error("process {pid} may not be looked at: {denial}")]
    Denied {
        /// Its pid.
        pid: i32,
        /// What forbids it.
        denial: Denial,
    },
    /// `/proc` says something else.
    #[error("process {pid} could not be looked at: {source}")]
    Io {
        /// Its pid.
        pid: i32,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// What forbids looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// It belongs to another user.
    OtherUser {
        /// Its effective user id.
        uid: u32,
    },
    /// Yama restricts which processes may be looked at.
    PtraceScope {
        /// `kernel.yama.ptrace_scope`.
        scope: u8,
    },
    /// The process asked not to be looked at, or has privileges of its own.
    NonDumpable,
    /// We are root of a container that lacks the capability.
    Container,
    /// A seccomp filter forbids us the system calls.
    Seccomp,
    /// None of the above could be established.
    Unknown,
}

/// The facts that tell a denial's reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// Our effective user id.
    pub our_uid: u32,
    /// The target's effective user id.
    pub their_uid: u32,
    /// Owner of the files in `/proc/PID`: root for a process that is not dumpable. (The folder itself
    /// belongs to the process's user in any case.)
    pub proc_owner: u32,
    /// We have CAP_SYS_PTRACE.
    pub we_may_trace: bool,
    /// `kernel.yama.ptrace_scope`, if the kernel has Yama.
    pub ptrace_scope: Option<u8>,
    /// A seccomp filter is on us.
    pub seccomp: bool,
    /// The refusal concerned reading memory while `/proc/PID/smaps` could be read.
    pub only_memory: bool,
}

impl Denial {
    /// Tells the reason from the facts.
    pub fn from_facts(f: Facts) -> Denial {
        let yama = f.ptrace_scope.filter(|s| *s > 0);
        match yama {
            // Scope 3 forbids it to everyone, scope 2 to all without the capability.
            Some(scope) if scope >= 3 => return Denial::PtraceScope { scope },
            _ => {}
        }
        if f.we_may_trace {
            return if f.seccomp { Denial::Seccomp } else { Denial::Unknown };
        }
        if f.our_uid == 0 {
            return if f.seccomp && f.only_memory { Denial::Seccomp } else { Denial::Container };
        }
        if f.our_uid != f.their_uid {
            return Denial::OtherUser { uid: f.their_uid };
        }
        if f.proc_owner != f.their_uid {
            return Denial::NonDumpable;
        }
        match yama {
            Some(scope) => Denial::PtraceScope { scope },
            None if f.seccomp => Denial::Seccomp,
            None => Denial::Unknown,
        }
    }

    /// The command that would help, for this pid.
    pub fn hint(self, pid: i32) -> String {
        match self {
            Denial::PtraceScope { scope: 3.. } => {
                "ptrace_scope 3 cannot be lowered: set kernel.yama.ptrace_scope in /etc/sysctl.d and reboot".into()
            }
            Denial::PtraceScope { .. } => format!(
                "sudo pydefrag snapshot {pid}   (or, until the next boot: sudo sysctl kernel.yama.ptrace_scope=0)"
            ),
            Denial::Container => {
                "start the container with --cap-add=SYS_PTRACE, or run pydefrag as root on the host".into()
            }
            Denial::Seccomp => {
                "start the container with --security-opt seccomp=unconfined, or run pydefrag on the host".into()
            }
            Denial::OtherUser { .. } | Denial::NonDumpable => {
                format!("sudo pydefrag snapshot {pid}")
            }
            Denial::Unknown => {
                format!("run pydefrag snapshot {pid} as root on the host, outside any sandbox")
            }
        }
    }

    /// A few words for a table.
    pub fn short(self) -> &'static str {
        match self {
            Denial::OtherUser { .. } => "other user",
            Denial::PtraceScope { .. } => "ptrace scope",
            Denial::NonDumpable => "not dumpable",
            Denial::Container => "no capability",
            Denial::Seccomp => "seccomp",
            Denial::Unknown => "not permitted",
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Denial::OtherUser { uid } => write!(f, "it belongs to another user (uid {uid})"),
            Denial::PtraceScope { scope } => {
                write!(f, "kernel.yama.ptrace_scope is {scope}, which forbids it")
            }
            Denial::NonDumpable => {
                f.write_str("it is not dumpable (prctl PR_SET_DUMPABLE, or it changed its user)")
            }
            Denial::Container => {
                f.write_str("we are root without CAP_SYS_PTRACE, as in a container")
            }
            Denial::Seccomp => f.write_str("a seccomp filter forbids us the system call"),
            Denial::Unknown => f.write_str("the kernel refuses (a security module, perhaps)"),
        }
    }
}

/// Gathers the facts and tells why `pid` may not be looked at. `only_memory` says that its smaps
/// could be read.
pub fn diagnose(pid: i32, only_memory: bool) -> Denial {
    use std::os::unix::fs::MetadataExt;
    const CAP_SYS_PTRACE: u64 = 1 << 19;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ours = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    let our_uid = ours("Uid:").and_then(|l| l.split_whitespace().nth(1)?.parse().ok());
    let capabilities = ours("CapEff:").and_then(|c| u64::from_str_radix(c, 16).ok()).unwrap_or(0);
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
    let their_uid = ProcessFacts::of(pid).map_or(0, |p| p.uid);
    Denial::from_facts(Facts {
        our_uid: our_uid.unwrap_or(0),
        their_uid,
        proc_owner: std::fs::metadata(format!("/proc/{pid}/status")).map_or(their_uid, |m| m.uid()),
        we_may_trace: capabilities & CAP_SYS_PTRACE != 0,
        ptrace_scope: scope.and_then(|s| s.trim().parse().ok()),
        seccomp: ours("Seccomp:").is_some_and(|s| s != "0"),
        only_memory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_told_from_its_facts() {
        let user = Facts { our_uid: 1000, their_uid: 1000, proc_owner: 1000, ..Default::default() };
        let of = Denial::from_facts;
        assert_eq!(of(Facts { their_uid: 7, proc_owner: 7, ..user }), Denial::OtherUser { uid: 7 });
        assert_eq!(of(Facts { proc_owner: 0, ..user }), Denial::NonDumpable);
        assert_eq!(of(Facts { ptrace_scope: Some(1), ..user }), Denial::PtraceScope { scope: 1 });
        assert_eq!(
            of(Facts { ptrace_scope: Some(3), we_may_trace: true, ..user }),
            Denial::PtraceScope { scope: 3 }
        );
        assert_eq!(of(Facts { ptrace_scope: Some(0), ..user }), Denial::Unknown);
        assert_eq!(of(Facts { seccomp: true, ..user }), Denial::Seccomp);
        assert_eq!(of(Facts::default()), Denial::Container);
        assert_eq!(
            of(Facts { seccomp: true, only_memory: true, ..Facts::default() }),
            Denial::Seccomp
        );
        assert_eq!(of(Facts { we_may_trace: true, ..Facts::default() }), Denial::Unknown);
    }

    #[test]
    fn every_reason_has_a_sentence_and_a_hint() {
        for d in [
            Denial::OtherUser { uid: 5 },
            Denial::PtraceScope { scope: 1 },
            Denial::PtraceScope { scope: 3 },
            Denial::NonDumpable,
            Denial::Container,
            Denial::Seccomp,
            Denial::Unknown,
        ] {
            assert!(!d.to_string().is_empty() && !d.hint(7).is_empty() && d.short().len() <= 13);
        }
    }
}
