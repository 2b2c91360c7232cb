//! What is in malloc's bins and tops, without following its chunks: what a light look knows.
//!
//! Owns a lower bound of the free bytes: what is in fastbins and tcaches is left out. A list that a running
//! program changes under our eyes is read again, and if it stays torn nothing is said.

use pydefrag_image::{Image, ReadError};
use pydefrag_layout::malloc::{BINS, SMALLEST_CHUNK, chunk};

use super::arenas::{Arena, Arenas, state};
use super::reader::Pages;

/// More chunks than this in one arena are a loop, or take too long for a light look.
const MOST_CHUNKS: usize = 1 << 18;
const TRIES: u32 = 4;

/// Resident free bytes of all arenas, in bins and tops; `None` where a list stays torn.
pub(crate) fn free_in_bins(image: &Image, found: &Arenas) -> Result<Option<u64>, ReadError> {
    let mut sum = 0;
    for arena in &found.arenas {
        let mut free = None;
        for _ in 0..TRIES {
            free = of_arena(image, found, arena)?;
            if free.is_some() {
                break;
            }
        }
        let Some(free) = free else { return Ok(None) };
        sum += free;
    }
    Ok(Some(sum))
}

fn of_arena(image: &Image, found: &Arenas, arena: &Arena) -> Result<Option<u64>, ReadError> {
    let mut pages = Pages::new(image);
    let Some(state) = state(image, arena.address, found.form) else { return Ok(None) };
    let resident = |at: u64, size: u64| {
        // A torn size may be anything.
        image.residency.tally(at.saturating_add(8), at.saturating_add(size)).resident
    };
    let Some(size) = pages.word(state.top + 8)?.and_then(|size| chunk(0, size)) else {
        return Ok(None);
    };
    // In address space, what must not exceed what the arena has; and of that what is resident.
    let (mut all, mut free) = (size.size, resident(state.top, size.size));
    let bins = arena.address + found.form.bins;
    let mut left = MOST_CHUNKS;
    for bin in (0..BINS as u64 / 2).map(|i| bins + i * 16 - 16) {
        let mut previous = bin;
        let Some(mut at) = pages.word(bin + 16)? else { return Ok(None) };
        while at != bin {
            let (size, back) = (pages.word(at.wrapping_add(8))?, pages.word(at.wrapping_add(24))?);
            let size = size.and_then(|s| chunk(0, s)).map_or(0, |c| c.size);
            all += size;
            left -= 1;
            if size < SMALLEST_CHUNK || back != Some(previous) || all > state.system || left == 0 {
                return Ok(None);
            }
            free += resident(at, size);
            let Some(next) = pages.word(at + 16)? else { return Ok(None) };
            (previous, at) = (at, next);
        }
    }
    Ok(Some(free))
}
