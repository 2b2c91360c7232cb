//! The library that is preloaded, in a folder of its own, and what the environment tells it.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tempfile::TempDir;

use crate::failure::hinted;
use crate::fix::agent;

/// The variable that the agent reads.
pub(crate) const VARIABLE: &str = "PYDEFRAG_RECORD";

/// Name and version of this tool, which an agent must be of.
pub(crate) fn tool() -> String {
    format!("pydefrag {}", env!("CARGO_PKG_VERSION"))
}

/// What is wanted of the agent.
#[derive(Debug, Serialize)]
pub(crate) struct Wanted<'a> {
    pub(crate) path: &'a Path,
    pub(crate) tool: String,
    pub(crate) library: String,
    pub(crate) children: bool,
    pub(crate) every: Option<u64>,
    pub(crate) native: bool,
    pub(crate) check: bool,
    pub(crate) wait: bool,
    pub(crate) seconds: Option<f64>,
    pub(crate) free_threaded: bool,
}

/// The library in a folder; gone when dropped.
pub(crate) struct Preload {
    _folder: TempDir,
    pub(crate) library: PathBuf,
}

impl Preload {
    /// Writes it where it can be loaded from.
    pub(crate) fn make() -> anyhow::Result<Preload> {
        let bytes = agent::library()?;
        // First where nobody else can write: the name may outlive the folder, in the environment of what the program started.
        let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let shared = [std::env::temp_dir(), "/var/tmp".into(), "/dev/shm".into(), ".".into()];
        let places = own.into_iter().chain(home).chain(shared);
        let mut why = Vec::new();
        for place in places {
            let made = (|| {
                let place = place.canonicalize()?;
                // The loader takes blanks and colons for the end of a name.
                let name = place.to_string_lossy().into_owned();
                if name.contains([' ', ':']) || !is_executable(&place) {
                    return Err(std::io::Error::other("no code can be preloaded from it"));
                }
                let folder =
                    tempfile::Builder::new().prefix("pydefrag-record-").tempdir_in(&place)?;
                let library = folder.path().join("libpydefrag_agent.so");
                std::fs::write(&library, bytes)?;
                Ok(Preload { _folder: folder, library })
            })();
            match made {
                Ok(preload) => return Ok(preload),
                Err(e) => why.push(format!("{}: {e}", place.display())),
            }
        }
        let sentence = format!("the agent could not be put anywhere ({})", why.join("; "));
        Err(hinted(
            sentence,
            "TMPDIR=FOLDER pydefrag record …   (FOLDER on a file system without noexec)",
        ))
    }
}

fn is_executable(folder: &Path) -> bool {
    use nix::sys::statvfs::{FsFlags, statvfs};
    statvfs(folder).is_ok_and(|s| !s.flags().contains(FsFlags::ST_NOEXEC))
}
