//! Better structures: what each would save, computed from this heap, and what to write.
//!
//! Owns the words for each change.

use pydefrag_heap::{Saving, StructureChange};

use super::named_table;
use crate::format::grouped;
use crate::style::{Line, Style, Tone};
use crate::table::{Column, Table};
use crate::text::WIDTH;
use crate::words::{clean, cut};

/// The first so many changes, two lines each below a heading; nothing where none would save anything.
pub(crate) fn lines(savings: &[Saving], most: usize, style: Style) -> Vec<Line> {
    let shown = &savings[..savings.len().min(most)];
    if shown.is_empty() {
        return Vec::new();
    }
    let largest = shown.iter().map(|s| s.now.max(s.saved)).max().unwrap_or(0);
    let mut table = named_table(largest, style, |unit| {
        let column = |head, tone| Column { head: vec!["", head], tone, right: true };
        Table {
            columns: vec![
                Column {
                    head: vec!["Better structures, computed from this heap", unit.name],
                    tone: Tone::Strong,
                    right: false,
                },
                column("objects", Tone::Quiet),
                column("now", Tone::Quiet),
                column("saved", Tone::Live),
            ],
            rows: shown
                .iter()
                .map(|s| {
                    vec![
                        (Tone::Plain, format!("{}: {}", label(s.change), s.of)),
                        (Tone::Plain, grouped(s.count)),
                        (Tone::Plain, unit.number(s.now)),
                        (Tone::Live, unit.number(s.saved)),
                    ]
                })
                .collect(),
            flexible: 0,
        }
    });
    let rows = table.split_off(2);
    for (row, saving) in rows.into_iter().zip(shown) {
        table.push(row);
        let how = cut(&clean(&saving.how, style), WIDTH - 2, style);
        table.push(Line::of(Tone::Quiet, format!("  {how}")));
    }
    table
}

fn label(change: StructureChange) -> &'static str {
    match change {
        StructureChange::Slots => "__slots__",
        StructureChange::Array => "array",
        StructureChange::Tuple => "tuple",
        StructureChange::Rebuild => "rebuild",
        StructureChange::Intern => "intern",
    }
}
