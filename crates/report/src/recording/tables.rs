//! The tables of a recording: the lines that allocated most, and the calls that lead there.
//!
//! Owns how many rows each gets. What is not shown stands in a row of its own, so that each table sums to its whole.

use std::cmp::Reverse;

use pydefrag_heap::{Amount, Recording, Tally};
use unicode_width::UnicodeWidthStr;

use super::site::{Place, by_place};
use super::subtree::heaviest;
use crate::format::{Unit, fine, grouped, share};
use crate::ps::trunks;
use crate::style::{Line, Style, Tone};
use crate::table::{Column, Table};
use crate::text::WIDTH;

/// Rows of the tables, in the order that they stand in.
const ROWS: [usize; 3] = [10, 7, 8];
/// Rows of the tree at most, and at least.
const BRANCHES: [usize; 2] = [16, 6];
/// Levels of the tree that are drawn; deeper ones stand below the last.
const LEVELS: usize = 7;

/// One of the tables: by which amount, and what it is called.
struct Told {
    title: &'static str,
    whole: fn(&Recording) -> Amount,
    of: fn(&Tally) -> Amount,
    tone: Tone,
    /// Whether the average size is of interest.
    average: bool,
}

const TOLD: [Told; 3] = [
    Told {
        title: "Live at the peak, by the line that allocated it",
        whole: |r| r.peak.live,
        of: |t| t.peak,
        tone: Tone::Live,
        average: false,
    },
    Told {
        title: "Retained at the end",
        whole: |r| r.retained,
        of: |t| t.retained,
        tone: Tone::Pinned,
        average: false,
    },
    Told {
        title: "Allocated in all",
        whole: |r| r.allocated,
        of: |t| t.allocated,
        tone: Tone::Native,
        average: true,
    },
];

/// All tables, in `room` lines at most.
pub(super) fn lines(recording: &Recording, room: usize, style: Style) -> Vec<Line> {
    let mut places = by_place(recording);
    let mut lines = Vec::new();
    let mut left = room;
    for (told, rows) in TOLD.iter().zip(ROWS) {
        let part = table(recording, &mut places, told, rows, style);
        // A blank line before each.
        if part.len() < left {
            left -= part.len() + 1;
            lines.push(Line::new());
            lines.extend(part);
        }
        if std::ptr::eq(told, &TOLD[0]) {
            let others: usize = ROWS[1..].iter().map(|rows| rows + 4).sum();
            let branches = left.saturating_sub(others + 3).clamp(BRANCHES[1], BRANCHES[0]);
            let part = tree(recording, branches, style);
            if !part.is_empty() && part.len() < left {
                left -= part.len() + 1;
                lines.push(Line::new());
                lines.extend(part);
            }
        }
    }
    lines
}

fn table(
    recording: &Recording,
    places: &mut [(Place, Tally)],
    told: &Told,
    most: usize,
    style: Style,
) -> Vec<Line> {
    let title = |more: &str| Line::of(Tone::Strong, told.title).with(Tone::Quiet, more.to_owned());
    let bytes = |t: &Tally| (told.of)(t).bytes;
    // Of equal ones the order is that of the recording.
    places.sort_by_key(|(_, tally)| Reverse(bytes(tally)));
    let held = places.partition_point(|(_, tally)| bytes(tally) > 0);
    if held == 0 {
        return vec![title(": nothing")];
    }
    let shown = if held > most { most - 1 } else { held };
    let whole = (told.whole)(recording);
    let unit = Unit::fine(bytes(&places[0].1).max(whole.bytes));
    let row = |amount: Amount, tone: Tone| {
        let mut cells = vec![
            (told.tone, unit.number(amount.bytes)),
            (Tone::Quiet, share(amount.bytes, whole.bytes)),
        ];
        if let Some(error) = recording.mode.error_at_most(amount.bytes) {
            cells.push((Tone::Quiet, unit.number(error)));
        }
        cells.push((tone, grouped(amount.count)));
        if told.average {
            let average = amount.bytes.checked_div(amount.count);
            cells.push((Tone::Quiet, average.map_or(String::new(), fine)));
        }
        cells
    };
    let mut rows: Vec<_> =
        places[..shown].iter().map(|(_, tally)| row((told.of)(tally), Tone::Plain)).collect();
    if shown < held {
        let mut rest = Tally::default();
        places[shown..held].iter().for_each(|(_, tally)| rest.add(tally));
        rows.push(row((told.of)(&rest), Tone::Quiet));
    }
    let mut columns = vec![number(unit.name), number("%")];
    if recording.mode.error_at_most(0).is_some() {
        columns.push(number(style.plus_minus()));
    }
    columns.push(number("blocks"));
    if told.average {
        columns.push(number("average"));
    }
    let others = (Tone::Quiet, format!("{} other lines", grouped((held - shown) as u64)));
    let lines = with_places(columns, rows, style, |i, room| match places[..shown].get(i) {
        Some((place, _)) => (Tone::Plain, place.text(recording, room, style)),
        None => others.clone(),
    });
    [vec![title("")], lines].concat()
}

