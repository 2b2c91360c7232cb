//! A thread's stack by marks: from the innermost frame outwards to the first one that is marked with its node.
//!
//! Most often that is the caller of the function that runs. Frames on the way are looked up among the nodes, and marked where
//! they can be. Those that wait inside of C or for a generator cannot: of the last walk their nodes are kept, as what they
//! may have again.
//!
//! Invariant: touched only with the GIL. What is known of a stack stands in its frames; what is kept beside is never believed, but
//! compared with the frames up to a marked one.

use pydefrag_trace::event::NO_STACK;

use super::frame::{At, Marks, word};
use super::lane::{Lane, Shared};
use super::nodes::{self, find};
use super::python::variable;
use super::stack::DEEPEST;
use super::state;

/// A frame with the node that it may have.
#[derive(Clone, Copy)]
struct Step {
    frame: u64,
    node: u32,
}

static MARKS: Shared<Marks> = Shared::new(Marks::of(0, 0));
static RECORDINGS: Shared<u32> = Shared::new(0);
static NONE: Shared<u64> = Shared::new(0);
/// The frames of a walk, innermost first.
static STEPS: Shared<*mut u64> = Shared::new(std::ptr::null_mut());
static KEPT: Shared<Kept> = Shared::new(Kept { steps: std::ptr::null_mut(), count: 0 });

/// The frames of the last walk with their nodes, outermost first.
struct Kept {
    steps: *mut Step,
    count: usize,
}

impl Kept {
    /// Where a frame is among the innermost.
    fn find(&self, frame: u64) -> Option<usize> {
        /// So many are looked at.
        const NEAR: usize = 4;
        // SAFETY: below the count.
        let is_it = |i: &usize| unsafe { (*self.steps.add(*i)).frame } == frame;
        (self.count.saturating_sub(NEAR)..self.count).rev().find(is_it)
    }

    fn push(&mut self, frame: u64, node: u32) {
        if self.count < DEEPEST {
            // SAFETY: room for DEEPEST.
            unsafe { *self.steps.add(self.count) = Step { frame, node } };
            self.count += 1;
        }
    }
}

/// What was marked before is so no more: its nodes are another recording's.
pub(super) fn reset() -> Result<(), String> {
    // SAFETY: nothing is recorded yet, or any more.
    unsafe {
        if (*STEPS.get()).is_null() {
            (*KEPT.get()).steps = state::pages(DEEPEST * std::mem::size_of::<Step>())?.cast();
            *STEPS.get() = state::pages(DEEPEST * std::mem::size_of::<u64>())?.cast();
        }
        (*KEPT.get()).count = 0;
        if *RECORDINGS.get() == 0 {
            // Once, and not in a fork, where the loader may be locked.
            *NONE.get() = variable("_Py_NoneStruct\0");
        }
        *RECORDINGS.get() += 1;
        *MARKS.get() = Marks::of(*RECORDINGS.get(), *NONE.get());
    }
    Ok(())
}

/// The node of the stack of `thread`, which is this one; `None` where it can have none.
///
/// Most often its caller is marked, and the node was found lately; what else there is to do is not done here, so that it
/// costs no registers.
///
/// # Safety
///
/// `thread` is the state of this thread, which has the GIL, and the lane is the GIL's.
#[inline(always)]
pub(super) unsafe fn node<const V: u8>(lane: &mut Lane, thread: u64) -> Option<u32> {
    // SAFETY: the caller's promise: frames are followed from the innermost outwards.
    unsafe {
        let frame = At::<V>::innermost(thread);
        if frame == 0 {
            return Some(NO_STACK);
        }
        let caller = At::<V>::previous(frame);
        let traced = At::<V>::is_traced(thread);
        if caller != 0
            && !traced
            && let Some(parent) = At::<V>::marked(*MARKS.get(), caller, frame)
        {
            let near = nodes::near(parent, At::<V>::instruction(frame));
            return near.or_else(|| look::<V>(lane, parent, frame));
        }
        called::<V>(lane, frame, caller, traced)
    }
}

/// The node of the innermost frame, whose caller is not marked, or not to be trusted.
///
/// # Safety
///
/// As [`node`]; the caller may be none.
#[inline(never)]
unsafe fn called<const V: u8>(
    lane: &mut Lane,
    frame: u64,
    caller: u64,
    traced: bool,
) -> Option<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        let parent = outer::<V>(lane, caller, frame, traced)?;
        match At::<V>::is_shim(frame) {
            true => Some(parent),
            false => find::<V>(lane, parent, frame, At::<V>::instruction(frame)),
        }
    }
}

