//! The report of two looks: what grew between them.
//!
//! Owns its layout and which owners and types are shown. The differences are [`pydefrag_heap::Diff`]'s, the
//! verdict the advise crate's.

use pydefrag_heap::{Change, Diff, OwnerChange};
use unicode_width::UnicodeWidthStr;

use crate::format::{Unit, grouped, utc};
use crate::json::pretty;
use crate::style::{self, Line, Style, Tone};
use crate::table::{Column, Table};
use crate::text::{LABEL, MOST_LINES, WIDTH, labelled, section};
use crate::verdict;
use crate::words::{clean, cut, cut_middle};

/// Owners that are shown one by one; the others follow in one row.
const OWNERS: usize = 10;
/// The same, where what grew inside the heaps is shown too.
const OWNERS_BESIDE_OBJECTS: usize = 6;
/// Types, and owners of blocks, that are shown at most and, where the screen is short, at least.
const OBJECTS: [usize; 2] = [5, 2];
/// Room that names should have before columns are spread.
const NAME_ROOM: usize = 32;
/// Names that get less are of no use: then the numbers go to the next unit.
const LEAST_NAME_ROOM: usize = 16;

/// The difference as JSON and a newline. Sizes are bytes.
pub fn render_json(diff: &Diff) -> String {
    pretty(diff)
}

/// The report. It ends in a newline, is at most [`WIDTH`] columns wide and fits a screen.
pub fn render(diff: &Diff, style: Style) -> String {
    let mut lines = head(diff, style);
    lines.push(Line::new());
    lines.extend(sums(diff).lines(WIDTH, NAME_ROOM, style));
    let mut end = Vec::new();
    if let Some(verdict) = &diff.verdict {
        end.extend(section("Remedies", Tone::Strong, &verdict::remedies(verdict, 3), 7, style));
        let undecided = verdict.undecided.iter().map(|u| (Tone::Plain, u.clone()));
        let undecided: Vec<_> = undecided.collect();
        end.extend(section("Not decided", Tone::Strong, &undecided, 2, style));
    }
    if !end.is_empty() {
        end.insert(0, Line::new());
    }
    let most = if has_objects(diff) { OWNERS_BESIDE_OBJECTS } else { OWNERS };
    if !diff.owners.is_empty() {
        lines.push(Line::new());
        lines.extend(owners(diff, most, style).lines(WIDTH, NAME_ROOM, style));
    }
    // A blank line, two of heading, and one more between types and owners.
    let room = MOST_LINES.saturating_sub(lines.len() + end.len() + 4) / 2;
    let rows = room.clamp(OBJECTS[1], OBJECTS[0]);
    if has_objects(diff) {
        lines.push(Line::new());
        lines.extend(objects(diff, rows, style));
    }
    lines.extend(end);
    style::paint(&lines, style)
}

/// Which two looks, why they may not be comparable, and the verdict.
fn head(diff: &Diff, style: Style) -> Vec<Line> {
    let side = |i: usize| {
        let python = diff.pythons[i].as_ref().map_or(String::new(), |v| format!("  Python {v}"));
        let said = format!("pid {}{python}  {}", diff.pids[i], diff.commands[i]);
        vec![Line::of(Tone::Plain, cut(&clean(&said, style), WIDTH - LABEL, style))]
    };
    let mut lines = labelled(&["before"], side(0));
    lines.extend(labelled(&["after"], side(1)));
    lines.extend(labelled(&["between"], vec![Line::of(Tone::Plain, between(diff.seconds))]));
    for why in &diff.unlike {
        lines.extend(section("unlike", Tone::Warn, &[(Tone::Warn, why.clone())], 2, style));
    }
    for note in &diff.notes {
        lines.extend(section("note", Tone::Quiet, &[(Tone::Quiet, note.clone())], 2, style));
    }
    match &diff.verdict {
        Some(verdict) => lines.extend(verdict::lines(verdict, WIDTH, style)),
        None => {
            let said =
                "No verdict: what differs here did not grow in one process, or is not known.";
            lines.push(Line::of(Tone::Strong, said));
        }
    }
    lines
}

/// The time between two looks.
fn between(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "not known".into();
    }
    let apart = seconds.abs();
    let later = if seconds < 0.0 { ": the first look is the later one" } else { "" };
    let days = (apart / 86400.0).floor();
    // The epoch's first day has the time of day of any duration.
    let clock = utc(apart % 86400.0).and_then(|t| Some(t.split(' ').nth(1)?.to_owned()));
    match clock {
        _ if apart < 100.0 => format!("{apart:.1} s{later}"),
        Some(clock) if days == 0.0 => format!("{clock} h{later}"),
        Some(clock) if days < 1e6 => format!("{days} d {clock} h{later}"),
        _ => "not known".into(),
    }
}

