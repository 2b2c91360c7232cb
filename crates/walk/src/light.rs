//! The light look: how much of a process is resident, and how much of that its heaps hold free.
//!
//! Owns what one sample of a run costs: headers and bins only, no free list is followed. Does not own
//! when samples are taken.

use std::time::Duration;

use pydefrag_image::Image;

use crate::headers::headers;
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
    let pymalloc = headers(image, &states)
        .map_err(|source| Refusal::Read { pid: image.pid, source })
        .map(|h| h.resident.saturating_sub(h.live))?;
    Ok(Light { rss: image.mappings.iter().map(|m| m.rss).sum(), free: pymalloc })
}