/// The node of a frame that waits for `callee`, and is not marked, or not to be trusted; from now on it is marked, if it can be.
///
/// # Safety
///
/// As [`node`]; both are the thread's, or there is no frame.
#[inline(always)]
unsafe fn outer<const V: u8>(
    lane: &mut Lane,
    frame: u64,
    callee: u64,
    traced: bool,
) -> Option<u32> {
    if frame == 0 {
        return Some(NO_STACK);
    }
    // SAFETY: the caller's promise.
    unsafe {
        let marks = *MARKS.get();
        let caller = At::<V>::previous(frame);
        // Most often the frame has just called, and its own caller waits as before.
        if !traced
            && caller != 0
            && let Some(parent) = At::<V>::marked(marks, caller, frame)
        {
            let node = find::<V>(lane, parent, frame, At::<V>::instruction(frame))?;
            At::<V>::mark(marks, frame, callee, node);
            return Some(node);
        }
        // What comes after the same history is likely what came then.
        let expected = nodes::caller(lane.model.expected_node());
        if !traced && is_expected::<V>(expected, frame, callee) {
            return Some(expected);
        }
        if !traced && let Some(node) = reach::<V>(lane, frame, callee) {
            return Some(node);
        }
        walk::<V>(lane, frame, callee, traced)
    }
}

/// The same as [`outer`], where one of the next frames is marked: the function that has called was itself called by C, as a
/// thread's, a callback or what `f(*args)` calls up to 3.11.
///
/// # Safety
///
/// As [`outer`]; there is a frame.
#[inline(never)]
unsafe fn reach<const V: u8>(lane: &mut Lane, frame: u64, callee: u64) -> Option<u32> {
    /// Frames: the one, the interpreter's own, and the one that waits inside of C.
    const FAR: usize = 3;
    // SAFETY: the caller's promise.
    unsafe {
        let marks = *MARKS.get();
        let mut frames = [callee, frame, 0, 0];
        let mut n = 1;
        let mut node = loop {
            let next = At::<V>::previous(frames[n]);
            if next == 0 {
                break NO_STACK;
            }
            if let Some(node) = At::<V>::marked(marks, next, frames[n]) {
                break node;
            }
            if n == FAR {
                return None;
            }
            n += 1;
            frames[n] = next;
        };
        for i in (1..=n).rev() {
            if !At::<V>::is_shim(frames[i]) {
                node = look::<V>(lane, node, frames[i])?;
            }
            At::<V>::mark(marks, frames[i], frames[i - 1], node);
        }
        Some(node)
    }
}

/// Whether a frame that waits for `callee` has this node, and all of its callers up to a marked one wait where they cannot be
/// marked: inside C, or for generators.
///
/// # Safety
///
/// As [`outer`]; there is a frame.
unsafe fn is_expected<const V: u8>(hint: u32, mut frame: u64, mut callee: u64) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let marks = *MARKS.get();
        let mut node = hint;
        loop {
            match At::<V>::slot(marks, frame, callee).map(|slot| marks.read(word(slot))) {
                Some(Some(marked)) => return marked == node,
                // It is to be marked.
                Some(None) => return false,
                None => {}
            }
            if !At::<V>::is_shim(frame) {
                match nodes::parent(node, At::<V>::instruction(frame)) {
                    Some(outer) => node = outer,
                    None => return false,
                }
            }
            callee = frame;
            frame = At::<V>::previous(frame);
            if frame == 0 {
                return node == NO_STACK;
            }
        }
    }
}

/// The node of a frame whose caller has the node `parent`.
///
/// # Safety
///
/// The frame runs.
#[inline(never)]
unsafe fn look<const V: u8>(lane: &mut Lane, parent: u32, frame: u64) -> Option<u32> {
    // SAFETY: the caller's promise.
    unsafe { find::<V>(lane, parent, frame, At::<V>::instruction(frame)) }
}

/// The same as [`outer`], by as many frames as it takes: all of them, where marks are not to be trusted.
///
/// # Safety
///
/// As [`outer`]; there is a frame.
#[inline(never)]
unsafe fn walk<const V: u8>(
    lane: &mut Lane,
    mut frame: u64,
    mut callee: u64,
    traced: bool,
) -> Option<u32> {
    /// Frames, and places in what is kept, at which it is tried to go on as kept.
    const TRIED: (usize, usize) = (16, 4);
    // SAFETY: the caller's promise, and room for DEEPEST steps.
    unsafe {
        let (marks, steps, kept) = (*MARKS.get(), *STEPS.get(), &mut *KEPT.get());
        let innermost = callee;
        let (mut count, mut tried) = (0, 0);
        let mut node = loop {
            if count < TRIED.0
                && tried < TRIED.1
                && !traced
                && let Some(i) = kept.find(frame)
            {
                tried += 1;
                let node = (*kept.steps.add(i)).node;
                if is_expected::<V>(node, frame, callee) {
                    kept.count = i + 1;
                    break node;
                }
            }
            if count == DEEPEST {
                return None;
            }
            *steps.add(count) = frame;
            count += 1;
            callee = frame;
            frame = At::<V>::previous(frame);
            let marked = match frame {
                0 => Some(NO_STACK),
                _ if traced => None,
                _ => At::<V>::marked(marks, frame, callee),
            };
            if let Some(node) = marked {
                kept.count = 0;
                break node;
            }
        };
        for i in (0..count).rev() {
            let frame = *steps.add(i);
            let callee = if i > 0 { *steps.add(i - 1) } else { innermost };
            if !At::<V>::is_shim(frame) {
                node = look::<V>(lane, node, frame)?;
            }
            At::<V>::mark(marks, frame, callee, node);
            kept.push(frame, node);
        }
        Some(node)
    }
}
