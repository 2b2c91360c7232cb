//! CPython as the recorder needs it: its version, its threads' states, and its allocators' tables.
//!
//! Unlike [`crate::python`] it takes part before there is an interpreter, and from 3.8 on.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use super::current;
use crate::python::symbol;

/// `PyMemAllocatorEx`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Allocator {
    pub(super) ctx: *mut c_void,
    pub(super) malloc: Option<unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void>,
    pub(super) calloc: Option<unsafe extern "C" fn(*mut c_void, usize, usize) -> *mut c_void>,
    pub(super) realloc:
        Option<unsafe extern "C" fn(*mut c_void, *mut c_void, usize) -> *mut c_void>,
    pub(super) free: Option<unsafe extern "C" fn(*mut c_void, *mut c_void)>,
}

impl Allocator {
    pub(super) const NONE: Allocator = Allocator {
        ctx: std::ptr::null_mut(),
        malloc: None,
        calloc: None,
        realloc: None,
        free: None,
    };
}

/// `PyMemAllocatorDomain`: those that are hooked.
pub(super) const DOMAINS: [c_int; 2] = [1, 2];

static FREE_THREADED: AtomicBool = AtomicBool::new(false);
static MINOR: AtomicU8 = AtomicU8::new(0);
static OWN_THREAD: AtomicUsize = AtomicUsize::new(0);
static INITIALIZED: AtomicUsize = AtomicUsize::new(0);
static INTERPRETERS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
/// Functions that are looked up once, at the begin: later, the loader may be at work in another thread.
static GET: AtomicUsize = AtomicUsize::new(0);
static SET: AtomicUsize = AtomicUsize::new(0);

/// Finds out whether this process has a Python that can be recorded; `None` where it has none at all.
pub(super) fn find() -> Option<Result<u8, String>> {
    symbol("PyMem_SetAllocator\0")?;
    let text = version();
    let minor = text.strip_prefix("3.").and_then(|v| v.split(['.', '+', 'a', 'b', 'r']).next());
    let minor = minor.and_then(|m| m.parse::<u8>().ok());
    Some(match minor.filter(|m| (8..=15).contains(m)) {
        None => Err(format!("CPython {text} is not one of 3.8 to 3.15")),
        Some(minor) => {
            let state = ["PyThreadState_GetUnchecked\0", "_PyThreadState_UncheckedGet\0"];
            match state.into_iter().find_map(symbol) {
                None => Err(format!("CPython {text} does not say which thread runs")),
                Some(state) => {
                    // SAFETY: that is what it is, by its name.
                    unsafe { current::set_function(state as usize) };
                    let own = symbol("PyGILState_GetThisThreadState\0");
                    let initialized = symbol("Py_IsInitialized\0");
                    INITIALIZED.store(initialized.map_or(0, |i| i as usize), Ordering::Relaxed);
                    OWN_THREAD.store(own.map_or(0, |o| o as usize), Ordering::Relaxed);
                    let list = ["PyInterpreterState_Head\0", "PyInterpreterState_Next\0"];
                    for (to, name) in INTERPRETERS.iter().zip(list) {
                        to.store(symbol(name).map_or(0, |at| at as usize), Ordering::Relaxed);
                    }
                    MINOR.store(minor, Ordering::Relaxed);
                    FREE_THREADED.store(says_free_threaded(), Ordering::Relaxed);
                    Ok(minor)
                }
            }
        }
    })
}

/// `3.13.0`, or nothing.
pub(super) fn version() -> String {
    let Some(at) = symbol("Py_GetVersion\0") else { return String::new() };
    // SAFETY: `const char *Py_GetVersion(void)`, which may be called before there is an interpreter.
    let text = unsafe {
        let get: unsafe extern "C" fn() -> *const c_char = std::mem::transmute(at);
        CStr::from_ptr(get())
    };
    text.to_str().unwrap_or("").split(' ').next().unwrap_or("").to_owned()
}

/// Whether this CPython was built without a GIL. Known from [`find`] on.
#[inline(always)]
pub(super) fn is_free_threaded() -> bool {
    FREE_THREADED.load(Ordering::Relaxed)
}

/// Whether Python takes small blocks from mimalloc, which unmaps by itself: always without a GIL, else where it was told so.
pub(super) fn has_mimalloc() -> bool {
    let said = std::env::var_os("PYTHONMALLOC");
    is_free_threaded() || said.is_some_and(|said| said.as_encoded_bytes().starts_with(b"mimalloc"))
}

/// Takes it that there is no GIL.
pub(super) fn set_free_threaded() {
    FREE_THREADED.store(true, Ordering::Relaxed);
}

