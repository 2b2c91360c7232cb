//! The light look: how much of a process is resident, and how much of that its heaps hold free.
//!
//! Owns what one sample of a run costs: headers and bins only, no free list is followed. Does not own
//! when samples are taken.

use std::time::Duration;

use pydefrag_image::Image;

use crate::headers::headers;
use crate::libc;
use crate::malloc;
use crate::obmalloc::states_within;
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

/// Looks lightly at a process.
pub fn light(image: &Image, runtime: &Runtime) -> Result<Light, Refusal> {
    let states = states_within(image, runtime, PATIENCE)?.states;
    let read = |source| Refusal::Read { pid: image.pid, source };
    let pymalloc = headers(image, &states).map_err(read)?;
    let mut free = pymalloc.resident.saturating_sub(pymalloc.live);
    if let Some(found) = libc::glibc(image).and_then(|m| malloc::find(image, m, None)) {
        free += malloc::free_in_bins(image, &found).map_err(read)?;
    }
    let rss = image.mappings.iter().map(|m| m.rss).sum();
    Ok(Light { rss, free: free.min(rss) })
}
