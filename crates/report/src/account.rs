//! The account as a table: owners, and inside walked heaps where each resident byte is.
//!
//! Owns which owners are shown one by one and which are folded. Its last row is RSS.

use pydefrag_heap::{Account, Owner, Snapshot};

use crate::format::{Unit, count, share};
use crate::style::{Line, Style, Tone};
use crate::table::{Column, Table};
use crate::words::clean;

/// Room that names should have before columns are spread: `allocator in libarrow.so.1700`.
const NAME_ROOM: usize = 30;
/// Names that get less than this are of no use: then the numbers go to the next unit.
const LEAST_NAME_ROOM: usize = 16;
/// Heading lines of the table.
pub(crate) const HEADING: usize = 2;
/// Fewest rows that [`lines`] can be held to: an owner, two folds, what nobody owns, the
/// difference, and the total.
pub(crate) const FEWEST_ROWS: usize = 6;

struct Row {
    name: String,
    tone: Tone,
    resident: u64,
    account: Option<Account>,
    /// Resident bytes are missing from the sum rather than in it.
    missing: bool,
}

/// The table, in no more than `most` rows beside its heading.
pub(crate) fn lines(snapshot: &Snapshot, most: usize, width: usize, style: Style) -> Vec<Line> {
    let rows = rows(snapshot, most, style);
    let largest = rows.iter().map(|r| r.resident).max().unwrap_or(0);
    let table = |unit| table(&rows, unit, snapshot.memory.rss);
    let unit = Unit::from(largest).find(|u| table(*u).room(width) >= LEAST_NAME_ROOM);
    let table = table(unit.unwrap_or(Unit::LARGEST));
    // Names and two numbers only: those belong close together.
    let width = if rows.iter().any(|r| r.account.is_some()) { width } else { width / 2 };
    table.lines(width, NAME_ROOM, style)
}

/// Rows that the table has when nothing is folded.
pub(crate) fn natural_rows(snapshot: &Snapshot, style: Style) -> usize {
    rows(snapshot, usize::MAX, style).len()
}

fn rows(snapshot: &Snapshot, most: usize, style: Style) -> Vec<Row> {
    let mut owners: Vec<&Owner> = snapshot.owners.iter().filter(|o| o.resident > 0).collect();
    owners.sort_by_key(|o| std::cmp::Reverse(o.resident));
    let sum =
        owners.iter().fold(snapshot.unattributed, |sum: u64, o| sum.saturating_add(o.resident));
    let rss = snapshot.memory.rss;
    let row = |name: &str, resident, account| Row {
        name: clean(name, style),
        tone: Tone::Plain,
        resident,
        account,
        missing: false,
    };
    // What follows the owners.
    let mut ending = Vec::new();
    if snapshot.unattributed > 0 {
        ending.push(Row { tone: Tone::Warn, ..row("unattributed", snapshot.unattributed, None) });
    }
    if sum != rss {
        let missing = sum > rss;
        let r = row("changed while read", sum.abs_diff(rss), None);
        ending.push(Row { tone: Tone::Warn, missing, ..r });
    }
    let whole = total(owners.iter().filter_map(|o| o.account.as_ref()));
    ending.push(Row { tone: Tone::Strong, ..row("total = RSS", rss, whole) });

    let room = most.max(FEWEST_ROWS) - ending.len();
    let mut folded = Vec::new();
    if owners.len() > room {
        // Walked and other owners fold apart: only the former have an account that sums up.
        let shown = room - 2;
        // The largest walked heap is always among the shown.
        if let Some(first) = owners.iter().position(|o| o.account.is_some()) {
            let heap = owners.remove(first);
            owners.insert(first.min(shown - 1), heap);
        }
        folded = owners.split_off(shown);
    }
    let mut rows: Vec<Row> = owners.iter().map(|o| row(&o.name, o.resident, o.account)).collect();
    for walked in [true, false] {
        let part: Vec<_> = folded.iter().filter(|o| o.account.is_some() == walked).collect();
        if let [only] = part[..] {
            rows.push(row(&only.name, only.resident, only.account));
        }
        if part.len() < 2 {
            continue;
        }
        let name = count(part.len() as u64, if walked { "other heap" } else { "other" });
        let resident = part.iter().fold(0, |sum: u64, o| sum.saturating_add(o.resident));
        rows.push(Row {
            tone: Tone::Quiet,
            ..row(&name, resident, total(part.iter().filter_map(|o| o.account.as_ref())))
        });
    }
    rows.extend(ending);
    rows
}

