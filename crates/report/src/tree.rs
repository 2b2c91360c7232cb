//! The report of a process and its descendants: what each costs, and all together.
//!
//! Owns its layout and its JSON. The sums are [`pydefrag_heap::Tree`]'s.

use pydefrag_heap::{Member, Tree};

use crate::format::{Unit, count, percent, share, size};
use crate::json::pretty;
use crate::ps::{WIDTH, trunks};
use crate::style::{self, Line, Style, Tone};
use crate::table::{Column, Table};
use crate::words::{clean, cut};

/// Members that are shown one by one; of more, those with the smallest shares are summed up.
const MEMBERS: usize = 60;
/// Owners that are shown one by one.
const OWNERS: usize = 8;
/// Processes that could not be looked at that are named.
const MISSING: usize = 3;
/// Columns that a command gets at least; units grow before it has less.
const COMMAND_ROOM: usize = 20;
/// Columns that a command should get before others are spread.
const WANTED_COMMAND_ROOM: usize = 30;

/// The tree as JSON and a newline. Sizes are bytes.
pub fn render_json(tree: &Tree) -> String {
    pretty(tree)
}

/// The numbers of a row.
#[derive(Clone, Copy, Default)]
struct Numbers {
    rss: u64,
    pss: u64,
    alone: u64,
    copied: u64,
    still_shared: u64,
    live: Option<u64>,
}

impl Numbers {
    fn of(member: &Member) -> Numbers {
        let accounts = member.snapshot.owners.iter().filter_map(|o| o.account);
        let memory = &member.snapshot.memory;
        Numbers {
            rss: memory.rss,
            pss: memory.pss,
            alone: member.alone,
            copied: member.copied,
            still_shared: member.still_shared,
            live: accounts.map(|a| a.live.saturating_add(a.rounding.unwrap_or(0))).reduce(sum),
        }
    }

    fn add(self, other: Numbers) -> Numbers {
        Numbers {
            rss: sum(self.rss, other.rss),
            pss: sum(self.pss, other.pss),
            alone: sum(self.alone, other.alone),
            copied: sum(self.copied, other.copied),
            still_shared: sum(self.still_shared, other.still_shared),
            live: self.live.into_iter().chain(other.live).reduce(sum),
        }
    }
}

fn sum(a: u64, b: u64) -> u64 {
    a.saturating_add(b)
}

/// A row of the table of members.
struct Row {
    pid: String,
    numbers: Numbers,
    fragmentation: Option<f64>,
    command: String,
    tone: Tone,
}

/// The report. It ends in a newline and is at most [`WIDTH`] columns wide.
pub fn render(tree: &Tree, style: Style) -> String {
    let rows = rows(tree, style);
    let largest = rows.iter().map(|r| r.numbers.rss.max(r.numbers.pss)).max().unwrap_or(0);
    let table = |unit| members(&rows, unit);
    let unit = Unit::from(largest).find(|u| table(*u).room(WIDTH) >= COMMAND_ROOM);
    let unit = unit.unwrap_or(Unit::LARGEST);
    let processes = match tree.members.len() as u64 {
        1 => "1 process".to_owned(),
        n => format!("{n} processes"),
    };
    let mut lines = vec![
        Line::of(Tone::Strong, format!("pid {} and its descendants", tree.pid))
            .with(Tone::Plain, format!("  {processes}")),
        Line::of(Tone::Strong, format!("PSS {}", size(tree.pss))).with(
            Tone::Plain,
            format!("   RSS {} (counts a shared page in each process)", size(tree.rss)),
        ),
    ];
    for missing in tree.missing.iter().take(MISSING) {
        let said = format!("not looked at: pid {}: {}", missing.pid, missing.reason);
        lines.push(Line::of(Tone::Warn, cut(&clean(&said, style), WIDTH, style)));
    }
    if let Some(more @ 1..) = tree.missing.len().checked_sub(MISSING) {
        let said = format!("not looked at: {}: see --json", count(more as u64, "other"));
        lines.push(Line::of(Tone::Warn, said));
    }
    lines.push(Line::new());
    lines.extend(table(unit).lines(WIDTH, WANTED_COMMAND_ROOM, style));
    lines.push(Line::new());
    lines.extend(owners(tree, unit).lines(WIDTH / 2, WIDTH / 4, style));
    style::paint(&lines, style)
}

