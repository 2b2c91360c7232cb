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
                        // (Include/*.h of each), and a function stays where it is.
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
    Py_AddPendingCall: fn(extern "C" fn(*mut c_void) -> c_int, *mut c_void) -> c_int;
    Py_DecRef: fn(Object);
    PyGILState_Ensure: fn() -> c_int;
    PyGILState_Release: fn(c_int);
    PyEval_SaveThread: fn() -> *mut c_void;
    PyEval_RestoreThread: fn(*mut c_void);
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

    /// Whether the interpreter has not begun or is ending: nobody may take the GIL then.
    pub(crate) fn is_down(&self) -> bool {
        // SAFETY: both only read a flag of the runtime, at any time and from any thread.
        unsafe { (self.Py_IsInitialized)() == 0 || self.finalizing.is_some_and(|f| f() != 0) }
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

/// How a thread comes to hold the GIL, slice by slice.
pub(crate) enum Attachment<'a> {
    /// A thread that Python does not know.
    Foreign(&'a Python),
    /// A thread of Python's inside a call to us, whose thread state was saved.
    Saved(&'a Python, *mut c_void),
}

impl Attachment<'_> {
    /// Runs `work` with the GIL held; `None` when the interpreter is ending.
    pub(crate) fn held<R>(&self, work: impl FnOnce(&Held) -> R) -> Option<R> {
        match self {
            Attachment::Foreign(python) => {
                if python.is_down() {
                    return None;
                }
                // SAFETY: the interpreter runs, and our exit callback joins this thread before it ends.
                let state = unsafe { (python.PyGILState_Ensure)() };
                // SAFETY: just taken, for the main interpreter, as PyGILState does; released below.
                let done = work(&unsafe { Held::new() });
                // SAFETY: what Ensure returned, on the same thread.
                unsafe { (python.PyGILState_Release)(state) };
                Some(done)
            }
            Attachment::Saved(python, state) => {
                // SAFETY: the thread state that SaveThread returned on this thread, not restored since.
                unsafe { (python.PyEval_RestoreThread)(*state) };
                // SAFETY: just taken; `call` admits the main interpreter only; saved again below.
                let done = work(&unsafe { Held::new() });
                // SAFETY: the GIL is held; the state is the same one again.
                unsafe { (python.PyEval_SaveThread)() };
                Some(done)
            }
        }
    }
}
