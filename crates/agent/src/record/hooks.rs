//! Hooks on Python's allocators: the MEM and OBJ domains.
//!
//! Each calls the functions that were there before it, and then, if it is the outermost call of an allocator in this
//! thread, writes an event. What those functions take from malloc within the call is the call's own block where it is at
//! the same place; what is not (pymalloc's tables, tracemalloc's) is an event of malloc's.
//!
//! Invariant: Python calls these with the GIL held. What has no thread state all the same, or belongs to an interpreter
//! with a GIL of its own, goes to the other lane.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use pydefrag_trace::event::{Domain, escape};

use super::codes;
use super::current::thread;
use super::lane::{Lane, alloc_beside, beside, free_beside, gil};
use super::own::{Own, own};
use super::plain;
use super::python::{self, Allocator};
use super::sample;
use super::stack;
use super::state::{self, is_active};
use super::turn::{enter, is_other};
use super::wait;
use super::within::others;

type Pointer = *mut c_void;

/// Events of the GIL's lane that were malloc's own.
static MALLOCS: AtomicU64 = AtomicU64::new(0);

/// The hooks of a version, over what `ctx` points to: [`super::installed`] says which.
pub(super) fn table(minor: u8, sampled: bool, ctx: Pointer, jumps: bool) -> Option<Allocator> {
    macro_rules! of {
        ($($minor:literal)*) => {
            match (minor, sampled) {
                $(($minor, false) => Some(functions::<$minor, false>(ctx, jumps)),)*
                $(($minor, true) => Some(functions::<$minor, true>(ctx, jumps)),)*
                _ => None,
            }
        };
    }
    of!(8 9 10 11 12 13 14 15)
}

fn functions<const V: u8, const S: bool>(ctx: Pointer, jumps: bool) -> Allocator {
    Allocator {
        ctx,
        malloc: Some(malloc::<V, S>),
        calloc: Some(calloc::<V, S>),
        realloc: Some(realloc::<V, S>),
        free: Some(if jumps { free::<V, S> } else { free_within::<V, S> }),
    }
}

unsafe extern "C" fn malloc<const V: u8, const S: bool>(ctx: Pointer, size: usize) -> Pointer {
    // SAFETY: the table that was there before.
    unsafe {
        if !S {
            return malloc_told::<V, S>(ctx, size);
        }
        if plain::has(size) {
            let own = own();
            if (*own).depth == 0 && sample::passes(own, size) {
                let before = &*ctx.cast::<Allocator>();
                return (before.malloc.unwrap_unchecked())(before.ctx, size);
            }
        }
        malloc_maybe::<V>(ctx, size)
    }
}

/// A call of malloc that may be a sample, or of which that must be known. (What the hook is given is passed on as it is, which
/// costs nothing.)
///
/// # Safety
///
/// As `malloc`.
#[inline(never)]
unsafe extern "C" fn malloc_maybe<const V: u8>(ctx: Pointer, size: usize) -> Pointer {
    // SAFETY: the caller's promise.
    unsafe { malloc_told::<V, true>(ctx, size) }
}

#[inline(always)]
unsafe fn malloc_told<const V: u8, const S: bool>(ctx: Pointer, size: usize) -> Pointer {
    // SAFETY: as `malloc`.
    unsafe {
        let before = &*ctx.cast::<Allocator>();
        handing_out::<V, S>(size, || (before.malloc.unwrap_unchecked())(before.ctx, size))
    }
}

unsafe extern "C" fn calloc<const V: u8, const S: bool>(
    ctx: Pointer,
    count: usize,
    size: usize,
) -> Pointer {
    // SAFETY: as `malloc`.
    unsafe {
        let before = &*ctx.cast::<Allocator>();
        handing_out::<V, S>(count.wrapping_mul(size), || {
            (before.calloc.unwrap_unchecked())(before.ctx, count, size)
        })
    }
}