/// The members as rows in the order of the tree, what was folded, and the sums.
fn rows(tree: &Tree, style: Style) -> Vec<Row> {
    let mut by_share: Vec<usize> = (1..tree.members.len()).collect();
    by_share.sort_by_key(|&i| (std::cmp::Reverse(tree.members[i].snapshot.memory.pss), i));
    // The root is always shown.
    let folded = match tree.members.len() > MEMBERS {
        true => by_share.split_off(MEMBERS - 2),
        false => Vec::new(),
    };
    by_share.push(0);
    by_share.sort_unstable();
    let shown: Vec<&Member> = by_share.iter().filter_map(|&i| tree.members.get(i)).collect();
    let trunks = trunks(shown.iter().map(|m| m.depth as usize), style);
    let mut rows: Vec<Row> = shown
        .iter()
        .zip(trunks)
        .map(|(m, trunk)| Row {
            pid: m.snapshot.process.pid.to_string(),
            numbers: Numbers::of(m),
            fragmentation: m.snapshot.fragmentation.as_ref().map(|f| f.percent),
            command: trunk + &clean(&m.snapshot.process.command, style),
            tone: Tone::Plain,
        })
        .collect();
    let added = |numbers: &mut dyn Iterator<Item = Numbers>| {
        numbers.reduce(Numbers::add).unwrap_or_default()
    };
    if !folded.is_empty() {
        rows.push(Row {
            pid: String::new(),
            numbers: added(&mut folded.iter().map(|&i| Numbers::of(&tree.members[i]))),
            fragmentation: None,
            command: format!("{} with less each: see --json", count(folded.len() as u64, "other")),
            tone: Tone::Quiet,
        });
    }
    rows.push(Row {
        pid: "sum".into(),
        numbers: added(&mut tree.members.iter().map(Numbers::of)),
        fragmentation: None,
        command: String::new(),
        tone: Tone::Strong,
    });
    rows
}

fn members(rows: &[Row], unit: Unit) -> Table {
    let column = |first, second, tone, right| Column { head: vec![first, second], tone, right };
    Table {
        columns: vec![
            column("", "PID", Tone::Strong, true),
            column("RSS", unit.name, Tone::Strong, true),
            column("", "PSS", Tone::Strong, true),
            column("it", "alone", Tone::Strong, true),
            column("", "copied", Tone::Strong, true),
            column("still", "shared", Tone::Strong, true),
            column("", "LIVE", Tone::Strong, true),
            column("", "FRAG", Tone::Strong, true),
            column("", "COMMAND", Tone::Strong, false),
        ],
        rows: rows
            .iter()
            .map(|row| {
                let n = &row.numbers;
                let number = |bytes: u64| (row.tone, unit.number(bytes));
                vec![
                    (row.tone, row.pid.clone()),
                    number(n.rss),
                    number(n.pss),
                    number(n.alone),
                    number(n.copied),
                    number(n.still_shared),
                    (Tone::Live, n.live.map_or("-".into(), |live| unit.number(live))),
                    (Tone::Pinned, row.fragmentation.map_or(String::new(), |p| percent(p) + "%")),
                    (row.tone, row.command.clone()),
                ]
            })
            .collect(),
        flexible: 8,
    }
}

/// Whose shares they are, over all members; what has no owner stands with the last row.
fn owners(tree: &Tree, unit: Unit) -> Table {
    let shown = match tree.owners.len() {
        n if n > OWNERS => OWNERS - 1,
        n => n,
    };
    let mut rows: Vec<(Tone, String, u64)> = tree.owners[..shown]
        .iter()
        .map(|o| (Tone::Plain, o.kind.label().to_owned(), o.pss))
        .collect();
    let rest = rows.iter().fold(tree.pss, |rest, r| rest.saturating_sub(r.2));
    if rest > 0 {
        rows.push((Tone::Quiet, "other".into(), rest));
    }
    rows.push((Tone::Strong, "total = PSS".into(), tree.pss));
    let column = |head, right| Column { head: vec![head], tone: Tone::Quiet, right };
    Table {
        columns: vec![column(unit.name, false), column("PSS", true), column("%", true)],
        rows: rows
            .into_iter()
            .map(|(tone, name, bytes)| {
                vec![
                    (tone, name),
                    (tone, unit.number(bytes)),
                    (Tone::Quiet, share(bytes, tree.pss)),
                ]
            })
            .collect(),
        flexible: 0,
    }
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::sample;

    const PLAIN: Style = Style { color: false, unicode: true };
    const ASCII: Style = Style { color: false, unicode: false };

    #[test]
    fn trees() {
        insta::assert_snapshot!("tree", render(&sample::tree(7), PLAIN));
        insta::assert_snapshot!("tree-alone", render(&sample::tree(0), ASCII));
        for workers in [0, 7, 58, 59, 60, 500] {
            for style in [PLAIN, ASCII] {
                let text = render(&sample::tree(workers), style);
                assert!(text.lines().count() <= MEMBERS + 20, "{text}");
                for line in text.lines() {
                    assert!(line.width() <= WIDTH, "{line}");
                    assert!(!line.contains(char::is_control), "{line:?}");
                }
            }
        }
        let back: Tree = serde_json::from_str(&render_json(&sample::tree(3))).unwrap();
        assert_eq!(back.members.len(), 4);
    }

    #[test]
    fn the_rows_sum_up_whatever_is_folded() {
        for workers in [3, 59, 500] {
            let tree = sample::tree(workers);
            let mut rows = rows(&tree, PLAIN);
            assert!(rows.len() <= MEMBERS + 1);
            let all = rows.pop().unwrap().numbers;
            let summed = rows.iter().map(|r| r.numbers).reduce(Numbers::add).unwrap();
            assert_eq!((all.rss, all.pss), (tree.rss, tree.pss));
            assert_eq!((summed.rss, summed.pss), (tree.rss, tree.pss));
            assert_eq!((summed.alone, summed.live), (all.alone, all.live));
            assert_eq!(rows[0].pid, tree.pid.to_string());
        }
    }
}
