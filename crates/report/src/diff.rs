//! The report of two looks: what grew between them.
//!
//! Owns its layout and which owners are shown. The differences are [`pydefrag_heap::Diff`]'s, the
//! verdict the advise crate's.

use pydefrag_heap::{Change, Diff, OwnerChange};

use crate::format::{Unit, utc};
use crate::json::pretty;
use crate::style::{self, Line, Style, Tone};
use crate::table::{Column, Table};
use crate::text::{LABEL, WIDTH, labelled, section};
use crate::verdict;
use crate::words::{clean, cut};

/// Owners that are shown one by one; the others follow in one row.
const OWNERS: usize = 10;
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
    if !diff.owners.is_empty() {
        lines.push(Line::new());
        lines.extend(owners(diff, style).lines(WIDTH, NAME_ROOM, style));
    }
    let mut end = Vec::new();
    if let Some(verdict) = &diff.verdict {
        end.extend(section("Remedies", Tone::Strong, &verdict::remedies(verdict, 3), 7, style));
        let undecided = verdict.undecided.iter().map(|u| (Tone::Plain, u.clone()));
        let undecided: Vec<_> = undecided.collect();
        end.extend(section("Not decided", Tone::Strong, &undecided, 2, style));
    }
    if !end.is_empty() {
        lines.push(Line::new());
        lines.extend(end);
    }
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
fn owners(diff: &Diff, style: Style) -> Table {
    let shown = match diff.owners.len() {
        n if n > OWNERS => OWNERS - 1,
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

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::sample;
    use crate::text::MOST_LINES;

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
