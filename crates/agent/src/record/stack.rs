//! Stacks: the node of each thread's, at each allocation.
//!
//! How frames are followed is another module's: by marks ([`marked`]) where the version has them, else by comparison with those
//! seen last ([`chain`]).
//!
//! Invariant: touched only with the GIL.

use pydefrag_trace::event::NO_STACK;

use super::chain;
use super::codes::{self, codes};
use super::frame::At;
use super::lane::{self, Lane, NOBODY, Shared};
use super::marked;
use super::native;
use super::nodes;
use super::own::{busy, own};

/// Frames of a stack at most; a deeper one has no node.
pub(super) const DEEPEST: usize = (1 << 16) - 2;

/// Thread states that are known, whose end is noticed.
static THREADS: Shared<Vec<u64>> = Shared::new(Vec::new());
/// What more is done with each stack: it is walked twice, or native frames are put below it.
static MORE: Shared<Option<More>> = Shared::new(None);
static CHECKED: Shared<(u64, u64)> = Shared::new((0, 0));
static TOO_DEEP: Shared<u64> = Shared::new(0);

/// What is done with each stack, beside looking it up.
#[derive(Clone, Copy)]
pub(super) struct More {
    pub(super) check: bool,
    pub(super) native: bool,
}

/// Has the end of a thread's state noticed.
pub(super) fn watch(thread: u64) {
    // SAFETY: the GIL.
    let threads = unsafe { &mut *THREADS.get() };
    if !threads.contains(&thread) {
        threads.push(thread);
        codes::watch(thread);
    }
}

/// A thread's state is freed: its address may become another's.
pub(super) fn thread_freed(thread: u64) {
    // SAFETY: the GIL.
    let threads = unsafe { &mut *THREADS.get() };
    if let Some(i) = threads.iter().position(|t| *t == thread) {
        threads.swap_remove(i);
        chain::thread_freed(thread);
        // SAFETY: the GIL.
        unsafe {
            let lane = &mut *lane::gil();
            if lane.thread == thread {
                lane.thread = NOBODY;
            }
        }
    }
}

/// A code object is freed: its nodes stand for nothing that can come again.
pub(super) fn code_freed(first: u32) {
    nodes::gone(first);
    chain::code_freed();
}

/// Forgets all stacks: at the begin, and in a fork, whose trace is its own.
pub(super) fn reset(more: More, forked: bool) -> Result<(), String> {
    // SAFETY: nothing is recorded yet, or any more.
    unsafe {
        THREADS.renew(Vec::new(), forked);
        *MORE.get() = Some(more).filter(|m| m.check || m.native);
        *CHECKED.get() = (0, 0);
        *TOO_DEEP.get() = 0;
    }
    chain::reset(forked);
    marked::reset()?;
    codes::reset(forked);
    native::reset(more.native, forked);
    nodes::reset(forked)
}

/// Stacks that were walked twice, and those that came out otherwise.
pub(super) fn checked() -> (u64, u64) {
    // SAFETY: counts; the last of them may be missed.
    unsafe { *CHECKED.get() }
}

/// What a reader should know.
pub(super) fn notes() -> Vec<String> {
    // SAFETY: counts.
    let (deep, unknown) = unsafe { (*TOO_DEEP.get(), codes::unreadable()) };
    let mut notes = Vec::new();
    if deep > 0 {
        notes.push(format!(
            "{deep} allocations have no stack: it was deeper than {DEEPEST} frames, or there were too many stacks"
        ));
    }
    if unknown > 0 {
        notes.push(format!("{unknown} frames have no code object where this CPython keeps it"));
    }
    notes.extend(native::notes());
    notes
}

/// The node of the stack of `thread`, which is this one.
///
/// # Safety
///
/// `thread` is the state of this thread, which has the GIL, and the lane is the GIL's.
#[inline(always)]
pub(super) unsafe fn node<const V: u8>(lane: &mut Lane, thread: u64) -> u32 {
    // SAFETY: the caller's promise.
    unsafe {
        let node = match *MORE.get() {
            None => python_node::<V>(lane, thread),
            Some(more) => self::more::<V>(lane, thread, more),
        };
        node.unwrap_or_else(none)
    }
}

/// The same, of Python's frames; `None` where it can have none.
///
/// # Safety
///
/// As [`node`].
#[inline(always)]
unsafe fn python_node<const V: u8>(lane: &mut Lane, thread: u64) -> Option<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        match At::<V>::has_marks() {
            true => marked::node::<V>(lane, thread),
            false => chain::node::<V>(lane, thread),
        }
    }
}

/// A stack that has no node.
#[cold]
#[inline(never)]
fn none() -> u32 {
    // SAFETY: the GIL.
    unsafe { *TOO_DEEP.get() += 1 };
    NO_STACK
}

/// Whether the function that runs is one of importlib's.
///
/// # Safety
///
/// `thread` is the state of this thread, which has the GIL.
pub(super) unsafe fn runs_importlib<const V: u8>(thread: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let mut frame = At::<V>::innermost(thread);
        while frame != 0 && At::<V>::is_shim(frame) {
            frame = At::<V>::previous(frame);
        }
        frame != 0 && codes().file_of::<V>(At::<V>::code(frame)).starts_with("<frozen importlib")
    }
}

/// The node of a stack of which more is wanted.
///
/// # Safety
///
/// As [`node`].
#[cold]
#[inline(never)]
unsafe fn more<const V: u8>(lane: &mut Lane, thread: u64, more: More) -> Option<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        let node = python_node::<V>(lane, thread)?;
        let own = own();
        busy(own, || {
            if more.check {
                check::<V>(thread, node);
            }
            match more.native {
                true => native::below(own, lane, node, At::<V>::entry(thread)),
                false => Some(node),
            }
        })
    }
}

/// Walks the stack once more, all of it and by nothing that is remembered of frames, and compares it with the node that was found.
///
/// # Safety
///
/// As [`node`].
unsafe fn check<const V: u8>(thread: u64, found: u32) {
    // SAFETY: the caller's promise: frames are followed from the innermost outwards.
    unsafe {
        let (mut frame, mut node) = (At::<V>::innermost(thread), Some(found));
        while frame != 0 {
            if !At::<V>::is_shim(frame) {
                let instruction = At::<V>::instruction(frame);
                node = node.and_then(|node| match nodes::parent(node, instruction) {
                    // What is no code object stands for no function.
                    None if !codes().is_code(At::<V>::code(frame)) => Some(node),
                    outer => outer,
                });
            }
            frame = At::<V>::previous(frame);
        }
        let counts = CHECKED.get();
        (*counts).0 += 1;
        (*counts).1 += u64::from(node != Some(NO_STACK));
    }
}
