//! What Python itself tells: when its collector begins and ends, and when the program does; and the marks of a program.
//!
//! Asked for once the interpreter has started, in a pending call: there Python's objects may be used. The collector's
//! callback stands in `gc.callbacks`, where a program may see it.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};

use pydefrag_trace::event::escape;

use super::installed::{self, Kind};
use super::lane::{self, on};
use super::own::own;
use super::{hooks, malloc, python, start, state, turn};
use crate::python::symbol;

type Object = *mut c_void;

/// `PyMethodDef`.
#[repr(C)]
struct Method {
    name: *const c_char,
    function: unsafe extern "C" fn(Object, Object) -> Object,
    flags: c_int,
    doc: *const c_char,
}

// SAFETY: constants.
unsafe impl Sync for Method {}

const METH_VARARGS: c_int = 1;

static CALLBACK: Method = Method {
    name: c"pydefrag".as_ptr(),
    function: callback,
    flags: METH_VARARGS,
    doc: std::ptr::null(),
};
static ENDING: Method = Method {
    name: c"pydefrag".as_ptr(),
    function: ending,
    flags: METH_VARARGS,
    doc: std::ptr::null(),
};

macro_rules! api {
    ($($name:ident: fn($($arg:ty),*) -> $out:ty;)*) => {
        /// Functions of the C API, by their own names.
        #[allow(non_snake_case)]
        struct Api { $($name: unsafe extern "C" fn($($arg),*) -> $out,)* }
        impl Api {
            /// Looked up once: the loader's lock is not for places where memory is allocated.
            fn find() -> Option<&'static Api> {
                static FOUND: std::sync::OnceLock<Option<Api>> = std::sync::OnceLock::new();
                FOUND.get_or_init(Api::look_up).as_ref()
            }

            fn look_up() -> Option<Api> {
                // SAFETY: these have had these signatures in all of CPython 3.8 to 3.15.
                Some(unsafe { Api { $($name: std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($arg),*) -> $out>(
                    symbol(concat!(stringify!($name), "\0"))?),)* } })
            }
        }
    };
}

api! {
    PyImport_ImportModule: fn(*const c_char) -> Object;
    PyObject_GetAttrString: fn(Object, *const c_char) -> Object;
    PyObject_CallObject: fn(Object, Object) -> Object;
    PyCFunction_NewEx: fn(*const Method, Object, Object) -> Object;
    PyTuple_New: fn(isize) -> Object;
    PyTuple_SetItem: fn(Object, isize, Object) -> c_int;
    PyList_Insert: fn(Object, isize, Object) -> c_int;
    PyErr_Clear: fn() -> ();
    PyTuple_GetItem: fn(Object, isize) -> Object;
    PyImport_GetModuleDict: fn() -> Object;
    PyDict_DelItemString: fn(Object, *const c_char) -> c_int;
    PyDict_GetItemString: fn(Object, *const c_char) -> Object;
    PyLong_AsLong: fn(Object) -> c_long;
    PyUnicode_AsUTF8AndSize: fn(Object, *mut isize) -> *const c_char;
    Py_IncRef: fn(Object) -> ();
    Py_DecRef: fn(Object) -> ();
}

/// Asks Python to call [`greet`] as soon as it may.
pub(super) fn arrange() {
    if let Some(add) = symbol("Py_AddPendingCall\0") {
        // SAFETY: `int Py_AddPendingCall(int (*)(void *), void *)`.
        unsafe {
            let add: unsafe extern "C" fn(
                unsafe extern "C" fn(*mut c_void) -> c_int,
                *mut c_void,
            ) -> c_int = std::mem::transmute(add);
            add(greet, std::ptr::null_mut());
        }
    }
}

