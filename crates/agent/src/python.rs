//! CPython's C API as this process has it, found by name at run time, and the proof that the GIL is held.
//!
//! Nothing here is linked: the agent loads into any CPython from 3.10 to 3.15, and into a process that
//! has none it loads too and says so. Only functions that every one of those versions exports are used.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::marker::PhantomData;
use std::sync::OnceLock;

/// A `PyObject*`.
pub(crate) type Object = *mut c_void;

/// `PyObjectArenaAllocator`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct ArenaAllocator {
    pub(crate) ctx: *mut c_void,
    pub(crate) alloc: Option<extern "C" fn(*mut c_void, usize) -> *mut c_void>,
    pub(crate) free: Option<extern "C" fn(*mut c_void, *mut c_void, usize)>,
}

macro_rules! functions {
    ($($name:ident: fn($($arg:ty),*) $(-> $out:ty)?;)*) => {
        /// The functions used, by their own names.
        #[allow(non_snake_case)]
        pub(crate) struct Python {
            $(pub(crate) $name: unsafe extern "C" fn($($arg),*) $(-> $out)?,)*
            finalizing: Option<unsafe extern "C" fn() -> c_int>,
        }

        impl Python {
            fn find() -> Result<Python, String> {
                Ok(Python {
                    $($name: {
                        let at = symbol(concat!(stringify!($name), "\0"))
                            .ok_or(concat!("CPython 3.10 to 3.15 is needed, and this process has no ", stringify!($name)))?;
                        // SAFETY: the symbol of that name has this signature in CPython 3.10-3.15
                        // (Include/*.h of each; but see `Takes`), and a function stays where it is.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) $(-> $out)?>(at) }
                    },)*
                    finalizing: ["Py_IsFinalizing\0", "_Py_IsFinalizing\0"].into_iter().find_map(symbol).map(|at| {
                        // SAFETY: both are `int f(void)`; 3.13 made the second public as the first.
                        unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> c_int>(at) }
                    }),
                })
            }
        }
    };
}

functions! {
    Py_GetVersion: fn() -> *const c_char;
    Py_IsInitialized: fn() -> c_int;
    Py_DecRef: fn(Object);
    PyGILState_Ensure: fn(*mut c_void) -> c_int;
    PyGILState_Release: fn(c_int);
    PyEval_SaveThread: fn() -> *mut c_void;
    PyEval_RestoreThread: fn(*mut c_void) -> c_int;
    PyInterpreterState_Get: fn() -> *mut c_void;
    PyInterpreterState_Main: fn() -> *mut c_void;
    PyErr_WriteUnraisable: fn(Object);
    PyLong_AsLong: fn(Object) -> c_long;
    PyErr_SetString: fn(Object, *const c_char);
    PyUnicode_AsUTF8AndSize: fn(Object, *mut isize) -> *const c_char;
    PyUnicode_FromStringAndSize: fn(*const c_char, isize) -> Object;
    PyImport_ImportModule: fn(*const c_char) -> Object;
    PyObject_GetAttrString: fn(Object, *const c_char) -> Object;
    PyObject_Call: fn(Object, Object, Object) -> Object;
    PyTuple_New: fn(isize) -> Object;
    PyTuple_SetItem: fn(Object, isize, Object) -> c_int;
    PyDict_New: fn() -> Object;
    PyDict_SetItemString: fn(Object, *const c_char, Object) -> c_int;
    PyModuleDef_Init: fn(*mut c_void) -> Object;
    PyObject_GetArenaAllocator: fn(*mut ArenaAllocator);
    PyObject_SetArenaAllocator: fn(*mut ArenaAllocator);
}

/// The address of a NUL-ended name in the global scope of the process.
pub(crate) fn symbol(name: &str) -> Option<*mut c_void> {
    let name = CStr::from_bytes_with_nul(name.as_bytes()).ok()?;
    // SAFETY: `name` is NUL-ended; RTLD_DEFAULT names no library that could have gone.
    let at = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!at.is_null()).then_some(at)
}

/// The API of this process; the error says what it lacks.
pub(crate) fn python() -> Result<&'static Python, String> {
    static FOUND: OnceLock<Result<Python, String>> = OnceLock::new();
    FOUND.get_or_init(Python::find).as_ref().map_err(Clone::clone)
}

