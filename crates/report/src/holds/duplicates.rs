//! Equal strings and bytes that are stored more than once.
//!
//! Owns these sentences. A content is shown only if the snapshot has one: with `--show-values`.

use pydefrag_heap::{Duplicates, OwnerDuplicates};

use crate::format::{grouped, size};
use crate::style::{Line, Style, Tone};
use crate::text::{LABEL, WIDTH, labelled, section};
use crate::words::{clean, cut, cut_middle};

/// Columns that a content may take.
const EXAMPLE: usize = 16;

/// The sum, and the first so many owners in a line each; nothing where there are no copies.
pub(crate) fn lines(duplicates: &Duplicates, most: usize, style: Style) -> Vec<Line> {
    let copies = duplicates.copies;
    if copies.count == 0 {
        return Vec::new();
    }
    let sampled = match duplicates.one_in {
        0 | 1 => String::new(),
        n => format!(", estimated from one content in {}", grouped(n)),
    };
    let said = format!(
        "{} in {} copies of equal str and bytes{sampled}",
        size(copies.bytes),
        grouped(copies.count)
    );
    let mut lines = section("Duplicates", Tone::Strong, &[(Tone::Plain, said)], 2, style);
    let worst = duplicates.worst.iter().take(most).map(|w| owner(w, style)).collect();
    lines.extend(labelled(&[""], worst));
    lines
}

fn owner(worst: &OwnerDuplicates, style: Style) -> Line {
    let amount = format!("{:>11}  ", size(worst.bytes));
    let quoted = |text: &String| format!(", as {}", cut(&clean(text, style), EXAMPLE, style));
    let example = worst.example.as_ref().map_or(String::new(), quoted);
    let (copies, different) = (grouped(worst.copies), grouped(worst.different));
    let values = format!(": {copies} copies of {different}{example}");
    let room = (WIDTH - LABEL).saturating_sub(amount.len());
    let values = cut(&values, room, style);
    let left = room.saturating_sub(Line::of(Tone::Plain, values.as_str()).width());
    let name = cut_middle(&clean(&worst.owner, style), left, style);
    Line::of(Tone::Plain, amount).with(Tone::Plain, name).with(Tone::Quiet, values)
}