/// A call that hands a block out.
///
/// # Safety
///
/// As a hook is called.
#[inline(always)]
unsafe fn handing_out<const V: u8, const S: bool>(
    size: usize,
    call: impl FnOnce() -> Pointer,
) -> Pointer {
    let own = own();
    // SAFETY: this thread's words; the caller's promise.
    unsafe {
        // A sample is drawn before, so that most calls have nothing more to do after.
        let outermost = (*own).depth == 0;
        let due = S && outermost && sample::is_due(own, size);
        if S || !outermost {
            (*own).depth += 1;
            let block = call();
            (*own).depth -= 1;
            if S {
                plain::learn(size);
                if due || (*own).inners != 0 {
                    taken::<V>(own, block, size, due);
                }
            }
            return block;
        }
        (*own).depth = 1;
        let block = call();
        (*own).depth = 0;
        allocated::<V, S>(own, block, size)
    }
}

/// A call has handed out a block that is a sample, or has taken more from malloc.
///
/// # Safety
///
/// As a hook is called.
#[cold]
#[inline(never)]
unsafe fn taken<const V: u8>(own: *mut Own, block: Pointer, size: usize, due: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*own).depth == 0 && is_active() {
            if (*own).inners != 0 {
                plain::unlearn(own, block as u64, size);
                others(own, block as u64);
            }
            if due && !block.is_null() {
                record::<V, true>(own, block as u64, size as u64, Domain::Python);
            }
        }
    }
}

unsafe extern "C" fn realloc<const V: u8, const S: bool>(
    ctx: Pointer,
    block: Pointer,
    size: usize,
) -> Pointer {
    let own = own();
    // SAFETY: as `malloc`.
    unsafe {
        let before = &*ctx.cast::<Allocator>();
        if S && (*own).depth == 0 && !sample::may_be(block as u64) {
            // Nothing is to be told of the block that goes, whoever passes it on.
            (*own).depth = 1;
            let to = (before.realloc.unwrap_unchecked())(before.ctx, block, size);
            (*own).depth = 0;
            if (*own).inners == 0 && sample::passes(own, size) {
                return to;
            }
            return allocated_maybe::<V, S>(own, to, size);
        }
        let counts = (*own).depth == 0 && is_active();
        let told = counts && !block.is_null() && freed::<V, S>(own, block as u64, true);
        (*own).depth += 1;
        if counts {
            (*own).outer = block as u64;
        }
        let to = (before.realloc.unwrap_unchecked())(before.ctx, block, size);
        (*own).depth -= 1;
        if counts {
            (*own).outer = 0;
            if !to.is_null() {
                return allocated::<V, S>(own, to, size);
            }
            if told {
                kept::<V, S>(own, block as u64);
            }
        }
        to
    }
}

unsafe extern "C" fn free<const V: u8, const S: bool>(ctx: Pointer, block: Pointer) {
    // SAFETY: as `malloc`.
    unsafe {
        match S {
            true if sample::may_be(block as u64) => return giving_back::<V, S>(ctx, block),
            true => {}
            false => {
                let own = own();
                if (*own).depth == 0 && is_active() && !block.is_null() {
                    if is_other::<V>()
                        || codes::may_be(block as u64)
                        || !Lane::is_usual(block as u64, 0)
                    {
                        return giving_back::<V, S>(ctx, block);
                    }
                    (*own).outer = block as u64;
                    if (*gil()).free_usual(block as u64) {
                        return given_back(ctx, block);
                    }
                }
            }
        }
        let before = &*ctx.cast::<Allocator>();
        (before.free.unwrap_unchecked())(before.ctx, block)
    }
}

/// The same, where something below asks whether this thread is inside of a call.
unsafe extern "C" fn free_within<const V: u8, const S: bool>(ctx: Pointer, block: Pointer) {
    let own = own();
    // SAFETY: as `malloc`.
    unsafe {
        let counts = (*own).depth == 0 && is_active() && !block.is_null();
        if counts {
            freed::<V, S>(own, block as u64, false);
            (*own).outer = block as u64;
        }
        (*own).depth += 1;
        let before = &*ctx.cast::<Allocator>();
        (before.free.unwrap_unchecked())(before.ctx, block);
        (*own).depth -= 1;
        if counts {
            (*own).outer = 0;
            if (*own).inners != 0 {
                others(own, 0);
            }
        }
    }
}

