//! `usedpools`: the ring of each size class, put in order of filling.
//!
//! pymalloc hands out from a ring's first pool. With the densest first, sparse pools empty by themselves.
//! A ring is sorted whole, under one hold of the GIL, and left as it is when it is longer than that allows.

use pydefrag_layout::pymalloc::CLASSES;

use crate::memory::{get, put};
use crate::place::Place;
use crate::python::Held;

const NEXT: u64 = 16;
const PREV: u64 = 24;

/// A longest ring that is sorted: about a millisecond.
const LONGEST: usize = 4096;

/// Sorts a class's ring, densest first; false if it is too long or no ring.
pub(crate) fn sort(held: &Held, place: &Place, class: usize) -> bool {
    debug_assert!(class < CLASSES);
    // The head is where a pool would begin whose `nextpool` and `prevpool` are this pair.
    let head = place.usedpools + 16 * class as u64 - 16;
    let mut pools: Vec<(u32, u64)> = Vec::new();
    // SAFETY: the ring's links, which pymalloc keeps whole between calls.
    unsafe {
        let mut at: u64 = get(held, head + NEXT);
        while at != head {
            let (used, szidx): (u32, u32) = (get(held, at), get(held, at + 36));
            if pools.len() == LONGEST || szidx as usize != class || used == 0 {
                return false;
            }
            pools.push((used, at));
            let next: u64 = get(held, at + NEXT);
            if get::<u64>(held, next + PREV) != at {
                return false;
            }
            at = next;
        }
    }
    if pools.is_sorted_by_key(|p| std::cmp::Reverse(p.0)) {
        return true;
    }
    pools.sort_by_key(|p| (std::cmp::Reverse(p.0), p.1));
    let mut prev = head;
    for (_, pool) in &pools {
        // SAFETY: headers of the ring.
        unsafe {
            put(held, prev + NEXT, *pool);
            put(held, pool + PREV, prev);
        }
        prev = *pool;
    }
    // SAFETY: the same.
    unsafe {
        put(held, prev + NEXT, head);
        put(held, head + PREV, prev);
    }
    true
}