impl Python {
    /// `Py_GetVersion()`.
    pub(crate) fn version(&self) -> &'static str {
        // SAFETY: a static NUL-ended text, valid before initialisation too.
        unsafe { CStr::from_ptr((self.Py_GetVersion)()) }.to_str().unwrap_or("")
    }

    /// Whether this is a Python that the agent is for.
    pub(crate) fn is_supported(&self) -> Result<(), String> {
        let version = self.version();
        let minor =
            version.strip_prefix("3.").and_then(|v| v.split(['.', '+', ' ', 'a', 'b', 'r']).next());
        match minor.and_then(|m| m.parse::<u32>().ok()) {
            _ if self.free_threaded() => {
                Err("a build without a GIL has no pymalloc to purge".into())
            }
            Some(10..=15) => Ok(()),
            _ => {
                let version = version.split(' ').next().unwrap_or_default();
                Err(format!("CPython {version} is not one of 3.10 to 3.15"))
            }
        }
    }

    /// A build without the GIL.
    pub(crate) fn free_threaded(&self) -> bool {
        self.version().contains("free-threading")
    }

    /// Whether the interpreter has begun. 3.15 says so after `site`, versions before it ahead of it.
    pub(crate) fn has_started(&self) -> bool {
        // SAFETY: only reads a flag of the runtime, at any time and from any thread.
        unsafe { (self.Py_IsInitialized)() != 0 }
    }

    /// Whether the interpreter has not begun or is ending: nobody may take the GIL then.
    pub(crate) fn is_down(&self) -> bool {
        // SAFETY: as above.
        !self.has_started() || unsafe { self.finalizing.is_some_and(|f| f() != 0) }
    }

    /// `gc.collect()`, which also works where the collector is disabled, as `PyGC_Collect` does not. Returns what
    /// it found, or nothing if it failed.
    pub(crate) fn collect(&self, _: &Held) -> Option<i64> {
        // SAFETY: the GIL is held; each object is checked for null, and given back.
        unsafe {
            let gc = (self.PyImport_ImportModule)(c"gc".as_ptr());
            if gc.is_null() {
                (self.PyErr_WriteUnraisable)(gc);
                return None;
            }
            let collect = (self.PyObject_GetAttrString)(gc, c"collect".as_ptr());
            let none = (self.PyTuple_New)(0);
            let found = if collect.is_null() || none.is_null() {
                std::ptr::null_mut()
            } else {
                (self.PyObject_Call)(collect, none, std::ptr::null_mut())
            };
            let count = if found.is_null() {
                (self.PyErr_WriteUnraisable)(gc);
                None
            } else {
                Some((self.PyLong_AsLong)(found))
            };
            for object in [gc, collect, none, found] {
                if !object.is_null() {
                    (self.Py_DecRef)(object);
                }
            }
            count
        }
    }

    /// One of the `PyExc_…`.
    pub(crate) fn exception(&self, name: &str) -> Object {
        match symbol(name) {
            // SAFETY: each `PyExc_` variable holds a type that lives as long as the interpreter.
            Some(at) => unsafe { *at.cast::<Object>() },
            None => std::ptr::null_mut(),
        }
    }
}

/// Proof that this thread holds the main interpreter's GIL: while one lives, no other thread is inside
/// that interpreter's pymalloc, and nothing but us changes it. Not to be kept, not to be sent.
pub(crate) struct Held(PhantomData<*mut ()>);

impl Held {
    /// # Safety
    ///
    /// The caller holds the GIL of the main interpreter, and does not release it while this lives.
    pub(crate) unsafe fn new() -> Held {
        Held(PhantomData)
    }
}

/// `struct _pthread_cleanup_buffer` (pthread.h).
#[repr(C)]
struct Cleanup {
    routine: Option<extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
    kind: c_int,
    before: *mut c_void,
}

type Push = unsafe extern "C" fn(*mut Cleanup, extern "C" fn(*mut c_void), *mut c_void);
type Pop = unsafe extern "C" fn(*mut Cleanup, c_int);

/// glibc's own pair behind `pthread_cleanup_push` of old, in every version of it.
fn cleanups() -> Option<(Push, Pop)> {
    static FOUND: OnceLock<Option<(Push, Pop)>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let of = |name: &CStr| {
            // SAFETY: NUL-ended names; the scope is that of the whole process.
            let at =
                unsafe { libc::dlvsym(libc::RTLD_DEFAULT, name.as_ptr(), c"GLIBC_2.2.5".as_ptr()) };
            (!at.is_null()).then_some(at)
        };
        let (push, pop) = (of(c"_pthread_cleanup_push")?, of(c"_pthread_cleanup_pop")?);
        // SAFETY: their signatures in nptl/old_pthread_cleanup*.c, unchanged since 2.2.5.
        Some(unsafe {
            (
                std::mem::transmute::<*mut c_void, Push>(push),
                std::mem::transmute::<*mut c_void, Pop>(pop),
            )
        })
    })
}

