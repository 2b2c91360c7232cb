//! The malloc family, mmap, fork and the ways to an end, as the process finds them where this library is preloaded.
//!
//! Each calls the real one. What is outside of Python's allocators is an event of malloc's; inside of them
//! [`super::hooks`] decides.
//!
//! Invariant: while nothing is recorded, and in a library that was loaded and not preloaded, these are never more than a call.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use pydefrag_trace::event::{Domain, NO_GIL, escape};

use super::lane::{alloc_beside, beside, free_beside, gil, on};
use super::own::{BUSY, Own, busy, own};
use super::state::{self, is_active};
use super::{hooks, python, real, sample, start, turn, wait, within};

type Pointer = *mut c_void;

static MINOR: AtomicU8 = AtomicU8::new(0);
static SAMPLED: AtomicBool = AtomicBool::new(false);
/// Allocations with the GIL until it is looked again whether Python's hooks are in place: more often while the interpreter
/// starts.
static UNTIL_LOOK: AtomicU32 = AtomicU32::new(0);
const BETWEEN_LOOKS: (u32, u32) = (8, 256);

/// What is recorded, and of which Python.
pub(super) fn set(minor: u8, sampled: bool) {
    MINOR.store(minor, Ordering::Relaxed);
    SAMPLED.store(sampled, Ordering::Relaxed);
}

/// The minor version of the Python that is recorded.
pub(super) fn minor() -> u8 {
    MINOR.load(Ordering::Relaxed)
}

/// Whether only samples are recorded.
pub(super) fn is_sampled() -> bool {
    SAMPLED.load(Ordering::Relaxed)
}

/// malloc has handed out a block, at the outermost.
#[cold]
#[inline(never)]
pub(super) fn allocated(own: *mut Own, block: u64, size: u64) {
    // SAFETY: this thread's words.
    unsafe { (*own).outer = 0 };
    let sampled = is_sampled();
    if block == 0 || sampled && !sample::is_due_of_malloc(own, size as usize) {
        return;
    }
    let thread = python::thread_with_gil();
    if thread == 0 {
        if sampled {
            sample::remember(own, block);
        }
        return alloc_beside(own, block, size, Domain::Malloc);
    }
    // SAFETY: this thread has the GIL.
    unsafe { hooks::record_malloc(own, minor(), sampled, block, size) };
    // Read and written without care: what is lost is a look.
    let until = UNTIL_LOOK.load(Ordering::Relaxed);
    if until == 0 {
        let next = if start::has_greeted() { BETWEEN_LOOKS.1 } else { BETWEEN_LOOKS.0 };
        UNTIL_LOOK.store(next, Ordering::Relaxed);
        busy(own, start::look);
    } else {
        UNTIL_LOOK.store(until - 1, Ordering::Relaxed);
    }
}

/// malloc is about to be given a block back, at the outermost. Returns whether that was written.
#[cold]
#[inline(never)]
pub(super) fn freed(own: *mut Own, block: u64, moved: bool) -> bool {
    if is_sampled() && !sample::may_be(block) {
        return false;
    }
    // A realloc's free and what follows it are the same thread's.
    let has_gil = match moved {
        true => turn::enters(own, minor()),
        false => turn::has_lane(own),
    };
    if has_gil {
        super::codes::freed(block);
    }
    if is_sampled() && !sample::forget(own, block) {
        return false;
    }
    match has_gil {
        // SAFETY: this thread has the GIL.
        true => unsafe {
            hooks::count_malloc();
            (*gil()).free(block, moved)
        },
        false => free_beside(own, block, moved),
    }
    true
}

#[cold]
fn kept(own: *mut Own, block: u64) {
    if is_sampled() {
        sample::remember(own, block);
    }
    on(own, turn::has_lane(own), |lane| lane.escape(escape::KEPT, &[]));
}

