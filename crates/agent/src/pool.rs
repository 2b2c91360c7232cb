//! One pool in use: which OS pages hold nothing live, and the free list that does without them.
//!
//! Owns the plan (pure, on the pool's bytes) and its carrying out. Invariants, all of `obmalloc.c`'s kept:
//! a pool that is in its ring has a free list that is not empty; `used + listed + lost == carved`
//! (`pydefrag_layout::agent`); a block on the list does not start on a dropped page, unless it is the last one
//! and on the tail, where the page's zero is the list's end.

use pydefrag_layout::agent::starts_on;
use pydefrag_layout::pymalloc::{
    Geometry, POOL_HEADER, PoolHeader, block_size, pool_header, slot_of,
};
use pydefrag_layout::word::u64_at;

use crate::memory::{get, put};
use crate::pages::{OS_PAGE, Page};
use crate::python::Held;

/// Slots of a pool of 16-byte blocks, the most there are.
const SLOTS: usize = 1024;

/// A set of slots.
#[derive(Clone)]
struct Slots([u64; SLOTS / 64]);

impl Slots {
    fn none() -> Slots {
        Slots([0; SLOTS / 64])
    }

    fn first(n: u32) -> Slots {
        let mut slots = Slots::none();
        for (i, word) in slots.0.iter_mut().enumerate() {
            let left = n.saturating_sub(64 * i as u32);
            *word = if left >= 64 { !0 } else { (1 << left) - 1 };
        }
        slots
    }

    fn has(&self, slot: u32) -> bool {
        self.0[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// Adds one; false if it was there.
    fn add(&mut self, slot: u32) -> bool {
        let word = &mut self.0[slot as usize / 64];
        let new = *word >> (slot % 64) & 1 == 0;
        *word |= 1 << (slot % 64);
        new
    }
}

/// What a pool becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// OS pages to drop: bit k is the pool's k-th.
    pub(crate) drop: u8,
    /// OS pages that are dropped inside the pool from now on, those from before included.
    pub(crate) dropped: u8,
    /// Slots of the free list, ascending.
    pub(crate) list: Vec<u32>,
    /// Blocks carved from now on.
    pub(crate) carved: u32,
}

/// Why there is no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Nothing to gain.
    Nothing,
    /// The pool is not what `obmalloc.c` leaves.
    Invalid,
}

