//! Where CPython keeps the state of the thread that runs, so that it is read without a call at every allocation.
//!
//! What is asked is a function of CPython's, which is a few instructions long: it reads a variable, which is one for all threads
//! up to 3.11 and each thread's own from 3.12 on. The forms that GCC gives it are known, and the variable is read directly where
//! one of them is found, and says what the function says. Every other is called.
//!
//! Invariant: a place is kept only for the thread that it was found in.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lane::Shared;
use super::own::Own;

/// What `_PyThreadState_UncheckedGet` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The variable whose address is here.
    At(usize),
    /// So many bytes on from a pointer that is kept here.
    Behind(usize, i32),
    /// So far from the thread's pointer.
    Thread(i32),
    /// The thread-local variable that this `tls_index` names.
    Index(usize),
}

/// The function: `PyThreadState *f(void)`, without preconditions.
static FUNCTION: AtomicUsize = AtomicUsize::new(0);
static FORM: Shared<Option<Form>> = Shared::new(None);

unsafe extern "C" {
    /// The dynamic linker's, for variables of a library that are each thread's own.
    fn __tls_get_addr(index: *const c_void) -> *mut c_void;
}

/// Asks this function from now on.
///
/// # Safety
///
/// It is `PyThreadState *f(void)`, without preconditions, and nobody asks yet.
pub(super) unsafe fn set_function(at: usize) {
    // SAFETY: the bytes of a function, as far as they are those of a known form; the caller's promise.
    unsafe { *FORM.get() = form(at, |i| *((at + i) as *const u8)) };
    FUNCTION.store(at, Ordering::Relaxed);
}

/// Whether it is known what to ask.
pub(super) fn is_known() -> bool {
    FUNCTION.load(Ordering::Relaxed) != 0
}

/// The state of the thread that runs: from 3.12 on this thread's, if it has the GIL; before, whoever's has it.
#[inline(always)]
pub(super) fn thread(own: *mut Own) -> u64 {
    // SAFETY: this thread's words; the place is one that `look` found in this thread.
    unsafe {
        match (*own).current {
            0 => look(own),
            at => std::ptr::read_volatile(at as usize as *const u64),
        }
    }
}

/// The same, by the function.
pub(super) fn ask() -> u64 {
    // SAFETY: what `set_function` was given.
    unsafe {
        let get: unsafe extern "C" fn() -> u64 =
            std::mem::transmute(FUNCTION.load(Ordering::Relaxed));
        get()
    }
}

/// The same, and remembers for this thread where it stands.
#[cold]
#[inline(never)]
fn look(own: *mut Own) -> u64 {
    let said = ask();
    // SAFETY: what the function itself does; this thread's words.
    unsafe {
        if said != 0
            && let Some(form) = *FORM.get()
        {
            let at = match form {
                Form::At(at) => at,
                Form::Behind(at, bytes) => {
                    (*(at as *const usize)).wrapping_add_signed(bytes as isize)
                }
                Form::Thread(bytes) => thread_pointer().wrapping_add_signed(bytes as isize),
                Form::Index(at) => __tls_get_addr(at as *const c_void) as usize,
            };
            if std::ptr::read_volatile(at as *const u64) == said {
                (*own).current = at as u64;
            }
        }
    }
    said
}

/// The thread's pointer (`fs`).
fn thread_pointer() -> usize {
    let at: usize;
    // SAFETY: the x86-64 ABI keeps it in the word that it points to.
    unsafe {
        std::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) at, options(pure, readonly, nostack))
    };
    at
}