extern "C" fn sleep_for_ever(_: *mut c_void) {
    loop {
        // SAFETY: waits for a signal, whose handlers return.
        unsafe { libc::pause() };
    }
}

/// A function of the C API that takes the GIL: `PyEval_RestoreThread`, or `PyGILState_Ensure`, which ignores its argument.
type Takes = unsafe extern "C" fn(*mut c_void) -> c_int;

/// Calls what may end the thread. Until 3.13, CPython ends a thread that asks for the GIL of an interpreter that is
/// ending: by `pthread_exit`, which unwinds the stack. Nothing may unwind through us, so such a thread sleeps instead,
/// as 3.14 has it sleep; the process's end takes it along.
fn or_sleep(takes: Takes, argument: *mut c_void) -> c_int {
    match cleanups() {
        // SAFETY: what `cleanups` found, and a function that takes the argument or ignores it.
        Some((push, pop)) => unsafe { last_frame(takes, argument, push, pop) },
        // SAFETY: the same.
        None => unsafe { takes(argument) },
    }
}

/// The frame in which unwinding ends. The C library runs the cleanup handlers of a frame when it has left it, and
/// asks a frame's language before that: so this one has no destructor, no handler and no call that unwinds by Rust's
/// account, and is asked nothing.
#[inline(never)]
unsafe extern "C" fn last_frame(
    takes: Takes,
    argument: *mut c_void,
    push: Push,
    pop: Pop,
) -> c_int {
    let none = std::ptr::null_mut();
    let mut cleanup = Cleanup { routine: None, argument: none, kind: 0, before: none };
    // SAFETY: a buffer in this frame, which is taken off again in it and not executed then.
    unsafe {
        push(&raw mut cleanup, sleep_for_ever, none);
        let done = takes(argument);
        pop(&raw mut cleanup, 0);
        done
    }
}

/// How a thread comes to hold the GIL, slice by slice.
pub(crate) enum Attachment<'a> {
    /// The agent's own thread, which Python does not run: one thread state for as long as it lives. (A state
    /// for each slice would be allocated and freed with the program's raw allocator while other threads run,
    /// and `tracemalloc.stop` in one of them then crashes: python/cpython#128679, in all but the last patch
    /// releases.)
    Foreign(&'a Python, *mut c_void, c_int),
    /// A thread of Python's inside a call to us, whose thread state was saved.
    Saved(&'a Python, *mut c_void),
}

impl Attachment<'_> {
    /// Makes this thread, which Python does not know, one that may hold the GIL; `None` when the interpreter
    /// is ending.
    pub(crate) fn foreign(python: &Python) -> Option<Attachment<'_>> {
        if python.is_down() {
            return None;
        }
        // SAFETY: the interpreter runs, and our exit callback joins this thread before it ends.
        let before = or_sleep(python.PyGILState_Ensure, std::ptr::null_mut());
        Some(Attachment::Foreign(python, python.save(), before))
    }

    /// Runs `work` with the GIL held; `None` when the interpreter is ending.
    pub(crate) fn held<R>(&self, work: impl FnOnce(&Held) -> R) -> Option<R> {
        let (python, state) = match self {
            Attachment::Foreign(python, ..) if python.is_down() => return None,
            Attachment::Foreign(python, state, _) | Attachment::Saved(python, state) => {
                (python, *state)
            }
        };
        python.restore(state);
        // SAFETY: just taken, for the main interpreter: PyGILState's is that, and `call` admits no other.
        let done = work(&unsafe { Held::new() });
        // The GIL is held; the state is the same one again.
        python.save();
        Some(done)
    }
}

impl Drop for Attachment<'_> {
    fn drop(&mut self) {
        if let Attachment::Foreign(python, state, before) = *self
            && !python.is_down()
        {
            python.restore(state);
            // SAFETY: what Ensure returned on this thread.
            unsafe { (python.PyGILState_Release)(before) };
        }
    }
}

impl Python {
    /// Releases the GIL. For a thread that Python has called us in.
    pub(crate) fn save(&self) -> *mut c_void {
        // SAFETY: the thread holds the GIL with its thread state, as the caller says.
        unsafe { (self.PyEval_SaveThread)() }
    }

    /// Takes it again.
    pub(crate) fn restore(&self, state: *mut c_void) {
        or_sleep(self.PyEval_RestoreThread, state);
    }
}
