//! Free bytes of malloc for a light look, without an account.
//!
//! Owns a lower bound: what is in fastbins and tcaches is left out. The lists of free chunks are followed
//! where they are short; where they are long, or change while they are read, the chunks themselves are.

use pydefrag_image::{Image, ReadError};
use pydefrag_layout::malloc::{BINS, SMALLEST_CHUNK, chunk};

use super::arenas::{Arena, Arenas, state};
use super::chunks::{Piece, follow};
use super::reader::Pages;

/// With more free chunks than this, reading the whole heap in a row is faster than jumping to each.
const MOST_CHUNKS: usize = 1 << 14;

/// Resident free bytes of all arenas.
pub(crate) fn free(image: &Image, found: &Arenas) -> Result<u64, ReadError> {
    let mut left = MOST_CHUNKS;
    let mut sum = 0;
    for arena in &found.arenas {
        sum += match in_bins(image, found, arena, &mut left)? {
            Some(free) => free,
            None => in_chunks(image, arena)?,
        };
    }
    Ok(sum)
}

/// By its bins and its top; `None` where the lists are torn, or longer than what is `left`.
fn in_bins(
    image: &Image,
    found: &Arenas,
    arena: &Arena,
    left: &mut usize,
) -> Result<Option<u64>, ReadError> {
    let mut pages = Pages::new(image);
    let Some(state) = state(image, arena.address, found.form) else { return Ok(None) };
    let Some(top) = pages.word(state.top + 8)?.and_then(|size| chunk(0, size)) else {
        return Ok(None);
    };
    // In address space, what must not exceed what the arena has; and of that what is resident.
    let (mut all, mut free) = (top.size, resident(image, state.top, top.size));
    let bins = arena.address + found.form.bins;
    for bin in (0..BINS as u64 / 2).map(|i| bins + i * 16 - 16) {
        let mut previous = bin;
        let Some(mut at) = pages.word(bin + 16)? else { return Ok(None) };
        while at != bin {
            let (size, back) = (pages.word(at.wrapping_add(8))?, pages.word(at.wrapping_add(24))?);
            let size = size.and_then(|s| chunk(0, s)).map_or(0, |c| c.size);
            all += size;
            let sound = size >= SMALLEST_CHUNK && back == Some(previous) && all <= state.system;
            if !sound || *left == 0 {
                return Ok(None);
            }
            *left -= 1;
            free += resident(image, at, size);
            let Some(next) = pages.word(at.wrapping_add(16))? else { return Ok(None) };
            (previous, at) = (at, next);
        }
    }
    Ok(Some(free))
}

/// By its chunks.
fn in_chunks(image: &Image, arena: &Arena) -> Result<u64, ReadError> {
    let mut pages = Pages::new(image);
    let mut free = 0;
    for segment in &arena.segments {
        follow(image, &mut pages, arena, segment, &mut |piece| match piece {
            Piece::Chunk { at, size, free: true } | Piece::Top { at, size } => {
                free += resident(image, at, size);
            }
            _ => {}
        })?;
    }
    Ok(free)
}

fn resident(image: &Image, at: u64, size: u64) -> u64 {
    // A torn size may be anything.
    image.residency.tally(at.saturating_add(8), at.saturating_add(size)).resident
}
