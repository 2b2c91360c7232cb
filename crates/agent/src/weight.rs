//! The agent's own weight: its code is resident while it works, and goes when the work is done.
//!
//! What runs while there is nothing to do lies apart, in the section `pydefrag_idle`, and in a mapping of its own: the
//! kernel brings back the neighbours of a page of code too, as many as its cache has in one piece, but none of another
//! mapping. Invariant: whoever was called from outside (Python's `call`, the thread's round) lays the code down last
//! of all, from that section.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::pages::OS_PAGE;

/// Segments that are looked for; a library has two or three that are not written to.
const MOST: usize = 4;

/// Much of the code has been run since it was laid down; being loaded is work too.
static WORKED: AtomicBool = AtomicBool::new(true);
static SEGMENTS: OnceLock<Segments> = OnceLock::new();

unsafe extern "C" {
    // Where the section begins and ends: the linker says.
    static __start_pydefrag_idle: u8;
    static __stop_pydefrag_idle: u8;
}

/// Whole OS pages of code and constants: address and length.
#[derive(Default, Clone, Copy)]
struct Segments {
    found: [(u64, u64); MOST],
    count: usize,
}

/// Says that much of the code is run now.
pub(crate) fn take_up() {
    WORKED.store(true, Ordering::Relaxed);
}

/// Gives back the OS pages of this library's code and constants: they are the file's, and come back from there when
/// they are used again.
#[unsafe(link_section = "pydefrag_idle")]
#[inline(never)]
pub(crate) fn lay_down() {
    if !WORKED.swap(false, Ordering::Relaxed) {
        return;
    }
    let segments = match SEGMENTS.get() {
        Some(segments) => segments,
        None => SEGMENTS.get_or_init(segments),
    };
    for (at, length) in segments.found.iter().take(segments.count) {
        advise(*at, *length, libc::MADV_DONTNEED);
    }
}

#[inline(always)]
fn advise(at: u64, length: u64, advice: c_int) {
    // SAFETY: pages of a file that are mapped private and cannot be written to: what is read there after is what was
    // read there before.
    unsafe { libc::madvise(at as usize as *mut c_void, length as usize, advice) };
}

/// This library's segments that cannot be written to; has the idle section's pages mapped apart.
#[inline(never)]
fn segments() -> Segments {
    let mut segments = Segments::default();
    // SAFETY: `each` is called during the call only, with a pointer to what is on this stack.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut segments).cast()) };
    let (start, stop) = (&raw const __start_pydefrag_idle, &raw const __stop_pydefrag_idle);
    let (start, stop) = (start as usize as u64 / OS_PAGE * OS_PAGE, stop as usize as u64);
    let stop = stop.next_multiple_of(OS_PAGE);
    let within = |(at, length): &&(u64, u64)| *at <= start && stop <= at + length;
    if segments.found.iter().take(segments.count).find(within).is_some() {
        // Any advice that is kept with a mapping divides it; this one says not to read ahead.
        advise(start, stop - start, libc::MADV_RANDOM);
    }
    segments
}

unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _: usize, into: *mut c_void) -> c_int {
    // SAFETY: the loader's description of an object, which stays while we look; `segments` passes what it owns.
    let (base, headers, into) = unsafe {
        let info = &*info;
        let headers = match info.dlpi_phdr.is_null() {
            true => &[][..],
            false => std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)),
        };
        (info.dlpi_addr, headers, &mut *into.cast::<Segments>())
    };
    let loaded = || headers.iter().filter(|h| h.p_type == libc::PT_LOAD);
    let here = each as *const () as usize as u64;
    let range = |h: &libc::Elf64_Phdr| {
        let start = base.wrapping_add(h.p_vaddr);
        (start, start.wrapping_add(h.p_filesz))
    };
    if !loaded().map(range).any(|(start, end)| (start..end).contains(&here)) {
        return 0;
    }
    for (start, end) in loaded().filter(|h| h.p_flags & libc::PF_W == 0).map(range) {
        // A page that two segments share is left: the other one may be written to.
        let (start, end) = (start.next_multiple_of(OS_PAGE), end / OS_PAGE * OS_PAGE);
        if start < end && into.count < MOST {
            into.found[into.count] = (start, end - start);
            into.count += 1;
        }
    }
    1
}
