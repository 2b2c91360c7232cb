//! Whose events the GIL's lane has: which thread writes to it now, and which ones may.
//!
//! Invariant: only who holds the main interpreter's GIL writes to it. Who has a thread state may not have that: there is an
//! interpreter with a GIL of its own, or no GIL at all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pydefrag_layout::frames::frames;
use pydefrag_trace::event::escape;

use super::current::thread;
use super::frame::word;
use super::lane::{Lane, gil};
use super::malloc;
use super::own::{Own, busy, tid};
use super::python;
use super::stack;

/// Who has a thread state may not have the GIL: there is an interpreter with one of its own, or no GIL at all.
static OTHERS: AtomicBool = AtomicBool::new(false);
static MAIN: AtomicU64 = AtomicU64::new(0);

/// Hooks are installed. What was seen of other interpreters stays seen when they are put there again.
pub(super) fn begin() {
    OTHERS.fetch_or(python::is_free_threaded(), Ordering::Relaxed);
}

/// Whether a thread that is here may write to another lane than the GIL's.
#[inline(always)]
pub(super) fn is_other<const V: u8>() -> bool {
    V >= 12 && OTHERS.load(Ordering::Relaxed)
}

/// Another thread writes to the GIL's lane from now on; false where this one may not.
///
/// # Safety
///
/// `thread` is this thread's state, or 0.
#[cold]
#[inline(never)]
pub(super) unsafe fn enter<const V: u8>(own: *mut Own, lane: &mut Lane, thread: u64) -> bool {
    if thread == 0 || python::is_free_threaded() {
        return false;
    }
    busy(own, || {
        if V >= 12 {
            let mut main = MAIN.load(Ordering::Relaxed);
            if main == 0 {
                main = python::main_interpreter();
                MAIN.store(main, Ordering::Relaxed);
            }
            // SAFETY: a thread's state has its interpreter there.
            if main != 0 && unsafe { word(thread + const { frames(V).interp }) } != main {
                OTHERS.store(true, Ordering::Relaxed);
                return false;
            }
        }
        stack::watch(thread);
        lane.thread = thread;
        lane.escape(escape::THREAD, &[tid(own).into()]);
        true
    })
}

/// Whether what this thread writes is the GIL's lane's, which is its own from now on.
pub(super) fn enters(own: *mut Own, minor: u8) -> bool {
    let thread = python::thread_with_gil();
    // SAFETY: this thread's state; the lane is written to only where this is true.
    unsafe {
        let lane = &mut *gil();
        thread != 0
            && (thread == lane.thread
                || if minor < 12 {
                    enter::<11>(own, lane, thread)
                } else {
                    enter::<12>(own, lane, thread)
                })
    }
}

/// Whether this thread may write to the GIL's lane: it has the GIL, and that is the main interpreter's.
pub(super) fn has_lane(own: *mut Own) -> bool {
    python::thread_with_gil() != 0 && !is_another(own, malloc::minor())
}

/// Whether this thread has the main interpreter's GIL, while nothing is recorded.
pub(super) fn is_main() -> bool {
    let (thread, minor) = (python::thread_with_gil(), malloc::minor());
    // SAFETY: a thread's state has its interpreter there.
    let interpreter = || unsafe { word(thread + frames(minor).interp) };
    thread != 0 && (minor < 12 || interpreter() == python::main_interpreter())
}

/// Whether this thread, which has a GIL, has another interpreter's own.
pub(super) fn is_another(own: *mut Own, minor: u8) -> bool {
    if minor < 12 || !OTHERS.load(Ordering::Relaxed) {
        return false;
    }
    // SAFETY: this thread's state; `gil` is only looked at.
    unsafe {
        let thread = thread(own);
        let lane = &mut *gil();
        thread != lane.thread && !enter::<12>(own, lane, thread)
    }
}
