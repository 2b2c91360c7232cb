//! Words of this process at an address, and giving OS pages back. The only file that follows a number
//! as a pointer.

use crate::python::Held;

/// Reads a plain value.
///
/// # Safety
///
/// `address` is aligned for `T` and lies in memory that is mapped and stays so: pymalloc's own variables,
/// an `arena_object` in use, or a pool of an arena in use, each of which only changes under the GIL.
pub(crate) unsafe fn get<T: Copy>(_: &Held, address: u64) -> T {
    // SAFETY: the caller's promise; volatile because C code owns it.
    unsafe { std::ptr::read_volatile(address as usize as *const T) }
}

/// Writes a plain value.
///
/// # Safety
///
/// As [`get`], and the memory may be written.
pub(crate) unsafe fn put<T: Copy>(_: &Held, address: u64, value: T) {
    // SAFETY: the caller's promise.
    unsafe { std::ptr::write_volatile(address as usize as *mut T, value) };
}

/// Gives OS pages back: they read as zeros until written. Returns whether the kernel took them.
///
/// # Safety
///
/// `start..end` are whole OS pages of private anonymous memory of an arena in use, and nobody needs a byte
/// of them.
pub(crate) unsafe fn drop_pages(_: &Held, start: u64, end: u64) -> bool {
    let (at, length) = (start as usize as *mut libc::c_void, (end - start) as usize);
    // SAFETY: the caller's promise.
    unsafe { libc::madvise(at, length, libc::MADV_DONTNEED) == 0 }
}
