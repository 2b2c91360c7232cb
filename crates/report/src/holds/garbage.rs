//! Garbage: what the collector has still to find.
//!
//! Owns these sentences, which always say that it is a lower bound.

use pydefrag_heap::{Garbage, Generation, TypeTotal};

use crate::format::{grouped, size};
use crate::style::{Line, Style, Tone};
use crate::text::section;
use crate::words::{clean, cut_middle};

/// Columns that the name of a type may take.
const NAME: usize = 36;

/// How much there is at least, of what and in which generation.
pub(crate) fn lines(garbage: &Garbage, most: usize, style: Style) -> Vec<Line> {
    if garbage.objects == 0 {
        let said = "none found; a lower bound, for what looks like a reference counts".to_owned();
        return section("Garbage", Tone::Strong, &[(Tone::Quiet, said)], most, style);
    }
    let mut said = format!(
        "at least {} in {} objects that nothing reaches",
        size(garbage.bytes),
        grouped(garbage.objects)
    );
    if garbage.pinned > 0 {
        said += &format!(", which pin {} more", size(garbage.pinned));
    }
    let total = |t: &&TypeTotal| t.bytes.saturating_add(t.buffers);
    if let Some(first) = garbage.by_type.iter().max_by_key(total) {
        let name = cut_middle(&clean(&first.name, style), NAME, style);
        said += &format!("; most of it {name}");
    }
    let oldest = garbage.generations.iter().max_by_key(|g| g.garbage.bytes);
    if let Some(Generation { name, garbage, .. }) = oldest.filter(|g| g.garbage.bytes > 0) {
        let name = cut_middle(&clean(name, style), 12, style);
        said += &format!("; {} in generation {name}", size(garbage.bytes));
    }
    section("Garbage", Tone::Strong, &[(Tone::Plain, said)], most, style)
}
