//! The begin and the end of a recording: at load, in a fork, at an exit; and the look whether Python's hooks are still
//! there.

use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pydefrag_trace::event::escape;

use super::installed::{self, Kind};
use super::lane::Lane;
use super::own::{BUSY, busy, own};
use super::stack::More;
use super::state::{self, State, VARIABLE, Wanted, state};
use super::wait::Asked;
use super::{arenas, gc, hooks, lane, malloc, python, real, sample, stack, turn};

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
    if wanted.free_threaded {
        python::set_free_threaded();
    }
    if wanted.wait {
        if let Ok(minor) = found {
            malloc::set(minor, false);
            hook(minor, Kind::Waiting);
            state::wait(wanted);
        }
        return;
    }
    let every = wanted.every;
    // A file that cannot be made is missed by who wants it: there is no other way to say so here.
    if !matches!(state::begin(wanted, None), Ok(true)) {
        return;
    }
    let started = found.and_then(|minor| {
        ready(false)?;
        malloc::set(minor, every.is_some());
        hook(minor, Kind::of(every.is_some()));
        state::activate();
        Ok(())
    });
    if let Err(why) = started {
        state().end(Some(why));
    }
}

/// Hooks the interpreter that is about to begin.
fn hook(minor: u8, kind: Kind) {
    // SAFETY: registers functions; done once, before there is another thread or an interpreter.
    unsafe {
        dlmalloc::enable_alloc_after_fork();
        libc::pthread_atfork(None, None, Some(forked));
        arenas::install();
        installed::install(minor, kind);
    }
}

/// Begins to record a program that has waited for it. With the GIL, between two calls of its allocators.
pub(super) fn on_demand(asked: Asked) -> Result<(), String> {
    let base = state::wanted().ok_or("nothing is wanted")?;
    let (minor, sampled) = (malloc::minor(), asked.every.is_some());
    // Hooks that only wait do nothing: others are put there, over whoever has come meanwhile. Where others have come while it was
    // recorded before, what stands below them records as it did.
    let below = if installed::are_outermost() { None } else { installed::below() };
    if let Some(kind) = below.filter(|kind| *kind != Kind::of(sampled)) {
        let option = if kind == Kind::Samples { "with" } else { "without" };
        return Err(format!(
            "another tool's hooks lie over the agent's, from when it was recorded before: it can be recorded {option} --sample"
        ));
    }
    let Asked { path, every, seconds, native } = asked;
    let wanted = Wanted { path, every, seconds, native, ..base.clone() };
    match state::begin(wanted, None) {
        Ok(true) => {}
        Ok(false) => return Err("the file is there already".into()),
        Err(why) => return Err(format!("the file cannot be written: {why}")),
    }
    let ready = ready(false);
    if let Err(why) = &ready {
        state().end(Some(why.clone()));
        return ready;
    }
    hooks::reset();
    SEEN.store(0, Ordering::Relaxed);
    malloc::set(minor, sampled);
    if below.is_none() {
        // SAFETY: the GIL.
        unsafe { installed::install(minor, Kind::of(sampled)) };
    }
    state::activate();
    Ok(())
}

/// The time for which it was to be recorded is over, or nobody wants it any more. In a tick of the GIL's lane.
pub(super) fn over(lane: &mut Lane) {
    lane.flush();
    if !python::is_free_threaded() {
        lane::beside(own(), Lane::flush);
    }
    State::end(&mut state(), None);
    rest();
}

/// Python's allocators are left alone, as far as may be: this process is not recorded any more. With the GIL.
fn rest() {
    if !python::is_free_threaded() {
        // SAFETY: the GIL, or a fork's only thread.
        unsafe { installed::rest(malloc::minor(), state::mode() == state::WAITING) };
    }
}

fn ready(forked: bool) -> Result<(), String> {
    let Some(wanted) = state::wanted() else { return Err("nothing is wanted".into()) };
    lane::reset(forked)?;
    stack::reset(More { check: wanted.check, native: wanted.native }, forked)?;
    if let Some(every) = wanted.every {
        sample::reset(every, forked);
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
        unsafe { ((*own()).tid, (*own()).outer) = (0, 0) };
        SEEN.store(0, Ordering::Relaxed);
        hooks::reset();
        let Some(wanted) = state::wanted().filter(|w| was && w.children).cloned() else {
            if was {
                rest();
            }
            return;
        };
        if matches!(state::begin(wanted, Some(parent)), Ok(true)) {
            match ready(true) {
                Ok(()) => return state::activate(),
                Err(why) => state().end(Some(why)),
            }
        }
        rest();
    });
}

/// What the hooks had counted when it was last looked.
static SEEN: AtomicU64 = AtomicU64::new(0);
static GREETED: AtomicBool = AtomicBool::new(false);

/// Looks whether Python's hooks are in place: an interpreter that is told which allocator to use (PYTHONMALLOC, -X dev) puts
/// its own there while it starts. With the GIL.
pub(super) fn look() {
    // What brought this here may have ended the recording.
    if !python::is_initialized() || !state::is_active() {
        return;
    }
    greet();
    // Others may have put theirs over ours, which they call; then Python's events still come.
    let kind = Kind::of(malloc::is_sampled());
    let came = if kind == Kind::Samples { sample::counted(own()) } else { hooks::events() };
    if came == SEEN.swap(came, Ordering::Relaxed) && !installed::are_outermost_of(kind) {
        // SAFETY: the GIL is held.
        unsafe { installed::install(malloc::minor(), kind) };
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
    // SAFETY: this thread's words.
    if unsafe { (*own).depth } < BUSY && (turn::has_lane(own) || python::is_free_threaded()) {
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
    let alone = turn::has_lane(own) || !python::is_initialized();
    lane::save_all(own, alone);
    busy(own, || State::end(&mut state(), None));
}

/// The program has come to its end; the interpreter will take itself apart. With the GIL.
pub(super) fn ending() {
    if state::is_active() {
        let own = own();
        lane::on(own, turn::has_lane(own), |lane| lane.escape(escape::ENDING, &[]));
    }
}
