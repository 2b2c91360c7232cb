//! The ladder: what would come back, rung by rung.
//!
//! Owns the words for each rung, and for why one is not known. The bytes are the walker's.

use pydefrag_heap::Snapshot;

use crate::format::size;
use crate::style::{Line, Tone};

/// One line for each rung, or a single one when none is known.
pub(crate) fn lines(snapshot: &Snapshot) -> Vec<Line> {
    let l = snapshot.ladder;
    if [l.trim, l.purge, l.compact, l.ideal].iter().all(Option::is_none) {
        return vec![Line::of(Tone::Quiet, "not known: no heap of this process was walked")];
    }
    [
        (
            "trim",
            l.trim,
            "malloc's free runs of whole OS pages",
            "malloc is not walked by this version",
        ),
        (
            "purge",
            l.purge,
            "+ free pools, free tails, dead OS pages",
            "no pymalloc heap was walked",
        ),
        (
            "compact",
            l.compact,
            "+ sparse pools whose survivors can move",
            "what can move is not known to this version",
        ),
        ("ideal", l.ideal, "perfect packing of what is live: a bound", "no heap was walked"),
    ]
    .into_iter()
    .map(|(name, bytes, what, why_not)| {
        let (tone, amount, words) = match bytes {
            Some(bytes) => (Tone::Strong, size(bytes), what),
            None => (Tone::Quiet, "-".to_string(), why_not),
        };
        Line::of(Tone::Plain, format!("{name:<8}"))
            .with(tone, format!("{amount:>11}"))
            .with(Tone::Quiet, format!("  {words}"))
    })
    .collect()
}
