//! Parked pools that the program wants again: seen when pymalloc asks for an arena, and put back.
//!
//! Owns the hook on pymalloc's arena allocator (`PyObject_SetArenaAllocator`; it only takes note, wakes the agent's
//! thread and calls the one before it) and the unparking, which that thread does as soon as it has the GIL. Until
//! then the new arena serves: a parked pool has no resident byte, so nothing is held twice.

use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::arenas;
use crate::pages::PageMap;
use crate::place::Place;
use crate::python::{ArenaAllocator, Attachment, Held, python};
use crate::table::table;
use crate::thread;

/// What pymalloc asks for an arena.
const ARENA: usize = 1 << 20;
/// Pools that are unparked the first time; twice as many each time that follows soon.
const FIRST: u64 = 64;
const MOST: u64 = 1024;
const SOON: Duration = Duration::from_secs(1);

/// The function of the allocator before ours; its context stays that of the whole.
static BEFORE: AtomicU64 = AtomicU64::new(0);
/// An arena was asked for since pools were last unparked.
static WANTED: AtomicBool = AtomicBool::new(false);

/// What unparking needs.
struct Unparking {
    place: Place,
    last: Option<Instant>,
    batch: u64,
}

static UNPARKING: Mutex<Option<Unparking>> = Mutex::new(None);

/// Puts the hook in place, once in a process.
pub(crate) fn watch(attachment: &Attachment, place: Place) {
    let Ok(python) = python() else { return };
    attachment.held(|_| {
        let mut unparking = UNPARKING.lock().unwrap_or_else(|e| e.into_inner());
        if unparking.is_some() {
            return;
        }
        *unparking = Some(Unparking { place, last: None, batch: FIRST });
        let mut before = ArenaAllocator { ctx: std::ptr::null_mut(), alloc: None, free: None };
        // SAFETY: the GIL is held; both take a structure by pointer.
        unsafe { (python.PyObject_GetArenaAllocator)(&mut before) };
        let Some(alloc) = before.alloc else { return };
        BEFORE.store(alloc as usize as u64, Ordering::Release);
        let mut ours = ArenaAllocator { alloc: Some(hook), ..before };
        // SAFETY: the same; `free` and the context stay those of the one before.
        unsafe { (python.PyObject_SetArenaAllocator)(&mut ours) };
    });
}

/// pymalloc asks for an arena. Called inside pymalloc: touches nothing of it, takes no lock, and never gives up the
/// GIL.
#[unsafe(link_section = "pydefrag_idle")]
extern "C" fn hook(ctx: *mut c_void, size: usize) -> *mut c_void {
    if size == ARENA && !WANTED.swap(true, Ordering::AcqRel) {
        thread::wake();
    }
    // SAFETY: what `watch` stored: a function of this signature.
    let alloc: extern "C" fn(*mut c_void, usize) -> *mut c_void =
        unsafe { std::mem::transmute(BEFORE.load(Ordering::Acquire) as usize) };
    alloc(ctx, size)
}

/// Whether an arena was asked for and nothing has been unparked since.
pub(crate) fn is_wanted() -> bool {
    WANTED.load(Ordering::Acquire)
}

/// Unparks a batch, from the arenas with the most pools in use.
pub(crate) fn serve(held: &Held) {
    WANTED.store(false, Ordering::Release);
    let Ok(mut unparking) = UNPARKING.try_lock() else { return };
    let Some(state) = unparking.as_mut() else { return };
    let now = Instant::now();
    state.batch = match state.last {
        Some(last) if now - last < SOON => (state.batch * 2).min(MOST),
        _ => FIRST,
    };
    state.last = Some(now);
    let place = state.place;
    let Ok(map) = PageMap::open() else { return };
    let mut of: Vec<_> = (0..arenas::array(held, &place).1)
        .filter_map(|i| arenas::nth(held, &place, i))
        .filter_map(|a| {
            let entry = table().entry(held, a.index);
            (entry.parked != 0 && entry.is_of(&a.arena, place.geometry)).then_some((a, entry))
        })
        .collect();
    of.sort_by_key(|(a, _)| std::cmp::Reverse(a.arena.ntotalpools - a.arena.nfreepools));
    let mut left = state.batch;
    for (a, mut entry) in of {
        if left == 0 {
            break;
        }
        // A fork that still shares the arena objects, or the list's other pools, keeps them as they are.
        if !map.page(a.object).is_some_and(|p| p.is_ours()) {
            continue;
        }
        let back = arenas::unpark(held, &place, &a, &mut entry, left);
        table().set_entry(held, a.index, &entry);
        table().count_unparked(back);
        left -= back;
    }
}
