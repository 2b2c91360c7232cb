//! The allocator that would have been called without us: glibc's, or another that is preloaded behind us.
//!
//! Found by name at the first call. Until it is found, what the search itself asks for comes from a few pages of our own, which
//! are never given back.

use std::ffi::{CStr, c_int, c_long, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::own::own;

type Pointer = *mut c_void;

macro_rules! functions {
    ($($name:ident: fn($($arg:ident: $kind:ty),*) -> $out:ty;)*) => {
        mod found {
            use std::sync::atomic::AtomicUsize;
            $(#[allow(non_upper_case_globals)] pub(super) static $name: AtomicUsize = AtomicUsize::new(0);)*
        }
        /// Finds all of them, while there is one thread.
        pub(super) fn find_all() {
            $(find(&found::$name, concat!(stringify!($name), "\0"));)*
        }

        $(
            #[inline(always)]
            pub(super) unsafe fn $name($($arg: $kind),*) -> Option<$out> {
                let mut at = found::$name.load(Ordering::Relaxed);
                if at == 0 {
                    at = find(&found::$name, concat!(stringify!($name), "\0"))?;
                }
                // SAFETY: the C library's function of that name, or that of who stands in for it, has this signature.
                let function: unsafe extern "C" fn($($kind),*) -> $out = unsafe { std::mem::transmute(at) };
                // SAFETY: the caller's arguments.
                Some(unsafe { function($($arg),*) })
            }
        )*
    };
}

functions! {
    malloc: fn(size: usize) -> Pointer;
    calloc: fn(count: usize, size: usize) -> Pointer;
    realloc: fn(block: Pointer, size: usize) -> Pointer;
    free: fn(block: Pointer) -> ();
    memalign: fn(align: usize, size: usize) -> Pointer;
    aligned_alloc: fn(align: usize, size: usize) -> Pointer;
    posix_memalign: fn(into: *mut Pointer, align: usize, size: usize) -> c_int;
    valloc: fn(size: usize) -> Pointer;
    pvalloc: fn(size: usize) -> Pointer;
    mmap: fn(at: Pointer, length: usize, protection: c_int, flags: c_int, fd: c_int, offset: c_long) -> Pointer;
    munmap: fn(at: Pointer, length: usize) -> c_int;
    fork: fn() -> c_int;
    _exit: fn(code: c_int) -> ();
    execve: fn(file: *const i8, argv: *const *const i8, envp: *const *const i8) -> c_int;
    execv: fn(file: *const i8, argv: *const *const i8) -> c_int;
}

/// The thread that looks for a function, by the address of its own words; what it asks for meanwhile is served by [`early`].
static SEARCHING: AtomicUsize = AtomicUsize::new(0);

#[cold]
#[inline(never)]
fn find(into: &AtomicUsize, name: &str) -> Option<usize> {
    let me = own() as usize;
    while let Err(who) = SEARCHING.compare_exchange(0, me, Ordering::Acquire, Ordering::Relaxed) {
        if who == me {
            return None;
        }
        std::thread::yield_now();
    }
    let name = CStr::from_bytes_with_nul(name.as_bytes()).ok();
    let at = name.map_or(0, |name| {
        // SAFETY: a NUL-ended name.
        unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) as usize }
    });
    into.store(at, Ordering::Relaxed);
    SEARCHING.store(0, Ordering::Release);
    (at != 0).then_some(at)
}

const EARLY: usize = 64 << 10;

#[repr(align(4096))]
struct Pages(std::cell::UnsafeCell<[u8; EARLY]>);
// SAFETY: handed out in parts, each once.
unsafe impl Sync for Pages {}

static PAGES: Pages = Pages(std::cell::UnsafeCell::new([0; EARLY]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Zeroed memory for whoever is searched for; null where there is none left.
#[cold]
pub(super) fn early(size: usize) -> Pointer {
    let size = size.saturating_add(15) & !15;
    if size > EARLY {
        return std::ptr::null_mut();
    }
    let at = TAKEN.fetch_add(size, Ordering::Relaxed);
    if at + size > EARLY {
        return std::ptr::null_mut();
    }
    (PAGES.0.get() as usize + at) as Pointer
}

/// Whether a block is one of [`early`]'s.
#[inline(always)]
pub(super) fn is_early(block: Pointer) -> bool {
    (block as usize).wrapping_sub(PAGES.0.get() as usize) < EARLY
}

/// A block of [`early`]'s, moved to the real allocator: its size is not kept, so all that may be its own is copied.
#[cold]
pub(super) unsafe fn moved_from_early(block: Pointer, size: usize) -> Pointer {
    // SAFETY: the caller's request.
    let to = unsafe { malloc(size) }.unwrap_or_else(|| early(size));
    if !to.is_null() {
        let rest = PAGES.0.get() as usize + EARLY - block as usize;
        // SAFETY: inside our pages, and inside the new block; they do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(block.cast::<u8>(), to.cast::<u8>(), size.min(rest))
        };
    }
    to
}