/// A table of rows to which a last column is added, `where`: each row's text in the room that there is.
fn with_places(
    mut columns: Vec<Column>,
    mut rows: Vec<Vec<(Tone, String)>>,
    style: Style,
    place: impl Fn(usize, usize) -> (Tone, String),
) -> Vec<Line> {
    let flexible = columns.len();
    columns.push(Column { head: vec!["where"], tone: Tone::Quiet, right: false });
    rows.iter_mut().for_each(|row| row.push((Tone::Plain, String::new())));
    let mut table = Table { columns, rows, flexible };
    // With two blanks between columns.
    let room = table.room(WIDTH).saturating_sub(flexible);
    for (i, row) in table.rows.iter_mut().enumerate() {
        row[flexible] = place(i, room);
    }
    table.lines(WIDTH, room, style)
}

fn number(head: &'static str) -> Column {
    Column { head: vec![head], tone: Tone::Quiet, right: true }
}

/// The heaviest calls at the peak with all that they called, in `most` rows.
fn tree(recording: &Recording, most: usize, style: Style) -> Vec<Line> {
    let subtrees = recording.subtrees();
    let branches = heaviest(recording, &subtrees, |t| t.peak.bytes, most);
    let Some(largest) = branches.first().map(|b| b.bytes) else { return Vec::new() };
    let unit = Unit::fine(largest);
    let trunks = trunks(branches.iter().map(|b| b.depth.min(LEVELS)), style);
    let rows = branches.iter().map(|branch| {
        let own = recording.calls[branch.call].own.peak.bytes;
        vec![
            (Tone::Live, unit.number(branch.bytes)),
            (Tone::Quiet, share(branch.bytes, recording.peak.live.bytes)),
            (Tone::Plain, if own == 0 { String::new() } else { unit.number(own) }),
        ]
    });
    let columns = vec![number(unit.name), number("%"), number("itself")];
    let title = "Live at the peak, by call";
    let more = format!(" ({} stands for calls that only lead on)", style.ellipsis());
    let title = Line::of(Tone::Strong, title).with(Tone::Quiet, more);
    let lines = with_places(columns, rows.collect(), style, |i, room| {
        let (branch, trunk) = (&branches[i], &trunks[i]);
        // Those that only lead here are one sign.
        let passed = if branch.passed > 0 { style.ellipsis() } else { "" };
        let before = format!("{trunk}{passed}{}", if passed.is_empty() { "" } else { " " });
        let place = Place::of(&recording.calls[branch.call]);
        let room = room.saturating_sub(before.width());
        // The root has no place of its own here: it stands for the whole.
        match branch.call {
            0 => (Tone::Strong, before + "all calls"),
            _ => (Tone::Plain, before + &place.text(recording, room, style)),
        }
    });
    [vec![title], lines].concat()
}
