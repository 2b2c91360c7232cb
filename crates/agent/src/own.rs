//! This process's own account and snapshot, from inside: for a process that nobody outside may look at.
//!
//! Reads its own memory through `/proc/self/mem`, as any other reader does, without the GIL: the program runs
//! on, and what is torn is read again and counted. A file appears whole under its name, or not at all.

use std::ffi::c_int;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use pydefrag_heap::{Snapshot, pdsnap};
use pydefrag_image::{Image, ProcessFacts};
use pydefrag_walk::{Asked, Looked, Runtime, Wanted, explain};

use crate::weight;

/// Looks at this process.
fn look(wanted: Wanted) -> Result<Looked, String> {
    weight::take_up();
    let facts = ProcessFacts::of(std::process::id() as i32).map_err(|e| e.to_string())?;
    let image = Image::open(&facts).map_err(|e| e.to_string())?;
    let runtime = Runtime::find(&image).map_err(|e| e.to_string())?;
    let mut looked =
        pydefrag_walk::snapshot(&facts, &image, &runtime, wanted).map_err(|e| e.to_string())?;
    if wanted.objects {
        let asked = Asked {
            until: None,
            progress: &|_, _| {},
            show_values: false,
            blocks: 0,
            at: &[],
            sites: None,
        };
        explain(&image, &runtime, &mut looked, &asked).map_err(|e| e.to_string())?;
    }
    looked.snapshot.verdict = pydefrag_advise::verdict(&looked.snapshot);
    Ok(looked)
}

/// The account of this process, with its objects where they are wanted.
pub(crate) fn account(objects: bool) -> Result<Snapshot, String> {
    look(Wanted { objects, map: false }).map(|looked| looked.snapshot)
}

/// Writes a .pdsnap of this process. Returns its size in bytes.
pub(crate) fn snapshot(path: &Path, objects: bool) -> Result<u64, String> {
    let failed = |e: std::io::Error| format!("{} cannot be written ({e})", path.display());
    let name = path.file_name().ok_or(format!("{} is no name of a file", path.display()))?;
    // Where it cannot be written nothing needs to be looked at.
    let part =
        path.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
    let mut file = File::create_new(&part).map_err(failed)?;
    let written = (|| {
        let looked = look(Wanted { objects, map: true })?;
        let bytes = pdsnap::encode(&looked.snapshot, &looked.detail).map_err(|e| e.to_string())?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&part, path).map_err(failed)?;
        Ok(bytes.len() as u64)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// Where a signal writes snapshots to.
static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);
static SIGNALLED: AtomicBool = AtomicBool::new(false);

/// Has a signal write a snapshot into a folder. A signal that the program handles itself is refused.
pub(crate) fn on(signal: c_int, folder: PathBuf) -> Result<(), String> {
    if !folder.is_dir() {
        return Err(format!("{} is no folder", folder.display()));
    }
    let mut before = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction reads and fills structures; `handler` only stores to an atomic.
    unsafe {
        if libc::sigaction(signal, std::ptr::null(), before.as_mut_ptr()) != 0 {
            return Err(format!("{signal} is no signal that can be handled"));
        }
        let before = before.assume_init();
        let ours = handler as extern "C" fn(c_int) as usize;
        if before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != ours {
            return Err(format!("signal {signal} is handled by the program already"));
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ours;
        action.sa_flags = libc::SA_RESTART;
        if libc::sigaction(signal, &action, std::ptr::null_mut()) != 0 {
            return Err(format!("signal {signal} cannot be handled"));
        }
    }
    *FOLDER.lock().unwrap_or_else(|e| e.into_inner()) = Some(folder);
    Ok(())
}

extern "C" fn handler(_: c_int) {
    SIGNALLED.store(true, Ordering::Release);
}

/// Whether a signal came that nobody has looked at.
#[inline]
pub(crate) fn is_signalled() -> bool {
    SIGNALLED.load(Ordering::Acquire)
}

/// The thread's look whether a signal came.
pub(crate) fn on_signal() {
    if !SIGNALLED.swap(false, Ordering::AcqRel) {
        return;
    }
    let folder = FOLDER.lock().unwrap_or_else(|e| e.into_inner()).clone();
    let Some(folder) = folder else { return };
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.as_millis());
    let path = folder.join(format!("{}-{since}.pdsnap", std::process::id()));
    let said = match snapshot(&path, true) {
        Ok(_) => format!("pydefrag: snapshot written to {}", path.display()),
        Err(e) => format!("pydefrag: no snapshot: {e}"),
    };
    let _ = writeln!(std::io::stderr(), "{said}");
}
