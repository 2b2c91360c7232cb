//! Giving back what the process's malloc holds free: `malloc_trim`, or the purge of another malloc that
//! stands in glibc's place.
//!
//! Owns who that is (the library that `malloc` comes from) and its call. Runs without the GIL: a trim of a
//! large heap takes long, and only threads that allocate from the arena at hand wait for it.

use std::ffi::{CStr, c_char, c_int, c_void};
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

type Trim = unsafe extern "C" fn(usize) -> c_int;
type Collect = unsafe extern "C" fn(bool);
type Release = unsafe extern "C" fn();
type Mallctl =
    unsafe extern "C" fn(*const c_char, *mut c_void, *mut usize, *mut c_void, usize) -> c_int;

enum Malloc {
    Glibc(Trim),
    Jemalloc(Mallctl),
    Mimalloc(Collect),
    Tcmalloc(Release),
}

/// The file that a function's code is in.
fn file_of(function: *mut c_void) -> Option<String> {
    object_of(function).map(|o| o.1)
}

/// Where the object that an address lies in begins, and its file.
fn object_of(function: *mut c_void) -> Option<(usize, String)> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: dladdr writes to `info` where it finds the address, and names stay with their library.
    unsafe {
        if libc::dladdr(function, info.as_mut_ptr()) == 0 {
            return None;
        }
        let info = info.assume_init();
        let name = info.dli_fname;
        let name = (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned());
        Some((info.dli_fbase as usize, name?))
    }
}

/// The file that this process's malloc comes from. A program of fixed address that takes malloc's address has a
/// stub of its own for it, which is what the name then leads to everywhere: other names tell.
fn file_of_malloc() -> Option<String> {
    // SAFETY: getauxval only reads.
    let headers = unsafe { libc::getauxval(libc::AT_PHDR) } as usize as *mut c_void;
    let program = object_of(headers).map(|o| o.0);
    let names = ["malloc\0", "malloc_usable_size\0", "posix_memalign\0", "memalign\0"];
    let of: Vec<_> = names.iter().filter_map(|name| object_of(symbol(name)?)).collect();
    of.iter().find(|o| Some(o.0) != program).or(of.first()).map(|o| o.1.clone())
}

/// The process's malloc, by the library that its `malloc` is in, and that library's own call.
fn malloc() -> Result<Malloc, String> {
    let ours = file_of_malloc().ok_or("this process has no malloc")?;
    let name = ours.rsplit('/').next().unwrap_or(&ours).to_owned();
    let same = |symbol: *mut c_void| file_of(symbol).is_some_and(|f| f == ours);
    let its = |names: &[&str]| names.iter().filter_map(|n| symbol(n)).find(|s| same(*s));
    // SAFETY: of each the signature that its library documents: malloc.h (glibc), jemalloc(3) `mallctl`,
    // mimalloc.h `mi_collect(bool)`, gperftools/malloc_extension_c.h. A call from the library that gives
    // `malloc` itself is that library's.
    unsafe {
        if let Some(at) = its(&["malloc_trim\0"])
            && name.starts_with("libc")
        {
            return Ok(Malloc::Glibc(std::mem::transmute::<*mut c_void, Trim>(at)));
        }
        if let Some(at) = its(&["mallctl\0", "je_mallctl\0"]) {
            return Ok(Malloc::Jemalloc(std::mem::transmute::<*mut c_void, Mallctl>(at)));
        }
        if let Some(at) = its(&["mi_collect\0"]) {
            return Ok(Malloc::Mimalloc(std::mem::transmute::<*mut c_void, Collect>(at)));
        }
        if let Some(at) = its(&["MallocExtension_ReleaseFreeMemory\0"]) {
            return Ok(Malloc::Tcmalloc(std::mem::transmute::<*mut c_void, Release>(at)));
        }
    }
    Err(format!("malloc is {name}'s here, which has no call to give memory back that is known"))
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

/// Whether any fastbin has a chunk, by glibc's own count (`fsmblks`); true where it does not tell.
fn fastbins() -> bool {
    mallinfo2().is_none_or(|info| info[6] != 0)
}

/// Bytes that malloc has handed out (`uordblks` and `hblkhd`), where glibc's tells. It walks malloc's bins.
pub(crate) fn in_use() -> Option<u64> {
    let Ok(Malloc::Glibc(_)) = malloc() else { return None };
    mallinfo2().map(|info| (info[7] + info[4]) as u64)
}

/// `mallinfo2(3)`, since glibc 2.33: arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks,
/// keepcost.
fn mallinfo2() -> Option<[usize; 10]> {
    #[repr(C)]
    struct Mallinfo2([usize; 10]);
    let at = symbol("mallinfo2\0")?;
    // SAFETY: `struct mallinfo2 mallinfo2(void)`, ten size_t (malloc.h).
    let info: unsafe extern "C" fn() -> Mallinfo2 = unsafe { std::mem::transmute(at) };
    // SAFETY: may be called by any thread.
    Some(unsafe { info() }.0)
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