/// Calls the real function, and then tells of the block.
#[inline(always)]
fn handing_out(size: usize, call: impl FnOnce() -> Pointer) -> Pointer {
    let own = own();
    // SAFETY: this thread's words.
    unsafe {
        let depth = (*own).depth;
        if depth >= BUSY || !is_active() {
            let block = call();
            if depth == 0 && state::mode() == state::WAITING {
                wait::count(own);
            }
            return block;
        }
        (*own).depth = depth + BUSY;
        let block = call();
        (*own).depth = depth;
        if depth == 0 {
            allocated(own, block as u64, size as u64);
        } else if !block.is_null() {
            within::note(own, block as u64, size as u64);
        }
        block
    }
}

/// Tells of a block that is given back. Returns whether it was an event of its own.
#[inline(always)]
fn giving_back(own: *mut Own, block: Pointer, moved: bool) -> bool {
    // SAFETY: this thread's words.
    let depth = unsafe { (*own).depth };
    if block.is_null() || depth >= BUSY || !is_active() {
        return false;
    }
    if depth == 0 {
        return !within::was_told(own, block as u64) && freed(own, block as u64, moved);
    }
    within::unnote(own, block as u64, moved);
    false
}

/// `malloc(3)`.
///
/// # Safety
///
/// As the real one; so for all of the family.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn malloc(size: usize) -> Pointer {
    // SAFETY: the caller's request.
    handing_out(size, || unsafe { real::malloc(size) }.unwrap_or_else(|| real::early(size)))
}

/// `calloc(3)`.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> Pointer {
    let bytes = count.saturating_mul(size);
    handing_out(bytes, || {
        // SAFETY: the caller's request.
        unsafe { real::calloc(count, size) }.unwrap_or_else(|| real::early(bytes))
    })
}

/// `realloc(3)`.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn realloc(block: Pointer, size: usize) -> Pointer {
    if real::is_early(block) {
        // SAFETY: one of our own.
        return unsafe { real::moved_from_early(block, size) };
    }
    let own = own();
    let told = giving_back(own, block, true);
    // SAFETY: the caller's request.
    let to =
        handing_out(size, || unsafe { real::realloc(block, size) }.unwrap_or(std::ptr::null_mut()));
    // Where nothing is asked for, the block is freed and nothing comes back.
    if told && to.is_null() && size != 0 {
        kept(own, block as u64);
    }
    to
}

/// `reallocarray(3)`.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn reallocarray(block: Pointer, count: usize, size: usize) -> Pointer {
    match count.checked_mul(size) {
        // SAFETY: the caller's request.
        Some(bytes) => unsafe { realloc(block, bytes) },
        None => {
            // SAFETY: this thread's errno.
            unsafe { *libc::__errno_location() = libc::ENOMEM };
            std::ptr::null_mut()
        }
    }
}

/// `free(3)`.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn free(block: Pointer) {
    if real::is_early(block) {
        return;
    }
    let own = own();
    giving_back(own, block, false);
    // What an allocator unmaps is no mapping of the program's.
    // SAFETY: this thread's words; the caller's block.
    unsafe {
        (*own).depth += BUSY;
        real::free(block);
        (*own).depth -= BUSY;
    }
}

macro_rules! aligned {
    ($($name:ident($($arg:ident: $kind:ty),*) $size:ident;)*) => {
        $(
            /// Of the malloc family.
            ///
            /// # Safety
            ///
            /// As the real one.
            #[cfg_attr(not(test), unsafe(no_mangle))]
            pub unsafe extern "C" fn $name($($arg: $kind),*) -> Pointer {
                // SAFETY: the caller's request.
                handing_out($size, || unsafe { real::$name($($arg),*) }.unwrap_or(std::ptr::null_mut()))
            }
        )*
    };
}

aligned! {
    memalign(align: usize, size: usize) size;
    aligned_alloc(align: usize, size: usize) size;
    valloc(size: usize) size;
    pvalloc(size: usize) size;
}

