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

/// A frame on the way.
#[derive(Clone, Copy)]
struct Step {
    frame: u64,
    /// The node that it may have.
    hint: u32,
}

static MARKS: Shared<Marks> = Shared::new(Marks::of(0, 0));
static RECORDINGS: Shared<u32> = Shared::new(0);
static NONE: Shared<u64> = Shared::new(0);
static STEPS: Shared<*mut Step> = Shared::new(std::ptr::null_mut());
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
            unsafe { *self.steps.add(self.count) = Step { frame, hint: node } };
            self.count += 1;
        }
    }
}

/// What was marked before is so no more: its nodes are another recording's.
pub(super) fn reset() -> Result<(), String> {
    // SAFETY: nothing is recorded yet, or any more.
    unsafe {
        if (*STEPS.get()).is_null() {
            let steps = state::pages(2 * DEEPEST * std::mem::size_of::<Step>())?.cast::<Step>();
            (*KEPT.get()).steps = steps.add(DEEPEST);
            *STEPS.get() = steps;
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
        let marked = match traced || caller == 0 {
            true => None,
            false => At::<V>::marked(*MARKS.get(), caller, frame),
        };
        let parent = match marked {
            Some(parent) => parent,
            None => {
                let parent = outer::<V>(lane, caller, frame, traced)?;
                if At::<V>::is_shim(frame) {
                    return Some(parent);
                }
                parent
            }
        };
        // What comes after the same history is likely what came then.
        look::<V>(lane, lane.model.expected_node(), parent, frame)
    }
}

/// The node of a frame that waits for `callee`, and is not marked, or not to be trusted; from now on it is marked, if it can be.
///
/// # Safety
///
/// As [`node`]; both are the thread's, or there is no frame.
#[inline(never)]
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
        let hint = nodes::caller(lane.model.expected_node());
        let caller = At::<V>::previous(frame);
        // Most often the frame has just called, and its own caller waits as before.
        if !traced
            && caller != 0
            && let Some(parent) = At::<V>::marked(marks, caller, frame)
        {
            let node = look::<V>(lane, hint, parent, frame)?;
            At::<V>::mark(marks, frame, callee, node);
            return Some(node);
        }
        if !traced && is_expected::<V>(hint, frame, callee) {
            return Some(hint);
        }
        walk::<V>(lane, hint, frame, callee, traced)
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
#[inline(always)]
unsafe fn look<const V: u8>(lane: &mut Lane, hint: u32, parent: u32, frame: u64) -> Option<u32> {
    // SAFETY: the caller's promise.
    unsafe {
        let instruction = At::<V>::instruction(frame);
        match nodes::is(hint, parent, instruction) {
            true => Some(hint),
            false => find::<V>(lane, parent, frame, instruction),
        }
    }
}

/// The same as [`outer`], by as many frames as it takes: all of them, where marks are not to be trusted.
///
/// # Safety
///
/// As [`outer`]; there is a frame.
#[inline(never)]
unsafe fn walk<const V: u8>(
    lane: &mut Lane,
    mut hint: u32,
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
                let node = (*kept.steps.add(i)).hint;
                if is_expected::<V>(node, frame, callee) {
                    kept.count = i + 1;
                    break node;
                }
            }
            if count == DEEPEST {
                return None;
            }
            *steps.add(count) = Step { frame, hint };
            count += 1;
            if !At::<V>::is_shim(frame) {
                hint = nodes::caller(hint);
            }
            callee = frame;
            frame = At::<V>::previous(frame);
            let marked = match frame {
                0 => Some(NO_STACK),
                _ => match At::<V>::marked(marks, frame, callee) {
                    Some(node) if traced => {
                        hint = node;
                        None
                    }
                    marked => marked,
                },
            };
            if let Some(node) = marked {
                kept.count = 0;
                break node;
            }
        };
        for i in (0..count).rev() {
            let Step { frame, hint } = *steps.add(i);
            let callee = if i > 0 { (*steps.add(i - 1)).frame } else { innermost };
            if !At::<V>::is_shim(frame) {
                node = look::<V>(lane, hint, node, frame)?;
            }
            At::<V>::mark(marks, frame, callee, node);
            kept.push(frame, node);
        }
        Some(node)
    }
}