/// A call that gives a block back, with all that may have to be done. Nothing is to be done after the call, so that it is a jump:
/// malloc knows the block for the one that is told here ([`Own::outer`]).
///
/// # Safety
///
/// As `free`.
#[cold]
#[inline(never)]
unsafe extern "C" fn giving_back<const V: u8, const S: bool>(ctx: Pointer, block: Pointer) {
    let own = own();
    // SAFETY: as `malloc`.
    unsafe {
        if (*own).depth == 0 && is_active() && !block.is_null() {
            freed::<V, S>(own, block as u64, false);
            (*own).outer = block as u64;
        }
        let before = &*ctx.cast::<Allocator>();
        (before.free.unwrap_unchecked())(before.ctx, block)
    }
}

/// The same, of a block that was told: only the clock is to be looked at.
///
/// # Safety
///
/// As `free`, with the GIL.
#[cold]
#[inline(never)]
unsafe extern "C" fn given_back(ctx: Pointer, block: Pointer) {
    // SAFETY: as `malloc`.
    unsafe {
        ticking(block);
        let before = &*ctx.cast::<Allocator>();
        (before.free.unwrap_unchecked())(before.ctx, block)
    }
}

/// The outermost call has handed out a block, which is returned: one piece of code for all hooks, for what they take of the
/// processor's cache is taken from the program.
///
/// # Safety
///
/// As a hook is called.
#[inline(never)]
unsafe extern "C" fn allocated<const V: u8, const S: bool>(
    own: *mut Own,
    block: Pointer,
    size: usize,
) -> Pointer {
    // SAFETY: the caller's promise.
    unsafe {
        if S || !is_active() || block.is_null() || thread(own) != (*gil()).thread {
            return allocated_maybe::<V, S>(own, block, size);
        }
        if !Lane::is_usual(block as u64, size as u64) {
            return allocated_maybe::<V, S>(own, block, size);
        }
        if (*own).inners != 0 {
            others(own, block as u64);
        }
        let lane = &mut *gil();
        let node = stack::node::<V>(lane, lane.thread);
        match lane.alloc_usual(block as u64, size as u64, node) {
            true => ticking(block),
            false => block,
        }
    }
}

/// The same, of which more has to be known.
///
/// # Safety
///
/// As a hook is called.
#[cold]
#[inline(never)]
unsafe extern "C" fn allocated_maybe<const V: u8, const S: bool>(
    own: *mut Own,
    block: Pointer,
    size: usize,
) -> Pointer {
    // SAFETY: the caller's promise.
    unsafe {
        match state::mode() {
            state::ON => {
                if (*own).inners != 0 {
                    others(own, block as u64);
                }
                if !block.is_null() && (!S || sample::is_due(own, size)) {
                    record::<V, S>(own, block as u64, size as u64, Domain::Python);
                }
            }
            state::WAITING => wait::count(own),
            _ => {}
        }
    }
    block
}

/// The clock is to be looked at. Returns what it is given.
///
/// # Safety
///
/// As a hook is called, with the GIL.
#[cold]
#[inline(never)]
unsafe extern "C" fn ticking(block: Pointer) -> Pointer {
    // SAFETY: the caller's promise.
    unsafe { (*gil()).tick() };
    block
}

/// Writes an allocation of a thread that has the GIL.
///
/// # Safety
///
/// As a hook is called.
#[inline(always)]
unsafe fn record<const V: u8, const S: bool>(own: *mut Own, block: u64, size: u64, domain: Domain) {
    // SAFETY: the caller's promise.
    unsafe {
        let thread = thread(own);
        let lane = &mut *gil();
        if thread != lane.thread && !enter::<V>(own, lane, thread) {
            if S {
                sample::remember(own, block);
            }
            return alloc_beside(own, block, size, domain);
        }
        let node = stack::node::<V>(lane, thread);
        if S {
            sample::remember(own, block);
        }
        lane.alloc(block, size, node, domain);
    }
}