fn column(head: [&'static str; 2], tone: Tone, right: bool) -> Column {
    Column { head: head.to_vec(), tone, right }
}

/// `+3.1`, `-3.1`, `0.0`.
fn change(change: &Change, unit: Unit) -> String {
    let grown = i128::from(change.after) - i128::from(change.before);
    let sign = match grown {
        0 => "",
        1.. => "+",
        _ => "-",
    };
    sign.to_owned() + &unit.number(u64::try_from(grown.unsigned_abs()).unwrap_or(u64::MAX))
}

/// The unit in which all of a table lines up.
fn fitting(largest: u64, table: impl Fn(Unit) -> Table) -> Table {
    let unit = Unit::from(largest).find(|u| table(*u).room(WIDTH) >= LEAST_NAME_ROOM);
    table(unit.unwrap_or(Unit::LARGEST))
}

/// The process and its walked heaps as a whole.
fn sums(diff: &Diff) -> Table {
    let mut rows = vec![("RSS", Tone::Strong, diff.rss)];
    if diff.swap != Change::default() {
        rows.push(("swap", Tone::Plain, diff.swap));
    }
    if let Some(heaps) = &diff.heaps {
        rows.extend([
            ("walked heaps", Tone::Strong, heaps.resident),
            ("  live data", Tone::Live, heaps.live),
            ("  free, held by neighbours", Tone::Pinned, heaps.external),
            ("  free, at malloc's tops and in caches", Tone::Overhead, heaps.slack),
        ]);
    }
    let largest = rows.iter().map(|r| r.2.before.max(r.2.after)).max().unwrap_or(0);
    fitting(largest, |unit| Table {
        columns: vec![
            Column { head: vec![unit.name], tone: Tone::Quiet, right: false },
            Column { head: vec!["before"], tone: Tone::Quiet, right: true },
            Column { head: vec!["after"], tone: Tone::Quiet, right: true },
            Column { head: vec!["change"], tone: Tone::Strong, right: true },
        ],
        rows: rows
            .iter()
            .map(|(name, tone, c)| {
                vec![
                    (*tone, (*name).to_owned()),
                    (Tone::Plain, unit.number(c.before)),
                    (Tone::Plain, unit.number(c.after)),
                    (*tone, change(c, unit)),
                ]
            })
            .collect(),
        flexible: 0,
    })
}

/// The owners, most changed first, with what of it is live and what free.
fn owners(diff: &Diff, most: usize, style: Style) -> Table {
    let shown = match diff.owners.len() {
        n if n > most => most - 1,
        n => n,
    };
    let (first, rest) = diff.owners.split_at(shown);
    let add = |a: Change, b: Change| Change {
        before: a.before.saturating_add(b.before),
        after: a.after.saturating_add(b.after),
    };
    let others = (!rest.is_empty()).then(|| {
        let sum = |of: fn(&OwnerChange) -> Option<Change>| rest.iter().filter_map(of).reduce(add);
        let resident = sum(|o| Some(o.resident)).unwrap_or_default();
        let name = format!("{} others", rest.len());
        (name, resident, sum(|o| o.live), sum(|o| o.free))
    });
    let rows: Vec<_> = first
        .iter()
        .map(|o| (clean(&o.name, style), o.resident, o.live, o.free))
        .chain(others)
        .collect();
    let largest = rows.iter().map(|r| r.1.before.max(r.1.after)).max().unwrap_or(0);
    fitting(largest, |unit| Table {
        columns: vec![
            column(["", unit.name], Tone::Quiet, false),
            column(["RSS", "before"], Tone::Quiet, true),
            column(["", "after"], Tone::Quiet, true),
            column(["", "change"], Tone::Strong, true),
            column(["of it", "live"], Tone::Live, true),
            column(["", "free"], Tone::Pinned, true),
        ],
        rows: rows
            .iter()
            .map(|(name, resident, live, free)| {
                let known = |c: &Option<Change>| c.map_or(String::new(), |c| change(&c, unit));
                vec![
                    (Tone::Plain, name.clone()),
                    (Tone::Plain, unit.number(resident.before)),
                    (Tone::Plain, unit.number(resident.after)),
                    (Tone::Strong, change(resident, unit)),
                    (Tone::Live, known(live)),
                    (Tone::Pinned, known(free)),
                ]
            })
            .collect(),
        flexible: 0,
    })
}

/// Whether a type or an owner of blocks is known to have changed.
fn has_objects(diff: &Diff) -> bool {
    let any = |changed: Option<bool>| changed == Some(true);
    any(diff.types.as_ref().map(|t| !t.is_empty()))
        || any(diff.pins.as_ref().map(|p| !p.is_empty()))
}

/// The types and the owners of blocks that changed most, so many rows of each.
fn objects(diff: &Diff, rows: usize, style: Style) -> Vec<Line> {
    /// A name, and what of it changed: blocks, bytes, and pinned bytes where it is an owner.
    type Row<'a> = (&'a str, Change, Change, Option<Change>);
    let types = diff.types.iter().flatten().take(rows);
    let types: Vec<Row<'_>> = types.map(|t| (t.name.as_str(), t.count, t.bytes, None)).collect();
    let pins = diff.pins.iter().flatten().take(rows);
    let pins: Vec<Row<'_>> =
        pins.map(|p| (p.owner.as_str(), p.count, p.bytes, Some(p.pinned))).collect();
    let all = || types.iter().chain(&pins);
    let largest = all().flat_map(|r| [Some(r.2), r.3]).flatten();
    let largest = largest.map(|c| c.before.max(c.after)).max().unwrap_or(0);
    let cells = |unit: Unit, row: &Row<'_>| {
        let (name, blocks, bytes, pinned) = row;
        let pinned = pinned.map_or(String::new(), |c| change(&c, unit));
        vec![
            (Tone::Plain, clean(name, style)),
            (Tone::Plain, counted(blocks)),
            (Tone::Plain, unit.number(bytes.after)),
            (Tone::Strong, change(bytes, unit)),
            (Tone::Pinned, pinned),
        ]
    };
    let heading = |words: &str| {
        let empty = std::iter::repeat_n((Tone::Plain, String::new()), 4);
        std::iter::once((Tone::Quiet, words.to_owned())).chain(empty).collect::<Vec<_>>()
    };
    let mut table = fitting(largest, |unit| {
        let mut rows: Vec<_> = types.iter().map(|r| cells(unit, r)).collect();
        if !pins.is_empty() {
            rows.push(heading("owner of blocks"));
            rows.extend(pins.iter().map(|r| cells(unit, r)));
        }
        Table {
            columns: vec![
                column([unit.name, "type, with buffers"], Tone::Quiet, false),
                column(["blocks", "change"], Tone::Quiet, true),
                column(["bytes", "after"], Tone::Quiet, true),
                column(["", "change"], Tone::Strong, true),
                column(["pinned", "change"], Tone::Pinned, true),
            ],
            rows,
            flexible: 0,
        }
    });
    let room = table.room(WIDTH);
    for row in &mut table.rows {
        let name = &mut row[0].1;
        if name.width() > room {
            *name = cut_middle(name, room, style);
        }
    }
    table.lines(WIDTH, usize::MAX, style)
}

