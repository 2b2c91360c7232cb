//! The hook: a folder with one `sitecustomize.py` (with `--fix`, the agent too), and the socket over which it says hello and end.
//!
//! Owns both ends of the conversation (the other end is `sitecustomize.py`). Does not own what is done
//! while the program waits at its end.
//!
//! | message | from | means |
//! |---|---|---|
//! | `hello PID` | the hook | a Python has started |
//! | `end PID` | the hook | its exit callbacks have run; it waits |
//! | `PID` | us | go on |
//! | `pass PID` | the hook | this was for another process that waits: send it again |
//!
//! PIDs in messages are those of the process's own namespace; which process speaks is the kernel's word
//! (SCM_CREDENTIALS). Nothing that arrives is trusted beyond that.

use std::io::{IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials, recvmsg,
    send, setsockopt, socketpair, sockopt,
};
use tempfile::TempDir;

use super::environment::Former;
use super::healing::Schedule;
use crate::fix::agent;

/// How long a program waits at its end for an answer that does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The agent's file in the folder.
const AGENT: &str = "libpydefrag_agent.so";
/// The highest number that the program's end of the socket gets: out of the way of its own.
const HIGHEST: u64 = 1023;

/// What is there before the program starts.
pub(crate) struct Hook {
    /// Removed when this is dropped.
    pub(crate) folder: TempDir,
    pub(crate) ours: Arc<OwnedFd>,
    /// The program's end, until it has been started.
    pub(crate) theirs: OwnedFd,
    /// Its number in the program.
    pub(crate) fd: RawFd,
    /// Its name under `/proc/PID/fd`.
    pub(crate) socket: PathBuf,
}

impl Hook {
    /// Makes it, with the agent if memory shall be given back; on failure, why.
    pub(crate) fn make(former: Former, heal: Option<Schedule>) -> Result<Hook, String> {
        let socket_failed = |e: Errno| format!("no socket could be made ({e})");
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(socket_failed)?;
        setsockopt(&ours, sockopt::PassCred, &true).map_err(socket_failed)?;
        let fd = free_number().ok_or("no descriptor is free")?;
        let theirs = std::fs::File::from(theirs);
        let meta = theirs.metadata().map_err(|e| format!("no socket could be made ({e})"))?;
        let program = format!(
            "FD = {fd}\nDEVICE = {}\nINODE = {}\nFORMER = \"{}\"\nPATIENCE = {:.1}\n\n{}",
            meta.dev(),
            meta.ino(),
            former.name(),
            PATIENCE.as_secs_f64(),
            include_str!("sitecustomize.py")
        );
        let (program, library) = match heal {
            None => (program, None),
            Some(schedule) => {
                let library = agent::library().map_err(|e| e.to_string())?;
                (healing(schedule) + &program, Some(library))
            }
        };
        Ok(Hook {
            folder: folder(&program, library)?,
            ours: Arc::new(ours),
            theirs: theirs.into(),
            fd,
            socket: format!("socket:[{}]", meta.ino()).into(),
        })
    }
}

/// What loads the agent and has it start.
fn healing(schedule: Schedule) -> String {
    let ask = schedule.first();
    format!("AGENT = \"{AGENT}\"\nASK = '{ask}'\n\n{}", include_str!("heal.py"))
}

/// A high number that neither we nor whoever started us uses.
fn free_number() -> Option<RawFd> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let used = |fd: &RawFd| Path::new(&format!("/proc/self/fd/{fd}")).is_symlink();
    let highest = RawFd::try_from(soft.saturating_sub(1).min(HIGHEST)).ok()?;
    (3..=highest).rev().find(|fd| !used(fd))
}

/// A folder with the hook in the first place that takes one.
fn folder(program: &str, library: Option<&[u8]>) -> Result<TempDir, String> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places = [std::env::temp_dir(), "/dev/shm".into(), "/var/tmp".into()];
    for place in places.into_iter().chain(runtime).chain(std::env::current_dir()) {
        if let Some(folder) = folder_in(&place, program, library) {
            return Ok(folder);
        }
    }
    Err("no folder for temporary files can be written".into())
}

fn folder_in(place: &Path, program: &str, library: Option<&[u8]>) -> Option<TempDir> {
    // As Python will have it on sys.path.
    let place = place.canonicalize().ok()?;
    // A colon separates the entries of PYTHONPATH.
    if place.to_str().is_none_or(|p| p.contains(':')) {
        return None;
    }
    let folder = tempfile::Builder::new().prefix("pydefrag-run-").tempdir_in(place).ok()?;
    let file = folder.path().join("sitecustomize.py");
    std::fs::File::create(&file).and_then(|mut f| f.write_all(program.as_bytes())).ok()?;
    let agent = folder.path().join(AGENT);
    if let Some(library) = library {
        // Where no code may be loaded from, another place may do.
        let flags = nix::sys::statvfs::statvfs(folder.path()).ok()?.flags();
        if flags.contains(nix::sys::statvfs::FsFlags::ST_NOEXEC) {
            return None;
        }
        std::fs::write(&agent, library).ok()?;
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o644)).ok()?;
    }
    // The program may be another user's.
    for (path, mode) in [(file.as_path(), 0o644), (folder.path(), 0o755)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).ok()?;
    }
    Some(folder)
}

/// What the main process says.
#[derive(Debug)]
pub(crate) enum Said {
    /// The first Python that started.
    Hello(i32),
    /// It waits at its end for [`reply`] with this, since about then.
    End(Vec<u8>, Instant),
}

/// Attends to the conversation until nobody is left to speak. Whoever is not the main process is let go
/// on at once.
pub(crate) fn listen(ours: &OwnedFd, mut tell: impl FnMut(Said)) {
    let mut main = None;
    loop {
        let mut bytes = [0; 64];
        let mut space = cmsg_space!(UnixCredentials);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg::<()>(ours.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty());
        let (length, from) = match got {
            Ok(m) => (m.bytes, m.cmsgs().ok().and_then(|mut all| all.find_map(sender))),
            Err(Errno::EINTR) => continue,
            Err(_) => return,
        };
        if length == 0 {
            return;
        }
        let message = &bytes[..length];
        let Some(from) = from else { continue };
        if message.starts_with(b"hello ") && main.is_none() {
            main = Some(from);
            tell(Said::Hello(from));
        } else if let Some(name) = message.strip_prefix(b"end ") {
            match main == Some(from) {
                true => tell(Said::End(name.to_vec(), Instant::now())),
                false => reply(ours, name),
            }
        } else if let Some(name) = message.strip_prefix(b"pass ") {
            reply(ours, name);
        }
    }
}

fn sender(message: ControlMessageOwned) -> Option<i32> {
    match message {
        ControlMessageOwned::ScmCredentials(c) => Some(c.pid()),
        _ => None,
    }
}

/// Lets the process of that name go on. It goes on by itself if this fails.
pub(crate) fn reply(ours: &OwnedFd, name: &[u8]) {
    let _ = send(ours.as_raw_fd(), name, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
}