/// The form of a function at an address, whose bytes are looked at one after the other, and none behind its end.
fn form(at: usize, byte: impl Fn(usize) -> u8) -> Option<Form> {
    /// In a pattern: four bytes of any value.
    const ANY: &[u8] = &[];
    const ENDBR: [u8; 4] = [0xF3, 0x0F, 0x1E, 0xFA];
    let from = if (0..4).all(|i| byte(i) == ENDBR[i]) { 4 } else { 0 };
    // Reads one pattern: the numbers in it, each with the place behind it.
    let read = |pattern: &[&[u8]]| {
        let (mut i, mut numbers) = (from, [(0_i32, 0_usize); 2]);
        let mut n = 0;
        for part in pattern {
            if part.is_empty() {
                let bytes = [byte(i), byte(i + 1), byte(i + 2), byte(i + 3)];
                i += 4;
                numbers[n] = (i32::from_le_bytes(bytes), at + i);
                n += 1;
                continue;
            }
            for expected in *part {
                if byte(i) != *expected {
                    return None;
                }
                i += 1;
            }
        }
        Some(numbers)
    };
    let address = |(number, behind): (i32, usize)| behind.wrapping_add_signed(number as isize);
    // mov rax, [rip + …]; ret
    if let Some([variable, _]) = read(&[&[0x48, 0x8B, 0x05], ANY, &[0xC3]]) {
        return Some(Form::At(address(variable)));
    }
    // mov rax, [rip + …]; mov rax, [rax + …]; ret
    if let Some([pointer, bytes]) =
        read(&[&[0x48, 0x8B, 0x05], ANY, &[0x48, 0x8B, 0x80], ANY, &[0xC3]])
    {
        return Some(Form::Behind(address(pointer), bytes.0));
    }
    // mov rax, fs:[…]; ret
    if let Some([bytes, _]) = read(&[&[0x64, 0x48, 0x8B, 0x04, 0x25], ANY, &[0xC3]]) {
        return Some(Form::Thread(bytes.0));
    }
    // sub rsp, 8; data16 lea rdi, [rip + …]; data16 data16 rex.W call __tls_get_addr; mov rax, [rax]; add rsp, 8; ret
    let (lea, call) = ([0x66, 0x48, 0x8D, 0x3D], [0x66, 0x66, 0x48, 0xE8]);
    let (grow, shrink) = ([0x48, 0x83, 0xEC, 8], [0x48, 0x8B, 0, 0x48, 0x83, 0xC4, 8, 0xC3]);
    if let Some([index, _]) = read(&[&grow, &lea, ANY, &call, ANY, &shrink]) {
        return Some(Form::Index(address(index)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Option<Form> {
        // A byte behind the end is a failed test.
        form(0x1000, |i| bytes[i])
    }

    #[test]
    fn the_forms_are_those_of_builds() {
        // 3.10 and 3.11, shared; 3.11 in an executable.
        let behind = [0x48, 0x8B, 5, 0x69, 0xE2, 0x1A, 0, 0x48, 0x8B, 0x80, 0x40, 2, 0, 0, 0xC3];
        assert_eq!(of(&behind), Some(Form::Behind(0x1007 + 0x1A_E269, 0x240)));
        let at = [0xF3, 0x0F, 0x1E, 0xFA, 0x48, 0x8B, 5, 0xF0, 0xFF, 0xFF, 0xFF, 0xC3];
        assert_eq!(of(&at), Some(Form::At(0x100B - 0x10)));
        // 3.13 and 3.14 in an executable.
        let thread =
            [0xF3, 0x0F, 0x1E, 0xFA, 0x64, 0x48, 0x8B, 4, 0x25, 0xE8, 0xFF, 0xFF, 0xFF, 0xC3];
        assert_eq!(of(&thread), Some(Form::Thread(-24)));
        // 3.12 and 3.13, shared.
        let mut index = vec![0x48, 0x83, 0xEC, 8, 0x66, 0x48, 0x8D, 0x3D, 0x14, 0x7B, 0x25, 0];
        index.extend([0x66, 0x66, 0x48, 0xE8, 0x7C, 0x4F, 0xDF, 0xFF]);
        index.extend([0x48, 0x8B, 0, 0x48, 0x83, 0xC4, 8, 0xC3]);
        assert_eq!(of(&index), Some(Form::Index(0x100C + 0x25_7B14)));
    }

    #[test]
    fn another_function_has_none() {
        // With a check before; with more after; a jump.
        assert_eq!(of(&[0x48, 0x8B, 5, 0, 0, 0, 0, 0x48, 0x85, 0xC0]), None);
        assert_eq!(of(&[0x64, 0x48, 0x8B, 4, 0x25, 0, 0, 0, 0, 0x90]), None);
        assert_eq!(of(&[0xE9]), None);
        assert_eq!(of(&[0xF3, 0x0F, 0x1E, 0xFB]), None);
    }
}
