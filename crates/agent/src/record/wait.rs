//! Recording on demand: a program that was started with the agent waits until somebody wants it recorded.
//!
//! Owns the conversation. It is one of files in the folder of this library, which is only for the user who started the program
//! (and is checked to be): `ask.PID` says what is wanted, and becomes `recording.PID` when that begins, or `refused.PID`, which
//! says why not. Where `recording.PID` is removed, recording ends; it is removed when recording has ended by itself.
//!
//! Invariant: nobody outside writes to the process's memory. Recording begins in a thread that has the main interpreter's GIL;
//! until then an allocation of Python's only comes by here, and is counted. A call that is under way when it begins is one of
//! before.

use std::ffi::c_void;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Deserialize;

use super::own::{Own, busy, own};
use super::python::Allocator;
use super::{start, state, turn};

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

/// Hooks that only come by here, over what `ctx` points to.
pub(super) fn hooks(ctx: *mut c_void) -> Allocator {
    Allocator {
        ctx,
        malloc: Some(malloc),
        calloc: Some(calloc),
        realloc: Some(realloc),
        free: Some(free),
    }
}

unsafe extern "C" fn malloc(ctx: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the table that was there before.
    unsafe {
        if !passes(own()) {
            return malloc_and_look(ctx, size);
        }
        let before = &*ctx.cast::<Allocator>();
        (before.malloc.unwrap_unchecked())(before.ctx, size)
    }
}

/// The same, when it is time to look.
///
/// # Safety
///
/// As `malloc`.
#[cold]
#[inline(never)]
unsafe extern "C" fn malloc_and_look(ctx: *mut c_void, size: usize) -> *mut c_void {
    look_in_hook(own());
    // SAFETY: the table that was there before.
    unsafe {
        let before = &*ctx.cast::<Allocator>();
        (before.malloc.unwrap_unchecked())(before.ctx, size)
    }
}

unsafe extern "C" fn calloc(ctx: *mut c_void, count: usize, size: usize) -> *mut c_void {
    let own = own();
    if !passes(own) {
        look_in_hook(own);
    }
    // SAFETY: the table that was there before.
    unsafe {
        let before = &*ctx.cast::<Allocator>();
        (before.calloc.unwrap_unchecked())(before.ctx, count, size)
    }
}

unsafe extern "C" fn realloc(ctx: *mut c_void, block: *mut c_void, size: usize) -> *mut c_void {
    let own = own();
    if !passes(own) {
        look_in_hook(own);
    }
    // SAFETY: the table that was there before.
    unsafe {
        let before = &*ctx.cast::<Allocator>();
        (before.realloc.unwrap_unchecked())(before.ctx, block, size)
    }
}

unsafe extern "C" fn free(ctx: *mut c_void, block: *mut c_void) {
    // SAFETY: the table that was there before.
    unsafe {
        let before = &*ctx.cast::<Allocator>();
        (before.free.unwrap_unchecked())(before.ctx, block)
    }
}

/// Counts an allocation; false when it is time to look.
#[inline(always)]
fn passes(own: *mut Own) -> bool {
    // SAFETY: this thread's words.
    unsafe {
        (*own).until -= 1;
        (*own).until >= 0
    }
}

/// It is time to look.
#[cold]
#[inline(never)]
fn look_in_hook(own: *mut Own) {
    // SAFETY: this thread's words.
    unsafe { (*own).until = BETWEEN.into() };
    // Others' hooks may call these while something is recorded.
    if state::mode() == state::WAITING {
        look(own);
    }
}

/// A block was handed out by malloc, outside of Python's allocators, or below the hooks of others.
#[cold]
pub(super) fn count(own: *mut Own) {
    // Read and written without care: what is lost is a look.
    let until = UNTIL.load(Ordering::Relaxed);
    UNTIL.store(until.checked_sub(1).unwrap_or(BETWEEN), Ordering::Relaxed);
    if until == 0 {
        look(own);
    }
}

/// Looks whether somebody asks.
#[cold]
fn look(own: *mut Own) {
    if turn::is_main() {
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
