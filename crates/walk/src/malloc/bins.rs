//! What is in malloc's bins and tops, without following its chunks: what a light look knows.
//!
//! Owns a lower bound of the free bytes: fastbins, tcaches, and lists that a running program changes
//! under our eyes are left out.

use pydefrag_image::{Image, ReadError};
use pydefrag_layout::malloc::{BINS, chunk};

use super::arenas::{Arenas, state};
use super::reader::Pages;

/// More chunks than this in one list are a loop, or take too long for a light look.
const MOST_CHUNKS: usize = 1 << 18;

/// Resident free bytes of all arenas, in bins and tops.
pub(crate) fn free_in_bins(image: &Image, found: &Arenas) -> Result<u64, ReadError> {
    let mut pages = Pages::new(image);
    let mut free = 0;
    for arena in &found.arenas {
        let Some(state) = state(image, arena.address, found.form) else { continue };
        let resident = |at: u64, size: u64| {
            // A torn size may be anything.
            image.residency.tally(at.saturating_add(8), at.saturating_add(size)).resident
        };
        let size_at = |pages: &mut Pages<'_>, at: u64| -> Result<Option<u64>, ReadError> {
            Ok(pages.word(at + 8)?.and_then(|size| chunk(0, size)).map(|c| c.size))
        };
        if let Some(size) = size_at(&mut pages, state.top)? {
            free += resident(state.top, size);
        }
        let bins = arena.address + found.form.bins;
        for bin in (0..BINS as u64 / 2).map(|i| bins + i * 16 - 16) {
            let Some(mut at) = pages.word(bin + 16)? else { continue };
            let mut left = MOST_CHUNKS;
            while at != bin && left > 0 {
                let Some(size) = size_at(&mut pages, at)?.filter(|s| *s > 0) else { break };
                free += resident(at, size);
                let Some(next) = pages.word(at + 16)? else { break };
                (at, left) = (next, left - 1);
            }
        }
    }
    Ok(free)
}