/// `+41,200`, `-7`, `0`.
fn counted(change: &Change) -> String {
    let sign = match change.after.cmp(&change.before) {
        std::cmp::Ordering::Less => "-",
        std::cmp::Ordering::Equal => "",
        std::cmp::Ordering::Greater => "+",
    };
    sign.to_owned() + &grouped(change.after.abs_diff(change.before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const PLAIN: Style = Style { color: false, unicode: true };
    const ASCII: Style = Style { color: false, unicode: false };

    #[test]
    fn differences() {
        for (name, diff) in sample::differences() {
            insta::assert_snapshot!(format!("diff-{name}"), render(&diff, PLAIN));
            for text in [render(&diff, PLAIN), render(&diff, ASCII)] {
                assert!(text.lines().count() <= MOST_LINES, "{text}");
                for line in text.lines() {
                    assert!(line.width() <= WIDTH, "{line}");
                    assert!(!line.contains(char::is_control), "{line:?}");
                }
            }
            assert!(render(&diff, ASCII).is_ascii());
            let color = render(&diff, Style { color: true, ..PLAIN });
            assert!(color.contains('\x1b'));
        }
        insta::assert_snapshot!("diff-json", render_json(&sample::differences()[0].1));
    }

    #[test]
    fn times_between_looks() {
        assert_eq!(between(0.04), "0.0 s");
        assert_eq!(between(99.0), "99.0 s");
        assert_eq!(between(3725.5), "01:02:05 h");
        assert_eq!(between(-90_061.0), "1 d 01:01:01 h: the first look is the later one");
        assert_eq!(between(f64::NAN), "not known");
        assert_eq!(between(1e300), "not known");
    }

    #[test]
    fn changes_have_a_sign() {
        let mib = Unit::from(0).next().unwrap();
        let said = |before, after| change(&Change { before, after }, mib);
        assert_eq!(said(0, 3 << 20), "+3.0");
        assert_eq!(said(3 << 20, 0), "-3.0");
        assert_eq!(said(4096, 0), "-<0.1");
        assert_eq!(said(7, 7), "0.0");
        assert_eq!(said(u64::MAX, 0), "-17592186044416.0");
    }
}
