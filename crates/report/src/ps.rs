//! The table of Python processes, as a tree.
//!
//! Owns its layout and its JSON. Does not find processes and does not decide who may look.

use serde::Serialize;

use crate::format::{Unit, percent};
use crate::json::pretty;
use crate::style::{self, Style, Tone};
use crate::table::{Column, Table};
use crate::words::{clean, cut};

/// Columns of the table; no line is wider.
pub const WIDTH: usize = 100;
/// Number of the JSON schema; raised when a field changes meaning or goes away.
pub const SCHEMA: u32 = 1;

/// Levels of the tree that are drawn; deeper ones stand on the last.
const DEEPEST: usize = 5;
/// Columns that a command gets at least; units grow before it has less.
const COMMAND_ROOM: usize = 24;
/// Columns that a command should get before others are spread.
const WANTED_COMMAND_ROOM: usize = 32;

/// One process. Sizes are bytes; what is not known is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PsRow {
    /// Process id.
    pub pid: i32,
    /// Depth in the tree of listed processes: 0 for one whose parent is not listed. A parent stands
    /// right before its children.
    pub depth: usize,
    /// Command line, as it is or shortened; it is escaped when shown as text.
    pub command: String,
    /// Resident bytes.
    pub rss: Option<u64>,
    /// Resident bytes, shared ones divided by those who share them.
    pub pss: Option<u64>,
    /// Live bytes of the walked heaps.
    pub live: Option<u64>,
    /// Bytes of the walked heaps that are not live, in percent.
    pub fragmentation_percent: Option<f64>,
    /// Version of Python.
    pub python: Option<String>,
    /// Why looking inside is not permitted, in a few words; empty when it is.
    pub note: String,
}

/// The table as a tree, at most [`WIDTH`] columns wide. A single line when there are no rows.
pub fn render(rows: &[PsRow], style: Style) -> String {
    if rows.is_empty() {
        return "no Python processes\n".into();
    }
    let sizes = rows.iter().flat_map(|r| [r.rss, r.pss, r.live]).flatten();
    let trunks = trunks(rows.iter().map(|r| r.depth), style);
    let table = |unit| table(rows, &trunks, unit, style);
    let unit = Unit::from(sizes.max().unwrap_or(0)).find(|u| table(*u).room(WIDTH) >= COMMAND_ROOM);
    let lines = table(unit.unwrap_or(Unit::LARGEST)).lines(WIDTH, WANTED_COMMAND_ROOM, style);
    style::paint(&lines, style)
}

fn table(rows: &[PsRow], trunks: &[String], unit: Unit, style: Style) -> Table {
    let column = |head, right| Column { head: vec![head], tone: Tone::Strong, right };
    let (rss, pss, live) = match unit.name {
        "MiB" => ("RSS MiB", "PSS MiB", "LIVE MiB"),
        "GiB" => ("RSS GiB", "PSS GiB", "LIVE GiB"),
        "TiB" => ("RSS TiB", "PSS TiB", "LIVE TiB"),
        "PiB" => ("RSS PiB", "PSS PiB", "LIVE PiB"),
        _ => ("RSS EiB", "PSS EiB", "LIVE EiB"),
    };
    let columns = vec![
        column("PID", true),
        column(rss, true),
        column(pss, true),
        column(live, true),
        column("FRAG", true),
        column("PYTHON", false),
        column("LOOK", false),
        column("COMMAND", false),
    ];
    let cells = |(row, trunk): (&PsRow, &String)| {
        let size = |n: Option<u64>| n.map_or("-".into(), |n| unit.number(n));
        let fragmentation = match row.fragmentation_percent {
            Some(p) => (Tone::Pinned, percent(p) + "%"),
            None => (Tone::Plain, "-".into()),
        };
        let python = row.python.as_ref().map_or("-".into(), |p| clean(p, style));
        let look = match row.note.is_empty() {
            true => (Tone::Live, "ok".to_string()),
            false => (Tone::Warn, cut(&format!("no: {}", clean(&row.note, style)), 20, style)),
        };
        vec![
            (Tone::Plain, row.pid.to_string()),
            (Tone::Plain, size(row.rss)),
            (Tone::Plain, size(row.pss)),
            (Tone::Live, size(row.live)),
            fragmentation,
            (Tone::Plain, cut(&python, 10, style)),
            look,
            (Tone::Plain, format!("{trunk}{}", clean(&row.command, style))),
        ]
    };
    Table { rows: rows.iter().zip(trunks).map(cells).collect(), columns, flexible: 7 }
}

/// What of the tree stands before each command.
pub(crate) fn trunks(depths: impl DoubleEndedIterator<Item = usize>, style: Style) -> Vec<String> {
    let (through, branch, last, blank) = match style.unicode {
        true => ("│  ", "├─ ", "└─ ", "   "),
        false => ("|  ", "|- ", "`- ", "   "),
    };
    // From the end, `open[d]` tells whether another process of depth d follows, of the same parent.
    let mut open = [false; DEEPEST + 1];
    let mut trunks: Vec<String> = depths
        .rev()
        .map(|depth| {
            let depth = depth.min(DEEPEST);
            let mut trunk = String::new();
            for &more in open.get(1..depth).unwrap_or_default() {
                trunk += if more { through } else { blank };
            }
            if depth > 0 {
                trunk += if open[depth] { branch } else { last };
            }
            open[depth] = true;
            open[depth + 1..].fill(false);
            trunk
        })
        .collect();
    trunks.reverse();
    trunks
}

/// The rows as JSON: an object with `schema` and `processes`. Sizes are bytes.
pub fn render_json(rows: &[PsRow]) -> String {
    #[derive(Serialize)]
    struct Processes<'a> {
        schema: u32,
        processes: &'a [PsRow],
    }
    pretty(&Processes { schema: SCHEMA, processes: rows })
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;
    use crate::sample;

    const PLAIN: Style = Style { color: false, unicode: true };
    const COLOR: Style = Style { color: true, unicode: true };
    const ASCII: Style = Style { color: false, unicode: false };

    #[test]
    fn tables() {
        let rows = sample::processes();
        insta::assert_snapshot!("ps", render(&rows, PLAIN));
        insta::assert_snapshot!("ps-ascii", render(&rows, ASCII));
        insta::assert_snapshot!("ps-color", render(&rows, COLOR).replace('\x1b', "␛"));
        insta::assert_snapshot!("ps-json", render_json(&rows));
        assert_eq!(render(&[], COLOR), "no Python processes\n");
    }

    #[test]
    fn no_process_can_break_out_of_its_row() {
        let mut rows = sample::processes();
        for (i, command) in sample::EVIL.iter().enumerate() {
            rows.push(PsRow {
                pid: i32::MAX,
                depth: i * 7,
                command: command.repeat(50),
                rss: Some(u64::MAX),
                pss: Some(u64::MAX >> (i * 7)),
                live: Some(1),
                fragmentation_percent: Some(f64::MAX),
                python: Some(command.to_string()),
                note: command.to_string(),
            });
        }
        for style in [PLAIN, ASCII] {
            let text = render(&rows, style);
            assert_eq!(text.lines().count(), rows.len() + 1, "{text}");
            for line in text.lines() {
                assert!(line.width() <= WIDTH, "{line}");
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
    }

    #[test]
    fn the_tree_closes_where_it_should() {
        let drawn = trunks([0, 1, 2, 2, 1, 2, 0, 3, 1].into_iter(), ASCII);
        assert_eq!(drawn, ["", "|- ", "|  |- ", "|  `- ", "`- ", "   `- ", "", "|     `- ", "`- "]);
    }
}
