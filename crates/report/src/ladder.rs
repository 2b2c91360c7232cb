//! The ladder: what would come back, rung by rung.
//!
//! Owns the words for each rung. The bytes are the walker's; a rung that is not known is left out.

use pydefrag_heap::Snapshot;

use crate::format::size;
use crate::style::{Line, Tone};

/// One line for each rung that is known, or a single one when none is.
pub(crate) fn lines(snapshot: &Snapshot) -> Vec<Line> {
    let l = snapshot.ladder;
    if [l.trim, l.purge, l.compact, l.ideal].iter().all(Option::is_none) {
        return vec![Line::of(Tone::Quiet, "not known: no heap of this process was walked")];
    }
    [
        ("trim", l.trim, "malloc's free runs of whole OS pages"),
        ("purge", l.purge, "+ free pools, free tails, dead OS pages"),
        ("compact", l.compact, "+ sparse pools whose survivors can move"),
        ("ideal", l.ideal, "perfect packing of what is live: a bound"),
    ]
    .into_iter()
    .filter_map(|(name, bytes, words)| {
        let amount = Line::of(Tone::Plain, format!("{name:<8}"))
            .with(Tone::Strong, format!("{:>11}", size(bytes?)));
        Some(amount.with(Tone::Quiet, format!("  {words}")))
    })
    .collect()
}
