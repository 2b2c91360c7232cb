//! Symbols of the C library in the versions that glibc 2.28 has, whatever the machine that builds has.
//!
//! `build.rs` has the linker take `__wrap_X` for each X here. Most are jumps to the old version of the same function,
//! which glibc keeps for ever. Those that 2.28 lacks are made of what it has. `tests/library.rs` reads the library and
//! fails where a newer version is needed: then X goes here and there.

use std::arch::global_asm;
use std::ffi::{c_int, c_void};

/// A stub that jumps to `$symbol` in `$version`.
macro_rules! old {
    ($($symbol:literal $version:literal),* $(,)?) => {
        $(global_asm!(
            concat!(".section .text.__wrap_", $symbol, ",\"ax\",@progbits"),
            concat!(".symver __old_", $symbol, ", ", $symbol, "@", $version),
            concat!(".globl __wrap_", $symbol),
            concat!(".hidden __wrap_", $symbol),
            concat!(".type __wrap_", $symbol, ",@function"),
            concat!("__wrap_", $symbol, ":"),
            concat!("jmp *__old_", $symbol, "@GOTPCREL(%rip)"),
            concat!(".size __wrap_", $symbol, ", . - __wrap_", $symbol),
            ".text",
            options(att_syntax)
        );)*
    };
}

old! {
    "__pthread_key_create" "GLIBC_2.2.5",
    "dladdr" "GLIBC_2.2.5",
    "dlclose" "GLIBC_2.2.5",
    "dlerror" "GLIBC_2.2.5",
    "dlopen" "GLIBC_2.2.5",
    "dlsym" "GLIBC_2.2.5",
    "dlvsym" "GLIBC_2.2.5",
    "pthread_attr_getguardsize" "GLIBC_2.2.5",
    "pthread_attr_getstack" "GLIBC_2.2.5",
    "pthread_attr_setguardsize" "GLIBC_2.2.5",
    "pthread_attr_setstacksize" "GLIBC_2.2.5",
    "pthread_create" "GLIBC_2.2.5",
    "pthread_detach" "GLIBC_2.2.5",
    "pthread_getattr_np" "GLIBC_2.2.5",
    "pthread_getspecific" "GLIBC_2.2.5",
    "pthread_join" "GLIBC_2.2.5",
    "pthread_key_create" "GLIBC_2.2.5",
    "pthread_key_delete" "GLIBC_2.2.5",
    "pthread_once" "GLIBC_2.2.5",
    "pthread_setname_np" "GLIBC_2.12",
    "pthread_setspecific" "GLIBC_2.2.5",
    "pthread_sigmask" "GLIBC_2.2.5",
}

/// A stub that goes to a function of ours.
macro_rules! ours {
    ($($symbol:literal $function:ident),* $(,)?) => {
        $(global_asm!(
            concat!(".section .text.__wrap_", $symbol, ",\"ax\",@progbits"),
            concat!(".globl __wrap_", $symbol),
            concat!(".hidden __wrap_", $symbol),
            concat!(".type __wrap_", $symbol, ",@function"),
            concat!("__wrap_", $symbol, ":"),
            "jmp {0}",
            concat!(".size __wrap_", $symbol, ", . - __wrap_", $symbol),
            ".text",
            sym $function,
            options(att_syntax)
        );)*
    };
}

ours! {
    "_dl_find_object" find_object,
    "fstat64" fstat64,
    "gettid" gettid,
    "lstat64" lstat64,
    "stat64" stat64,
}

// Functions since glibc 2.33; before, `sys/stat.h` had them call these, with the version of `struct stat64`.
unsafe extern "C" {
    fn __fxstat64(version: c_int, fd: c_int, into: *mut c_void) -> c_int;
    fn __lxstat64(version: c_int, path: *const c_void, into: *mut c_void) -> c_int;
    fn __xstat64(version: c_int, path: *const c_void, into: *mut c_void) -> c_int;
}

/// `_STAT_VER_LINUX` of x86-64.
const STAT_VERSION: c_int = 1;

unsafe extern "C" fn fstat64(fd: c_int, into: *mut c_void) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { __fxstat64(STAT_VERSION, fd, into) }
}

unsafe extern "C" fn lstat64(path: *const c_void, into: *mut c_void) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { __lxstat64(STAT_VERSION, path, into) }
}

unsafe extern "C" fn stat64(path: *const c_void, into: *mut c_void) -> c_int {
    // SAFETY: the caller's arguments, as they are.
    unsafe { __xstat64(STAT_VERSION, path, into) }
}

/// Since glibc 2.30.
extern "C" fn gettid() -> libc::pid_t {
    // SAFETY: a call without arguments that only returns a number.
    (unsafe { libc::syscall(libc::SYS_gettid) }) as libc::pid_t
}

/// `struct dl_find_object` of `dlfcn.h`, x86-64.
#[repr(C)]
struct FoundObject {
    flags: u64,
    start: *const c_void,
    end: *const c_void,
    link_map: *const c_void,
    eh_frame: *const c_void,
    reserved: [u64; 7],
}

/// What the unwinder asks, since glibc 2.35: which loaded object an address is in, and where its `.eh_frame_hdr` is.
/// Answered as the unwinder did it before, by a walk over all of them.
unsafe extern "C" fn find_object(pc: *const c_void, into: *mut FoundObject) -> c_int {
    struct Search {
        pc: u64,
        into: *mut FoundObject,
    }
    unsafe extern "C" fn each(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader's description of an object that stays while we look, and the search given below.
        let (info, search, headers) = unsafe {
            let info = &*info;
            let headers = match info.dlpi_phdr.is_null() {
                true => &[][..],
                false => std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)),
            };
            (info, &*search.cast::<Search>(), headers)
        };
        let of = |kind: u32| headers.iter().filter(move |h| h.p_type == kind);
        let range = |h: &libc::Elf64_Phdr| {
            let start = info.dlpi_addr.wrapping_add(h.p_vaddr);
            (start, start.wrapping_add(h.p_memsz))
        };
        let loaded = || of(libc::PT_LOAD).map(range);
        if !loaded().any(|(start, end)| (start..end).contains(&search.pc)) {
            return 0;
        }
        let Some(frames) = of(libc::PT_GNU_EH_FRAME).next() else { return 0 };
        let pointer = |at: u64| at as usize as *const c_void;
        // SAFETY: the caller's structure.
        unsafe {
            *search.into = FoundObject {
                flags: 0,
                start: pointer(loaded().map(|r| r.0).min().unwrap_or(0)),
                end: pointer(loaded().map(|r| r.1).max().unwrap_or(0)),
                link_map: std::ptr::null(),
                eh_frame: pointer(range(frames).0),
                reserved: [0; 7],
            };
        }
        1
    }
    let mut search = Search { pc: pc as usize as u64, into };
    // SAFETY: `each` is called during the call only, with this search.
    let found = unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut search).cast()) };
    if found == 1 { 0 } else { -1 }
}
