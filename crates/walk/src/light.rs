//! The light look: how much of a process is resident, and how much of that its heaps hold free.
//!
//! Owns what one sample of a run costs: pool headers and malloc's bins only, and of pymalloc's arenas no
//! more than [`MOST_ARENAS`], evenly chosen; what is free in these stands for all. Does not own when
//! samples are taken.

use std::time::Duration;

use pydefrag_image::{Image, ReadError};

use crate::headers::headers;
use crate::libc;
use crate::malloc;
use crate::obmalloc::{State, states_within};
use crate::runtime::{Refusal, Runtime};

/// A heap that is not understood at once, as of an interpreter that is starting, is for the next look.
const PATIENCE: Duration = Duration::from_millis(2);

/// What a light look tells, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Light {
    /// Resident.
    pub rss: u64,
    /// Of it free inside the heaps.
    pub free: u64,
}

/// Arenas whose headers are read: with these a look at a large heap costs about what one at a small heap
/// does, and the share of them that is free differs from that of all by a few percent.
const MOST_ARENAS: usize = 64;

/// Looks lightly at a process.
pub fn light(image: &Image, runtime: &Runtime) -> Result<Light, Refusal> {
    let states = states_within(image, runtime, PATIENCE)?.states;
    let read = |source| Refusal::Read { pid: image.pid, source };
    let mut free = free_in_pools(image, states).map_err(read)?;
    if let Some(found) = libc::glibc(image).and_then(|m| malloc::find(image, m, None)) {
        free += malloc::free(image, &found).map_err(read)?;
    }
    let rss = image.mappings.iter().map(|m| m.rss).sum();
    Ok(Light { rss, free: free.min(rss) })
}

/// Free bytes of pymalloc's arenas, by some of them where there are many.
fn free_in_pools(image: &Image, mut states: Vec<State>) -> Result<u64, ReadError> {
    let resident = |states: &[State]| -> u64 {
        let of =
            |s: &State, at: u64| image.residency.tally(at, at + s.geometry.arena_size).resident;
        states.iter().map(|s| s.arenas.iter().map(|a| of(s, a.arena.address)).sum::<u64>()).sum()
    };
    let all = resident(&states);
    let arenas: usize = states.iter().map(|s| s.arenas.len()).sum();
    let step = arenas.div_ceil(MOST_ARENAS).max(1);
    let mut i = 0;
    for state in &mut states {
        state.arenas.retain(|_| {
            i += 1;
            (i - 1) % step == 0
        });
    }
    let some = headers(image, &states)?;
    let free = some.resident.saturating_sub(some.live);
    let share = free as f64 / some.resident.max(1) as f64;
    Ok(if step == 1 { free } else { (share * all as f64) as u64 })
}
