//! The agent as a Python module: `PyInit__agent`, with one function, `call(text) -> text`.
//!
//! Owns the conversation in JSON and what Python is told at load (fork and exit callbacks). The module needs no
//! version of Python's headers: its definition is laid out here, for builds with a GIL, whose object header has
//! been the same two words since 3.8. A build without one is refused before that.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::auto::Auto;
use crate::heal::{Level, Order, heal, so_far};
use crate::python::{Attachment, Object, Python, python, symbol};
use crate::{own, thread, weight};

/// `PyMethodDef`.
#[repr(C)]
struct Method {
    name: *const c_char,
    function: Option<unsafe extern "C" fn(Object, Object) -> Object>,
    flags: c_int,
    doc: *const c_char,
}

const METH_NOARGS: c_int = 4;
const METH_O: c_int = 8;

/// `PyModuleDef_Slot`.
#[repr(C)]
struct Slot {
    slot: c_int,
    value: *mut c_void,
}

const PY_MOD_EXEC: c_int = 2;

/// `PyModuleDef` (Include/moduleobject.h) of a build with a GIL.
#[repr(C)]
struct Definition {
    refcount: isize,
    kind: *mut c_void,
    init: *mut c_void,
    index: isize,
    copy: *mut c_void,
    name: *const c_char,
    doc: *const c_char,
    size: isize,
    methods: *const Method,
    slots: *const Slot,
    traverse: *mut c_void,
    clear: *mut c_void,
    free: *mut c_void,
}

/// Called by `import`.
///
/// # Safety
///
/// Called by CPython with the GIL held, as any module's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn PyInit__agent() -> Object {
    let python = match python().and_then(|python| python.is_supported().map(|()| python)) {
        Ok(python) => python,
        Err(why) => {
            refuse_import(&why);
            return std::ptr::null_mut();
        }
    };
    let method = |name: &'static CStr, function, flags, doc: &'static CStr| Method {
        name: name.as_ptr(),
        function: Some(function),
        flags,
        doc: doc.as_ptr(),
    };
    let end = Method { name: std::ptr::null(), function: None, flags: 0, doc: std::ptr::null() };
    let methods = vec![
        method(
            c"call",
            call,
            METH_O,
            c"call(request: str) -> str\n--\n\nCarries out a request, both in JSON.",
        ),
        method(c"_before_fork", before_fork, METH_NOARGS, c""),
        method(c"_after_fork_in_parent", after_fork_in_parent, METH_NOARGS, c""),
        method(c"_after_fork_in_child", after_fork_in_child, METH_NOARGS, c""),
        method(c"_at_exit", at_exit, METH_NOARGS, c""),
        end,
    ];
    let slots = vec![
        Slot {
            slot: PY_MOD_EXEC,
            value: exec as unsafe extern "C" fn(Object) -> c_int as *mut c_void,
        },
        Slot { slot: 0, value: std::ptr::null_mut() },
    ];
    let definition = Box::new(Definition {
        refcount: 1,
        kind: std::ptr::null_mut(),
        init: std::ptr::null_mut(),
        index: 0,
        copy: std::ptr::null_mut(),
        name: c"_agent".as_ptr(),
        doc: c"pydefrag's agent".as_ptr(),
        size: 0,
        methods: Box::leak(methods.into_boxed_slice()).as_ptr(),
        slots: Box::leak(slots.into_boxed_slice()).as_ptr(),
        traverse: std::ptr::null_mut(),
        clear: std::ptr::null_mut(),
        free: std::ptr::null_mut(),
    });
    // SAFETY: a definition that lives for ever, in CPython's layout.
    unsafe { (python.PyModuleDef_Init)(Box::leak(definition) as *mut Definition as *mut c_void) }
}

/// `ImportError` in any CPython, whatever else it lacks.
fn refuse_import(why: &str) {
    let (Some(set), Some(exception)) = (symbol("PyErr_SetString\0"), symbol("PyExc_ImportError\0"))
    else {
        return;
    };
    let why =
        CString::new(format!("pydefrag's agent does not load here: {why}")).unwrap_or_default();
    // SAFETY: `void PyErr_SetString(PyObject *, const char *)` and `PyObject *PyExc_ImportError`, in every CPython 3;
    // the GIL is held in `PyInit`.
    unsafe {
        let set: unsafe extern "C" fn(Object, *const c_char) = std::mem::transmute(set);
        set(*exception.cast::<Object>(), why.as_ptr());
    }
}

fn raise(python: &Python, exception: &str, message: &str) {
    let message = CString::new(message).unwrap_or_default();
    // SAFETY: the GIL is held in every function that Python calls; the text is copied.
    unsafe {
        (python.PyErr_SetString)(python.exception(&format!("{exception}\0")), message.as_ptr())
    };
}

