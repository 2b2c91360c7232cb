//! What holds it: the second screen of a snapshot whose objects were looked at.
//!
//! Owns the order of its parts and their budget of lines. Each part's content is its own file's, and so is
//! how it gives up rows. Names, chains and contents come from the process: each part cleans them before it
//! measures and cuts them.

mod duplicates;
mod garbage;
mod objects;
mod pins;
mod savings;
mod slack;

use pydefrag_heap::Explanation;
use unicode_width::UnicodeWidthStr;

use crate::format::Unit;
use crate::style::{Line, Style};
use crate::table::Table;
use crate::text::WIDTH;
use crate::words::{clean, cut_middle};

/// Names that get less room than this are of no use: then the numbers go to the next unit.
const LEAST_NAME_ROOM: usize = 36;

/// How many rows of each part may be shown.
#[derive(Clone, Copy)]
struct Fold {
    owners: usize,
    types: usize,
    sites: usize,
    slack: usize,
    savings: usize,
    duplicates: usize,
    /// Lines on garbage.
    garbage: usize,
    /// Lines on the largest types.
    largest: usize,
    /// The type that misses its size class worst.
    rounding: bool,
}

/// From roomy to tight: the parts that say least of what to do give up rows first.
const FOLDS: [Fold; 7] = {
    let all = Fold {
        owners: 8,
        types: 5,
        sites: 4,
        slack: 4,
        savings: 4,
        duplicates: 3,
        garbage: 3,
        largest: 2,
        rounding: true,
    };
    let fewer = Fold { owners: 6, types: 4, sites: 3, slack: 3, savings: 3, duplicates: 2, ..all };
    let few = Fold { types: 3, duplicates: 1, garbage: 2, ..fewer };
    let fewer_savings = Fold { savings: 2, owners: 5, sites: 2, largest: 1, ..few };
    let less = Fold { types: 2, slack: 2, sites: 1, duplicates: 0, ..fewer_savings };
    let least = Fold { owners: 4, savings: 1, slack: 1, largest: 0, rounding: false, ..less };
    let none = Fold { owners: 3, types: 1, garbage: 1, ..least };
    [all, fewer, few, fewer_savings, less, least, none]
};

/// The parts, with a blank line between them, in no more than `most` lines if that can be kept.
pub(crate) fn lines(explanation: &Explanation, most: usize, style: Style) -> Vec<Line> {
    let [.., tightest] = FOLDS;
    let mut folded = FOLDS.into_iter().map(|fold| folded(explanation, fold, style));
    folded.find(|l| l.len() <= most).unwrap_or_else(|| self::folded(explanation, tightest, style))
}

fn folded(e: &Explanation, fold: Fold, style: Style) -> Vec<Line> {
    let rest = [
        duplicates::lines(&e.duplicates, fold.duplicates, style),
        garbage::lines(&e.garbage, fold.garbage, style),
        objects::rounding(&e.objects, fold.rounding, style),
        objects::largest(&e.objects, fold.largest, style),
        objects::coverage(&e.objects, style),
    ];
    let parts = [
        pins::lines(&e.pins, fold.owners, fold.types, fold.sites, style),
        slack::lines(&e.slack, fold.slack, style),
        savings::lines(&e.savings, fold.savings, style),
        rest.concat(),
    ];
    let shown: Vec<_> = parts.into_iter().filter(|p| !p.is_empty()).collect();
    shown.join(&Line::new())
}

/// A table whose first column has names from the process: in the unit in which it lines up, names cut in
/// the middle where they are too long.
fn named_table(largest: u64, style: Style, table: impl Fn(Unit) -> Table) -> Vec<Line> {
    let unit = Unit::from(largest).find(|u| table(*u).room(WIDTH) >= LEAST_NAME_ROOM);
    let mut table = table(unit.unwrap_or(Unit::LARGEST));
    // What must be cut gives up room for columns that stand two blanks apart.
    let room = table.room(WIDTH);
    let cut_to = room.saturating_sub(table.columns.len() - 1).max(room.min(LEAST_NAME_ROOM));
    for row in &mut table.rows {
        let name = &mut row[table.flexible].1;
        let cleaned = clean(name, style);
        *name = match cleaned.width() <= room {
            true => cleaned,
            false => cut_middle(&cleaned, cut_to, style),
        };
    }
    table.lines(WIDTH, usize::MAX, style)
}
