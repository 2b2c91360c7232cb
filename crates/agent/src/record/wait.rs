//! Recording on demand: a program that was started with the agent waits until somebody wants it recorded.
//!
//! Owns the conversation. It is one of files in the folder of this library, which is only for the user who started the program
//! (and is checked to be): `ask.PID` says what is wanted, and becomes `recording.PID` when that begins, or `refused.PID`, which
//! says why not. Where `recording.PID` is removed, recording ends; it is removed when recording has ended by itself.
//!
//! Invariant: nobody outside writes to the process's memory. Recording begins between two calls of Python's allocators, in a
//! thread that has the GIL; until then a call of Python's only comes by here.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use serde::Deserialize;

use super::own::{Own, busy};
use super::{python, start, state, turn};

/// Allocations between two looks for a request.
const BETWEEN: u32 = 4096;

/// What is asked.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// The file to write.
    pub(super) path: PathBuf,
    /// As in [`state::Wanted`].
    pub(super) every: Option<u64>,
    /// As in [`state::Wanted`].
    pub(super) seconds: Option<f64>,
    /// As in [`state::Wanted`].
    #[serde(default)]
    pub(super) native: bool,
}

static UNTIL: AtomicU32 = AtomicU32::new(BETWEEN);

fn file(what: &str) -> Option<PathBuf> {
    let folder = state::wanted()?.library.clone();
    Some(PathBuf::from(folder).with_file_name(format!("{what}.{}", std::process::id())))
}

/// Python's hooks are called.
static ARE_CALLED: AtomicBool = AtomicBool::new(false);

/// Whether Python's hooks were called since the program began: else the interpreter has put other allocators in their place.
pub(super) fn hooks_are_called() -> bool {
    ARE_CALLED.load(Ordering::Relaxed)
}

/// A hook has handed out a block, and nothing is recorded: now and then it is looked whether that is to change.
#[cold]
pub(super) fn look_in_hook(own: *mut Own) {
    // While an interpreter starts it may still put others there.
    if !hooks_are_called() && python::is_initialized() {
        ARE_CALLED.store(true, Ordering::Relaxed);
    }
    look(own);
}

/// The same, for a block of malloc's, outside of Python's allocators.
#[cold]
pub(super) fn look(own: *mut Own) {
    // Read and written without care: what is lost is a look.
    let until = UNTIL.load(Ordering::Relaxed);
    UNTIL.store(until.checked_sub(1).unwrap_or(BETWEEN), Ordering::Relaxed);
    if until == 0 && turn::has_lane(own) {
        busy(own, || {
            let Some(ask) = file("ask") else { return };
            if let Err(why) = begin(&ask)
                && let Some(refused) = file("refused")
            {
                let _ = std::fs::write(refused, why);
                let _ = std::fs::remove_file(ask);
            }
        });
    }
}

fn begin(ask: &PathBuf) -> Result<(), String> {
    let Ok(metadata) = std::fs::symlink_metadata(ask) else { return Ok(()) };
    // SAFETY: a system call without arguments.
    let we = unsafe { libc::geteuid() };
    let folder = ask.parent().and_then(|folder| folder.metadata().ok());
    let is_private = folder.is_some_and(|f| f.mode() & 0o022 == 0 && [0, we].contains(&f.uid()));
    if !metadata.is_file() || ![0, we].contains(&metadata.uid()) || !is_private {
        return Err("who asks is not the user that the program runs as".into());
    }
    let text = std::fs::read(ask).map_err(|e| e.to_string())?;
    let asked: Asked = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
    start::on_demand(asked)?;
    let Some(recording) = file("recording") else { return Ok(()) };
    std::fs::rename(ask, recording).map_err(|e| e.to_string())
}

/// Whether recording is to end: nobody wants it any more.
pub(super) fn is_unwanted() -> bool {
    state::wanted().is_some_and(|w| w.wait)
        && file("recording").is_some_and(|file| !file.exists())
        && file("ask").is_some_and(|file| !file.exists())
}

/// Recording has ended.
pub(super) fn ended() {
    if let Some(file) = file("recording") {
        let _ = std::fs::remove_file(file);
    }
}