/// Plans a pool in use. `pages` are its OS pages: present ones are ours alone, none is swapped. `dropped` is
/// what was dropped before.
pub(crate) fn plan(
    bytes: &[u8],
    address: u64,
    g: Geometry,
    pages: [Page; 4],
    dropped: u8,
) -> Result<Plan, Leave> {
    let header = header(bytes, address, g, dropped)?;
    let (Some(class), true) = (header.class, header.used > 0) else { return Err(Leave::Nothing) };
    // A full pool is in no ring and has no page to give, but for pages lost to it.
    if header.freeblock == 0 {
        return Err(Leave::Nothing);
    }
    let mut listed = Slots::none();
    let mut count = 0;
    let mut block = header.freeblock;
    while block != 0 {
        let slot = slot_of(block, address, class, header.carved).ok_or(Leave::Invalid)?;
        if !listed.add(slot) {
            return Err(Leave::Invalid);
        }
        count += 1;
        let offset = (block - address) as usize;
        block = if pages[offset / OS_PAGE as usize].present { u64_at(bytes, offset) } else { 0 };
    }
    let mut lost = Slots::none();
    let mut lost_count = 0;
    let masked = (0..header.carved).filter(|s| starts_on(dropped, class, *s) && !listed.has(*s));
    for slot in masked {
        lost.add(slot);
        lost_count += 1;
    }
    let dropped = match header.carved.checked_sub(header.used + count) {
        Some(0) => {
            lost = Slots::none();
            0
        }
        Some(missing) if missing == lost_count => dropped,
        _ => return Err(Leave::Invalid),
    };
    let mut live = Slots::first(header.carved);
    for (word, (free, gone)) in live.0.iter_mut().zip(listed.0.iter().zip(&lost.0)) {
        *word &= !(free | gone);
    }
    let size = block_size(class) as usize;
    let at = |slot: u32| POOL_HEADER + slot as usize * size;
    let page = OS_PAGE as usize;
    let mut full_of = [false; 4];
    full_of[0] = true;
    let mut end = POOL_HEADER;
    for slot in (0..header.carved).filter(|s| live.has(*s)) {
        end = at(slot) + size;
        full_of[at(slot) / page] = true;
        full_of[((end - 1) / page).min(3)] = true;
    }
    let present = |k: usize| pages[k].present;
    // The tail: pages behind the last live block.
    let tail = end.div_ceil(page);
    let mut carved = header.carved;
    if tail < 4 {
        let first = (tail * page - POOL_HEADER).div_ceil(size) as u32;
        carved = carved.min(first.max(2));
    }
    let dead = |k: &usize| !full_of[*k];
    let mut inner: u8 = (1..tail.min(4)).filter(dead).fold(0, |m, k| m | 1 << k);
    // One that is absent without having been dropped has a listed block whose link is its zero.
    inner &= !(1..4).filter(|k| !present(*k) && dropped >> k & 1 == 0).fold(0, |m, k| m | 1 << k);
    let outer: u8 = (tail..4).fold(0, |m, k| m | 1 << k);
    let free = |mask: u8, carved: u32| -> Vec<u32> {
        let free = (0..carved).filter(|s| !live.has(*s) && !starts_on(mask, class, *s));
        free.collect()
    };
    let mut list = free(inner, carved);
    if list.is_empty() && carved < header.carved {
        // The first virgin block becomes the list: its page reads as zero, and zero ends it.
        carved += 1;
        list = vec![carved - 1];
    } else if list.is_empty() && inner != 0 {
        // The last inner page keeps its blocks.
        inner &= !(1 << (7 - inner.leading_zeros()));
        list = free(inner, carved);
    }
    let drop = (inner | outer) & (0..4).filter(|k| present(*k)).fold(0, |m, k| m | 1 << k);
    if list.is_empty() || (drop == 0 && inner == dropped) {
        return Err(Leave::Nothing);
    }
    Ok(Plan { drop, dropped: inner, list, carved })
}

/// The header, with blocks that were lost taken into account: a pool whose listed blocks are all handed out is
/// full though more are carved than in use.
fn header(bytes: &[u8], address: u64, g: Geometry, dropped: u8) -> Result<PoolHeader, Leave> {
    match pool_header(bytes, address, g) {
        Some(header) => Ok(header),
        // Full but for what it lost: nothing is listed, so nothing is planned.
        None if dropped != 0 && u64_at(bytes, 8) == 0 => Err(Leave::Nothing),
        None => Err(Leave::Invalid),
    }
}

/// Carries a plan out, but for dropping the pages: the free list and `nextoffset`.
///
/// # Safety
///
/// The plan was made of this pool's bytes under the same hold of the GIL, and its present pages may be
/// written.
pub(crate) unsafe fn carry_out(held: &Held, address: u64, class: u8, plan: &Plan) {
    let block = |slot: u32| address + POOL_HEADER as u64 + u64::from(slot) * block_size(class);
    for (i, slot) in plan.list.iter().enumerate() {
        let next = plan.list.get(i + 1).map_or(0, |s| block(*s));
        let at = block(*slot);
        let page = (at - address) / OS_PAGE;
        // A page that is to be dropped reads as the zero that would be written.
        if next == 0 && plan.drop >> page & 1 == 1 {
            continue;
        }
        // SAFETY: a free block of the pool, by the plan.
        unsafe { put(held, at, next) };
    }
    let offset = POOL_HEADER as u64 + u64::from(plan.carved) * block_size(class);
    // SAFETY: the pool's header.
    unsafe {
        put(held, address + 8, block(plan.list[0]));
        put(held, address + 40, offset as u32);
    }
}

/// Blocks in use and the class, of a pool whose header is present.
pub(crate) fn filling(held: &Held, address: u64) -> (u32, u32) {
    // SAFETY: the header of a carved pool of an arena in use.
    unsafe { (get(held, address), get(held, address + 36)) }
}
