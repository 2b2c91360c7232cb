//! The folder that the script, the library and the token lie in while a process loads the agent.
//!
//! Owns where it is: in the process's own mount namespace, on a file system that code may be loaded from, readable by the
//! process's user. Removed when this is dropped.
//!
//! Invariant: nothing is written through a link. The folder is ours alone until all files are in it; only then does it become
//! the process's, and from then on files are only removed, through the folder's own descriptor.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::geteuid;

/// As the process sees them, in the order in which they are tried.
const PLACES: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/run"];
/// What is in it.
const FILES: [&str; 4] = ["token", "start.py", "said", LIBRARY];
const LIBRARY: &str = "libpydefrag_agent.so";

/// The folder.
pub(super) struct Folder {
    name: String,
    /// As the process sees it.
    inside: PathBuf,
    /// The folder that it is in: the process may end, and its root with it.
    place: File,
    handle: File,
    uid: u32,
}

impl Folder {
    /// Makes it for a process of that user, with the library in it if one is needed; on failure, why.
    pub(super) fn make(pid: i32, uid: u32, library: Option<&[u8]>) -> Result<Folder, String> {
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let mut why = Vec::new();
        for place in PLACES {
            match Folder::make_in(&root, place, uid, library) {
                Ok(folder) => return Ok(folder),
                Err(e) => why.push(format!("{place}: {e}")),
            }
        }
        Err(why.join("; "))
    }

    fn make_in(
        root: &Path,
        place: &str,
        uid: u32,
        library: Option<&[u8]>,
    ) -> Result<Folder, String> {
        let text = |e: std::io::Error| e.to_string();
        let outside = root.join(place.trim_start_matches('/'));
        let mut part = root.to_owned();
        for name in place.split('/').filter(|n| !n.is_empty()) {
            part.push(name);
            // A link would lead out of the process's root into ours.
            if !part.symlink_metadata().map_err(text)?.is_dir() {
                return Err("not a folder".into());
            }
        }
        let flags = statvfs(&outside).map_err(|e| text(e.into()))?.flags();
        if library.is_some() && flags.contains(FsFlags::ST_NOEXEC) {
            return Err("no code may be loaded from it (noexec)".into());
        }
        let name = format!("pydefrag-fix-{:016x}", random().map_err(text)?);
        let inside = Path::new(place).join(&name);
        let place = File::open(&outside).map_err(text)?;
        let outside = below(&place, &name);
        std::fs::DirBuilder::new().mode(0o700).create(&outside).map_err(text)?;
        let handle = File::open(&outside).map_err(|e| {
            let _ = std::fs::remove_dir(&outside);
            text(e)
        })?;
        let folder = Folder { name, inside, place, handle, uid };
        if let Some(library) = library {
            folder.add(LIBRARY, library).map_err(text)?;
        }
        folder.add("token", b"").map_err(text)?;
        folder.add("said", b"").map_err(text)?;
        Ok(folder)
    }

    /// The library as the process sees it.
    pub(super) fn library(&self) -> PathBuf {
        self.inside.join(LIBRARY)
    }

    /// The folder as the process sees it.
    pub(super) fn inside(&self) -> &Path {
        &self.inside
    }

    /// Adds the script, lets the process in, and tells where it finds it.
    pub(super) fn script(&self, text: &str) -> std::io::Result<PathBuf> {
        self.add("start.py", text.as_bytes())?;
        self.handle.set_permissions(Permissions::from_mode(0o755))?;
        if self.uid != geteuid().as_raw() {
            // It writes to one file, and takes one away.
            fchown(&File::open(self.file("said"))?, Some(self.uid), None)?;
            fchown(&self.handle, Some(self.uid), None)?;
        }
        Ok(self.inside.join("start.py"))
    }

    /// Whether the token is there still: nobody has claimed it.
    pub(super) fn token_is_there(&self) -> bool {
        self.file("token").symlink_metadata().is_ok()
    }

    /// Takes the token away; false if the script has it.
    pub(super) fn take_token(&self) -> bool {
        std::fs::remove_file(self.file("token")).is_ok()
    }

    /// What the script said, if it is all there.
    pub(super) fn said(&self) -> Option<String> {
        let mut file = OpenOptions::new();
        let file = file.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
        let file = file.open(self.file("said")).ok()?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(file, 16 << 10), &mut text).ok()?;
        Some(text.strip_suffix('\n')?.to_owned())
    }

    /// A file in it, whatever its name has become.
    fn file(&self, name: &str) -> PathBuf {
        below(&self.handle, name)
    }

    fn add(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(self.file(name))?;
        file.write_all(bytes)?;
        // Whatever our umask is.
        file.set_permissions(Permissions::from_mode(0o644))
    }
}

/// What has that name in an open folder.
fn below(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name)
}

impl Drop for Folder {
    fn drop(&mut self) {
        for name in FILES {
            let _ = std::fs::remove_file(self.file(name));
        }
        let _ = std::fs::remove_dir(below(&self.place, &self.name));
    }
}

fn random() -> std::io::Result<u64> {
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_there_whole_and_then_gone() {
        let pid = std::process::id() as i32;
        let folder = Folder::make(pid, geteuid().as_raw(), Some(b"so")).unwrap();
        let inside = folder.inside().to_owned();
        assert_eq!(std::fs::read(folder.library()).unwrap(), b"so");
        let script = folder.script("pass").unwrap();
        assert_eq!(std::fs::read(&script).unwrap(), b"pass");
        assert_eq!(inside.metadata().unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(folder.said(), None);
        std::fs::write(inside.join("said"), "yes\n").unwrap();
        assert_eq!(folder.said().as_deref(), Some("yes"));
        assert!(folder.token_is_there() && folder.take_token());
        assert!(!folder.token_is_there() && !folder.take_token());
        drop(folder);
        assert!(!inside.exists());
    }

    #[test]
    fn a_link_is_no_place() {
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), root.path().join("tmp")).unwrap();
        let e = Folder::make_in(root.path(), "/tmp", geteuid().as_raw(), None).err().unwrap();
        assert!(e.contains("not a folder"), "{e}");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