unsafe extern "C" fn greet(_: *mut c_void) -> c_int {
    if !state::is_active() {
        return 0;
    }
    // importlib keeps who waits for which lock in a dict that is not made for an import within its own functions
    // (python/cpython#106176).
    // SAFETY: a pending call is made by a thread that has the GIL.
    if unsafe { hooks::runs_importlib(malloc::minor()) } {
        start::greet_again();
        return 0;
    }
    // SAFETY: the GIL is held, by a thread that may use objects; each is checked for null.
    unsafe {
        // Without a GIL nobody looks later whether the hooks are still there: PYTHONMALLOC has put its own by now, or never will.
        let kind = Kind::of(malloc::is_sampled());
        if python::is_free_threaded() && !installed::are_outermost_of(kind) {
            installed::install(malloc::minor(), kind);
        }
        if let Some(api) = Api::find() {
            let none = std::ptr::null_mut();
            let function = |method| (api.PyCFunction_NewEx)(method, none, none);
            // What was not imported before is not seen to be after; up to 3.9 `atexit` must stay.
            let modules = (api.PyImport_GetModuleDict)();
            let is_new = |name: &CStr| (api.PyDict_GetItemString)(modules, name.as_ptr()).is_null();
            let new = [c"gc", c"atexit"].map(|name| (name, is_new(name)));
            let gc = (api.PyImport_ImportModule)(c"gc".as_ptr());
            if !gc.is_null() {
                let callbacks = (api.PyObject_GetAttrString)(gc, c"callbacks".as_ptr());
                let callback = function(&CALLBACK);
                if !callbacks.is_null() && !callback.is_null() {
                    (api.PyList_Insert)(callbacks, 0, callback);
                }
                [gc, callbacks, callback]
                    .into_iter()
                    .filter(|o| !o.is_null())
                    .for_each(|o| (api.Py_DecRef)(o));
            }
            let atexit = (api.PyImport_ImportModule)(c"atexit".as_ptr());
            if !atexit.is_null() {
                let register = (api.PyObject_GetAttrString)(atexit, c"register".as_ptr());
                let ending = function(&ENDING);
                let arguments = (api.PyTuple_New)(1);
                let mut done = none;
                if !register.is_null() && !ending.is_null() && !arguments.is_null() {
                    // The tuple takes the reference.
                    (api.PyTuple_SetItem)(arguments, 0, ending);
                    done = (api.PyObject_CallObject)(register, arguments);
                }
                [atexit, register, arguments, done]
                    .into_iter()
                    .filter(|o| !o.is_null())
                    .for_each(|o| (api.Py_DecRef)(o));
            }
            for (name, is_new) in new {
                if is_new && (malloc::minor() > 9 || name != c"atexit") {
                    (api.PyDict_DelItemString)(modules, name.as_ptr());
                }
            }
            (api.PyErr_Clear)();
        }
    }
    0
}

/// `None`, with a reference.
unsafe fn none(api: &Api) -> Object {
    let none = python::variable("_Py_NoneStruct\0") as usize as Object;
    // SAFETY: the interpreter's own object.
    unsafe { (api.Py_IncRef)(none) };
    none
}

/// `callback(phase, info)`, as `gc.callbacks` are called.
unsafe extern "C" fn callback(_: Object, arguments: Object) -> Object {
    let Some(api) = Api::find() else { return std::ptr::null_mut() };
    // SAFETY: the GIL is held; borrowed references, checked for null.
    unsafe {
        let (phase, info) =
            ((api.PyTuple_GetItem)(arguments, 0), (api.PyTuple_GetItem)(arguments, 1));
        let number = |name: &CStr| {
            let value = match info.is_null() {
                true => std::ptr::null_mut(),
                false => (api.PyDict_GetItemString)(info, name.as_ptr()),
            };
            if value.is_null() { 0 } else { (api.PyLong_AsLong)(value).max(0) as u64 }
        };
        let mut length = 0;
        let text = match phase.is_null() {
            true => std::ptr::null(),
            false => (api.PyUnicode_AsUTF8AndSize)(phase, &mut length),
        };
        let generation = number(c"generation");
        // An interpreter with a GIL of its own has its own list of callbacks: this one is the main one's.
        if state::is_active() && !text.is_null() {
            let starts = CStr::from_ptr(text) == c"start";
            let numbers = [generation, number(c"collected"), number(c"uncollectable")];
            on(own(), turn::has_lane(own()), |lane| {
                lane.clock();
                match starts {
                    true => lane.escape(escape::GC_START, &numbers[..1]),
                    false => lane.escape(escape::GC_STOP, &numbers),
                }
            });
        }
        (api.PyErr_Clear)();
        none(api)
    }
}

/// `atexit` calls it last: it was registered first.
unsafe extern "C" fn ending(_: Object, _: Object) -> Object {
    start::ending();
    let Some(api) = Api::find() else { return std::ptr::null_mut() };
    // SAFETY: the GIL is held.
    unsafe { none(api) }
}

/// Longest mark, in bytes.
const LONGEST_MARK: usize = 1024;

/// Writes a mark into the trace of this process; 1 if there is one. For `pydefrag.mark`, which finds it by name.
///
/// # Safety
///
/// `text` has `length` bytes; the caller has the GIL.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pydefrag_mark(text: *const c_char, length: usize) -> c_int {
    if !state::is_active() || malloc::minor() == 0 {
        return 0;
    }
    let has_lane = turn::has_lane(own());
    if !has_lane && !python::is_free_threaded() {
        return 0;
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length.min(LONGEST_MARK)) };
    on(own(), has_lane, |lane| lane.mark(&String::from_utf8_lossy(bytes)));
    // Whoever reads the file while it is written finds all up to the mark.
    lane::save_all(own(), true);
    1
}
