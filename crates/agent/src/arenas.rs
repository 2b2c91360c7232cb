//! pymalloc's arena objects and its list of usable ones: parking pools and taking them back.
//!
//! Owns `usable_arenas` and `nfp2lasta`, kept exactly as `Objects/obmalloc.c` keeps them (3.10-3.15: the
//! same code throughout): the list is in order of `nfreepools`, `nfp2lasta[n]` is its last arena with n,
//! an arena without a free pool is not in it.
//!
//! Invariants: `ntotalpools` is never lowered below 2. (An arena of one pool would be taken for wholly free
//! by `insert_to_freepool` while it is not in the list, which then follows a stale `nextarena`.) An arena
//! that leaves the list has no neighbours.

use pydefrag_layout::agent::{Entry, FEWEST_POOLS};
use pydefrag_layout::pymalloc::{
    ARENA_OBJECT, Arena, ArenaEntry, DUMMY_CLASS, Geometry, arena_object,
};

use crate::memory::{get, put};
use crate::place::Place;
use crate::python::Held;

const NEXT: u64 = 32;
const PREV: u64 = 40;
const FREEPOOLS: u64 = 24;
const NFREE: u64 = 16;
const NTOTAL: u64 = 20;

/// Pools that an arena keeps at least on its books.
pub(crate) const LEAST_POOLS: u32 = FEWEST_POOLS as u32;

/// An `arena_object` in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ArenaAt {
    /// Address of the `arena_object`.
    pub(crate) object: u64,
    /// Its index in `arenas`.
    pub(crate) index: usize,
    /// What it says.
    pub(crate) arena: Arena,
}

/// The array and its length.
pub(crate) fn array(held: &Held, place: &Place) -> (u64, usize) {
    // SAFETY: variables of the interpreter, confirmed.
    let (array, most): (u64, u32) =
        unsafe { (get(held, place.arenas), get(held, place.maxarenas)) };
    (array, most as usize)
}

/// The arena at an index, if it is in use and valid.
pub(crate) fn nth(held: &Held, place: &Place, index: usize) -> Option<ArenaAt> {
    let (array, most) = array(held, place);
    if array == 0 || index >= most {
        return None;
    }
    at(held, array + (index * ARENA_OBJECT) as u64, index, place.geometry)
}

fn at(held: &Held, object: u64, index: usize, g: Geometry) -> Option<ArenaAt> {
    // SAFETY: an entry of the array.
    let bytes: [u8; ARENA_OBJECT] = unsafe { get(held, object) };
    match arena_object(&bytes, g) {
        Some(ArenaEntry::Allocated(arena)) => Some(ArenaAt { object, index, arena }),
        _ => None,
    }
}

impl ArenaAt {
    /// Its next neighbour in the list.
    fn next(&self, held: &Held) -> u64 {
        // SAFETY: a valid arena object.
        unsafe { get(held, self.object + NEXT) }
    }

    fn prev(&self, held: &Held) -> u64 {
        // SAFETY: a valid arena object.
        unsafe { get(held, self.object + PREV) }
    }

    /// First of `freepools`.
    pub(crate) fn freepools(&self, held: &Held) -> u64 {
        // SAFETY: a valid arena object.
        unsafe { get(held, self.object + FREEPOOLS) }
    }

    /// Number of the pool at an address.
    pub(crate) fn number(&self, pool: u64, g: Geometry) -> u64 {
        (pool - g.first_pool(self.arena.address)) / g.pool_size
    }

    /// Whether a number is the address of a carved pool.
    pub(crate) fn has_pool(&self, pool: u64, g: Geometry) -> bool {
        let first = g.first_pool(self.arena.address);
        pool >= first
            && pool < self.arena.pool_address
            && (pool - first).is_multiple_of(g.pool_size)
    }
}

fn nfree(held: &Held, object: u64) -> u32 {
    // SAFETY: an arena object of the list.
    unsafe { get(held, object + NFREE) }
}

/// Validates the list and `nfp2lasta`: who is in it, in which order, what is last.
pub(crate) fn check(held: &Held, place: &Place) -> Result<(), String> {
    let (array, most) = array(held, place);
    let size = ARENA_OBJECT as u64;
    let mut last = [0_u64; 65];
    // SAFETY: a variable of the interpreter.
    let mut object: u64 = unsafe { get(held, place.usable) };
    let (mut before, mut listed, mut free) = (0, 0, 0);
    while object != 0 {
        if object < array
            || object >= array + most as u64 * size
            || !(object - array).is_multiple_of(size)
            || listed >= most
        {
            return Err("usable_arenas is no list of arena objects".into());
        }
        let a =
            at(held, object, 0, place.geometry).ok_or("usable_arenas lists an invalid arena")?;
        if a.prev(held) != before || a.arena.nfreepools < free.max(1) || a.arena.nfreepools > 64 {
            return Err("usable_arenas is not in order".into());
        }
        free = a.arena.nfreepools;
        last[free as usize] = object;
        (before, object) = (object, a.next(held));
        listed += 1;
    }
    let usable = (0..most).filter_map(|i| nth(held, place, i)).filter(|a| a.arena.nfreepools > 0);
    if usable.count() != listed {
        return Err("usable_arenas lacks an arena with a free pool".into());
    }
    // SAFETY: 65 words of the interpreter's, as `confirm` has seen.
    let found: [u64; 65] = unsafe { get(held, place.nfp2lasta) };
    if found != last {
        return Err("nfp2lasta does not agree with usable_arenas".into());
    }
    Ok(())
}

