//! Whether Python's small blocks come from pymalloc: then a sampled recording need not look at how each is made.
//!
//! What malloc hands out within a call of Python's allocators must not be drawn twice, so it is known of a thread that it is within
//! one. pymalloc takes small blocks from its own pools; what it does take from malloc meanwhile, for its tables, is an event of
//! malloc's. That pymalloc is what stands behind the hooks is not asked but seen: of many calls in a row none took its block from
//! malloc.
//!
//! Invariant: known only until hooks are installed again.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::own::Own;
use super::within::HEAD;

/// Bytes of a block that is small, whatever `PYTHONMALLOC=debug` puts around it: pymalloc's are up to 512.
const LARGEST: usize = 512 - HEAD as usize;
/// Calls in a row.
const MANY: u32 = 10_000;

static SEEN: AtomicU32 = AtomicU32::new(0);
/// Blocks of fewer bytes are known to be pymalloc's.
static BELOW: AtomicUsize = AtomicUsize::new(0);

/// Whether a block of this size is pymalloc's, as far as it is known.
#[inline(always)]
pub(super) fn has(size: usize) -> bool {
    size < BELOW.load(Ordering::Relaxed)
}

/// A call has handed out a block.
#[inline(always)]
pub(super) fn learn(size: usize) {
    // Read and written without care: what is lost is a call. With the GIL but for free-threaded builds.
    let seen = SEEN.load(Ordering::Relaxed);
    if seen < MANY && (1..=LARGEST).contains(&size) {
        let next = SEEN.compare_exchange(seen, seen + 1, Ordering::Relaxed, Ordering::Relaxed);
        if next == Ok(MANY - 1) {
            BELOW.store(LARGEST + 1, Ordering::Relaxed);
        }
    }
}

/// A call has handed out a block, and malloc something meanwhile.
pub(super) fn unlearn(own: *mut Own, block: u64, size: usize) {
    // SAFETY: this thread's words.
    let is_its = |i: usize| block.wrapping_sub(unsafe { (*own).inner[i].0 }) < HEAD;
    // SAFETY: the same.
    if size <= LARGEST && (0..unsafe { (*own).inners } as usize).any(is_its) {
        forget();
    }
}

/// Others may stand behind the hooks now.
pub(super) fn forget() {
    BELOW.store(0, Ordering::Relaxed);
    SEEN.store(0, Ordering::Relaxed);
}