/// `posix_memalign(3)`.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn posix_memalign(into: *mut Pointer, align: usize, size: usize) -> c_int {
    let mut failed = libc::ENOMEM;
    let block = handing_out(size, || {
        let mut block = std::ptr::null_mut();
        // SAFETY: the caller's request.
        failed = unsafe { real::posix_memalign(&mut block, align, size) }.unwrap_or(libc::ENOMEM);
        block
    });
    if failed == 0 {
        // SAFETY: the caller's place for it.
        unsafe { *into = block };
    }
    failed
}

/// A mapping of the program's own: not an allocator's, and not ours.
fn mapping(own: *mut Own, number: u8, address: u64, length: u64, with_stack: bool) {
    busy(own, || {
        let thread = python::thread_with_gil();
        let lane = gil();
        // SAFETY: this thread has the GIL where it has a state.
        let node = unsafe { (thread != 0).then(|| hooks::node(own, minor(), thread)).flatten() };
        let numbers = [address, length, node.unwrap_or(NO_GIL).into()];
        let numbers = &numbers[..if with_stack { 3 } else { 2 }];
        match node {
            Some(_) => {
                // SAFETY: the GIL.
                unsafe { (*lane).escape(number, numbers) };
                // pymalloc asks for an arena, and its hooks are not called: they may have gone.
                start::look();
            }
            None => beside(own, |lane| lane.escape(number, numbers)),
        }
    });
}

/// `mmap(2)`.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mmap(
    at: Pointer,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: c_long,
) -> Pointer {
    // Before it is found, as the C library passes it on.
    // SAFETY: the caller's request.
    let mapped = unsafe {
        real::mmap(at, length, protection, flags, fd, offset).unwrap_or_else(|| {
            libc::syscall(libc::SYS_mmap, at, length, protection, flags, fd, offset) as usize
                as Pointer
        })
    };
    let own = own();
    // SAFETY: this thread's words.
    if is_active() && unsafe { (*own).depth } == 0 && mapped != libc::MAP_FAILED {
        mapping(own, escape::MAPPED, mapped as u64, length as u64, true);
    }
    mapped
}

/// `mmap64(2)`, which is the same.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn mmap64(
    at: Pointer,
    length: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
    offset: c_long,
) -> Pointer {
    // SAFETY: the caller's request.
    unsafe { mmap(at, length, protection, flags, fd, offset) }
}

/// `munmap(2)`.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn munmap(at: Pointer, length: usize) -> c_int {
    let own = own();
    // SAFETY: this thread's words.
    if is_active() && unsafe { (*own).depth } == 0 {
        mapping(own, escape::UNMAPPED, at as u64, length as u64, false);
    }
    // SAFETY: the caller's request.
    unsafe {
        real::munmap(at, length)
            .unwrap_or_else(|| libc::syscall(libc::SYS_munmap, at, length) as c_int)
    }
}

/// `fork(2)`.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn fork() -> c_int {
    // SAFETY: the caller's request.
    let child = unsafe { real::fork() }.unwrap_or(-1);
    if child > 0 && is_active() {
        let own = own();
        on(own, turn::has_lane(own), |lane| lane.escape(escape::FORKED, &[child as u64]));
    }
    child
}

/// `_exit(2)`: no destructor runs then.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn _exit(code: c_int) -> ! {
    start::end();
    // SAFETY: the caller's request.
    unsafe {
        real::_exit(code);
        libc::syscall(libc::SYS_exit_group, code);
    }
    unreachable!()
}

/// `execve(2)`: what was recorded is written before all memory goes.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn execve(
    file: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    start::save();
    // SAFETY: the caller's request.
    unsafe { real::execve(file, argv, envp) }.unwrap_or(-1)
}

/// `execv(3)`.
///
/// # Safety
///
/// As the real one.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn execv(file: *const c_char, argv: *const *const c_char) -> c_int {
    start::save();
    // SAFETY: the caller's request.
    unsafe { real::execv(file, argv) }.unwrap_or(-1)
}
