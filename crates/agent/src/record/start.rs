//! The begin and the end of a recording: at load, in a fork, at an exit; and the look whether Python's hooks are still
//! there.

use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pydefrag_trace::event::escape;

use super::own::{BUSY, busy, own};
use super::state::{self, State, VARIABLE, Wanted, state};
use super::{arenas, gc, hooks, lane, malloc, python, real, sample, stack};

unsafe extern "C" {
    static mut environ: *mut *mut c_char;
}

/// Called by the loader before the program begins.
extern "C" fn load() {
    busy(own(), || {
        real::find_all();
        if let Some(wanted) = wanted() {
            begin(wanted);
        }
    });
}

/// Called by the loader when the program ends.
extern "C" fn unload() {
    end();
}

#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;
#[used]
#[unsafe(link_section = ".fini_array")]
static UNLOAD: extern "C" fn() = unload;

fn wanted() -> Option<Wanted> {
    let name = CString::new(VARIABLE).ok()?;
    // SAFETY: NUL-ended; the program has not begun, nobody changes its environment.
    let text = unsafe {
        let text = libc::getenv(name.as_ptr());
        if text.is_null() {
            return None;
        }
        CStr::from_ptr(text)
    };
    serde_json::from_slice(text.to_bytes()).ok()
}

fn begin(wanted: Wanted) {
    // A shell, or whatever starts the Python that is meant, passes the environment on.
    let Some(found) = python::find() else { return };
    // Another copy of this library, which is loaded and not preloaded, leaves it to the first.
    if python::is_initialized() {
        return;
    }
    if !wanted.children {
        hide(&wanted);
    }
    let every = wanted.every;
    // A file that cannot be made is missed by who wants it: there is no other way to say so here.
    if !matches!(state::begin(wanted, None), Ok(true)) {
        return;
    }
    let started = found.and_then(|minor| {
        ready()?;
        // SAFETY: registers functions; done once, before there is another thread.
        unsafe {
            dlmalloc::enable_alloc_after_fork();
            libc::pthread_atfork(None, None, Some(forked));
        }
        malloc::set(minor, every.is_some());
        // SAFETY: there is no interpreter yet.
        unsafe {
            arenas::install();
            hooks::install(minor, every.is_some());
        }
        state::activate();
        Ok(())
    });
    if let Err(why) = started {
        state().end(Some(why));
    }
}

fn ready() -> Result<(), String> {
    let Some(wanted) = state::wanted() else { return Err("nothing is wanted".into()) };
    lane::reset()?;
    stack::reset(wanted.check)?;
    if let Some(every) = wanted.every {
        sample::reset(every);
    }
    Ok(())
}

/// Takes what is ours out of the environment, which the program and what it starts then find as it would be without us.
fn hide(wanted: &Wanted) {
    // SAFETY: the program has not begun: nobody else reads or writes the list, which ends with a null; entries are NUL-ended.
    unsafe {
        let mut from = environ;
        let mut to = environ;
        while !from.is_null() && !(*from).is_null() {
            let entry = CStr::from_ptr(*from).to_bytes();
            let (name, value) = match entry.iter().position(|b| *b == b'=') {
                Some(i) => (&entry[..i], &entry[i + 1..]),
                None => (entry, &[][..]),
            };
            let kept = if name == VARIABLE.as_bytes() {
                None
            } else if name == b"LD_PRELOAD" {
                let ours = wanted.library.as_bytes();
                let rest = value.strip_prefix(ours).unwrap_or(value);
                let rest = rest.strip_prefix(b":").unwrap_or(rest);
                let text = [b"LD_PRELOAD=", rest].concat();
                // Never given back: it is the program's environment.
                (!rest.is_empty()).then(|| CString::new(text).map_or(*from, CString::into_raw))
            } else {
                Some(*from)
            };
            if let Some(kept) = kept {
                *to = kept;
                to = to.add(1);
            }
            from = from.add(1);
        }
        if !to.is_null() {
            *to = std::ptr::null_mut();
        }
    }
}

/// In a fork's child: its own file, or nothing more.
unsafe extern "C" fn forked() {
    busy(own(), || {
        if state::pid() == std::process::id() {
            return;
        }
        let was = state::is_active();
        let parent = state::pid();
        state::forget();
        // SAFETY: this thread's words.
        unsafe { (*own()).tid = 0 };
        SEEN.store(0, Ordering::Relaxed);
        hooks::reset();
        let Some(wanted) = state::wanted().filter(|w| was && w.children).cloned() else { return };
        if matches!(state::begin(wanted, Some(parent)), Ok(true)) {
            match ready() {
                Ok(()) => state::activate(),
                Err(why) => state().end(Some(why)),
            }
        }
    });
}

/// Events of the GIL's lane when it was last looked.
static SEEN: AtomicU64 = AtomicU64::new(0);
static GREETED: AtomicBool = AtomicBool::new(false);

/// Looks whether Python's hooks are in place: an interpreter that is told which allocator to use (PYTHONMALLOC, -X dev) puts
/// its own there while it starts. With the GIL.
pub(super) fn look() {
    if !python::is_initialized() {
        return;
    }
    greet();
    // Others may have put theirs over ours, which they call; then Python's events still come.
    let came = hooks::events();
    if came == SEEN.swap(came, Ordering::Relaxed) && !hooks::are_outermost() {
        // SAFETY: the GIL is held.
        unsafe {
            hooks::install(malloc::minor(), state::wanted().is_some_and(|w| w.every.is_some()))
        };
    }
}

/// Whether Python was asked.
pub(super) fn has_greeted() -> bool {
    GREETED.load(Ordering::Relaxed)
}

/// Python cannot be asked now: once more, later.
pub(super) fn greet_again() {
    GREETED.store(false, Ordering::Relaxed);
}

/// Asks Python to tell of itself, once, when there is an interpreter.
pub(super) fn greet() {
    if !GREETED.load(Ordering::Relaxed)
        && python::is_initialized()
        && !GREETED.swap(true, Ordering::Relaxed)
    {
        gc::arrange();
    }
}

/// Writes what has been recorded so far.
pub(super) fn save() {
    // A child of vfork is the parent's memory still.
    if !state::is_active() || state::pid() != std::process::id() {
        return;
    }
    let own = own();
    let has_gil = python::thread_with_gil() != 0 && !hooks::is_another(own, malloc::minor());
    // SAFETY: this thread's words.
    if unsafe { (*own).depth } < BUSY && has_gil {
        lane::save_all(own, true);
    }
}

/// The end of the recording.
pub(super) fn end() {
    static ENDED: AtomicBool = AtomicBool::new(false);
    if !state::is_active()
        || state::pid() != std::process::id()
        || ENDED.swap(true, Ordering::AcqRel)
    {
        return;
    }
    let own = own();
    // A thread that is ended inside the recorder itself (by a signal's handler) may hold its locks.
    // SAFETY: this thread's words.
    if unsafe { (*own).depth } >= BUSY {
        return;
    }
    let another = hooks::is_another(own, malloc::minor());
    let alone = python::thread_with_gil() != 0 && !another || !python::is_initialized();
    lane::save_all(own, alone);
    busy(own, || State::end(&mut state(), None));
}

/// The program has come to its end; the interpreter will take itself apart. With the GIL.
pub(super) fn ending() {
    if state::is_active() {
        // SAFETY: the GIL.
        busy(own(), || unsafe { (*lane::gil()).escape(escape::ENDING, &[]) });
    }
}