/// Fills the module: once a process, callbacks at fork and exit.
unsafe extern "C" fn exec(module: Object) -> c_int {
    let Ok(python) = python() else { return -1 };
    // A fork in another thread, in the middle of an allocation of ours, must not keep our allocator's lock.
    static FORKS: std::sync::Once = std::sync::Once::new();
    FORKS.call_once(|| {
        // SAFETY: registers handlers with pthread_atfork, once.
        unsafe { dlmalloc::enable_alloc_after_fork() }
    });
    // SAFETY: the GIL is held.
    let main = unsafe { (python.PyInterpreterState_Get)() == (python.PyInterpreterState_Main)() };
    if !main {
        raise(python, "PyExc_ImportError", "pydefrag's agent is for the main interpreter");
        return -1;
    }
    static REGISTERED: std::sync::Once = std::sync::Once::new();
    let mut done = 0;
    REGISTERED.call_once(|| {
        keep_panics();
        done = register(python, module);
    });
    done
}

/// `os.register_at_fork(...)` and `atexit.register(...)`; -1 with an exception set.
fn register(python: &Python, module: Object) -> c_int {
    // SAFETY: all of it with the GIL held, on objects that are checked for null; references are given back.
    unsafe {
        let attribute =
            |of: Object, name: &CStr| (python.PyObject_GetAttrString)(of, name.as_ptr());
        let import = |name: &CStr| (python.PyImport_ImportModule)(name.as_ptr());
        let os = import(c"os");
        let atexit = if os.is_null() { os } else { import(c"atexit") };
        if os.is_null() || atexit.is_null() {
            return -1;
        }
        let names = (python.PyDict_New)();
        for (name, method) in [
            (c"before", c"_before_fork"),
            (c"after_in_parent", c"_after_fork_in_parent"),
            (c"after_in_child", c"_after_fork_in_child"),
        ] {
            let method = attribute(module, method);
            if names.is_null() || method.is_null() {
                return -1;
            }
            (python.PyDict_SetItemString)(names, name.as_ptr(), method);
            (python.Py_DecRef)(method);
        }
        let none = (python.PyTuple_New)(0);
        let one = (python.PyTuple_New)(1);
        let end = attribute(module, c"_at_exit");
        let (at_fork, at_end) =
            (attribute(os, c"register_at_fork"), attribute(atexit, c"register"));
        if [none, one, end, at_fork, at_end].iter().any(|o| o.is_null()) {
            return -1;
        }
        (python.PyTuple_SetItem)(one, 0, end);
        let forks = (python.PyObject_Call)(at_fork, none, names);
        let ends = (python.PyObject_Call)(at_end, one, std::ptr::null_mut());
        if forks.is_null() || ends.is_null() {
            return -1;
        }
        for object in [os, atexit, names, none, one, at_fork, at_end, forks, ends] {
            (python.Py_DecRef)(object);
        }
    }
    0
}

/// Where the last panic was.
static PANICKED: Mutex<Option<String>> = Mutex::new(None);

/// Keeps a panic's place, and prints nothing: stderr is the program's, and std's trace would map the program's
/// libraries once more.
fn keep_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        *PANICKED.lock().unwrap_or_else(|e| e.into_inner()) = at;
    }));
}

/// Nothing unwinds into CPython: a panic becomes an answer.
fn guarded(work: impl FnOnce() -> Result<Value, String> + std::panic::UnwindSafe) -> Value {
    match std::panic::catch_unwind(work) {
        Ok(Ok(value)) => json!({ "done": value }),
        Ok(Err(why)) => json!({ "refused": why }),
        Err(_) => {
            let at = PANICKED.lock().unwrap_or_else(|e| e.into_inner()).take();
            let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
            json!({ "refused": format!("an error inside pydefrag's agent{at}") })
        }
    }
}

#[unsafe(link_section = "pydefrag_idle")]
unsafe extern "C" fn call(_: Object, argument: Object) -> Object {
    let object = converse(argument);
    // Now: the thread may have laid the code down meanwhile.
    weight::take_up();
    weight::lay_down();
    object
}

#[inline(never)]
fn converse(argument: Object) -> Object {
    let Ok(python) = python() else { return std::ptr::null_mut() };
    let mut length = 0;
    // SAFETY: the GIL is held; where the argument is no str, null comes with an exception set.
    let text = unsafe { (python.PyUnicode_AsUTF8AndSize)(argument, &mut length) };
    if text.is_null() {
        return std::ptr::null_mut();
    }
    // SAFETY: a str's UTF-8 of that length, alive while the argument is; copied at once.
    let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length as usize) }.to_vec();
    let answer = guarded(|| {
        let request = serde_json::from_slice(&text).map_err(|e| format!("no such request: {e}"))?;
        answer(python, request)
    });
    let answer = answer.to_string();
    // SAFETY: the GIL is held; the text is copied.
    unsafe { (python.PyUnicode_FromStringAndSize)(answer.as_ptr().cast(), answer.len() as isize) }
}

fn no_slice() -> u64 {
    5000
}

fn no_every() -> u64 {
    1000
}

