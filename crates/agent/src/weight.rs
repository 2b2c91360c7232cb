//! The agent's own weight: its code is resident while it works, and goes when the work is done.

use std::ffi::{c_int, c_void};

use crate::pages::OS_PAGE;

/// Gives back the OS pages of this library's code and constants: they are the file's, and come back from there when
/// they are used again.
pub(crate) fn lay_down() {
    // SAFETY: `each` is called during the call only.
    unsafe { libc::dl_iterate_phdr(Some(each), std::ptr::null_mut()) };
}

unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the loader's description of an object, which stays while we look.
    let (base, headers) = unsafe {
        let info = &*info;
        let headers = match info.dlpi_phdr.is_null() {
            true => &[][..],
            false => std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)),
        };
        (info.dlpi_addr, headers)
    };
    let loaded = || headers.iter().filter(|h| h.p_type == libc::PT_LOAD);
    let here = lay_down as *const () as usize as u64;
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
        if start < end {
            let at = start as usize as *mut c_void;
            // SAFETY: pages of a file that are mapped private and cannot be written to: what is read there after is
            // what was read there before.
            unsafe { libc::madvise(at, (end - start) as usize, libc::MADV_DONTNEED) };
        }
    }
    1
}
