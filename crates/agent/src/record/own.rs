//! What the recorder keeps per thread: whether it is inside an allocation already, and what that one has caused.
//!
//! Thread-local, of the initial-exec kind, which costs one load and never allocates; what Rust has for it does both in a
//! library that is loaded. So it is laid out by hand. Zero at a thread's start.

use std::arch::{asm, global_asm};

/// Blocks that an allocator takes from malloc within one call, which are kept until it is known which is the call's own.
pub(super) const INNER: usize = 6;
/// This thread is inside the recorder: nothing that it does is recorded. Any depth from here on.
pub(super) const BUSY: u32 = 1 << 16;

/// A thread's own words.
#[repr(C)]
pub(super) struct Own {
    /// Calls of allocators that it is inside of (of a free only where that has to be known); from [`BUSY`] on, the recorder
    /// itself.
    pub(super) depth: u32,
    /// How many of `inner` are taken.
    pub(super) inners: u32,
    /// Where its current `PyThreadState` stands, once that was found: see [`super::current`].
    pub(super) current: u64,
    /// What the outermost call gives back, if it does; after a free, until malloc is given it or hands something out.
    pub(super) outer: u64,
    /// Bytes until the next sample.
    pub(super) left: i64,
    /// The generator of random numbers.
    pub(super) random: u64,
    /// The kernel's id of it, once it was asked.
    pub(super) tid: u32,
    /// How often its stack was looked for.
    pub(super) looks: u32,
    /// The lowest and the highest address of its stack, once they were looked up.
    pub(super) stack: (u64, u64),
    /// Allocations until it is looked whether somebody asks for a recording.
    pub(super) until: i64,
    /// Bytes that malloc itself has counted for a sample.
    pub(super) mallocs: u64,
    /// Address and size of what malloc handed out within the outermost call.
    pub(super) inner: [(u64, u64); INNER],
}

global_asm!(
    ".section .tbss,\"awT\",@nobits",
    ".globl pydefrag_record_own",
    ".hidden pydefrag_record_own",
    ".type pydefrag_record_own,@object",
    ".p2align 4",
    "pydefrag_record_own: .zero {size}",
    ".size pydefrag_record_own,{size}",
    ".text",
    size = const std::mem::size_of::<Own>(),
);

/// This thread's.
#[inline(always)]
pub(super) fn own() -> *mut Own {
    let at: *mut Own;
    // SAFETY: the x86-64 ABI's way to a variable of initial-exec thread-local storage; touches no memory but the table that
    // holds its offset, which the loader has filled, and the thread's own pointer.
    unsafe {
        asm!(
            "mov {at}, qword ptr [rip + pydefrag_record_own@GOTTPOFF]",
            "add {at}, qword ptr fs:[0]",
            at = out(reg) at,
            options(pure, readonly, nostack),
        );
    }
    at
}

/// Runs `work` as the recorder: nothing that it allocates is recorded, and errno is as it was: `free` leaves it alone, and
/// whoever allocates may look at it after.
#[inline(always)]
pub(super) fn busy<R>(own: *mut Own, work: impl FnOnce() -> R) -> R {
    // SAFETY: this thread's own words, and its errno.
    let errno = unsafe {
        (*own).depth += BUSY;
        *libc::__errno_location()
    };
    let done = work();
    // SAFETY: the same.
    unsafe {
        *libc::__errno_location() = errno;
        (*own).depth -= BUSY;
    }
    done
}

/// The kernel's id of this thread.
pub(super) fn tid(own: *mut Own) -> u32 {
    // SAFETY: this thread's own words; a system call without arguments.
    unsafe {
        if (*own).tid == 0 {
            (*own).tid = libc::syscall(libc::SYS_gettid) as u32;
        }
        (*own).tid
    }
}