fn says_free_threaded() -> bool {
    let Some(at) = symbol("Py_GetVersion\0") else { return false };
    // SAFETY: as above.
    let text = unsafe {
        let get: unsafe extern "C" fn() -> *const c_char = std::mem::transmute(at);
        CStr::from_ptr(get())
    };
    text.to_string_lossy().contains("free-threading")
}

/// What a reader of the trace should know of this interpreter.
pub(super) fn notes() -> Vec<String> {
    let mut notes = Vec::new();
    if is_free_threaded() {
        notes.push(
            "this CPython was built without a GIL: allocations are told without their stacks, and nothing of how mimalloc keeps them"
                .into(),
        );
    }
    notes
}

/// The state of this thread if it has the GIL, else 0. 0 where there is no GIL.
pub(super) fn thread_with_gil() -> u64 {
    if !current::is_known() || is_free_threaded() {
        return 0;
    }
    let running = current::ask();
    if running == 0 || MINOR.load(Ordering::Relaxed) >= 12 {
        return running;
    }
    let at = OWN_THREAD.load(Ordering::Relaxed);
    if at == 0 {
        return 0;
    }
    // SAFETY: `PyThreadState *PyGILState_GetThisThreadState(void)`, without preconditions; a thread that Python does not
    // know has none.
    let own = unsafe {
        let get: unsafe extern "C" fn() -> u64 = std::mem::transmute(at);
        get()
    };
    if own == running { own } else { 0 }
}

/// Whether there is an interpreter. 3.15 says so after `site`, versions before it ahead of it.
pub(super) fn is_initialized() -> bool {
    let at = INITIALIZED.load(Ordering::Relaxed);
    if at == 0 {
        return false;
    }
    // SAFETY: what `find` stored: `int Py_IsInitialized(void)`, without preconditions.
    unsafe {
        let get: unsafe extern "C" fn() -> c_int = std::mem::transmute(at);
        get() != 0
    }
}

/// The main interpreter, once there is one.
pub(super) fn main_interpreter() -> u64 {
    let Some(at) = symbol("PyInterpreterState_Main\0") else { return 0 };
    // SAFETY: `PyInterpreterState *PyInterpreterState_Main(void)`, without preconditions.
    unsafe {
        let get: unsafe extern "C" fn() -> u64 = std::mem::transmute(at);
        get()
    }
}

/// Whether there are more interpreters than one.
pub(super) fn has_other_interpreters() -> bool {
    let [head, next] = INTERPRETERS.each_ref().map(|at| at.load(Ordering::Relaxed));
    if head == 0 || next == 0 {
        return true;
    }
    // SAFETY: what `find` stored: `PyInterpreterState *PyInterpreterState_Head(void)` and `…_Next(PyInterpreterState *)`, which
    // only read a list.
    unsafe {
        let head: unsafe extern "C" fn() -> u64 = std::mem::transmute(head);
        let next: unsafe extern "C" fn(u64) -> u64 = std::mem::transmute(next);
        let first = head();
        first != 0 && next(first) != 0
    }
}

/// `PyMem_GetAllocator`.
pub(super) fn allocator(domain: c_int) -> Option<Allocator> {
    let at = match GET.load(Ordering::Relaxed) {
        0 => symbol("PyMem_GetAllocator\0")? as usize,
        at => at,
    };
    GET.store(at, Ordering::Relaxed);
    let mut allocator = Allocator::NONE;
    // SAFETY: `void PyMem_GetAllocator(PyMemAllocatorDomain, PyMemAllocatorEx *)`.
    unsafe {
        let get: unsafe extern "C" fn(c_int, *mut Allocator) = std::mem::transmute(at);
        get(domain, &mut allocator);
    }
    allocator.malloc.is_some().then_some(allocator)
}

/// `PyMem_SetAllocator`.
///
/// # Safety
///
/// The functions forward to those that were there, and nobody else sets them now: there is no interpreter yet, or the caller
/// has the GIL.
pub(super) unsafe fn set_allocator(domain: c_int, mut allocator: Allocator) {
    let at = match SET.load(Ordering::Relaxed) {
        0 => symbol("PyMem_SetAllocator\0").map_or(0, |at| at as usize),
        at => at,
    };
    SET.store(at, Ordering::Relaxed);
    if at == 0 {
        return;
    }
    // SAFETY: `void PyMem_SetAllocator(PyMemAllocatorDomain, PyMemAllocatorEx *)`, and the caller's promise.
    unsafe {
        let set: unsafe extern "C" fn(c_int, *mut Allocator) = std::mem::transmute(at);
        set(domain, &mut allocator);
    }
}

/// The address of a variable such as `PyCode_Type`.
pub(super) fn variable(name: &str) -> u64 {
    symbol(name).map_or(0, |at| at as usize as u64)
}
