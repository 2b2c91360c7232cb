//! pymalloc's arenas: when each is taken and given back, seen by hooks over its arena allocator.
//!
//! Called in the middle of pymalloc: they write an event and call what was there before.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use pydefrag_trace::event::escape;

use super::lane::on;
use super::own::{busy, own};
use super::state::is_active;
use super::turn;
use crate::python::{ArenaAllocator, symbol};

type Alloc = extern "C" fn(*mut c_void, usize) -> *mut c_void;
type Free = extern "C" fn(*mut c_void, *mut c_void, usize);

/// The least that is one (256 KiB up to 3.9): from 3.11 on, stacks of frames come from the same allocator.
const ARENA: usize = 256 << 10;

static ALLOC: AtomicUsize = AtomicUsize::new(0);
static FREE: AtomicUsize = AtomicUsize::new(0);

/// Puts the hooks in place, once.
///
/// # Safety
///
/// There is no interpreter yet.
pub(super) unsafe fn install() {
    let (Some(get), Some(set)) =
        (symbol("PyObject_GetArenaAllocator\0"), symbol("PyObject_SetArenaAllocator\0"))
    else {
        return;
    };
    let mut before = ArenaAllocator { ctx: std::ptr::null_mut(), alloc: None, free: None };
    // SAFETY: both are `void f(PyObjectArenaAllocator *)`, and may be called before there is an interpreter.
    unsafe {
        let get: unsafe extern "C" fn(*mut ArenaAllocator) = std::mem::transmute(get);
        let set: unsafe extern "C" fn(*mut ArenaAllocator) = std::mem::transmute(set);
        get(&mut before);
        let (Some(alloc), Some(free)) = (before.alloc, before.free) else { return };
        ALLOC.store(alloc as usize, Ordering::Release);
        FREE.store(free as usize, Ordering::Release);
        set(&mut ArenaAllocator { alloc: Some(born), free: Some(dies), ..before });
    }
}

extern "C" fn born(ctx: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: what `install` stored.
    let alloc: Alloc = unsafe { std::mem::transmute(ALLOC.load(Ordering::Acquire)) };
    let own = own();
    // What it maps is the arena, and no mapping of the program's.
    let arena = busy(own, || alloc(ctx, size));
    if !arena.is_null() {
        tell(escape::ARENA_BORN, arena as u64, size);
    }
    arena
}

extern "C" fn dies(ctx: *mut c_void, arena: *mut c_void, size: usize) {
    tell(escape::ARENA_DIED, arena as u64, size);
    // SAFETY: what `install` stored.
    let free: Free = unsafe { std::mem::transmute(FREE.load(Ordering::Acquire)) };
    busy(own(), || free(ctx, arena, size));
}

fn tell(number: u8, arena: u64, size: usize) {
    if size < ARENA || !is_active() {
        return;
    }
    let own = own();
    let numbers = [arena, size as u64];
    on(own, turn::has_lane(own), |lane| lane.escape(number, &numbers));
}