fn total<'a>(accounts: impl Iterator<Item = &'a Account>) -> Option<Account> {
    // Rounding is shown inside `live`: known here and not known there, it still counts.
    accounts.map(|a| with_rounding_in_live(*a)).reduce(|mut sum, a| {
        sum.add(&a);
        sum
    })
}

fn with_rounding_in_live(mut a: Account) -> Account {
    a.live += a.rounding.take().unwrap_or(0);
    a
}

fn table(rows: &[Row], unit: Unit, rss: u64) -> Table {
    let column = |first, second, tone| Column { head: vec![first, second], tone, right: true };
    let walked = rows.iter().any(|r| r.account.is_some());
    let unread = rows.iter().any(|r| r.account.is_some_and(|a| a.unread > 0));
    let mut columns = vec![
        Column { head: vec!["", unit.name], tone: Tone::Quiet, right: false },
        column("", "RSS", Tone::Quiet),
        column("", "% RSS", Tone::Quiet),
    ];
    if walked {
        columns.extend([
            column("", "live", Tone::Live),
            column("free", "pools", Tone::Lost),
            column("", "holes", Tone::Lost),
            column("pinned", "free", Tone::Pinned),
            column("top,", "cached", Tone::Overhead),
            column("over-", "head", Tone::Overhead),
        ]);
    } else {
        // One heading line is enough.
        for column in &mut columns {
            column.head.remove(0);
        }
    }
    if unread {
        columns.push(column("", "unread", Tone::Warn));
    }
    let cells = |row: &Row| {
        let sign = if row.missing { "-" } else { "" };
        let strong = if row.tone == Tone::Strong { Tone::Strong } else { Tone::Plain };
        let mut cells = vec![
            (row.tone, row.name.clone()),
            (strong, format!("{sign}{}", unit.number(row.resident))),
            (Tone::Quiet, share(row.resident, rss)),
        ];
        let account = row.account.map(with_rounding_in_live);
        let mut term = |there, tone, of: fn(&Account) -> u64| {
            if there {
                cells.push((tone, account.map_or(String::new(), |a| unit.number(of(&a)))));
            }
        };
        term(walked, Tone::Live, |a| a.live);
        term(walked, Tone::Lost, |a| a.free_spans);
        term(walked, Tone::Lost, |a| a.holes);
        term(walked, Tone::Pinned, |a| a.pinned_free);
        term(walked, Tone::Overhead, |a| a.top.saturating_add(a.cached));
        term(walked, Tone::Overhead, |a| a.virgin.saturating_add(a.metadata));
        term(unread, Tone::Warn, |a| a.unread);
        cells
    };
    Table { rows: rows.iter().map(cells).collect(), columns, flexible: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const RICH: Style = Style { color: false, unicode: true };

    #[test]
    fn the_rows_above_the_last_sum_to_it() {
        let mut torn = sample::full();
        torn.memory.rss += 4096;
        let mut shrunk = sample::full();
        shrunk.memory.rss -= 4096;
        for s in [sample::full(), sample::partial(), sample::many_owners(60), torn, shrunk] {
            for most in [0, 8, 12, 100] {
                let mut rows = rows(&s, most, RICH);
                assert!(rows.len() <= most.max(FEWEST_ROWS));
                let rss = rows.pop().unwrap();
                assert_eq!(rss.resident, s.memory.rss);
                let sum: i64 = rows
                    .iter()
                    .map(|r| if r.missing { -(r.resident as i64) } else { r.resident as i64 })
                    .sum();
                assert_eq!(sum, rss.resident as i64);
                let heaps: u64 = rows.iter().filter_map(|r| r.account).map(|a| a.total()).sum();
                assert_eq!(heaps, rss.account.map_or(0, |a| a.total()));
            }
        }
    }

    #[test]
    fn the_walked_heap_is_shown_however_small() {
        let mut s = sample::many_owners(60);
        s.owners.retain(|o| o.account.is_none());
        let mut heap =
            Owner::new("tiny", pydefrag_heap::OwnerKind::Pymalloc, pydefrag_heap::Basis::Walked);
        heap.resident = 4096;
        heap.account = Some(Account { live: 4096, ..Default::default() });
        s.owners.push(heap);
        s.memory.rss = s.owners.iter().map(|o| o.resident).sum();
        assert!(rows(&s, 10, RICH).iter().any(|r| r.name == "tiny"));
    }
}