/// The values that `usable_arenas` and `nfp2lasta` must have, by the arenas alone: the one with a free pool and without
/// a predecessor, and the last with each number. None where no arena has a free pool, or they are no list.
pub(crate) fn expected(held: &Held, place: &Place) -> Option<(u64, [u64; 65])> {
    let (_, most) = array(held, place);
    let usable: Vec<ArenaAt> =
        (0..most).filter_map(|i| nth(held, place, i)).filter(|a| a.arena.nfreepools > 0).collect();
    let mut heads = usable.iter().filter(|a| a.prev(held) == 0);
    let head = heads.next()?.object;
    if heads.next().is_some() {
        return None;
    }
    let mut last = [0; 65];
    let (mut object, mut listed) = (head, 0);
    while object != 0 {
        let a = usable.iter().find(|a| a.object == object)?;
        *last.get_mut(a.arena.nfreepools as usize)? = object;
        object = a.next(held);
        listed += 1;
        if listed > usable.len() {
            return None;
        }
    }
    (listed == usable.len()).then_some((head, last))
}

/// Takes an arena out of the list, in which it is.
fn unlink(held: &Held, place: &Place, a: &ArenaAt) {
    let (next, prev) = (a.next(held), a.prev(held));
    let slot = place.nfp2lasta + 8 * u64::from(a.arena.nfreepools);
    // SAFETY: the list was validated, and only pymalloc and we change it, under the GIL.
    unsafe {
        if get::<u64>(held, slot) == a.object {
            let same = prev != 0 && nfree(held, prev) == a.arena.nfreepools;
            put(held, slot, if same { prev } else { 0 });
        }
        if prev == 0 {
            put(held, place.usable, next);
        } else {
            put(held, prev + NEXT, next);
        }
        if next != 0 {
            put(held, next + PREV, prev);
        }
        put(held, a.object + NEXT, 0_u64);
        put(held, a.object + PREV, 0_u64);
    }
}

/// Puts an arena that is not in the list behind the last one with as many free pools or fewer.
fn link(held: &Held, place: &Place, object: u64) {
    let free = nfree(held, object);
    if free == 0 {
        return;
    }
    // SAFETY: as in `unlink`; `free` is at most 64.
    unsafe {
        let last = |n: u32| get::<u64>(held, place.nfp2lasta + 8 * u64::from(n));
        let prev = (1..=free).rev().map(last).find(|o| *o != 0).unwrap_or(0);
        let next: u64 = if prev == 0 { get(held, place.usable) } else { get(held, prev + NEXT) };
        put(held, object + PREV, prev);
        put(held, object + NEXT, next);
        if prev == 0 {
            put(held, place.usable, object);
        } else {
            put(held, prev + NEXT, object);
        }
        if next != 0 {
            put(held, next + PREV, object);
        }
        put(held, place.nfp2lasta + 8 * u64::from(free), object);
    }
}

/// Writes new counts and a new list of free pools, and keeps the list of arenas in order.
fn rebook(held: &Held, place: &Place, a: &ArenaAt, nfree: u32, ntotal: u32, freepools: u64) {
    if a.arena.nfreepools > 0 {
        unlink(held, place, a);
    }
    // SAFETY: a valid arena object.
    unsafe {
        put(held, a.object + NFREE, nfree);
        put(held, a.object + NTOTAL, ntotal);
        put(held, a.object + FREEPOOLS, freepools);
    }
    link(held, place, a.object);
}

/// Takes `pools` off the arena's books. `keep` are the free pools that stay on its list, in that order:
/// together they are all of `freepools`.
pub(crate) fn park(
    held: &Held,
    place: &Place,
    a: &ArenaAt,
    entry: &mut Entry,
    pools: &[u64],
    keep: &[u64],
) {
    let gone = pools.len() as u32;
    for (i, pool) in keep.iter().enumerate() {
        let next = keep.get(i + 1).copied().unwrap_or(0);
        // SAFETY: the header of a free pool of this arena, present and ours alone.
        unsafe {
            if get::<u64>(held, pool + 16) != next {
                put(held, pool + 16, next);
            }
        }
    }
    let first = keep.first().copied().unwrap_or(0);
    rebook(held, place, a, a.arena.nfreepools - gone, a.arena.ntotalpools - gone, first);
    for pool in pools {
        let n = a.number(*pool, place.geometry);
        entry.parked |= 1 << n;
        entry.set_dropped(n, 0);
    }
}

/// Puts up to `most` parked pools back on the arena's list, as `allocate_from_new_pool` leaves a pool that
/// it carves: without a class. Returns how many.
pub(crate) fn unpark(held: &Held, place: &Place, a: &ArenaAt, entry: &mut Entry, most: u64) -> u64 {
    let first = place.geometry.first_pool(a.arena.address);
    let mut list = a.freepools(held);
    let mut back = 0;
    // The highest go on first, so that the lowest are handed out first.
    for n in (0..64).rev().filter(|n| entry.parked >> n & 1 == 1).collect::<Vec<u64>>() {
        if back == most {
            break;
        }
        let pool = first + n * place.geometry.pool_size;
        // SAFETY: a pool of an arena in use that is on no list. Its pages were dropped and read as zeros.
        unsafe {
            put(held, pool, 0_u64);
            put(held, pool + 8, 0_u64);
            put(held, pool + 16, list);
            put(held, pool + 32, a.index as u32);
            put(held, pool + 36, DUMMY_CLASS);
        }
        list = pool;
        entry.parked &= !(1 << n);
        entry.set_dropped(n, 0);
        back += 1;
    }
    if back > 0 {
        let by = back as u32;
        rebook(held, place, a, a.arena.nfreepools + by, a.arena.ntotalpools + by, list);
    }
    back
}