/// The same, from outside of Python's allocators.
///
/// # Safety
///
/// `thread` is this thread's state, and it has the GIL.
pub(super) unsafe fn record_malloc(own: *mut Own, minor: u8, sampled: bool, block: u64, size: u64) {
    count_malloc();
    macro_rules! of {
        ($($minor:literal)*) => {
            match (minor, sampled) {
                // SAFETY: the caller's promise.
                $(($minor, false) => unsafe { record::<$minor, false>(own, block, size, Domain::Malloc) },)*
                // SAFETY: the same.
                $(($minor, true) => unsafe { record::<$minor, true>(own, block, size, Domain::Malloc) },)*
                _ => {}
            }
        };
    }
    of!(8 9 10 11 12 13 14 15);
}

/// One more event of malloc's own in the GIL's lane.
pub(super) fn count_malloc() {
    // With the GIL: nobody else writes it.
    MALLOCS.store(MALLOCS.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// The node of this thread's stack, for what is rare.
///
/// # Safety
///
/// As [`record_malloc`].
pub(super) unsafe fn node(own: *mut Own, minor: u8, thread: u64) -> Option<u32> {
    macro_rules! of {
        ($($minor:literal)*) => {
            match minor {
                // SAFETY: the caller's promise.
                $($minor => unsafe {
                    let lane = &mut *gil();
                    if thread != lane.thread && !enter::<$minor>(own, lane, thread) {
                        return None;
                    }
                    Some(stack::node::<$minor>(lane, thread))
                },)*
                _ => None,
            }
        };
    }
    of!(8 9 10 11 12 13 14 15)
}

/// Whether the function that runs is one of importlib's.
///
/// # Safety
///
/// This thread has the GIL.
pub(super) unsafe fn runs_importlib(minor: u8) -> bool {
    let thread = python::thread_with_gil();
    macro_rules! of {
        ($($minor:literal)*) => {
            match minor {
                // SAFETY: this thread's state.
                $($minor => thread != 0 && unsafe { stack::runs_importlib::<$minor>(thread) },)*
                _ => true,
            }
        };
    }
    of!(8 9 10 11 12 13 14 15)
}

/// A free, before it happens. Returns whether it was written.
///
/// # Safety
///
/// As a hook is called.
#[inline(always)]
unsafe fn freed<const V: u8, const S: bool>(own: *mut Own, block: u64, moved: bool) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        // A realloc's free and what follows it are the same thread's.
        if moved || is_other::<V>() {
            let (lane, thread) = (&mut *gil(), thread(own));
            if thread != lane.thread && !enter::<V>(own, lane, thread) {
                let counts = !S || sample::forget(own, block);
                if counts {
                    free_beside(own, block, moved);
                }
                return counts;
            }
        }
        if !S {
            codes::freed(block);
        } else if !sample::freed(own, block) {
            return false;
        }
        (*gil()).free(block, moved);
    }
    true
}

/// A realloc whose free was written has failed.
///
/// # Safety
///
/// As a hook is called.
#[cold]
unsafe fn kept<const V: u8, const S: bool>(own: *mut Own, block: u64) {
    if S {
        sample::remember(own, block);
    }
    // SAFETY: the caller's promise.
    unsafe {
        let (lane, thread) = (&mut *gil(), thread(own));
        match !is_other::<V>() || thread == lane.thread {
            true => lane.escape(escape::KEPT, &[]),
            false => beside(own, |lane| lane.escape(escape::KEPT, &[])),
        }
    }
}

/// Forgets what was counted: a fork counts anew.
pub(super) fn reset() {
    MALLOCS.store(0, Ordering::Relaxed);
}

/// Events of Python's allocators that have come.
pub(super) fn events() -> u64 {
    // SAFETY: a count, read whole.
    let all = unsafe { (*gil()).events() };
    all - MALLOCS.load(Ordering::Relaxed).min(all)
}