/// What can be asked.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// Starts the thread that answers the mailbox.
    Start {},
    /// Stops it, and the policy.
    Stop {},
    Check {},
    Trim {
        #[serde(default)]
        collect: bool,
    },
    Purge {
        #[serde(default = "no_slice")]
        slice_us: u64,
        #[serde(default)]
        collect: bool,
    },
    /// Leaves the policy on, or turns it off.
    Auto {
        #[serde(default = "yes")]
        on: bool,
        #[serde(default = "no_every")]
        every_ms: u64,
        #[serde(default = "no_slice")]
        slice_us: u64,
        #[serde(default)]
        log: bool,
        #[serde(default)]
        always: bool,
    },
    Account {
        #[serde(default)]
        objects: bool,
    },
    Snapshot {
        path: PathBuf,
        #[serde(default = "yes")]
        objects: bool,
    },
    /// Has a signal write snapshots into a folder.
    OnSignal {
        signal: c_int,
        folder: PathBuf,
    },
    /// Writes a mark into the recording of this process, if there is one.
    Mark {
        text: String,
    },
    /// What the agent has done in this process.
    Status {},
    /// Fails inside the agent, for the test that nothing of it reaches CPython.
    Panic {},
}

fn yes() -> bool {
    true
}

fn answer(python: &'static Python, request: Request) -> Result<Value, String> {
    let order = |level, slice_us, collect| {
        // Whoever parks has somebody who unparks.
        thread::start()?;
        let order = Order { level, collect, slice: Duration::from_micros(slice_us) };
        let state = python.save();
        let healed =
            std::panic::catch_unwind(|| heal(order, &Attachment::Saved(python, state), &|| false));
        // `Attachment::held` has saved the same state again each time.
        python.restore(state);
        let healed = healed.unwrap_or_else(|_| Err("an error inside pydefrag's agent".into()))?;
        serde_json::to_value(healed).map_err(|e| e.to_string())
    };
    match request {
        Request::Start {} => thread::start().map(|()| Value::Null),
        Request::Stop {} => {
            thread::set_auto(None);
            thread::stop(python);
            Ok(Value::Null)
        }
        Request::Check {} => order(Level::Check, no_slice(), false),
        Request::Trim { collect } => order(Level::Trim, no_slice(), collect),
        Request::Purge { slice_us, collect } => order(Level::Purge, slice_us, collect),
        Request::Auto { on: false, .. } => {
            thread::set_auto(None);
            Ok(Value::Null)
        }
        Request::Auto { every_ms, slice_us, log, always, .. } => {
            if !(10..=3_600_000).contains(&every_ms) {
                return Err(format!("a look every {every_ms} ms is not made: 10 to 3600000"));
            }
            let (every, slice) = (Duration::from_millis(every_ms), Duration::from_micros(slice_us));
            thread::set_auto(Some(Auto { every, slice, log, always }));
            thread::start().map(|()| Value::Null)
        }
        Request::Account { objects } => {
            let account = thread::released(python, || own::account(objects))?;
            serde_json::to_value(account).map_err(|e| e.to_string())
        }
        Request::Snapshot { path, objects } => {
            let bytes = thread::released(python, || own::snapshot(&path, objects))?;
            Ok(json!({ "bytes": bytes }))
        }
        Request::OnSignal { signal, folder } => {
            own::on(signal, folder)?;
            thread::start().map(|()| Value::Null)
        }
        Request::Mark { text } => Ok(json!(mark(&text))),
        Request::Status {} => Ok(so_far()),
        Request::Panic {} => thread::released(python, || panic!("as it was asked to")),
    }
}

/// Has the library that records this process, if one was preloaded, write a mark; whether there is one. That is not this
/// library, though it may be of the same file.
fn mark(text: &str) -> bool {
    let Some(at) = symbol("pydefrag_mark\0") else { return false };
    // SAFETY: `pydefrag_mark` of `record::gc`; the GIL is held.
    unsafe {
        let mark: unsafe extern "C" fn(*const c_char, usize) -> c_int = std::mem::transmute(at);
        mark(text.as_ptr().cast(), text.len()) == 1
    }
}

fn none(python: &Python) -> Object {
    // An empty str is as good as None, and needs no reference count laid out.
    // SAFETY: the GIL is held.
    unsafe { (python.PyUnicode_FromStringAndSize)(c"".as_ptr(), 0) }
}

macro_rules! callback {
    ($name:ident, $python:ident => $work:expr) => {
        unsafe extern "C" fn $name(_: Object, _: Object) -> Object {
            let Ok($python) = python() else { return std::ptr::null_mut() };
            let _ = std::panic::catch_unwind(|| $work);
            none($python)
        }
    };
}

callback!(before_fork, python => thread::before_fork(python));
callback!(after_fork_in_parent, python => thread::after_fork_in_parent());
callback!(after_fork_in_child, python => thread::after_fork_in_child());
callback!(at_exit, python => thread::at_exit(python));
