//! Giving back what the process's malloc holds free: `malloc_trim`, or the purge of another malloc that
//! stands in glibc's place.
//!
//! Owns who that is (the library that `malloc` comes from) and its call. Runs without the GIL: a trim of a
//! large heap takes long, and only threads that allocate from the arena at hand wait for it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use crate::pages::{OS_PAGE, PageMap};
use crate::python::symbol;

/// What a trim did.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub(crate) struct Trimmed {
    /// Whose malloc: `glibc`, `jemalloc`, `mimalloc`, `tcmalloc`.
    pub(crate) malloc: &'static str,
    /// How long it took, in milliseconds.
    pub(crate) ms: f64,
}

enum Malloc {
    Glibc(unsafe extern "C" fn(usize) -> c_int),
    Jemalloc(
        unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int,
    ),
    Mimalloc(unsafe extern "C" fn(bool)),
    Tcmalloc(unsafe extern "C" fn()),
}

/// The file that a function's code is in.
fn file_of(function: *mut c_void) -> Option<String> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr writes to `info` where it finds the address, and names stay with their library.
    unsafe {
        if libc::dladdr(function, info.as_mut_ptr()) == 0 {
            return None;
        }
        let name = info.assume_init().dli_fname;
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// A library that is loaded, by its file.
struct Library(*mut c_void);

impl Library {
    fn loaded(file: &str) -> Option<Library> {
        let file = CString::new(file).ok()?;
        // SAFETY: a NUL-ended name; RTLD_NOLOAD loads nothing.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY) };
        (!handle.is_null()).then_some(Library(handle))
    }

    fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: a handle of ours and a NUL-ended name.
        let at = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!at.is_null()).then_some(at)
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: the handle that dlopen gave; the library stays, for others hold it.
        unsafe { libc::dlclose(self.0) };
    }
}

/// The process's malloc: that of a library in the global scope which brings `malloc` together with a known call
/// of its own, else glibc's. (An executable at a fixed address seems to have a `malloc` itself: its own stub.)
fn malloc() -> Result<Malloc, String> {
    let in_place = |name: &str| {
        let at = symbol(name)?;
        let file = file_of(at)?;
        let theirs = Library::loaded(&file)?.symbol(c"malloc")?;
        (file_of(theirs)? == file).then_some(at)
    };
    // SAFETY: of each the signature that its library documents: jemalloc(3) `mallctl`, mimalloc.h
    // `mi_collect(bool)`, gperftools/malloc_extension_c.h, malloc_trim(3).
    unsafe {
        if let Some(at) = in_place("mallctl\0").or_else(|| in_place("je_mallctl\0")) {
            return Ok(Malloc::Jemalloc(std::mem::transmute::<*mut c_void, _>(at)));
        }
        if let Some(at) = in_place("mi_collect\0") {
            return Ok(Malloc::Mimalloc(std::mem::transmute::<*mut c_void, _>(at)));
        }
        if let Some(at) = in_place("MallocExtension_ReleaseFreeMemory\0") {
            return Ok(Malloc::Tcmalloc(std::mem::transmute::<*mut c_void, _>(at)));
        }
        let whose = symbol("malloc\0").and_then(file_of).unwrap_or_default();
        let name = whose.rsplit('/').next().unwrap_or(&whose);
        let glibc = Library::loaded("libc.so.6").and_then(|l| l.symbol(c"malloc_trim"));
        match glibc {
            Some(at)
                if name.starts_with("libc") || name.contains("python") || is_program(&whose) =>
            {
                Ok(Malloc::Glibc(std::mem::transmute::<*mut c_void, _>(at)))
            }
            _ => Err(format!(
                "malloc is {name}'s here, which has no call to give memory back that is known"
            )),
        }
    }
}

/// Whether this is the file of the program itself.
fn is_program(file: &str) -> bool {
    let same = |a: &str| Some((std::fs::metadata(a).ok()?.dev(), std::fs::metadata(a).ok()?.ino()));
    file.is_empty() || same(file).is_some_and(|f| Some(f) == same("/proc/self/exe"))
}

/// Trims. Refuses, with the reason, where that would write to pages that a fork still shares.
pub(crate) fn trim() -> Result<Trimmed, String> {
    let malloc = malloc()?;
    if let Malloc::Glibc(_) = malloc {
        let shared = shared_heap()?;
        if shared > 0 && consolidates() && fastbins() {
            return Err(format!(
                "{:.1} MiB of malloc's heap are still shared with a process of the same fork, and malloc_trim would write to them",
                shared as f64 / (1 << 20) as f64
            ));
        }
    }
    let begun = Instant::now();
    // SAFETY: each as documented, from any thread; none unwinds. `arena.4096.purge` is all of jemalloc's
    // arenas (MALLCTL_ARENAS_ALL, since 5.0).
    let name = unsafe {
        match malloc {
            Malloc::Glibc(trim) => {
                trim(0);
                "glibc"
            }
            Malloc::Jemalloc(mallctl) => {
                let call = |name: &CStr| {
                    let none = std::ptr::null_mut();
                    mallctl(name.as_ptr(), none, std::ptr::null_mut(), none, 0)
                };
                call(c"thread.tcache.flush");
                if call(c"arena.4096.purge") != 0 {
                    return Err("jemalloc refuses arena.4096.purge".into());
                }
                "jemalloc"
            }
            Malloc::Mimalloc(collect) => {
                collect(true);
                "mimalloc"
            }
            Malloc::Tcmalloc(release) => {
                release();
                "tcmalloc"
            }
        }
    };
    Ok(Trimmed { malloc: name, ms: begun.elapsed().as_secs_f64() * 1e3 })
}

/// Whether glibc's malloc_trim coalesces fastbins first, which writes to them: until 2.42.
fn consolidates() -> bool {
    // SAFETY: a static text.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy();
    let minor = version.split('.').nth(1).and_then(|m| m.parse::<u32>().ok());
    minor.is_none_or(|m| m < 43)
}

/// Whether any fastbin has a chunk, by glibc's own count (`fsmblks`, mallinfo(3)); true where it does not tell.
fn fastbins() -> bool {
    #[repr(C)]
    struct Mallinfo2([usize; 10]);
    let Some(at) = Library::loaded("libc.so.6").and_then(|l| l.symbol(c"mallinfo2")) else {
        return true;
    };
    // SAFETY: `struct mallinfo2 mallinfo2(void)`, ten size_t (malloc.h, 2.33).
    let info: unsafe extern "C" fn() -> Mallinfo2 = unsafe { std::mem::transmute(at) };
    // SAFETY: may be called by any thread.
    unsafe { info() }.0[6] != 0
}

/// Bytes of the main heap that another process maps too.
fn shared_heap() -> Result<u64, String> {
    let maps = std::fs::read_to_string("/proc/self/maps")
        .map_err(|e| format!("/proc/self/maps cannot be read ({e})"))?;
    let Some(line) = maps.lines().find(|l| l.ends_with("[heap]")) else { return Ok(0) };
    let range = line.split(' ').next().and_then(|r| r.split_once('-'));
    let number = |n: &str| u64::from_str_radix(n, 16).ok();
    let Some((start, end)) = range.and_then(|(a, b)| Some((number(a)?, number(b)?))) else {
        return Ok(0);
    };
    PageMap::open()?.shared(start, end).map(|pages| pages * OS_PAGE)
}
