//! Live objects: the largest types, the one that misses its size class worst, and how much is known.
//!
//! Owns these sentences.

use pydefrag_heap::{Objects, TypeTotal};

use crate::format::{grouped, percent, size};
use crate::style::{Line, Style, Tone};
use crate::text::section;
use crate::words::{clean, cut_middle};

/// Columns that the name of a type may take, beside others and alone.
const NAME: [usize; 2] = [20, 36];
/// Types that are named at most.
const NAMED: usize = 6;

/// The largest types with their buffers, in so many lines.
pub(crate) fn largest(objects: &Objects, most: usize, style: Style) -> Vec<Line> {
    let total = |t: &TypeTotal| t.bytes.saturating_add(t.buffers);
    let mut types: Vec<_> = objects.types.iter().filter(|t| total(t) > 0).collect();
    types.sort_by_key(|t| std::cmp::Reverse(total(t)));
    if types.is_empty() || most == 0 {
        return Vec::new();
    }
    let named = types.iter().take(NAMED * most / 2).map(|t| {
        let name = cut_middle(&clean(&t.name, style), NAME[0], style);
        format!("{name} {}", size(total(t)))
    });
    let said = named.collect::<Vec<_>>().join(", ");
    section("Largest types", Tone::Strong, &[(Tone::Plain, said)], most, style)
}

/// The type that loses most to rounding up to a size class: first of all one whose objects all ask for the
/// same, for a field less may be what it takes.
pub(crate) fn rounding(objects: &Objects, wanted: bool, style: Style) -> Vec<Line> {
    let losing = objects.types.iter().filter(|t| t.rounding > 0);
    let worst = losing.max_by_key(|t| (t.asks.is_some(), t.rounding));
    let Some(worst) = worst.filter(|_| wanted) else { return Vec::new() };
    let name = cut_middle(&clean(&worst.name, style), NAME[1], style);
    let lost = size(worst.rounding);
    let said = match (worst.asks, worst.bytes.checked_div(worst.count)) {
        (Some(asks), Some(gets)) if gets > asks => {
            let all = grouped(worst.count);
            format!("{name} asks for {asks} B, gets {gets}: {lost} over {all}")
        }
        _ => format!("{name} loses most: {lost} of {}", size(worst.bytes)),
    };
    section("Rounding", Tone::Strong, &[(Tone::Plain, said)], 2, style)
}

/// How much of what is live is known.
pub(crate) fn coverage(objects: &Objects, style: Style) -> Vec<Line> {
    let p = &objects.pymalloc;
    let sum = |parts: [u64; 3]| parts.into_iter().fold(0, u64::saturating_add);
    let (what, known, unknown) = match sum([p.typed, p.owned, p.free_listed]) {
        0 if p.unknown == 0 => {
            let o = objects;
            let known = sum([o.typed.bytes, o.owned.bytes, o.free_listed.bytes]);
            ("live bytes", known, o.unknown.bytes)
        }
        known => ("live pymalloc bytes", known, p.unknown),
    };
    let all = known.saturating_add(unknown);
    if all == 0 {
        return Vec::new();
    }
    let exact = 100.0 * known as f64 / all as f64;
    // Not all is never 100.0%.
    let shown = if unknown > 0 { exact.min(99.9) } else { exact };
    let mut said = format!("{}% of {what} typed or owned", percent(shown));
    if objects.free_listed.bytes > 0 {
        let kept = size(objects.free_listed.bytes);
        said += &format!(", {kept} of it kept by CPython for reuse");
    }
    section("Known", Tone::Strong, &[(Tone::Quiet, said)], 2, style)
}
