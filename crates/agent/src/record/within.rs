//! What malloc does within a call of Python's allocators, and right after a free: which of its blocks is the call's own.
//!
//! Owns the blocks that wait for the call's end to be told of, and the one that was given back last. What is not the call's
//! own is an event of malloc's.
//!
//! Invariant: a block is told of once, whoever passes it on. Where none or one waits, as it nearly always is, of those that could
//! no more is touched: they lie on cache lines that the program's own memory has driven out.

use super::malloc;
use super::own::{INNER, Own};

/// A block that an allocator hands out lies at most so far behind the one that it took: what `PYTHONMALLOC=debug` puts before.
pub(super) const HEAD: u64 = 64;

/// Within an outermost call, malloc has handed out a block.
pub(super) fn note(own: *mut Own, block: u64, size: u64) {
    // SAFETY: this thread's words.
    unsafe {
        let n = (*own).inners as usize;
        if n < INNER {
            (*own).inner[n] = (block, size);
            (*own).inners += 1;
            return;
        }
        // There is no room to wait for the call's end: the oldest is the allocator's own, or else counts twice.
        let (first, size_of_first) = (*own).inner[0];
        (*own).inner.copy_within(1.., 0);
        (*own).inner[INNER - 1] = (block, size);
        emit(own, first, size_of_first);
    }
}

/// Within an outermost call, malloc is given a block back.
pub(super) fn unnote(own: *mut Own, block: u64, moved: bool) {
    // SAFETY: this thread's words.
    unsafe {
        let n = (*own).inners as usize;
        if let Some(i) = (0..n).find(|i| (*own).inner[*i].0 == block) {
            (*own).inner.copy_within(i + 1..n, i);
            (*own).inners -= 1;
            return;
        }
    }
    if !was_told(own, block) {
        malloc::freed(own, block, moved);
    }
}

/// Whether a block that malloc is given back is the one that this thread has given back to Python's allocators: these
/// pass it on, once, and its free is told.
pub(super) fn was_told(own: *mut Own, block: u64) -> bool {
    // SAFETY: this thread's words.
    unsafe {
        let was = (*own).outer.wrapping_sub(block) < HEAD;
        if was {
            (*own).outer = 0;
        }
        was
    }
}

/// What malloc handed out within a call, and is not the call's own block, is an event of its own. The call's own is the nearest
/// before what it hands out; what its allocator keeps of it may lie right before that.
#[inline(never)]
pub(super) fn others(own: *mut Own, block: u64) {
    // SAFETY: this thread's words.
    unsafe {
        let n = (*own).inners as usize;
        (*own).inners = 0;
        let head = |at: u64| block.wrapping_sub(at);
        if n == 1 && head((*own).inner[0].0) < HEAD {
            return;
        }
        let inner = (*own).inner;
        let nearest = inner[..n].iter().map(|(at, _)| head(*at)).min().filter(|n| *n < HEAD);
        for (at, size) in &inner[..n] {
            if Some(head(*at)) != nearest {
                emit(own, *at, *size);
            }
        }
    }
}

/// An event of malloc's, from within a call.
fn emit(own: *mut Own, block: u64, size: u64) {
    // SAFETY: this thread's words; while they say 0 the event is an outermost one.
    unsafe {
        let depth = std::mem::replace(&mut (*own).depth, 0);
        malloc::allocated(own, block, size);
        (*own).depth = depth;
    }
}
